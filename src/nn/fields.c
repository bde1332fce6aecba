/* fields.c -- fields of a network's configuration, checked. */
#include "nn/net.h"

#include "base/internal.h"

#include <stdio.h>
#include <stdlib.h>

rt_status rt__field_wrong(const json_t *config, const char *file, const char *field, const char *must, rt_error *err)
{
    const json_t *v = json_object_get(config, field);
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    rt_status s = rt_error_set(err, RT_E_INVALID, "%s: field '%s' is %.80s; %s", file, field, v ? text ? text : "?" : "missing", must);
    free(text);
    return s;
}

bool rt__field_absent(const json_t *config, const char *field)
{
    const json_t *v = json_object_get(config, field);
    return !v || json_is_null(v);
}

rt_status rt__field_int(const json_t *config, const char *file, const char *field, bool required, int fallback, int min, int max, int *out,
                        rt_error *err)
{
    char must[96];
    snprintf(must, sizeof must, "must be a whole number from %d to %d", min, max);
    *out = fallback;
    if (rt__field_absent(config, field)) return required ? rt__field_wrong(config, file, field, must, err) : RT_OK;
    const json_t *v = json_object_get(config, field);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return rt__field_wrong(config, file, field, must, err);
    *out = (int)json_integer_value(v);
    return RT_OK;
}

rt_status rt__field_real(const json_t *config, const char *file, const char *field, double fallback, double min, double max, double *out,
                         rt_error *err)
{
    char must[96];
    snprintf(must, sizeof must, "must be a number from %g to %g", min, max);
    *out = fallback;
    if (rt__field_absent(config, field)) return RT_OK;
    const json_t *v = json_object_get(config, field);
    if (!json_is_number(v) || !(json_number_value(v) >= min && json_number_value(v) <= max))
        return rt__field_wrong(config, file, field, must, err);
    *out = json_number_value(v);
    return RT_OK;
}

rt_status rt__field_bool(const json_t *config, const char *file, const char *field, bool fallback, bool *out, rt_error *err)
{
    *out = fallback;
    if (rt__field_absent(config, field)) return RT_OK;
    const json_t *v = json_object_get(config, field);
    if (!json_is_boolean(v)) return rt__field_wrong(config, file, field, "must be true or false", err);
    *out = json_is_true(v);
    return RT_OK;
}
