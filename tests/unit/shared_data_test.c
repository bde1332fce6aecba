/* shared_data_test.c -- the data sets under ../shared/data (or $RETORT_DATA), as their README describes them. */
#include "data_check.h"

static char folder[512];

static const char *set(const char *name)
{
    static char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Counts per class, and the sum of the first `items` items as bytes. */
static void look(rt_dataset *ds, int64_t counts[10], int64_t items, double *sum)
{
    const rt_dataset_info *info = rt_dataset_describe(ds);
    float *x = malloc((size_t)info->features * sizeof *x);
    memset(counts, 0, 10 * sizeof *counts);
    *sum = 0;
    rt_dataset_range(ds, 0, 255, false);
    for (int64_t i = 0; i < info->count; i++) {
        int64_t y;
        rt_dataset_read(ds, i, x, &y);
        counts[y]++;
        for (int64_t k = 0; k < info->features && i < items; k++) *sum += (double)x[k];
    }
    free(x);
}

static void fashion_mnist(void **state)
{
    (void)state;
    int64_t counts[10];
    double sum;
    rt_dataset *ds = opened(set("fashion-mnist"));
    assert_int_equal(rt_dataset_describe(ds)->count, 60000);
    assert_int_equal(rt_dataset_describe(ds)->shape[1], 28);
    assert_int_equal(rt_dataset_describe(ds)->shape[2], 28);
    assert_int_equal(rt_dataset_describe(ds)->classes, 10);
    look(ds, counts, 60000, &sum);
    for (int c = 0; c < 10; c++) assert_int_equal(counts[c], 6000);
    assert_true(fabs(sum / (60000 * 784.) / 255 - 0.2860) < 5e-5); /* the mean that is published for it */
    rt_dataset_free(ds);
    ds = opened(set("fashion-mnist:test"));
    assert_int_equal(rt_dataset_describe(ds)->count, 10000);
    look(ds, counts, 0, &sum);
    for (int c = 0; c < 10; c++) assert_int_equal(counts[c], 1000);
    rt_dataset_free(ds);
}

static void mnist(void **state)
{
    (void)state;
    static const int64_t published[] = {5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949};
    int64_t counts[10];
    double sum;
    rt_dataset *ds = opened(set("mnist:train"));
    look(ds, counts, 60000, &sum);
    for (int c = 0; c < 10; c++) assert_int_equal(counts[c], published[c]);
    assert_true(fabs(sum / (60000 * 784.) / 255 - 0.1307) < 5e-5);
    rt_dataset_free(ds);
}

static void tiles(void **state)
{
    (void)state;
    static const int64_t want[10] = {412, 1418, 221, 420, 1107, 255, 1072, 971, 0, 0};
    int64_t counts[10];
    double sum;
    rt_dataset *ds = opened(set("crawl-tiles/crawl-tiles-32.zip"));
    const rt_dataset_info *info = rt_dataset_describe(ds);
    assert_int_equal(info->count, 5876);
    assert_int_equal(info->classes, 8);
    assert_int_equal(info->shape[0], 3);
    assert_int_equal(info->shape[1], 32);
    assert_int_equal(info->shape[2], 32);
    assert_string_equal(rt_dataset_class(ds, 1), "dngn");
    assert_string_equal(rt_dataset_class(ds, 7), "player");
    look(ds, counts, 3, &sum);
    assert_memory_equal(counts, want, sizeof want);
    assert_true(sum == 398235); /* Pillow and NumPy */
    rt_dataset_free(ds);
}

int main(void)
{
    const char *given = getenv("RETORT_DATA"), *shared = getenv("RETORT_SHARED");
    if (given)
        snprintf(folder, sizeof folder, "%s", given);
    else
        snprintf(folder, sizeof folder, "%s/data", shared ? shared : "../shared");
    if (!rt__is_folder(folder)) {
        printf("SKIP: %s is missing (../shared)\n", folder);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(fashion_mnist), cmocka_unit_test(mnist), cmocka_unit_test(tiles)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
