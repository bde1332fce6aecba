/* cores.c -- see cores.h. The scheduler keeps a process from processors in two ways: by its affinity, a set of processors, and by quotas of control
 * groups, so much time of any processors in each period. A container that was given half a core on a machine of 64 sees all 64 in its affinity.
 *
 *     /proc/self/cgroup      hierarchy:controllers:path    "0::PATH" is version 2; a line with the controller `cpu` is version 1
 *     /proc/self/mountinfo   which part of a hierarchy ("root") is visible in which folder ("mount point")
 *     PATH/cpu.max           version 2: "150000 100000" (microseconds of each period) or "max 100000"
 *     PATH/cpu.cfs_quota_us, PATH/cpu.cfs_period_us    version 1: -1 is no quota
 *
 * A quota holds for all groups below, so each folder from the process's own up to the mount point is asked and the least counts. */
#include "base/cores.h"

#include "base/files.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Files of the kernel, some of which a container may have put other files over. */
enum { LIMIT = 16 << 20 };

typedef struct quotas {
    const char *root;
    char *cgroup, *mounts; /* the two files; NULL: not readable */
    int cores;             /* the least so far */
} quotas;

/* The text of root/FOLDER/NAME, or NULL. */
static char *read_text(const char *root, const char *folder, const char *name)
{
    char *path, *data;
    size_t size;
    if (asprintf(&path, "%s%s/%s", root, folder, name) < 0) return NULL;
    rt_status status = rt__file_read(path, LIMIT, &data, &size, NULL);
    free(path);
    return status == RT_OK ? data : NULL;
}

/* A whole number above 0 at *s, behind it blanks or the end; *s moves there. 0: none, or one too large. */
static int64_t number(char **s)
{
    if (!isdigit((unsigned char)**s)) return 0;
    errno = 0;
    long long n = strtoll(*s, s, 10);
    if (errno || (**s && !isspace((unsigned char)**s))) return 0;
    while (isspace((unsigned char)**s)) (*s)++;
    return n;
}

static void take(quotas *q, int64_t quota, int64_t period)
{
    if (quota <= 0 || period <= 0) return;
    int64_t cores = quota / period + (quota % period != 0);
    if (cores < q->cores) q->cores = (int)cores;
}

static void ask_folder(quotas *q, const char *folder, bool v2)
{
    char *quota = read_text(q->root, folder, v2 ? "cpu.max" : "cpu.cfs_quota_us"),
         *period = v2 ? NULL : read_text(q->root, folder, "cpu.cfs_period_us"), *at = quota, *after = period;
    if (at) {
        int64_t time = number(&at);
        if (v2) after = at;
        take(q, time, after ? number(&after) : 0);
    }
    free(quota);
    free(period);
}

/* `path` seen from a mount whose root is `root`: its rest, "" or "/...". NULL: it lies elsewhere, or nobody can say where. */
static const char *below(const char *path, const char *root)
{
    size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(path, root, n) != 0 || (path[n] && path[n] != '/')) return NULL;
    const char *rest = path[n] && path[n + 1] ? path + n : "";
    for (const char *s = rest; (s = strstr(s, "/..")); s += 3)
        if (!s[3] || s[3] == '/') return NULL;
    return rest;
}

/* The length of "/../.." at the front of `path`: in a namespace of control groups paths are given as seen from its root, and "/.." is above it. */
static size_t climb(const char *path)
{
    size_t n = 0;
    while (strncmp(path + n, "/..", 3) == 0 && (!path[n + 3] || path[n + 3] == '/')) n += 3;
    return n;
}

/* Where this process is below a mount, "" where no more is known than that the mount's root is above it. NULL: not there. */
static const char *place(const char *path, const char *root)
{
    const char *rest = below(path, root);
    return rest || root[climb(root)] || climb(root) <= climb(path) ? rest : "";
}

/* From `rest` below the mount point up to the mount point itself. */
static void ask_folders(quotas *q, const char *mount_point, const char *rest, bool v2)
{
    char folder[PATH_MAX];
    size_t top = strlen(mount_point);
    if ((size_t)snprintf(folder, sizeof folder, "%s%s", mount_point, rest) >= sizeof folder) return;
    for (;;) {
        ask_folder(q, folder, v2);
        char *slash = strrchr(folder, '/');
        if (!slash || slash < folder + top) return;
        *slash = 0;
    }
}

static bool is_in_list(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *s = list; s; s = strchr(s, ',') ? strchr(s, ',') + 1 : NULL)
        if (strncmp(s, word, n) == 0 && (!s[n] || s[n] == ',')) return true;
    return false;
}

/* What /proc/self/cgroup says of one hierarchy is looked for in one mount. */
static void ask_mount(quotas *q, const char *root, const char *mount_point, bool v2)
{
    for (const char *line = q->cgroup, *end; *line; line = *end ? end + 1 : end) {
        end = strchrnul(line, '\n');
        char *copy = strndup(line, (size_t)(end - line)), *path = copy, *hierarchy = strsep(&path, ":"),
             *controllers = path ? strsep(&path, ":") : NULL;
        if (path && (v2 ? strcmp(hierarchy, "0") == 0 && !*controllers : is_in_list(controllers, "cpu"))) {
            const char *rest = place(path, root);
            if (rest) ask_folders(q, mount_point, rest, v2);
        }
        free(copy);
    }
}

/* The kernel writes blanks, tabs, newlines and backslashes in names as \ and three octal digits. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++, to++) {
        bool escaped = s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7';
        *to = escaped ? (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + s[3] - '0') : *s;
        if (escaped) s += 3;
    }
    *to = 0;
}

/* "36 35 98:0 ROOT MOUNT_POINT options [optional fields] - TYPE source SUPER_OPTIONS" */
static void ask_line(quotas *q, char *line)
{
    char *root = NULL, *mount_point = NULL, *field;
    for (int i = 0; (field = strsep(&line, " ")) && strcmp(field, "-") != 0; i++) {
        if (i == 3) root = field;
        if (i == 4) mount_point = field;
    }
    char *type = strsep(&line, " "), *source = strsep(&line, " ");
    if (!mount_point || !type || !source || !line) return;
    bool v2 = strcmp(type, "cgroup2") == 0;
    if (!v2 && !(strcmp(type, "cgroup") == 0 && is_in_list(line, "cpu"))) return;
    unescape(root);
    unescape(mount_point);
    ask_mount(q, root, mount_point, v2);
}

int rt__cores_within_quota(const char *root, int cores)
{
    quotas q = {root, read_text(root, "/proc/self", "cgroup"), read_text(root, "/proc/self", "mountinfo"), cores};
    if (q.cgroup && q.mounts)
        for (char *rest = q.mounts, *line; (line = strsep(&rest, "\n"));) ask_line(&q, line);
    free(q.cgroup);
    free(q.mounts);
    return q.cores;
}

/* The kernel refuses a set that is too small for all processors that the machine could have, so larger ones are tried. */
static int cores_of_affinity(void)
{
    for (int most = CPU_SETSIZE; most <= 1 << 20; most *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)most);
        size_t size = CPU_ALLOC_SIZE((size_t)most);
        if (!set) break;
        int failed = sched_getaffinity(0, size, set) != 0 ? errno : 0, n = failed ? 0 : CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (n > 0) return n;
        if (failed != EINVAL) break;
    }
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n < INT_MAX ? (int)n : 1;
}

int rt__cores(void) { return rt__cores_within_quota("", cores_of_affinity()); }

int rt__first_of_threads(const char *list)
{
    if (!list) return 0;
    while (isspace((unsigned char)*list)) list++;
    char *end;
    errno = 0;
    long n = strtol(list, &end, 10);
    while (isspace((unsigned char)*end)) end++;
    return end != list && !errno && (!*end || *end == ',') && n >= 1 && n <= 4096 ? (int)n : 0;
}

int rt_default_threads(void)
{
    int asked = rt__first_of_threads(getenv("OMP_NUM_THREADS"));
    return asked ? asked : rt__cores();
}
