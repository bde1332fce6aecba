/* device.c -- programs whose values lie on a device (row.h says what that is): memory, mirrors, runs.
 *
 *     on the device   block | clock | constants                  one allocation; arrays of sets are the sets' own
 *     pinned          clock | inputs, outputs | sums over ranks  what callers see, copied in every run
 *     a run           sets that moved on the host, prologue  |  up: clock, inputs; steps; down: outputs  |  finish
 *
 * Requests between the bars are the same in all runs of a kind and are recorded in its second run: they are then one request. */
#include "graph/program.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 64 };

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
void rt__device_enter(void) { pthread_mutex_lock(&lock); }
void rt__device_leave(void) { pthread_mutex_unlock(&lock); }

static size_t lines(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }
static bool is_op(const rt_node *n, rt__op_id id) { return n->op == rt__ops_f32[id]; }

static size_t bytes_of(const rt_program *p, const rt_node *n)
{
    rt_view v;
    rt__program_view(p, n, &v);
    return (size_t)v.count * rt_dtype_size(v.dtype);
}

/* A multiple of a line, as place_joins lays sums out. */
static size_t bytes_of_sum(const rt__sum *s) { return (size_t)s->count * rt_dtype_size(s->dtype); }

/* ---- memory */

static rt_status allocate(rt_program *p, rt_error *err)
{
    const rt_device *d = p->device;
    size_t constants = 0;
    for (int i = 0; i < p->n_nodes; i++)
        if (is_op(p->nodes[i], RT_OP_constant) && p->storage_of[i] >= 0) constants += lines(bytes_of(p, p->nodes[i]));
    size_t clock_at = lines(p->block_bytes + LINE), constants_at = clock_at + lines(sizeof *p->clock);
    p->device_bytes = constants_at + constants;
    if (!(p->block = d->alloc(p->device_bytes)))
        RT_RAISE(RT_E_MEMORY, "out of memory on the device: the program needs %zu MiB, %zu are free; use a smaller batch or --recompute",
                 (p->device_bytes >> 20) + 1, d->room() >> 20);
    p->clock = (rt_clock *)(void *)((char *)p->block + clock_at);
    char *at = (char *)p->block + constants_at;
    for (int i = 0; i < p->n_nodes; i++) {
        const rt_node *v = p->nodes[i];
        if (!is_op(v, RT_OP_constant) || p->storage_of[i] < 0) continue;
        d->upload(at, ((const rt__const_attr *)v->attr)->data, bytes_of(p, v));
        p->storages[p->storage_of[i]].data = at;
        at += lines(bytes_of(p, v));
    }
    return d->finish(err); /* constants are the caller's again */
}

/* The node of a mirror: an input, an output. */
static bool is_mirrored(const rt_program *p, const rt_node *v)
{
    return p->storage_of[v->id] >= 0 && (is_op(v, RT_OP_input) || p->is_output[v->id]);
}

rt_status rt__device_mirror(rt_program *p, rt_error *err)
{
    size_t bytes = lines(sizeof *p->clock);
    int n = 1;
    for (int i = 0; i < p->n_nodes; i++)
        if (is_mirrored(p, p->nodes[i])) bytes += lines(bytes_of(p, p->nodes[i])), n++;
    for (int k = 0; k < p->n_sums && !p->sums_there; k++) bytes += bytes_of_sum(&p->sums[k]);
    p->mirrors = rt__arena_alloc(&p->arena, (size_t)n * sizeof *p->mirrors);
    p->pinned = p->device->pin(p->pinned_bytes = bytes);
    if (!p->mirrors || !p->pinned)
        RT_RAISE(RT_E_MEMORY, "out of memory for %zu MiB of inputs and outputs; use a smaller batch", (bytes >> 20) + 1);
    p->mirrors[p->n_mirrors++] = (rt__mirror){.host = p->pinned, .device = p->clock, .bytes = sizeof *p->clock, .up = true};
    char *at = (char *)p->pinned + lines(sizeof *p->clock);
    for (int i = 0; i < p->n_nodes; i++) {
        const rt_node *v = p->nodes[i];
        if (!is_mirrored(p, v)) continue;
        rt__storage *s = &p->storages[p->storage_of[i]];
        rt__mirror *m = p->mirrors;
        while (m < p->mirrors + p->n_mirrors && m->device != s->data) m++; /* an output may be an input, or a view of another one */
        if (m == p->mirrors + p->n_mirrors) {
            p->n_mirrors++;
            *m = (rt__mirror){.host = s->mirror = at, .device = s->data, .bytes = bytes_of(p, v)};
            at += lines(m->bytes);
        }
        m->up |= is_op(v, RT_OP_input);
    }
    p->pinned_sums = at;
    return RT_OK;
}

static rt_status hold(rt_program *p, rt_params *set, unsigned roles, rt_error *err)
{
    int i = 0;
    while (i < p->n_sets && p->sets[i].set != set) i++;
    if (i == p->n_sets) {
        struct rt__held *sets = realloc(p->sets, (size_t)(i + 1) * sizeof *sets);
        if (!sets) RT_RAISE(RT_E_MEMORY, "out of memory for a program");
        p->sets = sets;
        p->sets[p->n_sets++] = (struct rt__held){.set = set};
    }
    p->sets[i].roles |= roles;
    return RT_OK;
}

static rt_status hold_sets(rt_program *p, rt_error *err)
{
    for (int i = 0; i < p->n_nodes; i++)
        if (is_op(p->nodes[i], RT_OP_param)) RT_TRY(hold(p, ((const rt__param_attr *)p->nodes[i]->attr)->set, 1u << RT_VALUE, err));
    for (int i = 0; i < p->n_steps; i++) {
        const rt__update_attr *a = p->steps[i].node->attr;
        if (p->steps[i].op->flags & RT_ROW_UPDATE) RT_TRY(hold(p, a->set, rt__update_roles(a), err));
    }
    return RT_OK;
}

rt_status rt__device_bind(rt_program *p, rt_error *err)
{
    RT_TRY(allocate(p, err));
    return hold_sets(p, err);
}

void rt__device_free(rt_program *p)
{
    for (int i = 0; i < p->n_recordings; i++)
        if (p->recordings[i].requests) p->device->forget(p->recordings[i].requests);
    free(p->recordings);
    free(p->sets);
    p->device->release(p->block, p->device_bytes);
    if (p->pinned) p->device->unpin(p->pinned, p->pinned_bytes);
}

/* ---- runs */

/* What is the same in all runs of a kind: which slice it is, as far as steps depend on it. */
static int kind_of(const rt_program *p, const rt_clock *clock)
{
    return (rt__carries(p, clock) + 1) << 2 | (rt__adds(p, clock) ? 2 : 0) | (clock->more ? 1 : 0);
}

/* NULL: memory is out, or there are no recordings. */
static rt__recording *recording_of(rt_program *p, int kind)
{
    if (!p->device->record || p->ranks || p->profile) return NULL;
    for (int i = 0; i < p->n_recordings; i++)
        if (p->recordings[i].kind == kind) return &p->recordings[i];
    rt__recording *all = realloc(p->recordings, (size_t)(p->n_recordings + 1) * sizeof *all);
    if (!all) return NULL;
    p->recordings = all;
    all[p->n_recordings] = (rt__recording){.kind = kind};
    return &all[p->n_recordings++];
}

/* The joins' sums over ranks: on the device where it has joined them, else by way of the host. */
static rt_status sum_over_ranks(rt_program *p, rt_error *err)
{
    const rt_device *d = p->device;
    rt__sum here[RT_DTYPES];
    rt_status status = p->sums_there ? d->sum(p->sums, p->n_sums) : RT_OK;
    if (status != RT_OK) RT_RAISE(status, "the sum over %d ranks failed", rt_ranks_size(p->ranks));
    if (p->sums_there) return RT_OK;
    char *at = p->pinned_sums;
    for (int k = 0; k < p->n_sums; k++) {
        here[k] = (rt__sum){at, p->sums[k].count, p->sums[k].dtype};
        d->download(at, p->sums[k].data, bytes_of_sum(&here[k]));
        at += bytes_of_sum(&here[k]);
    }
    RT_TRY(d->finish(err));
    RT_TRY(rt__ranks_sum(p->ranks, here, p->n_sums, err));
    for (int k = 0; k < p->n_sums; k++) d->upload(p->sums[k].data, here[k].data, bytes_of_sum(&here[k]));
    return RT_OK;
}

static rt_status request(rt_program *p, const rt_clock *clock, rt_error *err)
{
    const rt_device *d = p->device;
    for (int i = 0; i < p->n_mirrors; i++)
        if (p->mirrors[i].up && !p->mirrors[i].held) d->upload(p->mirrors[i].device, p->mirrors[i].host, p->mirrors[i].bytes);
    RT_TRY(rt__run_samples(p, clock, err));
    if (!clock->more && p->ranks) RT_TRY(sum_over_ranks(p, err));
    if (!clock->more) RT_TRY(rt__run_joined(p, clock, err));
    for (int i = 0; i < p->n_mirrors; i++)
        if (!p->mirrors[i].up && !p->mirrors[i].held) d->download(p->mirrors[i].host, p->mirrors[i].device, p->mirrors[i].bytes);
    return RT_OK;
}

/* A kind's first run, and its first after the prologue ran again, is requested piece by piece: there rows make what they keep. */
static rt_status request_or_replay(rt_program *p, const rt_clock *clock, rt_error *err)
{
    const rt_device *d = p->device;
    rt__recording *r = recording_of(p, kind_of(p, clock));
    if (!r || r->version != p->version) {
        if (r) r->version = p->version;
        return request(p, clock, err);
    }
    if (!r->requests) {
        d->record();
        rt_status status = request(p, clock, err);
        void *requests = d->recorded();
        if (status != RT_OK && requests) d->forget(requests);
        RT_TRY(status);
        if (!requests) return request(p, clock, err);
        r->requests = requests;
    }
    d->replay(r->requests);
    return RT_OK;
}

static void read_moments(rt_program *p)
{
    for (int i = 0; i < p->n_steps; i++) {
        rt__step *s = &p->steps[i];
        if (!s->marked) continue;
        s->seconds += p->device->moment(2 * i + 1) - p->device->moment(2 * i);
        s->calls++;
        s->marked = false;
    }
}

rt_status rt__device_end(rt_program *p, rt_status status, rt_error *err)
{
    rt_error words = {0};
    rt_status done = p->device->finish(&words); /* in any case: requests name memory of the host */
    if (done == RT_OK) return status;
    if (status == RT_OK) return rt_error_set(err, done, "%s", words.text);
    rt_error_prefix(err, "%s", words.text);
    if (err) err->status = done;
    return done;
}

rt_status rt__device_run(rt_program *p, const rt_clock *clock, rt_error *err)
{
    for (int i = 0; i < p->n_sets; i++)
        for (rt_role role = 0; role < RT_ROLES; role++)
            if (p->sets[i].roles >> role & 1) rt__params_push(p->sets[i].set, role);
    *(rt_clock *)p->pinned = *clock;
    rt_status status = rt__run_prologue(p, clock, err);
    if (status == RT_OK) status = request_or_replay(p, clock, err);
    RT_TRY(rt__device_end(p, status, err));
    read_moments(p);
    for (int i = 0; i < p->n_steps && !clock->more; i++) {
        const rt__update_attr *a = p->steps[i].node->attr;
        if (p->steps[i].op->flags & RT_ROW_UPDATE) rt__params_moved(a->set, rt__update_roles(a));
    }
    return RT_OK;
}
