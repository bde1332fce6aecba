/* updates.cuh -- the sum of all squares of a gradient, and an optimiser's step: one sweep over the tensors of a set, clipping and averages with it. */
#include "backend/cuda/device.cuh"

#include "graph/ops/steps.h"

KERNEL(squares, tensors)
{
    SHARED(double, part);
    const struct rt__cuda_tensors_args::rt__cuda_tensor &t = a.tensor[blockIdx.y];
    if (blockIdx.x >= t.blocks) return;
    double sum = 0;
    for (unsigned i = thread_number(); i < t.count; i += t.blocks * blockDim.x) sum += (double)t.x[i] * (double)t.x[i];
    sum = joined_lanes<adding>(sum, part, threadIdx.x, blockDim.x, 0, 1);
    if (threadIdx.x == 0) a.parts[t.offset + blockIdx.x] = sum;
}

KERNEL(coefficients, coefficients)
{
    const coefficients k = coefficients_of(&a.opt, (double)*a.lr, (double)*a.t, (double)*a.decay, (double)*a.norm2);
    *(coefficients *)a.to = k;
    *a.y = k.clip;
}

template <class STEP> DEVICE void sweep(const rt__cuda_tensors_args &a, STEP step)
{
    const struct rt__cuda_tensors_args::rt__cuda_tensor &t = a.tensor[blockIdx.y];
    const coefficients k = *(const coefficients *)a.coefficients;
    if (blockIdx.x >= t.blocks) return;
    for (unsigned i = thread_number(); i < t.count; i += t.blocks * blockDim.x) {
        const size_t at = t.offset + i;
        if (t.x) step(k, t.x[i], at);
        if (a.averages) a.averages[at] = t.x ? moved_average(&k, a.averages[at], a.values[at]) : kept_average(&k, a.averages[at], a.values[at]);
    }
}
KERNEL(adam, tensors)
{
    float *p = a.values, *m = a.moments, *v = a.squares;
    sweep(a, [=](const coefficients &k, float g, size_t at) { adam_step(&k, g, p + at, m + at, v + at); });
}
KERNEL(sgd, tensors)
{
    float *p = a.values, *m = a.moments;
    sweep(a, [=](const coefficients &k, float g, size_t at) { sgd_step(&k, g, p + at, m + at); });
}
