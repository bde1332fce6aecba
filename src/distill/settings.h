/* settings.h -- tables of keys: macros for their rows, and how a method's own settings are found. */
#ifndef RT_DISTILL_SETTINGS_H
#define RT_DISTILL_SETTINGS_H

#include "retort/config.h"

#include <stddef.h>

/* Which methods read a shared key. */
enum { RT_READS_TEACHER = 1, RT_READS_DATA = 2, RT_READS_WEIGHT = 4, RT_READS_METERS = 8 };

/* Rows of a table for the fields of STRUCT, which the file that holds the table defines. */
#define RT__TEXT(key, f, value_, arg, help_)                                                                                               \
    {                                                                                                                                      \
        .name = key, .kind = RT_KEY_TEXT, RT__AT(f), .value = value_, .help = help_, .argument = arg                                       \
    }
#define RT__AT(f) .offset = offsetof(STRUCT, f), .size = sizeof(((STRUCT *)0)->f)
#define RT__KEY(kind_, key, f, low, high, value_, help_)                                                                                   \
    {                                                                                                                                      \
        .name = key, .kind = kind_, RT__AT(f), .min = low, .max = high, .value = value_, .help = help_                                     \
    }
#define RT__INT(key, f, low, high, value_, help_)   RT__KEY(RT_KEY_INT, key, f, low, high, value_, help_)
#define RT__INT64(key, f, low, high, value_, help_) RT__KEY(RT_KEY_INT64, key, f, low, high, value_, help_)
#define RT__REAL(key, f, low, high, value_, help_)  RT__KEY(RT_KEY_REAL, key, f, low, high, value_, help_)
#define RT__LIST(kind_, key, f, n, low, high, value_, help_)                                                                               \
    {                                                                                                                                      \
        .name = key, .kind = kind_, RT__AT(f), .count_offset = offsetof(STRUCT, n), .min = low, .max = high, .value = value_,              \
        .help = help_                                                                                                                      \
    }

/* A part of a method's settings: `n` keys for the struct at `at` of its own. Families share a part. */
typedef struct rt_key_group {
    const rt_config_key *keys;
    size_t n, at;
} rt_key_group;

extern const rt_config_key rt__shared_keys[];
extern const size_t rt__n_shared_keys;

/* The method's own settings: the struct that its groups of keys describe. */
static inline const void *rt__own(const rt_config *c) { return c->own.bytes; }

#endif
