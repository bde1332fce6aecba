/* frechet.c -- means, covariances and the distance between the two normal distributions that have them. */
#include "metrics/pairs.h"

#include "base/openblas.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16384 }; /* columns */

void rt_statistics_free(rt_statistics *s)
{
    free(s->mean);
    free(s->covariance);
    *s = (rt_statistics){0};
}

rt_status rt_statistics_of(rt_statistics *s, const rt_points *p, rt_error *err)
{
    enum { ROWS = 256 };
    *s = (rt_statistics){0};
    RT_TRY(rt__points_check(p, "points", 2, err));
    if (p->d > MOST) RT_RAISE(RT_E_INVALID, "points of %lld numbers; covariances are made of at most %d", (long long)p->d, MOST);
    size_t d = (size_t)p->d;
    double *centred = malloc(ROWS * d * sizeof *centred);
    *s = (rt_statistics){.n = p->n, .d = p->d, .mean = calloc(d, sizeof(double)), .covariance = calloc(d * d, sizeof(double))};
    if (!centred || !s->mean || !s->covariance) {
        free(centred);
        rt_statistics_free(s);
        RT_RAISE(RT_E_MEMORY, "out of memory for a covariance of %zux%zu", d, d);
    }
    for (int64_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < d; k++) s->mean[k] += (double)p->x[(size_t)i * d + k];
    for (size_t k = 0; k < d; k++) s->mean[k] /= (double)p->n;
    rt_status status = RT_OK;
    for (int64_t i = 0; i < p->n && status == RT_OK; i += ROWS) {
        int rows = p->n - i < ROWS ? (int)(p->n - i) : ROWS;
        for (size_t j = 0; j < (size_t)rows * d; j++) centred[j] = (double)p->x[(size_t)i * d + j] - s->mean[j % d];
        status = rt__add_gram((int)d, rows, 1 / (double)(p->n - 1), centred, s->covariance, err);
    }
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < i; j++) s->covariance[j * d + i] = s->covariance[i * d + j];
    free(centred);
    if (status != RT_OK) rt_statistics_free(s);
    return status;
}

/* C = V diag(lambda) V': out[k][:] = sqrt(lambda_k) v_k', so that out' out = C. What rounding made of a zero eigenvalue is put back to 0: its root would
 * be a thousand times larger than any other error. */
static rt_status root(const rt_statistics *s, double *out, double *lambda, rt_error *err)
{
    int d = (int)s->d;
    memcpy(out, s->covariance, (size_t)d * (size_t)d * sizeof *out);
    RT_TRY(rt__eigenvectors(d, out, lambda, err));
    double top = fmax(fabs(lambda[0]), fabs(lambda[d - 1]));
    if (lambda[0] < -1e-6 * top)
        RT_RAISE(RT_E_INVALID, "covariance has the eigenvalue %g (the largest is %g); none may be negative: make the statistics again",
                 lambda[0], lambda[d - 1]);
    for (int k = 0; k < d; k++) {
        double scale = lambda[k] > d * DBL_EPSILON * top ? sqrt(lambda[k]) : 0;
        for (int j = 0; j < d; j++) out[(size_t)k * (size_t)d + (size_t)j] *= scale;
    }
    return RT_OK;
}

/* tr (A^1/2 B A^1/2)^1/2 is the sum of the singular values of A^1/2 B^1/2, and of P Q' for any P'P = A, Q'Q = B. They come without the root of a
 * rounding error that the eigenvalues of A^1/2 B A^1/2 would bring. */
static rt_status trace_of_root(const rt_statistics *a, const rt_statistics *b, double *room, double *trace, rt_error *err)
{
    int d = (int)a->d;
    size_t dd = (size_t)d * (size_t)d;
    double *p = room, *q = p + dd, *pq = q + dd, *values = pq + dd;
    RT_TRY(root(a, p, values, err));
    RT_TRY(root(b, q, values, err));
    RT_TRY(rt__product_with_transposed(d, p, q, pq, err));
    RT_TRY(rt__singular_values(d, pq, values, err));
    *trace = 0;
    for (int k = 0; k < d; k++) *trace += values[k];
    return RT_OK;
}

rt_status rt_frechet(const rt_statistics *a, const rt_statistics *b, double *distance, rt_error *err)
{
    if (a->d != b->d || a->d < 1 || a->d > MOST)
        RT_RAISE(RT_E_INVALID, "statistics of %lld and of %lld numbers; they must come from the same features, at most %d", (long long)a->d,
                 (long long)b->d, MOST);
    size_t d = (size_t)a->d;
    double *room = malloc((3 * d * d + d) * sizeof *room), cross = 0, sum = 0;
    if (!room) RT_RAISE(RT_E_MEMORY, "out of memory for covariances of %zux%zu", d, d);
    rt_status status = trace_of_root(a, b, room, &cross, err);
    free(room);
    RT_TRY(status);
    for (size_t k = 0; k < d; k++) {
        double e = a->mean[k] - b->mean[k];
        sum += e * e + a->covariance[k * d + k] + b->covariance[k * d + k];
    }
    *distance = fmax(sum - 2 * cross, 0); /* below 0 by rounding only */
    return RT_OK;
}

rt_status rt_frechet_points(const rt_statistics *a, const rt_points *b, double *distance, rt_error *err)
{
    rt_statistics s;
    RT_TRY(rt_statistics_of(&s, b, err));
    rt_status status = rt_frechet(a, &s, distance, err);
    rt_statistics_free(&s);
    return status;
}
