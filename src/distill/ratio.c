/* ratio.c -- see ratio.h. */
#include "distill/ratio.h"

#include <math.h>
#include <stdlib.h>

static rt_node *column(rt_node *v) { return rt_reshape(v, 2, (int64_t[]){rt_dim(v, 0), 1}); }

rt_node *rt__clip_ratio(rt_node *log_u, double low, double high)
{
    rt_graph *g = rt_node_graph(log_u);
    if (high < INFINITY) log_u = rt_maximum(log_u, rt_scalar(g, -log(high)));
    if (low > 0) log_u = rt_minimum(log_u, rt_scalar(g, -log(low)));
    return log_u;
}

rt_node *rt__bins(rt_node *t, double low, double high, int n)
{
    rt_graph *g = rt_node_graph(t);
    double *edge = malloc((size_t)(n + 1) * sizeof *edge);
    if (!edge) return rt_fail(g, "out of memory for %d bins", n);
    for (int k = 1; k < n; k++) edge[k] = low + (high - low) * k / n;
    edge[0] = -INFINITY, edge[n] = INFINITY;
    const int64_t row[] = {1, n};
    rt_node *from = rt_less(column(t), rt_reals(g, 2, row, edge)), *to = rt_less(column(t), rt_reals(g, 2, row, edge + 1));
    free(edge);
    return rt_sub(rt_cast(to, rt_graph_real(g)), rt_cast(from, rt_graph_real(g)));
}

rt_node *rt__mean_in_bin(rt_phase *p, rt_node *v, rt_node *bins)
{
    if (!bins) return rt_add(rt_zeros_like(v), rt__known_to_all(p, rt_expect(v)));
    int64_t n = rt_dim(bins, 1);
    rt_node *sum = rt_sum(rt_mul(bins, column(v)), 1u, false), *count = rt_sum(bins, 1u, false); /* (n) each */
    rt_node *mean =
        rt__known_to_all(p, rt_div(sum, rt_maximum(count, rt_scalar(rt_node_graph(v), 1)))); /* a bin without samples is asked by none */
    return rt_sum(rt_mul(bins, rt_reshape(mean, 2, (int64_t[]){1, n})), 1u << 1, false);
}

rt_node *rt__f_weight(rt_phase *p, const rt_divergence *d, rt_node *log_u, rt_node *bins)
{
    log_u = rt_stop_grad(log_u);
    if (bins) log_u = rt_add(log_u, rt_log(rt__mean_in_bin(p, rt_exp(rt_neg(log_u)), bins)));
    rt_node *h = rt_divergence_weight_of(d, log_u);
    return rt_stop_grad(rt_div(h, rt__mean_in_bin(p, h, NULL)));
}

rt_node *rt__renyi_weight(rt_phase *p, double alpha, rt_node *log_u, rt_node *bins)
{
    rt_node *power = rt_exp(rt_scale(rt_stop_grad(log_u), alpha - 1));
    return rt_stop_grad(rt_scale(rt_div(power, rt__mean_in_bin(p, power, bins)), alpha));
}

rt_node *rt__effective_share(rt_node *w) { return rt_div(rt_square(rt_expect(w)), rt_expect(rt_square(w))); }
