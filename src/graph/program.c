/* program.c -- compiling and running: buffers and kernels are bound once, a run is a walk over the steps. */
#include "graph/program.h"

#include "graph/apart.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- backends: each falls back on the rows' own kernels */

static const char *no_version(void) { return "1"; }
const rt_backend rt__backend_reference = {.name = "reference", .version = no_version};

enum { ADDED = 4 };
static const rt_backend *backends[] = {
#ifdef RETORT_ONEDNN
    &rt__backend_onednn,
#endif
    &rt__backend_reference, [ADDED + 2] = NULL};
static const char *names[RT_COUNT(backends)] = {
#ifdef RETORT_ONEDNN
    "onednn",
#endif
    "reference"};

void rt__backend_add(const rt_backend *b)
{
    size_t n = 0;
    while (backends[n]) n++;
    if (n + 1 < RT_COUNT(backends)) backends[n] = b, names[n] = b->name;
}

const char *const *rt_backend_names(void) { return names; }

const rt_backend *rt_backend_find(const char *name)
{
    for (size_t i = 0; backends[i]; i++)
        if (!name || !strcmp(backends[i]->name, name)) return backends[i];
    return NULL;
}

const char *rt_backend_name(const rt_backend *b) { return b->name; }
const char *rt_backend_version(const rt_backend *b) { return b->version(); }

bool rt_backend_computes(const rt_backend *b, rt_dtype type)
{
    if (!b) b = rt_backend_find(NULL);
    return type == RT_F32 || (type == RT_BF16 && b->bf16 && b->bf16());
}

/* ---- compiling */

static rt_status check_spec(const rt_graph *g, const rt_program_spec *spec, rt_error *err)
{
    RT_TRY(rt_graph_status(g, err));
    if (spec->batch < 1 || spec->batch > INT32_MAX)
        RT_RAISE(RT_E_USAGE, "a batch of %lld samples; give 1 to %d", (long long)spec->batch, INT32_MAX);
    if (spec->n_outputs + spec->n_updates < 1) RT_RAISE(RT_E_INTERNAL, "a program without outputs and updates");
    for (int i = 0; i < spec->n_updates; i++)
        if (!(spec->updates[i]->op->flags & RT_ROW_UPDATE)) RT_RAISE(RT_E_INTERNAL, "%s is not an update", spec->updates[i]->op->name);
    return RT_OK;
}

/* Roles that the updates need must exist before buffers are bound. */
static rt_status allocate_roles(const rt_program_spec *spec, rt_error *err)
{
    for (int i = 0; i < spec->n_updates; i++) {
        const rt__update_attr *a = spec->updates[i]->attr;
        bool moments = a->opt.kind != RT_SGD, ok = rt_params_data(a->set, RT_VALUE) && rt_params_data(a->set, RT_MOMENT1);
        if (moments) ok = ok && rt_params_data(a->set, RT_MOMENT2);
        if (a->opt.average) ok = ok && rt_params_data(a->set, RT_AVERAGE);
        if (!ok) RT_RAISE(RT_E_MEMORY, "out of memory for the optimiser state of '%s'", rt_params_name(a->set));
    }
    return RT_OK;
}

static bool has_bf16(const rt_call *c)
{
    bool any = c->out.dtype == RT_BF16;
    for (int i = 0; i < c->n_in; i++) any |= c->in[i].dtype == RT_BF16;
    return any;
}

/* Only sets that the program does not update can feed the prologue. */
static bool updates_set(const rt_program *p, const rt_params *set)
{
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].op->flags & RT_ROW_UPDATE && ((const rt__update_attr *)p->steps[i].node->attr)->set == set) return true;
    return false;
}

/* By id of a copy: does its value stay as it is from one run of the prologue to the next? */
static bool *find_fixed(rt_program *p)
{
    bool *fixed = rt__arena_alloc(&p->arena, (size_t)p->n_nodes + 1);
    for (int i = 0; i < p->n_prologue && fixed; i++) fixed[p->steps[i].node->id] = true;
    for (int i = 0; i < p->n_nodes && fixed; i++) {
        const rt_node *v = p->nodes[i];
        const rt__param_attr *a = v->attr;
        if (v->op == rt__ops_f32[RT_OP_constant]) fixed[i] = true;
        if (v->op == rt__ops_f32[RT_OP_param]) fixed[i] = a->version == 0 && !updates_set(p, a->set);
        if (v->op->flags & RT_ROW_VIEW) fixed[i] = fixed[v->in[0]->id];
    }
    return fixed;
}

/* What a backend says of a step that it could not prepare or run. */
static rt_status failed(const rt_program *p, const rt__step *s, rt_status fault, rt_error *err)
{
    double mib = s->bytes / (1 << 20);
    if (fault == RT_E_MEMORY)
        RT_RAISE(
            fault,
            "%s: %s is out of memory for %s, beside the %.3g MiB that it reads and writes; allow more (ulimit -v) or use a smaller batch",
            s->node->path, p->backend->name, s->op->name, mib);
    RT_RAISE(fault, "%s: %s failed in %s of %.3g MiB; please report this", s->node->path, p->backend->name, s->op->name, mib);
}

/* The steps' calls, and what runs them with how much scratch; no memory of values yet. */
static rt_status prepare(rt_program *p, rt_choices *choices, rt_error *err)
{
    const bool *fixed = find_fixed(p);
    if (!fixed) RT_RAISE(RT_E_MEMORY, "out of memory for a program");
    for (int i = 0; i < p->n_steps; i++) {
        rt__step *s = &p->steps[i];
        rt_call *c = &s->call;
        rt_view *in = rt__arena_alloc(&p->arena, (size_t)s->node->n_in * sizeof *in);
        if (!in) RT_RAISE(RT_E_MEMORY, "out of memory for a program");
        *c = (rt_call){.node = s->node, .n_in = s->node->n_in, .in = in, .choices = choices};
        for (int j = 0; j < c->n_in; j++) {
            rt__program_view(p, s->node->in[j], &in[j]);
            s->bytes += (double)in[j].count * (double)rt_dtype_size(in[j].dtype);
            if (i >= p->n_prologue && j < 32 && fixed[s->node->in[j]->id]) c->fixed |= 1u << j;
        }
        rt__program_view(p, s->node, &c->out);
        s->bytes += (double)c->out.count * (double)rt_dtype_size(c->out.dtype);
        if (s->node->rider) {
            rt__program_view(p, s->node->rider, &c->side);
            s->bytes += (double)c->side.count * (double)rt_dtype_size(c->side.dtype);
        }
        s->flop = s->op->flop ? s->op->flop(c) : (double)c->out.count;
        rt_status fault = RT_OK;
        c->fault = &fault;
        if (p->backend->prepare && p->graph->real == RT_F32) c->state = p->backend->prepare(c, p->threads, &s->scratch);
        c->choices = NULL;
        c->fault = NULL;
        if (c->state) s->backend = p->backend;
        if (fault != RT_OK) return failed(p, s, fault, err);
        if (!c->state && p->bf16 && s->op->type == RT_TYPE_BACKEND && has_bf16(c))
            RT_RAISE(RT_E_INTERNAL, "%s: %s has no %s in bf16", s->node->path, p->backend->name, s->op->name);
        if (!c->state) s->scratch = s->kernel->scratch ? s->kernel->scratch(c) : 0;
        s->kept = s->backend && s->backend->kept ? s->backend->kept(c->state) : 0;
    }
    return RT_OK;
}

static rt_status bind(rt_program *p, rt_error *err)
{
    if (!(p->block = rt__block_new(p->block_bytes + 64, !p->rehearsal)))
        RT_RAISE(RT_E_MEMORY, "out of memory: the program needs %zu MiB; use a smaller batch", p->block_bytes >> 20);
    if (p->rehearsal) rt_rehearsal_reserve(p->rehearsal, (int64_t)p->block_bytes);
    for (int i = 0; i < p->n_storages; i++)
        if (p->storages[i].offset >= 0) p->storages[i].data = (char *)p->block + p->storages[i].offset;
    for (int i = 0; i < p->n_steps; i++) {
        rt__step *s = &p->steps[i];
        rt_call *c = &s->call;
        for (int j = 0; j < c->n_in; j++) ((rt_view *)(uintptr_t)c->in)[j].data = p->storages[p->storage_of[s->node->in[j]->id]].data;
        c->out.data = p->storages[p->storage_of[s->node->id]].data;
        if (s->node->rider) c->side.data = p->storages[p->storage_of[s->node->rider->id]].data;
        if (s->kept_at >= 0) c->kept = p->storages[s->kept_at].data;
        if (s->scratch_at < 0) continue;
        rt__storage *at = &p->storages[s->scratch_at];
        if (s->scratch > 0) c->scratch = at->data;
        if (s->join && !p->mixed) s->partial = (char *)at->data + (s->scratch + 63) / 64 * 64;
    }
    return RT_OK;
}

static rt_status watch_sets(rt_program *p, rt_error *err)
{
    for (int i = 0; i < p->n_nodes; i++) {
        const rt_node *v = p->nodes[i];
        if (p->storage_of[i] < 0 || v->op != rt__ops_f32[RT_OP_param]) continue;
        rt_params *set = ((const rt__param_attr *)v->attr)->set;
        bool known = updates_set(p, set);
        for (int j = 0; j < p->n_watch; j++) known |= p->watch[j].set == set;
        if (known) continue;
        struct rt__watch *watch = realloc(p->watch, (size_t)(p->n_watch + 1) * sizeof *watch);
        if (!watch) RT_RAISE(RT_E_MEMORY, "out of memory for a program");
        p->watch = watch;
        p->watch[p->n_watch++] = (struct rt__watch){.set = set};
    }
    return RT_OK;
}

static rt_status list_sums(rt_program *p, rt_error *err)
{
    if (p->mixed) RT_RAISE(RT_E_USAGE, "%s: %s needs all samples of a batch at once; run on one rank", p->mixed->path, p->mixed->op->name);
    p->sums = rt__arena_alloc(&p->arena, (size_t)p->n_steps * sizeof *p->sums);
    if (!p->sums) RT_RAISE(RT_E_MEMORY, "out of memory for a program");
    for (int i = 0; i < p->n_steps; i++) {
        const rt_view *v = &p->steps[i].call.out;
        if (p->steps[i].join) p->sums[p->n_sums++] = (rt__sum){v->data, v->count, v->dtype};
    }
    return RT_OK;
}

rt_status rt_compile(rt_program **program, rt_graph *g, const rt_program_spec *spec, rt_error *err)
{
    *program = NULL;
    RT_TRY(rt_isa_choose(NULL, err));
    RT_TRY(check_spec(g, spec, err));
    rt_program *p = calloc(1, sizeof *p);
    if (!p) RT_RAISE(RT_E_MEMORY, "out of memory for a program");
    p->graph = g;
    p->rehearsal = spec->rehearsal;
    p->batch = spec->batch;
    p->backend = spec->backend ? spec->backend : rt_backend_find(NULL);
    p->threads = spec->threads > 0 ? spec->threads : rt_default_threads();
    p->shard = spec->shard;
    for (int shards = spec->shards; shards > 1; shards /= 2) p->levels++;
    p->ranks = rt_ranks_size(spec->ranks) > 1 ? spec->ranks : NULL;
    p->bf16 = spec->compute == RT_BF16 && g->real == RT_F32 && rt_backend_computes(p->backend, RT_BF16);
    rt_status status = allocate_roles(spec, err);
    if (status == RT_OK) status = rt__lower(p, spec, err);
    if (status == RT_OK && spec->recompute && p->lowered[spec->recompute->id]) status = rt__recompute(p, spec, err);
    if (status == RT_OK) status = rt__plan(p, spec, err);
    if (status == RT_OK) status = rt__start_threads(p->threads, err);
    if (status == RT_OK) status = prepare(p, spec->rehearsal ? NULL : spec->choices, err);
    if (status == RT_OK) status = rt__place(p, err);
    if (status == RT_OK) status = bind(p, err);
    if (status == RT_OK) status = watch_sets(p, err);
    if (status == RT_OK && p->ranks) status = list_sums(p, err);
    if (status == RT_OK) status = rt__check_plan(p, err);
    if (status != RT_OK) {
        rt_program_free(p);
        return status;
    }
    *program = p;
    return RT_OK;
}

void rt_program_free(rt_program *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].backend && p->steps[i].backend->release) p->steps[i].backend->release(p->steps[i].call.state);
    if (p->rehearsal) rt_rehearsal_reserve(p->rehearsal, p->block ? -(int64_t)p->block_bytes : 0);
    rt__block_free(p->block, p->block_bytes + 64);
    free(p->watch);
    free(p->rows);
    rt__arena_free(&p->arena);
    free(p);
}

/* ---- running */

static rt_status run_step(rt_program *p, rt__step *s, const rt_clock *clock, rt_error *err)
{
    rt_call *c = &s->call;
    rt_status fault = RT_OK;
    c->clock = clock;
    c->fault = &fault;
    c->version = p->version;
    void *sum = c->out.data;
    bool add = s->join && clock->resumed && !(p->shard > 0 && clock->first % p->shard == 0);
    if (add) c->out.data = s->partial;
    double t0 = p->profile ? rt__seconds() : 0;
    (s->backend ? s->backend->run : s->kernel->run)(c);
    c->fault = NULL;
    c->out.data = sum;
    if (fault != RT_OK) return failed(p, s, fault, err);
    if (add) rt__add_into(sum, s->partial, c->out.count, c->out.dtype);
    if (p->profile) s->seconds += rt__seconds() - t0, s->calls++;
    if (s->op->flags & RT_ROW_UPDATE) rt_params_touch(((const rt__update_attr *)s->node->attr)->set);
    return RT_OK;
}

/* At the end of shard k of this rank (from 0), two sums of as many shards become one, as carries run in a binary counter: sums of 1, 2, 4 .. shards wait behind
 * the join's own place. */
static void fold_shards(rt_program *p, const rt_clock *clock)
{
    int64_t end = clock->first + p->batch;
    if (p->levels == 0 || p->mixed || end % p->shard) return;
    int64_t k = (end / p->shard - 1) % ((int64_t)1 << p->levels);
    for (int i = p->n_prologue; i < p->n_steps; i++) {
        const rt__step *s = &p->steps[i];
        const rt_view *v = &s->call.out;
        if (!s->join) continue;
        size_t bytes = (size_t)v->count * rt_dtype_size(v->dtype), hop = (bytes + 63) / 64 * 64;
        char *level = (char *)v->data + hop;
        for (int64_t carry = k; carry & 1; carry >>= 1, level += hop) rt__add_into(v->data, level, v->count, v->dtype);
        if (clock->more) memcpy(level, v->data, bytes);
    }
}

static void look_at_threads(rt_program *p)
{
    static const double seconds = 0.01; /* between two looks */
    double t = p->threads > 1 ? rt__seconds() : 0;
    if (t - p->looked < seconds) return;
    p->looked = t;
    rt__move_apart(p->threads);
}

rt_status rt_run(rt_program *p, const rt_clock *clock, rt_error *err)
{
    rt_clock at = *clock;
    if (at.total == 0) at.total = p->batch;
    if ((at.more || at.resumed) && p->mixed)
        RT_RAISE(RT_E_USAGE, "%s: %s needs all samples of a batch at once; run without slices", p->mixed->path, p->mixed->op->name);
    if (p->rehearsal) {
        rt_rehearsal_reserve(p->rehearsal, 0);
        return RT_OK;
    }
    RT_TRY(rt__start_threads(p->threads, err));
    look_at_threads(p);
    bool stale = p->version == 0;
    for (int i = 0; i < p->n_watch; i++) stale |= p->watch[i].version != rt_params_version(p->watch[i].set);
    if (stale) {
        p->version++;
        for (int i = 0; i < p->n_prologue; i++) RT_TRY(run_step(p, &p->steps[i], &at, err));
        for (int i = 0; i < p->n_watch; i++) p->watch[i].version = rt_params_version(p->watch[i].set);
    }
    int joined = p->n_prologue; /* the first step that waits for sums over the batch */
    for (; joined < p->n_steps && (p->mixed || p->steps[joined].stage != RT_STAGE_JOINED); joined++)
        RT_TRY(run_step(p, &p->steps[joined], &at, err));
    fold_shards(p, &at);
    if (at.more) return RT_OK;
    if (p->ranks) RT_TRY(rt__ranks_sum(p->ranks, p->sums, p->n_sums, err));
    for (int i = joined; i < p->n_steps; i++) RT_TRY(run_step(p, &p->steps[i], &at, err));
    return RT_OK;
}

void *rt_program_data(rt_program *p, const rt_node *node)
{
    if (node->graph != p->graph || node->id < 0 || node->id >= p->n_lowered || !p->lowered[node->id]) return NULL;
    const rt_node *copy = p->lowered[node->id];
    while (node->op == rt__ops_f32[RT_OP_input] && copy->op != node->op) copy = copy->in[0]; /* what callers write is plain */
    if (p->storage_of[copy->id] < 0) return NULL;
    return p->is_output[copy->id] || node->op == rt__ops_f32[RT_OP_input] ? p->storages[p->storage_of[copy->id]].data : NULL;
}

int64_t rt_program_count(const rt_program *p, const rt_node *node)
{
    rt_view v;
    rt__program_view(p, node, &v);
    return v.count;
}

size_t rt_program_bytes(const rt_program *p) { return p->block_bytes; }
void rt_program_profile(rt_program *p, bool on) { p->profile = on; }

double rt_program_flop(const rt_program *p)
{
    double flop = 0;
    for (int i = p->n_prologue; i < p->n_steps; i++) flop += p->steps[i].flop;
    return flop;
}

static int by_seconds(const void *a, const void *b)
{
    double x = ((const rt_profile_row *)a)->seconds, y = ((const rt_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

int rt_program_profile_rows(rt_program *p, const rt_profile_row **rows)
{
    free(p->rows);
    p->rows = calloc(RT_OPS, sizeof *p->rows);
    int n = 0;
    for (int i = 0; i < p->n_steps && p->rows; i++) {
        const rt__step *s = &p->steps[i];
        int k = 0;
        while (k < n && p->rows[k].op != s->op->name) k++;
        if (k == n) p->rows[n++].op = s->op->name;
        p->rows[k].calls += s->calls;
        p->rows[k].seconds += s->seconds;
        p->rows[k].flop += s->flop * (double)s->calls;
        p->rows[k].bytes += s->bytes * (double)s->calls;
        if (s->bytes <= RT_PROFILE_CACHED) p->rows[k].cached += s->bytes * (double)s->calls;
    }
    if (p->rows) qsort(p->rows, (size_t)n, sizeof *p->rows, by_seconds);
    *rows = p->rows;
    return n;
}
