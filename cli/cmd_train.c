/* cmd_train.c -- retort train: a model from data. */
#include "method_options.h"
#include "runs.h"

static const char *const *methods(void)
{
    static const char *names[32];
    rt_row_text row;
    for (int i = 0, n = 0; !names[n] && n < 31 && rt_method_describe(i, &row); i++)
        if (!rt_method_needs_teacher(row.name)) names[n++] = row.name;
    return names;
}

static const cli_option options[] = {
    {"net", 0, "FILE", "net", NULL, "config.json of the network to train", NULL},
    {"init", 0, "MODEL", "init", NULL, "start from this model's weights instead of random ones", NULL},
    {"images", 0, "N", "train.images", NULL, "examples in all, instead of --updates", NULL},
    {"objective", 0, "NAME", "method", "denoise", "denoise: a diffusion or flow model; classify: labels", methods},
    {0}};

static rt_status run(cli_call *c, rt_error *err)
{
    const char *method = cli_word(c, "objective");
    TRY(cli_ok(c, err));
    if (c->explain) return cli_method_help(c->command, method, stdout, err);
    return cli_run(c, method, err);
}

const cli_command cli_train_command = {
    .name = "train",
    .arguments = "",
    .summary = "train a model from data: a teacher, or a small classifier",
    .text = "Trains a diffusion or flow model (a teacher to distil), or a classifier whose features serve `retort eval`.\n"
            "The run directory holds checkpoints, metrics, pictures and the model, a folder that diffusers loads as it is.\n"
            "Ctrl-C writes a checkpoint; --resume goes on from it to the same bits.\n"
            "`retort train --objective NAME --help` lists the options that one of the two reads, with its defaults.",
    .examples = "retort train --data toy:moons --net examples/mlp.json --out run --updates 200",
    .options = options,
    .method_options = cli_train_options,
    .explains = "objective",
    .shared = cli_run_options,
    .shared_title = "Options of runs",
    .more_keys = cli_run_keys,
    .ranks = true,
    .run = run,
};
