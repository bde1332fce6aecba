/* loader_test.c -- permutations without an array, and batches as a function of their number. */
#include "data_check.h"

static void permutations(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 16, 17, 100, 255, 256, 257, 1000, 60000};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        unsigned char *seen = malloc((size_t)n);
        for (uint64_t key = 0; key < (n < 10000 ? 20 : 2); key++) {
            memset(seen, 0, (size_t)n);
            int64_t fixed = 0;
            for (int64_t i = 0; i < n; i++) {
                int64_t p = rt_permute_index(7, key, n, i);
                assert_true(p >= 0 && p < n);
                assert_int_equal(seen[p]++, 0);
                fixed += p == i;
            }
            if (n >= 100) assert_true(fixed < 10); /* about Poisson(1) */
        }
        free(seen);
    }
    /* far beyond 32 bits: one to one where two indices are compared */
    int64_t huge = (int64_t)1 << 40;
    for (int64_t i = 0; i < 200; i++) {
        int64_t p = rt_permute_index(1, 2, huge, huge - 1 - i);
        assert_true(p >= 0 && p < huge);
        assert_true(p != rt_permute_index(1, 2, huge, i));
    }
}

/* All 24 orders of four items come up equally often: chi-square with 23 degrees of freedom, 99.99% below 55. So do the places of one item among 10. */
static void uniform(void **state)
{
    (void)state;
    enum { TRIES = 24000 };
    int counts[256] = {0}, used = 0, place[10] = {0};
    for (uint64_t key = 0; key < TRIES; key++) {
        int code = 0;
        for (int64_t i = 0; i < 4; i++) code = code * 4 + (int)rt_permute_index(3, key, 4, i);
        counts[code]++;
        place[rt_permute_index(3, key, 10, 2)]++;
    }
    double chi = 0;
    for (int c = 0; c < 256; c++) {
        if (!counts[c]) continue;
        used++;
        chi += (counts[c] - 1000.) * (counts[c] - 1000.) / 1000;
    }
    assert_int_equal(used, 24);
    assert_true(chi < 55);
    chi = 0;
    for (int c = 0; c < 10; c++) chi += (place[c] - 2400.) * (place[c] - 2400.) / 2400;
    assert_true(chi < 34); /* 9 degrees of freedom */
}

static void keys_matter(void **state)
{
    (void)state;
    const uint64_t keys[][2] = {{1, 0}, {2, 0}, {1, 1}, {(uint64_t)1 << 32 | 1, 0}, {1, (uint64_t)1 << 32}};
    for (int a = 0; a < 5; a++)
        for (int b = 0; b < a; b++) {
            int same = 0;
            for (int64_t i = 0; i < 1000; i++)
                same += rt_permute_index(keys[a][0], keys[a][1], 1000, i) == rt_permute_index(keys[b][0], keys[b][1], 1000, i);
            assert_true(same < 10);
        }
}

/* ---- loaders. Item i of this set: 2 x 3 pixels 6 i .. 6 i + 5, label i mod 4. */

enum { N = 37, D = 6 };

static rt_dataset *numbered(void)
{
    unsigned char images[16 + N * D] = {0, 0, 8, 3, 0, 0, 0, N, 0, 0, 0, 2, 0, 0, 0, 3}, labels[8 + N] = {0, 0, 8, 1, 0, 0, 0, N};
    for (int i = 0; i < N * D; i++) images[16 + i] = (unsigned char)i;
    for (int i = 0; i < N; i++) labels[8 + i] = (unsigned char)(i % 4);
    put("labels-idx1", labels, sizeof labels);
    rt_dataset *ds = opened(put("images-idx3", images, sizeof images));
    rt_dataset_range(ds, 0, 255, false);
    return ds;
}

static rt_loader *loader(const rt_dataset *ds, int batch, uint64_t seed)
{
    rt_loader *l;
    rt_error err = {0};
    if (rt_loader_new(&l, ds, batch, seed, &err) != RT_OK) fail_msg("%s", err.text);
    return l;
}

/* Every pass over the data holds every item once, whatever the batch, and batches do not respect the ends of passes. */
static void passes(void **state)
{
    (void)state;
    rt_dataset *ds = numbered();
    const int batches[] = {1, 8, 37, 100};
    for (int b = 0; b < 4; b++) {
        int batch = batches[b], seen[N] = {0}, first[N], order = 0;
        rt_loader *l = loader(ds, batch, 5);
        float x[100 * D];
        int64_t y[100];
        for (int64_t p = 0; p < 4 * N; p++) {
            if (p % batch == 0) rt_loader_batch(l, p / batch, x, y);
            const float *item = x + p % batch * D;
            int i = (int)item[0] / D;
            for (int k = 0; k < D; k++) assert_true(item[k] == (float)(i * D + k));
            assert_int_equal(y[p % batch], i % 4);
            assert_int_equal(seen[i]++, p / N);
            if (p < N) first[p] = i;
            if (p >= N && p < 2 * N) order += first[p - N] == i;
        }
        assert_true(order < N / 3); /* another order in the next pass */
        rt_loader_free(l);
    }
    rt_dataset_free(ds);
}

/* The same batches from another loader, in any order, after a start in the middle, and as rt_loader_item says. */
static void resumed(void **state)
{
    (void)state;
    enum { B = 10, U = 12 };
    rt_dataset *ds = numbered();
    float all[U][B * D], x[B * D];
    int64_t labels[U][B], y[B], item;
    bool mirrored;
    rt_dataset_range(ds, -1, 1, true);
    rt_loader *l = loader(ds, B, 11), *other = loader(ds, B, 12);
    int flips = 0, differs = 0;
    for (int64_t u = 0; u < U; u++) {
        rt_loader_batch(l, u, all[u], labels[u]);
        rt_loader_batch(other, u, x, NULL);
        differs += memcmp(x, all[u], sizeof x) != 0;
        for (int64_t j = 0; j < B; j++) {
            float want[D];
            rt_loader_item(l, u, j, &item, &mirrored);
            rt_dataset_read(ds, item, want, NULL);
            flips += mirrored;
            for (int k = 0; k < D; k++) assert_true(all[u][j * D + k] == want[mirrored ? k / 3 * 3 + 2 - k % 3 : k]);
        }
    }
    assert_int_equal(differs, U);          /* the seed counts */
    assert_true(flips > 38 && flips < 82); /* 120 throws, deviation 5.5 */
    rt_loader_free(l);
    l = loader(ds, B, 11);
    const int64_t order[] = {7, 8, 3, 3, 11, 0, 1, 2, 10, 9, 4, 5, 6};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        rt_loader_batch(l, order[i], x, y);
        assert_memory_equal(x, all[order[i]], sizeof x);
        assert_memory_equal(y, labels[order[i]], sizeof y);
    }
    rt_loader_free(l);
    rt_loader_free(loader(ds, B, 11)); /* never used */
    l = loader(ds, B, 11);
    rt_loader_batch(l, 0, x, y); /* and left while the next is prepared */
    rt_loader_free(l);
    rt_loader_free(other);
    rt_dataset_free(ds);
}

static void far_along(void **state)
{
    (void)state;
    rt_dataset *ds = numbered();
    rt_loader *l = loader(ds, 37, 1);
    float x[37 * D];
    int64_t u = (int64_t)1 << 34; /* passes and positions beyond 32 bits */
    int seen[N] = {0};
    rt_loader_batch(l, u, x, NULL);
    for (int j = 0; j < 37; j++) seen[(int)x[j * D] / D]++;
    for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
    rt_loader_free(l);
    rt_dataset_free(ds);
}

static void wrong(void **state)
{
    (void)state;
    rt_dataset *ds = numbered();
    rt_loader *l;
    rt_error err = {0};
    assert_int_equal(rt_loader_new(&l, ds, 0, 1, &err), RT_E_USAGE);
    assert_null(l);
    assert_non_null(strstr(err.text, "batch of 0"));
    rt_dataset_free(ds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permutations), cmocka_unit_test(uniform),   cmocka_unit_test(keys_matter), cmocka_unit_test(passes),
        cmocka_unit_test(resumed),      cmocka_unit_test(far_along), cmocka_unit_test(wrong),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
