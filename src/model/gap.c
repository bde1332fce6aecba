/* gap.c -- how far a model's x0-prediction is from pictures that it is shown with noise. */
#include "model/model_parts.h"

#include <math.h>
#include <stdlib.h>

static rt_status check(const rt_model *m, const rt_gap *g, rt_error *err)
{
    const rt_model_info *i = &m->info;
    const rt_net_info *net = m->net ? rt_net_describe(m->net) : NULL;
    if (net && (net->classifier || net->times != 1 || net->draws || i->condition))
        RT_RAISE(RT_E_USAGE, "%s: a %s that is no denoiser of a picture at one time; give the many-step model that was distilled from",
                 i->chosen, i->network);
    if (!m->process || !m->prediction)
        RT_RAISE(RT_E_USAGE, "%s: nothing says what the network predicts; give its scheduler with --scheduler FILE", i->chosen);
    if (net && net->camera && !g->cameras) RT_RAISE(RT_E_USAGE, "%s: the network is told a camera, and none is given", i->chosen);
    if (i->classes && !g->y) RT_RAISE(RT_E_USAGE, "%s: the model needs a class for each sample", i->chosen);
    return i->classes ? rt__check_labels(i, g->n, g->y, err) : RT_OK;
}

/* xt: room for n d + d + n numbers, given: for 2 n d. */
static rt_status measure(rt_model *m, const rt_gap *g, double t, double *xt, float *given, double *squares, rt_error *err)
{
    enum { AT_ONCE = 8 };
    int64_t d = m->info.features, n = g->n;
    double alpha = rt_process_alpha(m->process, t), beta = rt_process_beta(m->process, t), *f = xt + n * d, *times = f + d;
    float *out = given + n * d;
    rt__draw noise = {.seed = g->seed, .name = rt__draw_name("gap"), .clock = (uint32_t)lrint(1000 * g->time)};
    for (int64_t i = 0; i < n; i++) {
        times[i] = rt_process_network_time(m->process, t);
        rt__draw_normals(&noise, (uint32_t)i, d, f);
        for (int64_t j = 0; j < d; j++) {
            given[i * d + j] = (float)(alpha * (double)g->x[i * d + j] + beta * f[j]);
            xt[i * d + j] = (double)given[i * d + j];
        }
    }
    rt_evaluator *e;
    RT_TRY(rt__model_evaluator(m, n < AT_ONCE ? n : AT_ONCE, &e, err));
    e->cameras = g->cameras;
    e->samples = n;
    rt_status status = rt__evaluator_rows(e, n, given, times, m->info.classes ? g->y : NULL, out, NULL, err);
    e->cameras = NULL;
    for (int64_t i = 0; i < n && status == RT_OK; i++) {
        for (int64_t j = 0; j < d; j++) f[j] = (double)out[i * d + j];
        status = rt_prediction_split(m->prediction, d, f, xt + i * d, alpha, beta, f, NULL, err);
        squares[i] = 0;
        for (int64_t j = 0; j < d; j++) squares[i] += pow(f[j] - (double)g->x[i * d + j], 2) / (double)d;
    }
    return status;
}

rt_status rt_model_gap(rt_model *m, const rt_gap *g, double *squares, rt_error *err)
{
    RT_TRY(check(m, g, err));
    double t = g->time * rt_process_end(m->process);
    if (rt_process_discrete_steps(m->process) > 0) t = fmax(1, rint(t));
    size_t d = (size_t)m->info.features, n = (size_t)g->n;
    double *xt = malloc((n * d + d + n) * sizeof *xt);
    float *given = malloc(2 * n * d * sizeof *given);
    rt_status status =
        xt && given ? measure(m, g, t, xt, given, squares, err) : rt_error_set(err, RT_E_MEMORY, "out of memory for %zu pictures", n);
    free(xt);
    free(given);
    return status;
}
