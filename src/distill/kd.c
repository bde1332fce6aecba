/* kd.c -- knowledge distillation (Luhman & Luhman 2021): one step regresses a long rollout of the teacher, (1.9). The pairs (noise, teacher sample) are drawn once. */
#include "distill/method.h"
#include "distill/rollout.h"

#include "base/internal.h"

static rt_status kd_plan(rt_distill *d)
{
    rt_error *err = d->err;
    if (!rt__distance_find("kd.loss", d->config->kd.loss, err)) return RT_E_USAGE;
    RT_TRY(rt__teacher_solver(d, "kd.teacher-solver", d->config->kd.solver));
    d->first.guidance = d->config->kd.guidance;
    d->n_rounds = 1;
    d->chain[0] = d->teacher_steps = d->config->kd.steps;
    d->n_chain = d->steps = 1;
    return rt__draws_plan(d);
}

static rt_status kd_build(rt_distill *d)
{
    rt_graph *g = d->graph;
    rt_node *x1 = rt__input_x(d, "x1"), *y = rt__input_y(d), *target = rt__input_x(d, "sample");
    rt__input_draws(d, &d->student);
    rt_node *first = rt_const(g, RT_I64, 0, NULL, &(int64_t){0});
    rt_node *k = rt_broadcast(first, 1, (int64_t[]){RT_BATCH});
    rt_node *student =
        rt__denoise(&d->student, x1, d->draws, rt__at(d, d->grid, 1, 1, k), y); /* G_theta(x_1): the x0-prediction at t = 1 */
    rt_node *loss = rt__distance_find("kd.loss", d->config->kd.loss, NULL)(d, student, target);
    rt__minimise(d, "regress", d->student.set, rt_expect(loss)); /* (1.9) */
    d->inputs[0] = x1, d->inputs[1] = target, d->inputs[2] = y;
    return rt__source_pairs(d);
}

static const char *const kd_defaults[] = {"train.batch",   "128",          "train.lr",    "0.0003",    "train.lr-schedule",
                                          "linear",        "train.warmup", "200",         "train.ema", "0.999",
                                          "train.updates", "15000",        "train.beta2", "0.98",      NULL};

const rt_method rt__method_kd = {
    .name = "kd",
    .title = "knowledge distillation: one step learns a whole rollout of the teacher",
    .source = "Luhman & Luhman 2021",
    .equation = "(1.9)",
    .needs_teacher = true,
    .defaults = kd_defaults,
    .plan = kd_plan,
    .build = kd_build,
};
