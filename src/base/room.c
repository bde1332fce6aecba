/* room.c -- is there memory for libraries that cannot be told no? */
#include "base/internal.h"

#include <omp.h>
#include <pthread.h>
#include <sys/mman.h>

bool rt__has_room(size_t bytes)
{
    void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return room != MAP_FAILED && munmap(room, bytes) == 0;
}

size_t rt__thread_bytes(void)
{
    size_t bytes = 0;
    pthread_attr_t attr;
    if (pthread_getattr_default_np(&attr) == 0) {
        pthread_attr_getstacksize(&attr, &bytes);
        pthread_attr_destroy(&attr);
    }
    return bytes;
}

rt_status rt__start_threads(int n, rt_error *err)
{
    static _Thread_local int started = 1; /* each thread of the caller's has a team of its own */
    if (n > started) {
        size_t bytes = (size_t)(n - started) * rt__thread_bytes();
        if (!rt__has_room(bytes))
            RT_RAISE(RT_E_MEMORY, "out of memory for the stacks of %d threads (%zu MiB); use fewer (--threads) or allow more (ulimit -v)", n,
                     bytes >> 20);
#pragma omp parallel num_threads(n)
        started = n;
    }
    omp_set_num_threads(n);
    return RT_OK;
}
