/* model_predict.c -- a model's network on given inputs: raw outputs, conversions, features. */
#include "train/model_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static rt_status check_classes(const rt_model *m, int64_t n, const int64_t *y, rt_error *err)
{
    const rt_model_info *i = &m->info;
    if (i->classes && !y && !i->feature_dims) RT_RAISE(RT_E_USAGE, "%s: the model needs a class for each sample", i->chosen);
    for (int64_t j = 0; i->classes && y && j < n; j++)
        if (y[j] < 0 || y[j] >= i->classes)
            RT_RAISE(RT_E_INVALID, "y[%lld] is %lld; must be 0 to %lld", (long long)j, (long long)y[j], (long long)i->classes - 1);
    return RT_OK;
}

static rt_status run_network(rt_model *m, int64_t n, const float *x, const double *t, const int64_t *y, float *out, rt_error *err)
{
    rt__evaluator *e;
    RT_TRY(rt__model_evaluator(m, n, &e, err));
    memcpy(rt_program_data(e->program, e->x), x, (size_t)(n * e->features) * sizeof *x);
    float *ts = e->t ? rt_program_data(e->program, e->t) : NULL;
    int64_t *ys = e->y ? rt_program_data(e->program, e->y) : NULL;
    for (int64_t i = 0; ts && i < n; i++) ts[i] = (float)t[i];
    if (ys) memcpy(ys, y, (size_t)n * sizeof *ys);
    RT_TRY(rt__evaluator_run(e, err));
    memcpy(out, rt_program_data(e->program, e->out), (size_t)(n * e->width) * sizeof *out);
    return RT_OK;
}

/* An oracle is asked for the samples of one time together: its work is shared by them. */
static rt_status run_oracle(rt_model *m, int64_t n, const float *x, const double *t, const int64_t *y, float *out, rt_error *err)
{
    rt_field f = rt_oracle_field(m->oracle);
    int64_t d = f.features;
    double *in = malloc((size_t)(2 * n * d) * sizeof *in), *results = in + n * d;
    if (!in) RT_RAISE(RT_E_MEMORY, "out of memory for %lld samples", (long long)n);
    for (int64_t i = 0; i < n * d; i++) in[i] = (double)x[i];
    rt_status status = RT_OK;
    for (int64_t j = 0, end; j < n && status == RT_OK; j = end) {
        for (end = j + 1; end < n && t[end] == t[j];) end++;
        status = f.eval(f.self, rt_process_from_network_time(m->process, t[j]), t[j], end - j, in + j * d,
                        y && m->info.classes ? y + j : NULL, results + j * d, err);
    }
    for (int64_t i = 0; i < n * d && status == RT_OK; i++) out[i] = (float)results[i];
    free(in);
    return status;
}

/* From the model's prediction to another, by way of x0 and epsilon at each sample's own time. */
static rt_status convert(const rt_model *m, const rt_prediction *as, int64_t n, const float *x, const double *t, float *out, rt_error *err)
{
    int64_t d = m->info.features;
    double *room = malloc((size_t)(3 * d) * sizeof *room), *xs = room, *x0 = room + d, *eps = x0 + d;
    if (!room) RT_RAISE(RT_E_MEMORY, "out of memory for a sample");
    rt_status status = RT_OK;
    for (int64_t j = 0; j < n && status == RT_OK; j++) {
        double time = rt_process_from_network_time(m->process, t[j]), alpha = rt_process_alpha(m->process, time),
               beta = rt_process_beta(m->process, time);
        if (!(beta > 0)) {
            status =
                rt_error_set(err, RT_E_INVALID, "t[%lld] is %g: not a time of the process at which there is noise", (long long)j, t[j]);
            break;
        }
        for (int64_t i = 0; i < d; i++) {
            xs[i] = (double)x[j * d + i];
            x0[i] = (double)out[j * d + i];
        }
        status = rt_prediction_split(m->prediction, d, x0, xs, alpha, beta, x0, eps, err);
        if (status == RT_OK) status = rt_prediction_join(as, d, x0, eps, alpha, beta, x0, err);
        for (int64_t i = 0; i < d; i++) out[j * d + i] = (float)x0[i];
    }
    free(room);
    return status;
}

rt_status rt_model_predict(rt_model *m, const char *as, int64_t n, const float *x, const double *t, const int64_t *y, float *out,
                           rt_error *err)
{
    const rt_model_info *i = &m->info;
    const rt_prediction *to = as ? rt_prediction_find(as, err) : NULL;
    if (as && !to) return RT_E_USAGE;
    if (as && (!m->process || !m->prediction))
        RT_RAISE(RT_E_USAGE, "%s: nothing says what the network predicts; give its scheduler with --scheduler FILE", i->chosen);
    if (as && i->outputs != i->features)
        RT_RAISE(RT_E_INVALID, "%s: an output of %lld numbers is no prediction of %lld", i->chosen, (long long)i->outputs,
                 (long long)i->features);
    if (m->net && rt_net_describe(m->net)->times == 2)
        RT_RAISE(RT_E_USAGE, "%s: the network takes two times, where x stands and where it is to go; draw with `retort sample`", i->chosen);
    if (m->net && rt_net_describe(m->net)->draws)
        RT_RAISE(RT_E_USAGE, "%s: the network sees the draws of a step beside x; draw with `retort sample`", i->chosen);
    RT_TRY(check_classes(m, n, y, err));
    if (m->oracle)
        RT_TRY(run_oracle(m, n, x, t, y, out, err));
    else
        RT_TRY(run_network(m, n, x, t, y, out, err));
    return to && to != m->prediction ? convert(m, to, n, x, t, out, err) : RT_OK;
}

rt_status rt_model_features(rt_model *m, int64_t n, const float *x, float *features, int64_t *labels, rt_error *err)
{
    const rt_model_info *info = &m->info;
    int64_t d = info->feature_dims;
    rt__evaluator *e;
    if (!d) RT_RAISE(RT_E_USAGE, "%s: is a %s; features need a classifier", info->chosen, info->network);
    RT_TRY(rt__model_evaluator(m, n, &e, err));
    memcpy(rt_program_data(e->program, e->x), x, (size_t)(n * e->features) * sizeof *x);
    RT_TRY(rt__evaluator_run(e, err));
    memcpy(features, rt_program_data(e->program, e->pooled), (size_t)(n * d) * sizeof *features);
    const float *logits = rt_program_data(e->program, e->out);
    for (int64_t j = 0; labels && j < n; j++) {
        const float *row = logits + j * e->width;
        labels[j] = 0;
        for (int64_t k = 1; k < e->width; k++)
            if (row[k] > row[labels[j]]) labels[j] = k;
    }
    return RT_OK;
}
