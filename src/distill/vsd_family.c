/* vsd_family.c -- see vsd_family.h. */
#include "distill/vsd_family.h"

#include "base/internal.h"
#include "distill/meters.h"
#include "distill/score_objectives.h"
#include "distill/sources.h"
#include "model/classes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(rt__vsd_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT rt__vsd_settings
const rt_config_key rt__vsd_keys[RT__VSD_KEYS] = {
    RT__REAL("vsd.t-min", t_min, 0, 1, "0.02", "least time of the generator's, as a fraction of the process"),
    RT__REAL("vsd.t-max", t_max, 0, 1, "0.98", "largest time of the generator's, as a fraction of the process"),
    RT__TEXT("vsd.times", times, "uniform", "NAME", "how often the generator's phase draws a time: row of `retort list densities`"),
    RT__TEXT("vsd.score-times", score_times, "uniform", "NAME",
             "how often the score's phase draws a time, of all: row of `retort list densities`"),
    RT__TEXT("vsd.weight", weight, "uniform", "NAME", "omega SNR, row of `retort list weights`: snr is omega = 1"),
    RT__TEXT("vsd.score-weight", score_weight, "own", "NAME",
             "of the score's loss: own (even in its own output) or a row of `retort list weights`"),
    RT__TEXT("vsd.normalise", normalise, "none", "NAME",
             "none, or dmd: divide each sample's difference by the mean of |x0 - teacher's x0|; of vectors always none"),
    RT__INT("vsd.score-updates", score_updates, 1, 1000, "5", "updates of the score for one of the generator"),
    RT__REAL("vsd.score-lr", score_lr, 0, 1e3, "0", "learning rate of the score; 0: train.lr, of a fresh network twice that"),
    RT__INT64("vsd.score-warmup", score_warmup, 0, 1e9, "0", "updates of the score before the first of the generator"),
    RT__TEXT("vsd.fake-net", fake_net, "", "FILE",
             "config.json of the auxiliary score, started by draws; empty: a copy of the teacher, which an oracle has not"),
    RT__TEXT("vsd.fake-prediction", fake_prediction, "", "NAME",
             "of the auxiliary score; empty: a copy has the teacher's, a fresh network v, on straight paths velocity"),
    RT__TEXT("vsd.prediction", prediction, "", "NAME",
             "of the student; empty: the teacher's, v for an epsilon teacher, velocity on straight paths"),
    RT__REAL("vsd.guidance", guidance, 0, 1e4, "0", "weight omega of (1.39) for the teacher: (1+W) conditional - W unconditional"),
    RT__TEXT("vsd.guidance-range", range, "", "LOW,HIGH",
             "omega as a knob of the student (1.40), one for each sample; empty: that of a teacher which has one"),
    RT__REAL("vsd.start", start, 0, 1, "1", "time at which a generator of one step is asked, as a fraction of the process"),
    RT__INT("vsd.steps", steps, 0, RT_RECIPE_STEPS, "0", "steps of the student, at even times; 0: as many as vsd.timesteps lists, else 1"),
    {.name = "vsd.timesteps",
     .kind = RT_KEY_INTS,
     RT__AT(timesteps),
     .count_offset = offsetof(rt__vsd_settings, n_timesteps),
     .min = 0,
     .max = 1e9,
     .value = "",
     .help = "times of the student's steps as the network is told them, falling, such as 999,749,499,249; empty: even ones",
     .argument = "N,N,..."},
    RT__KEY(RT_KEY_BOOL, "vsd.score-step", score_step, 0, 1, "false",
            "of a student of several steps: tell the auxiliary score, and its critic, which step made a sample; each step then follows the "
            "teacher "
            "by itself, not their mixture"),
};

static const rt__vsd_settings *settings(const rt_task *t) { return rt__own(t->config); }

/* ---- times */

/* Times that a density draws between two fractions of the process, each as likely; its factor times the weight. */
typedef struct drawn_times {
    int n;
    double *t, *w;
} drawn_times;

static rt_status tabulate(const rt_task *task, const char *density, const rt_weight *weight, double low, double high, drawn_times *d,
                          rt_error *err)
{
    const rt_process *p = task->process;
    const rt_density *row = rt_density_find(density, err);
    *d = (drawn_times){0};
    if (!row || !weight) return RT_E_USAGE;
    int all = rt_density_count(row, p);
    double end = rt_process_end(p);
    d->t = malloc((size_t)(2 * all) * sizeof *d->t);
    if (!d->t) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", all);
    d->w = d->t + all;
    rt_status status = rt_density_times(row, p, weight, all, d->t, d->w, err);
    for (int i = 0; i < all && status == RT_OK; i++) {
        if (d->t[i] < low * end || d->t[i] > high * end) continue;
        d->t[d->n] = d->t[i];
        d->w[d->n++] = d->w[i] * rt_weight_at(weight, p, d->t[i], 0);
    }
    if (status == RT_OK && d->n == 0)
        status =
            rt_error_set(err, RT_E_USAGE, "vsd.t-min, vsd.t-max: there is no time between %g and %g of the process; widen them", low, high);
    if (status != RT_OK) free(d->t);
    return status;
}

static rt_status generator_times(const rt_task *t, drawn_times *d, rt_error *err)
{
    const rt__vsd_settings *own = settings(t);
    return tabulate(t, own->times, rt_weight_find(own->weight, err), own->t_min, own->t_max, d, err);
}

static const rt_weight *score_weight_row(const rt_task *t, const rt_prediction *prediction, rt_error *err)
{
    const rt__vsd_settings *own = settings(t);
    char name[64];
    snprintf(name, sizeof name, "uniform-%s", rt_prediction_name(prediction));
    return rt_weight_find(!strcmp(own->score_weight, "own") ? name : own->score_weight, err);
}

static rt_status score_times(const rt_task *t, const rt_prediction *prediction, drawn_times *d, rt_error *err)
{
    return tabulate(t, settings(t)->score_times, score_weight_row(t, prediction, err), 0, 1, d, err);
}

int rt__vsd_steps(const rt_task *t)
{
    const rt__vsd_settings *own = settings(t);
    return own->steps > 0 ? own->steps : own->n_timesteps > 0 ? own->n_timesteps : 1;
}

double rt__vsd_start(const rt_task *t)
{
    if (settings(t)->n_timesteps > 0) return rt_process_from_network_time(t->process, settings(t)->timesteps[0]);
    double end = rt_process_end(t->process), at = settings(t)->start * end;
    return rt_process_discrete_steps(t->process) ? fmax(1, rint(at)) : at;
}

/* ---- the plan */

/* alpha + beta = 1: a fresh network predicts the velocity. */
static bool has_straight_paths(const rt_process *p)
{
    double t = rt_process_end(p) / 2;
    return fabs(rt_process_alpha(p, t) + rt_process_beta(p, t) - 1) < 1e-6;
}

static const rt_prediction *find_or(const char *name, const rt_prediction *other, rt_error *err)
{
    return *name ? rt_prediction_find(name, err) : other;
}

/* What the student's steps are. */
static rt_status plan_steps(const rt_task *t, rt_plan *plan, double start, rt_error *err)
{
    const rt__vsd_settings *own = settings(t);
    int N = rt__vsd_steps(t), listed = own->n_timesteps;
    double end = rt_process_end(t->process);
    if (listed > 0 && listed != N) RT_RAISE(RT_E_USAGE, "vsd.steps: %d, but vsd.timesteps lists %d; give one of the two", N, listed);
    if (own->start < 1 && (N > 1 || listed > 0))
        RT_RAISE(RT_E_USAGE, "vsd.start: %g is the time of a single step, but %s; give 1, or the time as the first of vsd.timesteps",
                 own->start, listed > 0 ? "vsd.timesteps says when the student is asked" : "the student has several, the first on noise");
    for (int k = 0; k < listed; k++) {
        double time = plan->times[k] = rt_process_from_network_time(t->process, own->timesteps[k]);
        if (!(time > 0 && time <= end))
            RT_RAISE(RT_E_USAGE, "vsd.timesteps: %d is not a time of the process, whose noisiest is %g", own->timesteps[k],
                     rt_process_network_time(t->process, end));
        if (k > 0 && !(time < plan->times[k - 1]))
            RT_RAISE(RT_E_USAGE, "vsd.timesteps: %d after %d; times must fall", own->timesteps[k], own->timesteps[k - 1]);
    }
    plan->n_rounds = plan->n_step_counts = 1;
    plan->step_counts[0] = plan->rounds[0].teacher_steps = plan->rounds[0].steps = N;
    plan->start = start < end ? start : 0;
    return RT_OK;
}

/* An oracle is asked inside the graphs: at the cleanest time of the generator's. */
static rt_status check_oracle(const rt_task *t, const drawn_times *d, rt_error *err)
{
    const rt_oracle *o = t->teacher.oracle;
    if (!o) return RT_OK;
    double cleanest = -INFINITY;
    for (int i = 0; i < d->n; i++) cleanest = fmax(cleanest, rt_process_log_snr(t->process, d->t[i]));
    rt_status s = rt_oracle_check_graph(o, t->real, cleanest, err);
    if (s != RT_OK) rt_error_prefix(err, "%s", t->config->teacher);
    return s;
}

static rt_status check(const rt_task *t, const rt_prediction *fake, rt_error *err)
{
    const rt__vsd_settings *own = settings(t);
    drawn_times d;
    if (strcmp(own->normalise, "none") && strcmp(own->normalise, "dmd"))
        RT_RAISE(RT_E_USAGE, "vsd.normalise: '%s'; give dmd or none", own->normalise);
    if (!(own->t_min < own->t_max)) RT_RAISE(RT_E_USAGE, "vsd.t-min: %g; must be less than vsd.t-max, %g", own->t_min, own->t_max);
    if (!t->teacher.net && !*own->fake_net)
        RT_RAISE(RT_E_USAGE, "%s: an oracle has no network that the auxiliary score could copy; give vsd.fake-net, a config.json",
                 t->config->teacher);
    RT_TRY(score_times(t, fake, &d, err));
    free(d.t);
    RT_TRY(generator_times(t, &d, err));
    rt_status s = check_oracle(t, &d, err);
    free(d.t);
    return s;
}

rt_status rt__vsd_plan(const rt_task *t, rt_plan *plan, double start, rt_error *err)
{
    const rt__vsd_settings *own = settings(t);
    bool straight = has_straight_paths(t->process);
    const rt_prediction *fresh = rt_prediction_find(straight ? "velocity" : "v", err), *teacher = t->teacher.prediction;
    /* diffusers' classes of flow matching know the velocity alone; an epsilon-prediction at the noisiest time would be divided by alpha */
    bool other = straight || !strcmp(rt_prediction_name(teacher), "epsilon");
    const rt_prediction *student = find_or(own->prediction, other ? fresh : teacher, err);
    const rt_prediction *fake = student ? find_or(own->fake_prediction, *own->fake_net ? fresh : teacher, err) : NULL;
    if (!fake) return RT_E_USAGE;
    RT_TRY(check(t, fake, err));
    RT_TRY(plan_steps(t, plan, start, err));
    rt_network_plan *generator = rt__plan_student(plan, t);
    generator->prediction = student;
    generator->solver = rt__vsd_steps(t) > 1 ? rt_solver_find("renoise", err) : NULL;
    RT_TRY(rt__plan_teacher(plan, t, "vsd.guidance", "ddim", own->guidance, err));
    if (own->score_step && rt__vsd_steps(t) == 1)
        RT_RAISE(RT_E_USAGE, "vsd.score-step: the student has one step, so there is nothing to tell; give vsd.steps, or leave it out");
    rt__plan_network(plan, (rt_network_plan){.name = "score",
                                             .kind = RT_NETWORK_COPY,
                                             .told = own->score_step,
                                             .config = own->fake_net,
                                             .start = *own->fake_net ? RT_START_SEED : RT_START_TEACHER,
                                             .trained = true,
                                             .prediction = fake});
    RT_TRY(rt__plan_knob(plan, t, "vsd.guidance-range", own->range, err));
    if (own->score_step && plan->knob)
        RT_RAISE(RT_E_USAGE, "vsd.score-step: the score is told omega, the weight of guidance, which is a knob here, and has room for one "
                             "number; give false");
    return RT_OK;
}

rt_phase_plan *rt__vsd_plan_score(rt_plan *plan, const rt_task *t, rt_status (*build)(rt_phase *p, rt_error *err))
{
    const rt__vsd_settings *own = settings(t);
    rt_phase_plan *score = rt__plan_phase(plan, t, "score", "score", build ? build : rt__vsd_score_build);
    score->runs = own->score_updates;
    score->training.lr = own->score_lr > 0 ? own->score_lr : *own->fake_net ? 2 * score->training.lr : score->training.lr;
    return score;
}

rt_phase_plan *rt__vsd_plan_generator(rt_plan *plan, const rt_task *t, rt_status (*build)(rt_phase *p, rt_error *err))
{
    const rt__vsd_settings *own = settings(t);
    rt_phase_plan *generator = rt__plan_phase(plan, t, "generator", "student", build);
    generator->first = (own->score_warmup + own->score_updates - 1) / own->score_updates;
    return generator;
}

/* ---- draws */

/* A class per sample, of those that mean one, each as likely; NULL: there are none. */
static rt_node *draw_classes(rt_phase *p)
{
    const rt_task *t = p->round->task;
    int64_t n = rt__usual_labels(t->words, t->classes, t->null_class), shape[2];
    int rank = rt__label_shape(t->words, shape);
    int64_t *labels = n > 0 ? malloc((size_t)(n * shape[1]) * sizeof *labels) : NULL;
    if (n == 0) return NULL;
    if (!labels) return rt_fail(p->graph, "out of memory for %lld labels", (long long)n);
    for (int64_t i = 0; i < n; i++) rt__show_label(t->words, rt__usual_label(t->words, t->classes, t->null_class, i), i, labels);
    rt_node *table = rt_const(p->graph, RT_I64, rank, (int64_t[]){n, shape[1]}, labels),
            *k = rt_randint(p->graph, "class", 1, (int64_t[]){RT_BATCH}, n);
    free(labels);
    return rt_index_select(table, 0, k);
}

rt_node *rt__vsd_generate(rt_phase *p, rt_node *y, rt_node *omega)
{
    const rt_task *t = p->round->task;
    rt_node *z = rt_scale(rt_randn(p->graph, "z", t->rank, t->shape), rt__start_scale(t));
    rt_node *k = rt_broadcast(rt_const(p->graph, RT_I64, 0, NULL, &(int64_t){0}), 1, (int64_t[]){RT_BATCH});
    rt_at at = rt__at(p, p->round->grid, 1, 1, k);
    at.omega = omega;
    return rt__denoise(rt__denoiser(p, "student"), z, NULL, at, y);
}

/* The first of a sample: what the generator makes, and for which class. */
static rt_status generate(rt_phase *p, rt__vsd_sample *s, rt_error *err)
{
    const rt_round *r = p->round;
    s->step = NULL;
    if (rt__vsd_steps(r->task) == 1) {
        s->y = draw_classes(p);
        s->omega = rt__omega(p);
        s->x0 = rt__vsd_generate(p, s->y, s->omega);
        return RT_OK;
    }
    const int64_t one[] = {RT_BATCH};
    rt_node *x = rt__input_x(p, "state"), *k = rt__input(p, "step", RT_I64, 1, one);
    s->y = rt__input_labels(p, "label");
    rt_at at = rt__at(p, r->grid, r->steps, 1, k);
    at.omega = s->omega = rt__input_omega(p);
    s->x0 = rt__denoise(rt__denoiser(p, "student"), x, NULL, at, s->y);
    double number[RT_CONFIG_LIST];
    for (int i = 0; i < r->steps; i++) number[i] = i;
    if (settings(r->task)->score_step) s->step = rt_reshape(rt__pick(p, number, r->steps, k), 1, one);
    return rt__source_states(p, err);
}

/* The rest of a sample, for a table of times. */
static void noise_sample(rt_phase *p, const drawn_times *d, bool one_time, rt__vsd_sample *s)
{
    const rt_task *task = p->round->task;
    const int64_t each[] = {RT_BATCH};
    rt_node *k = one_time ? rt_broadcast(rt_randint(p->graph, "t", 0, NULL, d->n), 1, each) : rt_randint(p->graph, "t", 1, each, d->n);
    s->eps = rt_randn(p->graph, "eps", task->rank, task->shape);
    s->t = rt__at(p, d->t, d->n, 1, k);
    s->t.omega = s->omega;
    s->w = rt_reshape(rt__pick(p, d->w, d->n, k), 1, (int64_t[]){RT_BATCH});
    s->when = rt_scale(rt_reshape(rt__pick(p, d->t, d->n, k), 1, (int64_t[]){RT_BATCH}), 1 / rt_process_end(task->process));
    s->xt = rt_diffuse(s->x0, s->t.alpha, s->t.beta, s->eps);
}

static rt_status sample_generator(rt_phase *p, bool one_time, rt__vsd_sample *s, rt_error *err)
{
    drawn_times d;
    RT_TRY(generator_times(p->round->task, &d, err));
    rt_status status = generate(p, s, err);
    if (status == RT_OK) noise_sample(p, &d, one_time, s);
    free(d.t);
    return status;
}

rt_status rt__vsd_sample_generator(rt_phase *p, rt__vsd_sample *s, rt_error *err) { return sample_generator(p, false, s, err); }

rt_status rt__vsd_sample_generator_at_one_time(rt_phase *p, rt__vsd_sample *s, rt_error *err) { return sample_generator(p, true, s, err); }

rt_status rt__vsd_sample_score(rt_phase *p, rt__vsd_sample *s, rt_error *err)
{
    drawn_times d;
    RT_TRY(score_times(p->round->task, rt__denoiser(p, "score")->prediction, &d, err));
    rt_status status = generate(p, s, err);
    s->x0 = status == RT_OK ? rt_stop_grad(s->x0) : NULL;
    if (status == RT_OK) noise_sample(p, &d, false, s);
    free(d.t);
    return status;
}

rt_status rt__vsd_sample_held_out(rt_phase *p, rt__vsd_sample *s, rt_node **score_weight, rt_error *err)
{
    const rt_task *t = p->round->task;
    drawn_times d;
    int k[RT_METER_TIMES];
    double at[RT_METER_TIMES], w[RT_METER_TIMES], of_score[RT_METER_TIMES];
    const rt_weight *row = score_weight_row(t, rt__denoiser(p, "score")->prediction, err);
    if (!row) return RT_E_USAGE;
    RT_TRY(generator_times(t, &d, err));
    drawn_times held = {.t = at, .w = w};
    rt_node *drawn = rt__meter_times(p, d.n, d.t, k, &held.n);
    for (int i = 0; i < held.n; i++) {
        at[i] = d.t[k[i]], w[i] = d.w[k[i]];
        of_score[i] = rt_weight_at(row, t->process, at[i], 0);
    }
    free(d.t);
    RT_TRY(rt_graph_status(p->graph, err));
    RT_TRY(generate(p, s, err));
    noise_sample(p, &held, false, s);
    *score_weight = rt_reshape(rt__pick(p, of_score, held.n, drawn), 1, (int64_t[]){RT_BATCH});
    return RT_OK;
}

/* ---- objectives at a sample */

rt_node *rt__vsd_score(rt_phase *p, const rt__vsd_sample *s)
{
    rt_at t = s->t;
    if (s->step) t.omega = s->step;
    return rt__denoise(rt__denoiser(p, "score"), s->xt, NULL, t, s->y);
}

void rt__vsd_predict(rt_phase *p, const rt__vsd_sample *s, rt_node **f_p, rt_node **f_z)
{
    *f_z = rt__vsd_score(p, s);
    *f_p = rt__denoise(rt__denoiser(p, "teacher"), s->xt, NULL, s->t, s->y);
    rt__log(p, "score_gap", rt__score_gap(*f_p, *f_z, s->x0));
    rt__log(p, "fake_lag", rt__fake_lag(*f_p, *f_z, s->x0));
}

bool rt__vsd_normalised(const rt_task *t) { return t->rank == 4 && !strcmp(settings(t)->normalise, "dmd"); }

rt_node *rt__vsd_score_loss(rt_phase *p, const rt__vsd_sample *s)
{
    return rt_expect(rt__denoising_score_matching(s->w, rt__vsd_score(p, s), s->x0));
}

rt_status rt__vsd_score_build(rt_phase *p, rt_error *err)
{
    rt__vsd_sample s;
    RT_TRY(rt__vsd_sample_score(p, &s, err));
    rt__minimise(p, rt__vsd_score_loss(p, &s));
    return RT_OK;
}
