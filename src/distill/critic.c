/* critic.c -- see critic.h. */
#include "distill/critic.h"

#include "base/internal.h"
#include "nn/layers.h"

#include <string.h>

enum { WIDTH = 64, GROUPS = 32 }; /* of the convolutional head */

rt_status rt__head_kind_find(const char *key, const char *name, bool pictures, rt__head_kind *kind, rt_error *err)
{
    *kind = pictures ? RT_HEAD_CONV : RT_HEAD_LINEAR;
    if (!*name) return RT_OK;
    if (strcmp(name, "conv") != 0 && strcmp(name, "linear") != 0)
        RT_RAISE(RT_E_USAGE, "%s: '%s'; give conv (convolutions on the hidden picture) or linear (on its mean over the pixels)", key, name);
    if (!strcmp(name, "conv") && !pictures) RT_RAISE(RT_E_USAGE, "%s: conv, but vectors have no pixels; give linear", key);
    if (!strcmp(name, "linear")) *kind = RT_HEAD_LINEAR;
    return RT_OK;
}

static rt_node *linear_head(rt__layers l, rt_node *h, int64_t width)
{
    if (rt_node_rank(h) == 4) h = rt_mean(h, 1u << 2 | 1u << 3, false);
    return rt__linear(l, "head", h, width, 1);
}

static rt_node *conv_head(rt__layers l, rt_node *h, int64_t width)
{
    rt_push(l.g, "head");
    h = rt__conv(l, "conv1", h, width, WIDTH, 3, RT_CONV(1, 1));
    h = rt_silu(rt__group_norm(l, "norm", h, WIDTH, GROUPS, 1e-5));
    h = rt__conv(l, "conv2", h, WIDTH, 1, 1, RT_CONV(1, 0));
    rt_pop(l.g);
    return rt_mean(h, 1u << 2 | 1u << 3, false);
}

static rt_node *head(const rt_net *net, rt__head_kind kind, rt_params *set, rt_node *hidden)
{
    rt__layers l = {rt_node_graph(hidden), set};
    int64_t width = rt_net_describe(net)->hidden;
    rt_node *logit = kind == RT_HEAD_CONV ? conv_head(l, hidden, width) : linear_head(l, hidden, width); /* (B,1) */
    return rt_reshape(logit, 1, (int64_t[]){rt_dim(logit, 0)});
}

rt_status rt__critic_declare(const rt_net *net, rt__head_kind kind, rt_params *set, rt_error *err)
{
    const rt_net_info *i = rt_net_describe(net);
    rt_graph *g = rt_graph_new(rt_params_dtype(set));
    if (!g) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    head(net, kind, set, rt_input(g, "hidden", rt_graph_real(g), i->height ? 4 : 2, (int64_t[]){RT_BATCH, i->hidden, i->height, i->width}));
    rt_status s = rt_graph_status(g, err);
    rt_graph_free(g);
    return s;
}

rt_node *rt__critic_logit(const rt__critic *c, rt_node *xt, rt_node *t, rt_node *y)
{
    return head(c->net, c->kind, c->head, rt_net_hidden(c->net, c->trunk, xt, t, y));
}

rt_node *rt__critic_loss(rt_node *fake, rt_node *real) { return rt_add(rt_softplus(fake), rt_softplus(rt_neg(real))); }
rt_node *rt__generator_loss(rt_node *fake) { return rt_softplus(rt_neg(fake)); }
rt_node *rt__critic_penalty(rt_node *logit, rt_node *noised) { return rt_square(rt_sub(logit, noised)); }

rt_node *rt__f_critic_loss(const rt_divergence *d, rt_node *fake, rt_node *real)
{
    return rt_sub(rt_divergence_conjugate_of(d, rt_neg(real)), rt_divergence_slope_of(d, rt_neg(fake)));
}

rt_node *rt__f_generator_loss(const rt_divergence *d, rt_node *fake) { return rt_divergence_slope_of(d, rt_neg(fake)); }
