/* model_parts.h -- what a model is made of, for the files that implement model.h. */
#ifndef RT_TRAIN_MODEL_PARTS_H
#define RT_TRAIN_MODEL_PARTS_H

#include "base/internal.h"
#include "retort/diffusion.h"
#include "retort/model.h"
#include "retort/nn.h"
#include "retort/ops.h"

/* A network compiled for one number of rows; kept until another is asked for. */
typedef struct rt__evaluator {
    rt_graph *graph;
    rt_program *program;
    rt_node *x, *t, *y, *out, *pooled; /* t (B) or, of maps, (B,2); y NULL: no classes; t NULL, pooled not: a classifier */
    rt_node *z;                        /* (B,q C,..) draws that the network sees; NULL: none */
    int64_t rows, features, width;     /* width: numbers of out per row */
} rt__evaluator;

typedef struct rt__searched rt__searched; /* grid_search.c */

struct rt_model {
    rt_model_info info;
    rt_scheduler *scheduler;   /* NULL: none; an oracle's belongs to it */
    const rt_process *process; /* the scheduler's or the oracle's; NULL: none */
    const rt_prediction *prediction;
    rt_oracle *oracle; /* instead of a network */
    rt_net *net;
    rt_params *params;
    const char *variant; /* of the weights: "raw", NULL: the usual ones */
    const rt_backend *backend;
    int threads;
    rt_dtype compute;
    rt_rehearsal *rehearsal;
    rt_choices *choices; /* NULL: by rule */
    rt__evaluator *evaluator;
    rt__searched *searched;         /* grids of the last search; NULL: none */
    const rt_sample_spec *sampling; /* the one in progress: says where a step goes and what is drawn, to networks that ask; */
    int64_t sampled;                /* its samples: guidance asks for twice as many rows */
};

rt_status rt__model_evaluator(rt_model *m, int64_t rows, rt__evaluator **evaluator, rt_error *err);
rt_status rt__evaluator_run(rt__evaluator *e, rt_error *err);
void rt__evaluator_free(rt__evaluator *e);

/* The model as the sampling driver sees it, for calls of about `rows` rows. Valid until the next call or rt_model_free. */
rt_status rt__model_field(rt_model *m, int64_t rows, rt_field *field, rt_error *err);

/* Fills info.sha256, if the model has a network and that is not done yet. */
rt_status rt__model_hash(rt_model *m, rt_error *err);

/* The class of sample `index` where each gets the next: the null class is stepped over. */
int64_t rt__usual_class(const rt_model_info *info, int64_t index);

#endif
