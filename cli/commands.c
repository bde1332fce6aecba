/* commands.c -- the commands, in the order in which help lists them. */
#include "cli.h"

#include <string.h>

extern const cli_command cli_sample_command, cli_predict_command, cli_eval_command, cli_inspect_command, cli_init_command, cli_list_command,
    cli_verify_command, cli_bench_command, cli_generate_command, cli_train_command, cli_distill_command, cli_render_command,
    cli_convert_command;

const cli_command *const cli_commands[] = {&cli_train_command,    &cli_distill_command,
                                           &cli_sample_command,   &cli_predict_command,
                                           &cli_eval_command,     &cli_inspect_command,
                                           &cli_render_command,   &cli_convert_command,
                                           &cli_init_command,     &cli_list_command,
                                           &cli_verify_command,   &cli_bench_command,
                                           &cli_generate_command, NULL};

const cli_command *cli_command_find(const char *name)
{
    for (const cli_command *const *c = cli_commands; *c; c++)
        if (strcmp((*c)->name, name) == 0) return *c;
    return NULL;
}
