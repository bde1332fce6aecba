/* next.h -- the command that comes next, ready to be typed. */
#ifndef RETORT_NEXT_H
#define RETORT_NEXT_H

#include "cli.h"

#include "retort/train.h"

const char *cli_quoted(cli_call *c, const char *text); /* as a word of a shell; belongs to the call */
/* "OPTION PATH", and how its pictures are fitted; belongs to the call. */
const char *cli_data_words(cli_call *c, const char *option, const char *path, rt_fit fit);
/* What to do with a run that has ended, or that stopped on request. */
void cli_say_next(cli_call *c, const rt_config *config, const rt_run_summary *s);

#endif
