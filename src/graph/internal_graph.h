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
    int force_block; /* for tests: images enter in blocks of so many channels where that divides them */
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

#endif
