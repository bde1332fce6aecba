/* evaluator.h -- the one way to ask a network, or an oracle, outside a training graph: a function on host arrays.
 *
 * A network is compiled for a number of rows; longer inputs go through in slices, short ones padded by what the buffers hold. It reads its set's
 * values at each call and so follows training. On a device an evaluator of x0 makes steps of a sampling, whose states stay there. */
#ifndef RT_MODEL_EVALUATOR_H
#define RT_MODEL_EVALUATOR_H

#include "model/denoiser.h"

typedef struct rt_evaluator_spec {
    const char *name;          /* of the model, for messages; NULL: none */
    rt_denoiser denoiser;      /* its prediction may be NULL where raw outputs are wanted */
    const rt_process *process; /* NULL: only raw outputs can be asked for */
    bool x0;   /* the field answers x0, converted and guided in the network's own graph; else the raw output, which the driver guides */
    bool each; /* every sample has an omega of its own, rt_evaluator.omegas */
    rt_program_spec program; /* batch: rows; backend, threads, choices, rehearsal and compute count, too */
} rt_evaluator_spec;

typedef struct rt_evaluator {
    rt_evaluator_spec spec;
    rt_field field;        /* for rt_sample; borrows the evaluator */
    double guidance;       /* what the driver has to do of spec.denoiser.guidance */
    double told;           /* the omega of all samples, where `omegas` says none: spec.denoiser.guidance */
    const double *omegas;  /* of the samples of the sampling in progress, with spec.each; more rows than samples repeat them */
    const double *cameras; /* likewise the 12 numbers of a camera of each, for networks that are told one */
    const rt_words *words; /* of the network; NULL: classes */
    rt_graph *graph;
    rt_program *program; /* NULL: an oracle */
    rt_node *x, *time, *alpha, *beta, *omega, *camera, *y, *draws, *out,
        *pooled;                   /* NULL where there is none; pooled: a classifier's features */
    int64_t rows, features, width; /* width: numbers of out per row */
    int draws_per_step;            /* q of networks that see draws */
    /* The unit noise of steps of the sampling in progress, z[n][features] of its n samples, for networks that see draws: numbers k q .. k q + q - 1 in
     * step k. More rows than samples (guidance) repeat them. */
    rt_status (*noise)(void *self, int k, int64_t n, double *z, rt_error *err);
    void *noise_self;
    int64_t samples;
    double *drawn;
    int64_t room; /* numbers that `drawn` holds */
    /* On a device, with spec.x0 and no draws: the state after a step, the step's numbers, and the labels (B) of what guides, NULL where nothing does. */
    rt_node *next, *step, *other;
    const int64_t *others; /* of the sampling in progress: labels in the place of the null class; NULL: that */
    rt_stepper stepper;    /* for rt_sample_spec.stepper where `next` is not NULL */
    rt_params *kept;       /* states of the steps in progress, [states][rows][features]; NULL: none were asked for yet */
    int states;
    bool begins; /* the next step is the first: x is the host's */
} rt_evaluator;

/* For rt_sample_spec.stepper; NULL: the driver makes all steps. */
const rt_stepper *rt__evaluator_stepper(const rt_evaluator *e);

/* It must not move while it is open. Close it after a failure, too. */
rt_status rt__evaluator_open(rt_evaluator *e, const rt_evaluator_spec *spec, rt_error *err);
void rt__evaluator_close(rt_evaluator *e);

/* The raw output out[n][width] of rows x[n][features], each at its own t (network time; NULL: classifiers) and y (NULL: none); `pooled` (NULL: not
 * wanted) are a classifier's features. Networks of one time that see no draws. */
rt_status rt__evaluator_rows(rt_evaluator *e, int64_t n, const float *x, const double *t, const int64_t *y, float *out, float *pooled,
                             rt_error *err);

#endif
