/* oracle_gaussian.c -- data N(mu, Sigma), for which everything is exact: p = N(alpha mu, S), S = alpha^2 Sigma + beta^2 I. In the eigenbasis of
 * Sigma = V diag(w) V^T all of it is one factor per coordinate of V^T (x - alpha mu). An oracle is what other code is checked against: it shares
 * no formula with predictions, transitions or solvers. */
#include "diffusion/oracle.h"

#include "base/internal.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FEATURES = 4096 };

static rt_status check_covariance(int64_t d, const double *mean, const double *covariance, rt_error *err)
{
    for (int64_t i = 0; i < d; i++) {
        if (!isfinite(mean[i])) RT_RAISE(RT_E_INVALID, "mean %lld is %g; must be finite", (long long)i, mean[i]);
        for (int64_t j = 0; j < d; j++) {
            double here = covariance[i * d + j], there = covariance[j * d + i];
            if (!isfinite(here)) RT_RAISE(RT_E_INVALID, "covariance (%lld, %lld) is %g; must be finite", (long long)i, (long long)j, here);
            if (fabs(here - there) > 1e-12 * (fabs(here) + fabs(there)))
                RT_RAISE(RT_E_INVALID, "covariance (%lld, %lld) is %.17g but (%lld, %lld) is %.17g; must be symmetric", (long long)i,
                         (long long)j, here, (long long)j, (long long)i, there);
        }
    }
    return RT_OK;
}

static rt_status decompose(rt_oracle *o, const double *covariance, rt_error *err)
{
    int64_t d = o->features;
    memcpy(o->basis, covariance, (size_t)(d * d) * sizeof *covariance);
    int info = LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'U', (int)d, o->basis, (int)d, o->variance);
    if (info)
        RT_RAISE(info == LAPACK_WORK_MEMORY_ERROR ? RT_E_MEMORY : RT_E_INTERNAL, "dsyevd of a %lldx%lld covariance: info %d", (long long)d,
                 (long long)d, info);
    if (!(o->variance[0] > 0))
        RT_RAISE(RT_E_INVALID, "the covariance is not positive definite: its smallest eigenvalue is %g; must be positive", o->variance[0]);
    return RT_OK;
}

rt_status rt_oracle_gaussian(rt_oracle **oracle, int64_t d, const double *mean, const double *covariance, const rt_process *process,
                             const rt_prediction *prediction, rt_error *err)
{
    *oracle = NULL;
    if (d < 1 || d > MAX_FEATURES) RT_RAISE(RT_E_INVALID, "%lld features; must be 1..%d", (long long)d, MAX_FEATURES);
    RT_TRY(check_covariance(d, mean, covariance, err));
    rt_oracle *o = calloc(1, sizeof *o);
    double *room = malloc((size_t)(d * d + 2 * d) * sizeof *room);
    if (!o || !room) {
        free(o);
        free(room);
        RT_RAISE(RT_E_MEMORY, "out of memory for a covariance of %lldx%lld", (long long)d, (long long)d);
    }
    *o =
        (rt_oracle){.features = d, .process = process, .prediction = prediction, .mean = room, .variance = room + d, .basis = room + 2 * d};
    memcpy(o->mean, mean, (size_t)d * sizeof *mean);
    rt_status status = decompose(o, covariance, err);
    if (status != RT_OK) {
        rt_oracle_free(o);
        return status;
    }
    *oracle = o;
    return RT_OK;
}

void rt_oracle_free(rt_oracle *o)
{
    if (!o) return;
    rt_process_free(o->owned);
    rt_scheduler_free(o->scheduler);
    free(o->mean);
    free(o);
}

int64_t rt_oracle_features(const rt_oracle *o) { return o->features; }
const rt_process *rt_oracle_process(const rt_oracle *o) { return o->process; }
const rt_scheduler *rt_oracle_scheduler(const rt_oracle *o) { return o->scheduler; }
const rt_prediction *rt_oracle_prediction(const rt_oracle *o) { return o->prediction; }

/* out = shift mu + V diag(factor) V^T (x - alpha mu), one row at a time; c[d] is room. `squares` (may be NULL) gets
 * sum of factor c^2. */
static void apply(const rt_oracle *o, double alpha, double shift, const double *factor, const double *x, double *c, double *out,
                  double *squares)
{
    int64_t d = o->features;
    for (int64_t j = 0; j < d; j++) c[j] = 0;
    for (int64_t i = 0; i < d; i++) {
        double centred = x[i] - alpha * o->mean[i];
        for (int64_t j = 0; j < d; j++) c[j] += o->basis[i * d + j] * centred;
    }
    if (squares) {
        *squares = 0;
        for (int64_t j = 0; j < d; j++) *squares += factor[j] * c[j] * c[j];
        return;
    }
    for (int64_t j = 0; j < d; j++) c[j] *= factor[j];
    for (int64_t i = 0; i < d; i++) {
        double sum = 0;
        for (int64_t j = 0; j < d; j++) sum += o->basis[i * d + j] * c[j];
        out[i] = shift * o->mean[i] + sum;
    }
}

/* Fills factor[j] by the variance in direction j. */
typedef double (*spectrum)(double w, const double *at);

static rt_status each_row(const rt_oracle *o, double alpha, double shift, spectrum f, const double *at, int64_t n, const double *x,
                          double *out, bool squares, rt_error *err)
{
    int64_t d = o->features;
    double *factor = malloc((size_t)(2 * d) * sizeof *factor);
    if (!factor) RT_RAISE(RT_E_MEMORY, "out of memory for %lld numbers", (long long)(2 * d));
    for (int64_t j = 0; j < d; j++) factor[j] = f(o->variance[j], at);
    for (int64_t r = 0; r < n; r++)
        apply(o, alpha, shift, factor, x + r * d, factor + d, out + (squares ? r : r * d), squares ? out + r : NULL);
    free(factor);
    return RT_OK;
}

/* at: alpha, beta */
static double marginal(double w, const double *at) { return at[0] * at[0] * w + at[1] * at[1]; }
static double posterior(double w, const double *at) { return at[0] * w / marginal(w, at); }
static double precision(double w, const double *at) { return 1 / marginal(w, at); }
static double score(double w, const double *at) { return -1 / marginal(w, at); }
/* at: alpha_s, beta_s, alpha_t, beta_t */
static double flow(double w, const double *at) { return sqrt(marginal(w, at + 2) / marginal(w, at)); }
static double deviation(double w, const double *at) { return (void)at, sqrt(w); }

static rt_status check_point(double alpha, double beta, rt_error *err)
{
    if (!(alpha >= 0) || !(beta >= 0) || !(alpha + beta > 0) || !isfinite(alpha + beta))
        RT_RAISE(RT_E_USAGE, "oracle: alpha %g, beta %g; neither may be negative, nor both 0", alpha, beta);
    return RT_OK;
}

rt_status rt_oracle_posterior_mean(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *x0, rt_error *err)
{
    RT_TRY(check_point(alpha, beta, err));
    return each_row(o, alpha, 1, posterior, (double[]){alpha, beta}, n, x, x0, false, err);
}

rt_status rt_oracle_score(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *out, rt_error *err)
{
    RT_TRY(check_point(alpha, beta, err));
    return each_row(o, alpha, 0, score, (double[]){alpha, beta}, n, x, out, false, err);
}

rt_status rt_oracle_log_density(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *log_p, rt_error *err)
{
    RT_TRY(check_point(alpha, beta, err));
    const double at[] = {alpha, beta};
    double log_det = 0;
    for (int64_t j = 0; j < o->features; j++) log_det += log(2 * M_PI * marginal(o->variance[j], at));
    RT_TRY(each_row(o, alpha, 0, precision, at, n, x, log_p, true, err));
    for (int64_t r = 0; r < n; r++) log_p[r] = -(log_p[r] + log_det) / 2;
    return RT_OK;
}

rt_status rt_oracle_flow_map(const rt_oracle *o, double alpha_s, double beta_s, double alpha_t, double beta_t, int64_t n, const double *x,
                             double *out, rt_error *err)
{
    RT_TRY(check_point(alpha_s, beta_s, err));
    RT_TRY(check_point(alpha_t, beta_t, err));
    return each_row(o, alpha_s, alpha_t, flow, (double[]){alpha_s, beta_s, alpha_t, beta_t}, n, x, out, false, err);
}

rt_status rt_oracle_draw(const rt_oracle *o, uint64_t seed, int64_t first, int64_t n, double *x, rt_error *err)
{
    int64_t d = o->features;
    rt__draw draw = {.seed = seed, .name = rt__draw_name("oracle")};
    for (int64_t r = 0; r < n; r++) {
        for (int64_t i = 0; i < d; i += 4) {
            double z[4];
            rt__draw_normal(&draw, (uint32_t)(first + r), (uint32_t)(i / 4), z);
            memcpy(x + r * d + i, z, (size_t)(d - i < 4 ? d - i : 4) * sizeof *z);
        }
    }
    return each_row(o, 0, 1, deviation, NULL, n, x, x, false, err); /* mu + Sigma^(1/2) z */
}

/* ---- as a network */

/* What it returns as each prediction, from the posterior mean and d = x - alpha mu: E[eps | x] = beta S^-1 d. */
static void as_x0(int64_t n, double alpha, double beta, const double *mean, const double *score_, double *out)
{
    (void)alpha, (void)beta, (void)score_;
    memcpy(out, mean, (size_t)n * sizeof *out);
}

static void as_epsilon(int64_t n, double alpha, double beta, const double *mean, const double *score_, double *out)
{
    (void)alpha, (void)mean;
    for (int64_t i = 0; i < n; i++) out[i] = -beta * score_[i];
}

static void as_v(int64_t n, double alpha, double beta, const double *mean, const double *score_, double *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = -beta * (alpha * score_[i] + mean[i]);
}

static void as_score(int64_t n, double alpha, double beta, const double *mean, const double *score_, double *out)
{
    (void)alpha, (void)beta, (void)mean;
    memcpy(out, score_, (size_t)n * sizeof *out);
}

static void as_velocity(int64_t n, double alpha, double beta, const double *mean, const double *score_, double *out)
{
    (void)alpha;
    for (int64_t i = 0; i < n; i++) out[i] = -beta * score_[i] - mean[i];
}

static const struct answer {
    const char *prediction;
    void (*fill)(int64_t n, double alpha, double beta, const double *mean, const double *score_, double *out);
} answers[] = {{"x0", as_x0}, {"epsilon", as_epsilon}, {"v", as_v}, {"score", as_score}, {"velocity", as_velocity}};

static rt_status eval(void *self, double t, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    (void)y;
    const rt_oracle *o = self;
    double alpha = rt_process_alpha(o->process, t), beta = rt_process_beta(o->process, t);
    if (!(beta > 0)) RT_RAISE(RT_E_USAGE, "oracle: asked at time %g; must be above 0 and at most %g", t, rt_process_end(o->process));
    int64_t count = n * o->features;
    double *mean = malloc((size_t)(2 * count) * sizeof *mean);
    if (!mean) RT_RAISE(RT_E_MEMORY, "out of memory for %lld rows", (long long)n);
    rt_status status = rt_oracle_posterior_mean(o, alpha, beta, n, x, mean, err);
    if (status == RT_OK) status = rt_oracle_score(o, alpha, beta, n, x, mean + count, err);
    for (size_t i = 0; status == RT_OK && i < RT_COUNT(answers); i++)
        if (!strcmp(answers[i].prediction, rt_prediction_name(o->prediction))) answers[i].fill(count, alpha, beta, mean, mean + count, out);
    free(mean);
    return status;
}

rt_field rt_oracle_field(const rt_oracle *o)
{
    return (rt_field){.self = (void *)(uintptr_t)o, .eval = eval, .prediction = o->prediction, .features = o->features, .null_class = -1};
}
