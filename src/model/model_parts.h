/* model_parts.h -- what a model is made of, for the files that implement model.h. */
#ifndef RT_MODEL_PARTS_H
#define RT_MODEL_PARTS_H

#include "base/internal.h"
#include "model/classes.h"
#include "model/evaluator.h"
#include "retort/diffusion.h"
#include "retort/model.h"
#include "retort/nn.h"
#include "retort/ops.h"

typedef struct rt__searched rt__searched; /* grid_search.c */

struct rt_model {
    rt_model_info info;
    rt_scheduler *scheduler;   /* NULL: none; an oracle's belongs to it */
    const rt_process *process; /* the scheduler's or the oracle's; NULL: none */
    const rt_prediction *prediction;
    rt_oracle *oracle; /* instead of a network */
    rt_net *net;
    rt_params *params;
    double omega;        /* what a network is told that is told the weight of guidance: its recipe's, or that of the sampling in progress */
    const char *variant; /* of the weights: "raw", NULL: the usual ones */
    const rt_backend *backend;
    int threads;
    rt_dtype compute;
    rt_rehearsal *rehearsal;
    rt_choices *choices;     /* NULL: by rule */
    rt_evaluator *evaluator; /* of the last calls, for about as many rows; NULL: none yet */
    rt__searched *searched;  /* grids of the last search; NULL: none */
    bool shared;             /* a view: evaluator and searched are its own, all else another's */
};

/* A view of m, for a thread of its own: m's weights, buffers of its own. m must live longer. */
rt_status rt__model_share(rt_model **view, const rt_model *m, rt_error *err);

/* The model's evaluator for raw outputs of about `rows` rows. Valid until the next call or rt_model_free. */
rt_status rt__model_evaluator(rt_model *m, int64_t rows, rt_evaluator **evaluator, rt_error *err);

/* Likewise for answers of x0, guided by omega (0: not), which makes steps on a device (rt__evaluator_stepper). */
rt_status rt__model_stepper(rt_model *m, int64_t rows, double omega, rt_evaluator **evaluator, rt_error *err);

/* The model as the sampling driver sees it, for calls of about `rows` rows. Valid until the next call or rt_model_free. */
rt_status rt__model_field(rt_model *m, int64_t rows, rt_field *field, rt_error *err);

/* Is it a label that the model takes: a class, or a prompt's? The n labels y (NULL: none); RT_E_INVALID names one that is not. */
bool rt__label_fits(const rt_model_info *i, int64_t label);
rt_status rt__check_labels(const rt_model_info *i, int64_t n, const int64_t *y, rt_error *err);

/* RT_E_INVALID for a network that needs more than noise: one conditioned on a picture. RT_E_USAGE for classifiers. */
rt_status rt__model_check_whole(const rt_model *m, rt_error *err);
/* RT_E_USAGE for a network that is told a camera, which it is only with a scene. */
rt_status rt__model_check_alone(const rt_model *m, rt_error *err);

/* Fills info.sha256, if the model has a network and that is not done yet. */
rt_status rt__model_hash(rt_model *m, rt_error *err);

#endif
