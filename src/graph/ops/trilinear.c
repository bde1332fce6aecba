/* trilinear.c -- values of a grid (D,H,W,C) at points (B,N,3) of x, y, z, interpolated between the eight nodes around; nodes lie at -1 + 2 i/(n-1) of each
 * axis. Linear in the grid:
 *
 *     trilinear(grid, points)           y[b,n,:] = sum_8 weight grid[z,y,x,:]
 *     trilinear_data(gy, points)        adjoint: gy is added to the eight nodes
 *
 * each the other's gradient. Points have none, and do not move in forward mode. */
#include "graph/ops/trilinear.h"

typedef struct trilinear_attr {
    int64_t nodes[3]; /* D, H, W of the grid, for the adjoint */
} trilinear_attr;

static bool points_fit(rt_node *y)
{
    const rt_node *p = y->in[1];
    return (rt__is_real(p) && p->rank == 3 && p->shape[2] == 3 && p->dtype == y->in[0]->dtype) ||
           rt__bad(y, "points must be (B,N,3), of the type of the other input");
}

static bool nodes_fit(rt_node *y, const int64_t *nodes)
{
    for (int i = 0; i < 3; i++)
        if (nodes[i] < 2 || nodes[i] > 1 << 16)
            return rt__bad(y, "a grid of (%lld,%lld,%lld) nodes; must have 2 to %d a side", (long long)nodes[0], (long long)nodes[1],
                           (long long)nodes[2], 1 << 16);
    return true;
}

static bool trilinear_shape(rt_node *y)
{
    const rt_node *grid = y->in[0], *points = y->in[1];
    if (!rt__is_real(grid) || grid->rank != 4) return rt__bad(y, "a grid must be real, (D,H,W,C)");
    if (!points_fit(y) || !nodes_fit(y, grid->shape)) return false;
    y->dtype = grid->dtype;
    y->rank = 3;
    y->shape[0] = points->shape[0], y->shape[1] = points->shape[1], y->shape[2] = grid->shape[3];
    return true;
}

static bool trilinear_data_shape(rt_node *y)
{
    const rt_node *gy = y->in[0], *points = y->in[1];
    const int64_t *nodes = ((const trilinear_attr *)y->attr)->nodes;
    if (!rt__is_real(gy) || gy->rank != 3) return rt__bad(y, "the gradient must be real, (B,N,C)");
    if (!points_fit(y) || !nodes_fit(y, nodes)) return false;
    if (gy->shape[0] != points->shape[0] || gy->shape[1] != points->shape[1]) return rt__bad(y, "one gradient for each point");
    y->dtype = gy->dtype;
    y->rank = 4;
    for (int i = 0; i < 3; i++) y->shape[i] = nodes[i];
    y->shape[3] = gy->shape[2];
    return true;
}

static void trilinear_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    trilinear_attr a = {0};
    memcpy(a.nodes, y->in[0]->shape, sizeof a.nodes);
    gx[0] = rt__emit2(RT_OP_trilinear_data, gy, y->in[1], &a);
}

static void trilinear_data_grad(rt_node *y, rt_node *g, rt_node **gx) { gx[0] = rt__emit2(RT_OP_trilinear, g, y->in[1], NULL); }

static rt_node *linear_jvp(rt_node *y, rt_node *const *dx)
{
    if (dx[1]) return rt_fail(y->graph, "%s: has no derivative in its points", y->op->name);
    return rt__jvp_linear(y, dx);
}

/* The corners of one point and how far it lies behind their first node. */
RT_INLINE real corners_at(corner corners[4], const real *point, const int64_t *nodes)
{
    real x, y, z;
    int64_t i = cell_of(point[0], nodes[2], &x), j = cell_of(point[1], nodes[1], &y), k = cell_of(point[2], nodes[0], &z);
    corners_of(corners, (k * nodes[1] + j) * nodes[2] + i, nodes[1], nodes[2], z, y);
    return x;
}

static void trilinear_run(const rt_call *c)
{
    const int64_t *nodes = c->in[0].dim, C = nodes[3], count = c->in[1].count / 3;
    const real *grid = c->in[0].data, *points = c->in[1].data;
#pragma omp parallel for schedule(static) if (count > STRIP)
    for (int64_t n = 0; n < count; n++) {
        corner corners[4];
        real x = corners_at(corners, points + 3 * n, nodes), *restrict y = (real *)c->out.data + n * C;
        for (int64_t i = 0; i < C; i++) y[i] = 0;
        for (int k = 0; k < 4; k++) {
            const real *restrict g = grid + corners[k].at * C;
            real near = corners[k].weight * (1 - x), far = corners[k].weight * x;
            for (int64_t i = 0; i < C; i++) y[i] += near * g[i] + far * g[C + i];
        }
    }
}

static size_t trilinear_data_scratch(const rt_call *c) { return (size_t)c->out.count * SHARES * sizeof(real); }

static void trilinear_data_run(const rt_call *c)
{
    const int64_t *nodes = c->out.dim, C = nodes[3], count = c->in[1].count / 3, size = c->out.count;
    const real *gy = c->in[0].data, *points = c->in[1].data;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t s = 0; s < SHARES; s++) {
        real *share = (real *)c->scratch + s * size;
        memset(share, 0, (size_t)size * sizeof *share);
        for (int64_t n = count * s / SHARES; n < count * (s + 1) / SHARES; n++) {
            corner corners[4];
            real x = corners_at(corners, points + 3 * n, nodes);
            const real *restrict g = gy + n * C;
            for (int k = 0; k < 4; k++) {
                real *restrict to = share + corners[k].at * C;
                real near = corners[k].weight * (1 - x), far = corners[k].weight * x;
                for (int64_t i = 0; i < C; i++) to[i] += near * g[i], to[C + i] += far * g[i];
            }
        }
    }
    sum_shares(c->out.data, c->scratch, size);
}

static double trilinear_flop(const rt_call *c)
{
    return (double)(c->in[1].count / 3) * (8 * 2 * (double)c->node->in[0]->shape[c->node->in[0]->rank - 1] + 20);
}

/* Points are not inputs of the samples: the walk would move them. Some lie beyond the box. */
static rt_node *points_of(rt_graph *g, int64_t batch, int64_t n)
{
    return rt_scale(rt_randn(g, "points", 3, (int64_t[]){batch, n, 3}), 0.8);
}

static rt_node *trilinear_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_trilinear(RT_SAMPLE_IN(g, "a", 1, 3, 4, 2), RT_SAMPLE_IN(g, "b", 2, 5, 3));
    case 0: return rt_trilinear(RT_SAMPLE_IN(g, "a", 3, 4, 5, 2), points_of(g, RT_BATCH, 19));
    case 1: return rt_trilinear(RT_SAMPLE_IN(g, "a", 2, 2, 2, 4), points_of(g, 2, 9));
    case 2: return rt_trilinear(RT_SAMPLE_IN(g, "a", 4, 3, 2, 1), points_of(g, RT_BATCH, 700));
    default: return NULL;
    }
}

static rt_node *trilinear_data_sample(rt_graph *g, int k)
{
    const trilinear_attr a = {{3, 4, 5}};
    switch (k) {
    case -1: return rt__emit2(RT_OP_trilinear_data, RT_SAMPLE_IN(g, "a", 2, 4, 2), RT_SAMPLE_IN(g, "b", 2, 5, 3), &a);
    case 0: return rt__emit2(RT_OP_trilinear_data, RT_SAMPLE_IN(g, "a", RT_BATCH, 19, 2), points_of(g, RT_BATCH, 19), &a);
    case 1: return rt__emit2(RT_OP_trilinear_data, RT_SAMPLE_IN(g, "a", 2, 9, 4), points_of(g, 2, 9), &a);
    default: return NULL;
    }
}

const rt_op RT_ROW(trilinear) = {.name = "trilinear",
                                 .formula = "y[b,n,:] = sum over 8 nodes of weight g[z,y,x,:] at p[b,n] in [-1,1]^3",
                                 .min_in = 2,
                                 .max_in = 2,
                                 .shape = trilinear_shape,
                                 .grad = trilinear_grad,
                                 .jvp = linear_jvp,
                                 .run = trilinear_run,
                                 .flop = trilinear_flop,
                                 .sample = trilinear_sample};
const rt_op RT_ROW(trilinear_data) = {.name = "trilinear_data",
                                      .formula = "adjoint of trilinear: gy[b,n,:] added to the 8 nodes around p[b,n]",
                                      .min_in = 2,
                                      .max_in = 2,
                                      .attr_size = sizeof(trilinear_attr),
                                      .batch = RT_SUMS,
                                      .shape = trilinear_data_shape,
                                      .grad = trilinear_data_grad,
                                      .jvp = linear_jvp,
                                      .run = trilinear_data_run,
                                      .scratch = trilinear_data_scratch,
                                      .flop = trilinear_flop,
                                      .sample = trilinear_data_sample};
