/* teacher_maps.c -- what pd and kd take as the map of a teacher's solver (1.8), (1.38), (1.9): for every row without noise, on exact Gaussian data of one
 * dimension, where a solver's map is affine: x_t = a x_1 + b along a rollout. The formulas of the solvers are written out again, each number by
 * itself, in the half log-SNR l of vp-cosine, whose angle is linear in t. */
#include "diffusion_check.h"

#include "distill/sources.h"
#include "distill/residual.h"
#include "retort/data.h"
#include "retort/format.h"

#include <unistd.h>

enum { B = 32, STEPS = 8 };

static const double mu = 0.4, variance = 0.5;

static double angle(double t) /* vp-cosine from its definition: log-SNR 20 at t -> 0, -20 at 1 */
{
    double low = atan(exp(-10.0)), high = atan(exp(10.0));
    return low + t * (high - low);
}
static double alpha_of(double t) { return t == 0 ? 1 : cos(angle(t)); }
static double beta_of(double t) { return t == 0 ? 0 : sin(angle(t)); }
static double half_of(double t) { return -log(tan(angle(t))); }
static double time_of(double l) { return (atan(exp(-l)) - angle(0)) / (angle(1) - angle(0)); }

static double x0_at(double x, double t)
{
    double a = alpha_of(t), b = beta_of(t);
    return mu + a * variance / (a * a * variance + b * b) * (x - a * mu);
}
static double eps_at(double x, double t) { return (x - alpha_of(t) * x0_at(x, t)) / beta_of(t); }
static double slope(double x, double t) /* dx/dt (1.6): the angle turns at a constant rate */
{
    return (angle(1) - angle(0)) * (alpha_of(t) * eps_at(x, t) - beta_of(t) * x0_at(x, t));
}

/* One step s -> t > 0, given the x0-predictions of the n_past steps before it; false: not written out here. */
static bool step(const char *solver, double s, double t, double *x, const double *past_l, const double *past_x0, int n_past)
{
    double h = t - s, X = *x, as = alpha_of(s), at = alpha_of(t), bs = beta_of(s), bt = beta_of(t), l = half_of(s), H = half_of(t) - l;
    double m = time_of(l + H / 2), am = alpha_of(m), bm = beta_of(m), x0 = x0_at(X, s);
    double ddim = bt / bs * X + (at - as * bt / bs) * x0;
    if (!strcmp(solver, "ddim") || !strcmp(solver, "dpm-1") || !strcmp(solver, "dpmpp-1s") || !strcmp(solver, "dpmpp-1m")) {
        *x = ddim;
    } else if (!strcmp(solver, "euler")) {
        *x = X + h * slope(X, s);
    } else if (!strcmp(solver, "heun")) {
        *x = X + h / 2 * (slope(X, s) + slope(X + h * slope(X, s), t));
    } else if (!strcmp(solver, "midpoint")) {
        *x = X + h * slope(X + h / 2 * slope(X, s), s + h / 2);
    } else if (!strcmp(solver, "rk4")) {
        double k1 = slope(X, s), k2 = slope(X + h / 2 * k1, s + h / 2), k3 = slope(X + h / 2 * k2, s + h / 2), k4 = slope(X + h * k3, t);
        *x = X + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
    } else if (!strcmp(solver, "dpm-2")) {
        double u = am / as * X - bm * (exp(H / 2) - 1) * eps_at(X, s);
        *x = at / as * X - bt * (exp(H) - 1) * eps_at(u, m);
    } else if (!strcmp(solver, "dpmpp-2s")) {
        double u = bm / bs * X - am * (exp(-H / 2) - 1) * x0;
        *x = bt / bs * X - at * (exp(-H) - 1) * x0_at(u, m);
    } else if (!strcmp(solver, "dpm-3")) {
        double t1 = time_of(l + H / 3), t2 = time_of(l + 2 * H / 3), e = eps_at(X, s);
        double u1 = alpha_of(t1) / as * X - beta_of(t1) * (exp(H / 3) - 1) * e, e1 = eps_at(u1, t1);
        double u2 =
            alpha_of(t2) / as * X - beta_of(t2) * ((exp(2 * H / 3) - 1) * e + 2 * ((exp(2 * H / 3) - 1) / (2 * H / 3) - 1) * (e1 - e));
        *x = at / as * X - bt * ((exp(H) - 1) * e + 1.5 * ((exp(H) - 1) / H - 1) * (eps_at(u2, t2) - e));
    } else if (!strcmp(solver, "dpmpp-3s")) {
        double t1 = time_of(l + H / 3), t2 = time_of(l + 2 * H / 3);
        double u1 = beta_of(t1) / bs * X - alpha_of(t1) * (exp(-H / 3) - 1) * x0, d1 = x0_at(u1, t1) - x0;
        double u2 = beta_of(t2) / bs * X - alpha_of(t2) * ((exp(-2 * H / 3) - 1) * x0 - 2 * ((exp(-2 * H / 3) - 1) / (2 * H / 3) + 1) * d1);
        *x = bt / bs * X - at * ((exp(-H) - 1) * x0 - 1.5 * ((exp(-H) - 1) / H + 1) * (x0_at(u2, t2) - x0));
    } else if (!strcmp(solver, "dpmpp-3m") && n_past >= 2) { /* the parabola through three predictions, integrated by Simpson's rule */
        double p[] = {l, past_l[n_past - 1], past_l[n_past - 2]}, v[] = {x0, past_x0[n_past - 1], past_x0[n_past - 2]}, sum = 0;
        const int n = 2000;
        for (int i = 0; i <= n; i++) {
            double z = l + H * i / n, D = 0;
            for (int j = 0; j < 3; j++)
                D += v[j] * (z - p[(j + 1) % 3]) * (z - p[(j + 2) % 3]) / ((p[j] - p[(j + 1) % 3]) * (p[j] - p[(j + 2) % 3]));
            sum += (i == 0 || i == n ? 1 : i % 2 ? 4 : 2) * H / n / 3 * exp(z - half_of(t)) * D;
        }
        *x = bt / bs * X + at * sum; /* alpha_t e^(z - l_t) = beta_t e^z */
    } else if (!strcmp(solver, "dpmpp-2m") || !strcmp(solver, "dpmpp-3m")) {
        double r = n_past ? (l - past_l[n_past - 1]) / H : 0, D = n_past ? x0 + (x0 - past_x0[n_past - 1]) / (2 * r) : x0;
        *x = bt / bs * X - at * (exp(-H) - 1) * D;
    } else {
        return false;
    }
    return true;
}

/* The states x[0..n] from x[0] along times: by the formulas above, else by the driver itself, on the oracle in double. */
static void path(const char *solver, const rt_oracle *oracle, const double *times, int n, double *x, bool *own)
{
    double l[STEPS], x0[STEPS];
    *own = true;
    for (int k = 0; k < n && *own; k++) {
        l[k] = half_of(times[k]);
        x0[k] = x0_at(x[k], times[k]);
        x[k + 1] = x[k];
        if (times[k + 1] == 0)
            x[k + 1] = x0[k];
        else
            *own = step(solver, times[k], times[k + 1], &x[k + 1], l, x0, k);
    }
    if (*own) return;
    rt_field f = rt_oracle_field(oracle);
    for (int k = 1; k <= n; k++) {
        x[k] = x[0];
        rt_sample_spec spec = {.process = rt_oracle_process(oracle), .solver = rt_solver_find(solver, NULL), .steps = k, .from = times};
        CHECK_OK(rt_sample(&spec, &f, 1, &x[k], NULL, &err));
    }
}

typedef struct world {
    rt_config config;
    rt_task task;
    rt_round round;
    rt_phase *phase;
    rt_net *net;
    rt_process *process;
    rt_oracle *oracle;
    rt_dataset *data;
    rt_program *program;
    char folder[64];
    rt_error err;
} world;

static void set_key(world *w, const char *key, const char *value) { CHECK_OK(rt_config_set(&w->config, key, value, &err)); }

static void open_world(world *w, const char *method, const char *const *keys, bool with_data)
{
    char path_[128];
    *w = (world){0};
    CHECK_OK(rt_config_method(&w->config, method, &err));
    strcpy(w->folder, "/tmp/retort-maps-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    set_key(w, "out", w->folder);
    set_key(w, "threads", "1");
    set_key(w, "train.batch", "32");
    for (; *keys; keys += 2) /* those of the method; a table serves two of them */
        if (strncmp(keys[0], "pd.", 3) == 0 ? !strcmp(method, "pd") : strncmp(keys[0], "kd.", 3) == 0 ? !strcmp(method, "kd") : true)
            set_key(w, keys[0], keys[1]);
    snprintf(path_, sizeof path_, "%s/net.json", w->folder);
    FILE *f = fopen(path_, "w");
    assert_non_null(f);
    fputs("{\"_class_name\": \"RetortMLP\", \"data_dim\": 1, \"hidden\": 8, \"layers\": 1}", f);
    fclose(f);
    CHECK_OK(rt_net_open(&w->net, path_, &err));
    w->process = named_process("vp-cosine");
    CHECK_OK(rt_oracle_gaussian(&w->oracle, 1, &mu, &variance, w->process, rt_prediction_find("x0", NULL), &err));
    if (with_data) {
        float x[100];
        for (int i = 0; i < 100; i++) x[i] = 0.02f * (float)i - 1;
        snprintf(path_, sizeof path_, "%s/data.safetensors", w->folder);
        CHECK_OK(rt_tensors_write(path_, &(rt_named_tensor){"x", RT_F32, 2, (int64_t[]){100, 1}, x}, 1, NULL, &err));
        CHECK_OK(rt_dataset_open(&w->data, path_, &err));
    }
    w->task = (rt_task){.method = rt__method_find(method),
                        .config = &w->config,
                        .process = w->process,
                        .teacher = {.oracle = w->oracle, .prediction = rt_prediction_find("x0", NULL), .null_class = -1},
                        .net = w->net,
                        .null_class = -1,
                        .data = w->data};
    if (rt__task_open(&w->task, &w->err) != RT_OK) fail_msg("%s", w->err.text);
    CHECK_OK(rt_params_init(rt__network(&w->task, "student")->set, 1, &err));
    if (rt__round_open(&w->round, &w->task, 0, &w->err) != RT_OK) fail_msg("%s", w->err.text);
    w->phase = &w->round.phases[0];
    rt_node *loss = w->phase->loss;
    CHECK_OK(
        rt_compile(&w->program, w->phase->graph, &(rt_program_spec){.outputs = &loss, .n_outputs = 1, .batch = B, .threads = 1}, &err));
}

static void close_world(world *w)
{
    char command[96];
    rt_program_free(w->program);
    rt__round_close(&w->round);
    rt__task_close(&w->task);
    rt_net_free(w->net);
    rt_dataset_free(w->data);
    rt_oracle_free(w->oracle);
    rt_process_free(w->process);
    snprintf(command, sizeof command, "rm -rf %s", w->folder);
    assert_int_equal(system(command), 0);
}

static rt_status fill(world *w, int64_t u, int64_t first, int64_t n) { return rt__fill_inputs(w->phase, u, first, n, w->program, &w->err); }
static void *input(world *w, const char *name) { return rt__input_data(w->phase, w->program, name); }

static void compare(double got, double want, const char *solver, const char *what, double *worst)
{
    double size = fmax(1, fabs(want)); /* Heun in sigma overshoots by far in so few steps */
    *worst = fmax(*worst, fabs(got - want) / size);
    CHECK_NEAR(got, want, TOL_TEACHER_MAP * size, "%s, %s", solver, what);
}

/* Rows of `retort list solvers` without noise. */
static const char *deterministic(int i)
{
    rt_row_text row;
    for (int k = 0; rt_solver_describe(k, &row); k++)
        if (!rt_solver_get_info(rt_solver_find(row.name, NULL))->stochastic && i-- == 0) return row.name;
    return NULL;
}

/* pd: two teacher steps to one of the student, along rollouts (memories are those of the rollout) or from noised data (cold), with starts of the
 * student's grid or all. Several updates, so that more than one pool is drawn. */
static void pairs_of_pd(void **state)
{
    (void)state;
    const char *solver;
    for (int i = 0; (solver = deterministic(i)); i++)
        for (int way = 0; way < 4; way++) {
            bool with_data = way & 1, all = way & 2, own = true;
            const char *keys[] = {"pd.teacher-solver",     solver,    "pd.steps", "4", "pd.starts",
                                  all ? "all" : "student", "pd.pool", "40",       NULL};
            world w;
            open_world(&w, "pd", keys, with_data);
            double a[STEPS + 1] = {0}, b[STEPS + 1] = {0}, worst = 0;
            a[0] = 1; /* x_k = b_k + (a_k - b_k) x_1 */
            path(solver, w.oracle, w.round.grid, STEPS, a, &own);
            path(solver, w.oracle, w.round.grid, STEPS, b, &own);
            const float *xs = input(&w, "xs"), *xt = input(&w, "xt");
            const int64_t *ks = input(&w, "k");
            unsigned drawn = 0;
            for (int update = 0; update < 4; update++) {
                CHECK_OK(fill(&w, update, 0, B));
                for (int j = 0; j < B; j++) {
                    int start = (int)ks[j] * (all ? 1 : 2);
                    drawn |= 1u << start;
                    double x[3] = {(double)xs[j]}, want;
                    if (with_data) {
                        path(solver, w.oracle, w.round.grid + start, 2, x, &own);
                        want = x[2];
                    } else {
                        double x1 = (x[0] - b[start]) / (a[start] - b[start]);
                        want = b[start + 2] + (a[start + 2] - b[start + 2]) * x1;
                    }
                    compare((double)xt[j], want, solver, with_data ? "from data" : "along rollouts", &worst);
                }
            }
            assert_int_equal(drawn, all ? 0x7f : 0x55);
            if (way < 2)
                print_message("%-10s %-15s %.2g%s\n", solver, with_data ? "from data" : "along rollouts", worst, own ? "" : " (driver)");
            close_world(&w);
        }
}

/* Starts from data are x_s ~ p_s (1.1): mean 0 here, variance alpha^2 times that of the data plus beta^2, to five standard errors. */
static void noised_starts(void **state)
{
    (void)state;
    const char *keys[] = {"pd.steps", "4", "pd.pool", "400", NULL};
    world w;
    open_world(&w, "pd", keys, true);
    double n[4] = {0}, square[4] = {0};
    const float *xs = input(&w, "xs");
    const int64_t *ks = input(&w, "k");
    for (int update = 0; update < 200; update++) {
        CHECK_OK(fill(&w, update, 0, B));
        for (int j = 0; j < B; j++) n[ks[j]]++, square[ks[j]] += (double)xs[j] * (double)xs[j];
    }
    for (int k = 0; k < 4; k++) {
        double a = alpha_of(1 - k / 4.0), b = beta_of(1 - k / 4.0), want = a * a / 3 + b * b; /* data: even in (-1, 1) */
        CHECK_NEAR(n[k], 200 * B / 4, 50, "examples of start %d", k);
        CHECK_NEAR(square[k] / n[k], want, 5 * want * sqrt(2 / n[k]), "x_s of start %d", k);
    }
    close_world(&w);
}

/* A stochastic teacher's transition is a map once its noise is frozen: the same examples again, from a resumed run's place too, other rows other noise.
 * Two steps of DDPM's posterior are affine with noise: the variance of x_t given x_s is (a_2 sigma_1)^2 + sigma_2^2, which the residual reports. */
static void frozen_noise(void **state)
{
    (void)state;
    enum { HELD_OUT = 20000 };
    const char *keys[] = {"pd.teacher-solver", "ddpm", "pd.steps", "4", "pd.pool", "64", NULL};
    for (int with_data = 0; with_data < 2; with_data++) {
        world w[2];
        float xs[2][B], xt[2][B];
        for (int i = 0; i < 2; i++) {
            open_world(&w[i], "pd", keys, with_data);
            for (int u = i ? 7 : 0; u < 8; u++) CHECK_OK(fill(&w[i], u, 0, B));
            memcpy(xs[i], input(&w[i], "xs"), sizeof xs[i]);
            memcpy(xt[i], input(&w[i], "xt"), sizeof xt[i]);
        }
        assert_memory_equal(xs[0], xs[1], sizeof xs[0]);
        assert_memory_equal(xt[0], xt[1], sizeof xt[0]);
        for (int i = 0; i < 2; i++) close_world(&w[i]);
    }
    world w;
    open_world(&w, "pd", keys, false);
    double mean_variance = 0, spread_of_square = 0;
    for (int k = 0; k < STEPS; k += 2) {
        double gain[2], sigma[2];
        for (int h = 0; h < 2; h++) {
            double s = w.round.grid[k + h], t = w.round.grid[k + h + 1], as = alpha_of(s), bs = beta_of(s), at = alpha_of(t),
                   bt = beta_of(t);
            double of_x0 = as * variance / (as * as * variance + bs * bs);                    /* d x0/d x_s */
            double forward = at > 0 ? as / at : 0, q = bs * bs - forward * forward * bt * bt; /* x_s | x_t has variance q */
            gain[h] = t == 0 ? of_x0 : (forward * bt * bt + at * q * of_x0) / (bs * bs);
            sigma[h] = t == 0 ? 0 : bt * sqrt(q) / bs;
        }
        double v = pow(gain[1] * sigma[0], 2) + pow(sigma[1], 2);
        mean_variance += v / (STEPS / 2);
        spread_of_square += 2 * v * v / (STEPS / 2);
    }
    rt_residual r;
    CHECK_OK(rt__residual(&w.round, HELD_OUT, &r, &err));
    double bound = 5 * sqrt(spread_of_square / (HELD_OUT * STEPS / 2));
    print_message("spread^2 %.6g, %.6g; five standard errors %.2g\n", r.spread * r.spread, mean_variance, bound);
    CHECK_NEAR(r.spread * r.spread, mean_variance, bound, "variance of two steps of ddpm");
    close_world(&w);
    const char *plain[] = {"pd.steps", "4", NULL};
    open_world(&w, "pd", plain, false);
    CHECK_OK(rt__residual(&w.round, 10, &r, &err));
    assert_true(isnan(r.spread));
    close_world(&w);
}

/* `draws: input`: the draws that go with an example are those of its own map, by the formula of DDPM's posterior: along rollouts and from data, pools and
 * slices of the batch included; by kd all of them. */
static void draws_of_examples(void **state)
{
    (void)state;
    static const struct {
        const char *method, *starts, *steps;
        bool with_data;
    } ways[] = {{"pd", "student", "4", false},
                {"pd", "all", "4", false},
                {"pd", "student", "2", true},
                {"pd", "all", "4", true},
                {"kd", "all", "4", false}};
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        const char *keys[] = {
            "pd.teacher-solver", "ddpm",           "kd.teacher-solver", "ddpm", "pd.draws",          "input", "kd.draws", "input",
            "pd.steps",          ways[way].steps,  "pd.teacher-steps",  "8",    "kd.steps",          "8",     "kd.pairs", "50",
            "pd.starts",         ways[way].starts, "pd.pool",           "40",   "train.micro-batch", "16",    NULL};
        world w;
        open_world(&w, ways[way].method, keys, ways[way].with_data);
        bool pd = !strcmp(ways[way].method, "pd");
        int q = rt_net_describe(w.phase->network->denoiser.net)->draws, stride = strcmp(ways[way].starts, "all") ? q : 1;
        assert_int_equal(q, pd && way == 2 ? 4 : pd ? 2 : 8);
        double worst = 0;
        for (int update = 0; update < 4; update++)
            for (int first = 0; first < 32; first += 16) {
                CHECK_OK(fill(&w, update, first, 16));
                const float *xs = input(&w, pd ? "xs" : "noise"), *xt = input(&w, pd ? "xt" : "sample"), *z = input(&w, "draws");
                const int64_t *ks = pd ? input(&w, "k") : NULL;
                for (int j = 0; j < 16; j++) {
                    int start = ks ? (int)ks[j] * stride : 0;
                    double x = (double)xs[j];
                    for (int h = 0; h < q; h++) {
                        double s = w.round.grid[start + h], t = w.round.grid[start + h + 1], as = alpha_of(s), bs = beta_of(s),
                               at = alpha_of(t), bt = beta_of(t), x0 = x0_at(x, s), forward = as / at,
                               v = bs * bs - forward * forward * bt * bt;
                        x = t == 0 ? x0 : (forward * bt * bt * x + at * v * x0) / (bs * bs) + bt * sqrt(v) / bs * (double)z[j * q + h];
                    }
                    compare((double)xt[j], x, "ddpm", ways[way].method, &worst);
                }
            }
        print_message("%s, starts %s%s, %d draws: %.2g\n", ways[way].method, ways[way].starts, ways[way].with_data ? ", from data" : "", q,
                      worst);
        close_world(&w);
    }
}

/* kd: whole rollouts. */
static void pairs_of_kd(void **state)
{
    (void)state;
    const char *solver;
    for (int i = 0; (solver = deterministic(i)); i++) {
        const char *keys[] = {"kd.teacher-solver", solver, "kd.steps", "8", "kd.pairs", "40", NULL};
        world w;
        bool own;
        open_world(&w, "kd", keys, false);
        double worst = 0;
        CHECK_OK(fill(&w, 1, 0, B));
        const float *z = input(&w, "noise"), *sample = input(&w, "sample");
        for (int j = 0; j < B; j++) {
            double x[STEPS + 1] = {(double)z[j]};
            path(solver, w.oracle, w.round.grid, STEPS, x, &own);
            compare((double)sample[j], x[STEPS], solver, "a whole rollout", &worst);
        }
        close_world(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pairs_of_pd), cmocka_unit_test(noised_starts), cmocka_unit_test(frozen_noise),
                                       cmocka_unit_test(draws_of_examples), cmocka_unit_test(pairs_of_kd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
