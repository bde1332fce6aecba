/* run_test.c -- runs: a stopped and resumed run ends in the same bits; damaged checkpoints are passed over; a run directory serves one process; a student
 * that starts as its teacher on a finer grid comes nearer to it. */
#include "retort/format.h"
#include "retort/model.h"
#include "retort/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char base[64];
static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

static void set(rt_config *c, const char *key, const char *value) { OK(rt_config_set(c, key, value, &err)); }

static rt_config config_of(const char *method, const char *name)
{
    rt_config c;
    char out[128];
    OK(rt_config_method(&c, method, &err));
    snprintf(out, sizeof out, "%s/%s", base, name);
    set(&c, "out", out);
    set(&c, "threads", "1");
    set(&c, "train.batch", "32");
    set(&c, "run.checkpoint-every", "7");
    return c;
}

static rt_config toy(const char *name)
{
    rt_config c = config_of("denoise", name);
    set(&c, "data.path", "toy:moons");
    set(&c, "net", "examples/mlp.json");
    set(&c, "diffusion.timesteps", "64");
    set(&c, "train.updates", "40");
    return c;
}

/* Bytes of a file, to compare. */
static size_t slurp(const char *run, const char *file, char **data)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/%s", base, run, file);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s is missing", path);
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    *data = malloc(n + 1);
    assert_int_equal(fread(*data, 1, n, f), n);
    fclose(f);
    return n;
}

static void same_file(const char *a, const char *b, const char *file)
{
    char *x, *y;
    size_t n = slurp(a, file, &x), m = slurp(b, file, &y);
    if (n != m || memcmp(x, y, n) != 0) fail_msg("%s differs between %s and %s", file, a, b);
    free(x);
    free(y);
}

static void same_tensors(const char *a, const char *b, const char *file)
{
    char path[2][256];
    rt_tensors *t[2];
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s/%s", base, i ? b : a, file);
        OK(rt_tensors_open(&t[i], path[i], &err));
    }
    assert_int_equal(rt_tensors_count(t[0]), rt_tensors_count(t[1]));
    for (int i = 0; i < rt_tensors_count(t[0]); i++) {
        if (!strcmp(rt_tensors_info(t[0], i)->name, "position")) continue; /* holds seconds */
        rt_tensor x, y;
        OK(rt_tensors_read(t[0], i, &x, &err));
        OK(rt_tensors_read(t[1], i, &y, &err));
        assert_memory_equal(x.data, y.data, (size_t)rt_tensor_count(&x) * rt_dtype_size(x.dtype));
        rt_tensor_free(&x);
        rt_tensor_free(&y);
    }
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);
}

static void resumed_is_the_same(void **state)
{
    (void)state;
    rt_config whole = toy("whole"), parts = toy("parts");
    rt_run_summary s;
    OK(rt_run_train(&whole, false, NULL, &s, &err));
    assert_int_equal(s.updates, 40);
    static const char *const stops[] = {"5", "14", "33"};
    for (int i = 0; i < 3; i++) {
        set(&parts, "run.until-update", stops[i]);
        OK(rt_run_train(&parts, i > 0, NULL, &s, &err));
        assert_int_equal(s.updates, atoi(stops[i]));
    }
    set(&parts, "run.until-update", "0");
    OK(rt_run_train(&parts, true, NULL, &s, &err));
    same_tensors("whole", "parts", "checkpoints/update-40/state.safetensors");
    same_file("whole", "parts", "model/unet/diffusion_pytorch_model.safetensors");
    same_file("whole", "parts", "model/unet/diffusion_pytorch_model.raw.safetensors");
    same_file("whole", "parts", "model/scheduler/scheduler_config.json");
}

static void damaged_checkpoint_is_passed_over(void **state)
{
    (void)state;
    rt_config c = toy("damaged");
    rt_run_summary s;
    set(&c, "run.until-update", "20");
    OK(rt_run_train(&c, false, NULL, &s, &err));
    char path[256];
    snprintf(path, sizeof path, "%s/damaged/checkpoints/update-20/state.safetensors", base);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, -9, SEEK_END);
    fputc('x', f);
    fclose(f);
    set(&c, "run.until-update", "0");
    OK(rt_run_train(&c, true, NULL, &s, &err)); /* goes on from update 14 */
    same_file("whole", "damaged", "model/unet/diffusion_pytorch_model.safetensors");
}

static bool stop_now(void *self)
{
    (void)self;
    return true;
}

/* While a run goes on, a second one on the directory is refused; a stop leaves a checkpoint. */
typedef struct rival {
    rt_config config;
    rt_status status;
} rival;
static void try_rival(void *self, const char *what, int64_t done, int64_t total, const char *unit, double loss)
{
    (void)what, (void)done, (void)total, (void)unit, (void)loss;
    rival *r = self;
    r->status = rt_run_train(&r->config, true, NULL, NULL, NULL);
}

static void one_process_and_a_stop(void **state)
{
    (void)state;
    rt_config c = toy("busy");
    rival r = {.config = c};
    rt_observer o = {.self = &r, .progress = try_rival, .stop = stop_now};
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, &o, NULL, &err), RT_E_INTERRUPTED);
    assert_int_equal(r.status, RT_E_BUSY);
    char *text;
    assert_true(slurp("busy", "checkpoints/update-1/manifest.json", &text) > 0);
    free(text);
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_IO); /* the directory holds a run */
}

static void divergence_saves_nothing(void **state)
{
    (void)state;
    rt_config c = toy("diverged");
    set(&c, "train.lr", "1000");
    set(&c, "train.optimiser", "sgd");
    set(&c, "train.clip", "0");
    set(&c, "train.ema", "0");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_DIVERGED);
    char path[256];
    snprintf(path, sizeof path, "%s/diverged/model", base);
    assert_int_not_equal(access(path, F_OK), 0);
}

/* Rounds by rollouts and with data, both ways to draw k; the student learns: its residual falls with more updates. A stop in the second round and a
 * resumption end in the same student. */
static void progressive_distillation(void **state)
{
    (void)state;
    char teacher[128];
    snprintf(teacher, sizeof teacher, "%s/whole", base);
    double residual[2];
    static const char *const updates[] = {"1", "80"};
    for (int i = 0; i < 2; i++) {
        rt_config c = config_of("pd", i ? "pd-long" : "pd-short");
        rt_run_summary s;
        set(&c, "teacher", teacher);
        set(&c, "pd.steps", "4,2,1");
        set(&c, "train.updates", updates[i]);
        set(&c, "train.lr", "0.001");
        OK(rt_run_train(&c, false, NULL, &s, &err));
        assert_int_equal(s.n_rounds, 3);
        assert_int_equal(s.rounds[2].steps, 1);
        assert_int_equal(s.rounds[2].teacher_steps, 2);
        residual[i] = s.rounds[0].residual;
        assert_true(isfinite(s.rounds[2].drift));
    }
    if (!(residual[1] < 0.7 * residual[0])) fail_msg("residual %g after 80 updates, %g after 1", residual[1], residual[0]);

    rt_config c = config_of("pd", "pd-parts");
    set(&c, "teacher", teacher);
    set(&c, "pd.steps", "4,2,1");
    set(&c, "train.updates", "80");
    set(&c, "train.lr", "0.001");
    set(&c, "run.until-update", "110");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    set(&c, "run.until-update", "0");
    OK(rt_run_train(&c, true, NULL, NULL, &err));
    static const char *const students[] = {"student-4", "student-2", "student-1"};
    for (int i = 0; i < 3; i++) {
        char file[128];
        snprintf(file, sizeof file, "%s/unet/diffusion_pytorch_model.safetensors", students[i]);
        same_file("pd-long", "pd-parts", file);
    }
    same_tensors("pd-long", "pd-parts", "checkpoints/update-240/state.safetensors");

    rt_config data = config_of("pd", "pd-data");
    set(&data, "teacher", teacher);
    set(&data, "data.path", "toy:moons");
    set(&data, "pd.starts", "all");
    set(&data, "pd.steps", "2");
    set(&data, "pd.teacher-steps", "8"); /* four teacher steps in one */
    set(&data, "train.weight", "map");
    set(&data, "train.updates", "20");
    rt_run_summary s;
    OK(rt_run_train(&data, false, NULL, &s, &err));
    assert_int_equal(s.n_rounds, 1);
}

/* Teachers by another solver, and exact ones: whole and resumed runs end in the same bits, from noise and from data. */
static void teachers_of_other_kinds(void **state)
{
    (void)state;
    char exact[160], path[128];
    snprintf(path, sizeof path, "%s/exact.json", base);
    snprintf(exact, sizeof exact, "oracle:%s", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(
        "{\"kind\": \"gaussian\", \"means\": [[0.5, -0.25]], \"covariances\": [[[0.5, 0.2], [0.2, 0.3]]], \"prediction\": \"x0\", "
        "\"scheduler\": "
        "{\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 64, \"beta_schedule\": \"squaredcos_cap_v2\", \"prediction_type\": "
        "\"sample\"}}",
        f);
    fclose(f);
    for (int i = 0; i < 4; i++) { /* a network or an oracle, without or with data */
        bool oracle = i & 1, data = i & 2;
        for (int parts = 0; parts < 2; parts++) {
            char teacher[160], name[32];
            snprintf(name, sizeof name, "other-%d-%d", i, parts);
            snprintf(teacher, sizeof teacher, "%s/whole", base);
            rt_config c = config_of("pd", name);
            set(&c, "teacher", oracle ? exact : teacher);
            if (oracle) set(&c, "net", "tests/data/vectors.json");
            if (data) set(&c, "data.path", "toy:moons");
            set(&c, "pd.teacher-solver", oracle ? "heun" : "dpmpp-2m");
            set(&c, "pd.steps", "4,2");
            set(&c, "pd.pool", "100");
            set(&c, "run.checkpoint-every", "0");
            set(&c, "train.updates", "30");
            if (parts) set(&c, "run.until-update", "17");
            OK(rt_run_train(&c, false, NULL, NULL, &err));
            set(&c, "run.until-update", parts ? "44" : "0");
            if (parts) OK(rt_run_train(&c, true, NULL, NULL, &err));
            set(&c, "run.until-update", "0");
            if (parts) OK(rt_run_train(&c, true, NULL, NULL, &err));
        }
        char whole[32], stopped[32];
        snprintf(whole, sizeof whole, "other-%d-0", i);
        snprintf(stopped, sizeof stopped, "other-%d-1", i);
        same_tensors(whole, stopped, "checkpoints/update-60/state.safetensors");
        same_file(whole, stopped, "student-4/unet/diffusion_pytorch_model.safetensors");
    }
    rt_config c = config_of("pd", "refused");
    set(&c, "teacher", exact);
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "--net"));
    set(&c, "net", "examples/fashion-mnist-small.json");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "of 784 numbers"));
    set(&c, "net", "tests/data/vectors.json");
    set(&c, "null-class", "3");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "--null-class 3: the model has 0 classes"));
    set(&c, "null-class", "-1");
    set(&c, "teacher", "oracle:examples/gaussian.json");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "'scheduler' in place of 'process'"));
}

/* A student with all its teacher's parameters and more starts as its teacher: at a learning rate of 0 it stays that. A network of one time cannot learn
 * maps to several times; stopped and resumed runs of `map` end in the same bits. */
static void maps_between_times(void **state)
{
    (void)state;
    char teacher[128], two[128], path[256];
    snprintf(teacher, sizeof teacher, "%s/whole", base);
    snprintf(two, sizeof two, "%s/two.json", base);
    FILE *f = fopen(two, "w");
    assert_non_null(f);
    fputs("{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 64, \"layers\": 3, \"_target_time\": true}", f);
    fclose(f);
    static const char *const names[] = {"map-still", "map-whole", "map-parts"};
    for (int i = 0; i < 3; i++) {
        rt_config c = config_of("map", names[i]);
        set(&c, "teacher", teacher);
        set(&c, "net", two);
        set(&c, "map.pool", "500");
        set(&c, "train.updates", "40");
        set(&c, "train.ema", "0");
        set(&c, "run.checkpoint-every", "0");
        if (i == 0) set(&c, "train.lr", "0");
        if (i == 2) set(&c, "run.until-update", "23");
        OK(rt_run_train(&c, false, NULL, NULL, &err));
        set(&c, "run.until-update", "0");
        if (i == 2) OK(rt_run_train(&c, true, NULL, NULL, &err));
    }
    same_tensors("map-whole", "map-parts", "checkpoints/update-40/state.safetensors");
    rt_tensors *t[2];
    snprintf(path, sizeof path, "%s/whole/model/unet/diffusion_pytorch_model.safetensors", base);
    OK(rt_tensors_open(&t[0], path, &err));
    snprintf(path, sizeof path, "%s/map-still/student/unet/diffusion_pytorch_model.safetensors", base);
    OK(rt_tensors_open(&t[1], path, &err));
    assert_int_equal(rt_tensors_count(t[1]), rt_tensors_count(t[0]) + 2);
    for (int i = 0; i < rt_tensors_count(t[0]); i++) {
        rt_tensor x, y;
        OK(rt_tensors_read(t[0], i, &x, &err));
        OK(rt_tensors_read(t[1], rt_tensors_find(t[1], rt_tensors_info(t[0], i)->name), &y, &err));
        assert_memory_equal(x.data, y.data, (size_t)rt_tensor_count(&x) * rt_dtype_size(x.dtype));
        rt_tensor_free(&x);
        rt_tensor_free(&y);
    }
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);

    rt_config c = config_of("map", "refused");
    set(&c, "teacher", teacher);
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "_target_time"));
    set(&c, "map.pairs", "studnet");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "map.pairs: 'studnet'"));
    set(&c, "map.pairs", "student"); /* one t for each s: the teacher's own kind of network will do */
    set(&c, "map.steps", "5");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "5 does not divide 32"));

    rt_model *m;
    snprintf(path, sizeof path, "%s/map-whole/student", base);
    OK(rt_model_open(&m, &(rt_model_spec){.path = path, .threads = 1}, &err));
    err = (rt_error){0};
    float x[2] = {0}, out[2];
    double time = 3;
    assert_int_equal(rt_model_predict(m, NULL, 1, x, &time, NULL, out, &err), RT_E_USAGE);
    rt_sample_report report;
    err = (rt_error){0};
    assert_int_equal(rt_model_sample(m, &(rt_sampling){.n = 2, .steps = 4, .solver = "heun"}, NULL, NULL, &report, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "sample with ddim"));
    rt_model_free(m);
}

static rt_status keep_samples(void *user, const rt_samples *s, rt_error *error)
{
    (void)error;
    memcpy((float *)user + s->first * 2, s->x, (size_t)(s->count * 2) * sizeof *s->x);
    return RT_OK;
}

/* A student that sees its teacher's draws: at a learning rate of 0 it stays its teacher, whose first layer is widened by zeros; stopped and resumed runs end
 * in the same bits; what cannot be is refused before anything is written. */
static void draws_as_input(void **state)
{
    (void)state;
    char teacher[128], path[256];
    snprintf(teacher, sizeof teacher, "%s/whole", base);
    static const char *const methods[] = {"kd", "pd"};
    for (int k = 0; k < 2; k++) {
        char name[3][32], key[32];
        for (int i = 0; i < 3; i++) {
            snprintf(name[i], sizeof name[i], "%s-draws-%d", methods[k], i);
            rt_config c = config_of(methods[k], name[i]);
            set(&c, "teacher", teacher);
            set(&c, k ? "pd.pool" : "kd.pairs", "100");
            set(&c, k ? "pd.teacher-steps" : "kd.steps", k ? "8" : "4");
            if (k) set(&c, "pd.steps", "2");
            if (k) set(&c, "data.path", "toy:moons");
            snprintf(key, sizeof key, "%s.teacher-solver", methods[k]);
            set(&c, key, "ddpm");
            snprintf(key, sizeof key, "%s.draws", methods[k]);
            set(&c, key, "input");
            set(&c, "train.updates", "40");
            set(&c, "train.ema", "0");
            set(&c, "run.checkpoint-every", "0");
            if (i == 0) set(&c, "train.lr", "0");
            if (i == 2) set(&c, "run.until-update", "23");
            OK(rt_run_train(&c, false, NULL, NULL, &err));
            set(&c, "run.until-update", "0");
            if (i == 2) OK(rt_run_train(&c, true, NULL, NULL, &err));
        }
        same_tensors(name[1], name[2], "checkpoints/update-40/state.safetensors");
        same_file(name[1], name[2], "student/unet/diffusion_pytorch_model.safetensors");
        rt_tensors *t[2];
        rt_tensor x, y;
        snprintf(path, sizeof path, "%s/whole/model/unet/diffusion_pytorch_model.safetensors", base);
        OK(rt_tensors_open(&t[0], path, &err));
        snprintf(path, sizeof path, "%s/%s/student/unet/diffusion_pytorch_model.safetensors", base, name[0]);
        OK(rt_tensors_open(&t[1], path, &err));
        assert_int_equal(rt_tensors_count(t[1]), rt_tensors_count(t[0]) + 2);
        for (int i = 0; i < rt_tensors_count(t[0]); i++) {
            OK(rt_tensors_read(t[0], i, &x, &err));
            OK(rt_tensors_read(t[1], rt_tensors_find(t[1], rt_tensors_info(t[0], i)->name), &y, &err));
            assert_memory_equal(x.data, y.data, (size_t)rt_tensor_count(&x) * rt_dtype_size(x.dtype));
            rt_tensor_free(&x);
            rt_tensor_free(&y);
        }
        OK(rt_tensors_read(t[1], rt_tensors_find(t[1], "draws_in.weight"), &y, &err));
        assert_int_equal(y.shape[1], 4 * 2);
        for (int64_t i = 0; i < rt_tensor_count(&y); i++) assert_true(((float *)y.data)[i] == 0);
        rt_tensor_free(&y);
        rt_tensors_close(t[0]);
        rt_tensors_close(t[1]);
    }
    /* Guidance asks each sample twice, with the same draws: between the null class and itself it changes nothing. */
    snprintf(path, sizeof path, "%s/classes.json", base);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"num_class_embeds\": 3}", f);
    fclose(f);
    rt_config c = toy("classes");
    set(&c, "net", path);
    set(&c, "train.updates", "10");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    c = config_of("kd", "classes-draws");
    snprintf(path, sizeof path, "%s/classes", base);
    set(&c, "teacher", path);
    set(&c, "kd.pairs", "100");
    set(&c, "kd.steps", "4");
    set(&c, "kd.teacher-solver", "ddpm");
    set(&c, "kd.draws", "input");
    set(&c, "train.updates", "40");
    set(&c, "train.lr", "0.01");
    set(&c, "train.ema", "0");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    rt_model *m;
    float x[3][16];
    rt_sample_report report;
    OK(rt_model_open(&m, &(rt_model_spec){.path = c.out, .threads = 1}, &err));
    for (int i = 0; i < 3; i++) {
        rt_sampling sampling = {.n = 8, .batch = 3, .seed = 5, .choice = RT_CLASS_NULL, .guidance = i ? 2 : 0, .has_guidance = true};
        if (i == 2) sampling.choice = RT_CLASS_ALL;
        OK(rt_model_sample(m, &sampling, keep_samples, x[i], &report, &err));
    }
    double apart[2] = {0};
    for (int i = 1; i < 3; i++)
        for (int j = 0; j < 16; j++) apart[i - 1] = fmax(apart[i - 1], fabs((double)(x[i][j] - x[0][j])));
    if (!(apart[0] < 1e-5 && apart[1] > 1e-3)) fail_msg("guided towards itself %g, towards classes %g", apart[0], apart[1]);
    rt_model_free(m);
    static const struct {
        const char *method, *key[3], *value[3], *says;
    } refused[] = {
        {"kd", {"kd.draws", "kd.steps"}, {"input", "4"}, "the teacher's solver ddim adds no noise"},
        {"kd", {"kd.draws", "kd.steps"}, {"inptu", "4"}, "kd.draws: 'inptu'; give hidden"},
        {"pd", {"pd.draws", "pd.teacher-solver", "pd.steps"}, {"input", "ddpm", "4,2"}, "give pd.steps one number"},
        {"pd", {"pd.teacher-solver", "pd.steps", "net"}, {"ddpm", "4", "draws.json"}, "'_draws' is 2, but nothing is drawn for it"},
        {"kd", {"teacher", "kd.steps"}, {"kd-draws-1", "4"}, "is no teacher"},
    };
    snprintf(path, sizeof path, "%s/draws.json", base);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"_draws\": 2}", f);
    fclose(f);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        c = config_of(refused[i].method, "refused-draws");
        set(&c, "teacher", teacher);
        for (int j = 0; j < 3 && refused[i].key[j]; j++) {
            snprintf(path, sizeof path, "%s/%s", base, refused[i].value[j]);
            bool file = !strcmp(refused[i].key[j], "net") || !strcmp(refused[i].key[j], "teacher");
            set(&c, refused[i].key[j], file ? path : refused[i].value[j]);
        }
        err = (rt_error){0};
        assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
        if (!strstr(err.text, refused[i].says)) fail_msg("'%s' does not say '%s'", err.text, refused[i].says);
        assert_int_equal(access(c.out, F_OK), -1);
    }
    c = config_of("pd", "refused-draws");
    set(&c, "teacher", teacher);
    set(&c, "pd.steps", "4");
    set(&c, "pd.teacher-solver", "ddpm");
    set(&c, "pd.draws", "input");
    set(&c, "pd.prediction", "x0");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "which predicts v, not x0; give pd.prediction v"));
}

/* The recipe of a student is followed: its model knows its steps and times. */
static void students_carry_their_recipe(void **state)
{
    (void)state;
    char path[128];
    rt_model *m;
    snprintf(path, sizeof path, "%s/pd-long/student-4", base);
    OK(rt_model_open(&m, &(rt_model_spec){.path = path, .threads = 1}, &err));
    const rt_model_info *info = rt_model_get_info(m);
    assert_int_equal(info->recipe.steps, 4);
    static const double network_time[] = {63, 47, 31, 15}; /* T = 64 */
    for (int i = 0; i < 4; i++) assert_true(info->recipe.timesteps[i] == network_time[i]);
    assert_string_equal(info->recipe.method, "pd");
    rt_model_free(m);
}

static void knowledge_distillation(void **state)
{
    (void)state;
    char teacher[128];
    snprintf(teacher, sizeof teacher, "%s/whole", base);
    rt_config c = config_of("kd", "kd");
    rt_run_summary s[2];
    set(&c, "teacher", teacher);
    set(&c, "kd.pairs", "256");
    set(&c, "kd.steps", "8");
    set(&c, "train.updates", "5");
    OK(rt_run_train(&c, false, NULL, &s[0], &err));
    rt_config longer = config_of("kd", "kd-longer");
    set(&longer, "teacher", teacher);
    set(&longer, "kd.pairs", "256");
    set(&longer, "kd.steps", "8");
    set(&longer, "train.lr", "0.002");
    set(&longer, "train.updates", "300");
    OK(rt_run_train(&longer, false, NULL, &s[1], &err));
    if (!(s[1].rounds[0].drift < 0.8 * s[0].rounds[0].drift))
        fail_msg("drift %g after 300 updates, %g after 5", s[1].rounds[0].drift, s[0].rounds[0].drift);
}

static void refusals(void **state)
{
    (void)state;
    char teacher[128];
    snprintf(teacher, sizeof teacher, "%s/whole", base);
    rt_config c = config_of("pd", "refused");
    set(&c, "teacher", teacher);
    set(&c, "pd.steps", "4,3");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "3 does not divide 4"));
    char path[128];
    snprintf(path, sizeof path, "%s/refused", base);
    assert_int_not_equal(access(path, F_OK), 0); /* nothing was written */
    rt_config none = config_of("denoise", "refused");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&none, false, NULL, NULL, &err), RT_E_USAGE);
    rt_config row = toy("refused");
    set(&row, "train.time-density", "log-nromal");
    err = (rt_error){0};
    assert_int_equal(rt_run_train(&row, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "did you mean 'log-normal'"));
    assert_int_not_equal(access(path, F_OK), 0);
    err = (rt_error){0};
    assert_int_equal(rt_config_method(&none, "pdd", &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "'pd'"));
}

static int make_base(void **state)
{
    (void)state;
    strcpy(base, "/tmp/retort-run-XXXXXX");
    return mkdtemp(base) ? 0 : -1;
}

static int remove_base(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumed_is_the_same),
        cmocka_unit_test(damaged_checkpoint_is_passed_over),
        cmocka_unit_test(one_process_and_a_stop),
        cmocka_unit_test(divergence_saves_nothing),
        cmocka_unit_test(progressive_distillation),
        cmocka_unit_test(students_carry_their_recipe),
        cmocka_unit_test(teachers_of_other_kinds),
        cmocka_unit_test(maps_between_times),
        cmocka_unit_test(draws_as_input),
        cmocka_unit_test(knowledge_distillation),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
