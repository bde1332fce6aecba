/* solver_map.c -- see solver_map.h. */
#include "model/solver_map.h"

#include "base/internal.h"

#include <stdlib.h>

/* z of step k for the samples of the roll's batch. */
static rt_status draw(void *self, int k, int64_t n, double *z, rt_error *err)
{
    (void)err;
    const rt_solver_map *m = self;
    int64_t d = m->evaluator.features;
    rt__draw step = {.seed = m->seed, .name = rt__draw_name(m->draws.name), .clock = m->draws.clock + (uint32_t)k};
    for (int64_t j = 0; j < n; j++) rt__draw_normals(&step, (uint32_t)(m->draws.first + j), d, z + j * d);
    return RT_OK;
}

rt_status rt__solver_map_open(rt_solver_map *m, const rt_evaluator_spec *spec, uint64_t seed, rt_error *err)
{
    *m = (rt_solver_map){.seed = seed};
    rt_evaluator *e = &m->evaluator;
    RT_TRY(rt__evaluator_open(e, spec, err));
    e->noise_self = m;
    m->state = malloc((size_t)(spec->program.batch * e->features) * sizeof *m->state);
    if (!m->state) RT_RAISE(RT_E_MEMORY, "out of memory for %lld samples", (long long)spec->program.batch);
    return RT_OK;
}

void rt__solver_map_close(rt_solver_map *m)
{
    rt__evaluator_close(&m->evaluator);
    free(m->state);
    free(m->room.bytes);
    *m = (rt_solver_map){0};
}

typedef struct trajectory {
    const rt_solver_map *map;
    float *x;
    int64_t n, hop, count, before, total; /* samples; steps of samples before this batch, and of all */
} trajectory;

static rt_status keep(void *self, int k, double t, int64_t n, const double *x, rt_error *err)
{
    (void)t, (void)n, (void)err;
    const trajectory *to = self;
    for (int64_t i = 0; i < to->count; i++) to->x[k * to->hop + i] = (float)x[i];
    return RT_OK;
}

static rt_status pulse(void *self, int done, rt_error *err)
{
    const trajectory *to = self;
    return to->map->pulse ? to->map->pulse(to->map->pulse_self, to->before + done * to->n, to->total, err) : RT_OK;
}

rt_status rt__solver_map_roll(rt_solver_map *m, const double *times, int stride, int steps, int64_t n, float *x, int64_t hop,
                              const int64_t *y, const rt_frozen *draws, rt_error *err)
{
    rt_evaluator *e = &m->evaluator;
    int64_t batch = e->spec.program.batch;
    double *own = stride > 1 ? malloc((size_t)(steps + 1) * sizeof *own) : NULL;
    if (stride > 1 && !own) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", steps + 1);
    for (int k = 0; own && k <= steps; k++) own[k] = times[k * stride];
    rt_status s = RT_OK;
    for (int64_t at = 0; at < n && s == RT_OK; at += batch) {
        int64_t rows = n - at < batch ? n - at : batch;
        trajectory to = {m, x + at * e->features, rows, hop, rows * e->features, at * steps, n * steps};
        m->draws = draws ? *draws : (rt_frozen){0};
        m->draws.first += at;
        e->noise = draws ? draw : NULL;
        e->samples = rows;
        e->omegas = m->omegas ? m->omegas + at : NULL;
        for (int64_t i = 0; i < to.count; i++) m->state[i] = (double)to.x[i];
        rt_sample_spec spec = {.process = e->spec.process,
                               .solver = e->spec.denoiser.solver,
                               .steps = steps,
                               .from = own ? own : times,
                               .guidance = e->guidance,
                               .omegas = e->program ? NULL : e->omegas,
                               .trace = hop ? keep : NULL,
                               .trace_self = &to,
                               .pulse = pulse,
                               .pulse_self = &to,
                               .stepper = rt__evaluator_stepper(e),
                               .noise = draws ? draw : NULL,
                               .noise_self = m,
                               .room = &m->room};
        s = rt_sample(&spec, &e->field, rows, m->state, y ? y + at : NULL, err);
        if (s == RT_OK && !hop) s = keep(&to, 0, 0, rows, m->state, err);
    }
    free(own);
    return s;
}
