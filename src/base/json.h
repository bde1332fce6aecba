/* json.h -- JSON texts of strangers into jansson trees. */
#ifndef RT_BASE_JSON_H
#define RT_BASE_JSON_H

#include "base/internal.h"

#include <jansson.h>

/* Keys that stand twice, NUL in strings, bytes that are not UTF-8, 2048 levels and more than `most` values are refused. `name` begins the message. */
rt_status rt__json_parse(json_t **root, const char *name, const char *text, size_t size, size_t most, rt_error *err);

/* Takes the keys that `_use_default_values` lists out of a configuration of diffusers: defaults that were written along, which its own classes do not
 * read either. */
void rt__json_drop_defaults(json_t *config);

#endif
