/* softmax.c -- softmax and its logarithm over the last axis; builders bring other axes there. */
#include "graph/ops/kernel.h"

static unsigned last_axis(const rt_node *x) { return 1u << (x->rank - 1); }

static bool softmax_shape(rt_node *y)
{
    const rt_node *x = y->in[0];
    if (!rt__is_real(x)) return rt__bad(y, "type %s; must be real", rt_dtype_name(x->dtype));
    if (x->rank < 1 || x->shape[x->rank - 1] < 0) return rt__bad(y, "needs a last axis that is not the batch");
    for (int i = 1; i < y->n_in; i++) {
        const rt_node *g = y->in[i];
        bool same = g->dtype == x->dtype && g->rank == x->rank;
        for (int j = 0; same && j < x->rank; j++) same = g->shape[j] == x->shape[j];
        if (!same) return rt__bad(y, "both inputs must have one shape and type");
    }
    y->dtype = x->dtype;
    y->rank = x->rank;
    for (int i = 0; i < x->rank; i++) y->shape[i] = x->shape[i];
    return true;
}

static void softmax_derive(rt_node *y, rt_node *gy, rt_node **gx) { gx[0] = rt__emit2(RT_OP_softmax_grad, y, gy, NULL); }

/* The maximum is subtracted against overflow only: it cancels, in the derivative, too. */
static rt_node *shifted(rt_node *x) { return rt_sub(x, rt_stop_grad(rt_max(x, last_axis(x), true))); }

static rt_node *softmax_expand(rt_node *y)
{
    rt_node *e = rt_exp(shifted(y->in[0]));
    return rt_div(e, rt_sum(e, last_axis(e), true));
}

/* gx = y (gy - sum y gy) */
static rt_node *softmax_grad_expand(rt_node *n)
{
    rt_node *y = n->in[0], *gy = n->in[1];
    return rt_mul(y, rt_sub(gy, rt_sum(rt_mul(y, gy), last_axis(y), true)));
}

static void log_softmax_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    gx[0] = rt_sub(gy, rt_mul(rt_exp(y), rt_sum(gy, last_axis(gy), true)));
}

static rt_node *log_softmax_jvp(rt_node *y, rt_node *const *dx)
{
    return rt_sub(dx[0], rt_sum(rt_mul(rt_exp(y), dx[0]), last_axis(y), true));
}

static rt_node *log_softmax_expand(rt_node *y)
{
    rt_node *x = shifted(y->in[0]);
    return rt_sub(x, rt_log(rt_sum(rt_exp(x), last_axis(x), true)));
}

static real largest(const real *x, int64_t n)
{
    real m = x[0];
#pragma omp simd reduction(max : m)
    for (int64_t i = 1; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static void softmax_run(const rt_call *c)
{
    int64_t n = c->out.dim[c->out.rank - 1], rows = c->out.count / n;
#pragma omp parallel for schedule(static) if (c->out.count > CHUNK)
    for (int64_t r = 0; r < rows; r++) {
        const real *x = (const real *)c->in[0].data + r * n;
        real *y = (real *)c->out.data + r * n, m = largest(x, n), sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += y[i] = fast_exp(x[i] - m);
        sum = 1 / sum;
        for (int64_t i = 0; i < n; i++) y[i] *= sum;
    }
}

static void softmax_grad_run(const rt_call *c)
{
    int64_t n = c->out.dim[c->out.rank - 1], rows = c->out.count / n;
#pragma omp parallel for schedule(static) if (c->out.count > CHUNK)
    for (int64_t r = 0; r < rows; r++) {
        const real *y = (const real *)c->in[0].data + r * n, *gy = (const real *)c->in[1].data + r * n;
        real *gx = (real *)c->out.data + r * n, dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < n; i++) dot += y[i] * gy[i];
        for (int64_t i = 0; i < n; i++) gx[i] = y[i] * (gy[i] - dot);
    }
}

static void log_softmax_run(const rt_call *c)
{
    int64_t n = c->out.dim[c->out.rank - 1], rows = c->out.count / n;
#pragma omp parallel for schedule(static) if (c->out.count > CHUNK)
    for (int64_t r = 0; r < rows; r++) {
        const real *x = (const real *)c->in[0].data + r * n;
        real *y = (real *)c->out.data + r * n, m = largest(x, n), sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += fast_exp(x[i] - m);
        real log_sum = (real)log((double)sum);
        for (int64_t i = 0; i < n; i++) y[i] = x[i] - m - log_sum;
    }
}

/* An exponential counts as one operation, as everywhere. */
static double softmax_flop(const rt_call *c) { return 4.0 * (double)c->out.count; }

static rt_node *softmax_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt__emit1(RT_OP_softmax, RT_SAMPLE_IN(g, "a", RT_BATCH), NULL);
    case 0: return rt_softmax(RT_SAMPLE_IN(g, "a", 3, 5), -1);
    case 1: return rt_softmax(RT_SAMPLE_IN(g, "a", RT_BATCH, 2, 7), -1);
    case 2: return rt_softmax(RT_SAMPLE_IN(g, "a", 2, 5, 3), 1);
    default: return NULL;
    }
}

static rt_node *softmax_grad_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt__emit2(RT_OP_softmax_grad, RT_SAMPLE_IN(g, "a", 3, 5), RT_SAMPLE_IN(g, "b", 5, 3), NULL);
    case 0: return rt__emit2(RT_OP_softmax_grad, RT_SAMPLE_IN(g, "a", 3, 5), RT_SAMPLE_IN(g, "b", 3, 5), NULL);
    case 1: return rt__emit2(RT_OP_softmax_grad, RT_SAMPLE_IN(g, "a", RT_BATCH, 2, 7), RT_SAMPLE_IN(g, "b", RT_BATCH, 2, 7), NULL);
    default: return NULL;
    }
}

static rt_node *log_softmax_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt__emit1(RT_OP_log_softmax, RT_SAMPLE_IN(g, "a", RT_BATCH), NULL);
    case 0: return rt_log_softmax(RT_SAMPLE_IN(g, "a", 3, 5), -1);
    case 1: return rt_log_softmax(RT_SAMPLE_IN(g, "a", RT_BATCH, 2, 7), -1);
    default: return NULL;
    }
}

const rt_op RT_ROW(softmax) = {
    .name = "softmax",
    .formula = "y[..,i] = exp(x[..,i]) / sum_j exp(x[..,j])",
    .min_in = 1,
    .max_in = 1,
    .batch = RT_MAPS,
    .flags = RT_ROW_INPLACE,
    .shape = softmax_shape,
    .grad = softmax_derive,
    .jvp = rt__jvp_diagonal,
    .expand = softmax_expand,
    .run = softmax_run,
    .flop = softmax_flop,
    .sample = softmax_sample,
};

const rt_op RT_ROW(softmax_grad) = {
    .name = "softmax_grad",
    .formula = "gx[..,i] = y[..,i] (gy[..,i] - sum_j y[..,j] gy[..,j])",
    .min_in = 2,
    .max_in = 2,
    .batch = RT_MAPS,
    .flags = RT_ROW_INPLACE,
    .shape = softmax_shape,
    .expand = softmax_grad_expand,
    .run = softmax_grad_run,
    .flop = softmax_flop,
    .sample = softmax_grad_sample,
};

const rt_op RT_ROW(log_softmax) = {
    .name = "log_softmax",
    .formula = "y[..,i] = x[..,i] - log sum_j exp(x[..,j])",
    .min_in = 1,
    .max_in = 1,
    .batch = RT_MAPS,
    .flags = RT_ROW_INPLACE,
    .shape = softmax_shape,
    .grad = log_softmax_grad,
    .jvp = log_softmax_jvp,
    .expand = log_softmax_expand,
    .run = log_softmax_run,
    .flop = softmax_flop,
    .sample = log_softmax_sample,
};
