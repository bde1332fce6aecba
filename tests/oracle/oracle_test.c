/* oracle_test.c -- the oracles against integrals, differences and closed forms; then solvers and predictions against the oracle. */
#include "diffusion_check.h"

#include "diffusion/diffusion_rows.h"

#include <unistd.h>

enum { D = 3, N = 5 };

static const double mean[D] = {0.5, -1, 0.25};
static const double covariance[D * D] = {1.0, 0.3, -0.2, 0.3, 0.5, 0.1, -0.2, 0.1, 0.8};

static rt_oracle *full_oracle(const rt_process *p, const char *prediction)
{
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_gaussian(&o, D, mean, covariance, p, rt_prediction_find(prediction, NULL), &err));
    return o;
}

/* Two components, overlapping: nothing about its flow is linear. */
static rt_oracle *smooth_oracle(const rt_process *p, const char *prediction)
{
    static const double weights[] = {0.4, 0.6}, means[] = {0.5, -1, 0.25, -0.75, 0.5, 0},
                        covariances[] = {1.0, 0.3, -0.2, 0.3, 0.5, 0.1, -0.2, 0.1, 0.8, 0.6, 0, 0.1, 0, 0.9, 0.2, 0.1, 0.2, 0.7};
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_mixture(&o, 2, D, weights, means, covariances, p, rt_prediction_find(prediction, NULL), &err));
    return o;
}

static rt_oracle *line_oracle(const rt_process *p, double mu, double sigma)
{
    rt_oracle *o = NULL;
    const double variance = sigma * sigma;
    CHECK_OK(rt_oracle_gaussian(&o, 1, &mu, &variance, p, rt_prediction_find("x0", NULL), &err));
    return o;
}

static void fill(double *x, int n)
{
    uint64_t seed = 23;
    for (int i = 0; i < n; i++) x[i] = 2.5 * wobble(&seed);
}

/* Bayes by Simpson's rule in one dimension: E[x0 | x] and p_t(x) from p(x0) and (1.1). */
static void posterior_by_quadrature(void **state)
{
    (void)state;
    const double mu = 0.7, sigma = 0.6, points[][2] = {{0.3, 0.95}, {0.8, 0.6}, {0.98, 0.2}, {0.5, 0.5}, {0.0, 1.0}};
    rt_oracle *o = line_oracle(NULL, mu, sigma);
    for (size_t k = 0; k < sizeof points / sizeof *points; k++) {
        double alpha = points[k][0], beta = points[k][1];
        for (double x = -2; x <= 2; x += 0.5) {
            const int n = 40000;
            double low = mu - 12 * sigma, h = 24 * sigma / n, mass = 0, first = 0, got, log_p;
            for (int i = 0; i <= n; i++) {
                double x0 = low + i * h, u = (x0 - mu) / sigma, v = (x - alpha * x0) / beta, w = i == 0 || i == n ? 1 : i % 2 ? 4 : 2;
                double density = w * h / 3 * exp(-(u * u + v * v) / 2) / (2 * M_PI * sigma * beta);
                mass += density;
                first += density * x0;
            }
            CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, 1, &x, &got, &err));
            CHECK_OK(rt_oracle_log_density(o, alpha, beta, 1, &x, &log_p, &err));
            CHECK_NEAR(got, first / mass, TOL_QUADRATURE, "posterior mean at x %g, alpha %g", x, alpha);
            CHECK_NEAR(log_p, log(mass), TOL_QUADRATURE, "log density at x %g, alpha %g", x, alpha);
        }
    }
    rt_oracle_free(o);
}

/* In three dimensions: the score is the gradient of the log density, and Tweedie (1.2) ties it to the posterior mean; the density is that of
 * N(alpha mu, alpha^2 Sigma + beta^2) with determinant and inverse of 3 x 3 by cofactors. */
static void score_and_density(void **state)
{
    (void)state;
    rt_oracle *o = full_oracle(NULL, "x0");
    const double alpha = 0.8, beta = 0.6, h = 1e-4;
    double x[N * D], score[N * D], x0[N * D], log_p[N], S[D][D];
    fill(x, N * D);
    CHECK_OK(rt_oracle_score(o, alpha, beta, N, x, score, &err));
    CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, N, x, x0, &err));
    CHECK_OK(rt_oracle_log_density(o, alpha, beta, N, x, log_p, &err));
    for (int i = 0; i < D; i++)
        for (int j = 0; j < D; j++) S[i][j] = alpha * alpha * covariance[i * D + j] + (i == j) * beta * beta;
    double det = 0, cofactor[D][D];
    for (int i = 0; i < D; i++)
        for (int j = 0; j < D; j++) {
            int a = (i + 1) % 3, b = (i + 2) % 3, c = (j + 1) % 3, d = (j + 2) % 3;
            cofactor[i][j] = S[a][c] * S[b][d] - S[a][d] * S[b][c];
        }
    for (int j = 0; j < D; j++) det += S[0][j] * cofactor[0][j];
    for (int r = 0; r < N; r++) {
        double square = 0;
        for (int i = 0; i < D; i++)
            for (int j = 0; j < D; j++)
                square += (x[r * D + i] - alpha * mean[i]) * cofactor[i][j] / det * (x[r * D + j] - alpha * mean[j]);
        CHECK_NEAR(log_p[r], -(square + log(det) + D * log(2 * M_PI)) / 2, 1e-12, "log density of row %d", r);
        for (int i = 0; i < D; i++) {
            double shifted[2][D], p[2];
            for (int side = 0; side < 2; side++) {
                memcpy(shifted[side], x + r * D, sizeof shifted[side]);
                shifted[side][i] += side ? h : -h;
            }
            CHECK_OK(rt_oracle_log_density(o, alpha, beta, 2, shifted[0], p, &err));
            CHECK_NEAR(score[r * D + i], (p[1] - p[0]) / (2 * h), TOL_QUADRATURE, "score %d of row %d", i,
                       r); /* quadratic: exact but for rounding */
            CHECK_NEAR(x0[r * D + i], (x[r * D + i] + beta * beta * score[r * D + i]) / alpha, 1e-13, "Tweedie, %d of row %d", i, r);
        }
    }
    rt_oracle_free(o);
}

/* The form of the lecture notes in one dimension; the semigroup (1.36) in three; Psi to time 0 from a mean and a deviation. */
static void flow_map(void **state)
{
    (void)state;
    const double mu = 0.7, sigma = 0.6, as = 0.2, bs = 0.9, at = 0.9, bt = 0.3, au = 0.6, bu = 0.7;
    rt_oracle *line = line_oracle(NULL, mu, sigma), *full = full_oracle(NULL, "x0");
    double x[N * D], direct[N * D], half[N * D], twice[N * D];
    fill(x, N * D);
    CHECK_OK(rt_oracle_flow_map(line, as, bs, at, bt, N, x, direct, &err));
    for (int i = 0; i < N; i++) {
        double want = at * mu + sqrt((at * at * sigma * sigma + bt * bt) / (as * as * sigma * sigma + bs * bs)) * (x[i] - as * mu);
        CHECK_NEAR(direct[i], want, TOL_FLOW_EXACT, "row %d", i);
    }
    CHECK_OK(rt_oracle_flow_map(full, as, bs, at, bt, N, x, direct, &err));
    CHECK_OK(rt_oracle_flow_map(full, as, bs, au, bu, N, x, half, &err));
    CHECK_OK(rt_oracle_flow_map(full, au, bu, at, bt, N, half, twice, &err));
    for (int i = 0; i < N * D; i++) CHECK_NEAR(twice[i], direct[i], TOL_FLOW_EXACT, "semigroup, %d", i);
    CHECK_OK(rt_oracle_flow_map(full, at, bt, as, bs, N, direct, twice, &err)); /* backwards */
    for (int i = 0; i < N * D; i++) CHECK_NEAR(twice[i], x[i], TOL_FLOW_EXACT, "inverse, %d", i);
    rt_oracle_free(line), rt_oracle_free(full);
}

/* ---- mixtures */

/* Bayes by Simpson's rule, with two bumps of different width. */
static void mixture_by_quadrature(void **state)
{
    (void)state;
    const double w[] = {0.3, 0.7}, mu[] = {-1, 0.8}, variance[] = {0.09, 0.25},
                 points[][2] = {{0.3, 0.95}, {0.8, 0.6}, {0.98, 0.2}, {0.0, 1.0}};
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_mixture(&o, 2, 1, w, mu, variance, NULL, NULL, &err));
    for (size_t k = 0; k < sizeof points / sizeof *points; k++) {
        double alpha = points[k][0], beta = points[k][1];
        for (double x = -2; x <= 2; x += 0.5) {
            const int n = 40000;
            double low = -8, h = 16.0 / n, mass = 0, first = 0, got, log_p, up, down, score;
            for (int i = 0; i <= n; i++) {
                double x0 = low + i * h, v = (x - alpha * x0) / beta, p = 0;
                for (int c = 0; c < 2; c++)
                    p += w[c] * exp(-(x0 - mu[c]) * (x0 - mu[c]) / (2 * variance[c])) / sqrt(2 * M_PI * variance[c]);
                double density = (i == 0 || i == n ? 1 : i % 2 ? 4 : 2) * h / 3 * p * exp(-v * v / 2) / (sqrt(2 * M_PI) * beta);
                mass += density;
                first += density * x0;
            }
            CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, 1, &x, &got, &err));
            CHECK_OK(rt_oracle_log_density(o, alpha, beta, 1, &x, &log_p, &err));
            CHECK_NEAR(got, first / mass, TOL_QUADRATURE, "posterior mean at x %g, alpha %g", x, alpha);
            CHECK_NEAR(log_p, log(mass), TOL_QUADRATURE, "log density at x %g, alpha %g", x, alpha);
            CHECK_OK(rt_oracle_log_density(o, alpha, beta, 1, &(double){x + 1e-5}, &up, &err));
            CHECK_OK(rt_oracle_log_density(o, alpha, beta, 1, &(double){x - 1e-5}, &down, &err));
            CHECK_OK(rt_oracle_score(o, alpha, beta, 1, &x, &score, &err));
            CHECK_NEAR(score, (up - down) / 2e-5, 1e-6, "score at x %g, alpha %g", x, alpha);
        }
    }
    rt_oracle_free(o);
}

/* The solved flow map: of two equal components it is the Gaussian's closed form; it composes; it has an inverse. */
static void mixture_flow_map(void **state)
{
    (void)state;
    double means[2 * D], covariances[2 * D * D], x[N * D], want[N * D], got[N * D], half[N * D];
    for (int k = 0; k < 2; k++) {
        memcpy(means + k * D, mean, sizeof mean);
        memcpy(covariances + k * D * D, covariance, sizeof covariance);
    }
    rt_oracle *one = full_oracle(NULL, "x0"), *same = NULL, *two = smooth_oracle(NULL, "x0");
    CHECK_OK(rt_oracle_mixture(&same, 2, D, (double[]){0.25, 0.75}, means, covariances, NULL, NULL, &err));
    fill(x, N * D);
    CHECK_OK(rt_oracle_flow_map(one, 0.01, 1, 1, 0, N, x, want, &err)); /* from noise to data */
    CHECK_OK(rt_oracle_flow_map(same, 0.01, 1, 1, 0, N, x, got, &err));
    for (int i = 0; i < N * D; i++) CHECK_NEAR(got[i], want[i], TOL_FLOW_ORACLE, "two equal components, %d", i);
    CHECK_OK(rt_oracle_flow_map(two, 0.2, 0.9, 0.9, 0.3, N, x, want, &err));
    CHECK_OK(rt_oracle_flow_map(two, 0.2, 0.9, 0.6, 0.7, N, x, half, &err));
    CHECK_OK(rt_oracle_flow_map(two, 0.6, 0.7, 0.9, 0.3, N, half, got, &err));
    for (int i = 0; i < N * D; i++) CHECK_NEAR(got[i], want[i], TOL_FLOW_ORACLE, "semigroup, %d", i);
    CHECK_OK(rt_oracle_flow_map(two, 0.9, 0.3, 0.2, 0.9, N, want, got, &err));
    for (int i = 0; i < N * D; i++) CHECK_NEAR(got[i], x[i], TOL_FLOW_ORACLE, "inverse, %d", i);
    rt_error e = {0};
    assert_int_equal(rt_oracle_flow_map(two, 0, 1, 1, 0, N, x, got, &e), RT_E_USAGE);
    rt_oracle_free(one), rt_oracle_free(same), rt_oracle_free(two);
}

/* Moments of draws: sum w mu, and sum w (Sigma + mu mu^T) - mean mean^T. */
static void mixture_draws(void **state)
{
    (void)state;
    enum { COUNT = 40000 };
    static double x[COUNT * D];
    rt_oracle *o = smooth_oracle(NULL, "x0");
    CHECK_OK(rt_oracle_draw(o, 4, 0, COUNT, x, &err));
    double m[D] = {0}, second = 0, first_of = 0.4 * 0.5 - 0.6 * 0.75;
    for (int r = 0; r < COUNT; r++)
        for (int i = 0; i < D; i++) m[i] += x[r * D + i] / COUNT;
    for (int r = 0; r < COUNT; r++) second += x[r * D] * x[r * D] / COUNT;
    double variance = 0.4 * (1 + 0.25) + 0.6 * (0.6 + 0.5625) - first_of * first_of;
    CHECK_NEAR(m[0], first_of, 5 * sqrt(variance / COUNT), "mean of the first number");
    CHECK_NEAR(second - m[0] * m[0], variance, 5 * variance * sqrt(2.0 / COUNT), "variance of the first number");
    rt_oracle_free(o);
}

static void sample_with(const char *solver, const rt_process *p, const rt_oracle *o, int steps, double from, double to, double *x)
{
    double *times = malloc((size_t)(steps + 1) * sizeof *times);
    for (int k = 0; k <= steps; k++) times[k] = from + (to - from) * k / steps;
    rt_field field = rt_oracle_field(o);
    rt_sample_spec spec = {.process = p, .solver = rt_solver_find(solver, NULL), .steps = steps, .from = times};
    CHECK_OK(rt_sample(&spec, &field, N, x, NULL, &err));
    free(times);
}

/* DDIM and Euler approach the flow map with order 1; extrapolated in the step size, they agree with it. */
static void solvers_approach_the_flow_map(void **state)
{
    (void)state;
    static const char *const solvers[] = {"ddim", "euler"};
    rt_process *p;
    for (int i = 4; (p = some_process(i)); i++) {
        double s = 0.9, t = 0.1, start[N * D], want[N * D], x[4][N * D];
        rt_oracle *o = full_oracle(p, "v");
        fill(start, N * D);
        CHECK_OK(rt_oracle_flow_map(o, rt_process_alpha(p, s), rt_process_beta(p, s), rt_process_alpha(p, t), rt_process_beta(p, t), N,
                                    start, want, &err));
        for (int r = 0; r < 2; r++) {
            double error[4] = {0}, extrapolated = 0;
            for (int k = 0; k < 4; k++) {
                memcpy(x[k], start, sizeof start);
                sample_with(solvers[r], p, o, 128 << k, s, t, x[k]);
                for (int j = 0; j < N * D; j++) error[k] = fmax(error[k], fabs(x[k][j] - want[j]));
            }
            for (int j = 0; j < N * D; j++) { /* Romberg: orders 1, 2, 3 */
                double a[4] = {x[0][j], x[1][j], x[2][j], x[3][j]};
                for (int order = 1; order < 4; order++)
                    for (int k = 0; k + order < 4; k++) a[k] = a[k + 1] + (a[k + 1] - a[k]) / ((1 << order) - 1);
                extrapolated = fmax(extrapolated, fabs(a[0] - want[j]));
            }
            CHECK_NEAR(log2(error[2] / error[3]), 1, 0.1, "order of %s on %s", solvers[r], rt_process_name(p));
            CHECK_NEAR(extrapolated, 0, TOL_FLOW_SOLVED, "%s on %s, extrapolated", solvers[r], rt_process_name(p));
        }
        rt_oracle_free(o);
        rt_process_free(p);
    }
}

/* Errors against the exact flow map while the steps double, down to rounding: the order of the last doubling. */
static double measured_order(const char *solver, const rt_process *p)
{
    double s = 0.9, t = 0.1, start[N * D], want[N * D], x[N * D], last = 0, order = 0;
    rt_oracle *o = smooth_oracle(p, "v");
    fill(start, N * D);
    CHECK_OK(rt_oracle_flow_map(o, rt_process_alpha(p, s), rt_process_beta(p, s), rt_process_alpha(p, t), rt_process_beta(p, t), N, start,
                                want, &err));
    for (int steps = 32; steps <= 512; steps *= 2) {
        double error = 0;
        memcpy(x, start, sizeof x);
        sample_with(solver, p, o, steps, s, t, x);
        for (int j = 0; j < N * D; j++) error = fmax(error, fabs(x[j] - want[j]));
        if (error < 1e-11) break;
        if (last > 0) order = log2(last / error);
        last = error;
    }
    rt_oracle_free(o);
    return order;
}

/* Every row has the order that it claims, on one process or another perhaps a better one. */
static void orders_are_as_claimed(void **state)
{
    (void)state;
    rt_row_text row;
    for (int r = 0; rt_solver_describe(r, &row); r++) {
        const rt_solver_info *info = rt_solver_get_info(rt_solver_find(row.name, NULL));
        double least = INFINITY;
        rt_process *p;
        bool counts = !info->stochastic && info->history == 0 && strcmp(row.name, "dopri5"); /* rows with memories start cold: below */
        for (int i = 4; counts && (p = some_process(i)); i++) {
            least = fmin(least, measured_order(row.name, p));
            rt_process_free(p);
        }
        if (counts) CHECK_NEAR(least, info->order, TOL_ORDER, "order of %s", row.name);
    }
}

typedef struct counted {
    rt_field field;
    int calls;
} counted;

static rt_status count_calls(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    counted *c = self;
    c->calls++;
    return c->field.eval(c->field.self, at, n, x, y, out, err);
}

/* dopri5 takes as many steps as the tolerance asks for: of order 5, a hundred thousandth of the error costs ten times the steps. */
static void the_tolerance_is_kept(void **state)
{
    (void)state;
    rt_process *p = named_process("vp-cosine");
    rt_oracle *o = smooth_oracle(p, "v");
    double start[N * D], want[N * D], x[N * D];
    int calls[2];
    fill(start, N * D);
    CHECK_OK(rt_oracle_flow_map(o, rt_process_alpha(p, 0.9), rt_process_beta(p, 0.9), rt_process_alpha(p, 0.1), rt_process_beta(p, 0.1), N,
                                start, want, &err));
    for (int k = 0; k < 2; k++) {
        double tolerance = k ? 1e-11 : 1e-6, error = 0;
        counted c = {.field = rt_oracle_field(o)};
        rt_field field = c.field;
        field.self = &c, field.eval = count_calls;
        rt_sample_spec spec = {.process = p,
                               .solver = rt_solver_find("dopri5", NULL),
                               .steps = 1,
                               .from = (double[]){0.9, 0.1},
                               .options = {.tolerance = tolerance}};
        memcpy(x, start, sizeof x);
        CHECK_OK(rt_sample(&spec, &field, N, x, NULL, &err));
        for (int j = 0; j < N * D; j++) error = fmax(error, fabs(x[j] - want[j]));
        print_message("           tolerance %.0e: error %.1e in %d calls\n", tolerance, error, c.calls);
        assert_true(error < 20 * tolerance);
        calls[k] = c.calls;
    }
    assert_true(calls[1] > 4 * calls[0] && calls[1] < 16 * calls[0]);
    rt_oracle_free(o);
    rt_process_free(p);
}

/* The error of one step s -> t with exact memories, on a grid even in log-SNR with steps of 2 h. */
static double step_error(const char *name, const rt_process *p, double h, int memories)
{
    const rt_solver *row = rt_solver_find(name, NULL);
    double l = rt_process_log_snr(p, 0.6), begin[N * D], want[N * D], x[N * D], state[N * D], x0[4][N * D], eps[4][N * D], out[N * D],
           states[4][N * D], before[N * D];
    rt_oracle *o = smooth_oracle(p, "x0");
    rt_field field = rt_oracle_field(o);
    double t[5] = {0};             /* of the result, of s, of the memories */
    const double targets[8] = {0}; /* of step k, which the field is told; an oracle does not mind */
    rt_sample_spec spec = {.process = p, .solver = row, .steps = 1, .from = t + 1, .to = targets};
    rt__advance a = {.spec = &spec,
                     .field = &field,
                     .n = N,
                     .count = N * D,
                     .x = x,
                     .x0 = x0[0],
                     .eps = eps[0],
                     .out = out,
                     .before = before,
                     .order = row->info.order,
                     .order_before = row->info.order,
                     .k = row->info.order - 1, /* of the rows that take their orders in turn, the last */
                     .n_past = memories};
    fill(begin, N * D);
    for (int k = 0; k < 5; k++) {
        double even = l - 2 * h * (k - 1), sigma = exp(-l / 2) * (1 + h * (k - 1)); /* ipndm knows only steps even in sigma */
        t[k] = rt_process_time(p, strcmp(name, "ipndm") ? even : -2 * log(sigma));
    }
    for (int k = 4; k >= 1; k--) {
        CHECK_OK(rt_oracle_flow_map(o, rt_process_alpha(p, 0.6), rt_process_beta(p, 0.6), rt_process_alpha(p, t[k]),
                                    rt_process_beta(p, t[k]), N, begin, state, &err));
        CHECK_OK(rt__predict(&a, state, t[k], x0[k - 1], eps[k - 1], &err));
        if (k >= 2 && k - 2 < RT__SOLVER_HISTORY) a.past[k - 2] = (rt__past){t[k], states[k - 1], x0[k - 1], eps[k - 1]};
        memcpy(states[k - 1], state, sizeof state);
    }
    memcpy(x, state, sizeof x), memcpy(before, state, sizeof x);
    CHECK_OK(rt_oracle_flow_map(o, rt_process_alpha(p, 0.6), rt_process_beta(p, 0.6), rt_process_alpha(p, t[0]), rt_process_beta(p, t[0]),
                                N, begin, want, &err));
    CHECK_OK(row->step(&a, t[1], t[0], &err));
    double error = 0;
    for (int j = 0; j < N * D; j++) error = fmax(error, fabs(x[j] - want[j]));
    rt_oracle_free(o);
    return error;
}

/* With exact memories one step errs by h^(order + 1). */
static void memories_raise_the_order(void **state)
{
    (void)state;
    rt_row_text row;
    int met = 0;
    for (int r = 0; rt_solver_describe(r, &row); r++) {
        const rt_solver_info *info = rt_solver_get_info(rt_solver_find(row.name, NULL));
        rt_process *p;
        double least = INFINITY;
        bool counts = info->history > 0 && !info->stochastic;
        for (int i = 4; counts && (p = some_process(i)); i++) {
            least = fmin(least, log2(step_error(row.name, p, 0.02, info->history) / step_error(row.name, p, 0.01, info->history)));
            rt_process_free(p);
        }
        if (counts) CHECK_NEAR(least, info->order + 1, TOL_ORDER, "order of one step of %s, plus 1", row.name);
        met += counts;
    }
    assert_true(met >= 2);
}

/* A row that starts cold has as many terms as memories: each raises the order of its step by one. */
static void each_memory_counts(void **state)
{
    (void)state;
    static const char *const rows[] = {"ipndm", "dpmpp-3m", "unipc-3"};
    for (int r = 0; r < 3; r++) {
        const rt_solver_info *info = rt_solver_get_info(rt_solver_find(rows[r], NULL));
        for (int memories = 0; memories < info->order && memories <= info->history; memories++) {
            double least = INFINITY;
            rt_process *p;
            for (int i = 4; i < 8 && (p = some_process(i)); i++) {
                least = fmin(least, log2(step_error(rows[r], p, 0.02, memories) / step_error(rows[r], p, 0.01, memories)));
                rt_process_free(p);
            }
            CHECK_NEAR(least, memories + 2, TOL_ORDER, "order of one step of %s with %d memories", rows[r], memories);
        }
    }
}

/* From a cold start the memories come to help within a few steps: fewer errors than DDIM makes in as many calls. */
static void multistep_beats_ddim(void **state)
{
    (void)state;
    static const char *const rows[] = {"ddim", "dpmpp-2m", "dpmpp-3m"};
    rt_process *p = named_process("vp-cosine");
    rt_oracle *o = full_oracle(p, "v");
    double start[N * D], want[N * D], x[N * D], error[3] = {0};
    fill(start, N * D);
    CHECK_OK(rt_oracle_flow_map(o, rt_process_alpha(p, 0.9), rt_process_beta(p, 0.9), rt_process_alpha(p, 0.1), rt_process_beta(p, 0.1), N,
                                start, want, &err));
    for (int r = 0; r < 3; r++) {
        memcpy(x, start, sizeof x);
        sample_with(rows[r], p, o, 64, 0.9, 0.1, x);
        for (int j = 0; j < N * D; j++) error[r] = fmax(error[r], fabs(x[j] - want[j]));
    }
    assert_true(error[1] < error[0] / 5 && error[2] < error[0] / 5);
    rt_oracle_free(o);
    rt_process_free(p);
}

/* The first members of both families are DDIM; so is a first step from alpha = 0, where there is no log-SNR. */
static void first_order_is_ddim(void **state)
{
    (void)state;
    static const char *const same[] = {"dpm-1", "dpmpp-1s", "dpmpp-1m"}, *const starting[] = {"dpm-2", "dpm-3", "dpmpp-2s", "dpmpp-3s"};
    double start[N * D], want[N * D], x[N * D];
    fill(start, N * D);
    rt_process *p = named_process("vp-cosine"), *flow = named_process("flow");
    rt_oracle *o = full_oracle(p, "v"), *line = full_oracle(flow, "velocity");
    memcpy(want, start, sizeof want);
    sample_with("ddim", p, o, 7, 0.9, 0.05, want); /* at 1 alpha is near 0 and dpm-1 divides by it */
    for (int r = 0; r < 3; r++) {
        memcpy(x, start, sizeof x);
        sample_with(same[r], p, o, 7, 0.9, 0.05, x);
        for (int j = 0; j < N * D; j++) CHECK_NEAR(x[j], want[j], TOL_MAP, "%s, %d", same[r], j);
    }
    memcpy(want, start, sizeof want);
    sample_with("ddim", flow, line, 1, 1, 0.6, want);
    for (int r = 0; r < 4; r++) {
        memcpy(x, start, sizeof x);
        sample_with(starting[r], flow, line, 1, 1, 0.6, x);
        for (int j = 0; j < N * D; j++) assert_true(x[j] == want[j]);
    }
    rt_oracle_free(o), rt_oracle_free(line);
    rt_process_free(p), rt_process_free(flow);
}

/* On discrete processes, with every step they have, from noise to data. */
static void discrete_processes_reach_data(void **state)
{
    (void)state;
    rt_process *p = cosine_1024();
    double end = rt_process_end(p), start[N * D], want[N * D], x[N * D], coarse[N * D];
    rt_oracle *o = full_oracle(p, "v");
    fill(start, N * D);
    CHECK_OK(rt_oracle_flow_map(o, rt_process_alpha(p, end), rt_process_beta(p, end), 1, 0, N, start, want, &err));
    static const char *const solvers[] = {"ddim", "euler"};
    for (int r = 0; r < 2; r++) {
        double error = 0, coarse_error = 0;
        memcpy(x, start, sizeof x), memcpy(coarse, start, sizeof x);
        sample_with(solvers[r], p, o, 1024, end, 0, x);
        sample_with(solvers[r], p, o, 256, end, 0, coarse);
        for (int j = 0; j < N * D; j++)
            error = fmax(error, fabs(x[j] - want[j])), coarse_error = fmax(coarse_error, fabs(coarse[j] - want[j]));
        CHECK_NEAR(coarse_error / error, 4, 0.4, "%s: a quarter of the steps, four times the error", solvers[r]);
        assert_true(error < 5e-3);
    }
    rt_oracle_free(o);
    rt_process_free(p);
}

/* In one dimension one DDIM step is multiplication by A + C gain (about the mean): a run is the product of its factors. */
static void ddim_is_a_product(void **state)
{
    (void)state;
    const double sigma = 0.6, mu = 0.7;
    rt_process *p;
    for (int i = 0; (p = some_process(i)); i++) {
        double times[11], x = 1.3, want = 0;
        if (rt_process_alpha(p, rt_process_end(p)) > 0.3) {
            rt_process_free(p);
            continue;
        }
        rt_oracle *o = line_oracle(p, mu, sigma);
        CHECK_OK(rt_grid_build("uniform", p, 10, times, &err));
        double deviation = x - rt_process_alpha(p, times[0]) * mu;
        for (int k = 0; k < 10; k++) {
            double as = rt_process_alpha(p, times[k]), bs = rt_process_beta(p, times[k]), at = rt_process_alpha(p, times[k + 1]),
                   bt = rt_process_beta(p, times[k + 1]);
            deviation *= bt / bs + (at - as * bt / bs) * as * sigma * sigma / (as * as * sigma * sigma + bs * bs);
        }
        want = mu + deviation;
        rt_field field = rt_oracle_field(o);
        rt_sample_spec spec = {.process = p, .solver = rt_solver_find("ddim", NULL), .steps = 10, .from = times};
        CHECK_OK(rt_sample(&spec, &field, 1, &x, NULL, &err));
        CHECK_NEAR(x, want, 1e-13, "%s", rt_process_name(p));
        rt_oracle_free(o);
        rt_process_free(p);
    }
}

/* The same model told in five predictions gives the same trajectory. */
static void predictions_agree(void **state)
{
    (void)state;
    static const char *const predictions[] = {"x0", "epsilon", "v", "score", "velocity"};
    rt_process *p = named_process("ddpm");
    double times[13], x[5][N * D];
    CHECK_OK(rt_grid_build("uniform", p, 12, times, &err));
    for (int i = 0; i < 5; i++) {
        rt_oracle *o = full_oracle(p, predictions[i]);
        rt_field field = rt_oracle_field(o);
        assert_string_equal(rt_prediction_name(rt_oracle_prediction(o)), predictions[i]);
        fill(x[i], N * D);
        rt_sample_spec spec = {.process = p, .solver = rt_solver_find("euler", NULL), .steps = 12, .from = times};
        CHECK_OK(rt_sample(&spec, &field, N, x[i], NULL, &err));
        for (int j = 0; j < N * D; j++) CHECK_NEAR(x[i][j], x[0][j], TOL_PREDICTIONS, "%s, %d", predictions[i], j);
        rt_oracle_free(o);
    }
    rt_process_free(p);
}

/* 40,000 draws: mean and covariance to five standard errors; sample j does not depend on how many are drawn. */
static void draws(void **state)
{
    (void)state;
    enum { COUNT = 40000 };
    rt_oracle *o = full_oracle(NULL, "x0");
    double *x = malloc(sizeof(double) * COUNT * D), sum[D] = {0}, product[D][D] = {{0}}, again[D];
    CHECK_OK(rt_oracle_draw(o, 9, 0, COUNT, x, &err));
    CHECK_OK(rt_oracle_draw(o, 9, 1234, 1, again, &err));
    assert_memory_equal(again, x + 1234 * D, sizeof again);
    for (int r = 0; r < COUNT; r++)
        for (int i = 0; i < D; i++) {
            sum[i] += x[r * D + i];
            for (int j = 0; j < D; j++) product[i][j] += (x[r * D + i] - mean[i]) * (x[r * D + j] - mean[j]);
        }
    for (int i = 0; i < D; i++) {
        CHECK_NEAR(sum[i] / COUNT, mean[i], 5 * sqrt(covariance[i * D + i] / COUNT), "mean %d", i);
        for (int j = 0; j < D; j++) {
            double c = covariance[i * D + j], spread = sqrt((c * c + covariance[i * D + i] * covariance[j * D + j]) / COUNT);
            CHECK_NEAR(product[i][j] / COUNT, c, 5 * spread, "covariance %d, %d", i, j);
        }
    }
    free(x);
    rt_oracle_free(o);
}

static const char *write_file(const char *text)
{
    static char path[] = "oracle_test_XXXXXX";
    static bool made;
    if (!made) {
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        close(fd);
        made = true;
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

#define BODY "\"means\": [[1, 2]], \"covariances\": [[[1, 0.5], [0.5, 2]]]"

#define MIXTURE "{\"kind\": \"mixture\", \"means\": [[1], [2]], \"covariances\": [[[1]], [[2]]]"

static void files(void **state)
{
    (void)state;
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_open(
        &o, write_file("{\"kind\": \"gaussian\", " BODY ", \"prediction\": \"v\", \"process\": {\"name\": \"flow\", \"shift\": 3}}"),
        &err));
    const rt_process *p = rt_oracle_process(o);
    assert_string_equal(rt_process_name(p), "flow");
    CHECK_NEAR(rt_process_beta(p, 0.5), 0.75, 1e-15, "shift");
    assert_int_equal(rt_oracle_features(o), 2);
    assert_string_equal(rt_prediction_name(rt_oracle_prediction(o)), "v");
    double x[2] = {1, 2}, x0[2];
    CHECK_OK(rt_oracle_posterior_mean(o, 1, 0.5, 1, x, x0, &err)); /* at alpha mu the posterior mean is mu */
    CHECK_NEAR(x0[0], 1, 1e-15, "mean");
    CHECK_NEAR(x0[1], 2, 1e-15, "mean");
    rt_oracle_free(o);
    CHECK_OK(
        rt_oracle_open(&o,
                       write_file("{\"kind\": \"gaussian\", " BODY
                                  ", \"process\": {\"name\": \"ddpm\", \"timesteps\": 64, \"betas\": \"sigmoid\", \"zero_snr\": true}}"),
                       &err));
    assert_int_equal(rt_process_discrete_steps(rt_oracle_process(o)), 64);
    rt_oracle_free(o);

    CHECK_OK(rt_oracle_open(&o,
                            write_file("{\"kind\": \"gaussian\", " BODY
                                       ", \"scheduler\": {\"_class_name\": \"DDIMScheduler\", \"prediction_type\": \"v_prediction\"}}"),
                            &err));
    assert_string_equal(rt_prediction_name(rt_oracle_prediction(o)), "v");
    assert_ptr_equal(rt_scheduler_process(rt_oracle_scheduler(o)), rt_oracle_process(o));
    rt_oracle_free(o);

    static const struct {
        const char *text, *says;
    } bad[] = {
        {"{\"kind\": \"gaussian\", \"means\": [[1, NaN]]}", "must be JSON"},
        {"[1]", "must be an object"},
        {"{}", "field 'kind' is missing"},
        {"{\"kind\": \"gausian\"}", "did you mean 'gaussian'"},
        {"{\"kind\": \"gaussian\", \"kind\": \"gaussian\"}", "duplicate"},
        {"{\"kind\": \"gaussian\", \"mean\": []}", "field 'mean' is not known; did you mean means"},
        {"{\"kind\": \"gaussian\", " BODY "}", "field 'process' is missing"},
        {"{\"kind\": \"gaussian\", " BODY ", \"process\": {\"name\": \"flow\"}, \"scheduler\": {}}", "are both there"},
        {"{\"kind\": \"gaussian\", " BODY ", \"scheduler\": {\"_class_name\": \"DDIMScheduler\", \"beta_end\": 3}}",
         "field 'beta_end' is 3"},
        {"{\"kind\": \"gaussian\", " BODY ", \"process\": {\"name\": \"flou\"}}", "did you mean 'flow'"},
        {"{\"kind\": \"gaussian\", " BODY ", \"process\": {\"name\": \"flow\", \"shift\": \"x\"}}", "field 'process.shift' is a string"},
        {"{\"kind\": \"gaussian\", " BODY ", \"process\": {\"name\": \"flow\", \"shift\": -3}}", "shift is -3"},
        {"{\"kind\": \"gaussian\", " BODY ", \"prediction\": \"w\", \"process\": {\"name\": \"flow\"}}", "predictions"},
        {"{\"kind\": \"gaussian\", \"means\": [[1, 2]], \"covariances\": [[[1, 0.5]]], \"process\": {\"name\": \"flow\"}}",
         "has 1 rows; must have 2"},
        {"{\"kind\": \"gaussian\", \"means\": [[1, 2]], \"covariances\": [[[1, 0.5], [0.5]]], \"process\": {\"name\": \"flow\"}}",
         "has 1 elements"},
        {"{\"kind\": \"gaussian\", \"means\": [[1, \"2\"]], \"covariances\": [[[1, 0], [0, 1]]], \"process\": {\"name\": \"flow\"}}",
         "element 0: number 1 is a string"},
        {"{\"kind\": \"gaussian\", \"means\": [[1], [2]], \"covariances\": [[[1]]], \"process\": {\"name\": \"flow\"}}",
         "field 'means' has 2 elements; must have 1"},
        {"{\"kind\": \"gaussian\", \"means\": [[1, 2]], \"covariances\": [[[1, 2], [2, 1]]], \"process\": {\"name\": \"flow\"}}",
         "smallest eigenvalue is -1"},
        {"{\"kind\": \"gaussian\", \"means\": [[1, 2]], \"covariances\": [[[1, 0.5], [0.4, 1]]], \"process\": {\"name\": \"flow\"}}",
         "must be symmetric"},
        {MIXTURE ", \"process\": {\"name\": \"flow\"}}", "field 'weights' is missing"},
        {MIXTURE ", \"weights\": [0.5, 0.6], \"process\": {\"name\": \"flow\"}}", "the weights add up to 1.1"},
        {MIXTURE ", \"weights\": [1.5, -0.5], \"process\": {\"name\": \"flow\"}}", "weight 0 is 1.5"},
        {MIXTURE ", \"weights\": [1], \"process\": {\"name\": \"flow\"}}", "field 'weights' has 1 elements; must have 2"},
        {"{\"kind\": \"mixture\", \"weights\": [0.5, 0.5], \"means\": [[1], [2]], \"covariances\": [[[1]], [[-1]]], \"process\": "
         "{\"name\": \"flow\"}}",
         "component 1: the covariance is not positive definite"},
    };
    CHECK_OK(rt_oracle_open(&o, write_file(MIXTURE ", \"weights\": [0.25, 0.75], \"process\": {\"name\": \"trig\"}}"), &err));
    double point = 0.3, score;
    CHECK_OK(rt_oracle_score(o, 0, 1, 1, &point, &score, &err));
    CHECK_NEAR(score, -0.3, 1e-15, "of pure noise");
    rt_oracle_free(o);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *path = write_file(bad[i].text);
        CHECK_REFUSED(rt_oracle_open(&o, path, &err), RT_E_INVALID, bad[i].says);
        CHECK_REFUSED(rt_oracle_open(&o, path, &err), RT_E_INVALID, path);
        assert_null(o);
    }
    /* a scheduler that is not there is the oracle's error, one that cannot be read the system's */
    const char *path = write_file("{\"kind\": \"gaussian\", " BODY ", \"scheduler\": \"no-such.json\"}");
    CHECK_REFUSED(rt_oracle_open(&o, path, &err), RT_E_INVALID, "no-such.json");
    path = write_file("{\"kind\": \"gaussian\", " BODY ", \"scheduler\": \"/\"}");
    CHECK_REFUSED(rt_oracle_open(&o, path, &err), RT_E_IO, "field 'scheduler'");
    unlink(write_file(""));
    CHECK_REFUSED(rt_oracle_open(&o, "no/such/file.json", &err), RT_E_IO, "no/such/file.json");
    const double nan_mean[] = {0, NAN}, two[] = {1, 0, 0, 1}, nan_covariance[] = {1, 0, 0, INFINITY};
    CHECK_REFUSED(rt_oracle_gaussian(&o, 2, nan_mean, two, NULL, NULL, &err), RT_E_INVALID, "mean 1 is nan");
    CHECK_REFUSED(rt_oracle_gaussian(&o, 2, two, nan_covariance, NULL, NULL, &err), RT_E_INVALID, "covariance (1, 1) is inf");
    CHECK_REFUSED(rt_oracle_gaussian(&o, 0, two, two, NULL, NULL, &err), RT_E_INVALID, "0 features");
}

static void refusals(void **state)
{
    (void)state;
    rt_process *p = named_process("flow");
    rt_oracle *o = full_oracle(p, "x0");
    double x[D] = {0}, out[D];
    rt_field field = rt_oracle_field(o);
    CHECK_REFUSED(field.eval(field.self, &(rt_field_call){0}, 1, x, NULL, out, &err), RT_E_USAGE, "asked at time 0");
    CHECK_REFUSED(field.eval(field.self, &(rt_field_call){.t = 1.5}, 1, x, NULL, out, &err), RT_E_USAGE, "asked at time 1.5");
    CHECK_REFUSED(rt_oracle_score(o, -1, 1, 1, x, out, &err), RT_E_USAGE, "alpha -1");
    CHECK_REFUSED(rt_oracle_flow_map(o, 1, 1, 0, 0, 1, x, out, &err), RT_E_USAGE, "alpha 0, beta 0");
    rt_oracle_free(o);
    rt_process_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posterior_by_quadrature),
        cmocka_unit_test(score_and_density),
        cmocka_unit_test(flow_map),
        cmocka_unit_test(solvers_approach_the_flow_map),
        cmocka_unit_test(mixture_by_quadrature),
        cmocka_unit_test(mixture_flow_map),
        cmocka_unit_test(mixture_draws),
        cmocka_unit_test(orders_are_as_claimed),
        cmocka_unit_test(the_tolerance_is_kept),
        cmocka_unit_test(memories_raise_the_order),
        cmocka_unit_test(each_memory_counts),
        cmocka_unit_test(multistep_beats_ddim),
        cmocka_unit_test(first_order_is_ddim),
        cmocka_unit_test(discrete_processes_reach_data),
        cmocka_unit_test(ddim_is_a_product),
        cmocka_unit_test(predictions_agree),
        cmocka_unit_test(draws),
        cmocka_unit_test(files),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
