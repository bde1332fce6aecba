/* solver_multistep.c -- DPM-Solver++ with memory: one call per step, the derivatives of x0 in l = log(alpha/beta) from predictions at earlier times.
 *
 *     x_t = beta_t/beta_s x_s - alpha_t (phi1 m - phi2 h m' + phi3 h^2 m''),   phi1 = e^-h - 1, phi2 = phi1/h + 1, phi3 = phi2/h - 1/2
 *
 * with m = x0 at s, derivatives in l. h m' and h^2 m''/2 are divided differences; published code takes the latter for h^2 m'', which halves the last
 * term and costs the third order. Rows start with as many terms as there are memories. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

#include <math.h>

static double half_log_snr(const rt__advance *a, double t) { return rt_process_log_snr(a->spec->process, t) / 2; }

/* The times in l: l[0] of s, l[1], ... of the memories; how many of them are of use (finite, in order). */
static int times(const rt__advance *a, double s, int most, double *l)
{
    int n = 0;
    l[0] = half_log_snr(a, s);
    while (n < most && n < a->n_past) {
        l[n + 1] = half_log_snr(a, a->past[n].t);
        if (!(isfinite(l[n + 1]) && l[n + 1] < l[n])) break;
        n++;
    }
    return n;
}

static rt_status multistep(rt__advance *a, double s, double t, int memories, rt_error *err)
{
    double l[RT__SOLVER_HISTORY + 1] = {0};
    int n = times(a, s, memories, l);
    double alpha = rt_process_alpha(a->spec->process, t), beta = rt_process_beta(a->spec->process, t);
    double h = half_log_snr(a, t) - l[0];
    if (!(isfinite(l[0]) && h > 0)) return rt__solver_ddim.step(a, s, t, err); /* no l_s, or the step stands still */
    double phi1 = expm1(-h), phi2 = phi1 / h + 1, phi3 = phi2 / h - 0.5, carry = beta / rt_process_beta(a->spec->process, s);
    double r0 = n > 0 ? (l[0] - l[1]) / h : 1, r1 = n > 1 ? (l[1] - l[2]) / h : 1;
    const double *m = a->x0, *m1 = n > 0 ? a->past[0].x0 : NULL, *m2 = n > 1 ? a->past[1].x0 : NULL;
    for (int64_t i = 0; i < a->count; i++) {
        double first = m1 ? (m[i] - m1[i]) / r0 : 0, second = 0;
        if (m2) {
            double before = (m1[i] - m2[i]) / r1;
            second = (first - before) / (r0 + r1);
            first += r0 * second;
        }
        double slope = m2 ? alpha * phi2 * first : -alpha / 2 * phi1 * first; /* of second order in the midpoint form, as published */
        a->x[i] = carry * a->x[i] - alpha * phi1 * m[i] + slope - 2 * alpha * phi3 * second;
    }
    return RT_OK;
}

static rt_status dpmpp_1m(rt__advance *a, double s, double t, rt_error *err) { return multistep(a, s, t, 0, err); }
static rt_status dpmpp_2m(rt__advance *a, double s, double t, rt_error *err) { return multistep(a, s, t, 1, err); }
static rt_status dpmpp_3m(rt__advance *a, double s, double t, rt_error *err) { return multistep(a, s, t, 2, err); }

#define DATA "Lu et al. 2022, DPM-Solver++, multistep"

const rt_solver rt__solver_dpmpp_1m = {{.name = "dpmpp-1m",
                                        .source = DATA,
                                        .formula = "x_t = beta_t/beta_s x_s - alpha_t (e^-h - 1) x0: DDIM's map",
                                        .order = 1,
                                        .calls = 1,
                                        .affine = true},
                                       .step = dpmpp_1m};
const rt_solver rt__solver_dpmpp_2m = {
    {.name = "dpmpp-2m", .source = DATA, .formula = "x0 at s and one time earlier", .order = 2, .calls = 1, .history = 1},
    .step = dpmpp_2m};
const rt_solver rt__solver_dpmpp_3m = {
    {.name = "dpmpp-3m", .source = DATA, .formula = "x0 at s and two times earlier", .order = 3, .calls = 1, .history = 2},
    .step = dpmpp_3m};
