/* run.c -- opening and closing a run: directory, networks, sets, data. */
#include "train/run.h"

#include "base/files.h"
#include "base/internal.h"
#include "retort/format.h"
#include "model/model_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The network of the setting `net`, for a student that is not its teacher's copy. */
static rt_status open_student(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    const rt_model_info *m = rt_model_get_info(run->origin);
    if (!*c->net)
        RT_RAISE(RT_E_USAGE, "%s: an oracle has no network that its student could copy; give --net with a config.json", c->teacher);
    RT_TRY(rt_net_open(&run->own_net, c->net, err));
    const rt_net_info *n = rt_net_describe(run->own_net);
    int64_t features = (int64_t)n->in_channels * (n->height ? n->height * n->width : 1);
    if (n->classifier || n->classes != m->classes || features != m->features)
        RT_RAISE(RT_E_INVALID, "%s: a %s of %lld numbers and %d classes cannot stand for the teacher, which has %lld and %lld", c->net,
                 n->kind, (long long)features, n->classes, (long long)m->features, (long long)m->classes);
    return RT_OK;
}

/* A student whose network has all that its teacher's has, and more, starts as its teacher; any other by draws. */
static rt_status inherit(rt_params *student, const rt_params *teacher, uint64_t seed, rt_error *err)
{
    RT_TRY(rt_params_init(student, seed, err));
    const float *from = rt_params_data((rt_params *)(uintptr_t)teacher, RT_VALUE);
    float *to = rt_params_data(student, RT_VALUE);
    for (int copy = 0; copy < 2; copy++)
        for (int i = 0; i < rt_params_entries(teacher); i++) {
            const rt_entry *a = rt_params_entry(teacher, i), *b = rt_params_entry(student, rt_params_find(student, a->name));
            if (!b || a->rank != b->rank || memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) != 0) return RT_OK;
            if (copy) memcpy(to + b->offset, from + a->offset, (size_t)a->count * sizeof *to);
        }
    rt_params_touch(student);
    return RT_OK;
}

static rt_status open_teacher(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    rt_distill *d = &run->d;
    RT_TRY(rt_model_open(&run->origin,
                         &(rt_model_spec){.path = c->teacher,
                                          .threads = c->threads,
                                          .choices = run->d.choices,
                                          .backend = *c->backend ? c->backend : NULL,
                                          .compute = rt_config_compute(c),
                                          .null_class = c->null_class,
                                          .has_null_class = c->null_class >= 0},
                         err));
    rt_model *m = run->origin;
    run->scheduler = m->scheduler;
    if (!run->scheduler || !m->process)
        RT_RAISE(RT_E_INVALID, "%s: its student needs a diffusers configuration of the process; give %s", c->teacher,
                 m->oracle ? "'scheduler' in place of 'process' in that file" : "a diffusers folder");
    if (m->net && rt_net_describe(m->net)->draws)
        RT_RAISE(RT_E_USAGE, "%s: a student that sees its teacher's draws is no teacher; distil the one that it had", c->teacher);
    if (m->oracle || *c->net) RT_TRY(open_student(run, err));
    run->net = run->own_net ? run->own_net : m->net;
    if (rt__draws_seen(c) > 0) {
        rt_net *seeing;
        RT_TRY(rt_net_with_draws(&seeing, run->net, rt__draws_seen(c), err));
        rt_net_free(run->own_net);
        run->net = run->own_net = seeing;
    }
    run->first = m->params;
    d->process = m->process;
    d->null_class = (int)m->info.null_class;
    if (c->data.low == -1 && c->data.high == 1) run->low = m->info.low, run->high = m->info.high; /* what the teacher was trained on */
    d->first = (rt_denoiser){.net = m->net, .set = run->first, .oracle = m->oracle, .prediction = m->prediction};
    bool epsilon = !strcmp(rt_prediction_name(m->prediction), "epsilon");
    const char *asked = !strcmp(c->method, "map") ? c->map.prediction : c->pd.prediction;
    const char *name = *asked ? asked : epsilon && !strcmp(c->method, "pd") ? "v" : rt_prediction_name(m->prediction);
    d->student.prediction = rt_prediction_find(name, err);
    if (!d->student.prediction) return err ? err->status : RT_E_USAGE;
    run->teacher = rt_params_new("teacher", RT_F32);
    if (!run->teacher) RT_RAISE(RT_E_MEMORY, "out of memory for the teacher");
    return rt_net_declare(run->net, run->teacher, err);
}

static rt_status open_net(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    rt_distill *d = &run->d;
    if (!*c->net) RT_RAISE(RT_E_USAGE, "no network to train; give --net with a config.json");
    RT_TRY(rt_net_open(&run->own_net, c->net, err));
    run->net = run->own_net;
    const rt_net_info *i = rt_net_describe(run->net);
    d->null_class = -1;
    if (i->classifier) return RT_OK;
    int labels = run->data ? rt_dataset_describe(run->data)->classes : 0;
    if (i->classes > 0 && labels > 0 && i->classes == labels + 1) d->null_class = labels; /* one row more than labels: the null class */
    rt_process_spec spec = rt_process_defaults(c->diffusion.process);
    spec.timesteps = c->diffusion.timesteps;
    spec.betas = c->diffusion.beta_schedule;
    spec.beta_start = c->diffusion.beta_start;
    spec.beta_end = c->diffusion.beta_end;
    d->student.prediction = rt_prediction_find(c->diffusion.prediction, err);
    if (!d->student.prediction) return err ? err->status : RT_E_USAGE;
    rt_scheduler_config sc;
    RT_TRY(rt_scheduler_config_from(&sc, &spec, d->student.prediction, err));
    rt_status s = rt_scheduler_new(&run->own_scheduler, &sc, false, err);
    rt_scheduler_config_free(&sc);
    RT_TRY(s);
    run->scheduler = run->own_scheduler;
    d->process = rt_scheduler_process(run->scheduler);
    return RT_OK;
}

static rt_status check_data(const rt__run *run, rt_error *err)
{
    const rt_distill *d = &run->d;
    if (!run->data) return RT_OK;
    const rt_dataset_info *i = rt_dataset_describe(run->data);
    const rt_net_info *n = rt_net_describe(run->net);
    bool fits = n->height ? i->rank == 3 && i->shape[0] == n->in_channels && i->shape[1] == n->height && i->shape[2] == n->width
                          : i->rank == 1 && i->shape[0] == n->in_channels;
    if (!fits)
        RT_RAISE(RT_E_INVALID, "%s: items of %lldx%lldx%lld, the network takes %dx%dx%d; give data of that size or another network",
                 run->config->data.path, (long long)i->shape[0], (long long)i->shape[1], (long long)i->shape[2], n->in_channels, n->height,
                 n->width);
    if (d->classes > 0 && i->classes > d->classes)
        RT_RAISE(RT_E_INVALID, "%s: %d classes, the network's table has %d; give a network with num_class_embeds %d or more",
                 run->config->data.path, i->classes, d->classes, i->classes);
    return RT_OK;
}

static rt_status one_of(const char *key, const char *value, const char *const *names, size_t n, rt_error *err)
{
    char all[160] = "";
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(names[i], value)) return RT_OK;
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", names[i]);
    }
    const char *close = rt_closest(value, names, n);
    RT_RAISE(RT_E_USAGE, "%s: '%s'%s%s%s; give one of %s", key, value, close ? "; did you mean '" : "", close ? close : "",
             close ? "'?" : "", all);
}

/* Settings that are names: a wrong one must not pass for the default. */
static rt_status check_names(const rt_config *c, rt_error *err)
{
    static const char *const schedules[] = {"constant", "linear", "cosine"}, *const optimisers[] = {"adam", "adamw", "sgd"};
    static const char *const types[] = {"f32", "bf16"};
    size_t backends = 0;
    while (rt_backend_names()[backends]) backends++;
    RT_TRY(one_of("train.lr-schedule", c->train.lr_schedule, schedules, RT_COUNT(schedules), err));
    RT_TRY(one_of("dtype", c->dtype, types, RT_COUNT(types), err));
    RT_TRY(one_of("train.optimiser", c->train.optimiser, optimisers, RT_COUNT(optimisers), err));
    if (c->train.micro_batch > 0 && c->train.batch % c->train.micro_batch)
        RT_RAISE(RT_E_USAGE, "train.micro-batch: %d does not divide the batch, %d", c->train.micro_batch, c->train.batch);
    if (!(c->data.low < c->data.high)) RT_RAISE(RT_E_USAGE, "data.low: %g; must be less than data.high, %g", c->data.low, c->data.high);
    return *c->backend ? one_of("backend", c->backend, rt_backend_names(), backends, err) : RT_OK;
}

rt_status rt__run_open(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    rt_distill *d = &run->d;
    d->config = c;
    d->err = err;
    d->null_class = -1;
    for (int i = 0; rt__methods[i]; i++)
        if (!strcmp(rt__methods[i]->name, c->method)) d->method = rt__methods[i];
    if (!d->method) RT_RAISE(RT_E_USAGE, "unknown method '%s'; `retort list methods` prints all", c->method);
    RT_TRY(check_names(c, err));
    if (!*c->out) RT_RAISE(RT_E_USAGE, "no run directory; give --out");
    if (d->method->needs_data && !*c->data.path) RT_RAISE(RT_E_USAGE, "%s learns from data; give --data", c->method);
    if (d->method->needs_teacher && !*c->teacher) RT_RAISE(RT_E_USAGE, "%s needs a model to distil; give --teacher", c->method);
    if (*c->data.path) {
        RT_TRY(rt_dataset_open(&run->data, c->data.path, err));
        if (c->data.limit > 0) RT_TRY(rt_dataset_limit(run->data, c->data.limit, err));
    }
    run->low = c->data.low;
    run->high = c->data.high;
    RT_TRY(d->method->needs_teacher ? open_teacher(run, err) : open_net(run, err));
    if (run->data) rt_dataset_range(run->data, run->low, run->high, c->data.flip);
    const rt_net_info *i = rt_net_describe(run->net);
    if (i->draws != rt__draws_seen(c))
        RT_RAISE(RT_E_USAGE, "%s: field '_draws' is %d, but nothing is drawn for it; remove it: pd and kd add it with --draws input",
                 c->net, i->draws);
    d->classes = i->classes;
    d->data = run->data;
    d->rank = i->height ? 4 : 2;
    d->shape[0] = RT_BATCH;
    d->shape[1] = i->in_channels;
    d->shape[2] = i->height;
    d->shape[3] = i->width;
    d->features = (int64_t)i->in_channels * (i->height ? i->height * i->width : 1);
    RT_TRY(check_data(run, err));
    run->student = rt_params_new("student", RT_F32);
    run->shown = rt_params_new("shown", RT_F32);
    if (!run->student || !run->shown) RT_RAISE(RT_E_MEMORY, "out of memory for the student");
    RT_TRY(rt_net_declare(run->net, run->student, err));
    RT_TRY(rt_net_declare(run->net, run->shown, err));
    d->student.net = d->shown.net = run->net;
    d->student.set = run->student;
    d->shown.set = run->shown;
    d->shown.prediction = d->student.prediction;
    d->first.null_class = d->student.null_class = d->shown.null_class = d->null_class;
    d->student.solver = d->shown.solver = rt_solver_find("ddim", err);
    if (run->first && run->own_net && !*c->init)
        RT_TRY(inherit(run->student, run->first, c->seed, err));
    else if (run->first && !run->own_net)
        RT_TRY(rt_params_copy(run->student, RT_VALUE, run->first, RT_VALUE, err));
    else if (*c->init)
        RT_TRY(rt_net_load(run->net, run->student, c->init, NULL, err));
    else
        RT_TRY(rt_params_init(run->student, c->seed, err));

    return d->method->plan(d); /* what cannot be is refused before anything is written */
}

rt_status rt__run_claim(rt__run *run, bool resume, rt_error *err)
{
    const rt_config *c = run->config;
    char path[RT_CONFIG_TEXT + 64];
    snprintf(path, sizeof path, "%s/config.yaml", c->out);
    if (!resume && rt__file_exists(path))
        RT_RAISE(RT_E_IO, "%s: holds a run; give --resume to go on with it, --force to start again, or another --out", c->out);
    snprintf(path, sizeof path, "%s/samples", c->out);
    RT_TRY(rt__make_folders(path, err));
    snprintf(path, sizeof path, "%s/checkpoints", c->out);
    RT_TRY(rt__make_folders(path, err));
    snprintf(path, sizeof path, "%s/.lock", c->out);
    RT_TRY(rt__lock(path, &run->lock, err));
    snprintf(path, sizeof path, "%s/choices.json", c->out);
    if (resume && run->d.choices) RT_TRY(rt_choices_read(run->d.choices, path, err));
    snprintf(path, sizeof path, "%s/config.yaml", c->out);
    return resume ? RT_OK : rt_config_write(c, path, err);
}

rt_status rt__run_keep_choices(const rt__run *run, rt_error *err)
{
    char path[RT_CONFIG_TEXT + 64];
    snprintf(path, sizeof path, "%s/choices.json", run->config->out);
    return run->d.choices ? rt_choices_keep(run->d.choices, path, err) : RT_OK;
}

void rt__run_close(rt__run *run)
{
    free(run->d.fine);
    rt_params_free(run->student);
    rt_params_free(run->shown);
    rt_params_free(run->teacher);
    rt_model_free(run->origin);
    rt_scheduler_free(run->own_scheduler);
    rt_net_free(run->own_net);
    rt_dataset_free(run->data);
    rt__unlock(&run->lock);
}
