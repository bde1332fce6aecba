/* ratio.h -- samples of the student weighted by what u = q/p says of them, q the student's density and p the teacher's, both at x_t: the factors that
 * turn the step of (1.18) into that of an f-divergence (1.19) or of Renyi's (1.20). All of them are constants to a gradient.
 *
 * Means over a batch join its samples; `p` is the phase that they are of, which finds them in a pass of their own where it runs in slices, or NULL. */
#ifndef RT_DISTILL_RATIO_H
#define RT_DISTILL_RATIO_H

#include "distill/method.h"

/* log u (B) with p/q = 1/u held in [low, high]; 0 and INFINITY: free. */
rt_node *rt__clip_ratio(rt_node *log_u, double low, double high);

/* Times t (B) in n even bins of [low, high], the ends taking what lies beyond: members (B,n), 1 in the sample's own bin, else 0. */
rt_node *rt__bins(rt_node *t, double low, double high, int n);
/* The mean of v (B) over the samples of each bin, (n), and their number, (n); 0 where there is none. */
rt_node *rt__means_of_bins(rt_node *v, rt_node *bins, rt_node **count);
/* Per sample, that mean in its bin, or where the run keeps means, as they are kept; bins NULL: over the batch. */
rt_node *rt__mean_in_bin(rt_phase *p, rt_node *v, rt_node *bins);

/* Means that are kept from update to update, m = decay m + (1 - decay) mean in the bins that have samples: the numbers of a network of the run, "bins", which are 1
 * at the start, are checkpointed, and are moved by a phase of their own, at the draws of the phase that reads them. */
rt_network_plan *rt__plan_kept_means(rt_plan *plan, rt_status (*declare)(const rt_task *t, rt_params *set, rt_error *err));
rt_status rt__declare_kept_means(rt_params *set, int64_t n, rt_error *err);
rt_phase_plan *rt__plan_keeping(rt_plan *plan, const rt_task *t, rt_status (*build)(rt_phase *p, rt_error *err));
/* Ends the building of that phase. */
void rt__keep_means(rt_phase *p, double decay, rt_node *v, rt_node *bins);

/* p/q, and u^(alpha - 1): what is averaged in bins; constants. */
rt_node *rt__ratio_of(rt_node *log_u);
rt_node *rt__renyi_power(double alpha, rt_node *log_u);

/* u f''(u) over its mean in the batch, where p/q was first divided by its mean within each bin: it has mean 1 at every t. bins NULL: taken as it is. */
rt_node *rt__f_weight(rt_phase *p, const rt_divergence *d, rt_node *log_u, rt_node *bins);
/* alpha u^(alpha - 1)/E[u^(alpha - 1)] of (1.23), the mean within each bin, as it belongs to one t; bins NULL: the batch has one t. */
rt_node *rt__renyi_weight(rt_phase *p, double alpha, rt_node *log_u, rt_node *bins);

/* The effective sample size of weights w (B) as a share of the batch, (E w)^2/E w^2. */
rt_node *rt__effective_share(rt_node *w);

#endif
