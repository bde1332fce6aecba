/* oracle.h -- what the files of the oracles share. */
#ifndef RT_DIFFUSION_ORACLE_H
#define RT_DIFFUSION_ORACLE_H

#include "retort/diffusion.h"

typedef struct rt__component {
    double weight, *mean, *variance, *basis; /* mean [d]; eigenvalues of Sigma [d], ascending; eigenvectors in columns [d][d] */
} rt__component;

struct rt_oracle {
    int64_t features;
    const rt_process *process;
    rt_process *owned;       /* the same, if a file named it */
    rt_scheduler *scheduler; /* or what has it, if the file holds a configuration of diffusers */
    const rt_prediction *prediction;
    int64_t n;
    rt__component *components;
    double *room; /* what they point into */
};

/* The flow map by solving the ODE to rounding: oracle_flow.c. */
rt_status rt__oracle_solve(const rt_oracle *o, double alpha_s, double beta_s, double alpha_t, double beta_t, int64_t n, const double *x,
                           double *out, rt_error *err);

#endif
