/* runs.c -- from options to a run: train and distill differ only in the method and its own options. */
#include "runs.h"
#include "method_options.h"
#include "joined_ranks.h"
#include "next.h"

#include "retort/train.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const cli_option cli_run_options[] = {
    {"out", 'o', "RUN", "out", NULL, "the run directory", NULL},
    {"data", 0, "DATA", "data.path", NULL, "idx, folder of images, zip, .safetensors, or toy:NAME", NULL},
    CLI_FIT_OPTIONS,
    {"labels", 0, "WHAT", "data.labels", NULL,
     "what is told of an item: class, camera, class-camera, caption, caption-camera, or words with commas between them: which of them its "
     "caption has",
     NULL},
    {"data-range", 0, "LOW,HIGH", NULL, NULL, "the range of the model's values (-1,1)", NULL},
    {"updates", 0, "N[,N...]", "train.updates", NULL, "optimiser updates, per round; the last number repeats", NULL},
    {"batch", 'b', "N", "train.batch", NULL, "examples per update", NULL},
    {"micro-batch", 0, "N", "train.micro-batch", NULL, "examples computed at a time: less memory, the same update", NULL},
    {"shards", 0, "S", "train.shards", NULL,
     "equal parts of a batch, added in a fixed tree: the same bits on any number of ranks that divides S", NULL},
    {"timeout", 0, "S", "run.timeout", NULL, "seconds that ranks wait for each other (600): then the run ends with 8", NULL},
    {"recompute", 0, NULL, "train.recompute", NULL, "make cheap values again in the backward pass: less memory, the same bits", NULL},
    {"lr", 0, "RATE", "train.lr", NULL, "learning rate at its highest", NULL},
    {"weight", 0, "NAME", "train.weight", NULL, "weight of the loss over time: retort list weights", NULL},
    {"resume", 0, NULL, NULL, NULL, "go on from the newest checkpoint of --out", NULL},
    {"until-update", 0, "N", "run.until-update", NULL, "stop early, with a checkpoint", NULL},
    {"checkpoint-every", 0, "N", "run.checkpoint-every", NULL, "updates between checkpoints", NULL},
    {"checkpoint-minutes", 0, "M", "run.checkpoint-minutes", NULL, "minutes after which there is a checkpoint at the latest; 0: off", NULL},
    {"keep", 0, "K", "run.keep", NULL, "checkpoints kept", NULL},
    {"select", 0, "METRIC", "run.select", NULL, "keep the student that this meter was best of (methods with meters: docs/meters.md)", NULL},
    {"features", 0, "MODEL", "run.features", NULL, "a classifier: recall and coverage in its features are meters, too", NULL},
    {"stop-on", 0, "WHAT", "run.stop-on", NULL, "flat:METER ends a run whose meter stands still, collapse leaves with 7", NULL},
    {0}};

const char *const *cli_run_keys(void)
{
    static const char *names[512];
    rt_config_key key;
    if (!names[0])
        for (int i = 0; i < 511 && rt_config_key_at(NULL, i, &key); i++) names[i] = key.name;
    return names;
}

static bool may_change(const char *method, const char *name)
{
    rt_config_key key;
    for (int i = 0; rt_config_key_at(method, i, &key); i++)
        if (strcmp(key.name, name) == 0) return key.volatile_key;
    return false;
}

/* ---- the configuration */

typedef struct target {
    cli_call *c;
    rt_config *config;
    bool resume;
    rt_error *err;
} target;

/* Is it an option for one setting? */
static bool is_one_key(const char *source)
{
    return strncmp(source, "--", 2) == 0 && strcmp(source, "--divergence") != 0 && strcmp(source, "--data-range") != 0;
}

/* Sets one key. A resumed run keeps what it began with, so there a value may only repeat or concern how the run is kept. */
static rt_status set(const target *t, const char *source, const char *key, const char *text)
{
    char before[RT_CONFIG_TEXT], after[RT_CONFIG_TEXT];
    rt_status status = rt_config_get(t->config, key, before, sizeof before, t->err);
    if (status == RT_OK) status = rt_config_set(t->config, key, text, t->err);
    if (status != RT_OK) {
        size_t n = strlen(key);
        if (is_one_key(source) && strncmp(t->err->text, key, n) == 0 && t->err->text[n] == ':') /* one name is enough */
            memmove(t->err->text, t->err->text + n + 2, strlen(t->err->text + n + 1));
        if (strcmp(source, key) != 0) rt_error_prefix(t->err, "%s", source);
        return status;
    }
    TRY(rt_config_get(t->config, key, after, sizeof after, t->err));
    /* more updates are what rt_run_train takes for rounds that go on */
    if (t->resume && strcmp(before, after) != 0 && !may_change(t->config->method, key) && strcmp(key, "train.updates") != 0)
        return rt_error_set(t->err, RT_E_USAGE, "%s: %s contradicts the run, which has %s = %s; leave it out, or start another run", source,
                            text, key, before);
    return RT_OK;
}

static rt_status set_method_option(const target *t, const cli_value *v)
{
    const char *name = v->option->name, *method = t->config->method;
    char source[64];
    rt_config_key key;
    snprintf(source, sizeof source, "--%s", name);
    if (!cli_method_key(method, name, &key)) {
        const char *close = cli_method_option_of(method, name);
        return rt_error_set(t->err, RT_E_USAGE, "--%s: the method %s has no such setting%s%s%s", name, rt_method_called(method),
                            close ? "; did you mean --" : "", close ? close : "", close ? "?" : "");
    }
    return set(t, source, key.name, v->text);
}

static bool is_divergence(const cli_value *v) { return strcmp(v->option->name, "divergence") == 0; }

/* --divergence, before the other options: what it sets, one of them may say otherwise. */
static rt_status set_divergence(const target *t)
{
    const char *name = NULL;
    rt_minimiser m;
    for (int i = 0; i < t->c->n_values; i++)
        if (is_divergence(&t->c->values[i])) name = t->c->values[i].text;
    if (!name) return RT_OK;
    rt_status status = rt_minimiser_of(name, t->config->method, &m, t->err);
    if (status == RT_OK && m.key) return set(t, "--divergence", m.key, m.value);
    if (status != RT_OK) rt_error_prefix(t->err, "--divergence");
    return status;
}

static rt_status set_range(const target *t)
{
    double *range;
    if (!cli_given(t->c, "data-range")) return RT_OK;
    int n = cli_reals(t->c, "data-range", -1e6, 1e6, &range);
    if (n != 2 && cli_ok(t->c, NULL) == RT_OK) cli_wrong(t->c, "data-range", "'%s' is not LOW,HIGH", cli_text(t->c, "data-range"));
    TRY(cli_ok(t->c, t->err));
    char text[64];
    snprintf(text, sizeof text, "%.17g", range[0]);
    TRY(set(t, "--data-range", "data.low", text));
    snprintf(text, sizeof text, "%.17g", range[1]);
    return set(t, "--data-range", "data.high", text);
}

static bool is_method_option(const cli_call *c, const cli_option *o)
{
    for (const cli_option *own = c->command->method_options(); own->name; own++)
        if (own == o) return true;
    return false;
}

static bool reads(const char *method, const char *name)
{
    rt_config_key key;
    for (int i = 0; name && rt_config_key_at(method, i, &key); i++)
        if (strcmp(key.name, name) == 0) return true;
    return false;
}

static bool is_key(const char *name)
{
    for (const char *const *k = cli_run_keys(); *k; k++)
        if (strcmp(*k, name) == 0) return true;
    return false;
}

/* The environment speaks to all commands: what it says of keys that this method does not have is for others. */
static bool is_for_others(const target *t, const char *key, cli_origin origin)
{
    return origin == CLI_ENVIRONMENT && key && !reads(t->config->method, key);
}

/* What the options say, or what stands elsewhere. */
static rt_status set_given(const target *t, bool by_options)
{
    cli_call *c = t->c;
    for (int i = 0; i < c->n_open; i++)
        if ((c->open[i].origin == CLI_OPTION) == by_options && !is_for_others(t, c->open[i].key, c->open[i].origin))
            TRY(set(t, c->open[i].key, c->open[i].key, c->open[i].text));
    for (int i = 0; i < c->n_values; i++) {
        const cli_value *v = &c->values[i];
        if (v->origin <= CLI_DEFAULT || (v->origin == CLI_OPTION) != by_options || is_divergence(v) ||
            is_for_others(t, v->option->key, v->origin))
            continue;
        char source[80];
        snprintf(source, sizeof source, v->origin == CLI_OPTION ? "--%s" : "%s",
                 v->origin == CLI_OPTION ? v->option->name : v->option->key);
        rt_config_key own;
        bool methods = v->origin == CLI_OPTION &&
                       cli_method_key(t->config->method, v->option->name, &own); /* --weight is train.weight, of vsd vsd.weight */
        if (v->option->key && is_key(v->option->key) && !methods)
            TRY(set(t, source, v->option->key, v->text));
        else if (methods || is_method_option(c, v->option))
            TRY(set_method_option(t, v));
    }
    return RT_OK;
}

static rt_status set_all(const target *t)
{
    TRY(set_given(t, false));
    TRY(set_divergence(t));
    TRY(set_given(t, true));
    return set_range(t);
}

/* Is there nothing in the folder but what a run makes before it is one? Or no folder. */
static bool not_begun(const char *out)
{
    bool empty = true;
    DIR *d = opendir(out);
    for (struct dirent *e; d && (e = readdir(d));)
        empty = empty && (e->d_name[0] == '.' || !strcmp(e->d_name, "samples") || !strcmp(e->d_name, "checkpoints"));
    if (d) closedir(d);
    return empty;
}

static bool is_given_by_option(const cli_call *c, const char *name)
{
    for (int i = 0; i < c->n_values; i++)
        if (strcmp(c->values[i].option->name, name) == 0) return c->values[i].origin == CLI_OPTION;
    return false;
}

static rt_status resolve(cli_call *c, const char *method, bool *resume, rt_config *config, rt_error *err)
{
    const char *out = cli_text(c, "out");
    char path[RT_CONFIG_TEXT + 16];
    if (*resume && !out) return rt_error_set(err, RT_E_USAGE, "--resume needs --out RUN: the run to go on with");
    if (*resume && not_begun(out)) {
        cli_remark(c, "--resume: there is no run to go on with yet: it is begun");
        *resume = false;
    }
    target t = {c, config, *resume, err};
    TRY(rt_config_method(config, method, err));
    if (*resume) {
        snprintf(path, sizeof path, "%s/config.yaml", out);
        rt_config_default(config); /* to see which method it is */
        TRY(rt_config_read(config, path, err));
        const char *with_scene = rt_method_with_scene(method);
        if (with_scene && strcmp(config->method, with_scene) == 0) method = with_scene;
        if (strcmp(config->method, method) != 0)
            return rt_error_set(err, RT_E_USAGE, "%s: is a run of %s, not of %s", out, rt_method_called(config->method),
                                rt_method_called(method));
        TRY(rt_config_method(config, method, err));
        TRY(rt_config_read(config, path, err));
        TRY(rt_config_set(config, "run.until-update", "0", err)); /* where the last process was to stop says nothing about this one */
    }
    TRY(set_all(&t));
    if (config->train.images > 0 && is_given_by_option(c, "updates"))
        return rt_error_set(err, RT_E_USAGE, "--updates: train.images is %lld and counts instead; leave one out, or set train.images=0",
                            (long long)config->train.images);
    if (cli_flag(c, "deterministic")) TRY(set(&t, "--deterministic", "tune", "false"));
    if (strcmp(config->method, method) != 0)
        return rt_error_set(err, RT_E_USAGE, "%s: the configuration is for the method %s", rt_method_called(method),
                            rt_method_called(config->method));
    if (!*config->out) return rt_error_set(err, RT_E_USAGE, "--out is missing: the run directory to write");
    return RT_OK;
}

/* ---- watching */

typedef struct watcher {
    cli_call *c;
    cli_progress progress;
    char what[128], words[192]; /* words: of the report that comes next; empty: it has none */
    int64_t done;
} watcher;

static void close_progress(watcher *w)
{
    if (*w->what) cli_progress_end(&w->progress, (double)w->done);
    *w->what = 0;
}

static void on_progress(void *self, const char *what, int64_t done, int64_t total, const char *unit, double loss)
{
    watcher *w = self;
    if (strcmp(w->what, what) != 0) {
        close_progress(w);
        snprintf(w->what, sizeof w->what, "%s", what);
        cli_progress_start(&w->progress, w->c, w->what, unit, (double)total, done > 1);
    }
    if (isfinite(loss)) snprintf(w->progress.remark, sizeof w->progress.remark, "loss %.4g", loss);
    w->progress.lively = *w->words;
    if (*w->words) snprintf(w->progress.remark, sizeof w->progress.remark, "%s", w->words);
    *w->words = 0;
    w->done = done;
    cli_progress_at(&w->progress, (double)done);
}

static void on_meters(void *self, const char *line)
{
    watcher *w = self;
    if (w->progress.width && *w->what && !w->c->quiet) fputs("\r\033[K", stderr); /* the live line comes again */
    cli_say(w->c, "%s", line);
}

static void on_note(void *self, const char *line)
{
    watcher *w = self;
    if (w->progress.width && *w->what && !w->c->quiet) fputs("\r\033[K", stderr); /* the live line comes again */
    cli_remark(w->c, line);
}

static void on_live(void *self, const char *text)
{
    watcher *w = self;
    snprintf(w->words, sizeof w->words, "%s", text);
}

static bool on_stop(void *self)
{
    (void)self;
    return cli_interrupted() != 0;
}

/* ---- the result */

static void report_rounds(cli_call *c, const rt_run_summary *s)
{
    json_t *rounds = json_array();
    /* a model trained from data has no steps to compare, a student of scores no maps */
    bool steps = s->n_rounds > 0 && s->rounds[0].steps > 0 && isfinite(s->rounds[0].drift);
    if (steps && !c->json) fprintf(c->text, "steps  from  updates    loss       residual   relative   own teacher  drift      seconds\n");
    for (int i = 0; i < s->n_rounds; i++) {
        const rt_round_report *r = &s->rounds[i];
        if (steps && !c->json)
            fprintf(c->text, "%-6d %-5d %-10lld %-10.4g %-10.4g %-10.4g %-12.4g %-10.4g %.1f\n", r->steps, r->teacher_steps,
                    (long long)r->updates, r->loss, r->residual, r->residual_relative, r->own_teacher, r->drift, r->seconds);
        json_t *o = json_pack("{s:i, s:i, s:I, s:I, s:f}", "steps", r->steps, "teacher_steps", r->teacher_steps, "updates",
                              (json_int_t)r->updates, "examples", (json_int_t)r->examples, "seconds", r->seconds);
        json_object_set_new(o, "loss", cli_json_real(r->loss));
        json_object_set_new(o, "residual_rms", cli_json_real(r->residual));
        json_object_set_new(o, "residual_relative", cli_json_real(r->residual_relative));
        json_object_set_new(o, "own_teacher_rms", cli_json_real(r->own_teacher));
        json_object_set_new(o, "drift_rms", cli_json_real(r->drift));
        json_object_set_new(o, "teacher_spread_rms", cli_json_real(r->spread));
        if (isfinite(r->spread))
            cli_say(c, "%d steps: the teacher's steps spread by %.4g (RMS) over their draws, which hidden draws leave as a residual",
                    r->steps, r->spread);
        json_array_append_new(rounds, o);
    }
    cli_put(c, "rounds", rounds);
}

static void report(cli_call *c, const rt_config *config, const rt_run_summary *s)
{
    report_rounds(c, s);
    cli_put(c, "method", json_string(rt_method_command(config->method)));
    cli_put(c, "out", json_string(config->out));
    cli_put(c, "result", *s->result ? json_string(s->result) : json_null());
    cli_put(c, "updates", json_integer(s->updates));
    cli_put(c, "images", json_integer(s->images));
    cli_put(c, "loss", cli_json_real(s->loss));
    cli_put(c, "accuracy", cli_json_real(s->accuracy));
    cli_put(c, "run_seconds", cli_json_real(s->seconds));
    if (isfinite(s->accuracy)) cli_say(c, "accuracy on the held-out data: %.2f%%", 100 * s->accuracy);
    if (*s->result)
        cli_say(c, isfinite(s->loss) ? "%s: %lld updates, %lld examples, %.0f s, loss %.4g" : "%s: %lld updates, %lld examples, %.0f s",
                s->result, (long long)s->updates, (long long)s->images, s->seconds, s->loss);
    if (cli_ranks())
        cli_say(c, "rank 0 sent %lld bytes to the others by %s", (long long)rt_ranks_sent(cli_ranks()), rt_ranks_name(cli_ranks()));
}

static rt_status say_plan(cli_call *c, const rt_config *config, rt_error *err)
{
    rt_run_plan plan = {0};
    TRY(rt_run_plan_only(config, &plan, err));
    json_t *keys = json_object();
    rt_config_key key;
    for (int i = 0; rt_config_key_at(config->method, i, &key); i++) {
        char text[RT_CONFIG_TEXT];
        TRY(rt_config_get(config, key.name, text, sizeof text, err));
        if (*text && !c->json) fprintf(c->text, "%s: %s\n", key.name, text);
        json_object_set_new(keys, key.name, json_string(text));
    }
    cli_say(c, "would write %s: %lld parameters, %lld updates of %.3g GFLOP, %.0f MiB of memory, %.0f MiB on disk", config->out,
            (long long)plan.parameters, (long long)plan.updates, plan.flop_per_update * 1e-9, (double)plan.bytes / 0x1p20,
            (double)plan.disk / 0x1p20);
    if (plan.device_bytes > 0) cli_say(c, "%.0f MiB of memory on the device", (double)plan.device_bytes / 0x1p20);
    cli_put(c, "configuration", keys);
    cli_put(c, "plan",
            json_pack("{s:I, s:I, s:f, s:I, s:I}", "parameters", (json_int_t)plan.parameters, "updates", (json_int_t)plan.updates,
                      "update_flop", plan.flop_per_update, "memory_bytes", (json_int_t)plan.bytes, "disk_bytes", (json_int_t)plan.disk));
    return RT_OK;
}

/* `--config RUN/config.yaml` repeats the run, bit for bit: with the kernels that it was made with. */
static rt_status read_choices_beside(const char *config, rt_choices *choices, rt_error *err)
{
    const char *slash = strrchr(config, '/');
    char path[RT_CONFIG_TEXT + 16];
    snprintf(path, sizeof path, "%.*schoices.json", slash ? (int)(slash + 1 - config) : 0, config);
    return rt_choices_read(choices, path, err);
}

/* Rank 0 reads the command line and the run's folder for all. */
static rt_status resolve_for_all(cli_call *c, const char *method, bool *resume, rt_config *config, rt_error *err)
{
    rt_ranks *ranks = cli_ranks();
    rt_status status = rt_ranks_rank(ranks) == 0 ? resolve(c, method, resume, config, err) : RT_OK;
    TRY(rt_ranks_agree(ranks, status, err));
    TRY(rt_ranks_broadcast(ranks, config, sizeof *config, err));
    return rt_ranks_broadcast(ranks, resume, sizeof *resume, err);
}

/* What stands at `out` goes only where the run that takes its place can begin: its settings and files are opened first. */
static rt_status replace(const rt_config *config, rt_error *err)
{
    static const char *const inputs[] = {"teacher", "init", "net", "data.path", "scene.init"};
    char text[RT_CONFIG_TEXT];
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        if (rt_config_get(config, inputs[i], text, sizeof text, NULL) == RT_OK && *text && cli_holds(config->out, text))
            return rt_error_set(err, RT_E_USAGE, "--out %s: would be replaced, but %s, %s, lies there; choose another name", config->out,
                                inputs[i], text);
    rt_run_plan plan = {0};
    if (access(config->out, F_OK) == 0) TRY(rt_run_plan_only(config, &plan, err));
    return cli_clear_out(config->out, err);
}

static rt_status claim(cli_call *c, const rt_config *config, rt_error *err)
{
    rt_status status = RT_OK;
    if (rt_ranks_rank(cli_ranks()) == 0) status = cli_claim_out(c, config->out, err);
    if (rt_ranks_rank(cli_ranks()) == 0 && status == RT_OK) status = replace(config, err);
    return rt_ranks_agree(cli_ranks(), status, err);
}

static void say_ranks(const cli_call *c, const rt_config *config)
{
    int n = rt_ranks_size(cli_ranks()), threads = config->threads ? config->threads : rt_default_threads();
    if (n > 1)
        cli_say(c, "%d ranks of %d thread%s, by %s; %d shards", n, threads, threads > 1 ? "s" : "", rt_ranks_name(cli_ranks()),
                config->train.shards ? config->train.shards : n);
}

rt_status cli_run(cli_call *c, const char *method, rt_error *err)
{
    bool resume = cli_flag(c, "resume");
    rt_config *config = calloc(1, sizeof *config);
    rt_run_summary *summary = calloc(1, sizeof *summary);
    watcher w = {.c = c};
    rt_observer observer = {
        .self = &w, .progress = on_progress, .note = on_note, .meters = on_meters, .live = on_live, .stop = on_stop, .ranks = cli_ranks()};
    rt_status status = RT_E_MEMORY;
    cli_stop_gently(c->quiet ? NULL : "\nretort: stopping: what is done is kept, and --resume goes on; a second signal ends at once\n");
    if (!config || !summary)
        rt_error_set(err, status, "out of memory before the run began");
    else
        status = resolve_for_all(c, method, &resume, config, err);
    if (status == RT_OK) (void)cli_compute(c, config->backend, config->dtype);
    if (status == RT_OK && c->dry_run) {
        if (rt_ranks_rank(observer.ranks) == 0) status = say_plan(c, config, err);
    } else if (status == RT_OK) {
        if (!resume && !cli_flag(c, "resume")) status = claim(c, config, err);
        if (status == RT_OK) say_ranks(c, config);
        c->tune = config->tune;
        observer.choices = cli_choices(c);
        if (status == RT_OK && observer.choices && c->config) status = read_choices_beside(c->config, observer.choices, err);
        if (status == RT_OK) status = rt_run_train(config, resume, &observer, summary, err);
        close_progress(&w);
        if (status == RT_OK) report(c, config, summary);
        if (status == RT_OK) cli_say_next(c, config, summary);
    }
    free(config);
    free(summary);
    return status;
}
