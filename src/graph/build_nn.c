/* build_nn.c -- the builders of the heavy rows: attributes from the public structs, other axes and forms brought to what a row takes. */
#include "graph/march.h"

rt_node *rt_matmul(rt_node *a, rt_node *b, bool transpose_a, bool transpose_b)
{
    return rt__emit2(RT_OP_matmul, a, b, &(rt__matmul_attr){transpose_a, transpose_b});
}

/* ---- softmax: rows work on the last axis */

static rt_node *along_axis(rt__op_id op, rt_node *x, int axis)
{
    if (rt__failed(x)) return x;
    if (axis < 0) axis += x->rank;
    if (axis < 0 || axis >= x->rank) return rt_fail(x->graph, "%s: axis %d of a value of rank %d", rt__ops_f32[op]->name, axis, x->rank);
    if (axis == x->rank - 1) return rt__emit1(op, x, NULL);
    int order[RT_MAX_RANK]; /* its own inverse */
    for (int i = 0; i < x->rank; i++) order[i] = i;
    order[axis] = x->rank - 1;
    order[x->rank - 1] = axis;
    return rt_permute(rt__emit1(op, rt_permute(x, order), NULL), order);
}

rt_node *rt_softmax(rt_node *x, int axis) { return along_axis(RT_OP_softmax, x, axis); }
rt_node *rt_log_softmax(rt_node *x, int axis) { return along_axis(RT_OP_log_softmax, x, axis); }

rt_node *rt_self_attention(rt_node *x, int64_t heads, double scale)
{
    return rt__emit1(RT_OP_attention, x, &(rt__attention_attr){heads, scale});
}

/* ---- convolution */

rt_node *rt_conv2d(rt_node *x, rt_node *w, rt_node *b, const rt_conv *conv)
{
    rt__conv_attr at = {.conv = *conv}; /* all ints: no padding bytes */
    return rt__emit(x->graph, RT_OP_conv2d, (rt_node *[]){x, w, b}, b ? 3 : 2, &at);
}

rt_node *rt_conv_transpose2d(rt_node *x, rt_node *w, rt_node *b, const rt_conv *conv, const int output_padding[2])
{
    if (rt__failed(x) || rt__failed(w)) return rt__failed(x) ? x : w;
    if (x->rank != 4 || w->rank != 4) return rt_fail(x->graph, "conv_transpose2d: image and kernel must have four axes");
    rt__conv_attr at = {.conv = *conv};
    for (int i = 0; i < 2; i++) {
        int64_t pad = i ? (int64_t)conv->pad[0] + conv->pad[1] : (int64_t)conv->pad[2] + conv->pad[3];
        if (output_padding[i] < 0 || output_padding[i] >= conv->stride[i])
            return rt_fail(x->graph, "conv_transpose2d: output padding %d; must be 0 to below the stride %d", output_padding[i],
                           conv->stride[i]);
        if (conv->dilation[i] < 1 || x->shape[2 + i] > INT32_MAX / conv->stride[i] || w->shape[2 + i] > INT32_MAX / conv->dilation[i])
            return rt_fail(x->graph, "conv_transpose2d: image or kernel too large");
        int64_t extent = (x->shape[2 + i] - 1) * conv->stride[i] - pad + conv->dilation[i] * (w->shape[2 + i] - 1) + output_padding[i] + 1;
        if (extent < 1 || extent > INT32_MAX)
            return rt_fail(x->graph, "conv_transpose2d: the result would have %lld pixels", (long long)extent);
        at.extent[i] = (int)extent;
    }
    rt_node *y = rt__emit2(RT_OP_conv2d_data, x, w, &at);
    if (!b || rt__failed(b)) return b ? b : y;
    if (b->rank != 1) return rt_fail(x->graph, "conv_transpose2d: the bias must have one axis");
    return rt_add(y, rt_reshape(b, 4, (int64_t[]){1, b->shape[0], 1, 1}));
}

/* ---- normalisation */

rt_node *rt_group_norm(rt_node *x, rt_node *w, rt_node *b, int groups, double eps)
{
    if (!w != !b) return rt_fail(x->graph, "group_norm: weight and bias come together");
    rt__group_attr at = {.groups = groups, .eps = eps};
    return rt__emit(x->graph, RT_OP_group_norm, (rt_node *[]){x, w, b}, w ? 3 : 1, &at);
}

/* ---- resolution */

rt_node *rt_upsample_nearest(rt_node *x, int scale) { return rt__emit1(RT_OP_upsample_nearest, x, &(int64_t){scale}); }

static rt__pool_attr pool_attr(const rt_pool *p)
{
    return (rt__pool_attr){.kernel = {p->kernel[0], p->kernel[1]},
                           .stride = {p->stride[0], p->stride[1]},
                           .pad = {p->pad[0], p->pad[1]},
                           .exclude_pad = p->exclude_pad};
}

rt_node *rt_avg_pool2d(rt_node *x, const rt_pool *pool)
{
    rt__pool_attr at = pool_attr(pool);
    return rt__emit1(RT_OP_avg_pool2d, x, &at);
}

rt_node *rt_max_pool2d(rt_node *x, const rt_pool *pool)
{
    rt__pool_attr at = pool_attr(pool);
    at.exclude_pad = 0; /* means nothing here: equal nodes should compare equal */
    return rt__emit1(RT_OP_max_pool2d, x, &at);
}

/* ---- volumes */

rt_node *rt_trilinear(rt_node *grid, rt_node *points) { return rt__emit2(RT_OP_trilinear, grid, points, NULL); }

rt_node *rt_render(rt_node *grid, rt_node *rays, rt_node *particle, int samples, double density_bias)
{
    rt__render_attr at = {samples, density_bias};
    return rt__emit(grid->graph, RT_OP_render, (rt_node *[]){grid, rays, particle}, particle ? 3 : 2, &at);
}
