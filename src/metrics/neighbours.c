/* neighbours.c -- precision, recall, density, coverage: who lies in whose ball. */
#include "metrics/pairs.h"

#include <math.h>
#include <stdlib.h>

typedef struct radii {
    int k;
    double *nearest; /* [n][k], ascending: squared distances to the nearest others */
} radii;

static void keep_nearest(void *self, int64_t i, int64_t first, int count, const double *values)
{
    const radii *r = self;
    double *best = r->nearest + i * r->k;
    for (int j = 0; j < count; j++) {
        if (first + j == i || !(values[j] < best[r->k - 1])) continue;
        int at = r->k - 1;
        for (; at > 0 && best[at - 1] > values[j]; at--) best[at] = best[at - 1];
        best[at] = values[j];
    }
}

/* out[i] = squared distance from point i to its k-th neighbour, itself not counted. */
static rt_status squared_radii(const rt_points *p, int k, double *out, rt_error *err)
{
    size_t room;
    radii r = {k, rt__mul_size((size_t)p->n, (size_t)k * sizeof(double), &room) ? malloc(room) : NULL};
    if (!r.nearest) RT_RAISE(RT_E_MEMORY, "out of memory for the %d neighbours of %lld points", k, (long long)p->n);
    for (int64_t i = 0; i < p->n * k; i++) r.nearest[i] = INFINITY;
    rt_status status = rt__pairs(RT_PAIR_DISTANCE2, p, p, keep_nearest, &r, err);
    for (int64_t i = 0; i < p->n; i++) out[i] = r.nearest[i * k + k - 1];
    free(r.nearest);
    return status;
}

/* Rows are points of A, columns points of B. A row is one thread's, a column anybody's. */
typedef struct contents {
    const double *radius_a, *radius_b;
    int64_t *held;               /* per ball of A: points of B inside */
    unsigned char *real, *found; /* per point of A: in a ball of B; per point of B: in a ball of A */
} contents;

static void look_inside(void *self, int64_t i, int64_t first, int count, const double *values)
{
    const contents *c = self;
    for (int j = 0; j < count; j++) {
        if (values[j] < c->radius_b[first + j]) c->real[i] = 1;
        if (values[j] < c->radius_a[i]) {
            c->held[i]++;
#pragma omp atomic write
            c->found[first + j] = 1;
        }
    }
}

static void count_up(const contents *c, int64_t n, int64_t m, int k, rt_neighbours *out)
{
    int64_t inside = 0, covering = 0, real = 0, found = 0;
    for (int64_t i = 0; i < n; i++) {
        inside += c->held[i];
        covering += c->held[i] > 0;
        real += c->real[i];
    }
    for (int64_t j = 0; j < m; j++) found += c->found[j];
    *out = (rt_neighbours){.precision = (double)found / (double)m,
                           .recall = (double)real / (double)n,
                           .density = (double)inside / ((double)k * (double)m),
                           .coverage = (double)covering / (double)n};
}

static void roots(int64_t n, const double *squares, double *out)
{
    for (int64_t i = 0; out && i < n; i++) out[i] = sqrt(squares[i]);
}

rt_status rt_nearest_neighbours(const rt_points *a, const rt_points *b, int k, rt_neighbours *out, double *radius_a, double *radius_b,
                                rt_error *err)
{
    if (k < 1) RT_RAISE(RT_E_USAGE, "%d neighbours; must be at least 1", k);
    RT_TRY(rt__points_match(a, b, (int64_t)k + 1, err));
    size_t n = (size_t)a->n, m = (size_t)b->n;
    double *ra = malloc(n * sizeof *ra), *rb = malloc(m * sizeof *rb);
    contents c = {ra, rb, calloc(n, sizeof *c.held), calloc(n, 1), calloc(m, 1)};
    rt_status status =
        ra && rb && c.held && c.real && c.found ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %zu balls", n + m);
    if (status == RT_OK) status = squared_radii(a, k, ra, err);
    if (status == RT_OK) status = squared_radii(b, k, rb, err);
    if (status == RT_OK) status = rt__pairs(RT_PAIR_DISTANCE2, a, b, look_inside, &c, err);
    if (status == RT_OK) {
        count_up(&c, a->n, b->n, k, out);
        roots(a->n, ra, radius_a);
        roots(b->n, rb, radius_b);
    }
    free(ra);
    free(rb);
    free(c.held);
    free(c.real);
    free(c.found);
    return status;
}
