/* graph.c -- building graphs: nodes, sharing, layer paths, the failure that sticks. */
#include "graph/internal_graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rt_graph *rt_graph_new(rt_dtype dtype)
{
    rt_graph *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->real = dtype;
    g->passes = RT_PASS_SHARE | RT_PASS_FOLD | RT_PASS_HOIST | RT_PASS_REUSE | RT_PASS_LAYOUT | RT_PASS_FUSE;
    g->inert = (rt_node){.graph = g, .path = "", .dtype = dtype, .id = -1};
    g->path = "";
    if (dtype != RT_F32 && dtype != RT_F64) rt_fail(g, "a graph computes in F32 or F64, not %s", rt_dtype_name(dtype));
    return g;
}

void rt_graph_free(rt_graph *g)
{
    if (!g) return;
    rt__arena_free(&g->arena);
    free(g->nodes);
    free(g->buckets);
    free(g->epochs);
    free(g);
}

rt_dtype rt_graph_real(const rt_graph *g) { return g->real; }
void rt_graph_passes(rt_graph *g, unsigned passes) { g->passes = passes; }

rt_status rt_graph_status(const rt_graph *g, rt_error *err)
{
    if (g->error.status != RT_OK) rt_error_set(err, g->error.status, "%s", g->error.text);
    return g->error.status;
}

rt_graph *rt_node_graph(const rt_node *n) { return n->graph; }
rt_dtype rt_node_dtype(const rt_node *n) { return n->dtype; }
int rt_node_rank(const rt_node *n) { return n->rank; }
const int64_t *rt_node_shape(const rt_node *n) { return n->shape; }
bool rt__failed(const rt_node *n) { return n->op == NULL; }

int64_t rt_dim(const rt_node *n, int axis)
{
    if (axis < 0) axis += n->rank;
    if (axis >= 0 && axis < n->rank) return n->shape[axis];
    if (!rt__failed(n)) rt_fail(n->graph, "axis %d of a value of rank %d", axis, n->rank);
    return 1;
}

/* ---- failing */

static rt_node *fail_text(rt_graph *g, rt_status status, const char *path, const char *text)
{
    rt_error_set(&g->error, status, "%s%s%s", path, *path ? ": " : "", text);
    return &g->inert;
}

rt_node *rt_fail(rt_graph *g, const char *format, ...)
{
    char text[RT_ERROR_TEXT / 2];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return fail_text(g, RT_E_INVALID, g->path, text);
}

bool rt__bad(rt_node *y, const char *format, ...)
{
    char text[RT_ERROR_TEXT / 2], why[RT_ERROR_TEXT / 4], shape[96];
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, sizeof why, format, ap);
    va_end(ap);
    size_t at = (size_t)snprintf(text, sizeof text, "%s", y->op->name);
    for (int i = 0; i < y->n_in && at < sizeof text / 2; i++) {
        const rt_node *x = y->in[i];
        int n = snprintf(text + at, sizeof text - at, "%s(%s)", i ? ", " : " ", rt_shape_text(shape, sizeof shape, x->rank, x->shape));
        at += n > 0 ? (size_t)n : 0;
    }
    snprintf(text + at, sizeof text - at, ": %s", why);
    fail_text(y->graph, RT_E_INVALID, y->graph->path, text);
    return false;
}

static rt_node *out_of_memory(rt_graph *g) { return fail_text(g, RT_E_MEMORY, "", "out of memory while building a graph"); }

void *rt__graph_alloc(rt_graph *g, size_t size)
{
    void *p = rt__arena_alloc(&g->arena, size);
    if (!p) out_of_memory(g);
    return p;
}

/* ---- layer paths */

void rt_push(rt_graph *g, const char *format, ...)
{
    if (g->depth >= RT_PATH_DEPTH) {
        rt_fail(g, "layers nest deeper than %d", RT_PATH_DEPTH);
        return;
    }
    char part[128];
    va_list ap;
    va_start(ap, format);
    vsnprintf(part, sizeof part, format, ap);
    va_end(ap);
    g->stack[g->depth++] = g->path;
    const char *path = rt__arena_printf(&g->arena, "%s%s%s", g->path, *g->path ? "." : "", part);
    if (path)
        g->path = path;
    else
        out_of_memory(g);
}

void rt_pop(rt_graph *g)
{
    if (g->depth > 0) g->path = g->stack[--g->depth];
}

const char *rt__intern(rt_graph *g, const char *text)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == rt__ops_f32[RT_OP_input]) {
            const rt__input_attr *a = g->nodes[i]->attr;
            if (!strcmp(a->name, text)) return a->name;
        }
    char *copy = rt__arena_strdup(&g->arena, text);
    if (!copy) out_of_memory(g);
    return copy;
}

/* ---- nodes */

enum { HASHED_BYTES = 1 << 16 }; /* of a constant */

static int64_t const_bytes(const rt__const_attr *a)
{
    int64_t n = 1;
    for (int i = 0; i < a->rank; i++) n *= a->shape[i];
    return n * (int64_t)rt_dtype_size(a->dtype);
}

static uint64_t mix(uint64_t h, const void *data, size_t size) /* FNV-1a */
{
    const unsigned char *p = data;
    for (size_t i = 0; i < size; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static uint64_t node_hash(const rt_node *n)
{
    uint64_t h = mix(0xcbf29ce484222325u, &n->op, sizeof n->op);
    if (n->op == rt__ops_f32[RT_OP_constant]) { /* by content, not by address */
        const rt__const_attr *a = n->attr;
        h = mix(h, a, offsetof(rt__const_attr, data));
        int64_t bytes = const_bytes(a); /* the start tells most apart; node_equal looks at all of it */
        h = mix(h, a->data, (size_t)(bytes < HASHED_BYTES ? bytes : HASHED_BYTES));
    } else if (n->op->attr_size) {
        h = mix(h, n->attr, n->op->attr_size);
    }
    for (int i = 0; i < n->n_in; i++) h = mix(h, &n->in[i]->id, sizeof n->in[i]->id);
    return h;
}

static bool node_equal(const rt_node *a, const rt_node *b)
{
    if (a->op != b->op || a->n_in != b->n_in || (a->n_in && memcmp(a->in, b->in, (size_t)a->n_in * sizeof *a->in))) return false;
    if (a->op == rt__ops_f32[RT_OP_constant]) {
        const rt__const_attr *p = a->attr, *q = b->attr;
        return !memcmp(p, q, offsetof(rt__const_attr, data)) && (p->data == q->data || !memcmp(p->data, q->data, (size_t)const_bytes(p)));
    }
    return !a->op->attr_size || !memcmp(a->attr, b->attr, a->op->attr_size);
}

static bool grow(rt_graph *g)
{
    if (g->n_nodes < g->room) return true;
    int room = g->room ? 2 * g->room : 256, n_buckets = 4 * room;
    rt_node **nodes = realloc(g->nodes, (size_t)room * sizeof *nodes);
    if (!nodes) return false;
    g->nodes = nodes;
    int *buckets = malloc((size_t)n_buckets * sizeof *buckets);
    if (!buckets) return false;
    free(g->buckets);
    for (int i = 0; i < n_buckets; i++) buckets[i] = -1;
    for (int i = 0; i < g->n_nodes; i++) {
        uint64_t h = node_hash(nodes[i]) & (uint64_t)(n_buckets - 1);
        while (buckets[h] >= 0) h = (h + 1) & (uint64_t)(n_buckets - 1);
        buckets[h] = i;
    }
    g->buckets = buckets;
    g->room = room;
    g->n_buckets = n_buckets;
    return true;
}

/* Extents are at least 1, the symbol stands only in front, and a sample's size fits well into 63 bits. */
static bool check_shape(rt_node *y)
{
    if (y->rank < 0 || y->rank > RT_MAX_RANK)
        return rt__bad(y, "the result would have rank %d, at most %d are supported", y->rank, RT_MAX_RANK);
    int64_t count = 1;
    for (int i = 0; i < y->rank; i++) {
        int64_t n = y->shape[i] < 0 && i == 0 ? -y->shape[i] : y->shape[i];
        if (n < 1) return rt__bad(y, "extent %lld on axis %d of the result", (long long)y->shape[i], i);
        if (__builtin_mul_overflow(count, n, &count) || count > INT64_MAX / 64) return rt__bad(y, "the result is too large");
    }
    return true;
}

rt_node *rt__emit(rt_graph *g, rt__op_id id, rt_node *const *in, int n_in, const void *attr)
{
    const rt_op *op = rt__ops_f32[id];
    if (g->error.status != RT_OK) return &g->inert;
    for (int i = 0; i < n_in; i++) {
        if (in[i]->graph != g) return rt_fail(g, "%s: input %d belongs to another graph", op->name, i);
        if (rt__failed(in[i])) return &g->inert;
    }
    if (n_in < op->min_in || (op->max_in >= 0 && n_in > op->max_in))
        return rt_fail(g, "%s takes %d to %d inputs, got %d", op->name, op->min_in, op->max_in, n_in);
    rt_node *fused = g->passes & RT_PASS_FUSE ? rt__fuse(id, in, n_in, attr) : NULL;
    if (fused) return fused;
    if (!grow(g)) return out_of_memory(g);

    static const char zeros[256];
    rt_node probe = {.graph = g, .op = op, .attr = attr ? attr : zeros, .path = g->path, .id = g->n_nodes, .n_in = n_in};
    memcpy(&probe.in, &(rt_node **){(rt_node **)(uintptr_t)in}, sizeof probe.in);
    uint64_t h = node_hash(&probe) & (uint64_t)(g->n_buckets - 1);
    while (g->buckets[h] >= 0) {
        rt_node *old = g->nodes[g->buckets[h]];
        if ((g->passes & RT_PASS_SHARE || op->flags & (RT_ROW_SOURCE | RT_ROW_RANDOM)) && !(op->flags & RT_ROW_UPDATE) &&
            node_equal(old, &probe))
            return old;
        h = (h + 1) & (uint64_t)(g->n_buckets - 1);
    }
    if (!op->shape(&probe)) {
        if (g->error.status == RT_OK) rt__bad(&probe, "shapes do not fit");
        return &g->inert;
    }
    if (!check_shape(&probe)) return &g->inert;
    if (!(op->flags & (RT_ROW_SOURCE | RT_ROW_VIEW)) && id != RT_OP_cast) /* kernels know one real type */
        for (int i = 0; i < n_in; i++)
            if (rt__is_real(in[i]) && in[i]->dtype != g->real) {
                rt__bad(&probe, "input %d is %s, the graph computes in %s; cast it", i, rt_dtype_name(in[i]->dtype),
                        rt_dtype_name(g->real));
                return &g->inert;
            }

    rt_node *y = rt__arena_alloc(&g->arena, sizeof *y);
    rt_node **ins = rt__arena_alloc(&g->arena, (size_t)n_in * sizeof *ins);
    void *attrs = rt__arena_alloc(&g->arena, op->attr_size);
    if (!y || !ins || !attrs) return out_of_memory(g);
    if (n_in) memcpy(ins, in, (size_t)n_in * sizeof *ins);
    memcpy(attrs, probe.attr, op->attr_size);
    *y = probe;
    y->in = ins;
    y->attr = attrs;
    g->buckets[h] = g->n_nodes;
    g->nodes[g->n_nodes++] = y;
    return y;
}

/* ---- sources that name things outside the graph */

rt_node *rt_input(rt_graph *g, const char *name, rt_dtype dtype, int rank, const int64_t *shape)
{
    rt__input_attr a;
    memset(&a, 0, sizeof a);
    if (rank < 0 || rank > RT_MAX_RANK) return rt_fail(g, "input '%s' of rank %d", name, rank);
    a.name = rt__intern(g, name);
    a.dtype = dtype;
    a.rank = rank;
    if (rank) memcpy(a.shape, shape, (size_t)rank * sizeof *shape);
    return rt__emit(g, RT_OP_input, NULL, 0, &a);
}

static struct rt__epoch *epoch_of(rt_graph *g, rt_params *set)
{
    for (int i = 0; i < g->n_epochs; i++)
        if (g->epochs[i].set == set) return &g->epochs[i];
    struct rt__epoch *e = realloc(g->epochs, (size_t)(g->n_epochs + 1) * sizeof *e);
    if (!e) {
        out_of_memory(g);
        return NULL;
    }
    g->epochs = e;
    g->epochs[g->n_epochs] = (struct rt__epoch){.set = set};
    return &g->epochs[g->n_epochs++];
}

rt_node *rt__param_read(rt_graph *g, rt_params *set, int index)
{
    const struct rt__epoch *e = epoch_of(g, set);
    if (!e) return &g->inert;
    rt__param_attr a;
    memset(&a, 0, sizeof a);
    a.set = set;
    a.entry = index;
    a.version = e->version;
    return rt__emit(g, RT_OP_param, &(rt_node *){e->update}, e->version > 0, &a);
}

static rt_node *param(rt_graph *g, rt_params *set, const char *name, int rank, const int64_t *shape, rt_init init, bool frozen)
{
    if (g->error.status != RT_OK) return &g->inert;
    if (rt_params_dtype(set) != g->real)
        return rt_fail(g, "set '%s' holds %s, the graph computes in %s", rt_params_name(set), rt_dtype_name(rt_params_dtype(set)),
                       rt_dtype_name(g->real));
    char key[512];
    snprintf(key, sizeof key, "%s%s%s", g->path, *g->path ? "." : "", name);
    int index;
    rt_error err = {0};
    if (rt_params_add(set, key, rank, shape, init, &index, &err) != RT_OK) return fail_text(g, err.status, "", err.text);
    if (frozen) ((rt_entry *)(uintptr_t)rt_params_entry(set, index))->frozen = true;
    return rt__param_read(g, set, index);
}

rt_node *rt_param(rt_graph *g, rt_params *set, const char *name, int rank, const int64_t *shape, rt_init init)
{
    return param(g, set, name, rank, shape, init, false);
}

rt_node *rt_param_frozen(rt_graph *g, rt_params *set, const char *name, int rank, const int64_t *shape, rt_init init)
{
    return param(g, set, name, rank, shape, init, true);
}

/* ---- updates */

rt_update rt_minimise(rt_node *loss, rt_params *set, const rt_optimiser *opt)
{
    rt_graph *g = loss->graph;
    rt_update u = {&g->inert, &g->inert, &g->inert, &g->inert, &g->inert};
    struct rt__epoch *e = rt__failed(loss) ? NULL : epoch_of(g, set);
    if (!e) return u;
    int n_all = rt_params_entries(set), n = 0;
    rt_node **weights = rt__graph_alloc(g, (size_t)n_all * sizeof *weights);
    rt_node **in = rt__graph_alloc(g, (size_t)(n_all + 4) * sizeof *in);
    if (!weights || !in) return u;
    for (int i = 0; i < n_all; i++)
        if (!rt_params_entry(set, i)->frozen) weights[n++] = rt__param_read(g, set, i);
    if (n == 0) {
        rt_fail(g, "set '%s' has nothing to train", rt_params_name(set));
        return u;
    }
    rt_grad(loss, weights, n, in + 4);

    char name[160];
    const char *which[] = {"lr", "t", "decay"};
    rt_node **slot[] = {&u.lr, &u.t, &u.decay};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.%s.%d", rt_params_name(set), which[i], e->version);
        *slot[i] = rt_input(g, name, g->real, 0, NULL);
    }
    in[0] = u.lr, in[1] = u.t, in[2] = u.decay, in[3] = rt__emit(g, RT_OP_norm2_all, in + 4, n, NULL);
    u.grad_norm = rt_sqrt(in[3]);
    rt__update_attr a;
    memset(&a, 0, sizeof a);
    a.set = set;
    a.version = e->version;
    a.opt.kind = opt->kind, a.opt.average = opt->average, a.opt.clip = opt->clip;
    a.opt.beta1 = opt->beta1, a.opt.beta2 = opt->beta2, a.opt.eps = opt->eps, a.opt.weight_decay = opt->weight_decay;
    u.node = rt__emit(g, RT_OP_update, in, n + 4, &a);
    e = epoch_of(g, set);
    if (e && !rt__failed(u.node)) {
        e->version++;
        e->update = u.node;
    }
    return u;
}
