/* tensor_test.c -- host tensors: extents, names, and casts against the definition of rounding to nearest even. */
#include "retort/base.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void casts(const double *values, int64_t n, rt_dtype through, void *stored, double *back)
{
    rt_tensor a, b, c;
    rt_error err = {0};
    assert_int_equal(rt_tensor_init(&a, RT_F64, 1, &n, &err), RT_OK);
    memcpy(a.data, values, (size_t)n * sizeof *values);
    assert_int_equal(rt_tensor_cast(&b, &a, through, &err), RT_OK);
    assert_int_equal(rt_tensor_cast(&c, &b, RT_F64, &err), RT_OK);
    if (stored) memcpy(stored, b.data, (size_t)n * rt_dtype_size(through));
    if (back) memcpy(back, c.data, (size_t)n * sizeof *back);
    rt_tensor_free(&a);
    rt_tensor_free(&b);
    rt_tensor_free(&c);
}

/* The value of 16 bits with `fraction` bits of fraction, by the definition in IEEE 754. */
static double value_of(unsigned bits, int fraction)
{
    int width = 15 - fraction, bias = (1 << (width - 1)) - 1, exponent = (int)(bits >> fraction) & ((1 << width) - 1);
    double f = (double)(bits & ((1u << fraction) - 1)) / (double)(1 << fraction), sign = bits >> 15 ? -1 : 1;
    return exponent ? sign * (1 + f) * pow(2, exponent - bias) : sign * f * pow(2, 1 - bias);
}

/* Every number of the type, the point half way to the next one, and the doubles on both sides of that point. */
static void rounds_to_nearest_even(rt_dtype dtype, int fraction)
{
    unsigned infinity = ((1u << (15 - fraction)) - 1) << fraction;
    for (unsigned sign = 0; sign < 0x10000; sign += 0x8000)
        for (unsigned b = 0; b < infinity; b++) {
            double here = value_of(sign + b, fraction), half = b + 1 < infinity ? (here + value_of(sign + b + 1, fraction)) / 2
                                                                                : here + (here - value_of(sign + b - 1, fraction)) / 2;
            double in[4] = {here, nextafter(half, here), half, nextafter(half, 2 * half)}, back[4];
            uint16_t got[4];
            casts(in, 4, dtype, got, back);
            unsigned even = b & 1 ? b + 1 : b;
            if (got[0] != sign + b || got[1] != sign + b || got[2] != sign + even || got[3] != sign + b + 1 || back[0] != here)
                fail_msg("%s %04x: %04x %04x %04x %04x", rt_dtype_name(dtype), sign + b, got[0], got[1], got[2], got[3]);
        }
    const double special[] = {INFINITY, -INFINITY, NAN, 1e308, -1e308, -0.0};
    double back[6];
    casts(special, 6, dtype, NULL, back);
    assert_true(back[0] == INFINITY && back[1] == -INFINITY && isnan(back[2]) && back[3] == INFINITY && back[4] == -INFINITY);
    assert_true(back[5] == 0 && signbit(back[5]));
}

static void halves(void **state)
{
    (void)state;
    rounds_to_nearest_even(RT_F16, 10);
}

static void brain_floats(void **state)
{
    (void)state;
    rounds_to_nearest_even(RT_BF16, 7);
}

static void whole_numbers(void **state)
{
    (void)state;
    const double in[] = {0, 1.9, -1.9, 127, 128, -128, -129, 255, 256, -1, 1e300, -INFINITY, NAN, 2147483647, 4e9};
    enum { N = sizeof in / sizeof *in };
    static const struct {
        rt_dtype dtype;
        double want[N];
    } cases[] = {
        {RT_I8, {0, 1, -1, 127, 127, -128, -128, 127, 127, -1, 127, -128, 0, 127, 127}},
        {RT_U8, {0, 1, 0, 127, 128, 0, 0, 255, 255, 0, 255, 0, 0, 255, 255}},
        {RT_I16, {0, 1, -1, 127, 128, -128, -129, 255, 256, -1, 32767, -32768, 0, 32767, 32767}},
        {RT_I32, {0, 1, -1, 127, 128, -128, -129, 255, 256, -1, 2147483647, -2147483648.0, 0, 2147483647, 2147483647}},
        {RT_I64, {0, 1, -1, 127, 128, -128, -129, 255, 256, -1, 0x1p63, -0x1p63, 0, 2147483647, 4e9}},
        {RT_BOOL, {0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double back[N];
        casts(in, N, cases[i].dtype, NULL, back);
        for (int k = 0; k < N; k++)
            if (back[k] != cases[i].want[k])
                fail_msg("%s of %g is %g, not %g", rt_dtype_name(cases[i].dtype), in[k], back[k], cases[i].want[k]);
    }
    const double single[] = {1.0 / 3, FLT_MAX, 1e39};
    double back[3];
    casts(single, 3, RT_F32, NULL, back);
    assert_true(back[0] == (double)(float)(1.0 / 3) && back[1] == (double)FLT_MAX && back[2] == INFINITY);
}

static void extents(void **state)
{
    (void)state;
    rt_tensor t;
    rt_error err = {0};
    assert_int_equal(rt_tensor_init(&t, RT_I16, 3, (int64_t[]){2, 3, 4}, &err), RT_OK);
    assert_int_equal(rt_tensor_count(&t), 24);
    for (int i = 0; i < 24; i++) assert_int_equal(((int16_t *)t.data)[i], 0);
    rt_tensor_free(&t);
    assert_null(t.data);
    rt_tensor_free(NULL);
    assert_int_equal(rt_tensor_init(&t, RT_F32, 0, NULL, &err), RT_OK);
    assert_int_equal(rt_tensor_count(&t), 1);
    rt_tensor_free(&t);
    assert_int_equal(rt_tensor_init(&t, RT_F32, 2, (int64_t[]){0, 5}, &err), RT_OK);
    assert_int_equal(rt_tensor_count(&t), 0);
    assert_non_null(t.data);
    rt_tensor_free(&t);
    assert_int_equal(rt_tensor_init(&t, RT_F32, 2, (int64_t[]){2, -1}, &err), RT_E_INVALID);
    assert_null(t.data);
    assert_int_equal(rt_tensor_init(&t, RT_F32, RT_MAX_RANK + 1, (int64_t[RT_MAX_RANK + 1]){0}, &err), RT_E_INVALID);
    assert_int_equal(rt_tensor_init(&t, RT_DTYPES, 0, NULL, &err), RT_E_INVALID);
    assert_int_equal(rt_tensor_init(&t, RT_F64, 2, (int64_t[]){INT64_C(1) << 32, INT64_C(1) << 32}, &err), RT_E_MEMORY); /* wraps to 0 */
    assert_int_equal(rt_tensor_init(&t, RT_F64, 1, (int64_t[]){INT64_C(1) << 60}, &err), RT_E_MEMORY);
}

static void texts(void **state)
{
    (void)state;
    char buf[32];
    assert_string_equal(rt_shape_text(buf, sizeof buf, 3, (int64_t[]){2, 3, 4}), "2x3x4");
    assert_string_equal(rt_shape_text(buf, sizeof buf, 0, NULL), "");
    assert_string_equal(rt_shape_text(buf, sizeof buf, 3, (int64_t[]){-1, 7, -4}), "Bx7x4B");
    assert_string_equal(rt_shape_text(buf, 4, 3, (int64_t[]){10, 20, 30}), "10x");
    static const char *const names[] = {"F32", "F64", "BF16", "F16", "I8", "U8", "I16", "I32", "I64", "BOOL"};
    static const size_t sizes[] = {4, 8, 2, 2, 1, 1, 2, 4, 8, 1};
    for (int i = 0; i < RT_DTYPES; i++) {
        assert_string_equal(rt_dtype_name((rt_dtype)i), names[i]);
        assert_int_equal(rt_dtype_size((rt_dtype)i), sizes[i]);
    }
    assert_int_equal(rt_dtype_size(RT_DTYPES), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves),  cmocka_unit_test(brain_floats), cmocka_unit_test(whole_numbers),
        cmocka_unit_test(extents), cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
