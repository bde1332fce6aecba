/* scene_source.c -- the phase that moves a scene, and what fills it: cameras, pictures of the scene as it stands, the direction that two scores give them.
 *
 * A run of the phase has a batch of cameras (of --net affine: of z); each sees all particles with the same jitter, at one time, with noise of its own:
 *
 *     rows b P + p: x_t = alpha R(theta_p, c_b) + beta eps,  u = w (f_zeta - f_teacher)(x_t, t_b)
 *     loss          E_b sum_p <u, R(theta_p, c_b)> + regularisers                                                       (1.26), (1.29) */
#include "distill/scene_painting.h"
#include "distill/sources.h"

#include "base/internal.h"
#include "base/rank_sums.h"
#include "model/classes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLOURS = 3 };

/* ---- pictures as nodes */

/* What pictures are made from: those that the kind of scene has. */
typedef struct scene_inputs {
    rt_node *rays, *background, *z;
} scene_inputs;

typedef struct painting {
    rt_node *pictures;        /* (B,P,features) */
    rt_node *alpha, *opacity; /* (B,P,pixels), and of all particles in a row, (B,1,P H,W); NULL: the scene has none */
} painting;

static bool is_grid(const rt_scene_spec *s) { return s->kind == RT_SCENE_GRID; }

/* Inputs by name: of a phase, or of a graph of its own (p NULL). */
static rt_node *input(rt_phase *p, rt_graph *g, const char *name, int rank, const int64_t *shape)
{
    return p ? rt__input(p, name, rt_graph_real(g), rank, shape) : rt_input(g, name, rt_graph_real(g), rank, shape);
}

static scene_inputs declare_inputs(const rt_task *t, const rt_scene_spec *s, rt_phase *p, rt_graph *g)
{
    scene_inputs in = {0};
    if (is_grid(s)) in.rays = input(p, g, "rays", 3, (int64_t[]){RT_BATCH, (int64_t)s->height * s->width, RT_RAY});
    if (is_grid(s) && s->background == RT_RANDOM) in.background = input(p, g, "background", 2, (int64_t[]){RT_BATCH, COLOURS});
    if (rt__scene_affine(t)) in.z = input(p, g, "z", 2, (int64_t[]){RT_BATCH, t->features});
    return in;
}

static painting paint(const rt_task *t, const rt_scene_spec *s, rt_params *set, rt_graph *g, scene_inputs in)
{
    int64_t d = t->features;
    painting out = {0};
    rt_node *pictures[64], *alphas[64];
    if (in.z) {
        rt_node *m = rt_param(g, set, "mean", 1, &d, RT_INIT_CONST(0)),
                *L = rt_param(g, set, "factor", 2, (int64_t[]){d, d}, RT_INIT_CONST(0));
        out.pictures = rt_reshape(rt_linear(in.z, L, m), 3, (int64_t[]){RT_BATCH, 1, d});
        return out;
    }
    for (int p = 0; p < s->particles; p++) {
        rt_node *which = rt_broadcast(rt_const(g, RT_I64, 0, NULL, &(int64_t){p}), 1, (int64_t[]){RT_BATCH});
        rt_scene_nodes r = rt_scene_build(s, set, g, in.rays, which, in.background);
        pictures[p] = rt_reshape(r.picture, 3, (int64_t[]){RT_BATCH, 1, d});
        alphas[p] = r.alpha;
    }
    out.pictures = rt_concat(pictures, s->particles, 1);
    if (!is_grid(s)) return out;
    out.opacity = rt_concat(alphas, s->particles, 2);
    out.alpha = rt_reshape(out.opacity, 3, (int64_t[]){RT_BATCH, s->particles, (int64_t)s->height * s->width});
    return out;
}

/* ---- cameras */

/* n numbers in (0,1) of a sample of run u. */
static void units(uint64_t seed, const char *name, int64_t u, int64_t sample, int64_t n, double *out)
{
    rt__draw draw = {.seed = seed, .name = rt__draw_name(name), .clock = (uint32_t)u};
    uint32_t words[4] = {0};
    for (int64_t k = 0; k < n; k++) {
        if (k % 4 == 0) rt__draw_words(&draw, (uint32_t)sample, (uint32_t)(k / 4), words);
        out[k] = rt__unit(words[k % 4]);
    }
}

static double unit(uint64_t seed, const char *name, int64_t u, int64_t sample)
{
    double x;
    units(seed, name, u, sample, 1, &x);
    return x;
}

static double between(const double range[2], double x) { return range[0] + (range[1] - range[0]) * x; }

void rt__scene_cameras(const rt_task *t, const rt_cameras *file, uint64_t seed, int64_t u, int64_t first, int64_t n, int64_t batch,
                       rt_camera *cameras)
{
    rt_scene_spec s = rt__scene_spec(t, 0);
    for (int64_t i = 0; i < n; i++) {
        double of[4]; /* azimuth within the sector, elevation, distance, field of view */
        units(seed, "camera", u, first + i, 4, of);
        double sector = ((double)(first + i) + of[0]) / (double)batch;
        if (file->n > 0) { /* in the order of azimuths, from a place that changes */
            int64_t k = ((int64_t)(sector * file->n) + (int64_t)(unit(seed, "sectors", u, 0) * file->n)) % file->n;
            cameras[i] = file->at[k];
            continue;
        }
        cameras[i] = rt_camera_orbit(between(s.orbit.azimuth, sector), between(s.orbit.elevation, of[1]), between(s.orbit.distance, of[2]),
                                     between(s.orbit.fovy, of[3]));
    }
}

static double azimuth_of(const rt_camera *c) { return atan2(c->c2w[7], c->c2w[3]); }

static int by_azimuth(const void *a, const void *b)
{
    const rt_camera *x = a, *y = b;
    double p = azimuth_of(x), q = azimuth_of(y);
    return p != q ? (p > q) - (p < q) : (x->label > y->label) - (x->label < y->label);
}

rt_status rt__scene_open_cameras(const rt_task *t, rt_cameras *cameras, rt_error *err)
{
    const rt__scene_settings *own = rt__scene_own(t);
    *cameras = (rt_cameras){0};
    if (strcmp(own->kind, "grid") != 0 || !strcmp(own->cameras, "orbit")) return RT_OK;
    RT_TRY(rt_cameras_open(cameras, own->cameras, err));
    qsort(cameras->at, (size_t)cameras->n, sizeof *cameras->at, by_azimuth);
    return RT_OK;
}

/* ---- pictures of the scene as it stands */

typedef struct studio {
    const rt_phase *phase;
    const rt_task *task;
    rt_scene_spec spec;
    rt_params *set;
    uint64_t seed;
    int64_t rows;       /* cameras at a time */
    rt_cameras file;    /* in the order of azimuths; n 0: drawn, or there are none */
    rt_camera *cameras; /* [rows] of the latest run */
    double *jitter;     /* [pixels] */
    rt_graph *graph;    /* of the pictures alone */
    rt_program *program;
    scene_inputs inputs;
    painting painting;
} studio;

static rt_status studio_open(studio *s, const rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    const rt_config *c = t->config;
    int round = p->round->index;
    *s = (studio){.phase = p,
                  .task = t,
                  .spec = rt__scene_spec(t, round),
                  .set = rt__scene_network(t, round)->set,
                  .seed = rt__stream_seed(p),
                  .rows = p->slice};
    RT_TRY(rt__scene_open_cameras(t, &s->file, err));
    s->cameras = calloc((size_t)s->rows, sizeof *s->cameras);
    s->jitter = malloc((size_t)s->spec.height * (size_t)s->spec.width * sizeof *s->jitter);
    s->graph = rt_graph_new(t->real);
    if (!s->cameras || !s->jitter || !s->graph) RT_RAISE(RT_E_MEMORY, "out of memory for %lld cameras", (long long)s->rows);
    s->inputs = declare_inputs(t, &s->spec, NULL, s->graph);
    s->painting = paint(t, &s->spec, s->set, s->graph, s->inputs);
    if (!s->inputs.rays && !s->inputs.z) /* a picture alone has no batch */
        s->painting.pictures = rt_broadcast(s->painting.pictures, 3, (int64_t[]){RT_BATCH, s->spec.particles, t->features});
    rt_node *outputs[] = {s->painting.pictures, s->painting.alpha};
    return rt_compile(&s->program, s->graph,
                      &(rt_program_spec){.outputs = outputs,
                                         .n_outputs = s->painting.alpha ? 2 : 1,
                                         .batch = s->rows,
                                         .threads = c->threads,
                                         .choices = t->choices,
                                         .rehearsal = t->dry_run,
                                         .backend = *c->backend ? rt_backend_find(c->backend) : NULL},
                      err);
}

static void studio_close(studio *s)
{
    rt_program_free(s->program);
    rt_graph_free(s->graph);
    rt_cameras_free(&s->file);
    free(s->cameras);
    free(s->jitter);
}

/* The inputs of run u, cameras first .. first + n - 1. */
static void look(studio *s, int64_t u, int64_t first, int64_t n)
{
    rt_dtype real = s->task->real;
    int64_t pixels = (int64_t)s->spec.height * s->spec.width, d = s->task->features;
    if (is_grid(&s->spec)) rt__scene_cameras(s->task, &s->file, s->seed, u, first, n, s->phase->batch, s->cameras);
    char *rays = s->inputs.rays ? rt_program_data(s->program, s->inputs.rays) : NULL;
    void *background = s->inputs.background ? rt_program_data(s->program, s->inputs.background) : NULL,
         *z = s->inputs.z ? rt_program_data(s->program, s->inputs.z) : NULL;
    for (int64_t i = 0; i < n; i++) {
        if (rays) units(s->seed, "jitter", u, first + i, pixels, s->jitter);
        if (rays)
            rt_camera_rays(&s->cameras[i], s->spec.height, s->spec.width, s->jitter, real,
                           rays + (size_t)(i * pixels * RT_RAY) * rt_dtype_size(real));
        double colour[COLOURS];
        units(s->seed, "background", u, first + i, COLOURS, colour);
        for (int k = 0; k < COLOURS && background; k++) rt__store(real, background, i * COLOURS + k, colour[k]);
        for (int64_t k = 0; k < d && z; k += 4) {
            double v[4];
            rt__draw_normal(&(rt__draw){.seed = s->seed, .name = rt__draw_name("z"), .clock = (uint32_t)u}, (uint32_t)(first + i),
                            (uint32_t)(k / 4), v);
            for (int64_t j = 0; j < 4 && k + j < d; j++) rt__store(real, z, i * d + k + j, v[j]);
        }
    }
}

/* Those inputs to a program of the phase. */
static void show(const studio *s, const rt_phase *p, rt_program *program)
{
    const struct {
        const char *name;
        const rt_node *node;
    } inputs[] = {{"rays", s->inputs.rays}, {"background", s->inputs.background}, {"z", s->inputs.z}};
    for (size_t i = 0; i < RT_COUNT(inputs); i++) {
        void *to = inputs[i].node ? rt__input_data(p, program, inputs[i].name) : NULL;
        if (to)
            memcpy(to, rt_program_data(s->program, inputs[i].node),
                   (size_t)rt_program_count(s->program, inputs[i].node) * rt_dtype_size(s->task->real));
    }
}

/* The pictures [n][P][features] of the scene as it stands. */
static rt_status photograph(studio *s, int64_t n, double *x0, rt_error *err)
{
    RT_TRY(rt_run(s->program, &(rt_clock){0}, err));
    const void *from = rt_program_data(s->program, s->painting.pictures);
    for (int64_t i = 0; i < n * s->spec.particles * s->task->features; i++) x0[i] = rt__load(s->task->real, from, i);
    return RT_OK;
}

/* ---- the direction */

/* Figures of one camera of the latest update: sums over its rows. */
typedef struct sight {
    double gap[4], gap_rows[4], lag, spread, opacity, unsure, rows, pixels;
} sight;

struct rt__scene_source {
    studio studio;
    rt__zeta zeta;
    const rt_weight *weight;
    double end, low, high, anneal; /* of times */
    bool discrete;
    int64_t updates;                     /* of the round */
    rt__guess teacher, score;            /* score: of a network s_zeta */
    double *x0, *xt, *f_p, *f_z, *exact; /* [rows P][features] */
    double *eps;                         /* [features] */
    double *t;                           /* [rows P] */
    double *matrices;                    /* [rows P][RT_CAMERA_NUMBERS] of their cameras */
    int64_t *y, *own;                    /* [rows P]: what teacher and s_zeta are asked for */
    int64_t filled;                      /* cameras of the latest fill */
    sight *sights;                       /* [batch], of all ranks */
    rt__scene_figures seen;
    int64_t emptied, filled_up, fogged; /* updates in a row */
};

static double draw_time(const rt__scene_source *s, int64_t u, int64_t camera)
{
    double run = s->updates > 1 ? (double)u / (double)(s->updates - 1) : 1,
           high = s->anneal > 0 ? s->high + (s->anneal - s->high) * run : s->high;
    double t = s->end * (s->low + (high - s->low) * unit(s->studio.seed, "t", u, camera));
    return s->discrete ? fmax(1, rint(t)) : t;
}

/* N(m, L L^T), which an affine generator's samples are. */
static rt_status affine_means(const rt__scene_source *s, int64_t n, rt_error *err)
{
    const rt_task *t = s->studio.task;
    int64_t d = t->features;
    rt_params *set = s->studio.set;
    RT_TRY(rt_params_fetch(set, RT_VALUE, err));
    const void *values = rt_params_data(set, RT_VALUE);
    const rt_entry *m = rt_params_entry(set, rt_params_find(set, "mean")), *L = rt_params_entry(set, rt_params_find(set, "factor"));
    double *mean = malloc((size_t)(d + d * d) * sizeof *mean), *C = mean + d;
    if (!mean) RT_RAISE(RT_E_MEMORY, "out of memory for a normal distribution");
    for (int64_t i = 0; i < d; i++) mean[i] = rt__load(t->real, values, m->offset + i);
    for (int64_t i = 0; i < d * d; i++) {
        C[i] = 0;
        for (int64_t k = 0; k < d; k++)
            C[i] += rt__load(t->real, values, L->offset + i / d * d + k) * rt__load(t->real, values, L->offset + i % d * d + k);
    }
    rt_oracle *o = NULL;
    rt_status status = rt_oracle_gaussian(&o, d, mean, C, t->process, rt_prediction_find("x0", NULL), err);
    for (int64_t i = 0; i < n && status == RT_OK; i++)
        status = rt_oracle_posterior_mean(o, rt_process_alpha(t->process, s->t[i]), rt_process_beta(t->process, s->t[i]), 1, s->xt + i * d,
                                          s->exact + i * d, err);
    rt_oracle_free(o);
    free(mean);
    return status;
}

/* f_zeta of n rows; `exact` where it is known. */
static rt_status answer_zeta(rt__scene_source *s, int64_t n, rt_error *err)
{
    const rt_task *t = s->studio.task;
    int64_t d = t->features, P = s->studio.spec.particles;
    if (rt__scene_affine(t) && s->zeta == RT__ZETA_EXACT) RT_TRY(affine_means(s, n, err));
    for (int64_t i = 0; i < n; i++) {
        double alpha = rt_process_alpha(t->process, s->t[i]), beta = rt_process_beta(t->process, s->t[i]);
        if (rt__scene_knows_exact(s) && !rt__scene_affine(t))
            rt__mean_of_pictures(P, d, s->x0 + i / P * P * d, alpha, beta, s->xt + i * d, s->exact + i * d);
        if (s->zeta == RT__ZETA_EXACT)
            memcpy(s->f_z + i * d, s->exact + i * d, (size_t)d * sizeof *s->f_z);
        else
            rt__zeta_of_noise(s->zeta == RT__ZETA_NONE, d, alpha, s->x0 + i * d, s->xt + i * d, s->f_z + i * d);
    }
    return s->zeta == RT__ZETA_NETWORK || s->zeta == RT__ZETA_BLIND
               ? rt__guess_x0(&s->score, n, s->xt, s->t, t->classes ? s->own : NULL, s->f_z, err)
               : RT_OK;
}

static void measure_opacity(const rt__scene_source *s, int64_t i, sight *of)
{
    const studio *st = &s->studio;
    if (!st->painting.alpha) return;
    const void *alpha = rt_program_data(st->program, st->painting.alpha);
    int64_t count = (int64_t)st->spec.particles * st->spec.height * st->spec.width;
    for (int64_t k = 0; k < count; k++) {
        double a = rt__load(st->task->real, alpha, i * count + k);
        of->opacity += a;
        of->unsure += a > 0.1 && a < 0.9;
    }
    of->pixels = (double)count;
}

/* The figures of cameras first .. first + n - 1 of run u. */
static void measure(rt__scene_source *s, int64_t u, int64_t first, int64_t n)
{
    int64_t d = s->studio.task->features, P = s->studio.spec.particles;
    rt__scene_figures *f = &s->seen;
    if (f->update != u) {
        *f = (rt__scene_figures){.update = u, .sides = f->sides};
        memset(s->sights, 0, (size_t)s->studio.phase->batch * sizeof *s->sights);
    }
    for (int64_t i = 0; i < n * P; i++) {
        sight *of = &s->sights[first + i / P];
        double gap = 0, lag = 0, spread = 0;
        int quarter = (int)(4 * s->t[i] / s->end);
        if (quarter > 3) quarter = 3;
        for (int64_t j = 0; j < d; j++) {
            double mean = 0, a = s->f_z[i * d + j] - s->f_p[i * d + j], b = s->f_z[i * d + j] - s->exact[i * d + j];
            for (int64_t p = 0; p < P; p++) mean += s->x0[(i / P * P + p) * d + j] / (double)P;
            gap += a * a;
            lag += b * b;
            spread += (s->x0[i * d + j] - mean) * (s->x0[i * d + j] - mean);
        }
        of->gap[quarter] += gap / (double)d;
        of->gap_rows[quarter] += 1;
        of->lag += lag / (double)d;
        of->spread += spread / (double)d;
        of->rows += 1;
    }
    for (int64_t i = 0; i < n; i++) measure_opacity(s, i, &s->sights[first + i]);
}

/* The figures of a run that has seen all of this rank's cameras: sums over those of all ranks, in the order of the batch, so that their bits do not depend on
 * the number of ranks. */
static rt_status complete(rt__scene_source *s, rt_error *err)
{
    rt__scene_figures *f = &s->seen;
    int64_t batch = s->studio.phase->batch;
    const rt__sum all = {s->sights, batch * (int64_t)(sizeof *s->sights / sizeof(double)),
                         RT_F64}; /* a camera is 0 on the ranks that do not see it */
    RT_TRY(rt__ranks_sum(s->studio.task->ranks, &all, 1, err));
    for (const sight *of = s->sights; of < s->sights + batch; of++) {
        for (int k = 0; k < 4; k++) f->gap[k] += of->gap[k], f->gap_rows[k] += of->gap_rows[k];
        f->lag += of->lag;
        f->spread += of->spread;
        f->opacity += of->opacity;
        f->unsure += of->unsure;
        f->rows += of->rows;
        f->pixels += of->pixels;
    }
    return RT_OK;
}

static void say(const rt__scene_source *s, const char *line)
{
    const rt_task *t = s->studio.task;
    if (t->note && !t->dry_run && rt_ranks_rank(t->ranks) == 0) t->note(t->self, line);
}

/* What collapse looks like, once it has lasted. */
static void warn(rt__scene_source *s)
{
    enum { PATIENCE = 100 };
    const rt__scene_figures *f = &s->seen;
    if (!(f->pixels > 0)) return;
    double opacity = f->opacity / f->pixels, unsure = f->unsure / f->pixels;
    s->emptied = opacity < 0.005 ? s->emptied + 1 : 0;
    s->filled_up = opacity > 0.9 ? s->filled_up + 1 : 0;
    s->fogged = unsure > 0.5 ? s->fogged + 1 : 0;
    if (s->emptied == PATIENCE)
        say(s,
            "the scene is empty (opacity below 0.005 for 100 updates): lower scene.lr or scene.sparse, or start from another --scene-init");
    if (s->filled_up == PATIENCE)
        say(s, "the scene is full (opacity above 0.9 for 100 updates): its box is a wall; give scene.sparse (1 to 10), another "
               "scene.background, or lower scene.lr");
    if (s->fogged == PATIENCE)
        say(s, "the scene is fog (more than half of its pixels are neither clear nor solid for 100 updates): give scene.entropy (0.1 to "
               "10), or t-max 0.7");
}

static rt_status scene_fill(void *self, int64_t u, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    rt__scene_source *s = self;
    const rt_task *t = s->studio.task;
    int64_t d = t->features, P = s->studio.spec.particles;
    look(&s->studio, u, first, n);
    show(&s->studio, s->studio.phase, program);
    RT_TRY(photograph(&s->studio, n, s->x0, err));
    for (int64_t i = 0; i < n * P; i++) {
        s->t[i] = draw_time(s, u, first + i / P);
        memcpy(s->matrices + i * RT_CAMERA_NUMBERS, s->studio.cameras[i / P].c2w, RT_CAMERA_NUMBERS * sizeof *s->matrices);
        s->y[i] = rt__scene_label(t, &s->studio.cameras[i / P], s->studio.file.n);
        s->own[i] = s->zeta == RT__ZETA_BLIND ? rt__scene_blind_label(t) : s->y[i];
    }
#pragma omp parallel for if (n * P * d > 4096)
    for (int64_t i = 0; i < n * P; i++) { /* (1.24) */
        double alpha = rt_process_alpha(t->process, s->t[i]), beta = rt_process_beta(t->process, s->t[i]), *xt = s->xt + i * d;
        rt__draw_normals(&(rt__draw){.seed = s->studio.seed, .name = rt__draw_name("eps"), .clock = (uint32_t)u}, (uint32_t)(first * P + i),
                         d, xt);
        for (int64_t j = 0; j < d; j++) xt[j] = alpha * s->x0[i * d + j] + beta * xt[j];
    }
    s->teacher.cameras = s->score.cameras = s->matrices;
    RT_TRY(rt__guess_x0(&s->teacher, n * P, s->xt, s->t, t->classes ? s->y : NULL, s->f_p, err));
    RT_TRY(answer_zeta(s, n * P, err));
    void *to = rt__input_data(s->studio.phase, program, "u");
    for (int64_t i = 0; i < n * P && to; i++) {
        rt__direction(s->weight, t->process, s->t[i], d, s->f_z + i * d, s->f_p + i * d, s->eps);
        for (int64_t j = 0; j < d; j++) rt__store(t->real, to, i * d + j, s->eps[j]);
    }
    s->filled = n;
    measure(s, u, first, n);
    if (first + n < s->studio.phase->batch / rt_ranks_size(t->ranks) * (rt_ranks_rank(t->ranks) + 1)) return RT_OK;
    RT_TRY(complete(s, err));
    warn(s);
    return RT_OK;
}

static void scene_free(void *self)
{
    rt__scene_source *s = self;
    if (!s) return;
    studio_close(&s->studio);
    rt__guess_close(&s->teacher);
    rt__guess_close(&s->score);
    free(s->x0);
    free(s->t);
    free(s->y);
    free(s->sights);
    free(s);
}

static rt_status open_source(rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    const rt__scene_settings *own = rt__scene_own(t);
    rt__scene_source *s = calloc(1, sizeof *s);
    if (!s) RT_RAISE(RT_E_MEMORY, "out of memory for a scene");
    s->seen.update = -1;
    s->seen.sides = NAN;
    s->zeta = rt__scene_zeta(t);
    s->weight = rt_weight_find(own->weight, err);
    s->end = rt_process_end(t->process);
    s->discrete = rt_process_discrete_steps(t->process) > 0;
    s->low = own->t_min;
    s->high = own->t_max;
    s->anneal = own->anneal;
    s->updates = rt__round_updates(t->config, p->round->index);
    RT_TRY(rt__add_source(p, (rt_source){s, scene_fill, scene_free}, err));
    RT_TRY(studio_open(&s->studio, p, err));
    int64_t rows = s->studio.rows * s->studio.spec.particles;
    size_t n = (size_t)(rows * t->features);
    s->x0 = calloc(5 * n + (size_t)t->features, sizeof *s->x0);
    s->t = malloc((size_t)(rows * (1 + RT_CAMERA_NUMBERS)) * sizeof *s->t);
    s->y = malloc((size_t)(2 * rows) * sizeof *s->y);
    s->sights = calloc((size_t)s->studio.phase->batch, sizeof *s->sights);
    if (!s->x0 || !s->t || !s->y || !s->sights) RT_RAISE(RT_E_MEMORY, "out of memory for %lld pictures", (long long)rows);
    s->xt = s->x0 + n;
    s->f_p = s->xt + n;
    s->f_z = s->f_p + n;
    s->exact = s->f_z + n;
    s->eps = s->exact + n;
    s->matrices = s->t + rows;
    s->own = s->y + rows;
    RT_TRY(rt__guess_open(&s->teacher, t, rt__denoiser(p, "teacher"), rows, err));
    if (rt__network(t, "score")) RT_TRY(rt__guess_open(&s->score, t, rt__denoiser(p, "score"), rows, err));
    if (s->zeta == RT__ZETA_EXACT && s->teacher.denoiser.guidance > 0)
        say(s,
            "the teacher is guided, the exact score of the particles is not: they do not agree where the scene is what the teacher draws");
    return RT_OK;
}

rt_status rt__scene_build(rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    const rt__scene_settings *own = rt__scene_own(t);
    rt_scene_spec spec = rt__scene_spec(t, p->round->index);
    scene_inputs in = declare_inputs(t, &spec, p, p->graph);
    painting r = paint(t, &spec, p->network->set, p->graph, in);
    rt_node *u = rt__input(p, "u", t->real, 3, (int64_t[]){RT_BATCH, spec.particles, t->features});
    rt_node *loss = rt_expect(rt_sum(rt_mul(u, r.pictures), 0x6, false)); /* (1.26) */
    if (own->smooth > 0) loss = rt_add(loss, rt_scale(rt_scene_smooth(&spec, p->network->set, p->graph), own->smooth));
    if (own->entropy > 0 && r.opacity) loss = rt_add(loss, rt_scale(rt_scene_entropy(r.opacity), own->entropy));
    if (own->sparse > 0 && r.opacity) loss = rt_add(loss, rt_scale(rt_scene_sparse(r.opacity), own->sparse * spec.particles));
    rt__minimise(p, loss);
    return open_source(p, err);
}

/* ---- what the run asks of it */

rt__scene_source *rt__scene_source_of(rt_round *r)
{
    rt_phase *p = r->n_phases > 0 ? rt__main_phase(r) : NULL;
    return p && p->n_sources > 0 ? p->sources[0].self : NULL;
}

const rt__scene_figures *rt__scene_latest(const rt__scene_source *s) { return &s->seen; }

bool rt__scene_knows_exact(const rt__scene_source *s) { return !rt__scene_affine(s->studio.task) || s->zeta == RT__ZETA_EXACT; }

double rt__scene_view_change(rt__scene_source *s)
{
    int64_t count = s->filled * s->studio.spec.particles * s->studio.task->features;
    double sum = 0;
    if (count == 0 || rt_run(s->studio.program, &(rt_clock){0}, NULL) != RT_OK) return NAN;
    const void *now = rt_program_data(s->studio.program, s->studio.painting.pictures);
    for (int64_t i = 0; i < count; i++) {
        double moved = rt__load(s->studio.task->real, now, i) - s->x0[i];
        sum += moved * moved;
    }
    return sqrt(sum / (double)count);
}

rt_status rt__scene_ask_teacher(rt__scene_source *s, const rt_camera *camera, const double *x, double t, int64_t y, double *x0,
                                rt_error *err)
{
    s->teacher.cameras = camera->c2w;
    return rt__guess_x0(&s->teacher, 1, x, &t, s->studio.task->classes ? &y : NULL, x0, err);
}

void rt__scene_see_sides(rt__scene_source *s, double differ, double least)
{
    bool one = differ < least && !rt__scene_is_told(s->studio.task);
    if (one && !(s->seen.sides < least))
        say(s, "one face on all sides: the teacher, which is not told the camera, takes opposite sides for the same picture; give it the "
               "camera, by labels "
               "(--cameras FILE.json) or by words");
    s->seen.sides = differ;
}

/* ---- pictures as data: what s_zeta learns from */

typedef struct pictures_source {
    studio studio;
    double *x0; /* [rows][P][features] */
} pictures_source;

/* Camera i sees particle i mod P, in turns over the runs. */
static rt_status pictures_fill(void *self, int64_t u, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    pictures_source *s = self;
    const rt_task *t = s->studio.task;
    int64_t d = t->features, P = s->studio.spec.particles;
    look(&s->studio, u, first, n);
    RT_TRY(photograph(&s->studio, n, s->x0, err));
    void *x = rt__input_data(s->studio.phase, program, "x0");
    void *matrices = rt__input_data(s->studio.phase, program, "camera");
    int64_t *y = rt__input_data(s->studio.phase, program, "y");
    for (int64_t i = 0; i < n; i++) {
        const double *from = s->x0 + (i * P + (first + i + u) % P) * d;
        for (int64_t j = 0; j < d && x; j++) rt__store(t->real, x, i * d + j, from[j]);
        bool blind = rt__scene_zeta(t) == RT__ZETA_BLIND;
        int64_t label = blind ? rt__scene_blind_label(t) : rt__scene_label(t, &s->studio.cameras[i], s->studio.file.n);
        if (y) rt__show_label(t->words, label, i, y);
        for (int k = 0; k < RT_CAMERA_NUMBERS && matrices; k++)
            rt__store(t->real, matrices, i * RT_CAMERA_NUMBERS + k, s->studio.cameras[i].c2w[k]);
    }
    return RT_OK;
}

static void pictures_free(void *self)
{
    pictures_source *s = self;
    if (!s) return;
    studio_close(&s->studio);
    free(s->x0);
    free(s);
}

static rt_status open_pictures(rt_phase *p, rt_error *err)
{
    pictures_source *s = calloc(1, sizeof *s);
    if (!s) RT_RAISE(RT_E_MEMORY, "out of memory for pictures of a scene");
    RT_TRY(rt__add_source(p, (rt_source){s, pictures_fill, pictures_free}, err));
    RT_TRY(studio_open(&s->studio, p, err));
    s->x0 = malloc((size_t)(s->studio.rows * s->studio.spec.particles * p->round->task->features) * sizeof *s->x0);
    if (!s->x0) RT_RAISE(RT_E_MEMORY, "out of memory for pictures of a scene");
    return RT_OK;
}

/* E w |f_zeta(x_t, t) - x0|^2, even in the network's own output (1.17). */
rt_status rt__scene_score_build(rt_phase *p, rt_error *err)
{
    enum { TIMES = 1000 };
    const rt_task *t = p->round->task;
    const rt_process *process = t->process;
    const rt_denoiser *score = rt__denoiser(p, "score");
    char name[64];
    snprintf(name, sizeof name, "uniform-%s", rt_prediction_name(score->prediction));
    const rt_weight *weight = rt_weight_find(name, err);
    const rt_density *density = rt_density_find("uniform", err);
    if (!weight || !density) return RT_E_USAGE;
    int n = rt_process_discrete_steps(process) > 0 ? rt_density_count(density, process) : TIMES;
    double *times = malloc((size_t)(2 * n) * sizeof *times), *w = times + n;
    if (!times) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", n);
    rt_status status = rt_density_times(density, process, weight, n, times, w, err);
    for (int i = 0; i < n && status == RT_OK; i++) w[i] *= rt_weight_at(weight, process, times[i], 0);
    if (status == RT_OK) {
        rt_node *x0 = rt__input_x(p, "x0"), *y = rt__input_y(p), *k = rt_randint(p->graph, "t", 1, (int64_t[]){RT_BATCH}, n);
        rt_at at = rt__at(p, times, n, 1, k);
        if (rt_net_describe(score->net)->camera) at.camera = rt__input(p, "camera", t->real, 2, (int64_t[]){RT_BATCH, RT_CAMERA_NUMBERS});
        rt_node *xt = rt_diffuse(x0, at.alpha, at.beta, rt_randn(p->graph, "eps", t->rank, t->shape));
        rt_node *error = rt__mean_square(t, rt__denoise(score, xt, NULL, at, y), x0);
        rt__minimise(p, rt_expect(rt_mul(rt_reshape(rt__pick(p, w, n, k), 1, (int64_t[]){RT_BATCH}), error)));
        status = open_pictures(p, err);
    }
    free(times);
    return status;
}
