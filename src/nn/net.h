/* net.h -- the handle behind rt_net: one row per kind of network. */
#ifndef RT_NN_NET_H
#define RT_NN_NET_H

#include "retort/nn.h"

#include <jansson.h>

typedef struct rt__net_kind {
    const char *name;          /* `_class_name` */
    const char *source, *text; /* for `retort list networks` */
    size_t size;               /* of the settings */
    /* Reads the settings and fills info. */
    rt_status (*read)(void *settings, rt_net_info *info, const json_t *config, const char *file, rt_error *err);
    rt_node *(*apply)(const void *settings, rt_params *set, rt_node *x, rt_node *t, rt_node *y);
    rt_node *(*features)(const void *settings, rt_params *set, rt_node *x); /* NULL: not a classifier */
} rt__net_kind;

extern const rt__net_kind rt__net_unet, rt__net_mlp, rt__net_classifier;

/* Fields of a configuration; errors name file, field, value and what it must be. Absent or null takes the fallback. */
rt_status rt__field_wrong(const json_t *config, const char *file, const char *field, const char *must, rt_error *err);
rt_status rt__field_int(const json_t *config, const char *file, const char *field, bool required, int fallback, int min, int max, int *out,
                        rt_error *err);
rt_status rt__field_real(const json_t *config, const char *file, const char *field, double fallback, double min, double max, double *out,
                         rt_error *err);
rt_status rt__field_bool(const json_t *config, const char *file, const char *field, bool fallback, bool *out, rt_error *err);
bool rt__field_absent(const json_t *config, const char *field);

#endif
