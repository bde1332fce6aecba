/* flow_check.h -- how far a student's samples are from the exact flow map of their noise, for vectors of two numbers. */
#ifndef RT_TESTS_FLOW_CHECK_H
#define RT_TESTS_FLOW_CHECK_H

#include "diffusion_check.h"

#include "retort/model.h"

enum { FLOW_DRAWN = 400, FLOW_NUMBERS = 2 * FLOW_DRAWN };

typedef struct flow_samples {
    float *x;
    int64_t n;
} flow_samples;

static inline rt_status flow_take(void *self, const rt_samples *s, rt_error *error)
{
    (void)error;
    flow_samples *all = self;
    memcpy(all->x + s->first * 2, s->x, (size_t)(s->count * 2) * sizeof *s->x);
    all->n += s->count;
    return RT_OK;
}

/* RMS of the student's samples in `steps` steps (0: its recipe's), made as `retort sample` makes them. */
static inline double flow_map_error(const char *student, const char *oracle_file, int steps)
{
    rt_model *m = NULL;
    rt_oracle *o = NULL;
    rt_sample_report report;
    float noise[FLOW_NUMBERS], x[FLOW_NUMBERS];
    double z[FLOW_NUMBERS], want[FLOW_NUMBERS], sum = 0;
    uint64_t seed = 31;
    for (int i = 0; i < FLOW_NUMBERS; i += 2) { /* Box-Muller */
        double r = sqrt(-2 * log(0.5 * (wobble(&seed) + 1) + 1e-12)), a = M_PI * wobble(&seed);
        z[i] = r * cos(a), z[i + 1] = r * sin(a);
    }
    for (int i = 0; i < FLOW_NUMBERS; i++) noise[i] = (float)z[i];
    CHECK_OK(rt_model_open(&m, &(rt_model_spec){.path = student, .threads = 1}, &err));
    CHECK_OK(rt_oracle_open(&o, oracle_file, &err));
    flow_samples all = {x, 0};
    CHECK_OK(rt_model_sample(m, &(rt_sampling){.n = FLOW_DRAWN, .steps = steps, .noise = noise}, flow_take, &all, &report, &err));
    assert_int_equal(all.n, FLOW_DRAWN);
    const rt_process *p = rt_oracle_process(o);
    double end = rt_process_end(p);
    CHECK_OK(rt_oracle_flow_map(o, rt_process_alpha(p, end), rt_process_beta(p, end), 1, 0, FLOW_DRAWN, z, want, &err));
    for (int i = 0; i < FLOW_NUMBERS; i++) sum += pow((double)x[i] - want[i], 2);
    rt_oracle_free(o);
    rt_model_free(m);
    return sqrt(sum / FLOW_NUMBERS);
}

#endif
