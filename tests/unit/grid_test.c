/* grid_test.c -- the times of samplers: known grids, nesting, monotony, refusals. */
#include "diffusion_check.h"

#include "diffusion/diffusion_rows.h"

enum { MOST = 1024 };

static void expect_times(const double *times, const int *want, int n)
{
    for (int i = 0; i < n; i++) assert_int_equal((int)times[i] - 1, want[i]);
    assert_true(times[n] == 0);
}

/* The table of the lecture notes, in diffusers' numbers: time i is timestep i - 1. */
static void known_grids(void **state)
{
    (void)state;
    double times[MOST + 1];
    static const int t1000[4][8] = {{999, 874, 749, 624, 499, 374, 249, 124}, {999, 749, 499, 249}, {999, 499}, {999}};
    static const int t1024[4][8] = {{1023, 895, 767, 639, 511, 383, 255, 127}, {1023, 767, 511, 255}, {1023, 511}, {1023}};
    rt_process *a = named_process("ddpm"), *b = cosine_1024();
    for (int r = 0; r < 4; r++) {
        for (int name = 0; name < 2; name++) {
            CHECK_OK(rt_grid_build(name ? "trailing" : "uniform", a, 8 >> r, times, &err));
            expect_times(times, t1000[r], 8 >> r);
            CHECK_OK(rt_grid_build(name ? "trailing" : "uniform", b, 8 >> r, times, &err));
            expect_times(times, t1024[r], 8 >> r);
        }
    }
    /* numpy: np.round(np.linspace(0, 999, 7))[::-1], (np.arange(7) * (1000 // 7))[::-1], np.round(np.arange(1000, 0, -1000/16)) - 1 */
    CHECK_OK(rt_grid_build("linspace", a, 7, times, &err));
    expect_times(times, (int[]){999, 832, 666, 500, 333, 166, 0}, 7);
    CHECK_OK(rt_grid_build("leading", a, 7, times, &err));
    expect_times(times, (int[]){852, 710, 568, 426, 284, 142, 0}, 7);
    CHECK_OK(rt_grid_build("trailing", a, 16, times, &err));
    expect_times(times, (int[]){999, 937, 874, 811, 749, 687, 624, 561, 499, 437, 374, 311, 249, 187, 124, 61}, 16);
    CHECK_OK(rt_grid_build("uniform", a, 16, times, &err));
    assert_true(times[1] == 938 && times[3] == 813 && times[15] == 63); /* halves round up */
    CHECK_OK(rt_grid_build("quadratic", b, 4, times, &err));
    expect_times(times, (int[]){1023, 575, 255, 63}, 4);
    rt_process_free(a), rt_process_free(b);
}

static void continuous_grids(void **state)
{
    (void)state;
    double times[MOST + 1];
    rt_process *p = named_process("flow");
    CHECK_OK(rt_grid_build("uniform", p, 4, times, &err));
    for (int k = 0; k <= 4; k++) assert_true(times[k] == (4 - k) / 4.0);
    CHECK_OK(rt_grid_build("linspace", p, 3, times, &err));
    CHECK_NEAR(times[1], (1 + 0.001) / 2, 1e-15, "linspace, middle");
    CHECK_NEAR(times[2], 0.001, 1e-15, "linspace, last");
    rt_process_free(p);
    /* Karras et al., (5), with sigma = beta/alpha between the ends of the cosine process: e^10 and sigma at t = 1/1000 */
    p = named_process("vp-cosine");
    CHECK_OK(rt_grid_build("karras", p, 5, times, &err));
    double first = rt_process_beta(p, 0.001) / rt_process_alpha(p, 0.001);
    for (int k = 0; k < 5; k++) {
        double sigma = pow(exp(10.0 / 7) + k / 4.0 * (pow(first, 1.0 / 7) - exp(10.0 / 7)), 7);
        CHECK_NEAR(rt_process_beta(p, times[k]) / rt_process_alpha(p, times[k]), sigma, 1e-6 * sigma, "karras %d", k);
    }
    CHECK_OK(rt_grid_build("log-snr", p, 5, times, &err));
    for (int k = 1; k < 4; k++)
        CHECK_NEAR(rt_process_log_snr(p, times[k]), (rt_process_log_snr(p, times[k - 1]) + rt_process_log_snr(p, times[k + 1])) / 2, 1e-6,
                   "log-snr %d", k);
    rt_process_free(p);
}

/* scipy.stats.beta.ppf(q, 0.6, 0.6) of SciPy 1.17.1, and scipy.special.betaincinv for other shapes. */
static void beta_quantiles(void **state)
{
    (void)state;
    static const double ppf[][2] = {{1e-9, 1.85588246249141e-15},
                                    {1e-4, 3.998377158137721e-07},
                                    {1e-3, 1.855873851745199e-05},
                                    {0.01, 0.0008612388215429059},
                                    {1.0 / 17, 0.01644395755206111},
                                    {0.1, 0.03958440558878085},
                                    {0.25, 0.17568037865269498},
                                    {1.0 / 3, 0.2754132907776234},
                                    {0.5, 0.5},
                                    {0.6, 0.6372990092467856},
                                    {0.75, 0.824319621347305},
                                    {0.9, 0.9604155944112192},
                                    {0.99, 0.9991387611784571},
                                    {0.999, 0.9999814412614826},
                                    {0.9999, 0.9999996001622842},
                                    {1 - 1e-9, 0.9999999999999981},
                                    {0, 0},
                                    {1, 1}};
    for (size_t i = 0; i < sizeof ppf / sizeof *ppf; i++)
        CHECK_NEAR(rt__beta_quantile(ppf[i][0], 0.6, 0.6), ppf[i][1], TOL_BETA * fmin(ppf[i][1], 0.1) + 1e-16, "quantile %g", ppf[i][0]);
    static const double shapes[][5] = {{2, 3, 0.09761146288641434, 0.27238394207510536, 0.5824535745243333},
                                       {0.5, 0.5, 0.0061558297024311365, 0.2061073738537634, 0.9045084971874736},
                                       {5, 0.7, 0.6124990788010513, 0.8463669506312396, 0.981158889193935}};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++)
            CHECK_NEAR(rt__beta_quantile((const double[]){0.05, 0.3, 0.8}[k], shapes[i][0], shapes[i][1]), shapes[i][2 + k], TOL_BETA,
                       "Beta(%g, %g)", shapes[i][0], shapes[i][1]);
    for (int k = 1; k < 100; k++) /* arcsine law: sin^2(pi q/2) */
        CHECK_NEAR(rt__beta_quantile(k / 100.0, 0.5, 0.5), pow(sin(M_PI * k / 200), 2), TOL_BETA, "arcsine, %d", k);
}

/* What diffusers makes of sigma_min 0.002 and sigma_max 80 (EDM's own), and of flow matching's sigmas 1..0.001: sigmas, noisy to clean. */
static void sigmas_of_diffusers(void **state)
{
    (void)state;
    double times[MOST + 1];
    static const char *const rows[] = {"edm", "ve"};
    for (int r = 0; r < 2; r++) {
        rt_process *p = named_process(rows[r]);
        double first = 80, last = r ? 0.002 * pow(40000, 0.001) : 0.002; /* ve's least noisy time is 1/1000 */
        for (int N = 2; N <= 40; N++) {
            CHECK_OK(rt_grid_build("exponential", p, N, times, &err));
            for (int k = 0; k < N; k++) {
                double sigma = exp(log(first) + (log(last) - log(first)) * k / (N - 1));
                CHECK_NEAR(rt_process_beta(p, times[k]), sigma, 1e-12 * sigma, "exponential, %s, %d of %d", rows[r], k, N);
            }
            CHECK_OK(rt_grid_build("karras", p, N, times, &err));
            for (int k = 0; k < N; k++) {
                double sigma = pow(pow(first, 1.0 / 7) + (pow(last, 1.0 / 7) - pow(first, 1.0 / 7)) * k / (N - 1), 7);
                CHECK_NEAR(rt_process_beta(p, times[k]), sigma, 1e-12 * sigma, "karras, %s, %d of %d", rows[r], k, N);
            }
        }
        rt_process_free(p);
    }
    rt_process *flow = named_process("flow");
    CHECK_OK(rt_grid_build("beta", flow, 5, times, &err));
    const double ppf[] = {1, 0.824319621347305, 0.5, 0.17568037865269498, 0};
    for (int k = 0; k < 5; k++) CHECK_NEAR(rt_process_beta(flow, times[k]), 0.001 + 0.999 * ppf[k], 4 * TOL_BETA, "beta, %d", k);
    CHECK_OK(rt_grid_build("quadratic", flow, 50, times, &err));
    for (int k = 0; k <= 50; k++) CHECK_NEAR(sqrt(times[k]), (50 - k) / 50.0, 1e-15, "quadratic, %d", k);
    rt_process_free(flow);
    rt_process *p = named_process("ddpm"); /* 1 + 999 ppf, halves up */
    CHECK_OK(rt_grid_build("beta", p, 5, times, &err));
    expect_times(times, (int[]){999, 823, 500, 176, 0}, 5);
    rt_process_free(p);
}

/* Every row, every process, every number of steps: strictly falling from the process to 0, whole on discrete processes. */
static void all_fall_strictly(void **state)
{
    (void)state;
    double times[MOST + 1];
    rt_row_text row;
    rt_process *p;
    for (int i = 0; (p = some_process(i)); i++) {
        int T = rt_process_discrete_steps(p), most = T ? T : 200;
        for (int g = 0; rt_grid_describe(g, &row); g++) {
            if (!strcmp(row.name, "search")) continue; /* needs a model */
            for (int N = 1; N <= most; N += N < 70 ? 1 : 61) {
                if (N + 61 > most) N = most;
                CHECK_OK(rt_grid_build(row.name, p, N, times, &err));
                assert_true(times[N] == 0 && times[0] <= rt_process_end(p));
                if (strcmp(row.name, "leading")) assert_true(times[0] == rt_process_end(p));
                for (int k = 0; k < N; k++) {
                    assert_true(times[k] > times[k + 1]);
                    if (T) assert_true(times[k] == floor(times[k]));
                }
            }
        }
        rt_process_free(p);
    }
}

static void nested_grids_nest(void **state)
{
    (void)state;
    double fine[MOST + 1], coarse[MOST + 1];
    rt_process_spec spec = rt_process_defaults("ddpm");
    const int lists[][4] = {{64, 32, 16, 8}, {16, 8, 4, 2}, {48, 24, 6, 3}, {36, 12, 4, 1}, {512, 64, 8, 1}};
    for (int T = 990; T <= 1024; T++) {
        spec.timesteps = T;
        rt_process *p = make_process(&spec);
        for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
            const int *steps = lists[l];
            CHECK_OK(rt_grid_nested(p, steps, 4, fine, &err));
            for (int r = 1; r < 4; r++) { /* the shorter list gives the same coarse grids: nothing is decided by the finer ones */
                CHECK_OK(rt_grid_nested(p, steps + r, 4 - r, coarse, &err));
                for (int k = 0; k <= steps[r]; k++) assert_true(coarse[k] == fine[k * steps[0] / steps[r]]);
            }
            for (int k = 0; k <= steps[3]; k++)
                assert_true(coarse[k] == floor((double)T * (steps[3] - k) / steps[3] + 0.5)); /* the coarsest */
            for (int k = 0; k < steps[0]; k++) assert_true(fine[k] - fine[k + 1] <= ceil((double)T / steps[0]) + 1);
        }
        rt_process_free(p);
    }
    spec.timesteps = 1000;
    rt_process *p = make_process(&spec);
    CHECK_OK(rt_grid_nested(p, (int[]){32, 8}, 2, fine, &err)); /* 125 halves to 63 | 62, 63 to 32 | 31, 62 to 31 | 31 */
    assert_true(fine[28] == 125 && fine[30] == 63 && fine[31] == 32 && fine[29] == 94);
    rt_process_free(p);
    p = named_process("flow");
    CHECK_OK(rt_grid_nested(p, (int[]){12, 4, 2}, 3, fine, &err));
    for (int k = 0; k <= 12; k++) CHECK_NEAR(fine[k], (12 - k) / 12.0, 1e-15, "continuous %d", k);
    rt_process_free(p);
}

static void refusals(void **state)
{
    (void)state;
    double times[MOST + 1];
    rt_process *p = cosine_1024();
    CHECK_REFUSED(rt_grid_build("uniform", p, 0, times, &err), RT_E_USAGE, "0 steps");
    CHECK_REFUSED(rt_grid_build("uniform", p, 1025, times, &err), RT_E_USAGE, "take at most 1024");
    CHECK_REFUSED(rt_grid_build("search", p, 8, times, &err), RT_E_USAGE, "made for a model");
    CHECK_REFUSED(rt_grid_build("carras", p, 8, times, &err), RT_E_USAGE, "did you mean 'karras'");
    CHECK_REFUSED(rt_grid_nested(p, (int[]){8, 3}, 2, times, &err), RT_E_USAGE, "steps 3 after 8");
    CHECK_REFUSED(rt_grid_nested(p, (int[]){4, 8}, 2, times, &err), RT_E_USAGE, "steps 8 after 4");
    CHECK_REFUSED(rt_grid_nested(p, (int[]){4, 0}, 2, times, &err), RT_E_USAGE, "0 steps");
    CHECK_REFUSED(rt_grid_nested(p, (int[]){2048, 1}, 2, times, &err), RT_E_USAGE, "2048 steps");
    CHECK_REFUSED(rt_grid_nested(p, NULL, 0, times, &err), RT_E_USAGE, "at least one");
    CHECK_REFUSED(rt_grid_check(p, 2, (double[]){1024, 512, 1}, &err), RT_E_USAGE, "ends at time 1");
    CHECK_REFUSED(rt_grid_check(p, 2, (double[]){512, 1024, 0}, &err), RT_E_USAGE, "from time 512 to 1024");
    CHECK_REFUSED(rt_grid_check(p, 2, (double[]){512, 512, 0}, &err), RT_E_USAGE, "from time 512 to 512");
    CHECK_REFUSED(rt_grid_check(p, 2, (double[]){2000, 512, 0}, &err), RT_E_USAGE, "leaves the process");
    CHECK_REFUSED(rt_grid_check(p, 0, (double[]){0}, &err), RT_E_USAGE, "0 steps");
    CHECK_OK(rt_grid_check(p, 2, (double[]){1024, 3, 0}, &err));
    rt_process_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_grids),       cmocka_unit_test(continuous_grids),
        cmocka_unit_test(beta_quantiles),    cmocka_unit_test(sigmas_of_diffusers),
        cmocka_unit_test(all_fall_strictly), cmocka_unit_test(nested_grids_nest),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
