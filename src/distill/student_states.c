/* student_states.c -- backward simulation (Yin et al. 2024): a student of several steps is trained on the states that its own sampling visits.
 *
 *     x_1 = scale z,   x_{k+1} = alpha_{k+1} G(x_k, t_k) + beta_{k+1} eps_k,   k = 1 .. j - 1
 *
 * One j for a batch, so that a run of the phase costs j - 1 calls of the network more, and no more. The steps are the sampling driver's, on the host's arrays:
 * x_j is an input of the phase, through which no gradient can go. */
#include "distill/sources.h"

#include "base/internal.h"
#include "model/classes.h"

#include <stdlib.h>
#include <string.h>

typedef struct states {
    const rt_phase *phase;
    uint64_t seed;
    rt_solver_map student;
    float *x;       /* [batch][features] */
    int64_t *y;     /* [batch] */
    double *omegas; /* [batch], where guidance has a knob: one for all steps of a sample */
} states;

/* 0 .. N - 1, the steps before the one that run u trains; all of them in a rehearsal, which shall see what the longest takes. */
static int steps_before(const states *s, int64_t u)
{
    int N = s->phase->round->steps;
    uint32_t words[4];
    rt__draw_words(&(rt__draw){.seed = s->seed, .name = rt__draw_name("state step"), .clock = (uint32_t)u}, 0, 0, words);
    return s->phase->round->task->dry_run ? N - 1 : (int)(rt__unit(words[0]) * N);
}

static int64_t label_of(const states *s, int64_t u, int64_t index)
{
    const rt_task *t = s->phase->round->task;
    uint32_t words[4];
    rt__draw_words(&(rt__draw){.seed = s->seed, .name = rt__draw_name("state label"), .clock = (uint32_t)u}, (uint32_t)index, 0, words);
    int64_t n = rt__usual_labels(t->words, t->classes, t->null_class);
    return rt__usual_label(t->words, t->classes, t->null_class, (int64_t)(rt__unit(words[0]) * (double)n));
}

static double omega_of(const states *s, int64_t u, int64_t index)
{
    const rt_plan *plan = &s->phase->round->task->plan;
    uint32_t words[4];
    rt__draw_words(&(rt__draw){.seed = s->seed, .name = rt__draw_name("state omega"), .clock = (uint32_t)u}, (uint32_t)index, 0, words);
    return plan->omega_low + rt__unit(words[0]) * (plan->omega_high - plan->omega_low);
}

static rt_status states_fill(void *self, int64_t u, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    states *s = self;
    const rt_round *r = s->phase->round;
    int64_t d = r->task->features;
    int before = steps_before(s, u);
    for (int64_t i = 0; i < n; i++) {
        rt__noise(s->seed, "state", (uint32_t)u, (uint32_t)(first + i), rt__start_scale(r->task), d, s->x + i * d);
        s->y[i] = label_of(s, u, first + i);
        s->omegas[i] = omega_of(s, u, first + i);
    }
    s->student.omegas = r->task->plan.knob ? s->omegas : NULL;
    rt_frozen eps = {"state eps", (uint32_t)(u * r->steps), first};
    if (before > 0) RT_TRY(rt__solver_map_roll(&s->student, r->grid, 1, before, n, s->x, 0, s->y, &eps, err));
    float *x = rt__input_data(s->phase, program, "state"), *omega = rt__input_data(s->phase, program, "omega");
    int64_t *step = rt__input_data(s->phase, program, "step"), *label = rt__input_data(s->phase, program, "label");
    if (x) memcpy(x, s->x, (size_t)(n * d) * sizeof *x);
    for (int64_t i = 0; i < n && step; i++) step[i] = before;
    for (int64_t i = 0; i < n && omega; i++) omega[i] = (float)s->omegas[i];
    if (label) rt__show_labels(r->task->words, n, s->y, label);
    return RT_OK;
}

static void states_free(void *self)
{
    states *s = self;
    if (!s) return;
    rt__solver_map_close(&s->student);
    free(s->x);
    free(s->y);
    free(s->omegas);
    free(s);
}

rt_status rt__source_states(rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    int64_t rows = p->slice;
    states *s = calloc(1, sizeof *s);
    if (!s) RT_RAISE(RT_E_MEMORY, "out of memory for states of the student");
    *s = (states){.phase = p,
                  .seed = rt__stream_seed(p),
                  .x = malloc((size_t)(rows * t->features) * sizeof *s->x),
                  .y = malloc((size_t)rows * sizeof *s->y),
                  .omegas = malloc((size_t)rows * sizeof *s->omegas)};
    RT_TRY(rt__add_source(p, (rt_source){s, states_fill, states_free}, err));
    if (!s->x || !s->y || !s->omegas) RT_RAISE(RT_E_MEMORY, "out of memory for %lld states of the student", (long long)rows);
    RT_TRY(rt__map_open(&s->student, t, rt__denoiser(p, "student"), rows, s->seed, err));
    s->student.pulse = NULL; /* within an update nothing stops */
    return RT_OK;
}
