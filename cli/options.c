/* options.c -- the values of a call: command line before environment before configuration file before default. */
#include "cli.h"

#include "retort/graph.h"

#include <ctype.h>
#include <popt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const *dtypes(void)
{
    static const char *const names[] = {"f32", "bf16", NULL};
    return names;
}

static const char *const *weights(void)
{
    static const char *const names[] = {"ema", "raw", NULL};
    return names;
}

const cli_option cli_common[] = {
    {"force", 'f', NULL, NULL, NULL, "replace what --out names, if Retort wrote it", NULL},
    {"seed", 0, "N", "seed", "0", "where random numbers start", NULL},
    {"threads", 'j', "N", "threads", NULL, "processor cores to use (those that the process may use)", NULL},
    {"dtype", 0, "TYPE", "dtype", "f32", "numbers to compute with: f32, or bf16 between float weights and sums", dtypes},
    {"backend", 0, "NAME", "backend", NULL, "who computes (the fastest that is built in)", rt_backend_names},
    {"tune", 0, NULL, "tune", NULL, "time the kernels that could be used, keep the fastest for this machine", NULL},
    {"deterministic", 0, NULL, NULL, NULL, "choose kernels by rule alone, whatever says tune (the default)", NULL},
    {"config", 'c', "FILE", NULL, NULL, "take values from a YAML file", NULL},
    {"set", 's', "KEY=VALUE", NULL, NULL, "set one value of the configuration", NULL},
    {"dry-run", 'n', NULL, NULL, NULL, "say what would be done, do nothing", NULL},
    {"quiet", 'q', NULL, NULL, NULL, "no progress, no remarks", NULL},
    {"json", 0, NULL, NULL, NULL, "print one JSON object on standard output", NULL},
    {"help", 'h', NULL, NULL, NULL, "this text", NULL},
    {0}};

const cli_option cli_model_options[] = {
    {"scheduler", 0, "FILE", "model.scheduler", NULL, "use this diffusers scheduler configuration, exactly as diffusers would", NULL},
    {"weights", 0, "WHICH", "model.weights", "ema", "which weights of a trained model to read", weights},
    {"data-range", 0, "LOW,HIGH", "data.range", NULL, "the range of the model's values (its recipe's, else -1,1)", NULL},
    {"null-class", 0, "K", "model.null-class", NULL, "the label that means no class, for models that do not say", NULL},
    {0}};

void cli_each_option(const cli_command *command, void (*visit)(const cli_option *, void *), void *user)
{
    const cli_option *const tables[] = {command->options, command->method_options ? command->method_options() : NULL, command->shared,
                                        cli_common};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const cli_option *o = tables[t]; o && o->name; o++) visit(o, user);
}

char *cli_own(cli_call *c, char *text)
{
    char **more = text ? realloc(c->owned, sizeof *more * (size_t)(c->n_owned + 1)) : NULL;
    if (!more) {
        free(text);
        return NULL;
    }
    c->owned = more;
    return c->owned[c->n_owned++] = text;
}

void cli_call_free(cli_call *c)
{
    for (int i = 0; i < c->n_values; i++) free(c->values[i].variable);
    for (int i = 0; i < c->n_owned; i++) free(c->owned[i]);
    cli_free_pairs(c->open, c->n_open);
    free(c->values);
    free(c->owned);
    free(c->arguments);
    free(c->written);
    json_decref(c->result);
    rt_choices_free(c->choices);
    *c = (cli_call){0};
}

/* ---- the table of values */

/* "sample.grid-file" -> "RETORT_SAMPLE_GRID_FILE" */
static char *variable_name(const char *key)
{
    size_t n = strlen(key);
    char *name = malloc(n + sizeof "RETORT_");
    if (!name) return NULL;
    strcpy(name, "RETORT_");
    for (size_t i = 0; i <= n; i++) name[i + 7] = key[i] == '.' || key[i] == '-' ? '_' : (char)toupper((unsigned char)key[i]);
    return name;
}

static void add_value(const cli_option *o, void *user)
{
    cli_call *c = user;
    cli_value *more = realloc(c->values, sizeof *more * (size_t)(c->n_values + 1));
    if (!more) return;
    c->values = more;
    c->values[c->n_values++] = (cli_value){o, o->fallback, o->fallback ? CLI_DEFAULT : CLI_NONE, o->key ? variable_name(o->key) : NULL};
}

static cli_value *value_of_key(cli_call *c, const char *key)
{
    for (int i = 0; i < c->n_values; i++)
        if (c->values[i].option->key && strcmp(c->values[i].option->key, key) == 0) return &c->values[i];
    return NULL;
}

static cli_value *value_of_name(cli_call *c, const char *name)
{
    for (int i = 0; i < c->n_values; i++)
        if (strcmp(c->values[i].option->name, name) == 0) return &c->values[i];
    return NULL;
}

static bool is_open_key(const cli_command *command, const char *key)
{
    for (const char *const *k = command->more_keys ? command->more_keys() : NULL; k && *k; k++)
        if (strcmp(*k, key) == 0) return true;
    return false;
}

static rt_status set_open(cli_call *c, const char *key, const char *text, cli_origin origin, rt_error *err)
{
    char *copy = strdup(text);
    for (int i = 0; copy && i < c->n_open; i++)
        if (strcmp(c->open[i].key, key) == 0) {
            free(c->open[i].text);
            c->open[i].text = copy;
            c->open[i].origin = origin;
            return RT_OK;
        }
    cli_pair *more = copy ? realloc(c->open, sizeof *more * (size_t)(c->n_open + 1)) : NULL;
    char *name = more ? strdup(key) : NULL;
    if (more) c->open = more;
    if (!name) {
        free(copy);
        return rt_error_set(err, RT_E_MEMORY, "out of memory while reading options");
    }
    c->open[c->n_open++] = (cli_pair){name, copy, origin};
    return RT_OK;
}

static rt_status unknown_key(cli_call *c, const char *key, rt_error *err)
{
    const char *names[256];
    size_t n = 0;
    for (int i = 0; i < c->n_values && n < 256; i++)
        if (c->values[i].option->key) names[n++] = c->values[i].option->key;
    for (const char *const *k = c->command->more_keys ? c->command->more_keys() : NULL; k && *k && n < 256; k++) names[n++] = *k;
    return cli_unknown("key", key, names, n, err);
}

/* ---- the sources, strongest last */

static rt_status read_config(cli_call *c, const char *path, rt_error *err)
{
    cli_pair *pairs = NULL;
    int n = 0;
    TRY(cli_read_yaml(path, &pairs, &n, err));
    rt_status status = RT_OK;
    c->config = path;
    for (int i = 0; i < n && status == RT_OK; i++) {
        cli_value *v = value_of_key(c, pairs[i].key);
        if (v && v->origin <= CLI_FILE) {
            v->text = cli_own(c, strdup(pairs[i].text));
            v->origin = CLI_FILE;
        } else if (!v && is_open_key(c->command, pairs[i].key)) {
            status = set_open(c, pairs[i].key, pairs[i].text, CLI_FILE, err);
        } else if (!v && unknown_key(c, pairs[i].key, err)) {
            rt_error_prefix(err, "%s", path);
            status = RT_E_INVALID;
        }
    }
    cli_free_pairs(pairs, n);
    return status;
}

static rt_status read_environment(cli_call *c, rt_error *err)
{
    for (int i = 0; i < c->n_values; i++) {
        cli_value *v = &c->values[i];
        const char *text = v->variable ? getenv(v->variable) : NULL;
        if (text && *text && v->origin < CLI_ENVIRONMENT) {
            v->text = text;
            v->origin = CLI_ENVIRONMENT;
        }
    }
    for (const char *const *k = c->command->more_keys ? c->command->more_keys() : NULL; k && *k; k++) {
        char *name = value_of_key(c, *k) ? NULL : variable_name(*k);
        const char *text = name ? getenv(name) : NULL;
        free(name);
        if (text && *text) TRY(set_open(c, *k, text, CLI_ENVIRONMENT, err));
    }
    return RT_OK;
}

/* --set key=value */
static rt_status set_key(cli_call *c, char *assignment, rt_error *err)
{
    char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment) return rt_error_set(err, RT_E_USAGE, "--set: '%s' is not KEY=VALUE", assignment);
    *equals = 0;
    cli_value *v = value_of_key(c, assignment);
    if (!v)
        return is_open_key(c->command, assignment) ? set_open(c, assignment, equals + 1, CLI_OPTION, err) : unknown_key(c, assignment, err);
    v->text = equals + 1;
    v->origin = CLI_OPTION;
    return RT_OK;
}

static rt_status unknown_option(cli_call *c, const char *word, rt_error *err)
{
    const char *names[128];
    size_t n = 0;
    char bare[80];
    snprintf(bare, sizeof bare, "%s", word + strspn(word, "-"));
    bare[strcspn(bare, "=")] = 0;
    for (int i = 0; i < c->n_values && n < 128; i++) names[n++] = c->values[i].option->name;
    const char *guess = strlen(bare) > 1 ? rt_closest(bare, names, n) : NULL;
    if (guess) return rt_error_set(err, RT_E_USAGE, "%s: no such option; did you mean --%s?", word, guess);
    return rt_error_set(err, RT_E_USAGE, "%s: no such option; 'retort %s --help' lists them", word, c->command->name);
}

static rt_status read_command_line(cli_call *c, int argc, char **argv, rt_error *err)
{
    struct poptOption *table = calloc((size_t)c->n_values + 1, sizeof *table);
    c->arguments = calloc((size_t)argc + 1, sizeof *c->arguments);
    c->written = calloc((size_t)argc + 1, sizeof *c->written);
    for (int i = 0; table && i < c->n_values; i++) {
        const cli_option *o = c->values[i].option;
        table[i] = (struct poptOption){o->name, o->letter, o->arg ? POPT_ARG_STRING : POPT_ARG_NONE, NULL, i + 1, o->help, o->arg};
    }
    poptContext context = table && c->arguments && c->written ? poptGetContext(NULL, argc, (const char **)argv, table, 0) : NULL;
    if (!context) {
        free(table);
        return rt_error_set(err, RT_E_MEMORY, "out of memory while reading options");
    }
    rt_status status = RT_OK;
    int which;
    while (status == RT_OK && (which = poptGetNextOpt(context)) > 0) {
        cli_value *v = &c->values[which - 1];
        char *text = v->option->arg ? cli_own(c, poptGetOptArg(context)) : NULL;
        if (text) c->written[c->n_written++] = (cli_occurrence){v->option, text};
        v->text = text ? text : "true";
        v->origin = CLI_OPTION;
    }
    const char *word = status == RT_OK && which < -1 ? poptBadOption(context, 0) : NULL;
    if (word && which == POPT_ERROR_BADOPT)
        status = unknown_option(c, word, err);
    else if (word && which == POPT_ERROR_NOARG)
        status = rt_error_set(err, RT_E_USAGE, "%s needs a value; 'retort %s --help' explains it", word, c->command->name);
    else if (word)
        status = rt_error_set(err, RT_E_USAGE, "%s: %s", word, poptStrerror(which));
    for (const char *arg; status == RT_OK && (arg = poptGetArg(context));) c->arguments[c->n_arguments++] = cli_own(c, strdup(arg));
    poptFreeContext(context);
    free(table);
    return status;
}

static rt_status check_arguments(const cli_call *c, rt_error *err)
{
    const cli_command *k = c->command;
    if (c->n_arguments < k->min_arguments)
        return rt_error_set(err, RT_E_USAGE, "%s needs %s; 'retort %s --help' shows an example", k->name, k->arguments, k->name);
    if (c->n_arguments > k->max_arguments)
        return rt_error_set(err, RT_E_USAGE, "%s: one argument too many: '%s'; usage: retort %s %s [options]", k->name,
                            c->arguments[k->max_arguments], k->name, k->arguments);
    return RT_OK;
}

rt_dtype cli_compute(const cli_call *c, const char *backend, const char *dtype)
{
    const rt_backend *b = rt_backend_find(backend && *backend ? backend : NULL);
    if (strcmp(dtype, "bf16") != 0) return RT_F32;
    if (rt_backend_computes(b, RT_BF16)) return RT_BF16;
    cli_say(c,
            "bf16: %s gains nothing from it on this processor, which needs AVX512_BF16 at twice the rate of floats (Zen 4, say); computing "
            "in f32",
            rt_backend_name(b));
    return RT_F32;
}

static const char *dtype_of(cli_call *c)
{
    static const char *const halves[] = {"fp16", "f16", "float16", "half"};
    const char *text = cli_text(c, "dtype");
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++)
        if (strcasecmp(text, halves[i]) == 0) {
            cli_wrong(c, "dtype", "%s is not supported, its range is too small for training; give bf16 or f32", text);
            return text;
        }
    return cli_word(c, "dtype");
}

rt_status cli_parse(cli_call *c, const cli_command *command, int argc, char **argv, rt_error *err)
{
    *c = (cli_call){.command = command, .text = stdout, .started = cli_now()};
    cli_each_option(command, add_value, c);
    TRY(read_command_line(c, argc, argv, err));
    c->help = cli_flag(c, "help");
    c->quiet = cli_flag(c, "quiet");
    c->json = cli_flag(c, "json");
    c->dry_run = cli_flag(c, "dry-run");
    c->tune = cli_flag(c, "tune") && !cli_flag(c, "deterministic");
    if (c->json) c->text = stderr;
    const char *config = value_of_name(c, "config")->text;
    if (config && !c->help) TRY(read_config(c, config, err));
    TRY(read_environment(c, err));
    for (int i = 0; i < c->n_written; i++)
        if (strcmp(c->written[i].option->name, "set") == 0) TRY(set_key(c, c->written[i].text, err));
    c->result = json_object();
    c->explain = c->help && command->explains && (*command->explains ? cli_given(c, command->explains) : c->n_arguments == 1);
    if (c->explain) c->help = false;
    if (c->help || c->explain) return RT_OK;
    c->seed = (uint64_t)cli_int(c, "seed", 0, CLI_LARGEST);
    if (cli_text(c, "threads")) c->threads = (int)cli_int(c, "threads", 1, 4096);
    c->backend = cli_word(c, "backend");
    c->dtype = dtype_of(c);
    TRY(cli_ok(c, err));
    const cli_value *out = value_of_name(c, "out");
    if (out && out->text && strcmp(out->text, "-") == 0)
        return rt_error_set(err, RT_E_USAGE, "--out -: nothing is written to standard output; give a path (./- for a file of that name)");
    return check_arguments(c, err);
}
