/* kernels.h -- own kernels of the CUDA backend: their names and arguments, and how a node of a program becomes launches of them.
 *
 *     rt_call --rt__cuda_enqueue (rows.c)--> launches, in order --> cuLaunchKernel, or tests/cuda/emulate.h
 *
 * A kernel rt__cuda_NAME takes one rt__cuda_FAMILY_args, by value. Addresses in it are the device's, and so is every rt_view's. Counts and offsets have 32
 * bits: rows with more than 2^31 - 1 elements in a value are refused. Sums run in trees that depend on extents only; atomics are of integers, whose order no
 * bit depends on. */
#ifndef RT_BACKEND_CUDA_KERNELS_H
#define RT_BACKEND_CUDA_KERNELS_H

#ifdef __cplusplus
#include "retort/graph.h"
#include "retort/ops.h"
#else
#include "graph/ops/kernel.h"
#endif

enum { RT_CUDA_TENSORS = 120, RT_CUDA_OPERANDS = 3 };

/* Real numbers in float, or in bf16. */
typedef struct rt__cuda_reals {
    void *data; /* NULL: absent */
    int bf16;
} rt__cuda_reals;

/* y[i] = f(x0[..], x1[..], x2[..]) over merged axes, the innermost first; operand k's step on axis i is step[k][i]. */
typedef struct rt__cuda_map_args {
    rt__cuda_reals y, x[RT_CUDA_OPERANDS];
    double v; /* of a row with a number; trail: what is kept */
    unsigned count, dim[RT_MAX_RANK], step[RT_CUDA_OPERANDS][RT_MAX_RANK];
    int rank, wide;    /* wide: eight elements a thread, which lie side by side or are one */
    rt_dtype from, to; /* cast */
} rt__cuda_map_args;

/* y[..] = x[..] in units of 1 to 16 bytes, each with its own steps; the innermost axis first. */
typedef struct rt__cuda_copy_args {
    void *y;
    const void *x;
    unsigned count, dim[RT_MAX_RANK], y_step[RT_MAX_RANK], x_step[RT_MAX_RANK];
    int rank;
} rt__cuda_copy_args;

/* y[n][c][r] = x[n][r][c] */
typedef struct rt__cuda_transpose_args {
    void *y;
    const void *x;
    unsigned rows, cols;
} rt__cuda_transpose_args;

/* y[o][start + step k][i] = x[o][k][i], else 0; y (.., extent, inner), x (.., rows, inner) */
typedef struct rt__cuda_place_args {
    void *y;
    const void *x;
    unsigned count, extent, rows, inner, start, step;
} rt__cuda_place_args;

/* take: y[o][k][i] = x[o][index][i]. add: y[o][j][i] = sum over index = j of x[o][k][i], k in order. The index is that of k, or of the element. */
typedef struct rt__cuda_select_args {
    void *y;
    const void *x;
    const int64_t *index;
    unsigned count, n, k, inner; /* count: of y; n: extent of the long axis, k: of the indices */
    int of_element;
} rt__cuda_select_args;

/* y[o] = sum of x over the reduced axes: kept (0) and reduced (1) axes with their steps in x, the innermost first. A block has 256 threads, some for outputs,
 * the others for a stretch of the reduced axes; blockIdx.y of several adds up its part, which sum_parts adds up in order. */
typedef struct rt__cuda_reduce_args {
    float *y;      /* NULL: to parts */
    double *parts; /* (splits, outputs) */
    rt__cuda_reals x;
    unsigned outputs, length, share; /* share: of length, for each split */
    unsigned dim[2][RT_MAX_RANK], step[2][RT_MAX_RANK];
    int rank[2], lanes; /* lanes: threads that share an output, a power of 2 */
    int along;          /* are neighbours in a block neighbours along the reduced axes? Else along the kept ones. */
} rt__cuda_reduce_args;

typedef struct rt__cuda_cumsum_args {
    float *y;
    const float *x;
    unsigned outer, n, inner;
    int reverse;
} rt__cuda_cumsum_args;

/* A warp for each row of n. */
typedef struct rt__cuda_softmax_args {
    float *y;
    const float *x, *gy; /* softmax_grad: x is the result */
    unsigned rows, n;
} rt__cuda_softmax_args;

/* The rows of graph/ops/norm.c. A block has all pixels of `span` channels, which are whole groups, of one sample. Element (c, p) of a sample is at
 * c channel_step + p pixel_step. */
typedef struct rt__cuda_norm_args {
    rt__cuda_reals y, x, gy, addend, shift; /* y NULL: only the sums are wanted */
    const float *w, *b;
    float *sums; /* (N,C,3); NULL: not wanted */
    unsigned channels, pixels, per_group, span, columns, rows;
    unsigned channel_step, pixel_step;
    float eps;
    int silu, across; /* across: the threads of a warp are at pixels side by side, else at channels */
} rt__cuda_norm_args;

/* Images of (planes, h, w, b) and results of (planes, oh, ow, b). */
typedef struct rt__cuda_pool_args {
    rt__cuda_reals y, x, v; /* v: what is picked, or the gradient, of max_pool rows */
    unsigned count, h, w, oh, ow, b;
    int kernel[2], stride[2], pad[2], exclude_pad;
} rt__cuda_pool_args;

typedef struct rt__cuda_draw_args {
    void *y;
    const rt_clock *clock;
    int64_t below;                       /* randint */
    unsigned samples, width, per_sample; /* per_sample: rows of a sample of the batch; 0: the draw is the whole batch's */
    uint32_t name;
} rt__cuda_draw_args;

/* Grids (particles, nodes, channels) at points, or along rays with so many samples each, which are points, too. A grid's adjoint is several launches. */
typedef struct rt__cuda_grid_args {
    float *y;
    const float *grid, *at, *gy;      /* at: points (..,3) or rays (..,9) */
    const int64_t *particle;          /* of each sample of the batch; NULL: the first */
    float *slopes;                    /* gradients at points (.., channels) */
    unsigned long long *sums;         /* of the adjoint, in units; see grids.cuh */
    unsigned *largest;                /* the bits of the largest of slopes */
    unsigned count;                   /* of what a launch's threads or warps are for: numbers at points, or rays */
    unsigned numbers, size;           /* of an adjoint; of one particle's grid */
    unsigned channels, samples, rays; /* rays: of each sample of the batch */
    int nodes[3], particles, room;
    float bias, per_length; /* render: of the density; 1/cell */
} rt__cuda_grid_args;

/* clip, .., of graph/ops/steps.h */
typedef struct rt__cuda_coefficients_args {
    void *to; /* coefficients */
    float *y; /* the row's value */
    const float *lr, *t, *decay, *norm2;
    rt_optimiser opt;
} rt__cuda_coefficients_args;

/* blockIdx.y is a tensor, whose elements the first blocks along x share. */
typedef struct rt__cuda_tensors_args {
    struct rt__cuda_tensor {
        const float *x;         /* gradient; NULL: frozen */
        uint64_t offset;        /* in the arrays of the set; of squares: in parts */
        unsigned count, blocks; /* blocks: that share it, of those along x */
    } tensor[RT_CUDA_TENSORS];
    const void *coefficients;
    float *values, *moments, *squares, *averages; /* averages NULL: not kept */
    double *parts;
} rt__cuda_tensors_args;

#define RT_CUDA_KERNEL(name, family) RT_CUDA_##name,
typedef enum rt__cuda_kernel {
#include "backend/cuda/kernels.def"
    RT_CUDA_KERNELS
} rt__cuda_kernel;
#undef RT_CUDA_KERNEL

typedef struct rt__cuda_launch {
    rt__cuda_kernel kernel;
    unsigned grid[3], block[3], shared; /* shared: bytes of dynamic shared memory, at most 48 KiB */
    union {
        rt__cuda_map_args map;
        rt__cuda_copy_args copy;
        rt__cuda_transpose_args transpose;
        rt__cuda_place_args place;
        rt__cuda_select_args select;
        rt__cuda_reduce_args reduce;
        rt__cuda_cumsum_args cumsum;
        rt__cuda_softmax_args softmax;
        rt__cuda_norm_args norm;
        rt__cuda_pool_args pool;
        rt__cuda_draw_args draw;
        rt__cuda_grid_args grid;
        rt__cuda_coefficients_args coefficients;
        rt__cuda_tensors_args tensors;
    } args;
} rt__cuda_launch;

#ifdef __cplusplus
extern "C" {
#endif
extern const char *const rt__cuda_names[RT_CUDA_KERNELS]; /* "rt__cuda_add", .. */

typedef void rt__cuda_take(void *to, const rt__cuda_launch *launch);
#ifndef __cplusplus
/* Hands the launches of a call to `take`, in order, or with NULL only answers: has its row kernels here for these extents, types and layouts? Images are
 * plain or, with as many channels in a block as they have, channels last. */
bool rt__cuda_enqueue(const rt_call *c, rt__cuda_take *take, void *to);
/* Bytes of scratch for a call that rt__cuda_enqueue answers with yes. */
size_t rt__cuda_scratch(const rt_call *c);
/* Their code for cuModuleLoadData; NULL: the program was built without RETORT_CUDA. */
const void *rt__cuda_fatbin(void);

/* y += x, of RT_F32 or RT_I64 */
void rt__cuda_enqueue_add(void *y, const void *x, int64_t count, rt_dtype dtype, rt__cuda_take *take, void *to);
/* y = keep y + (1 - keep) x, of RT_F32 */
void rt__cuda_enqueue_trail(void *y, const void *x, double keep, int64_t count, rt__cuda_take *take, void *to);
#endif
#ifdef __cplusplus
}
#endif

#endif
