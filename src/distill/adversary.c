/* adversary.c -- see adversary.h. */
#include "distill/adversary.h"
#include "distill/sources.h"

#include "base/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRUCT rt__gan_settings
const rt_config_key rt__gan_keys[RT__GAN_KEYS] = {
    {.name = "gan.weight",
     .kind = RT_KEY_REAL,
     RT__AT(weight),
     .min = 0,
     .max = 1e6,
     .value = "0",
     .option = "gan-weight",
     .help = "of softplus(-logit) in the generator's loss; above 0 the rest of it is a mean over features"},
    RT__REAL("gan.critic-weight", critic_weight, 0, 1e6, "1",
             "of the critic's loss in that of the score, which is a mean over features then"),
    RT__REAL("gan.r1", r1, 0, 1e6, "0", "weight of the square of what noise of deviation 0.1 moves a logit of real samples; 0: none"),
    RT__TEXT("gan.head", head, "", "NAME",
             "conv or linear, on the score's hidden representation; empty: conv for pictures, linear for vectors"),
    RT__TEXT("gan.levels", levels, "deepest", "NAME",
             "deepest: one head, on the output of the score's mid block; all: one on each resolution, too, their logits added"),
    {.name = "gan.t-max",
     .kind = RT_KEY_REAL,
     RT__AT(t_max),
     .min = 0,
     .max = 1,
     .value = "1",
     .option = "gan-t-max",
     .help = "largest time of the critic's noised samples, as a fraction of the process"},
    {.name = "gan.start",
     .kind = RT_KEY_INT64,
     RT__AT(start),
     .min = 0,
     .max = 1e12,
     .value = "0",
     .option = "gan-start",
     .help = "updates of the generator before gan.weight counts; the critic learns from the first on"},
};

static const double penalty_deviation = 0.1;

static const rt__adversarial_settings *settings(const rt_task *t) { return rt__own(t->config); }

/* ---- the plan */

static rt_status find_heads(const rt_task *t, rt__heads *heads, rt_error *err)
{
    const rt__gan_settings *own = &settings(t)->gan;
    return rt__heads_find(own->head, own->levels, t->rank == 4, heads, err);
}

static rt_status declare_head(const rt_task *t, rt_params *set, rt_error *err)
{
    rt__heads heads;
    RT_TRY(find_heads(t, &heads, err));
    return rt__critic_declare(rt__network(t, "score")->denoiser.net, &heads, set, err);
}

/* The times at which the critic sees samples, `n` of them, each as likely. */
static rt_status critic_times(const rt_task *t, double **times, int *n, rt_error *err)
{
    const rt_density *row = rt_density_find(settings(t)->vsd.score_times, err);
    if (!row) return RT_E_USAGE;
    int all = rt_density_count(row, t->process);
    double latest = settings(t)->gan.t_max * rt_process_end(t->process), *at = malloc((size_t)(2 * all) * sizeof *at);
    if (!at) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", all);
    rt_status status = rt_density_times(row, t->process, NULL, all, at, at + all, err);
    *n = 0, *times = at;
    for (int i = 0; i < all && status == RT_OK; i++)
        if (at[i] <= latest) at[(*n)++] = at[i];
    if (status == RT_OK && *n == 0)
        status = rt_error_set(err, RT_E_USAGE, "gan.t-max: there is no time up to %g of the process; give more", settings(t)->gan.t_max);
    if (status != RT_OK) free(at);
    return status;
}

static bool has_real_samples(const rt_task *t) { return t->data || t->teacher.oracle; }

rt_status rt__gan_plan_critic(const rt_task *t, rt_plan *plan, bool regresses, rt_error *err)
{
    rt__heads heads;
    double *times;
    int n;
    if (plan->knob)
        RT_RAISE(
            RT_E_USAGE,
            "vsd.guidance-range: omega is a knob here, and a critic compares with real samples, which have none; take a method without a "
            "critic, or gan.weight 0");
    RT_TRY(find_heads(t, &heads, err));
    RT_TRY(critic_times(t, &times, &n, err));
    free(times);
    const rt__sample_settings *samples = &settings(t)->samples;
    if (samples->pairs > 0 && has_real_samples(t) && !regresses)
        RT_RAISE(RT_E_USAGE, "dmd.pairs: %lld, but the critic's real samples come from %s; leave it out", (long long)samples->pairs,
                 t->data ? "the data" : "the oracle's own draws");
    if (!has_real_samples(t) && samples->pairs == 0 && !regresses)
        RT_RAISE(RT_E_USAGE,
                 "%s: a critic compares with real samples, and there are none; give --data, or --pairs N for N samples of the teacher",
                 t->config->teacher);
    RT_TRY(rt__plan_samples(plan, samples, err));
    for (int i = 0; i < plan->n_networks; i++)
        if (!strcmp(plan->networks[i].name, "score")) plan->networks[i].declare = declare_head;
    return RT_OK;
}

rt_status rt__gan_plan(const rt_task *t, rt_plan *plan, bool regresses, rt_error *err)
{
    const rt__sample_settings *samples = &settings(t)->samples;
    if (settings(t)->gan.weight > 0) return rt__gan_plan_critic(t, plan, regresses, err);
    if (t->data)
        RT_RAISE(RT_E_USAGE, "%s: data that nobody asks for, as there is no critic; give --gan-weight above 0, or leave --data out",
                 t->config->data.path);
    if (samples->pairs > 0 && !regresses)
        RT_RAISE(RT_E_USAGE, "dmd.pairs: %lld, but nobody asks for samples of the teacher; leave it out", (long long)samples->pairs);
    return rt__plan_samples(plan, samples, err);
}

bool rt__gan_planned(const rt_task *t) { return rt__network(t, "score")->plan->declare == declare_head; }

/* ---- real samples */

rt_status rt__gan_real(rt_phase *p, rt_node **x, rt_node **y, rt_error *err)
{
    const rt_task *t = p->round->task;
    const rt__sample_settings *samples = &settings(t)->samples;
    *x = rt__input_x(p, has_real_samples(t) ? "x0" : "sample");
    *y = rt__input_y(p);
    return t->data ? rt__source_data(p, err) : t->teacher.oracle ? rt__source_oracle(p, err) : rt__open_samples(p, samples, err);
}

/* ---- logits */

rt_node *rt__gan_logit(rt_phase *p, rt_node *xt, rt_at t, rt_node *y)
{
    const rt_task *task = p->round->task;
    const rt_denoiser *score = rt__denoiser(p, "score");
    rt_error unused;
    rt__critic critic = {.net = score->net, .trunk = score->set, .head = score->set};
    find_heads(task, &critic.heads, &unused); /* the plan has refused what cannot be */
    return rt__critic_logit(&critic, xt, rt__told(score, t), y);
}

rt_node *rt__vsd_logit(rt_phase *p, const rt__vsd_sample *s, rt_node *xt, rt_node *y)
{
    rt_at t = s->t;
    t.omega = s->step;
    return rt__gan_logit(p, xt, t, y);
}

rt_status rt__gan_noised(rt_phase *p, const char *name, rt_node *x, rt_node *step, rt__gan_sample *s, rt_error *err)
{
    const rt_task *task = p->round->task;
    char draw[64];
    double *times;
    int n;
    RT_TRY(critic_times(task, &times, &n, err));
    snprintf(draw, sizeof draw, "t.%s", name);
    rt_node *k = rt_randint(p->graph, draw, 1, (int64_t[]){RT_BATCH}, n);
    snprintf(draw, sizeof draw, "eps.%s", name);
    rt_at t = rt__at(p, times, n, 1, k);
    *s = (rt__gan_sample){.xt = rt_diffuse(x, t.alpha, t.beta, rt_randn(p->graph, draw, task->rank, task->shape)), .t = t};
    s->t.omega = step;
    free(times);
    return RT_OK;
}

rt_status rt__gan_critic_loss(rt_phase *p, const rt_divergence *d, const rt__vsd_sample *s, rt_node **loss, rt_error *err)
{
    const rt__gan_settings *own = &settings(p->round->task)->gan;
    rt_node *real, *label;
    rt__gan_sample fakes, reals;
    RT_TRY(rt__gan_real(p, &real, &label, err));
    RT_TRY(rt__gan_noised(p, "fake", rt_stop_grad(s->x0), s->step, &fakes, err));
    RT_TRY(rt__gan_noised(p, "real", real, s->step, &reals, err));
    rt_node *of_fake = rt__gan_logit(p, fakes.xt, fakes.t, s->y), *of_real = rt__gan_logit(p, reals.xt, reals.t, label);
    *loss = rt_expect(d ? rt__f_critic_loss(d, of_fake, of_real) : rt__critic_loss(of_fake, of_real));
    if (own->r1 > 0) {
        rt_node *noise = rt_scale(rt_randn(p->graph, "r1", p->round->task->rank, p->round->task->shape), penalty_deviation);
        rt_node *moved = rt__gan_logit(p, rt_add(reals.xt, noise), reals.t, label);
        *loss = rt_add(*loss, rt_scale(rt_expect(rt__critic_penalty(of_real, moved)), own->r1));
    }
    *loss = rt_scale(*loss, own->critic_weight);
    return RT_OK;
}

rt_status rt__gan_generator_term(rt_phase *p, const rt__vsd_sample *s, rt_node **loss, rt_error *err)
{
    rt__gan_sample seen;
    RT_TRY(rt__gan_noised(p, "gan", s->x0, s->step, &seen, err));
    *loss = rt_scale(rt_expect(rt__generator_loss(rt__gan_logit(p, seen.xt, seen.t, s->y))), settings(p->round->task)->gan.weight);
    return RT_OK;
}

rt_status rt__gan_generator_loss(rt_phase *p, const rt__vsd_sample *s, rt_node **loss, rt_error *err)
{
    const rt__gan_settings *own = &settings(p->round->task)->gan;
    *loss = NULL;
    if (own->weight == 0) return RT_OK;
    RT_TRY(rt__gan_generator_term(p, s, loss, err));
    rt__log(p, "gan_loss", *loss);
    if (own->start > 0) {
        rt_node *begun = rt_less(rt_scalar(p->graph, (double)own->start - 0.5), rt__run_number(p));
        *loss = rt_mul(*loss, rt_cast(begun, rt_graph_real(p->graph)));
    }
    return RT_OK;
}

/* ---- the score's phase */

static rt_status build_score(rt_phase *p, bool matching, rt_error *err)
{
    rt__vsd_sample s;
    rt_node *critic;
    const rt_task *t = p->round->task;
    RT_TRY(rt__vsd_sample_score(p, &s, err));
    rt_node *loss = matching ? rt__vsd_score_loss(p, &s) : NULL;
    if (rt__gan_planned(t)) {
        RT_TRY(rt__gan_critic_loss(p, NULL, &s, &critic, err));
        rt__log(p, "critic_loss", critic);
        loss = loss ? rt_add(rt_scale(loss, 1.0 / (double)t->features), critic) : critic;
    }
    rt__minimise(p, loss);
    return RT_OK;
}

rt_status rt__gan_score_build(rt_phase *p, rt_error *err) { return build_score(p, true, err); }
rt_status rt__gan_critic_build(rt_phase *p, rt_error *err) { return build_score(p, false, err); }
