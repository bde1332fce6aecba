/* net.c -- the network handle: kinds by name, and weights as diffusers folders hold them. */
#include "nn/net.h"

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

static const rt__net_kind *const kinds[] = {&rt__net_unet, &rt__net_mlp, &rt__net_classifier};

bool rt_net_kind_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(kinds)) return false;
    *row = (rt_row_text){kinds[i]->name, kinds[i]->source, kinds[i]->text};
    return true;
}

struct rt_net {
    const rt__net_kind *kind;
    rt_net_info info;
    void *settings;
    char *config;
};

static rt_status open_config(rt_net *net, const char *file, const json_t *config, rt_error *err)
{
    const char *name = json_string_value(json_object_get(config, "_class_name"));
    for (size_t i = 0; name && i < RT_COUNT(kinds); i++)
        if (!strcmp(kinds[i]->name, name)) net->kind = kinds[i];
    if (!net->kind) return rt__field_wrong(config, file, "_class_name", "must be UNet2DModel, RetortMLP or RetortClassifier", err);
    net->settings = calloc(1, net->kind->size);
    if (!net->settings) RT_RAISE(RT_E_MEMORY, "%s: out of memory", file);
    RT_TRY(net->kind->read(net->settings, &net->info, config, file, err));
    net->info.kind = net->kind->name;
    return RT_OK;
}

rt_status rt_net_open(rt_net **out, const char *path, rt_error *err)
{
    char file[1200];
    size_t size;
    *out = NULL;
    snprintf(file, sizeof file, "%s%s", path, rt__is_folder(path) ? "/config.json" : "");
    rt_net *net = calloc(1, sizeof *net);
    if (!net) RT_RAISE(RT_E_MEMORY, "%s: out of memory", file);
    rt_status s = rt__file_read(file, CONFIG_LIMIT, &net->config, &size, err);
    json_t *config = NULL;
    if (s == RT_OK) s = rt__json_parse(&config, file, net->config, size, CONFIG_LIMIT, err);
    if (s == RT_OK && !json_is_object(config))
        s = rt_error_set(err, RT_E_INVALID, "%s: must be a JSON object; give a network's config.json", file);
    if (s == RT_OK) s = open_config(net, file, config, err);
    json_decref(config);
    if (s != RT_OK) {
        rt_net_free(net);
        return s;
    }
    *out = net;
    return RT_OK;
}

void rt_net_free(rt_net *net)
{
    if (!net) return;
    free(net->settings);
    free(net->config);
    free(net);
}

const rt_net_info *rt_net_describe(const rt_net *net) { return &net->info; }
const char *rt_net_config(const rt_net *net) { return net->config; }

rt_node *rt_net_apply(const rt_net *net, rt_params *set, rt_node *x, rt_node *t, rt_node *y)
{
    return net->kind->apply(net->settings, set, x, t, y);
}

rt_node *rt_net_features(const rt_net *net, rt_params *set, rt_node *x)
{
    return net->kind->features ? net->kind->features(net->settings, set, x)
                               : rt_fail(rt_node_graph(x), "%s has no features; a RetortClassifier has", net->kind->name);
}

/* The network on a graph of its own, for its parameters and operations. */
static rt_node *alone(const rt_net *net, rt_graph *g, rt_params *set)
{
    const rt_net_info *i = &net->info;
    rt_dtype real = rt_graph_real(g);
    rt_node *x = i->height ? rt_input(g, "x", real, 4, (int64_t[]){RT_BATCH, i->in_channels, i->height, i->width})
                           : rt_input(g, "x", real, 2, (int64_t[]){RT_BATCH, i->in_channels});
    rt_node *t = i->classifier ? NULL : rt_input(g, "t", real, 1, (int64_t[]){RT_BATCH});
    rt_node *y = i->classes && !i->classifier ? rt_input(g, "y", RT_I64, 1, (int64_t[]){RT_BATCH}) : NULL;
    return rt_net_apply(net, set, x, t, y);
}

rt_status rt_net_declare(const rt_net *net, rt_params *set, rt_error *err)
{
    rt_graph *g = rt_graph_new(rt_params_dtype(set));
    if (!g) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    alone(net, g, set);
    rt_status s = rt_graph_status(g, err);
    rt_graph_free(g);
    return s;
}

double rt_net_flop(const rt_net *net)
{
    rt_params *set = rt_params_new("flop", RT_F32);
    rt_graph *g = rt_graph_new(RT_F32);
    rt_program *p = NULL;
    double flop = 0;
    if (set && g) {
        rt_node *out = alone(net, g, set);
        if (rt_compile(
                &p, g,
                &(rt_program_spec){.outputs = &out, .n_outputs = 1, .batch = 1, .backend = rt_backend_find("reference"), .threads = 1},
                NULL) == RT_OK)
            flop = rt_program_flop(p);
    }
    rt_program_free(p);
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

static rt_status load_entry(const rt_tensors *t, const rt_entry *e, rt_params *set, const char *file, rt_error *err)
{
    char old[512], have[96], want[96];
    int at = rt_tensors_find(t, e->name);
    legacy_name(e->name, old, sizeof old);
    bool legacy = at < 0 && *old;
    if (legacy) at = rt_tensors_find(t, old);
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

rt_status rt_net_load(const rt_net *net, rt_params *set, const char *folder, const char *variant, rt_error *err)
{
    char file[1200];
    RT_TRY(rt_net_declare(net, set, err));
    if (!rt_params_data(set, RT_VALUE))
        RT_RAISE(RT_E_MEMORY, "%s: out of memory for %lld parameters", folder, (long long)rt_params_count(set));
    weights_path(folder, variant, ".index.json", file, sizeof file);
    if (!rt__file_exists(file)) weights_path(folder, variant, "", file, sizeof file);
    rt_tensors *t;
    RT_TRY(rt_tensors_open(&t, file, err));
    rt_status s = RT_OK;
    int n = rt_params_entries(set);
    for (int i = 0; i < n && s == RT_OK; i++) s = load_entry(t, rt_params_entry(set, i), set, file, err);
    if (s == RT_OK && rt_tensors_count(t) != n) { /* name one that is too much */
        for (int i = 0; i < rt_tensors_count(t) && s == RT_OK; i++) {
            const char *name = rt_tensors_info(t, i)->name;
            char old[512];
            bool known = rt_params_find(set, name) >= 0;
            for (int k = 0; k < n && !known; k++) {
                legacy_name(rt_params_entry(set, k)->name, old, sizeof old);
                known = !strcmp(old, name);
            }
            if (!known)
                s = rt_error_set(err, RT_E_INVALID,
                                 "%s: tensor '%s' has no place in the network; the weights belong to another config.json", file, name);
        }
    }
    rt_tensors_close(t);
    rt_params_touch(set);
    return s;
}

rt_status rt_net_save(const rt_net *net, const rt_params *set, rt_role role, const char *folder, const char *variant,
                      const char *const *metadata, rt_error *err)
{
    char file[1200];
    int n = rt_params_entries(set);
    rt_named_tensor *list = calloc((size_t)n, sizeof *list);
    if (!list) RT_RAISE(RT_E_MEMORY, "%s: out of memory", folder);
    const char *values = rt_params_has(set, role) ? rt_params_data((rt_params *)(uintptr_t)set, role) : NULL;
    for (int i = 0; i < n && values; i++) {
        const rt_entry *e = rt_params_entry(set, i);
        list[i] = (rt_named_tensor){e->name, rt_params_dtype(set), e->rank, e->shape,
                                    values + (size_t)e->offset * rt_dtype_size(rt_params_dtype(set))};
    }
    snprintf(file, sizeof file, "%s/config.json", folder);
    rt_status s = values ? rt__file_write(file, net->config, strlen(net->config), err)
                         : rt_error_set(err, RT_E_INTERNAL, "%s: nothing to save", folder);
    weights_path(folder, variant, "", file, sizeof file);
    if (s == RT_OK) s = rt_tensors_write(file, list, n, metadata, err);
    free(list);
    return s;
}
