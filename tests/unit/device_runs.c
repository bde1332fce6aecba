/* device_runs.c -- whole runs on a device (emulated_device.h) end as on the reference, to the bit where no state stays there between steps: rollouts, slices,
 * rounds, several networks, one that trails, meters; stopped and resumed, with recordings and without; and samples. */
#include "emulated_device.h"
#include "model/solver_map.h"
#include "retort/diffusion.h"
#include "retort/format.h"
#include "retort/model.h"
#include "retort/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { UPDATES = 6, STOP = 4, KEYS = 28, DRAWN = 3, FEATURES = 3 * 8 * 8 /* of the teacher in tests/data */ };

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
    double off; /* of the host's arrays, relative to their largest number: states of DDIM are float there, and double here */
} device_run;

#define COMMON "threads", "1", "train.batch", "4", "run.samples", "4", "run.log-every", "2", "train.ema", "0.9"
static const device_run runs[] = {
    {"mlp",
     "denoise",
     {"net", "mlp.json", "data.path", "toy:moons", "train.micro-batch", "2", "train.updates", "6", COMMON},
     UPDATES,
     "model",
     0},
    {"pd",
     "pd",
     {"teacher", "teacher", "pd.steps", "2,1", "pd.teacher-steps", "4", "pd.pool", "8", "pd.holdout", "2", "pd.guidance", "1.5",
      "null-class", "9", "train.updates", "3,3", "train.micro-batch", "2", COMMON},
     UPDATES,
     "student-1",
     1e-4},
    {"vsd", "vsd", {"teacher", "teacher", "vsd.score-updates", "2", "train.updates", "6", COMMON}, UPDATES, "student", 0},
    {"cd",
     "cd",
     {"teacher", "teacher", "cd.points", "4", "cd.grid", "uniform", "cd.solver", "euler", "cd.pool", "8", "train.updates", "6", COMMON},
     UPDATES,
     "student",
     0},
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

/* The largest difference, relative to the largest number of b. */
static double distance(const void *a, const void *b, rt_dtype dtype, int64_t n)
{
    double apart = 0, top = 1e-30;
    for (int64_t i = 0; i < n && dtype == RT_F32; i++) {
        apart = fmax(apart, fabs((double)((const float *)a)[i] - (double)((const float *)b)[i]));
        top = fmax(top, fabs((double)((const float *)b)[i]));
    }
    return apart / top;
}

/* Every array of two files, but the position, which holds seconds; off 0: to the bit. */
static int same_arrays(const char *a, const char *b, double off)
{
    rt_tensors *t[2];
    double farthest = 0;
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
        int64_t n = rt_tensor_count(&x);
        double d = distance(y.data, x.data, x.dtype, n);
        if (off == 0 ? memcmp(x.data, y.data, (size_t)n * rt_dtype_size(x.dtype)) != 0 : !(d <= off))
            fail_msg("%s and %s: '%s' differs by %.1e", a, b, name, d);
        farthest = fmax(farthest, d);
        rt_tensor_free(&x);
        rt_tensor_free(&y);
        compared++;
    }
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);
    if (off > 0) print_message("%s: off by %.1e\n", b, farthest);
    return compared;
}

/* What run `out` left is what run `like` did. */
static void same_run(const device_run *run, const char *like, const char *out, double off)
{
    char a[260], b[260];
    snprintf(a, sizeof a, "%s/%s-%s/checkpoints/update-%d/state.safetensors", base, run->name, like, run->updates);
    snprintf(b, sizeof b, "%s/%s-%s/checkpoints/update-%d/state.safetensors", base, run->name, out, run->updates);
    assert_true(same_arrays(a, b, off) >= 4); /* value, two moments, average */
    snprintf(a, sizeof a, "%s/%s-%s/%s/unet/diffusion_pytorch_model.safetensors", base, run->name, like, run->student);
    snprintf(b, sizeof b, "%s/%s-%s/%s/unet/diffusion_pytorch_model.safetensors", base, run->name, out, run->student);
    assert_true(same_arrays(a, b, off) >= 4);
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
        same_run(&runs[i], "host", "whole", runs[i].off);
        configure(&c, &runs[i], "emulated", "parts");
        err = (rt_error){0};
        assert_int_equal(rt_run_train(&c, false, &(rt_observer){.self = &asked, .stop = stop}, NULL, &err), RT_E_INTERRUPTED);
        OK(rt_run_train(&c, true, NULL, NULL, &err));
        same_run(&runs[i], "whole", "parts", 0);
        if (runs[i].off > 0) {
            configure(&c, &runs[i], "emulated", "unrecorded");
            emulated.forgetful = true;
            OK(rt_run_train(&c, false, NULL, NULL, &err));
            emulated.forgetful = false;
            same_run(&runs[i], "whole", "unrecorded", 0);
        }
        assert_true(emulated.n_blocks == 0 && emulated.pinned == 0 && emulated.recordings == 0);
    }
}

/* ---- samples */

enum { STEPS = 4, STATES = STEPS + 1 };

typedef struct drawn {
    float x[DRAWN * FEATURES], trace[STATES * DRAWN * FEATURES];
} drawn;

static rt_status keep(void *user, const rt_samples *s, rt_error *e)
{
    (void)e;
    drawn *to = user;
    size_t bytes = (size_t)(s->count * FEATURES) * sizeof(float);
    memcpy(to->x + s->first * FEATURES, s->x, bytes);
    for (int k = 0; k < STATES && s->trace; k++)
        memcpy(to->trace + (k * DRAWN + s->first) * FEATURES, s->trace + k * s->count * FEATURES, bytes);
    return RT_OK;
}

static rt_model *open_model(const char *folder, const char *backend, const char *scheduler)
{
    rt_model *m;
    char path[128], config[128];
    snprintf(path, sizeof path, "%s/%s", base, folder);
    snprintf(config, sizeof config, "%s/%s", base, scheduler ? scheduler : "");
    rt_model_spec spec = {.path = path, .backend = backend, .scheduler = scheduler ? config : NULL, .threads = 1};
    spec.has_null_class = !strcmp(folder, "teacher");
    spec.null_class = 9;
    OK(rt_model_open(&m, &spec, &err));
    assert_int_equal(rt_model_get_info(m)->features, FEATURES);
    return m;
}

static void draw(drawn *to, const char *folder, const char *backend, const char *scheduler, const rt_sampling *s)
{
    rt_model *m = open_model(folder, backend, scheduler);
    rt_sample_report report;
    *to = (drawn){0};
    OK(rt_model_sample(m, s, keep, to, &report, &err));
    rt_model_free(m);
    assert_int_equal(emulated.n_blocks, 0);
}

/* Where states stay on the device they are float, a rounding of 2^-24 for each step and number; elsewhere the host's bits. */
static void samples_are_the_host_s(void **state)
{
    (void)state;
    static const int64_t negatives[] = {3, 4};
    static const struct {
        const char *folder, *scheduler;
        double off;
        rt_sampling s;
    } cases[] = {
        {"pd-host/student-2", NULL, 3e-6, {0}},
        {"teacher", NULL, 3e-6, {.steps = STEPS, .trace = true}},
        {"teacher", NULL, 3e-6, {.steps = STEPS, .has_guidance = true, .guidance = 1.5}},
        {"teacher",
         NULL,
         3e-6,
         {.steps = STEPS, .has_guidance = true, .guidance = 1.5, .trace = true, .negatives = negatives, .n_negatives = 2}},
        {"teacher", "epsilon.json", 3e-6, {.steps = STEPS, .trace = true}},
        {"teacher", "clip.json", 3e-5, {.steps = STEPS, .has_guidance = true, .guidance = 4, .trace = true}},
        {"teacher", NULL, 0, {.steps = STEPS, .solver = "heun"}},
        {"teacher", NULL, 0, {.steps = STEPS, .solver = "euler"}},
        {"teacher", NULL, 0, {.steps = STEPS, .solver = "ddim", .options = {.eta = 0.5}}},
        {"teacher", NULL, 0, {.steps = STEPS, .has_guidance = true, .guidance = 1.5, .guidance_rescale = 0.7}},
        {"teacher", NULL, 0, {.steps = STEPS, .has_guidance = true, .guidance = 1.5, .guidance_high = 2}},
        {"teacher", NULL, 0, {.steps = STEPS, .has_guidance = true, .guidance = 1.5, .guidance_low = 0.5}},
    };
    static drawn host, there, again;
    for (size_t i = 0; i < RT_COUNT(cases); i++) {
        rt_sampling s = cases[i].s;
        s.n = DRAWN;
        s.batch = 2; /* the last batch has one */
        s.seed = 4;
        draw(&host, cases[i].folder, "reference", cases[i].scheduler, &s);
        int replays = emulated.replays;
        draw(&there, cases[i].folder, "emulated", cases[i].scheduler, &s);
        assert_true(emulated.replays > replays || s.steps == 0);
        emulated.forgetful = true;
        draw(&again, cases[i].folder, "emulated", cases[i].scheduler, &s);
        emulated.forgetful = false;
        assert_memory_equal(&there, &again, sizeof there);
        double x = distance(there.x, host.x, RT_F32, DRAWN * FEATURES),
               trace = distance(there.trace, host.trace, RT_F32, STATES * DRAWN * FEATURES);
        print_message("samples %zu: off by %.1e, states by %.1e\n", i, x, trace);
        if (cases[i].off == 0) assert_memory_equal(&there, &host, sizeof there);
        assert_true(x <= cases[i].off && trace <= cases[i].off);
        assert_true(cases[i].off == 0 || memcmp(&there, &host, sizeof there) != 0); /* its steps are not the driver's */
    }
}

/* States go up once and come down once, however many steps there are; what else goes up is a few numbers a step and sample. */
static void states_stay_there(void **state)
{
    (void)state;
    const size_t bytes = DRAWN * FEATURES * sizeof(float);
    size_t up[2][2], down[2][2];
    static drawn to;
    for (int traced = 0; traced < 2; traced++)
        for (int more = 0; more < 2; more++) {
            rt_model *m = open_model("teacher", "emulated", NULL);
            rt_sample_report report;
            rt_sampling s = {.n = DRAWN, .steps = more ? 2 * STEPS : STEPS, .trace = traced, .seed = 4};
            OK(rt_model_sample(m, &s, keep, &to, &report, &err)); /* weights go up, too */
            size_t up_bytes = emulated.up_bytes, down_bytes = emulated.down_bytes;
            int downs = emulated.downs;
            OK(rt_model_sample(m, &s, keep, &to, &report, &err));
            up[traced][more] = emulated.up_bytes - up_bytes;
            down[traced][more] = emulated.down_bytes - down_bytes;
            assert_int_equal(emulated.downs - downs, 1);
            rt_model_free(m);
        }
    for (int traced = 0; traced < 2; traced++) assert_true(up[traced][1] - up[traced][0] < STEPS * bytes / 8);
    assert_true(down[0][0] == bytes && down[0][1] == bytes);
    assert_true(down[1][0] == STEPS * bytes && down[1][1] == 2 * STEPS * bytes);
}

/* ---- rolls of a denoiser, guided in its graph, to all states or to the last */

typedef struct rolling {
    rt_net *net;
    rt_params *set;
    rt_process *process;
    rt_solver_map map;
    int pulses, last; /* asked so far, and the one that ends the roll; 0: none */
} rolling;

static rt_status count_pulses(void *self, int64_t done, int64_t total, rt_error *e)
{
    rolling *r = self;
    assert_int_equal(done, ++r->pulses * DRAWN);
    assert_int_equal(total, STEPS * DRAWN);
    if (r->pulses == r->last) return rt_error_set(e, RT_E_INTERRUPTED, "told to end");
    return RT_OK;
}

static void open_rolling(rolling *r, const char *backend)
{
    char path[128], remark[RT_NET_REMARK];
    *r = (rolling){.set = rt_params_new("teacher", RT_F32)};
    snprintf(path, sizeof path, "%s/teacher/unet", base);
    OK(rt_net_open(&r->net, path, &err));
    OK(rt_net_declare(r->net, r->set, &err));
    OK(rt_net_load(r->net, r->set, path, NULL, remark, &err));
    rt_process_spec process = rt_process_defaults("ddpm");
    process.timesteps = 64;
    OK(rt_process_new(&r->process, &process, &err));
    rt_evaluator_spec spec = {.denoiser = {.net = r->net,
                                           .set = r->set,
                                           .prediction = rt_prediction_find("v", NULL),
                                           .solver = rt_solver_find("ddim", NULL),
                                           .guidance = 1.5,
                                           .null_class = 9},
                              .process = r->process,
                              .x0 = true,
                              .program = {.batch = DRAWN + 1, .threads = 1, .backend = rt_backend_find(backend)}};
    OK(rt__solver_map_open(&r->map, &spec, 1, &err));
    r->map.pulse = count_pulses;
    r->map.pulse_self = r;
}

static void close_rolling(rolling *r)
{
    rt__solver_map_close(&r->map);
    rt_params_free(r->set);
    rt_net_free(r->net);
    rt_process_free(r->process);
}

static rt_status roll(rolling *r, float *x, int64_t hop, int last)
{
    static const double times[] = {64, 48, 32, 16, 0};
    static const int64_t y[DRAWN] = {1, 5, 7};
    for (int i = 0; i < DRAWN * FEATURES; i++) x[i] = sinf((float)(i * i));
    r->pulses = 0;
    r->last = last;
    err = (rt_error){0};
    return rt__solver_map_roll(&r->map, times, 1, STEPS, DRAWN, x, hop, y, NULL, &err);
}

static void rolls_stay_there(void **state)
{
    (void)state;
    enum { SIZE = DRAWN * FEATURES };
    static float host[STATES * SIZE], there[STATES * SIZE], again[STATES * SIZE], end[SIZE];
    rolling h, d;
    open_rolling(&h, "reference");
    open_rolling(&d, "emulated");
    OK(roll(&h, host, SIZE, 0));
    OK(roll(&d, there, SIZE, 0));
    assert_true(d.pulses == STEPS && h.pulses == STEPS);
    for (int k = 0; k < STATES; k++) {
        double off = distance(there + k * SIZE, host + k * SIZE, RT_F32, SIZE);
        assert_true(k == 0 ? off == 0 : off < 3e-6 && off > 0);
    }
    assert_int_equal(roll(&d, again, SIZE, 2), RT_E_INTERRUPTED);
    assert_int_equal(d.pulses, 2);
    int downs = emulated.downs;
    OK(roll(&d, again, SIZE, 0));
    assert_int_equal(emulated.downs - downs, 1);
    assert_memory_equal(again, there, sizeof there);
    d.map.evaluator.stepper.states = 3; /* fewer than there are: they come down in parts */
    memset(again, 0, sizeof again);
    downs = emulated.downs;
    OK(roll(&d, again, SIZE, 0));
    assert_int_equal(emulated.downs - downs, 2);
    assert_memory_equal(again, there, sizeof there);
    OK(roll(&d, end, 0, 0));
    assert_memory_equal(end, there + STEPS * SIZE, sizeof end);
    char words[sizeof err.text];
    rolling *both[] = {&h, &d};
    for (int i = 0; i < 2; i++)
        for (int hop = 0; hop < 2; hop++) { /* the host says where it is that states are not finite */
            float *weights = rt_params_data(both[i]->set, RT_VALUE);
            weights[0] = NAN;
            rt_params_touch(both[i]->set);
            assert_int_equal(roll(both[i], again, hop * SIZE, 0), RT_E_DIVERGED);
            if (i + hop == 0) memcpy(words, err.text, sizeof words);
            assert_string_equal(err.text, words);
        }
    assert_non_null(strstr(words, "after step 1 "));
    close_rolling(&h);
    close_rolling(&d);
    assert_true(emulated.n_blocks == 0 && emulated.pinned == 0 && emulated.recordings == 0);
}

/* What a run would take there: its rolls are rehearsed, too, and take nothing. */
static void a_rehearsal_takes_nothing(void **state)
{
    (void)state;
    rt_config c;
    rt_run_plan plan;
    configure(&c, &runs[1], "emulated", "planned");
    int calls = emulated.runs;
    OK(rt_run_plan_only(&c, &plan, &err));
    assert_true(plan.device_bytes > 1 << 16);
    assert_true(emulated.runs == calls && emulated.n_blocks == 0 && emulated.pinned == 0);
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
        same_run(&runs[0], "host", "failed", 0);
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
    c.clip_sample = true;
    c.clip_sample_range = 0.75;
    snprintf(path, sizeof path, "%s/clip.json", base);
    OK(rt_scheduler_config_write(&c, path, &err));
    rt_scheduler_config_free(&c);
    spec.betas = "linear";
    OK(rt_scheduler_config_from(&c, &spec, rt_prediction_find("epsilon", NULL), &err));
    snprintf(path, sizeof path, "%s/epsilon.json", base);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs_end_alike),
                                       cmocka_unit_test(samples_are_the_host_s),
                                       cmocka_unit_test(states_stay_there),
                                       cmocka_unit_test(rolls_stay_there),
                                       cmocka_unit_test(a_rehearsal_takes_nothing),

                                       cmocka_unit_test(a_run_ends_where_the_device_fails)};
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
