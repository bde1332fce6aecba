/* ranks_test.c -- what ranks do together, as processes that reach each other by sockets: sums that their number does not change, pieces of all sizes, agreement, and
 * every exchange failing in turn. */
#include "base/internal.h"
#include "base/rank_sums.h"
#include "socket_ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

enum { SHARDS = 8, NUMBERS = 1013, LARGE = (5 << 20) + 3 };

/* Number i of a shard: of very different sizes, so that another order gives other bits. */
static double number(int shard, int i)
{
    uint32_t w[4];
    rt__draw_words(&(rt__draw){.seed = 5, .name = rt__draw_name("shard")}, (uint32_t)shard, (uint32_t)i, w);
    return (rt__unit(w[0]) - 0.5) * (double)(1 << w[1] % 16);
}

typedef struct arrays {
    float f[NUMBERS];
    double d[NUMBERS];
    int64_t k[3];
    float g[7];
} arrays;

static void shard(arrays *a, int s)
{
    for (int i = 0; i < NUMBERS; i++) a->f[i] = (float)number(s, i), a->d[i] = number(s, i + NUMBERS);
    for (int i = 0; i < 3; i++) a->k[i] = s + i;
    for (int i = 0; i < 7; i++) a->g[i] = (float)number(s, i + 2 * NUMBERS);
}

static void add(arrays *a, const arrays *b)
{
    for (int i = 0; i < NUMBERS; i++) a->f[i] += b->f[i], a->d[i] += b->d[i];
    for (int i = 0; i < 3; i++) a->k[i] += b->k[i];
    for (int i = 0; i < 7; i++) a->g[i] += b->g[i];
}

/* The sum of shards from .. from + n - 1, as a tree. */
static void tree(arrays *a, int from, int n)
{
    static arrays right[4];
    if (n == 1) {
        shard(a, from);
        return;
    }
    arrays *b = &right[n == 8 ? 0 : n == 4 ? 1 : 2];
    tree(a, from, n / 2);
    tree(b, from + n / 2, n / 2);
    add(a, b);
}

static int sums(rt_ranks *r, void *user)
{
    static arrays a;
    int own = SHARDS / rt_ranks_size(r);
    tree(&a, rt_ranks_rank(r) * own, own);
    rt__sum list[] = {{a.f, NUMBERS, RT_F32}, {a.d, NUMBERS, RT_F64}, {a.k, 3, RT_I64}, {a.g, 7, RT_F32}};
    if (rt__ranks_sum(r, list, 4, NULL) != RT_OK) return 1;
    return memcmp(&a, user, sizeof a) != 0;
}

static void sums_do_not_depend_on_the_number_of_ranks(void **state)
{
    static arrays whole, in_order;
    int codes[MOST_RANKS];
    (void)state;
    tree(&whole, 0, SHARDS);
    shard(&in_order, 0);
    for (int s = 1; s < SHARDS; s++) {
        arrays a;
        shard(&a, s);
        add(&in_order, &a);
    }
    assert_memory_not_equal(&whole, &in_order, sizeof whole); /* the order can be seen at all */
    for (int n = 1; n <= 8; n *= 2) {
        run_ranks(n, 0, 0, sums, &whole, codes);
        for (int i = 0; i < n; i++) assert_int_equal(codes[i], 0);
    }
}

/* More than is summed at a time, and what goes over the wire: 2 (R-1)/R of it. */
static int large(rt_ranks *r, void *user)
{
    (void)user;
    int R = rt_ranks_size(r);
    float *x = malloc(LARGE * sizeof *x);
    if (!x) return 1;
    for (int i = 0; i < LARGE; i++) x[i] = (float)(i % 1000 + rt_ranks_rank(r));
    bool ok = rt__ranks_sum(r, &(rt__sum){x, LARGE, RT_F32}, 1, NULL) == RT_OK;
    for (int i = 0; i < LARGE; i++) ok = ok && x[i] == (float)(i % 1000 * R + R * (R - 1) / 2);
    free(x);
    double share = (double)rt_ranks_sent(r) / (2.0 * (R - 1) / R * LARGE * sizeof(float));
    return !(ok && share > 0.999 && share < 1.001);
}

static void large_sums_go_by_parts(void **state)
{
    int codes[MOST_RANKS];
    (void)state;
    run_ranks(4, 0, 0, large, NULL, codes);
    for (int i = 0; i < 4; i++) assert_int_equal(codes[i], 0);
}

static int share(rt_ranks *r, void *user)
{
    (void)user;
    int me = rt_ranks_rank(r);
    char data[64] = "";
    const size_t at[] = {0, 10, 10, 11, 64};
    int64_t least[2] = {me, -me}, most[2];
    for (size_t i = at[me]; i < at[me + 1]; i++) data[i] = (char)('a' + me);
    if (rt_ranks_gather(r, data, at, NULL) != RT_OK) return 1;
    for (int k = 0; k < 4; k++)
        for (size_t i = at[k]; i < at[k + 1]; i++)
            if (data[i] != 'a' + k) return 2;
    if (rt_ranks_broadcast(r, &me, sizeof me, NULL) != RT_OK || me != 0) return 3;
    if (rt_ranks_range(r, 2, least, most, NULL) != RT_OK) return 4;
    if (least[0] != 0 || most[0] != 3 || least[1] != -3 || most[1] != 0) return 5;
    return rt_ranks_check_program(r, "1.0", NULL) == RT_OK ? 0 : 6;
}

static void all_get_what_each_has(void **state)
{
    int codes[MOST_RANKS];
    (void)state;
    run_ranks(4, 0, 0, share, NULL, codes);
    for (int i = 0; i < 4; i++) assert_int_equal(codes[i], 0);
}

/* The first of those that fail speaks for all. */
static int agree(rt_ranks *r, void *user)
{
    (void)user;
    int me = rt_ranks_rank(r);
    rt_error err = {0};
    if (rt_ranks_agree(r, RT_OK, &err) != RT_OK || rt_ranks_agreed(r)) return 1;
    rt_status mine = me == 0 ? RT_OK : rt_error_set(&err, me == 1 ? RT_E_INVALID : RT_E_MEMORY, "of rank %d", me);
    if (rt_ranks_agree(r, mine, &err) != RT_E_INVALID || !rt_ranks_agreed(r)) return 2;
    return strcmp(err.text, "rank 1: of rank 1") != 0;
}

static int other_program(rt_ranks *r, void *user)
{
    (void)user;
    rt_error err = {0};
    rt_status s = rt_ranks_check_program(r, rt_ranks_rank(r) == 2 ? "0.9" : "1.0", &err);
    return !(s == RT_E_INVALID && strstr(err.text, "rank 2: runs another build, 0.9") && strstr(err.text, "1.0"));
}

static void failures_are_agreed_on(void **state)
{
    int codes[MOST_RANKS];
    (void)state;
    run_ranks(4, 0, 0, agree, NULL, codes);
    for (int i = 0; i < 4; i++) assert_int_equal(codes[i], 0);
    run_ranks(4, 0, 0, other_program, NULL, codes);
    for (int i = 0; i < 4; i++) assert_int_equal(codes[i], 0);
}

/* ---- what goes wrong */

static int everything(rt_ranks *r, void *user)
{
    rt_error err = {0};
    float x[5] = {1};
    (void)user;
    rt_ranks_patience(r, 30, NULL, NULL);
    rt_status s = rt__ranks_sum(r, &(rt__sum){x, 5, RT_F32}, 1, &err);
    if (s == RT_OK) s = rt_ranks_agree(r, RT_OK, &err);
    if (s == RT_OK) s = rt_ranks_broadcast(r, x, sizeof x, &err);
    if (s != RT_OK && err.status != s) return 1;
    if (s != RT_OK && !strstr(err.text, "rank")) return 2;
    return (int)s;
}

static void every_exchange_that_fails_ends_all_ranks(void **state)
{
    enum { EXCHANGES = 4 };
    int codes[MOST_RANKS];
    (void)state;
    for (int fails = 1; fails <= EXCHANGES + 1; fails++) {
        run_ranks(4, 2, fails, everything, NULL, codes);
        for (int i = 0; i < 4; i++)
            if (fails < EXCHANGES || fails > EXCHANGES || i == 2) assert_int_equal(codes[i], fails <= EXCHANGES ? RT_E_COMM : RT_OK);
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool asked(void *self) { return seconds() > *(const double *)self; }

/* Rank 1 does not answer; the others wait as long as they may, or until they are told to end. */
static int wait_for_one(rt_ranks *r, void *user)
{
    double *deadline = user, began = seconds(), soon = began + 0.2;
    rt_error err = {0};
    float x = 1;
    if (rt_ranks_rank(r) == 1) {
        usleep(3000000);
        return 0;
    }
    rt_ranks_patience(r, *deadline, *deadline > 100 ? asked : NULL, &soon);
    if (rt__ranks_sum(r, &(rt__sum){&x, 1, RT_F32}, 1, &err) != RT_E_COMM) return 1;
    const char *text = *deadline > 100 ? "rank 1 is waited for, and this rank was told to end" : "rank 1 has not answered for 0.5 s";
    if (rt_ranks_rank(r) == 0 && strcmp(err.text, text) != 0) return 2;
    return seconds() - began < 2.5 ? 0 : 3;
}

static void nobody_waits_for_ever(void **state)
{
    int codes[MOST_RANKS];
    double deadlines[] = {0.5, 1000};
    (void)state;
    for (int k = 0; k < 2; k++) {
        run_ranks(3, 0, 0, wait_for_one, &deadlines[k], codes);
        for (int i = 0; i < 3; i++) assert_int_equal(codes[i], 0);
    }
}

/* A stop that was asked for before an exchange does not end it: all ranks are asked, and finish the update. */
static int late_one(rt_ranks *r, void *user)
{
    double before = seconds() - 1;
    float x = 1;
    (void)user;
    if (rt_ranks_rank(r) == 1) usleep(1000000);
    rt_ranks_patience(r, 30, asked, &before);
    return rt__ranks_sum(r, &(rt__sum){&x, 1, RT_F32}, 1, NULL) == RT_OK && x == 2 ? 0 : 1;
}

static void a_stop_waits_for_the_update(void **state)
{
    int codes[MOST_RANKS];
    (void)state;
    run_ranks(2, 0, 0, late_one, NULL, codes);
    for (int i = 0; i < 2; i++) assert_int_equal(codes[i], 0);
}

/* ---- launchers */

static void a_launcher_is_known_by_its_environment(void **state)
{
    (void)state;
    rt_ranks *r;
    rt_error err = {0};
    const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    for (int i = 0; i < 3; i++) unsetenv(names[i]);
    assert_int_equal(rt_ranks_launched(), 1);
    assert_int_equal(rt_ranks_open(&r, &err), RT_OK);
    assert_null(r);
    for (int i = 0; i < 3; i++) {
        setenv(names[i], "4", 1);
        assert_int_equal(rt_ranks_launched(), 4);
        setenv(names[i], "1", 1);
        assert_int_equal(rt_ranks_launched(), 1);
        unsetenv(names[i]);
    }
    setenv("PMI_SIZE", "4", 1);
    setenv("RETORT_MPI_LIBRARY", "/no/such/library.so", 1);
    assert_int_equal(rt_ranks_open(&r, &err), RT_E_COMM);
    assert_non_null(strstr(err.text, "4 ranks were started"));
    assert_non_null(strstr(err.text, "/no/such/library.so"));
    unsetenv("PMI_SIZE");
    unsetenv("RETORT_MPI_LIBRARY");
}

static void a_rank_knows_its_number_on_its_machine(void **state)
{
    (void)state;
    const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"};
    for (int i = 0; i < 3; i++) unsetenv(names[i]);
    for (int i = 2; i >= 0; i--) { /* those before count more: mpirun within a job of Slurm */
        setenv("PMI_SIZE", "4", 1);
        assert_int_equal(rt_ranks_local(), i == 2 ? 0 : i + 2);
        setenv(names[i], i == 2 ? "3" : i == 1 ? "2" : "1", 1);
        assert_int_equal(rt_ranks_local(), i + 1);
        unsetenv("PMI_SIZE");
        assert_int_equal(rt_ranks_local(), 0); /* one process, whatever surrounds it */
    }
    for (int i = 0; i < 3; i++) unsetenv(names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_do_not_depend_on_the_number_of_ranks),
        cmocka_unit_test(large_sums_go_by_parts),
        cmocka_unit_test(all_get_what_each_has),
        cmocka_unit_test(failures_are_agreed_on),
        cmocka_unit_test(every_exchange_that_fails_ends_all_ranks),
        cmocka_unit_test(nobody_waits_for_ever),
        cmocka_unit_test(a_stop_waits_for_the_update),
        cmocka_unit_test(a_launcher_is_known_by_its_environment),
        cmocka_unit_test(a_rank_knows_its_number_on_its_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
