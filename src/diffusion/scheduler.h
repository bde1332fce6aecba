/* scheduler.h -- the classes of diffusers' schedulers as rows. */
#ifndef RT_DIFFUSION_SCHEDULER_H
#define RT_DIFFUSION_SCHEDULER_H

#include "diffusion/diffusion_rows.h"

#include <jansson.h>

typedef struct rt__scheduler_class {
    const char *name, *process;
    double beta_start, beta_end; /* the class's defaults */
    const char *beta_schedule;
    bool clips;         /* has clip_sample, which is true unless said otherwise */
    const char *solver; /* NULL: only its process is known */
    rt_status (*path)(const rt_scheduler *s, int steps, double *from, double *to, rt_error *err);
} rt__scheduler_class;

extern const rt__scheduler_class rt__scheduler_classes[];
extern const size_t rt__n_scheduler_classes;

const rt__scheduler_class *rt__scheduler_class_find(const char *name, rt_error *err);
rt_status rt__ddim_path(const rt_scheduler *s, int steps, double *from, double *to, rt_error *err);
rt_status rt__flow_path(const rt_scheduler *s, int steps, double *from, double *to, rt_error *err);

/* A JSON file as Python writes them: infinities read as the largest numbers. The caller releases *root. */
rt_status rt__json_read(const char *path, size_t limit, json_t **root, rt_error *err);
/* `path` is the name for messages. */
rt_status rt__scheduler_config_parse(rt_scheduler_config *c, const json_t *root, const char *path, rt_error *err);

#endif
