/* oracle_mixture.c -- data from a mixture of normal distributions sum_k w_k N(mu_k, Sigma_k), for which everything is exact:
 *
 *     p_t = sum_k w_k N(alpha mu_k, S_k),   S_k = alpha^2 Sigma_k + beta^2 I
 *     r_k = P(k | x),  the softmax of log w_k + log N(x; alpha mu_k, S_k)
 *
 * In the eigenbasis of Sigma_k = V diag(v) V^T all that is known of component k is one factor per coordinate of V^T (x - alpha mu_k). One component
 * is the Gaussian. An oracle is what other code is checked against: it shares no formula with predictions, transitions or solvers. */
#include "diffusion/oracle.h"

#include "base/openblas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FEATURES = 4096, MAX_COMPONENTS = 1024, MAX_NUMBERS = 1 << 27 };

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

static rt_status decompose(int64_t d, rt__component *c, rt_error *err)
{
    RT_TRY(rt__eigenvectors((int)d, c->basis, c->variance, err));
    for (int64_t i = 0; i < d; i++) /* rows to columns */
        for (int64_t j = 0; j < i; j++) {
            double *below = &c->basis[i * d + j], *above = &c->basis[j * d + i], kept = *below;
            *below = *above;
            *above = kept;
        }
    if (!(c->variance[0] > 0))
        RT_RAISE(RT_E_INVALID, "the covariance is not positive definite: its smallest eigenvalue is %g; must be positive", c->variance[0]);
    return RT_OK;
}

/* ---- rows of x at one (alpha, beta) */

/* at: alpha, beta */
static double marginal(double v, const double *at) { return at[0] * at[0] * v + at[1] * at[1]; }
static double posterior(double v, const double *at) { return at[0] * v / marginal(v, at); }
static double score(double v, const double *at) { return -1 / marginal(v, at); }
/* at: alpha_s, beta_s, alpha_t, beta_t */
static double flow(double v, const double *at) { return sqrt(marginal(v, at + 2) / marginal(v, at)); }

static const rt__component *part(const rt_oracle *o, int64_t k) { return &o->components[o->order[k]]; }

/* c = V^T (x - alpha mu) */
static void project(int64_t d, const rt__component *k, double alpha, const double *x, double *c)
{
    for (int64_t j = 0; j < d; j++) c[j] = 0;
    for (int64_t i = 0; i < d; i++) {
        double centred = x[i] - alpha * k->mean[i];
        for (int64_t j = 0; j < d; j++) c[j] += k->basis[i * d + j] * centred;
    }
}

/* log(w_k N(x; alpha mu_k, S_k)) from the projection */
static double log_joint(int64_t d, const rt__component *k, const double *at, const double *c)
{
    double sum = 0;
    for (int64_t j = 0; j < d; j++) {
        double s = marginal(k->variance[j], at);
        sum += log(2 * M_PI * s) + c[j] * c[j] / s;
    }
    return log(k->weight) - sum / 2;
}

/* One row: c[n][d] and r[n] are filled with projections and P(k | x); returns log p_t(x). */
static double explain(const rt_oracle *o, const double *at, const double *x, double *c, double *r)
{
    double top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < o->n; k++) {
        project(o->features, part(o, k), at[0], x, c + k * o->features);
        r[k] = log_joint(o->features, part(o, k), at, c + k * o->features);
        top = fmax(top, r[k]);
    }
    for (int64_t k = 0; k < o->n; k++) sum += r[k] = exp(r[k] - top);
    for (int64_t k = 0; k < o->n; k++) r[k] /= sum;
    return top + log(sum / o->share);
}

/* out += weight (shift mu + V diag(f(v)) c) */
static void add_component(int64_t d, const rt__component *k, double weight, double shift, double (*f)(double v, const double *at),
                          const double *at, const double *c, double *out)
{
    for (int64_t i = 0; i < d; i++) out[i] += weight * shift * k->mean[i];
    for (int64_t j = 0; j < d; j++) {
        double factor = weight * f(k->variance[j], at) * c[j];
        for (int64_t i = 0; i < d; i++) out[i] += factor * k->basis[i * d + j];
    }
}

/* Every row's sum over components of r_k (shift mu_k + V f V^T (x - alpha mu_k)), or, with f NULL, log p_t. */
static rt_status each_row(const rt_oracle *o, double shift, double (*f)(double v, const double *at), const double *at, int64_t n,
                          const double *x, double *out, rt_error *err)
{
    int64_t d = o->features;
    double *c = malloc((size_t)(o->n * (d + 1) + d) * sizeof *c), *r = c ? c + o->n * d : NULL, *y = c ? r + o->n : NULL;
    if (!c) RT_RAISE(RT_E_MEMORY, "out of memory for %lld numbers", (long long)(o->n * (d + 1) + d));
    for (int64_t i = 0; i < n; i++) {
        double log_p = explain(o, at, x + i * d, c, r);
        if (!f) {
            out[i] = log_p;
            continue;
        }
        memset(y, 0, (size_t)d * sizeof *y);
        for (int64_t k = 0; k < o->n; k++) add_component(d, part(o, k), r[k], shift, f, at, c + k * d, y);
        memcpy(out + i * d, y, (size_t)d * sizeof *y); /* out may be x */
    }
    free(c);
    return RT_OK;
}

static rt_status answer(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *mean, double *score_,
                        double *log_p, rt_error *err)
{
    const double at[] = {alpha, beta};
    if (log_p) RT_TRY(each_row(o, 0, NULL, at, n, x, log_p, err));
    if (mean) RT_TRY(each_row(o, 1, posterior, at, n, x, mean, err));
    return score_ ? each_row(o, 0, score, at, n, x, score_, err) : RT_OK;
}

rt_status rt__oracle_line(const rt_oracle *o, double alpha_s, double beta_s, double alpha_t, double beta_t, int64_t n, const double *x,
                          double *out, rt_error *err)
{
    return each_row(o, alpha_t, flow, (double[]){alpha_s, beta_s, alpha_t, beta_t}, n, x, out, err);
}

/* mu + V diag(v)^(1/2) z */
static void draw(const rt_oracle *o, int64_t k, const double *z, double *row)
{
    int64_t d = o->features;
    const rt__component *from = part(o, k);
    for (int64_t i = 0; i < d; i++) row[i] = from->mean[i];
    for (int64_t j = 0; j < d; j++)
        for (int64_t i = 0; i < d; i++) row[i] += from->basis[i * d + j] * sqrt(from->variance[j]) * z[j];
}

static const rt__oracle_kind normal = {NULL, answer, draw};

rt_status rt_oracle_mixture(rt_oracle **oracle, int64_t n, int64_t d, const double *weights, const double *means, const double *covariances,
                            const rt_process *process, const rt_prediction *prediction, rt_error *err)
{
    *oracle = NULL;
    if (d < 1 || d > MAX_FEATURES) RT_RAISE(RT_E_INVALID, "%lld features; must be 1..%d", (long long)d, MAX_FEATURES);
    if (n < 1 || n > MAX_COMPONENTS || n * d * d > MAX_NUMBERS)
        RT_RAISE(RT_E_INVALID, "%lld components of %lld features; must be 1..%d with at most %d numbers in all covariances", (long long)n,
                 (long long)d, MAX_COMPONENTS, MAX_NUMBERS);
    RT_TRY(rt__oracle_check_weights(n, weights, err));
    for (int64_t k = 0; k < n; k++) {
        rt_error why = {0};
        rt_status status = check_covariance(d, means + k * d, covariances + k * d * d, &why);
        if (status != RT_OK) RT_RAISE(status, "component %lld: %s", (long long)k, why.text);
    }
    rt_oracle *o = rt__oracle_new(&normal, n, d, process, prediction);
    double *room = malloc((size_t)(n * (d * d + 2 * d)) * sizeof *room);
    rt__component *components = calloc((size_t)n, sizeof *components);
    if (!o || !room || !components) {
        rt_oracle_free(o);
        free(room);
        free(components);
        RT_RAISE(RT_E_MEMORY, "out of memory for %lld covariances of %lldx%lld", (long long)n, (long long)d, (long long)d);
    }
    o->components = components;
    o->numbers = room;
    rt_status status = RT_OK;
    for (int64_t k = 0; k < n && status == RT_OK; k++, room += d * d + 2 * d) {
        components[k] = (rt__component){.weight = weights[k], .mean = room, .variance = room + d, .basis = room + 2 * d};
        memcpy(components[k].mean, means + k * d, (size_t)d * sizeof *means);
        memcpy(components[k].basis, covariances + k * d * d, (size_t)(d * d) * sizeof *covariances);
        rt_error why = {0};
        status = decompose(d, &components[k], &why);
        if (status != RT_OK) rt_error_set(err, status, "component %lld: %s", (long long)k, why.text);
    }
    if (status != RT_OK) {
        rt_oracle_free(o);
        return status;
    }
    *oracle = o;
    return RT_OK;
}

rt_status rt_oracle_gaussian(rt_oracle **oracle, int64_t d, const double *mean, const double *covariance, const rt_process *process,
                             const rt_prediction *prediction, rt_error *err)
{
    return rt_oracle_mixture(oracle, 1, d, &(double){1}, mean, covariance, process, prediction, err);
}
