/* metrics_golden.c -- every measure against SciPy's and NumPy's numbers for two sets of 500 points in 16 dimensions. */
#include "golden.h"
#include "tolerances.h"

#include "retort/metrics.h"

static struct {
    rt_tensors *file;
    float *a, *b, *directions;
    rt_points pa, pb;
} g;

static float *floats(const char *name, int64_t *rows, int64_t *columns)
{
    rt_error err = {0};
    int i = rt_tensors_find(g.file, name);
    if (i < 0) fail_msg("%s is missing", name);
    const rt_tensor_info *info = rt_tensors_info(g.file, i);
    float *x = malloc((size_t)info->count * sizeof *x);
    if (rt_tensors_read_real(g.file, i, RT_F32, x, &err) != RT_OK) fail_msg("%s", err.text);
    *rows = info->shape[0];
    *columns = info->shape[1];
    return x;
}

static int setup(void **state)
{
    (void)state;
    int64_t n, d;
    g.file = golden_open(GOLDEN "metrics.safetensors");
    g.a = floats("A", &n, &d);
    g.pa = (rt_points){n, d, g.a};
    g.b = floats("B", &n, &d);
    g.pb = (rt_points){n, d, g.b};
    g.directions = floats("directions", &n, &d);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rt_tensors_close(g.file);
    free(g.a);
    free(g.b);
    free(g.directions);
    return 0;
}

static void compare(const char *name, const double *got, int64_t n, double tolerance)
{
    rt_tensor want = golden_tensor(g.file, "", name, NULL, false);
    assert_int_equal(rt_tensor_count(&want), n);
    double e = golden_distance(got, RT_F64, want.data, n);
    print_message("%-12s %.3g\n", name, e);
    if (!(e <= tolerance)) fail_msg("%s: off by %.3g > %.3g", name, e, tolerance);
    rt_tensor_free(&want);
}

#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        rt_error err = {0};                                                                                                                \
        if ((call) != RT_OK) fail_msg("%s: %s", #call, err.text);                                                                          \
    } while (0)

static void frechet_distance(void **state)
{
    (void)state;
    rt_statistics a, b;
    double d;
    OK(rt_statistics_of(&a, &g.pa, &err));
    OK(rt_statistics_of(&b, &g.pb, &err));
    compare("mean_A", a.mean, 16, TOL_MEASURE);
    compare("mean_B", b.mean, 16, TOL_MEASURE);
    compare("cov_A", a.covariance, 256, TOL_MEASURE);
    compare("cov_B", b.covariance, 256, TOL_MEASURE);
    OK(rt_frechet(&a, &b, &d, &err));
    compare("frechet", &d, 1, TOL_MEASURE);
    rt_statistics_free(&a);
    rt_statistics_free(&b);
}

static void kernel_distance(void **state)
{
    (void)state;
    double d;
    OK(rt_kid(&g.pa, &g.pb, &d, &err));
    compare("kid", &d, 1, TOL_MEASURE);
}

static void energy_distance(void **state)
{
    (void)state;
    double v, u;
    OK(rt_energy_distance(&g.pa, &g.pb, &v, &u, &err));
    compare("energy_v", &v, 1, TOL_MEASURE);
    compare("energy_u", &u, 1, TOL_MEASURE);
}

static void sliced_distance(void **state)
{
    (void)state;
    double d;
    OK(rt_sliced_wasserstein2(&g.pa, &g.pb, 64, g.directions, &d, &err));
    compare("sw2_squared", &d, 1, TOL_MEASURE);
    d = sqrt(d);
    compare("sw2", &d, 1, TOL_MEASURE);
}

static void neighbourhoods(void **state)
{
    (void)state;
    rt_tensor k = golden_tensor(g.file, "", "k", NULL, false);
    double radius_a[500], radius_b[500];
    rt_neighbours n;
    OK(rt_nearest_neighbours(&g.pa, &g.pb, (int)*(double *)k.data, &n, radius_a, radius_b, &err));
    compare("radius_A", radius_a, 500, TOL_MEASURE);
    compare("radius_B", radius_b, 500, TOL_MEASURE);
    compare("precision", &n.precision, 1, 0);
    compare("recall", &n.recall, 1, 0);
    compare("density", &n.density, 1, 1e-15); /* a mean of fifths: the last bit depends on the order of the division */
    compare("coverage", &n.coverage, 1, 0);
    rt_tensor_free(&k);
}

/* The table gives the same numbers under its names. */
static void table(void **state)
{
    (void)state;
    static const struct {
        const char *row, *key;
    } rows[] = {{"frechet", "frechet"}, {"recall", "recall"},     {"kid", "kid"},         {"precision", "precision"},
                {"density", "density"}, {"coverage", "coverage"}, {"energy", "energy_v"}, {"energy-unbiased", "energy_u"}};
    enum { N = sizeof rows / sizeof *rows };
    const rt_measure *m[N];
    double values[N];
    rt_error e = {0};
    for (int i = 0; i < N; i++)
        if (!(m[i] = rt_measure_find(rows[i].row, &e))) fail_msg("%s", e.text);
    OK(rt_measure_all(m, N, &g.pa, &g.pb, NULL, values, &err));
    for (int i = 0; i < N; i++) compare(rows[i].key, &values[i], 1, TOL_MEASURE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frechet_distance), cmocka_unit_test(kernel_distance), cmocka_unit_test(energy_distance),
        cmocka_unit_test(sliced_distance),  cmocka_unit_test(neighbourhoods),  cmocka_unit_test(table),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
