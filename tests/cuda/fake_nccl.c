/* fake_nccl.c -- see fake_nccl.h. */
#include "cuda/fake_nccl.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MOST = 8, ROOM = 64 << 10, REMOTE_ERROR = 6, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5 };

/* What all ranks see. */
static struct board {
    _Atomic uint64_t id;
    _Atomic bool there[MOST], gone[MOST];
    _Atomic int64_t sent[MOST];
    struct box {
        _Atomic size_t bytes; /* 0: it is empty */
        char data[ROOM];
    } boxes[MOST][MOST]; /* from, to */
} * board;

/* A piece that goes to a rank, or comes from it. */
typedef struct move {
    bool out;
    int peer;
    char *data;
    size_t left;
} move;

struct ncclComm {
    int rank, size, looks; /* looks: until what was called is made */
    bool joined;
    ncclResult_t error;
};

typedef struct group {
    ncclComm_t comm;
    int n;
    char *to; /* ncclAllGather: this rank's own part */
    const char *own;
    size_t bytes;
    move moves[2 * MOST];
} group;

static ncclComm_t alive;
static group *open, *called; /* between start and end; called, but not made yet */
static bool grouped, silent;
static int version = 22809;

void fake_nccl_meet(void)
{
    if (!board) board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    board->id = 0;
    for (int i = 0; i < MOST; i++) {
        board->there[i] = board->gone[i] = false;
        board->sent[i] = 0;
        for (int k = 0; k < MOST; k++) board->boxes[i][k].bytes = 0;
    }
}
void fake_nccl_version(int to) { version = to; }
void fake_nccl_silent(bool to) { silent = to; }
bool fake_nccl_gone(int rank) { return board->gone[rank]; }
int64_t fake_nccl_sent(int rank) { return board->sent[rank]; }
bool fake_nccl_in_progress(void) { return called != NULL; }

#define NCCL()                                                                                                                             \
    do {                                                                                                                                   \
        if (fake_fails(__func__)) return fake_fails_as_memory() ? ncclUnhandledCudaError : SYSTEM_ERROR;                                   \
    } while (0)

/* ---- on the stream */

static bool go_on(ncclComm_t comm, move *m)
{
    struct box *box = m->out ? &board->boxes[comm->rank][m->peer] : &board->boxes[m->peer][comm->rank];
    size_t there = box->bytes;
    if (m->left == 0) return true;
    if (m->out ? there > 0 : there == 0) {
        if (board->gone[m->peer]) comm->error = REMOTE_ERROR;
        return false;
    }
    size_t n = m->out ? (m->left < ROOM ? m->left : ROOM) : there;
    if (n > m->left) {
        fprintf(stderr, "fake NCCL: rank %d sends more than rank %d receives\n", m->peer, comm->rank);
        abort();
    }
    memcpy(m->out ? box->data : m->data, m->out ? m->data : box->data, n);
    if (m->out) board->sent[comm->rank] += (int64_t)n;
    box->bytes = m->out ? n : 0;
    m->data += n;
    m->left -= n;
    return m->left == 0;
}

bool fake_nccl_moves(void *at)
{
    group *g = at;
    bool done = true;
    for (int i = 0; i < g->n && g->comm == alive; i++) done &= go_on(g->comm, &g->moves[i]);
    if (!done) return false;
    if (g->comm == alive && g->to) memcpy(g->to, g->own, g->bytes);
    free(g);
    return true;
}

/* ---- calls */

ncclResult_t ncclGetVersion(int *to)
{
    NCCL();
    *to = version;
    return ncclSuccess;
}
const char *ncclGetErrorString(ncclResult_t result) { return result == REMOTE_ERROR ? "a remote process is gone" : "as planted"; }
ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    NCCL();
    memset(id, 7, sizeof *id);
    memcpy(&board->id, id, sizeof board->id);
    return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    uint64_t own;
    NCCL();
    memcpy(&own, &id, sizeof own);
    if (config->magic != RT_NCCL_CONFIG_MAGIC || config->size != sizeof *config || config->version != 21400 || config->blocking != 0)
        return INVALID_ARGUMENT;
    if (own != board->id || alive) return INVALID_USAGE;
    *comm = alive = fake_thing(sizeof *alive);
    *alive = (struct ncclComm){.rank = rank, .size = ranks, .looks = 1};
    if (!silent) board->there[rank] = true;
    return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    NCCL();
    bool all = true;
    for (int i = 0; i < comm->size && !comm->joined; i++) {
        all &= board->there[i];
        if (board->gone[i]) comm->error = REMOTE_ERROR;
    }
    *state = comm->error;
    if (comm->error != ncclSuccess) return ncclSuccess;
    *state = ncclInProgress;
    if (!all || comm->looks-- > 0) return ncclSuccess;
    comm->joined = true;
    if (called) {
        group *g = called;
        called = NULL;
        fake_nccl_ask(g);
    }
    *state = ncclSuccess;
    return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    board->gone[comm->rank] = true;
    alive = NULL;
    free(called);
    free(open);
    called = open = NULL;
    fake_end(comm);
    NCCL();
    return ncclSuccess;
}
ncclResult_t ncclGroupStart(void)
{
    NCCL();
    grouped = true;
    return ncclSuccess;
}
static ncclResult_t add(bool out, char *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm)
{
    if (type != ncclInt8 || comm != alive || !comm->joined || peer == comm->rank) return INVALID_ARGUMENT;
    if (!grouped || called) return INVALID_USAGE;
    if (!open) open = calloc(1, sizeof *open);
    open->comm = comm;
    open->moves[open->n++] = (move){out, peer, data, count};
    return ncclSuccess;
}
ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int to, ncclComm_t comm, cudaStream_t stream)
{
    (void)stream;
    NCCL();
    return add(true, (char *)(uintptr_t)data, count, type, to, comm);
}
ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int from, ncclComm_t comm, cudaStream_t stream)
{
    (void)stream;
    NCCL();
    return add(false, data, count, type, from, comm);
}
ncclResult_t ncclGroupEnd(void)
{
    NCCL();
    if (!grouped || !open) return INVALID_USAGE;
    grouped = false;
    called = open;
    open = NULL;
    alive->looks = 1;
    return ncclInProgress;
}
ncclResult_t ncclAllGather(const void *part, void *all, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)
{
    (void)stream;
    NCCL();
    ncclResult_t result = comm == alive && !grouped ? ncclSuccess : INVALID_USAGE;
    char *own = (char *)(uintptr_t)part;
    grouped = true;
    for (int i = 0; i < comm->size && result == ncclSuccess; i++) {
        if (i == comm->rank) continue;
        result = add(true, own, count, type, i, comm);
        if (result == ncclSuccess) result = add(false, (char *)all + (size_t)i * count, count, type, i, comm);
    }
    if (result != ncclSuccess) return result;
    open->to = (char *)all + (size_t)comm->rank * count;
    open->own = own;
    open->bytes = count;
    grouped = false;
    called = open;
    open = NULL;
    comm->looks = 1;
    return ncclInProgress;
}
