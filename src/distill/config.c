/* config.c -- the settings of a run: the table of those that every run has, and keys by name, the method's own among them. */
#include "distill/method.h"

#include "base/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRUCT rt_config
#define FREE(kind_, key, f, low, high, value_, help_)                                                                                      \
    {                                                                                                                                      \
        .name = key, .kind = kind_, RT__AT(f), .min = low, .max = high, .value = value_, .help = help_, .volatile_key = true               \
    }
#define FOR(reads_, kind_, key, f, low, high, value_, help_)                                                                               \
    {                                                                                                                                      \
        .name = key, .kind = kind_, RT__AT(f), .min = low, .max = high, .value = value_, .help = help_, .reads = reads_                    \
    }
#define TEXT(key, f, value_, help_) RT__KEY(RT_KEY_TEXT, key, f, 0, 0, value_, help_)

const rt_config_key rt__shared_keys[] = {
    TEXT("method", method, "", "row of `retort list methods`"),
    FREE(RT_KEY_TEXT, "out", out, 0, 0, "", "run directory"),
    FOR(RT_READS_TEACHER, RT_KEY_TEXT, "teacher", teacher, 0, 0, "", "model to distil"),
    FOR(RT_READS_TEACHER, RT_KEY_INT, "null-class", null_class, -1, 1 << 30, "-1",
        "label that means no class to the teacher; -1: as its recipe says"),
    TEXT("net", net, "", "config.json of the network to train; a student's: empty for a copy of its teacher"),
    TEXT("init", init, "", "model folder to start from instead of random weights or the teacher's"),
    RT__KEY(RT_KEY_UINT64, "seed", seed, 0, 0x1p53, "0", "of every draw"),
    FREE(RT_KEY_INT, "threads", threads, 0, 4096, "0", "0: the cores that the process may use"),
    RT__KEY(RT_KEY_BOOL, "tune", tune, 0, 1, "false", "kernels by trying on this machine instead of by rule"),
    TEXT("backend", backend, "", "empty: the fastest"),
    TEXT("dtype", dtype, "f32", "f32 or bf16: numbers to compute with; weights and files are f32"),
    FOR(RT_READS_DATA, RT_KEY_TEXT, "data.path", data.path, 0, 0, "", "data set; empty: none"),
    RT__REAL("data.low", data.low, -1e6, 1e6, "-1", "value of black for the model"),
    RT__REAL("data.high", data.high, -1e6, 1e6, "1", "value of white for the model"),
    FOR(RT_READS_DATA, RT_KEY_BOOL, "data.flip", data.flip, 0, 1, "false", "mirror half of the pictures"),
    FOR(RT_READS_DATA, RT_KEY_INT64, "data.limit", data.limit, 0, 1e15, "0", "use only so many items; 0: all"),
    FOR(RT_READS_DATA, RT_KEY_INT, "data.resize", data.resize, 0, 16384, "0", "shorter side that pictures are resized to; 0: as they are"),
    FOR(RT_READS_DATA, RT_KEY_INT, "data.crop", data.crop, 0, 16384, "0",
        "side of the square that is kept of their middle; 0: all of them"),
    FOR(RT_READS_DATA, RT_KEY_TEXT, "data.alpha", data.alpha, 0, 0, "",
        "keep, white or grey: transparent pictures get four channels, colours times alpha and alpha, or a background; empty: they are "
        "refused"),
    FOR(RT_READS_DATA, RT_KEY_TEXT, "data.labels", data.labels, 0, 0, "",
        "what is told of an item: class, camera, class-camera, caption, caption-camera, or words with commas between them: which of them "
        "its caption has; empty: "
        "its caption where the network knows words, else its class"),
    RT__LIST(RT_KEY_INT64S, "train.updates", train.updates, train.n_updates, 1, 1e12, "1000",
             "optimiser updates per round; the last number repeats"),
    RT__INT64("train.images", train.images, 0, 1e15, "0", "examples in all, instead of updates; 0: use updates"),
    RT__INT("train.batch", train.batch, 1, 65536, "64", "examples per update"),
    RT__INT("train.micro-batch", train.micro_batch, 0, 65536, "0",
            "examples computed at a time, a divisor of the batch and of a shard; 0: all"),
    RT__INT("train.shards", train.shards, 0, 65536, "0",
            "equal parts of a batch, a power of two, added in a fixed tree: as many ranks as divide it give the same bits; 0: as many as "
            "ranks"),
    FREE(RT_KEY_BOOL, "train.recompute", train.recompute, 0, 1, "false",
         "make cheap values again in the backward pass instead of keeping them: less memory, the same bits"),
    RT__REAL("train.lr", train.lr, 0, 1e3, "0.0003", "learning rate at its highest"),
    TEXT("train.lr-schedule", train.lr_schedule, "linear",
         "constant, linear or cosine, or tenth (geometric, to a tenth): how it falls over a round"),
    RT__INT64("train.warmup", train.warmup, 0, 1e9, "50", "updates of linear rise at the start of a round"),
    TEXT("train.optimiser", train.optimiser, "adam", "adam, adamw, radam or sgd"),
    RT__REAL("train.beta1", train.beta1, 0, 1, "0.9", "decay of the first moment"),
    RT__REAL("train.beta2", train.beta2, 0, 1, "0.99", "decay of the second moment"),
    RT__REAL("train.eps", train.eps, 0, 1, "1e-08", "added to the root of the second moment"),
    RT__REAL("train.weight-decay", train.weight_decay, 0, 1e3, "0", "decoupled with adamw"),
    RT__REAL("train.clip", train.clip, 0, 1e9, "1", "largest norm of the gradient; 0: none"),
    TEXT("train.freeze", train.freeze, "",
         "parameters of what is trained that stay as they start: patterns of names joined by commas, such as *conv*.weight"),
    RT__REAL("train.ema", train.ema, 0, 1, "0", "decay of the average of the weights; 0: no average"),
    FOR(RT_READS_WEIGHT, RT_KEY_TEXT, "train.weight", train.weight, 0, 0, "truncated-snr", "row of `retort list weights`"),
    FREE(RT_KEY_REAL, "run.timeout", run.timeout, 0.1, 1e9, "600", "seconds that ranks wait for each other before the run ends with 8"),
    FREE(RT_KEY_INT64, "run.log-every", run.log_every, 1, 1e12, "50", "updates between two lines of metrics"),
    FREE(RT_KEY_INT64, "run.checkpoint-every", run.checkpoint_every, 0, 1e12, "1000", "updates; 0: only at the end"),
    FREE(RT_KEY_REAL, "run.checkpoint-minutes", run.checkpoint_minutes, 0, 1e9, "10",
         "minutes after which there is a checkpoint at the latest; 0: off"),
    FREE(RT_KEY_INT64, "run.sample-every", run.sample_every, 0, 1e12, "0",
         "updates between pictures; 0: eight times in a round, at least 100 updates apart"),
    FREE(RT_KEY_INT64, "run.until-update", run.until_update, 0, 1e12, "0", "stop early, with a checkpoint; 0: no"),
    FREE(RT_KEY_INT, "run.keep", run.keep, 1, 1 << 20, "2", "checkpoints kept"),
    FREE(RT_KEY_INT, "run.samples", run.samples, 1, 4096, "40",
         "pictures in a grid, of points 16 times as many; fewer where that takes long beside the updates"),
    FOR(RT_READS_METERS, RT_KEY_INT64, "run.meter-every", run.meter_every, 0, 1e12, "250",
        "updates between two readings of the meters; 0: at checkpoints and at the end only"),
    FOR(RT_READS_METERS, RT_KEY_INT, "run.meter-samples", run.meter_samples, 32, 65536, "256",
        "held-out samples of the meters, at most an eighth of the run's examples, at least 32"),
    FOR(RT_READS_METERS, RT_KEY_TEXT, "run.features", run.features, 0, 0, "",
        "a classifier: recall and coverage of the samples in its features are meters, too; empty: none"),
    FOR(RT_READS_METERS, RT_KEY_TEXT, "run.select", run.select, 0, 0, "",
        "meter: the student is that of the reading where it was best; empty: the last"),
    FOR(RT_READS_METERS, RT_KEY_TEXT, "run.stop-on", run.stop_on, 0, 0, "",
        "flat:METER (exit 0), collapse (exit 7), or both with a comma between; empty: nothing"),
};
const size_t rt__n_shared_keys = RT_COUNT(rt__shared_keys);

static void *field(const rt_config *c, size_t offset) { return (char *)(uintptr_t)c + offset; }

/* ---- finding keys */

static bool reads(const rt_method *m, const rt_config_key *shared) { return !m || !shared->reads || (shared->reads & m->reads); }

/* Key i of the method's own, its offsets those of a whole rt_config; a family's table may have another default for it. */
static bool own_key(const rt_method *m, int i, rt_config_key *key)
{
    for (const rt_key_group *g = m->settings; g && g->keys; i -= (int)g->n, g++)
        if (i < (int)g->n) {
            size_t at = offsetof(rt_config, own) + g->at;
            *key = g->keys[i];
            key->offset += at;
            key->count_offset += at;
            for (const char *const *d = m->defaults; d && d[0]; d += 2)
                if (!strcmp(d[0], key->name)) key->value = d[1];
            return true;
        }
    return false;
}

static bool key_of(const rt_method *m, int i, rt_config_key *key)
{
    for (size_t k = 0; k < rt__n_shared_keys; k++)
        if (reads(m, &rt__shared_keys[k]) && i-- == 0) {
            *key = rt__shared_keys[k];
            return true;
        }
    return m && own_key(m, i, key);
}

static bool find(const rt_method *m, const char *name, rt_config_key *key)
{
    for (int i = 0; key_of(m, i, key); i++)
        if (!strcmp(key->name, name)) return true;
    return false;
}

bool rt_method_key_at(const char *method, int i, rt_config_key *key)
{
    const rt_method *m = rt__method_find(method);
    return m && i >= 0 && own_key(m, i, key);
}

bool rt_config_key_at(const char *method, int i, rt_config_key *key)
{
    const rt_method *one = method ? rt__method_find(method) : NULL;
    if (i < 0 || (method && !one)) return false;
    if (one) return key_of(one, i, key);
    if (i < (int)rt__n_shared_keys) return key_of(NULL, i, key);
    i -= (int)rt__n_shared_keys;
    for (int m = 0; rt__methods[m]; m++)
        for (int k = 0; own_key(rt__methods[m], k, key); k++) {
            rt_config_key other;
            bool again = false; /* a family's keys are the first member's */
            for (int before = 0; before < m && !again; before++)
                for (int j = 0; own_key(rt__methods[before], j, &other) && !again; j++) again = !strcmp(other.name, key->name);
            if (!again && i-- == 0) return true;
        }
    return false;
}

/* Why `name` is no key of the method's. */
static rt_status refuse_key(const rt_method *m, const char *name, rt_error *err)
{
    enum { MOST = 512 };
    const char *names[MOST];
    rt_config_key key;
    char owners[160] = "";
    size_t n = 0;
    for (int i = 0; rt__methods[i]; i++)
        if (find(rt__methods[i], name, &key))
            snprintf(owners + strlen(owners), sizeof owners - strlen(owners), "%s%s", *owners ? ", " : "",
                     rt_method_called(rt__methods[i]->name));
    if (*owners && m)
        RT_RAISE(RT_E_USAGE, "%s: the method %s does not read it; it is a setting of %s", name, rt_method_called(m->name), owners);
    if (*owners) RT_RAISE(RT_E_USAGE, "%s: is a setting of %s; name the method first", name, owners);
    while (n < MOST && rt_config_key_at(m ? m->name : NULL, (int)n, &key)) names[n++] = key.name;
    const char *close = rt_closest(name, names, n);
    RT_RAISE(RT_E_USAGE, "unknown key '%s'%s%s%s; `retort list keys` prints all", name, close ? "; did you mean '" : "", close ? close : "",
             close ? "'?" : "");
}

/* ---- values */

/* "3", "60k", "2M", "1.5": false if anything is left over. */
static bool number(const char *text, size_t length, double *out)
{
    char buf[64];
    if (length == 0 || length >= sizeof buf) return false;
    memcpy(buf, text, length);
    buf[length] = 0;
    char *end;
    *out = strtod(buf, &end);
    if (end == buf || !isfinite(*out)) return false;
    if (*end == 'k') {
        *out *= 1e3;
        end++;
    } else if (*end == 'M') {
        *out *= 1e6;
        end++;
    }
    return *end == 0;
}

static void store(rt_config_kind kind, void *at, double v)
{
    switch (kind) {
    case RT_KEY_INT:
    case RT_KEY_INTS: *(int *)at = (int)v; break;
    case RT_KEY_INT64:
    case RT_KEY_INT64S: *(int64_t *)at = (int64_t)v; break;
    case RT_KEY_UINT64: *(uint64_t *)at = (uint64_t)v; break;
    case RT_KEY_REAL: *(double *)at = v; break;
    case RT_KEY_BOOL: *(bool *)at = v != 0; break;
    case RT_KEY_TEXT: break;
    }
}

static rt_status set_value(rt_config *c, const rt_config_key *k, const char *value, rt_error *err)
{
    const char *name = k->name;
    void *at = field(c, k->offset);
    if (k->kind == RT_KEY_TEXT) {
        if (strlen(value) >= k->size) RT_RAISE(RT_E_USAGE, "%s: text of %zu bytes; at most %zu", name, strlen(value), k->size - 1);
        memset(at, 0, k->size);
        memcpy(at, value, strlen(value));
        return RT_OK;
    }
    if (k->kind == RT_KEY_BOOL) {
        bool yes = !strcmp(value, "true") || !strcmp(value, "yes") || !strcmp(value, "1");
        if (!yes && strcmp(value, "false") && strcmp(value, "no") && strcmp(value, "0"))
            RT_RAISE(RT_E_USAGE, "%s: '%s'; give true or false", name, value);
        *(bool *)at = yes;
        return RT_OK;
    }
    bool list = k->kind == RT_KEY_INTS || k->kind == RT_KEY_INT64S;
    if (list && !*value && !*k->value) { /* lists that may be empty are so by default */
        *(int *)field(c, k->count_offset) = 0;
        return RT_OK;
    }
    size_t width = k->kind == RT_KEY_INTS ? sizeof(int) : sizeof(int64_t);
    int n = 0;
    for (const char *p = value;; n++) {
        size_t length = list ? strcspn(p, ",") : strlen(p);
        double v;
        if (!number(p, length, &v))
            RT_RAISE(RT_E_USAGE, "%s: '%s' is not %s", name, value, list ? "a list of numbers such as 8,4,2,1" : "a number");
        if (k->kind != RT_KEY_REAL && v != floor(v)) RT_RAISE(RT_E_USAGE, "%s: %.*s is not a whole number", name, (int)length, p);
        if (v < k->min || v > k->max) RT_RAISE(RT_E_USAGE, "%s: %.*s is outside %g..%g", name, (int)length, p, k->min, k->max);
        if (n >= RT_CONFIG_LIST) RT_RAISE(RT_E_USAGE, "%s: more than %d numbers", name, RT_CONFIG_LIST);
        store(k->kind, list ? (char *)at + (size_t)n * width : at, v);
        if (!list || p[length] == 0) break;
        p += length + 1;
    }
    if (list) *(int *)field(c, k->count_offset) = n + 1;
    return RT_OK;
}

rt_fit rt_config_fit(const rt_config *c)
{
    int alpha = 0;
    for (int i = 0; rt_alpha_names[i]; i++)
        if (!strcmp(rt_alpha_names[i], c->data.alpha)) alpha = i;
    return (rt_fit){c->data.resize, c->data.crop, (rt_alpha)alpha};
}

rt_dtype rt_config_compute(const rt_config *c) { return strcmp(c->dtype, "bf16") == 0 ? RT_BF16 : RT_F32; }

void rt_config_default(rt_config *c)
{
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < rt__n_shared_keys; i++) (void)set_value(c, &rt__shared_keys[i], rt__shared_keys[i].value, NULL);
}

/* The method's own settings as its tables say, and its name. */
static rt_status choose(rt_config *c, const char *method, rt_error *err)
{
    const rt_method *m = rt__method_find(method);
    rt_config_key key;
    if (!m) return rt__method_unknown(method, err);
    memset(&c->own, 0, sizeof c->own);
    snprintf(c->method, sizeof c->method, "%s", m->name);
    for (int i = 0; own_key(m, i, &key); i++) RT_TRY(set_value(c, &key, key.value, err));
    return RT_OK;
}

rt_status rt_config_set(rt_config *c, const char *name, const char *value, rt_error *err)
{
    const rt_method *m = rt__method_find(c->method);
    rt_config_key key;
    if (!strcmp(name, "method")) {
        if (!m) return *value ? choose(c, value, err) : RT_OK;
        if (strcmp(value, m->name) != 0 && !(m->of && strcmp(value, m->of) == 0))
            RT_RAISE(RT_E_USAGE, "method: %s, but the configuration is for the method %s", value, rt_method_called(m->name));
        return RT_OK;
    }
    return find(m, name, &key) ? set_value(c, &key, value, err) : refuse_key(m, name, err);
}

rt_status rt_config_method(rt_config *c, const char *method, rt_error *err)
{
    rt_config_default(c);
    RT_TRY(choose(c, method, err));
    for (const char *const *d = rt__method_find(method)->defaults; d && d[0]; d += 2) RT_TRY(rt_config_set(c, d[0], d[1], err));
    return RT_OK;
}

/* The shortest text that reads back as the same double. */
static void print_real(char *text, size_t size, double v)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, v);
        if (strtod(text, NULL) == v) return;
    }
}

rt_status rt_config_get(const rt_config *c, const char *name, char *text, size_t size, rt_error *err)
{
    const rt_method *m = rt__method_find(c->method);
    rt_config_key key, *k = &key;
    if (!find(m, name, k)) return refuse_key(m, name, err);
    const void *at = field(c, k->offset);
    size_t used = 0;
    text[0] = 0;
    switch (k->kind) {
    case RT_KEY_TEXT: snprintf(text, size, "%s", (const char *)at); break;
    case RT_KEY_INT: snprintf(text, size, "%d", *(const int *)at); break;
    case RT_KEY_INT64: snprintf(text, size, "%lld", (long long)*(const int64_t *)at); break;
    case RT_KEY_UINT64: snprintf(text, size, "%llu", (unsigned long long)*(const uint64_t *)at); break;
    case RT_KEY_REAL: print_real(text, size, *(const double *)at); break;
    case RT_KEY_BOOL: snprintf(text, size, "%s", *(const bool *)at ? "true" : "false"); break;
    case RT_KEY_INTS:
    case RT_KEY_INT64S:
        for (int i = 0, n = *(const int *)field(c, k->count_offset); i < n && used < size; i++) {
            long long v = k->kind == RT_KEY_INTS ? ((const int *)at)[i] : (long long)((const int64_t *)at)[i];
            used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? "," : "", v);
        }
        break;
    }
    return RT_OK;
}
