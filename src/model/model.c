/* model.c -- finds the parts of a model behind a path and puts them together. */
#include "model/model_parts.h"

#include "base/files.h"
#include "base/json.h"
#include "nn/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the parts are: the network's folder, and the scheduler's file (empty: none). Of what decodes the samples, its class and name (empty: none). */
typedef struct parts {
    char network[RT_MODEL_TEXT], scheduler[RT_MODEL_TEXT], decoder[128];
} parts;

/* folder/name as a path of at most `size` bytes; false if it is longer. */
static bool join(char *out, size_t size, const char *folder, const char *name)
{
    int n = snprintf(out, size, "%s/%s", folder, name);
    return n >= 0 && (size_t)n < size;
}

static bool has(const char *folder, const char *name, char *out) { return join(out, RT_MODEL_TEXT, folder, name) && rt__file_exists(out); }

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* ---- finding the parts */

/* OWNER/NAME, where there is no folder OWNER? */
static bool is_hub_name(const char *path)
{
    const char *slash = strchr(path, '/');
    char owner[128];
    if (!slash || slash == path || strchr(slash + 1, '/') || !slash[1] || *path == '.' || *path == '~') return false;
    return snprintf(owner, sizeof owner, "%.*s", (int)(slash - path), path) < (int)sizeof owner && !rt__is_folder(owner);
}

static rt_status refuse_file(const char *path, rt_error *err)
{
    static const char *const pickles[] = {".pt", ".pth", ".ckpt", ".bin", ".pkl"};
    for (size_t i = 0; i < RT_COUNT(pickles); i++)
        if (ends_with(path, pickles[i]))
            RT_RAISE(RT_E_INVALID,
                     "%s: a pickle runs code when it is read, so it is refused; convert it where PyTorch is: python -c \"import torch, "
                     "safetensors.torch as s; s.save_file(torch.load('%s', map_location='cpu'), 'diffusion_pytorch_model.safetensors')\"",
                     path, path);
    if (ends_with(path, ".onnx")) RT_RAISE(RT_E_INVALID, "%s: ONNX networks cannot be read by this version; give a diffusers folder", path);
    if (!rt__file_exists(path) && is_hub_name(path))
        RT_RAISE(RT_E_IO,
                 "%s: there is no such file or folder; a model of the Hugging Face Hub is downloaded first: hf download %s --local-dir %s",
                 path, path, strchr(path, '/') + 1);
    if (!rt__file_exists(path)) RT_RAISE(RT_E_IO, "%s: there is no such file or folder", path);
    RT_RAISE(RT_E_INVALID, "%s: is no model; a model is a folder with model_index.json, config.yaml or config.json, or oracle:FILE.json",
             path);
}

/* Where part `name` of a pipeline has its `file`: in its folder, or beside model_index.json, where all parts lie flat in one. */
static bool find_part(const char *path, const char *name, const char *file, char *out)
{
    char inner[RT_MODEL_TEXT];
    return (join(inner, sizeof inner, path, name) && has(inner, file, out)) || has(path, file, out);
}

/* Which parts there are is model_index.json's word: {"NAME": ["LIBRARY", "CLASS"], ...}. */
static rt_status find_pipeline(const char *path, const char *index_file, parts *p, rt_error *err)
{
    char *text, known[512] = "", file[RT_MODEL_TEXT];
    const char *network = NULL, *scheduler = "scheduler", *name, *ending = "/config.json";
    size_t size;
    json_t *index = NULL, *part;
    RT_TRY(rt__file_read(index_file, 1 << 20, &text, &size, err));
    rt_status status = rt__json_parse(&index, index_file, text, size, 1 << 16, err);
    free(text);
    RT_TRY(status);
    json_object_foreach(index, name, part)
    {
        const char *class = json_string_value(json_array_get(part, 1));
        if (!class) continue;
        rt_row_text kind;
        for (int i = 0; rt_net_kind_describe(i, &kind); i++)
            if (!strcmp(kind.name, class)) network = name;
        if (ends_with(class, "Scheduler")) scheduler = name;
        if (!strncmp(class, "VQ", 2) || !strncmp(class, "Autoencoder", strlen("Autoencoder")))
            snprintf(p->decoder, sizeof p->decoder, "%.60s (%.60s)", class, name);
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "", class);
    }
    /* a network of a class that is not known is refused by its config.json */
    bool found = network ? find_part(path, network, "config.json", file)
                         : find_part(path, "unet", "config.json", file) || find_part(path, "transformer", "config.json", file);
    if (found) snprintf(p->network, sizeof p->network, "%.*s", (int)(strlen(file) - strlen(ending)), file);
    if (!find_part(path, scheduler, "scheduler_config.json", p->scheduler)) *p->scheduler = 0;
    if (!found)
        status = rt_error_set(err, RT_E_INVALID, "%s: announces %s, but neither %s/config.json nor config.json is there", index_file,
                              *known ? known : "no parts", network ? network : "unet");
    json_decref(index);
    return status;
}

static rt_status find_parts(const char *path, parts *p, rt_error *err)
{
    char inner[RT_MODEL_TEXT];
    if (strlen(path) > RT_MODEL_TEXT - 64) RT_RAISE(RT_E_USAGE, "the model's path is longer than %d bytes", RT_MODEL_TEXT - 64);
    if (!rt__is_folder(path)) return refuse_file(path, err);
    if (has(path, "model_index.json", inner)) return find_pipeline(path, inner, p, err);
    if (has(path, "config.yaml", inner)) {
        if (!join(inner, sizeof inner, path, "student") || !rt__is_folder(inner)) (void)join(inner, sizeof inner, path, "model");
        if (!rt__is_folder(inner)) RT_RAISE(RT_E_INVALID, "%s: the run has neither student/ nor model/ yet", path);
        return find_parts(inner, p, err);
    }
    if (has(path, "config.json", inner)) {
        snprintf(p->network, sizeof p->network, "%s", path);
        if (!find_part(path, "scheduler", "scheduler_config.json", p->scheduler)) *p->scheduler = 0;
        return RT_OK;
    }
    RT_RAISE(RT_E_INVALID, "%s: holds neither model_index.json nor config.yaml nor config.json, so it is no model", path);
}

/* ---- putting them together */

/* A scheduler's configuration: the process, the prediction and, where it is the model's own, the recipe. diffusers' tables are used, so that
 * pictures agree with diffusers' to the last rounding. */
static rt_status open_scheduler(rt_model *m, const char *path, bool own, rt_error *err)
{
    rt_model_info *i = &m->info;
    RT_TRY(rt_scheduler_open(&m->scheduler, path, true, err));
    const rt_scheduler_config *c = rt_scheduler_get_config(m->scheduler);
    m->process = rt_scheduler_process(m->scheduler);
    m->prediction = rt_scheduler_prediction(m->scheduler);
    snprintf(i->scheduler, sizeof i->scheduler, "%s", c->class_name);
    if (!own || !c->recipe.version) return RT_OK;
    i->recipe = c->recipe;
    i->low = c->recipe.low;
    i->high = c->recipe.high;
    i->null_class = c->recipe.null_class;
    if (i->null_class >= i->classes)
        RT_RAISE(RT_E_INVALID, "%s: the recipe's null class is %lld, but the network has %lld classes", path, (long long)i->null_class,
                 (long long)i->classes);
    bool told = m->net && rt_net_describe(m->net)->guidance;
    m->omega = c->recipe.guidance_default;
    if (i->recipe.has_range != told)
        RT_RAISE(RT_E_INVALID, "%s: the recipe %s 'guidance_range', but the network is %stold the weight of guidance ('_guidance')", path,
                 told ? "has no" : "has a", told ? "" : "not ");
    int sees = m->net ? rt_net_describe(m->net)->draws : 0;
    if (i->recipe.draws != sees)
        RT_RAISE(RT_E_INVALID, "%s: by the recipe a step takes %d draws, by the network's config.json ('_draws') %d", path, i->recipe.draws,
                 sees);
    return i->recipe.steps ? rt_scheduler_recipe_times(m->scheduler, i->recipe_times, err) : RT_OK;
}

static void describe_process(rt_model *m)
{
    rt_model_info *i = &m->info;
    if (m->process) {
        snprintf(i->process, sizeof i->process, "%s", rt_process_name(m->process));
        i->timesteps = rt_process_discrete_steps(m->process);
    }
    if (m->prediction) snprintf(i->prediction, sizeof i->prediction, "%s", rt_prediction_name(m->prediction));
}

static rt_status open_oracle(rt_model *m, const rt_model_spec *spec, const char *path, rt_error *err)
{
    const rt_oracle_options options = {
        .read = rt_oracle_read_data, .scheduler = spec->scheduler, .float32 = true, .threads = spec->threads};
    RT_TRY(rt_oracle_open_with(&m->oracle, path, &options, err));
    m->process = rt_oracle_process(m->oracle);
    m->prediction = rt_oracle_prediction(m->oracle);
    m->scheduler = (rt_scheduler *)(uintptr_t)rt_oracle_scheduler(m->oracle);
    rt_model_info *i = &m->info;
    snprintf(i->chosen, sizeof i->chosen, "%s", path);
    snprintf(i->network, sizeof i->network, "oracle");
    if (m->scheduler) snprintf(i->scheduler, sizeof i->scheduler, "%s", rt_scheduler_get_config(m->scheduler)->class_name);
    i->rank = rt_oracle_shape(m->oracle, i->shape, &i->low, &i->high);
    i->features = i->outputs = rt_oracle_features(m->oracle);
    if (rt_oracle_classes(m->oracle) == 0) return RT_OK;
    i->null_class = rt_oracle_classes(m->oracle);
    i->classes = i->null_class + 1;
    return RT_OK;
}

/* The hash of the weights: of the one file, or of the shards' index, which names sizes and places. */
rt_status rt__model_hash(rt_model *m, rt_error *err)
{
    char path[RT_MODEL_TEXT + 64];
    if (!m->net || *m->info.sha256) return RT_OK;
    RT_TRY(rt__net_weights(m->info.chosen, m->variant, path, sizeof path, err));
    return rt__sha256_file(path, m->info.sha256, err);
}

/* What no command can do with a network is said by all of them. */
static rt_status check_network(const rt_net_info *n, const char *folder, rt_error *err)
{
    if (n->classifier) return RT_OK;
    if (n->label == RT_LABEL_NUMBER && n->classes == 0)
        RT_RAISE(RT_E_INVALID,
                 "%s: field 'num_class_embeds' is missing; with class_embed_type timestep, say here how many classes there are", folder);
    if (n->label == RT_LABEL_VECTOR)
        RT_RAISE(RT_E_INVALID,
                 "%s: class_embed_type is 'identity': the network takes vectors of %d numbers for classes, which no command gives it",
                 folder, n->label_width);
    if (n->out_channels == 2 * n->in_channels)
        RT_RAISE(
            RT_E_INVALID,
            "%s: out_channels is %d, twice in_channels (%d): the network predicts a variance as well (variance_type learned), which is not "
            "understood; draw with diffusers",
            folder, n->out_channels, n->in_channels);
    if (n->out_channels > n->in_channels)
        RT_RAISE(RT_E_INVALID, "%s: out_channels is %d and in_channels %d; a denoiser gives at most as many as it takes", folder,
                 n->out_channels, n->in_channels);
    return RT_OK;
}

rt_status rt__model_check_alone(const rt_model *m, rt_error *err)
{
    if (m->info.camera)
        RT_RAISE(RT_E_USAGE,
                 "%s: the network is told a camera's matrix ('_camera'), which only a scene gives it: give it as --teacher to `retort "
                 "distill sds` or `vsd` with --scene grid",
                 m->info.chosen);
    return RT_OK;
}

rt_status rt__model_check_whole(const rt_model *m, rt_error *err)
{
    if (m->net && rt_net_describe(m->net)->classifier)
        RT_RAISE(RT_E_USAGE,
                 "%s: is a classifier, from which nothing is sampled; give a diffusion model (this one is for `eval --features`)",
                 m->info.chosen);
    if (!m->info.condition) return RT_OK;
    const rt_net_info *n = rt_net_describe(m->net);
    RT_RAISE(
        RT_E_INVALID,
        "%s: in_channels is %d and out_channels %d: the network takes a picture of %d channels beside the noise (for inpainting, upscaling "
        "and the like), which is not given here; `retort predict` evaluates it",
        m->info.chosen, n->in_channels, n->out_channels, n->in_channels - n->out_channels);
}

static rt_status open_network(rt_model *m, const parts *p, const rt_model_spec *spec, rt_error *err)
{
    m->variant = spec->weights && strcmp(spec->weights, "raw") == 0 ? "raw" : NULL;
    RT_TRY(rt_net_open(&m->net, p->network, err));
    m->params = rt_params_new("model", RT_F32);
    if (!m->params) RT_RAISE(RT_E_MEMORY, "%s: out of memory for its parameters", p->network);
    RT_TRY(rt_net_declare(m->net, m->params, err));
    RT_TRY(check_network(rt_net_describe(m->net), p->network, err));
    rt_model_info *i = &m->info;
    RT_TRY(rt_net_load(m->net, m->params, p->network, m->variant, i->remark, err));
    const rt_net_info *n = rt_net_describe(m->net);
    size_t said = strlen(i->remark);
    if (*p->decoder)
        snprintf(i->remark + said, sizeof i->remark - said,
                 "%smodel_index.json names %s: samples are latents, which it decodes, and no pictures", said ? "; " : "", p->decoder);
    snprintf(i->chosen, sizeof i->chosen, "%s", p->network);
    snprintf(i->network, sizeof i->network, "%s", n->kind);
    i->rank = n->height ? 3 : 1;
    i->shape[0] = n->in_channels;
    i->shape[1] = n->height;
    i->shape[2] = n->width;
    i->features = n->height ? (int64_t)n->in_channels * n->height * n->width : n->in_channels;
    i->condition = n->classifier ? 0 : n->in_channels - n->out_channels;
    i->classes = n->classes;
    i->words = n->words;
    i->camera = n->camera;
    if (n->words) i->null_class = 0;
    i->feature_dims = n->classifier ? n->features : 0;
    i->outputs = n->classifier ? n->classes : n->height ? (int64_t)n->out_channels * n->height * n->width : n->out_channels;
    i->parameters = rt_params_count(m->params);
    return spec->unhashed ? RT_OK : rt__model_hash(m, err);
}

static rt_status assemble(rt_model *m, const rt_model_spec *spec, rt_error *err)
{
    static const char oracle[] = "oracle:";
    parts p = {0};
    m->backend = spec->backend ? rt_backend_find(spec->backend) : NULL;
    if (spec->backend && !m->backend) RT_RAISE(RT_E_USAGE, "there is no backend '%s' in this build", spec->backend);
    m->threads = spec->threads;
    m->compute = spec->compute;
    m->rehearsal = spec->rehearsal;
    m->choices = spec->choices;
    m->info.null_class = -1;
    m->info.low = -1;
    m->info.high = 1;
    if (strncmp(spec->path, oracle, sizeof oracle - 1) == 0) {
        RT_TRY(open_oracle(m, spec, spec->path + sizeof oracle - 1, err));
    } else {
        RT_TRY(find_parts(spec->path, &p, err));
        RT_TRY(open_network(m, &p, spec, err));
        if (spec->scheduler)
            RT_TRY(open_scheduler(m, spec->scheduler, false, err));
        else if (*p.scheduler)
            RT_TRY(open_scheduler(m, p.scheduler, true, err));
    }
    describe_process(m);
    if (spec->range) {
        m->info.low = spec->range[0];
        m->info.high = spec->range[1];
    }
    if (spec->has_null_class) {
        if (spec->null_class < 0 || spec->null_class >= m->info.classes)
            RT_RAISE(RT_E_USAGE, "--null-class %lld: the model has %lld classes", (long long)spec->null_class, (long long)m->info.classes);
        m->info.null_class = spec->null_class;
    }
    return RT_OK;
}

rt_status rt_model_open(rt_model **model, const rt_model_spec *spec, rt_error *err)
{
    rt_model *m = calloc(1, sizeof *m);
    if (!m) RT_RAISE(RT_E_MEMORY, "out of memory for a model");
    rt_status status = assemble(m, spec, err);
    if (status == RT_OK)
        *model = m;
    else
        rt_model_free(m);
    return status;
}

rt_status rt__model_share(rt_model **view, const rt_model *m, rt_error *err)
{
    rt_model *v = *view = malloc(sizeof *v);
    if (!v) RT_RAISE(RT_E_MEMORY, "out of memory for a model");
    *v = *m;
    v->evaluator = NULL;
    v->searched = NULL;
    v->shared = true;
    return RT_OK;
}

void rt_model_free(rt_model *m)
{
    if (!m) return;
    free(m->searched);
    if (m->evaluator) rt__evaluator_close(m->evaluator);
    free(m->evaluator);
    if (!m->shared) {
        rt_params_free(m->params);
        rt_net_free(m->net);
        if (!m->oracle) rt_scheduler_free(m->scheduler);
        rt_oracle_free(m->oracle);
    }
    free(m);
}

const rt_model_info *rt_model_get_info(const rt_model *m) { return &m->info; }
