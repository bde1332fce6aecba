/* data_check.h -- for tests of src/data: a folder of files that goes away, and data sets that must open or must not. */
#ifndef RETORT_TESTS_DATA_CHECK_H
#define RETORT_TESTS_DATA_CHECK_H

#include "base/files.h"
#include "retort/data.h"
#include "retort/format.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

static char data_folder[256];

static inline int make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(data_folder, sizeof data_folder, "%s/retort-data-XXXXXX", tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    return mkdtemp(data_folder) ? 0 : -1;
}

static inline int drop_folder(void **state)
{
    (void)state;
    rt_error err = {0};
    return rt__remove_tree(data_folder, &err) == RT_OK ? 0 : -1;
}

/* folder/NAME, in one of eight buffers that take turns. */
static inline const char *at(const char *name)
{
    static char paths[8][1024];
    static int turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof *paths, "%s/%s", data_folder, name);
    return path;
}

/* Writes folder/NAME and the folders that lead to it. */
static inline const char *put(const char *name, const void *data, size_t size)
{
    const char *path = at(name);
    char folder[1024];
    rt_error err = {0};
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    if (rt__make_folders(folder, &err) != RT_OK || rt__file_write(path, data, size, &err) != RT_OK) fail_msg("%s", err.text);
    return path;
}

static inline const char *put_gz(const char *name, const void *data, size_t size)
{
    const char *path = at(name);
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, data, (unsigned)size), (int)size);
    assert_int_equal(gzclose(f), Z_OK);
    return path;
}

static inline rt_dataset *opened(const char *data)
{
    rt_dataset *ds = NULL;
    rt_error err = {0};
    if (rt_dataset_open(&ds, data, &err) != RT_OK) fail_msg("%s", err.text);
    return ds;
}

/* It must be refused with `status`, in words that hold the name of the file and each of the `needles`, separated by '|'. */
static inline void refused(const char *data, rt_status status, const char *needles)
{
    rt_dataset *ds = (rt_dataset *)data; /* anything but NULL */
    rt_error err = {0};
    rt_status got = rt_dataset_open(&ds, data, &err);
    if (got != status || err.status != status) fail_msg("%s: status %d, error '%s'; wanted status %d", data, got, err.text, status);
    assert_null(ds);
    char list[256], *rest = list;
    snprintf(list, sizeof list, "%s", needles);
    for (char *needle; (needle = strsep(&rest, "|"));)
        if (!strstr(err.text, needle)) fail_msg("'%s' does not say '%s'", err.text, needle);
    if (strchr(err.text, '\n')) fail_msg("more than one line: '%s'", err.text);
    print_message("  %s\n", err.text);
}

#endif
