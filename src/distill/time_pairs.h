/* time_pairs.h -- pairs of points of a grid, how often each is drawn: pi of (1.10). */
#ifndef RT_DISTILL_TIME_PAIRS_H
#define RT_DISTILL_TIME_PAIRS_H

#include "retort/base.h"

typedef struct rt__time_pairs {
    int n, *from, *to; /* points of the teacher's grid, from[k] < to[k] */
    double *below;     /* [n + 1]: probability of the pairs before k */
} rt__time_pairs;

/* The row that the setting `key` names, for a teacher of N steps and a student that makes q of them at once. */
rt_status rt__time_pairs_open(rt__time_pairs *p, const char *key, const char *name, int N, int q, rt_error *err);
void rt__time_pairs_close(rt__time_pairs *p);
/* The pair at u in [0, 1) of the distribution function. */
int rt__time_pairs_at(const rt__time_pairs *p, double u);

#endif
