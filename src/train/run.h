/* run.h -- a run in progress: its directory, its state, its checkpoints; for the files of src/train. */
#ifndef RT_TRAIN_RUN_H
#define RT_TRAIN_RUN_H

#include "distill/method.h"
#include "retort/model.h"
#include "retort/train.h"

/* Everything that a checkpoint must hold beside the networks: plain numbers, stored as bytes. */
typedef struct rt__position {
    int64_t round;    /* the round to go on with */
    int64_t in_round; /* updates done in it */
    int64_t updates;  /* over all rounds */
    int64_t examples;
    double loss_sum, loss_n; /* over the last tenth of the round, for its report */
    double seconds;          /* of training, over all sittings */
    double accuracy;         /* of a classifier on held-out data; NaN: not measured */
    int64_t n_reports;
    rt_round_report reports[RT_ROUNDS];
} rt__position;

typedef struct rt__run {
    const rt_config *config;
    const rt_observer *observer;
    int lock;
    rt_task task;
    rt_round round;
    rt_model *teacher;             /* the original teacher as a model; NULL: none */
    rt_model *init;                /* the model of the setting `init`; NULL: none */
    rt_net *net;                   /* of the setting `net`; NULL: none */
    const rt_scheduler *scheduler; /* the teacher's, or of the settings: */
    rt_scheduler *own_scheduler;
    rt_dataset *data;
    rt__position at;
} rt__run;

rt_status rt__run_open(rt__run *run, rt_error *err);
/* Its directory: locked, and begun unless it is resumed. */
bool rt__run_exists(const rt_config *c); /* is there a run in the folder `out`? */
rt_status rt__run_claim(rt__run *run, bool resume, rt_error *err);
void rt__run_close(rt__run *run);
/* Instruction set and backend, into RUN/machine.json; a resumed run that had others says so in a line. */
rt_status rt__run_keep_machine(const rt__run *run, bool resume, rt_error *err);
rt_status rt__run_keep_choices(const rt__run *run, rt_error *err); /* into RUN/choices.json */

/* Round at.round: graphs, sources, programs; with fresh optimisers where it begins. */
rt_status rt__run_open_round(rt__run *run, rt_error *err);
int64_t rt__round_updates(const rt_config *c, int64_t round);
/* What a round leaves: its report, the deployed network's folder, pictures; then the copies that the method declares. */
rt_status rt__run_finish_round(rt__run *run, rt_error *err);

/* RUN/checkpoints/update-N/, complete or absent: all roles of the run's own networks, the position. */
rt_status rt__checkpoint_write(rt__run *run, rt_error *err);
/* The newest one that verifies, into the run's networks and position; RT_E_INVALID when there is none. */
rt_status rt__checkpoint_read(rt__run *run, rt_error *err);

/* The deployed network as it is used: its folder, its pictures. */
rt_status rt__result_write(rt__run *run, rt_error *err);
rt_status rt__run_pictures(rt__run *run, rt_error *err);

#endif
