/* transport.c -- libretort_mpi.so: the ranks of an MPI launcher. Built against the site's mpi.h, whose binary interface is its own, and loaded only where a
 * launcher's environment is found (base/ranks.c). Pieces go by MPI_Isend and MPI_Irecv: so it is known which rank is waited for. */
#include "retort/ranks.h"

#include <mpi.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TAG = 1, LAST_WORDS = 3 }; /* LAST_WORDS: seconds that MPI_Abort may take */

typedef struct transport {
    int rank, size, n, n_receives;
    MPI_Request *requests;
    int *peers, *finished; /* of each request, its rank; what MPI_Testsome says */
    int *sizes;            /* of what is received */
    MPI_Status *statuses;
} transport;

static bool post(transport *t, int error, int peer)
{
    t->peers[t->n++] = peer;
    return error == MPI_SUCCESS;
}

static bool begin(void *self, const rt_piece *send, const rt_piece *receive)
{
    transport *t = self;
    bool ok = true;
    t->n = 0;
    for (int hop = 1; hop < t->size; hop++) { /* each begins with its neighbour, so that no rank is everyone's first */
        int from = (t->rank + t->size - hop) % t->size;
        if (receive[from].size > 0) t->sizes[t->n] = (int)receive[from].size;
        if (receive[from].size > 0)
            ok = post(t, MPI_Irecv(receive[from].data, (int)receive[from].size, MPI_BYTE, from, TAG, MPI_COMM_WORLD, &t->requests[t->n]),
                      from) &&
                 ok;
    }
    t->n_receives = t->n;
    for (int hop = 1; hop < t->size; hop++) {
        int to = (t->rank + hop) % t->size;
        if (send[to].size > 0)
            ok = post(t, MPI_Isend(send[to].data, (int)send[to].size, MPI_BYTE, to, TAG, MPI_COMM_WORLD, &t->requests[t->n]), to) && ok;
    }
    return ok;
}

static int test(void *self, int *missing)
{
    transport *t = self;
    int count;
    *missing = -1;
    bool ok = MPI_Testsome(t->n, t->requests, &count, t->finished, t->statuses) == MPI_SUCCESS;
    for (int i = 0; i < count; i++) { /* what is received has the size that was expected */
        int size = 0, k = t->finished[i];
        if (ok && k < t->n_receives) ok = MPI_Get_count(&t->statuses[i], MPI_BYTE, &size) == MPI_SUCCESS && size == t->sizes[k];
    }
    for (int i = 0; i < t->n && *missing < 0; i++)
        if (t->requests[i] != MPI_REQUEST_NULL) *missing = t->peers[i];
    return !ok ? -1 : *missing < 0;
}

static void leave(void *self)
{
    transport *t = self;
    MPI_Finalize();
    free(t->requests);
    free(t->peers);
    free(t->finished);
    free(t->statuses);
    free(t->sizes);
    free(t);
}

static void end_alone(int number)
{
    (void)number;
    _exit(RT_E_COMM);
}

/* MPI_Abort talks to the launcher, which may be out of reach. */
static void give_up(void *self, int code)
{
    (void)self;
    signal(SIGALRM, end_alone);
    signal(SIGTERM, SIG_IGN); /* the launcher's answer */
    alarm(LAST_WORDS);
    MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

const char *rt_mpi_open_1(rt_transport *out);

const char *rt_mpi_open_1(rt_transport *out)
{
    int provided, length;
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    transport *t = calloc(1, sizeof *t);
    if (!t) return "out of memory";
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) return "MPI_Init failed";
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &t->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &t->size);
    MPI_Get_library_version(text, &length);
    size_t n = (size_t)(2 * t->size);
    t->requests = calloc(n, sizeof *t->requests);
    t->peers = calloc(n, sizeof *t->peers);
    t->finished = calloc(n, sizeof *t->finished);
    t->statuses = calloc(n, sizeof *t->statuses);
    t->sizes = calloc(n, sizeof *t->sizes);
    if (!t->requests || !t->peers || !t->finished || !t->statuses || !t->sizes) return "out of memory";
    *out = (rt_transport){.self = t, .rank = t->rank, .size = t->size, .begin = begin, .test = test, .leave = leave, .abort = give_up};
    /* "Open MPI v4.1.4, package: ..." and "MPICH Version:\t4.0.2\nMPICH Release date: ..." */
    size_t end = strcspn(text, ",\n");
    snprintf(out->name, sizeof out->name, "%.*s", (int)end, text);
    for (char *p = out->name; *p; p++)
        if (*p == '\t') *p = ' ';
    return NULL;
}
