/* vsd.c -- variational score distillation (Algorithm 1): a generator G of one step follows the difference of two scores at its own noised samples, the
 * teacher's and that of its own distribution, which a second network, the auxiliary score, learns all along.
 *
 *     x0 = G(z),  x_t = alpha x0 + beta eps                                                   (1.12)
 *     score       E w |f_z(x_t, t) - sg[x0]|^2             trains zeta, k runs in each update (1.17)
 *     generator   E c sg[f_z(x_t, t) - f_p(x_t, t)]^T x0   trains theta                       (1.18)
 *
 * f_z, f_p are x0-predictions; s_z - s_p = alpha/beta^2 (f_z - f_p), so that with omega = weight/SNR the coefficient omega alpha alpha/beta^2 is c = weight:
 * weights are factors of a squared x0-difference here as everywhere. Nothing is differentiated through f_z, f_p and x_t. The teacher may be guided
 * (1.39), the auxiliary score is not. Norms are sums over features. */
#include "distill/sources.h"

#include "base/internal.h"
#include "model/classes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct vsd_settings {
    double t_min, t_max;               /* of the generator's times, fractions of the process */
    char times[32], score_times[32];   /* rows of `retort list densities` */
    char weight[32], score_weight[32]; /* rows of `retort list weights`; score_weight also own */
    int score_updates;
    double score_lr; /* 0: train.lr */
    int64_t score_warmup;
    char fake_net[RT_CONFIG_TEXT], fake_prediction[32], prediction[32];
    double guidance;
} vsd_settings;
_Static_assert(sizeof(vsd_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT vsd_settings
static const rt_config_key keys[] = {
    RT__REAL("vsd.t-min", t_min, 0, 1, "0.02", "least time of the generator's, as a fraction of the process"),
    RT__REAL("vsd.t-max", t_max, 0, 1, "0.98", "largest time of the generator's, as a fraction of the process"),
    RT__TEXT("vsd.times", times, "uniform", "NAME", "how often the generator's phase draws a time: row of `retort list densities`"),
    RT__TEXT("vsd.score-times", score_times, "uniform", "NAME",
             "how often the score's phase draws a time, of all: row of `retort list densities`"),
    RT__TEXT("vsd.weight", weight, "snr", "NAME", "omega SNR, row of `retort list weights`: snr is omega = 1"),
    RT__TEXT("vsd.score-weight", score_weight, "own", "NAME",
             "of the score's loss: own (even in its own output) or a row of `retort list weights`"),
    RT__INT("vsd.score-updates", score_updates, 1, 1000, "5", "updates of the score for one of the generator"),
    RT__REAL("vsd.score-lr", score_lr, 0, 1e3, "0", "learning rate of the score; 0: train.lr"),
    RT__INT64("vsd.score-warmup", score_warmup, 0, 1e9, "0", "updates of the score before the first of the generator"),
    RT__TEXT("vsd.fake-net", fake_net, "", "FILE", "config.json of the auxiliary score, started by draws; empty: a copy of the teacher"),
    RT__TEXT("vsd.fake-prediction", fake_prediction, "", "NAME",
             "of the auxiliary score; empty: a copy has the teacher's, a fresh network v"),
    RT__TEXT("vsd.prediction", prediction, "", "NAME", "of the student; empty: the teacher's, v for an epsilon teacher"),
    RT__REAL("vsd.guidance", guidance, 0, 1e4, "0", "weight omega of (1.39) for the teacher: (1+W) conditional - W unconditional"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

/* ---- what both phases build on */

/* A class per sample, of those that mean one, each as likely; NULL: there are none. */
static rt_node *draw_classes(rt_phase *p)
{
    const rt_task *t = p->round->task;
    int64_t n = rt__usual_classes(t->classes, t->null_class), *labels = n > 0 ? malloc((size_t)n * sizeof *labels) : NULL;
    if (n == 0) return NULL;
    if (!labels) return rt_fail(p->graph, "out of memory for %lld labels", (long long)n);
    for (int64_t i = 0; i < n; i++) labels[i] = rt__usual_class(t->classes, t->null_class, i);
    rt_node *table = rt_const(p->graph, RT_I64, 1, &n, labels), *k = rt_randint(p->graph, "class", 1, (int64_t[]){RT_BATCH}, n);
    free(labels);
    return rt_index_select(table, 0, k);
}

/* G(z): the x0-prediction at the noisiest time. */
static rt_node *generate(rt_phase *p, rt_node *y)
{
    const rt_task *t = p->round->task;
    rt_node *z = rt_scale(rt_randn(p->graph, "z", t->rank, t->shape), rt_process_noise_scale(t->process));
    rt_node *k = rt_broadcast(rt_const(p->graph, RT_I64, 0, NULL, &(int64_t){0}), 1, (int64_t[]){RT_BATCH});
    return rt__denoise(rt__denoiser(p, "student"), z, NULL, rt__at(p, p->round->grid, 1, 1, k), y);
}

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
    if (!row) return RT_E_USAGE;
    int all = rt_density_count(row, p);
    double end = rt_process_end(p);
    *d = (drawn_times){.t = malloc((size_t)(2 * all) * sizeof *d->t)};
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

static const rt_weight *score_weight(const vsd_settings *own, const rt_prediction *prediction, rt_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "uniform-%s", rt_prediction_name(prediction));
    return rt_weight_find(!strcmp(own->score_weight, "own") ? name : own->score_weight, err);
}

/* ---- the phases */

static rt_status score_build(rt_phase *p, rt_error *err)
{
    const rt_task *task = p->round->task;
    const vsd_settings *own = rt__own(task->config);
    const rt_denoiser *score = rt__denoiser(p, "score");
    drawn_times d;
    RT_TRY(tabulate(task, own->score_times, score_weight(own, score->prediction, err), 0, 1, &d, err));
    rt_node *k = rt_randint(p->graph, "t", 1, (int64_t[]){RT_BATCH}, d.n), *eps = rt_randn(p->graph, "eps", task->rank, task->shape);
    rt_node *y = draw_classes(p), *x0 = rt_stop_grad(generate(p, y));
    rt_at t = rt__at(p, d.t, d.n, 1, k);
    rt_node *w = rt_reshape(rt__pick(p, d.w, d.n, k), 1, (int64_t[]){RT_BATCH});
    rt_node *apart = rt_sub(rt__denoise(score, rt_diffuse(x0, t.alpha, t.beta, eps), NULL, t, y), x0);
    rt__minimise(p, rt_expect(rt_mul(w, rt_norm2(apart)))); /* (1.17) */
    free(d.t);
    return RT_OK;
}

static rt_status generator_build(rt_phase *p, rt_error *err)
{
    const rt_task *task = p->round->task;
    const vsd_settings *own = rt__own(task->config);
    drawn_times d;
    RT_TRY(tabulate(task, own->times, rt_weight_find(own->weight, err), own->t_min, own->t_max, &d, err));
    rt_node *k = rt_randint(p->graph, "t", 1, (int64_t[]){RT_BATCH}, d.n), *eps = rt_randn(p->graph, "eps", task->rank, task->shape);
    rt_node *y = draw_classes(p), *x0 = generate(p, y);
    rt_at t = rt__at(p, d.t, d.n, 1, k);
    rt_node *xt = rt_diffuse(x0, t.alpha, t.beta, eps);
    rt_node *f_z = rt__denoise(rt__denoiser(p, "score"), xt, NULL, t, y), *f_p = rt__denoise(rt__denoiser(p, "teacher"), xt, NULL, t, y);
    rt_node *c = rt_reshape(rt__pick(p, d.w, d.n, k), 1, (int64_t[]){RT_BATCH});
    rt_node *apart = rt_stop_grad(rt_sub(f_z, f_p));
    rt__log(p, "score_gap", rt_div(rt_expect(rt_norm2(apart)), rt_expect(rt_norm2(rt_sub(x0, f_p)))));
    rt__minimise(p, rt_expect(rt_mul(c, rt_dot(apart, x0)))); /* (1.18) */
    free(d.t);
    return RT_OK;
}

/* ---- the plan */

static const rt_prediction *find_or(const char *name, const rt_prediction *other, rt_error *err)
{
    return *name ? rt_prediction_find(name, err) : other;
}

static rt_status vsd_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const vsd_settings *own = rt__own(t->config);
    if (!t->teacher.net)
        RT_RAISE(RT_E_USAGE, "%s: vsd asks its teacher inside a graph, which this oracle cannot be; give a diffusers folder",
                 t->config->teacher);
    if (!(own->t_min < own->t_max)) RT_RAISE(RT_E_USAGE, "vsd.t-min: %g; must be less than vsd.t-max, %g", own->t_min, own->t_max);
    const rt_prediction *v = rt_prediction_find("v", err), *teacher = t->teacher.prediction;
    const rt_prediction *student = find_or(own->prediction, !strcmp(rt_prediction_name(teacher), "epsilon") ? v : teacher, err);
    const rt_prediction *fake = student ? find_or(own->fake_prediction, *own->fake_net ? v : teacher, err) : NULL;
    if (!fake || !score_weight(own, fake, err) || !rt_weight_find(own->weight, err)) return RT_E_USAGE;
    if (!rt_density_find(own->times, err) || !rt_density_find(own->score_times, err)) return RT_E_USAGE;
    plan->n_rounds = 1;
    plan->step_counts[0] = plan->n_step_counts = plan->rounds[0].teacher_steps = plan->rounds[0].steps = 1;
    rt__plan_student(plan, t)->prediction = student;
    RT_TRY(rt__plan_teacher(plan, t, "vsd.guidance", "ddim", own->guidance, err));
    rt__plan_network(plan, (rt_network_plan){.name = "score",
                                             .kind = RT_NETWORK_COPY,
                                             .config = own->fake_net,
                                             .start = *own->fake_net ? RT_START_SEED : RT_START_TEACHER,
                                             .trained = true,
                                             .prediction = fake});
    rt_phase_plan *score = rt__plan_phase(plan, t, "score", "score", score_build);
    score->runs = own->score_updates;
    if (own->score_lr > 0) score->training.lr = own->score_lr;
    rt_phase_plan *generator = rt__plan_phase(plan, t, "generator", "student", generator_build);
    generator->first = (own->score_warmup + own->score_updates - 1) / own->score_updates;
    return RT_OK;
}

static const char *const vsd_defaults[] = {
    "train.batch", "128", "train.lr",    "0.0001", "train.lr-schedule", "constant", "train.warmup",  "100",  "train.clip", "0",
    "train.beta1", "0",   "train.beta2", "0.99",   "train.ema",         "0.999",    "train.updates", "5000", NULL};

const rt_method rt__method_vsd = {
    .name = "vsd",
    .title = "variational score distillation: one step follows the difference of two scores",
    .source = "Wang et al. 2023, ProlificDreamer",
    .equation = "(1.12)-(1.18), Algorithm 1",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER,
    .settings = groups,
    .defaults = vsd_defaults,
    .plan = vsd_plan,
};
