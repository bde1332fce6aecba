/* method_options.c -- see method_options.h. An option is named like the key behind the dot, --guidance of `distill kd` is kd.guidance, unless the key says otherwise. */
#include "method_options.h"
#include "runs.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 96 };

static const char *behind_dot(const rt_config_key *key)
{
    const char *dot = strchr(key->name, '.');
    return dot ? dot + 1 : key->name;
}

static const char *option_name(const rt_config_key *key) { return key->option ? key->option : behind_dot(key); }

bool cli_method_key(const char *method, const char *option, rt_config_key *key)
{
    for (int i = 0; rt_method_key_at(method, i, key); i++)
        if (strcmp(option_name(key), option) == 0) return true;
    return false;
}

const char *cli_method_option_of(const char *method, const char *word)
{
    rt_config_key key;
    for (int i = 0; rt_method_key_at(method, i, &key); i++)
        if (strcmp(behind_dot(&key), word) == 0) return option_name(&key);
    return NULL;
}

/* What the option says in each method, those of one text together: "pd, map: ...; kd: ...". The caller owns the text. */
static char *help_of(const char *option, bool distils)
{
    char *text = NULL;
    size_t size = 0;
    rt_row_text row, other;
    rt_config_key key, same;
    FILE *f = open_memstream(&text, &size);
    for (int i = 0; f && rt_method_describe(i, &row); i++) {
        bool said = false;
        if (rt_method_needs_teacher(row.name) != distils || !cli_method_key(row.name, option, &key)) continue;
        for (int k = 0; k < i && rt_method_describe(k, &other); k++)
            said |= rt_method_needs_teacher(other.name) == distils && cli_method_key(other.name, option, &same) &&
                    strcmp(same.help, key.help) == 0;
        if (said) continue;
        fprintf(f, "%s%s", ftell(f) > 0 ? "; " : "", row.name);
        for (int k = i + 1; rt_method_describe(k, &other); k++)
            if (rt_method_needs_teacher(other.name) == distils && cli_method_key(other.name, option, &same) &&
                strcmp(same.help, key.help) == 0)
                fprintf(f, ", %s", other.name);
        fprintf(f, ": %s", key.help);
    }
    if (f) fclose(f);
    return text;
}

/* Does the command have an option of this name for all methods? Then that stands for the method's key, where the method has one. */
static bool is_shared(const char *name, bool distils)
{
    const cli_option *const tables[] = {cli_command_find(distils ? "distill" : "train")->options, cli_run_options, cli_common};
    for (int t = 0; t < 3; t++)
        for (const cli_option *o = tables[t]; o->name; o++)
            if (strcmp(o->name, name) == 0) return true;
    return false;
}

static const cli_option *collect(cli_option *table, bool distils)
{
    rt_row_text row;
    rt_config_key key;
    int n = 0;
    if (table[0].name) return table;
    for (int i = 0; rt_method_describe(i, &row); i++) {
        if (rt_method_needs_teacher(row.name) != distils) continue;
        for (int k = 0; rt_method_key_at(row.name, k, &key) && n + 1 < MOST; k++) {
            bool known = is_shared(option_name(&key), distils);
            for (int j = 0; j < n; j++) known |= strcmp(table[j].name, option_name(&key)) == 0;
            if (known) continue;
            char *help = help_of(option_name(&key), distils);
            table[n++] = (cli_option){option_name(&key), 0, key.argument ? key.argument : "N", NULL, NULL, help ? help : key.help, NULL};
        }
    }
    return table;
}

const cli_option *cli_distill_options(void)
{
    static cli_option table[MOST];
    return collect(table, true);
}

const cli_option *cli_train_options(void)
{
    static cli_option table[MOST];
    return collect(table, false);
}

static void print_option(FILE *f, const rt_config *c, const char *name, const char *argument, const char *key, const char *help)
{
    char left[64], value[RT_CONFIG_TEXT] = "";
    if (key && argument) (void)rt_config_get(c, key, value, sizeof value, NULL);
    snprintf(left, sizeof left, "--%s %s", name, argument ? argument : "");
    fprintf(f, "  %-26s%s%s%s%s%s\n", left, strlen(left) > 25 ? "\n                            " : "", help, *value ? " (" : "", value,
            *value ? ")" : "");
}

/* Does an option that stands for no key concern the method? --divergence does where it minimises one. */
static bool concerns(const char *option, const char *method)
{
    rt_row_text row;
    rt_minimiser m;
    if (strcmp(option, "divergence") != 0) return true;
    for (int i = 0; rt_minimised_describe(i, &row); i++)
        if (rt_minimiser_of(row.name, method, &m, NULL) == RT_OK) return true;
    return false;
}

/* Those of a table that the method reads, but for those that stand for a setting of its own. */
static void print_shared(FILE *f, const rt_config *c, const cli_option *table)
{
    char value[RT_CONFIG_TEXT];
    rt_config_key own;
    for (const cli_option *o = table; o->name; o++) {
        bool read = o->key ? strcmp(o->key, "method") != 0 && rt_config_get(c, o->key, value, sizeof value, NULL) == RT_OK
                           : concerns(o->name, c->method);
        if (read && !cli_method_key(c->method, o->name, &own)) print_option(f, c, o->name, o->arg, o->key, o->help);
    }
}

rt_status cli_method_help(const cli_command *command, const char *method, FILE *f, rt_error *err)
{
    rt_row_text row;
    rt_config *c = calloc(1, sizeof *c);
    if (!c) return rt_error_set(err, RT_E_MEMORY, "out of memory");
    rt_status status = rt_config_method(c, method, err);
    for (int i = 0; status == RT_OK && rt_method_describe(i, &row); i++)
        if (strcmp(row.name, method) == 0) fprintf(f, "%s: %s (%s)\n\n", rt_method_called(row.name), row.text, row.source);
    rt_config_key key;
    for (int i = 0; status == RT_OK && rt_method_key_at(method, i, &key); i++)
        print_option(f, c, option_name(&key), key.argument ? key.argument : "N", key.name, key.help);
    if (status == RT_OK) {
        fputs("\nWhat it shares with other methods, with its defaults:\n\n", f);
        print_shared(f, c, command->options);
        print_shared(f, c, cli_run_options);
        fprintf(f, "\nOptions of every command: retort help %s. Keys without an option, for --set: retort list keys.\n", command->name);
    }
    free(c);
    return status;
}
