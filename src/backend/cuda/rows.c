/* rows.c -- from a call of a row to launches of own kernels: which kernel, over how many blocks, with what. */
#include "backend/cuda/kernels.h"
#include "graph/march.h"
#include "graph/ops/attr.h"
#include "graph/ops/places.h"
#include "graph/ops/axes.h"

const char *const rt__cuda_names[RT_CUDA_KERNELS] = {
#define RT_CUDA_KERNEL(name, family) "rt__cuda_" #name,
#include "backend/cuda/kernels.def"
#undef RT_CUDA_KERNEL
};

enum { THREADS = 256, WIDE = 8, LARGEST_GRID = 65535 }; /* LARGEST_GRID: of the second and third axis */

/* Where launches go. take NULL: nowhere. */
typedef struct sink {
    rt__cuda_take *take;
    void *to;
} sink;

static unsigned parts_of(int64_t count, int64_t each) { return (unsigned)((count + each - 1) / each); }

static void launch(const sink *s, rt__cuda_launch *l, rt__cuda_kernel kernel, unsigned gx, unsigned gy, unsigned bx, unsigned by)
{
    l->kernel = kernel;
    l->grid[0] = gx, l->grid[1] = gy, l->block[0] = bx, l->block[1] = by;
    l->block[2] = 1;
    if (l->grid[2] == 0) l->grid[2] = 1;
    if (s->take) s->take(s->to, l);
}

/* A thread for each of so many. */
static bool launch_each(const sink *s, rt__cuda_launch *l, rt__cuda_kernel kernel, int64_t threads)
{
    unsigned block = threads < THREADS ? (unsigned)((threads + 31) / 32 * 32) : THREADS;
    launch(s, l, kernel, parts_of(threads, block), 1, block, 1);
    return true;
}

static rt__cuda_reals reals_of(const rt_view *v) { return (rt__cuda_reals){v->data, v->dtype == RT_BF16}; }
static bool is_real(const rt_view *v) { return v->dtype == RT_F32 || v->dtype == RT_BF16; }
static bool on_16(const void *at) { return (uintptr_t)at % 16 == 0; }

/* ---- element by element */

static void map_loops(const rt_call *c, int operands, rt__cuda_map_args *a)
{
    loops l = merge_loops(c, operands);
    a->rank = l.rank;
    for (int i = 0; i < l.rank; i++) {
        a->dim[i] = (unsigned)l.dim[i];
        for (int k = 0; k < operands; k++) a->step[k][i] = (unsigned)l.stride[k][i];
    }
}

/* Eight elements a thread: each operand's lie side by side on a multiple of 16 bytes, or are one. */
static bool is_wide(const rt__cuda_map_args *a, int operands)
{
    bool fits = a->dim[0] % WIDE == 0 && on_16(a->y.data);
    for (int k = 0; k < operands; k++)
        if (a->step[k][0] != 0) fits = fits && on_16(a->x[k].data); /* its other steps are multiples of the first extent */
    return fits;
}

static bool map(const rt_call *c, const sink *s, rt__cuda_kernel kernel, int operands, bool vectors)
{
    rt__cuda_launch l = {0};
    rt__cuda_map_args *a = &l.args.map;
    a->count = (unsigned)c->out.count;
    a->y = reals_of(&c->out);
    for (int k = 0; k < operands; k++) a->x[k] = reals_of(&c->in[k]);
    map_loops(c, operands, a);
    a->wide = vectors && is_wide(a, operands);
    a->from = c->in[0].dtype, a->to = c->out.dtype;
    if (kernel == RT_CUDA_scale || kernel == RT_CUDA_offset || kernel == RT_CUDA_pow) a->v = *(const double *)c->node->attr;
    return launch_each(s, &l, kernel, a->wide ? a->count / WIDE : a->count);
}

static bool map_reals(const rt_call *c, const sink *s, rt__cuda_kernel kernel, int operands)
{
    for (int k = 0; k < operands; k++)
        if (!is_real(&c->in[k])) return false;
    return is_real(&c->out) && map(c, s, kernel, operands, true);
}

static bool cast(const rt_call *c, const sink *s)
{
    if (is_real(&c->in[0]) && is_real(&c->out)) return map(c, s, RT_CUDA_convert, 1, true);
    return c->in[0].dtype != RT_BF16 && c->out.dtype != RT_BF16 && map(c, s, RT_CUDA_cast, 1, false);
}

static bool compare(const rt_call *c, const sink *s, rt__cuda_kernel reals, rt__cuda_kernel integers)
{
    if (c->in[0].dtype == RT_I64) return map(c, s, integers, 2, false);
    return c->in[0].dtype == RT_F32 && map(c, s, reals, 2, false);
}

static bool where(const rt_call *c, const sink *s)
{
    if (c->out.dtype == RT_I64) return map(c, s, RT_CUDA_where_i64, 3, false);
    return c->out.dtype == RT_F32 && map(c, s, RT_CUDA_where, 3, false);
}

/* ---- copies by steps: of bytes at first, until a unit is chosen */

typedef struct strided {
    int rank; /* innermost first */
    int64_t dim[RT_MAX_RANK + 1], y_step[RT_MAX_RANK + 1], x_step[RT_MAX_RANK + 1];
} strided;

/* An axis outside of those that there are; it joins the outermost where both sides run on. */
static void add_axis(strided *c, int64_t n, int64_t y_step, int64_t x_step)
{
    int i = c->rank - 1;
    if (n == 1) return;
    if (i >= 0 && y_step == c->y_step[i] * c->dim[i] && x_step == c->x_step[i] * c->dim[i]) {
        c->dim[i] *= n;
        return;
    }
    c->dim[c->rank] = n, c->y_step[c->rank] = y_step, c->x_step[c->rank++] = x_step;
}

static rt__cuda_kernel copy_of(int64_t unit)
{
    return unit == 16 ? RT_CUDA_copy16 : unit == 8 ? RT_CUDA_copy8 : unit == 4 ? RT_CUDA_copy4 : unit == 2 ? RT_CUDA_copy2 : RT_CUDA_copy1;
}

/* The largest unit of 2^k bytes, at most 16, that divides n. */
static int64_t unit_of(int64_t n)
{
    int64_t unit = 16;
    while (n % unit) unit /= 2;
    return unit;
}

/* Steps of the first axis are one element of `size` bytes on both sides, or of x none. */
static bool copy(const sink *s, strided c, void *y, const void *x, int64_t size)
{
    rt__cuda_launch l = {0};
    rt__cuda_copy_args *a = &l.args.copy;
    int64_t unit = size, count = 1;
    if (c.rank > 0 && c.y_step[0] == size && c.x_step[0] == size) { /* whole stretches */
        int64_t common = c.dim[0] * size | (int64_t)((uintptr_t)y % 16) | (int64_t)((uintptr_t)x % 16);
        for (int i = 1; i < c.rank; i++) common |= c.y_step[i] | c.x_step[i];
        unit = unit_of(common);
        c.dim[0] = c.dim[0] * size / unit, c.y_step[0] = c.x_step[0] = unit;
    }
    if (c.rank > RT_MAX_RANK) return false;
    if (c.rank == 0) add_axis(&c, 2, size, size), c.dim[0] = 1;
    a->y = y, a->x = x, a->rank = c.rank;
    for (int i = 0; i < c.rank; i++) {
        a->dim[i] = (unsigned)c.dim[i], a->y_step[i] = (unsigned)(c.y_step[i] / unit), a->x_step[i] = (unsigned)(c.x_step[i] / unit);
        count *= c.dim[i];
    }
    a->count = (unsigned)count;
    return launch_each(s, &l, copy_of(unit), count);
}

static int64_t size_of(const rt_view *v) { return (int64_t)rt_dtype_size(v->dtype); }
static const char *from(const void *data, int64_t bytes) { return (const char *)((uintptr_t)data + (uintptr_t)bytes); }

/* y[n][c][r] = x[n][r][c] */
static bool transpose(const sink *s, void *y, const void *x, int64_t n, int64_t rows, int64_t cols, int64_t size)
{
    enum { TILE = 32, TILE_ROWS = 8 };
    rt__cuda_launch l = {.args.transpose = {.y = y, .x = x, .rows = (unsigned)rows, .cols = (unsigned)cols}};
    if (n > LARGEST_GRID || parts_of(rows, TILE) > LARGEST_GRID) return false;
    l.shared = (unsigned)(TILE * (TILE + 1) * size);
    l.grid[2] = (unsigned)n;
    launch(s, &l,
           size == 8   ? RT_CUDA_transpose8
           : size == 4 ? RT_CUDA_transpose4
           : size == 2 ? RT_CUDA_transpose2
                       : RT_CUDA_transpose1,
           parts_of(cols, TILE), parts_of(rows, TILE), TILE, TILE_ROWS);
    return true;
}

static bool permute(const rt_call *c, const sink *s)
{
    const rt__shape_attr *a = c->node->attr;
    int64_t size = size_of(&c->out), x_step[RT_MAX_RANK], step = size, y_step = size;
    strided all = {0};
    for (int i = c->in[0].rank - 1; i >= 0; i--) x_step[i] = step, step *= c->in[0].dim[i];
    for (int i = c->out.rank - 1; i >= 0; i--) {
        add_axis(&all, c->out.dim[i], y_step, x_step[a->shape[i]]);
        y_step *= c->out.dim[i];
    }
    bool turns =
        (all.rank == 2 || all.rank == 3) && all.x_step[1] == size && all.x_step[0] == size * all.dim[1]; /* (n, c, r) of (n, r, c) */
    if (turns && all.rank == 3) turns = all.x_step[2] == size * all.dim[0] * all.dim[1];
    if (turns && transpose(s, c->out.data, c->in[0].data, all.rank == 3 ? all.dim[2] : 1, all.dim[0], all.dim[1], size)) return true;
    return copy(s, all, c->out.data, c->in[0].data, size);
}

static bool broadcast(const rt_call *c, const sink *s)
{
    loops l = merge_loops(c, 1);
    int64_t size = size_of(&c->out), y_step = size;
    strided all = {0};
    for (int i = 0; i < l.rank; i++) {
        add_axis(&all, l.dim[i], y_step, l.stride[0][i] * size);
        y_step *= l.dim[i];
    }
    return copy(s, all, c->out.data, c->in[0].data, size);
}

/* Extents before, at and after a logical axis, as they lie in memory: the channels of an image in channels last come after its pixels. */
typedef struct around {
    int64_t outer, n, inner;
} around;

/* An image of one channel, or of one pixel, is plain and in channels last at once. */
static bool is_plain(const rt_view *v) { return v->block <= 1; }
static bool is_last(const rt_view *v) { return v->rank == 4 && (v->block == v->dim[1] || v->dim[1] == 1 || v->dim[2] * v->dim[3] == 1); }

static around axis_of(const rt_view *v, int axis, bool last)
{
    around a = {1, v->dim[axis], 1};
    for (int i = 0; i < axis; i++) a.outer *= v->dim[i];
    for (int i = axis + 1; i < v->rank; i++) a.inner *= v->dim[i];
    if (last && axis == 1) a.outer *= a.inner, a.inner = 1;
    return a;
}

/* What is joined, cut and filled is plain or, along samples and channels, in channels last; other blocks are not known here. */
static bool knows_layout(const rt_call *c, int axis, bool *last)
{
    bool plain = is_plain(&c->out);
    *last = is_last(&c->out) && axis <= 1;
    for (int k = 0; k < c->n_in; k++) plain = plain && is_plain(&c->in[k]), *last = *last && is_last(&c->in[k]);
    if (plain) *last = false;
    return plain || *last;
}

static bool concat(const rt_call *c, const sink *s)
{
    int axis = (int)((const rt__axis_attr *)c->node->attr)->axis;
    int64_t size = size_of(&c->out), at = 0;
    bool last;
    if (!knows_layout(c, axis, &last)) return false;
    around y = axis_of(&c->out, axis, last);
    for (int k = 0; k < c->n_in; k++) {
        int64_t rows = c->in[k].dim[axis] * y.inner;
        strided part = {0};
        add_axis(&part, rows, size, size);
        add_axis(&part, y.outer, y.n * y.inner * size, rows * size);
        if (!copy(s, part, (void *)(uintptr_t)from(c->out.data, at * size), c->in[k].data, size)) return false;
        at += rows;
    }
    return true;
}

/* The first of the rows that a slice moves, -k standing for k times the batch. */
static int64_t start_of(const rt__slice_attr *a, int64_t rows) { return a->count < 0 ? a->start * (rows / a->count) : a->start; }

static bool slice(const rt_call *c, const sink *s)
{
    const rt__slice_attr *a = c->node->attr;
    bool last;
    if (!knows_layout(c, (int)a->axis, &last)) return false;
    around x = axis_of(&c->in[0], (int)a->axis, last);
    int64_t size = size_of(&c->out), rows = c->out.dim[a->axis];
    strided part = {0};
    add_axis(&part, x.inner, size, size);
    add_axis(&part, rows, x.inner * size, a->step * x.inner * size);
    add_axis(&part, x.outer, rows * x.inner * size, x.n * x.inner * size);
    return copy(s, part, c->out.data, from(c->in[0].data, start_of(a, rows) * x.inner * size), size);
}

static bool slice_grad(const rt_call *c, const sink *s)
{
    const rt__slice_attr *a = c->node->attr;
    bool last;
    if (!knows_layout(c, (int)a->axis, &last) || !is_real(&c->out)) return false;
    around x = axis_of(&c->in[0], (int)a->axis, last);
    int64_t size = size_of(&c->out), unit = on_16(c->out.data) && on_16(c->in[0].data) && x.inner * size % 16 == 0 ? 16 : size;
    int64_t inner = x.inner * size / unit, extent = c->out.dim[a->axis];
    rt__cuda_launch l = {.args.place = {.y = c->out.data,
                                        .x = c->in[0].data,
                                        .count = (unsigned)(x.outer * extent * inner),
                                        .extent = (unsigned)extent,
                                        .rows = (unsigned)x.n,
                                        .inner = (unsigned)inner,
                                        .start = (unsigned)start_of(a, x.n),
                                        .step = (unsigned)a->step}};
    return launch_each(s, &l, unit == 16 ? RT_CUDA_place16 : unit == 4 ? RT_CUDA_place4 : RT_CUDA_place2, l.args.place.count);
}

static bool upsample(const rt_call *c, const sink *s)
{
    int64_t n = ((const rt__scale_attr *)c->node->attr)->scale, w = c->in[0].dim[3], size = size_of(&c->out);
    int64_t b = c->out.block > 1 ? c->out.block : 1, pixel = b * size;
    strided all = {0};
    add_axis(&all, b, size, size);
    add_axis(&all, n, pixel, 0);
    add_axis(&all, w, n * pixel, pixel);
    add_axis(&all, n, n * w * pixel, 0);
    add_axis(&all, c->in[0].count / (w * b), n * n * w * pixel, w * pixel);
    return copy(s, all, c->out.data, c->in[0].data, size);
}

static bool reblock(const rt_call *c, const sink *s)
{
    const rt_view *x = &c->in[0], *y = &c->out;
    int64_t in = x->block > 1 ? x->block : 1, out = y->block > 1 ? y->block : 1, b = in > out ? in : out, size = size_of(y);
    int64_t pixels = x->dim[2] * x->dim[3], n = x->count / (b * pixels);
    if (in != 1 && out != 1 && in != out) return false;
    if (in != out && transpose(s, y->data, x->data, n, out > 1 ? b : pixels, out > 1 ? pixels : b, size)) return true;
    strided all = {0};
    if (in == out)
        add_axis(&all, x->count, size, size);
    else {
        int64_t inner = out > 1 ? b : pixels, next = out > 1 ? pixels : b; /* of y */
        add_axis(&all, inner, size, next * size);
        add_axis(&all, next, inner * size, size);
        add_axis(&all, n, b * pixels * size, b * pixels * size);
    }
    return copy(s, all, y->data, x->data, size);
}

/* ---- selection by index */

static bool select_rows(const rt_call *c, const sink *s, bool adds, bool of_element)
{
    const rt__axis_attr *a = c->node->attr;
    if (adds && c->in[0].dtype != RT_F32) return false;
    around x = axis_of(&c->in[0], (int)a->axis, false), y = axis_of(&c->out, (int)a->axis, false);
    int64_t size = size_of(&c->out), unit = size;
    if (!adds && !of_element) /* whole rows in the largest unit */
        unit = unit_of(x.inner * size | (int64_t)((uintptr_t)c->out.data % 16) | (int64_t)((uintptr_t)c->in[0].data % 16));
    int64_t inner = x.inner * size / unit;
    rt__cuda_launch l = {.args.select = {.y = c->out.data,
                                         .x = c->in[0].data,
                                         .index = c->in[1].data,
                                         .count = (unsigned)(y.outer * y.n * inner),
                                         .n = (unsigned)(adds ? y.n : x.n),
                                         .k = (unsigned)(adds ? x.n : y.n),
                                         .inner = (unsigned)inner,
                                         .of_element = of_element}};
    rt__cuda_kernel take = unit == 16  ? RT_CUDA_take16
                           : unit == 8 ? RT_CUDA_take8
                           : unit == 4 ? RT_CUDA_take4
                           : unit == 2 ? RT_CUDA_take2
                                       : RT_CUDA_take1;
    return launch_each(s, &l, adds ? RT_CUDA_add_at : take, l.args.select.count);
}

/* ---- reductions */

enum { OUTPUTS_OF_BLOCK = 32, MOST_SPLITS = 64, LEAST_SHARE = 1024 };

/* Few outputs of long sums are split over blocks, by their extents alone. */
static unsigned splits_of(int64_t outputs, int64_t length)
{
    int64_t splits = length / LEAST_SHARE, blocks = parts_of(outputs, OUTPUTS_OF_BLOCK);
    if (splits > MOST_SPLITS) splits = MOST_SPLITS;
    while (splits > 1 && splits * blocks > 4096) splits /= 2;
    return splits > 1 ? (unsigned)splits : 1;
}

static void launch_reduce(const sink *s, rt__cuda_launch *l, rt__cuda_kernel kernel, unsigned splits)
{
    rt__cuda_reduce_args *a = &l->args.reduce;
    a->lanes =
        a->along ? 1 : THREADS / OUTPUTS_OF_BLOCK; /* neighbours along the reduced axes share an output, as many as it has work for */
    while (a->along && a->lanes < THREADS && a->lanes * 4 < (int)a->share) a->lanes *= 2;
    l->shared = THREADS * sizeof(double);
    launch(s, l, kernel, parts_of(a->outputs, THREADS / a->lanes), splits, THREADS, 1);
}

/* y = sum over `splits` of parts (splits, outputs) */
static void add_parts(const sink *s, void *parts, unsigned splits, unsigned outputs, float *y)
{
    rt__cuda_launch l = {0};
    rt__cuda_reduce_args *a = &l.args.reduce;
    *a = (rt__cuda_reduce_args){.y = y, .x = {parts, 0}, .outputs = outputs, .length = splits, .share = splits, .rank = {1, 1}};
    a->dim[0][0] = outputs, a->step[0][0] = 1, a->dim[1][0] = splits, a->step[1][0] = outputs;
    a->along = outputs == 1;
    launch_reduce(s, &l, RT_CUDA_sum_parts, 1);
}

static runs runs_of(const rt_call *c)
{
    rt_view stored = as_stored(&c->in[0], c->in[0].block);
    unsigned axes = ((const rt__reduce_attr *)c->node->attr)->axes;
    return split(&stored, c->in[0].block > 1 ? stored_axes(axes) : axes);
}

static bool reduce(const rt_call *c, const sink *s, rt__cuda_kernel kernel)
{
    runs r = runs_of(c);
    rt__cuda_launch l = {0};
    rt__cuda_reduce_args *a = &l.args.reduce;
    if (!is_real(&c->in[0]) || c->out.dtype != RT_F32 || (kernel != RT_CUDA_sum && c->in[0].dtype != RT_F32)) return false;
    unsigned splits = kernel == RT_CUDA_sum ? splits_of(r.count[0], r.count[1]) : 1;
    a->x = reals_of(&c->in[0]);
    a->outputs = (unsigned)r.count[0], a->length = (unsigned)r.count[1], a->share = parts_of(r.count[1], splits);
    for (int w = 0; w < 2; w++) {
        a->rank[w] = r.n[w];
        for (int i = 0; i < r.n[w]; i++) a->dim[w][i] = (unsigned)r.dim[w][i], a->step[w][i] = (unsigned)r.step[w][i];
    }
    a->along = r.count[0] == 1 || r.step[1][0] == 1;
    a->y = splits == 1 ? c->out.data : NULL;
    a->parts = c->scratch;
    launch_reduce(s, &l, kernel, splits);
    if (splits > 1) add_parts(s, c->scratch, splits, a->outputs, c->out.data);
    return true;
}

static bool cumsum(const rt_call *c, const sink *s)
{
    const rt__cumsum_attr *a = c->node->attr;
    around x = axis_of(&c->in[0], a->axis, false);
    rt__cuda_launch l = {.args.cumsum = {.y = c->out.data,
                                         .x = c->in[0].data,
                                         .outer = (unsigned)x.outer,
                                         .n = (unsigned)x.n,
                                         .inner = (unsigned)x.inner,
                                         .reverse = a->reverse}};
    return launch_each(s, &l, RT_CUDA_cumsum, x.outer * x.inner);
}

static bool softmax(const rt_call *c, const sink *s, rt__cuda_kernel kernel)
{
    enum { WARP = 32, ROWS = 4 };
    int64_t n = c->out.dim[c->out.rank - 1], rows = c->out.count / n;
    rt__cuda_launch l = {.args.softmax = {.y = c->out.data, .x = c->in[0].data, .rows = (unsigned)rows, .n = (unsigned)n}};
    if (c->n_in > 1) l.args.softmax.gy = c->in[1].data;
    launch(s, &l, kernel, parts_of(rows, ROWS), 1, WARP, ROWS);
    return true;
}

/* ---- normalisation */

/* A block's channels and threads. The span is whole groups, and up to 32 channels where they are narrow, so that lines of memory are read whole. */
static void norm_geometry(rt__cuda_norm_args *a, unsigned width)
{
    enum { CHANNELS = 32 };
    a->span = width;
    while (a->span % a->per_group) a->span += width; /* both divide the channels, so their least common multiple does */
    while (a->span < CHANNELS && a->channels % (2 * a->span) == 0) a->span *= 2;
    a->columns = a->span / width;
    a->rows = 1;
    while (a->rows * 2 * a->columns <= THREADS && a->rows * 2 <= a->pixels) a->rows *= 2;
}

static bool norm(const rt_call *c, const sink *s, rt__cuda_kernel by_eight, rt__cuda_kernel by_one, const rt_view *y, const rt_view *sums)
{
    const rt__group_attr *attr = c->node->attr;
    const rt_view *x = &c->in[0];
    places at = places_of(c->node, c->n_in);
    int64_t channels = x->dim[1], pixels = x->count / (x->dim[0] * channels);
    bool last = is_last(x) || pixels == 1, eight = last && channels % WIDE == 0 && on_16(x->data);
    if (!(last || is_plain(x)) || x->dim[0] > LARGEST_GRID) return false;
    rt__cuda_launch l = {0};
    rt__cuda_norm_args *a = &l.args.norm;
    *a = (rt__cuda_norm_args){.x = reals_of(x),
                              .channels = (unsigned)channels,
                              .pixels = (unsigned)pixels,
                              .per_group = (unsigned)(channels / attr->groups),
                              .channel_step = last ? 1 : (unsigned)pixels,
                              .pixel_step = last ? (unsigned)channels : 1,
                              .eps = (float)attr->eps,
                              .silu = attr->silu,
                              .across = !last};
    if (y) a->y = reals_of(y), eight = eight && on_16(y->data);
    if (at.w) a->w = c->in[at.w].data, a->b = c->in[at.b].data;
    if (at.shift) a->shift = reals_of(&c->in[at.shift]);
    if (at.gy) a->gy = reals_of(&c->in[at.gy]), eight = eight && on_16(a->gy.data);
    if (at.addend) a->addend = reals_of(&c->in[at.addend]), eight = eight && on_16(a->addend.data);
    if (sums) a->sums = sums->data;
    norm_geometry(a, eight ? WIDE : 1);
    unsigned width = eight ? WIDE : 1, threads = a->columns * a->rows;
    l.shared = (threads * width + 2 * a->span + 4 * (a->span / a->per_group)) * (unsigned)sizeof(float);
    if (threads > 1024 || l.shared > 48 << 10) return false;
    launch(s, &l, eight ? by_eight : by_one, a->channels / a->span, (unsigned)x->dim[0], threads, 1);
    return true;
}

/* ---- windows */

/* x and v of the row; `image` and `result` are the larger and the smaller of its values. */
static bool pool(const rt_call *c, const sink *s, rt__cuda_kernel kernel, const rt_view *v, const rt_view *image, const rt_view *result)
{
    const rt__pool_attr *p = c->node->attr;
    rt__cuda_launch l = {.args.pool = {.y = reals_of(&c->out),
                                       .x = reals_of(&c->in[0]),
                                       .v = reals_of(v),
                                       .count = (unsigned)c->out.count,
                                       .h = (unsigned)image->dim[2],
                                       .w = (unsigned)image->dim[3],
                                       .oh = (unsigned)result->dim[2],
                                       .ow = (unsigned)result->dim[3],
                                       .b = c->out.block > 1 ? (unsigned)c->out.block : 1,
                                       .kernel = {p->kernel[0], p->kernel[1]},
                                       .stride = {p->stride[0], p->stride[1]},
                                       .pad = {p->pad[0], p->pad[1]},
                                       .exclude_pad = p->exclude_pad}};
    return launch_each(s, &l, kernel, c->out.count);
}

/* ---- draws */

static bool draw(const rt_call *c, const sink *s, rt__cuda_kernel kernel)
{
    rt__cuda_launch l = {.args.draw = {.y = c->out.data, .clock = c->clock}};
    rt__cuda_draw_args *d = &l.args.draw;
    if (kernel == RT_CUDA_batch_size) return launch_each(s, &l, kernel, 1);
    const rt__draw_attr *a = c->node->attr;
    d->name = a->name, d->below = a->below;
    d->samples = c->out.rank ? (unsigned)c->out.dim[0] : 1;
    d->width = (unsigned)c->out.count / d->samples;
    d->per_sample = a->rank && a->shape[0] < 0 ? (unsigned)-a->shape[0] : 0;
    return launch_each(s, &l, kernel, (int64_t)d->samples * parts_of(d->width, 4));
}

/* ---- sums of squares, updates */

enum { ELEMENTS = 8 * THREADS, MOST_BLOCKS = 256 }; /* of a block, of a tensor */

static unsigned blocks_of(int64_t count)
{
    int64_t blocks = parts_of(count, ELEMENTS);
    return blocks > MOST_BLOCKS ? MOST_BLOCKS : (unsigned)blocks;
}

/* One launch for the n tensors that were collected; afterwards there are none. */
static void launch_tensors(const sink *s, rt__cuda_launch *l, rt__cuda_kernel kernel, int *n)
{
    unsigned most = 0;
    for (int i = 0; i < *n; i++)
        if (l->args.tensors.tensor[i].blocks > most) most = l->args.tensors.tensor[i].blocks;
    if (*n) launch(s, l, kernel, most, (unsigned)*n, THREADS, 1);
    *n = 0;
}

static void add_tensor(const sink *s, rt__cuda_launch *l, rt__cuda_kernel kernel, int *n, const void *x, uint64_t offset, int64_t count)
{
    if (*n == RT_CUDA_TENSORS) launch_tensors(s, l, kernel, n);
    l->args.tensors.tensor[(*n)++] = (struct rt__cuda_tensor){x, offset, (unsigned)count, blocks_of(count)};
}

/* A tensor's parts are as many as its blocks. */
static bool norm2(const rt_call *c, const sink *s)
{
    rt__cuda_launch l = {.shared = THREADS * sizeof(double), .args.tensors = {.parts = c->scratch}};
    uint64_t parts = 0;
    int n = 0;
    for (int k = 0; k < c->n_in; k++) {
        if (c->in[k].dtype != RT_F32) return false;
        add_tensor(s, &l, RT_CUDA_squares, &n, c->in[k].data, parts, c->in[k].count);
        parts += blocks_of(c->in[k].count);
    }
    launch_tensors(s, &l, RT_CUDA_squares, &n);
    add_parts(s, c->scratch, (unsigned)parts, 1, c->out.data);
    return true;
}

static bool update(const rt_call *c, const sink *s)
{
    const rt__update_attr *a = c->node->attr;
    enum { LR, T, DECAY, NORM2, GRADIENTS };
    rt__cuda_launch first = {.args.coefficients = {.to = c->scratch,
                                                   .y = c->out.data,
                                                   .lr = c->in[LR].data,
                                                   .t = c->in[T].data,
                                                   .decay = c->in[DECAY].data,
                                                   .norm2 = c->in[NORM2].data,
                                                   .opt = a->opt}};
    launch(s, &first, RT_CUDA_coefficients, 1, 1, 1, 1);
    rt__cuda_launch l = {.args.tensors = {.coefficients = c->scratch,
                                          .values = c->roles[RT_VALUE],
                                          .moments = c->roles[RT_MOMENT1],
                                          .squares = c->roles[RT_MOMENT2],
                                          .averages = a->opt.average ? c->roles[RT_AVERAGE] : NULL}};
    rt__cuda_kernel kernel = a->opt.kind == RT_SGD ? RT_CUDA_sgd : RT_CUDA_adam;
    int n = 0, at = GRADIENTS;
    for (int k = 0; k < rt_params_entries(a->set); k++) {
        const rt_entry *e = rt_params_entry(a->set, k);
        if (e->frozen && !a->opt.average) continue;
        add_tensor(s, &l, kernel, &n, e->frozen ? NULL : c->in[at++].data, (uint64_t)e->offset, e->count);
    }
    launch_tensors(s, &l, kernel, &n);
    return true;
}

/* ---- grids at points and along rays */

/* Sides D, H, W from dim on. */
static rt__cuda_grid_args grid_of(const rt_call *c, const int64_t *dim)
{
    rt__cuda_grid_args a = {.y = c->out.data, .channels = (unsigned)dim[3], .size = (unsigned)(dim[0] * dim[1] * dim[2] * dim[3])};
    for (int i = 0; i < 3; i++) a.nodes[i] = (int)dim[i];
    return a;
}

static rt__cuda_grid_args volume_of(const rt_call *c, int particle)
{
    const rt__render_attr *attr = c->node->attr;
    rt__cuda_grid_args a = grid_of(c, c->in[0].dim + 1);
    int most = 0;
    for (int i = 0; i < 3; i++) most = a.nodes[i] > most ? a.nodes[i] : most;
    a.grid = c->in[0].data, a.at = c->in[1].data;
    a.particle = c->n_in > particle ? c->in[particle].data : NULL;
    a.particles = (int)c->in[0].dim[0];
    a.samples = (unsigned)attr->samples, a.rays = (unsigned)c->in[1].dim[1];
    a.bias = (float)attr->density_bias, a.per_length = (float)(most - 1) / 2;
    return a;
}

static bool trilinear(const rt_call *c, const sink *s)
{
    rt__cuda_launch l = {.args.grid = grid_of(c, c->in[0].dim)};
    l.args.grid.grid = c->in[0].data, l.args.grid.at = c->in[1].data;
    l.args.grid.count = (unsigned)c->out.count;
    return c->out.dtype == RT_F32 && launch_each(s, &l, RT_CUDA_trilinear, c->out.count);
}

/* A warp for each ray. */
static void launch_rays(const sink *s, rt__cuda_launch *l, rt__cuda_kernel kernel, const rt_view *rays, int64_t floats)
{
    enum { LANES = 32, WARPS = 4 };
    l->args.grid.count = (unsigned)(rays->dim[0] * rays->dim[1]);
    l->shared = (unsigned)(WARPS * floats) * (unsigned)sizeof(float);
    launch(s, l, kernel, parts_of(l->args.grid.count, WARPS), 1, LANES, WARPS);
}

static bool render(const rt_call *c, const sink *s)
{
    rt__cuda_launch l = {.args.grid = volume_of(c, 2)};
    if (c->out.dtype != RT_F32) return false;
    launch_rays(s, &l, RT_CUDA_render, &c->in[1], 0);
    return true;
}

static void *behind(void *at, size_t bytes) { return (void *)((uintptr_t)at + bytes); }

/* Scratch of an adjoint: the largest gradient, sums, and gradients at the samples of rays. */
enum { LARGEST = 64 };
static size_t sums_of_grid(const rt_call *c) { return (size_t)c->out.count * sizeof(uint64_t); }
static int64_t slopes_of_rays(const rt_call *c)
{
    const rt_view *rays = &c->in[1];
    return rays->dim[0] * rays->dim[1] * ((const rt__render_attr *)c->node->attr)->samples * c->out.dim[4];
}

/* From so many gradients at points to the nodes around. */
static bool add_up(const rt_call *c, const sink *s, rt__cuda_launch *l, rt__cuda_kernel kernel, int64_t count)
{
    rt__cuda_grid_args *a = &l->args.grid;
    a->largest = c->scratch, a->sums = behind(c->scratch, LARGEST);
    a->count = (unsigned)count, a->numbers = (unsigned)c->out.count;
    a->room = 62;
    while (count / a->channels >> (62 - a->room) > 0) a->room--;
    l->shared = 0;
    launch_each(s, l, RT_CUDA_grid_clear, a->numbers);
    l->shared = THREADS * sizeof(double);
    launch(s, l, RT_CUDA_grid_largest, blocks_of(count), 1, THREADS, 1);
    l->shared = 0;
    launch_each(s, l, kernel, count);
    return launch_each(s, l, RT_CUDA_grid_result, a->numbers);
}

static bool trilinear_data(const rt_call *c, const sink *s)
{
    rt__cuda_launch l = {.args.grid = grid_of(c, c->out.dim)};
    if (c->out.dtype != RT_F32) return false;
    l.args.grid.at = c->in[1].data;
    l.args.grid.slopes = c->in[0].data;
    return add_up(c, s, &l, RT_CUDA_grid_from_points, c->in[0].count);
}

static bool render_grad(const rt_call *c, const sink *s)
{
    rt__cuda_launch l = {.args.grid = volume_of(c, 3)};
    if (c->out.dtype != RT_F32 || slopes_of_rays(c) > INT32_MAX) return false;
    l.args.grid.gy = c->in[2].data;
    l.args.grid.slopes = behind(c->scratch, LARGEST + sums_of_grid(c));
    launch_rays(s, &l, RT_CUDA_render_slopes, &c->in[1], l.args.grid.samples + 1);
    return add_up(c, s, &l, RT_CUDA_grid_from_rays, slopes_of_rays(c));
}

/* ---- which row is what */

static bool enqueue(const rt_call *c, const sink *s, int op)
{
    const rt_view *in = c->in, *out = &c->out;
    switch (op) {
#define UNARY(row, expr)                                                                                                                   \
    case RT_OP_##row: return map_reals(c, s, RT_CUDA_##row, 1);
        RT_UNARY_FORMULAS(UNARY)
        RT_NUMBER_FORMULAS(UNARY)
        RT_ACTIVATION_FORMULAS(UNARY)
#define INTEGER(row, expr)                                                                                                                 \
    case RT_OP_##row: return out->dtype == RT_I64 ? map(c, s, RT_CUDA_##row##_i64, 2, false) : map_reals(c, s, RT_CUDA_##row, 2);
        RT_INTEGER_FORMULAS(INTEGER)
    case RT_OP_div: return map_reals(c, s, RT_CUDA_div, 2);
    case RT_OP_maximum: return map_reals(c, s, RT_CUDA_maximum, 2);
    case RT_OP_minimum: return map_reals(c, s, RT_CUDA_minimum, 2);
    case RT_OP_silu_grad: return map_reals(c, s, RT_CUDA_silu_grad, 2);
    case RT_OP_less: return compare(c, s, RT_CUDA_less, RT_CUDA_less_i64);
    case RT_OP_equal: return compare(c, s, RT_CUDA_equal, RT_CUDA_equal_i64);
    case RT_OP_where: return where(c, s);
    case RT_OP_cast: return cast(c, s);
    case RT_OP_permute: return permute(c, s);
    case RT_OP_broadcast: return broadcast(c, s);
    case RT_OP_concat: return concat(c, s);
    case RT_OP_slice: return slice(c, s);
    case RT_OP_slice_grad: return slice_grad(c, s);
    case RT_OP_reblock: return reblock(c, s);
    case RT_OP_upsample_nearest: return upsample(c, s);
    case RT_OP_index_select: return select_rows(c, s, false, false);
    case RT_OP_gather: return select_rows(c, s, false, true);
    case RT_OP_index_add: return select_rows(c, s, true, false);
    case RT_OP_scatter_add: return select_rows(c, s, true, true);
    case RT_OP_sum: return reduce(c, s, RT_CUDA_sum);
    case RT_OP_max: return reduce(c, s, RT_CUDA_max);
    case RT_OP_min: return reduce(c, s, RT_CUDA_min);
    case RT_OP_cumsum: return cumsum(c, s);
    case RT_OP_softmax: return softmax(c, s, RT_CUDA_softmax);
    case RT_OP_softmax_grad: return softmax(c, s, RT_CUDA_softmax_grad);
    case RT_OP_log_softmax: return softmax(c, s, RT_CUDA_log_softmax);
    case RT_OP_group_norm: return norm(c, s, RT_CUDA_norm8, RT_CUDA_norm1, out, NULL);
    case RT_OP_group_norm_data: return norm(c, s, RT_CUDA_norm_data8, RT_CUDA_norm_data1, out, c->side.data ? &c->side : NULL);
    case RT_OP_group_norm_sums: return norm(c, s, RT_CUDA_norm_data8, RT_CUDA_norm_data1, NULL, out);
    case RT_OP_group_norm_jvp: return norm(c, s, RT_CUDA_norm_jvp8, RT_CUDA_norm_jvp1, out, NULL);
    case RT_OP_avg_pool2d: return pool(c, s, RT_CUDA_avg_pool, &in[0], &in[0], out);
    case RT_OP_avg_pool2d_data: return pool(c, s, RT_CUDA_avg_pool_data, &in[0], out, &in[0]);
    case RT_OP_max_pool2d: return pool(c, s, RT_CUDA_max_pool, &in[0], &in[0], out);
    case RT_OP_max_pool2d_pick: return pool(c, s, RT_CUDA_max_pool, &in[1], &in[0], out);
    case RT_OP_max_pool2d_data: return pool(c, s, RT_CUDA_max_pool_data, &in[1], out, &in[1]);
    case RT_OP_randn: return draw(c, s, RT_CUDA_randn);
    case RT_OP_rand: return draw(c, s, RT_CUDA_rand);
    case RT_OP_randint: return draw(c, s, RT_CUDA_randint);
    case RT_OP_batch_size: return draw(c, s, RT_CUDA_batch_size);
    case RT_OP_trilinear: return trilinear(c, s);
    case RT_OP_trilinear_data: return trilinear_data(c, s);
    case RT_OP_render: return render(c, s);
    case RT_OP_render_grad: return render_grad(c, s);
    case RT_OP_norm2_all: return norm2(c, s);
    case RT_OP_update: return update(c, s);
    default: return false; /* convolutions, products, attention: libraries' */
    }
}

static bool is_small(const rt_view *v) { return v->count <= INT32_MAX; }

static int op_of(const rt_node *n)
{
    for (int op = 0; op < RT_OPS; op++)
        if (rt__ops_f32[op] == n->op) return op;
    return -1;
}

bool rt__cuda_enqueue(const rt_call *c, rt__cuda_take *take, void *to)
{
    bool small = is_small(&c->out);
    for (int k = 0; k < c->n_in; k++) small = small && is_small(&c->in[k]);
    return small && enqueue(c, &(sink){take, to}, op_of(c->node));
}

/* y = f(y, x) of as many numbers, which lie one behind the other. */
static void into(void *y, const void *x, int64_t count, rt_dtype dtype, rt__cuda_kernel kernel, double v, const sink *s)
{
    rt__cuda_launch l = {0};
    rt__cuda_map_args *a = &l.args.map;
    *a = (rt__cuda_map_args){.y = {y, 0}, .x = {{y, 0}, {(void *)(uintptr_t)x, 0}}, .v = v, .count = (unsigned)count, .rank = 1};
    a->dim[0] = (unsigned)count, a->step[0][0] = a->step[1][0] = 1;
    a->wide = dtype == RT_F32 && is_wide(a, 2);
    launch_each(s, &l, kernel, a->wide ? count / WIDE : count);
}

void rt__cuda_enqueue_add(void *y, const void *x, int64_t count, rt_dtype dtype, rt__cuda_take *take, void *to)
{
    into(y, x, count, dtype, dtype == RT_I64 ? RT_CUDA_add_i64 : RT_CUDA_add, 0, &(sink){take, to});
}

void rt__cuda_enqueue_trail(void *y, const void *x, double keep, int64_t count, rt__cuda_take *take, void *to)
{
    into(y, x, count, RT_F32, RT_CUDA_trail, keep, &(sink){take, to});
}

size_t rt__cuda_scratch(const rt_call *c)
{
    if (c->node->op == rt__ops_f32[RT_OP_sum]) {
        runs r = runs_of(c);
        unsigned splits = splits_of(r.count[0], r.count[1]);
        return splits > 1 ? splits * (size_t)r.count[0] * sizeof(double) : 0;
    }
    if (c->node->op == rt__ops_f32[RT_OP_norm2_all]) {
        size_t parts = 0;
        for (int k = 0; k < c->n_in; k++) parts += blocks_of(c->in[k].count);
        return parts * sizeof(double);
    }
    if (c->node->op == rt__ops_f32[RT_OP_trilinear_data]) return LARGEST + sums_of_grid(c);
    if (c->node->op == rt__ops_f32[RT_OP_render_grad]) return LARGEST + sums_of_grid(c) + (size_t)slopes_of_rays(c) * sizeof(float);
    return c->node->op == rt__ops_f32[RT_OP_update] ? 256 : 0; /* coefficients */
}
