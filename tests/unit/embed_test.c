/* embed_test.c -- the stable interface: the bits are those of the layers below, from several threads too; nothing of the caller's is changed; structs grow; all
 * memory is the caller's allocator's. */
#include "retort.h"

#include "retort/config.h"
#include "retort/model.h"
#include "retort/train.h"

#include <ftw.h>
#include <locale.h>
#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define STUDENT    "models/fashion-mnist-4"
#define CLASSIFIER "models/fashion-features"
#define ORACLE     "oracle:examples/classes.json"

enum { PIXELS = 28 * 28, N = 5 };

static char base[64];
static retort_error err;
static rt_error below;

#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        if ((call) != RETORT_OK) fail_msg("%s", err.text);                                                                                 \
        assert_string_equal(err.text, "");                                                                                                 \
    } while (0)
#define REFUSED(want, says, call)                                                                                                          \
    do {                                                                                                                                   \
        assert_int_equal((call), want);                                                                                                    \
        assert_int_equal(err.status, want);                                                                                                \
        if (!strstr(err.text, says)) fail_msg("'%s' lacks '%s'", err.text, says);                                                          \
    } while (0)

static char *in(const char *name)
{
    static char path[8][128];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", base, name);
    return path[turn];
}

/* ---- the allocator of the whole test: a head in front of each block says that it is one of these */

typedef struct head {
    uint64_t mark;
    size_t bytes;
    void *memory;
} head;

static const uint64_t mark = 0x5265746f72744d21;
static atomic_long live, live_bytes, refused;
static atomic_bool full; /* nothing more is given */

static void *allocate(void *self, size_t alignment, size_t bytes)
{
    assert_ptr_equal(self, &live);
    assert_true(alignment > 0 && alignment <= 64 && (alignment & (alignment - 1)) == 0);
    if (full) {
        refused++;
        return NULL;
    }
    char *memory = malloc(bytes + sizeof(head) + alignment);
    if (!memory) return NULL;
    char *block = memory + sizeof(head);
    block += (alignment - (uintptr_t)block % alignment) % alignment;
    memcpy(block - sizeof(head), &(head){mark, bytes, memory}, sizeof(head));
    live++;
    live_bytes += (long)bytes;
    return block;
}

static head head_of(void *block)
{
    head h;
    memcpy(&h, (char *)block - sizeof h, sizeof h);
    if (h.mark != mark) abort(); /* another allocator's block */
    return h;
}

static void release(void *self, void *block)
{
    head h = head_of(block);
    assert_ptr_equal(self, &live);
    memset((char *)block - sizeof h, 0, sizeof h);
    free(h.memory);
    live--;
    live_bytes -= (long)h.bytes;
}

static void *resize(void *self, void *block, size_t bytes)
{
    head h = head_of(block);
    void *more = allocate(self, _Alignof(max_align_t), bytes);
    if (!more) return NULL;
    memcpy(more, block, h.bytes < bytes ? h.bytes : bytes);
    release(self, block);
    return more;
}

static void memory_is_the_callers(void **state)
{
    (void)state;
    long before = live, bytes = live_bytes;
    retort_model *m;
    OK(retort_model_open(&m, STUDENT, NULL, &err));
    retort_model_info i = {.size = sizeof i};
    OK(retort_model_describe(m, &i, &err));
    long opened = live_bytes;
    assert_true(opened - bytes >= 4 * i.parameters);
    float *x = malloc(N * PIXELS * sizeof *x);
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = N}, x, NULL, &err));
    assert_true(live_bytes - opened > N * PIXELS * (long)sizeof(float)); /* the program's buffers */
    full = true;
    REFUSED(RETORT_E_MEMORY, "memory", retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 2}, x, NULL, &err));
    full = false;
    assert_true(refused > 0);
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 2}, x, NULL, &err));
    free(x);
    retort_model_free(m);
    assert_int_equal(live, before);

    retort_allocator a = {sizeof a, &live, allocate, resize, release};
    REFUSED(RETORT_E_USAGE, "already", retort_set_allocator(&a, &err));
    a.resize = NULL;
    REFUSED(RETORT_E_USAGE, "all needed", retort_set_allocator(&a, &err));
}

/* ---- version, structs */

static void versions(void **state)
{
    (void)state;
    char text[64];
    snprintf(text, sizeof text, "%d.%d.%d", RETORT_VERSION_MAJOR, RETORT_VERSION_MINOR, RETORT_VERSION_PATCH);
    assert_string_equal(retort_version_text(), text);
    assert_int_equal(retort_version(), RETORT_VERSION_NUMBER);
    assert_true(retort_version_check(RETORT_VERSION_NUMBER));
    assert_true(retort_version_check(RETORT_VERSION_MAJOR * 1000000));
    assert_false(retort_version_check(RETORT_VERSION_NUMBER + 1));            /* a header newer than the library */
    assert_false(retort_version_check((RETORT_VERSION_MAJOR + 1) * 1000000)); /* another interface */
    assert_false(retort_version_check(RETORT_VERSION_MAJOR * 1000000 - 1));
    assert_string_equal(retort_status_name(RETORT_E_BUSY), "busy");
}

static void structs_grow(void **state)
{
    (void)state;
    retort_model *m;
    float x[2 * N], y[2 * N];
    struct {
        retort_sampling s;
        uint64_t later;
    } newer = {.s = {.size = sizeof newer, .count = N, .seed = 3}};
    OK(retort_model_open(&m, ORACLE, NULL, &err));
    OK(retort_sample(m, &newer.s, x, NULL, &err));
    newer.later = 1;
    REFUSED(RETORT_E_USAGE, "update libretort", retort_sample(m, &newer.s, x, NULL, &err));
    REFUSED(RETORT_E_USAGE, "size is 0", retort_sample(m, &(retort_sampling){.count = N}, x, NULL, &err));

    /* a program of a time when the struct ended behind `seed`: what follows it in memory is not read */
    retort_sampling older = {.size = offsetof(retort_sampling, seed) + sizeof older.seed, .count = N, .seed = 3, .steps = -7};
    OK(retort_sample(m, &older, y, NULL, &err));
    assert_memory_equal(x, y, sizeof x);

    struct {
        retort_model_info i;
        uint64_t later;
    } info = {.i.size = sizeof info, .later = 9};
    OK(retort_model_describe(m, &info.i, &err));
    assert_int_equal(info.later, 0);
    assert_int_equal(info.i.size, sizeof info);
    retort_model_info small = {.size = offsetof(retort_model_info, network), .network = "mine"};
    OK(retort_model_describe(m, &small, &err));
    assert_string_equal(small.network, "mine");
    assert_string_equal(small.path, info.i.path);
    retort_model_free(m);
}

/* ---- models */

static void what_it_says(void **state)
{
    (void)state;
    retort_model *m;
    retort_model_info i = {.size = sizeof i};
    OK(retort_model_open(&m, STUDENT, NULL, &err));
    OK(retort_model_describe(m, &i, &err));
    assert_string_equal(i.network, "UNet2DModel");
    assert_int_equal(i.rank, 3);
    assert_int_equal(i.shape[1] * i.shape[2], PIXELS);
    assert_int_equal(i.features, PIXELS);
    assert_int_equal(i.steps, 4);
    assert_int_equal(i.feature_dims, 0);
    retort_model_free(m);
    REFUSED(RETORT_E_IO, "no/such", retort_model_open(&m, "no/such", NULL, &err));
    assert_null(m);
    REFUSED(RETORT_E_USAGE, "NULL", retort_model_open(&m, NULL, NULL, &err));
    retort_model_options o = {.size = sizeof o, .dtype = "f64"};
    REFUSED(RETORT_E_USAGE, "f64", retort_model_open(&m, STUDENT, &o, &err));
    o = (retort_model_options){.size = sizeof o, .weights = "row"};
    REFUSED(RETORT_E_USAGE, "row", retort_model_open(&m, STUDENT, &o, &err));
    assert_int_equal(retort_model_open(&m, "no/such", NULL, NULL), RETORT_E_IO);
}

static rt_status keep(void *user, const rt_samples *s, rt_error *e)
{
    (void)e;
    memcpy((float *)user + s->first * PIXELS, s->x, (size_t)(s->count * PIXELS) * sizeof(float));
    return RT_OK;
}

static void as_below(void **state)
{
    (void)state;
    static float x[N * PIXELS], want[N * PIXELS], noise[N * PIXELS];
    int64_t labels[N];
    retort_model *m;
    rt_model *n;
    rt_sample_report report;
    for (int i = 0; i < N * PIXELS; i++) noise[i] = sinf((float)i);
    OK(retort_model_open(&m, STUDENT, NULL, &err));
    assert_int_equal(rt_model_open(&n, &(rt_model_spec){.path = STUDENT}, &below), RT_OK);
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = N, .seed = 5, .batch = 2}, x, labels, &err));
    assert_int_equal(rt_model_sample(n, &(rt_sampling){.n = N, .seed = 5, .batch = 2}, keep, want, &report, &below), RT_OK);
    assert_memory_equal(x, want, sizeof x);
    for (int j = 0; j < N; j++) assert_int_equal(labels[j], j);
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = N, .noise = noise, .steps = 3, .solver = "heun"}, x,
                     NULL, &err));
    assert_int_equal(rt_model_sample(n, &(rt_sampling){.n = N, .noise = noise, .steps = 3, .solver = "heun"}, keep, want, &report, &below),
                     RT_OK);
    assert_memory_equal(x, want, sizeof x);

    double t[N] = {900, 500, 300, 100, 0};
    OK(retort_predict(m, "x0", N, noise, t, labels, x, &err));
    assert_int_equal(rt_model_predict(n, "x0", N, noise, t, labels, want, &below), RT_OK);
    assert_memory_equal(x, want, sizeof x);
    REFUSED(RETORT_E_USAGE, "did you mean", retort_predict(m, "epsilom", N, noise, t, labels, x, &err));
    REFUSED(RETORT_E_USAGE, "class for each", retort_predict(m, NULL, N, noise, t, NULL, x, &err));
    REFUSED(RETORT_E_USAGE, "must be 1", retort_predict(m, NULL, 0, noise, t, labels, x, &err));
    REFUSED(RETORT_E_USAGE, "first must be", retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling)}, x, NULL, &err));
    REFUSED(RETORT_E_USAGE, "first must be",
            retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 2, .first = INT64_MAX}, x, NULL, &err));
    retort_model_free(m);
    rt_model_free(n);

    retort_model_info i = {.size = sizeof i};
    OK(retort_model_open(&m, CLASSIFIER, NULL, &err));
    OK(retort_model_describe(m, &i, &err));
    float *features = malloc((size_t)(N * i.feature_dims) * sizeof *features), *same = malloc((size_t)(N * i.feature_dims) * sizeof *same);
    int64_t likely[N];
    assert_int_equal(rt_model_open(&n, &(rt_model_spec){.path = CLASSIFIER}, &below), RT_OK);
    OK(retort_features(m, N, noise, features, labels, &err));
    assert_int_equal(rt_model_features(n, N, noise, same, likely, &below), RT_OK);
    assert_memory_equal(features, same, (size_t)(N * i.feature_dims) * sizeof *features);
    assert_memory_equal(labels, likely, sizeof labels);
    free(features);
    free(same);
    retort_model_free(m);
    rt_model_free(n);
}

static void classes(void **state)
{
    (void)state;
    retort_model *plain;
    retort_model *m;
    float x[2 * N], y[2 * N];
    int64_t got[N];
    const int64_t ones[N] = {1, 1, 1, 1, 1}, turns[N] = {0, 1, 0, 1, 0};
    OK(retort_model_open(&m, ORACLE, NULL, &err));
    retort_sampling s = {.size = sizeof s, .count = N, .labels = ones, .has_guidance = 1, .guidance = 0.5};
    OK(retort_sample(m, &s, x, got, &err));
    assert_memory_equal(got, ones, sizeof ones);
    s.labels = NULL;
    OK(retort_sample(m, &s, y, got, &err));
    assert_memory_equal(got, turns, sizeof turns);
    assert_memory_not_equal(x, y, sizeof x);
    assert_memory_equal(x + 2, y + 2, 2 * sizeof *x); /* sample 1 is of class 1 in both */
    s.has_guidance = 0;
    OK(retort_sample(m, &s, x, NULL, &err));
    assert_memory_not_equal(x, y, sizeof x);
    retort_model_free(m);
    OK(retort_model_open(&plain, "oracle:examples/gaussian.json", NULL, &err));
    REFUSED(RETORT_E_USAGE, "no classes",
            retort_sample(plain, &(retort_sampling){.size = sizeof(retort_sampling), .count = N, .labels = ones}, x, NULL, &err));
    OK(retort_sample(plain, &(retort_sampling){.size = sizeof(retort_sampling), .count = N}, x, got, &err));
    assert_int_equal(got[N - 1], -1);
    retort_model_free(plain);
}

/* ---- threads */

typedef struct job {
    retort_model *model;
    int count, rounds;
    float *x, *out;
    retort_status status;
} job;

static void *work(void *self)
{
    job *j = self;
    retort_error e = {RETORT_OK, ""};
    const double t[N] = {700, 700, 20, 20, 20};
    const int64_t y[N] = {0, 3, 1, 4, 2};
    for (int k = 0; k < j->rounds && e.status == RETORT_OK; k++) {
        retort_sample(j->model, &(retort_sampling){.size = sizeof(retort_sampling), .count = j->count, .seed = 8}, j->x, NULL, &e);
        if (e.status == RETORT_OK) retort_predict(j->model, NULL, j->count, j->x, t, y, j->out, &e);
    }
    j->status = e.status;
    return NULL;
}

static void two_threads_give_the_bits_of_one(void **state)
{
    (void)state;
    retort_model *m;
    job alone[2], both[2];
    OK(retort_model_open(&m, STUDENT, &(retort_model_options){.size = sizeof(retort_model_options), .threads = 2}, &err));
    for (int i = 0; i < 2; i++) {
        alone[i] = (job){m, i ? N : 2, 1, calloc(N * PIXELS, sizeof(float)), calloc(N * PIXELS, sizeof(float)), RETORT_OK};
        both[i] = (job){m, i ? N : 2, 2, calloc(N * PIXELS, sizeof(float)), calloc(N * PIXELS, sizeof(float)), RETORT_OK};
        work(&alone[i]);
        assert_int_equal(alone[i].status, RETORT_OK);
    }
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, work, &both[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(both[i].status, RETORT_OK);
        assert_memory_equal(both[i].x, alone[i].x, N * PIXELS * sizeof(float));
        assert_memory_equal(both[i].out, alone[i].out, N * PIXELS * sizeof(float));
    }
    for (int i = 0; i < 2; i++) {
        free(alone[i].x), free(alone[i].out);
        free(both[i].x), free(both[i].out);
    }
    retort_model_free(m);
}

/* ---- runs */

static retort_settings *toy(const char *name)
{
    retort_settings *s;
    OK(retort_settings_new(&s, "denoise", &err));
    OK(retort_settings_set(s, "data.path", "toy:moons", &err));
    OK(retort_settings_set(s, "net", "examples/mlp.json", &err));
    OK(retort_settings_set(s, "out", in(name), &err));
    OK(retort_settings_set(s, "train.updates", "6", &err));
    OK(retort_settings_set(s, "train.batch", "16", &err));
    OK(retort_settings_set(s, "train.lr", "2.5e-3", &err));
    OK(retort_settings_set(s, "run.sample-every", "0", &err));
    return s;
}

static void same_file(const char *one, const char *other)
{
    char command[512];
    snprintf(command, sizeof command, "cmp '%s' '%s' >&2", one, other);
    if (system(command) != 0) fail_msg("%s and %s differ", one, other);
}

typedef struct seen {
    int calls, stop_at, threads;
    double loss;
    char what[64], number[32];
} seen;

static int observe(void *self, const retort_progress *now)
{
    seen *s = self;
    s->threads = omp_get_max_threads();
    snprintf(s->what, sizeof s->what, "%s", now->what);
    snprintf(s->number, sizeof s->number, "%.1f", 0.5);
    s->loss = now->loss;
    s->calls++;
    return s->stop_at && now->done >= s->stop_at && !strcmp(now->unit, "updates");
}

static void runs(void **state)
{
    (void)state;
    retort_settings *s = toy("whole");
    retort_result r = {.size = sizeof r};
    OK(retort_train(s, NULL, &r, &err));
    assert_int_equal(r.updates, 6);
    assert_int_equal(r.examples, 6 * 16);
    assert_true(r.rounds == 1 && isfinite(r.loss) && isnan(r.accuracy));
    REFUSED(RETORT_E_IO, "holds a run", retort_train(s, NULL, NULL, &err));
    retort_settings_free(s);
    retort_model *m;
    OK(retort_model_open(&m, r.folder, NULL, &err));
    retort_model_free(m);

    /* stopped by its observer, resumed: the same bits; and those of the layer below */
    s = toy("stopped");
    seen o = {.stop_at = 2};
    REFUSED(RETORT_E_INTERRUPTED, "update 2",
            retort_train(s, &(retort_training){.size = sizeof(retort_training), .observe = observe, .self = &o}, &r, &err));
    assert_int_equal(r.updates, 2);
    assert_true(o.calls == 2 && isfinite(o.loss));
    assert_string_equal(o.what, "denoise");
    OK(retort_train(s, &(retort_training){.size = sizeof(retort_training), .resume = 1}, &r, &err));
    assert_int_equal(r.updates, 6);
    same_file(in("whole/model/unet/diffusion_pytorch_model.safetensors"), in("stopped/model/unet/diffusion_pytorch_model.safetensors"));
    retort_settings_free(s);

    static rt_config c;
    assert_int_equal(rt_config_method(&c, "denoise", &below), RT_OK);
    assert_int_equal(rt_config_read(&c, in("whole/config.yaml"), &below), RT_OK);
    assert_int_equal(rt_config_set(&c, "out", in("below"), &below), RT_OK);
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &below), RT_OK);
    same_file(in("whole/model/unet/diffusion_pytorch_model.safetensors"), in("below/model/unet/diffusion_pytorch_model.safetensors"));
}

static void settings(void **state)
{
    (void)state;
    retort_settings *s;
    char text[64];
    REFUSED(RETORT_E_USAGE, "did you mean", retort_settings_new(&s, "denoize", &err));
    assert_null(s);
    s = toy("unused");
    REFUSED(RETORT_E_USAGE, "train.lr", retort_settings_set(s, "train.lt", "1", &err));
    REFUSED(RETORT_E_USAGE, "tune", (retort_settings_set(s, "tune", "true", &err), retort_train(s, NULL, NULL, &err)));
    OK(retort_settings_get(s, "train.lr", text, sizeof text, &err));
    assert_string_equal(text, "0.0025");
    FILE *f = fopen(in("keys.yaml"), "w");
    fputs("train: {batch: 24}\n", f);
    fclose(f);
    OK(retort_settings_read(s, in("keys.yaml"), &err));
    OK(retort_settings_get(s, "train.batch", text, sizeof text, &err));
    assert_string_equal(text, "24");
    retort_settings_free(s);

    /* every key of every method is found, and takes its own default */
    int methods = 0;
    for (retort_row m = {.size = sizeof m}, k = {.size = sizeof k}; retort_method_at(methods, &m); methods++) {
        int keys = 0;
        OK(retort_settings_new(&s, m.name, &err));
        for (; retort_key_at(m.name, keys, &k); keys++)
            if (*k.value) OK(retort_settings_set(s, k.name, k.value, &err));
        assert_true(keys > 20 && *m.text);
        retort_settings_free(s);
    }
    assert_true(methods > 5);
    retort_row row = {.size = sizeof row};
    assert_false(retort_key_at("no method", 0, &row));
    assert_false(retort_method_at(-1, &row));
}

/* ---- manners */

static char lines[4096];
static void log_line(void *self, const char *line)
{
    ++*(int *)self;
    snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s (%.1f)\n", line, 0.5);
}

static void lines_go_to_the_hook(void **state)
{
    (void)state;
    int n = 0;
    static float x[PIXELS];
    retort_model *m;
    *lines = 0;
    OK(retort_model_open(&m, STUDENT, NULL, &err));
    retort_set_log(log_line, &n);
    retort_sampling s = {.size = sizeof s, .count = 1};
    OK(retort_sample(m, &s, x, NULL, &err));
    assert_int_equal(n, 0);
    s.steps = 2;
    OK(retort_sample(m, &s, x, NULL, &err));
    assert_int_equal(n, 1);
    assert_non_null(strstr(lines, "made for 4 steps"));
    retort_set_log(NULL, NULL);
    OK(retort_sample(m, &s, x, NULL, &err));
    assert_int_equal(n, 1);
    retort_model_free(m);
}

static void openmp_stays(void **state)
{
    (void)state;
    static float x[2 * PIXELS];
    cpu_set_t before, after;
    int threads = omp_get_max_threads(), n = 0;
    omp_set_num_threads(3);
    sched_getaffinity(0, sizeof before, &before);
    retort_model *m;
    seen o = {.calls = 0};
    OK(retort_model_open(&m, STUDENT, &(retort_model_options){.size = sizeof(retort_model_options), .threads = 1}, &err));
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 2, .batch = 1, .observe = observe, .self = &o}, x,
                     NULL, &err));
    assert_int_equal(omp_get_max_threads(), 3);
    assert_int_equal(o.calls, 2);
    assert_int_equal(o.threads, 3);
    o.threads = 0;
    retort_settings *s = toy("openmp");
    OK(retort_settings_set(s, "threads", "1", &err));
    OK(retort_train(s, &(retort_training){.size = sizeof(retort_training), .observe = observe, .self = &o}, NULL, &err));
    assert_int_equal(omp_get_max_threads(), 3);
    assert_int_equal(o.threads, 3);
    sched_getaffinity(0, sizeof after, &after);
    assert_true(CPU_EQUAL(&before, &after));
#pragma omp parallel
#pragma omp atomic
    n++;
    assert_int_equal(n, 3);
    omp_set_num_threads(threads);
    retort_settings_free(s);
    retort_model_free(m);
}

static int stop(void *self, const retort_progress *now)
{
    (void)self;
    return now->done < now->total;
}

static void sampling_stops(void **state)
{
    (void)state;
    retort_model *m;
    float x[2 * N] = {0}, all[2 * N];
    seen o = {.stop_at = 0};
    OK(retort_model_open(&m, ORACLE, NULL, &err));
    retort_sampling s = {.size = sizeof s, .count = N, .batch = 2, .observe = observe, .self = &o};
    OK(retort_sample(m, &s, all, NULL, &err));
    assert_int_equal(o.calls, 3);
    s.observe = stop;
    REFUSED(RETORT_E_INTERRUPTED, "2 of 5", retort_sample(m, &s, x, NULL, &err));
    assert_memory_equal(x, all, 4 * sizeof *x);
    assert_true(x[4] == 0);
    retort_model_free(m);
}

/* The numbers of a German are written with a comma. */
static void the_locale_does_not_matter(void **state)
{
    (void)state;
    char command[256], text[64];
    static float x[PIXELS], want[PIXELS];
    retort_model *m;
    retort_settings *s = toy("here");
    OK(retort_train(s, NULL, NULL, &err));
    retort_settings_free(s);
    OK(retort_model_open(&m, STUDENT, NULL, &err));
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 1}, want, NULL, &err));
    retort_model_free(m);

    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' >/dev/null 2>&1", base);
    int made = system(command);
    setenv("LOCPATH", base, 1);
    if (made != 0 || !setlocale(LC_ALL, "de_DE.UTF-8")) {
        print_message("SKIP: localedef cannot make de_DE.UTF-8 here\n");
        skip();
    }
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5");
    int n = 0;
    *lines = 0;
    retort_set_log(log_line, &n);
    s = toy("there");
    OK(retort_settings_get(s, "train.lr", text, sizeof text, &err));
    assert_string_equal(text, "0.0025");
    seen o = {.calls = 0};
    OK(retort_train(s, &(retort_training){.size = sizeof(retort_training), .observe = observe, .self = &o}, NULL, &err));
    retort_settings_free(s);
    OK(retort_model_open(&m, STUDENT, NULL, &err));
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 1}, x, NULL, &err));
    assert_memory_equal(x, want, sizeof x);
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 1, .steps = 2}, x, NULL, &err));
    retort_set_log(NULL, NULL);
    retort_model_free(m);
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5");
    assert_string_equal(o.number, "0,5"); /* in callbacks as well */
    assert_non_null(strstr(lines, "(0,5)"));
    setlocale(LC_ALL, "C");
    same_file(in("here/model/unet/diffusion_pytorch_model.safetensors"), in("there/model/unet/diffusion_pytorch_model.safetensors"));
    same_file(in("here/model/scheduler/scheduler_config.json"), in("there/model/scheduler/scheduler_config.json"));
    FILE *f = fopen(in("there/metrics.jsonl"), "r");
    assert_non_null(f);
    assert_non_null(fgets(lines, sizeof lines, f));
    fclose(f);
    if (!strstr(lines, "\"lr\": 7.5e-05,")) fail_msg("%s", lines);
}

/* ---- fork. First of all tests, because nothing may have computed before. */

static retort_status in_child(retort_model *m, float *x)
{
    int pipes[2], how = 0;
    retort_status got = RETORT_E_INTERNAL;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        retort_error e;
        got = retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 1}, x, NULL, &e);
        bool sent =
            write(pipes[1], &got, sizeof got) == sizeof got && write(pipes[1], x, PIXELS * sizeof *x) == PIXELS * (ssize_t)sizeof *x;
        _exit(sent ? 0 : 1);
    }
    close(pipes[1]);
    FILE *f = fdopen(pipes[0], "r");
    bool came = fread(&got, sizeof got, 1, f) == 1 && fread(x, sizeof *x, PIXELS, f) == PIXELS;
    fclose(f);
    waitpid(child, &how, 0);
    assert_true(came && how == 0);
    return got;
}

static void children(void **state)
{
    (void)state;
    static float x[PIXELS], want[PIXELS];
    retort_model *m;
    OK(retort_model_open(&m, STUDENT, &(retort_model_options){.size = sizeof(retort_model_options), .threads = 2}, &err));
    assert_int_equal(in_child(m, x), RETORT_OK);
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 1}, want, NULL, &err));
    assert_memory_equal(x, want, sizeof x);
    assert_int_equal(in_child(m, x), RETORT_E_USAGE); /* and not a wait for threads that are not there */
    OK(retort_sample(m, &(retort_sampling){.size = sizeof(retort_sampling), .count = 1}, x, NULL, &err));
    assert_memory_equal(x, want, sizeof x);
    retort_model_free(m);
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *f)
{
    return (void)s, (void)type, (void)f, remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children),
        cmocka_unit_test(versions),
        cmocka_unit_test(structs_grow),
        cmocka_unit_test(what_it_says),
        cmocka_unit_test(as_below),
        cmocka_unit_test(classes),
        cmocka_unit_test(runs),
        cmocka_unit_test(settings),
        cmocka_unit_test(two_threads_give_the_bits_of_one),
        cmocka_unit_test(lines_go_to_the_hook),
        cmocka_unit_test(openmp_stays),
        cmocka_unit_test(sampling_stops),
        cmocka_unit_test(memory_is_the_callers),
        cmocka_unit_test(the_locale_does_not_matter),
    };
    snprintf(base, sizeof base, "/tmp/retort-embed-XXXXXX");
    if (!mkdtemp(base)) return 1;
    setenv("OMP_NUM_THREADS", "1", 1); /* where a test does not say */
    if (retort_set_allocator(&(retort_allocator){sizeof(retort_allocator), &live, allocate, resize, release}, &err) != RETORT_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (live != 0) fprintf(stderr, "%ld blocks are not released\n", (long)live);
    return failed || live != 0;
}
