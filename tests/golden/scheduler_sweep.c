/* scheduler_sweep.c -- random configurations of diffusers' schedulers against where diffusers ends with them: followed, or refused by the name of
 * a key. How the numbers were made stands in tests/data/golden/make_scheduler_sweep.py; an argument names another file of them. */
#include "diffusion_check.h"

#include <jansson.h>
#include <unistd.h>

static const char *sweep = "tests/data/golden/scheduler_sweep.json";

enum { MOST_STEPS = 64, MOST_TIMES = 1024, ROWS = 4, D = 2 };

static int flatten(const json_t *v, double *out, int n)
{
    if (!json_is_array(v)) return out[n] = json_number_value(v), n + 1;
    size_t i;
    const json_t *e;
    json_array_foreach(v, i, e) n = flatten(e, out, n);
    return n;
}

/* ---- the network: a mixture at the noise that the timestep means */

typedef struct network {
    double weights[2], means[4], covariances[8], noise[MOST_STEPS * ROWS * D];
    const char *prediction;
    double units; /* of flow matching: its noise is the timestep divided by them; */
    int T;        /* 0 there */
    double angle[MOST_TIMES];
} network;

static void look_up(const network *m, double t, double *alpha, double *sigma)
{
    double low = fmin(floor(t), m->T - 2), angle = m->angle[(int)low] + (t - low) * (m->angle[(int)low + 1] - m->angle[(int)low]);
    *alpha = cos(angle);
    *sigma = sin(angle);
}

static rt_status answer(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    (void)y, (void)err;
    const network *m = self;
    double told = (double)(float)at->network_time; /* networks are told floats */
    double sigma = told / m->units, alpha = 1 - sigma;
    if (m->T) look_up(m, fmin(fmax(told, 0), m->T - 1), &alpha, &sigma);
    for (int64_t j = 0; j < n; j++, x += D, out += D) {
        double u[2][2], logit[2];
        for (int k = 0; k < 2; k++) {
            const double *c = m->covariances + 4 * k, *mu = m->means + 2 * k;
            double a = alpha * alpha * c[0] + sigma * sigma, b = alpha * alpha * c[1], d = alpha * alpha * c[3] + sigma * sigma;
            double det = a * d - b * b, d0 = x[0] - alpha * mu[0], d1 = x[1] - alpha * mu[1];
            u[k][0] = (d * d0 - b * d1) / det;
            u[k][1] = (a * d1 - b * d0) / det;
            logit[k] = log(m->weights[k]) - log(det) / 2 - (d0 * u[k][0] + d1 * u[k][1]) / 2;
        }
        double r = 1 / (1 + exp(logit[1] - logit[0])), share[2] = {r, 1 - r};
        for (int i = 0; i < D; i++) {
            double x0 = 0, eps = 0;
            for (int k = 0; k < 2; k++) {
                const double *c = m->covariances + 4 * k;
                x0 += share[k] * (m->means[2 * k + i] + alpha * (c[2 * i] * u[k][0] + c[2 * i + 1] * u[k][1]));
                eps += share[k] * sigma * u[k][i];
            }
            out[i] = !strcmp(m->prediction, "epsilon") ? eps
                     : !strcmp(m->prediction, "x0")    ? x0
                     : !strcmp(m->prediction, "v")     ? alpha * eps - sigma * x0
                                                       : eps - x0;
        }
    }
    return RT_OK;
}

static rt_status give_noise(void *self, int k, int64_t n, double *z, rt_error *err)
{
    (void)err;
    memcpy(z, ((network *)self)->noise + k * ROWS * D, (size_t)(n * D) * sizeof *z);
    return RT_OK;
}

/* ---- */

/* Does the message name the class or a key of the configuration? */
static bool names_a_key(const json_t *config, const char *text)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)config, key, v)
    {
        if (*key != '_' && strstr(text, key)) return true;
    }
    return false;
}

typedef struct count {
    int followed, refused, unnamed, both_fail, only_they_fail;
} count;

static void one(const json_t *run, network *m, const double *start, int index, count *n)
{
    static char path[] = "scheduler_sweep_XXXXXX";
    const json_t *config = json_object_get(run, "config"), *want = json_object_get(run, "x");
    char *text = json_dumps(config, JSON_COMPACT);
    char written[sizeof path];
    memcpy(written, path, sizeof path);
    int fd = mkstemp(written), steps = (int)json_integer_value(json_object_get(run, "steps"));
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
    rt_scheduler *s = NULL;
    rt_error local = {0};
    double from[MOST_STEPS], to[MOST_STEPS], times[MOST_STEPS], x[ROWS * D], expected[ROWS * D];
    int order[MOST_STEPS];
    rt_status status = rt_scheduler_open(&s, written, true, &local);
    unlink(written);
    if (status == RT_OK) status = rt_scheduler_path(s, steps, &(rt_scheduler_steps){from, to, times, order}, &local);
    if (status == RT_OK) {
        const rt_process *p = rt_scheduler_process(s);
        m->prediction = rt_prediction_name(rt_scheduler_prediction(s));
        m->T = rt_process_discrete_steps(p);
        m->units = (double)rt_scheduler_get_config(s)->num_train_timesteps;
        assert_true(m->T < MOST_TIMES);
        for (int t = 0; t < m->T; t++) m->angle[t] = atan2(rt_process_beta(p, t + 1), rt_process_alpha(p, t + 1));
        rt_field field = {.self = m, .eval = answer, .prediction = rt_scheduler_prediction(s), .features = D, .null_class = -1};
        rt_sample_spec spec = {.process = p,
                               .solver = rt_scheduler_solver(s),
                               .steps = steps,
                               .from = from,
                               .to = to,
                               .network_times = times,
                               .order = order,
                               .clip = rt_scheduler_clip(s),
                               .noise = give_noise,
                               .noise_self = m};
        double scale = rt_scheduler_noise_scale(s, from[0]);
        for (int j = 0; j < ROWS * D; j++) x[j] = start[j] * scale;
        status = rt_sample(&spec, &field, ROWS, x, NULL, &local);
        double back = rt_scheduler_state_scale(s, to[steps - 1]);
        for (int j = 0; j < ROWS * D; j++) x[j] *= back;
    }
    if (status != RT_OK) {
        if (want && !names_a_key(config, local.text)) {
            n->unnamed++;
            print_message("run %d, the refusal names no key: %s: %s\n", index, local.text, text);
        }
        *(want ? &n->refused : &n->both_fail) += 1;
        if (want) print_message("           %3d %s\n", index, local.text);
    } else if (!want) {
        n->only_they_fail++;
        print_message("           %3d only diffusers fails: %s: %s\n", index, json_string_value(json_object_get(run, "fails")), text);
    } else {
        double error = 0, largest = 0;
        flatten(want, expected, 0);
        for (int j = 0; j < ROWS * D; j++) {
            error = fmax(error, fabs(x[j] - expected[j]));
            largest = fmax(largest, fabs(expected[j]));
        }
        if (!(error <= TOL_SWEEP * largest)) print_message("run %d, %d steps, %.2g off: %s\n", index, steps, error / largest, text);
        n->followed += error <= TOL_SWEEP * largest;
    }
    free(text);
    rt_scheduler_free(s);
}

static void none_is_silently_different(void **state)
{
    (void)state;
    json_t *all = json_load_file(sweep, 0, NULL), *runs = json_object_get(all, "runs"), *run;
    assert_true(json_is_array(runs));
    network m = {.T = 0};
    double start[ROWS * D];
    assert_int_equal(flatten(json_object_get(all, "weights"), m.weights, 0), 2);
    assert_int_equal(flatten(json_object_get(all, "means"), m.means, 0), 4);
    assert_int_equal(flatten(json_object_get(all, "covariances"), m.covariances, 0), 8);
    assert_int_equal(flatten(json_object_get(all, "start"), start, 0), ROWS * D);
    assert_true(json_array_size(json_object_get(all, "noise")) <= (size_t)MOST_STEPS * ROWS * D);
    flatten(json_object_get(all, "noise"), m.noise, 0);
    count n = {0};
    int i = 0, finite = 0, total = (int)json_array_size(runs);
    for (; i < total; i++) {
        run = json_array_get(runs, (size_t)i);
        finite += json_object_get(run, "x") != NULL;
        one(run, &m, start, i, &n);
    }
    json_decref(all);
    print_message("           %d configurations: %d followed, %d refused; where diffusers fails: %d refused, %d not\n", total, n.followed,
                  n.refused, n.both_fail, n.only_they_fail);
    assert_int_equal(n.unnamed, 0);
    assert_int_equal(n.followed + n.refused, finite);
    assert_true(total >= 300 && n.followed >= 0.8 * finite);
}

int main(int arguments, char **argument)
{
    if (arguments > 1) sweep = argument[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(none_is_silently_different)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
