/* attr.h -- attributes that builders fill and rows read. Without padding: equal attributes are equal bytes. */
#ifndef RT_OPS_ATTR_H
#define RT_OPS_ATTR_H

#include "graph/row.h"

typedef struct rt__reduce_attr {
    unsigned axes; /* bit i: axis i */
    int keep;
} rt__reduce_attr;

typedef struct rt__cumsum_attr {
    int axis, reverse;
} rt__cumsum_attr;

typedef struct rt__shape_attr { /* reshape, broadcast: the new extents; permute: order in shape */
    int64_t rank, shape[RT_MAX_RANK];
} rt__shape_attr;

typedef struct rt__slice_attr { /* of one axis; extent: of the whole axis, for slice_grad */
    int64_t axis, start, step, count, extent;
} rt__slice_attr;

typedef struct rt__axis_attr { /* concat, index_select, gather; extent: of the axis of the larger array, for index_add and scatter_add */
    int64_t axis, extent;
} rt__axis_attr;

typedef struct rt__scale_attr { /* upsample_nearest */
    int64_t scale;
} rt__scale_attr;

typedef struct rt__draw_attr {
    uint32_t name; /* rt__draw_name */
    int rank;
    int64_t shape[RT_MAX_RANK];
    int64_t below; /* randint */
} rt__draw_attr;

#endif
