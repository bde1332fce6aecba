/* ranks_runs.c -- runs of several ranks, as processes that reach each other by sockets: 1, 2, 4 and 8 ranks leave the same bits, a run goes on with another number of
 * them, where one is asked to stop all do, and where a rank is lost in any exchange all end, the checkpoint is good, and the run goes on to the same bits. */
#include "socket_ranks.h"
#include "retort/diffusion.h"
#include "retort/format.h"
#include "retort/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { KEYS = 20, UPDATES = 40, PICTURE_UPDATES = 8 };

static char base[64];

typedef struct run {
    const char *method, *keys[KEYS];
    char name[64]; /* of its folder */
    const char *shards;
    int until;             /* 0: to the end */
    bool resume, pictures; /* pictures: by a U-Net with norms and attention, PICTURE_UPDATES; else points by an MLP */
} run;

static const run runs[] = {
    {.method = "pd", .keys = {"pd.steps", "2,1", "pd.teacher-steps", "4", "pd.pool", "64", "train.ema", "0.9", "train.updates", "20"}},
    {.method = "pd", .keys = {"pd.steps", "1", "pd.teacher-steps", "2", "data.path", "toy:moons", "train.micro-batch", "1"}},
    {.method = "kd", .keys = {"kd.pairs", "600", "kd.steps", "4"}},
    {.method = "map", .keys = {"map.steps", "2", "map.teacher-steps", "8", "map.pool", "128"}},
    {.method = "vsd", .keys = {"vsd.score-updates", "2"}},
    {.method = "vsd", .keys = {"vsd.steps", "2"}},
    {.method = "dmd", .keys = {"dmd.pairs", "150", "dmd.teacher-steps", "4"}},
    {.method = "sid", .keys = {NULL}},
    {.method = "f", .keys = {"data.path", "toy:moons", "f.divergence", "jensen-shannon", "f.bins-average", "0"}},
    {.method = "cd", .keys = {"cd.points", "8", "cd.solver", "ddim", "data.path", "toy:moons"}},
    {.method = "dmd2", .keys = {"dmd.pairs", "150", "vsd.steps", "2"}},
    {.method = "renyi", .keys = {"data.path", "toy:moons", "f.bins", "0"}},
    {.method = "pd", .keys = {"pd.steps", "2,1", "pd.teacher-steps", "4", "pd.pool", "32", "train.updates", "4"}, .pictures = true},
    {.method = "kd", .keys = {"kd.pairs", "300", "kd.steps", "2"}, .pictures = true},
    {.method = "vsd", .keys = {"vsd.score-updates", "2"}, .pictures = true},
    {.method = "dmd", .keys = {"dmd.pairs", "150", "dmd.teacher-steps", "2"}, .pictures = true},
    {.method = "sid", .keys = {NULL}, .pictures = true},
    {.method = "vsd-scene",
     .keys = {"scene.kind", "grid", "scene.nodes", "6", "scene.samples", "8", "scene.particles", "2", "train.ema", "0"},
     .pictures = true},
    {.method = "sds",
     .keys = {"scene.kind", "grid", "scene.nodes", "6", "scene.samples", "8", "scene.smooth", "0.1", "scene.entropy", "0.1", "scene.sparse",
              "0.1", "train.ema", "0", "train.micro-batch", "1"},
     .pictures = true},
};

static int updates_of(const run *r) { return r->pictures ? PICTURE_UPDATES : UPDATES; }

static void set(rt_config *c, const char *key, const char *value)
{
    rt_error err = {0};
    if (rt_config_set(c, key, value, &err) != RT_OK) fprintf(stderr, "%s\n", err.text), abort();
}

static void configure(rt_config *c, const run *r)
{
    char path[160], until[16];
    rt_error err = {0};
    if (rt_config_method(c, r->method, &err) != RT_OK) abort();
    snprintf(path, sizeof path, "%s/%s", base, r->name);
    set(c, "out", path);
    if (strcmp(r->method, "denoise") != 0) {
        snprintf(path, sizeof path, "%s/%s", base, r->pictures ? "unet" : "teacher/model");
        set(c, "teacher", path);
    }
    snprintf(path, sizeof path, "%d", updates_of(r));
    snprintf(until, sizeof until, "%d", r->until);
    const char *const keys[] = {"threads",          "1",       "train.batch",   "16", "train.updates",        path,
                                "train.shards",     r->shards, "run.log-every", "10", "run.checkpoint-every", "10",
                                "run.until-update", until,     "run.samples",   "1",  "run.timeout",          "60"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i += 2) set(c, keys[i], keys[i + 1]);
    for (int i = 0; i < KEYS && r->keys[i]; i += 2) set(c, r->keys[i], r->keys[i + 1]);
    for (int i = 0; rt_config_key_at(r->method, i, &(rt_config_key){0}); i++) {
        rt_config_key key;
        rt_config_key_at(r->method, i, &key);
        if (!strcmp(key.name, "run.meter-samples")) set(c, key.name, "32");
        if (!strcmp(key.name, "net") && !strcmp(r->method, "denoise")) set(c, key.name, "examples/mlp.json");
        if (!strcmp(key.name, "net") && !strcmp(r->method, "map")) {
            snprintf(path, sizeof path, "%s/two.json", base);
            set(c, key.name, path);
        }
    }
}

static int train(rt_ranks *ranks, void *user)
{
    const run *r = user;
    static rt_config c;
    rt_error err = {0};
    configure(&c, r);
    rt_status s = rt_run_train(&c, r->resume, &(rt_observer){.ranks = ranks}, NULL, &err);
    if (s != RT_OK && s != RT_E_COMM && rt_ranks_rank(ranks) == 0) fprintf(stderr, "%s: %s\n", r->name, err.text);
    if (s == RT_E_COMM && !strstr(err.text, "update")) return 1; /* it says where */
    return (int)s;
}

static void train_on(int n, const run *r, const char *name, int until, bool resume)
{
    int codes[MOST_RANKS];
    run own = *r;
    snprintf(own.name, sizeof own.name, "%.63s", name);
    own.until = until;
    own.resume = resume;
    if (!own.shards) own.shards = "8";
    run_ranks(n, 0, 0, train, &own, codes);
    for (int i = 0; i < n; i++)
        if (codes[i]) fail_msg("%s: rank %d of %d left with %d", name, i, n, codes[i]);
}

/* Checkpoints hold the same numbers, but for the position, which has seconds. */
static void same(const run *r, const char *a, const char *b)
{
    rt_tensors *t[2];
    rt_error err = {0};
    const char *names[] = {a, b};
    for (int i = 0; i < 2; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s/checkpoints/update-%d/state.safetensors", base, names[i], updates_of(r));
        if (rt_tensors_open(&t[i], path, &err) != RT_OK) fail_msg("%s", err.text);
    }
    int compared = 0;
    for (int i = 0; i < rt_tensors_count(t[0]); i++) {
        const char *name = rt_tensors_info(t[0], i)->name;
        rt_tensor x, y;
        if (!strcmp(name, "position")) continue;
        int j = rt_tensors_find(t[1], name);
        assert_true(j >= 0);
        assert_int_equal(rt_tensors_read(t[0], i, &x, &err), RT_OK);
        assert_int_equal(rt_tensors_read(t[1], j, &y, &err), RT_OK);
        if (memcmp(x.data, y.data, (size_t)rt_tensor_count(&x) * rt_dtype_size(x.dtype)) != 0)
            fail_msg("%s and %s: %s differs", a, b, name);
        rt_tensor_free(&x);
        rt_tensor_free(&y);
        compared++;
    }
    assert_true(compared >= 3); /* value and two moments */
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);
}

/* The value of a column in the last row of a run's metrics. */
static double figure(const char *name, const char *column)
{
    char path[200], line[8192], quoted[64];
    double value = NAN;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", base, name);
    snprintf(quoted, sizeof quoted, "\"%s\":", column);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        const char *at = strstr(line, quoted);
        value = at ? strtod(at + strlen(quoted), NULL) : NAN;
    }
    fclose(f);
    return value;
}

/* Figures of scenes are sums over the views of all ranks, added in another order. */
static void same_figures(const char *a, const char *b)
{
    static const char *const columns[] = {"x0_gap_rms", "x0_gap_rms_q1", "particle_spread_rms", "opacity", "unsure"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        double x = figure(a, columns[i]), y = figure(b, columns[i]);
        if (!(fabs(x - y) <= 1e-12 * fabs(x))) fail_msg("%s and %s: %s is %.17g and %.17g", a, b, columns[i], x, y);
    }
}

static void any_number_of_ranks_gives_the_same_bits(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        char name[4][64];
        for (int i = 0; i < 4; i++) {
            snprintf(name[i], sizeof name[i], "%s-%zu-on-%d", runs[k].method, k, 1 << i);
            train_on(1 << i, &runs[k], name[i], 0, false);
            if (i > 0) same(&runs[k], name[0], name[i]);
            if (i > 0 && (!strcmp(runs[k].method, "vsd-scene") || !strcmp(runs[k].method, "sds"))) same_figures(name[0], name[i]);
        }
    }
}

static void a_run_goes_on_with_another_number_of_ranks(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k += 2) {
        char whole[64], name[64];
        if (runs[k].pictures && strcmp(runs[k].method, "pd") != 0) continue; /* their start takes long */
        snprintf(whole, sizeof whole, "%s-%zu-on-1", runs[k].method, k);
        snprintf(name, sizeof name, "%s-%zu-parts", runs[k].method, k);
        int n = updates_of(&runs[k]);
        train_on(4, &runs[k], name, n / 3, false);
        train_on(1, &runs[k], name, 3 * n / 4, true);
        train_on(8, &runs[k], name, 0, true);
        same(&runs[k], whole, name);
    }
}

/* Rank 2 of 4 is lost in exchange number `lost`: nobody waits for the deadline, nobody goes on alone. */
static void a_lost_rank_ends_the_run_and_nothing_is_lost(void **state)
{
    const run *r = &runs[2];
    (void)state;
    for (int lost = 1, ended = 0; !ended; lost += lost < 8 ? 1 : 37) {
        int codes[MOST_RANKS];
        run own = *r;
        char command[160];
        snprintf(own.name, sizeof own.name, "lost");
        own.shards = "8";
        own.resume = lost > 8; /* what was there before is gone on with */
        run_ranks(4, 2, lost, train, &own, codes);
        ended = codes[2] == RT_OK;
        for (int i = 0; i < 4; i++)
            if (codes[i] != (ended ? RT_OK : RT_E_COMM)) fail_msg("exchange %d: rank %d left with %d", lost, i, codes[i]);
        if (!ended) train_on(2, r, "lost", UPDATES, true);
        same(&runs[2], "kd-2-on-1", "lost");
        snprintf(command, sizeof command, "rm -rf %s/lost", base);
        assert_int_equal(system(command), 0);
        own.resume = false;
    }
}

/* Rank 1 is asked to stop when it has seen `at` of what is counted in `unit`; all say the same. */
typedef struct stop {
    const run *run;
    const char *unit;
    int64_t at;
    const char *text;
    bool asked;
} stop;

static void look(void *self, const char *what, int64_t done, int64_t total, const char *unit, double loss)
{
    stop *s = self;
    (void)what, (void)total, (void)loss;
    s->asked |= !strcmp(unit, s->unit) && done >= s->at;
}

static bool is_asked(void *self)
{
    const stop *s = self;
    return s->asked;
}

static int interrupted(rt_ranks *ranks, void *user)
{
    stop *s = user;
    static rt_config c;
    rt_error err = {0};
    configure(&c, s->run);
    set(&c, "run.checkpoint-minutes", "0.0001"); /* by which clock? */
    rt_observer o = {.self = s, .progress = rt_ranks_rank(ranks) == 1 ? look : NULL, .stop = is_asked, .ranks = ranks};
    if (rt_run_train(&c, false, &o, NULL, &err) != RT_E_INTERRUPTED || !rt_ranks_agreed(ranks)) return 1;
    return strstr(err.text, s->text) ? 0 : 2;
}

static void where_one_rank_is_asked_to_stop_all_do(void **state)
{
    static const stop stops[] = {{NULL, "samples", 1, "stopped after 256 of 600 teacher samples", false},
                                 {NULL, "updates", 13, "stopped after update 13;", false}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        int codes[MOST_RANKS];
        run own = runs[2];
        stop s = stops[i];
        s.run = &own;
        own.shards = "8";
        snprintf(own.name, sizeof own.name, "stopped-%d", i);
        run_ranks(2, 0, 0, interrupted, &s, codes);
        for (int k = 0; k < 2; k++)
            if (codes[k]) fail_msg("%s: rank %d left with %d", s.text, k, codes[k]);
        train_on(4, &runs[2], own.name, 0, true);
        same(&runs[2], "kd-2-on-1", own.name);
    }
}

static int refused(rt_ranks *ranks, void *user)
{
    const run *r = user;
    static rt_config c;
    rt_error err = {0};
    configure(&c, r);
    if (rt_run_train(&c, false, &(rt_observer){.ranks = ranks}, NULL, &err) != RT_E_USAGE) return 1;
    return strstr(err.text, "the run has 2 shards, which 4 ranks cannot share; use 1 or 2, or begin one with --shards 4") ? 0 : 2;
}

static void ranks_that_cannot_share_are_refused(void **state)
{
    int codes[MOST_RANKS];
    run own = runs[2];
    (void)state;
    strcpy(own.name, "refused");
    own.shards = "2";
    run_ranks(4, 0, 0, refused, &own, codes);
    for (int i = 0; i < 4; i++) assert_int_equal(codes[i], 0);
}

/* A pipeline folder around a committed network. */
static void make_pictures_teacher(void)
{
    char path[128], command[400];
    rt_error err = {0};
    snprintf(command, sizeof command, "mkdir -p %s/unet/unet %s/unet/scheduler && cp tests/data/golden/unet2d/classes/[cd]* %s/unet/unet",
             base, base, base);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/unet", base);
    assert_int_equal(rt_model_index_write(path, "UNet2DModel", "DDIMScheduler", &err), RT_OK);
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = 64;
    spec.betas = "squaredcos_cap_v2";
    rt_scheduler_config c;
    assert_int_equal(rt_scheduler_config_from(&c, &spec, rt_prediction_find("v", NULL), &err), RT_OK);
    snprintf(path, sizeof path, "%s/unet/scheduler/scheduler_config.json", base);
    assert_int_equal(rt_scheduler_config_write(&c, path, &err), RT_OK);
    rt_scheduler_config_free(&c);
}

static int make_teacher(void **state)
{
    char path[128];
    (void)state;
    strcpy(base, "/tmp/retort-ranks-XXXXXX");
    if (!mkdtemp(base)) return -1;
    snprintf(path, sizeof path, "%s/two.json", base);
    FILE *f = fopen(path, "w");
    if (!f) return -1;
    fputs("{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 16, \"layers\": 2, \"_target_time\": true}", f);
    fclose(f);
    train_on(1, &(run){.method = "denoise", .keys = {"data.path", "toy:moons"}, .shards = "1"}, "teacher", 0, false);
    make_pictures_teacher();
    return 0;
}

static int remove_base(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_ranks_gives_the_same_bits), cmocka_unit_test(a_run_goes_on_with_another_number_of_ranks),
        cmocka_unit_test(where_one_rank_is_asked_to_stop_all_do),  cmocka_unit_test(a_lost_rank_ends_the_run_and_nothing_is_lost),
        cmocka_unit_test(ranks_that_cannot_share_are_refused),
    };
    return cmocka_run_group_tests(tests, make_teacher, remove_base);
}
