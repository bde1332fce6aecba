/* model_predict.c -- a model's network on given inputs: raw outputs, conversions, features. */
#include "model/model_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool rt__label_fits(const rt_model_info *i, int64_t label)
{
    return label >= 0 && (i->words ? rt_words_fits(i->words, label) : label < i->classes);
}

rt_status rt__check_labels(const rt_model_info *i, int64_t n, const int64_t *y, rt_error *err)
{
    for (int64_t j = 0; y && j < n; j++) {
        if (rt__label_fits(i, y[j])) continue;
        if (i->words)
            RT_RAISE(RT_E_INVALID, "y[%lld] is %lld, which is the label of no %d words of %d", (long long)j, (long long)y[j],
                     rt_words_length(i->words), rt_words_count(i->words));
        RT_RAISE(RT_E_INVALID, "y[%lld] is %lld; must be 0 to %lld", (long long)j, (long long)y[j], (long long)i->classes - 1);
    }
    return RT_OK;
}

static rt_status check_classes(const rt_model *m, int64_t n, const int64_t *y, rt_error *err)
{
    const rt_model_info *i = &m->info;
    if (i->classes && !y && !i->feature_dims) RT_RAISE(RT_E_USAGE, "%s: the model needs a class for each sample", i->chosen);
    return i->classes ? rt__check_labels(i, n, y, err) : RT_OK;
}

/* With x0 and each as in rt_evaluator_spec. */
static rt_status evaluator_of(rt_model *m, int64_t rows, bool x0, bool each, rt_evaluator **evaluator, rt_error *err)
{
    rt_evaluator *e = m->evaluator;
    /* somewhat too large will do: the last of several slices is short. A view's calls are to give the bits that they give alone, whichever was before. */
    bool fits = e && (m->oracle || e->rows == rows || (!m->shared && e->rows >= rows && e->rows / 8 <= rows));
    fits = fits && e->spec.x0 == x0 && e->spec.each == each;
    if (!e) e = m->evaluator = calloc(1, sizeof *e);
    if (!e) RT_RAISE(RT_E_MEMORY, "out of memory for an evaluator");
    *evaluator = e;
    e->told = m->omega;
    if (fits) return RT_OK;
    rt__evaluator_close(e);
    rt_evaluator_spec spec = {.name = m->info.chosen,
                              .denoiser = {.net = m->net,
                                           .set = m->params,
                                           .oracle = m->oracle,
                                           .prediction = m->prediction,
                                           .null_class = m->info.null_class,
                                           .guidance = m->omega},
                              .process = m->process,
                              .x0 = x0,
                              .each = each,
                              .program = {.batch = rows,
                                          .backend = m->backend,
                                          .threads = m->threads,
                                          .choices = m->choices,
                                          .compute = m->compute,
                                          .rehearsal = m->rehearsal}};
    rt_status status = rt__evaluator_open(e, &spec, err);
    if (status == RT_OK) return RT_OK;
    rt__evaluator_close(e);
    free(e);
    m->evaluator = NULL;
    rt_error_prefix(err, "%s", m->info.chosen);
    return status;
}

rt_status rt__model_evaluator(rt_model *m, int64_t rows, rt_evaluator **evaluator, rt_error *err)
{
    return evaluator_of(m, rows, false, false, evaluator, err);
}

rt_status rt__model_stepper(rt_model *m, int64_t rows, double omega, rt_evaluator **evaluator, rt_error *err)
{
    bool told = m->net && rt_net_describe(m->net)->guidance;
    RT_TRY(evaluator_of(m, rows, true, omega != 0 && !told, evaluator, err));
    if (!told) (*evaluator)->told = omega;
    return RT_OK;
}

rt_status rt__model_field(rt_model *m, int64_t rows, rt_field *field, rt_error *err)
{
    rt_evaluator *e;
    RT_TRY(rt__model_check_whole(m, err));
    RT_TRY(rt__model_check_alone(m, err));
    RT_TRY(rt__model_evaluator(m, rows, &e, err));
    *field = e->field;
    return RT_OK;
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
    RT_TRY(rt__model_check_alone(m, err));
    RT_TRY(check_classes(m, n, y, err));
    rt_evaluator *e;
    RT_TRY(rt__model_evaluator(m, n, &e, err));
    RT_TRY(rt__evaluator_rows(e, n, x, t, y, out, NULL, err));
    return to && to != m->prediction ? convert(m, to, n, x, t, out, err) : RT_OK;
}

rt_status rt_model_features(rt_model *m, int64_t n, const float *x, float *features, int64_t *labels, rt_error *err)
{
    const rt_model_info *info = &m->info;
    rt_evaluator *e;
    if (!info->feature_dims) RT_RAISE(RT_E_USAGE, "%s: is a %s; features need a classifier", info->chosen, info->network);
    RT_TRY(rt__model_evaluator(m, n, &e, err));
    float *logits = malloc((size_t)(n * e->width) * sizeof *logits);
    if (!logits) RT_RAISE(RT_E_MEMORY, "out of memory for the logits of %lld samples", (long long)n);
    rt_status status = rt__evaluator_rows(e, n, x, NULL, NULL, logits, features, err);
    for (int64_t j = 0; labels && status == RT_OK && j < n; j++) labels[j] = rt__most_likely(e->width, logits + j * e->width);
    free(logits);
    return status;
}
