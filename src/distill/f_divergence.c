/* f_divergence.c -- distribution matching under any f-divergence (1.19), with u = p_theta/p at x_t: as (1.18) with samples weighted by u f''(u) (Xu et al. 2025), or
 * as a game (Nowozin et al. 2016).
 *
 *     x0 = G(z),  x_t = alpha x0 + beta eps                                                                       (1.12)
 *     score       E w |f_z(x_t, t) - sg[x0]|^2 + critic               trains zeta, its head tells p from p_theta   (1.17)
 *     generator   E h w sg[f_z - f_p]^T x0, h = u f''(u)              trains theta; E_theta and means as in ratio.h
 *
 *     form gan    critic E_theta T - E_p f*(T) rises, generator E omega T falls; T = f'(u), u = exp(-logit)
 *
 * omega = w/SNR. With kl, h = 1 and the first form is `vsd`. */
#include "distill/ratio.h"
#include "distill/vsd_meters.h"

#include "base/internal.h"

#include <string.h>

typedef struct f_settings {
    rt__ratio_settings shared;
    char divergence[32], form[16];
} f_settings;
_Static_assert(sizeof(f_settings) <= RT_CONFIG_OWN, "settings must fit");

#undef STRUCT
#define STRUCT f_settings
static const rt_config_key keys[] = {
    RT__TEXT("f.divergence", divergence, "kl", "NAME", "row of `retort list divergences`"),
    RT__TEXT("f.form", form, "weight", "NAME", "weight: differences of scores weighted by u f''(u); gan: the critic's T = f'(u) alone"),
};
static const rt_key_group groups[] = {RT__RATIO_GROUPS, {keys, RT_COUNT(keys), 0}, {0}};

static rt_status weighted_build(rt_phase *p, rt_error *err)
{
    const f_settings *own = rt__own(p->round->task->config);
    rt__vsd_sample s;
    RT_TRY(rt__vsd_sample_generator(p, &s, err));
    rt_node *log_u = rt__ratio_log_u(p, &s);
    rt_node *h = rt__f_weight(p, rt_divergence_find(own->divergence, err), rt__ratio_clipped(p, log_u), rt__ratio_bins(p, &s));
    return rt__ratio_minimise(p, &s, log_u, h, err);
}

static rt_status means_build(rt_phase *p, rt_error *err)
{
    rt__vsd_sample s;
    RT_TRY(rt__vsd_sample_generator(p, &s, err));
    rt__ratio_keep(p, &s, rt__ratio_of(rt__ratio_clipped(p, rt__ratio_log_u(p, &s))));
    return RT_OK;
}

/* The critic is all that the auxiliary network learns. */
static rt_status gan_critic_build(rt_phase *p, rt_error *err)
{
    const f_settings *own = rt__own(p->round->task->config);
    rt__vsd_sample s;
    rt_node *loss;
    RT_TRY(rt__vsd_sample_score(p, &s, err));
    RT_TRY(rt__gan_critic_loss(p, rt_divergence_find(own->divergence, err), &s, &loss, err));
    rt__minimise(p, loss);
    return RT_OK;
}

static rt_status gan_generator_build(rt_phase *p, rt_error *err)
{
    const f_settings *own = rt__own(p->round->task->config);
    rt__vsd_sample s;
    RT_TRY(rt__vsd_sample_generator(p, &s, err));
    rt_node *T = rt__f_generator_loss(rt_divergence_find(own->divergence, err), rt__vsd_logit(p, &s, s.xt, s.y));
    rt_node *omega =
        rt_mul(s.w, rt_square(rt_div(rt_reshape(s.t.beta, 1, (int64_t[]){RT_BATCH}), rt_reshape(s.t.alpha, 1, (int64_t[]){RT_BATCH}))));
    rt__minimise(p, rt_expect(rt_mul(omega, T)));
    return RT_OK;
}

static rt_status measure(rt_phase *p, rt_error *err)
{
    const f_settings *own = rt__own(p->round->task->config);
    rt__vsd_sample s;
    RT_TRY(rt__vsd_measure(p, &s, err));
    rt_node *weight = !strcmp(own->form, "gan")
                          ? NULL
                          : rt_divergence_weight_of(rt_divergence_find(own->divergence, err), rt__ratio_clipped(p, rt__ratio_log_u(p, &s)));
    return rt__ratio_measure(p, &s, weight, err);
}

static rt_status f_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const f_settings *own = rt__own(t->config);
    bool gan = !strcmp(own->form, "gan");
    if (!rt_divergence_find(own->divergence, err)) return RT_E_USAGE;
    if (!gan && strcmp(own->form, "weight") != 0) RT_RAISE(RT_E_USAGE, "f.form: '%s'; give weight or gan", own->form);
    if (gan && strcmp(own->shared.ratio, "critic") != 0)
        RT_RAISE(RT_E_USAGE, "f.form: gan, but f.ratio is %s; a game needs its critic: give f.ratio critic", own->shared.ratio);
    RT_TRY(rt__ratio_plan(t, plan, err));
    if (gan) {
        rt__vsd_plan_score(plan, t, gan_critic_build);
        rt__vsd_plan_generator(plan, t, gan_generator_build);
    } else {
        rt__ratio_plan_phases(t, plan, means_build, weighted_build);
    }
    rt__vsd_plan_meters(plan, t, !gan, measure); /* a game has no score */
    rt__ratio_plan_meters(plan, t, !gan);
    return RT_OK;
}

const rt_method rt__method_f = {
    .name = "f",
    .title = "distribution matching under an f-divergence: differences of scores weighted by a ratio, or a game",
    .source = "Xu et al. 2025, f-distill; Nowozin et al. 2016, f-GAN",
    .equation = "(1.19)",
    .minimises = {.key = "f.divergence"},
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA | RT_READS_METERS,
    .settings = groups,
    .defaults = rt__ratio_defaults,
    .plan = f_plan,
};
