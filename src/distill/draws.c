/* draws.c -- what a student sees of its teacher's noise (1.4.5). A frozen transition is a map of (x_s, draws): a student from which they are hidden regresses to
 * the mean over them; one that is fed them beside x can follow the map itself. */
#include "distill/method.h"

#include "base/internal.h"

#include <string.h>

typedef struct setting {
    const char *key, *value;
    int q; /* steps of the teacher, each with a draw, in one of the student */
} setting;

static setting setting_of(const rt_config *c)
{
    int first = c->pd.n_steps > 0 ? c->pd.steps[0] : 1;
    if (!strcmp(c->method, "kd")) return (setting){"kd.draws", c->kd.draws, c->kd.steps};
    if (!strcmp(c->method, "pd")) return (setting){"pd.draws", c->pd.draws, c->pd.teacher_steps ? c->pd.teacher_steps / first : 2};
    return (setting){"draws", "hidden", 0};
}

int rt__draws_seen(const rt_config *c)
{
    setting s = setting_of(c);
    return strcmp(s.value, "input") ? 0 : s.q;
}

rt_status rt__draws_plan(rt_distill *d)
{
    rt_error *err = d->err;
    setting s = setting_of(d->config);
    if (!strcmp(s.value, "hidden")) return RT_OK;
    if (strcmp(s.value, "input"))
        RT_RAISE(RT_E_USAGE, "%s: '%s'; give hidden (the student learns the mean over its teacher's draws) or input (it sees them)", s.key,
                 s.value);
    if (!rt_solver_draws(d->first.solver, &(rt_solver_options){0}))
        RT_RAISE(RT_E_USAGE, "%s: input, but the teacher's solver %s adds no noise; give hidden, or a stochastic solver such as ddpm",
                 s.key, rt_solver_get_info(d->first.solver)->name);
    if (d->n_rounds > 1)
        RT_RAISE(
            RT_E_USAGE,
            "%s: input, but %d rounds are asked for, each of which would multiply the draws that a step takes; give pd.steps one number",
            s.key, d->n_rounds);
    if (d->first.net && d->first.prediction != d->student.prediction)
        RT_RAISE(RT_E_USAGE, "%s: input, and the student starts as its teacher, which predicts %s, not %s; give pd.prediction %s", s.key,
                 rt_prediction_name(d->first.prediction), rt_prediction_name(d->student.prediction),
                 rt_prediction_name(d->first.prediction));
    return RT_OK;
}

void rt__input_draws(rt_distill *d, const rt_denoiser *m)
{
    int n = rt_net_describe(m->net)->draws;
    int64_t shape[RT_MAX_RANK];
    memcpy(shape, d->shape, sizeof shape);
    shape[1] *= n;
    d->draws = n ? rt_input(d->graph, "draws", rt_graph_real(d->graph), d->rank, shape) : NULL;
}
