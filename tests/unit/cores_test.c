/* cores_test.c -- the processors that a process may use, on trees of /proc and /sys that are made here. */
#include "base/cores.h"
#include "data_check.h"

#include <sched.h>

#define V2   "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1   "33 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct\n"
#define SET  "34 32 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
#define ROOT "22 1 254:1 / / rw,relatime - ext4 /dev/root rw\n"

enum { ALL = 64 }; /* the processors of the affinity */

static char tree[64];

/* A new tree; each test has its own. */
static void begin(const char *cgroup, const char *mountinfo)
{
    static int n;
    char name[128];
    snprintf(tree, sizeof tree, "tree-%d", n++);
    snprintf(name, sizeof name, "%s/proc/self/cgroup", tree);
    if (cgroup) put(name, cgroup, strlen(cgroup));
    snprintf(name, sizeof name, "%s/proc/self/mountinfo", tree);
    if (mountinfo) put(name, mountinfo, strlen(mountinfo));
}

static void file(const char *path, const char *text)
{
    char name[512];
    snprintf(name, sizeof name, "%s/%s", tree, path);
    put(name, text, strlen(text));
}

static int cores(void) { return rt__cores_within_quota(at(tree), ALL); }

/* A tree of version 2 with one group. */
static int of_max(const char *text)
{
    begin("0::/a\n", ROOT V2);
    file("sys/fs/cgroup/a/cpu.max", text);
    return cores();
}

static void version_2(void **state)
{
    (void)state;
    assert_int_equal(of_max("200000 100000\n"), 2);
    assert_int_equal(of_max("150000 100000\n"), 2);
    assert_int_equal(of_max("100001 100000\n"), 2);
    assert_int_equal(of_max("1000 100000\n"), 1);
    assert_int_equal(of_max("300000 50000\n"), 6);
    assert_int_equal(of_max("max 100000\n"), ALL);
    assert_int_equal(of_max("6500000 100000\n"), ALL); /* more than there are */
    assert_int_equal(of_max("6400000 100000\n"), ALL);
    assert_int_equal(of_max("6300000 100000\n"), 63);
    begin("0::/\n", ROOT V2); /* a container's own namespace */
    file("sys/fs/cgroup/cpu.max", "300000 100000\n");
    assert_int_equal(cores(), 3);
}

static void nested(void **state)
{
    (void)state;
    begin("0::/pod/container/job\n", ROOT V2);
    file("sys/fs/cgroup/cpu.max", "3000000 100000\n");
    file("sys/fs/cgroup/pod/cpu.max", "800000 100000\n");
    file("sys/fs/cgroup/pod/container/cpu.max", "250000 100000\n"); /* the tightest is in the middle */
    file("sys/fs/cgroup/pod/container/job/cpu.max", "max 100000\n");
    file("sys/fs/cgroup/pod/container/job/below/cpu.max", "100000 100000\n");
    file("sys/fs/cgroup/pod/other/cpu.max", "100000 100000\n");
    file("sys/fs/cpu.max", "100000 100000\n");
    assert_int_equal(cores(), 3);
    file("sys/fs/cgroup/cpu.max", "200000 100000\n"); /* the mount point itself counts, what is above it does not */
    assert_int_equal(cores(), 2);

    begin("0::/pod/gone/job\n", ROOT V2); /* folders that are not there any more are passed over */
    file("sys/fs/cgroup/pod/cpu.max", "500000 100000\n");
    assert_int_equal(cores(), 5);
}

static void version_1(void **state)
{
    (void)state;
    begin("9:cpuset:/x\n4:cpu,cpuacct:/docker/a:b\n1:name=systemd:/docker/c\n", ROOT SET V1);
    file("sys/fs/cgroup/cpu,cpuacct/docker/a:b/cpu.cfs_quota_us", "150000\n");
    file("sys/fs/cgroup/cpu,cpuacct/docker/a:b/cpu.cfs_period_us", "100000\n");
    file("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "100000\n"); /* the group of another controller */
    file("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    file("sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us", "100000\n");
    file("sys/fs/cgroup/cpuset/x/cpu.cfs_period_us", "100000\n");
    file("sys/fs/cgroup/cpu,cpuacct/docker/a:b/cpu.max", "100000 100000\n"); /* a file of version 2 */
    assert_int_equal(cores(), 2);
    file("sys/fs/cgroup/cpu,cpuacct/docker/a:b/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(cores(), ALL);
    file("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "700000\n");
    assert_int_equal(cores(), ALL); /* without a period it says nothing */
    file("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "50000\n");
    assert_int_equal(cores(), 14);

    /* the container sees a part of the hierarchy, its path is the host's */
    begin("4:cpu:/docker/abc/job\n", ROOT "33 32 0:30 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
    file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
    file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cores(), 4);
    file("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "300000\n");
    file("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cores(), 3);
    begin("4:cpu:/docker/abcd\n", ROOT "33 32 0:30 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
    file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n"); /* another group whose name begins alike */
    file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cores(), ALL);
}

static void hybrid(void **state)
{
    (void)state;
    begin("4:cpu,cpuacct:/one\n0::/two\n", ROOT V1 "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    file("sys/fs/cgroup/cpu,cpuacct/one/cpu.cfs_quota_us", "500000\n");
    file("sys/fs/cgroup/cpu,cpuacct/one/cpu.cfs_period_us", "100000\n");
    file("sys/fs/cgroup/unified/one/cpu.max", "100000 100000\n"); /* the path of the other hierarchy */
    assert_int_equal(cores(), 5);
    file("sys/fs/cgroup/unified/two/cpu.max", "300000 100000\n");
    assert_int_equal(cores(), 3);
}

static void namespaced(void **state)
{
    (void)state;
    /* the mount's root is two groups above the namespace's: which ones, nobody says, but it holds this process */
    begin("0::/\n", ROOT "30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    file("sys/fs/cgroup/cpu.max", "700000 100000\n");
    assert_int_equal(cores(), 7);
    begin("0::/../job\n", ROOT "30 23 0:26 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    file("sys/fs/cgroup/cpu.max", "700000 100000\n");
    file("sys/fs/cgroup/job/cpu.max", "200000 100000\n");
    assert_int_equal(cores(), 2);
    begin("0::/../job\n", ROOT "30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    file("sys/fs/cgroup/cpu.max", "700000 100000\n");
    assert_int_equal(cores(), 7);
    /* a process outside of its namespace's root is not below the mount, and what lies beside the mount is not asked */
    begin("0::/../job\n", ROOT V2);
    file("sys/fs/cgroup/cpu.max", "300000 100000\n");
    file("sys/fs/job/cpu.max", "200000 100000\n");
    assert_int_equal(cores(), ALL);
    begin("0::/../../job\n", ROOT "30 23 0:26 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"); /* further up than the mount */
    file("sys/fs/cgroup/cpu.max", "300000 100000\n");
    assert_int_equal(cores(), ALL);
    begin("0::/\n", ROOT "30 23 0:26 /../job /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"); /* somebody else's group */
    file("sys/fs/cgroup/cpu.max", "300000 100000\n");
    assert_int_equal(cores(), ALL);
    begin("0::/..a\n", ROOT V2); /* a name, no way up */
    file("sys/fs/cgroup/..a/cpu.max", "300000 100000\n");
    assert_int_equal(cores(), 3);
}

static void odd_names(void **state)
{
    (void)state;
    begin("0::/a b\\c\n", ROOT "30 23 0:26 / /sys/fs/c\\040group\\134x rw - cgroup2 cgroup2 rw\n");
    file("sys/fs/c group\\x/a b\\c/cpu.max", "300000 100000\n");
    assert_int_equal(cores(), 3);
    begin("0::/a b/c\n", ROOT "30 23 0:26 /a\\040b /m rw - cgroup2 cgroup2 rw\n");
    file("m/c/cpu.max", "300000 100000\n");
    assert_int_equal(cores(), 3);
    begin("0::/c\n", ROOT "30 23 0:26 / / rw - cgroup2 cgroup2 rw\n"); /* mounted on / */
    file("c/cpu.max", "300000 100000\n");
    assert_int_equal(cores(), 3);
    begin("0::/c", ROOT "30 23 0:26 / /m rw - cgroup2 cgroup2 rw"); /* no newline at the end */
    file("m/c/cpu.max", "300000 100000");
    assert_int_equal(cores(), 3);
}

static void nothing_known(void **state)
{
    (void)state;
    begin(NULL, NULL);
    assert_int_equal(cores(), ALL);
    begin("0::/a\n", NULL);
    file("sys/fs/cgroup/a/cpu.max", "100000 100000\n");
    assert_int_equal(cores(), ALL);
    begin(NULL, ROOT V2);
    file("sys/fs/cgroup/a/cpu.max", "100000 100000\n");
    file("sys/fs/cgroup/cpu.max", "100000 100000\n");
    assert_int_equal(cores(), ALL);
    begin("0::/a\n", ROOT V2);
    assert_int_equal(cores(), ALL);
    begin("", "");
    assert_int_equal(cores(), ALL);
}

static void garbage(void **state)
{
    (void)state;
    static const char *const quotas[] = {"",
                                         "\n",
                                         "100000",
                                         "100000\n",
                                         "100000 0\n",
                                         "0 100000\n",
                                         "-5 10\n",
                                         "100000 max\n",
                                         "1e5 100000\n",
                                         "100000x 5\n",
                                         "100000 100000x\n",
                                         "nan nan\n",
                                         "100000 -100000\n",
                                         "0x10 1\n",
                                         "\xff\xfe 1\n",
                                         "+1 1\n",
                                         "100000,100000\n",
                                         "max\n",
                                         "99999999999999999999 100000\n"};
    for (size_t i = 0; i < RT_COUNT(quotas); i++)
        if (of_max(quotas[i]) != ALL) fail_msg("cpu.max of \"%s\" limits", quotas[i]);
    assert_int_equal(of_max("9223372036854775807 1\n"), ALL);
    assert_int_equal(of_max("1 9223372036854775807\n"), 1);

    static const char *const groups[] = {"\n",    ":\n",    "::\n",    ":::\n",   "0\n",      "0:\n",
                                         "0::\n", "0::a\n", "1::/a\n", "0:cpu\n", "00::/a\n", "0:x:/a\n"};
    for (size_t i = 0; i < RT_COUNT(groups); i++) {
        begin(groups[i], ROOT V2);
        file("sys/fs/cgroup/a/cpu.max", "100000 100000\n");
        if (cores() != ALL) fail_msg("the group \"%s\" limits", groups[i]);
    }
    static const char *const mounts[] = {" \n",
                                         "-\n",
                                         "- cgroup2\n",
                                         "30 23 0:26 - cgroup2 cgroup2 rw\n",
                                         "30 23 0:26 / - cgroup2 cgroup2 rw\n",
                                         "30 23 0:26 / /m rw cgroup2 cgroup2 rw\n",
                                         "30 23 0:26 / /m rw - cgroup2\n",
                                         "30 23 0:26 / /m rw -",
                                         "30 23 0:26 / /m rw - cgroup3 cgroup2 rw\n",
                                         "30 23 0:26 / /m rw - tmpfs cgroup2 rw,cpu\n",
                                         "30 23 0:26 \\ /m\\0 rw - cgroup2 x rw\n",
                                         "30 23 0:26 /\\057 /m\\777 rw - cgroup2 x rw\n"};
    for (size_t i = 0; i < RT_COUNT(mounts); i++) {
        begin("0::/a\n3:cpu:/a\n", mounts[i]);
        file("m/a/cpu.max", "100000 100000\n");
        file("m/a/cpu.cfs_quota_us", "100000\n");
        file("m/a/cpu.cfs_period_us", "100000\n");
        if (cores() != ALL) fail_msg("the mount \"%s\" limits", mounts[i]);
    }
    /* a path that is longer than any file's, and bytes at random */
    size_t size = 1 << 16;
    char *text = malloc(size + 1);
    for (size_t i = 0; i < size; i++) text[i] = "/a"[i % 2];
    memcpy(text, "0::", 3);
    text[size] = 0;
    begin(text, ROOT V2);
    assert_int_equal(cores(), ALL);
    uint32_t seed = 1;
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < 2000; i++) text[i] = "0:/.. -\n\\cgroup2,pumax 5"[((seed = seed * 1664525 + 1013904223) >> 8) % 24];
        text[2000] = 0;
        begin(text, text + 500);
        assert_in_range(cores(), 1, ALL);
    }
    free(text);
}

/* This process: its affinity, and never more. */
static void of_this_process(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_in_range(rt__cores(), 1, CPU_COUNT(&all));
    size_t first = 0;
    while (!CPU_ISSET(first, &all)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    int alone = rt__cores();
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(alone, 1);
    assert_int_equal(rt__cores_within_quota("", 1), 1);
}

static void environment(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        int first;
    } of[] = {{"3", 3},    {" 3 ", 3}, {"5,2", 5}, {"5 , 2", 5}, {"4096", 4096},
              {"4097", 0}, {"0", 0},   {"-2", 0},  {"", 0},      {" ", 0},
              {"x", 0},    {"3x", 0},  {"3 2", 0}, {",2", 0},    {"99999999999999999999", 0}};
    for (size_t i = 0; i < RT_COUNT(of); i++) assert_int_equal(rt__first_of_threads(of[i].list), of[i].first);
    assert_int_equal(rt__first_of_threads(NULL), 0);
    setenv("OMP_NUM_THREADS", "7,2", 1);
    assert_int_equal(rt_default_threads(), 7);
    setenv("OMP_NUM_THREADS", "many", 1);
    assert_int_equal(rt_default_threads(), rt__cores());
    unsetenv("OMP_NUM_THREADS");
    assert_int_equal(rt_default_threads(), rt__cores());
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(version_2),     cmocka_unit_test(nested),     cmocka_unit_test(version_1),
                                       cmocka_unit_test(hybrid),        cmocka_unit_test(namespaced), cmocka_unit_test(odd_names),
                                       cmocka_unit_test(nothing_known), cmocka_unit_test(garbage),    cmocka_unit_test(of_this_process),
                                       cmocka_unit_test(environment)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
