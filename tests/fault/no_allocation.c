/* no_allocation.c -- malloc is interposed for the whole process, libraries included: updates 10 to 20 of a U-Net's distillation allocate nothing, except what
 * oneDNN's dnnl_primitive_execute does by itself, which is counted and printed. Between updates 100 and 10,000 of a small run nothing is allocated at
 * all, and memory stays what it was. */
#include "retort/diffusion.h"
#include "retort/format.h"
#include "retort/train.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
int main(void)
{
    puts("SKIP: sanitizers have a malloc of their own");
    return 77;
}
#else

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_bool counting;
static atomic_long in_onednn, elsewhere;
static _Thread_local bool inside;
static char first_stranger[256];

/* Who asked: the innermost frame that is neither this file nor the C and C++ libraries. */
static void count(void)
{
    if (!atomic_load(&counting) || inside) return;
    inside = true;
    void *frames[32];
    int n = backtrace(frames, 32);
    bool onednn = false;
    for (int i = 2; i < n && !onednn; i++) {
        Dl_info info;
        onednn = dladdr(frames[i], &info) && info.dli_fname && strstr(info.dli_fname, "libdnnl");
    }
    if (onednn) {
        atomic_fetch_add(&in_onednn, 1);
    } else if (atomic_fetch_add(&elsewhere, 1) == 0) {
        size_t used = 0;
        for (int i = 2; i < n && i < 8 && used < sizeof first_stranger - 40; i++) {
            Dl_info info = {0};
            dladdr(frames[i], &info);
            used +=
                (size_t)snprintf(first_stranger + used, sizeof first_stranger - used, " < %.30s", info.dli_sname ? info.dli_sname : "?");
        }
    }
    inside = false;
}

void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t size)
{
    count();
    return __libc_realloc(p, size);
}
void *aligned_alloc(size_t alignment, size_t size)
{
    count();
    return __libc_memalign(alignment, size);
}
int posix_memalign(void **p, size_t alignment, size_t size)
{
    count();
    *p = __libc_memalign(alignment, size);
    return *p ? 0 : 12;
}

static void watch(void *self, const char *what, int64_t done, int64_t total, const char *unit, double loss)
{
    (void)self, (void)what, (void)total, (void)loss;
    if (strcmp(unit, "updates") == 0) atomic_store(&counting, done >= 10 && done < 20);
}

static void set(rt_config *c, const char *key, const char *value)
{
    rt_error err = {0};
    if (rt_config_set(c, key, value, &err) != RT_OK) fail_msg("%s", err.text);
}

static void updates_allocate_nothing(void **state)
{
    char base[] = "/tmp/retort-malloc-XXXXXX", text[600];
    rt_error err = {0};
    (void)state;
    void *warm[4];
    backtrace(warm, 4); /* loads its library */
    assert_non_null(mkdtemp(base));
    snprintf(text, sizeof text,
             "mkdir -p %s/teacher/unet %s/teacher/scheduler && cp tests/data/golden/unet2d/classes/*.json "
             "tests/data/golden/unet2d/classes/diff* %s/teacher/unet",
             base, base, base);
    assert_int_equal(system(text), 0);
    snprintf(text, sizeof text, "%s/teacher", base);
    assert_int_equal(rt_model_index_write(text, "UNet2DModel", "DDIMScheduler", &err), RT_OK);
    rt_process_spec spec = rt_process_defaults("ddpm");
    rt_scheduler_config sc;
    assert_int_equal(rt_scheduler_config_from(&sc, &spec, rt_prediction_find("v", NULL), &err), RT_OK);
    snprintf(text, sizeof text, "%s/teacher/scheduler/scheduler_config.json", base);
    assert_int_equal(rt_scheduler_config_write(&sc, text, &err), RT_OK);
    rt_scheduler_config_free(&sc);

    rt_config c;
    assert_int_equal(rt_config_method(&c, "pd", &err), RT_OK);
    snprintf(text, sizeof text, "%s/teacher", base);
    set(&c, "teacher", text);
    snprintf(text, sizeof text, "%s/run", base);
    set(&c, "out", text);
    set(&c, "threads", "2");
    set(&c, "pd.steps", "2");
    set(&c, "pd.pool", "16"); /* two updates: pools are drawn while we count */
    set(&c, "pd.holdout", "2");
    set(&c, "train.batch", "8");
    set(&c, "train.updates", "24");
    set(&c, "run.log-every", "1000");
    rt_observer o = {.progress = watch};
    if (rt_run_train(&c, false, &o, NULL, &err) != RT_OK) fail_msg("%s", err.text);
    print_message("updates 10 to 20: %ld allocations inside oneDNN's execute (arguments of a primitive), %ld elsewhere%s\n",
                  atomic_load(&in_onednn), atomic_load(&elsewhere), first_stranger);
    assert_int_equal(atomic_load(&elsewhere), 0);
    snprintf(text, sizeof text, "rm -rf %s", base);
    assert_int_equal(system(text), 0);
}

/* The resident memory of this process, in KiB. */
static long resident(void)
{
    long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &total, &pages) != 2) fail_msg("/proc/self/statm cannot be read");
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

enum { EARLY = 100, LATE = 10000 };
static long resident_at[2];
static size_t used_at[2];

static void watch_long(void *self, const char *what, int64_t done, int64_t total, const char *unit, double loss)
{
    (void)self, (void)what, (void)total, (void)loss;
    if (strcmp(unit, "updates") != 0 || (done != EARLY && done != LATE)) return;
    atomic_store(&counting, false);
    resident_at[done == LATE] = resident();
    used_at[done == LATE] = mallinfo2().uordblks;
    atomic_store(&counting, done == EARLY);
}

static void long_runs_are_flat(void **state)
{
    (void)state;
    char base[] = "/tmp/retort-flat-XXXXXX", text[600], net[600];
    assert_non_null(mkdtemp(base));
    snprintf(net, sizeof net, "%s/config.json", base);
    FILE *f = fopen(net, "w");
    assert_non_null(f);
    fputs("{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 8, \"layers\": 2}", f);
    fclose(f);
    snprintf(text, sizeof text, "%s/run", base);
    const char *settings[] = {"out",
                              text,
                              "data.path",
                              "toy:moons",
                              "net",
                              net,
                              "train.batch",
                              "2",
                              "train.updates",
                              "10001",
                              "threads",
                              "1",
                              "backend",
                              "reference",
                              "run.checkpoint-every",
                              "0",
                              "run.sample-every",
                              "1000000",
                              "run.log-every",
                              "1000000"};
    rt_config c;
    rt_error err = {0};
    assert_int_equal(rt_config_method(&c, "denoise", &err), RT_OK);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i += 2) set(&c, settings[i], settings[i + 1]);
    atomic_store(&elsewhere, 0);
    *first_stranger = 0;
    rt_observer o = {.progress = watch_long};
    if (rt_run_train(&c, false, &o, NULL, &err) != RT_OK) fail_msg("%s", err.text);
    print_message("updates %d to %d: %ld allocations%s; %zu and %zu bytes in use, %ld and %ld KiB resident\n", EARLY, LATE,
                  atomic_load(&elsewhere), first_stranger, used_at[0], used_at[1], resident_at[0], resident_at[1]);
    assert_int_equal(atomic_load(&elsewhere), 0);
    assert_int_equal(used_at[0], used_at[1]);
    assert_in_range(resident_at[1], 1, resident_at[0] + 256);
    snprintf(text, sizeof text, "rm -rf %s", base);
    assert_int_equal(system(text), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(updates_allocate_nothing), cmocka_unit_test(long_runs_are_flat)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
