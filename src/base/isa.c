/* isa.c -- which instruction set the process uses: decided once, by what the processor has and by RETORT_ISA. */
#include "base/isa.h"

#include "base/internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* By rt__isa_id. `has` tests what the flags in CMakeLists.txt let the compiler use, no less. */
static bool always(void) { return true; }
#if defined(__x86_64__)
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
static bool has_avx512_bf16(void) { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

static const struct {
    const char *name;
    bool (*has)(void);
} sets[RT_ISAS] = {
#if defined(__x86_64__)
    [RT_ISA_BASELINE] = {"baseline", always},
    [RT_ISA_AVX2] = {"avx2", has_avx2},
    [RT_ISA_AVX512] = {"avx512", has_avx512},
    [RT_ISA_AVX512_BF16] = {"avx512-bf16", has_avx512_bf16},
#elif defined(__aarch64__)
    [RT_ISA_BASELINE] = {"neon", always},
#else
    [RT_ISA_BASELINE] = {"baseline", always},
#endif
};

/* All names that RETORT_ISA takes on some processor. */
static const char *const names[] = {"baseline", "avx2", "avx512", "avx512-bf16", "neon"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int decided = -1; /* written under the lock, once */
static bool forced;

static rt__isa_id best(void)
{
    int i = RT_ISAS - 1;
    while (!sets[i].has()) i--;
    return (rt__isa_id)i;
}

static rt_status find(const char *name, int *found, rt_error *err)
{
    for (int i = 0; i < RT_ISAS; i++)
        if (strcmp(sets[i].name, name) == 0 && sets[i].has()) {
            *found = i;
            return RT_OK;
        }
    bool known = false;
    for (size_t i = 0; i < RT_COUNT(names); i++) known |= strcmp(names[i], name) == 0;
    if (known)
        RT_RAISE(RT_E_USAGE, "RETORT_ISA: this processor has no %s; its best is %s, which is taken where RETORT_ISA is not set", name,
                 sets[best()].name);
    const char *close = rt_closest(name, names, RT_COUNT(names));
    RT_RAISE(RT_E_USAGE, "RETORT_ISA: '%s' is no instruction set%s%s%s; give one of baseline, avx2, avx512, avx512-bf16, neon", name,
             close ? "; did you mean '" : "", close ? close : "", close ? "'?" : "");
}

rt_status rt_isa_choose(const char *name, rt_error *err)
{
    if (!name) name = getenv("RETORT_ISA");
    bool named = name && *name;
    int found = -1;
    if (named) RT_TRY(find(name, &found, err));
    pthread_mutex_lock(&lock);
    int now = __atomic_load_n(&decided, __ATOMIC_ACQUIRE);
    if (now < 0) {
        forced = named;
        now = named ? found : (int)best();
        __atomic_store_n(&decided, now, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&lock);
    if (named && now != found)
        RT_RAISE(RT_E_USAGE, "RETORT_ISA: %s was asked for, but this process computes with %s already; choose before anything else", name,
                 sets[now].name);
    return RT_OK;
}

rt__isa_id rt__isa(void)
{
    int now = __atomic_load_n(&decided, __ATOMIC_ACQUIRE);
    if (now >= 0) return (rt__isa_id)now;
    rt_error unread = {0};
    if (rt_isa_choose(NULL, &unread) != RT_OK) { /* the caller cannot hear of it; who compiles a program does */
        pthread_mutex_lock(&lock);
        if (decided < 0) __atomic_store_n(&decided, (int)best(), __ATOMIC_RELEASE);
        pthread_mutex_unlock(&lock);
    }
    return (rt__isa_id)__atomic_load_n(&decided, __ATOMIC_ACQUIRE);
}

bool rt__isa_forced(void)
{
    rt__isa();
    return forced;
}

const char *rt_isa_name(void) { return sets[rt__isa()].name; }
bool rt_isa_describe(int i, const char **name, bool *has)
{
    if (i < 0 || i >= (int)RT_ISAS) return false;
    *name = sets[i].name;
    *has = sets[i].has();
    return true;
}
