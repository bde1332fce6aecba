/* progress.c -- how far, how fast, how long: one live line on a terminal, a plain line now and then elsewhere. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double live_interval = 0.1, plain_interval = 30, plain_first = 2; /* seconds; the first plain line is the estimate */

static int terminal_width(void)
{
    struct winsize size;
    if (!isatty(STDERR_FILENO)) return 0;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) return size.ws_col < 200 ? size.ws_col : 200;
    return 80;
}

/* 75 -> "1:15", 4000 -> "1:06:40" */
static void clock_text(char *out, size_t size, double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

/* `update 620/2000  8.1 views/s  ...  ETA 4:10`; where the terminal is narrower, the words lose their end. */
static void lively_line(const cli_progress *p, double done, const char *in, const char *when, char *line, size_t size)
{
    char end[48];
    int n = snprintf(line, size, "%s %.0f/%.0f  ", p->label, done, p->total), tail = snprintf(end, sizeof end, "  %s %s", in, when),
        room = p->width ? p->width - 1 - n - tail : (int)sizeof p->remark;
    snprintf(line + n, size - (size_t)n, "%.*s%s", room > 0 ? room : 0, p->remark, end);
}

static void show(cli_progress *p, double done, bool last)
{
    double elapsed = cli_now() - p->started, rate = elapsed > 0 ? (done - p->first) / elapsed : 0;
    char line[400], spent[32], left[32] = "?";
    clock_text(spent, sizeof spent, elapsed);
    if (rate > 0) clock_text(left, sizeof left, (p->total - done) / rate);
    if (p->lively)
        lively_line(p, done, last ? "in" : "ETA", last ? spent : left, line, sizeof line);
    else if (last)
        snprintf(line, sizeof line, "%s: %.0f %s in %s, %.4g/s", p->label, done, p->unit, spent, rate);
    else
        snprintf(line, sizeof line, "%s: %.0f/%.0f %s (%.0f%%), %.4g/s, %s left%s%s", p->label, done, p->total, p->unit,
                 100 * done / p->total, rate, left, *p->remark ? ", " : "", p->remark);
    if (p->width)
        fprintf(stderr, "\r\033[K%.*s%s", p->width - 1, line, last ? "\n" : "");
    else
        fprintf(stderr, "%s\n", line);
    fflush(stderr);
}

void cli_progress_start(cli_progress *p, const cli_call *c, const char *label, const char *unit, double total, bool resumed)
{
    *p = (cli_progress){.call = c,
                        .label = label,
                        .unit = unit,
                        .total = total,
                        .started = cli_now(),
                        .first = resumed ? -1 : 0,
                        .width = terminal_width()};
    p->shown = p->started;
}

void cli_progress_at(cli_progress *p, double done)
{
    double now = cli_now();
    if (p->first < 0) { /* work that goes on where an earlier sitting stopped: the rate is of this one */
        p->first = done;
        p->started = p->shown = now;
    }
    double pause = p->width ? live_interval : p->shown > p->started ? plain_interval : plain_first;
    if (p->call->quiet || done <= 0 || now - p->shown < pause) return;
    p->shown = now;
    show(p, done, false);
}

void cli_progress_end(cli_progress *p, double done)
{
    /* work that took no time needs no line */
    if (p->call->quiet || (p->shown <= p->started && cli_now() - p->started < 2)) return;
    show(p, done, true);
}
