/* complete.c -- `retort complete WORD...`: what the last word, which may be empty, could become; one candidate a line. cli/completion/ has what shells ask it with.
 *
 * All is read from the tables that parsing and `retort list` use: commands, options, methods with their own options, keys. The names that a value may
 * have are the option's words, or the rows of the table that its help names: "row of `retort list solvers`". Nothing is printed where any file may stand. */
#include "complete.h"
#include "method_options.h"

#include <stdlib.h>
#include <string.h>

typedef struct completion {
    FILE *f;
    const char *head; /* what candidates begin with and no table has: "--solver=", "train.lr=", "a,b," */
    const char *word; /* the rest, to be completed */
    const cli_command *command;
    const char *method; /* NULL: not known */
    const char *name;   /* of the option that is looked for */
    const cli_option *found;
} completion;

static void offer(const completion *c, const char *before, const char *name, const char *behind)
{
    char text[256];
    snprintf(text, sizeof text, "%s%s%s", before, name, behind);
    if (strncmp(text, c->word, strlen(c->word)) == 0) fprintf(c->f, "%s%s\n", c->head, text);
}

static void offer_commands(const completion *c)
{
    for (const cli_command *const *k = cli_commands; *k; k++)
        if (!(*k)->hidden) offer(c, "", (*k)->name, "");
}

/* The rows of the table that a help text names. A list "a,b" is completed behind its last comma. */
static void offer_rows(const completion *whole, const char *help)
{
    static const char says[] = "retort list ";
    const char *at = strstr(help, says), *comma = strrchr(whole->word, ',');
    char kind[32], head[512];
    rt_row_text row;
    if (!at) return;
    at += strlen(says);
    snprintf(kind, sizeof kind, "%.*s", (int)strspn(at, "abcdefghijklmnopqrstuvwxyz-"), at);
    completion c = *whole;
    if (comma) {
        snprintf(head, sizeof head, "%s%.*s", c.head, (int)(comma + 1 - c.word), c.word);
        c.head = head;
        c.word = comma + 1;
    }
    for (int i = 0; cli_list_row(kind, i, &row); i++) offer(&c, "", row.name, "");
}

/* KEY= of --set, or behind it the value. */
static void offer_keys(const completion *whole)
{
    const char *equals = strchr(whole->word, '=');
    char head[512];
    rt_config_key key;
    completion c = *whole;
    if (equals) {
        snprintf(head, sizeof head, "%s%.*s", c.head, (int)(equals + 1 - c.word), c.word);
        c.head = head;
        c.word = equals + 1;
    }
    for (int i = 0; rt_config_key_at(c.method, i, &key); i++)
        if (!equals)
            offer(&c, "", key.name, "=");
        else if (strlen(key.name) == (size_t)(equals - whole->word) && strncmp(key.name, whole->word, strlen(key.name)) == 0)
            offer_rows(&c, key.help);
}

static void offer_values(const completion *c, const cli_option *o)
{
    rt_config_key own;
    if (strcmp(o->name, "set") == 0 && c->command->more_keys)
        offer_keys(c);
    else if (o->words)
        for (const char *const *w = o->words(); *w; w++) offer(c, "", *w, "");
    else
        offer_rows(c, c->method && cli_method_key(c->method, o->name, &own) ? own.help : o->help);
}

/* Options of methods count if the method reads them; which one is meant may not be known yet. */
static void offer_option(const cli_option *o, void *user)
{
    const completion *c = user;
    rt_config_key own;
    const cli_option *of_methods = c->command->method_options ? c->command->method_options() : NULL;
    bool methods = false;
    for (; of_methods && of_methods->name; of_methods++) methods |= of_methods == o;
    if (!methods || !c->method || cli_method_key(c->method, o->name, &own)) offer(c, "--", o->name, "");
}

static void find_option(const cli_option *o, void *user)
{
    completion *c = user;
    const char letter[] = {'-', o->letter, 0};
    bool is = strncmp(c->name, "--", 2) == 0 ? strcmp(c->name + 2, o->name) == 0 : o->letter && strcmp(c->name, letter) == 0;
    if (is && o->arg && !c->found) c->found = o;
}

/* The option with a value that a word is; NULL: none. */
static const cli_option *option_of(completion *c, const char *word)
{
    c->name = word;
    c->found = NULL;
    cli_each_option(c->command, find_option, c);
    return c->found;
}

/* A method that stands among the words, if the command has any; with train, the usual one. */
static const char *method_of(const cli_command *command, int n, char **words)
{
    rt_row_text row;
    const char *method = command->method_options && command->max_arguments == 0 ? "denoise" : NULL;
    for (int i = 0; command->method_options && rt_method_describe(i, &row); i++)
        for (int k = 1; k + 1 < n; k++)
            if (strcmp(words[k], row.name) == 0) method = row.name;
    return method;
}

static void complete_behind(completion *c, int n, char **words)
{
    char head[128], option[128];
    const char *equals = strncmp(c->word, "--", 2) == 0 ? strchr(c->word, '=') : NULL;
    const cli_option *o = n > 2 ? option_of(c, words[n - 2]) : NULL;
    if (!o && equals) {
        snprintf(head, sizeof head, "%.*s", (int)(equals + 1 - c->word), c->word);
        snprintf(option, sizeof option, "%.*s", (int)(equals - c->word), c->word);
        c->head = head;
        c->word = equals + 1;
        o = option_of(c, option);
        if (!o) return;
    }
    if (o)
        offer_values(c, o);
    else if (*c->word == '-')
        cli_each_option(c->command, offer_option, c);
    else if (c->command->words && !c->method)
        for (const char *const *w = c->command->words(); *w; w++) offer(c, "", *w, "");
}

void cli_complete(int n, char **words, FILE *f)
{
    completion c = {.f = f, .head = "", .word = n > 0 ? words[n - 1] : ""};
    if (n < 2) {
        offer_commands(&c);
        offer(&c, "", "help", "");
        offer(&c, "--", "help", "");
        offer(&c, "--", "version", "");
    } else if (strcmp(words[0], "help") == 0) {
        if (n == 2) offer_commands(&c);
    } else if ((c.command = cli_command_find(words[0]))) {
        c.method = method_of(c.command, n, words);
        complete_behind(&c, n, words);
    }
}
