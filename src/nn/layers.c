/* layers.c -- see layers.h. */
#include "nn/layers.h"

#include "base/internal.h"

#include <math.h>
#include <strings.h>

static void linear_weights(rt__layers l, int64_t in, int64_t out, rt_init init, rt_node **w, rt_node **b)
{
    *w = rt_param(l.g, l.set, "weight", 2, (int64_t[]){out, in}, init);
    *b = rt_param(l.g, l.set, "bias", 1, (int64_t[]){out}, init);
}

static rt_node *linear(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out, rt_init init)
{
    rt_node *w, *b;
    rt_push(l.g, "%s", name);
    linear_weights(l, in, out, init, &w, &b);
    rt_node *y = rt_linear(x, w, b);
    rt_pop(l.g);
    return y;
}

rt_node *rt__linear(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out)
{
    return linear(l, name, x, in, out, RT_INIT_UNIFORM(1 / sqrt((double)in)));
}

rt_node *rt__linear_zero(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out)
{
    return linear(l, name, x, in, out, RT_INIT_CONST(0));
}

rt_node *rt__pixel_linear(rt__layers l, const char *const *names, int n, rt_node *x, int64_t in, int64_t out)
{
    rt_node *w[3], *b[3];
    for (int i = 0; i < n; i++) {
        rt_push(l.g, "%s", names[i]);
        linear_weights(l, in, out, RT_INIT_UNIFORM(1 / sqrt((double)in)), &w[i], &b[i]);
        rt_pop(l.g);
    }
    rt_node *all = n > 1 ? rt_concat(w, n, 0) : w[0], *biases = n > 1 ? rt_concat(b, n, 0) : b[0];
    return rt_conv2d(x, rt_reshape(all, 4, (int64_t[]){n * out, in, 1, 1}), biases, RT_CONV(1, 0));
}

rt_node *rt__time(rt_node *t, int which)
{
    if (rt_node_rank(t) == 1) return t;
    return rt_reshape(rt_slice(t, 1, which, which + 1, 1), 1, (int64_t[]){rt_dim(t, 0)});
}

rt_node *rt__guidance(rt_node *t) { return rt_scale(rt__time(t, (int)rt_dim(t, 1) - 1), 1000); }

static rt_node *convolve(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out, int kernel, const rt_conv *conv, rt_init init)
{
    rt_push(l.g, "%s", name);
    rt_node *w = rt_param(l.g, l.set, "weight", 4, (int64_t[]){out, in, kernel, kernel}, init);
    rt_node *b = rt_param(l.g, l.set, "bias", 1, (int64_t[]){out}, init);
    rt_node *y = rt_conv2d(x, w, b, conv);
    rt_pop(l.g);
    return y;
}

rt_node *rt__conv(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out, int kernel, const rt_conv *conv)
{
    return convolve(l, name, x, in, out, kernel, conv, RT_INIT_UNIFORM(1 / sqrt((double)(in * kernel * kernel))));
}

rt_node *rt__conv_zero(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out, int kernel, const rt_conv *conv)
{
    return convolve(l, name, x, in, out, kernel, conv, RT_INIT_CONST(0));
}

rt_node *rt__split_draws(rt_node *x, int64_t channels, int n, rt_node **draws)
{
    *draws = n ? rt_slice(x, 1, channels, (1 + n) * channels, 1) : NULL;
    return n ? rt_slice(x, 1, 0, channels, 1) : x;
}

rt_node *rt__group_norm(rt__layers l, const char *name, rt_node *x, int64_t channels, int groups, double eps)
{
    rt_push(l.g, "%s", name);
    rt_node *w = rt_param(l.g, l.set, "weight", 1, &channels, RT_INIT_CONST(1));
    rt_node *b = rt_param(l.g, l.set, "bias", 1, &channels, RT_INIT_CONST(0));
    rt_node *y = rt_group_norm(x, w, b, groups, eps);
    rt_pop(l.g);
    return y;
}

rt_node *rt__embedding(rt__layers l, const char *name, rt_node *index, int64_t rows, int64_t width)
{
    rt_push(l.g, "%s", name);
    rt_node *y = rt_embedding(rt_param(l.g, l.set, "weight", 2, (int64_t[]){rows, width}, RT_INIT_NORMAL(1)), index);
    rt_pop(l.g);
    return y;
}

rt_node *rt__class_embedding(rt__layers l, rt_node *y, int64_t rows, int64_t width)
{
    if (rt_node_rank(y) == 1) return rt__embedding(l, "class_embedding", y, rows, width);
    rt_push(l.g, "class_embedding");
    rt_node *table = rt_param(l.g, l.set, "weight", 2, (int64_t[]){rows, width}, RT_INIT_NORMAL(1));
    rt_node *nothing = rt_broadcast(rt_scalar(l.g, 0), 2, (int64_t[]){1, width});
    table = rt_concat((rt_node *[]){nothing, rt_slice(table, 0, 1, rows, 1)}, 2, 0);
    rt_pop(l.g);
    rt_node *each = rt_embedding(table, y);
    return rt_sum(each, rt_axis_bit(each, 1), false);
}

rt_node *rt__camera_embedding(rt__layers l, rt_node *t, int times, int64_t width)
{
    rt_push(l.g, "camera_embedding");
    rt_node *hidden = rt_silu(rt__linear(l, "linear_1", rt_slice(t, 1, times, times + RT_CAMERA_NUMBERS, 1), RT_CAMERA_NUMBERS, width));
    rt_node *embedding = rt__linear_zero(l, "linear_2", hidden, width, width);
    rt_pop(l.g);
    return embedding;
}

rt__activation rt__activation_find(const char *name)
{
    static const struct {
        const char *name;
        rt__activation apply;
    } rows[] = {{"silu", rt_silu}, {"swish", rt_silu}, {"mish", rt_mish}, {"gelu", rt_gelu_erf}, {"relu", rt_relu}};
    for (size_t i = 0; name && i < RT_COUNT(rows); i++)
        if (!strcasecmp(rows[i].name, name)) return rows[i].apply;
    return NULL;
}

rt_node *rt__timestep_features(rt_node *t, int dim, bool flip_sin_to_cos, double freq_shift)
{
    rt_graph *g = rt_node_graph(t);
    int half = dim / 2;
    double freq[RT_TIMESTEP_FEATURES / 2];
    if (half < 1 || dim > RT_TIMESTEP_FEATURES) return rt_fail(g, "%d timestep features; must be 2 to %d", dim, RT_TIMESTEP_FEATURES);
    for (int i = 0; i < half; i++)
        freq[i] = (double)expf(-9.210340371976184f * (float)i / (float)(half - freq_shift)); /* 10000^(-i/(half - shift)) */
    rt_node *column = rt_reshape(t, 2, (int64_t[]){rt_dim(t, 0), 1}), *arg = rt_mul(column, rt_reals(g, 2, (int64_t[]){1, half}, freq));
    rt_node *sin = rt_sin(arg), *cos = rt_cos(arg);
    rt_node *parts[] = {flip_sin_to_cos ? cos : sin, flip_sin_to_cos ? sin : cos, dim % 2 ? rt_zeros_like(column) : NULL};
    return rt_concat(parts, dim % 2 ? 3 : 2, 1);
}
