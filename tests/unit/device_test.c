/* device_test.c -- programs whose values lie on a device, by one that faults where the host touches its memory (emulated_device.h): the reference's bits, sets
 * that are newest on either side, recordings, what fails in turn. */
#include "emulated_device.h"
#include "graph/choices.h"
#include "graph/program.h"
#include "retort/ops.h"
#include "socket_ranks.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

enum { WIDTH = 6, HIDDEN = 8, BATCH = 4 };

static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

static const rt_backend *reference(void) { return rt_backend_find("reference"); }

/* ---- a small training: a student of two layers follows a frozen teacher, whose weights are scaled in the prologue */

typedef struct training {
    rt_params *student, *teacher;
    rt_graph *graph;
    rt_node *x, *loss, *row; /* row: per sample, a view */
    rt_update u;
    rt_program *p;
} training;

static rt_node *layer(rt_graph *g, rt_params *set, rt_node *x, const char *name, int64_t in, int64_t out)
{
    char weight[32], bias[32];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    return rt_linear(x, rt_param(g, set, weight, 2, (int64_t[]){out, in}, RT_INIT_UNIFORM(0.5)),
                     rt_param(g, set, bias, 1, (int64_t[]){out}, RT_INIT_UNIFORM(0.1)));
}

static void build(training *t, int kind)
{
    *t =
        (training){.student = rt_params_new("student", RT_F32), .teacher = rt_params_new("teacher", RT_F32), .graph = rt_graph_new(RT_F32)};
    rt_graph *g = t->graph;
    static const float shift[WIDTH] = {0.5f, -1, 0.25f, 2, 0, 1};
    t->x = rt_input(g, "x", RT_F32, 2, (int64_t[]){RT_BATCH, WIDTH});
    rt_node *z = rt_randn(g, "z", 2, (int64_t[]){RT_BATCH, WIDTH});
    rt_node *x = rt_add(rt_add(t->x, rt_scale(z, 0.1)), rt_const(g, RT_F32, 1, (int64_t[]){WIDTH}, shift));
    rt_node *scale = rt_exp(rt_param(g, t->teacher, "scale", 1, (int64_t[]){WIDTH}, RT_INIT_UNIFORM(0.3))); /* once per version */
    rt_node *want = rt_mul(layer(g, t->teacher, x, "out", WIDTH, WIDTH), scale);
    rt_node *got = layer(g, t->student, rt_silu(layer(g, t->student, x, "in", WIDTH, HIDDEN)), "out", HIDDEN, WIDTH);
    rt_node *error = rt_norm2(rt_sub(got, want));
    t->loss = rt_expect(error);
    t->row = rt_reshape(error, 2, (int64_t[]){RT_BATCH, 1});
    rt_optimiser o = {
        .kind = (rt_optimiser_kind)kind, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 0.5, .average = true, .weight_decay = 0.01};
    t->u = rt_minimise(t->loss, t->student, &o);
    OK(rt_params_init(t->student, 3, &err));
    OK(rt_params_init(t->teacher, 4, &err));
}

static rt_status try_compile(training *t, const rt_backend *b, int64_t shard, int shards, rt_ranks *ranks)
{
    rt_node *outputs[] = {t->loss, t->row, t->u.grad_norm};
    rt_program_spec spec = {.outputs = outputs,
                            .n_outputs = 3,
                            .updates = &t->u.node,
                            .n_updates = 1,
                            .batch = BATCH,
                            .backend = b,
                            .threads = 1,
                            .shard = shard,
                            .shards = shards,
                            .ranks = ranks};
    err = (rt_error){0};
    return rt_compile(&t->p, t->graph, &spec, &err);
}

static void open_training(training *t, const rt_backend *b, int kind, int64_t shard, int shards)
{
    build(t, kind);
    if (try_compile(t, b, shard, shards, NULL) != RT_OK) fail_msg("%s", err.text);
}

static void close_training(training *t)
{
    rt_program_free(t->p);
    rt_graph_free(t->graph);
    rt_params_free(t->student);
    rt_params_free(t->teacher);
}

/* Update k (from 0) of a batch in slices, samples first .. end - 1. */
static rt_status update_part(training *t, int k, int first, int end, int total)
{
    *(float *)rt_program_data(t->p, t->u.lr) = 0.01f;
    *(float *)rt_program_data(t->p, t->u.t) = (float)(k + 1);
    *(float *)rt_program_data(t->p, t->u.decay) = 0.9f;
    for (int at = first; at < end; at += BATCH) {
        float *x = rt_program_data(t->p, t->x);
        for (int i = 0; i < BATCH * WIDTH; i++) x[i] = sinf((float)(k * 1000 + at * WIDTH + i));
        rt_clock clock = {
            .seed = 11, .step = (uint32_t)k, .first = (uint32_t)at, .total = total, .resumed = at > first, .more = at + BATCH < end};
        err = (rt_error){0};
        rt_status s = rt_run(t->p, &clock, &err);
        assert_int_equal(emulated.queue.n, 0); /* whatever happened, all is done that was asked for */
        RT_TRY(s);
    }
    return RT_OK;
}

static void update(training *t, int k, int slices)
{
    if (update_part(t, k, 0, slices * BATCH, slices * BATCH) != RT_OK) fail_msg("%s", err.text);
}

static void same_role(const training *a, const training *b, rt_role role)
{
    size_t bytes = (size_t)rt_params_extent(a->student, role) * sizeof(float);
    assert_true(rt_params_has(a->student, role) && rt_params_has(b->student, role));
    assert_memory_equal(rt_params_data(a->student, role), rt_params_data(b->student, role), bytes);
}

static void same_outputs(const training *a, const training *b)
{
    rt_node *const of_a[] = {a->loss, a->row, a->u.grad_norm}, *const of_b[] = {b->loss, b->row, b->u.grad_norm};
    for (int i = 0; i < 3; i++)
        assert_memory_equal(rt_program_data(a->p, of_a[i]), rt_program_data(b->p, of_b[i]),
                            (size_t)rt_program_count(a->p, of_a[i]) * sizeof(float));
}

static void nothing_is_left(void)
{
    assert_int_equal(emulated.n_blocks, 0);
    assert_int_equal(emulated.pinned, 0);
    assert_int_equal(emulated.recordings, 0);
    assert_int_equal(emulated.taken, 0);
}

/* ---- tests */

/* What all else rests on: memory of the device faults in the host's code, and its end, too. */
static void host_code_cannot_read_it(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGSEGV, SIG_DFL);
            signal(SIGBUS, SIG_DFL);
            volatile float *at = emulated_alloc(256);
            if (k == 1) emulated_protect(PROT_READ | PROT_WRITE), at += 64;
            _exit(*at == 0);
        }
        int status;
        waitpid(pid, &status, 0);
        assert_false(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    }
}

/* Optimisers, slices and shards: the reference's bits in every array and output. From the third run of a kind on, runs are replayed. */
static void training_has_the_reference_s_bits(void **state)
{
    (void)state;
    static const struct {
        int kind, slices, shards;
    } cases[] = {{RT_ADAM, 1, 0}, {RT_ADAMW, 3, 0}, {RT_RADAM, 4, 4}, {RT_SGD, 8, 4}, {RT_SGD, 8, 8}};
    for (size_t i = 0; i < RT_COUNT(cases); i++) {
        int slices = cases[i].slices, shards = cases[i].shards, shard = shards ? slices * BATCH / shards : 0;
        training host, there;
        open_training(&host, reference(), cases[i].kind, shard, shards);
        open_training(&there, &emulated_backend, cases[i].kind, shard, shards);
        int replays = emulated.replays, downs = emulated.downs;
        for (int k = 0; k < 5; k++) {
            update(&host, k, slices);
            update(&there, k, slices);
            same_outputs(&host, &there);
        }
        assert_true(emulated.replays - replays >= 3 * slices);
        assert_int_equal(emulated.downs - downs, 5 * slices * 3); /* outputs, and no set */
        for (rt_role role = 0; role < RT_ROLES; role++)
            if (role != RT_GRADIENT && !(role == RT_MOMENT2 && cases[i].kind == RT_SGD)) same_role(&host, &there, role);
        close_training(&host);
        close_training(&there);
        nothing_is_left();
    }
}

/* Where recordings fail, and where there are none, runs are requested piece by piece. */
static void without_recordings(void **state)
{
    (void)state;
    for (int none = 0; none < 2; none++) {
        rt_device device = emulated_device;
        rt_backend backend = emulated_backend;
        if (none) device.record = NULL;
        backend.device = &device;
        emulated.forgetful = !none;
        training host, there;
        open_training(&host, reference(), RT_ADAM, 0, 0);
        open_training(&there, &backend, RT_ADAM, 0, 0);
        int replays = emulated.replays;
        for (int k = 0; k < 4; k++) update(&host, k, 2), update(&there, k, 2);
        assert_int_equal(emulated.replays, replays);
        emulated.forgetful = false;
        same_role(&host, &there, RT_VALUE);
        close_training(&host);
        close_training(&there);
        nothing_is_left();
    }
}

static void scale_all(rt_params *set, rt_role role, float by)
{
    float *v = rt_params_data(set, role);
    for (int64_t i = 0; i < rt_params_extent(set, role); i++) v[i] *= by;
    rt_params_touch(set);
}

/* Sets change here and there in turn, trained ones and one that the prologue and kept weights come from. */
static void sets_follow_both_sides(void **state)
{
    (void)state;
    training host, there, *both[] = {&host, &there};
    open_training(&host, reference(), RT_ADAM, 0, 0);
    open_training(&there, &emulated_backend, RT_ADAM, 0, 0);
    for (int k = 0; k < 12; k++) {
        for (int i = 0; i < 2; i++) {
            training *t = both[i];
            if (k == 2 || k == 5) scale_all(t->teacher, RT_VALUE, 1.5f); /* the prologue runs again, among runs that are replayed */
            if (k == 3) scale_all(t->student, RT_VALUE, 0.5f);           /* on top of what the device made */
            if (k == 4) scale_all(t->student, RT_MOMENT1, 2);            /* and only this */
            if (k == 6) OK(rt_params_copy(t->student, RT_VALUE, t->student, RT_AVERAGE, &err));
            if (k == 7) rt_params_zero(t->student, RT_MOMENT1), rt_params_zero(t->student, RT_MOMENT2);
            if (k == 8) scale_all(t->student, RT_AVERAGE, 0.5f); /* the host's is the newer one when it is copied */
            if (k == 8) OK(rt_params_copy(t->student, RT_VALUE, t->student, RT_AVERAGE, &err));
            if (k == 9) rt_params_touch(t->student); /* the host has nothing new: what is older stays so */
            if (k == 10) OK(rt_params_init(t->teacher, 9, &err));
            update(t, k, 2);
        }
        same_outputs(&host, &there);
        if (k % 4 == 1)
            for (rt_role role = RT_MOMENT1; role < RT_ROLES; role++) same_role(&host, &there, role);
    }
    same_role(&host, &there, RT_VALUE);
    uint64_t version = rt_params_version(there.student);
    int downs = emulated.downs;
    (void)rt_params_data(there.student, RT_VALUE);
    assert_int_equal(emulated.downs, downs); /* it is here already */
    update(&there, 12, 1);
    assert_true(rt_params_version(there.student) > version);
    close_training(&host);
    close_training(&there);
    nothing_is_left();
}

/* A teacher that another program trains: its version moves there, and copies between sets on the device need no way by the host. */
static void programs_share_sets(void **state)
{
    (void)state;
    float seen[2][3];
    for (int i = 0; i < 2; i++) {
        training t;
        open_training(&t, i ? &emulated_backend : reference(), RT_SGD, 0, 0);
        rt_params *average = rt_params_new("average", RT_F32);
        rt_graph *g = rt_graph_new(RT_F32);
        rt_node *x = rt_input(g, "x", RT_F32, 2, (int64_t[]){RT_BATCH, WIDTH});
        rt_node *y[] = {layer(g, t.student, x, "in", WIDTH, HIDDEN), layer(g, average, x, "in", WIDTH, HIDDEN)};
        (void)layer(g, average, layer(g, average, x, "in", WIDTH, HIDDEN), "out", HIDDEN, WIDTH);
        rt_node *both = rt_sum(rt_add(rt_exp(y[0]), rt_square(y[1])), RT_ALL_AXES, false);
        rt_program *p;
        OK(rt_params_init(average, 8, &err));
        OK(rt_compile(
            &p, g,
            &(rt_program_spec){.outputs = &both, .n_outputs = 1, .batch = 2, .backend = i ? &emulated_backend : reference(), .threads = 1},
            &err));
        for (int j = 0; j < 2 * WIDTH; j++) ((float *)rt_program_data(p, x))[j] = cosf((float)j);
        for (int k = 0; k < 3; k++) {
            int downs = emulated.downs, ups = emulated.ups;
            if (k > 0) update(&t, k, 1);
            OK(rt_params_copy(average, RT_VALUE, t.student, k > 0 ? RT_AVERAGE : RT_VALUE, &err));
            OK(rt_run(p, &(rt_clock){0}, &err));
            if (i && k == 2) assert_true(emulated.downs - downs == 3 + 1 && emulated.ups - ups == 5 + 2);
            seen[i][k] = *(float *)rt_program_data(p, both);
        }
        rt_program_free(p);
        rt_graph_free(g);
        rt_params_free(average);
        close_training(&t);
    }
    assert_memory_equal(seen[0], seen[1], sizeof seen[0]);
    assert_true(seen[0][0] != seen[0][1] && seen[0][1] != seen[0][2]);
    nothing_is_left();
}

/* A set trails another, entries of which are frozen and stand elsewhere: on the device where both lie there, whichever side moved last. */
static void sets_trail_each_other(void **state)
{
    (void)state;
    float seen[2][6], first[2][HIDDEN];
    for (int i = 0; i < 2; i++) {
        rt_params *leader = rt_params_new("leader", RT_F32), *own = rt_params_new("own", RT_F32), *other = rt_params_new("other", RT_F32);
        rt_graph *g = rt_graph_new(RT_F32);
        rt_node *x = rt_input(g, "x", RT_F32, 2, (int64_t[]){RT_BATCH, WIDTH}), *y[2];
        rt_params *sets[] = {leader, own};
        for (int j = 0; j < 2; j++) y[j] = layer(g, sets[j], layer(g, sets[j], x, "in", WIDTH, HIDDEN), "out", HIDDEN, WIDTH);
        rt_node *both = rt_sum(rt_add(rt_square(y[0]), rt_exp(y[1])), RT_ALL_AXES, false);
        (void)layer(g, other, x, "in", WIDTH, WIDTH);
        OK(rt_params_freeze(leader, "in.bias", &err));
        for (int j = 0; j < 2; j++) OK(rt_params_init(sets[j], 5 + (uint64_t)j, &err));
        if (i) OK(rt_params_trail(own, leader, 1, &err)); /* neither lies there yet, and nothing changes */
        rt_program *p;
        OK(rt_compile(
            &p, g,
            &(rt_program_spec){.outputs = &both, .n_outputs = 1, .batch = 1, .backend = i ? &emulated_backend : reference(), .threads = 1},
            &err));
        for (int j = 0; j < WIDTH; j++) ((float *)rt_program_data(p, x))[j] = cosf((float)j);
        for (int k = 0; k < 6; k++) {
            if (k == 2) scale_all(leader, RT_VALUE, 1.25f);
            if (k == 3) scale_all(own, RT_VALUE, 0.5f);
            int downs = emulated.downs, ups = emulated.ups;
            OK(rt_params_trail(own, leader, 0.75, &err));
            OK(rt_run(p, &(rt_clock){0}, &err));
            seen[i][k] = *(float *)rt_program_data(p, both);
            if (i) assert_int_equal(emulated.downs - downs, 1);                               /* the output */
            if (i && k != 3) assert_int_equal(emulated.ups - ups, 2 + (k == 0 ? 2 : k == 2)); /* clock and input; a set that moved here */
        }
        err = (rt_error){0};
        assert_int_equal(rt_params_trail(own, other, 0.5, &err), RT_E_INVALID);
        const float *bias = (float *)rt_params_data(own, RT_VALUE) + rt_params_entry(own, rt_params_find(own, "in.bias"))->offset;
        memcpy(first[i], bias, sizeof first[i]);
        rt_program_free(p);
        rt_graph_free(g);
        for (int j = 0; j < 2; j++) rt_params_free(sets[j]);
        rt_params_free(other);
    }
    assert_memory_equal(seen[0], seen[1], sizeof seen[0]);
    assert_memory_equal(first[0], first[1], sizeof first[0]);
    for (int k = 1; k < 6; k++) assert_true(seen[0][k] != seen[0][k - 1]);
    nothing_is_left();
}

static void missing_rows_are_named_once(void **state)
{
    (void)state;
    training t;
    build(&t, RT_ADAM);
    emulated.lacks = rt__ops_f32[RT_OP_matmul];
    assert_int_equal(try_compile(&t, &emulated_backend, 0, 0, NULL), RT_E_USAGE);
    emulated.lacks = NULL;
    assert_null(t.p);
    const char *at = strstr(err.text, "matmul");
    if (!at || strstr(at + 1, "matmul") || !strstr(err.text, "emulated lacks 1 ")) fail_msg("%s", err.text);
    close_training(&t);
    rt_graph *g = rt_graph_new(RT_F64); /* in double there is nothing */
    rt_node *y = rt_exp(rt_input(g, "x", RT_F64, 1, (int64_t[]){3}));
    err = (rt_error){0};
    rt_program *p;
    assert_int_equal(rt_compile(&p, g, &(rt_program_spec){.outputs = &y, .n_outputs = 1, .batch = 1, .backend = &emulated_backend}, &err),
                     RT_E_USAGE);
    assert_non_null(strstr(err.text, "double"));
    rt_graph_free(g);
    nothing_is_left();
}

/* A set has one device. */
static void devices_do_not_mix(void **state)
{
    (void)state;
    training t;
    open_training(&t, &emulated_backend, RT_ADAM, 0, 0);
    rt_device device = emulated_device;
    rt_backend other = emulated_backend;
    other.device = &device;
    rt_program *first = t.p;
    assert_int_equal(try_compile(&t, &other, 0, 0, NULL), RT_E_USAGE);
    assert_non_null(strstr(err.text, "'student'"));
    t.p = first;
    close_training(&t);
    nothing_is_left();
}

/* Three updates and a look at the set; what the first failing call says. */
static rt_status course(int fails)
{
    training t;
    emulated.calls = 0;
    emulated.fails = 0;
    build(&t, RT_ADAM);
    emulated.calls = 0;
    emulated.fails = fails;
    rt_status s = try_compile(&t, &emulated_backend, 0, 0, NULL);
    for (int k = 0; k < 3 && s == RT_OK; k++) s = update_part(&t, k, 0, 2 * BATCH, 2 * BATCH);
    err = s == RT_OK ? (rt_error){0} : err;
    if (s == RT_OK) s = rt_params_fetch(t.student, RT_VALUE, &err);
    assert_true((s == RT_OK) == (*err.text == 0));
    if (s != RT_OK && t.p) assert_true(rt_params_data(t.student, RT_VALUE) || fails == 0 || emulated.calls > 0);
    emulated.fails = 0;
    close_training(&t);
    nothing_is_left();
    return s;
}

static void every_call_fails_in_turn(void **state)
{
    (void)state;
    int memory = 0, device = 0, fine = 0;
    assert_int_equal(course(0), RT_OK);
    int calls = emulated.calls;
    assert_true(calls > 50);
    for (int k = 1; k <= calls; k++) {
        rt_status s = course(k);
        memory += s == RT_E_MEMORY;
        device += s == RT_E_DEVICE;
        fine += s == RT_OK; /* a recording that failed: the run went on without */
        if (s != RT_OK && s != RT_E_MEMORY && s != RT_E_DEVICE) fail_msg("call %d: status %d", k, (int)s);
    }
    assert_true(memory > 10 && device > 10 && fine == 2);
    emulated.absent = true;
    training t;
    build(&t, RT_ADAM);
    assert_int_equal(try_compile(&t, &emulated_backend, 0, 0, NULL), RT_E_DEVICE);
    emulated.absent = false;
    close_training(&t);
}

/* A device of 1 GiB: what is asked for and what is there are said. */
static void memory_runs_out(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *y = rt_sum(rt_exp(rt_input(g, "x", RT_F32, 2, (int64_t[]){RT_BATCH, 1 << 20})), 1u << 1, false);
    rt_program *p;
    err = (rt_error){0};
    assert_int_equal(rt_compile(&p, g,
                                &(rt_program_spec){.outputs = &y, .n_outputs = 1, .batch = 300, .backend = &emulated_backend, .threads = 1},
                                &err),
                     RT_E_MEMORY);
    if (!strstr(err.text, "needs 2401 MiB") && !strstr(err.text, "needs 1201 MiB")) fail_msg("%s", err.text);
    assert_non_null(strstr(err.text, "1024 are free"));
    rt_graph_free(g);
    nothing_is_left();
}

static void profiles_are_timed_there(void **state)
{
    (void)state;
    training t;
    open_training(&t, &emulated_backend, RT_ADAM, 0, 0);
    rt_program_profile(t.p, true);
    int runs = emulated.runs;
    for (int k = 0; k < 4; k++) update(&t, k, 1);
    const rt_profile_row *rows;
    int n = rt_program_profile_rows(t.p, &rows);
    double seconds = 0;
    int64_t calls = 0;
    for (int i = 0; i < n; i++) seconds += rows[i].seconds, calls += rows[i].calls;
    assert_true(n > 5 && calls == emulated.runs - runs); /* a millisecond each */
    assert_true(fabs(seconds - 1e-3 * (double)calls) < 1e-9);
    close_training(&t);
}

/* A rehearsal counts what the program and its sets take, and takes nothing. */
static void rehearsals_count_both_memories(void **state)
{
    (void)state;
    training t;
    rt_rehearsal r = {0};
    build(&t, RT_ADAM);
    rt_program_spec spec = {.outputs = &t.loss,
                            .n_outputs = 1,
                            .updates = &t.u.node,
                            .n_updates = 1,
                            .batch = BATCH,
                            .backend = &emulated_backend,
                            .threads = 1,
                            .rehearsal = &r};
    OK(rt_compile(&t.p, t.graph, &spec, &err));
    nothing_is_left();
    OK(rt_run(t.p, &(rt_clock){0}, &err));
    int64_t sets = (4 * rt_params_extent(t.student, RT_VALUE) + rt_params_extent(t.teacher, RT_VALUE)) * (int64_t)sizeof(float);
    assert_int_equal(r.device_reserved, sets + (int64_t)rt_program_bytes(t.p));
    rt_program_free(t.p);
    assert_int_equal(r.device_reserved, sets);
    assert_true(r.device_peak > sets && r.reserved == 0);
    spec.rehearsal = NULL;
    OK(rt_compile(&t.p, t.graph, &spec, &err));
    assert_true(emulated.taken >= (size_t)r.device_peak &&
                emulated.taken < (size_t)r.device_peak + 2048); /* constants, the clock, room behind arrays */
    close_training(&t);
    nothing_is_left();
}

/* ---- ways are tried on the device */

static double clock_of_ways(void)
{
    (void)emulated_finish(NULL);
    return emulated.now;
}
static double sum_of_ways;
static void slow(const rt_call *c)
{
    for (int64_t i = 0; i < c->in[0].count; i++) sum_of_ways += (double)((const float *)c->in[0].data)[i];
    ((float *)c->out.data)[0] = ((float *)c->scratch)[0] = 1;
    if (*(const int *)c->state == 0) emulated.now += 1;
}
static const int way_numbers[] = {0, 1};
static void *make_way(const rt_call *c, int k, size_t *scratch) { return (void)c, *scratch = 64, (void *)(uintptr_t)&way_numbers[k]; }
static void run_way(const rt_call *c) { emulated_request(c, slow); }
static void drop_way(void *s) { (void)s; }

static void ways_are_tried_there(void **state)
{
    (void)state;
    rt_choices *choices = rt_choices_new(true);
    rt_view in = {.dtype = RT_F32, .rank = 1, .dim = {100}, .count = 100}, out = {.dtype = RT_BF16, .rank = 1, .dim = {7}, .count = 7};
    size_t scratch;
    rt__ways ways = {(const char *const[]){"slow", "quick"}, 2, 0, make_way, run_way, drop_way, clock_of_ways, &emulated_device};
    int *way = rt__choose(&(rt_call){.n_in = 1, .in = &in, .out = out, .choices = choices}, "key", &ways, &scratch);
    assert_ptr_equal(way, &way_numbers[1]);
    assert_true(isfinite(sum_of_ways) && sum_of_ways > 100); /* numbers from 1 to 2 */
    rt_choices_free(choices);
    nothing_is_left();
}

/* ---- two ranks: sums go by the host */

static int rank_trains(rt_ranks *r, void *user)
{
    training host, there, *both[] = {&host, &there};
    build(&host, RT_ADAM);
    build(&there, RT_ADAM);
    if (try_compile(&host, reference(), BATCH, 2, r) != RT_OK || try_compile(&there, &emulated_backend, BATCH, 2, r) != RT_OK) return 1;
    int own = 2 * BATCH, first = rt_ranks_rank(r) * own;
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 2; i++)
            if (update_part(both[i], k, first, first + own, 2 * own) != RT_OK) return 2;
    size_t bytes = (size_t)rt_params_extent(host.student, RT_VALUE) * sizeof(float);
    const void *a = rt_params_data(host.student, RT_VALUE), *b = rt_params_data(there.student, RT_VALUE);
    int code = !a || !b || memcmp(a, b, bytes) != 0 ? 3 : 0;
    close_training(&host);
    close_training(&there);
    return (void)user, code ? code : emulated.n_blocks;
}

static void ranks_add_up(void **state)
{
    (void)state;
    int codes[MOST_RANKS];
    run_ranks(2, -1, 0, rank_trains, NULL, codes);
    assert_true(codes[0] == 0 && codes[1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranks_add_up), /* processes before threads */
                                       cmocka_unit_test(host_code_cannot_read_it),
                                       cmocka_unit_test(training_has_the_reference_s_bits),
                                       cmocka_unit_test(without_recordings),
                                       cmocka_unit_test(sets_follow_both_sides),
                                       cmocka_unit_test(programs_share_sets),
                                       cmocka_unit_test(sets_trail_each_other),
                                       cmocka_unit_test(missing_rows_are_named_once),
                                       cmocka_unit_test(devices_do_not_mix),
                                       cmocka_unit_test(every_call_fails_in_turn),
                                       cmocka_unit_test(memory_runs_out),
                                       cmocka_unit_test(profiles_are_timed_there),
                                       cmocka_unit_test(rehearsals_count_both_memories),
                                       cmocka_unit_test(ways_are_tried_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
