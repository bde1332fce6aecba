/* transition.c -- noising, the DDIM map and its inverse, guidance: as graphs and as coefficients. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"
#include "retort/ops.h"

#include <math.h>

rt_node *rt_diffuse(rt_node *x0, rt_node *alpha, rt_node *beta, rt_node *eps) { return rt_add(rt_mul(alpha, x0), rt_mul(beta, eps)); }

rt_node *rt_ddim_step(rt_node *xs, rt_node *x0, rt_node *alpha_s, rt_node *beta_s, rt_node *alpha_t, rt_node *beta_t)
{
    rt_node *A = rt_div(beta_t, beta_s), *C = rt_sub(alpha_t, rt_mul(alpha_s, A));
    return rt_add(rt_mul(A, xs), rt_mul(C, x0));
}

rt_node *rt_ddim_target(rt_node *xs, rt_node *xt, rt_node *A, rt_node *C) { return rt_div(rt_sub(xt, rt_mul(A, xs)), C); }

rt_node *rt_guide(rt_node *cond, rt_node *uncond, double omega) { return rt_sub(rt_scale(cond, 1 + omega), rt_scale(uncond, omega)); }

rt_status rt_ddim_coefficients(const rt_process *p, double s, double t, double *A, double *C, rt_error *err)
{
    RT_TRY(rt_process_check_step(p, s, t, err));
    double ratio = rt_process_beta(p, t) / rt_process_beta(p, s);
    *A = ratio;
    *C = fma(-rt_process_alpha(p, s), ratio, rt_process_alpha(p, t)); /* alpha_t - alpha_s A, rounded once */
    return RT_OK;
}

rt_status rt_ddim_target_coefficients(const rt_process *p, double s, double t, double *P, double *Q, rt_error *err)
{
    double A, C;
    RT_TRY(rt_ddim_coefficients(p, s, t, &A, &C, err));
    if (!(C > 0)) RT_RAISE(RT_E_USAGE, "times %g and %g have the same signal-to-noise ratio in double; take a coarser grid", s, t);
    *P = 1 / C;
    *Q = -A / C;
    return RT_OK;
}
