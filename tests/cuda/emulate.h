/* emulate.h -- CUDA kernels on the processor, for tests: with this header first, g++ compiles kernels.cu as C++.
 *
 * Each thread of a block is a fiber, which runs until it meets a barrier or a shuffle. What may not matter changes from launch to launch: the order of
 * blocks and of the threads between two barriers, and what shared memory holds at first, which is NaN. So a missing barrier is a wrong result, and address
 * sanitizers see what a kernel reads and writes. Blocks run one at a time; `emulate::divergent` counts barriers that some threads of a block, or of a warp
 * that shuffles, never reached. */
#ifndef RT_TESTS_CUDA_EMULATE_H
#define RT_TESTS_CUDA_EMULATE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
extern char *shared_dynamic;
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

namespace emulate
{
enum barrier { BLOCK, WARP_OF_BLOCK };
void wait_for(barrier all);
uint32_t exchange(uint32_t word, unsigned lane); /* the word of another lane of the warp */
extern long divergent;
extern uint64_t order; /* what orders follow from */
} // namespace emulate

static inline void __syncthreads() { emulate::wait_for(emulate::BLOCK); }
static inline void __syncwarp() { emulate::wait_for(emulate::WARP_OF_BLOCK); }
static inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline float __shfl_sync(unsigned, float v, int lane)
{
    return __uint_as_float(emulate::exchange(__float_as_uint(v), (unsigned)lane));
}
static inline float __shfl_xor_sync(unsigned all, float v, int mask)
{
    unsigned lane = (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
    return __shfl_sync(all, v, (int)(lane ^ (unsigned)mask));
}
static inline void atomicAdd(unsigned long long *to, unsigned long long v) { *to += v; }
static inline void atomicMax(unsigned *to, unsigned v) { *to = v > *to ? v : *to; }
static inline float rt__emulated_exp(float x) { return expf(x); }
#define __expf rt__emulated_exp /* the C library has one of that name */

#endif
