/* graph_test.c -- the engine's promises: sharing, sticky errors, stages, slices, versions of sets, draws, the memory plan. */
#include "retort/graph.h"
#include "retort/ops.h"

#include "graph/row.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int64_t three[] = {3}, batch_by_4[] = {RT_BATCH, 4};

static rt_program *compile(rt_graph *g, rt_node *const *outputs, int n, rt_node *const *updates, int m, int64_t batch)
{
    rt_program *p = NULL;
    rt_error err = {0};
    rt_program_spec spec = {.outputs = outputs,
                            .n_outputs = n,
                            .updates = updates,
                            .n_updates = m,
                            .batch = batch,
                            .backend = rt_backend_find("reference"),
                            .threads = 2};
    if (rt_compile(&p, g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
    return p;
}

static void run(rt_program *p, rt_clock clock)
{
    rt_error err = {0};
    if (rt_run(p, &clock, &err) != RT_OK) fail_msg("%s", err.text);
}

static double first(rt_program *p, const rt_node *n) { return ((const double *)rt_program_data(p, n))[0]; }

static void equal_nodes_are_one(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, 1, three), *y = rt_input(g, "y", RT_F64, 1, three);
    assert_ptr_equal(rt_add(x, y), rt_add(x, y));
    assert_ptr_not_equal(rt_add(x, y), rt_add(y, x));
    assert_ptr_equal(rt_scalar(g, 0.5), rt_scalar(g, 0.5));
    assert_ptr_equal(rt_scale(x, 2), rt_scale(x, 2));
    assert_ptr_not_equal(rt_scale(x, 2), rt_scale(x, 3));
    assert_ptr_equal(rt_randn(g, "z", 2, batch_by_4), rt_randn(g, "z", 2, batch_by_4));
    rt_graph_passes(g, 0);
    assert_ptr_not_equal(rt_exp(x), rt_exp(x));
    assert_ptr_equal(rt_randn(g, "z", 2, batch_by_4), rt_randn(g, "z", 2, batch_by_4));
    rt_graph_free(g);
}

/* Constants are hashed by their start and compared to the end, whoever holds the numbers. */
static void long_constants(void **state)
{
    (void)state;
    enum { N = 40000 };
    static double x[N];
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *copied = rt_const(g, RT_F64, 1, (int64_t[]){N}, x), *same = rt__const_borrowed(g, RT_F64, 1, (int64_t[]){N}, x);
    assert_ptr_equal(copied, same);
    x[N - 1] = 1;
    assert_ptr_not_equal(copied, rt_const(g, RT_F64, 1, (int64_t[]){N}, x));
    rt_graph_free(g);
}

static void first_failure_sticks(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_push(g, "unet");
    rt_push(g, "down.%d", 1);
    rt_node *a = rt_input(g, "a", RT_F64, 2, (int64_t[]){3, 4}), *b = rt_input(g, "b", RT_F64, 2, (int64_t[]){5, 2});
    rt_node *bad = rt_add(a, b);
    rt_pop(g);
    assert_non_null(bad);
    assert_non_null(rt_mul(bad, a));
    rt_fail(g, "a later one");
    rt_error err = {0};
    assert_int_equal(rt_graph_status(g, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "unet.down.1: add (3x4), (5x2)"));
    assert_null(strstr(err.text, "a later one"));
    rt_program *p = NULL;
    err = (rt_error){0};
    assert_int_equal(rt_compile(&p, g, &(rt_program_spec){.outputs = &bad, .n_outputs = 1, .batch = 1}, &err), RT_E_INVALID);
    assert_null(p);
    rt_graph_free(g);
}

/* d/dx sum(x^3 sin x) and its derivative, at a few points. */
static void second_derivatives(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, 1, three), *d1, *d2;
    rt_node *f = rt_sum(rt_mul(rt_pow(x, 3), rt_sin(x)), RT_ALL_AXES, false);
    rt_grad(f, &x, 1, &d1);
    rt_grad(rt_sum(d1, RT_ALL_AXES, false), &x, 1, &d2);
    rt_program *p = compile(g, (rt_node *[]){d1, d2}, 2, NULL, 0, 1);
    const double at[] = {0.3, -1.7, 2.2};
    memcpy(rt_program_data(p, x), at, sizeof at);
    run(p, (rt_clock){0});
    for (int i = 0; i < 3; i++) {
        double v = at[i], s = sin(v), c = cos(v);
        assert_true(fabs(((double *)rt_program_data(p, d1))[i] - (3 * v * v * s + v * v * v * c)) < 1e-13);
        assert_true(fabs(((double *)rt_program_data(p, d2))[i] - (6 * v * s + 6 * v * v * c - v * v * v * s)) < 1e-12);
    }
    rt_program_free(p);
    rt_graph_free(g);
}

/* An unreached node has gradient zero; a node on the way gets its own and passes it on. */
static void gradients_of_several(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, 0, NULL), *other = rt_input(g, "other", RT_F64, 1, three), *mid = rt_square(x), *out[3];
    rt_grad(rt_mul(mid, x), (rt_node *[]){x, mid, other}, 3, out);
    rt_program *p = compile(g, out, 3, NULL, 0, 1);
    *(double *)rt_program_data(p, x) = 2;
    run(p, (rt_clock){0});
    assert_true(first(p, out[0]) == 12); /* 3 x^2 */
    assert_true(first(p, out[1]) == 2);
    assert_true(first(p, out[2]) == 0);
    rt_program_free(p);
    rt_graph_free(g);
}

/* Two phases with an update between them, in one program, against the sequence by hand: SGD on w for (w - 3)^2, then a read of the new w. */
static void updates_make_versions(void **state)
{
    (void)state;
    rt_params *set = rt_params_new("student", RT_F64);
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *w = rt_param(g, set, "w", 1, (int64_t[]){1}, RT_INIT_CONST(1));
    rt_node *loss = rt_sum(rt_square(rt_offset(w, -3)), RT_ALL_AXES, false);
    rt_optimiser sgd = {.kind = RT_SGD};
    rt_update u = rt_minimise(loss, set, &sgd);
    rt_node *again = rt_param(g, set, "w", 1, (int64_t[]){1}, RT_INIT_CONST(1));
    assert_ptr_not_equal(w, again);
    rt_node *after = rt_scale(again, 10), *before = rt_scale(w, 10); /* built after the update, but reads the old version */
    rt_error err = {0};
    assert_int_equal(rt_params_init(set, 0, &err), RT_OK);
    rt_program *p = compile(g, (rt_node *[]){after, before, loss, u.grad_norm}, 4, &u.node, 1, 1);
    *(double *)rt_program_data(p, u.lr) = 0.25;
    *(double *)rt_program_data(p, u.t) = 1;
    double hand = 1;
    for (int i = 0; i < 3; i++) {
        run(p, (rt_clock){0});
        assert_true(fabs(first(p, before) - 10 * hand) < 1e-12);
        assert_true(fabs(first(p, loss) - (hand - 3) * (hand - 3)) < 1e-12);
        assert_true(fabs(first(p, u.grad_norm) - fabs(2 * (hand - 3))) < 1e-12);
        hand -= 0.25 * 2 * (hand - 3);
        assert_true(fabs(first(p, after) - 10 * hand) < 1e-12);
        assert_true(fabs(*(double *)rt_params_data(set, RT_VALUE) - hand) < 1e-12);
    }
    rt_program_free(p);
    rt_graph_free(g);
    rt_params_free(set);
}

/* A second phase that reads what the first one trains, after its update: its program would contain that update. Listed, or read before, it will do. */
static void unlisted_updates_are_refused(void **state)
{
    (void)state;
    static const int64_t one[] = {1};
    const rt_optimiser sgd = {.kind = RT_SGD};
    rt_params *fake = rt_params_new("fake", RT_F64), *student = rt_params_new("student", RT_F64);
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *f = rt_param(g, fake, "w", 1, one, RT_INIT_CONST(1)), *s = rt_param(g, student, "w", 1, one, RT_INIT_CONST(2));
    rt_push(g, "score");
    rt_update score = rt_minimise(rt_sum(rt_square(f), 1, false), fake, &sgd);
    rt_pop(g);
    rt_node *later = rt_param(g, fake, "w", 1, one, RT_INIT_CONST(1)),
            *losses[2] = {rt_sum(rt_mul(s, later), 1, false), rt_sum(rt_mul(s, f), 1, false)};
    rt_push(g, "generator");
    rt_update generator = rt_minimise(losses[0], student, &sgd);
    rt_pop(g);
    rt_program *p = NULL;
    rt_error err = {0};
    rt_program_spec spec = {.updates = &generator.node, .n_updates = 1, .batch = 1, .threads = 1};
    assert_int_equal(rt_compile(&p, g, &spec, &err), RT_E_USAGE);
    assert_null(p);
    if (!strstr(err.text, "'fake'") || !strstr(err.text, "'score'") || !strstr(err.text, "generator")) fail_msg("%s", err.text);
    err = (rt_error){0};
    spec = (rt_program_spec){.outputs = &losses[0], .n_outputs = 1, .batch = 1, .threads = 1};
    assert_int_equal(rt_compile(&p, g, &spec, &err), RT_E_USAGE);
    rt_program_free(compile(g, &losses[1], 1, NULL, 0, 1));
    rt_program_free(compile(g, &losses[0], 1, &score.node, 1, 1));
    rt_graph_free(g);
    rt_params_free(fake);
    rt_params_free(student);
}

/* What is derived from a set that the program does not update is computed once per version: a copy between sets shows at the next run. */
static void prologue_follows_versions(void **state)
{
    (void)state;
    rt_params *teacher = rt_params_new("teacher", RT_F64), *student = rt_params_new("student", RT_F64);
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *t = rt_exp(rt_param(g, teacher, "w", 1, three, RT_INIT_CONST(1)));
    rt_node *s = rt_exp(rt_param(g, student, "w", 1, three, RT_INIT_CONST(2)));
    rt_node *x = rt_input(g, "x", RT_F64, 1, three), *y = rt_add(rt_mul(x, t), s);
    rt_error err = {0};
    assert_int_equal(rt_params_init(teacher, 0, &err), RT_OK);
    assert_int_equal(rt_params_init(student, 0, &err), RT_OK);
    rt_program *p = compile(g, &y, 1, NULL, 0, 1);
    *(double *)rt_program_data(p, x) = 1;
    run(p, (rt_clock){0});
    assert_true(fabs(first(p, y) - (exp(1) + exp(2))) < 1e-12);
    assert_int_equal(rt_params_copy(teacher, RT_VALUE, student, RT_VALUE, &err), RT_OK);
    run(p, (rt_clock){0});
    assert_true(fabs(first(p, y) - 2 * exp(2)) < 1e-12);
    rt_program_free(p);
    rt_graph_free(g);
    rt_params_free(teacher);
    rt_params_free(student);
}

/* B = 7 as slices 4 + 3 is B = 7: draws, the expectation, gradients and the update. */
static void slices_are_the_batch(void **state)
{
    (void)state;
    double w[2], loss[2] = {0}, z_last[2];
    for (int sliced = 0; sliced < 2; sliced++) {
        rt_params *set = rt_params_new("s", RT_F64);
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *z = rt_randn(g, "z", 2, batch_by_4);
        rt_node *p = rt_param(g, set, "w", 1, (int64_t[]){4}, RT_INIT_CONST(0.5));
        rt_node *l = rt_expect(rt_norm2(rt_sub(rt_mul(z, p), rt_sin(z))));
        rt_optimiser adam = {.kind = RT_ADAM, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 0.1};
        rt_update u = rt_minimise(l, set, &adam);
        rt_error err = {0};
        assert_int_equal(rt_params_init(set, 0, &err), RT_OK);
        int64_t sizes[2][2] = {{7, 0}, {4, 3}};
        int64_t done = 0;
        for (int i = 0; i < 1 + sliced; i++) { /* a program per slice size over the same graph */
            int64_t n = sizes[sliced][i];
            rt_program *prog = compile(g, (rt_node *[]){l, z}, 2, &u.node, 1, n);
            *(double *)rt_program_data(prog, u.lr) = 0.01;
            *(double *)rt_program_data(prog, u.t) = 1;
            if (!sliced) run(prog, (rt_clock){.seed = 5, .step = 9, .total = 7});
            z_last[sliced] = first(prog, z);
            rt_program_free(prog);
            done += n;
        }
        assert_int_equal(done, 7);
        if (sliced) { /* equal slices share one program: 7 = 1 x 7 slices of one sample */
            rt_program *prog = compile(g, (rt_node *[]){l, z}, 2, &u.node, 1, 1);
            *(double *)rt_program_data(prog, u.lr) = 0.01;
            *(double *)rt_program_data(prog, u.t) = 1;
            for (uint32_t i = 0; i < 7; i++) {
                run(prog, (rt_clock){.seed = 5, .step = 9, .first = i, .total = 7, .resumed = i > 0, .more = i < 6});
                if (i == 0) z_last[1] = first(prog, z);
            }
            loss[1] = first(prog, l);
            rt_program_free(prog);
        } else {
            rt_program *prog = compile(g, (rt_node *[]){l, z}, 2, NULL, 0, 7);
            assert_int_equal(rt_params_init(set, 0, &err), RT_OK);
            run(prog, (rt_clock){.seed = 5, .step = 9, .total = 7});
            loss[0] = first(prog, l);
            z_last[0] = first(prog, z);
            rt_program_free(prog);
            /* the update once more, from the same start */
            if (rt_params_has(set, RT_MOMENT1)) {
                memset(rt_params_data(set, RT_MOMENT1), 0, (size_t)rt_params_extent(set, RT_MOMENT1) * 8);
                memset(rt_params_data(set, RT_MOMENT2), 0, (size_t)rt_params_extent(set, RT_MOMENT1) * 8);
            }
            prog = compile(g, (rt_node *[]){l}, 1, &u.node, 1, 7);
            *(double *)rt_program_data(prog, u.lr) = 0.01;
            *(double *)rt_program_data(prog, u.t) = 1;
            run(prog, (rt_clock){.seed = 5, .step = 9, .total = 7});
            rt_program_free(prog);
        }
        w[sliced] = *(double *)rt_params_data(set, RT_VALUE);
        rt_graph_free(g);
        rt_params_free(set);
    }
    assert_true(z_last[0] == z_last[1]);
    assert_true(fabs(loss[0] - loss[1]) < 1e-12 * fabs(loss[0]));
    assert_true(fabs(w[0] - w[1]) < 1e-12);
    assert_true(fabs(w[0] - 0.5) > 1e-4);
}

/* Passes change no number. */
static void passes_keep_values(void **state)
{
    (void)state;
    double result[2][3];
    for (int on = 0; on < 2; on++) {
        rt_graph *g = rt_graph_new(RT_F64);
        if (!on) rt_graph_passes(g, 0);
        rt_node *x = rt_input(g, "x", RT_F64, 1, three), *c = rt_exp(rt_scalar(g, 0.3)), *d;
        rt_node *y = rt_add(rt_mul(rt_tanh(x), c), rt_mul(rt_tanh(x), rt_rand(g, "r", 1, three)));
        rt_grad(rt_sum(y, RT_ALL_AXES, false), &x, 1, &d);
        rt_program *p = compile(g, &d, 1, NULL, 0, 1);
        memcpy(rt_program_data(p, x), (double[]){0.1, 0.2, 0.3}, 3 * sizeof(double));
        run(p, (rt_clock){.seed = 3});
        memcpy(result[on], rt_program_data(p, d), sizeof result[on]);
        rt_program_free(p);
        rt_graph_free(g);
    }
    assert_memory_equal(result[0], result[1], sizeof result[0]);
}

/* A long chain needs no more than two buffers beside its input. */
static void plan_reuses_memory(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, 1, (int64_t[]){4096}), *y = x;
    for (int i = 0; i < 50; i++) y = i % 2 ? rt_cumsum(rt_scale(y, 0.5), 0) : rt_tanh(y);
    rt_program *p = compile(g, &y, 1, NULL, 0, 1);
    assert_true(rt_program_bytes(p) <= 4 * 4096 * sizeof(double));
    rt_program_free(p);
    rt_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_nodes_are_one),          cmocka_unit_test(long_constants),
        cmocka_unit_test(first_failure_sticks),         cmocka_unit_test(second_derivatives),
        cmocka_unit_test(gradients_of_several),         cmocka_unit_test(updates_make_versions),
        cmocka_unit_test(unlisted_updates_are_refused), cmocka_unit_test(prologue_follows_versions),
        cmocka_unit_test(slices_are_the_batch),         cmocka_unit_test(passes_keep_values),
        cmocka_unit_test(plan_reuses_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
