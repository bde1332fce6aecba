/* method.h -- what a method declares, networks and phases, and what it sees of the run: the task and the round.
 *
 * A method is one file that reads like the paper. It says which networks there are, how each starts and whether it is trained; and which phases, each
 * with a loss, the network that the loss trains, how often it runs and where its inputs come from. The loop, optimisers, checkpoints, resumption and
 * pictures are not its business: the run walks both lists.
 *
 *     task    lives as long as the run: settings, process, original teacher, data, the plan, the networks
 *     round   networks are trained from where they stand; at its end declared copies are made (the student becomes the teacher)
 *     phase   a graph of its own, compiled to one program: it reads every network as it stands when it runs */
#ifndef RT_DISTILL_METHOD_H
#define RT_DISTILL_METHOD_H

#include "retort/config.h"
#include "retort/data.h"
#include "retort/diffusion.h"
#include "retort/format.h"
#include "retort/nn.h"
#include "retort/ops.h"

#include "distill/settings.h"
#include "model/solver_map.h"

typedef struct rt_method rt_method;
typedef struct rt_task rt_task;
typedef struct rt_round rt_round;
typedef struct rt_phase rt_phase;
typedef struct rt_meters rt_meters;

enum {
    RT_NETWORKS = 6,
    RT_PHASES = 6,
    RT_INPUTS = 8,
    RT_SOURCES = 2,
    RT_LOGGED = 6,
    RT_METERS = 16,
    RT_SURVEYS = 2,
    RT_ROUNDS = RT_CONFIG_LIST + 1,
    RT_HELD_OUT = 64
};

/* ---- networks */

typedef enum rt_network_kind {
    RT_NETWORK_NET,      /* that of the setting `net`, or without one the teacher's architecture */
    RT_NETWORK_COPY,     /* the teacher's architecture */
    RT_NETWORK_TEACHER,  /* the original teacher itself, or what follows it: a network or an oracle */
    RT_NETWORK_DECLARED, /* what `declare` adds to its set: a head on another network's features, a few numbers */
} rt_network_kind;

typedef enum rt_network_start {
    RT_START_SEED, /* by draws */
    RT_START_TEACHER, /* as the teacher, if it has all that the teacher's network has in the same shapes; what it has more, and any other, by draws */
} rt_network_start;

typedef struct rt_network_plan {
    const char *name; /* of its set, in checkpoints and messages; the deployed one's is also the folder of the result */
    rt_network_kind kind;
    const char *config;     /* of a copy: config.json of an architecture of its own for the same data; NULL or empty: the teacher's */
    rt_network_start start; /* the deployed one starts from the setting `init` where that is given */
    bool trained;           /* by a phase: it has an optimiser, and is checkpointed */
    bool averaged;          /* with train.ema: what is used of it is the average of its weights */
    bool deployed;          /* what the run is for: shown, measured and saved; one of the list, of a scene one of each round */
    bool kept;              /* its folder is written beside the result, under its name */
    const char *follows;    /* at the end of a round it takes the weights of this network as they are used; NULL: it stays as it is */
    const char
        *trails; /* starts as this trained network, and after each of its updates: own = keep own + (1 - keep) its; NULL: it does not */
    double keep;
    const rt_prediction *prediction; /* NULL: as the teacher */
    const rt_solver *solver;         /* NULL: ddim */
    double guidance;                 /* omega of (1.39), 0: none; with a knob the default */
    bool told;                       /* the network is told omega (1.40): where its architecture is not, it gets the layer for that */
    bool camera;                     /* likewise the matrix of a camera */
    int draws;                       /* q draws of its teacher's that it sees in each step: its first layer is widened */
    rt_status (*declare)(const rt_task *t, rt_params *set,
                         rt_error *err); /* of a declared one; of others: what the set holds beside the network */
    rt_status (*begin)(const rt_task *t, rt_params *set,
                       rt_error *err); /* of a declared one: the values that it starts with; NULL: draws */
} rt_network_plan;

typedef struct rt_network {
    const rt_network_plan *plan;
    rt_net *own;          /* the architecture, where it was made for this network */
    rt_params *set;       /* NULL: the original teacher's, in every round */
    rt_params *average;   /* the average as weights, for those that are averaged: rt__network_use fills it */
    rt_denoiser denoiser; /* as the present round's phases see it; its set is NULL for an oracle */
} rt_network;

/* ---- phases */

/* How a phase trains. */
typedef struct rt_training {
    double lr;               /* at its highest */
    const char *lr_schedule; /* constant, linear or cosine: from the phase's first update to the round's last */
    int64_t warmup;          /* updates */
    rt_optimiser optimiser;
} rt_training;

typedef struct rt_phase_plan {
    const char *name;
    const char *network;        /* the one it trains; no other phase of the round does */
    int runs, period;           /* `runs` runs in every period-th update; 0: 1 */
    int64_t first;              /* update of the round that is the first of them */
    int first_round, end_round; /* it belongs to rounds first_round .. end_round - 1; end 0: to all from the first on */
    int stream; /* of draws: phases of one stream and equal clocks draw the same, 0: the first phase's, usually the place in the list */
    rt_training training; /* rt__training(config), changed where the method has settings for it */
    rt_status (*build)(rt_phase *p, rt_error *err);
} rt_phase_plan;

/* Where numbers of a run of a phase come from: fills those of the program's inputs that it knows with examples first .. first + n - 1 of run u (from 0)
 * of the phase in the round, n the program's batch; inputs that nothing reads are left out. A pure function of (seed, round, u) and, where it asks one, of a
 * network's weights as they stand, so that a resumed run needs no state. */
typedef struct rt_source {
    void *self;
    rt_status (*fill)(void *self, int64_t u, int64_t first, int64_t n, rt_program *program, rt_error *err);
    void (*free)(void *self);
} rt_source;

struct rt_phase {
    const rt_phase_plan *plan;
    rt_round *round;
    rt_network *network; /* the one that is trained */
    rt_graph *graph;
    rt_node *loss;
    rt_update update;
    rt_node *run_number; /* of rt__run_number; NULL: nothing asked for it */
    struct {
        const char *name;
        rt_node *node;
    } inputs[RT_INPUTS], logged[RT_LOGGED]; /* what the source fills; scalars that join the metrics as PHASE_NAME */
    /* Where a batch is computed in slices: sums over all of it that its samples are to know (rt__known_to_all). Before an update each is found by a pass over the
     * slices, in order, and written to the input `told` of the passes behind it. */
    struct {
        rt_node *sum, *told;
        rt_program *program;
    } surveys[RT_SURVEYS];
    int n_inputs, n_logged, n_sources, n_surveys;
    rt_source sources[RT_SOURCES];
    int batch, slice;  /* examples of a run, and those that its program takes at a time */
    rt_meters *meters; /* what its graph measures, where it does that instead of training: meters.h */
    rt_program *program;
    double last_loss, last_grad_norm, last_lr, last_logged[RT_LOGGED]; /* of its last run; NaN: it has not run yet */
};

/* ---- meters: what a run is judged by where its losses say nothing */

typedef enum rt_meter_kind {
    RT_METER_MEAN,     /* E a/E b of what rt__meter was given; b NULL: 1 */
    RT_METER_SHARE,    /* (E a)^2/E a^2 within bins of log-SNR, an effective sample size as a share */
    RT_METER_DISTANCE, /* mean distance between two of the deployed network's samples over that between two of the teacher's, of one class */
    RT_METER_MEAN_OFF,      /* root mean square over the features of mean - teacher's mean, over the teacher's deviation */
    RT_METER_DEVIATION_OFF, /* the same of deviations */
    RT_METER_RECALL,        /* share of the teacher's samples inside the balls of the deployed network's, in the features of run.features */
    RT_METER_COVERAGE,      /* share of the balls of the teacher's samples that hold one of the deployed network's, there */
    RT_METER_GRADIENT,      /* the main phase's gradient norm over its running median */
} rt_meter_kind;

typedef struct rt_meter {
    const char *name, *text; /* column meter_NAME; what it is, one line */
    rt_meter_kind kind;
    double best;       /* the nearer, the better */
    double low, high;  /* a value beyond, by more than two standard errors, is worth a warning */
    const char *words; /* what it says then, with the remedy */
    bool collapse;     /* and such a value is a collapse */
} rt_meter;

/* ---- the plan */

/* Grids: the first teacher's has step_counts[0] steps, those of all students follow, each dividing the one before. */
typedef struct rt_plan {
    int n_rounds;
    struct {
        int teacher_steps, steps; /* of the round's teacher and student; 0: the method has no grid */
    } rounds[RT_ROUNDS];
    int step_counts[RT_ROUNDS + 1], n_step_counts;
    double start;                 /* the time at which the student is first asked, of beta z instead of noise; 0: the end of the process */
    double times[RT_CONFIG_LIST]; /* of the student's steps, noisy to clean, with start where they begin; times[0] 0: those of the grid */
    const char *grid;             /* row of `retort list grids` for step_counts[0] steps; NULL: even ones, nested */
    bool knob; /* omega of (1.40) is drawn for each sample, evenly from omega_low to omega_high, and all networks are asked at it */
    double omega_low, omega_high;
    int held_out; /* noises on which a round's maps are measured against the teacher's; 0: they are not */
    rt_network_plan networks[RT_NETWORKS];
    int n_networks;
    rt_phase_plan phases[RT_PHASES];
    int n_phases;
    const rt_meter *meters[RT_METERS];
    int n_meters;
    rt_status (*measure)(rt_phase *p, rt_error *err); /* builds the graph of those that are means and shares */
} rt_plan;

struct rt_task {
    /* given */
    double omega_low, omega_high; /* of a teacher that is told omega: its range */
    const rt_method *method;
    const rt_config *config;
    const rt_process *process; /* NULL: a classifier's */
    rt_denoiser teacher; /* the original one, as it is without guidance; its solver is the plan's. Neither net nor oracle: there is none */
    const rt_net *net;   /* of the setting `net`; NULL: the teacher's */
    rt_denoiser init;    /* what the deployed network starts from instead; no set: the plan says how it starts */
    int classes, null_class; /* 0: unconditional; -1: no null class */
    const rt_words *words;   /* labels are prompts of these; NULL: classes */
    const rt_dataset *data;  /* NULL without */
    rt_dtype real;           /* of graphs and sets: RT_F32; tests take RT_F64 */
    double low, high;        /* of the model's values */
    rt_rehearsal *dry_run;   /* NULL: the run is real */
    rt_choices *choices;     /* kernel choices of all programs; NULL: by rule */
    rt_ranks *ranks;         /* that make the run together, each its part of every batch; NULL: one */
    /* Long work outside updates (pairs, pools): may be NULL. True from `stop` ends it with RT_E_INTERRUPTED. */
    void *self;
    void (*progress)(void *self, const char *what, int64_t done, int64_t total);
    bool (*stop)(void *self);
    void (*note)(void *self, const char *line); /* what the user should know; NULL: nobody listens */

    /* made by rt__task_open */
    int rank; /* of a batch: 4 (B,C,H,W) or 2 (B,D) */
    int64_t shape[RT_MAX_RANK], features;
    rt_plan plan;
    rt_network networks[RT_NETWORKS];
    double *grid; /* times of the first teacher, noisy to clean, step_counts[0] + 1; NULL: the method has no grid */
};

struct rt_round {
    rt_task *task;
    int index;
    int teacher_steps, steps;
    double *grid; /* times of its teacher, noisy to clean, teacher_steps + 1 */
    rt_phase phases[RT_PHASES];
    int n_phases;
};

/* What a run does of a method whose result is no network of data: in the place of folders, pictures and losses of networks. */
typedef struct rt_showing {
    const char *items;                               /* what the examples of a batch are: "views" */
    const char *remedy;                              /* what may end a divergence: "lower scene.lr" */
    rt_status (*result)(rt_round *r, rt_error *err); /* into the run's folder: at the end of a round, and when it is interrupted */
    rt_status (*pictures)(rt_round *r, int64_t update, rt_error *err); /* update: of the run */
    /* Columns of the metrics of the latest update, at most `most`; the main phase's loss means nothing. */
    int (*figures)(rt_round *r, int most, rt_metric *row);
    /* The figure of the latest update that a run is watched by, whose first value the run keeps, and the words of the live line, in which that value stands. */
    double (*headline)(rt_round *r);
    void (*live)(rt_round *r, double first, char *text, size_t size);
    rt_status (*succeed)(rt_round *r, rt_error *err); /* at the end of a round, before the next */
} rt_showing;

struct rt_method {
    const char *name, *title, *source, *equation; /* source: the paper */
    /* What it minimises, a row of `retort list divergences`. `key`: what --divergence sets, to `value`, or without one to the number behind the name (renyi:2). No
     * name, but a key: any f-divergence, whose name is the key's value. Neither: nothing of the kind. */
    struct {
        const char *name, *key, *value;
    } minimises;
    bool needs_teacher, needs_data;
    unsigned reads;               /* shared keys beyond those of every run: RT_READS_... */
    const rt_key_group *settings; /* its own keys, ended by a group without any; NULL: none */
    const char *const *defaults;  /* key, value, ..., NULL: replace those of the shared keys */
    /* The process and prediction of a model that is trained from scratch, as diffusers says them; NULL: the teacher's, or there is none. */
    rt_status (*process)(const rt_config *c, rt_scheduler_config *scheduler, rt_error *err);
    /* What will be done, from what the task was given and nothing else; fails on settings that cannot be. */
    rt_status (*plan)(const rt_task *t, rt_plan *plan, rt_error *err);
    const rt_showing *showing; /* NULL: it trains a network of data */
    const char
        *of; /* it is the method of this name with a scene: how commands call it, and configurations may; NULL: it has its own name */
    const char *called; /* where it is of another: what messages call it */
    /* A figure of the finished round beyond the residuals: a classifier's accuracy. NULL: none. */
    rt_status (*measure)(const rt_round *r, double *figure, rt_error *err);
};

/* The table: methods.c. */
extern const rt_method *const rt__methods[];
extern const rt_method rt__method_denoise, rt__method_classify, rt__method_kd, rt__method_pd, rt__method_map, rt__method_guide,
    rt__method_vsd, rt__method_sid, rt__method_f, rt__method_renyi, rt__method_dmd, rt__method_dmd2, rt__method_cd, rt__method_ct,
    rt__method_ect, rt__method_scm, rt__method_meanflow, rt__method_sds, rt__method_vsd_scene;
const rt_method *rt__method_find(const char *name);            /* NULL: there is none */
rt_status rt__method_unknown(const char *name, rt_error *err); /* RT_E_USAGE with "did you mean" */

/* Examples of a shard, and those that a program takes at a time. */
static inline int rt__shard(const rt_config *c) { return c->train.batch / (c->train.shards > 0 ? c->train.shards : 1); }
static inline int rt__slice(const rt_config *c) { return c->train.micro_batch > 0 ? c->train.micro_batch : rt__shard(c); }

int64_t rt__round_updates(const rt_config *c, int64_t round);
/* n, or an eighth of the round's examples where that is less, but not below `least`: what a small run is measured by is small, too. */
int64_t rt__at_most_an_eighth(const rt_round *r, int64_t n, int64_t least);

/* ---- for plans */

rt_training rt__training(const rt_config *c); /* train.*; text is borrowed from c */
/* Adds to the plan's lists; what is returned may be changed until the plan is made. */
rt_network_plan *rt__plan_network(rt_plan *plan, rt_network_plan network);
rt_phase_plan *rt__plan_phase(rt_plan *plan, const rt_task *t, const char *name, const char *network,
                              rt_status (*build)(rt_phase *p, rt_error *err));
void rt__plan_meter(rt_plan *plan, const rt_meter *meter);
/* The deployed student: the architecture of `net` or the teacher's, started as the teacher, trained, averaged with train.ema. */
rt_network_plan *rt__plan_student(rt_plan *plan, const rt_task *t);
/* The original teacher with the solver that the setting `key` names, any row, and guidance, which needs a null class. */
rt_status rt__plan_teacher(rt_plan *plan, const rt_task *t, const char *key, const char *solver, double guidance, rt_error *err);
/* The setting `key` = `range`, LOW,HIGH: omega as a knob of the networks in the plan, whose default is the teacher's guidance; empty: that of a teacher which has
 * one, else none. After all networks. */
rt_status rt__plan_knob(rt_plan *plan, const rt_task *t, const char *key, const char *range, rt_error *err);
/* What the setting `key` = `value` says of a student whose step is q of its teacher's: hidden, or input, and then it sees the teacher's draws. */
rt_status rt__plan_draws(rt_plan *plan, const char *key, const char *value, int q, rt_error *err);

/* ---- networks of the task: task.c */

rt_network *rt__network(const rt_task *t, const char *name); /* NULL: there is none */
rt_network *rt__deployed(const rt_task *t);
rt_network *rt__teacher(const rt_task *t); /* the first of kind RT_NETWORK_TEACHER; NULL: there is none */
static inline const rt_denoiser *rt__denoiser(const rt_phase *p, const char *network);
/* The network as it is used, its average where one is kept: fills n->average. */
rt_status rt__network_use(const rt_network *n, rt_denoiser *used, rt_error *err);

/* What a student's standard normal z is multiplied by: the scale of noise, or beta at the plan's start. */
double rt__start_scale(const rt_task *t);
/* Makes the plan, and the networks as they start. What was given must outlive the task. Close it after a failure, too. */
rt_status rt__task_open(rt_task *t, rt_error *err);
void rt__task_close(rt_task *t);
/* Fresh optimisers and averages: at the start of a round. */
rt_status rt__task_refresh(rt_task *t, rt_error *err);
/* The copies at the end of a round. */
rt_status rt__task_succeed(rt_task *t, rt_error *err);

/* ---- rounds: round.c. The one way in, for the loop, timing, verification and tests. */

/* Graphs and sources of round `index` for the networks as they stand. Close it after a failure, too. */
rt_status rt__round_open(rt_round *r, rt_task *t, int index, rt_error *err);
/* The phases' programs. */
rt_status rt__round_compile(rt_round *r, rt_error *err);
void rt__round_free_programs(rt_round *r);
void rt__round_close(rt_round *r);

/* Runs of a phase in update u of its round, and in all updates before it. */
int rt__phase_runs(const rt_phase_plan *p, int64_t u);
int64_t rt__phase_runs_before(const rt_phase_plan *p, int64_t u);
/* Update u of n: all phases that have a turn, in their order; in a dry run all of them. RT_E_DIVERGED names the phase; `where` is the run, `update`
 * counts over all rounds, for that message. */
rt_status rt__round_update(rt_round *r, int64_t u, int64_t n, const char *where, int64_t update, rt_error *err);
/* The phase that trains the deployed network, the last of several: its figures stand for the run. */
rt_phase *rt__main_phase(rt_round *r);
/* What run `run` (from 0) of the phase in its round draws by: its first slice's clock. */
rt_clock rt__phase_clock(const rt_phase *p, int64_t run);
double rt__phase_flop(const rt_phase *p); /* of one run of the phase: all slices, all passes */

/* ---- nodes of objectives: objective.c */

/* Row k[j] of a table of n numbers (double, rounded once), as (B,1,..,1). */
rt_node *rt__pick(rt_phase *p, const double *table, int n, rt_node *k);
/* The times grid[stride k]: n possible k. */
rt_at rt__at(rt_phase *p, const double *grid, int n, int stride, rt_node *k);
/* s as a network of two times is told it on the way to t. */
rt_at rt__towards(rt_at s, rt_at t);
/* An input of the phase, which its source fills by name; the name stays where it is. */
rt_node *rt__input(rt_phase *p, const char *name, rt_dtype dtype, int rank, const int64_t *shape);
rt_node *rt__input_x(rt_phase *p, const char *name);         /* data (B,...) */
rt_node *rt__input_labels(rt_phase *p, const char *name);    /* classes (B), or prompts (B,L); NULL: there are none */
rt_node *rt__input_y(rt_phase *p);                           /* those named "y" */
rt_node *rt__omega(rt_phase *p);                             /* omega (B), drawn; NULL: there is no knob */
rt_node *rt__input_omega(rt_phase *p);                       /* "omega" (B), of the source; NULL: there is no knob */
rt_node *rt__input_draws(rt_phase *p, const rt_denoiser *m); /* "draws" (B,q C,..) for a network that sees some; NULL: it does not */
/* Mean over features of the squared difference, per sample; the explicit 1/d of losses that are quoted per feature. */
rt_node *rt__mean_square(const rt_task *t, rt_node *a, rt_node *b);
/* A sum over the batch (a node without the batch, of the graph's real type) as samples of the same batch may use it: itself where the batch is computed at once,
 * else what a pass before finds. Not differentiated through. Outside of a phase, p NULL, batches are whole. */
rt_node *rt__known_to_all(rt_phase *p, rt_node *sum);
/* The loss that the phase's network is trained by: ends its building. */
void rt__minimise(rt_phase *p, rt_node *loss);
/* Which run of the phase in its round this is, from 0, a scalar: for what begins or ends within a round. */
rt_node *rt__run_number(rt_phase *p);
/* A scalar that joins the metrics as PHASE_NAME. */
void rt__log(rt_phase *p, const char *name, rt_node *scalar);
/* d(a, b) of (1.10) per sample, (B), by the row that the setting `key` names: distance.c. NULL and an error if there is none. */
typedef rt_node *(*rt__distance)(const rt_task *t, rt_node *a, rt_node *b);
rt__distance rt__distance_find(const char *key, const char *name, rt_error *err);

static inline const rt_denoiser *rt__denoiser(const rt_phase *p, const char *network)
{
    return &rt__network(p->round->task, network)->denoiser;
}

#endif
