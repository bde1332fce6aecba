/* fields.c -- fields of a network's configuration, checked. */
#include "nn/net.h"

#include "base/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rt_status rt__field_wrong(const rt__fields *f, const char *field, const char *must)
{
    const json_t *v = json_object_get(f->config, field);
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    rt_status s = rt_error_set(f->err, RT_E_INVALID, "%s: field '%s' is %.80s; %s", f->file, field,
                               !v     ? "missing"
                               : text ? text
                                      : "?",
                               must);
    free(text);
    return s;
}

bool rt__field_absent(const rt__fields *f, const char *field) { return !json_object_get(f->config, field); }
bool rt__field_null(const rt__fields *f, const char *field) { return json_is_null(json_object_get(f->config, field)); }

static bool whole(const json_t *v, int min, int max)
{
    return json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= max;
}

rt_status rt__field_int(const rt__fields *f, const char *field, int fallback, int min, int max, int *out)
{
    char must[96];
    const json_t *v = json_object_get(f->config, field);
    *out = fallback;
    if (!v && fallback != RT_REQUIRED) return RT_OK;
    snprintf(must, sizeof must, "must be a whole number from %d to %d", min, max);
    if (!whole(v, min, max)) return rt__field_wrong(f, field, must);
    *out = (int)json_integer_value(v);
    return RT_OK;
}

rt_status rt__field_draws(const rt__fields *f, int *out) { return rt__field_int(f, "_draws", 0, 0, 4096, out); }

rt_status rt__field_real(const rt__fields *f, const char *field, double fallback, double min, double max, double *out)
{
    char must[96];
    const json_t *v = json_object_get(f->config, field);
    *out = fallback;
    if (!v) return RT_OK;
    snprintf(must, sizeof must, "must be a number from %g to %g", min, max);
    if (!json_is_number(v) || !(json_number_value(v) >= min && json_number_value(v) <= max)) return rt__field_wrong(f, field, must);
    *out = json_number_value(v);
    return RT_OK;
}

rt_status rt__field_bool(const rt__fields *f, const char *field, bool fallback, bool *out)
{
    const json_t *v = json_object_get(f->config, field);
    *out = fallback;
    if (!v) return RT_OK;
    if (!json_is_boolean(v)) return rt__field_wrong(f, field, "must be true or false");
    *out = json_is_true(v);
    return RT_OK;
}

rt_status rt__field_choice(const rt__fields *f, const char *field, int fallback, const char *const *names, int *out)
{
    char must[256] = "must be one of";
    const json_t *v = json_object_get(f->config, field);
    const char *text = json_string_value(v);
    *out = fallback;
    if (!v) return RT_OK;
    for (int i = 0; names[i]; i++) {
        snprintf(must + strlen(must), sizeof must - strlen(must), "%s %s", i ? "," : "", names[i]);
        if (text && !strcmp(names[i], text)) {
            *out = i;
            return RT_OK;
        }
    }
    return rt__field_wrong(f, field, must);
}

rt_status rt__field_ints(const rt__fields *f, const char *field, int room, int min, int max, int *n, int *out)
{
    char must[128];
    const json_t *list = json_object_get(f->config, field);
    size_t count = json_array_size(list); /* 0 for what is no list */
    bool good = count >= 1 && count <= (size_t)room;
    for (size_t i = 0; i < count && good; i++) {
        const json_t *v = json_array_get(list, i);
        good = whole(v, min, max);
        if (good) out[i] = (int)json_integer_value(v);
    }
    snprintf(must, sizeof must, "must be a list of 1 to %d whole numbers from %d to %d", room, min, max);
    *n = (int)count;
    return good ? RT_OK : rt__field_wrong(f, field, must);
}

rt_status rt__field_activation(const rt__fields *f, const char *field, rt__activation *out)
{
    const json_t *v = json_object_get(f->config, field);
    *out = rt__activation_find(v ? json_string_value(v) : "silu");
    return *out ? RT_OK : rt__field_wrong(f, field, "must be one of silu, swish, mish, gelu, relu");
}

rt_status rt__fields_known(const rt__fields *f, const char *const *names, size_t n, bool all)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)f->config, key, v)
    {
        bool known = *key == '_';
        for (size_t i = 0; i < n && !known; i++) known = !strcmp(names[i], key);
        if (known) continue;
        char must[128];
        const char *close = rt_closest(key, names, n);
        if (close)
            snprintf(must, sizeof must, "there is no such field: did you mean '%s'?", close);
        else
            snprintf(must, sizeof must, "there is no such field: take it out");
        if (close || all) return rt__field_wrong(f, key, must);
    }
    return RT_OK;
}
