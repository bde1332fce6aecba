/* files_test.c -- files and folders appear complete or not at all: under errors of the system and under SIGKILL. */
#include "data_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

static void holds(const char *path, const void *want, size_t size)
{
    char *data;
    size_t got;
    rt_error err = {0};
    if (rt__file_read(path, 1 << 24, &data, &got, &err) != RT_OK) fail_msg("%s", err.text);
    assert_int_equal(got, size);
    if (size) assert_memory_equal(data, want, size);
    assert_int_equal(data[got], 0);
    free(data);
}

/* Runs `body` in a process of its own, which may lower its rights; its status comes back. */
static int apart(int (*body)(void))
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) _exit(body());
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- reading */

static void reading(void **state)
{
    (void)state;
    char *data, big[200000];
    size_t size;
    rt_error err = {0};
    for (size_t i = 0; i < sizeof big; i++) big[i] = (char)(i * 7);
    holds(put("read/empty", "", 0), "", 0);
    holds(put("read/big", big, sizeof big), big, sizeof big);
    assert_int_equal(rt__file_read(at("read/big"), sizeof big, &data, &size, &err), RT_OK); /* the limit itself is allowed */
    free(data);
    assert_int_equal(rt__file_read(at("read/big"), sizeof big - 1, &data, &size, &err), RT_E_INVALID);
    assert_null(data);
    assert_non_null(strstr(err.text, "199999"));
    err = (rt_error){0};
    assert_int_equal(rt__file_read("/dev/zero", 100000, &data, &size, &err), RT_E_INVALID); /* endless */
    err = (rt_error){0};
    assert_int_equal(rt__file_read(at("read"), 100, &data, &size, &err), RT_E_IO);
    assert_non_null(strstr(err.text, "is a folder"));
    err = (rt_error){0};
    assert_int_equal(rt__file_read(at("read/none"), 100, &data, &size, &err), RT_E_IO);
    assert_non_null(strstr(err.text, at("read/none")));
    assert_non_null(strstr(err.text, strerror(ENOENT)));
    assert_true(rt__file_exists(at("read/big")) && !rt__file_exists(at("read/none")));
    assert_true(rt__is_folder(at("read")) && !rt__is_folder(at("read/big")));
}

/* ---- writing */

static void writing(void **state)
{
    (void)state;
    rt__file f;
    struct stat st;
    rt_error err = {0};
    mode_t mask = umask(027);
    const char *path = put("write/file", "one", 3);
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(rt__file_begin(&f, path, &err), RT_OK);
    fputs("two, longer", f.stream);
    fflush(f.stream);
    holds(path, "one", 3); /* until the commit */
    rt__file_abort(&f);
    rt__file_abort(&f); /* twice is no harm */
    holds(path, "one", 3);
    assert_int_equal(entries(at("write")), 1);
    assert_int_equal(rt__file_write(path, "three", 5, &err), RT_OK);
    holds(path, "three", 5);
    assert_int_equal(entries(at("write")), 1);

    assert_int_equal(rt__file_write(at("write/none/file"), "x", 1, &err), RT_E_IO);
    assert_non_null(strstr(err.text, strerror(ENOENT)));
    err = (rt_error){0};
    assert_int_equal(rt__file_write(at("write"), "x", 1, &err), RT_E_IO); /* a folder */
    err = (rt_error){0};
    assert_int_equal(mkfifo(at("write/pipe"), 0600), 0);
    assert_int_equal(rt__file_write(at("write/pipe"), "x", 1, &err), RT_E_IO); /* would be replaced by a file */
    assert_int_equal(stat(at("write/pipe"), &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    char longer[2000];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    err = (rt_error){0};
    assert_int_equal(rt__file_write(longer, "x", 1, &err), RT_E_IO);
}

static void nobody(void)
{
    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(99);
}

static int write_without_right(void)
{
    rt_error err = {0};
    nobody();
    if (rt__file_write(at("locked/file"), "new", 3, &err) != RT_E_IO || !strstr(err.text, strerror(EACCES))) return 1;
    err = (rt_error){0};
    if (rt__make_folders(at("locked/a/b"), &err) != RT_E_IO || !strstr(err.text, "locked/a")) return 2;
    err = (rt_error){0};
    if (rt__remove_tree(at("locked"), &err) != RT_E_IO || !strstr(err.text, at("locked"))) return 3;
    err = (rt_error){0};
    char *data;
    size_t size;
    if (rt__file_read(at("locked/secret"), 100, &data, &size, &err) != RT_E_IO || !strstr(err.text, strerror(EACCES))) return 4;
    return 0;
}

static void folders_without_permission(void **state)
{
    (void)state;
    const char *file = put("locked/file", "old", 3);
    put("locked/secret", "s", 1);
    assert_int_equal(chmod(at("locked/secret"), 0), 0);
    assert_int_equal(chmod(at("locked"), 0555), 0);
    assert_int_equal(chmod(data_folder, 0755), 0);
    int code = apart(write_without_right);
    assert_int_equal(chmod(at("locked"), 0755), 0);
    assert_int_equal(code, 0);
    holds(file, "old", 3);
    assert_int_equal(entries(at("locked")), 2);
}

/* A limit of the process: the system refuses the write as it does when a quota is reached. */
static int write_beyond_limit(void)
{
    static char big[1 << 20];
    struct rlimit limit = {100000, 100000};
    rt_error err = {0};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 9;
    if (rt__file_write(at("limit/file"), big, sizeof big, &err) != RT_E_IO || !strstr(err.text, strerror(EFBIG))) return 1;
    rt_metric row[400];
    char names[400][24];
    for (int i = 0; i < 400; i++) {
        snprintf(names[i], sizeof names[i], "column_%d", i);
        row[i] = (rt_metric){i ? names[i] : "update", 1.0 / 3};
    }
    err = (rt_error){0};
    for (int i = 0; i < 30; i++)
        if (rt_metrics_append(at("limit"), row, 400, &err) != RT_OK) return err.status == RT_E_IO ? 0 : 2;
    return 3;
}

static void whole_lines(const char *path)
{
    char *data;
    size_t size;
    assert_int_equal(rt__file_read(path, 1 << 24, &data, &size, NULL), RT_OK);
    assert_true(size > 0 && data[size - 1] == '\n');
    free(data);
}

static void a_refused_write_changes_nothing(void **state)
{
    (void)state;
    const char *file = put("limit/file", "old", 3);
    assert_int_equal(apart(write_beyond_limit), 0);
    holds(file, "old", 3);
    assert_int_equal(entries(at("limit")), 3); /* file, metrics.jsonl, metrics.csv */
    whole_lines(at("limit/metrics.jsonl"));
    whole_lines(at("limit/metrics.csv"));
}

static int write_to_full_disk(void)
{
    static char big[1 << 20];
    rt_error err = {0};
    if (unshare(CLONE_NEWNS | (getuid() ? CLONE_NEWUSER : 0)) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", at("disk"), "tmpfs", 0, "size=64k") != 0)
        return 77;
    if (rt__file_write(at("disk/file"), "old", 3, &err) != RT_OK) return 1;
    if (rt__file_write(at("disk/file"), big, sizeof big, &err) != RT_E_IO || !strstr(err.text, strerror(ENOSPC))) return 2;
    const rt_named_tensor x = {"x", RT_F32, 1, (int64_t[]){1 << 18}, big};
    err = (rt_error){0};
    if (rt_tensors_write(at("disk/file"), &x, 1, NULL, &err) != RT_E_IO || !strstr(err.text, strerror(ENOSPC))) return 3;
    char *data;
    size_t size;
    if (rt__file_read(at("disk/file"), 100, &data, &size, NULL) != RT_OK || size != 3 || memcmp(data, "old", 3) != 0) return 4;
    free(data);
    return entries(at("disk")) == 1 ? 0 : 5;
}

static void a_full_disk_changes_nothing(void **state)
{
    (void)state;
    rt__make_folders(at("disk"), NULL);
    int code = apart(write_to_full_disk);
    if (code == 77) {
        print_message("SKIP: no small file system may be mounted here\n");
        skip();
    }
    assert_int_equal(code, 0);
}

/* ---- folders */

static void folders(void **state)
{
    (void)state;
    rt_error err = {0};
    assert_int_equal(rt__make_folders(at("f/a/b/c"), &err), RT_OK);
    assert_int_equal(rt__make_folders(at("f/a//b/c/"), &err), RT_OK);
    assert_int_equal(rt__make_folders("/", &err), RT_OK);
    assert_int_equal(rt__make_folders(".", &err), RT_OK);
    put("f/a/b/file", "x", 1);
    assert_int_equal(rt__make_folders(at("f/a/b/file/d"), &err), RT_E_IO);
    assert_non_null(strstr(err.text, "f/a/b/file: exists and is not a folder"));

    /* links are removed, not followed */
    put("outside/precious", "keep", 4);
    assert_int_equal(symlink(at("outside"), at("f/a/link")), 0);
    assert_int_equal(symlink("nowhere", at("f/a/dangling")), 0);
    err = (rt_error){0};
    assert_int_equal(rt__remove_tree(at("f/a"), &err), RT_OK);
    assert_false(rt__file_exists(at("f/a")));
    holds(at("outside/precious"), "keep", 4);
    assert_int_equal(symlink(at("outside"), at("f/link")), 0);
    assert_int_equal(rt__remove_tree(at("f/link"), &err), RT_OK); /* also when it is the root */
    holds(at("outside/precious"), "keep", 4);
    assert_int_equal(rt__remove_tree(at("f/none"), &err), RT_OK);
    put("f/file", "x", 1);
    assert_int_equal(rt__remove_tree(at("f/file"), &err), RT_OK);
    assert_int_equal(entries(at("f")), 0);
}

static void folders_are_exchanged(void **state)
{
    (void)state;
    rt_error err = {0};
    put("g/new/a", "1", 1);
    assert_int_equal(rt__folder_commit(at("g/new"), at("g/out"), &err), RT_OK);
    holds(at("g/out/a"), "1", 1);
    put("g/new/b", "2", 1);
    assert_int_equal(rt__folder_commit(at("g/new"), at("g/out"), &err), RT_OK);
    holds(at("g/out/b"), "2", 1);
    assert_false(rt__file_exists(at("g/out/a")));
    assert_int_equal(entries(at("g")), 1);
    put("g/file", "x", 1);
    put("g/new/c", "3", 1);
    assert_int_equal(rt__folder_commit(at("g/new"), at("g/file"), &err), RT_E_IO);
    holds(at("g/file"), "x", 1);
    err = (rt_error){0};
    assert_int_equal(rt__folder_commit(at("g/none"), at("g/out"), &err), RT_E_IO);
    holds(at("g/out/b"), "2", 1);
}

/* ---- SIGKILL */

enum { KILLS = 25, VERSION = 300000 };

static void write_versions(void)
{
    static char data[VERSION];
    for (int version = 'a';; version = version == 'z' ? 'a' : version + 1) {
        memset(data, version, sizeof data);
        if (rt__file_write(at("kill/file"), data, sizeof data, NULL) != RT_OK) _exit(1);
        (void)rt__remove_tree(at("kill/next"), NULL);
        (void)rt__make_folders(at("kill/next"), NULL);
        for (int i = 0; i < 3; i++) {
            char name[32];
            snprintf(name, sizeof name, "kill/next/%d", i);
            if (rt__file_write(at(name), data, 1000, NULL) != RT_OK) _exit(2);
        }
        if (rt__folder_commit(at("kill/next"), at("kill/folder"), NULL) != RT_OK) _exit(3);
    }
}

static void killed_at_any_time_old_or_new(void **state)
{
    (void)state;
    uint32_t random = 12345;
    int versions = 0, before = 0;
    rt__make_folders(at("kill"), NULL);
    put("kill/file", "", 0);
    put("kill/folder/0", "", 0);
    for (int k = 0; k < KILLS || (versions < 3 && k < 20 * KILLS); k++) { /* on a busy machine a writer may need more time */
        int status;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) write_versions();
        random = random * 1664525 + 1013904223;
        nanosleep(&(struct timespec){.tv_nsec = 5000000 + (long)(random % 60000) * 1000}, NULL);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status)); /* and did not leave with an error */
        char *data, *part;
        size_t size, n;
        assert_int_equal(rt__file_read(at("kill/file"), VERSION, &data, &size, NULL), RT_OK);
        if (size) {
            assert_int_equal(size, VERSION);
            for (size_t i = 1; i < size; i++)
                if (data[i] != data[0]) fail_msg("a mixture of %c and %c", data[0], data[i]);
            versions += data[0] != before;
            before = data[0];
        }
        free(data);
        assert_int_equal(rt__file_read(at("kill/folder/0"), VERSION, &data, &size, NULL), RT_OK); /* the folder is never absent */
        for (int i = 1; i < 3 && size; i++) {
            char name[32];
            snprintf(name, sizeof name, "kill/folder/%d", i);
            assert_int_equal(rt__file_read(at(name), VERSION, &part, &n, NULL), RT_OK);
            assert_int_equal(n, size);
            assert_memory_equal(part, data, n);
            free(part);
        }
        free(data);
    }
    assert_true(versions >= 3); /* the writer did get somewhere */
}

/* ---- locks and digests */

static int try_lock(void)
{
    int lock;
    rt_error err = {0};
    rt_status status = rt__lock(at("lock"), &lock, &err);
    if (status == RT_E_BUSY && (lock != -1 || !strstr(err.text, at("lock")))) return 99;
    return (int)status; /* a lock that is held ends with the process */
}

static void one_process_holds_a_lock(void **state)
{
    (void)state;
    int lock;
    assert_int_equal(apart(try_lock), RT_OK);
    assert_int_equal(rt__lock(at("lock"), &lock, NULL), RT_OK);
    assert_int_equal(apart(try_lock), RT_E_BUSY);
    rt__unlock(&lock);
    rt__unlock(&lock);
    assert_int_equal(apart(try_lock), RT_OK);
    assert_int_equal(rt__lock(at("none/lock"), &lock, NULL), RT_E_IO);
}

static void digests(void **state)
{
    (void)state;
    /* FIPS 180-4 and its examples */
    static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                      none[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                      million[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    static char a[1000000];
    char hex[65];
    rt_error err = {0};
    memset(a, 'a', sizeof a);
    rt__sha256("abc", 3, hex);
    assert_string_equal(hex, abc);
    rt__sha256("", 0, hex);
    assert_string_equal(hex, none);
    assert_int_equal(rt__sha256_file(put("digest", a, sizeof a), hex, &err), RT_OK);
    assert_string_equal(hex, million);
    assert_int_equal(rt__sha256_file(put("digest", "", 0), hex, &err), RT_OK);
    assert_string_equal(hex, none);
    assert_int_equal(rt__sha256_file(at("none"), hex, &err), RT_E_IO);
    err = (rt_error){0};
    assert_int_equal(rt__sha256_file(data_folder, hex, &err), RT_E_IO);
}

static void errors_are_one_harmless_line(void **state)
{
    (void)state;
    rt_error err = {0};
    assert_int_equal(rt_error_set(&err, RT_E_INVALID, "tensor '%s'", "a\nb\033[2J\x7f\xc3\xa9"), RT_E_INVALID);
    assert_string_equal(err.text, "tensor 'a?b?[2J?\xc3\xa9'");
    assert_int_equal(rt_error_set(&err, RT_E_IO, "later"), RT_E_IO);
    assert_int_equal(err.status, RT_E_INVALID); /* the first cause stays */
    rt_error_prefix(&err, "%s", "f\tile");
    assert_string_equal(err.text, "f?ile: tensor 'a?b?[2J?\xc3\xa9'");
    assert_int_equal(rt_error_set(NULL, RT_E_IO, "nobody listens"), RT_E_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading),
        cmocka_unit_test(writing),
        cmocka_unit_test(folders_without_permission),
        cmocka_unit_test(a_refused_write_changes_nothing),
        cmocka_unit_test(a_full_disk_changes_nothing),
        cmocka_unit_test(folders),
        cmocka_unit_test(folders_are_exchanged),
        cmocka_unit_test(killed_at_any_time_old_or_new),
        cmocka_unit_test(one_process_holds_a_lock),
        cmocka_unit_test(digests),
        cmocka_unit_test(errors_are_one_harmless_line),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
