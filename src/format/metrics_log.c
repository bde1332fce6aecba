/* metrics_log.c -- the figures of a run, one row per line, as JSON objects and as a table.
 *
 * Lines are appended, each by one write: who follows the files sees whole lines, and what was written stays. A row that could not be written whole
 * is taken back. What a crash left is cut off when the run goes on. */
#include "base/files.h"
#include "retort/format.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROW_LIMIT = 1 << 14 };

typedef struct row_text {
    char text[ROW_LIMIT];
    size_t used; /* ROW_LIMIT or more: the row is too long */
} row_text;

__attribute__((format(printf, 2, 3))) static void add(row_text *r, const char *format, ...)
{
    if (r->used >= ROW_LIMIT) return;
    va_list ap;
    va_start(ap, format);
    r->used += (size_t)vsnprintf(r->text + r->used, ROW_LIMIT - r->used, format, ap);
    va_end(ap);
}

/* The shortest text that reads back as the same number, or `none` for what JSON does not have. */
static void add_number(row_text *r, double v, const char *none)
{
    char text[32];
    bool whole = v == floor(v) && fabs(v) < 1e15;
    if (whole) snprintf(text, sizeof text, "%.0f", v);
    for (int digits = 6; digits <= 17 && !whole; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    add(r, "%s", isfinite(v) ? text : none);
}

static rt_status open_log(const char *folder, const char *name, int flags, char path[1024], int *fd, rt_error *err)
{
    if (snprintf(path, 1024, "%s/%s", folder, name) >= 1024) RT_RAISE(RT_E_IO, "%.60s...: the path is longer than 1023 bytes", folder);
    *fd = open(path, flags | O_CLOEXEC, 0666);
    if (*fd >= 0 || (errno == ENOENT && !(flags & O_CREAT))) return RT_OK;
    RT_RAISE(RT_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
}

static rt_status append(int fd, const char *path, off_t size, const row_text *r, rt_error *err)
{
    if (r->used >= ROW_LIMIT) RT_RAISE(RT_E_INTERNAL, "%s: a row of more than %d bytes", path, ROW_LIMIT);
    ssize_t n;
    do n = write(fd, r->text, r->used);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)r->used) return RT_OK;
    int why = n < 0 ? errno : ENOSPC;
    if (n > 0 && ftruncate(fd, size) != 0) why = errno;
    RT_RAISE(RT_E_IO, "%s: cannot be written: %s", path, strerror(why));
}

static rt_status append_json(const char *folder, const rt_metric *row, int n, row_text *r, rt_error *err)
{
    char path[1024];
    int fd = -1;
    r->used = 0;
    for (int i = 0; i < n; i++) {
        add(r, "%s\"%s\": ", i ? ", " : "{", row[i].name);
        add_number(r, row[i].value, "null");
    }
    add(r, "}\n");
    RT_TRY(open_log(folder, "metrics.jsonl", O_RDWR | O_APPEND | O_CREAT, path, &fd, err));
    rt_status status = append(fd, path, lseek(fd, 0, SEEK_END), r, err);
    close(fd);
    return status;
}

/* The columns are those of the file's first line; a value without a column is left out, a column without a value empty. */
static rt_status append_csv(const char *folder, const rt_metric *row, int n, row_text *r, rt_error *err)
{
    char path[1024], head[ROW_LIMIT];
    int fd = -1;
    RT_TRY(open_log(folder, "metrics.csv", O_RDWR | O_APPEND | O_CREAT, path, &fd, err));
    off_t size = lseek(fd, 0, SEEK_END);
    ssize_t got = pread(fd, head, sizeof head - 1, 0);
    head[got > 0 ? got : 0] = 0;
    r->used = 0;
    if (!*head) {
        for (int i = 0; i < n; i++) add(r, "%s%s", i ? "," : "", row[i].name);
        add(r, "\n");
        memcpy(head, r->text, r->used < ROW_LIMIT ? r->used + 1 : 1);
    }
    head[strcspn(head, "\r\n")] = 0;
    for (char *column = head, *end = head; column; column = end) {
        end = strchr(column, ',');
        if (end) *end++ = 0;
        for (int i = 0; i < n; i++)
            if (!strcmp(row[i].name, column)) add_number(r, row[i].value, "");
        add(r, "%s", end ? "," : "\n");
    }
    rt_status status = append(fd, path, size, r, err);
    close(fd);
    return status;
}

rt_status rt_metrics_append(const char *folder, const rt_metric *row, int n, rt_error *err)
{
    row_text *r = malloc(sizeof *r);
    if (!r) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a row of metrics", folder);
    rt_status status = append_json(folder, row, n, r, err);
    if (status == RT_OK) status = append_csv(folder, row, n, r, err);
    free(r);
    return status;
}

/* ---- going on */

static bool json_update(const char *text, size_t size, double *update)
{
    json_t *row = json_loadb(text, size, 0, NULL);
    const json_t *v = json_object_get(row, "update");
    *update = json_number_value(v);
    bool found = json_is_number(v);
    json_decref(row);
    return found;
}

static bool csv_update(const char *text, size_t size, double *update)
{
    (void)size;
    char *end;
    *update = strtod(text, &end);
    return end != text && (*end == ',' || *end == '\n');
}

static rt_status truncate_log(const char *folder, const char *name, bool table, int64_t last, rt_error *err)
{
    char path[1024], *text = NULL;
    int fd = -1;
    RT_TRY(open_log(folder, name, O_RDWR, path, &fd, err));
    if (fd < 0) return RT_OK;
    FILE *f = fdopen(fd, "r+");
    if (!f) {
        close(fd);
        RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    }
    size_t room = 0;
    off_t keep = 0;
    for (bool head = table;; head = false) {
        ssize_t n = getline(&text, &room, f);
        double update = 0;
        if (n <= 0 || text[n - 1] != '\n') break;
        if (!head && !(table ? csv_update(text, (size_t)n, &update) : json_update(text, (size_t)n, &update))) break;
        if (update > (double)last) break;
        keep += n;
    }
    rt__free_libc(text);
    bool failed = ferror(f) || ftruncate(fd, keep) != 0 || fsync(fd) != 0;
    int why = errno;
    fclose(f);
    if (failed) RT_RAISE(RT_E_IO, "%s: cannot be cut: %s", path, strerror(why));
    return RT_OK;
}

rt_status rt_metrics_truncate(const char *folder, int64_t last, rt_error *err)
{
    RT_TRY(truncate_log(folder, "metrics.jsonl", false, last, err));
    return truncate_log(folder, "metrics.csv", true, last, err);
}
