/* method_options.h -- options that follow from the methods' own keys. */
#ifndef RETORT_METHOD_OPTIONS_H
#define RETORT_METHOD_OPTIONS_H

#include "cli.h"

#include "retort/config.h"

/* The options of all methods of `distill` (or `train`), one of each name. */
const cli_option *cli_distill_options(void);
const cli_option *cli_train_options(void);
/* The key of the method that an option names; false: it has no such setting. */
bool cli_method_key(const char *method, const char *option, rt_config_key *key);
/* The option of the method's setting whose key ends in `word`: teacher-steps for kd.steps. NULL: it has none. */
const char *cli_method_option_of(const char *method, const char *word);
/* `retort distill METHOD --help`: the method, the options that it reads with its defaults. */
rt_status cli_method_help(const cli_command *command, const char *method, FILE *f, rt_error *err);

#endif
