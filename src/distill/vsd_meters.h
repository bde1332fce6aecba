/* vsd_meters.h -- the meters of the methods that vsd_family.h serves: how far generator and teacher are apart, how far the auxiliary score is behind, what the critic is
 * worth, and the generator's samples beside the teacher's. A method plans those that apply, and its `measure` builds them. */
#ifndef RT_DISTILL_VSD_METERS_H
#define RT_DISTILL_VSD_METERS_H

#include "distill/meters.h"
#include "distill/ratio_weighted.h"

/* Samples beside the teacher's, the gradient, the critic's accuracy where the plan's score has a head, and with `scores` the gap, the lag, and where both densities can be
 * written out the divergence. After rt__gan_plan. measure NULL: no others are planned. */
void rt__vsd_plan_meters(rt_plan *plan, const rt_task *t, bool scores, rt_status (*measure)(rt_phase *p, rt_error *err));
/* Calibration; with `weighted` the effective sample size of the generator's weights. */
void rt__ratio_plan_meters(rt_plan *plan, const rt_task *t, bool weighted);

/* A held-out sample, and what is planned of the scores at it. */
rt_status rt__vsd_measure(rt_phase *p, rt__vsd_sample *s, rt_error *err);
rt_status rt__gan_measure(rt_phase *p, const rt__vsd_sample *s, rt_error *err);
/* With the critic where there is one. weight (B): of the generator's samples, before any mean; NULL: they have none. */
rt_status rt__ratio_measure(rt_phase *p, const rt__vsd_sample *s, rt_node *weight, rt_error *err);

#endif
