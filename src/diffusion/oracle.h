/* oracle.h -- what the files of the oracles share. */
#ifndef RT_DIFFUSION_ORACLE_H
#define RT_DIFFUSION_ORACLE_H

#include "retort/diffusion.h"

typedef struct rt__component {
    double weight, *mean, *variance, *basis; /* mean [d]; eigenvalues of Sigma [d], ascending; eigenvectors in columns [d][d] */
} rt__component;

typedef struct rt__box {
    double weight, *centre, *half; /* the box is centre +- half, both [d] */
} rt__box;

typedef struct rt__oracle_kind {
    const char *rough; /* why nothing is known at beta = 0; NULL: p_0 has a density and a score */
    /* n rows at (alpha, beta): posterior means [n][d], scores [n][d], log densities [n]; NULL: not wanted. One may stand where x does. */
    rt_status (*answer)(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *mean, double *score,
                        double *log_p, rt_error *err);
    /* One row from the part at place k; z: standard normal numbers, d of them. */
    void (*draw)(const rt_oracle *o, int64_t k, const double *z, double *row);
} rt__oracle_kind;

/* A mixture of n parts: normal distributions, boxes, or samples of equal weight. */
struct rt_oracle {
    const rt__oracle_kind *kind;
    int64_t features, shape[3];
    int rank; /* of one row: its shape is shape[rank] */
    double low, high;
    const rt_process *process;
    rt_process *owned;       /* the same, if a file named it */
    rt_scheduler *scheduler; /* or what has it, if the file holds a configuration of diffusers */
    const rt_prediction *prediction;
    int threads; /* 0: OpenMP's own */

    int64_t n, *order;         /* the parts, by number; with classes, class by class */
    double share;              /* the sum of their weights: 1, or the class's probability */
    rt__component *components; /* of the kind's parts, these or boxes or samples */
    rt__box *boxes;
    double *numbers; /* what they point into */
    float *samples;  /* of kind data: all of them, [..][features] */

    int64_t classes;
    rt_oracle *given; /* [classes]: the same data, of one class. They own nothing */
};

/* An oracle of n parts without them; NULL when memory is out. */
rt_oracle *rt__oracle_new(const rt__oracle_kind *kind, int64_t n, int64_t features, const rt_process *process,
                          const rt_prediction *prediction);
/* Of samples, which become the oracle's if it succeeds. */
rt_status rt__oracle_adopt(rt_oracle **oracle, const rt_oracle_samples *samples, rt_error *err);
double rt__oracle_weight(const rt_oracle *o, int64_t k); /* of part number k */
/* RT_E_INVALID unless all are positive and add up to 1. */
rt_status rt__oracle_check_weights(int64_t n, const double *weights, rt_error *err);

rt_status rt__oracle_check_point(const rt_oracle *o, double alpha, double beta, rt_error *err);
/* The flow map in closed form: of one normal distribution. */
rt_status rt__oracle_line(const rt_oracle *o, double alpha_s, double beta_s, double alpha_t, double beta_t, int64_t n, const double *x,
                          double *out, rt_error *err);
/* The flow map by solving the ODE to rounding: oracle_flow.c. */
rt_status rt__oracle_solve(const rt_oracle *o, double alpha_s, double beta_s, double alpha_t, double beta_t, int64_t n, const double *x,
                           double *out, rt_error *err);

#endif
