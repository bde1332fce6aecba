/* layers.c -- see layers.h. */
#include "nn/layers.h"

#include "base/internal.h"

#include <math.h>
#include <string.h>

rt_node *rt__linear(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out)
{
    double bound = 1 / sqrt((double)in);
    rt_push(l.g, "%s", name);
    rt_node *w = rt_param(l.g, l.set, "weight", 2, (int64_t[]){out, in}, RT_INIT_UNIFORM(bound));
    rt_node *b = rt_param(l.g, l.set, "bias", 1, (int64_t[]){out}, RT_INIT_UNIFORM(bound));
    rt_node *y = rt_linear(x, w, b);
    rt_pop(l.g);
    return y;
}

rt_node *rt__conv(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out, int kernel, const rt_conv *conv)
{
    double bound = 1 / sqrt((double)(in * kernel * kernel));
    rt_push(l.g, "%s", name);
    rt_node *w = rt_param(l.g, l.set, "weight", 4, (int64_t[]){out, in, kernel, kernel}, RT_INIT_UNIFORM(bound));
    rt_node *b = rt_param(l.g, l.set, "bias", 1, (int64_t[]){out}, RT_INIT_UNIFORM(bound));
    rt_node *y = rt_conv2d(x, w, b, conv);
    rt_pop(l.g);
    return y;
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

static const struct {
    const char *name;
    rt_node *(*apply)(rt_node *);
} activations[] = {{"silu", rt_silu}, {"swish", rt_silu}, {"mish", rt_mish}, {"gelu", rt_gelu_erf}, {"relu", rt_relu}};

rt_node *rt__activation(const char *name, rt_node *x)
{
    for (size_t i = 0; i < RT_COUNT(activations); i++)
        if (!strcmp(activations[i].name, name)) return activations[i].apply(x);
    return rt_fail(rt_node_graph(x), "unknown activation '%s'", name);
}

bool rt__activation_known(const char *name)
{
    for (size_t i = 0; i < RT_COUNT(activations); i++)
        if (!strcmp(activations[i].name, name)) return true;
    return false;
}

rt_node *rt__timestep_features(rt_node *t, int dim, bool flip_sin_to_cos, double freq_shift)
{
    rt_graph *g = rt_node_graph(t);
    int half = dim / 2;
    double freq[4096];
    if (half < 1 || half > (int)RT_COUNT(freq)) return rt_fail(g, "%d timestep features; must be 2 to %d", dim, 2 * (int)RT_COUNT(freq));
    for (int i = 0; i < half; i++)
        freq[i] = (double)expf(-9.210340371976184f * (float)i / (float)(half - freq_shift)); /* 10000^(-i/(half - shift)) */
    rt_node *arg = rt_mul(rt_reshape(t, 2, (int64_t[]){rt_dim(t, 0), 1}), rt_reals(g, 2, (int64_t[]){1, half}, freq));
    rt_node *sin = rt_sin(arg), *cos = rt_cos(arg);
    rt_node *parts[] = {flip_sin_to_cos ? cos : sin, flip_sin_to_cos ? sin : cos, NULL};
    if (dim % 2) parts[2] = rt_zeros_like(rt_reshape(t, 2, (int64_t[]){rt_dim(t, 0), 1}));
    return rt_concat(parts, dim % 2 ? 3 : 2, 1);
}
