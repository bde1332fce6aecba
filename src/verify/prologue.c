/* prologue.c -- section 1.1: noising, Tweedie's formula, the two aims. */
#include "verify/density_ratios.h"
#include "verify/witness.h"

#include "base/internal.h"

#include <string.h>

/* int_a^b f dt by Gauss's formula on 4 points, exact up to degree 7. */
static double gauss(const rt_process *p, double (*f)(const rt_process *p, double t), double a, double b)
{
    static const double x[] = {0.33998104358485626, 0.86113631159405258}, w[] = {0.65214515486254614, 0.34785484513745386};
    double sum = 0, middle = (a + b) / 2, half = (b - a) / 2;
    for (int i = 0; i < 2; i++) sum += w[i] * (f(p, middle - half * x[i]) + f(p, middle + half * x[i]));
    return sum * half;
}

static double noise_rate(const rt_process *p, double t) { return rt_process_diffusion2(p, t) / pow(rt_process_alpha(p, t), 2); }

/* What dx = f x dt + g dW makes of x_0: log alpha = int f dt, beta^2/alpha^2 = int g^2/alpha^2 dt. And ddpm's alpha_i^2 is a product. */
static double kernel(rt__witness *w)
{
    double worst = 0;
    for (int i = 0; i < w->n; i++) {
        const rt_process *p = w->processes[i];
        bool discrete = rt_process_discrete_steps(p) > 0; /* then a piece is a timestep: derivatives jump between them */
        double s = rt__level(p, 0), t = rt__level(p, RT__LEVELS - 1), f = 0, g2 = 0;
        if (discrete) s = floor(s), t = ceil(t);
        int pieces = discrete ? (int)(t - s) : 2000;
        for (int j = 0; j < pieces; j++) {
            double a = s + (t - s) * j / pieces, b = s + (t - s) * (j + 1) / pieces;
            f += gauss(p, rt_process_drift, a, b);
            g2 += gauss(p, noise_rate, a, b);
        }
        double ratio_s = rt_process_beta(p, s) / rt_process_alpha(p, s), ratio_t = rt_process_beta(p, t) / rt_process_alpha(p, t);
        worst = rt__worse(worst, fabs(rt_process_alpha(p, t) / rt_process_alpha(p, s) / exp(f) - 1));
        worst = rt__worse(worst, fabs((ratio_t * ratio_t - ratio_s * ratio_s) / g2 - 1));
        if (!strcmp(rt_process_name(p), "ddpm")) {
            long double product = 1;
            for (int k = 0; k < 1000; k++) {
                product *= 1 - (1e-4L + (0.02L - 1e-4L) * k / 999);
                worst = rt__worse(worst, fabs(pow(rt_process_alpha(p, k + 1), 2) / (double)product - 1));
            }
        }
    }
    return worst;
}

/* x0 out of what a prediction row says at x, against E[x0 | x]. */
static double split(rt__witness *w, const char *prediction, double alpha, double beta, double x, double out)
{
    double x0 = NAN;
    const rt_prediction *row = rt_prediction_find(prediction, &w->err);
    if (row) rt_prediction_split(row, 1, &out, &x, alpha, beta, &x0, NULL, &w->err);
    return fabs(x0 - rt__exact_mean(alpha, beta, x));
}

static double tweedie_at(rt__witness *w, const rt_process *p, double t, double x)
{
    double alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t), h = 1e-3 * hypot(alpha, beta), score = 0;
    static const double difference[] = {1 / 12.0, -8 / 12.0, 0, 8 / 12.0, -1 / 12.0};
    for (int i = 0; i < 5; i++) score += difference[i] * log(rt__exact_density(alpha, beta, x + (i - 2) * h)) / h;
    return split(w, "score", alpha, beta, x, score) * alpha / beta; /* x0 amplifies the score's error by beta^2/alpha */
}

static double epsilon_at(rt__witness *w, const rt_process *p, double t, double x)
{
    double alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t);
    return split(w, "epsilon", alpha, beta, x, rt__exact_noise(alpha, beta, x)) * alpha / hypot(alpha, beta);
}

static double tweedie(rt__witness *w) { return rt__everywhere(w, tweedie_at); }
static double from_epsilon(rt__witness *w) { return rt__everywhere(w, epsilon_at); }

/* A student whose one step is the whole flow has the data's distribution: the share of it below G(x) is that of the start's below x, at the quantiles of
 * each component. */
static double same_distribution(rt__witness *w)
{
    enum { N = 256 };
    double worst = 0, grid[N + 1], x[RT__STATES], to[RT__STATES];
    for (int i = 0; i < w->n; i++) {
        const rt_process *p = w->processes[i];
        if (rt_grid_build("log-snr", p, N, grid, &w->err) != RT_OK) return NAN;
        double alpha = rt_process_alpha(p, grid[0]), beta = rt_process_beta(p, grid[0]);
        rt__exact_states(alpha, beta, x);
        memcpy(to, x, sizeof to);
        rt__move(w, "dpmpp-3m", p, N, grid, RT__STATES, to);
        for (int j = 0; j < RT__STATES; j++) worst = rt__worse(worst, fabs(to[j] - rt__exact_flow(alpha, beta, 1, 0, x[j])));
    }
    return worst;
}

const rt__equation rt__prologue[] = {
    {{"1.1", "x_t | x0 ~ N(alpha_t x0, beta_t^2 I), the kernel of dx = f_t x dt + g_t dW", "src/diffusion/process.c", "rt_process_alpha",
      "alpha and beta/alpha as integrals of f and g^2/alpha^2; ddpm: the product of 1 - beta in long double; relative", 1e-12},
     kernel},
    {{"1.2", "E[x0 | x_t = x] = (x + beta_t^2 grad_x log p_t(x))/alpha_t", "src/diffusion/prediction.c", "rt_prediction_split",
      "a mixture's E[x0 | x] by integration, its score by differences of log p_t; in units of beta/alpha", 1e-9},
     tweedie},
    {{"1.3", "x0 = (x - beta_t eps)/alpha_t", "src/diffusion/prediction.c", "rt_prediction_split",
      "a mixture's E[x0 | x] and E[eps | x] by integration; in units of 1/alpha", 1e-13},
     from_epsilon},
    {{"1.4", "p_0^theta = p_data, nearly", "src/diffusion/sample.c", "rt_sample",
      "the whole flow of a mixture in 256 steps, on every process: its quantiles at the noisy end become those of the data, by bisection "
      "of error functions",
      1e-3},
     same_distribution},
    {{"1.5", "min over theta of D(p_0^theta || p_0^teacher)", "src/diffusion/divergence.c", "rt_divergence_weight",
      "a normal student that descends along E [u f''(u) (s - s_teacher)^T dx/dtheta] by integrals, every row: the teacher's mean and "
      "deviation",
      1e-6},
     rt__least_divergence},
    RT__LAST,
};
