/* volume.c -- what a volume holds at a point. */
#include "base/internal.h"
#include "retort/mesh.h"

#include <math.h>

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static size_t count(const rt_volume *v) { return (size_t)v->nodes[0] * (size_t)v->nodes[1] * (size_t)v->nodes[2]; }

rt_status rt_volume_check(const rt_volume *v, rt_error *err)
{
    for (int k = 0; k < 3; k++)
        if (v->nodes[k] < 2) RT_RAISE(RT_E_INVALID, "a volume has %d nodes along an axis; must be 2 or more", v->nodes[k]);
    for (size_t i = 0, n = count(v); i < 4 * n; i++) {
        double value = (double)(i < n ? v->density[i] : v->colour[i - n]);
        if (!isfinite(value))
            RT_RAISE(RT_E_INVALID, "%s: %g at node %zu; must be finite: go back to a checkpoint before it was so",
                     i < n ? "density" : "colour", value, i % n);
    }
    return RT_OK;
}

double rt_volume_opacity(const rt_volume *v)
{
    float most = v->density[0];
    for (size_t i = 1, n = count(v); i < n; i++) most = fmaxf(most, v->density[i]);
    return sigmoid((double)most + v->density_bias);
}

void rt_volume_colour(const rt_volume *v, const double position[3], double colour[3])
{
    size_t at[3];
    double part[3];
    for (int k = 0; k < 3; k++) { /* k: z, y, x */
        int last = v->nodes[k] - 1;
        double u = fmin(fmax((position[2 - k] + 1) / 2 * last, 0), last);
        at[k] = (size_t)fmin(floor(u), last - 1);
        part[k] = u - (double)at[k];
    }
    size_t line = (size_t)v->nodes[2], layer = line * (size_t)v->nodes[1];
    for (int c = 0; c < 3; c++) {
        const float *plane = v->colour + (size_t)c * count(v);
        double sum = 0;
        for (size_t corner = 0; corner < 8; corner++) {
            size_t x = corner & 1, y = corner >> 1 & 1, z = corner >> 2;
            double weight = (z ? part[0] : 1 - part[0]) * (y ? part[1] : 1 - part[1]) * (x ? part[2] : 1 - part[2]);
            sum += weight * (double)plane[(at[0] + z) * layer + (at[1] + y) * line + at[2] + x];
        }
        colour[c] = sigmoid(sum);
    }
}
