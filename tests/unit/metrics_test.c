/* metrics_test.c -- measures against closed forms and loops over their definitions; sets that are equal, tiny, degenerate or broken. */
#include "data_check.h"

#include "retort/metrics.h"

#include <omp.h>

#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        rt_error err = {0};                                                                                                                \
        if ((call) != RT_OK) fail_msg("%s: %s", #call, err.text);                                                                          \
    } while (0)

#define REFUSED(call, want, needle)                                                                                                        \
    do {                                                                                                                                   \
        rt_error err = {0};                                                                                                                \
        if ((call) != (want) || err.status != (want)) fail_msg("%s: '%s', status %d; wanted %d", #call, err.text, err.status, want);       \
        if (!strstr(err.text, needle)) fail_msg("%s: '%s' does not say '%s'", #call, err.text, needle);                                    \
        print_message("  %s\n", err.text);                                                                                                 \
    } while (0)

#define NEAR(got, want, scale, tolerance)                                                                                                  \
    do {                                                                                                                                   \
        double got_ = (got), want_ = (want), bound_ = (tolerance) * (scale);                                                               \
        if (!(fabs(got_ - want_) <= bound_))                                                                                               \
            fail_msg("%s: %.17g, want %.17g, off by %.3g > %.3g", #got, got_, want_, fabs(got_ - want_), bound_);                          \
    } while (0)

/* Numbers in (-1, 1), roughly bell-shaped so that distances differ. */
static float wobble(uint64_t *state)
{
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(*state >> 11) * 0x1p-52 - 1;
    }
    return (float)(sum / 3);
}

static rt_points some_points(int64_t n, int64_t d, uint64_t seed, double scale, double shift)
{
    float *x = malloc((size_t)(n * d) * sizeof *x);
    for (int64_t i = 0; i < n * d; i++) x[i] = (float)(scale * (double)wobble(&seed) + shift);
    return (rt_points){n, d, x};
}

static void drop(rt_points p) { free((float *)(uintptr_t)p.x); }

static double distance(const rt_points *a, int64_t i, const rt_points *b, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < a->d; k++) sum += pow((double)a->x[i * a->d + k] - (double)b->x[j * b->d + k], 2);
    return sqrt(sum);
}

/* ---- Frechet distance */

typedef struct normal {
    rt_statistics s;
    double mean[8], covariance[64];
} normal;

/* Q diag(values) Q' with Q a product of plane rotations by `angle`. */
static void make_normal(normal *n, int d, const double *mean, const double *values, double angle)
{
    double q[8][8] = {{0}};
    for (int i = 0; i < d; i++) q[i][i] = 1;
    for (int r = 0; r + 1 < d; r++)
        for (int i = 0; i < d; i++) {
            double x = q[i][r], y = q[i][r + 1];
            q[i][r] = cos(angle) * x - sin(angle) * y;
            q[i][r + 1] = sin(angle) * x + cos(angle) * y;
        }
    memset(n, 0, sizeof *n);
    for (int i = 0; i < d; i++) {
        n->mean[i] = mean[i];
        for (int j = 0; j < d; j++)
            for (int k = 0; k < d; k++) n->covariance[i * d + j] += q[i][k] * values[k] * q[j][k];
    }
    n->s = (rt_statistics){.n = 100, .d = d, .mean = n->mean, .covariance = n->covariance};
}

static void frechet_closed_forms(void **state)
{
    (void)state;
    const double mean_a[] = {1, -2, 0.5, 0, 3}, mean_b[] = {0, 1, 0.25, 2, 3}, a[] = {4, 1, 0.25, 9, 2}, b[] = {1, 2, 3, 0.5, 2};
    normal p, q;
    double d;
    /* the same eigenvectors: sum of squared differences of means and of deviations */
    for (int turn = 0; turn < 3; turn++) {
        make_normal(&p, 5, mean_a, a, 0.7 * turn);
        make_normal(&q, 5, mean_b, b, 0.7 * turn);
        double want = 0;
        for (int k = 0; k < 5; k++) want += pow(mean_a[k] - mean_b[k], 2) + pow(sqrt(a[k]) - sqrt(b[k]), 2);
        OK(rt_frechet(&p.s, &q.s, &d, &err));
        NEAR(d, want, want, TOL_MEASURE_CLOSED);
        OK(rt_frechet(&q.s, &p.s, &d, &err));
        NEAR(d, want, want, TOL_MEASURE_CLOSED);
        OK(rt_frechet(&p.s, &p.s, &d, &err));
        NEAR(d, 0, 16.25 * 2, TOL_MEASURE_CLOSED);
    }
    /* any two of 2 x 2: (tr (AB)^1/2)^2 = tr AB + 2 (det A det B)^1/2 */
    make_normal(&p, 2, mean_a, a, 0.4);
    make_normal(&q, 2, mean_b, b + 1, 1.3);
    double product = 0, want = 1 + 9 + 5 + 5;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) product += p.covariance[i * 2 + j] * q.covariance[j * 2 + i];
    want -= 2 * sqrt(product + 2 * sqrt(4. * 6));
    OK(rt_frechet(&p.s, &q.s, &d, &err));
    NEAR(d, want, 20, TOL_MEASURE_CLOSED);
}

static void frechet_without_rank(void **state)
{
    (void)state;
    /* A = u u', B = v v': the trace of the root is |u.v| */
    const double u[] = {1, 2, -1, 0.5}, v[] = {3, -1, 2, 2}, zero[4] = {0};
    normal p, q;
    double d, uu = 0, vv = 0, uv = 0;
    make_normal(&p, 4, zero, zero, 0);
    make_normal(&q, 4, zero, zero, 0);
    for (int i = 0; i < 4; i++) {
        uu += u[i] * u[i], vv += v[i] * v[i], uv += u[i] * v[i];
        for (int j = 0; j < 4; j++) p.covariance[i * 4 + j] = u[i] * u[j], q.covariance[i * 4 + j] = v[i] * v[j];
    }
    OK(rt_frechet(&p.s, &q.s, &d, &err));
    NEAR(d, uu + vv - 2 * fabs(uv), uu + vv, TOL_MEASURE_RANK);
    OK(rt_frechet(&p.s, &p.s, &d, &err));
    NEAR(d, 0, uu, TOL_MEASURE_RANK);
    memset(q.covariance, 0, sizeof q.covariance); /* one of them a single point */
    OK(rt_frechet(&p.s, &q.s, &d, &err));
    NEAR(d, uu, uu, TOL_MEASURE_RANK);
    OK(rt_frechet(&q.s, &q.s, &d, &err));
    NEAR(d, 0, 1, 0);
    /* fewer points than columns: moved and doubled copies. Doubling: tr (C + 4C - 4C) and the doubled mean */
    rt_points a = some_points(7, 40, 1, 1, 0);
    float *moved = malloc(280 * sizeof *moved), *twice = malloc(280 * sizeof *twice);
    for (int i = 0; i < 280; i++) moved[i] = a.x[i] + 0.5f, twice[i] = 2 * a.x[i];
    rt_statistics s;
    OK(rt_statistics_of(&s, &a, &err));
    double trace = 0, mean2 = 0;
    for (int k = 0; k < 40; k++) trace += s.covariance[k * 41], mean2 += s.mean[k] * s.mean[k];
    OK(rt_frechet_points(&s, &a, &d, &err));
    NEAR(d, 0, trace, TOL_MEASURE_RANK);
    OK(rt_frechet_points(&s, &(rt_points){7, 40, moved}, &d, &err));
    NEAR(d, 40 * 0.25, 10, TOL_MEASURE_RANK * 10); /* the move itself is rounded to float */
    OK(rt_frechet_points(&s, &(rt_points){7, 40, twice}, &d, &err));
    NEAR(d, trace + mean2, trace, TOL_MEASURE_RANK);
    rt_statistics_free(&s);
    free(moved);
    free(twice);
    drop(a);
}

static void statistics(void **state)
{
    (void)state;
    enum { ROWS = 700, D = 5 }; /* several blocks of rows, the last not full */
    rt_points a = some_points(ROWS, D, 4, 2, 100);
    rt_statistics s;
    OK(rt_statistics_of(&s, &a, &err));
    assert_int_equal(s.n, ROWS);
    for (int i = 0; i < D; i++) {
        long double mean[D] = {0}, c;
        for (int j = 0; j < D; j++)
            for (int r = 0; r < ROWS; r++) mean[j] += (long double)a.x[r * D + j] / ROWS;
        NEAR(s.mean[i], (double)mean[i], 100, TOL_MEASURE_CLOSED);
        for (int j = 0; j < D; j++) {
            c = 0;
            for (int r = 0; r < ROWS; r++) c += ((long double)a.x[r * D + i] - mean[i]) * ((long double)a.x[r * D + j] - mean[j]);
            NEAR(s.covariance[i * D + j], (double)(c / (ROWS - 1)), 1, TOL_MEASURE_CLOSED);
        }
    }
    rt_statistics_free(&s);
    REFUSED(rt_statistics_of(&s, &(rt_points){1, D, a.x}, &err), RT_E_INVALID, "at least 2 points");
    ((float *)(uintptr_t)a.x)[3 * D + 2] = NAN;
    REFUSED(rt_statistics_of(&s, &a, &err), RT_E_INVALID, "row 3, column 2 is nan");
    assert_null(s.mean);
    drop(a);
}

/* ---- files */

static void statistics_file(void **state)
{
    (void)state;
    rt_points a = some_points(30, 6, 4, 2, 1);
    rt_statistics s, t;
    OK(rt_statistics_of(&s, &a, &err));
    memset(s.reference_sha256, 'a', 64);
    memset(s.features_sha256, '7', 64);
    OK(rt_statistics_write(&s, at("s.safetensors"), &err));
    OK(rt_statistics_read(&t, at("s.safetensors"), &err));
    assert_int_equal(t.n, 30);
    assert_int_equal(t.d, 6);
    assert_memory_equal(s.mean, t.mean, 6 * sizeof(double));
    assert_memory_equal(s.covariance, t.covariance, 36 * sizeof(double));
    assert_string_equal(s.reference_sha256, t.reference_sha256);
    assert_string_equal(s.features_sha256, t.features_sha256);
    rt_statistics_free(&t);
#define BROKEN(change, needle)                                                                                                             \
    do {                                                                                                                                   \
        rt_statistics w = s;                                                                                                               \
        double mean[6], cov[36];                                                                                                           \
        w.mean = memcpy(mean, s.mean, sizeof mean);                                                                                        \
        w.covariance = memcpy(cov, s.covariance, sizeof cov);                                                                              \
        change;                                                                                                                            \
        OK(rt_statistics_write(&w, at("w.safetensors"), &err));                                                                            \
        REFUSED(rt_statistics_read(&t, at("w.safetensors"), &err), RT_E_INVALID, needle);                                                  \
        assert_null(t.mean);                                                                                                               \
    } while (0)
    BROKEN(w.n = 1, "tensor 'n' is 1");
    BROKEN(mean[3] = NAN, "'mean' holds nan at 3");
    BROKEN(cov[6 * 2 + 4] += 0.1, "symmetric");
    BROKEN(cov[0] = INFINITY, "'cov' holds inf");
    BROKEN(cov[7] = -1, "variance -1");
    rt_named_tensor x = {"mean", RT_F64, 1, (const int64_t[]){6}, s.mean},
                    two[] = {x, {"cov", RT_F64, 2, (const int64_t[]){4, 9}, s.covariance}};
    OK(rt_tensors_write(at("w.safetensors"), &x, 1, NULL, &err));
    REFUSED(rt_statistics_read(&t, at("w.safetensors"), &err), RT_E_INVALID, "'cov' is missing");
    OK(rt_tensors_write(at("w.safetensors"), two, 2, NULL, &err));
    REFUSED(rt_statistics_read(&t, at("w.safetensors"), &err), RT_E_INVALID, "4x9");
    x.dtype = RT_I64;
    OK(rt_tensors_write(at("w.safetensors"), &x, 1, NULL, &err));
    REFUSED(rt_statistics_read(&t, at("w.safetensors"), &err), RT_E_INVALID, "'mean' is I64");
    REFUSED(rt_statistics_read(&t, at("nowhere.safetensors"), &err), RT_E_IO, "nowhere");
    /* symmetric, with positive variances, and yet no covariance */
    double d;
    s.covariance[1] = s.covariance[6] = 100;
    REFUSED(rt_frechet(&s, &s, &d, &err), RT_E_INVALID, "eigenvalue -");
    rt_statistics_free(&s);
    drop(a);
}

/* ---- sums over pairs */

/* Means of f(|x - y|, x.y) over pairs, by the definition. */
static double mean_of_pairs(const rt_points *a, const rt_points *b, bool diagonal, double (*f)(double length, double product, double h),
                            double h)
{
    double sum = 0, count = 0;
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t j = 0; j < b->n; j++) {
            double product = 0;
            if (a == b && i == j && !diagonal) continue;
            for (int64_t k = 0; k < a->d; k++) product += (double)a->x[i * a->d + k] * (double)b->x[j * a->d + k];
            sum += f(distance(a, i, b, j), product, h);
            count++;
        }
    return sum / count;
}

static double cubic(double length, double product, double d) { return (void)length, pow(product / d + 1, 3); }
static double bell(double length, double product, double h) { return (void)product, exp(-length * length / (2 * h * h)); }
static double itself(double length, double product, double h) { return (void)product, (void)h, length; }

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static void pairs_against_loops(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{2, 2, 1}, {37, 45, 3}, {33, 2, 17}, {300, 260, 2}, {5, 64, 40}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t d = sizes[s][2];
        rt_points a = some_points(sizes[s][0], d, 1 + s, 1, 0), b = some_points(sizes[s][1], d, 99 + s, 1.3, 0.2);
        double got, v, u, h = 0.7;
        double want = mean_of_pairs(&a, &a, false, cubic, (double)d) + mean_of_pairs(&b, &b, false, cubic, (double)d) -
                      2 * mean_of_pairs(&a, &b, true, cubic, (double)d);
        OK(rt_kid(&a, &b, &got, &err));
        NEAR(got, want, 3, TOL_MEASURE_CLOSED);
        want = mean_of_pairs(&a, &a, false, bell, h) + mean_of_pairs(&b, &b, false, bell, h) - 2 * mean_of_pairs(&a, &b, true, bell, h);
        OK(rt_mmd(&a, &b, h, &got, &err));
        NEAR(got, want, 1, TOL_MEASURE_CLOSED);
        double *lengths = malloc((size_t)(a.n * a.n) * sizeof *lengths);
        size_t n = 0;
        for (int64_t i = 0; i < a.n; i++)
            for (int64_t j = 0; j < i; j++) lengths[n++] = distance(&a, i, &a, j);
        qsort(lengths, n, sizeof *lengths, ascending);
        OK(rt_mmd(&a, &b, (lengths[(n - 1) / 2] + lengths[n / 2]) / 2, &want, &err));
        OK(rt_mmd(&a, &b, 0, &got, &err));
        NEAR(got, want, 1, TOL_MEASURE_CLOSED);
        free(lengths);
        OK(rt_energy_distance(&a, &b, &v, &u, &err));
        want = 2 * mean_of_pairs(&a, &b, true, itself, 0) - mean_of_pairs(&a, &a, true, itself, 0) - mean_of_pairs(&b, &b, true, itself, 0);
        NEAR(v, want, 10, TOL_MEASURE_CLOSED);
        want =
            2 * mean_of_pairs(&a, &b, true, itself, 0) - mean_of_pairs(&a, &a, false, itself, 0) - mean_of_pairs(&b, &b, false, itself, 0);
        NEAR(u, want, 10, TOL_MEASURE_CLOSED);
        drop(a);
        drop(b);
    }
}

static void pairs_degenerate(void **state)
{
    (void)state;
    double v, u;
    /* close together and far from the origin: |a|^2 + |b|^2 - 2 a.b would see nothing */
    const float far[] = {1e4f, 1e4f + 0.0009765625f}, zero[] = {0}, three[] = {3}, same[] = {2, 2, 2};
    OK(rt_energy_distance(&(rt_points){1, 1, far}, &(rt_points){1, 1, far + 1}, &v, NULL, &err));
    NEAR(v, 2 * 0.0009765625, 0.002, TOL_MEASURE_CLOSED);
    OK(rt_energy_distance(&(rt_points){1, 1, zero}, &(rt_points){1, 1, three}, &v, NULL, &err));
    NEAR(v, 6, 0, 0);
    REFUSED(rt_energy_distance(&(rt_points){1, 1, zero}, &(rt_points){1, 1, three}, &v, &u, &err), RT_E_INVALID, "at least 2");
    rt_points a = some_points(50, 7, 3, 1, 5);
    OK(rt_energy_distance(&a, &a, &v, NULL, &err));
    NEAR(v, 0, 0, 0); /* equal sets: exactly */
    REFUSED(rt_kid(&(rt_points){1, 7, a.x}, &a, &v, &err), RT_E_INVALID, "reference: 1 points");
    REFUSED(rt_kid(&a, &(rt_points){1, 7, a.x}, &v, &err), RT_E_INVALID, "samples: 1 points");
    REFUSED(rt_kid(&a, &(rt_points){50, 6, a.x}, &v, &err), RT_E_INVALID, "7 numbers per point, samples have 6");
    REFUSED(rt_mmd(&(rt_points){3, 1, same}, &(rt_points){3, 1, same}, 0, &v, &err), RT_E_INVALID, "median distance");
    REFUSED(rt_mmd(&a, &a, -1, &v, &err), RT_E_USAGE, "bandwidth of -1");
    ((float *)(uintptr_t)a.x)[8] = INFINITY;
    REFUSED(rt_energy_distance(&a, &a, &v, NULL, &err), RT_E_INVALID, "reference: row 1, column 1 is inf");
    drop(a);
}

/* ---- sliced Wasserstein */

static void sliced(void **state)
{
    (void)state;
    const float one[] = {1}, a2[] = {1, 0}, a4[] = {0, 1, 1, 0}, b2[] = {3, 1}, zero[] = {0}, x3[] = {5, 1, 3}, y3[] = {2, 4, 4};
    double d;
    OK(rt_sliced_wasserstein2(&(rt_points){2, 1, a2}, &(rt_points){4, 1, a4}, 1, one, &d, &err)); /* the same distribution */
    NEAR(d, 0, 0, 0);
    OK(rt_sliced_wasserstein2(&(rt_points){1, 1, zero}, &(rt_points){2, 1, b2}, 1, one, &d, &err));
    NEAR(d, (1 + 9) / 2., 5, TOL_MEASURE_CLOSED);
    OK(rt_sliced_wasserstein2(&(rt_points){3, 1, x3}, &(rt_points){3, 1, y3}, 1, one, &d, &err));
    NEAR(d, (1 + 1 + 1) / 3., 1, TOL_MEASURE_CLOSED);
    /* {0,1} against {1,3,5}/1: thirds and halves: quantiles 0,0|1 against 1|3|5 on cuts 1/3, 1/2, 2/3 */
    const float b3[] = {1, 3, 5};
    OK(rt_sliced_wasserstein2(&(rt_points){2, 1, a2}, &(rt_points){3, 1, b3}, 1, one, &d, &err));
    NEAR(d, 1 / 3. + 9 / 6. + 4 / 6. + 16 / 3., 7, TOL_MEASURE_CLOSED);
    /* a shift by s: the mean of (u.s)^2, which tends to |s|^2 / d */
    enum { D = 6, M = 20000 };
    rt_points a = some_points(20, D, 8, 1, 0);
    float moved[20 * D], *u = malloc(M * D * sizeof *u), again[D];
    for (int i = 0; i < 20 * D; i++) moved[i] = a.x[i] + (i % D == 2 ? 4.f : i % D == 5 ? -3.f : 0.f);
    rt_directions(77, M, D, u);
    double want = 0, second[D][D] = {{0}};
    for (int i = 0; i < M; i++) {
        double norm2 = 0;
        for (int k = 0; k < D; k++) {
            norm2 += (double)u[i * D + k] * u[i * D + k];
            for (int l = 0; l < D; l++) second[k][l] += (double)u[i * D + k] * u[i * D + l] / M;
        }
        NEAR(norm2, 1, 1, 1e-6);
        want += pow(4 * (double)u[i * D + 2] - 3 * (double)u[i * D + 5], 2) / M;
    }
    for (int k = 0; k < D; k++)
        for (int l = 0; l < D; l++)
            NEAR(second[k][l], k == l ? 1. / D : 0, sqrt(1. / (D * (D + 2) * (double)M)), 6); /* standard errors, about */
    OK(rt_sliced_wasserstein2(&a, &(rt_points){20, D, moved}, M, u, &d, &err));
    NEAR(d, want, want, 1e-6); /* the shift is rounded to float */
    NEAR(d, 25. / D, 25. / D, 0.05);
    rt_directions(77, 1, D, again); /* direction 0 is the same however many there are */
    assert_memory_equal(again, u, sizeof again);
    rt_directions(78, 1, D, again);
    assert_memory_not_equal(again, u, sizeof again);
    free(u);
    drop(a);
}

/* ---- neighbours */

/* The definitions, one sorted row of distances at a time. */
static void by_definition(const rt_points *a, const rt_points *b, int k, rt_neighbours *out)
{
    double *ra = malloc((size_t)a->n * sizeof *ra), *rb = malloc((size_t)b->n * sizeof *rb),
           *row = malloc((size_t)(a->n + b->n) * sizeof *row);
    for (int set = 0; set < 2; set++) {
        const rt_points *p = set ? b : a;
        for (int64_t i = 0; i < p->n; i++) {
            int64_t n = 0;
            for (int64_t j = 0; j < p->n; j++)
                if (j != i) row[n++] = distance(p, i, p, j);
            qsort(row, (size_t)n, sizeof *row, ascending);
            (set ? rb : ra)[i] = row[k - 1];
        }
    }
    double precision = 0, recall = 0, density = 0, coverage = 0;
    for (int64_t j = 0; j < b->n; j++) {
        int in = 0;
        for (int64_t i = 0; i < a->n; i++) in += distance(a, i, b, j) < ra[i];
        precision += in > 0;
        density += in;
    }
    for (int64_t i = 0; i < a->n; i++) {
        bool covered = false, real = false;
        for (int64_t j = 0; j < b->n; j++) {
            covered = covered || distance(a, i, b, j) < ra[i];
            real = real || distance(a, i, b, j) < rb[j];
        }
        coverage += covered;
        recall += real;
    }
    *out = (rt_neighbours){precision / (double)b->n, recall / (double)a->n, density / (double)k / (double)b->n, coverage / (double)a->n};
    free(ra);
    free(rb);
    free(row);
}

static void check_neighbours(const rt_points *a, const rt_points *b, int k, rt_neighbours want)
{
    rt_neighbours got;
    OK(rt_nearest_neighbours(a, b, k, &got, NULL, NULL, &err));
    NEAR(got.precision, want.precision, 0, 0);
    NEAR(got.recall, want.recall, 0, 0);
    NEAR(got.density, want.density, 1, TOL_MEASURE_CLOSED);
    NEAR(got.coverage, want.coverage, 0, 0);
}

static void neighbourhoods(void **state)
{
    (void)state;
    rt_neighbours want;
    for (int k = 1; k <= 9; k += 4) {
        rt_points a = some_points(131, 4, (uint64_t)k, 1, 0), b = some_points(90, 4, 55, 1.4, 0.1);
        by_definition(&a, &b, k, &want);
        assert_true(want.precision > 0.05 && want.precision < 0.95);
        check_neighbours(&a, &b, k, want);
        by_definition(&a, &a, k, &want);
        assert_true(want.precision == 1 && want.coverage == 1);
        check_neighbours(&a, &a, k, want);
        drop(a);
        drop(b);
    }
    /* a line of whole numbers, k = 1: radius 1 and strictly less, so a point at a whole number is in one ball, between two numbers in two */
    const float line[] = {0, 1, 2, 3}, halves[] = {0.5f, 10, 20}, duplicates[] = {1, 1, 5, 5};
    check_neighbours(&(rt_points){4, 1, line}, &(rt_points){4, 1, line}, 1, (rt_neighbours){1, 1, 1, 1});
    check_neighbours(&(rt_points){4, 1, line}, &(rt_points){3, 1, halves}, 1,
                     (rt_neighbours){1. / 3, 1, 2. / 3, 2. / 4}); /* 0.5: radius 9.5 */
    check_neighbours(&(rt_points){4, 1, duplicates}, &(rt_points){4, 1, duplicates}, 1,
                     (rt_neighbours){0, 0, 0, 0}); /* balls of radius 0 */
    REFUSED(rt_nearest_neighbours(&(rt_points){4, 1, line}, &(rt_points){3, 1, halves}, 3, &want, NULL, NULL, &err), RT_E_INVALID,
            "at least 4 points");
    REFUSED(rt_nearest_neighbours(&(rt_points){4, 1, line}, &(rt_points){3, 1, halves}, 0, &want, NULL, NULL, &err), RT_E_USAGE,
            "0 neighbours");
}

/* ---- the rest */

static void rms(void **state)
{
    (void)state;
    const float a[] = {1, 2, 3, 4, 5, 6}, b[] = {1, 2, 3, 4, 5, 9};
    double d;
    OK(rt_rms(&(rt_points){3, 2, a}, &(rt_points){3, 2, b}, &d, &err));
    NEAR(d, sqrt(9. / 6), 1, TOL_MEASURE_CLOSED);
    REFUSED(rt_rms(&(rt_points){3, 2, a}, &(rt_points){2, 2, b}, &d, &err), RT_E_INVALID, "3 points against 2");
}

static void quantised(void **state)
{
    (void)state;
    const double ranges[][2] = {{-1, 1}, {0, 1}, {-0.5, 2}};
    unsigned char idx[12 + 256] = {0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 1, 0};
    for (int i = 0; i < 256; i++) idx[12 + i] = (unsigned char)i;
    put("levels-idx2", idx, sizeof idx);
    rt_dataset *ds = opened(at("levels-idx2"));
    for (int r = 0; r < 3; r++) {
        double low = ranges[r][0], high = ranges[r][1];
        float levels[256], x[4000], out[4000];
        uint8_t bytes[4000];
        uint64_t seed = 5;
        rt_dataset_range(ds, low, high, false);
        rt_dataset_read(ds, 0, levels, NULL);
        rt_quantise(256, low, high, levels, out);
        assert_memory_equal(out, levels, sizeof levels); /* what pictures hold stays as it is */
        for (int i = 0; i < 4000; i++) x[i] = (float)(low + (high - low) * (0.5 + 1.2 * (double)wobble(&seed)));
        x[7] = NAN, x[8] = INFINITY, x[9] = -INFINITY;
        if (r == 1) x[10] = 0.5f; /* half of 255: a tie */
        rt_quantise(4000, low, high, x, out);
        rt_pixels_from_values(x, 1, 1, 4000, low, high, bytes); /* what a picture file gets */
        for (int i = 0; i < 4000; i++) assert_true(out[i] == levels[bytes[i]]);
        for (int i = 10; i < 4000; i++)
            if ((double)x[i] >= low && (double)x[i] <= high) NEAR((double)out[i], (double)x[i], (high - low) / 510, 1 + 1e-4);
    }
    rt_dataset_free(ds);
}

/* The same bits with any number of threads. */
static void threads(void **state)
{
    (void)state;
    static const char *const names[] = {"kid", "mmd", "energy", "density", "recall", "sliced-wasserstein"};
    enum { N = sizeof names / sizeof *names };
    rt_points a = some_points(1100, 9, 1, 1, 0), b = some_points(900, 9, 2, 1.2, 0.1);
    const rt_measure *m[N];
    double one[N], many[N];
    int before = omp_get_max_threads();
    for (int i = 0; i < N; i++) assert_non_null(m[i] = rt_measure_find(names[i], NULL));
    omp_set_num_threads(1);
    OK(rt_measure_all(m, N, &a, &b, NULL, one, &err));
    omp_set_num_threads(3);
    OK(rt_measure_all(m, N, &a, &b, NULL, many, &err));
    omp_set_num_threads(before);
    assert_memory_equal(one, many, sizeof one);
    drop(a);
    drop(b);
}

static void table(void **state)
{
    (void)state;
    rt_row_text row;
    rt_points a = some_points(40, 3, 1, 1, 0), b = some_points(40, 3, 2, 1, 0.5);
    const rt_measure *m, *all[16];
    double together[16], alone, want;
    int n = 0;
    while ((m = rt_measure_at(n))) {
        rt_error e = {0};
        assert_true(rt_measure_describe(n, &row) && !strcmp(row.name, m->name) && *row.source && *row.text && *m->symbol);
        assert_ptr_equal(rt_measure_find(m->name, &e), m);
        all[n++] = m;
    }
    assert_int_equal(n, 13);
    assert_false(rt_measure_describe(n, &row));
    rt_oracle *oracle = NULL;
    OK(rt_oracle_mixture(&oracle, 2, 3, (double[]){0.5, 0.5}, (double[]){0.5, 0.5, 0.5, 90, 90, 90},
                         (double[]){0.01, 0, 0, 0, 0.01, 0, 0, 0, 0.01, 1, 0, 0, 0, 1, 0, 0, 0, 1}, NULL, NULL, &err));
    const rt_measure_options known = {.oracle = oracle};
    OK(rt_measure_all(all, n, &a, &b, &known, together, &err));
    for (int i = 0; i < n; i++) {
        OK(rt_measure_all(&all[i], 1, &a, &b, &known, &alone, &err));
        NEAR(alone, together[i], 0, 0);
    }
    /* options arrive: other statistics, another bandwidth, other directions, other k */
    rt_statistics s;
    OK(rt_statistics_of(&s, &b, &err));
    const rt_measure_options o = {.statistics = &s, .k = 3, .directions = 7, .seed = 9, .bandwidth = 0.3};
    OK(rt_measure_all((const rt_measure *[]){rt_measure_find("frechet", NULL)}, 1, &a, &b, &o, &alone, &err));
    NEAR(alone, 0, 1, TOL_MEASURE_CLOSED);
    OK(rt_mmd(&a, &b, 0.3, &want, &err));
    OK(rt_measure_all((const rt_measure *[]){rt_measure_find("mmd", NULL)}, 1, &a, &b, &o, &alone, &err));
    NEAR(alone, want, 0, 0);
    float u[21];
    rt_directions(9, 7, 3, u);
    OK(rt_sliced_wasserstein2(&a, &b, 7, u, &want, &err));
    OK(rt_measure_all((const rt_measure *[]){rt_measure_find("sliced-wasserstein", NULL)}, 1, &a, &b, &o, &alone, &err));
    NEAR(alone, sqrt(want), 0, 0);
    rt_neighbours balls;
    OK(rt_nearest_neighbours(&a, &b, 3, &balls, NULL, NULL, &err));
    OK(rt_measure_all((const rt_measure *[]){rt_measure_find("coverage", NULL)}, 1, &a, &b, &o, &alone, &err));
    NEAR(alone, balls.coverage, 0, 0);
    /* of what is measured, not of the reference: b is shifted to where one part lies, the other has nothing */
    rt_modes modes;
    OK(rt_oracle_modes(oracle, b.n, b.x, &modes, &err));
    assert_true(modes.near > 0 && modes.near < 1);
    NEAR(together[11], modes.near, 0, 0);
    NEAR(together[12], 1, 0, 0);
    const rt_measure *near_modes = rt_measure_find("near-modes", NULL);
    REFUSED(rt_measure_all(&near_modes, 1, &a, &b, NULL, &alone, &err), RT_E_USAGE, "there is none");
    rt_points narrow = {b.n, 2, b.x};
    REFUSED(rt_measure_all(&near_modes, 1, &a, &narrow, &known, &alone, &err), RT_E_INVALID, "samples of 2 numbers, an oracle of 3");
    rt_oracle_free(oracle);
    rt_statistics_free(&s);
    rt_error e = {0};
    assert_null(rt_measure_find("frechett", &e));
    assert_int_equal(e.status, RT_E_USAGE);
    assert_non_null(strstr(e.text, "did you mean frechet"));
    a.n = 1;
    REFUSED(rt_measure_all((const rt_measure *[]){rt_measure_find("kid", NULL)}, 1, &a, &b, NULL, &alone, &err), RT_E_INVALID,
            "kid: reference: 1 points");
    drop(a);
    drop(b);
}

/* PSNR and SSIM in closed form for constant pictures, SSIM of noise against a loop over one window, in the smallest picture that holds one and in a smaller one. */
static void views(void **state)
{
    (void)state;
    enum { C = 3, N = 11 };
    float a[C * N * N], b[C * N * N];
    for (int i = 0; i < C * N * N; i++) a[i] = 0.3f, b[i] = 0.5f;
    NEAR(rt_psnr(C * N * N, a, b, 1), -20 * log10(0.2), 1, 1e-6);
    NEAR(rt_psnr(C * N * N, a, b, 2), -20 * log10(0.1), 1, 1e-6);
    assert_true(isinf(rt_psnr(5, a, a, 1)));
    NEAR(rt_ssim(C, N, N, a, b, 1), (2 * 0.15 + 1e-4) / (0.09 + 0.25 + 1e-4), 1, 1e-6);
    NEAR(rt_ssim(C, N, N, a, b, 2), (2 * 0.15 + 4e-4) / (0.09 + 0.25 + 4e-4), 1, 1e-6);
    for (int i = 0; i < C * N * N; i++) a[i] = (float)(i * i % 97) / 97, b[i] = (float)(i * i % 89) / 89;
    NEAR(rt_ssim(C, N, N, a, a, 1), 1, 1, 1e-12);
    static const int sides[] = {11, 5}; /* of the window; of the picture: 11 and 6 */
    for (int k = 0; k < 2; k++) {
        double sum = 0, w[N][N], all = 0;
        int n = sides[k], side = n + (n < N), along = side - n + 1;
        for (int y = 0; y < n; y++)
            for (int x = 0; x < n; x++) all += w[y][x] = exp(-((y - n / 2) * (y - n / 2) + (x - n / 2) * (x - n / 2)) / 4.5);
        for (int window = 0; window < C * along * along; window++) {
            double p = 0, q = 0, pp = 0, qq = 0, pq = 0;
            for (int pass = 0; pass < 2; pass++) /* means, then moments about them */
                for (int y = 0; y < n; y++)
                    for (int x = 0; x < n; x++) {
                        int at = (window % C * side + window / C / along + y) * side + window / C % along + x;
                        double u = (double)a[at] - (pass ? p : 0), v = (double)b[at] - (pass ? q : 0), weight = w[y][x] / all;
                        if (pass)
                            pp += weight * u * u, qq += weight * v * v, pq += weight * u * v;
                        else
                            p += weight * u, q += weight * v;
                    }
            sum += (2 * p * q + 1e-4) * (2 * pq + 9e-4) / ((p * p + q * q + 1e-4) * (pp + qq + 9e-4));
        }
        NEAR(rt_ssim(C, side, side, a, b, 1), sum / (C * along * along), 1, 1e-10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frechet_closed_forms),
        cmocka_unit_test(frechet_without_rank),
        cmocka_unit_test(statistics),
        cmocka_unit_test(statistics_file),
        cmocka_unit_test(pairs_against_loops),
        cmocka_unit_test(pairs_degenerate),
        cmocka_unit_test(sliced),
        cmocka_unit_test(neighbourhoods),
        cmocka_unit_test(rms),
        cmocka_unit_test(quantised),
        cmocka_unit_test(threads),
        cmocka_unit_test(table),
        cmocka_unit_test(views),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
