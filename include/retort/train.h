/* train.h -- runs: a configuration, one loop for every method, a run directory that can always be resumed.
 *
 * A run directory holds (cli.md):
 *     config.yaml            the resolved configuration; repeating it repeats the run, bit for bit
 *     choices.json           kernel choices, where the run tries (tune: true)
 *     metrics.jsonl          one object per logged update; metrics.csv the same as a table
 *     checkpoints/update-N/  manifest.json + state.safetensors, complete or absent
 *     samples/               pictures from the same noise through the run
 *     student/, student-N/ or model/   results: diffusers folders that carry their own recipe */
#ifndef RETORT_TRAIN_H
#define RETORT_TRAIN_H

#include "retort/config.h"
#include "retort/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- running */

/* What a run shares with its caller; each may be NULL. */
typedef struct rt_observer {
    void *self;
    /* progress of the current activity ("round 1/4: 8 steps", "teacher rollouts"): done of total units, and the latest loss (NaN: none) */
    void (*progress)(void *self, const char *what, int64_t done, int64_t total, const char *unit, double loss);
    void (*note)(void *self, const char *line);   /* a remark */
    void (*meters)(void *self, const char *line); /* what meters on held-out noise read: docs/meters.md */
    /* beside the progress that follows, of scenes: speed and figures of the latest update, in words: "8.1 views/s  score gap 0.042 (was 0.31)" */
    void (*live)(void *self, const char *text);
    /* asked between updates: true finishes the update, writes a checkpoint and returns RT_E_INTERRUPTED */
    bool (*stop)(void *self);
    /* Kernel choices of the run's programs, which are recorded in RUN/choices.json; a run that is resumed takes them from there first. NULL: by rule. */
    rt_choices *choices;
    /* That make the run together: all call rt_run_train with the same settings, each is asked and told by its own observer, and the first writes. NULL: one. */
    rt_ranks *ranks;
} rt_observer;

/* One row of the table that a progressive run prints, per round, on held-out noise; RMS per feature in data units. */
typedef struct rt_round_report {
    int steps, teacher_steps;
    int64_t updates, examples;
    double seconds;
    double residual;          /* (1.37): one student step against the teacher's steps, at states of the first teacher's rollout */
    double residual_relative; /* the same over the length of the step */
    double own_teacher;       /* student's rollout against its own teacher's */
    double drift;             /* student's rollout against the first teacher's (1.38) */
    double spread;            /* of a stochastic teacher's step over its draws: what is left where they are hidden; NaN: no draws */
    double loss;              /* mean over the last tenth of the round */
} rt_round_report;

typedef struct rt_run_summary {
    int n_rounds;
    rt_round_report rounds[RT_CONFIG_LIST + 1]; /* an epsilon teacher takes one round more than there are students */
    int64_t updates, images;
    double seconds, loss, accuracy; /* accuracy: classifiers, on the held-out data; else NaN */
    char result[RT_CONFIG_TEXT];    /* the folder of the (last) result */
    bool finished;                  /* all rounds are done: not stopped by run.until-update */
} rt_run_summary;

/* What a run would need, without doing it: for --dry-run. All is read and planned as in the run, whose directory is not touched. */
typedef struct rt_run_plan {
    int64_t parameters, updates;
    double flop_per_update; /* the average over the rounds */
    size_t bytes, disk;     /* bytes: the most resident memory of the process */
    int64_t device_bytes;   /* the most memory on a device; 0: the backend has none */
} rt_run_plan;

/* Runs `c` in its directory c->out, which must not exist (or be empty). With `resume` the newest checkpoint that verifies is continued. A run keeps the number of its
 * shards (train.shards), which any number of ranks that divides it may go on with. RT_E_COMM: a rank is gone, or does not answer; the last checkpoint is good. */
rt_status rt_run_train(const rt_config *c, bool resume, const rt_observer *observer, rt_run_summary *summary, rt_error *err);
rt_status rt_run_plan_only(const rt_config *c, rt_run_plan *plan, rt_error *err);
/* RT_E_BUSY while a process works on the run in this folder, RT_OK where there is none. The lock is the file RUN/.lock: who replaces a run keeps the file, so that
 * the next process finds it locked as long as anyone works there. */
rt_status rt_run_check_free(const char *folder, rt_error *err);

/* Milliseconds of an update of a method that has a teacher (pd, vsd, sds), by the loop that trains: the network of c->net, or where that is empty of c->teacher,
 * with random weights as teacher and student, random numbers as data, nothing written but a temporary file (TMPDIR). The median and the mean of `repeats` after two. Choices: NULL, by rule.
 * RT_E_USAGE for networks that are no plain denoisers of one time. */
rt_status rt_run_time_update(const rt_config *c, int repeats, rt_choices *choices, double *median, double *mean, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
