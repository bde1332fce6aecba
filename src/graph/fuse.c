/* fuse.c -- nodes that are made in place of those asked for: one pass over memory where the rows alone would take several.
 *
 *     group_norm(x + t)                  -> group_norm(x, t)           t a shift per channel: the time embedding
 *     silu(group_norm(..))               -> group_norm(.., silu)
 *     a + group_norm_data(..)            -> group_norm_data(.., a)     the gradient that arrives over the other branch
 *     sum over pixels of group_norm_data -> group_norm_sums            gradients of biases and of t
 *
 * A fused row has its own gradient and expansion, so what is fused while a graph is built is differentiated like everything else. The nodes that
 * were asked for stay in the graph and cost nothing unless something else needs them. */
#include "graph/internal_graph.h"
#include "graph/ops/attr.h"

#include <string.h>

static bool is_op(const rt_node *n, rt__op_id id) { return n->op == rt__ops_f32[id]; }
static bool same_shape(const rt_node *a, const rt_node *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

bool rt__is_channel_shift(const rt_node *x, const rt_node *t)
{
    bool ok = t->dtype == x->dtype && t->rank == x->rank && x->rank > 2 && t->shape[0] == x->shape[0] && t->shape[1] == x->shape[1];
    for (int i = 2; ok && i < t->rank; i++) ok = t->shape[i] == 1;
    return ok;
}

/* The node n, of another row, attribute and with one more input at the end (NULL: none). */
static rt_node *remade(const rt_node *n, rt__op_id op, const rt__group_attr *attr, rt_node *more)
{
    rt_node *in[8];
    memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
    in[n->n_in] = more;
    return rt__emit(n->graph, op, in, n->n_in + (more != NULL), attr);
}

static rt_node *fuse_norm(rt_node *const *in, int n_in, const void *attr)
{
    rt_node *sum = in[0];
    if (n_in % 2 == 0 || !is_op(sum, RT_OP_add)) return NULL; /* shifted already */
    for (int i = 0; i < 2; i++) {
        rt_node *x = sum->in[i], *t = sum->in[1 - i];
        if (!same_shape(x, sum) || !rt__is_channel_shift(x, t)) continue;
        rt_node *all[4] = {x, n_in == 3 ? in[1] : t, n_in == 3 ? in[2] : NULL, t};
        return rt__emit(sum->graph, RT_OP_group_norm, all, n_in + 1, attr);
    }
    return NULL;
}

static rt_node *fuse_silu(rt_node *const *in, int n_in, const void *attr)
{
    (void)n_in, (void)attr;
    if (!is_op(in[0], RT_OP_group_norm)) return NULL;
    rt__group_attr a = *(const rt__group_attr *)in[0]->attr;
    if (a.silu) return NULL;
    a.silu = 1;
    return remade(in[0], RT_OP_group_norm, &a, NULL);
}

static rt_node *fuse_add(rt_node *const *in, int n_in, const void *attr)
{
    (void)n_in, (void)attr;
    for (int i = 0; i < 2; i++) {
        if (!is_op(in[i], RT_OP_group_norm_data) || !same_shape(in[0], in[1])) continue;
        rt__group_attr a = *(const rt__group_attr *)in[i]->attr;
        if (a.addend) continue;
        a.addend = 1;
        return remade(in[i], RT_OP_group_norm_data, &a, in[1 - i]);
    }
    return NULL;
}

static rt_node *fuse_sum(rt_node *const *in, int n_in, const void *attr)
{
    (void)n_in;
    rt_node *gx = in[0];
    const rt__reduce_attr *r = attr;
    unsigned pixels = ((1u << gx->rank) - 1) & ~3u;
    if (!is_op(gx, RT_OP_group_norm_data) || !pixels || (r->axes & pixels) != pixels) return NULL;
    rt__group_attr a = *(const rt__group_attr *)gx->attr;
    rt_node *addend = a.addend ? gx->in[gx->n_in - 1] : NULL;
    rt_node alone = *gx;
    alone.n_in -= a.addend;
    a.addend = 0;
    rt_node *sums = remade(&alone, RT_OP_group_norm_sums, &a, NULL);
    int64_t shape[RT_MAX_RANK] = {gx->shape[0], gx->shape[1], 1, 1, 1, 1, 1, 1};
    rt_node *sum = rt_sum(rt_reshape(rt_slice(sums, 2, 2, 3, 1), gx->rank, shape), r->axes, r->keep);
    return addend ? rt_add(sum, rt_sum(addend, r->axes, r->keep)) : sum;
}

rt_node *rt__fuse(rt__op_id op, rt_node *const *in, int n_in, const void *attr)
{
    switch (op) {
    case RT_OP_group_norm: return fuse_norm(in, n_in, attr);
    case RT_OP_silu: return fuse_silu(in, n_in, attr);
    case RT_OP_add: return fuse_add(in, n_in, attr);
    case RT_OP_sum: return fuse_sum(in, n_in, attr);
    default: return NULL;
    }
}
