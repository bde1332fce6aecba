/* render.c -- emission and absorption along rays through grids, as fused rows: formulas in retort/scene.h, simple rows in march.c.
 *
 *     render(grid, rays[, particle])           (B,5,N): sum_k w_k c_k (3), alpha, sum_k w_k t_k
 *     render_grad(grid, rays, gy[, particle])  that of the grid, (P,D,H,W,4)
 *
 * With tau_k = sigma_k delta, T_k = exp(-sum_{j<k} tau_j), w_k = T_k - T_{k+1} and q_k = sum_c gy_c c_k + gy_depth t_k, a ray's gradient is
 *
 *     d/dtau_k = T_{k+1} q_k - sum_{j>k} w_j q_j + T_S gy_alpha        d/dc_k = w_k gy_c
 *
 * through softplus and sigmoid to the raw values, then to the eight nodes around. The samples of a ray lie in the first cache, each array by itself, so that
 * activations are vectors over the samples; a node's four numbers lie side by side, so that two neighbours along x are one load. Nothing is kept from the
 * first row for the second, which takes less time than memory would. */
#include "graph/march.h"
#include "graph/ops/trilinear.h"

enum { PAIR = 2 * CHANNELS };
enum { ROOM = RT_MOST_SAMPLES + 80 }; /* arrays of a power of two would share the cache's sets */

static const rt__render_attr *attr_of(const rt_node *y) { return y->attr; }

/* ---- shapes and rules */

static bool volume_fits(rt_node *y)
{
    const rt_node *grid = y->in[0], *rays = y->in[1];
    const rt__render_attr *a = attr_of(y);
    if (!rt__is_real(grid) || grid->rank != 5 || grid->shape[4] != CHANNELS) return rt__bad(y, "a grid must be real, (P,D,H,W,4)");
    if (grid->shape[0] < 1 || grid->shape[0] > RT_MOST_PARTICLES)
        return rt__bad(y, "%lld grids; must be 1 to %d", (long long)grid->shape[0], RT_MOST_PARTICLES);
    for (int i = 1; i < 4; i++)
        if (grid->shape[i] < 2 || grid->shape[i] > 512) return rt__bad(y, "%lld nodes a side; must be 2 to 512", (long long)grid->shape[i]);
    if (rays->dtype != grid->dtype || rays->rank != 3 || rays->shape[2] != RAY)
        return rt__bad(y, "rays must be (B,N,9), of the grid's type");
    if (a->samples < 1 || a->samples > RT_MOST_SAMPLES)
        return rt__bad(y, "%lld samples of a ray; must be 1 to %d", (long long)a->samples, RT_MOST_SAMPLES);
    return fabs(a->density_bias) < INFINITY || rt__bad(y, "the density's bias is %g; must be finite", a->density_bias);
}

static bool particle_fits(rt_node *y, int index)
{
    if (index >= y->n_in) return true;
    const rt_node *p = y->in[index];
    return (p->dtype == RT_I64 && p->rank == 1 && p->shape[0] == y->in[1]->shape[0]) || rt__bad(y, "particles must be (B) I64");
}

static bool render_shape(rt_node *y)
{
    if (!volume_fits(y) || !particle_fits(y, 2)) return false;
    y->dtype = y->in[0]->dtype;
    y->rank = 3;
    y->shape[0] = y->in[1]->shape[0], y->shape[1] = PARTS, y->shape[2] = y->in[1]->shape[1];
    return true;
}

static bool render_grad_shape(rt_node *y)
{
    if (!volume_fits(y) || !particle_fits(y, 3)) return false;
    const rt_node *grid = y->in[0], *rays = y->in[1], *gy = y->in[2];
    if (gy->dtype != grid->dtype || gy->rank != 3 || gy->shape[0] != rays->shape[0] || gy->shape[1] != PARTS ||
        gy->shape[2] != rays->shape[1])
        return rt__bad(y, "the gradient must be that of the result, (B,5,N)");
    y->dtype = grid->dtype;
    y->rank = 5;
    memcpy(y->shape, grid->shape, 5 * sizeof *y->shape);
    return true;
}

static rt_node *particle_of(const rt_node *y, int index) { return y->n_in > index ? y->in[index] : NULL; }

static void render_derive(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt_node *in[] = {y->in[0], y->in[1], gy, particle_of(y, 2)};
    gx[0] = rt__emit(y->graph, RT_OP_render_grad, in, y->n_in + 1, y->attr);
}

static rt_node *render_expand(rt_node *y) { return rt__render_composed(y->in[0], y->in[1], particle_of(y, 2), attr_of(y)); }

static rt_node *render_grad_expand(rt_node *y)
{
    rt_node *value = rt__render_composed(y->in[0], y->in[1], particle_of(y, 3), attr_of(y)), *gx;
    rt_grad(rt_sum(rt_mul(value, y->in[2]), RT_ALL_AXES, false), y->in, 1, &gx);
    return gx;
}

/* ---- kernels */

typedef struct volume {
    const real *grid;      /* of all particles */
    const int64_t *nodes;  /* D, H, W */
    int64_t size;          /* numbers of one particle's grid */
    int64_t samples, rays; /* of a ray; of a sample of the batch */
    real bias, per_length; /* 1/cell */
    const int64_t *particle;
} volume;

/* What is known of a ray's samples. */
typedef struct along {
    int32_t node[ROOM];             /* the cell's first */
    real x[ROOM], y[ROOM], z[ROOM]; /* how far behind it */
    real value[CHANNELS][ROOM];     /* raw density, colour */
    real t[ROOM], left[ROOM];       /* T_k */
    real own[ROOM];                 /* tau_k, then what a row makes of it */
    real per_sample;                /* d tau/d softplus */
} along;

static volume volume_of(const rt_call *c, int particle)
{
    const int64_t *dim = c->in[0].dim;
    volume v = {.grid = c->in[0].data, .nodes = dim + 1, .size = dim[1] * dim[2] * dim[3] * CHANNELS, .samples = attr_of(c->node)->samples};
    int64_t most = 0;
    for (int i = 1; i < 4; i++) most = dim[i] > most ? dim[i] : most;
    v.rays = c->in[1].dim[1];
    v.bias = (real)attr_of(c->node)->density_bias;
    v.per_length = (real)(most - 1) / 2;
    v.particle = c->n_in > particle ? c->in[particle].data : NULL;
    return v;
}

/* Where the grid of a ray's particle begins; beyond the last particle: the last one's. */
static int64_t grid_at(const volume *v, const rt_call *c, int64_t ray)
{
    int64_t p = v->particle ? v->particle[ray / v->rays] : 0, last = c->in[0].dim[0] - 1;
    return (p < 0 ? 0 : p > last ? last : p) * v->size;
}

static void interpolate(along *s, const volume *v, const real *grid)
{
    for (int64_t k = 0; k < v->samples; k++) {
        corner corners[4];
        corners_of(corners, s->node[k], v->nodes[1], v->nodes[2], s->z[k], s->y[k]);
        real sum[PAIR] = {0}, x = s->x[k];
        for (int j = 0; j < 4; j++) {
            const real *restrict from = grid + corners[j].at * CHANNELS;
#pragma omp simd
            for (int i = 0; i < PAIR; i++) sum[i] += corners[j].weight * from[i];
        }
        for (int i = 0; i < CHANNELS; i++) s->value[i][k] = (1 - x) * sum[i] + x * sum[CHANNELS + i];
    }
}

static void scatter(const along *s, const volume *v, real *grid, real (*gradient)[ROOM])
{
    for (int64_t k = 0; k < v->samples; k++) {
        corner corners[4];
        corners_of(corners, s->node[k], v->nodes[1], v->nodes[2], s->z[k], s->y[k]);
        real pair[PAIR], x = s->x[k];
        for (int i = 0; i < CHANNELS; i++) pair[i] = (1 - x) * gradient[i][k], pair[CHANNELS + i] = x * gradient[i][k];
        for (int j = 0; j < 4; j++) {
            real *restrict to = grid + corners[j].at * CHANNELS;
#pragma omp simd
            for (int i = 0; i < PAIR; i++) to[i] += corners[j].weight * pair[i];
        }
    }
}

/* Follows a ray; false: it misses the box. */
static bool trace(along *s, const volume *v, const real *ray, const real *grid)
{
    int64_t S = v->samples, D = v->nodes[0], H = v->nodes[1], W = v->nodes[2];
    real delta = (ray[7] - ray[6]) / (real)S, bias = v->bias, sum = 0;
    if (!(delta > 0)) return false;
    real per_sample = s->per_sample = v->per_length * delta;
#pragma omp simd
    for (int64_t k = 0; k < S; k++) {
        real t = t_of(ray, delta, (int32_t)k);
        int32_t i = cell_of(ray[0] + t * ray[3], W, &s->x[k]), j = cell_of(ray[1] + t * ray[4], H, &s->y[k]);
        int32_t l = cell_of(ray[2] + t * ray[5], D, &s->z[k]);
        s->t[k] = t;
        s->node[k] = (l * (int32_t)H + j) * (int32_t)W + i;
    }
    interpolate(s, v, grid);
#pragma omp simd
    for (int64_t k = 0; k < S; k++) s->own[k] = fast_softplus(s->value[0][k] + bias) * per_sample;
    for (int64_t k = 0; k < S; k++) s->own[k] = sum += s->own[k];
    s->left[0] = 1;
#pragma omp simd
    for (int64_t k = 0; k < S; k++) s->left[k + 1] = fast_exp(-s->own[k]);
    for (int i = 1; i < CHANNELS; i++) {
#pragma omp simd
        for (int64_t k = 0; k < S; k++) s->value[i][k] = sigmoid_of(s->value[i][k]);
    }
    return true;
}

static void render_run(const rt_call *c)
{
    volume v = volume_of(c, 2);
    int64_t count = c->in[1].count / RAY;
    const real *rays = c->in[1].data;
#pragma omp parallel for schedule(dynamic, 64)
    for (int64_t n = 0; n < count; n++) {
        along s;
        real part[PARTS] = {0}, *out = (real *)c->out.data + n / v.rays * PARTS * v.rays + n % v.rays;
        if (trace(&s, &v, rays + n * RAY, v.grid + grid_at(&v, c, n))) {
            real r = 0, g = 0, b = 0, depth = 0;
#pragma omp simd reduction(+ : r, g, b, depth)
            for (int64_t k = 0; k < v.samples; k++) {
                real w = s.left[k] - s.left[k + 1];
                r += w * s.value[1][k], g += w * s.value[2][k], b += w * s.value[3][k], depth += w * s.t[k];
            }
            part[0] = r, part[1] = g, part[2] = b, part[3] = 1 - s.left[v.samples], part[4] = depth;
        }
        for (int i = 0; i < PARTS; i++) out[i * v.rays] = part[i];
    }
}

/* From gy of a ray to its samples' gradients of raw values. */
static void derive(const along *s, const volume *v, const real gy[PARTS], real (*gradient)[ROOM])
{
    int64_t S = v->samples;
    real *q = gradient[0], behind = 0, all = s->left[S] * gy[3];
#pragma omp simd
    for (int64_t k = 0; k < S; k++) {
        real w = s->left[k] - s->left[k + 1];
        q[k] = worth_of(gy, s->value[1][k], s->value[2][k], s->value[3][k], s->t[k]);
        for (int i = 1; i < CHANNELS; i++) gradient[i][k] = colour_slope(w, gy[i - 1], s->value[i][k]);
    }
    for (int64_t k = S - 1; k >= 0; k--) {
        real own = tau_slope(s->left[k + 1], q[k], behind, all);
        behind += (s->left[k] - s->left[k + 1]) * q[k];
        q[k] = own;
    }
#pragma omp simd
    for (int64_t k = 0; k < S; k++) q[k] *= s->per_sample * sigmoid_of(s->value[0][k] + v->bias);
}

static size_t render_grad_scratch(const rt_call *c) { return (size_t)c->out.count * SHARES * sizeof(real); }

static void render_grad_run(const rt_call *c)
{
    volume v = volume_of(c, 3);
    int64_t count = c->in[1].count / RAY, size = c->out.count;
    const real *rays = c->in[1].data, *gy = c->in[2].data;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t share = 0; share < SHARES; share++) {
        real *to = (real *)c->scratch + share * size, part[PARTS], gradient[CHANNELS][ROOM];
        along s;
        memset(to, 0, (size_t)size * sizeof *to);
        for (int64_t n = count * share / SHARES; n < count * (share + 1) / SHARES; n++) {
            int64_t at = grid_at(&v, c, n);
            if (!trace(&s, &v, rays + n * RAY, v.grid + at)) continue;
            for (int i = 0; i < PARTS; i++) part[i] = gy[(n / v.rays * PARTS + i) * v.rays + n % v.rays];
            derive(&s, &v, part, gradient);
            scatter(&s, &v, to + at, gradient);
        }
    }
    sum_shares(c->out.data, c->scratch, size);
}

/* Interpolation and activations of a sample, with their gradients about three times as much. */
static double render_flop(const rt_call *c) { return (double)(c->in[1].count / RAY) * (double)attr_of(c->node)->samples * 150; }
static double render_grad_flop(const rt_call *c) { return 3 * render_flop(c); }

/* ---- samples. Rays are made of draws that are no inputs: the walk would move them. Some miss, some end beyond the box. */

static rt_node *rays_of(rt_graph *g, int64_t batch, int64_t n)
{
    rt_node *from = rt_scale(rt_offset(rt_rand(g, "from", 3, (int64_t[]){batch, n, 3}), -0.5), 0.8);
    rt_node *along_ray = rt_scale(rt_randn(g, "to", 3, (int64_t[]){batch, n, 3}), 0.2);
    rt_node *near = rt_rand(g, "near", 3, (int64_t[]){batch, n, 1});
    rt_node *length = rt_offset(rt_scale(rt_rand(g, "length", 3, (int64_t[]){batch, n, 1}), 2), -0.25);
    rt_node *xi = rt_rand(g, "xi", 3, (int64_t[]){batch, n, 1});
    return rt_concat((rt_node *[]){from, along_ray, near, rt_add(near, length), xi}, 5, 2);
}

static rt_node *particles_of(rt_graph *g, int64_t below) { return rt_randint(g, "particle", 1, (int64_t[]){RT_BATCH}, below); }

static rt_node *render_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_render(RT_SAMPLE_IN(g, "a", 1, 3, 3, 3, 5), RT_SAMPLE_IN(g, "b", 2, 5, 9), NULL, 4, 0);
    case 0: return rt_render(RT_SAMPLE_IN(g, "a", 1, 5, 4, 3, 4), rays_of(g, RT_BATCH, 7), NULL, 5, -1);
    case 1: return rt_render(RT_SAMPLE_IN(g, "a", 3, 3, 2, 4, 4), rays_of(g, RT_BATCH, 6), particles_of(g, 3), 17, 0.5);
    case 2: return rt_render(RT_SAMPLE_IN(g, "a", 1, 2, 2, 2, 4), rays_of(g, 2, 40), NULL, 1, 0);
    default: return NULL;
    }
}

static rt_node *render_grad_sample(rt_graph *g, int k)
{
    const rt__render_attr a = {5, -1};
    rt_node *grid = RT_SAMPLE_IN(g, "a", 2, 3, 4, 5, 4);
    switch (k) {
    case -1:
        return rt__emit(g, RT_OP_render_grad, (rt_node *[]){grid, RT_SAMPLE_IN(g, "b", 2, 5, 9), RT_SAMPLE_IN(g, "c", 2, 4, 5)}, 3, &a);
    case 0:
        return rt__emit(g, RT_OP_render_grad,
                        (rt_node *[]){grid, rays_of(g, RT_BATCH, 6), RT_SAMPLE_IN(g, "c", RT_BATCH, 5, 6), particles_of(g, 2)}, 4, &a);
    case 1: return rt__emit(g, RT_OP_render_grad, (rt_node *[]){grid, rays_of(g, 2, 9), RT_SAMPLE_IN(g, "c", 2, 5, 9)}, 3, &a);
    default: return NULL;
    }
}

const rt_op RT_ROW(render) = {
    .name = "render",
    .formula = "sum_k w_k c_k, alpha, sum_k w_k t_k along rays; w_k = T_k - T_{k+1}, T_k = exp(-sum_{j<k} softplus(raw + bias) delta/cell)",
    .min_in = 2,
    .max_in = 3,
    .attr_size = sizeof(rt__render_attr),
    .shape = render_shape,
    .grad = render_derive,
    .expand = render_expand,
    .run = render_run,
    .flop = render_flop,
    .sample = render_sample};
const rt_op RT_ROW(render_grad) = {
    .name = "render_grad",
    .formula = "gradient of render in the grid: d/dtau_k = T_{k+1} q_k - sum_{j>k} w_j q_j + T_S gy_alpha, q_k = gy_c c_k + gy_depth t_k",
    .min_in = 3,
    .max_in = 4,
    .attr_size = sizeof(rt__render_attr),
    .batch = RT_SUMS,
    .shape = render_grad_shape,
    .expand = render_grad_expand,
    .run = render_grad_run,
    .scratch = render_grad_scratch,
    .flop = render_grad_flop,
    .sample = render_grad_sample};
