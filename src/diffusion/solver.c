/* solver.c -- the table of solvers. A row advances the state from s to t > 0, given the prediction at (x, s); the driver (sample.c) owns the rest. */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

static const rt_solver *const rows[] = {
    &rt__solver_ddim,
    &rt__solver_ddpm,
    &rt__solver_ddpm_large,
    &rt__solver_euler_ancestral,
    &rt__solver_renoise,
    &rt__solver_euler,
    &rt__solver_euler_maruyama,
    &rt__solver_heun,
    &rt__solver_midpoint,
    &rt__solver_rk4,
    &rt__solver_dopri5,
    &rt__solver_heun_sigma,
    &rt__solver_edm_stochastic,
    &rt__solver_dpm_1,
    &rt__solver_dpm_2,
    &rt__solver_dpm_3,
    &rt__solver_dpmpp_1s,
    &rt__solver_dpmpp_2s,
    &rt__solver_dpmpp_3s,
    &rt__solver_dpm_2s_grid,
    &rt__solver_dpm_3s_grid,
    &rt__solver_dpmpp_2s_grid,
    &rt__solver_dpmpp_3s_grid,
    &rt__solver_dpm_2m,
    &rt__solver_dpm_3m_published,
    &rt__solver_dpmpp_1m,
    &rt__solver_dpmpp_2m,
    &rt__solver_dpmpp_2m_heun,
    &rt__solver_dpmpp_3m,
    &rt__solver_dpmpp_3m_published,
    &rt__solver_sde_dpmpp_2m,
    &rt__solver_unipc_2,
    &rt__solver_unipc_3,
    &rt__solver_unipc_3_bh1,
    &rt__solver_unipc_3_eps,
    &rt__solver_ipndm,
};

const rt_solver *rt_solver_find(const char *name, rt_error *err)
{
    const char *names[RT_COUNT(rows)];
    for (size_t i = 0; i < RT_COUNT(rows); i++) names[i] = rows[i]->info.name;
    int index = RT__FIND("solvers", name, names, err);
    return index < 0 ? NULL : rows[index];
}

bool rt_solver_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i]->info.name, rows[i]->info.source, rows[i]->info.formula};
    return true;
}

const rt_solver_info *rt_solver_get_info(const rt_solver *s) { return &s->info; }
