/* method.h -- what a method sees: the graph of one round, the networks as sets, the phases it declares.
 *
 * A method is one file that reads like the paper. It declares losses and the network that each trains; the loop, the optimiser, checkpoints and
 * pictures are not its business. A method works in rounds: each builds a fresh graph; at the end of one the student may become the teacher. */
#ifndef RT_DISTILL_METHOD_H
#define RT_DISTILL_METHOD_H

#include "retort/config.h"
#include "retort/data.h"
#include "retort/diffusion.h"
#include "retort/nn.h"
#include "retort/ops.h"

#include "model/solver_map.h"

typedef struct rt_distill rt_distill;
typedef struct rt_method rt_method;

/* Where the numbers of an update come from: fills the program's input nodes with examples first .. first + n - 1 of update u (from 0) of the round,
 * n the program's batch. A pure function of (seed, round, u), so that a resumed run needs no state of it. */
typedef struct rt_source {
    void *self;
    rt_status (*fill)(void *self, int64_t update, int64_t first, int64_t n, rt_program *program, rt_error *err);
    void (*free)(void *self);
} rt_source;

enum { RT_PHASES = 4, RT_WATCHED = 8 };

typedef struct rt_phase {
    const char *name;
    rt_params *set; /* the one that is trained */
    rt_node *loss;
    int every; /* runs per iteration */
    rt_update update;
    rt_program *program;
} rt_phase;

struct rt_distill {
    const rt_method *method;
    const rt_config *config;
    rt_error *err;

    const rt_process *process;
    rt_denoiser student, teacher,
        first;               /* first: the teacher of round 0, which has the plan's solver and guidance; later teachers are students */
    rt_denoiser shown;       /* the student as it is used: its averaged weights where an average is kept */
    int classes, null_class; /* 0: unconditional; -1: no null class */
    int rank;                /* of a batch: 4 (B,C,H,W) or 2 (B,D) */
    int64_t shape[RT_MAX_RANK], features;

    const rt_dataset *data; /* NULL without */

    int round, n_rounds;
    int chain[RT_CONFIG_LIST + 1], n_chain; /* steps of the first teacher and of all students; 0: the method has no grid */
    int teacher_steps, steps;               /* of this round */
    double *fine, *grid;                    /* times, noisy to clean: chain[0] + 1 of all rounds; teacher_steps + 1 of this one */

    rt_rehearsal *rehearsal; /* NULL: the run is real */
    rt_graph *graph;         /* of this round */
    rt_phase phases[RT_PHASES];
    int n_phases;
    rt_node *draws;              /* (B,q C,..) what a student sees of its teacher's draws beside x; NULL: nothing */
    rt_node *inputs[RT_WATCHED]; /* what the source writes, in the method's own order */
    rt_source source;

    rt_choices *choices; /* kernel choices of all programs; NULL: by rule */

    /* Long work outside updates (pairs, pools): may be NULL. True from `stop` ends it with RT_E_INTERRUPTED. */
    void *self;
    void (*progress)(void *self, const char *what, int64_t done, int64_t total);
    bool (*stop)(void *self);
};

struct rt_method {
    const char *name, *title, *source, *equation; /* source: the paper */
    bool needs_teacher, needs_data;
    const char *const *defaults; /* key, value, ..., NULL: replace those of the table of settings */
    /* Sets n_rounds, with a grid chain and the steps of round d->round, with a teacher its solver and guidance; fails on settings that cannot be. */
    rt_status (*plan)(rt_distill *d);
    /* Declares the phases of round d->round on d->graph and opens d->source. */
    rt_status (*build)(rt_distill *d);
};

/* The table: methods.c. */
extern const rt_method *const rt__methods[];
extern const rt_method rt__method_denoise, rt__method_classify, rt__method_kd, rt__method_pd, rt__method_map;

/* Examples that a program takes at a time. */
static inline int rt__slice(const rt_config *c) { return c->train.micro_batch > 0 ? c->train.micro_batch : c->train.batch; }

/* ---- shared pieces: pieces.c */

/* Row k[j] of a table of n numbers (double, rounded once), as (B,1,..,1). */
rt_node *rt__pick(rt_distill *d, const double *table, int n, rt_node *k);
/* The times grid[first + stride k]: n possible k. */
rt_at rt__at(rt_distill *d, const double *grid, int n, int stride, rt_node *k);
/* s as a network of two times is fed it on the way to t. */
rt_at rt__towards(rt_at s, rt_at t);
/* The maps of a denoiser's solver for `rows` samples at a time; close it after a failure, too. */
rt_status rt__map_open(rt_solver_map *map, const rt_distill *d, const rt_denoiser *m, int64_t rows, rt_error *err);
/* The first teacher's solver, from the setting `key`: any row. */
rt_status rt__teacher_solver(rt_distill *d, const char *key, const char *name);
/* The setting `draws` of the method: how many of its teacher's draws a student sees per step, 0: they are hidden. */
int rt__draws_seen(const rt_config *c);
/* For plans, when teacher, steps and rounds stand: can that be? */
rt_status rt__draws_plan(rt_distill *d);
/* d->draws for a graph in which the denoiser is asked: an input if its network sees draws. */
void rt__input_draws(rt_distill *d, const rt_denoiser *m);
/* Trains set so that loss falls: adds a phase. */
void rt__minimise(rt_distill *d, const char *name, rt_params *set, rt_node *loss);
/* Batch inputs: data (B,...) and classes (B) or NULL. */
rt_node *rt__input_x(rt_distill *d, const char *name);
rt_node *rt__input_y(rt_distill *d);
/* Mean over features of the squared difference, per sample; the explicit 1/d of losses that are quoted per feature. */
rt_node *rt__mean_square(rt_distill *d, rt_node *a, rt_node *b);
/* d(a, b) of (1.10) per sample, (B), by the row that the setting `key` names: distance.c. NULL and an error if there is none. */
typedef rt_node *(*rt__distance)(rt_distill *d, rt_node *a, rt_node *b);
rt__distance rt__distance_find(const char *key, const char *name, rt_error *err);

#endif
