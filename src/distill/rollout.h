/* rollout.h -- where examples come from: a data set, maps of the current teacher, or stored pairs. Each is a pure function of (seed, round, update). */
#ifndef RT_DISTILL_ROLLOUT_H
#define RT_DISTILL_ROLLOUT_H

#include "distill/method.h"
#include "distill/time_pairs.h"

enum { RT_ROUND_BITS = 20 }; /* clocks of draws per round: at least the steps of a grid */

#define RT_TEACHER_DRAWS "teacher" /* the name of the draws of the teacher's rolls */

/* inputs: x0, y (NULL: none). */
rt_status rt__source_data(rt_distill *d);

/* Examples (x_s, x~_t, k, y) of the teacher's maps by its solver, k the number of a pair of times. Without data they lie along rollouts from noise, each
 * of which serves `strata` pairs of times; with data x_s ~ p_s. `pool` examples or so are shuffled together and used `reuse` times. Takes over `pairs`.
 * inputs: xs, xt, k, y. */
rt_status rt__source_rollout(rt_distill *d, const rt__time_pairs *pairs, int strata, int pool, int reuse);

/* kd.pairs pairs of (noise, teacher sample), drawn once and kept in the run directory. inputs: noise, sample, y. */
rt_status rt__source_pairs(rt_distill *d);

/* Standard normal noise of sample `index` of the draw `name` (features numbers), times `scale`; the class that goes with it. */
void rt__noise(const rt_distill *d, const char *name, uint32_t clock, uint32_t index, double scale, float *out);
/* The q draws of its teacher that a student sees in a step: z[q][features] of sample `index` from clock on, as the teacher's rolls froze them. */
void rt__show_draws(const rt_distill *d, uint32_t clock, uint32_t index, float *z);
int64_t rt__class_of(const rt_distill *d, int64_t index);

#endif
