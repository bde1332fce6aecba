/* check_plan.c -- proves from a program's steps alone that its memory plan is right: which step reads and writes which bytes, and nothing of how
 * plan.c came to them.
 *
 * The steps are walked as two runs of two slices would walk them, on values instead of numbers. A write ends every value that it touches; a read
 * must find its value whole, written in the present pass over a slice (by the prologue or the caller: ever). So no two values that live together
 * overlap, nothing is read that someone has overwritten since, and what must outlast a slice or a run does. What a backend keeps between runs (packed
 * weights) nobody else writes to. */
#include "graph/program.h"

#include <stdlib.h>

/* A value that lies whole in memory. */
typedef struct held {
    const rt_node *value;
    const char *from, *to;
    int pass; /* in which it was written */
} held;

typedef struct walk {
    const rt_program *p;
    held *held; /* disjoint */
    int n_held;
    const rt__step **maker, **spoiler; /* by id of a value: the step that makes it (NULL: the caller), the one that ended it */
    rt_params **updated;               /* sets updated in this run, as often as they were */
    int n_updated, pass;
    const rt__step *torn, *tearer; /* whose kept bytes were overwritten, and who did it (NULL: the caller) */
} walk;

static const rt_node *behind_views(const rt_node *x)
{
    while (x->op->flags & RT_ROW_VIEW) x = x->in[0];
    return x;
}

static const char *end_of(const rt_view *v) { return (const char *)v->data + (size_t)v->count * rt_dtype_size(v->dtype); }
static bool overlap(const char *a, const char *a_end, const char *b, const char *b_end) { return a < b_end && b < a_end; }
static bool views_overlap(const rt_view *a, const rt_view *b) { return overlap(a->data, end_of(a), b->data, end_of(b)); }

static const held *find(const walk *w, const rt_node *value)
{
    for (int i = 0; i < w->n_held; i++)
        if (w->held[i].value == value) return &w->held[i];
    return NULL;
}

static bool touches_kept(const rt__step *s, const char *from, const char *to)
{
    const char *kept = s->call.kept;
    return s->kept > 0 && overlap(from, to, kept, kept + s->kept);
}

static void write_bytes(walk *w, const rt__step *s, const char *from, const char *to)
{
    for (int i = 0; i < w->p->n_steps; i++)
        if (touches_kept(&w->p->steps[i], from, to)) w->torn = &w->p->steps[i], w->tearer = s;
    for (int i = 0; i < w->n_held;) {
        held *h = &w->held[i];
        if (overlap(from, to, h->from, h->to)) {
            w->spoiler[h->value->id] = s;
            *h = w->held[--w->n_held];
        } else {
            i++;
        }
    }
}

static void write_value(walk *w, const rt__step *s, const rt_node *value, const rt_view *v)
{
    write_bytes(w, s, v->data, end_of(v));
    w->held[w->n_held++] = (held){value, v->data, end_of(v), w->pass};
}

static rt_status complain(const rt_node *reader, const rt_node *x, const char *what, const rt__step *by, rt_error *err)
{
    RT_RAISE(RT_E_INTERNAL, "the memory plan is wrong: node %d, %s (%s), reads node %d, %s (%s), %s%s%s", reader->id, reader->op->name,
             reader->path, x->id, x->op->name, x->path, what, by ? " " : "", by ? by->op->name : "");
}

/* How often an update must have been made before a read of a parameter is what the node means. */
static rt_status check_version(const walk *w, const rt_node *reader, const rt_node *x, bool prologue, rt_error *err)
{
    const rt__param_attr *a = x->attr;
    int done = 0;
    for (int i = 0; i < w->n_updated; i++) done += w->updated[i] == a->set;
    for (int i = 0; i < w->p->n_steps && prologue; i++) {
        const rt__step *s = &w->p->steps[i];
        if (s->op->flags & RT_ROW_UPDATE && ((const rt__update_attr *)s->node->attr)->set == a->set)
            return complain(reader, x, "once and for all, but the program updates it", NULL, err);
    }
    return done == a->version ? RT_OK : complain(reader, x, "of another version of its set", NULL, err);
}

/* `reader` reads x where v says, in pass `pass`. */
static rt_status check_read(const walk *w, const rt_node *reader, const rt_node *x, const rt_view *v, int pass, bool prologue,
                            rt_error *err)
{
    const rt_node *value = behind_views(x);
    if (value->op == rt__ops_f32[RT_OP_constant]) return RT_OK;
    if (value->op == rt__ops_f32[RT_OP_param]) return check_version(w, reader, value, prologue, err);
    const held *h = find(w, value);
    const rt__step *maker = w->maker[value->id], *by = w->spoiler[value->id];
    if (!h) return complain(reader, x, by ? "which was overwritten by" : "which was not computed yet", by, err);
    if ((const char *)v->data != h->from || end_of(v) > h->to) return complain(reader, x, "in another place", NULL, err);
    if (maker && maker->stage != RT_STAGE_PROLOGUE && h->pass != pass) return complain(reader, x, "of an earlier pass", NULL, err);
    return RT_OK;
}

static rt_status walk_step(walk *w, const rt__step *s, bool resumed, rt_error *err)
{
    const rt_call *c = &s->call;
    const rt_node *y = s->node;
    bool prologue = s->stage == RT_STAGE_PROLOGUE, adds = s->join && resumed;
    const char *scratch = c->scratch, *scratch_end = scratch + s->scratch;
    rt_view out = c->out;
    if (adds) out.data = s->partial;
    for (int i = 0; i < c->n_in; i++) {
        const rt_view *in = &c->in[i];
        RT_TRY(check_read(w, y, y->in[i], in, w->pass, prologue, err));
        if (overlap(scratch, scratch_end, in->data, end_of(in))) return complain(y, y->in[i], "which its own scratch overlaps", NULL, err);
        if (!views_overlap(in, &out)) continue;
        bool same = in->data == out.data && in->rank == out.rank && in->dtype == out.dtype && in->block == out.block;
        for (int k = 0; k < in->rank; k++) same = same && in->dim[k] == out.dim[k];
        if (!same || !(s->op->flags & RT_ROW_INPLACE) || s->join)
            return complain(y, y->in[i], "into which it writes while it reads", NULL, err);
    }
    for (int i = 0; i < c->n_in && y->rider; i++)
        if (views_overlap(&c->in[i], &c->side)) return complain(y, y->in[i], "into which it writes its rider while it reads", NULL, err);
    if (y->rider && (views_overlap(&out, &c->side) || overlap(scratch, scratch_end, c->side.data, end_of(&c->side))))
        return complain(y, y->rider, "which its own result or scratch overlaps", NULL, err);
    if (overlap(scratch, scratch_end, out.data, end_of(&out))) return complain(y, y, "which its own scratch overlaps", NULL, err);
    if (s->scratch) write_bytes(w, s, scratch, scratch_end);
    if (adds) {
        write_bytes(w, s, out.data, end_of(&out));
        RT_TRY(check_read(w, y, y, &c->out, w->pass - 1, false, err)); /* what the earlier slices left */
    }
    write_value(w, s, y, &c->out);
    if (y->rider) write_value(w, s, y->rider, &c->side);
    if (s->op->flags & RT_ROW_UPDATE) w->updated[w->n_updated++] = ((const rt__update_attr *)y->attr)->set;
    return RT_OK;
}

/* Kept bytes are their step's alone. */
static rt_status check_kept(const walk *w, rt_error *err)
{
    const rt__step *steps = w->p->steps;
    if (w->torn) return complain(w->torn->node, w->torn->node, "whose kept bytes were overwritten by", w->tearer, err);
    for (int i = 0; i < w->p->n_steps; i++)
        for (int j = 0; j < i && steps[i].kept > 0; j++)
            if (touches_kept(&steps[j], steps[i].call.kept, (const char *)steps[i].call.kept + steps[i].kept))
                return complain(steps[i].node, steps[i].node, "whose kept bytes are also those of", &steps[j], err);
    return RT_OK;
}

static rt_status walk_pass(walk *w, bool resumed, bool more, rt_error *err)
{
    const rt_program *p = w->p;
    if (!resumed) w->n_updated = 0;
    for (int i = w->pass == 0 ? 0 : p->n_prologue; i < p->n_steps; i++)
        if (!(more && p->steps[i].stage == RT_STAGE_JOINED)) RT_TRY(walk_step(w, &p->steps[i], resumed, err));
    for (int i = 0; i < p->n_nodes && !more; i++) {
        if (!p->is_output[i]) continue;
        rt_view v;
        rt__program_view(p, p->nodes[i], &v);
        v.data = p->storages[p->storage_of[i]].data;
        RT_TRY(check_read(w, p->nodes[i], p->nodes[i], &v, w->pass, false, err));
    }
    return RT_OK;
}

rt_status rt__check_plan(const rt_program *p, rt_error *err)
{
    size_t n = (size_t)p->n_nodes;
    walk w = {.p = p,
              .held = malloc(n * sizeof *w.held),
              .maker = calloc(n, sizeof *w.maker),
              .spoiler = calloc(n, sizeof *w.spoiler),
              .updated = malloc(n * sizeof *w.updated)};
    rt_status status = RT_OK;
    if (!w.held || !w.maker || !w.spoiler || !w.updated)
        status = rt_error_set(err, RT_E_MEMORY, "out of memory for the plan of %d nodes", p->n_nodes);
    for (int i = 0; i < p->n_nodes && status == RT_OK; i++) { /* what the caller wrote, once */
        const rt_node *x = p->nodes[i];
        rt_view v;
        if (x->op != rt__ops_f32[RT_OP_input] || p->storage_of[i] < 0) continue;
        rt__program_view(p, x, &v);
        v.data = p->storages[p->storage_of[i]].data;
        write_value(&w, NULL, x, &v);
    }
    for (int i = 0; i < p->n_steps && status == RT_OK; i++) {
        const rt_node *y = p->steps[i].node;
        w.maker[y->id] = &p->steps[i];
        if (y->rider) w.maker[y->rider->id] = &p->steps[i];
    }
    for (; w.pass < 4 && status == RT_OK; w.pass++) {
        bool resumed = w.pass % 2 && !p->mixed, more = w.pass % 2 == 0 && !p->mixed;
        status = walk_pass(&w, resumed, more, err);
    }
    if (status == RT_OK) status = check_kept(&w, err);
    free(w.held);
    free((void *)w.maker);
    free((void *)w.spoiler);
    free((void *)w.updated);
    return status;
}
