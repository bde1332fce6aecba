/* score_objectives.c -- see score_objectives.h. */
#include "distill/score_objectives.h"

static const double least_normaliser = 1e-5;

rt_node *rt__denoising_score_matching(rt_node *w, rt_node *f_z, rt_node *x0) { return rt_mul(w, rt_norm2(rt_sub(f_z, rt_stop_grad(x0)))); }

rt_node *rt__score_difference(rt_node *f_z, rt_node *f_p) { return rt_stop_grad(rt_sub(f_z, f_p)); }

rt_node *rt__follow(rt_node *w, rt_node *difference, rt_node *x0) { return rt_mul(w, rt_dot(rt_stop_grad(difference), x0)); }

rt_node *rt__dmd_normaliser(rt_node *x0, rt_node *f_p)
{
    unsigned features = 0;
    for (int axis = 1; axis < rt_node_rank(x0); axis++) features |= rt_axis_bit(x0, axis);
    rt_node *n = rt_mean(rt_abs(rt_stop_grad(rt_sub(x0, f_p))), features, false);
    return rt_maximum(n, rt_scalar(rt_node_graph(x0), least_normaliser));
}

rt_node *rt__pull(rt_node *x0, rt_node *g) { return rt_scale(rt_norm2(rt_sub(x0, rt_stop_grad(rt_sub(x0, g)))), 0.5); }

rt_node *rt__score_identity(rt_node *w, double a, rt_node *f_p, rt_node *f_z, rt_node *x0)
{
    rt_node *apart = rt_sub(f_p, f_z);
    return rt_mul(w, rt_dot(apart, rt_sub(rt_sub(f_p, x0), rt_scale(apart, a))));
}

rt_node *rt__score_gap(rt_node *f_p, rt_node *f_z, rt_node *x0)
{
    return rt_div(rt_expect(rt_norm2(rt_sub(f_z, f_p))), rt_expect(rt_norm2(rt_sub(x0, f_p))));
}

rt_node *rt__fake_lag(rt_node *f_p, rt_node *f_z, rt_node *x0)
{
    rt_node *apart = rt_sub(f_p, f_z);
    return rt_div(rt_expect(rt_dot(apart, rt_sub(f_z, x0))), rt_expect(rt_norm2(apart)));
}
