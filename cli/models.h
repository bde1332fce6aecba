/* models.h -- what the commands that use a model share: opening it, describing it, reading tensors for it. */
#ifndef RETORT_MODELS_H
#define RETORT_MODELS_H

#include "cli.h"

#include "retort/format.h"
#include "retort/model.h"

/* Opens the model at `path` with the call's options (those of cli_model_options, backend, threads). */
rt_status cli_open_model(cli_call *c, const char *path, rt_model **model, rt_error *err);
/* What a figure depends on: path, hash, network, process, recipe, as docs/json says. */
json_t *cli_model_json(const char *path, const rt_model_info *info);
json_t *cli_json_reals(const double *v, int n);

/* The tensor `name` of a file as `dtype` (F32 from any real type, I64 from any integer type). A tensor that is not there is an error, or with
 * `optional` an empty *out. Prefixes errors with file and tensor. */
rt_status cli_read_tensor(const char *path, const char *name, rt_dtype dtype, bool optional, rt_tensor *out, rt_error *err);
/* The same, checked to be rows of samples: the last dimensions of shape [...,n,features] are those of the model. */
rt_status cli_read_rows(const char *path, const char *name, const rt_model_info *info, int leading, rt_tensor *out, rt_error *err);
/* y [n] I64, if it is there. */
rt_status cli_read_labels(const char *path, int64_t n, const rt_model_info *info, rt_tensor *out, rt_error *err);

/* Names of rows, for messages and completion. */
const char *const *cli_solver_words(void);
const char *const *cli_grid_words(void);
const char *const *cli_prediction_words(void);

/* The options that choose how to sample, for `sample` and `eval`. */
#define CLI_SAMPLING_OPTIONS                                                                                                               \
    {"grid", 0, "NAME", "sample.grid", NULL, "where the steps go: retort list grids", cli_grid_words},                                     \
        {"solver", 0, "NAME", "sample.solver", NULL, "how a step is made: retort list solvers", cli_solver_words},                         \
        {"guidance", 'w', "W", "sample.guidance", NULL, "(1+W) conditional - W unconditional", NULL},                                      \
        {"guidance-interval", 0, "LOW,HIGH", "sample.guidance-interval", NULL, "guide only where beta/alpha lies between", NULL},          \
        {"guidance-rescale", 0, "PHI", "sample.guidance-rescale", NULL, "bring so much back to the conditional deviation, 0 to 1", NULL},  \
        {"guide", 0, "MODEL", "sample.guide", NULL, "a worse model in place of the unconditional one (autoguidance)", NULL},               \
        {"eta", 0, "E", "sample.eta", NULL, "ddim: share of the ancestral step's noise, 0 to 1", NULL},                                    \
        {"churn", 0, "S", "sample.churn", NULL, "edm-stochastic: S_churn, noise added over all steps (40)", NULL},                         \
        {"tolerance", 0, "TOL", "sample.tolerance", NULL, "dopri5: error of a step (1e-6)", NULL},                                         \
        {"class", 0, "K|all|null", "sample.class", "all", "the class of every sample; all: sample j gets j mod C", NULL},                  \
    {                                                                                                                                      \
        "batch", 'b', "N", "sample.batch", NULL, "samples at a time", NULL                                                                 \
    }

/* Reads those into *s; cli_ok says whether they were right. */
void cli_read_sampling(cli_call *c, rt_sampling *s);
/* Opens --guide, if it is there; rt_model_free(s->guide) at the end. */
rt_status cli_open_guide(cli_call *c, rt_sampling *s, rt_error *err);

#endif
