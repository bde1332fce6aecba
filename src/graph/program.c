/* program.c -- compiling and running: buffers and kernels are bound once, a run is a walk over the steps. */
#include "graph/program.h"

#include "graph/apart.h"

#include <omp.h>
#include <stdio.h>
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
    &rt__backend_reference, &rt__backend_cuda, [ADDED + 3] = NULL};
static const char *names[RT_COUNT(backends)] = {
#ifdef RETORT_ONEDNN
    "onednn",
#endif
    "reference", "cuda"};

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

rt_status rt_backend_open(const rt_backend *b, rt_error *err) { return b->device ? (b->device->open)(err) : RT_OK; }

bool rt_backend_apart(const rt_backend *b) { return b && b->device; }

rt_status rt_backend_join(const rt_backend *b, rt_ranks *r, char how[RT_ERROR_TEXT], rt_error *err)
{
    char text[RT_JOIN_TEXT] = "sums over ranks go by the host";
    bool joined;
    *how = 0;
    if (!b->device || rt_ranks_size(r) == 1) return RT_OK;
    rt__device_enter();
    rt_status status = b->device->join ? b->device->join(r, &joined, text, err) : RT_OK;
    rt__device_leave();
    if (status == RT_OK) snprintf(how, RT_ERROR_TEXT, "%s", text);
    return status;
}

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
static rt_status allocate_roles(const rt_program *p, const rt_program_spec *spec, rt_error *err)
{
    void *at;
    for (int i = 0; i < spec->n_updates; i++) {
        const rt__update_attr *a = spec->updates[i]->attr;
        for (rt_role role = 0; role < RT_ROLES; role++)
            if (rt__update_roles(a) >> role & 1) RT_TRY(rt__params_on(a->set, role, p->device, &at, err));
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

/* Rows that a backend lacks whose programs are its own as a whole. */
static rt_status name_missing(const rt_program *p, rt_error *err)
{
    char list[512] = "";
    int missing = 0;
    for (int i = 0; i < p->n_steps; i++) {
        const rt_op *op = p->steps[i].op;
        bool named = p->steps[i].backend != NULL;
        for (int j = 0; j < i && !named; j++) named = p->steps[j].op == op && !p->steps[j].backend;
        size_t n = strlen(list);
        if (named) continue;
        if (n + 2 < sizeof list) snprintf(list + n, sizeof list - n, "%s%s", missing > 0 ? ", " : "", op->name);
        missing++;
    }
    if (missing == 0) return RT_OK;
    RT_RAISE(RT_E_USAGE, "backend %s lacks %d of this program's operators: %s; use another backend", p->backend->name, missing, list);
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
    RT_RAISE(fault, "%s: %s failed in %s of %.3g MiB%s", s->node->path, p->backend->name, s->op->name, mib,
             fault == RT_E_DEVICE ? "" : "; please report this");
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
    return p->backend->device ? name_missing(p, err) : RT_OK;
}

/* Adds what the program takes to what is reserved, or (-1) takes it away; sets that a device would hold stay there. */
static void rehearse(rt_program *p, int sign)
{
    rt_rehearsal *r = p->rehearsal;
    const rt_device *device = p->backend->device;
    for (int i = 0; i < p->n_steps && sign > 0 && !device; i++) { /* zeros are written to moments, so that their pages count in the peak */
        const rt__update_attr *a = p->steps[i].node->attr;
        for (rt_role role = RT_MOMENT1; role <= RT_MOMENT2 && p->steps[i].op->flags & RT_ROW_UPDATE; role++)
            if (rt__update_roles(a) >> role & 1 && rt_params_data(a->set, role)) rt_params_zero(a->set, role);
    }
    rt_rehearsal_reserve(r, device ? 0 : sign * (int64_t)p->block_bytes);
    if (!device) return;
    r->device_reserved += sign * (int64_t)p->block_bytes;
    for (int i = 0; i < p->n_nodes && sign > 0; i++) {
        const rt_node *v = p->nodes[i];
        if (v->op == rt__ops_f32[RT_OP_param]) r->device_reserved += rt__params_rehearse(((const rt__param_attr *)v->attr)->set, RT_VALUE);
    }
    for (int i = 0; i < p->n_steps && sign > 0; i++) {
        const rt__update_attr *a = p->steps[i].node->attr;
        for (rt_role role = 0; role < RT_ROLES && p->steps[i].op->flags & RT_ROW_UPDATE; role++)
            if (rt__update_roles(a) >> role & 1) r->device_reserved += rt__params_rehearse(a->set, role);
    }
    if (r->device_reserved > r->device_peak) r->device_peak = r->device_reserved;
}

static rt_status bind(rt_program *p, rt_error *err)
{
    if (p->device)
        RT_TRY(rt__device_bind(p, err));
    else if (!(p->block = rt__block_new(p->block_bytes + 64, !p->rehearsal)))
        RT_RAISE(RT_E_MEMORY, "out of memory: the program needs %zu MiB; use a smaller batch", p->block_bytes >> 20);
    if (p->rehearsal) rehearse(p, 1);
    for (int i = 0; i < p->n_storages; i++)
        if (p->storages[i].offset >= 0) p->storages[i].data = (char *)p->block + p->storages[i].offset;
    for (int i = 0; i < p->n_steps; i++) {
        rt__step *s = &p->steps[i];
        rt_call *c = &s->call;
        for (int j = 0; j < c->n_in; j++) ((rt_view *)(uintptr_t)c->in)[j].data = p->storages[p->storage_of[s->node->in[j]->id]].data;
        c->out.data = p->storages[p->storage_of[s->node->id]].data;
        if (s->node->rider) c->side.data = p->storages[p->storage_of[s->node->rider->id]].data;
        if (s->kept_at >= 0) c->kept = p->storages[s->kept_at].data;
        if (s->op->flags & RT_ROW_UPDATE) {
            const rt__update_attr *a = s->node->attr;
            for (rt_role role = 0; role < RT_ROLES; role++)
                if (rt__update_roles(a) >> role & 1) RT_TRY(rt__params_on(a->set, role, p->device, &c->roles[role], err));
        }
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
    for (rt_dtype type = 0; type < RT_DTYPES; type++) {
        size_t bytes = p->joins[type + 1] - p->joins[type];
        if (bytes > 0) p->sums[p->n_sums++] = (rt__sum){(char *)p->block + p->joins[type], (int64_t)(bytes / rt_dtype_size(type)), type};
    }
    return RT_OK;
}

static rt_status compile(rt_program *p, const rt_program_spec *spec, rt_error *err)
{
    RT_TRY(allocate_roles(p, spec, err));
    RT_TRY(rt__lower(p, spec, err));
    if (spec->recompute && p->lowered[spec->recompute->id]) RT_TRY(rt__recompute(p, spec, err));
    RT_TRY(rt__plan(p, spec, err));
    RT_TRY(rt__start_threads(p->threads, err));
    RT_TRY(prepare(p, spec->rehearsal ? NULL : spec->choices, err));
    RT_TRY(rt__place(p, err));
    RT_TRY(bind(p, err));
    RT_TRY(watch_sets(p, err));
    if (p->ranks) RT_TRY(list_sums(p, err));
    if (p->device) RT_TRY(rt__device_mirror(p, err));
    return rt__check_plan(p, err);
}

/* A rehearsal's values lie nowhere. */
static rt_status open_device(rt_program *p, rt_error *err)
{
    const rt_device *device = p->backend->device;
    if (!device) return RT_OK;
    if (p->graph->real != RT_F32) RT_RAISE(RT_E_USAGE, "backend %s computes in float, and this program in double", p->backend->name);
    RT_TRY(device->open(err));
    if (p->rehearsal) return RT_OK;
    p->device = device;
    char how[RT_JOIN_TEXT];
    return p->ranks && device->join ? device->join(p->ranks, &p->sums_there, how, err) : RT_OK;
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
    bool on_device = p->backend->device != NULL;
    if (on_device) rt__device_enter();
    rt_status status = open_device(p, err);
    if (status == RT_OK) status = compile(p, spec, err);
    if (status != RT_OK && p->device) status = rt__device_end(p, status, err);
    if (status != RT_OK)
        rt_program_free(p);
    else
        *program = p;
    if (on_device) rt__device_leave();
    return status;
}

void rt_program_free(rt_program *p)
{
    if (!p) return;
    if (p->device) rt__device_enter();
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].backend && p->steps[i].backend->release) p->steps[i].backend->release(p->steps[i].call.state);
    if (p->rehearsal && p->block) rehearse(p, -1);
    if (p->device) {
        rt__device_free(p);
        rt__device_leave();
    } else {
        rt__block_free(p->block, p->block_bytes + 64);
    }
    free(p->watch);
    free(p->rows);
    rt__arena_free(&p->arena);
    free(p);
}

/* ---- running */

bool rt__adds(const rt_program *p, const rt_clock *clock) { return clock->resumed && !(p->shard > 0 && clock->first % p->shard == 0); }

static void add_into(const rt_program *p, void *to, const void *from, const rt_view *v)
{
    (p->device ? p->device->add : rt__add_into)(to, from, v->count, v->dtype);
}

static rt_status run_step(rt_program *p, rt__step *s, const rt_clock *clock, rt_error *err)
{
    rt_call *c = &s->call;
    rt_status fault = RT_OK;
    int number = (int)(s - p->steps);
    c->clock = p->device ? p->clock : clock;
    c->fault = &fault;
    c->version = p->version;
    void *sum = c->out.data;
    bool add = s->join && rt__adds(p, clock);
    if (add) c->out.data = s->partial;
    double t0 = p->profile && !p->device ? rt__seconds() : 0;
    if (p->profile && p->device) p->device->mark(2 * number);
    (s->backend ? s->backend->run : s->kernel->run)(c);
    c->fault = NULL;
    c->out.data = sum;
    if (fault != RT_OK) return failed(p, s, fault, err);
    if (add) add_into(p, sum, s->partial, &c->out);
    if (p->profile && !p->device) s->seconds += rt__seconds() - t0, s->calls++;
    if (p->profile && p->device) p->device->mark(2 * number + 1), s->marked = true;
    if (s->op->flags & RT_ROW_UPDATE && !p->device) rt_params_touch(((const rt__update_attr *)s->node->attr)->set);
    return RT_OK;
}

/* At the end of shard k of this rank (from 0), two sums of as many shards become one, as carries run in a binary counter: sums of 1, 2, 4 .. shards wait behind
 * all joins' own places. */
int rt__carries(const rt_program *p, const rt_clock *clock)
{
    int64_t end = clock->first + p->batch;
    if (p->levels == 0 || p->mixed || end % p->shard) return -1;
    int carries = 0;
    for (int64_t k = (end / p->shard - 1) % ((int64_t)1 << p->levels); k & 1; k >>= 1) carries++;
    return carries;
}

static void fold_shards(rt_program *p, const rt_clock *clock)
{
    int carries = rt__carries(p, clock);
    for (int i = p->n_prologue; i < p->n_steps && carries >= 0; i++) {
        const rt__step *s = &p->steps[i];
        const rt_view *v = &s->call.out;
        if (!s->join) continue;
        size_t bytes = (size_t)v->count * rt_dtype_size(v->dtype), hop = p->joins[RT_DTYPES];
        char *level = (char *)v->data + hop;
        for (int k = 0; k < carries; k++, level += hop) add_into(p, v->data, level, v);
        if (!clock->more) continue;
        if (p->device)
            p->device->copy(level, v->data, bytes);
        else
            memcpy(level, v->data, bytes);
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

rt_status rt__run_prologue(rt_program *p, const rt_clock *clock, rt_error *err)
{
    bool stale = p->version == 0;
    for (int i = 0; i < p->n_watch; i++) stale |= p->watch[i].version != rt_params_version(p->watch[i].set);
    if (!stale) return RT_OK;
    p->version++;
    for (int i = 0; i < p->n_prologue; i++) RT_TRY(run_step(p, &p->steps[i], clock, err));
    for (int i = 0; i < p->n_watch; i++) p->watch[i].version = rt_params_version(p->watch[i].set);
    return RT_OK;
}

/* The first step that waits for sums over the batch. */
static int first_joined(const rt_program *p)
{
    int i = p->n_prologue;
    while (i < p->n_steps && (p->mixed || p->steps[i].stage != RT_STAGE_JOINED)) i++;
    return i;
}

rt_status rt__run_samples(rt_program *p, const rt_clock *clock, rt_error *err)
{
    for (int i = p->n_prologue, end = first_joined(p); i < end; i++) RT_TRY(run_step(p, &p->steps[i], clock, err));
    fold_shards(p, clock);
    return RT_OK;
}

rt_status rt__run_joined(rt_program *p, const rt_clock *clock, rt_error *err)
{
    for (int i = first_joined(p); i < p->n_steps; i++) RT_TRY(run_step(p, &p->steps[i], clock, err));
    return RT_OK;
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
    if (p->device) {
        rt__device_enter();
        rt_status status = rt__device_run(p, &at, err);
        rt__device_leave();
        return status;
    }
    RT_TRY(rt__run_prologue(p, &at, err));
    RT_TRY(rt__run_samples(p, &at, err));
    if (at.more) return RT_OK;
    if (p->ranks) RT_TRY(rt__ranks_sum(p->ranks, p->sums, p->n_sums, err));
    return rt__run_joined(p, &at, err);
}

void *rt_program_data(rt_program *p, const rt_node *node)
{
    if (node->graph != p->graph || node->id < 0 || node->id >= p->n_lowered || !p->lowered[node->id]) return NULL;
    const rt_node *copy = p->lowered[node->id];
    while (node->op == rt__ops_f32[RT_OP_input] && copy->op != node->op) copy = copy->in[0]; /* what callers write is plain */
    if (p->storage_of[copy->id] < 0) return NULL;
    if (!p->is_output[copy->id] && node->op != rt__ops_f32[RT_OP_input]) return NULL;
    const rt__storage *s = &p->storages[p->storage_of[copy->id]];
    return s->mirror ? s->mirror : s->data;
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
