/* scheduler_config.c -- reading diffusers' scheduler_config.json: a flat object, fetched value by value. */
#include "format/scheduler_json.h"

#include "base/files.h"

#include <stdlib.h>
#include <string.h>

enum { LARGEST = 16 << 20, MOST_NUMBERS = 1000000 };

/* diffusers writes what Python writes: Infinity outside strings. Replaces it in place. */
static void tame_numbers(char *text)
{
    bool string = false;
    for (char *p = text; *p; p++) {
        if (string && *p == '\\' && p[1]) {
            p++;
        } else if (*p == '"') {
            string = !string;
        } else if (!string && strncmp(p, "Infinity", 8) == 0) {
            memcpy(p, "1e308   ", 8);
        }
    }
}

static rt_status from_text(rt_scheduler_config **config, char *text, const char *name, rt_error *err)
{
    rt_scheduler_config *c = calloc(1, sizeof *c);
    json_error_t why;
    tame_numbers(text);
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (!c || (!object && json_error_code(&why) == json_error_out_of_memory)) {
        free(c);
        json_decref(object);
        RT_RAISE(RT_E_MEMORY, "%s: out of memory", name);
    }
    if (!json_is_object(object)) {
        free(c);
        json_decref(object);
        RT_RAISE(RT_E_INVALID, "%s: line %d: %s; must be a JSON object", name, object ? 1 : why.line,
                 object ? "is not an object" : why.text);
    }
    c->object = object;
    snprintf(c->name, sizeof c->name, "%s", name);
    *config = c;
    return RT_OK;
}

rt_status rt_scheduler_config_open(rt_scheduler_config **c, const char *path, rt_error *err)
{
    char *text;
    size_t size;
    RT_TRY(rt__file_read(path, LARGEST, &text, &size, err));
    rt_status status =
        strlen(text) == size ? from_text(c, text, path, err) : rt_error_set(err, RT_E_INVALID, "%s: holds a NUL byte; must be JSON", path);
    free(text);
    return status;
}

rt_status rt_scheduler_config_parse(rt_scheduler_config **c, const char *json, const char *name, rt_error *err)
{
    char *text = strdup(json);
    if (!text) RT_RAISE(RT_E_MEMORY, "%s: out of memory", name);
    rt_status status = from_text(c, text, name, err);
    free(text);
    return status;
}

void rt_scheduler_config_free(rt_scheduler_config *c)
{
    if (!c) return;
    json_decref(c->object);
    free(c);
}

const char *rt_scheduler_config_name(const rt_scheduler_config *c) { return c->name; }

const char *rt_scheduler_config_class(const rt_scheduler_config *c)
{
    const char *name = json_string_value(json_object_get(c->object, "_class_name"));
    return name ? name : "";
}

const char *rt_scheduler_config_key(const rt_scheduler_config *c, int i)
{
    const char *key;
    json_t *value;
    json_object_foreach(c->object, key, value) if (key[0] != '_' && i-- == 0) return key;
    return NULL;
}

/* ---- values */

rt_status rt__json_wrong(const char *file, const char *key, const json_t *value, const char *must, rt_error *err)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    rt_status status = rt_error_set(err, RT_E_INVALID, "%s: key '%s' is %.80s; must be %s", file, key, text ? text : "?", must);
    free(text);
    return status;
}

/* The value of a key; NULL where it is absent or null. */
static const json_t *value_of(const rt_scheduler_config *c, const char *key)
{
    const json_t *v = json_object_get(c->object, key);
    return json_is_null(v) ? NULL : v;
}

rt_status rt_scheduler_config_text(const rt_scheduler_config *c, const char *key, const char **out, rt_error *err)
{
    const json_t *v = value_of(c, key);
    if (v && !json_is_string(v)) return rt__json_wrong(c->name, key, v, "a text", err);
    if (v) *out = json_string_value(v);
    return RT_OK;
}

rt_status rt_scheduler_config_int(const rt_scheduler_config *c, const char *key, int64_t min, int64_t max, int64_t *out, rt_error *err)
{
    const json_t *v = value_of(c, key);
    char must[96];
    snprintf(must, sizeof must, "a whole number from %lld to %lld", (long long)min, (long long)max);
    if (v && (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max))
        return rt__json_wrong(c->name, key, v, must, err);
    if (v) *out = json_integer_value(v);
    return RT_OK;
}

rt_status rt_scheduler_config_real(const rt_scheduler_config *c, const char *key, double min, double max, double *out, rt_error *err)
{
    const json_t *v = value_of(c, key);
    char must[96];
    snprintf(must, sizeof must, "a number from %g to %g", min, max);
    if (v && !(json_is_number(v) && json_number_value(v) >= min && json_number_value(v) <= max))
        return rt__json_wrong(c->name, key, v, must, err);
    if (v) *out = json_number_value(v);
    return RT_OK;
}

rt_status rt_scheduler_config_flag(const rt_scheduler_config *c, const char *key, bool *out, rt_error *err)
{
    const json_t *v = value_of(c, key);
    if (v && !json_is_boolean(v)) return rt__json_wrong(c->name, key, v, "true or false", err);
    if (v) *out = json_is_true(v);
    return RT_OK;
}

rt_status rt_scheduler_config_reals(const rt_scheduler_config *c, const char *key, double **out, int *n, rt_error *err)
{
    const json_t *v = value_of(c, key), *item;
    size_t i;
    *out = NULL;
    *n = 0;
    if (!v) return RT_OK;
    if (!json_is_array(v) || json_array_size(v) == 0 || json_array_size(v) > MOST_NUMBERS)
        return rt__json_wrong(c->name, key, v, "a list of numbers", err);
    double *values = malloc(json_array_size(v) * sizeof *values);
    if (!values) RT_RAISE(RT_E_MEMORY, "%s: key '%s': out of memory", c->name, key);
    json_array_foreach(v, i, item)
    {
        if (!json_is_number(item)) {
            free(values);
            return rt__json_wrong(c->name, key, v, "a list of numbers", err);
        }
        values[i] = json_number_value(item);
    }
    *out = values;
    *n = (int)json_array_size(v);
    return RT_OK;
}
