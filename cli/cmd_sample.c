/* cmd_sample.c -- retort sample MODEL: draw samples. */
#include "samples.h"

#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    {"n", 'n', "N", "sample.n", "16", "number of samples", NULL},
    {"out", 'o', "PATH", NULL, NULL, ".png (a grid), .safetensors, .zip, or a folder", NULL},
    {"steps", 0, "N", "sample.steps", NULL, "steps from noise to picture (a student knows its own)", NULL},
    {"times", 0, "T,T,...", "sample.times", NULL, "the times to visit, noisy to clean, instead of --steps", NULL},
    {"prompt", 0, "TEXT", NULL, NULL, "what is to be seen, of a model that knows words; may be repeated: sample j gets j mod their number",
     NULL},
    {"negative", 0, "TEXT", NULL, NULL, "what guidance leads away from, likewise, instead of no words", NULL},
    CLI_SAMPLING_OPTIONS,
    {"noise", 0, "FILE", NULL, NULL, "start from tensor noise [n,...] of this file (and classes y [n])", NULL},
    {"draws", 0, "FILE", NULL, NULL, "the noise that a stochastic solver adds or a student sees: tensor draws [steps,n,...]", NULL},
    {"trace", 0, NULL, NULL, NULL, "keep the states between the steps (.safetensors)", NULL},
    {0}};

typedef struct sampler {
    cli_call *c;
    cli_sink *sink;
    cli_progress progress;
    int64_t done;
} sampler;

static rt_status take(void *user, const rt_samples *s, rt_error *err)
{
    sampler *r = user;
    TRY(cli_sink_take(r->sink, s, err));
    r->done += s->count;
    cli_progress_at(&r->progress, (double)r->done);
    return RT_OK;
}

static void searching(void *self, const char *what, int64_t done, int64_t total)
{
    sampler *r = self;
    if (!r->progress.label || strcmp(r->progress.label, what) != 0)
        cli_progress_start(&r->progress, r->c, what, "done", (double)total, false);
    cli_progress_at(&r->progress, (double)done);
    if (done == total) cli_progress_end(&r->progress, (double)done);
}

static void put_report(cli_call *c, const rt_sample_report *r)
{
    json_t *times = json_array();
    for (int i = 0; i < r->n_times; i++) json_array_append_new(times, json_real(r->times[i]));
    cli_put(c, "steps", json_integer(r->steps));
    cli_put(c, "network_calls", json_integer(r->calls));
    cli_put(c, "solver", json_string(r->solver));
    cli_put(c, "grid", json_string(r->grid));
    cli_put(c, "times", times);
}

static rt_status ignore(void *user, const rt_samples *s, rt_error *err)
{
    (void)user, (void)s, (void)err;
    return RT_OK;
}

/* The most resident memory of the whole: one batch stands for all. An oracle would have to be asked: it is not. */
static rt_status rehearse(cli_call *c, rt_model *model, const char *out, const rt_sampling *s, int states, size_t *bytes, rt_error *err)
{
    rt_sampling one = *s;
    rt_sample_report report;
    int64_t batch = s->batch > 0 ? s->batch : 64;
    if (one.n > batch) one.n = batch;
    size_t kept = cli_sink_bytes(out, rt_model_get_info(model), s->n, states, s->trace);
    rt_rehearsal_reserve(&c->rehearsal, (int64_t)kept);
    if (rt_model_get_info(model)->parameters > 0) TRY(rt_model_sample(model, &one, ignore, NULL, &report, err));
    *bytes = c->rehearsal.peak;
    return RT_OK;
}

static rt_status draw(cli_call *c, rt_model *model, const char *path, const char *out, rt_sampling *s, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(model);
    rt_sample_report report = {0};
    sampler r = {.c = c};
    s->look_only = c->dry_run;
    s->progress = searching;
    s->progress_self = &r;
    TRY(rt_model_plan(model, s, &report, err));
    cli_remark(c, report.remark);
    cli_put(c, "model", cli_model_json(path, info));
    cli_put(c, "n", json_integer(s->n));
    put_report(c, &report);
    if (c->dry_run) {
        size_t bytes;
        TRY(rehearse(c, model, out, s, report.n_times, &bytes, err));
        cli_print_config(c, c->text);
        cli_say(c, "would write %s: %lld samples of %d steps with %s, %lld network calls each, %.0f MiB of memory", out, (long long)s->n,
                report.steps, report.solver, (long long)report.calls, (double)bytes / 0x1p20);
        cli_put(c, "memory_bytes", json_integer((json_int_t)bytes));
        return RT_OK;
    }
    double began = cli_now();
    rt_status status = cli_sink_open(&r.sink, out, info, s->n, report.n_times, s->trace, err);
    cli_progress_start(&r.progress, c, "sampling", "samples", (double)s->n, false);
    if (status == RT_OK) status = rt_model_sample(model, s, take, &r, &report, err);
    if (status == RT_OK) status = cli_sink_finish(r.sink, &report, err);
    cli_sink_free(r.sink);
    TRY(status);
    cli_progress_end(&r.progress, (double)r.done);
    double seconds = cli_now() - began;
    cli_put(c, "out", json_string(out));
    cli_put(c, "sampling_seconds", json_real(seconds));
    cli_say(c, "%s: %lld samples, %d steps of %s, %.3g s", out, (long long)s->n, report.steps, report.solver, seconds);
    return RT_OK;
}

/* Noise from a file decides how many samples there are, unless --n does. */
static rt_status read_noise(cli_call *c, const rt_model_info *info, rt_sampling *s, rt_tensor *noise, rt_tensor *y, rt_error *err)
{
    const char *path = cli_text(c, "noise");
    if (!path) return RT_OK;
    TRY(cli_read_rows(path, "noise", info, 1, noise, err));
    int64_t n = noise->shape[0];
    if (n < 1 || (cli_given(c, "n") && s->n > n))
        return rt_error_set(err, RT_E_USAGE, "%s: holds %lld noises, fewer than --n %lld", path, (long long)n, (long long)s->n);
    if (!cli_given(c, "n")) s->n = n;
    s->noise = noise->data;
    TRY(cli_read_labels(path, n, info, y, err));
    if (y->data && info->classes && !cli_given(c, "class") && s->n_labels == 0) s->y = y->data;
    return RT_OK;
}

/* Labels of the prompts of an option; *labels is the caller's. */
static rt_status read_prompts(cli_call *c, const char *option, const rt_model_info *info, int64_t **labels, int *n, rt_error *err)
{
    const char **texts;
    *n = cli_texts(c, option, &texts);
    if (*n == 0) return RT_OK;
    if (!info->words)
        return rt_error_set(err, RT_E_USAGE, "--%s: %s knows no words%s", option, info->chosen,
                            info->classes > 0 ? "; give --class K" : "");
    if (cli_given(c, "class") && strcmp(option, "prompt") == 0)
        return rt_error_set(err, RT_E_USAGE, "--prompt and --class exclude each other");
    *labels = malloc((size_t)*n * sizeof **labels);
    if (!*labels) return rt_error_set(err, RT_E_MEMORY, "out of memory for %d prompts", *n);
    for (int i = 0; i < *n; i++) TRY(rt_words_label(info->words, texts[i], &(*labels)[i], err));
    return RT_OK;
}

static rt_status read_draws(cli_call *c, const rt_model_info *info, rt_sampling *s, rt_tensor *draws, rt_error *err)
{
    const char *path = cli_text(c, "draws");
    if (!path) return RT_OK;
    TRY(cli_read_rows(path, "draws", info, 2, draws, err));
    if (draws->shape[1] != s->n)
        return rt_error_set(err, RT_E_USAGE, "%s: draws are for %lld samples, not %lld", path, (long long)draws->shape[1], (long long)s->n);
    s->draws = draws->data;
    s->n_draws = draws->shape[0];
    return RT_OK;
}

static rt_status run(cli_call *c, rt_error *err)
{
    const char *path = c->arguments[0], *out = cli_text(c, "out");
    rt_sampling s = {.n = cli_int(c, "n", 1, 100000000), .trace = cli_flag(c, "trace")};
    double *times;
    if (cli_text(c, "steps")) s.steps = (int)cli_int(c, "steps", 1, RT_MODEL_STEPS);
    s.n_times = cli_reals(c, "times", 0, 1e9, &times);
    s.times = s.n_times ? times : NULL;
    cli_read_sampling(c, &s);
    TRY(cli_ok(c, err));
    if (!out) return rt_error_set(err, RT_E_USAGE, "--out is missing: PATH.png, PATH.safetensors, PATH.zip, or a folder");
    if (s.times && cli_given(c, "steps")) return rt_error_set(err, RT_E_USAGE, "--steps and --times exclude each other");
    TRY(cli_claim_out(c, out, err));

    rt_model *model = NULL;
    rt_tensor noise = {0}, y = {0}, draws = {0};
    int64_t *prompts = NULL, *negatives = NULL;
    TRY(cli_open_model(c, path, &model, err));
    const rt_model_info *info = rt_model_get_info(model);
    rt_status status = cli_sink_check(out, info, s.trace, err);
    if (status == RT_OK) status = cli_open_guide(c, &s, err);
    if (status == RT_OK) status = read_prompts(c, "prompt", info, &prompts, &s.n_labels, err);
    if (status == RT_OK) status = read_prompts(c, "negative", info, &negatives, &s.n_negatives, err);
    s.labels = prompts, s.negatives = negatives;
    if (status == RT_OK) status = read_noise(c, info, &s, &noise, &y, err);
    if (status == RT_OK) status = read_draws(c, info, &s, &draws, err);
    if (status == RT_OK) status = draw(c, model, path, out, &s, err);
    rt_tensor_free(&noise);
    rt_tensor_free(&y);
    rt_tensor_free(&draws);
    free(prompts);
    free(negatives);
    rt_model_free(s.guide);
    rt_model_free(model);
    return status;
}

const cli_command cli_sample_command = {
    .name = "sample",
    .arguments = "MODEL",
    .summary = "draw samples from a model",
    .text = "MODEL is a folder (a diffusers pipeline, a run, a student) or oracle:FILE.json. A student is sampled by the recipe that it\n"
            "carries; other models obey their scheduler. --out decides the form: x.png is one picture of all samples, x.safetensors\n"
            "holds the numbers in the model's range, x.zip and folders hold one PNG per sample.",
    .examples = "retort sample models/fashion-mnist-4 --n 64 --out grid.png\n"
                "retort sample models/fashion-mnist --n 64 --steps 8 --solver ddim --seed 1 --out x.safetensors",
    .options = options,
    .shared = cli_model_options,
    .shared_title = "Options for models",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
    .unhashed = true,
};
