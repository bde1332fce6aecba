/* kernels_test.c -- values of element-wise, reducing and rearranging rows against index arithmetic written out; ties, NaN, integers, accuracy. */
#include "evaluate.h"
#include "tolerances.h"

enum { B = RT_BATCH };

/* Element of an operand of shape `from` (aligned at the last axis, 1 broadcasts) at a multi-index of `to`. */
static int64_t source(int rank, const int64_t *at, int from_rank, const int64_t *from)
{
    int64_t i = 0;
    for (int a = 0; a < from_rank; a++) i = i * from[a] + (from[a] == 1 ? 0 : at[rank - from_rank + a]);
    return i;
}
static void unravel(int64_t i, int rank, const int64_t *shape, int64_t *at)
{
    for (int a = rank - 1; a >= 0; a--) {
        at[a] = i % shape[a];
        i /= shape[a];
    }
}
static int64_t count(int rank, const int64_t *shape)
{
    int64_t n = 1;
    for (int a = 0; a < rank; a++) n *= shape[a];
    return n;
}

/* Every way to broadcast, below and beyond the sizes at which kernels split their work. */
static void binary_broadcasts(void **state)
{
    (void)state;
    static const struct {
        int ra, rb;
        int64_t a[4], b[4];
    } cases[] = {
        {2, 2, {3, 17}, {3, 17}},
        {1, 0, {19}, {0}},
        {0, 1, {0}, {19}},
        {4, 3, {2, 5, 3, 7}, {5, 1, 1}},
        {4, 4, {2, 5, 3, 7}, {2, 5, 1, 1}},
        {2, 1, {7, 33}, {33}},
        {2, 2, {7, 1}, {1, 33}},
        {3, 3, {1, 4, 1}, {3, 1, 5}},
        {4, 4, {2, 1, 3, 1}, {1, 5, 1, 7}},
        {4, 4, {2, 3, 1, 5}, {2, 1, 4, 5}},
        {1, 1, {20011}, {20011}},
        {2, 2, {2, 10007}, {2, 1}},
        {4, 3, {3, 40, 13, 11}, {40, 1, 1}},
        {2, 1, {301, 67}, {67}},
        {3, 3, {5, 1, 4001}, {5, 3, 4001}},
        {0, 0, {0}, {0}},
    };
    for (int precision = 0; precision < 2; precision++)
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
            for (int swap = 0; swap < 2; swap++) {
                int ra = swap ? cases[c].rb : cases[c].ra, rb = swap ? cases[c].ra : cases[c].rb, rank = ra > rb ? ra : rb;
                const int64_t *sa = swap ? cases[c].b : cases[c].a, *sb = swap ? cases[c].a : cases[c].b;
                int64_t shape[4], at[4];
                for (int i = 0; i < rank; i++) {
                    int64_t da = i < rank - ra ? 1 : sa[i - (rank - ra)], db = i < rank - rb ? 1 : sb[i - (rank - rb)];
                    shape[i] = da > db ? da : db;
                }
                int64_t n = count(rank, shape), na = count(ra, sa), nb = count(rb, sb);
                rt_graph *g = rt_graph_new(precision ? RT_F64 : RT_F32);
                rt_dtype r = rt_graph_real(g);
                rt_node *a = rt_input(g, "a", r, ra, sa), *b = rt_input(g, "b", r, rb, sb), *cond = rt_less(a, b);
                rt_node *ops[] = {rt_add(a, b),     rt_sub(a, b),  rt_mul(a, b),   rt_div(a, b),        rt_maximum(a, b),
                                  rt_minimum(a, b), rt_less(a, b), rt_equal(a, b), rt_where(cond, a, b)};
                double *va = scattered(na, 1), *vb = scattered(nb, 2), *want = malloc((size_t)n * sizeof *want);
                float *fa = malloc((size_t)na * sizeof *fa), *fb = malloc((size_t)nb * sizeof *fb);
                for (int64_t i = 0; i < na; i++) va[i] = (double)(fa[i] = (float)va[i]);
                for (int64_t i = 0; i < nb; i++)
                    vb[i] = (double)(fb[i] = (float)(i % 5 == 0 && i < na ? va[i] : vb[i] + 2)); /* some ties */
                for (int op = 0; op < 9; op++) {
                    for (int64_t i = 0; i < n; i++) {
                        unravel(i, rank, shape, at);
                        double x = va[source(rank, at, ra, sa)], y = vb[source(rank, at, rb, sb)];
                        double v[] = {x + y, x - y, x * y, x / y, fmax(x, y), fmin(x, y), x < y, x == y, x < y ? x : y};
                        want[i] = v[op];
                    }
                    const void *da = precision ? (const void *)va : fa, *db = precision ? (const void *)vb : fb;
                    assert_values(ops[op], 1, GIVEN({a, da}, {b, db}), want, n, precision || op >= 4 ? 0 : TOL_ROUNDING);
                }
                free(va), free(vb), free(fa), free(fb), free(want);
                rt_graph_free(g);
            }
}

static void integers_and_choice(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *a = rt_input(g, "a", RT_I64, SHAPE(2, 3)), *b = rt_input(g, "b", RT_I64, SHAPE(3)),
            *ten = rt_const(g, RT_I64, 0, NULL, &(int64_t){10});
    const int64_t va[] = {1, -2, 3000000000, 4, 5, 6}, vb[] = {7, 5, 3};
#define CHECK(node, ...) assert_values(node, 1, GIVEN({a, va}, {b, vb}), (const double[]){__VA_ARGS__}, 6, 0)
    CHECK(rt_add(a, b), 8, 3, 3000000003.0, 11, 10, 9);
    CHECK(rt_sub(b, a), 6, 7, -2999999997.0, 3, 0, -3);
    CHECK(rt_mul(a, ten), 10, -20, 30000000000.0, 40, 50, 60);
    CHECK(rt_equal(a, b), 0, 0, 0, 0, 1, 0);
    CHECK(rt_less(a, b), 1, 1, 0, 1, 0, 0);
    CHECK(rt_where(rt_less(a, b), ten, a), 10, 10, 3000000000.0, 10, 5, 6);
    CHECK(rt_cast(rt_less(a, b), RT_F32), 1, 1, 0, 1, 0, 0);
    CHECK(rt_cast(rt_scale(rt_cast(a, RT_F32), 0.5), RT_I64), 0, -1, 1500000000, 2, 2, 3);
#undef CHECK
    rt_graph_free(g);
}

/* What PyTorch does with NaN, and with ties. */
static void nan_is_not_hidden(void **state)
{
    (void)state;
    for (int precision = 0; precision < 2; precision++) {
        rt_graph *g = rt_graph_new(precision ? RT_F64 : RT_F32);
        double n = NAN, v[] = {n, 1, n, -1, 2}, w[] = {1, n, n, 2, 2};
        rt_node *a = rt_reals(g, SHAPE(5), v), *b = rt_reals(g, SHAPE(5), w);
        assert_values(rt_maximum(a, b), 1, NULL, 0, (double[]){n, n, n, 2, 2}, 5, 0);
        assert_values(rt_minimum(a, b), 1, NULL, 0, (double[]){n, n, n, -1, 2}, 5, 0);
        assert_values(rt_relu(a), 1, NULL, 0, (double[]){n, 1, n, 0, 2}, 5, 0);
        assert_values(rt_silu(rt_slice(a, 0, 0, 1, 1)), 1, NULL, 0, &n, 1, 0);
        assert_values(rt_abs(a), 1, NULL, 0, (double[]){n, 1, n, 1, 2}, 5, 0);
        assert_values(rt_equal(a, b), 1, NULL, 0, (double[]){0, 0, 0, 0, 1}, 5, 0);
        assert_values(rt_less(a, b), 1, NULL, 0, (double[]){0, 0, 0, 1, 0}, 5, 0);
        assert_values(rt_max(a, 1, false), 1, NULL, 0, &n, 1, 0);
        assert_values(rt_min(rt_slice(a, 0, 1, 5, 1), 1, false), 1, NULL, 0, &n, 1, 0);
        assert_values(rt_sum(a, 1, false), 1, NULL, 0, &n, 1, 0);
        rt_graph_free(g);
    }
}

static void ties_share_the_gradient(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *a = rt_input(g, "a", RT_F64, SHAPE(4)), *b = rt_input(g, "b", RT_F64, SHAPE(4)), *d[2];
    const double va[] = {1, 2, 3, 0}, vb[] = {2, 2, 1, 0};
    rt_grad(rt_sum(rt_maximum(a, b), 1, false), (rt_node *[]){a, b}, 2, d);
    assert_values(d[0], 1, GIVEN({a, va}, {b, vb}), (double[]){0, 0.5, 1, 0.5}, 4, 0);
    assert_values(d[1], 1, GIVEN({a, va}, {b, vb}), (double[]){1, 0.5, 0, 0.5}, 4, 0);
    rt_grad(rt_sum(rt_minimum(a, b), 1, false), (rt_node *[]){a, b}, 2, d);
    assert_values(d[0], 1, GIVEN({a, va}, {b, vb}), (double[]){1, 0.5, 0, 0.5}, 4, 0);
    rt_grad(rt_max(b, 1, false), &b, 1, d);
    assert_values(d[0], 1, GIVEN({b, vb}), (double[]){0.5, 0.5, 0, 0}, 4, 0);
    rt_grad(rt_sum(rt_relu(a), 1, false), &a, 1, d);
    assert_values(d[0], 1, GIVEN({a, va}), (double[]){1, 1, 1, 0}, 4, 0);
    rt_grad(rt_sum(rt_abs(a), 1, false), &a, 1, d);
    assert_values(d[0], 1, GIVEN({a, va}), (double[]){1, 1, 1, 0}, 4, 0);
    rt_graph_free(g);
}

/* Every set of axes of a rank-4 array. */
static void reductions(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{3, 5, 2, 7}, {4, 70, 3, 29}, {1, 9, 1, 3}};
    for (int k = 0; k < 3; k++) {
        const int64_t *shape = shapes[k];
        int64_t n = count(4, shape), at[4];
        double *v = scattered(n, 3), *want[3];
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *x = rt_input(g, "x", RT_F64, 4, shape);
        for (unsigned axes = 1; axes < 16; axes++) {
            int64_t kept[4];
            for (int a = 0; a < 4; a++) kept[a] = axes >> a & 1 ? 1 : shape[a];
            int64_t m = count(4, kept);
            for (int w = 0; w < 3; w++) want[w] = calloc((size_t)m, sizeof **want);
            for (int64_t i = 0; i < m; i++) want[1][i] = -INFINITY, want[2][i] = INFINITY;
            for (int64_t i = 0; i < n; i++) {
                unravel(i, 4, shape, at);
                int64_t j = source(4, at, 4, kept);
                want[0][j] += v[i];
                want[1][j] = fmax(want[1][j], v[i]);
                want[2][j] = fmin(want[2][j], v[i]);
            }
            assert_values(rt_sum(x, axes, k == 1), 1, GIVEN({x, v}), want[0], m, TOL_COMPOSED);
            assert_values(rt_max(x, axes, k == 0), 1, GIVEN({x, v}), want[1], m, 0);
            assert_values(rt_min(x, axes, true), 1, GIVEN({x, v}), want[2], m, 0);
            for (int w = 0; w < 3; w++) free(want[w]);
        }
        free(v);
        rt_graph_free(g);
    }
}

/* A million numbers of one sign and a large offset: float accumulation would be off by 1e-4 and more. All orders of axes, all thread counts. */
static void float_sums_are_exact_to_rounding(void **state)
{
    (void)state;
    enum { ROWS = 1024, COLS = 1031 };
    float *v = malloc(sizeof(float) * ROWS * COLS);
    double *down = calloc(COLS, sizeof *down), *across = calloc(ROWS, sizeof *across), all = 0;
    for (int i = 0; i < ROWS * COLS; i++) {
        v[i] = (float)(100 + scatter(i, 4));
        down[i % COLS] += (double)v[i];
        across[i / COLS] += (double)v[i];
        all += (double)v[i];
    }
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *x = rt_input(g, "x", RT_F32, SHAPE(ROWS, COLS));
    assert_values(rt_sum(x, 1, false), 1, GIVEN({x, v}), down, COLS, TOL_SUM_SINGLE);
    assert_values(rt_sum(x, 2, false), 1, GIVEN({x, v}), across, ROWS, TOL_SUM_SINGLE);
    assert_values(rt_sum(x, 3, false), 1, GIVEN({x, v}), &all, 1, TOL_SUM_SINGLE);
    for (int axes = 1; axes < 4; axes++) {
        double *one = evaluate_at(rt_sum(x, (unsigned)axes, true), 1, 1, (rt_clock){0}, GIVEN({x, v}));
        double *three = evaluate_at(rt_sum(x, (unsigned)axes, true), 1, 3, (rt_clock){0}, GIVEN({x, v}));
        assert_memory_equal(one, three, sizeof *one * (axes == 1 ? COLS : axes == 2 ? ROWS : 1));
        free(one), free(three);
    }
    free(v), free(down), free(across);
    rt_graph_free(g);
}

static void permutations(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{2, 3, 4, 5}, {3, 33, 17, 19}, {2, 1, 18, 35}};
    for (int precision = 0; precision < 3; precision++) /* F32, F64, and I64 among floats */
        for (int k = 0; k < 3; k++) {
            const int64_t *shape = shapes[k];
            int64_t n = count(4, shape), to[4], at[4], from[4];
            rt_graph *g = rt_graph_new(precision == 1 ? RT_F64 : RT_F32);
            rt_dtype dtype = precision == 2 ? RT_I64 : rt_graph_real(g);
            rt_node *x = rt_input(g, "x", dtype, 4, shape);
            char *data = malloc((size_t)n * 8);
            double *want = malloc((size_t)n * sizeof *want);
            for (int64_t i = 0; i < n; i++) {
                if (dtype == RT_F32) ((float *)(void *)data)[i] = (float)i;
                if (dtype == RT_F64) ((double *)(void *)data)[i] = (double)i;
                if (dtype == RT_I64) ((int64_t *)(void *)data)[i] = i;
            }
            for (int p = 0; p < 256; p++) {
                int order[] = {p & 3, p >> 2 & 3, p >> 4 & 3, p >> 6};
                if ((1 << order[0] | 1 << order[1] | 1 << order[2] | 1 << order[3]) != 15) continue;
                for (int a = 0; a < 4; a++) to[a] = shape[order[a]];
                for (int64_t i = 0; i < n; i++) {
                    unravel(i, 4, to, at);
                    for (int a = 0; a < 4; a++) from[order[a]] = at[a];
                    want[i] = (double)source(4, from, 4, shape);
                }
                assert_values(rt_permute(x, order), 1, GIVEN({x, data}), want, n, 0);
            }
            free(data), free(want);
            rt_graph_free(g);
        }
}

/* Two batches joined, worked on, and cut apart again: values, and gradients that find their way back; also in slices. */
static void batches_join_and_part(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *a = rt_input(g, "a", RT_F64, SHAPE(B, 2)), *b = rt_input(g, "b", RT_F64, SHAPE(B, 2)),
            *w = rt_reals(g, SHAPE(2), (double[]){2, 3}), *d[2];
    rt_node *both = rt_square(rt_mul(rt_concat((rt_node *[]){a, b}, 2, 0), w));
    rt_node *of_a = rt_slice(both, 0, 0, B, 1), *of_b = rt_slice(both, 0, B, 2 * B, 1);
    rt_node *loss = rt_sum(rt_sub(of_a, rt_scale(of_b, 10)), RT_ALL_AXES, false);
    rt_grad(loss, (rt_node *[]){a, b}, 2, d);
    const double va[] = {1, 2, 3, 4, 5, 6}, vb[] = {-1, 1, -2, 2, -3, 3};
    assert_values(of_a, 3, GIVEN({a, va}, {b, vb}), (double[]){4, 36, 36, 144, 100, 324}, 6, 0);
    assert_values(of_b, 3, GIVEN({a, va}, {b, vb}), (double[]){4, 9, 16, 36, 36, 81}, 6, 0);
    assert_values(d[0], 3, GIVEN({a, va}, {b, vb}), (double[]){8, 36, 24, 72, 40, 108}, 6, 0);
    assert_values(d[1], 3, GIVEN({a, va}, {b, vb}), (double[]){80, -180, 160, -360, 240, -540}, 6, 0);
    rt_graph_free(g);
}

/* An extreme over features maps samples, so slices are fine; one over the batch needs all samples at once and says so. */
static void extremes_and_slices(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, SHAPE(B, 2)), *outputs[] = {rt_sum(rt_logsumexp(x, 2, false), 1, false), rt_max(x, 1, false)};
    for (int i = 0; i < 2; i++) {
        rt_program *p = NULL;
        rt_error err = {0};
        rt_program_spec spec = {.outputs = &outputs[i], .n_outputs = 1, .batch = 2, .backend = rt_backend_find("reference"), .threads = 1};
        assert_int_equal(rt_compile(&p, g, &spec, &err), RT_OK);
        assert_int_equal(rt_run(p, &(rt_clock){.total = 4, .more = true}, &err), i ? RT_E_USAGE : RT_OK);
        if (i) assert_non_null(strstr(err.text, "max needs all samples"));
        rt_program_free(p);
    }
    rt_graph_free(g);
}

static void cutting_and_selecting(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *x = rt_input(g, "x", RT_F32, SHAPE(2, 5, 2)), *i = rt_input(g, "i", RT_I64, SHAPE(3)), *d;
    float v[20];
    for (int k = 0; k < 20; k++) v[k] = (float)k;
    int64_t index[] = {4, 0, 4}, wild[] = {-3, 5, INT64_MAX};
    assert_values(rt_slice(x, 1, 1, 5, 3), 1, GIVEN({x, v}), (double[]){2, 3, 8, 9, 12, 13, 18, 19}, 8, 0);
    assert_values(rt_slice(x, 2, 1, 2, 1), 1, GIVEN({x, v}), (double[]){1, 3, 5, 7, 9, 11, 13, 15, 17, 19}, 10, 0);
    assert_values(rt_index_select(x, 1, i), 1, GIVEN({x, v}, {i, index}), (double[]){8, 9, 0, 1, 8, 9, 18, 19, 10, 11, 18, 19}, 12, 0);
    /* indices outside are clamped: nothing outside is read or written */
    assert_values(rt_index_select(x, 1, i), 1, GIVEN({x, v}, {i, wild}), (double[]){0, 1, 8, 9, 8, 9, 10, 11, 18, 19, 18, 19}, 12, 0);
    rt_grad(rt_sum(rt_index_select(x, 1, i), RT_ALL_AXES, false), &x, 1, &d);
    assert_values(d, 1, GIVEN({i, index}), (double[]){1, 1, 0, 0, 0, 0, 0, 0, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0, 2, 2}, 20, 0);
    rt_grad(rt_sum(rt_slice(x, 1, 0, 5, 4), RT_ALL_AXES, false), &x, 1, &d);
    assert_values(d, 1, NULL, 0, (double[]){1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1}, 20, 0);
    rt_node *gi = rt_input(g, "gi", RT_I64, SHAPE(2, 1, 2));
    assert_values(rt_gather(x, 1, gi), 1, GIVEN({x, v}, {gi, ((int64_t[]){4, 0, 1, 3})}), (double[]){8, 1, 12, 17}, 4, 0);
    assert_values(rt_cumsum(rt_slice(x, 1, 0, 3, 1), 1), 1, GIVEN({x, v}), (double[]){0, 1, 2, 4, 6, 9, 10, 11, 22, 24, 36, 39}, 12, 0);
    rt_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binary_broadcasts),   cmocka_unit_test(integers_and_choice),
        cmocka_unit_test(nan_is_not_hidden),   cmocka_unit_test(ties_share_the_gradient),
        cmocka_unit_test(reductions),          cmocka_unit_test(float_sums_are_exact_to_rounding),
        cmocka_unit_test(permutations),        cmocka_unit_test(batches_join_and_part),
        cmocka_unit_test(extremes_and_slices), cmocka_unit_test(cutting_and_selecting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
