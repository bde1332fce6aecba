/* gap_test.c -- how far a model is from pictures: closed forms of oracles, and a network asked the long way round. */
#include "retort/model.h"

#include "base/internal.h"
#include "retort/nn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char root[128];

static char *in(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", root, name);
    return path[turn];
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static rt_model *opened(const char *path, const char *scheduler)
{
    rt_model *m;
    rt_error err = {0};
    if (rt_model_open(&m, &(rt_model_spec){.path = path, .scheduler = scheduler, .threads = 1}, &err) != RT_OK) fail_msg("%s", err.text);
    return m;
}

static void gaps(rt_model *m, rt_gap g, double *squares)
{
    rt_error err = {0};
    if (rt_model_gap(m, &g, squares, &err) != RT_OK) fail_msg("%s", err.text);
}

/* Data is N(0, s^2): f = c x_t with c = alpha s^2/(alpha^2 s^2 + beta^2), so that the gap at x is (c alpha - 1) x + c beta eps. */
static void of_a_normal_distribution(void **state)
{
    (void)state;
    enum { N = 4000, D = 2 };
    static float x[N * D];
    static double squares[N], again[N];
    write_text(in("normal.json"),
               "{\"kind\": \"gaussian\", \"means\": [[0, 0]], \"covariances\": [[[4, 0], [0, 4]]], \"prediction\": \"velocity\", "
               "\"scheduler\": {\"_class_name\": \"FlowMatchEulerDiscreteScheduler\"}}");
    char path[600];
    snprintf(path, sizeof path, "oracle:%s", in("normal.json"));
    rt_model *m = opened(path, NULL);
    for (int i = 0; i < N * D; i++) x[i] = 3;
    for (double t = 0.25; t < 1; t += 0.25) { /* alpha = 1 - t, beta = t */
        double c = (1 - t) * 4 / ((1 - t) * (1 - t) * 4 + t * t), sum = 0;
        gaps(m, (rt_gap){.n = N, .x = x, .time = t, .seed = 7}, squares);
        for (int i = 0; i < N; i++) sum += squares[i] / N;
        assert_true(fabs(sum - (pow((c * (1 - t) - 1) * 3, 2) + pow(c * t, 2))) < 0.05 * sum);
        gaps(m, (rt_gap){.n = 5, .x = x, .time = t, .seed = 7}, again); /* the same noise, however many there are */
        for (int i = 0; i < 5; i++) assert_true(fabs(again[i] - squares[i]) < 1e-12);
        gaps(m, (rt_gap){.n = 5, .x = x, .time = t, .seed = 8}, again);
        for (int i = 0; i < 5; i++) assert_true(fabs(again[i] - squares[i]) > 1e-9);
    }
    rt_model_free(m);
}

/* A network of `config` with weights of its own. */
static rt_model *network(const char *config)
{
    rt_net *net;
    rt_error err = {0};
    mkdir(in("net"), 0777);
    write_text(in("net/config.json"), config);
    write_text(in("scheduler.json"),
               "{\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 64, \"beta_schedule\": \"squaredcos_cap_v2\", "
               "\"prediction_type\": \"v_prediction\"}");
    if (rt_net_open(&net, in("net"), &err) != RT_OK) fail_msg("%s", err.text);
    rt_params *set = rt_params_new("test", RT_F32);
    if (rt_net_declare(net, set, &err) != RT_OK || rt_params_init(set, 3, &err) != RT_OK) fail_msg("%s", err.text);
    float *values = rt_params_data(set, RT_VALUE);
    for (int64_t i = 0; i < rt_params_count(set); i++) values[i] += 0.1f * (float)sin((double)i); /* layers that start at 0 count, too */
    rt_params_touch(set);
    if (rt_net_save(net, set, RT_VALUE, in("net"), NULL, NULL, &err) != RT_OK) fail_msg("%s", err.text);
    rt_params_free(set);
    rt_net_free(net);
    return opened(in("net"), in("scheduler.json"));
}

enum { ROWS = 11, WIDE = 3 };

static void fill(float *x)
{
    for (int i = 0; i < ROWS * WIDE; i++) x[i] = (float)cos(i);
}

static void of_a_network(void **state)
{
    (void)state;
    enum { T = 64, STEP = 20 }; /* the nearest to 0.305 of 64 */
    float x[ROWS * WIDE], xt[ROWS * WIDE], f[ROWS * WIDE];
    double squares[ROWS], times[ROWS], eps[WIDE];
    int64_t y[ROWS];
    rt_process *p;
    rt_model *m = network("{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 8, \"layers\": 1, \"num_class_embeds\": 4}");
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = T;
    spec.betas = "squaredcos_cap_v2";
    assert_int_equal(rt_process_new(&p, &spec, NULL), RT_OK);
    fill(x);
    double alpha = rt_process_alpha(p, STEP), beta = rt_process_beta(p, STEP);
    rt_process_free(p);
    for (int i = 0; i < ROWS; i++) {
        y[i] = i % 4;
        times[i] = STEP - 1; /* of diffusers */
        rt__draw_normals(&(rt__draw){.seed = 5, .name = rt__draw_name("gap"), .clock = 305}, (uint32_t)i, WIDE, eps);
        for (int j = 0; j < WIDE; j++) xt[i * WIDE + j] = (float)(alpha * (double)x[i * WIDE + j] + beta * eps[j]);
    }
    assert_int_equal(rt_model_predict(m, "x0", ROWS, xt, times, y, f, NULL), RT_OK);
    gaps(m, (rt_gap){.n = ROWS, .x = x, .y = y, .time = 0.305, .seed = 5}, squares);
    for (int i = 0; i < ROWS; i++) {
        double want = 0;
        for (int j = 0; j < WIDE; j++) want += pow((double)f[i * WIDE + j] - (double)x[i * WIDE + j], 2) / WIDE;
        assert_true(fabs(squares[i] - want) < 1e-5 * (1 + want));
    }
    rt_error err = {0};
    assert_int_equal(rt_model_gap(m, &(rt_gap){.n = 1, .x = x, .time = 0.3}, squares, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "needs a class"));
    y[0] = 4;
    assert_int_equal(rt_model_gap(m, &(rt_gap){.n = 1, .x = x, .y = y, .time = 0.3}, squares, NULL), RT_E_INVALID);
    rt_model_free(m);
}

static void of_a_network_that_is_told_a_camera(void **state)
{
    (void)state;
    float x[ROWS * WIDE];
    double cameras[ROWS * RT_CAMERA_NUMBERS], squares[ROWS], one[1];
    rt_model *m = network("{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 8, \"layers\": 1, \"_camera\": true}");
    fill(x);
    for (int i = 0; i < ROWS * RT_CAMERA_NUMBERS; i++) cameras[i] = i < RT_CAMERA_NUMBERS ? 1 : sin(i);
    gaps(m, (rt_gap){.n = ROWS, .x = x, .cameras = cameras, .time = 0.5}, squares);
    gaps(m, (rt_gap){.n = 1, .x = x, .cameras = cameras, .time = 0.5}, one);
    assert_true(fabs(one[0] - squares[0]) < 1e-6);
    gaps(m, (rt_gap){.n = 1, .x = x, .cameras = cameras + 10 * RT_CAMERA_NUMBERS, .time = 0.5}, one);
    assert_true(fabs(one[0] - squares[0]) > 1e-4);
    for (int i = 0; i < RT_CAMERA_NUMBERS; i++) cameras[10 * RT_CAMERA_NUMBERS + i] = 1; /* a later slice has its own cameras */
    double moved[ROWS];
    gaps(m, (rt_gap){.n = ROWS, .x = x, .cameras = cameras, .time = 0.5}, moved);
    assert_true(fabs(moved[10] - squares[10]) > 1e-4);
    assert_true(fabs(moved[9] - squares[9]) < 1e-6);
    assert_int_equal(rt_model_gap(m, &(rt_gap){.n = 1, .x = x, .time = 0.5}, one, NULL), RT_E_USAGE);
    rt_model_free(m);
}

static void no_denoisers(void **state)
{
    (void)state;
    float x[ROWS * WIDE];
    double squares[ROWS];
    rt_error err = {0};
    fill(x);
    rt_model *m = network("{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 8, \"layers\": 1, \"_target_time\": true}");
    assert_int_equal(rt_model_gap(m, &(rt_gap){.n = 1, .x = x, .time = 0.5}, squares, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "no denoiser of a picture at one time"));
    rt_model_free(m);
    m = opened("models/fashion-features", NULL);
    assert_int_equal(rt_model_gap(m, &(rt_gap){.n = 1, .x = x, .time = 0.5}, squares, NULL), RT_E_USAGE);
    rt_model_free(m);
}

int main(void)
{
    snprintf(root, sizeof root, "%s/retort-gap-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(root)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(of_a_normal_distribution), cmocka_unit_test(of_a_network),
                                       cmocka_unit_test(of_a_network_that_is_told_a_camera), cmocka_unit_test(no_denoisers)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[200];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return failed || system(command);
}
