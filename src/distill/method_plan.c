/* method_plan.c -- what plans of methods are made of. */
#include "distill/method.h"

#include "base/internal.h"

#include <stdio.h>
#include <string.h>

rt_training rt__training(const rt_config *c)
{
    return (rt_training){.lr = c->train.lr,
                         .lr_schedule = c->train.lr_schedule,
                         .warmup = c->train.warmup,
                         .optimiser = {.kind = !strcmp(c->train.optimiser, "adamw")   ? RT_ADAMW
                                               : !strcmp(c->train.optimiser, "radam") ? RT_RADAM
                                               : !strcmp(c->train.optimiser, "sgd")   ? RT_SGD
                                                                                      : RT_ADAM,
                                       .beta1 = c->train.beta1,
                                       .beta2 = c->train.beta2,
                                       .eps = c->train.eps,
                                       .weight_decay = c->train.weight_decay,
                                       .clip = c->train.clip}};
}

int64_t rt__round_updates(const rt_config *c, int64_t round)
{
    if (c->train.images > 0) return (c->train.images + c->train.batch - 1) / c->train.batch;
    return c->train.updates[round < c->train.n_updates ? round : c->train.n_updates - 1];
}

int64_t rt__at_most_an_eighth(const rt_round *r, int64_t n, int64_t least)
{
    const rt_config *c = r->task->config;
    int64_t eighth = rt__round_updates(c, r->index) * c->train.batch / 8, most = eighth > least ? eighth : least;
    return n < most ? n : most;
}

rt_network_plan *rt__plan_network(rt_plan *plan, rt_network_plan network)
{
    plan->networks[plan->n_networks] = network;
    return &plan->networks[plan->n_networks++];
}

rt_phase_plan *rt__plan_phase(rt_plan *plan, const rt_task *t, const char *name, const char *network,
                              rt_status (*build)(rt_phase *p, rt_error *err))
{
    plan->phases[plan->n_phases] =
        (rt_phase_plan){.name = name, .network = network, .stream = plan->n_phases, .training = rt__training(t->config), .build = build};
    return &plan->phases[plan->n_phases++];
}

void rt__plan_meter(rt_plan *plan, const rt_meter *meter) { plan->meters[plan->n_meters++] = meter; }

rt_network_plan *rt__plan_student(rt_plan *plan, const rt_task *t)
{
    return rt__plan_network(plan, (rt_network_plan){.name = "student",
                                                    .kind = RT_NETWORK_NET,
                                                    .start = RT_START_TEACHER,
                                                    .trained = true,
                                                    .averaged = t->config->train.ema > 0,
                                                    .deployed = true,
                                                    .follows = "student",
                                                    .prediction = t->teacher.prediction});
}

rt_status rt__plan_teacher(rt_plan *plan, const rt_task *t, const char *key, const char *solver, double guidance, rt_error *err)
{
    const rt_solver *row = rt_solver_find(solver, err);
    if (!row) rt_error_prefix(err, "%s", key);
    if (!row) return RT_E_USAGE;
    bool told = t->teacher.net && rt_net_describe(t->teacher.net)->guidance;
    if (guidance > 0 && t->null_class < 0 && !told)
        RT_RAISE(RT_E_USAGE, "%s: guidance needs a null class, and the teacher's recipe names none; give --null-class K",
                 t->config->teacher);
    if (told && (guidance < t->omega_low || guidance > t->omega_high))
        RT_RAISE(RT_E_USAGE, "%s: is guided by %g to %g, not by %g; give --guidance W within", t->config->teacher, t->omega_low,
                 t->omega_high, guidance);
    rt__plan_network(plan, (rt_network_plan){.name = "teacher", .kind = RT_NETWORK_TEACHER, .solver = row, .guidance = guidance});
    return RT_OK;
}

rt_status rt__plan_knob(rt_plan *plan, const rt_task *t, const char *key, const char *range, rt_error *err)
{
    bool told = t->teacher.net && rt_net_describe(t->teacher.net)->guidance;
    double low = t->omega_low, high = t->omega_high, omega = 0;
    int end = 0;
    if (!*range && !told) return RT_OK;
    if (*range && (sscanf(range, "%lf,%lf%n", &low, &high, &end) != 2 || range[end] || !(low >= 0 && low <= high && high <= 1e4)))
        RT_RAISE(RT_E_USAGE, "%s: '%s'; give LOW,HIGH with 0 <= LOW <= HIGH such as 0,4", key, range);
    if (told && (low < t->omega_low || high > t->omega_high))
        RT_RAISE(RT_E_USAGE, "%s: %g,%g is not within %g,%g, which the teacher was trained for", key, low, high, t->omega_low,
                 t->omega_high);
    if (!told && t->null_class < 0)
        RT_RAISE(RT_E_USAGE, "%s: guidance needs a null class, and the teacher's recipe names none; give --null-class K", key);
    for (int i = 0; i < plan->n_networks; i++)
        if (plan->networks[i].kind == RT_NETWORK_TEACHER) omega = plan->networks[i].guidance;
    if (omega < low || omega > high)
        RT_RAISE(RT_E_USAGE, "%s: %g, which --guidance makes the default, is outside %g,%g; give --guidance W within", key, omega, low,
                 high);
    plan->knob = true;
    plan->omega_low = low;
    plan->omega_high = high;
    for (int i = 0; i < plan->n_networks; i++) {
        rt_network_plan *n = &plan->networks[i];
        n->told = n->kind == RT_NETWORK_NET || (n->kind == RT_NETWORK_COPY && !(n->config && *n->config));
        if (n->told) n->guidance = omega;
    }
    return RT_OK;
}

rt_status rt__plan_draws(rt_plan *plan, const char *key, const char *value, int q, rt_error *err)
{
    rt_network_plan *student = NULL, *teacher = NULL;
    for (int i = 0; i < plan->n_networks; i++) {
        if (plan->networks[i].deployed) student = &plan->networks[i];
        if (plan->networks[i].kind == RT_NETWORK_TEACHER) teacher = &plan->networks[i];
    }
    if (!strcmp(value, "hidden")) return RT_OK;
    if (strcmp(value, "input"))
        RT_RAISE(RT_E_USAGE, "%s: '%s'; give hidden (the student learns the mean over its teacher's draws) or input (it sees them)", key,
                 value);
    if (!rt_solver_draws(teacher->solver, &(rt_solver_options){0}))
        RT_RAISE(RT_E_USAGE, "%s: input, but the teacher's solver %s adds no noise; give hidden, or a stochastic solver such as ddpm", key,
                 rt_solver_get_info(teacher->solver)->name);
    student->draws = q;
    return RT_OK;
}
