/* ratio_weighted.h -- what `f` and `renyi` share: (1.18) with each sample weighted by what u = p_theta/p says of it, the ratio from a critic or exact. */
#ifndef RT_DISTILL_RATIO_WEIGHTED_H
#define RT_DISTILL_RATIO_WEIGHTED_H

#include "distill/adversary.h"

typedef struct rt__ratio_settings {
    rt__adversarial_settings family;
    char ratio[16], clip[64];
    int bins;
    double decay; /* of the bins' means */
} rt__ratio_settings;

enum { RT__RATIO_KEYS = 4 };
extern const rt_config_key rt__ratio_keys[RT__RATIO_KEYS];
extern const char *const rt__ratio_defaults[]; /* of both methods, for shared keys */
#define RT__RATIO_GROUPS                                                                                                                   \
    RT__ADVERSARIAL_GROUPS, { rt__ratio_keys, RT__RATIO_KEYS, 0 }

/* Networks and refusals; the phases are the method's: */
rt_status rt__ratio_plan(const rt_task *t, rt_plan *plan, rt_error *err);
/* the score's, the generator's, and with f.bins-average between them the one that keeps the means of bins. */
void rt__ratio_plan_phases(const rt_task *t, rt_plan *plan, rt_status (*means)(rt_phase *p, rt_error *err),
                           rt_status (*generator)(rt_phase *p, rt_error *err));
bool rt__ratio_critic(const rt_task *t); /* is there a critic? */

/* Do the teacher and a student of one step both have densities that can be written out? And log u (B) of them, constant. */
bool rt__has_exact_ratio(const rt_task *t);
rt_node *rt__exact_log_u(rt_phase *p, const rt__vsd_sample *s);

/* log u (B) at the generator's sample, constant: from the critic's logit, held in +-10, or exact. Before clipping. */
rt_node *rt__ratio_log_u(rt_phase *p, const rt__vsd_sample *s);
/* log u clipped by f.ratio-clip; and the bins of f.bins at the sample's times, NULL: none. */
rt_node *rt__ratio_clipped(rt_phase *p, rt_node *log_u);
rt_node *rt__ratio_bins(rt_phase *p, const rt__vsd_sample *s);
/* Ends the phase that keeps the means of v (B) in bins. */
void rt__ratio_keep(rt_phase *p, const rt__vsd_sample *s, rt_node *v);
/* E weight w sg[f_z - f_p]^T x0, with DMD's normaliser and the GAN's term where they are asked for: ends the generator's phase. */
rt_status rt__ratio_minimise(rt_phase *p, const rt__vsd_sample *s, rt_node *log_u, rt_node *weight, rt_error *err);

#endif
