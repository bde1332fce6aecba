/* exact_mixture.c -- data in one dimension whose every answer is an integral or an error function. */
#include "verify/witness.h"

#include "base/internal.h"

enum { K = 3 };
static const double weights[K] = {0.3, 0.5, 0.2}, means[K] = {-1.1, 0.3, 1.4}, variances[K] = {0.09, 0.16, 0.04};

static double normal(double x, double mean, double variance)
{
    return exp(-(x - mean) * (x - mean) / (2 * variance)) / sqrt(2 * M_PI * variance);
}

double rt__exact_density(double alpha, double beta, double x)
{
    double p = 0;
    for (int k = 0; k < K; k++) p += weights[k] * normal(x, alpha * means[k], alpha * alpha * variances[k] + beta * beta);
    return p;
}

/* The share of the mass below x. */
static double share(double alpha, double beta, double x)
{
    double F = 0;
    for (int k = 0; k < K; k++) F += weights[k] / 2 * erfc((alpha * means[k] - x) / sqrt(2 * (alpha * alpha * variances[k] + beta * beta)));
    return F;
}

/* Trapezoids over all x0 that have mass: for analytic functions that fall to nothing the error falls faster than any power of the step. */
static double mean_given(double alpha, double beta, double x, bool noise)
{
    double sum = 0, mass = 0;
    for (int i = -2000; i <= 2000; i++) {
        double x0 = i / 400.0, p = rt__exact_density(1, 0, x0) * normal(x, alpha * x0, beta * beta);
        sum += p * (noise ? (x - alpha * x0) / beta : x0);
        mass += p;
    }
    return sum / mass;
}

double rt__exact_mean(double alpha, double beta, double x) { return mean_given(alpha, beta, x, false); }
double rt__exact_noise(double alpha, double beta, double x) { return mean_given(alpha, beta, x, true); }

double rt__exact_flow(double alpha_s, double beta_s, double alpha_t, double beta_t, double x)
{
    double F = share(alpha_s, beta_s, x), far = 8 * (alpha_t + beta_t), low = -far, high = far;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        *(share(alpha_t, beta_t, middle) < F ? &low : &high) = middle;
    }
    return high;
}

void rt__exact_states(double alpha, double beta, double x[RT__STATES])
{
    for (int i = 0; i < RT__STATES; i++) {
        double spread = sqrt(alpha * alpha * variances[i / 2] + beta * beta);
        x[i] = alpha * means[i / 2] + (i % 2 ? 0.9 : -0.7) * spread;
    }
}

rt_oracle *rt__exact_oracle(rt__witness *w, const rt_process *p, const char *prediction)
{
    rt_oracle *o = NULL;
    const rt_prediction *as = rt_prediction_find(prediction, &w->err);
    if (as) rt_oracle_mixture(&o, K, 1, weights, means, variances, p, as, &w->err);
    return o;
}
