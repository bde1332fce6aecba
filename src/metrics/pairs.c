/* pairs.c -- see pairs.h. Distances are summed directly, not as |a|^2 + |b|^2 - 2 a.b: that would lose half the digits of close pairs, and rows that are
 * equal would not be at distance 0. Tile by tile (tiles.h) this is about as fast as a matrix product. */
#include "metrics/pairs.h"

#include "base/tiles.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = RT_TILE_COLUMNS, ROWS = RT_TILE_ROWS };

rt_status rt__points_check(const rt_points *p, const char *who, int64_t least, rt_error *err)
{
    if (p->n < least || p->d < 1)
        RT_RAISE(RT_E_INVALID, "%s: %lld points of %lld numbers; this measure needs at least %lld points and 1 number", who,
                 (long long)p->n, (long long)p->d, (long long)least);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t k = 0; k < p->d; k++)
            if (!isfinite(p->x[i * p->d + k]))
                RT_RAISE(RT_E_INVALID, "%s: row %lld, column %lld is %g; all must be finite: look for what made it", who, (long long)i,
                         (long long)k, (double)p->x[i * p->d + k]);
    return RT_OK;
}

rt_status rt__points_match(const rt_points *a, const rt_points *b, int64_t least, rt_error *err)
{
    RT_TRY(rt__points_check(a, "reference", least, err));
    RT_TRY(rt__points_check(b, "samples", least, err));
    if (a->d != b->d)
        RT_RAISE(RT_E_INVALID, "reference has %lld numbers per point, samples have %lld; they must come from the same space",
                 (long long)a->d, (long long)b->d);
    return RT_OK;
}

/* Rows from .. to - 1 of A against all of B; panels: room for COLUMNS columns and as many rows as a piece of work has, groups of ROWS. */
static void strip(rt__pair_kind kind, const rt_points *a, const rt_points *b, int64_t from, int64_t to, double *panels, rt__visit *visit,
                  void *self)
{
    const rt__tiles *tiles = RT_PICK_ISA(rt__tiles);
    int64_t d = a->d;
    double(*columns)[COLUMNS] = (void *)panels, (*rows)[ROWS] = (void *)(panels + d * COLUMNS);
    for (int64_t i = from; i < to; i += ROWS)
        for (int r = 0; r < ROWS; r++)
            for (int64_t k = 0; k < d; k++) rows[(i - from) / ROWS * d + k][r] = (double)a->x[(i + r < to ? i + r : i) * d + k];
    for (int64_t first = 0; first < b->n; first += COLUMNS) {
        int count = b->n - first < COLUMNS ? (int)(b->n - first) : COLUMNS;
        for (int64_t k = 0; k < d; k++)
            for (int j = 0; j < COLUMNS; j++) columns[k][j] = j < count ? (double)b->x[(first + j) * d + k] : 0;
        for (int64_t i = from; i < to; i += ROWS) {
            _Alignas(64) double out[ROWS][COLUMNS] = {{0}};
            const double(*group)[ROWS] = (const double(*)[ROWS])rows + (i - from) / ROWS * d;
            if (kind == RT_PAIR_DISTANCE2)
                tiles->distance2(d, group, (const double(*)[COLUMNS])columns, out);
            else
                tiles->product(d, group[0], 1, ROWS, columns[0], COLUMNS, out[0], COLUMNS);
            for (int r = 0; r < ROWS && i + r < to; r++) visit(self, i + r, first, count, out[r]);
        }
    }
}

rt_status rt__pairs(rt__pair_kind kind, const rt_points *a, const rt_points *b, rt__visit *visit, void *self, rt_error *err)
{
    enum { STRIP = 128 }; /* rows per piece of work: enough to pay for the columns' transposition */
    int threads = omp_get_max_threads();
    size_t room = (size_t)a->d * (COLUMNS + STRIP) * sizeof(double);
    double *panels = aligned_alloc(64, room * (size_t)threads);
    if (!panels) RT_RAISE(RT_E_MEMORY, "out of memory for pairs of points with %lld numbers", (long long)a->d);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < a->n; i += STRIP)
        strip(kind, a, b, i, i + STRIP < a->n ? i + STRIP : a->n, panels + (size_t)omp_get_thread_num() * room / sizeof(double), visit,
              self);
    free(panels);
    return RT_OK;
}

/* ---- sums */

typedef struct adder {
    double *rows; /* one sum per row, added up in order at the end */
    rt__pair_map *f;
    const void *self;
    bool diagonal;
} adder;

static void add(void *self, int64_t i, int64_t first, int count, const double *values)
{
    const adder *a = self;
    double mapped[COLUMNS], sum = 0;
    memcpy(mapped, values, sizeof mapped); /* a constant number: the columns behind `count` are padding */
    a->f(a->self, COLUMNS, mapped);
    for (int j = 0; j < count; j++)
        if (a->diagonal || first + j != i) sum += mapped[j];
    a->rows[i] += sum;
}

rt_status rt__pairs_sum(rt__pair_kind kind, const rt_points *a, const rt_points *b, bool diagonal, rt__pair_map *f, const void *self,
                        double *sum, rt_error *err)
{
    adder s = {calloc((size_t)a->n, sizeof(double)), f, self, diagonal};
    if (!s.rows) RT_RAISE(RT_E_MEMORY, "out of memory for %lld sums", (long long)a->n);
    rt_status status = rt__pairs(kind, a, b, add, &s, err);
    *sum = 0;
    for (int64_t i = 0; i < a->n; i++) *sum += s.rows[i];
    free(s.rows);
    return status;
}
