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

rt_node *rt__means_of_bins(rt_node *v, rt_node *bins, rt_node **count)
{
    rt_node *sum = rt_sum(rt_mul(bins, column(v)), 1u, false);
    *count = rt_sum(bins, 1u, false);
    return rt_div(sum, rt_maximum(*count, rt_scalar(rt_node_graph(v), 1)));
}

static rt_node *kept_means(rt_phase *p, int64_t n)
{
    const rt_network *kept = p ? rt__network(p->round->task, "bins") : NULL;
    return kept ? rt_param(p->graph, kept->set, "mean", 1, &n, RT_INIT_CONST(1)) : NULL;
}

rt_node *rt__mean_in_bin(rt_phase *p, rt_node *v, rt_node *bins)
{
    if (!bins) return rt_add(rt_zeros_like(v), rt__known_to_all(p, rt_expect(v)));
    int64_t n = rt_dim(bins, 1);
    rt_node *count, *mean = kept_means(p, n);
    if (!mean) mean = rt__known_to_all(p, rt__means_of_bins(v, bins, &count));
    return rt_sum(rt_mul(bins, rt_reshape(mean, 2, (int64_t[]){1, n})), 1u << 1, false);
}

rt_node *rt__ratio_of(rt_node *log_u) { return rt_exp(rt_neg(rt_stop_grad(log_u))); }
rt_node *rt__renyi_power(double alpha, rt_node *log_u) { return rt_exp(rt_scale(rt_stop_grad(log_u), alpha - 1)); }

rt_node *rt__f_weight(rt_phase *p, const rt_divergence *d, rt_node *log_u, rt_node *bins)
{
    log_u = rt_stop_grad(log_u);
    if (bins) log_u = rt_add(log_u, rt_log(rt__mean_in_bin(p, rt__ratio_of(log_u), bins)));
    rt_node *h = rt_divergence_weight_of(d, log_u);
    return rt_stop_grad(rt_div(h, rt__mean_in_bin(p, h, NULL)));
}

rt_node *rt__renyi_weight(rt_phase *p, double alpha, rt_node *log_u, rt_node *bins)
{
    rt_node *power = rt__renyi_power(alpha, log_u);
    return rt_stop_grad(rt_scale(rt_div(power, rt__mean_in_bin(p, power, bins)), alpha));
}

rt_node *rt__effective_share(rt_node *w) { return rt_div(rt_square(rt_expect(w)), rt_expect(rt_square(w))); }

/* ---- kept means */

rt_network_plan *rt__plan_kept_means(rt_plan *plan, rt_status (*declare)(const rt_task *t, rt_params *set, rt_error *err))
{
    return rt__plan_network(plan, (rt_network_plan){.name = "bins", .kind = RT_NETWORK_DECLARED, .trained = true, .declare = declare});
}

rt_status rt__declare_kept_means(rt_params *set, int64_t n, rt_error *err)
{
    int entry;
    return rt_params_add(set, "mean", 1, &n, RT_INIT_CONST(1), &entry, err);
}

rt_phase_plan *rt__plan_keeping(rt_plan *plan, const rt_task *t, rt_status (*build)(rt_phase *p, rt_error *err))
{
    rt_phase_plan *p = rt__plan_phase(plan, t, "bins", "bins", build);
    p->training = (rt_training){.lr = 1, .lr_schedule = "constant", .optimiser = {.kind = RT_SGD}};
    return p;
}

/* A step of rate 1 down (1 - decay)/2 |m - mean|^2. */
void rt__keep_means(rt_phase *p, double decay, rt_node *v, rt_node *bins)
{
    rt_node *count, *mean = rt__means_of_bins(rt_stop_grad(v), bins, &count), *kept = kept_means(p, rt_dim(bins, 1));
    rt_node *off = rt_mul(rt_square(rt_sub(kept, mean)), rt_minimum(count, rt_scalar(p->graph, 1)));
    rt__minimise(p, rt_scale(rt_sum(off, RT_ALL_AXES, false), (1 - decay) / 2));
}
