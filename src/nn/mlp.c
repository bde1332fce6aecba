/* mlp.c -- a residual MLP for vectors, conditioned on time and class: the network of 2-D examples. Its formula stands in nn.h. */
#include "nn/net.h"

#include "base/internal.h"

typedef struct settings {
    int dim, hidden, layers, classes, features, draws;
    bool target_time, guidance, camera;
    rt__activation act;
} settings;

static rt_status read(void *to, rt_net_info *info, const rt__fields *f)
{
    static const char *const fields[] = {"data_dim", "hidden", "layers", "num_class_embeds", "time_features", "act_fn"};
    settings *s = to;
    RT_TRY(rt__fields_known(f, fields, RT_COUNT(fields), true));
    RT_TRY(rt__field_int(f, "data_dim", RT_REQUIRED, 1, 1 << 16, &s->dim));
    RT_TRY(rt__field_int(f, "hidden", 128, 1, 1 << 14, &s->hidden));
    RT_TRY(rt__field_int(f, "layers", 3, 1, 256, &s->layers));
    if (!rt__field_null(f, "num_class_embeds")) RT_TRY(rt__field_int(f, "num_class_embeds", 0, 1, 1 << 20, &s->classes));
    RT_TRY(rt__field_int(f, "time_features", 32, 2, 1024, &s->features));
    RT_TRY(rt__field_activation(f, "act_fn", &s->act));
    RT_TRY(rt__field_bool(f, "_target_time", false, &s->target_time));
    RT_TRY(rt__field_bool(f, "_guidance", false, &s->guidance));
    RT_TRY(rt__field_bool(f, "_camera", false, &s->camera));
    RT_TRY(rt__field_draws(f, &s->draws));
    *info = (rt_net_info){.in_channels = s->dim,
                          .out_channels = s->dim,
                          .label = s->classes ? RT_LABEL_CLASS : RT_LABEL_NONE,
                          .classes = s->classes,
                          .draws = s->draws,
                          .times = s->target_time ? 2 : 1,
                          .guidance = s->guidance,
                          .camera = s->camera,
                          .n_levels = 1,
                          .level_channels = {s->hidden}};
    return RT_OK;
}

/* a(h), what enters proj_out. */
static rt_node *hidden(const void *settings_, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    const settings *s = settings_;
    rt__layers l = {rt_node_graph(x), set};
    rt_node *draws;
    x = rt__split_draws(x, s->dim, s->draws, &draws);
    rt_node *e =
        s->act(rt__linear(l, "time_embedding", rt__timestep_features(rt__time(t, 0), s->features, true, 0), s->features, s->hidden));
    if (s->target_time)
        e = rt_add(
            e, rt__linear_zero(l, "target_embedding", rt__timestep_features(rt__time(t, 1), s->features, true, 0), s->features, s->hidden));
    if (s->guidance)
        e = rt_add(e, rt__linear_zero(l, "guidance_embedding", rt__timestep_features(rt__guidance(t), s->features, true, 0), s->features,
                                      s->hidden));
    if (s->camera) e = rt_add(e, rt__camera_embedding(l, t, s->target_time ? 2 : 1, s->hidden));
    if (y) e = rt_add(e, rt__class_embedding(l, y, s->classes, s->hidden));
    rt_node *h = rt__linear(l, "proj_in", x, s->dim, s->hidden);
    if (draws) h = rt_add(h, rt__linear_zero(l, "draws_in", draws, (int64_t)s->draws * s->dim, s->hidden));
    for (int i = 0; i < s->layers; i++) {
        rt_push(l.g, "layers.%d", i);
        rt_node *inner = rt__linear(l, "linear_1", s->act(h), s->hidden, s->hidden);
        inner = rt_add(inner, rt__linear(l, "time", e, s->hidden, s->hidden));
        h = rt_add(h, rt__linear(l, "linear_2", s->act(inner), s->hidden, s->hidden));
        rt_pop(l.g);
    }
    return s->act(h);
}

static rt_node *apply(const void *settings_, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    const settings *s = settings_;
    rt__layers l = {rt_node_graph(x), set};
    return rt__linear(l, "proj_out", hidden(s, set, x, t, y), s->hidden, s->dim);
}

static void levels(const void *settings_, rt_params *set, rt_node *x, rt_node *t, rt_node *y, rt_node **out)
{
    out[0] = hidden(settings_, set, x, t, y);
}

const rt__net_kind rt__net_mlp = {.name = "RetortMLP",
                                  .source = "Retort",
                                  .text = "residual network for vectors, conditioned on time and class",
                                  .size = sizeof(settings),
                                  .read = read,
                                  .apply = apply,
                                  .levels = levels};
