/* oracle_data_test.c -- data sets as oracles, against sums in long double, mixtures of narrow normal distributions and one sample's closed forms; classes
 * of every kind against Bayes' rule. */
#include "diffusion_check.h"

#include "retort/format.h"
#include "retort/model.h"

#include <float.h>
#include <omp.h>
#include <unistd.h>

static float *make_samples(int64_t n, int64_t d, uint64_t seed)
{
    float *x = malloc(sizeof(float) * (size_t)(n * d));
    for (int64_t i = 0; i < n * d; i++) x[i] = (float)wobble(&seed);
    return x;
}

/* A standard normal number, near enough: the sum of twelve uniform ones. */
static double noise(uint64_t *seed)
{
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += wobble(seed) / 2;
    return sum;
}

/* E[x0 | x], the score and log p_t(x) by their definitions. */
static void by_definition(int64_t n, int64_t d, const float *data, double alpha, double beta, const double *x, double *mean, double *score,
                          double *log_p)
{
    long double *l = malloc(sizeof(long double) * (size_t)n), top = -INFINITY, sum = 0, a = alpha, square = (long double)beta * beta;
    for (int64_t j = 0; j < n; j++) {
        l[j] = 0;
        for (int64_t k = 0; k < d; k++) {
            long double e = x[k] - a * data[j * d + k];
            l[j] -= e * e / (2 * square);
        }
        top = fmaxl(top, l[j]);
    }
    for (int64_t j = 0; j < n; j++) sum += l[j] = expl(l[j] - top);
    long double *m = calloc(2 * (size_t)d, sizeof *m), *s = m + d;
    for (int64_t j = 0; j < n; j++)
        for (int64_t k = 0; l[j] > 0 && k < d; k++) {
            m[k] += l[j] / sum * data[j * d + k];
            s[k] += l[j] / sum * (a * data[j * d + k] - x[k]) / square;
        }
    for (int64_t k = 0; k < d; k++) mean[k] = (double)m[k], score[k] = (double)s[k];
    free(m);
    *log_p = (double)(top + logl(sum / n) - d * 0.5L * logl(2 * acosl(-1) * square));
    free(l);
}

/* Over log-SNR -20..20, at noised samples (mixed == 0) or at points half way between two of them, where the softmax hangs by the last digits. The
 * distances are the condition. */
static void compare(int64_t n, int64_t d, bool between)
{
    enum { ROWS = 7 };
    uint64_t seed = 77;
    float *data = make_samples(n, d, 5 + (uint64_t)n);
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_data(&o, n, d, data, NULL, NULL, &err));
    size_t size = sizeof(double) * (size_t)(ROWS * d);
    double *x = malloc(size), *mean = malloc(size), *score = malloc(size), log_p[ROWS], *want = malloc(2 * size), want_p, worst = 0,
           worst_p = 0, most = 0;
    for (double log_snr = -20; log_snr <= 20; log_snr += 2.5) {
        double alpha = sqrt(1 / (1 + exp(-log_snr))), beta = sqrt(1 / (1 + exp(log_snr)));
        for (int r = 0; r < ROWS; r++)
            for (int64_t k = 0; k < d; k++) {
                double a = (double)data[(r * 13) % n * d + k], b = (double)data[(r * 13 + 1) % n * d + k];
                x[r * d + k] = alpha * (between ? (a + b) / 2 : a) + beta * noise(&seed);
            }
        CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, ROWS, x, mean, &err));
        CHECK_OK(rt_oracle_score(o, alpha, beta, ROWS, x, score, &err));
        CHECK_OK(rt_oracle_log_density(o, alpha, beta, ROWS, x, log_p, &err));
        for (int r = 0; r < ROWS; r++) {
            by_definition(n, d, data, alpha, beta, x + r * d, want, want + d, &want_p);
            /* of the samples that count: E = |x - alpha d|^2 / (2 beta^2), in which alpha d is rounded, too */
            double E = fabs(want_p + (double)d / 2 * log(2 * M_PI * beta * beta)), length = 0;
            for (int64_t k = 0; k < d; k++) length += x[r * d + k] * x[r * d + k];
            double exponent = 1 + E + sqrt(2 * E * length) / beta, bound = TOL_DATA_ORACLE * exponent;
            for (int64_t k = 0; k < d; k++) {
                double size_x = fabs(x[r * d + k]) + alpha;
                worst = fmax(worst, fabs(mean[r * d + k] - want[k]) / exponent);
                most = fmax(most, fabs(mean[r * d + k] - want[k]));
                CHECK_NEAR(mean[r * d + k], want[k], bound, "mean of %d at log-SNR %g, row %d", (int)n, log_snr, r);
                CHECK_NEAR(score[r * d + k], want[d + k], bound * size_x / (beta * beta), "score, log-SNR %g, row %d", log_snr, r);
            }
            worst_p = fmax(worst_p, fabs(log_p[r] - want_p) / (exponent + fabs((double)d * log(beta))));
            CHECK_NEAR(log_p[r], want_p, bound + TOL_DATA_ORACLE * fabs((double)d * log(beta)), "log density at log-SNR %g, row %d",
                       log_snr, r);
        }
    }
    print_message("n %d, d %d%s: means differ by %.2g, or %.2g of the condition; log densities by %.2g of it\n", (int)n, (int)d,
                  between ? ", between" : "", most, worst, worst_p);
    rt_oracle_free(o);
    free(data), free(x), free(mean), free(score), free(want);
}

static void against_the_definition(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {5, 3}, {33, 40}, {700, 17}, {1000, 100}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int between = 0; between < 2; between++) compare(sizes[i][0], sizes[i][1], between);
}

/* beta 1e-4 in 784 dimensions, at a point between two samples that differ by 1/128 in one number: both count. By |x|^2 - 2 alpha x.d + |d|^2 the exponents
 * would be wrong by about |x|^2 / (2 beta^2) units of rounding: 1e-6 in double, 1000 in float. */
static void near_data(void **state)
{
    (void)state;
    enum { N = 100, D = 784 };
    float *data = make_samples(N, D, 3);
    memcpy(data + D, data, sizeof(float) * D);
    data[D + 400] += 0x1p-7f;
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_data(&o, N, D, data, NULL, NULL, &err));
    const double beta = 1e-4, alpha = sqrt(1 - beta * beta);
    double x[D], mean[D], want[D], score[D], log_p;
    uint64_t seed = 8;
    for (int k = 0; k < D; k++) x[k] = alpha * (double)data[k] + beta * noise(&seed);
    x[400] = alpha * ((double)data[400] + 0x1p-8 + 1e-7);
    CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, 1, x, mean, &err));
    by_definition(N, D, data, alpha, beta, x, want, score, &log_p);
    double share = (want[400] - (double)data[400]) * 0x1p7;
    assert_true(share > 0.51 && share < 0.99);
    for (int k = 0; k < D; k++) CHECK_NEAR(mean[k], want[k], 1e-13, "number %d", k);
    rt_oracle_free(o);
    free(data);
}

/* A mixture of normal distributions of variance v is the data set as v goes to 0: posterior means, scores and densities differ by O(v / beta^2). */
static void narrow_mixture(void **state)
{
    (void)state;
    enum { N = 40, D = 3, ROWS = 70 };
    const double v = 1e-14;
    float *data = make_samples(N, D, 21);
    double weights[N], means[N * D], covariances[N * D * D] = {0}, x[ROWS * D], a[ROWS * D], b[ROWS * D];
    uint64_t seed = 4;
    for (int k = 0; k < N; k++) {
        weights[k] = 1.0 / N;
        for (int i = 0; i < D; i++) {
            means[k * D + i] = (double)data[k * D + i];
            covariances[(k * D + i) * D + i] = v;
        }
    }
    rt_oracle *o = NULL, *m = NULL;
    CHECK_OK(rt_oracle_data(&o, N, D, data, NULL, NULL, &err));
    CHECK_OK(rt_oracle_mixture(&m, N, D, weights, means, covariances, NULL, NULL, &err));
    for (double beta = 0.02; beta < 1; beta *= 2) {
        double alpha = sqrt(1 - beta * beta), bound = 1e-12 + 100 * v / (beta * beta);
        for (int i = 0; i < ROWS * D; i++) x[i] = 1.5 * wobble(&seed);
        CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, ROWS, x, a, &err));
        CHECK_OK(rt_oracle_posterior_mean(m, alpha, beta, ROWS, x, b, &err));
        for (int i = 0; i < ROWS * D; i++) CHECK_NEAR(a[i], b[i], bound * (1 + 1 / (beta * beta)), "mean, beta %g", beta);
        CHECK_OK(rt_oracle_score(o, alpha, beta, ROWS, x, a, &err));
        CHECK_OK(rt_oracle_score(m, alpha, beta, ROWS, x, b, &err));
        for (int i = 0; i < ROWS * D; i++) CHECK_NEAR(a[i], b[i], bound * 2 / pow(beta, 4), "score, beta %g", beta);
        CHECK_OK(rt_oracle_log_density(o, alpha, beta, ROWS, x, a, &err));
        CHECK_OK(rt_oracle_log_density(m, alpha, beta, ROWS, x, b, &err));
        for (int i = 0; i < ROWS; i++) CHECK_NEAR(a[i], b[i], bound * 2 / (beta * beta), "log density, beta %g", beta);
    }
    CHECK_OK(rt_oracle_flow_map(o, 0.3, 0.95, 0.8, 0.6, 5, x, a, &err));
    CHECK_OK(rt_oracle_flow_map(m, 0.3, 0.95, 0.8, 0.6, 5, x, b, &err));
    for (int i = 0; i < 5 * D; i++) CHECK_NEAR(a[i], b[i], TOL_FLOW_ORACLE, "flow map, %d", i);
    rt_oracle_free(o), rt_oracle_free(m);
    free(data);
}

/* Of one sample: x_t = alpha_t d + (beta_t / beta_s) (x_s - alpha_s d). Of many: semigroup, inverse, and data at the end. */
static void flow_maps(void **state)
{
    (void)state;
    enum { N = 50, D = 2, ROWS = 6 };
    float *data = make_samples(N, D, 99);
    rt_oracle *one = NULL, *o = NULL;
    CHECK_OK(rt_oracle_data(&one, 1, D, data, NULL, NULL, &err));
    CHECK_OK(rt_oracle_data(&o, N, D, data, NULL, NULL, &err));
    double x[ROWS * D], got[ROWS * D], half[ROWS * D], back[ROWS * D];
    uint64_t seed = 6;
    for (int i = 0; i < ROWS * D; i++) x[i] = noise(&seed);
    static const double to[][2] = {{0.8, 0.6}, {1, 1e-3}, {1, 1e-8}, {1, 0}};
    for (int t = 0; t < 4; t++) {
        CHECK_OK(rt_oracle_flow_map(one, 0.1, 0.995, to[t][0], to[t][1], ROWS, x, got, &err));
        for (int i = 0; i < ROWS * D; i++) {
            double d = (double)data[i % D];
            CHECK_NEAR(got[i], to[t][0] * d + to[t][1] / 0.995 * (x[i] - 0.1 * d), TOL_FLOW_ORACLE, "one sample, to beta %g", to[t][1]);
        }
    }
    CHECK_OK(rt_oracle_flow_map(o, 0.1, 0.995, 0.97, 0.25, ROWS, x, got, &err));
    CHECK_OK(rt_oracle_flow_map(o, 0.1, 0.995, 0.6, 0.8, ROWS, x, half, &err));
    CHECK_OK(rt_oracle_flow_map(o, 0.6, 0.8, 0.97, 0.25, ROWS, half, half, &err));
    for (int i = 0; i < ROWS * D; i++) CHECK_NEAR(half[i], got[i], TOL_FLOW_ORACLE, "semigroup, %d", i);
    CHECK_OK(rt_oracle_flow_map(o, 0.97, 0.25, 0.1, 0.995, ROWS, got, back, &err));
    for (int i = 0; i < ROWS * D; i++) CHECK_NEAR(back[i], x[i], 10 * TOL_FLOW_ORACLE, "inverse, %d", i);
    CHECK_OK(rt_oracle_flow_map(o, 0.1, 0.995, 1, 0, ROWS, x, got, &err));
    CHECK_OK(rt_oracle_flow_map(o, 0.1, 0.995, 1, 1e-9, ROWS, x, half, &err));
    for (int r = 0; r < ROWS; r++) {
        double nearest = INFINITY;
        for (int j = 0; j < N; j++)
            nearest = fmin(nearest, hypot(got[r * D] - (double)data[j * D], got[r * D + 1] - (double)data[j * D + 1]));
        CHECK_NEAR(nearest, 0, 1e-14, "row %d ends at a sample", r);
        CHECK_NEAR(half[r * D], got[r * D], 2e-8, "row %d, just before", r);
    }
    CHECK_OK(rt_oracle_flow_map(o, 1, 1e-9, 1, 1e-7, ROWS, half, back, &err)); /* a straight line there and back */
    CHECK_OK(rt_oracle_flow_map(o, 1, 1e-7, 1, 1e-9, ROWS, back, back, &err));
    for (int i = 0; i < ROWS * D; i++) CHECK_NEAR(back[i], half[i], 1e-15, "line, %d", i);
    rt_oracle_free(one), rt_oracle_free(o);
    free(data);
}

/* Threads change no bit, nor does the company of a row. */
static void bits(void **state)
{
    (void)state;
    enum { N = 1500, D = 50, ROWS = 131 };
    float *data = make_samples(N, D, 1);
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_data(&o, N, D, data, NULL, NULL, &err));
    double *x = malloc(sizeof(double) * ROWS * D), *a = malloc(sizeof(double) * ROWS * D), *b = malloc(sizeof(double) * ROWS * D);
    uint64_t seed = 2;
    for (int i = 0; i < ROWS * D; i++) x[i] = noise(&seed);
    const int usual = omp_get_max_threads();
    omp_set_num_threads(1);
    CHECK_OK(rt_oracle_posterior_mean(o, 0.6, 0.8, ROWS, x, a, &err));
    omp_set_num_threads(3);
    CHECK_OK(rt_oracle_posterior_mean(o, 0.6, 0.8, ROWS, x, b, &err));
    omp_set_num_threads(usual);
    assert_memory_equal(a, b, sizeof(double) * ROWS * D);
    CHECK_OK(rt_oracle_posterior_mean(o, 0.6, 0.8, 1, x + 100 * D, b, &err));
    assert_memory_equal(a + 100 * D, b, sizeof(double) * D);
    memcpy(b, x, sizeof(double) * ROWS * D);
    CHECK_OK(rt_oracle_posterior_mean(o, 0.6, 0.8, ROWS, b, b, &err)); /* in place */
    assert_memory_equal(a, b, sizeof(double) * ROWS * D);
    rt_oracle_free(o);
    free(data), free(x), free(a), free(b);
}

/* ---- classes */

enum { PARTS = 6, CLASSES = 3, F = 2, POINTS = 20 };
static const int64_t labels[PARTS] = {2, 0, 1, 0, 2, 2};

/* A mixture (data false) or a data set of six parts in three classes. */
static rt_oracle *with_classes(bool data, const rt_process *p, const char *prediction)
{
    static const double w[PARTS] = {0.1, 0.2, 0.3, 0.15, 0.05, 0.2};
    double means[PARTS * F], covariances[PARTS * F * F];
    float samples[PARTS * F];
    uint64_t seed = 12;
    for (int k = 0; k < PARTS; k++) {
        for (int i = 0; i < F; i++) means[k * F + i] = samples[k * F + i] = (float)(1.5 * wobble(&seed));
        memcpy(covariances + k * F * F, (double[]){0.3 + 0.1 * k, 0.1, 0.1, 0.5}, 4 * sizeof(double));
    }
    rt_oracle *o = NULL;
    const rt_prediction *as = rt_prediction_find(prediction, NULL);
    if (data)
        CHECK_OK(rt_oracle_data(&o, PARTS, F, samples, p, as, &err));
    else
        CHECK_OK(rt_oracle_mixture(&o, PARTS, F, w, means, covariances, p, as, &err));
    CHECK_OK(rt_oracle_set_classes(o, labels, &err));
    assert_int_equal(rt_oracle_classes(o), CLASSES);
    return o;
}

/* sum_c P(c) p(x | c) = p(x); sum_c P(c | x) E[x0 | x, c] = E[x0 | x], and so the scores. */
static void bayes(void **state)
{
    (void)state;
    static const double shares[2][CLASSES] = {{0.35, 0.3, 0.35}, {2.0 / 6, 1.0 / 6, 3.0 / 6}};
    for (int data = 0; data < 2; data++) {
        rt_oracle *o = with_classes(data, NULL, "x0");
        double x[POINTS * F], log_p[POINTS], mean[POINTS * F], score[POINTS * F];
        uint64_t seed = 31;
        for (double beta = 0.1; beta < 1; beta += 0.2) {
            double alpha = sqrt(1 - beta * beta), mass[POINTS] = {0}, means[POINTS * F] = {0}, scores[POINTS * F] = {0};
            for (int i = 0; i < POINTS * F; i++) x[i] = 2 * wobble(&seed);
            CHECK_OK(rt_oracle_log_density(o, alpha, beta, POINTS, x, log_p, &err));
            for (int c = 0; c < CLASSES; c++) {
                const rt_oracle *g = rt_oracle_given(o, c);
                double of_class[POINTS];
                CHECK_NEAR(rt_oracle_share(g), shares[data][c], 1e-15, "P(%d)", c);
                CHECK_OK(rt_oracle_log_density(g, alpha, beta, POINTS, x, of_class, &err));
                CHECK_OK(rt_oracle_posterior_mean(g, alpha, beta, POINTS, x, mean, &err));
                CHECK_OK(rt_oracle_score(g, alpha, beta, POINTS, x, score, &err));
                for (int r = 0; r < POINTS; r++) {
                    double p = shares[data][c] * exp(of_class[r] - log_p[r]); /* P(c | x) */
                    mass[r] += p;
                    for (int i = 0; i < F; i++) means[r * F + i] += p * mean[r * F + i], scores[r * F + i] += p * score[r * F + i];
                }
            }
            CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, POINTS, x, mean, &err));
            CHECK_OK(rt_oracle_score(o, alpha, beta, POINTS, x, score, &err));
            for (int r = 0; r < POINTS; r++) {
                CHECK_NEAR(mass[r], 1, TOL_BAYES, "kind %d, beta %g: probabilities of row %d", data, beta, r);
                for (int i = 0; i < F; i++) {
                    CHECK_NEAR(means[r * F + i], mean[r * F + i], TOL_BAYES, "kind %d, beta %g: mean of row %d", data, beta, r);
                    CHECK_NEAR(scores[r * F + i], score[r * F + i], TOL_BAYES / (beta * beta), "kind %d, beta %g: score", data, beta);
                }
            }
        }
        assert_ptr_equal(rt_oracle_given(o, CLASSES), o);
        assert_null(rt_oracle_given(o, CLASSES + 1));
        assert_null(rt_oracle_given(o, -1));
        rt_oracle_free(o);
    }
}

/* A class is the oracle that is made of its parts alone. */
static void a_class_is_its_parts(void **state)
{
    (void)state;
    rt_oracle *o = with_classes(false, NULL, "x0"), *alone = NULL;
    double means[2 * F], covariances[2 * F * F], x[POINTS * F], a[POINTS * F], b[POINTS * F];
    uint64_t seed = 12;
    for (int k = 0; k < PARTS; k++)
        for (int i = 0; i < F; i++) {
            double m = (double)(float)(1.5 * wobble(&seed));
            if (labels[k] == 0) means[(k == 3) * F + i] = m;
        }
    memcpy(covariances, (double[]){0.4, 0.1, 0.1, 0.5, 0.6, 0.1, 0.1, 0.5}, sizeof covariances);
    CHECK_OK(rt_oracle_mixture(&alone, 2, F, (double[]){4.0 / 7, 3.0 / 7}, means, covariances, NULL, NULL, &err));
    for (int i = 0; i < POINTS * F; i++) x[i] = 2 * wobble(&seed);
    const rt_oracle *g = rt_oracle_given(o, 0);
    CHECK_OK(rt_oracle_log_density(g, 0.8, 0.6, POINTS, x, a, &err));
    CHECK_OK(rt_oracle_log_density(alone, 0.8, 0.6, POINTS, x, b, &err));
    for (int i = 0; i < POINTS; i++) CHECK_NEAR(a[i], b[i], TOL_BAYES, "log density, %d", i);
    CHECK_OK(rt_oracle_flow_map(g, 0.2, 0.98, 1, 0, POINTS, x, a, &err));
    CHECK_OK(rt_oracle_flow_map(alone, 0.2, 0.98, 1, 0, POINTS, x, b, &err));
    for (int i = 0; i < POINTS * F; i++) CHECK_NEAR(a[i], b[i], TOL_FLOW_ORACLE, "flow map, %d", i);
    CHECK_OK(rt_oracle_draw(g, 3, 0, POINTS, a, &err));
    CHECK_OK(rt_oracle_draw(alone, 3, 0, POINTS, b, &err));
    for (int i = 0; i < POINTS * F; i++) CHECK_NEAR(a[i], b[i], 1e-14, "draws, %d", i);
    rt_oracle_free(o), rt_oracle_free(alone);
}

/* Draws of a data set are its samples, of a class the class's, as often as they should. */
static void data_draws(void **state)
{
    (void)state;
    enum { COUNT = 6000 };
    static double x[COUNT * F];
    rt_oracle *o = with_classes(true, NULL, "x0");
    int met[PARTS] = {0};
    CHECK_OK(rt_oracle_draw(o, 5, 0, COUNT, x, &err));
    for (int r = 0; r < COUNT; r++) {
        uint64_t seed = 12;
        int found = 0;
        for (int k = 0; k < PARTS; k++) {
            double a = (double)(float)(1.5 * wobble(&seed)), b = (double)(float)(1.5 * wobble(&seed));
            if (x[r * F] == a && x[r * F + 1] == b) met[k]++, found++;
        }
        assert_int_equal(found, 1);
    }
    for (int k = 0; k < PARTS; k++) CHECK_NEAR(met[k], COUNT / PARTS, 5 * sqrt(COUNT * 5.0 / 36), "draws of part %d", k);
    double only[F]; /* the posterior mean of a class of one sample */
    CHECK_OK(rt_oracle_posterior_mean(rt_oracle_given(o, 1), 0.6, 0.8, 1, (double[F]){0}, only, &err));
    CHECK_OK(rt_oracle_draw(rt_oracle_given(o, 1), 5, 0, 10, x, &err));
    for (int r = 0; r < 10; r++) assert_memory_equal(only, x + r * F, sizeof only);
    rt_oracle_free(o);
}

/* As a network: each row by its own class, in any order; no classes, or the null class, is the whole. Guided DDIM steps are those of
 * (1 + w) E[x0 | x, c] - w E[x0 | x] (1.39). */
static void conditional_sampling(void **state)
{
    (void)state;
    enum { STEPS = 6, ROWS = 8 };
    const double w = 1.5;
    rt_process *p = named_process("vp-cosine");
    for (int data = 0; data < 2; data++) {
        rt_oracle *o = with_classes(data, p, "v"), *means = with_classes(data, p, "x0");
        rt_field field = rt_oracle_field(o), plain = rt_oracle_field(means);
        assert_int_equal(field.null_class, CLASSES);
        int64_t y[ROWS] = {2, 0, 3, 1, 1, 0, 2, 3};
        double x[ROWS * F], out[ROWS * F], want[F], times[STEPS + 1], by_hand[ROWS * F];
        uint64_t seed = 41;
        for (int i = 0; i < ROWS * F; i++) x[i] = by_hand[i] = noise(&seed);
        CHECK_OK(plain.eval(plain.self, &(rt_field_call){.t = 0.4, .network_time = 400}, ROWS, x, y, out, &err));
        double alpha = rt_process_alpha(p, 0.4), beta = rt_process_beta(p, 0.4);
        for (int r = 0; r < ROWS; r++) {
            CHECK_OK(rt_oracle_posterior_mean(rt_oracle_given(means, y[r]), alpha, beta, 1, x + r * F, want, &err));
            assert_memory_equal(want, out + r * F, sizeof want);
        }
        CHECK_REFUSED(plain.eval(plain.self, &(rt_field_call){.t = 0.4, .network_time = 400}, ROWS, x, (int64_t[]){0, 0, 0, 4, 0, 0, 0, 0},
                                 out, &err),
                      RT_E_INVALID, "row 3 is of class 4; must be 0 to 3");
        CHECK_OK(rt_grid_build("uniform", p, STEPS, times, &err));
        rt_sample_spec spec = {.process = p, .solver = rt_solver_find("ddim", NULL), .steps = STEPS, .from = times, .guidance = w};
        CHECK_OK(rt_sample(&spec, &field, ROWS, x, y, &err));
        for (int k = 0; k < STEPS; k++) {
            double as = rt_process_alpha(p, times[k]), bs = rt_process_beta(p, times[k]), at = rt_process_alpha(p, times[k + 1]),
                   bt = rt_process_beta(p, times[k + 1]);
            for (int r = 0; r < ROWS; r++) {
                double given[F], whole[F];
                CHECK_OK(rt_oracle_posterior_mean(rt_oracle_given(o, y[r]), as, bs, 1, by_hand + r * F, given, &err));
                CHECK_OK(rt_oracle_posterior_mean(o, as, bs, 1, by_hand + r * F, whole, &err));
                for (int i = 0; i < F; i++) {
                    double x0 = (1 + w) * given[i] - w * whole[i], eps = (by_hand[r * F + i] - as * x0) / bs;
                    by_hand[r * F + i] = at * x0 + bt * eps;
                }
            }
        }
        for (int i = 0; i < ROWS * F; i++) CHECK_NEAR(x[i], by_hand[i], TOL_PREDICTIONS, "kind %d, %d", data, i);
        rt_oracle_free(o), rt_oracle_free(means);
    }
    rt_process_free(p);
}

/* ---- files */

enum { ITEMS = 5 };
static char folder[64] = "";

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "oracle_data_test_XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static const char *file(const char *name, const char *text)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!text) return path;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void write_data(const char *name, const float *x, const int64_t *y)
{
    const int64_t shape[] = {ITEMS, F}, count[] = {ITEMS};
    const rt_named_tensor tensors[] = {{"x", RT_F32, 2, shape, x}, {"y", RT_I64, 1, count, y}};
    CHECK_OK(rt_tensors_write(file(name, NULL), tensors, y ? 2 : 1, NULL, &err));
}

/* Opened as the program does, the data set's path relative to the oracle's file. */
static rt_status open_oracle(rt_oracle **o, const char *text, rt_error *e)
{
    return rt_oracle_open_with(o, file("oracle.json", text), &(rt_oracle_options){.read = rt_oracle_read_data}, e);
}

#define FLOW  ", \"process\": {\"name\": \"flow\"}}"
#define MEANS "\"means\": [[1], [2], [3]], \"covariances\": [[[1]], [[2]], [[1]]], \"weights\": [0.25, 0.25, 0.5]" FLOW

static void files(void **state)
{
    (void)state;
    const float x[ITEMS * F] = {0, 1, -3, 0.5f, 7, 0, 0.25f, 0, 1, 1}, hole[ITEMS * F] = {0, 1, 2, 3, 4, NAN};
    const int64_t y[ITEMS] = {1, 0, 1, 1, 0}, gap[ITEMS] = {1, 3, 1, 1, 0};
    const double at[F] = {0.3, 0.4};
    double mean[F], want[F], score[F], log_p;
    rt_oracle *o = NULL;
    make_folder();
    write_data("data.safetensors", x, y), write_data("bare.safetensors", x, NULL), write_data("gap.safetensors", x, gap);
    write_data("hole.safetensors", hole, NULL);
    file("s.json", "{\"_class_name\": \"DDIMScheduler\", \"prediction_type\": \"v_prediction\", \"beta_end\": 0.03}");

    CHECK_OK(open_oracle(&o, "{\"kind\": \"data\", \"data\": \"data.safetensors\", \"prediction\": \"v\"" FLOW, &err));
    assert_int_equal(rt_oracle_classes(o), 2);
    CHECK_OK(rt_oracle_posterior_mean(o, 0.6, 0.8, 1, at, mean, &err));
    by_definition(ITEMS, F, x, 0.6, 0.8, at, want, score, &log_p);
    CHECK_NEAR(mean[1], want[1], 1e-14, "all");
    CHECK_OK(rt_oracle_posterior_mean(rt_oracle_given(o, 0), 0.6, 0.8, 1, at, mean, &err));
    by_definition(2, F, (float[]){-3, 0.5f, 1, 1}, 0.6, 0.8, at, want, score, &log_p);
    CHECK_NEAR(mean[0], want[0], 1e-14, "class 0");
    rt_oracle_free(o);
    CHECK_OK(open_oracle(&o, "{\"kind\": \"data\", \"data\": \"gap.safetensors\", \"classes\": false, \"scheduler\": \"s.json\"}", &err));
    assert_int_equal(rt_oracle_classes(o), 0);
    CHECK_NEAR(rt_scheduler_get_config(rt_oracle_scheduler(o))->beta_end, 0.03, 0, "from the file");
    assert_string_equal(rt_prediction_name(rt_oracle_prediction(o)), "v");
    rt_oracle_free(o);
    CHECK_OK(open_oracle(&o, "{\"kind\": \"mixture\", \"classes\": [1, 0, 1], " MEANS, &err));
    CHECK_NEAR(rt_oracle_share(rt_oracle_given(o, 1)), 0.75, 0, "P(1)");
    rt_oracle_free(o);
    CHECK_OK(open_oracle(&o, "{\"kind\": \"gaussian\", \"classes\": [0], \"means\": [[1]], \"covariances\": [[[2]]]" FLOW, &err));
    assert_int_equal(rt_oracle_field(o).null_class, 1);
    rt_oracle_free(o);
    CHECK_OK(open_oracle(&o, "{\"kind\": \"data\", \"data\": \"toy:moons:30\"" FLOW, &err)); /* what is no file is not looked for here */
    assert_int_equal(rt_oracle_features(o), 2);
    rt_oracle_free(o);

    static const struct {
        const char *text, *says;
    } bad[] = {
        {"{\"kind\": \"data\", \"data\": \"none.safetensors\"" FLOW, "field 'data' is \"none.safetensors\""},
        {"{\"kind\": \"data\", \"data\": \"hole.safetensors\"" FLOW, "nan"},
        {"{\"kind\": \"data\", \"data\": \"gap.safetensors\"" FLOW, "(\"classes\": false ignores them): class 2 has no part"},
        {"{\"kind\": \"data\", \"data\": \"bare.safetensors\", \"classes\": true" FLOW, "has no labels"},
        {"{\"kind\": \"data\", \"data\": \"bare.safetensors\", \"classes\": [1]" FLOW,
         "field 'classes' is an array; must be true or false"},
        {"{\"kind\": \"data\", \"data\": 3" FLOW, "field 'data' is an integer; must be a string"},
        {"{\"kind\": \"data\"" FLOW, "field 'data' is missing"},
        {"{\"kind\": \"data\", \"dat\": 3" FLOW, "field 'dat' is not known; did you mean data"},
        {"{\"kind\": \"data\", \"data\": \"bare.safetensors\", \"data_range\": [1, 1]" FLOW, "field 'data_range' is [1, 1]"},
        {"{\"kind\": \"data\", \"data\": \"bare.safetensors\", \"data_range\": [1]" FLOW, "must have 2"},
        {"{\"kind\": \"data\", \"data\": \"bare.safetensors\"}", "field 'process' is missing"},
        {"{\"kind\": \"data\", \"data\": \"bare.safetensors\", \"scheduler\": \"t.json\"}", "field 'scheduler' is \"t.json\""},
        {"{\"kind\": \"data\", \"data\": \"bare.safetensors\", \"scheduler\": 4}", "field 'scheduler'"},
        {"{\"kind\": \"mixture\", \"classes\": [0, 1], " MEANS, "field 'classes' has 2 elements; must have 3"},
        {"{\"kind\": \"mixture\", \"classes\": [0, 1.5, 1], " MEANS, "field 'classes', element 1, is a number"},
        {"{\"kind\": \"mixture\", \"classes\": [0, -1, 1], " MEANS, "field 'classes': class -1 of part 1"},
        {"{\"kind\": \"mixture\", \"classes\": [0, 3, 1], " MEANS, "class 2 has no part, but there is a class 3"},
        {"{\"kind\": \"mixture\", \"classes\": 3, " MEANS, "field 'classes' is an integer; must be an array"},
        {"{\"kind\": \"mixture\", \"clases\": [], " MEANS, "field 'clases' is not known; did you mean classes"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_REFUSED(open_oracle(&o, bad[i].text, &err), RT_E_INVALID, bad[i].says);
        CHECK_REFUSED(open_oracle(&o, bad[i].text, &err), RT_E_INVALID, "oracle.json");
        assert_null(o);
    }
    CHECK_REFUSED(rt_oracle_open(&o, file("oracle.json", "{\"kind\": \"data\", \"data\": \"data.safetensors\"" FLOW), &err), RT_E_INVALID,
                  "nothing here reads data");
    static const char *const names[] = {"data.safetensors", "bare.safetensors", "gap.safetensors",
                                        "hole.safetensors", "s.json",           "oracle.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(file(names[i], NULL));
    rmdir(folder);
}

static void refusals(void **state)
{
    (void)state;
    rt_oracle *o = NULL;
    double x = 1, out;
    CHECK_REFUSED(rt_oracle_data(&o, 0, 1, NULL, NULL, NULL, &err), RT_E_INVALID, "0 samples");
    CHECK_REFUSED(rt_oracle_data(&o, 2, 2, (float[]){1, 2, 3, NAN}, NULL, NULL, &err), RT_E_INVALID, "sample 1, number 1, is nan");
    assert_null(o);
    CHECK_OK(rt_oracle_data(&o, 1, 1, (float[]){1}, NULL, NULL, &err));
    CHECK_REFUSED(rt_oracle_posterior_mean(o, 1, 0, 1, &x, &out, &err), RT_E_USAGE, "no density without noise");
    CHECK_REFUSED(rt_oracle_flow_map(o, 1, 0, 1, 1, 1, &x, &out, &err), RT_E_USAGE, "no density without noise");
    CHECK_REFUSED(rt_oracle_flow_map(o, 1, 1, 0, 0, 1, &x, &out, &err), RT_E_USAGE, "alpha 0, beta 0");
    rt_oracle_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_the_definition),
        cmocka_unit_test(near_data),
        cmocka_unit_test(narrow_mixture),
        cmocka_unit_test(flow_maps),
        cmocka_unit_test(bits),
        cmocka_unit_test(bayes),
        cmocka_unit_test(a_class_is_its_parts),
        cmocka_unit_test(data_draws),
        cmocka_unit_test(conditional_sampling),
        cmocka_unit_test(files),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
