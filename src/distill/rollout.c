/* rollout.c -- maps of the current teacher as training examples.
 *
 * The teacher does not change within a round, so a pool of examples is a pure function of (seed, round, pool). It holds trajectories: R rows each, from
 * a point of the grid to the farthest that a pair of times needs, all states on the way kept.
 *
 *     without data   one trajectory, from the noises p R .. p R + R - 1 of pool p: a solver with a memory has it
 *     with data      one per start s of a pair, from R items of its own, noised (1.1): the solver starts cold
 *
 * A run of the phase reads its batch from its pool through a keyed permutation; after `reuse` passes the next pool is drawn. A resumed run draws the pool it
 * stands in again. Example e has row e % R, and of the pairs of times that in stratum e / R of pi's distribution function.
 *
 * What a stochastic solver adds belongs to the row and the step, so that a row's map is one map however often it is used; a student that does not see
 * it learns the mean over rows.
 *
 *     run u  ->  pool = u / runs per pool,  pass, position  ->  example permutation(position)  ->  trajectory, row, s, t */
#include "distill/sources.h"

#include "base/internal.h"
#include "model/classes.h"

#include <stdlib.h>
#include <string.h>

typedef struct trajectory {
    int from, steps;  /* on the grid */
    float *states;    /* [steps + 1][rows][features] */
    int64_t *classes; /* [rows] */
    double *omegas;   /* [rows], where guidance has a knob: one for a whole rollout */
} trajectory;

typedef struct rollouts {
    rt_phase *phase;
    const rt_task *task;
    const double *grid; /* the round's */
    uint64_t seed;
    uint32_t round;
    rt_solver_map teacher;
    rt_loader *loader; /* of starts from data; NULL: from noise */
    rt__time_pairs pairs;
    int pairs_per_row, reuse, n_trajectories, *of; /* of[i]: the trajectory of pairs that start at point i */
    trajectory *trajectories;
    int64_t rows;                     /* of a trajectory */
    int64_t part[2];                  /* those that this rank rolls, from and to */
    size_t *at;                       /* in bytes of a state, where each rank's begin, and the end */
    int64_t examples, per_pool, pool; /* in a pool; updates that a pool serves; the pool that is present, -1: none */
    int64_t drawing;                  /* the trajectory in progress */
    rt_status (*stop)(void *self, int64_t done, int64_t total, rt_error *err); /* the task's pulse */
} rollouts;

static rt_status draw_trajectory(rollouts *r, int64_t pool, int g, rt_error *err)
{
    const rt_task *t = r->task;
    trajectory *w = &r->trajectories[g];
    const double *s = r->grid + w->from;
    int64_t d = t->features, size = r->rows * d, batch = pool * r->n_trajectories + g, first = batch * r->rows;
    float alpha = (float)rt_process_alpha(t->process, *s), beta = (float)rt_process_beta(t->process, *s);
    if (r->loader) {
        float *eps = w->states + size; /* the room of the next state */
        rt_loader_batch(r->loader, batch, w->states, w->classes);
        for (int64_t j = 0; j < r->rows; j++) rt__noise(r->seed, "start", r->round, (uint32_t)(first + j), 1, d, eps + j * d);
        for (int64_t i = 0; i < size; i++) w->states[i] = alpha * w->states[i] + beta * eps[i]; /* x_s ~ p_s (1.1) */
    } else {
        double scale = rt_process_noise_scale(t->process);
        for (int64_t j = 0; j < r->rows; j++) {
            rt__noise(r->seed, "rollout", r->round, (uint32_t)(first + j), scale, d, w->states + j * d);
            w->classes[j] = rt__class_of(t, first + j);
        }
    }
    rt__draw omega = {.seed = r->seed, .name = rt__draw_name("omega"), .clock = r->round};
    for (int64_t j = 0; j < r->rows && t->plan.knob; j++) {
        uint32_t word[4];
        rt__draw_words(&omega, (uint32_t)(first + j), 0, word);
        w->omegas[j] = t->plan.omega_low + rt__unit(word[0]) * (t->plan.omega_high - t->plan.omega_low);
    }
    r->teacher.omegas = t->plan.knob ? w->omegas + r->part[0] : NULL;
    rt_frozen draws = {RT_TEACHER_DRAWS, r->round << RT_ROUND_BITS, first + r->part[0]};
    r->drawing = g;
    RT_TRY(rt__solver_map_roll(&r->teacher, s, 1, w->steps, r->part[1] - r->part[0], w->states + r->part[0] * d, size,
                               w->classes + r->part[0], &draws, err));
    for (int k = 1; k <= w->steps; k++) RT_TRY(rt_ranks_gather(t->ranks, w->states + k * size, r->at, err));
    return RT_OK;
}

static rt_status rollouts_fill(void *self, int64_t u, int64_t first, int64_t n, rt_program *program, rt_error *err)
{
    rollouts *r = self;
    int64_t d = r->task->features, batch = r->task->config->train.batch, pool = u / r->per_pool;
    for (int g = 0; g < r->n_trajectories && pool != r->pool; g++) RT_TRY(draw_trajectory(r, pool, g, err));
    r->pool = pool;
    float *xs = rt__input_data(r->phase, program, "xs"), *xt = rt__input_data(r->phase, program, "xt"),
          *z = rt__input_data(r->phase, program, "draws"), *omega = rt__input_data(r->phase, program, "omega");
    int64_t *k = rt__input_data(r->phase, program, "k"), *y = rt__input_data(r->phase, program, "y");
    rt__draw draw = {.seed = r->seed, .name = rt__draw_name("time pair"), .clock = r->round};
    for (int64_t i = 0; i < n; i++) {
        int64_t at = (u % r->per_pool) * batch + first + i, pass = pool * r->reuse + at / r->examples;
        int64_t e = rt_permute_index(r->seed, (uint64_t)pass, r->examples, at % r->examples), row = e % r->rows;
        uint32_t word[4];
        rt__draw_words(&draw, (uint32_t)(u * batch + first + i), 0, word);
        int pair = rt__time_pairs_at(&r->pairs, ((double)(e / r->rows) + rt__unit(word[0])) / r->pairs_per_row), from = r->pairs.from[pair];
        const trajectory *w = &r->trajectories[r->of[from]];
        const float *s = w->states + ((from - w->from) * r->rows + row) * d, *t = s + (r->pairs.to[pair] - from) * r->rows * d;
        if (xs) memcpy(xs + i * d, s, (size_t)d * sizeof *xs);
        if (xt) memcpy(xt + i * d, t, (size_t)d * sizeof *xt);
        if (z) {
            int q = rt_net_describe(r->phase->network->denoiser.net)->draws;
            uint32_t clock = (r->round << RT_ROUND_BITS) + (uint32_t)(from - w->from);
            int64_t index = (pool * r->n_trajectories + r->of[from]) * r->rows + row;
            rt__show_draws(r->seed, clock, (uint32_t)index, q, d, z + i * q * d);
        }
        if (k) k[i] = pair;
        if (y) rt__show_label(r->task->words, w->classes[row], i, y);
        if (omega) omega[i] = (float)w->omegas[row];
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
    for (int g = 0; r->trajectories && g < r->n_trajectories; g++) {
        free(r->trajectories[g].states);
        free(r->trajectories[g].classes);
        free(r->trajectories[g].omegas);
    }
    free(r->trajectories);
    free(r->of);
    free(r->at);
    free(r);
}

/* Which trajectories the pairs need. */
static rt_status plan_trajectories(rollouts *r, rt_error *err)
{
    const rt__time_pairs *p = &r->pairs;
    int N = r->phase->round->teacher_steps;
    r->of = calloc((size_t)N + 1, sizeof *r->of);
    r->trajectories = calloc((size_t)N + 1, sizeof *r->trajectories);
    if (!r->of || !r->trajectories) RT_RAISE(RT_E_MEMORY, "out of memory for rollouts");
    for (int k = 0; k < p->n; k++) { /* pairs are sorted by their start */
        bool begins = r->task->data ? k == 0 || p->from[k] != p->from[k - 1] : k == 0;
        if (begins) r->trajectories[r->n_trajectories++].from = r->task->data ? p->from[k] : 0;
        r->of[p->from[k]] = r->n_trajectories - 1;
        trajectory *w = &r->trajectories[r->n_trajectories - 1];
        if (p->to[k] - w->from > w->steps) w->steps = p->to[k] - w->from;
    }
    return RT_OK;
}

/* The first pool of a sitting shows how far it is. Networks that an update has begun to move must not be left there: only the update's first phase stops. */
static rt_status pulse(void *self, int64_t done, int64_t total, rt_error *err)
{
    rollouts *r = self;
    const rt_task *t = r->task;
    int64_t here = r->drawing * r->rows + done * r->rows / total;
    if (t->progress && r->pool < 0) t->progress(t->self, "teacher rollouts", here, r->n_trajectories * r->rows);
    return r->phase == &r->phase->round->phases[0] ? r->stop((void *)(uintptr_t)t, done, total, err) : RT_OK;
}

/* Ranks roll neighbouring rows, whole ones of the `together` that are asked at a time: each is asked as it would be by one rank. */
static rt_status share_rows(rollouts *r, int64_t together, rt_error *err)
{
    const rt_ranks *ranks = r->task->ranks;
    int R = rt_ranks_size(ranks);
    int64_t calls = (r->rows + together - 1) / together;
    r->at = malloc((size_t)(R + 1) * sizeof *r->at);
    if (!r->at) RT_RAISE(RT_E_MEMORY, "out of memory for rollouts");
    for (int i = 0; i <= R; i++) {
        int64_t row = calls * i / R * together;
        if (row > r->rows) row = r->rows;
        r->at[i] = (size_t)(row * r->task->features) * sizeof(float);
        if (i == rt_ranks_rank(ranks)) r->part[0] = row;
        if (i == rt_ranks_rank(ranks) + 1) r->part[1] = row;
    }
    return RT_OK;
}

rt_status rt__source_rollout(rt_phase *p, const rt__time_pairs *pairs, int pairs_per_row, int pool, int reuse, rt_error *err)
{
    const rt_task *t = p->round->task;
    const rt_config *c = t->config;
    rollouts *r = calloc(1, sizeof *r);
    if (!r) RT_RAISE(RT_E_MEMORY, "out of memory for rollouts");
    RT_TRY(rt__add_source(p, (rt_source){r, rollouts_fill, rollouts_free}, err));
    *r = (rollouts){.phase = p,
                    .task = t,
                    .grid = p->round->grid,
                    .seed = rt__stream_seed(p),
                    .round = (uint32_t)p->round->index,
                    .pairs = *pairs,
                    .reuse = reuse,
                    .pool = -1};
    RT_TRY(plan_trajectories(r, err));
    int64_t batch = c->train.batch, used = rt__phase_runs_before(p->plan, rt__round_updates(c, p->round->index)) * batch,
            want = pool < (used + reuse - 1) / reuse ? pool : (used + reuse - 1) / reuse;
    if (want < batch) want = batch;
    r->pairs_per_row = t->data && pairs_per_row < r->n_trajectories ? r->n_trajectories : pairs_per_row; /* no trajectory for nothing */
    r->rows = (want + r->pairs_per_row - 1) / r->pairs_per_row;
    r->examples = r->rows * r->pairs_per_row;
    r->per_pool = r->examples * reuse / batch;
    for (int g = 0; g < r->n_trajectories; g++) {
        trajectory *w = &r->trajectories[g];
        w->states = malloc((size_t)(w->steps + 1) * (size_t)(r->rows * t->features) * sizeof *w->states);
        w->classes = calloc((size_t)r->rows, sizeof *w->classes);
        w->omegas = calloc((size_t)r->rows, sizeof *w->omegas);
        if (!w->states || !w->classes || !w->omegas)
            RT_RAISE(RT_E_MEMORY, "out of memory for %lld rollouts of %d states; lower %s.pool", (long long)r->rows * r->n_trajectories,
                     w->steps + 1, t->method->name);
    }
    if (t->data) RT_TRY(rt_loader_new(&r->loader, t->data, (int)r->rows, r->seed + r->round, err));
    int64_t together = r->rows < rt__shard(c) ? r->rows : rt__shard(c);
    RT_TRY(share_rows(r, together, err));
    RT_TRY(rt__map_open(&r->teacher, t, &rt__teacher(t)->denoiser, together, r->seed, err));
    r->stop = r->teacher.pulse;
    r->teacher.pulse_self = r;
    r->teacher.pulse = pulse;
    return RT_OK;
}
