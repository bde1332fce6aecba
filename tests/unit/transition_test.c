/* transition_test.c -- noising, DDIM and its inverse, guidance, weights. */
#include "diffusion_check.h"

#include "base/internal.h"
#include "retort/ops.h"

enum { T = 1024, MAX_STEPS = 1024 };

/* With one x0 and eps for all times, DDIM is exact: it lands on alpha_t x0 + beta_t eps, in one step or in two. */
static void steps_compose(void **state)
{
    (void)state;
    rt_process *p;
    uint64_t seed = 5;
    for (int i = 0; (p = some_process(i)); i++) {
        double end = rt_process_end(p), unit = rt_process_discrete_steps(p) ? 1 : 0.01, scale = rt_process_noise_scale(p);
        for (int k = 0; k < 200; k++) {
            double a = fabs(wobble(&seed)) * end, b = fabs(wobble(&seed)) * end, s = fmax(a, b), t = fmin(a, b);
            if (k % 10 == 0) s = end;
            if (k % 15 == 0) t = 0;
            if (unit == 1) s = ceil(s), t = floor(t);
            if (s - t < 2 * unit) continue;
            double u = unit == 1 ? floor((s + t) / 2) : (s + t) / 2, x0 = wobble(&seed), eps = wobble(&seed), A, C;
            double x = rt_process_alpha(p, s) * x0 + rt_process_beta(p, s) * eps;
            double want = rt_process_alpha(p, t) * x0 + rt_process_beta(p, t) * eps;
            CHECK_OK(rt_ddim_coefficients(p, s, t, &A, &C, &err));
            CHECK_NEAR(A * x + C * x0, want, TOL_MAP * scale, "%s, %g to %g", rt_process_name(p), s, t);
            CHECK_OK(rt_ddim_coefficients(p, s, u, &A, &C, &err));
            x = A * x + C * x0;
            CHECK_OK(rt_ddim_coefficients(p, u, t, &A, &C, &err));
            CHECK_NEAR(A * x + C * x0, want, TOL_MAP * scale, "%s, %g to %g to %g", rt_process_name(p), s, u, t);
        }
        rt_process_free(p);
    }
}

/* (1.31)-(1.34) for every start of every pair of nested grids, s = 1 included: the pseudo-target reproduces the two steps, and is itself what
 * long double says to 1e-15/(alpha_t beta_s - alpha_s beta_t). */
static void lemma_2(void **state)
{
    (void)state;
    static double times[MAX_STEPS + 1];
    const int steps[] = {1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1};
    rt_process *zero, *p[3];
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = T, spec.betas = "squaredcos_cap_v2";
    p[0] = make_process(&spec);
    spec.zero_snr = true;
    p[1] = zero = make_process(&spec);
    p[2] = named_process("flow");
    assert_true(rt_process_alpha(zero, T) == 0);
    uint64_t seed = 11;
    for (int i = 0; i < 3; i++) {
        CHECK_OK(rt_grid_nested(p[i], steps, 11, times, &err));
        for (int N = T; N >= 2; N /= 2) {
            int stride = T / N;
            for (int k = 0; k + 2 <= N; k += 2) {
                double s = times[k * stride], u = times[(k + 1) * stride], t = times[(k + 2) * stride];
                double xs = 2 * wobble(&seed), first = wobble(&seed), second = wobble(&seed), A, C, P, Q;
                CHECK_OK(rt_ddim_coefficients(p[i], s, u, &A, &C, &err));
                double xu = A * xs + C * first; /* (1.31) */
                CHECK_OK(rt_ddim_coefficients(p[i], u, t, &A, &C, &err));
                double xt = A * xu + C * second; /* (1.32) */
                CHECK_OK(rt_ddim_target_coefficients(p[i], s, t, &P, &Q, &err));
                double target = P * xt + Q * xs; /* (1.34) */
                CHECK_OK(rt_ddim_coefficients(p[i], s, t, &A, &C, &err));
                CHECK_NEAR(A * xs + C * target, xt, TOL_MAP, "%s, %d steps, %g to %g", rt_process_name(p[i]), N, s, t); /* (1.33) */

                long double as = rt_process_alpha(p[i], s), bs = rt_process_beta(p[i], s), at = rt_process_alpha(p[i], t),
                            bt = rt_process_beta(p[i], t);
                long double determinant = at * bs - as * bt;
                CHECK_NEAR(target, (double)((bs * xt - bt * xs) / determinant), TOL_TARGET / (double)determinant,
                           "%s, target, %d steps, %g to %g", rt_process_name(p[i]), N, s, t);
            }
        }
        rt_process_free(p[i]);
    }
}

static double result(rt_program *program, const rt_node *node, int i) { return ((const double *)rt_program_data(program, node))[i]; }

/* The same in graphs, for a batch whose samples stand at different times, one of them at alpha_s = 0 and one ending at data. */
static void graphs(void **state)
{
    (void)state;
    enum { B = 3, D = 4 };
    const double as[B] = {0, 0.6, 0.3}, at[B] = {0.5, 0.9, 1};
    double bs[B], bt[B], x[B * D], x0[B * D];
    uint64_t seed = 3;
    for (int i = 0; i < B; i++) bs[i] = sqrt(1 - as[i] * as[i]), bt[i] = sqrt(1 - at[i] * at[i]);
    for (int i = 0; i < B * D; i++) x[i] = wobble(&seed), x0[i] = wobble(&seed);

    rt_graph *g = rt_graph_new(RT_F64);
    const int64_t rows[] = {B, D}, one[] = {B, 1};
    rt_node *X = rt_input(g, "x", RT_F64, 2, rows), *X0 = rt_reals(g, 2, rows, x0);
    rt_node *AS = rt_reals(g, 2, one, as), *BS = rt_reals(g, 2, one, bs), *AT = rt_reals(g, 2, one, at), *BT = rt_reals(g, 2, one, bt);
    double a[B], c[B]; /* (1.30) */
    for (int i = 0; i < B; i++) a[i] = bt[i] / bs[i], c[i] = at[i] - as[i] * a[i];
    rt_node *noisy = rt_diffuse(X0, AS, BS, X), *moved = rt_ddim_step(X, X0, AS, BS, AT, BT),
            *back = rt_ddim_target(X, moved, rt_reals(g, 2, one, a), rt_reals(g, 2, one, c));
    rt_node *guide = rt_guide(X0, X, 1.5), *outputs[] = {noisy, moved, back, guide};
    rt_program *program = NULL;
    CHECK_OK(rt_compile(
        &program, g,
        &(rt_program_spec){.outputs = outputs, .n_outputs = 4, .batch = 1, .backend = rt_backend_find("reference"), .threads = 1}, &err));
    memcpy(rt_program_data(program, X), x, sizeof x);
    CHECK_OK(rt_run(program, &(rt_clock){0}, &err));
    for (int i = 0; i < B * D; i++) {
        int b = i / D;
        double eps = (x[i] - as[b] * x0[i]) / bs[b];
        CHECK_NEAR(result(program, noisy, i), as[b] * x0[i] + bs[b] * x[i], TOL_GRAPH, "diffuse %d", i);
        CHECK_NEAR(result(program, moved, i), at[b] * x0[i] + bt[b] * eps, TOL_GRAPH, "ddim %d", i);
        CHECK_NEAR(result(program, back, i), x0[i], TOL_GRAPH, "target %d", i);
        CHECK_NEAR(result(program, guide, i), 2.5 * x0[i] - 1.5 * x[i], TOL_GRAPH, "guide %d", i);
    }
    rt_program_free(program);
    rt_graph_free(g);
}

/* The factor between the squared errors of x0 and of another prediction, at one x: by splitting two outputs that differ. */
static double by_conversion(const char *name, double alpha, double beta)
{
    const double x = 0.3, low = -1, high = 1.5;
    double out[2], x0[2] = {low, high}, eps[2] = {(x - alpha * low) / beta, (x - alpha * high) / beta};
    CHECK_OK(rt_prediction_join(rt_prediction_find(name, NULL), 2, x0, eps, alpha, beta, out, &err));
    return pow((out[1] - out[0]) / (high - low), 2);
}

static void weights(void **state)
{
    (void)state;
    static const char *const names[] = {"uniform",          "uniform-x0", "uniform-epsilon", "uniform-v",  "uniform-score",
                                        "uniform-velocity", "snr",        "truncated-snr",   "min-snr",    "edm",
                                        "sigmoid",          "alpha",      "alpha2",          "alpha-beta", "map"};
    const int n = RT_COUNT(names);
    rt_process *p;
    for (int q = 4; (p = some_process(q)); q++) {
        for (double s = 0.05; s <= 0.96; s += 0.05) {
            double t = s - 0.04, lambda = rt_process_log_snr(p, s), snr = exp(lambda), A, C, alpha = rt_process_alpha(p, s),
                   beta = rt_process_beta(p, s);
            CHECK_OK(rt_ddim_coefficients(p, s, t, &A, &C, &err));
            /* the sigmoid weight of epsilon is 1/(1 + e^(lambda - 2)); EDM weighs x0 by (s^2 + d^2)/(s d)^2 */
            double sigma2 = exp(-lambda);
            const double want[] = {1,
                                   by_conversion("x0", alpha, beta),
                                   by_conversion("epsilon", alpha, beta),
                                   by_conversion("v", alpha, beta),
                                   by_conversion("score", alpha, beta),
                                   by_conversion("velocity", alpha, beta),
                                   snr,
                                   snr > 1 ? snr : 1,
                                   snr < 5 ? snr : 5,
                                   (sigma2 + 0.25) / (sigma2 * 0.25),
                                   snr / (1 + exp(lambda - 2)),
                                   beta * beta / alpha * snr, /* omega SNR: the rows are omega's of (1.18) */
                                   beta * beta * snr,
                                   beta * beta * beta / alpha * snr,
                                   C * C};
            for (int i = 0; i < n; i++) {
                const rt_weight *w = rt_weight_find(names[i], NULL);
                assert_non_null(w);
                assert_string_equal(rt_weight_name(w), names[i]);
                CHECK_NEAR(rt_weight_at(w, p, s, t), want[i], 1e-10 * want[i], "%s of %s at %g", names[i], rt_process_name(p), s);
            }
        }
        rt_process_free(p);
    }
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.zero_snr = true;
    p = make_process(&spec); /* at alpha = 0 every weight is a number */
    for (int i = 0; i < n; i++) assert_true(isfinite(rt_weight_at(rt_weight_find(names[i], NULL), p, 1000, 500)));
    CHECK_NEAR(rt_weight_at(rt_weight_find("map", NULL), p, 1000, 500), pow(rt_process_alpha(p, 500), 2), 1e-15, "map from alpha 0");
    rt_process_free(p);
    rt_error err = {0};
    assert_null(rt_weight_find("truncated", &err));
    assert_non_null(strstr(err.text, "did you mean 'truncated-snr'"));
    rt_row_text row;
    for (int i = 0; i < n; i++) assert_true(rt_weight_describe(i, &row) && !strcmp(row.name, names[i]));
    assert_false(rt_weight_describe(n, &row));
}

static void refusals(void **state)
{
    (void)state;
    rt_process *p = cosine_1024();
    double a, b;
    CHECK_REFUSED(rt_ddim_coefficients(p, 3, 3, &a, &b, &err), RT_E_USAGE, "from time 3 to 3");
    CHECK_REFUSED(rt_ddim_coefficients(p, 3, 9, &a, &b, &err), RT_E_USAGE, "from time 3 to 9");
    CHECK_REFUSED(rt_ddim_target_coefficients(p, 1025, 9, &a, &b, &err), RT_E_USAGE, "leaves the process");
    rt_process_free(p);
    p = named_process("vp-linear"); /* neighbours in double that share alpha and beta: (1.34) would divide by 0 */
    double s = 0.01, t = nextafter(s, 0);
    for (; rt_process_beta(p, s) != rt_process_beta(p, t); s = t, t = nextafter(t, 0)) assert_true(s > 0.0099);
    CHECK_REFUSED(rt_ddim_target_coefficients(p, s, t, &a, &b, &err), RT_E_USAGE, "coarser grid");
    rt_process_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_compose), cmocka_unit_test(lemma_2),  cmocka_unit_test(graphs),
        cmocka_unit_test(weights),       cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
