/* cuda_ranks.c -- see cuda_ranks.h. What is added, of so many bytes at a time:
 *
 *     numbers of a rank   part 0 | part 1 | .. | part R-1                     R equal parts
 *     ncclSend, ncclRecv  part i to rank i; of this rank's part, everyone's to `parts`, side by side; one group
 *     add                 ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), by the kernel `add`, as rt__ranks_sum does
 *     ncclAllGather       the sum of part r to everyone
 *
 * NCCL moves bytes and adds nothing, so that bits depend on nothing of it. */
#include "backend/cuda/cuda_ranks.h"

#include "backend/cuda/cuda_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    AT_A_TIME = 16 << 20, /* bytes of a sum; every number of ranks, a power of two, has whole lines of it */
    CONFIG_VERSION = 21400,
    RANK_WORDS = 500
};

static struct joined {
    rt_ranks *ranks;
    ncclComm_t comm; /* NULL: sums go by the host, or a rank is lost */
    char how[RT_JOIN_TEXT];
    char *parts; /* of sums */
    size_t room; /* bytes of it */
    bool waits;  /* for a sum that was requested */
} j;

static const rt__cuda_library *lib(void) { return rt__cuda_opened()->lib; }

/* Notes what failed. Most calls are only begun when they return. */
static bool did(ncclResult_t result, const char *what)
{
    char words[RANK_WORDS];
    if (result == ncclSuccess || result == ncclInProgress) return true;
    snprintf(words, sizeof words, "%s: NCCL (%s); set NCCL_DEBUG=INFO to see more", what, (lib()->ncclGetErrorString)(result));
    rt__cuda_note(result == ncclUnhandledCudaError ? RT_E_DEVICE : RT_E_COMM, words);
    return false;
}

/* ---- waiting */

/* For rt__ranks_wait: are all calls of NCCL made, and (self not NULL) is all done that was requested? */
static int look(void *self, int *missing)
{
    ncclResult_t state = ncclSuccess;
    *missing = -1; /* NCCL does not say */
    if (!did((lib()->ncclCommGetAsyncError)(j.comm, &state), "ncclCommGetAsyncError") || !did(state, "ncclCommGetAsyncError")) return -1;
    if (state == ncclInProgress) return 0;
    CUresult result = self ? (lib()->cuStreamQuery)(rt__cuda_opened()->stream) : CUDA_SUCCESS;
    if (result == CUDA_ERROR_NOT_READY) return 0;
    return rt__cuda_did(result, "cuStreamQuery") ? 1 : -1;
}

/* Ends what runs on the device, too. */
static void lose(void)
{
    if (j.comm) (lib()->ncclCommAbort)(j.comm);
    j.comm = NULL;
    j.waits = false;
}

/* No further request may be made before NCCL's calls are. */
static bool settle(bool all)
{
    rt_error err = {0};
    char words[sizeof err.text + 32];
    if (rt__ranks_wait(j.ranks, look, all ? &j : NULL, &err) == RT_OK) return true;
    snprintf(words, sizeof words, "%s, by NCCL", err.text);
    rt__cuda_note(RT_E_COMM, words); /* unless a call said more */
    return false;
}

void rt__cuda_wait_for_ranks(void)
{
    if (j.waits && !settle(true)) lose();
    j.waits = false;
}

/* ---- joining */

/* What ranks tell each other. */
typedef struct about {
    CUuuid gpu;
    int32_t version; /* of NCCL; 0: there is none */
    char why[RANK_WORDS];
} about;

static rt_status describe(about *own, rt_error *err)
{
    rt_error why = {0};
    int version = 0;
    const rt__cuda_here *here = rt__cuda_opened();
    if (!rt__cuda_did((here->lib->cuDeviceGetUuid_v2)(&own->gpu, here->number), "cuDeviceGetUuid_v2")) return (rt__cuda_device.finish)(err);
    if (rt__cuda_open_nccl(&why) != RT_OK) {
        snprintf(own->why, sizeof own->why, "%.*s", RANK_WORDS - 1, why.text);
        return RT_OK;
    }
    if (!did((here->lib->ncclGetVersion)(&version), "ncclGetVersion")) return (rt__cuda_device.finish)(err);
    own->version = version;
    return RT_OK;
}

static rt_status gather(rt_ranks *r, about *all, rt_error *err)
{
    int R = rt_ranks_size(r);
    size_t *at = malloc((size_t)(R + 1) * sizeof *at);
    if (!at) RT_RAISE(RT_E_MEMORY, "out of memory for %d ranks", R);
    for (int i = 0; i <= R; i++) at[i] = (size_t)i * sizeof *all;
    rt_status status = rt_ranks_gather(r, all, at, err);
    free(at);
    return status;
}

/* Each rank has a GPU of its own, or none of them goes on. */
static rt_status check_gpus(const about *all, int R, rt_error *err)
{
    for (int i = 0; i < R; i++)
        for (int k = 0; k < i; k++)
            if (!memcmp(&all[i].gpu, &all[k].gpu, sizeof all[i].gpu))
                RT_RAISE(RT_E_DEVICE, "ranks %d and %d have the same GPU; start as many ranks on a machine as it has GPUs", k, i);
    return RT_OK;
}

/* Do all have one NCCL? Else says who has not. */
static bool all_have_it(const about *all, int R)
{
    for (int i = 0; i < R; i++) {
        static const char host[] = "sums over ranks go by the host: rank";
        int a = all[i].version, b = all[0].version;
        if (a == 0) snprintf(j.how, sizeof j.how, "%s %d: %s", host, i, all[i].why);
        if (a > 0 && a != b)
            snprintf(j.how, sizeof j.how, "%s %d has NCCL %d.%d.%d, rank 0 %d.%d.%d; install one on all machines", host, i, a / 10000,
                     a / 100 % 100, a % 100, b / 10000, b / 100 % 100, b % 100);
        if (a == 0 || a != b) return false;
    }
    return true;
}

static rt_status begin_nccl(rt_ranks *r, rt_error *err)
{
    ncclUniqueId id;
    ncclConfig_t config = {.size = sizeof config, .magic = RT_NCCL_CONFIG_MAGIC, .version = CONFIG_VERSION, .blocking = 0};
    bool first = rt_ranks_rank(r) == 0;
    memset(&id, 0, sizeof id);
    rt_status status = first && !did((lib()->ncclGetUniqueId)(&id), "ncclGetUniqueId") ? (rt__cuda_device.finish)(err) : RT_OK;
    RT_TRY(rt_ranks_agree(r, status, err));
    RT_TRY(rt_ranks_broadcast(r, &id, sizeof id, err));
    if (did((lib()->ncclCommInitRankConfig)(&j.comm, rt_ranks_size(r), id, rt_ranks_rank(r), &config), "ncclCommInitRankConfig") &&
        settle(false))
        return RT_OK;
    lose();
    return (rt__cuda_device.finish)(err);
}

static rt_status join(rt_ranks *r, about *all, rt_error *err)
{
    int R = rt_ranks_size(r);
    RT_TRY(rt_ranks_agree(r, (rt__cuda_device.open)(err), err));
    RT_TRY(rt_ranks_agree(r, describe(&all[rt_ranks_rank(r)], err), err));
    RT_TRY(gather(r, all, err));
    RT_TRY(rt_ranks_agree(r, check_gpus(all, R, err), err));
    if (!all_have_it(all, R)) return RT_OK;
    int version = all[0].version;
    snprintf(j.how, sizeof j.how, "sums over ranks stay on the GPUs, by NCCL %d.%d.%d", version / 10000, version / 100 % 100,
             version % 100);
    return begin_nccl(r, err);
}

rt_status rt__cuda_join_ranks(rt_ranks *r, bool *joined, char how[RT_JOIN_TEXT], rt_error *err)
{
    if (j.ranks != r) {
        rt__cuda_leave_ranks();
        j.ranks = r;
        rt__ranks_at_close(r, rt__cuda_leave_ranks);
        about *all = calloc((size_t)rt_ranks_size(r), sizeof *all);
        rt_status status = all ? join(r, all, err) : rt_error_set(err, RT_E_MEMORY, "out of memory for %d ranks", rt_ranks_size(r));
        free(all);
        if (status != RT_OK) rt__cuda_leave_ranks();
        RT_TRY(status);
    }
    *joined = j.comm != NULL;
    memcpy(how, j.how, sizeof j.how);
    return RT_OK;
}

void rt__cuda_leave_ranks(void)
{
    if (!j.ranks) return;
    lose(); /* whoever leaves in peace has all sums, and so have the others */
    if (j.parts) (rt__cuda_device.release)(j.parts, j.room);
    rt__ranks_at_close(j.ranks, NULL);
    j = (struct joined){0};
}

/* ---- sums */

static bool make_room(const rt__sum *sums, int n)
{
    size_t most = 0;
    for (int k = 0; k < n; k++) {
        size_t bytes = (size_t)sums[k].count * rt_dtype_size(sums[k].dtype);
        if (bytes > most) most = bytes;
    }
    if (most > AT_A_TIME) most = AT_A_TIME;
    if (most <= j.room) return true;
    (rt__cuda_device.release)(j.parts, j.room);
    j.parts = (rt__cuda_device.alloc)(most);
    j.room = j.parts ? most : 0;
    if (!j.parts) rt__cuda_note(RT_E_MEMORY, "parts of sums over ranks");
    return j.parts != NULL;
}

static bool exchange(char *data, size_t part, CUstream stream)
{
    int R = rt_ranks_size(j.ranks), me = rt_ranks_rank(j.ranks);
    bool ok = did((lib()->ncclGroupStart)(), "ncclGroupStart");
    for (int hop = 1; hop < R && ok; hop++) {
        int to = (me + hop) % R, from = (me + R - hop) % R;
        ok = did((lib()->ncclSend)(data + (size_t)to * part, part, ncclInt8, to, j.comm, stream), "ncclSend") &&
             did((lib()->ncclRecv)(j.parts + (size_t)from * part, part, ncclInt8, from, j.comm, stream), "ncclRecv");
    }
    return did((lib()->ncclGroupEnd)(), "ncclGroupEnd") && ok && settle(false);
}

/* R equal parts of whole lines. */
static bool sum_block(char *data, size_t bytes, rt_dtype dtype)
{
    int R = rt_ranks_size(j.ranks), me = rt_ranks_rank(j.ranks);
    size_t part = bytes / (size_t)R;
    CUstream stream = rt__cuda_opened()->stream;
    (rt__cuda_device.copy)(j.parts + (size_t)me * part, data + (size_t)me * part, part);
    if (!exchange(data, part, stream)) return false;
    for (int hop = 1; hop < R; hop *= 2)
        for (int i = 0; i + hop < R; i += 2 * hop)
            (rt__cuda_device.add)(j.parts + (size_t)i * part, j.parts + (size_t)(i + hop) * part, (int64_t)(part / rt_dtype_size(dtype)),
                                  dtype);
    return did((lib()->ncclAllGather)(j.parts, data, part, ncclInt8, j.comm, stream), "ncclAllGather") && settle(false);
}

rt_status rt__cuda_sum_ranks(const rt__sum *sums, int n)
{
    bool ok = rt__cuda_fault() == RT_OK && make_room(sums, n);
    if (ok && !j.comm) rt__cuda_note(RT_E_COMM, "a rank was lost in an earlier sum");
    ok = ok && j.comm;
    for (int k = 0; k < n && ok; k++) {
        size_t bytes = (size_t)sums[k].count * rt_dtype_size(sums[k].dtype);
        for (size_t at = 0; at < bytes && ok; at += AT_A_TIME)
            ok = sum_block((char *)sums[k].data + at, bytes - at < AT_A_TIME ? bytes - at : AT_A_TIME, sums[k].dtype);
    }
    j.waits = ok;
    if (!ok) lose();
    return rt__cuda_fault();
}
