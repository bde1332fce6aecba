/* loop.c -- the one training loop: rounds of a method, updates of a round; the phases of an update are walked by distill/round.c.
 *
 *     for each round        fresh optimisers; phases with their graphs, sources, programs
 *       for each update     run the phases that have a turn; log, checkpoint, stop on request
 *       end of the round    measure and write the deployed network; the copies that the method declares */
#include "train/run.h"

#include "base/internal.h"
#include "distill/residual.h"
#include "retort/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rt_status rt__run_open_round(rt__run *run, rt_error *err)
{
    if (run->at.in_round == 0) RT_TRY(rt__task_refresh(&run->task, err));
    RT_TRY(rt__round_open(&run->round, &run->task, (int)run->at.round, err));
    return rt__round_compile(&run->round, err);
}

/* ---- figures: those of the phase that trains the deployed network stand for the run, the others' columns begin with their phase's name */

enum { COLUMNS = 8 + RT_PHASES * (3 + RT_LOGGED) + RT_METERS * (1 + RT_METER_BINS), COLUMN = 64 };

typedef struct figures {
    rt_metric row[COLUMNS];
    char names[COLUMNS][COLUMN];
    int n;
} figures;

static void add_figure(figures *f, const char *phase, const char *name, double value)
{
    snprintf(f->names[f->n], COLUMN, "%s%s%s", phase ? phase : "", phase ? "_" : "", name);
    f->row[f->n] = (rt_metric){f->names[f->n], value};
    f->n++;
}

/* The meters of a reading; in the first row without one, too, whose names are the table's columns. */
static void add_meters(figures *f, const rt__run *run)
{
    bool read = run->read_at == run->at.updates;
    char name[COLUMN - 8];
    if (!read && run->at.updates > run->config->run.log_every) return;
    for (int i = 0; i < run->task.plan.n_meters; i++) {
        const rt_meter *m = run->task.plan.meters[i];
        add_figure(f, "meter", m->name, read ? run->reading.all[i] : NAN);
        for (int k = 0; k < RT_METER_BINS && read; k++) {
            snprintf(name, sizeof name, "%s_b%d", m->name, k);
            if (isfinite(run->reading.bins[i][k])) add_figure(f, "meter", name, run->reading.bins[i][k]);
        }
    }
}

static rt_status log_update(rt__run *run, double rate, rt_error *err)
{
    if (!rt__run_writes(run)) return RT_OK;
    const rt_phase *stands = rt__main_phase(&run->round);
    figures f = {.n = 0};
    add_figure(&f, NULL, "update", (double)run->at.updates);
    add_figure(&f, NULL, "round", run->round.index);
    add_figure(&f, NULL, "examples", (double)run->at.examples);
    const rt_showing *showing = run->task.method->showing;
    if (!showing) add_figure(&f, NULL, "loss", stands->last_loss);
    add_figure(&f, NULL, "grad_norm", stands->last_grad_norm);
    add_figure(&f, NULL, "lr", stands->last_lr);
    add_figure(&f, NULL, "images_per_s", rate);
    add_figure(&f, NULL, "seconds", run->at.seconds);
    for (int i = 0; i < run->round.n_phases; i++) {
        const rt_phase *p = &run->round.phases[i];
        const char *name = p->plan->name;
        if (p != stands) {
            add_figure(&f, name, "loss", p->last_loss);
            add_figure(&f, name, "grad_norm", p->last_grad_norm);
            add_figure(&f, name, "lr", p->last_lr);
        }
        for (int k = 0; k < p->n_logged; k++) add_figure(&f, name, p->logged[k].name, p->last_logged[k]);
    }
    add_meters(&f, run);
    if (showing) f.n += showing->figures(&run->round, COLUMNS - f.n, f.row + f.n);
    return rt_metrics_append(run->config->out, f.row, f.n, err);
}

static void report_progress(const rt__run *run, const char *what, int64_t done, int64_t total, double loss, double rate)
{
    const rt_showing *showing = run->task.method->showing;
    if (showing && run->observer && run->observer->live) {
        char text[192];
        int n = snprintf(text, sizeof text, rate < 10 ? "%.2g %s/s  " : "%.0f %s/s  ", rate, showing->items);
        showing->live((rt_round *)(uintptr_t)&run->round, run->headline, text + n, sizeof text - (size_t)n);
        run->observer->live(run->observer->self, text);
    }
    if (run->observer && run->observer->progress) run->observer->progress(run->observer->self, what, done, total, "updates", loss);
}

/* The remedy of a divergence depends on whether there is something to go back to, and on the method. */
static rt_status advised(const rt__run *run, rt_status status, rt_error *err)
{
    const rt_showing *showing = run->task.method->showing;
    if (status != RT_E_DIVERGED) return status;
    rt_error what = *err;
    *err = (rt_error){0};
    return rt_error_set(err, status, "%s; %s: %s", what.text,
                        rt__checkpoint_exists(run->config) ? "the last checkpoint is good" : "there is no checkpoint yet to go back to",
                        showing ? showing->remedy : "lower train.lr or set train.clip");
}

/* With a checkpoint, and the student that was selected. */
static rt_status leave_collapsed(rt__run *run, rt_error *err)
{
    rt_error other = {0};
    rt_status status = rt__checkpoint_write(run, &other);
    if (status == RT_OK && run->at.watch.best_update > 0) {
        rt__watch_say_selected(run);
        status = rt__result_write(run, &other);
    }
    if (status != RT_OK) *err = other;
    return rt_ranks_agree(run->task.ranks, status != RT_OK ? status : RT_E_DIVERGED, err);
}

static bool asked_to_stop(void *self)
{
    const rt_observer *o = self;
    return o && o->stop && o->stop(o->self);
}

/* After an update, which all ranks have made from the same sums: is it the same? Has any been asked to stop, is it time for a checkpoint by the clock of any? */
static rt_status meet(const rt__run *run, bool *stop, bool *due, rt_error *err)
{
    rt_ranks *ranks = run->task.ranks;
    const rt_phase *p = rt__main_phase((rt_round *)(uintptr_t)&run->round);
    int64_t least[3] = {*stop, *due}, most[3];
    memcpy(&least[2], &p->last_grad_norm, sizeof least[2]);
    RT_TRY(rt_ranks_range(ranks, 3, least, most, err));
    *stop = most[0] > 0;
    *due = most[1] > 0;
    if (least[2] != most[2])
        RT_RAISE(RT_E_COMM, "ranks have computed different gradients from the same sums; are their machines and libraries the same?");
    return RT_OK;
}

static rt_status keep(rt__run *run, rt_error *err)
{
    RT_TRY(advised(run, rt__checkpoint_write(run, err), err));
    run->kept_at = run->at.updates;
    run->kept_when = rt__seconds();
    return RT_OK;
}

/* A picture on the way that is interrupted is left out. */
static rt_status pictures_between(rt__run *run, rt_error *err)
{
    char line[96];
    rt_status status = rt__run_pictures(run, err);
    if (status != RT_E_INTERRUPTED) return status;
    *err = (rt_error){0};
    snprintf(line, sizeof line, "the pictures of update %lld are left out", (long long)run->at.updates);
    run->task.note(run->task.self, line);
    return RT_OK;
}

/* Interrupted in an update's first pool or behind a round's last update, the networks stand as update at.updates left them. */
static rt_status leave_interrupted(rt__run *run, rt_error *err)
{
    *err = (rt_error){0};
    if (run->at.updates > run->kept_at) RT_TRY(keep(run, err));
    if (run->task.method->showing && rt__run_writes(run)) RT_TRY(rt__result_write(run, err));
    rt_error_set(err, RT_E_INTERRUPTED, "stopped after update %lld; `--resume` goes on", (long long)run->at.updates);
    return rt_ranks_agree(run->task.ranks, RT_E_INTERRUPTED, err);
}

static rt_status train_round(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    const rt_round *r = &run->round;
    const rt_showing *showing = run->task.method->showing;
    int64_t n = rt__round_updates(c, r->index), tail = n / 10 > 0 ? n / 10 : 1;
    char what[96];
    if (r->steps > 0)
        snprintf(what, sizeof what, "round %d/%d: %d from %d steps", r->index + 1, run->task.plan.n_rounds, r->steps, r->teacher_steps);
    else if (showing && run->task.plan.n_rounds > 1)
        snprintf(what, sizeof what, "round %d/%d: update", r->index + 1, run->task.plan.n_rounds);
    else
        snprintf(what, sizeof what, "%s", showing ? "update" : run->task.method->name);
    double started = rt__seconds(), before = run->at.seconds;
    int64_t first = run->at.in_round;
    while (run->at.in_round < n && !run->at.ended) {
        RT_TRY(advised(run, rt__round_update(&run->round, run->at.in_round, n, c->out, run->at.updates, err), err));
        double loss = showing ? NAN : rt__main_phase(&run->round)->last_loss;
        if (showing && isnan(run->headline)) run->headline = showing->headline(&run->round);
        run->at.in_round++;
        run->at.updates++;
        run->at.examples += c->train.batch;
        run->at.seconds = before + rt__seconds() - started;
        if (run->at.in_round > n - tail && isfinite(loss)) run->at.loss_sum += loss, run->at.loss_n++;
        double rate = (double)((run->at.in_round - first) * c->train.batch) / (rt__seconds() - started);
        report_progress(run, what, run->at.in_round, n, loss, rate);
        rt__verdict verdict;
        RT_TRY(rt__watch_update(run, run->at.in_round == n, &verdict, err));
        if (run->at.updates % c->run.log_every == 0 || run->at.in_round == n || run->read_at == run->at.updates)
            RT_TRY(log_update(run, rate, err));
        int64_t drawn = c->run.sample_every > 0 ? run->at.updates : run->at.in_round;
        if (run->at.in_round < n && drawn % rt__pictures_every(run) == 0) RT_TRY(pictures_between(run, err));
        run->at.ended = verdict == RT_FLAT;
        if (verdict == RT_COLLAPSED) return leave_collapsed(run, err);
        if (run->at.ended) return RT_OK;
        bool stop = asked_to_stop((void *)(uintptr_t)run->observer),
             due = (c->run.checkpoint_every > 0 && run->at.updates % c->run.checkpoint_every == 0) ||
                   (c->run.checkpoint_minutes > 0 && rt__seconds() - run->kept_when >= 60 * c->run.checkpoint_minutes);
        RT_TRY(meet(run, &stop, &due, err));
        bool until = c->run.until_update > 0 && run->at.updates >= c->run.until_update;
        if (run->at.in_round < n && (stop || until || due)) RT_TRY(keep(run, err));
        if (run->at.in_round < n && stop) RT_RAISE(RT_E_INTERRUPTED, "stopped");
        if (run->at.in_round < n && until) return RT_OK;
    }
    return RT_OK;
}

rt_status rt__run_finish_round(rt__run *run, rt_error *err)
{
    rt_task *t = &run->task;
    rt_round *round = &run->round;
    rt_round_report *r = &run->at.reports[run->at.n_reports];
    *r = (rt_round_report){.steps = round->steps,
                           .teacher_steps = round->teacher_steps,
                           .updates = run->at.in_round,
                           .examples = run->at.in_round * run->config->train.batch,
                           .seconds = run->at.seconds,
                           .residual = NAN,
                           .residual_relative = NAN,
                           .own_teacher = NAN,
                           .drift = NAN,
                           .spread = NAN,
                           .loss = run->at.loss_n != 0 ? run->at.loss_sum / (double)run->at.loss_n : NAN};
    rt__meters_close(&run->meters);
    rt__round_free_programs(round); /* their memory is free for those that measure */
    run->at.accuracy = NAN;
    if (t->method->measure) RT_TRY(t->method->measure(round, &run->at.accuracy, err));
    if (t->plan.held_out > 0) {
        rt_residual e;
        RT_TRY(rt__residual(round, rt__at_most_an_eighth(round, t->plan.held_out, 8), &e, err));
        r->residual = e.local, r->residual_relative = e.relative, r->own_teacher = e.own_teacher, r->drift = e.drift, r->spread = e.spread;
    }
    rt__watch_say_selected(run);
    if (!t->dry_run) RT_TRY(rt__result_write(run, err));
    RT_TRY(rt__run_pictures(run, err));
    run->at.n_reports++; /* from here on nothing stops */
    RT_TRY(rt__run_keep_choices(run, err));
    RT_TRY(rt__task_succeed(t, err));
    if (t->method->showing) RT_TRY(t->method->showing->succeed(round, err));
    run->at.round++;
    run->at.in_round = 0;
    run->at.ended = 0;
    run->at.loss_sum = 0;
    run->at.loss_n = 0;
    return RT_OK;
}

static void relay(void *self, const char *what, int64_t done, int64_t total)
{
    const rt_observer *o = self;
    if (o && o->progress) o->progress(o->self, what, done, total, "samples", NAN);
}
static void relay_note(void *self, const char *line)
{
    const rt_observer *o = self;
    if (o && o->note) o->note(o->self, line);
}

static void summarise(const rt__run *run, rt_run_summary *s)
{
    *s = (rt_run_summary){.n_rounds = (int)run->at.n_reports,
                          .updates = run->at.updates,
                          .images = run->at.examples,
                          .seconds = run->at.seconds,
                          .loss = NAN,
                          .accuracy = NAN,
                          .finished = run->at.round >= run->task.plan.n_rounds};
    memcpy(s->rounds, run->at.reports, sizeof s->rounds);
    s->accuracy = s->n_rounds > 0 ? run->at.accuracy : NAN;
    if (s->n_rounds > 0) s->loss = s->rounds[s->n_rounds - 1].loss;
    const rt_network *deployed = rt__deployed(&run->task);
    if (deployed) snprintf(s->result, sizeof s->result, "%.960s/%.60s", run->config->out, deployed->plan->name);
}

/* A resumed run may have more updates than it was begun with, in rounds that go on: the learning rate follows the new number. */
static rt_status take_updates(const rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    char path[RT_CONFIG_TEXT + 16], line[256] = "";
    rt_config begun;
    snprintf(path, sizeof path, "%s/config.yaml", c->out);
    RT_TRY(rt_config_method(&begun, c->method, err));
    RT_TRY(rt_config_read(&begun, path, err));
    for (int64_t i = 0; i < run->task.plan.n_rounds; i++) {
        long long before = rt__round_updates(&begun, i), updates = rt__round_updates(c, i);
        if (updates == before) continue;
        if (i < run->at.round)
            RT_RAISE(RT_E_USAGE, "train.updates: %lld, but round %lld has ended after %lld; leave its number as it is", updates,
                     (long long)i + 1, before);
        if (updates < before)
            RT_RAISE(RT_E_USAGE, "train.updates: %lld, but round %lld was begun with %lld; a resumed run can have more, not fewer", updates,
                     (long long)i + 1, before);
        if (!*line)
            snprintf(line, sizeof line,
                     "round %lld has %lld updates instead of %lld, which the learning rate follows from here on: the bits are not those of "
                     "a run "
                     "begun so",
                     (long long)i + 1, updates, before);
    }
    if (!*line) return RT_OK;
    run->task.note(run->task.self, line);
    return rt_config_write(c, path, err); /* so the next resumption goes on with them */
}

/* Does the run go on that is there? Rank 0 sees for all. */
static rt_status decide_resume(const rt__run *run, bool *resume, rt_error *err)
{
    int64_t goes_on = *resume && rt__run_exists(run->config);
    RT_TRY(rt_ranks_broadcast(run->task.ranks, &goes_on, sizeof goes_on, err));
    if (*resume && !goes_on) relay_note(run->task.self, "there is no run to go on with: it is begun");
    *resume = goes_on != 0;
    return RT_OK;
}

/* Sums over ranks that stay on devices, or go by the host, which is said. */
static rt_status join_devices(const rt__run *run, rt_error *err)
{
    char how[RT_ERROR_TEXT];
    const char *name = run->config->backend;
    RT_TRY(rt_backend_join(rt_backend_find(*name ? name : NULL), run->task.ranks, how, err));
    if (*how) relay_note(run->task.self, how);
    return RT_OK;
}

/* What is given, the run's folder, and where it goes on; ranks fail here together. */
static rt_status begin(rt__run *run, bool resume, rt_error *err)
{
    rt_ranks *ranks = run->task.ranks;
    RT_TRY(rt_ranks_agree(ranks, rt__run_open(run, err), err));
    RT_TRY(join_devices(run, err));
    RT_TRY(decide_resume(run, &resume, err));
    rt_status status = rt__run_claim(run, resume, err);
    if (status == RT_OK) status = rt__run_keep_machine(run, resume, err);
    RT_TRY(rt_ranks_agree(ranks, status, err));
    if (resume) RT_TRY(rt__checkpoint_read(run, err));
    run->kept_at = run->at.updates;
    run->kept_when = rt__seconds();
    if (!resume) return RT_OK;
    status = rt__run_writes(run) ? take_updates(run, err) : RT_OK;
    if (status == RT_OK && rt__run_writes(run)) status = rt_metrics_truncate(run->config->out, run->at.updates, err);
    return rt_ranks_agree(ranks, status, err);
}

static rt_status run_rounds(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    bool stopped = false;
    rt_status status = RT_OK;
    while (status == RT_OK && run->at.round < run->task.plan.n_rounds && !stopped) {
        status = rt__run_open_round(run, err);
        if (status == RT_OK) status = rt__run_keep_choices(run, err);
        if (status == RT_OK) status = rt__watch_open(run, err);
        bool trained = status == RT_OK; /* else the networks are as they were read */
        if (status == RT_OK) status = train_round(run, err);
        stopped = status == RT_OK && !run->at.ended && run->at.in_round < rt__round_updates(c, run->at.round);
        if (status == RT_OK && !stopped) {
            status = rt__run_finish_round(run, err);
            if (status == RT_OK) status = keep(run, err);
            stopped = c->run.until_update > 0 && run->at.updates >= c->run.until_update;
        }
        if (status == RT_E_INTERRUPTED && trained) status = leave_interrupted(run, err);
        rt__meters_close(&run->meters);
        rt__round_close(&run->round);
    }
    return status;
}

rt_status rt_run_train(const rt_config *c, bool resume, const rt_observer *observer, rt_run_summary *summary, rt_error *err)
{
    rt_error local = {0};
    if (!err) err = &local;
    rt__run run = {.observer = observer, .headline = NAN, .lock = -1};
    run.task.self = (void *)(uintptr_t)observer;
    run.task.progress = relay;
    run.task.stop = asked_to_stop;
    run.task.note = relay_note;
    run.task.choices = observer ? observer->choices : NULL;
    run.task.ranks = observer ? observer->ranks : NULL;
    rt_config *own = malloc(sizeof *own);
    if (!own) RT_RAISE(RT_E_MEMORY, "out of memory before the run began");
    *own = *c;
    if (own->train.shards == 0) own->train.shards = resume && rt__run_exists(c) ? 1 : rt_ranks_size(run.task.ranks);
    run.config = own;
    rt_ranks_patience(run.task.ranks, c->run.timeout, asked_to_stop, run.task.self);
    rt_status status = begin(&run, resume, err);
    if (status == RT_OK) status = run_rounds(&run, err);
    if (status == RT_E_COMM) {
        rt_error_prefix(err, "update %lld", (long long)run.at.updates);
        size_t said = strlen(err->text);
        snprintf(err->text + said, sizeof err->text - said, "; the last checkpoint is good, `--resume` goes on from it");
    }
    if (summary) summarise(&run, summary);
    rt__run_close(&run);
    free(own);
    return status;
}
