/* pace.c -- how long an update of a method takes, by the loop that trains, without a run: for `retort bench`. */
#include "train/run.h"

#include "base/internal.h"
#include "retort/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WARM = 2 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* n items of the run's shape, of normal numbers, with labels where the network has classes, by way of a file. */
static rt_status make_data(rt__run *run, int64_t n, rt_error *err)
{
    const rt_distill *d = &run->d;
    const char *root = getenv("TMPDIR");
    char path[256];
    int64_t shape[RT_MAX_RANK], features = d->features;
    memcpy(shape, d->shape, sizeof shape);
    shape[0] = n;
    rt_tensor x, y = {0};
    RT_TRY(rt_tensor_init(&x, RT_F32, d->rank, shape, err));
    rt_status status = rt_tensor_init(&y, RT_I64, 1, &n, err);
    double *row = malloc((size_t)features * sizeof *row);
    if (status == RT_OK && !row) status = rt_error_set(err, RT_E_MEMORY, "out of memory for data");
    rt__draw draw = {.seed = run->config->seed, .name = rt__draw_name("pace")};
    for (int64_t j = 0; j < n && status == RT_OK; j++) {
        rt__draw_normals(&draw, (uint32_t)j, features, row);
        for (int64_t i = 0; i < features; i++) ((float *)x.data)[j * features + i] = (float)row[i];
        ((int64_t *)y.data)[j] = d->classes > 0 ? j % d->classes : 0;
    }
    free(row);
    snprintf(path, sizeof path, "%s/retort-bench-XXXXXX.safetensors", root && *root ? root : "/tmp");
    int fd = status == RT_OK ? mkstemps(path, (int)strlen(".safetensors")) : -1;
    if (status == RT_OK && fd < 0)
        status = rt_error_set(err, RT_E_IO, "%s: %s; set TMPDIR to a folder that can be written", path, strerror(errno));
    if (fd >= 0) {
        rt_named_tensor parts[] = {{"x", RT_F32, d->rank, shape, x.data}, {"y", RT_I64, 1, &n, y.data}};
        close(fd);
        status = rt_tensors_write(path, parts, d->classes > 0 ? 2 : 1, NULL, err);
        if (status == RT_OK) status = rt_dataset_open(&run->data, path, err);
        unlink(path);
    }
    rt_tensor_free(&x);
    rt_tensor_free(&y);
    return status;
}

static rt_status open_sets(rt__run *run, rt_error *err)
{
    static const char *const names[] = {"student", "teacher"};
    rt_params **sets[] = {&run->student, &run->teacher};
    for (int i = 0; i < 2; i++) {
        *sets[i] = rt_params_new(names[i], RT_F32);
        if (!*sets[i]) RT_RAISE(RT_E_MEMORY, "out of memory for a network");
        RT_TRY(rt_net_declare(run->net, *sets[i], err));
        RT_TRY(rt_params_init(*sets[i], run->config->seed, err));
    }
    return RT_OK;
}

static rt_status open(rt__run *run, rt_process **process, rt_error *err)
{
    const rt_config *c = run->config;
    rt_distill *d = &run->d;
    RT_TRY(rt_net_open(&run->own_net, c->net, err));
    run->net = run->own_net;
    const rt_net_info *i = rt_net_describe(run->net);
    if (i->classifier || i->draws || i->times != 1 || i->in_channels != i->out_channels)
        RT_RAISE(RT_E_USAGE, "%s: is no denoiser of one time, which %s would distil", c->net, c->method);
    d->config = c;
    d->classes = i->classes;
    d->null_class = -1;
    d->rank = i->height ? 4 : 2;
    d->shape[0] = RT_BATCH, d->shape[1] = i->in_channels, d->shape[2] = i->height, d->shape[3] = i->width;
    d->features = (int64_t)i->in_channels * (i->height ? i->height * i->width : 1);
    rt_process_spec spec = rt_process_defaults("ddpm");
    RT_TRY(rt_process_new(process, &spec, err));
    RT_TRY(open_sets(run, err));
    RT_TRY(make_data(run, c->train.batch, err));
    d->data = run->data;
    d->process = *process;
    d->student = (rt_denoiser){.net = run->net,
                               .set = run->student,
                               .prediction = rt_prediction_find("v", err),
                               .solver = rt_solver_find("ddim", err),
                               .null_class = -1};
    d->first = d->student;
    d->first.set = run->teacher;
    for (int k = 0; rt__methods[k]; k++)
        if (!strcmp(rt__methods[k]->name, c->method)) d->method = rt__methods[k];
    if (!d->method) RT_RAISE(RT_E_USAGE, "unknown method '%s'; `retort list methods` prints all", c->method);
    return rt__round_open(run, err);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

rt_status rt_run_time_update(const rt_config *c, int repeats, rt_choices *choices, double *ms, rt_error *err)
{
    rt_error local = {0};
    if (!err) err = &local;
    rt__run run = {.config = c, .lock = -1, .d = {.choices = choices, .err = err}};
    rt_process *process = NULL;
    double *times = calloc((size_t)repeats, sizeof *times), loss, grad_norm;
    rt_status status = times ? open(&run, &process, err) : rt_error_set(err, RT_E_MEMORY, "out of memory");
    for (int i = -WARM; i < repeats && status == RT_OK; i++) {
        double start = now();
        status = rt__update(&run, WARM + repeats, &loss, &grad_norm, err);
        if (i >= 0) times[i] = 1e3 * (now() - start);
        run.at.in_round++;
    }
    if (status == RT_OK) {
        qsort(times, (size_t)repeats, sizeof *times, by_value);
        *ms = (times[(repeats - 1) / 2] + times[repeats / 2]) / 2;
    }
    free(times);
    if (run.d.graph) rt__round_close(&run);
    rt__run_close(&run);
    rt_process_free(process);
    return status;
}
