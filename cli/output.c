/* output.c -- what a command says: remarks, errors, JSON, the configuration. */
#include "cli.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool cli_colour(FILE *f)
{
    const char *none = getenv("NO_COLOR");
    return !(none && *none) && isatty(fileno(f));
}

void cli_say(const cli_call *c, const char *format, ...)
{
    if (c->quiet) return;
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void cli_remark(cli_call *c, const char *text)
{
    if (!*text) return;
    cli_say(c, "%s", text);
    if (!json_object_get(c->result, "remarks")) cli_put(c, "remarks", json_array());
    json_array_append_new(json_object_get(c->result, "remarks"), json_string(text));
}

void cli_report_error(const rt_error *err)
{
    bool colour = cli_colour(stderr);
    fprintf(stderr, "%sretort:%s %s\n", colour ? "\033[1;31m" : "", colour ? "\033[0m" : "", err->text);
}

json_t *cli_json_real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

void cli_put(cli_call *c, const char *key, json_t *v) { json_object_set_new(c->result, key, v); }

json_t *cli_whole_result(cli_call *c)
{
    char schema[64];
    snprintf(schema, sizeof schema, "retort.%s/1", c->command->name);
    json_t *all = json_object();
    json_object_set_new(all, "schema", json_string(schema));
    json_object_set_new(all, "command", json_string(c->command->name));
    json_object_set_new(all, "version", json_string(RETORT_VERSION));
    json_object_set_new(all, "seed", json_integer((json_int_t)c->seed));
    json_object_set_new(all, "seconds", json_real(cli_now() - c->started));
    json_object_update(all, c->result);
    return all;
}

void cli_write_json(cli_call *c)
{
    json_t *all = cli_whole_result(c);
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(all);
}

/* A text as a YAML scalar: plain where that reads back as the same text. */
static void print_scalar(FILE *f, const char *text)
{
    bool plain = *text && !strpbrk(text, ":#{}[]&*!|>'\"%@`\n\t") && !strchr("-?, ", text[0] == '-' && text[1] ? 'x' : text[0]);
    if (plain) {
        fputs(text, f);
        return;
    }
    fputc('\'', f);
    for (; *text; text++) fputs((char[]){*text, *text == '\'' ? '\'' : 0, 0}, f);
    fputc('\'', f);
}

static int by_key(const void *a, const void *b) { return strcmp(((const cli_pair *)a)->key, ((const cli_pair *)b)->key); }

void cli_print_config(const cli_call *c, FILE *f)
{
    cli_pair *lines = calloc((size_t)(c->n_values + c->n_open) + 1, sizeof *lines);
    int n = 0;
    for (int i = 0; lines && i < c->n_values; i++)
        if (c->values[i].option->key && c->values[i].text)
            lines[n++] = (cli_pair){(char *)c->values[i].option->key, (char *)c->values[i].text, c->values[i].origin};
    for (int i = 0; lines && i < c->n_open; i++) lines[n++] = c->open[i];
    if (lines) qsort(lines, (size_t)n, sizeof *lines, by_key);
    /* keys in order, so lines of one section stand together: print a section's name when it changes */
    const char *section = "";
    size_t length = 0;
    for (int i = 0; i < n; i++) {
        const char *key = lines[i].key, *dot = strchr(key, '.');
        size_t here = dot ? (size_t)(dot - key) : 0;
        if (here && (here != length || strncmp(key, section, here) != 0)) fprintf(f, "%.*s:\n", (int)here, key);
        section = key;
        length = here;
        fprintf(f, "%s%s: ", here ? "  " : "", here ? dot + 1 : key);
        print_scalar(f, lines[i].text);
        fputc('\n', f);
    }
    free(lines);
}
