/* scheduler_json.h -- inside of a scheduler configuration, for its reader and its writer. */
#ifndef RT_FORMAT_SCHEDULER_JSON_H
#define RT_FORMAT_SCHEDULER_JSON_H

#include "base/internal.h"
#include "retort/format.h"

#include <jansson.h>
#include <stdio.h>

struct rt_scheduler_config {
    json_t *object;
    char name[1024];
};

/* "FILE: key 'k' is V; must be ...", RT_E_INVALID. */
rt_status rt__json_wrong(const char *file, const char *key, const json_t *value, const char *must, rt_error *err);

#endif
