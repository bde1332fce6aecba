/* arena.c -- memory that lives and dies together.
 *
 *     blocks -> [head | ......... used ....|.. free ..] -> [head | ... ] -> NULL
 */
#include "base/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16, LINE = 64 };

struct rt__block {
    struct rt__block *next;
    void *memory;      /* as calloc gave it */
    size_t size, used; /* of the bytes behind the head */
    _Alignas(LINE) unsigned char data[];
};

void *rt__arena_alloc(rt__arena *a, size_t size)
{
    if (size > SIZE_MAX / 2) return NULL;
    size_t align = size >= LINE ? LINE : 16, need = size ? size : 1;
    struct rt__block *b = a->blocks;
    size_t at = b ? (b->used + align - 1) / align * align : 0;
    if (!b || at > b->size || b->size - at < need) {
        size_t room = need > BLOCK ? need : BLOCK, bytes = (sizeof *b + room + LINE - 1) / LINE * LINE;
        unsigned char *memory = calloc(1, bytes + LINE); /* large ones cost nothing until they are touched */
        if (!memory) return NULL;
        b = (struct rt__block *)(memory + (LINE - (uintptr_t)memory % LINE) % LINE);
        b->memory = memory;
        b->size = bytes - sizeof *b;
        b->next = a->blocks;
        a->blocks = b;
        at = 0;
    }
    b->used = at + need;
    a->used += need;
    return b->data + at;
}

char *rt__arena_strdup(rt__arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = rt__arena_alloc(a, n);
    return p ? memcpy(p, s, n) : NULL;
}

char *rt__arena_printf(rt__arena *a, const char *format, ...)
{
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, format, ap);
    char *p = n < 0 ? NULL : rt__arena_alloc(a, (size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, format, again);
    va_end(again);
    va_end(ap);
    return p;
}

void rt__arena_free(rt__arena *a)
{
    for (struct rt__block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b->memory);
    }
    *a = (rt__arena){0};
}
