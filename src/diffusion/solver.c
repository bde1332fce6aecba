/* solver.c -- the table of solvers. A row advances the state from s to t > 0, given the prediction at (x, s). */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"

/* (1.30) in its other form: x_t = alpha_t x0 + beta_t eps. Equal to A x_s + C x0 as long as x0 and eps explain x_s, which clipping of x0 ends. */
static rt_status ddim(rt__advance *a, double s, double t, rt_error *err)
{
    (void)s, (void)err;
    double alpha = rt_process_alpha(a->spec->process, t), beta = rt_process_beta(a->spec->process, t);
    for (int64_t i = 0; i < a->count; i++) a->x[i] = alpha * a->x0[i] + beta * a->eps[i];
    return RT_OK;
}

/* dx/dt = alpha' x0 + beta' eps is (1.6) without f and g, which diverge at s = 1. */
static rt_status euler(rt__advance *a, double s, double t, rt_error *err)
{
    (void)err;
    double alpha = rt_process_alpha_rate(a->spec->process, s), beta = rt_process_beta_rate(a->spec->process, s);
    for (int64_t i = 0; i < a->count; i++) a->x[i] += (t - s) * (alpha * a->x0[i] + beta * a->eps[i]);
    return RT_OK;
}

static const rt_solver rows[] = {
    {{.name = "ddim",
      .source = "(1.30), Song et al. 2021",
      .formula = "x_t = alpha_t x0 + beta_t eps",
      .order = 1,
      .calls = 1,
      .affine = true},
     ddim},
    {{.name = "euler",
      .source = "(1.6)",
      .formula = "x_t = x_s + (t - s)(alpha'_s x0 + beta'_s eps)",
      .order = 1,
      .calls = 1,
      .affine = true},
     euler},
};

const rt_solver *rt_solver_find(const char *name, rt_error *err)
{
    int index = RT__FIND("solvers", name, rows, err);
    return index < 0 ? NULL : &rows[index];
}

bool rt_solver_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i].info.name, rows[i].info.source, rows[i].info.formula};
    return true;
}

const rt_solver_info *rt_solver_get_info(const rt_solver *s) { return &s->info; }
