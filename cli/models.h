/* models.h -- what the commands that use a model share: opening it, reading tensors for it, keeping its samples. */
#ifndef RETORT_MODELS_H
#define RETORT_MODELS_H

#include "cli.h"

#include "retort/model.h"

/* Opens the model at `path` with the call's options (those of cli_model_options, backend, threads). */
rt_status cli_open_model(cli_call *c, const char *path, rt_model **model, rt_error *err);
/* What a figure depends on: path, hash, network, process of a model, as JSON. */
json_t *cli_model_json(const char *path, const rt_model_info *info);
/* "28x28x1"-like text of a shape, without the batch. */
const char *cli_shape(char *buf, size_t size, int rank, const int64_t *shape);

/* Reads tensor `name` of a safetensors file as `dtype`, and checks that it is [n, features of the model...]; *n < 0 takes the file's n. */
rt_status cli_read_samples(const char *path, const char *name, const rt_model_info *info, rt_tensor *out, int64_t *n, rt_error *err);

/* The options that choose how to sample, for `sample` and `eval`. */
#define CLI_SAMPLING_OPTIONS                                                                                                               \
    {"grid", 0, "NAME", "sample.grid", NULL, "where the steps go: retort list grids", NULL},                                               \
        {"solver", 0, "NAME", "sample.solver", NULL, "how a step is made: retort list solvers", NULL},                                     \
        {"guidance", 'w', "W", "sample.guidance", NULL, "(1+W) conditional - W unconditional", NULL},                                      \
        {"class", 0, "K|all|null", "sample.class", "all", "the class of every sample; all: sample j gets j mod C", NULL},                  \
    {                                                                                                                                      \
        "batch", 'b', "N", "sample.batch", NULL, "samples at a time", NULL                                                                 \
    }

/* Reads those into *s. */
rt_status cli_read_sampling(cli_call *c, const rt_model_info *info, rt_sampling *s, rt_error *err);

#endif
