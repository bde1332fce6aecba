/* grid_search_test.c -- times made for a model: shortest paths against enumeration, runs against the other rows, what is kept and what is refused. */
#include "diffusion_check.h"

#include "model/grid_search.h"

#include <unistd.h>

enum { D = 2, N = 256, POINTS = 9 };

static char folder[64];
static char oracle[80], cache[96], path[96]; /* FILE.json, beside it what is kept, and oracle:FILE.json */

/* The least sum over all paths of `steps` steps from i to the last point. */
static double enumerate(const double *cost, int i, int steps)
{
    double least = INFINITY;
    if (steps == 0) return i == POINTS - 1 ? 0 : INFINITY;
    for (int j = i + 1; j < POINTS; j++) least = fmin(least, cost[i * POINTS + j] + enumerate(cost, j, steps - 1));
    return least;
}

static void shortest_paths(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 50; round++) {
        double cost[POINTS * POINTS] = {0};
        for (int i = 0; i < POINTS; i++)
            for (int j = i + 1; j < POINTS; j++) cost[i * POINTS + j] = 1 + wobble(&seed);
        for (int steps = 1; steps < POINTS; steps++) {
            int way[POINTS];
            double sum = 0;
            rt__grid_shortest(POINTS, cost, steps, way);
            assert_true(way[0] == 0 && way[steps] == POINTS - 1);
            for (int k = 0; k < steps; k++) {
                assert_true(way[k] < way[k + 1]);
                sum += cost[way[k] * POINTS + way[k + 1]];
            }
            CHECK_NEAR(sum, enumerate(cost, 0, steps), 1e-12, "%d steps", steps);
        }
    }
}

static void write_text(const char *file, const char *text)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static char *read_text(const char *file)
{
    static char text[8][20000];
    static int turn;
    char *at = text[turn = (turn + 1) % 8];
    FILE *f = fopen(file, "r");
    if (!f) return NULL;
    at[fread(at, 1, sizeof *text - 1, f)] = 0;
    fclose(f);
    return at;
}

static const char *classes = ""; /* of the two components: a field and a comma */

static void write_oracle(const char *process, double middle)
{
    char text[512];
    snprintf(
        text, sizeof text,
        "{%s\"kind\": \"mixture\", \"weights\": [0.4, 0.6], \"means\": [[0.5, -1], [-0.75, %g]], \"covariances\": [[[0.05, 0], [0, 0.1]], "
        "[[0.02, 0], [0, 0.05]]], \"process\": {\"name\": \"%s\"}}",
        classes, middle, process);
    write_text(oracle, text);
}

static rt_status take(void *user, const rt_samples *s, rt_error *err)
{
    (void)err;
    memcpy(user, s->x, sizeof(float) * N * D);
    return RT_OK;
}

static rt_model *opened(void)
{
    rt_model *m = NULL;
    CHECK_OK(rt_model_open(&m, &(rt_model_spec){.path = path, .threads = 1}, &err));
    return m;
}

static float noise[N * D];
static double exact[N * D]; /* what the flow map makes of it */

static void make_reference(void)
{
    static double start[N * D];
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_open(&o, oracle, &err));
    const rt_process *p = rt_oracle_process(o);
    double end = rt_process_end(p);
    uint64_t seed = 3;
    for (int i = 0; i < N * D; i++) {
        double z = 0;
        for (int k = 0; k < 12; k++) z += wobble(&seed) / 2; /* nearly normal, of unit variance */
        noise[i] = (float)z;
        start[i] = rt_process_noise_scale(p) * (double)noise[i];
    }
    CHECK_OK(rt_oracle_flow_map(o, rt_process_alpha(p, end), rt_process_beta(p, end), 1, 0, N, start, exact, &err));
    rt_oracle_free(o);
}

static double error_of(const char *grid, const char *solver, int steps)
{
    static float got[N * D];
    rt_sample_report report;
    rt_model *m = opened();
    double sum = 0;
    rt_sampling s = {.n = N, .batch = N, .steps = steps, .grid = grid, .solver = solver, .noise = noise};
    CHECK_OK(rt_model_sample(m, &s, take, got, &report, &err));
    assert_string_equal(report.grid, grid);
    assert_int_equal(report.steps, steps);
    for (int i = 0; i < N * D; i++) sum += pow((double)got[i] - exact[i], 2) / (N * D);
    rt_model_free(m);
    return sqrt(sum);
}

/* On noises that the search has not seen, no row of the table is better by more than a twentieth. */
static void beats_the_other_rows(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"vp-cosine", "ddim"}, {"ddpm", "heun"}, {"edm", "ddim"}, {"vp-cosine", "dpmpp-2m"}, {"ddpm", "dpmpp-2m"}};
    rt_row_text row;
    for (size_t i = 0; i < RT_COUNT(pairs); i++) {
        const char *solver = pairs[i][1];
        write_oracle(pairs[i][0], 0.5);
        make_reference();
        double found = error_of("search", solver, 5), best = INFINITY;
        for (int g = 0; rt_grid_describe(g, &row); g++)
            if (strcmp(row.name, "search") && strcmp(row.name, "leading")) best = fmin(best, error_of(row.name, solver, 5));
        print_message("%s, %s, 5 steps: RMS %.4f, best other row %.4f\n", pairs[i][0], solver, found, best);
        assert_true(found < best * 1.05);
        const char *kept = strstr(read_text(cache), "\"error\":"); /* as the search saw it, on other noises */
        assert_non_null(kept);
        CHECK_NEAR(atof(kept + 8), found, 0.25 * found, "kept error");
        unlink(cache);
    }
}

static void plan(rt_model *m, const char *solver, int steps, bool look_only, rt_sample_report *report)
{
    rt_sampling s = {.n = 1, .steps = steps, .grid = "search", .solver = solver, .look_only = look_only};
    CHECK_OK(rt_model_plan(m, &s, report, &err));
}

static void is_kept(void **state)
{
    (void)state;
    rt_sample_report first, again;
    write_oracle("flow", 0.5);
    unlink(cache);
    rt_model *m = opened();
    plan(m, "ddim", 4, true, &first); /* only looking: nothing is measured, nothing written */
    assert_true(first.times[1] == 0.75 && access(cache, F_OK) != 0);
    assert_non_null(strstr(first.remark, "not been searched yet"));
    plan(m, "ddim", 4, false, &first);
    assert_string_equal(first.remark, "");
    char *text = read_text(cache);
    assert_non_null(text);
    assert_non_null(strstr(text, "grid-search/1"));
    plan(m, "heun", 4, false, &again); /* another solver: another entry */
    assert_true(memcmp(first.times, again.times, 5 * sizeof *first.times));
    assert_true(strlen(read_text(cache)) > 3 * strlen(text) / 2);
    rt_model_free(m);

    m = opened(); /* found, also by who only looks, and not written again */
    text = read_text(cache);
    plan(m, "ddim", 4, true, &again);
    assert_memory_equal(first.times, again.times, 5 * sizeof *first.times);
    assert_string_equal(read_text(cache), text);
    rt_model_free(m);

    /* what is kept is used: another time put there by hand comes back */
    char other[20000], number[64];
    snprintf(number, sizeof number, "[1.0,%.17g", first.times[1]);
    char *at = strstr(text, number);
    assert_non_null(at);
    snprintf(other, sizeof other, "%.*s[1.0,0.987%s", (int)(at - text), text, at + strlen(number));
    write_text(cache, other);
    m = opened();
    plan(m, "ddim", 4, false, &again);
    assert_true(again.times[1] == 0.987);
    rt_model_free(m);

    /* another model in the same file is another key */
    write_oracle("flow", 0.4);
    m = opened();
    plan(m, "ddim", 4, false, &again);
    assert_true(again.times[1] != 0.987);
    rt_model_free(m);

    /* so are other classes of the same mixture, whose draws are the same */
    for (int i = 0; i < 2; i++) {
        classes = i ? "\"classes\": [1, 0], " : "\"classes\": [0, 1], ";
        write_oracle("flow", 0.4);
        m = opened();
        plan(m, "ddim", 4, true, &again);
        assert_non_null(strstr(again.remark, "not been searched yet"));
        plan(m, "ddim", 4, false, &again);
        rt_model_free(m);
    }
    classes = "";
}

/* A damaged file is named, searched for again and replaced. */
static void damage(void **state)
{
    (void)state;
    rt_sample_report first, again;
    write_oracle("flow", 0.5);
    unlink(cache);
    rt_model *m = opened();
    plan(m, "ddim", 3, false, &first);
    rt_model_free(m);
    char *good = read_text(cache), bad[4][2000];
    snprintf(bad[0], sizeof bad[0], "%.*s", (int)strlen(good) / 2, good); /* cut short */
    snprintf(bad[1], sizeof bad[1], "[1, 2, 3]");
    snprintf(bad[2], sizeof bad[2], "%s", good);
    memcpy(strstr(bad[2], "[1.0,"), "[7.0,", 5); /* a time outside the process */
    snprintf(bad[3], sizeof bad[3], "%s", good);
    memcpy(strstr(bad[3], "\"key\""), "\"kez\"", 5);
    static const char *const needles[] = {"JSON", "no searches", "leaves the process", "no key"};
    for (int i = 0; i < 4; i++) {
        write_text(cache, bad[i]);
        m = opened();
        plan(m, "ddim", 3, false, &again);
        assert_memory_equal(first.times, again.times, 4 * sizeof *first.times);
        if (!strstr(again.remark, needles[i]) || !strstr(again.remark, "searched again")) fail_msg("remark: %s", again.remark);
        assert_string_equal(read_text(cache), good);
        rt_model_free(m);
    }
}

static void refusals(void **state)
{
    (void)state;
    rt_sample_report report;
    write_oracle("flow", 0.5);
    rt_model *m = opened();
    rt_sampling s = {.n = 1, .steps = 4, .grid = "search", .solver = "euler-ancestral"};
    CHECK_REFUSED(rt_model_plan(m, &s, &report, &err), RT_E_USAGE, "draws noise");
    s.solver = "ddim", s.steps = 100;
    CHECK_REFUSED(rt_model_plan(m, &s, &report, &err), RT_E_USAGE, "not 100");
    s.steps = 4, s.grid = "serch";
    CHECK_REFUSED(rt_model_plan(m, &s, &report, &err), RT_E_USAGE, "did you mean 'search'");
    rt_model_free(m);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/retort-search-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(oracle, sizeof oracle, "%s/m.json", folder);
    snprintf(cache, sizeof cache, "%s.grids.json", oracle);
    snprintf(path, sizeof path, "oracle:%s", oracle);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(cache), unlink(oracle);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shortest_paths), cmocka_unit_test(beats_the_other_rows), cmocka_unit_test(is_kept), cmocka_unit_test(damage),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
