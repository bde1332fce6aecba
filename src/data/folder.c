/* folder.c -- a folder of pictures, at any depth; labels from dataset.json or from the folders. */
#include "data/reader.h"

#include "base/files.h"
#include "format/picture.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 16, PATH = 4096 };
#define PICTURE_BYTES ((size_t)1 << 30)

typedef struct listing {
    char **names; /* of all files, relative to the folder */
    size_t n, room;
} listing;

static const char *const parts[] = {"train", "test", "val", "valid", "validation"};

static rt_status keep(listing *l, const char *name, rt_error *err)
{
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 256;
        char **more = realloc(l->names, room * sizeof *more);
        if (!more) RT_RAISE(RT_E_MEMORY, "out of memory for the names of pictures");
        l->names = more;
        l->room = room;
    }
    l->names[l->n] = strdup(name);
    if (!l->names[l->n]) RT_RAISE(RT_E_MEMORY, "out of memory for the names of pictures");
    l->n++;
    return RT_OK;
}

/* Adds the files of folder/prefix; prefix is "" or ends in '/'. */
static rt_status walk(listing *l, const char *folder, const char *prefix, int depth, rt_error *err)
{
    char path[PATH + 1400];
    if (depth > DEPTH) RT_RAISE(RT_E_INVALID, "%s/%s: folders are more than %d deep; give one further down", folder, prefix, DEPTH);
    snprintf(path, sizeof path, "%s/%s", folder, prefix);
    DIR *d = opendir(path);
    if (!d) RT_RAISE(RT_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    rt_status status = RT_OK;
    for (struct dirent *e; status == RT_OK && (e = readdir(d));) {
        char name[PATH];
        if (e->d_name[0] == '.') continue;
        int n = snprintf(name, sizeof name - 1, "%s%s", prefix, e->d_name);
        if (n < 0 || (size_t)n >= sizeof name - 1) {
            status = rt_error_set(err, RT_E_INVALID, "%s: names below it have more than %d bytes", folder, PATH - 2);
            break;
        }
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (rt__is_folder(path)) {
            memcpy(name + n, "/", 2);
            status = walk(l, folder, name, depth + 1, err);
        } else if (strcmp(name, "dataset.json") && strcmp(name, "retort.json")) {
            status = keep(l, name, err);
        }
    }
    closedir(d);
    return status;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Pictures first, in order; then those that are left out. How many files are worth a try. */
static size_t sort_out(listing *l)
{
    size_t n = 0;
    if (l->n) qsort(l->names, l->n, sizeof *l->names, by_text);
    char **rest = l->n ? malloc(l->n * sizeof *rest) : NULL;
    size_t k = 0;
    for (size_t i = 0; rest && i < l->n; i++) {
        if (rt__picture_name(l->names[i]) == RT__PICTURE)
            l->names[n++] = l->names[i];
        else
            rest[k++] = l->names[i];
    }
    if (k) memcpy(l->names + n, rest, k * sizeof *rest);
    free(rest);
    return n;
}

static void move_behind(listing *l, size_t i, size_t *n)
{
    char *name = l->names[i];
    memmove(l->names + i, l->names + i + 1, (*n - 1 - i) * sizeof *l->names);
    l->names[--*n] = name;
}

static rt_status read_pictures(rt_dataset *ds, const char *folder, listing *l, rt_error *err)
{
    char path[PATH + 1400], *data;
    size_t size, n = sort_out(l), left = 0;
    rt__gallery g;
    RT_TRY(rt__gallery_begin(&g, ds, (int64_t)n, err));
    for (size_t i = n; i < l->n; i++)
        if (rt__gallery_leave(&g, l->names[i])) {
            char *name = l->names[i];
            l->names[i] = l->names[n + left];
            l->names[n + left++] = name;
        }
    for (size_t i = 0; i < n;) {
        snprintf(path, sizeof path, "%s/%s", folder, l->names[i]);
        RT_TRY(rt__file_read(path, PICTURE_BYTES, &data, &size, err));
        rt_status status = rt__gallery_add(&g, path, data, size, err);
        free(data);
        RT_TRY(status);
        if (ds->info.count > (int64_t)i) {
            i++;
        } else {
            move_behind(l, i, &n);
            left++;
        }
    }
    RT_TRY(rt__gallery_end(&g, err));
    snprintf(path, sizeof path, "%s/dataset.json", folder);
    data = NULL;
    size = 0;
    if (rt__file_exists(path)) RT_TRY(rt__file_read(path, PICTURE_BYTES, &data, &size, err));
    rt_status status = rt__label_pictures(ds, folder, l->names, (int64_t)n, (int64_t)left, data, size, err);
    free(data);
    return status;
}

/* "FOLDER:PART" where FOLDER has a folder of that part; NULL: no part is named. */
static const char *named_part(const char *data, char folder[RT_DATA_PATH])
{
    const char *colon = strrchr(data, ':');
    for (size_t i = 0; colon && i < RT_COUNT(parts); i++) {
        if (strcmp(colon + 1, parts[i]) || rt__file_exists(data)) continue;
        snprintf(folder, RT_DATA_PATH, "%.*s", (int)(colon - data), data);
        return rt__is_folder(folder) ? parts[i] : NULL;
    }
    return NULL;
}

/* Is a folder divided into parts: train/ and no other folder than parts? */
static bool is_divided(const char *folder)
{
    char path[PATH + 1400];
    bool train = false, only = true;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && only && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || !rt__is_folder(path)) continue;
        only = false;
        for (size_t i = 0; i < RT_COUNT(parts); i++) only = only || !strcmp(e->d_name, parts[i]);
        train = train || !strcmp(e->d_name, "train");
    }
    if (d) closedir(d);
    snprintf(path, sizeof path, "%s/dataset.json", folder);
    return train && only && !rt__file_exists(path);
}

static bool claims(const char *data)
{
    char folder[RT_DATA_PATH];
    return rt__is_folder(data) || named_part(data, folder);
}

static rt_status read_folder(rt_dataset *ds, const char *data, rt_error *err)
{
    char folder[RT_DATA_PATH], whole[RT_DATA_PATH];
    listing l = {0};
    const char *part = named_part(data, whole);
    if (!part) snprintf(whole, sizeof whole, "%s", data);
    for (size_t n = strlen(whole); n > 1 && whole[n - 1] == '/'; n--) whole[n - 1] = 0;
    bool chosen = !part && is_divided(whole);
    if (chosen) part = "train";
    if (snprintf(folder, sizeof folder, "%s%s%s", whole, part ? "/" : "", part ? part : "") >= (int)sizeof folder)
        RT_RAISE(RT_E_USAGE, "%.60s...: the name of a data set has more than %d bytes", data, RT_DATA_PATH - 1);
    if (part && !rt__is_folder(folder)) RT_RAISE(RT_E_IO, "%s: there is no such folder, so the data has no part '%s'", folder, part);
    if (part) snprintf(ds->items->chosen, sizeof ds->items->chosen, "%s", folder);
    if (chosen)
        snprintf(ds->items->remark, sizeof ds->items->remark, "of the parts of %.700s its train/ is read; %.700s:test names another", whole,
                 whole);
    rt_status status = walk(&l, folder, "", 0, err);
    if (status == RT_OK) status = read_pictures(ds, folder, &l, err);
    for (size_t i = 0; i < l.n; i++) free(l.names[i]);
    free(l.names);
    return status;
}

const rt__reader rt__reader_folder = {.name = "folder",
                                      .source = "common use",
                                      .text = "PNG and JPEG pictures, class = the folder they lie in; or dataset.json with labels",
                                      .claims = claims,
                                      .read = read_folder};
