/* score_distillation.c -- whole runs of `vsd` and `sid` with oracles as teachers and an affine generator, from the settings that users give: they end at the
 * optimum that quadrature finds (golden/distribution/optima.json); what the student's folder says; what is refused. */
#include "retort/format.h"
#include "retort/model.h"
#include "retort/train.h"

#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static rt_error err;
static char folder[64];
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

#define DDPM                                                                                                                               \
    "\"scheduler\": {\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 1000, \"beta_schedule\": \"squaredcos_cap_v2\", "        \
    "\"prediction_type\": \"sample\", \"timestep_spacing\": \"trailing\", \"clip_sample\": false}, \"prediction\": \"x0\"}"
#define FLOW                                                                                                                               \
    "\"scheduler\": {\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"num_train_timesteps\": 1000, \"shift\": 1.0}, "               \
    "\"prediction\": \"x0\"}"

static const struct {
    const char *name, *text;
} files[] = {
    {"gaussian1.json", "{\"kind\": \"gaussian\", \"means\": [[0.7]], \"covariances\": [[[0.1225]]], " DDPM},
    {"gaussian2.json", "{\"kind\": \"gaussian\", \"means\": [[0.5, -0.3]], \"covariances\": [[[0.5, 0.18], [0.18, 0.12]]], " FLOW},
    {"modes.json",
     "{\"kind\": \"mixture\", \"weights\": [0.6, 0.4], \"means\": [[-0.9], [0.8]], \"covariances\": [[[0.04]], [[0.0625]]], " DDPM},
    {"affine1.json", "{\"_class_name\": \"RetortAffine\", \"data_dim\": 1, \"times\": [0]}"},
    {"affine2.json", "{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": [0]}"},
    {"mlp1.json", "{\"_class_name\": \"RetortMLP\", \"data_dim\": 1, \"hidden\": 64, \"layers\": 2}"},
    {"mlp2.json", "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 64, \"layers\": 2}"},
};

static void set_file(rt_config *c, const char *key, const char *prefix, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s%s/%s", prefix, folder, name);
    OK(rt_config_set(c, key, path, &err));
}

static rt_config run_of(const char *method, const char *teacher, int d, const char *name, const char *const *keys)
{
    rt_config c;
    OK(rt_config_method(&c, method, &err));
    set_file(&c, "teacher", "oracle:", teacher);
    set_file(&c, "net", "", d == 1 ? "affine1.json" : "affine2.json");
    set_file(&c, "vsd.fake-net", "", d == 1 ? "mlp1.json" : "mlp2.json");
    set_file(&c, "out", "", name);
    OK(rt_config_set(&c, "threads", "1", &err));
    OK(rt_config_set(&c, "run.checkpoint-every", "0", &err));
    for (; *keys; keys += 2) OK(rt_config_set(&c, keys[0], keys[1], &err));
    return c;
}

/* The generator x0 = A z + b of the student's folder, at its input scale. */
static void read_map(const char *name, int d, double *A, double *b)
{
    char path[160];
    rt_model *m = NULL;
    rt_tensors *t;
    snprintf(path, sizeof path, "%s/%s/student", folder, name);
    OK(rt_model_open(&m, &(rt_model_spec){.path = path, .threads = 1}, &err));
    double scale = rt_model_get_info(m)->recipe.input_scale;
    rt_model_free(m);
    snprintf(path, sizeof path, "%s/%s/student/unet/diffusion_pytorch_model.safetensors", folder, name);
    OK(rt_tensors_open(&t, path, &err));
    rt_tensor weight, bias;
    OK(rt_tensors_read(t, rt_tensors_find(t, "weight"), &weight, &err));
    OK(rt_tensors_read(t, rt_tensors_find(t, "bias"), &bias, &err));
    for (int i = 0; i < d * d; i++) A[i] = (scale > 0 ? scale : 1) * (double)((float *)weight.data)[i];
    for (int i = 0; i < d; i++) b[i] = (double)((float *)bias.data)[i];
    for (int i = 0; d == 2 && i < d * d; i++) A[i] = (i % 3 == 0) - A[i]; /* on straight paths the output is z - x0 */
    for (int i = 0; d == 2 && i < d; i++) b[i] = -b[i];
    rt_tensor_free(&weight);
    rt_tensor_free(&bias);
    rt_tensors_close(t);
}

/* One run in one dimension: (|a|, b). */
static void ends_at(const char *method, const char *teacher, const char *name, const char *const *keys, double a, double b, double limit)
{
    double A, B;
    rt_config c = run_of(method, teacher, 1, name, keys);
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    read_map(name, 1, &A, &B);
    print_message("%-10s %-14s deviation %.4f, %.4f; mean %.4f, %.4f\n", method, teacher, fabs(A), a, B, b);
    if (!(fabs(fabs(A) - a) <= limit) || !(fabs(B - b) <= limit)) fail_msg("%s on %s: (%g, %g), not (%g, %g)", method, teacher, A, B, a, b);
}

#define SHORT "train.updates", "1500", "train.lr", "0.003", "vsd.score-lr", "0.003"

static void gaussians(void **state)
{
    (void)state;
    ends_at("vsd", "gaussian1.json", "g1", (const char *const[]){SHORT, NULL}, 0.35, 0.7, TOL_VSD_OPTIMUM * 0.35);
    double A[4], b[2], covariance[] = {0.5, 0.18, 0.18, 0.12}, mean[] = {0.5, -0.3};
    rt_config c = run_of("vsd", "gaussian2.json", 2, "g2", (const char *const[]){SHORT, NULL});
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    read_map("g2", 2, A, b);
    for (int i = 0; i < 2; i++) {
        double deviation = sqrt(covariance[3 * i]), got = hypot(A[2 * i], A[2 * i + 1]);
        print_message("vsd        gaussian2.json deviation %.4f, %.4f; mean %.4f, %.4f\n", got, deviation, b[i], mean[i]);
        assert_true(fabs(got - deviation) <= TOL_VSD_OPTIMUM * deviation && fabs(b[i] - mean[i]) <= TOL_VSD_OPTIMUM * deviation);
    }
    double product = (A[0] * A[2] + A[1] * A[3]);
    assert_true(fabs(product - covariance[1]) <= 2 * TOL_VSD_OPTIMUM * sqrt(0.5 * 0.12));
}

static void mixtures(void **state)
{
    (void)state;
    ends_at("vsd", "modes.json", "modes", (const char *const[]){SHORT, NULL}, 0.8116, -0.2123, TOL_SCORE_OPTIMUM);
    ends_at("sid", "modes.json", "sid", (const char *const[]){SHORT, "sid.alpha", "0.5", "vsd.score-updates", "5", NULL}, 0.8035, -0.2076,
            TOL_SCORE_OPTIMUM);
}

/* The generator is asked where beta/alpha is 2.5, of beta z: sampling does the same. */
static rt_status keep_moments(void *self, const rt_samples *s, rt_error *unused)
{
    double *sums = self;
    (void)unused;
    for (int64_t i = 0; i < s->count; i++) sums[0] += (double)s->x[i], sums[1] += (double)s->x[i] * (double)s->x[i];
    return RT_OK;
}

static void sampled_as_trained(void **state)
{
    (void)state;
    enum { N = 20000 };
    char path[160];
    double A, b, sums[2] = {0};
    rt_model *m = NULL;
    rt_sample_report report;
    read_map("sid", 1, &A, &b);
    snprintf(path, sizeof path, "%s/sid/student", folder);
    OK(rt_model_open(&m, &(rt_model_spec){.path = path, .threads = 1}, &err));
    const rt_student_recipe *r = &rt_model_get_info(m)->recipe;
    assert_int_equal(r->steps, 1);
    assert_false(r->exact_in_diffusers);
    assert_true(fabs(r->input_scale - 2.5 / hypot(1, 2.5)) < 1e-3); /* the nearest of 1000 times */
    OK(rt_model_sample(m, &(rt_sampling){.n = N, .seed = 3}, keep_moments, sums, &report, &err));
    rt_model_free(m);
    double mean = sums[0] / N, deviation = sqrt(sums[1] / N - mean * mean);
    assert_true(fabs(mean - b) < 5 * fabs(A) / sqrt(N) && fabs(deviation - fabs(A)) < 5 * fabs(A) / sqrt(2.0 * N));
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *says;
    } refused[] = {
        {"vsd.fake-net", "", "give vsd.fake-net"},
        {"vsd.normalise", "dmdd", "give dmd or none"},
        {"vsd.fake-prediction", "w", "not in the table of predictions"},
        {"vsd.guidance", "1", "guidance needs a null class"},
        {"vsd.t-min", "0.99", "must be less than vsd.t-max"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        rt_config c = run_of("vsd", "gaussian1.json", 1, "refused", (const char *const[]){refused[i].key, refused[i].value, NULL});
        err = (rt_error){0};
        assert_int_not_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_OK);
        if (!strstr(err.text, refused[i].says)) fail_msg("'%s' does not say '%s'", err.text, refused[i].says);
        assert_int_equal(access(c.out, F_OK), -1);
    }
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/retort-scores-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        FILE *f = fopen(path, "w");
        if (!f || fputs(files[i].text, f) < 0 || fclose(f) != 0) return -1;
    }
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(refusals), cmocka_unit_test(gaussians), cmocka_unit_test(mixtures),
                                       cmocka_unit_test(sampled_as_trained)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
