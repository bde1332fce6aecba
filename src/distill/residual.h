/* residual.h -- what a round of distillation lost, on n held-out noises; RMS per feature in data units. */
#ifndef RT_DISTILL_RESIDUAL_H
#define RT_DISTILL_RESIDUAL_H

#include "distill/method.h"

typedef struct rt_residual {
    double local;       /* one student step against the teacher's own, from states of the first teacher's rollout (1.37) */
    double relative;    /* the same over the length of the teacher's step */
    double own_teacher; /* rollout of the student against that of its teacher */
    double drift;       /* and against that of the first teacher (1.38) */
    double
        spread; /* of a stochastic teacher's step over its draws: what a student that does not see them must leave; NaN: there are none */
} rt_residual;

/* Of a round with a grid, the deployed network as it is used. */
rt_status rt__residual(const rt_round *r, int64_t n, rt_residual *out, rt_error *err);

#endif
