/* solver_sigma.c -- solvers of Karras et al. 2022, who write the ODE in y = x/alpha and sigma = beta/alpha: dy/dsigma = (y - x0)/sigma. Where alpha is
 * 0 there is no y: such a step is DDIM's. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>

enum { MOST_CHURN = 40 };

static double sigma_at(const rt__advance *a, double t)
{
    return rt_process_beta(a->spec->process, t) / rt_process_alpha(a->spec->process, t);
}

/* Heun's step of y from sigma to time t, the slope at its beginning from x0: leaves x_t in a->x. */
static rt_status heun_from(rt__advance *a, const double *y, double sigma, const double *x0, double t, rt_error *err)
{
    double alpha = rt_process_alpha(a->spec->process, t), to = sigma_at(a, t), h = to - sigma;
    double *u = a->work[0], *u0 = a->work[1], *other = a->work[2], *slope = a->work[3];
    for (int64_t i = 0; i < a->count; i++) {
        slope[i] = (y[i] - x0[i]) / sigma;
        u[i] = alpha * (y[i] + h * slope[i]);
    }
    RT_TRY(rt__predict(a, u, t, u0, other, err));
    for (int64_t i = 0; i < a->count; i++) a->x[i] = alpha * (y[i] + h / 2 * (slope[i] + (u[i] / alpha - u0[i]) / to));
    return RT_OK;
}

static rt_status heun_sigma(rt__advance *a, double s, double t, rt_error *err)
{
    double alpha = rt_process_alpha(a->spec->process, s), *y = a->work[4];
    if (alpha == 0) return rt__solver_ddim.step(a, s, t, err);
    for (int64_t i = 0; i < a->count; i++) y[i] = a->x[i] / alpha;
    return heun_from(a, y, sigma_at(a, s), a->x0, t, err);
}

/* Algorithm 2 there: noise is added first, up to sigma (1 + gamma), then Heun's step goes down to t. */
static rt_status edm_stochastic(rt__advance *a, double s, double t, rt_error *err)
{
    const rt_solver_options *o = &a->spec->options;
    const rt_process *p = a->spec->process;
    double alpha = rt_process_alpha(p, s), sigma = sigma_at(a, s), high = sigma_at(a, rt_process_end(p)), *y = a->work[4];
    double churn = o->churn > 0 ? o->churn : MOST_CHURN, noise = o->churn_noise > 0 ? o->churn_noise : 1;
    if (alpha == 0) {
        RT_TRY(rt__predict(a, a->x, s, a->x0, a->eps, err));
        return rt__solver_ddim.step(a, s, t, err);
    }
    bool in = sigma >= o->churn_min && (o->churn_max == 0 || sigma <= o->churn_max);
    double gamma = in ? fmin(churn / a->spec->steps, sqrt(2) - 1) : 0;
    double above = fmin(sigma * (1 + gamma), high), time = above > sigma ? rt_process_time(p, -2 * log(above)) : s;
    double *x = a->work[5], alpha_up = rt_process_alpha(p, time), added = noise * sqrt(above * above - sigma * sigma);
    for (int64_t i = 0; i < a->count; i++) {
        y[i] = a->x[i] / alpha + added * a->z[i];
        x[i] = alpha_up * y[i];
    }
    RT_TRY(rt__predict(a, x, time, a->x0, a->eps, err));
    return heun_from(a, y, sigma_at(a, time), a->x0, t, err);
}

const rt_solver rt__solver_heun_sigma = {{.name = "heun-sigma",
                                          .source = "Karras et al. 2022, Algorithm 1",
                                          .formula = "Heun's step of y = x/alpha in sigma = beta/alpha",
                                          .order = 2,
                                          .calls = 2},
                                         .work = 5,
                                         .step = heun_sigma};
const rt_solver rt__solver_edm_stochastic = {
    {.name = "edm-stochastic",
     .source = "Karras et al. 2022, Algorithm 2",
     .formula = "noise up to sigma (1 + gamma), then heun-sigma; gamma = min(churn/N, sqrt(2) - 1)",
     .order = 2,
     .calls = 2,
     .stochastic = true},
    .work = 6,
    .starts = true,
    .step = edm_stochastic};
