/* internal.h -- what all layers share and users do not see: the two error macros, the arena, small helpers. */
#ifndef RT_BASE_INTERNAL_H
#define RT_BASE_INTERNAL_H

#include "base/draws.h"
#include "retort/base.h"

/* Returns from the enclosing function with the status of a failed call. */
#define RT_TRY(call)                                                                                                                       \
    do {                                                                                                                                   \
        rt_status rt_try_status_ = (call);                                                                                                 \
        if (rt_try_status_ != RT_OK) return rt_try_status_;                                                                                \
    } while (0)

/* Fills `err` (by name, from the enclosing function) and returns. */
#define RT_RAISE(status, ...) return rt_error_set(err, status, __VA_ARGS__)

#define RT_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Multiplies sizes; false on overflow. */
static inline bool rt__mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }

/* An arena: allocations that live and die together, zeroed, 64-byte aligned for anything of 64 bytes or more. NULL when memory is out. */
typedef struct rt__arena {
    struct rt__block *blocks;
    size_t used; /* bytes handed out, for reports */
} rt__arena;

void *rt__arena_alloc(rt__arena *a, size_t size);
char *rt__arena_strdup(rt__arena *a, const char *s);
char *rt__arena_printf(rt__arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void rt__arena_free(rt__arena *a);

/* Would the system give so many bytes of addresses more? For libraries that crash or hang where they are refused some: they are asked for here, and given
 * back, before such a library is called. */
bool rt__has_room(size_t bytes);
size_t rt__thread_bytes(void); /* what a thread's stack takes */
/* Parallel loops of this thread have n threads from here on, and they exist: GNU's OpenMP ends the process where one is refused memory. */
rt_status rt__start_threads(int n, rt_error *err);

double rt__seconds(void); /* of a clock that only goes forward, from some moment on */

static inline const char *rt__closest(const char *word, const char *const *names, size_t n) { return rt_closest(word, names, n); }

/* Philox4x32-10 (Salmon et al. 2011): out = the block at `counter` under `key`. */
void rt__philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Random numbers are identified, never consumed: (seed, name of the draw, clock, global sample, element). The bits are laid out as
 *     key     = seed (64 bit)
 *     counter = { element / 4, sample, clock, FNV-1a(name) }     32 bit each; word element % 4 of the block belongs to the element
 * so a draw does not depend on threads, ranks, batch or position. Normals are Box-Muller on the word pairs (0,1) and (2,3). */
typedef struct rt__draw {
    uint64_t seed;
    uint32_t name;  /* rt__draw_name("z") */
    uint32_t clock; /* step, or whatever the method counts */
} rt__draw;

uint32_t rt__draw_name(const char *name);
void rt__draw_words(const rt__draw *d, uint32_t sample, uint32_t block, uint32_t out[4]);
void rt__draw_normal(const rt__draw *d, uint32_t sample, uint32_t block, double out[4]);
void rt__draw_normals(const rt__draw *d, uint32_t sample, int64_t n, double *out); /* the first n of all blocks */

#endif
