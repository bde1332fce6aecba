/* solver_multistep.c -- DPM-Solver, DPM-Solver++ and its SDE with memory: one call per step, the derivatives of the prediction in l = log(alpha/beta)
 * (exponential.h) from predictions at earlier times. h m' and h^2 m''/2 are divided differences; published code takes the latter for h^2 m'', which
 * halves the last term and costs the third order: the rows "-published" do as it does. Rows start with as many terms as there are memories. And
 * iPNDM, which remembers eps and steps as DDIM does. */
#include "diffusion/exponential.h"

#include "base/internal.h"

typedef enum terms { WHOLE, PUBLISHED, SLOPE } terms; /* SLOPE: phi2 in the second order too, where others take phi1/2 ("midpoint") */

/* The times in l: l[0] of s, l[1], ... of the memories; how many of them are of use (finite, in order). */
static int times(const rt__advance *a, double s, int most, double *l)
{
    int n = 0;
    l[0] = rt__half_log_snr(a, s);
    while (n < most && n < a->n_past) {
        l[n + 1] = rt__half_log_snr(a, a->past[n].t);
        if (!(isfinite(l[n + 1]) && l[n + 1] < l[n])) break;
        n++;
    }
    return n;
}

static rt_status multistep(rt__advance *a, rt__family f, terms kind, double s, double t, rt_error *err)
{
    double l[RT__SOLVER_HISTORY + 1] = {0};
    rt__leg g = rt__leg_between(a, f, s, t);
    if (!rt__leg_expands(&g) && f != RT__SDE) return rt__solver_ddim.step(a, s, t, err);
    int n = rt__leg_expands(&g) ? times(a, s, a->order - 1, l) : 0;
    double phi1 = rt__phi1(g.u), phi2 = n > 0 ? rt__phi2(g.u) : 0, phi3 = n > 1 ? rt__phi3(g.u) : 0, last = kind == WHOLE ? 2 : 1;
    double r0 = n > 0 ? (l[0] - l[1]) / g.h : 1, r1 = n > 1 ? (l[1] - l[2]) / g.h : 1;
    const rt__past *past = a->past;
    const double *m = rt__of_family(f, a->x0, a->eps), *m1 = n > 0 ? rt__of_family(f, past[0].x0, past[0].eps) : NULL,
                 *m2 = n > 1 ? rt__of_family(f, past[1].x0, past[1].eps) : NULL;
    if (n == 1 && kind != SLOPE) phi2 = phi1 / 2;
    for (int64_t i = 0; i < a->count; i++) {
        double first = m1 ? (m[i] - m1[i]) / r0 : 0, second = 0;
        if (m2) {
            double before = (m1[i] - m2[i]) / r1;
            second = (first - before) / (r0 + r1);
            first += r0 * second;
        }
        a->x[i] = g.carry * a->x[i] - g.scale * (phi1 * m[i] + phi2 * first + last * phi3 * second) + (a->z ? g.noise * a->z[i] : 0);
    }
    return RT_OK;
}

static rt_status dpmpp(rt__advance *a, double s, double t, rt_error *err) { return multistep(a, RT__X0, WHOLE, s, t, err); }
static rt_status dpmpp_published(rt__advance *a, double s, double t, rt_error *err) { return multistep(a, RT__X0, PUBLISHED, s, t, err); }
static rt_status dpmpp_slope(rt__advance *a, double s, double t, rt_error *err) { return multistep(a, RT__X0, SLOPE, s, t, err); }
static rt_status dpm(rt__advance *a, double s, double t, rt_error *err) { return multistep(a, RT__EPS, WHOLE, s, t, err); }
static rt_status dpm_published(rt__advance *a, double s, double t, rt_error *err) { return multistep(a, RT__EPS, PUBLISHED, s, t, err); }
static rt_status sde(rt__advance *a, double s, double t, rt_error *err) { return multistep(a, RT__SDE, WHOLE, s, t, err); }

/* eps extrapolated over the step by Adams and Bashforth's weights for even steps, then DDIM. */
static rt_status ipndm(rt__advance *a, double s, double t, rt_error *err)
{
    static const double weights[4][4] = {{1}, {3. / 2, -1. / 2}, {23. / 12, -16. / 12, 5. / 12}, {55. / 24, -59. / 24, 37. / 24, -9. / 24}};
    int n = a->n_past < a->order ? a->n_past : a->order - 1;
    const rt_process *p = a->spec->process;
    const double *w = weights[n];
    (void)err;
    double alpha_s = rt_process_alpha(p, s), alpha_t = rt_process_alpha(p, t), beta_s = rt_process_beta(p, s),
           beta_t = rt_process_beta(p, t);
    for (int64_t i = 0; i < a->count; i++) {
        double mean = w[0] * a->eps[i];
        for (int k = 0; k < n; k++) mean += w[k + 1] * a->past[k].eps[i];
        /* alpha_t/alpha_s x_s + (beta_t - alpha_t beta_s/alpha_s) mean, with x_s = alpha_s x0 + beta_s eps, so that alpha_s may be 0 at first */
        double change = n == 0 ? 0 : (beta_t - alpha_t * beta_s / alpha_s) * (mean - a->eps[i]);
        a->x[i] = alpha_t * a->x0[i] + beta_t * a->eps[i] + change;
    }
    return RT_OK;
}

#define NOISE "Lu et al. 2022, DPM-Solver, multistep"
#define DATA  "Lu et al. 2022, DPM-Solver++, multistep"

const rt_solver rt__solver_dpm_2m = {
    {.name = "dpm-2m", .source = NOISE, .formula = "eps at s and one time earlier", .order = 2, .calls = 1, .history = 1}, .step = dpm};
const rt_solver rt__solver_dpm_3m_published = {{.name = "dpm-3m-published",
                                                .source = NOISE " in diffusers",
                                                .formula = "eps at s and two times earlier, half of the last term",
                                                .order = 2,
                                                .calls = 1,
                                                .history = 2},
                                               .step = dpm_published};
const rt_solver rt__solver_dpmpp_1m = {{.name = "dpmpp-1m",
                                        .source = DATA,
                                        .formula = "x_t = beta_t/beta_s x_s - alpha_t (e^-h - 1) x0: DDIM's map",
                                        .order = 1,
                                        .calls = 1,
                                        .affine = true},
                                       .step = dpmpp};
const rt_solver rt__solver_dpmpp_2m = {
    {.name = "dpmpp-2m", .source = DATA, .formula = "x0 at s and one time earlier", .order = 2, .calls = 1, .history = 1}, .step = dpmpp};
const rt_solver rt__solver_dpmpp_2m_heun = {{.name = "dpmpp-2m-heun",
                                             .source = DATA " (solver_type heun)",
                                             .formula = "x0 at s and one time earlier, phi2 for its slope",
                                             .order = 2,
                                             .calls = 1,
                                             .history = 1},
                                            .step = dpmpp_slope};
const rt_solver rt__solver_dpmpp_3m = {
    {.name = "dpmpp-3m", .source = DATA, .formula = "x0 at s and two times earlier", .order = 3, .calls = 1, .history = 2}, .step = dpmpp};
const rt_solver rt__solver_dpmpp_3m_published = {{.name = "dpmpp-3m-published",
                                                  .source = DATA " in diffusers",
                                                  .formula = "x0 at s and two times earlier, half of the last term",
                                                  .order = 2,
                                                  .calls = 1,
                                                  .history = 2},
                                                 .step = dpmpp_published};
const rt_solver rt__solver_sde_dpmpp_2m = {{.name = "sde-dpmpp-2m",
                                            .source = "Lu et al. 2022; k-diffusion",
                                            .formula = "the reverse SDE, x0 at s and one time earlier; DDPM's step to first order",
                                            .order = 2,
                                            .calls = 1,
                                            .history = 1,
                                            .stochastic = true},
                                           .step = sde};
const rt_solver rt__solver_ipndm = {
    {.name = "ipndm",
     .source = "Liu et al. 2022; Zhang & Chen 2023",
     .formula = "DDIM with (55 eps - 59 eps' + 37 eps'' - 9 eps''')/24; order 4 on grids even in beta/alpha",
     .order = 4,
     .calls = 1,
     .history = 3},
    .step = ipndm};
