/* apart.c -- see apart.h. Where two programs of two threads share two processors, the scheduler sees four busy threads and is content with two on each,
 * whose they are does not matter to it. If both threads of a program come to lie on one processor, they stay there, and at each barrier one waits
 * for the other to be let on the processor: by spinning for the time that the runtime was told, or, at the barriers inside of oneDNN's kernels,
 * until the next tick of the clock. A training step then took five times as long as alone instead of twice. So programs look now and then
 * where their threads are, and one that shares is moved; a thread alone on a processor is left to the scheduler. */
#include "graph/apart.h"

#include <omp.h>
#include <stdbool.h>

enum { MOST = 1024 }; /* threads; CPU_SETSIZE, the processors of a cpu_set_t, is as many */

static bool is_in(int cpu, const cpu_set_t *set) { return cpu >= 0 && cpu < CPU_SETSIZE && CPU_ISSET((size_t)cpu, set); }

static void add(int cpu, cpu_set_t *set)
{
    if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET((size_t)cpu, set);
}

int rt__apart(int n, const int *at, const cpu_set_t *allowed, int *to)
{
    cpu_set_t used, seen;
    CPU_ZERO(&used);
    CPU_ZERO(&seen);
    for (int i = 0; i < n; i++) add(at[i], &used);
    int moves = 0, next = 0;
    for (int i = 0; i < n; i++) {
        to[i] = -1;
        if (is_in(at[i], &seen)) {
            while (next < CPU_SETSIZE && (!is_in(next, allowed) || is_in(next, &used))) next++;
            if (next < CPU_SETSIZE) to[i] = next++, moves++;
        }
        add(at[i], &seen);
    }
    return moves;
}

void rt__move_apart(int threads)
{
    int at[MOST], to[MOST], n = 0;
    cpu_set_t allowed;
    if (threads < 2 || threads > MOST) return;
#pragma omp parallel num_threads(threads)
    {
        at[omp_get_thread_num()] = sched_getcpu();
#pragma omp master
        n = omp_get_num_threads();
    }
    /* fewer processors than threads: some must share */
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < n || !rt__apart(n, at, &allowed, to)) return;
#pragma omp parallel num_threads(threads)
    {
        int i = omp_get_thread_num();
        cpu_set_t one, before;
        if (i < n && to[i] >= 0 && sched_getaffinity(0, sizeof before, &before) == 0 && is_in(to[i], &before)) {
            CPU_ZERO(&one);
            CPU_SET((size_t)to[i], &one);
            if (sched_setaffinity(0, sizeof one, &one) == 0) sched_setaffinity(0, sizeof before, &before);
        }
    }
}
