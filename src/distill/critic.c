/* critic.c -- see critic.h. */
#include "distill/critic.h"

#include "base/internal.h"
#include "nn/layers.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 64, GROUPS = 32 }; /* of the convolutional head */

rt_status rt__heads_find(const char *kind, const char *levels, bool pictures, rt__heads *heads, rt_error *err)
{
    *heads = (rt__heads){pictures ? RT_HEAD_CONV : RT_HEAD_LINEAR, !strcmp(levels, "all")};
    if (!heads->every_level && strcmp(levels, "deepest") != 0)
        RT_RAISE(RT_E_USAGE, "gan.levels: '%s'; give deepest (a head on the deepest level) or all (one on each)", levels);
    if (!*kind) return RT_OK;
    if (strcmp(kind, "conv") != 0 && strcmp(kind, "linear") != 0)
        RT_RAISE(RT_E_USAGE, "gan.head: '%s'; give conv (convolutions on the hidden picture) or linear (on its mean over the pixels)",
                 kind);
    if (!strcmp(kind, "conv") && !pictures) RT_RAISE(RT_E_USAGE, "gan.head: conv, but vectors have no pixels; give linear");
    if (!strcmp(kind, "linear")) heads->kind = RT_HEAD_LINEAR;
    return RT_OK;
}

static rt_node *linear_head(rt__layers l, const char *name, rt_node *h)
{
    if (rt_node_rank(h) == 4) h = rt_mean(h, 1u << 2 | 1u << 3, false);
    return rt__linear(l, name, h, rt_dim(h, 1), 1);
}

static rt_node *conv_head(rt__layers l, const char *name, rt_node *h)
{
    rt_push(l.g, "%s", name);
    h = rt__conv(l, "conv1", h, rt_dim(h, 1), WIDTH, 3, RT_CONV(1, 1));
    h = rt_silu(rt__group_norm(l, "norm", h, WIDTH, GROUPS, 1e-5));
    h = rt__conv(l, "conv2", h, WIDTH, 1, 1, RT_CONV(1, 0));
    rt_pop(l.g);
    return rt_mean(h, 1u << 2 | 1u << 3, false);
}

/* The sum of the heads' logits, (B). */
static rt_node *logit(const rt_net *net, const rt__heads *heads, rt_params *set, rt_node *const levels[RT_NET_LEVELS])
{
    int deepest = rt_net_describe(net)->n_levels - 1;
    rt_node *sum = NULL;
    for (int i = heads->every_level ? 0 : deepest; i <= deepest; i++) {
        char name[32] = "head";
        if (i < deepest) snprintf(name, sizeof name, "head.levels.%d", i);
        rt__layers l = {rt_node_graph(levels[i]), set};
        rt_node *one = heads->kind == RT_HEAD_CONV ? conv_head(l, name, levels[i]) : linear_head(l, name, levels[i]); /* (B,1) */
        sum = sum ? rt_add(sum, one) : one;
    }
    return rt_reshape(sum, 1, (int64_t[]){rt_dim(sum, 0)});
}

rt_status rt__critic_declare(const rt_net *net, const rt__heads *heads, rt_params *set, rt_error *err)
{
    const rt_net_info *info = rt_net_describe(net);
    rt_graph *g = rt_graph_new(rt_params_dtype(set));
    if (!g) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    rt_node *levels[RT_NET_LEVELS];
    for (int i = 0; i < info->n_levels; i++) {
        char name[32];
        snprintf(name, sizeof name, "level%d", i);
        levels[i] = rt_input(g, name, rt_graph_real(g), info->height ? 4 : 2,
                             (int64_t[]){RT_BATCH, info->level_channels[i], info->height, info->width}); /* sizes do not matter here */
    }
    logit(net, heads, set, levels);
    rt_status s = rt_graph_status(g, err);
    rt_graph_free(g);
    return s;
}

rt_node *rt__critic_logit(const rt__critic *c, rt_node *xt, rt_node *t, rt_node *y)
{
    rt_node *levels[RT_NET_LEVELS];
    rt_net_levels(c->net, c->trunk, xt, t, y, levels);
    return logit(c->net, &c->heads, c->head, levels);
}

rt_node *rt__critic_loss(rt_node *fake, rt_node *real) { return rt_add(rt_softplus(fake), rt_softplus(rt_neg(real))); }
rt_node *rt__generator_loss(rt_node *fake) { return rt_softplus(rt_neg(fake)); }
rt_node *rt__critic_penalty(rt_node *logit, rt_node *noised) { return rt_square(rt_sub(logit, noised)); }

rt_node *rt__f_critic_loss(const rt_divergence *d, rt_node *fake, rt_node *real)
{
    return rt_sub(rt_divergence_conjugate_of(d, rt_neg(real)), rt_divergence_slope_of(d, rt_neg(fake)));
}

rt_node *rt__f_generator_loss(const rt_divergence *d, rt_node *fake) { return rt_divergence_slope_of(d, rt_neg(fake)); }
