/* norm.c -- group normalisation of x (N,C,...) with what surrounds it in networks, and its derivatives:
 *
 *     y  = group_norm(x, w, b, t)            act(xhat w + b),  xhat = (x + t - mean) r,  r = 1/sqrt(var + eps)
 *     gx = group_norm_data(x, w, b, t, gy)   r (gh - <gh> - xhat <gh xhat>) + a,  gh = gn w,  gn = gy act',  <.> the mean over a group
 *     s  = group_norm_sums(x, w, b, t, gy)   (N,C,3): sums over the pixels of gn xhat, of gn and of gx - a
 *     dy = group_norm_jvp(x, w, b, t, dx)    act' w r (dx - <dx> - xhat <dx xhat>), the derivative where x + t moves along dx
 *
 * t (N,C,1,..) is a shift per channel, act the identity or SiLU, a another gradient of x to be added. w and b, t and a may be absent. Everything is
 * computed from x: a group stays in the cache, so its mean and deviation cost no memory traffic, and no row keeps anything for another.
 * group_norm_sums gives the gradients of w, b (summed over samples) and t, and sums of gx without another pass over memory. */
#include "graph/ops/kernel.h"
#include "graph/ops/places.h"

#include <omp.h>
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

static bool per_channel_shape(const rt_node *y, const rt_node *w)
{
    return w->dtype == y->in[0]->dtype && w->rank == 1 && w->shape[0] == y->in[0]->shape[1];
}

static bool check(rt_node *y)
{
    const rt_node *x = y->in[0];
    int64_t groups = attr_of(y)->groups;
    double eps = attr_of(y)->eps;
    if (!rt__is_real(x) || x->rank < 2) return rt__bad(y, "x must be real, (N,C,...)");
    if (groups < 1 || x->shape[1] % groups)
        return rt__bad(y, "%lld groups do not divide %lld channels", (long long)groups, (long long)x->shape[1]);
    if (!(eps >= 0 && eps < INFINITY)) return rt__bad(y, "eps is %g; must be at least 0", eps);
    places at = places_of(y, y->n_in);
    if (at.gy < 0 || at.shift > 3) return rt__bad(y, "%d inputs", y->n_in);
    if (at.w && !(per_channel_shape(y, y->in[at.w]) && per_channel_shape(y, y->in[at.b])))
        return rt__bad(y, "weight and bias of %lld channels are needed", (long long)x->shape[1]);
    if (at.shift && !rt__is_channel_shift(x, y->in[at.shift])) return rt__bad(y, "the shift must be (N,%lld,1,..)", (long long)x->shape[1]);
    if (at.gy && !same_shape(x, y->in[at.gy])) return rt__bad(y, "the gradient must have the shape of x");
    if (at.addend && !same_shape(x, y->in[at.addend])) return rt__bad(y, "what is added must have the shape of x");
    return true;
}

static bool group_norm_shape(rt_node *y) { return check(y) && set_shape(y, y->in[0]->rank, y->in[0]->shape); }

static bool group_norm_sums_shape(rt_node *y)
{
    return check(y) && set_shape(y, 3, (int64_t[]){y->in[0]->shape[0], y->in[0]->shape[1], 3});
}

/* ---- the same in simpler rows */

typedef struct simple { /* (N,C,...); r and whatever is a mean over a group (N,G,1) */
    rt_node *xhat, *r, *z, *gn;
} simple;

static rt_node *grouped(const rt_node *y, rt_node *x) { return rt_reshape(x, 3, (int64_t[]){x->shape[0], attr_of(y)->groups, RT_INFER}); }
static rt_node *ungrouped(const rt_node *y, rt_node *x) { return rt_reshape(x, y->in[0]->rank, y->in[0]->shape); }
static rt_node *mean_of(rt_node *grouped_x) { return rt_mean(grouped_x, 1u << 2, true); }

/* (C) -> (1,C,1,..) */
static rt_node *per_channel(const rt_node *y, rt_node *w)
{
    int64_t shape[RT_MAX_RANK];
    for (int i = 0; i < y->in[0]->rank; i++) shape[i] = i == 1 ? y->in[0]->shape[1] : 1;
    return rt_reshape(w, y->in[0]->rank, shape);
}

/* z = xhat w + b, gn = gy act'(z) */
static simple simplify(const rt_node *y)
{
    places at = places_of(y, y->n_in);
    simple s;
    rt_node *x = grouped(y, at.shift ? rt_add(y->in[0], y->in[at.shift]) : y->in[0]), *d = rt_sub(x, mean_of(x));
    s.r = rt_rsqrt(rt_offset(mean_of(rt_square(d)), attr_of(y)->eps));
    s.xhat = s.z = ungrouped(y, rt_mul(d, s.r));
    if (at.w) s.z = rt_add(rt_mul(s.xhat, per_channel(y, y->in[at.w])), per_channel(y, y->in[at.b]));
    s.gn = at.gy ? y->in[at.gy] : NULL;
    if (at.gy && attr_of(y)->silu) s.gn = rt__emit2(RT_OP_silu_grad, s.z, s.gn, NULL);
    return s;
}

static rt_node *group_norm_expand(rt_node *y)
{
    rt_node *z = simplify(y).z;
    return attr_of(y)->silu ? rt_silu(z) : z;
}

/* gx without the addend */
static rt_node *simple_data(const rt_node *y, const simple *s)
{
    places at = places_of(y, y->n_in);
    rt_node *gh = grouped(y, at.w ? rt_mul(s->gn, per_channel(y, y->in[at.w])) : s->gn), *xhat = grouped(y, s->xhat);
    return ungrouped(y, rt_mul(s->r, rt_sub(rt_sub(gh, mean_of(gh)), rt_mul(xhat, mean_of(rt_mul(gh, xhat))))));
}

static rt_node *group_norm_data_expand(rt_node *y)
{
    simple s = simplify(y);
    rt_node *gx = simple_data(y, &s);
    return attr_of(y)->addend ? rt_add(gx, y->in[places_of(y, y->n_in).addend]) : gx;
}

static rt_node *group_norm_sums_expand(rt_node *y)
{
    simple s = simplify(y);
    rt_node *of[] = {rt_mul(s.gn, s.xhat), s.gn, simple_data(y, &s)};
    int64_t rows[] = {y->shape[0], y->shape[1], 1};
    unsigned pixels = ((1u << y->in[0]->rank) - 1) & ~3u;
    for (int i = 0; i < 3; i++) of[i] = rt_reshape(pixels ? rt_sum(of[i], pixels, false) : of[i], 3, rows);
    return rt_concat(of, 3, 2);
}

/* The Jacobian of xhat is symmetric: that of its gradient. */
static rt_node *group_norm_jvp_expand(rt_node *y)
{
    places at = places_of(y, y->n_in);
    simple s = simplify(y);
    rt_node *dx = grouped(y, y->in[at.gy]), *xhat = grouped(y, s.xhat);
    rt_node *dz = ungrouped(y, rt_mul(s.r, rt_sub(rt_sub(dx, mean_of(dx)), rt_mul(xhat, mean_of(rt_mul(dx, xhat))))));
    if (at.w) dz = rt_mul(dz, per_channel(y, y->in[at.w]));
    return attr_of(y)->silu ? rt__emit2(RT_OP_silu_grad, s.z, dz, NULL) : dz;
}

static rt_node *group_norm_forward(rt_node *y, rt_node *const *dx)
{
    places at = places_of(y, y->n_in);
    if (at.w && (dx[at.w] || dx[at.b])) return rt__jvp_expanded(y, dx); /* along weights: nothing that distils asks for it */
    rt_node *in[5] = {0}, *along = dx[0], *shift = at.shift ? dx[at.shift] : NULL;
    for (int i = 0; i < y->n_in; i++) in[i] = y->in[i];
    if (shift) along = along ? rt_add(along, shift) : rt_broadcast(shift, y->rank, y->shape);
    in[y->n_in] = along;
    return rt__emit(y->graph, RT_OP_group_norm_jvp, in, y->n_in + 1, y->attr);
}

static void group_norm_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    places at = places_of(y, y->n_in);
    rt_node *in[5] = {0};
    for (int i = 0; i < y->n_in; i++) in[i] = y->in[i];
    in[y->n_in] = gy;
    gx[0] = rt__emit(y->graph, RT_OP_group_norm_data, in, y->n_in + 1, y->attr);
    if (y->n_in == 1) return;
    rt_node *sums = rt__emit(y->graph, RT_OP_group_norm_sums, in, y->n_in + 1, y->attr);
    if (rt__failed(sums)) return;
    if (at.shift) gx[at.shift] = rt_reshape(rt_slice(sums, 2, 2, 3, 1), y->in[at.shift]->rank, y->in[at.shift]->shape);
    rt_node *total = at.w ? rt_sum(sums, 1u << 0, false) : NULL;
    for (int i = 0; i < 2 && at.w; i++) gx[at.w + i] = rt_reshape(rt_slice(total, 1, i, i + 1, 1), 1, y->in[at.w]->shape);
}

/* ---- kernels. Channels lie in blocks of b, [C/b][HW][b]; plain images are b = 1, where the pixels are the vector, otherwise the channels of a
 * block are. Sums run in `real` over short stretches, in double over stretches, and of differences from a number near the mean: so a mean far
 * above the deviation costs no digits. */

enum { STRETCH = 512, BLOCK_MOST = 64 }; /* neither above STRIP */

typedef struct task {
    const rt_view *x, *shift, *gy, *addend; /* NULL: absent */
    const real *w, *bias;
    int64_t n, c, cg, hw, b; /* samples, channels, channels of a group, pixels, channels of a block */
    int64_t span;     /* channels of the smallest run of whole blocks that holds whole groups: what one thread works on, in the cache */
    bool silu, rough; /* SiLU as exact as numbers in bf16 are */
    double eps;
} task;

static task task_of(const rt_call *c)
{
    const rt_view *x = c->in;
    const rt__group_attr *a = attr_of(c->node);
    places at = places_of(c->node, c->n_in);
    task t = {.x = x,
              .n = x->dim[0],
              .c = x->dim[1],
              .b = x->block > 1 ? x->block : 1,
              .silu = a->silu,
              .rough = a->silu && is_bf16(x),
              .eps = a->eps};
    t.cg = t.c / a->groups;
    t.hw = x->count / (t.n * t.c);
    t.span = t.b;
    while (t.span % t.cg) t.span += t.b; /* both divide the channels, so their least common multiple does */
    if (at.w) t.w = c->in[at.w].data, t.bias = c->in[at.b].data;
    if (at.shift) t.shift = &c->in[at.shift];
    if (at.gy) t.gy = &c->in[at.gy];
    if (at.addend) t.addend = &c->in[at.addend];
    return t;
}

static bool norm_blockable(const rt_node *y, int b)
{
    (void)y;
    return b <= BLOCK_MOST;
}

/* What a kernel needs to know of each channel of a block. d = x - mean (the mean less the channel's shift), z = d scale + bias. */
typedef struct channels {
    real mean[BLOCK_MOST], scale[BLOCK_MOST], bias[BLOCK_MOST];
    real offset[BLOCK_MOST], slope[BLOCK_MOST]; /* gx = gn scale + offset - d slope */
} channels;

/* Per channel of a block, sums of v and of v d, where v is d, gy, or gy act'(z), which is then also left in gn. */
typedef enum summand { DEVIATION, GRADIENT, SLOPED, ROUGHLY_SLOPED } summand;
typedef struct sums {
    double v[BLOCK_MOST], vd[BLOCK_MOST];
} sums;

RT_INLINE real summand_of(summand kind, real d, real gy, real scale, real bias)
{
    if (kind < SLOPED) return kind == DEVIATION ? d : gy;
    real z = d * scale + bias, s = kind == SLOPED ? sigmoid_of(z) : rough_sigmoid(z);
    return silu_sloped(gy, z, s);
}

/* Asks for what is read a span later: so memory works while the processor calculates. Beyond the end of v nothing happens. */
RT_INLINE void ask_ahead(const rt_view *v, const task *t, int64_t at)
{
    uintptr_t size = is_bf16(v) ? sizeof(uint16_t) : sizeof(real);
    __builtin_prefetch((const void *)((uintptr_t)v->data + (uintptr_t)(at + t->span * t->hw) * size), 0, 2);
}

RT_INLINE void block_sums(const task *t, int64_t at, real *gn, int64_t b, summand kind, const channels *c, sums *sum)
{
    for (int64_t k = 0; k < b; k++) sum->v[k] = sum->vd[k] = 0;
    int64_t stretch = b == 1 ? STRETCH : STRIP / b;
    for (int64_t i = 0; i < t->hw; i += stretch) {
        int64_t n = t->hw - i < stretch ? t->hw - i : stretch;
        real v[BLOCK_MOST] = {0}, vd[BLOCK_MOST] = {0}, bx[STRIP], bg[STRIP];
        const real *x = widened(t->x, at + i * b, n * b, bx), *gy = kind == DEVIATION ? x : widened(t->gy, at + i * b, n * b, bg);
        real *to = kind >= SLOPED ? gn + i * b : NULL;
        if (b == 1) {
            real v0 = 0, vd0 = 0, mean = c->mean[0], scale = c->scale[0], bias = c->bias[0];
#pragma omp simd reduction(+ : v0, vd0)
            for (int64_t j = 0; j < n; j++) {
                real d = x[j] - mean, g = summand_of(kind, d, gy[j], scale, bias);
                if (kind >= SLOPED) to[j] = g;
                v0 += g;
                vd0 += g * d;
            }
            v[0] = v0, vd[0] = vd0;
        } else {
            for (int64_t j = 0; j < n * b; j += b) {
                if (kind >= SLOPED) ask_ahead(t->x, t, at + i * b + j), ask_ahead(t->gy, t, at + i * b + j);
#pragma omp simd
                for (int64_t k = 0; k < b; k++) {
                    real d = x[j + k] - c->mean[k], g = summand_of(kind, d, gy[j + k], c->scale[k], c->bias[k]);
                    if (kind >= SLOPED) to[j + k] = g;
                    v[k] += g;
                    vd[k] += g * d;
                }
            }
        }
        for (int64_t k = 0; k < b; k++) sum->v[k] += (double)v[k], sum->vd[k] += (double)vd[k];
    }
}

typedef enum activation { IDENTITY, SILU, ROUGH_SILU } activation;

RT_INLINE real activated(activation act, real z) { return act == IDENTITY ? z : z * (act == SILU ? sigmoid_of(z) : rough_sigmoid(z)); }

/* y = act(z) */
RT_INLINE void block_norm(const rt_view *yv, const task *t, int64_t at, int64_t b, activation act, const channels *c)
{
    int64_t strip = STRIP / b * b, end = at + t->hw * b;
    for (; at < end; at += strip) {
        int64_t n = end - at < strip ? end - at : strip;
        real bx[STRIP], by[STRIP], *y = room(yv, at, by);
        const real *x = widened(t->x, at, n, bx);
        if (b == 1) {
            real mean = c->mean[0], scale = c->scale[0], bias = c->bias[0];
#pragma omp simd
            for (int64_t i = 0; i < n; i++) y[i] = activated(act, (x[i] - mean) * scale + bias);
        } else {
            for (int64_t i = 0; i < n; i += b) {
                ask_ahead(t->x, t, at + i);
#pragma omp simd
                for (int64_t k = 0; k < b; k++) y[i + k] = activated(act, (x[i + k] - c->mean[k]) * c->scale[k] + c->bias[k]);
            }
        }
        narrow(yv, at, n, y);
    }
}

/* gx = gn scale + offset - d slope + addend; gn NULL: gy */
RT_INLINE void block_data(const rt_view *yv, const task *t, const real *gn, int64_t at, int64_t b, bool added, const channels *c)
{
    int64_t strip = STRIP / b * b, end = at + t->hw * b, start = at;
    for (; at < end; at += strip) {
        int64_t n = end - at < strip ? end - at : strip;
        real bx[STRIP], bg[STRIP], ba[STRIP], by[STRIP], *y = room(yv, at, by);
        const real *x = widened(t->x, at, n, bx), *g = gn ? gn + at - start : widened(t->gy, at, n, bg);
        const real *a = added ? widened(t->addend, at, n, ba) : NULL;
        if (b == 1) {
            real mean = c->mean[0], scale = c->scale[0], offset = c->offset[0], slope = c->slope[0];
#pragma omp simd
            for (int64_t i = 0; i < n; i++) y[i] = g[i] * scale + offset - (x[i] - mean) * slope + (added ? a[i] : 0);
        } else {
            for (int64_t i = 0; i < n; i += b)
#pragma omp simd
                for (int64_t k = 0; k < b; k++)
                    y[i + k] = g[i + k] * c->scale[k] + c->offset[k] - (x[i + k] - c->mean[k]) * c->slope[k] + (added ? a[i + k] : 0);
        }
        narrow(yv, at, n, y);
    }
}

/* dy = (dx scale + offset - d slope) act'(z) */
RT_INLINE void block_jvp(const rt_view *yv, const task *t, int64_t at, int64_t b, summand kind, const channels *c)
{
    int64_t strip = STRIP / b * b, end = at + t->hw * b;
    for (; at < end; at += strip) {
        int64_t n = end - at < strip ? end - at : strip;
        real bx[STRIP], bg[STRIP], by[STRIP], *y = room(yv, at, by);
        const real *x = widened(t->x, at, n, bx), *dx = widened(t->gy, at, n, bg);
        if (b == 1) {
            real mean = c->mean[0], scale = c->scale[0], bias = c->bias[0], offset = c->offset[0], slope = c->slope[0];
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                real d = x[i] - mean;
                y[i] = summand_of(kind, d, dx[i] * scale + offset - d * slope, scale, bias);
            }
        } else {
            for (int64_t i = 0; i < n; i += b)
#pragma omp simd
                for (int64_t k = 0; k < b; k++) {
                    real d = x[i + k] - c->mean[k];
                    y[i + k] = summand_of(kind, d, dx[i + k] * c->scale[k] + c->offset[k] - d * c->slope[k], c->scale[k], c->bias[k]);
                }
        }
        narrow(yv, at, n, y);
    }
}

/* The sizes that matter are constants for the compiler: KERNEL(16), KERNEL(1), or what it is. */
#define FOR_BLOCK(b, KERNEL) ((b) == 16 ? KERNEL(16) : (b) == 8 ? KERNEL(8) : (b) == 1 ? KERNEL(1) : KERNEL(b))

static void sums_of(const task *t, int64_t at, real *gn, summand kind, const channels *c, sums *sum)
{
#define DEVIATIONS(b) block_sums(t, at, NULL, b, DEVIATION, c, sum)
#define GRADIENTS(b)  block_sums(t, at, NULL, b, GRADIENT, c, sum)
#define SLOPES(b)     block_sums(t, at, gn, b, SLOPED, c, sum)
#define ROUGHLY(b)    block_sums(t, at, gn, b, ROUGHLY_SLOPED, c, sum)
    switch (kind) {
    case DEVIATION: FOR_BLOCK(t->b, DEVIATIONS); break;
    case GRADIENT: FOR_BLOCK(t->b, GRADIENTS); break;
    case SLOPED: FOR_BLOCK(t->b, SLOPES); break;
    case ROUGHLY_SLOPED: FOR_BLOCK(t->b, ROUGHLY); break;
    }
}

static void put_norm(const rt_view *y, const task *t, int64_t at, const channels *c)
{
#define PLAIN(b)     block_norm(y, t, at, b, IDENTITY, c)
#define ACTIVATED(b) block_norm(y, t, at, b, SILU, c)
#define ROUGH(b)     block_norm(y, t, at, b, ROUGH_SILU, c)
    t->rough ? FOR_BLOCK(t->b, ROUGH) : t->silu ? FOR_BLOCK(t->b, ACTIVATED) : FOR_BLOCK(t->b, PLAIN);
}

static void put_data(const rt_view *gx, const task *t, const real *gn, int64_t at, const channels *c)
{
#define ALONE(b) block_data(gx, t, gn, at, b, false, c)
#define ADDED(b) block_data(gx, t, gn, at, b, true, c)
    t->addend ? FOR_BLOCK(t->b, ADDED) : FOR_BLOCK(t->b, ALONE);
}

static void put_jvp(const rt_view *dy, const task *t, int64_t at, const channels *c)
{
#define MOVED(b)         block_jvp(dy, t, at, b, GRADIENT, c)
#define MOVED_SILU(b)    block_jvp(dy, t, at, b, SLOPED, c)
#define MOVED_ROUGHLY(b) block_jvp(dy, t, at, b, ROUGHLY_SLOPED, c)
    t->rough ? FOR_BLOCK(t->b, MOVED_ROUGHLY) : t->silu ? FOR_BLOCK(t->b, MOVED_SILU) : FOR_BLOCK(t->b, MOVED);
}

/* The groups of a span: mean and r; the means of gh and of gh d. */
typedef struct group {
    double n, mean, square, r, gh, moment;
} group;

/* The shifts of the channels from `at` on. */
static const real *shifts_of(const task *t, int64_t at, real *own)
{
    if (t->shift) return widened(t->shift, at, t->b, own);
    for (int64_t j = 0; j < t->b; j++) own[j] = 0;
    return own;
}

/* Of the block of channels `at` (counted through all samples), which is block k of its span. */
static void fill_channels(const task *t, int64_t at, int64_t k, const group *groups, channels *c)
{
    real own[BLOCK_MOST];
    const real *shift = shifts_of(t, at, own);
    for (int64_t j = 0; j < t->b; j++) {
        const group *g = &groups[(k + j) / t->cg];
        int64_t channel = (at + j) % t->c;
        c->mean[j] = (real)(g->mean - (double)shift[j]);
        c->scale[j] = (real)(t->w ? g->r * (double)t->w[channel] : g->r);
        c->bias[j] = t->bias ? t->bias[channel] : 0;
        c->offset[j] = (real)(-g->r * g->gh);
        c->slope[j] = (real)(g->r * g->r * g->r * g->moment);
    }
}

/* A number near the mean of each channel of a block: the mean of eight pixels spread over it. */
static void find_origins(const task *t, int64_t at, channels *c)
{
    enum { PIXELS = 8 };
    real own[BLOCK_MOST];
    for (int64_t j = 0; j < t->b; j++) c->mean[j] = 0;
    for (int64_t i = 0; i < PIXELS; i++) {
        const real *x = widened(t->x, (at * t->hw) + i * t->hw / PIXELS * t->b, t->b, own);
        for (int64_t j = 0; j < t->b; j++) c->mean[j] += x[j] / PIXELS;
    }
}

/* Mean and r in one pass: each channel's sums about its origin give its own mean and squares, which are added to those of its group (Chan, Golub,
 * LeVeque, 1983). With `means` (channels of the span): those of x. */
static void find_groups(const task *t, int64_t s, group *groups, double *means)
{
    for (int64_t g = 0; g < t->span / t->cg; g++) groups[g] = (group){0};
    for (int64_t k = 0; k < t->span; k += t->b) {
        int64_t at = s * t->span + k;
        channels c;
        sums sum;
        real own[BLOCK_MOST];
        const real *shift = shifts_of(t, at, own);
        find_origins(t, at, &c);
        sums_of(t, at * t->hw, NULL, DEVIATION, &c, &sum);
        for (int64_t j = 0; j < t->b; j++) {
            group *g = &groups[(k + j) / t->cg];
            double n = (double)t->hw, mean = sum.v[j] / n, apart = (double)c.mean[j] + mean + (double)shift[j] - g->mean;
            g->square += sum.vd[j] - n * mean * mean + apart * apart * n * g->n / (n + g->n);
            g->mean += apart * n / (n + g->n);
            g->n += n;
            if (means) means[k + j] = (double)c.mean[j] + mean;
        }
    }
    for (int64_t g = 0; g < t->span / t->cg; g++) groups[g].r = 1 / sqrt(fmax(groups[g].square, 0) / groups[g].n + t->eps);
}

/* What the derivatives need: the means of gh and of gh d; with SiLU, gn. With `out` (channels of the span, 3): the sums over the pixels of gn xhat,
 * gn and d. */
static void find_slopes(const task *t, int64_t s, group *groups, real *gn, const double *means, real *out)
{
    for (int64_t k = 0; k < t->span; k += t->b) {
        int64_t at = s * t->span + k;
        channels c;
        sums sum;
        fill_channels(t, at, k, groups, &c);
        sums_of(t, at * t->hw, gn ? gn + k * t->hw : NULL, t->rough ? ROUGHLY_SLOPED : t->silu ? SLOPED : GRADIENT, &c, &sum);
        for (int64_t j = 0; j < t->b; j++) {
            double w = t->w ? (double)t->w[(at + j) % t->c] : 1;
            group *g = &groups[(k + j) / t->cg];
            g->gh += w * sum.v[j] / g->n;
            g->moment += w * sum.vd[j] / g->n;
            if (!out) continue;
            out[3 * (k + j)] = (real)(g->r * sum.vd[j]);
            out[3 * (k + j) + 1] = (real)sum.v[j];
            out[3 * (k + j) + 2] = (real)((double)t->hw * (means[k + j] - (double)c.mean[j]));
        }
    }
}

/* The third sum, now of gx, from those of gn and of d. */
static void put_sums(const task *t, const channels *c, real *out)
{
    for (int64_t j = 0; j < t->b; j++, out += 3)
        out[2] = (real)((double)c->scale[j] * (double)out[1] + (double)c->offset[j] * (double)t->hw - (double)c->slope[j] * (double)out[2]);
}

static void group_norm_run(const rt_call *call)
{
    const task t = task_of(call);
#pragma omp parallel for schedule(static) if (call->out.count > 4096)
    for (int64_t s = 0; s < t.n * t.c / t.span; s++) {
        group groups[BLOCK_MOST];
        channels c;
        find_groups(&t, s, groups, NULL);
        for (int64_t k = 0; k < t.span; k += t.b) {
            int64_t at = s * t.span + k;
            fill_channels(&t, at, k, groups, &c);
            put_norm(&call->out, &t, at * t.hw, &c);
        }
    }
}

/* Of each thread, for a span: the means of the channels and, with SiLU, gn. */
static size_t slopes_room(const task *t)
{
    size_t bytes = (size_t)t->span * (sizeof(double) + (t->silu ? (size_t)t->hw * sizeof(real) : 0));
    return (bytes + 63) / 64 * 64;
}

static size_t slopes_scratch(const rt_call *call)
{
    const task t = task_of(call);
    return (size_t)omp_get_max_threads() * slopes_room(&t);
}

/* gx and the sums, each if it is wanted. */
static void differentiate(const rt_call *call, const rt_view *gx, const rt_view *sums_view)
{
    const task t = task_of(call);
#pragma omp parallel for schedule(static) if (call->in[0].count > 4096)
    for (int64_t s = 0; s < t.n * t.c / t.span; s++) {
        group groups[BLOCK_MOST];
        channels c;
        real *out = sums_view ? (real *)sums_view->data + s * t.span * 3 : NULL;
        double *means = (void *)((char *)call->scratch + (size_t)omp_get_thread_num() * slopes_room(&t));
        real *gn = t.silu ? (real *)(means + t.span) : NULL;
        find_groups(&t, s, groups, means);
        find_slopes(&t, s, groups, gn, means, out);
        for (int64_t k = 0; k < t.span; k += t.b) {
            int64_t at = s * t.span + k;
            fill_channels(&t, at, k, groups, &c);
            if (out) put_sums(&t, &c, out + 3 * k);
            if (gx) put_data(gx, &t, gn ? gn + k * t.hw : NULL, at * t.hw, &c);
        }
    }
}

static void group_norm_data_run(const rt_call *call) { differentiate(call, &call->out, call->side.data ? &call->side : NULL); }
static void group_norm_sums_run(const rt_call *call) { differentiate(call, NULL, &call->out); }

static void group_norm_jvp_run(const rt_call *call)
{
    const task t = task_of(call);
    task bare = t; /* the means are of dx itself */
    bare.w = NULL;
    bare.silu = bare.rough = false;
#pragma omp parallel for schedule(static) if (call->out.count > 4096)
    for (int64_t s = 0; s < t.n * t.c / t.span; s++) {
        group groups[BLOCK_MOST];
        channels c;
        find_groups(&t, s, groups, NULL);
        find_slopes(&bare, s, groups, NULL, NULL, NULL);
        for (int64_t k = 0; k < t.span; k += t.b) {
            int64_t at = s * t.span + k;
            fill_channels(&t, at, k, groups, &c);
            for (int64_t j = 0; j < t.b && t.w; j++) c.offset[j] *= t.w[(at + j) % t.c], c.slope[j] *= t.w[(at + j) % t.c];
            put_jvp(&call->out, &t, at * t.hw, &c);
        }
    }
}

/* group_norm_data of the same inputs leaves the sums. */
static bool sums_ride(const rt_node *y, const rt_node *host)
{
    const rt__group_attr *a = attr_of(y), *b = host->attr;
    bool same = host->op == rt__ops_f32[RT_OP_group_norm_data] && host->n_in - b->addend == y->n_in && a->groups == b->groups &&
                a->eps == b->eps && a->silu == b->silu;
    for (int i = 0; i < y->n_in && same; i++) same = y->in[i] == host->in[i];
    return same;
}

static double norm_flop(const rt_call *c) { return 8.0 * (double)c->in[0].count; }
static double data_flop(const rt_call *c) { return 14.0 * (double)c->in[0].count; }
static double sums_flop(const rt_call *c) { return 9.0 * (double)c->in[0].count; }

/* ---- samples */

static const struct form {
    int groups;
    bool affine, shift, silu, addend;
} forms[] = {{3, true, true, true, false},
             {1, true, false, false, true},
             {4, false, false, false, false},
             {2, true, false, true, true},
             {2, false, true, true, true}};

static rt_node *x_of(rt_graph *g, int k)
{
    switch (k) {
    case 0: return RT_SAMPLE_IN(g, "a", 2, 6, 5, 3);
    case 1: return RT_SAMPLE_IN(g, "a", RT_BATCH, 6, 4, 3);
    case 2: return RT_SAMPLE_IN(g, "a", 3, 4, 7); /* a sequence */
    case 3: return RT_SAMPLE_IN(g, "a", RT_BATCH, 6);
    default: return RT_SAMPLE_IN(g, "a", RT_BATCH, 6, 3, 2);
    }
}

static rt_node *sample_of(rt_graph *g, int k, rt__op_id op)
{
    if (k >= (int)RT_COUNT(forms)) return NULL;
    struct form f = forms[k < 0 ? 0 : k];
    rt_node *x = x_of(g, k < 0 ? 0 : k), *in[6] = {x};
    int n = 1;
    rt__group_attr at = {.groups = k < 0 && op == RT_OP_group_norm ? 4 : f.groups, .eps = 1e-3, .silu = f.silu};
    if (f.affine) in[n++] = RT_SAMPLE_IN(g, "w", x->shape[1]), in[n++] = RT_SAMPLE_IN(g, "c", x->shape[1]);
    if (f.shift) in[n++] = rt_input(g, "t", x->dtype, x->rank, (int64_t[RT_MAX_RANK]){x->shape[0], x->shape[1], 1, 1});
    if (op != RT_OP_group_norm) in[n++] = k < 0 ? RT_SAMPLE_IN(g, "b", 3, 4, 7) : rt_input(g, "b", x->dtype, x->rank, x->shape);
    if (op == RT_OP_group_norm_data && f.addend) in[n++] = rt_input(g, "d", x->dtype, x->rank, x->shape), at.addend = 1;
    return rt__emit(g, op, in, n, &at);
}

static rt_node *group_norm_sample(rt_graph *g, int k) { return sample_of(g, k, RT_OP_group_norm); }
static rt_node *group_norm_data_sample(rt_graph *g, int k) { return sample_of(g, k, RT_OP_group_norm_data); }
static rt_node *group_norm_sums_sample(rt_graph *g, int k) { return sample_of(g, k, RT_OP_group_norm_sums); }
static rt_node *group_norm_jvp_sample(rt_graph *g, int k) { return sample_of(g, k, RT_OP_group_norm_jvp); }

const rt_op RT_ROW(group_norm) = {
    .name = "group_norm",
    .formula = "act(z), z[n,c,i] = xhat[n,c,i] w[c] + b[c], xhat = (x + t - mean) r, r = 1/sqrt(variance + eps) over the channels and "
               "pixels of a group",
    .min_in = 1,
    .max_in = 4,
    .attr_size = sizeof(rt__group_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_MAPS,
    .blockable = norm_blockable,
    .batch = RT_MAPS,
    .flags = RT_ROW_INPLACE,
    .shape = group_norm_shape,
    .grad = group_norm_grad,
    .jvp = group_norm_forward,
    .expand = group_norm_expand,
    .run = group_norm_run,
    .flop = norm_flop,
    .sample = group_norm_sample,
};

const rt_op RT_ROW(group_norm_data) = {
    .name = "group_norm_data",
    .formula = "gx = r (gh - <gh> - xhat <gh xhat>) + a, gh = gn w, gn = gy act'(z), <.> the mean over a group",
    .min_in = 2,
    .max_in = 6,
    .attr_size = sizeof(rt__group_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_MAPS,
    .blockable = norm_blockable,
    .batch = RT_MAPS,
    .flags = RT_ROW_INPLACE,
    .shape = group_norm_shape,
    .expand = group_norm_data_expand,
    .run = group_norm_data_run,
    .scratch = slopes_scratch,
    .flop = data_flop,
    .sample = group_norm_data_sample,
};

const rt_op RT_ROW(group_norm_sums) = {
    .name = "group_norm_sums",
    .formula = "s[n,c] = (sum_i gn xhat, sum_i gn, sum_i gx - a): for the gradients of w, b and t",
    .min_in = 2,
    .max_in = 5,
    .attr_size = sizeof(rt__group_attr),
    .layout = RT_LAYOUT_READS,
    .type = RT_TYPE_READS,
    .blockable = norm_blockable,
    .batch = RT_MAPS,
    .shape = group_norm_sums_shape,
    .expand = group_norm_sums_expand,
    .run = group_norm_sums_run,
    .rides = sums_ride,
    .scratch = slopes_scratch,
    .flop = sums_flop,
    .sample = group_norm_sums_sample,
};

const rt_op RT_ROW(group_norm_jvp) = {
    .name = "group_norm_jvp",
    .formula = "dy = act'(z) w r (dx - <dx> - xhat <dx xhat>): of group_norm where x + t moves along dx, <.> the mean over a group",
    .min_in = 2,
    .max_in = 5,
    .attr_size = sizeof(rt__group_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_MAPS,
    .blockable = norm_blockable,
    .batch = RT_MAPS,
    .flags = RT_ROW_INPLACE,
    .shape = group_norm_shape,
    .expand = group_norm_jvp_expand,
    .run = group_norm_jvp_run,
    .flop = data_flop,
    .sample = group_norm_jvp_sample,
};
