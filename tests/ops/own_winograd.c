/* own_winograd.c -- our own Winograd convolutions: their error beside that of direct sums in float, both against double; any layout in blocks, scratch with
 * rubbish in it, any number of threads; weights that are kept, and follow their set. */
#include "graph/program.h"
#include "retort/ops.h"
#include "tolerances.h"

#ifdef RETORT_ONEDNN
#include "backend/onednn/winograd.h"
#endif

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef enum kind { FORWARD, DATA, WEIGHT, KINDS } kind;
static const char *const kind_names[] = {"conv2d", "conv2d_data", "conv2d_weight"};

typedef struct specimen {
    int64_t n, c, o, h, w;
    int pad[4]; /* left, right, top, bottom */
    bool bias;
} specimen;

static const specimen specimens[] = {
    {1, 32, 32, 4, 4, {1, 1, 1, 1}, true},     {1, 64, 64, 1, 1, {1, 1, 1, 1}, false},  {3, 64, 128, 7, 7, {1, 1, 1, 1}, true},
    {2, 192, 64, 13, 6, {1, 1, 1, 1}, false},  {5, 16, 48, 9, 10, {1, 1, 1, 1}, true},  {1, 48, 16, 28, 28, {1, 1, 1, 1}, true},
    {2, 32, 64, 12, 5, {0, 0, 0, 0}, true},    {2, 64, 32, 5, 11, {2, 2, 2, 2}, false}, {3, 32, 32, 8, 9, {0, 1, 2, 1}, true},
    {2, 8, 24, 10, 7, {2, 0, 1, 2}, true},     {4, 24, 8, 6, 6, {1, 2, 0, 1}, false},   {2, 4, 12, 5, 8, {1, 1, 1, 1}, true},
    {7, 64, 64, 14, 14, {1, 1, 1, 1}, true},   {1, 16, 16, 40, 3, {3, 0, 0, 4}, true},  {16, 256, 64, 8, 8, {1, 1, 1, 1}, false},
    {2, 64, 192, 16, 32, {1, 1, 1, 1}, false},
};

#ifdef RETORT_ONEDNN

/* Channel k of an image in blocks: (N,C,H,W) to [N][C/b][HW][b], or back. */
static void reblock(float *blocked, float *plain, const rt_view *v, int64_t b, bool back)
{
    int64_t pixels = v->dim[2] * v->dim[3], channels = v->dim[1];
    for (int64_t i = 0; i < v->count; i++) {
        int64_t pixel = i % pixels, k = i / pixels % channels, n = i / pixels / channels;
        int64_t at = ((n * channels + k / b * b) * pixels + pixel * b) + k % b;
        if (back)
            plain[i] = blocked[at];
        else
            blocked[at] = plain[i];
    }
}

/* A call of one kind on plain operands: in float, in double, and (Winograd's) in float and blocks. */
typedef struct trio {
    rt__conv_attr attr;
    rt_node node;
    rt_view in[3][3];
    rt_call single, exact, own;
} trio;

static rt_view view_of(rt_dtype dtype, int rank, const int64_t *dim)
{
    rt_view v = {.dtype = dtype, .rank = rank, .count = 1};
    for (int i = 0; i < rank; i++) v.count *= v.dim[i] = dim[i];
    v.data = aligned_alloc(64, ((size_t)v.count * rt_dtype_size(dtype) + 63) / 64 * 64);
    assert_non_null(v.data);
    return v;
}

static void fill(rt_view *single, rt_view *exact, uint64_t seed)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; i < single->count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ((float *)single->data)[i] = (float)((double)(state >> 40) / 8388608.0 - 1.0);
        ((double *)exact->data)[i] = (double)((float *)single->data)[i];
    }
}

static void make(trio *t, const specimen *s, kind k)
{
    static const rt__op_id ops[] = {RT_OP_conv2d, RT_OP_conv2d_data, RT_OP_conv2d_weight};
    int64_t x[] = {s->n, s->c, s->h, s->w}, w[] = {s->o, s->c, 3, 3}, b[] = {s->o};
    int64_t y[] = {s->n, s->o, s->h + s->pad[2] + s->pad[3] - 2, s->w + s->pad[0] + s->pad[1] - 2};
    *t = (trio){.attr = {.conv = {{1, 1}, {s->pad[0], s->pad[1], s->pad[2], s->pad[3]}, {1, 1}, 1}}};
    t->attr.extent[0] = k == DATA ? (int)s->h : 3, t->attr.extent[1] = k == DATA ? (int)s->w : 3;
    t->node = (rt_node){.op = rt__ops_f32[ops[k]], .attr = &t->attr};
    const int64_t *dims[] = {k == DATA ? y : x, k == WEIGHT ? y : w, b};
    int ranks[] = {4, 4, 1}, n = k == FORWARD && s->bias ? 3 : 2;
    for (int i = 0; i < n; i++) {
        t->in[0][i] = t->in[2][i] = view_of(RT_F32, ranks[i], dims[i]);
        t->in[1][i] = view_of(RT_F64, ranks[i], dims[i]);
        t->in[2][i].data = malloc((size_t)t->in[0][i].count * sizeof(float));
        fill(&t->in[0][i], &t->in[1][i], (uint64_t)(i + 1));
    }
    const int64_t *out = k == FORWARD ? y : k == DATA ? x : w;
    t->single = (rt_call){.node = &t->node, .n_in = n, .in = t->in[0], .out = view_of(RT_F32, 4, out)};
    t->exact = (rt_call){.node = &t->node, .n_in = n, .in = t->in[1], .out = view_of(RT_F64, 4, out)};
    t->own = (rt_call){.node = &t->node, .n_in = n, .in = t->in[2], .out = view_of(RT_F32, 4, out)};
    rt_call *reference[] = {&t->single, &t->exact};
    for (int i = 0; i < 2; i++) {
        const rt_op *row = rt__kernel_of(t->node.op, i ? RT_F64 : RT_F32);
        reference[i]->scratch = malloc((row->scratch ? row->scratch(reference[i]) : 0) + 64);
        row->run(reference[i]);
        free(reference[i]->scratch);
    }
}

static void discard(trio *t)
{
    for (int i = 0; i < t->own.n_in; i++)
        for (int j = 0; j < 3; j++) free(t->in[j][i].data);
    free(t->single.out.data), free(t->exact.out.data), free(t->own.out.data);
}

/* Lays the operands out in blocks of b channels. */
static bool block_operands(trio *t, kind k, int b)
{
    for (int i = 0; i < t->own.n_in; i++) {
        bool image = i == 0 || (i == 1 && k == WEIGHT);
        rt_view *v = &t->in[2][i];
        if (image && v->dim[1] % b) return false;
        v->block = image ? b : 0;
        free(v->data);
        v->data = aligned_alloc(64, ((size_t)v->count * sizeof(float) + 63) / 64 * 64);
        if (image)
            reblock(v->data, t->in[0][i].data, v, b, false);
        else
            memcpy(v->data, t->in[0][i].data, (size_t)v->count * sizeof(float));
    }
    t->own.out.block = k == WEIGHT ? 0 : b;
    return k == WEIGHT || t->own.out.dim[1] % b == 0;
}

static void *rubbish(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    assert_non_null(p);
    return memset(p, 0xff, (bytes + 127) / 64 * 64); /* NaN */
}

/* With so many threads, out of rubbish; then once more with the weights that are there now. The result is plain. */
static float *run_own(trio *t, kind k, int threads)
{
    size_t bytes = (size_t)t->own.out.count * sizeof(float);
    omp_set_num_threads(threads);
    void *weights = rubbish(RT_PICK_ISA(rt__winograd)->weights(&t->own));
    float *plain[2];
    for (int ready = 0; ready < 2; ready++) {
        t->own.scratch = rubbish(RT_PICK_ISA(rt__winograd)->scratch(&t->own));
        memset(t->own.out.data, 0xff, bytes);
        RT_PICK_ISA(rt__winograd)->run(&t->own, weights, ready);
        plain[ready] = malloc(bytes);
        if (k == WEIGHT)
            memcpy(plain[ready], t->own.out.data, bytes);
        else
            reblock(t->own.out.data, plain[ready], &t->own.out, t->own.out.block, true);
        free(t->own.scratch);
    }
    assert_memory_equal(plain[0], plain[1], bytes);
    free(weights), free(plain[1]);
    return plain[0];
}

static double error_of(const float *got, const trio *t)
{
    double worst = 0, top = 0;
    for (int64_t i = 0; i < t->exact.out.count; i++) {
        double want = ((const double *)t->exact.out.data)[i], d = fabs((double)got[i] - want);
        worst = d < INFINITY ? fmax(worst, d) : INFINITY;
        top = fmax(top, fabs(want));
    }
    return worst / top;
}

static void test_error(void **state)
{
    (void)state;
    int failures = 0, layouts = 0, threads = omp_get_max_threads();
    double worst[KINDS] = {0}, direct[KINDS] = {0};
    for (size_t i = 0; i < sizeof specimens / sizeof *specimens; i++)
        for (kind k = FORWARD; k < KINDS; k++) {
            trio t;
            make(&t, &specimens[i], k);
            direct[k] = fmax(direct[k], error_of(t.single.out.data, &t));
            for (int b = 4; b <= 64; b *= 2) {
                if (!block_operands(&t, k, b) || !RT_PICK_ISA(rt__winograd)->can(&t.own)) continue;
                float *one = run_own(&t, k, 1);
                double e = error_of(one, &t);
                worst[k] = fmax(worst[k], e);
                if (!(e <= TOL_WINOGRAD)) {
                    print_error("%s of specimen %zu in blocks of %d: %.2e\n", kind_names[k], i, b, e);
                    failures++;
                }
                for (int n = 2; n <= 3; n++) {
                    float *more = run_own(&t, k, n);
                    assert_memory_equal(one, more, (size_t)t.own.out.count * sizeof *one);
                    free(more);
                }
                free(one);
                layouts++;
            }
            discard(&t);
        }
    omp_set_num_threads(threads);
    for (kind k = FORWARD; k < KINDS; k++)
        print_message("%s: error %.1e, of direct sums in float %.1e\n", kind_names[k], worst[k], direct[k]);
    assert_int_equal(failures, 0);
    assert_true(layouts > 3 * (int)(sizeof specimens / sizeof *specimens) / 2);
}

static void test_refusals(void **state)
{
    (void)state;
    static const specimen s = {2, 64, 64, 9, 9, {1, 1, 1, 1}, false};
    for (kind k = FORWARD; k < KINDS; k++) {
        trio t;
        make(&t, &s, k);
        assert_false(RT_PICK_ISA(rt__winograd)->can(&t.own)); /* plain images */
        assert_true(block_operands(&t, k, 16) && RT_PICK_ISA(rt__winograd)->can(&t.own));
        rt_conv *v = &t.attr.conv;
        for (int axis = 0; axis < 2; axis++) {
            v->stride[axis] = 2;
            assert_false(RT_PICK_ISA(rt__winograd)->can(&t.own));
            v->stride[axis] = 1, v->dilation[axis] = 2;
            assert_false(RT_PICK_ISA(rt__winograd)->can(&t.own));
            v->dilation[axis] = 1;
        }
        v->groups = 2;
        assert_false(RT_PICK_ISA(rt__winograd)->can(&t.own));
        v->groups = 1;
        rt_view *w = k == WEIGHT ? &t.own.out : &t.in[2][1];
        for (int axis = 2; axis < 4; axis++) {
            w->dim[axis] = 5;
            assert_false(RT_PICK_ISA(rt__winograd)->can(&t.own));
            w->dim[axis] = 3;
        }
        t.in[2][0].dtype = RT_BF16;
        assert_false(RT_PICK_ISA(rt__winograd)->can(&t.own));
        discard(&t);
    }
}

/* Programs with a set of weights that they do not train: conv2d and conv2d_data keep them, transformed, and follow the set's versions. */
static void test_kept(void **state)
{
    (void)state;
    enum { CHANNELS = 32, SIDE = 9, BATCH = 3 };
    rt_error err = {0};
    rt_graph *g = rt_graph_new(RT_F32);
    rt_params *set = rt_params_new("frozen", RT_F32);
    rt_node *x = rt_input(g, "x", RT_F32, 4, (int64_t[]){RT_BATCH, CHANNELS, SIDE, SIDE}), *outputs[2];
    rt_node *w = rt_param(g, set, "w", 4, (int64_t[]){CHANNELS, CHANNELS, 3, 3}, RT_INIT_UNIFORM(0.1));
    outputs[0] = rt_conv2d(rt_silu(x), w, NULL, RT_CONV(1, 1));
    rt_grad(rt_sum(rt_square(outputs[0]), RT_ALL_AXES, false), &x, 1, outputs + 1);
    rt_choices *choices = rt_choices_new(false);
    rt_choices_prefer(choices, "winograd");
    rt_program_spec spec = {.outputs = outputs, .n_outputs = 2, .batch = BATCH, .threads = 1, .choices = choices};
    rt_program *p[2];
    float *values[2][2];
    size_t bytes = BATCH * CHANNELS * SIDE * SIDE * sizeof(float);
    assert_int_equal(rt_params_init(set, 1, &err), RT_OK);
    for (int k = 0; k < 2; k++) { /* the second program is made when the set has changed */
        if (rt_compile(&p[k], g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
        if (rt_choices_used(choices, "winograd") != 2) {
            puts("SKIP: images are plain here");
            skip();
        }
        float *data = rt_program_data(p[k], x);
        for (size_t i = 0; i < bytes / sizeof(float); i++) data[i] = (float)(i * 37 % 101) / 50 - 1;
        for (int runs = 0; runs < 2 - k; runs++) assert_int_equal(rt_run(p[k], &(rt_clock){0}, &err), RT_OK);
        if (k == 0) {
            for (int i = 0; i < 2; i++) values[0][i] = memcpy(malloc(bytes), rt_program_data(p[0], outputs[i]), bytes);
            assert_int_equal(rt_params_init(set, 2, &err), RT_OK);
            assert_int_equal(rt_run(p[0], &(rt_clock){0}, &err), RT_OK);
        }
    }
    for (int i = 0; i < 2; i++) {
        assert_memory_equal(rt_program_data(p[0], outputs[i]), rt_program_data(p[1], outputs[i]), bytes);
        assert_memory_not_equal(rt_program_data(p[0], outputs[i]), values[0][i], bytes);
        free(values[0][i]);
    }
    for (int k = 0; k < 2; k++) rt_program_free(p[k]);
    rt_choices_free(choices);
    rt_graph_free(g);
    rt_params_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_error), cmocka_unit_test(test_refusals), cmocka_unit_test(test_kept)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    (void)specimens, (void)kind_names;
    puts("SKIP: built without oneDNN");
    return 77;
}

#endif
