/* solver_ancestral.c -- DDIM and its relatives that add noise. With h half the log-SNR gained from s to t, a step is
 *
 *     x_t = alpha_t x0 + sqrt(beta_t^2 - sigma^2) eps + sigma z,    sigma = eta beta_t sqrt(1 - e^-2h),
 *
 * eta = 0: DDIM (1.30), eta = 1: the posterior q(x_t | x_s, x0) of DDPM, which k-diffusion calls Euler ancestral and which SDE-DPM-Solver++ is to
 * first order. (beta_t^2 e^2h = (alpha_t beta_s/alpha_s)^2, so sigma^2 = beta_t^2/beta_s^2 times the variance of x_s given x_t.) */
#include "diffusion/exponential.h"

#include "base/internal.h"

typedef struct noise {
    double gain; /* 1 - e^-2h = 1 - SNR_s/SNR_t */
    double alpha_s, alpha_t, beta_s, beta_t;
} noise;

static noise noise_between(const rt__advance *a, double s, double t)
{
    const rt_process *p = a->spec->process;
    return (noise){-expm1(rt_process_log_snr(p, s) - rt_process_log_snr(p, t)), rt_process_alpha(p, s), rt_process_alpha(p, t),
                   rt_process_beta(p, s), rt_process_beta(p, t)};
}

/* eps is the network's: it and a clipped x0 do not explain x_s. */
static void eps_step(rt__advance *a, double s, double t, double eta)
{
    noise v = noise_between(a, s, t);
    double E = v.beta_t * sqrt(1 - eta * eta * v.gain), sigma = eta * v.beta_t * sqrt(v.gain);
    for (int64_t i = 0; i < a->count; i++) a->x[i] = v.alpha_t * a->x0[i] + E * a->eps[i] + (a->z ? sigma * a->z[i] : 0);
}

/* eps is what x0 and x_s leave: x_t = A x_s + C x0 + sigma z. */
static void posterior_step(rt__advance *a, double s, double t, bool large)
{
    noise v = noise_between(a, s, t);
    double A = v.beta_t / v.beta_s * sqrt(1 - v.gain), C = v.alpha_t - A * v.alpha_s, sigma = (large ? v.beta_s : v.beta_t) * sqrt(v.gain);
    if (rt_process_network_time(a->spec->process, s) == 0) sigma = 0; /* as published: the last of all timesteps adds none */
    for (int64_t i = 0; i < a->count; i++) a->x[i] = A * a->x[i] + C * a->x0[i] + sigma * a->z[i];
}

static rt_status ddim(rt__advance *a, double s, double t, rt_error *err)
{
    return (void)err, eps_step(a, s, t, a->spec->options.eta), RT_OK;
}
static rt_status euler_ancestral(rt__advance *a, double s, double t, rt_error *err) { return (void)err, eps_step(a, s, t, 1), RT_OK; }
static rt_status ddpm(rt__advance *a, double s, double t, rt_error *err) { return (void)err, posterior_step(a, s, t, false), RT_OK; }
static rt_status ddpm_large(rt__advance *a, double s, double t, rt_error *err) { return (void)err, posterior_step(a, s, t, true), RT_OK; }

/* x_t drawn anew around x0 (1.1): consistency models' way to sample in steps. */
static rt_status renoise(rt__advance *a, double s, double t, rt_error *err)
{
    (void)s, (void)err;
    double alpha = rt_process_alpha(a->spec->process, t), beta = rt_process_beta(a->spec->process, t);
    for (int64_t i = 0; i < a->count; i++) a->x[i] = alpha * a->x0[i] + beta * a->z[i];
    return RT_OK;
}

const rt_solver rt__solver_ddim = {
    {.name = "ddim",
     .source = "(1.30), Song et al. 2021",
     .formula = "x_t = alpha_t x0 + sqrt(beta_t^2 - sigma^2) eps + sigma z; eta 0: x_t = alpha_t x0 + beta_t eps",
     .order = 1,
     .calls = 1,
     .eta = true,
     .affine = true},
    .step = ddim};
const rt_solver rt__solver_ddpm = {{.name = "ddpm",
                                    .source = "Ho et al. 2020, fixed_small",
                                    .formula = "x_t drawn from q(x_t | x_s, x0)",
                                    .order = 1,
                                    .calls = 1,
                                    .stochastic = true},
                                   .step = ddpm};
const rt_solver rt__solver_ddpm_large = {{.name = "ddpm-large",
                                          .source = "Ho et al. 2020, fixed_large",
                                          .formula = "ddpm with the variance of x_s given x_t, at time 0 too",
                                          .order = 1,
                                          .calls = 1,
                                          .stochastic = true},
                                         .to_data = true,
                                         .step = ddpm_large};
const rt_solver rt__solver_euler_ancestral = {{.name = "euler-ancestral",
                                               .source = "k-diffusion",
                                               .formula = "ddim with eta 1; ddpm's map where x0 is not clipped",
                                               .order = 1,
                                               .calls = 1,
                                               .stochastic = true},
                                              .step = euler_ancestral};
const rt_solver rt__solver_renoise = {
    {.name = "renoise",
     .source = "Song et al. 2023 (consistency models)",
     .formula = "x_t = alpha_t x0 + beta_t z; for students that say where a path ends: of a teacher it is no solver",
     .order = 0,
     .calls = 1,
     .stochastic = true},
    .step = renoise};
