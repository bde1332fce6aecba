/* runs.h -- what train and distill share: from options to a run and its summary. */
#ifndef RETORT_RUNS_H
#define RETORT_RUNS_H

#include "cli.h"

extern const cli_option cli_run_options[]; /* optimisation and run directory */
const char *const *cli_run_keys(void);     /* all keys of rt_config */

/* Runs `method` (c's options and keys over its defaults), or says what it would do. */
rt_status cli_run(cli_call *c, const char *method, rt_error *err);

#endif
