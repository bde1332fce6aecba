/* cli.h -- the frame of the program. Commands and options are rows: parsing, help, man pages and completion read the same rows.
 *
 * A command reads its options through the typed getters below. They are sticky: the first wrong value is kept in the call's error and later
 * getters return harmless values, so a command reads all it needs and asks cli_ok once. */
#ifndef RETORT_CLI_H
#define RETORT_CLI_H

#include "retort/data.h"
#include "retort/graph.h"

#include <jansson.h>
#include <stdio.h>

/* Returns from the enclosing function with the status of a failed call. */
#define TRY(call)                                                                                                                          \
    do {                                                                                                                                   \
        rt_status try_status_ = (call);                                                                                                    \
        if (try_status_ != RT_OK) return try_status_;                                                                                      \
    } while (0)

typedef struct cli_call cli_call;
typedef struct cli_command cli_command;

typedef struct cli_option {
    const char *name;     /* long name; NULL ends a table */
    char letter;          /* one-letter form, or 0 */
    const char *arg;      /* what its value is called; NULL: a flag */
    const char *key;      /* its key in configuration files and, in capitals after RETORT_, in the environment; NULL: neither */
    const char *fallback; /* the value when nothing says otherwise; NULL: none */
    const char *help;
    const char *const *(*words)(void); /* the names it accepts, NULL-terminated; NULL: anything */
} cli_option;

struct cli_command {
    const char *name, *arguments;              /* "sample", "MODEL" */
    const char *summary;                       /* one line */
    const char *text;                          /* a paragraph or two that teach */
    const char *examples;                      /* lines that work, without indent */
    const cli_option *options;                 /* its own; NULL: none */
    const cli_option *(*method_options)(void); /* those of the methods it runs; NULL: none */
    const cli_option *shared;                  /* a table that several commands share; NULL: none */
    const char *shared_title;
    const char *const *(*more_keys)(void); /* keys without an option of their own, NULL-terminated; NULL: none */
    const char *const *(*words)(void);     /* names that its argument may be, NULL-terminated; NULL: anything */
    int min_arguments, max_arguments;
    rt_status (*run)(cli_call *c, rt_error *err);
    bool hidden;
    bool unhashed;        /* the hashes of its models matter only to --json */
    bool ranks;           /* several processes of a launcher work on one call of it together */
    const char *explains; /* with this option, or an argument where it is empty, --help is answered by `run`; NULL: never */
};

extern const cli_command *const cli_commands[]; /* NULL-terminated */
extern const cli_option cli_common[];           /* what every command takes */
extern const cli_option cli_model_options[];    /* what commands that load a model take */
#define CLI_FIT_OPTIONS                         /* what commands that read data take, and cli_fit reads */                                 \
    {"alpha",      0,    "WHAT",                                                                                                           \
     "data.alpha", NULL, "of transparent pictures: keep (four channels: colours times alpha, alpha), or a background, white or grey",      \
     NULL},                                                                                                                                \
        {"resize", 0, "N", "data.resize", NULL, "resize pictures: their shorter side becomes N", NULL},                                    \
    {                                                                                                                                      \
        "crop", 0, "N", "data.crop", NULL, "keep the NxN pixels in the middle of pictures", NULL                                           \
    }
const cli_command *cli_command_find(const char *name);
/* Calls `visit` for every option of a command, own ones first. */
void cli_each_option(const cli_command *command, void (*visit)(const cli_option *o, void *user), void *user);

/* ---- a call: one command with its values */

typedef enum cli_origin { CLI_NONE, CLI_DEFAULT, CLI_FILE, CLI_ENVIRONMENT, CLI_OPTION } cli_origin;

typedef struct cli_value {
    const cli_option *option;
    const char *text; /* NULL: no value */
    cli_origin origin;
    char *variable; /* the environment's name for it */
} cli_value;

typedef struct cli_pair { /* a key and its value */
    char *key, *text;
    cli_origin origin;
} cli_pair;

typedef struct cli_occurrence {
    const cli_option *option;
    char *text;
} cli_occurrence;

struct cli_call {
    const cli_command *command;
    char **arguments;
    int n_arguments;
    cli_value *values;
    int n_values;
    cli_occurrence *written; /* options with a value as the command line has them, in order: some may be repeated */
    int n_written;
    cli_pair *open; /* values of the command's more_keys */
    int n_open;
    const char *config; /* the configuration file, for messages */
    bool help, quiet, json, dry_run;
    bool explain;           /* --help of a command that explains its argument */
    rt_rehearsal rehearsal; /* of --dry-run */
    uint64_t seed;
    int threads;         /* 0: not given, see cli_threads */
    const char *dtype;   /* "f32" or "bf16" */
    const char *backend; /* NULL: the fastest */
    bool tune;
    rt_choices *choices; /* cli_choices made it */
    FILE *text;          /* for what people read: standard output, or standard error with --json */
    json_t *result;
    double started;
    rt_error error; /* the sticky one of the getters */
    char **owned;
    int n_owned;
};

static inline int cli_threads(const cli_call *c) { return c->threads ? c->threads : rt_default_threads(); }

/* Reads the command line, the environment and the configuration file into *c. */
rt_status cli_parse(cli_call *c, const cli_command *command, int argc, char **argv, rt_error *err);
void cli_call_free(cli_call *c);
char *cli_own(cli_call *c, char *text); /* frees it with the call; returns it, NULL only for NULL */

/* The keys and values of a YAML file, flattened: "sample.steps" = "8,4". Fails on duplicates, aliases and depth. */
rt_status cli_read_yaml(const char *path, cli_pair **pairs, int *n, rt_error *err);
void cli_free_pairs(cli_pair *pairs, int n);

/* ---- typed getters, sticky. `name` is the option's long name; asking for one that the command lacks is a bug and aborts. */
const char *cli_text(cli_call *c, const char *name); /* NULL: not given and no default */
#define CLI_LARGEST ((int64_t)1 << 53)               /* the bounds of whole numbers: doubles hold them exactly */
int cli_texts(cli_call *c, const char *name,
              const char ***out); /* all values of an option that may be repeated; the list belongs to the call */
bool cli_flag(cli_call *c, const char *name);
bool cli_given(cli_call *c, const char *name); /* by option, environment or file */
int64_t cli_int(cli_call *c, const char *name, int64_t min, int64_t max);
double cli_real(cli_call *c, const char *name, double min, double max);
const char *cli_word(cli_call *c, const char *name);                                  /* one of its words */
int cli_ints(cli_call *c, const char *name, int64_t min, int64_t max, int64_t **out); /* "8,4,2,1"; the list belongs to the call */
int cli_reals(cli_call *c, const char *name, double min, double max, double **out);
rt_fit cli_fit(cli_call *c);
rt_status cli_ok(const cli_call *c, rt_error *err);
/* What `dtype` asks for: RT_F32, or RT_BF16 where the backend (NULL or empty: the fastest) computes in it; where it does not, a line says so. */
rt_dtype cli_compute(const cli_call *c, const char *backend, const char *dtype);
rt_status cli_wrong(cli_call *c, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4))); /* "--name: text" */

/* Reads a number with the suffixes k and M (powers of 1000); false if it is none. */
bool cli_number(const char *text, double *out);

/* ---- output */
/* What the user should know of what was done to his files: said, unless quiet, and kept in `remarks` of the JSON. */
void cli_remark(cli_call *c, const char *text);
void cli_say(const cli_call *c, const char *format, ...) __attribute__((format(printf, 2, 3))); /* a line on standard error, unless quiet */
void cli_report_error(const rt_error *err);
bool cli_colour(FILE *f);                              /* a terminal, and NO_COLOR is unset */
void cli_put(cli_call *c, const char *key, json_t *v); /* into the JSON object of the call; steals v */
json_t *cli_json_real(double v);                       /* null for NaN and infinities */
json_t *cli_whole_result(cli_call *c);                 /* schema, command, version, seed, seconds, then what was put; a new reference */
void cli_write_json(cli_call *c);                      /* that on standard output */
double cli_now(void);                                  /* seconds, monotonic */
/* Prints the resolved configuration as YAML to f. */
void cli_print_config(const cli_call *c, FILE *f);

typedef struct cli_progress {
    const cli_call *call;
    const char *label, *unit;
    double total, started, shown;
    double first;     /* done when this sitting began; -1: the first report says */
    char remark[192]; /* stands at the end of the line */
    bool lively;      /* the remark is the line's figures in words, speed and all, between what is done and when the rest will be */
    int width;        /* of the live line on the terminal; 0 where there is none */
} cli_progress;
void cli_progress_start(cli_progress *p, const cli_call *c, const char *label, const char *unit, double total, bool resumed);
void cli_progress_at(cli_progress *p, double done);
void cli_progress_end(cli_progress *p, double done);

/* ---- kernel choices: tune.c */
/* The table to give to whatever compiles programs, filled from the machine's file on the first call; NULL without --tune. Belongs to the call. */
rt_choices *cli_choices(cli_call *c);
void cli_keep_choices(cli_call *c); /* what was found goes to that file; a failure is a remark */

/* ---- files that are written: PATH is free, or may be replaced because of --force and because Retort wrote it */
/* Would writing anew what stands at `out`, a file or a folder, take away `in`, a file, a model or a scene, or a part of it? */
bool cli_holds(const char *out, const char *in);
rt_status cli_claim_out(cli_call *c, const char *path, rt_error *err);
/* Removes a folder that cli_claim_out allowed to replace; files are replaced by whoever writes them. */
rt_status cli_clear_out(const char *path, rt_error *err);
/* A text and a newline, complete or absent. */
rt_status cli_write_file(const char *path, const char *text, rt_error *err);

/* ---- interruption. SIGINT, SIGTERM and SIGHUP end the program at once: files are complete or absent anyway. After cli_stop_gently the first one only
 * makes cli_interrupted return its number, SIGHUP's that of SIGTERM, and writes `text` (a line with its end; it stays; NULL: nothing) to standard error. A SIGHUP
 * that was ignored when the program began stays so. */
void cli_stop_gently(const char *text);
int cli_interrupted(void);
void cli_catch_signals(void);

/* ---- help */
void cli_overview(FILE *f);
void cli_help(const cli_command *command, FILE *f);
void cli_version(FILE *f);
rt_status cli_unknown(const char *what, const char *word, const char *const *names, size_t n, rt_error *err); /* with a guess; RT_E_USAGE */

/* sheet.c: `generate sheet OUT.png COLUMNS FILE...`, with --title, --label, --scale */
rt_status cli_write_sheet(cli_call *c, rt_error *err);

#endif
