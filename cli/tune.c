/* tune.c -- the kernel choices of this machine, in a file that commands share. It saves time at most: whatever is wrong with it is one line. */
#include "cli.h"

#include <stdlib.h>

/* RETORT_CACHE, else XDG_CACHE_HOME/retort, else ~/.cache/retort; false where none is known. */
static bool file_path(char *path, size_t size)
{
    static const struct {
        const char *variable, *folder;
    } places[] = {{"RETORT_CACHE", ""}, {"XDG_CACHE_HOME", "/retort"}, {"HOME", "/.cache/retort"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *root = getenv(places[i].variable);
        if (!root || !*root) continue;
        int n = snprintf(path, size, "%s%s/choices.json", root, places[i].folder);
        return n > 0 && (size_t)n < size;
    }
    return false;
}

rt_choices *cli_choices(cli_call *c)
{
    char path[1024];
    rt_error why = {0};
    if (!c->tune || c->choices) return c->choices;
    c->choices = rt_choices_new(true);
    if (c->choices && file_path(path, sizeof path) && rt_choices_read(c->choices, path, &why) != RT_OK)
        cli_say(c, "%s; kernels are timed anew", why.text);
    return c->choices;
}

void cli_keep_choices(cli_call *c)
{
    char path[1024];
    rt_error why = {0};
    if (c->choices && file_path(path, sizeof path) && rt_choices_keep(c->choices, path, &why) != RT_OK)
        cli_say(c, "kernel choices cannot be kept: %s", why.text);
}
