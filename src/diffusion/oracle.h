/* oracle.h -- what the kinds of oracles share. */
#ifndef RT_DIFFUSION_ORACLE_H
#define RT_DIFFUSION_ORACLE_H

#include "retort/diffusion.h"

struct rt_oracle {
    int64_t features;
    const rt_process *process;
    rt_process *owned;       /* the same, if a file named it */
    rt_scheduler *scheduler; /* or what has it, if the file holds a configuration of diffusers */
    const rt_prediction *prediction;
    double *mean, *variance, *basis; /* [d]; eigenvalues of Sigma [d], ascending; eigenvectors in columns [d][d]: one block from mean */
};

#endif
