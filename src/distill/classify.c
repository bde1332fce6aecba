/* classify.c -- training a small classifier, whose features serve the Frechet distance. */
#include "distill/sources.h"

#include "base/internal.h"
#include "model/classes.h"
#include "retort/model.h"

#include <math.h>
#include <stdlib.h>

typedef struct classify_settings {
    char holdout[RT_CONFIG_TEXT]; /* DATA that training never sees */
} classify_settings;
_Static_assert(sizeof(classify_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT classify_settings
static const rt_config_key keys[] = {
    RT__TEXT("data.holdout", holdout, "", "DATA", "data that training never sees: accuracy of the classifier"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

static rt_status classify_build(rt_phase *p, rt_error *err)
{
    rt_node *x = rt__input_x(p, "x0"), *y = rt__input_y(p);
    if (!y) RT_RAISE(RT_E_INVALID, "%s: no labels; a classifier needs them", p->round->task->config->data.path);
    rt_node *logits = rt_net_apply(p->network->denoiser.net, p->network->set, x, NULL, NULL);
    rt__minimise(p, rt_cross_entropy(logits, y));
    return rt__source_data(p, err);
}

static rt_status classify_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    if (t->classes < 2) RT_RAISE(RT_E_INVALID, "%s: a classifier of %d classes; give 2 or more", t->config->net, t->classes);
    plan->n_rounds = 1;
    rt__plan_network(plan, (rt_network_plan){.name = "model",
                                             .kind = RT_NETWORK_NET,
                                             .start = RT_START_SEED,
                                             .trained = true,
                                             .averaged = t->config->train.ema > 0,
                                             .deployed = true});
    rt__plan_phase(plan, t, "classify", "model", classify_build);
    return RT_OK;
}

/* ---- accuracy: the share of held-out items that are put in their class */

enum { ROWS = 100 };

static rt_status count_hits(const rt_task *t, rt_evaluator *e, const rt_dataset *ds, double *share, rt_error *err)
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
        if (s == RT_OK && rt__asked_to_stop(t)) s = rt_error_set(err, RT_E_INTERRUPTED, "stopped; `--resume` goes on");
        for (int64_t i = 0; i < n && s == RT_OK; i++) hits += rt__most_likely(e->width, logits + i * e->width) == y[i];
    }
    *share = (double)hits / (double)info->count;
    free(x);
    return s;
}

static rt_status classify_measure(const rt_round *r, double *accuracy, rt_error *err)
{
    const rt_task *t = r->task;
    const rt_config *c = t->config;
    const classify_settings *own = rt__own(c);
    rt_dataset *ds;
    rt_evaluator e = {0};
    rt_denoiser used;
    *accuracy = NAN;
    if (!*own->holdout) return RT_OK;
    RT_TRY(rt__network_use(rt__deployed(t), &used, err));
    RT_TRY(rt_dataset_open_fit(&ds, own->holdout, rt_config_fit(c), err));
    rt_dataset_range(ds, t->low, t->high, false);
    const rt_dataset_info *info = rt_dataset_describe(ds);
    rt_status s = rt_dataset_tell(ds, c->data.labels, NULL, err);
    if (s == RT_OK && (info->features != t->features || info->classes < 1))
        s = rt_error_set(err, RT_E_INVALID, "%s: labelled items of the training data's size are needed to measure the accuracy",
                         own->holdout);
    rt_evaluator_spec spec = {
        .denoiser = used,
        .program = {.batch = ROWS, .threads = c->threads, .choices = t->choices, .rehearsal = t->dry_run, .compute = rt_config_compute(c)}};
    if (s == RT_OK) s = rt__evaluator_open(&e, &spec, err);
    if (s == RT_OK) s = count_hits(t, &e, ds, accuracy, err);
    rt__evaluator_close(&e);
    rt_dataset_free(ds);
    return s;
}

static const char *const classify_defaults[] = {"train.batch",
                                                "128",
                                                "train.lr",
                                                "0.002",
                                                "train.lr-schedule",
                                                "cosine",
                                                "train.warmup",
                                                "100",
                                                "train.ema",
                                                "0.995",
                                                "train.weight-decay",
                                                "0.0005",
                                                "train.optimiser",
                                                "adamw",
                                                "train.updates",
                                                "4000",
                                                "train.beta2",
                                                "0.999",
                                                NULL};

const rt_method rt__method_classify = {
    .name = "classify",
    .title = "train a classifier from labelled data",
    .source = "cross-entropy",
    .equation = "",
    .needs_data = true,
    .reads = RT_READS_DATA,
    .settings = groups,
    .defaults = classify_defaults,
    .plan = classify_plan,
    .measure = classify_measure,
};
