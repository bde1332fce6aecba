/* help.c -- what the program tells people about itself. */
#include "cli.h"

#include "retort/config.h"

#include <stdlib.h>
#include <string.h>

/* Headings stand out on a terminal. */
static void heading(FILE *f, const char *text)
{
    fprintf(f, "%s%s%s\n", cli_colour(f) ? "\033[1m" : "", text, cli_colour(f) ? "\033[0m" : "");
}

static void indented(FILE *f, const char *lines)
{
    for (const char *p = lines; *p;) {
        size_t n = strcspn(p, "\n");
        fprintf(f, "  %.*s\n", (int)n, p);
        p += n + (p[n] != 0);
    }
}

void cli_overview(FILE *f)
{
    fputs("Retort distils diffusion models: from tens or hundreds of network calls per sample to a few.\n\n"
          "usage: retort COMMAND [options] [arguments]\n\n",
          f);
    heading(f, "Commands");
    for (const cli_command *const *c = cli_commands; *c; c++)
        if (!(*c)->hidden) fprintf(f, "  %-9s %s\n", (*c)->name, (*c)->summary);
    fputc('\n', f);
    heading(f, "A first look");
    indented(f, "retort list solvers                    what there is, and where it comes from\n"
                "retort help sample                     how to draw samples, with an example\n"
                "make demo                              in the source folder: distil a small image model in a few minutes");
    fputs("\n'retort help COMMAND' explains a command; 'retort --version' says what was built in.\n", f);
}

static void print_option(const cli_option *o, void *user)
{
    FILE *f = user;
    char left[64], letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->arg ? " " : "", o->arg ? o->arg : "");
    fprintf(f, "  %-26s%s%s", left, strlen(left) > 25 ? "\n                            " : "", o->help);
    if (o->fallback) fprintf(f, " (%s)", o->fallback);
    fputc('\n', f);
}

static void print_table(FILE *f, const char *title, const cli_option *table)
{
    if (!table) return;
    heading(f, title);
    for (const cli_option *o = table; o->name; o++) print_option(o, f);
    fputc('\n', f);
}

static void print_methods(FILE *f, const char *const *names)
{
    rt_row_text row;
    heading(f, "Methods");
    for (; *names; names++)
        for (int i = 0; rt_method_describe(i, &row); i++)
            if (!strcmp(row.name, *names)) fprintf(f, "  %-9s %s\n", row.name, row.text);
    fputc('\n', f);
}

void cli_help(const cli_command *command, FILE *f)
{
    fprintf(f, "usage: retort %s %s%s[options]\n\n%s\n\n", command->name, command->arguments, *command->arguments ? " " : "",
            command->text);
    heading(f, "Example");
    indented(f, command->examples);
    fputc('\n', f);
    print_table(f, "Options", command->options);
    if (command->method_options && command->words)
        print_methods(f, command->words());
    else if (command->method_options)
        print_table(f, "Options of methods", command->method_options());
    print_table(f, command->shared_title, command->shared);
    print_table(f, "Options of every command", cli_common);
    fputs("Numbers may end in k or M (thousands, millions). Every option with a default can also be set in a --config file.\n", f);
}

rt_status cli_unknown(const char *what, const char *word, const char *const *names, size_t n, rt_error *err)
{
    const char *commands[64];
    if (!names) {
        for (n = 0; cli_commands[n] && n < 63; n++) commands[n] = cli_commands[n]->name;
        commands[n++] = "help";
        names = commands;
    }
    const char *guess = rt_closest(word, names, n);
    if (guess) return rt_error_set(err, RT_E_USAGE, "%s: no such %s; did you mean '%s'?", word, what, guess);
    return rt_error_set(err, RT_E_USAGE, "%s: no such %s; 'retort --help' lists the commands", word, what);
}
