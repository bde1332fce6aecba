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
/* `retort distill METHOD --help`: the method, its options with their defaults. */
rt_status cli_method_help(const char *method, FILE *f, rt_error *err);

#endif
