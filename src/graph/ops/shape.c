/* shape.c -- moving elements without changing them: views, permutations, joins, cuts, selection by index. */
#include "graph/ops/attr.h"
#include "graph/ops/kernel.h"

static void copy_shape(rt_node *y, int rank, const int64_t *shape)
{
    y->rank = rank;
    if (rank) memcpy(y->shape, shape, (size_t)rank * sizeof *shape);
}

/* Extents of axes before, at and after an axis, multiplied. */
typedef struct around {
    int64_t outer, n, inner;
} around;
static around axis_of(const rt_view *v, int axis)
{
    around a = {1, v->dim[axis], 1};
    for (int i = 0; i < axis; i++) a.outer *= v->dim[i];
    for (int i = axis + 1; i < v->rank; i++) a.inner *= v->dim[i];
    return a;
}
static bool good_axis(rt_node *y, int axis, const rt_node *x)
{
    if (axis < 0 || axis >= x->rank) return rt__bad(y, "axis %d", axis);
    return x->shape[axis] > 0 || rt__bad(y, "not along the batch");
}

/* ---- reshape: the same memory under other extents */

static int64_t units(const rt_node *n) /* elements, per sample where the batch is symbolic; -1: too many */
{
    int64_t count = 1;
    for (int i = 0; i < n->rank; i++)
        if (__builtin_mul_overflow(count, n->shape[i] < 0 ? -n->shape[i] : n->shape[i], &count)) return -1;
    return count;
}
static bool reshape_shape(rt_node *y)
{
    const rt__shape_attr *a = y->attr;
    const rt_node *x = y->in[0];
    y->dtype = x->dtype;
    copy_shape(y, (int)a->rank, a->shape);
    bool symbolic = x->rank > 0 && x->shape[0]<0, still = y->rank> 0 && y->shape[0] < 0;
    if (symbolic != still) return rt__bad(y, "the batch must stay in front");
    return units(x) == units(y) || rt__bad(y, "%lld elements cannot become %lld", (long long)units(x), (long long)units(y));
}
static void reshape_grad(rt_node *y, rt_node *gy, rt_node **gx) { gx[0] = rt_reshape(gy, y->in[0]->rank, y->in[0]->shape); }

/* ---- permute */

static bool permute_shape(rt_node *y)
{
    const rt__shape_attr *a = y->attr;
    const rt_node *x = y->in[0];
    unsigned seen = 0;
    if (a->rank != x->rank) return rt__bad(y, "an order of %d axes", (int)a->rank);
    for (int i = 0; i < a->rank; i++) {
        if (a->shape[i] < 0 || a->shape[i] >= a->rank || seen >> a->shape[i] & 1) return rt__bad(y, "not an order of the axes");
        seen |= 1u << a->shape[i];
        y->shape[i] = x->shape[a->shape[i]];
    }
    y->rank = x->rank;
    y->dtype = x->dtype;
    return x->rank == 0 || x->shape[0] > 0 || a->shape[0] == 0 || rt__bad(y, "the batch must stay in front");
}

enum { TILE = 16 };

/* y[r,k] = x[r row_step + k step] for rows r0 .. r1 - 1, in tiles so that both sides stay in cache. */
#define TILES(name, T)                                                                                                                     \
    static void name(T *restrict y, const T *restrict x, int64_t r0, int64_t r1, int64_t cols, int64_t row_step, int64_t step)             \
    {                                                                                                                                      \
        for (int64_t c0 = 0; c0 < cols; c0 += TILE)                                                                                        \
            for (int64_t r = r0; r < r1; r++)                                                                                              \
                for (int64_t k = c0; k < (c0 + TILE < cols ? c0 + TILE : cols); k++) y[r * cols + k] = x[r * row_step + k * step];         \
    }
TILES(tile, real)
TILES(tile_bf16, uint16_t)

/* Copies in the order of the output; the innermost two axes that matter are walked in tiles so that both sides stay in cache. */
static void permute_run(const rt_call *c)
{
    const rt__shape_attr *a = c->node->attr;
    size_t size = rt_dtype_size(c->out.dtype);
    int64_t step[RT_MAX_RANK], x_step[RT_MAX_RANK], n = 1;
    for (int i = c->in[0].rank - 1; i >= 0; i--) {
        x_step[i] = n;
        n *= c->in[0].dim[i];
    }
    int rank = 0;
    int64_t dim[RT_MAX_RANK]; /* merged axes of the output, innermost first */
    for (int i = c->out.rank - 1; i >= 0; i--) {
        int64_t s = x_step[a->shape[i]];
        if (c->out.dim[i] == 1) continue;
        if (rank && s == step[rank - 1] * dim[rank - 1]) {
            dim[rank - 1] *= c->out.dim[i];
        } else {
            dim[rank] = c->out.dim[i];
            step[rank++] = s;
        }
    }
    if (rank == 0) {
        memcpy(c->out.data, c->in[0].data, size * (size_t)c->out.count);
        return;
    }
    int64_t rows = rank > 1 ? dim[1] : 1, row_step = rank > 1 ? step[1] : 0, cols = dim[0], outer = c->out.count / (rows * cols);
    int64_t tiles = (rows + TILE - 1) / TILE;
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t o = 0; o < outer * tiles; o++) {
        int64_t base = 0, rest = o / tiles, r0 = o % tiles * TILE, r1 = r0 + TILE < rows ? r0 + TILE : rows;
        for (int i = 2; i < rank; i++) {
            base += rest % dim[i] * step[i];
            rest /= dim[i];
        }
        int64_t y0 = o / tiles * rows * cols;
        if (step[0] == 1) {
            for (int64_t r = r0; r < r1; r++)
                memcpy((char *)c->out.data + (size_t)(y0 + r * cols) * size,
                       (const char *)c->in[0].data + (size_t)(base + r * row_step) * size, (size_t)cols * size);
        } else if (size == sizeof(real)) {
            tile((real *)c->out.data + y0, (const real *)c->in[0].data + base, r0, r1, cols, row_step, step[0]);
        } else if (size == sizeof(uint16_t)) {
            tile_bf16((uint16_t *)c->out.data + y0, (const uint16_t *)c->in[0].data + base, r0, r1, cols, row_step, step[0]);
        } else {
            for (int64_t r = r0; r < r1; r++)
                for (int64_t k = 0; k < cols; k++)
                    memcpy((char *)c->out.data + (size_t)(y0 + r * cols + k) * size,
                           (const char *)c->in[0].data + (size_t)(base + r * row_step + k * step[0]) * size, size);
        }
    }
}
static void permute_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    const rt__shape_attr *a = y->attr;
    int back[RT_MAX_RANK];
    for (int i = 0; i < a->rank; i++) back[a->shape[i]] = i;
    gx[0] = rt_permute(gy, back);
}

/* ---- broadcast */

static bool broadcast_shape(rt_node *y)
{
    const rt__shape_attr *a = y->attr;
    const rt_node *x = y->in[0];
    rt_node to = {.rank = (int)a->rank};
    memcpy(to.shape, a->shape, sizeof to.shape);
    y->dtype = x->dtype;
    if (!rt__broadcast_shape(x, &to, &y->rank, y->shape) || y->rank != a->rank ||
        memcmp(y->shape, a->shape, (size_t)a->rank * sizeof *a->shape))
        return rt__bad(y, "does not broadcast to the shape asked for");
    return true;
}
static void broadcast_run(const rt_call *c)
{
    loops l = merge_loops(c, 1);
    size_t size = rt_dtype_size(c->out.dtype);
    int64_t inner = l.dim[0], outer = c->out.count / inner;
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t o = 0; o < outer; o++) {
        int64_t at;
        loop_offsets(&l, o, 1, &at);
        char *y = (char *)c->out.data + (size_t)(o * inner) * size;
        const char *x = (const char *)c->in[0].data + (size_t)at * size;
        if (l.stride[0][0]) {
            memcpy(y, x, (size_t)inner * size);
        } else if (size == sizeof(real)) {
            for (int64_t i = 0; i < inner; i++) ((real *)(void *)y)[i] = *(const real *)(const void *)x;
        } else if (size == sizeof(uint16_t)) {
            for (int64_t i = 0; i < inner; i++) ((uint16_t *)(void *)y)[i] = *(const uint16_t *)(const void *)x;
        } else {
            for (int64_t i = 0; i < inner; i++) memcpy(y + (size_t)i * size, x, size);
        }
    }
}
static void broadcast_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    (void)y;
    gx[0] = gy; /* the caller sums down to x's shape */
}

/* ---- concat and slice */

/* Channels that lie in one block are an image's last axis. */
static around rows_of(const rt_view *v, int axis)
{
    if (axis != 1 || v->block <= 1 || v->block != v->dim[1]) return axis_of(v, axis);
    return (around){v->dim[0] * v->dim[2] * v->dim[3], v->dim[1], 1};
}

static bool concat_shape(rt_node *y)
{
    const rt__axis_attr *a = y->attr;
    const rt_node *x = y->in[0];
    if ((int)a->axis < 0 || (int)a->axis >= x->rank) return rt__bad(y, "axis %d", (int)a->axis);
    copy_shape(y, x->rank, x->shape);
    y->dtype = x->dtype;
    for (int k = 1; k < y->n_in; k++) {
        const rt_node *b = y->in[k];
        if (b->dtype != x->dtype || b->rank != x->rank) return rt__bad(y, "types and ranks must be equal");
        for (int i = 0; i < x->rank; i++)
            if (i != (int)a->axis && b->shape[i] != x->shape[i]) return rt__bad(y, "extents of axis %d differ", i);
        if ((b->shape[(int)a->axis] < 0) != (x->shape[(int)a->axis] < 0)) return rt__bad(y, "a batch cannot be joined to a fixed extent");
        y->shape[(int)a->axis] += b->shape[(int)a->axis];
    }
    return true;
}
static void concat_run(const rt_call *c)
{
    const rt__axis_attr *a = c->node->attr;
    size_t size = rt_dtype_size(c->out.dtype);
    around y = rows_of(&c->out, (int)a->axis);
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t o = 0; o < y.outer; o++) {
        char *to = (char *)c->out.data + (size_t)(o * y.n * y.inner) * size;
        for (int k = 0; k < c->n_in; k++) {
            size_t bytes = (size_t)(c->in[k].dim[(int)a->axis] * y.inner) * size;
            memcpy(to, (const char *)c->in[k].data + (size_t)o * bytes, bytes);
            to += bytes;
        }
    }
}
static void concat_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    const rt__axis_attr *a = y->attr;
    int64_t at = 0;
    for (int k = 0; k < y->n_in; k++) {
        int64_t n = y->in[k]->shape[(int)a->axis];
        gx[k] = rt_slice(gy, (int)a->axis, at, at + n, 1);
        at += n;
    }
}

static rt_node *concat_jvp(rt_node *y, rt_node *const *dx)
{
    rt_node **part = rt__graph_alloc(y->graph, (size_t)y->n_in * sizeof *part);
    for (int k = 0; part && k < y->n_in; k++) part[k] = dx[k] ? dx[k] : rt_zeros_like(y->in[k]);
    return part ? rt_concat(part, y->n_in, (int)((const rt__axis_attr *)y->attr)->axis) : NULL;
}

/* Do the elements start + step i, i < count, lie within n? Batches that were joined are cut in multiples of B: there all three are negative. */
static bool good_cut(rt_node *y, const rt__slice_attr *a, int64_t n)
{
    int64_t start = a->start, count = a->count, extent = n;
    if (n < 0) start = -start, count = -count, extent = -n;
    bool ok = a->step >= 1 && (n > 0 || a->step == 1) && start >= 0 && start < extent && count >= 1 &&
              count - 1 <= (extent - 1 - start) / a->step;
    return ok || rt__bad(y, "elements %lld + %lld i, i < %lld of %lld", (long long)a->start, (long long)a->step, (long long)a->count,
                         (long long)n);
}

static bool slice_shape(rt_node *y)
{
    const rt__slice_attr *a = y->attr;
    const rt_node *x = y->in[0];
    y->dtype = x->dtype;
    copy_shape(y, x->rank, x->shape);
    if (a->axis < 0 || a->axis >= x->rank) return rt__bad(y, "axis %d", (int)a->axis);
    if (!good_cut(y, a, x->shape[a->axis])) return false;
    y->shape[a->axis] = a->count;
    return true;
}
static bool slice_grad_shape(rt_node *y) /* puts a slice back into zeros */
{
    const rt__slice_attr *a = y->attr;
    const rt_node *x = y->in[0];
    y->dtype = x->dtype;
    copy_shape(y, x->rank, x->shape);
    if (a->axis < 0 || a->axis >= x->rank) return rt__bad(y, "axis %d", (int)a->axis);
    if (x->shape[a->axis] != a->count) return rt__bad(y, "%lld rows along axis %d", (long long)a->count, (int)a->axis);
    if (!good_cut(y, a, a->extent)) return false;
    y->shape[a->axis] = a->extent;
    return rt__is_real(x) || rt__bad(y, "not defined for %s", rt_dtype_name(x->dtype));
}

/* Moves rows between a long axis and a short one. */
static void move_rows(const rt_call *c, const rt__slice_attr *a, bool into)
{
    size_t size = rt_dtype_size(c->out.dtype);
    around x = rows_of(into ? &c->out : &c->in[0], (int)a->axis);
    int64_t extent = x.n, rows = (into ? &c->in[0] : &c->out)->dim[(int)a->axis];
    int64_t start = a->count < 0 ? a->start * (rows / a->count) : a->start; /* -k: k B rows */
    size_t row = (size_t)x.inner * size;
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t o = 0; o < x.outer; o++) {
        char *to = (char *)c->out.data + (size_t)(o * (into ? extent : rows)) * row;
        const char *from = (const char *)c->in[0].data + (size_t)(o * (into ? rows : extent)) * row;
        if (into) memset(to, 0, (size_t)extent * row);
        if (a->step == 1) {
            memcpy(to + (into ? (size_t)start * row : 0), from + (into ? 0 : (size_t)start * row), (size_t)rows * row);
        } else {
            for (int64_t i = 0; i < rows; i++) {
                size_t far = (size_t)(start + i * a->step) * row, near = (size_t)i * row;
                memcpy(to + (into ? far : near), from + (into ? near : far), row);
            }
        }
    }
}
static void slice_run(const rt_call *c) { move_rows(c, c->node->attr, false); }
static void slice_grad_run(const rt_call *c) { move_rows(c, c->node->attr, true); }
static void slice_grad_rule(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt__slice_attr a = *(const rt__slice_attr *)y->attr;
    a.extent = y->in[0]->shape[a.axis];
    gx[0] = rt__emit1(RT_OP_slice_grad, gy, &a);
}
static void slice_grad_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt__slice_attr a = *(const rt__slice_attr *)y->attr;
    a.extent = 0;
    gx[0] = rt__emit1(RT_OP_slice, gy, &a);
}

/* Whole blocks of channels, like whole samples, lie side by side in memory as plain channels do, so the kernels need to know of channels last only. */
static bool joins_blocks(const rt_node *y, int b) { return (void)b, ((const rt__axis_attr *)y->attr)->axis <= 1; }
static bool cuts_blocks(const rt_node *y, int b)
{
    const rt__slice_attr *a = y->attr;
    return a->axis == 0 || (a->axis == 1 && a->step == 1 && a->start % b == 0 && a->count % b == 0 && a->extent % b == 0);
}

/* ---- selection: index_select takes rows x[.., index[k], ..]; index_add puts them back, adding repeats */

static bool good_index(rt_node *y, const rt_node *index, int rank)
{
    if (index->dtype != RT_I64) return rt__bad(y, "the index is %s, must be I64", rt_dtype_name(index->dtype));
    return rank < 0 || index->rank == rank || rt__bad(y, "an index of rank %d, must be %d", index->rank, rank);
}
static bool index_select_shape(rt_node *y)
{
    const rt__axis_attr *a = y->attr;
    const rt_node *x = y->in[0];
    if (!good_index(y, y->in[1], 1) || !good_axis(y, (int)a->axis, x)) return false;
    y->dtype = x->dtype;
    copy_shape(y, x->rank, x->shape);
    y->shape[(int)a->axis] = y->in[1]->shape[0];
    return (int)a->axis == 0 || y->shape[(int)a->axis] > 0 || rt__bad(y, "a batch of indices selects along axis 0 only");
}
static void index_select_run(const rt_call *c)
{
    const rt__axis_attr *a = c->node->attr;
    const int64_t *index = c->in[1].data;
    around x = axis_of(&c->in[0], (int)a->axis);
    int64_t n = c->in[1].count;
    size_t row = (size_t)x.inner * rt_dtype_size(c->out.dtype);
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t o = 0; o < x.outer; o++)
        for (int64_t k = 0; k < n; k++)
            memcpy((char *)c->out.data + (size_t)(o * n + k) * row,
                   (const char *)c->in[0].data + (size_t)(o * x.n + clamped(index[k], x.n)) * row, row);
}
static void index_select_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    const rt__axis_attr *a = y->attr;
    gx[0] = rt__emit2(RT_OP_index_add, gy, y->in[1], &(rt__axis_attr){(int)a->axis, y->in[0]->shape[(int)a->axis]});
}
static bool index_add_shape(rt_node *y)
{
    const rt__axis_attr *a = y->attr;
    const rt_node *x = y->in[0];
    if (!good_index(y, y->in[1], 1)) return false;
    if ((int)a->axis < 0 || (int)a->axis >= x->rank || x->shape[(int)a->axis] != y->in[1]->shape[0] || a->extent < 1)
        return rt__bad(y, "one index per row of axis %d", (int)a->axis);
    y->dtype = x->dtype;
    copy_shape(y, x->rank, x->shape);
    y->shape[(int)a->axis] = a->extent;
    return rt__is_real(x) || rt__bad(y, "not defined for %s", rt_dtype_name(x->dtype));
}
static void index_add_run(const rt_call *c)
{
    const rt__axis_attr *a = c->node->attr;
    const int64_t *index = c->in[1].data;
    around x = axis_of(&c->in[0], (int)a->axis);
    memset(c->out.data, 0, (size_t)c->out.count * sizeof(real));
#pragma omp parallel for if (c->in[0].count > CHUNK)
    for (int64_t o = 0; o < x.outer; o++)
        for (int64_t k = 0; k < x.n; k++) {
            real *y = (real *)c->out.data + (o * a->extent + clamped(index[k], a->extent)) * x.inner;
            const real *v = (const real *)c->in[0].data + (o * x.n + k) * x.inner;
            for (int64_t i = 0; i < x.inner; i++) y[i] += v[i];
        }
}
static void index_add_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    gx[0] = rt_index_select(gy, (int)((const rt__axis_attr *)y->attr)->axis, y->in[1]);
}

/* gather: y[..,k,..] = x[.., index[..,k,..], ..] with an index of y's shape; scatter_add undoes it */

static bool gather_shape(rt_node *y)
{
    const rt__axis_attr *a = y->attr;
    const rt_node *x = y->in[0], *index = y->in[1];
    if (!good_index(y, index, x->rank) || !good_axis(y, (int)a->axis, x)) return false;
    for (int i = 0; i < x->rank; i++)
        if (i != (int)a->axis && index->shape[i] != x->shape[i])
            return rt__bad(y, "the index must have x's extents but on axis %d", (int)a->axis);
    y->dtype = x->dtype;
    copy_shape(y, index->rank, index->shape);
    return true;
}
static void gather_run(const rt_call *c)
{
    const rt__axis_attr *a = c->node->attr;
    const int64_t *index = c->in[1].data;
    around x = axis_of(&c->in[0], (int)a->axis), y = axis_of(&c->out, (int)a->axis);
    size_t size = rt_dtype_size(c->out.dtype);
    for (int64_t o = 0; o < y.outer; o++)
        for (int64_t k = 0; k < y.n; k++)
            for (int64_t i = 0; i < y.inner; i++) {
                int64_t at = (o * y.n + k) * y.inner + i;
                memcpy((char *)c->out.data + (size_t)at * size,
                       (const char *)c->in[0].data + (size_t)((o * x.n + clamped(index[at], x.n)) * x.inner + i) * size, size);
            }
}
static void gather_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    const rt__axis_attr *a = y->attr;
    gx[0] = rt__emit2(RT_OP_scatter_add, gy, y->in[1], &(rt__axis_attr){(int)a->axis, y->in[0]->shape[(int)a->axis]});
}
static bool scatter_add_shape(rt_node *y)
{
    const rt__axis_attr *a = y->attr;
    const rt_node *x = y->in[0];
    if (!good_index(y, y->in[1], x->rank) || !good_axis(y, (int)a->axis, x)) return false;
    if (memcmp(x->shape, y->in[1]->shape, sizeof x->shape) || a->extent < 1) return rt__bad(y, "one index per element");
    y->dtype = x->dtype;
    copy_shape(y, x->rank, x->shape);
    y->shape[(int)a->axis] = a->extent;
    return rt__is_real(x) || rt__bad(y, "not defined for %s", rt_dtype_name(x->dtype));
}
static void scatter_add_run(const rt_call *c)
{
    const rt__axis_attr *a = c->node->attr;
    const int64_t *index = c->in[1].data;
    around x = axis_of(&c->in[0], (int)a->axis);
    memset(c->out.data, 0, (size_t)c->out.count * sizeof(real));
    for (int64_t o = 0; o < x.outer; o++)
        for (int64_t k = 0; k < x.n; k++)
            for (int64_t i = 0; i < x.inner; i++) {
                int64_t at = (o * x.n + k) * x.inner + i;
                ((real *)c->out.data)[(o * a->extent + clamped(index[at], a->extent)) * x.inner + i] += ((const real *)c->in[0].data)[at];
            }
}
static void scatter_add_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    gx[0] = rt_gather(gy, (int)((const rt__axis_attr *)y->attr)->axis, y->in[1]);
}

/* ---- samples */

#define IN(name, ...)    rt_input(g, name, rt_graph_real(g), (int)RT_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})
#define INDEX(name, ...) rt_input(g, name, RT_I64, (int)RT_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})

static rt_node *reshape_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_reshape(IN("a", 2, 3), 1, (int64_t[]){7});
    case 0: return rt_reshape(IN("a", 2, 3, 5), 2, (int64_t[]){6, RT_INFER});
    case 1: return rt_reshape(IN("a", RT_BATCH, 6, 5), 2, (int64_t[]){-6, 5});
    case 2: return rt_reshape(IN("a", -2, 6), 3, (int64_t[]){RT_BATCH, 2, 6});
    default: return NULL;
    }
}
static rt_node *permute_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_permute(IN("a", 2, 3), (int[]){1, 1});
    case 0: return rt_permute(IN("a", 2, 19, 5, 7), (int[]){0, 2, 3, 1});
    case 1: return rt_permute(IN("a", 17, 23), (int[]){1, 0});
    case 2: return rt_permute(IN("a", RT_BATCH, 5, 2, 3), (int[]){0, 2, 1, 3});
    case 3: return rt_permute(IN("a", 2, 3, 4, 5), (int[]){3, 1, 2, 0});
    default: return NULL;
    }
}
static rt_node *broadcast_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_broadcast(IN("a", 2, 3), 2, (int64_t[]){2, 4});
    case 0: return rt_broadcast(IN("a", 3, 1), 3, (int64_t[]){2, 3, 5});
    case 1: return rt_broadcast(IN("a", 1, 5), 2, (int64_t[]){RT_BATCH, 5});
    default: return NULL;
    }
}
static rt_node *concat_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_concat((rt_node *[]){IN("a", 2, 3), IN("b", 3, 3)}, 2, 1);
    case 0: return rt_concat((rt_node *[]){IN("a", 2, 3, 5), IN("b", 2, 1, 5), IN("c", 2, 4, 5)}, 3, 1);
    case 1: return rt_concat((rt_node *[]){IN("a", RT_BATCH, 3), IN("b", RT_BATCH, 2)}, 2, -1);
    case 2: return rt_slice(rt_square(rt_concat((rt_node *[]){IN("a", RT_BATCH, 3), IN("b", -2, 3)}, 2, 0)), 0, RT_BATCH, -3, 1);
    case 3: return rt_concat((rt_node *[]){IN("a", RT_BATCH, 6, 2, 3), IN("b", RT_BATCH, 4, 2, 3)}, 2, 1);
    case 4: return rt_concat((rt_node *[]){IN("a", RT_BATCH, 6, 2, 3), IN("b", RT_BATCH, 6, 2, 1)}, 2, 3);
    default: return NULL;
    }
}
static rt_node *slice_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_slice(IN("a", 2, 3), 1, 2, 5, 1);
    case 0: return rt_slice(IN("a", 2, 7, 3), 1, 1, 6, 2);
    case 1: return rt_slice(IN("a", RT_BATCH, 7, 3), 1, 2, 5, 1);
    case 2: return rt_slice(IN("a", RT_BATCH, 6, 2, 3), 1, 2, 6, 1);
    case 3: return rt_slice(IN("a", RT_BATCH, 6, 2, 3), 1, 3, 6, 1);
    case 4: return rt_slice(IN("a", RT_BATCH, 6, 2, 3), 1, 1, 5, 1);
    default: return NULL;
    }
}
static rt_node *slice_grad_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt__emit1(RT_OP_slice_grad, IN("a", 2, 3), &(rt__slice_attr){1, 0, 1, 3, 2});
    case 0: return rt__emit1(RT_OP_slice_grad, IN("a", 2, 3, 2), &(rt__slice_attr){1, 1, 2, 3, 7});
    case 1: return rt__emit1(RT_OP_slice_grad, IN("a", RT_BATCH, 4, 2, 3), &(rt__slice_attr){1, 2, 1, 4, 8});
    default: return NULL;
    }
}
static rt_node *index_select_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_index_select(IN("a", 2, 3), 1, IN("i", 2));
    case 0: return rt_index_select(IN("a", 3, 4, 5), 1, INDEX("i", 6));
    case 1: return rt_index_select(IN("a", 3, 5), 0, INDEX("i", RT_BATCH));
    default: return NULL;
    }
}
static rt_node *index_add_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt__emit2(RT_OP_index_add, IN("a", 2, 3), INDEX("i", 2), &(rt__axis_attr){1, 4});
    case 0: return rt__emit2(RT_OP_index_add, IN("a", 3, 6, 2), INDEX("i", 6), &(rt__axis_attr){1, 4});
    case 1: return rt__emit2(RT_OP_index_add, IN("a", RT_BATCH, 2), INDEX("i", RT_BATCH), &(rt__axis_attr){0, 4});
    default: return NULL;
    }
}
static rt_node *gather_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_gather(IN("a", 2, 3), 1, INDEX("i", 3, 2));
    case 0: return rt_gather(IN("a", 3, 4, 2), 1, INDEX("i", 3, 6, 2));
    case 1: return rt_gather(IN("a", RT_BATCH, 4), 1, INDEX("i", RT_BATCH, 1));
    default: return NULL;
    }
}
static rt_node *scatter_add_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt__emit2(RT_OP_scatter_add, IN("a", 2, 3), INDEX("i", 2, 2), &(rt__axis_attr){1, 4});
    case 0: return rt__emit2(RT_OP_scatter_add, IN("a", 3, 6, 2), INDEX("i", 3, 6, 2), &(rt__axis_attr){1, 4});
    default: return NULL;
    }
}

#define ROW(op, text, n_in, attr, rule)                                                                                                    \
    .name = #op, .formula = text, .min_in = n_in, .max_in = n_in, .attr_size = sizeof(attr), .shape = op##_shape, .grad = rule,            \
    .jvp = rt__jvp_linear, .sample = op##_sample

const rt_op RT_ROW(reshape) = {ROW(reshape, "x under other extents", 1, rt__shape_attr, reshape_grad), .type = RT_TYPE_ALIKE,
                               .flags = RT_ROW_VIEW};
const rt_op RT_ROW(permute) = {ROW(permute, "y axis i is x axis order[i]", 1, rt__shape_attr, permute_grad), .type = RT_TYPE_ALIKE,
                               .run = permute_run};
const rt_op RT_ROW(broadcast) = {ROW(broadcast, "x repeated along axes of extent 1", 1, rt__shape_attr, broadcast_grad),
                                 .type = RT_TYPE_ALIKE, .run = broadcast_run};
const rt_op RT_ROW(concat) = {.name = "concat",
                              .formula = "inputs joined along an axis",
                              .min_in = 1,
                              .max_in = -1,
                              .attr_size = sizeof(rt__axis_attr),
                              .layout = RT_LAYOUT_MAPS,
                              .type = RT_TYPE_ALIKE,
                              .blockable = joins_blocks,
                              .shape = concat_shape,
                              .grad = concat_grad,
                              .jvp = concat_jvp,
                              .run = concat_run,
                              .sample = concat_sample};
const rt_op RT_ROW(slice) = {ROW(slice, "y[i] = x[start + step i] along an axis", 1, rt__slice_attr, slice_grad_rule), .run = slice_run,
                             .layout = RT_LAYOUT_MAPS, .type = RT_TYPE_ALIKE, .blockable = cuts_blocks};
const rt_op RT_ROW(slice_grad) = {ROW(slice_grad, "y[start + step i] = x[i], else 0", 1, rt__slice_attr, slice_grad_grad),
                                  .run = slice_grad_run, .layout = RT_LAYOUT_MAPS, .type = RT_TYPE_ALIKE, .blockable = cuts_blocks};
const rt_op RT_ROW(index_select) = {ROW(index_select, "y[..,k,..] = x[..,index[k],..]", 2, rt__axis_attr, index_select_grad),
                                    .run = index_select_run};
const rt_op RT_ROW(index_add) = {ROW(index_add, "y[..,j,..] = sum over index[k] = j of x[..,k,..]", 2, rt__axis_attr, index_add_grad),
                                 .batch = RT_SUMS, .run = index_add_run};
const rt_op RT_ROW(gather) = {ROW(gather, "y[..,k,..] = x[..,index[..,k,..],..]", 2, rt__axis_attr, gather_grad), .run = gather_run};
const rt_op RT_ROW(scatter_add) = {
    ROW(scatter_add, "y[..,j,..] = sum over index[..,k,..] = j of x[..,k,..]", 2, rt__axis_attr, scatter_add_grad), .run = scatter_add_run};
