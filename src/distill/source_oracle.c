/* source_oracle.c -- an oracle's own draws as the source of a phase: data without a data set. */
#include "distill/sources.h"

#include "base/internal.h"

#include <stdlib.h>

typedef struct from_oracle {
    const rt_phase *phase;
    uint64_t seed;
    double *row;
} from_oracle;

/* Sample number u batch + first + i; the classes take turns. */
static rt_status oracle_fill(void *self, int64_t u, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    from_oracle *f = self;
    const rt_task *t = f->phase->round->task;
    void *x = rt__input_data(f->phase, program, "x0");
    int64_t *y = rt__input_data(f->phase, program, "y");
    for (int64_t i = 0; i < n; i++) {
        int64_t index = u * f->phase->batch + first + i, label = rt__class_of(t, index);
        const rt_oracle *o = t->classes > 0 ? rt_oracle_given(t->teacher.oracle, label) : t->teacher.oracle;
        if (y) y[i] = label;
        if (!x) continue;
        RT_TRY(rt_oracle_draw(o, f->seed, index, 1, f->row, err));
        for (int64_t j = 0; j < t->features; j++) {
            if (t->real == RT_F64)
                ((double *)x)[i * t->features + j] = f->row[j];
            else
                ((float *)x)[i * t->features + j] = (float)f->row[j];
        }
    }
    return RT_OK;
}

static void oracle_free(void *self)
{
    from_oracle *f = self;
    if (f) free(f->row);
    free(f);
}

rt_status rt__source_oracle(rt_phase *p, rt_error *err)
{
    from_oracle *f = calloc(1, sizeof *f);
    if (!f) RT_RAISE(RT_E_MEMORY, "out of memory for draws of the oracle");
    *f = (from_oracle){.phase = p, .seed = rt__stream_seed(p), .row = malloc((size_t)p->round->task->features * sizeof *f->row)};
    RT_TRY(rt__add_source(p, (rt_source){f, oracle_fill, oracle_free}, err));
    if (!f->row) RT_RAISE(RT_E_MEMORY, "out of memory for draws of the oracle");
    return RT_OK;
}
