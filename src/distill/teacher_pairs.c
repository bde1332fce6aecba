/* teacher_pairs.c -- (noise, teacher sample) pairs for knowledge distillation, drawn once and kept in RUN/pairs.safetensors. Noise j is a draw, so only
 * the samples are stored. */
#include "distill/sources.h"

#include "base/files.h"
#include "base/internal.h"
#include "model/classes.h"
#include "retort/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct pairs {
    const rt_phase *phase;
    const rt_task *task;
    uint64_t seed;
    int steps;
    double *grid; /* of the teacher, steps + 1 times */
    rt_tensor x;  /* (n, features) */
} pairs;

static void start_noise(const pairs *p, int64_t index, float *z)
{
    rt__noise(p->seed, "pairs", 0, (uint32_t)index, rt_process_noise_scale(p->task->process), p->task->features, z);
}

/* The first n pairs; a file of fewer than all is one that was interrupted. */
static rt_status keep_pairs(const pairs *p, int64_t n, rt_error *err)
{
    char path[RT_CONFIG_TEXT + 32];
    snprintf(path, sizeof path, "%s/pairs.safetensors", p->task->config->out);
    return rt_tensors_write(path, &(rt_named_tensor){"x", RT_F32, 2, (int64_t[]){n, p->task->features}, p->x.data}, 1, NULL, err);
}

enum { CHUNK = 128 }; /* pairs that are drawn together: interrupted files hold a multiple of it, so that what follows has the same bits */

typedef struct drawing {
    const rt_task *task;
    int64_t at, n, chunk; /* pairs that are drawn, of all; those in progress */
    bool stopped;
} drawing;

static rt_status pulse(void *self, int64_t done, int64_t total, rt_error *err)
{
    drawing *w = self;
    const rt_task *t = w->task;
    int64_t here = w->at + w->chunk * done / total;
    if (t->progress && here > 0) t->progress(t->self, "teacher samples", here, w->n);
    w->stopped = rt__asked_to_stop(t) && done < total;
    if (w->stopped) RT_RAISE(RT_E_INTERRUPTED, "stopped");
    return RT_OK;
}

/* The samples of the CHUNK pairs from number `at` on, of which there are n. */
static rt_status draw_chunk(pairs *p, rt_solver_map *teacher, int64_t at, int64_t n, rt_error *err)
{
    const rt_task *t = p->task;
    int64_t y[CHUNK], m = n - at < CHUNK ? n - at : CHUNK;
    float *x = (float *)p->x.data + at * t->features;
    for (int64_t i = 0; i < m; i++) {
        start_noise(p, at + i, x + i * t->features);
        y[i] = rt__class_of(t, at + i);
    }
    return rt__solver_map_roll(teacher, p->grid, 1, p->steps, m, x, 0, y, &(rt_frozen){RT_TEACHER_DRAWS, 0, at}, err);
}

/* Pairs from .. to, a chunk for each rank, to all. */
static rt_status share_chunks(pairs *p, int64_t from, int64_t to, rt_error *err)
{
    rt_ranks *ranks = p->task->ranks;
    int R = rt_ranks_size(ranks);
    size_t row = (size_t)p->task->features * sizeof(float), *at = malloc((size_t)(R + 1) * sizeof *at);
    if (!at) RT_RAISE(RT_E_MEMORY, "out of memory for %d ranks", R);
    for (int i = 0; i <= R; i++) at[i] = (size_t)(from + i * CHUNK < to ? from + i * CHUNK : to) * row;
    rt_status s = rt_ranks_gather(ranks, p->x.data, at, err);
    free(at);
    return s;
}

/* Has any rank been asked to stop, by now or before? */
static rt_status ask_all(const rt_task *t, bool *stop, rt_error *err)
{
    int64_t least = *stop || (t->stop && t->stop(t->self)), most;
    RT_TRY(rt_ranks_range(t->ranks, 1, &least, &most, err));
    *stop = most > 0;
    return RT_OK;
}

/* Draws the pairs from number `at` on, and keeps what there is from time to time: every half minute, or less often where writing takes long. */
static rt_status draw_pairs(pairs *p, int64_t at, rt_error *err)
{
    const rt_task *t = p->task;
    int64_t all = p->x.shape[0], n = t->dry_run && all > CHUNK ? CHUNK : all, hop = rt_ranks_size(t->ranks) * CHUNK;
    double kept = rt__seconds(), pause = 30;
    rt_solver_map teacher;
    drawing w = {.task = t, .n = n};
    rt_status s = rt__map_open(&teacher, t, &rt__teacher(t)->denoiser, all < CHUNK ? all : CHUNK, p->seed, err);
    teacher.pulse = pulse;
    teacher.pulse_self = &w;
    for (; at < n && s == RT_OK; at = w.at) {
        int64_t m = n - at < hop ? n - at : hop, mine = at + rt_ranks_rank(t->ranks) * CHUNK;
        bool writes = !t->dry_run && rt_ranks_rank(t->ranks) == 0;
        w.chunk = m;
        w.at = at;
        if (mine < n) s = draw_chunk(p, &teacher, mine, n, err);
        bool stop = w.stopped;
        if (stop) /* the chunk in progress is lost */
            *err = (rt_error){0}, s = RT_OK;
        else
            w.at += m;
        if (s == RT_OK) s = share_chunks(p, at, w.at, err);
        if (s == RT_OK) s = ask_all(t, &stop, err);
        stop = stop && w.at < n;
        if (s == RT_OK && writes && w.at > 0 && w.at < n && (stop || rt__seconds() - kept > pause)) {
            double began = rt__seconds();
            s = keep_pairs(p, w.at, err);
            kept = rt__seconds();
            pause = fmax(pause, 20 * (kept - began));
        }
        if (s == RT_OK && stop) {
            rt_error_set(err, RT_E_INTERRUPTED, "stopped after %lld of %lld teacher samples; `--resume` goes on with them", (long long)w.at,
                         (long long)n);
            s = rt_ranks_agree(t->ranks, RT_E_INTERRUPTED, err);
        }
    }
    rt__solver_map_close(&teacher);
    return s;
}

/* Reads the pairs that are there; *n: how many. */
static rt_status read_pairs(pairs *p, const char *path, int64_t *n, rt_error *err)
{
    rt_tensors *t;
    rt_tensor found = {0};
    char line[160];
    RT_TRY(rt_tensors_open(&t, path, err));
    int i = rt_tensors_find(t, "x");
    const rt_tensor_info *info = rt_tensors_info(t, i);
    int64_t count = p->x.shape[0], d = p->x.shape[1];
    bool fits = info && info->dtype == RT_F32 && info->rank == 2 && info->shape[1] == d && info->shape[0] <= count;
    rt_status s =
        fits ? rt_tensors_read(t, i, &found, err)
             : rt_error_set(err, RT_E_INVALID, "%s: tensor 'x' is not that of this run; remove the file, and it is drawn again", path);
    if (s == RT_OK) {
        *n = found.shape[0] < count ? found.shape[0] / CHUNK * CHUNK
                                    : count; /* whole chunks: a run that has more updates now may need more */
        memcpy(p->x.data, found.data, (size_t)(*n * d) * sizeof(float));
        snprintf(line, sizeof line, "%lld of %lld teacher samples are there already and are used", (long long)*n, (long long)count);
        if (p->task->note && !p->phase->meters) p->task->note(p->task->self, line);
    }
    rt_tensor_free(&found);
    rt_tensors_close(t);
    return s;
}

static rt_status open_pairs(pairs *p, int64_t count, rt_error *err)
{
    const rt_task *task = p->task;
    char path[RT_CONFIG_TEXT + 32];
    int64_t there = 0;
    snprintf(path, sizeof path, "%s/pairs.safetensors", task->config->out);
    RT_TRY(rt_tensor_init(&p->x, RT_F32, 2, (int64_t[]){count, task->features}, err));
    if (rt__file_exists(path)) RT_TRY(read_pairs(p, path, &there, err));
    int64_t least = there, most;
    RT_TRY(rt_ranks_range(task->ranks, 1, &least, &most, err));
    if (least < most)
        RT_RAISE(RT_E_IO, "%s: one rank finds %lld samples in it, another %lld; all must see the same folder", path, (long long)least,
                 (long long)most);
    if (there < count) RT_TRY(draw_pairs(p, there, err));
    if (task->dry_run) rt_rehearsal_reserve(task->dry_run, rt_tensor_count(&p->x) * (int64_t)sizeof(float));
    if (task->dry_run || there == count) return RT_OK;
    return rt_ranks_agree(task->ranks, rt_ranks_rank(task->ranks) > 0 ? RT_OK : keep_pairs(p, count, err),
                          err); /* the file is there for all */
}

static rt_status pairs_fill(void *self, int64_t u, int64_t first, int64_t count, rt_program *program, rt_error *err)
{
    (void)err;
    pairs *p = self;
    float *z = rt__input_data(p->phase, program, "noise"), *x = rt__input_data(p->phase, program, "sample"),
          *draws = rt__input_data(p->phase, program, "draws");
    int64_t *y = rt__input_data(p->phase, program, "y"), batch = p->phase->batch, n = p->x.shape[0], d = p->task->features;
    int q = draws ? rt_net_describe(p->phase->network->denoiser.net)->draws : 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = u * batch + first + i, item = rt_permute_index(p->seed, (uint64_t)(at / n), n, at % n);
        if (z) start_noise(p, item, z + i * d);
        if (draws) rt__show_draws(p->seed, 0, (uint32_t)item, q, d, draws + i * q * d);
        if (x) memcpy(x + i * d, (const float *)p->x.data + item * d, (size_t)d * sizeof *x);
        if (y) rt__show_label(p->task->words, rt__class_of(p->task, item), i, y);
    }
    return RT_OK;
}

static void pairs_free(void *self)
{
    pairs *p = self;
    if (p && p->task->dry_run) rt_rehearsal_reserve(p->task->dry_run, -rt_tensor_count(&p->x) * (int64_t)sizeof(float));
    if (p) rt_tensor_free(&p->x);
    if (p) free(p->grid);
    free(p);
}

static rt_status open_grid(pairs *p, int steps, rt_error *err)
{
    const rt_round *r = p->phase->round;
    p->steps = steps > 0 ? steps : r->teacher_steps;
    p->grid = malloc((size_t)(p->steps + 1) * sizeof *p->grid);
    if (!p->grid) RT_RAISE(RT_E_MEMORY, "out of memory for a grid of %d steps", p->steps);
    if (steps > 0) return rt_grid_nested(p->task->process, &p->steps, 1, p->grid, err);
    memcpy(p->grid, r->grid, (size_t)(p->steps + 1) * sizeof *p->grid);
    return RT_OK;
}

/* Pairs that no update would see are not drawn. The phases and meters of a run share them. */
static int64_t used_pairs(const rt_phase *p, int64_t count)
{
    const rt_task *t = p->round->task;
    int64_t most = 0;
    char line[160];
    for (int i = 0; i < t->plan.n_phases; i++) {
        int64_t used = rt__phase_runs_before(&t->plan.phases[i], rt__round_updates(t->config, 0)) * t->config->train.batch;
        if (used > most) most = used;
    }
    if (most >= count) return count;
    snprintf(line, sizeof line, "%lld teacher samples are drawn instead of %lld: the run uses no more", (long long)most, (long long)count);
    if (t->note && !p->meters) t->note(t->self, line);
    return most;
}

rt_status rt__source_pairs(rt_phase *phase, int64_t count, int steps, rt_error *err)
{
    pairs *p = calloc(1, sizeof *p);
    if (!p) RT_RAISE(RT_E_MEMORY, "out of memory for pairs");
    *p = (pairs){.phase = phase, .task = phase->round->task, .seed = phase->round->task->config->seed};
    RT_TRY(rt__add_source(phase, (rt_source){p, pairs_fill, pairs_free}, err));
    RT_TRY(open_grid(p, steps, err));
    return open_pairs(p, used_pairs(phase, count), err);
}
