/* evaluator.c -- see evaluator.h. */
#include "model/evaluator.h"

#include "base/internal.h"
#include "model/classes.h"

#include <stdlib.h>
#include <string.h>

static int64_t whole_features(const rt_net_info *i) { return (int64_t)i->in_channels * (i->height ? i->height * i->width : 1); }

/* The numbers of a step, rt_affine_step in float. */
enum { CLIP, BY_CLIPPED, BY_X0, BY_X, STEP_NUMBERS };

static rt_node *number(const rt_evaluator *e, int k) { return rt_slice(e->step, 0, k, k + 1, 1); }

/* The state after a step, out being x0. */
static rt_node *stepped(rt_evaluator *e)
{
    e->step = rt_input(e->graph, "step", RT_F32, 1, (int64_t[]){STEP_NUMBERS});
    rt_node *clip = number(e, CLIP), *clipped = rt_minimum(rt_maximum(e->out, rt_neg(clip)), clip);
    rt_node *data = rt_add(rt_mul(number(e, BY_CLIPPED), clipped), rt_mul(number(e, BY_X0), e->out));
    return rt_add(data, rt_mul(number(e, BY_X), e->x));
}

static rt_status compile(rt_evaluator *e, rt_error *err)
{
    const rt_denoiser *m = &e->spec.denoiser;
    const rt_net_info *i = rt_net_describe(m->net);
    int rank = i->height ? 4 : 2;
    int64_t shape[RT_MAX_RANK] = {RT_BATCH, i->in_channels, i->height, i->width}, one[RT_MAX_RANK] = {RT_BATCH, 1, 1, 1, 1, 1, 1, 1};
    rt_node *outputs[2] = {NULL, NULL};
    bool steps = e->spec.x0 && !i->draws && rt_backend_apart(e->spec.program.backend);
    rt_graph *g = e->graph = rt_graph_new(RT_F32);
    if (!g) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    e->rows = e->spec.program.batch;
    e->features = whole_features(i);
    e->draws_per_step = i->draws;
    e->x = rt_input(g, "x", RT_F32, rank, shape);
    if (i->classifier) {
        outputs[1] = e->pooled = rt_net_features(m->net, m->set, e->x);
        e->out = rt_net_apply(m->net, m->set, e->x, NULL, NULL);
    } else {
        int64_t label[2];
        int label_rank = rt__label_shape(i->words, label);
        e->words = i->words;
        e->y = i->classes ? rt_input(g, "y", RT_I64, label_rank, label) : NULL;
        shape[1] *= i->draws;
        e->draws = i->draws ? rt_input(g, "draws", RT_F32, rank, shape) : NULL;
        e->alpha = e->spec.x0 ? rt_input(g, "alpha", RT_F32, rank, one) : NULL;
        e->beta = e->spec.x0 ? rt_input(g, "beta", RT_F32, rank, one) : NULL;
        e->time = rt_input(g, "time", RT_F32, i->times, (int64_t[]){RT_BATCH, 2});
        e->omega = i->guidance || e->spec.each ? rt_input(g, "omega", RT_F32, 1, one) : NULL;
        e->camera = i->camera ? rt_input(g, "camera", RT_F32, 2, (int64_t[]){RT_BATCH, RT_CAMERA_NUMBERS}) : NULL;
        rt_at at = {e->alpha, e->beta, e->time, e->omega, e->camera};
        if (steps && i->classes) e->other = rt_input(g, "other", RT_I64, label_rank, label);
        rt_node *seen = e->draws && !e->spec.x0 ? rt_concat((rt_node *[]){e->x, e->draws}, 2, 1) : e->x;
        e->out = steps        ? rt__denoise_joined(m, e->x, at, e->y, e->other)
                 : e->spec.x0 ? rt__denoise(m, e->x, e->draws, at, e->y)
                              : rt_net_apply(m->net, m->set, seen, rt__told(m, at), e->y);
    }
    outputs[0] = e->out;
    rt_program_spec spec = e->spec.program;
    if (steps) outputs[1] = e->next = stepped(e);
    spec.outputs = outputs;
    spec.n_outputs = 1 + (outputs[1] != NULL);
    RT_TRY(rt_compile(&e->program, g, &spec, err));
    e->width = rt_program_count(e->program, e->out) / e->rows;
    for (int k = 0; k < 3 && steps; k++) rt_program_hold(e->program, (rt_node *[]){e->x, e->out, e->next}[k]);
    return RT_OK;
}

static void fill(rt_evaluator *e, const rt_node *node, double value)
{
    float *at = node ? rt_program_data(e->program, node) : NULL;
    for (int64_t i = 0; at && i < e->rows; i++) at[i] = (float)value;
}

/* The network at x, which is the host's. */
static rt_status ask(rt_evaluator *e, rt_error *err)
{
    rt_program_push(e->program, e->x);
    RT_TRY(rt_run(e->program, &(rt_clock){0}, err));
    return rt_program_pull(e->program, e->out, err);
}

/* ---- the sampling driver's view */

/* The draws of step k, drawn[q][samples][features]. */
static rt_status read_draws(rt_evaluator *e, int k, rt_error *err)
{
    int64_t q = e->draws_per_step, size = e->samples * e->features;
    if (!e->noise) RT_RAISE(RT_E_INTERNAL, "a network that sees draws is asked without any");
    if (e->room < q * size) {
        free(e->drawn);
        e->room = 0;
        e->drawn = malloc((size_t)(q * size) * sizeof *e->drawn);
        if (!e->drawn)
            RT_RAISE(RT_E_MEMORY, "out of memory for %lld draws of %lld samples; lower --batch", (long long)q, (long long)e->samples);
        e->room = q * size;
    }
    for (int64_t j = 0; j < q; j++) RT_TRY(e->noise(e->noise_self, (int)(k * q + j), e->samples, e->drawn + j * size, err));
    return RT_OK;
}

static void show_draws(rt_evaluator *e, int64_t first, int64_t rows)
{
    int64_t q = e->draws_per_step, d = e->features;
    float *z = q ? rt_program_data(e->program, e->draws) : NULL;
    for (int64_t row = 0; row < rows && z; row++)
        for (int64_t j = 0; j < q; j++) {
            const double *from = e->drawn + (j * e->samples + (first + row) % e->samples) * d;
            for (int64_t i = 0; i < d; i++) z[(row * q + j) * d + i] = (float)from[i];
        }
}

static void show_omegas(rt_evaluator *e, int64_t first, int64_t rows)
{
    float *to = e->omega ? rt_program_data(e->program, e->omega) : NULL;
    for (int64_t row = 0; row < rows && to; row++) to[row] = (float)(e->omegas ? e->omegas[(first + row) % e->samples] : e->told);
}

static void show_cameras(rt_evaluator *e, int64_t first, int64_t rows)
{
    enum { N = RT_CAMERA_NUMBERS };
    float *to = e->camera ? rt_program_data(e->program, e->camera) : NULL;
    for (int64_t row = 0; row < rows && to; row++)
        for (int k = 0; k < N; k++) to[row * N + k] = (float)e->cameras[(first + row) % e->samples * N + k];
}

/* Of the rows, and of what guides them. */
static void show_labels(rt_evaluator *e, int64_t first, int64_t rows, const int64_t *y)
{
    int64_t *ys = e->y ? rt_program_data(e->program, e->y) : NULL, *others = e->other ? rt_program_data(e->program, e->other) : NULL;
    if (ys && y) rt__show_labels(e->words, rows, y + first, ys);
    for (int64_t row = 0; row < rows && others; row++)
        rt__show_label(e->words, e->others ? e->others[(first + row) % e->samples] : e->spec.denoiser.null_class, row, others);
}

/* All but x, times and draws. */
static void show(rt_evaluator *e, int64_t first, int64_t rows, const int64_t *y)
{
    show_omegas(e, first, rows);
    show_cameras(e, first, rows);
    show_labels(e, first, rows, y);
}

/* Networks that make whole steps, to a second time or with the draws of a teacher's, answer only where the solver's step is affine in one x0. */
static rt_status check_whole(const rt_evaluator *e, const rt_field_call *at, rt_error *err)
{
    const char *name = e->spec.name ? e->spec.name : "the student";
    if (!at->solver) RT_RAISE(RT_E_USAGE, "%s: the network is a map of whole steps, whose grid is the caller's", name);
    if (!rt_solver_get_info(at->solver)->affine)
        RT_RAISE(RT_E_USAGE, "%s: the network is a map of whole steps, which %s does not make; sample with ddim", name,
                 rt_solver_get_info(at->solver)->name);
    return RT_OK;
}

static rt_status show_time(rt_evaluator *e, const rt_field_call *at, rt_error *err)
{
    const rt_process *p = e->spec.process;
    int times = rt_node_rank(e->time);
    if (times == 2 || e->draws_per_step) RT_TRY(check_whole(e, at, err));
    fill(e, e->alpha, e->alpha ? rt_process_alpha(p, at->t) : 0);
    fill(e, e->beta, e->beta ? rt_process_beta(p, at->t) : 0);
    float *time = rt_program_data(e->program, e->time), there = times == 2 ? (float)rt_process_network_time(p, at->target) : 0;
    for (int64_t i = 0; time && i < e->rows * times; i++) time[i] = i % times ? there : (float)at->network_time;
    return RT_OK;
}

static rt_status eval(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    rt_evaluator *e = self;
    if (e->camera && !e->cameras) RT_RAISE(RT_E_INTERNAL, "a network that is told a camera is asked without one");
    RT_TRY(show_time(e, at, err));
    if (e->draws_per_step) RT_TRY(read_draws(e, at->step, err));
    float *xs = rt_program_data(e->program, e->x);
    const float *results = rt_program_data(e->program, e->out);
    for (int64_t first = 0; first < n; first += e->rows) {
        int64_t rows = n - first < e->rows ? n - first : e->rows, count = rows * e->features;
        for (int64_t i = 0; i < count; i++) xs[i] = (float)x[first * e->features + i];
        show_draws(e, first, rows);
        show(e, first, rows, y);
        RT_TRY(ask(e, err));
        for (int64_t i = 0; i < count; i++) out[first * e->features + i] = (double)results[i];
    }
    return RT_OK;
}

/* ---- steps on a device */

enum { KEPT_BYTES = 64 << 20 };

static int states_of(const rt_evaluator *e)
{
    int64_t n = KEPT_BYTES / ((int64_t)sizeof(float) * e->rows * e->features);
    return n > 0 ? (int)n : 1;
}

static void free_room(rt_evaluator *e)
{
    rt_rehearsal *r = e->spec.program.rehearsal;
    if (r) r->device_reserved -= e->states * e->rows * e->features * (int64_t)sizeof(float);
    rt_params_free(e->kept);
    e->kept = NULL;
    e->states = 0;
}

static rt_status make_room(rt_evaluator *e, int states, rt_error *err)
{
    rt_rehearsal *r = e->spec.program.rehearsal;
    int index;
    if (states <= e->states) return RT_OK;
    free_room(e);
    if (!(e->kept = rt_params_new("states", RT_F32))) RT_RAISE(RT_E_MEMORY, "out of memory for %d states", states);
    RT_TRY(rt_params_add(e->kept, "states", 3, (int64_t[]){states, e->rows, e->features}, RT_INIT_CONST(0), &index, err));
    e->states = states;
    if (r) r->device_reserved += e->states * e->rows * e->features * (int64_t)sizeof(float);
    if (r && r->device_reserved > r->device_peak) r->device_peak = r->device_reserved;
    return RT_OK;
}

static rt_status begin_steps(void *self, int64_t n, const double *x, const int64_t *y, int keep, rt_error *err)
{
    rt_evaluator *e = self;
    if (e->camera && !e->cameras) RT_RAISE(RT_E_INTERNAL, "a network that is told a camera is asked without one");
    RT_TRY(make_room(e, keep, err));
    float *xs = rt_program_data(e->program, e->x);
    for (int64_t i = 0; i < n * e->features; i++) xs[i] = (float)x[i];
    show(e, 0, n, y);
    e->begins = true;
    return RT_OK;
}

static rt_status make_step(void *self, const rt_field_call *at, const rt_affine_step *by, int slot, rt_error *err)
{
    rt_evaluator *e = self;
    const double numbers[STEP_NUMBERS] = {by->clip, by->by_clipped, by->by_x0, by->by_x};
    RT_TRY(show_time(e, at, err));
    float *step = rt_program_data(e->program, e->step);
    for (int k = 0; k < STEP_NUMBERS; k++) step[k] = (float)numbers[k];
    if (e->begins)
        rt_program_push(e->program, e->x);
    else
        rt_program_feed(e->program, e->x, e->next);
    e->begins = false;
    RT_TRY(rt_run(e->program, &(rt_clock){0}, err));
    int64_t size = e->rows * e->features;
    return slot < 0 ? RT_OK : rt_program_store(e->program, e->next, size, e->kept, slot * size, err);
}

static rt_status read_state(void *self, int slot, int64_t n, double *x, rt_error *err)
{
    rt_evaluator *e = self;
    if (slot < 0)
        RT_TRY(rt_program_pull(e->program, e->next, err));
    else
        RT_TRY(rt_params_fetch(e->kept, RT_VALUE, err));
    const float *from =
        slot < 0 ? rt_program_data(e->program, e->next) : (const float *)rt_params_data(e->kept, RT_VALUE) + slot * e->rows * e->features;
    for (int64_t i = 0; i < n * e->features; i++) x[i] = (double)from[i];
    return RT_OK;
}

const rt_stepper *rt__evaluator_stepper(const rt_evaluator *e) { return e->next ? &e->stepper : NULL; }

/* ---- rows at times of their own */

/* An oracle is asked for the rows of one time together: its work is shared by them. */
static rt_status oracle_rows(rt_evaluator *e, int64_t n, const float *x, const double *t, const int64_t *y, float *out, rt_error *err)
{
    int64_t d = e->features;
    double *in = malloc((size_t)(2 * n * d) * sizeof *in), *results = in + n * d;
    if (!in) RT_RAISE(RT_E_MEMORY, "out of memory for %lld samples", (long long)n);
    for (int64_t i = 0; i < n * d; i++) in[i] = (double)x[i];
    rt_status status = RT_OK;
    for (int64_t j = 0, end; j < n && status == RT_OK; j = end) {
        for (end = j + 1; end < n && t[end] == t[j];) end++;
        rt_field_call at = {.t = rt_process_from_network_time(e->spec.process, t[j]), .network_time = t[j]};
        bool classes = y && rt_oracle_classes(e->spec.denoiser.oracle) > 0;
        status = e->field.eval(e->field.self, &at, end - j, in + j * d, classes ? y + j : NULL, results + j * d, err);
    }
    for (int64_t i = 0; i < n * d && status == RT_OK; i++) out[i] = (float)results[i];
    free(in);
    return status;
}

rt_status rt__evaluator_rows(rt_evaluator *e, int64_t n, const float *x, const double *t, const int64_t *y, float *out, float *pooled,
                             rt_error *err)
{
    if (!e->program) return oracle_rows(e, n, x, t, y, out, err);
    if (e->camera && !e->cameras) RT_RAISE(RT_E_INTERNAL, "a network that is told a camera is asked without one");
    float *ts = e->time && t ? rt_program_data(e->program, e->time) : NULL;
    int64_t wide = pooled ? rt_program_count(e->program, e->pooled) / e->rows : 0;
    for (int64_t at = 0; at < n; at += e->rows) {
        int64_t rows = n - at < e->rows ? n - at : e->rows;
        memcpy(rt_program_data(e->program, e->x), x + at * e->features, (size_t)(rows * e->features) * sizeof *x);
        for (int64_t i = 0; ts && i < rows; i++) ts[i] = (float)t[at + i];
        show(e, at, rows, y);
        RT_TRY(ask(e, err));
        memcpy(out + at * e->width, rt_program_data(e->program, e->out), (size_t)(rows * e->width) * sizeof *out);
        if (pooled) memcpy(pooled + at * wide, rt_program_data(e->program, e->pooled), (size_t)(rows * wide) * sizeof *pooled);
    }
    return RT_OK;
}

/* ---- opening */

rt_status rt__evaluator_open(rt_evaluator *e, const rt_evaluator_spec *spec, rt_error *err)
{
    const rt_denoiser *m = &spec->denoiser;
    *e = (rt_evaluator){.spec = *spec};
    if (m->oracle) {
        e->field = rt_oracle_field(m->oracle);
        e->field.null_class = m->null_class;
        e->features = e->width = e->field.features;
        e->guidance = m->guidance;
        return RT_OK;
    }
    RT_TRY(compile(e, err));
    e->stepper = (rt_stepper){e->rows, states_of(e), begin_steps, make_step, read_state};
    e->told = m->guidance;
    e->guidance = spec->x0 || e->omega ? 0 : m->guidance;
    e->field = (rt_field){e, eval, spec->x0 ? rt_prediction_find("x0", NULL) : m->prediction, e->features, spec->x0 ? -1 : m->null_class};
    return RT_OK;
}

void rt__evaluator_close(rt_evaluator *e)
{
    rt_program_free(e->program);
    rt_graph_free(e->graph);
    free_room(e);
    free(e->drawn);
    *e = (rt_evaluator){0};
}
