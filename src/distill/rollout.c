/* rollout.c -- rollouts of the current teacher as training examples.
 *
 * The teacher does not change within a round, so a pool of examples is a pure function of (seed, round, pool): pool number p starts from the noises
 * p R .. p R + R - 1, runs them down the grid and keeps every start. An update reads its batch from its pool through a keyed permutation; after
 * pd.reuse passes the next pool is drawn. A resumed run draws the pool it stands in again.
 *
 *     update u  ->  pool = u / updates per pool,  pass, position  ->  examples permutation(position) */
#include "distill/rollout.h"
#include "distill/denoiser.h"

#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

void rt__noise(const rt_distill *d, const char *name, uint32_t clock, uint32_t index, double scale, float *out)
{
    rt__draw draw = {.seed = d->config->seed, .name = rt__draw_name(name), .clock = clock};
    for (int64_t i = 0; i < d->features; i += 4) {
        double v[4];
        rt__draw_normal(&draw, index, (uint32_t)(i / 4), v);
        for (int j = 0; j < 4 && i + j < d->features; j++) out[i + j] = (float)(scale * v[j]);
    }
}

int64_t rt__class_of(const rt_distill *d, int64_t index)
{
    int n = d->classes - (d->null_class >= 0);
    return n > 0 ? index % n : 0;
}

typedef struct rollouts {
    rt_distill *d;
    rt_evaluator teacher;
    int q, stride, n;                 /* teacher steps per example, grid points between starts, starts */
    int64_t noises;                   /* rollouts per pool */
    int64_t examples, per_pool, pool; /* in a pool; updates that a pool serves; the pool that is present, -1: none */
    float *states, *x0;               /* states [N+1][noises][features] */
    int64_t *classes;
} rollouts;

static rt_status draw_pool(rollouts *r, int64_t pool, rt_error *err)
{
    rt_distill *d = r->d;
    int64_t size = r->noises * d->features;
    uint32_t first = (uint32_t)(pool * r->noises);
    for (int64_t i = 0; i < r->noises; i++) {
        rt__noise(d, "rollout", (uint32_t)d->round, first + (uint32_t)i, rt_process_noise_scale(d->process), r->states + i * d->features);
        r->classes[i] = rt__class_of(d, (int64_t)first + i);
    }
    for (int j = 0; j < d->teacher_steps; j++) {
        float *x = r->states + (j + 1) * size;
        memcpy(x, x - size, (size_t)size * sizeof *x);
        RT_TRY(rt__ddim(&r->teacher, x, d->grid[j], d->grid[j + 1], r->classes, r->noises, r->x0, err));
    }
    r->pool = pool;
    return RT_OK;
}

static rt_status rollouts_fill(void *self, int64_t update, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    rollouts *r = self;
    rt_distill *d = r->d;
    int64_t batch = d->config->train.batch, size = r->noises * d->features, pool = update / r->per_pool;
    if (pool != r->pool) RT_TRY(draw_pool(r, pool, err));
    float *xs = rt_program_data(program, d->inputs[0]), *xt = rt_program_data(program, d->inputs[1]);
    int64_t *k = rt_program_data(program, d->inputs[2]), *y = d->inputs[3] ? rt_program_data(program, d->inputs[3]) : NULL;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = (update % r->per_pool) * batch + first + i;
        int64_t pass = at / r->examples;
        int64_t e = rt_permute_index(d->config->seed, (uint64_t)(pool * d->config->pd.reuse + pass), r->examples, at % r->examples);
        int64_t start = e / r->noises, noise = e % r->noises;
        const float *s = r->states + start * r->stride * size + noise * d->features;
        if (xs) memcpy(xs + i * d->features, s, (size_t)d->features * sizeof *s);
        if (xt) memcpy(xt + i * d->features, s + r->q * size, (size_t)d->features * sizeof *s);
        if (k) k[i] = start;
        if (y) y[i] = r->classes[noise];
    }
    return RT_OK;
}

static void rollouts_free(void *self)
{
    rollouts *r = self;
    if (!r) return;
    rt__evaluator_close(&r->teacher);
    free(r->states);
    free(r->x0);
    free(r->classes);
    free(r);
}

rt_status rt__source_rollout(rt_distill *d, int q, int stride, int n)
{
    rt_error *err = d->err;
    const rt_config *c = d->config;
    rollouts *r = calloc(1, sizeof *r);
    if (!r) RT_RAISE(RT_E_MEMORY, "out of memory for rollouts");
    d->source = (rt_source){r, rollouts_fill, rollouts_free};
    *r = (rollouts){.d = d, .q = q, .stride = stride, .n = n, .pool = -1};
    int64_t batch = c->train.batch, want = c->pd.pool > batch ? c->pd.pool : batch;
    r->noises = (want + n - 1) / n;
    r->examples = r->noises * n;
    r->per_pool = r->examples * c->pd.reuse / batch;
    size_t size = (size_t)(r->noises * d->features);
    r->states = malloc((size_t)(d->teacher_steps + 1) * size * sizeof *r->states);
    r->x0 = malloc(size * sizeof *r->x0);
    r->classes = malloc((size_t)r->noises * sizeof *r->classes);
    if (!r->states || !r->x0 || !r->classes)
        RT_RAISE(RT_E_MEMORY, "out of memory for %lld rollouts of %d states; lower pd.pool", (long long)r->noises, d->teacher_steps + 1);
    return rt__evaluator_open(&r->teacher, d, &d->teacher, r->noises < batch ? r->noises : batch, err);
}

/* ---- data */

typedef struct from_data {
    rt_distill *d;
    rt_loader *loader;
} from_data;

/* The loader deals in slices: number s of update u is its batch u batch/n + s. */
static rt_status data_fill(void *self, int64_t update, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    (void)err;
    from_data *f = self;
    int64_t *y = f->d->inputs[1] ? rt_program_data(program, f->d->inputs[1]) : NULL;
    rt_loader_batch(f->loader, (update * f->d->config->train.batch + first) / n, rt_program_data(program, f->d->inputs[0]), y);
    return RT_OK;
}

static void data_free(void *self)
{
    from_data *f = self;
    if (f) rt_loader_free(f->loader);
    free(f);
}

rt_status rt__source_data(rt_distill *d)
{
    rt_error *err = d->err;
    from_data *f = calloc(1, sizeof *f);
    if (!f) RT_RAISE(RT_E_MEMORY, "out of memory for a loader");
    f->d = d;
    d->source = (rt_source){f, data_fill, data_free};
    return rt_loader_new(&f->loader, d->data, rt__slice(d->config), d->config->seed + (uint64_t)d->round, err);
}
