/* socket_ranks.h -- ranks without a launcher: processes of one test that reach each other by sockets. */
#ifndef RT_TESTS_SOCKET_RANKS_H
#define RT_TESTS_SOCKET_RANKS_H

#include "retort/ranks.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_RANKS = 8 };

typedef struct sockets {
    int rank, size, fd[MOST_RANKS];
    rt_piece send[MOST_RANKS], receive[MOST_RANKS]; /* what is still to go and to come */
    int exchanges, fails;                           /* so far; number of the one that fails, 0: none */
} sockets;

static bool sockets_begin(void *self, const rt_piece *send, const rt_piece *receive)
{
    sockets *s = self;
    for (int i = 0; i < s->size; i++) {
        s->send[i] = i == s->rank ? (rt_piece){0} : send[i];
        s->receive[i] = i == s->rank ? (rt_piece){0} : receive[i];
    }
    return ++s->exchanges != s->fails;
}

static bool move(int fd, rt_piece *p, bool out)
{
    if (p->size == 0) return true;
    ssize_t n = out ? send(fd, p->data, p->size, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(fd, p->data, p->size, MSG_DONTWAIT);
    if (n <= 0) return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    p->data = (char *)p->data + n;
    p->size -= (size_t)n;
    return true;
}

static int sockets_test(void *self, int *missing)
{
    sockets *s = self;
    *missing = -1;
    for (int i = 0; i < s->size; i++) {
        bool ok = move(s->fd[i], &s->send[i], true) && move(s->fd[i], &s->receive[i], false);
        if (!ok || s->send[i].size + s->receive[i].size > 0) *missing = i;
        if (!ok) return -1;
    }
    return *missing < 0;
}

static void sockets_leave(void *self)
{
    sockets *s = self;
    for (int i = 0; i < s->size; i++) close(s->fd[i]);
    free(s);
}

static void sockets_abort(void *self, int code)
{
    (void)self;
    _exit(code);
}

/* The ranks as processes: each calls f(ranks, user) and leaves with what that returns. codes[r]: its exit code, or 128 and the signal. Exchange number `fails` of rank
 * `who` fails (0: none does). */
static void run_ranks(int n, int who, int fails, int (*f)(rt_ranks *r, void *user), void *user, int codes[MOST_RANKS])
{
    int fd[MOST_RANKS][MOST_RANKS], pair[2];
    pid_t pid[MOST_RANKS];
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++) {
            if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) abort();
            fd[i][j] = pair[0];
            if (i != j) fd[j][i] = pair[1];
            if (i == j) close(pair[1]);
        }
    fflush(NULL);
    for (int i = 0; i < n; i++)
        if ((pid[i] = fork()) == 0) {
            sockets *s = calloc(1, sizeof *s);
            if (!s) abort();
            *s = (sockets){.rank = i, .size = n, .fails = i == who ? fails : 0};
            for (int k = 0; k < n; k++)
                for (int l = 0; l < n; l++) {
                    if (k == i) s->fd[l] = fd[k][l];
                    if (k != i) close(fd[k][l]);
                }
            rt_transport t = {s, i, n, "sockets", sockets_begin, sockets_test, sockets_leave, sockets_abort};
            rt_ranks *r = rt_ranks_new(&t);
            if (!r) abort();
            int code = f(r, user);
            rt_ranks_close(r);
            exit(code);
        }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) close(fd[i][j]);
    for (int i = 0; i < n; i++) {
        int status;
        waitpid(pid[i], &status, 0);
        codes[i] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

#endif
