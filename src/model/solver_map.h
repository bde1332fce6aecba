/* solver_map.h -- the maps that a denoiser's solver makes, Solver_{s->t} of (1.8), on host arrays, with frozen noise (1.4.5). */
#ifndef RT_MODEL_SOLVER_MAP_H
#define RT_MODEL_SOLVER_MAP_H

#include "model/evaluator.h"

/* The noise that a stochastic solver adds, frozen: in step k of sample first + j it is the draw `name` of clock + k. A student that sees q draws
 * per step sees those of k q .. k q + q - 1 in its step k: its teacher's, where that makes q steps to one. */
typedef struct rt_frozen {
    const char *name;
    uint32_t clock;
    int64_t first;
} rt_frozen;

/* An evaluator with the rooms of a roll; an evaluator's rules hold. */
typedef struct rt_solver_map {
    rt_evaluator evaluator; /* its denoiser has a solver */
    uint64_t seed;          /* of the draws */
    rt_frozen draws;        /* of the batch in progress */
    const double *omegas;   /* of the samples of the next roll, where the evaluator's spec has `each` */
    double *state;          /* of one batch */
    /* Asked after every step with the steps of samples that the roll has done, of all: anything but RT_OK ends the roll with it. NULL: nobody */
    rt_status (*pulse)(void *self, int64_t done, int64_t total, rt_error *err);
    void *pulse_self;
    rt_sample_room room;
} rt_solver_map;

rt_status rt__solver_map_open(rt_solver_map *m, const rt_evaluator_spec *spec, uint64_t seed, rt_error *err);
void rt__solver_map_close(rt_solver_map *m);

/* `steps` steps from times[0] along every stride-th time, for n samples x[n][features] of classes y[n] (1.38). State k = 0..steps is written to
 * x + k hop: hop 0 moves x in place, n features keeps all. Solvers with a memory start cold at times[0]; `draws` may be NULL for solvers without
 * noise and networks that see none. Allocates nothing for stride 1. */
rt_status rt__solver_map_roll(rt_solver_map *m, const double *times, int stride, int steps, int64_t n, float *x, int64_t hop,
                              const int64_t *y, const rt_frozen *draws, rt_error *err);

#endif
