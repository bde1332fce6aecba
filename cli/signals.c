/* signals.c -- Ctrl-C asks once politely. */
#include "cli.h"

#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t arrived;

static void on_signal(int number)
{
    if (arrived) _exit(128 + number);
    arrived = number;
}

int cli_interrupted(void) { return arrived; }

void cli_catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    act.sa_handler = SIG_IGN; /* writing to a closed pipe becomes an error that main sees */
    sigaction(SIGPIPE, &act, NULL);
}
