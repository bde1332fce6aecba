/* config.c -- the settings of a run as one table: names, types, ranges, defaults and help. */
#include "retort/config.h"

#include "base/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(f) offsetof(rt_config, f), sizeof(((rt_config *)0)->f)
#define TEXT(name, f, value, help)                                                                                                         \
    {                                                                                                                                      \
        name, RT_KEY_TEXT, FIELD(f), 0, 0, 0, value, help, false                                                                           \
    }
#define KEY(kind, name, f, min, max, value, help)                                                                                          \
    {                                                                                                                                      \
        name, kind, FIELD(f), 0, min, max, value, help, false                                                                              \
    }
#define INT(name, f, min, max, value, help)   KEY(RT_KEY_INT, name, f, min, max, value, help)
#define INT64(name, f, min, max, value, help) KEY(RT_KEY_INT64, name, f, min, max, value, help)
#define REAL(name, f, min, max, value, help)  KEY(RT_KEY_REAL, name, f, min, max, value, help)
#define LIST(kind, name, f, n, min, max, value, help)                                                                                      \
    {                                                                                                                                      \
        name, kind, FIELD(f), offsetof(rt_config, n), min, max, value, help, false                                                         \
    }
#define FREE(kind, name, f, min, max, value, help)                                                                                         \
    {                                                                                                                                      \
        name, kind, FIELD(f), 0, min, max, value, help, true                                                                               \
    }

const rt_config_key rt_config_keys[] = {
    TEXT("method", method, "", "row of `retort list methods`"),
    {"out", RT_KEY_TEXT, FIELD(out), 0, 0, 0, "", "run directory", true},
    TEXT("teacher", teacher, "", "model to distil"),
    INT("null-class", null_class, -1, 1 << 30, "-1", "label that means no class to the teacher; -1: as its recipe says"),
    TEXT("net", net, "", "config.json of the network to train; a student's: empty for a copy of its teacher"),
    TEXT("init", init, "", "model folder to start from instead of random weights"),
    KEY(RT_KEY_UINT64, "seed", seed, 0, 0x1p53, "0", "of every draw"),
    FREE(RT_KEY_INT, "threads", threads, 0, 4096, "0", "0: the cores that the process may use"),
    KEY(RT_KEY_BOOL, "tune", tune, 0, 1, "false", "kernels by trying on this machine instead of by rule"),
    TEXT("backend", backend, "", "empty: the fastest"),
    TEXT("dtype", dtype, "f32", "f32 or bf16: numbers to compute with; weights and files are f32"),
    TEXT("data.path", data.path, "", "data set; empty: none"),
    REAL("data.low", data.low, -1e6, 1e6, "-1", "value of black for the model"),
    REAL("data.high", data.high, -1e6, 1e6, "1", "value of white for the model"),
    KEY(RT_KEY_BOOL, "data.flip", data.flip, 0, 1, "false", "mirror half of the pictures"),
    TEXT("data.holdout", data.holdout, "", "data that training never sees: accuracy of a classifier"),
    INT64("data.limit", data.limit, 0, 1e15, "0", "use only so many items; 0: all"),
    TEXT("diffusion.process", diffusion.process, "ddpm", "row of `retort list processes`"),
    TEXT("diffusion.beta-schedule", diffusion.beta_schedule, "squaredcos_cap_v2", "of a discrete process, as diffusers names it"),
    TEXT("diffusion.prediction", diffusion.prediction, "v", "row of `retort list predictions`"),
    INT64("diffusion.timesteps", diffusion.timesteps, 1, 1e6, "1024", "T of a discrete process"),
    REAL("diffusion.beta-start", diffusion.beta_start, 0, 1, "0.0001", "first beta"),
    REAL("diffusion.beta-end", diffusion.beta_end, 0, 1, "0.02", "last beta"),
    REAL("diffusion.class-drop", diffusion.class_drop, 0, 1, "0.1", "probability of the null class in training"),
    LIST(RT_KEY_INT64S, "train.updates", train.updates, train.n_updates, 1, 1e12, "1000",
         "optimiser updates per round; the last number repeats"),
    INT64("train.images", train.images, 0, 1e15, "0", "examples in all, instead of updates; 0: use updates"),
    INT("train.batch", train.batch, 1, 65536, "64", "examples per update"),
    INT("train.micro-batch", train.micro_batch, 0, 65536, "0", "examples computed at a time, a divisor of the batch; 0: all"),
    FREE(RT_KEY_BOOL, "train.recompute", train.recompute, 0, 1, "false",
         "make cheap values again in the backward pass instead of keeping them: less memory, the same bits"),
    REAL("train.lr", train.lr, 0, 1e3, "0.0003", "learning rate at its highest"),
    TEXT("train.lr-schedule", train.lr_schedule, "linear", "constant, linear or cosine: how it falls over a round"),
    INT64("train.warmup", train.warmup, 0, 1e9, "50", "updates of linear rise at the start of a round"),
    TEXT("train.optimiser", train.optimiser, "adam", "adam, adamw or sgd"),
    REAL("train.beta1", train.beta1, 0, 1, "0.9", "decay of the first moment"),
    REAL("train.beta2", train.beta2, 0, 1, "0.99", "decay of the second moment"),
    REAL("train.eps", train.eps, 0, 1, "1e-08", "added to the root of the second moment"),
    REAL("train.weight-decay", train.weight_decay, 0, 1e3, "0", "decoupled with adamw"),
    REAL("train.clip", train.clip, 0, 1e9, "1", "largest norm of the gradient; 0: none"),
    REAL("train.ema", train.ema, 0, 1, "0", "decay of the average of the weights; 0: no average"),
    TEXT("train.weight", train.weight, "truncated-snr", "row of `retort list weights`"),
    TEXT("train.time-density", train.time_density, "uniform", "row of `retort list densities`: how often denoise draws a time"),
    LIST(RT_KEY_INTS, "pd.steps", pd.steps, pd.n_steps, 1, 1 << 20, "8,4,2,1", "steps of the students, each dividing the one before"),
    INT("pd.teacher-steps", pd.teacher_steps, 0, 1 << 20, "0", "steps of the first teacher; 0: twice the first student's"),
    TEXT("pd.starts", pd.starts, "student", "student or all: which k of (1.35) are drawn"),
    TEXT("pd.teacher-solver", pd.solver, "ddim", "row of `retort list solvers` for the first teacher's steps; students step by ddim"),
    REAL("pd.guidance", pd.guidance, 0, 1e4, "0", "weight omega of (1.39) for the first teacher"),
    TEXT("pd.draws", pd.draws, "hidden", "hidden or input: whether the student sees the noise of a stochastic first teacher (one round)"),
    INT("pd.reuse", pd.reuse, 1, 1000, "1", "times that an example of a rollout is used"),
    INT("pd.pool", pd.pool, 1, 1 << 24, "2048", "examples of rollouts that are shuffled together"),
    TEXT("pd.prediction", pd.prediction, "", "of the students; empty: the teacher's, v for an epsilon teacher"),
    INT("pd.holdout", pd.holdout, 1, 1 << 16, "64", "held-out noises for the table of residuals"),
    INT64("kd.pairs", kd.pairs, 1, 1e12, "60000", "(noise, teacher sample) pairs"),
    INT("kd.steps", kd.steps, 1, 1 << 20, "32", "steps of the teacher"),
    TEXT("kd.teacher-solver", kd.solver, "ddim", "row of `retort list solvers` for the teacher's steps"),
    REAL("kd.guidance", kd.guidance, 0, 1e4, "0", "weight omega of (1.39) for the teacher"),
    TEXT("kd.draws", kd.draws, "hidden", "hidden or input: whether the student sees the noise of a stochastic teacher"),
    TEXT("kd.loss", kd.loss, "l2", "row of `retort list distances`"),
    INT("map.steps", map.steps, 1, 1 << 20, "4", "steps of the student, a divisor of the teacher's"),
    INT("map.teacher-steps", map.teacher_steps, 1, 4096, "32", "steps of the teacher, whose points are the times of the pairs"),
    TEXT("map.teacher-solver", map.solver, "dpmpp-2m", "row of `retort list solvers` for the teacher's steps"),
    REAL("map.guidance", map.guidance, 0, 1e4, "0", "weight omega of (1.39) for the teacher"),
    TEXT("map.pairs", map.pairs, "uniform", "row of `retort list time-pairs`: pi of (1.10)"),
    TEXT("map.distance", map.distance, "l2", "row of `retort list distances`: d of (1.10)"),
    INT("map.per-rollout", map.per_rollout, 1, 1 << 20, "16", "pairs of times that a rollout serves"),
    INT("map.pool", map.pool, 1, 1 << 24, "4096", "examples that are shuffled together"),
    TEXT("map.prediction", map.prediction, "", "of the student; empty: the teacher's"),
    FREE(RT_KEY_INT64, "run.log-every", run.log_every, 1, 1e12, "50", "updates between two lines of metrics"),
    FREE(RT_KEY_INT64, "run.checkpoint-every", run.checkpoint_every, 0, 1e12, "1000", "updates; 0: only at the end"),
    FREE(RT_KEY_INT64, "run.sample-every", run.sample_every, 0, 1e12, "0", "updates between pictures; 0: at the end of a round"),
    FREE(RT_KEY_INT64, "run.until-update", run.until_update, 0, 1e12, "0", "stop early, with a checkpoint; 0: no"),
    FREE(RT_KEY_INT, "run.keep", run.keep, 1, 1 << 20, "2", "checkpoints kept"),
    FREE(RT_KEY_INT, "run.samples", run.samples, 1, 4096, "40", "pictures in a grid"),
};
const int rt_config_n_keys = RT_COUNT(rt_config_keys);

static void *field(const rt_config *c, size_t offset) { return (char *)(uintptr_t)c + offset; }

static const rt_config_key *find(const char *name)
{
    for (int i = 0; i < rt_config_n_keys; i++)
        if (!strcmp(rt_config_keys[i].name, name)) return &rt_config_keys[i];
    return NULL;
}

static rt_status unknown_key(const char *name, rt_status status, rt_error *err)
{
    const char *names[RT_COUNT(rt_config_keys)];
    for (int i = 0; i < rt_config_n_keys; i++) names[i] = rt_config_keys[i].name;
    const char *close = rt_closest(name, names, RT_COUNT(names));
    RT_RAISE(status, "unknown key '%s'%s%s%s; `retort list keys` prints all", name, close ? "; did you mean '" : "", close ? close : "",
             close ? "'?" : "");
}

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

rt_status rt_config_set(rt_config *c, const char *name, const char *value, rt_error *err)
{
    const rt_config_key *k = find(name);
    if (!k) return unknown_key(name, RT_E_USAGE, err);
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

rt_dtype rt_config_compute(const rt_config *c) { return strcmp(c->dtype, "bf16") == 0 ? RT_BF16 : RT_F32; }

void rt_config_default(rt_config *c)
{
    memset(c, 0, sizeof *c);
    for (int i = 0; i < rt_config_n_keys; i++) (void)rt_config_set(c, rt_config_keys[i].name, rt_config_keys[i].value, NULL);
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
    const rt_config_key *k = find(name);
    if (!k) return unknown_key(name, RT_E_USAGE, err);
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
