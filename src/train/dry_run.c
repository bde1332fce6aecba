/* dry_run.c -- what a run would take, by doing it with programs that are planned and not run. */
#include "train/run.h"

#include "base/internal.h"

#include <stdlib.h>

/* One update stands for all of a round. */
static rt_status rehearse_round(rt__run *run, rt_run_plan *plan, rt_error *err)
{
    const rt_config *c = run->config;
    int64_t n = rt__round_updates(c, run->at.round);
    RT_TRY(rt__run_open_round(run, err));
    RT_TRY(rt__watch_open(run, err));
    for (int i = 0; i < run->round.n_phases; i++) {
        const rt_phase *p = &run->round.phases[i];
        double runs = (double)rt__phase_runs_before(p->plan, n);
        plan->flop_per_update += runs * rt__phase_flop(p);
    }
    RT_TRY(rt__round_update(&run->round, 0, n, c->out, 0, err));
    if (rt__pictures_every(run) < n) RT_TRY(rt__run_pictures(run, err));
    plan->updates += n;
    return rt__run_finish_round(run, err);
}

/* Bytes of the networks in a checkpoint, and of the results of all rounds. */
static size_t disk(const rt__run *run)
{
    const rt_task *t = &run->task;
    const rt_network *deployed = rt__deployed(t);
    int64_t kept = 0, saved = rt_params_count(deployed->set) * (deployed->average ? 2 : 1);
    for (int i = 0; i < t->plan.n_networks; i++)
        for (int role = 0; role < RT_ROLES && t->networks[i].set; role++)
            if (rt_params_has(t->networks[i].set, (rt_role)role)) kept += rt_params_trained(t->networks[i].set);
    if (run->selected) kept += rt_params_count(run->selected);
    int results = t->plan.n_rounds > 1 ? t->plan.n_rounds + 1 : 1;
    return (size_t)(kept * run->config->run.keep + saved * results) * sizeof(float);
}

rt_status rt_run_plan_only(const rt_config *c, rt_run_plan *plan, rt_error *err)
{
    rt_error local = {0};
    if (!err) err = &local;
    rt_rehearsal rehearsal = {0};
    rt__run run = {.config = c, .lock = -1};
    *plan = (rt_run_plan){0};
    run.task.dry_run = &rehearsal;
    rt_status status = rt__run_open(&run, err);
    while (status == RT_OK && run.at.round < run.task.plan.n_rounds) {
        status = rehearse_round(&run, plan, err);
        rt__round_close(&run.round);
    }
    if (status == RT_OK) {
        plan->parameters = rt_params_count(rt__deployed(&run.task)->set);
        plan->flop_per_update /= (double)plan->updates;
        plan->disk = disk(&run);
        plan->bytes = rehearsal.peak;
        plan->device_bytes = rehearsal.device_peak;
    }
    rt__run_close(&run);
    return status;
}
