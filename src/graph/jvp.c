/* jvp.c -- forward mode: derivatives along a direction, as more graph. */
#include "graph/internal_graph.h"

#include <stdlib.h>
#include <string.h>

static rt__op_id id_of(const rt_op *op)
{
    int i = 0;
    while (rt__ops_f32[i] != op) i++;
    return (rt__op_id)i;
}

rt_node *rt__jvp_diagonal(rt_node *y, rt_node *const *dx)
{
    rt_node *out = NULL;
    y->op->grad(y, dx[0], &out);
    return out;
}

rt_node *rt__jvp_linear(rt_node *y, rt_node *const *dx)
{
    rt_node *sum = NULL, *in[2]; /* such rows have no more */
    for (int i = 0; i < y->n_in; i++) {
        if (!dx[i] || !rt__is_real(y->in[i])) continue;
        memcpy(in, y->in, (size_t)y->n_in * sizeof *in);
        in[i] = dx[i];
        rt_node *part = rt__emit(y->graph, id_of(y->op), in, y->n_in, y->attr);
        sum = sum ? rt_add(sum, part) : part;
    }
    return sum;
}

static rt_node *forward(rt_node *y, rt_node *const *x, rt_node *const *dx, int n);

rt_node *rt__jvp_expanded(rt_node *y, rt_node *const *dx) { return forward(y->op->expand(y), y->in, dx, y->n_in); }

/* The derivative of one node, in its shape; NULL: it is 0. */
static rt_node *derive(rt_node *v, rt_node *const *dx)
{
    rt_graph *g = v->graph;
    if (v->op == rt__ops_f32[RT_OP_stop_grad]) return NULL;
    if (v->dtype == RT_BOOL) return v; /* steps: no number, but rows that make one of it must know that it moves */
    if (!rt__is_real(v)) return rt_fail(g, "%s to %s has no derivative along a direction", v->op->name, rt_dtype_name(v->dtype));
    rt_node *dv = NULL;
    if (v->op->jvp) {
        dv = v->op->jvp(v, dx);
    } else if (v->op->expand) {
        dv = rt__jvp_expanded(v, dx);
    } else {
        return rt_fail(g, "%s has no derivative along a direction", v->op->name);
    }
    if (!dv || rt__failed(dv)) return dv;
    bool whole = dv->rank == v->rank;
    for (int i = 0; whole && i < v->rank; i++) whole = dv->shape[i] == v->shape[i];
    return whole ? dv : rt_broadcast(dv, v->rank, v->shape);
}

/* x are independent variables: one is not followed into another. dx[i] NULL: it stands still. */
static rt_node *forward(rt_node *y, rt_node *const *x, rt_node *const *dx, int n)
{
    rt_graph *g = y->graph;
    if (rt__failed(y)) return y;
    int limit = y->id + 1;
    enum { NEEDED = 1, FIXED = 2 };
    unsigned char *mark = calloc((size_t)limit, 1);
    rt_node **d = calloc((size_t)limit, sizeof *d), *out = NULL;
    if (!mark || !d) {
        out = rt_fail(g, "out of memory for the derivative of %d nodes", limit);
        goto done;
    }
    mark[y->id] = NEEDED;
    for (int i = 0; i < n; i++) {
        if (x[i]->id < 0 || x[i]->id >= limit) continue;
        mark[x[i]->id] |= FIXED;
        d[x[i]->id] = dx[i];
    }
    for (int i = y->id; i >= 0; i--) /* inputs have smaller ids, so one sweep finds all that y depends on */
        for (int j = 0; mark[i] == NEEDED && j < g->nodes[i]->n_in; j++) mark[g->nodes[i]->in[j]->id] |= NEEDED;
    const char *path = g->path;
    for (int i = 0; i < limit && g->error.status == RT_OK; i++) {
        rt_node *v = g->nodes[i];
        if (mark[i] != NEEDED || v->op->flags & RT_ROW_SOURCE || v->n_in == 0) continue;
        rt_node **along = calloc((size_t)v->n_in, sizeof *along);
        if (!along) {
            rt_fail(g, "out of memory for a derivative");
            break;
        }
        bool moves = false;
        for (int j = 0; j < v->n_in; j++) moves |= (along[j] = d[v->in[j]->id]) != NULL;
        g->path = v->path; /* a failure names the layer that is differentiated */
        if (moves) d[i] = derive(v, along);
        free(along);
    }
    g->path = path;
    out = d[y->id];
done:
    free(mark);
    free(d);
    return out;
}

rt_node *rt_jvp(rt_node *y, rt_node *const *x, rt_node *const *dx, int n)
{
    rt_graph *g = y->graph;
    if (rt__failed(y)) return y;
    if (!rt__is_real(y)) return rt_fail(g, "derivative of a value of %s along a direction: it must be real", rt_dtype_name(y->dtype));
    for (int i = 0; i < n; i++) {
        if (rt__failed(x[i])) return x[i];
        if (rt__failed(dx[i])) return dx[i];
        bool same = x[i]->rank == dx[i]->rank && x[i]->dtype == dx[i]->dtype && rt__is_real(x[i]);
        for (int j = 0; same && j < x[i]->rank; j++) same = x[i]->shape[j] == dx[i]->shape[j];
        char from[96], to[96];
        if (!same)
            return rt_fail(g, "a direction of shape (%s) for a variable of shape (%s): both must be real and of one shape",
                           rt_shape_text(to, sizeof to, dx[i]->rank, dx[i]->shape),
                           rt_shape_text(from, sizeof from, x[i]->rank, x[i]->shape));
    }
    rt_node *dy = forward(y, x, dx, n);
    return g->error.status != RT_OK ? &g->inert : dy ? dy : rt_zeros_like(y);
}
