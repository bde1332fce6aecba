/* run.h -- a run in progress: its directory, its state, its checkpoints; for the files of src/train. */
#ifndef RT_TRAIN_RUN_H
#define RT_TRAIN_RUN_H

#include "distill/meters.h"
#include "retort/model.h"
#include "retort/train.h"

enum { RT_WATCH_NORMS = 25, RT_WATCH_MEDIANS = 64 };

/* What the meters of a round have said so far. */
typedef struct rt__watch {
    double norms[RT_WATCH_NORMS];                        /* of the main phase's gradient in the latest updates */
    double medians[RT_WATCH_MEDIANS];                    /* of them at the latest readings */
    int64_t n_norms, n_medians;                          /* how many there have been */
    double least[RT_METERS];                             /* costs so far */
    int64_t stale[RT_METERS];                            /* readings since */
    double best_cost, best_value, flat_cost, flat_value; /* of the selected network; of run.stop-on flat's best */
    int64_t best_update, flat_update;                    /* 0: none yet */
    int64_t flat_readings;                               /* since */
} rt__watch;

typedef enum rt__verdict { RT_GO_ON, RT_FLAT, RT_COLLAPSED } rt__verdict;

/* Everything that a checkpoint must hold beside the networks: plain numbers, stored as bytes. */
typedef struct rt__position {
    int64_t round;    /* the round to go on with */
    int64_t in_round; /* updates done in it */
    int64_t updates;  /* over all rounds */
    int64_t examples;
    double loss_sum, loss_n; /* over the last tenth of the round, for its report */
    double seconds;          /* of training, over all sittings */
    double accuracy;         /* of a classifier on held-out data; NaN: not measured */
    int64_t ended;           /* the round ends before its last update: 1 */
    rt__watch watch;
    int64_t n_reports;
    rt_round_report reports[RT_ROUNDS];
} rt__position;

typedef struct rt__run {
    const rt_config *config; /* with the number of shards */
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
    rt_meters meters;
    rt_reading reading;  /* the latest */
    int64_t read_at;     /* after which update, -1: none of this sitting */
    rt_params *selected; /* the deployed network as run.select chose it; NULL: that is not asked for */
    rt__position at;
    double headline;  /* of a method that is shown otherwise, at the run's first update; NaN: none yet */
    int64_t kept_at;  /* the update of the newest checkpoint, 0: none is needed yet */
    double kept_when; /* when that was written, or the sitting began: seconds, monotonic */
} rt__run;

/* Of several ranks the first writes. */
static inline bool rt__run_writes(const rt__run *run) { return rt_ranks_rank(run->task.ranks) == 0; }

rt_status rt__run_open(rt__run *run, rt_error *err);
/* Lines about settings that are allowed and seldom meant: class tables that the data does not fill, a student as teacher, a prediction that cannot be. */
rt_status rt__run_remarks(const rt__run *run, rt_error *err);
/* Its directory: locked, and begun unless it is resumed. */
bool rt__run_exists(const rt_config *c); /* is there a run in the folder `out`? */
rt_status rt__run_claim(rt__run *run, bool resume, rt_error *err);
void rt__run_close(rt__run *run);
/* Instruction set and backend, into RUN/machine.json; a resumed run that had others says so in a line. */
rt_status rt__run_keep_machine(const rt__run *run, bool resume, rt_error *err);
rt_status rt__run_keep_choices(const rt__run *run, rt_error *err); /* into RUN/choices.json */

/* Round at.round: graphs, sources, programs; with fresh optimisers where it begins. */
rt_status rt__run_open_round(rt__run *run, rt_error *err);
/* What a round leaves: its report, the deployed network's folder, pictures; then the copies that the method declares. */
rt_status rt__run_finish_round(rt__run *run, rt_error *err);

/* Refuses settings that name no meter; makes room for the selected network. */
rt_status rt__watch_check(rt__run *run, rt_error *err);
/* Meters of a round that is open, and their first reading where it begins. */
rt_status rt__watch_open(rt__run *run, rt_error *err);
/* After an update, the `last` of the round or not. RT_COLLAPSED: *err says why, and the run is to leave with it after a checkpoint. */
rt_status rt__watch_update(rt__run *run, bool last, rt__verdict *verdict, rt_error *err);
void rt__watch_say_selected(const rt__run *run);

/* RUN/checkpoints/update-N/, complete or absent: all roles of the run's own networks, the position. */
rt_status rt__checkpoint_write(rt__run *run, rt_error *err);
bool rt__checkpoint_exists(const rt_config *c);
/* The newest one that verifies, into the run's networks and position; RT_E_INVALID when there is none. */
rt_status rt__checkpoint_read(rt__run *run, rt_error *err);

/* The deployed network as it is used: its folder, its pictures. */
rt_status rt__result_write(rt__run *run, rt_error *err);
rt_status rt__run_pictures(rt__run *run, rt_error *err);
int64_t rt__pictures_every(const rt__run *run); /* updates of the present round between two of them */

#endif
