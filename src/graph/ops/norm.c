/* norm.c -- group normalisation as fused rows over x (N,C,...):
 *
 *     stats = group_stats(x)                       (N,G,2): mean, r = 1/sqrt(var + eps)
 *     y     = group_norm(x, stats, w, b)           xhat w + b,  xhat = (x - mean) r
 *     gx    = group_norm_data(x, stats, gy, w)     r (gh - <gh> - xhat <gh xhat>),  gh = gy w, <.> the mean over a group
 *     gwb   = group_norm_weight(x, stats, gy)      (2,C): sum gy xhat, sum gy
 *
 * stats is a cache of a function of x that spares the second row a pass over memory. So gx is the total derivative with respect to x, no
 * gradient flows into stats, and the expansions compute everything from x: second derivatives are right although the first are fused. */
#include "graph/ops/kernel.h"

#include <tgmath.h>

static const rt__group_attr *attr_of(const rt_node *y) { return y->attr; }

/* ---- shapes */

static bool same_shape(const rt_node *a, const rt_node *b)
{
    bool same = a->dtype == b->dtype && a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) same = a->shape[i] == b->shape[i];
    return same;
}

static bool set_shape(rt_node *y, int rank, const int64_t *shape)
{
    y->dtype = y->in[0]->dtype;
    y->rank = rank;
    for (int i = 0; i < rank; i++) y->shape[i] = shape[i];
    return true;
}

static bool check_groups(rt_node *y)
{
    const rt_node *x = y->in[0];
    int64_t groups = attr_of(y)->groups;
    double eps = attr_of(y)->eps;
    if (!rt__is_real(x) || x->rank < 2) return rt__bad(y, "x must be real, (N,C,...)");
    if (groups < 1 || x->shape[1] % groups)
        return rt__bad(y, "%lld groups do not divide %lld channels", (long long)groups, (long long)x->shape[1]);
    if (!(eps >= 0 && eps < INFINITY)) return rt__bad(y, "eps is %g; must be at least 0", eps);
    if (y->n_in == 1) return true;
    const rt_node *s = y->in[1];
    if (s->dtype != x->dtype || s->rank != 3 || s->shape[0] != x->shape[0] || s->shape[1] != groups || s->shape[2] != 2)
        return rt__bad(y, "the statistics must be (N,%lld,2)", (long long)groups);
    return true;
}

static bool check_channels(rt_node *y, int index)
{
    const rt_node *x = y->in[0], *w = y->in[index];
    if (w->dtype == x->dtype && w->rank == 1 && w->shape[0] == x->shape[1]) return true;
    return rt__bad(y, "weights of %lld channels are needed", (long long)x->shape[1]);
}

static bool group_stats_shape(rt_node *y)
{
    return check_groups(y) && set_shape(y, 3, (int64_t[]){y->in[0]->shape[0], attr_of(y)->groups, 2});
}

static bool group_norm_shape(rt_node *y)
{
    if (!check_groups(y)) return false;
    if (y->n_in == 3) return rt__bad(y, "weight and bias come together");
    if (y->n_in == 4 && !(check_channels(y, 2) && check_channels(y, 3))) return false;
    return set_shape(y, y->in[0]->rank, y->in[0]->shape);
}

static bool group_norm_data_shape(rt_node *y)
{
    if (!check_groups(y) || (y->n_in == 4 && !check_channels(y, 3))) return false;
    if (!same_shape(y->in[0], y->in[2])) return rt__bad(y, "the gradient must have the shape of x");
    return set_shape(y, y->in[0]->rank, y->in[0]->shape);
}

static bool group_norm_weight_shape(rt_node *y)
{
    if (!check_groups(y)) return false;
    if (!same_shape(y->in[0], y->in[2])) return rt__bad(y, "the gradient must have the shape of x");
    return set_shape(y, 2, (int64_t[]){2, y->in[0]->shape[1]});
}

/* ---- the same in simpler rows, from x alone */

static rt_node *grouped(const rt_node *y, rt_node *x) { return rt_reshape(x, 3, (int64_t[]){x->shape[0], attr_of(y)->groups, RT_INFER}); }

static rt_node *mean_of(rt_node *grouped_x) { return rt_mean(grouped_x, 1u << 2, true); }

/* xhat (N,G,M) and r (N,G,1) */
static rt_node *normalised(const rt_node *y, rt_node **r)
{
    rt_node *x = grouped(y, y->in[0]);
    if (rt__failed(x)) return *r = x;
    rt_node *d = rt_sub(x, mean_of(x));
    *r = rt_rsqrt(rt_offset(mean_of(rt_square(d)), attr_of(y)->eps));
    return rt_mul(d, *r);
}

static rt_node *ungrouped(const rt_node *y, rt_node *x) { return rt_reshape(x, y->in[0]->rank, y->in[0]->shape); }

/* (C) -> (1,C,1,..) */
static rt_node *per_channel(const rt_node *y, rt_node *w)
{
    int64_t shape[RT_MAX_RANK];
    for (int i = 0; i < y->in[0]->rank; i++) shape[i] = i == 1 ? y->in[0]->shape[1] : 1;
    return rt_reshape(w, y->in[0]->rank, shape);
}

static rt_node *group_stats_expand(rt_node *y)
{
    rt_node *x = grouped(y, y->in[0]), *r;
    normalised(y, &r);
    return rt_concat((rt_node *[]){mean_of(x), r}, 2, 2);
}

static rt_node *group_norm_expand(rt_node *y)
{
    rt_node *r, *xhat = ungrouped(y, normalised(y, &r));
    return y->n_in == 2 ? xhat : rt_add(rt_mul(xhat, per_channel(y, y->in[2])), per_channel(y, y->in[3]));
}

static rt_node *group_norm_data_expand(rt_node *y)
{
    rt_node *r, *xhat = normalised(y, &r), *gh = y->in[2];
    if (y->n_in == 4) gh = rt_mul(gh, per_channel(y, y->in[3]));
    if (rt__failed(gh)) return gh;
    gh = grouped(y, gh);
    return ungrouped(y, rt_mul(r, rt_sub(rt_sub(gh, mean_of(gh)), rt_mul(xhat, mean_of(rt_mul(gh, xhat))))));
}

static rt_node *group_norm_weight_expand(rt_node *y)
{
    rt_node *r, *xhat = ungrouped(y, normalised(y, &r)), *gy = y->in[2];
    unsigned axes = ((1u << gy->rank) - 1) & ~2u;
    int64_t row[] = {1, gy->shape[1]};
    rt_node *gw = rt_sum(rt_mul(gy, xhat), axes, false), *gb = rt_sum(gy, axes, false);
    return rt_concat((rt_node *[]){rt_reshape(gw, 2, row), rt_reshape(gb, 2, row)}, 2, 0);
}

static void group_norm_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt_node *in[] = {y->in[0], y->in[1], gy, y->n_in == 4 ? y->in[2] : NULL};
    gx[0] = rt__emit(y->graph, RT_OP_group_norm_data, in, y->n_in == 4 ? 4 : 3, y->attr);
    if (y->n_in == 2) return;
    rt_node *both = rt__emit(y->graph, RT_OP_group_norm_weight, in, 3, y->attr);
    for (int i = 0; i < 2; i++) gx[2 + i] = rt_reshape(rt_slice(both, 0, i, i + 1, 1), 1, y->in[2]->shape);
}

/* ---- kernels. Channels lie in blocks of b, [C/b][HW][b]; plain images are b = 1, where the pixels are the vector, otherwise the channels of a
 * block are. Sums run in `real` over short stretches, in double over stretches, and of differences from a number near the mean: so a mean far
 * above the deviation costs no digits. */

typedef struct extents {
    int64_t n, c, g, cg, hw, b; /* samples, channels, groups, channels of a group, pixels, channels of a block */
    int64_t span;               /* channels of the smallest run of whole blocks that holds whole groups: what one thread works on */
} extents;

static extents extents_of(const rt_call *c)
{
    const rt_view *x = &c->in[0];
    extents e = {.n = x->dim[0], .c = x->dim[1], .g = attr_of(c->node)->groups, .b = x->block > 1 ? x->block : 1};
    e.cg = e.c / e.g;
    e.hw = x->count / (e.n * e.c);
    e.span = e.b % e.cg == 0 ? e.b : e.cg % e.b == 0 ? e.cg : e.c;
    return e;
}

enum { STRETCH = 512, BLOCK_MOST = 64, SPAN_GROUPS = 256 }; /* STRETCH <= STRIP, BLOCK_MOST <= STRIP */

static bool norm_blockable(const rt_node *y, int b)
{
    int64_t groups = attr_of(y)->groups, cg = y->in[0]->shape[1] / groups;
    return b <= BLOCK_MOST && (b % cg == 0 || cg % b == 0 || groups <= SPAN_GROUPS);
}

/* Per channel of a block of b: sum of gy, and sum of gy (x - mean); with x as gy, sums of x and of squares. */
RT_INLINE void block_sums(const rt_view *xv, const rt_view *gv, int64_t at, int64_t hw, int64_t b, const real *mean, bool squares,
                          double *sum, double *moment)
{
    for (int64_t k = 0; k < b; k++) sum[k] = moment[k] = 0;
    int64_t stretch = b == 1 ? STRETCH : STRIP / b;
    for (int64_t i = 0; i < hw; i += stretch) {
        int64_t n = hw - i < stretch ? hw - i : stretch;
        real s[BLOCK_MOST] = {0}, t[BLOCK_MOST] = {0}, bx[STRIP], bg[STRIP];
        const real *x = widened(xv, at + i * b, n * b, bx), *gy = squares ? x : widened(gv, at + i * b, n * b, bg);
        if (b == 1) {
            real s0 = 0, t0 = 0;
#pragma omp simd reduction(+ : s0, t0)
            for (int64_t j = 0; j < n; j++) {
                real d = x[j] - *mean, v = squares ? d : gy[j];
                s0 += v;
                t0 += v * d;
            }
            s[0] = s0, t[0] = t0;
        } else {
            for (int64_t j = 0; j < n; j++)
#pragma omp simd
                for (int64_t k = 0; k < b; k++) {
                    real d = x[j * b + k] - mean[k], v = squares ? d : gy[j * b + k];
                    s[k] += v;
                    t[k] += v * d;
                }
        }
        for (int64_t k = 0; k < b; k++) sum[k] += (double)s[k], moment[k] += (double)t[k];
    }
}

/* Sums of gy and gy (x - mean), or, without gy, of x - mean and its square. The sizes that matter are constants for the compiler. */
static void sums_of(const rt_view *x, const rt_view *gy, int64_t at, int64_t hw, int64_t b, const real *mean, double *sum, double *moment)
{
    if (b == 16 && gy)
        block_sums(x, gy, at, hw, 16, mean, false, sum, moment);
    else if (b == 16)
        block_sums(x, gy, at, hw, 16, mean, true, sum, moment);
    else if (b == 1 && gy)
        block_sums(x, gy, at, hw, 1, mean, false, sum, moment);
    else if (b == 1)
        block_sums(x, gy, at, hw, 1, mean, true, sum, moment);
    else
        block_sums(x, gy, at, hw, b, mean, !gy, sum, moment);
}

/* With d = x - mean, by channel of a block: y = d scale + shift, or y = gy scale + shift - d slope. */
typedef struct line {
    real mean[BLOCK_MOST], scale[BLOCK_MOST], shift[BLOCK_MOST], slope[BLOCK_MOST];
} line;

RT_INLINE void block_line(const rt_view *yv, const rt_view *xv, const rt_view *gv, int64_t at, int64_t hw, int64_t b, const line *l)
{
    int64_t strip = STRIP / b * b, end = at + hw * b;
    for (; at < end; at += strip) {
        int64_t n = end - at < strip ? end - at : strip;
        real bx[STRIP], bg[STRIP], by[STRIP], *y = room(yv, at, by);
        const real *x = widened(xv, at, n, bx), *gy = gv ? widened(gv, at, n, bg) : NULL;
        if (b == 1) {
            real mean = l->mean[0], scale = l->scale[0], shift = l->shift[0], slope = gy ? l->slope[0] : 0;
#pragma omp simd
            for (int64_t i = 0; i < n; i++) y[i] = gy ? gy[i] * scale + shift - (x[i] - mean) * slope : (x[i] - mean) * scale + shift;
        } else {
            for (int64_t i = 0; i < n; i += b)
#pragma omp simd
                for (int64_t k = 0; k < b; k++) {
                    real d = x[i + k] - l->mean[k];
                    y[i + k] = gy ? gy[i + k] * l->scale[k] + l->shift[k] - d * l->slope[k] : d * l->scale[k] + l->shift[k];
                }
        }
        narrow(yv, at, n, y);
    }
}

static void put_line(const rt_view *y, const rt_view *x, const rt_view *gy, int64_t at, int64_t hw, int64_t b, const line *l)
{
    if (b == 16 && gy)
        block_line(y, x, gy, at, hw, 16, l);
    else if (b == 16)
        block_line(y, x, NULL, at, hw, 16, l);
    else
        block_line(y, x, gy, at, hw, b, l);
}

/* Two passes: the mean, then the squares of what differs from it. */
static void group_stats_run(const rt_call *c)
{
    const extents e = extents_of(c);
    double m = (double)(e.cg * e.hw);
#pragma omp parallel for schedule(static) if (c->in[0].count > 4096)
    for (int64_t t = 0; t < e.n * (e.c / e.span); t++) {
        int64_t at = t * e.span * e.hw;
        real *out = (real *)c->out.data + t * (e.span / e.cg) * 2, first[BLOCK_MOST];
        double total[SPAN_GROUPS], s[BLOCK_MOST], q[BLOCK_MOST];
        for (int64_t g = 0; g < e.span / e.cg; g++) total[g] = 0;
        for (int64_t k = 0; k < e.span; k += e.b) {
            const real *origin = widened(&c->in[0], at + k * e.hw, e.b, first); /* the first pixel */
            sums_of(&c->in[0], NULL, at + k * e.hw, e.hw, e.b, origin, s, q);
            for (int64_t j = 0; j < e.b; j++) total[(k + j) / e.cg] += s[j] + (double)origin[j] * (double)e.hw;
        }
        for (int64_t g = 0; g < e.span / e.cg; g++) out[2 * g] = (real)(total[g] / m), total[g] = 0;
        for (int64_t k = 0; k < e.span; k += e.b) {
            real mean[BLOCK_MOST];
            for (int64_t j = 0; j < e.b; j++) mean[j] = out[(k + j) / e.cg * 2];
            sums_of(&c->in[0], NULL, at + k * e.hw, e.hw, e.b, mean, s, q);
            for (int64_t j = 0; j < e.b; j++) total[(k + j) / e.cg] += q[j];
        }
        for (int64_t g = 0; g < e.span / e.cg; g++) out[2 * g + 1] = (real)(1 / sqrt(total[g] / m + attr_of(c->node)->eps));
    }
}

static void group_norm_run(const rt_call *c)
{
    const extents e = extents_of(c);
    const real *w = c->n_in == 4 ? c->in[2].data : NULL, *b = w ? c->in[3].data : NULL;
#pragma omp parallel for schedule(static) if (c->out.count > 4096)
    for (int64_t t = 0; t < e.n * e.c / e.b; t++) { /* a block of channels of a sample */
        line l;
        for (int64_t j = 0; j < e.b; j++) {
            int64_t at = t * e.b + j, channel = at % e.c;
            const real *stats = (const real *)c->in[1].data + at / e.cg * 2;
            l.mean[j] = stats[0];
            l.scale[j] = w ? stats[1] * w[channel] : stats[1];
            l.shift[j] = b ? b[channel] : 0;
        }
        put_line(&c->out, &c->in[0], NULL, t * e.b * e.hw, e.hw, e.b, &l);
    }
}

static void group_norm_data_run(const rt_call *c)
{
    const extents e = extents_of(c);
    const real *w = c->n_in == 4 ? c->in[3].data : NULL;
#pragma omp parallel for schedule(static) if (c->out.count > 4096)
    for (int64_t t = 0; t < e.n * (e.c / e.span); t++) {
        int64_t at = t * e.span * e.hw, first = t * e.span % e.c, groups = e.span / e.cg;
        const real *stats = (const real *)c->in[1].data + t * groups * 2;
        double sum[SPAN_GROUPS], moment[SPAN_GROUPS]; /* of gh, and of gh (x - mean) */
        for (int64_t g = 0; g < groups; g++) sum[g] = moment[g] = 0;
        line l;
        for (int64_t k = 0; k < e.span; k += e.b) {
            double s[BLOCK_MOST], m[BLOCK_MOST];
            for (int64_t j = 0; j < e.b; j++) l.mean[j] = stats[(k + j) / e.cg * 2];
            sums_of(&c->in[0], &c->in[2], at + k * e.hw, e.hw, e.b, l.mean, s, m);
            for (int64_t j = 0; j < e.b; j++) {
                double f = w ? (double)w[first + k + j] : 1;
                sum[(k + j) / e.cg] += f * s[j];
                moment[(k + j) / e.cg] += f * m[j];
            }
        }
        double count = (double)(e.cg * e.hw);
        for (int64_t k = 0; k < e.span; k += e.b) {
            for (int64_t j = 0; j < e.b; j++) {
                int64_t g = (k + j) / e.cg;
                double r = (double)stats[2 * g + 1];
                l.mean[j] = stats[2 * g];
                l.scale[j] = w ? stats[2 * g + 1] * w[first + k + j] : stats[2 * g + 1];
                l.shift[j] = (real)(-r * sum[g] / count);
                l.slope[j] = (real)(r * r * r * moment[g] / count);
            }
            put_line(&c->out, &c->in[0], &c->in[2], at + k * e.hw, e.hw, e.b, &l);
        }
    }
}

static void group_norm_weight_run(const rt_call *c)
{
    const extents e = extents_of(c);
    real *out = c->out.data;
#pragma omp parallel for schedule(static) if (c->in[0].count > 4096)
    for (int64_t k = 0; k < e.c; k += e.b) {
        double gw[BLOCK_MOST] = {0}, gb[BLOCK_MOST] = {0}, s[BLOCK_MOST], m[BLOCK_MOST];
        for (int64_t n = 0; n < e.n; n++) {
            const real *stats = (const real *)c->in[1].data + n * e.g * 2;
            int64_t at = (n * e.c + k) * e.hw;
            real mean[BLOCK_MOST];
            for (int64_t j = 0; j < e.b; j++) mean[j] = stats[(k + j) / e.cg * 2];
            sums_of(&c->in[0], &c->in[2], at, e.hw, e.b, mean, s, m);
            for (int64_t j = 0; j < e.b; j++) gw[j] += m[j] * (double)stats[(k + j) / e.cg * 2 + 1], gb[j] += s[j];
        }
        for (int64_t j = 0; j < e.b; j++) out[k + j] = (real)gw[j], out[e.c + k + j] = (real)gb[j];
    }
}

static double stats_flop(const rt_call *c) { return 5.0 * (double)c->in[0].count; }
static double norm_flop(const rt_call *c) { return 3.0 * (double)c->in[0].count; }
static double data_flop(const rt_call *c) { return 9.0 * (double)c->in[0].count; }
static double weight_flop(const rt_call *c) { return 4.0 * (double)c->in[0].count; }

/* ---- samples: the statistics are always those of x, as in every graph */

static rt_node *x_of(rt_graph *g, int k)
{
    switch (k) {
    case 0: return RT_SAMPLE_IN(g, "a", 2, 6, 5, 3);
    case 1: return RT_SAMPLE_IN(g, "a", RT_BATCH, 6, 4, 3);
    case 2: return RT_SAMPLE_IN(g, "a", 3, 4, 7); /* a sequence */
    default: return RT_SAMPLE_IN(g, "a", RT_BATCH, 6);
    }
}

static rt_node *g_of(rt_graph *g, int k)
{
    const rt_node *x = x_of(g, k);
    return rt_input(g, "b", x->dtype, x->rank, x->shape);
}

static const int64_t groups_of[] = {3, 1, 4, 2};
static rt__group_attr sample_attr(int k) { return (rt__group_attr){.groups = k < 0 ? 4 : groups_of[k], .eps = 1e-3}; }
static rt_node *stats_of(rt_graph *g, int k) { return rt__emit1(RT_OP_group_stats, x_of(g, k), &(rt__group_attr){groups_of[k], 1e-3}); }

static rt_node *group_stats_sample(rt_graph *g, int k)
{
    rt__group_attr at = sample_attr(k < 4 ? k : 0);
    return k < 4 ? rt__emit1(RT_OP_group_stats, x_of(g, k < 0 ? 0 : k), &at) : NULL;
}

static rt_node *group_norm_sample(rt_graph *g, int k)
{
    if (k < 0) return rt__emit2(RT_OP_group_norm, x_of(g, 0), RT_SAMPLE_IN(g, "b", 2, 4, 2), &(rt__group_attr){3, 1e-3});
    if (k > 3) return NULL;
    rt_node *x = x_of(g, k), *w = k == 2 ? NULL : RT_SAMPLE_IN(g, "w", x->shape[1]), *b = k == 2 ? NULL : RT_SAMPLE_IN(g, "c", x->shape[1]);
    return rt_group_norm(x, w, b, (int)groups_of[k], 1e-3);
}

static rt_node *group_norm_data_sample(rt_graph *g, int k)
{
    if (k > 3) return NULL;
    rt__group_attr at = sample_attr(k < 0 ? 0 : k);
    rt_node *x = x_of(g, k < 0 ? 0 : k);
    rt_node *in[] = {x, stats_of(g, k < 0 ? 0 : k), g_of(g, k < 0 ? 2 : k), RT_SAMPLE_IN(g, "w", x->shape[1])};
    return rt__emit(g, RT_OP_group_norm_data, in, k == 2 ? 3 : 4, &at);
}

static rt_node *group_norm_weight_sample(rt_graph *g, int k)
{
    if (k > 3) return NULL;
    rt__group_attr at = sample_attr(k < 0 ? 0 : k);
    rt_node *in[] = {x_of(g, k < 0 ? 0 : k), stats_of(g, k < 0 ? 0 : k), g_of(g, k < 0 ? 2 : k)};
    return rt__emit(g, RT_OP_group_norm_weight, in, 3, &at);
}

const rt_op RT_ROW(group_stats) = {
    .name = "group_stats",
    .formula = "s[n,g,0] = mean of x over the channels and pixels of group g, s[n,g,1] = 1 / sqrt(variance + eps)",
    .min_in = 1,
    .max_in = 1,
    .attr_size = sizeof(rt__group_attr),
    .layout = RT_LAYOUT_READS,
    .type = RT_TYPE_READS,
    .blockable = norm_blockable,
    .batch = RT_MAPS,
    .shape = group_stats_shape,
    .expand = group_stats_expand,
    .run = group_stats_run,
    .flop = stats_flop,
    .sample = group_stats_sample,
};

const rt_op RT_ROW(group_norm) = {
    .name = "group_norm",
    .formula = "y[n,c,i] = (x[n,c,i] - s[n,g(c),0]) s[n,g(c),1] w[c] + b[c], with s = group_stats(x)",
    .min_in = 2,
    .max_in = 4,
    .attr_size = sizeof(rt__group_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_MAPS,
    .blockable = norm_blockable,
    .batch = RT_MAPS,
    .flags = RT_ROW_INPLACE,
    .shape = group_norm_shape,
    .grad = group_norm_grad,
    .expand = group_norm_expand,
    .run = group_norm_run,
    .flop = norm_flop,
    .sample = group_norm_sample,
};

const rt_op RT_ROW(group_norm_data) = {
    .name = "group_norm_data",
    .formula = "gx = r (gh - <gh> - xhat <gh xhat>), gh = gy w, xhat = (x - mean) r, <.> the mean over a group",
    .min_in = 3,
    .max_in = 4,
    .attr_size = sizeof(rt__group_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_MAPS,
    .blockable = norm_blockable,
    .batch = RT_MAPS,
    .flags = RT_ROW_INPLACE,
    .shape = group_norm_data_shape,
    .expand = group_norm_data_expand,
    .run = group_norm_data_run,
    .flop = data_flop,
    .sample = group_norm_data_sample,
};

const rt_op RT_ROW(group_norm_weight) = {
    .name = "group_norm_weight",
    .formula = "g[0,c] = sum_{n,i} gy[n,c,i] xhat[n,c,i], g[1,c] = sum_{n,i} gy[n,c,i]",
    .min_in = 3,
    .max_in = 3,
    .attr_size = sizeof(rt__group_attr),
    .layout = RT_LAYOUT_READS,
    .type = RT_TYPE_READS,
    .blockable = norm_blockable,
    .batch = RT_SUMS,
    .shape = group_norm_weight_shape,
    .expand = group_norm_weight_expand,
    .run = group_norm_weight_run,
    .flop = weight_flop,
    .sample = group_norm_weight_sample,
};
