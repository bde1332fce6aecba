/* datasets_test.c -- CIFAR-10, safetensors and toy sets; ranges, parts, hashes, the table of kinds. */
#include "data_check.h"

#define TAU 6.283185307179586

/* ---- CIFAR-10 */

enum { RECORD = 3073 };

static unsigned char *records(int n, int seed)
{
    unsigned char *r = malloc((size_t)n * RECORD);
    for (int i = 0; i < n; i++) {
        r[i * RECORD] = (unsigned char)((i + seed) % 10);
        for (int k = 1; k < RECORD; k++) r[i * RECORD + k] = (unsigned char)(i * 7 + k * 13 + seed);
    }
    return r;
}

static void cifar(void **state)
{
    (void)state;
    char name[600];
    float x[3072];
    int64_t y;
    for (int b = 1; b <= 5; b++) {
        unsigned char *r = records(b, b);
        snprintf(name, sizeof name, "cifar/data_batch_%d.bin", b);
        put(name, r, (size_t)b * RECORD);
        free(r);
    }
    snprintf(name, sizeof name, "%s:test", at("cifar"));
    refused(name, RT_E_IO, "test_batch.bin");
    unsigned char *r = records(2, 9);
    put("cifar/test_batch.bin", r, 2 * RECORD);
    rt_dataset *ds = opened(name);
    assert_int_equal(rt_dataset_describe(ds)->count, 2);
    rt_dataset_range(ds, 0, 255, false);
    rt_dataset_read(ds, 1, x, &y);
    assert_int_equal(y, r[RECORD]);
    for (int k = 0; k < 3072; k++) assert_true(x[k] == (float)r[RECORD + 1 + k]);
    rt_dataset_free(ds);
    ds = opened(at("cifar"));
    const rt_dataset_info *info = rt_dataset_describe(ds);
    assert_string_equal(info->kind, "cifar10");
    assert_int_equal(info->count, 15);
    assert_int_equal(info->classes, 10);
    assert_int_equal(info->rank, 3);
    assert_int_equal(info->features, 3072);
    rt_dataset_read(ds, 14, x, &y); /* the last record of batch 5 */
    assert_int_equal(y, 9);
    rt_dataset_free(ds);
    refused(put("cut.bin", r, 2 * RECORD - 1), RT_E_INVALID, "cut.bin|6145 bytes|3073");
    refused(put("cut.bin", r, 0), RT_E_INVALID, "0 bytes");
    r[RECORD] = 10;
    refused(put("label.bin", r, 2 * RECORD), RT_E_INVALID, "label.bin|label|item 1|is 10");
    free(r);
}

/* ---- safetensors */

static const char *put_tensors(const char *name, rt_dtype dtype, int rank, const int64_t *shape, const void *x, rt_dtype label_type,
                               int64_t labels, const void *y)
{
    rt_named_tensor t[] = {{"x", dtype, rank, shape, x}, {"y", label_type, 1, &labels, y}};
    rt_error err = {0};
    if (rt_tensors_write(at(name), t, y ? 2 : 1, NULL, &err) != RT_OK) fail_msg("%s", err.text);
    return at(name);
}

static void tensors(void **state)
{
    (void)state;
    float x[12], got[12];
    double wide[12];
    unsigned char bytes[12];
    int64_t y[3] = {2, 0, 1}, label;
    for (int i = 0; i < 12; i++) wide[i] = x[i] = (float)(i - 4) / 3, bytes[i] = (unsigned char)(20 * i);
#define S(...) (const int64_t[]){__VA_ARGS__}
    rt_dataset *ds = opened(put_tensors("v.safetensors", RT_F32, 2, S(3, 4), x, RT_I64, 3, y));
    assert_int_equal(rt_dataset_describe(ds)->rank, 1);
    assert_int_equal(rt_dataset_describe(ds)->classes, 3);
    assert_false(rt_dataset_describe(ds)->pictures);
    rt_dataset_range(ds, 0, 1, false); /* numbers are left alone */
    for (int i = 0; i < 3; i++) {
        rt_dataset_read(ds, i, got, &label);
        assert_memory_equal(got, x + 4 * i, 16);
        assert_int_equal(label, y[i]);
    }
    rt_dataset_free(ds);
    ds = opened(put_tensors("v.safetensors", RT_F64, 3, S(2, 2, 3), wide, RT_I64, 0, NULL));
    assert_int_equal(rt_dataset_describe(ds)->rank, 3);
    assert_int_equal(rt_dataset_describe(ds)->shape[0], 1);
    assert_int_equal(rt_dataset_describe(ds)->shape[2], 3);
    rt_dataset_read(ds, 1, got, &label);
    assert_memory_equal(got, x + 6, 24);
    rt_dataset_free(ds);
    ds = opened(put_tensors("v.safetensors", RT_U8, 4, S(1, 3, 2, 2), bytes, RT_U8, 1, bytes));
    assert_true(rt_dataset_describe(ds)->pictures);
    assert_int_equal(rt_dataset_describe(ds)->shape[0], 3);
    rt_dataset_range(ds, 0, 1, false);
    rt_dataset_read(ds, 0, got, &label);
    for (int i = 0; i < 12; i++) assert_true(got[i] == (float)(20 * i / 255.));
    rt_dataset_free(ds);

    refused(put_tensors("v.safetensors", RT_F32, 1, S(12), x, RT_I64, 0, NULL), RT_E_INVALID, "v.safetensors|tensor 'x'|[12]");
    refused(put_tensors("v.safetensors", RT_I64, 2, S(1, 3), y, RT_I64, 0, NULL), RT_E_INVALID, "tensor 'x'|I64");
    refused(put_tensors("v.safetensors", RT_F32, 2, S(0, 3), x, RT_I64, 0, NULL), RT_E_INVALID, "tensor 'x'|0 items");
    refused(put_tensors("v.safetensors", RT_F32, 2, S(3, 4), x, RT_I64, 2, y), RT_E_INVALID, "tensor 'y'|I64 [2]|[3]");
    refused(put_tensors("v.safetensors", RT_F32, 2, S(3, 4), x, RT_F32, 3, x), RT_E_INVALID, "tensor 'y'|F32");
    y[1] = -3;
    refused(put_tensors("v.safetensors", RT_F32, 2, S(3, 4), x, RT_I64, 3, y), RT_E_INVALID, "label|item 1|-3");
    x[7] = NAN;
    refused(put_tensors("v.safetensors", RT_F32, 2, S(3, 4), x, RT_I64, 0, NULL), RT_E_INVALID, "tensor 'x'|item 1|nan");
    rt_named_tensor other = {"z", RT_F32, 1, S(2), x};
    assert_int_equal(rt_tensors_write(at("z.safetensors"), &other, 1, NULL, NULL), RT_OK);
    refused(at("z.safetensors"), RT_E_INVALID, "tensor 'x' is missing");
#undef S
}

/* ---- toy sets */

/* Moments of each set, worked out from what its name promises (not from the code): E x0^2, E x1^2 of the whole set. */
static void toy_moments(void **state)
{
    (void)state;
    const double pi = TAU / 2, swiss = 9 * pi * pi / 4 * 13. / 3; /* E t^2 of t uniform on 1.5 pi .. 4.5 pi */
    struct {
        const char *name;
        int classes;
        double square[2];
    } sets[] = {
        /* half circles: x0 = 4/3 (k +- cos a - 1/2), x1 = 4/3 (k/2 +- sin a - 1/4), noise 0.1 */
        {"toy:moons", 2, {16. / 9 * (0.5 + 0.25 + 0.01), 16. / 9 * (0.5 + 0.0625 - 0.5 * 2 / pi + 0.01)}},
        /* E t^2 cos^2 t = E t^2 / 2 + E t^2 cos 2t / 2; over these limits E t^2 cos 2t = [t cos 2t / 2] / (3 pi) = -1/2 */
        {"toy:swiss-roll", 0, {(swiss / 2 - 0.25 + 1 - 4) / 49, (swiss / 2 + 0.25 + 1 - 4 / (9 * pi * pi)) / 49}},
        {"toy:checkerboard", 8, {4. / 3, 4. / 3}},
        {"toy:rings", 4, {(0.25 + 1 + 2.25 + 4) / 8 + 0.0025, (0.25 + 1 + 2.25 + 4) / 8 + 0.0025}},
        {"toy:pinwheel", 5, {1.5625 / 2 * (1 + 0.09 + 0.0025), 1.5625 / 2 * (1 + 0.09 + 0.0025)}},
        {"toy:gaussians-8", 8, {2 + 0.04, 2 + 0.04}},
    };
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        char name[64];
        snprintf(name, sizeof name, "%s:200000", sets[s].name);
        rt_dataset *ds = opened(name);
        const rt_dataset_info *info = rt_dataset_describe(ds);
        assert_string_equal(info->kind, sets[s].name);
        assert_int_equal(info->count, 200000);
        assert_int_equal(info->classes, sets[s].classes);
        assert_int_equal(info->features, 2);
        double sum[2] = {0}, square[2] = {0}, fourth[2] = {0}, n = 200000;
        int64_t counts[8] = {0};
        for (int64_t i = 0; i < info->count; i++) {
            float x[2];
            int64_t y;
            rt_dataset_read(ds, i, x, &y);
            assert_true(y >= 0 && y < (info->classes ? info->classes : 1));
            counts[y]++;
            for (int k = 0; k < 2; k++) {
                double v = (double)x[k] * x[k];
                sum[k] += (double)x[k];
                square[k] += v;
                fourth[k] += v * v;
            }
        }
        for (int k = 0; k < 2; k++) {
            double mean = sum[k] / n, two = square[k] / n, error = sqrt((fourth[k] / n - two * two) / n);
            print_message("  %-16s x%d: mean %.1f, square %.1f standard errors off\n", sets[s].name, k, mean / sqrt(two / n),
                          (two - sets[s].square[k]) / error);
            assert_true(fabs(mean) < TOL_TOY_MOMENTS * sqrt(two / n));
            assert_true(fabs(two - sets[s].square[k]) < TOL_TOY_MOMENTS * error);
        }
        for (int c = 0; c < info->classes; c++) {
            double p = 1. / info->classes;
            assert_true(fabs((double)counts[c] / n - p) < TOL_TOY_MOMENTS * sqrt(p * (1 - p) / n));
        }
        rt_dataset_free(ds);
    }
}

static void toy_shapes(void **state)
{
    (void)state;
    float x[2], again[2];
    int64_t y;
    rt_dataset *ds = opened("toy:checkerboard:5000"), *more = opened("toy:checkerboard:9000");
    for (int64_t i = 0; i < 5000; i++) {
        rt_dataset_read(ds, i, x, &y);
        int column = (int)floorf(x[0]) + 2, row = (int)floorf(x[1]) + 2;
        assert_true(column >= 0 && column < 4 && row >= 0 && row < 4);
        assert_int_equal((column + row) % 2, 0);
        assert_int_equal(y, row * 2 + column / 2);
        rt_dataset_read(more, i, again, NULL); /* point i depends on i alone */
        assert_memory_equal(x, again, sizeof x);
    }
    rt_dataset_free(ds);
    rt_dataset_free(more);
    ds = opened("toy:rings:5000");
    for (int64_t i = 0; i < 5000; i++) {
        rt_dataset_read(ds, i, x, &y);
        assert_true(fabsf(hypotf(x[0], x[1]) - 0.5f * (float)(y + 1)) < 0.3f);
    }
    rt_dataset_free(ds);
    ds = opened("toy:gaussians-8:5000");
    for (int64_t i = 0; i < 5000; i++) {
        rt_dataset_read(ds, i, x, &y);
        assert_true(hypot((double)x[0] - 2 * cos(TAU * (double)y / 8), (double)x[1] - 2 * sin(TAU * (double)y / 8)) < 1.2);
    }
    rt_dataset_free(ds);
    refused("toy:moon", RT_E_USAGE, "toy:moon|did you mean toy:moons");
    refused("toy:moons:0", RT_E_USAGE, "'0'");
    refused("toy:moons:1e3", RT_E_USAGE, "'1e3'");
    refused("toy:moons:99999999999", RT_E_USAGE, "1 to");
    refused("toy:", RT_E_USAGE, "no such set");
}

/* ---- ranges, parts, hashes */

static void ranges(void **state)
{
    (void)state;
    unsigned char idx[12 + 256] = {0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 1, 0};
    for (int i = 0; i < 256; i++) idx[12 + i] = (unsigned char)i;
    rt_dataset *ds = opened(put("all-idx2", idx, sizeof idx));
    float x[256];
    rt_dataset_read(ds, 0, x, NULL);
    for (int i = 0; i < 256; i++) assert_true(fabs((double)x[i] - (i / 127.5 - 1)) < 1e-7);
    assert_true(x[0] == -1 && x[255] == 1);
    rt_dataset_range(ds, 0.1, 0.7, false);
    rt_dataset_read(ds, 0, x, NULL);
    assert_true(x[0] == 0.1f && x[255] == 0.7f); /* the ends are exact */
    rt_dataset_free(ds);
}

static void parts(void **state)
{
    (void)state;
    enum { N = 1000, HELD = 100 };
    unsigned char idx[12 + N * 2] = {0, 0, 8, 2, 0, 0, N >> 8, N & 255, 0, 0, 0, 2};
    for (int i = 0; i < N; i++) idx[12 + 2 * i] = (unsigned char)(i >> 8), idx[13 + 2 * i] = (unsigned char)i;
    rt_dataset *whole = opened(put("n-idx2", idx, sizeof idx)), *held, *rest, *small, *inner;
    rt_error err = {0};
    assert_int_equal(rt_dataset_part(&held, whole, 0, HELD, &err), RT_OK);
    assert_int_equal(rt_dataset_part(&rest, whole, HELD, N, &err), RT_OK);
    assert_int_equal(rt_dataset_part(&small, whole, 0, 10, &err), RT_OK);
    rt_dataset_range(whole, 0, 255, false);
    rt_dataset_free(whole); /* parts live on */
    int seen[N] = {0}, low = 0;
    int64_t last = -1;
    float x[2];
    rt_dataset *two[] = {held, rest};
    for (int p = 0; p < 2; p++) {
        rt_dataset_range(two[p], 0, 255, false);
        last = -1;
        assert_int_equal(rt_dataset_describe(two[p])->count, p ? N - HELD : HELD);
        for (int64_t i = 0; i < rt_dataset_describe(two[p])->count; i++) {
            rt_dataset_read(two[p], i, x, NULL);
            int64_t number = (int64_t)x[0] * 256 + (int64_t)x[1];
            assert_true(number > last); /* in their original order */
            last = number;
            assert_int_equal(seen[number]++, 0); /* disjoint */
            if (p == 0) low += number < N / 2;
            if (p == 0) seen[number] = 2;
        }
    }
    for (int i = 0; i < N; i++) assert_true(seen[i] > 0);
    assert_true(low > 30 && low < 70); /* spread over the set: hypergeometric, deviation 4.7 */
    rt_dataset_range(small, 0, 255, false);
    for (int64_t i = 0; i < 10; i++) { /* nested */
        rt_dataset_read(small, i, x, NULL);
        assert_int_equal(seen[(int)x[0] * 256 + (int)x[1]], 2);
    }
    /* a part of a part, and a limit that is the same as a part */
    assert_int_equal(rt_dataset_part(&inner, held, 0, 10, &err), RT_OK);
    for (int64_t i = 0; i < 10; i++) {
        rt_dataset_read(inner, i, x, NULL);
        assert_int_equal(seen[(int)x[0] * 256 + (int)x[1]], 2);
    }
    char a[65], b[65], c[65];
    rt_dataset_sha256(inner, a);
    rt_dataset_sha256(held, b);
    assert_int_equal(rt_dataset_limit(held, 10, &err), RT_OK);
    assert_int_equal(rt_dataset_limit(held, 0, &err), RT_OK); /* all that there is now */
    rt_dataset_sha256(held, c);
    assert_string_equal(a, c);
    assert_string_not_equal(a, b);
    const int64_t wrong[][2] = {{-1, 5}, {5, 5}, {6, 5}, {0, 11}};
    for (int i = 0; i < 4; i++) {
        err = (rt_error){0};
        rt_dataset *none;
        assert_int_equal(rt_dataset_part(&none, inner, wrong[i][0], wrong[i][1], &err), RT_E_USAGE);
        assert_null(none);
        assert_non_null(strstr(err.text, "a set of 10"));
    }
    rt_dataset_free(held);
    rt_dataset_free(rest);
    rt_dataset_free(small);
    rt_dataset_free(inner);
}

/* The hash is that of a text, the items and the labels, as any SHA-256 gives it. */
static void hash(void **state)
{
    (void)state;
    float x[4] = {1, 2, 3, 4.5f};
    int64_t y[2] = {1, 0};
    rt_named_tensor t[] = {{"x", RT_F32, 2, (const int64_t[]){2, 2}, x}, {"y", RT_I64, 1, (const int64_t[]){2}, y}};
    assert_int_equal(rt_tensors_write(at("h.safetensors"), t, 2, NULL, NULL), RT_OK);
    rt_dataset *ds = opened(at("h.safetensors"));
    unsigned char text[64] = "F32 2 2 2\n";
    size_t n = strlen((char *)text);
    memcpy(text + n, x, sizeof x);
    memcpy(text + n + sizeof x, (int32_t[]){1, 0}, 8);
    char got[65], want[65];
    rt_dataset_sha256(ds, got);
    rt__sha256(text, n + sizeof x + 8, want);
    assert_string_equal(got, want);
    rt_dataset_free(ds);
}

static void table(void **state)
{
    (void)state;
    rt_row_text row, other;
    int n = 0;
    for (; rt_dataset_list(n, &row); n++) {
        assert_true(*row.name && *row.source && *row.text);
        for (int i = 0; i < n; i++) {
            rt_dataset_list(i, &other);
            assert_string_not_equal(row.name, other.name);
        }
        if (strncmp(row.name, "toy:", 4)) continue;
        rt_dataset *ds = opened(row.name);
        assert_int_equal(rt_dataset_describe(ds)->count, 100000);
        rt_dataset_free(ds);
    }
    assert_int_equal(n, 11);
    assert_false(rt_dataset_list(-1, &row));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cifar),  cmocka_unit_test(tensors), cmocka_unit_test(toy_moments), cmocka_unit_test(toy_shapes),
        cmocka_unit_test(ranges), cmocka_unit_test(parts),   cmocka_unit_test(hash),        cmocka_unit_test(table),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
