/* accuracy.c -- share of held-out items that a classifier puts in their class. */
#include "train/run.h"

#include "base/internal.h"
#include "model/classes.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 100 };

static rt_status count_hits(rt_evaluator *e, const rt_dataset *ds, double *share, rt_error *err)
{
    const rt_dataset_info *info = rt_dataset_describe(ds);
    int64_t hits = 0, y[ROWS];
    float *x = malloc((size_t)(ROWS * (info->features + e->width)) * sizeof *x), *logits = x + ROWS * info->features;
    if (!x) RT_RAISE(RT_E_MEMORY, "out of memory for %d items", ROWS);
    rt_status s = RT_OK;
    for (int64_t at = 0; at < info->count && s == RT_OK; at += ROWS) {
        int64_t n = info->count - at < ROWS ? info->count - at : ROWS;
        for (int64_t i = 0; i < n; i++) rt_dataset_read(ds, at + i, x + i * info->features, &y[i]);
        s = rt__evaluator_rows(e, n, x, NULL, NULL, logits, NULL, err);
        for (int64_t i = 0; i < n && s == RT_OK; i++) hits += rt__most_likely(e->width, logits + i * e->width) == y[i];
    }
    *share = (double)hits / (double)info->count;
    free(x);
    return s;
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
    rt_evaluator e = {0};
    rt_status s = RT_OK;
    if (info->features != run->d.features || info->classes < 1)
        s = rt_error_set(err, RT_E_INVALID, "%s: labelled items of the training data's size are needed to measure the accuracy",
                         c->data.holdout);
    rt_evaluator_spec spec = {.denoiser = run->d.shown,
                              .program = {.batch = ROWS,
                                          .threads = c->threads,
                                          .choices = run->d.choices,
                                          .rehearsal = run->d.rehearsal,
                                          .compute = rt_config_compute(c)}};
    if (s == RT_OK) s = rt__evaluator_open(&e, &spec, err);
    if (s == RT_OK) s = count_hits(&e, ds, share, err);
    rt__evaluator_close(&e);
    rt_dataset_free(ds);
    return s;
}
