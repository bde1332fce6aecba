/* score_differences.c -- section 1.3: noising what a generator makes, conditional scores; the objectives that differences of scores give. */
#include "verify/density_ratios.h"
#include "verify/small_run.h"
#include "verify/witness.h"

#include "base/internal.h"
#include "distill/score_objectives.h"
#include "retort/ops.h"

#include <stdlib.h>

/* Gauss-Hermite: E f(z), z ~ N(0, 1), exact up to degree 9. */
enum { NODES = 5 };
static const double node[NODES] = {-2.8569700138728056, -1.3556261799742659, 0, 1.3556261799742659, 2.8569700138728056},
                    weight[NODES] = {0.011257411327720689, 0.22207592200561264, 8 / 15.0, 0.22207592200561264, 0.011257411327720689};

/* Moments 1 to 4 of x_t = alpha (slope z + offset) + beta eps over z and eps, all points of the product in one graph, against those of
 * N(alpha offset, (alpha slope)^2 + beta^2). */
static double moments(rt__witness *w, const rt_process *p, double t, double slope, double offset)
{
    enum { N = NODES * NODES };
    double alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t), x0[N], eps[N], x[N], worst = 0;
    for (int i = 0; i < N; i++) x0[i] = slope * node[i / NODES] + offset, eps[i] = node[i % NODES];
    rt_graph *g = rt__doubles(w);
    if (!g) return NAN;
    rt__value(w, rt_diffuse(rt__numbers(g, N, x0), rt_scalar(g, alpha), rt_scalar(g, beta), rt__numbers(g, N, eps)), N, x);
    rt_graph_free(g);
    double mean = alpha * offset, spread = hypot(alpha * slope, beta);
    for (int power = 1; power <= 4; power++) {
        double sum = 0;
        for (int i = 0; i < N; i++) sum += weight[i / NODES] * weight[i % NODES] * pow((x[i] - mean) / spread, power);
        worst = rt__worse(worst, fabs(sum - (double[]){0, 0, 1, 0, 3}[power]));
    }
    return worst;
}

static double given_x0_at(rt__witness *w, const rt_process *p, double t, double x0) { return moments(w, p, t, 0, x0); }
static double generated_at(rt__witness *w, const rt_process *p, double t, double offset) { return moments(w, p, t, 0.7, offset); }
static double given_x0(rt__witness *w) { return rt__everywhere(w, given_x0_at); }
static double generated(rt__witness *w) { return rt__everywhere(w, generated_at); }

/* The score that an x0-prediction says, against a difference of log N(x; alpha x0, beta^2), which is exact for a square. */
static double conditional_score_at(rt__witness *w, const rt_process *p, double t, double x)
{
    const rt_prediction *row = rt_prediction_find("x0", &w->err);
    double x0 = 0.4, alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t), score;
    if (!row) return NAN;
    rt_graph *g = rt__doubles(w);
    if (!g) return NAN;
    rt__value(w, rt_predict_score(row, rt__numbers(g, 1, &x0), rt__numbers(g, 1, &x), rt_scalar(g, alpha), rt_scalar(g, beta)), 1, &score);
    rt_graph_free(g);
    double up = (x + beta - alpha * x0) / beta, down = (x - beta - alpha * x0) / beta; /* a step of beta both ways */
    double difference = (-up * up / 2 + down * down / 2) / (2 * beta);
    return fabs(score - difference) * beta * beta / (fabs(x) + beta);
}

static double conditional_score(rt__witness *w) { return rt__everywhere(w, conditional_score_at); }

/* ---- the objective: an affine generator x0 = a z + b, whose p_t^theta is N(alpha b, (alpha a)^2 + beta^2), against the mixture. (z, eps)
 * are turned so that x_t varies with the first coordinate alone: trapezoids along it, whose error falls faster than any power of the step, and
 * Gauss-Hermite across, where what is integrated is a line. */
enum { ALONG = 401, POINTS = ALONG * NODES };
static const double wide = 10, slope = 0.7, offset = 0.2;

/* int p (log p - log q) dx of the two densities, written out. */
static double divergence(double alpha, double beta, double a, double b)
{
    double variance = alpha * alpha * a * a + beta * beta, spread = sqrt(variance), sum = 0;
    for (int i = -400; i <= 400; i++) {
        double u = i / 40.0, x = alpha * b + spread * u;
        sum += exp(-u * u / 2) * (-u * u / 2 - log(2 * M_PI * variance) / 2 - log(rt__exact_density(alpha, beta, x)));
    }
    return sum / 40 / sqrt(2 * M_PI);
}

typedef struct quadrature {
    rt_graph *g;
    rt_oracle *theta, *data;
    rt_node *a, *b, *weight, *x0, *xt, *alpha, *beta; /* weight: of N(z; 0, 1) N(eps; 0, 1), of sum 1; xt (POINTS,1) */
    rt_oracle_nodes of_theta, of_data;
} quadrature;

static bool open_quadrature(quadrature *q, rt__witness *w, const rt_process *p, double t)
{
    static double z[POINTS], eps[POINTS], weights[POINTS];
    const double variance = slope * slope, step = 2 * wide / (ALONG - 1), alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t);
    const double c = alpha * slope / hypot(alpha * slope, beta), d = beta / hypot(alpha * slope, beta);
    const rt_prediction *row = rt_prediction_find("x0", &w->err);
    *q = (quadrature){.g = rt__doubles(w), .data = rt__exact_oracle(w, p, "x0")};
    if (!q->g || !q->data || rt_oracle_gaussian(&q->theta, 1, &offset, &variance, p, row, &w->err) != RT_OK) return false;
    for (int i = 0; i < POINTS; i++) {
        double u = -wide + step * (i / NODES), v = node[i % NODES];
        z[i] = c * u + d * v;
        eps[i] = d * u - c * v;
        weights[i] = step * exp(-u * u / 2) / sqrt(2 * M_PI) * weight[i % NODES];
    }
    const int64_t column[] = {POINTS, 1}, points[] = {POINTS};
    q->a = rt_scalar(q->g, slope);
    q->b = rt_scalar(q->g, offset);
    q->alpha = rt_scalar(q->g, alpha);
    q->beta = rt_scalar(q->g, beta);
    q->weight = rt_reals(q->g, 1, points, weights);
    q->x0 = rt_add(rt_mul(q->a, rt_reals(q->g, 2, column, z)), q->b);
    q->xt = rt_diffuse(q->x0, q->alpha, q->beta, rt_reals(q->g, 2, column, eps));
    rt_oracle_build(q->theta, q->xt, q->alpha, q->beta, NULL, &q->of_theta);
    rt_oracle_build(q->data, q->xt, q->alpha, q->beta, NULL, &q->of_data);
    return true;
}

static void close_quadrature(quadrature *q)
{
    rt_graph_free(q->g);
    rt_oracle_free(q->theta);
    rt_oracle_free(q->data);
}

/* The worst over all processes and levels of the difference of `got`, a function of the quadrature, and `want`. */
static double on_levels(rt__witness *w, double (*error)(rt__witness *w, quadrature *q, double alpha, double beta))
{
    double worst = 0;
    for (int i = 0; i < w->n; i++)
        for (int k = 0; k < RT__LEVELS; k++) {
            double t = rt__level(w->processes[i], k);
            quadrature q;
            worst = rt__worse(worst, open_quadrature(&q, w, w->processes[i], t)
                                         ? error(w, &q, rt_process_alpha(w->processes[i], t), rt_process_beta(w->processes[i], t))
                                         : NAN);
            close_quadrature(&q);
        }
    return worst;
}

/* E_{x_t} (log p^theta - log p) at the noised samples of the generator. */
static rt_node *gap_of_densities(quadrature *q)
{
    return rt_sum(rt_mul(q->weight, rt_sub(q->of_theta.log_p, q->of_data.log_p)), RT_ALL_AXES, false);
}

static double expected_gap(rt__witness *w, quadrature *q, double alpha, double beta)
{
    double got, want = divergence(alpha, beta, slope, offset);
    rt__value(w, gap_of_densities(q), 1, &got);
    return fabs(got / want - 1);
}

/* Against differences of the divergence, in units of the larger of the two. */
static double gradient_error(rt__witness *w, rt_node *loss, quadrature *q, double alpha, double beta)
{
    const double h = 1e-3;
    rt_node *grads[2], *wrt[] = {q->a, q->b};
    double got[2], want[2], scale = 0;
    rt_grad(loss, wrt, 2, grads);
    for (int i = 0; i < 2; i++) {
        double a = i == 0 ? h : 0, b = h - a;
        want[i] = (8 * (divergence(alpha, beta, slope + a, offset + b) - divergence(alpha, beta, slope - a, offset - b)) -
                   (divergence(alpha, beta, slope + 2 * a, offset + 2 * b) - divergence(alpha, beta, slope - 2 * a, offset - 2 * b))) /
                  (12 * h);
        rt__value(w, grads[i], 1, &got[i]);
        scale = fmax(scale, fabs(want[i]));
    }
    return rt__worse(fabs(got[0] - want[0]), fabs(got[1] - want[1])) / scale;
}

/* The densities held still, the gradient of (1.14) runs through x_t alone; what it leaves out, E of the density's own derivative, is 0. */
static double through_samples(rt__witness *w, quadrature *q, double alpha, double beta)
{
    return gradient_error(w, gap_of_densities(q), q, alpha, beta);
}

/* omega 1: the weight is SNR; the mean over the points is a sum by their weights. */
static double along_scores(rt__witness *w, quadrature *q, double alpha, double beta)
{
    rt_node *difference = rt__score_difference(q->of_theta.x0, q->of_data.x0);
    rt_node *each = rt__follow(rt_scale(q->weight, alpha * alpha / (beta * beta)), difference, q->x0);
    return gradient_error(w, rt_sum(each, RT_ALL_AXES, false), q, alpha, beta);
}

static double divergences(rt__witness *w) { return on_levels(w, expected_gap); }
static double proposition_1(rt__witness *w) { return on_levels(w, through_samples); }
static double difference_of_scores(rt__witness *w) { return on_levels(w, along_scores); }

/* The two objectives of `vsd` on a network with random weights, at the times, classes and noises that it drew. */
static double scores(rt__witness *w, bool generator)
{
    rt__small_run r;
    const rt_density *even = rt_density_find("uniform", &w->err);
    double got = NAN, want = 0, low = generator ? 0.02 : 0, high = generator ? 0.98 : 1;
    rt__small_run_open(&r, "vsd", (const char *const[]){"vsd.score-weight", "snr", "vsd.weight", "snr", "vsd.guidance", "1.5", NULL},
                       &w->err);
    int n = w->err.status == RT_OK ? rt_density_count(even, r.process) : 0, first = 0, used = 0;
    double *times = calloc((size_t)(2 * n) + 1, sizeof *times);
    if (n > 0 && times && rt_density_times(even, r.process, NULL, n, times, times + n, &w->err) == RT_OK) {
        const int64_t shape[] = {RT_BATCH, RT__WIDTH}, one[] = {RT_BATCH};
        while (times[first] < low) first++;
        while (first + used < n && times[first + used] <= high) used++;
        if (generator) rt__small_run_phase(&r, "generator");
        rt_graph *g = r.phase->graph;
        rt_node *drawn[] = {rt_randn(g, "z", 2, shape), rt_randn(g, "eps", 2, shape), rt_randint(g, "t", 1, one, used),
                            rt_randint(g, "class", 1, one, RT__CLASSES - 1)};
        got = rt__small_run_loss(&r, drawn, 4);
        const float *z = rt__small_run_data(&r, drawn[0]), *eps = rt__small_run_data(&r, drawn[1]);
        const int64_t *k = rt__small_run_data(&r, drawn[2]), *y = rt__small_run_data(&r, drawn[3]);
        for (int i = 0; z && eps && k && y && i < RT__BATCH; i++) {
            double t = times[first + k[i]], a = cos(M_PI / 2 * t), b = sin(M_PI / 2 * t), start[RT__WIDTH], x0[RT__WIDTH], x[RT__WIDTH],
                   f[RT__WIDTH], teacher[RT__WIDTH];
            for (int j = 0; j < RT__WIDTH; j++) start[j] = (double)z[i * RT__WIDTH + j];
            rt__small_run_denoise(&r, rt__small_run_network(&r, "student"), 1, start, y[i], x0);
            for (int j = 0; j < RT__WIDTH; j++) x[j] = a * x0[j] + b * (double)eps[i * RT__WIDTH + j];
            rt__small_run_denoise(&r, rt__small_run_network(&r, "score"), t, x, y[i], f);
            rt__small_run_denoise(&r, rt__small_run_network(&r, "teacher"), t, x, y[i], teacher);
            for (int j = 0; j < RT__WIDTH; j++) {
                double s = (a * f[j] - x[j]) / (b * b), s_teacher = (a * teacher[j] - x[j]) / (b * b), given = (x[j] - a * x0[j]) / (b * b);
                want += (generator ? a * (s - s_teacher) * x0[j] : b * b * (s + given) * (s + given)) / RT__BATCH;
            }
        }
    }
    rt__small_run_close(&r);
    free(times);
    return fabs(got / want - 1);
}

static double auxiliary_score(rt__witness *w) { return scores(w, false); }
static double generator_step(rt__witness *w) { return scores(w, true); }

const rt__equation rt__score_differences[] = {
    {{"1.11", "x_t | x0 ~ N(alpha_t x0, beta_t^2 I), x0 = G(z)", "src/diffusion/transition.c", "rt_diffuse",
      "four moments over eps by Gauss-Hermite quadrature against those of the normal distribution", 1e-12},
     given_x0},
    {{"1.12", "x_t = alpha_t G(z) + beta_t eps", "src/diffusion/transition.c", "rt_diffuse",
      "an affine G: four moments over z and eps by quadrature against N(alpha_t b, alpha_t^2 a^2 + beta_t^2)", 1e-12},
     generated},
    {{"1.13", "L_VSD = E_t [omega(t) KL(p_t^theta || p_t)]", "src/diffusion/oracle_graph.c", "rt_oracle_build",
      "an affine G against a mixture, each t: log densities as nodes, averaged over z and eps by quadrature, against the integral over x "
      "written "
      "out; relative",
      1e-9},
     divergences},
    {{"1.14", "L_VSD = E_t E_{x_t ~ p_t^theta} [omega(t) (log p_t^theta(x_t) - log p_t(x_t))]", "src/diffusion/oracle_graph.c",
      "rt_oracle_build", "the same two sides: x_t is made by (1.12)", 1e-9},
     divergences},
    {{"proposition-1", "the gradient of (1.14) is (1.15): the score identity removes the density's own derivative",
      "src/diffusion/oracle_graph.c", "rt_oracle_build",
      "the gradient of (1.14) through x_t, densities held still, against differences of the integral (1.13), where they move; relative",
      1e-7},
     proposition_1},
    {{"1.15", "grad L_VSD = E [omega(t) alpha_t (grad_x log p_t^theta(x_t) - grad_x log p_t(x_t))^T dG(z)/dtheta]",
      "src/distill/score_objectives.c", "rt__follow",
      "an affine G against a mixture, exact scores, quadrature over z and eps: against differences of the integral (1.13); relative", 1e-7},
     difference_of_scores},
    {{"algorithm-1", "per iteration: the auxiliary score learns (1.17), then the generator steps along (1.18)", "src/distill/round.c",
      "rt__round_update",
      "`vsd` as it is trained, affine maps on a mixture: four updates, each of two steps of the score and one of the generator written out "
      "in double at the "
      "same draws; relative to what they move",
      1e-11},
     rt__algorithm_1},
    {{"1.16", "grad_x log p_t(x_t | x0) = -(x_t - alpha_t x0)/beta_t^2", "src/diffusion/prediction.c", "rt_predict_score",
      "central differences of log N(x; alpha_t x0, beta_t^2), exact for a square; in units of 1/beta^2", 1e-12},
     conditional_score},
    {{"1.17", "L_DSM = E |s(x_t, t) + (x_t - alpha_t x0)/beta_t^2|^2, x0 = G(z), x_t = alpha_t x0 + beta_t eps",
      "src/distill/score_objectives.c", "rt__denoising_score_matching",
      "the formula in double at the same draws, weighted by beta^2 (`snr`), networks being black boxes in float; relative", 2e-5},
     auxiliary_score},
    {{"1.18", "grad L_VSD = E [omega(t) alpha_t (s(x_t, t) - s_teacher(x_t, t))^T dG(z)/dtheta], nearly", "src/distill/score_objectives.c",
      "rt__follow", "its surrogate E [omega alpha sg[s - s_teacher]^T x0] in double at the same draws, omega 1, a guided teacher; relative",
      2e-5},
     generator_step},
    {{"1.19", "D_f(p_t^theta || p_t) = int p_t(x) f(p_t^theta(x)/p_t(x)) dx", "src/diffusion/divergence.c", "rt_divergence_weight_of",
      "every row between normal distributions: its integral against closed forms, E [u f''(u) (s - s_teacher)^T dx/dtheta] against "
      "differences of them; relative",
      1e-8},
     rt__f_divergences},
    {{"1.20", "D_alpha(p_t^theta || p_t) = log(int p_t^theta(x)^alpha p_t(x)^(1 - alpha) dx)/(alpha - 1)", "src/distill/ratio.c",
      "rt__renyi_weight",
      "normal distributions, alpha 1/2 and 2: the weights' gradient integrated along students from the teacher on, against the logarithm "
      "of the integral; relative",
      1e-8},
     rt__renyi_value},
    {{"1.21", "grad D_alpha = alpha/(alpha - 1) E_{x ~ q} [grad log p_t^theta(x)], q in proportion to p_t^theta^alpha p_t^(1 - alpha)",
      "src/distill/ratio.c", "rt__renyi_weight",
      "the student's density times its weights as q, against differences of (1.20) by integrals; relative", 1e-8},
     rt__renyi_tilted},
    {{"1.22", "q(x) = r(x)^(alpha - 1) p_t^theta(x) / int r(u)^(alpha - 1) p_t^theta(u) du, r = p_t^theta/p_t", "src/distill/ratio.c",
      "rt__renyi_weight",
      "the student's density times its weights, against p_t^theta^alpha p_t^(1 - alpha) over its integral; relative to the largest", 1e-11},
     rt__renyi_density},
    {{"1.23", "grad D_alpha = alpha/(alpha - 1) E [r^(alpha - 1) grad log p_t^theta] / E [r^(alpha - 1)], x ~ p_t^theta",
      "src/distill/ratio.c", "rt__renyi_weight",
      "as it is trained, alpha E [r^(alpha - 1) (s - s_teacher)^T dx/dtheta]/E [r^(alpha - 1)], against differences of (1.20) by "
      "integrals; relative",
      1e-8},
     rt__renyi_self_normalised},
    RT__LAST,
};
