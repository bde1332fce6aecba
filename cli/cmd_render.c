/* cmd_render.c -- retort render RUN|SCENE: pictures of a scene. */
#include "samples.h"
#include "scenes.h"

#include "retort/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ACROSS = 8, PERIOD_MS = 4000, LEAST_MS = 20 }; /* of a sheet; of a turn, of a frame */

static const char *const *backgrounds(void)
{
    static const char *const names[] = {"white", "black", "grey", "alpha", NULL};
    return names;
}

static const cli_option options[] = {
    {"out", 'o', "PATH", NULL, NULL, ".png (a sheet), .apng or .gif (moves), .zip or a folder (a NeRF data set), .safetensors", NULL},
    {"views", 0, "N", "render.views", "24", "cameras round the scene", NULL},
    {"elevation", 0, "DEGREES", "render.elevation", "20", "how high they stand, -89 to 89", NULL},
    {"cameras", 0, "FILE", "render.cameras", NULL, "a transforms.json: these cameras instead", NULL},
    {"size", 0, "HxW", "render.size", NULL, "pixels of a picture, or N for NxN (those that it was trained with)", NULL},
    {"background", 0, "NAME", "render.background", NULL, "white, black, grey, or alpha (the scene's; see below)", backgrounds},
    CLI_PARTICLE_OPTION,
    {"trace", 0, NULL, NULL, NULL, "keep the weights of the samples on every ray (.safetensors)", NULL},
    {0}};

/* ---- forms of output: the ending of the path decides */

typedef enum form { SAFETENSORS, APNG, PNG, GIF, ZIP, FOLDER } form;
static const char *const endings[] = {".safetensors", ".apng", ".png", ".gif", ".zip"};

static rt_status write_tensors(const cli_views *v, const char *out, rt_error *err)
{
    const int64_t x[] = {v->n, v->channels, v->height, v->width}, plane[] = {v->n, v->height, v->width, v->samples};
    rt_named_tensor list[4] = {{"x", RT_F32, 4, x, v->x}};
    int n = 1;
    if (v->alpha) list[n++] = (rt_named_tensor){"alpha", RT_F32, 3, plane, v->alpha};
    if (v->depth) list[n++] = (rt_named_tensor){"depth", RT_F32, 3, plane, v->depth};
    if (v->weights) list[n++] = (rt_named_tensor){"weights", RT_F32, 4, plane, v->weights};
    return rt_tensors_write(out, list, n, NULL, err);
}

static rt_status write_moving(const cli_views *v, form f, const char *out, rt_error *err)
{
    size_t frame = (size_t)v->channels * (size_t)v->height * (size_t)v->width;
    uint8_t *pixels = malloc((size_t)v->n * frame);
    if (!pixels) return rt_error_set(err, RT_E_MEMORY, "%s: out of memory", out);
    for (size_t i = 0; i < (size_t)v->n; i++)
        rt_pixels_from_values(v->x + i * frame, v->channels, v->height, v->width, v->low, v->high, pixels + i * frame);
    int each = (int)(PERIOD_MS / v->n);
    rt_status status = (f == GIF ? rt_gif_write : rt_apng_write)(out, (int)v->n, v->width, v->height, v->channels, pixels,
                                                                 each < LEAST_MS ? LEAST_MS : each, err);
    free(pixels);
    return status;
}

/* NeRF's transforms.json for pictures NNNNNN.png of these cameras. */
static char *transforms(const cli_views *v, const rt_cameras *cameras)
{
    const rt_camera *first = cameras->at;
    double h = v->height, w = v->width, f = first->fovy > 0 ? h / 2 / tan(first->fovy / 2) : w / 2 / tan(first->fovx / 2);
    json_t *frames = json_array();
    for (int i = 0; i < cameras->n; i++) {
        const rt_camera *c = &cameras->at[i];
        char name[32];
        snprintf(name, sizeof name, "%06d.png", i);
        json_t *matrix = json_array(), *frame = json_pack("{s:s, s:i}", "file_path", name, "label", c->label);
        if (*c->view) json_object_set_new(frame, "view", json_string(c->view));
        for (int r = 0; r < 4; r++)
            json_array_append_new(matrix, json_pack("[f,f,f,f]", c->c2w[4 * r], c->c2w[4 * r + 1], c->c2w[4 * r + 2], c->c2w[4 * r + 3]));
        json_object_set_new(frame, "transform_matrix", matrix);
        json_array_append_new(frames, frame);
    }
    json_t *o =
        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:i, s:o}", "camera_angle_x", 2 * atan(w / 2 / f), "camera_angle_y",
                  2 * atan(h / 2 / f), "fl_x", f, "fl_y", f, "cx", w / 2, "cy", h / 2, "w", v->width, "h", v->height, "frames", frames);
    char *text = json_dumps(o, JSON_INDENT(1));
    json_decref(o);
    return text;
}

/* Pictures with transforms.json, and with dataset.json, in which a picture's class is its camera's label. */
static rt_status write_data_set(const cli_views *v, const rt_cameras *cameras, const char *out, rt_error *err)
{
    rt_model_info info = {.rank = 3, .shape = {v->channels, v->height, v->width}, .low = v->low, .high = v->high, .classes = 1};
    info.features = info.shape[0] * info.shape[1] * info.shape[2];
    int64_t *y = malloc((size_t)v->n * sizeof *y);
    char *text = transforms(v, cameras);
    cli_sink *sink = NULL;
    rt_status status = y && text ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", out);
    for (int64_t i = 0; y && i < v->n; i++) y[i] = cameras->at[i].label;
    if (status == RT_OK) status = cli_sink_open(&sink, out, &info, v->n, 0, false, err);
    if (status == RT_OK) status = cli_sink_take(sink, &(rt_samples){.count = v->n, .x = v->x, .y = y}, err);
    if (status == RT_OK) status = cli_sink_add(sink, "transforms.json", text, err);
    if (status == RT_OK) status = cli_sink_finish(sink, NULL, err);
    cli_sink_free(sink);
    free(text);
    free(y);
    return status;
}

static rt_status write(const cli_views *v, const rt_cameras *cameras, form f, const char *out, rt_error *err)
{
    if (f == SAFETENSORS) return write_tensors(v, out, err);
    if (f == APNG || f == GIF) return write_moving(v, f, out, err);
    if (f != PNG) return write_data_set(v, cameras, out, err);
    return rt_png_grid(out, v->n, v->x, v->channels, v->height, v->width, v->low, v->high, v->n < ACROSS ? (int)v->n : ACROSS, 2, err);
}

/* ---- what is asked for */

static void read_size(cli_call *c, int *h, int *w)
{
    const char *text = cli_text(c, "size");
    char rest;
    if (!text) return;
    int n = sscanf(text, "%dx%d%c", h, w, &rest);
    if (n == 1 && strspn(text, "0123456789") == strlen(text))
        *w = *h;
    else if (n != 2)
        cli_wrong(c, "size", "'%s' is neither HxW nor N", text);
    if (*h < 1 || *w < 1 || *h > 4096 || *w > 4096) cli_wrong(c, "size", "'%s': sides must be 1 to 4096", text);
}

static rt_status choose_cameras(cli_call *c, const rt_scene_spec *spec, rt_cameras *cameras, rt_error *err)
{
    const char *file = cli_text(c, "cameras");
    int views = (int)cli_int(c, "views", 1, 65536);
    double elevation = cli_real(c, "elevation", -89, 89);
    if (file && (cli_given(c, "views") || cli_given(c, "elevation")))
        cli_wrong(c, "cameras", "%s has the cameras; --views and --elevation are of those round the scene", file);
    TRY(cli_ok(c, err));
    if (file) return rt_cameras_open(cameras, file, err);
    return cli_turntable(cameras, spec, spec->kind == RT_SCENE_IMAGE && !cli_given(c, "views") ? 1 : views, elevation, err);
}

/* Pictures for people are on white unless asked for otherwise, those of data sets have alpha, tensors are what the scene was trained on. */
static rt_status choose_background(cli_call *c, form f, rt_scene_spec *spec, rt_error *err)
{
    const char *name = cli_word(c, "background");
    TRY(cli_ok(c, err));
    if (name && spec->kind == RT_SCENE_IMAGE)
        return rt_error_set(err, RT_E_USAGE, "--background: the scene is a picture, which hides what is behind it");
    if (name) return rt_background_find(&spec->background, name, err);
    if (f == ZIP || f == FOLDER) spec->background = RT_ALPHA;
    bool for_people = f == PNG || f == APNG || f == GIF;
    if (spec->background == RT_RANDOM || (spec->background == RT_ALPHA && for_people)) spec->background = RT_WHITE;
    return RT_OK;
}

static rt_status check(cli_call *c, form f, const char *out, const rt_scene_spec *spec, rt_error *err)
{
    bool picture = spec->kind == RT_SCENE_IMAGE;
    if (cli_flag(c, "trace") && (f != SAFETENSORS || picture))
        return rt_error_set(err, RT_E_USAGE, "--trace: only a .safetensors file of a volume holds weights of samples");
    if (picture && f != PNG && f != SAFETENSORS)
        return rt_error_set(err, RT_E_USAGE, "--out %s: the scene is a picture, seen from nowhere; write .png or .safetensors", out);
    if (picture && f == PNG && spec->channels != 1 && spec->channels != 3)
        return rt_error_set(err, RT_E_USAGE, "--out %s: the scene has %d channels, no picture's; write .safetensors", out, spec->channels);
    if (picture && cli_given(c, "size"))
        return rt_error_set(err, RT_E_USAGE, "--size: the scene is a picture of %dx%d", spec->height, spec->width);
    return RT_OK;
}

static rt_status render(cli_call *c, rt_scene *scene, int particle, form f, const char *out, rt_cameras *cameras, cli_views *views,
                        rt_error *err)
{
    rt_scene_spec spec = scene->spec;
    int64_t bytes;
    bool trace = cli_flag(c, "trace");
    TRY(check(c, f, out, &spec, err));
    read_size(c, &spec.height, &spec.width);
    TRY(choose_background(c, f, &spec, err));
    if (f != SAFETENSORS && spec.kind == RT_SCENE_GRID) spec.low = 0, spec.high = 1;
    TRY(choose_cameras(c, &scene->spec, cameras, err));
    TRY(cli_views_bytes(&spec, cameras->n, trace, &bytes, err));
    cli_put(c, "scene", cli_scene_json(c->arguments[0], scene));
    cli_put(c, "particle", json_integer(particle));
    cli_put(c, "views", json_integer(cameras->n));
    cli_put(c, "size", json_pack("[i,i]", spec.height, spec.width));
    cli_put(c, "background", spec.kind == RT_SCENE_GRID ? json_string(rt_background_name(spec.background)) : json_null());
    cli_put(c, "out", json_string(out));
    if (c->dry_run) {
        cli_print_config(c, c->text);
        cli_say(c, "would write %s: %d views of %dx%d, %.0f MiB of pictures", out, cameras->n, spec.height, spec.width,
                (double)bytes / 0x1p20);
        return RT_OK;
    }
    double began = cli_now();
    TRY(cli_render(c, scene, &spec, particle, cameras, trace, views, err));
    double seconds = cli_now() - began;
    TRY(write(views, cameras, f, out, err));
    cli_put(c, "rendering_seconds", json_real(seconds));
    cli_say(c, "%s: %d view%s of %dx%d, %.3g s", out, cameras->n, cameras->n > 1 ? "s" : "", spec.height, spec.width, seconds);
    return RT_OK;
}

static rt_status run(cli_call *c, rt_error *err)
{
    const char *out = cli_text(c, "out");
    size_t f;
    rt_scene *scene = NULL;
    rt_cameras cameras = {0};
    cli_views views = {0};
    int particle;
    if (!out) return rt_error_set(err, RT_E_USAGE, "--out is missing: PATH.png, .apng, .gif, .zip, .safetensors, or a folder");
    TRY(cli_ending("--out", out, endings, sizeof endings / sizeof *endings, &f, err));
    if (cli_holds(out, c->arguments[0]))
        return rt_error_set(err, RT_E_USAGE, "--out %s: is or holds the scene that is rendered; choose another name", out);
    TRY(cli_claim_out(c, out, err));
    TRY(cli_open_scene(c, c->arguments[0], &scene, &particle, err));
    rt_status status = render(c, scene, particle, (form)f, out, &cameras, &views, err);
    cli_views_free(&views);
    rt_cameras_free(&cameras);
    rt_scene_free(scene);
    return status;
}

const cli_command cli_render_command = {
    .name = "render",
    .arguments = "RUN|SCENE",
    .summary = "pictures of a scene",
    .text =
        "Renders a scene, that of a run or a folder with scene.json, from cameras round it or from those of a file. The ending of --out\n"
        "decides: .png is a sheet of eight in a row, .apng a turntable that moves, .gif the same in 256 colours for programs that show no\n"
        "APNG, .zip and a folder are data sets that NeRF programs read (transforms.json), and .safetensors holds x [n,C,H,W] in the\n"
        "model's range, alpha and depth [n,H,W].\n"
        "Without --background a sheet and a turntable have the scene's, white where it was trained with alpha or at random; data sets\n"
        "have alpha; .safetensors has what it was trained with.",
    .examples = "retort render examples/scene --views 24 --size 64 --out figure.apng\n"
                "retort render examples/scene --views 8 --out views.zip",
    .options = options,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
