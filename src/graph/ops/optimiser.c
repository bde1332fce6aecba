/* optimiser.c -- the global gradient norm, and the update: one sweep over a set that clips, steps and averages. */
#include "graph/row.h"

#include <omp.h>
#include <tgmath.h>

#define RT_INLINE static inline __attribute__((always_inline))
#include "graph/ops/steps.h"

/* ---- norm2_all */

static bool norm2_shape(rt_node *y)
{
    for (int i = 0; i < y->n_in; i++)
        if (!rt__is_real(y->in[i]) || y->in[i]->dtype != y->in[0]->dtype) return rt__bad(y, "types must be one real type");
    y->dtype = y->in[0]->dtype;
    y->rank = 0;
    return true;
}

static void norm2_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    for (int i = 0; i < y->n_in; i++) gx[i] = rt_scale(rt_mul(y->in[i], gy), 2);
}

static rt_node *norm2_expand(rt_node *y)
{
    rt_node *sum = NULL;
    for (int i = 0; i < y->n_in; i++) {
        rt_node *part = rt_sum(rt_square(y->in[i]), RT_ALL_AXES, false);
        sum = sum ? rt_add(sum, part) : part;
    }
    return sum;
}

enum { STRETCH = 4096, SUMS = 16 }; /* numbers that one part adds up, in so many sums side by side whatever the width of a vector */

/* Sums of stretches in double, added in order: the number of threads does not matter. */
static void norm2_run(const rt_call *c)
{
    double total = 0, *part = c->scratch;
    for (int k = 0; k < c->n_in; k++) {
        const real *x = c->in[k].data;
        int64_t n = c->in[k].count, stretches = (n + STRETCH - 1) / STRETCH;
#pragma omp parallel for schedule(static) if (stretches > 4)
        for (int64_t s = 0; s < stretches; s++) {
            int64_t end = (s + 1) * STRETCH < n ? (s + 1) * STRETCH : n;
            double sum[SUMS] = {0};
            int64_t i = s * STRETCH;
            for (; i + SUMS <= end; i += SUMS)
#pragma omp simd
                for (int j = 0; j < SUMS; j++) sum[j] += (double)x[i + j] * (double)x[i + j];
            for (int j = 0; i < end; i++, j++) sum[j] += (double)x[i] * (double)x[i];
            part[s] = 0;
            for (int j = 0; j < SUMS; j++) part[s] += sum[j];
        }
        for (int64_t s = 0; s < stretches; s++) total += part[s];
    }
    *(real *)c->out.data = (real)total;
}

static size_t norm2_scratch(const rt_call *c)
{
    int64_t most = 0;
    for (int k = 0; k < c->n_in; k++) most = c->in[k].count > most ? c->in[k].count : most;
    return (size_t)((most + STRETCH - 1) / STRETCH) * sizeof(double);
}

static double norm2_flop(const rt_call *c)
{
    double n = 0;
    for (int k = 0; k < c->n_in; k++) n += (double)c->in[k].count;
    return 2 * n;
}

static rt_node *norm2_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt__emit2(RT_OP_norm2_all, RT_SAMPLE_IN(g, "a", 3), rt_input(g, "b", RT_I64, 1, (int64_t[]){3}), NULL);
    case 0: return rt__emit2(RT_OP_norm2_all, RT_SAMPLE_IN(g, "a", 3, 5), RT_SAMPLE_IN(g, "b", 7), NULL);
    case 1: return rt__emit1(RT_OP_norm2_all, RT_SAMPLE_IN(g, "a", RT_BATCH, 3), NULL);
    case 2: return rt__emit1(RT_OP_norm2_all, RT_SAMPLE_IN(g, "a", 5, 4099), NULL); /* several stretches */
    default: return NULL;
    }
}

/* ---- update */

enum { LR, T, DECAY, NORM2, GRADIENTS };

static bool update_shape(rt_node *y)
{
    const rt__update_attr *a = y->attr;
    if (!a->set) return rt__bad(y, "no parameter set");
    rt_dtype dtype = rt_params_dtype(a->set);
    int at = GRADIENTS;
    for (int i = 0; i < y->n_in; i++)
        if (y->in[i]->dtype != dtype || (i < GRADIENTS && y->in[i]->rank != 0))
            return rt__bad(y, "input %d must be %s%s, as the set is", i, rt_dtype_name(dtype), i < GRADIENTS ? " of rank 0" : "");
    for (int k = 0; k < rt_params_entries(a->set); k++) {
        const rt_entry *e = rt_params_entry(a->set, k);
        if (e->frozen) continue;
        const rt_node *g = at < y->n_in ? y->in[at] : NULL;
        bool same = g && g->rank == e->rank;
        for (int i = 0; same && i < e->rank; i++) same = g->shape[i] == e->shape[i];
        if (!same) return rt__bad(y, "the gradient of '%s' is missing or has another shape", e->name);
        at++;
    }
    if (at != y->n_in) return rt__bad(y, "%d gradients for %d entries", y->n_in - GRADIENTS, at - GRADIENTS);
    y->dtype = dtype;
    y->rank = 0;
    return true;
}

static coefficients prepare(const rt_call *c)
{
    double in[GRADIENTS];
    for (int i = 0; i < GRADIENTS; i++) in[i] = (double)*(const real *)c->in[i].data;
    return coefficients_of(&((const rt__update_attr *)c->node->attr)->opt, in[LR], in[T], in[DECAY], in[NORM2]);
}

static void adam(const coefficients *k, int64_t n, const real *restrict g, real *restrict p, real *restrict m, real *restrict v)
{
    const coefficients c = *k;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) adam_step(&c, g[i], &p[i], &m[i], &v[i]);
}

static void sgd(const coefficients *k, int64_t n, const real *restrict g, real *restrict p, real *restrict m)
{
    const coefficients c = *k;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sgd_step(&c, g[i], &p[i], &m[i]);
}

/* Each thread sweeps its share of every entry while it is in its cache. */
static void update_run(const rt_call *c)
{
    const rt__update_attr *a = c->node->attr;
    const coefficients k = prepare(c);
    bool is_adam = a->opt.kind != RT_SGD;
    real *values = c->roles[RT_VALUE], *moments = c->roles[RT_MOMENT1], *squares = c->roles[RT_MOMENT2], *averages = c->roles[RT_AVERAGE];
    int entries = rt_params_entries(a->set);
#pragma omp parallel
    for (int j = 0, at = GRADIENTS; j < entries; j++) {
        const rt_entry *e = rt_params_entry(a->set, j);
        int64_t threads = omp_get_num_threads(), share = (e->count + threads - 1) / threads, from = omp_get_thread_num() * share;
        int64_t n = from >= e->count ? 0 : from + share > e->count ? e->count - from : share;
        from = n ? from : 0;
        real *p = values + e->offset + from;
        if (e->frozen) { /* the average of what stands still: once it is there, it stays to the bit */
            for (int64_t i = 0; i < n && averages; i++) {
                real *mean = averages + e->offset + from + i;
                *mean = kept_average(&k, *mean, p[i]);
            }
            continue;
        }
        const real *g = (const real *)c->in[at++].data + from;
        if (is_adam)
            adam(&k, n, g, p, moments + e->offset + from, squares + e->offset + from);
        else
            sgd(&k, n, g, p, moments + e->offset + from);
        if (averages) {
            real *restrict mean = averages + e->offset + from;
#pragma omp simd
            for (int64_t i = 0; i < n; i++) mean[i] = moved_average(&k, mean[i], p[i]);
        }
    }
    *(real *)c->out.data = k.clip;
}

static double update_flop(const rt_call *c)
{
    const rt__update_attr *a = c->node->attr;
    return ((a->opt.kind == RT_SGD ? 5.0 : 14.0) + (a->opt.average ? 3.0 : 0.0)) * (double)rt_params_count(a->set);
}

/* An update is checked against closed forms of its own (tests/golden/optim_golden.c); only its refusal can be walked. */
static rt_node *update_sample(rt_graph *g, int k)
{
    rt_node *one = RT_SAMPLE_IN(g, "a", 1);
    return k == -1 ? rt__emit(g, RT_OP_update, (rt_node *[]){one, one, one, one, one}, 5, NULL) : NULL;
}

const rt_op RT_ROW(norm2_all) = {
    .name = "norm2_all",
    .formula = "y = sum over all inputs and elements of x^2, added up in double",
    .min_in = 1,
    .max_in = -1,
    .batch = RT_SUMS,
    .shape = norm2_shape,
    .grad = norm2_grad,
    .expand = norm2_expand,
    .run = norm2_run,
    .scratch = norm2_scratch,
    .flop = norm2_flop,
    .sample = norm2_sample,
};

const rt_op RT_ROW(update) = {
    .name = "update",
    .formula =
        "g = min(1, clip / (norm + 1e-6)) gradient; Adam, AdamW, RAdam or SGD step of every entry; average = d average + (1-d) value",
    .min_in = 5,
    .max_in = -1,
    .attr_size = sizeof(rt__update_attr),
    .batch = RT_MIXES, /* of sums over all samples */
    .flags = RT_ROW_UPDATE,
    .shape = update_shape,
    .run = update_run,
    .flop = update_flop,
    .sample = update_sample,
};
