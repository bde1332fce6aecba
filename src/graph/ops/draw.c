/* draw.c -- random numbers as operators: a draw is identified by (seed, name, step, global sample, element), see base/internal.h. */
#include "graph/ops/attr.h"
#include "graph/ops/kernel.h"

static bool draw_shape(rt_node *y)
{
    const rt__draw_attr *a = y->attr;
    y->dtype = rt_graph_real(y->graph);
    y->rank = a->rank;
    memcpy(y->shape, a->shape, sizeof y->shape);
    return true;
}
static bool randint_shape(rt_node *y)
{
    const rt__draw_attr *a = y->attr;
    draw_shape(y);
    y->dtype = RT_I64;
    return (a->below >= 1 && a->below <= UINT32_MAX) || rt__bad(y, "numbers below %lld; must be 1 to 2^32 - 1", (long long)a->below);
}

/* Rows of `width` elements per sample, four to a block. Without the symbol a draw is the whole batch's, the same in every slice. */
static void each_block(const rt_call *c,
                       void (*put)(const rt_call *c, const rt__draw *d, uint32_t sample, int64_t block, int64_t at, int64_t n))
{
    const rt__draw_attr *a = c->node->attr;
    rt__draw d = {.seed = c->clock->seed, .name = a->name, .clock = c->clock->step};
    int64_t samples = c->out.rank ? c->out.dim[0] : 1, width = c->out.count / samples,
            per_sample = a->rank && a->shape[0] < 0 ? -a->shape[0] : 0;
    uint32_t first = (uint32_t)(c->clock->first * per_sample);
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t s = 0; s < samples; s++)
        for (int64_t i = 0; i < width; i += 4) put(c, &d, first + (uint32_t)s, i / 4, s * width + i, width - i < 4 ? width - i : 4);
}
static void put_normal(const rt_call *c, const rt__draw *d, uint32_t sample, int64_t block, int64_t at, int64_t n)
{
    double v[4];
    rt__draw_normal(d, sample, (uint32_t)block, v);
    for (int64_t j = 0; j < n; j++) ((real *)c->out.data)[at + j] = (real)v[j];
}
static void put_unit(const rt_call *c, const rt__draw *d, uint32_t sample, int64_t block, int64_t at, int64_t n)
{
    uint32_t w[4];
    rt__draw_words(d, sample, (uint32_t)block, w);
    for (int64_t j = 0; j < n; j++)
        ((real *)c->out.data)[at + j] = sizeof(real) == sizeof(float) ? (real)rt__uniform_single(w[j]) : (real)rt__unit(w[j]);
}
static void put_int(const rt_call *c, const rt__draw *d, uint32_t sample, int64_t block, int64_t at, int64_t n)
{
    const rt__draw_attr *a = c->node->attr;
    uint32_t w[4];
    rt__draw_words(d, sample, (uint32_t)block, w);
    for (int64_t j = 0; j < n; j++) ((int64_t *)c->out.data)[at + j] = rt__integer_of(w[j], a->below);
}
static void randn_run(const rt_call *c) { each_block(c, put_normal); }
static void rand_run(const rt_call *c) { each_block(c, put_unit); }
static void randint_run(const rt_call *c) { each_block(c, put_int); }

static rt_node *randn_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_randn(g, "z", 1, (int64_t[]){0});
    case 0: return rt_randn(g, "z", 2, (int64_t[]){RT_BATCH, 7});
    case 1: return rt_randn(g, "z", 2, (int64_t[]){-2, 3});
    case 2: return rt_mul(rt_input(g, "a", rt_graph_real(g), 1, (int64_t[]){RT_BATCH}), rt_randn(g, "z", 0, NULL));
    default: return NULL;
    }
}
static rt_node *rand_sample(rt_graph *g, int k)
{
    return k == -1 ? rt_rand(g, "z", 1, (int64_t[]){0}) : k == 0 ? rt_rand(g, "z", 2, (int64_t[]){RT_BATCH, 7}) : NULL;
}
static rt_node *randint_sample(rt_graph *g, int k)
{
    return k == -1 ? rt_randint(g, "z", 1, (int64_t[]){3}, 0) : k == 0 ? rt_randint(g, "z", 1, (int64_t[]){RT_BATCH}, 10) : NULL;
}

#define DRAW(op, text, rule)                                                                                                               \
    .name = #op, .formula = text, .attr_size = sizeof(rt__draw_attr), .flags = RT_ROW_RANDOM, .shape = rule, .run = op##_run,              \
    .sample = op##_sample

const rt_op RT_ROW(randn) = {DRAW(randn, "independent N(0, 1)", draw_shape)};
const rt_op RT_ROW(rand) = {DRAW(rand, "uniform in (0, 1)", draw_shape)};
const rt_op RT_ROW(randint) = {DRAW(randint, "uniform in 0 .. n-1", randint_shape)};
