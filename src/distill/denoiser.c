/* denoiser.c -- see denoiser.h. */
#include "distill/denoiser.h"

#include "base/internal.h"

#include <string.h>

rt_status rt__evaluator_open(rt_evaluator *e, const rt_distill *like, const rt_denoiser *m, int64_t batch, rt_error *err)
{
    *e = (rt_evaluator){.process = like->process, .batch = batch, .features = like->features, .graph = rt_graph_new(RT_F32)};
    if (!e->graph) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    rt_distill d = *like; /* the pieces build on any graph */
    d.graph = e->graph;
    int64_t one[RT_MAX_RANK] = {RT_BATCH, 1, 1, 1, 1, 1, 1, 1};
    e->x = rt__input_x(&d, "x");
    e->y = rt__input_y(&d);
    e->alpha = rt_input(e->graph, "alpha", RT_F32, d.rank, one);
    e->beta = rt_input(e->graph, "beta", RT_F32, d.rank, one);
    e->fed = rt_input(e->graph, "fed", RT_F32, 1, one);
    e->x0 = rt__denoise(&d, m, e->x, (rt_at){e->alpha, e->beta, e->fed}, e->y);
    rt_program_spec spec = {.outputs = &e->x0,
                            .n_outputs = 1,
                            .batch = batch,
                            .threads = like->config->threads,
                            .backend = *like->config->backend ? rt_backend_find(like->config->backend) : NULL};
    return rt_compile(&e->program, e->graph, &spec, err);
}

void rt__evaluator_close(rt_evaluator *e)
{
    rt_program_free(e->program);
    rt_graph_free(e->graph);
    *e = (rt_evaluator){0};
}

static void fill(rt_evaluator *e, const rt_node *node, double value)
{
    float *at = rt_program_data(e->program, node);
    for (int64_t i = 0; at && i < e->batch; i++) at[i] = (float)value;
}

rt_status rt__evaluate(rt_evaluator *e, const float *x, double time, const int64_t *y, int64_t n, float *x0, rt_error *err)
{
    fill(e, e->alpha, rt_process_alpha(e->process, time));
    fill(e, e->beta, rt_process_beta(e->process, time));
    fill(e, e->fed, rt_process_network_time(e->process, time));
    float *in = rt_program_data(e->program, e->x);
    int64_t *classes = e->y ? rt_program_data(e->program, e->y) : NULL;
    for (int64_t at = 0; at < n; at += e->batch) {
        int64_t m = n - at < e->batch ? n - at : e->batch; /* a short tail runs with what the buffer holds behind it */
        memcpy(in, x + at * e->features, (size_t)(m * e->features) * sizeof *in);
        if (classes) memcpy(classes, y + at, (size_t)m * sizeof *classes);
        RT_TRY(rt_run(e->program, &(rt_clock){0}, err));
        memcpy(x0 + at * e->features, rt_program_data(e->program, e->x0), (size_t)(m * e->features) * sizeof *x0);
    }
    return RT_OK;
}

rt_status rt__ddim(rt_evaluator *e, float *x, double s, double t, const int64_t *y, int64_t n, float *x0, rt_error *err)
{
    double A, C;
    RT_TRY(rt_ddim_coefficients(e->process, s, t, &A, &C, err));
    RT_TRY(rt__evaluate(e, x, s, y, n, x0, err));
    for (int64_t i = 0; i < n * e->features; i++) x[i] = (float)(A * x[i] + C * x0[i]);
    return RT_OK;
}
