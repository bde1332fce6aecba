/* denoise.c -- training a diffusion model from data: the teacher of everything else. Denoising regression whose optimum is (1.2). */
#include "distill/method.h"
#include "distill/rollout.h"

#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

enum { CONTINUOUS_TIMES = 4096 }; /* a continuous process is trained on so many equidistant times */

static rt_status denoise_plan(rt_distill *d)
{
    d->n_rounds = 1;
    return RT_OK;
}

static rt_status denoise_build(rt_distill *d)
{
    rt_error *err = d->err;
    rt_graph *g = d->graph;
    const rt_process *p = d->process;
    const char *name = d->config->train.weight;
    bool raw = !strcmp(name, "uniform"); /* mean square of the network's own output */
    const rt_weight *weight = raw ? NULL : rt_weight_find(name, err);
    if (!raw && !weight) return err->status;

    /* times i = 1..T of a discrete process; the same many in (0,1] of a continuous one */
    int T = rt_process_discrete_steps(p), n = T ? T : CONTINUOUS_TIMES;
    double *times = calloc((size_t)(2 * n), sizeof *times), *w = times + n;
    if (!times) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", n);
    for (int i = 0; i < n; i++) {
        times[i] = T ? i + 1 : (i + 1.0) / n;
        w[i] = raw ? 1 : rt_weight_at(weight, p, times[i], 0);
    }

    rt_node *x0 = rt__input_x(d, "x0"), *y = rt__input_y(d), *fed = y;
    rt_node *eps = rt_randn(g, "eps", d->rank, d->shape), *k = rt_randint(g, "t", 1, (int64_t[]){RT_BATCH}, n);
    rt_at t = rt__at(d, times, n, 1, k);
    rt_node *xt = rt_diffuse(x0, t.alpha, t.beta, eps);
    if (y && d->null_class >= 0 && d->config->diffusion.class_drop > 0) { /* classifier-free guidance needs the unconditional model, too */
        rt_node *drop = rt_less(rt_rand(g, "drop", 1, (int64_t[]){RT_BATCH}), rt_scalar(g, d->config->diffusion.class_drop));
        fed = rt_where(drop, rt_const(g, RT_I64, 0, NULL, &(int64_t){d->null_class}), y);
    }
    rt_node *loss;
    if (raw) {
        rt_node *target = rt_predict_from(d->student.prediction, x0, eps, t.alpha, t.beta);
        loss = rt__mean_square(d, rt_net_apply(d->student.net, d->student.set, xt, t.fed, fed), target);
    } else {
        rt_node *omega = rt_reshape(rt__pick(d, w, n, k), 1, (int64_t[]){RT_BATCH});
        loss = rt_mul(omega, rt__mean_square(d, rt__denoise(d, &d->student, xt, t, fed), x0));
    }
    rt__minimise(d, "denoise", d->student.set, rt_expect(loss));
    d->inputs[0] = x0, d->inputs[1] = y;
    free(times);
    return rt__source_data(d);
}

static const char *const denoise_defaults[] = {
    "train.batch", "64",    "train.lr",     "0.001",   "train.lr-schedule", "cosine", "train.warmup", "200", "train.beta2", "0.99",
    "train.ema",   "0.999", "train.weight", "uniform", "train.updates",     "30000",  "train.clip",   "1",   NULL};

const rt_method rt__method_denoise = {
    .name = "denoise",
    .title = "train a diffusion or flow model from data",
    .source = "Ho et al. 2020; Salimans & Ho 2022 (v)",
    .equation = "(1.1)-(1.3)",
    .needs_data = true,
    .defaults = denoise_defaults,
    .plan = denoise_plan,
    .build = denoise_build,
};
