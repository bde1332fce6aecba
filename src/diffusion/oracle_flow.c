/* oracle_flow.c -- the flow map of parts, whatever their kind: the probability-flow ODE by Dormand & Prince's method of order 5, its error controlled.
 *
 * With u = x/alpha and rho = beta/alpha the ODE knows no process: du/drho = eps(u, rho) = -rho grad log p(u; 1, rho). rho runs over many orders of
 * magnitude near noise and to 0 at data, so the variable is z = asinh(rho). A data set has no score at rho = 0, nor have boxes at their
 * edges; their last piece is a straight line. */
#include "diffusion/oracle.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STAGES = 7, MOST_STEPS = 1000000 };
#define TOLERANCE 1e-13 /* per step, of 1 + |u| */
#define SATURATED 1e-6  /* rho below which the posterior is one point: of a data set, a sample; of boxes, u itself or the edge beside it */

/* Dormand & Prince 1980: nodes, stages (the last row is the solution), solution minus the one of order 4 */
static const double nodes[STAGES] = {0, 1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1, 1};
static const double stages[STAGES][STAGES - 1] = {
    {0},
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84},
};
static const double difference[STAGES] = {71.0 / 57600, 0, -71.0 / 16695, 71.0 / 1920, -17253.0 / 339200, 22.0 / 525, -1.0 / 40};

/* du/dz */
static rt_status slope(const rt_oracle *o, double z, const double *u, double *k, rt_error *err)
{
    double rho = sinh(z);
    RT_TRY(rt_oracle_score(o, 1, rho, 1, u, k, err));
    for (int64_t i = 0; i < o->features; i++) k[i] *= -rho * cosh(z);
    return RT_OK;
}

/* One row from z to end; k[STAGES][d] and v[d] are room. */
static rt_status solve(const rt_oracle *o, double z, double end, double *u, double *k, double *v, rt_error *err)
{
    int64_t d = o->features;
    double h = (end - z) / 64;
    for (int step = 0; z != end; step++) {
        if (step == MOST_STEPS) RT_RAISE(RT_E_INTERNAL, "the flow map of an oracle did not converge in %d steps", MOST_STEPS);
        if (fabs(h) > fabs(end - z)) h = end - z;
        for (int s = 0; s < STAGES; s++) {
            for (int64_t i = 0; i < d; i++) {
                v[i] = u[i];
                for (int j = 0; j < s; j++) v[i] += h * stages[s][j] * k[j * d + i];
            }
            RT_TRY(slope(o, z + nodes[s] * h, v, k + s * d, err));
        }
        double error = 0, size = 1;
        for (int64_t i = 0; i < d; i++) {
            double e = 0;
            for (int s = 0; s < STAGES; s++) e += h * difference[s] * k[s * d + i];
            error = fmax(error, fabs(e));
            size = fmax(size, 1 + fabs(v[i]));
        }
        double ratio = error / (TOLERANCE * size);
        bool small = fabs(h) < 1e-9 * (1 + fabs(z)); /* rounding is all that is left */
        if (ratio <= 1 || small) {
            z = h == end - z ? end : z + h;
            memcpy(u, v, (size_t)d * sizeof *u); /* v is the solution: the last stage stands there */
        }
        h *= ratio > 0 ? fmin(5, fmax(0.2, 0.9 * pow(ratio, -0.2))) : 5;
    }
    return RT_OK;
}

/* From rho to rho where the posterior is one point: u - E[x0 | u] shrinks or grows with rho. */
static rt_status glide(const rt_oracle *o, double from, double to, double *u, double *v, rt_error *err)
{
    if (from == to) return RT_OK;
    RT_TRY(rt_oracle_posterior_mean(o, 1, from, 1, u, v, err));
    for (int64_t i = 0; i < o->features; i++) u[i] = v[i] + to / from * (u[i] - v[i]);
    return RT_OK;
}

rt_status rt__oracle_solve(const rt_oracle *o, double alpha_s, double beta_s, double alpha_t, double beta_t, int64_t n, const double *x,
                           double *out, rt_error *err)
{
    int64_t d = o->features;
    if (!(alpha_s > 0 && alpha_t > 0))
        RT_RAISE(RT_E_USAGE, "the flow map of a mixture from alpha %g to %g; both must be positive: start below the noisiest time", alpha_s,
                 alpha_t);
    double *u = malloc((size_t)((STAGES + 2) * d) * sizeof *u), least = o->kind->rough ? SATURATED : 0, rho_s = beta_s / alpha_s,
           rho_t = beta_t / alpha_t, begin = fmax(rho_s, least), end = fmax(rho_t, least);
    if (!u) RT_RAISE(RT_E_MEMORY, "out of memory for %lld numbers", (long long)((STAGES + 2) * d));
    rt_status status = RT_OK;
    for (int64_t r = 0; r < n && status == RT_OK; r++) {
        for (int64_t i = 0; i < d; i++) u[i] = x[r * d + i] / alpha_s;
        status = glide(o, rho_s, begin, u, u + d, err);
        if (status == RT_OK) status = solve(o, asinh(begin), asinh(end), u, u + 2 * d, u + d, err);
        if (status == RT_OK) status = glide(o, end, rho_t, u, u + d, err);
        for (int64_t i = 0; i < d && status == RT_OK; i++) out[r * d + i] = alpha_t * u[i];
    }
    free(u);
    return status;
}
