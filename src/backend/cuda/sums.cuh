/* sums.cuh -- sums and extremes over axes, running sums, softmax over the last axis. Sums over axes add up in double. */
#include "backend/cuda/device.cuh"

/* What a reduction starts from, and how two parts become one. */
struct adding {
    static DEVICE_MEMBER double none() { return 0; }
    static DEVICE_MEMBER double joined(double a, double b) { return a + b; }
};
template <int SIGN> struct outdoing {
    static DEVICE_MEMBER double none() { return -SIGN * (double)INFINITY; }
    static DEVICE_MEMBER double joined(double a, double b) { return SIGN * b > SIGN * a || b != b ? b : a; } /* NaN stays */
};

/* The whole of what the lanes of an output have, by halves. */
template <class JOIN> DEVICE double joined_lanes(double own, double *part, unsigned lane, unsigned lanes, unsigned output, unsigned outputs)
{
    part[lane * outputs + output] = own;
    __syncthreads(); /* the lanes' parts are there */
    for (unsigned half = lanes / 2; half > 0; half /= 2) {
        if (lane < half) part[lane * outputs + output] = JOIN::joined(part[lane * outputs + output], part[(lane + half) * outputs + output]);
        __syncthreads(); /* so are halves, quarters, .. */
    }
    return part[output];
}

template <class JOIN, class READ> DEVICE void reduce(const rt__cuda_reduce_args &a, READ read)
{
    SHARED(double, part);
    const unsigned lanes = (unsigned)a.lanes, outputs = blockDim.x / lanes; /* of this block */
    const unsigned lane = a.along ? threadIdx.x % lanes : threadIdx.x / outputs;
    const unsigned output = a.along ? threadIdx.x / lanes : threadIdx.x % outputs, o = blockIdx.x * outputs + output;
    const unsigned begin = blockIdx.y * a.share, end = begin + a.share < a.length ? begin + a.share : a.length;
    double own = JOIN::none();
    if (o < a.outputs) {
        const size_t base = offset_of(o, a.rank[0], a.dim[0], a.step[0]);
        for (unsigned i = begin + lane; i < end; i += lanes)
            own = JOIN::joined(own, read(base + offset_of(i, a.rank[1], a.dim[1], a.step[1])));
    }
    const double whole = joined_lanes<JOIN>(own, part, lane, lanes, output, outputs);
    if (lane != 0 || o >= a.outputs) return;
    if (a.y)
        a.y[o] = (float)whole;
    else
        a.parts[(size_t)blockIdx.y * a.outputs + o] = whole;
}

template <class JOIN> DEVICE void reduce_reals(const rt__cuda_reduce_args &a)
{
    const rt__cuda_reals x = a.x;
    reduce<JOIN>(a, [=](size_t at) { return (double)load(x, at); });
}
KERNEL(sum, reduce) { reduce_reals<adding>(a); }
KERNEL(max, reduce) { reduce_reals<outdoing<1>>(a); }
KERNEL(min, reduce) { reduce_reals<outdoing<-1>>(a); }
KERNEL(sum_parts, reduce)
{
    const double *x = (const double *)a.x.data;
    reduce<adding>(a, [=](size_t at) { return x[at]; });
}

/* A thread for each line; lines are short. */
KERNEL(cumsum, cumsum)
{
    const unsigned line = thread_number();
    if (line >= a.outer * a.inner) return;
    const size_t base = (size_t)(line / a.inner) * a.n * a.inner + line % a.inner;
    double s = 0;
    for (unsigned i = 0; i < a.n; i++) {
        const size_t at = base + (size_t)(a.reverse ? a.n - 1 - i : i) * a.inner;
        s += (double)a.x[at];
        a.y[at] = (float)s;
    }
}

/* ---- softmax: blocks of (32, rows), a warp for each row */

enum { WARP = 32 };
#define WHOLE_WARP 0xffffffffu

/* Every lane gets the sum, in the same bits: a + b is b + a. */
DEVICE float warp_sum(float v)
{
    for (int apart = WARP / 2; apart > 0; apart /= 2) v += __shfl_xor_sync(WHOLE_WARP, v, apart);
    return v;
}

DEVICE float row_maximum(const float *x, unsigned n)
{
    float most = x[0];
    for (unsigned i = threadIdx.x; i < n; i += WARP) most = x[i] > most ? x[i] : most;
    for (int apart = WARP / 2; apart > 0; apart /= 2) {
        const float other = __shfl_xor_sync(WHOLE_WARP, most, apart);
        most = other > most ? other : most;
    }
    return most;
}

DEVICE unsigned row_number() { return blockIdx.x * blockDim.y + threadIdx.y; }

KERNEL(softmax, softmax)
{
    if (row_number() >= a.rows) return;
    const float *x = a.x + (size_t)row_number() * a.n;
    float *y = a.y + (size_t)row_number() * a.n, sum = 0;
    const float most = row_maximum(x, a.n);
    for (unsigned i = threadIdx.x; i < a.n; i += WARP) {
        const float e = expf(x[i] - most);
        sum += e;
        y[i] = e;
    }
    sum = 1 / warp_sum(sum);
    for (unsigned i = threadIdx.x; i < a.n; i += WARP) y[i] *= sum;
}

KERNEL(log_softmax, softmax)
{
    if (row_number() >= a.rows) return;
    const float *x = a.x + (size_t)row_number() * a.n;
    float *y = a.y + (size_t)row_number() * a.n, sum = 0;
    const float most = row_maximum(x, a.n);
    for (unsigned i = threadIdx.x; i < a.n; i += WARP) sum += expf(x[i] - most);
    const float log_sum = logf(warp_sum(sum));
    for (unsigned i = threadIdx.x; i < a.n; i += WARP) y[i] = x[i] - most - log_sum;
}

KERNEL(softmax_grad, softmax)
{
    if (row_number() >= a.rows) return;
    const size_t base = (size_t)row_number() * a.n;
    float dot = 0;
    for (unsigned i = threadIdx.x; i < a.n; i += WARP) dot += a.x[base + i] * a.gy[base + i];
    dot = warp_sum(dot);
    for (unsigned i = threadIdx.x; i < a.n; i += WARP) a.y[base + i] = a.x[base + i] * (a.gy[base + i] - dot);
}
