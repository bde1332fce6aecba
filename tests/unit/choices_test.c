/* choices_test.c -- kernel choices: by rule, by trying, as remembered; the file and what is wrong with it; what programs and runs make of them. */
#include "base/files.h"
#include "graph/choices.h"
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
#include <unistd.h>
#include <cmocka.h>

static char folder[] = "/tmp/retort-choices-XXXXXX", path[256];

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? snprintf(path, sizeof path, "%s/a/b/choices.json", folder) < 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rt__remove_tree(folder, NULL) != RT_OK;
}

/* ---- ways that take as long as this table says, by a clock that only they move */

static double cost[3], time_now;
static int made, released;
static bool missing[3];
static double test_clock(void) { return time_now; }

static void *make(const rt_call *c, int k, size_t *scratch)
{
    (void)c;
    *scratch = 64 * (size_t)(k + 1);
    if (missing[k]) return NULL;
    made++;
    return &cost[k];
}
static void run(const rt_call *c)
{
    memset(c->scratch, 1, (size_t)(1 + (double *)c->state - cost) * 64);
    time_now += *(double *)c->state;
}
static void release(void *state)
{
    (void)state;
    released++;
}

static const char *const names[] = {"a", "b", "c"};

/* The way that is gone for `key`. */
static int choose(rt_choices *choices, const char *key, int rule)
{
    size_t scratch = 0;
    rt__ways ways = {names, 3, rule, make, run, release, test_clock, NULL};
    made = released = 0;
    double *state = rt__choose(&(rt_call){.choices = choices}, key, &ways, &scratch);
    if (!state) return -1;
    assert_int_equal(made, released + 1);
    assert_int_equal(scratch, 64 * (state - cost + 1));
    return (int)(state - cost);
}

static void set_costs(double a, double b, double c) { cost[0] = a, cost[1] = b, cost[2] = c; }

static void test_rule(void **state)
{
    (void)state;
    set_costs(3e-3, 2e-3, 1e-3);
    rt_choices *quiet = rt_choices_new(false);
    for (int rule = 0; rule < 3; rule++) {
        assert_int_equal(choose(NULL, "x", rule), rule);
        assert_int_equal(choose(quiet, names[rule], rule), rule);
    }
    assert_int_equal(choose(quiet, "a", 2), 0); /* what was chosen once stays */
    assert_int_equal(rt_choices_used(quiet, NULL), 3);
    assert_int_equal(rt_choices_used(quiet, "b"), 1);
    rt_choices_prefer(quiet, "c");
    assert_int_equal(choose(quiet, "a", 0), 2);
    rt_choices_prefer(quiet, "d");
    assert_int_equal(choose(quiet, "new", 0), 0);
    missing[2] = true;
    assert_int_equal(choose(NULL, "x", 2), 1); /* an earlier way where the rule's does not apply */
    missing[0] = missing[1] = true;
    assert_int_equal(choose(NULL, "x", 2), -1);
    memset(missing, 0, sizeof missing);
    rt_choices_free(quiet);
}

static void test_trying(void **state)
{
    (void)state;
    rt_choices *c = rt_choices_new(true);
    set_costs(3e-3, 2e-3, 1e-3);
    assert_int_equal(choose(c, "long", 0), 2);
    set_costs(3e-7, 1e-7, 2e-7);
    assert_int_equal(choose(c, "short", 0), 1);
    set_costs(1.00, 0.97, 0.98);
    assert_int_equal(choose(c, "about equal", 0), 0); /* to leave the rule must be worth it */
    set_costs(1.00, 0.93, 0.94);
    assert_int_equal(choose(c, "clearly faster", 0), 1);
    set_costs(3, 2, 1);
    missing[2] = true;
    assert_int_equal(choose(c, "one is missing", 0), 1);
    missing[2] = false;
    set_costs(1, 2, 3);
    assert_int_equal(choose(c, "long", 0), 2); /* is not timed again */
    assert_int_equal(made, 1);
    rt_choices_free(c);
}

/* ---- files */

static void write_text(const char *text) { assert_int_equal(rt__file_write(path, text, strlen(text), NULL), RT_OK); }

static void test_file(void **state)
{
    (void)state;
    rt_error err = {0};
    rt_choices *c = rt_choices_new(true), *d = rt_choices_new(false);
    assert_int_equal(rt_choices_read(d, path, &err), RT_OK); /* there is none yet */
    assert_int_equal(rt_choices_keep(d, path, &err), RT_OK); /* nothing to keep: no file */
    assert_false(rt__file_exists(path));
    set_costs(3, 1, 2);
    choose(c, "one", 0), choose(c, "two \"quoted\"", 2);
    assert_int_equal(rt_choices_keep(c, path, &err), RT_OK);
    assert_int_equal(rt_choices_read(d, path, &err), RT_OK);
    assert_int_equal(choose(d, "one", 0), 1);
    assert_int_equal(choose(d, "two \"quoted\"", 0), 1);
    assert_int_equal(choose(d, "three", 0), 0);
    assert_int_equal(rt_choices_keep(d, path, &err), RT_OK); /* adds three */
    set_costs(1, 2, 3);
    rt_choices *e = rt_choices_new(true);
    choose(e, "one", 0), choose(e, "four", 0); /* a, but of "one" the file has b, which stays */
    assert_int_equal(rt_choices_keep(e, path, &err), RT_OK);
    assert_int_equal(rt_choices_read(e, path, &err), RT_OK);
    assert_int_equal(choose(e, "one", 0), 1);
    assert_int_equal(choose(e, "three", 2), 0);
    rt_choices_free(c), rt_choices_free(d), rt_choices_free(e);
}

/* What is broken is refused whole, named, and replaced by the next that keeps. */
static void test_broken_files(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{}",
                                        "null",
                                        "\xff\xfe",
                                        "{\"retort\": \"choices/2\", \"choices\": {}}",
                                        "{\"retort\": 1, \"choices\": {}}",
                                        "{\"retort\": \"choices/1\"}",
                                        "{\"retort\": \"choices/1\", \"choices\": []}",
                                        "{\"retort\": \"choices/1\", \"choices\": {\"one\": 1}}",
                                        "{\"retort\": \"choices/1\", \"choices\": {\"one\": \"\"}}",
                                        "{\"retort\": \"choices/1\", \"choices\": {\"one\": \"b\", \"one\": \"a\"}}",
                                        ("{\"retort\": \"choices/1\", \"choices\": {\"x\": \"b\", \"one\": "
                                         "\"a name of more than thirty-two letters, which no way has\"}}")};
    set_costs(1, 2, 3);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        rt_error err = {0};
        rt_choices *c = rt_choices_new(false);
        write_text(texts[i]);
        assert_int_equal(rt_choices_read(c, path, &err), RT_E_INVALID);
        assert_non_null(strstr(err.text, path));
        assert_int_equal(choose(c, "x", 0), 0);
        assert_int_equal(rt_choices_keep(c, path, NULL), RT_OK);
        assert_int_equal(rt_choices_read(c, path, NULL), RT_OK);
        rt_choices_free(c);
    }
    /* a name that no way has is as if nothing were known */
    rt_choices *c = rt_choices_new(false);
    write_text("{\"retort\": \"choices/1\", \"choices\": {\"one\": \"from the future\"}}");
    assert_int_equal(rt_choices_read(c, path, NULL), RT_OK);
    assert_int_equal(choose(c, "one", 1), 1);
    rt_choices_free(c);
}

/* ---- programs */

enum { BATCH = 8, SIDE = 14, CHANNELS = 64, COUNT = BATCH * CHANNELS * SIDE * SIDE };

/* y = conv(x) and its gradients, made with a table. */
static void evaluate(rt_choices *choices, float *y)
{
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *x = rt_input(g, "x", RT_F32, 4, (int64_t[]){RT_BATCH, CHANNELS, SIDE, SIDE}),
            *w = rt_input(g, "w", RT_F32, 4, (int64_t[]){CHANNELS, CHANNELS, 3, 3}), *out[3];
    out[2] = rt_conv2d(x, w, NULL, RT_CONV(1, 1));
    rt_grad(rt_sum(rt_square(out[2]), RT_ALL_AXES, false), (rt_node *[]){x, w}, 2, out);
    rt_program *p;
    rt_error err = {0};
    rt_program_spec spec = {.outputs = out, .n_outputs = 3, .batch = BATCH, .threads = 1, .choices = choices};
    if (rt_compile(&p, g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
    float *a = rt_program_data(p, x), *b = rt_program_data(p, w);
    for (int64_t i = 0; i < COUNT; i++) a[i] = (float)((i * 37) % 101) / 50 - 1;
    for (int64_t i = 0; i < CHANNELS * CHANNELS * 9; i++) b[i] = (float)((i * 53) % 103) / 500 - 0.1f;
    assert_int_equal(rt_run(p, &(rt_clock){0}, &err), RT_OK);
    for (int i = 0, at = 0; i < 3; i++) {
        int64_t n = rt_program_count(p, out[i]);
        memcpy(y + at, rt_program_data(p, out[i]), (size_t)n * sizeof *y);
        at += (int)n;
    }
    rt_program_free(p);
    rt_graph_free(g);
}

enum { NUMBERS = 2 * COUNT + CHANNELS * CHANNELS * 9 };

/* Largest difference, of the largest number of the same output: gradients of x and w, then y. */
static double assert_near(const float *got, const float *want)
{
    const int64_t ends[] = {COUNT, COUNT + CHANNELS * CHANNELS * 9, NUMBERS};
    double worst = 0;
    for (int k = 0, i = 0; k < 3; k++) {
        double top = 0, most = 0;
        for (; i < ends[k]; i++) {
            top = fmax(top, fabs((double)want[i]));
            most = fmax(most, fabs((double)got[i] - (double)want[i]));
        }
        assert_true(most <= TOL_BACKEND_GRAD * top);
        worst = fmax(worst, most / top);
    }
    return worst;
}

/* Whatever is chosen, the numbers agree to rounding; the same file, the same bits; no table, the rule's bits. */
static void test_programs(void **state)
{
    (void)state;
    float *rule = calloc(5 * NUMBERS, sizeof *rule), *quiet = rule + NUMBERS, *tried = quiet + NUMBERS, *again = tried + NUMBERS,
          *forced = again + NUMBERS;
    evaluate(NULL, rule);
    rt_choices *c = rt_choices_new(false);
    evaluate(c, quiet);
    assert_memory_equal(rule, quiet, NUMBERS * sizeof *rule);
    if (rt_choices_used(c, NULL) == 0) { /* the reference has one way each */
        rt_choices_free(c);
        free(rule);
        skip();
    }
    assert_true(rt_choices_used(c, NULL) >= 3);
    unlink(path);
    rt_choices *t = rt_choices_new(true), *from_file = rt_choices_new(false);
    evaluate(t, tried);
    assert_int_equal(rt_choices_keep(t, path, NULL), RT_OK);
    assert_int_equal(rt_choices_read(from_file, path, NULL), RT_OK);
    evaluate(from_file, again);
    assert_memory_equal(tried, again, NUMBERS * sizeof *rule);

    /* every choice turned into another one */
    char *text, *at, *other;
    size_t size, other_size;
    assert_int_equal(rt__file_read(path, 1 << 20, &text, &size, NULL), RT_OK);
    FILE *f = open_memstream(&other, &other_size);
    for (at = text; *at;) {
        static const char *const ways[][2] = {
            {"\"winograd\"", "\"direct\""}, {"\"winograd of the library\"", "\"direct\""}, {"\"direct\"", "\"winograd\""}};
        int k = 0;
        while (k < 3 && strncmp(at, ways[k][0], strlen(ways[k][0])) != 0) k++;
        if (k < 3)
            fputs(ways[k][1], f);
        else
            fputc(*at, f);
        at += k < 3 ? strlen(ways[k][0]) : 1;
    }
    fclose(f);
    write_text(other);
    rt_choices *turned = rt_choices_new(false);
    assert_int_equal(rt_choices_read(turned, path, NULL), RT_OK);
    evaluate(turned, forced);
    assert_near(tried, rule);
    print_message("other ways than the rule's differ by %.1e of the largest number\n", assert_near(forced, rule));
    /* where no kernel is Winograd's there is one way, whatever a table says */
    rt_choices *winograd = rt_choices_new(false);
    rt_choices_prefer(winograd, "winograd");
    evaluate(winograd, again);
    if (rt_choices_used(winograd, "winograd") > 0)
        assert_memory_not_equal(tried, forced, NUMBERS * sizeof *rule);
    else
        assert_memory_equal(tried, forced, NUMBERS * sizeof *rule);
    rt_choices_free(c), rt_choices_free(t), rt_choices_free(from_file), rt_choices_free(turned), rt_choices_free(winograd);
    free(text);
    free(other);
    free(rule);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rule), cmocka_unit_test(test_trying), cmocka_unit_test(test_file),
                                       cmocka_unit_test(test_broken_files), cmocka_unit_test(test_programs)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
