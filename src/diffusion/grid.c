/* grid.c -- where a sampler stops on its way from noise to data. A row is a formula for time k of N, in units of the process; on a discrete process
 * it is rounded and kept strictly falling. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>

#define KARRAS_RHO    7.0
#define BETA_SHAPE    0.6  /* Lee et al. 2024; diffusers: both parameters of the distribution */
#define LOG_SNR_BOUND 20.0 /* beyond it a process is treated as ended: squaredcos_cap_v2 begins at -19.8, zero-SNR schedules at -infinity */

/* The range of times: noisiest and least noisy that a network knows. `unit` is one timestep. */
typedef struct span {
    const rt_process *process;
    double end, unit;
} span;

static double uniform(const span *s, int N, int k) { return s->end * (N - k) / N; }
static double leading(const span *s, int N, int k) { return s->unit * (floor(s->end / s->unit / N) * (N - 1 - k) + 1); }
static double linspace(const span *s, int N, int k) { return k == 0 ? s->end : s->unit + (s->end - s->unit) * (N - 1 - k) / (N - 1); }

static double quadratic(const span *s, int N, int k)
{
    double u = (double)(N - k) / N;
    return s->end * u * u;
}

static double log_snr_between(const span *s, double *low)
{
    *low = fmax(rt_process_log_snr(s->process, s->end), -LOG_SNR_BOUND);
    return fmin(rt_process_log_snr(s->process, s->unit), LOG_SNR_BOUND);
}

static double log_snr(const span *s, int N, int k)
{
    double low, high = log_snr_between(s, &low);
    return k == 0 ? s->end : rt_process_time(s->process, low + (high - low) * k / (N - 1));
}

static double karras(const span *s, int N, int k)
{
    double low, high = log_snr_between(s, &low);
    double first = exp(-low / 2 / KARRAS_RHO), last = exp(-high / 2 / KARRAS_RHO); /* sigma^(1/rho), sigma = beta/alpha = exp(-log-SNR/2) */
    return k == 0 ? s->end : rt_process_time(s->process, -2 * KARRAS_RHO * log(first + (last - first) * k / (N - 1)));
}

static double beta(const span *s, int N, int k)
{
    return k == 0 ? s->end : s->unit + (s->end - s->unit) * rt__beta_quantile((double)(N - 1 - k) / (N - 1), BETA_SHAPE, BETA_SHAPE);
}

/* Rounding on a discrete process. numpy rounds ties to even, trailing spacing the time, linspace the timestep before it. */
static double half_up(double t) { return floor(t + 0.5); }
static double even_time(double t) { return rint(t); }
static double even_timestep(double t) { return rint(t - 1) + 1; }

static const struct grid {
    const char *name, *source, *formula;
    double (*at)(const span *s, int N, int k);
    double (*whole)(double t);
} rows[] = {
    {"uniform", "lecture 1.4.2", "T (N - k)/N", uniform, half_up},
    {"trailing", "diffusers; Lin et al. 2024", "T (N - k)/N", uniform, even_time},
    {"leading", "diffusers", "(N - 1 - k) floor(T/N) + 1", leading, half_up},
    {"linspace", "diffusers", "1 + (T - 1)(N - 1 - k)/(N - 1)", linspace, even_timestep},
    {"quadratic", "Song et al. 2021 (DDIM), from T", "T ((N - k)/N)^2", quadratic, half_up},
    {"karras", "Karras et al. 2022, rho 7", "(beta/alpha)^(1/rho) evenly spaced", karras, half_up},
    {"exponential", "k-diffusion; diffusers' use_exponential_sigmas", "log(beta/alpha) evenly spaced: log-snr by its other name", log_snr,
     half_up},
    {"log-snr", "Lu et al. 2022", "log-SNR evenly spaced", log_snr, half_up},
    {"beta", "Lee et al. 2024; diffusers' use_beta_sigmas on flow matching",
     "1 + (T - 1) times quantile (N - 1 - k)/(N - 1) of Beta(0.6, 0.6)", beta, half_up},
    {"search", "dynamic programming, as Watson et al. 2021",
     "the least error of the solver on this model, searched once and kept beside it", NULL, NULL},
};

bool rt_grid_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i].name, rows[i].source, rows[i].formula};
    return true;
}

static rt_status check_steps(const rt_process *p, int steps, rt_error *err)
{
    if (steps < 1) RT_RAISE(RT_E_USAGE, "%d steps; at least 1 is needed", steps);
    int T = rt_process_discrete_steps(p);
    if (T && steps > T) RT_RAISE(RT_E_USAGE, "%d steps on a process of %d timesteps; take at most %d", steps, T, T);
    return RT_OK;
}

rt_status rt_grid_build(const char *name, const rt_process *p, int steps, double *times, rt_error *err)
{
    int index = RT__FIND("grids", name, rows, err);
    if (index < 0) return RT_E_USAGE;
    RT_TRY(check_steps(p, steps, err));
    if (!rows[index].at) RT_RAISE(RT_E_USAGE, "the grid %s is made for a model; here there is none", name);
    int T = rt_process_discrete_steps(p);
    span s = {p, p->end, p->unit};
    times[steps] = 0;
    for (int k = steps - 1; k >= 0; k--) {
        double t = rows[index].at(&s, steps, k);
        if (T) {
            t = fmin(fmax(rows[index].whole(t), times[k + 1] + 1), T - k); /* room for the k noisier ones */
        }
        times[k] = t;
    }
    return rt_grid_check(p, steps, times, err);
}

rt_status rt_grid_check(const rt_process *p, int steps, const double *times, rt_error *err)
{
    if (steps < 1) RT_RAISE(RT_E_USAGE, "%d steps; at least 1 is needed", steps);
    for (int k = 0; k < steps; k++) RT_TRY(rt_process_check_step(p, times[k], times[k + 1], err));
    if (times[steps] != 0) RT_RAISE(RT_E_USAGE, "the grid ends at time %g; the last time must be 0", times[steps]);
    return RT_OK;
}

rt_status rt_grid_nested(const rt_process *p, const int *steps, int n, double *times, rt_error *err)
{
    if (n < 1) RT_RAISE(RT_E_USAGE, "no numbers of steps for nested grids; give at least one");
    for (int r = 0; r < n; r++) {
        RT_TRY(check_steps(p, steps[r], err));
        if (r && (steps[r] >= steps[r - 1] || steps[r - 1] % steps[r]))
            RT_RAISE(RT_E_USAGE, "steps %d after %d; each number must be smaller than the one before and divide it", steps[r],
                     steps[r - 1]);
    }
    bool whole = rt_process_discrete_steps(p) > 0;
    int finest = steps[0], N = steps[n - 1];
    double end = rt_process_end(p);
    /* the points of all levels stay at their places in the finest grid: point k of N is times[k finest/N] */
    for (int k = 0; k <= N; k++) {
        double t = end * (N - k) / N;
        times[k * (finest / N)] = whole ? half_up(t) : t;
    }
    for (int r = n - 1; r > 0; r--) {
        for (int ratio = steps[r - 1] / N; ratio > 1; ratio = steps[r - 1] / N) {
            int q = ratio % 2 ? ratio : 2, far = finest / N, near = far / q;
            for (int k = 0; k < N; k++) {
                double a = times[k * far], b = times[(k + 1) * far];
                for (int j = 1; j < q; j++) {
                    double t = b + (a - b) * (q - j) / q;
                    times[k * far + j * near] = whole ? half_up(t) : t;
                }
            }
            N *= q;
        }
    }
    return rt_grid_check(p, finest, times, err);
}
