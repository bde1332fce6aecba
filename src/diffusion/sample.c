/* sample.c -- the driver of all solvers: times, guidance, clipping, tracing, the last step. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* (1.39) on the raw outputs: at one x, all predictions are affine in one another, and the factors sum to 1. */
static rt_status guided(rt__advance *a, const double *x, double t, rt_error *err)
{
    double w = a->spec->guidance;
    size_t bytes = (size_t)a->count * sizeof *x;
    memcpy(a->pair, x, bytes);
    memcpy(a->pair + a->count, x, bytes);
    RT_TRY(a->field->eval(a->field->self, t, 2 * a->n, a->pair, a->y, a->out, err));
    for (int64_t i = 0; i < a->count; i++) a->out[i] = (1 + w) * a->out[i] - w * a->out[a->count + i];
    return RT_OK;
}

rt_status rt__predict(rt__advance *a, const double *x, double t, double *x0, double *eps, rt_error *err)
{
    double alpha = rt_process_alpha(a->spec->process, t), beta = rt_process_beta(a->spec->process, t), clip = a->spec->clip;
    RT_TRY(rt_prediction_check(a->field->prediction, alpha, beta, err)); /* before the network works for nothing */
    if (a->pair)
        RT_TRY(guided(a, x, t, err));
    else
        RT_TRY(a->field->eval(a->field->self, t, a->n, x, a->y, a->out, err));
    RT_TRY(rt_prediction_split(a->field->prediction, a->count, a->out, x, alpha, beta, x0, eps, err));
    for (int64_t i = 0; clip > 0 && i < a->count; i++) x0[i] = fmin(fmax(x0[i], -clip), clip);
    return RT_OK;
}

/* The prediction at (x, s) becomes the newest memory. */
static void remember(rt__advance *a, double s)
{
    int room = a->spec->solver->info.history;
    if (room == 0) return;
    rt__past oldest = a->past[room - 1];
    memmove(a->past + 1, a->past, (size_t)(room - 1) * sizeof *a->past);
    memcpy(oldest.x0, a->x0, (size_t)a->count * sizeof *a->x0);
    memcpy(oldest.eps, a->eps, (size_t)a->count * sizeof *a->eps);
    oldest.t = s;
    a->past[0] = oldest;
    if (a->n_past < room) a->n_past++;
}

static rt_status run(rt__advance *a, const double *from, const double *to, rt_error *err)
{
    const rt_sample_spec *spec = a->spec;
    if (spec->trace) RT_TRY(spec->trace(spec->trace_self, 0, from[0], a->n, a->x, err));
    for (int k = 0; k < spec->steps; k++) {
        RT_TRY(rt__predict(a, a->x, from[k], a->x0, a->eps, err));
        if (to[k] == 0)
            memcpy(a->x, a->x0, (size_t)a->count * sizeof *a->x);
        else
            RT_TRY(spec->solver->step(a, from[k], to[k], err));
        remember(a, from[k]);
        for (int64_t i = 0; i < a->count; i++)
            if (!isfinite(a->x[i]))
                RT_RAISE(RT_E_DIVERGED, "%s: sample %lld is %g after step %d (time %g to %g); check the model and its prediction type",
                         spec->solver->info.name, (long long)(i / a->field->features), a->x[i], k + 1, from[k], to[k]);
        if (spec->trace) RT_TRY(spec->trace(spec->trace_self, k + 1, to[k], a->n, a->x, err));
    }
    return RT_OK;
}

rt_status rt_sample(const rt_sample_spec *spec, const rt_field *field, int64_t n, double *x, const int64_t *y, rt_error *err)
{
    const double *to = spec->to ? spec->to : spec->from + 1;
    if (spec->steps < 1) RT_RAISE(RT_E_USAGE, "%d steps; at least 1 is needed", spec->steps);
    for (int k = 0; k < spec->steps; k++) {
        bool stands = spec->to && to[k] > 0 && to[k] == spec->from[k] && to[k] <= rt_process_end(spec->process);
        if (!stands) RT_TRY(rt_process_check_step(spec->process, spec->from[k], to[k], err));
    }
    if (!isfinite(spec->guidance)) RT_RAISE(RT_E_USAGE, "guidance is %g; must be a finite number (the lecture's omega)", spec->guidance);
    if (!(spec->clip >= 0)) RT_RAISE(RT_E_USAGE, "clip is %g; must be positive, or 0 for none", spec->clip);
    bool pairs = spec->guidance != 0;
    if (pairs && (!y || field->null_class < 0))
        RT_RAISE(RT_E_USAGE, "guidance %g needs a model with classes and a null class", spec->guidance);

    size_t count, numbers, labels = 0, arrays = pairs ? 6 : 3;
    const int work = spec->solver->work, history = spec->solver->info.history;
    arrays += (size_t)(work + 2 * history);
    if (n < 0 || field->features < 1 || !rt__mul_size((size_t)n, (size_t)field->features, &count) ||
        !rt__mul_size(count, arrays * sizeof(double), &numbers))
        RT_RAISE(RT_E_USAGE, "%lld samples of %lld features", (long long)n, (long long)field->features);
    if (n == 0) return RT_OK;
    if (pairs) labels = 2 * (size_t)n * sizeof(int64_t);
    char *room = malloc(numbers + labels);
    if (!room) RT_RAISE(RT_E_MEMORY, "out of memory for %lld samples of %lld features", (long long)n, (long long)field->features);
    double *x0 = (double *)(void *)(room + labels);
    rt__advance a = {
        .spec = spec, .field = field, .n = n, .count = (int64_t)count, .y = y, .x = x, .x0 = x0, .eps = x0 + count, .out = x0 + 2 * count};
    if (pairs) {
        int64_t *both = (int64_t *)(void *)room;
        memcpy(both, y, (size_t)n * sizeof *y);
        for (int64_t i = n; i < 2 * n; i++) both[i] = field->null_class;
        a.y = both;
        a.pair = x0 + 4 * count;
    }
    double *rest = x0 + (pairs ? 6 : 3) * count;
    for (int i = 0; i < work; i++, rest += count) a.work[i] = rest;
    for (int i = 0; i < history; i++, rest += 2 * count) a.past[i] = (rt__past){.x0 = rest, .eps = rest + count};
    rt_status status = run(&a, spec->from, to, err);
    free(room);
    return status;
}
