/* rollout.c -- maps of the current teacher as training examples.
 *
 * The teacher does not change within a round, so a pool of examples is a pure function of (seed, round, pool). Without data pool number p starts from
 * the noises p R .. p R + R - 1, runs them down the grid and keeps every start: a solver with a memory has it. With data every start gets R items of
 * its own, noised (1.1), and goes q steps from there, cold. An update reads its batch from its pool through a keyed permutation; after pd.reuse passes
 * the next pool is drawn. A resumed run draws the pool it stands in again.
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
    rt_loader *loader;                /* of starts from data; NULL: from noise */
    int q, stride, n;                 /* teacher steps per example, grid points between starts, starts */
    int64_t noises;                   /* rollouts per pool; with data: examples per start */
    int64_t examples, per_pool, pool; /* in a pool; updates that a pool serves; the pool that is present, -1: none */
    float *states;                    /* [N + 1][noises][features]; with data the first and last of every start: [n][2][noises][features] */
    int64_t *classes;                 /* [noises]; with data [n][noises] */
} rollouts;

/* Where example (start, j) begins, ends, and its class. */
static const float *begin(const rollouts *r, int64_t start, int64_t j)
{
    return r->states + ((r->loader ? 2 * start : start * r->stride) * r->noises + j) * r->d->features;
}
static const float *end(const rollouts *r, int64_t start, int64_t j)
{
    return begin(r, start, j) + (r->loader ? 1 : r->q) * r->noises * r->d->features;
}
static int64_t class_of(const rollouts *r, int64_t start, int64_t j) { return r->classes[(r->loader ? start * r->noises : 0) + j]; }

static rt_status from_noise(rollouts *r, int64_t pool, rt_error *err)
{
    rt_distill *d = r->d;
    uint32_t first = (uint32_t)(pool * r->noises);
    for (int64_t i = 0; i < r->noises; i++) {
        rt__noise(d, "rollout", (uint32_t)d->round, first + (uint32_t)i, rt_process_noise_scale(d->process), r->states + i * d->features);
        r->classes[i] = rt__class_of(d, (int64_t)first + i);
    }
    return rt__roll(&r->teacher, d->grid, 1, d->teacher_steps, r->noises, r->states, r->noises * d->features, r->classes, err);
}

static rt_status from_items(rollouts *r, int64_t pool, rt_error *err)
{
    rt_distill *d = r->d;
    int64_t size = r->noises * d->features;
    for (int64_t k = 0; k < r->n; k++) {
        const double *s = d->grid + k * r->stride;
        float *xs = r->states + 2 * k * size, *xt = xs + size; /* xt holds eps at first */
        int64_t *y = r->classes + k * r->noises, batch = pool * r->n + k;
        float alpha = (float)rt_process_alpha(d->process, *s), beta = (float)rt_process_beta(d->process, *s);
        rt_loader_batch(r->loader, batch, xs, y);
        for (int64_t i = 0; i < r->noises; i++)
            rt__noise(d, "start", (uint32_t)d->round, (uint32_t)(batch * r->noises + i), 1, xt + i * d->features);
        for (int64_t i = 0; i < size; i++) xs[i] = alpha * xs[i] + beta * xt[i]; /* x_s ~ p_s (1.1) */
        memcpy(xt, xs, (size_t)size * sizeof *xt);
        RT_TRY(rt__roll(&r->teacher, s, 1, r->q, r->noises, xt, 0, y, err));
    }
    return RT_OK;
}

static rt_status rollouts_fill(void *self, int64_t update, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    rollouts *r = self;
    rt_distill *d = r->d;
    int64_t batch = d->config->train.batch, pool = update / r->per_pool;
    if (pool != r->pool) RT_TRY(r->loader ? from_items(r, pool, err) : from_noise(r, pool, err));
    r->pool = pool;
    float *xs = rt_program_data(program, d->inputs[0]), *xt = rt_program_data(program, d->inputs[1]);
    int64_t *k = rt_program_data(program, d->inputs[2]), *y = d->inputs[3] ? rt_program_data(program, d->inputs[3]) : NULL;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = (update % r->per_pool) * batch + first + i;
        int64_t pass = at / r->examples;
        int64_t e = rt_permute_index(d->config->seed, (uint64_t)(pool * d->config->pd.reuse + pass), r->examples, at % r->examples);
        int64_t start = e / r->noises, j = e % r->noises;
        if (xs) memcpy(xs + i * d->features, begin(r, start, j), (size_t)d->features * sizeof *xs);
        if (xt) memcpy(xt + i * d->features, end(r, start, j), (size_t)d->features * sizeof *xt);
        if (k) k[i] = start;
        if (y) y[i] = class_of(r, start, j);
    }
    return RT_OK;
}

static void rollouts_free(void *self)
{
    rollouts *r = self;
    if (!r) return;
    rt__evaluator_close(&r->teacher);
    rt_loader_free(r->loader);
    free(r->states);
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
    size_t kept = d->data ? 2 * (size_t)n : (size_t)d->teacher_steps + 1, rows = (size_t)r->noises * (d->data ? (size_t)n : 1);
    r->states = malloc(kept * (size_t)(r->noises * d->features) * sizeof *r->states);
    r->classes = calloc(rows, sizeof *r->classes);
    if (!r->states || !r->classes)
        RT_RAISE(RT_E_MEMORY, "out of memory for %lld rollouts of %zu states; lower pd.pool", (long long)r->noises, kept);
    if (d->data) RT_TRY(rt_loader_new(&r->loader, d->data, (int)r->noises, c->seed + (uint64_t)d->round, err));
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
