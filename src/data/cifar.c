/* cifar.c -- the binary version of CIFAR-10: records of 1 label and 3x32x32 bytes, planar. */
#include "data/reader.h"

#include "base/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PIXELS = 3 * 32 * 32, RECORD = 1 + PIXELS, CLASSES = 10, MOST = 1 << 30 }; /* MOST: bytes; CIFAR-10 has 184 million in all */

/* File k of a part in its folder; NULL past the last. */
static const char *file_of(const char *part, int k)
{
    static const char *const train[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"};
    if (strcmp(part, "test") == 0) return k == 0 ? "test_batch.bin" : NULL;
    return k < (int)RT_COUNT(train) ? train[k] : NULL;
}

static bool claims(const char *data)
{
    char path[RT_DATA_PATH], file[RT_DATA_PATH + 40];
    const char *part;
    rt__split_part(data, path, &part);
    if (!part) return rt__ends(path, ".bin") && rt__file_exists(path);
    snprintf(file, sizeof file, "%s/%s", path, file_of("train", 0));
    if (rt__file_exists(file)) return true;
    snprintf(file, sizeof file, "%s/%s", path, file_of("test", 0));
    return rt__file_exists(file);
}

static rt_status append(rt_dataset *ds, const char *file, rt_error *err)
{
    char *data;
    size_t size, have = (size_t)ds->info.count;
    RT_TRY(rt__file_read(file, MOST, &data, &size, err));
    size_t n = size / RECORD;
    rt__items *it = ds->items;
    uint8_t *bytes = NULL;
    int64_t *labels = NULL;
    rt_status status = RT_OK;
    if (n == 0 || size % RECORD)
        status =
            rt_error_set(err, RT_E_INVALID, "%s: field 'size' is %zu bytes; must be a multiple of %d (a CIFAR-10 binary): fetch it again",
                         file, size, RECORD);
    if (status == RT_OK) {
        bytes = realloc(it->bytes, (have + n) * PIXELS);
        if (bytes) it->bytes = bytes;
        labels = realloc(it->labels, (have + n) * sizeof *labels);
        if (labels) it->labels = labels;
        if (!bytes || !labels) status = rt_error_set(err, RT_E_MEMORY, "%s: out of memory", file);
    }
    for (size_t i = 0; i < n && status == RT_OK; i++) {
        const char *record = data + i * RECORD;
        labels[have + i] = (unsigned char)record[0];
        memcpy(bytes + (have + i) * PIXELS, record + 1, PIXELS);
        status = rt__check_label(file, (int64_t)i, labels[have + i], CLASSES, err);
    }
    free(data);
    ds->info.count += (int64_t)n;
    return status;
}

static rt_status read_cifar(rt_dataset *ds, const char *data, rt_error *err)
{
    char path[RT_DATA_PATH], file[RT_DATA_PATH + 40];
    const char *part;
    rt__split_part(data, path, &part);
    ds->info = (rt_dataset_info){.rank = 3, .shape = {3, 32, 32}, .classes = CLASSES, .pictures = true};
    if (!part) return append(ds, path, err);
    snprintf(ds->items->chosen, sizeof ds->items->chosen, "%.*s (%s)", RT_DATA_PATH - 16, path, part);
    for (int k = 0; file_of(part, k); k++) {
        snprintf(file, sizeof file, "%s/%s", path, file_of(part, k));
        RT_TRY(append(ds, file, err));
    }
    return RT_OK;
}

const rt__reader rt__reader_cifar = {.name = "cifar10",
                                     .source = "Krizhevsky 2009",
                                     .text = "CIFAR-10 binary: a .bin file, or the folder of its batches (FOLDER:test: its test part)",
                                     .claims = claims,
                                     .read = read_cifar};
