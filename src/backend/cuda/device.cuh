/* device.cuh -- what kernels share: the language of both compilers, formulas in float, loads and stores of float and bf16. */
#ifndef RT_BACKEND_CUDA_DEVICE_CUH
#define RT_BACKEND_CUDA_DEVICE_CUH

#ifdef __CUDACC__
#include <math.h>
#include <stdint.h>
extern __shared__ __align__(16) char shared_dynamic[];
#define DEVICE        static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#else
#include "emulate.h"
#define DEVICE        static inline
#define DEVICE_MEMBER inline
#endif

#define RT_BOTH   DEVICE
#define RT_INLINE DEVICE
typedef float real;
typedef float wide;
DEVICE float fast_exp(float x) { return __expf(x); }
#include "graph/ops/formulas.h"
#include "backend/cuda/kernels.h"

#define SHARED(type, name) type *name = (type *)shared_dynamic
#define KERNEL(name, family) extern "C" __global__ void rt__cuda_##name(const rt__cuda_##family##_args a)

enum { WIDE = 8 }; /* elements that lie side by side and are taken at once: 16 bytes of bf16, twice 16 of float */

/* ---- bf16 is the upper half of a float; to nearest, ties to even; NaN stays NaN */

DEVICE float widened(uint16_t v) { return __uint_as_float((unsigned)v << 16); }
DEVICE uint16_t rounded(float x)
{
    unsigned u = __float_as_uint(x), up = u + 0x7fff + (u >> 16 & 1);
    return (uint16_t)(((u & 0x7fffffff) > 0x7f800000 ? u | 0x400000 : up) >> 16);
}

DEVICE float load(const rt__cuda_reals &r, size_t at) { return r.bf16 ? widened(((const uint16_t *)r.data)[at]) : ((const float *)r.data)[at]; }
DEVICE void store(const rt__cuda_reals &r, size_t at, float v)
{
    if (r.bf16)
        ((uint16_t *)r.data)[at] = rounded(v);
    else
        ((float *)r.data)[at] = v;
}

/* W elements from `at` on: 8, which lie on a multiple of 16 bytes, or 1. */
template <int W> DEVICE void load(float (&to)[W], const rt__cuda_reals &r, size_t at)
{
    if (W == 1) {
        to[0] = load(r, at);
    } else if (r.bf16) {
        uint4 v = *(const uint4 *)((const uint16_t *)r.data + at);
        const unsigned words[4] = {v.x, v.y, v.z, v.w};
        for (int i = 0; i < W; i++) to[i] = __uint_as_float(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
    } else {
        const float4 *from = (const float4 *)((const float *)r.data + at);
        const float4 a = from[0], b = from[1];
        const float v[WIDE] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        for (int i = 0; i < W; i++) to[i] = v[i];
    }
}

template <int W> DEVICE void store(const rt__cuda_reals &r, size_t at, const float (&from)[W])
{
    if (W == 1) {
        store(r, at, from[0]);
    } else if (r.bf16) {
        unsigned words[WIDE / 2];
        for (int i = 0; i < WIDE / 2; i++) words[i] = rounded(from[2 * i % W]) | (unsigned)rounded(from[(2 * i + 1) % W]) << 16;
        *(uint4 *)((uint16_t *)r.data + at) = uint4{words[0], words[1], words[2], words[3]};
    } else {
        float4 *to = (float4 *)((float *)r.data + at);
        to[0] = float4{from[0], from[1 % W], from[2 % W], from[3 % W]};
        to[1] = float4{from[4 % W], from[5 % W], from[6 % W], from[7 % W]};
    }
}

/* The thread's number among all of the grid's first axis. */
DEVICE unsigned thread_number() { return blockIdx.x * blockDim.x + threadIdx.x; }

/* Where element `at`, counted along axes whose innermost is the first, lies. */
DEVICE size_t offset_of(unsigned at, int rank, const unsigned *dim, const unsigned *step)
{
    size_t offset = 0;
    for (int i = 0; i < rank - 1; i++) {
        offset += (size_t)(at % dim[i]) * step[i];
        at /= dim[i];
    }
    return offset + (size_t)at * step[rank - 1];
}

#endif
