/* values.c -- typed getters for the values of a call. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static cli_value *find(cli_call *c, const char *name)
{
    for (int i = 0; i < c->n_values; i++)
        if (strcmp(c->values[i].option->name, name) == 0) return &c->values[i];
    fprintf(stderr, "retort: %s has no option --%s\n", c->command->name, name);
    abort();
}

rt_status cli_ok(const cli_call *c, rt_error *err)
{
    return c->error.status ? rt_error_set(err, c->error.status, "%s", c->error.text) : RT_OK;
}

rt_status cli_wrong(cli_call *c, const char *name, const char *format, ...)
{
    const cli_value *v = find(c, name);
    char text[RT_ERROR_TEXT];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (v->origin == CLI_FILE) return rt_error_set(&c->error, RT_E_INVALID, "%s: key '%s': %s", c->config, v->option->key, text);
    if (v->origin == CLI_ENVIRONMENT) return rt_error_set(&c->error, RT_E_USAGE, "environment variable %s: %s", v->variable, text);
    return rt_error_set(&c->error, RT_E_USAGE, "--%s: %s", name, text);
}

const char *cli_text(cli_call *c, const char *name) { return find(c, name)->text; }

bool cli_given(cli_call *c, const char *name) { return find(c, name)->origin > CLI_DEFAULT; }

bool cli_flag(cli_call *c, const char *name)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    const char *text = find(c, name)->text;
    if (!text) return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(text, words[i]) == 0) return i % 2;
    cli_wrong(c, name, "'%s' is neither true nor false", text);
    return false;
}

bool cli_number(const char *text, double *out)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || errno == ERANGE || isnan(v)) return false;
    if (*end == 'k')
        v *= 1e3, end++;
    else if (*end == 'M')
        v *= 1e6, end++;
    *out = v;
    return *end == 0;
}

/* One whole number of at most 2^53: every number that an option takes is far below. */
static bool whole(cli_call *c, const char *name, const char *text, int64_t min, int64_t max, int64_t *out)
{
    double v;
    if (!cli_number(text, &v) || v != floor(v) || fabs(v) > 0x1p53) {
        cli_wrong(c, name, "'%s' is not a whole number (such as 8, 10k or 2M)", text);
        return false;
    }
    if (v < (double)min || v > (double)max) {
        if (v < (double)min)
            cli_wrong(c, name, "%s is too small; must be at least %lld", text, (long long)min);
        else
            cli_wrong(c, name, "%s is too large; must be at most %lld", text, (long long)max);
        return false;
    }
    *out = (int64_t)v;
    return true;
}

static bool number(cli_call *c, const char *name, const char *text, double min, double max, double *out)
{
    double v;
    if (!cli_number(text, &v)) {
        cli_wrong(c, name, "'%s' is not a number", text);
        return false;
    }
    if (v < min || v > max) {
        cli_wrong(c, name, "%s is out of range; must be between %g and %g", text, min, max);
        return false;
    }
    *out = v;
    return true;
}

int64_t cli_int(cli_call *c, const char *name, int64_t min, int64_t max)
{
    const char *text = cli_text(c, name);
    int64_t v = 0;
    if (text) whole(c, name, text, min, max, &v);
    return v;
}

double cli_real(cli_call *c, const char *name, double min, double max)
{
    const char *text = cli_text(c, name);
    double v = 0;
    if (text) number(c, name, text, min, max, &v);
    return v;
}

rt_fit cli_fit(cli_call *c)
{
    const char *alpha = cli_text(c, "alpha"), *close = alpha ? rt_closest(alpha, rt_alpha_names + 1, 3) : NULL;
    rt_fit fit = {(int)cli_int(c, "resize", 0, 16384), (int)cli_int(c, "crop", 0, 16384), RT_ALPHA_REFUSE};
    for (int i = 1; alpha && rt_alpha_names[i]; i++)
        if (strcmp(rt_alpha_names[i], alpha) == 0) fit.alpha = (rt_alpha)i;
    if (alpha && fit.alpha == RT_ALPHA_REFUSE)
        cli_wrong(c, "alpha", "'%s'%s%s%s; must be keep, white or grey", alpha, close ? "; did you mean '" : "", close ? close : "",
                  close ? "'?" : "");
    return fit;
}

const char *cli_word(cli_call *c, const char *name)
{
    const cli_value *v = find(c, name);
    const char *const *words = v->option->words();
    if (!v->text) return NULL;
    size_t n = 0;
    while (words[n]) n++;
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(words[i], v->text) == 0) return words[i];
    const char *guess = rt_closest(v->text, words, n);
    if (guess) {
        cli_wrong(c, name, "'%s' is not known; did you mean '%s'?", v->text, guess);
        return NULL;
    }
    char list[512] = "";
    for (size_t i = 0, at = 0; i < n && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", words[i]);
    cli_wrong(c, name, "'%s' is not known; must be one of: %s", v->text, list);
    return NULL;
}

/* Splits "a,b,c" and hands each part to `take`, which fills item i of a list that grows by `size`. */
static int each_item(cli_call *c, const char *name, void **list, size_t size,
                     bool (*take)(cli_call *, const char *, const char *, void *, const double *), const double *range)
{
    const char *text = cli_text(c, name);
    *list = NULL;
    if (!text) return 0;
    char *copy = cli_own(c, strdup(text));
    size_t most = 1, n = 0;
    for (const char *p = text; *p; p++) most += *p == ',';
    char *items = cli_own(c, calloc(most, size));
    if (!copy || !items) {
        rt_error_set(&c->error, RT_E_MEMORY, "out of memory while reading --%s", name);
        return 0;
    }
    *list = items;
    for (char *rest = copy, *part; (part = strsep(&rest, ","));) {
        part += strspn(part, " ");
        if (!take(c, name, part, items + n * size, range)) return 0;
        n++;
    }
    return (int)n;
}

static bool take_int(cli_call *c, const char *name, const char *part, void *item, const double *range)
{
    return whole(c, name, part, (int64_t)range[0], (int64_t)range[1], item);
}

static bool take_real(cli_call *c, const char *name, const char *part, void *item, const double *range)
{
    return number(c, name, part, range[0], range[1], item);
}

int cli_ints(cli_call *c, const char *name, int64_t min, int64_t max, int64_t **out)
{
    void *list;
    int n = each_item(c, name, &list, sizeof **out, take_int, (double[]){(double)min, (double)max});
    *out = list;
    return n;
}

int cli_texts(cli_call *c, const char *name, const char ***out)
{
    const char **list = (const char **)cli_own(c, calloc((size_t)c->n_written + 1, sizeof *list));
    int n = 0;
    for (int i = 0; list && i < c->n_written; i++)
        if (strcmp(c->written[i].option->name, name) == 0) list[n++] = c->written[i].text;
    *out = list;
    return n;
}

int cli_reals(cli_call *c, const char *name, double min, double max, double **out)
{
    void *list;
    int n = each_item(c, name, &list, sizeof **out, take_real, (double[]){min, max});
    *out = list;
    return n;
}
