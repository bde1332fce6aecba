/* density_test.c -- how often training draws a time: tables and draws against distribution functions in closed form, and what importance keeps. */
#include "diffusion_check.h"

#include "retort/ops.h"

enum { DRAWS = 100000 };

static double normal_below(double z) { return (1 + erf(z / sqrt(2))) / 2; }
static double sigma_at(const rt_process *p, double t) { return rt_process_beta(p, t) / rt_process_alpha(p, t); }

/* The span of log-normal and log-snr: from the last time of a grid to the end, within log-SNR -20..20. */
static void span(const rt_process *p, double *low, double *high)
{
    double unit = rt_process_discrete_steps(p) ? 1 : !strcmp(rt_process_name(p), "edm") ? 0.002 / 80 : 0.001;
    *low = log(fmax(sigma_at(p, unit), exp(-10)));
    *high = log(fmin(sigma_at(p, rt_process_end(p)), exp(10)));
}

/* F(t) on a continuous process; on a discrete one the probability of the times up to t, a whole number. */
static double below(const char *name, const rt_process *p, const rt_weight *w, double t)
{
    int T = rt_process_discrete_steps(p);
    double end = rt_process_end(p), low, high, sum = 0, total = 0;
    span(p, &low, &high);
    if (!strcmp(name, "uniform")) return t / end;
    if (!strcmp(name, "logit-normal")) return t >= end ? 1 : normal_below(log(t / end / (1 - t / end)));
    if (!strcmp(name, "importance")) { /* Riemann sums: 15/16 by weight and variance of unit normal data, 1/16 even */
        int cells = T ? T : 4096;
        for (int k = 0; k < cells; k++) {
            double s = T ? k + 1 : (k + 0.5) / cells, a = rt_process_alpha(p, s), b = rt_process_beta(p, s);
            double mass = rt_weight_at(w, p, s, 0) / (1 + a * a / (b * b)), part = fmin(fmax(t / end * cells - k, 0), 1);
            sum += part * mass, total += mass;
        }
        return sum / total * 15 / 16 + t / end / 16;
    }
    double at = T ? fmin(t + 0.5, end) : t, l = fmin(fmax(log(sigma_at(p, at)), low), high); /* half-way to the next time */
    if (!strcmp(name, "log-snr")) return (l - low) / (high - low);
    double first = normal_below((low + 1.2) / 1.2), last = normal_below((high + 1.2) / 1.2);
    return (normal_below((l + 1.2) / 1.2) - first) / (last - first);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 100,000 draws as training makes them, from the counter-based generator; the Kolmogorov distance to F. */
static double distance(const char *name, const rt_process *p, const rt_weight *w, int n, const double *times)
{
    static double x[DRAWS];
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *k = rt_randint(g, "t", 1, (int64_t[]){RT_BATCH}, n), *t = rt_index_select(rt_reals(g, 1, (int64_t[]){n}, times), 0, k);
    rt_program *program = NULL;
    CHECK_OK(rt_compile(
        &program, g,
        &(rt_program_spec){.outputs = &t, .n_outputs = 1, .batch = DRAWS, .backend = rt_backend_find("reference"), .threads = 1}, &err));
    CHECK_OK(rt_run(program, &(rt_clock){.seed = 5, .total = DRAWS}, &err));
    memcpy(x, rt_program_data(program, t), sizeof x);
    qsort(x, DRAWS, sizeof *x, by_value);
    bool whole = rt_process_discrete_steps(p) > 0;
    double worst = 0;
    for (int i = 0; i < DRAWS; i++) {
        if (i + 1 < DRAWS && whole && x[i + 1] == x[i]) continue; /* F jumps at whole times */
        if (!whole && i % 997) continue;
        worst = fmax(worst, fabs((i + 1.0) / DRAWS - below(name, p, w, x[i])));
    }
    rt_program_free(program);
    rt_graph_free(g);
    return worst;
}

static void draws_follow_the_density(void **state)
{
    (void)state;
    rt_row_text row;
    rt_process *p;
    const rt_weight *w = rt_weight_find("min-snr", NULL);
    for (int i = 0; (p = some_process(i)); i++) {
        for (int d = 0; rt_density_describe(d, &row); d++) {
            const rt_density *density = rt_density_find(row.name, NULL);
            assert_string_equal(rt_density_name(density), row.name);
            int n = rt_density_count(density, p), T = rt_process_discrete_steps(p);
            double *times = calloc((size_t)(2 * n), sizeof *times), *factor = times + n;
            CHECK_OK(rt_density_times(density, p, w, n, times, factor, &err));
            for (int m = 0; m < n; m++) {
                assert_true(times[m] > 0 && times[m] <= rt_process_end(p) && (!m || times[m] >= times[m - 1]));
                if (T) assert_true(times[m] == floor(times[m]));
                if (strcmp(row.name, "importance")) assert_true(factor[m] == 1);
                if (!T && m % 150 == 0)
                    CHECK_NEAR(below(row.name, p, w, times[m]), (m + 0.5) / n, TOL_QUANTILE, "%s of %s, %d", row.name, rt_process_name(p),
                               m);
            }
            for (int m = 1; m < n && T; m++) /* what falls below a whole time: to one entry of the table */
                if (times[m] > times[m - 1])
                    CHECK_NEAR(below(row.name, p, w, times[m - 1]), (double)m / n, 1.0 / n + TOL_QUANTILE, "%s up to %g", row.name,
                               times[m - 1]);
            CHECK_NEAR(distance(row.name, p, w, n, times), 0, TOL_KOLMOGOROV / sqrt(DRAWS) + 1.0 / n, "%s on %s", row.name,
                       rt_process_name(p));
            free(times);
        }
        rt_process_free(p);
    }
}

/* The mean of factor x weight x loss is that over uniform times, whatever the loss; on unit normal data, whose loss is beta^2/(alpha^2 + beta^2),
 * every draw gives nearly the mean itself. */
static void importance_is_unbiased(void **state)
{
    (void)state;
    static const char *const weights[] = {"uniform", "uniform-epsilon", "truncated-snr", "min-snr", "uniform-velocity"};
    const rt_density *density = rt_density_find("importance", NULL);
    rt_process *p;
    for (int i = 0; (p = some_process(i)); i++) {
        int T = rt_process_discrete_steps(p), n = rt_density_count(density, p), N = T ? T : 1 << 16;
        double *times = calloc((size_t)(2 * n), sizeof *times), *factor = times + n;
        for (int r = 0; r < 5; r++) {
            const rt_weight *w = rt_weight_find(weights[r], NULL);
            double got = 0, want = 0, normal = 0, most = 0;
            CHECK_OK(rt_density_times(density, p, w, n, times, factor, &err));
            for (int k = 0; k < N; k++) {
                double t = T ? k + 1 : (k + 0.5) / N, a = rt_process_alpha(p, t), b = rt_process_beta(p, t);
                double left = b * b / (a * a + b * b), loss = left * (2 + sin(5 * t / rt_process_end(p)));
                want += rt_weight_at(w, p, t, 0) * loss / N;
                normal += rt_weight_at(w, p, t, 0) * left / N;
            }
            for (int m = 0; m < n; m++) {
                double t = times[m], a = rt_process_alpha(p, t), b = rt_process_beta(p, t), left = b * b / (a * a + b * b);
                got += factor[m] * rt_weight_at(w, p, t, 0) * left * (2 + sin(5 * t / rt_process_end(p))) / n;
                most = fmax(most, factor[m] * rt_weight_at(w, p, t, 0) * left);
            }
            CHECK_NEAR(got, want, (T ? 1e-12 : 2e-3) * want, "%s on %s", weights[r], rt_process_name(p));
            if (!T)
                CHECK_NEAR(most, normal, 0.3 * normal, "largest, %s on %s", weights[r],
                           rt_process_name(p)); /* 16/15, and the width of a cell */
        }
        free(times);
        rt_process_free(p);
    }
}

static void refusals(void **state)
{
    (void)state;
    rt_process *p = named_process("flow");
    double t[2], f[2];
    const rt_density *d = rt_density_find("log-snr", NULL);
    CHECK_REFUSED(rt_density_times(d, p, NULL, 0, t, f, &err), RT_E_USAGE, "0 times");
    CHECK_REFUSED(rt_density_times(d, p, NULL, 1 << 21, t, f, &err), RT_E_USAGE, "2097152 times");
    CHECK_OK(rt_density_times(rt_density_find("importance", NULL), p, NULL, 2, t, f, &err)); /* without a weight: that of x0 */
    rt_error err = {0};
    assert_null(rt_density_find("lognormal", &err));
    assert_non_null(strstr(err.text, "did you mean 'log-normal'"));
    rt_row_text row;
    assert_false(rt_density_describe(-1, &row) || rt_density_describe(5, &row));
    rt_process_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_density),
        cmocka_unit_test(importance_is_unbiased),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
