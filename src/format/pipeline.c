/* pipeline.c -- model_index.json: the file that makes a folder a pipeline of diffusers. */
#include "base/files.h"
#include "retort/format.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

rt_status rt_model_index_write(const char *folder, const char *network, const char *scheduler, rt_error *err)
{
    char path[1024];
    if (snprintf(path, sizeof path, "%s/model_index.json", folder) >= (int)sizeof path)
        RT_RAISE(RT_E_IO, "%.60s...: the path is longer than 1023 bytes", folder);
    /* DDPMPipeline draws with any scheduler, DDIMPipeline makes a DDIMScheduler of it */
    const char *pipeline = strcmp(scheduler, "DDIMScheduler") ? "DDPMPipeline" : "DDIMPipeline";
    json_t *o = json_pack("{s:s, s:s, s:[s, s], s:[s, s]}", "_class_name", pipeline, "_diffusers_version", "0.42.1", "scheduler",
                          "diffusers", scheduler, "unet", "diffusers", network);
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    rt_status status = text ? rt__file_write(path, text, strlen(text), err) : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    free(text);
    return status;
}
