/* compose.c -- what is made of rows: statistics, the expectation, losses, attention, norms, resampling. */
#include "graph/row.h"

#include <math.h>
#include <stdlib.h>

static int64_t extent(const rt_node *x, unsigned axes) /* elements of the axes together; 0 if the batch is among them */
{
    int64_t n = 1;
    for (int i = 0; i < x->rank; i++)
        if (axes >> i & 1) n *= x->shape[i] < 0 ? 0 : x->shape[i];
    return n;
}

static unsigned all_axes(const rt_node *x) { return (1u << x->rank) - 1; }
static unsigned features(const rt_node *x) { return all_axes(x) & ~1u; }

rt_node *rt_mean(rt_node *x, unsigned axes, bool keep)
{
    if (rt__failed(x)) return x;
    if (axes == RT_ALL_AXES) axes = all_axes(x);
    int64_t n = extent(x, axes);
    if (n == 0) return rt_fail(x->graph, "mean: over the batch take rt_expect, which also works in slices");
    return rt_scale(rt_sum(x, axes, keep), 1.0 / (double)n);
}

rt_node *rt_var(rt_node *x, unsigned axes, double correction, bool keep)
{
    if (rt__failed(x)) return x;
    if (axes == RT_ALL_AXES) axes = all_axes(x);
    int64_t n = extent(x, axes);
    if (n == 0 || (double)n <= correction) return rt_fail(x->graph, "var: %lld elements with correction %g", (long long)n, correction);
    return rt_scale(rt_sum(rt_square(rt_sub(x, rt_mean(x, axes, true))), axes, keep), 1.0 / ((double)n - correction));
}

rt_node *rt_logsumexp(rt_node *x, unsigned axes, bool keep)
{
    if (rt__failed(x)) return x;
    if (axes == RT_ALL_AXES) axes = all_axes(x);
    rt_node *top = rt_stop_grad(rt_max(x, axes, true));
    rt_node *sum = rt_log(rt_sum(rt_exp(rt_sub(x, top)), axes, true)), *y = rt_add(sum, top);
    return keep ? y : rt_sum(y, axes, false); /* the axes have extent 1 now */
}

/* ---- the expectation of the objectives */

static rt_node *sum_features(rt_node *x) { return rt__failed(x) ? x : rt_sum(x, features(x), false); }

rt_node *rt_expect(rt_node *v)
{
    if (rt__failed(v)) return v;
    if (v->rank == 0) return rt_fail(v->graph, "expect: one number, not a value per sample");
    rt_node *sum = rt_sum(v, RT_ALL_AXES, false);
    if (v->shape[0] > 0) return rt_scale(sum, 1.0 / (double)v->shape[0]);
    return rt_scale(rt_div(sum, rt_batch_size(v->graph)), -1.0 / (double)v->shape[0]); /* k B rows */
}

rt_node *rt_dot(rt_node *a, rt_node *b) { return sum_features(rt_mul(a, b)); }
rt_node *rt_norm2(rt_node *a) { return sum_features(rt_square(a)); }

rt_node *rt_per_sample(rt_node *v, const rt_node *like)
{
    if (rt__failed(v) || rt__failed(like)) return v;
    if (v->rank != 1) return rt_fail(v->graph, "per_sample: one number per sample, not rank %d", v->rank);
    return rt_reshape(v, like->rank, (int64_t[RT_MAX_RANK]){v->shape[0], 1, 1, 1, 1, 1, 1, 1});
}

rt_node *rt_mse(rt_node *a, rt_node *b)
{
    rt_node *d = rt_square(rt_sub(a, b));
    if (rt__failed(d) || d->rank == 0) return d;
    return rt_expect(rt_mean(d, features(d), false));
}

rt_node *rt_pseudo_huber(rt_node *a, rt_node *b, double c) { return rt_offset(rt_sqrt(rt_offset(rt_norm2(rt_sub(a, b)), c * c)), -c); }

rt_node *rt_cross_entropy(rt_node *logits, rt_node *index)
{
    if (rt__failed(logits) || rt__failed(index)) return logits;
    rt_node *picked = rt_gather(rt_log_softmax(logits, -1), 1, rt_reshape(index, 2, (int64_t[]){rt_dim(index, 0), 1}));
    return rt_expect(rt_neg(picked));
}

/* ---- networks */

rt_node *rt_linear(rt_node *x, rt_node *w, rt_node *b)
{
    if (rt__failed(x) || rt__failed(w)) return x;
    if (w->rank != 2 || x->rank < 1 || x->shape[x->rank - 1] != w->shape[1]) {
        char from[96], to[96];
        return rt_fail(x->graph, "linear (%s), (%s): the last axis must be the weight's second",
                       rt_shape_text(from, sizeof from, x->rank, x->shape), rt_shape_text(to, sizeof to, w->rank, w->shape));
    }
    /* all leading axes are one: the weight gradient is then one product instead of a batch of them */
    int64_t rows = 1, shape[RT_MAX_RANK] = {0};
    for (int i = 0; i < x->rank - 1; i++) rows *= shape[i] = x->shape[i];
    shape[x->rank - 1] = w->shape[0];
    rt_node *y = rt_matmul(rt_reshape(x, 2, (int64_t[]){rows, w->shape[1]}), w, false, true);
    if (b) y = rt_add(y, b);
    return rt_reshape(y, x->rank, shape);
}

rt_node *rt_attention(rt_node *q, rt_node *k, rt_node *v, double scale, bool causal)
{
    rt_node *score = rt_matmul(rt_scale(q, scale), k, false, true); /* q is smaller than the scores */
    if (causal && !rt__failed(score)) {
        int64_t L = rt_dim(score, -2), M = rt_dim(score, -1);
        if (L < 1 || M < 1 || L > 1 << 15 || M > 1 << 15)
            return rt_fail(score->graph, "attention: a causal mask of %lld by %lld; must be 1 to 32768 each", (long long)L, (long long)M);
        double *mask = rt__graph_alloc(score->graph, (size_t)(L * M) * sizeof *mask);
        for (int64_t i = 0; mask && i < L * M; i++) mask[i] = i % M > i / M ? -1e30 : 0;
        if (mask) score = rt_add(score, rt_reals(score->graph, 2, (int64_t[]){L, M}, mask));
    }
    return rt_matmul(rt_softmax(score, -1), v, false, false);
}

rt_node *rt_layer_norm(rt_node *x, rt_node *w, rt_node *b, int dims, double eps)
{
    if (rt__failed(x)) return x;
    if (dims < 1 || dims > x->rank) return rt_fail(x->graph, "layer_norm over the last %d of %d axes", dims, x->rank);
    int64_t rows = 1, n = 1;
    for (int i = 0; i < x->rank; i++) *(i < x->rank - dims ? &rows : &n) *= x->shape[i];
    rt_node *y = rt_group_norm(rt_reshape(x, 3, (int64_t[]){rows, 1, n}), NULL, NULL, 1, eps); /* one group per row */
    y = rt_reshape(y, x->rank, x->shape);
    if (w) y = rt_mul(y, w);
    return b ? rt_add(y, b) : y;
}

rt_node *rt_rms_norm(rt_node *x, rt_node *w, double eps)
{
    if (rt__failed(x)) return x;
    rt_node *y = rt_mul(x, rt_rsqrt(rt_offset(rt_mean(rt_square(x), rt_axis_bit(x, -1), true), eps)));
    return w ? rt_mul(y, w) : y;
}

rt_node *rt_geglu(rt_node *x)
{
    int64_t n = rt_dim(x, -1);
    if (rt__failed(x)) return x;
    if (n % 2) return rt_fail(x->graph, "geglu: the last axis, %lld, must be even", (long long)n);
    return rt_mul(rt_slice(x, -1, 0, n / 2, 1), rt_gelu_erf(rt_slice(x, -1, n / 2, n, 1)));
}

rt_node *rt_embedding(rt_node *table, rt_node *index)
{
    if (rt__failed(table) || rt__failed(index)) return table;
    if (table->rank != 2) return rt_fail(table->graph, "embedding: a table of rank %d, must be (rows, width)", table->rank);
    if (index->rank >= RT_MAX_RANK)
        return rt_fail(table->graph, "embedding: an index of rank %d, at most %d", index->rank, RT_MAX_RANK - 1);
    int64_t rows = 1, shape[RT_MAX_RANK] = {0};
    for (int i = 0; i < index->rank; i++) rows *= shape[i] = index->shape[i];
    shape[index->rank] = table->shape[1];
    return rt_reshape(rt_index_select(table, 0, rt_reshape(index, 1, &rows)), index->rank + 1, shape);
}

/* ---- images */

/* (out, in) weights of linear interpolation along one axis. */
static rt_node *interpolation(rt_graph *g, int64_t in, int scale, bool align_corners)
{
    int64_t out = in * scale;
    double *m = rt__graph_alloc(g, (size_t)(in * out) * sizeof *m);
    for (int64_t i = 0; m && i < out; i++) {
        double at =
            align_corners ? (out > 1 ? (double)i * (double)(in - 1) / (double)(out - 1) : 0) : fmax(0, ((double)i + 0.5) / scale - 0.5);
        int64_t low = (int64_t)at, high = low + 1 < in ? low + 1 : in - 1;
        m[i * in + low] += 1 - (at - (double)low);
        m[i * in + high] += at - (double)low;
    }
    return m ? rt_reals(g, 2, (int64_t[]){out, in}, m) : rt_fail(g, "out of memory");
}

rt_node *rt_upsample_bilinear(rt_node *x, int scale, bool align_corners)
{
    if (rt__failed(x)) return x;
    if (x->rank != 4 || scale < 1 || scale > 64 || x->shape[2] > 1 << 13 || x->shape[3] > 1 << 13)
        return rt_fail(x->graph, "upsample_bilinear: rank %d, scale %d; must be (N,C,H,W) up to 8192 pixels wide and 1 to 64", x->rank,
                       scale);
    rt_node *rows = interpolation(x->graph, x->shape[2], scale, align_corners),
            *cols = interpolation(x->graph, x->shape[3], scale, align_corners);
    return rt_matmul(rows, rt_matmul(x, cols, false, true), false, false);
}

/* Index i of the padded axis reads element index[i]. */
static rt_node *pad_axis(rt_node *x, int axis, int before, int after, bool reflect)
{
    int64_t n = rt_dim(x, axis), total = n + before + after;
    if (reflect && (before >= n || after >= n))
        return rt_fail(x->graph, "pad2d: reflecting %d and %d of %lld", before, after, (long long)n);
    int64_t *index = rt__graph_alloc(x->graph, (size_t)total * sizeof *index);
    if (!index) return x;
    for (int64_t i = 0; i < total; i++) {
        int64_t at = i - before;
        if (at < 0) at = reflect ? -at : 0;
        if (at >= n) at = reflect ? 2 * (n - 1) - at : n - 1;
        index[i] = at;
    }
    return rt_index_select(x, axis, rt_const(x->graph, RT_I64, 1, &total, index));
}

rt_node *rt_pad2d(rt_node *x, const int lrtb[4], rt_pad_mode mode)
{
    if (rt__failed(x)) return x;
    if (x->rank != 4) return rt_fail(x->graph, "pad2d: rank %d; must be (N,C,H,W)", x->rank);
    for (int i = 0; i < 4; i++)
        if (lrtb[i] < 0 || lrtb[i] > 1 << 20) return rt_fail(x->graph, "pad2d: %d pixels", lrtb[i]);
    for (int axis = 3; axis >= 2; axis--) {
        int before = lrtb[axis == 3 ? 0 : 2], after = lrtb[axis == 3 ? 1 : 3];
        if (before + after == 0 || rt__failed(x)) continue;
        x = mode == RT_PAD_ZERO ? rt__pad_zero(x, axis, before, after) : pad_axis(x, axis, before, after, mode == RT_PAD_REFLECT);
    }
    return x;
}
