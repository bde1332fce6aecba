/* backends.c -- every backend in float against the reference in double, at the sizes of real networks, where it may choose other algorithms
 * (Winograd, blocked layouts, split sums) than at the sizes of the walk. */
#include "graph/program.h"
#include "retort/ops.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_INPUTS = 3 };

typedef struct specimen {
    const char *name;
    enum { CONV, TRANSPOSED, MATMUL, NORM, ATTENTION, PIXELS, CHAIN } kind;
    int64_t shape[MAX_INPUTS][4]; /* of the inputs; 0 ends a shape, a first 0 the list */
    rt_conv conv;
    bool ta, tb;
} specimen;

#define DENSE(s, p)                                                                                                                        \
    {                                                                                                                                      \
        {s, s}, {p, p, p, p}, {1, 1}, 1                                                                                                    \
    }

static const specimen specimens[] = {
    {"3x3, 16 to 16 channels", CONV, {{RT_BATCH, 16, 14, 14}, {16, 16, 3, 3}, {16}}, DENSE(1, 1), 0, 0},
    {"3x3, 32 to 48, odd sizes", CONV, {{RT_BATCH, 32, 7, 13}, {48, 32, 3, 3}}, DENSE(1, 1), 0, 0},
    {"3x3, 64 to 64, 28x28", CONV, {{RT_BATCH, 64, 28, 28}, {64, 64, 3, 3}, {64}}, DENSE(1, 1), 0, 0},
    {"3x3, 128 to 128, odd sizes", CONV, {{RT_BATCH, 128, 13, 15}, {128, 128, 3, 3}, {128}}, DENSE(1, 1), 0, 0},
    {"3x3, 96 to 160, padded differently", CONV, {{RT_BATCH, 96, 14, 13}, {160, 96, 3, 3}}, {{1, 1}, {2, 0, 1, 2}, {1, 1}, 1}, 0, 0},
    {"3x3, 128 to 32, 4x4", CONV, {{RT_BATCH, 128, 4, 4}, {32, 128, 3, 3}}, DENSE(1, 1), 0, 0},
    {"3x3, first layer", CONV, {{RT_BATCH, 1, 28, 28}, {32, 1, 3, 3}, {32}}, DENSE(1, 1), 0, 0},
    {"3x3, first layer of pictures with alpha", CONV, {{RT_BATCH, 4, 14, 14}, {16, 4, 3, 3}, {16}}, DENSE(1, 1), 0, 0},
    {"3x3, 12 to 48", CONV, {{RT_BATCH, 12, 9, 11}, {48, 12, 3, 3}}, DENSE(1, 1), 0, 0},
    {"3x3, last layer", CONV, {{RT_BATCH, 32, 28, 28}, {1, 32, 3, 3}, {1}}, DENSE(1, 1), 0, 0},
    {"3x3, 20 to 17", CONV, {{RT_BATCH, 20, 9, 11}, {17, 20, 3, 3}}, DENSE(1, 1), 0, 0},
    {"3x3, padded on all sides differently", CONV, {{RT_BATCH, 32, 14, 14}, {32, 32, 3, 3}}, {{1, 1}, {2, 0, 1, 3}, {1, 1}, 1}, 0, 0},
    {"3x3, stride 2, padded right and bottom",
     CONV,
     {{RT_BATCH, 32, 28, 28}, {32, 32, 3, 3}, {32}},
     {{2, 2}, {0, 1, 0, 1}, {1, 1}, 1},
     0,
     0},
    {"3x3, 48 to 3", CONV, {{RT_BATCH, 48, 11, 14}, {3, 48, 3, 3}, {3}}, DENSE(1, 1), 0, 0},
    {"3x3, 32 to 1, padded differently", CONV, {{RT_BATCH, 32, 9, 7}, {1, 32, 3, 3}}, {{1, 1}, {2, 0, 0, 2}, {1, 1}, 1}, 0, 0},
    {"2x3, 16 to 4, without a border", CONV, {{RT_BATCH, 16, 6, 5}, {4, 16, 2, 3}, {4}}, DENSE(1, 0), 0, 0},
    {"5x3, 16 to 2", CONV, {{RT_BATCH, 16, 3, 6}, {2, 16, 5, 3}, {2}}, {{1, 1}, {0, 1, 4, 3}, {1, 1}, 1}, 0, 0},
    {"3x3, stride 2", CONV, {{RT_BATCH, 32, 15, 15}, {64, 32, 3, 3}}, DENSE(2, 1), 0, 0},
    {"1x1, 48 to 96", CONV, {{RT_BATCH, 48, 14, 14}, {96, 48, 1, 1}, {96}}, DENSE(1, 0), 0, 0},
    {"5x5 dilated", CONV, {{RT_BATCH, 16, 20, 20}, {16, 16, 5, 5}}, {{1, 1}, {4, 4, 4, 4}, {2, 2}, 1}, 0, 0},
    {"3x3, 4 groups", CONV, {{RT_BATCH, 64, 14, 14}, {64, 16, 3, 3}, {64}}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 4}, 0, 0},
    {"depthwise", CONV, {{RT_BATCH, 32, 14, 14}, {32, 1, 3, 3}}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 32}, 0, 0},
    {"transposed 4x4, stride 2", TRANSPOSED, {{RT_BATCH, 32, 7, 7}, {32, 16, 4, 4}, {16}}, DENSE(2, 1), 0, 0},
    {"transposed 3x3", TRANSPOSED, {{RT_BATCH, 32, 14, 14}, {32, 32, 3, 3}}, DENSE(1, 1), 0, 0},
    {"linear", MATMUL, {{RT_BATCH, 128}, {256, 128}}, {{0}, {0}, {0}, 0}, 0, 1},
    {"linear over a sequence", MATMUL, {{RT_BATCH, 49, 96}, {33, 96}}, {{0}, {0}, {0}, 0}, 0, 1},
    {"weight gradient", MATMUL, {{RT_BATCH, 96}, {RT_BATCH, 130}}, {{0}, {0}, {0}, 0}, 1, 0},
    {"heads", MATMUL, {{RT_BATCH, 4, 49, 32}, {RT_BATCH, 4, 49, 32}}, {{0}, {0}, {0}, 0}, 0, 1},
    {"heads, shared factor", MATMUL, {{RT_BATCH, 4, 32, 49}, {1, 4, 32, 17}}, {{0}, {0}, {0}, 0}, 1, 0},
    {"group norm", NORM, {{RT_BATCH, 64, 14, 14}, {64}, {64}}, {{0}, {0}, {0}, 8}, 0, 0},
    {"a chain of layers", CHAIN, {{RT_BATCH, 32, 14, 14}, {32, 32, 3, 3}, {32}}, {{0}, {0}, {0}, 0}, 0, 0},
    {"attention", ATTENTION, {{RT_BATCH, 2, 49, 32}, {RT_BATCH, 2, 49, 32}, {RT_BATCH, 2, 49, 32}}, {{0}, {0}, {0}, 0}, 0, 0},
    {"attention of pixels, two heads", PIXELS, {{RT_BATCH, 64, 9, 11}, {192, 64, 1, 1}, {192}}, {{0}, {0}, {0}, 2}, 0, 0},
    {"attention of pixels, narrow heads", PIXELS, {{RT_BATCH, 32, 7, 5}, {96, 32, 1, 1}, {96}}, {{0}, {0}, {0}, 4}, 0, 0},
    {"attention of pixels, 14x14", PIXELS, {{RT_BATCH, 48, 14, 14}, {144, 48, 1, 1}, {144}}, {{0}, {0}, {0}, 1}, 0, 0},
};

enum { OUTPUTS = MAX_INPUTS + 1, BATCH = 5 };

typedef struct outcome {
    int n;
    int64_t count[OUTPUTS];
    double *value[OUTPUTS]; /* y, then gradients of sum(y projection) */
} outcome;

/* What lies between the convolutions of a U-Net; x (B,32,14,14). */
static rt_node *chain(rt_node *x, rt_node *w, rt_node *b)
{
    const rt_conv same = DENSE(1, 1), half = DENSE(2, 1);
    rt_node *h = rt_conv2d(x, w, b, &same), *n = rt_silu(rt_group_norm(h, b, b, 8, 1e-5));
    rt_node *up = rt_upsample_nearest(rt_conv2d(n, w, NULL, &half), 2), *both = rt_concat((rt_node *[]){up, h}, 2, 1);
    rt_node *cut = rt_slice(both, 1, 16, 48, 1),
            *shift = rt_reshape(rt_mean(n, 1u << 2 | 1u << 3, false), 4, (int64_t[]){RT_BATCH, 32, 1, 1});
    return rt_conv2d(rt_add(rt_mul(cut, n), shift), w, b, &same);
}

static rt_node *build(const specimen *s, rt_node *const *in, int n)
{
    rt_node *c = n > 2 ? in[2] : NULL;
    switch (s->kind) {
    case CONV: return rt_conv2d(in[0], in[1], c, &s->conv);
    case TRANSPOSED: return rt_conv_transpose2d(in[0], in[1], c, &s->conv, (int[]){0, 0});
    case MATMUL: return rt_matmul(in[0], in[1], s->ta, s->tb);
    case NORM: return rt_group_norm(in[0], in[1], c, s->conv.groups, 1e-5);
    case ATTENTION: return rt_attention(in[0], in[1], c, 0.18, false);
    case PIXELS:
        return rt_self_attention(rt_conv2d(in[0], in[1], c, RT_CONV(1, 0)), s->conv.groups,
                                 0.02); /* scores about 1: rounding is not magnified */
    case CHAIN: return chain(in[0], in[1], c);
    }
    return NULL;
}

/* Uniform in (-1, 1), exact in float, different for each input. */
static void fill(rt_program *p, rt_node *n, uint64_t seed)
{
    void *data = rt_program_data(p, n);
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; data && i < rt_program_count(p, n); i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        float v = (float)((double)(state >> 40) / 8388608.0 - 1.0);
        if (rt_node_dtype(n) == RT_F32)
            ((float *)data)[i] = v;
        else
            ((double *)data)[i] = (double)v;
    }
}

static outcome evaluate(const specimen *s, rt_dtype dtype, rt_dtype compute, const char *backend, int threads)
{
    rt_graph *g = rt_graph_new(dtype);
    rt_node *in[MAX_INPUTS], *outputs[OUTPUTS];
    int n = 0;
    for (; n < MAX_INPUTS && s->shape[n][0]; n++) {
        int rank = 0;
        while (rank < 4 && s->shape[n][rank]) rank++;
        in[n] = rt_input(g, (const char *[]){"a", "b", "c"}[n], dtype, rank, s->shape[n]);
    }
    rt_node *y = outputs[0] = build(s, in, n), *projection = rt_input(g, "projection", dtype, rt_node_rank(y), rt_node_shape(y));
    rt_grad(rt_sum(rt_mul(y, projection), RT_ALL_AXES, false), in, n, outputs + 1);
    rt_program *p;
    rt_error err = {0};
    rt_program_spec spec = {.outputs = outputs,
                            .n_outputs = n + 1,
                            .batch = BATCH,
                            .backend = rt_backend_find(backend),
                            .threads = threads,
                            .compute = compute};
    if (rt_compile(&p, g, &spec, &err) != RT_OK) fail_msg("%s: %s", s->name, err.text);
    for (int i = 0; i < n; i++) fill(p, in[i], (uint64_t)i + 1);
    fill(p, projection, 9);
    for (int runs = dtype == RT_F32 ? 2 : 1; runs > 0; runs--) /* the second finds scratch as the first one left it */
        if (rt_run(p, &(rt_clock){0}, &err) != RT_OK) fail_msg("%s: %s", s->name, err.text);
    outcome o = {.n = n + 1};
    for (int i = 0; i <= n; i++) {
        o.count[i] = rt_program_count(p, outputs[i]);
        o.value[i] = malloc((size_t)o.count[i] * sizeof *o.value[i]);
        const void *data = rt_program_data(p, outputs[i]);
        for (int64_t j = 0; j < o.count[i]; j++)
            o.value[i][j] = dtype == RT_F32 ? (double)((const float *)data)[j] : ((const double *)data)[j];
    }
    rt_program_free(p);
    rt_graph_free(g);
    return o;
}

static void outcome_free(outcome *o)
{
    for (int i = 0; i < o->n; i++) free(o->value[i]);
}

static int compare(const specimen *s, const char *backend, int threads, const outcome *got, const outcome *want, double forward,
                   double gradient)
{
    int failures = 0;
    for (int i = 0; i < want->n; i++) {
        double d = 0, top = 0;
        for (int64_t j = 0; j < want->count[i]; j++) {
            double e = fabs(got->value[i][j] - want->value[i][j]);
            d = e < INFINITY ? fmax(d, e) : INFINITY;
            top = fmax(top, fabs(want->value[i][j]));
        }
        if (d <= (i ? gradient : forward) * top) continue;
        print_error("%s, %d threads, %s, %s %d: %.2e\n", backend, threads, s->name, i ? "gradient" : "result", i ? i - 1 : 0, d / top);
        failures++;
    }
    return failures;
}

static void test_backends(void **state)
{
    (void)state;
    int failures = 0;
    for (size_t k = 0; k < sizeof specimens / sizeof *specimens; k++) {
        const specimen *s = &specimens[k];
        outcome want = evaluate(s, RT_F64, RT_F32, "reference", 2);
        for (const char *const *name = rt_backend_names(); *name; name++)
            for (int threads = 1; threads <= 2 && rt_backend_open(rt_backend_find(*name), NULL) == RT_OK; threads++) {
                outcome got = evaluate(s, RT_F32, RT_F32, *name, threads);
                failures += compare(s, *name, threads, &got, &want, TOL_BACKEND, TOL_BACKEND_GRAD);
                outcome_free(&got);
            }
        outcome_free(&want);
    }
    assert_int_equal(failures, 0);
}

/* In bf16, against double. */
static void test_bf16(void **state)
{
    (void)state;
    if (!rt_backend_computes(NULL, RT_BF16)) {
        puts("SKIP: this processor gains nothing from bf16");
        skip();
    }
    int failures = 0;
    for (size_t k = 0; k < sizeof specimens / sizeof *specimens; k++) {
        const specimen *s = &specimens[k];
        outcome want = evaluate(s, RT_F64, RT_F32, "reference", 2), got = evaluate(s, RT_F32, RT_BF16, NULL, 2);
        failures += compare(s, "bf16", 2, &got, &want, TOL_BF16, TOL_BF16_GRADIENT);
        outcome_free(&got);
        outcome_free(&want);
    }
    assert_int_equal(failures, 0);
}

/* Algorithms are chosen by rule: another program of the same graph gives the same bits. */
static void test_same_bits(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof specimens / sizeof *specimens; k++) {
        outcome a = evaluate(&specimens[k], RT_F32, RT_F32, NULL, 2), b = evaluate(&specimens[k], RT_F32, RT_F32, NULL, 2);
        for (int i = 0; i < a.n; i++) assert_memory_equal(a.value[i], b.value[i], (size_t)a.count[i] * sizeof *a.value[i]);
        outcome_free(&a);
        outcome_free(&b);
    }
}

/* Between convolutions images keep the backend's layout, forward and backward: only what enters and leaves is converted. */
static void test_few_conversions(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *in[3] = {rt_input(g, "x", RT_F32, 4, (int64_t[]){RT_BATCH, 32, 14, 14}),
                      rt_input(g, "w", RT_F32, 4, (int64_t[]){32, 32, 3, 3}), rt_input(g, "b", RT_F32, 1, (int64_t[]){32})};
    rt_node *outputs[3];
    rt_grad(rt_sum(rt_square(chain(in[0], in[1], in[2])), RT_ALL_AXES, false), in, 3, outputs);
    rt_program *p;
    rt_error err = {0};
    if (rt_compile(&p, g, &(rt_program_spec){.outputs = outputs, .n_outputs = 3, .batch = BATCH, .threads = 1}, &err) != RT_OK)
        fail_msg("%s", err.text);
    int conversions = 0, blocked = 0;
    for (int i = 0; i < p->n_nodes; i++) {
        conversions += p->nodes[i]->op == rt__ops_f32[RT_OP_reblock];
        blocked += p->nodes[i]->block > 1;
    }
    print_message("%d values in blocks, %d conversions\n", blocked, conversions);
    if (blocked)
        assert_true(blocked > 20 && conversions <= 4); /* x comes in, its gradient goes out; the gradients of two sums are broadcast */
    rt_program_free(p);
    rt_graph_free(g);
}

/* Weights of a set that the program does not train are kept in the backend's format; they follow the set's versions, in any type. */
static void test_kept_weights(void **state)
{
    (void)state;
    enum { CHANNELS = 32, SIDE = 14, COUNT = BATCH * CHANNELS * SIDE * SIDE };
    for (int compute = 0; compute < 2; compute++) {
        rt_graph *g = rt_graph_new(RT_F32);
        rt_params *set = rt_params_new("frozen", RT_F32);
        rt_node *x = rt_input(g, "x", RT_F32, 4, (int64_t[]){RT_BATCH, CHANNELS, SIDE, SIDE});
        rt_node *a = rt_param(g, set, "a", 4, (int64_t[]){CHANNELS, CHANNELS, 3, 3}, RT_INIT_UNIFORM(0.1));
        rt_node *b = rt_param(g, set, "b", 2, (int64_t[]){CHANNELS, SIDE * SIDE}, RT_INIT_UNIFORM(0.1));
        rt_node *h = rt_conv2d(x, a, NULL, &(rt_conv)DENSE(1, 1));
        rt_node *y = rt_linear(rt_reshape(h, 3, (int64_t[]){RT_BATCH, CHANNELS, SIDE * SIDE}), b, NULL);
        rt_error err = {0};
        rt_program *kept = NULL, *fresh;
        rt_program_spec spec = {.outputs = &y, .n_outputs = 1, .batch = BATCH, .threads = 1, .compute = compute ? RT_BF16 : RT_F32};
        if (rt_params_init(set, 1, &err) != RT_OK || rt_compile(&kept, g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
        fill(kept, x, 1);
        for (int runs = 0; runs < 2; runs++) assert_int_equal(rt_run(kept, &(rt_clock){0}, &err), RT_OK);
        size_t bytes = (size_t)rt_program_count(kept, y) * sizeof(float);
        float *before = memcpy(malloc(bytes), rt_program_data(kept, y), bytes);
        assert_int_equal(rt_params_init(set, 2, &err), RT_OK); /* a new version */
        assert_int_equal(rt_run(kept, &(rt_clock){0}, &err), RT_OK);
        if (rt_compile(&fresh, g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
        fill(fresh, x, 1);
        assert_int_equal(rt_run(fresh, &(rt_clock){0}, &err), RT_OK);
        assert_memory_equal(rt_program_data(kept, y), rt_program_data(fresh, y), bytes);
        assert_memory_not_equal(rt_program_data(kept, y), before, bytes);
        free(before);
        rt_program_free(kept);
        rt_program_free(fresh);
        rt_graph_free(g);
        rt_params_free(set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_backends), cmocka_unit_test(test_bf16), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_few_conversions), cmocka_unit_test(test_kept_weights)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
