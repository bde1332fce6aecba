/* lanes.c -- what the kernels of one instruction set compute with: the exponentials, rounding to bf16, products of pairs, tiles of distances. One program
 * per instruction set; where the processor lacks it, the program skips. */
#include "base/tiles.h"
#include "graph/ops/gemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- rounding to bf16, one number at a time: rt_tensor_cast has code of its own */

static void test_rounding(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static float x[N];
    for (uint32_t i = 0; i < N; i++) {
        uint32_t bits = i * 2654435761u;
        memcpy(&x[i], &bits, sizeof bits);
    }
    rt_error err = {0};
    rt_tensor from = {.dtype = RT_F32, .rank = 1, .shape = {N}, .data = x}, rounded;
    assert_int_equal(rt_tensor_cast(&rounded, &from, RT_BF16, &err), RT_OK);
    for (int i = 0; i < N; i++) {
        uint16_t one = to_bf16(x[i]), want = ((const uint16_t *)rounded.data)[i];
        if (isnan(x[i]) ? !isnan((rt__bits){.u = (uint32_t)one << 16}.f) : one != want)
            fail_msg("%a became %x, not %x", (double)x[i], one, want);
    }
    rt_tensor_free(&rounded);
}

/* ---- the exponentials of the kernels, from beyond one limit to beyond the other */

static void test_exponentials(void **state)
{
    (void)state;
    enum { N = 20000 };
    double worst = 0, worst_rough = 0;
    for (int i = 0; i <= N; i++) {
        float x = -90 + 180 * (float)i / N;
        double want = exp(fmin(fmax((double)x, -87), 88));
        worst = fmax(worst, fabs((double)fast_exp(x) / want - 1));
        worst_rough = fmax(worst_rough, fabs((double)rough_exp(x) / want - 1));
    }
    printf("e^x: %.1e, for bf16 %.1e\n", worst, worst_rough);
    assert_true(worst < 2.5e-7 && worst_rough < 8.5e-5);
    assert_true(isnan(fast_exp(NAN)) && isnan(rough_exp(NAN)) && fast_exp(0) == 1);
    assert_true(fast_exp(-INFINITY) < 1e-37f && rough_exp(-INFINITY) < 1e-37f && rough_exp(INFINITY) > 1e38f);
}

/* ---- acc + a0 b0 + a1 b1, by the processor's instruction where it has one and without: products of bf16 numbers are exact in double */

static void test_pairs(void **state)
{
    (void)state;
    _Alignas(64) half b[2 * LANES];
    half a[2] = {to_bf16(1.7f), to_bf16(-0.3f)};
    lanes acc;
    for (int i = 0; i < 2 * LANES; i++) b[i] = to_bf16((float)(i * i % 19) - 7.3f);
    for (int i = 0; i < LANES; i++) acc[i] = (float)i / 3;
    lanes fast = multiply_add(acc, (const word *)(const void *)a, (const word *)(const void *)b, true);
    pair_lanes pa = (pair_lanes){0} + *(const pair *)(const void *)a;
    lanes plain = add_pairs(acc, pa, *(const pair_lanes *)(const void *)b);
    for (int i = 0; i < LANES; i++) {
        double want = (double)acc[i];
        for (int k = 0; k < 2; k++)
            want += (double)(rt__bits){.u = (uint32_t)a[k] << 16}.f * (double)(rt__bits){.u = (uint32_t)b[2 * i + k] << 16}.f;
        assert_true(fabs((double)fast[i] - want) < 1e-5 && fabs((double)plain[i] - want) < 1e-5);
    }
}

/* ---- tiles, against sums in long double, of a number of terms that no unrolling divides */

static void test_tiles(void **state)
{
    (void)state;
    enum { N = 37, ROWS = RT_TILE_ROWS, COLUMNS = RT_TILE_COLUMNS };
    static _Alignas(64) double rows[N][ROWS], columns[N][COLUMNS], distance[ROWS][COLUMNS], product[ROWS][2 * COLUMNS];
    for (int k = 0; k < N; k++) {
        for (int r = 0; r < ROWS; r++) rows[k][r] = sin(3.7 * k + 1.3 * r);
        for (int j = 0; j < COLUMNS; j++) columns[k][j] = cos(2.9 * k - 0.7 * j);
    }
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < 2 * COLUMNS; j++) product[r][j] = r - j;
    const rt__tiles *tiles = &RT_OF_ISA(rt__tiles);
    tiles->distance2(N, (const double(*)[ROWS])rows, (const double(*)[COLUMNS])columns, distance);
    tiles->product(N, rows[0], 1, ROWS, columns[0], COLUMNS, product[0], 2 * COLUMNS);
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < COLUMNS; j++) {
            long double d = 0, p = r - j;
            for (int k = 0; k < N; k++) {
                long double e = (long double)rows[k][r] - columns[k][j];
                d += e * e;
                p += (long double)rows[k][r] * columns[k][j];
            }
            assert_true(fabsl(d - distance[r][j]) < 1e-13L && fabsl(p - product[r][j]) < 1e-13L);
            assert_true(product[r][COLUMNS + j] == r - COLUMNS - j);
        }
}

int main(void)
{
    const char *name;
    bool has = false;
    if (!rt_isa_describe(ISA, &name, &has)) return 2;
    if (!has) {
        printf("SKIP: this processor has no %s\n", name);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exponentials), cmocka_unit_test(test_rounding), cmocka_unit_test(test_pairs),
                                       cmocka_unit_test(test_tiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
