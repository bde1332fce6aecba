/* kernel.h -- what the reference kernels share: parallel maps over elements and broadcasting, a fast exponential. */
#ifndef RT_OPS_KERNEL_H
#define RT_OPS_KERNEL_H

#include "graph/row.h"

#include <math.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

enum { CHUNK = 8192 }; /* elements per unit of parallel work */
#define RT_INLINE static inline __attribute__((always_inline))

/* exp, written so that compilers vectorise it: 2^n times a polynomial on [-ln2/2, ln2/2], 2 ulp in float. Its argument is kept between limits that
 * compilers must not know: with constants, gcc makes branches of them and then masks, a fifth of a SiLU's time; with these, one minimum and one
 * maximum. NaN passes. */
extern const float rt__exp_least, rt__exp_most;

RT_INLINE float between_exp_limits(real x)
{
    float v = (float)x;
    v = rt__exp_least > v ? rt__exp_least : v;
    return rt__exp_most < v ? rt__exp_most : v;
}

/* 2^n, n = shifted - EXP_SHIFT: the low bits of that number are n. Unsigned, so that NaN passes. */
#define EXP_SHIFT 12582912.0f
RT_INLINE float power_of_two(float shifted)
{
    union {
        float f;
        uint32_t i;
    } scale = {.f = shifted};
    scale.i = (scale.i - 0x4b400000u + 127u) << 23;
    return scale.f;
}

RT_INLINE real fast_exp(real x)
{
    if (sizeof(real) == sizeof(double)) return (real)exp((double)x);
    float v = between_exp_limits(x), shifted = v * 1.44269504f + EXP_SHIFT, n = shifted - EXP_SHIFT;
    float r = v - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (real)(p * power_of_two(shifted));
}

/* The same within 7.5e-5 of itself, for what is stored in bf16, which rounds by up to 2e-3: the cubic nearest to 2^f on [-1/2, 1/2]. */
RT_INLINE real rough_exp(real x)
{
    float t = between_exp_limits(x) * 1.44269504f, shifted = t + EXP_SHIFT, f = t - (shifted - EXP_SHIFT);
    float p = ((0.05517167f * f + 0.24261112f) * f + 0.69326099f) * f + 0.99992807f;
    return (real)(p * power_of_two(shifted));
}

typedef double wide;
#include "graph/ops/formulas.h"

RT_INLINE real rough_sigmoid(real x) { return 1 / (1 + rough_exp(-x)); }

/* ---- bf16 is the upper half of a float, and storage only: a kernel takes its operands in strips, which are widened where they are bf16 and used
 * where they lie where they are not, and gives its result likewise:
 *
 *     real bx[STRIP], by[STRIP];
 *     const real *x = widened(&c->in[0], at, n, bx);
 *     real *y = room(&c->out, at, by);
 *     for (int64_t i = 0; i < n; i++) y[i] = f(x[i]);
 *     narrow(&c->out, at, n, y);                                                                                                        */
enum { STRIP = 1024 };

typedef union rt__bits {
    float f;
    uint32_t u;
} rt__bits;

RT_INLINE bool is_bf16(const rt_view *v) { return sizeof(real) == sizeof(float) && v->dtype == RT_BF16; }

/* Elements at.. at + n - 1 of v. */
RT_INLINE const real *widened(const rt_view *v, int64_t at, int64_t n, real *room)
{
    if (!is_bf16(v)) return (const real *)v->data + at;
    const uint16_t *from = (const uint16_t *)v->data + at;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) room[i] = (real)(rt__bits){.u = (uint32_t)from[i] << 16}.f;
    return room;
}

RT_INLINE real *room(const rt_view *v, int64_t at, real *own) { return is_bf16(v) ? own : (real *)v->data + at; }

/* To nearest, ties to even; NaN stays NaN. */
RT_INLINE uint16_t to_bf16(real x)
{
    uint32_t u = (rt__bits){.f = (float)x}.u, up = u + 0x7fff + (u >> 16 & 1);
    return (uint16_t)(((u & 0x7fffffff) > 0x7f800000 ? u | 0x400000 : up) >> 16);
}

/* The same for n numbers. Processors with an instruction for it take numbers below the least normal one for zero. */
RT_INLINE void round_to_bf16(uint16_t *to, const real *from, int64_t n)
{
#ifdef __AVX512BF16__
    enum { WIDTH = 16 };
    for (int64_t i = 0; i < n && sizeof(real) == sizeof(float); i += WIDTH) {
        __mmask16 in = (__mmask16)(n - i < WIDTH ? (1u << (n - i)) - 1 : 0xffffu);
        _mm256_mask_storeu_epi16(to + i, in, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(in, from + i)));
    }
#else
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = to_bf16(from[i]);
#endif
}

RT_INLINE void narrow(const rt_view *v, int64_t at, int64_t n, const real *from)
{
    if (is_bf16(v)) round_to_bf16((uint16_t *)v->data + at, from, n);
}

/* Kernels of a formula f are made in two steps: a function for a range of elements, into which f is inlined, and a loop over ranges in parallel,
 * which takes that function. (A formula handed straight to a parallel region is called through a pointer, element by element.) */
typedef void range1(real *y, const real *x, int64_t n);

RT_INLINE void each1(real *y, const real *x, int64_t n, real (*f)(real))
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = f(x[i]);
}

static inline void map1(const rt_call *c, range1 *range)
{
    int64_t count = c->out.count;
#pragma omp parallel for if (count > CHUNK)
    for (int64_t at = 0; at < count; at += STRIP) {
        real bx[STRIP], by[STRIP], *y = room(&c->out, at, by);
        int64_t n = count - at < STRIP ? count - at : STRIP;
        range(y, widened(&c->in[0], at, n, bx), n);
        narrow(&c->out, at, n, y);
    }
}

/* op_run for y = f(x) */
#define RUN1(op, f)                                                                                                                        \
    static void op##_range(real *y, const real *x, int64_t n) { each1(y, x, n, f); }                                                       \
    static void op##_run(const rt_call *c) { map1(c, op##_range); }

/* Broadcasting of up to three operands: axes are merged where all operands run on contiguously or stand still, so that most cases become one or
 * two loops. stride[o][i] is operand o's step on merged axis i, in elements. */
typedef struct loops {
    int rank;
    int64_t dim[RT_MAX_RANK], stride[3][RT_MAX_RANK];
} loops;

/* The extents of a value as it lies in memory: an image in blocks of b channels is (N,C/b,HW,b), and what broadcasts against it follows. */
static inline rt_view as_stored(const rt_view *v, int64_t b)
{
    if (b <= 1) return *v;
    rt_view s = *v;
    int64_t d[4] = {1, 1, 1, 1};
    for (int i = 0; i < v->rank; i++) d[4 - v->rank + i] = v->dim[i];
    int64_t inside = d[1] > 1 ? b : 1, stored[4] = {d[0], d[1] / inside, d[2] * d[3], inside};
    s.rank = 4;
    memcpy(s.dim, stored, sizeof stored);
    return s;
}

static inline loops merge_loops(const rt_call *c, int operands)
{
    loops l = {0};
    int64_t step[3] = {1, 1, 1};
    rt_view y = as_stored(&c->out, c->out.block), x[3];
    for (int o = 0; o < operands; o++) x[o] = as_stored(&c->in[o], c->out.block);
    for (int i = y.rank - 1; i >= 0; i--) {
        int64_t n = y.dim[i], s[3] = {0, 0, 0};
        for (int o = 0; o < operands; o++) {
            int j = i - (y.rank - x[o].rank);
            int64_t d = j < 0 ? 1 : x[o].dim[j];
            s[o] = d == 1 ? 0 : step[o];
            step[o] *= d;
        }
        if (n == 1) continue;
        bool joins = l.rank > 0;
        for (int o = 0; o < operands && joins; o++) {
            int64_t inner = l.stride[o][l.rank - 1];
            joins = s[o] == inner * l.dim[l.rank - 1];
        }
        if (joins) {
            l.dim[l.rank - 1] *= n;
        } else {
            l.dim[l.rank] = n;
            for (int o = 0; o < operands; o++) l.stride[o][l.rank] = s[o];
            l.rank++;
        }
    }
    if (l.rank == 0) l.dim[l.rank++] = 1;
    return l; /* innermost axis first */
}

/* Offsets of the operands at outer position `o` of the merged loops. */
static inline void loop_offsets(const loops *l, int64_t o, int operands, int64_t *at)
{
    for (int k = 0; k < operands; k++) at[k] = 0;
    for (int i = 1; i < l->rank; i++) {
        int64_t p = o % l->dim[i];
        o /= l->dim[i];
        for (int k = 0; k < operands; k++) at[k] += p * l->stride[k][i];
    }
}

#endif
