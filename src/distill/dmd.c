/* dmd.c -- distribution matching distillation (Yin et al. 2023): the generator of `vsd` along normalised differences, held to the teacher's own map by a regression on
 * stored pairs (noise, the teacher's sample from it), which keeps modes from being lost.
 *
 *     x0 = G(z),  x_t = alpha x0 + beta eps                                                                        (1.12)
 *     score       E w |f_z(x_t, t) - sg[x0]|^2                                             trains zeta             (1.17)
 *     generator   b/(2D) |x0 - sg[x0 - w (f_z - f_p)/n]|^2 + r/D |G(z') - Psi(z')|^2       trains theta            (1.18), (1.9)
 *
 * n = mean over features of |x0 - f_p|, b dmd.weight, r dmd.regression; Psi is the teacher's solver. The paper's distance is LPIPS, here the square. */
#include "distill/score_objectives.h"
#include "distill/kept_samples.h"
#include "distill/vsd_meters.h"

#include "base/internal.h"

typedef struct dmd_settings {
    rt__vsd_settings vsd;
    rt__sample_settings samples;
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
static const rt_key_group groups[] = {
    {rt__vsd_keys, RT__VSD_KEYS, 0}, {rt__sample_keys, RT__SAMPLE_KEYS, offsetof(dmd_settings, samples)}, {keys, RT_COUNT(keys), 0}, {0}};

static rt_status generator_build(rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    const dmd_settings *own = rt__own(t->config);
    rt_node *loss = NULL;
    if (own->weight > 0) {
        rt__vsd_sample s;
        rt_node *f_p, *f_z;
        RT_TRY(rt__vsd_sample_generator(p, &s, err));
        rt__vsd_predict(p, &s, &f_p, &f_z);
        rt_node *difference = rt__score_difference(f_z, f_p), *w = rt__vsd_normalised(t) ? rt_div(s.w, rt__dmd_normaliser(s.x0, f_p)) : s.w;
        loss = rt__pull(s.x0, rt_mul(rt_per_sample(w, difference), difference));
        loss = rt_scale(rt_expect(loss), own->weight / (double)t->features);
    }
    if (own->regression > 0) {
        rt_node *noise = rt__input_x(p, "noise"), *y = rt__input_y(p), *sample = rt__input_x(p, "sample");
        rt_node *k = rt_broadcast(rt_const(p->graph, RT_I64, 0, NULL, &(int64_t){0}), 1, (int64_t[]){RT_BATCH});
        rt_node *G = rt__denoise(rt__denoiser(p, "student"), noise, NULL, rt__at(p, p->round->grid, 1, 1, k), y);
        rt_node *apart = rt_expect(rt__mean_square(t, G, sample));
        rt__log(p, "regression", apart);
        loss = loss ? rt_add(loss, rt_scale(apart, own->regression)) : rt_scale(apart, own->regression);
    }
    rt__minimise(p, loss);
    return own->regression > 0 ? rt__open_samples(p, &own->samples, err) : RT_OK;
}

static rt_status dmd_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const dmd_settings *own = rt__own(t->config);
    if (own->weight == 0 && own->regression == 0)
        RT_RAISE(RT_E_USAGE, "dmd.weight: 0, and dmd.regression is 0, too: the generator has no loss; give one of them");
    if (rt__vsd_steps(t) > 1 && own->regression > 0)
        RT_RAISE(
            RT_E_USAGE,
            "dmd.regression: %g, but pairs say where one step from noise ends, and the student has %d; give dmd.regression 0, or distil "
            "with dmd2",
            own->regression, rt__vsd_steps(t));
    if (rt__vsd_start(t) < rt_process_end(t->process) && own->regression > 0)
        RT_RAISE(RT_E_USAGE,
                 "%s: the student begins at time %g, but the teacher's pairs at the end of the process, %g; give %s, or dmd.regression 0",
                 own->vsd.n_timesteps > 0 ? "vsd.timesteps" : "vsd.start", rt__vsd_start(t), rt_process_end(t->process),
                 own->vsd.n_timesteps > 0 ? "that" : "1");
    RT_TRY(rt__vsd_plan(t, plan, rt__vsd_start(t), err));
    if (own->regression > 0 && own->samples.pairs == 0)
        RT_RAISE(RT_E_USAGE, "dmd.pairs: 0, but dmd.regression is %g; give pairs to regress on, or dmd.regression 0", own->regression);
    RT_TRY(rt__plan_samples(plan, &own->samples, err));
    rt__vsd_plan_score(plan, t, NULL);
    rt__vsd_plan_generator(plan, t, generator_build);
    rt__vsd_plan_meters(plan, t, true, NULL);
    return RT_OK;
}

static const char *const dmd_defaults[] = {
    "train.batch", "128",   "train.lr",    "0.0001", "train.lr-schedule", "constant", "train.warmup",  "100",  "train.clip",    "10",
    "train.beta1", "0",     "train.beta2", "0.99",   "train.ema",         "0.999",    "train.updates", "5000", "vsd.normalise", "dmd",
    "dmd.pairs",   "10000", NULL};

const rt_method rt__method_dmd = {
    .name = "dmd",
    .title = "distribution matching distillation: one step by a difference of scores and a regression on the teacher's samples",
    .source = "Yin et al. 2023, DMD",
    .equation = "(1.9), (1.12), (1.17), (1.18)",
    .minimises = {.name = "kl"},
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_METERS,
    .settings = groups,
    .defaults = dmd_defaults,
    .plan = dmd_plan,
};
