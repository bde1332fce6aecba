/* scene_fields.h -- fields of the JSON files of scenes, checked: errors name file, field, value and what it must be. */
#ifndef RT_SCENE_FIELDS_H
#define RT_SCENE_FIELDS_H

#include "base/internal.h"

#include <jansson.h>

/* Fails with "NAME: field 'FIELD' is VALUE; must be MUST"; FIELD is a printf format. */
rt_status rt__scene_wrong(const char *name, const json_t *value, const char *must, rt_error *err, const char *field, ...)
    __attribute__((format(printf, 5, 6)));
/* Is value an array of n numbers? Then they are put to out. */
bool rt__scene_numbers(const json_t *value, size_t n, double *out);
/* A JSON object from a text, whose name begins messages, or from a file of at most `limit` bytes. */
rt_status rt__scene_parse(json_t **root, const char *name, const char *text, rt_error *err);
rt_status rt__scene_json(json_t **root, const char *path, size_t limit, rt_error *err);

#endif
