/* internal_graph.h -- the graph itself, for the files of the engine; rows and backends need only row.h. */
#ifndef RT_GRAPH_INTERNAL_GRAPH_H
#define RT_GRAPH_INTERNAL_GRAPH_H

#include "graph/row.h"

enum { RT_PATH_DEPTH = 32 };

struct rt_graph {
    rt__arena arena;
    rt_dtype real;
    rt_error error; /* the first failure sticks */
    unsigned passes;
    int force_block; /* for tests: images enter in blocks of so many channels where that divides them, or RT_CHANNELS_LAST; 0: plain */
    bool force_bf16; /* for tests: real sources enter in bf16 */
    rt_node inert;   /* what builders return once the graph has failed: op == NULL */

    rt_node **nodes; /* in order of construction: inputs come before their users */
    int n_nodes, room;
    int *buckets; /* open addressing over nodes, -1 empty; equal nodes are one node */
    int n_buckets;

    const char *path; /* "down_blocks.0.resnets.1" */
    const char *stack[RT_PATH_DEPTH];
    int depth;

    /* how often each set was updated in this graph, and the update that a read of it now follows */
    struct rt__epoch {
        rt_params *set;
        int version;
        rt_node *update;
    } * epochs;
    int n_epochs;
};

/* The node that does better what the row `op` is asked for here, NULL: none (fuse.c). */
rt_node *rt__fuse(rt__op_id op, rt_node *const *in, int n_in, const void *attr);
/* Names that must not move or differ by pointer: one copy per text. NULL when memory is out. */
const char *rt__intern(rt_graph *g, const char *text);
/* The read of entry `index` of a set at its present version. */
rt_node *rt__param_read(rt_graph *g, rt_params *set, int index);

/* ---- sets on a device (params.c), within rt__device_enter and rt__device_leave */
/* The address of a role's array on a device, which is made at need and zeros if the host has none yet; device NULL: rt_params_data. */
rt_status rt__params_on(rt_params *set, rt_role role, const rt_device *device, void **at, rt_error *err);
void rt__params_push(rt_params *set, rt_role role);        /* requests an upload if the host's array is newer */
void rt__params_moved(rt_params *set, unsigned roles);     /* bit r: the device's array of role r is rewritten. A new version */
int64_t rt__params_rehearse(rt_params *set, rt_role role); /* bytes that it would take on a device, 0 if that was asked before */

/* to = keep to + (1 - keep) from, of RT_F32 or RT_F64, in their type. */
void rt__trail(void *to, const void *from, double keep, int64_t count, rt_dtype dtype);

/* One thread at a time makes requests; one that has entered may enter again. */
void rt__device_enter(void);
void rt__device_leave(void);

#endif
