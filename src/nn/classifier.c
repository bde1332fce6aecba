/* classifier.c -- a small residual CNN; its pooled features serve the Frechet distance.
 *
 *     conv_in, per level: residual block (norm, act, conv) x 2, a strided conv to the next; norm, act, mean over pixels -> `head` */
#include "nn/layers.h"
#include "nn/net.h"

#include "base/internal.h"

enum { LEVELS = 6 };

typedef struct settings {
    int in_channels, size, classes, levels, widths[LEVELS], blocks, groups;
} settings;

static rt_status read(void *to, rt_net_info *info, const json_t *config, const char *file, rt_error *err)
{
    settings *s = to;
    RT_TRY(rt__field_int(config, file, "in_channels", true, 0, 1, 4096, &s->in_channels, err));
    RT_TRY(rt__field_int(config, file, "sample_size", true, 0, 4, 4096, &s->size, err));
    RT_TRY(rt__field_int(config, file, "num_classes", true, 0, 2, 1 << 20, &s->classes, err));
    RT_TRY(rt__field_int(config, file, "layers_per_block", false, 1, 1, 16, &s->blocks, err));
    RT_TRY(rt__field_int(config, file, "norm_num_groups", false, 8, 1, 4096, &s->groups, err));
    const json_t *list = json_object_get(config, "block_out_channels");
    s->levels = json_is_array(list) ? (int)json_array_size(list) : 0;
    if (s->levels < 1 || json_array_size(list) > LEVELS)
        return rt__field_wrong(config, file, "block_out_channels", "must list 1 to 6 widths", err);
    for (int i = 0; i < s->levels; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > 4096 || json_integer_value(v) % s->groups)
            return rt__field_wrong(config, file, "block_out_channels",
                                   "must hold whole numbers from 1 to 4096 that norm_num_groups divides", err);
        s->widths[i] = (int)json_integer_value(v);
    }
    *info = (rt_net_info){.in_channels = s->in_channels,
                          .out_channels = s->classes,
                          .height = s->size,
                          .width = s->size,
                          .classes = s->classes,
                          .features = s->widths[s->levels - 1],
                          .classifier = true};
    return RT_OK;
}

static const rt_conv conv3 = {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}, down3 = {{2, 2}, {1, 1, 1, 1}, {1, 1}, 1};

static rt_node *block(rt__layers l, const settings *s, rt_node *x, int64_t width)
{
    rt_node *h = rt__conv(l, "conv1", rt_silu(rt__group_norm(l, "norm1", x, width, s->groups, 1e-5)), width, width, 3, &conv3);
    h = rt__conv(l, "conv2", rt_silu(rt__group_norm(l, "norm2", h, width, s->groups, 1e-5)), width, width, 3, &conv3);
    return rt_add(x, h);
}

static rt_node *features(const void *settings_, rt_params *set, rt_node *x)
{
    const settings *s = settings_;
    rt__layers l = {rt_node_graph(x), set};
    if (rt_node_rank(x) != 4 || rt_dim(x, 1) != s->in_channels) return rt_fail(l.g, "the classifier takes (B,%d,H,W)", s->in_channels);
    x = rt__conv(l, "conv_in", x, s->in_channels, s->widths[0], 3, &conv3);
    for (int i = 0; i < s->levels; i++) {
        rt_push(l.g, "blocks.%d", i);
        if (i > 0) x = rt__conv(l, "down", x, s->widths[i - 1], s->widths[i], 3, &down3);
        for (int j = 0; j < s->blocks; j++) {
            rt_push(l.g, "%d", j);
            x = block(l, s, x, s->widths[i]);
            rt_pop(l.g);
        }
        rt_pop(l.g);
    }
    x = rt_silu(rt__group_norm(l, "norm_out", x, s->widths[s->levels - 1], s->groups, 1e-5));
    return rt_mean(x, 1u << 2 | 1u << 3, false);
}

static rt_node *apply(const void *settings_, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    const settings *s = settings_;
    (void)t;
    (void)y;
    return rt__linear((rt__layers){rt_node_graph(x), set}, "head", features(settings_, set, x), s->widths[s->levels - 1], s->classes);
}

const rt__net_kind rt__net_classifier = {.name = "RetortClassifier",
                                         .source = "Retort",
                                         .text = "small residual network from pictures to classes; its features serve `retort eval`",
                                         .size = sizeof(settings),
                                         .read = read,
                                         .apply = apply,
                                         .features = features};
