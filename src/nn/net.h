/* net.h -- the handle behind rt_net: one row per kind of network, and how their settings are read. */
#ifndef RT_NN_NET_H
#define RT_NN_NET_H

#include "nn/layers.h"

#include <limits.h>

#include <jansson.h>

/* A config.json while it is read. Every complaint names file, field, value and what it must be. */
typedef struct rt__fields {
    const json_t *config;
    const char *file;
    rt_error *err;
} rt__fields;

typedef struct rt__net_kind {
    const char *name;          /* `_class_name` */
    const char *source, *text; /* for `retort list networks` */
    size_t size;               /* of the settings */
    /* Reads the settings and fills info. */
    rt_status (*read)(void *settings, rt_net_info *info, const rt__fields *f);
    rt_node *(*apply)(const void *settings, rt_params *set, rt_node *x, rt_node *t, rt_node *y);
    /* rt_net_levels; NULL: a classifier */
    void (*levels)(const void *settings, rt_params *set, rt_node *x, rt_node *t, rt_node *y, rt_node **levels);
    rt_node *(*features)(const void *settings, rt_params *set, rt_node *x); /* NULL: not a classifier */
} rt__net_kind;

extern const rt__net_kind rt__net_unet, rt__net_mlp, rt__net_affine, rt__net_classifier;

enum { RT_REQUIRED = INT_MIN }; /* in place of a fallback */

rt_status rt__field_wrong(const rt__fields *f, const char *field, const char *must);
bool rt__field_absent(const rt__fields *f, const char *field);
bool rt__field_null(const rt__fields *f, const char *field); /* there, and null */
/* Absent takes the fallback; null is as wrong as any other type. */
rt_status rt__field_int(const rt__fields *f, const char *field, int fallback, int min, int max, int *out);
/* The field `_draws`: how many draws of x's size the network sees beside x. */
rt_status rt__field_draws(const rt__fields *f, int *out);
rt_status rt__field_real(const rt__fields *f, const char *field, double fallback, double min, double max, double *out);
rt_status rt__field_bool(const rt__fields *f, const char *field, bool fallback, bool *out);
/* The index of a text in `names` (NULL at the end). */
rt_status rt__field_choice(const rt__fields *f, const char *field, int fallback, const char *const *names, int *out);
/* A list of 1 to `room` whole numbers; *n of them. */
rt_status rt__field_ints(const rt__fields *f, const char *field, int room, int min, int max, int *n, int *out);
rt_status rt__field_activation(const rt__fields *f, const char *field, rt__activation *out);
/* Refuses fields that are not in `names` (n of them) and do not begin with "_": all, or those that look like a slip of the pen. */
rt_status rt__fields_known(const rt__fields *f, const char *const *names, size_t n, bool all);

/* The file of a folder's weights: the whole, an index of shards, else one of 16 bits. RT_E_INVALID where there are pickles only, with how to convert
 * them, RT_E_IO where there is nothing. */
rt_status rt__net_weights(const char *folder, const char *variant, char *file, size_t size, rt_error *err);

#endif
