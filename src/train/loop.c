/* loop.c -- the one training loop: rounds of a method, phases of a round, updates of a phase.
 *
 *     for each round        graph, phases, programs; fresh optimiser; tables of the round's grid
 *       for each update     fill the inputs, set lr and decay, run the phases; log, checkpoint, stop on request
 *       end of the round    write the student, measure it on held-out noise, let it become the teacher */
#include "train/run.h"

#include "base/internal.h"
#include "distill/residual.h"
#include "retort/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- schedules of a round of n updates */

static double learning_rate(const rt_config *c, int64_t u, int64_t n)
{
    if (u < c->train.warmup) return c->train.lr * (double)(u + 1) / (double)c->train.warmup;
    double x = n > c->train.warmup ? (double)(u - c->train.warmup) / (double)(n - c->train.warmup) : 0;
    if (!strcmp(c->train.lr_schedule, "linear")) return c->train.lr * (1 - x);
    if (!strcmp(c->train.lr_schedule, "cosine")) return c->train.lr * 0.5 * (1 + cos(3.141592653589793 * x));
    return c->train.lr;
}

/* The average forgets its random start quickly: (1 + t)/(10 + t) until that exceeds the decay. */
static double average_decay(const rt_config *c, int64_t t)
{
    double early = (1.0 + (double)t) / (10.0 + (double)t);
    return early < c->train.ema ? early : c->train.ema;
}

static int64_t round_updates(const rt_config *c, int64_t round)
{
    if (c->train.images > 0) return (c->train.images + c->train.batch - 1) / c->train.batch;
    return c->train.updates[round < c->train.n_updates ? round : c->train.n_updates - 1];
}

/* ---- a round */

static void free_programs(rt_distill *d)
{
    for (int i = 0; i < d->n_phases; i++) {
        rt_program_free(d->phases[i].program);
        d->phases[i].program = NULL;
    }
}

void rt__round_close(rt__run *run)
{
    rt_distill *d = &run->d;
    free_programs(d);
    if (d->source.free) d->source.free(d->source.self);
    rt_graph_free(d->graph);
    free(d->grid);
    d->n_phases = 0;
    d->source = (rt_source){0};
    d->graph = NULL;
    d->grid = NULL;
    d->draws = NULL;
    memset(d->inputs, 0, sizeof d->inputs);
}

rt_status rt__round_open(rt__run *run, rt_error *err)
{
    rt_distill *d = &run->d;
    const rt_config *c = run->config;
    d->err = err;
    d->round = (int)run->at.round;
    RT_TRY(d->method->plan(d));
    if (d->method->needs_teacher && d->first.guidance > 0 && d->null_class < 0)
        RT_RAISE(RT_E_USAGE, "%s: guidance needs a null class, and the teacher's recipe names none; give --null-class K", c->teacher);
    /* the teacher of round 0 is the first one, by its own solver, guided; later ones are former students, which make their steps as students do */
    d->teacher = d->round == 0 ? d->first : d->student;
    if (d->round > 0) d->teacher.set = run->teacher;
    if (d->n_chain > 0 && !d->fine) {
        d->fine = malloc((size_t)(d->chain[0] + 1) * sizeof *d->fine);
        if (!d->fine) RT_RAISE(RT_E_MEMORY, "out of memory for a grid of %d steps", d->chain[0]);
        RT_TRY(rt_grid_nested(d->process, d->chain, d->n_chain, d->fine, err));
    }
    if (d->n_chain > 0) {
        d->grid = malloc((size_t)(d->teacher_steps + 1) * sizeof *d->grid);
        if (!d->grid) RT_RAISE(RT_E_MEMORY, "out of memory for a grid of %d steps", d->teacher_steps);
        for (int k = 0; k <= d->teacher_steps; k++) d->grid[k] = d->fine[k * (d->chain[0] / d->teacher_steps)];
    }
    d->graph = rt_graph_new(RT_F32);
    if (!d->graph) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    RT_TRY(d->method->build(d));
    for (int i = 0; i < d->n_phases; i++) {
        rt_phase *p = &d->phases[i];
        rt_program_spec spec = {.outputs = (rt_node *[]){p->loss, p->update.grad_norm},
                                .n_outputs = 2,
                                .updates = &p->update.node,
                                .n_updates = 1,
                                .batch = rt__slice(c),
                                .threads = c->threads,
                                .choices = d->choices,
                                .backend = *c->backend ? rt_backend_find(c->backend) : NULL,
                                .recompute = c->train.recompute ? p->loss : NULL,
                                .rehearsal = d->rehearsal,
                                .compute = rt_config_compute(c)};
        RT_TRY(rt_compile(&p->program, d->graph, &spec, err));
    }
    return RT_OK;
}

static float scalar(rt_program *p, const rt_node *n) { return *(float *)rt_program_data(p, n); }
static void set_scalar(rt_program *p, const rt_node *n, double v)
{
    float *at = rt_program_data(p, n);
    if (at) *at = (float)v;
}

rt_status rt__update(rt__run *run, int64_t n, double *loss, double *grad_norm, rt_error *err)
{
    rt_distill *d = &run->d;
    const rt_config *c = run->config;
    int64_t u = run->at.in_round;
    for (int i = 0; i < d->n_phases; i++) {
        rt_phase *p = &d->phases[i];
        for (int k = 0; k < p->every; k++) {
            int64_t t = u * p->every + k;
            set_scalar(p->program, p->update.lr, learning_rate(c, u, n));
            set_scalar(p->program, p->update.t, (double)(t + 1));
            set_scalar(p->program, p->update.decay, average_decay(c, t));
            rt_clock clock = {
                .seed = c->seed + 0x9e3779b97f4a7c15u * (uint64_t)(d->round + 1), .step = (uint32_t)t, .total = c->train.batch};
            for (int first = 0, slice = rt__slice(c); first < c->train.batch; first += slice) {
                clock.first = (uint32_t)first;
                clock.resumed = first > 0;
                clock.more = first + slice < c->train.batch;
                RT_TRY(d->source.fill(d->source.self, t, first, slice, p->program, err));
                RT_TRY(rt_run(p->program, &clock, err));
            }
            *loss = scalar(p->program, p->loss);
            *grad_norm = scalar(p->program, p->update.grad_norm);
            if (!isfinite(*loss) || !isfinite(*grad_norm))
                RT_RAISE(RT_E_DIVERGED,
                         "%s: phase '%s' gave loss %g and gradient norm %g at update %lld; the last checkpoint is good: lower train.lr or "
                         "set train.clip",
                         run->config->out, p->name, *loss, *grad_norm, (long long)run->at.updates);
        }
    }
    return RT_OK;
}

static rt_status log_update(rt__run *run, double loss, double grad_norm, double lr, double rate, rt_error *err)
{
    rt_metric row[] = {{"update", (double)run->at.updates},
                       {"round", run->d.round},
                       {"examples", (double)run->at.examples},
                       {"loss", loss},
                       {"grad_norm", grad_norm},
                       {"lr", lr},
                       {"images_per_s", rate},
                       {"seconds", run->at.seconds}};
    return rt_metrics_append(run->config->out, row, RT_COUNT(row), err);
}

static void report_progress(const rt__run *run, const char *what, int64_t done, int64_t total, double loss)
{
    if (run->observer && run->observer->progress) run->observer->progress(run->observer->self, what, done, total, "updates", loss);
}

static rt_status train_round(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    rt_distill *d = &run->d;
    int64_t n = round_updates(c, d->round), tail = n / 10 > 0 ? n / 10 : 1;
    char what[96];
    if (d->steps > 0)
        snprintf(what, sizeof what, "round %d/%d: %d from %d steps", d->round + 1, d->n_rounds, d->steps, d->teacher_steps);
    else
        snprintf(what, sizeof what, "%s", d->method->name);
    double started = now(), before = run->at.seconds;
    int64_t first = run->at.in_round;
    while (run->at.in_round < n) {
        double loss = NAN, grad_norm = NAN, lr = learning_rate(c, run->at.in_round, n);
        RT_TRY(rt__update(run, n, &loss, &grad_norm, err));
        run->at.in_round++;
        run->at.updates++;
        run->at.examples += c->train.batch;
        run->at.seconds = before + now() - started;
        if (run->at.in_round > n - tail) run->at.loss_sum += loss, run->at.loss_n++;
        report_progress(run, what, run->at.in_round, n, loss);
        if (run->at.updates % c->run.log_every == 0 || run->at.in_round == n)
            RT_TRY(log_update(run, loss, grad_norm, lr, (double)((run->at.in_round - first) * c->train.batch) / (now() - started), err));
        if (c->run.sample_every > 0 && run->at.updates % c->run.sample_every == 0) RT_TRY(rt__run_pictures(run, err));
        bool stop = run->observer && run->observer->stop && run->observer->stop(run->observer->self);
        bool until = c->run.until_update > 0 && run->at.updates >= c->run.until_update;
        if (run->at.in_round < n && (stop || until || (c->run.checkpoint_every > 0 && run->at.updates % c->run.checkpoint_every == 0)))
            RT_TRY(rt__checkpoint_write(run, err));
        if (run->at.in_round < n && stop)
            RT_RAISE(RT_E_INTERRUPTED, "stopped after update %lld; `--resume` goes on", (long long)run->at.updates);
        if (run->at.in_round < n && until) return RT_OK;
    }
    return RT_OK;
}

static rt_status zero_optimiser(rt_params *set, rt_error *err)
{
    for (rt_role role = RT_MOMENT1; role <= RT_MOMENT2; role++)
        if (rt_params_has(set, role))
            memset(rt_params_data(set, role), 0, (size_t)rt_params_extent(set) * rt_dtype_size(rt_params_dtype(set)));
    return rt_params_copy(set, RT_AVERAGE, set, RT_VALUE, err);
}

static rt_status finish_round(rt__run *run, rt_error *err)
{
    rt_distill *d = &run->d;
    rt_round_report *r = &run->at.reports[run->at.n_reports];
    *r = (rt_round_report){.steps = d->steps,
                           .teacher_steps = d->teacher_steps,
                           .updates = run->at.in_round,
                           .examples = run->at.in_round * run->config->train.batch,
                           .seconds = run->at.seconds,
                           .residual = NAN,
                           .residual_relative = NAN,
                           .own_teacher = NAN,
                           .drift = NAN,
                           .spread = NAN,
                           .loss = run->at.loss_n != 0 ? run->at.loss_sum / (double)run->at.loss_n : NAN};
    free_programs(d); /* their memory is free for those that measure */
    RT_TRY(rt__show_student(run, err));
    RT_TRY(rt__accuracy(run, &run->at.accuracy, err));
    if (d->steps > 0) {
        rt_residual e;
        RT_TRY(rt__residual(d, run->config->pd.holdout, &e, err));
        r->residual = e.local, r->residual_relative = e.relative, r->own_teacher = e.own_teacher, r->drift = e.drift, r->spread = e.spread;
    }
    run->at.n_reports++;
    if (!d->rehearsal) RT_TRY(rt__result_write(run, err));
    RT_TRY(rt__run_pictures(run, err));
    RT_TRY(rt__run_keep_choices(run, err));
    if (run->teacher) RT_TRY(rt_params_copy(run->teacher, RT_VALUE, run->shown, RT_VALUE, err)); /* phi* <- theta (Algorithm 2) */
    if (run->teacher) RT_TRY(rt_params_copy(run->student, RT_VALUE, run->shown, RT_VALUE, err));
    run->at.round++;
    run->at.in_round = 0;
    run->at.loss_sum = 0;
    run->at.loss_n = 0;
    return RT_OK;
}

static void relay(void *self, const char *what, int64_t done, int64_t total)
{
    const rt_observer *o = self;
    if (o && o->progress) o->progress(o->self, what, done, total, "samples", NAN);
}
static bool asked_to_stop(void *self)
{
    const rt_observer *o = self;
    return o && o->stop && o->stop(o->self);
}

static void summarise(const rt__run *run, rt_run_summary *s)
{
    *s = (rt_run_summary){.n_rounds = (int)run->at.n_reports,
                          .updates = run->at.updates,
                          .images = run->at.examples,
                          .seconds = run->at.seconds,
                          .loss = NAN,
                          .accuracy = NAN};
    memcpy(s->rounds, run->at.reports, sizeof s->rounds);
    s->accuracy = s->n_rounds > 0 ? run->at.accuracy : NAN;
    if (s->n_rounds > 0) s->loss = s->rounds[s->n_rounds - 1].loss;
    snprintf(s->result, sizeof s->result, "%.1000s/%s", run->config->out, run->origin ? "student" : "model");
}

rt_status rt_run_train(const rt_config *c, bool resume, const rt_observer *observer, rt_run_summary *summary, rt_error *err)
{
    rt_error local = {0};
    if (!err) err = &local;
    rt__run run = {.config = c, .observer = observer, .lock = -1};
    run.d.self = (void *)(uintptr_t)observer;
    run.d.progress = relay;
    run.d.stop = asked_to_stop;
    run.d.choices = observer ? observer->choices : NULL;
    rt_status status = rt__run_open(&run, err);
    if (status == RT_OK) status = rt__run_claim(&run, resume, err);
    if (status == RT_OK) status = rt__run_keep_machine(&run, resume, err);
    if (status == RT_OK && resume) status = rt__checkpoint_read(&run, err);
    if (status == RT_OK && resume) status = rt_metrics_truncate(c->out, run.at.updates, err);
    bool stopped = false;
    if (status == RT_OK) {
        run.d.round = (int)run.at.round;
        status = run.d.method->plan(&run.d);
    }
    while (status == RT_OK && run.at.round < run.d.n_rounds && !stopped) {
        if (run.at.in_round == 0) status = zero_optimiser(run.student, err);
        if (status == RT_OK) status = rt__round_open(&run, err);
        if (status == RT_OK) status = rt__run_keep_choices(&run, err);
        if (status == RT_OK) status = train_round(&run, err);
        stopped = status == RT_OK && run.at.in_round < round_updates(c, run.d.round);
        if (status == RT_OK && !stopped) {
            status = finish_round(&run, err);
            if (status == RT_OK) status = rt__checkpoint_write(&run, err);
        }
        rt__round_close(&run);
    }
    if (summary) summarise(&run, summary);
    rt__run_close(&run);
    return status;
}

/* One update stands for all of a round. */
static rt_status rehearse_round(rt__run *run, rt_run_plan *plan, rt_error *err)
{
    const rt_config *c = run->config;
    rt_distill *d = &run->d;
    int64_t n = round_updates(c, run->at.round);
    double loss, grad_norm;
    RT_TRY(zero_optimiser(run->student, err));
    RT_TRY(rt__round_open(run, err));
    for (int i = 0; i < d->n_phases; i++)
        plan->flop_per_update += (double)n * d->phases[i].every * rt_program_flop(d->phases[i].program) * (c->train.batch / rt__slice(c));
    RT_TRY(rt__update(run, n, &loss, &grad_norm, err));
    if (c->run.sample_every > 0) RT_TRY(rt__run_pictures(run, err));
    plan->updates += n;
    return finish_round(run, err);
}

rt_status rt_run_plan_only(const rt_config *c, rt_run_plan *plan, rt_error *err)
{
    rt_error local = {0};
    if (!err) err = &local;
    rt_rehearsal rehearsal = {0};
    rt__run run = {.config = c, .lock = -1};
    *plan = (rt_run_plan){0};
    run.d.rehearsal = &rehearsal;
    rt_status status = rt__run_open(&run, err);
    int rounds = run.d.n_rounds;
    while (status == RT_OK && run.at.round < rounds) {
        status = rehearse_round(&run, plan, err);
        rt__round_close(&run);
    }
    if (status == RT_OK) {
        plan->parameters = rt_params_count(run.student);
        plan->flop_per_update /= (double)plan->updates;
        plan->disk = (size_t)plan->parameters * 4 * (size_t)(5 * c->run.keep + 2 * rounds);
        plan->bytes = rehearsal.peak;
    }
    rt__run_close(&run);
    return status;
}
