/* denoiser.c -- see denoiser.h. */
#include "distill/denoiser.h"

#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

static void fill(rt_evaluator *e, const rt_node *node, double value)
{
    float *at = rt_program_data(e->program, node);
    for (int64_t i = 0; at && i < e->batch; i++) at[i] = (float)value;
}

void rt__feed(int times, double here, double there, int64_t n, float *at)
{
    for (int64_t i = 0; at && i < n * times; i++) at[i] = (float)(i % times ? there : here);
}

/* z of step k for the samples of the roll's batch. */
static rt_status draw(void *self, int k, int64_t n, double *z, rt_error *err)
{
    (void)err;
    const rt_evaluator *e = self;
    int64_t d = e->features;
    rt__draw step = {.seed = e->seed, .name = rt__draw_name(e->draws.name), .clock = e->draws.clock + (uint32_t)k};
    for (int64_t j = 0; j < n; j++) rt__draw_normals(&step, (uint32_t)(e->draws.first + j), d, z + j * d);
    return RT_OK;
}

/* The q draws of step k, as the network sees them. */
static rt_status show_draws(rt_evaluator *e, int k, int64_t n, rt_error *err)
{
    int64_t q = rt_program_count(e->program, e->z) / (e->batch * e->features);
    float *to = rt_program_data(e->program, e->z);
    if (!e->draws.name) RT_RAISE(RT_E_INTERNAL, "a network that sees draws is asked without any");
    for (int64_t j = 0; j < q; j++) {
        RT_TRY(draw(e, (int)(k * q + j), n, e->drawn, err));
        for (int64_t row = 0; row < n; row++)
            for (int64_t i = 0; i < e->features; i++) to[(row * q + j) * e->features + i] = (float)e->drawn[row * e->features + i];
    }
    return RT_OK;
}

/* At most a batch of rows; a short one runs with what the buffers hold behind it. */
static rt_status predict(void *self, double t, double fed, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    rt_evaluator *e = self;
    fill(e, e->alpha, rt_process_alpha(e->process, t));
    fill(e, e->beta, rt_process_beta(e->process, t));
    const double *from = e->path;
    while (*from > t) from++; /* the step of a network of two times, or that sees draws: such are students, which step by DDIM */
    double there = rt_process_network_time(e->process, *from == t ? from[1] : t);
    rt__feed(rt_node_rank(e->fed), fed, there, e->batch, rt_program_data(e->program, e->fed));
    float *in = rt_program_data(e->program, e->x);
    for (int64_t i = 0; i < n * e->features; i++) in[i] = (float)x[i];
    if (e->z) RT_TRY(show_draws(e, (int)(from - e->path), n, err));
    if (e->y) memcpy(rt_program_data(e->program, e->y), y, (size_t)n * sizeof *y);
    RT_TRY(rt_run(e->program, &(rt_clock){0}, err));
    const float *x0 = rt_program_data(e->program, e->x0);
    for (int64_t i = 0; i < n * e->features; i++) out[i] = (double)x0[i];
    return RT_OK;
}

static rt_status compile(rt_evaluator *e, const rt_distill *like, const rt_denoiser *m, rt_error *err)
{
    e->graph = rt_graph_new(RT_F32);
    if (!e->graph) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    rt_distill d = *like; /* the pieces build on any graph */
    d.graph = e->graph;
    int64_t one[RT_MAX_RANK] = {RT_BATCH, 1, 1, 1, 1, 1, 1, 1};
    int times = rt_net_describe(m->net)->times;
    e->x = rt__input_x(&d, "x");
    e->y = rt__input_y(&d);
    rt__input_draws(&d, m);
    e->z = d.draws;
    e->alpha = rt_input(e->graph, "alpha", RT_F32, d.rank, one);
    e->beta = rt_input(e->graph, "beta", RT_F32, d.rank, one);
    e->fed = rt_input(e->graph, "fed", RT_F32, times, (int64_t[]){RT_BATCH, 2});
    e->x0 = rt__denoise(&d, m, e->x, (rt_at){e->alpha, e->beta, e->fed}, e->y);
    e->field = (rt_field){e, predict, rt_prediction_find("x0", NULL), e->features, -1};
    rt_program_spec spec = {.outputs = &e->x0,
                            .n_outputs = 1,
                            .batch = e->batch,
                            .threads = like->config->threads,
                            .choices = like->choices,
                            .rehearsal = like->rehearsal,
                            .backend = *like->config->backend ? rt_backend_find(like->config->backend) : NULL,
                            .compute = rt_config_compute(like->config)};
    return rt_compile(&e->program, e->graph, &spec, err);
}

rt_status rt__evaluator_open(rt_evaluator *e, const rt_distill *like, const rt_denoiser *m, int64_t batch, rt_error *err)
{
    *e = (rt_evaluator){
        .process = like->process, .solver = m->solver, .batch = batch, .features = like->features, .seed = like->config->seed};
    e->state = malloc((size_t)(2 * batch * e->features) * sizeof *e->state);
    if (!e->state) RT_RAISE(RT_E_MEMORY, "out of memory for %lld samples", (long long)batch);
    e->drawn = e->state + batch * e->features;
    if (!m->oracle) return compile(e, like, m, err);
    e->field = rt_oracle_field(m->oracle);
    e->field.null_class = like->null_class;
    e->guidance = m->guidance;
    return RT_OK;
}

void rt__evaluator_close(rt_evaluator *e)
{
    rt_program_free(e->program);
    rt_graph_free(e->graph);
    free(e->state);
    free(e->room.bytes);
    *e = (rt_evaluator){0};
}

typedef struct trail {
    float *x;
    int64_t hop, count;
} trail;

static rt_status keep(void *self, int k, double t, int64_t n, const double *x, rt_error *err)
{
    (void)t, (void)n, (void)err;
    const trail *to = self;
    for (int64_t i = 0; i < to->count; i++) to->x[k * to->hop + i] = (float)x[i];
    return RT_OK;
}

rt_status rt__roll(rt_evaluator *e, const double *times, int stride, int steps, int64_t n, float *x, int64_t hop, const int64_t *y,
                   const rt_frozen *draws, rt_error *err)
{
    double *own = stride > 1 ? malloc((size_t)(steps + 1) * sizeof *own) : NULL;
    if (stride > 1 && !own) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", steps + 1);
    for (int k = 0; own && k <= steps; k++) own[k] = times[k * stride];
    const double *path = e->path = own ? own : times;
    rt_status s = RT_OK;
    for (int64_t at = 0; at < n && s == RT_OK; at += e->batch) {
        int64_t m = n - at < e->batch ? n - at : e->batch;
        trail to = {x + at * e->features, hop, m * e->features};
        e->draws = draws ? *draws : (rt_frozen){0};
        e->draws.first += at;
        for (int64_t i = 0; i < to.count; i++) e->state[i] = (double)to.x[i];
        rt_sample_spec spec = {.process = e->process,
                               .solver = e->solver,
                               .steps = steps,
                               .from = path,
                               .guidance = e->guidance,
                               .trace = keep,
                               .trace_self = &to,
                               .noise = draws ? draw : NULL,
                               .noise_self = e,
                               .room = &e->room};
        s = rt_sample(&spec, &e->field, m, e->state, y ? y + at : NULL, err);
    }
    free(own);
    return s;
}
