/* lower.c -- a program's own copies of the nodes that it needs, with the layout of images chosen: what the planner sees.
 *
 *     live nodes of the graph -> copies in the same order, a `reblock` between two of them where their layouts differ
 *
 * Graphs are built and differentiated without layouts. Here a convolution gives its image in the blocks that the backend likes, and what follows
 * keeps them as long as it can. Outputs are plain. */
#include "graph/program.h"

#include <string.h>

typedef struct lowering {
    rt_program *p;
    bool blocks;     /* is the pass on? */
    rt_node **other; /* by id: the same value in the other layout; a program has plain and one more */
} lowering;

static int block_of(const rt_node *n) { return n->block > 1 ? n->block : 1; }
/* Where the order of channels and pixels in memory is a choice. Masks follow what they are compared from. */
static bool is_image(const rt_node *n) { return n->rank == 4 && n->shape[1] > 1 && n->shape[2] * n->shape[3] > 1; }
static bool can_be_cut(const rt_node *n, int b) { return (rt__is_real(n) || n->dtype == RT_BOOL) && n->shape[1] % b == 0; }

static rt_node *append(lowering *l, const rt_node *like)
{
    rt_node *n = rt__arena_alloc(&l->p->arena, sizeof *n), **in = rt__arena_alloc(&l->p->arena, (size_t)(like->n_in + 1) * sizeof *in);
    if (!n || !in) return NULL;
    *n = *like;
    n->in = in;
    n->id = l->p->n_nodes++;
    n->block = 1;
    return l->p->nodes[n->id] = n;
}

static rt_node *in_layout(lowering *l, rt_node *x, int block)
{
    if (block_of(x) == block || !is_image(x)) return x;
    if (l->other[x->id]) return l->other[x->id];
    rt_node like = {.graph = x->graph, .op = rt__ops_f32[RT_OP_reblock], .path = x->path, .n_in = 1, .dtype = x->dtype, .rank = 4};
    memcpy(like.shape, x->shape, sizeof like.shape);
    rt_node *n = append(l, &like);
    if (!n) return NULL;
    n->in[0] = x;
    n->block = block;
    l->other[n->id] = x;
    return l->other[x->id] = n;
}

/* The layout in which y takes its images. */
static int block_for(const lowering *l, const rt_node *y)
{
    int b = 1;
    for (int i = 0; i < y->n_in; i++)
        if (block_of(y->in[i]) > b) b = block_of(y->in[i]);
    bool knows = y->op->layout == RT_LAYOUT_MAPS || y->op->layout == RT_LAYOUT_READS;
    if (!l->blocks || b == 1 || !knows || (y->op->blockable && !y->op->blockable(y, b))) return 1;
    for (int i = 0; i < y->n_in; i++)
        if (is_image(y->in[i]) && !can_be_cut(y->in[i], b)) return 1;
    return y->op->layout == RT_LAYOUT_READS || (y->rank == 4 && can_be_cut(y, b)) ? b : 1;
}

static bool lower_node(lowering *l, rt_node *y)
{
    const rt_backend *backend = l->p->backend;
    if (y->op->layout == RT_LAYOUT_BACKEND && l->blocks && backend->block && y->dtype == RT_F32) {
        for (int i = 0; i < y->n_in; i++)
            if (!(y->in[i] = in_layout(l, y->in[i], backend->block(y, i)))) return false;
        y->block = backend->block(y, -1);
        return true;
    }
    int b = block_for(l, y);
    for (int i = 0; i < y->n_in; i++)
        if (!(y->in[i] = in_layout(l, y->in[i], b))) return false;
    if (y->op->layout == RT_LAYOUT_MAPS) y->block = b;
    return true;
}

static void mark_live(unsigned char *live, const rt_node *n)
{
    if (live[n->id]) return;
    live[n->id] = 1;
    for (int i = 0; i < n->n_in; i++) mark_live(live, n->in[i]);
}

rt_status rt__lower(rt_program *p, const rt_program_spec *spec, rt_error *err)
{
    const rt_graph *g = p->graph;
    size_t n = (size_t)g->n_nodes;
    unsigned char *live = rt__arena_alloc(&p->arena, n + 1);
    lowering l = {.p = p, .blocks = (g->passes & RT_PASS_LAYOUT) != 0, .other = rt__arena_alloc(&p->arena, 2 * n * sizeof *l.other)};
    p->n_lowered = g->n_nodes;
    p->lowered = rt__arena_alloc(&p->arena, n * sizeof *p->lowered);
    p->nodes = rt__arena_alloc(&p->arena, 2 * n * sizeof *p->nodes); /* every value in two layouts */
    if (!live || !l.other || !p->lowered || !p->nodes) RT_RAISE(RT_E_MEMORY, "out of memory for the plan of %d nodes", g->n_nodes);
    for (int i = 0; i < spec->n_outputs; i++) mark_live(live, spec->outputs[i]);
    for (int i = 0; i < spec->n_updates; i++) mark_live(live, spec->updates[i]);
    for (int i = 0; i < g->n_nodes; i++) {
        if (!live[i]) continue;
        /* its inputs' copies, images in the layouts they were made in; conversions get smaller ids than the copy */
        rt_node *from = g->nodes[i], y = *from, *in[64],
                **inputs = y.n_in <= 64 ? in : rt__arena_alloc(&p->arena, (size_t)y.n_in * sizeof *in);
        if (!inputs) RT_RAISE(RT_E_MEMORY, "out of memory for a node");
        for (int j = 0; j < y.n_in; j++) inputs[j] = p->lowered[from->in[j]->id];
        y.in = inputs;
        y.block = 1;
        rt_node *copy = lower_node(&l, &y) ? append(&l, &y) : NULL;
        if (!copy) RT_RAISE(RT_E_MEMORY, "out of memory for a node");
        copy->block = y.block;
        memcpy(copy->in, inputs, (size_t)y.n_in * sizeof *copy->in);
        if (g->force_block > 1 && l.blocks && copy->op->flags & RT_ROW_SOURCE && is_image(copy) && can_be_cut(copy, g->force_block))
            copy = in_layout(&l, copy, g->force_block);
        if (!copy) RT_RAISE(RT_E_MEMORY, "out of memory for a node");
        p->lowered[i] = copy;
    }
    for (int i = 0; i < spec->n_outputs; i++) {
        rt_node **at = &p->lowered[spec->outputs[i]->id];
        if (!(*at = in_layout(&l, *at, 1))) RT_RAISE(RT_E_MEMORY, "out of memory for a node");
    }
    return RT_OK;
}
