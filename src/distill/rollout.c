/* rollout.c -- maps of the current teacher as training examples.
 *
 * The teacher does not change within a round, so a pool of examples is a pure function of (seed, round, pool). It holds trails: R states each, from a
 * point of the grid to the farthest that a pair of times needs, all states on the way kept.
 *
 *     without data   one trail, from the noises p R .. p R + R - 1 of pool p: a solver with a memory has it
 *     with data      one per start s of a pair, from R items of its own, noised (1.1): the solver starts cold
 *
 * An update reads its batch from its pool through a keyed permutation; after `reuse` passes the next pool is drawn. A resumed run draws the pool it
 * stands in again. Example e has row e % R, and of the pairs of times that in stratum e / R of pi's distribution function.
 *
 * What a stochastic solver adds belongs to the row and the step, so that a row's map is one map however often it is used; a student that does not see
 * it learns the mean over rows.
 *
 *     update u  ->  pool = u / updates per pool,  pass, position  ->  example permutation(position)  ->  trail, row, s, t */
#include "distill/rollout.h"

#include "base/internal.h"
#include "model/classes.h"

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

void rt__show_draws(const rt_distill *d, uint32_t clock, uint32_t index, float *z)
{
    for (int j = 0; j < rt__draws_seen(d->config); j++) rt__noise(d, RT_TEACHER_DRAWS, clock + (uint32_t)j, index, 1, z + j * d->features);
}

int64_t rt__class_of(const rt_distill *d, int64_t index) { return rt__usual_class(d->classes, d->null_class, index); }

typedef struct trail {
    int from, steps;  /* on the grid */
    float *states;    /* [steps + 1][rows][features] */
    int64_t *classes; /* [rows] */
} trail;

typedef struct rollouts {
    rt_distill *d;
    rt_solver_map teacher;
    rt_loader *loader; /* of starts from data; NULL: from noise */
    rt__time_pairs pairs;
    int strata, reuse, n_trails, *of; /* of[i]: the trail of pairs that start at point i */
    trail *trails;
    int64_t rows;                     /* of a trail */
    int64_t examples, per_pool, pool; /* in a pool; updates that a pool serves; the pool that is present, -1: none */
} rollouts;

static rt_status draw_trail(rollouts *r, int64_t pool, int g, rt_error *err)
{
    rt_distill *d = r->d;
    trail *w = &r->trails[g];
    const double *s = d->grid + w->from;
    int64_t size = r->rows * d->features, batch = pool * r->n_trails + g, first = batch * r->rows;
    float alpha = (float)rt_process_alpha(d->process, *s), beta = (float)rt_process_beta(d->process, *s);
    if (r->loader) {
        float *eps = w->states + size; /* the room of the next state */
        rt_loader_batch(r->loader, batch, w->states, w->classes);
        for (int64_t j = 0; j < r->rows; j++) rt__noise(d, "start", (uint32_t)d->round, (uint32_t)(first + j), 1, eps + j * d->features);
        for (int64_t i = 0; i < size; i++) w->states[i] = alpha * w->states[i] + beta * eps[i]; /* x_s ~ p_s (1.1) */
    } else {
        for (int64_t j = 0; j < r->rows; j++) {
            rt__noise(d, "rollout", (uint32_t)d->round, (uint32_t)(first + j), rt_process_noise_scale(d->process),
                      w->states + j * d->features);
            w->classes[j] = rt__class_of(d, first + j);
        }
    }
    rt_frozen draws = {RT_TEACHER_DRAWS, (uint32_t)d->round << RT_ROUND_BITS, first};
    return rt__solver_map_roll(&r->teacher, s, 1, w->steps, r->rows, w->states, size, w->classes, &draws, err);
}

static rt_status rollouts_fill(void *self, int64_t update, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    rollouts *r = self;
    rt_distill *d = r->d;
    int64_t batch = d->config->train.batch, pool = update / r->per_pool;
    for (int g = 0; g < r->n_trails && pool != r->pool; g++) RT_TRY(draw_trail(r, pool, g, err));
    r->pool = pool;
    float *xs = rt_program_data(program, d->inputs[0]), *xt = rt_program_data(program, d->inputs[1]);
    int64_t *k = rt_program_data(program, d->inputs[2]), *y = d->inputs[3] ? rt_program_data(program, d->inputs[3]) : NULL;
    float *z = d->draws ? rt_program_data(program, d->draws) : NULL;
    rt__draw draw = {.seed = d->config->seed, .name = rt__draw_name("time pair"), .clock = (uint32_t)d->round};
    for (int64_t i = 0; i < n; i++) {
        int64_t at = (update % r->per_pool) * batch + first + i, pass = pool * r->reuse + at / r->examples;
        int64_t e = rt_permute_index(d->config->seed, (uint64_t)pass, r->examples, at % r->examples), row = e % r->rows;
        uint32_t word[4];
        rt__draw_words(&draw, (uint32_t)(update * batch + first + i), 0, word);
        int pair = rt__time_pairs_at(&r->pairs, ((double)(e / r->rows) + rt__unit(word[0])) / r->strata), from = r->pairs.from[pair];
        const trail *w = &r->trails[r->of[from]];
        const float *s = w->states + ((from - w->from) * r->rows + row) * d->features,
                    *t = s + (r->pairs.to[pair] - from) * r->rows * d->features;
        if (xs) memcpy(xs + i * d->features, s, (size_t)d->features * sizeof *xs);
        if (xt) memcpy(xt + i * d->features, t, (size_t)d->features * sizeof *xt);
        if (z) {
            uint32_t clock = ((uint32_t)d->round << RT_ROUND_BITS) + (uint32_t)(from - w->from);
            int64_t index = (pool * r->n_trails + r->of[from]) * r->rows + row;
            rt__show_draws(d, clock, (uint32_t)index, z + i * rt__draws_seen(d->config) * d->features);
        }
        if (k) k[i] = pair;
        if (y) y[i] = w->classes[row];
    }
    return RT_OK;
}

static void rollouts_free(void *self)
{
    rollouts *r = self;
    if (!r) return;
    rt__solver_map_close(&r->teacher);
    rt_loader_free(r->loader);
    rt__time_pairs_close(&r->pairs);
    for (int g = 0; r->trails && g < r->n_trails; g++) {
        free(r->trails[g].states);
        free(r->trails[g].classes);
    }
    free(r->trails);
    free(r->of);
    free(r);
}

/* Which trails the pairs need. */
static rt_status plan_trails(rollouts *r, rt_error *err)
{
    const rt__time_pairs *p = &r->pairs;
    int N = r->d->teacher_steps;
    r->of = calloc((size_t)N + 1, sizeof *r->of);
    r->trails = calloc((size_t)N + 1, sizeof *r->trails);
    if (!r->of || !r->trails) RT_RAISE(RT_E_MEMORY, "out of memory for rollouts");
    for (int k = 0; k < p->n; k++) { /* pairs are sorted by their start */
        bool begins = r->d->data ? k == 0 || p->from[k] != p->from[k - 1] : k == 0;
        if (begins) r->trails[r->n_trails++].from = r->d->data ? p->from[k] : 0;
        r->of[p->from[k]] = r->n_trails - 1;
        trail *w = &r->trails[r->n_trails - 1];
        if (p->to[k] - w->from > w->steps) w->steps = p->to[k] - w->from;
    }
    return RT_OK;
}

rt_status rt__source_rollout(rt_distill *d, const rt__time_pairs *pairs, int strata, int pool, int reuse)
{
    rt_error *err = d->err;
    const rt_config *c = d->config;
    rollouts *r = calloc(1, sizeof *r);
    if (!r) RT_RAISE(RT_E_MEMORY, "out of memory for rollouts");
    d->source = (rt_source){r, rollouts_fill, rollouts_free};
    *r = (rollouts){.d = d, .pairs = *pairs, .reuse = reuse, .pool = -1};
    RT_TRY(plan_trails(r, err));
    int64_t batch = c->train.batch, want = pool > batch ? pool : batch;
    r->strata = d->data && strata < r->n_trails ? r->n_trails : strata; /* no trail for nothing */
    r->rows = (want + r->strata - 1) / r->strata;
    r->examples = r->rows * r->strata;
    r->per_pool = r->examples * reuse / batch;
    for (int g = 0; g < r->n_trails; g++) {
        trail *w = &r->trails[g];
        w->states = malloc((size_t)(w->steps + 1) * (size_t)(r->rows * d->features) * sizeof *w->states);
        w->classes = calloc((size_t)r->rows, sizeof *w->classes);
        if (!w->states || !w->classes)
            RT_RAISE(RT_E_MEMORY, "out of memory for %lld rollouts of %d states; lower %s.pool", (long long)r->rows * r->n_trails,
                     w->steps + 1, d->method->name);
    }
    if (d->data) RT_TRY(rt_loader_new(&r->loader, d->data, (int)r->rows, c->seed + (uint64_t)d->round, err));
    return rt__map_open(&r->teacher, d, &d->teacher, r->rows < batch ? r->rows : batch, err);
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
