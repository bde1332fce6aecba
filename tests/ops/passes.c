/* passes.c -- each pass on and off gives the same numbers: a network of blocks like a U-Net's and its gradients. What fusion
 * is to leave out is counted. */
#include "graph/program.h"
#include "retort/ops.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 7, SIDE = 6, CHANNELS = 32, MOST = 32, ALL = 63 };

typedef struct net {
    rt_graph *g;
    rt_params *set;
    rt_node *x, *emb, *loss, *out[MOST]; /* loss, gradients of x, emb and the weights */
    int n;
} net;

static rt_node *weight(net *n, const char *name, int rank, const int64_t *shape)
{
    rt_node *w = rt_param(n->g, n->set, name, rank, shape, RT_INIT_NORMAL(0.3));
    assert_true(n->n < MOST);
    return n->out[n->n++] = w;
}
#define WEIGHT(n, name, ...) weight(n, name, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

/* norm, SiLU, conv, + t, norm, SiLU, conv, + x */
static rt_node *block(net *n, const char *name, rt_node *x, int64_t in, int64_t out)
{
    rt_push(n->g, "%s", name);
    rt_node *h = rt_silu(rt_group_norm(x, WEIGHT(n, "norm1.w", in), WEIGHT(n, "norm1.b", in), 8, 1e-5));
    h = rt_conv2d(h, WEIGHT(n, "conv1.w", out, in, 3, 3), WEIGHT(n, "conv1.b", out), RT_CONV(1, 1));
    rt_node *t = rt_linear(rt_silu(n->emb), WEIGHT(n, "time", out, 5), NULL);
    h = rt_add(h, rt_reshape(t, 4, (int64_t[]){RT_BATCH, out, 1, 1}));
    h = rt_silu(rt_group_norm(h, WEIGHT(n, "norm2.w", out), WEIGHT(n, "norm2.b", out), 8, 1e-5));
    h = rt_conv2d(h, WEIGHT(n, "conv2.w", out, out, 3, 3), WEIGHT(n, "conv2.b", out), RT_CONV(1, 1));
    if (in != out) x = rt_conv2d(x, WEIGHT(n, "shortcut", out, in, 1, 1), NULL, RT_CONV(1, 0));
    rt_pop(n->g);
    return rt_add(x, h);
}

static net net_new(rt_dtype dtype, unsigned passes)
{
    net n = {.g = rt_graph_new(dtype), .set = rt_params_new("net", dtype), .n = 3};
    rt_graph_passes(n.g, passes);
    n.x = n.out[1] = rt_input(n.g, "x", dtype, 4, (int64_t[]){RT_BATCH, 2, SIDE, SIDE});
    n.emb = n.out[2] = rt_input(n.g, "emb", dtype, 2, (int64_t[]){RT_BATCH, 5});
    rt_node *h = rt_conv2d(n.x, WEIGHT(&n, "in", CHANNELS, 2, 3, 3), WEIGHT(&n, "in.b", CHANNELS), RT_CONV(1, 1));
    rt_node *a = block(&n, "a", h, CHANNELS, CHANNELS), *b = block(&n, "b", rt_concat((rt_node *[]){a, h}, 2, 1), 2 * CHANNELS, CHANNELS);
    n.loss = rt_expect(rt_norm2(b));
    rt_node *wrt[MOST];
    memcpy(wrt, n.out, sizeof wrt);
    rt_grad(n.loss, wrt + 1, n.n - 1, n.out + 1);
    n.out[0] = n.loss;
    return n;
}

static void net_free(net *n)
{
    rt_graph_free(n->g);
    rt_params_free(n->set);
}

typedef struct values {
    int n;
    int64_t count[MOST];
    double *v[MOST];
} values;

static void values_free(values *v)
{
    for (int i = 0; i < v->n; i++) free(v->v[i]);
}

static void put(rt_program *p, rt_node *x, int64_t from, int64_t per_sample)
{
    void *data = rt_program_data(p, x);
    for (int64_t i = 0; i < rt_program_count(p, x); i++) {
        double j = (double)(from * per_sample + i), v = sin(1.7 * j) + 0.5 * cos(0.13 * j * j);
        if (rt_node_dtype(x) == RT_F64)
            ((double *)data)[i] = v;
        else
            ((float *)data)[i] = (float)v;
    }
}

/* The outputs after a batch in slices of `slice` and what remains. */
static values run(net *n, const char *backend, int64_t slice)
{
    values out = {.n = n->n};
    rt_error err = {0};
    if (rt_params_init(n->set, 3, &err) != RT_OK) fail_msg("%s", err.text);
    for (int64_t from = 0; from < BATCH; from += slice) {
        rt_program *p;
        rt_program_spec spec = {.outputs = n->out, .n_outputs = n->n, .batch = BATCH - from < slice ? BATCH - from : slice, .threads = 2};
        spec.backend = rt_backend_find(backend);
        if (rt_compile(&p, n->g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
        put(p, n->x, from, 2 * SIDE * SIDE);
        put(p, n->emb, from, 5);
        if (rt_run(p, &(rt_clock){.total = BATCH, .first = (uint32_t)from}, &err) != RT_OK) fail_msg("%s", err.text);
        for (int i = 0; i < n->n; i++) {
            bool batched = rt_node_rank(n->out[i]) > 0 && rt_node_shape(n->out[i])[0] < 0;
            int64_t count = rt_program_count(p, n->out[i]), at = batched ? count / spec.batch * from : 0;
            out.count[i] = batched ? count / spec.batch * BATCH : count;
            if (from == 0) out.v[i] = calloc((size_t)out.count[i], sizeof **out.v);
            const void *data = rt_program_data(p, n->out[i]);
            for (int64_t j = 0; j < count; j++)
                out.v[i][at + j] += rt_node_dtype(n->out[i]) == RT_F64 ? ((const double *)data)[j] : (double)((const float *)data)[j];
        }
        rt_program_free(p);
    }
    return out;
}

static int compare(const char *what, unsigned passes, const values *got, const values *want, double tolerance)
{
    int failures = 0;
    for (int i = 0; i < want->n; i++) {
        double d = 0, top = 1e-9;
        for (int64_t j = 0; j < want->count[i]; j++) {
            double e = fabs(got->v[i][j] - want->v[i][j]);
            d = e < INFINITY ? fmax(d, e) : INFINITY;
            top = fmax(top, fabs(want->v[i][j]));
        }
        if (d <= tolerance * top) continue;
        print_error("%s, passes %u, outcome %d: %.2e\n", what, passes, i, d / top);
        failures++;
    }
    return failures;
}

/* All on, each one off, all off. */
static void test_numbers_stay(void **state)
{
    (void)state;
    int failures = 0;
    net none = net_new(RT_F64, 0);
    values want = run(&none, "reference", BATCH);
    for (unsigned off = 0; off <= ALL; off = off ? 2 * off : 1) {
        net d = net_new(RT_F64, ALL & ~off), f = net_new(RT_F32, ALL & ~off);
        values got = run(&d, "reference", BATCH), sliced = run(&d, "reference", 4), single = run(&f, NULL, BATCH);
        failures += compare("double", ALL & ~off, &got, &want, TOL_PASSES) + compare("4 + 3", ALL & ~off, &sliced, &want, TOL_PASSES);
        failures += compare("float", ALL & ~off, &single, &want, TOL_PASSES_SINGLE);
        values_free(&got), values_free(&sliced), values_free(&single);
        net_free(&d), net_free(&f);
    }
    values_free(&want);
    net_free(&none);
    assert_int_equal(failures, 0);
}

static int count(const rt_program *p, rt__op_id op)
{
    int n = 0;
    for (int i = 0; i < p->n_steps; i++) n += p->steps[i].node->op == rt__ops_f32[op];
    return n;
}

/* Each block's two norms take in their SiLU, the time, the other branch's gradient, and leave the sums for all that is added before them. */
static void test_what_is_left_out(void **state)
{
    (void)state;
    net n = net_new(RT_F64, ALL);
    rt_program *p;
    rt_error err = {0};
    if (rt_compile(&p, n.g, &(rt_program_spec){.outputs = n.out, .n_outputs = n.n, .batch = 2}, &err) != RT_OK) fail_msg("%s", err.text);
    assert_int_equal(count(p, RT_OP_group_norm), 4);
    assert_int_equal(count(p, RT_OP_group_norm_data), 4);
    assert_int_equal(count(p, RT_OP_group_norm_sums), 0);
    assert_int_equal(count(p, RT_OP_silu), 1); /* of the embedding */
    for (int i = 0; i < p->n_steps; i++) {
        const rt_node *y = p->steps[i].node;
        if (y->op != rt__ops_f32[RT_OP_add] || y->rank < 4) continue;
        assert_true(y->in[1]->op == rt__ops_f32[RT_OP_conv2d] || y->in[0]->op == rt__ops_f32[RT_OP_slice]); /* residuals, skips */
    }
    rt_program_free(p);
    net_free(&n);
}

/* The sums cannot ride on a node that needs them. */
static void test_no_circle(void **state)
{
    (void)state;
    double result[2];
    for (int on = 0; on < 2; on++) {
        rt_graph *g = rt_graph_new(RT_F64);
        rt_graph_passes(g, on ? ALL : 0);
        rt_node *x = rt_input(g, "x", RT_F64, 4, (int64_t[]){RT_BATCH, 4, 3, 3}), *w = rt_input(g, "w", RT_F64, 1, (int64_t[]){4});
        rt_node *y = rt_silu(rt_group_norm(x, w, w, 2, 1e-5)), *gx[2];
        rt_grad(rt_sum(rt_square(y), RT_ALL_AXES, false), (rt_node *[]){x, w}, 2, gx);
        rt_node *z = rt_add(gx[0], rt_mul(x, rt_sum(gx[0], 1u << 2 | 1u << 3, true)));
        z = rt_add(rt_add(z, rt_mul(x, rt_reshape(gx[1], 4, (int64_t[]){1, 4, 1, 1}))), x);
        rt_node *out = rt_expect(rt_norm2(z));
        rt_program *p;
        rt_error err = {0};
        rt_program_spec spec = {.outputs = &out, .n_outputs = 1, .batch = 3, .backend = rt_backend_find("reference")};
        if (rt_compile(&p, g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
        put(p, x, 0, 1);
        put(p, w, 5, 1);
        p->mixed = NULL; /* w's gradient comes back into each sample: right for a whole batch, which this is */
        if (rt_run(p, &(rt_clock){0}, &err) != RT_OK) fail_msg("%s", err.text);
        result[on] = *(double *)rt_program_data(p, out);
        if (on) assert_int_equal(count(p, RT_OP_group_norm_sums), 1);
        rt_program_free(p);
        rt_graph_free(g);
    }
    assert_true(fabs(result[0] - result[1]) <= TOL_PASSES * fabs(result[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers_stay), cmocka_unit_test(test_what_is_left_out),
                                       cmocka_unit_test(test_no_circle)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
