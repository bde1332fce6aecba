/* unet.c -- UNet2DModel, as diffusers evaluates it: dropout, set or not, is the identity.
 *
 *     conv_in -> down_blocks -> mid_block -> up_blocks (each resnet reads a skip) -> norm, SiLU, conv_out
 *
 * Parameter names are the checkpoint's keys, so the layer path is the module path. */
#include "nn/unet.h"

#include "base/internal.h"

#include <math.h>
#include <string.h>

typedef struct builder {
    rt__layers l;
    const rt__unet *u;
    rt_node *emb; /* (B,time_dim), before the activation that each resnet applies */
} builder;

static const rt_conv conv1 = {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}, conv3 = {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1};
static const rt_pool halve = {{2, 2}, {2, 2}, {0, 0}, false};

static rt_node *act(const builder *b, rt_node *x) { return b->u->act(x); }

/* ResnetBlock2D: norm1, act, (resample both branches), conv1, + time, norm2, act, conv2, + shortcut, / scale. */
static rt_node *resnet(const builder *b, rt_node *x, int64_t in, int64_t out, double scale, int resample)
{
    const rt__unet *u = b->u;
    rt_node *h = act(b, rt__group_norm(b->l, "norm1", x, in, u->groups, u->eps));
    if (resample > 0) {
        h = rt_upsample_nearest(h, 2);
        x = rt_upsample_nearest(x, 2);
    } else if (resample < 0) {
        h = rt_avg_pool2d(h, &halve);
        x = rt_avg_pool2d(x, &halve);
    }
    h = rt__conv(b->l, "conv1", h, in, out, 3, &conv3);
    rt_node *time = rt__linear(b->l, "time_emb_proj", act(b, b->emb), u->time_dim, u->scale_shift ? 2 * out : out);
    time = rt_reshape(time, 4, (int64_t[]){rt_dim(time, 0), rt_dim(time, 1), 1, 1});
    if (!u->scale_shift) h = rt_add(h, time);
    h = rt__group_norm(b->l, "norm2", h, out, u->groups, u->eps);
    if (u->scale_shift) h = rt_add(rt_mul(h, rt_offset(rt_slice(time, 1, 0, out, 1), 1)), rt_slice(time, 1, out, 2 * out, 1));
    h = rt__conv(b->l, "conv2", act(b, h), out, out, 3, &conv3);
    if (in != out) x = rt__conv(b->l, "conv_shortcut", x, in, out, 1, &conv1);
    return rt_scale(rt_add(x, h), 1 / scale);
}

/* Self-attention over the pixels with a residual; groups 0: no norm. */
static rt_node *attention(const builder *b, rt_node *x, int64_t channels, int groups, double scale)
{
    const rt__unet *u = b->u;
    int64_t dim = u->head_dim ? u->head_dim : channels, heads = channels / dim, inner = heads * dim;
    rt_node *h = groups ? rt__group_norm(b->l, "group_norm", x, channels, groups, u->eps) : x;
    h = rt__pixel_linear(b->l, (const char *[]){"to_q", "to_k", "to_v"}, 3, h, channels, inner);
    h = rt_self_attention(h, heads, 1 / sqrt((double)dim));
    h = rt__pixel_linear(b->l, (const char *[]){"to_out.0"}, 1, h, inner, channels);
    return rt_scale(rt_add(h, x), 1 / scale);
}

static rt_node *in_layer(const builder *b, const char *list, int i,
                         rt_node *(*f)(const builder *, rt_node *, int64_t, int64_t, double, int), rt_node *x, int64_t in, int64_t out,
                         double scale, int resample)
{
    rt_push(b->l.g, "%s.%d", list, i);
    x = f(b, x, in, out, scale, resample);
    rt_pop(b->l.g);
    return x;
}

static rt_node *attend(const builder *b, int i, rt_node *x, int64_t channels, int groups, double scale)
{
    rt_push(b->l.g, "attentions.%d", i);
    x = attention(b, x, channels, groups, scale);
    rt_pop(b->l.g);
    return x;
}

/* Downsample2D; padding 0 pads one row and column on the right and bottom. */
static rt_node *downsample(const builder *b, rt_node *x, int64_t channels)
{
    int p = b->u->downsample_padding;
    rt_conv conv = {{2, 2}, {p, p ? p : 1, p, p ? p : 1}, {1, 1}, 1};
    rt_push(b->l.g, "downsamplers.0");
    x = rt__conv(b->l, "conv", x, channels, channels, 3, &conv);
    rt_pop(b->l.g);
    return x;
}

static rt_node *upsample(const builder *b, rt_node *x, int64_t channels)
{
    rt_push(b->l.g, "upsamplers.0");
    x = rt__conv(b->l, "conv", rt_upsample_nearest(x, 2), channels, channels, 3, &conv3);
    rt_pop(b->l.g);
    return x;
}

typedef struct skip {
    rt_node *x;
    int64_t channels;
} skip;

/* *full: the output before it is halved. */
static rt_node *down_block(const builder *b, int level, rt_node *x, int64_t in, skip *skips, int *n, rt_node **full)
{
    const rt__unet *u = b->u;
    int64_t out = u->channels[level];
    rt_push(b->l.g, "down_blocks.%d", level);
    for (int i = 0; i < u->layers; i++) {
        x = in_layer(b, "resnets", i, resnet, x, i ? out : in, out, 1, 0);
        if (u->down[level].attention) x = attend(b, i, x, out, u->groups, 1);
        skips[(*n)++] = (skip){x, out};
    }
    *full = x;
    if (level + 1 < u->levels) {
        x = u->down[level].sampling == RT_SAMPLING_CONV ? downsample(b, x, out)
                                                        : in_layer(b, "downsamplers", 0, resnet, x, out, out, 1, -1);
        skips[(*n)++] = (skip){x, out};
    }
    rt_pop(b->l.g);
    return x;
}

static rt_node *mid_block(const builder *b, rt_node *x)
{
    const rt__unet *u = b->u;
    int64_t c = u->channels[u->levels - 1];
    rt_push(b->l.g, "mid_block");
    x = in_layer(b, "resnets", 0, resnet, x, c, c, u->mid_scale, 0);
    if (u->mid_attention) x = attend(b, 0, x, c, u->mid_attention_groups, u->mid_scale);
    x = in_layer(b, "resnets", 1, resnet, x, c, c, u->mid_scale, 0);
    rt_pop(b->l.g);
    return x;
}

static rt_node *up_block(const builder *b, int index, rt_node *x, int64_t in, skip *skips, int *n)
{
    const rt__unet *u = b->u;
    int level = u->levels - 1 - index;
    int64_t out = u->channels[level];
    rt_push(b->l.g, "up_blocks.%d", index);
    for (int i = 0; i <= u->layers; i++) {
        skip s = skips[--*n];
        x = rt_concat((rt_node *[]){x, s.x}, 2, 1);
        x = in_layer(b, "resnets", i, resnet, x, (i ? out : in) + s.channels, out, 1, 0);
        if (u->up[index].attention) x = attend(b, i, x, out, u->groups, 1);
    }
    if (index + 1 < u->levels)
        x = u->up[index].sampling == RT_SAMPLING_CONV ? upsample(b, x, out) : in_layer(b, "upsamplers", 0, resnet, x, out, out, 1, 1);
    rt_pop(b->l.g);
    return x;
}

/* TimestepEmbedding: linear, SiLU, linear. */
static rt_node *embed(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out)
{
    rt_push(l.g, "%s", name);
    x = rt__linear(l, "linear_2", rt_silu(rt__linear(l, "linear_1", x, in, out)), out, out);
    rt_pop(l.g);
    return x;
}

/* What precedes the first linear layer, (B,width), for times and for labels that are embedded like times. */
static rt_node *time_proj(const builder *b, rt_node *t, int64_t *width)
{
    const rt__unet *u = b->u;
    rt_graph *g = b->l.g;
    int64_t first = u->channels[0];
    *width = u->time == RT_TIME_FOURIER ? 2 * first : first;
    if (u->time == RT_TIME_LEARNED) return rt__embedding(b->l, "time_proj", rt_cast(t, RT_I64), u->timesteps, first);
    t = rt_cast(t, rt_graph_real(g));
    rt_push(g, "time_proj");
    rt_node *features;
    if (u->time == RT_TIME_POSITIONAL) {
        features = rt__timestep_features(t, (int)first, u->flip_sin_to_cos, u->freq_shift);
    } else { /* fourier: [sin, cos] of 2 pi log(t) W */
        rt_node *w = rt_param_frozen(g, b->l.set, "weight", 1, &first, RT_INIT_NORMAL(16));
        rt_node *arg = rt_mul(rt_reshape(rt_log(t), 2, (int64_t[]){rt_dim(t, 0), 1}), rt_reshape(w, 2, (int64_t[]){1, first}));
        arg = rt_scale(arg, 6.283185307179586);
        features = rt_concat((rt_node *[]){rt_sin(arg), rt_cos(arg)}, 2, 1);
    }
    rt_pop(g);
    return features;
}

static rt_node *label_embedding(const builder *b, rt_node *y)
{
    const rt__unet *u = b->u;
    int64_t width;
    if (u->label == RT_LABEL_VECTOR) return y;
    if (u->label == RT_LABEL_CLASS) return rt__class_embedding(b->l, y, u->classes, u->time_dim);
    rt_node *features = time_proj(b, y, &width);
    return embed(b->l, "class_embedding", features, width, u->time_dim);
}

enum { MOST_SKIPS = RT_UNET_LEVELS * (RT_UNET_LAYERS + 1) + 1 };

/* From x to the output of the mid block, what the way up reads of the way down, and the levels' outputs. */
static rt_node *encode(builder *b, rt_node *x, rt_node *t, rt_node *y, skip *skips, int *n, rt_node **full)
{
    const rt__unet *u = b->u;
    rt_graph *g = b->l.g;
    int64_t width, first = u->channels[0], step = (int64_t)1 << (u->levels - 1), height = rt_dim(x, 2), across = rt_dim(x, 3);
    if (height % step || across % step)
        return rt_fail(g, "the U-Net halves pictures %d times: height and width must be multiples of %lld, not %lldx%lld", u->levels - 1,
                       (long long)step, (long long)height, (long long)across);
    rt_node *features = time_proj(b, rt__time(t, 0), &width);
    b->emb = embed(b->l, "time_embedding", features, width, u->time_dim);
    if (u->target_time)
        b->emb = rt_add(b->emb, rt__linear_zero(b->l, "target_embedding", time_proj(b, rt__time(t, 1), &width), width, u->time_dim));
    if (u->guidance)
        b->emb = rt_add(b->emb, rt__linear_zero(b->l, "guidance_embedding", time_proj(b, rt__guidance(t), &width), width, u->time_dim));
    if (u->camera) b->emb = rt_add(b->emb, rt__camera_embedding(b->l, t, u->target_time ? 2 : 1, u->time_dim));
    if (y) b->emb = rt_add(b->emb, label_embedding(b, y));

    rt_node *draws;
    x = rt__split_draws(x, u->in_channels, u->draws, &draws);
    if (u->center_input) x = rt_offset(rt_scale(x, 2), -1);
    x = rt__conv(b->l, "conv_in", x, u->in_channels, first, 3, &conv3);
    if (draws) x = rt_add(x, rt__conv_zero(b->l, "draws_in", draws, (int64_t)u->draws * u->in_channels, first, 3, &conv3));
    skips[(*n)++] = (skip){x, first};
    for (int i = 0; i < u->levels; i++) x = down_block(b, i, x, i ? u->channels[i - 1] : first, skips, n, &full[i]);
    return u->mid ? mid_block(b, x) : x;
}

void rt__unet_levels(const rt__unet *u, rt_params *set, rt_node *x, rt_node *t, rt_node *y, rt_node **out)
{
    skip skips[MOST_SKIPS];
    int n = 0;
    rt_node *deepest = encode(&(builder){.l = {rt_node_graph(x), set}, .u = u}, x, t, y, skips, &n, out);
    if (n == 0) /* refused */
        for (int i = 0; i < u->levels; i++) out[i] = deepest;
    if (u->mid) out[u->levels] = deepest;
}

rt_node *rt__unet_apply(const rt__unet *u, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    builder b = {.l = {rt_node_graph(x), set}, .u = u};
    skip skips[MOST_SKIPS];
    rt_node *full[RT_UNET_LEVELS];
    int n = 0;
    int64_t first = u->channels[0];
    x = encode(&b, x, t, y, skips, &n, full);
    if (n == 0) return x; /* refused */
    for (int i = 0; i < u->levels; i++) x = up_block(&b, i, x, u->channels[i ? u->levels - i : u->levels - 1], skips, &n);
    x = rt_silu(rt__group_norm(b.l, "conv_norm_out", x, first, u->groups, u->eps)); /* SiLU, whatever act_fn says */
    x = rt__conv(b.l, "conv_out", x, first, u->out_channels, 3, &conv3);
    return u->time == RT_TIME_FOURIER ? rt_div(x, rt_per_sample(rt__time(t, 0), x)) : x;
}
