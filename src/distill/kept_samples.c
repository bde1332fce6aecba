/* kept_samples.c -- see kept_samples.h. */
#include "distill/kept_samples.h"
#include "distill/sources.h"

#include "base/internal.h"

enum { FOR_REGRESSION = 10000 }; /* pairs where the settings name no number */

#define STRUCT rt__sample_settings
const rt_config_key rt__sample_keys[RT__SAMPLE_KEYS] = {
    RT__INT64("dmd.pairs", pairs, 0, 1e9, "0",
              "samples of the teacher with their noises, drawn once and kept in the run directory: what dmd regresses on (0: 10000), or "
              "what a critic takes for real instead of data"),
    RT__INT("dmd.teacher-steps", steps, 1, 100000, "64", "steps of the teacher for its samples"),
    RT__TEXT("dmd.teacher-solver", solver, "ddim", "NAME",
             "of the teacher for its samples, one without noise: row of `retort list solvers`"),
};

rt_status rt__plan_samples(rt_plan *plan, const rt__sample_settings *own, rt_error *err)
{
    const rt_solver *solver = rt_solver_find(own->solver, err);
    if (!solver) rt_error_prefix(err, "dmd.teacher-solver");
    if (!solver) return RT_E_USAGE;
    if (rt_solver_draws(solver, &(rt_solver_options){0}))
        RT_RAISE(RT_E_USAGE,
                 "dmd.teacher-solver: %s adds noise, so that no sample belongs to a noise; give one that does not, such as ddim",
                 own->solver);
    for (int i = 0; i < plan->n_networks; i++)
        if (plan->networks[i].kind == RT_NETWORK_TEACHER) plan->networks[i].solver = solver;
    return RT_OK;
}

rt_status rt__open_samples(rt_phase *p, const rt__sample_settings *own, rt_error *err)
{
    return rt__source_pairs(p, own->pairs > 0 ? own->pairs : FOR_REGRESSION, own->steps, err);
}
