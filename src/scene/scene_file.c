/* scene_file.c -- scene.json and scene.safetensors. The tensors hold density [P,D,H,W] and colour [P,3,D,H,W] apart; a set holds a node's four numbers side by
 * side. */
#include "base/files.h"
#include "base/internal.h"
#include "retort/format.h"
#include "retort/scene.h"
#include "scene/scene_fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = 1024, MOST_BYTES = 16 << 20 };

static rt_status join(char path[PATH], const char *folder, const char *name, rt_error *err)
{
    if (snprintf(path, PATH, "%s/%s", folder, name) < PATH) return RT_OK;
    RT_RAISE(RT_E_IO, "%.60s...: the path is longer than %d bytes", folder, PATH - 1);
}

/* ---- scene.json */

static json_t *pair(const double v[2]) { return json_pack("[f, f]", v[0], v[1]); }

static rt_status write_json(const char *path, const rt_scene_spec *s, const char *recipe, rt_error *err)
{
    rt_row_text kind;
    json_t *about = NULL;
    if (!rt_scene_kind_describe((int)s->kind, &kind)) RT_RAISE(RT_E_INTERNAL, "a scene of no kind");
    RT_TRY(rt__scene_parse(&about, "the recipe of a scene", recipe ? recipe : "{}", err));
    json_t *o = json_pack("{s:s, s:s, s:i, s:[i, i], s:o}", "_class_name", "RetortScene", "kind", kind.name, "particles", s->particles,
                          "size", s->height, s->width, "data_range", json_pack("[f, f]", s->low, s->high));
    int failed = !o;
    if (s->kind == RT_SCENE_IMAGE) {
        failed |= json_object_set_new(o, "channels", json_integer(s->channels));
    } else {
        json_t *rest = json_pack("{s:[i, i, i], s:i, s:f, s:[i, i], s:s, s:{s:o, s:o, s:o, s:o}}", "nodes", s->nodes[0], s->nodes[1],
                                 s->nodes[2], "samples", s->samples, "density_bias", s->density_bias, "box", -1, 1, "background",
                                 rt_background_name(s->background), "camera", "azimuth", pair(s->orbit.azimuth), "elevation",
                                 pair(s->orbit.elevation), "distance", pair(s->orbit.distance), "fovy", pair(s->orbit.fovy));
        failed |= json_object_update_new(o, rest);
    }
    failed |= json_object_set_new(o, "_retort", about);
    char *text = failed ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(o);
    rt_status status = text ? rt__file_write(path, text, strlen(text), err) : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    free(text);
    return status;
}

/* A field that is absent keeps what the spec has. */
static rt_status read_whole(const char *path, const json_t *o, const char *field, int *out, rt_error *err)
{
    const json_t *v = json_object_get(o, field);
    if (!v) return RT_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
        return rt__scene_wrong(path, v, "a whole number", err, "%s", field);
    *out = (int)json_integer_value(v);
    return RT_OK;
}

/* n whole numbers, or one that stands for all. */
static rt_status read_wholes(const char *path, const json_t *o, const char *field, size_t n, int *out, rt_error *err)
{
    const json_t *v = json_object_get(o, field);
    double values[3];
    for (size_t i = 0; json_is_integer(v) && i < n; i++) RT_TRY(read_whole(path, o, field, &out[i], err));
    if (!v || json_is_integer(v)) return RT_OK;
    bool fits = rt__scene_numbers(v, n, values);
    for (size_t i = 0; i < n && fits; i++) {
        fits = values[i] >= 0 && values[i] <= INT32_MAX && values[i] == floor(values[i]);
        if (fits) out[i] = (int)values[i];
    }
    return fits ? RT_OK
                : rt__scene_wrong(path, v, n == 3 ? "3 whole numbers: nodes along z, y, x" : "2 whole numbers: height, width", err, "%s",
                                  field);
}

static rt_status read_range(const char *path, const json_t *o, const char *field, double out[2], rt_error *err)
{
    const json_t *v = json_object_get(o, field);
    if (!v || rt__scene_numbers(v, 2, out)) return RT_OK;
    return rt__scene_wrong(path, v, "2 numbers, the least and the most", err, "%s", field);
}

static rt_status read_kind(const char *path, const json_t *o, rt_scene_spec *spec, rt_error *err)
{
    const json_t *class = json_object_get(o, "_class_name"), *kind = json_object_get(o, "kind");
    const char *name = json_string_value(kind);
    rt_row_text row;
    if (!json_is_string(class) || strcmp(json_string_value(class), "RetortScene") != 0)
        return rt__scene_wrong(path, class, "\"RetortScene\": this is no scene", err, "_class_name");
    for (int i = 0; name && rt_scene_kind_describe(i, &row); i++) {
        if (strcmp(name, row.name)) continue;
        *spec = rt_scene_defaults((rt_scene_kind)i);
        return RT_OK;
    }
    return rt__scene_wrong(path, kind, "a row of 'retort list scenes'", err, "kind");
}

static rt_status read_volume(const char *path, const json_t *o, rt_scene_spec *s, rt_error *err)
{
    const json_t *bias = json_object_get(o, "density_bias"), *background = json_object_get(o, "background"),
                 *camera = json_object_get(o, "camera");
    const json_t *box = json_object_get(o, "box");
    double faces[2] = {-1, 1};
    RT_TRY(read_wholes(path, o, "nodes", 3, s->nodes, err));
    RT_TRY(read_whole(path, o, "samples", &s->samples, err));
    RT_TRY(read_range(path, o, "box", faces, err));
    if (faces[0] != -1 || faces[1] != 1) return rt__scene_wrong(path, box, "[-1, 1]", err, "box");
    if (bias && !json_is_number(bias)) return rt__scene_wrong(path, bias, "a number", err, "density_bias");
    if (bias) s->density_bias = json_number_value(bias);
    if (background && (!json_is_string(background) || rt_background_find(&s->background, json_string_value(background), NULL) != RT_OK))
        return rt__scene_wrong(path, background, "white, black, grey, random or alpha", err, "background");
    if (camera && !json_is_object(camera)) return rt__scene_wrong(path, camera, "an object of ranges", err, "camera");
    RT_TRY(read_range(path, camera, "azimuth", s->orbit.azimuth, err));
    RT_TRY(read_range(path, camera, "elevation", s->orbit.elevation, err));
    RT_TRY(read_range(path, camera, "distance", s->orbit.distance, err));
    return read_range(path, camera, "fovy", s->orbit.fovy, err);
}

static rt_status read_spec(const char *path, const json_t *o, rt_scene_spec *s, rt_error *err)
{
    double data_range[2];
    int size[2];
    RT_TRY(read_kind(path, o, s, err));
    size[0] = s->height, size[1] = s->width, data_range[0] = s->low, data_range[1] = s->high;
    RT_TRY(read_whole(path, o, "particles", &s->particles, err));
    RT_TRY(read_wholes(path, o, "size", 2, size, err));
    RT_TRY(read_range(path, o, "data_range", data_range, err));
    s->height = size[0], s->width = size[1], s->low = data_range[0], s->high = data_range[1];
    if (s->kind == RT_SCENE_IMAGE) RT_TRY(read_whole(path, o, "channels", &s->channels, err));
    if (s->kind == RT_SCENE_GRID) RT_TRY(read_volume(path, o, s, err));
    rt_error why = {0};
    rt_status status = rt_scene_check(s, &why);
    if (status != RT_OK) RT_RAISE(status == RT_E_USAGE ? RT_E_INVALID : status, "%s: %s", path, why.text);
    return RT_OK;
}

static rt_status read_json(const char *path, rt_scene *scene, rt_error *err)
{
    json_t *o;
    RT_TRY(rt__scene_json(&o, path, MOST_BYTES, err));
    rt_status s = read_spec(path, o, &scene->spec, err);
    const json_t *recipe = json_object_get(o, "_retort");
    if (s == RT_OK && recipe && !json_is_object(recipe)) s = rt__scene_wrong(path, recipe, "an object", err, "_retort");
    if (s == RT_OK) {
        scene->recipe = recipe ? json_dumps(recipe, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : strdup("{}");
        if (!scene->recipe) s = rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    }
    json_decref(o);
    return s;
}

/* ---- scene.safetensors */

/* Number of node n, channel c (0: density) of particle p in the tensors of the file: in density, or in colour. */
static int64_t file_index(int64_t nodes, int64_t p, int64_t n, int c) { return c == 0 ? p * nodes + n : (p * 3 + c - 1) * nodes + n; }

typedef struct tensor_plan {
    const char *name;
    int rank;
    int64_t shape[RT_MAX_RANK], count;
} tensor_plan;

static int plan_tensors(const rt_scene_spec *s, tensor_plan plans[2])
{
    int64_t P = s->particles, D = s->nodes[0], H = s->nodes[1], W = s->nodes[2];
    if (s->kind == RT_SCENE_IMAGE) {
        plans[0] = (tensor_plan){"image", 4, {P, s->channels, s->height, s->width}, P * s->channels * s->height * s->width};
        return 1;
    }
    plans[0] = (tensor_plan){"density", 4, {P, D, H, W}, P * D * H * W};
    plans[1] = (tensor_plan){"colour", 5, {P, 3, D, H, W}, 3 * P * D * H * W};
    return 2;
}

static rt_status check_tensor(const char *path, const rt_tensors *file, const tensor_plan *want, int *index, rt_error *err)
{
    char is[96], must[96];
    *index = rt_tensors_find(file, want->name);
    if (*index < 0) RT_RAISE(RT_E_INVALID, "%s: tensor '%s' is missing: write the scene anew", path, want->name);
    const rt_tensor_info *info = rt_tensors_info(file, *index);
    bool fits = info->rank == want->rank && !memcmp(info->shape, want->shape, (size_t)want->rank * sizeof *want->shape);
    if (!fits)
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s' is %s; must be %s, as scene.json says", path, want->name,
                 rt_shape_text(is, sizeof is, info->rank, info->shape), rt_shape_text(must, sizeof must, want->rank, want->shape));
    return RT_OK;
}

static rt_status read_tensor(const char *path, const rt_tensors *file, const tensor_plan *want, float *to, rt_error *err)
{
    int index;
    RT_TRY(check_tensor(path, file, want, &index, err));
    RT_TRY(rt_tensors_read_real(file, index, RT_F32, to, err));
    for (int64_t i = 0; i < want->count; i++)
        if (!isfinite(to[i]))
            RT_RAISE(RT_E_INVALID, "%s: tensor '%s' has a number that is not finite, at %lld: the run diverged; take an earlier scene",
                     path, want->name, (long long)i);
    return RT_OK;
}

static rt_status read_values(const char *path, const rt_tensors *file, rt_scene *scene, rt_error *err)
{
    tensor_plan plans[2];
    int n = plan_tensors(&scene->spec, plans), index;
    for (int i = 0; i < n; i++)
        RT_TRY(check_tensor(path, file, &plans[i], &index, err)); /* before memory is taken for what the file may not hold */
    RT_TRY(rt_scene_declare(&scene->spec, scene->set, err));
    float *values = rt_params_data(scene->set, RT_VALUE);
    if (!values) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a scene", path);
    if (n == 1) return read_tensor(path, file, &plans[0], values, err);
    float *room = malloc((size_t)plans[1].count * sizeof *room);
    if (!room) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a scene", path);
    rt_status s = RT_OK;
    int64_t nodes = plans[0].count / scene->spec.particles;
    for (int i = 0; i < 2 && s == RT_OK; i++) {
        s = read_tensor(path, file, &plans[i], room, err);
        for (int64_t k = 0; k < plans[0].count && s == RT_OK; k++)
            for (int c = i == 0 ? 0 : 1; c < (i == 0 ? 1 : 4); c++) values[4 * k + c] = room[file_index(nodes, k / nodes, k % nodes, c)];
    }
    free(room);
    return s;
}

static rt_status read_tensors(const char *path, rt_scene *scene, rt_error *err)
{
    rt_tensors *file;
    RT_TRY(rt_tensors_open(&file, path, err));
    rt_status s = read_values(path, file, scene, err);
    rt_tensors_close(file);
    return s;
}

/* ---- both */

rt_status rt_scene_open(rt_scene **out, const char *path, rt_error *err)
{
    char folder[PATH], json[PATH], tensors[PATH];
    *out = NULL;
    RT_TRY(join(json, path, "scene.json", err));
    if (rt__file_exists(json))
        snprintf(folder, sizeof folder, "%s", path);
    else
        RT_TRY(join(folder, path, "scene", err));
    RT_TRY(join(json, folder, "scene.json", err));
    RT_TRY(join(tensors, folder, "scene.safetensors", err));
    rt_scene *scene = calloc(1, sizeof *scene);
    if (scene) scene->set = rt_params_new("scene", RT_F32);
    rt_status s = scene && scene->set ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    if (s == RT_OK) s = read_json(json, scene, err);
    if (s == RT_OK) s = read_tensors(tensors, scene, err);
    if (s == RT_OK) *out = scene;
    if (s != RT_OK) rt_scene_free(scene);
    return s;
}

void rt_scene_free(rt_scene *scene)
{
    if (!scene) return;
    rt_params_free(scene->set);
    free(scene->recipe);
    free(scene);
}

static float value_of(const rt_params *set, const void *data, int64_t i)
{
    return rt_params_dtype(set) == RT_F64 ? (float)((const double *)data)[i] : ((const float *)data)[i];
}

/* The array of a role from the entry's start on; the set is only read. */
static rt_status entry_data(const char **data, const rt_scene_spec *s, const rt_params *set, rt_role role, rt_error *err)
{
    int index = rt_params_find(set, s->kind == RT_SCENE_IMAGE ? "image" : "grid");
    rt_params *fetched = (rt_params *)(uintptr_t)set;
    if (index < 0 || !rt_params_has(set, role)) RT_RAISE(RT_E_INTERNAL, "the set '%s' holds no scene", rt_params_name(set));
    RT_TRY(rt_params_fetch(fetched, role, err));
    *data = (const char *)rt_params_data(fetched, role) + (size_t)rt_params_entry(set, index)->offset * rt_dtype_size(rt_params_dtype(set));
    return RT_OK;
}

static rt_status write_tensors(const char *path, const rt_scene_spec *s, const rt_params *set, rt_role role, rt_error *err)
{
    tensor_plan plans[2];
    rt_named_tensor tensors[2];
    int n = plan_tensors(s, plans);
    const char *data = NULL;
    RT_TRY(entry_data(&data, s, set, role, err));
    int64_t total = plans[0].count + (n > 1 ? plans[1].count : 0), nodes = plans[0].count / s->particles;
    float *room = malloc((size_t)total * sizeof *room);
    if (!room) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a scene", path);
    for (int64_t i = 0; i < total; i++) {
        int64_t k = i / 4;
        int c = (int)(i % 4);
        int64_t to = n == 1 ? i : (c == 0 ? 0 : plans[0].count) + file_index(nodes, k / nodes, k % nodes, c);
        room[to] = value_of(set, data, i);
    }
    for (int i = 0; i < n; i++)
        tensors[i] = (rt_named_tensor){plans[i].name, RT_F32, plans[i].rank, plans[i].shape, room + (i > 0 ? plans[0].count : 0)};
    rt_status status = rt_tensors_write(path, tensors, n, NULL, err);
    free(room);
    return status;
}

rt_status rt_scene_write(const char *folder, const rt_scene_spec *s, const rt_params *set, rt_role role, const char *recipe, rt_error *err)
{
    char path[PATH];
    RT_TRY(rt_scene_check(s, err));
    RT_TRY(rt__make_folders(folder, err));
    RT_TRY(join(path, folder, "scene.safetensors", err));
    RT_TRY(write_tensors(path, s, set, role, err));
    RT_TRY(join(path, folder, "scene.json", err));
    return write_json(path, s, recipe, err);
}
