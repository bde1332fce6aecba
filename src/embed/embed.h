/* embed.h -- what the files behind retort.h share: the scope of a call, structs that grow, errors. */
#ifndef RT_EMBED_H
#define RT_EMBED_H

#include "retort.h"

#include "base/internal.h"

#include <locale.h>

/* What a call leaves to the caller as it was, in callbacks as well: the thread's locale and the number of threads of its parallel loops. Inside the
 * locale is C, where numbers have points. */
typedef struct rt__scope {
    locale_t locale;
    int threads;
} rt__scope;

rt__scope rt__enter(void);
/* Ends every function of the interface: *to (NULL: not wanted) gets what *from says. */
retort_status rt__leave(const rt__scope *s, rt_status status, const rt_error *from, retort_error *to);

/* RT_E_USAGE in a process that was forked from one that had computed: OpenMP's threads are not there, and GNU's runtime waits for them for ever. */
rt_status rt__may_compute(rt_error *err);

/* A line for the hook of retort_set_log; empty lines are none. */
void rt__tell(const rt__scope *s, const char *line);

/* Asks an observer (NULL: none): true, stop. */
bool rt__observed(const rt__scope *s, retort_observe observe, void *self, const char *what, const char *unit, int64_t done, int64_t total,
                  double loss);

/* Copies a struct of options that begins with its size into one of `known` bytes, what the caller does not have as 0. RT_E_USAGE: no size, or more fields than
 * are known and not 0. `name`: of the struct, for the message. NULL gives zeros. */
rt_status rt__take_options(void *to, size_t known, const void *from, const char *name, rt_error *err);
/* The other way: as much as the caller has room for, zeros beyond what is known; its size stays. */
rt_status rt__give_result(void *to, const void *from, size_t known, const char *name, rt_error *err);

#endif
