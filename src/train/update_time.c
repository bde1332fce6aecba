/* update_time.c -- how long an update of a method takes, by the loop that trains, without a run: for `retort bench`. */
#include "train/run.h"

#include "base/internal.h"
#include "retort/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WARM = 2 };

/* n items of the run's shape, of normal numbers, with labels where the network has classes, by way of a file. */
static rt_status make_data(rt__run *run, int64_t n, rt_error *err)
{
    const rt_task *t = &run->task;
    const rt_net_info *net = rt_net_describe(run->net);
    int rank = net->height ? 4 : 2;
    const char *root = getenv("TMPDIR");
    char path[256];
    int64_t shape[] = {n, net->in_channels, net->height, net->width};
    int64_t features = (int64_t)net->in_channels * (net->height ? net->height * net->width : 1);
    rt_tensor x, y = {0};
    RT_TRY(rt_tensor_init(&x, RT_F32, rank, shape, err));
    rt_status status = rt_tensor_init(&y, RT_I64, 1, &n, err);
    double *row = malloc((size_t)features * sizeof *row);
    if (status == RT_OK && !row) status = rt_error_set(err, RT_E_MEMORY, "out of memory for data");
    rt__draw draw = {.seed = run->config->seed, .name = rt__draw_name("update time")};
    for (int64_t j = 0; j < n && status == RT_OK; j++) {
        rt__draw_normals(&draw, (uint32_t)j, features, row);
        for (int64_t i = 0; i < features; i++) ((float *)x.data)[j * features + i] = (float)row[i];
        ((int64_t *)y.data)[j] = t->classes > 0 ? j % t->classes : 0;
    }
    free(row);
    snprintf(path, sizeof path, "%s/retort-bench-XXXXXX.safetensors", root && *root ? root : "/tmp");
    int fd = status == RT_OK ? mkstemps(path, (int)strlen(".safetensors")) : -1;
    if (status == RT_OK && fd < 0)
        status = rt_error_set(err, RT_E_IO, "%s: %s; set TMPDIR to a folder that can be written", path, strerror(errno));
    if (fd >= 0) {
        rt_named_tensor parts[] = {{"x", RT_F32, rank, shape, x.data}, {"y", RT_I64, 1, &n, y.data}};
        close(fd);
        status = rt_tensors_write(path, parts, t->classes > 0 ? 2 : 1, NULL, err);
        if (status == RT_OK) status = rt_dataset_open(&run->data, path, err);
        unlink(path);
    }
    rt_tensor_free(&x);
    rt_tensor_free(&y);
    return status;
}

/* Whose network is timed: a scene has a teacher's alone. */
static const char *folder_of(const rt_config *c) { return *c->net ? c->net : c->teacher; }

/* The network of the setting `net`, or of `teacher` where that is empty, with random weights as teacher and student. */
static rt_status open_random(rt__run *run, rt_process **process, rt_params **teacher, rt_error *err)
{
    const rt_config *c = run->config;
    rt_task *t = &run->task;
    RT_TRY(rt_net_open(&run->net, folder_of(c), err));
    const rt_net_info *i = rt_net_describe(run->net);
    if (i->classifier || i->draws || i->times != 1 || i->in_channels != i->out_channels)
        RT_RAISE(RT_E_USAGE, "%s: is no denoiser of one time, which %s would distil", folder_of(c), c->method);
    t->config = c;
    t->method = rt__method_find(c->method);
    if (!t->method) return rt__method_unknown(c->method, err);
    t->classes = i->classes;
    t->words = i->words;
    t->null_class = -1;
    t->low = -1;
    t->high = 1;
    rt_process_spec spec = rt_process_defaults("ddpm");
    RT_TRY(rt_process_new(process, &spec, err));
    *teacher = rt_params_new("teacher", RT_F32);
    if (!*teacher) RT_RAISE(RT_E_MEMORY, "out of memory for a network");
    RT_TRY(rt_net_declare(run->net, *teacher, err));
    RT_TRY(rt_params_init(*teacher, c->seed, err));
    RT_TRY(make_data(run, c->train.batch, err));
    t->data = run->data;
    t->process = *process;
    t->teacher = (rt_denoiser){.net = run->net, .set = *teacher, .prediction = rt_prediction_find("v", err), .null_class = -1};
    RT_TRY(rt__task_open(t, err));
    return rt__run_open_round(run, err);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

rt_status rt_run_time_update(const rt_config *c, int repeats, rt_choices *choices, double *median, double *mean, rt_error *err)
{
    rt_error local = {0};
    if (!err) err = &local;
    rt__run run = {.config = c, .lock = -1};
    rt_process *process = NULL;
    rt_params *teacher = NULL;
    run.task.choices = choices;
    double *times = malloc((size_t)repeats * sizeof *times);
    rt_status status = times ? open_random(&run, &process, &teacher, err) : rt_error_set(err, RT_E_MEMORY, "out of memory");
    for (int i = -WARM; i < repeats && status == RT_OK; i++) {
        double start = rt__seconds();
        status = rt__round_update(&run.round, i + WARM, WARM + repeats, folder_of(c), i + WARM, err);
        if (i >= 0) times[i] = 1e3 * (rt__seconds() - start);
    }
    if (status == RT_OK) {
        qsort(times, (size_t)repeats, sizeof *times, by_value);
        *median = (times[(repeats - 1) / 2] + times[repeats / 2]) / 2;
        *mean = 0;
        for (int i = 0; i < repeats; i++) *mean += times[i] / repeats;
    }
    free(times);
    rt__run_close(&run);
    rt_params_free(teacher);
    rt_process_free(process);
    return status;
}
