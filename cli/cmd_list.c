/* cmd_list.c -- the rows of the tables, each with its source. */
#include "complete.h"

#include "retort/config.h"
#include "retort/data.h"
#include "retort/diffusion.h"
#include "retort/metrics.h"
#include "retort/nn.h"
#include "retort/ops.h"
#include "retort/scene.h"

#include <string.h>

typedef struct kind {
    const char *name, *help;
    bool (*row)(int i, rt_row_text *out); /* row i, false past the last */
} kind;

/* " (pd, kd: 128; classify: 64)": what methods have instead of the table's default. */
static void add_defaults(const rt_config_key *k, char *text, size_t size)
{
    rt_row_text m, other;
    char value[RT_CONFIG_TEXT], another[RT_CONFIG_TEXT];
    static rt_config configs[32];
    const char *before = " (";
    for (int i = 0; rt_method_describe(i, &m); i++)
        if (!*configs[i].method) (void)rt_config_method(&configs[i], m.name, NULL);
    for (int i = 0; rt_method_describe(i, &m); i++) {
        if (rt_config_get(&configs[i], k->name, value, sizeof value, NULL) != RT_OK || strcmp(value, k->value) == 0) continue;
        bool said = false;
        for (int j = 0; j < i; j++)
            said = said || (rt_config_get(&configs[j], k->name, another, sizeof another, NULL) == RT_OK && strcmp(value, another) == 0);
        if (said) continue;
        snprintf(text + strlen(text), size - strlen(text), "%s%s", before, m.name);
        for (int j = i + 1; rt_method_describe(j, &other); j++)
            if (rt_config_get(&configs[j], k->name, another, sizeof another, NULL) == RT_OK && strcmp(value, another) == 0)
                snprintf(text + strlen(text), size - strlen(text), ", %s", other.name);
        snprintf(text + strlen(text), size - strlen(text), ": %.200s", *value ? value : "none");
        before = "; ";
    }
    if (*before == ';') snprintf(text + strlen(text), size - strlen(text), ")");
}

static bool key_row(int i, rt_row_text *out)
{
    rt_config_key k;
    static char help[1024];
    if (!rt_config_key_at(NULL, i, &k)) return false;
    snprintf(help, sizeof help, "%s", k.help);
    if (strcmp(k.name, "method") != 0) add_defaults(&k, help, sizeof help);
    *out = (rt_row_text){k.name, *k.value ? k.value : "-", help};
    return true;
}

static bool operator_row(int i, rt_row_text *out)
{
    rt_op_row r;
    if (!rt_op_describe(i, &r)) return false;
    *out = (rt_row_text){r.name, r.gradient, r.formula};
    return true;
}

static const kind kinds[] = {
    {"methods", "how a model is made or distilled", rt_method_describe},
    {"solvers", "how a sampling step is made", rt_solver_describe},
    {"processes", "how data becomes noise", rt_process_describe},
    {"grids", "which times a sampler visits", rt_grid_describe},
    {"predictions", "what a network's output means", rt_prediction_describe},
    {"weights", "what an error at a time counts in a loss", rt_weight_describe},
    {"densities", "how often training draws a time", rt_density_describe},
    {"time-pairs", "which maps s -> t a student learns, and how often", rt_time_pairs_describe},
    {"distances", "how far a student's map is from its teacher's", rt_distance_describe},
    {"divergences", "what a distribution-level objective minimises: mode seeking or mass covering", rt_minimised_describe},
    {"scenes", "what distillation makes of parameters instead of a network: pictures, volumes", rt_scene_kind_describe},
    {"networks", "architectures, by the _class_name of their config.json", rt_net_kind_describe},
    {"metrics", "distances between samples and data", rt_measure_describe},
    {"datasets", "what --data reads", rt_dataset_list},
    {"schedulers", "classes of diffusers whose configurations are followed", rt_scheduler_describe},
    {"operators", "what graphs are made of, with their formulas", operator_row},
    {"keys", "settings of runs, with their defaults", key_row},
};

enum { KINDS = sizeof kinds / sizeof *kinds };

bool cli_list_row(const char *table, int i, rt_row_text *row)
{
    for (size_t k = 0; k < KINDS; k++)
        if (strcmp(kinds[k].name, table) == 0) return kinds[k].row(i, row);
    return false;
}

static const char *const *names(void)
{
    static const char *list[KINDS + 1];
    for (size_t i = 0; i < KINDS; i++) list[i] = kinds[i].name;
    return list;
}

static void print_rows(cli_call *c, const kind *k)
{
    json_t *rows = json_array();
    rt_row_text r;
    size_t widest = 0, second = 0;
    for (int i = 0; k->row(i, &r); i++) {
        if (strlen(r.name) > widest) widest = strlen(r.name);
        if (strlen(r.source) > second) second = strlen(r.source);
    }
    for (int i = 0; k->row(i, &r); i++) {
        if (!c->json) fprintf(c->text, "%-*s  %-*s  %s\n", (int)widest, r.name, (int)second, r.source, r.text);
        json_array_append_new(rows, json_pack("{s:s, s:s, s:s}", "name", r.name, "source", r.source, "description", r.text));
    }
    cli_put(c, "kind", json_string(k->name));
    cli_put(c, "rows", rows);
}

static rt_status run(cli_call *c, rt_error *err)
{
    if (c->n_arguments == 0) {
        json_t *names = json_array();
        for (size_t i = 0; i < KINDS; i++) {
            if (!c->json) fprintf(c->text, "%-12s %s\n", kinds[i].name, kinds[i].help);
            json_array_append_new(names, json_string(kinds[i].name));
        }
        cli_put(c, "kinds", names);
        return RT_OK;
    }
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(kinds[i].name, c->arguments[0]) == 0) {
            print_rows(c, &kinds[i]);
            return RT_OK;
        }
    const char *guess = rt_closest(c->arguments[0], names(), KINDS);
    if (guess) return rt_error_set(err, RT_E_USAGE, "list: '%s' is no kind of row; did you mean '%s'?", c->arguments[0], guess);
    return rt_error_set(err, RT_E_USAGE, "list: '%s' is no kind of row; 'retort list' names them", c->arguments[0]);
}

const cli_command cli_list_command = {
    .name = "list",
    .arguments = "[KIND]",
    .summary = "what there is: the rows of the tables, each with its source",
    .text = "Prints the rows of one table: their names as options take them, the paper or equation they come from, and what they do.\n"
            "Without KIND it names the tables.",
    .examples = "retort list\nretort list solvers",
    .words = names,
    .min_arguments = 0,
    .max_arguments = 1,
    .run = run,
};
