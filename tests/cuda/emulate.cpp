/* emulate.cpp -- see emulate.h; all own kernels, and launches of them. */
#include "backend/cuda/kernels.cu"
#include "cuda/emulated.h"

#include <functional>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <utility>
#include <vector>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;
char *shared_dynamic;

namespace emulate
{
enum { STACK = 128 << 10, THREADS = 1024, LANES = 32 };
enum state { READY, WAITS_FOR_BLOCK, WAITS_FOR_WARP, DONE };

/* A thread has a fiber from its first instruction to its last. A fiber without one takes the next: so as many fibers are used as threads wait at once. */
struct thread {
    dim3 id;
    state now;
    struct fiber *on; /* NULL: not begun */
    uint32_t word;    /* that it offers to its warp */
};
struct fiber {
    ucontext_t at;
    char *stack;
    void *fake; /* the sanitizer's stack */
};

long divergent;
uint64_t order = 1;
static thread threads_of_block[THREADS];
static fiber fibers[THREADS];
static std::vector<fiber *> idle;
static ucontext_t home;
static thread *running;
static fiber *current;
static const std::function<void()> *body;

/* ---- switching, of which the sanitizer must know */

static void *home_fake;
static const void *home_stack;
static size_t home_size;

static void leave(void **fake, const void *stack, size_t size)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(fake, stack, size);
#else
    (void)fake, (void)stack, (void)size;
#endif
}
static void arrive(void *fake, const void **stack, size_t *size)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, stack, size);
#else
    (void)fake, (void)stack, (void)size;
#endif
}

static void to_home()
{
    fiber *f = current;
    leave(&f->fake, home_stack, home_size);
    swapcontext(&f->at, &home);
    arrive(f->fake, &home_stack, &home_size);
}
static void wait_as(state why)
{
    running->now = why;
    to_home();
}
static void begin(thread *t)
{
    running = t;
    t->on = current;
    threadIdx = t->id;
    (*body)();
    t->now = DONE;
}
static thread *next_unbegun();
static void enter()
{
    arrive(NULL, &home_stack, &home_size);
    for (;;) {
        for (thread *t = running; t; t = next_unbegun()) begin(t);
        idle.push_back(current);
        to_home();
    }
}
static fiber *idle_fiber()
{
    static int made;
    if (idle.empty()) {
        fiber *f = &fibers[made++];
        f->stack = (char *)malloc(STACK);
        getcontext(&f->at);
        f->at.uc_stack.ss_sp = f->stack, f->at.uc_stack.ss_size = STACK, f->at.uc_link = NULL;
        makecontext(&f->at, enter, 0);
        idle.push_back(f);
    }
    fiber *f = idle.back();
    idle.pop_back();
    return f;
}
static void resume(thread *t)
{
    running = t;
    threadIdx = t->id;
    current = t->on ? t->on : idle_fiber();
    leave(&home_fake, current->stack, STACK);
    swapcontext(&home, &current->at);
    arrive(home_fake, NULL, NULL);
}

void wait_for(barrier all) { wait_as(all == BLOCK ? WAITS_FOR_BLOCK : WAITS_FOR_WARP); }

uint32_t exchange(uint32_t word, unsigned lane)
{
    thread *me = running, *warp = threads_of_block + (me - threads_of_block) / LANES * LANES;
    me->word = word;
    wait_for(WARP_OF_BLOCK);
    const uint32_t got = warp[lane].word;
    wait_for(WARP_OF_BLOCK);
    return got;
}

/* ---- a block */

static unsigned below(unsigned n)
{
    order = order * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(((order >> 32) * n) >> 32);
}

/* Threads from..to - 1 go on if all that are not done wait for the same. */
static bool release(int from, int to, state why)
{
    int live = 0, waiting = 0;
    for (int i = from; i < to; i++) live += threads_of_block[i].now != DONE, waiting += threads_of_block[i].now == why;
    if (waiting == 0 || waiting < live) return false;
    divergent += live < to - from;
    for (int i = from; i < to; i++)
        if (threads_of_block[i].now == why) threads_of_block[i].now = READY;
    return true;
}

/* The order of this round, and how far it has come. */
static int turn[THREADS], at_turn, in_block;
static thread *next_unbegun()
{
    while (at_turn < in_block) {
        thread *t = &threads_of_block[turn[at_turn]];
        if (t->now != READY) {
            at_turn++;
            continue;
        }
        if (t->on) return NULL; /* goes on where it was: for the round to do */
        at_turn++;
        return t;
    }
    return NULL;
}

static void run_block(int threads)
{
    in_block = threads;
    for (int i = 0; i < threads; i++) {
        const unsigned k = (unsigned)i;
        threads_of_block[i].id = dim3{k % blockDim.x, k / blockDim.x % blockDim.y, k / blockDim.x / blockDim.y};
        threads_of_block[i].now = READY;
        threads_of_block[i].on = NULL;
        turn[i] = i;
    }
    for (bool live = true; live;) {
        bool ran = false;
        for (int i = threads - 1; i > 0; i--) std::swap(turn[i], turn[below((unsigned)i + 1)]);
        for (at_turn = 0; at_turn < threads;) {
            thread *t = &threads_of_block[turn[at_turn++]];
            if (t->now == READY) resume(t), ran = true;
        }
        for (int w = 0; w < threads; w += LANES) ran |= release(w, w + LANES < threads ? w + LANES : threads, WAITS_FOR_WARP);
        ran |= release(0, threads, WAITS_FOR_BLOCK);
        live = false;
        for (int i = 0; i < threads; i++) live |= threads_of_block[i].now != DONE;
        if (live && !ran) {
            fprintf(stderr, "emulate: threads of a block wait at different barriers\n");
            abort();
        }
    }
}

static void launch(const rt__cuda_launch *l, const std::function<void()> &f)
{
    const unsigned blocks = l->grid[0] * l->grid[1] * l->grid[2], threads = l->block[0] * l->block[1] * l->block[2];
    if (threads < 1 || threads > THREADS || blocks < 1 || l->shared > 48 << 10) {
        fprintf(stderr, "emulate: %s: %u blocks of %u threads with %u bytes\n", rt__cuda_names[l->kernel], blocks, threads, l->shared);
        abort();
    }
    gridDim = dim3{l->grid[0], l->grid[1], l->grid[2]};
    blockDim = dim3{l->block[0], l->block[1], l->block[2]};
    body = &f;
    std::vector<unsigned> all(blocks);
    for (unsigned i = 0; i < blocks; i++) all[i] = i;
    for (unsigned i = blocks - 1; i > 0; i--) std::swap(all[i], all[below(i + 1)]);
    for (unsigned at : all) {
        shared_dynamic = (char *)malloc(l->shared ? l->shared : 1); /* anew, so that sanitizers know its end */
        memset(shared_dynamic, 0xff, l->shared);
        blockIdx = dim3{at % gridDim.x, at / gridDim.x % gridDim.y, at / gridDim.x / gridDim.y};
        run_block((int)threads);
        free(shared_dynamic);
    }
}
} // namespace emulate

void rt__emulate(void *, const rt__cuda_launch *l)
{
    const auto &a = l->args;
    switch (l->kernel) {
#define RT_CUDA_KERNEL(name, family)                                                                                                       \
    case RT_CUDA_##name: emulate::launch(l, [&] { rt__cuda_##name(a.family); }); break;
#include "backend/cuda/kernels.def"
    case RT_CUDA_KERNELS: abort();
    }
}
void rt__emulate_order(uint64_t order) { emulate::order = order; }
long rt__emulate_divergent(void) { return emulate::divergent; }
