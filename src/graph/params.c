/* params.c -- named parameter sets: entries over one array per role.
 *
 *     entries   conv_in.weight   conv_in.bias   ...
 *     VALUE     [ .............. | ..... 0 0 .. | ... ]      each entry starts at a multiple of 16 numbers
 *     MOMENT1   [ .............. | ..... 0 0 .. | ... ]      same offsets in every role; what rt_params_freeze took comes last, and moments end before it
 *
 * Where programs run on a device, it has the arrays, too, and each is brought to the other side when it is asked for there:
 *
 *     rt_params_data, the host's is older    download         a run, the host's is newer    upload
 *     rt_params_touch                        it is newer      an update on the device       it is older
 */
#include "graph/internal_graph.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16 };

struct rt_params {
    char *name;
    rt_dtype dtype;
    rt__arena arena; /* names of entries */
    rt_entry *entries;
    int n, room;
    int64_t count, extent, trained; /* trained: numbers of a moment's array */
    void *data[RT_ROLES];
    uint64_t version;
    const rt_device *device; /* NULL: the set is the host's alone */
    void *there[RT_ROLES];   /* arrays on the device */
    unsigned older, newer;   /* bit r: the host's array of role r is older, or newer, than the device's */
    unsigned rehearsed;      /* bit r: counted by rt__params_rehearse */
};

rt_params *rt_params_new(const char *name, rt_dtype dtype)
{
    rt_params *set = calloc(1, sizeof *set);
    if (!set) return NULL;
    set->name = strdup(name);
    set->dtype = dtype;
    if (!set->name) {
        free(set);
        return NULL;
    }
    return set;
}

enum { BEHIND = 64 }; /* bytes that a vector may read past an array */

static size_t bytes_of(const rt_params *set, rt_role role) { return (size_t)rt_params_extent(set, role) * rt_dtype_size(set->dtype); }

void rt_params_free(rt_params *set)
{
    if (!set) return;
    if (set->device) {
        rt__device_enter();
        for (rt_role role = 0; role < RT_ROLES; role++) set->device->release(set->there[role], bytes_of(set, role) + BEHIND);
        rt__device_leave();
    }
    rt__arena_free(&set->arena);
    free(set->entries);
    free(set->name);
    free(set);
}

const char *rt_params_name(const rt_params *set) { return set->name; }
rt_dtype rt_params_dtype(const rt_params *set) { return set->dtype; }
int rt_params_entries(const rt_params *set) { return set->n; }
int64_t rt_params_count(const rt_params *set) { return set->count; }
int64_t rt_params_extent(const rt_params *set, rt_role role) { return role == RT_VALUE || role == RT_AVERAGE ? set->extent : set->trained; }
int64_t rt_params_trained(const rt_params *set) { return set->trained; }
bool rt_params_has(const rt_params *set, rt_role role) { return set->data[role] || set->there[role]; }
uint64_t rt_params_version(const rt_params *set) { return set->version; }
const rt_entry *rt_params_entry(const rt_params *set, int index) { return index >= 0 && index < set->n ? &set->entries[index] : NULL; }

int rt_params_find(const rt_params *set, const char *name)
{
    for (int i = 0; i < set->n; i++)
        if (!strcmp(set->entries[i].name, name)) return i;
    return -1;
}

rt_status rt_params_add(rt_params *set, const char *name, int rank, const int64_t *shape, rt_init init, int *index, rt_error *err)
{
    char want[96], have[96];
    int at = rt_params_find(set, name);
    if (at >= 0) {
        const rt_entry *e = &set->entries[at];
        if (e->rank != rank || memcmp(e->shape, shape, (size_t)rank * sizeof *shape))
            RT_RAISE(RT_E_INVALID, "%s: parameter '%s' is (%s) in the set and (%s) in the network; they must agree", set->name, name,
                     rt_shape_text(have, sizeof have, e->rank, e->shape), rt_shape_text(want, sizeof want, rank, shape));
        *index = at;
        return RT_OK;
    }
    for (rt_role i = 0; i < RT_ROLES; i++)
        if (rt_params_has(set, i))
            RT_RAISE(RT_E_INVALID, "%s: parameter '%s' is not in the set, which is complete; build all networks on it first", set->name,
                     name);
    int64_t count = 1;
    if (rank < 0 || rank > RT_MAX_RANK)
        RT_RAISE(RT_E_INVALID, "%s: parameter '%s' has rank %d, at most %d are supported", set->name, name, rank, RT_MAX_RANK);
    for (int i = 0; i < rank; i++)
        if (shape[i] < 1 || __builtin_mul_overflow(count, shape[i], &count) || count > INT64_MAX / 64)
            RT_RAISE(RT_E_INVALID, "%s: parameter '%s' has the impossible shape (%s)", set->name, name,
                     rt_shape_text(want, sizeof want, rank, shape));
    if (set->n == set->room) {
        int room = set->room ? 2 * set->room : 64;
        rt_entry *entries = realloc(set->entries, (size_t)room * sizeof *entries);
        if (!entries) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %d parameters", set->name, room);
        set->entries = entries;
        set->room = room;
    }
    rt_entry *e = &set->entries[set->n];
    *e = (rt_entry){.name = rt__arena_strdup(&set->arena, name), .rank = rank, .offset = set->extent, .count = count, .init = init};
    if (!e->name) RT_RAISE(RT_E_MEMORY, "%s: out of memory for the name of a parameter", set->name);
    if (rank) memcpy(e->shape, shape, (size_t)rank * sizeof *shape);
    set->trained = set->extent += (count + ALIGN - 1) / ALIGN * ALIGN;
    set->count += count;
    *index = set->n++;
    return RT_OK;
}

/* ---- arrays */

rt_status rt_params_fetch(rt_params *set, rt_role role, rt_error *err)
{
    if (!set->data[role]) set->data[role] = rt__arena_alloc(&set->arena, bytes_of(set, role) + BEHIND);
    if (!set->data[role]) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %lld parameters", set->name, (long long)set->count);
    if (!(set->older >> role & 1)) return RT_OK;
    rt__device_enter();
    set->device->download(set->data[role], set->there[role], bytes_of(set, role));
    rt_status status = set->device->finish(err);
    rt__device_leave();
    if (status == RT_OK) set->older &= ~(1u << role);
    return status;
}

void *rt_params_data(rt_params *set, rt_role role) { return rt_params_fetch(set, role, NULL) == RT_OK ? set->data[role] : NULL; }

void rt_params_touch(rt_params *set)
{
    set->version++;
    for (rt_role role = 0; role < RT_ROLES; role++)
        if (set->data[role] && set->there[role] && !(set->older >> role & 1)) set->newer |= 1u << role;
}

void rt__params_moved(rt_params *set, unsigned roles)
{
    set->version++, set->older |= roles;
    set->newer &= ~roles;
}

void rt_params_zero(rt_params *set, rt_role role)
{
    if (set->there[role]) {
        rt__device_enter();
        set->device->zero(set->there[role], bytes_of(set, role));
        rt__device_leave();
        rt__params_moved(set, 1u << role);
    } else if (set->data[role]) {
        memset(set->data[role], 0, bytes_of(set, role));
        rt_params_touch(set);
    }
}

rt_status rt__params_on(rt_params *set, rt_role role, const rt_device *device, void **at, rt_error *err)
{
    size_t bytes = bytes_of(set, role);
    if (!device) {
        RT_TRY(rt_params_fetch(set, role, err));
        *at = set->data[role];
        return RT_OK;
    }
    if (set->device && set->device != device)
        RT_RAISE(RT_E_USAGE, "set '%s' lies on a device already; give its programs one backend", set->name);
    if (!set->there[role]) {
        if (!(set->there[role] = device->alloc(bytes + BEHIND)))
            RT_RAISE(RT_E_MEMORY, "out of memory on the device: '%s' needs %zu MiB, %zu are free; use a smaller network", set->name,
                     (bytes >> 20) + 1, device->room() >> 20);
        set->device = device;
        if (set->data[role]) {
            set->newer |= 1u << role;
        } else {
            device->zero(set->there[role], bytes + BEHIND);
            set->older |= 1u << role;
        }
    }
    *at = set->there[role];
    return RT_OK;
}

void rt__params_push(rt_params *set, rt_role role)
{
    if (set->newer >> role & 1) set->device->upload(set->there[role], set->data[role], bytes_of(set, role));
    set->newer &= ~(1u << role);
}

int64_t rt__params_rehearse(rt_params *set, rt_role role)
{
    bool counted = set->rehearsed >> role & 1;
    set->rehearsed |= 1u << role;
    return counted ? 0 : (int64_t)bytes_of(set, role);
}

/* A pattern of the list that this name matches; in `used`, bit k says that pattern k matched. */
static bool matches(const char *globs, const char *name, uint64_t *used)
{
    char glob[256];
    bool any = false;
    for (int k = 0; *globs; k++) {
        size_t n = strcspn(globs, ",");
        snprintf(glob, sizeof glob, "%.*s", (int)n, globs);
        if (n < sizeof glob && fnmatch(glob, name, 0) == 0) any = true, *used |= 1ull << k % 64;
        globs += n + (globs[n] == ',');
    }
    return any;
}

rt_status rt_params_freeze(rt_params *set, const char *globs, rt_error *err)
{
    uint64_t used = 0;
    int trained = 0;
    for (rt_role i = 0; i < RT_ROLES; i++)
        if (rt_params_has(set, i)) RT_RAISE(RT_E_INTERNAL, "%s: its arrays exist, so that nothing in it can be frozen any more", set->name);
    for (int i = 0; i < set->n; i++) {
        set->entries[i].frozen |= matches(globs, set->entries[i].name, &used);
        trained += !set->entries[i].frozen;
    }
    const char *at = globs;
    for (int k = 0; *at; k++) {
        int n = (int)strcspn(at, ",");
        if (!(used >> k % 64 & 1))
            RT_RAISE(
                RT_E_USAGE,
                "train.freeze: '%.*s' matches no parameter of '%s'; its %d parameters have names such as %s, and * stands for any text", n,
                at, set->name, set->n, set->n ? set->entries[set->n / 2].name : "none");
        at += n + (at[n] == ',');
    }
    if (trained == 0) RT_RAISE(RT_E_USAGE, "train.freeze: '%s' matches every parameter of '%s'; leave some to train", globs, set->name);
    set->extent = 0;
    for (int frozen = 0; frozen < 2; frozen++)
        for (int i = 0; i < set->n; i++) {
            rt_entry *e = &set->entries[i];
            if (e->frozen != (frozen == 1)) continue;
            e->offset = set->extent;
            set->extent += (e->count + ALIGN - 1) / ALIGN * ALIGN;
            if (!frozen) set->trained = set->extent;
        }
    return RT_OK;
}

static void store(void *data, rt_dtype dtype, int64_t i, double v)
{
    if (dtype == RT_F32)
        ((float *)data)[i] = (float)v;
    else
        ((double *)data)[i] = v;
}

rt_status rt_params_init(rt_params *set, uint64_t seed, rt_error *err)
{
    RT_TRY(rt_params_fetch(set, RT_VALUE, err));
    void *values = set->data[RT_VALUE];
    for (int k = 0; k < set->n; k++) {
        const rt_entry *e = &set->entries[k];
        rt__draw draw = {.seed = seed, .name = rt__draw_name(e->name)};
        for (int64_t i = 0; i < e->count; i += 4) {
            double v[4];
            uint32_t w[4];
            if (e->init.kind == RT_INIT_KIND_NORMAL)
                rt__draw_normal(&draw, 0, (uint32_t)(i / 4), v);
            else
                rt__draw_words(&draw, 0, (uint32_t)(i / 4), w);
            for (int j = 0; j < 4 && i + j < e->count; j++) {
                double x = e->init.kind == RT_INIT_KIND_CONST     ? e->init.a
                           : e->init.kind == RT_INIT_KIND_UNIFORM ? e->init.a * (2 * rt__unit(w[j]) - 1)
                                                                  : e->init.a * v[j];
                store(values, set->dtype, e->offset + i + j, x);
            }
        }
    }
    rt_params_touch(set);
    return RT_OK;
}

/* Do both hold the parameters of one network? */
static rt_status check_alike(const rt_params *to, const rt_params *from, rt_error *err)
{
    bool same = to->dtype == from->dtype && to->n == from->n;
    for (int i = 0; same && i < to->n; i++) {
        const rt_entry *a = &to->entries[i], *b = &from->entries[i];
        same = a->rank == b->rank && !strcmp(a->name, b->name) && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
    }
    if (!same) RT_RAISE(RT_E_INVALID, "sets '%s' and '%s' differ in their parameters; both must be the same network", to->name, from->name);
    return RT_OK;
}

static int64_t end_of(const rt_entry *e) { return e->offset + (e->count + ALIGN - 1) / ALIGN * ALIGN; }

/* The numbers, gaps included, of entry *i and of those that follow it in both sets: what is frozen stands elsewhere in a set than in its copy without. *i becomes
 * the entry after them. */
static int64_t stretch(const rt_params *to, const rt_params *from, int *i)
{
    const rt_entry *a = to->entries, *b = from->entries;
    int first = *i, k = first + 1;
    while (k < to->n && a[k].offset == end_of(&a[k - 1]) && b[k].offset == end_of(&b[k - 1])) k++;
    *i = k;
    return end_of(&a[k - 1]) - a[first].offset;
}

rt_status rt_params_copy(rt_params *to, rt_role to_role, const rt_params *from, rt_role from_role, rt_error *err)
{
    if (!rt_params_has(from, from_role)) RT_RAISE(RT_E_INTERNAL, "%s: the role %d to copy from is empty", from->name, (int)from_role);
    RT_TRY(check_alike(to, from, err));
    size_t width = rt_dtype_size(from->dtype);
    bool there = to->device == from->device && to->there[to_role] && from->there[from_role] && !(from->newer >> from_role & 1);
    if (!there) {
        RT_TRY(rt_params_fetch(to, to_role, err));
        RT_TRY(rt_params_fetch((rt_params *)(uintptr_t)from, from_role, err));
    }
    char *out = there ? to->there[to_role] : to->data[to_role];
    const char *in = there ? from->there[from_role] : from->data[from_role];
    rt__device_enter();
    for (int i = 0; i < to->n && out != in;) {
        char *at = out + (size_t)to->entries[i].offset * width;
        const char *numbers = in + (size_t)from->entries[i].offset * width;
        size_t bytes = (size_t)stretch(to, from, &i) * width;
        if (there)
            to->device->copy(at, numbers, bytes);
        else
            memcpy(at, numbers, bytes);
    }
    rt__device_leave();
    if (there)
        rt__params_moved(to, 1u << to_role);
    else
        rt_params_touch(to);
    return RT_OK;
}

void rt__trail(void *to, const void *from, double keep, int64_t count, rt_dtype dtype)
{
    if (dtype == RT_F64) {
        double *a = to;
        const double *b = from;
        for (int64_t k = 0; k < count; k++) a[k] = keep * a[k] + (1 - keep) * b[k];
    } else {
        float *a = to, share = (float)keep;
        const float *b = from;
        for (int64_t k = 0; k < count; k++) a[k] = share * a[k] + (1 - share) * b[k];
    }
}

rt_status rt_params_trail(rt_params *set, rt_params *leader, double keep, rt_error *err)
{
    enum { LAUNCH = 1 << 30 }; /* numbers that a device's kernel counts in 32 bits */
    RT_TRY(check_alike(set, leader, err));
    bool there = set->device && set->device == leader->device && set->there[RT_VALUE] && leader->there[RT_VALUE];
    rt_status status = RT_OK;
    if (!there) {
        RT_TRY(rt_params_fetch(set, RT_VALUE, err));
        RT_TRY(rt_params_fetch(leader, RT_VALUE, err));
    }
    rt__device_enter();
    if (there) rt__params_push(set, RT_VALUE), rt__params_push(leader, RT_VALUE);
    char *out = there ? set->there[RT_VALUE] : set->data[RT_VALUE];
    const char *in = there ? leader->there[RT_VALUE] : leader->data[RT_VALUE];
    size_t width = rt_dtype_size(set->dtype);
    for (int i = 0; i < set->n;) {
        char *at = out + (size_t)set->entries[i].offset * width;
        const char *ahead = in + (size_t)leader->entries[i].offset * width;
        int64_t count = stretch(set, leader, &i);
        for (int64_t done = 0; there && done < count; done += LAUNCH) {
            int64_t part = count - done < LAUNCH ? count - done : LAUNCH;
            set->device->trail(at + (size_t)done * width, ahead + (size_t)done * width, keep, part);
        }
        if (!there) rt__trail(at, ahead, keep, count, set->dtype);
    }
    if (there) status = set->device->finish(err); /* of uploads, which read the host's array */
    rt__device_leave();
    RT_TRY(status);
    if (there)
        rt__params_moved(set, 1u << RT_VALUE);
    else
        rt_params_touch(set);
    return RT_OK;
}
