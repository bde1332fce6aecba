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
    char **names; /* relative to the folder */
    size_t n, room;
} listing;

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

/* Adds the pictures of folder/prefix; prefix is "" or ends in '/'. */
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
        } else if (rt__picture_name(name)) {
            status = keep(l, name, err);
        }
    }
    closedir(d);
    return status;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static rt_status read_pictures(rt_dataset *ds, const char *folder, const listing *l, rt_error *err)
{
    char path[PATH + 1400], *data;
    size_t size;
    rt__gallery g;
    RT_TRY(rt__gallery_begin(&g, ds, (int64_t)l->n, err));
    for (size_t i = 0; i < l->n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, l->names[i]);
        RT_TRY(rt__file_read(path, PICTURE_BYTES, &data, &size, err));
        rt_status status = rt__gallery_add(&g, path, data, size, err);
        free(data);
        RT_TRY(status);
    }
    snprintf(path, sizeof path, "%s/dataset.json", folder);
    data = NULL;
    size = 0;
    if (rt__file_exists(path)) RT_TRY(rt__file_read(path, PICTURE_BYTES, &data, &size, err));
    rt_status status = rt__label_pictures(ds, folder, l->names, (int64_t)l->n, data, size, err);
    free(data);
    return status;
}

static bool claims(const char *data) { return rt__is_folder(data); }

static rt_status read_folder(rt_dataset *ds, const char *data, rt_error *err)
{
    char folder[RT_DATA_PATH];
    listing l = {0};
    snprintf(folder, sizeof folder, "%s", data);
    for (size_t n = strlen(folder); n > 1 && folder[n - 1] == '/'; n--) folder[n - 1] = 0;
    rt_status status = walk(&l, folder, "", 0, err);
    if (status == RT_OK && l.n) qsort(l.names, l.n, sizeof *l.names, by_text);
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
