/* pools.cuh -- windows over images (planes, h, w, b) and results (planes, oh, ow, b). Adjoints gather: each pixel looks at the windows that hold it, in
 * order. */
#include "backend/cuda/device.cuh"

struct pixel { /* of the value that the grid runs over */
    unsigned k, i, j;
    size_t plane;
};
DEVICE pixel pixel_of(const rt__cuda_pool_args &a, unsigned at, unsigned h, unsigned w)
{
    pixel p;
    p.k = at % a.b;
    at /= a.b;
    p.j = at % w;
    at /= w;
    p.i = at % h;
    p.plane = at / h;
    return p;
}

DEVICE window window_of(const rt__cuda_pool_args &a, unsigned i, unsigned j)
{
    return window_at(a.kernel, a.stride, a.pad, a.exclude_pad, i, j, a.h, a.w);
}
DEVICE size_t image_at(const rt__cuda_pool_args &a, const pixel &p, int64_t i, int64_t j)
{
    return ((p.plane * a.h + (size_t)i) * a.w + (size_t)j) * a.b + p.k;
}
DEVICE size_t result_at(const rt__cuda_pool_args &a, const pixel &p, unsigned i, unsigned j) { return ((p.plane * a.oh + i) * a.ow + j) * a.b + p.k; }

/* The windows from..to - 1 along an axis hold position at. */
DEVICE void windows_over(const rt__cuda_pool_args &a, int axis, unsigned at, unsigned results, unsigned *from, unsigned *to)
{
    const int kernel = a.kernel[axis], stride = a.stride[axis], last = (int)at + a.pad[axis], first = last - kernel + 1;
    *from = first <= 0 ? 0 : (unsigned)((first + stride - 1) / stride);
    *to = (unsigned)(last / stride) + 1;
    if (*to > results) *to = results;
}

/* Where the window's maximum is; a NaN wins, so that it is seen; of equal pixels the first. */
DEVICE size_t largest_at(const rt__cuda_pool_args &a, const pixel &p, const window &r)
{
    size_t best = image_at(a, p, r.y0, r.x0);
    for (int64_t i = r.y0; i < r.y1; i++)
        for (int64_t j = r.x0; j < r.x1; j++) {
            const size_t at = image_at(a, p, i, j);
            const float v = load(a.x, at);
            if (v > load(a.x, best) || v != v) best = at;
        }
    return best;
}

KERNEL(avg_pool, pool)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const pixel p = pixel_of(a, at, a.oh, a.ow);
    const window r = window_of(a, p.i, p.j);
    float sum = 0;
    for (int64_t i = r.y0; i < r.y1; i++)
        for (int64_t j = r.x0; j < r.x1; j++) sum += load(a.x, image_at(a, p, i, j));
    store(a.y, at, sum * r.weight);
}

KERNEL(avg_pool_data, pool)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const pixel p = pixel_of(a, at, a.h, a.w);
    unsigned i0, i1, j0, j1;
    windows_over(a, 0, p.i, a.oh, &i0, &i1);
    windows_over(a, 1, p.j, a.ow, &j0, &j1);
    float sum = 0;
    for (unsigned i = i0; i < i1; i++)
        for (unsigned j = j0; j < j1; j++) sum += load(a.x, result_at(a, p, i, j)) * window_of(a, i, j).weight;
    store(a.y, at, sum);
}

KERNEL(max_pool, pool)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const pixel p = pixel_of(a, at, a.oh, a.ow);
    store(a.y, at, load(a.v, largest_at(a, p, window_of(a, p.i, p.j))));
}

KERNEL(max_pool_data, pool)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const pixel p = pixel_of(a, at, a.h, a.w);
    unsigned i0, i1, j0, j1;
    windows_over(a, 0, p.i, a.oh, &i0, &i1);
    windows_over(a, 1, p.j, a.ow, &j0, &j1);
    float sum = 0;
    for (unsigned i = i0; i < i1; i++)
        for (unsigned j = j0; j < j1; j++)
            if (largest_at(a, p, window_of(a, i, j)) == at) sum += load(a.v, result_at(a, p, i, j));
    store(a.y, at, sum);
}
