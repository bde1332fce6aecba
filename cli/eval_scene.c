/* eval_scene.c -- retort eval of a scene: against the true views of its object; or against other pictures through a classifier, and by itself. */
#include "evaluation.h"
#include "scenes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VIEWS = 24, ELEVATION = 20 }; /* where no cameras are given: those of `retort render` */

static json_t *view_json(double psnr, double ssim, double alpha, bool has_alpha)
{
    json_t *o = json_pack("{s:o, s:o}", "psnr_db", cli_json_real(psnr), "ssim", cli_json_real(ssim));
    if (has_alpha) json_object_set_new(o, "alpha_psnr_db", cli_json_real(alpha));
    return o;
}

/* ---- true views */

typedef struct truth {
    int64_t n;
    int channels, height, width;
    float *x;     /* over white: [n][3][H][W], 0..1 */
    float *alpha; /* [n][H][W]; NULL: unknown */
} truth;

static void truth_free(truth *t)
{
    free(t->x);
    free(t->alpha);
}

/* Pictures [4][H][W] of colour times coverage and coverage as colour over white and coverage. */
static void over_white(const float *x, size_t plane, float *colour, float *alpha)
{
    memcpy(alpha, x + 3 * plane, plane * sizeof *alpha);
    for (size_t i = 0; i < 3 * plane; i++) colour[i] = x[i] + 1 - alpha[i % plane];
}

/* Tensor `alpha` [n,H,W] of a file whose pictures are on white. */
static rt_status read_alpha(truth *t, const char *path, rt_error *err)
{
    size_t n = strlen(path);
    rt_tensor alpha = {0};
    if (n < 12 || strcmp(path + n - 12, ".safetensors") != 0) return RT_OK;
    TRY(cli_read_tensor(path, "alpha", RT_F32, true, &alpha, err));
    if (!alpha.data) return RT_OK;
    bool fits = alpha.rank == 3 && alpha.shape[0] == t->n && alpha.shape[1] == t->height && alpha.shape[2] == t->width;
    float most = 0;
    for (int64_t i = 0; fits && i < rt_tensor_count(&alpha); i++) most = fmaxf(most, ((float *)alpha.data)[i]);
    for (int64_t i = 0; fits && most > 1 && i < rt_tensor_count(&alpha); i++) ((float *)alpha.data)[i] /= 255; /* bytes */
    if (fits) {
        t->alpha = alpha.data;
        return RT_OK;
    }
    char have[128];
    rt_shape_text(have, sizeof have, alpha.rank, alpha.shape);
    rt_tensor_free(&alpha);
    return rt_error_set(err, RT_E_INVALID, "%s: tensor 'alpha' is %s; must be %lldx%dx%d, as x is", path, have, (long long)t->n, t->height,
                        t->width);
}

/* Bytes are read as 0..1; other numbers are those of `range`. */
static rt_status read_truth(truth *t, rt_dataset *data, const char *path, const double range[2], rt_error *err)
{
    const rt_dataset_info *info = rt_dataset_describe(data);
    *t = (truth){.n = info->count, .channels = (int)info->shape[0], .height = (int)info->shape[1], .width = (int)info->shape[2]};
    size_t plane = (size_t)t->height * (size_t)t->width, n = (size_t)t->n;
    float *one = malloc((size_t)info->features * sizeof *one);
    t->x = malloc(n * 3 * plane * sizeof *t->x);
    if (t->channels == 4) t->alpha = malloc(n * plane * sizeof *t->alpha);
    rt_status status = one && t->x && (t->channels == 3 || t->alpha) ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    rt_dataset_range(data, 0, 1, false);
    for (size_t i = 0; i < n && status == RT_OK; i++) {
        rt_dataset_read(data, (int64_t)i, one, NULL);
        for (int64_t k = 0; !info->pictures && k < info->features; k++)
            one[k] = (float)(((double)one[k] - range[0]) / (range[1] - range[0]));
        if (t->channels == 4)
            over_white(one, plane, t->x + i * 3 * plane, t->alpha + i * plane);
        else
            memcpy(t->x + i * 3 * plane, one, 3 * plane * sizeof *one);
    }
    free(one);
    return status == RT_OK && t->channels == 3 ? read_alpha(t, path, err) : status;
}

static void print_view(cli_call *c, const char *name, double psnr, double ssim, double alpha, bool has_alpha)
{
    if (c->json) return;
    fprintf(c->text, "%-6s %9.2f %8.4f", name, psnr, ssim);
    if (has_alpha) fprintf(c->text, " %9.2f", alpha);
    fputc('\n', c->text);
}

/* PSNR and SSIM of every view, and the means of both. */
static rt_status compare(cli_call *c, const truth *t, const cli_views *v, rt_error *err)
{
    size_t plane = (size_t)t->height * (size_t)t->width;
    float *colour = malloc(3 * plane * sizeof *colour), *alpha = malloc(plane * sizeof *alpha);
    json_t *views = json_array();
    double all[3] = {0};
    bool known = t->alpha;
    rt_status status = colour && alpha ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for pictures");
    if (status == RT_OK && !c->json) fprintf(c->text, "%-6s %9s %8s%s\n", "view", "PSNR, dB", "SSIM", known ? " alpha, dB" : "");
    for (size_t i = 0; status == RT_OK && i < (size_t)t->n; i++) {
        char name[24];
        snprintf(name, sizeof name, "%zu", i);
        over_white(v->x + i * 4 * plane, plane, colour, alpha);
        double psnr = rt_psnr((int64_t)(3 * plane), colour, t->x + i * 3 * plane, 1);
        double ssim = rt_ssim(3, t->height, t->width, colour, t->x + i * 3 * plane, 1);
        double of_alpha = known ? rt_psnr((int64_t)plane, alpha, t->alpha + i * plane, 1) : NAN;
        all[0] += psnr, all[1] += ssim, all[2] += of_alpha;
        json_array_append_new(views, view_json(psnr, ssim, of_alpha, known));
        print_view(c, name, psnr, ssim, of_alpha, known);
    }
    for (int k = 0; k < 3; k++) all[k] /= (double)t->n;
    if (status == RT_OK) print_view(c, "mean", all[0], all[1], all[2], known);
    cli_put(c, "views", views);
    cli_put(c, "mean", view_json(all[0], all[1], all[2], known));
    free(colour);
    free(alpha);
    return status;
}

static rt_status against_views(cli_call *c, rt_scene *scene, int particle, const rt_cameras *cameras, rt_dataset *data, rt_error *err)
{
    const rt_dataset_info *info = rt_dataset_describe(data);
    const char *path = cli_text(c, "reference"), *file = cli_text(c, "cameras");
    truth t = {0};
    cli_views v = {0};
    double usual[2] = {-1, 1}, *range = NULL;
    rt_scene_spec spec = scene->spec;
    int given = cli_reals(c, "data-range", -1e6, 1e6, &range);
    if (given && (given != 2 || range[0] >= range[1]))
        return rt_error_set(err, RT_E_USAGE, "--data-range: '%s' is not LOW,HIGH with LOW < HIGH", cli_text(c, "data-range"));
    if (!file)
        return rt_error_set(err, RT_E_USAGE, "--cameras is missing: the transforms.json of the %lld views of %s", (long long)info->count,
                            path);
    if (info->count != cameras->n)
        return rt_error_set(err, RT_E_USAGE,
                            "%s has %d cameras, %s %lld pictures; views of one object are as many; --features CLASSIFIER compares others",
                            file, cameras->n, path, (long long)info->count);
    if (info->rank != 3 || (info->shape[0] != 3 && info->shape[0] != 4))
        return rt_error_set(err, RT_E_USAGE, "--reference %s: views must have 3 channels, on white, or 4, with alpha", path);
    spec.height = (int)info->shape[1], spec.width = (int)info->shape[2];
    spec.background = RT_ALPHA;
    spec.low = 0, spec.high = 1;
    rt_status status = read_truth(&t, data, path, given ? range : usual, err);
    if (status == RT_OK) status = cli_render(c, scene, &spec, particle, cameras, false, &v, err);
    if (status == RT_OK) status = compare(c, &t, &v, err);
    cli_views_free(&v);
    truth_free(&t);
    return status;
}

/* ---- pictures of other objects */

/* The classes that are hoped for: --class K for all, or `label`, each camera's label. NULL: nothing is. */
static rt_status wanted_classes(cli_call *c, const rt_cameras *cameras, int64_t **y, rt_error *err)
{
    const char *text = cli_text(c, "class");
    double k = 0;
    *y = NULL;
    if (!cli_given(c, "class")) return RT_OK;
    bool labels = strcmp(text, "label") == 0;
    if (!labels && (!cli_number(text, &k) || k < 0 || k > 1e6 || k != floor(k)))
        return rt_error_set(err, RT_E_USAGE, "--class: '%s' is neither a class number nor label (the class is the camera's label)", text);
    *y = malloc((size_t)cameras->n * sizeof **y);
    if (!*y) return rt_error_set(err, RT_E_MEMORY, "out of memory for %d classes", cameras->n);
    for (int i = 0; i < cameras->n; i++) (*y)[i] = labels ? cameras->at[i].label : (int64_t)k;
    return RT_OK;
}

static rt_status measure(cli_call *c, cli_judge *judge, const cli_views *v, const int64_t *y, rt_error *err)
{
    const int64_t shape[] = {v->channels, v->height, v->width};
    const double range[2] = {v->low, v->high};
    double values[CLI_MOST_MEASURES], share;
    float *points = NULL;
    rt_status status = cli_judge_points(judge, c, v->n, 3, shape, v->x, y, range, &points, &share, err);
    if (status == RT_OK) status = cli_judge_measure(judge, v->n, points, values, err);
    free(points);
    TRY(status);
    json_t *metrics = json_object();
    for (int m = 0; m < judge->n_measures; m++) {
        json_object_set_new(metrics, judge->measures[m]->name, cli_json_real(values[m]));
        if (!c->json) fprintf(c->text, "%-18s %.5g\n", judge->measures[m]->name, values[m]);
    }
    if (y && !c->json) fprintf(c->text, "%-18s %.1f%%\n", "in class", 100 * share);
    cli_put(c, "metrics", metrics);
    cli_put(c, "class_share", cli_json_real(share));
    return RT_OK;
}

static rt_status against_pictures(cli_call *c, rt_scene *scene, int particle, const rt_cameras *cameras, rt_error *err)
{
    cli_judge judge = {0};
    cli_views v = {0};
    int64_t *y = NULL;
    rt_scene_spec spec = scene->spec;
    rt_status status = wanted_classes(c, cameras, &y, err);
    if (status == RT_OK) status = cli_judge_open(&judge, c, cameras->n, err);
    if (status == RT_OK) {
        const rt_model_info *f = rt_model_get_info(judge.features);
        spec.height = f->rank == 3 ? (int)f->shape[1] : spec.height;
        spec.width = f->rank == 3 ? (int)f->shape[2] : spec.width;
        spec.background = f->shape[0] == 4 ? RT_ALPHA : RT_WHITE;
        status = cli_render(c, scene, &spec, particle, cameras, false, &v, err);
    }
    if (status == RT_OK) {
        json_t *setting = cli_judge_json(&judge, cli_text(c, "reference"), cli_text(c, "features"));
        json_object_set_new(setting, "n", json_integer(cameras->n));
        cli_put(c, "setting", setting);
    }
    if (status == RT_OK) status = measure(c, &judge, &v, y, err);
    cli_judge_close(&judge);
    cli_views_free(&v);
    free(y);
    return status;
}

/* ---- what needs no pictures */

static rt_status colours(cli_call *c, rt_scene *scene, int particle, const rt_cameras *cameras, rt_error *err)
{
    rt_seen_twice o;
    TRY(rt_scene_seen_twice(&scene->spec, scene->set, particle, cameras->at, cameras->n, cli_threads(c), &o, err));
    double share = o.pixels > 0 ? (double)o.compared / (double)o.pixels : NAN;
    cli_put(c, "seen_twice",
            json_pack("{s:o, s:o, s:I, s:i}", "rms", cli_json_real(o.rms), "compared_share", cli_json_real(share), "pixels",
                      (json_int_t)o.pixels, "cameras", o.cameras));
    if (!c->json && o.compared > 0)
        fprintf(c->text, "%-18s %-8.4g %.1f%% of %lld pixels compared; %d cameras\n", "colour, seen twice", o.rms, 100 * share,
                (long long)o.pixels, o.cameras);
    else if (!c->json)
        fprintf(c->text, "%-18s %-8s no point is seen from two cameras\n", "colour, seen twice", "-");
    return RT_OK;
}

/* ---- the command */

static rt_status evaluate(cli_call *c, const char *path, rt_scene *scene, int particle, rt_cameras *cameras, rt_error *err)
{
    const char *file = cli_text(c, "cameras"), *reference = cli_text(c, "reference");
    rt_dataset *data = NULL;
    if (scene->spec.kind != RT_SCENE_GRID)
        return rt_error_set(err, RT_E_USAGE, "%s: the scene is a picture; 'retort render' writes it, and eval measures that file", path);
    bool true_views = reference && !cli_text(c, "features");
    if (true_views && (cli_given(c, "teacher") || cli_given(c, "prompt")))
        return rt_error_set(
            err, RT_E_USAGE,
            "--teacher, --prompt: are not asked where --reference holds the true views; leave them out, or give --features");
    TRY(file ? rt_cameras_open(cameras, file, err) : cli_turntable(cameras, &scene->spec, VIEWS, ELEVATION, err));
    cli_put(c, "scene", cli_scene_json(path, scene));
    cli_put(c, "particle", json_integer(particle));
    cli_put(c, "cameras", file ? json_string(file) : json_null());
    if (c->dry_run) {
        cli_print_config(c, c->text);
        return RT_OK;
    }
    if (!true_views) {
        TRY(cli_eval_gap(c, scene, particle, file ? cameras : NULL, err)); /* what may be wrong is said before the first row */
        if (cli_text(c, "features")) TRY(against_pictures(c, scene, particle, cameras, err));
        TRY(colours(c, scene, particle, cameras, err));
        if (!c->json) cli_print_gap(c);
        return RT_OK;
    }
    TRY(rt_dataset_open_fit(&data, reference, cli_fit(c), err));
    cli_remark(c, rt_dataset_describe(data)->remark);
    rt_status status = against_views(c, scene, particle, cameras, data, err);
    rt_dataset_free(data);
    return status;
}

rt_status cli_eval_scene(cli_call *c, const char *path, rt_error *err)
{
    rt_scene *scene = NULL;
    rt_cameras cameras = {0};
    int particle;
    static const char *const of_models[] = {"n",     "steps",     "seeds",    "teacher-steps",     "save-statistics",  "solver",
                                            "grid",  "guide",     "guidance", "guidance-interval", "guidance-rescale", "eta",
                                            "churn", "tolerance", "batch",    "save-student"};
    static const char *const of_pictures[] = {"features", "metrics", "class", "floor", "data-range"};
    for (size_t i = 0; i < sizeof of_models / sizeof *of_models; i++)
        if (cli_given(c, of_models[i])) cli_wrong(c, of_models[i], "is of models; %s is a scene", path);
    for (size_t i = 0; i < sizeof of_pictures / sizeof *of_pictures && !cli_text(c, "reference"); i++)
        if (cli_given(c, of_pictures[i])) cli_wrong(c, of_pictures[i], "is for pictures to compare with; give --reference DATA, too");
    (void)cli_fit(c);
    TRY(cli_open_scene(c, path, &scene, &particle, err));
    rt_status status = evaluate(c, path, scene, particle, &cameras, err);
    rt_cameras_free(&cameras);
    rt_scene_free(scene);
    return status;
}
