/* consistency.h -- what consistency methods minimise, as functions of nodes: f(x_s, s) = f(x_t, t) at two points of one path, f an x0-prediction. */
#ifndef RT_DISTILL_CONSISTENCY_H
#define RT_DISTILL_CONSISTENCY_H

#include "distill/method.h"

/* The boundary f(x, data) = x: f, but x for samples whose time is 0. Every prediction but x0 has it by itself. data (B): 1 there, 0 elsewhere. */
rt_node *rt__consistency_target(rt_node *f, rt_node *x, rt_node *data);

/* Huber's distances per sample, (B): sum over features of sqrt((a_i - b_i)^2 + c^2) - c; sqrt(|a - b|^2 + c^2) - c, where c may be 0. */
rt_node *rt__huber_elements(rt_node *a, rt_node *b, double c);
rt_node *rt__huber_sample(rt_node *a, rt_node *b, double c);

/* Steps of a student on the points of its grid: one goes by ddim, several by renoise, whose states between are x0 noised again. `key` names the
 * setting, for a refusal: `steps` divides `points`. */
rt_status rt__consistency_plan_steps(rt_plan *plan, const char *key, int points, int steps, rt_error *err);

#endif
