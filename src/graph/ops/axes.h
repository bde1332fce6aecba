/* axes.h -- the axes of a reduction, for the reference rows and for backends. */
#ifndef RT_OPS_AXES_H
#define RT_OPS_AXES_H

#include "graph/ops/kernel.h"

/* Axes merged into runs that are kept or reduced in turn; kept runs and reduced runs each get their strides in x. */
typedef struct runs {
    int n[2];                                          /* kept, reduced */
    int64_t dim[2][RT_MAX_RANK], step[2][RT_MAX_RANK]; /* innermost first */
    int64_t count[2];
} runs;

static inline runs split(const rt_view *x, unsigned axes)
{
    runs r = {.count = {1, 1}};
    int64_t step = 1;
    int before = -1;
    for (int i = x->rank - 1; i >= 0; i--) {
        int which = axes >> i & 1;
        if (x->dim[i] != 1) {
            if (which == before) {
                r.dim[which][r.n[which] - 1] *= x->dim[i];
            } else {
                r.dim[which][r.n[which]] = x->dim[i];
                r.step[which][r.n[which]++] = step;
            }
            before = which;
            r.count[which] *= x->dim[i];
        }
        step *= x->dim[i];
    }
    for (int w = 0; w < 2; w++)
        if (r.n[w] == 0) r.dim[w][r.n[w]++] = 1;
    return r;
}

static inline int64_t offset_at(const runs *r, int which, int64_t at)
{
    int64_t x = 0;
    for (int i = 0; i < r->n[which]; i++) {
        x += at % r->dim[which][i] * r->step[which][i];
        at /= r->dim[which][i];
    }
    return x;
}

/* Axes of an image in blocks, as it lies in memory: (N,C,H,W) -> (N,C/b,HW,b). */
static inline unsigned stored_axes(unsigned axes) { return (axes & 7) | (axes & 2) << 2; }

#endif
