/* emulated_device.h -- a device for tests, on the processor: what an engine may get wrong of another's memory shows here.
 *
 * Every block is a mapping of its own, full of NaN, that faults when it is touched, but while requests are carried out: by finish, all at once, in order. A request
 * knows nothing but what it was told: calls are copied, what an upload reads must still be what it was when that was asked for, and what a download
 * writes is garbage until it is done. Rows are the reference's. A backend of other rows takes `emulated_request` for its `run`. */
#ifndef RT_TESTS_EMULATED_DEVICE_H
#define RT_TESTS_EMULATED_DEVICE_H

#include "base/rank_sums.h"
#include "graph/internal_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct emulated_work {
    enum { EMULATED_RUN, EMULATED_UP, EMULATED_DOWN, EMULATED_COPY, EMULATED_ZERO, EMULATED_ADD, EMULATED_TRAIL, EMULATED_MARK } kind;
    rt_call call; /* of RUN, with operands of its own */
    void (*run)(const rt_call *c);
    void *to;
    const void *from;
    size_t bytes;
    rt_dtype dtype;
    int number;
    double keep;
    uint64_t sum; /* of what an upload reads */
} emulated_work;

typedef struct emulated_list {
    emulated_work *work;
    int n, room;
} emulated_list;

enum { EMULATED_BLOCKS = 4096, EMULATED_MOMENTS = 8192, EMULATED_TOTAL = 1 << 30 };

static struct emulated {
    struct {
        char *at;
        size_t bytes; /* mapped */
    } blocks[EMULATED_BLOCKS];
    int n_blocks, pinned, recordings;     /* alive */
    size_t taken;                         /* bytes that were asked for and not given back */
    emulated_list queue, kept, *into;     /* into: where requests go */
    int ups, downs, runs, replays, zeros; /* carried out, of recordings those of each replay */
    size_t up_bytes, down_bytes;          /* of those copies */
    int calls, fails;                     /* calls that can fail, and the number of the one that does; 0: none */
    bool absent, broken, forgetful;       /* there is none; a request failed; recordings never succeed */
    const rt_op *lacks;                   /* a row that the backend has not, NULL: none */
    double moments[EMULATED_MOMENTS], now;
} emulated = {.into = &emulated.queue};

static void emulated_die(const char *what)
{
    fprintf(stderr, "emulated device: %s\n", what);
    abort();
}

static bool emulated_fails(void) { return ++emulated.calls == emulated.fails; }

static size_t emulated_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

static void emulated_protect(int how)
{
    for (int i = 0; i < emulated.n_blocks; i++)
        if (mprotect(emulated.blocks[i].at, emulated.blocks[i].bytes, how)) emulated_die("mprotect failed");
}

/* ---- requests */

static bool emulated_owns(const void *at)
{
    for (int i = 0; i < emulated.n_blocks; i++)
        if ((const char *)at >= emulated.blocks[i].at && (const char *)at < emulated.blocks[i].at + emulated.blocks[i].bytes) return true;
    return false;
}

/* Are all addresses of a request where they should be? */
static void emulated_check(const emulated_work *w)
{
    const rt_call *c = &w->call;
    bool run = w->kind == EMULATED_RUN, marks = w->kind == EMULATED_MARK;
    bool ok = run || marks || emulated_owns(w->to) == (w->kind != EMULATED_DOWN);
    if (w->kind == EMULATED_UP || w->kind == EMULATED_DOWN || w->kind == EMULATED_COPY || w->kind == EMULATED_ADD ||
        w->kind == EMULATED_TRAIL)
        ok = ok && emulated_owns(w->from) == (w->kind != EMULATED_UP);
    const void *at[] = {c->out.data, c->side.data, c->scratch, c->kept, c->clock};
    for (size_t i = 0; i < RT_COUNT(at) && run; i++) ok = ok && (!at[i] || emulated_owns(at[i]));
    for (int i = 0; i < RT_ROLES && run; i++) ok = ok && (!c->roles[i] || emulated_owns(c->roles[i]));
    for (int i = 0; i < c->n_in && run; i++) ok = ok && emulated_owns(c->in[i].data);
    if (!ok) emulated_die("a request of the host's memory where the device's should be, or the other way round");
}

static uint64_t emulated_sum(const void *data, size_t bytes)
{
    uint64_t sum = 1469598103934665603u;
    for (size_t i = 0; i < bytes; i++) sum = (sum ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    return sum;
}

static void emulated_append(emulated_list *l, emulated_work w)
{
    emulated_check(&w);
    if (l->n == l->room) {
        l->room = l->room ? 2 * l->room : 64;
        l->work = realloc(l->work, (size_t)l->room * sizeof *l->work);
        if (!l->work) emulated_die("out of memory");
    }
    if (w.kind == EMULATED_RUN) {
        size_t bytes = (size_t)w.call.n_in * sizeof *w.call.in;
        rt_view *in = malloc(bytes + 1);
        if (!in) emulated_die("out of memory");
        w.call.in = memcpy(in, w.call.in, bytes);
    }
    if (l == &emulated.queue && w.kind == EMULATED_UP) w.sum = emulated_sum(w.from, w.bytes);
    if (l == &emulated.queue && w.kind == EMULATED_DOWN) memset(w.to, 0xa5, w.bytes);
    l->work[l->n++] = w;
}

static void emulated_clear(emulated_list *l)
{
    for (int i = 0; i < l->n; i++)
        if (l->work[i].kind == EMULATED_RUN) free((void *)(uintptr_t)l->work[i].call.in);
    free(l->work);
    *l = (emulated_list){0};
}

static void emulated_do(const emulated_work *w)
{
    rt_call call = w->call;
    rt_status fault = RT_OK;
    switch (w->kind) {
    case EMULATED_RUN:
        call.fault = &fault;
        w->run(&call);
        emulated.runs++;
        emulated.now += 1e-3;
        break;
    case EMULATED_UP:
        if (emulated_sum(w->from, w->bytes) != w->sum) emulated_die("what an upload reads changed before it was done");
        memcpy(w->to, w->from, w->bytes);
        emulated.ups++;
        emulated.up_bytes += w->bytes;
        break;
    case EMULATED_DOWN:
        memcpy(w->to, w->from, w->bytes);
        emulated.downs++;
        emulated.down_bytes += w->bytes;
        break;
    case EMULATED_COPY: memcpy(w->to, w->from, w->bytes); break;
    case EMULATED_ZERO: memset(w->to, 0, w->bytes), emulated.zeros++; break;
    case EMULATED_ADD: rt__add_into(w->to, w->from, (int64_t)w->bytes, w->dtype); break;
    case EMULATED_TRAIL: rt__trail(w->to, w->from, w->keep, (int64_t)w->bytes, RT_F32); break;
    case EMULATED_MARK: emulated.moments[w->number] = emulated.now; break;
    }
}

static void emulated_carry_out(void)
{
    emulated_protect(PROT_READ | PROT_WRITE);
    for (int i = 0; i < emulated.queue.n; i++) emulated_do(&emulated.queue.work[i]);
    emulated_protect(PROT_NONE);
    emulated_clear(&emulated.queue);
}

/* A backend's `run`: `kernel` will be called with a copy of c, on memory that can be touched. */
static void emulated_request(const rt_call *c, void (*kernel)(const rt_call *c))
{
    emulated_append(emulated.into, (emulated_work){.kind = EMULATED_RUN, .call = *c, .run = kernel});
}
static void emulated_upload(void *to, const void *from, size_t bytes)
{
    emulated_append(emulated.into, (emulated_work){.kind = EMULATED_UP, .to = to, .from = from, .bytes = bytes});
}
static void emulated_download(void *to, const void *from, size_t bytes)
{
    emulated_append(emulated.into, (emulated_work){.kind = EMULATED_DOWN, .to = to, .from = from, .bytes = bytes});
}
static void emulated_copy(void *to, const void *from, size_t bytes)
{
    emulated_append(emulated.into, (emulated_work){.kind = EMULATED_COPY, .to = to, .from = from, .bytes = bytes});
}
static void emulated_zero(void *at, size_t bytes)
{
    emulated_append(emulated.into, (emulated_work){.kind = EMULATED_ZERO, .to = at, .bytes = bytes});
}
static void emulated_add(void *to, const void *from, int64_t count, rt_dtype dtype)
{
    emulated_append(emulated.into, (emulated_work){.kind = EMULATED_ADD, .to = to, .from = from, .bytes = (size_t)count, .dtype = dtype});
}
static void emulated_trail(void *to, const void *from, double keep, int64_t count)
{
    emulated_append(emulated.into, (emulated_work){.kind = EMULATED_TRAIL, .to = to, .from = from, .bytes = (size_t)count, .keep = keep});
}
static void emulated_mark(int k)
{
    if (emulated.into != &emulated.queue || k >= EMULATED_MOMENTS) emulated_die("a moment in a recording, or too many");
    emulated_append(emulated.into, (emulated_work){.kind = EMULATED_MARK, .number = k});
}
static double emulated_moment(int k) { return emulated.moments[k]; }

/* ---- calls that do at once what they do */

static rt_status emulated_open(rt_error *err)
{
    if (emulated.absent || emulated_fails()) return rt_error_set(err, RT_E_DEVICE, "emulated: there is no device; use another backend");
    return RT_OK;
}

/* 64-byte aligned only, so that bytes behind a block's end are the page that is never mapped. */
static void *emulated_alloc(size_t bytes)
{
    if (emulated.into != &emulated.queue) emulated_die("memory is asked for within a recording");
    if (emulated_fails() || emulated.taken + bytes > EMULATED_TOTAL) return NULL;
    if (emulated.n_blocks == EMULATED_BLOCKS) emulated_die("too many blocks");
    size_t mapped = emulated_pages(bytes + 1), page = emulated_pages(1);
    char *at = mmap(NULL, mapped + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mprotect(at, mapped, PROT_READ | PROT_WRITE)) emulated_die("out of memory");
    memset(at, 0xff, mapped);
    if (mprotect(at, mapped, PROT_NONE)) emulated_die("mprotect failed");
    emulated.blocks[emulated.n_blocks].at = at;
    emulated.blocks[emulated.n_blocks++].bytes = mapped;
    emulated.taken += bytes;
    return at + (mapped - bytes) / 64 * 64;
}

static void emulated_release(void *at, size_t bytes)
{
    if (!at) return;
    emulated_carry_out();
    for (int i = 0; i < emulated.n_blocks; i++) {
        char *from = emulated.blocks[i].at;
        size_t mapped = emulated.blocks[i].bytes;
        if ((char *)at < from || (char *)at >= from + mapped) continue;
        if ((char *)at + bytes > from + mapped || emulated_pages(bytes + 1) != mapped)
            emulated_die("another size is released than was taken");
        munmap(from, mapped + emulated_pages(1));
        emulated.blocks[i] = emulated.blocks[--emulated.n_blocks];
        emulated.taken -= bytes;
        return;
    }
    emulated_die("what is released was never taken");
}

static void *emulated_pin(size_t bytes)
{
    if (emulated_fails()) return NULL;
    emulated.pinned++;
    return calloc(1, bytes);
}
static void emulated_unpin(void *at, size_t bytes)
{
    (void)bytes;
    emulated_carry_out();
    emulated.pinned--;
    free(at);
}
static size_t emulated_room(void) { return EMULATED_TOTAL - emulated.taken; }

static rt_status emulated_finish(rt_error *err)
{
    if (emulated.into != &emulated.queue) emulated_die("a recording is waited for");
    emulated_carry_out();
    return emulated_fails() ? rt_error_set(err, RT_E_DEVICE, "emulated: a request failed, as planted") : RT_OK;
}

static void emulated_record(void) { emulated.into = &emulated.kept; }

static void *emulated_recorded(void)
{
    emulated_list *l = malloc(sizeof *l);
    if (!l) emulated_die("out of memory");
    *l = emulated.kept;
    emulated.kept = (emulated_list){0};
    emulated.into = &emulated.queue;
    emulated.recordings++;
    if (!emulated.forgetful && !emulated_fails()) return l;
    emulated_clear(l);
    free(l);
    emulated.recordings--;
    return NULL;
}

static void emulated_replay(void *recording)
{
    const emulated_list *l = recording;
    emulated.replays++;
    for (int i = 0; i < l->n; i++) emulated_append(emulated.into, l->work[i]);
}

static void emulated_forget(void *recording)
{
    emulated_clear(recording);
    free(recording);
    emulated.recordings--;
}

static const rt_device emulated_device = {.open = emulated_open,
                                          .alloc = emulated_alloc,
                                          .release = emulated_release,
                                          .pin = emulated_pin,
                                          .unpin = emulated_unpin,
                                          .room = emulated_room,
                                          .upload = emulated_upload,
                                          .download = emulated_download,
                                          .copy = emulated_copy,
                                          .zero = emulated_zero,
                                          .add = emulated_add,
                                          .trail = emulated_trail,
                                          .finish = emulated_finish,
                                          .mark = emulated_mark,
                                          .moment = emulated_moment,
                                          .record = emulated_record,
                                          .recorded = emulated_recorded,
                                          .replay = emulated_replay,
                                          .forget = emulated_forget};

/* ---- the backend: the reference's rows. A product's or convolution's fixed second operand is kept as it was at its version, as packed weights would be. */

typedef struct emulated_state {
    const rt_op *kernel;
    size_t kept;
    uint64_t version;
} emulated_state;

static void *emulated_prepare(const rt_call *c, int threads, size_t *scratch)
{
    const rt_op *op = c->node->op;
    (void)threads;
    if (op == emulated.lacks) return NULL;
    emulated_state *s = emulated_fails() ? NULL : calloc(1, sizeof *s);
    if (!s) {
        *c->fault = RT_E_MEMORY;
        return NULL;
    }
    s->kernel = rt__kernel_of(op, RT_F32);
    *scratch = s->kernel->scratch ? s->kernel->scratch(c) : 0;
    bool weighted = op == rt__ops_f32[RT_OP_conv2d] || op == rt__ops_f32[RT_OP_conv2d_data] || op == rt__ops_f32[RT_OP_matmul];
    if (weighted && c->fixed >> 1 & 1) s->kept = (size_t)c->in[1].count * rt_dtype_size(c->in[1].dtype);
    return s;
}

static size_t emulated_kept(const void *state) { return ((const emulated_state *)state)->kept; }

static void emulated_run(const rt_call *c)
{
    emulated_state *s = c->state;
    if (emulated_fails()) *c->fault = RT_E_DEVICE;
    rt_call call = *c;
    rt_view in[3]; /* most of what is weighted: x, w, bias */
    if (s->kept > 0) {
        if (s->version != c->version && emulated.into != &emulated.queue) emulated_die("a row makes what it keeps within a recording");
        if (s->version != c->version) emulated_copy(c->kept, c->in[1].data, s->kept);
        s->version = c->version;
        memcpy(in, c->in, (size_t)c->n_in * sizeof *in);
        in[1].data = c->kept;
        call.in = in;
    }
    emulated_request(&call, s->kernel->run);
}

static void emulated_forget_state(void *state) { free(state); }
static const char *emulated_version(void) { return "1"; }

static const rt_backend emulated_backend = {.name = "emulated",
                                            .version = emulated_version,
                                            .device = &emulated_device,
                                            .prepare = emulated_prepare,
                                            .kept = emulated_kept,
                                            .run = emulated_run,
                                            .release = emulated_forget_state};

#endif
