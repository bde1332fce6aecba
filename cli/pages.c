/* pages.c -- man pages, written from the tables that parsing uses. Run by the build: `retort generate share FOLDER`. */
#include "cli.h"

#include "retort/ops.h"
#include "retort/verify.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* roff reads a leading dot, backslashes and hyphens in its own way */
static void roff(FILE *f, const char *text)
{
    if (*text == '.' || *text == '\'') fputs("\\&", f);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", f);
        else if (*text == '-')
            fputs("\\-", f);
        else
            fputc(*text, f);
    }
}

static void roff_option(const cli_option *o, void *user)
{
    FILE *f = user;
    fputs(".TP\n", f);
    if (o->letter) fprintf(f, "\\fB\\-%c\\fR, ", o->letter);
    fputs("\\fB\\-\\-", f);
    roff(f, o->name);
    fputs("\\fR", f);
    if (o->arg) fprintf(f, " \\fI%s\\fR", o->arg);
    fputc('\n', f);
    roff(f, o->help);
    if (o->fallback) {
        fputs(" (default ", f);
        roff(f, o->fallback);
        fputc(')', f);
    }
    fputs("\n", f);
}

static void man_page(FILE *f, const cli_command *c)
{
    fprintf(f, ".TH RETORT\\-%s 1 \"\" \"retort %s\"\n.SH NAME\nretort\\-%s \\- ", c->name, RETORT_VERSION, c->name);
    roff(f, c->summary);
    fprintf(f, "\n.SH SYNOPSIS\n\\fBretort %s\\fR %s [options]\n.SH DESCRIPTION\n", c->name, c->arguments);
    roff(f, c->text);
    fputs("\n.SH EXAMPLE\n.nf\n", f);
    roff(f, c->examples);
    fputs("\n.fi\n.SH OPTIONS\n", f);
    cli_each_option(c, roff_option, f);
    fputs(".SH SEE ALSO\n\\fBretort\\fR(1)\n", f);
}

static void main_page(FILE *f)
{
    fprintf(f, ".TH RETORT 1 \"\" \"retort %s\"\n.SH NAME\nretort \\- distil diffusion models into few\\-step generators\n",
            RETORT_VERSION);
    fputs(".SH SYNOPSIS\n\\fBretort\\fR \\fIcommand\\fR [options] [arguments]\n.SH COMMANDS\n", f);
    for (const cli_command *const *c = cli_commands; *c; c++) {
        if ((*c)->hidden) continue;
        fprintf(f, ".TP\n\\fBretort\\-%s\\fR(1)\n", (*c)->name);
        roff(f, (*c)->summary);
        fputc('\n', f);
    }
    fputs(".SH EXIT STATUS\n0 done; 1 internal error; 2 usage; 3 bad configuration, model or data; 4 out of memory; 5 input or output; "
          "6 run directory in use; 7 diverged; 8 communication; 9 device; 130 and 143 interrupted after a checkpoint.\n",
          f);
}

static rt_status folder(const char *path, rt_error *err)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return RT_OK;
    return rt_error_set(err, RT_E_IO, "%s: %s", path, strerror(errno));
}

static FILE *create(const char *path, rt_error *err)
{
    FILE *f = fopen(path, "w");
    if (!f) rt_error_set(err, RT_E_IO, "%s: %s", path, strerror(errno));
    return f;
}

static rt_status finish(FILE *f, const char *path, rt_error *err)
{
    bool failed = ferror(f);
    if (fclose(f) != 0 || failed) return rt_error_set(err, RT_E_IO, "%s: could not be written", path);
    return RT_OK;
}

static rt_status write_pages(const char *root, rt_error *err)
{
    static const char *const folders[] = {"", "/man", "/man/man1"};
    char path[4096];
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%s%s", root, folders[i]);
        TRY(folder(path, err));
    }
    for (const cli_command *const *c = cli_commands; *c; c++) {
        if ((*c)->hidden) continue;
        snprintf(path, sizeof path, "%s/man/man1/retort-%s.1", root, (*c)->name);
        FILE *f = create(path, err);
        if (!f) return RT_E_IO;
        man_page(f, *c);
        TRY(finish(f, path, err));
    }
    snprintf(path, sizeof path, "%s/man/man1/retort.1", root);
    FILE *f = create(path, err);
    if (!f) return RT_E_IO;
    main_page(f);
    return finish(f, path, err);
}

/* A text in a table of Markdown. */
static void cell(FILE *f, const char *text)
{
    for (; *text; text++) fputs(*text == '|' ? "\\|" : (char[]){*text, 0}, f);
}

/* docs/operators.md */
static void operators(FILE *f)
{
    fputs("# Operators\n\nWritten by `make docs` from the rows in `src/graph/ops/`; do not edit. How to add one: "
          "[adding-an-operator.md](adding-an-operator.md).\n\n"
          "Inputs: how many a row takes. Batch: `maps` works sample by sample, `sums` adds samples up, `mixes` needs all of them at once.\n"
          "Gradient: the row's own rule, or that of the simpler rows that it expands to.\n\n"
          "| operator | formula | inputs | batch | gradient |\n| --- | --- | --- | --- | --- |\n",
          f);
    rt_op_row r;
    for (int i = 0; rt_op_describe(i, &r); i++) {
        fprintf(f, "| `%s` | `", r.name);
        cell(f, r.formula);
        fprintf(f, "` | %d", r.min_in);
        if (r.max_in < 0)
            fputs(" or more", f);
        else if (r.max_in > r.min_in)
            fprintf(f, " to %d", r.max_in);
        fprintf(f, " | %s | %s |\n", r.batch, r.gradient);
    }
}

/* docs/equations.md. Measured errors differ from machine to machine in their last digits, so they are not printed. */
static void equations(FILE *f)
{
    fputs("# Equations\n\nWritten by `make docs` from the rows in `src/verify/`; do not edit. `retort verify` measures each on your "
          "machine and prints the error.\n\n"
          "Each is measured against something that shares no code with it: closed forms and integrals of normal distributions and "
          "mixtures, differences, "
          "long double. It holds if the error is within the limit. In plain text: x0 data, eps unit noise, theta the student's parameters, "
          "E a mean, "
          "int an integral, grad the derivative in theta, grad_x in x, `o` composition, `^T` a transpose, sg[.] no derivative.\n\n"
          "| equation | statement | where | measured against | limit |\n| --- | --- | --- | --- | --- |\n",
          f);
    rt_equation e;
    int missing = 0, n = 0;
    for (; rt_equation_describe(n, &e); n++) {
        fprintf(f, "| %s | `", e.name);
        cell(f, e.statement);
        if (e.file) {
            fprintf(f, "` | [%s](../%s) | ", e.function, e.file);
            cell(f, e.against);
            fprintf(f, " | %.0e |\n", e.tolerance);
        } else {
            fputs("` | not implemented | | |\n", f);
            missing++;
        }
    }
    fprintf(f, "\n%d of %d are implemented.\n", n - missing, n);
}

static rt_status run(cli_call *c, rt_error *err)
{
    if (strcmp(c->arguments[0], "share") == 0 && c->n_arguments == 2) return write_pages(c->arguments[1], err);
    if (strcmp(c->arguments[0], "operators") == 0 && c->n_arguments == 1) {
        operators(stdout);
        return RT_OK;
    }
    if (strcmp(c->arguments[0], "equations") == 0 && c->n_arguments == 1) {
        equations(stdout);
        return RT_OK;
    }
    if (strcmp(c->arguments[0], "sheet") == 0 && c->n_arguments >= 4) return cli_write_sheet(c, err);
    return rt_error_set(err, RT_E_USAGE,
                        "generate: '%s' is none of 'share FOLDER', 'operators', 'equations', 'sheet OUT.png COLUMNS FILE...'",
                        c->arguments[0]);
}

static const cli_option options[] = {
    {"title", 0, "TEXT", NULL, NULL, "sheet: a line above the pictures; may be repeated", NULL},
    {"label", 0, "TEXT", NULL, NULL, "sheet: the words left of a row; once per FILE, in their order", NULL},
    {"scale", 0, "N", NULL, "1", "sheet: pixels for each pixel of the samples and of the letters", NULL},
    {0}};

const cli_command cli_generate_command = {
    .name = "generate",
    .arguments = "share FOLDER | operators | equations | sheet OUT.png COLUMNS FILE...",
    .summary = "write man pages, tables of docs/, pictures with words",
    .text =
        "share writes FOLDER/man from the tables of commands and options (the build runs it), operators and\n"
        "equations print the documents of these names. sheet draws the first COLUMNS samples of each FILE (tensor x, in -1..1) as a row;\n"
        "a FILE named - leaves more room above the next row. Titles and labels are printable ASCII.",
    .examples = "retort generate share /tmp/share\n"
                "retort generate sheet steps.png 10 a.safetensors - b.safetensors --scale 2 --title 'one column per noise' \\\n"
                "    --label 'teacher, 64 steps' --label 'student, 4 steps'",
    .options = options,
    .min_arguments = 1,
    .max_arguments = 1024,
    .run = run,
    .hidden = true,
};
