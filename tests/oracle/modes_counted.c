/* modes_counted.c -- samples counted by parts: against the chi-squared distribution, at the edges of what is near, and where a part is kept or lost. */
#include "diffusion_check.h"

static rt_modes counted(const rt_oracle *o, int64_t n, const float *x)
{
    rt_modes m = {0};
    CHECK_OK(rt_oracle_modes(o, n, x, &m, &err));
    return m;
}

/* Of one normal distribution P(chi^2_d <= 16): erf(4/sqrt 2) in one dimension, 1 - exp(-8) in two. So many draws that one in 3,000 tells. */
static void share_of_draws(void **state)
{
    (void)state;
    enum { DRAWS = 400000 };
    const double mean[] = {3, -2}, covariance[] = {2, 1.2, 1.2, 0.9}, variance[] = {0.25}, far[] = {erf(4 / sqrt(2)), 1 - exp(-8)};
    double *x = malloc(2 * DRAWS * sizeof *x);
    float *y = malloc(2 * DRAWS * sizeof *y);
    for (int d = 1; d <= 2; d++) {
        rt_oracle *o = NULL;
        CHECK_OK(rt_oracle_gaussian(&o, d, mean, d == 1 ? variance : covariance, NULL, NULL, &err));
        CHECK_OK(rt_oracle_draw(o, 7, 0, DRAWS, x, &err));
        for (int i = 0; i < d * DRAWS; i++) y[i] = (float)x[i];
        rt_modes m = counted(o, DRAWS, y);
        double q = 1 - far[d - 1];
        CHECK_NEAR(1 - m.near, q, 5 * sqrt(q / DRAWS), "%d dimensions", d);
        assert_int_equal(m.parts, 1);
        assert_int_equal(m.kept, 1);
        rt_oracle_free(o);
    }
    free(x);
    free(y);
}

/* Ellipses turned by 30 degrees, deviations 0.5 and 0.1: on their axes the edge is 4 deviations from the mean. A point between two parts is the nearer
 * one's in deviations, not in length. */
static void edges(void **state)
{
    (void)state;
    const double c = cos(M_PI / 6), s = sin(M_PI / 6), a = 0.25, b = 0.01;
    const double covariance[] = {a * c * c + b * s * s, (a - b) * c * s, (a - b) * c * s, a * s * s + b * c * c}, round[] = {4, 0, 0, 4};
    const double means[] = {0, 0, 20, 0}, weights[] = {0.5, 0.5};
    double covariances[8];
    memcpy(covariances, covariance, sizeof covariance);
    memcpy(covariances + 4, round, sizeof round);
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_mixture(&o, 2, 2, weights, means, covariances, NULL, NULL, &err));
    for (int side = 0; side < 4; side++) {
        double length = side % 2 ? 0.1 : 0.5, x = side % 2 ? -s : c, y = side % 2 ? c : s, sign = side < 2 ? 1 : -1;
        for (double r = 3.99; r < 4.02; r += 0.02) {
            const float at[] = {(float)(sign * r * length * x), (float)(sign * r * length * y)};
            CHECK_NEAR(counted(o, 1, at).near, r < 4, 0, "side %d, %g deviations", side, r);
        }
    }
    /* 7.5 and 12.5 away: 15 or more deviations of the first, 6.25 of the second; a little nearer than 8 and it is the second's */
    CHECK_NEAR(counted(o, 1, (float[]){7.5F, 0}).near, 0, 0, "between");
    CHECK_NEAR(counted(o, 1, (float[]){12.1F, 0}).near, 1, 0, "at 3.95 deviations of the broad part");
    rt_oracle_free(o);
}

/* A twentieth of the width around a box belongs to it, on each axis by that axis's width. */
static void boxes(void **state)
{
    (void)state;
    const double lows[] = {0, 0, 3, 3}, highs[] = {1, 0.2, 4, 4}, weights[] = {0.5, 0.5};
    const struct {
        float x[2];
        double near;
    } points[] = {{{0.5F, 0.1F}, 1},   {{1.049F, 0.1F}, 1},     {{1.051F, 0.1F}, 0},       {{-0.049F, 0.1F}, 1},  {{-0.051F, 0.1F}, 0},
                  {{0.5F, 0.209F}, 1}, {{0.5F, 0.211F}, 0},     {{1.049F, 0.209F}, 1},     {{1.049F, 0.211F}, 0}, {{3.5F, 3.5F}, 1},
                  {{2, 2}, 0},         {{4.049F, 2.951F}, 1.0}, {{(float)4.051F, 3.5F}, 0}};
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_boxes(&o, 2, 2, weights, lows, highs, NULL, NULL, &err));
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        CHECK_NEAR(counted(o, 1, points[i].x).near, points[i].near, 0, "(%g, %g)", (double)points[i].x[0], (double)points[i].x[1]);
    rt_oracle_free(o);
}

/* Of 40 samples a part of weight 0.6 must have 6, one of weight 0.4 four. Of the classes of an oracle, each has its own parts and its weights add up to 1. */
static void kept(void **state)
{
    (void)state;
    enum { N = 40 };
    const double means[] = {-10, 10}, variances[] = {1, 1}, weights[] = {0.6, 0.4};
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_mixture(&o, 2, 1, weights, means, variances, NULL, NULL, &err));
    const struct {
        int first, second, kept; /* samples near the parts; the others are near none */
    } cases[] = {{36, 4, 2}, {37, 3, 1}, {6, 4, 2}, {5, 4, 1}, {5, 3, 0}, {0, 40, 1}, {0, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float x[N];
        for (int j = 0; j < N; j++) x[j] = j < cases[i].first ? -10 : j < cases[i].first + cases[i].second ? 11 : 0;
        rt_modes m = counted(o, N, x);
        assert_int_equal(m.kept, cases[i].kept);
        assert_int_equal(m.parts, 2);
        CHECK_NEAR(m.near, (cases[i].first + cases[i].second) / (double)N, 1e-15, "case %zu", i);
    }
    CHECK_OK(rt_oracle_set_classes(o, (int64_t[]){1, 0}, &err));
    const float x[4] = {10, 10, 10, -10}; /* class 0 is the part at 10, weight 1: one of four samples keeps it */
    rt_modes m = counted(rt_oracle_given(o, 0), 4, x);
    assert_int_equal(m.parts, 1);
    assert_int_equal(m.kept, 1);
    CHECK_NEAR(m.near, 0.75, 0, "class 0");
    m = counted(rt_oracle_given(o, 1), 4, x);
    assert_int_equal(m.kept, 1);
    CHECK_NEAR(m.near, 0.25, 0, "class 1");
    assert_int_equal(counted(rt_oracle_given(o, 1), 3, x).kept, 0);
    assert_int_equal(counted(rt_oracle_given(o, 1), 5, (float[]){10, 10, 10, 10, -10}).kept, 0); /* 1 of 5 is less than 1.25 */
    rt_oracle_free(o);
}

static void refusals(void **state)
{
    (void)state;
    const float samples[] = {0, 1, 2}, x = 1;
    rt_modes m;
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_data(&o, 3, 1, samples, NULL, NULL, &err));
    CHECK_REFUSED(rt_oracle_modes(o, 1, &x, &m, &err), RT_E_USAGE, "kind data has no modes");
    rt_oracle_free(o);
    CHECK_OK(rt_oracle_gaussian(&o, 1, (double[]){0}, (double[]){1}, NULL, NULL, &err));
    CHECK_REFUSED(rt_oracle_modes(o, 0, &x, &m, &err), RT_E_USAGE, "0 samples");
    rt_oracle_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(share_of_draws), cmocka_unit_test(edges), cmocka_unit_test(boxes),
                                       cmocka_unit_test(kept), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
