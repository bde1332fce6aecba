/* rank_sums.h -- sums over ranks, for programs (src/graph), devices and figures of a method. */
#ifndef RT_BASE_RANK_SUMS_H
#define RT_BASE_RANK_SUMS_H

#include "retort/ranks.h"

/* An array of RT_F32, RT_F64 or RT_I64 that every rank has its own numbers for. */
typedef struct rt__sum {
    void *data;
    int64_t count;
    rt_dtype dtype;
} rt__sum;

/* Puts the sums over all ranks, a power of two, in the place of the numbers: neighbours are added first, then neighbouring pairs, and so on. */
rt_status rt__ranks_sum(rt_ranks *r, const rt__sum *sums, int n, rt_error *err);

/* Waits for other ranks, as an exchange does, until test, which says what a transport's does, is not 0. */
rt_status rt__ranks_wait(rt_ranks *r, int (*test)(void *self, int *missing), void *self, rt_error *err);
/* What is to be called when r is closed; NULL: nothing. */
void rt__ranks_at_close(rt_ranks *r, void (*leave)(void));

/* to += from */
void rt__add_into(void *to, const void *from, int64_t count, rt_dtype dtype);

#endif
