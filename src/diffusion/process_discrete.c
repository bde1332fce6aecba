/* process_discrete.c -- ddpm: T noising steps x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) eps, with the schedules of beta that diffusers names.
 *
 * Two tables: ours is a product in double; the other repeats diffusers' arithmetic (float32 betas and 1 - beta, their product in double, rounded to
 * float32), to follow its pictures. The two differ by up to 6e-7. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Evenly spaced from a to b, point i of n; in float32 from the nearer end, as torch.linspace. */
static double spaced(double a, double b, int64_t i, int64_t n, bool f32)
{
    if (n == 1) return f32 ? (float)a : a;
    if (!f32) return a + (b - a) * (double)i / (double)(n - 1);
    float first = (float)a, last = (float)b, step = (last - first) / (float)(n - 1);
    return i < n / 2 ? fmaf(step, (float)i, first) : fmaf(-step, (float)(n - 1 - i), last);
}

static double rounded(double v, bool f32) { return f32 ? (float)v : v; }

static double linear_beta(const rt_process_spec *s, int64_t i) { return spaced(s->beta_start, s->beta_end, i, s->timesteps, s->float32); }

static double scaled_linear_beta(const rt_process_spec *s, int64_t i)
{
    double root = spaced(sqrt(s->beta_start), sqrt(s->beta_end), i, s->timesteps, s->float32);
    return rounded(root * root, s->float32);
}

static double cosine_bar(double u)
{
    double c = cos((u + 0.008) / 1.008 * M_PI / 2);
    return c * c;
}

static double squaredcos_beta(const rt_process_spec *s, int64_t i)
{
    double T = (double)s->timesteps;
    return rounded(fmin(1 - cosine_bar((double)(i + 1) / T) / cosine_bar((double)i / T), 0.999), s->float32);
}

/* diffusers' "laplace", in its arithmetic. */
static double laplace_bar(double u)
{
    double lambda = -0.5 * copysign(1, 0.5 - u) * log(1 - 2 * fabs(0.5 - u) + 1e-6), snr = exp(lambda);
    return sqrt(snr / (1 + snr));
}

static double laplace_beta(const rt_process_spec *s, int64_t i)
{
    double T = (double)s->timesteps;
    return rounded(fmin(1 - laplace_bar((double)(i + 1) / T) / laplace_bar((double)i / T), 0.999), s->float32);
}

static double exp_beta(const rt_process_spec *s, int64_t i)
{
    (void)i;
    return rounded(fmin(-expm1(-12 / (double)s->timesteps), 0.999), s->float32);
}

static double sigmoid_beta(const rt_process_spec *s, int64_t i)
{
    double u = spaced(-6, 6, i, s->timesteps, s->float32), e = rounded(exp(-u), s->float32);
    double sigmoid = rounded(1 / rounded(1 + e, s->float32), s->float32);
    double width = rounded(s->beta_end - s->beta_start, s->float32);
    return rounded(rounded(sigmoid * width, s->float32) + rounded(s->beta_start, s->float32), s->float32);
}

static double trained_beta(const rt_process_spec *s, int64_t i) { return rounded(s->trained_betas[i], s->float32); }

static const struct schedule {
    const char *name;
    double (*beta)(const rt_process_spec *s, int64_t i);
    bool uses_ends;
} schedules[] = {
    {"linear", linear_beta, true},
    {"scaled_linear", scaled_linear_beta, true},
    {"squaredcos_cap_v2", squaredcos_beta, false},
    {"sigmoid", sigmoid_beta, true},
    {"laplace", laplace_beta, false},
    {"exp", exp_beta, false},
};
static const struct schedule trained = {"trained_betas", trained_beta, false};

/* bar[i] = product of (1 - beta) up to i. */
static void accumulate(int64_t T, const double *beta, bool f32, double *bar)
{
    double product = 1;
    for (int64_t i = 0; i < T; i++) {
        product *= rounded(1 - beta[i], f32);
        bar[i] = rounded(product, f32);
    }
}

/* Lin et al. 2024, Algorithm 1: shift and scale sqrt(bar) so that the first stays and the last is 0; by way of the betas, as the float32 table
 * has to be rounded where diffusers rounds. */
static void rescale_zero_snr(int64_t T, double *beta, bool f32, double *bar)
{
    double first = rounded(sqrt(bar[0]), f32), last = rounded(sqrt(bar[T - 1]), f32), before = 1;
    double factor = rounded(first / rounded(first - last, f32), f32);
    for (int64_t i = 0; i < T; i++) {
        double root = rounded(rounded(rounded(sqrt(bar[i]), f32) - last, f32) * factor, f32);
        double now = rounded(root * root, f32);
        beta[i] = rounded(1 - (i ? rounded(now / before, f32) : now), f32);
        before = now;
    }
    accumulate(T, beta, f32, bar);
}

rt_status rt__betas(const rt_process_spec *s, double *beta, rt_error *err)
{
    const struct schedule *schedule = &trained;
    if (!s->trained_betas) {
        const char *names[RT_COUNT(schedules)];
        size_t i = 0;
        for (size_t k = 0; k < RT_COUNT(schedules); k++) names[k] = schedules[k].name;
        while (i < RT_COUNT(schedules) && strcmp(s->betas, names[i])) i++;
        if (i == RT_COUNT(schedules)) {
            const char *guess = rt__closest(s->betas, names, RT_COUNT(schedules));
            if (guess) RT_RAISE(RT_E_USAGE, "beta_schedule is '%s'; did you mean '%s'?", s->betas, guess);
            RT_RAISE(RT_E_USAGE, "beta_schedule is '%s'; must be linear, scaled_linear, squaredcos_cap_v2, sigmoid, laplace or exp",
                     s->betas);
        }
        schedule = &schedules[i];
    }
    if (schedule->uses_ends && !(s->beta_start > 0 && s->beta_start < 1 && s->beta_end > 0 && s->beta_end < 1))
        RT_RAISE(RT_E_INVALID, "beta_start %g, beta_end %g; both must lie between 0 and 1", s->beta_start, s->beta_end);
    for (int64_t i = 0; i < s->timesteps; i++) {
        beta[i] = schedule->beta(s, i);
        if (!(beta[i] > 0 && beta[i] < 1) && !(beta[i] == 1 && i == s->timesteps - 1))
            RT_RAISE(RT_E_INVALID, "%s: beta of timestep %lld is %g; must lie between 0 and 1", schedule->name, (long long)i, beta[i]);
    }
    return RT_OK;
}

static rt_status discrete_prepare(rt_process *p, rt_error *err)
{
    const rt_process_spec *s = &p->spec;
    int64_t T = s->timesteps;
    if (s->zero_snr && T < 2) RT_RAISE(RT_E_INVALID, "rescaling to zero SNR needs at least 2 timesteps, not %lld", (long long)T);
    p->alpha = malloc((size_t)(3 * (T + 1)) * sizeof *p->alpha);
    if (!p->alpha) RT_RAISE(RT_E_MEMORY, "out of memory for %lld timesteps", (long long)T);
    p->beta = p->alpha + T + 1;
    p->angle = p->beta + T + 1;

    double *beta = p->beta + 1, *bar = p->angle + 1;
    RT_TRY(rt__betas(s, beta, err));
    accumulate(T, beta, s->float32, bar);
    if (s->zero_snr) rescale_zero_snr(T, beta, s->float32, bar);
    if (s->zero_snr && s->zero_snr_floor > 0) bar[T - 1] = s->zero_snr_floor;

    p->alpha[0] = 1;
    p->beta[0] = p->angle[0] = 0;
    for (int64_t i = 1; i <= T; i++) {
        double square = p->angle[i];
        p->alpha[i] = sqrt(square);
        p->beta[i] = sqrt(1 - square);
        if (s->float32_sigma) {
            double sigma = (double)sqrtf((1 - (float)square) / (float)square);
            p->alpha[i] = 1 / sqrt(1 + sigma * sigma);
            p->beta[i] = sigma * p->alpha[i];
        }
        p->angle[i] = atan2(p->beta[i], p->alpha[i]);
        /* the floor may lie above the few timesteps before it; sigmas are looked up among those */
        if (i == T && s->zero_snr && s->zero_snr_floor > 0) p->angle[i] = fmax(p->angle[i], nextafter(p->angle[i - 1], 2));
        if (!(p->angle[i] > p->angle[i - 1]))
            RT_RAISE(RT_E_INVALID, "timestep %lld adds no noise (alphas_cumprod %.9g); use larger betas or fewer timesteps",
                     (long long)(i - 1), square);
    }
    return RT_OK;
}

/* Between whole times the angle turns evenly; interval j is (j, j + 1]. */
static rt__point discrete_at(const rt_process *p, double t)
{
    int64_t j = (int64_t)ceil(t) - 1;
    if (j < 0) j = 0;
    double rate = p->angle[j + 1] - p->angle[j], alpha, beta;
    if (t == (double)(int64_t)t) {
        alpha = p->alpha[(int64_t)t];
        beta = p->beta[(int64_t)t];
    } else {
        double angle = p->angle[j] + (t - (double)j) * rate;
        alpha = cos(angle);
        beta = sin(angle);
    }
    return (rt__point){alpha, beta, -rate * beta, rate * alpha};
}

static double discrete_time(const rt_process *p, double lambda)
{
    double angle = atan(exp(-lambda / 2));
    int64_t low = 0, high = p->spec.timesteps; /* angle[low] <= angle < angle[high] */
    while (high - low > 1) {
        int64_t mid = low + (high - low) / 2;
        if (p->angle[mid] <= angle)
            low = mid;
        else
            high = mid;
    }
    return (double)low + (angle - p->angle[low]) / (p->angle[high] - p->angle[low]);
}

static double discrete_network_time(const rt_process *p, double t)
{
    (void)p;
    return t - 1;
}

static double discrete_from_network_time(const rt_process *p, double network_time)
{
    (void)p;
    return network_time + 1;
}

const rt__process_row rt__process_ddpm = {
    .name = "ddpm",
    .source = "Ho et al. 2020; schedules as in diffusers",
    .formula = "alpha_i^2 = product of (1 - beta_j), j <= i, alpha^2 + beta^2 = 1, i = 0..T",
    .discrete = true,
    .prepare = discrete_prepare,
    .at = discrete_at,
    .time = discrete_time,
    .network_time = discrete_network_time,
    .from_network_time = discrete_from_network_time,
};
