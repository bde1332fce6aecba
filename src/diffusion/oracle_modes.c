/* oracle_modes.c -- samples counted by the parts of a mixture that they lie near. */
#include "diffusion/oracle.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>

/* How far x is from part k, in units of the part's reach. Normal: |V^T (x - mu)| in deviations, over 4. Boxes: the largest |x - c|/l over the axes,
 * over 1.1. */
static double away(const rt_oracle *o, int64_t k, const float *x)
{
    int64_t d = o->features;
    double sum = 0, most = 0;
    for (int64_t j = 0; j < d && o->boxes; j++) most = fmax(most, fabs(x[j] - o->boxes[k].centre[j]) / o->boxes[k].half[j]);
    if (o->boxes) return most / 1.1;
    const rt__component *c = &o->components[k];
    for (int64_t j = 0; j < d; j++) {
        double along = 0;
        for (int64_t i = 0; i < d; i++) along += c->basis[i * d + j] * (x[i] - c->mean[i]);
        sum += along * along / c->variance[j];
    }
    return sqrt(sum) / 4;
}

rt_status rt_oracle_modes(const rt_oracle *o, int64_t n, const float *x, rt_modes *modes, rt_error *err)
{
    if (o->samples) RT_RAISE(RT_E_USAGE, "an oracle of kind data has no modes to count; must be a gaussian, a mixture or boxes");
    if (n < 1) RT_RAISE(RT_E_USAGE, "modes of %lld samples; must be 1 or more", (long long)n);
    double *here = calloc((size_t)o->n, sizeof *here), near = 0; /* samples near each part */
    if (!here) RT_RAISE(RT_E_MEMORY, "out of memory for %lld parts", (long long)o->n);
    for (int64_t r = 0; r < n; r++) {
        int64_t best = 0;
        double least = INFINITY;
        for (int64_t p = 0; p < o->n; p++) {
            double far = away(o, o->order[p], x + r * o->features);
            if (far < least) least = far, best = p;
        }
        if (least <= 1) here[best]++, near++;
    }
    *modes = (rt_modes){.parts = o->n, .near = near / (double)n};
    for (int64_t p = 0; p < o->n; p++) modes->kept += here[p] >= (double)n * rt__oracle_weight(o, o->order[p]) / o->share / 4;
    free(here);
    return RT_OK;
}
