/* oracle_samples.c -- the data set behind an oracle of kind `data`. */
#include "base/files.h"
#include "base/internal.h"
#include "retort/data.h"
#include "retort/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names are relative to the oracle's file, but for absolute ones and what is no file (toy:moons). */
static rt_status open_beside(rt_dataset **set, const char *folder, const char *data, rt_error *err)
{
    char path[4096];
    bool own = *data == '/' || strncmp(data, "toy:", 4) == 0;
    int n = snprintf(path, sizeof path, "%s%s%s", own ? "" : folder, own ? "" : "/", data);
    if (n < 0 || (size_t)n >= sizeof path) RT_RAISE(RT_E_INVALID, "a path of more than %zu bytes", sizeof path - 1);
    rt_status status = rt_dataset_open(set, path, err);
    if (status == RT_E_IO && !rt__file_exists(path)) RT_RAISE(RT_E_INVALID, "%s: there is no such file or folder", path);
    return status;
}

rt_status rt_oracle_read_data(const char *folder, const char *data, rt_oracle_samples *s, rt_error *err)
{
    rt_dataset *set;
    size_t count;
    RT_TRY(open_beside(&set, folder, data, err));
    const rt_dataset_info *i = rt_dataset_describe(set);
    s->n = i->count;
    s->rank = i->rank;
    memcpy(s->shape, i->shape, sizeof s->shape);
    bool fits = rt__mul_size((size_t)i->count, (size_t)i->features, &count) && rt__mul_size(count, sizeof *s->x, &count);
    s->x = fits ? malloc(count) : NULL;
    s->labels = i->classes ? malloc((size_t)i->count * sizeof *s->labels) : NULL;
    rt_status status = RT_OK;
    if (!s->x || (i->classes && !s->labels)) {
        status = rt_error_set(err, RT_E_MEMORY, "out of memory for %lld samples", (long long)i->count);
        free(s->x);
        free(s->labels);
        s->x = NULL;
        s->labels = NULL;
    } else {
        rt_dataset_range(set, s->low, s->high, false);
        for (int64_t j = 0; j < i->count; j++) rt_dataset_read(set, j, s->x + j * i->features, s->labels ? s->labels + j : NULL);
        if (!i->pictures) s->low = -1, s->high = 1;
    }
    rt_dataset_free(set);
    return status;
}
