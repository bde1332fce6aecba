/* scheduler.h -- the classes of diffusers' schedulers as rows. */
#ifndef RT_DIFFUSION_SCHEDULER_H
#define RT_DIFFUSION_SCHEDULER_H

#include "diffusion/diffusion_rows.h"

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

#endif
