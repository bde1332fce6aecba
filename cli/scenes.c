/* scenes.c -- see scenes.h. */
#include "scenes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cli_is_scene(const char *path)
{
    static const char *const places[] = {"scene.json", "scene/scene.json"};
    char name[4300];
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s/%s", path, places[i]);
        if (access(name, F_OK) == 0) return true;
    }
    return false;
}

rt_status cli_open_scene(cli_call *c, const char *path, rt_scene **scene, int *particle, rt_error *err)
{
    *particle = (int)cli_int(c, "particle", 0, 1 << 20);
    TRY(cli_ok(c, err));
    TRY(rt_scene_open(scene, path, err));
    int n = (*scene)->spec.particles;
    if (*particle < n) return RT_OK;
    rt_scene_free(*scene);
    *scene = NULL;
    return rt_error_set(err, RT_E_USAGE, "--particle: %d is too large; %s holds %d scene%s, 0 to %d", *particle, path, n, n > 1 ? "s" : "",
                        n - 1);
}

json_t *cli_scene_json(const char *path, const rt_scene *scene)
{
    const rt_scene_spec *s = &scene->spec;
    rt_row_text row = {0};
    rt_scene_kind_describe((int)s->kind, &row);
    json_t *o = json_pack("{s:s, s:s, s:i, s:s}", "path", path, "kind", row.name, "particles", s->particles, "background",
                          rt_background_name(s->background));
    if (s->kind == RT_SCENE_GRID) json_object_set_new(o, "nodes", json_pack("[i,i,i]", s->nodes[0], s->nodes[1], s->nodes[2]));
    return o;
}

rt_status cli_turntable(rt_cameras *cameras, const rt_scene_spec *spec, int n, double elevation, rt_error *err)
{
    const rt_orbit *o = &spec->orbit;
    cameras->at = calloc((size_t)n, sizeof *cameras->at);
    if (!cameras->at) return rt_error_set(err, RT_E_MEMORY, "out of memory for %d cameras", n);
    cameras->n = n;
    for (int i = 0; i < n; i++) {
        cameras->at[i] = rt_camera_orbit(360.0 * i / n, elevation, (o->distance[0] + o->distance[1]) / 2, (o->fovy[0] + o->fovy[1]) / 2);
        cameras->at[i].label = i;
    }
    return RT_OK;
}

/* ---- pictures */

rt_status cli_views_bytes(const rt_scene_spec *spec, int64_t n, bool weights, int64_t *bytes, rt_error *err)
{
    double numbers = rt_scene_channels(spec) + (spec->kind == RT_SCENE_GRID ? 2 : 0) + (weights ? spec->samples : 0);
    double all = (double)n * spec->height * spec->width * numbers * sizeof(float);
    *bytes = (int64_t)all;
    if (all <= 0x1p32) return RT_OK;
    return rt_error_set(err, RT_E_MEMORY, "%lld pictures of %dx%d take %.1f GiB, more than 4; take a smaller --size, or fewer cameras",
                        (long long)n, spec->height, spec->width, all / 0x1p30);
}

rt_status cli_render(cli_call *c, rt_scene *scene, const rt_scene_spec *spec, int particle, const rt_cameras *cameras, bool weights,
                     cli_views *v, rt_error *err)
{
    int64_t bytes;
    size_t n = (size_t)cameras->n, plane = (size_t)spec->height * (size_t)spec->width;
    bool volume = spec->kind == RT_SCENE_GRID;
    *v = (cli_views){.n = cameras->n,
                     .channels = rt_scene_channels(spec),
                     .height = spec->height,
                     .width = spec->width,
                     .samples = spec->samples,
                     .low = spec->low,
                     .high = spec->high};
    TRY(rt_scene_check(spec, err));
    TRY(cli_views_bytes(spec, cameras->n, weights, &bytes, err));
    v->x = malloc(n * plane * (size_t)v->channels * sizeof *v->x);
    if (volume) v->alpha = malloc(n * plane * sizeof *v->alpha);
    if (volume) v->depth = malloc(n * plane * sizeof *v->depth);
    if (weights) v->weights = malloc(n * plane * (size_t)v->samples * sizeof *v->weights);
    if (!v->x || (volume && !(v->alpha && v->depth)) || (weights && !v->weights))
        return rt_error_set(err, RT_E_MEMORY, "out of memory for %zu pictures of %dx%d", n, v->height, v->width);
    return rt_scene_pictures(spec, scene->set, particle, cameras->at, cameras->n, cli_threads(c), v->x, v->alpha, v->depth, v->weights,
                             err);
}

void cli_views_free(cli_views *v)
{
    free(v->x);
    free(v->alpha);
    free(v->depth);
    free(v->weights);
    *v = (cli_views){0};
}

/* ---- the volume */

rt_status cli_scene_volume(rt_scene *scene, const char *path, int particle, rt_volume *v, float **values, rt_error *err)
{
    const rt_scene_spec *s = &scene->spec;
    if (s->kind != RT_SCENE_GRID)
        return rt_error_set(err, RT_E_USAGE, "%s: the scene is a picture, which has no surface; 'retort render' writes it as PNG", path);
    const rt_entry *grid = rt_params_entry(scene->set, rt_params_find(scene->set, "grid"));
    size_t n = (size_t)s->nodes[0] * (size_t)s->nodes[1] * (size_t)s->nodes[2];
    const float *from = (const float *)rt_params_data(scene->set, RT_VALUE) + grid->offset + (size_t)particle * 4 * n;
    float *to = *values = malloc(4 * n * sizeof *to);
    if (!to) return rt_error_set(err, RT_E_MEMORY, "%s: out of memory for %zu nodes", path, n);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < 4; k++) to[k * n + i] = from[4 * i + k];
    *v = (rt_volume){.nodes = {s->nodes[0], s->nodes[1], s->nodes[2]}, .density = to, .colour = to + n, .density_bias = s->density_bias};
    return RT_OK;
}

/* ---- endings */

rt_status cli_ending(const char *option, const char *path, const char *const *endings, size_t n, size_t *index, rt_error *err)
{
    size_t length = strlen(path);
    for (*index = 0; *index < n; ++*index) {
        size_t m = strlen(endings[*index]);
        if (length > m && path[length - m - 1] != '/' && strcmp(path + length - m, endings[*index]) == 0) return RT_OK;
    }
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    if (!dot || dot == path || dot[-1] == '/' || !dot[1]) return RT_OK;
    char known[256] = "";
    for (size_t i = 0; i < n; i++) snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? " " : "", endings[i]);
    const char *guess = rt_closest(dot, endings, n);
    if (guess) return rt_error_set(err, RT_E_USAGE, "%s %s: the ending '%s' is not known; did you mean '%s'?", option, path, dot, guess);
    return rt_error_set(err, RT_E_USAGE, "%s %s: the ending '%s' is not known; must be one of %s", option, path, dot, known);
}
