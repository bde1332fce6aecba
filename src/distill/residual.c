/* residual.c -- what a round lost, on held-out noise, as RMS per feature in data units: the local semigroup residual (1.37), the distance to its own
 * teacher's rollout, the drift from the first teacher's full rollout (1.38). */
#include "distill/residual.h"
#include "distill/sources.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double square_distance(const float *a, const float *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return s;
}

typedef struct held_out {
    const rt_round *round;
    const double *grid; /* of the first teacher */
    int64_t n, size;    /* samples, numbers in all of them */
    int64_t *y;
} held_out;

/* x goes along every `stride`-th time of the first teacher's grid, from point `from` to point `to`, with the draws `name` where the solver needs any or
 * the network sees any: a student and its teacher then have the same. */
static rt_status roll(held_out *b, rt_solver_map *e, const char *name, float *x, int from, int to, int stride, rt_error *err)
{
    rt_frozen draws = {name, (uint32_t)from, 0};
    return rt__solver_map_roll(e, b->grid + from, stride, (to - from) / stride, b->n, x, 0, b->y, &draws, err);
}

static rt_status measure(held_out *b, rt_solver_map *first, rt_solver_map *teacher, rt_solver_map *student, rt_residual *out, rt_error *err)
{
    const rt_round *r = b->round;
    const rt_task *task = r->task;
    int N = task->plan.step_counts[0], t_stride = N / r->teacher_steps, s_stride = N / r->steps;
    float *states = malloc((size_t)((N + 1 + 3) * b->size) * sizeof *states), *x = states + (N + 1) * b->size, *a = x + b->size,
          *c = a + b->size;
    if (!states)
        RT_RAISE(RT_E_MEMORY, "out of memory for %d states of %lld held-out samples; fewer can be measured", N + 1, (long long)b->n);
    size_t bytes = (size_t)b->size * sizeof *x;
    rt_status s = RT_OK;
    for (int64_t i = 0; i < b->n; i++)
        rt__noise(task->config->seed, "holdout", 0, (uint32_t)i, rt_process_noise_scale(task->process), task->features,
                  states + i * task->features);
    s = rt__solver_map_roll(first, b->grid, 1, N, b->n, states, b->size, b->y, &(rt_frozen){"holdout 1", 0, 0}, err);
    bool along =
        r->index == 0 && !task->data; /* the round's pairs lie on the first teacher's rollout: so do those here, memories and all */
    bool draws = rt_solver_draws(teacher->evaluator.spec.denoiser.solver, &(rt_solver_options){0});
    double residual = 0, step = 0, spread = 0;
    for (int k = 0; k < N && s == RT_OK; k += s_stride) { /* one student step against the teacher's, at the first teacher's states */
        const float *from = states + k * b->size;
        memcpy(a, along ? from + s_stride * b->size : from, bytes);
        memcpy(c, from, bytes);
        if (!along) s = roll(b, teacher, "holdout 2", a, k, k + s_stride, t_stride, err);
        if (s == RT_OK) s = roll(b, student, along ? "holdout 1" : "holdout 2", c, k, k + s_stride, s_stride, err);
        residual += square_distance(a, c, b->size);
        step += square_distance(a, from, b->size);
        if (task->progress) task->progress(task->self, "measuring", b->n * (k + s_stride) / N, b->n);
        if (!draws) continue;
        memcpy(a, from, bytes); /* twice from one state: half the square between the two is the variance */
        memcpy(c, from, bytes);
        if (s == RT_OK) s = roll(b, teacher, "holdout 3", a, k, k + s_stride, t_stride, err);
        if (s == RT_OK) s = roll(b, teacher, "holdout 4", c, k, k + s_stride, t_stride, err);
        spread += square_distance(a, c, b->size) / 2;
    }
    memcpy(a, states, bytes);
    memcpy(c, states, bytes);
    if (s == RT_OK) s = roll(b, teacher, "holdout 1", a, 0, N, t_stride, err);
    if (s == RT_OK) s = roll(b, student, "holdout 1", c, 0, N, s_stride, err);
    out->local = sqrt(residual / (double)(b->size * r->steps));
    out->relative = sqrt(residual / step);
    out->own_teacher = sqrt(square_distance(a, c, b->size) / (double)b->size);
    out->drift = sqrt(square_distance(c, states + N * b->size, b->size) / (double)b->size);
    out->spread = draws ? sqrt(spread / (double)(b->size * r->steps)) : NAN;
    free(states);
    return s;
}

rt_status rt__residual(const rt_round *r, int64_t n, rt_residual *out, rt_error *err)
{
    const rt_task *t = r->task;
    held_out b = {.round = r, .grid = t->grid, .n = n, .size = n * t->features, .y = malloc((size_t)n * sizeof *b.y)};
    rt_solver_map e[3] = {0};
    rt_denoiser first = t->teacher, used;
    first.solver = rt__teacher(t)->plan->solver;
    first.guidance = rt__teacher(t)->plan->guidance;
    first.null_class = t->null_class;
    const rt_denoiser *m[3] = {&first, &rt__teacher(t)->denoiser, &used};
    rt_status s = b.y ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %lld held-out samples", (long long)n);
    if (s == RT_OK) s = rt__network_use(rt__deployed(t), &used, err);
    for (int64_t i = 0; i < n && s == RT_OK; i++) b.y[i] = rt__class_of(t, i);
    for (int i = 0; i < 3 && s == RT_OK; i++) s = rt__map_open(&e[i], t, m[i], n < 64 ? n : 64, t->config->seed, err);
    if (s == RT_OK) s = measure(&b, &e[0], &e[1], &e[2], out, err);
    for (int i = 0; i < 3; i++) rt__solver_map_close(&e[i]);
    free(b.y);
    return s;
}
