/* scheduler_runs.c -- configurations of diffusers, run as diffusers runs them: its tables, its times, its trajectories, on an exact mixture whose
 * formulas stand here; the library's own oracle is then held against the same numbers. */
#include "diffusion_check.h"

#include "retort/format.h"

#include <dirent.h>
#include <jansson.h>
#include <unistd.h>

#define FOLDER "tests/data/golden/schedulers/"

enum { MOST_STEPS = 64, ROWS = 4, D = 2 };

static double *numbers(const rt_tensors *t, const char *name, int64_t *count)
{
    int i = rt_tensors_find(t, name);
    if (i < 0) fail_msg("no tensor %s", name);
    *count = rt_tensors_info(t, i)->count;
    double *v = malloc((size_t)*count * sizeof *v);
    rt_tensor whole = {0}, real = {0};
    CHECK_OK(rt_tensors_read(t, i, &whole, &err));
    CHECK_OK(rt_tensor_cast(&real, &whole, RT_F64, &err));
    memcpy(v, real.data, (size_t)*count * sizeof *v);
    rt_tensor_free(&whole);
    rt_tensor_free(&real);
    return v;
}

static rt_tensors *open_run(const char *name)
{
    char path[512];
    rt_tensors *t = NULL;
    snprintf(path, sizeof path, FOLDER "%s.safetensors", name);
    CHECK_OK(rt_tensors_open(&t, path, &err));
    return t;
}

static rt_scheduler *open_scheduler(const char *name, bool float32)
{
    char path[512];
    rt_scheduler *s = NULL;
    snprintf(path, sizeof path, FOLDER "%s.json", name);
    CHECK_OK(rt_scheduler_open(&s, path, float32, &err));
    return s;
}

/* ---- the model: golden/README.md, "The model is exact" */

typedef struct mixture {
    const rt_process *process;
    const double *weights, *means, *covariances;
    const char *prediction;
} mixture;

static void mixture_at(const mixture *m, double alpha, double sigma, const double *x, double *x0, double *eps)
{
    double u[2][2], log_r[2], top;
    for (int k = 0; k < 2; k++) {
        const double *c = m->covariances + 4 * k, *mu = m->means + 2 * k;
        double a = alpha * alpha * c[0] + sigma * sigma, b = alpha * alpha * c[1], d = alpha * alpha * c[3] + sigma * sigma,
               det = a * d - b * b;
        double d0 = x[0] - alpha * mu[0], d1 = x[1] - alpha * mu[1];
        u[k][0] = (d * d0 - b * d1) / det;
        u[k][1] = (a * d1 - b * d0) / det;
        log_r[k] = log(m->weights[k]) - log(det) / 2 - (d0 * u[k][0] + d1 * u[k][1]) / 2;
    }
    top = fmax(log_r[0], log_r[1]);
    double r[2] = {exp(log_r[0] - top), exp(log_r[1] - top)}, sum = r[0] + r[1];
    for (int i = 0; i < 2; i++) {
        x0[i] = eps[i] = 0;
        for (int k = 0; k < 2; k++) {
            const double *c = m->covariances + 4 * k;
            x0[i] += r[k] / sum * (m->means[2 * k + i] + alpha * (c[2 * i] * u[k][0] + c[2 * i + 1] * u[k][1]));
            eps[i] += r[k] / sum * sigma * u[k][i];
        }
    }
}

static rt_status mixture_eval(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    (void)y, (void)err;
    const mixture *m = self;
    double t = at->t;
    double alpha = rt_process_alpha(m->process, t), sigma = rt_process_beta(m->process, t);
    for (int64_t j = 0; j < n; j++) {
        double x0[2], eps[2];
        mixture_at(m, alpha, sigma, x + 2 * j, x0, eps);
        for (int i = 0; i < 2; i++) {
            if (!strcmp(m->prediction, "epsilon")) out[2 * j + i] = eps[i];
            if (!strcmp(m->prediction, "x0")) out[2 * j + i] = x0[i];
            if (!strcmp(m->prediction, "v")) out[2 * j + i] = alpha * eps[i] - sigma * x0[i];
            if (!strcmp(m->prediction, "velocity")) out[2 * j + i] = eps[i] - x0[i];
        }
    }
    return RT_OK;
}

/* ---- trajectories */

typedef struct trace {
    const rt_scheduler *scheduler;
    const double *want, *noise;
    double error, scale;
    int64_t states;
} trace;

static rt_status compare(void *self, int k, double t, int64_t n, const double *x, rt_error *err)
{
    (void)err;
    trace *c = self;
    double theirs = rt_scheduler_state_scale(c->scheduler, t);
    c->states++;
    for (int64_t j = 0; j < n * D; j++) {
        c->error = fmax(c->error, fabs(theirs * x[j] - c->want[k * n * D + j]));
        c->scale = fmax(c->scale, fabs(c->want[k * n * D + j]));
    }
    return RT_OK;
}

static rt_status give_noise(void *self, int k, int64_t n, double *z, rt_error *err)
{
    (void)err;
    memcpy(z, ((trace *)self)->noise + k * n * D, (size_t)(n * D) * sizeof *z);
    return RT_OK;
}

static void run_as_diffusers(const char *name, int steps, double eta)
{
    rt_tensors *t = open_run(name);
    int64_t calls, points, count;
    double *timesteps = numbers(t, "timesteps", &calls);
    double *weights = numbers(t, "gmm.weights", &count), *means = numbers(t, "gmm.means", &count), *covs = numbers(t, "gmm.covs", &count);
    double *noise = rt_tensors_find(t, "noise") >= 0 ? numbers(t, "noise", &count) : NULL;
    assert_true(calls <= MOST_STEPS);
    for (int float32 = 0; float32 < 2; float32++) {
        rt_scheduler *s = open_scheduler(name, float32);
        const rt_process *p = rt_scheduler_process(s);
        double from[MOST_STEPS], to[MOST_STEPS], network_time[MOST_STEPS], x[ROWS * D],
            *want = numbers(t, float32 ? "x" : "x_f64", &points);
        int order[MOST_STEPS], inner = calls > steps ? 2 : 1; /* Heun lists its trials' timesteps, too */
        assert_int_equal(points, (calls + 1) * ROWS * D);
        CHECK_OK(rt_scheduler_path(s, steps, &(rt_scheduler_steps){from, to, network_time, order}, &err));
        for (int k = 0; k < steps; k++) {
            double theirs = timesteps[k ? inner * k - (inner - 1) : 0];
            CHECK_NEAR(network_time[k], theirs,
                       TOL_TIMESTEP * (double)rt_scheduler_get_config(s)->num_train_timesteps * (float32 ? 1 : 100), "%s, timestep %d",
                       name, k);
        }

        mixture m = {p, weights, means, covs, rt_prediction_name(rt_scheduler_prediction(s))};
        rt_field field = {.self = &m, .eval = mixture_eval, .prediction = rt_scheduler_prediction(s), .features = D, .null_class = -1};
        trace c = {.scheduler = s, .want = want, .noise = noise};
        rt_sample_spec spec = {.process = p,
                               .solver = rt_scheduler_solver(s),
                               .steps = steps,
                               .from = from,
                               .to = to,
                               .network_times = network_time,
                               .order = order,
                               .options = {.eta = eta},
                               .clip = rt_scheduler_clip(s),
                               .noise = noise ? give_noise : NULL,
                               .noise_self = &c,
                               .trace = compare,
                               .trace_self = &c,
                               .trace_calls = true};
        for (int j = 0; j < ROWS * D; j++) x[j] = want[j] / rt_scheduler_state_scale(s, from[0]);
        CHECK_OK(rt_sample(&spec, &field, ROWS, x, NULL, &err));
        assert_int_equal(c.states, calls + 1);
        print_message("           %-22s %s %.1e\n", name, float32 ? "float32" : "double ", c.error / c.scale);
        CHECK_NEAR(c.error / c.scale, 0, float32 ? TOL_SCHEDULER_F32 : TOL_SCHEDULER, "%s, %s tables", name,
                   float32 ? "float32" : "double");
        free(want);
        rt_scheduler_free(s);
    }
    free(timesteps), free(weights), free(means), free(covs), free(noise);
    rt_tensors_close(t);
}

/* Every run of the reference: its class, its number of steps, its eta stand in index.json. */
static void trajectories(void **state)
{
    (void)state;
    json_t *runs = json_load_file(FOLDER "index.json", 0, NULL), *run;
    size_t i;
    assert_true(json_is_array(runs) && json_array_size(runs) == 54);
    json_array_foreach(runs, i, run)
    {
        run_as_diffusers(json_string_value(json_object_get(run, "name")),
                         (int)json_integer_value(json_object_get(run, "num_inference_steps")),
                         json_number_value(json_object_get(run, "eta")));
    }
    json_decref(runs);
}

/* What noise the Euler family starts from: init_noise_sigma. */
static void starts(void **state)
{
    (void)state;
    static const char *const runs[] = {"euler_linspace", "euler_leading_v", "euler_karras", "heun_v_trailing",
                                       "euler_a",        "ddim_clip",       "dpmpp_2"};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        rt_tensors *t = open_run(runs[i]);
        rt_scheduler *s = open_scheduler(runs[i], false);
        double from[MOST_STEPS], to[MOST_STEPS], network_time[MOST_STEPS];
        int order[MOST_STEPS], steps = i == 0 || i > 3 ? 10 : i == 1 ? 9 : i == 2 ? 8 : 7;
        const char *said = rt_tensors_metadata(t, "init_noise_sigma");
        assert_non_null(said);
        CHECK_OK(rt_scheduler_path(s, steps, &(rt_scheduler_steps){from, to, network_time, order}, &err));
        double want = atof(said), got = rt_scheduler_noise_scale(s, from[0]) * rt_scheduler_state_scale(s, from[0]);
        CHECK_NEAR(got / want, 1, 1e-6, "%s, init_noise_sigma", runs[i]);
        rt_scheduler_free(s);
        rt_tensors_close(t);
    }
}

static void tables(void **state)
{
    (void)state;
    static const char *const runs[] = {"ddim_clip",  "ddim_leading_offset", "ddim_linspace_v",
                                       "ddim_short", "ddim_zsnr_v",         "ddpm_sigmoid_v"};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        rt_tensors *t = open_run(runs[i]);
        for (int float32 = 0; float32 < 2; float32++) {
            int64_t T;
            double *want = numbers(t, float32 ? "alphas_cumprod" : "alphas_cumprod_f64", &T), worst = 0;
            rt_scheduler *s = open_scheduler(runs[i], float32);
            const rt_process *p = rt_scheduler_process(s);
            assert_int_equal(rt_process_discrete_steps(p), T);
            int unequal = 0;
            for (int k = 0; k < T; k++) {
                double got = pow(rt_process_alpha(p, k + 1), 2);
                worst = fmax(worst, want[k] == 0 ? fabs(got) : fabs(got / want[k] - 1));
                unequal += float32 && (float)got != (float)want[k];
            }
            print_message("           %-22s %s %.1e, %d of %d differ\n", runs[i], float32 ? "float32" : "double ", worst, unequal, (int)T);
            CHECK_NEAR(worst, 0,
                       !float32                             ? TOL_TABLE_F64
                       : rt_process_alpha(p, (double)T) > 0 ? TOL_TABLE_F32
                                                            : TOL_TABLE_ZERO,
                       "%s, %s table, relative", runs[i], float32 ? "float32" : "double");
            free(want);
            rt_scheduler_free(s);
        }
        rt_tensors_close(t);
    }
}

/* Every number of steps from 1 to 64: where numpy's rounding falls matters. */
static void timesteps(void **state)
{
    (void)state;
    static const char *const spacings[] = {"leading", "trailing", "linspace"};
    static const int lengths[] = {100, 1000, 1024};
    rt_tensors *t = NULL;
    CHECK_OK(rt_tensors_open(&t, "tests/data/golden/ddim_times.safetensors", &err));
    for (int i = 0; i < 9; i++) {
        char name[32];
        int64_t count, at = 0;
        snprintf(name, sizeof name, "%s.%d", spacings[i / 3], lengths[i % 3]);
        double *want = numbers(t, name, &count), from[MOST_STEPS], to[MOST_STEPS], network_time[MOST_STEPS];
        rt_scheduler *base = open_scheduler("ddim_clip", false), *s;
        rt_scheduler_config c = *rt_scheduler_get_config(base);
        snprintf(c.timestep_spacing, sizeof c.timestep_spacing, "%s", spacings[i / 3]);
        c.num_train_timesteps = lengths[i % 3];
        CHECK_OK(rt_scheduler_new(&s, &c, false, &err));
        for (int N = 1; N <= MOST_STEPS; at += N++) {
            CHECK_OK(rt_scheduler_path(s, N, &(rt_scheduler_steps){.from = from, .to = to, .network_times = network_time}, &err));
            for (int k = 0; k < N; k++) {
                CHECK_NEAR(from[k] - 1, want[at + k], 0, "%s, step %d of %d", name, k, N);
                double before = want[at + k] - lengths[i % 3] / N; /* DDIM steps by T // N */
                CHECK_NEAR(to[k], before < 0 ? 0 : before + 1, 0, "%s, end of step %d of %d", name, k, N);
            }
        }
        assert_int_equal(at, count);
        free(want);
        rt_scheduler_free(s), rt_scheduler_free(base);
    }
    rt_tensors_close(t);
}

/* All configurations that the reference has: read, or refused by the name of what is not followed; written and read again they are the same. */
static void configurations(void **state)
{
    (void)state;
    DIR *folder = opendir(FOLDER);
    assert_non_null(folder);
    int read = 0;
    for (struct dirent *e; (e = readdir(folder));) {
        char path[512];
        rt_scheduler_config c, again;
        rt_scheduler *s = NULL;
        double from[MOST_STEPS], to[MOST_STEPS], network_time[MOST_STEPS];
        if (!strstr(e->d_name, ".json") || !strcmp(e->d_name, "index.json")) continue;
        snprintf(path, sizeof path, FOLDER "%s", e->d_name);
        CHECK_OK(rt_scheduler_config_read(&c, path, &err));
        char written[] = "scheduler_runs_XXXXXX";
        close(mkstemp(written));
        CHECK_OK(rt_scheduler_config_write(&c, written, &err));
        CHECK_OK(rt_scheduler_config_read(&again, written, &err));
        unlink(written);
        assert_memory_equal(&c, &again, sizeof c);
        CHECK_OK(rt_scheduler_new(&s, &c, false, &err));
        assert_non_null(rt_scheduler_solver(s));
        CHECK_OK(rt_scheduler_path(s, 10, &(rt_scheduler_steps){.from = from, .to = to, .network_times = network_time}, &err));
        read++;
        rt_scheduler_free(s);
    }
    closedir(folder);
    assert_int_equal(read, 54);
}

/* The library's mixture oracle against what PyTorch was told, at every point of every run. */
static void the_oracle_answers(void **state)
{
    (void)state;
    DIR *folder = opendir(FOLDER);
    assert_non_null(folder);
    double worst = 0;
    int points = 0;
    for (struct dirent *e; (e = readdir(folder));) {
        char name[256], *dot;
        snprintf(name, sizeof name, "%s", e->d_name);
        if (!(dot = strstr(name, ".safetensors"))) continue;
        *dot = 0;
        rt_tensors *t = open_run(name);
        rt_scheduler *s = open_scheduler(name, false);
        const char *prediction = rt_prediction_name(rt_scheduler_prediction(s));
        int64_t n, calls;
        double *w = numbers(t, "gmm.weights", &n), *mu = numbers(t, "gmm.means", &n), *c = numbers(t, "gmm.covs", &n);
        double *in = numbers(t, "model_in", &n), *out = numbers(t, "model_out", &n), *alpha = numbers(t, "model_alpha", &calls),
               *sigma = numbers(t, "model_sigma", &calls);
        rt_oracle *o = NULL;
        CHECK_OK(rt_oracle_mixture(&o, 2, D, w, mu, c, NULL, NULL, &err));
        for (int64_t k = 0; k < calls; k++) {
            double x0[ROWS * D], score[ROWS * D], top = 0, error = 0;
            CHECK_OK(rt_oracle_posterior_mean(o, alpha[k], sigma[k], ROWS, in + k * ROWS * D, x0, &err));
            CHECK_OK(rt_oracle_score(o, alpha[k], sigma[k], ROWS, in + k * ROWS * D, score, &err));
            for (int j = 0; j < ROWS * D; j++) {
                double eps = -sigma[k] * score[j], got = !strcmp(prediction, "epsilon") ? eps
                                                         : !strcmp(prediction, "x0")    ? x0[j]
                                                         : !strcmp(prediction, "v")     ? alpha[k] * eps - sigma[k] * x0[j]
                                                                                        : eps - x0[j];
                error = fmax(error, fabs(got - out[k * ROWS * D + j]));
                top = fmax(top, fabs(out[k * ROWS * D + j]));
            }
            worst = fmax(worst, error / top);
            points += ROWS;
        }
        rt_oracle_free(o);
        rt_scheduler_free(s);
        rt_tensors_close(t);
        free(w), free(mu), free(c), free(in), free(out), free(alpha), free(sigma);
    }
    closedir(folder);
    print_message("%d points: %.2g\n", points, worst);
    assert_true(points > 300 && worst < TOL_SCHEDULER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trajectories), cmocka_unit_test(starts),         cmocka_unit_test(tables),
        cmocka_unit_test(timesteps),    cmocka_unit_test(configurations), cmocka_unit_test(the_oracle_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
