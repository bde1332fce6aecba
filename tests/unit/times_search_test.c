/* times_search_test.c -- times found by what comes out of them, against a scan of all: on functions with one valley, and on `renoise` of an exact denoiser of a
 * mixture, judged by the energy distance; folders that carry them. */
#include "diffusion_check.h"

#include "model/grid_search.h"
#include "retort/metrics.h"

#include <unistd.h>

enum { D = 2, N = 128 };

/* ---- functions of the times alone */

typedef struct valley {
    const double *list;
    double at[3]; /* where the minimum is, as places in the list */
    int steps, calls;
} valley;

static int place_of(const double *list, double t)
{
    int i = 0;
    while (list[i] > t) i++;
    return i;
}

/* Falls towards `at`, with steps of all sizes. */
static rt_status of_places(void *self, const double *times, double *value, rt_error *e)
{
    (void)e;
    valley *v = self;
    *value = 0;
    v->calls++;
    for (int k = 1; k < v->steps; k++) *value += pow(fabs(place_of(v->list, times[k]) - v->at[k - 1]), 1.5);
    return RT_OK;
}

static rt_model *model_of(const char *process)
{
    char text[512], file[64] = "/tmp/retort-times-XXXXXX", path[80];
    int handle = mkstemp(file);
    assert_true(handle >= 0);
    snprintf(text, sizeof text,
             "{\"kind\": \"mixture\", \"weights\": [0.5, 0.5], \"means\": [[1, 0.5], [-1, 0]], \"covariances\": [[[0.02, 0], [0, 0.05]], "
             "[[0.02, 0], [0, 0.03]]], \"process\": {\"name\": \"%s\"}}",
             process);
    assert_int_equal(write(handle, text, strlen(text)), strlen(text));
    close(handle);
    rt_model *m = NULL;
    snprintf(path, sizeof path, "oracle:%s", file);
    CHECK_OK(rt_model_open(&m, &(rt_model_spec){.path = path, .threads = 1}, &err));
    unlink(file);
    return m;
}

static void valleys(void **state)
{
    (void)state;
    rt_model *m = model_of("ddpm");
    double list[RT__FINE_TIMES], times[5], best;
    int points = rt__fine_times(m->process, list, NULL);
    assert_true(points > 50 && points <= RT__FINE_TIMES && list[points - 1] == 0);
    for (int at = 1; at < points - 1; at++) { /* one time between: found wherever it is */
        valley v = {.list = list, .at = {at}, .steps = 2};
        CHECK_OK(rt_model_search_times(m, 2, of_places, &v, times, &best, &err));
        assert_true(best == 0 && times[1] == list[at] && times[0] == list[0] && times[2] == 0);
        assert_true(v.calls < 20);
    }
    for (int at = 3; at < points - 9; at += 5) { /* three, some of which stand in the way of others at first */
        valley v = {.list = list, .at = {at, at + 2, at + 7}, .steps = 4};
        CHECK_OK(rt_model_search_times(m, 4, of_places, &v, times, &best, &err));
        assert_true(best == 0 && times[1] == list[at] && times[2] == list[at + 2] && times[3] == list[at + 7]);
    }
    valley one = {.list = list, .steps = 1};
    CHECK_OK(rt_model_search_times(m, 1, of_places, &one, times, &best, &err));
    assert_true(one.calls == 1 && best == 0 && times[0] == list[0] && times[1] == 0);
    CHECK_REFUSED(rt_model_search_times(m, points, of_places, &one, times, &best, &err), RT_E_USAGE, "take another grid");
    rt_model_free(m);
}

/* ---- samples */

typedef struct judge {
    rt_model *model;
    const rt_solver *solver;
    float want[N * D], got[N * D];
    int steps, calls;
} judge;

static rt_status take(void *user, const rt_samples *s, rt_error *e)
{
    (void)e;
    memcpy(user, s->x, sizeof(float) * N * D);
    return RT_OK;
}

static rt_status energy(void *self, const double *times, double *value, rt_error *e)
{
    judge *j = self;
    rt_sample_report report;
    rt_sampling s = {.n = N, .batch = N, .times = times, .n_times = j->steps + 1, .solver = "renoise", .seed = 5};
    RT_TRY(rt_model_sample(j->model, &s, take, j->got, &report, e));
    j->calls++;
    return rt_energy_distance(&(rt_points){N, D, j->want}, &(rt_points){N, D, j->got}, value, NULL, e);
}

/* One valley is trusted over the whole range. */
static double by_thirds(judge *j, const double *list, int points)
{
    int low = 1, high = points - 2;
    double a, b, times[3] = {list[0], 0, 0};
    while (high - low > 2) {
        int third = (high - low) / 3;
        times[1] = list[low + third];
        CHECK_OK(energy(j, times, &a, &err));
        times[1] = list[high - third];
        CHECK_OK(energy(j, times, &b, &err));
        if (a < b)
            high -= third;
        else
            low += third;
    }
    for (int i = low; i <= high; i++) {
        times[1] = list[i];
        CHECK_OK(energy(j, times, &a, &err));
        b = i == low ? a : fmin(a, b);
    }
    return b;
}

/* The exact denoiser is a poor student: one step gives the mean of all data, two or three give something in between, by their times. */
static void denoiser_of_a_mixture(void **state)
{
    (void)state;
    static const char *const processes[] = {"ddpm", "flow"};
    static judge j;
    for (size_t p = 0; p < RT_COUNT(processes); p++) {
        double list[RT__FINE_TIMES], times[4], best, value, least = INFINITY, most = 0;
        static double draws[N * D];
        j = (judge){.model = model_of(processes[p])};
        int points = rt__fine_times(j.model->process, list, NULL), where = 0;
        CHECK_OK(rt_oracle_draw(j.model->oracle, 3, 0, N, draws, &err));
        for (int i = 0; i < N * D; i++) j.want[i] = (float)draws[i];
        j.steps = 2;
        for (int i = 1; i < points - 1; i++) {
            CHECK_OK(energy(&j, (double[]){list[0], list[i], 0}, &value, &err));
            if (value < least) least = value, where = i;
            most = fmax(most, value);
        }
        j.calls = 0;
        CHECK_OK(rt_model_search_times(j.model, 2, energy, &j, times, &best, &err));
        int calls = j.calls;
        double thirds = by_thirds(&j, list, points);
        print_message("%s: 2 steps: %.4g at %.4g in %d tries; of all %.4g to %.4g, the least at %.4g; by thirds %.4g\n", processes[p], best,
                      times[1], calls, least, most, list[where], thirds);
        assert_true(most > 2 * least); /* the times matter */
        assert_true(best == least && times[1] == list[where] && calls <= 20);
        assert_true(best <= thirds);

        if (p == 0) { /* three steps on the other process */
            rt_model_free(j.model);
            continue;
        }
        j.steps = 3;
        least = INFINITY;
        for (int i = 1; i < points - 2; i += 6) /* every sixth of each */
            for (int k = i + 1; k < points - 1; k += 6) {
                CHECK_OK(energy(&j, (double[]){list[0], list[i], list[k], 0}, &value, &err));
                least = fmin(least, value);
            }
        j.calls = 0;
        CHECK_OK(rt_model_search_times(j.model, 3, energy, &j, times, &value, &err));
        print_message("%s: 3 steps: %.4g at %.4g, %.4g in %d tries; of a scan %.4g\n", processes[p], value, times[1], times[2], j.calls,
                      least);
        assert_true(value <= 1.02 * least && value < best && j.calls < 150);
        rt_model_free(j.model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(valleys), cmocka_unit_test(denoiser_of_a_mixture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
