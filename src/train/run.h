/* run.h -- a run in progress: its directory, its state, its checkpoints; for the files of src/train. */
#ifndef RT_TRAIN_RUN_H
#define RT_TRAIN_RUN_H

#include "distill/method.h"
#include "retort/model.h"
#include "retort/train.h"

/* Everything that a checkpoint must hold beside the parameter sets: plain numbers, stored as bytes. */
typedef struct rt__position {
    int64_t round;    /* the round to go on with */
    int64_t in_round; /* updates done in it */
    int64_t updates;  /* over all rounds */
    int64_t examples;
    double loss_sum, loss_n; /* over the last tenth of the round, for its report */
    double seconds;          /* of training, over all sittings */
    double accuracy;         /* of a classifier on held-out data; NaN: not measured */
    int64_t n_reports;
    rt_round_report reports[RT_CONFIG_LIST];
} rt__position;

typedef struct rt__run {
    const rt_config *config;
    const rt_observer *observer;
    int lock;
    rt_distill d;
    rt_model *origin;              /* the first teacher as a model */
    rt_net *net, *own_net;         /* what is trained: the teacher's, or that of the setting `net`, which the run owns */
    const rt_scheduler *scheduler; /* the teacher's, or of the settings: */
    rt_scheduler *own_scheduler;
    rt_params *student, *teacher, *first, *shown;
    rt_dataset *data;
    double low, high; /* the model's range */
    rt__position at;
} rt__run;

rt_status rt__run_open(rt__run *run, rt_error *err);
/* Its directory: locked, and begun unless it is resumed. */
rt_status rt__run_claim(rt__run *run, bool resume, rt_error *err);
void rt__run_close(rt__run *run);
/* Instruction set and backend, into RUN/machine.json; a resumed run that had others says so in a line. */
rt_status rt__run_keep_machine(const rt__run *run, bool resume, rt_error *err);
rt_status rt__run_keep_choices(const rt__run *run, rt_error *err); /* into RUN/choices.json */

/* Graph, phases, programs and source of round at.round. rt__round_close releases what was made of it, also after a failure. */
rt_status rt__round_open(rt__run *run, rt_error *err);
void rt__round_close(rt__run *run);
/* One update of all phases, at.in_round of n; the loss and gradient norm of the last. */
rt_status rt__update(rt__run *run, int64_t n, double *loss, double *grad_norm, rt_error *err);

/* RUN/checkpoints/update-N/, complete or absent: all roles of the student, the values of the teacher, the position. */
rt_status rt__checkpoint_write(rt__run *run, rt_error *err);
/* The newest one that verifies, into the run's sets and position; RT_E_INVALID when there is none. */
rt_status rt__checkpoint_read(rt__run *run, rt_error *err);

/* Share of data.holdout that a classifier puts in its class; NaN without it. */
rt_status rt__accuracy(rt__run *run, double *share, rt_error *err);

/* The student as it is used, into the set `shown`; then its folder, its pictures. */
rt_status rt__show_student(rt__run *run, rt_error *err);
rt_status rt__result_write(rt__run *run, rt_error *err);
rt_status rt__run_pictures(rt__run *run, rt_error *err);

#endif
