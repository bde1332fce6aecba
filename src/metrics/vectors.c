/* vectors.c -- distances between sets of vectors: energy, sliced Wasserstein, RMS of pairs. */
#include "metrics/pairs.h"

#include <math.h>
#include <stdlib.h>

static void length(const void *self, int count, double *v)
{
    (void)self;
    for (int i = 0; i < count; i++) v[i] = sqrt(v[i]);
}

rt_status rt_energy_distance(const rt_points *a, const rt_points *b, double *v, double *u, rt_error *err)
{
    RT_TRY(rt__points_match(a, b, u ? 2 : 1, err));
    double aa, bb, ab, n = (double)a->n, m = (double)b->n;
    RT_TRY(rt__pairs_sum(RT_PAIR_DISTANCE2, a, a, true, length, NULL, &aa, err)); /* a point is at 0 from itself: only the count differs */
    RT_TRY(rt__pairs_sum(RT_PAIR_DISTANCE2, b, b, true, length, NULL, &bb, err));
    RT_TRY(rt__pairs_sum(RT_PAIR_DISTANCE2, a, b, true, length, NULL, &ab, err));
    if (v) *v = fmax(2 * ab / (n * m) - aa / (n * n) - bb / (m * m), 0);
    if (u) *u = 2 * ab / (n * m) - aa / (n * (n - 1)) - bb / (m * (m - 1));
    return RT_OK;
}

/* ---- sliced Wasserstein */

void rt_directions(uint64_t seed, int64_t m, int64_t d, float *directions)
{
    rt__draw draw = {.seed = seed, .name = rt__draw_name("directions")};
    for (int64_t i = 0; i < m; i++) {
        double g[4], norm2 = 0;
        float *u = directions + i * d;
        for (int64_t k = 0; k < d; k++) {
            if (k % 4 == 0) rt__draw_normal(&draw, (uint32_t)i, (uint32_t)(k / 4), g);
            u[k] = (float)g[k % 4];
            norm2 += (double)u[k] * u[k];
        }
        for (int64_t k = 0; k < d; k++) u[k] = (float)(u[k] / sqrt(norm2));
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void project(const rt_points *p, const float *u, double *out)
{
    for (int64_t i = 0; i < p->n; i++) {
        double sum = 0;
        for (int64_t k = 0; k < p->d; k++) sum += (double)p->x[i * p->d + k] * (double)u[k];
        out[i] = sum;
    }
    qsort(out, (size_t)p->n, sizeof *out, ascending);
}

/* The integral over q in 0..1 of the squared difference of two step functions, the quantiles of n and of m sorted numbers. */
static double quantile_difference2(int64_t n, const double *a, int64_t m, const double *b)
{
    double sum = 0;
    for (int64_t i = 0, j = 0, at = 0; i < n && j < m;) { /* `at` counts in steps of 1/(n m) */
        int64_t next_a = (i + 1) * m, next_b = (j + 1) * n, next = next_a < next_b ? next_a : next_b;
        sum += (double)(next - at) * (a[i] - b[j]) * (a[i] - b[j]);
        i += next == next_a;
        j += next == next_b;
        at = next;
    }
    return sum / ((double)n * (double)m);
}

rt_status rt_sliced_wasserstein2(const rt_points *a, const rt_points *b, int64_t m, const float *directions, double *squared, rt_error *err)
{
    RT_TRY(rt__points_match(a, b, 1, err));
    RT_TRY(rt__points_check(&(rt_points){m, a->d, directions}, "directions", 1, err));
    double *each = malloc((size_t)m * sizeof *each);
    bool full = !each;
#pragma omp parallel
    {
        double *x = malloc((size_t)(a->n + b->n) * sizeof *x), *y = x ? x + a->n : NULL;
        if (!x) {
#pragma omp atomic write
            full = true;
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < m; i++) {
            if (!x || !each) continue;
            project(a, directions + i * a->d, x);
            project(b, directions + i * a->d, y);
            each[i] = quantile_difference2(a->n, x, b->n, y);
        }
        free(x);
    }
    *squared = 0;
    for (int64_t i = 0; i < m && !full; i++) *squared += each[i] / (double)m;
    free(each);
    if (full) RT_RAISE(RT_E_MEMORY, "out of memory for the projections of %lld points", (long long)(a->n + b->n));
    return RT_OK;
}

/* ---- pairs */

rt_status rt_rms(const rt_points *a, const rt_points *b, double *rms, rt_error *err)
{
    RT_TRY(rt__points_match(a, b, 1, err));
    if (a->n != b->n)
        RT_RAISE(RT_E_INVALID, "%lld points against %lld; pairs from the same noise need equally many", (long long)a->n, (long long)b->n);
    double sum = 0;
    for (int64_t i = 0; i < a->n; i++) {
        double row = 0;
        for (int64_t k = i * a->d; k < (i + 1) * a->d; k++) row += ((double)a->x[k] - b->x[k]) * ((double)a->x[k] - b->x[k]);
        sum += row;
    }
    *rms = sqrt(sum / (double)(a->n * a->d));
    return RT_OK;
}
