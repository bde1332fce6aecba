/* consistency.c -- see consistency.h. */
#include "distill/consistency.h"

#include "base/internal.h"

rt_node *rt__consistency_target(rt_node *f, rt_node *x, rt_node *data)
{
    rt_graph *g = rt_node_graph(x);
    return rt_stop_grad(rt_where(rt_less(rt_scalar(g, 0.5), rt_per_sample(data, x)), x, f));
}

rt_node *rt__huber_elements(rt_node *a, rt_node *b, double c)
{
    rt_node *apart = rt_offset(rt_sqrt(rt_offset(rt_square(rt_sub(a, b)), c * c)), -c);
    return rt_dot(apart, rt_offset(rt_zeros_like(apart), 1));
}

rt_node *rt__huber_sample(rt_node *a, rt_node *b, double c) { return rt_offset(rt_sqrt(rt_offset(rt_norm2(rt_sub(a, b)), c * c)), -c); }

rt_status rt__consistency_plan_steps(rt_plan *plan, const char *key, int points, int steps, rt_error *err)
{
    if (points % steps) RT_RAISE(RT_E_USAGE, "%s: %d does not divide %d, the points of the grid; give a divisor", key, steps, points);
    plan->n_rounds = 1;
    plan->rounds[0].teacher_steps = plan->step_counts[0] = points;
    plan->rounds[0].steps = plan->step_counts[1] = steps;
    plan->n_step_counts = steps < points ? 2 : 1;
    return RT_OK;
}
