/* run.c -- opening and closing a run: what the task is given, from paths; the directory. */
#include "train/run.h"

#include "base/files.h"
#include "base/internal.h"
#include "retort/format.h"
#include "model/model_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void note(const rt__run *run, const char *line)
{
    if (*line && run->observer && run->observer->note) run->observer->note(run->observer->self, line);
}

/* The network of the setting `net` for a student must take what the teacher takes. */
static rt_status check_student(const rt__run *run, rt_error *err)
{
    const rt_model_info *m = rt_model_get_info(run->teacher);
    const rt_net_info *n = rt_net_describe(run->net);
    int64_t features = (int64_t)n->in_channels * (n->height ? n->height * n->width : 1);
    if (n->camera) RT_RAISE(RT_E_USAGE, "%s: field '_camera': no student is told a camera's matrix; leave it out", run->config->net);
    if (n->classifier || n->classes != m->classes || features != m->features)
        RT_RAISE(RT_E_INVALID, "%s: a %s of %lld numbers and %d classes cannot stand for the teacher, which has %lld and %lld",
                 run->config->net, n->kind, (long long)features, n->classes, (long long)m->features, (long long)m->classes);
    if (!rt_words_equal(n->words, m->words))
        RT_RAISE(RT_E_INVALID, "%s: field '_words': the student's words are not its teacher's; copy them from the teacher's config.json",
                 run->config->net);
    return RT_OK;
}

/* Labels, those of all items first; then how many items, in which range. */
static rt_status tell(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    const rt_task *t = &run->task;
    RT_TRY(rt_dataset_tell(run->data, c->data.labels, t->words, err));
    if (c->data.limit > 0) RT_TRY(rt_dataset_limit(run->data, c->data.limit, err));
    rt_dataset_range(run->data, t->low, t->high, c->data.flip);
    return RT_OK;
}

static rt_status open_teacher(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    rt_task *t = &run->task;
    RT_TRY(rt_model_open(&run->teacher,
                         &(rt_model_spec){.path = c->teacher,
                                          .threads = c->threads,
                                          .choices = t->choices,
                                          .backend = *c->backend ? c->backend : NULL,
                                          .compute = rt_config_compute(c),
                                          .null_class = c->null_class,
                                          .has_null_class = c->null_class >= 0},
                         err));
    rt_model *m = run->teacher;
    note(run, m->info.remark);
    run->scheduler = m->scheduler;
    RT_TRY(rt__model_check_whole(m, err));
    if (!t->method->showing) RT_TRY(rt__model_check_alone(m, err));
    if (!run->scheduler || !m->process)
        RT_RAISE(RT_E_INVALID, "%s: its student needs a diffusers configuration of the process; give %s", c->teacher,
                 m->oracle ? "'scheduler' in place of 'process' in that file" : "a diffusers folder");
    if (rt_scheduler_clip(m->scheduler) > 0)
        note(run, "the teacher's clip_sample is not used: distillation follows the network as it is, and the student is not clipped");
    if (m->net && rt_net_describe(m->net)->draws)
        RT_RAISE(RT_E_USAGE, "%s: a student that sees its teacher's draws is no teacher; distil the one that it had", c->teacher);
    bool network = *c->net && !t->method->showing;
    if (network) RT_TRY(rt_net_open(&run->net, c->net, err));
    if (network) RT_TRY(check_student(run, err));
    t->omega_low = m->info.recipe.guidance_low;
    t->omega_high = m->info.recipe.guidance_high;
    t->process = m->process;
    t->null_class = (int)m->info.null_class;
    t->words = m->info.words;
    if (t->words && rt_words_prompts(t->words) == 0)
        RT_RAISE(RT_E_USAGE,
                 "%s: the teacher is told words and lists no prompts for samples that are drawn; list some as 'prompts' in '_words' of its "
                 "config.json",
                 c->teacher);
    t->classes = (int)m->info.classes;
    if (c->data.low == -1 && c->data.high == 1) t->low = m->info.low, t->high = m->info.high; /* what the teacher was trained on */
    t->teacher =
        (rt_denoiser){.net = m->net, .set = m->params, .oracle = m->oracle, .prediction = m->prediction, .null_class = m->info.null_class};
    return run->data ? tell(run, err) : RT_OK;
}

/* A model from data: the process is that of the settings, where the method has one. */
static rt_status open_net(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    rt_task *t = &run->task;
    if (!*c->net) RT_RAISE(RT_E_USAGE, "no network to train; give --net with a config.json, which `retort init --data DATA` writes");
    RT_TRY(rt_net_open(&run->net, c->net, err));
    const rt_net_info *i = rt_net_describe(run->net);
    t->classes = i->classes;
    t->words = i->words;
    if (run->data) RT_TRY(tell(run, err));
    if (i->camera)
        RT_RAISE(RT_E_USAGE, "%s: field '_camera': the network is told a camera's matrix, which no data set gives; leave it out", c->net);
    if (i->classifier || !t->method->process) return RT_OK;
    int labels = run->data ? rt_dataset_describe(run->data)->classes : 0;
    if (i->words)
        t->null_class = 0; /* no words */
    else if (i->classes > 0 && labels > 0 && i->classes == labels + 1)
        t->null_class = labels; /* one row more than labels: the null class */
    rt_scheduler_config sc;
    RT_TRY(t->method->process(c, &sc, err));
    rt_status s = rt_scheduler_new(&run->own_scheduler, &sc, false, err);
    rt_scheduler_config_free(&sc);
    RT_TRY(s);
    run->scheduler = run->own_scheduler;
    t->process = rt_scheduler_process(run->scheduler);
    return RT_OK;
}

static rt_status open_init(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    RT_TRY(rt_model_open(&run->init, &(rt_model_spec){.path = c->init, .threads = c->threads, .unhashed = true}, err));
    const rt_model *m = run->init;
    if (!m->net) RT_RAISE(RT_E_USAGE, "init: %s has no weights to start from; give a model folder", c->init);
    run->task.init = (rt_denoiser){.net = m->net, .set = m->params, .prediction = m->prediction};
    return RT_OK;
}

static rt_status check_data(const rt__run *run, rt_error *err)
{
    const rt_task *t = &run->task;
    const rt_net *net = run->net ? run->net : t->teacher.net;
    if (!run->data || !net) return RT_OK;
    const rt_dataset_info *i = rt_dataset_describe(run->data);
    const rt_net_info *n = rt_net_describe(net);
    bool fits = n->height ? i->rank == 3 && i->shape[0] == n->in_channels && i->shape[1] == n->height && i->shape[2] == n->width
                          : i->rank == 1 && i->shape[0] == n->in_channels;
    if (!fits && i->pictures && i->shape[0] == n->in_channels && n->height > 0 && n->height == n->width)
        RT_RAISE(RT_E_INVALID, "%s: pictures of %lldx%lld, the network takes %dx%d; --resize %d --crop %d makes them so",
                 run->config->data.path, (long long)i->shape[2], (long long)i->shape[1], n->width, n->height, n->height, n->height);
    char have[128], want[128];
    rt_shape_text(have, sizeof have, i->rank, i->shape);
    rt_shape_text(want, sizeof want, n->height ? 3 : 1, (int64_t[]){n->in_channels, n->height, n->width});
    if (!fits)
        RT_RAISE(RT_E_INVALID, "%s: items of %s%s, the network takes %s%s; give data of that size or another network",
                 run->config->data.path, have, i->rank == 1 ? " numbers" : "", want, n->height ? "" : " numbers");
    if (t->classes > 0 && i->classes > t->classes)
        RT_RAISE(RT_E_INVALID, "%s: %d classes, the network's table has %d; give a network with num_class_embeds %d or more",
                 run->config->data.path, i->classes, t->classes, i->classes);
    return RT_OK;
}

/* Numbers for rounds that there are not would go without effect. A method's default serves any number of rounds. */
static rt_status check_updates(const rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    rt_config usual;
    RT_TRY(rt_config_method(&usual, c->method, err));
    if (c->train.n_updates <= run->task.plan.n_rounds || c->train.images > 0 ||
        (c->train.n_updates == usual.train.n_updates &&
         !memcmp(c->train.updates, usual.train.updates, (size_t)usual.train.n_updates * sizeof *usual.train.updates)))
        return RT_OK;
    RT_RAISE(RT_E_USAGE, "train.updates: %d numbers for %d round%s; give at most one for each", c->train.n_updates, run->task.plan.n_rounds,
             run->task.plan.n_rounds > 1 ? "s" : "");
}

/* What will be saved must be something that its folder can say. */
static rt_status check_result(const rt__run *run, rt_error *err)
{
    rt_scheduler_config c;
    if (!run->task.process || !run->scheduler) return RT_OK;
    RT_TRY(rt_scheduler_config_student(&c, rt_scheduler_get_config(run->scheduler), rt__deployed(&run->task)->denoiser.prediction, err));
    rt_scheduler_config_free(&c);
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

/* A batch is whole shards, a shard whole slices. */
static rt_status check_shards(const rt_config *c, rt_error *err)
{
    int shards = c->train.shards > 0 ? c->train.shards : 1;
    if (shards & (shards - 1)) RT_RAISE(RT_E_USAGE, "train.shards: %d; must be a power of two, and so must be the number of ranks", shards);
    if (c->train.batch % shards)
        RT_RAISE(RT_E_USAGE, "train.shards: %d does not divide the batch, %d; give another --batch or --shards", shards, c->train.batch);
    if (c->train.micro_batch > 0 && rt__shard(c) % c->train.micro_batch)
        RT_RAISE(RT_E_USAGE, "train.micro-batch: %d does not divide the %s, %d", c->train.micro_batch,
                 shards > 1 ? "shard of a batch" : "batch", rt__shard(c));
    return RT_OK;
}

/* Settings that are names: a wrong one must not pass for the default. */
static rt_status check_names(const rt_config *c, rt_error *err)
{
    static const char *const schedules[] = {"constant", "linear", "cosine", "tenth"}, *const optimisers[] = {"adam", "adamw", "radam",
                                                                                                             "sgd"};
    static const char *const types[] = {"f32", "bf16"};
    size_t backends = 0;
    while (rt_backend_names()[backends]) backends++;
    RT_TRY(one_of("train.lr-schedule", c->train.lr_schedule, schedules, RT_COUNT(schedules), err));
    RT_TRY(one_of("dtype", c->dtype, types, RT_COUNT(types), err));
    RT_TRY(one_of("train.optimiser", c->train.optimiser, optimisers, RT_COUNT(optimisers), err));
    if (*c->data.alpha) RT_TRY(one_of("data.alpha", c->data.alpha, rt_alpha_names + 1, 3, err));
    RT_TRY(check_shards(c, err));
    if (!(c->data.low < c->data.high)) RT_RAISE(RT_E_USAGE, "data.low: %g; must be less than data.high, %g", c->data.low, c->data.high);
    return *c->backend ? one_of("backend", c->backend, rt_backend_names(), backends, err) : RT_OK;
}

/* Each rank has whole shards, and all compute alike. */
static rt_status check_ranks(const rt_config *c, int ranks, rt_error *err)
{
    int shards = c->train.shards, most = 0;
    char numbers[160] = "1";
    for (int n = 2; n <= shards && most < 8; n *= 2, most++)
        snprintf(numbers + strlen(numbers), sizeof numbers - strlen(numbers), "%s%d", 2 * n > shards ? " or " : ", ", n);
    if (shards % ranks)
        RT_RAISE(RT_E_USAGE, "train.shards: the run has %d shard%s, which %d ranks cannot share; use %s, or begin one with --shards %d",
                 shards, shards > 1 ? "s" : "", ranks, numbers, ranks);
    if (c->tune)
        RT_RAISE(RT_E_USAGE, "tune: each of %d ranks would try kernels for itself and compute other bits; leave --tune out", ranks);
    return RT_OK;
}

rt_status rt__run_open(rt__run *run, rt_error *err)
{
    const rt_config *c = run->config;
    rt_task *t = &run->task;
    t->config = c;
    t->null_class = -1;
    t->method = rt__method_find(c->method);
    if (!t->method) return rt__method_unknown(c->method, err);
    RT_TRY(check_names(c, err));
    if (t->ranks) RT_TRY(check_ranks(c, rt_ranks_size(t->ranks), err));
    if (!*c->out) RT_RAISE(RT_E_USAGE, "no run directory; give --out");
    if (t->method->needs_data && !*c->data.path) RT_RAISE(RT_E_USAGE, "%s learns from data; give --data", rt_method_called(c->method));
    if (t->method->needs_teacher && !*c->teacher)
        RT_RAISE(RT_E_USAGE, "%s needs a model to distil; give --teacher", rt_method_called(c->method));
    if (*c->data.path) {
        RT_TRY(rt_dataset_open_fit(&run->data, c->data.path, rt_config_fit(c), err));
        note(run, rt_dataset_describe(run->data)->remark);
    }
    t->low = c->data.low;
    t->high = c->data.high;
    RT_TRY(t->method->needs_teacher ? open_teacher(run, err) : open_net(run, err));
    if (*c->init) RT_TRY(open_init(run, err));
    t->net = run->net;
    t->data = run->data;
    RT_TRY(check_data(run, err));
    RT_TRY(rt__task_open(t, err));
    RT_TRY(check_updates(run, err));
    RT_TRY(rt__watch_check(run, err));
    RT_TRY(check_result(run, err));
    return rt__run_remarks(run, err);
}

bool rt__run_exists(const rt_config *c)
{
    char path[RT_CONFIG_TEXT + 64];
    snprintf(path, sizeof path, "%s/config.yaml", c->out);
    return rt__file_exists(path);
}

rt_status rt_run_check_free(const char *folder, rt_error *err)
{
    char path[RT_CONFIG_TEXT + 64];
    int lock;
    snprintf(path, sizeof path, "%s/.lock", folder);
    if (!rt__file_exists(path)) return RT_OK;
    RT_TRY(rt__lock(path, &lock, err));
    rt__unlock(&lock);
    return RT_OK;
}

rt_status rt__run_claim(rt__run *run, bool resume, rt_error *err)
{
    const rt_config *c = run->config;
    char path[RT_CONFIG_TEXT + 64];
    if (!rt__run_writes(run)) return RT_OK;
    if (!resume && rt__run_exists(c))
        RT_RAISE(RT_E_IO, "%s: holds a run; give --resume to go on with it, --force to start again, or another --out", c->out);
    snprintf(path, sizeof path, "%s/samples", c->out);
    RT_TRY(rt__make_folders(path, err));
    snprintf(path, sizeof path, "%s/checkpoints", c->out);
    RT_TRY(rt__make_folders(path, err));
    snprintf(path, sizeof path, "%s/.lock", c->out);
    RT_TRY(rt__lock(path, &run->lock, err));
    snprintf(path, sizeof path, "%s/choices.json", c->out);
    if (resume && run->task.choices) RT_TRY(rt_choices_read(run->task.choices, path, err));
    snprintf(path, sizeof path, "%s/config.yaml", c->out);
    return resume ? RT_OK : rt_config_write(c, path, err);
}

rt_status rt__run_keep_choices(const rt__run *run, rt_error *err)
{
    char path[RT_CONFIG_TEXT + 64];
    snprintf(path, sizeof path, "%s/choices.json", run->config->out);
    return run->task.choices && rt__run_writes(run) ? rt_choices_keep(run->task.choices, path, err) : RT_OK;
}

void rt__run_close(rt__run *run)
{
    rt__meters_close(&run->meters);
    rt_params_free(run->selected);
    rt__round_close(&run->round);
    rt__task_close(&run->task);
    rt_model_free(run->teacher);
    rt_model_free(run->init);
    rt_scheduler_free(run->own_scheduler);
    rt_net_free(run->net);
    rt_dataset_free(run->data);
    rt__unlock(&run->lock);
}
