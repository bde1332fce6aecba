/* refuse.c -- to be preloaded: refuses the K-th call of a kind that a program makes, and with REFUSE_ALL those after it. REFUSE="KIND K", KIND memory, new (of
 * C++), open, flush, fsync or rename; K 0 refuses none. Calls count from main on; their number is written to the file REFUSE_COUNT at the end. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static const char *kind;
static long at, count;
static int all, error;
static _Thread_local int empty;

static int refused(const char *what)
{
    if (!kind || strcmp(kind, what) != 0) return 0;
    long k = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (at == 0 || (all ? k < at : k != at)) return 0;
    errno = error;
    return 1;
}

/* The next function of that name; ISO C has no cast from objects to functions. */
#define NEXT(type, name)                                                                                                                   \
    static type *next;                                                                                                                     \
    void *found = dlsym(RTLD_NEXT, name);                                                                                                  \
    memcpy(&next, &found, sizeof found)

typedef int start(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end);
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end)
{
    static char word[16];
    NEXT(start, "__libc_start_main");
    const char *what = getenv("REFUSE");
    all = getenv("REFUSE_ALL") != NULL;
    if (what && sscanf(what, "%15s %ld", word, &at) == 2) kind = word;
    error = kind && strcmp(kind, "memory") == 0 ? ENOMEM : ENOSPC;
    return next(main, argc, argv, init, fini, rtld_fini, stack_end);
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("REFUSE_COUNT");
    kind = NULL;
    FILE *f = path ? fopen(path, "w") : NULL;
    if (!f) return;
    fprintf(f, "%ld\n", count);
    fclose(f);
}

void *malloc(size_t n)
{
    int none = empty;
    empty = 0; /* for one call: what operator new throws passes by what stands behind it */
    return none || refused("memory") ? NULL : __libc_malloc(n);
}
void *calloc(size_t n, size_t size) { return refused("memory") ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return refused("memory") ? NULL : __libc_realloc(p, n); }
void *aligned_alloc(size_t align, size_t n) { return refused("memory") ? NULL : __libc_memalign(align, n); }

/* operator new(size_t), which throws where malloc has nothing */
typedef void *creating(size_t);
void *_Znwm(size_t n);
void *_Znwm(size_t n)
{
    NEXT(creating, "_Znwm");
    empty = refused("new");
    void *p = next(n);
    empty = 0;
    return p;
}

typedef FILE *opening(const char *, const char *);
FILE *fopen(const char *path, const char *mode)
{
    NEXT(opening, "fopen");
    return refused("open") ? NULL : next(path, mode);
}

typedef int opening_low(const char *, int, ...);
int open(const char *path, int flags, ...)
{
    NEXT(opening_low, "open");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return refused("open") ? -1 : next(path, flags, mode);
}

typedef int flushing(FILE *);
int fflush(FILE *f)
{
    NEXT(flushing, "fflush");
    return refused("flush") ? EOF : next(f);
}

typedef int syncing(int);
int fsync(int fd)
{
    NEXT(syncing, "fsync");
    return refused("fsync") ? -1 : next(fd);
}

typedef int renaming(const char *, const char *);
int rename(const char *from, const char *to)
{
    NEXT(renaming, "rename");
    return refused("rename") ? -1 : next(from, to);
}
