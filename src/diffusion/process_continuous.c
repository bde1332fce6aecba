/* process_continuous.c -- processes that are formulas of t in 0..1. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>

static double linear_network_time(const rt_process *p, double t) { return (double)p->spec.timesteps * t; }
static double linear_from_network_time(const rt_process *p, double network_time) { return network_time / (double)p->spec.timesteps; }

/* ---- vp-linear: dx = -b(t)/2 x dt + sqrt(b(t)) dW with b from rate_min to rate_max */

static double rate(const rt_process *p, double t) { return p->spec.rate_min + t * (p->spec.rate_max - p->spec.rate_min); }

static rt_status linear_prepare(rt_process *p, rt_error *err)
{
    double low = p->spec.rate_min, high = p->spec.rate_max;
    if (!(low > 0) || !(high >= low) || !(high < 1000))
        RT_RAISE(RT_E_INVALID, "%s: rates %g..%g; must be 0 < rate_min <= rate_max < 1000", p->row->name, low, high);
    return RT_OK;
}

static double log_alpha(const rt_process *p, double t)
{
    return -t * (p->spec.rate_min / 2 + t * (p->spec.rate_max - p->spec.rate_min) / 4);
}

/* The root of D t^2/4 + rate_min t/2 = L = -log alpha in the form that does not cancel. */
static double time_of(const rt_process *p, double L)
{
    double half = p->spec.rate_min / 2, D = p->spec.rate_max - p->spec.rate_min;
    return 2 * L / (half + sqrt(half * half + D * L));
}

static rt__point linear_at(const rt_process *p, double t)
{
    double b = rate(p, t), alpha = exp(log_alpha(p, t)), beta = sqrt(-expm1(2 * log_alpha(p, t)));
    return (rt__point){alpha, beta, -b / 2 * alpha, b / 2 * alpha * alpha / beta};
}

/* -log alpha = log(1 + exp(-lambda))/2 */
static double linear_time(const rt_process *p, double lambda)
{
    return time_of(p, (lambda > 0 ? log1p(exp(-lambda)) : log1p(exp(lambda)) - lambda) / 2);
}

const rt__process_row rt__process_vp_linear = {
    .name = "vp-linear",
    .source = "Song et al. 2021 (VP SDE)",
    .formula = "log alpha = -t^2 (rate_max - rate_min)/4 - t rate_min/2, alpha^2 + beta^2 = 1",
    .prepare = linear_prepare,
    .at = linear_at,
    .time = linear_time,
    .network_time = linear_network_time,
    .from_network_time = linear_from_network_time,
};

/* ---- sub-vp: vp-linear's drift with less noise, beta = 1 - alpha^2 */

static rt__point sub_at(const rt_process *p, double t)
{
    double b = rate(p, t), alpha = exp(log_alpha(p, t)), beta = -expm1(2 * log_alpha(p, t));
    return (rt__point){alpha, beta, -b / 2 * alpha, b * alpha * alpha};
}

/* beta/alpha = 1/alpha - alpha = 2 sinh(-log alpha) */
static double sub_time(const rt_process *p, double lambda) { return time_of(p, asinh(exp(-lambda / 2) / 2)); }

const rt__process_row rt__process_sub_vp = {
    .name = "sub-vp",
    .source = "Song et al. 2021 (sub-VP SDE)",
    .formula = "alpha as vp-linear, beta = 1 - alpha^2",
    .prepare = linear_prepare,
    .at = sub_at,
    .time = sub_time,
    .network_time = linear_network_time,
    .from_network_time = linear_from_network_time,
};

/* ---- vp-cosine: the angle atan(beta/alpha) is linear in t. Its bounds come from an affine remap of t, not from a clamp: every two times differ. */

static rt_status cosine_prepare(rt_process *p, rt_error *err)
{
    double low = p->spec.log_snr_min, high = p->spec.log_snr_max;
    if (!(low >= -60 && high <= 60 && low < high))
        RT_RAISE(RT_E_INVALID, "vp-cosine: log-SNR %g..%g; must be -60 <= min < max <= 60", low, high);
    p->b = atan(exp(-high / 2));
    p->a = atan(exp(-low / 2)) - p->b;
    return RT_OK;
}

static rt__point cosine_at(const rt_process *p, double t)
{
    double alpha = cos(p->a * t + p->b), beta = sin(p->a * t + p->b);
    return (rt__point){alpha, beta, -p->a * beta, p->a * alpha};
}

static double cosine_time(const rt_process *p, double lambda) { return (atan(exp(-lambda / 2)) - p->b) / p->a; }

const rt__process_row rt__process_vp_cosine = {
    .name = "vp-cosine",
    .source = "Nichol & Dhariwal 2021; Salimans & Ho 2022",
    .formula = "alpha = cos(a t + b), beta = sin(a t + b): log-SNR = -2 log tan(a t + b) from log_snr_max to log_snr_min",
    .prepare = cosine_prepare,
    .at = cosine_at,
    .time = cosine_time,
    .network_time = linear_network_time,
    .from_network_time = linear_from_network_time,
};

/* ---- trig: the same circle, all of its quarter */

static const double quarter = 1.5707963267948966; /* pi/2 */

static rt_status trig_prepare(rt_process *p, rt_error *err) { return (void)p, (void)err, RT_OK; }

static rt__point trig_at(const rt_process *p, double t)
{
    (void)p;
    double alpha = t == 1 ? 0 : cos(quarter * t), beta = sin(quarter * t);
    return (rt__point){alpha, beta, -quarter * beta, quarter * alpha};
}

static double trig_time(const rt_process *p, double lambda) { return (void)p, atan(exp(-lambda / 2)) / quarter; }

const rt__process_row rt__process_trig = {
    .name = "trig",
    .source = "Albergo et al. 2023; Lu & Song 2025 (TrigFlow)",
    .formula = "alpha = cos(pi t/2), beta = sin(pi t/2)",
    .prepare = trig_prepare,
    .at = trig_at,
    .time = trig_time,
    .network_time = linear_network_time,
    .from_network_time = linear_from_network_time,
};

/* ---- flow: the straight line between data and noise, walked at a pace that `shift` sets */

static rt_status flow_prepare(rt_process *p, rt_error *err)
{
    if (!(p->spec.shift >= 1e-3 && p->spec.shift <= 1e3)) RT_RAISE(RT_E_INVALID, "flow: shift is %g; must be 0.001..1000", p->spec.shift);
    return RT_OK;
}

static rt__point flow_at(const rt_process *p, double t)
{
    double shift = p->spec.shift, q = 1 + (shift - 1) * t;
    double pace = shift / (q * q);
    return (rt__point){(1 - t) / q, shift * t / q, -pace, pace};
}

static double from_sigma(const rt_process *p, double sigma) { return sigma / (p->spec.shift - (p->spec.shift - 1) * sigma); }

static double flow_time(const rt_process *p, double lambda) { return from_sigma(p, 1 / (1 + exp(lambda / 2))); }
static double flow_network_time(const rt_process *p, double t) { return (double)p->spec.timesteps * flow_at(p, t).beta; }
static double flow_from_network_time(const rt_process *p, double network_time)
{
    return from_sigma(p, network_time / (double)p->spec.timesteps);
}

const rt__process_row rt__process_flow = {
    .name = "flow",
    .source = "Lipman et al. 2023; Liu et al. 2023; shift: Esser et al. 2024",
    .formula = "alpha = 1 - beta, beta = shift t / (1 + (shift - 1) t)",
    .prepare = flow_prepare,
    .at = flow_at,
    .time = flow_time,
    .network_time = flow_network_time,
    .from_network_time = flow_from_network_time,
};

/* ---- ve, edm: data plus noise of standard deviation sigma, alpha 1 throughout; both are told EDM's c_noise, log(sigma)/4, times `timesteps` */

static rt_status sigma_prepare(rt_process *p, rt_error *err)
{
    double low = p->spec.sigma_min, high = p->spec.sigma_max;
    if (!(low >= 1e-9) || !(high > low) || !(high <= 1e9))
        RT_RAISE(RT_E_INVALID, "%s: sigma %g..%g; must be 1e-9 <= sigma_min < sigma_max <= 1e9", p->row->name, low, high);
    p->noise_scale = high;
    return RT_OK;
}

static double log_range(const rt_process *p) { return log(p->spec.sigma_max / p->spec.sigma_min); }

static rt__point ve_at(const rt_process *p, double t)
{
    double sigma = t == 1 ? p->spec.sigma_max : p->spec.sigma_min * exp(t * log_range(p));
    return (rt__point){1, sigma, 0, log_range(p) * sigma};
}

static double ve_of_log(const rt_process *p, double log_sigma) { return (log_sigma - log(p->spec.sigma_min)) / log_range(p); }
static double ve_time(const rt_process *p, double lambda) { return ve_of_log(p, -lambda / 2); }
static double ve_network_time(const rt_process *p, double t) { return (double)p->spec.timesteps * log(ve_at(p, t).beta) / 4; }
static double ve_from_network_time(const rt_process *p, double network_time)
{
    return ve_of_log(p, 4 * network_time / (double)p->spec.timesteps);
}

const rt__process_row rt__process_ve = {
    .name = "ve",
    .source = "Song et al. 2021 (VE SDE)",
    .formula = "alpha = 1, beta = sigma = sigma_min (sigma_max/sigma_min)^t",
    .prepare = sigma_prepare,
    .at = ve_at,
    .time = ve_time,
    .network_time = ve_network_time,
    .from_network_time = ve_from_network_time,
};

/* Grids end at sigma_min. */
static rt_status edm_prepare(rt_process *p, rt_error *err)
{
    RT_TRY(sigma_prepare(p, err));
    p->unit = p->spec.sigma_min / p->spec.sigma_max;
    return RT_OK;
}

static rt__point edm_at(const rt_process *p, double t) { return (rt__point){1, p->spec.sigma_max * t, 0, p->spec.sigma_max}; }

static double edm_time(const rt_process *p, double lambda) { return exp(-lambda / 2) / p->spec.sigma_max; }
static double edm_network_time(const rt_process *p, double t) { return (double)p->spec.timesteps * log(p->spec.sigma_max * t) / 4; }
static double edm_from_network_time(const rt_process *p, double network_time)
{
    return exp(4 * network_time / (double)p->spec.timesteps) / p->spec.sigma_max;
}

const rt__process_row rt__process_edm = {
    .name = "edm",
    .source = "Karras et al. 2022",
    .formula = "alpha = 1, beta = sigma = sigma_max t; grids end at sigma_min",
    .prepare = edm_prepare,
    .at = edm_at,
    .time = edm_time,
    .network_time = edm_network_time,
    .from_network_time = edm_from_network_time,
};
