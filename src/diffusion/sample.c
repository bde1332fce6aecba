/* sample.c -- the driver of all solvers: times, guidance, clipping, tracing, the last step. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the network is told of time t in step k: the scheduler's number where it has one. */
static double network_time_at(const rt__advance *a, double t)
{
    const rt_sample_spec *spec = a->spec;
    for (int k = a->k; spec->network_times && k < spec->steps && k <= a->k + 1; k++)
        if (t == spec->from[k]) return spec->network_times[k];
    return rt_process_network_time(spec->process, t);
}

static rt_field_call call_at(const rt__advance *a, double t)
{
    const rt_sample_spec *spec = a->spec;
    return (rt_field_call){.t = t,
                           .network_time = network_time_at(a, t),
                           .step = a->k,
                           .target = spec->to ? spec->to[a->k] : spec->from[a->k + 1],
                           .solver = spec->solver};
}

static rt_status ask(rt__advance *a, const rt_field *field, double t, int64_t n, const double *x, double *out, rt_error *err)
{
    rt_field_call at = call_at(a, t);
    return field->eval(field->self, &at, n, x, a->y, out, err);
}

static double deviation(const double *x, int64_t n)
{
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean) / (double)n;
    return sqrt(square);
}

/* What the guide says, as the model would say it. */
static rt_status ask_guide(rt__advance *a, const double *x, double t, double alpha, double beta, double *out, rt_error *err)
{
    const rt_field *guide = a->spec->guide;
    RT_TRY(ask(a, guide, t, a->n, x, out, err));
    if (guide->prediction == a->field->prediction) return RT_OK;
    double *x0 = a->pair, *eps = a->pair + a->count;
    RT_TRY(rt_prediction_split(guide->prediction, a->count, out, x, alpha, beta, x0, eps, err));
    return rt_prediction_join(a->field->prediction, a->count, x0, eps, alpha, beta, out, err);
}

/* (1.39) on the raw outputs: at one x, all predictions are affine in one another, and the factors sum to 1. */
static rt_status guided(rt__advance *a, const double *x, double t, double alpha, double beta, rt_error *err)
{
    const rt_sample_spec *spec = a->spec;
    double *cond = a->out, *other = a->out + a->count;
    if (spec->guide) {
        RT_TRY(ask_guide(a, x, t, alpha, beta, other, err));
        RT_TRY(ask(a, a->field, t, a->n, x, cond, err));
    } else {
        size_t bytes = (size_t)a->count * sizeof *x;
        memcpy(a->pair, x, bytes);
        memcpy(a->pair + a->count, x, bytes);
        RT_TRY(ask(a, a->field, t, 2 * a->n, a->pair, cond, err));
    }
    int64_t d = a->field->features;
    for (int64_t j = 0; j < a->n; j++) {
        double *c = cond + j * d, *u = other + j * d, before = spec->guidance_rescale > 0 ? deviation(c, d) : 0;
        double w = spec->omegas ? spec->omegas[j] : spec->guidance;
        for (int64_t i = 0; i < d; i++) c[i] = (1 + w) * c[i] - w * u[i];
        double after = spec->guidance_rescale > 0 ? deviation(c, d) : 0, phi = after > 0 ? spec->guidance_rescale : 0;
        for (int64_t i = 0; phi > 0 && i < d; i++) c[i] *= phi * before / after + 1 - phi;
    }
    return RT_OK;
}

static bool is_guided(const rt_sample_spec *spec, double alpha, double beta)
{
    bool above = beta >= spec->guidance_low * alpha, below = spec->guidance_high == 0 || beta <= spec->guidance_high * alpha;
    return (spec->guidance != 0 || spec->omegas) && above && below;
}

static rt_status trace(rt__advance *a, double t, const double *x, rt_error *err)
{
    return a->spec->trace ? a->spec->trace(a->spec->trace_self, a->traced++, t, a->n, x, err) : RT_OK;
}

rt_status rt__predict(rt__advance *a, const double *x, double t, double *x0, double *eps, rt_error *err)
{
    if (a->spec->trace_calls && x != a->x) RT_TRY(trace(a, t, x, err));
    double alpha = rt_process_alpha(a->spec->process, t), beta = rt_process_beta(a->spec->process, t), clip = a->spec->clip;
    RT_TRY(rt_prediction_check(a->field->prediction, alpha, beta, err)); /* before the network works for nothing */
    if (is_guided(a->spec, alpha, beta))
        RT_TRY(guided(a, x, t, alpha, beta, err));
    else
        RT_TRY(ask(a, a->field, t, a->n, x, a->out, err));
    RT_TRY(rt_prediction_split(a->field->prediction, a->count, a->out, x, alpha, beta, x0, eps, err));
    for (int64_t i = 0; clip > 0 && i < a->count; i++) x0[i] = fmin(fmax(x0[i], -clip), clip);
    return RT_OK;
}

/* The prediction at (x, s) becomes the newest memory. */
static void remember(rt__advance *a, double s)
{
    int room = a->spec->solver->info.history;
    if (room == 0) return;
    rt__past newest = a->past[room - 1];
    memmove(a->past + 1, a->past, (size_t)(room - 1) * sizeof *a->past);
    memcpy(newest.x, a->before, (size_t)a->count * sizeof *a->x);
    memcpy(newest.x0, a->x0, (size_t)a->count * sizeof *a->x0);
    memcpy(newest.eps, a->eps, (size_t)a->count * sizeof *a->eps);
    newest.t = s;
    a->past[0] = newest;
    if (a->n_past < room) a->n_past++;
}

static rt_status step(rt__advance *a, double s, double t, rt_error *err)
{
    const rt_sample_spec *spec = a->spec;
    const rt_solver *row = spec->solver;
    size_t bytes = (size_t)a->count * sizeof *a->x;
    if (t == 0 || !row->starts) RT_TRY(rt__predict(a, a->x, s, a->x0, a->eps, err));
    if (a->before) memcpy(a->before, a->x, bytes);
    if (t == 0 && !row->to_data) {
        memcpy(a->x, a->x0, bytes);
        return RT_OK;
    }
    if (a->z) RT_TRY(spec->noise(spec->noise_self, a->k, a->n, a->z, err));
    return row->step(a, s, t, err);
}

static rt_status pulse(const rt__advance *a, rt_error *err)
{
    return a->spec->pulse ? (a->spec->pulse)(a->spec->pulse_self, a->k + 1, err) : RT_OK;
}

static rt_status run(rt__advance *a, const double *from, const double *to, rt_error *err)
{
    const rt_sample_spec *spec = a->spec;
    a->traced = 0;
    RT_TRY(trace(a, from[0], a->x, err));
    for (a->k = 0; a->k < spec->steps; a->k++) {
        int k = a->k;
        a->order_before = a->order;
        a->order = spec->order ? spec->order[k] : spec->solver->info.order;
        RT_TRY(step(a, from[k], to[k], err));
        remember(a, from[k]);
        for (int64_t i = 0; i < a->count; i++)
            if (!isfinite(a->x[i]))
                RT_RAISE(RT_E_DIVERGED, "%s: sample %lld is %g after step %d (time %g to %g); check the model and its prediction type",
                         spec->solver->info.name, (long long)(i / a->field->features), a->x[i], k + 1, from[k], to[k]);
        RT_TRY(trace(a, to[k], a->x, err));
        RT_TRY(pulse(a, err));
    }
    return RT_OK;
}

/* ---- states that stay where the field computes */

static bool steps_stay(const rt_sample_spec *spec, int64_t n)
{
    return spec->stepper && n <= spec->stepper->rows && spec->solver == &rt__solver_ddim && spec->options.eta == 0 && spec->guidance == 0 &&
           !spec->omegas;
}

/* (1.30): x_t = alpha_t x0 + beta_t eps with the model's eps = (x - alpha_s x0)/beta_s, and x0 clipped where the spec says so. */
static rt_affine_step affine_step(const rt_sample_spec *spec, double s, double t)
{
    const rt_process *p = spec->process;
    double A = rt_process_beta(p, t) / rt_process_beta(p, s), alpha_t = rt_process_alpha(p, t), alpha_s = rt_process_alpha(p, s);
    if (spec->clip > 0) return (rt_affine_step){.clip = spec->clip, .by_clipped = alpha_t, .by_x0 = -alpha_s * A, .by_x = A};
    return (rt_affine_step){.clip = INFINITY, .by_x0 = fma(-alpha_s, A, alpha_t), .by_x = A}; /* rounded once */
}

static bool all_finite(const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* As run. *done false: a state is not finite, and a->x still what it was. */
static rt_status run_there(rt__advance *a, const double *from, const double *to, bool *done, rt_error *err)
{
    const rt_sample_spec *spec = a->spec;
    const rt_stepper *stepper = spec->stepper;
    int slots = !spec->trace ? 0 : stepper->states < spec->steps ? stepper->states : spec->steps; /* of states that wait for the trace */
    *done = false;
    RT_TRY(trace(a, from[0], a->x, err));
    RT_TRY((stepper->begin)(a->field->self, a->n, a->x, a->y, slots, err));
    for (int k = 0, kept = 0; k < spec->steps; k++) {
        rt_affine_step by = affine_step(spec, from[k], to[k]);
        a->k = k;
        rt_field_call at = call_at(a, from[k]);
        RT_TRY((stepper->step)(a->field->self, &at, &by, slots > 0 ? kept++ : -1, err));
        RT_TRY(pulse(a, err));
        for (int j = 0; j < kept && (kept == slots || k + 1 == spec->steps); j++) {
            RT_TRY((stepper->read)(a->field->self, j, a->n, a->x0, err));
            if (!all_finite(a->x0, a->count)) return RT_OK;
            RT_TRY(trace(a, to[k + 1 - kept + j], a->x0, err));
        }
        if (kept == slots) kept = 0;
    }
    if (slots == 0) RT_TRY((stepper->read)(a->field->self, -1, a->n, a->x0, err)); /* else it is the last that was read */
    *done = all_finite(a->x0, a->count);
    if (*done) memcpy(a->x, a->x0, (size_t)a->count * sizeof *a->x);
    return RT_OK;
}

bool rt_solver_draws(const rt_solver *s, const rt_solver_options *options)
{
    return s->info.stochastic || (s->info.eta && options->eta > 0);
}

static rt_status check(const rt_sample_spec *spec, const double *to, rt_error *err)
{
    const rt_solver_options *o = &spec->options;
    if (spec->steps < 1) RT_RAISE(RT_E_USAGE, "%d steps; at least 1 is needed", spec->steps);
    for (int k = 0; k < spec->steps; k++) {
        bool stands = spec->to && to[k] > 0 && to[k] == spec->from[k] && to[k] <= rt_process_end(spec->process);
        if (!stands) RT_TRY(rt_process_check_step(spec->process, spec->from[k], to[k], err));
    }
    if (!isfinite(spec->guidance)) RT_RAISE(RT_E_USAGE, "guidance is %g; must be a finite number (the lecture's omega)", spec->guidance);
    if (!(spec->guidance_low >= 0 && (spec->guidance_high == 0 || spec->guidance_high > spec->guidance_low)))
        RT_RAISE(RT_E_USAGE, "guidance between beta/alpha = %g and %g; the first must not be negative and below the second",
                 spec->guidance_low, spec->guidance_high);
    if (!(spec->guidance_rescale >= 0 && spec->guidance_rescale <= 1))
        RT_RAISE(RT_E_USAGE, "guidance is rescaled by %g; must be 0 (not at all) to 1", spec->guidance_rescale);
    if (!(spec->clip >= 0)) RT_RAISE(RT_E_USAGE, "clip is %g; must be positive, or 0 for none", spec->clip);
    if (!(o->eta >= 0 && o->eta <= 1)) RT_RAISE(RT_E_USAGE, "eta is %g; must be 0 (no noise) to 1 (the ancestral step's)", o->eta);
    if (o->eta > 0 && !spec->solver->info.eta)
        RT_RAISE(RT_E_USAGE, "eta is %g, but the solver %s has no eta; ddim has", o->eta, spec->solver->info.name);
    if (!(o->tolerance == 0 || (o->tolerance >= 1e-13 && o->tolerance < 1)))
        RT_RAISE(RT_E_USAGE, "tolerance is %g; must be 1e-13 to 1", o->tolerance);
    if (!(o->churn >= 0 && o->churn_min >= 0 && o->churn_max >= 0 && o->churn_noise >= 0))
        RT_RAISE(RT_E_USAGE, "churn %g, %g to %g, noise %g; must not be negative", o->churn, o->churn_min, o->churn_max, o->churn_noise);
    if (rt_solver_draws(spec->solver, o) && !spec->noise)
        RT_RAISE(RT_E_USAGE, "the solver %s draws noise, but none is given", spec->solver->info.name);
    return RT_OK;
}

/* At least `size` bytes. NULL: out of memory. */
static char *grown(rt_sample_room *room, size_t size)
{
    if (room->size >= size) return room->bytes;
    free(room->bytes);
    room->bytes = malloc(size);
    room->size = room->bytes ? size : 0;
    return room->bytes;
}

rt_status rt_sample(const rt_sample_spec *spec, const rt_field *field, int64_t n, double *x, const int64_t *y, rt_error *err)
{
    const double *to = spec->to ? spec->to : spec->from + 1;
    RT_TRY(check(spec, to, err));
    bool pairs = spec->guidance != 0 || spec->omegas;
    if (pairs && spec->guide && spec->guide->features != field->features)
        RT_RAISE(RT_E_USAGE, "the guide has %lld features, the model %lld; they must be of one data", (long long)spec->guide->features,
                 (long long)field->features);
    if (pairs && !spec->guide && (!y || (field->null_class < 0 && !spec->negative)))
        RT_RAISE(RT_E_USAGE, "guidance %g needs a model with classes and a null class", spec->guidance);

    const int work = spec->solver->work, history = spec->solver->info.history;
    const bool draws = rt_solver_draws(spec->solver, &spec->options);
    size_t count, numbers, labels = 0, arrays = (pairs ? 6 : 3) + (size_t)(draws + work + (history > 0) + 3 * history);
    if (n < 0 || field->features < 1 || !rt__mul_size((size_t)n, (size_t)field->features, &count) ||
        !rt__mul_size(count, arrays * sizeof(double), &numbers))
        RT_RAISE(RT_E_USAGE, "%lld samples of %lld features", (long long)n, (long long)field->features);
    if (n == 0) return RT_OK;
    if (pairs) labels = 2 * (size_t)n * sizeof(int64_t);
    rt_sample_room own = {0};
    char *room = grown(spec->room ? spec->room : &own, numbers + labels);
    if (!room) RT_RAISE(RT_E_MEMORY, "out of memory for %lld samples of %lld features", (long long)n, (long long)field->features);
    double *x0 = (double *)(void *)(room + labels);
    rt__advance a = {
        .spec = spec, .field = field, .n = n, .count = (int64_t)count, .y = y, .x = x, .x0 = x0, .eps = x0 + count, .out = x0 + 2 * count};
    if (pairs) a.pair = x0 + 4 * count;
    if (pairs && y) {
        int64_t *both = (int64_t *)(void *)room;
        memcpy(both, y, (size_t)n * sizeof *y);
        for (int64_t i = n; i < 2 * n; i++) both[i] = spec->negative ? spec->negative[i - n] : field->null_class;
        a.y = both;
    }
    double *rest = x0 + (pairs ? 6 : 3) * count;
    for (int i = 0; i < work; i++, rest += count) a.work[i] = rest;
    if (draws) a.z = rest, rest += count;
    if (history) a.before = rest, rest += count;
    for (int i = 0; i < history; i++, rest += 3 * count) a.past[i] = (rt__past){.x = rest, .x0 = rest + count, .eps = rest + 2 * count};
    bool done = false;
    rt_status status = steps_stay(spec, n) ? run_there(&a, spec->from, to, &done, err) : RT_OK;
    if (status == RT_OK && !done) status = run(&a, spec->from, to, err);
    free(own.bytes);
    return status;
}
