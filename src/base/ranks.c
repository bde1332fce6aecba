/* ranks.c -- what ranks do together, all of it by one primitive: every rank sends every other a piece and gets one (rt_transport).
 *
 *     sum   n numbers on each of R ranks; rank r adds part r, n/R numbers
 *           exchange   part i to rank i
 *           add        ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)): neighbours, then neighbouring pairs
 *           exchange   the sum of part r to everyone
 *
 * A rank sends 2 (R-1)/R n numbers, as by a good allreduce, and the library that moves them adds nothing: the bits depend neither on it nor on how many numbers go
 * at a time. Each rank's number is itself such a tree over its shards (graph/program.c), so that the whole is one tree over all shards of a batch. */
#include "base/rank_sums.h"

#include "base/files.h"
#include "base/internal.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    AT_A_TIME = 16 << 20, /* bytes of a sum */
    MOST = 1 << 28        /* bytes of a piece */
};
static const double grace =
                        0.5, /* seconds that a rank which was asked to stop while it waits goes on waiting: its end may be another's, too */
    awake = 0.0005;          /* seconds that it looks all the time */

struct rt_ranks {
    rt_transport t;
    rt_piece *send, *receive; /* one per rank */
    double timeout;
    bool (*stop)(void *self);
    void *stop_self;
    int64_t sent;
    bool agreed, told;   /* told: to end, while it waited */
    char *own, *parts;   /* of sums; NULL: there was none yet */
    void (*leave)(void); /* NULL: nothing hangs on these ranks */
};

/* ---- opening */

int rt_ranks_launched(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < RT_COUNT(names); i++) {
        const char *text = getenv(names[i]);
        int n = text ? atoi(text) : 0;
        if (n > 0) return n;
    }
    return 1;
}

int rt_ranks_local(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"};
    for (size_t i = 0; i < RT_COUNT(names) && rt_ranks_launched() > 1; i++) {
        const char *text = getenv(names[i]);
        if (text) return atoi(text);
    }
    return 0;
}

rt_ranks *rt_ranks_new(const rt_transport *t)
{
    rt_ranks *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    *r = (rt_ranks){.t = *t, .timeout = RT_RANKS_TIMEOUT};
    r->send = calloc((size_t)t->size, sizeof *r->send);
    r->receive = calloc((size_t)t->size, sizeof *r->receive);
    if (r->send && r->receive) return r;
    free(r->send);
    free(r->receive);
    free(r);
    return NULL;
}

/* libretort_mpi.so where it may lie; NULL: `why` says what was tried. */
static void *open_library(char *path, size_t size, char *why, size_t why_size)
{
    const char *given = getenv("RETORT_MPI_LIBRARY");
    static const char *const places[] = {"", "../" RETORT_LIBDIR "/"};
    char program[512];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = 0;
    char *slash = strrchr(program, '/');
    if (slash) slash[1] = 0;
    for (size_t i = 0; i < RT_COUNT(places); i++) {
        snprintf(path, size, "%s%slibretort_mpi.so", program, places[i]);
        if (given && *given) snprintf(path, size, "%s", given);
        if ((given && *given) || access(path, F_OK) == 0) {
            void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* Open MPI's own plugins look for its symbols */
            if (!library) snprintf(why, why_size, "%.300s", dlerror());
            return library;
        }
    }
    snprintf(why, why_size, "libretort_mpi.so is not beside the program (%.200s), nor installed", program);
    return NULL;
}

rt_status rt_ranks_open(rt_ranks **ranks, rt_error *err)
{
    static const char remedy[] = "build Retort where the launcher's MPI is installed, or start one process";
    int launched = rt_ranks_launched();
    char path[640], why[400] = "";
    rt_transport t = {0};
    rt_transport_open open;
    *ranks = NULL;
    if (launched == 1) return RT_OK;
    void *library = open_library(path, sizeof path, why, sizeof why);
    if (!library) RT_RAISE(RT_E_COMM, "%d ranks were started, but no library joins them: %s; %s", launched, why, remedy);
    *(void **)&open = dlsym(library, "rt_mpi_open_1");
    if (!open) RT_RAISE(RT_E_COMM, "%s: is not of this version of Retort; %s", path, remedy);
    const char *failed = open(&t);
    if (failed) RT_RAISE(RT_E_COMM, "%s: %s; %s", path, failed, remedy);
    if (t.size != launched)
        RT_RAISE(RT_E_COMM, "%s: %d ranks were started, but %s sees %d: it is not the launcher's; %s", path, launched, t.name, t.size,
                 remedy);
    *ranks = rt_ranks_new(&t);
    if (!*ranks) RT_RAISE(RT_E_MEMORY, "out of memory for %d ranks", t.size);
    return RT_OK;
}

static void release(rt_ranks *r)
{
    free(r->send);
    free(r->receive);
    free(r->own);
    free(r->parts);
    free(r);
}

void rt_ranks_close(rt_ranks *r)
{
    if (!r) return;
    if (r->leave) r->leave();
    r->t.leave(r->t.self);
    release(r);
}

void rt_ranks_abort(rt_ranks *r, int code)
{
    if (!r->told) r->t.abort(r->t.self, code);
    _exit(code);
}

int rt_ranks_rank(const rt_ranks *r) { return r ? r->t.rank : 0; }
int rt_ranks_size(const rt_ranks *r) { return r ? r->t.size : 1; }
const char *rt_ranks_name(const rt_ranks *r) { return r->t.name; }
int64_t rt_ranks_sent(const rt_ranks *r) { return r ? r->sent : 0; }
bool rt_ranks_agreed(const rt_ranks *r) { return r && r->agreed; }

void rt__ranks_at_close(rt_ranks *r, void (*leave)(void)) { r->leave = leave; }

void rt_ranks_patience(rt_ranks *r, double seconds, bool (*stop)(void *self), void *self)
{
    if (!r) return;
    r->timeout = seconds;
    r->stop = stop;
    r->stop_self = self;
}

/* ---- the primitive */

static bool asked(const rt_ranks *r) { return r->stop && r->stop(r->stop_self); }

static rt_status lost(int missing, const char *what, rt_error *err)
{
    char who[32] = "a rank";
    if (missing >= 0) snprintf(who, sizeof who, "rank %d", missing);
    RT_RAISE(RT_E_COMM, "%s %s", who, what);
}

rt_status rt__ranks_wait(rt_ranks *r, int (*test)(void *self, int *missing), void *self, rt_error *err)
{
    bool before = asked(r);
    double began = rt__seconds(), stopped = 0;
    int missing = -1, done;
    while ((done = test(self, &missing)) == 0) {
        double t = rt__seconds();
        if (!before && stopped == 0 && asked(r)) stopped = t;
        r->told = stopped > 0 && t - stopped > grace;
        if (r->told) return lost(missing, "is waited for, and this rank was told to end", err);
        if (t - began > r->timeout) {
            char what[64];
            snprintf(what, sizeof what, "has not answered for %g s", r->timeout);
            return lost(missing, what, err);
        }
        if (t - began < awake)
            sched_yield();
        else
            nanosleep(&(struct timespec){0, 50000}, NULL);
    }
    return done > 0 ? RT_OK : lost(missing, "is gone", err);
}

/* Moves r->send and r->receive. */
static rt_status exchange(rt_ranks *r, rt_error *err)
{
    for (int i = 0; i < r->t.size; i++) r->sent += i == r->t.rank ? 0 : (int64_t)r->send[i].size;
    if (!r->t.begin(r->t.self, r->send, r->receive)) return lost(-1, "cannot be reached", err);
    return rt__ranks_wait(r, r->t.test, r->t.self, err);
}

static void clear(rt_ranks *r)
{
    memset(r->send, 0, (size_t)r->t.size * sizeof *r->send);
    memset(r->receive, 0, (size_t)r->t.size * sizeof *r->receive);
}

/* ---- what is built on it */

rt_status rt_ranks_gather(rt_ranks *r, void *data, const size_t *at, rt_error *err)
{
    size_t most = 0;
    for (int i = 0; r && i < r->t.size; i++)
        if (at[i + 1] - at[i] > most) most = at[i + 1] - at[i];
    for (size_t done = 0; done < most; done += MOST) {
        clear(r);
        for (int i = 0; i < r->t.size; i++) {
            size_t all = at[i + 1] - at[i], rest = all > done ? all - done : 0;
            r->receive[i] = (rt_piece){(char *)data + at[i] + done, rest < MOST ? rest : MOST};
        }
        for (int i = 0; i < r->t.size; i++) r->send[i] = r->receive[r->t.rank];
        RT_TRY(exchange(r, err));
    }
    return RT_OK;
}

rt_status rt_ranks_broadcast(rt_ranks *r, void *data, size_t bytes, rt_error *err)
{
    if (!r) return RT_OK;
    size_t *at = malloc((size_t)(r->t.size + 1) * sizeof *at);
    if (!at) RT_RAISE(RT_E_MEMORY, "out of memory for %d ranks", r->t.size);
    for (int i = 0; i <= r->t.size; i++) at[i] = i > 0 ? bytes : 0;
    rt_status s = rt_ranks_gather(r, data, at, err);
    free(at);
    return s;
}

/* The same number of bytes of every rank, one after the other. */
static rt_status gather_rows(rt_ranks *r, void *rows, size_t width, rt_error *err)
{
    size_t *at = malloc((size_t)(r->t.size + 1) * sizeof *at);
    if (!at) RT_RAISE(RT_E_MEMORY, "out of memory for %d ranks", r->t.size);
    for (int i = 0; i <= r->t.size; i++) at[i] = (size_t)i * width;
    rt_status s = rt_ranks_gather(r, rows, at, err);
    free(at);
    return s;
}

rt_status rt_ranks_agree(rt_ranks *r, rt_status mine, rt_error *err)
{
    if (!r) return mine;
    int first = -1;
    rt_error said = {0}, own = {0};
    size_t *at = malloc((size_t)(r->t.size + 1) * sizeof *at);
    int32_t *all = malloc((size_t)r->t.size * sizeof *all);
    rt_status s = at && all ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %d ranks", r->t.size);
    if (s == RT_OK) {
        all[r->t.rank] = (int32_t)mine;
        s = gather_rows(r, all, sizeof *all, &own);
    }
    for (int i = r->t.size - 1; s == RT_OK && i >= 0; i--)
        if (all[i] != RT_OK) first = i;
    if (s == RT_OK && first >= 0) {
        if (first == r->t.rank && err) said = *err;
        for (int i = 0; i <= r->t.size; i++) at[i] = i > first ? sizeof said : 0;
        s = rt_ranks_gather(r, &said, at, &own);
        if (s == RT_OK && err) {
            *err = said;
            if (first > 0) rt_error_prefix(err, "rank %d", first);
        }
        r->agreed = s == RT_OK;
        if (s == RT_OK) s = (rt_status)all[first];
    }
    if (own.status && err) *err = own;
    free(at);
    free(all);
    return s;
}

rt_status rt_ranks_range(rt_ranks *r, int n, int64_t *least, int64_t *most, rt_error *err)
{
    size_t row = (size_t)n * sizeof *least;
    memcpy(most, least, row);
    if (!r) return RT_OK;
    int64_t *all = malloc((size_t)r->t.size * row);
    if (!all) RT_RAISE(RT_E_MEMORY, "out of memory for %d ranks", r->t.size);
    memcpy(all + r->t.rank * n, least, row);
    rt_status s = gather_rows(r, all, row, err);
    for (int i = 0; i < r->t.size * n && s == RT_OK; i++) {
        if (all[i] < least[i % n]) least[i % n] = all[i];
        if (all[i] > most[i % n]) most[i % n] = all[i];
    }
    free(all);
    return s;
}

rt_status rt_ranks_check_program(rt_ranks *r, const char *version, rt_error *err)
{
    struct {
        char version[64], sha256[65];
    } own = {0}, first;
    if (!r) return RT_OK;
    snprintf(own.version, sizeof own.version, "%s", version);
    rt_status s = rt_ranks_agree(r, rt__sha256_file("/proc/self/exe", own.sha256, err), err);
    first = own;
    if (s == RT_OK) s = rt_ranks_broadcast(r, &first, sizeof first, err);
    RT_TRY(s);
    if (memcmp(&first, &own, sizeof own) != 0)
        s = rt_error_set(err, RT_E_INVALID, "runs another build, %s (%.8s), than rank 0, %s (%.8s); install one on all machines",
                         own.version, own.sha256, first.version, first.sha256);
    return rt_ranks_agree(r, s, err);
}

/* ---- sums */

void rt__add_into(void *to, const void *from, int64_t count, rt_dtype dtype)
{
    if (dtype == RT_F32)
        for (int64_t i = 0; i < count; i++) ((float *)to)[i] += ((const float *)from)[i];
    else if (dtype == RT_F64)
        for (int64_t i = 0; i < count; i++) ((double *)to)[i] += ((const double *)from)[i];
    else
        for (int64_t i = 0; i < count; i++) ((int64_t *)to)[i] += ((const int64_t *)from)[i];
}

/* r->own[0 .. n - 1] becomes the sum over ranks. */
static rt_status sum_block(rt_ranks *r, int64_t n, rt_dtype dtype, rt_error *err)
{
    int R = r->t.size, me = r->t.rank;
    size_t width = rt_dtype_size(dtype);
    int64_t part = (n + R - 1) / R;
    clear(r);
    for (int i = 0; i < R; i++) {
        int64_t at = i * part < n ? i * part : n, count = n - at < part ? n - at : part;
        r->send[i] = (rt_piece){r->own + (size_t)at * width, (size_t)count * width};
    }
    size_t mine = r->send[me].size, stride = (size_t)part * width;
    for (int i = 0; i < R; i++) r->receive[i] = (rt_piece){r->parts + (size_t)i * stride, mine};
    memcpy(r->parts + (size_t)me * stride, r->send[me].data, mine);
    RT_TRY(exchange(r, err));
    for (int hop = 1; hop < R; hop *= 2)
        for (int i = 0; i + hop < R; i += 2 * hop)
            rt__add_into(r->parts + (size_t)i * stride, r->parts + (size_t)(i + hop) * stride, (int64_t)(mine / width), dtype);
    for (int i = 0; i < R; i++) r->receive[i] = r->send[i];
    memcpy(r->receive[me].data, r->parts, mine);
    for (int i = 0; i < R; i++) r->send[i] = r->receive[me];
    return exchange(r, err);
}

/* Where the numbers of one type go on: sum number `i`, from its number `from` on. */
typedef struct place {
    int i;
    int64_t from;
} place;

/* Copies up to `room` bytes from the sums to r->own, or back; returns how many numbers. */
static int64_t copy(rt_ranks *r, const rt__sum *sums, int n, rt_dtype dtype, place *at, bool back)
{
    size_t width = rt_dtype_size(dtype);
    int64_t room = AT_A_TIME / (int64_t)width, done = 0;
    while (at->i < n && done < room) {
        const rt__sum *s = &sums[at->i];
        int64_t count = s->dtype == dtype ? s->count - at->from : 0;
        if (count > room - done) count = room - done;
        char *theirs = (char *)s->data + (size_t)at->from * width, *ours = r->own + (size_t)done * width;
        if (count > 0) memcpy(back ? theirs : ours, back ? ours : theirs, (size_t)count * width);
        done += count;
        at->from += count;
        if (s->dtype != dtype || at->from == s->count) *at = (place){at->i + 1, 0};
    }
    return done;
}

rt_status rt__ranks_sum(rt_ranks *r, const rt__sum *sums, int n, rt_error *err)
{
    static const rt_dtype types[] = {RT_F32, RT_F64, RT_I64};
    if (rt_ranks_size(r) == 1) return RT_OK;
    size_t more = (size_t)r->t.size * sizeof(double); /* parts are rounded up */
    if (!r->own) r->own = malloc(AT_A_TIME);
    if (!r->parts) r->parts = malloc(AT_A_TIME + more);
    if (!r->own || !r->parts) RT_RAISE(RT_E_MEMORY, "out of memory for sums over %d ranks", r->t.size);
    for (size_t k = 0; k < RT_COUNT(types); k++)
        for (place at = {0}, begin = at;; begin = at) {
            int64_t count = copy(r, sums, n, types[k], &at, false);
            if (count == 0) break;
            RT_TRY(sum_block(r, count, types[k], err));
            (void)copy(r, sums, n, types[k], &begin, true);
        }
    return RT_OK;
}
