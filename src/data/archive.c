/* archive.c -- pictures in a zip, as EDM's dataset tool writes them; read through libzip, which checks every CRC. */
#include "data/reader.h"

#include "base/files.h"
#include "format/picture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#define ENTRY_BYTES ((size_t)1 << 30)

typedef struct member {
    char *name;
    zip_uint64_t at;
} member;

typedef struct archive {
    zip_t *zip;
    const char *path;
    member *members; /* the pictures, by name; then the other files */
    size_t n, others;
    zip_int64_t json; /* -1: none */
} archive;

static bool claims(const char *data)
{
    unsigned char head[4];
    FILE *f = rt__is_folder(data) ? NULL : fopen(data, "rbe");
    bool yes = f && fread(head, 1, 4, f) == 4 && head[0] == 'P' && head[1] == 'K' && (head[2] == 3 || head[2] == 5);
    if (f) fclose(f);
    return yes || (f && rt__ends(data, ".zip"));
}

static int by_name(const void *a, const void *b) { return strcmp(((const member *)a)->name, ((const member *)b)->name); }

static rt_status list(archive *z, rt_error *err)
{
    zip_int64_t total = zip_get_num_entries(z->zip, 0);
    z->members = calloc(total > 0 ? (size_t)total : 1, sizeof *z->members);
    if (!z->members) RT_RAISE(RT_E_MEMORY, "%s: out of memory", z->path);
    for (zip_int64_t i = 0; i < total; i++) {
        const char *name = zip_get_name(z->zip, (zip_uint64_t)i, 0);
        if (!name) RT_RAISE(RT_E_INVALID, "%s: entry %lld has no name; the archive is damaged, make it again", z->path, (long long)i);
        if (strcmp(name, "dataset.json") == 0) z->json = i;
        if (strstr(name, "__MACOSX/") || rt__ends(name, "/") || i == z->json) continue;
        member m = {strdup(name), (zip_uint64_t)i};
        if (!m.name) RT_RAISE(RT_E_MEMORY, "%s: out of memory", z->path);
        z->members[z->n + z->others] = m;
        if (rt__picture_name(name) == RT__PICTURE) {
            z->members[z->n + z->others] = z->members[z->n];
            z->members[z->n++] = m;
        } else {
            z->others++;
        }
    }
    if (z->n) qsort(z->members, z->n, sizeof *z->members, by_name);
    for (size_t i = 1; i < z->n; i++)
        if (!strcmp(z->members[i - 1].name, z->members[i].name))
            RT_RAISE(RT_E_INVALID, "%s: '%s' is in it twice; make the archive again", z->path, z->members[i].name);
    return RT_OK;
}

/* A whole entry. What it claims to unpack to is believed only as far as deflate can go (1032 : 1). */
static rt_status unpack(const archive *z, zip_uint64_t at, char **data, size_t *size, rt_error *err)
{
    zip_stat_t st;
    const char *name = zip_get_name(z->zip, at, 0);
    if (zip_stat_index(z->zip, at, 0, &st) != 0 ||
        (st.valid & (ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE)) != (ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE))
        RT_RAISE(RT_E_INVALID, "%s: '%s' has no size; the archive is damaged, make it again", z->path, name);
    if (st.size > ENTRY_BYTES || st.size / 1040 > st.comp_size + 1)
        RT_RAISE(RT_E_INVALID, "%s: '%s' claims %llu bytes out of %llu; at most 2^30 and 1032 times what is packed", z->path, name,
                 (unsigned long long)st.size, (unsigned long long)st.comp_size);
    zip_file_t *f = zip_fopen_index(z->zip, at, 0);
    if (!f) RT_RAISE(RT_E_INVALID, "%s: '%s' cannot be unpacked: %s", z->path, name, zip_strerror(z->zip));
    char *out = malloc(st.size + 1);
    zip_int64_t got = 0, n = 1;
    while (out && n > 0 && (zip_uint64_t)got < st.size)
        if ((n = zip_fread(f, out + got, st.size - (zip_uint64_t)got)) > 0) got += n;
    char past;
    if (out && (zip_uint64_t)got == st.size) n = zip_fread(f, &past, 1); /* the end is where the CRC is checked */
    char why[128];
    snprintf(why, sizeof why, "%s", n < 0 ? zip_file_strerror(f) : n > 0 ? "it is longer than it says" : "it is shorter than it says");
    zip_fclose(f);
    if (!out) RT_RAISE(RT_E_MEMORY, "%s: out of memory for '%s' (%llu bytes)", z->path, name, (unsigned long long)st.size);
    if (n != 0 || (zip_uint64_t)got != st.size) {
        free(out);
        RT_RAISE(RT_E_INVALID, "%s: '%s' cannot be unpacked: %s; make the archive again", z->path, name, why);
    }
    out[got] = 0;
    *data = out;
    *size = (size_t)got;
    return RT_OK;
}

/* Reads the pictures; names[0 .. *read) are those that were read, *left names after them those of pictures that were left out. */
static rt_status read_members(rt__gallery *g, const archive *z, char **names, size_t *read, size_t *left, rt_error *err)
{
    size_t end = z->n + z->others; /* names of pictures that are left out gather there */
    for (size_t i = 0; i < z->n; i++) {
        char *data = NULL, text[RT_DATA_PATH + 300];
        size_t size = 0;
        RT_TRY(unpack(z, z->members[i].at, &data, &size, err));
        snprintf(text, sizeof text, "%s: %.256s", z->path, z->members[i].name);
        rt_status status = rt__gallery_add(g, text, data, size, err);
        free(data);
        RT_TRY(status);
        if (g->ds->info.count > (int64_t)*read)
            names[(*read)++] = z->members[i].name;
        else
            names[--end] = z->members[i].name;
    }
    for (size_t i = z->n; i < z->n + z->others; i++)
        if (rt__gallery_leave(g, z->members[i].name)) names[--end] = z->members[i].name;
    *left = z->n + z->others - end;
    memmove(names + *read, names + end, *left * sizeof *names);
    return rt__gallery_end(g, err);
}

static rt_status read_pictures(rt_dataset *ds, const archive *z, rt_error *err)
{
    rt__gallery g;
    char *data = NULL;
    size_t size = 0, read = 0, left = 0;
    RT_TRY(rt__gallery_begin(&g, ds, (int64_t)z->n, err));
    char **names = malloc((z->n + z->others + 1) * sizeof *names);
    if (!names) RT_RAISE(RT_E_MEMORY, "%s: out of memory", z->path);
    rt_status status = read_members(&g, z, names, &read, &left, err);
    if (status == RT_OK && z->json >= 0) status = unpack(z, (zip_uint64_t)z->json, &data, &size, err);
    if (status == RT_OK) status = rt__label_pictures(ds, z->path, names, (int64_t)read, (int64_t)left, data, size, err);
    free(names);
    free(data);
    return status;
}

static rt_status read_zip(rt_dataset *ds, const char *data, rt_error *err)
{
    int code = 0;
    archive z = {.path = data, .json = -1, .zip = zip_open(data, ZIP_RDONLY, &code)};
    if (!z.zip) {
        zip_error_t why;
        zip_error_init_with_code(&why, code);
        rt_error_set(err, code == ZIP_ER_OPEN || code == ZIP_ER_READ ? RT_E_IO : RT_E_INVALID,
                     "%s: cannot be opened as a zip: %s; make it again", data, zip_error_strerror(&why));
        zip_error_fini(&why);
        return code == ZIP_ER_OPEN || code == ZIP_ER_READ ? RT_E_IO : RT_E_INVALID;
    }
    rt_status status = list(&z, err);
    if (status == RT_OK) status = read_pictures(ds, &z, err);
    for (size_t i = 0; i < z.n + z.others; i++) free(z.members[i].name);
    free(z.members);
    zip_discard(z.zip);
    return status;
}

const rt__reader rt__reader_zip = {.name = "zip",
                                   .source = "Karras et al. 2022 (EDM)",
                                   .text = "pictures in a zip, labels in its dataset.json; without one, class = folder",
                                   .claims = claims,
                                   .read = read_zip};
