/* signals.c -- Ctrl-C: commands that could lose work finish what they are doing first; a second one ends them, too. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t arrived, gently;
static const char *volatile words; /* what the first one is answered with; NULL: nothing */

static void on_signal(int number)
{
    int error = errno;
    if (number == SIGHUP && arrived) return; /* a terminal that closes sends it, and its shell again */
    if (number == SIGHUP) number = SIGTERM;
    if (arrived || !gently) _exit(128 + number);
    arrived = number;
    const char *text = words;
    if (text && write(STDERR_FILENO, text, strlen(text)) < 0) words = NULL; /* nobody reads */
    errno = error;
}

int cli_interrupted(void) { return arrived; }

void cli_stop_gently(const char *text)
{
    words = text;
    gently = 1;
}

void cli_catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal}, before;
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) sigaction(SIGHUP, &act, NULL); /* nohup ignores it */
    act.sa_handler = SIG_IGN; /* writing to a closed pipe becomes an error that main sees */
    sigaction(SIGPIPE, &act, NULL);
}
