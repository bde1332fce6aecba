/* outputs.c -- whether a path may be written. */
#include "cli.h"

#include "retort/train.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool holds(const char *folder, const char *name)
{
    char path[4200];
    struct stat s;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &s) == 0;
}

/* A folder that Retort wrote says so: samples leave retort.json, runs their configuration and their metrics, or the lock where they failed before any. */
static bool written_by_retort(const char *folder)
{
    return holds(folder, "retort.json") || (holds(folder, "config.yaml") && (holds(folder, "metrics.jsonl") || holds(folder, ".lock")));
}

bool cli_holds(const char *out, const char *in)
{
    static const char *const of_scene[] = {"", "/scene.json", "/scene.safetensors", "/scene/scene.json", "/scene/scene.safetensors"};
    char *to = realpath(out, NULL);
    bool found = false;
    for (size_t i = 0; to && i < sizeof of_scene / sizeof *of_scene && !found; i++) {
        char path[4300];
        snprintf(path, sizeof path, "%.4096s%s", in, of_scene[i]);
        char *from = realpath(path, NULL);
        size_t n = strlen(to);
        found = from && strncmp(from, to, n) == 0 && (from[n] == 0 || from[n] == '/');
        free(from);
    }
    free(to);
    return found;
}

rt_status cli_claim_out(cli_call *c, const char *path, rt_error *err)
{
    struct stat s;
    if (strlen(path) > 4000) return rt_error_set(err, RT_E_USAGE, "--out: the path is longer than 4000 bytes");
    if (stat(path, &s) == 0) {
        if (!cli_flag(c, "force"))
            return rt_error_set(err, RT_E_IO, "%s: exists already; choose another name, or replace it with --force", path);
        if (S_ISDIR(s.st_mode) && !written_by_retort(path))
            return rt_error_set(err, RT_E_IO, "%s: a folder that Retort did not write is never replaced; choose another name", path);
        if (S_ISDIR(s.st_mode)) TRY(rt_run_check_free(path, err));
        if (!S_ISDIR(s.st_mode) && !S_ISREG(s.st_mode)) return rt_error_set(err, RT_E_IO, "%s: is neither a file nor a folder", path);
    } else if (errno != ENOENT) {
        return rt_error_set(err, RT_E_IO, "%s: %s", path, strerror(errno));
    }
    /* the folder it goes into must be there and be writable: better said before an hour of work than after */
    char folder[4200];
    snprintf(folder, sizeof folder, "%s", path);
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') folder[--n] = 0;
    char *slash = strrchr(folder, '/');
    if (slash == folder)
        slash[1] = 0;
    else if (slash)
        *slash = 0;
    else
        strcpy(folder, ".");
    if (stat(folder, &s) != 0) return rt_error_set(err, RT_E_IO, "%s: the folder %s: %s; create it first", path, folder, strerror(errno));
    if (access(folder, W_OK) != 0) return rt_error_set(err, RT_E_IO, "%s: the folder %s: %s", path, folder, strerror(errno));
    return RT_OK;
}

/* A run's lock stays, and with it the folder: a process that still works there, or is about to, must not lock another file than the next one. */
static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *where)
{
    (void)s, (void)kind;
    if (where->level == 1 && !strcmp(path + where->base, ".lock")) return 0;
    return remove(path) == 0 || (where->level == 0 && (errno == ENOTEMPTY || errno == EEXIST)) ? 0 : -1;
}

rt_status cli_clear_out(const char *path, rt_error *err)
{
    struct stat s;
    if (stat(path, &s) != 0 || !S_ISDIR(s.st_mode)) return RT_OK;
    TRY(rt_run_check_free(path, err));
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0) return RT_OK;
    return rt_error_set(err, RT_E_IO, "%s: could not be replaced: %s", path, strerror(errno));
}

rt_status cli_write_file(const char *path, const char *text, rt_error *err)
{
    char temporary[4200];
    snprintf(temporary, sizeof temporary, "%s.part", path);
    FILE *f = fopen(temporary, "w");
    bool ok = f && fprintf(f, "%s\n", text) >= 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;
    int why = errno;
    if (f && fclose(f) != 0 && ok) {
        ok = false;
        why = errno;
    }
    if (ok && rename(temporary, path) == 0) return RT_OK;
    rt_error_set(err, RT_E_IO, "%s: %s", path, strerror(ok ? errno : why));
    unlink(temporary);
    return RT_E_IO;
}
