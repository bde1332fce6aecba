/* witness.c -- shortcuts that call the library. */
#include "verify/witness.h"

#include "base/internal.h"
#include "retort/ops.h"

#include <string.h>

double rt__level(const rt_process *p, int k)
{
    static const double log_snr[RT__LEVELS] = {6, 3, 0, -3, -6};
    double t = rt_process_time(p, log_snr[k]);
    return rt_process_discrete_steps(p) ? floor(t) + 0.5 : t;
}

double rt__everywhere(rt__witness *w, double (*check)(rt__witness *w, const rt_process *p, double t, double x))
{
    double worst = 0, x[RT__STATES];
    for (int i = 0; i < w->n; i++)
        for (int k = 0; k < RT__LEVELS; k++) {
            double t = rt__level(w->processes[i], k);
            rt__exact_states(rt_process_alpha(w->processes[i], t), rt_process_beta(w->processes[i], t), x);
            for (int j = 0; j < RT__STATES; j++) worst = rt__worse(worst, check(w, w->processes[i], t, x[j]));
        }
    return worst;
}

double rt__every_step(rt__witness *w, double (*check)(rt__witness *w, const rt_process *p, double s, double u, double t, double x))
{
    enum { N = 8 };
    double worst = 0, x[RT__STATES], grid[N + 1];
    for (int i = 0; i < w->n; i++) {
        const rt_process *p = w->processes[i];
        if (rt_grid_build("uniform", p, N, grid, &w->err) != RT_OK) return NAN;
        for (int k = 0; k + 2 <= N; k++) {
            rt__exact_states(rt_process_alpha(p, grid[k]), rt_process_beta(p, grid[k]), x);
            for (int j = 0; j < RT__STATES; j++) worst = rt__worse(worst, check(w, p, grid[k], grid[k + 1], grid[k + 2], x[j]));
        }
    }
    return worst;
}

void rt__move(rt__witness *w, const char *solver, const rt_process *p, int steps, const double *times, int64_t n, double *x)
{
    rt_oracle *o = rt__exact_oracle(w, p, "x0");
    const rt_solver *row = rt_solver_find(solver, &w->err);
    rt_status status = w->err.status;
    if (o && row) {
        rt_field field = rt_oracle_field(o);
        rt_sample_spec spec = {.process = p, .solver = row, .steps = steps, .from = times, .options.tolerance = 1e-12};
        status = rt_sample(&spec, &field, n, x, NULL, &w->err);
    }
    for (int64_t i = 0; status != RT_OK && i < n; i++) x[i] = NAN;
    rt_oracle_free(o);
}

double rt__lecture_ddim(const rt_process *p, double s, double t, double xs, double x0)
{
    long double alpha_s = rt_process_alpha(p, s), beta_s = rt_process_beta(p, s), alpha_t = rt_process_alpha(p, t),
                beta_t = rt_process_beta(p, t);
    long double C = alpha_s > 0 ? alpha_s * (alpha_t / alpha_s - beta_t / beta_s) : alpha_t;
    return (double)(beta_t / beta_s * (long double)xs + C * (long double)x0);
}

rt_graph *rt__doubles(rt__witness *w)
{
    rt_graph *g = rt_graph_new(RT_F64);
    if (!g) rt_error_set(&w->err, RT_E_MEMORY, "out of memory for a graph");
    return g;
}

rt_node *rt__numbers(rt_graph *g, int64_t n, const double *x) { return rt_reals(g, 1, &n, x); }

void rt__value(rt__witness *w, rt_node *node, int64_t n, double *out)
{
    rt_program *program = NULL;
    rt_program_spec spec = {.outputs = &node, .n_outputs = 1, .batch = 1, .threads = 1, .backend = rt_backend_find("reference")};
    rt_status status = rt_compile(&program, rt_node_graph(node), &spec, &w->err);
    if (status == RT_OK) status = rt_run(program, &(rt_clock){0}, &w->err);
    const double *values = status == RT_OK ? rt_program_data(program, node) : NULL;
    for (int64_t i = 0; i < n; i++) out[i] = values ? values[i] : NAN;
    rt_program_free(program);
}
