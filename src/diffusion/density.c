/* density.c -- how often training draws a time. A row is a distribution function F of t; drawing is reading its inverse at a uniform number. The
 * inverse is tabulated: n times at the quantiles (m + 1/2)/n, found by bisection, so that a row need not know its inverse and a graph draws one
 * whole number below n. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>

#define EDM_P_MEAN   (-1.2) /* Karras et al. 2022: log sigma ~ N(P_mean, P_std^2) */
#define EDM_P_STD    1.2
#define LOGIT_MEAN   0.0 /* Esser et al. 2024: logit t ~ N(m, s^2) */
#define LOGIT_STD    1.0
#define SPREAD       16 /* importance: one draw in so many is uniform, so that no time is left out */
#define SNR_BOUND    20.0
#define PER_TIMESTEP 32 /* entries of the table per timestep: at least one of every time, thanks to SPREAD */

enum { CELLS = 4096 }; /* of a continuous process, each with one density */

typedef struct shape {
    const rt_process *process;
    double end;
    int cells;         /* importance: F at k/cells of the end, straight between */
    const double *sum; /* [cells + 1] */
} shape;

static double normal_below(double z) { return erfc(-z / sqrt(2)) / 2; }
static double log_sigma(const shape *s, double t) { return -rt_process_log_snr(s->process, t) / 2; }

static double uniform(const shape *s, double t) { return t / s->end; }
static double log_normal(const shape *s, double t) { return normal_below((log_sigma(s, t) - EDM_P_MEAN) / EDM_P_STD); }
static double logit_normal(const shape *s, double t) { return normal_below((log(t / (s->end - t)) - LOGIT_MEAN) / LOGIT_STD); }
static double log_snr(const shape *s, double t) { return log_sigma(s, t); }

static double importance(const shape *s, double t)
{
    double u = t / s->end * s->cells;
    int k = (int)fmin(u, s->cells - 1);
    return s->sum[k] + (u - k) * (s->sum[k + 1] - s->sum[k]);
}

struct rt_density {
    const char *name, *source, *formula;
    double (*below)(const shape *s, double t); /* F, rising in t, up to a factor and a constant */
    bool by_noise;                             /* F is a function of log-SNR, within its bounds */
};

static const rt_density rows[] = {
    {"uniform", "lecture 1.1", "t even", uniform, false},
    {"log-normal", "Karras et al. 2022, P_mean -1.2, P_std 1.2", "log(beta/alpha) ~ N(P_mean, P_std^2)", log_normal, true},
    {"logit-normal", "Esser et al. 2024", "log(t/(T - t)) ~ N(0, 1)", logit_normal, false},
    {"log-snr", "Kingma et al. 2021", "log-SNR even", log_snr, true},
    {"importance", "the loss left by the best prediction of unit normal data",
     "proportional to the weight times beta^2/(alpha^2 + beta^2), 1/16 uniform; the loss is divided by it", importance, false},
};

const rt_density *rt_density_find(const char *name, rt_error *err)
{
    int index = RT__FIND("densities", name, rows, err);
    return index < 0 ? NULL : &rows[index];
}

bool rt_density_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i].name, rows[i].source, rows[i].formula};
    return true;
}

const char *rt_density_name(const rt_density *d) { return d->name; }

int rt_density_count(const rt_density *d, const rt_process *p)
{
    int T = rt_process_discrete_steps(p);
    if (!T) return CELLS;
    return d->below == uniform || T > RT_DENSITY_MOST / PER_TIMESTEP ? T : PER_TIMESTEP * T;
}

/* Importance: the mass of each cell. The weight at a cell of a continuous process is that in its middle. */
static rt_status weigh(shape *s, const rt_weight *w, double *sum, rt_error *err)
{
    int T = rt_process_discrete_steps(s->process);
    sum[0] = 0;
    for (int k = 0; k < s->cells; k++) {
        double t = T ? k + 1 : (k + 0.5) / s->cells, alpha = rt_process_alpha(s->process, t), beta = rt_process_beta(s->process, t);
        double mass = (w ? rt_weight_at(w, s->process, t, 0) : 1) * beta * beta / (alpha * alpha + beta * beta);
        if (!(mass >= 0 && isfinite(mass))) RT_RAISE(RT_E_INVALID, "importance: the weight is %g at time %g", mass, t);
        sum[k + 1] = sum[k] + mass;
    }
    double total = sum[s->cells];
    if (!(total > 0)) RT_RAISE(RT_E_INVALID, "importance: the weight is 0 at all times");
    for (int k = 0; k <= s->cells; k++) sum[k] = sum[k] / total * (SPREAD - 1) / SPREAD + (double)k / s->cells / SPREAD;
    return RT_OK;
}

/* The times between which a row lives. On a discrete process one with bounds takes the nearest time, one without the end of the interval. */
static void ends(const rt_density *d, const rt_process *p, double *low, double *high)
{
    *low = d->by_noise ? fmax(rt_process_time(p, SNR_BOUND), p->unit) : 0;
    *high = d->by_noise ? rt_process_time(p, -SNR_BOUND) : p->end;
}

static double quantile(const rt_density *d, const shape *s, double target, double a, double b)
{
    for (double mid = (a + b) / 2; mid > a && mid < b; mid = (a + b) / 2) {
        if (d->below(s, mid) < target)
            a = mid;
        else
            b = mid;
    }
    return b;
}

/* The first whole time from i on whose probability reaches up to the target. */
static int whole_time(const rt_density *d, const shape *s, double target, int i, int T)
{
    while (i < T && d->below(s, d->by_noise ? i + 0.5 : i) < target) i++;
    return i;
}

/* 1/(T p) with the p that the table has: the mean of the loss is then exactly that over all T times. */
static void count(int T, int n, const double *times, double *factor)
{
    for (int m = 0, run; m < n; m += run) {
        for (run = 1; m + run < n && times[m + run] == times[m];) run++;
        for (int i = 0; i < run; i++) factor[m + i] = (double)n / ((double)T * run);
    }
}

rt_status rt_density_times(const rt_density *d, const rt_process *p, const rt_weight *w, int n, double *times, double *factor,
                           rt_error *err)
{
    if (n < 1 || n > RT_DENSITY_MOST) RT_RAISE(RT_E_USAGE, "%d times of a density; must be 1 to %d", n, RT_DENSITY_MOST);
    int T = rt_process_discrete_steps(p), cells = T ? T : CELLS;
    double *sum = malloc((size_t)(cells + 1) * sizeof *sum), low, high;
    if (!sum) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", cells);
    shape s = {p, p->end, cells, sum};
    rt_status status = d->below == importance ? weigh(&s, w, sum, err) : RT_OK;
    if (status != RT_OK) {
        free(sum);
        return status;
    }
    ends(d, p, &low, &high);
    double first = d->below(&s, low), last = d->below(&s, high);
    for (int m = 0; m < n; m++) {
        double target = first + (last - first) * (m + 0.5) / n;
        times[m] = T ? whole_time(d, &s, target, m ? (int)times[m - 1] : 1, T) : quantile(d, &s, target, low, high);
        int k = (int)fmin(times[m] / s.end * cells, cells - 1);
        factor[m] = d->below == importance ? 1 / (cells * (sum[k + 1] - sum[k])) : 1;
    }
    if (T && d->below == importance) count(T, n, times, factor);
    free(sum);
    return RT_OK;
}
