/* solver_exponential.c -- solvers that step in half the log-SNR, l = log(alpha/beta), in which the linear part of the ODE is solved exactly.
 * h = l_t - l_s > 0; an inner time r lies at l_s + r h. What remains is an integral of eps (DPM-Solver) or of x0 (DPM-Solver++) that is expanded
 * around s:
 *
 *     x_t = alpha_t/alpha_s x_s - beta_t  [phi1 eps_s + phi2 (eps_r - eps_s)/r + ...],   phi1 = e^h - 1,   phi2 = phi1/h - 1
 *     x_t = beta_t/beta_s x_s   - alpha_t [phi1 x0_s  + phi2 (x0_r  - x0_s)/r  + ...],   phi1 = e^-h - 1,  phi2 = -phi1/h - 1
 *
 * Where alpha_s = 0 there is no l_s, and where a scheduler stands still h is 0: such a step is made by DDIM, which all of these are to first
 * order. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>

typedef struct point {
    double t, alpha, beta, l;
} point;

static point at_time(const rt__advance *a, double t)
{
    const rt_process *p = a->spec->process;
    return (point){t, rt_process_alpha(p, t), rt_process_beta(p, t), rt_process_log_snr(p, t) / 2};
}

static point between(const rt__advance *a, point s, point t, double r)
{
    return at_time(a, rt_process_time(a->spec->process, 2 * (s.l + r * (t.l - s.l))));
}

/* (1.30) in its other form: x_t = alpha_t x0 + beta_t eps. Equal to A x_s + C x0 as long as x0 and eps explain x_s, which clipping of x0 ends. */
static rt_status ddim(rt__advance *a, double s, double t, rt_error *err)
{
    (void)s, (void)err;
    double alpha = rt_process_alpha(a->spec->process, t), beta = rt_process_beta(a->spec->process, t);
    for (int64_t i = 0; i < a->count; i++) a->x[i] = alpha * a->x0[i] + beta * a->eps[i];
    return RT_OK;
}

/* y = X x + M m + D (m_r - m): the form of every stage; m_r NULL where it has no second term. */
static void combine(const rt__advance *a, double *y, double X, const double *x, double M, const double *m, double D, const double *m_r)
{
    for (int64_t i = 0; i < a->count; i++) y[i] = X * x[i] + M * m[i] + (m_r ? D * (m_r[i] - m[i]) : 0);
}

/* Which prediction is expanded, and with it the weights of x_s, of -m_s and of -(m_r - m_s)/r on the way s -> t. */
typedef enum family { EPS, X0 } family;

static double carry(family f, point s, point t) { return f == X0 ? t.beta / s.beta : t.alpha / s.alpha; }
static double scale(family f, point t) { return f == X0 ? t.alpha : t.beta; }
static double phi1(family f, double h) { return f == X0 ? expm1(-h) : expm1(h); }
static double phi2(family f, double h) { return f == X0 ? -expm1(-h) / h - 1 : expm1(h) / h - 1; }

/* The family's prediction at (u, r) into m; `other` is room for the one that is not asked for. */
static rt_status ask(rt__advance *a, family f, const double *u, point r, double *m, double *other, rt_error *err)
{
    return f == X0 ? rt__predict(a, u, r.t, m, other, err) : rt__predict(a, u, r.t, other, m, err);
}

static const double *given(const rt__advance *a, family f) { return f == X0 ? a->x0 : a->eps; }

static rt_status first(rt__advance *a, family f, double s_time, double t_time, rt_error *err)
{
    point s = at_time(a, s_time), t = at_time(a, t_time);
    if (!(isfinite(s.l) && t.l > s.l)) return ddim(a, s_time, t_time, err);
    combine(a, a->x, carry(f, s, t), a->x, -scale(f, t) * phi1(f, t.l - s.l), given(a, f), 0, NULL);
    return RT_OK;
}

/* One inner point in the middle. */
static rt_status second(rt__advance *a, family f, double s_time, double t_time, rt_error *err)
{
    const double r = 0.5;
    point s = at_time(a, s_time), t = at_time(a, t_time), m = between(a, s, t, r);
    if (!(isfinite(s.l) && t.l > s.l)) return ddim(a, s_time, t_time, err);
    double h = t.l - s.l, *u = a->work[0], *inner = a->work[1], *other = a->work[2];
    combine(a, u, carry(f, s, m), a->x, -scale(f, m) * phi1(f, r * h), given(a, f), 0, NULL);
    RT_TRY(ask(a, f, u, m, inner, other, err));
    double P = -scale(f, t) * phi1(f, h);
    combine(a, a->x, carry(f, s, t), a->x, P, given(a, f), P / (2 * r), inner);
    return RT_OK;
}

/* Inner points at one and two thirds. */
static rt_status third(rt__advance *a, family f, double s_time, double t_time, rt_error *err)
{
    const double r1 = 1.0 / 3, r2 = 2.0 / 3;
    point s = at_time(a, s_time), t = at_time(a, t_time), one = between(a, s, t, r1), two = between(a, s, t, r2);
    if (!(isfinite(s.l) && t.l > s.l)) return ddim(a, s_time, t_time, err);
    double h = t.l - s.l, *u = a->work[0], *inner = a->work[1], *other = a->work[2];
    combine(a, u, carry(f, s, one), a->x, -scale(f, one) * phi1(f, r1 * h), given(a, f), 0, NULL);
    RT_TRY(ask(a, f, u, one, inner, other, err));
    combine(a, u, carry(f, s, two), a->x, -scale(f, two) * phi1(f, r2 * h), given(a, f), -scale(f, two) * r2 / r1 * phi2(f, r2 * h), inner);
    RT_TRY(ask(a, f, u, two, inner, other, err));
    combine(a, a->x, carry(f, s, t), a->x, -scale(f, t) * phi1(f, h), given(a, f), -scale(f, t) / r2 * phi2(f, h), inner);
    return RT_OK;
}

static rt_status dpm_1(rt__advance *a, double s, double t, rt_error *err) { return first(a, EPS, s, t, err); }
static rt_status dpm_2(rt__advance *a, double s, double t, rt_error *err) { return second(a, EPS, s, t, err); }
static rt_status dpm_3(rt__advance *a, double s, double t, rt_error *err) { return third(a, EPS, s, t, err); }
static rt_status dpmpp_1s(rt__advance *a, double s, double t, rt_error *err) { return first(a, X0, s, t, err); }
static rt_status dpmpp_2s(rt__advance *a, double s, double t, rt_error *err) { return second(a, X0, s, t, err); }
static rt_status dpmpp_3s(rt__advance *a, double s, double t, rt_error *err) { return third(a, X0, s, t, err); }

#define NOISE "Lu et al. 2022, DPM-Solver"
#define DATA  "Lu et al. 2022, DPM-Solver++"

const rt_solver rt__solver_ddim = {{.name = "ddim",
                                    .source = "(1.30), Song et al. 2021",
                                    .formula = "x_t = alpha_t x0 + beta_t eps",
                                    .order = 1,
                                    .calls = 1,
                                    .affine = true},
                                   .step = ddim};
const rt_solver rt__solver_dpm_1 = {{.name = "dpm-1",
                                     .source = NOISE "-1",
                                     .formula = "x_t = alpha_t/alpha_s x_s - beta_t (e^h - 1) eps: DDIM's map",
                                     .order = 1,
                                     .calls = 1,
                                     .affine = true},
                                    .step = dpm_1};
const rt_solver rt__solver_dpm_2 = {
    {.name = "dpm-2", .source = NOISE "-2", .formula = "eps at s and half-way in log-SNR", .order = 2, .calls = 2},
    .work = 3,
    .step = dpm_2};
const rt_solver rt__solver_dpm_3 = {
    {.name = "dpm-3", .source = NOISE "-3", .formula = "eps at s and two inner points", .order = 3, .calls = 3}, .work = 3, .step = dpm_3};
const rt_solver rt__solver_dpmpp_1s = {{.name = "dpmpp-1s",
                                        .source = DATA ", first order",
                                        .formula = "x_t = beta_t/beta_s x_s - alpha_t (e^-h - 1) x0: DDIM's map",
                                        .order = 1,
                                        .calls = 1,
                                        .affine = true},
                                       .step = dpmpp_1s};
const rt_solver rt__solver_dpmpp_2s = {
    {.name = "dpmpp-2s", .source = DATA ", singlestep", .formula = "x0 at s and half-way in log-SNR", .order = 2, .calls = 2},
    .work = 3,
    .step = dpmpp_2s};
const rt_solver rt__solver_dpmpp_3s = {
    {.name = "dpmpp-3s", .source = DATA ", singlestep", .formula = "x0 at s and two inner points", .order = 3, .calls = 3},
    .work = 3,
    .step = dpmpp_3s};
