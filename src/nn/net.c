/* net.c -- the network handle: kinds by name, and weights as diffusers folders hold them. */
#include "nn/words.h"

#include "base/files.h"
#include "base/json.h"
#include "base/internal.h"
#include "retort/format.h"
#include "retort/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_LIMIT = 1 << 20 };
static const int64_t MOST_PARAMETERS = (int64_t)1 << 32;

static const rt__net_kind *const kinds[] = {&rt__net_unet, &rt__net_mlp, &rt__net_affine, &rt__net_classifier};

bool rt_net_kind_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(kinds)) return false;
    *row = (rt_row_text){kinds[i]->name, kinds[i]->source, kinds[i]->text};
    return true;
}

struct rt_net {
    const rt__net_kind *kind;
    rt_net_info info;
    rt_words *words;
    void *settings;
    char *config;
};

static rt_status read_config(rt_net *net, const rt__fields *f)
{
    rt_error *err = f->err;
    if (!json_is_object(f->config)) RT_RAISE(RT_E_INVALID, "%s: must be a JSON object; give a network's config.json", f->file);
    const char *name = json_string_value(json_object_get(f->config, "_class_name"));
    for (size_t i = 0; name && i < RT_COUNT(kinds); i++)
        if (!strcmp(kinds[i]->name, name)) net->kind = kinds[i];
    if (!net->kind) return rt__field_wrong(f, "_class_name", "must be UNet2DModel, RetortMLP, RetortAffine or RetortClassifier");
    net->settings = calloc(1, net->kind->size);
    if (!net->settings) RT_RAISE(RT_E_MEMORY, "%s: out of memory", f->file);
    RT_TRY(net->kind->read(net->settings, &net->info, f));
    net->info.kind = net->kind->name;
    net->info.told = net->info.times + net->info.guidance + (net->info.camera ? RT_CAMERA_NUMBERS : 0);
    RT_TRY(rt__words_read(&net->words, f));
    net->info.words = net->words;
    if (net->words && (net->info.label != RT_LABEL_CLASS || net->info.classes != rt_words_count(net->words) + 1)) {
        char must[96];
        snprintf(must, sizeof must, "must be %d, one more than '_words' lists, with class_embed_type null", rt_words_count(net->words) + 1);
        return rt__field_wrong(f, "num_class_embeds", must);
    }
    return RT_OK;
}

/* From the text of a config.json, which it takes over. */
static rt_status open_text(rt_net **out, const char *file, char *text, size_t size, rt_error *err)
{
    json_t *config = NULL;
    rt_net *net = calloc(1, sizeof *net);
    *out = NULL;
    if (!net) free(text);
    if (!net) RT_RAISE(RT_E_MEMORY, "%s: out of memory", file);
    net->config = text;
    rt_status s = rt__json_parse(&config, file, text, size, CONFIG_LIMIT, err);
    rt__json_drop_defaults(config);
    if (s == RT_OK) s = read_config(net, &(rt__fields){config, file, err});
    json_decref(config);
    if (s == RT_OK)
        *out = net;
    else
        rt_net_free(net);
    return s;
}

rt_status rt_net_open(rt_net **out, const char *path, rt_error *err)
{
    char file[1200], *text;
    size_t size;
    *out = NULL;
    snprintf(file, sizeof file, "%s%s", path, rt__is_folder(path) ? "/config.json" : "");
    RT_TRY(rt__file_read(file, CONFIG_LIMIT, &text, &size, err));
    return open_text(out, file, text, size, err);
}

/* The same network with one field of its config.json set; takes `value` over. */
static rt_status with_field(rt_net **out, const rt_net *like, const char *field, json_t *value, rt_error *err)
{
    json_t *config = json_loads(like->config, 0, NULL);
    char *text = config && json_object_set_new(config, field, value) == 0 ? json_dumps(config, JSON_INDENT(2)) : NULL;
    json_decref(config);
    *out = NULL;
    if (!text) RT_RAISE(RT_E_MEMORY, "%s: out of memory", like->kind->name);
    return open_text(out, like->kind->name, text, strlen(text), err);
}

static rt_status refuse(rt_net **out, const char *what, rt_error *err)
{
    rt_status s = rt_error_set(err, RT_E_USAGE, "%s: %s", (*out)->kind->name, what);
    rt_net_free(*out);
    *out = NULL;
    return s;
}

rt_status rt_net_with_draws(rt_net **out, const rt_net *like, int draws, rt_error *err)
{
    RT_TRY(with_field(out, like, "_draws", json_integer(draws), err));
    return (*out)->info.draws == draws ? RT_OK : refuse(out, "cannot see draws; RetortMLP, RetortAffine and UNet2DModel can", err);
}

rt_status rt_net_with_guidance(rt_net **out, const rt_net *like, rt_error *err)
{
    RT_TRY(with_field(out, like, "_guidance", json_true(), err));
    return (*out)->info.guidance ? RT_OK : refuse(out, "cannot be told the weight of guidance; RetortMLP and UNet2DModel can", err);
}

rt_status rt_net_with_camera(rt_net **out, const rt_net *like, rt_error *err)
{
    RT_TRY(with_field(out, like, "_camera", json_true(), err));
    return (*out)->info.camera ? RT_OK : refuse(out, "cannot be told a camera; RetortMLP and UNet2DModel can", err);
}

void rt_net_free(rt_net *net)
{
    if (!net) return;
    rt__words_free(net->words);
    free(net->settings);
    free(net->config);
    free(net);
}

const rt_net_info *rt_net_describe(const rt_net *net) { return &net->info; }
const char *rt_net_config(const rt_net *net) { return net->config; }

/* Of x and the draws behind it. */
static int channels(const rt_net_info *i) { return i->in_channels * (1 + i->draws); }

/* The inert node if the inputs are not what the network takes, else NULL. */
static rt_node *misfit(const rt_net *net, rt_node *x, rt_node *t, rt_node *y)
{
    const rt_net_info *i = &net->info;
    rt_graph *g = rt_node_graph(x);
    char shape[96], vectors[48];
    if (rt_node_rank(x) != (i->height ? 4 : 2) || rt_dim(x, 1) != channels(i))
        return rt_fail(g, "%s takes (B,%d%s), not (%s)", i->kind, channels(i), i->height ? ",H,W" : "",
                       rt_shape_text(shape, sizeof shape, rt_node_rank(x), rt_node_shape(x)));
    if (i->classifier) return NULL;
    if (!t || rt_node_rank(t) != (i->told > 1 ? 2 : 1) || (i->told > 1 && rt_dim(t, 1) != i->told)) {
        if (i->told == 1) return rt_fail(g, "%s takes times (B)", i->kind);
        return rt_fail(g, "%s with%s%s%s takes times (B,%d)", i->kind, i->times == 2 ? " _target_time" : "", i->camera ? " _camera" : "",
                       i->guidance ? " _guidance" : "", i->told);
    }
    bool whole = y && rt_node_dtype(y) == RT_I64;
    bool good = !y ? i->label == RT_LABEL_NONE
                : i->label == RT_LABEL_CLASS
                    ? whole && (i->words ? rt_node_rank(y) == 2 && rt_dim(y, 1) == rt_words_length(i->words) : rt_node_rank(y) == 1)
                : i->label == RT_LABEL_NUMBER ? rt_node_rank(y) == 1
                : i->label == RT_LABEL_VECTOR ? !whole && rt_node_rank(y) == 2 && rt_dim(y, 1) == i->label_width
                                              : false;
    if (good) return NULL;
    snprintf(vectors, sizeof vectors, "labels (B,%d)", i->label_width);
    const char *const labels[] = {"no labels", i->words ? vectors : "labels (B) I64", "labels (B)", vectors};
    if (i->words) snprintf(vectors, sizeof vectors, "tokens (B,%d) I64", rt_words_length(i->words));
    return rt_fail(g, "%s with this configuration takes %s%s", i->kind, labels[i->label], y ? ", not what is given" : "; none are given");
}

rt_node *rt_net_apply(const rt_net *net, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    rt_node *bad = misfit(net, x, t, y);
    return bad ? bad : net->kind->apply(net->settings, set, x, t, y);
}

rt_node *rt_net_features(const rt_net *net, rt_params *set, rt_node *x)
{
    if (!net->kind->features) return rt_fail(rt_node_graph(x), "%s has no features; a RetortClassifier has", net->kind->name);
    rt_node *bad = misfit(net, x, NULL, NULL);
    return bad ? bad : net->kind->features(net->settings, set, x);
}

void rt_net_levels(const rt_net *net, rt_params *set, rt_node *x, rt_node *t, rt_node *y, rt_node *levels[RT_NET_LEVELS])
{
    rt_node *bad = net->kind->levels
                       ? misfit(net, x, t, y)
                       : rt_fail(rt_node_graph(x), "%s has no hidden representation of its own; take its features", net->kind->name);
    for (int i = 0; i < RT_NET_LEVELS; i++) levels[i] = bad;
    if (!bad) net->kind->levels(net->settings, set, x, t, y, levels);
}

/* The network on a graph of its own, for its parameters and operations. */
static void build_alone(const rt_net *net, rt_graph *g, rt_params *set)
{
    const rt_net_info *i = &net->info;
    rt_dtype real = rt_graph_real(g);
    rt_node *x = i->height ? rt_input(g, "x", real, 4, (int64_t[]){RT_BATCH, channels(i), i->height, i->width})
                           : rt_input(g, "x", real, 2, (int64_t[]){RT_BATCH, channels(i)});
    rt_node *t = i->classifier ? NULL : rt_input(g, "t", real, i->told > 1 ? 2 : 1, (int64_t[]){RT_BATCH, i->told}), *y = NULL;
    if (i->label != RT_LABEL_NONE)
        y = rt_input(g, "y", i->label == RT_LABEL_CLASS ? RT_I64 : real, i->label == RT_LABEL_VECTOR || i->words ? 2 : 1,
                     (int64_t[]){RT_BATCH, i->words ? rt_words_length(i->words) : i->label_width});
    rt_net_apply(net, set, x, t, y);
}

rt_status rt_net_declare(const rt_net *net, rt_params *set, rt_error *err)
{
    rt_graph *g = rt_graph_new(rt_params_dtype(set));
    if (!g) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    build_alone(net, g, set);
    rt_status s = rt_graph_status(g, err);
    rt_graph_free(g);
    if (s == RT_OK && rt_params_count(set) > MOST_PARAMETERS)
        RT_RAISE(RT_E_INVALID, "%s with this configuration has %lld parameters; must be at most %lld: use fewer or narrower layers",
                 net->kind->name, (long long)rt_params_count(set), (long long)MOST_PARAMETERS);
    return s;
}

double rt_net_flop(const rt_net *net)
{
    rt_params *set = rt_params_new("flop", RT_F32);
    rt_graph *g = rt_graph_new(RT_F32);
    double flop = 0;
    if (set && g) {
        build_alone(net, g, set);
        flop = rt_graph_flop(g, 1);
    }
    rt_graph_free(g);
    rt_params_free(set);
    return flop;
}

/* ---- weights */

/* Attention layers were named otherwise before diffusers 0.16. */
static void legacy_name(const char *name, char *old, size_t size)
{
    static const char *const renamed[][2] = {
        {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}};
    *old = 0;
    for (size_t i = 0; i < RT_COUNT(renamed); i++) {
        const char *at = strstr(name, renamed[i][0]);
        if (at) snprintf(old, size, "%.*s%s%s", (int)(at - name), name, renamed[i][1], at + strlen(renamed[i][0]));
    }
}

static bool same_shape(const rt_entry *e, const rt_tensor_info *info, bool legacy)
{
    if (legacy && info->rank == 4 && e->rank == 2) /* 1x1 convolutions of old */
        return info->shape[0] == e->shape[0] && info->shape[1] == e->shape[1] && info->shape[2] == 1 && info->shape[3] == 1;
    return info->rank == e->rank && !memcmp(info->shape, e->shape, (size_t)e->rank * sizeof *e->shape);
}

/* What torch.compile and data-parallel training put before the names of all tensors: empty, or the prefixes that all have. */
static void common_prefix(const rt_tensors *t, char *prefix, size_t size)
{
    static const char *const wrappers[] = {"_orig_mod.", "module."};
    *prefix = 0;
    for (size_t w = 0; rt_tensors_count(t) > 0 && w < RT_COUNT(wrappers);) {
        size_t at = strlen(prefix), length = strlen(wrappers[w]);
        bool all = at + length < size;
        for (int i = 0; i < rt_tensors_count(t) && all; i++) all = !strncmp(rt_tensors_info(t, i)->name + at, wrappers[w], length);
        if (all) memcpy(prefix + at, wrappers[w], length + 1);
        w = all ? 0 : w + 1;
    }
}

static int find_tensor(const rt_tensors *t, const char *prefix, const char *name)
{
    char full[640];
    int n = snprintf(full, sizeof full, "%s%s", prefix, name);
    return n >= 0 && (size_t)n < sizeof full ? rt_tensors_find(t, full) : -1;
}

static rt_status load_entry(const rt_tensors *t, const char *prefix, const rt_entry *e, rt_params *set, const char *file, char *taken,
                            rt_error *err)
{
    char old[512], have[96], want[96];
    int at = find_tensor(t, prefix, e->name);
    legacy_name(e->name, old, sizeof old);
    bool legacy = at < 0 && *old;
    if (legacy) at = find_tensor(t, prefix, old);
    if (at >= 0) taken[at] = 1;
    if (at < 0) RT_RAISE(RT_E_INVALID, "%s: tensor '%s' is missing; the weights belong to another config.json", file, e->name);
    const rt_tensor_info *info = rt_tensors_info(t, at);
    if (!same_shape(e, info, legacy))
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s' is (%s), the network needs (%s); the weights belong to another config.json", file,
                 info->name, rt_shape_text(have, sizeof have, info->rank, info->shape),
                 rt_shape_text(want, sizeof want, e->rank, e->shape));
    size_t width = rt_dtype_size(rt_params_dtype(set));
    char *values = (char *)rt_params_data(set, RT_VALUE) + (size_t)e->offset * width;
    RT_TRY(rt_tensors_read_real(t, at, rt_params_dtype(set), values, err));
    for (int64_t i = 0; i < e->count; i++) {
        double v = width == 4 ? (double)((float *)(void *)values)[i] : ((double *)(void *)values)[i];
        if (!isfinite(v))
            RT_RAISE(RT_E_INVALID, "%s: tensor '%s' holds %g at element %lld; the weights are damaged", file, info->name, v, (long long)i);
    }
    return RT_OK;
}

static void weights_path(const char *folder, const char *variant, const char *end, char *file, size_t size)
{
    snprintf(file, size, "%s/diffusion_pytorch_model%s%s.safetensors%s", folder, variant ? "." : "", variant ? variant : "", end);
}

static bool exists(const char *folder, const char *name, char *file, size_t size)
{
    int n = snprintf(file, size, "%s/%s", folder, name);
    return n >= 0 && (size_t)n < size && rt__file_exists(file);
}

rt_status rt__net_weights(const char *folder, const char *variant, char *file, size_t size, rt_error *err)
{
    static const char *const halves[] = {"diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors.index.fp16.json",
                                         "diffusion_pytorch_model.bf16.safetensors"};
    static const char *const pickles[] = {"diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin", "pytorch_model.bin"};
    weights_path(folder, variant, ".index.json", file, size);
    if (rt__file_exists(file)) return RT_OK;
    weights_path(folder, variant, "", file, size);
    if (variant || rt__file_exists(file)) return RT_OK;
    for (size_t i = 0; i < RT_COUNT(halves); i++)
        if (exists(folder, halves[i], file, size)) return RT_OK;
    for (size_t i = 0; i < RT_COUNT(pickles); i++)
        if (exists(folder, pickles[i], file, size))
            RT_RAISE(RT_E_INVALID,
                     "%s: the weights are there as a pickle alone, which runs code when it is read; convert it where PyTorch is: python -c "
                     "\"import torch, safetensors.torch as s; s.save_file(torch.load('%s', map_location='cpu', weights_only=True), "
                     "'%s/diffusion_pytorch_model.safetensors')\"",
                     file, file, folder);
    weights_path(folder, variant, "", file, size);
    RT_RAISE(RT_E_IO, "%s: there is no such file, nor one of float16 (.fp16.safetensors) or in parts (.index.json); fetch the weights",
             file);
}

static void remark_on(const rt_tensors *t, const char *file, const char *prefix, char *remark, size_t size)
{
    int halves = 0, at = 0;
    for (int i = 0; i < rt_tensors_count(t); i++) {
        rt_dtype d = rt_tensors_info(t, i)->dtype;
        halves += d == RT_F16 || d == RT_BF16;
    }
    *remark = 0;
    if (halves) at = snprintf(remark, size, "%s: %d tensors of 16 bits are widened to float32", file, halves);
    if (*prefix && at >= 0 && (size_t)at < size)
        snprintf(remark + at, size - (size_t)at, "%s%s the names of all tensors begin with '%s', which is stripped", halves ? ";" : file,
                 halves ? "" : ":", prefix);
}

rt_status rt_net_load(const rt_net *net, rt_params *set, const char *folder, const char *variant, char remark[RT_NET_REMARK], rt_error *err)
{
    char file[1200], prefix[128];
    RT_TRY(rt_net_declare(net, set, err));
    if (!rt_params_data(set, RT_VALUE))
        RT_RAISE(RT_E_MEMORY, "%s: out of memory for %lld parameters", folder, (long long)rt_params_count(set));
    RT_TRY(rt__net_weights(folder, variant, file, sizeof file, err));
    rt_tensors *t;
    RT_TRY(rt_tensors_open(&t, file, err));
    int n = rt_tensors_count(t);
    common_prefix(t, prefix, sizeof prefix);
    if (remark) remark_on(t, file, prefix, remark, RT_NET_REMARK);
    char *taken = calloc((size_t)n + 1, 1);
    rt_status s = taken ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory for %d tensors", file, n);
    for (int i = 0; i < rt_params_entries(set) && s == RT_OK; i++)
        s = load_entry(t, prefix, rt_params_entry(set, i), set, file, taken, err);
    for (int i = 0; i < n && s == RT_OK; i++)
        if (!taken[i])
            s = rt_error_set(err, RT_E_INVALID, "%s: tensor '%s' has no place in the network; the weights belong to another config.json",
                             file, rt_tensors_info(t, i)->name);
    free(taken);
    rt_tensors_close(t);
    rt_params_touch(set);
    return s;
}

rt_status rt_net_save(const rt_net *net, const rt_params *set, rt_role role, const char *folder, const char *variant,
                      const char *const *metadata, rt_error *err)
{
    char file[1200];
    int n = 0, pairs = 0;
    while (metadata && metadata[pairs]) pairs += 2;
    if (rt_params_has(set, role)) RT_TRY(rt_params_fetch((rt_params *)(uintptr_t)set, role, err));
    rt_params *own = rt_params_new("own", rt_params_dtype(set)); /* a set may hold more than the network: what only training needs */
    if (!own) RT_RAISE(RT_E_MEMORY, "%s: out of memory", folder);
    rt_status declared = rt_net_declare(net, own, err);
    if (declared == RT_OK) n = rt_params_entries(own);
    rt_named_tensor *list = calloc((size_t)n, sizeof *list);
    const char **all = calloc((size_t)pairs + 3, sizeof *all);
    const char *values = rt_params_has(set, role) ? rt_params_data((rt_params *)(uintptr_t)set, role) : NULL;
    rt_status s = declared != RT_OK ? declared
                  : !list || !all   ? rt_error_set(err, RT_E_MEMORY, "%s: out of memory", folder)
                  : !values         ? rt_error_set(err, RT_E_INTERNAL, "%s: nothing to save", folder)
                                    : RT_OK;
    if (s == RT_OK) {
        if (pairs > 0) memcpy(all, metadata, (size_t)pairs * sizeof *all);
        all[pairs] = "format";
        all[pairs + 1] = "pt";
        for (int i = 0; i < n; i++) {
            const rt_entry *e = rt_params_entry(set, rt_params_find(set, rt_params_entry(own, i)->name));
            list[i] = (rt_named_tensor){e->name, rt_params_dtype(set), e->rank, e->shape,
                                        values + (size_t)e->offset * rt_dtype_size(rt_params_dtype(set))};
        }
        snprintf(file, sizeof file, "%s/config.json", folder);
        s = rt__file_write(file, net->config, strlen(net->config), err);
    }
    weights_path(folder, variant, "", file, sizeof file);
    if (s == RT_OK) s = rt_tensors_write(file, list, n, all, err);
    rt_params_free(own);
    free(list);
    free(all);
    return s;
}
