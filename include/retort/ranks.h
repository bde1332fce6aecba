/* ranks.h -- several processes that make one run together: docs/machines.md.
 *
 * A transport moves bytes between them; sums are made here, in a tree that the number of processes does not change (src/base/ranks.c). All of a
 * run's ranks call the same functions in the same order. Where `ranks` is NULL there is one process, and nothing is done. */
#ifndef RETORT_RANKS_H
#define RETORT_RANKS_H

#include "retort/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_ranks rt_ranks;

/* Bytes that go to a rank or come from it; size 0: none. */
typedef struct rt_piece {
    void *data;
    size_t size; /* less than 2^31 */
} rt_piece;

/* What moves bytes: MPI (libretort_mpi.so), or a caller's own. Not thread-safe. */
typedef struct rt_transport {
    void *self;
    int rank, size; /* this process, from 0, and how many there are */
    char name[64];  /* "Open MPI 4.1.4" */
    /* Begins to send send[r] to each other rank r and to receive receive[r] from it (`size` of each, their own among them is left out). What is sent has the size
     * that the other side expects. false: it failed. */
    bool (*begin)(void *self, const rt_piece *send, const rt_piece *receive);
    /* 1: all has come and gone; 0: not yet, and *missing is a rank that is waited for; -1: the connection failed, to *missing where that is known, else -1. */
    int (*test)(void *self, int *missing);
    void (*leave)(void *self);           /* after the last exchange, by all ranks; frees `self` */
    void (*abort)(void *self, int code); /* ends all ranks with the exit code as well as it can, and this process */
} rt_transport;

/* The function that libretort_mpi.so exports as "rt_mpi_open_1": joins the launcher's ranks. NULL, or why it failed. */
typedef const char *(*rt_transport_open)(rt_transport *t);

/* How many ranks a launcher says that it has started: OMPI_COMM_WORLD_SIZE, PMI_SIZE or SLURM_STEP_NUM_TASKS of the environment; 1: there is no launcher. */
int rt_ranks_launched(void);
/* This process's number, from 0, among those that the launcher has started on this machine: OMPI_COMM_WORLD_LOCAL_RANK, MPI_LOCALRANKID or SLURM_LOCALID of the
 * environment; 0: there is no launcher, or it does not say. A rank takes the GPU of that number. */
int rt_ranks_local(void);
/* The launcher's ranks, by libretort_mpi.so: that of RETORT_MPI_LIBRARY, the one beside the program, the installed one. One or no launcher's rank: *ranks is NULL.
 * RT_E_COMM: several, but no such library that loads and sees as many. */
rt_status rt_ranks_open(rt_ranks **ranks, rt_error *err);
/* Ranks of a transport that is taken over. NULL: out of memory. */
rt_ranks *rt_ranks_new(const rt_transport *t);
/* Leaves, which all ranks do together. */
void rt_ranks_close(rt_ranks *r);
/* Ends the process, and all others unless who told this one to end does it. */
void rt_ranks_abort(rt_ranks *r, int code);

int rt_ranks_rank(const rt_ranks *r);         /* 0 without ranks */
int rt_ranks_size(const rt_ranks *r);         /* 1 without ranks */
const char *rt_ranks_name(const rt_ranks *r); /* the transport's */
int64_t rt_ranks_sent(const rt_ranks *r);     /* bytes so far, by this rank, of the transport: not what devices send each other */

/* How long a rank waits for others in one exchange, RT_RANKS_TIMEOUT at first, and what is asked meanwhile: where `stop` becomes true while it waits, it waits for
 * half a second more; then, as at the deadline, RT_E_COMM. */
#define RT_RANKS_TIMEOUT 600.0
void rt_ranks_patience(rt_ranks *r, double seconds, bool (*stop)(void *self), void *self);

/* Rank r has bytes at[r] .. at[r+1] - 1 of `data`; afterwards all have all. */
rt_status rt_ranks_gather(rt_ranks *r, void *data, const size_t *at, rt_error *err);
rt_status rt_ranks_broadcast(rt_ranks *r, void *data, size_t bytes, rt_error *err); /* rank 0's */
/* RT_OK if that is the status of all; else all get the status and the text of the first rank where it is not. */
rt_status rt_ranks_agree(rt_ranks *r, rt_status mine, rt_error *err);
/* Has the last failure been agreed on, so that no rank waits for another? */
bool rt_ranks_agreed(const rt_ranks *r);
/* least[i] and most[i] become the least and the largest of what the ranks have in least[i], i < n. */
rt_status rt_ranks_range(rt_ranks *r, int n, int64_t *least, int64_t *most, rt_error *err);
/* RT_E_INVALID where a rank runs another program, of which `version` is the name. */
rt_status rt_ranks_check_program(rt_ranks *r, const char *version, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
