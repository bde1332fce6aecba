/* choices.c -- which of several algorithms computes a shape: a table from texts to names, and its file. What the texts and names mean is the
 * backend's business.
 *
 *     {"retort": "choices/1", "choices": {"onednn 2.6.3, x86 a10f11, 2 threads: conv2d 64x32x28x28 by 32x32x3x3 ...": "winograd", ...}} */
#include "graph/choices.h"

#include "base/files.h"
#include "base/internal.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "choices/1"
enum { MOST_BYTES = 4 << 20, MOST_CHOICES = 20000, MOST_NAME = 32 };

struct rt_choices {
    bool trying;
    const char *preferred; /* NULL: none */
    json_t *known, *used;  /* key -> name; what programs were made with */
};

rt_choices *rt_choices_new(bool trying)
{
    rt_choices *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    *c = (rt_choices){trying, NULL, json_object(), json_object()};
    if (c->known && c->used) return c;
    rt_choices_free(c);
    return NULL;
}

void rt_choices_free(rt_choices *c)
{
    if (!c) return;
    json_decref(c->known);
    json_decref(c->used);
    free(c);
}

int rt_choices_used(const rt_choices *c, const char *name)
{
    int n = 0;
    for (void *at = json_object_iter(c->used); at; at = json_object_iter_next(c->used, at))
        n += !name || !strcmp(name, json_string_value(json_object_iter_value(at)));
    return n;
}

void rt_choices_prefer(rt_choices *c, const char *name) { c->preferred = name; }

/* ---- choosing */

enum { ROUNDS = 7, MOST_WAYS = 8 };
static const double enough = 2e-3; /* seconds per reading */
static const double margin = 0.95; /* of the rule's time, for another way to be worth leaving it */

typedef struct trial {
    void *state, *memory;
    size_t scratch;
    int repeats;
    double seconds; /* the least of all readings */
} trial;

/* Seconds of one run, from t->repeats of them. */
static double reading(const rt_call *c, const rt__ways *ways, const trial *t)
{
    rt_call call = *c;
    call.state = t->state;
    call.scratch = t->memory;
    double (*clock)(void) = ways->clock ? ways->clock : rt__seconds, start = clock();
    for (int i = 0; i < t->repeats; i++) ways->run(&call);
    return (clock() - start) / t->repeats;
}

/* The ways in turn, so that all suffer alike from what else the machine does, which only adds: the least reading of each counts. Another way than
 * the rule's must be clearly faster. */
static int fastest(const rt_call *c, const rt__ways *ways, trial *t)
{
    for (int k = 0; k < ways->n; k++) {
        if (!t[k].state) continue;
        t[k].repeats = 1;
        (void)reading(c, ways, &t[k]); /* caches and pages are warm now */
        double once = reading(c, ways, &t[k]);
        t[k].seconds = INFINITY;
        t[k].repeats = once < enough ? 1 + (int)(enough / (once + 1e-9)) : 1;
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int k = 0; k < ways->n; k++)
            if (t[k].state) t[k].seconds = fmin(t[k].seconds, reading(c, ways, &t[k]));
    int best = t[ways->rule].state ? ways->rule : -1;
    double least = INFINITY;
    for (int k = 0; k < ways->n; k++) {
        if (!t[k].state) continue;
        double seconds = t[k].seconds * (k == ways->rule ? margin : 1);
        if (seconds < least) least = seconds, best = k;
    }
    return best;
}

static size_t bytes_of(const rt_view *v) { return (size_t)v->count * rt_dtype_size(v->dtype); }

/* A device multiplies zeros faster than other numbers: there an operand's are words of a generator, whose exponents are made those of 1 and 2. */
static void *borrow(rt_view *v, const rt_device *device, rt__arena *a)
{
    size_t bytes = bytes_of(v);
    uint32_t *words = v->data = rt__arena_alloc(a, bytes + sizeof *words);
    if (!device || !words) return words;
    uint32_t exponents = v->dtype == RT_F32 ? 0x3f800000 : v->dtype == RT_BF16 ? 0x3f803f80 : 0;
    uint32_t digits = v->dtype == RT_F32 ? 0x007fffff : v->dtype == RT_BF16 ? 0x007f007f : 0;
    for (size_t i = 0, word = 1; i < bytes / sizeof *words; i++)
        words[i] = exponents | ((uint32_t)((word = word * 6364136223846793005u + 1) >> 32) & digits);
    if ((v->data = device->alloc(bytes + sizeof *words))) device->upload(v->data, words, bytes);
    return v->data;
}

/* Programs are made before they have memory, so a trial has operands of its own: zeros, on the host. False when memory is out. */
static bool borrow_operands(rt_call *c, const rt_device *device, rt__arena *a)
{
    rt_view *in = rt__arena_alloc(a, (size_t)(c->n_in + 1) * sizeof *in);
    bool ok = in && borrow(&c->out, device, a);
    for (int i = 0; i < c->n_in && in; i++) {
        in[i] = c->in[i];
        ok = ok && borrow(&in[i], device, a);
    }
    c->in = in;
    return ok && (!device || device->finish(NULL) == RT_OK);
}

static void give_back(const rt_call *c, const rt_device *device)
{
    if (!device) return;
    device->release(c->out.data, bytes_of(&c->out) + sizeof(uint32_t));
    for (int i = 0; i < c->n_in && c->in; i++) device->release(c->in[i].data, bytes_of(&c->in[i]) + sizeof(uint32_t));
}

static void *try_all(const rt_call *program_call, const rt__ways *ways, int *chosen, size_t *scratch)
{
    rt_call call = *program_call, *c = &call;
    rt__arena operands = {0};
    trial t[MOST_WAYS] = {0};
    const rt_device *device = ways->device;
    bool room = borrow_operands(c, device, &operands);
    for (int k = 0; k < ways->n && room; k++) {
        t[k].state = ways->make(c, k, &t[k].scratch);
        size_t bytes = (t[k].scratch + 127) / 64 * 64;
        t[k].memory = !t[k].state ? NULL : device ? device->alloc(bytes) : aligned_alloc(64, bytes);
        if (!t[k].state || t[k].memory) continue;
        ways->release(t[k].state);
        t[k].state = NULL;
    }
    int best = *chosen = room ? fastest(c, ways, t) : -1;
    for (int k = 0; k < ways->n; k++) {
        if (device)
            device->release(t[k].memory, (t[k].scratch + 127) / 64 * 64);
        else
            free(t[k].memory);
        if (t[k].state && k != best) ways->release(t[k].state);
    }
    give_back(c, device);
    rt__arena_free(&operands);
    *scratch = best >= 0 ? t[best].scratch : 0;
    return best >= 0 ? t[best].state : NULL;
}

void *rt__choose(const rt_call *c, const char *key, const rt__ways *ways, size_t *scratch)
{
    rt_choices *choices = c->choices;
    const char *name = choices && choices->preferred ? choices->preferred
                       : choices                     ? json_string_value(json_object_get(choices->known, key))
                                                     : NULL;
    int k = ways->rule;
    void *state = NULL;
    for (int i = 0; name && i < ways->n && !state; i++)
        if (!strcmp(ways->names[i], name)) state = ways->make(c, k = i, scratch);
    if (!state && choices && choices->trying) state = try_all(c, ways, &k, scratch);
    if (!state)
        for (k = ways->rule; k >= 0 && !(state = ways->make(c, k, scratch));) k--;
    if (state && choices) {
        json_object_set_new(choices->known, key, json_string(ways->names[k]));
        json_object_set_new(choices->used, key, json_string(ways->names[k]));
    }
    return state;
}

void rt__choice_key(const rt_call *c, const char *who, char *text, size_t size)
{
    FILE *f = fmemopen(text, size, "w");
    if (!f) return;
    fprintf(f, "%s: %s", who, c->node->op->name);
    for (int i = 0; i <= c->n_in; i++) {
        const rt_view *v = i < c->n_in ? &c->in[i] : &c->out;
        fprintf(f, i < c->n_in ? " " : " -> ");
        for (int j = 0; j < v->rank; j++) fprintf(f, "%s%lld", j ? "x" : "", (long long)v->dim[j]);
        fprintf(f, " %s", rt_dtype_name(v->dtype));
        if (v->block > 1) fprintf(f, "/%d", v->block);
    }
    if (c->node->op == rt__ops_f32[RT_OP_matmul]) {
        const rt__matmul_attr *at = c->node->attr;
        fprintf(f, " transposed %d %d", at->transpose_a, at->transpose_b);
    } else {
        const rt_conv *v = &((const rt__conv_attr *)c->node->attr)->conv;
        fprintf(f, " stride %d %d pad %d %d %d %d dilation %d %d groups %d", v->stride[0], v->stride[1], v->pad[0], v->pad[1], v->pad[2],
                v->pad[3], v->dilation[0], v->dilation[1], v->groups);
    }
    fclose(f);
}

/* ---- files */

static rt_status check(const json_t *file, const char *path, rt_error *err)
{
    const json_t *format = json_object_get(file, "retort");
    json_t *table = json_object_get(file, "choices");
    if (!json_is_string(format) || strcmp(json_string_value(format), FORMAT) || !json_is_object(table))
        RT_RAISE(RT_E_INVALID, "%s: holds no choices of format " FORMAT "; remove it", path);
    for (void *at = json_object_iter(table); at; at = json_object_iter_next(table, at)) {
        const char *name = json_string_value(json_object_iter_value(at));
        if (!name || !*name || strlen(name) > MOST_NAME)
            RT_RAISE(RT_E_INVALID, "%s: '%.80s' is no choice of format " FORMAT "; remove the file", path, json_object_iter_key(at));
    }
    return RT_OK;
}

/* The table of a file, a new reference; an empty one where there is no file. */
static rt_status read_table(json_t **table, const char *path, rt_error *err)
{
    char *text;
    size_t size;
    json_t *file;
    *table = NULL;
    if (!rt__file_exists(path)) {
        *table = json_object();
        return *table ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    }
    RT_TRY(rt__file_read(path, MOST_BYTES, &text, &size, err));
    rt_status status = rt__json_parse(&file, path, text, size, 2 * MOST_CHOICES, err);
    free(text);
    RT_TRY(status);
    status = check(file, path, err);
    if (status == RT_OK) *table = json_incref(json_object_get(file, "choices"));
    json_decref(file);
    return status;
}

rt_status rt_choices_read(rt_choices *c, const char *path, rt_error *err)
{
    json_t *table;
    RT_TRY(read_table(&table, path, err));
    int failed = json_object_update(c->known, table);
    json_decref(table);
    return failed ? rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path) : RT_OK;
}

static rt_status make_folder_of(const char *path, rt_error *err)
{
    const char *slash = strrchr(path, '/');
    char folder[1024];
    if (!slash || slash == path) return RT_OK;
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    return rt__make_folders(folder, err);
}

rt_status rt_choices_keep(const rt_choices *c, const char *path, rt_error *err)
{
    json_t *table;
    if (json_object_size(c->used) == 0) return RT_OK;
    if (read_table(&table, path, NULL) != RT_OK) table = json_object(); /* a broken file is replaced */
    size_t before = json_object_size(table);
    rt_status status = RT_OK;
    if (!table || json_object_update_missing(table, c->used)) status = rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    if (status == RT_OK && json_object_size(table) > before) {
        json_t *file = json_pack("{s:s, s:O}", "retort", FORMAT, "choices", table);
        char *text = file ? json_dumps(file, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
        json_decref(file);
        status = text ? make_folder_of(path, err) : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
        if (status == RT_OK) status = rt__file_write(path, text, strlen(text), err);
        free(text);
    }
    json_decref(table);
    return status;
}
