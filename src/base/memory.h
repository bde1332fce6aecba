/* memory.h -- the library's memory comes from the caller's allocator where one is set (retort_set_allocator), else from libc.
 *
 * The build puts this file before every source of the library (CMakeLists.txt), so malloc and its relatives mean these functions there, and no file has to
 * think of it. tests/meta/memory sees to it that no object file asks libc itself. Calls of struct members with such names are written (s->free)(x). */
#ifndef RT_BASE_MEMORY_H
#define RT_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct json_t;

typedef struct rt__allocator {
    void *self;
    void *(*allocate)(void *self, size_t alignment, size_t bytes);
    void *(*resize)(void *self, void *block, size_t bytes);
    void (*release)(void *self, void *block);
} rt__allocator;

/* Once, and only while no memory has been taken; else false. */
bool rt__allocator_set(const rt__allocator *allocator);
bool rt__allocator_is_set(void);

void *rt__malloc(size_t bytes) __attribute__((malloc, alloc_size(1)));
void *rt__calloc(size_t n, size_t bytes) __attribute__((malloc, alloc_size(1, 2)));
void *rt__realloc(void *block, size_t bytes) __attribute__((alloc_size(2)));
void *rt__aligned_alloc(size_t alignment, size_t bytes) __attribute__((malloc, alloc_size(2)));
void rt__free(void *block);
char *rt__strdup(const char *text) __attribute__((malloc));
char *rt__strndup(const char *text, size_t most) __attribute__((malloc));
int rt__asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *rt__json_dumps(const struct json_t *json, size_t flags);
/* What libc allocated by itself: in getline, open_memstream. */
void rt__free_libc(void *block);

#define malloc(n)               rt__malloc(n)
#define calloc(n, size)         rt__calloc(n, size)
#define realloc(p, n)           rt__realloc(p, n)
#define aligned_alloc(align, n) rt__aligned_alloc(align, n)
#define free(p)                 rt__free(p)
#undef strdup
#undef strndup
#define strdup(s)               rt__strdup(s)
#define strndup(s, n)           rt__strndup(s, n)
#define asprintf(...)           rt__asprintf(__VA_ARGS__)
#define json_dumps(json, flags) rt__json_dumps(json, flags)

#endif
