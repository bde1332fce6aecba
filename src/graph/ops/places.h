/* places.h -- the inputs of the rows of norm.c, for them and for backends. */
#ifndef RT_OPS_PLACES_H
#define RT_OPS_PLACES_H

#include "graph/row.h"

/* Which input is what; 0: absent, as x is input 0. The order is x, w, b, shift, gy, addend. */
typedef struct places {
    int w, b, shift, gy, addend;
} places;

static inline places places_of(const rt_node *y, int n_in)
{
    int addend = ((const rt__group_attr *)y->attr)->addend, gy = y->op != rt__ops_f32[RT_OP_group_norm],
        n = n_in - 1 - gy - addend; /* of w, b and shift */
    return (places){.w = n > 1 ? 1 : 0, .b = n > 1 ? 2 : 0, .shift = n % 2 ? n : 0, .gy = gy ? n + 1 : 0, .addend = addend ? n + 2 : 0};
}

#endif
