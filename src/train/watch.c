/* watch.c -- the meters through a run: when they are read, what is said of them, the student that a meter was best of, and runs that they end.
 *
 *     readings   as the round starts; after every run.meter-every updates, at checkpoints that are due, after the last update
 *
 * Readings at checkpoints alone are shown and warn, and leave no trace beside: how often a run is checkpointed may change from one sitting to the next,
 * its result may not. */
#include "train/run.h"

#include "base/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EARLIER = 5,  /* readings before a gradient is compared with theirs */
    STUCK = 3,    /* readings without progress of a student that is where a collapsed one would be */
    PATIENCE = 5, /* readings without progress that end a run */
    LINE = 2048
};
static const double progress = 0.01, /* of a cost: less is none */
    fall = 0.1;                      /* of a cost above the least so far: with that a student that was better has collapsed */

static const rt_plan *plan_of(const rt__run *run) { return &run->task.plan; }

static void note(const rt__run *run, const char *line)
{
    if (run->observer && run->observer->note) run->observer->note(run->observer->self, line);
}

/* ---- settings */

/* The meter of "flat:METER" in run.stop-on, -1: it is not there; *collapse: whether "collapse" is. */
static rt_status parse_stop(const rt__run *run, int *flat, bool *collapse, rt_error *err)
{
    char text[sizeof run->config->run.stop_on], *rest = text;
    snprintf(text, sizeof text, "%s", run->config->run.stop_on);
    *flat = -1, *collapse = false;
    while (*rest) {
        char *word = rest;
        rest += strcspn(rest, ",");
        if (*rest) *rest++ = 0;
        if (!strcmp(word, "collapse"))
            *collapse = true;
        else if (strncmp(word, "flat:", 5) != 0)
            RT_RAISE(RT_E_USAGE, "run.stop-on: '%s'; give flat:METER, collapse, or both with a comma between", word);
        else if ((*flat = rt__meter_find(&run->task, "run.stop-on", word + 5, err)) < 0)
            return RT_E_USAGE;
    }
    return RT_OK;
}

rt_status rt__watch_check(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    int flat;
    bool collapse;
    if (plan_of(run)->n_meters == 0) return RT_OK; /* the method does not read the settings */
    RT_TRY(parse_stop(run, &flat, &collapse, err));
    if (!*c->run.select) return RT_OK;
    if (rt__meter_find(&run->task, "run.select", c->run.select, err) < 0) return RT_E_USAGE;
    run->selected = rt_params_new("selected", run->task.real);
    if (!run->selected) RT_RAISE(RT_E_MEMORY, "out of memory for the selected network");
    return rt_net_declare(rt__deployed(&run->task)->denoiser.net, run->selected, err);
}

/* ---- a reading */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int64_t n)
{
    double sorted[RT_WATCH_MEDIANS];
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The median of the latest norms over the median of those at earlier readings, to which it is added. */
static double gradient_growth(rt__watch *w)
{
    if (w->n_norms == 0) return NAN;
    double now = median(w->norms, least(w->n_norms, RT_WATCH_NORMS));
    double before = w->n_medians >= EARLIER ? median(w->medians, least(w->n_medians, RT_WATCH_MEDIANS)) : NAN;
    w->medians[w->n_medians++ % RT_WATCH_MEDIANS] = now;
    return now / before;
}

static void say_reading(const rt__run *run)
{
    char line[LINE];
    int at = snprintf(line, sizeof line, "update %lld:", (long long)run->at.updates);
    for (int i = 0, said = 0; i < plan_of(run)->n_meters && at < LINE; i++)
        if (isfinite(run->reading.all[i]))
            at += snprintf(line + at, sizeof line - (size_t)at, "%s %s %.4g", said++ ? "," : "", plan_of(run)->meters[i]->name,
                           run->reading.all[i]);
    if (run->observer && run->observer->meters) run->observer->meters(run->observer->self, line);
}

/* "distance 0.31 is below 0.5"; false: the value is where it should be. */
static bool beyond(const rt_meter *m, double value, double error, char *text, size_t size)
{
    bool low = value + 2 * error<m->low, high = value - 2 * error> m->high;
    if (low || high) snprintf(text, size, "%s %.4g is %s %g", m->name, value, low ? "below" : "above", low ? m->low : m->high);
    return low || high;
}

/* A student that begins far from its teacher and comes nearer has not collapsed: one that was nearer has, and one that stays where it is although it
 * is trained. */
static bool falls(rt__watch *w, int i, double cost)
{
    if (w->n_norms == 0 || !isfinite(w->least[i]) || cost < (1 - progress) * w->least[i])
        w->least[i] = cost, w->stale[i] = 0;
    else
        w->stale[i]++;
    return cost > (1 + fall) * w->least[i] || w->stale[i] >= STUCK;
}

/* Warnings, once the main phase has run; true: the student has collapsed, `why` says by which figures. */
static bool judge(rt__run *run, char *why, size_t size)
{
    bool collapsed = false;
    for (int i = 0; i < plan_of(run)->n_meters; i++) {
        const rt_meter *m = plan_of(run)->meters[i];
        double value = run->reading.all[i];
        char fact[128], line[LINE];
        bool bad = beyond(m, value, run->reading.error[i], fact, sizeof fact), fallen = falls(&run->at.watch, i, rt__meter_cost(m, value));
        if (run->at.watch.n_norms == 0 || !bad || (m->collapse && !fallen)) continue;
        snprintf(line, sizeof line, "warning: update %lld: %s: %s", (long long)run->at.updates, fact, m->words);
        note(run, line);
        if (m->collapse && !collapsed) snprintf(why, size, "%s: %s", fact, m->words);
        collapsed |= m->collapse;
    }
    return collapsed;
}

static rt_status select_best(rt__run *run, rt_error *err)
{
    rt__watch *w = &run->at.watch;
    rt_denoiser used;
    if (!run->selected) return RT_OK;
    int i = rt__meter_find(&run->task, "run.select", run->config->run.select, err);
    double cost = rt__meter_cost(plan_of(run)->meters[i], run->reading.all[i]);
    if (!isfinite(cost) || (w->best_update > 0 && !(cost < w->best_cost))) return RT_OK;
    w->best_cost = cost;
    w->best_value = run->reading.all[i];
    w->best_update = run->at.updates;
    RT_TRY(rt__network_use(rt__deployed(&run->task), &used, err));
    return rt_params_copy(run->selected, RT_VALUE, used.set, RT_VALUE, err);
}

/* Does the meter stand still? */
static bool is_flat(rt__run *run, int i)
{
    rt__watch *w = &run->at.watch;
    const rt_meter *m = plan_of(run)->meters[i];
    double value = run->reading.all[i], cost = rt__meter_cost(m, value);
    char line[LINE];
    if (w->flat_update == 0 || cost < (1 - progress) * w->flat_cost) {
        w->flat_cost = isfinite(cost) ? cost : INFINITY;
        w->flat_value = value;
        w->flat_update = run->at.updates;
        w->flat_readings = 0;
        return false;
    }
    if (++w->flat_readings < PATIENCE) return false;
    snprintf(line, sizeof line, "stopped after update %lld: %s %.4g is no better by %g%% than %.4g of update %lld, in %d readings",
             (long long)run->at.updates, m->name, value, 100 * progress, w->flat_value, (long long)w->flat_update, PATIENCE);
    note(run, line);
    return true;
}

/* ---- the course of a round */

rt_status rt__watch_open(rt__run *run, rt_error *err)
{
    run->read_at = -1;
    if (plan_of(run)->n_meters == 0) return RT_OK;
    RT_TRY(rt__meters_open(&run->meters, &run->round, err));
    if (run->at.in_round > 0) return RT_OK;
    char why[LINE];
    run->at.watch = (rt__watch){0};
    RT_TRY(rt__meters_read(&run->meters, &run->reading, err));
    say_reading(run);
    (void)judge(run, why, sizeof why);
    return RT_OK;
}

rt_status rt__watch_update(rt__run *run, bool last, rt__verdict *verdict, rt_error *err)
{
    const rt_config *c = run->config;
    rt__watch *w = &run->at.watch;
    double norm = rt__main_phase(&run->round)->last_grad_norm;
    int flat;
    bool stop_collapsed, due = (c->run.meter_every > 0 && run->at.updates % c->run.meter_every == 0) || last;
    char why[LINE] = "";
    *verdict = RT_GO_ON;
    if (plan_of(run)->n_meters == 0) return RT_OK;
    if (isfinite(norm)) w->norms[w->n_norms++ % RT_WATCH_NORMS] = norm;
    if (!due && !(c->run.checkpoint_every > 0 && run->at.updates % c->run.checkpoint_every == 0)) return RT_OK;
    const rt__watch before = *w;
    RT_TRY(parse_stop(run, &flat, &stop_collapsed, err));
    RT_TRY(rt__meters_read(&run->meters, &run->reading, err));
    run->read_at = run->at.updates;
    for (int i = 0; i < plan_of(run)->n_meters; i++)
        if (plan_of(run)->meters[i]->kind == RT_METER_GRADIENT) run->reading.all[i] = gradient_growth(w);
    say_reading(run);
    bool collapsed = judge(run, why, sizeof why);
    if (!due) {
        *w = before;
        return RT_OK;
    }
    RT_TRY(select_best(run, err));
    if (flat >= 0 && is_flat(run, flat) && !last) *verdict = RT_FLAT;
    if (!collapsed || !stop_collapsed) return RT_OK;
    *verdict = RT_COLLAPSED;
    rt_error_set(err, RT_E_DIVERGED, "stopped after update %lld, whose checkpoint is kept: %s", (long long)run->at.updates, why);
    return RT_OK;
}

void rt__watch_say_selected(const rt__run *run)
{
    const rt__watch *w = &run->at.watch;
    char line[LINE];
    if (!run->selected) return;
    if (w->best_update > 0)
        snprintf(line, sizeof line, "the student is that of update %lld, whose %s was %.4g", (long long)w->best_update,
                 run->config->run.select, w->best_value);
    else
        snprintf(line, sizeof line, "warning: %s had no value in any reading; the student is that of the last update",
                 run->config->run.select);
    note(run, line);
}
