/* exponential.h -- what the solvers in half the log-SNR, l = log(alpha/beta), have in common. There the linear part of the ODE (or SDE) is solved
 * exactly, and what remains is an integral of a prediction m that is expanded around s:
 *
 *     x_t = carry x_s - scale [phi1 m + phi2 m' + phi3 m'' + ...] + noise z,    phi1 = e^u - 1,  phi(k+1) = phi(k)/u - 1/k!
 *
 * with m', m'', ... its derivatives in l, each times the power of h = l_t - l_s that makes it a number of m's size.
 *
 *     family   m     carry              scale    u       noise
 *     EPS      eps   alpha_t/alpha_s    beta_t   h       0                         DPM-Solver
 *     X0       x0    beta_t/beta_s      alpha_t  -h      0                         DPM-Solver++
 *     SDE      x0    beta_t/beta_s e^-h alpha_t  -2h     beta_t sqrt(1 - e^-2h)    SDE-DPM-Solver++ */
#ifndef RT_DIFFUSION_EXPONENTIAL_H
#define RT_DIFFUSION_EXPONENTIAL_H

#include "diffusion/diffusion_rows.h"

#include <math.h>

typedef enum rt__family { RT__EPS, RT__X0, RT__SDE } rt__family;

typedef struct rt__leg {
    double l_s, l_t, h; /* l_s is -infinity where alpha_s = 0; h = 0 where a scheduler stands still */
    double carry, scale, u, noise;
} rt__leg;

static inline double rt__half_log_snr(const rt__advance *a, double t) { return rt_process_log_snr(a->spec->process, t) / 2; }

static inline rt__leg rt__leg_between(const rt__advance *a, rt__family f, double s, double t)
{
    const rt_process *p = a->spec->process;
    double alpha_t = rt_process_alpha(p, t), beta_t = rt_process_beta(p, t), beta_s = rt_process_beta(p, s);
    rt__leg g = {.l_s = rt__half_log_snr(a, s), .l_t = rt__half_log_snr(a, t)};
    g.h = g.l_t - g.l_s;
    g.u = f == RT__EPS ? g.h : f == RT__X0 ? -g.h : -2 * g.h;
    g.carry = f == RT__EPS ? alpha_t / rt_process_alpha(p, s) : beta_t / beta_s * (f == RT__SDE ? exp(-g.h) : 1);
    g.scale = f == RT__EPS ? beta_t : alpha_t;
    g.noise = f == RT__SDE ? beta_t * sqrt(-expm1(-2 * g.h)) : 0;
    return g;
}

/* Whether the expansion has a length to be expanded in. */
static inline bool rt__leg_expands(const rt__leg *g) { return isfinite(g->l_s) && g->h > 0; }

static inline double rt__phi1(double u) { return expm1(u); }
static inline double rt__phi2(double u) { return rt__phi1(u) / u - 1; }
static inline double rt__phi3(double u) { return rt__phi2(u) / u - 0.5; }

/* The family's prediction among x0 and eps. */
static inline const double *rt__of_family(rt__family f, const double *x0, const double *eps) { return f == RT__EPS ? eps : x0; }

#endif
