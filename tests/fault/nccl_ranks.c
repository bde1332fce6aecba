/* nccl_ranks.c -- several ranks whose values lie on GPUs, as processes with a fake (tests/cuda): sums by NCCL have the bits of those by the host, and any
 * number of ranks those of one; which GPU a rank takes; who has no NCCL; each call failing in turn, and a rank that never comes. */
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/cuda_ranks.h"
#include "cuda/fake_nccl.h"
#include "graph/program.h"
#include "socket_ranks.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

enum { WIDTH = 6, HIDDEN = 8, SHARD = 2, SHARDS = 8, BATCH = SHARD * SHARDS, MOST_VALUES = 512 };

/* What a rank leaves for the test. */
static struct left {
    rt_status status;
    char text[RT_ERROR_TEXT], how[RT_ERROR_TEXT], failed[64];
    float values[MOST_VALUES];
    int n, device;
    long opened, calls, live, broken;
    int64_t by_host; /* bytes of sums that went by the ranks' transport */
} * left;

/* What a test asks of all ranks, or of rank `who`. */
typedef struct task {
    const char *counted;       /* functions whose calls are; NULL: all */
    int updates, who, version; /* version: of the NCCL of rank `who`; 0: as the others' */
    long fails;
    bool memory, idle, late; /* late: rank `who` makes one update less, and waits until rank 0 is gone */
    double patience;
} task;

static int begin(void **state)
{
    (void)state;
    if (!left) left = mmap(NULL, MOST_RANKS * sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(left, 0, MOST_RANKS * sizeof *left);
    fake_nccl_meet();
    return 0;
}

/* Of a launcher: number `local` of its ranks on this machine. */
static void be_launched(int local)
{
    char text[16];
    snprintf(text, sizeof text, "%d", local);
    setenv("OMPI_COMM_WORLD_SIZE", "8", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_RANK", text, 1);
}

/* ---- training, as a rank's share of a batch in shards */

typedef struct training {
    rt_params *set;
    rt_graph *g;
    rt_node *x, *loss;
    rt_update u;
    rt_program *p;
} training;

static rt_node *layer(training *t, rt_node *x, const char *name, int64_t in, int64_t out)
{
    char bias[16];
    snprintf(bias, sizeof bias, "%s.bias", name);
    return rt_linear(x, rt_param(t->g, t->set, name, 2, (int64_t[]){out, in}, RT_INIT_UNIFORM(0.5)),
                     rt_param(t->g, t->set, bias, 1, (int64_t[]){out}, RT_INIT_UNIFORM(0.1)));
}

static rt_status compile(training *t, rt_ranks *ranks, rt_error *err)
{
    *t = (training){.set = rt_params_new("network", RT_F32), .g = rt_graph_new(RT_F32)};
    t->x = rt_input(t->g, "x", RT_F32, 2, (int64_t[]){RT_BATCH, WIDTH});
    rt_node *noise = rt_randn(t->g, "noise", 2, (int64_t[]){RT_BATCH, WIDTH});
    rt_node *y = layer(t, rt_silu(layer(t, t->x, "in", WIDTH, HIDDEN)), "out", HIDDEN, WIDTH);
    t->loss = rt_expect(rt_norm2(rt_sub(y, noise)));
    t->u = rt_minimise(t->loss, t->set, &(rt_optimiser){.kind = RT_ADAM, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 0.5});
    RT_TRY(rt_params_init(t->set, 3, err));
    return rt_compile(&t->p, t->g,
                      &(rt_program_spec){.outputs = &t->loss,
                                         .n_outputs = 1,
                                         .updates = &t->u.node,
                                         .n_updates = 1,
                                         .batch = SHARD,
                                         .backend = rt_backend_find("cuda"),
                                         .threads = 1,
                                         .shard = SHARD,
                                         .shards = SHARDS / rt_ranks_size(ranks),
                                         .ranks = ranks},
                      err);
}

static rt_status update(training *t, int k, rt_ranks *ranks, rt_error *err)
{
    int own = BATCH / rt_ranks_size(ranks), first = rt_ranks_rank(ranks) * own;
    *(float *)rt_program_data(t->p, t->u.lr) = 1e-2F;
    *(float *)rt_program_data(t->p, t->u.t) = (float)(k + 1);
    *(float *)rt_program_data(t->p, t->u.decay) = 0;
    for (int at = first; at < first + own; at += SHARD) {
        float *x = rt_program_data(t->p, t->x);
        for (int i = 0; i < SHARD * WIDTH; i++) x[i] = (float)sin((double)(k * 1000 + at * WIDTH + i)) * (float)(1 << at);
        rt_clock clock = {.seed = 11,
                          .step = (uint32_t)k,
                          .first = (uint32_t)at,
                          .total = BATCH,
                          .resumed = at > first,
                          .more = at + SHARD < first + own};
        RT_TRY(rt_run(t->p, &clock, err));
    }
    return RT_OK;
}

static rt_status work(const task *job, rt_ranks *r, struct left *to, rt_error *err)
{
    training t = {0};
    char how[RT_ERROR_TEXT] = "";
    bool is_late = job->late && rt_ranks_rank(r) == job->who;
    rt_status status = rt_backend_open(rt_backend_find("cuda"), err);
    to->opened = fake_calls();
    if (status == RT_OK && r) status = rt_backend_join(rt_backend_find("cuda"), r, how, err);
    snprintf(to->how, sizeof to->how, "%s", how);
    if (status == RT_OK) status = compile(&t, r, err);
    int64_t before = rt_ranks_sent(r);
    for (int k = 0; k < job->updates - is_late && status == RT_OK; k++) status = update(&t, k, r, err);
    to->by_host = rt_ranks_sent(r) - before;
    for (int i = 0; i < 20000 && is_late && !fake_nccl_gone(0); i++) usleep(1000);
    if (status == RT_OK) status = rt_params_fetch(t.set, RT_VALUE, err);
    if (status == RT_OK) {
        to->n = (int)rt_params_extent(t.set, RT_VALUE);
        memcpy(to->values, rt_params_data(t.set, RT_VALUE), (size_t)to->n * sizeof(float));
        to->values[to->n++] = *(float *)rt_program_data(t.p, t.loss);
    }
    to->device = (int)rt__cuda_opened()->number;
    rt_program_free(t.p);
    rt_graph_free(t.g);
    rt_params_free(t.set);
    return status;
}

static int rank_works(rt_ranks *r, void *user)
{
    const task *job = user;
    struct left *to = &left[rt_ranks_rank(r)];
    bool mine = rt_ranks_rank(r) == job->who;
    rt_error err = {0};
    be_launched(rt_ranks_rank(r));
    fake_devices(rt_ranks_size(r));
    fake_cuda_use();
    fake_idle(job->idle);
    if (mine && job->version) fake_nccl_version(job->version);
    rt_ranks_patience(r, job->patience, NULL, NULL);
    fake_count(job->counted ? job->counted : "");
    fake_fail(mine ? job->fails : 0, job->memory);
    to->status = work(job, rt_ranks_size(r) > 1 ? r : NULL, to, &err);
    rt__cuda_close();
    to->calls = fake_calls();
    to->live = fake_live();
    to->broken = fake_counted()->broken;
    snprintf(to->text, sizeof to->text, "%s", err.text);
    snprintf(to->failed, sizeof to->failed, "%s", fake_failed() ? fake_failed() : "");
    return 0;
}

static void run(int n, task *job)
{
    int codes[MOST_RANKS];
    begin(NULL);
    run_ranks(n, 0, 0, rank_works, job, codes);
    for (int i = 0; i < n; i++)
        if (codes[i]) fail_msg("rank %d of %d left with %d: %s", i, n, codes[i], left[i].text);
}

static void all_is_well(int n, const char *how)
{
    for (int i = 0; i < n; i++) {
        if (left[i].status != RT_OK) fail_msg("rank %d of %d: %s", i, n, left[i].text);
        if (!strstr(left[i].how, how)) fail_msg("'%s' is not in: %s", how, left[i].how);
        assert_int_equal(left[i].live, 0);
        assert_int_equal(left[i].broken, 0);
        assert_int_equal(left[i].device, i);
        assert_memory_equal(left[i].values, left[0].values, sizeof left[0].values);
    }
}

static void any_number_of_ranks_gives_the_same_bits(void **state)
{
    enum { UPDATES = 3 };
    static struct left one;
    (void)state;
    run(1, &(task){.updates = UPDATES, .patience = 60});
    all_is_well(1, "");
    one = left[0];
    assert_true(one.n > 100 && isfinite(one.values[0]));
    for (int n = 2; n <= 4; n *= 2) {
        run(n, &(task){.updates = UPDATES, .patience = 60});
        all_is_well(n, "stay on the GPUs, by NCCL 2.28.9");
        assert_memory_equal(left[0].values, one.values, sizeof one.values);
        int64_t sent = fake_nccl_sent(0), sums = (int64_t)(one.n + 8 * 16) * 4; /* joins are whole lines */
        assert_int_equal(left[0].by_host, 0);
        assert_true(sent >= UPDATES * 2 * (n - 1) * (one.n * 4 / n) && sent <= UPDATES * 2 * (n - 1) * (sums / n + 64));
        run(n, &(task){.updates = UPDATES, .patience = 60, .who = n - 1, .version = 21305});
        all_is_well(n, "go by the host");
        assert_memory_equal(left[0].values, one.values, sizeof one.values);
        assert_int_equal(fake_nccl_sent(0), 0);
        assert_true(left[0].by_host > 0);
    }
}

/* ---- numbers: more of them than go at a time, whole and real ones */

enum { MANY = (16 << 20) / 4 + 5 * 32, WHOLE = 32 }; /* parts of two ranks are whole lines */

static int rank_adds(rt_ranks *r, void *user)
{
    const rt_device *d = &rt__cuda_device;
    static float x[MANY], y[MANY];
    static int64_t k[WHOLE], l[WHOLE];
    char how[RT_JOIN_TEXT];
    bool joined = false;
    (void)user;
    be_launched(rt_ranks_rank(r));
    fake_devices(2);
    fake_cuda_use();
    for (int i = 0; i < MANY; i++) x[i] = y[i] = (float)sin(i + 7.0 * rt_ranks_rank(r)) * (float)(1 << i % 20);
    for (int i = 0; i < WHOLE; i++) k[i] = l[i] = (int64_t)i << (rt_ranks_rank(r) * 40);
    if (d->join(r, &joined, how, NULL) != RT_OK || !joined) return 1;
    void *there = d->alloc(sizeof x), *whole = d->alloc(sizeof k);
    rt__sum sums[] = {{whole, WHOLE, RT_I64}, {there, MANY, RT_F32}}, here[] = {{l, WHOLE, RT_I64}, {y, MANY, RT_F32}};
    d->upload(there, x, sizeof x);
    d->upload(whole, k, sizeof k);
    if (d->sum(sums, 2) != RT_OK) return 2;
    d->download(x, there, sizeof x);
    d->download(k, whole, sizeof k);
    if (d->finish(NULL) != RT_OK || rt__ranks_sum(r, here, 2, NULL) != RT_OK) return 3;
    if (memcmp(x, y, sizeof x) != 0 || memcmp(k, l, sizeof k) != 0) return 4;
    d->release(there, sizeof x);
    d->release(whole, sizeof k);
    return fake_counted()->broken == 0 ? 0 : 5;
}

static void sums_are_the_host_s(void **state)
{
    int codes[MOST_RANKS];
    (void)state;
    run_ranks(2, 0, 0, rank_adds, NULL, codes);
    for (int i = 0; i < 2; i++) assert_int_equal(codes[i], 0);
    assert_true(fake_nccl_gone(0) && fake_nccl_gone(1)); /* closing the ranks ends NCCL's, too */
}

/* ---- which GPU, which NCCL */

static int *local_of, n_devices;

static int rank_joins(rt_ranks *r, void *user)
{
    char how[RT_ERROR_TEXT];
    struct left *to = &left[rt_ranks_rank(r)];
    rt_error err = {0};
    be_launched(local_of[rt_ranks_rank(r)]);
    fake_devices(n_devices);
    fake_cuda_use();
    fake_nccl_silent(user != NULL && rt_ranks_rank(r) == 1);
    rt_ranks_patience(r, user ? 0.3 : 60, NULL, NULL);
    if (!user && rt_ranks_rank(r) == 1) fake_nccl_version(22703);
    to->status = rt_backend_join(rt_backend_find("cuda"), r, how, &err);
    snprintf(to->how, sizeof to->how, "%s", how);
    snprintf(to->text, sizeof to->text, "%s", err.text);
    rt__cuda_close();
    return 0;
}

static void join(int n, int *locals, int devices, void *silent)
{
    int codes[MOST_RANKS];
    local_of = locals;
    n_devices = devices;
    begin(NULL);
    run_ranks(n, 0, 0, rank_joins, silent, codes);
    for (int i = 0; i < n; i++) assert_int_equal(codes[i], 0);
}

static void expect(int n, rt_status status, const char *words)
{
    for (int i = 0; i < n; i++) {
        if (left[i].status != status) fail_msg("rank %d: status %d: %s", i, left[i].status, left[i].text);
        if (!strstr(left[i].text, words) && !strstr(left[i].how, words)) fail_msg("'%s' is not in: %s%s", words, left[i].text, left[i].how);
    }
}

static void every_rank_has_a_gpu_of_its_own(void **state)
{
    (void)state;
    join(3, (int[]){0, 1, 2}, 2, NULL); /* fewer GPUs than ranks */
    expect(3, RT_E_DEVICE, "rank 2: CUDA: no device that works: rank 2 of this machine, from 0, finds 2; start as many ranks");
    join(3, (int[]){1, 0, 1}, 2, NULL); /* a launcher that counts otherwise */
    expect(3, RT_E_DEVICE, "ranks 0 and 2 have the same GPU; start as many ranks");
    join(2, (int[]){0, 1}, 1, NULL); /* the only one that each sees is the same */
    expect(2, RT_E_DEVICE, "ranks 0 and 1 have the same GPU");
    join(2, (int[]){0, 1}, 2, NULL);
    expect(2, RT_OK, "sums over ranks go by the host: rank 1 has NCCL 2.27.3, rank 0 2.28.9; install one");
    run(2, &(task){.who = 1, .version = 21305, .patience = 60});
    expect(2, RT_OK, "sums over ranks go by the host: rank 1: NCCL 2.13 is too old, 2.14 is the oldest that is used; install NCCL");
}

/* ---- what goes wrong */

static void a_rank_that_never_comes_is_not_waited_for(void **state)
{
    bool silent = true;
    (void)state;
    join(2, (int[]){0, 1}, 2, &silent);
    expect(2, RT_E_COMM, "NCCL"); /* the first to give up is gone for the other */
    assert_true(strstr(left[0].text, "a rank has not answered for 0.3 s, by NCCL") ||
                strstr(left[1].text, "a rank has not answered for 0.3 s, by NCCL"));
    run(2, &(task){.updates = 2, .who = 1, .late = true, .patience = 0.3});
    if (left[0].status != RT_E_COMM || strcmp(left[0].text, "a rank has not answered for 0.3 s, by NCCL") != 0)
        fail_msg("status %d: %s", left[0].status, left[0].text);
    assert_int_equal(left[0].live, 0);
    assert_int_equal(left[1].status, RT_OK);
}

static bool gives_back(const char *name)
{
    return strstr(name, "Free") || strstr(name, "Destroy") || strstr(name, "Release") || strstr(name, "Unload") ||
           strstr(name, "ncclCommAbort") || !strcmp(name, "cuCtxSetCurrent");
}

/* Calls of NCCL in turn, the first of rank 0, the second of rank 1, .., and some of the driver after opening: the rank says what failed; the other one ends, too; both
 * leave nothing. */
static void each_call_fails(void **state)
{
    static const struct {
        const char *counted;
        int hop;
    } rows[] = {{"nccl", 2}, {"cu", 17}};
    long seen[RT_E_DEVICE + 1] = {0}, ended = 0;
    (void)state;
    for (int who = 0; who < 2; who++)
        for (size_t i = 0; i < RT_COUNT(rows); i++) {
            task job = {.updates = 1, .idle = true, .patience = 60, .who = who, .counted = rows[i].counted};
            run(2, &job);
            all_is_well(2, "NCCL");
            long calls = left[who].calls, from = left[who].opened;
            for (long k = from + 1 + who; k <= calls; k += rows[i].hop) {
                job.fails = k, job.memory = k / 2 % 2;
                run(2, &job);
                const struct left *a = &left[who], *b = &left[1 - who];
                if (a->live || b->live) fail_msg("%s, call %ld: %ld and %ld things were not given back", a->failed, k, a->live, b->live);
                if (a->status == RT_OK && !gives_back(a->failed) && !strstr(a->how, a->failed))
                    fail_msg("%s, call %ld: nobody said that it failed", a->failed, k);
                if (a->status != RT_OK && a->status != RT_E_DEVICE && a->status != RT_E_MEMORY && a->status != RT_E_COMM)
                    fail_msg("%s, call %ld: status %d: %s", a->failed, k, a->status, a->text);
                if (a->status != RT_OK && !strchr(a->text, ';')) fail_msg("%s, call %ld: no remedy: %s", a->failed, k, a->text);
                if (*rows[i].counted == 'n' && a->status != RT_OK && !strstr(a->text, a->failed)) fail_msg("%s: %s", a->failed, a->text);
                if (b->status != RT_OK && b->status != RT_E_COMM && b->status != a->status)
                    fail_msg("%s, call %ld: the other one: %d: %s", a->failed, k, b->status, b->text);
                seen[a->status]++;
                ended += b->status == RT_E_COMM;
            }
        }
    print_message("errors: %ld of the device, %ld of memory, %ld of the ranks; %ld while giving back; %ld ended another rank\n",
                  seen[RT_E_DEVICE], seen[RT_E_MEMORY], seen[RT_E_COMM], seen[RT_OK], ended);
    assert_true(seen[RT_E_DEVICE] > 10 && seen[RT_E_COMM] > 5 && ended > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(any_number_of_ranks_gives_the_same_bits, begin), cmocka_unit_test_setup(sums_are_the_host_s, begin),
        cmocka_unit_test_setup(every_rank_has_a_gpu_of_its_own, begin),
        cmocka_unit_test_setup(a_rank_that_never_comes_is_not_waited_for, begin), cmocka_unit_test_setup(each_call_fails, begin)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
