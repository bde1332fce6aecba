/* scene_shown.c -- what a run of a scene shows and leaves: RUN/scene, pictures with the teacher's guess, figures, the words of the live line. */
#include "distill/scene_painting.h"
#include "distill/sources.h"

#include "base/files.h"
#include "base/internal.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VIEWS = 8, TURN = 24, PATH = RT_CONFIG_TEXT + 96 };
static const double guess_time = 0.5, one_face = 0.5, degrees = 180 / 3.14159265358979323846;

static double middle(const double range[2]) { return (range[0] + range[1]) / 2; }

/* ---- cameras round the object */

/* The ranges of cameras that a file lists, so that the scene is shown from where it was seen, as far as an orbit goes (rt_scene_check). */
static void take_in(rt_orbit *o, const rt_cameras *file)
{
    for (int i = 0; i < file->n; i++) {
        const double *m = file->at[i].c2w;
        double r = sqrt(m[3] * m[3] + m[7] * m[7] + m[11] * m[11]), up = r > 0 ? asin(m[11] / r) * degrees : 0,
               fovy = (file->at[i].fovy > 0 ? file->at[i].fovy : file->at[i].fovx) * degrees;
        double *const ranges[] = {o->elevation, o->distance, o->fovy};
        const double values[] = {fmin(fmax(up, -89), 89), fmin(fmax(r, 1e-3), 1e3), fmin(fmax(fovy, 0.1), 179)};
        for (int k = 0; k < 3; k++) {
            if (i == 0 || values[k] < ranges[k][0]) ranges[k][0] = values[k];
            if (i == 0 || values[k] > ranges[k][1]) ranges[k][1] = values[k];
        }
    }
}

/* The spec as it is written and shown, and n cameras round the object: of the file's, evenly in the order of azimuths, so that the teacher knows them; else on a circle. */
static rt_status walk_round(const rt_round *r, int n, bool of_file, rt_scene_spec *spec, rt_camera *cameras, int *listed, rt_error *err)
{
    rt_cameras file;
    *spec = rt__scene_spec(r->task, r->index);
    RT_TRY(rt__scene_open_cameras(r->task, &file, err));
    take_in(&spec->orbit, &file);
    const rt_orbit *o = &spec->orbit;
    *listed = file.n;
    for (int i = 0; i < n; i++)
        cameras[i] = of_file && file.n > 0
                         ? file.at[(int64_t)i * file.n / n]
                         : rt_camera_orbit(o->azimuth[0] + 360.0 * i / n, middle(o->elevation), middle(o->distance), middle(o->fovy));
    rt_cameras_free(&file);
    return RT_OK;
}

/* ---- pictures */

/* Pictures of four channels as they look on white, n of them in place. */
static int on_white(const rt_scene_spec *s, int64_t n, float *x)
{
    int C = rt_scene_channels(s);
    int64_t pixels = (int64_t)s->height * s->width;
    float low = (float)s->low, high = (float)s->high;
    for (int64_t i = 0; i < n && C == 4; i++)
        for (int64_t k = 0; k < 3 * pixels; k++) {
            float clear = (high - x[i * 4 * pixels + 3 * pixels + k % pixels]) / (high - low);
            x[i * 3 * pixels + k] = x[i * 4 * pixels + k] + clear * (high - low);
        }
    return C == 4 ? 3 : C;
}

static rt_status write_grid(const char *path, const rt_scene_spec *s, int64_t n, float *x, int columns, rt_error *err)
{
    int C = on_white(s, n, x);
    return rt_png_grid(path, n, x, C, s->height, s->width, s->low, s->high, columns, 2, err);
}

/* How the teacher's guesses of opposite sides differ, over how they vary within themselves: near 0 it takes all sides for one picture. */
static double sides_differ(const double *guess, int64_t particles, int64_t d)
{
    double apart = 0, within = 0;
    for (int64_t p = 0; p < particles; p++)
        for (int v = 0; v < VIEWS; v++) {
            const double *own = guess + (p * VIEWS + v) * d, *other = guess + (p * VIEWS + (v + VIEWS / 2) % VIEWS) * d;
            double mean = 0;
            for (int64_t j = 0; j < d; j++) mean += own[j] / (double)d;
            for (int64_t j = 0; j < d; j++) {
                apart += (own[j] - other[j]) * (own[j] - other[j]);
                within += (own[j] - mean) * (own[j] - mean);
            }
        }
    return within > 0 ? sqrt(apart / (2 * within)) : NAN;
}

/* x0 that the teacher takes n pictures for at the middle of the process, view v of each particle noised alike all along. */
static rt_status guess(rt_round *r, const rt_camera *cameras, int listed, int views, int64_t n, const float *x, double *x0, rt_error *err)
{
    const rt_task *t = r->task;
    int64_t d = t->features;
    double at = guess_time * rt_process_end(t->process);
    if (rt_process_discrete_steps(t->process) > 0) at = rint(at);
    double alpha = rt_process_alpha(t->process, at), beta = rt_process_beta(t->process, at);
    double *eps = malloc((size_t)(2 * d) * sizeof *eps);
    rt_status s = eps ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for a picture");
    for (int64_t i = 0; i < n && s == RT_OK; i++) {
        int64_t y = rt__scene_label(t, &cameras[i % views], listed);
        rt__draw_normals(&(rt__draw){.seed = t->config->seed, .name = rt__draw_name("pictures")}, (uint32_t)i, d, eps);
        for (int64_t j = 0; j < d; j++) eps[d + j] = alpha * (double)x[i * d + j] + beta * eps[j];
        s = rt__scene_ask_teacher(rt__scene_source_of(r), &cameras[i % views], eps + d, at, y, x0 + i * d, err);
    }
    free(eps);
    return s;
}

static rt_status draw_pictures(rt_round *r, int64_t update, const rt_scene_spec *spec, const rt_camera *cameras, int listed, int views,
                               float *x, double *x0, rt_error *err)
{
    const rt_task *t = r->task;
    rt_params *set = rt__scene_network(t, r->index)->set;
    int64_t d = t->features, row = views * d;
    int P = spec->particles;
    char path[PATH];
    for (int p = 0; p < P; p++)
        RT_TRY(rt_scene_pictures(spec, set, p, cameras, views, t->config->threads, x + p * row, NULL, NULL, NULL, err));
    RT_TRY(guess(r, cameras, listed, views, P * views, x, x0, err));
    if (views == VIEWS) rt__scene_see_sides(rt__scene_source_of(r), sides_differ(x0, P, d), one_face);
    float *sheet = malloc((size_t)(2 * P * row) * sizeof *sheet); /* a particle's views, below them the guesses */
    if (!sheet) RT_RAISE(RT_E_MEMORY, "out of memory for %d pictures", 2 * P * views);
    for (int64_t p = 0; p < P; p++) {
        memcpy(sheet + 2 * p * row, x + p * row, (size_t)row * sizeof *x);
        for (int64_t j = 0; j < row; j++) sheet[(2 * p + 1) * row + j] = (float)x0[p * row + j];
    }
    snprintf(path, sizeof path, "%s/samples/update-%lld.png", t->config->out, (long long)update);
    rt_status s = t->dry_run ? RT_OK : write_grid(path, spec, 2 * P * views, sheet, views, err);
    free(sheet);
    return s;
}

static bool is_drawn(const rt_task *t)
{
    return t->rank == 4 && !rt__scene_affine(t) && (t->shape[1] == 1 || t->shape[1] == 3 || t->shape[1] == 4);
}

static rt_status pictures(rt_round *r, int64_t update, rt_error *err)
{
    const rt_task *t = r->task;
    rt_scene_spec spec;
    rt_camera cameras[VIEWS];
    int listed;
    if (!is_drawn(t)) return RT_OK;
    RT_TRY(walk_round(r, VIEWS, true, &spec, cameras, &listed, err));
    int views = spec.kind == RT_SCENE_GRID ? VIEWS : 1;
    size_t n = (size_t)(spec.particles * views * t->features);
    float *x = malloc(n * sizeof *x);
    double *x0 = malloc(n * sizeof *x0);
    rt_status s = x && x0 ? draw_pictures(r, update, &spec, cameras, listed, views, x, x0, err)
                          : rt_error_set(err, RT_E_MEMORY, "out of memory for pictures of a scene");
    free(x);
    free(x0);
    return s;
}

/* ---- the result */

static rt_status write_affine(const rt_task *t, rt_params *set, const char *folder, rt_error *err)
{
    RT_TRY(rt_params_fetch(set, RT_VALUE, err));
    const rt_entry *m = rt_params_entry(set, rt_params_find(set, "mean")), *L = rt_params_entry(set, rt_params_find(set, "factor"));
    const char *v = rt_params_data(set, RT_VALUE);
    size_t width = rt_dtype_size(t->real);
    const rt_named_tensor tensors[] = {{"mean", t->real, 1, m->shape, v + (size_t)m->offset * width},
                                       {"factor", t->real, 2, L->shape, v + (size_t)L->offset * width}};
    char path[PATH + 32];
    RT_TRY(rt__make_folders(folder, err));
    snprintf(path, sizeof path, "%s/scene.safetensors", folder);
    return rt_tensors_write(path, tensors, 2, NULL, err);
}

static rt_status write_turntable(const rt_scene_spec *spec, rt_params *set, const rt_camera *cameras, const char *folder, int threads,
                                 rt_error *err)
{
    char path[PATH + 32];
    size_t count = (size_t)TURN * (size_t)rt_scene_channels(spec) * (size_t)spec->height * (size_t)spec->width;
    float *x = malloc(count * sizeof *x);
    if (!x) RT_RAISE(RT_E_MEMORY, "out of memory for a turntable");
    snprintf(path, sizeof path, "%s/turntable.png", folder);
    rt_status s = rt_scene_pictures(spec, set, 0, cameras, TURN, threads, x, NULL, NULL, NULL, err);
    if (s == RT_OK) s = write_grid(path, spec, TURN, x, VIEWS, err);
    free(x);
    return s;
}

static char *recipe_of(const rt_task *t)
{
    const rt__scene_settings *own = rt__scene_own(t);
    json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:i}", "version", 1, "method", rt_method_command(t->config->method), "teacher",
                          t->config->teacher, "cameras", own->cameras, "weight", own->weight, "particles", own->particles);
    if (o && t->words) json_object_set_new(o, "prompt", json_string(own->prompt));
    if (o && !t->words && t->classes > 0) json_object_set_new(o, "class", json_integer(own->label > 0 ? own->label : 0));
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

static rt_status result(rt_round *r, rt_error *err)
{
    const rt_task *t = r->task;
    rt_params *set = rt__scene_network(t, r->index)->set;
    rt_scene_spec spec;
    rt_camera cameras[TURN];
    int listed;
    char folder[PATH];
    snprintf(folder, sizeof folder, "%s/scene", t->config->out);
    if (rt__scene_affine(t)) return write_affine(t, set, folder, err);
    RT_TRY(walk_round(r, TURN, false, &spec, cameras, &listed, err));
    char *recipe = recipe_of(t);
    if (!recipe) RT_RAISE(RT_E_MEMORY, "out of memory for %s", folder);
    rt_status s = rt_scene_write(folder, &spec, set, RT_VALUE, recipe, err);
    free(recipe);
    if (s == RT_OK && spec.kind == RT_SCENE_GRID) s = write_turntable(&spec, set, cameras, folder, t->config->threads, err);
    return s;
}

/* ---- figures */

static double root(double sum, double n) { return n > 0 ? sqrt(sum / n) : NAN; }

static double gap_of(const rt__scene_figures *f) { return root(f->gap[0] + f->gap[1] + f->gap[2] + f->gap[3], f->rows); }

/* The RMS between a network s_zeta and the exact score; NaN where there is no such network. */
static double lag_of(const rt_round *r, const rt__scene_figures *f)
{
    rt__zeta zeta = rt__scene_zeta(r->task);
    return zeta == RT__ZETA_NETWORK || zeta == RT__ZETA_BLIND ? root(f->lag, f->rows) : NAN;
}

static int figures(rt_round *r, int most, rt_metric *row)
{
    rt__scene_source *s = rt__scene_source_of(r);
    if (!s) return 0;
    const rt__scene_figures *f = rt__scene_latest(s);
    const rt_metric all[] = {
        {"gradient_norm", rt__main_phase(r)->last_grad_norm},
        {"x0_gap_rms", gap_of(f)},
        {"x0_gap_rms_q1", root(f->gap[0], f->gap_rows[0])},
        {"x0_gap_rms_q2", root(f->gap[1], f->gap_rows[1])},
        {"x0_gap_rms_q3", root(f->gap[2], f->gap_rows[2])},
        {"x0_gap_rms_q4", root(f->gap[3], f->gap_rows[3])},
        {"fake_lag", lag_of(r, f)},
        {"opacity", f->pixels > 0 ? f->opacity / f->pixels : NAN},
        {"unsure", f->pixels > 0 ? f->unsure / f->pixels : NAN},
        {"particle_spread_rms", root(f->spread, f->rows)},
        {"view_change_rms", rt__scene_view_change(s)},
        {"sides_differ", f->sides},
    };
    int n = 0;
    for (; n < (int)RT_COUNT(all) && n < most; n++) row[n] = all[n];
    return n;
}

static double headline(rt_round *r)
{
    rt__scene_source *s = rt__scene_source_of(r);
    return s ? gap_of(rt__scene_latest(s)) : NAN;
}

static void live(rt_round *r, double first, char *text, size_t size)
{
    rt__scene_source *s = rt__scene_source_of(r);
    *text = 0;
    if (!s) return;
    const rt__scene_figures *f = rt__scene_latest(s);
    double lag = lag_of(r, f);
    int n = snprintf(text, size, "score gap %.2g (was %.2g)", gap_of(f), first);
    if (!isnan(lag)) n += snprintf(text + n, size - (size_t)n, "  fake lag %.2g", lag);
    if (f->pixels > 0) snprintf(text + n, size - (size_t)n, "  opacity %.2g, unsure %.2g", f->opacity / f->pixels, f->unsure / f->pixels);
}

static rt_status succeed(rt_round *r, rt_error *err)
{
    const rt_task *t = r->task;
    int next = r->index + 1;
    if (next >= t->plan.n_rounds || rt__scene_affine(t)) return RT_OK;
    rt_scene_spec from = rt__scene_spec(t, r->index), to = rt__scene_spec(t, next);
    return rt_scene_resample(&to, rt__scene_network(t, next)->set, &from, rt__scene_network(t, r->index)->set, err);
}

const rt_showing rt__scene_showing = {.items = "views",
                                      .remedy = "lower scene.lr, and vsd.score-lr where there is one",
                                      .result = result,
                                      .pictures = pictures,
                                      .figures = figures,
                                      .headline = headline,
                                      .live = live,
                                      .succeed = succeed};
