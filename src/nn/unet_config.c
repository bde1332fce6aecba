/* unet_config.c -- reading a UNet2DModel configuration. Every field is checked here, so that building cannot meet a surprise. What diffusers' code
 * takes and its blocks then fail on is refused here already. */
#include "nn/net.h"
#include "nn/unet.h"

#include "base/internal.h"

#include <stdio.h>
#include <string.h>

enum { MAX_CHANNELS = RT_TIMESTEP_FEATURES, MAX_SIZE = 1 << 12, MAX_ROWS = 1 << 20 };

static const char *const fields[] = {"sample_size",
                                     "in_channels",
                                     "out_channels",
                                     "center_input_sample",
                                     "time_embedding_type",
                                     "time_embedding_dim",
                                     "freq_shift",
                                     "flip_sin_to_cos",
                                     "down_block_types",
                                     "mid_block_type",
                                     "up_block_types",
                                     "block_out_channels",
                                     "layers_per_block",
                                     "mid_block_scale_factor",
                                     "downsample_padding",
                                     "downsample_type",
                                     "upsample_type",
                                     "dropout",
                                     "act_fn",
                                     "attention_head_dim",
                                     "norm_num_groups",
                                     "attn_norm_num_groups",
                                     "norm_eps",
                                     "resnet_time_scale_shift",
                                     "add_attention",
                                     "class_embed_type",
                                     "num_class_embeds",
                                     "num_train_timesteps"};

/* A whole number of at least 1 for which null means `fallback`, as absence does. */
static rt_status optional(const rt__fields *f, const char *field, int fallback, int max, int *out)
{
    *out = fallback;
    return rt__field_null(f, field) ? RT_OK : rt__field_int(f, field, fallback, 1, max, out);
}

static rt_status read_size(const rt__fields *f, rt__unet *u)
{
    const json_t *v = json_object_get(f->config, "sample_size");
    int size[2] = {32, 32}, step = 1 << (u->levels - 1); /* the network takes any size: this one is for samples */
    char must[160];
    snprintf(must, sizeof must,
             "must be a whole number from 1 to %d, or two of them (height, width), and a multiple of %d: %d levels halve it %d times",
             MAX_SIZE, step, u->levels, u->levels - 1);
    bool given = v && !json_is_null(v), pair = json_is_array(v) && json_array_size(v) == 2;
    for (size_t i = 0; i < 2 && given; i++) {
        const json_t *s = pair ? json_array_get(v, i) : v;
        if (!json_is_integer(s) || json_integer_value(s) < 1 || json_integer_value(s) > MAX_SIZE || json_integer_value(s) % step)
            return rt__field_wrong(f, "sample_size", must);
        size[i] = (int)json_integer_value(s);
    }
    u->height = given ? size[0] : (32 + step - 1) / step * step;
    u->width = given ? size[1] : u->height;
    return RT_OK;
}

static rt_status read_blocks(const rt__fields *f, const char *field, int n, const char *const names[3], const char *sampling_field,
                             rt__block *out)
{
    static const char *const samplings[] = {"conv", "resnet", NULL};
    char must[160];
    int sampling = RT_SAMPLING_CONV;
    if (!rt__field_null(f, sampling_field)) RT_TRY(rt__field_choice(f, sampling_field, RT_SAMPLING_CONV, samplings, &sampling));
    snprintf(must, sizeof must, "must list %d of %s, %s, %s (one per entry of block_out_channels)", n, names[0], names[1], names[2]);
    const json_t *list = json_object_get(f->config, field);
    if (!json_is_array(list) || json_array_size(list) != (size_t)n) return rt__field_wrong(f, field, must);
    for (int i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, (size_t)i));
        int kind = 0;
        if (name && !strncmp(name, "UNetRes", 7)) name += 7; /* old files */
        while (name && kind < 3 && strcmp(name, names[kind])) kind++;
        if (!name || kind == 3) return rt__field_wrong(f, field, must);
        /* only the blocks with attention obey downsample_type and upsample_type */
        const rt__block kinds[] = {{false, RT_SAMPLING_CONV}, {true, (rt__sampling)sampling}, {false, RT_SAMPLING_RESNET}};
        out[i] = kinds[kind];
    }
    return RT_OK;
}

static rt_status read_shape(const rt__fields *f, rt__unet *u)
{
    static const char *const down[] = {"DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"},
                             *const up[] = {"UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"}, *const mid[] = {"UNetMidBlock2D", NULL};
    int kind;
    RT_TRY(rt__field_int(f, "in_channels", 3, 1, MAX_CHANNELS, &u->in_channels));
    RT_TRY(rt__field_int(f, "out_channels", 3, 1, MAX_CHANNELS, &u->out_channels));
    RT_TRY(rt__field_ints(f, "block_out_channels", RT_UNET_LEVELS, 1, MAX_CHANNELS, &u->levels, u->channels));
    RT_TRY(rt__field_int(f, "layers_per_block", 2, 1, RT_UNET_LAYERS, &u->layers));
    RT_TRY(read_size(f, u));
    RT_TRY(read_blocks(f, "down_block_types", u->levels, down, "downsample_type", u->down));
    RT_TRY(read_blocks(f, "up_block_types", u->levels, up, "upsample_type", u->up));
    RT_TRY(rt__field_int(f, "downsample_padding", 1, 0, 1, &u->downsample_padding));
    u->mid = !rt__field_null(f, "mid_block_type");
    if (u->mid) RT_TRY(rt__field_choice(f, "mid_block_type", 0, mid, &kind));
    RT_TRY(rt__field_bool(f, "add_attention", true, &u->mid_attention));
    RT_TRY(rt__field_real(f, "mid_block_scale_factor", 1, 1e-6, 1e6, &u->mid_scale));
    return RT_OK;
}

static rt_status read_layers(const rt__fields *f, rt__unet *u)
{
    static const char *const shifts[] = {"default", "scale_shift", NULL};
    char must[128];
    int kind, last = u->channels[u->levels - 1];
    RT_TRY(rt__field_choice(f, "resnet_time_scale_shift", 0, shifts, &kind));
    u->scale_shift = kind == 1;
    RT_TRY(rt__field_activation(f, "act_fn", &u->act));
    RT_TRY(rt__field_real(f, "norm_eps", 1e-5, 0, 1, &u->eps));
    double dropout; /* means something in PyTorch's training mode only */
    RT_TRY(rt__field_real(f, "dropout", 0, 0, 1, &dropout));

    RT_TRY(rt__field_int(f, "norm_num_groups", 32, 1, MAX_CHANNELS, &u->groups));
    RT_TRY(optional(f, "attention_head_dim", rt__field_null(f, "attention_head_dim") ? 0 : 8, MAX_CHANNELS, &u->head_dim));
    for (int i = 0; i < u->levels; i++) {
        bool attends = u->down[i].attention || u->up[u->levels - 1 - i].attention || (u->mid && u->mid_attention && i == u->levels - 1);
        snprintf(must, sizeof must, "must divide every entry of block_out_channels, also %d", u->channels[i]);
        if (u->channels[i] % u->groups) return rt__field_wrong(f, "norm_num_groups", must);
        snprintf(must, sizeof must, "is the width of a head: must be at most the channels of every block with attention, also %d",
                 u->channels[i]);
        if (attends && u->head_dim > u->channels[i]) return rt__field_wrong(f, "attention_head_dim", must);
    }
    RT_TRY(optional(f, "attn_norm_num_groups", u->scale_shift ? 0 : u->groups, MAX_CHANNELS, &u->mid_attention_groups));
    snprintf(must, sizeof must, "must divide the last entry of block_out_channels, %d", last);
    if (u->mid && u->mid_attention && u->mid_attention_groups && last % u->mid_attention_groups)
        return rt__field_wrong(f, "attn_norm_num_groups", must);
    return RT_OK;
}

static rt_status read_conditions(const rt__fields *f, rt__unet *u)
{
    static const char *const times[] = {"positional", "fourier", "learned", NULL}, *const labels[] = {"timestep", "identity", NULL};
    char must[96];
    int kind;
    RT_TRY(rt__field_bool(f, "center_input_sample", false, &u->center_input));
    RT_TRY(rt__field_choice(f, "time_embedding_type", RT_TIME_POSITIONAL, times, &kind));
    u->time = (rt__time_kind)kind;
    RT_TRY(rt__field_bool(f, "flip_sin_to_cos", true, &u->flip_sin_to_cos));
    RT_TRY(rt__field_real(f, "freq_shift", 0, 0, MAX_CHANNELS, &u->freq_shift));
    snprintf(must, sizeof must, "must be less than %d, half of the first entry of block_out_channels", u->channels[0] / 2);
    if (u->time == RT_TIME_POSITIONAL && u->channels[0] / 2 <= u->freq_shift) return rt__field_wrong(f, "freq_shift", must);
    RT_TRY(optional(f, "time_embedding_dim", 4 * u->channels[0], 4 * MAX_CHANNELS, &u->time_dim));
    RT_TRY(optional(f, "num_train_timesteps", 0, MAX_ROWS, &u->timesteps));
    if (u->time == RT_TIME_LEARNED && !u->timesteps)
        return rt__field_wrong(f, "num_train_timesteps", "must be the number of rows of the learned time embedding");
    RT_TRY(rt__field_draws(f, &u->draws));
    RT_TRY(rt__field_bool(f, "_target_time", false, &u->target_time));
    if (u->target_time && u->time != RT_TIME_POSITIONAL) return rt__field_wrong(f, "_target_time", "needs time_embedding_type positional");
    RT_TRY(rt__field_bool(f, "_guidance", false, &u->guidance));
    if (u->guidance && u->time != RT_TIME_POSITIONAL) return rt__field_wrong(f, "_guidance", "needs time_embedding_type positional");
    RT_TRY(rt__field_bool(f, "_camera", false, &u->camera));

    RT_TRY(optional(f, "num_class_embeds", 0, MAX_ROWS, &u->classes));
    u->label = u->classes ? RT_LABEL_CLASS : RT_LABEL_NONE;
    if (!rt__field_absent(f, "class_embed_type") && !rt__field_null(f, "class_embed_type")) {
        RT_TRY(rt__field_choice(f, "class_embed_type", 0, labels, &kind));
        u->label = kind ? RT_LABEL_VECTOR : RT_LABEL_NUMBER;
    }
    return RT_OK;
}

static rt_status read(void *settings, rt_net_info *info, const rt__fields *f)
{
    rt__unet *u = settings;
    RT_TRY(rt__fields_known(f, fields, RT_COUNT(fields), false));
    RT_TRY(read_shape(f, u));
    RT_TRY(read_layers(f, u));
    RT_TRY(read_conditions(f, u));
    *info = (rt_net_info){.in_channels = u->in_channels,
                          .out_channels = u->out_channels,
                          .height = u->height,
                          .width = u->width,
                          .label = u->label,
                          .draws = u->draws,
                          .times = u->target_time ? 2 : 1,
                          .guidance = u->guidance,
                          .camera = u->camera,
                          .n_levels = u->levels + u->mid,
                          .classes = u->label == RT_LABEL_VECTOR ? 0 : u->classes,
                          .label_width = u->label == RT_LABEL_VECTOR ? u->time_dim : 0};
    for (int i = 0; i < info->n_levels; i++) info->level_channels[i] = u->channels[i < u->levels ? i : u->levels - 1];
    return RT_OK;
}

static rt_node *apply(const void *settings, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    return rt__unet_apply(settings, set, x, t, y);
}

static void levels(const void *settings, rt_params *set, rt_node *x, rt_node *t, rt_node *y, rt_node **out)
{
    rt__unet_levels(settings, set, x, t, y, out);
}

const rt__net_kind rt__net_unet = {.name = "UNet2DModel",
                                   .source = "diffusers",
                                   .text = "U-Net for pictures with diffusers' blocks with and without attention, conv and resnet sampling",
                                   .size = sizeof(rt__unet),
                                   .read = read,
                                   .apply = apply,
                                   .levels = levels};
