/* cmd_inspect.c -- retort inspect PATH: what it is, and whether all of it is sound. */
#include "models.h"
#include "next.h"
#include "scenes.h"

#include "retort/data.h"
#include "retort/nn.h"

#include <dirent.h>
#include <stdarg.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool exists(const char *folder, const char *name)
{
    char path[4300];
    struct stat s;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &s) == 0;
}

static bool is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), m = strlen(with);
    return n >= m && strcmp(text + n - m, with) == 0;
}

static void line(cli_call *c, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void line(cli_call *c, const char *key, const char *format, ...)
{
    if (c->json) return;
    va_list ap;
    fprintf(c->text, "%-12s ", key);
    va_start(ap, format);
    vfprintf(c->text, format, ap);
    va_end(ap);
    fputc('\n', c->text);
}

/* ---- models */

static void describe_recipe(cli_call *c, const rt_model_info *i)
{
    const rt_student_recipe *r = &i->recipe;
    if (!r->version) return;
    if (!r->steps) {
        line(c, "recipe", "%s", *r->method ? r->method : "of a model that was trained from data");
        return;
    }
    char times[200] = "";
    for (int k = 0; k < r->steps && strlen(times) < 160; k++)
        snprintf(times + strlen(times), sizeof times - strlen(times), "%s%g", k ? ", " : "", r->timesteps[k]);
    line(c, "recipe", "%s: %d step%s of %s at timesteps %s%s", r->method, r->steps, r->steps > 1 ? "s" : "", r->solver, times,
         strlen(times) >= 160 ? ", ..." : "");
    if (r->draws) line(c, "draws", "%d, which the network sees, in each step", r->draws);
    if (r->has_guidance) line(c, "guidance", "%g", r->guidance);
    if (r->has_range)
        line(c, "guidance", "%g to %g in one call, %g without --guidance", r->guidance_low, r->guidance_high, r->guidance_default);
}

static rt_status inspect_model(cli_call *c, const char *path, rt_error *err)
{
    rt_model *model;
    TRY(cli_open_model(c, path, &model, err));
    const rt_model_info *i = rt_model_get_info(model);
    char shape[128];
    line(c, "chosen", "%s", i->chosen);
    line(c, "network", "%s, %lld parameters", i->network, (long long)i->parameters);
    int64_t sample[RT_MAX_RANK];
    memcpy(sample, i->shape, sizeof sample);
    sample[0] -= i->condition;
    line(c, "samples", "%s in [%g, %g]", rt_shape_text(shape, sizeof shape, i->rank, sample), i->low, i->high);
    if (i->condition)
        line(c, "condition", "a picture of %d channels beside them: only `retort predict` evaluates such a network", i->condition);
    if (i->feature_dims)
        line(c, "features", "%d numbers, %lld classes", i->feature_dims, (long long)i->classes);
    else if (i->words)
        line(c, "words", "prompts of at most %d words from %d; it lists %lld", rt_words_length(i->words), rt_words_count(i->words),
             (long long)rt_words_prompts(i->words));
    else if (i->classes && i->null_class >= 0)
        line(c, "classes", "%lld, of which %lld means no class", (long long)i->classes, (long long)i->null_class);
    else if (i->classes)
        line(c, "classes", "%lld", (long long)i->classes);
    if (i->camera) line(c, "camera", "told, by the 12 numbers of its matrix to the world, which only a scene gives it");
    const char *as = *i->scheduler ? ", as " : "";
    if (*i->process && i->timesteps)
        line(c, "process", "%s, %lld timesteps%s%s", i->process, (long long)i->timesteps, as, i->scheduler);
    else if (*i->process)
        line(c, "process", "%s%s%s", i->process, as, i->scheduler);
    else if (!i->feature_dims)
        line(c, "process", "none: give --scheduler FILE where one is needed");
    if (*i->prediction) line(c, "predicts", "%s", i->prediction);
    describe_recipe(c, i);
    if (*i->sha256) line(c, "sha256", "%s", i->sha256);
    cli_put(c, "kind", json_string("model"));
    cli_put(c, "chosen", json_string(i->chosen));
    cli_put(c, "model", cli_model_json(path, i));
    rt_model_free(model);
    return RT_OK;
}

/* ---- runs: their model, and what is kept of the way there */

static void count_checkpoints(cli_call *c, const char *path)
{
    char folder[4300];
    int n = 0;
    long long newest = -1;
    snprintf(folder, sizeof folder, "%s/checkpoints", path);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        long long update;
        char rest;
        if (sscanf(e->d_name, "update-%lld%c", &update, &rest) != 1) continue;
        n++;
        if (update > newest) newest = update;
    }
    if (d) closedir(d);
    if (n) line(c, "checkpoints", "%d, the newest at update %lld", n, newest);
    cli_put(c, "checkpoints", json_integer(n));
    cli_put(c, "newest_update", n ? json_integer(newest) : json_null());
}

static rt_status inspect_tensors(cli_call *c, const char *path, rt_error *err);

static rt_status inspect_run(cli_call *c, const char *path, rt_error *err)
{
    line(c, "run", "%s", path);
    count_checkpoints(c, path);
    if (exists(path, "scene/scene.safetensors")) { /* of a scene that is no scene by itself: m + L z */
        char file[4300];
        snprintf(file, sizeof file, "%s/scene/scene.safetensors", path);
        line(c, "result", "%s", file);
        TRY(inspect_tensors(c, file, err));
        cli_put(c, "kind", json_string("run"));
        return RT_OK;
    }
    if (!exists(path, "student") && !exists(path, "model")) {
        line(c, "result", "none yet");
        cli_put(c, "kind", json_string("run"));
        cli_put(c, "chosen", json_string(path));
        return RT_OK;
    }
    TRY(inspect_model(c, path, err));
    cli_put(c, "kind", json_string("run"));
    return RT_OK;
}

/* ---- scenes */

/* Of a particle: mean opacity of views round the scene, the largest opacity of a node, the share of nodes that show. */
typedef struct seen {
    double opacity, largest, shown;
} seen;

static rt_status look(rt_scene *scene, const char *path, int particle, const rt_scene_spec *small, const rt_cameras *round, int threads,
                      seen *s, rt_error *err)
{
    int64_t pixels = (int64_t)round->n * small->height * small->width;
    float *alpha = malloc((size_t)pixels * sizeof *alpha), *values = NULL;
    rt_volume v;
    *s = (seen){0};
    if (!alpha) return rt_error_set(err, RT_E_MEMORY, "%s: out of memory for %d views", path, round->n);
    rt_status status = rt_scene_pictures(small, scene->set, particle, round->at, round->n, threads, NULL, alpha, NULL, NULL, err);
    for (int64_t i = 0; i < pixels && status == RT_OK; i++) s->opacity += (double)alpha[i] / (double)pixels;
    if (status == RT_OK) status = cli_scene_volume(scene, path, particle, &v, &values, err);
    if (status == RT_OK) {
        int64_t nodes = (int64_t)v.nodes[0] * v.nodes[1] * v.nodes[2];
        for (int64_t i = 0; i < nodes; i++) s->shown += (double)v.density[i] + v.density_bias >= -log(254); /* an opacity of 1/255 */
        s->shown /= (double)nodes;
        s->largest = rt_volume_opacity(&v);
    }
    free(values);
    free(alpha);
    return status;
}

/* How a volume looks from round about, seen by at most 64 pixels a side. */
static rt_status describe_volume(cli_call *c, const char *path, rt_scene *scene, json_t *o, rt_error *err)
{
    enum { ROUND = 24, SIDE = 64 };
    rt_scene_spec s = scene->spec;
    rt_cameras round = {0};
    if (s.height > SIDE) s.height = SIDE;
    if (s.width > SIDE) s.width = SIDE;
    rt_status status = cli_turntable(&round, &s, ROUND, (s.orbit.elevation[0] + s.orbit.elevation[1]) / 2, err);
    json_t *opacity = json_array(), *largest = json_array(), *shown = json_array();
    for (int p = 0; p < s.particles && status == RT_OK; p++) {
        seen of;
        char which[32] = "";
        status = look(scene, path, p, &s, &round, cli_threads(c), &of, err);
        if (status != RT_OK) break;
        if (s.particles > 1) snprintf(which, sizeof which, "particle %d: ", p);
        line(c, p ? "" : "opacity", "%s%.3g in %d views round it, %.3g of the most opaque node; %.3g%% of the nodes show", which,
             of.opacity, ROUND, of.largest, 100 * of.shown);
        json_array_append_new(opacity, json_real(of.opacity));
        json_array_append_new(largest, json_real(of.largest));
        json_array_append_new(shown, json_real(of.shown));
    }
    json_object_set_new(o, "opacity", opacity);
    json_object_set_new(o, "largest_opacity", largest);
    json_object_set_new(o, "nodes_that_show", shown);
    rt_cameras_free(&round);
    return status;
}

/* What the run that made it was told. */
static void describe_scene_recipe(cli_call *c, const rt_scene *scene, json_t *o)
{
    static const char *const names[] = {"method", "teacher", "prompt", "class", "cameras", "weight"};
    json_t *recipe = json_loads(scene->recipe, 0, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *v = json_object_get(recipe, names[i]);
        if (json_is_string(v) && *json_string_value(v)) line(c, names[i], "%s", json_string_value(v));
        if (json_is_integer(v)) line(c, names[i], "%lld", (long long)json_integer_value(v));
    }
    json_object_set_new(o, "recipe", recipe ? recipe : json_object());
}

static void say_next(cli_call *c, const char *path, bool volume, json_t *o)
{
    static const char *const commands[] = {"render", "convert"};
    const char *from = cli_quoted(c, path);
    json_t *next = json_array();
    for (int i = 0; i < 1 + volume; i++) {
        char *to = NULL, *command = NULL;
        if (asprintf(&to, "%s%s", path, i ? ".glb" : ".png") < 0) break;
        cli_own(c, to);
        if (asprintf(&command, "retort %s %s%s%s", commands[i], from,
                     i        ? " "
                     : volume ? " --views 24 --out "
                              : " --out ",
                     cli_quoted(c, to)) < 0)
            break;
        line(c, i ? "then" : "next", "%s", command);
        json_array_append_new(next, json_string(cli_own(c, command)));
    }
    json_object_set_new(o, "next", next);
}

static int64_t bytes_of(const char *folder)
{
    static const char *const names[] = {"scene.json", "scene.safetensors"};
    int64_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        char path[4400];
        struct stat s;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (stat(path, &s) == 0) bytes += s.st_size;
    }
    return bytes;
}

static rt_status inspect_scene(cli_call *c, const char *given, rt_error *err)
{
    char folder[4300], path[4096];
    snprintf(path, sizeof path, "%s", given);
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) path[n - 1] = '\0'; /* names of what comes next are made of it */
    rt_scene *scene;
    bool run = exists(path, "config.yaml");
    TRY(rt_scene_open(&scene, path, err));
    const rt_scene_spec *s = &scene->spec;
    bool volume = s->kind == RT_SCENE_GRID;
    json_t *o = cli_scene_json(path, scene);
    snprintf(folder, sizeof folder, "%s%s", path, exists(path, "scene.json") ? "" : "/scene");
    if (run) line(c, "run", "%s", path);
    if (run) count_checkpoints(c, path);
    line(c, "chosen", "%s", folder);
    if (volume)
        line(c, "scene", "grid of %dx%dx%d nodes, %d samples a ray", s->nodes[0], s->nodes[1], s->nodes[2], s->samples);
    else
        line(c, "scene", "%s", json_string_value(json_object_get(o, "kind")));
    line(c, "particles", "%d", s->particles);
    line(c, "pictures", "%dx%dx%d in [%g, %g]", rt_scene_channels(s), s->height, s->width, s->low, s->high);
    if (volume) line(c, "background", "%s", rt_background_name(s->background));
    rt_status status = volume ? describe_volume(c, path, scene, o, err) : RT_OK;
    if (status == RT_OK) {
        int64_t bytes = bytes_of(folder);
        line(c, "bytes", "%lld", (long long)bytes);
        json_object_set_new(o, "channels", json_integer(rt_scene_channels(s)));
        json_object_set_new(o, "size", json_pack("[i,i]", s->height, s->width));
        json_object_set_new(o, "range", json_pack("[f,f]", s->low, s->high));
        json_object_set_new(o, "bytes", json_integer(bytes));
        describe_scene_recipe(c, scene, o);
        say_next(c, path, volume, o);
    }
    cli_put(c, "kind", json_string(run ? "run" : "scene"));
    cli_put(c, "chosen", json_string(folder));
    cli_put(c, "scene", o);
    rt_scene_free(scene);
    return status;
}

/* ---- tensor files: every number is looked at */

typedef struct extent {
    double low, high;
    int64_t not_finite;
} extent;

static rt_status measure(const rt_tensors *file, int index, extent *e, rt_error *err)
{
    rt_tensor raw = {0}, v = {0};
    TRY(rt_tensors_read(file, index, &raw, err));
    rt_status status = rt_tensor_cast(&v, &raw, RT_F64, err);
    rt_tensor_free(&raw);
    TRY(status);
    *e = (extent){INFINITY, -INFINITY, 0};
    const double *x = v.data;
    for (int64_t i = 0, n = rt_tensor_count(&v); i < n; i++) {
        if (!isfinite(x[i]))
            e->not_finite++;
        else {
            e->low = fmin(e->low, x[i]);
            e->high = fmax(e->high, x[i]);
        }
    }
    rt_tensor_free(&v);
    return RT_OK;
}

static rt_status inspect_tensors(cli_call *c, const char *path, rt_error *err)
{
    rt_tensors *file;
    TRY(rt_tensors_open(&file, path, err));
    json_t *list = json_array();
    rt_status status = RT_OK;
    int64_t numbers = 0;
    for (int i = 0; i < rt_tensors_count(file) && status == RT_OK; i++) {
        const rt_tensor_info *t = rt_tensors_info(file, i);
        char shape[128];
        extent e;
        status = measure(file, i, &e, err);
        if (status != RT_OK) break;
        rt_shape_text(shape, sizeof shape, t->rank, t->shape);
        if (!c->json) {
            fprintf(c->text, "%-40s %-5s %-16s ", t->name, rt_dtype_name(t->dtype), t->rank ? shape : "one number");
            if (e.low <= e.high) fprintf(c->text, "%.6g .. %.6g", e.low, e.high);
            if (e.not_finite) fprintf(c->text, "  %lld are NaN or infinite", (long long)e.not_finite);
            fputc('\n', c->text);
        }
        json_t *dims = json_array();
        for (int k = 0; k < t->rank; k++) json_array_append_new(dims, json_integer(t->shape[k]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:o, s:I}", "name", t->name, "dtype", rt_dtype_name(t->dtype), "shape",
                                              dims, "least", cli_json_real(e.low), "greatest", cli_json_real(e.high), "not_finite",
                                              (json_int_t)e.not_finite));
        numbers += t->count;
    }
    if (status == RT_OK) line(c, "together", "%d tensors, %lld numbers", rt_tensors_count(file), (long long)numbers);
    cli_put(c, "kind", json_string("tensors"));
    cli_put(c, "chosen", json_string(path));
    cli_put(c, "tensors", list);
    rt_tensors_close(file);
    return status;
}

/* ---- data sets */

static rt_status inspect_data(cli_call *c, const char *path, rt_error *err)
{
    rt_dataset *data;
    rt_fit fit = cli_fit(c);
    TRY(cli_ok(c, err));
    TRY(rt_dataset_open_fit(&data, path, fit, err));
    const rt_dataset_info *i = rt_dataset_describe(data);
    char shape[128], hash[65];
    int64_t *counts = calloc((size_t)i->classes + 1, sizeof *counts), y = 0;
    float *x = malloc((size_t)i->features * sizeof *x);
    json_t *classes = json_array();
    for (int64_t j = 0; i->classes && counts && x && j < i->count; j++) {
        rt_dataset_read(data, j, x, &y);
        counts[y]++;
    }
    rt_dataset_sha256(data, hash);
    cli_remark(c, i->remark);
    line(c, "chosen", "%s", i->chosen);
    line(c, "data", "%s: %lld items of %s%s", i->kind, (long long)i->count, rt_shape_text(shape, sizeof shape, i->rank, i->shape),
         i->pictures ? ", pictures" : "");
    int empty = 0;
    for (int k = 0; k < i->classes && counts; k++) empty += counts[k] == 0;
    if (i->classes && empty)
        line(c, "classes", "%d, of which %d ha%s no items", i->classes, empty, empty > 1 ? "ve" : "s");
    else if (i->classes)
        line(c, "classes", "%d", i->classes);
    for (int k = 0; k < i->classes && counts; k++) {
        const char *name = rt_dataset_class(data, k);
        line(c, "", "%3d  %lld%s%s", k, (long long)counts[k], name ? "  " : "", name ? name : "");
        json_array_append_new(classes, json_integer(counts[k]));
    }
    if (i->cameras) line(c, "cameras", "%d", i->cameras);
    if (i->captions) line(c, "captions", "such as '%.200s'", rt_dataset_caption(data, 0));
    line(c, "sha256", "%s", hash);
    cli_put(c, "kind", json_string("data"));
    cli_put(c, "chosen", json_string(i->chosen));
    cli_put(c, "data",
            json_pack("{s:s, s:I, s:I, s:b, s:o, s:i, s:b, s:s}", "format", i->kind, "count", (json_int_t)i->count, "features",
                      (json_int_t)i->features, "pictures", i->pictures, "class_counts", classes, "cameras", i->cameras, "captions",
                      i->captions, "sha256", hash));
    free(counts);
    free(x);
    rt_dataset_free(data);
    return RT_OK;
}

/* ---- configurations alone */

static rt_status inspect_network(cli_call *c, const char *path, rt_error *err)
{
    rt_net *net;
    TRY(rt_net_open(&net, path, err));
    const rt_net_info *i = rt_net_describe(net);
    rt_params *set = rt_params_new("inspect", RT_F32);
    rt_status status = set ? rt_net_declare(net, set, err) : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    if (status == RT_OK) {
        line(c, "network", "%s, %lld parameters, %.4g GFLOP per forward", i->kind, (long long)rt_params_count(set),
             1e-9 * rt_net_flop(net));
        cli_put(c, "kind", json_string("network"));
        cli_put(c, "chosen", json_string(path));
        cli_put(c, "network",
                json_pack("{s:s, s:I, s:f}", "kind", i->kind, "parameters", (json_int_t)rt_params_count(set), "forward_flop",
                          rt_net_flop(net)));
    }
    rt_params_free(set);
    rt_net_free(net);
    return status;
}

static rt_status inspect_scheduler(cli_call *c, const char *path, rt_error *err)
{
    rt_scheduler *s;
    TRY(rt_scheduler_open(&s, path, true, err));
    const rt_process *p = rt_scheduler_process(s);
    const rt_solver *solver = rt_scheduler_solver(s);
    line(c, "scheduler", "%s", rt_scheduler_get_config(s)->class_name);
    line(c, "process", "%s, ends at time %g", rt_process_name(p), rt_process_end(p));
    line(c, "predicts", "%s", rt_prediction_name(rt_scheduler_prediction(s)));
    line(c, "solver", "%s", solver ? rt_solver_get_info(solver)->name : "not known here");
    cli_put(c, "kind", json_string("scheduler"));
    cli_put(c, "chosen", json_string(path));
    rt_scheduler_free(s);
    return RT_OK;
}

typedef rt_status inspector(cli_call *c, const char *path, rt_error *err);

static inspector *choose(const char *path)
{
    if (begins(path, "oracle:")) return inspect_model;
    if (is_folder(path)) {
        bool pipeline = exists(path, "model_index.json");
        if (!pipeline && cli_is_scene(path)) return inspect_scene;
        if (!pipeline && exists(path, "config.yaml")) return inspect_run;
        return pipeline || exists(path, "config.json") ? inspect_model : inspect_data;
    }
    if (ends(path, ".safetensors") || ends(path, ".safetensors.index.json")) return inspect_tensors;
    if (ends(path, "scheduler_config.json")) return inspect_scheduler;
    if (ends(path, ".json")) return inspect_network;
    static const char *const models[] = {".pt", ".pth", ".ckpt", ".pkl", ".onnx"}; /* refused, with the reason */
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (ends(path, models[i])) return inspect_model;
    return inspect_data;
}

static rt_status run(cli_call *c, rt_error *err)
{
    const char *path = c->arguments[0], **unused;
    inspector *inspect = choose(path);
    if (inspect != inspect_data && cli_texts(c, "alpha", &unused) + cli_texts(c, "resize", &unused) + cli_texts(c, "crop", &unused) > 0)
        return rt_error_set(err, RT_E_USAGE, "%s: is no set of pictures; --alpha, --resize and --crop change those alone", path);
    cli_put(c, "path", json_string(path));
    return inspect(c, path, err);
}

static const cli_option options[] = {CLI_FIT_OPTIONS, {0}};

const cli_command cli_inspect_command = {
    .name = "inspect",
    .arguments = "PATH",
    .summary = "describe a model, a scene, a tensor file, a data set or a run, completely checked",
    .text = "Reads all of PATH and says what it is and which part of a folder was chosen. Whatever `inspect` accepts, the other commands\n"
            "accept, too: weights and their shapes, every tensor, every picture are checked.",
    .examples = "retort inspect examples/points.safetensors\nretort inspect toy:moons\nretort inspect examples/scene",
    .options = options,
    .shared = cli_model_options,
    .shared_title = "Options for models",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
