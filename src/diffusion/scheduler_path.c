/* scheduler_path.c -- the times of diffusers' schedulers. They follow numpy's arithmetic to the last bit, since they are rounded to whole timesteps. */
#include "diffusion/scheduler.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KARRAS_RHO 7.0

static bool starts_with(const char *text, const char *word) { return !strncmp(text, word, strlen(word)); }

/* ---- spacings: timestep k of N, np.arange and np.linspace. `last` is one past the noisiest timestep. */

static double leading(int64_t T, int64_t last, int N, int k) { return (void)last, (double)(T / N) * (N - 1 - k); }

static double linspace(int64_t T, int64_t last, int N, int k)
{
    (void)T;
    if (N == 1) return 0;
    return k == 0 ? (double)(last - 1) : (double)(N - 1 - k) * ((double)(last - 1) / (N - 1));
}

/* np.arange(last, 0, -T/N) adds multiples of the difference of its first two elements. Where rounding gives it one element too many, diffusers asks
 * its network for timestep -1 as well; we do not. */
static double trailing(int64_t T, int64_t last, int N, int k)
{
    volatile double step = ((double)last - (double)T / N) - (double)last, product = k * step; /* no fused multiply-add */
    return rint((double)last + product) - 1;
}

/* DPM-Solver and UniPC space one timestep more and leave out the cleanest. */
static double leading_of_more(int64_t T, int64_t last, int N, int k) { return (void)T, (double)(last / (N + 1)) * (N - k); }
static double linspace_of_more(int64_t T, int64_t last, int N, int k) { return linspace(T, last, N + 1, k); }

static const struct spacing {
    const char *name;
    double (*at)(int64_t T, int64_t last, int N, int k), (*of_more)(int64_t T, int64_t last, int N, int k);
    bool offset; /* adds steps_offset */
} spacings[] = {
    {"leading", leading, leading_of_more, true}, {"trailing", trailing, trailing, false}, {"linspace", linspace, linspace_of_more, false}};

rt_status rt__scheduler_check_spacing(const char *name, rt_error *err)
{
    return RT__FIND("timestep spacings", name, spacings, err) < 0 ? RT_E_INVALID : RT_OK;
}

static rt_status too_far(const rt_scheduler_config *c, int steps, double t, rt_error *err)
{
    RT_RAISE(RT_E_INVALID, "steps_offset %lld moves the first of %d steps to timestep %.0f; must be at most %lld: take fewer steps",
             (long long)c->steps_offset, steps, t, (long long)c->num_train_timesteps - 1);
}

/* Whole timesteps: what DDIM and DDPM visit. */
static rt_status whole_timesteps(const rt_scheduler *s, int steps, double *timesteps, rt_error *err)
{
    const rt_scheduler_config *c = &s->config;
    int64_t T = c->num_train_timesteps;
    const struct spacing *spacing = &spacings[RT__FIND("timestep spacings", c->timestep_spacing, spacings, err)];
    for (int k = 0; k < steps; k++) {
        timesteps[k] = rint(spacing->at(T, T, steps, k)) + (spacing->offset ? (double)c->steps_offset : 0);
        if (timesteps[k] > (double)(T - 1)) return too_far(c, steps, timesteps[k], err);
    }
    return RT_OK;
}

static void one_order(int steps, const rt_scheduler_steps *path, int order)
{
    for (int k = 0; path->order && k < steps; k++) path->order[k] = order;
}

rt_status rt__ddim_path(const rt_scheduler *s, int steps, const rt_scheduler_steps *path, rt_error *err)
{
    const rt_scheduler_config *c = &s->config;
    RT_TRY(whole_timesteps(s, steps, path->network_times, err));
    for (int k = 0; k < steps; k++) {
        double before = path->network_times[k] - (double)(c->num_train_timesteps / steps);
        path->from[k] = path->network_times[k] + 1;
        path->to[k] = before >= 0 ? before + 1 : c->set_alpha_to_one ? 0 : 1;
    }
    one_order(steps, path, 1);
    return RT_OK;
}

rt_status rt__ddpm_path(const rt_scheduler *s, int steps, const rt_scheduler_steps *path, rt_error *err)
{
    RT_TRY(whole_timesteps(s, steps, path->network_times, err));
    for (int k = 0; k < steps; k++) {
        path->from[k] = path->network_times[k] + 1;
        path->to[k] = k + 1 < steps ? path->network_times[k + 1] + 1 : 0;
    }
    one_order(steps, path, 1);
    return RT_OK;
}

static bool respaces(const rt_scheduler_config *c) { return c->use_karras_sigmas || c->use_exponential_sigmas || c->use_beta_sigmas; }

/* The sigmas of `use_karras_sigmas`, `use_exponential_sigmas` and `use_beta_sigmas` between those of the ends. */
static double respaced(const rt_scheduler_config *c, double high, double low, int N, int k)
{
    double u = N == 1 ? 0 : (double)k / (N - 1);
    if (c->use_beta_sigmas) return low + rt__beta_quantile(1 - u, 0.6, 0.6) * (high - low);
    if (c->use_exponential_sigmas) return exp(log(high) + u * (log(low) - log(high)));
    double first = pow(high, 1 / KARRAS_RHO), last = pow(low, 1 / KARRAS_RHO);
    return pow(first + u * (last - first), KARRAS_RHO);
}

/* ---- FlowMatchEulerDiscreteScheduler: sigma from f(1) to f(1/T), evenly, and f applied once more: our process applies it */

rt_status rt__flow_path(const rt_scheduler *s, int steps, const rt_scheduler_steps *path, rt_error *err)
{
    const rt_scheduler_config *c = &s->config;
    double T = (double)c->num_train_timesteps, last = rt_process_beta(s->process, 1 / T), *from = path->from;
    if (c->shift_terminal > 0 && steps == 1)
        RT_RAISE(RT_E_INVALID, "shift_terminal %g stretches at least 2 steps, not 1", c->shift_terminal);
    for (int k = 0; k < steps; k++) from[k] = k == 0 ? 1 : 1 + (last - 1) * k / (steps - 1);
    if (c->shift_terminal > 0 || respaces(c)) {
        for (int k = 0; k < steps; k++) from[k] = rt_process_beta(s->process, from[k]);
        double low = from[steps - 1], stretch = (1 - low) / (1 - c->shift_terminal);
        for (int k = 0; c->shift_terminal > 0 && k < steps; k++) from[k] = 1 - (1 - from[k]) / stretch;
        double first = from[0], end = from[steps - 1];
        for (int k = 0; respaces(c) && k < steps; k++) from[k] = respaced(c, first, end, steps, k);
        /* fmin also takes the 1 where rounding leaves the process (NaN) */
        for (int k = 0; k < steps; k++) from[k] = fmin(rt_process_from_network_time(s->process, fmin(from[k], 1) * T), 1);
    }
    for (int k = 0; k < steps; k++) {
        path->to[k] = k + 1 < steps ? from[k + 1] : 0;
        path->network_times[k] = rt_process_network_time(s->process, from[k]);
    }
    one_order(steps, path, 1);
    return RT_OK;
}

/* ---- classes that hold sigma = beta/alpha: Euler, Heun, DPM-Solver, UniPC */

/* sigma of a whole timestep in the table of training steps. */
static double table(const rt_scheduler *s, double timestep)
{
    double sigma = rt_process_beta(s->process, timestep + 1) / rt_process_alpha(s->process, timestep + 1);
    return s->process->spec.float32_sigma ? (double)(float)sigma : sigma;
}

/* numpy's log of a float32 number, to its last bit, which is not always the nearest: where a respaced sigma is the table's own, that bit decides which
 * timestep is rounded down to. */
static float numpy_log(float v)
{
    static const float P[] =
        {0, 1, 2.112677543073053063722F, 1.480000633576506585156F, 3.808837741388407920751e-01F, 2.589979117907922693523e-02F},
                       Q[] = {1,
                              2.612677543073109236779F,
                              2.453006071784736363091F,
                              9.864942958519418960339e-01F,
                              1.546476374983906719538e-01F,
                              5.875095403124574342950e-03F};
    int exponent;
    float x = 2 * frexpf(v, &exponent), p = P[5], q = Q[5];
    exponent--;
    if (x > (float)M_SQRT2) {
        x /= 2;
        exponent++;
    }
    x -= 1;
    for (int i = 4; i >= 0; i--) {
        p = fmaf(p, x, P[i]);
        q = fmaf(q, x, Q[i]);
    }
    return fmaf((float)exponent, (float)M_LN2, p / q);
}

static double log_table(const rt_scheduler *s, double timestep)
{
    double sigma = table(s, timestep);
    return s->process->spec.float32_sigma ? (double)numpy_log((float)sigma) : log(sigma);
}

/* np.interp over the table. */
static double interpolated(const rt_scheduler *s, double timestep)
{
    double below = floor(timestep), w = timestep - below;
    return w == 0 ? table(s, below) : table(s, below) + w * (table(s, below + 1) - table(s, below));
}

/* The timestep of a sigma, linear in log sigma. */
static double timestep_of(const rt_scheduler *s, double sigma)
{
    double last = (double)(s->config.num_train_timesteps - 1);
    double l = log(sigma), low = fmin(fmax(ceil(rt_process_time(s->process, -2 * l)) - 2, 0), last - 1);
    while (low < last - 1 && log_table(s, low + 1) <= l) low++;
    while (low > 0 && log_table(s, low) > l) low--;
    if (log_table(s, last) <= l) low = last - 1; /* the noisiest timestep need not have the highest sigma */
    double a = log_table(s, low), b = log_table(s, low + 1), w = fmin(fmax((a - l) / (a - b), 0), 1);
    return (1 - w) * low + w * (low + 1);
}

/* One past the noisiest timestep: lambda_min_clipped leaves out those with a smaller log(alpha/beta). */
static int64_t noisiest(const rt_scheduler *s)
{
    int64_t last = s->config.num_train_timesteps;
    while (last > 1 && rt_process_log_snr(s->process, (double)last) / 2 < s->config.lambda_min_clipped) last--;
    return last;
}

/* The timestep that goes with a respaced sigma, as each class rounds it. */
static double network_time_of(const rt_scheduler *s, double sigma)
{
    const rt_scheduler_config *c = &s->config;
    double t = timestep_of(s, sigma);
    if (s->class->over_alpha) return t;
    bool keeps = c->use_exponential_sigmas || c->use_beta_sigmas ||
                 (starts_with(c->class_name, "DPMSolverMultistep") && !strcmp(c->beta_schedule, "squaredcos_cap_v2"));
    return keeps ? floor(t) : rint(t);
}

/* DPM-Solver's singlestep orders: 1, 2, ... in turn; 1 where the last would divide by 0, or is lowered. */
static int singlestep_order(const rt_scheduler_config *c, int N, int k)
{
    int order = (int)c->solver_order;
    bool zero = !strcmp(c->final_sigmas_type, "zero"), lowered = c->lower_order_final && N % order == 0;
    return k == N - 1 && (zero || lowered) ? 1 : k % order + 1;
}

static int order_of(const rt_scheduler_config *c, int N, int k)
{
    int order = (int)c->solver_order, left = N - k;
    if (starts_with(c->class_name, "UniPC")) return c->lower_order_final && left < order ? left : order;
    if (starts_with(c->class_name, "DPMSolverSinglestep")) return singlestep_order(c, N, k);
    if (!starts_with(c->class_name, "DPMSolver")) return 1;
    bool lower = c->lower_order_final && N < 15;
    if (left == 1 && (c->euler_at_final || lower || !strcmp(c->final_sigmas_type, "zero"))) return 1;
    return left == 2 && lower && order > 2 ? 2 : order;
}

rt_status rt__sigma_path(const rt_scheduler *s, int N, const rt_scheduler_steps *path, rt_error *err)
{
    const rt_scheduler_config *c = &s->config;
    const rt_process *p = s->process;
    const bool single = starts_with(c->class_name, "DPMSolverSinglestep"), euler = !strcmp(c->class_name, "EulerDiscreteScheduler");
    const bool log_linear = euler && !strcmp(c->interpolation_type, "log_linear");
    const int64_t T = c->num_train_timesteps, last = noisiest(s);
    const struct spacing *spacing = &spacings[RT__FIND("timestep spacings", single ? "linspace" : c->timestep_spacing, spacings, err)];
    double highest = table(s, (double)(T - 1)), lowest = table(s, 0), end = !strcmp(c->final_sigmas_type, "zero") ? 0 : 1;
    const char *given = single ? "linspace" : c->timestep_spacing;
    if (!strcmp(given, "trailing") && ceil((double)last / ((double)T / N)) > N)
        RT_RAISE(RT_E_INVALID,
                 "timestep_spacing trailing: numpy's rounding gives diffusers %d timesteps for %d steps; take another number of steps",
                 N + 1, N);
    if (T < 2) RT_RAISE(RT_E_INVALID, "num_train_timesteps is %lld; %s needs at least 2", (long long)T, c->class_name);
    for (int k = 0; k < N; k++) {
        double t = (s->class->over_alpha ? spacing->at : spacing->of_more)(T, last, N, k) + (spacing->offset ? (double)c->steps_offset : 0);
        t = !s->class->over_alpha ? rint(t) : p->spec.float32 ? (double)(float)t : t;
        if (t > (double)(T - 1)) return too_far(c, N, t, err);
        if (t < 0)
            RT_RAISE(RT_E_INVALID,
                     "lambda_min_clipped %g leaves %lld timesteps, fewer than %d trailing steps need; take another timestep_spacing",
                     c->lambda_min_clipped, (long long)last, N);
        path->network_times[k] = t;
        path->from[k] = interpolated(s, t);
        if (log_linear) path->from[k] = exp(log(highest) + (double)k / N * (log(lowest) - log(highest)));
    }
    if (log_linear && !respaces(c)) end = 1;
    if (respaces(c)) {
        bool own_ends = s->class->over_alpha && !log_linear; /* log-linear sigmas go down to the table's end */
        double high = s->class->over_alpha ? path->from[0] : highest, low = own_ends ? path->from[N - 1] : lowest;
        if (c->sigma_max > 0) high = c->sigma_max;
        if (c->sigma_min > 0) low = c->sigma_min;
        for (int k = 0; k < N; k++) {
            path->from[k] = respaced(c, high, low, N, k);
            path->network_times[k] = network_time_of(s, path->from[k]);
            if (p->spec.float32_sigma) path->from[k] = (double)(float)path->from[k];
        }
    }
    const bool stands = end > 0 && respaces(c) && starts_with(c->class_name, "UniPC"); /* its last step goes nowhere */
    if (end > 0 && !stands && path->from[N - 1] < lowest * (1 - 1e-6))
        RT_RAISE(RT_E_INVALID, "final_sigmas_type sigma_min ends at sigma %g, above sigma_min %g; take final_sigmas_type zero", lowest,
                 path->from[N - 1]);
    for (int k = 0; k < N; k++) {
        double sigma = path->from[k];
        bool whole = path->network_times[k] == floor(path->network_times[k]) && path->from[k] == table(s, path->network_times[k]);
        path->from[k] = whole ? path->network_times[k] + 1 : rt_process_time(p, -2 * log(path->from[k]));
        if (!(fabs(log(sigma) + rt_process_log_snr(p, path->from[k]) / 2) < 1e-6))
            RT_RAISE(RT_E_INVALID, "sigma_max: step %d begins at sigma %g, outside of the process, whose sigmas are %g to %g", k + 1, sigma,
                     lowest, highest);
    }
    for (int k = 0; k < N; k++) {
        path->to[k] = k + 1 < N ? path->from[k + 1] : stands ? path->from[k] : fmin(end, path->from[k]);
        if (path->order) path->order[k] = order_of(c, N, k);
    }
    return RT_OK;
}
