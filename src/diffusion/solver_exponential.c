/* solver_exponential.c -- DPM-Solver and DPM-Solver++ from s to t by themselves: inner points, no memory. The expansion is that of exponential.h, its
 * terms from the predictions at inner times r, where l = l_s + r h: phi2 (m_r - m_s)/r and so on.
 *
 * Where alpha_s = 0 there is no l_s, and where a scheduler stands still h is 0: such a step is made by DDIM, which all of these are to first
 * order. */
#include "diffusion/exponential.h"

#include "base/internal.h"

/* y = carry x + M m + D (m_r - m): the form of every stage; m_r NULL where it has no second term. */
static void combine(const rt__advance *a, double *y, double carry, const double *x, double M, const double *m, double D, const double *m_r)
{
    for (int64_t i = 0; i < a->count; i++) y[i] = carry * x[i] + M * m[i] + (m_r ? D * (m_r[i] - m[i]) : 0);
}

static double between(const rt__advance *a, const rt__leg *g, double r)
{
    return rt_process_time(a->spec->process, 2 * (g->l_s + r * g->h));
}

/* The family's prediction at (u, r) into m; `other` is room for the one that is not asked for. */
static rt_status ask(rt__advance *a, rt__family f, const double *u, double r, double *m, double *other, rt_error *err)
{
    return f == RT__EPS ? rt__predict(a, u, r, other, m, err) : rt__predict(a, u, r, m, other, err);
}

static rt_status first(rt__advance *a, rt__family f, double s, double t, rt_error *err)
{
    rt__leg g = rt__leg_between(a, f, s, t);
    if (!rt__leg_expands(&g)) return rt__solver_ddim.step(a, s, t, err);
    combine(a, a->x, g.carry, a->x, -g.scale * rt__phi1(g.u), rt__of_family(f, a->x0, a->eps), 0, NULL);
    return RT_OK;
}

/* One inner point in the middle. */
static rt_status second(rt__advance *a, rt__family f, double s, double t, rt_error *err)
{
    const double r = 0.5, *m = rt__of_family(f, a->x0, a->eps);
    rt__leg g = rt__leg_between(a, f, s, t);
    if (!rt__leg_expands(&g)) return rt__solver_ddim.step(a, s, t, err);
    double *u = a->work[0], *inner = a->work[1], *other = a->work[2], middle = between(a, &g, r);
    rt__leg half = rt__leg_between(a, f, s, middle);
    combine(a, u, half.carry, a->x, -half.scale * rt__phi1(half.u), m, 0, NULL);
    RT_TRY(ask(a, f, u, middle, inner, other, err));
    double P = -g.scale * rt__phi1(g.u);
    combine(a, a->x, g.carry, a->x, P, m, P / (2 * r), inner);
    return RT_OK;
}

/* Inner points at one and two thirds. */
static rt_status third(rt__advance *a, rt__family f, double s, double t, rt_error *err)
{
    const double r1 = 1.0 / 3, r2 = 2.0 / 3, *m = rt__of_family(f, a->x0, a->eps);
    rt__leg g = rt__leg_between(a, f, s, t);
    if (!rt__leg_expands(&g)) return rt__solver_ddim.step(a, s, t, err);
    double *u = a->work[0], *inner = a->work[1], *other = a->work[2], one = between(a, &g, r1), two = between(a, &g, r2);
    rt__leg to_one = rt__leg_between(a, f, s, one), to_two = rt__leg_between(a, f, s, two);
    combine(a, u, to_one.carry, a->x, -to_one.scale * rt__phi1(to_one.u), m, 0, NULL);
    RT_TRY(ask(a, f, u, one, inner, other, err));
    combine(a, u, to_two.carry, a->x, -to_two.scale * rt__phi1(to_two.u), m, -to_two.scale * r2 / r1 * rt__phi2(to_two.u), inner);
    RT_TRY(ask(a, f, u, two, inner, other, err));
    combine(a, a->x, g.carry, a->x, -g.scale * rt__phi1(g.u), m, -g.scale / r2 * rt__phi2(g.u), inner);
    return RT_OK;
}

/* The same with points of the grid in place of inner ones, one call per step: orders 1, 2, 3, 1, ... A step of order o goes back to the state
 * o - 1 steps before and leaps from there to t; m_r are the predictions on the way. */
static rt_status from_grid(rt__advance *a, rt__family f, double s, double t, rt_error *err)
{
    int order = a->spec->order ? a->order : a->k % a->spec->solver->info.order + 1;
    if (order > a->n_past + 1) order = a->n_past + 1;
    if (order == 1) return first(a, f, s, t, err);
    const rt__past *start = &a->past[order - 2];
    rt__leg g = rt__leg_between(a, f, start->t, t);
    if (!rt__leg_expands(&g)) return rt__solver_ddim.step(a, s, t, err);
    const double *m = rt__of_family(f, start->x0, start->eps), *m_r = rt__of_family(f, a->x0, a->eps);
    double r = (rt__half_log_snr(a, s) - g.l_s) / g.h, slope = order == 2 ? rt__phi1(g.u) / 2 : rt__phi2(g.u);
    combine(a, a->x, g.carry, start->x, -g.scale * rt__phi1(g.u), m, -g.scale * slope / r, m_r);
    return RT_OK;
}

static rt_status dpm_1(rt__advance *a, double s, double t, rt_error *err) { return first(a, RT__EPS, s, t, err); }
static rt_status dpm_2(rt__advance *a, double s, double t, rt_error *err) { return second(a, RT__EPS, s, t, err); }
static rt_status dpm_3(rt__advance *a, double s, double t, rt_error *err) { return third(a, RT__EPS, s, t, err); }
static rt_status dpmpp_1s(rt__advance *a, double s, double t, rt_error *err) { return first(a, RT__X0, s, t, err); }
static rt_status dpmpp_2s(rt__advance *a, double s, double t, rt_error *err) { return second(a, RT__X0, s, t, err); }
static rt_status dpmpp_3s(rt__advance *a, double s, double t, rt_error *err) { return third(a, RT__X0, s, t, err); }
static rt_status dpm_grid(rt__advance *a, double s, double t, rt_error *err) { return from_grid(a, RT__EPS, s, t, err); }
static rt_status dpmpp_grid(rt__advance *a, double s, double t, rt_error *err) { return from_grid(a, RT__X0, s, t, err); }

#define NOISE "Lu et al. 2022, DPM-Solver"
#define DATA  "Lu et al. 2022, DPM-Solver++"
#define GRID  "its inner points are the grid's: orders 1, 2, ... in turn"

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
const rt_solver rt__solver_dpm_2s_grid = {
    {.name = "dpm-2s-grid", .source = NOISE "-2", .formula = GRID, .order = 2, .calls = 1, .history = 1}, .step = dpm_grid};
const rt_solver rt__solver_dpm_3s_grid = {
    {.name = "dpm-3s-grid", .source = NOISE "-3", .formula = GRID, .order = 3, .calls = 1, .history = 2}, .step = dpm_grid};
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
const rt_solver rt__solver_dpmpp_2s_grid = {
    {.name = "dpmpp-2s-grid", .source = DATA ", singlestep", .formula = GRID, .order = 2, .calls = 1, .history = 1}, .step = dpmpp_grid};
const rt_solver rt__solver_dpmpp_3s_grid = {
    {.name = "dpmpp-3s-grid", .source = DATA ", singlestep", .formula = GRID, .order = 3, .calls = 1, .history = 2}, .step = dpmpp_grid};
