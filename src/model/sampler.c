/* sampler.c -- a model's samples: which steps, from which noise, in which batches. The mathematics is the driver's (rt_sample). */
#include "model/grid_search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USUAL_STEPS = 50, USUAL_BATCH = 64 };

/* The transitions of one sampling: step k goes from[k] -> to[k]. */
typedef struct path {
    int steps;
    const rt_solver *solver;
    double clip, guidance;
    double input_scale; /* what unit noise is multiplied by; 0: as process or scheduler say */
    double from[RT_MODEL_STEPS + 1], to[RT_MODEL_STEPS];
    bool scheduled;                       /* the times are the scheduler's, */
    double network_times[RT_MODEL_STEPS]; /* and so is what the network is told; */
    bool followed;                        /* its solver as well, */
    int order[RT_MODEL_STEPS];            /* and how high the order may be */
} path;

/* Times that the caller listed; the 0 at the end may be left out. */
static rt_status listed_times(const rt_model *m, const rt_sampling *s, path *p, rt_error *err)
{
    int n = s->n_times;
    if (n > RT_MODEL_STEPS) RT_RAISE(RT_E_USAGE, "%d times; at most %d", n, RT_MODEL_STEPS);
    memcpy(p->from, s->times, (size_t)n * sizeof *p->from);
    if (p->from[n - 1] != 0) p->from[n++] = 0;
    p->steps = n - 1;
    return rt_grid_check(m->process, p->steps, p->from, err);
}

static void join_steps(path *p)
{
    for (int k = 0; k < p->steps; k++) p->to[k] = p->from[k + 1];
}

/* A network that is told omega needs one call and no null class: nothing is left for the driver. */
static rt_status tell_guidance(rt_model *m, const rt_sampling *s, path *p, rt_error *err)
{
    const rt_student_recipe *r = &m->info.recipe;
    m->omega = s->has_guidance ? s->guidance : r->guidance_default;
    p->guidance = 0;
    if (!(m->omega >= r->guidance_low && m->omega <= r->guidance_high))
        RT_RAISE(RT_E_USAGE, "--guidance: %g is outside %g..%g, which the network was trained for (its recipe's guidance_range)", m->omega,
                 r->guidance_low, r->guidance_high);
    if (s->guide || s->guidance_low > 0 || s->guidance_high > 0 || s->guidance_rescale > 0)
        RT_RAISE(RT_E_USAGE,
                 "%s: the network is told the weight of guidance and makes one call: there is nothing that a guide, an interval or "
                 "rescaling could act on; leave them out",
                 m->info.chosen);
    return RT_OK;
}

/* Whose word counts: the caller's times or grid, then the recipe that a student carries, then the scheduler, then trailing times. */
static rt_status choose_path(rt_model *m, const rt_sampling *s, path *p, rt_sample_report *r, rt_error *err)
{
    const rt_student_recipe *recipe = m->info.recipe.steps ? &m->info.recipe : NULL;
    const char *solver = s->solver ? s->solver : recipe ? recipe->solver : NULL, *grid = "trailing";
    p->steps = s->steps ? s->steps : recipe ? recipe->steps : USUAL_STEPS;
    if (s->steps < 0 || p->steps > RT_MODEL_STEPS) RT_RAISE(RT_E_USAGE, "%d steps; must be 1 to %d", s->steps, RT_MODEL_STEPS);
    if (s->n_times) {
        RT_TRY(listed_times(m, s, p, err));
        grid = "times";
    } else if (s->grid) {
        if (strcmp(s->grid, "search")) RT_TRY(rt_grid_build(s->grid, m->process, p->steps, p->from, err));
        grid = s->grid;
    } else if (recipe && p->steps == recipe->steps) {
        memcpy(p->from, m->info.recipe_times, (size_t)(recipe->steps + 1) * sizeof *p->from);
        p->input_scale = recipe->input_scale;
        grid = "recipe";
    } else if (m->scheduler && (rt_scheduler_solver(m->scheduler) || (!solver && rt_scheduler_is_followed(m->scheduler)))) {
        rt_scheduler_steps steps = {p->from, p->to, p->network_times, p->order};
        RT_TRY(rt_scheduler_path(m->scheduler, p->steps, &steps, err));
        grid = "scheduler";
        p->scheduled = true;
    } else {
        RT_TRY(rt_grid_build(grid, m->process, p->steps, p->from, err));
    }
    if (!p->scheduled) join_steps(p);
    snprintf(r->grid, sizeof r->grid, "%s", grid);
    if (!solver && m->scheduler && rt_scheduler_solver(m->scheduler)) {
        p->solver = rt_scheduler_solver(m->scheduler);
        p->followed = p->scheduled;
    } else
        p->solver = rt_solver_find(solver ? solver : "ddim", err);
    if (!p->solver) return RT_E_USAGE;
    snprintf(r->solver, sizeof r->solver, "%s", rt_solver_get_info(p->solver)->name);
    p->clip = m->scheduler ? rt_scheduler_clip(m->scheduler) : 0;
    p->guidance = s->has_guidance ? s->guidance : recipe && recipe->has_guidance ? recipe->guidance : 0;
    if (m->info.recipe.has_range) RT_TRY(tell_guidance(m, s, p, err));
    if (strcmp(grid, "search")) return RT_OK;
    if (s->guide) RT_RAISE(RT_E_USAGE, "--grid search knows no guide; search without it and give the times with --times");
    rt_sample_spec spec = {.solver = p->solver,
                           .steps = p->steps,
                           .options = s->options,
                           .guidance = p->guidance,
                           .guidance_low = s->guidance_low,
                           .guidance_high = s->guidance_high,
                           .guidance_rescale = s->guidance_rescale,
                           .clip = p->clip};
    RT_TRY(rt__grid_search(m, &spec, s, p->from, r->remark, sizeof r->remark, err));
    join_steps(p);
    return RT_OK;
}

static void remark(const rt_model *m, const rt_sampling *s, const path *p, rt_sample_report *r)
{
    const rt_student_recipe *recipe = &m->info.recipe;
    size_t size = sizeof r->remark, at = strlen(r->remark);
    bool other = (s->steps && s->steps != recipe->steps) || s->n_times || s->grid || (s->solver && strcmp(s->solver, recipe->solver)) ||
                 (s->has_guidance && !recipe->has_range && (!recipe->has_guidance || s->guidance != recipe->guidance));
    if (recipe->steps && other)
        at += (size_t)snprintf(r->remark, size, "warning: this student was made for %d steps of %s; its recipe is overridden. ",
                               recipe->steps, recipe->solver);
    if (p->clip > 0 && at < size)
        at += (size_t)snprintf(r->remark + at, size - at, "%s: x0 is clipped to [%g, %g]. ", m->info.scheduler, -p->clip, p->clip);
    double last = p->to[p->steps - 1];
    if (last > 0 && at < size)
        at += (size_t)snprintf(r->remark + at, size - at, "%s: the last step ends at alpha %.6g, not at data. ", m->info.scheduler,
                               rt_process_alpha(m->process, last));
    if (m->scheduler && !rt_scheduler_solver(m->scheduler) && !s->solver && !recipe->steps && at < size)
        snprintf(r->remark + at, size - at, "%s: its solver is not known here; ddim is used. ", m->info.scheduler);
    size_t n = strlen(r->remark);
    if (n) r->remark[n - 1] = 0;
}

static rt_status check_classes(const rt_model *m, const rt_sampling *s, double guidance, rt_error *err)
{
    const rt_model_info *i = &m->info;
    const rt_model *guide = s->guide;
    if (guidance == 0 && guide) RT_RAISE(RT_E_USAGE, "--guide needs --guidance W: (1+W) model - W guide");
    if (guide && guide->info.classes && guide->info.classes != i->classes)
        RT_RAISE(RT_E_USAGE, "the guide %s has %lld classes, the model %lld", guide->info.chosen, (long long)guide->info.classes,
                 (long long)i->classes);
    if (guidance != 0 && !guide && i->classes == 0) RT_RAISE(RT_E_USAGE, "guidance needs a model with classes; this one has none");
    if (guidance != 0 && !guide && i->null_class < 0)
        RT_RAISE(RT_E_USAGE, "guidance needs a null class; the model names none, so give --null-class K (a label in 0..%lld)",
                 (long long)i->classes - 1);
    if (s->choice == RT_CLASS_NULL && i->null_class < 0)
        RT_RAISE(RT_E_USAGE, "the model has no null class%s", i->classes ? "; give --null-class K" : "");
    if (s->choice == RT_CLASS_ONE && !rt__label_fits(i, s->label))
        RT_RAISE(RT_E_USAGE, "class %lld does not exist; the model has %lld", (long long)s->label, (long long)i->classes);
    if (s->n_negatives > 0 && guidance == 0) RT_RAISE(RT_E_USAGE, "--negative needs --guidance W: (1+W) prompt - W negative");
    RT_TRY(rt__check_labels(i, s->n_labels, s->labels, err));
    RT_TRY(rt__check_labels(i, s->n_negatives, s->negatives, err));
    if (s->choice == RT_CLASS_ALL && !s->y && s->n_labels == 0 && i->words && rt_words_prompts(i->words) == 0)
        RT_RAISE(RT_E_USAGE, "%s: the model is told words and lists no prompts; give --prompt, or --class null for none", i->chosen);
    return rt__check_labels(i, s->n, s->y, err);
}

/* A guide is asked at the model's times: its process must be the same. */
static rt_status check_guide(const rt_model *m, const rt_model *guide, rt_error *err)
{
    if (!guide) return RT_OK;
    if (guide->net && rt_net_describe(guide->net)->draws)
        RT_RAISE(RT_E_USAGE, "the guide %s sees draws of its own; give one that sees none", guide->info.chosen);
    if (!guide->process) RT_RAISE(RT_E_USAGE, "the guide %s has no scheduler, so nothing says what it predicts", guide->info.chosen);
    double end = rt_process_end(m->process);
    for (int k = 1; k <= 8; k++) {
        double t = end * k / 8, here = rt_process_alpha(m->process, t), there = rt_process_alpha(guide->process, t);
        if (!(fabs(here - there) <= 1e-6))
            RT_RAISE(RT_E_USAGE, "the guide %s has alpha %.6g at time %g, the model %.6g; both must be trained on one process",
                     guide->info.chosen, there, t, here);
    }
    return RT_OK;
}

static rt_status resolve(rt_model *m, const rt_sampling *s, path *p, rt_sample_report *r, rt_error *err)
{
    *r = (rt_sample_report){0};
    RT_TRY(rt__model_check_whole(m, err));
    RT_TRY(rt__model_check_alone(m, err));
    if (!m->process)
        RT_RAISE(RT_E_USAGE, "%s: the model has no scheduler, so nothing says how noise becomes data; give one with --scheduler FILE",
                 m->info.chosen);
    RT_TRY(choose_path(m, s, p, r, err));
    RT_TRY(check_classes(m, s, p->guidance, err));
    RT_TRY(check_guide(m, s->guide, err));
    const rt_solver_info *solver = rt_solver_get_info(p->solver);
    r->steps = p->steps;
    r->times[r->n_times++] = p->from[0];
    for (int k = 0; k < p->steps; k++) {
        int calls = p->to[k] > 0 ? solver->calls : 1;                     /* the step to time 0 is the prediction itself */
        r->calls += calls * (p->guidance != 0 ? 2 : 1);                   /* outside the interval of guidance fewer are made */
        if (p->followed && calls == 2) r->times[r->n_times++] = p->to[k]; /* Heun's trial */
        r->times[r->n_times++] = k + 1 < p->steps ? p->from[k + 1] : p->to[k];
    }
    int sees = m->net ? rt_net_describe(m->net)->draws : 0, each = sees ? sees : 1;
    if (sees && rt_solver_draws(p->solver, &s->options))
        RT_RAISE(RT_E_USAGE, "%s: the network sees the draws of whole steps, to which %s adds noise of its own; sample with ddim",
                 m->info.chosen, solver->name);
    if (s->draws && !sees && !rt_solver_draws(p->solver, &s->options))
        RT_RAISE(RT_E_USAGE, "--draws: the solver %s adds no noise%s", solver->name, solver->eta ? "; give --eta" : "");
    if (s->draws && s->n_draws < (int64_t)p->steps * each)
        RT_RAISE(RT_E_USAGE, "--draws: holds the noise of %lld steps; %d are taken%s", (long long)s->n_draws, p->steps * each,
                 sees ? " by the teacher whose draws this student sees" : "");
    remark(m, s, p, r);
    return RT_OK;
}

/* ---- one batch */

typedef struct batch {
    const rt_model *model;
    const rt_sampling *sampling;
    const rt_scheduler *scheduler; /* NULL: its conventions do not count */
    rt_sample_spec spec;
    rt_sample_room driver;
    rt_field guide;
    int64_t room, features, count, first; /* samples that fit; of this batch; its first, within the sampling */
    int states;                           /* of the trace */
    double input_scale;                   /* see path */
    double *state;
    float *x, *trace;
    int64_t *y, *negative;
} batch;

static double state_scale(const batch *b, double t) { return b->scheduler ? rt_scheduler_state_scale(b->scheduler, t) : 1; }

static rt_status keep_trace(void *self, int k, double t, int64_t n, const double *x, rt_error *err)
{
    batch *b = self;
    (void)err;
    double scale = state_scale(b, t);
    float *to = b->trace + (int64_t)k * n * b->features;
    for (int64_t i = 0; i < n * b->features; i++) to[i] = (float)(scale * x[i]);
    return RT_OK;
}

/* Noise of sample `index`: keyed by its number, so it depends neither on batches nor on how many samples are drawn. Step 0 is the start. */
static void draw_noise(uint64_t seed, uint32_t step, int64_t index, int64_t features, double *out)
{
    rt__draw d = {.seed = seed, .name = rt__draw_name("sample.noise"), .clock = step};
    rt__draw_normals(&d, (uint32_t)index, features, out);
}

/* What a solver adds in step k. */
static rt_status draw_step(void *self, int k, int64_t n, double *z, rt_error *err)
{
    const batch *b = self;
    const rt_sampling *s = b->sampling;
    (void)err;
    for (int64_t j = 0; j < n; j++) {
        const float *given = s->draws ? s->draws + ((int64_t)k * s->n + b->first + j) * b->features : NULL;
        if (!given) draw_noise(s->seed, (uint32_t)k + 1, s->first + b->first + j, b->features, z + j * b->features);
        for (int64_t i = 0; given && i < b->features; i++) z[j * b->features + i] = (double)given[i];
    }
    return RT_OK;
}

static void start(batch *b, const rt_sampling *s, int64_t at)
{
    const rt_model_info *info = &b->model->info;
    double scale = b->input_scale > 0 ? b->input_scale
                   : b->scheduler     ? rt_scheduler_noise_scale(b->scheduler, b->spec.from[0])
                                      : rt_process_noise_scale(b->model->process);
    for (int64_t j = 0; j < b->count; j++) {
        double *x = b->state + j * b->features;
        int64_t index = s->first + at + j;
        if (s->noise)
            for (int64_t i = 0; i < b->features; i++) x[i] = (double)s->noise[(at + j) * b->features + i];
        else
            draw_noise(s->seed, 0, index, b->features, x);
        for (int64_t i = 0; i < b->features; i++) x[i] *= scale;
        if (!info->classes) continue;
        if (s->n_negatives > 0) b->negative[j] = s->negatives[index % s->n_negatives];
        b->y[j] = s->y                         ? s->y[at + j]
                  : s->n_labels > 0            ? s->labels[index % s->n_labels]
                  : s->choice == RT_CLASS_ONE  ? s->label
                  : s->choice == RT_CLASS_NULL ? info->null_class
                                               : rt__usual_label(info->words, info->classes, info->null_class, index);
    }
}

static bool open_batch(batch *b, const rt_model *m, const rt_sampling *s, const path *p, const rt_sample_report *r)
{
    int64_t wanted = s->batch > 0 ? s->batch : USUAL_BATCH;
    b->model = m;
    b->sampling = s;
    b->scheduler = p->scheduled ? m->scheduler : NULL;
    b->states = r->n_times;
    b->input_scale = p->input_scale;
    b->features = m->info.features;
    b->room = wanted < s->n ? wanted : s->n;
    size_t size = (size_t)(b->room * b->features);
    b->state = malloc(size * sizeof *b->state);
    b->x = malloc(size * sizeof *b->x);
    b->y = m->info.classes ? malloc((size_t)b->room * sizeof *b->y) : NULL;
    b->negative = s->n_negatives > 0 ? malloc((size_t)b->room * sizeof *b->negative) : NULL;
    b->trace = s->trace ? malloc(size * (size_t)b->states * sizeof *b->trace) : NULL;
    b->spec = (rt_sample_spec){.process = m->process,
                               .solver = p->solver,
                               .steps = p->steps,
                               .from = p->from,
                               .to = p->to,
                               .network_times = p->scheduled ? p->network_times : NULL,
                               .order = p->followed ? p->order : NULL,
                               .options = s->options,
                               .noise = draw_step,
                               .noise_self = b,
                               .guidance = p->guidance,
                               .negative = b->negative,
                               .guidance_low = s->guidance_low,
                               .guidance_high = s->guidance_high,
                               .guidance_rescale = s->guidance_rescale,
                               .clip = p->clip,
                               .trace = s->trace ? keep_trace : NULL,
                               .trace_self = b,
                               .trace_calls = p->followed,
                               .room = &b->driver};
    return b->state && b->x && (b->y || !m->info.classes) && (b->negative || s->n_negatives == 0) && (b->trace || !s->trace);
}

static void close_batch(batch *b)
{
    free(b->state);
    free(b->x);
    free(b->y);
    free(b->negative);
    free(b->trace);
    free(b->driver.bytes);
}

/* Are there steps that the model makes on a device by itself? What it predicts must say something of x0 in all of them. */
static bool steps_stay(const rt_model *m, const rt_sampling *s, const rt_sample_spec *spec)
{
    double alpha = rt_process_alpha(m->process, spec->from[0]), beta = rt_process_beta(m->process, spec->from[0]);
    bool guided_throughout = !s->guide && s->guidance_low == 0 && s->guidance_high == 0 && s->guidance_rescale == 0;
    return rt_backend_apart(m->backend) && m->net && !rt_net_describe(m->net)->draws && guided_throughout &&
           !strcmp(rt_solver_get_info(spec->solver)->name, "ddim") && s->options.eta == 0 &&
           rt_prediction_check(m->prediction, alpha, beta, NULL) == RT_OK;
}

static rt_status open_field(batch *b, rt_model *m, const rt_sampling *s, rt_field *field, rt_error *err)
{
    rt_evaluator *e;
    if (!steps_stay(m, s, &b->spec)) {
        RT_TRY(rt__model_field(m, b->room * (b->spec.guidance != 0 && !s->guide ? 2 : 1), field, err));
        return s->guide ? rt__model_field(s->guide, b->room, &b->guide, err) : RT_OK;
    }
    RT_TRY(rt__model_stepper(m, b->room, b->spec.guidance, &e, err));
    *field = e->field;
    b->spec.stepper = rt__evaluator_stepper(e);
    b->spec.guidance = 0; /* by the model's own program */
    b->spec.negative = NULL;
    return RT_OK;
}

static rt_status run_batches(batch *b, rt_model *m, const rt_sampling *s, rt_take_samples take, void *user, rt_error *err)
{
    rt_field field;
    RT_TRY(open_field(b, m, s, &field, err));
    if (s->guide) b->spec.guide = &b->guide;
    m->evaluator->others = b->negative;
    m->evaluator->noise = draw_step;
    m->evaluator->noise_self = b;
    for (int64_t at = 0; at < s->n; at += b->room) {
        b->count = m->evaluator->samples = s->n - at < b->room ? s->n - at : b->room;
        b->first = at;
        start(b, s, at);
        RT_TRY(rt_sample(&b->spec, &field, b->count, b->state, b->y, err));
        double scale = state_scale(b, b->spec.to[b->spec.steps - 1]);
        for (int64_t i = 0; i < b->count * b->features; i++) b->x[i] = (float)(scale * b->state[i]);
        for (int64_t i = 0; i < b->count * b->features; i++)
            if (!isfinite(b->x[i]))
                RT_RAISE(RT_E_INVALID, "sample %lld is not finite (NaN or infinite); are these weights of a trained model?",
                         (long long)(s->first + at + i / b->features));
        RT_TRY(take(user, &(rt_samples){s->first + at, b->count, b->x, b->y, b->trace}, err));
    }
    return RT_OK;
}

rt_status rt_model_plan(rt_model *m, const rt_sampling *s, rt_sample_report *report, rt_error *err)
{
    path *p = calloc(1, sizeof *p);
    if (!p) RT_RAISE(RT_E_MEMORY, "out of memory for the times of a sampler");
    rt_status status = resolve(m, s, p, report, err);
    free(p);
    return status;
}

rt_status rt_model_sample(rt_model *m, const rt_sampling *s, rt_take_samples take, void *user, rt_sample_report *report, rt_error *err)
{
    batch b = {0};
    path *p = calloc(1, sizeof *p);
    if (!p) RT_RAISE(RT_E_MEMORY, "out of memory for the times of a sampler");
    rt_status status = resolve(m, s, p, report, err);
    if (status == RT_OK && !open_batch(&b, m, s, p, report))
        status = rt_error_set(err, RT_E_MEMORY, "out of memory for %lld samples at a time; lower --batch", (long long)b.room);
    if (status == RT_OK) status = run_batches(&b, m, s, take, user, err);
    if (m->evaluator) m->evaluator->noise = NULL, m->evaluator->others = NULL;
    close_batch(&b);
    free(p);
    return status;
}
