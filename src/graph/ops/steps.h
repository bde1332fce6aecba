/* steps.h -- an optimiser's step of one number, stated once: for the reference row, and for the kernels of devices, which are C++. Who includes this has
 * defined `real` and RT_INLINE. */
#ifndef RT_OPS_STEPS_H
#define RT_OPS_STEPS_H

#include "retort/ops.h"

/* What one number's update needs, worked out once per run in double. */
typedef struct coefficients {
    real clip, l2;             /* g = clip gradient + l2 p */
    real beta1, rest1;         /* m = beta1 m + rest1 g */
    real beta2, rest2;         /* v = beta2 v + rest2 g g */
    real shrink, step;         /* p = shrink p - step m / (sqrt(v) root + eps) */
    real root, eps, keep, mix; /* average = keep average + mix p */
} coefficients;

/* RAdam (Liu et al. 2020): Adam's step times a rectification once r > 5, where its variance is tractable, eps beside the root of v as it stands; before
 * that the momentum's step alone, which is m/(0 sqrt(v) + 1). */
RT_INLINE void rectify(const rt_optimiser *o, double t, coefficients *k)
{
    double decay = pow(o->beta2, t), most = 2 / (1 - o->beta2) - 1, r = most - 2 * t * decay / (1 - decay);
    bool tractable = r > 5;
    if (tractable)
        k->step *= (real)sqrt((r - 4) * (r - 2) * most / ((most - 4) * (most - 2) * r) * (1 - decay));
    else
        k->eps = 1;
    k->root = tractable;
}

/* Of update t (from 1), where norm2 is the sum of all squares of the gradient. */
RT_INLINE coefficients coefficients_of(const rt_optimiser *o, double lr, double t, double decay, double norm2)
{
    double clip = o->clip > 0 ? fmin(1.0, o->clip / (sqrt(norm2) + 1e-6)) : 1;
    coefficients k;
    k.clip = (real)clip;
    k.keep = (real)decay;
    k.mix = (real)(1 - decay);
    k.shrink = (real)(o->kind == RT_ADAMW ? 1 - lr * o->weight_decay : 1);
    k.l2 = (real)(o->kind == RT_ADAMW ? 0 : o->weight_decay);
    k.eps = (real)o->eps;
    k.beta1 = (real)o->beta1;
    k.beta2 = (real)o->beta2;
    k.rest1 = k.rest2 = k.root = 0;
    if (o->kind == RT_SGD) { /* the buffer starts from zero, hence as the first gradient */
        k.step = (real)lr;
    } else {
        k.rest1 = (real)(1 - o->beta1);
        k.rest2 = (real)(1 - o->beta2);
        k.step = (real)(lr / (1 - pow(o->beta1, t)));
        k.root = (real)(1 / sqrt(1 - pow(o->beta2, t)));
        if (o->kind == RT_RADAM) rectify(o, t, &k);
    }
    return k;
}

RT_INLINE void adam_step(const coefficients *c, real gradient, real *p, real *m, real *v)
{
    real g = gradient * c->clip + c->l2 * *p;
    *m = c->beta1 * *m + c->rest1 * g;
    *v = c->beta2 * *v + c->rest2 * g * g;
    *p = c->shrink * *p - c->step * *m / (sqrt(*v) * c->root + c->eps);
}

RT_INLINE void sgd_step(const coefficients *c, real gradient, real *p, real *m)
{
    *m = c->beta1 * *m + (gradient * c->clip + c->l2 * *p);
    *p -= c->step * *m;
}

RT_INLINE real moved_average(const coefficients *c, real mean, real p) { return c->keep * mean + c->mix * p; }
/* Of what stands still: once it is there, it stays to the bit. */
RT_INLINE real kept_average(const coefficients *c, real mean, real p) { return mean + c->mix * (p - mean); }

#endif
