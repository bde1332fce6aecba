/* unet_config.c -- reading a UNet2DModel configuration. Every field is checked here, so that building cannot meet a surprise. */
#include "nn/net.h"
#include "nn/unet.h"

#include "base/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHANNELS = 1 << 14, MAX_LAYERS = 32, MAX_SIZE = 1 << 12, MAX_ROWS = 1 << 20 };

typedef struct reader {
    const json_t *config;
    const char *file;
    rt_error *err;
} reader;

static rt_status wrong(reader *r, const char *field, const char *must) { return rt__field_wrong(r->config, r->file, field, must, r->err); }
static bool absent(const reader *r, const char *field) { return rt__field_absent(r->config, field); }
static rt_status whole(reader *r, const char *field, bool required, int fallback, int min, int max, int *out)
{
    return rt__field_int(r->config, r->file, field, required, fallback, min, max, out, r->err);
}
static rt_status number(reader *r, const char *field, double fallback, double min, double max, double *out)
{
    return rt__field_real(r->config, r->file, field, fallback, min, max, out, r->err);
}
static rt_status boolean(reader *r, const char *field, bool fallback, bool *out)
{
    return rt__field_bool(r->config, r->file, field, fallback, out, r->err);
}

/* The index of a text in a list of names, NULL-terminated. */
static rt_status choice(reader *r, const char *field, const char *fallback, const char *const *names, int *out)
{
    char must[256] = "must be one of";
    for (int i = 0; names[i]; i++) snprintf(must + strlen(must), sizeof must - strlen(must), "%s %s", i ? "," : "", names[i]);
    const json_t *v = json_object_get(r->config, field);
    const char *text = absent(r, field) ? fallback : json_is_string(v) ? json_string_value(v) : NULL;
    for (int i = 0; text && names[i]; i++)
        if (!strcmp(names[i], text)) {
            *out = i;
            return RT_OK;
        }
    return wrong(r, field, must);
}

static rt_status blocks(reader *r, const char *field, int n, bool up, rt__sampling attention_sampling, rt__block *out)
{
    const char *const names[2][3] = {{"DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"},
                                     {"UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"}};
    char must[160];
    snprintf(must, sizeof must, "must list %d of %s, %s, %s (one per entry of block_out_channels)", n, names[up][0], names[up][1],
             names[up][2]);
    const json_t *list = json_object_get(r->config, field);
    if (!json_is_array(list) || json_array_size(list) != (size_t)n) return wrong(r, field, must);
    for (int i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, (size_t)i));
        int kind = 0;
        while (name && kind < 3 && strcmp(name, names[up][kind])) kind++;
        if (!name || kind == 3) return wrong(r, field, must);
        out[i] = (rt__block){.attention = kind == 1,
                             .sampling = kind == 0   ? RT_SAMPLING_CONV
                                         : kind == 2 ? RT_SAMPLING_RESNET
                                                     : attention_sampling};
    }
    return RT_OK;
}

static rt_status sample_size(reader *r, rt__unet *u)
{
    const char *must = "must be a whole number from 1 to 4096, or two of them (height, width)";
    const json_t *v = json_object_get(r->config, "sample_size");
    int size[2] = {32, 32}; /* the network takes any size: this one is for samples */
    if (!absent(r, "sample_size")) {
        bool pair = json_is_array(v) && json_array_size(v) == 2;
        for (size_t i = 0; i < 2; i++) {
            const json_t *s = pair ? json_array_get(v, i) : v;
            if (!json_is_integer(s) || json_integer_value(s) < 1 || json_integer_value(s) > MAX_SIZE) return wrong(r, "sample_size", must);
            size[i] = (int)json_integer_value(s);
        }
    }
    u->height = size[0];
    u->width = size[1];
    return RT_OK;
}

static rt_status check_groups(reader *r, const rt__unet *u)
{
    for (int i = 0; i < u->levels; i++) {
        int below = u->channels[i ? i - 1 : 0];
        if (u->channels[i] % u->groups || (u->channels[i] + below) % u->groups) {
            char must[96];
            snprintf(must, sizeof must, "must divide every entry of block_out_channels, also %d", u->channels[i]);
            return wrong(r, "norm_num_groups", must);
        }
        bool attends = u->down[i].attention || u->up[u->levels - 1 - i].attention || (u->mid_attention && i == u->levels - 1);
        if (u->head_dim && attends && (u->channels[i] < u->head_dim || u->channels[i] % u->head_dim)) {
            char must[96];
            snprintf(must, sizeof must, "must divide the channels of every block with attention, also %d", u->channels[i]);
            return wrong(r, "attention_head_dim", must);
        }
    }
    if (u->attention_groups && u->channels[u->levels - 1] % u->attention_groups)
        return wrong(r, "attn_norm_num_groups", "must divide the last entry of block_out_channels");
    return RT_OK;
}

static rt_status read_unet(rt__unet *u, const json_t *config, const char *file, rt_error *err)
{
    reader r = {config, file, err};
    *u = (rt__unet){0};
    const char *name = json_string_value(json_object_get(config, "_class_name"));
    if (!name || strcmp(name, "UNet2DModel")) return wrong(&r, "_class_name", "must be \"UNet2DModel\"");
    RT_TRY(sample_size(&r, u));
    RT_TRY(whole(&r, "in_channels", false, 3, 1, MAX_CHANNELS, &u->in_channels));
    RT_TRY(whole(&r, "out_channels", false, 3, 1, MAX_CHANNELS, &u->out_channels));
    RT_TRY(boolean(&r, "center_input_sample", false, &u->center_input));

    const char *must = "must list 1 to 16 whole numbers from 1 to 16384";
    const json_t *channels = json_object_get(config, "block_out_channels");
    u->levels = json_is_array(channels) ? (int)json_array_size(channels) : 0;
    if (u->levels < 1 || json_array_size(channels) > RT_UNET_LEVELS) return wrong(&r, "block_out_channels", must);
    for (int i = 0; i < u->levels; i++) {
        const json_t *v = json_array_get(channels, (size_t)i);
        if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > MAX_CHANNELS)
            return wrong(&r, "block_out_channels", must);
        u->channels[i] = (int)json_integer_value(v);
    }
    RT_TRY(whole(&r, "layers_per_block", false, 2, 1, MAX_LAYERS, &u->layers));

    static const char *const sampling[] = {"conv", "resnet", NULL};
    int down = 0, up = 0, kind;
    RT_TRY(choice(&r, "downsample_type", "conv", sampling, &down));
    RT_TRY(choice(&r, "upsample_type", "conv", sampling, &up));
    RT_TRY(blocks(&r, "down_block_types", u->levels, false, down ? RT_SAMPLING_RESNET : RT_SAMPLING_CONV, u->down));
    RT_TRY(blocks(&r, "up_block_types", u->levels, true, up ? RT_SAMPLING_RESNET : RT_SAMPLING_CONV, u->up));
    RT_TRY(whole(&r, "downsample_padding", false, 1, 0, 1, &u->downsample_padding));

    static const char *const mid[] = {"UNetMidBlock2D", NULL};
    u->mid = !(json_object_get(config, "mid_block_type") && absent(&r, "mid_block_type")); /* null: no middle block */
    if (u->mid) RT_TRY(choice(&r, "mid_block_type", "UNetMidBlock2D", mid, &kind));
    RT_TRY(boolean(&r, "add_attention", true, &u->mid_attention));
    RT_TRY(number(&r, "mid_block_scale_factor", 1, 1e-6, 1e6, &u->mid_scale));

    int default_groups = u->channels[0] / 4 < 32 ? u->channels[0] / 4 : 32;
    if (json_object_get(config, "norm_num_groups") && absent(&r, "norm_num_groups"))
        u->groups = default_groups < 1 ? 1 : default_groups;
    else
        RT_TRY(whole(&r, "norm_num_groups", false, 32, 1, MAX_CHANNELS, &u->groups));
    RT_TRY(whole(&r, "attn_norm_num_groups", false, 0, 1, MAX_CHANNELS, &u->attention_groups));
    RT_TRY(number(&r, "norm_eps", 1e-5, 1e-12, 1, &u->eps));
    RT_TRY(whole(&r, "attention_head_dim", false, json_object_get(config, "attention_head_dim") ? 0 : 8, 1, MAX_CHANNELS, &u->head_dim));
    if (absent(&r, "attention_head_dim") && json_object_get(config, "attention_head_dim")) u->head_dim = 0;
    RT_TRY(check_groups(&r, u));

    static const char *const shifts[] = {"default", "scale_shift", NULL};
    RT_TRY(choice(&r, "resnet_time_scale_shift", "default", shifts, &kind));
    u->scale_shift = kind == 1;
    const json_t *a = json_object_get(config, "act_fn");
    const char *act = absent(&r, "act_fn") ? "silu" : json_string_value(a);
    if (!act || !rt__activation_known(act)) return wrong(&r, "act_fn", "must be one of silu, swish, mish, gelu, relu");
    snprintf(u->act, sizeof u->act, "%s", act);
    double dropout; /* means something in PyTorch's training mode only */
    RT_TRY(number(&r, "dropout", 0, 0, 1, &dropout));

    static const char *const times[] = {"positional", "fourier", "learned", NULL};
    RT_TRY(choice(&r, "time_embedding_type", "positional", times, &kind));
    u->time = (rt__time_kind)kind;
    RT_TRY(boolean(&r, "flip_sin_to_cos", true, &u->flip_sin_to_cos));
    RT_TRY(number(&r, "freq_shift", 0, 0, 1, &u->freq_shift));
    if (u->time == RT_TIME_POSITIONAL && u->channels[0] / 2 <= u->freq_shift)
        return wrong(&r, "freq_shift", "must be less than half of block_out_channels[0]");
    RT_TRY(whole(&r, "time_embedding_dim", false, 4 * u->channels[0], 1, 4 * MAX_CHANNELS, &u->time_dim));
    if (u->time == RT_TIME_LEARNED) RT_TRY(whole(&r, "num_train_timesteps", true, 0, 1, MAX_ROWS, &u->timesteps));

    RT_TRY(whole(&r, "num_class_embeds", false, 0, 1, MAX_ROWS, &u->classes));
    static const char *const classes[] = {"timestep", NULL};
    if (!absent(&r, "class_embed_type")) {
        RT_TRY(choice(&r, "class_embed_type", "", classes, &kind));
        u->class_kind = RT_CLASS_TIMESTEP;
    } else {
        u->class_kind = u->classes ? RT_CLASS_TABLE : RT_CLASS_NONE;
    }
    return RT_OK;
}

static rt_status read(void *settings, rt_net_info *info, const json_t *config, const char *file, rt_error *err)
{
    rt__unet *u = settings;
    RT_TRY(read_unet(u, config, file, err));
    *info = (rt_net_info){
        .in_channels = u->in_channels, .out_channels = u->out_channels, .height = u->height, .width = u->width, .classes = u->classes};
    return RT_OK;
}

static rt_node *apply(const void *settings, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    return rt__unet_apply(settings, set, x, t, y);
}

const rt__net_kind rt__net_unet = {.name = "UNet2DModel",
                                   .source = "diffusers",
                                   .text = "U-Net for pictures, every option of diffusers' configuration",
                                   .size = sizeof(rt__unet),
                                   .read = read,
                                   .apply = apply};
