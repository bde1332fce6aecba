/* stochastic_solvers.c -- solvers that add noise, on a Gaussian, where every step is linear in the state and the noise: one run with unit probes gives
 * all gains, their squares the variance that the solver makes, and that is compared with the true one. No sample is drawn. */
#include "diffusion_check.h"

enum { MOST = 512 };

static const double mu = 0.3, deviation = 0.6;

/* Row 0: nothing; row 1: a unit state; row 2 + k: unit noise in step k. */
static rt_status probe(void *self, int k, int64_t n, double *z, rt_error *err)
{
    (void)self, (void)err;
    for (int64_t j = 0; j < n; j++) z[j] = j == k + 2;
    return RT_OK;
}

typedef struct moments {
    double mean, variance;
} moments;

static moments true_moments(const rt_process *p, double t)
{
    double alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t);
    return (moments){alpha * mu, alpha * alpha * deviation * deviation + beta * beta};
}

/* What `steps` steps even in time from s to t make of the true marginal at s. */
static moments made(const rt_process *p, const char *solver, double eta, int steps, double s, double t)
{
    rt_oracle *o = NULL;
    const double covariance = deviation * deviation;
    CHECK_OK(rt_oracle_gaussian(&o, 1, &mu, &covariance, p, rt_prediction_find("v", NULL), &err));
    rt_field field = rt_oracle_field(o);
    double times[MOST + 1], x[MOST + 2] = {0};
    moments begin = true_moments(p, s), end = {0};
    x[1] = 1;
    for (int k = 0; k <= steps; k++) times[k] = s + (t - s) * k / steps;
    rt_sample_spec spec = {.process = p,
                           .solver = rt_solver_find(solver, NULL),
                           .steps = steps,
                           .from = times,
                           .options = {.eta = eta, .churn = 4},
                           .noise = probe};
    CHECK_OK(rt_sample(&spec, &field, steps + 2, x, NULL, &err));
    end.mean = x[0] + (x[1] - x[0]) * begin.mean;
    for (int j = 1; j < steps + 2; j++) end.variance += (x[j] - x[0]) * (x[j] - x[0]) * (j == 1 ? begin.variance : 1);
    rt_oracle_free(o);
    return end;
}

/* Mean and variance converge to the true ones with the order that the row claims. */
static void orders_are_as_claimed(void **state)
{
    (void)state;
    rt_row_text row;
    int met = 0;
    for (int r = 0; rt_solver_describe(r, &row); r++) {
        const rt_solver_info *info = rt_solver_get_info(rt_solver_find(row.name, NULL));
        if (!info->stochastic && !info->eta) continue;
        double least = INFINITY;
        for (int i = 4; i < 8; i++) { /* vp-linear, vp-cosine, flow, flow with shift */
            rt_process *p = some_process(i);
            double s = 0.9, t = 0.2, error[2];
            for (int k = 0; k < 2; k++) {
                moments got = made(p, row.name, info->eta ? 0.6 : 0, MOST / 2 << k, s, t), want = true_moments(p, t);
                error[k] = fabs(got.mean - want.mean) + fabs(got.variance - want.variance);
            }
            least = fmin(least, log2(error[0] / error[1]));
            rt_process_free(p);
        }
        print_message("           %-16s %.3f\n", row.name, least);
        CHECK_NEAR(least, info->order, TOL_ORDER, "weak order of %s", row.name);
        met++;
    }
    assert_true(met >= 8);
}

/* DDPM, Euler ancestral, DDIM with eta 1 and the SDE to first order are one map, and Euler-Maruyama's where g is infinite. */
static void one_ancestral_step(void **state)
{
    (void)state;
    for (int i = 4; i < 10; i++) {
        rt_process *p = some_process(i);
        double end = rt_process_end(p);
        moments ddpm = made(p, "ddpm", 0, 1, end, 0.3);
        bool blind = rt_process_alpha(p, end) == 0;
        static const char *const same[] = {"euler-ancestral", "ddim", "sde-dpmpp-2m", "euler-maruyama"};
        for (int k = 0; k < 3 + blind; k++) {
            moments other = made(p, same[k], k == 1, 1, end, 0.3);
            CHECK_NEAR(other.mean, ddpm.mean, TOL_MAP, "%s on %s", same[k], rt_process_name(p));
            CHECK_NEAR(other.variance, ddpm.variance, TOL_MAP, "%s on %s", same[k], rt_process_name(p));
        }
        moments large = made(p, "ddpm-large", 0, 1, end, 0.3);
        double gain = (1 - exp(rt_process_log_snr(p, end) - rt_process_log_snr(p, 0.3))) *
                      (pow(rt_process_beta(p, end), 2) - pow(rt_process_beta(p, 0.3), 2));
        CHECK_NEAR(large.variance - ddpm.variance, gain, TOL_MAP, "ddpm-large on %s", rt_process_name(p));
        rt_process_free(p);
    }
}

/* The posterior of DDPM by Bayes' rule: q(x_t | x_s, x0) from the kernels (1.1) s and t. */
static void ddpm_is_bayes(void **state)
{
    (void)state;
    for (int i = 4; i < 10; i++) {
        rt_process *p = some_process(i);
        double s = 0.8, t = 0.35, as = rt_process_alpha(p, s), bs = rt_process_beta(p, s), at = rt_process_alpha(p, t),
               bt = rt_process_beta(p, t);
        double ratio = as / at, kernel = bs * bs - ratio * ratio * bt * bt; /* x_s given x_t: N(ratio x_t, kernel) */
        double variance = 1 / (1 / (bt * bt) + ratio * ratio / kernel), A = variance * ratio / kernel, C = variance * at / (bt * bt);
        const double covariance = deviation * deviation;
        rt_oracle *o = NULL;
        CHECK_OK(rt_oracle_gaussian(&o, 1, &mu, &covariance, p, rt_prediction_find("x0", NULL), &err));
        rt_field field = rt_oracle_field(o);
        double x[3] = {0.7, -0.4, 0.7}, begin[3] = {0.7, -0.4, 0.7}, x0[3];
        rt_sample_spec spec = {.process = p, .solver = rt_solver_find("ddpm", NULL), .steps = 1, .from = (double[]){s, t}, .noise = probe};
        CHECK_OK(rt_oracle_posterior_mean(o, as, bs, 3, begin, x0, &err));
        CHECK_OK(rt_sample(&spec, &field, 3, x, NULL, &err));
        for (int j = 0; j < 2; j++) CHECK_NEAR(x[j], A * begin[j] + C * x0[j], TOL_MAP, "mean on %s", rt_process_name(p));
        CHECK_NEAR(x[2] - x[0], sqrt(variance), TOL_MAP, "deviation on %s", rt_process_name(p));
        rt_oracle_free(o);
        rt_process_free(p);
    }
}

static void refusals(void **state)
{
    (void)state;
    rt_process *p = named_process("flow");
    rt_oracle *o = NULL;
    const double covariance = 1;
    CHECK_OK(rt_oracle_gaussian(&o, 1, &mu, &covariance, p, rt_prediction_find("velocity", NULL), &err));
    rt_field field = rt_oracle_field(o);
    double x = 1;
    rt_sample_spec spec = {.process = p, .solver = rt_solver_find("ddpm", NULL), .steps = 1, .from = (double[]){0.9, 0.5}};
    CHECK_REFUSED(rt_sample(&spec, &field, 1, &x, NULL, &err), RT_E_USAGE, "ddpm draws noise, but none is given");
    spec.options.eta = 0.5, spec.noise = probe;
    CHECK_REFUSED(rt_sample(&spec, &field, 1, &x, NULL, &err), RT_E_USAGE, "the solver ddpm has no eta; ddim has");
    spec.options.eta = 1.5, spec.solver = rt_solver_find("ddim", NULL);
    CHECK_REFUSED(rt_sample(&spec, &field, 1, &x, NULL, &err), RT_E_USAGE, "eta is 1.5; must be 0");
    spec.options.eta = 0, spec.options.tolerance = 2;
    CHECK_REFUSED(rt_sample(&spec, &field, 1, &x, NULL, &err), RT_E_USAGE, "tolerance is 2; must be 1e-13 to 1");
    rt_oracle_free(o);
    rt_process_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_are_as_claimed),
        cmocka_unit_test(one_ancestral_step),
        cmocka_unit_test(ddpm_is_bayes),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
