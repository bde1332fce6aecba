/* resample.c -- changing the resolution of images (N,C,H,W).
 *
 * Averages and their adjoint are linear and each other's gradient. The maximum is a choice that x makes and v follows:
 *
 *     y  = max_pool2d(x)             = max_pool2d_pick(x, x)
 *     gx = max_pool2d_data(x, gy)    adjoint of max_pool2d_pick(x, v) in v
 *
 * and as functions of x the last two are constant wherever they can be differentiated, so derivatives of any order exist. Of equal pixels the
 * first one in the window is the maximum. */
#include "graph/ops/attr.h"
#include "graph/ops/kernel.h"

static bool image(rt_node *y, int index)
{
    const rt_node *x = y->in[index];
    if (rt__is_real(x) && x->rank == 4) return true;
    return rt__bad(y, "an image must be real, (N,C,H,W)");
}

static bool set_shape(rt_node *y, int64_t h, int64_t w)
{
    const rt_node *x = y->in[0];
    y->dtype = x->dtype;
    y->rank = 4;
    y->shape[0] = x->shape[0], y->shape[1] = x->shape[1], y->shape[2] = h, y->shape[3] = w;
    return true;
}

/* Channels of a pixel: those of a block, or the one of a plain plane. */
static int64_t channels_of(const rt_call *c) { return c->out.block > 1 ? c->out.block : 1; }

/* ---- upsample_nearest */

static bool upsample_shape(rt_node *y)
{
    int64_t s = ((const rt__scale_attr *)y->attr)->scale;
    if (!image(y, 0)) return false;
    if (s < 1 || s > 1 << 16) return rt__bad(y, "scale %lld; must be 1 to %d", (long long)s, 1 << 16);
    if (y->in[0]->shape[2] > INT32_MAX || y->in[0]->shape[3] > INT32_MAX) return rt__bad(y, "image too large");
    return set_shape(y, y->in[0]->shape[2] * s, y->in[0]->shape[3] * s);
}

static void upsample_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    int s = (int)((const rt__scale_attr *)y->attr)->scale;
    gx[0] = rt_scale(rt_avg_pool2d(gy, &(rt_pool){.kernel = {s, s}, .stride = {s, s}}), (double)s * s);
}

/* A pixel is b channels side by side: a row of w pixels becomes s rows of w s. */
static void upsample_run(const rt_call *c)
{
    int64_t s = ((const rt__scale_attr *)c->node->attr)->scale, b = channels_of(c), w = c->in[0].dim[3], rows = c->in[0].count / (w * b);
    size_t pixel = (size_t)b * rt_dtype_size(c->out.dtype);
#pragma omp parallel for schedule(static) if (c->out.count > 4096)
    for (int64_t r = 0; r < rows; r++) {
        const char *restrict x = (const char *)c->in[0].data + (size_t)(r * w) * pixel;
        char *restrict y = (char *)c->out.data + (size_t)(r * w * s * s) * pixel;
        if (s == 2 && pixel == sizeof(real))
            for (int64_t i = 0; i < w; i++)
                ((real *)(void *)y)[2 * i] = ((real *)(void *)y)[2 * i + 1] = ((const real *)(const void *)x)[i];
        else
            for (int64_t i = 0; i < w * s; i++) memcpy(y + (size_t)i * pixel, x + (size_t)(i / s) * pixel, pixel);
        for (int64_t k = 1; k < s; k++) memcpy(y + (size_t)(k * w * s) * pixel, y, (size_t)(w * s) * pixel);
    }
}

/* ---- pooling */

static const rt__pool_attr *pool_of(const rt_node *y) { return y->attr; }

static int64_t pool_extent(const rt__pool_attr *p, int axis, int64_t in)
{
    return (in + 2 * (int64_t)p->pad[axis] - p->kernel[axis]) / p->stride[axis] + 1;
}

/* h, w: extents of the image. */
static bool pool_ok(rt_node *y, int64_t h, int64_t w)
{
    const rt__pool_attr *p = pool_of(y);
    const int64_t in[] = {h, w};
    for (int i = 0; i < 2; i++) {
        if (p->kernel[i] < 1 || p->stride[i] < 1)
            return rt__bad(y, "kernel %d and stride %d must be at least 1", p->kernel[i], p->stride[i]);
        if (p->pad[i] < 0 || p->pad[i] > p->kernel[i] / 2)
            return rt__bad(y, "padding %d; must be 0 to half of the kernel %d", p->pad[i], p->kernel[i]);
        if (in[i] < 1 || in[i] > INT32_MAX || in[i] + 2 * (int64_t)p->pad[i] < p->kernel[i])
            return rt__bad(y, "the window of %d is larger than the padded image of %lld", p->kernel[i], (long long)in[i]);
    }
    return true;
}

static bool pool_shape(rt_node *y)
{
    if (!image(y, 0) || !pool_ok(y, y->in[0]->shape[2], y->in[0]->shape[3])) return false;
    if (y->n_in == 2) { /* pick */
        const rt_node *x = y->in[0], *v = y->in[1];
        if (!image(y, 1) || v->dtype != x->dtype || memcmp(v->shape, x->shape, 4 * sizeof *x->shape))
            return rt__bad(y, "both inputs must have one shape and type");
    }
    return set_shape(y, pool_extent(pool_of(y), 0, y->in[0]->shape[2]), pool_extent(pool_of(y), 1, y->in[0]->shape[3]));
}

static bool pool_data_shape(rt_node *y)
{
    const rt__pool_attr *p = pool_of(y);
    const rt_node *gy = y->in[y->n_in - 1], *x = y->in[0];
    if (!image(y, 0) || !image(y, y->n_in - 1) || !pool_ok(y, p->extent[0], p->extent[1])) return false;
    bool fits = gy->dtype == x->dtype && gy->shape[0] == x->shape[0] && gy->shape[1] == x->shape[1];
    if (y->n_in == 2) fits = fits && x->shape[2] == p->extent[0] && x->shape[3] == p->extent[1];
    if (!fits || gy->shape[2] != pool_extent(p, 0, p->extent[0]) || gy->shape[3] != pool_extent(p, 1, p->extent[1]))
        return rt__bad(y, "a gradient of (%lld,%lld) pixels belongs to an image of (%d,%d)", (long long)pool_extent(p, 0, p->extent[0]),
                       (long long)pool_extent(p, 1, p->extent[1]), p->extent[0], p->extent[1]);
    return set_shape(y, p->extent[0], p->extent[1]);
}

static rt__pool_attr for_image(const rt_node *y, const rt_node *x)
{
    rt__pool_attr p = *pool_of(y); /* all ints: no padding bytes */
    p.extent[0] = x ? (int)x->shape[2] : 0;
    p.extent[1] = x ? (int)x->shape[3] : 0;
    return p;
}

static void avg_pool_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt__pool_attr p = for_image(y, y->in[0]);
    gx[0] = rt__emit1(RT_OP_avg_pool2d_data, gy, &p);
}

static void avg_pool_data_grad(rt_node *y, rt_node *g, rt_node **gx)
{
    rt__pool_attr p = for_image(y, NULL);
    gx[0] = rt__emit1(RT_OP_avg_pool2d, g, &p);
}

static void max_pool_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt__pool_attr p = for_image(y, y->in[0]);
    gx[0] = rt__emit2(RT_OP_max_pool2d_data, y->in[0], gy, &p);
}

static void max_pool_data_grad(rt_node *y, rt_node *g, rt_node **gx)
{
    rt__pool_attr p = for_image(y, NULL);
    gx[1] = rt__emit2(RT_OP_max_pool2d_pick, y->in[0], g, &p);
}

static void max_pool_pick_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt__pool_attr p = for_image(y, y->in[0]);
    gx[1] = rt__emit2(RT_OP_max_pool2d_data, y->in[0], gy, &p);
}

static rt_node *max_pool_jvp(rt_node *y, rt_node *const *dx)
{
    rt__pool_attr p = for_image(y, NULL);
    return rt__emit2(RT_OP_max_pool2d_pick, y->in[0], dx[0], &p);
}

/* Of the two rows whose second operand goes where the first one's maxima are: those do not move. */
static rt_node *max_pool_routed_jvp(rt_node *y, rt_node *const *dx) { return rt__jvp_linear(y, (rt_node *[]){NULL, dx[1]}); }

static window window_of(const rt__pool_attr *p, int64_t i, int64_t j, int64_t h, int64_t w)
{
    return window_at(p->kernel, p->stride, p->pad, p->exclude_pad, i, j, h, w);
}

/* Quarters of 2x2 pixels of b channels: the gradient of doubling an image, in every U-Net. */
static void halve(const rt_view *to, const rt_view *from, int64_t n, int64_t b)
{
    int64_t h = from->dim[2], w = from->dim[3], oh = to->dim[2], ow = to->dim[3], run = STRIP / (2 * b) > 0 ? STRIP / (2 * b) : 1;
    for (int64_t i = 0; i < oh; i++)
        for (int64_t j = 0; j < ow; j += run) {
            int64_t pixels = ow - j < run ? ow - j : run, at = ((n * h + 2 * i) * w + 2 * j) * b, out = ((n * oh + i) * ow + j) * b;
            real upper[STRIP], lower[STRIP], result[STRIP], *restrict y = room(to, out, result);
            const real *u = widened(from, at, 2 * pixels * b, upper), *l = widened(from, at + w * b, 2 * pixels * b, lower);
            if (b == 1)
                for (int64_t k = 0; k < pixels; k++) y[k] = (u[2 * k] + u[2 * k + 1] + l[2 * k] + l[2 * k + 1]) * (real)0.25;
            else
                for (int64_t k = 0; k < pixels; k++)
                    for (int64_t c = 0; c < b; c++) {
                        int64_t p = 2 * k * b + c;
                        y[k * b + c] = (u[p] + u[p + b] + l[p] + l[p + b]) * (real)0.25;
                    }
            narrow(to, out, pixels * b, y);
        }
}

static void avg_pool_run(const rt_call *c)
{
    const rt__pool_attr *p = pool_of(c->node);
    bool halves = p->kernel[0] == 2 && p->kernel[1] == 2 && p->stride[0] == 2 && p->stride[1] == 2 && !p->pad[0] && !p->pad[1];
    int64_t h = c->in[0].dim[2], w = c->in[0].dim[3], oh = c->out.dim[2], ow = c->out.dim[3], b = channels_of(c);
#pragma omp parallel for schedule(static) if (c->in[0].count > 4096)
    for (int64_t n = 0; n < c->out.count / (oh * ow * b); n++) {
        if (halves) {
            halve(&c->out, &c->in[0], n, b);
            continue;
        }
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++) {
                window r = window_of(p, i, j, h, w);
                for (int64_t k = 0; k < b; k++) {
                    int64_t at = n * h * w * b + k, out = ((n * oh + i) * ow + j) * b + k;
                    real sum = 0, x, mean;
                    for (int64_t u = r.y0; u < r.y1; u++)
                        for (int64_t v = r.x0; v < r.x1; v++) sum += *widened(&c->in[0], at + (u * w + v) * b, 1, &x);
                    *room(&c->out, out, &mean) = sum * r.weight;
                    narrow(&c->out, out, 1, &mean);
                }
            }
    }
}

static void avg_pool_data_run(const rt_call *c)
{
    const rt__pool_attr *p = pool_of(c->node);
    int64_t h = c->out.dim[2], w = c->out.dim[3], oh = c->in[0].dim[2], ow = c->in[0].dim[3], b = channels_of(c);
#pragma omp parallel for schedule(static) if (c->out.count > 4096)
    for (int64_t n = 0; n < c->out.count / (h * w * b); n++) {
        const real *restrict gy = (const real *)c->in[0].data + n * oh * ow * b;
        real *restrict gx = (real *)c->out.data + n * h * w * b;
        memset(gx, 0, (size_t)(h * w * b) * sizeof *gx);
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++) {
                window r = window_of(p, i, j, h, w);
                for (int64_t u = r.y0; u < r.y1; u++)
                    for (int64_t v = r.x0; v < r.x1; v++)
                        for (int64_t k = 0; k < b; k++) gx[(u * w + v) * b + k] += gy[(i * ow + j) * b + k] * r.weight;
            }
    }
}

/* Index of the window's maximum; a NaN wins, so that it is seen. */
static int64_t argmax(const real *x, const window *r, int64_t w)
{
    int64_t best = r->y0 * w + r->x0;
    for (int64_t a = r->y0; a < r->y1; a++)
        for (int64_t b = r->x0; b < r->x1; b++)
            if (x[a * w + b] > x[best] || x[a * w + b] != x[a * w + b]) best = a * w + b;
    return best;
}

static void max_pool_run(const rt_call *c) /* and pick */
{
    const rt__pool_attr *p = pool_of(c->node);
    const real *from = c->in[c->n_in - 1].data;
    int64_t h = c->in[0].dim[2], w = c->in[0].dim[3], oh = c->out.dim[2], ow = c->out.dim[3], planes = c->out.count / (oh * ow);
#pragma omp parallel for schedule(static) if (c->in[0].count > 4096)
    for (int64_t n = 0; n < planes; n++)
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++) {
                window r = window_of(p, i, j, h, w);
                int64_t at = argmax((const real *)c->in[0].data + n * h * w, &r, w);
                ((real *)c->out.data)[(n * oh + i) * ow + j] = from[n * h * w + at];
            }
}

static void max_pool_data_run(const rt_call *c)
{
    const rt__pool_attr *p = pool_of(c->node);
    int64_t h = c->out.dim[2], w = c->out.dim[3], oh = c->in[1].dim[2], ow = c->in[1].dim[3], planes = c->out.count / (h * w);
#pragma omp parallel for schedule(static) if (c->out.count > 4096)
    for (int64_t n = 0; n < planes; n++) {
        const real *x = (const real *)c->in[0].data + n * h * w, *gy = (const real *)c->in[1].data + n * oh * ow;
        real *gx = (real *)c->out.data + n * h * w;
        memset(gx, 0, (size_t)(h * w) * sizeof *gx);
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++) {
                window r = window_of(p, i, j, h, w);
                gx[argmax(x, &r, w)] += gy[i * ow + j];
            }
    }
}

static double pool_flop(const rt_call *c)
{
    const rt__pool_attr *p = pool_of(c->node);
    const rt_view *small = p->extent[0] ? &c->in[c->n_in - 1] : &c->out;
    return (double)small->count * p->kernel[0] * p->kernel[1];
}

/* ---- samples */

static rt_node *upsample_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_upsample_nearest(RT_SAMPLE_IN(g, "a", 2, 3), 2);
    case 0: return rt_upsample_nearest(RT_SAMPLE_IN(g, "a", RT_BATCH, 2, 3, 5), 2);
    case 1: return rt_upsample_nearest(RT_SAMPLE_IN(g, "a", 2, 1, 2, 3), 3);
    default: return NULL;
    }
}

static const rt__pool_attr pools[] = {
    {{2, 2}, {2, 2}, {0, 0}, 0, {0, 0}}, /* an odd last row and column are dropped */
    {{3, 3}, {2, 2}, {1, 1}, 0, {0, 0}}, /* overlapping */
    {{3, 2}, {1, 2}, {1, 1}, 1, {0, 0}},
    {{2, 1}, {3, 2}, {0, 0}, 0, {0, 0}}, /* gaps */
};

static rt_node *pool_image(rt_graph *g, const char *name, int k) { return RT_SAMPLE_IN(g, name, k == 1 ? RT_BATCH : 2, 2, 5, 7); }

static rt_node *pool_result(rt_graph *g, const char *name, int k)
{
    return RT_SAMPLE_IN(g, name, k == 1 ? RT_BATCH : 2, 2, pool_extent(&pools[k], 0, 5), pool_extent(&pools[k], 1, 7));
}

/* k = -1: a window that the image does not hold. */
static rt__pool_attr sample_pool(int k, int h, int w)
{
    rt__pool_attr p = pools[k < 0 ? 0 : k];
    p.extent[0] = h, p.extent[1] = w;
    if (k < 0) p.kernel[1] = 9;
    return p;
}

static rt_node *avg_pool_sample(rt_graph *g, int k)
{
    if (k >= (int)RT_COUNT(pools)) return NULL;
    rt__pool_attr p = sample_pool(k, 0, 0);
    return rt__emit1(RT_OP_avg_pool2d, pool_image(g, "a", k), &p);
}

static rt_node *avg_pool_data_sample(rt_graph *g, int k)
{
    if (k >= (int)RT_COUNT(pools)) return NULL;
    rt__pool_attr p = sample_pool(k, 5, 7);
    return rt__emit1(RT_OP_avg_pool2d_data, pool_result(g, "a", k < 0 ? 0 : k), &p);
}

static rt_node *max_pool_sample(rt_graph *g, int k)
{
    if (k >= (int)RT_COUNT(pools)) return NULL;
    rt__pool_attr p = sample_pool(k, 0, 0);
    return rt__emit1(RT_OP_max_pool2d, pool_image(g, "a", k), &p);
}

static rt_node *max_pool_data_sample(rt_graph *g, int k)
{
    if (k >= (int)RT_COUNT(pools)) return NULL;
    rt__pool_attr p = sample_pool(k, 5, 7);
    return rt__emit2(RT_OP_max_pool2d_data, pool_image(g, "a", k), pool_result(g, "b", k < 0 ? 0 : k), &p);
}

static rt_node *max_pool_pick_sample(rt_graph *g, int k)
{
    if (k >= (int)RT_COUNT(pools)) return NULL;
    rt__pool_attr p = sample_pool(k, 0, 0);
    return rt__emit2(RT_OP_max_pool2d_pick, pool_image(g, "a", k), pool_image(g, "b", k), &p);
}

const rt_op RT_ROW(upsample_nearest) = {
    .name = "upsample_nearest",
    .formula = "y[n,c,i,j] = x[n,c,floor(i/s),floor(j/s)]",
    .min_in = 1,
    .max_in = 1,
    .attr_size = sizeof(rt__scale_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_ALIKE,
    .batch = RT_MAPS,
    .shape = upsample_shape,
    .grad = upsample_grad,
    .jvp = rt__jvp_linear,
    .run = upsample_run,
    .sample = upsample_sample,
};

const rt_op RT_ROW(avg_pool2d) = {
    .name = "avg_pool2d",
    .formula = "y[n,c,i,j] = mean of x[n,c,..] over the window at (s i - p, s j - p); zeros outside count unless exclude_pad",
    .min_in = 1,
    .max_in = 1,
    .attr_size = sizeof(rt__pool_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_MAPS,
    .batch = RT_MAPS,
    .shape = pool_shape,
    .grad = avg_pool_grad,
    .jvp = rt__jvp_linear,
    .run = avg_pool_run,
    .flop = pool_flop,
    .sample = avg_pool_sample,
};

const rt_op RT_ROW(avg_pool2d_data) = {
    .name = "avg_pool2d_data",
    .formula = "gx = adjoint of avg_pool2d: each gy[n,c,i,j] is shared out over its window",
    .min_in = 1,
    .max_in = 1,
    .attr_size = sizeof(rt__pool_attr),
    .layout = RT_LAYOUT_MAPS,
    .batch = RT_MAPS,
    .shape = pool_data_shape,
    .grad = avg_pool_data_grad,
    .jvp = rt__jvp_linear,
    .run = avg_pool_data_run,
    .flop = pool_flop,
    .sample = avg_pool_data_sample,
};

const rt_op RT_ROW(max_pool2d) = {
    .name = "max_pool2d",
    .formula = "y[n,c,i,j] = max of x[n,c,..] over the part of the window at (s i - p, s j - p) that lies in the image",
    .min_in = 1,
    .max_in = 1,
    .attr_size = sizeof(rt__pool_attr),
    .batch = RT_MAPS,
    .shape = pool_shape,
    .grad = max_pool_grad,
    .jvp = max_pool_jvp,
    .run = max_pool_run,
    .flop = pool_flop,
    .sample = max_pool_sample,
};

const rt_op RT_ROW(max_pool2d_data) = {
    .name = "max_pool2d_data",
    .formula = "gx[n,c,argmax of x in window (i,j)] += gy[n,c,i,j]",
    .min_in = 2,
    .max_in = 2,
    .attr_size = sizeof(rt__pool_attr),
    .batch = RT_MAPS,
    .shape = pool_data_shape,
    .grad = max_pool_data_grad,
    .jvp = max_pool_routed_jvp,
    .run = max_pool_data_run,
    .flop = pool_flop,
    .sample = max_pool_data_sample,
};

const rt_op RT_ROW(max_pool2d_pick) = {
    .name = "max_pool2d_pick",
    .formula = "y[n,c,i,j] = v[n,c,argmax of x in window (i,j)]",
    .min_in = 2,
    .max_in = 2,
    .attr_size = sizeof(rt__pool_attr),
    .batch = RT_MAPS,
    .shape = pool_shape,
    .grad = max_pool_pick_grad,
    .jvp = max_pool_routed_jvp,
    .run = max_pool_run,
    .flop = pool_flop,
    .sample = max_pool_pick_sample,
};
