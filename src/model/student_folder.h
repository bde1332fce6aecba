/* student_folder.h -- a model as a folder that diffusers loads and that carries its recipe: network, scheduler, index, README. */
#ifndef RT_MODEL_STUDENT_FOLDER_H
#define RT_MODEL_STUDENT_FOLDER_H

#include "retort/diffusion.h"
#include "retort/nn.h"

typedef struct rt__student_folder {
    const rt_net *net;
    const rt_params *values, *raw;  /* raw: beside them, as the variant "raw"; NULL: none */
    const rt_process *process;      /* NULL: a network of no process, such as a classifier: it alone is written */
    rt_scheduler_config *scheduler; /* of that process, with the recipe, whose exact_in_diffusers is filled */
} rt__student_folder;

/* Writes it as `folder`, complete or not at all; a folder that is there is replaced. `temporary`, of the same file system, is free for use. */
rt_status rt__student_folder_write(const rt__student_folder *s, const char *folder, const char *temporary, rt_error *err);

#endif
