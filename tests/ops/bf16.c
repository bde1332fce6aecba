/* bf16.c -- programs that compute in bf16: rounding to the bit, a U-Net against float, slices, updates. Rows one by one: walk.c, backends.c. */
#include "net_check.h"

#include "graph/program.h"
#include "retort/nn.h"
#include "tolerances.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void needs_bf16(void)
{
    if (!rt_backend_computes(NULL, RT_BF16)) {
        puts("SKIP: this processor gains nothing from bf16");
        skip();
    }
}

/* ---- rounding: as rt_tensor_cast, which has code of its own */

static void test_rounding(void **state)
{
    (void)state;
    enum { N = 1 << 16, SPECIAL = 16 };
    static float x[N];
    static const uint32_t special[SPECIAL] = {0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7f7fffff, 0xff7fffff,
                                              0x00000001, 0x007fffff, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff,
                                              0x7f7f8000, 0x7f7f7fff, 0x80008000, 0x00018000};
    for (uint32_t i = 0; i < N; i++) {
        uint32_t bits = i < SPECIAL ? special[i] : i * 2654435761u;
        memcpy(&x[i], &bits, sizeof bits);
    }
    rt_graph *g = rt_graph_new(RT_F32);
    g->force_bf16 = true;
    rt_node *in = rt_input(g, "x", RT_F32, 1, (int64_t[]){N}), *out = rt_reshape(in, 2, (int64_t[]){2, N / 2});
    rt_program *p;
    OK(rt_compile(&p, g, &(rt_program_spec){.outputs = &out, .n_outputs = 1, .batch = 1, .threads = 2}, err));
    memcpy(rt_program_data(p, in), x, sizeof x);
    OK(rt_run(p, &(rt_clock){0}, err));
    const float *y = rt_program_data(p, out);
    rt_tensor from = {.dtype = RT_F32, .rank = 1, .shape = {N}, .data = x}, rounded, want;
    OK(rt_tensor_cast(&rounded, &from, RT_BF16, err));
    OK(rt_tensor_cast(&want, &rounded, RT_F32, err));
    int nans = 0;
    for (int i = 0; i < N; i++) {
        nans += isnan(x[i]);
        float expected = ((const float *)want.data)[i];
        if (strcmp(rt_isa_name(), "avx512-bf16") == 0 && fabsf(x[i]) < FLT_MIN) expected = copysignf(0, x[i]); /* the processor's way */
        if (isnan(x[i]) ? !isnan(y[i]) : memcmp(&y[i], &expected, sizeof expected) != 0)
            fail_msg("%a became %a, not %a", (double)x[i], (double)y[i], (double)expected);
    }
    assert_true(nans > 100);
    rt_tensor_free(&rounded);
    rt_tensor_free(&want);
    rt_program_free(p);
    rt_graph_free(g);
}

/* ---- a network: mean((out - target)^2) of 4 images, its gradients or an update */

enum { IMAGES = 4 };

typedef struct run {
    rt_net *net;
    rt_params *set;
    rt_graph *g;
    rt_node *x, *t, *target, *out, *loss, **grads;
    rt_program *p;
    int n; /* of gradients */
} run;

static void build(run *r)
{
    *r = (run){.g = rt_graph_new(RT_F32), .set = rt_params_new("net", RT_F32)};
    OK(rt_net_open(&r->net, "bench/small", err));
    OK(rt_net_declare(r->net, r->set, err));
    OK(rt_params_init(r->set, 3, err));
    const rt_net_info *i = rt_net_describe(r->net);
    int64_t shape[] = {RT_BATCH, i->in_channels, i->height, i->width};
    r->x = rt_input(r->g, "x", RT_F32, 4, shape);
    r->t = rt_input(r->g, "t", RT_F32, 1, shape);
    r->target = rt_input(r->g, "target", RT_F32, 4, shape);
    r->out = rt_net_apply(r->net, r->set, r->x, r->t, NULL);
    r->loss = rt_mse(r->out, r->target);
}

static void differentiate(run *r)
{
    r->n = rt_params_entries(r->set) + 1;
    rt_node **wrt = calloc((size_t)r->n, sizeof *wrt);
    r->grads = calloc((size_t)r->n, sizeof *r->grads);
    for (int i = 0; i < r->n - 1; i++) {
        const rt_entry *e = rt_params_entry(r->set, i);
        wrt[i] = rt_param(r->g, r->set, e->name, e->rank, e->shape, e->init);
    }
    wrt[r->n - 1] = r->x;
    rt_grad(r->loss, wrt, r->n, r->grads);
    free(wrt);
}

static void compile(run *r, rt_node *update, int64_t batch, rt_dtype compute)
{
    rt_node **outputs = calloc((size_t)r->n + 2, sizeof *outputs);
    outputs[0] = r->out;
    outputs[1] = r->loss;
    for (int i = 0; i < r->n; i++) outputs[2 + i] = r->grads[i];
    rt_program_spec spec = {.outputs = outputs,
                            .n_outputs = r->n + 2,
                            .updates = &update,
                            .n_updates = update != NULL,
                            .batch = batch,
                            .threads = 1,
                            .compute = compute};
    OK(rt_compile(&r->p, r->g, &spec, err));
    free(outputs);
}

static void fill(run *r, int64_t first)
{
    const rt_node *const nodes[] = {r->x, r->target, r->t};
    for (uint32_t k = 0; k < 3; k++) {
        float *data = rt_program_data(r->p, nodes[k]);
        int64_t count = rt_program_count(r->p, nodes[k]), width = k < 2 ? 28 * 28 : 1;
        for (int64_t i = 0; i < count; i++) {
            double v[4];
            rt__draw_normal(&(rt__draw){.seed = 1, .name = k}, (uint32_t)(first + i / width), (uint32_t)(i % width / 4), v);
            data[i] = (float)(k < 2 ? v[i % 4] : 300 + 100 * v[0]);
        }
    }
}

static void release(run *r)
{
    rt_program_free(r->p);
    rt_graph_free(r->g);
    rt_params_free(r->set);
    rt_net_free(r->net);
    free(r->grads);
}

/* |a - b| / |b| over all elements */
typedef struct difference {
    double d2, b2;
} difference;

static void add(difference *d, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        d->d2 += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        d->b2 += (double)b[i] * (double)b[i];
    }
}

static double ratio(const difference *d) { return sqrt(d->d2 / d->b2); }

static void go(run *r, bool resumed, bool more, int64_t first)
{
    OK(rt_run(r->p, &(rt_clock){.total = IMAGES, .first = (uint32_t)first, .resumed = resumed, .more = more}, err));
}

static const float *value(run *r, const rt_node *n) { return rt_program_data(r->p, n); }

static void test_network(void **state)
{
    (void)state;
    needs_bf16();
    run a, b;
    build(&a), differentiate(&a), compile(&a, NULL, IMAGES, RT_BF16), fill(&a, 0), go(&a, false, false, 0);
    build(&b), differentiate(&b), compile(&b, NULL, IMAGES, RT_F32), fill(&b, 0), go(&b, false, false, 0);
    difference out = {0}, gradient = {0};
    add(&out, value(&a, a.out), value(&b, b.out), rt_program_count(a.p, a.out));
    for (int i = 0; i < a.n; i++) add(&gradient, value(&a, a.grads[i]), value(&b, b.grads[i]), rt_program_count(a.p, a.grads[i]));
    int casts = 0, halves = 0, images = 0;
    for (int i = 0; i < a.p->n_nodes; i++) {
        const rt_node *n = a.p->nodes[i];
        casts += n->op == rt__ops_f32[RT_OP_cast] && n->rank == 4;
        images += n->rank == 4 && n->shape[0] < 0;
        halves += n->rank == 4 && n->shape[0] < 0 && n->dtype == RT_BF16;
    }
    print_message("output %.1e, gradients %.1e; %d of %d images in bf16, %d casts\n", ratio(&out), ratio(&gradient), halves, images, casts);
    assert_true(ratio(&out) > 1e-5 && ratio(&out) <= TOL_BF16_NET);
    assert_true(ratio(&gradient) > 1e-5 && ratio(&gradient) <= TOL_BF16_NET_GRADIENT);
    assert_true((double)rt_program_bytes(a.p) < 0.7 * (double)rt_program_bytes(b.p));
    release(&a), release(&b);
}

static void test_slices(void **state)
{
    (void)state;
    needs_bf16();
    run a, b;
    build(&a), differentiate(&a), compile(&a, NULL, IMAGES / 2, RT_BF16);
    build(&b), differentiate(&b), compile(&b, NULL, IMAGES, RT_BF16), fill(&b, 0), go(&b, false, false, 0);
    for (int slice = 0; slice < 2; slice++) {
        fill(&a, slice * IMAGES / 2);
        go(&a, slice > 0, slice == 0, slice * IMAGES / 2);
    }
    difference gradient = {0};
    for (int i = 0; i < a.n - 1; i++) add(&gradient, value(&a, a.grads[i]), value(&b, b.grads[i]), rt_program_count(a.p, a.grads[i]));
    print_message("gradients of two slices: %.1e\n", ratio(&gradient));
    assert_true(ratio(&gradient) <= TOL_BF16_SLICES);
    release(&a), release(&b);
}

/* Losses of updates on the same images: the network learns them by heart at the pace of float. */
static void test_updates(void **state)
{
    (void)state;
    needs_bf16();
    enum { UPDATES = 8 };
    double loss[2][UPDATES];
    for (int k = 0; k < 2; k++) {
        run r;
        build(&r);
        rt_update u = rt_minimise(r.loss, r.set, &(rt_optimiser){.kind = RT_ADAM, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8});
        compile(&r, u.node, IMAGES, k ? RT_BF16 : RT_F32);
        fill(&r, 0);
        *(float *)rt_program_data(r.p, u.lr) = 1e-3f;
        for (int i = 0; i < UPDATES; i++) {
            *(float *)rt_program_data(r.p, u.t) = (float)(i + 1);
            go(&r, false, false, 0);
            loss[k][i] = (double)*value(&r, r.loss);
        }
        release(&r);
    }
    print_message("loss %.4f -> %.4f in float, -> %.4f in bf16\n", loss[0][0], loss[0][UPDATES - 1], loss[1][UPDATES - 1]);
    assert_true(loss[1][UPDATES - 1] < 0.9 * loss[1][0]);
    for (int i = 0; i < UPDATES; i++) assert_true(fabs(loss[1][i] - loss[0][i]) <= TOL_BF16_UPDATES * loss[0][i]);
}

/* Where the backend cannot, the program computes in float: the same bits. */
static void test_elsewhere(void **state)
{
    (void)state;
    const rt_backend *reference = rt_backend_find("reference");
    assert_true(rt_backend_computes(reference, RT_F32));
    assert_false(rt_backend_computes(reference, RT_BF16));
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *x = rt_input(g, "x", RT_F32, 4, (int64_t[]){RT_BATCH, 16, 3, 3}), *w = rt_input(g, "w", RT_F32, 4, (int64_t[]){16, 16, 1, 1});
    rt_node *y = rt_silu(rt_conv2d(x, w, NULL, RT_CONV(1, 0)));
    float first[2 * 16 * 9];
    for (int k = 0; k < 2; k++) {
        rt_program *p;
        OK(rt_compile(&p, g,
                      &(rt_program_spec){
                          .outputs = &y, .n_outputs = 1, .batch = 2, .backend = reference, .threads = 1, .compute = k ? RT_BF16 : RT_F32},
                      err));
        for (int i = 0; i < 2 * 16 * 9; i++) ((float *)rt_program_data(p, x))[i] = sinf((float)i);
        for (int i = 0; i < 256; i++) ((float *)rt_program_data(p, w))[i] = cosf((float)i);
        OK(rt_run(p, &(rt_clock){0}, err));
        if (k)
            assert_memory_equal(first, rt_program_data(p, y), sizeof first);
        else
            memcpy(first, rt_program_data(p, y), sizeof first);
        rt_program_free(p);
    }
    rt_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rounding), cmocka_unit_test(test_network), cmocka_unit_test(test_slices),
                                       cmocka_unit_test(test_updates), cmocka_unit_test(test_elsewhere)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
