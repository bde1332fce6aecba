/* signals.c -- Ctrl-C: commands that could lose work finish what they are doing first; a second one ends them, too. */
#include "cli.h"

#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t arrived, gently;

static void on_signal(int number)
{
    if (arrived || !gently) _exit(128 + number);
    arrived = number;
}

int cli_interrupted(void) { return arrived; }

void cli_stop_gently(void) { gently = 1; }

void cli_catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    act.sa_handler = SIG_IGN; /* writing to a closed pipe becomes an error that main sees */
    sigaction(SIGPIPE, &act, NULL);
}
