/* oracle_boxes_test.c -- uniform densities on boxes against integrals in long double, differences, conserved mass; their files; the toys that they are. */
#include "diffusion_check.h"

#include "retort/data.h"

#include <unistd.h>

/* ---- Bayes by Simpson's rule in long double, in one dimension */

typedef struct bayes {
    long double mean, score, log_p;
} bayes;

static bayes by_quadrature(int n, const double *w, const double *low, const double *high, double alpha, double beta, double x)
{
    enum { PANELS = 60000 };
    const long double pi = 3.14159265358979323846264338327950288L;
    long double top = -INFINITY, mass = 0, first = 0, noise = 0, exponent[8];
    for (int k = 0; k < n; k++) { /* of the point of the box nearest to x */
        long double near = alpha > 0 ? fminl(fmaxl((long double)x / alpha, low[k]), high[k]) : low[k], e = (x - alpha * near) / beta;
        exponent[k] = -e * e / 2;
        top = fmaxl(top, exponent[k]);
    }
    for (int k = 0; k < n; k++) {
        if (exponent[k] < top - 60) continue;
        /* where the integrand is within exp(-60) of its largest value: |x - alpha u| <= beta sqrt(2 (60 - top)) */
        long double reach = alpha > 0 ? beta * sqrtl(2 * (60 - exponent[k])) / alpha : INFINITY, from = low[k], to = high[k];
        if (alpha > 0) from = fmaxl(from, (long double)x / alpha - reach), to = fminl(to, (long double)x / alpha + reach);
        long double h = (to - from) / PANELS;
        for (int i = 0; i <= PANELS; i++) {
            long double u = from + h * i, e = (x - alpha * u) / beta, f = (i == 0 || i == PANELS ? 1 : i % 2 ? 4 : 2) * h / 3;
            f *= w[k] / ((long double)high[k] - low[k]) * expl(-e * e / 2 - top);
            mass += f;
            first += f * u;
            noise += f * e;
        }
    }
    return (bayes){first / mass, -noise / mass / beta, top + logl(mass / (sqrtl(2 * pi) * beta))};
}

/* Narrow and broad boxes that touch, overlap or lie apart; from noise to data, from the middle of a box to 10^4 deviations outside. */
static void quadrature(void **state)
{
    (void)state;
    enum { N = 4 };
    const double w[N] = {0.1, 0.2, 0.3, 0.4}, low[N] = {-2, -1, 0.5, 1.9}, high[N] = {-1, 1, 0.51, 2.4};
    const double places[] = {-1.5, -1.0, -0.999, 0.505, 0.3, 2.401, 3.5, -2.2}, away[] = {0, 1e-3, -0.7, 2.5, -6, 30, -1e4};
    rt_oracle *all = NULL, *one = NULL;
    CHECK_OK(rt_oracle_boxes(&all, N, 1, w, low, high, NULL, NULL, &err));
    CHECK_OK(rt_oracle_boxes(&one, 1, 1, (double[]){1}, low, high, NULL, NULL, &err));
    int count = 0;
    for (double s = -10; s <= 10; s += 2.5)
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            size_t j = (i + (size_t)count++) % (sizeof away / sizeof *away);
            double ratio = exp(s / 2), beta = i % 2 ? 1 / (1 + ratio) : 1 / sqrt(1 + ratio * ratio), alpha = ratio * beta;
            double x = alpha * places[i] + away[j] * beta, got[3];
            for (int k = 0; k < 2; k++) {
                const rt_oracle *o = k ? one : all;
                bayes want =
                    k ? by_quadrature(1, (double[]){1}, low, high, alpha, beta, x) : by_quadrature(N, w, low, high, alpha, beta, x);
                CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, 1, &x, got, &err));
                CHECK_OK(rt_oracle_score(o, alpha, beta, 1, &x, got + 1, &err));
                CHECK_OK(rt_oracle_log_density(o, alpha, beta, 1, &x, got + 2, &err));
                double condition = 1 + fabs(x) / beta; /* x and alpha are rounded */
                CHECK_NEAR(got[0], (double)want.mean, TOL_BOXES * condition, "mean at x %g, log-SNR %g, %d", x, s, k);
                CHECK_NEAR(beta * got[1], beta * (double)want.score, TOL_BOXES * condition, "score at x %g, log-SNR %g, %d", x, s, k);
                CHECK_NEAR(got[2], (double)want.log_p, TOL_BOXES * condition * condition, "log density at x %g, log-SNR %g, %d", x, s, k);
            }
        }
    rt_oracle_free(all);
    rt_oracle_free(one);
}

/* At alpha 0 x says nothing: the prior mean, the score of noise. Without noise the density inside a box is one over its volume. */
static void ends(void **state)
{
    (void)state;
    const double low[] = {-2, 1}, high[] = {0, 3}, x = 1.5;
    rt_oracle *o = NULL;
    double mean, score;
    CHECK_OK(rt_oracle_boxes(&o, 2, 1, (double[]){0.25, 0.75}, low, high, NULL, NULL, &err));
    CHECK_OK(rt_oracle_posterior_mean(o, 0, 2, 1, &x, &mean, &err));
    CHECK_OK(rt_oracle_score(o, 0, 2, 1, &x, &score, &err));
    CHECK_NEAR(mean, -0.25 + 1.5, 1e-15, "prior mean");
    CHECK_NEAR(score, -1.5 / 4, 1e-15, "score of N(0, 4)");
    rt_oracle_free(o);
    double log_p;
    CHECK_OK(rt_oracle_boxes(&o, 1, 2, (double[]){1}, (double[]){-2, 1}, (double[]){0, 1.5}, NULL, NULL, &err));
    CHECK_OK(rt_oracle_log_density(o, 0.5, 1e-3, 1, (double[]){-0.5, 0.625}, &log_p, &err));
    CHECK_NEAR(log_p, -log(0.25 * 2 * 0.5), 1e-14, "density in a box that alpha shrinks");
    rt_oracle_free(o);
}

/* ---- in two dimensions */

static rt_oracle *plane(void)
{
    const double lows[] = {-2, -1, 0, 0.5, -0.5, -1.5}, highs[] = {-1, 2, 0.25, 0.75, 1.5, -0.25};
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_boxes(&o, 3, 2, (double[]){0.2, 0.3, 0.5}, lows, highs, NULL, NULL, &err));
    return o;
}

/* The score is the gradient of the log density, Tweedie (1.2) ties it to the mean, and answers may stand where x does. */
static void score_and_mean(void **state)
{
    (void)state;
    enum { ROWS = 200 };
    rt_oracle *o = plane();
    uint64_t seed = 5;
    const double h = 1e-5;
    for (int r = 0; r < ROWS; r++) {
        double beta = 0.05 + 0.9 * fabs(wobble(&seed)), alpha = sqrt(1 - beta * beta), x[2] = {3 * wobble(&seed), 3 * wobble(&seed)},
               mean[2], score[2];
        CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, 1, x, mean, &err));
        CHECK_OK(rt_oracle_score(o, alpha, beta, 1, x, score, &err));
        for (int i = 0; i < 2; i++) {
            double side[2][2], p[2];
            memcpy(side[0], x, sizeof x);
            memcpy(side[1], x, sizeof x);
            side[0][i] -= h * beta;
            side[1][i] += h * beta;
            CHECK_OK(rt_oracle_log_density(o, alpha, beta, 2, side[0], p, &err));
            CHECK_NEAR(beta * score[i], (p[1] - p[0]) / (2 * h), TOL_QUADRATURE * (1 + fabs(p[0])), "row %d: score %d", r, i);
            CHECK_NEAR(alpha * mean[i], x[i] + beta * beta * score[i], 1e-14 * (1 + fabs(x[i])), "row %d: Tweedie, %d", r, i);
        }
        double there[2];
        memcpy(there, x, sizeof x);
        CHECK_OK(rt_oracle_score(o, alpha, beta, 1, there, there, &err));
        assert_memory_equal(there, score, sizeof score);
    }
    rt_oracle_free(o);
}

/* Moments of draws: a box's variance is width^2/12; every draw lies in a box. */
static void draws(void **state)
{
    (void)state;
    enum { COUNT = 40000 };
    const double lows[3][2] = {{-2, -1}, {0, 0.5}, {-0.5, -1.5}}, highs[3][2] = {{-1, 2}, {0.25, 0.75}, {1.5, -0.25}},
                 w[] = {0.2, 0.3, 0.5};
    rt_oracle *o = plane();
    CHECK_OK(rt_oracle_set_classes(o, (int64_t[]){1, 0, 1}, &err));
    double *x = malloc(2 * COUNT * sizeof *x);
    assert_non_null(x);
    for (int64_t label = 0; label <= 2; label++) {
        const rt_oracle *of = rt_oracle_given(o, label);
        double mean[2] = {0}, square[2] = {0}, want[2] = {0}, second[2] = {0}, share = label == 0 ? 0.3 : label == 1 ? 0.7 : 1;
        for (int k = 0; k < 3; k++)
            for (int i = 0; i < 2 && (label == 2 || label == (k != 1)); i++) {
                double centre = (lows[k][i] + highs[k][i]) / 2, width = highs[k][i] - lows[k][i];
                want[i] += w[k] / share * centre;
                second[i] += w[k] / share * (centre * centre + width * width / 12);
            }
        CHECK_OK(rt_oracle_draw(of, 3, 0, COUNT, x, &err));
        for (int64_t j = 0; j < COUNT; j++) {
            bool in = false;
            for (int k = 0; k < 3; k++)
                in |= x[2 * j] >= lows[k][0] && x[2 * j] <= highs[k][0] && x[2 * j + 1] >= lows[k][1] && x[2 * j + 1] <= highs[k][1];
            assert_true(in);
            for (int i = 0; i < 2; i++) mean[i] += x[2 * j + i] / COUNT, square[i] += x[2 * j + i] * x[2 * j + i] / COUNT;
        }
        for (int i = 0; i < 2; i++) {
            double variance = second[i] - want[i] * want[i];
            CHECK_NEAR(mean[i], want[i], TOL_TOY_MOMENTS * sqrt(variance / COUNT), "class %lld: mean %d", (long long)label, i);
            CHECK_NEAR(square[i], second[i], TOL_TOY_MOMENTS * 4 / sqrt(COUNT), "class %lld: second moment %d", (long long)label, i);
        }
    }
    free(x);
    rt_oracle_free(o);
}

/* ---- the flow map in one dimension keeps the mass below a point */

static double below(int n, const double *w, const double *low, const double *high, double alpha, double beta, double x)
{
    double sum = 0;
    for (int k = 0; k < n; k++) { /* the mean over the box of Phi((x - alpha u)/beta): the integral of Phi is z Phi + phi */
        if (beta == 0) {
            sum += w[k] * fmin(1, fmax(0, (x / alpha - low[k]) / (high[k] - low[k])));
            continue;
        }
        double a = (x - alpha * low[k]) / beta, b = (x - alpha * high[k]) / beta;
        double at_a = a * erfc(-a / sqrt(2)) / 2 + exp(-a * a / 2) / sqrt(2 * M_PI),
               at_b = b * erfc(-b / sqrt(2)) / 2 + exp(-b * b / 2) / sqrt(2 * M_PI);
        sum += w[k] * (at_a - at_b) * beta / (alpha * (high[k] - low[k]));
    }
    return sum;
}

static void flow(void **state)
{
    (void)state;
    const double w[] = {0.3, 0.7}, low[] = {-1.5, 0.25}, high[] = {-0.5, 1}, xs[] = {-1.5, -0.4, 0.1, 0.9, 2};
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_boxes(&o, 2, 1, w, low, high, NULL, NULL, &err));
    for (size_t i = 0; i < sizeof xs / sizeof *xs; i++) {
        double there, back, data;
        CHECK_OK(rt_oracle_flow_map(o, 0.1, 1, 0.95, 0.05, 1, &xs[i], &there, &err));
        CHECK_NEAR(below(2, w, low, high, 0.95, 0.05, there), below(2, w, low, high, 0.1, 1, xs[i]), 1e-10, "from %g", xs[i]);
        CHECK_OK(rt_oracle_flow_map(o, 0.95, 0.05, 0.1, 1, 1, &there, &back, &err));
        CHECK_NEAR(back, xs[i], 1e-9, "and back");
        CHECK_OK(rt_oracle_flow_map(o, 0.1, 1, 1, 0, 1, &xs[i], &data, &err));
        CHECK_NEAR(below(2, w, low, high, 1, 0, data), below(2, w, low, high, 0.1, 1, xs[i]), 1e-6, "to data from %g", xs[i]);
    }
    rt_oracle_free(o);
}

/* ---- files */

static const char *write_file(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "boxes.%d.json", (int)getpid());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

#define FLOW ", \"process\": {\"name\": \"flow\"}}"
#define BOX  "{\"kind\": \"boxes\", \"lows\": [[-1, 0]], \"highs\": [[1, 3]]"
#define TWO  "{\"kind\": \"boxes\", \"lows\": [[-1], [0]], \"highs\": [[1], [3]]"

static void files(void **state)
{
    (void)state;
    rt_oracle *o = NULL;
    double x[2] = {0, 1.5}, mean[2];
    CHECK_OK(rt_oracle_open(&o, write_file(BOX ", \"classes\": [0], \"prediction\": \"v\"" FLOW), &err));
    assert_int_equal(rt_oracle_features(o), 2);
    assert_int_equal(rt_oracle_classes(o), 1);
    assert_string_equal(rt_prediction_name(rt_oracle_prediction(o)), "v");
    CHECK_OK(rt_oracle_posterior_mean(o, 1, 0.5, 1, x, mean, &err));
    CHECK_NEAR(mean[0], 0, 1e-15, "the middle");
    CHECK_NEAR(mean[1], 1.5, 1e-15, "the middle");
    rt_oracle_free(o);
    CHECK_OK(rt_oracle_open(&o, write_file(TWO ", \"weights\": [0.25, 0.75]" FLOW), &err));
    CHECK_OK(rt_oracle_posterior_mean(o, 0, 1, 1, x, mean, &err));
    CHECK_NEAR(mean[0], 0.75 * 1.5, 1e-15, "prior mean");
    rt_oracle_free(o);

    static const struct {
        const char *text, *says;
    } bad[] = {
        {BOX "}", "field 'process' is missing"},
        {TWO FLOW, "field 'weights' is missing"},
        {TWO ", \"weights\": [0.5, 0.6]" FLOW, "the weights add up to 1.1"},
        {TWO ", \"weights\": [0.5]" FLOW, "field 'weights' has 1 elements; must have 2"},
        {TWO ", \"weights\": [1.5, -0.5]" FLOW, "weight 0 is 1.5"},
        {TWO ", \"weights\": [0.5, 0.5], \"classes\": [0, 2]" FLOW, "class 1 has no part"},
        {BOX ", \"low\": [[1]]" FLOW, "field 'low' is not known; did you mean lows"},
        {"{\"kind\": \"boxes\", \"highs\": [[1]]" FLOW, "field 'lows' is missing"},
        {"{\"kind\": \"boxes\", \"lows\": [], \"highs\": []" FLOW, "field 'lows' has 0 elements; must have at least 1"},
        {"{\"kind\": \"boxes\", \"lows\": [[]], \"highs\": [[]]" FLOW, "field 'lows' holds 1 corners of 0 numbers"},
        {"{\"kind\": \"boxes\", \"lows\": [3], \"highs\": [[1]]" FLOW, "field 'lows' holds 1 corners of 0 numbers"},
        {"{\"kind\": \"boxes\", \"lows\": [[0]], \"highs\": [[1], [2]]" FLOW, "field 'highs' has 2 elements; must have 1"},
        {"{\"kind\": \"boxes\", \"lows\": [[0, 1]], \"highs\": [[1]]" FLOW, "field 'highs', element 0, has 1 elements; must have 2"},
        {"{\"kind\": \"boxes\", \"lows\": [[0, \"1\"]], \"highs\": [[1, 2]]" FLOW, "field 'lows', element 0: number 1 is a string"},
        {"{\"kind\": \"boxes\", \"lows\": [[0, 2]], \"highs\": [[1, 2]]" FLOW, "box 0: axis 1 is from 2 to 2"},
        {"{\"kind\": \"boxes\", \"lows\": [[-1e308]], \"highs\": [[1e308]]" FLOW, "box 0: axis 0 is from -1e+308 to 1e+308"},
        {"{\"kind\": \"boxs\", \"lows\": [[0]], \"highs\": [[1]]" FLOW, "did you mean 'boxes'"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *path = write_file(bad[i].text);
        CHECK_REFUSED(rt_oracle_open(&o, path, &err), RT_E_INVALID, bad[i].says);
        CHECK_REFUSED(rt_oracle_open(&o, path, &err), RT_E_INVALID, path);
        assert_null(o);
    }
    unlink(write_file(""));
}

static void refusals(void **state)
{
    (void)state;
    const double low[] = {0, NAN}, high[] = {1, 1};
    double x = 1, out;
    rt_oracle *o = NULL;
    CHECK_REFUSED(rt_oracle_boxes(&o, 1, 2, (double[]){1}, low, high, NULL, NULL, &err), RT_E_INVALID, "box 0: axis 1 is from nan to 1");
    CHECK_REFUSED(rt_oracle_boxes(&o, 1, 0, (double[]){1}, low, high, NULL, NULL, &err), RT_E_INVALID, "1 boxes of 0 features");
    assert_null(o);
    CHECK_OK(rt_oracle_boxes(&o, 1, 1, (double[]){1}, low, high, NULL, NULL, &err));
    CHECK_REFUSED(rt_oracle_score(o, 1, 0, 1, &x, &out, &err), RT_E_USAGE, "beta 0; a density with edges has no score without noise");
    rt_oracle_free(o);
}

/* ---- toys whose density is known: examples/ holds them as oracles */

/* Two-sample chi^2 of points in squares of a board: where both come from one density its mean is the degrees of freedom, its variance twice that. */
static void same_histogram(int64_t n, const double *a, const double *b, const char *what)
{
    enum { SIDE = 24 };
    int64_t count[2][SIDE * SIDE] = {{0}};
    for (int which = 0; which < 2; which++)
        for (int64_t j = 0; j < n; j++) {
            const double *x = (which ? b : a) + 2 * j;
            int i = (int)fmin(SIDE - 1, fmax(0, (x[0] + 3) * SIDE / 6)), k = (int)fmin(SIDE - 1, fmax(0, (x[1] + 3) * SIDE / 6));
            count[which][i * SIDE + k]++;
        }
    double sum = 0, free = -1;
    for (int i = 0; i < SIDE * SIDE; i++) {
        double both = (double)(count[0][i] + count[1][i]), difference = (double)(count[0][i] - count[1][i]);
        if (both > 0) sum += difference * difference / both, free++;
    }
    CHECK_NEAR(sum, free, 5 * sqrt(2 * free), "%s: chi^2 of two histograms", what);
}

static void toys(void **state)
{
    (void)state;
    enum { N = 50000 };
    static const char *const sets[][2] = {{"toy:checkerboard:50000", "examples/checkerboard.json"},
                                          {"toy:gaussians-8:50000", "examples/gaussians-8.json"}};
    double *drawn = malloc(4 * N * sizeof *drawn), *points = drawn + 2 * N;
    assert_non_null(drawn);
    for (int i = 0; i < 2; i++) {
        rt_oracle *o = NULL;
        rt_dataset *set = NULL;
        CHECK_OK(rt_oracle_open(&o, sets[i][1], &err));
        CHECK_OK(rt_dataset_open(&set, sets[i][0], &err));
        assert_int_equal(rt_oracle_classes(o), rt_dataset_describe(set)->classes);
        CHECK_OK(rt_oracle_draw(o, 11, 0, N, drawn, &err));
        int agree = 0;
        for (int64_t j = 0; j < N; j++) {
            float x[2];
            int64_t label;
            rt_dataset_read(set, j, x, &label);
            points[2 * j] = (double)x[0];
            points[2 * j + 1] = (double)x[1];
            if (j >= 2000) continue;
            double own, other; /* the label's part is the likeliest */
            CHECK_OK(rt_oracle_log_density(rt_oracle_given(o, label), 1, 1e-3, 1, points + 2 * j, &own, &err));
            bool most = true;
            for (int64_t c = 0; c < rt_oracle_classes(o); c++) {
                CHECK_OK(rt_oracle_log_density(rt_oracle_given(o, c), 1, 1e-3, 1, points + 2 * j, &other, &err));
                most &= other <= own;
            }
            agree += most;
        }
        assert_in_range(agree, 1995, 2000);
        same_histogram(N, points, drawn, sets[i][0]);
        rt_oracle_free(o);
        rt_dataset_free(set);
    }
    free(drawn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quadrature), cmocka_unit_test(ends),  cmocka_unit_test(score_and_mean), cmocka_unit_test(draws),
        cmocka_unit_test(flow),       cmocka_unit_test(files), cmocka_unit_test(refusals),       cmocka_unit_test(toys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
