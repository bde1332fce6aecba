/* idx.c -- MNIST's format, plain or gzipped.
 *
 *     00 00 08 RANK | RANK big-endian 32-bit extents | bytes          images: rank 3 or 4 (N,H,W[,C]); labels: rank 1 */
#include "data/reader.h"

#include "base/files.h"
#include "base/internal.h"

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
static rt_status read_bytes(const char *path, int want_rank, int *rank, uint32_t *extent, uint8_t **out, rt_error *err)
{
    gzFile f = gzopen(path, "rbe");
    if (!f) RT_RAISE(RT_E_IO, "%s: cannot be opened", path);
    if (!read_header(f, rank, extent) || (want_rank == 1 ? *rank != 1 : *rank < 3)) {
        gzclose(f);
        RT_RAISE(RT_E_INVALID, "%s: field 'magic' is not that of an idx file of %s in bytes; give the %s file", path,
                 want_rank == 1 ? "labels" : "images", want_rank == 1 ? "idx1" : "idx3");
    }
    size_t total = 1;
    bool fits = true;
    for (int i = 0; i < *rank; i++) fits = fits && extent[i] > 0 && rt__mul_size(total, extent[i], &total);
    if (!fits || total > RT_DATA_BYTES) {
        gzclose(f);
        RT_RAISE(RT_E_INVALID, "%s: field 'extents' describes an impossible size; the file is damaged, fetch it again", path);
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
    bool longer = data && used == total && gzread(f, &past, 1) > 0;
    gzclose(f);
    if (!data) RT_RAISE(RT_E_MEMORY, "%s: out of memory after %zu bytes", path, used);
    if (used < total || longer) {
        free(data);
        RT_RAISE(RT_E_INVALID, "%s: field 'extents' says %zu bytes, the file has %s%zu; it is damaged, fetch it again", path, total,
                 longer ? "more than " : "", used);
    }
    *out = data;
    return RT_OK;
}

static rt_status read_images(rt_dataset *ds, const char *path, rt_error *err)
{
    int rank;
    uint32_t extent[4];
    uint8_t *data;
    RT_TRY(read_bytes(path, 3, &rank, extent, &data, err));
    ds->bytes = data;
    uint32_t channels = rank == 4 ? extent[3] : 1;
    if (extent[1] > RT_DATA_SIZE || extent[2] > RT_DATA_SIZE || channels > 4)
        RT_RAISE(RT_E_INVALID, "%s: field 'extents' says pictures of %ux%ux%u; at most %dx%dx4", path, extent[1], extent[2], channels,
                 RT_DATA_SIZE, RT_DATA_SIZE);
    ds->info = (rt_dataset_info){.count = extent[0], .rank = 3, .shape = {channels, extent[1], extent[2]}, .pictures = true};
    size_t pixels = (size_t)extent[1] * extent[2], item = pixels * channels;
    if (channels == 1) return RT_OK;
    uint8_t *planar = malloc(item * extent[0]); /* (N,H,W,C) -> (N,C,H,W) */
    if (!planar) RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    for (size_t n = 0; n < extent[0]; n++)
        for (size_t p = 0; p < pixels; p++)
            for (size_t c = 0; c < channels; c++) planar[n * item + c * pixels + p] = data[n * item + p * channels + c];
    free(data);
    ds->bytes = planar;
    return RT_OK;
}

static rt_status read_labels(rt_dataset *ds, const char *path, rt_error *err)
{
    int rank;
    uint32_t extent[4];
    uint8_t *data;
    RT_TRY(read_bytes(path, 1, &rank, extent, &data, err));
    if (extent[0] != ds->info.count) {
        free(data);
        RT_RAISE(RT_E_INVALID, "%s: field 'extents' says %u labels for %lld images; the files do not belong together", path, extent[0],
                 (long long)ds->info.count);
    }
    ds->labels = malloc(extent[0] * sizeof *ds->labels);
    for (uint32_t i = 0; ds->labels && i < extent[0]; i++) {
        ds->labels[i] = data[i];
        if (data[i] >= ds->info.classes) ds->info.classes = data[i] + 1;
    }
    free(data);
    if (!ds->labels) RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    return RT_OK;
}

/* images-idx3 -> labels-idx1 (or images.idx3 -> labels.idx1) in the same folder. */
static void labels_beside(const char *path, char *labels, size_t size)
{
    *labels = 0;
    const char *name = strrchr(path, '/'), *at = strstr(name ? name : path, "images");
    const char *rank = at ? strstr(at, "idx3") : NULL;
    if (!rank) return;
    snprintf(labels, size, "%.*slabels%.*sidx1%s", (int)(at - path), path, (int)(rank - at - 6), at + 6, rank + 4);
}

/* The images of a part ("train", or "test": also t10k) in a folder. */
static bool find_part(const char *folder, const char *part, char *file, size_t size)
{
    DIR *d = opendir(folder);
    *file = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        bool images = strstr(e->d_name, "images") && strstr(e->d_name, "idx3");
        bool test = strstr(e->d_name, "t10k") || strstr(e->d_name, "test");
        if (images && test == !strcmp(part, "test")) snprintf(file, size, "%s/%s", folder, e->d_name);
    }
    if (d) closedir(d);
    return *file != 0;
}

static void split_part(const char *path, char *folder, size_t size, const char **part)
{
    const char *colon = strrchr(path, ':');
    bool named = colon && (!strcmp(colon, ":train") || !strcmp(colon, ":test"));
    snprintf(folder, size, "%.*s", named ? (int)(colon - path) : (int)strlen(path), path);
    *part = named ? colon + 1 : "train";
}

static bool claims(const char *path)
{
    char folder[1024], file[1400];
    const char *part;
    split_part(path, folder, sizeof folder, &part);
    if (rt__is_folder(folder)) return find_part(folder, part, file, sizeof file);
    gzFile f = gzopen(path, "rbe");
    int rank;
    uint32_t extent[4];
    bool yes = f && read_header(f, &rank, extent);
    if (f) gzclose(f);
    return yes;
}

static rt_status read_idx(rt_dataset *ds, const char *path, rt_error *err)
{
    char folder[1024], file[1400], labels[1400];
    const char *part;
    split_part(path, folder, sizeof folder, &part);
    if (rt__is_folder(folder))
        find_part(folder, part, file, sizeof file);
    else
        snprintf(file, sizeof file, "%s", path);
    RT_TRY(read_images(ds, file, err));
    labels_beside(file, labels, sizeof labels);
    return *labels && rt__file_exists(labels) ? read_labels(ds, labels, err) : RT_OK;
}

const rt__reader rt__reader_idx = {.name = "idx",
                                   .source = "MNIST",
                                   .text = "idx or idx.gz images, labels beside them, or a folder of such files",
                                   .claims = claims,
                                   .read = read_idx};
