/* conv.c -- convolution and its two adjoints. Each one's gradients are the other two, so derivatives of any order stay in the family:
 *
 *     y  = conv2d(x, w)            <gy, y> is linear in gy, x and w
 *     gx = conv2d_data(gy, w)
 *     gw = conv2d_weight(x, gy)                                                                                                          */
#include "graph/row.h"

#include <string.h>

enum { CONV_LIMIT = 1 << 20 }; /* of padding, strides and dilations: extents stay far from overflow */

static bool conv_attr_ok(rt_node *y)
{
    const rt_conv *c = &((const rt__conv_attr *)y->attr)->conv;
    for (int i = 0; i < 2; i++)
        if (c->stride[i] < 1 || c->dilation[i] < 1 || c->stride[i] > CONV_LIMIT || c->dilation[i] > CONV_LIMIT)
            return rt__bad(y, "stride %d and dilation %d must be at least 1", c->stride[i], c->dilation[i]);
    for (int i = 0; i < 4; i++)
        if (c->pad[i] < 0 || c->pad[i] > CONV_LIMIT) return rt__bad(y, "padding %d must not be negative", c->pad[i]);
    if (c->groups < 1) return rt__bad(y, "%d groups; at least 1", c->groups);
    for (int i = 0; i < y->n_in; i++)
        if (!rt__is_real(y->in[i]) || y->in[i]->dtype != y->in[0]->dtype) return rt__bad(y, "types must be one real type");
    return true;
}

/* Extent of the result along one axis (0: y, 1: x); below 1 if the kernel does not fit. */
static int64_t conv_extent(const rt_conv *c, int axis, int64_t in, int64_t kernel)
{
    int64_t pad = axis ? c->pad[0] + c->pad[1] : c->pad[2] + c->pad[3];
    int64_t room = in + pad - c->dilation[axis] * (kernel - 1) - 1;
    return room < 0 ? 0 : room / c->stride[axis] + 1;
}

/* Do x (N,C,H,W), w (O,C/g,kh,kw) and gy (N,O,oh,ow) belong together? Shapes are given, so the three rows can ask alike. */
static bool conv_fits(rt_node *y, const int64_t *x, const int64_t *w, const int64_t *gy)
{
    const rt_conv *c = &((const rt__conv_attr *)y->attr)->conv;
    if (w[0] < 1 || w[1] < 1 || w[2] < 1 || w[3] < 1) return rt__bad(y, "extents of the kernel must be at least 1");
    if (x[1] != w[1] * c->groups || w[0] % c->groups)
        return rt__bad(y, "%lld channels and a kernel (%lld,%lld,..) do not fit %d groups", (long long)x[1], (long long)w[0],
                       (long long)w[1], c->groups);
    if (w[2] > CONV_LIMIT || w[3] > CONV_LIMIT || x[2] > INT32_MAX || x[3] > INT32_MAX) return rt__bad(y, "image or kernel too large");
    int64_t oh = conv_extent(c, 0, x[2], w[2]), ow = conv_extent(c, 1, x[3], w[3]);
    if (oh < 1 || ow < 1) return rt__bad(y, "the kernel is larger than the padded image");
    if (gy && (gy[0] != x[0] || gy[1] != w[0] || gy[2] != oh || gy[3] != ow))
        return rt__bad(y, "a result of (%lld,%lld) pixels was expected, not (%lld,%lld), of %lld channels", (long long)oh, (long long)ow,
                       (long long)gy[2], (long long)gy[3], (long long)w[0]);
    return true;
}

static bool set_shape(rt_node *y, int64_t a, int64_t b, int64_t c, int64_t d)
{
    y->dtype = y->in[0]->dtype;
    y->rank = 4;
    y->shape[0] = a, y->shape[1] = b, y->shape[2] = c, y->shape[3] = d;
    return true;
}

static bool rank4(rt_node *y)
{
    for (int i = 0; i < 2; i++)
        if (y->in[i]->rank != 4) return rt__bad(y, "input %d must have four axes", i);
    return true;
}

static bool conv2d_shape(rt_node *y)
{
    const rt_conv *c = &((const rt__conv_attr *)y->attr)->conv;
    if (!rank4(y) || !conv_attr_ok(y)) return false;
    const int64_t *x = y->in[0]->shape, *w = y->in[1]->shape;
    if (!conv_fits(y, x, w, NULL)) return false;
    if (y->n_in == 3 && (y->in[2]->rank != 1 || y->in[2]->shape[0] != w[0])) return rt__bad(y, "the bias must be (%lld)", (long long)w[0]);
    return set_shape(y, x[0], w[0], conv_extent(c, 0, x[2], w[2]), conv_extent(c, 1, x[3], w[3]));
}

static bool conv2d_data_shape(rt_node *y)
{
    const rt__conv_attr *at = y->attr;
    if (!rank4(y) || !conv_attr_ok(y)) return false;
    const int64_t *gy = y->in[0]->shape, *w = y->in[1]->shape;
    if (w[1] > INT64_MAX / at->conv.groups) return rt__bad(y, "too many channels");
    int64_t x[4] = {gy[0], w[1] * at->conv.groups, at->extent[0], at->extent[1]};
    return conv_fits(y, x, w, gy) && set_shape(y, x[0], x[1], x[2], x[3]);
}

static bool conv2d_weight_shape(rt_node *y)
{
    const rt__conv_attr *at = y->attr;
    if (!rank4(y) || !conv_attr_ok(y)) return false;
    const int64_t *x = y->in[0]->shape, *gy = y->in[1]->shape;
    int64_t w[4] = {gy[1], x[1] / at->conv.groups, at->extent[0], at->extent[1]};
    return conv_fits(y, x, w, gy) && set_shape(y, w[0], w[1], w[2], w[3]);
}

/* ---- gradients */

static rt_node *with_extent(rt_node *like, rt__op_id op, rt_node *a, rt_node *b, int64_t e0, int64_t e1)
{
    rt__conv_attr at = *(const rt__conv_attr *)like->attr; /* all ints: no padding bytes */
    at.extent[0] = (int)e0, at.extent[1] = (int)e1;
    return rt__emit2(op, a, b, &at);
}

static rt_node *to_x(rt_node *y, rt_node *gy, rt_node *w, const rt_node *x)
{
    return with_extent(y, RT_OP_conv2d_data, gy, w, x->shape[2], x->shape[3]);
}

static rt_node *to_w(rt_node *y, rt_node *x, rt_node *gy, const rt_node *w)
{
    return with_extent(y, RT_OP_conv2d_weight, x, gy, w->shape[2], w->shape[3]);
}

static void conv2d_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt_node *x = y->in[0], *w = y->in[1];
    gx[0] = to_x(y, gy, w, x);
    gx[1] = to_w(y, x, gy, w);
    if (y->n_in == 3) gx[2] = rt_sum(gy, 1u << 0 | 1u << 2 | 1u << 3, false);
}

static void conv2d_data_grad(rt_node *y, rt_node *g, rt_node **gx)
{
    rt_node *gy = y->in[0], *w = y->in[1];
    gx[0] = with_extent(y, RT_OP_conv2d, g, w, 0, 0);
    gx[1] = to_w(y, g, gy, w);
}

static void conv2d_weight_grad(rt_node *y, rt_node *g, rt_node **gx)
{
    rt_node *x = y->in[0], *gy = y->in[1];
    gx[0] = to_x(y, gy, g, x);
    gx[1] = with_extent(y, RT_OP_conv2d, x, g, 0, 0);
}

/* ---- kernels: the innermost loop runs along a row of the result, over the pixels whose partner lies inside the image */

typedef struct geometry {
    int64_t n, c, h, w;     /* x */
    int64_t o, oh, ow;      /* y */
    int64_t kh, kw, cg, og; /* kernel; channels of a group, in and out */
    int64_t sy, sx, dy, dx, left, top;
} geometry;

static geometry geometry_of(const rt_call *c, const rt_view *x, const rt_view *w, const rt_view *y)
{
    const rt_conv *a = &((const rt__conv_attr *)c->node->attr)->conv;
    return (geometry){x->dim[0],
                      x->dim[1],
                      x->dim[2],
                      x->dim[3],
                      y->dim[1],
                      y->dim[2],
                      y->dim[3],
                      w->dim[2],
                      w->dim[3],
                      w->dim[1],
                      w->dim[0] / a->groups,
                      a->stride[0],
                      a->stride[1],
                      a->dilation[0],
                      a->dilation[1],
                      a->pad[0],
                      a->pad[2]};
}

/* The outputs ox in [*from, *to) whose input ox s + offset lies in [0, extent). */
static void inside(int64_t offset, int64_t s, int64_t extent, int64_t out, int64_t *from, int64_t *to)
{
    *from = offset >= 0 ? 0 : (-offset + s - 1) / s;
    *to = offset >= extent ? 0 : (extent - 1 - offset) / s + 1;
    if (*to > out) *to = out;
    if (*from > *to) *from = *to;
}

enum { BLOCK = 4 }; /* output channels that share each row of x while it is in the first cache */

static void conv2d_run(const rt_call *call)
{
    const geometry g = geometry_of(call, &call->in[0], &call->in[1], &call->out);
    const real *x = call->in[0].data, *w = call->in[1].data, *b = call->n_in == 3 ? call->in[2].data : NULL;
    real *y = call->out.data;
    int64_t blocks = (g.og + BLOCK - 1) / BLOCK, groups = g.o / g.og;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t n = 0; n < g.n; n++)
        for (int64_t t = 0; t < groups * blocks; t++) {
            int64_t group = t / blocks, o0 = group * g.og + t % blocks * BLOCK, o1 = o0 + BLOCK;
            if (o1 > (group + 1) * g.og) o1 = (group + 1) * g.og;
            for (int64_t o = o0; o < o1; o++)
                for (int64_t i = 0; i < g.oh * g.ow; i++) y[(n * g.o + o) * g.oh * g.ow + i] = b ? b[o] : 0;
            for (int64_t c = 0; c < g.cg; c++)
                for (int64_t oy = 0; oy < g.oh; oy++)
                    for (int64_t ky = 0; ky < g.kh; ky++) {
                        int64_t iy = oy * g.sy + ky * g.dy - g.top;
                        if (iy < 0 || iy >= g.h) continue;
                        const real *restrict row = x + ((n * g.c + group * g.cg + c) * g.h + iy) * g.w;
                        for (int64_t kx = 0; kx < g.kw; kx++) {
                            int64_t offset = kx * g.dx - g.left, from, to;
                            inside(offset, g.sx, g.w, g.ow, &from, &to);
                            for (int64_t o = o0; o < o1; o++) {
                                real f = w[((o * g.cg + c) * g.kh + ky) * g.kw + kx];
                                real *restrict out = y + ((n * g.o + o) * g.oh + oy) * g.ow;
                                if (g.sx == 1)
                                    for (int64_t i = from; i < to; i++) out[i] += f * row[i + offset];
                                else
                                    for (int64_t i = from; i < to; i++) out[i] += f * row[i * g.sx + offset];
                            }
                        }
                    }
        }
}

static void conv2d_data_run(const rt_call *call)
{
    const geometry g = geometry_of(call, &call->out, &call->in[1], &call->in[0]);
    const real *gy = call->in[0].data, *w = call->in[1].data;
    real *gx = call->out.data;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t n = 0; n < g.n; n++)
        for (int64_t c = 0; c < g.c; c++) {
            real *plane = gx + (n * g.c + c) * g.h * g.w;
            memset(plane, 0, (size_t)(g.h * g.w) * sizeof *plane);
            for (int64_t o = c / g.cg * g.og; o < (c / g.cg + 1) * g.og; o++)
                for (int64_t oy = 0; oy < g.oh; oy++)
                    for (int64_t ky = 0; ky < g.kh; ky++) {
                        int64_t iy = oy * g.sy + ky * g.dy - g.top;
                        if (iy < 0 || iy >= g.h) continue;
                        const real *restrict in = gy + ((n * g.o + o) * g.oh + oy) * g.ow;
                        for (int64_t kx = 0; kx < g.kw; kx++) {
                            int64_t offset = kx * g.dx - g.left, from, to;
                            inside(offset, g.sx, g.w, g.ow, &from, &to);
                            real f = w[((o * g.cg + c % g.cg) * g.kh + ky) * g.kw + kx];
                            real *restrict row = plane + iy * g.w;
                            if (g.sx == 1)
                                for (int64_t i = from; i < to; i++) row[i + offset] += f * in[i];
                            else
                                for (int64_t i = from; i < to; i++) row[i * g.sx + offset] += f * in[i];
                        }
                    }
        }
}

/* Rows are summed in `real`, rows and images in double. */
static void conv2d_weight_run(const rt_call *call)
{
    const geometry g = geometry_of(call, &call->in[0], &call->out, &call->in[1]);
    const real *x = call->in[0].data, *gy = call->in[1].data;
    real *gw = call->out.data;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t o = 0; o < g.o; o++)
        for (int64_t c = 0; c < g.cg; c++)
            for (int64_t ky = 0; ky < g.kh; ky++)
                for (int64_t kx = 0; kx < g.kw; kx++) {
                    int64_t offset = kx * g.dx - g.left, from, to;
                    inside(offset, g.sx, g.w, g.ow, &from, &to);
                    double total = 0;
                    for (int64_t n = 0; n < g.n; n++) {
                        const real *plane = x + (n * g.c + o / g.og * g.cg + c) * g.h * g.w, *in = gy + (n * g.o + o) * g.oh * g.ow;
                        for (int64_t oy = 0; oy < g.oh; oy++) {
                            int64_t iy = oy * g.sy + ky * g.dy - g.top;
                            if (iy < 0 || iy >= g.h) continue;
                            const real *row = plane + iy * g.w;
                            real sum = 0;
                            if (g.sx == 1) {
#pragma omp simd reduction(+ : sum)
                                for (int64_t i = from; i < to; i++) sum += in[oy * g.ow + i] * row[i + offset];
                            } else {
#pragma omp simd reduction(+ : sum)
                                for (int64_t i = from; i < to; i++) sum += in[oy * g.ow + i] * row[i * g.sx + offset];
                            }
                            total += (double)sum;
                        }
                    }
                    gw[((o * g.cg + c) * g.kh + ky) * g.kw + kx] = (real)total;
                }
}

/* ---- counts: the direct algorithm, padding included */

static double flop_of(const rt_view *w, const rt_view *y) { return 2.0 * (double)y->count * (double)(w->dim[1] * w->dim[2] * w->dim[3]); }
static double conv2d_flop(const rt_call *c) { return flop_of(&c->in[1], &c->out); }
static double conv2d_data_flop(const rt_call *c) { return flop_of(&c->in[1], &c->in[0]); }
static double conv2d_weight_flop(const rt_call *c) { return flop_of(&c->out, &c->in[1]); }

/* ---- samples */

static const rt_conv forms[] = {
    {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}, /* the usual one */
    {{2, 2}, {0, 1, 0, 1}, {1, 1}, 1}, /* diffusers' downsampling */
    {{2, 1}, {2, 0, 1, 3}, {1, 2}, 2}, /* everything unequal */
    {{1, 1}, {1, 1, 1, 1}, {1, 1}, 4}, /* depthwise */
    {{3, 2}, {0, 0, 0, 0}, {2, 1}, 1}, /* pixels that no window touches */
    {{1, 1}, {4, 0, 0, 4}, {1, 1}, 1}, /* windows that see padding only */
};

static const int64_t outs[] = {3, 2, 6, 4, 2, 2};

static rt_node *conv_input(rt_graph *g, const char *name, int k) { return RT_SAMPLE_IN(g, name, k == 1 ? RT_BATCH : 2, 4, 7, 6); }

static rt_node *conv_weight(rt_graph *g, const char *name, int k) { return RT_SAMPLE_IN(g, name, outs[k], 4 / forms[k].groups, 3, 2); }

static rt_node *conv_result(rt_graph *g, const char *name, int k)
{
    return RT_SAMPLE_IN(g, name, k == 1 ? RT_BATCH : 2, outs[k], conv_extent(&forms[k], 0, 7, 3), conv_extent(&forms[k], 1, 6, 2));
}

static rt_node *conv2d_sample(rt_graph *g, int k)
{
    if (k < 0) return rt_conv2d(RT_SAMPLE_IN(g, "a", 2, 4, 7, 6), RT_SAMPLE_IN(g, "b", 2, 3, 3, 3), NULL, RT_CONV(1, 1));
    if (k < (int)RT_COUNT(forms))
        return rt_conv2d(conv_input(g, "a", k), conv_weight(g, "b", k), k % 2 ? NULL : RT_SAMPLE_IN(g, "c", outs[k]), &forms[k]);
    return k == RT_COUNT(forms) ? rt_conv2d(RT_SAMPLE_IN(g, "a", RT_BATCH, 5, 4, 3), RT_SAMPLE_IN(g, "b", 9, 5, 1, 1), NULL, RT_CONV(1, 0))
                                : NULL;
}

static rt_node *conv2d_data_sample(rt_graph *g, int k)
{
    rt__conv_attr at = {.conv = forms[k < 0 ? 0 : k % (int)RT_COUNT(forms)], .extent = {k < 0 ? 9 : 7, 6}};
    if (k >= (int)RT_COUNT(forms)) return NULL;
    int form = k < 0 ? 0 : k;
    return rt__emit2(RT_OP_conv2d_data, conv_result(g, "a", form), conv_weight(g, "b", form), &at);
}

static rt_node *conv2d_weight_sample(rt_graph *g, int k)
{
    rt__conv_attr at = {.conv = forms[k < 0 ? 0 : k % (int)RT_COUNT(forms)], .extent = {k < 0 ? 5 : 3, 2}};
    if (k >= (int)RT_COUNT(forms)) return NULL;
    int form = k < 0 ? 0 : k;
    return rt__emit2(RT_OP_conv2d_weight, conv_input(g, "a", form), conv_result(g, "b", form), &at);
}

const rt_op RT_ROW(conv2d) = {
    .name = "conv2d",
    .formula = "y[n,o,i,j] = b[o] + sum_{c,k,l} w[o,c,k,l] x[n,c,s i + d k - top, s j + d l - left], zeros outside x",
    .min_in = 2,
    .max_in = 3,
    .attr_size = sizeof(rt__conv_attr),
    .batch = RT_MAPS,
    .shape = conv2d_shape,
    .grad = conv2d_grad,
    .run = conv2d_run,
    .flop = conv2d_flop,
    .sample = conv2d_sample,
};

const rt_op RT_ROW(conv2d_data) = {
    .name = "conv2d_data",
    .formula = "gx[n,c,s i + d k - top, s j + d l - left] += w[o,c,k,l] gy[n,o,i,j]: the transposed convolution",
    .min_in = 2,
    .max_in = 2,
    .attr_size = sizeof(rt__conv_attr),
    .batch = RT_MAPS,
    .shape = conv2d_data_shape,
    .grad = conv2d_data_grad,
    .run = conv2d_data_run,
    .flop = conv2d_data_flop,
    .sample = conv2d_data_sample,
};

const rt_op RT_ROW(conv2d_weight) = {
    .name = "conv2d_weight",
    .formula = "gw[o,c,k,l] = sum_{n,i,j} gy[n,o,i,j] x[n,c,s i + d k - top, s j + d l - left]",
    .min_in = 2,
    .max_in = 2,
    .attr_size = sizeof(rt__conv_attr),
    .batch = RT_SUMS,
    .shape = conv2d_weight_shape,
    .grad = conv2d_weight_grad,
    .run = conv2d_weight_run,
    .flop = conv2d_weight_flop,
    .sample = conv2d_weight_sample,
};
