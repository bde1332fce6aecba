/* program.h -- a compiled program: the schedule, the storage plan and the steps. Made by lower.c and plan.c, run by program.c. */
#ifndef RT_GRAPH_PROGRAM_H
#define RT_GRAPH_PROGRAM_H

#include "base/rank_sums.h"
#include "graph/internal_graph.h"

/* Where a value lives. Views and in-place results share the storage of the value they are made from. */
typedef struct rt__storage {
    int64_t bytes, offset; /* within the block; offset -1: outside it (parameters, constants) */
    bool join;             /* lies at the block's beginning, among all joins */
    int first, last;       /* steps between which the content matters; last INT_MAX: kept */
    void *data;            /* after placement */
    void *mirror;          /* what callers read and write, in pinned memory of the host; NULL: `data` */
} rt__storage;

/* When a step runs. */
typedef enum rt__stage {
    RT_STAGE_PROLOGUE, /* depends on constants and on sets the program does not update: once per version of those sets */
    RT_STAGE_SAMPLES,  /* per slice of the batch */
    RT_STAGE_JOINED    /* after the last slice: what depends on sums over the batch */
} rt__stage;

typedef struct rt__step {
    const rt_node *node;
    const rt_op *op;           /* the node's row, for its rules */
    const rt_op *kernel;       /* for `run` and `scratch`: the row of the type and instruction set in use */
    const rt_backend *backend; /* NULL: the row's own kernel */
    rt__stage stage;
    bool join; /* a sum over the batch: added up over slices, shards, ranks */
    rt_call call;
    size_t scratch; /* bytes of call.scratch in use */
    int scratch_at; /* its storage, -1: none */
    size_t kept;    /* bytes of call.kept */
    int kept_at;
    void *partial; /* of a join: its result before it is added to what earlier slices left */
    double flop, bytes;
    bool marked; /* on a device: its seconds in this run are between two moments */
    int64_t calls;
    double seconds;
} rt__step;

/* What the host and the device copy to each other, in every run if it is not held. */
typedef struct rt__mirror {
    void *host, *device;
    size_t bytes;
    bool up;   /* an input, which no step writes to; else an output */
    bool held; /* copied when it is asked for (held.c) */
} rt__mirror;

/* The requests of runs that do the same steps. */
typedef struct rt__recording {
    int kind;         /* of run, see device.c */
    uint64_t version; /* of the program, at its last run whose requests were made one by one */
    void *requests;   /* NULL: none yet */
} rt__recording;

struct rt_program {
    rt_graph *graph;
    rt_rehearsal *rehearsal; /* NULL: the program is real */
    const rt_backend *backend;
    const rt_device *device; /* where the values lie; NULL: in the host's memory, or a rehearsal's */
    int threads;
    double looked; /* when, for threads that share a processor */
    bool bf16;     /* computes in bf16 */
    int64_t batch;
    int64_t shard; /* samples; 0: the batch is one shard */
    int levels; /* of the tree over this rank's shards: behind all joins there is room for as many of their sums more, of 1, 2, 4 .. shards */
    rt_ranks *ranks;
    rt__sum sums[RT_DTYPES]; /* over ranks, for rt__ranks_sum: all joins of a type side by side */
    int n_sums;              /* 0: there is one rank */
    bool sums_there;         /* the device has joined the ranks: sums do not go by the host */
    rt__arena arena;
    rt__step *steps; /* in order of execution; the prologue first */
    int n_steps, n_prologue;
    const rt_node *mixed; /* the node that forbids slices, if any */

    rt_node **nodes; /* the program's own copies, in an order that can be run */
    int n_nodes;
    rt_node **lowered; /* by id in the graph when compiled: the copy that callers see, NULL: not in the program */
    int n_lowered;
    int *storage_of; /* id of a copy -> storage, -1: has none */
    rt__storage *storages;
    int n_storages;
    bool *is_output; /* by id of a copy */

    void *block;
    size_t block_bytes, joins[RT_DTYPES + 1]; /* joins: where those of each type begin, from 0; the last one: their end */

    /* on a device: behind the block lie the clock and the constants, `device_bytes` in all */
    size_t device_bytes, pinned_bytes;
    void *pinned;      /* the mirrors, their first the clock's */
    void *pinned_sums; /* behind them: what ranks add up */
    rt__mirror *mirrors;
    int n_mirrors;
    rt_clock *clock; /* on the device */
    struct rt__held {
        rt_params *set;
        unsigned roles; /* bit r */
    } * sets;
    int n_sets;
    rt__recording *recordings;
    int n_recordings;

    struct rt__watch {
        rt_params *set;
        uint64_t version;
    } * watch; /* sets that the prologue reads */
    int n_watch;
    uint64_t version; /* counts runs of the prologue */
    bool profile;
    rt_profile_row *rows;
};

/* The parts of a run, without the prologue: what is per sample, then, with the last slice, what depends on sums over the batch. */
rt_status rt__run_prologue(rt_program *p, const rt_clock *clock, rt_error *err);
rt_status rt__run_samples(rt_program *p, const rt_clock *clock, rt_error *err);
rt_status rt__run_joined(rt_program *p, const rt_clock *clock, rt_error *err);
bool rt__adds(const rt_program *p, const rt_clock *clock);   /* does a join add to what earlier slices left? */
int rt__carries(const rt_program *p, const rt_clock *clock); /* levels that a shard's end folds; -1: no shard ends */
/* On a device (device.c): memory and constants of a planned program, mirrors of a bound one; a run. */
rt_status rt__device_bind(rt_program *p, rt_error *err);
rt_status rt__device_mirror(rt_program *p, rt_error *err);
rt_status rt__device_run(rt_program *p, const rt_clock *clock, rt_error *err);
/* Waits for what was requested. What the device says of a failure comes first: its own status, and its words before those of `err`. */
rt_status rt__device_end(rt_program *p, rt_status status, rt_error *err);
void rt__device_free(rt_program *p);

rt_status rt__lower(rt_program *p, const rt_program_spec *spec, rt_error *err);
rt_status rt__recompute(rt_program *p, const rt_program_spec *spec, rt_error *err);
rt_status rt__plan(rt_program *p, const rt_program_spec *spec, rt_error *err);
/* Gives each step that needs it scratch of its own among the storages, then all storages their offsets. */
rt_status rt__place(rt_program *p, rt_error *err);
/* A bound program's plan, checked from the steps alone: RT_E_INTERNAL says what is wrong. */
rt_status rt__check_plan(const rt_program *p, rt_error *err);
/* Memory of a program: zeros, page by page as they are touched; `filled`: most of it will be. NULL: none left. */
void *rt__block_new(size_t bytes, bool filled);
void rt__block_free(void *block, size_t bytes);
void rt__program_view(const rt_program *p, const rt_node *n, rt_view *view);

#endif
