/* classifier.c -- a small residual CNN; its pooled features serve the Frechet distance. Its formula stands in nn.h. */
#include "nn/net.h"

#include "base/internal.h"

enum { LEVELS = 6, MAX_CHANNELS = 4096, MAX_SIZE = 4096 };

typedef struct settings {
    int in_channels, size, classes, levels, widths[LEVELS], blocks, groups;
    rt__activation act;
} settings;

static rt_status read(void *to, rt_net_info *info, const rt__fields *f)
{
    static const char *const fields[] = {"in_channels",      "sample_size",     "num_classes", "block_out_channels",
                                         "layers_per_block", "norm_num_groups", "act_fn"};
    settings *s = to;
    RT_TRY(rt__fields_known(f, fields, RT_COUNT(fields), true));
    RT_TRY(rt__field_int(f, "in_channels", RT_REQUIRED, 1, MAX_CHANNELS, &s->in_channels));
    RT_TRY(rt__field_int(f, "sample_size", RT_REQUIRED, 1, MAX_SIZE, &s->size));
    RT_TRY(rt__field_int(f, "num_classes", RT_REQUIRED, 2, 1 << 20, &s->classes));
    RT_TRY(rt__field_ints(f, "block_out_channels", LEVELS, 1, MAX_CHANNELS, &s->levels, s->widths));
    RT_TRY(rt__field_int(f, "layers_per_block", 1, 1, 16, &s->blocks));
    RT_TRY(rt__field_int(f, "norm_num_groups", 8, 1, MAX_CHANNELS, &s->groups));
    for (int i = 0; i < s->levels; i++)
        if (s->widths[i] % s->groups) return rt__field_wrong(f, "norm_num_groups", "must divide every entry of block_out_channels");
    RT_TRY(rt__field_activation(f, "act_fn", &s->act));
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
    rt_node *h = rt__conv(l, "conv1", s->act(rt__group_norm(l, "norm1", x, width, s->groups, 1e-5)), width, width, 3, &conv3);
    h = rt__conv(l, "conv2", s->act(rt__group_norm(l, "norm2", h, width, s->groups, 1e-5)), width, width, 3, &conv3);
    return rt_add(x, h);
}

static rt_node *features(const void *settings_, rt_params *set, rt_node *x)
{
    const settings *s = settings_;
    rt__layers l = {rt_node_graph(x), set};
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
    x = s->act(rt__group_norm(l, "norm_out", x, s->widths[s->levels - 1], s->groups, 1e-5));
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
