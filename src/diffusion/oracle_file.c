/* oracle_file.c -- oracles from JSON files. */
#include "diffusion/oracle.h"
#include "diffusion/scheduler.h"

#include "base/files.h"
#include "base/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 256 << 20, FOLDER = 2048 };

static const char *type_of(const json_t *v)
{
    static const char *const names[] = {"an object", "an array", "a string", "an integer", "a number", "true", "false", "null"};
    return v ? names[json_typeof(v)] : "missing";
}

static rt_status check_keys(const json_t *object, const char *const *known, size_t n, const char *where, rt_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t i = 0;
        while (i < n && strcmp(key, known[i])) i++;
        if (i < n) continue;
        const char *guess = rt__closest(key, known, n);
        RT_RAISE(RT_E_INVALID, "field '%s%s' is not known; %s%s", where, key, guess ? "did you mean " : "remove it", guess ? guess : "");
    }
    return RT_OK;
}

/* field[k]: an array of n numbers. */
static rt_status numbers(const json_t *v, const char *field, size_t k, size_t n, double *out, rt_error *err)
{
    if (!json_is_array(v))
        RT_RAISE(RT_E_INVALID, "field '%s', element %zu, is %s; must be an array of %zu numbers", field, k, type_of(v), n);
    if (json_array_size(v) != n)
        RT_RAISE(RT_E_INVALID, "field '%s', element %zu, has %zu elements; must have %zu", field, k, json_array_size(v), n);
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_array_get(v, i);
        if (!json_is_number(e))
            RT_RAISE(RT_E_INVALID, "field '%s', element %zu: number %zu is %s; must be a number", field, k, i, type_of(e));
        out[i] = json_number_value(e);
    }
    return RT_OK;
}

/* The array `field` of root; n 0: any length but none, which is put there. */
static rt_status list(const json_t *root, const char *field, size_t *n, const json_t **out, rt_error *err)
{
    const json_t *v = *out = json_object_get(root, field);
    if (!json_is_array(v)) RT_RAISE(RT_E_INVALID, "field '%s' is %s; must be an array", field, type_of(v));
    if (json_array_size(v) < 1 || (*n && json_array_size(v) != *n))
        RT_RAISE(RT_E_INVALID, "field '%s' has %zu elements; must have %s%zu", field, json_array_size(v), *n ? "" : "at least ",
                 *n ? *n : 1);
    *n = json_array_size(v);
    return RT_OK;
}

/* ---- {"name": "flow", "shift": 3} */

enum value_kind { REAL, WHOLE, TRUTH, TEXT };

static const struct key {
    const char *name;
    enum value_kind kind;
    size_t offset;
} keys[] = {
    {"name", TEXT, offsetof(rt_process_spec, name)},
    {"timesteps", WHOLE, offsetof(rt_process_spec, timesteps)},
    {"betas", TEXT, offsetof(rt_process_spec, betas)},
    {"beta_start", REAL, offsetof(rt_process_spec, beta_start)},
    {"beta_end", REAL, offsetof(rt_process_spec, beta_end)},
    {"zero_snr", TRUTH, offsetof(rt_process_spec, zero_snr)},
    {"rate_min", REAL, offsetof(rt_process_spec, rate_min)},
    {"rate_max", REAL, offsetof(rt_process_spec, rate_max)},
    {"log_snr_min", REAL, offsetof(rt_process_spec, log_snr_min)},
    {"log_snr_max", REAL, offsetof(rt_process_spec, log_snr_max)},
    {"sigma_min", REAL, offsetof(rt_process_spec, sigma_min)},
    {"sigma_max", REAL, offsetof(rt_process_spec, sigma_max)},
    {"shift", REAL, offsetof(rt_process_spec, shift)},
};

static rt_status read_process(const json_t *object, rt_process **process, rt_error *err)
{
    if (!json_is_object(object))
        RT_RAISE(RT_E_INVALID, "field 'process' is %s; must be an object such as {\"name\": \"flow\"}", type_of(object));
    const char *known[RT_COUNT(keys)];
    for (size_t i = 0; i < RT_COUNT(keys); i++) known[i] = keys[i].name;
    RT_TRY(check_keys(object, known, RT_COUNT(known), "process.", err));
    rt_process_spec spec = rt_process_defaults("");
    for (size_t i = 0; i < RT_COUNT(keys); i++) {
        const json_t *v = json_object_get(object, keys[i].name);
        char *at = (char *)&spec + keys[i].offset;
        if (!v) continue;
        bool fits = keys[i].kind == REAL    ? json_is_number(v)
                    : keys[i].kind == WHOLE ? json_is_integer(v)
                    : keys[i].kind == TRUTH ? json_is_boolean(v)
                                            : json_is_string(v);
        if (!fits) {
            static const char *const wanted[] = {"a number", "an integer", "true or false", "a string"};
            RT_RAISE(RT_E_INVALID, "field 'process.%s' is %s; must be %s", keys[i].name, type_of(v), wanted[keys[i].kind]);
        }
        switch (keys[i].kind) {
        case REAL: *(double *)(void *)at = json_number_value(v); break;
        case WHOLE: *(int64_t *)(void *)at = json_integer_value(v); break;
        case TRUTH: *(bool *)at = json_is_true(v); break;
        case TEXT: *(const char **)(void *)at = json_string_value(v); break;
        }
    }
    if (!*spec.name) RT_RAISE(RT_E_INVALID, "field 'process.name' is missing; 'retort list processes' names the rows");
    return rt_process_new(process, &spec, err);
}

/* What a file is read with. */
typedef struct source {
    const rt_oracle_options *options;
    char folder[FOLDER]; /* of the oracle's file: "." or "a/b" */
} source;

/* A configuration of diffusers: in place, or a file's name. */
static rt_status read_scheduler(const source *from, const json_t *value, rt_scheduler_config *config, rt_error *err)
{
    if (!json_is_string(value)) return rt__scheduler_config_parse(config, value, "field 'scheduler'", err);
    const char *name = json_string_value(value);
    char path[2 * FOLDER];
    int length = *name == '/' ? snprintf(path, sizeof path, "%s", name) : snprintf(path, sizeof path, "%s/%s", from->folder, name);
    if (length < 0 || (size_t)length >= sizeof path)
        RT_RAISE(RT_E_INVALID, "field 'scheduler' is a path of more than %zu bytes", sizeof path);
    rt_error why = {0};
    rt_status status = rt_scheduler_config_read(config, path, &why);
    if (status == RT_E_IO && !rt__file_exists(path)) status = RT_E_INVALID;
    if (status != RT_OK) RT_RAISE(status, "field 'scheduler' is \"%s\": %s", name, why.text);
    return RT_OK;
}

static rt_status use_scheduler(rt_oracle *o, const rt_scheduler_config *config, bool float32, rt_error *err)
{
    RT_TRY(rt_scheduler_new(&o->scheduler, config, float32, err));
    o->process = rt_scheduler_process(o->scheduler);
    o->prediction = rt_scheduler_prediction(o->scheduler);
    return RT_OK;
}

/* Process and prediction of any kind of oracle: from `process`, or from a configuration of diffusers. */
static rt_status read_setting(const source *from, const json_t *root, rt_oracle *o, rt_error *err)
{
    const rt_oracle_options *options = from->options;
    const json_t *process = json_object_get(root, "process"), *scheduler = json_object_get(root, "scheduler"),
                 *prediction = json_object_get(root, "prediction");
    o->threads = options->threads > 0 ? options->threads : rt_default_threads();
    if (process && scheduler) RT_RAISE(RT_E_INVALID, "fields 'process' and 'scheduler' are both there; give one");
    if (options->scheduler || scheduler) {
        rt_scheduler_config config;
        RT_TRY(options->scheduler ? rt_scheduler_config_read(&config, options->scheduler, err)
                                  : read_scheduler(from, scheduler, &config, err));
        rt_status status = use_scheduler(o, &config, options->float32, err);
        rt_scheduler_config_free(&config);
        if (status != RT_OK || options->scheduler) return status;
    } else {
        RT_TRY(read_process(process, &o->owned, err));
        o->process = o->owned;
        o->prediction = rt_prediction_find("x0", err);
    }
    if (!prediction) return RT_OK;
    if (!json_is_string(prediction)) RT_RAISE(RT_E_INVALID, "field 'prediction' is %s; must be a string", type_of(prediction));
    o->prediction = rt_prediction_find(json_string_value(prediction), err);
    return o->prediction ? RT_OK : RT_E_INVALID;
}

/* ---- gaussian, mixture */

/* One class for each of the n parts. */
static rt_status read_classes(const json_t *root, size_t n, rt_oracle *o, rt_error *err)
{
    const json_t *classes;
    if (!json_object_get(root, "classes")) return RT_OK;
    RT_TRY(list(root, "classes", &n, &classes, err));
    int64_t *labels = malloc(n * sizeof *labels);
    if (!labels) RT_RAISE(RT_E_MEMORY, "out of memory for %zu classes", n);
    rt_status status = RT_OK;
    for (size_t k = 0; k < n && status == RT_OK; k++) {
        const json_t *e = json_array_get(classes, k);
        if (!json_is_integer(e))
            status = rt_error_set(err, RT_E_INVALID, "field 'classes', element %zu, is %s; must be a class, 0 or more", k, type_of(e));
        labels[k] = json_integer_value(e);
    }
    rt_error why = {0};
    if (status == RT_OK && (status = rt_oracle_set_classes(o, labels, &why)) != RT_OK)
        rt_error_set(err, status, "field 'classes': %s", why.text);
    free(labels);
    return status;
}

/* n components (0: as many as there are means): weights[n] unless there is one, means[n][d], covariances[n][d][d]. */
static rt_status read_components(const source *from, const json_t *root, size_t n, rt_oracle **oracle, rt_error *err)
{
    const json_t *weights = NULL, *means, *covariances;
    RT_TRY(list(root, "means", &n, &means, err));
    RT_TRY(list(root, "covariances", &n, &covariances, err));
    if (json_object_get(root, "weights") || n > 1) RT_TRY(list(root, "weights", &n, &weights, err));
    size_t d = json_array_size(json_array_get(means, 0));
    if (d < 1 || d > 4096 || n > 1024 || n * d * d > 1 << 27)
        RT_RAISE(RT_E_INVALID,
                 "field 'means' holds %zu means of %zu numbers; must be at most 1024 of 1 to 4096, 2^27 numbers in all covariances", n, d);
    double *room = malloc((n + n * d + n * d * d) * sizeof *room), *mean = room + n, *covariance = mean + n * d;
    if (!room) RT_RAISE(RT_E_MEMORY, "out of memory for %zu numbers", n * d * d);
    rt_status status = RT_OK;
    room[0] = 1;
    if (weights) status = numbers(weights, "weights", 0, n, room, err);
    for (size_t k = 0; k < n && status == RT_OK; k++) {
        const json_t *rows = json_array_get(covariances, k);
        status = numbers(json_array_get(means, k), "means", k, d, mean + k * d, err);
        if (status == RT_OK && json_array_size(rows) != d)
            status = rt_error_set(err, RT_E_INVALID, "field 'covariances', element %zu, has %zu rows; must have %zu, as the mean", k,
                                  json_array_size(rows), d);
        for (size_t i = 0; i < d && status == RT_OK; i++)
            status = numbers(json_array_get(rows, i), "covariances", k, d, covariance + (k * d + i) * d, err);
    }
    if (status == RT_OK) status = rt_oracle_mixture(oracle, (int64_t)n, (int64_t)d, room, mean, covariance, NULL, NULL, err);
    free(room);
    if (status == RT_OK) status = read_setting(from, root, *oracle, err);
    return status == RT_OK ? read_classes(root, n, *oracle, err) : status;
}

static rt_status read_gaussian(const source *from, const json_t *root, rt_oracle **oracle, rt_error *err)
{
    static const char *const known[] = {"kind", "means", "covariances", "classes", "prediction", "process", "scheduler"};
    RT_TRY(check_keys(root, known, RT_COUNT(known), "", err));
    return read_components(from, root, 1, oracle, err);
}

static rt_status read_mixture(const source *from, const json_t *root, rt_oracle **oracle, rt_error *err)
{
    static const char *const known[] = {"kind", "weights", "means", "covariances", "classes", "prediction", "process", "scheduler"};
    RT_TRY(check_keys(root, known, RT_COUNT(known), "", err));
    return read_components(from, root, 0, oracle, err);
}

/* ---- boxes */

/* n boxes: weights[n] unless there is one, lows[n][d] and highs[n][d]. */
static rt_status read_boxes(const source *from, const json_t *root, rt_oracle **oracle, rt_error *err)
{
    static const char *const known[] = {"kind", "weights", "lows", "highs", "classes", "prediction", "process", "scheduler"};
    size_t n = 0;
    const json_t *weights = NULL, *lows, *highs;
    RT_TRY(check_keys(root, known, RT_COUNT(known), "", err));
    RT_TRY(list(root, "lows", &n, &lows, err));
    RT_TRY(list(root, "highs", &n, &highs, err));
    if (json_object_get(root, "weights") || n > 1) RT_TRY(list(root, "weights", &n, &weights, err));
    size_t d = json_array_size(json_array_get(lows, 0));
    if (d < 1 || d > 4096 || n > 1024)
        RT_RAISE(RT_E_INVALID, "field 'lows' holds %zu corners of %zu numbers; must be at most 1024 of 1 to 4096", n, d);
    double *room = malloc((n + 2 * n * d) * sizeof *room), *low = room + n, *high = low + n * d;
    if (!room) RT_RAISE(RT_E_MEMORY, "out of memory for %zu numbers", 2 * n * d);
    rt_status status = RT_OK;
    room[0] = 1;
    if (weights) status = numbers(weights, "weights", 0, n, room, err);
    for (size_t k = 0; k < n && status == RT_OK; k++) {
        status = numbers(json_array_get(lows, k), "lows", k, d, low + k * d, err);
        if (status == RT_OK) status = numbers(json_array_get(highs, k), "highs", k, d, high + k * d, err);
    }
    if (status == RT_OK) status = rt_oracle_boxes(oracle, (int64_t)n, (int64_t)d, room, low, high, NULL, NULL, err);
    free(room);
    if (status == RT_OK) status = read_setting(from, root, *oracle, err);
    return status == RT_OK ? read_classes(root, n, *oracle, err) : status;
}

/* ---- data */

static rt_status read_range(const json_t *root, rt_oracle_samples *s, rt_error *err)
{
    const json_t *range = json_object_get(root, "data_range");
    double bounds[2] = {-1, 1};
    if (range) RT_TRY(numbers(range, "data_range", 0, 2, bounds, err));
    if (!(bounds[0] < bounds[1]))
        RT_RAISE(RT_E_INVALID, "field 'data_range' is [%g, %g]; the first must be less than the second", bounds[0], bounds[1]);
    s->low = bounds[0];
    s->high = bounds[1];
    return RT_OK;
}

static rt_status read_samples(const source *from, const json_t *root, rt_oracle_samples *s, rt_error *err)
{
    const json_t *data = json_object_get(root, "data"), *classes = json_object_get(root, "classes");
    if (!json_is_string(data)) RT_RAISE(RT_E_INVALID, "field 'data' is %s; must be a string, the name of a data set", type_of(data));
    if (classes && !json_is_boolean(classes))
        RT_RAISE(RT_E_INVALID, "field 'classes' is %s; must be true or false: the classes of kind 'data' are its file's labels",
                 type_of(classes));
    RT_TRY(read_range(root, s, err));
    if (!from->options->read) RT_RAISE(RT_E_INVALID, "field 'kind' is \"data\", but nothing here reads data; rt_model_open does");
    rt_error why = {0};
    rt_status status = from->options->read(from->folder, json_string_value(data), s, &why);
    if (status != RT_OK) RT_RAISE(status, "field 'data' is \"%s\": %s", json_string_value(data), why.text);
    if (json_is_true(classes) && !s->labels)
        RT_RAISE(RT_E_INVALID, "field 'classes' is true, but \"%s\" has no labels; leave it out", json_string_value(data));
    if (json_is_false(classes)) free(s->labels), s->labels = NULL;
    return RT_OK;
}

static rt_status read_data(const source *from, const json_t *root, rt_oracle **oracle, rt_error *err)
{
    static const char *const known[] = {"kind", "data", "data_range", "classes", "prediction", "process", "scheduler"};
    RT_TRY(check_keys(root, known, RT_COUNT(known), "", err));
    rt_oracle_samples s = {0};
    rt_status status = read_samples(from, root, &s, err);
    if (status == RT_OK) status = rt__oracle_adopt(oracle, &s, err);
    if (status != RT_OK)
        free(s.x);
    else
        status = read_setting(from, root, *oracle, err);
    if (status == RT_OK && s.labels) {
        status = rt_oracle_set_classes(*oracle, s.labels, err);
        if (status != RT_OK) rt_error_prefix(err, "field 'data', labels (\"classes\": false ignores them)");
    }
    free(s.labels);
    return status;
}

static const struct kind {
    const char *name;
    rt_status (*read)(const source *from, const json_t *root, rt_oracle **oracle, rt_error *err);
} kinds[] = {{"gaussian", read_gaussian}, {"mixture", read_mixture}, {"boxes", read_boxes}, {"data", read_data}};

static rt_status read_root(const source *from, const json_t *root, rt_oracle **oracle, rt_error *err)
{
    if (!json_is_object(root)) RT_RAISE(RT_E_INVALID, "the file holds %s; must be an object with a field 'kind'", type_of(root));
    const json_t *kind = json_object_get(root, "kind");
    if (!json_is_string(kind)) RT_RAISE(RT_E_INVALID, "field 'kind' is %s; must be a string such as \"gaussian\"", type_of(kind));
    int index = RT__FIND("oracles", json_string_value(kind), kinds, err);
    return index < 0 ? RT_E_INVALID : kinds[index].read(from, root, oracle, err);
}

rt_status rt_oracle_open_with(rt_oracle **oracle, const char *path, const rt_oracle_options *options, rt_error *err)
{
    json_t *root;
    source from = {.options = options, .folder = "."};
    const char *slash = strrchr(path, '/');
    *oracle = NULL;
    if (strlen(path) >= FOLDER) RT_RAISE(RT_E_USAGE, "%.60s...: a path of %zu bytes; at most %d", path, strlen(path), FOLDER - 1);
    if (slash) snprintf(from.folder, sizeof from.folder, "%.*s", (int)(slash > path ? slash - path : 1), path);
    RT_TRY(rt__json_read(path, MAX_FILE, &root, err));
    rt_error local = {0};
    rt_status status = read_root(&from, root, oracle, &local);
    json_decref(root);
    if (status == RT_OK) return RT_OK;
    rt_oracle_free(*oracle);
    *oracle = NULL;
    /* whatever is wrong with a file is the file's fault, not the command line's */
    RT_RAISE(status == RT_E_USAGE ? RT_E_INVALID : status, "%s: %s", path, local.text);
}

rt_status rt_oracle_open(rt_oracle **oracle, const char *path, rt_error *err)
{
    return rt_oracle_open_with(oracle, path, &(rt_oracle_options){0}, err);
}
