/* progressive.c -- section 1.4: the DDIM map, Lemma 2, progressive distillation, guidance. */
#include "verify/exact_training.h"
#include "verify/small_run.h"
#include "verify/witness.h"

#include "base/internal.h"
#include "distill/residual.h"

#include <string.h>

/* ---- (1.30)-(1.34), Lemma 2: a step from x at s by way of u to t */

static double scale_of(const rt_process *p, double t, double x) { return fabs(x) + rt_process_alpha(p, t) + rt_process_beta(p, t); }

static double ddim_at(rt__witness *w, const rt_process *p, double s, double u, double t, double x)
{
    double A = NAN, C = NAN, x0 = 0.7;
    (void)u;
    rt_ddim_coefficients(p, s, t, &A, &C, &w->err);
    return fabs(A * x + C * x0 - rt__lecture_ddim(p, s, t, x, x0)) / scale_of(p, s, x);
}

static double first_step_at(rt__witness *w, const rt_process *p, double s, double u, double t, double x)
{
    double got = x, want = rt__lecture_ddim(p, s, u, x, rt__exact_mean(rt_process_alpha(p, s), rt_process_beta(p, s), x));
    (void)t;
    rt__move(w, "ddim", p, 1, (double[]){s, u}, 1, &got);
    return fabs(got - want) / scale_of(p, s, x);
}

static double second_step_at(rt__witness *w, const rt_process *p, double s, double u, double t, double x)
{
    double got = x, want = rt__lecture_ddim(p, s, u, x, rt__exact_mean(rt_process_alpha(p, s), rt_process_beta(p, s), x));
    want = rt__lecture_ddim(p, u, t, want, rt__exact_mean(rt_process_alpha(p, u), rt_process_beta(p, u), want));
    rt__move(w, "ddim", p, 2, (double[]){s, u, t}, 1, &got);
    return fabs(got - want) / scale_of(p, s, x);
}

/* rt_ddim_target in a graph of doubles. */
static double target(rt__witness *w, const rt_process *p, double s, double t, double xs, double xt)
{
    double x0, A = NAN, C = NAN;
    rt_graph *g = rt__doubles(w);
    if (!g) return NAN;
    rt_ddim_coefficients(p, s, t, &A, &C, &w->err);
    rt__value(w, rt_ddim_target(rt__numbers(g, 1, &xs), rt__numbers(g, 1, &xt), rt_scalar(g, A), rt_scalar(g, C)), 1, &x0);
    rt_graph_free(g);
    return x0;
}

/* One step with the pseudo-target ends at whatever x_t it was made for. */
static double matched_at(rt__witness *w, const rt_process *p, double s, double u, double t, double x)
{
    double xt = 0.6 - x / 3;
    (void)u;
    return fabs(rt__lecture_ddim(p, s, t, x, target(w, p, s, t, x, xt)) - xt) / scale_of(p, s, x);
}

static double inverse_at(rt__witness *w, const rt_process *p, double s, double u, double t, double x)
{
    double P = NAN, Q = NAN;
    (void)u, (void)x;
    rt_ddim_target_coefficients(p, s, t, &P, &Q, &w->err);
    long double beta_s = rt_process_beta(p, s), beta_t = rt_process_beta(p, t);
    long double det = rt_process_alpha(p, t) * beta_s - rt_process_alpha(p, s) * beta_t;
    return (double)(fabsl(P - beta_s / det) + fabsl(Q + beta_t / det)) * pow((double)(det / beta_s), 2);
}

/* A model that always answers the same x0. */
static rt_status constant(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    (void)at, (void)x, (void)y, (void)err;
    for (int64_t i = 0; i < n; i++) out[i] = *(double *)self;
    return RT_OK;
}

/* Two steps of the mixture's own denoiser; one step with the pseudo-target. Both by the driver of solvers. */
static double two_in_one_at(rt__witness *w, const rt_process *p, double s, double u, double t, double x)
{
    double two = x, one = x, x0;
    rt__move(w, "ddim", p, 2, (double[]){s, u, t}, 1, &two);
    x0 = target(w, p, s, t, x, two);
    rt_field field = {.self = &x0, .eval = constant, .prediction = rt_prediction_find("x0", &w->err), .features = 1, .null_class = -1};
    rt_sample(&(rt_sample_spec){.process = p, .solver = rt_solver_find("ddim", &w->err), .steps = 1, .from = (double[]){s, t}}, &field, 1,
              &one, NULL, &w->err);
    return fabs(one - two) / scale_of(p, s, x);
}

static double ddim(rt__witness *w) { return rt__every_step(w, ddim_at); }
static double first_step(rt__witness *w) { return rt__every_step(w, first_step_at); }
static double second_step(rt__witness *w) { return rt__every_step(w, second_step_at); }
static double matched(rt__witness *w) { return rt__every_step(w, matched_at); }
static double inverse(rt__witness *w) { return rt__every_step(w, inverse_at); }
static double two_in_one(rt__witness *w) { return rt__every_step(w, two_in_one_at); }

/* ---- (1.35), (1.37): the loss of `pd`, two teacher steps in one, against the formula at the examples that it drew.
 * In x0 with the weight max(SNR, 1) and a guided teacher; or, with the weight `map`, in x_t. */
static double progressive(rt__witness *w, bool of_maps)
{
    enum { STUDENT = 2 };
    rt__small_run r;
    const char *const keys[] = {"data.path",
                                "toy:moons",
                                "pd.steps",
                                "2",
                                "pd.teacher-steps",
                                "4",
                                "pd.guidance",
                                of_maps ? "0" : "1.5",
                                "train.weight",
                                of_maps ? "map" : "truncated-snr",
                                "pd.starts",
                                "student",
                                NULL};
    rt__small_run_open(&r, "pd", keys, &w->err);
    rt_node *k = NULL, *eps = NULL;
    if (w->err.status == RT_OK) {
        k = rt_randint(r.phase->graph, "k", 1, (int64_t[]){RT_BATCH}, STUDENT);
        eps = rt_randn(r.phase->graph, "eps", 2, r.task.shape);
    }
    double got = rt__small_run_loss(&r, (rt_node *[]){k, eps}, 2), want = 0;
    const int64_t *ks = rt__small_run_data(&r, k), *ys = rt__small_run_input(&r, "y");
    const float *noise = rt__small_run_data(&r, eps), *data = rt__small_run_input(&r, "x0");
    for (int i = 0; ks && ys && noise && data && i < RT__BATCH; i++) {
        double s = 1 - (double)ks[i] / STUDENT, t = s - 1.0 / STUDENT, error = 0, xs[RT__WIDTH], xt[RT__WIDTH], f[RT__WIDTH];
        double alpha_s = cos(M_PI / 2 * s), beta_s = sin(M_PI / 2 * s), alpha_t = cos(M_PI / 2 * t), beta_t = sin(M_PI / 2 * t);
        double det = alpha_t * beta_s - alpha_s * beta_t;
        for (int j = 0; j < RT__WIDTH; j++)
            xt[j] = xs[j] = alpha_s * (double)data[i * RT__WIDTH + j] + beta_s * (double)noise[i * RT__WIDTH + j];
        rt__small_run_roll(&r, rt__small_run_network(&r, "teacher"), s, t, 2, xt, ys[i]);
        rt__small_run_denoise(&r, rt__small_run_network(&r, "student"), s, xs, ys[i], f);
        for (int j = 0; j < RT__WIDTH; j++) {
            double map = f[j] * det / beta_s + xs[j] * beta_t / beta_s - xt[j];
            double pseudo = f[j] - (beta_s * xt[j] - beta_t * xs[j]) / det;
            error += of_maps ? map * map : fmax(pow(alpha_s / beta_s, 2), 1) * pseudo * pseudo;
        }
        want += error / RT__WIDTH / RT__BATCH;
    }
    rt__small_run_close(&r);
    return fabs(got / want - 1);
}

static double pseudo_targets(rt__witness *w) { return progressive(w, false); }
static double maps(rt__witness *w) { return progressive(w, true); }

/* ---- Algorithm 2 where everything is exact: on normal data every denoiser is affine in x, and a student is a table of slope and offset per time of its
 * grid, fitted without error. `pd` says the rounds; after the last, one step is the product of the first teacher's. */
static double rounds(rt__witness *w)
{
    enum { N = 16 };
    const double mean = 0.4, variance = 0.3;
    rt_config config;
    rt_task task = {.method = &rt__method_pd, .config = &config, .null_class = -1};
    rt_plan plan = {0};
    task.teacher.prediction = rt_prediction_find("v", &w->err);
    if (rt_config_method(&config, "pd", &w->err) != RT_OK || rt_config_set(&config, "pd.steps", "8,4,2,1", &w->err) != RT_OK ||
        task.method->plan(&task, &plan, &w->err) != RT_OK)
        return NAN;
    double worst = 0;
    for (int i = 0; i < w->n; i++) {
        const rt_process *p = w->processes[i];
        double grid[N + 1], slope[N], offset[N], A = NAN, C = NAN, P = NAN, Q = NAN, one = 1, shift = 0;
        if (rt_grid_nested(p, plan.step_counts, plan.n_step_counts, grid, &w->err) != RT_OK) return NAN;
        for (int k = 0; k < N; k++) { /* E[x0 | x] of N(mean, variance) */
            double alpha = rt_process_alpha(p, grid[k]), beta = rt_process_beta(p, grid[k]);
            slope[k] = alpha * variance / (alpha * alpha * variance + beta * beta);
            offset[k] = mean - slope[k] * alpha * mean;
            double to_one = rt__lecture_ddim(p, grid[k], grid[k + 1], 1, slope[k]),
                   to_zero = rt__lecture_ddim(p, grid[k], grid[k + 1], 0, offset[k]);
            one *= to_one;
            shift = to_one * shift + to_zero;
        }
        for (int round = 0; round < plan.n_rounds; round++) {
            int stride = N / plan.rounds[round].teacher_steps, q = plan.rounds[round].teacher_steps / plan.rounds[round].steps;
            for (int k = 0; k < N; k += q * stride) {
                double a = 1, b = 0; /* x_t = a x_s + b after the teacher's q steps */
                for (int j = k; j < k + q * stride; j += stride) {
                    rt_ddim_coefficients(p, grid[j], grid[j + stride], &A, &C, &w->err);
                    b = (A + C * slope[j]) * b + C * offset[j];
                    a *= A + C * slope[j];
                }
                rt_ddim_target_coefficients(p, grid[k], grid[k + q * stride], &P, &Q, &w->err);
                slope[k] = P * a + Q; /* the student becomes the teacher */
                offset[k] = P * b;
            }
        }
        rt_ddim_coefficients(p, grid[0], grid[N], &A, &C, &w->err);
        worst = rt__worse(worst, fabs(A + C * slope[0] - one) * rt_process_beta(p, grid[0]));
        worst = rt__worse(worst, fabs(C * offset[0] - shift));
    }
    return worst;
}

/* ---- (1.36), from the noisiest level by way of the others to the cleanest */
static double semigroup(rt__witness *w)
{
    double worst = 0;
    for (int i = 0; i < w->n; i++) {
        const rt_process *p = w->processes[i];
        rt_oracle *o = rt__exact_oracle(w, p, "x0");
        double x[RT__STATES] = {NAN}, start[RT__STATES], at[RT__LEVELS][2];
        for (int k = 0; k < RT__LEVELS; k++)
            at[k][0] = rt_process_alpha(p, rt__level(p, k)), at[k][1] = rt_process_beta(p, rt__level(p, k));
        const double *noisy = at[RT__LEVELS - 1], *clean = at[0];
        rt__exact_states(noisy[0], noisy[1], start);
        if (o) memcpy(x, start, sizeof x);
        for (int k = RT__LEVELS - 1; k > 0 && o; k--)
            rt_oracle_flow_map(o, at[k][0], at[k][1], at[k - 1][0], at[k - 1][1], RT__STATES, x, x, &w->err);
        for (int j = 0; j < RT__STATES; j++)
            worst = rt__worse(worst, fabs(x[j] - rt__exact_flow(noisy[0], noisy[1], clean[0], clean[1], start[j])));
        rt_oracle_free(o);
    }
    return worst;
}

/* ---- (1.38): the table of residuals that `pd` prints, against rollouts from the same noise. A student of 2 steps, a teacher of 4. */
static double rollouts(rt__witness *w)
{
    enum { N = 4 };
    rt__small_run r;
    static const char *const keys[] = {"data.path", "toy:moons", "pd.steps", "2", "pd.teacher-steps", "4", NULL};
    rt_residual got = {.drift = NAN};
    double sum = 0;
    rt__small_run_open(&r, "pd", keys, &w->err);
    if (w->err.status == RT_OK) rt__residual(&r.round, N, &got, &w->err);
    for (int i = 0; w->err.status == RT_OK && i < N; i++) {
        float z[RT__WIDTH];
        double student[RT__WIDTH], first[RT__WIDTH];
        rt__noise(r.config.seed, "holdout", 0, (uint32_t)i, 1, RT__WIDTH, z);
        for (int j = 0; j < RT__WIDTH; j++) student[j] = first[j] = (double)z[j];
        rt__small_run_roll(&r, rt__small_run_network(&r, "student"), 1, 0, 2, student, rt__class_of(&r.task, i));
        rt__small_run_roll(&r, rt__small_run_network(&r, "teacher"), 1, 0, 4, first, rt__class_of(&r.task, i));
        for (int j = 0; j < RT__WIDTH; j++) sum += pow(student[j] - first[j], 2) / RT__WIDTH / N;
    }
    rt__small_run_close(&r);
    return fabs(got.drift / sqrt(sum) - 1);
}

/* ---- (1.39): two normal distributions of one variance. The guided denoiser is that of a third, at the mean (1 + omega) m_c - omega m. */

static rt_status two_classes(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        rt_field one = rt_oracle_field(((rt_oracle *const *)self)[y[i]]);
        RT_TRY(one.eval(one.self, at, 1, x + i, NULL, out + i, err));
    }
    return RT_OK;
}

static double guided_at(rt__witness *w, const rt_process *p, double t, double x)
{
    const double variance = 0.25, mean[2] = {0.8, -0.3}, omega = 1.7, m = (1 + omega) * mean[0] - omega * mean[1];
    const rt_prediction *v = rt_prediction_find("v", &w->err);
    rt_oracle *o[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) rt_oracle_gaussian(&o[i], 1, &mean[i], &variance, p, v, &w->err);
    rt_field field = {.self = o, .eval = two_classes, .prediction = v, .features = 1, .null_class = 1};
    double alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t), got = x;
    rt_sample_spec spec = {
        .process = p, .solver = rt_solver_find("ddim", &w->err), .steps = 1, .from = (double[]){t, 0}, .guidance = omega};
    if (rt_sample(&spec, &field, 1, &got, &(int64_t){0}, &w->err) != RT_OK) got = NAN;
    for (int i = 0; i < 2; i++) rt_oracle_free(o[i]);
    return fabs(got - (m + alpha * variance * (x - alpha * m) / (alpha * alpha * variance + beta * beta)));
}

static double guided(rt__witness *w) { return rt__everywhere(w, guided_at); }

const rt__equation rt__progressive[] = {
    {{"1.30", "DDIM_{s->t}(x_s; x0) = beta_t/beta_s x_s + alpha_s (alpha_t/alpha_s - beta_t/beta_s) x0", "src/diffusion/transition.c",
      "rt_ddim_coefficients", "the formula in long double; relative", 1e-14},
     ddim},
    {{"1.31", "x~_u = DDIM_{s->u}(x_s; x0(x_s, s))", "src/diffusion/solver_ancestral.c", "eps_step",
      "the formula in long double, a mixture's x0 by integration; relative", 1e-13},
     first_step},
    {{"1.32", "x~_t = DDIM_{u->t}(x~_u; x0(x~_u, u))", "src/diffusion/sample.c", "rt_sample", "likewise, two steps of the driver; relative",
      1e-12},
     second_step},
    {{"1.33", "x~_t = DDIM_{s->t}(x_s; x~)", "src/diffusion/transition.c", "rt_ddim_target",
      "the formula of the step in long double, from any x_s to any x_t; relative", 1e-13},
     matched},
    {{"1.34", "x~ = (beta_s x~_t - beta_t x_s)/(alpha_t beta_s - alpha_s beta_t)", "src/diffusion/transition.c",
      "rt_ddim_target_coefficients", "the formula in long double; in units of (alpha_t - alpha_s beta_t/beta_s)^-2", 1e-14},
     inverse},
    {{"lemma-2", "one DDIM step s -> t with x~ of (1.34) ends where two teacher steps s -> u -> t do", "src/diffusion/transition.c",
      "rt_ddim_target", "both sampled: a mixture's denoiser in two steps, a model that always answers x~ in one; relative", 1e-12},
     two_in_one},
    {{"1.35", "L_PD = E_k E_{x ~ p_{t_k}} [w(lambda_{t_k}) |f(x, t_k) - x~|^2]", "src/distill/pd.c", "pd_build",
      "the formula in double at the same draws, guided networks being black boxes in float; relative", 1e-5},
     pseudo_targets},
    {{"algorithm-2", "round by round: the student learns (1.35), becomes the teacher, every other time stays", "src/distill/pd.c",
      "pd_plan", "normal data, students as exact tables: one step after the rounds 16 -> 8 -> 4 -> 2 -> 1 against the product of the 16",
      1e-12},
     rounds},
    {{"1.36", "Psi_{s->t} = Psi_{u->t} o Psi_{s->u}", "src/diffusion/oracle.c", "rt_oracle_flow_map",
      "a mixture's map through three times between, against the x_t with as much mass below it", 1e-11},
     semigroup},
    {{"1.37", "E_s E_{x_s} |G(x_s, s, s - 2h) - Solver_{s-h->s-2h}(Solver_{s->s-h}(x_s))|^2", "src/distill/pd.c", "pd_build",
      "the formula in double at the draws of `pd` with the weight `map`, networks being black boxes in float; relative", 1e-5},
     maps},
    {{"1.38", "Solver_{s->0} = Solver_{h->0} o ... o Solver_{s-h->s-2h} o Solver_{s->s-h}", "src/distill/residual.c", "rt__residual",
      "the drift of a student from its first teacher, rolled out in double, networks being black boxes in float; relative", 1e-5},
     rollouts},
    {{"1.39", "x0^omega(x, s, c) = (1 + omega) x0(x, s, c) - omega x0(x, s, null)", "src/diffusion/sample.c", "guided",
      "two normal distributions of one variance: the denoiser of the one at the mean (1 + omega) m_c - omega m", 1e-12},
     guided},
    {{"1.40", "min E_omega E_s E_x [lambda(s) |x0_student(x_s, s, c, omega) - x0^omega(x_s, s, c)|^2]", "src/distill/guide.c",
      "guide_build",
      "the formula in double, the teacher two normal distributions and their mixture in closed form, the student a black box; relative",
      1e-10},
     rt__guided_call},
    {{"consistency", "f(x_s, s) = f(x_t, t) on one path, f(x, 0) = x", "src/distill/cd.c", "cd_build",
      "the loss of `cd` for the exact maps of a normal distribution to data, on pairs of points of its flow; its root, of the deviation",
      1e-12},
     rt__consistent_paths},
    RT__LAST,
};
