/* discrepancy.c -- maximum mean discrepancies: E k(a,a') + E k(b,b') - 2 E k(a,b), unbiased: without the pairs of a point with itself. */
#include "metrics/pairs.h"

#include <math.h>
#include <stdlib.h>

static rt_status unbiased(rt__pair_kind kind, rt__pair_map *kernel, const void *self, const rt_points *a, const rt_points *b, double *out,
                          rt_error *err)
{
    double aa, bb, ab, n = (double)a->n, m = (double)b->n;
    RT_TRY(rt__pairs_sum(kind, a, a, false, kernel, self, &aa, err));
    RT_TRY(rt__pairs_sum(kind, b, b, false, kernel, self, &bb, err));
    RT_TRY(rt__pairs_sum(kind, a, b, true, kernel, self, &ab, err));
    *out = aa / (n * (n - 1)) + bb / (m * (m - 1)) - 2 * ab / (n * m);
    return RT_OK;
}

static void cubic(const void *self, int count, double *v)
{
    double scale = *(const double *)self;
    for (int i = 0; i < count; i++) {
        double k = v[i] * scale + 1;
        v[i] = k * k * k;
    }
}

static void gaussian(const void *self, int count, double *v)
{
    double scale = *(const double *)self;
    for (int i = 0; i < count; i++) v[i] = exp(v[i] * scale);
}

rt_status rt_kid(const rt_points *a, const rt_points *b, double *kid, rt_error *err)
{
    RT_TRY(rt__points_match(a, b, 2, err));
    double scale = 1 / (double)a->d;
    return unbiased(RT_PAIR_PRODUCT, cubic, &scale, a, b, kid, err);
}

/* ---- bandwidth */

typedef struct gathered {
    int64_t n;
    double *upper; /* distances of i < j, row by row */
} gathered;

static void gather(void *self, int64_t i, int64_t first, int count, const double *values)
{
    const gathered *g = self;
    double *row = g->upper + i * g->n - i * (i + 1) / 2 - i - 1; /* row[j] for j > i */
    for (int j = 0; j < count; j++)
        if (first + j > i) row[first + j] = values[j];
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The square of the median distance between the first points. */
static rt_status median2(const rt_points *p, double *out, rt_error *err)
{
    rt_points some = {p->n < 1000 ? p->n : 1000, p->d, p->x};
    size_t pairs = (size_t)(some.n * (some.n - 1) / 2);
    gathered g = {some.n, malloc(pairs * sizeof(double))};
    if (!g.upper) RT_RAISE(RT_E_MEMORY, "out of memory for %zu distances", pairs);
    rt_status status = rt__pairs(RT_PAIR_DISTANCE2, &some, &some, gather, &g, err);
    if (status == RT_OK) {
        qsort(g.upper, pairs, sizeof *g.upper, ascending);
        double median = (sqrt(g.upper[(pairs - 1) / 2]) + sqrt(g.upper[pairs / 2])) / 2;
        *out = median * median;
    }
    free(g.upper);
    return status;
}

rt_status rt_mmd(const rt_points *a, const rt_points *b, double bandwidth, double *mmd, rt_error *err)
{
    double h2 = bandwidth * bandwidth;
    RT_TRY(rt__points_match(a, b, 2, err));
    if (!(bandwidth >= 0) || isinf(bandwidth))
        RT_RAISE(RT_E_USAGE, "a bandwidth of %g; must be positive, or 0 for the median distance", bandwidth);
    if (bandwidth == 0) RT_TRY(median2(a, &h2, err));
    if (!(h2 > 0)) RT_RAISE(RT_E_INVALID, "the median distance between points of the reference is 0; give a bandwidth");
    double scale = -1 / (2 * h2);
    return unbiased(RT_PAIR_DISTANCE2, gaussian, &scale, a, b, mmd, err);
}
