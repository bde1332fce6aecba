/* autodiff.c -- reverse mode: gradients as more graph. Broadcasting is undone here, once. */
#include "graph/internal_graph.h"

#include <stdlib.h>
#include <string.h>

bool rt__broadcast_shape(const rt_node *a, const rt_node *b, int *rank, int64_t *shape)
{
    *rank = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 0; i < *rank; i++) {
        int ia = i - (*rank - a->rank), ib = i - (*rank - b->rank);
        int64_t da = ia < 0 ? 1 : a->shape[ia], db = ib < 0 ? 1 : b->shape[ib];
        if (da != db && da != 1 && db != 1) return false;
        if (i > 0 && (da < 0 || db < 0)) return false; /* the symbol would leave the front */
        shape[i] = da == 1 ? db : da;
    }
    return true;
}

rt_node *rt__sum_to(rt_node *g, const rt_node *like)
{
    if (rt__failed(g) || rt__failed(like)) return g;
    int extra = g->rank - like->rank;
    unsigned leading = 0, ones = 0;
    for (int i = 0; i < g->rank; i++) {
        if (i < extra)
            leading |= 1u << i;
        else if (like->shape[i - extra] == 1 && g->shape[i] != 1)
            ones |= 1u << i;
    }
    if (ones) g = rt_sum(g, ones, true);
    return leading ? rt_sum(g, leading, false) : g;
}

/* The vector-Jacobian product: gradients of sum(gy * y) with respect to wrt. With `stop`, wrt are independent variables, as the inputs of a
 * row are; without, a gradient flows on through one wrt into another. */
static void backward(rt_node *y, rt_node *gy, rt_node *const *wrt, int n, rt_node **out, bool stop)
{
    rt_graph *g = y->graph;
    if (rt__failed(y) || rt__failed(gy)) return;
    int limit = y->id + 1;
    enum { NEEDED = 1, TARGET = 2 };
    unsigned char *mark = calloc((size_t)limit, 1);
    rt_node **grad = calloc((size_t)limit, sizeof *grad);
    if (!mark || !grad) {
        rt_fail(g, "out of memory for the gradient of %d nodes", limit);
        goto done;
    }
    for (int i = 0; i < n; i++)
        if (wrt[i]->id < limit) mark[wrt[i]->id] = TARGET | NEEDED;
    for (int i = 0; i < limit; i++) { /* inputs have smaller ids, so one sweep finds all that depend on a target */
        const rt_node *v = g->nodes[i];
        if (mark[i] & TARGET || v->op->flags & (RT_ROW_SOURCE | RT_ROW_UPDATE)) continue;
        for (int j = 0; j < v->n_in && !mark[i]; j++) mark[i] |= mark[v->in[j]->id] & NEEDED;
    }

    grad[y->id] = gy;
    const char *path = g->path;
    for (int i = y->id; i >= 0; i--) {
        rt_node *v = g->nodes[i];
        if (!grad[i] || !(mark[i] & NEEDED) || (stop && mark[i] & TARGET)) continue;
        if (v->op->flags & (RT_ROW_SOURCE | RT_ROW_UPDATE | RT_ROW_RANDOM) || v->n_in == 0) continue;
        bool wanted = false;
        for (int j = 0; j < v->n_in; j++) wanted |= (mark[v->in[j]->id] & NEEDED) != 0;
        if (!wanted) continue;

        rt_node **gx = calloc((size_t)v->n_in, sizeof *gx);
        if (!gx) {
            rt_fail(g, "out of memory for a gradient");
            break;
        }
        g->path = v->path; /* a failure names the layer that is differentiated */
        if (v->op->grad) {
            v->op->grad(v, grad[i], gx);
        } else if (v->op->expand) {
            backward(v->op->expand(v), grad[i], v->in, v->n_in, gx, true);
        } else {
            rt_fail(g, "%s has no gradient", v->op->name);
        }
        for (int j = 0; j < v->n_in && g->error.status == RT_OK; j++) {
            rt_node *x = v->in[j];
            if (!gx[j] || !rt__is_real(x) || !(mark[x->id] & NEEDED)) continue;
            rt_node *part = rt__sum_to(gx[j], x);
            grad[x->id] = grad[x->id] ? rt_add(grad[x->id], part) : part;
        }
        free(gx);
        if (g->error.status != RT_OK) break;
    }
    g->path = path;
done:
    for (int i = 0; i < n; i++) out[i] = grad && wrt[i]->id >= 0 && wrt[i]->id < limit && grad[wrt[i]->id] ? grad[wrt[i]->id] : NULL;
    free(mark);
    free(grad);
}

void rt_grad(rt_node *loss, rt_node *const *wrt, int n, rt_node **out)
{
    rt_graph *g = loss->graph;
    for (int i = 0; i < n; i++) {
        out[i] = &g->inert;
        if (rt__failed(wrt[i])) return;
    }
    if (rt__failed(loss)) return;
    if (loss->rank != 0 || !rt__is_real(loss)) {
        char text[96];
        rt_fail(g, "gradient of a value of shape (%s): a loss has rank 0; take rt_expect or rt_sum",
                rt_shape_text(text, sizeof text, loss->rank, loss->shape));
        return;
    }
    backward(loss, rt_scalar(g, 1.0), wrt, n, out, false);
    for (int i = 0; i < n; i++)
        if (!out[i]) out[i] = rt_zeros_like(wrt[i]);
    if (g->error.status != RT_OK)
        for (int i = 0; i < n; i++) out[i] = &g->inert;
}
