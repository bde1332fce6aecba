/* denoiser.h -- a denoiser outside any training graph: x0-predictions on host arrays, and the maps that its solver makes of them (1.8). */
#ifndef RT_DISTILL_DENOISER_H
#define RT_DISTILL_DENOISER_H

#include "distill/method.h"

/* The noise that a stochastic solver adds, frozen (1.4.5): in step k of sample first + j it is the draw `name` of clock + k. A student that sees q draws
 * per step sees those of k q .. k q + q - 1 in its step k: its teacher's, where that makes q steps to one. */
typedef struct rt_frozen {
    const char *name;
    uint32_t clock;
    int64_t first;
} rt_frozen;

/* A denoiser ready to be asked: a compiled network, which reads the set's values at each call and so follows training, or an oracle. It must not move
 * while it is open. */
typedef struct rt_evaluator {
    const rt_process *process;
    const rt_solver *solver;
    rt_field field;  /* x0-predictions, guided (1.39) where the denoiser is; an oracle's own, */
    double guidance; /* which the sampling driver guides */
    rt_graph *graph;
    rt_program *program;
    rt_node *x, *alpha, *beta, *fed, *y, *x0, *z; /* y NULL: unconditional; z NULL: it sees no draws */
    const double *path;                           /* of the roll in progress: networks of two times are told where a step goes */
    rt_frozen draws;                              /* and of its batch */
    int64_t batch, features;
    uint64_t seed;
    double *state, *drawn; /* of one batch */
    rt_sample_room room;
} rt_evaluator;

rt_status rt__evaluator_open(rt_evaluator *e, const rt_distill *like, const rt_denoiser *m, int64_t batch, rt_error *err);
void rt__evaluator_close(rt_evaluator *e);

/* at[n][times]: what a network of one or two times is fed, `here` of where x stands, `there` of where it is to go. */
void rt__feed(int times, double here, double there, int64_t n, float *at);

/* The map of `steps` steps of the denoiser's solver from times[0] along every stride-th time, for n samples x[n][features] of classes y[n] (1.38).
 * State k = 0..steps is written to x + k hop: hop 0 moves x in place, n features keeps all. Solvers with a memory start cold at times[0];
 * `draws` may be NULL for solvers without noise and networks that see none. */
rt_status rt__roll(rt_evaluator *e, const double *times, int stride, int steps, int64_t n, float *x, int64_t hop, const int64_t *y,
                   const rt_frozen *draws, rt_error *err);

#endif
