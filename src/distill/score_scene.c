/* score_scene.c -- settings and the plan of a scene that follows scores: see score_scene.h. */
#include "distill/score_scene.h"

#include "base/internal.h"
#include "distill/scene_painting.h"
#include "model/classes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(rt__scene_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT rt__scene_settings
#define OPTION(key, f, option_, arg, value_, help_)                                                                                        \
    {                                                                                                                                      \
        .name = key, .kind = RT_KEY_TEXT, RT__AT(f), .value = value_, .help = help_, .option = option_, .argument = arg                    \
    }
#define LIST(key, f, low, high, value_, help_)                                                                                             \
    {                                                                                                                                      \
        .name = key, .kind = RT_KEY_INTS, RT__AT(f), .count_offset = offsetof(STRUCT, n_##f), .min = low, .max = high, .value = value_,    \
        .help = help_, .argument = "N[,N...]"                                                                                              \
    }
const rt_config_key rt__scene_keys[RT__SCENE_KEYS] = {
    OPTION("scene.kind", kind, "scene", "NAME", "", "what is made: row of `retort list scenes`"),
    RT__TEXT("scene.cameras", cameras, "orbit", "FILE",
             "transforms.json, whose cameras the teacher knows by their labels; orbit: drawn from ranges"),
    RT__KEY(RT_KEY_INT64, "scene.class", label, -1, 1 << 30, "-1", "what of a teacher with classes; -1: class 0"),
    RT__TEXT("scene.prompt", prompt, "", "TEXT", "what of a teacher with words; the camera's view is added"),
    LIST("scene.nodes", nodes, 2, 512, "32", "nodes per side; a list grows, from round to round"),
    LIST("scene.samples", samples, 1, 1024, "64", "samples per ray; a list goes with that of the nodes"),
    LIST("scene.size", size, 0, 4096, "0", "pixels per side; 0: as the teacher's pictures"),
    RT__TEXT("scene.background", background, "", "NAME",
             "white, black, grey, random, or alpha: pictures of colour times coverage and coverage; empty: alpha where the teacher's have "
             "four channels, else white"),
    RT__TEXT("scene.azimuth", azimuth, "0,360", "LOW,HIGH", "of cameras that are drawn, degrees"),
    RT__TEXT("scene.elevation", elevation, "0,55", "LOW,HIGH", "of cameras that are drawn, degrees"),
    RT__TEXT("scene.distance", distance, "3.2,3.2", "LOW,HIGH", "of cameras that are drawn, in half sides of the box"),
    RT__TEXT("scene.fovy", fovy, "36,36", "LOW,HIGH", "field of view of cameras that are drawn, degrees"),
    OPTION("scene.init", init, "scene-init", "WHAT", "blob", "blob, empty, rough, or a scene to go on from"),
    {.name = "scene.lr",
     .kind = RT_KEY_REAL,
     RT__AT(lr),
     .min = 0,
     .max = 1e3,
     .value = "0",
     .option = "scene-lr",
     .help = "learning rate of the scene; 0: train.lr, and where that is 0, too, 0.3 of a grid and 0.03 of pictures"},
    RT__REAL("scene.smooth", smooth, 0, 1e9, "0", "weight of the mean squared difference of neighbouring nodes"),
    RT__REAL("scene.entropy", entropy, 0, 1e9, "0", "weight of the entropy of opacity, summed over pixels: against fog"),
    RT__REAL("scene.sparse", sparse, 0, 1e9, "0", "weight of the mean opacity: against floaters"),
    RT__INT("scene.particles", particles, 1, 64, "1", "scenes that are trained together"),
};

/* ---- what the settings say */

bool rt__scene_affine(const rt_task *t) { return !strcmp(t->config->net, "affine"); }

static int longest(const rt__scene_settings *own)
{
    int n = own->n_nodes;
    if (own->n_samples > n) n = own->n_samples;
    return own->n_size > n ? own->n_size : n;
}

static int nth(const int *list, int n, int i) { return list[i < n ? i : n - 1]; }

static int channels_of(const rt_task *t) { return t->rank == 4 ? (int)t->shape[1] : 1; }

/* LOW,HIGH, or one number. */
static rt_status read_range(const char *key, const char *text, double range[2], rt_error *err)
{
    int one = 0, two = 0, n = sscanf(text, "%lf%n,%lf%n", &range[0], &one, &range[1], &two);
    if (n == 1 && !text[one]) {
        range[1] = range[0];
        return RT_OK;
    }
    if (n != 2 || text[two] || !(range[0] <= range[1]) || !isfinite(range[0]) || !isfinite(range[1]))
        RT_RAISE(RT_E_USAGE, "%s: '%s'; give LOW,HIGH with LOW <= HIGH", key, text);
    return RT_OK;
}

static rt_status read_orbit(const rt__scene_settings *own, rt_orbit *o, rt_error *err)
{
    RT_TRY(read_range("scene.azimuth", own->azimuth, o->azimuth, err));
    RT_TRY(read_range("scene.elevation", own->elevation, o->elevation, err));
    RT_TRY(read_range("scene.distance", own->distance, o->distance, err));
    RT_TRY(read_range("scene.fovy", own->fovy, o->fovy, err));
    if (o->elevation[0] < -89 || o->elevation[1] > 89)
        RT_RAISE(RT_E_USAGE, "scene.elevation: '%s'; give degrees within -89,89", own->elevation);
    if (!(o->distance[0] > 0)) RT_RAISE(RT_E_USAGE, "scene.distance: '%s'; must be more than 0", own->distance);
    if (!(o->fovy[0] > 0 && o->fovy[1] < 180)) RT_RAISE(RT_E_USAGE, "scene.fovy: '%s'; give degrees between 0 and 180", own->fovy);
    return RT_OK;
}

static rt_status read_spec(const rt_task *t, int round, rt_scene_spec *s, rt_error *err)
{
    const rt__scene_settings *own = rt__scene_own(t);
    bool grid = !strcmp(own->kind, "grid");
    int C = channels_of(t), H = t->rank == 4 ? (int)t->shape[2] : 1, W = t->rank == 4 ? (int)t->shape[3] : (int)t->features;
    int nodes = nth(own->nodes, own->n_nodes, round), size = nth(own->size, own->n_size, round);
    *s = rt_scene_defaults(grid ? RT_SCENE_GRID : RT_SCENE_IMAGE);
    s->particles = own->particles;
    for (int i = 0; i < 3; i++) s->nodes[i] = nodes;
    s->samples = nth(own->samples, own->n_samples, round);
    s->channels = C;
    s->height = H;
    s->width = W;
    s->low = t->low;
    s->high = t->high;
    s->background = C == 4 ? RT_ALPHA : RT_WHITE;
    if (*own->background) RT_TRY(rt_background_find(&s->background, own->background, err));
    RT_TRY(read_orbit(own, &s->orbit, err));
    if (size > 0 && (size != H || size != W))
        RT_RAISE(RT_E_USAGE, "scene.size: %d, but the teacher's pictures are %dx%d, and it takes no others; leave it out", size, H, W);
    if (!grid) return rt_scene_check(s, err);
    if (t->rank != 4)
        RT_RAISE(RT_E_USAGE, "%s: is a teacher of %lld numbers; a grid is seen in pictures: give --scene image", t->config->teacher,
                 (long long)t->features);
    if (C != 3 && C != 4)
        RT_RAISE(RT_E_USAGE, "%s: its pictures have %d channel%s; those of a grid have 3, or 4 with alpha", t->config->teacher, C,
                 C > 1 ? "s" : "");
    if (rt_scene_channels(s) != C)
        RT_RAISE(RT_E_USAGE, "scene.background: %s makes pictures of %d channels, and the teacher's have %d; give %s",
                 rt_background_name(s->background), rt_scene_channels(s), C, C == 4 ? "alpha" : "white, black, grey or random");
    return rt_scene_check(s, err);
}

rt_scene_spec rt__scene_spec(const rt_task *t, int round)
{
    rt_scene_spec s;
    (void)read_spec(t, round, &s, NULL); /* the plan has seen that it can be read */
    return s;
}

rt__zeta rt__scene_zeta(const rt_task *t)
{
    const char *name = rt__scene_own(t)->zeta;
    return !strcmp(name, "subtract")                ? RT__ZETA_NOISE
           : !strcmp(name, "keep")                  ? RT__ZETA_NONE
           : !strcmp(name, "network")               ? RT__ZETA_NETWORK
           : !strcmp(name, "blind")                 ? RT__ZETA_BLIND
           : !strcmp(name, "exact")                 ? RT__ZETA_EXACT
           : t->teacher.net && !rt__scene_affine(t) ? RT__ZETA_NETWORK
                                                    : RT__ZETA_EXACT;
}

/* ---- what the teacher is asked for */

static bool is_grid(const rt__scene_settings *own) { return !strcmp(own->kind, "grid"); }

/* A teacher that is told the camera's matrix. */
static bool has_matrix(const rt_task *t) { return t->teacher.net && rt_net_describe(t->teacher.net)->camera; }

/* Each camera of the file has a label of the teacher's. */
static bool by_labels(const rt_task *t)
{
    const rt__scene_settings *own = rt__scene_own(t);
    return is_grid(own) && strcmp(own->cameras, "orbit") != 0 && !t->words && t->classes > 0 && !has_matrix(t);
}

static rt_status check_labels(const rt_task *t, const rt_cameras *cameras, rt_error *err)
{
    const rt__scene_settings *own = rt__scene_own(t);
    long long K = own->label > 0 ? own->label : 0, C = cameras->n, usual = rt__usual_classes(t->classes, t->null_class);
    for (int i = 0; i < cameras->n; i++) {
        long long label = K * C + cameras->at[i].label;
        if (label < 0 || label >= t->classes || (usual < (K + 1) * C && cameras->at[i].label == i))
            RT_RAISE(RT_E_USAGE,
                     "%s: camera %d of class %lld is label %lld, and the teacher has %lld; give a teacher that was trained with the label "
                     "class * %lld + "
                     "camera, or --cameras orbit, where the teacher is not told the camera",
                     own->cameras, i, K, label, usual, C);
    }
    return RT_OK;
}

/* The prompt as it is asked at a camera: with its view. */
static rt_status prompt_label(const rt_task *t, const char *view, int64_t *label, rt_error *err)
{
    char prompt[256 + RT_VIEW_WORD + 2];
    snprintf(prompt, sizeof prompt, "%s%s%s", rt__scene_own(t)->prompt, *view ? ", " : "", view);
    return rt_words_label(t->words, prompt, label, err);
}

static rt_status check_prompt(const rt_task *t, const rt_cameras *cameras, rt_error *err)
{
    const rt__scene_settings *own = rt__scene_own(t);
    int64_t label;
    if (own->label >= 0)
        RT_RAISE(RT_E_USAGE, "scene.class: %lld, but %s is told words; give --prompt", (long long)own->label, t->config->teacher);
    if (!*own->prompt) RT_RAISE(RT_E_USAGE, "%s is told words; give --prompt, such as \"a red chair\"", t->config->teacher);
    rt_status s = prompt_label(t, "", &label, err);
    char where[RT_CONFIG_TEXT + 64] = "scene.prompt";
    for (int i = 0; i < cameras->n && s == RT_OK; i++) {
        snprintf(where, sizeof where, "scene.prompt with frames[%d].view of %s", i, own->cameras);
        s = prompt_label(t, cameras->at[i].view, &label, err);
        if (s == RT_OK && !*cameras->at[i].view != !*cameras->at[0].view)
            s = rt_error_set(err, RT_E_USAGE, "some frames have a view and others have none; give all of them one, or none");
    }
    for (int i = 0; i < 360 && cameras->n == 0 && s == RT_OK && !strcmp(own->kind, "grid"); i += 45) /* all views that can be drawn */
        for (int up = 0; up < 90 && s == RT_OK; up += 45) {
            snprintf(where, sizeof where, "scene.prompt with the view of a camera that is drawn (--cameras FILE gives others)");
            s = prompt_label(t, rt_camera_orbit(i, up, 1, 36).view, &label, err);
        }
    if (s != RT_OK) rt_error_prefix(err, where);
    return s;
}

static rt_status check_classes(const rt_task *t, const rt_cameras *cameras, rt_error *err)
{
    const rt__scene_settings *own = rt__scene_own(t);
    if (*own->prompt)
        RT_RAISE(RT_E_USAGE, "scene.prompt: '%s', but %s was trained without words; give --class, or a teacher with words", own->prompt,
                 t->config->teacher);
    if (own->label >= 0 && t->classes == 0)
        RT_RAISE(RT_E_USAGE, "scene.class: %lld, but %s has no classes; leave it out", (long long)own->label, t->config->teacher);
    if (by_labels(t)) return check_labels(t, cameras, err);
    if (own->label >= 0 && own->label >= t->classes)
        RT_RAISE(RT_E_USAGE, "scene.class: %lld, but the teacher's classes are 0 to %d", (long long)own->label, t->classes - 1);
    return RT_OK;
}

static rt_status check_asked(const rt_task *t, rt_error *err)
{
    rt_cameras cameras = {0}; /* in the order of the file, whose frames messages name */
    const rt__scene_settings *own = rt__scene_own(t);
    if (!strcmp(own->kind, "grid") && strcmp(own->cameras, "orbit") != 0) RT_TRY(rt_cameras_open(&cameras, own->cameras, err));
    rt_status s = t->words ? check_prompt(t, &cameras, err) : check_classes(t, &cameras, err);
    rt_cameras_free(&cameras);
    return s;
}

bool rt__scene_is_told(const rt_task *t) { return is_grid(rt__scene_own(t)) && (t->words || has_matrix(t) || by_labels(t)); }

int64_t rt__scene_label(const rt_task *t, const rt_camera *camera, int n_cameras)
{
    const rt__scene_settings *own = rt__scene_own(t);
    int64_t K = own->label > 0 ? own->label : 0;
    if (t->words) return prompt_label(t, camera->view, &K, NULL) == RT_OK ? K : t->null_class; /* the plan has seen that it can be asked */
    return by_labels(t) ? K * n_cameras + camera->label : K;
}

int64_t rt__scene_blind_label(const rt_task *t)
{
    const rt__scene_settings *own = rt__scene_own(t);
    if (t->words) return rt__scene_label(t, &(rt_camera){.view = ""}, 0);
    return by_labels(t) && t->null_class >= 0 ? t->null_class : own->label > 0 && !by_labels(t) ? own->label : 0;
}

/* ---- parameters */

int rt__scene_stage(const rt_task *t, const rt_params *set)
{
    int k = 0;
    return sscanf(rt_params_name(set), "scene-%d", &k) == 1 ? k - 1 : t->plan.n_rounds - 1;
}

static const char *stage_name(int stage, int n)
{
    static const char *const names[] = {"scene-1", "scene-2", "scene-3"};
    return stage == n - 1 ? "scene" : names[stage];
}

rt_network *rt__scene_network(const rt_task *t, int round) { return rt__network(t, stage_name(round, t->plan.n_rounds)); }

static rt_status declare(const rt_task *t, rt_params *set, rt_error *err)
{
    int64_t d = t->features;
    int index;
    if (!rt__scene_affine(t)) {
        rt_scene_spec spec = rt__scene_spec(t, rt__scene_stage(t, set));
        return rt_scene_declare(&spec, set, err);
    }
    RT_TRY(rt_params_add(set, "mean", 1, (int64_t[]){d}, RT_INIT_CONST(0), &index, err));
    return rt_params_add(set, "factor", 2, (int64_t[]){d, d}, RT_INIT_CONST(0), &index, err);
}

/* m = 0, L = I/2. */
static rt_status begin_affine(const rt_task *t, rt_params *set, rt_error *err)
{
    int64_t d = t->features;
    RT_TRY(rt_params_init(set, t->config->seed, err));
    const rt_entry *factor = rt_params_entry(set, rt_params_find(set, "factor"));
    char *values = rt_params_data(set, RT_VALUE);
    for (int64_t i = 0; i < d; i++) rt__store(t->real, values, factor->offset + i * (d + 1), 0.5);
    rt_params_touch(set);
    return RT_OK;
}

static rt_status begin(const rt_task *t, rt_params *set, rt_error *err)
{
    const char *how = rt__scene_own(t)->init;
    if (rt__scene_affine(t)) return begin_affine(t, set, err);
    rt_scene_spec spec = rt__scene_spec(t, rt__scene_stage(t, set));
    for (int i = 0; rt_scene_start_name((rt_scene_start)i); i++)
        if (!strcmp(rt_scene_start_name((rt_scene_start)i), how)) return rt_scene_init(&spec, set, (rt_scene_start)i, t->config->seed, err);
    rt_scene *from = NULL;
    rt_status s = rt_scene_open(&from, how, err);
    if (s != RT_OK) rt_error_prefix(err, "scene.init (blob, empty, rough, or a scene)");
    if (s == RT_OK && from->spec.kind != spec.kind)
        s = rt_error_set(err, RT_E_USAGE, "scene.init: %s is a scene of another kind; give one that --scene names", how);
    if (s == RT_OK) s = rt_scene_init(&spec, set, RT_SCENE_BLOB, t->config->seed, err);
    if (s == RT_OK) s = rt_scene_resample(&spec, set, &from->spec, from->set, err);
    rt_scene_free(from);
    return s;
}

/* ---- the plan */

/* sds or vsd: whose keys the method's own are. */
static const char *family(const rt_task *t) { return t->method->of ? t->method->of : t->method->name; }

static rt_status check_kind(const rt_task *t, rt_error *err)
{
    const rt__scene_settings *own = rt__scene_own(t);
    rt_row_text row;
    const char *names[RT_SCENE_KINDS];
    size_t n = 0;
    bool known = false;
    if (!*own->kind) RT_RAISE(RT_E_USAGE, "%s makes a scene; give --scene grid, or --scene image", rt_method_called(t->config->method));
    for (int i = 0; rt_scene_kind_describe(i, &row); i++) known |= !strcmp(names[n++] = row.name, own->kind);
    const char *close = rt_closest(own->kind, names, n);
    if (!known)
        RT_RAISE(RT_E_USAGE, "scene.kind: '%s'%s%s%s; `retort list scenes` prints all", own->kind, close ? "; did you mean '" : "",
                 close ? close : "", close ? "'?" : "");
    return RT_OK;
}

/* Shared settings that a scene has no use for, and the one network that it may have. */
static rt_status check_shared(const rt_task *t, rt_error *err)
{
    const rt_config *c = t->config;
    const rt__scene_settings *own = rt__scene_own(t);
    if (*c->init) RT_RAISE(RT_E_USAGE, "init: a scene starts from --scene-init, not from a model; leave it out");
    if (c->train.ema > 0) RT_RAISE(RT_E_USAGE, "train.ema: a scene has no average; give 0");
    if (*c->train.freeze) RT_RAISE(RT_E_USAGE, "train.freeze: nothing of a scene can be frozen; leave it out");
    if (!*c->net) return RT_OK;
    if (strcmp(own->kind, "image") != 0)
        RT_RAISE(RT_E_USAGE, "net: '%s', but the scene is a %s and has none; leave it out", c->net, own->kind);
    if (!rt__scene_affine(t))
        RT_RAISE(RT_E_USAGE,
                 "net: '%s', but the generator of --scene image may be affine alone, m + L z; a network is distilled without a scene: "
                 "retort distill vsd --teacher %s --net %s%s",
                 c->net, c->teacher, c->net, t->teacher.net ? "" : " --fake-net FILE.json");
    if (own->particles > 1)
        RT_RAISE(RT_E_USAGE, "scene.particles: %d, but --net affine is a distribution by itself; give 1", own->particles);
    if (t->rank != 2 || t->features > 64)
        RT_RAISE(RT_E_USAGE, "net: affine is for vectors of at most 64 numbers, and the teacher's samples have %lld",
                 (long long)t->features);
    return RT_OK;
}

static rt_status check_scores(const rt_task *t, rt__zeta zeta, rt_error *err)
{
    const rt__scene_settings *own = rt__scene_own(t);
    const rt_net_info *net = t->teacher.net ? rt_net_describe(t->teacher.net) : NULL;
    bool network = zeta == RT__ZETA_NETWORK || zeta == RT__ZETA_BLIND;
    if (!(own->t_min < own->t_max)) RT_RAISE(RT_E_USAGE, "%s.t-min: %g; must be less than t-max, %g", family(t), own->t_min, own->t_max);
    if (own->anneal > 0 && !(own->t_min < own->anneal && own->anneal <= own->t_max))
        RT_RAISE(RT_E_USAGE, "%s.anneal: %g; give a time between t-min, %g, and t-max, %g", family(t), own->anneal, own->t_min, own->t_max);
    if (!rt_weight_find(own->weight, err)) return RT_E_USAGE;
    if (net && net->times != 1)
        RT_RAISE(RT_E_USAGE, "%s: a network that is told two times is no teacher of a scene; give a denoiser of one time",
                 t->config->teacher);
    if (has_matrix(t) && !is_grid(own))
        RT_RAISE(RT_E_USAGE, "%s: the network is told a camera's matrix, and --scene %s has no cameras; give --scene grid",
                 t->config->teacher, own->kind);
    if (has_matrix(t) && zeta == RT__ZETA_BLIND)
        RT_RAISE(RT_E_USAGE, "vsd.score: blind, but a copy of %s is told a camera's matrix, as that is; give network", t->config->teacher);
    if (network && !net) RT_RAISE(RT_E_USAGE, "vsd.score: %s, but an oracle has no network that could be copied; give exact", own->zeta);
    if (network && rt__scene_affine(t))
        RT_RAISE(RT_E_USAGE, "vsd.score: %s, but the score of --net affine is known; give exact", own->zeta);
    return RT_OK;
}

static rt_status check(const rt_task *t, rt__zeta zeta, rt_error *err)
{
    int stages = longest(rt__scene_own(t));
    RT_TRY(check_kind(t, err));
    RT_TRY(check_shared(t, err));
    RT_TRY(check_scores(t, zeta, err));
    if (stages > 4) RT_RAISE(RT_E_USAGE, "scene.nodes, scene.samples: lists of %d; at most 4", stages);
    for (int i = 0; i < stages; i++) {
        rt_scene_spec spec;
        RT_TRY(read_spec(t, i, &spec, err));
    }
    return check_asked(t, err);
}

rt_status rt__scene_plan(const rt_task *t, rt_plan *plan, rt__zeta zeta, rt_error *err)
{
    const rt__scene_settings *own = rt__scene_own(t);
    RT_TRY(check(t, zeta, err));
    char key[32];
    snprintf(key, sizeof key, "%s.guidance", family(t));
    bool told = rt__scene_is_told(t), can = t->null_class >= 0 && !rt__scene_affine(t);
    RT_TRY(rt__plan_teacher(plan, t, key, "ddim", own->guidance >= 0 ? own->guidance : !told && can ? 6.5 : 0, err));
    plan->n_rounds = longest(own);
    double lr = own->lr > 0 ? own->lr : t->config->train.lr > 0 ? t->config->train.lr : !strcmp(own->kind, "grid") ? 0.3 : 0.03;
    if (zeta == RT__ZETA_NETWORK || zeta == RT__ZETA_BLIND) {
        rt__plan_network(plan, (rt_network_plan){.name = "score",
                                                 .kind = RT_NETWORK_COPY,
                                                 .start = RT_START_TEACHER,
                                                 .trained = true,
                                                 .kept = true,
                                                 .camera = zeta == RT__ZETA_NETWORK && is_grid(own) && !by_labels(t)});
        rt_phase_plan *fake = rt__plan_phase(plan, t, "fake", "score", rt__scene_score_build);
        fake->runs = own->score_updates;
        fake->training.lr = own->score_lr;
    }
    for (int k = plan->n_rounds - 1; k >= 0; k--) /* the last first: it is what the run is for */
        rt__plan_network(plan, (rt_network_plan){.name = stage_name(k, plan->n_rounds),
                                                 .kind = RT_NETWORK_DECLARED,
                                                 .trained = true,
                                                 .deployed = true,
                                                 .declare = declare,
                                                 .begin = begin});
    for (int k = 0; k < plan->n_rounds; k++) {
        rt_phase_plan *phase = rt__plan_phase(plan, t, "scene", stage_name(k, plan->n_rounds), rt__scene_build);
        phase->first_round = k;
        phase->end_round = k + 1;
        phase->training.lr = lr;
    }
    return RT_OK;
}
