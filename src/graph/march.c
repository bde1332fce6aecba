/* march.c -- emission and absorption along rays, composed of simple rows: what the row `render` fuses. Formulas stand in retort/scene.h. */
#include "graph/march.h"

#include <string.h>

/* Columns first..first + n - 1 of the last axis of x (B,N,..), as (B,N,n). */
static rt_node *columns(rt_node *x, int64_t first, int64_t n) { return rt_slice(x, -1, first, first + n, 1); }

/* (B,N) or (B,N,1) as (B,N,S) or what broadcasts to it */
static rt_node *ray_shaped(rt_node *x, const rt_node *rays)
{
    return rt_reshape(x, 3, (int64_t[]){rays->shape[0], rays->shape[1], RT_INFER});
}

/* Raw values (B,N S,4) at points (B,N S,3): of the one grid, or of the particle that each sample of the batch names, as a product with its row of the
 * identity. */
static rt_node *raw_at(rt_node *grid, rt_node *points, rt_node *particle)
{
    const int64_t *n = grid->shape, P = n[0];
    rt_node *sum = NULL, *chosen = NULL;
    if (particle && P > 1) {
        double one[RT_MOST_PARTICLES * RT_MOST_PARTICLES] = {0};
        for (int64_t p = 0; p < P; p++) one[p * P + p] = 1;
        chosen = rt_embedding(rt_reals(grid->graph, 2, (int64_t[]){P, P}, one), particle);
    }
    for (int64_t p = 0; p < (chosen ? P : 1); p++) {
        rt_node *own = rt_trilinear(rt_reshape(rt_slice(grid, 0, p, p + 1, 1), 4, (int64_t[]){n[1], n[2], n[3], n[4]}), points);
        if (chosen) own = rt_mul(own, rt_reshape(columns(chosen, p, 1), 3, (int64_t[]){chosen->shape[0], 1, 1}));
        sum = sum ? rt_add(sum, own) : own;
    }
    return sum;
}

rt__marched rt__march(rt_node *grid, rt_node *rays, rt_node *particle, const rt__render_attr *a)
{
    rt_graph *g = grid->graph;
    int64_t S = a->samples, B = rays->shape[0], N = rays->shape[1], most = 0;
    for (int i = 1; i < 4; i++) most = grid->shape[i] > most ? grid->shape[i] : most;
    double steps[RT_MOST_SAMPLES];
    for (int64_t k = 0; k < S; k++) steps[k] = (double)k / (double)S;
    rt_node *near = columns(rays, 6, 1), *length = rt_maximum(rt_sub(columns(rays, 7, 1), near), rt_scalar(g, 0));
    rt_node *within = rt_scale(columns(rays, 8, 1), 1 / (double)S);
    rt__marched m = {.t = rt_add(near, rt_mul(length, rt_add(rt_reals(g, 3, (int64_t[]){1, 1, S}, steps), within)))};
    rt_node *points[3];
    for (int i = 0; i < 3; i++) points[i] = rt_add(columns(rays, i, 1), rt_mul(m.t, columns(rays, 3 + i, 1)));
    for (int i = 0; i < 3; i++) points[i] = rt_reshape(points[i], 3, (int64_t[]){B, N * S, 1});
    rt_node *raw = raw_at(grid, rt_concat(points, 3, 2), particle);
    rt_node *depths = rt_mul(rt_softplus(rt_offset(ray_shaped(columns(raw, 0, 1), rays), a->density_bias)),
                             rt_scale(length, (double)(most - 1) / 2 / (double)S)); /* sigma delta */
    rt_node *sum = rt_cumsum(depths, -1);
    m.weights = rt_sub(rt_exp(rt_sub(depths, sum)), rt_exp(rt_neg(sum)));
    m.alpha = rt_offset(rt_neg(rt_exp(rt_neg(columns(sum, S - 1, 1)))), 1);
    for (int i = 0; i < 3; i++) m.colour[i] = rt_sigmoid(ray_shaped(columns(raw, 1 + i, 1), rays));
    return m;
}

rt_node *rt_render_weights(rt_node *grid, rt_node *rays, rt_node *particle, int samples, double density_bias)
{
    rt_node *checked = rt_render(grid, rays, particle, samples, density_bias);
    if (rt__failed(checked)) return checked;
    return rt__march(grid, rays, particle, &(rt__render_attr){samples, density_bias}).weights;
}

rt_node *rt__render_composed(rt_node *grid, rt_node *rays, rt_node *particle, const rt__render_attr *a)
{
    rt__marched m = rt__march(grid, rays, particle, a);
    rt_node *parts[5], *of[] = {m.colour[0], m.colour[1], m.colour[2], NULL, m.t};
    for (int i = 0; i < 5; i++)
        parts[i] = rt_reshape(i == 3 ? m.alpha : rt_sum(rt_mul(m.weights, of[i]), 1u << 2, false), 3,
                              (int64_t[]){rays->shape[0], 1, rays->shape[1]});
    return rt_concat(parts, 5, 1);
}
