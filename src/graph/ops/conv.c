/* conv.c -- convolution and its two adjoints. Each one's gradients are the other two, so derivatives of any order stay in the family:
 *
 *     y  = conv2d(x, w)            <gy, y> is linear in gy, x and w
 *     gx = conv2d_data(gy, w)
 *     gw = conv2d_weight(x, gy)                                                                                                          */
#include "graph/ops/gemm.h"

enum { CONV_LIMIT = 1 << 20, IMAGE_LIMIT = 1 << 28 }; /* of padding, strides and dilations; of extents: int32 positions cannot overflow */

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
    if (w[2] > CONV_LIMIT || w[3] > CONV_LIMIT || x[2] > IMAGE_LIMIT || x[3] > IMAGE_LIMIT / x[2])
        return rt__bad(y, "image or kernel too large");
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

static rt_node *conv2d_jvp(rt_node *y, rt_node *const *dx)
{
    const rt_conv *c = &((const rt__conv_attr *)y->attr)->conv;
    rt_node *sum = dx[0] ? rt_conv2d(dx[0], y->in[1], NULL, c) : NULL, *b = y->n_in == 3 ? dx[2] : NULL;
    if (dx[1]) {
        rt_node *part = rt_conv2d(y->in[0], dx[1], b, c);
        return sum ? rt_add(sum, part) : part;
    }
    if (!b) return sum;
    b = rt_reshape(b, 4, (int64_t[]){1, y->shape[1], 1, 1});
    return sum ? rt_add(sum, b) : b;
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

/* ---- kernels: products of the weights, or of the gradient, with patches of the image that are gathered as they are needed. The three differ in
 * what is a row, a column and summed over:
 *
 *     conv2d         rows o   columns (i,j)     summed (k,l,c)
 *     conv2d_data    rows c   columns (i,j)     summed (k,l,o)
 *     conv2d_weight  rows o   columns (c,k,l)   summed (n,i,j)                                                                           */

typedef struct geometry {
    int64_t n, c, h, w;             /* x */
    int64_t o, oh, ow;              /* y */
    int64_t kh, kw, cg, og, groups; /* kernel; channels of a group, in and out */
    int64_t sy, sx, dy, dx, left, top;
} geometry;

static geometry geometry_of(const rt_call *c, const rt_view *x, const rt_view *w, const rt_view *y)
{
    const rt_conv *a = &((const rt__conv_attr *)c->node->attr)->conv;
    geometry g = {.n = x->dim[0], .c = x->dim[1], .h = x->dim[2], .w = x->dim[3], .o = y->dim[1], .oh = y->dim[2], .ow = y->dim[3]};
    g.kh = w->dim[2], g.kw = w->dim[3], g.cg = w->dim[1], g.og = w->dim[0] / a->groups, g.groups = a->groups;
    g.sy = a->stride[0], g.sx = a->stride[1], g.dy = a->dilation[0], g.dx = a->dilation[1], g.left = a->pad[0], g.top = a->pad[2];
    return g;
}

/* w as a matrix: w[row * row_step + channel * channel_step + tap]; the summed axis is (tap, channel). */
typedef struct kernel_factor {
    const real *w;
    int64_t row_step, channel_step, channels;
} kernel_factor;

static void pack_kernel(real *to, const void *of, int64_t at, int64_t m, int64_t l0, int64_t k)
{
    const kernel_factor *f = of;
    for (int64_t i0 = 0; i0 < m; i0 += MR)
        for (int64_t l = l0; l < l0 + k; l++)
            for (int64_t i = i0; i < i0 + MR; i++)
                *to++ = i < m ? f->w[(at + i) * f->row_step + l % f->channels * f->channel_step + l / f->channels] : 0;
}

/* The image that is read (x, or gy for conv2d_data) as a matrix: columns are pixels of the image that is written. */
typedef struct image_factor {
    const real *image; /* of one sample and group */
    int64_t plane, channels;
    const geometry *g;
    bool adjoint;
} image_factor;

/* Position in its plane of the pixel that tap (ky, kx) brings to pixel `p` of the result; -1: none, a zero. */
static int32_t source_of(const image_factor *f, int64_t p, int64_t ky, int64_t kx)
{
    const geometry *g = f->g;
    if (!f->adjoint) {
        int64_t y = p / g->ow * g->sy + ky * g->dy - g->top, x = p % g->ow * g->sx + kx * g->dx - g->left;
        return y < 0 || y >= g->h || x < 0 || x >= g->w ? -1 : (int32_t)(y * g->w + x);
    }
    int64_t y = p / g->w + g->top - ky * g->dy, x = p % g->w + g->left - kx * g->dx;
    if (y < 0 || x < 0 || y % g->sy || x % g->sx) return -1;
    y /= g->sy, x /= g->sx;
    return y >= g->oh || x >= g->ow ? -1 : (int32_t)(y * g->ow + x);
}

static void pack_image(real *to, const void *of, int64_t at, int64_t n, int64_t l0, int64_t k)
{
    const image_factor *f = of;
    int32_t source[NC];
    int64_t padded = (n + NR - 1) / NR * NR, known = -1;
    for (int64_t l = 0; l < k; l++) {
        int64_t tap = (l0 + l) / f->channels, channel = (l0 + l) % f->channels;
        if (tap != known)
            for (int64_t j = 0; j < padded; j++) source[j] = j < n ? source_of(f, at + j, tap / f->g->kw, tap % f->g->kw) : -1;
        known = tap;
        const real *restrict from = f->image + channel * f->plane;
        for (int64_t j0 = 0; j0 < padded; j0 += NR) {
            real *restrict panel = to + j0 * k + l * NR;
#pragma omp simd
            for (int j = 0; j < NR; j++) {
                int32_t s = source[j0 + j];
                real v = from[s < 0 ? 0 : s];
                panel[j] = s < 0 ? 0 : v;
            }
        }
    }
}

/* y, of `rows` channels per group and `pixels`, from the weights and an image. */
static void convolve(const rt_call *c, const geometry *g, kernel_factor w, const rt_view *image, bool adjoint, const real *bias)
{
    int64_t pixels = c->out.dim[2] * c->out.dim[3], rows = c->out.dim[1] / g->groups, plane = image->dim[2] * image->dim[3];
    int64_t tiles_m = (rows + MC - 1) / MC, tiles_n = (pixels + NC - 1) / NC;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t s = 0; s < g->n * g->groups; s++)
        for (int64_t t = 0; t < tiles_m * tiles_n; t++) {
            int64_t group = s % g->groups, i = t / tiles_n * MC, j = t % tiles_n * NC, m = least(MC, rows - i), n = least(NC, pixels - j);
            image_factor from = {(const real *)image->data + s * w.channels * plane, plane, w.channels, g, adjoint};
            kernel_factor kernel = w;
            kernel.w += group * g->og * g->cg * g->kh * g->kw;
            real *y = (real *)c->out.data + s * rows * pixels;
            gemm_tile(y, pixels, i, m, j, n, w.channels * g->kh * g->kw, pack_kernel, &kernel, pack_image, &from);
            for (int64_t o = i; o < i + m && bias; o++)
                for (int64_t p = j; p < j + n; p++) y[o * pixels + p] += bias[group * rows + o];
        }
}

static void conv2d_run(const rt_call *c)
{
    const geometry g = geometry_of(c, &c->in[0], &c->in[1], &c->out);
    int64_t taps = g.kh * g.kw;
    convolve(c, &g, (kernel_factor){c->in[1].data, g.cg * taps, taps, g.cg}, &c->in[0], false, c->n_in == 3 ? c->in[2].data : NULL);
}

static void conv2d_data_run(const rt_call *c)
{
    const geometry g = geometry_of(c, &c->out, &c->in[1], &c->in[0]);
    int64_t taps = g.kh * g.kw;
    convolve(c, &g, (kernel_factor){c->in[1].data, taps, g.cg * taps, g.og}, &c->in[0], true, NULL);
}

typedef struct weight_factor {
    const geometry *g;
    const real *x, *gy; /* of one group in the first sample */
} weight_factor;

static void pack_gradient(real *to, const void *of, int64_t at, int64_t m, int64_t l0, int64_t k)
{
    const weight_factor *f = of;
    int64_t pixels = f->g->oh * f->g->ow;
    for (int64_t i0 = 0; i0 < m; i0 += MR, to += k * MR)
        for (int64_t i = 0; i < MR; i++)
            for (int64_t l = 0; l < k; l++) {
                int64_t n = (l0 + l) / pixels, p = (l0 + l) % pixels;
                to[l * MR + i] = i0 + i < m ? f->gy[(n * f->g->o + at + i0 + i) * pixels + p] : 0;
            }
}

static void pack_patches(real *to, const void *of, int64_t at, int64_t n, int64_t l0, int64_t k)
{
    const weight_factor *f = of;
    const geometry *g = f->g;
    int32_t y[NC], x[NC], plane[NC]; /* of each column (c,k,l): where its tap stands for output (0,0), and its channel */
    int64_t padded = (n + NR - 1) / NR * NR;
    for (int64_t j = 0; j < padded; j++) {
        int64_t tap = (at + j) % (g->kh * g->kw);
        y[j] = j < n ? (int32_t)(tap / g->kw * g->dy - g->top) : INT32_MIN / 2;
        x[j] = (int32_t)(tap % g->kw * g->dx - g->left);
        plane[j] = (int32_t)((at + j) / (g->kh * g->kw));
    }
    int32_t h = (int32_t)g->h, w = (int32_t)g->w;
    for (int64_t l = 0; l < k; l++) {
        int64_t sample = (l0 + l) / (g->oh * g->ow), p = (l0 + l) % (g->oh * g->ow);
        int32_t y0 = (int32_t)(p / g->ow * g->sy), x0 = (int32_t)(p % g->ow * g->sx);
        const real *restrict from = f->x + sample * g->c * g->h * g->w;
        for (int64_t j0 = 0; j0 < padded; j0 += NR) {
            real *restrict panel = to + j0 * k + l * NR;
#pragma omp simd
            for (int j = 0; j < NR; j++) {
                int32_t iy = y0 + y[j0 + j], ix = x0 + x[j0 + j];
                bool inside = (iy >= 0) & (iy < h) & (ix >= 0) & (ix < w);
                real v = from[inside ? ((int64_t)plane[j0 + j] * h + iy) * w + ix : 0];
                panel[j] = inside ? v : 0;
            }
        }
    }
}

static void conv2d_weight_run(const rt_call *c)
{
    const geometry g = geometry_of(c, &c->in[0], &c->out, &c->in[1]);
    int64_t columns = g.cg * g.kh * g.kw, tiles_m = (g.og + MC - 1) / MC, tiles_n = (columns + NC - 1) / NC;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t group = 0; group < g.groups; group++)
        for (int64_t t = 0; t < tiles_m * tiles_n; t++) {
            int64_t i = t / tiles_n * MC, j = t % tiles_n * NC;
            weight_factor f = {&g, (const real *)c->in[0].data + group * g.cg * g.h * g.w,
                               (const real *)c->in[1].data + group * g.og * g.oh * g.ow};
            real *y = (real *)c->out.data + group * g.og * columns;
            gemm_tile(y, columns, i, least(MC, g.og - i), j, least(NC, columns - j), g.n * g.oh * g.ow, pack_gradient, &f, pack_patches,
                      &f);
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
    .layout = RT_LAYOUT_BACKEND,
    .type = RT_TYPE_BACKEND,
    .batch = RT_MAPS,
    .shape = conv2d_shape,
    .grad = conv2d_grad,
    .jvp = conv2d_jvp,
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
    .layout = RT_LAYOUT_BACKEND,
    .type = RT_TYPE_BACKEND,
    .batch = RT_MAPS,
    .shape = conv2d_data_shape,
    .grad = conv2d_data_grad,
    .jvp = rt__jvp_linear,
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
    .layout = RT_LAYOUT_BACKEND,
    .type = RT_TYPE_BACKEND,
    .batch = RT_SUMS,
    .shape = conv2d_weight_shape,
    .grad = conv2d_weight_grad,
    .jvp = rt__jvp_linear,
    .run = conv2d_weight_run,
    .flop = conv2d_weight_flop,
    .sample = conv2d_weight_sample,
};
