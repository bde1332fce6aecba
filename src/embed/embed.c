/* embed.c -- version, errors and hooks of the stable interface, and the scope of its calls. */
#include "embed/embed.h"

#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

_Static_assert((int)RETORT_E_INTERRUPTED == (int)RT_E_INTERRUPTED && (int)RETORT_E_DEVICE == (int)RT_E_DEVICE, "one table of statuses");
_Static_assert(sizeof((retort_error *)0)->text == RT_ERROR_TEXT, "texts of one length");

/* ---- version */

int retort_version(void) { return RETORT_VERSION_NUMBER; }
const char *retort_version_text(void) { return TEXT(RETORT_VERSION_MAJOR) "." TEXT(RETORT_VERSION_MINOR) "." TEXT(RETORT_VERSION_PATCH); }
int retort_version_check(int number) { return number >= RETORT_VERSION_MAJOR * 1000000 && number <= RETORT_VERSION_NUMBER; }

/* ---- errors */

const char *retort_status_name(retort_status status) { return rt_status_name((rt_status)status); }

static retort_status answer(retort_error *to, rt_status status, const rt_error *from)
{
    if (to) {
        to->status = (retort_status)status;
        memcpy(to->text, status == RT_OK ? "" : from->text, status == RT_OK ? 1 : sizeof to->text);
    }
    return (retort_status)status;
}

/* ---- scope */

/* The caller's state, as before the call: at its end, and while a callback has its turn. */
static void outside(const rt__scope *s)
{
    uselocale(s->locale);
    omp_set_num_threads(s->threads);
}

static void inside(void)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* glibc's own object: nothing is allocated */
    if (c) uselocale(c);
}

rt__scope rt__enter(void)
{
    rt__scope s = {.locale = uselocale((locale_t)0), .threads = omp_get_max_threads()};
    inside();
    return s;
}

retort_status rt__leave(const rt__scope *s, rt_status status, const rt_error *from, retort_error *to)
{
    outside(s);
    return answer(to, status, from);
}

rt_status rt__may_compute(rt_error *err)
{
    static _Atomic pid_t computed; /* the process that has; 0: none */
    pid_t before = 0, here = getpid();
    if (!atomic_compare_exchange_strong(&computed, &before, here) && before != here)
        RT_RAISE(RT_E_USAGE,
                 "this process was forked from one (%ld) that had computed already, whose threads it lacks; fork before the first "
                 "computation, or exec",
                 (long)before);
    return RT_OK;
}

/* ---- hooks */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void (*log_hook)(void *self, const char *line);
static void *log_self;

void retort_set_log(void (*log)(void *self, const char *line), void *self)
{
    pthread_mutex_lock(&lock);
    log_hook = log;
    log_self = self;
    pthread_mutex_unlock(&lock);
}

void rt__tell(const rt__scope *s, const char *line)
{
    pthread_mutex_lock(&lock);
    void (*log)(void *self, const char *line) = log_hook;
    void *self = log_self;
    pthread_mutex_unlock(&lock);
    if (!log || !*line) return;
    outside(s);
    log(self, line);
    inside();
}

retort_status retort_set_allocator(const retort_allocator *allocator, retort_error *err)
{
    retort_allocator a;
    rt_error e = {0};
    rt_status status = rt__take_options(&a, sizeof a, allocator, "retort_allocator", &e);
    if (status == RT_OK && (!a.allocate || !a.resize || !a.release))
        status = rt_error_set(&e, RT_E_USAGE, "retort_allocator: allocate, resize and release are all needed");
    if (status == RT_OK && !rt__allocator_set(&(rt__allocator){a.self, a.allocate, a.resize, a.release}))
        status = rt_error_set(&e, RT_E_USAGE, "memory has been taken already; set the allocator once, before any other call");
    return answer(err, status, &e);
}

bool rt__observed(const rt__scope *s, retort_observe observe, void *self, const char *what, const char *unit, int64_t done, int64_t total,
                  double loss)
{
    if (!observe) return false;
    const retort_progress now = {.size = sizeof now, .what = what, .unit = unit, .done = done, .total = total, .loss = loss};
    outside(s);
    bool stop = observe(self, &now) != 0;
    inside();
    return stop;
}

/* ---- structs that grow */

/* The size that a caller's struct begins with. */
static rt_status size_of(const void *of, const char *name, size_t *size, rt_error *err)
{
    memcpy(size, of, sizeof *size);
    if (*size < sizeof *size || *size > 1 << 16)
        RT_RAISE(RT_E_USAGE, "%s: size is %zu; set it to sizeof(%s), and all other fields to 0 or to what they shall be", name, *size,
                 name);
    return RT_OK;
}

rt_status rt__take_options(void *to, size_t known, const void *from, const char *name, rt_error *err)
{
    size_t size = 0;
    memset(to, 0, known);
    if (!from) return RT_OK;
    RT_TRY(size_of(from, name, &size, err));
    for (size_t i = known; i < size; i++)
        if (((const char *)from)[i])
            RT_RAISE(RT_E_USAGE,
                     "%s: the program knows fields (%zu bytes) that this library, version %s (%zu bytes), does not have; update libretort",
                     name, size, retort_version_text(), known);
    memcpy(to, from, size < known ? size : known);
    return RT_OK;
}

rt_status rt__give_result(void *to, const void *from, size_t known, const char *name, rt_error *err)
{
    size_t size = 0, head = sizeof size;
    RT_TRY(size_of(to, name, &size, err));
    size_t n = size < known ? size : known;
    memcpy((char *)to + head, (const char *)from + head, n - head);
    memset((char *)to + n, 0, size - n);
    return RT_OK;
}
