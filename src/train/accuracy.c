/* accuracy.c -- share of held-out items that a classifier puts in their class. */
#include "train/run.h"

#include "base/internal.h"
#include "retort/ops.h"

#include <math.h>
#include <string.h>

enum { ROWS = 100 };

static rt_status count_hits(rt_program *p, const rt_node *x, const rt_node *logits, const rt_dataset *ds, int64_t classes, double *share,
                            rt_error *err)
{
    const rt_dataset_info *info = rt_dataset_describe(ds);
    int64_t hits = 0, y[ROWS];
    float *in = rt_program_data(p, x);
    const float *out = rt_program_data(p, logits);
    for (int64_t at = 0; at < info->count; at += ROWS) {
        int64_t n = info->count - at < ROWS ? info->count - at : ROWS;
        for (int64_t i = 0; i < n; i++) rt_dataset_read(ds, at + i, in + i * info->features, &y[i]);
        RT_TRY(rt_run(p, &(rt_clock){0}, err));
        for (int64_t i = 0; i < n; i++) {
            int64_t best = 0;
            for (int64_t k = 1; k < classes; k++)
                if (out[i * classes + k] > out[i * classes + best]) best = k;
            hits += best == y[i];
        }
    }
    *share = (double)hits / (double)info->count;
    return RT_OK;
}

rt_status rt__accuracy(rt__run *run, double *share, rt_error *err)
{
    const rt_config *c = run->config;
    *share = NAN;
    if (run->d.process || !*c->data.holdout) return RT_OK;
    rt_dataset *ds;
    RT_TRY(rt_dataset_open(&ds, c->data.holdout, err));
    rt_dataset_range(ds, run->low, run->high, false);
    const rt_dataset_info *info = rt_dataset_describe(ds);
    rt_graph *g = rt_graph_new(RT_F32);
    rt_program *p = NULL;
    rt_status s = g ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for a graph");
    if (s == RT_OK && (info->features != run->d.features || info->classes < 1))
        s = rt_error_set(err, RT_E_INVALID, "%s: labelled items of the training data's size are needed to measure the accuracy",
                         c->data.holdout);
    if (s == RT_OK) {
        rt_node *x = rt_input(g, "x", RT_F32, run->d.rank, run->d.shape), *logits = rt_net_apply(run->net, run->shown, x, NULL, NULL);
        rt_program_spec spec = {.outputs = &logits,
                                .n_outputs = 1,
                                .batch = ROWS,
                                .threads = c->threads,
                                .choices = run->d.choices,
                                .rehearsal = run->d.rehearsal,
                                .compute = rt_config_compute(c)};
        s = rt_compile(&p, g, &spec, err);
        if (s == RT_OK) s = count_hits(p, x, logits, ds, rt_net_describe(run->net)->classes, share, err);
    }
    rt_program_free(p);
    rt_graph_free(g);
    rt_dataset_free(ds);
    return s;
}
