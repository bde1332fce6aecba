/* describe.c -- the rows of the operators as data, for lists and for docs/operators.md; what a graph costs. */
#include "graph/internal_graph.h"
#include "graph/program.h"

#include <stdlib.h>

bool rt_op_describe(int i, rt_op_row *row)
{
    static const char *const batch[] = {[RT_MAPS] = "maps", [RT_SUMS] = "sums", [RT_MIXES] = "mixes"};
    if (i < 0 || i >= RT_OPS) return false;
    const rt_op *op = rt__ops_f32[i];
    *row = (rt_op_row){.name = op->name,
                       .formula = op->formula,
                       .min_in = op->min_in,
                       .max_in = op->max_in,
                       .batch = batch[op->batch],
                       .gradient = op->grad     ? "rule"
                                   : op->expand ? "by expansion"
                                                : "none"};
    return true;
}

double rt_graph_flop(const rt_graph *g, int64_t batch)
{
    const rt_program shapes = {.batch = batch};
    int most = 1;
    double flop = 0;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->n_in > most) most = g->nodes[i]->n_in;
    rt_view *in = calloc((size_t)most, sizeof *in);
    for (int i = 0; i < g->n_nodes && in; i++) {
        const rt_node *n = g->nodes[i];
        rt_call c = {.node = n, .n_in = n->n_in, .in = in};
        if (n->op->flags & (RT_ROW_SOURCE | RT_ROW_VIEW)) continue;
        for (int k = 0; k < n->n_in; k++) rt__program_view(&shapes, n->in[k], &in[k]);
        rt__program_view(&shapes, n, &c.out);
        flop += n->op->flop ? n->op->flop(&c) : (double)c.out.count;
    }
    free(in);
    return flop;
}
