/* main.c -- finds the command, runs it, turns its status into the exit code. */
#include "complete.h"
#include "joined_ranks.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static rt_status help(int argc, char **argv, rt_error *err)
{
    if (argc < 3) {
        cli_overview(stdout);
        return RT_OK;
    }
    const cli_command *command = cli_command_find(argv[2]);
    if (!command) return cli_unknown("command", argv[2], NULL, 0, err);
    cli_help(command, stdout);
    return RT_OK;
}

static rt_status run_command(const cli_command *command, int argc, char **argv, rt_error *err)
{
    cli_call c = {0};
    if (command->ranks) TRY(cli_join_ranks(err));
    TRY(rt_isa_choose(NULL, err));
    rt_status status = rt_ranks_agree(cli_ranks(), cli_parse(&c, command, argc - 1, argv + 1, err), err);
    if (rt_ranks_rank(cli_ranks()) > 0) c.quiet = true;
    if (status == RT_OK && c.help) {
        cli_help(command, stdout);
    } else if (status == RT_OK) {
        status = command->run(&c, err);
        if (status == RT_OK) status = cli_ok(&c, err);
        if (status == RT_OK && c.json) cli_write_json(&c);
        cli_keep_choices(&c);
    }
    cli_call_free(&c);
    return status;
}

static rt_status dispatch(int argc, char **argv, rt_error *err)
{
    const char *word = argc > 1 ? argv[1] : "--help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        TRY(rt_isa_choose(NULL, err));
        cli_version(stdout);
        return RT_OK;
    }
    if (strcmp(word, "help") == 0) return help(argc, argv, err);
    if (strcmp(word, "complete") == 0) {
        cli_complete(argc - 2, argv + 2, stdout);
        return RT_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        cli_overview(stdout);
        return RT_OK;
    }
    const cli_command *command = cli_command_find(word);
    if (!command) return cli_unknown(word[0] == '-' ? "option" : "command", word, NULL, 0, err);
    return run_command(command, argc, argv, err);
}

int main(int argc, char **argv)
{
    rt_error err = {0};
    cli_catch_signals();
    rt_status status = dispatch(argc, argv, &err);

    /* what is printed must arrive; a reader that has gone away is no news */
    errno = 0;
    bool failed = fflush(stdout) != 0 || ferror(stdout);
    if (failed && status == RT_OK) {
        status = RT_E_IO;
        if (errno != EPIPE) rt_error_set(&err, status, "standard output: %s; nothing more could be printed", strerror(errno ? errno : EIO));
    } else if (status != RT_OK) {
        if (!err.status) rt_error_set(&err, status, "failed without a reason (%s); please report this", rt_status_name(status));
        if (!(failed && errno == EPIPE) && cli_ranks_tell(&err)) cli_report_error(&err);
        err = (rt_error){0};
    }
    if (err.status) cli_report_error(&err);
    int code = status == RT_E_INTERRUPTED && cli_interrupted() == SIGTERM ? 128 + SIGTERM : (int)status;
    cli_leave_ranks(code);
    return code;
}
