/* dmd2.c -- improved distribution matching distillation (Yin et al. 2024): the generator of `vsd` along normalised differences, and a GAN beside it whose critic is a head
 * on the auxiliary score; no pairs, no regression.
 *
 *     x0 = G(z),  x_t = alpha x0 + beta eps                                                                           (1.12)
 *     score       E w |f_z(x_t, t) - sg[x0]|^2/D + c (softplus(l(fake)) + softplus(-l(real)))    trains zeta and its head   (1.17)
 *     generator   b/(2D) |x0 - sg[x0 - w (f_z - f_p)/n]|^2 + g softplus(-l(fake))                trains theta               (1.18)
 *
 * n = mean over features of |x0 - f_p|, b dmd.weight, c gan.critic-weight, g gan.weight; a critic sees its samples at times of its own. With b = 0 the
 * method is the GAN alone (Zheng et al. 2025, D2O): nobody asks for the difference of scores, and zeta is the critic's trunk and nothing else. */
#include "distill/adversary.h"
#include "distill/score_objectives.h"
#include "distill/vsd_meters.h"

#include "base/internal.h"

typedef struct dmd2_settings {
    rt__adversarial_settings family;
    double weight;
} dmd2_settings;
_Static_assert(sizeof(dmd2_settings) <= RT_CONFIG_OWN, "settings must fit");

#undef STRUCT
#define STRUCT dmd2_settings
static const rt_config_key keys[] = {
    {.name = "dmd.weight",
     .kind = RT_KEY_REAL,
     RT__AT(weight),
     .min = 0,
     .max = 1e6,
     .value = "1",
     .option = "dmd-weight",
     .help = "of the difference of scores in the generator's loss; 0: none"},
};
static const rt_key_group groups[] = {RT__ADVERSARIAL_GROUPS, {keys, RT_COUNT(keys), 0}, {0}};

static rt_status score_build(rt_phase *p, rt_error *err)
{
    rt__vsd_sample s;
    rt_node *critic;
    const rt_task *t = p->round->task;
    RT_TRY(rt__vsd_sample_score(p, &s, err));
    RT_TRY(rt__gan_critic_loss(p, NULL, s.x0, s.y, &critic, err));
    rt__log(p, "critic_loss", critic);
    bool matching = ((const dmd2_settings *)rt__own(t->config))->weight > 0;
    rt__minimise(p, matching ? rt_add(rt_scale(rt__vsd_score_loss(p, &s), 1.0 / (double)t->features), critic) : critic);
    return RT_OK;
}

static rt_status generator_build(rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    const dmd2_settings *own = rt__own(t->config);
    rt__vsd_sample s;
    rt_node *f_p, *f_z, *gan, *loss = NULL;
    RT_TRY(rt__vsd_sample_generator(p, &s, err));
    RT_TRY(rt__gan_generator_loss(p, s.x0, s.y, &gan, err));
    if (own->weight > 0) {
        rt__vsd_predict(p, &s, &f_p, &f_z);
        rt_node *difference = rt__score_difference(f_z, f_p), *w = rt__vsd_normalised(t) ? rt_div(s.w, rt__dmd_normaliser(s.x0, f_p)) : s.w;
        loss = rt__pull(s.x0, rt_mul(rt_per_sample(w, difference), difference));
        loss = rt_scale(rt_expect(loss), own->weight / (double)t->features);
    }
    rt__minimise(p, loss && gan ? rt_add(loss, gan) : loss ? loss : gan);
    return RT_OK;
}

static rt_status measure(rt_phase *p, rt_error *err)
{
    rt__vsd_sample s;
    RT_TRY(rt__vsd_measure(p, &s, err));
    return rt__gan_measure(p, &s, err);
}

static rt_status dmd2_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const dmd2_settings *own = rt__own(t->config);
    if (own->weight == 0 && own->family.gan.weight == 0)
        RT_RAISE(RT_E_USAGE, "dmd.weight: 0, and gan.weight is 0, too: the generator has no loss; give one of them");
    if (own->weight == 0 && own->family.gan.start > 0)
        RT_RAISE(RT_E_USAGE,
                 "gan.start: %lld, but dmd.weight is 0: the generator has no loss before; give 0, and vsd.score-warmup for a critic that "
                 "begins earlier",
                 (long long)own->family.gan.start);
    RT_TRY(rt__vsd_plan(t, plan, rt__vsd_start(t), err));
    RT_TRY(rt__gan_plan(t, plan, err));
    rt__vsd_plan_score(plan, t, score_build);
    rt__vsd_plan_generator(plan, t, generator_build);
    rt__vsd_plan_meters(plan, t, own->weight > 0, measure);
    rt__gan_plan_meters(plan);
    return RT_OK;
}

static const char *const dmd2_defaults[] = {"train.batch",
                                            "128",
                                            "train.lr",
                                            "0.0001",
                                            "train.lr-schedule",
                                            "constant",
                                            "train.warmup",
                                            "100",
                                            "train.clip",
                                            "10",
                                            "train.beta1",
                                            "0",
                                            "train.beta2",
                                            "0.99",
                                            "train.ema",
                                            "0.999",
                                            "train.updates",
                                            "5000",
                                            "gan.weight",
                                            "0.003",
                                            "vsd.normalise",
                                            "dmd",
                                            "gan.critic-weight",
                                            "0.01",
                                            NULL};

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
    .plan = dmd2_plan,
};
