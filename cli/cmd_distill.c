/* cmd_distill.c -- retort distill [METHOD]: a few-step student of a model. */
#include "method_options.h"
#include "runs.h"

#include <string.h>

static const cli_option options[] = {
    {"divergence", 0, "NAME", NULL, NULL, "what to minimise: retort list divergences; the method follows, or is refused", NULL},
    {"teacher", 0, "MODEL", "teacher", NULL, "the model to distil", NULL},
    {"null-class", 0, "K", "null-class", NULL, "the label that means no class to the teacher, if its recipe does not say", NULL},
    {"net", 0, "FILE", "net", NULL, "config.json of a student that is no copy of the teacher (needed by oracles)", NULL},
    {"init", 0, "MODEL", "init", NULL, "start the student from this model's weights instead of the teacher's", NULL},
    {0}};

static const char *const *methods(void)
{
    static const char *names[32];
    rt_row_text row;
    for (int i = 0, n = 0; !names[n] && n < 31 && rt_method_describe(i, &row); i++)
        if (rt_method_needs_teacher(row.name)) names[n++] = row.name;
    return names;
}

/* The method as it is called where a scene is asked for, by an option, a setting or a file. */
static const char *method_of(cli_call *c, const char *name)
{
    const char *with_scene = rt_method_with_scene(name);
    bool scene = cli_text(c, "scene") != NULL;
    for (int i = 0; i < c->n_open; i++) scene |= strcmp(c->open[i].key, "scene.kind") == 0;
    return with_scene && scene ? with_scene : name;
}

static rt_status run(cli_call *c, rt_error *err)
{
    if (c->explain) return cli_method_help(c->command, method_of(c, c->arguments[0]), stdout, err);
    if (c->n_arguments > 0) return cli_run(c, method_of(c, c->arguments[0]), err);
    rt_minimiser follows;
    const char *divergence = cli_text(c, "divergence");
    if (!divergence) return rt_error_set(err, RT_E_USAGE, "distill needs METHOD or --divergence; 'retort distill --help' shows an example");
    rt_status status = rt_minimiser_of(divergence, NULL, &follows, err);
    if (status != RT_OK) rt_error_prefix(err, "--divergence");
    return status == RT_OK ? cli_run(c, follows.method, err) : status;
}

const cli_command cli_distill_command = {
    .name = "distill",
    .arguments = "[METHOD]",
    .summary = "turn a model into a few-step student",
    .text =
        "Makes a student of --teacher that needs a few network calls per sample, by one of the methods below; `retort distill METHOD "
        "--help`\n"
        "lists the options that it reads, with its defaults.\n"
        "--divergence names what is minimised instead, and the method follows: f for jensen-shannon, renyi for renyi:2, sid for fisher.\n"
        "Without --data the teacher's own samples are learnt from. Each student is a folder that carries its sampling recipe.\n"
        "The teacher's maps are made by --teacher-solver; solvers with a memory keep it along rollouts and start cold on pairs from "
        "--data;\n"
        "the noise of those that add any is frozen per example, and a student that does not see it learns the mean; --draws input\n"
        "shows it, and the student is a map of x and the draws of its steps (pd: one round).\n"
        "oracle:FILE.json is a teacher, too, if the file names a scheduler; its student is the network of --net, and what vsd and its kin "
        "train\n"
        "beside it that of --fake-net.",
    .examples = "retort distill pd --teacher models/fashion-mnist-small --out run --teacher-steps 4 --steps 2,1 --updates 50",
    .options = options,
    .method_options = cli_distill_options,
    .explains = "",
    .shared = cli_run_options,
    .shared_title = "Options of runs",
    .more_keys = cli_run_keys,
    .words = methods,
    .min_arguments = 0,
    .max_arguments = 1,
    .ranks = true,
    .run = run,
};
