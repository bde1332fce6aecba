/* teacher_pairs.c -- (noise, teacher sample) pairs for knowledge distillation, drawn once and kept in RUN/pairs.safetensors. Noise j is a draw, so only the samples are stored. */
#include "distill/rollout.h"

#include "base/files.h"
#include "base/internal.h"
#include "retort/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct pairs {
    rt_distill *d;
    rt_tensor x; /* (n, features) */
} pairs;

static void start_noise(const rt_distill *d, int64_t index, float *z)
{
    rt__noise(d, "pairs", 0, (uint32_t)index, rt_process_noise_scale(d->process), z);
}

static rt_status draw_pairs(pairs *p, rt_error *err)
{
    rt_distill *d = p->d;
    enum { CHUNK = 128 };
    int64_t n = d->rehearsal && p->x.shape[0] > CHUNK ? CHUNK : p->x.shape[0];
    rt_solver_map teacher;
    rt_status s = rt__map_open(&teacher, d, &d->teacher, CHUNK, err);
    for (int64_t at = 0; at < n && s == RT_OK; at += CHUNK) {
        int64_t y[CHUNK], m = n - at < CHUNK ? n - at : CHUNK;
        float *x = (float *)p->x.data + at * d->features;
        for (int64_t i = 0; i < m; i++) {
            start_noise(d, at + i, x + i * d->features);
            y[i] = rt__class_of(d, at + i);
        }
        s = rt__solver_map_roll(&teacher, d->grid, 1, d->teacher_steps, m, x, 0, y, &(rt_frozen){RT_TEACHER_DRAWS, 0, at}, err);
        if (d->progress) d->progress(d->self, "teacher samples", at + m, n);
        if (s == RT_OK && d->stop && d->stop(d->self))
            s = rt_error_set(err, RT_E_INTERRUPTED, "stopped after %lld of %lld teacher samples, which are lost; start again",
                             (long long)(at + m), (long long)n);
    }
    rt__solver_map_close(&teacher);
    return s;
}

static rt_status open_pairs(pairs *p, rt_error *err)
{
    rt_distill *d = p->d;
    char path[RT_CONFIG_TEXT + 32];
    snprintf(path, sizeof path, "%s/pairs.safetensors", d->config->out);
    int64_t shape[] = {d->config->kd.pairs, d->features};
    if (rt__file_exists(path)) {
        rt_tensors *t;
        RT_TRY(rt_tensors_open(&t, path, err));
        int i = rt_tensors_find(t, "x");
        const rt_tensor_info *info = rt_tensors_info(t, i);
        bool fits = info && info->dtype == RT_F32 && info->rank == 2 && info->shape[0] == shape[0] && info->shape[1] == shape[1];
        rt_status s =
            fits ? rt_tensors_read(t, i, &p->x, err)
                 : rt_error_set(err, RT_E_INVALID, "%s: tensor 'x' is not that of this run; remove the file, and it is drawn again", path);
        rt_tensors_close(t);
        return s;
    }
    RT_TRY(rt_tensor_init(&p->x, RT_F32, 2, shape, err));
    RT_TRY(draw_pairs(p, err));
    if (d->rehearsal) rt_rehearsal_reserve(d->rehearsal, rt_tensor_count(&p->x) * (int64_t)sizeof(float));
    return d->rehearsal ? RT_OK : rt_tensors_write(path, &(rt_named_tensor){"x", RT_F32, 2, shape, p->x.data}, 1, NULL, err);
}

static rt_status pairs_fill(void *self, int64_t update, int64_t first, int64_t count, rt_program *program, rt_error *err)
{
    (void)err;
    pairs *p = self;
    rt_distill *d = p->d;
    float *z = rt_program_data(program, d->inputs[0]), *x = rt_program_data(program, d->inputs[1]);
    float *draws = d->draws ? rt_program_data(program, d->draws) : NULL;
    int64_t *y = d->inputs[2] ? rt_program_data(program, d->inputs[2]) : NULL, batch = d->config->train.batch, n = p->x.shape[0];
    for (int64_t i = 0; i < count; i++) {
        int64_t at = update * batch + first + i, item = rt_permute_index(d->config->seed, (uint64_t)(at / n), n, at % n);
        if (z) start_noise(d, item, z + i * d->features);
        if (draws) rt__show_draws(d, 0, (uint32_t)item, draws + i * rt__draws_seen(d->config) * d->features);
        if (x) memcpy(x + i * d->features, (const float *)p->x.data + item * d->features, (size_t)d->features * sizeof *x);
        if (y) y[i] = rt__class_of(d, item);
    }
    return RT_OK;
}

static void pairs_free(void *self)
{
    pairs *p = self;
    if (p && p->d->rehearsal) rt_rehearsal_reserve(p->d->rehearsal, -rt_tensor_count(&p->x) * (int64_t)sizeof(float));
    if (p) rt_tensor_free(&p->x);
    free(p);
}

rt_status rt__source_pairs(rt_distill *d)
{
    rt_error *err = d->err;
    pairs *p = calloc(1, sizeof *p);
    if (!p) RT_RAISE(RT_E_MEMORY, "out of memory for pairs");
    p->d = d;
    d->source = (rt_source){p, pairs_fill, pairs_free};
    return open_pairs(p, err);
}
