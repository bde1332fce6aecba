/* renyi.c -- distribution matching under Renyi's divergence of order alpha (1.20): (1.18) with samples weighted by
 *
 *     h = alpha u^(alpha - 1)/E[u^(alpha - 1)],  u = p_theta/p at x_t                                                 (1.22), (1.23)
 *
 * the mean taken where t is the same: the samples of a batch share one, or with f.bins it is taken where t is nearly the same. The ratio comes from a critic or is exact; alpha to 1 is `vsd`. */
#include "distill/ratio.h"
#include "distill/vsd_meters.h"

#include "base/internal.h"

typedef struct renyi_settings {
    rt__ratio_settings shared;
    double alpha;
} renyi_settings;
_Static_assert(sizeof(renyi_settings) <= RT_CONFIG_OWN, "settings must fit");

#undef STRUCT
#define STRUCT renyi_settings
static const rt_config_key keys[] = {
    RT__REAL("renyi.alpha", alpha, 0, 100, "2", "order, above 0 and not 1; below 1 it covers more mass, above it seeks modes"),
};
static const rt_key_group groups[] = {RT__RATIO_GROUPS, {keys, RT_COUNT(keys), 0}, {0}};

static rt_status means_build(rt_phase *p, rt_error *err)
{
    const renyi_settings *own = rt__own(p->round->task->config);
    rt__vsd_sample s;
    RT_TRY(rt__vsd_sample_generator(p, &s, err));
    rt__ratio_keep(p, &s, rt__renyi_power(own->alpha, rt__ratio_clipped(p, rt__ratio_log_u(p, &s))));
    return RT_OK;
}

static rt_status generator_build(rt_phase *p, rt_error *err)
{
    const renyi_settings *own = rt__own(p->round->task->config);
    rt__vsd_sample s;
    RT_TRY(own->shared.bins > 0 ? rt__vsd_sample_generator(p, &s, err) : rt__vsd_sample_generator_at_one_time(p, &s, err));
    rt_node *log_u = rt__ratio_log_u(p, &s);
    return rt__ratio_minimise(p, &s, log_u, rt__renyi_weight(p, own->alpha, rt__ratio_clipped(p, log_u), rt__ratio_bins(p, &s)), err);
}

static rt_status measure(rt_phase *p, rt_error *err)
{
    const renyi_settings *own = rt__own(p->round->task->config);
    rt__vsd_sample s;
    RT_TRY(rt__vsd_measure(p, &s, err));
    return rt__ratio_measure(p, &s, rt_exp(rt_scale(rt__ratio_clipped(p, rt__ratio_log_u(p, &s)), own->alpha - 1)), err);
}

static rt_status renyi_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const renyi_settings *own = rt__own(t->config);
    if (own->alpha == 0 || own->alpha == 1)
        RT_RAISE(RT_E_USAGE, "renyi.alpha: %g; must be above 0 and not 1, whose limit is the method vsd", own->alpha);
    RT_TRY(rt__ratio_plan(t, plan, err));
    rt__ratio_plan_phases(t, plan, means_build, generator_build);
    rt__vsd_plan_meters(plan, t, true, measure);
    rt__ratio_plan_meters(plan, t, true);
    return RT_OK;
}

const rt_method rt__method_renyi = {
    .name = "renyi",
    .title = "distribution matching under Renyi's divergence: differences of scores weighted by a power of a ratio",
    .source = "(1.23)",
    .equation = "(1.20)-(1.23)",
    .minimises = {.name = "renyi", .key = "renyi.alpha"},
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA | RT_READS_METERS,
    .settings = groups,
    .defaults = rt__ratio_defaults,
    .plan = renyi_plan,
};
