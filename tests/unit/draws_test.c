/* draws_test.c -- random numbers: published answers, the layout of bits, distributions, and that a draw depends on nothing else. */
#include "base/internal.h"
#include "evaluate.h"
#include "retort/format.h"
#include "tolerances.h"

#include <stdio.h>

/* Random123's known answers for philox4x32, 10 rounds */
static void known_answers(void **state)
{
    (void)state;
    static const uint32_t rows[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        rt__philox(rows[i], rows[i] + 4, out);
        for (int j = 0; j < 4; j++) assert_int_equal(out[j], rows[i][6 + j]);
    }
}

static void golden_answers(void **state)
{
    (void)state;
    const char *shared = getenv("RETORT_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/golden/philox.safetensors", shared ? shared : "../shared");
    FILE *f = fopen(path, "rb");
    if (!f) {
        printf("SKIP: ../shared is missing (%s)\n", path);
        skip();
        return;
    }
    fclose(f);
    rt_error err = {0};
    rt_tensors *file = NULL;
    if (rt_tensors_open(&file, path, &err) != RT_OK) fail_msg("%s", err.text);
    rt_tensor t[3] = {{0}};
    const char *names[] = {"counter", "key", "out"};
    for (int i = 0; i < 3; i++)
        if (rt_tensors_read(file, rt_tensors_find(file, names[i]), &t[i], &err) != RT_OK) fail_msg("%s", err.text);
    assert_true(t[0].shape[0] > 3);
    for (int64_t r = 0; r < t[0].shape[0]; r++) {
        uint32_t word[3][4] = {{0}}, out[4];
        for (int i = 0; i < 3; i++)
            for (int64_t j = 0; j < t[i].shape[1]; j++) word[i][j] = (uint32_t)((const int64_t *)t[i].data)[r * t[i].shape[1] + j];
        rt__philox(word[0], word[1], out);
        assert_memory_equal(out, word[2], sizeof out);
    }
    for (int i = 0; i < 3; i++) rt_tensor_free(&t[i]);
    rt_tensors_close(file);
}

static void names_are_fnv1a(void **state)
{
    (void)state;
    assert_int_equal(rt__draw_name(""), 0x811c9dc5);
    assert_int_equal(rt__draw_name("a"), 0xe40c292c);
    assert_int_equal(rt__draw_name("foobar"), 0xbf9cf968);
}

/* The three draws against the formula written down once more: seed, name, step, sample and element each in their place. */
static void bits_are_in_their_places(void **state)
{
    (void)state;
    rt_clock clock = {.seed = 0x0123456789abcdefu, .step = 77, .first = 5, .total = 9};
    enum { SAMPLES = 3, WIDTH = 11 };
    for (int graph = 0; graph < 2; graph++) {
        rt_graph *g = rt_graph_new(graph ? RT_F64 : RT_F32);
        rt_node *draws[] = {rt_randn(g, "foobar", SHAPE(RT_BATCH, WIDTH)), rt_rand(g, "foobar", SHAPE(RT_BATCH, WIDTH)),
                            rt_randint(g, "foobar", SHAPE(RT_BATCH, WIDTH), 1000)};
        for (int d = 0; d < 3; d++) {
            double *got = evaluate_at(draws[d], SAMPLES, 1, clock, NULL, 0);
            for (uint32_t s = 0; s < SAMPLES; s++)
                for (uint32_t e = 0; e < WIDTH; e++) {
                    uint32_t w[4];
                    rt__philox((uint32_t[]){e / 4, 5 + s, 77, 0xbf9cf968}, (uint32_t[]){0x89abcdef, 0x01234567}, w);
                    double u[4];
                    for (int i = 0; i < 4; i++) u[i] = ((double)w[i] + 0.5) / 4294967296.0;
                    double radius = sqrt(-2 * log(u[e % 4 / 2 * 2])), turn = 2 * acos(-1) * u[e % 4 / 2 * 2 + 1];
                    double want = d == 0 ? radius * (e % 2 ? sin(turn) : cos(turn)) : d == 1 ? u[e % 4] : floor(u[e % 4] * 1000);
                    double allowed = d == 2 ? 0 : graph ? TOL_DRAWS : TOL_DRAWS_SINGLE;
                    assert_true(fabs(got[s * WIDTH + e] - want) <= allowed * fmax(1, fabs(want)));
                }
            free(got);
        }
        rt_graph_free(g);
    }
}

/* (0xffffff8b + 1/2) / 2^32 rounds to 1 in float. It belongs to this seed, name, step and element. */
static void uniform_stays_below_one(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_clock clock = {.seed = 1, .step = 104539};
    uint32_t w[4];
    rt__draw_words(&(rt__draw){.seed = 1, .name = rt__draw_name("u"), .clock = 104539}, 0, 0, w);
    assert_true(w[2] == 0xffffff8b);
    double *v = evaluate_at(rt_rand(g, "u", SHAPE(1, 4)), 1, 1, clock, NULL, 0);
    assert_true(v[2] < 1 && v[2] > 0.9999999);
    free(v);
    rt_graph_free(g);
}

static int by_value(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

enum { MANY = 1 << 18 };

/* Kolmogorov-Smirnov: sqrt(n) sup|F_n - F| exceeds 1.95 once in a thousand seeds. */
static double ks(double *v, int n, double (*cdf)(double))
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    double d = 0;
    for (int i = 0; i < n; i++) {
        double f = cdf(v[i]);
        d = fmax(d, fmax(f - (double)i / n, (double)(i + 1) / n - f));
    }
    return d * sqrt((double)n);
}
static double normal_cdf(double x) { return 0.5 * erfc(-x / sqrt(2)); }
static double uniform_cdf(double x) { return x; }

static void distributions(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    /* few wide samples, many narrow ones: both coordinates of the counter */
    int64_t shapes[][2] = {{4, MANY / 4}, {MANY, 1}, {MANY / 8, 8}};
    for (int k = 0; k < 3; k++) {
        double *v = evaluate(rt_randn(g, "z", 2, shapes[k]), 1, NULL, 0), m[5] = {0};
        for (int i = 0; i < MANY; i++)
            for (int j = 1; j <= 4; j++) m[j] += pow(v[i], j) / MANY;
        double se = 1 / sqrt((double)MANY); /* variances of the moments: 1, 2, 15, 96 */
        assert_true(fabs(m[1]) < 4 * se);
        assert_true(fabs(m[2] - 1) < 4 * sqrt(2) * se);
        assert_true(fabs(m[3]) < 4 * sqrt(15) * se);
        assert_true(fabs(m[4] - 3) < 4 * sqrt(96) * se);
        assert_true(ks(v, MANY, normal_cdf) < 1.95);
        free(v);

        v = evaluate(rt_rand(g, "u", 2, shapes[k]), 1, NULL, 0);
        assert_true(ks(v, MANY, uniform_cdf) < 1.95);
        free(v);

        double counts[10] = {0}, chi2 = 0;
        v = evaluate(rt_randint(g, "n", 2, shapes[k], 10), 1, NULL, 0);
        for (int i = 0; i < MANY; i++) {
            assert_true(v[i] >= 0 && v[i] <= 9);
            counts[(int)v[i]]++;
        }
        for (int i = 0; i < 10; i++) chi2 += (counts[i] - MANY / 10.0) * (counts[i] - MANY / 10.0) / (MANY / 10.0);
        assert_true(chi2 < 27.9); /* 9 degrees of freedom, one in a thousand */
        free(v);
    }
    rt_graph_free(g);
}

/* Draws that differ in one coordinate are uncorrelated: name, step, seed (either half), sample, element. */
static void coordinates_are_independent(void **state)
{
    (void)state;
    enum { N = 1 << 14 };
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *z = rt_randn(g, "z", SHAPE(RT_BATCH, 4)), *y = rt_randn(g, "y", SHAPE(RT_BATCH, 4));
    rt_clock clocks[] = {{.seed = 1, .step = 1},
                         {.seed = 1, .step = 1},
                         {.seed = 1, .step = 2},
                         {.seed = 2, .step = 1},
                         {.seed = 1 + (1ull << 32), .step = 1},
                         {.seed = 1, .step = 1, .first = 1}};
    double *base = evaluate_at(z, N / 4, 1, clocks[0], NULL, 0);
    for (int k = 1; k < 6; k++) {
        double *other = evaluate_at(k == 1 ? y : z, N / 4, 1, clocks[k], NULL, 0), sum = 0;
        for (int i = 0; i < N; i++) sum += base[i] * other[i];
        assert_true(fabs(sum) / sqrt((double)N) < 4);
        free(other);
    }
    double neighbours = 0;
    for (int i = 0; i + 1 < N; i++) neighbours += base[i] * base[i + 1];
    assert_true(fabs(neighbours) / sqrt((double)N) < 4);
    free(base);
    rt_graph_free(g);
}

/* Row i of a draw over the batch is sample `first` + i, whatever the slice and the threads; other draws are the same in all slices. */
static void slices_see_the_same_draws(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *draws[] = {rt_randn(g, "a", SHAPE(RT_BATCH, 3, 1001)), rt_rand(g, "b", SHAPE(RT_BATCH)),
                        rt_randint(g, "c", SHAPE(RT_BATCH, 2), 7), rt_randn(g, "d", SHAPE(-2, 5))};
    int64_t widths[] = {3003, 1, 2, 10};
    for (int d = 0; d < 4; d++) {
        double *whole = evaluate_at(draws[d], 7, 2, (rt_clock){.seed = 3, .step = 4, .total = 7}, NULL, 0);
        for (uint32_t first = 0; first < 7; first += 4) {
            int64_t n = first ? 3 : 4;
            rt_clock clock = {.seed = 3, .step = 4, .first = first, .total = 7, .resumed = first > 0, .more = first == 0};
            double *part = evaluate_at(draws[d], n, 1, clock, NULL, 0);
            assert_memory_equal(part, whole + first * widths[d], (size_t)(n * widths[d]) * sizeof *part);
            free(part);
        }
        free(whole);
    }
    rt_node *shared[] = {rt_randn(g, "e", SHAPE(5, 3)), rt_randn(g, "f", 0, NULL), rt_randint(g, "h", 0, NULL, 1 << 30)};
    int64_t counts[] = {15, 1, 1};
    for (int d = 0; d < 3; d++) {
        double *zero = evaluate_at(shared[d], 4, 1, (rt_clock){.seed = 3, .step = 4, .total = 7}, NULL, 0);
        double *four = evaluate_at(shared[d], 3, 1, (rt_clock){.seed = 3, .step = 4, .first = 4, .total = 7}, NULL, 0);
        double *next = evaluate_at(shared[d], 3, 1, (rt_clock){.seed = 3, .step = 5, .first = 4, .total = 7}, NULL, 0);
        assert_memory_equal(zero, four, (size_t)counts[d] * sizeof *zero);
        assert_memory_not_equal(zero, next, sizeof *zero);
        free(zero);
        free(four);
        free(next);
    }
    rt_graph_free(g);
}

static void batch_size_is_that_of_the_whole_batch(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    double *v = evaluate_at(rt_batch_size(g), 4, 1, (rt_clock){.total = 4321}, NULL, 0);
    assert_true(v[0] == 4321);
    free(v);
    v = evaluate_at(rt_batch_size(g), 4, 1, (rt_clock){0}, NULL, 0);
    assert_true(v[0] == 4);
    free(v);
    rt_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(golden_answers),
        cmocka_unit_test(names_are_fnv1a),
        cmocka_unit_test(bits_are_in_their_places),
        cmocka_unit_test(uniform_stays_below_one),
        cmocka_unit_test(distributions),
        cmocka_unit_test(coordinates_are_independent),
        cmocka_unit_test(slices_see_the_same_draws),
        cmocka_unit_test(batch_size_is_that_of_the_whole_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
