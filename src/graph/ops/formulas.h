/* formulas.h -- what one element of a result is, stated once: for the reference rows, which are C in `real`, and for the kernels of devices, which are C++.
 *
 * Who includes this has defined
 *
 *     real         the type of an element
 *     wide         what functions of the mathematical library are taken in
 *     RT_INLINE    how a function is inlined
 *     fast_exp     the exponential of the sigmoid                                                                                             */
#ifndef RT_OPS_FORMULAS_H
#define RT_OPS_FORMULAS_H

/* F(row, y as a function of x) */
#define RT_UNARY_FORMULAS(F)                                                                                                               \
    F(neg, -x)                                                                                                                             \
    F(abs, (real)fabs((wide)x))                                                                                                            \
    F(sign, (real)((x > 0) - (x < 0)))                                                                                                     \
    F(square, (x * x))                                                                                                                     \
    F(sqrt, (real)sqrt((wide)x))                                                                                                           \
    F(rsqrt, (real)(1 / sqrt((wide)x)))                                                                                                    \
    F(recip, 1 / x)                                                                                                                        \
    F(exp, (real)exp((wide)x))                                                                                                             \
    F(log, (real)log((wide)x))                                                                                                             \
    F(sin, (real)sin((wide)x))                                                                                                             \
    F(cos, (real)cos((wide)x))                                                                                                             \
    F(erf, (real)erf((wide)x))

/* F(row, y as a function of x and the row's number v) */
#define RT_NUMBER_FORMULAS(F)                                                                                                              \
    F(scale, ((real)v * x))                                                                                                                \
    F(offset, x + (real)v)                                                                                                                 \
    F(pow, (real)pow((wide)x, (wide)v))

RT_INLINE real sigmoid_of(real x) { return 1 / (1 + fast_exp(-x)); }
RT_INLINE wide softplus_of(wide x) { return fmax(x, (wide)0) + log1p(exp(-fabs(x))); }

#define RT_ACTIVATION_FORMULAS(F)                                                                                                          \
    F(tanh, (real)tanh((wide)x))                                                                                                           \
    F(sigmoid, sigmoid_of(x))                                                                                                              \
    F(softplus, (real)softplus_of((wide)x))                                                                                                \
    F(relu, x < 0 ? 0 : x) /* NaN stays NaN */                                                                                             \
    F(silu, (x * sigmoid_of(x)))                                                                                                           \
    F(mish, (real)((wide)x * tanh(softplus_of((wide)x))))                                                                                  \
    F(gelu_tanh,                                                                                                                           \
      (real)((wide)0.5 * (wide)x * (1 + tanh((wide)0.7978845608028654 * ((wide)x + (wide)0.044715 * (wide)x * (wide)x * (wide)x)))))       \
    F(gelu_erf, (real)((wide)0.5 * (wide)x * (1 + erf((wide)x * (wide)0.7071067811865476))))

/* F(row, y as a function of a and b) */
#define RT_BINARY_FORMULAS(F)                                                                                                              \
    F(add, a + b)                                                                                                                          \
    F(sub, a - b)                                                                                                                          \
    F(mul, (a * b))                                                                                                                        \
    F(div, a / b)                                                                                                                          \
    F(maximum, a > b || a != a ? a : b) /* NaN stays NaN, whichever side it is on */                                                       \
    F(minimum, a < b || a != a ? a : b)

/* The same of I64, which wraps around. */
#define RT_INTEGER_FORMULAS(F)                                                                                                             \
    F(add, (int64_t)((uint64_t)a + (uint64_t)b))                                                                                           \
    F(sub, (int64_t)((uint64_t)a - (uint64_t)b))                                                                                           \
    F(mul, (int64_t)((uint64_t)a * (uint64_t)b))

/* The gradient of SiLU: gy s (1 + x (1 - s)), s the sigmoid of x. */
RT_INLINE real silu_sloped(real gy, real x, real s) { return gy * s * (1 + x * (1 - s)); }

/* An index outside is a caller's mistake that a kernel cannot report: it is clamped, so that nothing outside is read; front ends check labels. */
RT_INLINE int64_t clamped(int64_t i, int64_t n) { return i < 0 ? 0 : i >= n ? n - 1 : i; }

/* The part of output (i, j)'s window that lies in an image of (h, w). */
typedef struct window {
    int64_t y0, y1, x0, x1;
    real weight; /* of each pixel in the average */
} window;

RT_INLINE window window_at(const int kernel[2], const int stride[2], const int pad[2], int exclude_pad, int64_t i, int64_t j, int64_t h,
                           int64_t w)
{
    int64_t y0 = i * stride[0] - pad[0], x0 = j * stride[1] - pad[1];
    window r = {y0, y0 + kernel[0], x0, x0 + kernel[1], 0};
    if (r.y0 < 0) r.y0 = 0;
    if (r.x0 < 0) r.x0 = 0;
    if (r.y1 > h) r.y1 = h;
    if (r.x1 > w) r.x1 = w;
    int64_t all = (int64_t)kernel[0] * kernel[1];
    r.weight = (real)1 / (real)(exclude_pad ? (r.y1 - r.y0) * (r.x1 - r.x0) : all);
    return r;
}

#endif
