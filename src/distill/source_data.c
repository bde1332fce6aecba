/* source_data.c -- a data set as the source of a phase, and what all sources share. */
#include "distill/sources.h"

#include "base/internal.h"
#include "model/classes.h"

#include <stdlib.h>
#include <string.h>

rt_status rt__add_source(rt_phase *p, rt_source source, rt_error *err)
{
    if (p->n_sources < RT_SOURCES) {
        p->sources[p->n_sources++] = source;
        return RT_OK;
    }
    (source.free)(source.self);
    RT_RAISE(RT_E_INTERNAL, "phase '%s' has more than %d sources", p->plan->name, RT_SOURCES);
}

rt_status rt__fill_inputs(const rt_phase *p, int64_t u, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    for (int i = 0; i < p->n_sources; i++) RT_TRY(p->sources[i].fill(p->sources[i].self, u, first, n, program, err));
    return RT_OK;
}

void *rt__input_data(const rt_phase *p, rt_program *program, const char *name)
{
    for (int i = 0; i < p->n_inputs; i++)
        if (!strcmp(p->inputs[i].name, name)) return rt_program_data(program, p->inputs[i].node);
    return NULL;
}

bool rt__asked_to_stop(const rt_task *t) { return rt_ranks_size(t->ranks) == 1 && t->stop && t->stop(t->self); }

static rt_status stop_if_asked(void *self, int64_t done, int64_t total, rt_error *err)
{
    (void)done, (void)total;
    if (rt__asked_to_stop(self)) RT_RAISE(RT_E_INTERRUPTED, "stopped; `--resume` goes on");
    return RT_OK;
}

rt_status rt__map_open(rt_solver_map *map, const rt_task *t, const rt_denoiser *m, int64_t rows, uint64_t seed, rt_error *err)
{
    const rt_config *c = t->config;
    rt_evaluator_spec spec = {.denoiser = *m,
                              .process = t->process,
                              .x0 = true,
                              .each = t->plan.knob,
                              .program = {.batch = rows,
                                          .threads = c->threads,
                                          .choices = t->choices,
                                          .rehearsal = t->dry_run,
                                          .backend = *c->backend ? rt_backend_find(c->backend) : NULL,
                                          .compute = rt_config_compute(c)}};
    RT_TRY(rt__solver_map_open(map, &spec, seed, err));
    map->pulse = stop_if_asked;
    map->pulse_self = (void *)(uintptr_t)t;
    return RT_OK;
}

typedef struct from_data {
    const rt_phase *phase;
    rt_loader *loader;
    int64_t *labels; /* of a slice, before they are shown as tokens */
} from_data;

/* The loader deals in slices: number s of run u is its batch u batch/n + s. */
static rt_status data_fill(void *self, int64_t u, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    (void)err;
    from_data *f = self;
    float *x0 = rt__input_data(f->phase, program, "x0");
    int64_t *y = rt__input_data(f->phase, program, "y");
    const rt_words *words = f->phase->round->task->words;
    rt_loader_batch(f->loader, (u * f->phase->batch + first) / n, x0, words ? f->labels : y);
    if (words && y) rt__show_labels(words, n, f->labels, y);
    return RT_OK;
}

static void data_free(void *self)
{
    from_data *f = self;
    if (f) rt_loader_free(f->loader);
    if (f) free(f->labels);
    free(f);
}

rt_status rt__source_data(rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    from_data *f = calloc(1, sizeof *f);
    if (!f) RT_RAISE(RT_E_MEMORY, "out of memory for a loader");
    f->phase = p;
    RT_TRY(rt__add_source(p, (rt_source){f, data_fill, data_free}, err));
    f->labels = malloc((size_t)p->slice * sizeof *f->labels);
    if (!f->labels) RT_RAISE(RT_E_MEMORY, "out of memory for a loader");
    return rt_loader_new(&f->loader, t->data, p->slice, rt__stream_seed(p) + (uint64_t)p->round->index, err);
}
