/* rehearsal.c -- what a command would take: programs are made with their plan, their block is reserved and never filled, a run does nothing. All else
 * (libraries, parameters, data, kernels' code) is really there, so what is resident and what is reserved together are what the command takes. */
#include "graph/program.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static size_t resident(void)
{
    long total, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &total, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

void rt_rehearsal_reserve(rt_rehearsal *r, int64_t bytes)
{
    struct rusage usage; /* what was needed for a moment, while files were read */
    getrusage(RUSAGE_SELF, &usage);
    r->reserved += bytes;
    size_t now = resident() + (size_t)r->reserved, before = (size_t)usage.ru_maxrss * 1024;
    if (now > r->peak) r->peak = now;
    if (before > r->peak) r->peak = before;
}

/* Zeros of which only what is touched becomes resident; blocks go back to the system when they are freed. Large pages make a training step 5% faster;
 * where few numbers are touched, as in a rehearsal, they would make much resident for little. */
void *rt__block_new(size_t bytes, bool filled)
{
    if (rt__allocator_is_set()) {
        void *own = aligned_alloc(64, (bytes + 63) / 64 * 64);
        return own ? memset(own, 0, bytes) : NULL;
    }
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    if (filled) (void)madvise(block, bytes, MADV_HUGEPAGE);
#endif
    return block;
}

void rt__block_free(void *block, size_t bytes)
{
    if (rt__allocator_is_set())
        free(block);
    else if (block)
        munmap(block, bytes);
}
