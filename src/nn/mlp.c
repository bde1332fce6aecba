/* mlp.c -- a residual MLP for vectors, conditioned on time and class: the network of 2-D examples.
 *
 *     x -> proj_in; per layer: h + linear2(act(linear1(h) + time)); norm-free, act, proj_out */
#include "nn/layers.h"
#include "nn/net.h"

#include "base/internal.h"

typedef struct settings {
    int dim, hidden, layers, classes, features;
} settings;

static rt_status read(void *to, rt_net_info *info, const json_t *config, const char *file, rt_error *err)
{
    settings *s = to;
    RT_TRY(rt__field_int(config, file, "data_dim", true, 0, 1, 1 << 16, &s->dim, err));
    RT_TRY(rt__field_int(config, file, "hidden", false, 128, 1, 1 << 14, &s->hidden, err));
    RT_TRY(rt__field_int(config, file, "layers", false, 3, 1, 256, &s->layers, err));
    RT_TRY(rt__field_int(config, file, "num_class_embeds", false, 0, 1, 1 << 20, &s->classes, err));
    RT_TRY(rt__field_int(config, file, "time_features", false, 32, 2, 1024, &s->features, err));
    *info = (rt_net_info){.in_channels = s->dim, .out_channels = s->dim, .classes = s->classes};
    return RT_OK;
}

static rt_node *apply(const void *settings_, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    const settings *s = settings_;
    rt_graph *g = rt_node_graph(x);
    rt__layers l = {g, set};
    if (rt_node_rank(x) != 2 || rt_dim(x, 1) != s->dim) return rt_fail(g, "the network takes (B,%d)", s->dim);
    if ((s->classes > 0) != (y != NULL))
        return rt_fail(g, y ? "the network is unconditional, but classes are given" : "the network needs classes");
    rt_node *emb = rt_silu(rt__linear(l, "time_embedding", rt__timestep_features(t, s->features, true, 0), s->features, s->hidden));
    if (y) {
        rt_push(g, "class_embedding");
        emb = rt_add(emb, rt_embedding(rt_param(g, set, "weight", 2, (int64_t[]){s->classes, s->hidden}, RT_INIT_NORMAL(1)), y));
        rt_pop(g);
    }
    rt_node *h = rt__linear(l, "proj_in", x, s->dim, s->hidden);
    for (int i = 0; i < s->layers; i++) {
        rt_push(g, "layers.%d", i);
        rt_node *inner =
            rt_add(rt__linear(l, "linear_1", rt_silu(h), s->hidden, s->hidden), rt__linear(l, "time", emb, s->hidden, s->hidden));
        h = rt_add(h, rt__linear(l, "linear_2", rt_silu(inner), s->hidden, s->hidden));
        rt_pop(g);
    }
    return rt__linear(l, "proj_out", rt_silu(h), s->hidden, s->dim);
}

const rt__net_kind rt__net_mlp = {.name = "RetortMLP",
                                  .source = "Retort",
                                  .text = "residual network for vectors, conditioned on time and class",
                                  .size = sizeof(settings),
                                  .read = read,
                                  .apply = apply};
