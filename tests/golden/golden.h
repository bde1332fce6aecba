/* golden.h -- reading the numbers under tests/data/golden, and the distance in which they are compared. */
#ifndef RETORT_TESTS_GOLDEN_H
#define RETORT_TESTS_GOLDEN_H

#include "retort/format.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define GOLDEN "tests/data/golden/"

static inline json_t *golden_json(const char *path)
{
    json_error_t why;
    json_t *j = json_load_file(path, 0, &why);
    if (!j) fail_msg("%s: %s", path, why.text);
    return j;
}

static inline rt_tensors *golden_open(const char *path)
{
    rt_tensors *t = NULL;
    rt_error err = {0};
    if (rt_tensors_open(&t, path, &err) != RT_OK) fail_msg("%s", err.text);
    return t;
}

/* The tensor "PREFIX" "name" as F64, whatever it is stored as; `stored` (NULL allowed) gets its type. Absent: fails, or rank -1 if optional. */
static inline rt_tensor golden_tensor(const rt_tensors *t, const char *prefix, const char *name, rt_dtype *stored, bool optional)
{
    char key[256];
    rt_tensor raw = {0}, out = {.rank = -1};
    rt_error err = {0};
    snprintf(key, sizeof key, "%s%s", prefix, name);
    int i = rt_tensors_find(t, key);
    if (i < 0 && optional) return out;
    if (i < 0) fail_msg("%s is missing", key);
    if (rt_tensors_read(t, i, &raw, &err) != RT_OK || rt_tensor_cast(&out, &raw, RT_F64, &err) != RT_OK) fail_msg("%s: %s", key, err.text);
    if (stored) *stored = raw.dtype;
    rt_tensor_free(&raw);
    return out;
}

/* max|got - want| / max|want|, got being F32 or F64; where want is zero, max|got|. NaN is infinitely far. */
static inline double golden_distance(const void *got, rt_dtype dtype, const double *want, int64_t n)
{
    double d = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = dtype == RT_F32 ? (double)((const float *)got)[i] : ((const double *)got)[i], e = fabs(v - want[i]);
        if (!(e < INFINITY)) return INFINITY;
        d = fmax(d, e);
        top = fmax(top, fabs(want[i]));
    }
    return top > 0 ? d / top : d;
}

/* Writes doubles into the buffer of a graph value. */
static inline void golden_store(void *to, rt_dtype dtype, const double *from, int64_t n)
{
    for (int64_t i = 0; to && i < n; i++) {
        switch (dtype) {
        case RT_F32: ((float *)to)[i] = (float)from[i]; break;
        case RT_F64: ((double *)to)[i] = from[i]; break;
        case RT_I64: ((int64_t *)to)[i] = (int64_t)from[i]; break;
        default: ((unsigned char *)to)[i] = from[i] != 0; break;
        }
    }
}

#endif
