/* samples.h -- where samples go: a picture, a tensor file, a zip, a folder; the ending of the path decides. */
#ifndef RETORT_SAMPLES_H
#define RETORT_SAMPLES_H

#include "models.h"

typedef struct cli_sink cli_sink;

/* Can samples of this model go there? For answers before any work is done. */
rt_status cli_sink_check(const char *path, const rt_model_info *info, bool trace, rt_error *err);
/* Room for n samples, numbered from 0, with `states` of each where they are traced. *sink must be freed even after a failure. */
rt_status cli_sink_open(cli_sink **sink, const char *path, const rt_model_info *info, int64_t n, int states, bool trace, rt_error *err);
/* What it holds until the end. */
size_t cli_sink_bytes(const char *path, const rt_model_info *info, int64_t n, int states, bool trace);
rt_status cli_sink_take(cli_sink *sink, const rt_samples *s, rt_error *err);
/* One more file, of text, in a zip or a folder. */
rt_status cli_sink_add(cli_sink *sink, const char *name, const char *text, rt_error *err);
/* Writes what could not be written before. */
rt_status cli_sink_finish(cli_sink *sink, const rt_sample_report *report, rt_error *err);
void cli_sink_free(cli_sink *sink);

#endif
