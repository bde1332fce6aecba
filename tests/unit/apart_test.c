/* apart_test.c -- threads that share a processor are moved to free ones, and their affinities stay as they were. */
#include "graph/apart.h"

#include "base/internal.h"

#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static cpu_set_t set_of(const int *cpus)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (; *cpus >= 0; cpus++) CPU_SET((size_t)*cpus, &set);
    return set;
}

static void who_moves_where(void **state)
{
    (void)state;
    enum { MOST = 4 };
    static const struct {
        int n, at[MOST], allowed[MOST + 2], to[MOST], moves;
    } cases[] = {
        {2, {0, 1}, {0, 1, -1}, {-1, -1}, 0},
        {2, {1, 1}, {0, 1, -1}, {-1, 0}, 1},
        {2, {0, 0}, {0, 1, -1}, {-1, 1}, 1},
        {2, {0, 0}, {0, -1}, {-1, -1}, 0},            /* nowhere to go */
        {3, {5, 5, 5}, {2, 5, 7, -1}, {-1, 2, 7}, 2}, /* only where they may */
        {4, {3, 1, 3, 1}, {0, 1, 2, 3, -1}, {-1, -1, 0, 2}, 2},
        {4, {0, 0, 1, 1}, {0, 1, 2, -1}, {-1, 2, -1, -1}, 1}, /* one place for two */
        {3, {0, 0, 1}, {0, 1, 1023, -1}, {-1, 1023, -1}, 1},  /* not where a later one is */
        {3, {-1, -1, 1024}, {0, 1, 2, -1}, {-1, -1, -1}, 0},  /* nobody knows where they are */
    };
    for (size_t c = 0; c < RT_COUNT(cases); c++) {
        cpu_set_t allowed = set_of(cases[c].allowed);
        int to[MOST];
        assert_int_equal(rt__apart(cases[c].n, cases[c].at, &allowed, to), cases[c].moves);
        for (int i = 0; i < cases[c].n; i++)
            if (to[i] != cases[c].to[i]) fail_msg("case %zu: thread %d goes to %d, not %d", c, i, to[i], cases[c].to[i]);
    }
}

/* Of a team whose second thread may be on one processor only, and of one that may be on two. */
static void affinities_stay(void **state)
{
    (void)state;
    cpu_set_t all;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    size_t first = 0;
    while (!CPU_ISSET(first, &all)) first++;
    for (int pinned = 0; pinned < 2; pinned++) {
        int kept = 0, threads = 0;
        for (int round = 0; round < 20; round++) {
#pragma omp parallel num_threads(2)
            {
                /* both come to the first processor */
                cpu_set_t one;
                CPU_ZERO(&one);
                CPU_SET(first, &one);
                sched_setaffinity(0, sizeof one, &one);
#pragma omp barrier
                if (!pinned || omp_get_thread_num() == 0) sched_setaffinity(0, sizeof all, &all);
            }
            rt__move_apart(2);
#pragma omp parallel num_threads(2) reduction(+ : kept, threads)
            {
                cpu_set_t now;
                sched_getaffinity(0, sizeof now, &now);
                bool may_all = !pinned || omp_get_thread_num() == 0;
                kept += may_all ? CPU_EQUAL(&now, &all) : CPU_COUNT(&now) == 1 && CPU_ISSET(first, &now);
                threads++;
            }
        }
        assert_int_equal(kept, threads);
    }
    rt__move_apart(0), rt__move_apart(1), rt__move_apart(1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(who_moves_where), cmocka_unit_test(affinities_stay)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
