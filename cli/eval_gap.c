/* eval_gap.c -- retort eval of a scene: how far its teacher is from its views, from cameras that it was trained with and from others. */
#include "models.h"
#include "scenes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 24, TIMES = 3, ABOUT = 3 }; /* cameras of a list; elevations of an orbit */
static const double times[TIMES] = {0.25, 0.5, 0.75}, degrees = 180 / 3.14159265358979323846, beyond = 10;

/* What scene.json says of how the scene was made; texts are the JSON's. */
typedef struct recipe {
    json_t *json;
    const char *teacher, *cameras, *prompt; /* "": it does not say */
    int64_t label;
} recipe;

static recipe read_recipe(const rt_scene *scene)
{
    recipe r = {.json = json_loads(scene->recipe, 0, NULL)};
    const char *const keys[] = {"teacher", "cameras", "prompt"};
    const char **const to[] = {&r.teacher, &r.cameras, &r.prompt};
    for (int i = 0; i < 3; i++) {
        const char *text = json_string_value(json_object_get(r.json, keys[i]));
        *to[i] = text ? text : "";
    }
    r.label = json_integer_value(json_object_get(r.json, "class"));
    return r;
}

/* ---- cameras */

typedef struct direction {
    double at[3], distance; /* from the origin, of length 1 */
} direction;

static direction direction_of(const rt_camera *c)
{
    direction d = {{c->c2w[3], c->c2w[7], c->c2w[11]}, 0};
    d.distance = sqrt(d.at[0] * d.at[0] + d.at[1] * d.at[1] + d.at[2] * d.at[2]);
    for (int k = 0; k < 3 && d.distance > 0; k++) d.at[k] /= d.distance;
    return d;
}

/* In degrees. */
static double angle(const rt_camera *a, const rt_camera *b)
{
    direction p = direction_of(a), q = direction_of(b);
    double cosine = p.at[0] * q.at[0] + p.at[1] * q.at[1] + p.at[2] * q.at[2];
    return acos(fmax(-1, fmin(1, cosine))) * degrees;
}

static int nearest_other(const rt_cameras *all, int i)
{
    int best = -1;
    for (int j = 0; j < all->n; j++) {
        double far = angle(&all->at[i], &all->at[j]);
        if (far < 1 || far > 170 || (best >= 0 && far >= angle(&all->at[i], &all->at[best]))) continue;
        best = j;
    }
    return best;
}

/* Halfway between two cameras, seen from the origin, at which it looks. */
static rt_camera halfway(const rt_camera *a, const rt_camera *b)
{
    direction p = direction_of(a), q = direction_of(b);
    double x = p.at[0] + q.at[0], y = p.at[1] + q.at[1], z = p.at[2] + q.at[2];
    rt_camera c =
        rt_camera_orbit(atan2(y, x) * degrees, fmax(-89, fmin(89, atan2(z, hypot(x, y)) * degrees)), (p.distance + q.distance) / 2, 36);
    c.fovx = (a->fovx + b->fovx) / 2;
    c.fovy = (a->fovy + b->fovy) / 2;
    return c;
}

/* How far two matrices are apart. */
static double apart(const rt_camera *a, const rt_camera *b)
{
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += pow(a->c2w[i] - b->c2w[i], 2);
    return sqrt(sum);
}

static const rt_camera *nearest(const rt_cameras *all, const rt_camera *c)
{
    const rt_camera *best = &all->at[0];
    for (int i = 1; i < all->n; i++)
        if (apart(&all->at[i], c) < apart(best, c)) best = &all->at[i];
    return best;
}

/* Of more than MOST an even choice. */
static void thin(rt_cameras *list)
{
    int n = list->n < MOST ? list->n : MOST;
    for (int i = 0; i < n; i++) list->at[i] = list->at[(int64_t)i * list->n / n];
    list->n = n;
}

static double between(const double range[2], double x) { return range[0] + (range[1] - range[0]) * x; }

/* MOST cameras all over the ranges of an orbit, or the same ones beyond them; false: nothing is beyond. */
static bool walk_orbit(const rt_orbit *o, bool outside, rt_cameras *list)
{
    double gap = 360 - (o->azimuth[1] - o->azimuth[0]), over = o->elevation[1] + beyond, under = o->elevation[0] - beyond;
    bool turned = outside && gap > 2 * beyond;
    if (outside && !turned && over > 89 && under < -89) return false;
    list->n = MOST;
    for (int i = 0; i < MOST; i++) {
        double a = between(o->azimuth, (i + 0.5) / MOST), e = between(o->elevation, (i % ABOUT + 0.5) / ABOUT);
        if (turned) a = o->azimuth[1] + beyond + (gap - 2 * beyond) * (i + 0.5) / MOST;
        if (outside && !turned) e = over <= 89 ? over : under;
        list->at[i] = rt_camera_orbit(a, e, between(o->distance, 0.5), between(o->fovy, 0.5));
    }
    return true;
}

/* Cameras with which the scene was trained, and others; `listed`: the trained ones are a file's, which the teacher knows. */
typedef struct sights {
    rt_cameras all, trained, others; /* all: of the file */
    bool listed;
    const char *which; /* of the others: "file", "between", "beyond" */
} sights;

static rt_status read_trained(sights *s, const recipe *r, const char *file, bool labels, rt_error *err)
{
    bool known = *r->cameras && strcmp(r->cameras, "orbit") != 0;
    if (known && (access(r->cameras, R_OK) == 0 || !file)) {
        rt_status status = rt_cameras_open(&s->all, r->cameras, err);
        if (status != RT_OK) rt_error_prefix(err, "the cameras that the scene was trained with");
        return status;
    }
    if (file && (known || !*r->cameras)) return rt_cameras_open(&s->all, file, err);
    if (!*r->cameras && labels)
        return rt_error_set(
            err, RT_E_USAGE,
            "the teacher is asked by labels, and scene.json does not say which cameras it was trained with; give --cameras FILE");
    return RT_OK;
}

static void find_others(sights *s, const rt_cameras *given, const rt_orbit *orbit)
{
    for (int i = 0; given && i < given->n; i++) {
        const rt_camera *c = &given->at[i];
        if (!s->listed || apart(nearest(&s->all, c), c) > 0.01) s->others.at[s->others.n++] = *c;
    }
    s->which = "file";
    if (s->others.n > 0) return;
    s->which = s->listed ? "between" : "beyond";
    for (int i = 0; i < s->all.n; i++) {
        int j = nearest_other(&s->all, i);
        bool twice = j >= 0 && j < i && nearest_other(&s->all, j) == i;
        if (j >= 0 && !twice) s->others.at[s->others.n++] = halfway(&s->all.at[i], &s->all.at[j]);
    }
    if (!s->listed && !walk_orbit(orbit, true, &s->others)) s->others.n = 0;
}

static rt_status choose(sights *s, const recipe *r, cli_call *c, const rt_scene *scene, const rt_cameras *given, bool labels, rt_error *err)
{
    const char *file = cli_text(c, "cameras");
    TRY(read_trained(s, r, file, labels, err));
    s->listed = s->all.n > 0;
    size_t room = (size_t)(s->all.n + MOST);
    s->trained.at = calloc(room, sizeof *s->trained.at);
    s->others.at = calloc(room + (given ? (size_t)given->n : 0), sizeof *s->others.at);
    if (!s->trained.at || !s->others.at) return rt_error_set(err, RT_E_MEMORY, "out of memory for cameras");
    if (s->listed) memcpy(s->trained.at, s->all.at, (size_t)s->all.n * sizeof *s->all.at);
    s->trained.n = s->all.n;
    if (!s->listed) walk_orbit(&scene->spec.orbit, false, &s->trained);
    find_others(s, given, &scene->spec.orbit);
    thin(&s->trained);
    thin(&s->others);
    return RT_OK;
}

static void sights_free(sights *s)
{
    rt_cameras_free(&s->all);
    rt_cameras_free(&s->trained);
    rt_cameras_free(&s->others);
}

/* ---- the gap */

typedef struct asked {
    cli_call *c;
    rt_model *teacher;
    const recipe *recipe;
    const sights *sights;
    rt_scene *scene;
    int particle;
} asked;

/* Does it know each camera of a file by a label of its own? */
static bool by_label(const rt_model_info *info) { return info->classes > 0 && !info->words && !info->camera; }

/* What the teacher is asked for at a camera: the class, the label of class and camera, or the prompt and the view. It knows the cameras of a file and no others. */
static rt_status label_at(const asked *a, const rt_camera *camera, int64_t *y, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(a->teacher);
    const sights *s = a->sights;
    const rt_camera *known = s->listed ? nearest(&s->all, camera) : camera;
    int64_t K = a->recipe->label > 0 ? a->recipe->label : 0;
    *y = s->listed && by_label(info) ? K * s->all.n + known->label : K;
    if (!info->words && (*y < 0 || *y >= info->classes || *y == info->null_class))
        return rt_error_set(err, RT_E_USAGE,
                            "%s: class %lld at a camera is its label %lld, and it has %lld; give the teacher of these cameras",
                            info->chosen, (long long)K, (long long)*y, (long long)(info->classes - (info->null_class >= 0)));
    if (!info->words) return RT_OK;
    char prompt[1024];
    const char *text = cli_given(a->c, "prompt") ? cli_text(a->c, "prompt") : a->recipe->prompt;
    if (!*text) return rt_error_set(err, RT_E_USAGE, "%s is told words, and scene.json has no prompt; give --prompt", info->chosen);
    snprintf(prompt, sizeof prompt, "%s%s%s", text, *known->view ? ", " : "", known->view);
    return rt_words_label(info->words, prompt, y, err);
}

static rt_status measure(const asked *a, const rt_cameras *cameras, const cli_views *v, double mean[TIMES], rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(a->teacher);
    size_t n = (size_t)cameras->n;
    int64_t *y = malloc(n * sizeof *y);
    double *squares = malloc(n * (1 + RT_CAMERA_NUMBERS) * sizeof *squares), *matrices = squares + n;
    rt_status status = y && squares ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %zu cameras", n);
    for (size_t i = 0; i < n && status == RT_OK; i++) {
        memcpy(matrices + i * RT_CAMERA_NUMBERS, cameras->at[i].c2w, RT_CAMERA_NUMBERS * sizeof *matrices);
        status = info->classes ? label_at(a, &cameras->at[i], &y[i], err) : RT_OK;
    }
    for (int k = 0; k < TIMES && status == RT_OK; k++) {
        rt_gap g = {cameras->n, v->x, info->classes ? y : NULL, matrices, times[k], a->c->seed};
        status = rt_model_gap(a->teacher, &g, squares, err);
        mean[k] = 0;
        for (size_t i = 0; i < n && status == RT_OK; i++) mean[k] += squares[i] / (double)n;
        if (status == RT_OK && !isfinite(mean[k]))
            status = rt_error_set(err, RT_E_INVALID, "%s: its prediction at t = %g is not finite; give a model that draws pictures",
                                  info->chosen, times[k]);
    }
    free(y);
    free(squares);
    return status;
}

/* Renders the cameras and asks. `which`: of the others. */
static rt_status gap_at(const asked *a, const rt_cameras *cameras, const char *which, json_t **o, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(a->teacher);
    rt_scene_spec spec = a->scene->spec;
    cli_views v = {0};
    double mean[TIMES], all = 0;
    spec.height = (int)info->shape[1], spec.width = (int)info->shape[2];
    spec.low = info->low, spec.high = info->high;
    if (info->shape[0] == 4 || spec.background == RT_ALPHA || spec.background == RT_RANDOM)
        spec.background = info->shape[0] == 4 ? RT_ALPHA : RT_WHITE;
    rt_status status = cli_render(a->c, a->scene, &spec, a->particle, cameras, false, &v, err);
    if (status == RT_OK) status = measure(a, cameras, &v, mean, err);
    cli_views_free(&v);
    TRY(status);
    for (int k = 0; k < TIMES; k++) all += mean[k] / TIMES, mean[k] = sqrt(mean[k]);
    *o = json_pack("{s:i, s:f, s:o}", "cameras", cameras->n, "rms", sqrt(all), "rms_at", cli_json_reals(mean, TIMES));
    if (which) json_object_set_new(*o, "which", json_string(which));
    return RT_OK;
}

static rt_status ask(asked *a, const char *path, const rt_cameras *given, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(a->teacher);
    sights s = {0};
    json_t *trained = NULL, *others = NULL;
    if (info->rank != 3 || (info->shape[0] != 3 && info->shape[0] != 4))
        return rt_error_set(err, RT_E_USAGE, "%s: makes no pictures of 3 or 4 channels, as those of a scene are", path);
    if (cli_given(a->c, "prompt") && !info->words)
        return rt_error_set(err, RT_E_USAGE, "--prompt: %s is told no words; leave it out", path);
    a->sights = &s;
    rt_status status = choose(&s, a->recipe, a->c, a->scene, given, by_label(info), err);
    if (status == RT_OK) status = gap_at(a, &s.trained, NULL, &trained, err);
    if (status == RT_OK && s.others.n > 0) status = gap_at(a, &s.others, s.which, &others, err);
    if (others && s.listed && by_label(info))
        cli_remark(a->c,
                   "the teacher is asked by labels and knows the cameras of the training alone: elsewhere it is asked for the nearest of "
                   "them, so that the gap there holds what a picture changes from one to the other");
    if (status == RT_OK && s.others.n == 0)
        cli_remark(a->c, "no camera lies between or beyond those of the training, so the gap there is left out");
    if (status == RT_OK)
        cli_put(a->c, "teacher_gap",
                json_pack("{s:s, s:s?, s:o, s:O, s:o}", "teacher", path, "sha256", *info->sha256 ? info->sha256 : NULL, "times",
                          cli_json_reals(times, TIMES), "trained", trained, "others", others ? others : json_null()));
    json_decref(trained);
    if (status != RT_OK) json_decref(others);
    sights_free(&s);
    return status;
}

/* Does the model of a recipe still exist? */
static bool is_there(const char *path) { return access(strncmp(path, "oracle:", 7) ? path : path + 7, F_OK) == 0; }

rt_status cli_eval_gap(cli_call *c, rt_scene *scene, int particle, const rt_cameras *given, rt_error *err)
{
    recipe r = read_recipe(scene);
    const char *path = cli_given(c, "teacher") ? cli_text(c, "teacher") : r.teacher;
    asked a = {.c = c, .recipe = &r, .scene = scene, .particle = particle};
    char text[sizeof err->text + 64] = "";
    rt_error own = {0};
    rt_status status = RT_OK;
    if (!*path)
        snprintf(text, sizeof text, "the teacher's gap is left out: scene.json names no teacher; give --teacher MODEL");
    else if (!cli_given(c, "teacher") && !is_there(path))
        snprintf(text, sizeof text, "the teacher's gap is left out: %.600s, the teacher by scene.json, is not there; give --teacher MODEL",
                 path);
    else
        status = cli_open_model(c, path, &a.teacher, &own);
    if (a.teacher) status = ask(&a, path, given, &own);
    bool unfit = status == RT_E_USAGE || status == RT_E_INVALID || status == RT_E_IO;
    if (unfit && !cli_given(c, "teacher") && !cli_given(c, "prompt")) {
        snprintf(text, sizeof text, "the teacher's gap is left out: %s", own.text);
        status = RT_OK;
    }
    if (status != RT_OK) *err = own;
    cli_remark(c, text);
    rt_model_free(a.teacher);
    json_decref(r.json);
    return status;
}

static void print_row(const cli_call *c, const char *name, const json_t *row)
{
    const char *which = json_string_value(json_object_get(row, "which"));
    fprintf(c->text, "%-18s %-8.4g", name, json_number_value(json_object_get(row, "rms")));
    for (size_t k = 0; k < TIMES; k++)
        fprintf(c->text, "%s%.3g at t = %g", k ? ", " : " ", json_number_value(json_array_get(json_object_get(row, "rms_at"), k)),
                times[k]);
    fprintf(c->text, "; %lld cameras%s\n", (long long)json_integer_value(json_object_get(row, "cameras")),
            !which                     ? ""
            : !strcmp(which, "file")   ? " of --cameras"
            : !strcmp(which, "beyond") ? " beyond those"
                                       : " between those");
}

void cli_print_gap(const cli_call *c)
{
    const json_t *gap = json_object_get(c->result, "teacher_gap");
    if (gap) print_row(c, "gap, trained", json_object_get(gap, "trained"));
    if (json_is_object(json_object_get(gap, "others"))) print_row(c, "gap, others", json_object_get(gap, "others"));
}
