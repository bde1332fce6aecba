/* scene_fields.c -- see scene_fields.h. */
#include "scene/scene_fields.h"

#include "base/files.h"
#include "base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rt_status rt__scene_wrong(const char *name, const json_t *value, const char *must, rt_error *err, const char *field, ...)
{
    char where[128], *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    va_list args;
    va_start(args, field);
    vsnprintf(where, sizeof where, field, args);
    va_end(args);
    rt_status s = rt_error_set(err, RT_E_INVALID, "%s: field '%s' is %.120s; must be %s", name, where,
                               !value ? "missing"
                               : text ? text
                                      : "?",
                               must);
    free(text);
    return s;
}

bool rt__scene_numbers(const json_t *value, size_t n, double *out)
{
    if (!json_is_array(value) || json_array_size(value) != n) return false;
    for (size_t i = 0; i < n; i++) {
        if (!json_is_number(json_array_get(value, i))) return false;
        out[i] = json_number_value(json_array_get(value, i));
    }
    return true;
}

static rt_status parse(json_t **root, const char *name, const char *text, size_t size, rt_error *err)
{
    RT_TRY(rt__json_parse(root, name, text, size, 1 << 22, err));
    if (json_is_object(*root)) return RT_OK;
    json_decref(*root);
    *root = NULL;
    RT_RAISE(RT_E_INVALID, "%s: must hold one JSON object", name);
}

rt_status rt__scene_parse(json_t **root, const char *name, const char *text, rt_error *err)
{
    return parse(root, name, text, strlen(text), err);
}

rt_status rt__scene_json(json_t **root, const char *path, size_t limit, rt_error *err)
{
    char *text;
    size_t size;
    *root = NULL;
    RT_TRY(rt__file_read(path, limit, &text, &size, err));
    rt_status s = parse(root, path, text, size, err);
    free(text);
    return s;
}
