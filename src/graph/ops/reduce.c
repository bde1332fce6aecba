/* reduce.c -- sums, extremes and running sums over axes. Sums accumulate in double, in an order that does not depend on threads. */
#include "graph/ops/attr.h"
#include "graph/ops/kernel.h"
#include "graph/ops/axes.h"

static bool reduce_shape(rt_node *y)
{
    const rt__reduce_attr *a = y->attr;
    const rt_node *x = y->in[0];
    if (x->rank < 32 && a->axes >> x->rank) return rt__bad(y, "axis mask 0x%x for rank %d", a->axes, x->rank);
    y->dtype = x->dtype;
    for (int i = 0; i < x->rank; i++) {
        if (!(a->axes >> i & 1))
            y->shape[y->rank++] = x->shape[i];
        else if (a->keep)
            y->shape[y->rank++] = 1;
    }
    if (y->rank > 0 && x->shape[0] < 0 && !(a->axes & 1) && y->shape[0] >= 0) return rt__bad(y, "the batch must stay in front");
    return rt__is_real(x) || rt__bad(y, "not defined for %s", rt_dtype_name(x->dtype));
}

static double sum_run_of(const rt_view *v, int64_t at, int64_t n, int64_t step)
{
    double s[4] = {0, 0, 0, 0}, t = 0;
    real own[STRIP], one;
    int64_t i = 0;
    for (; step == 1 && i < n; i += STRIP) {
        int64_t count = n - i < STRIP ? n - i : STRIP;
        const real *x = widened(v, at + i, count, own);
        double part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t j = 0; j < count; j++) part += (double)x[j];
        t += part;
    }
    if (step == 1) return t;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++) s[j] += (double)*widened(v, at + (i + j) * step, 1, &one);
    for (; i < n; i++) s[0] += (double)*widened(v, at + i * step, 1, &one);
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* In blocks: all pixels go, so that what is kept lies in the order of a plain result. */
static bool pixels_go(const rt_node *y, int b) { return (void)b, (((const rt__reduce_attr *)y->attr)->axes >> 2 & 3) == 3; }

/* sum[i] += rows of w numbers; a width that is known makes vectors. */
RT_INLINE void add_rows(double *sum, const real *v, int64_t rows, int64_t w)
{
    double even[64] = {0}, odd[64] = {0};
    for (int64_t j = 0; j + 2 <= rows; j += 2, v += 2 * w)
#pragma omp simd
        for (int64_t i = 0; i < w; i++) even[i] += (double)v[i], odd[i] += (double)v[w + i];
#pragma omp simd
    for (int64_t i = 0; i < w; i++) sum[i] += even[i] + odd[i] + (rows % 2 ? (double)v[i] : 0);
}

/* Kept elements that lie side by side are summed as vectors. */
static void sum_run(const rt_call *c)
{
    const rt__reduce_attr *a = c->node->attr;
    const rt_view *x = &c->in[0];
    real *y = c->out.data;
    rt_view stored = as_stored(&c->in[0], c->in[0].block);
    runs r = split(&stored, c->in[0].block > 1 ? stored_axes(a->axes) : a->axes);
    int64_t inner = r.dim[1][0], outer = r.count[1] / inner;
    if (r.step[0][0] == 1 && r.dim[0][0] > 1) { /* innermost axis kept */
        int64_t width = r.dim[0][0], blocks = (width + 63) / 64;
#pragma omp parallel for if (c->in[0].count > CHUNK)
        for (int64_t o = 0; o < c->out.count / width * blocks; o++) {
            int64_t row = o / blocks, from = o % blocks * 64, w = width - from < 64 ? width - from : 64;
            int64_t base = offset_at(&r, 0, row * width) + from;
            double sum[64] = {0};
            int64_t strip = r.step[1][0] == w ? STRIP / w : 1; /* rows that lie side by side */
            real own[STRIP];
            for (int64_t k = 0; k < outer; k++)
                for (int64_t j = 0; j < inner; j += strip) {
                    int64_t n = inner - j < strip ? inner - j : strip;
                    const real *v = widened(x, base + offset_at(&r, 1, k * inner + j), n * w, own);
                    if (w == 16)
                        add_rows(sum, v, n, 16);
                    else if (w == 8)
                        add_rows(sum, v, n, 8);
                    else
                        add_rows(sum, v, n, w);
                }
            for (int64_t i = 0; i < w; i++) y[row * width + from + i] = (real)sum[i];
        }
        return;
    }
    if (c->out.count == 1 && r.count[1] > CHUNK && r.n[1] == 1) { /* one long sum: fixed pieces, added in order */
        enum { PIECES = 64 };
        double part[PIECES];
        int64_t each = (inner + PIECES - 1) / PIECES;
#pragma omp parallel for
        for (int p = 0; p < PIECES; p++) {
            int64_t from = p * each, n = inner - from < each ? inner - from : each;
            part[p] = n > 0 ? sum_run_of(x, from * r.step[1][0], n, r.step[1][0]) : 0;
        }
        double s = 0;
        for (int p = 0; p < PIECES; p++) s += part[p];
        y[0] = (real)s;
        return;
    }
#pragma omp parallel for if (c->in[0].count > CHUNK)
    for (int64_t o = 0; o < c->out.count; o++) {
        int64_t base = offset_at(&r, 0, o), step = r.step[1][0] ? r.step[1][0] : 1;
        double s = 0;
        for (int64_t k = 0; k < outer; k++) s += sum_run_of(x, base + offset_at(&r, 1, k * inner), inner, step);
        y[o] = (real)s;
    }
}

/* gy with the reduced axes put back as 1, so that it broadcasts against x. */
static rt_node *unreduce(rt_node *y, rt_node *gy)
{
    const rt__reduce_attr *a = y->attr;
    const rt_node *x = y->in[0];
    int64_t shape[RT_MAX_RANK];
    for (int i = 0; i < x->rank; i++) shape[i] = a->axes >> i & 1 ? 1 : x->shape[i];
    return rt_reshape(gy, x->rank, shape);
}

static void sum_grad(rt_node *y, rt_node *gy, rt_node **gx) { gx[0] = rt_broadcast(unreduce(y, gy), y->in[0]->rank, y->in[0]->shape); }
static double sum_flop(const rt_call *c) { return (double)c->in[0].count; }

static void extreme(const rt_call *c, real sign)
{
    const rt__reduce_attr *a = c->node->attr;
    const real *x = c->in[0].data;
    runs r = split(&c->in[0], a->axes);
    int64_t inner = r.dim[1][0], step = r.step[1][0];
#pragma omp parallel for if (c->in[0].count > CHUNK)
    for (int64_t o = 0; o < c->out.count; o++) {
        const real *base = x + offset_at(&r, 0, o);
        real best = base[0];
        for (int64_t k = 0; k < r.count[1]; k += inner) {
            const real *v = base + offset_at(&r, 1, k);
            for (int64_t i = 0; i < inner; i++)
                if (sign * v[i * step] > sign * best || v[i * step] != v[i * step]) best = v[i * step]; /* NaN stays */
        }
        ((real *)c->out.data)[o] = best;
    }
}
static void max_run(const rt_call *c) { extreme(c, 1); }
static void min_run(const rt_call *c) { extreme(c, -1); }

/* Equal extremes share the gradient evenly. The rows map samples: an extreme over the batch itself is not a sum, so the plan refuses slices. */
static void extreme_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    const rt__reduce_attr *a = y->attr;
    rt_node *x = y->in[0], *one = rt_scalar(y->graph, 1), *zero = rt_scalar(y->graph, 0);
    rt_node *hit = rt_where(rt_equal(x, unreduce(y, y)), one, zero);
    gx[0] = rt_mul(hit, rt_div(unreduce(y, gy), rt_sum(hit, a->axes, true)));
}

static rt_node *extreme_jvp(rt_node *y, rt_node *const *dx)
{
    const rt__reduce_attr *a = y->attr;
    rt_node *hit = rt_where(rt_equal(y->in[0], unreduce(y, y)), rt_scalar(y->graph, 1), rt_scalar(y->graph, 0));
    return rt_div(rt_sum(rt_mul(hit, dx[0]), a->axes, a->keep), rt_sum(hit, a->axes, a->keep));
}

static bool cumsum_shape(rt_node *y)
{
    const rt__cumsum_attr *a = y->attr;
    const rt_node *x = y->in[0];
    y->dtype = x->dtype;
    y->rank = x->rank;
    memcpy(y->shape, x->shape, sizeof y->shape);
    if (a->axis < 0 || a->axis >= x->rank) return rt__bad(y, "axis %d", a->axis);
    if (x->shape[a->axis] < 0) return rt__bad(y, "not over the batch");
    return rt__is_real(x) || rt__bad(y, "not defined for %s", rt_dtype_name(x->dtype));
}
static void cumsum_run(const rt_call *c)
{
    const rt__cumsum_attr *a = c->node->attr;
    int64_t inner = 1, n = c->out.dim[a->axis];
    for (int i = a->axis + 1; i < c->out.rank; i++) inner *= c->out.dim[i];
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t o = 0; o < c->out.count / (n * inner); o++)
        for (int64_t j = 0; j < inner; j++) {
            double s = 0;
            for (int64_t i = 0; i < n; i++) {
                int64_t at = (o * n + (a->reverse ? n - 1 - i : i)) * inner + j;
                s += (double)((const real *)c->in[0].data)[at];
                ((real *)c->out.data)[at] = (real)s;
            }
        }
}
static void cumsum_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    const rt__cumsum_attr *a = y->attr;
    gx[0] = rt__emit1(RT_OP_cumsum, gy, &(rt__cumsum_attr){a->axis, !a->reverse});
}

#define IN(name, ...) rt_input(g, name, rt_graph_real(g), (int)RT_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})
static rt_node *sample_reduce(rt_graph *g, int k, rt_node *(*f)(rt_node *, unsigned, bool))
{
    switch (k) {
    case -1: return f(IN("a", 2, 3), 1u << 5, false);
    case 0: return f(IN("a", 3, 5, 7), RT_ALL_AXES, false);
    case 1: return f(IN("a", 3, 5, 7), 1u << 2, true);
    case 2: return f(IN("a", 3, 5, 7), 1u << 0, false);
    case 3: return f(IN("a", 3, 5, 7), 1u << 1, true);
    case 4: return f(IN("a", 3, 6, 5, 7), 1u << 0 | 1u << 2 | 1u << 3, false);
    case 5: return f(IN("a", RT_BATCH, 5, 7), 1u << 1 | 1u << 2, false);
    default: return NULL;
    }
}
static rt_node *sum_sample(rt_graph *g, int k)
{
    if (k == 6) return rt_sum(IN("a", RT_BATCH, 5), 1u, false);
    if (k == 7) return rt_sum(IN("a", 9001), RT_ALL_AXES, false);
    if (k == 8) return rt_sum(IN("a", RT_BATCH, 6, 2, 3), 1u << 1 | 1u << 2 | 1u << 3, true);
    return k < 6 ? sample_reduce(g, k, rt_sum) : NULL;
}
static rt_node *max_sample(rt_graph *g, int k) { return sample_reduce(g, k, rt_max); }
static rt_node *min_sample(rt_graph *g, int k) { return sample_reduce(g, k, rt_min); }
static rt_node *cumsum_sample(rt_graph *g, int k)
{
    return k == -1  ? rt_cumsum(IN("a", 3), 2)
           : k == 0 ? rt_cumsum(IN("a", 3, 5, 2), 1)
           : k == 1 ? rt_cumsum(IN("a", RT_BATCH, 5), -1)
                    : NULL;
}

#define REDUCE(op, text, rule, forward, batch_rule)                                                                                        \
    .name = #op, .formula = text, .min_in = 1, .max_in = 1, .attr_size = sizeof(rt__reduce_attr), .batch = batch_rule,                     \
    .shape = reduce_shape, .grad = rule, .jvp = forward, .run = op##_run, .flop = sum_flop, .sample = op##_sample

const rt_op RT_ROW(sum) = {REDUCE(sum, "sum of x over axes", sum_grad, rt__jvp_linear, RT_SUMS), .layout = RT_LAYOUT_READS,
                           .type = RT_TYPE_READS, .blockable = pixels_go};
const rt_op RT_ROW(max) = {REDUCE(max, "largest x over axes", extreme_grad, extreme_jvp, RT_MAPS)};
const rt_op RT_ROW(min) = {REDUCE(min, "smallest x over axes", extreme_grad, extreme_jvp, RT_MAPS)};
const rt_op RT_ROW(cumsum) = {.name = "cumsum",
                              .formula = "y[i] = x[0] + .. + x[i] along an axis",
                              .min_in = 1,
                              .max_in = 1,
                              .attr_size = sizeof(rt__cumsum_attr),
                              .shape = cumsum_shape,
                              .grad = cumsum_grad,
                              .jvp = rt__jvp_linear,
                              .run = cumsum_run,
                              .sample = cumsum_sample};
