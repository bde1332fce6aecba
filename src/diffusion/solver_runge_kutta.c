/* solver_runge_kutta.c -- the probability-flow ODE as any other: dx/dt = F(x, t) = alpha' x0(x, t) + beta' eps(x, t). That is (1.6) without f and g,
 * which diverge at s = 1 on some processes. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>
#include <string.h>

/* F(x, t) from the prediction there. */
static void slope(const rt__advance *a, double t, const double *x0, const double *eps, double *F)
{
    double alpha = rt_process_alpha_rate(a->spec->process, t), beta = rt_process_beta_rate(a->spec->process, t);
    for (int64_t i = 0; i < a->count; i++) F[i] = alpha * x0[i] + beta * eps[i];
}

/* F(x + h G, t): a stage. The point lies in work[0], its prediction replaces the one at (x, s). */
static rt_status stage(rt__advance *a, double t, double h, const double *G, double *F, rt_error *err)
{
    double *u = a->work[0];
    for (int64_t i = 0; i < a->count; i++) u[i] = a->x[i] + h * G[i];
    RT_TRY(rt__predict(a, u, t, a->x0, a->eps, err));
    slope(a, t, a->x0, a->eps, F);
    return RT_OK;
}

static rt_status euler(rt__advance *a, double s, double t, rt_error *err)
{
    (void)err;
    double *F = a->work[1];
    slope(a, s, a->x0, a->eps, F);
    for (int64_t i = 0; i < a->count; i++) a->x[i] += (t - s) * F[i];
    return RT_OK;
}

static rt_status heun(rt__advance *a, double s, double t, rt_error *err)
{
    double *F = a->work[1], *G = a->work[2], h = t - s;
    slope(a, s, a->x0, a->eps, F);
    RT_TRY(stage(a, t, h, F, G, err));
    for (int64_t i = 0; i < a->count; i++) a->x[i] += h / 2 * (F[i] + G[i]);
    return RT_OK;
}

static rt_status midpoint(rt__advance *a, double s, double t, rt_error *err)
{
    double *F = a->work[1], *G = a->work[2], h = t - s;
    slope(a, s, a->x0, a->eps, F);
    RT_TRY(stage(a, s + h / 2, h / 2, F, G, err));
    for (int64_t i = 0; i < a->count; i++) a->x[i] += h * G[i];
    return RT_OK;
}

static rt_status rk4(rt__advance *a, double s, double t, rt_error *err)
{
    double *F = a->work[1], *G = a->work[2], *sum = a->work[3], h = t - s;
    slope(a, s, a->x0, a->eps, F);
    RT_TRY(stage(a, s + h / 2, h / 2, F, G, err));
    for (int64_t i = 0; i < a->count; i++) sum[i] = F[i] + 2 * G[i];
    RT_TRY(stage(a, s + h / 2, h / 2, G, F, err));
    for (int64_t i = 0; i < a->count; i++) sum[i] += 2 * F[i];
    RT_TRY(stage(a, t, h, F, G, err));
    for (int64_t i = 0; i < a->count; i++) a->x[i] += h / 6 * (sum[i] + G[i]);
    return RT_OK;
}

/* The reverse SDE (1.5), dx = (F + g^2/(2 beta) eps) dt + g dW: what the noise adds, g^2/2 times the score, the drift takes away. */
static rt_status euler_maruyama(rt__advance *a, double s, double t, rt_error *err)
{
    const rt_process *p = a->spec->process;
    double *F = a->work[1], g2 = rt_process_diffusion2(p, s), beta = rt_process_beta(p, s);
    if (!isfinite(g2)) return rt__solver_ddpm.step(a, s, t, err); /* where alpha_s = 0 */
    slope(a, s, a->x0, a->eps, F);
    for (int64_t i = 0; i < a->count; i++) a->x[i] += (t - s) * (F[i] + g2 / (2 * beta) * a->eps[i]) + sqrt(g2 * (s - t)) * a->z[i];
    return RT_OK;
}

/* ---- Dormand & Prince 1980: order 5, and the difference to an order 4 as the error of a trial */

enum { STAGES = 7, MOST_TRIALS = 10000 };

static const double node[STAGES] = {0, 1. / 5, 3. / 10, 4. / 5, 8. / 9, 1, 1};
static const double tableau[STAGES][STAGES] = {
    {0},
    {1. / 5},
    {3. / 40, 9. / 40},
    {44. / 45, -56. / 15, 32. / 9},
    {19372. / 6561, -25360. / 2187, 64448. / 6561, -212. / 729},
    {9017. / 3168, -355. / 33, 46732. / 5247, 49. / 176, -5103. / 18656},
    {35. / 384, 0, 500. / 1113, 125. / 192, -2187. / 6784, 11. / 84},
};
static const double order_4[STAGES] = {5179. / 57600, 0, 7571. / 16695, 393. / 640, -92097. / 339200, 187. / 2100, 1. / 40};

/* u = x + h sum_j weights[j] F_j, F_j in work[1 + j]. */
static void add_slopes(const rt__advance *a, double h, const double *weights, int n, double *u)
{
    for (int64_t i = 0; i < a->count; i++) {
        double sum = 0;
        for (int j = 0; j < n; j++) sum += weights[j] * a->work[1 + j][i];
        u[i] = a->x[i] + h * sum;
    }
}

/* Steps of its own between s and t, as long as the tolerance lets them be, the same for all rows of the batch. */
static rt_status dopri5(rt__advance *a, double s, double t, rt_error *err)
{
    const double tolerance = a->spec->options.tolerance > 0 ? a->spec->options.tolerance : 1e-6;
    double now = s, h = t - s, *u = a->work[0], *eps = a->work[STAGES + 1];
    slope(a, s, a->x0, a->eps, a->work[1]);
    for (int trial = 0; now > t; trial++) {
        if (trial == MOST_TRIALS)
            RT_RAISE(RT_E_DIVERGED, "dopri5: %d trials between times %g and %g reached only %g; raise the tolerance (%g)", trial, s, t, now,
                     tolerance);
        if (now + h < t || now + h * 1.0001 < t) h = t - now;
        double end = now + h, error = 0;
        for (int i = 1; i < STAGES; i++) { /* the last stage's point is the result */
            add_slopes(a, h, tableau[i], i, u);
            double at = i >= STAGES - 2 ? end : now + node[i] * h;
            RT_TRY(rt__predict(a, u, at, a->work[STAGES], eps, err));
            slope(a, at, a->work[STAGES], eps, a->work[1 + i]);
        }
        for (int64_t i = 0; i < a->count; i++) {
            double difference = 0;
            for (int j = 0; j < STAGES; j++)
                difference += h * ((j < STAGES - 1 ? tableau[STAGES - 1][j] : 0) - order_4[j]) * a->work[1 + j][i];
            error = fmax(error, fabs(difference) / fmax(1, fmax(fabs(a->x[i]), fabs(u[i]))));
        }
        bool accepted = error <= tolerance; /* NaN: shorter */
        if (accepted) {
            memcpy(a->x, u, (size_t)a->count * sizeof *u);
            memcpy(a->work[1], a->work[STAGES], (size_t)a->count * sizeof *u);
            now = end;
        }
        h *= isfinite(error) ? fmin(5, fmax(0.2, 0.9 * pow(tolerance / fmax(error, 1e-300), 0.2))) : 0.2;
    }
    return RT_OK;
}

const rt_solver rt__solver_euler = {{.name = "euler",
                                     .source = "(1.6)",
                                     .formula = "x_t = x_s + (t - s) F(x_s, s), F = alpha' x0 + beta' eps",
                                     .order = 1,
                                     .calls = 1,
                                     .affine = true},
                                    .work = 2,
                                    .step = euler};
const rt_solver rt__solver_heun = {{.name = "heun",
                                    .source = "Heun 1900; Karras et al. 2022",
                                    .formula = "x_t = x_s + h/2 (F(x_s, s) + F(x_s + h F(x_s, s), t))",
                                    .order = 2,
                                    .calls = 2},
                                   .work = 3,
                                   .step = heun};
const rt_solver rt__solver_midpoint = {
    {.name = "midpoint", .source = "Runge 1895", .formula = "x_t = x_s + h F(x_s + h/2 F(x_s, s), s + h/2)", .order = 2, .calls = 2},
    .work = 3,
    .step = midpoint};
const rt_solver rt__solver_rk4 = {
    {.name = "rk4", .source = "Kutta 1901", .formula = "x_t = x_s + h/6 (F1 + 2 F2 + 2 F3 + F4)", .order = 4, .calls = 4},
    .work = 4,
    .step = rk4};
const rt_solver rt__solver_euler_maruyama = {{.name = "euler-maruyama",
                                              .source = "(1.5), Maruyama 1955",
                                              .formula = "x_t = x_s + (t - s) (F + g^2/(2 beta) eps) + g sqrt(s - t) z",
                                              .order = 1,
                                              .calls = 1,
                                              .stochastic = true},
                                             .work = 2,
                                             .step = euler_maruyama};
const rt_solver rt__solver_dopri5 = {{.name = "dopri5",
                                      .source = "Dormand & Prince 1980",
                                      .formula = "order 5 in as many steps between s and t as the tolerance asks for (7 calls and more)",
                                      .order = 5,
                                      .calls = 7},
                                     .work = 9,
                                     .step = dopri5};
