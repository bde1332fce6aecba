/* plan.c -- from a graph to a program: what runs, in which order, where every value lives.
 *
 *     rt__plan    reachable -> order -> stages -> storages (views, in place) -> lifetimes
 *     rt__place   scratch -> offsets in one block:  joins by type | their levels | all else
 *
 * Storages whose lifetimes overlap get disjoint offsets; check_plan.c proves it without looking here. */
#include "graph/program.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 64 };

void rt__program_view(const rt_program *p, const rt_node *n, rt_view *view)
{
    int block = n->block == RT_CHANNELS_LAST ? (int)n->shape[1] : n->block;
    *view = (rt_view){.dtype = n->dtype, .rank = n->rank, .block = block, .count = 1};
    for (int i = 0; i < n->rank; i++) {
        view->dim[i] = n->shape[i] < 0 ? -n->shape[i] * p->batch : n->shape[i];
        view->count *= view->dim[i];
    }
}

static bool is_source(const rt_node *n) { return (n->op->flags & RT_ROW_SOURCE) != 0; }
static bool is_op(const rt_node *n, rt__op_id id) { return n->op == rt__ops_f32[id]; }
static bool has_batch(const rt_node *n) { return n->rank > 0 && n->shape[0] < 0; }

/* ---- riders */

/* Does `from` need the value of `to`? */
static bool needs(const rt_node *from, const rt_node *to, unsigned char *seen)
{
    if (from == to) return true;
    if (seen[from->id]) return false;
    seen[from->id] = 1;
    bool found = from->host && needs(from->host, to, seen);
    for (int i = 0; i < from->n_in && !found; i++) found = needs(from->in[i], to, seen);
    return found;
}

/* Values that a kernel of another node can leave on its way. */
static rt_status find_hosts(rt_program *p, rt_error *err)
{
    unsigned char *seen = rt__arena_alloc(&p->arena, (size_t)p->n_nodes);
    if (!seen) RT_RAISE(RT_E_MEMORY, "out of memory for the plan of %d nodes", p->n_nodes);
    for (int i = 0; i < p->n_nodes; i++) {
        rt_node *y = p->nodes[i];
        for (int j = 0; y->op->rides && j < p->n_nodes && !y->host; j++) {
            rt_node *host = p->nodes[j];
            if (host->rider || !y->op->rides(y, host)) continue;
            memset(seen, 0, (size_t)p->n_nodes);
            if (needs(host, y, seen)) continue;
            y->host = host;
            host->rider = y;
        }
    }
    return RT_OK;
}

/* ---- which nodes, in which order
 * By id, except that an update waits for every reader of the version it replaces. */

typedef struct order {
    const rt_program *p;
    unsigned char *placed;
    const rt_node **list;
    int n;
    bool cycle;
} order;

static bool reads_version(const rt_node *n, const rt_params *set, int version)
{
    for (int i = 0; i < n->n_in; i++) {
        const rt_node *x = n->in[i];
        while (x->op->flags & RT_ROW_VIEW) x = x->in[0];
        if (is_op(x, RT_OP_param)) {
            const rt__param_attr *a = x->attr;
            if (a->set == set && a->version <= version) return true;
        }
    }
    return false;
}

static void place(order *o, const rt_node *n)
{
    enum { OPEN = 1, DONE = 2 };
    if (o->placed[n->id] == DONE || o->cycle) return;
    if (o->placed[n->id] == OPEN) {
        o->cycle = true;
        return;
    }
    o->placed[n->id] = OPEN;
    for (int i = 0; i < n->n_in; i++) place(o, n->in[i]);
    if (n->host) place(o, n->host);
    if (n->op->flags & RT_ROW_UPDATE) {
        const rt__update_attr *a = n->attr;
        for (int i = 0; i < o->p->n_nodes; i++) {
            const rt_node *reader = o->p->nodes[i];
            if (reader != n && reads_version(reader, a->set, a->version)) place(o, reader);
        }
    }
    o->placed[n->id] = DONE;
    o->list[o->n++] = n;
}

/* ---- stages */

static bool updated_here(const rt_program_spec *spec, const rt_params *set)
{
    for (int i = 0; i < spec->n_updates; i++)
        if (((const rt__update_attr *)spec->updates[i]->attr)->set == set) return true;
    return false;
}

static bool hoistable(const rt_program *p, const rt_program_spec *spec, const rt_node *n, const unsigned char *stage)
{
    if (is_op(n, RT_OP_constant)) return (p->graph->passes & RT_PASS_FOLD) != 0;
    if (is_op(n, RT_OP_param)) {
        const rt__param_attr *a = n->attr;
        return (p->graph->passes & RT_PASS_HOIST) && a->version == 0 && !updated_here(spec, a->set);
    }
    if (is_source(n) || n->op->flags & (RT_ROW_RANDOM | RT_ROW_UPDATE) || is_op(n, RT_OP_batch_size) || has_batch(n) || n->n_in == 0)
        return false;
    for (int i = 0; i < n->n_in; i++)
        if (stage[n->in[i]->id] != RT_STAGE_PROLOGUE) return false;
    return !n->host || stage[n->host->id] == RT_STAGE_PROLOGUE;
}

static bool is_join(const rt_node *n)
{
    if (has_batch(n) || is_source(n)) return false;
    for (int i = 0; i < n->n_in; i++)
        if (has_batch(n->in[i])) return true;
    return false;
}

/* ---- storages */

static int64_t lines(int64_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

static int add_storage(rt_program *p, int64_t bytes, int step)
{
    p->storages[p->n_storages] = (rt__storage){.bytes = lines(bytes), .first = step, .last = step};
    return p->n_storages++;
}

static int64_t bytes_of(const rt_program *p, const rt_node *n)
{
    rt_view v;
    rt__program_view(p, n, &v);
    return lines(v.count * (int64_t)rt_dtype_size(n->dtype));
}

static int new_storage(rt_program *p, const rt_node *n, int step) { return add_storage(p, bytes_of(p, n), step); }

/* A view's storage is that of the value behind it. */
static void see_through_views(rt_program *p, const rt_node *v)
{
    const rt_node *x = v;
    while (p->storage_of[x->id] < 0) x = x->in[0];
    p->storage_of[v->id] = p->storage_of[x->id];
}

static void use(int *last, const rt_node *x, int step)
{
    for (;; x = x->in[0]) {
        if (last[x->id] < step) last[x->id] = step;
        if (!(x->op->flags & RT_ROW_VIEW)) return;
    }
}

static int by_size(const void *a, const void *b)
{
    const rt__storage *x = *(rt__storage *const *)a, *y = *(rt__storage *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : 0;
}

static bool alive_together(const rt__storage *a, const rt__storage *b) { return a->first <= b->last && b->first <= a->last; }

/* Joins live always. A type's lie side by side, padded so that each of R ranks adds an equal part of whole lines. Returns where other values may begin. */
static int64_t place_joins(rt_program *p)
{
    int64_t at = 0, part = LINE * (int64_t)rt_ranks_size(p->ranks);
    for (int type = 0; type < RT_DTYPES; type++) {
        p->joins[type] = (size_t)at;
        for (int i = 0; i < p->n_steps; i++) {
            const rt__step *s = &p->steps[i];
            if (!s->join || (int)s->node->dtype != type) continue;
            rt__storage *to = &p->storages[p->storage_of[s->node->id]];
            to->offset = at;
            at += to->bytes;
        }
        at = (at + part - 1) / part * part;
    }
    p->joins[RT_DTYPES] = (size_t)at;
    return p->mixed ? at : at * (1 + p->levels);
}

/* Largest first, each at the lowest offset that is free during its whole life. */
static bool place_storages(rt_program *p)
{
    rt__storage **sorted = malloc((size_t)(2 * p->n_storages + 1) * sizeof *sorted);
    if (!sorted) return false;
    rt__storage **placed = sorted + p->n_storages; /* by offset */
    int n = 0, k = 0;
    int64_t begin = place_joins(p), total = begin;
    for (int i = 0; i < p->n_storages; i++)
        if (p->storages[i].offset >= 0 && !p->storages[i].join) sorted[n++] = &p->storages[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    for (int i = 0; i < n; i++) {
        rt__storage *s = sorted[i];
        int64_t at = begin;
        for (int j = 0; j < k; j++) {
            if (!alive_together(s, placed[j])) continue;
            if (placed[j]->offset >= at + s->bytes) break;
            int64_t end = placed[j]->offset + placed[j]->bytes;
            if (end > at) at = end;
        }
        s->offset = at;
        int j = k++;
        for (; j > 0 && placed[j - 1]->offset > at; j--) placed[j] = placed[j - 1];
        placed[j] = s;
        if (at + s->bytes > total) total = at + s->bytes;
    }
    p->block_bytes = (size_t)total;
    free(sorted);
    return true;
}

rt_status rt__plan(rt_program *p, const rt_program_spec *spec, rt_error *err)
{
    rt_graph *g = p->graph;
    int n_nodes = p->n_nodes;
    if (g->passes & RT_PASS_FUSE) RT_TRY(find_hosts(p, err));
    size_t n = (size_t)n_nodes;
    order o = {.p = p, .placed = calloc(n, 1), .list = calloc(n, sizeof *o.list)};
    unsigned char *stage = calloc(n, 1);
    int *last = calloc(n, sizeof *last);
    p->storage_of = rt__arena_alloc(&p->arena, n * sizeof *p->storage_of);
    p->storages = rt__arena_alloc(&p->arena, 3 * n * sizeof *p->storages); /* a value, scratch and what is kept per node */
    p->is_output = rt__arena_alloc(&p->arena, n * sizeof *p->is_output);
    p->steps = rt__arena_alloc(&p->arena, n * sizeof *p->steps);
    rt_status status = RT_OK;
    if (!o.placed || !o.list || !stage || !last || !p->storage_of || !p->storages || !p->is_output || !p->steps) {
        status = rt_error_set(err, RT_E_MEMORY, "out of memory for the plan of %d nodes", n_nodes);
        goto done;
    }

    for (int i = 0; i < spec->n_outputs; i++) p->is_output[p->lowered[spec->outputs[i]->id]->id] = true;
    for (int i = 0; i < n_nodes; i++) place(&o, p->nodes[i]);
    if (o.cycle) {
        status = rt_error_set(err, RT_E_INTERNAL, "an update and a reader of the values it replaces wait for each other");
        goto done;
    }

    /* stages: a node that needs sums over the batch waits for all slices */
    for (int i = 0; i < o.n; i++) {
        const rt_node *v = o.list[i];
        if (hoistable(p, spec, v, stage)) {
            stage[v->id] = RT_STAGE_PROLOGUE;
            continue;
        }
        stage[v->id] = RT_STAGE_SAMPLES;
        for (int j = 0; j < v->n_in; j++) {
            const rt_node *x = v->in[j];
            if (stage[x->id] == RT_STAGE_JOINED || is_join(x)) stage[v->id] = RT_STAGE_JOINED;
        }
        if (v->op->flags & RT_ROW_UPDATE || (v->host && stage[v->host->id] == RT_STAGE_JOINED)) stage[v->id] = RT_STAGE_JOINED;
        bool bad = (is_join(v) && v->op->batch != RT_SUMS) || (stage[v->id] == RT_STAGE_JOINED && has_batch(v)) ||
                   (stage[v->id] == RT_STAGE_JOINED && is_join(v)) || (has_batch(v) && v->op->batch == RT_MIXES && !is_source(v));
        if (bad && !p->mixed) p->mixed = v;
    }

    /* steps: the prologue first, what depends on sums over the batch last, where the batch may be in slices; sources, views and riders have none */
    for (int pass = RT_STAGE_PROLOGUE; pass <= RT_STAGE_JOINED; pass++) {
        for (int i = 0; i < o.n; i++) {
            const rt_node *v = o.list[i];
            if ((p->mixed && stage[v->id] == RT_STAGE_JOINED ? RT_STAGE_SAMPLES : (rt__stage)stage[v->id]) != (rt__stage)pass) continue;
            if (is_source(v) || v->op->flags & RT_ROW_VIEW || v->host) continue;
            rt__step *s = &p->steps[p->n_steps++];
            s->node = v;
            s->op = v->op;
            s->kernel = rt__kernel_of(v->op, g->real);
            s->stage = stage[v->id];
            s->join = s->stage != RT_STAGE_PROLOGUE && is_join(v);
            p->n_prologue += pass == RT_STAGE_PROLOGUE;
        }
    }

    /* last use of each node, through views; outputs are kept */
    for (int i = 0; i < p->n_steps; i++)
        for (int j = 0; j < p->steps[i].node->n_in; j++) use(last, p->steps[i].node->in[j], i);
    for (int i = 0; i < spec->n_outputs; i++) use(last, p->lowered[spec->outputs[i]->id], INT_MAX);

    /* storages in order of execution, so that a result may take over the buffer of an input that dies with it */
    for (int i = 0; i < n_nodes; i++) p->storage_of[i] = -1;
    for (int i = 0; i < o.n; i++) {
        const rt_node *v = o.list[i];
        if (!is_source(v)) continue;
        int s = p->storage_of[v->id] = new_storage(p, v, 0);
        p->storages[s].last = INT_MAX;
        if (!is_op(v, RT_OP_input)) p->storages[s].offset = -1;
        if (is_op(v, RT_OP_constant)) p->storages[s].data = (void *)(uintptr_t)((const rt__const_attr *)v->attr)->data;
        if (is_op(v, RT_OP_param)) {
            const rt__param_attr *a = v->attr;
            void *values;
            status = rt__params_on(a->set, RT_VALUE, p->device, &values, err);
            if (status != RT_OK) goto done;
            p->storages[s].data = (char *)values + (size_t)rt_params_entry(a->set, a->entry)->offset * rt_dtype_size(g->real);
        }
    }
    for (int step = 0; step < p->n_steps; step++) {
        const rt__step *st = &p->steps[step];
        const rt_node *v = st->node;
        for (int j = 0; j < v->n_in; j++) see_through_views(p, v->in[j]);
        int taken = -1;
        if (v->op->flags & RT_ROW_INPLACE && g->passes & RT_PASS_REUSE && st->stage != RT_STAGE_PROLOGUE && !st->join) {
            rt_view out, in;
            rt__program_view(p, v, &out);
            for (int j = 0; j < v->n_in && taken < 0; j++) {
                const rt_node *x = v->in[j];
                int s = p->storage_of[x->id];
                rt__program_view(p, x, &in);
                bool once = true; /* the same storage as two inputs is read at other places, too */
                for (int l = 0; l < v->n_in; l++) once &= l == j || p->storage_of[v->in[l]->id] != s || v->in[l] == x;
                if (p->storages[s].offset >= 0 && p->storages[s].last == step && in.count == out.count && x->dtype == v->dtype &&
                    in.rank == out.rank && in.block == out.block && !memcmp(in.dim, out.dim, sizeof in.dim) && once)
                    taken = s;
            }
        }
        if (taken < 0) taken = new_storage(p, v, step);
        p->storage_of[v->id] = taken;
        rt__storage *s = &p->storages[taken];
        s->join = st->join;
        if (last[v->id] > s->last) s->last = last[v->id];
        if (st->stage == RT_STAGE_PROLOGUE || st->join || v->op->flags & RT_ROW_UPDATE) s->first = 0, s->last = INT_MAX;
        if (v->rider) {
            rt__storage *side = &p->storages[p->storage_of[v->rider->id] = new_storage(p, v->rider, step)];
            if (last[v->rider->id] > side->last) side->last = last[v->rider->id];
            if (st->stage == RT_STAGE_PROLOGUE) side->first = 0, side->last = INT_MAX;
        }
    }
    for (int i = 0; i < spec->n_outputs; i++) see_through_views(p, p->lowered[spec->outputs[i]->id]);
    if (p->mixed == NULL) /* per-slice values that a joined step reads would be those of the last slice only: they must be sums */
        for (int i = 0; i < p->n_steps; i++) {
            const rt_node *v = p->steps[i].node;
            for (int j = 0; j < v->n_in; j++)
                if (p->steps[i].stage == RT_STAGE_JOINED && has_batch(v->in[j]) && !p->mixed) p->mixed = v;
        }
done:
    free(o.placed);
    free((void *)o.list);
    free(stage);
    free(last);
    return status;
}

rt_status rt__place(rt_program *p, rt_error *err)
{
    for (int i = 0; i < p->n_steps; i++) {
        rt__step *s = &p->steps[i];
        const rt_view *y = &s->call.out;
        int64_t own = lines((int64_t)s->scratch), partial = s->join && !p->mixed ? y->count * (int64_t)rt_dtype_size(y->dtype) : 0;
        s->scratch_at = own + partial > 0 ? add_storage(p, own + partial, i) : -1;
        s->kept_at = s->kept > 0 ? add_storage(p, lines((int64_t)s->kept), 0) : -1;
        if (s->kept_at >= 0) p->storages[s->kept_at].last = INT_MAX;
    }
    if (!place_storages(p)) RT_RAISE(RT_E_MEMORY, "out of memory for the plan of %d nodes", p->n_nodes);
    return RT_OK;
}
