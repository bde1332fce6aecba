/* draws.c -- what is drawn on the host: noises, classes, and what a student sees of its teacher's noise (1.4.5). A frozen transition is a map of
 * (x_s, draws): a student from which they are hidden regresses to the mean over them; one that is given them beside x can follow the map itself. */
#include "distill/sources.h"

#include "base/internal.h"
#include "model/classes.h"

uint64_t rt__stream_seed(const rt_phase *p) { return p->round->task->config->seed + 0xbf58476d1ce4e5b9u * (uint64_t)p->plan->stream; }

void rt__noise(uint64_t seed, const char *name, uint32_t clock, uint32_t index, double scale, int64_t n, float *out)
{
    rt__draw draw = {.seed = seed, .name = rt__draw_name(name), .clock = clock};
    for (int64_t i = 0; i < n; i += 4) {
        double v[4];
        rt__draw_normal(&draw, index, (uint32_t)(i / 4), v);
        for (int j = 0; j < 4 && i + j < n; j++) out[i + j] = (float)(scale * v[j]);
    }
}

void rt__show_draws(uint64_t seed, uint32_t clock, uint32_t index, int q, int64_t features, float *z)
{
    for (int j = 0; j < q; j++) rt__noise(seed, RT_TEACHER_DRAWS, clock + (uint32_t)j, index, 1, features, z + j * features);
}

int64_t rt__class_of(const rt_task *t, int64_t index) { return rt__usual_label(t->words, t->classes, t->null_class, index); }
