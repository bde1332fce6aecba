/* guess.c -- see guess.h. */
#include "distill/guess.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>

rt_status rt__guess_open(rt__guess *g, const rt_task *t, const rt_denoiser *m, int64_t rows, rt_error *err)
{
    const rt_config *c = t->config;
    *g = (rt__guess){.denoiser = *m, .process = t->process, .rows = rows, .features = t->features};
    size_t n = (size_t)(rows * t->features);
    g->x = malloc(2 * n * sizeof *g->x);
    g->values = malloc((n + (size_t)rows) * sizeof *g->values);
    g->null = malloc((size_t)rows * sizeof *g->null);
    if (!g->x || !g->values || !g->null) RT_RAISE(RT_E_MEMORY, "out of memory for %lld pictures", (long long)rows);
    g->out = g->x + n;
    g->times = g->values + n;
    for (int64_t i = 0; i < rows; i++) g->null[i] = m->null_class;
    if (m->oracle) return RT_OK;
    g->open = true;
    return rt__evaluator_open(&g->evaluator,
                              &(rt_evaluator_spec){.denoiser = *m,
                                                   .process = t->process,
                                                   .program = {.batch = rows,
                                                               .threads = c->threads,
                                                               .choices = t->choices,
                                                               .rehearsal = t->dry_run,
                                                               .backend = *c->backend ? rt_backend_find(c->backend) : NULL,
                                                               .compute = rt_config_compute(c)}},
                              err);
}

void rt__guess_close(rt__guess *g)
{
    if (g->open) rt__evaluator_close(&g->evaluator);
    free(g->x);
    free(g->values);
    free(g->null);
    *g = (rt__guess){0};
}

/* An oracle answers for one class at one time. */
static rt_status ask_oracle(const rt__guess *g, double alpha, double beta, const int64_t *y, const double *x, double *x0, rt_error *err)
{
    const rt_oracle *o = y && rt_oracle_classes(g->denoiser.oracle) > 0 ? rt_oracle_given(g->denoiser.oracle, *y) : g->denoiser.oracle;
    if (!o)
        RT_RAISE(RT_E_USAGE, "the oracle has no class %lld; it has %lld", (long long)*y, (long long)rt_oracle_classes(g->denoiser.oracle));
    return rt_oracle_posterior_mean(o, alpha, beta, 1, x, x0, err);
}

/* The answers without guidance for classes y. */
static rt_status ask(rt__guess *g, int64_t n, const double *x, const double *t, const int64_t *y, double *x0, rt_error *err)
{
    int64_t d = g->features;
    const rt_denoiser *m = &g->denoiser;
    for (int64_t i = 0; i < n * d && !m->oracle; i++) g->x[i] = (float)x[i];
    for (int64_t i = 0; i < n && !m->oracle; i++) g->times[i] = rt_process_network_time(g->process, t[i]);
    g->evaluator.cameras = g->cameras;
    g->evaluator.samples = n;
    if (!m->oracle) RT_TRY(rt__evaluator_rows(&g->evaluator, n, g->x, g->times, y, g->out, NULL, err));
    for (int64_t i = 0; i < n; i++) {
        double alpha = rt_process_alpha(g->process, t[i]), beta = rt_process_beta(g->process, t[i]);
        if (m->oracle) {
            RT_TRY(ask_oracle(g, alpha, beta, y ? y + i : NULL, x + i * d, x0 + i * d, err));
            continue;
        }
        for (int64_t j = 0; j < d; j++) x0[i * d + j] = (double)g->out[i * d + j];
        RT_TRY(rt_prediction_split(m->prediction, d, x0 + i * d, x + i * d, alpha, beta, x0 + i * d, NULL, err));
    }
    return RT_OK;
}

rt_status rt__guess_x0(rt__guess *g, int64_t n, const double *x, const double *t, const int64_t *y, double *x0, rt_error *err)
{
    double omega = g->denoiser.guidance;
    if (g->denoiser.net && rt_net_describe(g->denoiser.net)->guidance) omega = 0; /* the network is told */
    int64_t d = g->features;
    RT_TRY(ask(g, n, x, t, y, x0, err));
    if (omega == 0) return RT_OK;
    RT_TRY(ask(g, n, x, t, g->null, g->values, err));
    for (int64_t i = 0; i < n * d; i++) x0[i] += omega * (x0[i] - g->values[i]); /* (1.39) */
    return RT_OK;
}

void rt__zeta_of_noise(bool none, int64_t d, double alpha, const double *x0, const double *xt, double *f)
{
    for (int64_t j = 0; j < d; j++) f[j] = none ? xt[j] / alpha : x0[j];
}

void rt__direction(const rt_weight *weight, const rt_process *p, double t, int64_t d, const double *f_zeta, const double *f_teacher,
                   double *u)
{
    double w = rt_weight_at(weight, p, t, 0);
    for (int64_t j = 0; j < d; j++) u[j] = w * (f_zeta[j] - f_teacher[j]);
}

void rt__mean_of_pictures(int64_t n, int64_t d, const double *pictures, double alpha, double beta, const double *xt, double *mean)
{
    double least = INFINITY, sum = 0;
    for (int pass = 0; pass < 3; pass++) { /* the nearest; the softmax's sum; the mean */
        for (int64_t j = 0; j < d && pass == 2; j++) mean[j] = 0;
        for (int64_t k = 0; k < n; k++) {
            const double *p = pictures + k * d;
            double far = 0;
            for (int64_t j = 0; j < d; j++) far += (xt[j] - alpha * p[j]) * (xt[j] - alpha * p[j]);
            far /= 2 * beta * beta;
            if (pass == 0) least = fmin(least, far);
            if (pass == 1) sum += exp(least - far);
            for (int64_t j = 0; j < d && pass == 2; j++) mean[j] += exp(least - far) / sum * p[j];
        }
    }
}
