/* solver_unipc.c -- UniPC (Zhao et al. 2023): the expansion of exponential.h with its integral written as B(h) sum_k rho_k D_k, where D_k = (m_k - m)/r_k
 * are differences to predictions at l_s + r_k h and the rho_k match the powers of h. The predictor (UniP) takes r_k < 0, earlier times; the
 * corrector (UniC) also r = 1, the end of the step just made, where the next step's call looks anyway: it mends the state that the call was
 * made from, at no cost. */
#include "diffusion/exponential.h"

#include "base/internal.h"

#include <string.h>

enum { MOST = 3 };

typedef enum scale_of { BH1, BH2 } scale_of; /* B(h) = u or e^u - 1 */

/* The n weights: sum_k rho_k r_k^i = (i + 1)! phi_(i+2)(u) / B for i = 0 .. n - 1. False where the r_k coincide. */
static bool weights(int n, const double *r, double u, double B, double *rho)
{
    double M[MOST][MOST + 1], phi = rt__phi1(u) / u - 1, factorial = 1;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n; k++) M[i][k] = pow(r[k], i);
        M[i][n] = phi * factorial / B;
        factorial *= i + 2;
        phi = phi / u - 1 / factorial;
    }
    for (int i = 0; i < n; i++) { /* Gauss and Jordan; distinct r_k need no pivots: the leading minors are those of Vandermonde */
        if (!(fabs(M[i][i]) > 0)) return false;
        for (int j = 0; j < n; j++)
            for (int k = n; j != i && k >= i; k--) M[j][k] -= M[j][i] / M[i][i] * M[i][k];
    }
    for (int i = 0; i < n; i++) rho[i] = M[i][n] / M[i][i];
    return true;
}

/* One leg from s, whose prediction is m, over `past` (newest first, `n` of them) and, as a corrector, m_end at its end. */
static bool leg(const rt__advance *a, rt__family f, scale_of scale, double s, double t, const double *x, const double *m, int n,
                const rt__past *past, const double *m_end, double *out)
{
    double r[MOST] = {0}, rho[MOST] = {0};
    const double *at[MOST] = {0};
    rt__leg g = rt__leg_between(a, f, s, t);
    if (!rt__leg_expands(&g)) return false;
    double B = scale == BH1 ? g.u : rt__phi1(g.u);
    for (int k = 0; k < n; k++) {
        r[k] = (rt__half_log_snr(a, past[k].t) - g.l_s) / g.h;
        at[k] = rt__of_family(f, past[k].x0, past[k].eps);
        if (!(isfinite(r[k]) && r[k] < (k ? r[k - 1] : 0))) n = k;
    }
    int terms = n;
    if (m_end) r[terms] = 1, at[terms++] = m_end;
    if (terms == 1)
        rho[0] = 0.5; /* as published: equal to the solution to the order that counts */
    else if (!weights(terms, r, g.u, B, rho))
        return false;
    for (int64_t i = 0; i < a->count; i++) {
        double sum = 0;
        for (int k = 0; k < terms; k++) sum += rho[k] * (at[k][i] - m[i]) / r[k];
        out[i] = g.carry * x[i] - g.scale * (rt__phi1(g.u) * m[i] + B * sum);
    }
    return true;
}

static rt_status unipc(rt__advance *a, rt__family f, scale_of scale, double s, double t, rt_error *err)
{
    const rt__past *last = a->past;
    const double *m = rt__of_family(f, a->x0, a->eps);
    int corrector = a->n_past < a->order_before ? a->n_past : a->order_before,
        predictor = a->n_past + 1 < a->order ? a->n_past + 1 : a->order;
    if (a->n_past > 0) leg(a, f, scale, last->t, s, last->x, rt__of_family(f, last->x0, last->eps), corrector - 1, last + 1, m, a->before);
    if (t == s) /* a step that stands still is the correction alone */
        memcpy(a->x, a->before, (size_t)a->count * sizeof *a->x);
    else if (!leg(a, f, scale, s, t, a->before, m, predictor - 1, a->past, NULL, a->x))
        return rt__solver_ddim.step(a, s, t, err);
    return RT_OK;
}

static rt_status bh2(rt__advance *a, double s, double t, rt_error *err) { return unipc(a, RT__X0, BH2, s, t, err); }
static rt_status bh1(rt__advance *a, double s, double t, rt_error *err) { return unipc(a, RT__X0, BH1, s, t, err); }
static rt_status eps(rt__advance *a, double s, double t, rt_error *err) { return unipc(a, RT__EPS, BH2, s, t, err); }

#define SOURCE "Zhao et al. 2023, UniPC"

const rt_solver rt__solver_unipc_2 = {{.name = "unipc-2",
                                       .source = SOURCE "-2, B(h) = e^u - 1",
                                       .formula = "x0 at s and one time earlier, corrected by the next call, which adds an order",
                                       .order = 2,
                                       .calls = 1,
                                       .history = 2},
                                      .step = bh2};
const rt_solver rt__solver_unipc_3 = {{.name = "unipc-3",
                                       .source = SOURCE "-3, B(h) = e^u - 1",
                                       .formula = "x0 at s and two times earlier, corrected by the next call, which adds an order",
                                       .order = 3,
                                       .calls = 1,
                                       .history = 3},
                                      .step = bh2};
const rt_solver rt__solver_unipc_3_bh1 = {
    {.name = "unipc-3-bh1", .source = SOURCE "-3, B(h) = u", .formula = "unipc-3 in the other scale", .order = 3, .calls = 1, .history = 3},
    .step = bh1};
const rt_solver rt__solver_unipc_3_eps = {
    {.name = "unipc-3-eps", .source = SOURCE "-3, on eps", .formula = "unipc-3 with eps for x0", .order = 3, .calls = 1, .history = 3},
    .step = eps};
