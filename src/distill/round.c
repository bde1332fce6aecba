/* round.c -- a round: the networks as its phases see them, their graphs and programs, and one update of all phases.
 *
 *     update u   for each phase that has a turn: its runs; each run slice by slice, the rank's own: inputs filled, program run; before that, where samples of a
 *                batch in slices are to know sums over all of it, a pass for each
 *
 * Which runs a phase makes, the clocks of its draws, its learning rate and the powers of Adam's decays are functions of u, so that nothing but the
 * networks' arrays and the position has to be kept. */
#include "distill/sources.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- turns and schedules */

int rt__phase_runs(const rt_phase_plan *p, int64_t u)
{
    int64_t period = p->period > 0 ? p->period : 1;
    return u >= p->first && (u - p->first) % period == 0 ? (p->runs > 0 ? p->runs : 1) : 0;
}

int64_t rt__phase_runs_before(const rt_phase_plan *p, int64_t u)
{
    int64_t period = p->period > 0 ? p->period : 1, turns = u > p->first ? (u - p->first + period - 1) / period : 0;
    return turns * (p->runs > 0 ? p->runs : 1);
}

/* Of update u of n, for a phase whose first update is 0. */
static double learning_rate(const rt_training *t, int64_t u, int64_t n)
{
    if (u < t->warmup) return t->lr * (double)(u + 1) / (double)t->warmup;
    double x = n > t->warmup ? (double)(u - t->warmup) / (double)(n - t->warmup) : 0;
    if (!strcmp(t->lr_schedule, "linear")) return t->lr * (1 - x);
    if (!strcmp(t->lr_schedule, "cosine")) return t->lr * 0.5 * (1 + cos(3.141592653589793 * x));
    if (!strcmp(t->lr_schedule, "tenth")) return t->lr * pow(0.1, x);
    return t->lr;
}

/* The average forgets its random start quickly: (1 + t)/(10 + t) until that exceeds the decay. */
static double average_decay(const rt_config *c, int64_t t)
{
    double early = (1.0 + (double)t) / (10.0 + (double)t);
    return early < c->train.ema ? early : c->train.ema;
}

/* ---- opening */

/* The teacher of round 0 is the original one, by its own solver, guided; a follower is the network it took its weights from, and steps as that does. */
static void place_networks(rt_task *t, int round)
{
    for (int i = 0; i < t->plan.n_networks; i++) {
        rt_network *n = &t->networks[i];
        if (n->plan->kind != RT_NETWORK_TEACHER) continue;
        n->denoiser = t->teacher;
        n->denoiser.solver = n->plan->solver;
        n->denoiser.guidance = n->plan->guidance;
        n->denoiser.null_class = t->null_class;
        if (round == 0 || !n->plan->follows) continue;
        n->denoiser = rt__network(t, n->plan->follows)->denoiser;
        n->denoiser.set = n->set;
    }
}

static rt_status build_phase(rt_round *r, const rt_phase_plan *plan, rt_error *err)
{
    rt_phase *p = &r->phases[r->n_phases++];
    *p = (rt_phase){.plan = plan,
                    .round = r,
                    .network = rt__network(r->task, plan->network),
                    .batch = r->task->config->train.batch,
                    .slice = rt__slice(r->task->config),
                    .last_loss = NAN,
                    .last_grad_norm = NAN,
                    .last_lr = NAN};
    for (int i = 0; i < RT_LOGGED; i++) p->last_logged[i] = NAN;
    for (int i = 0; i + 1 < r->n_phases; i++)
        if (r->phases[i].network == p->network)
            RT_RAISE(RT_E_INTERNAL, "phases '%s' and '%s' of a round both train '%s'", r->phases[i].plan->name, plan->name, plan->network);
    p->graph = rt_graph_new(r->task->real);
    if (!p->graph) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    RT_TRY(plan->build(p, err));
    RT_TRY(rt_graph_status(p->graph, err));
    if (!p->loss) RT_RAISE(RT_E_INTERNAL, "phase '%s' has no loss", plan->name);
    return RT_OK;
}

rt_status rt__round_open(rt_round *r, rt_task *t, int index, rt_error *err)
{
    rt_error local = {0};
    if (!err) err = &local;
    const rt_plan *plan = &t->plan;
    *r = (rt_round){.task = t, .index = index, .teacher_steps = plan->rounds[index].teacher_steps, .steps = plan->rounds[index].steps};
    place_networks(t, index);
    if (t->grid) {
        int stride = plan->step_counts[0] / r->teacher_steps;
        r->grid = malloc((size_t)(r->teacher_steps + 1) * sizeof *r->grid);
        if (!r->grid) RT_RAISE(RT_E_MEMORY, "out of memory for a grid of %d steps", r->teacher_steps);
        for (int k = 0; k <= r->teacher_steps; k++) r->grid[k] = t->grid[k * stride];
    }
    for (int i = 0; i < plan->n_phases; i++) {
        const rt_phase_plan *p = &plan->phases[i];
        if (index >= p->first_round && (p->end_round == 0 || index < p->end_round)) RT_TRY(build_phase(r, p, err));
    }
    return RT_OK;
}

static rt_status compile_phase(rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    const rt_config *c = t->config;
    rt_program_spec spec = {.n_outputs = 1,
                            .batch = rt__slice(c),
                            .threads = c->threads,
                            .choices = t->choices,
                            .backend = *c->backend ? rt_backend_find(c->backend) : NULL,
                            .rehearsal = t->dry_run,
                            .compute = rt_config_compute(c),
                            .shard = rt__shard(c),
                            .shards = c->train.batch / rt__shard(c) / rt_ranks_size(t->ranks),
                            .ranks = t->ranks};
    for (int i = 0; i < p->n_surveys; i++) {
        spec.outputs = &p->surveys[i].sum;
        RT_TRY(rt_compile(&p->surveys[i].program, p->graph, &spec, err));
    }
    rt_node *outputs[2 + RT_LOGGED] = {p->loss, p->update.grad_norm};
    for (int k = 0; k < p->n_logged; k++) outputs[2 + k] = p->logged[k].node;
    spec.outputs = outputs;
    spec.n_outputs = 2 + p->n_logged;
    spec.updates = &p->update.node;
    spec.n_updates = 1;
    spec.recompute = c->train.recompute ? p->loss : NULL;
    return rt_compile(&p->program, p->graph, &spec, err);
}

rt_status rt__round_compile(rt_round *r, rt_error *err)
{
    for (int i = 0; i < r->n_phases; i++) RT_TRY(compile_phase(&r->phases[i], err));
    return RT_OK;
}

void rt__round_free_programs(rt_round *r)
{
    for (int i = 0; i < r->n_phases; i++) {
        rt_phase *p = &r->phases[i];
        for (int k = 0; k < p->n_surveys; k++) {
            rt_program_free(p->surveys[k].program);
            p->surveys[k].program = NULL;
        }
        rt_program_free(p->program);
        p->program = NULL;
    }
}

void rt__round_close(rt_round *r)
{
    rt__round_free_programs(r);
    for (int i = 0; i < r->n_phases; i++) {
        for (int k = 0; k < r->phases[i].n_sources; k++) (r->phases[i].sources[k].free)(r->phases[i].sources[k].self);
        rt_graph_free(r->phases[i].graph);
    }
    free(r->grid);
    *r = (rt_round){0};
}

/* ---- updates */

rt_phase *rt__main_phase(rt_round *r)
{
    rt_phase *found = &r->phases[r->n_phases - 1];
    for (int i = 0; i < r->n_phases; i++)
        if (r->phases[i].network->plan->deployed) found = &r->phases[i];
    return found;
}

double rt__phase_flop(const rt_phase *p)
{
    const rt_config *c = p->round->task->config;
    double flop = rt_program_flop(p->program);
    for (int i = 0; i < p->n_surveys; i++) flop += rt_program_flop(p->surveys[i].program);
    return flop * (c->train.batch / rt__slice(c));
}

static double scalar(rt_program *p, const rt_node *n)
{
    const void *at = rt_program_data(p, n);
    return rt_graph_real(rt_node_graph(n)) == RT_F64 ? *(const double *)at : (double)*(const float *)at;
}

static void set_scalar(rt_program *p, const rt_node *n, double v)
{
    void *at = rt_program_data(p, n);
    if (at && rt_graph_real(rt_node_graph(n)) == RT_F64)
        *(double *)at = v;
    else if (at)
        *(float *)at = (float)v;
}

/* One pass of run t over this rank's slices of the batch. */
static rt_status run_slices(const rt_phase *p, rt_program *program, int64_t t, rt_clock clock, rt_error *err)
{
    const rt_config *c = p->round->task->config;
    const rt_ranks *ranks = p->round->task->ranks;
    int slice = rt__slice(c), part = c->train.batch / rt_ranks_size(ranks), begin = rt_ranks_rank(ranks) * part, end = begin + part;
    for (int first = begin; first < end; first += slice) {
        clock.first = (uint32_t)first;
        clock.resumed = first > begin;
        clock.more = first + slice < end;
        RT_TRY(rt__fill_inputs(p, t, first, slice, program, err));
        RT_TRY(rt_run(program, &clock, err));
    }
    return RT_OK;
}

/* What survey k found, to a program behind it. */
static void tell(const rt_phase *p, int k, rt_program *program)
{
    rt_program *from = p->surveys[k].program;
    const rt_node *sum = p->surveys[k].sum;
    void *to = rt_program_data(program, p->surveys[k].told);
    if (to) memcpy(to, rt_program_data(from, sum), (size_t)rt_program_count(from, sum) * rt_dtype_size(rt_node_dtype(sum)));
}

/* Every stream has draws of its own. */
rt_clock rt__phase_clock(const rt_phase *p, int64_t run)
{
    const rt_config *c = p->round->task->config;
    uint64_t round = (uint64_t)(p->round->index + 1), stream = (uint64_t)p->plan->stream;
    return (rt_clock){
        .seed = c->seed + 0x9e3779b97f4a7c15u * round + 0xbf58476d1ce4e5b9u * stream, .step = (uint32_t)run, .total = c->train.batch};
}

/* Networks that trail the one that was trained. */
static rt_status trail(const rt_task *t, const rt_network *leader, rt_error *err)
{
    for (int i = 0; i < t->plan.n_networks; i++) {
        const rt_network_plan *plan = &t->plan.networks[i];
        if (plan->trails && !strcmp(plan->trails, leader->plan->name))
            RT_TRY(rt_params_trail(t->networks[i].set, leader->set, plan->keep, err));
    }
    return RT_OK;
}

/* Run t of the phase in the round. */
static rt_status run_phase(rt_phase *p, int64_t t, rt_error *err)
{
    const rt_config *c = p->round->task->config;
    set_scalar(p->program, p->update.lr, p->last_lr);
    set_scalar(p->program, p->update.t, (double)(t + 1));
    set_scalar(p->program, p->update.decay, average_decay(c, t));
    if (p->run_number) set_scalar(p->program, p->run_number, (double)t);
    rt_clock clock = rt__phase_clock(p, t);
    for (int k = 0; k < p->n_surveys; k++) {
        RT_TRY(run_slices(p, p->surveys[k].program, t, clock, err));
        for (int j = k + 1; j < p->n_surveys; j++) tell(p, k, p->surveys[j].program);
        tell(p, k, p->program);
    }
    RT_TRY(run_slices(p, p->program, t, clock, err));
    RT_TRY(trail(p->round->task, p->network, err));
    p->last_loss = scalar(p->program, p->loss);
    p->last_grad_norm = scalar(p->program, p->update.grad_norm);
    for (int i = 0; i < p->n_logged; i++) p->last_logged[i] = scalar(p->program, p->logged[i].node);
    return RT_OK;
}

rt_status rt__round_update(rt_round *r, int64_t u, int64_t n, const char *where, int64_t update, rt_error *err)
{
    for (int i = 0; i < r->n_phases; i++) {
        rt_phase *p = &r->phases[i];
        int64_t first = p->plan->first, before = rt__phase_runs_before(p->plan, u);
        int runs = rt__phase_runs(p->plan, u);
        if (r->task->dry_run && runs == 0) runs = 1;
        for (int k = 0; k < runs; k++) {
            p->last_lr = learning_rate(&p->plan->training, u > first ? u - first : 0, n - first);
            RT_TRY(run_phase(p, before + k, err));
            if (!isfinite(p->last_loss) || !isfinite(p->last_grad_norm)) { /* alike on all ranks */
                rt_error_set(err, RT_E_DIVERGED, "%s: phase '%s' gave loss %g and gradient norm %g at update %lld", where, p->plan->name,
                             p->last_loss, p->last_grad_norm, (long long)update);
                return rt_ranks_agree(r->task->ranks, RT_E_DIVERGED, err);
            }
        }
    }
    return RT_OK;
}
