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

int rt__bin_of(double t, double low, double high, int n)
{
    double at = floor((t - low) / (high - low) * n);
    return at < 0 ? 0 : at > n - 1 ? n - 1 : (int)at;
}

rt_node *rt__bins(rt_node *bin, int n)
{
    rt_graph *g = rt_node_graph(bin);
    double *number = malloc((size_t)n * sizeof *number);
    if (!number) return rt_fail(g, "out of memory for %d bins", n);
    for (int k = 0; k < n; k++) number[k] = k;
    rt_node *members = rt_cast(rt_equal(column(bin), rt_reals(g, 2, (int64_t[]){1, n}, number)), rt_graph_real(g));
    free(number);
    return members;
}

rt_node *rt__mean_in_bin(rt_node *v, rt_node *bins)
{
    if (!bins) return rt_add(rt_zeros_like(v), rt_expect(v));
    int64_t n = rt_dim(bins, 1);
    rt_node *sum = rt_sum(rt_mul(bins, column(v)), 1u, false), *count = rt_sum(bins, 1u, false); /* (n) each */
    rt_node *mean = rt_div(sum, rt_maximum(count, rt_scalar(rt_node_graph(v), 1))); /* a bin without samples is asked by none */
    return rt_sum(rt_mul(bins, rt_reshape(mean, 2, (int64_t[]){1, n})), 1u << 1, false);
}

rt_node *rt__f_weight(const rt_divergence *d, rt_node *log_u, rt_node *bins)
{
    log_u = rt_stop_grad(log_u);
    if (bins) log_u = rt_add(log_u, rt_log(rt__mean_in_bin(rt_exp(rt_neg(log_u)), bins)));
    rt_node *h = rt_divergence_weight_of(d, log_u);
    return rt_stop_grad(rt_div(h, rt_expect(h)));
}

rt_node *rt__renyi_weight(double alpha, rt_node *log_u, rt_node *bins)
{
    rt_node *power = rt_exp(rt_scale(rt_stop_grad(log_u), alpha - 1));
    return rt_stop_grad(rt_scale(rt_div(power, rt__mean_in_bin(power, bins)), alpha));
}

rt_node *rt__effective_share(rt_node *w) { return rt_div(rt_square(rt_expect(w)), rt_expect(rt_square(w))); }
