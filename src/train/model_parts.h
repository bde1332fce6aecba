/* model_parts.h -- what a model is made of, for the files that implement model.h. */
#ifndef RT_TRAIN_MODEL_PARTS_H
#define RT_TRAIN_MODEL_PARTS_H

#include "base/internal.h"
#include "retort/diffusion.h"
#include "retort/model.h"

/* A network compiled for one batch size; kept until another size is asked for. */
typedef struct rt__evaluator rt__evaluator;

struct rt_model {
    rt_model_info info;
    rt_scheduler *scheduler;   /* NULL: none */
    const rt_process *process; /* the scheduler's, the oracle's, or own; NULL: none */
    rt_process *own_process;
    const rt_prediction *prediction; /* NULL: none */
    rt_oracle *oracle;               /* instead of a network */
    const struct rt_net *net;
    struct rt_net *own_net;
    struct rt_params *params;
    const struct rt_backend *backend;
    int threads;
    rt__evaluator *evaluator;
};

/* The model as the sampling driver sees it, ready for up to `rows` rows in a call. Valid until the next call or rt_model_free. */
rt_status rt__model_field(rt_model *m, int64_t rows, rt_field *field, rt_error *err);

#endif
