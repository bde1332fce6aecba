/* process_test.c -- every process: time conventions, the identities that tie alpha, beta, f and g, inverses, schedules, refusals. */
#include "diffusion_check.h"

/* Five-point derivative of F(p, t). */
static double slope(double (*F)(const rt_process *, double), const rt_process *p, double t, double h)
{
    return (F(p, t - 2 * h) - 8 * F(p, t - h) + 8 * F(p, t + h) - F(p, t + 2 * h)) / (12 * h);
}

static double beta2(const rt_process *p, double t) { return rt_process_beta(p, t) * rt_process_beta(p, t); }

static void near_relative(double got, double want, double scale, const char *what, const rt_process *p, double t)
{
    CHECK_NEAR(got, want, TOL_IDENTITY * (fabs(want) + fabs(scale)), "%s of %s at %g", what, rt_process_name(p), t);
}

static void identities_hold(void **state)
{
    (void)state;
    rt_process *p;
    for (int i = 0; (p = some_process(i)); i++) {
        double end = rt_process_end(p);
        bool discrete = rt_process_discrete_steps(p) > 0;
        for (int k = 1; k < 40; k++) {
            /* inside an interval of a discrete process: its derivative jumps at whole times */
            double t = discrete ? floor(end * k / 40) + 0.37 : end * k / 40, h = discrete ? 2e-2 : 4e-4;
            double alpha = rt_process_alpha(p, t), f = rt_process_drift(p, t), g2 = rt_process_diffusion2(p, t);
            double da = slope(rt_process_alpha, p, t, h), db2 = slope(beta2, p, t, h);
            if (!discrete && k <= 2) { /* shorter steps where beta begins */
                da = slope(rt_process_alpha, p, t, h / 10);
                db2 = slope(beta2, p, t, h / 10);
            }
            near_relative(f * alpha, da, 0, "f alpha", p, t);
            near_relative(2 * f * beta2(p, t) + g2, db2, 2 * f * beta2(p, t), "2 f beta^2 + g^2", p, t);
            near_relative(rt_process_alpha_rate(p, t), da, 0, "d alpha/dt", p, t);
            near_relative(2 * rt_process_beta(p, t) * rt_process_beta_rate(p, t), db2, 0, "d beta^2/dt", p, t);
            assert_true(g2 > 0);
            assert_true(rt_process_log_snr(p, t) < rt_process_log_snr(p, t - 0.3 * (discrete ? 1 : 1.0 / 40)));
        }
        rt_process_free(p);
    }
}

static void time_zero_is_data(void **state)
{
    (void)state;
    rt_process *p;
    for (int i = 0; (p = some_process(i)); i++) {
        double end = rt_process_end(p), lambda = rt_process_log_snr(p, 0);
        assert_true(rt_process_alpha(p, 0) == 1 && rt_process_beta(p, 0) == 0 && isinf(lambda) && lambda > 0);
        bool grows = !strcmp(rt_process_name(p), "ve") || !strcmp(rt_process_name(p), "edm");
        assert_true(rt_process_beta(p, end) > 0.99 && rt_process_noise_scale(p) == (grows ? rt_process_beta(p, end) : 1));
        assert_true(isnan(rt_process_alpha(p, -1e-9)) && isnan(rt_process_beta(p, end * 1.001)) && isnan(rt_process_alpha(p, NAN)));
        rt_process_free(p);
    }
}

/* (1.1)-(1.3) on data N(mu, sigma^2), whose marginals N(m, v), scores and posterior means are formulas of alpha and beta. */
static void forward_process(void **state)
{
    (void)state;
    static const char *const predictions[] = {"x0", "epsilon", "v", "score", "velocity"};
    static const double nodes[5] = {-0.9061798459386640, -0.5384693101056831, 0, 0.5384693101056831, 0.9061798459386640},
                        weights[5] = {0.2369268850561891, 0.4786286704993665, 0.5688888888888889, 0.4786286704993665, 0.2369268850561891};
    const double mu = 0.7, sigma = 0.6, variance = sigma * sigma;
    rt_process *p;
    for (int i = 0; (p = some_process(i)); i++) {
        int T = rt_process_discrete_steps(p), cells = T ? T : 400;
        double unit = rt_process_end(p) / cells;
        /* the SDE with f and g from one time to another: log alpha grows by the integral of f, (beta/alpha)^2 by that of g^2/alpha^2 */
        double f = 0, g2 = 0, begin = floor(cells * 0.1) * unit;
        for (int k = (int)(cells * 0.1); k < (int)(cells * 0.95); k++) {
            for (int j = 0; j < 5; j++) {
                double t = (k + (1 + nodes[j]) / 2) * unit, w = weights[j] * unit / 2, alpha = rt_process_alpha(p, t);
                f += w * rt_process_drift(p, t);
                g2 += w * rt_process_diffusion2(p, t) / (alpha * alpha);
            }
            double t = (k + 1) * unit, alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t);
            double first = rt_process_alpha(p, begin), ratio = rt_process_beta(p, begin) / first, noise = g2 + ratio * ratio;
            CHECK_NEAR(f, log(alpha / first), TOL_KERNEL, "%s, log alpha at %g", rt_process_name(p), t);
            CHECK_NEAR(noise, beta * beta / (alpha * alpha), TOL_KERNEL * noise, "%s, noise at %g", rt_process_name(p), t);
        }
        for (int k = 1; k < 20; k++) {
            double t = rt_process_end(p) * k / 20, alpha, beta;
            if (T) t = fmax(1, floor(t));
            alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t);
            double m = alpha * mu, v = alpha * alpha * variance + beta * beta, x = m + 1.3 * sqrt(v), out;
            double score = -(x - m) / v, x0 = mu + alpha * variance / v * (x - m), eps = -beta * score;
            CHECK_NEAR((x + beta * beta * score) / alpha, x0, TOL_TWEEDIE * (1 + fabs(x)) / alpha, "(1.2) at %g", t);
            CHECK_NEAR((x - beta * eps) / alpha, x0, TOL_TWEEDIE * (1 + fabs(x)) / alpha, "(1.3) at %g", t);
            const double want[] = {x0, eps, alpha * eps - beta * x0, score, eps - x0};
            for (int r = 0; r < 5; r++) {
                rt_oracle *o = NULL;
                CHECK_OK(rt_oracle_gaussian(&o, 1, &mu, &variance, p, rt_prediction_find(predictions[r], NULL), &err));
                rt_field field = rt_oracle_field(o);
                CHECK_OK(field.eval(field.self, &(rt_field_call){.t = t, .network_time = rt_process_network_time(p, t)}, 1, &x, NULL, &out,
                                    &err));
                double scale = r == 3 ? 1 / beta : 1 + beta;
                CHECK_NEAR(out, want[r], TOL_TWEEDIE * scale, "%s: %s at %g", rt_process_name(p), predictions[r], t);
                CHECK_OK(rt_prediction_split(field.prediction, 1, &out, &x, alpha, beta, &out, NULL, &err));
                CHECK_NEAR(out, x0, TOL_TWEEDIE * (1 + fabs(x)) / alpha, "%s: x0 from %s at %g", rt_process_name(p), predictions[r], t);
                rt_oracle_free(o);
            }
        }
        rt_process_free(p);
    }
}

static void log_snr_has_an_inverse(void **state)
{
    (void)state;
    rt_process *p;
    for (int i = 0; (p = some_process(i)); i++) {
        double end = rt_process_end(p);
        for (int k = 1; k < 500; k++) {
            double t = end * k / 500;
            if (rt_process_log_snr(p, t) < -30) continue; /* cosines of angles that are pi/2 in double */
            CHECK_NEAR(rt_process_time(p, rt_process_log_snr(p, t)), t, TOL_INVERSE_TIME * end, "%s", rt_process_name(p));
        }
        assert_true(rt_process_time(p, INFINITY) == 0 && rt_process_time(p, -INFINITY) == end && isnan(rt_process_time(p, NAN)));
        rt_process_free(p);
    }
}

/* alpha and beta by other routes: Simpson's rule on the rate of the SDE, the log-SNR of the papers, the shifted ratio. */
static void closed_forms(void **state)
{
    (void)state;
    rt_process_spec spec = rt_process_defaults("vp-cosine");
    rt_process *linear = named_process("vp-linear"), *cosine = make_process(&spec), *wide, *flow;
    spec.log_snr_max = 12, spec.log_snr_min = -9;
    wide = make_process(&spec);
    spec = rt_process_defaults("flow");
    spec.shift = 3;
    flow = make_process(&spec);
    for (int k = 1; k <= 64; k++) {
        double t = k / 64.0;
        double integral = t / 6 * (0.1 + 4 * (0.1 + 19.9 * t / 2) + 0.1 + 19.9 * t);
        CHECK_NEAR(rt_process_alpha(linear, t), exp(-integral / 2), TOL_CLOSED_FORM, "vp-linear alpha at %g", t);
        CHECK_NEAR(beta2(linear, t), 1 - exp(-integral), TOL_CLOSED_FORM, "vp-linear beta^2 at %g", t);

        /* Salimans & Ho: logsnr_schedule_cosine */
        double b = atan(exp(-0.5 * 20)), a = atan(exp(0.5 * 20)) - b, lambda = -2 * log(tan(a * t + b));
        CHECK_NEAR(beta2(cosine, t), 1 / (1 + exp(lambda)), TOL_CLOSED_FORM, "vp-cosine beta^2 at %g", t);
        CHECK_NEAR(rt_process_alpha(cosine, t), sqrt(1 / (1 + exp(-lambda))), TOL_CLOSED_FORM, "vp-cosine alpha at %g", t);
        assert_true(rt_process_log_snr(cosine, t) >= -20 - 1e-6 && rt_process_log_snr(cosine, t) < 20);

        double ratio = rt_process_beta(flow, t) / rt_process_alpha(flow, t);
        if (k < 64) CHECK_NEAR(ratio, 3 * t / (1 - t), TOL_CLOSED_FORM * ratio, "flow, shift 3, at %g", t);
        CHECK_NEAR(rt_process_beta(flow, t) + rt_process_alpha(flow, t), 1, TOL_CLOSED_FORM, "flow at %g", t);
    }
    rt_process *sub = named_process("sub-vp"), *trig = named_process("trig");
    for (int k = 1; k < 64; k++) { /* Song et al.: the variance of sub-VP is that of VP squared; TrigFlow: the ratio is the tangent */
        double t = k / 64.0, ratio = tan(M_PI / 2 * t);
        CHECK_NEAR(rt_process_beta(sub, t), beta2(linear, t), TOL_CLOSED_FORM, "sub-vp beta at %g", t);
        CHECK_NEAR(rt_process_alpha(sub, t), rt_process_alpha(linear, t), TOL_CLOSED_FORM, "sub-vp alpha at %g", t);
        CHECK_NEAR(rt_process_beta(trig, t) / rt_process_alpha(trig, t), ratio, 4 * TOL_CLOSED_FORM * (1 + ratio * ratio), "trig at %g", t);
    }
    assert_true(rt_process_alpha(trig, 1) == 0 && rt_process_beta(trig, 1) == 1);
    rt_process *ve = named_process("ve"), *edm = named_process("edm");
    for (int k = 1; k <= 64; k++) { /* Song et al.; Karras et al. */
        double t = k / 64.0, sigma = 0.002 * pow(40000, t);
        CHECK_NEAR(rt_process_beta(ve, t), sigma, TOL_CLOSED_FORM * sigma * 4, "ve at %g", t);
        assert_true(rt_process_alpha(ve, t) == 1 && rt_process_alpha(edm, t) == 1 && rt_process_beta(edm, t) == 80 * t);
    }
    assert_true(rt_process_beta(ve, 1) == 80 && rt_process_beta(ve, 1e-12) > 0.00199 && rt_process_beta(edm, 1e-12) < 1e-10);
    rt_process_free(ve), rt_process_free(edm);
    rt_process_free(sub), rt_process_free(trig);
    CHECK_NEAR(rt_process_log_snr(cosine, 1), -20, 1e-6, "vp-cosine ends");
    CHECK_NEAR(rt_process_log_snr(wide, 1), -9, 1e-11, "vp-cosine, bounded, ends");
    CHECK_NEAR(rt_process_log_snr(wide, 1e-9), 12, 1e-5, "vp-cosine, bounded, begins");
    assert_true(rt_process_alpha(flow, 1) == 0 && rt_process_beta(flow, 1) == 1);
    assert_true(isinf(rt_process_drift(flow, 1)) && isfinite(rt_process_alpha_rate(flow, 1)));
    rt_process_free(linear), rt_process_free(cosine), rt_process_free(wide), rt_process_free(flow);
}

/* A product of 1 - beta in long double, straight from the definitions. */
static void schedules_of_beta(void **state)
{
    (void)state;
    static const char *const names[] = {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"};
    const int T = 40;
    for (int s = 0; s < 4; s++) {
        rt_process_spec spec = rt_process_defaults("ddpm");
        spec.betas = names[s], spec.timesteps = T, spec.beta_start = 0.001, spec.beta_end = 0.3;
        rt_process *p = make_process(&spec);
        double betas[40];
        long double bar = 1;
        for (int i = 0; i < T; i++) {
            long double u = (long double)i / (T - 1), beta = 0.001L + u * (0.3L - 0.001L);
            if (s == 1) beta = powl(sqrtl(0.001L) + u * (sqrtl(0.3L) - sqrtl(0.001L)), 2);
            if (s == 2)
                beta = fminl(
                    1 - powl(cosl((i + 1.0L + 0.008L * T) / (1.008L * T) * M_PI / 2) / cosl((i + 0.008L * T) / (1.008L * T) * M_PI / 2), 2),
                    0.999L);
            if (s == 3) beta = 0.001L + (0.3L - 0.001L) / (1 + expl(6 - 12 * u));
            bar *= 1 - beta;
            betas[i] = (double)beta;
            CHECK_NEAR(pow(rt_process_alpha(p, i + 1), 2), (double)bar, TOL_CLOSED_FORM, "%s, alphas_cumprod[%d]", names[s], i);
            CHECK_NEAR(beta2(p, i + 1), (double)(1 - bar), TOL_CLOSED_FORM, "%s, 1 - alphas_cumprod[%d]", names[s], i);
        }
        rt_process_spec copy = rt_process_defaults("ddpm");
        copy.trained_betas = betas, copy.timesteps = T;
        rt_process *q = make_process(&copy);
        for (int i = 1; i <= T; i++) CHECK_NEAR(rt_process_alpha(q, i), rt_process_alpha(p, i), TOL_CLOSED_FORM, "trained betas at %d", i);
        rt_process_free(p), rt_process_free(q);
    }
}

/* Lin et al.: sqrt(bar) of the rescaled table is an affine function of that of the plain one; its first stays, its last is 0. */
static void zero_snr(void **state)
{
    (void)state;
    rt_process_spec spec = rt_process_defaults("ddpm");
    rt_process *plain = make_process(&spec);
    spec.zero_snr = true;
    rt_process *zero = make_process(&spec);
    double first = rt_process_alpha(plain, 1), last = rt_process_alpha(plain, 1000);
    for (int i = 1; i <= 1000; i++)
        CHECK_NEAR(rt_process_alpha(zero, i), (rt_process_alpha(plain, i) - last) * first / (first - last), 1e-13, "time %d", i);
    assert_true(rt_process_alpha(zero, 1000) == 0 && rt_process_beta(zero, 1000) == 1);
    assert_true(isfinite(rt_process_alpha_rate(zero, 1000)) && rt_process_log_snr(zero, 1000) == -INFINITY);
    rt_process_free(plain), rt_process_free(zero);
}

static void network_times(void **state)
{
    (void)state;
    rt_process_spec spec = rt_process_defaults("flow");
    spec.shift = 3;
    rt_process *discrete = cosine_1024(), *cosine = named_process("vp-cosine"), *flow = make_process(&spec);
    assert_int_equal(rt_process_discrete_steps(discrete), 1024);
    assert_true(rt_process_network_time(discrete, 1024) == 1023 && rt_process_network_time(discrete, 1) == 0);
    assert_true(rt_process_from_network_time(discrete, 0) == 1 && isnan(rt_process_from_network_time(discrete, 1024)));
    assert_true(rt_process_discrete_steps(cosine) == 0 && rt_process_network_time(cosine, 0.25) == 250);
    CHECK_NEAR(rt_process_network_time(flow, 0.5), 1000 * 3 * 0.5 / 2, 1e-10, "flow is told 1000 sigma");
    CHECK_NEAR(rt_process_from_network_time(flow, 750), 0.5, 1e-15, "and back");
    assert_true(isnan(rt_process_network_time(cosine, 1.5)));
    rt_process_free(discrete), rt_process_free(cosine), rt_process_free(flow);
    static const char *const rows[] = {"ve", "edm"};
    for (int i = 0; i < 2; i++) { /* c_noise = log(sigma)/4 */
        spec = rt_process_defaults(rows[i]);
        spec.timesteps = 1;
        rt_process *p = make_process(&spec), *q = named_process(rows[i]);
        for (int k = 1; k <= 20; k++) {
            double t = k / 20.0, c = log(rt_process_beta(p, t)) / 4;
            CHECK_NEAR(rt_process_network_time(p, t), c, 1e-14, "%s is told c_noise", rows[i]);
            CHECK_NEAR(rt_process_network_time(q, t), 1000 * c, 1e-11, "%s, times 1000", rows[i]);
            CHECK_NEAR(rt_process_from_network_time(q, 1000 * c), t, 1e-13, "%s and back", rows[i]);
        }
        assert_true(isnan(rt_process_from_network_time(p, 2)));
        rt_process_free(p), rt_process_free(q);
    }
}

static void refusals(void **state)
{
    (void)state;
    rt_process *p = NULL;
    rt_process_spec spec = rt_process_defaults("vp-cosin");
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_USAGE, "did you mean 'vp-cosine'");
    spec = rt_process_defaults("ddpm");
    spec.betas = "lineer";
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_USAGE, "did you mean 'linear'");
    spec = rt_process_defaults("ddpm");
    spec.timesteps = 0;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "timesteps is 0");
    spec = rt_process_defaults("ddpm");
    spec.beta_end = 1.5;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "beta_end 1.5");
    spec.beta_end = NAN;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "beta_end nan");
    spec = rt_process_defaults("ddpm");
    spec.trained_betas = (double[]){0.1, 0, 0.2}, spec.timesteps = 3;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "timestep 1 is 0");
    spec.trained_betas = (double[]){0.1, 1, 0.2}; /* only the last may take all signal away */
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "timestep 1 is 1");
    spec.trained_betas = (double[]){0.1, 1e-12, 0.2}, spec.float32 = true;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "timestep 1 adds no noise");
    spec = rt_process_defaults("ddpm");
    spec.timesteps = 1, spec.zero_snr = true;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "at least 2");
    spec = rt_process_defaults("vp-cosine");
    spec.log_snr_min = 30;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "log-SNR 30");
    spec = rt_process_defaults("vp-linear");
    spec.rate_min = -1;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "rates -1");
    spec = rt_process_defaults("flow");
    spec.shift = NAN;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "shift is nan");
    spec = rt_process_defaults("ve");
    spec.sigma_max = 0.001;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "ve: sigma 0.002..0.001");
    spec = rt_process_defaults("edm");
    spec.sigma_min = 0;
    CHECK_REFUSED(rt_process_new(&p, &spec, &err), RT_E_INVALID, "edm: sigma 0..80");
    assert_null(p);
    spec.sigma_min = 1e-9, spec.sigma_max = 1e9; /* the ends are inside */
    CHECK_OK(rt_process_new(&p, &spec, &err));
    rt_process_free(p);

    p = named_process("ddpm");
    CHECK_REFUSED(rt_process_check_step(p, 4, 8, &err), RT_E_USAGE, "from time 4 to 8");
    CHECK_REFUSED(rt_process_check_step(p, 4, 4, &err), RT_E_USAGE, "from time 4 to 4");
    CHECK_REFUSED(rt_process_check_step(p, 1001, 4, &err), RT_E_USAGE, "leaves the process ddpm");
    CHECK_REFUSED(rt_process_check_step(p, 3, -1, &err), RT_E_USAGE, "leaves the process");
    CHECK_REFUSED(rt_process_check_step(p, NAN, 0, &err), RT_E_USAGE, "leaves the process");
    rt_process_free(p);
}

static void the_table_can_be_listed(void **state)
{
    (void)state;
    rt_row_text row;
    int n = 0;
    for (; rt_process_describe(n, &row); n++) {
        rt_process *p = named_process(row.name);
        assert_string_equal(rt_process_name(p), row.name);
        assert_true(*row.source && *row.text);
        rt_process_free(p);
    }
    assert_int_equal(n, 8);
    assert_false(rt_process_describe(-1, &row));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identities_hold),
        cmocka_unit_test(time_zero_is_data),
        cmocka_unit_test(log_snr_has_an_inverse),
        cmocka_unit_test(closed_forms),
        cmocka_unit_test(schedules_of_beta),
        cmocka_unit_test(zero_snr),
        cmocka_unit_test(forward_process),
        cmocka_unit_test(network_times),
        cmocka_unit_test(refusals),
        cmocka_unit_test(the_table_can_be_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
