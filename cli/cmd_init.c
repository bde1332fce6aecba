/* cmd_init.c -- retort init: the configuration of a network that fits the data. */
#include "cli.h"
#include "captions.h"
#include "next.h"

#include "retort/model.h"
#include "retort/nn.h"

#include <string.h>

static const char *const *sizes(void)
{
    static const char *const names[] = {"small", "medium", NULL};
    return names;
}

static const char *const *objectives(void)
{
    static const char *const names[] = {"denoise", "classify", NULL};
    return names;
}

static const cli_option options[] = {
    {"data", 0, "DATA", "data.path", NULL, "idx, folder of images, zip, .safetensors, or toy:NAME", NULL},
    CLI_FIT_OPTIONS,
    {"size", 0, "SIZE", "init.size", "small", "small learns in minutes to hours on a few cores, medium in a day", sizes},
    {"labels", 0, "WHAT", "data.labels", "class",
     "what is told of an item: class, camera, class-camera, caption, caption-camera (words of captions), or words with commas between them",
     NULL},
    {"objective", 0, "NAME", "init.objective", "denoise", "denoise: a diffusion or flow model; classify: a classifier, for features",
     objectives},
    {"out", 'o', "FILE.json", NULL, NULL, "the configuration to write, for `train --net`", NULL},
    {0}};

enum { LEVELS = 6, LEAST = 8, MOST = 32 }; /* levels are halved down to LEAST pixels or so; attention is kept to at most MOST x MOST */

static json_t *widths(const int *list, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_integer(list[i]));
    return a;
}

/* How often both sides can be halved before the shorter one has LEAST pixels, and one more. */
static int count_levels(int64_t height, int64_t width)
{
    int levels = 1;
    for (; height % 2 == 0 && width % 2 == 0 && height > LEAST && width > LEAST && levels < LEVELS; height /= 2, width /= 2) levels++;
    return levels;
}

/* The side nearest to this one that can be halved down to MOST. */
static long long nearest(int64_t side)
{
    int64_t unit = 1;
    while (side > MOST * unit && unit < 1 << (LEVELS - 1)) unit *= 2;
    int64_t near = (side + unit / 2) / unit * unit;
    return near < MOST * unit ? near : MOST * unit;
}

/* UNet2DModel: attention on the coarsest level and in the middle. */
static rt_status unet(json_t **net, const rt_dataset_info *i, bool medium, rt_error *err)
{
    int64_t h = i->shape[1], w = i->shape[2];
    int levels = count_levels(h, w), channels[LEVELS];
    if (h >> (levels - 1) > MOST || w >> (levels - 1) > MOST) {
        long long near = nearest(h < w ? h : w);
        return rt_error_set(err, RT_E_INVALID,
                            "%s: pictures of %lldx%lld, which cannot be halved down to %dx%d; give --resize %lld --crop %lld", i->chosen,
                            (long long)w, (long long)h, MOST, MOST, near, near);
    }
    json_t *down = json_array(), *up = json_array();
    for (int k = 0; k < levels; k++) {
        channels[k] = (medium ? 64 : 32) * (k > 0 ? 2 : 1);
        json_array_append_new(down, json_string(k == levels - 1 ? "AttnDownBlock2D" : "DownBlock2D"));
        json_array_append_new(up, json_string(k == 0 ? "AttnUpBlock2D" : "UpBlock2D"));
    }
    *net = json_pack("{s:s, s:I, s:I, s:o, s:i, s:o, s:o, s:o, s:i, s:n}", "_class_name", "UNet2DModel", "in_channels",
                     (json_int_t)i->shape[0], "out_channels", (json_int_t)i->shape[0], "sample_size",
                     h == w ? json_integer(h) : json_pack("[I, I]", (json_int_t)h, (json_int_t)w), "layers_per_block", medium ? 2 : 1,
                     "block_out_channels", widths(channels, levels), "down_block_types", down, "up_block_types", up, "norm_num_groups",
                     medium ? 32 : 8, "attention_head_dim");
    return RT_OK;
}

static json_t *mlp(const rt_dataset_info *i, bool medium)
{
    return json_pack("{s:s, s:I, s:i, s:i}", "_class_name", "RetortMLP", "data_dim", (json_int_t)i->features, "hidden", medium ? 256 : 128,
                     "layers", medium ? 5 : 3);
}

static rt_status classifier(json_t **net, const rt_dataset_info *i, bool medium, rt_error *err)
{
    static const int small_widths[] = {16, 32, 128}, medium_widths[] = {32, 64, 128, 256};
    if (i->rank != 3 || i->shape[1] != i->shape[2])
        return rt_error_set(err, RT_E_INVALID, "%s: a classifier takes square pictures%s", i->chosen,
                            i->pictures ? "; give --resize N --crop N" : "; vectors are compared without features");
    if (i->classes < 2)
        return rt_error_set(err, RT_E_INVALID, "%s: %d classes; a classifier tells 2 or more apart: one folder for each", i->chosen,
                            i->classes);
    *net = json_pack("{s:s, s:I, s:I, s:i, s:o, s:i, s:i}", "_class_name", "RetortClassifier", "in_channels", (json_int_t)i->shape[0],
                     "sample_size", (json_int_t)i->shape[1], "num_classes", i->classes, "block_out_channels",
                     medium ? widths(medium_widths, 4) : widths(small_widths, 3), "layers_per_block", medium ? 2 : 1, "norm_num_groups", 8);
    return RT_OK;
}

static rt_status choose(json_t **net, rt_dataset *data, const char *labels, bool classify, bool medium, rt_error *err)
{
    const rt_dataset_info *i = rt_dataset_describe(data);
    json_t *words = NULL;
    int rows = 0;
    bool told = strncmp(labels, "caption", strlen("caption")) == 0; /* a mistyped one is rt_dataset_tell's to refuse */
    if (told && classify)
        return rt_error_set(err, RT_E_USAGE, "--labels %s: a classifier tells classes apart; give words with commas between them", labels);
    told = strcmp(labels, "caption") == 0 || strcmp(labels, "caption-camera") == 0;
    if (told)
        TRY(cli_words_of_captions(&words, data, strcmp(labels, "caption") != 0, &rows, err));
    else
        TRY(rt_dataset_tell(data, labels, NULL, err));
    if (classify) return classifier(net, i, medium, err);
    rt_status status = RT_OK;
    if (i->rank == 3)
        status = unet(net, i, medium, err);
    else
        *net = mlp(i, medium);
    if (status != RT_OK || words) {
        if (status == RT_OK) json_object_set(*net, "_words", words);
        if (status == RT_OK) json_object_set_new(*net, "num_class_embeds", json_integer(rows));
        json_decref(words);
        return status;
    }
    if (i->classes > 1) json_object_set_new(*net, "num_class_embeds", json_integer(i->classes + 1)); /* the null class is the last */
    return RT_OK;
}

/* Opens what was written, as `train` will, and says what it is. */
static rt_status say_network(cli_call *c, const char *out, const rt_dataset_info *i, bool classify, rt_error *err)
{
    rt_net *net;
    char shape[128], classes[64] = "no classes";
    TRY(rt_net_open(&net, out, err));
    rt_params *set = rt_params_new("init", RT_F32);
    rt_status status = set ? rt_net_declare(net, set, err) : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", out);
    if (status == RT_OK) {
        const rt_words *words = rt_net_describe(net)->words;
        if (words)
            snprintf(classes, sizeof classes, "prompts of %d words from %d", rt_words_length(words), rt_words_count(words));
        else if (i->classes > 1)
            snprintf(classes, sizeof classes, "%d classes%s", i->classes, classify ? "" : " and a null class");
        cli_say(c, "%s: a %s for %s%s, %s: %lld parameters, %.3g GFLOP per sample", out, rt_net_describe(net)->kind,
                rt_shape_text(shape, sizeof shape, i->rank, i->shape), i->rank == 1 ? " numbers" : "", classes,
                (long long)rt_params_count(set), 1e-9 * rt_net_flop(net));
        cli_put(c, "network",
                json_pack("{s:s, s:I, s:f}", "kind", rt_net_describe(net)->kind, "parameters", (json_int_t)rt_params_count(set),
                          "forward_flop", rt_net_flop(net)));
    }
    rt_params_free(set);
    rt_net_free(net);
    return status;
}

static rt_status run(cli_call *c, rt_error *err)
{
    const char *path = cli_text(c, "data"), *out = cli_text(c, "out"), *size = cli_word(c, "size"), *objective = cli_word(c, "objective");
    rt_fit fit = cli_fit(c);
    rt_dataset *data;
    TRY(cli_ok(c, err));
    if (!path) return rt_error_set(err, RT_E_USAGE, "--data is missing: what the network is to be trained on");
    if (!out) return rt_error_set(err, RT_E_USAGE, "--out is missing: the configuration to write, such as unet.json");
    TRY(cli_claim_out(c, out, err));
    TRY(rt_dataset_open_fit(&data, path, fit, err));
    const rt_dataset_info *i = rt_dataset_describe(data);
    bool classify = strcmp(objective, "classify") == 0;
    json_t *net = NULL;
    cli_remark(c, i->remark);
    rt_status status = choose(&net, data, cli_text(c, "labels"), classify, strcmp(size, "medium") == 0, err);
    char *text = net ? json_dumps(net, JSON_INDENT(2)) : NULL;
    if (status == RT_OK && !text) status = rt_error_set(err, RT_E_MEMORY, "%s: out of memory", out);
    if (status == RT_OK && c->dry_run) {
        if (!c->json) fprintf(c->text, "%s\n", text);
    } else if (status == RT_OK) {
        status = cli_write_file(out, text, err);
        if (status == RT_OK) status = say_network(c, out, i, classify, err);
        if (status == RT_OK)
            cli_say(c, "next: retort train%s %s%s%s --net %s --out %s", classify ? " --objective classify" : "",
                    cli_data_words(c, "--data", path, fit), cli_given(c, "labels") ? " --labels " : "",
                    cli_given(c, "labels") ? cli_quoted(c, cli_text(c, "labels")) : "", cli_quoted(c, out),
                    classify ? "features" : "teacher");
    }
    cli_put(c, "out", json_string(out));
    cli_put(c, "configuration", net ? net : json_null());
    free(text);
    rt_dataset_free(data);
    return status;
}

const cli_command cli_init_command = {
    .name = "init",
    .arguments = "",
    .summary = "write a network's configuration that fits the data",
    .text =
        "Reads DATA and writes the config.json of a network for it: a UNet2DModel for pictures, an MLP for vectors, with their size and\n"
        "channels, and with a row for each class and one for none, which guidance needs. `train --net` takes it. The file may be changed\n"
        "before: it is that of diffusers.",
    .examples = "retort init --data toy:moons --out mlp.json\nretort init --data fashion-mnist --size medium --out unet.json",
    .options = options,
    .max_arguments = 0,
    .run = run,
};
