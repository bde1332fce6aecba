/* embed_train.c -- settings and runs of the stable interface. */
#include "embed/embed.h"

#include "retort/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct retort_settings {
    rt_config config;
};

retort_status retort_settings_new(retort_settings **settings, const char *method, retort_error *err)
{
    rt_error e = {0};
    rt__scope s = rt__enter();
    rt_status status;
    *settings = NULL;
    retort_settings *made = calloc(1, sizeof *made);
    if (made)
        status = rt_config_method(&made->config, method, &e);
    else
        status = rt_error_set(&e, RT_E_MEMORY, "out of memory for settings");
    if (status == RT_OK)
        *settings = made;
    else
        free(made);
    return rt__leave(&s, status, &e, err);
}

void retort_settings_free(retort_settings *settings) { free(settings); }

retort_status retort_settings_set(retort_settings *settings, const char *key, const char *value, retort_error *err)
{
    rt_error e = {0};
    rt__scope s = rt__enter();
    rt_status status = rt_config_set(&settings->config, key, value, &e);
    return rt__leave(&s, status, &e, err);
}

retort_status retort_settings_get(const retort_settings *settings, const char *key, char *text, size_t bytes, retort_error *err)
{
    rt_error e = {0};
    rt__scope s = rt__enter();
    rt_status status = rt_config_get(&settings->config, key, text, bytes, &e);
    return rt__leave(&s, status, &e, err);
}

retort_status retort_settings_read(retort_settings *settings, const char *path, retort_error *err)
{
    rt_error e = {0};
    rt__scope s = rt__enter();
    rt_status status = rt_config_read(&settings->config, path, &e);
    return rt__leave(&s, status, &e, err);
}

int retort_method_at(int i, retort_row *row)
{
    rt_row_text r;
    if (i < 0 || !rt_method_describe(i, &r)) return 0;
    const retort_row all = {.name = r.name, .value = r.source, .text = r.text};
    return rt__give_result(row, &all, sizeof all, "retort_row", NULL) == RT_OK;
}

int retort_key_at(const char *method, int i, retort_row *row)
{
    rt_config_key k;
    if (!method || i < 0 || !rt_config_key_at(method, i, &k)) return 0;
    const retort_row all = {.name = k.name, .value = k.value, .text = k.help};
    return rt__give_result(row, &all, sizeof all, "retort_row", NULL) == RT_OK;
}

/* ---- a run */

typedef struct watcher {
    const rt__scope *scope;
    retort_training training;
    bool stop; /* the observer has said so */
} watcher;

static void on_progress(void *self, const char *what, int64_t done, int64_t total, const char *unit, double loss)
{
    watcher *w = self;
    if (rt__observed(w->scope, w->training.observe, w->training.self, what, unit, done, total, loss)) w->stop = true;
}

static void on_line(void *self, const char *line) { rt__tell(((const watcher *)self)->scope, line); }
static bool on_stop(void *self) { return ((const watcher *)self)->stop; }

static rt_status train(watcher *w, const rt_config *config, const retort_training *training, retort_result *result, rt_error *err)
{
    RT_TRY(rt__take_options(&w->training, sizeof w->training, training, "retort_training", err));
    rt_run_summary *summary = calloc(1, sizeof *summary);
    if (!summary) RT_RAISE(RT_E_MEMORY, "out of memory before the run began");
    const retort_result nothing = {.loss = NAN, .accuracy = NAN};
    rt_status status = result ? rt__give_result(result, &nothing, sizeof nothing, "retort_result", err) : RT_OK; /* is it one? */
    if (status == RT_OK && config->tune)
        status = rt_error_set(err, RT_E_USAGE, "tune: kernels are chosen by rule in runs of the library; set it to false");
    if (status == RT_OK) {
        const rt_observer o = {.self = w, .progress = on_progress, .note = on_line, .meters = on_line, .stop = on_stop};
        status = rt_run_train(config, w->training.resume != 0, &o, summary, err);
        retort_result all = {.updates = summary->updates,
                             .examples = summary->images,
                             .seconds = summary->seconds,
                             .loss = summary->loss,
                             .accuracy = summary->accuracy,
                             .rounds = summary->n_rounds};
        memcpy(all.folder, summary->result, sizeof all.folder);
        if (result) rt__give_result(result, &all, sizeof all, "retort_result", NULL);
    }
    free(summary);
    return status;
}

retort_status retort_train(const retort_settings *settings, const retort_training *training, retort_result *result, retort_error *err)
{
    rt_error e = {0};
    rt__scope s = rt__enter();
    watcher w = {.scope = &s};
    rt_status status = rt__may_compute(&e);
    if (status == RT_OK) status = train(&w, &settings->config, training, result, &e);
    return rt__leave(&s, status, &e, err);
}
