/* samples.c -- where samples go. One row per form of output; what a form cannot write as it comes, it keeps until the end. */
#include "samples.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

typedef struct form {
    const char *ending; /* of the path; NULL: a folder */
    bool pictures;      /* needs samples that are pictures */
    bool keeps;         /* all samples are held until the end */
    rt_status (*open)(cli_sink *s, rt_error *err);
    rt_status (*picture)(cli_sink *s, int64_t index, const uint8_t *png, size_t size, rt_error *err);
    rt_status (*add)(cli_sink *s, const char *name, const char *text, rt_error *err);
    rt_status (*finish)(cli_sink *s, const rt_sample_report *report, rt_error *err);
} form;

struct cli_sink {
    const form *form;
    const char *path;
    const rt_model_info *info;
    int64_t n;
    int states; /* of a trace */
    float *x, *trace;
    int64_t *y;
    uint8_t *pixels;
    zip_t *zip;
};

/* ---- .png */

static rt_status finish_png(cli_sink *s, const rt_sample_report *report, rt_error *err)
{
    (void)report;
    const int64_t *d = s->info->shape;
    return rt_png_grid(s->path, s->n, s->x, (int)d[0], (int)d[1], (int)d[2], s->info->low, s->info->high, 0, 2, err);
}

/* ---- .safetensors */

static rt_status finish_tensors(cli_sink *s, const rt_sample_report *report, rt_error *err)
{
    int64_t shape[RT_MAX_RANK + 2] = {s->states, s->n}, times = report->n_times;
    memcpy(shape + 2, s->info->shape, (size_t)s->info->rank * sizeof *shape);
    rt_named_tensor list[4] = {{"x", RT_F32, s->info->rank + 1, shape + 1, s->x}};
    int n = 1;
    const rt_words *words = s->info->words;
    int64_t prompts[] = {s->n, words ? rt_words_length(words) : 1}, *tokens = NULL;
    if (s->y && words) {
        tokens = malloc((size_t)(prompts[0] * prompts[1]) * sizeof *tokens);
        if (!tokens) return rt_error_set(err, RT_E_MEMORY, "%s: out of memory", s->path);
        for (int64_t i = 0; i < s->n; i++) rt_words_tokens(words, s->y[i], tokens + i * prompts[1]);
    }
    if (s->y) list[n++] = (rt_named_tensor){"y", RT_I64, words ? 2 : 1, prompts, words ? tokens : s->y};
    if (s->trace) {
        list[n++] = (rt_named_tensor){"trace", RT_F32, s->info->rank + 2, shape, s->trace};
        list[n++] = (rt_named_tensor){"times", RT_F64, 1, &times, report->times};
    }
    rt_status status = rt_tensors_write(s->path, list, n, NULL, err);
    free(tokens);
    return status;
}

/* ---- .zip: PNG files and dataset.json, as EDM has them */

/* {"labels": [["000000.png", 3], ...]}, or of prompts "captions": [["000000.png", "a red chair"], ...]; the labels null where there are no classes. */
static char *dataset_json(const cli_sink *s)
{
    const rt_words *words = s->info->words;
    json_t *list = s->y ? json_array() : json_null(), *o = json_object();
    for (int64_t i = 0; s->y && i < s->n; i++) {
        char name[32], text[RT_WORDS_TEXT];
        snprintf(name, sizeof name, "%06lld.png", (long long)i);
        json_array_append_new(list, words ? json_pack("[s, s]", name, rt_words_text(words, s->y[i], text, sizeof text))
                                          : json_pack("[s, I]", name, (json_int_t)s->y[i]));
    }
    if (words) json_object_set_new(o, "labels", json_null());
    json_object_set_new(o, words ? "captions" : "labels", list);
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

static rt_status zip_failed(const cli_sink *s, rt_error *err)
{
    return rt_error_set(err, RT_E_IO, "%s: %s", s->path, zip_strerror(s->zip));
}

static rt_status open_zip(cli_sink *s, rt_error *err)
{
    int code;
    s->zip = zip_open(s->path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    if (s->zip) return RT_OK;
    zip_error_t e;
    zip_error_init_with_code(&e, code);
    rt_error_set(err, RT_E_IO, "%s: %s", s->path, zip_error_strerror(&e));
    zip_error_fini(&e);
    return RT_E_IO;
}

/* Takes `data` over. */
static rt_status add_to_zip(cli_sink *s, const char *name, void *data, size_t size, rt_error *err)
{
    zip_source_t *source = zip_source_buffer(s->zip, data, size, 1);
    if (!source) free(data);
    zip_int64_t at = source ? zip_file_add(s->zip, name, source, 0) : -1;
    if (source && at < 0) zip_source_free(source);
    if (at < 0 || zip_set_file_compression(s->zip, (zip_uint64_t)at, ZIP_CM_STORE, 0) != 0) return zip_failed(s, err);
    return zip_file_set_mtime(s->zip, (zip_uint64_t)at, 315619200, 0) == 0 ? RT_OK : zip_failed(s, err); /* equal samples, equal bytes */
}

static rt_status picture_to_zip(cli_sink *s, int64_t index, const uint8_t *png, size_t size, rt_error *err)
{
    char name[32];
    snprintf(name, sizeof name, "%06lld.png", (long long)index);
    void *copy = malloc(size);
    if (!copy) return rt_error_set(err, RT_E_MEMORY, "%s: out of memory", s->path);
    memcpy(copy, png, size);
    return add_to_zip(s, name, copy, size, err);
}

static rt_status text_to_zip(cli_sink *s, const char *name, const char *text, rt_error *err)
{
    char *copy = strdup(text);
    if (!copy) return rt_error_set(err, RT_E_MEMORY, "%s: out of memory", s->path);
    return add_to_zip(s, name, copy, strlen(copy), err);
}

static rt_status finish_zip(cli_sink *s, const rt_sample_report *report, rt_error *err)
{
    (void)report;
    char *text = dataset_json(s);
    if (!text) return rt_error_set(err, RT_E_MEMORY, "%s: out of memory", s->path);
    TRY(add_to_zip(s, "dataset.json", text, strlen(text), err));
    if (zip_close(s->zip) != 0) return zip_failed(s, err);
    s->zip = NULL;
    return RT_OK;
}

/* ---- a folder: each file appears when it is ready; retort.json marks the folder as ours */

static rt_status open_folder(cli_sink *s, rt_error *err)
{
    char path[4200], text[256];
    TRY(cli_clear_out(s->path, err));
    if (mkdir(s->path, 0777) != 0 && errno != EEXIST) return rt_error_set(err, RT_E_IO, "%s: %s", s->path, strerror(errno));
    snprintf(path, sizeof path, "%s/retort.json", s->path);
    snprintf(text, sizeof text, "{\"schema\": \"retort.samples/1\", \"version\": \"%s\", \"n\": %lld}", RETORT_VERSION, (long long)s->n);
    return cli_write_file(path, text, err);
}

static rt_status picture_to_folder(cli_sink *s, int64_t index, const uint8_t *png, size_t size, rt_error *err)
{
    char path[4200], temporary[4210];
    snprintf(path, sizeof path, "%s/%06lld.png", s->path, (long long)index);
    snprintf(temporary, sizeof temporary, "%s.part", path);
    FILE *f = fopen(temporary, "wb");
    bool ok = f && fwrite(png, 1, size, f) == size;
    if (f && fclose(f) != 0) ok = false;
    if (ok && rename(temporary, path) == 0) return RT_OK;
    rt_error_set(err, RT_E_IO, "%s: %s", path, strerror(errno));
    unlink(temporary);
    return RT_E_IO;
}

static rt_status text_to_folder(cli_sink *s, const char *name, const char *text, rt_error *err)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", s->path, name);
    return cli_write_file(path, text, err);
}

static rt_status finish_folder(cli_sink *s, const rt_sample_report *report, rt_error *err)
{
    (void)report;
    char *text = dataset_json(s);
    rt_status status = text ? text_to_folder(s, "dataset.json", text, err) : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", s->path);
    free(text);
    return status;
}

/* ---- the rows, and what they share */

static const form forms[] = {
    {".png", true, true, NULL, NULL, NULL, finish_png},
    {".safetensors", false, true, NULL, NULL, NULL, finish_tensors},
    {".zip", true, false, open_zip, picture_to_zip, text_to_zip, finish_zip},
    {NULL, true, false, open_folder, picture_to_folder, text_to_folder, finish_folder},
};

static const form *choose(const char *path)
{
    size_t n = strlen(path);
    const form *f = forms;
    for (; f->ending; f++) {
        size_t m = strlen(f->ending);
        if (n > m && strcmp(path + n - m, f->ending) == 0) break;
    }
    return f;
}

static rt_status check(const cli_sink *s, bool trace, rt_error *err)
{
    const rt_model_info *info = s->info;
    const char *dot = strrchr(s->path, '.'), *slash = strrchr(s->path, '/');
    bool odd_ending = !s->form->ending && dot && dot[1] && (!slash || dot > slash) && strlen(dot) <= 5;
    if (odd_ending)
        return rt_error_set(err, RT_E_USAGE, "--out %s: the ending '%s' is not known; must be .png, .safetensors, .zip, or a folder",
                            s->path, dot);
    if (trace && strcmp(s->form->ending ? s->form->ending : "", ".safetensors") != 0)
        return rt_error_set(err, RT_E_USAGE, "--trace: only a .safetensors file holds the states between the steps");
    if (s->form->pictures && (info->rank != 3 || (info->shape[0] != 1 && info->shape[0] != 3 && info->shape[0] != 4)))
        return rt_error_set(err, RT_E_USAGE, "--out %s: the samples are no pictures (%lld numbers each); write PATH.safetensors", s->path,
                            (long long)info->features);
    return RT_OK;
}

rt_status cli_sink_check(const char *path, const rt_model_info *info, bool trace, rt_error *err)
{
    const cli_sink s = {.form = choose(path), .path = path, .info = info};
    return check(&s, trace, err);
}

rt_status cli_sink_open(cli_sink **sink, const char *path, const rt_model_info *info, int64_t n, int states, bool trace, rt_error *err)
{
    cli_sink *s = calloc(1, sizeof *s);
    if (!s) return rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    *s = (cli_sink){.form = choose(path), .path = path, .info = info, .n = n, .states = states};
    *sink = s;
    TRY(check(s, trace, err));
    size_t size = (size_t)n * (size_t)info->features;
    if (s->form->keeps)
        s->x = malloc(size * sizeof *s->x);
    else
        s->pixels = malloc((size_t)info->features);
    if (info->classes) s->y = malloc((size_t)n * sizeof *s->y);
    if (trace) s->trace = malloc(size * (size_t)states * sizeof *s->trace);
    if (!(s->x || s->pixels) || (info->classes && !s->y) || (trace && !s->trace))
        return rt_error_set(err, RT_E_MEMORY, "%s: out of memory for %lld samples; a zip or a folder holds one at a time", path,
                            (long long)n);
    return s->form->open ? s->form->open(s, err) : RT_OK;
}

size_t cli_sink_bytes(const char *path, const rt_model_info *info, int64_t n, int states, bool trace)
{
    size_t rows = (choose(path)->keeps ? 1 : 0) + (trace ? (size_t)states : 0);
    return (size_t)n * (rows * (size_t)info->features * sizeof(float) + (info->classes ? sizeof(int64_t) : 0));
}

/* Pictures of a batch, one at a time. */
static rt_status take_pictures(cli_sink *s, const rt_samples *b, rt_error *err)
{
    const int64_t *d = s->info->shape;
    for (int64_t j = 0; j < b->count; j++) {
        uint8_t *png;
        size_t size;
        rt_pixels_from_values(b->x + j * s->info->features, (int)d[0], (int)d[1], (int)d[2], s->info->low, s->info->high, s->pixels);
        TRY(rt_png_encode((int)d[2], (int)d[1], (int)d[0], s->pixels, &png, &size, err));
        rt_status status = s->form->picture(s, b->first + j, png, size, err);
        free(png);
        TRY(status);
    }
    return RT_OK;
}

rt_status cli_sink_take(cli_sink *s, const rt_samples *b, rt_error *err)
{
    size_t row = (size_t)s->info->features, count = (size_t)b->count, first = (size_t)b->first;
    if (s->y && b->y) memcpy(s->y + first, b->y, count * sizeof *s->y);
    if (s->x) memcpy(s->x + first * row, b->x, count * row * sizeof *s->x);
    for (int k = 0; s->trace && k < s->states; k++)
        memcpy(s->trace + ((size_t)k * (size_t)s->n + first) * row, b->trace + (size_t)k * count * row, count * row * sizeof *s->trace);
    return s->form->picture ? take_pictures(s, b, err) : RT_OK;
}

rt_status cli_sink_add(cli_sink *s, const char *name, const char *text, rt_error *err) { return s->form->add(s, name, text, err); }

rt_status cli_sink_finish(cli_sink *s, const rt_sample_report *report, rt_error *err) { return s->form->finish(s, report, err); }

void cli_sink_free(cli_sink *s)
{
    if (!s) return;
    if (s->zip) zip_discard(s->zip); /* nothing has been written yet */
    free(s->x);
    free(s->y);
    free(s->trace);
    free(s->pixels);
    free(s);
}
