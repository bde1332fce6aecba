/* samples.h -- where samples go: a picture, a tensor file, a zip, a folder. */
#ifndef RETORT_SAMPLES_H
#define RETORT_SAMPLES_H

#include "models.h"

typedef struct cli_sink cli_sink;

/* Chooses by the ending of `path`. `command` is kept with the samples, so that they say where they come from. Claims the path. */
rt_status cli_sink_open(cli_sink **sink, cli_call *c, const char *path, const rt_model_info *info, int64_t n, int steps, bool trace,
                        rt_error *err);
rt_status cli_sink_take(cli_sink *sink, const rt_samples *s, rt_error *err);
/* Writes what could not be written before, with the times of the trace. */
rt_status cli_sink_finish(cli_sink *sink, const rt_sample_report *report, rt_error *err);
void cli_sink_free(cli_sink *sink);

#endif
