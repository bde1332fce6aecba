/* kill_resume.c -- a progressive run of a U-Net on two threads is killed with SIGKILL at twenty instants, some of them inside the writing of a checkpoint and at
 * a change of round; resumed, it ends in the same students, averages and optimiser state as a run that nobody disturbed. */
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

enum { KILLS = 20, IN_WRITE = 8 };

static char base[64];

static void configure(rt_config *c, const char *name)
{
    rt_error err = {0};
    char out[128], teacher[128];
    snprintf(out, sizeof out, "%s/%s", base, name);
    snprintf(teacher, sizeof teacher, "%s/teacher", base);
    const char *const keys[] = {"out",
                                out,
                                "teacher",
                                teacher,
                                "threads",
                                "2",
                                "pd.steps",
                                "2,1",
                                "pd.teacher-steps",
                                "4",
                                "pd.pool",
                                "32",
                                "pd.holdout",
                                "4",
                                "train.batch",
                                "8",
                                "train.updates",
                                "60,60",
                                "train.ema",
                                "0.9",
                                "run.checkpoint-every",
                                "5",
                                "run.samples",
                                "4",
                                "run.log-every",
                                "5"};
    if (rt_config_method(c, "pd", &err) != RT_OK) abort();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i += 2)
        if (rt_config_set(c, keys[i], keys[i + 1], &err) != RT_OK) abort();
}

/* The run, in a process of its own: the parent never starts threads, so that a fork is safe. */
static pid_t start(const char *name, bool resume)
{
    pid_t pid = fork();
    if (pid != 0) return pid;
    rt_config c;
    rt_error err = {0};
    configure(&c, name);
    rt_status s = rt_run_train(&c, resume, NULL, NULL, &err);
    if (s != RT_OK) fprintf(stderr, "%s: %s\n", name, err.text);
    _exit((int)s);
}

static bool is_there(const char *name, const char *what)
{
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s/%s", base, name, what);
    return stat(path, &st) == 0;
}

static void pause_for(long microseconds) { nanosleep(&(struct timespec){microseconds / 1000000, microseconds % 1000000 * 1000}, NULL); }

/* Waits for the sign that the moment has come, then a little; false if the run ended before. */
static bool wait_for(pid_t pid, const char *name, const char *sign, long then, int *status)
{
    while (sign ? !is_there(name, sign) : false) {
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

static void same_bytes(const char *file)
{
    char command[600];
    snprintf(command, sizeof command, "cmp %s/whole/%s %s/killed/%s", base, file, base, file);
    if (system(command) != 0) fail_msg("%s differs", file);
}

static void same_state(const char *file)
{
    rt_tensors *t[2];
    rt_error err = {0};
    for (int i = 0; i < 2; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s/%s", base, i ? "killed" : "whole", file);
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
    assert_true(compared >= 5); /* value, two moments, average; the teacher */
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);
}

static void killed_runs_end_alike(void **state)
{
    (void)state;
    int status, landed[3] = {0};
    make_teacher();
    pid_t pid = start("whole", false);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    srand(7);
    bool begun = false, ended = false;
    for (int kill_number = 0; kill_number < KILLS && !ended; kill_number++) {
        bool write = kill_number % 2 == 1 && landed[1] < IN_WRITE, round = kill_number == 10 || kill_number == 11;
        const char *sign = round ? (kill_number == 10 ? "student-2" : "checkpoints/update-60") : write ? "checkpoints/.writing" : NULL;
        pid = start("killed", begun);
        /* before the first checkpoint there is nothing to resume: begin anew */
        bool alive = wait_for(pid, "killed", sign, round ? rand() % 5000 : write ? rand() % 400 : 30000 + rand() % 250000, &status);
        if (!alive) {
            ended = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            if (!ended) fail_msg("a run ended by itself with status %d", status);
            break;
        }
        bool inside = is_there("killed", "checkpoints/.writing");
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        landed[round ? 2 : inside ? 1 : 0]++;
        begun = false;
        for (int u = 5; u <= 120 && !begun; u += 5) {
            char name[64];
            snprintf(name, sizeof name, "checkpoints/update-%d/manifest.json", u);
            begun = is_there("killed", name);
        }
        if (!begun) {
            char command[128];
            snprintf(command, sizeof command, "rm -rf %s/killed", base);
            assert_int_equal(system(command), 0);
        }
    }
    if (!ended) {
        pid = start("killed", begun);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    print_message("killed %d times between updates, %d inside the writing of a checkpoint, %d at a change of round\n", landed[0], landed[1],
                  landed[2]);
    assert_true(landed[1] >= 5);
    assert_true(landed[2] >= 1);
    assert_true(landed[0] + landed[1] + landed[2] >= 12);
    same_bytes("student-2/unet/diffusion_pytorch_model.safetensors");
    same_bytes("student-1/unet/diffusion_pytorch_model.safetensors");
    same_bytes("student-1/unet/diffusion_pytorch_model.raw.safetensors");
    same_state("checkpoints/update-120/state.safetensors");
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
