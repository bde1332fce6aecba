/* sampler_test.c -- the driver: guidance in one call, clipping, the last step, tracing, refusals. Models here are formulas. */
#include "diffusion_check.h"

enum { N = 3, D = 2 };

/* A model that says x0 = c (y + 1) tanh(x) and counts its calls. */
typedef struct toy {
    const rt_process *process;
    const rt_prediction *prediction;
    double c;
    int calls;
    int64_t rows;
} toy;

static double toy_x0(const toy *m, double x, int64_t y) { return m->c * (double)(y + 1) * tanh(x); }

static rt_status toy_eval(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    toy *m = self;
    double t = at->t;
    m->calls++;
    m->rows += n;
    double alpha = rt_process_alpha(m->process, t), beta = rt_process_beta(m->process, t);
    for (int64_t i = 0; i < n; i++) {
        for (int j = 0; j < D; j++) {
            double here = x[i * D + j], x0 = toy_x0(m, here, y ? y[i] : 0), eps = (here - alpha * x0) / beta;
            rt_status status = rt_prediction_join(m->prediction, 1, &x0, &eps, alpha, beta, &out[i * D + j], err);
            if (status != RT_OK) return status;
        }
    }
    return RT_OK;
}

static rt_field toy_field(toy *m, int64_t null_class)
{
    return (rt_field){.self = m, .eval = toy_eval, .prediction = m->prediction, .features = D, .null_class = null_class};
}

static void start(double *x)
{
    uint64_t seed = 17;
    for (int i = 0; i < N * D; i++) x[i] = 2 * wobble(&seed);
}

/* The whole of a guided, clipped DDIM run, by hand. */
static void guided_and_clipped(void **state)
{
    (void)state;
    static const char *const predictions[] = {"x0", "epsilon", "v", "velocity", "score"};
    rt_process *p = cosine_1024();
    const double times[] = {1024, 600, 77, 0}, w = 0.8, clip = 0.9;
    const int64_t y[N] = {0, 1, 2};
    for (int i = 0; i < 5; i++) {
        double x[N * D], want[N * D];
        toy m = {.process = p, .prediction = rt_prediction_find(predictions[i], NULL), .c = 0.3};
        start(x), start(want);
        for (int k = 0; k < 3; k++) {
            double as = rt_process_alpha(p, times[k]), bs = rt_process_beta(p, times[k]);
            for (int j = 0; j < N * D; j++) {
                double x0 = (1 + w) * toy_x0(&m, want[j], y[j / D]) - w * toy_x0(&m, want[j], 7), eps = (want[j] - as * x0) / bs;
                x0 = fmax(-clip, fmin(clip, x0));
                want[j] = rt_process_alpha(p, times[k + 1]) * x0 + rt_process_beta(p, times[k + 1]) * eps;
            }
        }
        rt_field field = toy_field(&m, 7);
        rt_sample_spec spec = {
            .process = p, .solver = rt_solver_find("ddim", NULL), .steps = 3, .from = times, .guidance = w, .clip = clip};
        CHECK_OK(rt_sample(&spec, &field, N, x, y, &err));
        for (int j = 0; j < N * D; j++)
            CHECK_NEAR(x[j], want[j], i == 1 || i == 4 ? 1e-9 : 1e-12, "%s, %d", predictions[i], j); /* 1/alpha_T = 2e4 */
        assert_int_equal(m.calls, 3);                                                                /* one call of 2n rows per step */
        assert_int_equal(m.rows, 3 * 2 * N);
    }
    rt_process_free(p);
}

/* Guidance within an interval, brought back to the conditional deviation, and by another model: each by hand on one DDIM step. */
static void ways_to_guide(void **state)
{
    (void)state;
    rt_process *p = named_process("flow");
    const double w = 1.5, phi = 0.7, s = 0.8, t = 0.3, as = rt_process_alpha(p, s), bs = rt_process_beta(p, s), sigma = bs / as;
    const int64_t y[N] = {0, 1, 2};
    double A, C;
    CHECK_OK(rt_ddim_coefficients(p, s, t, &A, &C, &err));
    toy m = {.process = p, .prediction = rt_prediction_find("x0", NULL), .c = 0.3},
        other = {.process = p, .prediction = rt_prediction_find("velocity", NULL), .c = 0.2};
    rt_field field = toy_field(&m, 7), guide = toy_field(&other, -1);
    rt_sample_spec plain = {.process = p, .solver = rt_solver_find("ddim", NULL), .steps = 1, .from = (double[]){s, t}, .guidance = w};
    rt_sample_spec ways[6] = {plain, plain, plain, plain, plain, plain};
    ways[0].guidance_low = sigma * 1.01;
    ways[1].guidance_low = sigma * 0.99, ways[1].guidance_high = sigma * 1.01;
    ways[2].guidance_high = sigma * 0.99;
    ways[3].guidance_rescale = phi;
    ways[4].guide = &guide;
    ways[5].guide = &guide, ways[5].guidance_rescale = 1;
    for (int k = 0; k < 6; k++) {
        double x[N * D], begin[N * D];
        start(x), start(begin);
        CHECK_OK(rt_sample(&ways[k], &field, N, x, y, &err));
        for (int j = 0; j < N; j++) {
            double cond[D], out[D], before = 0, after = 0;
            for (int i = 0; i < D; i++) {
                double here = begin[j * D + i], worse = k >= 4 ? toy_x0(&other, here, y[j]) : toy_x0(&m, here, 7);
                cond[i] = toy_x0(&m, here, y[j]);
                out[i] = k == 0 || k == 2 ? cond[i] : (1 + w) * cond[i] - w * worse;
            }
            before = fabs(cond[0] - cond[1]) / 2, after = fabs(out[0] - out[1]) / 2; /* deviations of two numbers */
            for (int i = 0; i < D; i++) {
                double back = k == 3 ? phi * before / after + 1 - phi : k == 5 ? before / after : 1;
                CHECK_NEAR(x[j * D + i], A * begin[j * D + i] + C * back * out[i], 1e-13, "way %d, row %d", k, j);
            }
        }
    }
    double x[N * D];
    start(x);
    ways[0].guidance_high = sigma / 2;
    CHECK_REFUSED(rt_sample(&ways[0], &field, N, x, y, &err), RT_E_USAGE, "must not be negative and below the second");
    ways[3].guidance_rescale = 1.5;
    CHECK_REFUSED(rt_sample(&ways[3], &field, N, x, y, &err), RT_E_USAGE, "rescaled by 1.5; must be 0");
    guide.features = 3;
    CHECK_REFUSED(rt_sample(&ways[4], &field, N, x, y, &err), RT_E_USAGE, "the guide has 3 features, the model 2");
    rt_process_free(p);
}

static rt_status note(void *self, int k, double t, int64_t n, const double *x, rt_error *err)
{
    (void)err;
    double(*trace)[2 + N * D] = self;
    assert_int_equal(n, N);
    trace[k][0] = k, trace[k][1] = t;
    memcpy(trace[k] + 2, x, sizeof(double) * N * D);
    return RT_OK;
}

/* Transitions that do not join, a trace, a run that stops before data. */
static void paths_and_traces(void **state)
{
    (void)state;
    rt_process *p = named_process("ddpm");
    const double from[] = {1000, 700, 300}, to[] = {690, 310, 20};
    double x[N * D], begin[N * D], trace[4][2 + N * D], A, C;
    toy m = {.process = p, .prediction = rt_prediction_find("v", NULL), .c = 0.5};
    rt_field field = toy_field(&m, -1);
    start(x), start(begin);
    rt_sample_spec spec = {
        .process = p, .solver = rt_solver_find("ddim", NULL), .steps = 3, .from = from, .to = to, .trace = note, .trace_self = trace};
    CHECK_OK(rt_sample(&spec, &field, N, x, NULL, &err));
    assert_memory_equal(trace[0] + 2, begin, sizeof begin);
    assert_memory_equal(trace[3] + 2, x, sizeof x);
    assert_true(trace[0][1] == 1000 && trace[1][1] == 690 && trace[3][1] == 20 && trace[3][0] == 3);
    for (int k = 0; k < 3; k++) {
        CHECK_OK(rt_ddim_coefficients(p, from[k], to[k], &A, &C, &err));
        for (int j = 0; j < N * D; j++) {
            double s = trace[k][2 + j];
            CHECK_NEAR(trace[k + 1][2 + j], A * s + C * toy_x0(&m, s, 0), 1e-13, "step %d, %d", k, j);
        }
    }
    rt_process_free(p);
}

static rt_status ones(void *self, int k, int64_t n, double *z, rt_error *err)
{
    (void)self, (void)k, (void)err;
    for (int64_t j = 0; j < n * D; j++) z[j] = 1;
    return RT_OK;
}

/* A step to time 0 returns the x0-prediction itself, for every solver and process, alpha_s = 0 included. */
static void last_step_lands_on_x0(void **state)
{
    (void)state;
    rt_process *p;
    rt_row_text row;
    for (int i = 0; (p = some_process(i)); i++) {
        for (int r = 0; rt_solver_describe(r, &row); r++) {
            double x[N * D], begin[N * D], end = rt_process_end(p);
            toy m = {.process = p, .prediction = rt_prediction_find("x0", NULL), .c = 0.5};
            rt_field field = toy_field(&m, -1);
            start(x), start(begin);
            rt_sample_spec spec = {
                .process = p, .solver = rt_solver_find(row.name, NULL), .steps = 1, .from = (double[]){end, 0}, .noise = ones};
            CHECK_OK(rt_sample(&spec, &field, N, x, NULL, &err));
            double added = strcmp(row.name, "ddpm-large") ? 0 : rt_process_beta(p, end);
            for (int j = 0; j < N * D; j++) CHECK_NEAR(x[j], toy_x0(&m, begin[j], 0) + added, 1e-15, "%s", row.name);
            assert_string_equal(rt_solver_get_info(spec.solver)->name, row.name);
        }
        rt_process_free(p);
    }
}

/* On a straight path DDIM and Euler are the same step. */
static void euler_is_ddim_on_flow(void **state)
{
    (void)state;
    rt_process *p = named_process("flow");
    const double times[] = {1, 0.7, 0.25, 0.1, 0};
    double x[2][N * D];
    for (int r = 0; r < 2; r++) {
        toy m = {.process = p, .prediction = rt_prediction_find("velocity", NULL), .c = 0.5};
        rt_field field = toy_field(&m, -1);
        start(x[r]);
        rt_sample_spec spec = {.process = p, .solver = rt_solver_find(r ? "euler" : "ddim", NULL), .steps = 4, .from = times};
        CHECK_OK(rt_sample(&spec, &field, N, x[r], NULL, &err));
    }
    for (int j = 0; j < N * D; j++) CHECK_NEAR(x[1][j], x[0][j], 1e-14, "%d", j);
    rt_process_free(p);
}

/* A memory of the call at alpha 0, where log(alpha/beta) is infinite, is of no use: the third step has two terms, whatever the order. */
static void from_pure_noise(void **state)
{
    (void)state;
    rt_process_spec zero = rt_process_defaults("ddpm");
    zero.zero_snr = true;
    rt_process *z = make_process(&zero);
    toy m = {.process = z, .prediction = rt_prediction_find("v", NULL), .c = 0.5};
    rt_field field = toy_field(&m, -1);
    static const char *const rows[] = {"dpmpp-2m", "dpmpp-3m"};
    double x[3][N * D];
    for (int i = 0; i < 3; i++) {
        start(x[i]);
        CHECK_OK(rt_sample(&(rt_sample_spec){.process = z,
                                             .solver = rt_solver_find(rows[i > 0], NULL),
                                             .steps = i < 2 ? 3 : 4,
                                             .from = (double[]){1000, 700, 400, 200, 100}},
                           &field, N, x[i], NULL, &err));
        for (int j = 0; j < N * D; j++) assert_true(isfinite(x[i][j]));
    }
    for (int j = 0; j < N * D; j++) CHECK_NEAR(x[1][j], x[0][j], 1e-14, "%d", j);
    rt_process_free(z);
}

/* Each number is held to the tolerance on its own scale: a large one beside it makes no difference. */
static void each_on_its_own_scale(void **state)
{
    (void)state;
    rt_process *p = named_process("flow");
    toy m = {.process = p, .prediction = rt_prediction_find("velocity", NULL), .c = 0.5};
    rt_field field = toy_field(&m, -1);
    double x[2][N * D];
    for (int i = 0; i < 2; i++) {
        start(x[i]);
        if (i == 1) x[i][0] = 1e6;
        CHECK_OK(rt_sample(&(rt_sample_spec){.process = p,
                                             .solver = rt_solver_find("dopri5", NULL),
                                             .steps = 2,
                                             .from = (double[]){1, 0.5, 0.1},
                                             .options = {.tolerance = 1e-8}},
                           &field, N, x[i], NULL, &err));
    }
    for (int j = 1; j < N * D; j++) CHECK_NEAR(x[1][j], x[0][j], 1e-6, "%d", j);
    rt_process_free(p);
}

static rt_status broken_eval(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    (void)self, (void)x, (void)y, (void)err;
    for (int64_t i = 0; i < n * D; i++) out[i] = at->t < 500 && i == 3 ? NAN : 0;
    return RT_OK;
}

typedef struct told {
    rt_field_call calls[16];
    int n;
} told;

static rt_status telling_eval(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    told *t = self;
    (void)x, (void)y, (void)err;
    for (int64_t i = 0; i < n * D; i++) out[i] = 0;
    if (t->n < 16) t->calls[t->n++] = *at;
    return RT_OK;
}

/* A model is told which step its call belongs to and where that ends: also where a scheduler stands still, so that two steps start at one time, and
 * of the calls within a step. */
static void calls_are_told_their_step(void **state)
{
    (void)state;
    rt_process *p = some_process(0);
    double end = rt_process_end(p), from[] = {end, end, end / 2, end / 4}, to[] = {end, end / 2, end / 4, 0}, x[D] = {1};
    for (int heun = 0; heun < 2; heun++) {
        told t = {.n = 0};
        rt_field field = {.self = &t, .eval = telling_eval, .prediction = rt_prediction_find("x0", NULL), .features = D, .null_class = -1};
        rt_sample_spec spec = {.process = p,
                               .solver = rt_solver_find(heun ? "heun" : "ddim", NULL),
                               .steps = 4,
                               .from = from,
                               .to = to,
                               .network_times = from};
        if (heun) spec.from = from + 1, spec.to = to + 1, spec.network_times = NULL, spec.steps = 3;
        CHECK_OK(rt_sample(&spec, &field, 1, x, NULL, &err));
        assert_int_equal(t.n, heun ? 5 : 4);
        for (int i = 0; i < t.n; i++) {
            int k = heun ? i / 2 : i;
            assert_int_equal(t.calls[i].step, k);
            assert_true(t.calls[i].target == spec.to[k] && t.calls[i].solver == spec.solver);
            assert_true(t.calls[i].t == (heun && i % 2 ? spec.to[k] : spec.from[k]));
        }
    }
    rt_process_free(p);
}

static rt_status failing_eval(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    (void)self, (void)at, (void)n, (void)x, (void)y, (void)out;
    return rt_error_set(err, RT_E_DEVICE, "no device");
}

static void refusals(void **state)
{
    (void)state;
    rt_process_spec zero = rt_process_defaults("ddpm");
    zero.zero_snr = true;
    rt_process *p = named_process("ddpm"), *z = make_process(&zero);
    toy m = {.process = p, .prediction = rt_prediction_find("epsilon", NULL), .c = 0.5};
    rt_field field = toy_field(&m, -1), classes = toy_field(&m, 3);
    double x[N * D];
    const int64_t y[N] = {0, 1, 2};
    const double times[] = {1000, 500, 0}, rising[] = {500, 1000, 0}, outside[] = {1001, 500, 0};
    start(x);
    rt_sample_spec good = {.process = p, .solver = rt_solver_find("ddim", NULL), .steps = 2, .from = times}, spec = good;
    spec.steps = 0;
    CHECK_REFUSED(rt_sample(&spec, &field, N, x, NULL, &err), RT_E_USAGE, "0 steps");
    spec = good, spec.from = rising;
    CHECK_REFUSED(rt_sample(&spec, &field, N, x, NULL, &err), RT_E_USAGE, "from time 500 to 1000");
    spec = good, spec.from = outside;
    CHECK_REFUSED(rt_sample(&spec, &field, N, x, NULL, &err), RT_E_USAGE, "leaves the process");
    spec = good, spec.guidance = 1;
    CHECK_REFUSED(rt_sample(&spec, &field, N, x, y, &err), RT_E_USAGE, "null class");
    CHECK_REFUSED(rt_sample(&spec, &classes, N, x, NULL, &err), RT_E_USAGE, "classes");
    spec.guidance = NAN;
    CHECK_REFUSED(rt_sample(&spec, &classes, N, x, y, &err), RT_E_USAGE, "guidance is nan");
    spec = good, spec.clip = -1;
    CHECK_REFUSED(rt_sample(&spec, &field, N, x, NULL, &err), RT_E_USAGE, "clip is -1");
    CHECK_REFUSED(rt_sample(&good, &field, -1, x, NULL, &err), RT_E_USAGE, "-1 samples");
    assert_int_equal(m.calls, 0);
    spec = good, spec.process = z; /* alpha_T = 0: refused before the network is asked */
    CHECK_REFUSED(rt_sample(&spec, &field, N, x, NULL, &err), RT_E_INVALID, "epsilon-prediction at alpha 0");
    assert_int_equal(m.calls, 0);
    CHECK_OK(rt_sample(&good, &field, 0, x, NULL, &err));
    field.eval = broken_eval;
    spec = good, spec.from = (double[]){1000, 400, 100, 0}, spec.steps = 3;
    CHECK_REFUSED(rt_sample(&spec, &field, N, x, NULL, &err), RT_E_DIVERGED, "sample 1 is nan after step 2 (time 400 to 100)");
    field.eval = failing_eval;
    CHECK_REFUSED(rt_sample(&good, &field, N, x, NULL, &err), RT_E_DEVICE, "no device");
    rt_error err = {0};
    assert_null(rt_solver_find("dimm", &err));
    assert_non_null(strstr(err.text, "did you mean 'ddim'"));
    rt_process_free(p), rt_process_free(z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guided_and_clipped),
        cmocka_unit_test(ways_to_guide),
        cmocka_unit_test(paths_and_traces),
        cmocka_unit_test(last_step_lands_on_x0),
        cmocka_unit_test(euler_is_ddim_on_flow),
        cmocka_unit_test(calls_are_told_their_step),
        cmocka_unit_test(refusals),
        cmocka_unit_test(from_pure_noise),
        cmocka_unit_test(each_on_its_own_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
