/* device_runs.c -- whole runs on a device (emulated_device.h) end as on the reference, to the bit: rollouts, slices, rounds, several networks, one that trails,
 * meters; stopped and resumed; and the samples that a student gives. */
#include "emulated_device.h"
#include "retort/diffusion.h"
#include "retort/format.h"
#include "retort/model.h"
#include "retort/train.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { UPDATES = 6, STOP = 4, KEYS = 24, DRAWN = 3, FEATURES = 3 * 8 * 8 /* of the teacher in tests/data */ };

static char base[64];
static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

typedef struct device_run {
    const char *name, *method, *keys[KEYS];
    int updates; /* of all rounds */
    const char *student;
} device_run;

#define COMMON "threads", "1", "train.batch", "4", "run.samples", "4", "run.log-every", "2", "train.ema", "0.9"
static const device_run runs[] = {
    {"mlp",
     "denoise",
     {"net", "mlp.json", "data.path", "toy:moons", "train.micro-batch", "2", "train.updates", "6", COMMON},
     UPDATES,
     "model"},
    {"pd",
     "pd",
     {"teacher", "teacher", "pd.steps", "2,1", "pd.teacher-steps", "4", "pd.pool", "8", "pd.holdout", "2", "train.updates", "3,3",
      "train.micro-batch", "2", COMMON},
     UPDATES,
     "student-1"},
    {"vsd", "vsd", {"teacher", "teacher", "vsd.score-updates", "2", "train.updates", "6", COMMON}, UPDATES, "student"},
    {"cd",
     "cd",
     {"teacher", "teacher", "cd.points", "4", "cd.grid", "uniform", "cd.solver", "ddim", "cd.pool", "8", "train.updates", "6", COMMON},
     UPDATES,
     "student"},
};

static void configure(rt_config *c, const device_run *run, const char *backend, const char *out)
{
    char path[200];
    OK(rt_config_method(c, run->method, &err));
    for (int i = 0; i < KEYS && run->keys[i]; i += 2) {
        bool file = !strcmp(run->keys[i], "teacher") || !strcmp(run->keys[i], "net");
        snprintf(path, sizeof path, "%s/%s", base, run->keys[i + 1]);
        OK(rt_config_set(c, run->keys[i], file ? path : run->keys[i + 1], &err));
    }
    snprintf(path, sizeof path, "%s/%s-%s", base, run->name, out);
    OK(rt_config_set(c, "out", path, &err));
    OK(rt_config_set(c, "backend", backend, &err));
}

/* Every array of two files, but the position, which holds seconds. */
static int same_arrays(const char *a, const char *b)
{
    rt_tensors *t[2];
    int compared = 0;
    OK(rt_tensors_open(&t[0], a, &err));
    OK(rt_tensors_open(&t[1], b, &err));
    assert_int_equal(rt_tensors_count(t[0]), rt_tensors_count(t[1]));
    for (int i = 0; i < rt_tensors_count(t[0]); i++) {
        const char *name = rt_tensors_info(t[0], i)->name;
        rt_tensor x, y;
        if (!strcmp(name, "position")) continue;
        OK(rt_tensors_read(t[0], i, &x, &err));
        OK(rt_tensors_read(t[1], rt_tensors_find(t[1], name), &y, &err));
        if (memcmp(x.data, y.data, (size_t)rt_tensor_count(&x) * rt_dtype_size(x.dtype)) != 0)
            fail_msg("%s and %s: '%s' differs", a, b, name);
        rt_tensor_free(&x);
        rt_tensor_free(&y);
        compared++;
    }
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);
    return compared;
}

static void same_run(const device_run *run, const char *out)
{
    char a[260], b[260];
    snprintf(a, sizeof a, "%s/%s-host/checkpoints/update-%d/state.safetensors", base, run->name, run->updates);
    snprintf(b, sizeof b, "%s/%s-%s/checkpoints/update-%d/state.safetensors", base, run->name, out, run->updates);
    assert_true(same_arrays(a, b) >= 4); /* value, two moments, average */
    snprintf(a, sizeof a, "%s/%s-host/%s/unet/diffusion_pytorch_model.safetensors", base, run->name, run->student);
    snprintf(b, sizeof b, "%s/%s-%s/%s/unet/diffusion_pytorch_model.safetensors", base, run->name, out, run->student);
    assert_true(same_arrays(a, b) >= 4);
}

static bool stop(void *self) { return ++*(int *)self == STOP; }

static void runs_end_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < RT_COUNT(runs); i++) {
        rt_config c;
        int asked = 0;
        configure(&c, &runs[i], "reference", "host");
        OK(rt_run_train(&c, false, NULL, NULL, &err));
        configure(&c, &runs[i], "emulated", "whole");
        int replays = emulated.replays;
        OK(rt_run_train(&c, false, NULL, NULL, &err));
        assert_true(emulated.replays > replays);
        same_run(&runs[i], "whole");
        configure(&c, &runs[i], "emulated", "parts");
        err = (rt_error){0};
        assert_int_equal(rt_run_train(&c, false, &(rt_observer){.self = &asked, .stop = stop}, NULL, &err), RT_E_INTERRUPTED);
        OK(rt_run_train(&c, true, NULL, NULL, &err));
        same_run(&runs[i], "parts");
        assert_true(emulated.n_blocks == 0 && emulated.pinned == 0 && emulated.recordings == 0);
    }
}

static rt_status keep(void *user, const rt_samples *s, rt_error *e)
{
    (void)e;
    memcpy((float *)user + s->first * FEATURES, s->x, (size_t)(s->count * FEATURES) * sizeof(float));
    return RT_OK;
}

static void samples_are_the_same(void **state)
{
    (void)state;
    static float x[2][DRAWN * FEATURES];
    static const char *const backends[] = {"reference", "emulated"};
    char path[128];
    snprintf(path, sizeof path, "%s/pd-host/student-2", base);
    for (int i = 0; i < 2; i++) {
        rt_model *m;
        rt_sample_report report;
        OK(rt_model_open(&m, &(rt_model_spec){.path = path, .backend = backends[i], .threads = 1}, &err));
        assert_int_equal(rt_model_get_info(m)->features, FEATURES);
        OK(rt_model_sample(m, &(rt_sampling){.n = DRAWN, .batch = 2, .seed = 4}, keep, x[i], &report, &err));
        rt_model_free(m);
    }
    assert_memory_equal(x[0], x[1], sizeof x[0]);
    assert_int_equal(emulated.n_blocks, 0);
}

/* A device that fails in the midst of a run ends it, and what was written before is good. */
static void a_run_ends_where_the_device_fails(void **state)
{
    (void)state;
    rt_config c;
    configure(&c, &runs[0], "emulated", "failed");
    OK(rt_config_set(&c, "run.checkpoint-every", "2", &err));
    emulated.calls = 0;
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    int calls = emulated.calls;
    for (int part = 1; part <= 9; part++) {
        char command[160];
        snprintf(command, sizeof command, "rm -rf %s/mlp-failed", base);
        assert_int_equal(system(command), 0);
        emulated.calls = 0;
        emulated.fails = calls * part / 10;
        err = (rt_error){0};
        rt_status s = rt_run_train(&c, false, NULL, NULL, &err);
        emulated.fails = 0;
        assert_true(s == RT_E_DEVICE || s == RT_E_MEMORY || s == RT_OK); /* OK: a recording */
        assert_true(emulated.n_blocks == 0 && emulated.pinned == 0 && emulated.recordings == 0);
        if (s == RT_OK) continue;
        assert_true(*err.text != 0);
        OK(rt_run_train(&c, true, NULL, NULL, &err));
        same_run(&runs[0], "failed");
    }
}

static void copy_file(const char *from, const char *to)
{
    char command[600];
    snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

static int make_base(void **state)
{
    (void)state;
    char path[600], unet[256];
    strcpy(base, "/tmp/retort-device-XXXXXX");
    if (!mkdtemp(base)) return -1;
    snprintf(path, sizeof path, "%s/mlp.json", base);
    FILE *f = fopen(path, "w");
    if (!f) return -1;
    fputs("{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 16, \"layers\": 2}", f);
    fclose(f);
    snprintf(unet, sizeof unet, "%s/teacher/unet", base);
    snprintf(path, sizeof path, "mkdir -p %s %s/teacher/scheduler", unet, base);
    if (system(path)) return -1;
    copy_file("tests/data/golden/unet2d/classes/config.json", unet);
    copy_file("tests/data/golden/unet2d/classes/diffusion_pytorch_model.safetensors", unet);
    snprintf(path, sizeof path, "%s/teacher", base);
    OK(rt_model_index_write(path, "UNet2DModel", "DDIMScheduler", &err));
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = 64;
    spec.betas = "squaredcos_cap_v2";
    rt_scheduler_config c;
    OK(rt_scheduler_config_from(&c, &spec, rt_prediction_find("v", NULL), &err));
    snprintf(path, sizeof path, "%s/teacher/scheduler/scheduler_config.json", base);
    OK(rt_scheduler_config_write(&c, path, &err));
    rt_scheduler_config_free(&c);
    rt__backend_add(&emulated_backend);
    return 0;
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs_end_alike), cmocka_unit_test(samples_are_the_same),
                                       cmocka_unit_test(a_run_ends_where_the_device_fails)};
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
