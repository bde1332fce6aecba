/* files.c -- see files.h. */
#include "base/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

bool rt__file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool rt__is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

rt_status rt__file_read(const char *path, size_t limit, char **data, size_t *size, rt_error *err)
{
    *data = NULL;
    *size = 0;
    FILE *f = fopen(path, "rbe");
    if (!f) RT_RAISE(RT_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    struct stat st = {0};
    if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) {
        fclose(f);
        RT_RAISE(RT_E_IO, "%s: is a folder; a file is needed", path);
    }
    if (S_ISREG(st.st_mode) && (size_t)st.st_size > limit) { /* before it is read, however little of it lies on the disk */
        fclose(f);
        RT_RAISE(RT_E_INVALID, "%s: %lld bytes; a file of this kind has at most %zu", path, (long long)st.st_size, limit);
    }
    size_t room = 1 << 16, used = 0;
    char *buf = malloc(room + 1);
    while (buf) {
        used += fread(buf + used, 1, room - used, f);
        if (used < room || used > limit) break;
        room *= 2;
        char *more = realloc(buf, room + 1);
        if (!more) free(buf);
        buf = more;
    }
    bool failed = ferror(f) != 0;
    int why = errno;
    fclose(f);
    if (!buf) RT_RAISE(RT_E_MEMORY, "%s: out of memory after %zu bytes", path, used);
    if (failed || used > limit) {
        free(buf);
        if (failed) RT_RAISE(RT_E_IO, "%s: cannot be read: %s", path, strerror(why));
        RT_RAISE(RT_E_INVALID, "%s: more than %zu bytes; a file of this kind has at most that", path, limit);
    }
    buf[used] = 0;
    *data = buf;
    *size = used;
    return RT_OK;
}

/* ---- writing */

static void folder_of(const char *path, char *folder, size_t size)
{
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(folder, size, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    else
        snprintf(folder, size, ".");
}

rt_status rt__file_begin(rt__file *f, const char *path, rt_error *err)
{
    struct stat st;
    int fd = -1;
    memset(f, 0, sizeof *f);
    if (strlen(path) >= sizeof f->path)
        RT_RAISE(RT_E_IO, "%.60s...: the path has %zu bytes; at most %zu", path, strlen(path), sizeof f->path - 1);
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) /* the rename would put a file in the place of a device or a pipe */
        RT_RAISE(RT_E_IO, "%s: exists and is not a file", path);
    snprintf(f->path, sizeof f->path, "%s", path);
    for (int i = 0; i < 100 && (i == 0 || errno == EEXIST) && fd < 0; i++) {
        snprintf(f->temporary, sizeof f->temporary, "%s.part-%d-%d", path, (int)getpid(), i);
        fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (fd < 0) RT_RAISE(RT_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    f->stream = fdopen(fd, "wb");
    if (!f->stream) {
        close(fd);
        unlink(f->temporary);
        RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    }
    return RT_OK;
}

void rt__file_abort(rt__file *f)
{
    if (!f->stream) return;
    fclose(f->stream);
    unlink(f->temporary);
    f->stream = NULL;
}

rt_status rt__file_commit(rt__file *f, rt_error *err)
{
    bool ok = !ferror(f->stream) && fflush(f->stream) == 0 && fsync(fileno(f->stream)) == 0;
    int why = errno;
    if (fclose(f->stream) != 0 && ok) {
        ok = false;
        why = errno;
    }
    f->stream = NULL;
    if (ok && rename(f->temporary, f->path) != 0) {
        ok = false;
        why = errno;
    }
    if (!ok) {
        unlink(f->temporary);
        RT_RAISE(RT_E_IO, "%s: cannot be written: %s", f->path, strerror(why));
    }
    char folder[1024];
    folder_of(f->path, folder, sizeof folder);
    return rt__sync_folder(folder, err);
}

rt_status rt__file_write(const char *path, const void *data, size_t size, rt_error *err)
{
    rt__file f;
    RT_TRY(rt__file_begin(&f, path, err));
    fwrite(data, 1, size, f.stream); /* a failure shows at the commit */
    return rt__file_commit(&f, err);
}

/* ---- folders */

rt_status rt__make_folders(const char *path, rt_error *err)
{
    char part[1024];
    size_t n = strlen(path);
    if (n >= sizeof part) RT_RAISE(RT_E_IO, "%.60s...: the path has %zu bytes; at most %zu", path, n, sizeof part - 1);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] && path[i] != '/') continue;
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        if (mkdir(part, 0777) == 0 || rt__is_folder(part)) continue;
        if (errno == EEXIST) RT_RAISE(RT_E_IO, "%s: exists and is not a folder", part);
        RT_RAISE(RT_E_IO, "%s: cannot be made: %s", part, strerror(errno));
    }
    return RT_OK;
}

rt_status rt__sync_folder(const char *path, rt_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) RT_RAISE(RT_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    int failed = fsync(fd) != 0 && errno != EINVAL && errno != EROFS;
    int why = errno;
    close(fd);
    if (failed) RT_RAISE(RT_E_IO, "%s: cannot be synced: %s", path, strerror(why));
    return RT_OK;
}

/* Where the file system cannot exchange two names: a kill between the renames leaves the former folder as `old`. */
static rt_status replace_folder(const char *temporary, const char *path, rt_error *err)
{
    char old[1100];
    if (snprintf(old, sizeof old, "%s.old", path) >= (int)sizeof old) RT_RAISE(RT_E_IO, "%.60s...: the path is too long", path);
    RT_TRY(rt__remove_tree(old, err));
    if (rename(path, old) != 0) RT_RAISE(RT_E_IO, "%s: cannot be replaced: %s", path, strerror(errno));
    if (rename(temporary, path) == 0) return rt__remove_tree(old, err);
    int why = errno;
    if (rename(old, path) != 0) RT_RAISE(RT_E_IO, "%s: cannot be replaced: %s; the former one is %s", path, strerror(why), old);
    RT_RAISE(RT_E_IO, "%s: cannot be replaced: %s", path, strerror(why));
}

rt_status rt__folder_commit(const char *temporary, const char *path, rt_error *err)
{
    char parent[1024];
    if (strlen(path) >= sizeof parent)
        RT_RAISE(RT_E_IO, "%.60s...: the path has %zu bytes; at most %zu", path, strlen(path), sizeof parent - 1);
    RT_TRY(rt__sync_folder(temporary, err));
    if (!rt__is_folder(path)) {
        if (rename(temporary, path) != 0) RT_RAISE(RT_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    } else if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE) == 0) {
        RT_TRY(rt__remove_tree(temporary, err));
    } else if (errno == EINVAL || errno == ENOSYS) {
        RT_TRY(replace_folder(temporary, path, err));
    } else {
        RT_RAISE(RT_E_IO, "%s: cannot be replaced: %s", path, strerror(errno));
    }
    folder_of(path, parent, sizeof parent);
    return rt__sync_folder(parent, err);
}

/* `name` in the open folder `at`. Descriptors, not paths, so that nobody can swap a folder for a link on the way. */
static rt_status remove_at(int at, const char *name, const char *root, rt_error *err)
{
    if (unlinkat(at, name, 0) == 0) return RT_OK;
    if (errno != EISDIR && errno != EPERM) RT_RAISE(RT_E_IO, "%s: '%s' cannot be removed: %s", root, name, strerror(errno));
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        rt_error_set(err, RT_E_IO, "%s: '%s' cannot be opened: %s", root, name, strerror(errno));
        if (fd >= 0) close(fd);
        return RT_E_IO;
    }
    rt_status s = RT_OK;
    for (struct dirent *e; s == RT_OK && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) s = remove_at(fd, e->d_name, root, err);
    closedir(d);
    if (s == RT_OK && unlinkat(at, name, AT_REMOVEDIR) != 0)
        s = rt_error_set(err, RT_E_IO, "%s: '%s' cannot be removed: %s", root, name, strerror(errno));
    return s;
}

rt_status rt__remove_tree(const char *path, rt_error *err)
{
    struct stat st;
    if (lstat(path, &st) != 0 && errno == ENOENT) return RT_OK;
    return remove_at(AT_FDCWD, path, path, err);
}

/* ---- locks */

rt_status rt__lock(const char *path, int *lock, rt_error *err)
{
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*lock < 0) RT_RAISE(RT_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0) return RT_OK;
    int why = errno;
    close(*lock);
    *lock = -1;
    if (why == EWOULDBLOCK) RT_RAISE(RT_E_BUSY, "%s: another process works on this run; wait for it or stop it", path);
    RT_RAISE(RT_E_IO, "%s: cannot be locked: %s", path, strerror(why));
}

void rt__unlock(int *lock)
{
    if (*lock >= 0) close(*lock);
    *lock = -1;
}

/* ---- digests */

static void hex_of(const unsigned char digest[32], char hex[65])
{
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void rt__sha256(const void *data, size_t size, char hex[65])
{
    SHA2_CTX c;
    unsigned char digest[32];
    SHA256Init(&c);
    SHA256Update(&c, data, size);
    SHA256Final(digest, &c);
    hex_of(digest, hex);
}

rt_status rt__sha256_file(const char *path, char hex[65], rt_error *err)
{
    FILE *f = fopen(path, "rbe");
    if (!f) RT_RAISE(RT_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    SHA2_CTX c;
    unsigned char digest[32], buf[1 << 14];
    SHA256Init(&c);
    for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;) SHA256Update(&c, buf, n);
    bool failed = ferror(f) != 0;
    fclose(f);
    if (failed) RT_RAISE(RT_E_IO, "%s: cannot be read", path);
    SHA256Final(digest, &c);
    hex_of(digest, hex);
    return RT_OK;
}
