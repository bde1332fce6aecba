/* dmd.c -- distribution matching distillation, `dmd` (Yin et al. 2023) and `dmd2` (Yin et al. 2024): the generator of `vsd` along normalised differences, and beside it
 * what keeps modes from being lost: a regression on stored pairs (noise, the teacher's sample from it), or a GAN whose critic is a head on the auxiliary score. The two
 * methods are rows of defaults over one plan.
 *
 *     x0 = G(z),  x_t = alpha x0 + beta eps                                                                           (1.12)
 *     score       E w |f_z(x_t, t) - sg[x0]|^2/D + c (softplus(l(fake)) + softplus(-l(real)))    trains zeta and its head   (1.17)
 *     generator   b/(2D) |x0 - sg[x0 - w (f_z - f_p)/n]|^2 + r/D |G(z') - Psi(z')|^2 + g softplus(-l(fake))   trains theta   (1.18), (1.9)
 *
 * n = mean over features of |x0 - f_p|, b dmd.weight, r dmd.regression, g gan.weight, c gan.critic-weight; Psi is the teacher's solver. The paper's distance is LPIPS, here
 * the square. A critic sees its samples at times of its own. With b = 0 and g > 0 the method is the GAN alone (Zheng et al. 2025, D2O): nobody asks for the difference of
 * scores, and zeta is the critic's trunk and nothing else. */
#include "distill/adversary.h"
#include "distill/score_objectives.h"
#include "distill/vsd_meters.h"

#include "base/internal.h"

#include <math.h>

typedef struct dmd_settings {
    rt__adversarial_settings family;
    double weight, regression;
} dmd_settings;
_Static_assert(sizeof(dmd_settings) <= RT_CONFIG_OWN, "settings must fit");

#undef STRUCT
#define STRUCT dmd_settings
static const rt_config_key keys[] = {
    {.name = "dmd.weight",
     .kind = RT_KEY_REAL,
     RT__AT(weight),
     .min = 0,
     .max = 1e6,
     .value = "1",
     .option = "dmd-weight",
     .help = "of the difference of scores in the generator's loss; 0: none"},
    RT__REAL("dmd.regression", regression, 0, 1e6, "0.25",
             "weight of the regression on pairs, a mean over features; 0: none, and no pairs"),
};
static const rt_key_group groups[] = {RT__ADVERSARIAL_GROUPS, {keys, RT_COUNT(keys), 0}, {0}};

static const dmd_settings *settings(const rt_task *t) { return rt__own(t->config); }

/* b/(2D) |x0 - sg[x0 - w (f_z - f_p)/n]|^2 */
static rt_node *matching(rt_phase *p, const rt__vsd_sample *s)
{
    const rt_task *t = p->round->task;
    rt_node *f_p, *f_z;
    rt__vsd_predict(p, s, &f_p, &f_z);
    rt_node *difference = rt__score_difference(f_z, f_p), *w = rt__vsd_normalised(t) ? rt_div(s->w, rt__dmd_normaliser(s->x0, f_p)) : s->w;
    rt_node *loss = rt__pull(s->x0, rt_mul(rt_per_sample(w, difference), difference));
    return rt_scale(rt_expect(loss), settings(t)->weight / (double)t->features);
}

/* r/D |G(z') - Psi(z')|^2 */
static rt_status regression(rt_phase *p, rt_node **loss, rt_error *err)
{
    const rt_task *t = p->round->task;
    rt_node *noise = rt__input_x(p, "noise"), *y = rt__input_y(p), *sample = rt__input_x(p, "sample");
    rt_node *k = rt_broadcast(rt_const(p->graph, RT_I64, 0, NULL, &(int64_t){0}), 1, (int64_t[]){RT_BATCH});
    rt_node *G = rt__denoise(rt__denoiser(p, "student"), noise, NULL, rt__at(p, p->round->grid, 1, 1, k), y);
    rt_node *apart = rt_expect(rt__mean_square(t, G, sample));
    rt__log(p, "regression", apart);
    *loss = rt_scale(apart, settings(t)->regression);
    return rt__open_samples(p, &settings(t)->family.samples, err);
}

static rt_node *add(rt_node *a, rt_node *b) { return a && b ? rt_add(a, b) : a ? a : b; }

static rt_status generator_build(rt_phase *p, rt_error *err)
{
    const dmd_settings *own = settings(p->round->task);
    rt__vsd_sample s;
    rt_node *gan = NULL, *pairs = NULL;
    bool draws = own->weight > 0 || own->family.gan.weight > 0;
    if (draws) RT_TRY(rt__vsd_sample_generator(p, &s, err));
    if (draws) RT_TRY(rt__gan_generator_loss(p, &s, &gan, err));
    rt_node *scores = own->weight > 0 ? matching(p, &s) : NULL;
    if (own->regression > 0) RT_TRY(regression(p, &pairs, err));
    rt__minimise(p, add(add(scores, pairs), gan));
    return RT_OK;
}

static const rt_meter gan_gradient = {"gan_gradient", "the GAN's gradient at the student's samples over that of the difference of scores",
                                      RT_METER_MEAN,  0,
                                      -INFINITY,      INFINITY,
                                      NULL,           false};

static bool both_terms(const dmd_settings *own) { return own->weight > 0 && own->family.gan.weight > 0; }

static rt_node *norm_per_sample(rt_node *gradient) { return rt_sqrt(rt_norm2(gradient)); }

/* E|dL_gan/dx0| / E|dL_scores/dx0| */
static rt_status measure(rt_phase *p, rt_error *err)
{
    rt__vsd_sample s;
    rt_node *gan, *of_gan, *of_scores;
    RT_TRY(rt__vsd_measure(p, &s, err));
    RT_TRY(rt__gan_planned(p->round->task) ? rt__gan_measure(p, &s, err) : RT_OK);
    if (!both_terms(settings(p->round->task))) return RT_OK;
    RT_TRY(rt__gan_generator_term(p, &s, &gan, err));
    rt_grad(gan, &s.x0, 1, &of_gan);
    rt_grad(matching(p, &s), &s.x0, 1, &of_scores);
    rt__meter(p, &gan_gradient, norm_per_sample(of_gan), norm_per_sample(of_scores));
    return RT_OK;
}

static rt_status check_regression(const rt_task *t, rt_error *err)
{
    const dmd_settings *own = settings(t);
    if (own->regression == 0) return RT_OK;
    if (rt__vsd_steps(t) > 1)
        RT_RAISE(
            RT_E_USAGE,
            "dmd.regression: %g, but pairs say where one step from noise ends, and the student has %d; give dmd.regression 0, or distil "
            "with dmd2",
            own->regression, rt__vsd_steps(t));
    if (rt__vsd_start(t) < rt_process_end(t->process))
        RT_RAISE(RT_E_USAGE,
                 "%s: the student begins at time %g, but the teacher's pairs at the end of the process, %g; give %s, or dmd.regression 0",
                 own->family.vsd.n_timesteps > 0 ? "vsd.timesteps" : "vsd.start", rt__vsd_start(t), rt_process_end(t->process),
                 own->family.vsd.n_timesteps > 0 ? "that" : "1");
    return RT_OK;
}

static rt_status plan_phases(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const dmd_settings *own = settings(t);
    const rt__gan_settings *gan = &own->family.gan;
    if (own->weight == 0 && own->regression == 0 && gan->weight == 0)
        RT_RAISE(RT_E_USAGE, "dmd.weight: 0, and dmd.regression and gan.weight are 0, too: the generator has no loss; give one of them");
    if (own->weight == 0 && own->regression == 0 && gan->start > 0)
        RT_RAISE(RT_E_USAGE,
                 "gan.start: %lld, but dmd.weight is 0: the generator has no loss before; give 0, and vsd.score-warmup for a critic that "
                 "begins earlier",
                 (long long)gan->start);
    RT_TRY(check_regression(t, err));
    RT_TRY(rt__vsd_plan(t, plan, rt__vsd_start(t), err));
    RT_TRY(rt__gan_plan(t, plan, own->regression > 0, err));
    rt__vsd_plan_score(plan, t, gan->weight > 0 && own->weight == 0 ? rt__gan_critic_build : rt__gan_score_build);
    rt__vsd_plan_generator(plan, t, generator_build);
    rt__vsd_plan_meters(plan, t, own->weight > 0, measure);
    if (both_terms(own)) rt__plan_meter(plan, &gan_gradient);
    return RT_OK;
}

#define DEFAULTS                                                                                                                           \
    "train.batch", "128", "train.lr", "0.0001", "train.lr-schedule", "constant", "train.warmup", "100", "train.clip", "10", "train.beta1", \
        "0", "train.beta2", "0.99", "train.ema", "0.999", "train.updates", "5000", "vsd.normalise", "dmd"
static const char *const dmd_defaults[] = {DEFAULTS, NULL};
static const char *const dmd2_defaults[] = {DEFAULTS, "dmd.regression", "0", "gan.weight", "0.003", "gan.critic-weight", "0.01", NULL};

const rt_method rt__method_dmd = {
    .name = "dmd",
    .title = "distribution matching distillation: one step by a difference of scores and a regression on the teacher's samples",
    .source = "Yin et al. 2023, DMD",
    .equation = "(1.9), (1.12), (1.17), (1.18)",
    .minimises = {.name = "kl"},
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA | RT_READS_METERS,
    .settings = groups,
    .defaults = dmd_defaults,
    .plan = plan_phases,
};

const rt_method rt__method_dmd2 = {
    .name = "dmd2",
    .title = "improved distribution matching: one step by a difference of scores and a GAN on the auxiliary score",
    .source = "Yin et al. 2024, DMD2",
    .equation = "(1.12), (1.17), (1.18)",
    .minimises = {.name = "kl"},
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA | RT_READS_METERS,
    .settings = groups,
    .defaults = dmd2_defaults,
    .plan = plan_phases,
};
