/* layout.c -- an image from one layout to another. The layout pass (lower.c) places this row; no builder makes it. */
#include "graph/ops/kernel.h"

static bool reblock_shape(rt_node *y)
{
    const rt_node *x = y->in[0];
    y->dtype = x->dtype;
    y->rank = x->rank;
    memcpy(y->shape, x->shape, sizeof y->shape);
    return ((rt__is_real(x) || x->dtype == RT_BOOL) && x->rank == 4) || rt__bad(y, "an image or a mask must be (N,C,H,W)");
}

static void reblock_grad(rt_node *y, rt_node *gy, rt_node **gx) { (void)y, gx[0] = gy; }

/* y (cols,rows) = x (rows,cols) transposed, in tiles that stay in the cache. */
#define TRANSPOSE(T)                                                                                                                       \
    RT_INLINE void tiles_##T(T *restrict y, const T *restrict x, int64_t rows, int64_t cols)                                               \
    {                                                                                                                                      \
        enum { TILE = 16 };                                                                                                                \
        for (int64_t c0 = 0; c0 < cols; c0 += TILE)                                                                                        \
            for (int64_t r0 = 0; r0 < rows; r0 += TILE)                                                                                    \
                for (int64_t c = c0; c < cols && c < c0 + TILE; c++)                                                                       \
                    for (int64_t r = r0; r < rows && r < r0 + TILE; r++) y[c * rows + r] = x[r * cols + c];                                \
    }                                                                                                                                      \
    static void transpose_##T(void *y, const void *x, int64_t at, int64_t rows, int64_t cols)                                              \
    {                                                                                                                                      \
        if (rows == 16) /* sizes that are known make vectors */                                                                            \
            tiles_##T((T *)y + at, (const T *)x + at, 16, cols);                                                                           \
        else if (rows == 8)                                                                                                                \
            tiles_##T((T *)y + at, (const T *)x + at, 8, cols);                                                                            \
        else if (cols == 8)                                                                                                                \
            tiles_##T((T *)y + at, (const T *)x + at, rows, 8);                                                                            \
        else if (cols == 16)                                                                                                               \
            tiles_##T((T *)y + at, (const T *)x + at, rows, 16);                                                                           \
        else                                                                                                                               \
            tiles_##T((T *)y + at, (const T *)x + at, rows, cols);                                                                         \
    }
TRANSPOSE(real)
TRANSPOSE(uint16_t)
TRANSPOSE(uint8_t)

/* [C][HW] <-> [C/b][HW][b]: one side is plain. */
static void reblock_run(const rt_call *c)
{
    const rt_view *x = &c->in[0], *y = &c->out;
    int64_t from = x->block > 1 ? x->block : 1, to = y->block > 1 ? y->block : 1, b = from > to ? from : to, pixels = x->dim[2] * x->dim[3];
    int64_t rows = to > 1 ? b : pixels, cols = to > 1 ? pixels : b;
    if (from == to) {
        memcpy(y->data, x->data, (size_t)x->count * rt_dtype_size(x->dtype));
        return;
    }
#pragma omp parallel for schedule(static) if (x->count > CHUNK)
    for (int64_t at = 0; at < x->count; at += b * pixels) {
        if (x->dtype == RT_BOOL)
            transpose_uint8_t(y->data, x->data, at, rows, cols);
        else if (is_bf16(x))
            transpose_uint16_t(y->data, x->data, at, rows, cols);
        else
            transpose_real(y->data, x->data, at, rows, cols);
    }
}

static rt_node *reblock_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt__emit1(RT_OP_reblock, RT_SAMPLE_IN(g, "a", 2, 6), NULL);
    case 0: return rt__emit1(RT_OP_reblock, RT_SAMPLE_IN(g, "a", RT_BATCH, 6, 3, 5), NULL);
    default: return NULL;
    }
}

const rt_op RT_ROW(reblock) = {
    .name = "reblock",
    .formula = "x; its channels stored in blocks, or no longer",
    .min_in = 1,
    .max_in = 1,
    .batch = RT_MAPS,
    .shape = reblock_shape,
    .grad = reblock_grad,
    .jvp = rt__jvp_linear,
    .run = reblock_run,
    .sample = reblock_sample,
};
