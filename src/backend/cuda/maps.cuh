/* maps.cuh -- rows that work element by element, with broadcasting. */
#include "backend/cuda/device.cuh"

/* y = f(x0, ..), N operands; results may overwrite operands of their shape. */
template <int N, class F> DEVICE void map_reals(const rt__cuda_map_args &a, F f)
{
    const unsigned at = thread_number() * (a.wide ? WIDE : 1);
    if (at >= a.count) return;
    size_t from[N];
    for (int k = 0; k < N; k++) from[k] = offset_of(at, a.rank, a.dim, a.step[k]);
    if (a.wide) {
        float x[N][WIDE], y[WIDE];
        for (int k = 0; k < N; k++) {
            if (a.step[k][0]) {
                load(x[k], a.x[k], from[k]);
            } else {
                x[k][0] = load(a.x[k], from[k]);
                for (int i = 1; i < WIDE; i++) x[k][i] = x[k][0];
            }
        }
        for (int i = 0; i < WIDE; i++) y[i] = f(x[0][i], x[N - 1][i]);
        store(a.y, at, y);
    } else {
        store(a.y, at, f(load(a.x[0], from[0]), load(a.x[N - 1], from[N - 1])));
    }
}

#define UNARY(op, expr)                                                                                                                    \
    DEVICE float f_##op(float x) { return expr; }                                                                                          \
    KERNEL(op, map)                                                                                                                        \
    {                                                                                                                                      \
        map_reals<1>(a, [](float x, float) { return f_##op(x); });                                                                         \
    }
RT_UNARY_FORMULAS(UNARY)
RT_ACTIVATION_FORMULAS(UNARY)

#define WITH_NUMBER(op, expr)                                                                                                              \
    DEVICE float f_##op(float x, double v) { return expr; }                                                                                \
    KERNEL(op, map)                                                                                                                        \
    {                                                                                                                                      \
        const double v = a.v;                                                                                                              \
        map_reals<1>(a, [=](float x, float) { return f_##op(x, v); });                                                                     \
    }
RT_NUMBER_FORMULAS(WITH_NUMBER)

#define BINARY(op, expr)                                                                                                                   \
    DEVICE float f_##op(float a, float b) { return expr; }                                                                                 \
    KERNEL(op, map)                                                                                                                        \
    {                                                                                                                                      \
        map_reals<2>(a, [](float p, float q) { return f_##op(p, q); });                                                                    \
    }
RT_BINARY_FORMULAS(BINARY)

KERNEL(silu_grad, map)
{
    map_reals<2>(a, [](float x, float gy) { return silu_sloped(gy, x, sigmoid_of(x)); });
}
KERNEL(trail, map)
{
    const float keep = (float)a.v;
    map_reals<2>(a, [=](float own, float ahead) { return keep * own + (1 - keep) * ahead; });
}
KERNEL(convert, map) /* float and bf16 into each other */
{
    map_reals<1>(a, [](float x, float) { return x; });
}

/* y = f(a, b) with operands of type T and results of type R, an element a thread. */
template <class T, class R, class F> DEVICE void map_any(const rt__cuda_map_args &a, F f)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const T *p = (const T *)a.x[0].data, *q = (const T *)a.x[1].data;
    ((R *)a.y.data)[at] = f(p[offset_of(at, a.rank, a.dim, a.step[0])], q[offset_of(at, a.rank, a.dim, a.step[1])]);
}

#define INTEGER(op, expr)                                                                                                                  \
    DEVICE int64_t i_##op(int64_t a, int64_t b) { return expr; }                                                                           \
    KERNEL(op##_i64, map)                                                                                                                  \
    {                                                                                                                                      \
        map_any<int64_t, int64_t>(a, [](int64_t p, int64_t q) { return i_##op(p, q); });                                                   \
    }
RT_INTEGER_FORMULAS(INTEGER)

KERNEL(less, map)
{
    map_any<float, unsigned char>(a, [](float p, float q) { return (unsigned char)(p < q); });
}
KERNEL(equal, map)
{
    map_any<float, unsigned char>(a, [](float p, float q) { return (unsigned char)(p == q); });
}
KERNEL(less_i64, map)
{
    map_any<int64_t, unsigned char>(a, [](int64_t p, int64_t q) { return (unsigned char)(p < q); });
}
KERNEL(equal_i64, map)
{
    map_any<int64_t, unsigned char>(a, [](int64_t p, int64_t q) { return (unsigned char)(p == q); });
}

template <class T> DEVICE void choose(const rt__cuda_map_args &a)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const bool first = ((const unsigned char *)a.x[0].data)[offset_of(at, a.rank, a.dim, a.step[0])] != 0;
    const int k = first ? 1 : 2;
    ((T *)a.y.data)[at] = ((const T *)a.x[k].data)[offset_of(at, a.rank, a.dim, a.step[k])];
}
KERNEL(where, map) { choose<float>(a); }
KERNEL(where_i64, map) { choose<int64_t>(a); }

KERNEL(cast, map)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const void *x = a.x[0].data;
    const double v = a.from == RT_F32   ? (double)((const float *)x)[at]
                     : a.from == RT_F64 ? ((const double *)x)[at]
                     : a.from == RT_I64 ? (double)((const int64_t *)x)[at]
                                        : (double)((const unsigned char *)x)[at];
    if (a.to == RT_F32)
        ((float *)a.y.data)[at] = (float)v;
    else if (a.to == RT_F64)
        ((double *)a.y.data)[at] = v;
    else
        ((int64_t *)a.y.data)[at] = (int64_t)v;
}
