/* idx.c -- MNIST's format, plain or gzipped.
 *
 *     00 00 08 RANK | RANK big-endian 32-bit extents | bytes          images: rank 3 or 4 (N,H,W[,C]), vectors: rank 2; labels: rank 1 */
#include "data/reader.h"

#include "base/files.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static uint32_t big_endian(const unsigned char *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

/* The header of an idx file of bytes; false if it is none. */
static bool read_header(gzFile f, int *rank, uint32_t *extent)
{
    unsigned char head[4], word[4];
    if (gzread(f, head, 4) != 4 || head[0] || head[1] || head[2] != 8 || head[3] < 1 || head[3] > 4) return false;
    *rank = head[3];
    for (int i = 0; i < *rank; i++) {
        if (gzread(f, word, 4) != 4) return false;
        extent[i] = big_endian(word);
    }
    return true;
}

/* All bytes behind the header, exactly as many as it says. Memory grows with what is really there, not with what the header claims. */
static rt_status read_bytes(const char *path, bool want_labels, int *rank, uint32_t *extent, uint8_t **out, rt_error *err)
{
    gzFile f = gzopen(path, "rbe");
    if (!f) RT_RAISE(RT_E_IO, "%s: cannot be opened", path);
    if (!read_header(f, rank, extent) || (want_labels ? *rank != 1 : *rank < 2)) {
        gzclose(f);
        RT_RAISE(RT_E_INVALID, "%s: field 'magic' is not that of an idx file of unsigned bytes (00 00 08 %s); give the file of %s", path,
                 want_labels ? "01" : "02, 03 or 04", want_labels ? "labels" : "pictures");
    }
    size_t total = 1;
    bool fits = true;
    for (int i = 0; i < *rank; i++) fits = fits && extent[i] > 0 && rt__mul_size(total, extent[i], &total);
    if (!fits || total > RT_DATA_BYTES) {
        gzclose(f);
        RT_RAISE(RT_E_INVALID, "%s: field 'extents' describes an impossible size (%u, ...); the file is damaged, fetch it again", path,
                 extent[0]);
    }
    size_t room = total < (1 << 20) ? total : 1 << 20, used = 0;
    uint8_t *data = malloc(room);
    while (data && used < total) {
        if (used == room) {
            room = total - room < room ? total : 2 * room;
            uint8_t *more = realloc(data, room);
            if (!more) free(data);
            data = more;
            if (!data) break;
        }
        size_t ask = room - used < (1 << 30) ? room - used : 1 << 30;
        int n = gzread(f, data + used, (unsigned)ask);
        if (n <= 0) break;
        used += (size_t)n;
    }
    unsigned char past;
    int end = data && used == total ? gzread(f, &past, 1) : 0; /* also reads the checksum */
    bool damaged = gzclose(f) != Z_OK || end < 0;
    if (!data) RT_RAISE(RT_E_MEMORY, "%s: out of memory after %zu bytes", path, used);
    if (used == total && end == 0 && !damaged) {
        *out = data;
        return RT_OK;
    }
    free(data);
    if (used == total && damaged)
        RT_RAISE(RT_E_INVALID, "%s: the packed data ends too early or has a wrong checksum; it is damaged, fetch it again", path);
    RT_RAISE(RT_E_INVALID, "%s: field 'extents' says %zu bytes, the file has %s%zu; it is damaged, fetch it again", path, total,
             end > 0 ? "more than " : "", used);
}

static rt_status read_images(rt_dataset *ds, const char *path, rt_error *err)
{
    int rank;
    uint32_t extent[4] = {0};
    RT_TRY(read_bytes(path, false, &rank, extent, &ds->items->bytes, err));
    if (extent[0] > RT_DATA_COUNT) RT_RAISE(RT_E_INVALID, "%s: field 'extents' says %u items; at most 2^31 - 1", path, extent[0]);
    if (rank == 2) {
        ds->info = (rt_dataset_info){.count = extent[0], .rank = 1, .shape = {extent[1]}, .pictures = true};
        return RT_OK;
    }
    uint32_t channels = rank == 4 ? extent[3] : 1;
    if (extent[1] > RT_DATA_SIDE || extent[2] > RT_DATA_SIDE || channels > 4)
        RT_RAISE(RT_E_INVALID, "%s: field 'extents' says pictures of %ux%ux%u; at most %dx%dx4", path, extent[1], extent[2], channels,
                 RT_DATA_SIDE, RT_DATA_SIDE);
    ds->info = (rt_dataset_info){.count = extent[0], .rank = 3, .shape = {channels, extent[1], extent[2]}, .pictures = true};
    if (channels == 1) return RT_OK;
    size_t pixels = (size_t)extent[1] * extent[2], item = pixels * channels;
    uint8_t *planar = malloc(item * extent[0]), *data = ds->items->bytes; /* (N,H,W,C) -> (N,C,H,W) */
    if (!planar) RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    for (size_t n = 0; n < extent[0]; n++)
        for (size_t p = 0; p < pixels; p++)
            for (size_t c = 0; c < channels; c++) planar[n * item + c * pixels + p] = data[n * item + p * channels + c];
    free(data);
    ds->items->bytes = planar;
    return RT_OK;
}

static rt_status read_labels(rt_dataset *ds, const char *path, rt_error *err)
{
    int rank;
    uint32_t extent[4];
    uint8_t *data;
    RT_TRY(read_bytes(path, true, &rank, extent, &data, err));
    if (extent[0] != ds->info.count) {
        free(data);
        RT_RAISE(RT_E_INVALID, "%s: field 'extents' says %u labels for %lld pictures; the files do not belong together", path, extent[0],
                 (long long)ds->info.count);
    }
    int64_t *labels = ds->items->labels = malloc(extent[0] * sizeof *labels);
    for (uint32_t i = 0; labels && i < extent[0]; i++) {
        labels[i] = data[i];
        if (data[i] >= ds->info.classes) ds->info.classes = data[i] + 1;
    }
    free(data);
    if (!labels) RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    return RT_OK;
}

/* images-idx3 -> labels-idx1 (or images.idx3 -> labels.idx1) in the same folder, with .gz or without; empty if there is none. */
static void labels_beside(const char *path, char *labels, size_t size)
{
    *labels = 0;
    const char *slash = strrchr(path, '/'), *at = strstr(slash ? slash : path, "images"), *rank = at ? strstr(at, "idx") : NULL;
    if (!rank || rank[3] < '2' || rank[3] > '4') return;
    int n = snprintf(labels, size, "%.*slabels%.*sidx1%s", (int)(at - path), path, (int)(rank - at - 6), at + 6, rank + 4);
    if (n < 4 || (size_t)n + 4 > size || rt__file_exists(labels)) return;
    if (rt__ends(labels, ".gz"))
        labels[n - 3] = 0;
    else
        strcat(labels, ".gz");
    if (!rt__file_exists(labels)) *labels = 0;
}

static void without_gz(const char *name, char out[256])
{
    snprintf(out, 256, "%s", name);
    if (rt__ends(out, ".gz")) out[strlen(out) - 3] = 0;
}

/* The pictures of a part ("train", or "test": also t10k) in a folder; `file` is empty if there are none, *other another candidate. Packed and unpacked
 * copies are the same. */
static void find_part(const char *folder, const char *part, char file[256], char other[256])
{
    DIR *d = opendir(folder);
    *file = *other = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char bare[256], have[256];
        bool images = strstr(e->d_name, "images") && (strstr(e->d_name, "idx3") || strstr(e->d_name, "idx4"));
        bool test = strstr(e->d_name, "t10k") || strstr(e->d_name, "test");
        if (!images || test != !strcmp(part, "test")) continue;
        without_gz(e->d_name, bare);
        without_gz(file, have);
        if (*file && strcmp(bare, have)) snprintf(other, 256, "%s", e->d_name);
        if (!*file || strcmp(e->d_name, file) < 0) snprintf(file, 256, "%s", e->d_name);
    }
    if (d) closedir(d);
}

static bool claims(const char *data)
{
    char path[RT_DATA_PATH], file[256], other[256];
    const char *part;
    rt__split_part(data, path, &part);
    if (part) { /* either part: read_idx says which is missing */
        find_part(path, "train", file, other);
        if (!*file) find_part(path, "test", file, other);
        return *file;
    }
    gzFile f = gzopen(path, "rbe");
    unsigned char head[4];
    bool yes = f && gzread(f, head, 4) == 4 && !head[0] && !head[1] && head[3] >= 1 && head[3] <= 4;
    if (f) gzclose(f);
    return yes || (!rt__is_folder(path) && rt__file_exists(path) && (strstr(data, "idx") || rt__ends(data, ".gz")));
}

static rt_status read_idx(rt_dataset *ds, const char *data, rt_error *err)
{
    char path[RT_DATA_PATH], name[256], other[256], file[RT_DATA_PATH + 260], labels[RT_DATA_PATH + 270];
    const char *part;
    rt__split_part(data, path, &part);
    snprintf(file, sizeof file, "%s", path);
    if (part) {
        find_part(path, part, name, other);
        if (!*name)
            RT_RAISE(RT_E_INVALID, "%s: there is no %s part among its idx files; give %s:%s, or a file", path, part, path,
                     strcmp(part, "test") ? "test" : "train");
        if (*other) RT_RAISE(RT_E_INVALID, "%s: both %s and %s could be the %s part; give the file that is meant", path, name, other, part);
        snprintf(file, sizeof file, "%s/%s", path, name);
    }
    snprintf(ds->items->chosen, sizeof ds->items->chosen, "%s", file);
    RT_TRY(read_images(ds, file, err));
    labels_beside(file, labels, sizeof labels);
    return *labels ? read_labels(ds, labels, err) : RT_OK;
}

const rt__reader rt__reader_idx = {.name = "idx",
                                   .source = "LeCun et al. 1998 (MNIST)",
                                   .text =
                                       "idx or idx.gz pictures, labels beside them, or a folder of such files (FOLDER:test: its test part)",
                                   .claims = claims,
                                   .read = read_idx};
