/* classify.c -- training a small classifier, whose features serve the Frechet distance. */
#include "distill/method.h"
#include "distill/rollout.h"

#include "base/internal.h"

static rt_status classify_plan(rt_distill *d)
{
    rt_error *err = d->err;
    d->n_rounds = 1;
    if (d->classes < 2) RT_RAISE(RT_E_INVALID, "%s: a classifier of %d classes; give 2 or more", d->config->net, d->classes);
    return RT_OK;
}

static rt_status classify_build(rt_distill *d)
{
    rt_error *err = d->err;
    rt_node *x = rt__input_x(d, "x0"), *y = rt__input_y(d);
    if (!y) RT_RAISE(RT_E_INVALID, "%s: no labels; a classifier needs them", d->config->data.path);
    rt_node *logits = rt_net_apply(d->student.net, d->student.set, x, NULL, NULL);
    rt__minimise(d, "classify", d->student.set, rt_cross_entropy(logits, y));
    d->inputs[0] = x, d->inputs[1] = y;
    return rt__source_data(d);
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
    .defaults = classify_defaults,
    .plan = classify_plan,
    .build = classify_build,
};
