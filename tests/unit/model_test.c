/* model_test.c -- which part of a folder is a model, what a student's recipe does, against a sampler that is written out here. */
#include "retort/model.h"

#include "retort/nn.h"
#include "tolerances.h"

#include <dirent.h>
#include <ftw.h>
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

enum { D = 3, CLASSES = 4, NULL_CLASS = 3, T = 64, N = 5 };

static char root[128];

static char *in(const char *name)
{
    static char path[8][512];
    static int turn;
    turn = (turn + 1) % 8;
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

/* A small network with weights of its own `seed`, in `folder`. */
static void write_network(const char *folder, uint64_t seed)
{
    rt_error err = {0};
    rt_net *net = NULL;
    char config[600];
    mkdir(folder, 0777);
    snprintf(config, sizeof config, "%s/config.json", folder);
    write_text(config, "{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 8, \"layers\": 1, \"num_class_embeds\": 4}");
    if (rt_net_open(&net, folder, &err) != RT_OK) fail_msg("%s", err.text);
    rt_params *set = rt_params_new("test", RT_F32);
    if (rt_net_declare(net, set, &err) != RT_OK || rt_params_init(set, seed, &err) != RT_OK ||
        rt_net_save(net, set, RT_VALUE, folder, NULL, NULL, &err) != RT_OK ||
        rt_net_save(net, set, RT_VALUE, folder, "raw", NULL, &err) != RT_OK)
        fail_msg("%s", err.text);
    rt_params_free(set);
    rt_net_free(net);
}

static void write_scheduler(const char *folder, const rt_student_recipe *recipe)
{
    rt_error err = {0};
    rt_scheduler_config c;
    rt_process_spec spec = rt_process_defaults("ddpm");
    char path[700];
    spec.timesteps = T;
    spec.betas = "squaredcos_cap_v2";
    snprintf(path, sizeof path, "%s/scheduler", folder);
    mkdir(path, 0777);
    strcat(path, "/scheduler_config.json");
    if (rt_scheduler_config_from(&c, &spec, rt_prediction_find("v", NULL), &err) != RT_OK) fail_msg("%s", err.text);
    if (recipe) c.recipe = *recipe;
    if (rt_scheduler_config_write(&c, path, &err) != RT_OK) fail_msg("%s", err.text);
    rt_scheduler_config_free(&c);
}

/* root/pipeline: a student of 2 steps; root/run: config.yaml, model/ and student/; root/bare: a network alone. */
static int setup(void **state)
{
    rt_student_recipe recipe = {
        .version = 1, .method = "pd", .solver = "ddim", .steps = 2, .timesteps = {63, 31}, .null_class = NULL_CLASS, .low = -2, .high = 2};
    (void)state;
    snprintf(root, sizeof root, "%s/retort-model-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(root)) return -1;
    mkdir(in("pipeline"), 0777);
    write_text(in("pipeline/model_index.json"), "{\"_class_name\": \"DDIMPipeline\"}");
    write_text(in("pipeline/config.yaml"), "method: pd\n"); /* the pipeline comes first */
    write_network(in("pipeline/unet"), 1);
    write_scheduler(in("pipeline"), &recipe);
    write_network(in("bare"), 2);
    mkdir(in("run"), 0777);
    write_text(in("run/config.yaml"), "method: pd\n");
    write_network(in("run/model"), 3);
    write_network(in("run/student"), 4);
    return 0;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *where)
{
    (void)s, (void)kind, (void)where;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static rt_model *opened(const rt_model_spec *spec)
{
    rt_model *m = NULL;
    rt_error err = {0};
    if (rt_model_open(&m, spec, &err) != RT_OK) fail_msg("%s", err.text);
    return m;
}

static void refused(const rt_model_spec *spec, rt_status status, const char *text)
{
    rt_model *m = NULL;
    rt_error err = {0};
    assert_int_equal(rt_model_open(&m, spec, &err), status);
    if (!strstr(err.text, text)) fail_msg("'%s' lacks '%s'", err.text, text);
}

static void chosen(const char *path, const char *want)
{
    rt_model *m = opened(&(rt_model_spec){.path = path});
    assert_string_equal(rt_model_get_info(m)->chosen, want);
    rt_model_free(m);
}

static void the_first_part_that_is_found_counts(void **state)
{
    (void)state;
    chosen(in("pipeline"), in("pipeline/unet"));
    chosen(in("run"), in("run/student"));
    chosen(in("bare"), in("bare"));
    rename(in("run/student"), in("run/elsewhere"));
    chosen(in("run"), in("run/model"));
    rename(in("run/model"), in("run/away"));
    refused(&(rt_model_spec){.path = in("run")}, RT_E_INVALID, "neither student/ nor model/");
    rename(in("run/elsewhere"), in("run/student"));
    rename(in("run/away"), in("run/model"));
    refused(&(rt_model_spec){.path = root}, RT_E_INVALID, "neither model_index.json nor config.yaml nor config.json");
    refused(&(rt_model_spec){.path = in("bare/config.json")}, RT_E_INVALID, "is no model");
}

static void what_a_model_says_of_itself(void **state)
{
    (void)state;
    rt_model *m = opened(&(rt_model_spec){.path = in("pipeline")});
    const rt_model_info *i = rt_model_get_info(m);
    assert_string_equal(i->network, "RetortMLP");
    assert_string_equal(i->process, "ddpm");
    assert_string_equal(i->prediction, "v");
    assert_int_equal(i->features, D);
    assert_int_equal(i->classes, CLASSES);
    assert_int_equal(i->null_class, NULL_CLASS);
    assert_int_equal(i->timesteps, T);
    assert_true(i->low == -2 && i->high == 2);
    assert_int_equal(i->recipe.steps, 2);
    assert_true(i->recipe_times[0] == 64 && i->recipe_times[1] == 32 && i->recipe_times[2] == 0);
    assert_int_equal(strlen(i->sha256), 64);
    rt_model_free(m);
    refused(&(rt_model_spec){.path = in("pipeline"), .has_null_class = true, .null_class = 4}, RT_E_USAGE, "has 4 classes");
    refused(&(rt_model_spec){.path = in("pipeline"), .backend = "abacus"}, RT_E_USAGE, "abacus");
    rt_model_free(opened(&(rt_model_spec){.path = in("pipeline"), .weights = "raw"}));
    unlink(in("bare/diffusion_pytorch_model.raw.safetensors"));
    refused(&(rt_model_spec){.path = in("bare"), .weights = "raw"}, RT_E_IO, "raw");
}

/* ---- sampling, written out: squaredcos_cap_v2 and DDIM (1.30) on v-predictions */

static double alpha2(int i)
{
    double product = 1;
    for (int k = 0; k < i; k++) {
        double a = cos(M_PI / 2 * (k / (double)T + 0.008) / 1.008), b = cos(M_PI / 2 * ((k + 1) / (double)T + 0.008) / 1.008);
        product *= 1 - fmin(1 - b * b / (a * a), 0.999);
    }
    return product;
}

/* draws [steps][N][D]: DDIM with this eta; NULL: without. */
static void by_hand_with(rt_model *m, int steps, double omega, double eta, const float *draws, const float *noise, const int64_t *y,
                         double out[N][D])
{
    rt_error err = {0};
    int64_t null[N];
    for (int j = 0; j < N; j++) null[j] = NULL_CLASS;
    for (int j = 0; j < N; j++)
        for (int i = 0; i < D; i++) out[j][i] = (double)noise[j * D + i];
    for (int k = steps; k > 0; k--) {
        int s = T * k / steps, t = T * (k - 1) / steps;
        double as = sqrt(alpha2(s)), bs = sqrt(1 - alpha2(s)), at = sqrt(alpha2(t)), bt = sqrt(1 - alpha2(t));
        float x[N * D], v[N * D], u[N * D];
        double times[N];
        for (int j = 0; j < N; j++) times[j] = s - 1;
        for (int i = 0; i < N * D; i++) x[i] = (float)out[i / D][i % D];
        assert_int_equal(rt_model_predict(m, NULL, N, x, times, y, v, &err), RT_OK);
        assert_int_equal(rt_model_predict(m, NULL, N, x, times, null, u, &err), RT_OK);
        for (int i = 0; i < N * D; i++) {
            double w = (1 + omega) * (double)v[i] - omega * (double)u[i], z = out[i / D][i % D];
            double x0 = as * z - bs * w, eps = bs * z + as * w;
            double sigma = eta * bt / bs * sqrt(bs * bs - as * as / (at * at) * bt * bt);
            double drawn = draws ? (double)draws[(steps - k) * N * D + i] : 0;
            out[i / D][i % D] = at * x0 + sqrt(bt * bt - sigma * sigma) * eps + sigma * drawn;
        }
    }
}

static void by_hand(rt_model *m, int steps, double omega, const float *noise, const int64_t *y, double out[N][D])
{
    by_hand_with(m, steps, omega, 0, NULL, noise, y, out);
}

typedef struct kept {
    float x[N * D], trace[3 * N * D];
    int64_t y[N];
} kept;

static rt_status keep(void *user, const rt_samples *s, rt_error *err)
{
    kept *k = user;
    (void)err;
    memcpy(k->x + s->first * D, s->x, (size_t)(s->count * D) * sizeof *k->x);
    memcpy(k->y + s->first, s->y, (size_t)s->count * sizeof *k->y);
    for (int step = 0; s->trace && step < 3; step++)
        memcpy(k->trace + (step * N + s->first) * D, s->trace + step * s->count * D, (size_t)(s->count * D) * sizeof *k->trace);
    return RT_OK;
}

static void compare(const float *got, double want[N][D])
{
    for (int i = 0; i < N * D; i++)
        if (fabs((double)got[i] - want[i / D][i % D]) > TOL_NET_FORWARD)
            fail_msg("number %d is %g, not %g", i, (double)got[i], want[i / D][i % D]);
}

static const float noise[N * D] = {0.3f, -1.2f, 0.7f, 1.9f, 0.1f, -0.4f, -0.9f, 0.6f, 1.1f, 0.2f, -2.1f, 0.5f, 1.3f, -0.8f, 0.05f};

static void a_student_is_sampled_by_its_recipe(void **state)
{
    (void)state;
    rt_error err = {0};
    rt_model *m = opened(&(rt_model_spec){.path = in("pipeline")});
    kept k = {0};
    double want[N][D];
    rt_sample_report report;
    rt_sampling s = {.n = N, .noise = noise, .batch = 2, .trace = true};
    if (rt_model_sample(m, &s, keep, &k, &report, &err) != RT_OK) fail_msg("%s", err.text);
    assert_int_equal(report.steps, 2);
    assert_string_equal(report.remark, "");
    for (int j = 0; j < N; j++) assert_int_equal(k.y[j], j % NULL_CLASS); /* all classes in turn, the null class left out */
    by_hand(m, 2, 0, noise, k.y, want);
    compare(k.x, want);
    for (int i = 0; i < N * D; i++) assert_true(k.trace[i] == noise[i] && k.trace[2 * N * D + i] == k.x[i]);

    s.trace = false;
    s.steps = 4;
    s.has_guidance = true;
    s.guidance = 0.5;
    s.choice = RT_CLASS_ONE;
    s.label = 1;
    if (rt_model_sample(m, &s, keep, &k, &report, &err) != RT_OK) fail_msg("%s", err.text);
    assert_int_equal(report.calls, 8);
    assert_non_null(strstr(report.remark, "recipe is overridden"));
    for (int j = 0; j < N; j++) assert_int_equal(k.y[j], 1);
    by_hand(m, 4, 0.5, noise, k.y, want);
    compare(k.x, want);
    rt_model_free(m);
}

static void samples_are_identified_by_their_number(void **state)
{
    (void)state;
    rt_error err = {0};
    rt_model *m = opened(&(rt_model_spec){.path = in("pipeline")});
    kept all = {0}, part = {0};
    rt_sample_report report;
    assert_int_equal(rt_model_sample(m, &(rt_sampling){.n = N, .seed = 7}, keep, &all, &report, &err), RT_OK);
    assert_int_equal(rt_model_sample(m, &(rt_sampling){.n = 2, .first = 3, .seed = 7}, keep, &part, &report, &err), RT_OK);
    assert_memory_equal(all.x + 3 * D, part.x + 3 * D, 2 * D * sizeof(float));
    assert_int_equal(all.y[4], part.y[4]);
    rt_model_free(m);
}

/* What a step adds: from the file, or drawn anew for each sample and step, whatever the batches. */
static void draws_belong_to_sample_and_step(void **state)
{
    (void)state;
    rt_error err = {0};
    rt_model *m = opened(&(rt_model_spec){.path = in("pipeline")});
    float draws[4 * N * D];
    for (int i = 0; i < 4 * N * D; i++) draws[i] = noise[(i * 7 + i / N) % (N * D)];
    kept k = {0}, again = {0};
    double want[N][D];
    rt_sample_report report;
    rt_sampling s = {
        .n = N, .noise = noise, .batch = 2, .steps = 4, .solver = "ddim", .options = {.eta = 0.8}, .draws = draws, .n_draws = 4};
    s.grid = "uniform";
    if (rt_model_sample(m, &s, keep, &k, &report, &err) != RT_OK) fail_msg("%s", err.text);
    by_hand_with(m, 4, 0, 0.8, draws, noise, k.y, want);
    compare(k.x, want);
    s.n_draws = 3;
    assert_int_equal(rt_model_sample(m, &s, keep, &k, &report, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "--draws: holds the noise of 3 steps; 4 are taken"));

    s.draws = NULL;
    assert_int_equal(rt_model_sample(m, &s, keep, &k, &report, &err), RT_OK);
    s.batch = N;
    assert_int_equal(rt_model_sample(m, &s, keep, &again, &report, &err), RT_OK);
    assert_memory_equal(k.x, again.x, sizeof k.x);
    s.seed = 1;
    assert_int_equal(rt_model_sample(m, &s, keep, &again, &report, &err), RT_OK);
    assert_memory_not_equal(k.x, again.x, sizeof k.x);
    rt_model_free(m);
}

static void a_null_class_in_the_middle_is_left_out(void **state)
{
    (void)state;
    rt_error err = {0};
    rt_model *m = opened(&(rt_model_spec){.path = in("pipeline"), .has_null_class = true, .null_class = 1});
    kept k = {0};
    rt_sample_report report;
    const int64_t want[N] = {0, 2, 3, 0, 2};
    assert_int_equal(rt_model_sample(m, &(rt_sampling){.n = N}, keep, &k, &report, &err), RT_OK);
    assert_memory_equal(k.y, want, sizeof want);
    rt_model_free(m);
}

static void what_cannot_be_sampled(void **state)
{
    (void)state;
    rt_error err = {0};
    rt_sample_report report;
    rt_model *m = opened(&(rt_model_spec){.path = in("bare")});
    assert_int_equal(rt_model_plan(m, &(rt_sampling){.n = 1}, &report, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "--scheduler"));
    rt_model_free(m);
    m = opened(&(rt_model_spec){.path = in("pipeline")});
    const rt_sampling wrong[] = {{.n = 1, .choice = RT_CLASS_ONE, .label = 4},
                                 {.n = 1, .steps = 65},
                                 {.n = 1, .solver = "dimd"},
                                 {.n = 1, .grid = "none"},
                                 {.n = 1, .times = (double[]){64, 64}, .n_times = 2},
                                 {.n = 1, .times = (double[]){65, 3}, .n_times = 2}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err = (rt_error){0};
        if (rt_model_plan(m, &wrong[i], &report, &err) == RT_OK) fail_msg("case %zu was accepted", i);
        assert_true(strlen(err.text) > 10);
    }
    rt_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_part_that_is_found_counts),    cmocka_unit_test(what_a_model_says_of_itself),
        cmocka_unit_test(a_student_is_sampled_by_its_recipe),     cmocka_unit_test(samples_are_identified_by_their_number),
        cmocka_unit_test(a_null_class_in_the_middle_is_left_out), cmocka_unit_test(what_cannot_be_sampled),
        cmocka_unit_test(draws_belong_to_sample_and_step)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
