/* sid.c -- score identity distillation: the generator of `vsd` on another objective, whose gradient goes through both networks.
 *
 *     x0 = G(z),  x_t = alpha x0 + beta eps                                                          (1.12)
 *     score       E w |f_z(x_t, t) - sg[x0]|^2                                trains zeta, first in each update (1.17)
 *     generator   E w (f_p - f_z)^T [(f_p - x0) - a (f_p - f_z)]              trains theta
 *
 * With gan.weight above 0 (Zhou et al. 2025, SiDA) the score has a critic's head, and both losses are means over features beside softplus(-l(fake)).
 *
 * f_p and f_z are functions of x_t and so of theta; their own weights stand still. With an exact f_z, a = 1/2 is half the gradient of the Fisher divergence
 * E w |f_p - f_z|^2, a = 1 that gradient with the distribution of x_t held fixed; the published 1.2 is neither. G is the network at the time where
 * beta/alpha = 2.5, of beta z. */
#include "distill/adversary.h"
#include "distill/score_objectives.h"
#include "distill/vsd_meters.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>

typedef struct sid_settings {
    rt__adversarial_settings family;
    double alpha, start_sigma;
} sid_settings;
_Static_assert(sizeof(sid_settings) <= RT_CONFIG_OWN, "settings must fit");

#define PUBLISHED "2.5"
#define STRUCT    sid_settings
static const rt_config_key keys[] = {
    RT__REAL("sid.alpha", alpha, 0, 10, "1.2",
             "a of the loss: 0.5 follows the gradient of the Fisher divergence, 1.2 is the published one"),
    RT__REAL("sid.start-sigma", start_sigma, 0, 1e6, PUBLISHED,
             "beta/alpha of the time at which a generator of one step is asked; 0: vsd.start"),
};
static const rt_key_group groups[] = {RT__ADVERSARIAL_GROUPS, {keys, RT_COUNT(keys), 0}, {0}};

static rt_status generator_build(rt_phase *p, rt_error *err)
{
    const sid_settings *own = rt__own(p->round->task->config);
    rt__vsd_sample s;
    rt_node *f_p, *f_z, *gan;
    RT_TRY(rt__vsd_sample_generator(p, &s, err));
    rt__vsd_predict(p, &s, &f_p, &f_z);
    RT_TRY(rt__gan_generator_loss(p, &s, &gan, err));
    rt_node *w = rt__vsd_normalised(p->round->task) ? rt_div(s.w, rt__dmd_normaliser(s.x0, f_p)) : s.w;
    rt_node *loss = rt_expect(rt__score_identity(w, own->alpha, f_p, f_z, s.x0));
    rt__minimise(p, gan ? rt_add(rt_scale(loss, 1.0 / (double)p->round->task->features), gan) : loss);
    return RT_OK;
}

/* The time at which beta/alpha is sid.start-sigma, or as near as the process comes. */
static double start(const rt_task *t)
{
    const sid_settings *own = rt__own(t->config);
    if (own->start_sigma == 0 || own->family.vsd.steps > 1 || own->family.vsd.n_timesteps > 0) return rt__vsd_start(t);
    double at = rt_process_time(t->process, -2 * log(own->start_sigma));
    return rt_process_discrete_steps(t->process) ? fmax(1, rint(at)) : at;
}

static rt_status sid_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const sid_settings *own = rt__own(t->config);
    if (own->start_sigma != 0 && own->start_sigma != atof(PUBLISHED) && rt__vsd_steps(t) > 1)
        RT_RAISE(RT_E_USAGE, "sid.start-sigma: %g, but a student of %d steps begins with noise; leave it out", own->start_sigma,
                 rt__vsd_steps(t));
    RT_TRY(rt__vsd_plan(t, plan, start(t), err));
    RT_TRY(rt__gan_plan(t, plan, false, err));
    rt__vsd_plan_score(plan, t, rt__gan_score_build);
    rt__vsd_plan_generator(plan, t, generator_build);
    rt__vsd_plan_meters(plan, t, true, NULL);
    return RT_OK;
}

static const char *const sid_defaults[] = {
    "train.batch",   "128", "train.lr",    "0.001", "train.lr-schedule", "linear", "train.warmup",  "100",  "train.clip",        "0",
    "train.beta1",   "0",   "train.beta2", "0.99",  "train.ema",         "0.999",  "train.updates", "5000", "vsd.score-updates", "1",
    "vsd.normalise", "dmd", NULL};

const rt_method rt__method_sid = {
    .name = "sid",
    .title = "score identity distillation: one step by a loss through teacher and score",
    .source = "Zhou et al. 2024, Score identity Distillation",
    .equation = "(1.12), (1.17)",
    .minimises = {.name = "fisher", .key = "sid.alpha", .value = "0.5"},
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA | RT_READS_METERS,
    .settings = groups,
    .defaults = sid_defaults,
    .plan = sid_plan,
};
