/* scheduler.h -- the classes of diffusers' schedulers as rows. */
#ifndef RT_DIFFUSION_SCHEDULER_H
#define RT_DIFFUSION_SCHEDULER_H

#include "diffusion/diffusion_rows.h"

#include <jansson.h>

typedef struct rt__scheduler_class {
    const char *name, *process;
    double beta_start, beta_end; /* the class's defaults */
    const char *beta_schedule;
    enum { RT__NO_CLIP, RT__CLIPS, RT__MAY_CLIP } clips; /* has clip_sample: true, or false, unless said otherwise */
    const char *spacing;                                 /* its default */
    bool over_alpha;                                     /* its state is x/alpha */
    bool floor;                                          /* rescaled to zero SNR, it keeps alpha_T = 2^-12 */
    rt_status (*path)(const rt_scheduler *s, int steps, const rt_scheduler_steps *path,
                      rt_error *err); /* NULL: only its process is known */
} rt__scheduler_class;

struct rt_scheduler {
    rt_scheduler_config config;
    const rt__scheduler_class *class;
    rt_process *process;
    const rt_prediction *prediction;
    const rt_solver *solver; /* NULL: not known */
};

extern const rt__scheduler_class rt__scheduler_classes[];
extern const size_t rt__n_scheduler_classes;

const rt__scheduler_class *rt__scheduler_class_find(const char *name, rt_error *err);
rt_status rt__ddim_path(const rt_scheduler *s, int steps, const rt_scheduler_steps *path, rt_error *err);
rt_status rt__ddpm_path(const rt_scheduler *s, int steps, const rt_scheduler_steps *path, rt_error *err);
rt_status rt__flow_path(const rt_scheduler *s, int steps, const rt_scheduler_steps *path, rt_error *err);
rt_status rt__sigma_path(const rt_scheduler *s, int steps, const rt_scheduler_steps *path, rt_error *err);
/* The class that alone has this schedule of betas; NULL: all have it. */
const char *rt__schedule_owner(const char *beta_schedule);
rt_status rt__scheduler_check_spacing(const char *name, rt_error *err);

/* A JSON file as Python writes them: infinities read as the largest numbers. The caller releases *root. */
rt_status rt__json_read(const char *path, size_t limit, json_t **root, rt_error *err);
/* `path` is the name for messages. */
rt_status rt__scheduler_config_parse(rt_scheduler_config *c, const json_t *root, const char *path, rt_error *err);

#endif
