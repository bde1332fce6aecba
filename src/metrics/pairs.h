/* pairs.h -- all pairs of rows of two sets, a block at a time. */
#ifndef RT_METRICS_PAIRS_H
#define RT_METRICS_PAIRS_H

#include "retort/metrics.h"

#include "base/internal.h"

/* RT_E_INVALID unless there are at least `least` rows, and all numbers are finite. `who` names the set. */
rt_status rt__points_check(const rt_points *p, const char *who, int64_t least, rt_error *err);
/* Both, and that they have equally many columns. */
rt_status rt__points_match(const rt_points *a, const rt_points *b, int64_t least, rt_error *err);

typedef enum rt__pair_kind {
    RT_PAIR_DISTANCE2, /* |a_i - b_j|^2, the sum over columns in order: equal rows are at 0, and d(a,b) = d(b,a), to the bit */
    RT_PAIR_PRODUCT    /* a_i . b_j */
} rt__pair_kind;

/* Values of row i of A with rows first .. first + count - 1 of B. For one i the calls come in ascending order and from one thread; different i may
 * be visited at the same time. */
typedef void rt__visit(void *self, int64_t i, int64_t first, int count, const double *values);
rt_status rt__pairs(rt__pair_kind kind, const rt_points *a, const rt_points *b, rt__visit *visit, void *self, rt_error *err);

/* Sum over all pairs of f(value), `f` changing a block of values in place; without the pairs (i, i) if not diagonal. */
typedef void rt__pair_map(const void *self, int count, double *values);
rt_status rt__pairs_sum(rt__pair_kind kind, const rt_points *a, const rt_points *b, bool diagonal, rt__pair_map *f, const void *self,
                        double *sum, rt_error *err);

#endif
