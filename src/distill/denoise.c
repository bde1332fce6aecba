/* denoise.c -- training a diffusion model from data: the teacher of everything else. Denoising regression whose optimum is (1.2). */
#include "distill/method.h"
#include "distill/rollout.h"

#include "base/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `uniform` leaves the mean square of the network's own output as it is. */
static bool own_output(const rt_distill *d) { return !strcmp(d->config->train.weight, "uniform"); }

static const rt_weight *find_weight(const rt_distill *d, rt_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "uniform-%s", rt_prediction_name(d->student.prediction));
    return rt_weight_find(own_output(d) ? name : d->config->train.weight, err);
}

static rt_status denoise_plan(rt_distill *d)
{
    rt_error *err = d->err;
    d->n_rounds = 1;
    return find_weight(d, err) && rt_density_find(d->config->train.time_density, err) ? RT_OK : RT_E_USAGE;
}

static rt_status denoise_build(rt_distill *d)
{
    rt_error *err = d->err;
    rt_graph *g = d->graph;
    const rt_process *p = d->process;
    bool raw = own_output(d), even = raw;
    const rt_weight *weight = find_weight(d, err);
    const rt_density *density = rt_density_find(d->config->train.time_density, err);
    int n = rt_density_count(density, p);
    double *times = calloc((size_t)(2 * n), sizeof *times), *w = times + n;
    if (!times) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", n);
    rt_status status = rt_density_times(density, p, weight, n, times, w, err);
    for (int i = 0; i < n; i++) {
        if (!raw) w[i] *= rt_weight_at(weight, p, times[i], 0);
        even = even && w[i] == 1;
    }

    rt_node *x0 = rt__input_x(d, "x0"), *y = rt__input_y(d), *fed = y;
    rt_node *eps = rt_randn(g, "eps", d->rank, d->shape), *k = rt_randint(g, "t", 1, (int64_t[]){RT_BATCH}, n);
    rt_at t = rt__at(d, times, n, 1, k);
    rt_node *xt = rt_diffuse(x0, t.alpha, t.beta, eps);
    if (y && d->null_class >= 0 && d->config->diffusion.class_drop > 0) { /* classifier-free guidance needs the unconditional model, too */
        rt_node *drop = rt_less(rt_rand(g, "drop", 1, (int64_t[]){RT_BATCH}), rt_scalar(g, d->config->diffusion.class_drop));
        fed = rt_where(drop, rt_const(g, RT_I64, 0, NULL, &(int64_t){d->null_class}), y);
    }
    rt_node *loss = raw ? rt__mean_square(d, rt_net_apply(d->student.net, d->student.set, xt, t.network, fed),
                                          rt_predict_from(d->student.prediction, x0, eps, t.alpha, t.beta))
                        : rt__mean_square(d, rt__denoise(&d->student, xt, d->draws, t, fed), x0);
    if (!even) loss = rt_mul(rt_reshape(rt__pick(d, w, n, k), 1, (int64_t[]){RT_BATCH}), loss);
    rt__minimise(d, "denoise", d->student.set, rt_expect(loss));
    d->inputs[0] = x0, d->inputs[1] = y;
    free(times);
    return status == RT_OK ? rt__source_data(d) : status;
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
