/* gemm.h -- the product at the heart of matmul and the convolutions: panels of both factors are copied into the order in which the inner loop
 * reads them, so that it keeps an MR x NR block of the result in registers.
 *
 *     A panels [m/MR][k][MR]  x  B panels [n/NR][k][NR]
 *
 * Factors are whatever a pack function writes: a matrix, a transposed one, the patches of an image. Each element adds up k in one order,
 * whatever the number of threads. */
#ifndef RT_OPS_GEMM_H
#define RT_OPS_GEMM_H

#include "graph/ops/kernel.h"

/* A vector is a register: wider ones are kept in memory by gcc, piece by piece. MR x 2 of them and three more must fit into 32 registers with AVX-512,
 * 16 else. */
typedef real lanes __attribute__((vector_size(RT_VECTOR)));
enum { LANES = sizeof(lanes) / sizeof(real), MR = RT_VECTOR == 64 ? 8 : 6, NR = 2 * LANES, MC = 8 * MR, NC = 128, KC = 256 };

/* A word is a number, or two bf16 numbers: acc + a b, lane by lane, is acc + a0 b0 + a1 b1 then. *a goes to all lanes. */
typedef real word __attribute__((may_alias));
typedef uint16_t half __attribute__((may_alias));
typedef uint32_t pair __attribute__((may_alias));
typedef lanes word_lanes __attribute__((may_alias));
typedef uint32_t pair_lanes __attribute__((vector_size(RT_VECTOR), may_alias));

RT_INLINE lanes add_pairs(lanes acc, pair_lanes a, pair_lanes b)
{
    return acc + (lanes)(a << 16) * (lanes)(b << 16) + (lanes)(a & 0xffff0000u) * (lanes)(b & 0xffff0000u);
}

RT_INLINE lanes multiply_add(lanes acc, const word *a, const word *b, bool paired)
{
    if (!paired) return acc + *a * *(const word_lanes *)(const void *)b;
    pair_lanes pa = (pair_lanes){0} + *(const pair *)(const void *)a, pb = *(const pair_lanes *)(const void *)b;
#ifdef __AVX512BF16__
    return (lanes)_mm512_dpbf16_ps((__m512)acc, (__m512bh)pa, (__m512bh)pb);
#else
    return add_pairs(acc, pa, pb);
#endif
}

/* Writes the panels of rows (A) or columns (B) at..at+n-1 over l..l+k-1 of the summed axis; what lies beyond n is zero. */
typedef void pack_fn(real *to, const void *factor, int64_t at, int64_t n, int64_t l, int64_t k);

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* y (m x n, at most MR x NR, row stride ldy) = or += A B. */
static inline void gemm_block(real *y, int64_t ldy, const real *a, const real *b, int64_t m, int64_t n, int64_t k, bool add)
{
    lanes acc[MR][2];
    memset(acc, 0, sizeof acc);
    const lanes *bv = (const lanes *)(const void *)b;
    for (int64_t l = 0; l < k; l++, a += MR, bv += 2)
        for (int i = 0; i < MR; i++) {
            acc[i][0] += a[i] * bv[0];
            acc[i][1] += a[i] * bv[1];
        }
    for (int64_t i = 0; i < m; i++) {
        const real *from = (const real *)acc[i];
        real *to = y + i * ldy;
        if (add)
            for (int64_t j = 0; j < n; j++) to[j] += from[j];
        else
            for (int64_t j = 0; j < n; j++) to[j] = from[j];
    }
}

/* The tile of at most MC x NC at (i, j) of y, a matrix with row stride ldy. */
RT_INLINE void gemm_tile(real *y, int64_t ldy, int64_t i, int64_t m, int64_t j, int64_t n, int64_t k, pack_fn pack_a, const void *a,
                         pack_fn pack_b, const void *b)
{
    _Alignas(64) real pa[MC * KC], pb[NC * KC];
    y += i * ldy + j;
    for (int64_t l = 0; l < k; l += KC) {
        int64_t kc = least(KC, k - l);
        pack_a(pa, a, i, m, l, kc);
        pack_b(pb, b, j, n, l, kc);
        for (int64_t c = 0; c < n; c += NR)
            for (int64_t r = 0; r < m; r += MR)
                gemm_block(y + r * ldy + c, ldy, pa + r * kc, pb + c * kc, least(MR, m - r), least(NR, n - c), kc, l > 0);
    }
}

#endif
