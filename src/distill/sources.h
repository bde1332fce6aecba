/* sources.h -- where examples come from: a data set, maps of the teacher, stored pairs, or the student's own steps. Each is a pure function of (seed, round,
 * run of the phase), the last of the student's weights, too, and fills the inputs that the phase has by name. */
#ifndef RT_DISTILL_SOURCES_H
#define RT_DISTILL_SOURCES_H

#include "distill/method.h"
#include "distill/time_pairs.h"

enum { RT_ROUND_BITS = 20 }; /* clocks of draws per round: at least the steps of a grid */

#define RT_TEACHER_DRAWS "teacher" /* the name of the draws of the teacher's rolls */

/* Data: inputs x0, y. */
rt_status rt__source_data(rt_phase *p, rt_error *err);
/* The draws of a teacher that is an oracle: the same inputs. */
rt_status rt__source_oracle(rt_phase *p, rt_error *err);

/* Examples (x_s, x~_t, k, y) of the teacher's maps by its solver, k the number of a pair of times. Without data they lie along rollouts from noise, each
 * of which serves `pairs_per_row` pairs of times; with data x_s ~ p_s. `pool` examples or so are shuffled together and used `reuse` times. Takes over `pairs`.
 * Inputs: xs, xt, k, y; omega, the guidance of the row; draws, those of the teacher's steps from x_s on. */
rt_status rt__source_rollout(rt_phase *p, const rt__time_pairs *pairs, int pairs_per_row, int pool, int reuse, rt_error *err);

/* `count` pairs of (noise, teacher sample), drawn once and kept in the run directory, by `steps` even steps of the teacher's solver; 0: along the round's grid.
 * Inputs: noise, sample, y; draws, those of the whole rollout. */
rt_status rt__source_pairs(rt_phase *p, int64_t count, int steps, rt_error *err);

/* States of the student's own sampling, x before step j of its N (backward simulation): j is drawn once for a whole batch, each as likely, and the steps before
 * it are made by the student as it stands, by its solver, which is how sampling gets there. Nothing is differentiated through them. Inputs: state, step
 * (j - 1 for each sample), label (a class for each, where there are some, all as likely), omega (where guidance has a knob). */
rt_status rt__source_states(rt_phase *p, rt_error *err);

/* Adds a source, which the phase frees, at once where there is no room; and what all of a phase's sources fill. */
rt_status rt__add_source(rt_phase *p, rt_source source, rt_error *err);
rt_status rt__fill_inputs(const rt_phase *p, int64_t u, int64_t first, int64_t n, rt_program *program, rt_error *err);
/* The buffer of an input of the phase; NULL: it has none of that name, or the program does not read it. */
void *rt__input_data(const rt_phase *p, rt_program *program, const char *name);

/* The seed of what is drawn on the host for a phase: every stream has its own, the first the run's. */
uint64_t rt__stream_seed(const rt_phase *p);
/* Standard normal noise of sample `index` of the draw `name` (n numbers), times `scale`. */
void rt__noise(uint64_t seed, const char *name, uint32_t clock, uint32_t index, double scale, int64_t n, float *out);
/* q draws of its teacher's that a student sees in a step: z[q][features] of sample `index` from clock on, as the teacher's rolls froze them. */
void rt__show_draws(uint64_t seed, uint32_t clock, uint32_t index, int q, int64_t features, float *z);
int64_t rt__class_of(const rt_task *t, int64_t index); /* the class of sample `index`, where each gets the next */

/* Within long work. A rank of several never is: it would stop alone; they agree between updates (train/loop.c) and chunks of pairs. */
bool rt__asked_to_stop(const rt_task *t);

/* The maps of a denoiser's solver for `rows` samples at a time, its noise drawn from `seed`; close it after a failure, too. Rolls end with RT_E_INTERRUPTED once
 * the task is asked to stop: whose rolls may not end so takes the pulse away. */
rt_status rt__map_open(rt_solver_map *map, const rt_task *t, const rt_denoiser *m, int64_t rows, uint64_t seed, rt_error *err);

#endif
