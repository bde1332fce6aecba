/* kill_resume.c -- runs of a U-Net on two threads are killed with SIGKILL at random instants, some of them inside the writing of a checkpoint and at a change of
 * round; resumed, they end in the same students, averages and optimiser state of all networks as a run that nobody disturbed. Twenty instants for `pd` and
 * for a scene, RETORT_KILLS of them (6) for each of the others. */
#include "retort/diffusion.h"
#include "retort/format.h"
#include "retort/train.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { IN_WRITE = 8, KEYS = 24 };

static char base[64];

/* A run: its method's keys beside those of all, the sign and the place of its end, what it leaves. */
typedef struct killed_run {
    const char *method, *keys[KEYS];
    int kills, updates, arrays;   /* arrays: of the last checkpoint, at least */
    bool rounds, data, two_times; /* two_times: the student is told both */
    const char *results[3];
} killed_run;

#define STUDENT                                                                                                                            \
    {                                                                                                                                      \
        "student/unet/diffusion_pytorch_model.safetensors", "student/unet/diffusion_pytorch_model.raw.safetensors"                         \
    }
static const killed_run runs[] = {
    {.method = "pd",
     .keys = {"pd.steps", "2,1", "pd.teacher-steps", "4", "pd.pool", "32", "pd.holdout", "4", "train.updates", "60,60"},
     .kills = 20,
     .updates = 120,
     .arrays = 5, /* value, two moments, average; the teacher */
     .rounds = true,
     .results = {"student-2/unet/diffusion_pytorch_model.safetensors", "student-1/unet/diffusion_pytorch_model.safetensors",
                 "student-1/unet/diffusion_pytorch_model.raw.safetensors"}},
    {.method = "vsd", .keys = {"vsd.score-updates", "2", "vsd.normalise", "dmd"}, .updates = 60, .arrays = 7, .results = STUDENT},
    {.method = "dmd2",
     .keys = {"vsd.score-updates", "1", "gan.levels", "all", "gan.head", "linear", "gan.start", "20", "train.freeze", "*conv1*,*norm*"},
     .updates = 60,
     .arrays = 8, /* the digest of what is frozen, too */
     .data = true,
     .results = STUDENT},
    {.method = "sid", .keys = {"train.micro-batch", "4"}, .updates = 60, .arrays = 7, .results = STUDENT},
    {.method = "f",
     .keys = {"vsd.score-updates", "1", "gan.head", "linear", "f.divergence", "jensen-shannon"},
     .updates = 60,
     .arrays = 7,
     .data = true,
     .results = STUDENT},
    {.method = "cd",
     .keys = {"cd.points", "4", "cd.grid", "uniform", "cd.solver", "ddim", "cd.pool", "32", "null-class", "3", "cd.guidance-range", "0,4"},
     .updates = 60,
     .arrays = 5, /* value, two moments, average; the target */
     .results = STUDENT},
    {.method = "guide",
     .keys = {"null-class", "3", "guide.steps", "2", "guide.teacher-steps", "4", "guide.pool", "32"},
     .updates = 60,
     .arrays = 4,
     .results = STUDENT},
    {.method = "vsd-scene",
     .keys = {"scene.kind", "grid", "scene.nodes", "6", "scene.samples", "8", "scene.particles", "2", "train.ema", "0"},
     .kills = 20,
     .updates = 60,
     .arrays = 7, /* value and two moments of the scene, and of s_zeta, which is told the cameras; the first score gap */
     .results = {"scene/scene.safetensors", "scene/scene.json", "score/unet/diffusion_pytorch_model.safetensors"}},
    {.method = "ect", .keys = {"ect.every", "20"}, .updates = 60, .arrays = 4, .data = true, .results = STUDENT},
    {.method = "scm",
     .keys = {"scm.warmup", "40", "train.micro-batch", "4"},
     .updates = 60,
     .arrays = 4, /* one network: value, two moments, average */
     .data = true,
     .results = STUDENT},
    {.method = "meanflow",
     .keys = {"meanflow.velocity", "data", "meanflow.teacher-steps", "4"},
     .updates = 60,
     .arrays = 4,
     .data = true,
     .two_times = true,
     .results = STUDENT},
};

static void configure(rt_config *c, const killed_run *run, const char *name)
{
    rt_error err = {0};
    char out[128], teacher[128], data[128], net[128];
    snprintf(out, sizeof out, "%s/%s-%s", base, run->method, name);
    snprintf(teacher, sizeof teacher, "%s/teacher", base);
    snprintf(data, sizeof data, "%s/data.safetensors", base);
    const char *const keys[] = {"out",
                                out,
                                "teacher",
                                teacher,
                                "threads",
                                "2",
                                "train.batch",
                                "8",
                                "train.ema",
                                "0.9",
                                "run.checkpoint-every",
                                "5",
                                "run.samples",
                                "4",
                                "run.log-every",
                                "5",
                                run->data ? "data.path" : NULL,
                                data};
    char updates[16];
    snprintf(updates, sizeof updates, "%d", run->updates);
    if (rt_config_method(c, run->method, &err) != RT_OK) abort();
    if (rt_config_set(c, "train.updates", updates, &err) != RT_OK) abort();
    snprintf(net, sizeof net, "%s/two-times.json", base);
    if (run->two_times && rt_config_set(c, "net", net, &err) != RT_OK) abort();
    for (size_t i = 0; i < sizeof keys / sizeof *keys && keys[i]; i += 2)
        if (rt_config_set(c, keys[i], keys[i + 1], &err) != RT_OK) fprintf(stderr, "%s\n", err.text), abort();
    for (int i = 0; i < KEYS && run->keys[i]; i += 2)
        if (rt_config_set(c, run->keys[i], run->keys[i + 1], &err) != RT_OK) fprintf(stderr, "%s\n", err.text), abort();
}

/* The run, in a process of its own: the parent never starts threads, so that a fork is safe. */
static pid_t start(const killed_run *run, const char *name, bool resume)
{
    pid_t pid = fork();
    if (pid != 0) return pid;
    rt_config c;
    rt_error err = {0};
    configure(&c, run, name);
    rt_status s = rt_run_train(&c, resume, NULL, NULL, &err);
    if (s != RT_OK) fprintf(stderr, "%s, %s: %s\n", run->method, name, err.text);
    _exit((int)s);
}

static bool is_there(const killed_run *run, const char *what)
{
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s-killed/%s", base, run->method, what);
    return stat(path, &st) == 0;
}

static void pause_for(long microseconds) { nanosleep(&(struct timespec){microseconds / 1000000, microseconds % 1000000 * 1000}, NULL); }

/* Waits for the sign that the moment has come, then a little; false if the run ended before. */
static bool wait_for(pid_t pid, const killed_run *run, const char *sign, long then, int *status)
{
    while (sign ? !is_there(run, sign) : false) {
        if (waitpid(pid, status, WNOHANG) == pid) return false;
        pause_for(50);
    }
    pause_for(then);
    return waitpid(pid, status, WNOHANG) != pid;
}

static void copy_file(const char *from, const char *to)
{
    char command[600];
    snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

/* A pipeline folder around a committed network. */
static void make_teacher(void)
{
    char path[600], unet[256];
    rt_error err = {0};
    snprintf(unet, sizeof unet, "%s/teacher/unet", base);
    snprintf(path, sizeof path, "mkdir -p %s %s/teacher/scheduler", unet, base);
    assert_int_equal(system(path), 0);
    copy_file("tests/data/golden/unet2d/classes/config.json", unet);
    copy_file("tests/data/golden/unet2d/classes/diffusion_pytorch_model.safetensors", unet);
    snprintf(path, sizeof path, "sed '1s/{/{\"_target_time\": true,/' %s/config.json >%s/two-times.json", unet, base);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/teacher", base);
    assert_int_equal(rt_model_index_write(path, "UNet2DModel", "DDIMScheduler", &err), RT_OK);
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = 64;
    spec.betas = "squaredcos_cap_v2";
    rt_scheduler_config c;
    assert_int_equal(rt_scheduler_config_from(&c, &spec, rt_prediction_find("v", NULL), &err), RT_OK);
    snprintf(path, sizeof path, "%s/teacher/scheduler/scheduler_config.json", base);
    assert_int_equal(rt_scheduler_config_write(&c, path, &err), RT_OK);
    rt_scheduler_config_free(&c);
}

/* 64 pictures of smooth numbers with labels. */
static void make_data(void)
{
    enum { N = 64, NUMBERS = 3 * 8 * 8 };
    char path[128];
    float *x = malloc(N * NUMBERS * sizeof *x);
    int64_t y[N], n = N;
    for (int i = 0; i < N * NUMBERS; i++) x[i] = (float)(i % 97) / 48.5f - 1;
    for (int i = 0; i < N; i++) y[i] = i % 10;
    snprintf(path, sizeof path, "%s/data.safetensors", base);
    rt_named_tensor parts[] = {{"x", RT_F32, 4, (int64_t[]){N, 3, 8, 8}, x}, {"y", RT_I64, 1, &n, y}};
    assert_int_equal(rt_tensors_write(path, parts, 2, NULL, NULL), RT_OK);
    free(x);
}

static void same_bytes(const killed_run *run, const char *file)
{
    char command[600];
    snprintf(command, sizeof command, "cmp %s/%s-whole/%s %s/%s-killed/%s", base, run->method, file, base, run->method, file);
    if (system(command) != 0) fail_msg("%s: %s differs", run->method, file);
}

static void same_state(const killed_run *run)
{
    rt_tensors *t[2];
    rt_error err = {0};
    for (int i = 0; i < 2; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s-%s/checkpoints/update-%d/state.safetensors", base, run->method, i ? "killed" : "whole",
                 run->updates);
        if (rt_tensors_open(&t[i], path, &err) != RT_OK) fail_msg("%s", err.text);
    }
    int compared = 0;
    for (int i = 0; i < rt_tensors_count(t[0]); i++) {
        if (!strcmp(rt_tensors_info(t[0], i)->name, "position")) continue; /* holds seconds */
        rt_tensor x, y;
        int j = rt_tensors_find(t[1], rt_tensors_info(t[0], i)->name);
        assert_true(j >= 0);
        assert_int_equal(rt_tensors_read(t[0], i, &x, &err), RT_OK);
        assert_int_equal(rt_tensors_read(t[1], j, &y, &err), RT_OK);
        assert_memory_equal(x.data, y.data, (size_t)rt_tensor_count(&x) * rt_dtype_size(x.dtype));
        rt_tensor_free(&x);
        rt_tensor_free(&y);
        compared++;
    }
    if (compared < run->arrays) fail_msg("%s: a checkpoint of %d arrays, of %d at least", run->method, compared, run->arrays);
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);
}

/* Has the killed run something to go on from? Before its first checkpoint it begins anew. */
static bool has_checkpoint(const killed_run *run)
{
    for (int u = 5; u <= run->updates; u += 5) {
        char name[64];
        snprintf(name, sizeof name, "checkpoints/update-%d/manifest.json", u);
        if (is_there(run, name)) return true;
    }
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s/%s-killed", base, run->method);
    assert_int_equal(system(command), 0);
    return false;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The sign that the moment of kill number k has come, and how long after it, in microseconds. Without a sign the wait is a part of what the run takes when
 * nobody disturbs it (`whole`, microseconds), so that a fast machine does not end the run before the last kill. */
static const char *moment(const killed_run *run, int k, int in_writes, long whole, bool *round, long *then)
{
    *round = run->rounds && (k == 10 || k == 11);
    bool write = !*round && k % 2 == 1 && in_writes < IN_WRITE;
    *then = *round ? rand() % 5000 : write ? rand() % 400 : whole / 50 + rand() % (whole / 15);
    return *round ? (k == 10 ? "student-2" : "checkpoints/update-60") : write ? "checkpoints/.writing" : NULL;
}

static void kill_and_compare(const killed_run *run, int kills)
{
    int status, landed[3] = {0};
    double began = seconds();
    pid_t pid = start(run, "whole", false);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    long whole = (long)(1e6 * (seconds() - began));
    bool begun = false, ended = false, round;
    for (int k = 0; k < kills && !ended; k++) {
        long then;
        const char *sign = moment(run, k, landed[1], whole, &round, &then);
        pid = start(run, "killed", begun);
        if (!wait_for(pid, run, sign, then, &status)) {
            ended = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            if (!ended) fail_msg("%s: a run ended by itself with status %d", run->method, status);
            break;
        }
        bool inside = is_there(run, "checkpoints/.writing");
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        landed[round ? 2 : inside ? 1 : 0]++;
        begun = has_checkpoint(run);
    }
    if (!ended) {
        pid = start(run, "killed", begun);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    print_message("%s: killed %d times between updates, %d inside the writing of a checkpoint, %d at a change of round\n", run->method,
                  landed[0], landed[1], landed[2]);
    assert_true(landed[1] >= kills / 4);
    if (run->rounds) assert_true(landed[2] >= 1);
    assert_true(landed[0] + landed[1] + landed[2] >= kills * 3 / 5);
    for (int i = 0; i < 3 && run->results[i]; i++) same_bytes(run, run->results[i]);
    same_state(run);
}

static void killed_runs_end_alike(void **state)
{
    (void)state;
    const char *asked = getenv("RETORT_KILLS");
    make_teacher();
    make_data();
    srand(7);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        kill_and_compare(&runs[i], runs[i].kills ? runs[i].kills : asked ? atoi(asked) : 6);
}

static int make_base(void **state)
{
    (void)state;
    strcpy(base, "/tmp/retort-kill-XXXXXX");
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_runs_end_alike)};
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
