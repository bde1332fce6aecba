/* evaluator.c -- a network as a function on host arrays: one program for so many rows, longer inputs in slices, short ones padded. */
#include "train/model_parts.h"

#include "distill/denoiser.h"

#include <stdlib.h>
#include <string.h>

void rt__evaluator_free(rt__evaluator *e)
{
    if (!e) return;
    rt_program_free(e->program);
    rt_graph_free(e->graph);
    free(e);
}

static rt_status build(rt__evaluator *e, const rt_model *m, int64_t rows, rt_error *err)
{
    const rt_model_info *info = &m->info;
    int64_t shape[RT_MAX_RANK] = {RT_BATCH}, one[] = {RT_BATCH};
    memcpy(shape + 1, info->shape, (size_t)info->rank * sizeof *shape);
    e->rows = rows;
    e->features = info->features;
    e->graph = rt_graph_new(RT_F32);
    if (!e->graph) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    e->x = rt_input(e->graph, "x", RT_F32, info->rank + 1, shape);
    rt_node *outputs[2] = {NULL, NULL};
    if (info->feature_dims) {
        outputs[1] = e->pooled = rt_net_features(m->net, m->params, e->x);
        outputs[0] = e->out = rt_net_apply(m->net, m->params, e->x, NULL, NULL);
    } else {
        e->t = rt_input(e->graph, "t", RT_F32, rt_net_describe(m->net)->times, (int64_t[]){RT_BATCH, 2});
        e->y = info->classes ? rt_input(e->graph, "y", RT_I64, 1, one) : NULL;
        shape[1] *= rt_net_describe(m->net)->draws;
        e->z = shape[1] ? rt_input(e->graph, "draws", RT_F32, info->rank + 1, shape) : NULL;
        rt_node *seen = e->z ? rt_concat((rt_node *[]){e->x, e->z}, 2, 1) : e->x;
        outputs[0] = e->out = rt_net_apply(m->net, m->params, seen, e->t, e->y);
    }
    rt_program_spec spec = {.outputs = outputs,
                            .n_outputs = 1 + (e->pooled != NULL),
                            .batch = rows,
                            .backend = m->backend,
                            .threads = m->threads,
                            .choices = m->choices,
                            .compute = m->compute,
                            .rehearsal = m->rehearsal};
    RT_TRY(rt_compile(&e->program, e->graph, &spec, err));
    e->width = rt_program_count(e->program, e->out) / rows;
    return RT_OK;
}

rt_status rt__model_evaluator(rt_model *m, int64_t rows, rt__evaluator **evaluator, rt_error *err)
{
    rt__evaluator *old = m->evaluator;
    /* somewhat too large will do: the last of several slices is short */
    if (!old || old->rows < rows || old->rows / 8 > rows) {
        rt__evaluator_free(old);
        m->evaluator = NULL;
        rt__evaluator *e = calloc(1, sizeof *e);
        if (!e) RT_RAISE(RT_E_MEMORY, "out of memory for an evaluator");
        rt_status status = build(e, m, rows, err);
        if (status != RT_OK) {
            rt__evaluator_free(e);
            rt_error_prefix(err, "%s", m->info.chosen);
            return status;
        }
        m->evaluator = e;
    }
    *evaluator = m->evaluator;
    return RT_OK;
}

rt_status rt__evaluator_run(rt__evaluator *e, rt_error *err) { return rt_run(e->program, &(rt_clock){0}, err); }

/* ---- the sampling driver's view */

/* The draws that a network sees in step k, z[q][samples][features]: numbers k q .. k q + q - 1 of the sampling's noise. */
static rt_status read_draws(const rt_model *m, int64_t q, int k, double **z, rt_error *err)
{
    int64_t n = m->sampled, size = n * m->evaluator->features;
    *z = malloc((size_t)(q * size) * sizeof **z);
    if (!*z) RT_RAISE(RT_E_MEMORY, "out of memory for %lld draws of %lld samples; lower --batch", (long long)q, (long long)n);
    for (int64_t j = 0; j < q; j++) RT_TRY(m->sampling->noise(m->sampling->noise_self, (int)(k * q + j), n, *z + j * size, err));
    return RT_OK;
}

static rt_status eval(void *self, double time, double fed, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    rt_model *m = self;
    rt__evaluator *e = m->evaluator;
    float *xs = rt_program_data(e->program, e->x), *ts = rt_program_data(e->program, e->t);
    float *zs = e->z ? rt_program_data(e->program, e->z) : NULL;
    int64_t *ys = e->y ? rt_program_data(e->program, e->y) : NULL;
    const float *results = rt_program_data(e->program, e->out);
    double target = 0, *z = NULL;
    int64_t q = e->z ? rt_program_count(e->program, e->z) / (e->rows * e->features) : 0;
    if (rt_node_rank(e->t) == 2 || q) {
        const rt_sample_spec *spec = m->sampling;
        if (!spec) RT_RAISE(RT_E_USAGE, "%s: the network is a map of whole steps, whose grid is the caller's", m->info.chosen);
        if (!rt_solver_get_info(spec->solver)->affine)
            RT_RAISE(RT_E_USAGE, "%s: the network is a map of whole steps, which %s does not make; sample with ddim", m->info.chosen,
                     rt_solver_get_info(spec->solver)->name);
        int k = 0;
        while (spec->from[k] != time) k++;
        target = rt_process_network_time(m->process, spec->to ? spec->to[k] : spec->from[k + 1]);
        rt_status s = q ? read_draws(m, q, k, &z, err) : RT_OK;
        if (s != RT_OK) free(z);
        RT_TRY(s);
    }
    rt__feed(rt_node_rank(e->t), fed, target, e->rows, ts);
    rt_status s = RT_OK;
    for (int64_t at = 0; at < n && s == RT_OK; at += e->rows) {
        int64_t rows = n - at < e->rows ? n - at : e->rows, count = rows * e->features;
        const double *from = x + at * e->features;
        double *to = out + at * e->features;
        for (int64_t i = 0; i < count; i++) xs[i] = (float)from[i];
        for (int64_t i = 0; i < count * q; i++) {
            int64_t row = i / (q * e->features), j = i / e->features % q;
            zs[i] = (float)z[(j * m->sampled + (at + row) % m->sampled) * e->features + i % e->features];
        }
        if (ys) memcpy(ys, y + at, (size_t)rows * sizeof *ys);
        s = rt__evaluator_run(e, err);
        for (int64_t i = 0; i < count; i++) to[i] = (double)results[i];
    }
    free(z);
    return s;
}

rt_status rt__model_field(rt_model *m, int64_t rows, rt_field *field, rt_error *err)
{
    if (m->oracle) {
        *field = rt_oracle_field(m->oracle);
        field->null_class = m->info.null_class;
        return RT_OK;
    }
    rt__evaluator *e;
    if (m->info.feature_dims) RT_RAISE(RT_E_USAGE, "%s: a classifier draws no samples", m->info.chosen);
    RT_TRY(rt__model_evaluator(m, rows, &e, err));
    if (e->width != e->features)
        RT_RAISE(RT_E_INVALID,
                 "%s: the network takes %lld numbers per sample and gives %lld; models that also predict a variance are not understood",
                 m->info.chosen, (long long)e->features, (long long)e->width);
    *field = (rt_field){m, eval, m->prediction, m->info.features, m->info.null_class};
    return RT_OK;
}
