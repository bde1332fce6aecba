/* vsd.c -- variational score distillation (Algorithm 1): a generator G of one step follows the difference of two scores at its own noised samples, the
 * teacher's and that of its own distribution, which a second network, the auxiliary score, learns all along.
 *
 *     x0 = G(z),  x_t = alpha x0 + beta eps                                                   (1.12)
 *     score       E w |f_z(x_t, t) - sg[x0]|^2             trains zeta, k runs in each update (1.17)
 *     generator   E w sg[f_z(x_t, t) - f_p(x_t, t)]^T x0   trains theta                       (1.18)
 *
 * f_z, f_p are x0-predictions; s_z - s_p = alpha/beta^2 (f_z - f_p), so that with omega = w/SNR the coefficient omega alpha alpha/beta^2 is w: weights are
 * factors of a squared x0-difference here as everywhere. Nothing is differentiated through f_z, f_p and x_t. The teacher may be guided (1.39), the
 * auxiliary score is not. Norms are sums over features; with DMD's normaliser n (Yin et al. 2023) the loss is its published form, a mean over them. */
#include "distill/score_objectives.h"
#include "distill/vsd_meters.h"

#include "base/internal.h"

static const rt_key_group groups[] = {{rt__vsd_keys, RT__VSD_KEYS, 0}, {0}};

static rt_status generator_build(rt_phase *p, rt_error *err)
{
    const rt_task *task = p->round->task;
    rt__vsd_sample s;
    rt_node *f_p, *f_z;
    RT_TRY(rt__vsd_sample_generator(p, &s, err));
    rt__vsd_predict(p, &s, &f_p, &f_z);
    rt_node *difference = rt__score_difference(f_z, f_p), *loss;
    if (rt__vsd_normalised(task)) {
        rt_node *g = rt_mul(rt_per_sample(rt_div(s.w, rt__dmd_normaliser(s.x0, f_p)), difference), difference);
        loss = rt_scale(rt__pull(s.x0, g), 1.0 / (double)task->features);
    } else {
        loss = rt__follow(s.w, difference, s.x0); /* (1.18) */
    }
    rt__minimise(p, rt_expect(loss));
    return RT_OK;
}

static rt_status vsd_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    RT_TRY(rt__vsd_plan(t, plan, rt__vsd_start(t), err));
    rt__vsd_plan_score(plan, t, NULL);
    rt__vsd_plan_generator(plan, t, generator_build);
    rt__vsd_plan_meters(plan, t, true, NULL);
    return RT_OK;
}

static const char *const vsd_defaults[] = {
    "train.batch", "128", "train.lr",    "0.001", "train.lr-schedule", "linear", "train.warmup",  "100",  "train.clip", "0",
    "train.beta1", "0",   "train.beta2", "0.99",  "train.ema",         "0.999",  "train.updates", "5000", NULL};

const rt_method rt__method_vsd = {
    .name = "vsd",
    .title = "variational score distillation: one step follows the difference of two scores",
    .source = "Wang et al. 2023, ProlificDreamer",
    .equation = "(1.12)-(1.18), Algorithm 1",
    .minimises = {.name = "kl"},
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_METERS,
    .settings = groups,
    .defaults = vsd_defaults,
    .plan = vsd_plan,
};
