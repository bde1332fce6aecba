/* cmd_verify.c -- retort verify: the lecture's equations, measured on this machine. */
#include "cli.h"

#include "retort/verify.h"

#include <string.h>

enum { MOST = 128 };

static const cli_option options[] = {
    {"only", 0, "LIST", "verify.only", NULL, "only these, by the names that the table shows: 1.30,1.34,lemma-2", NULL}, {0}};

/* Which rows --only names; all without it. */
static void choose(cli_call *c, bool chosen[MOST])
{
    const char *names[MOST], *only = cli_text(c, "only");
    rt_equation e;
    size_t n = 0;
    for (; n < MOST && rt_equation_describe((int)n, &e); n++) {
        names[n] = e.name;
        chosen[n] = !only;
    }
    for (const char *at = only; at && *at;) {
        char word[32];
        size_t length = strcspn(at, ","), i = 0;
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        while (i < n && strcmp(word, names[i])) i++;
        const char *guess = i < n ? NULL : rt_closest(word, names, n);
        if (i < n)
            chosen[i] = true;
        else if (guess)
            cli_wrong(c, "only", "'%s' is no equation of the lecture; did you mean '%s'?", word, guess);
        else
            cli_wrong(c, "only", "'%s' is no equation of the lecture; `retort verify` prints all names", word);
        at += length + (at[length] == ',');
    }
}

static json_t *text_or_null(const char *text) { return text ? json_string(text) : json_null(); }

static void print_row(cli_call *c, const rt_equation *e, const char *verdict, double error, json_t *rows)
{
    char figures[64] = "", where[128] = "-";
    if (e->file) {
        snprintf(figures, sizeof figures, "%.1e  %.0e", error, e->tolerance);
        snprintf(where, sizeof where, "%s: %s", e->file, e->function);
    }
    if (!c->json) {
        fprintf(c->text, "%-13s  %-15s  %-14s  %-57s  %s\n", e->name, verdict, figures, where, e->statement);
        fflush(c->text);
    }
    json_array_append_new(rows, json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "name", e->name, "statement", e->statement, "file",
                                          text_or_null(e->file), "function", text_or_null(e->function), "against", text_or_null(e->against),
                                          "error", e->file ? cli_json_real(error) : json_null(), "tolerance",
                                          e->file ? json_real(e->tolerance) : json_null(), "verdict", verdict));
}

static rt_status run(cli_call *c, rt_error *err)
{
    bool chosen[MOST] = {false};
    int hold = 0, fail = 0, missing = 0;
    char failed[256] = "";
    rt_equation e;
    choose(c, chosen);
    TRY(cli_ok(c, err));
    json_t *rows = json_array();
    cli_put(c, "equations", rows);
    if (!c->json) fprintf(c->text, "%-13s  %-15s  %-7s  %-5s  %-57s  %s\n", "equation", "verdict", "error", "limit", "where", "statement");
    for (int i = 0; i < MOST && rt_equation_describe(i, &e); i++) {
        double error = 0;
        if (!chosen[i]) continue;
        rt_error why = {0};
        rt_status status = e.file ? rt_equation_measure(i, &error, &why) : RT_OK;
        if (status == RT_E_MEMORY || status == RT_E_IO) return rt_error_set(err, status, "%s", why.text);
        if (status != RT_OK) cli_say(c, "%s", why.text); /* what computes it refused: it does not hold */
        bool holds = error <= e.tolerance;
        *(!e.file ? &missing : holds ? &hold : &fail) += 1;
        if (e.file && !holds) snprintf(failed + strlen(failed), sizeof failed - strlen(failed), "%s%s", *failed ? ", " : "", e.name);
        print_row(c, &e, !e.file ? "not implemented" : holds ? "holds" : "FAILS", error, rows);
    }
    cli_put(c, "hold", json_integer(hold));
    cli_put(c, "fail", json_integer(fail));
    cli_put(c, "not_implemented", json_integer(missing));
    if (!c->json) fprintf(c->text, "%d hold, %d fail, %d are not implemented\n", hold, fail, missing);
    if (fail == 0 && hold > 0) return RT_OK;
    if (c->json) cli_write_json(c); /* the figures are wanted most when they are bad */
    if (fail == 0) return rt_error_set(err, RT_E_USAGE, "nothing was verified: none of the chosen equations is implemented");
    return rt_error_set(err, RT_E_INTERNAL, "measured beyond the limit: %s; please report this with `retort --version`", failed);
}

const cli_command cli_verify_command = {
    .name = "verify",
    .arguments = "",
    .summary = "check the lecture's equations against exact answers on this machine",
    .text = "Measures what computes each equation against something that shares no code with it: closed forms and integrals of normal\n"
            "distributions and mixtures, differences, sums in long double. One line per equation: what it says, where it lives, the\n"
            "error, the limit, the verdict. Those that Retort has not yet are listed as not implemented. Takes a few seconds on one\n"
            "core, and no data. Exit 0 only if all that are implemented hold, 1 if one does not, 2 if none of the chosen ones is there.",
    .examples = "retort verify\nretort verify --only 1.30,1.34,lemma-2\nretort verify --json",
    .options = options,
    .min_arguments = 0,
    .max_arguments = 0,
    .run = run,
};
