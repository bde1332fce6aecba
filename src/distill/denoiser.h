/* denoiser.h -- a network as a function on host arrays: x0-predictions and DDIM rollouts, outside any training graph. */
#ifndef RT_DISTILL_DENOISER_H
#define RT_DISTILL_DENOISER_H

#include "distill/method.h"

/* A compiled denoiser. It reads the set's values at each call, so it follows training. */
typedef struct rt_evaluator {
    const rt_process *process;
    rt_graph *graph;
    rt_program *program;
    rt_node *x, *alpha, *beta, *fed, *y, *x0; /* y NULL: unconditional */
    int64_t batch, features;
} rt_evaluator;

rt_status rt__evaluator_open(rt_evaluator *e, const rt_distill *like, const rt_denoiser *m, int64_t batch, rt_error *err);
void rt__evaluator_close(rt_evaluator *e);

/* x0[n][features] = x0-prediction at x[n][features], all at one time; y[n] or NULL. */
rt_status rt__evaluate(rt_evaluator *e, const float *x, double time, const int64_t *y, int64_t n, float *x0, rt_error *err);

/* One DDIM step of n samples in place, grid s -> t (1.30). `x0` is room for n samples. */
rt_status rt__ddim(rt_evaluator *e, float *x, double s, double t, const int64_t *y, int64_t n, float *x0, rt_error *err);

#endif
