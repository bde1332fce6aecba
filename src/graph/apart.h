/* apart.h -- threads of one team on processors of their own. */
#ifndef RT_GRAPH_APART_H
#define RT_GRAPH_APART_H

#include <sched.h>

/* Where n threads of a team, which run on the processors at[n] (-1: unknown), should go: to[i] is a processor of `allowed` that none of them is on for
 * a thread that shares with an earlier one, -1 for all others and where none is left. Returns how many should move. */
int rt__apart(int n, const int *at, const cpu_set_t *allowed, int *to);

/* Moves threads of OpenMP's team of `threads` that share a processor to free ones. They may go anywhere afterwards. */
void rt__move_apart(int threads);

#endif
