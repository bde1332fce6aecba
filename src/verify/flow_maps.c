/* flow_maps.c -- section 1.2: the probability-flow ODE, its flow map, solvers, knowledge distillation. */
#include "verify/small_run.h"
#include "verify/witness.h"

#include "base/internal.h"
#include "distill/velocity.h"

#include <string.h>

/* The velocity that solvers follow: one step of Euler's method is linear in it. */
static double velocity(rt__witness *w, const rt_process *p, double t, double x)
{
    double to = x;
    rt__move(w, "euler", p, 1, (double[]){t, t / 2}, 1, &to);
    return (x - to) / (t / 2);
}

/* (1.6) is the velocity for which mass is conserved: dp/dt + d(v p)/dx = 0. Both by differences of fourth order. */
static double continuity_at(rt__witness *w, const rt_process *p, double t, double x)
{
    static const double difference[] = {1 / 12.0, -8 / 12.0, 0, 8 / 12.0, -1 / 12.0};
    double alpha = rt_process_alpha(p, t), beta = rt_process_beta(p, t), dp = 0, flux = 0;
    double dt = rt_process_discrete_steps(p) ? 0.1 : 1e-3 * fmin(t, rt_process_end(p) - t), dx = 3e-3 * hypot(0.2 * alpha, beta);
    for (int i = 0; i < 5; i++) {
        double tau = t + (i - 2) * dt, y = x + (i - 2) * dx;
        if (difference[i] == 0) continue;
        dp += difference[i] * rt__exact_density(rt_process_alpha(p, tau), rt_process_beta(p, tau), x) / dt;
        flux += difference[i] * velocity(w, p, t, y) * rt__exact_density(alpha, beta, y) / dx;
    }
    return fabs(dp + flux) / (fabs(dp) + fabs(velocity(w, p, t, x)) * rt__exact_density(alpha, beta, x) / hypot(0.2 * alpha, beta));
}

static double continuity(rt__witness *w) { return rt__everywhere(w, continuity_at); }

/* From level to level, and back. */
static double flow_map(rt__witness *w)
{
    double worst = 0;
    for (int i = 0; i < w->n; i++) {
        const rt_process *p = w->processes[i];
        rt_oracle *o = rt__exact_oracle(w, p, "x0");
        for (int k = 0; k < RT__LEVELS * RT__LEVELS && o; k++) {
            double s = rt__level(p, k / RT__LEVELS), t = rt__level(p, k % RT__LEVELS), x[RT__STATES], to[RT__STATES] = {NAN};
            double a = rt_process_alpha(p, s), b = rt_process_beta(p, s), c = rt_process_alpha(p, t), d = rt_process_beta(p, t);
            rt__exact_states(a, b, x);
            rt_oracle_flow_map(o, a, b, c, d, RT__STATES, x, to, &w->err);
            for (int j = 0; j < RT__STATES; j++) worst = rt__worse(worst, fabs(to[j] - rt__exact_flow(a, b, c, d, x[j])) / hypot(c, d));
        }
        rt_oracle_free(o);
    }
    return worst;
}

/* How much the order of a row falls short of its claim on TrigFlow, until its error is at rounding. A row with memories starts with fewer, by DDIM,
 * which leaves order 2. */
static double shortfall(rt__witness *w, const rt_solver_info *solver)
{
    rt_process_spec spec = rt_process_defaults("trig");
    rt_process *p = NULL;
    if (rt_process_new(&p, &spec, &w->err) != RT_OK) return NAN;
    double s = 0.9, t = 0.1, start[RT__STATES], x[RT__STATES], times[513], last = 0, order = NAN;
    rt__exact_states(rt_process_alpha(p, s), rt_process_beta(p, s), start);
    for (int steps = 64; steps <= 512; steps *= 2) {
        double error = 0;
        for (int k = 0; k <= steps; k++) times[k] = s + (t - s) * k / steps;
        memcpy(x, start, sizeof x);
        rt__move(w, solver->name, p, steps, times, RT__STATES, x);
        for (int j = 0; j < RT__STATES; j++)
            error = rt__worse(error, fabs(x[j] - rt__exact_flow(rt_process_alpha(p, s), rt_process_beta(p, s), rt_process_alpha(p, t),
                                                                rt_process_beta(p, t), start[j])));
        if (error < 1e-11) {
            if (last == 0) order = solver->order;
            break;
        }
        if (last > 0) order = log2(last / error);
        last = error;
    }
    rt_process_free(p);
    return (solver->history > 0 ? fmin(solver->order, 2) : solver->order) - order;
}

static double solvers(rt__witness *w)
{
    double worst = 0;
    rt_row_text row;
    for (int i = 0; rt_solver_describe(i, &row); i++) {
        const rt_solver_info *solver = rt_solver_get_info(rt_solver_find(row.name, &w->err));
        if (!solver->stochastic) worst = rt__worse(worst, shortfall(w, solver));
    }
    return worst;
}

/* The loss of `kd` on a network with random weights, against (1.9) written out at the examples that it drew. */
static double knowledge(rt__witness *w)
{
    enum { N = 4 };
    rt__small_run r;
    static const char *const keys[] = {"kd.pairs", "24", "kd.steps", "4", NULL};
    rt__small_run_open(&r, "kd", keys, &w->err);
    double got = rt__small_run_loss(&r, NULL, 0), want = 0;
    const float *z = rt__small_run_input(&r, "noise");
    const int64_t *y = rt__small_run_input(&r, "y");
    for (int i = 0; z && y && i < RT__BATCH; i++) {
        double x[RT__WIDTH], G[RT__WIDTH];
        for (int j = 0; j < RT__WIDTH; j++) x[j] = (double)z[i * RT__WIDTH + j];
        rt__small_run_denoise(&r, rt__small_run_network(&r, "student"), 1, x, y[i], G);
        rt__small_run_roll(&r, rt__small_run_network(&r, "teacher"), 1, 0, N, x, y[i]);
        for (int j = 0; j < RT__WIDTH; j++) want += pow(G[j] - x[j], 2) / RT__WIDTH / RT__BATCH;
    }
    rt__small_run_close(&r);
    return fabs(got / want - 1);
}

/* The loss of `map`, t = 0 from every s, against (1.10) with w = 1 and d the mean square, at the states that it drew. */
static double matching(rt__witness *w)
{
    enum { N = 4 };
    rt__small_run r;
    static const char *const keys[] = {"map.steps", "4",       "map.teacher-steps", "4",  "map.teacher-solver", "ddim",
                                       "map.pairs", "to-data", "map.pool",          "16", "map.per-rollout",    "4",
                                       NULL};
    rt__small_run_open(&r, "map", keys, &w->err);
    double got = rt__small_run_loss(&r, NULL, 0), want = 0;
    const float *states = rt__small_run_input(&r, "xs");
    const int64_t *k = rt__small_run_input(&r, "k"), *y = rt__small_run_input(&r, "y");
    for (int i = 0; states && k && y && i < RT__BATCH; i++) {
        double s = 1 - (double)k[i] / N, x[RT__WIDTH], G[RT__WIDTH];
        for (int j = 0; j < RT__WIDTH; j++) G[j] = x[j] = (double)states[i * RT__WIDTH + j];
        rt__small_run_roll(&r, rt__small_run_network(&r, "student"), s, 0, 1, G, y[i]);
        rt__small_run_roll(&r, rt__small_run_network(&r, "teacher"), s, 0, N - (int)k[i], x, y[i]);
        for (int j = 0; j < RT__WIDTH; j++) want += pow(G[j] - x[j], 2) / RT__WIDTH / RT__BATCH;
    }
    rt__small_run_close(&r);
    return fabs(got / want - 1);
}

/* The average velocity of a mixture's flow on straight paths is its own target, with differences of fourth order along the flow for du/dt. */
static double average_velocity(rt__witness *w)
{
    enum { PAIRS = 5, N = PAIRS * RT__STATES };
    static const double pairs[PAIRS][2] = {{0.95, 0}, {0.7, 0.2}, {0.5, 0.45}, {0.3, 0.05}, {0.1, 0.02}};
    static const double difference[] = {1 / 12.0, -8 / 12.0, 0, 8 / 12.0, -1 / 12.0}, step = 1e-3;
    double u[N], v[N], du[N] = {0}, t[N], r[N], got[N], z[RT__STATES], worst = 0;
    for (int i = 0; i < N; i++) {
        t[i] = pairs[i / RT__STATES][0], r[i] = pairs[i / RT__STATES][1];
        rt__exact_states(1 - t[i], t[i], z);
        double x = z[i % RT__STATES], h = step * t[i];
        v[i] = rt__exact_noise(1 - t[i], t[i], x) - rt__exact_mean(1 - t[i], t[i], x);
        for (int k = 0; k < 5; k++) {
            double s = t[i] + (k - 2) * h, at = x + (k - 2) * h * v[i];
            double average = (at - rt__exact_flow(1 - s, s, 1 - r[i], r[i], at)) / (s - r[i]);
            if (k == 2) u[i] = average;
            du[i] += difference[k] * average / h;
        }
    }
    rt_graph *g = rt__doubles(w);
    if (!g) return NAN;
    rt__value(w, rt__meanflow_target(rt__numbers(g, N, v), rt__numbers(g, N, du), rt__numbers(g, N, t), rt__numbers(g, N, r)), N, got);
    rt_graph_free(g);
    for (int i = 0; i < N; i++) worst = rt__worse(worst, fabs(got[i] - u[i]));
    return worst;
}

const rt__equation rt__flow_maps[] = {
    {{"1.6", "dx/dt = f_t x - g_t^2/2 grad_x log p_t(x) = v(x, t)", "src/diffusion/solver_runge_kutta.c", "slope",
      "conservation of mass, dp/dt + d(v p)/dx = 0, by differences of a mixture's density; relative", 1e-8},
     continuity},
    {{"1.7", "Psi_{s->t}(x_s) = x_s + int_s^t v(x_tau, tau) dtau", "src/diffusion/oracle.c", "rt_oracle_flow_map",
      "the x_t with as much of a mixture's mass below it as below x_s, by bisection of error functions; relative to |(alpha_t, beta_t)|",
      1e-11},
     flow_map},
    {{"1.8", "Solver_{s->t}(x_s) = Psi_{s->t}(x_s) up to O(h^order)", "src/diffusion/sample.c", "rt_sample",
      "the same bisection: how far the order of the worst deterministic row falls short of its claim (at most 2 where a start-up limits "
      "it)",
      0.2},
     solvers},
    {{"1.9", "L_KD = E |G(x_1) - Solver_{1->0}(x_1)|^2", "src/distill/kd.c", "kd_build",
      "the formula in double at the same draws, networks being black boxes in float; relative", 1e-5},
     knowledge},
    {{"1.10", "L_oracle = E_{(s,t) ~ pi} E_{x_s} [w(s, t) d(G(x_s, s, t), Psi_{s->t}(x_s))]", "src/distill/map.c", "map_build",
      "the formula in double at the same states, networks being black boxes in float; relative", 1e-5},
     matching},
    {{"meanflow", "u(z_t, t, r) = v(z_t, t) - (t - r) du/dt, u = (z_t - Psi_{t->r}(z_t))/(t - r)", "src/distill/velocity.c",
      "rt__meanflow_target",
      "a mixture's flow on straight paths, z_t = (1 - t) x0 + t eps, by bisection of error functions, v by integration, du/dt by "
      "differences along (v, 1)",
      1e-7},
     average_velocity},
    RT__LAST,
};
