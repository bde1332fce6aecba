/* beta_quantile.c -- the x below which a Beta(a, b) variable stays with probability q: the inverse of the regularised incomplete beta function
 *
 *     I_x(a, b) = x^a/B(a, b) [1/a + (1 - b) x/(a + 1) + (1 - b)(2 - b)/2! x^2/(a + 2) + ...] = 1 - I_{1 - x}(b, a) */
#include "diffusion/diffusion_rows.h"

#include <float.h>
#include <math.h>

/* For x <= 1/2, where the terms fall by half and more. */
static double below(double x, double a, double b)
{
    double factor = 1, sum = 1 / a;
    for (int n = 1; fabs(factor) > DBL_EPSILON / 64 * sum; n++) {
        factor *= (n - b) / n * x;
        sum += factor / (a + n);
    }
    return pow(x, a) * sum * tgamma(a + b) / (tgamma(a) * tgamma(b));
}

static double inverse(double q, double a, double b)
{
    double low = 0, high = 0.5;
    for (double x = 0.25; x > low && x < high; x = (low + high) / 2) {
        if (below(x, a, b) < q)
            low = x;
        else
            high = x;
    }
    return high;
}

double rt__beta_quantile(double q, double a, double b)
{
    if (q <= 0) return 0;
    if (q >= 1) return 1;
    if (a == b && q == 0.5) return 0.5; /* a time half-way between two whole ones may hang on it */
    return q <= below(0.5, a, b) ? inverse(q, a, b) : 1 - inverse(1 - q, b, a);
}
