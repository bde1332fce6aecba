/* memory.c -- see memory.h. A name in parentheses is libc's function. */
#include "base/memory.h"

#undef json_dumps /* the header declares it */
#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>

static rt__allocator hooks; /* allocate NULL: libc's. Written once, before `taken`. */
static atomic_bool taken;

static void take(void)
{
    if (!atomic_load_explicit(&taken, memory_order_relaxed)) atomic_store(&taken, true);
}

bool rt__allocator_set(const rt__allocator *allocator)
{
    if (atomic_exchange(&taken, true)) return false;
    hooks = *allocator;
    return true;
}

bool rt__allocator_is_set(void) { return hooks.allocate != NULL; }

/* A block of no bytes is one that can be released. */
static void *from_hooks(size_t alignment, size_t bytes) { return hooks.allocate(hooks.self, alignment, bytes ? bytes : 1); }

void *rt__malloc(size_t bytes)
{
    take();
    return hooks.allocate ? from_hooks(_Alignof(max_align_t), bytes) : (malloc)(bytes);
}

void *rt__calloc(size_t n, size_t bytes)
{
    size_t all;
    take();
    if (!hooks.allocate) return (calloc)(n, bytes);
    if (__builtin_mul_overflow(n, bytes, &all)) return NULL;
    void *block = from_hooks(_Alignof(max_align_t), all);
    return block ? memset(block, 0, all) : NULL;
}

void *rt__realloc(void *block, size_t bytes)
{
    take();
    if (!hooks.allocate) return (realloc)(block, bytes);
    return block ? hooks.resize(hooks.self, block, bytes ? bytes : 1) : from_hooks(_Alignof(max_align_t), bytes);
}

void *rt__aligned_alloc(size_t alignment, size_t bytes)
{
    take();
    return hooks.allocate ? from_hooks(alignment, bytes) : (aligned_alloc)(alignment, bytes);
}

void rt__free(void *block)
{
    if (!hooks.allocate)
        (free)(block);
    else if (block)
        hooks.release(hooks.self, block);
}

void rt__free_libc(void *block) { (free)(block); }

char *rt__strndup(const char *text, size_t most)
{
    size_t n = strnlen(text, most);
    char *copy = rt__malloc(n + 1);
    if (!copy) return NULL;
    copy[n] = 0;
    return memcpy(copy, text, n);
}

char *rt__strdup(const char *text) { return rt__strndup(text, strlen(text)); }

int rt__asprintf(char **text, const char *format, ...)
{
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, format, ap);
    *text = n < 0 ? NULL : rt__malloc((size_t)n + 1);
    if (*text) vsnprintf(*text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(ap);
    return *text ? n : -1;
}

/* jansson's memory is whoever's json_set_alloc_funcs said. */
char *rt__json_dumps(const json_t *json, size_t flags)
{
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    char *text = json_dumps(json, flags), *copy = text ? rt__strdup(text) : NULL;
    if (text) release(text);
    return copy;
}
