/* recompute.c -- values of the forward pass that are cheap to make again are not kept for the backward pass.
 *
 *     x --> norm --> silu --> conv            x --> norm --> silu --> conv
 *             |        |        |      =>     |
 *             v        v        v             +---> norm'--> silu'
 *          norm_grad  silu_grad conv_weight          |        |        |     backward
 *
 * Forward is what is made before a given node, the loss; a value is late if something after it reads it. A late value is dropped, and its late
 * readers get a copy that is made again just before the first of them, if
 *     - its row is cheap: few operations per number, and little to read for what it writes; a sample's values depend on that sample alone;
 *     - what must be kept to make it again, and is not kept anyway, is smaller than it.
 * The copy is the same kernel on the same inputs: results are equal bit by bit. */
#include "graph/program.h"

#include <stdlib.h>

enum { DEAR = 16, WIDE = 3 }; /* operations per number of the result; bytes read per byte written */

typedef struct pass {
    rt_program *p;
    int last;                /* id of the loss */
    unsigned char *needed;   /* by id: late, or kept so that late ones can be made again */
    unsigned char *dropped;  /* by id: made again where it is needed */
    int64_t *bytes, *price;  /* by id: of the value; of what must be kept, beyond what is kept anyway, to make it again */
    rt_node **again, **list; /* by id: its copy; the new order */
    int n;
} pass;

static bool is_view(const rt_node *x) { return (x->op->flags & RT_ROW_VIEW) != 0; }
static bool has_batch(const rt_node *x) { return x->rank > 0 && x->shape[0] < 0; }

static rt_node *behind_views(rt_node *x)
{
    while (is_view(x)) x = x->in[0];
    return x;
}

static bool is_cheap(const pass *s, const rt_node *y)
{
    if (!has_batch(y) || y->op->batch != RT_MAPS || y->op->flags & (RT_ROW_SOURCE | RT_ROW_RANDOM | RT_ROW_UPDATE)) return false;
    rt_view in[8];
    if (y->n_in < 1 || y->n_in > 8) return false;
    int64_t read = 0;
    for (int i = 0; i < y->n_in; i++) {
        rt__program_view(s->p, y->in[i], &in[i]);
        read += in[i].count * (int64_t)rt_dtype_size(in[i].dtype);
    }
    rt_call c = {.node = y, .n_in = y->n_in, .in = in};
    rt__program_view(s->p, y, &c.out);
    return read <= WIDE * s->bytes[y->id] && (!y->op->flop || y->op->flop(&c) <= DEAR * (double)c.out.count);
}

/* Is x there in the backward pass whatever is decided? */
static bool is_there(const pass *s, const rt_node *x)
{
    return !has_batch(x) || x->op->flags & RT_ROW_SOURCE || s->needed[x->id] || s->dropped[x->id];
}

/* To make y again, each input is there, or is made again too, or is kept: whatever keeps least. */
static int64_t price_of(const pass *s, const rt_node *y)
{
    int64_t price = 0;
    for (int i = 0; i < y->n_in; i++) {
        const rt_node *x = behind_views(y->in[i]);
        int64_t own = s->bytes[x->id], again = s->price[x->id];
        if (!is_there(s, x)) price += again < own ? again : own;
    }
    return price;
}

static void drop(pass *s, const rt_node *y)
{
    s->dropped[y->id] = true;
    for (int i = 0; i < y->n_in; i++) {
        const rt_node *x = behind_views(y->in[i]);
        if (is_there(s, x)) continue;
        if (s->price[x->id] < s->bytes[x->id])
            drop(s, x);
        else
            s->needed[x->id] = true;
    }
}

static void choose(pass *s, const rt_program_spec *spec)
{
    const rt_program *p = s->p;
    for (int i = s->last + 1; i < p->n_nodes; i++)
        for (int j = 0; j < p->nodes[i]->n_in; j++) {
            const rt_node *x = behind_views(p->nodes[i]->in[j]);
            if (x->id <= s->last) s->needed[x->id] = true;
        }
    for (int i = 0; i <= s->last; i++) {
        const rt_node *y = p->nodes[i];
        rt_view v;
        rt__program_view(p, y, &v);
        s->bytes[i] = s->price[i] = v.count * (int64_t)rt_dtype_size(v.dtype);
        bool output = false;
        for (int k = 0; k < spec->n_outputs; k++) output |= behind_views(p->lowered[spec->outputs[k]->id]) == y;
        if (is_view(y) || output || !is_cheap(s, y)) continue;
        s->price[i] = price_of(s, y);
        if (s->needed[i] && s->price[i] < s->bytes[i]) drop(s, y);
    }
}

static rt_node *append(pass *s, rt_node *y) { return s->list[s->n++] = y; }

/* x as a late reader has it. NULL: out of memory. */
static rt_node *late(pass *s, rt_node *x)
{
    if (x->id > s->last || !s->dropped[behind_views(x)->id]) return x;
    if (s->again[x->id]) return s->again[x->id];
    rt_node *copy = rt__arena_alloc(&s->p->arena, sizeof *copy), **in = rt__arena_alloc(&s->p->arena, (size_t)x->n_in * sizeof *in);
    if (!copy || !in) return NULL;
    *copy = *x;
    copy->in = in;
    for (int i = 0; i < x->n_in; i++)
        if (!(in[i] = late(s, x->in[i]))) return NULL;
    return s->again[x->id] = append(s, copy);
}

static bool rewrite(pass *s)
{
    for (int i = 0; i < s->p->n_nodes; i++) {
        rt_node *y = s->p->nodes[i];
        for (int j = 0; j < y->n_in && i > s->last; j++)
            if (!(y->in[j] = late(s, y->in[j]))) return false;
        append(s, y);
    }
    for (int i = 0; i < s->n; i++) s->list[i]->id = i;
    s->p->nodes = s->list;
    s->p->n_nodes = s->n;
    return true;
}

rt_status rt__recompute(rt_program *p, const rt_program_spec *spec, rt_error *err)
{
    size_t n = (size_t)p->n_nodes;
    pass s = {.p = p,
              .last = p->lowered[spec->recompute->id]->id,
              .needed = calloc(n, 1),
              .dropped = calloc(n, 1),
              .bytes = calloc(n, sizeof *s.bytes),
              .price = calloc(n, sizeof *s.price),
              .again = calloc(n, sizeof *s.again),
              .list = rt__arena_alloc(&p->arena, 2 * n * sizeof *s.list)};
    bool ok = s.needed && s.dropped && s.bytes && s.price && s.again && s.list;
    if (ok) choose(&s, spec);
    ok = ok && rewrite(&s);
    free(s.needed);
    free(s.dropped);
    free(s.bytes);
    free(s.price);
    free((void *)s.again);
    if (!ok) RT_RAISE(RT_E_MEMORY, "out of memory for the plan of %d nodes", p->n_nodes);
    return RT_OK;
}
