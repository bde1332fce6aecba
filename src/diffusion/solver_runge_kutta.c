/* solver_runge_kutta.c -- the probability-flow ODE as any other: dx/dt = F(x, t) = alpha' x0(x, t) + beta' eps(x, t). That is (1.6) without f and g,
 * which diverge at s = 1 on some processes. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

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
