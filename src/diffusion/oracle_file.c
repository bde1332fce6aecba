/* oracle_file.c -- oracles from JSON files. */
#include "diffusion/oracle.h"
#include "diffusion/scheduler.h"

#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 256 << 20 };

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

/* Process and prediction of any kind of oracle: from `process`, or from a configuration of diffusers. */
static rt_status read_setting(const json_t *root, rt_oracle *o, rt_error *err)
{
    const json_t *process = json_object_get(root, "process"), *scheduler = json_object_get(root, "scheduler"),
                 *prediction = json_object_get(root, "prediction");
    if (process && scheduler) RT_RAISE(RT_E_INVALID, "fields 'process' and 'scheduler' are both there; give one");
    if (scheduler) {
        rt_scheduler_config config;
        RT_TRY(rt__scheduler_config_parse(&config, scheduler, "field 'scheduler'", err));
        rt_status status = rt_scheduler_new(&o->scheduler, &config, false, err);
        rt_scheduler_config_free(&config);
        if (status != RT_OK) return status;
        o->process = rt_scheduler_process(o->scheduler);
        o->prediction = rt_scheduler_prediction(o->scheduler);
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

/* n components (0: as many as there are means): weights[n] unless there is one, means[n][d], covariances[n][d][d]. */
static rt_status read_components(const json_t *root, size_t n, rt_oracle **oracle, rt_error *err)
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
    return status == RT_OK ? read_setting(root, *oracle, err) : status;
}

static rt_status read_gaussian(const json_t *root, rt_oracle **oracle, rt_error *err)
{
    static const char *const known[] = {"kind", "means", "covariances", "prediction", "process", "scheduler"};
    RT_TRY(check_keys(root, known, RT_COUNT(known), "", err));
    return read_components(root, 1, oracle, err);
}

static rt_status read_mixture(const json_t *root, rt_oracle **oracle, rt_error *err)
{
    static const char *const known[] = {"kind", "weights", "means", "covariances", "prediction", "process", "scheduler"};
    RT_TRY(check_keys(root, known, RT_COUNT(known), "", err));
    return read_components(root, 0, oracle, err);
}

static const struct kind {
    const char *name;
    rt_status (*read)(const json_t *root, rt_oracle **oracle, rt_error *err);
} kinds[] = {{"gaussian", read_gaussian}, {"mixture", read_mixture}};

static rt_status read_root(const json_t *root, rt_oracle **oracle, rt_error *err)
{
    if (!json_is_object(root)) RT_RAISE(RT_E_INVALID, "the file holds %s; must be an object with a field 'kind'", type_of(root));
    const json_t *kind = json_object_get(root, "kind");
    if (!json_is_string(kind)) RT_RAISE(RT_E_INVALID, "field 'kind' is %s; must be a string such as \"gaussian\"", type_of(kind));
    int index = RT__FIND("oracles", json_string_value(kind), kinds, err);
    return index < 0 ? RT_E_INVALID : kinds[index].read(root, oracle, err);
}

rt_status rt_oracle_open(rt_oracle **oracle, const char *path, rt_error *err)
{
    json_t *root;
    *oracle = NULL;
    RT_TRY(rt__json_read(path, MAX_FILE, &root, err));
    rt_error local = {0};
    rt_status status = read_root(root, oracle, &local);
    json_decref(root);
    if (status == RT_OK) return RT_OK;
    rt_oracle_free(*oracle);
    *oracle = NULL;
    /* whatever is wrong with a file is the file's fault, not the command line's */
    RT_RAISE(status == RT_E_USAGE ? RT_E_INVALID : status, "%s: %s", path, local.text);
}
