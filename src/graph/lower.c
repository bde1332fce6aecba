/* lower.c -- a program's own copies of the nodes that it needs, with types and the layout of images chosen: what the planner sees.
 *
 *     live nodes of the graph -> copies in the same order, a `cast` between two of them where their types differ, a `reblock` where their layouts do
 *
 * Graphs are built and differentiated without either. Here a convolution gives its image in the blocks, and in a program that computes in bf16 in the
 * type, that the backend likes, and what follows keeps them as long as it can. Outputs are plain and float. */
#include "graph/program.h"

#include <string.h>

typedef struct lowering {
    rt_program *p;
    bool blocks, types;  /* are the passes on? */
    rt_node **other;     /* by id: the same value in the other layout; a program has plain and one more */
    rt_node **cast;      /* by id: the same value in the other type, float or bf16 */
    unsigned char *kept; /* by id in the graph: is there a reader that takes bf16, and no caller who reads it? */
} lowering;

static int block_of(const rt_node *n) { return n->block > 1 || n->block == RT_CHANNELS_LAST ? n->block : 1; }
/* Where the order of channels and pixels in memory is a choice. Masks follow what they are compared from. */
static bool is_image(const rt_node *n) { return n->rank == 4 && n->shape[1] > 1 && n->shape[2] * n->shape[3] > 1; }
static bool can_be_cut(const rt_node *n, int b)
{
    return (rt__is_real(n) || n->dtype == RT_BF16 || n->dtype == RT_BOOL) && (b == RT_CHANNELS_LAST || n->shape[1] % b == 0);
}

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

/* ---- types */

static bool is_float(const rt_node *x) { return x->dtype == RT_F32 || x->dtype == RT_BF16; }

static rt_node *in_type(lowering *l, rt_node *x, rt_dtype type)
{
    static const rt_dtype types[] = {[RT_F32] = RT_F32, [RT_BF16] = RT_BF16};
    if (x->dtype == type || !is_float(x)) return x;
    if (l->cast[x->id]) return l->cast[x->id];
    rt_node like = {
        .graph = x->graph, .op = rt__ops_f32[RT_OP_cast], .attr = &types[type], .path = x->path, .n_in = 1, .dtype = type, .rank = x->rank};
    memcpy(like.shape, x->shape, sizeof like.shape);
    rt_node *n = append(l, &like);
    if (!n) return NULL;
    n->in[0] = x;
    n->block = x->block;
    l->cast[n->id] = x;
    return l->cast[x->id] = n;
}

static int64_t count_of(const lowering *l, const rt_node *x)
{
    rt_view v;
    rt__program_view(l->p, x, &v);
    return v.count;
}

/* Casts y's operands as its row, or the backend, wants them, and gives y the type of its result. */
static bool choose_types(lowering *l, rt_node *y, bool kept)
{
    const rt_backend *backend = l->p->backend;
    rt_type_rule rule = y->op->type == RT_TYPE_BACKEND && !l->p->bf16 ? RT_TYPE_F32 : y->op->type;
    int64_t most = 0; /* elements of its largest operands; are they all in bf16? */
    for (int i = 0; i < y->n_in; i++)
        if (is_float(y->in[i]) && count_of(l, y->in[i]) > most) most = count_of(l, y->in[i]);
    bool all = most > 0;
    for (int i = 0; i < y->n_in; i++) all &= y->in[i]->dtype != RT_F32 || count_of(l, y->in[i]) < most;
    for (int i = 0; i < y->n_in; i++) {
        rt_dtype type = RT_F32;
        if (rule == RT_TYPE_BACKEND) type = backend->type(y, i);
        if (rule == RT_TYPE_ALIKE) type = all ? RT_BF16 : RT_F32;
        if ((rule == RT_TYPE_MAPS || rule == RT_TYPE_READS) && count_of(l, y->in[i]) == most) continue;
        if (!(y->in[i] = in_type(l, y->in[i], type))) return false;
    }
    if (y->dtype != RT_F32) return true;
    if (rule == RT_TYPE_BACKEND && kept) y->dtype = backend->type(y, -1);
    if ((rule == RT_TYPE_MAPS && kept && all) || (rule == RT_TYPE_ALIKE && all)) y->dtype = RT_BF16;
    return true;
}

/* Readers have larger ids. What a row moves, its own readers read. */
static void mark_kept(lowering *l, const rt_program_spec *spec, const unsigned char *live)
{
    const rt_graph *g = l->p->graph;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const rt_node *y = g->nodes[i];
        bool takes = live[i] && y->op->type != RT_TYPE_F32 && (y->op->type != RT_TYPE_ALIKE || l->kept[i]);
        for (int j = 0; j < y->n_in && takes; j++) l->kept[y->in[j]->id] = 1;
    }
    for (int i = 0; i < spec->n_outputs; i++) l->kept[spec->outputs[i]->id] = 0;
}

/* How many matrices a factor, or the result, has, per sample where it has the batch (then negative). */
static int64_t matrices_of(const rt_node *v)
{
    int64_t n = 1;
    for (int i = 0; i < v->rank - 2; i++) n *= v->shape[i];
    return n;
}

bool rt__product_in_bf16(const rt_node *y)
{
    const rt_node *a = y->in[0], *b = y->in[1];
    bool rows = (a->rank == 2 && a->shape[0] == RT_BATCH) || (b->rank == 2 && b->shape[0] == RT_BATCH);
    int64_t n = matrices_of(y), na = matrices_of(a), nb = matrices_of(b);
    return !rows && (na == 1 || na == n) && (nb == 1 || nb == n);
}

/* ---- layouts */

/* The layout in which y takes its images. */
static int block_for(const lowering *l, const rt_node *y)
{
    int b = 1;
    for (int i = 0; i < y->n_in; i++)
        if (block_of(y->in[i]) != 1) b = block_of(y->in[i]);
    bool knows = y->op->layout == RT_LAYOUT_MAPS || y->op->layout == RT_LAYOUT_READS;
    if (!l->blocks || b == 1 || !knows || (y->op->blockable && !y->op->blockable(y, b))) return 1;
    for (int i = 0; i < y->n_in; i++)
        if (is_image(y->in[i]) && !can_be_cut(y->in[i], b)) return 1;
    return y->op->layout == RT_LAYOUT_READS || (y->rank == 4 && can_be_cut(y, b)) ? b : 1;
}

static bool choose_layout(lowering *l, rt_node *y)
{
    const rt_backend *backend = l->p->backend;
    if (y->op->layout == RT_LAYOUT_BACKEND && l->blocks && backend->block && y->graph->real == RT_F32) {
        for (int i = 0; i < y->n_in; i++)
            if (!(y->in[i] = in_layout(l, y->in[i], backend->block(y, i)))) return false;
        y->block = backend->block(y, -1);
        if (y->block == RT_CHANNELS_LAST && !is_image(y)) y->block = 1; /* which is the same */
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

static bool lists(const rt_program_spec *spec, const rt_node *update)
{
    for (int i = 0; i < spec->n_updates; i++)
        if (spec->updates[i] == update) return true;
    return false;
}

/* A value that is read after an update of its set can only be computed by making that update: one that nobody asked for would train with a
 * learning rate that nobody gave. */
static rt_status refuse_unlisted(const rt_graph *g, const rt_program_spec *spec, const unsigned char *live, rt_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const rt_node *u = g->nodes[i];
        if (!live[i] || !(u->op->flags & RT_ROW_UPDATE) || lists(spec, u)) continue;
        const char *set = rt_params_name(((const rt__update_attr *)u->attr)->set), *phase = *u->path ? u->path : set;
        const rt_node *asked = spec->n_updates > 0 ? spec->updates[0] : NULL;
        const char *other = !asked ? "outputs" : *asked->path ? asked->path : rt_params_name(((const rt__update_attr *)asked->attr)->set);
        RT_RAISE(RT_E_USAGE,
                 "the program of %s reads set '%s' after its update in '%s', which the program does not list; read the set before that "
                 "update is declared, in a graph of its own, or list the update",
                 other, set, phase);
    }
    return RT_OK;
}

rt_status rt__lower(rt_program *p, const rt_program_spec *spec, rt_error *err)
{
    const rt_graph *g = p->graph;
    size_t n = (size_t)g->n_nodes;
    unsigned char *live = rt__arena_alloc(&p->arena, n + 1);
    enum { WAYS = 4 }; /* every value in two types and two layouts */
    lowering l = {.p = p, .blocks = (g->passes & RT_PASS_LAYOUT) != 0, .types = p->bf16 || g->force_bf16};
    l.other = rt__arena_alloc(&p->arena, WAYS * n * sizeof *l.other);
    l.cast = rt__arena_alloc(&p->arena, WAYS * n * sizeof *l.cast);
    l.kept = rt__arena_alloc(&p->arena, n + 1);
    p->n_lowered = g->n_nodes;
    p->lowered = rt__arena_alloc(&p->arena, n * sizeof *p->lowered);
    p->nodes = rt__arena_alloc(&p->arena, WAYS * n * sizeof *p->nodes);
    if (!live || !l.other || !l.cast || !l.kept || !p->lowered || !p->nodes)
        RT_RAISE(RT_E_MEMORY, "out of memory for the plan of %d nodes", g->n_nodes);
    for (int i = 0; i < spec->n_outputs; i++) mark_live(live, spec->outputs[i]);
    for (int i = 0; i < spec->n_updates; i++) mark_live(live, spec->updates[i]);
    RT_TRY(refuse_unlisted(g, spec, live, err));
    if (l.types) mark_kept(&l, spec, live);
    for (int i = 0; i < g->n_nodes; i++) {
        if (!live[i]) continue;
        /* its inputs' copies, images in the layouts they were made in; conversions get smaller ids than the copy */
        rt_node *from = g->nodes[i], y = *from, *in[64],
                **inputs = y.n_in <= 64 ? in : rt__arena_alloc(&p->arena, (size_t)y.n_in * sizeof *in);
        if (!inputs) RT_RAISE(RT_E_MEMORY, "out of memory for a node");
        for (int j = 0; j < y.n_in; j++) inputs[j] = p->lowered[from->in[j]->id];
        y.in = inputs;
        y.block = 1;
        rt_node *copy = (!l.types || choose_types(&l, &y, l.kept[i])) && choose_layout(&l, &y) ? append(&l, &y) : NULL;
        if (!copy) RT_RAISE(RT_E_MEMORY, "out of memory for a node");
        copy->block = y.block;
        memcpy(copy->in, inputs, (size_t)y.n_in * sizeof *copy->in);
        if (g->force_bf16 && copy->op->flags & RT_ROW_SOURCE) copy = in_type(&l, copy, RT_BF16);
        if (!copy) RT_RAISE(RT_E_MEMORY, "out of memory for a node");
        if (g->force_block != 0 && l.blocks && from->op->flags & RT_ROW_SOURCE && is_image(copy) && can_be_cut(copy, g->force_block))
            copy = in_layout(&l, copy, g->force_block);
        if (!copy) RT_RAISE(RT_E_MEMORY, "out of memory for a node");
        p->lowered[i] = copy;
    }
    for (int i = 0; i < spec->n_outputs; i++) {
        rt_node **at = &p->lowered[spec->outputs[i]->id];
        if (!(*at = in_type(&l, *at, RT_F32)) || !(*at = in_layout(&l, *at, 1))) RT_RAISE(RT_E_MEMORY, "out of memory for a node");
    }
    return RT_OK;
}
