/* dataset.c -- the table of kinds, and items as the model sees them. */
#include "data/reader.h"

#include "base/files.h"
#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

static const rt__reader *const readers[] = {&rt__reader_idx};

bool rt_dataset_list(int i, rt_row_text *row)
{
    if (i < 0 || (size_t)i >= RT_COUNT(readers)) return false;
    *row = (rt_row_text){readers[i]->name, readers[i]->source, readers[i]->text};
    return true;
}

rt_status rt_dataset_open(rt_dataset **out, const char *data, rt_error *err)
{
    *out = NULL;
    const rt__reader *reader = NULL;
    for (size_t i = 0; i < RT_COUNT(readers) && !reader; i++)
        if (readers[i]->claims(data)) reader = readers[i];
    if (!reader) {
        if (!rt__file_exists(data) && !strchr(data, ':'))
            RT_RAISE(RT_E_IO, "%s: no such file or folder; give a data set (`retort list datasets`)", data);
        RT_RAISE(RT_E_INVALID, "%s: not a data set that is known; `retort list datasets` prints the kinds", data);
    }
    rt_dataset *ds = calloc(1, sizeof *ds);
    if (!ds) RT_RAISE(RT_E_MEMORY, "%s: out of memory", data);
    rt_status s = reader->read(ds, data, err);
    if (s != RT_OK) {
        rt_dataset_free(ds);
        return s;
    }
    ds->info.kind = reader->name;
    ds->info.features = 1;
    for (int i = 0; i < ds->info.rank; i++) ds->info.features *= ds->info.shape[i];
    ds->all = ds->info.count;
    ds->low = -1;
    ds->high = 1;
    *out = ds;
    return RT_OK;
}

void rt_dataset_free(rt_dataset *ds)
{
    if (!ds) return;
    free(ds->bytes);
    free(ds->reals);
    free(ds->labels);
    free(ds);
}

const rt_dataset_info *rt_dataset_describe(const rt_dataset *ds) { return &ds->info; }
rt_status rt_dataset_limit(rt_dataset *ds, int64_t count, rt_error *err)
{
    (void)err;
    ds->info.count = count > 0 && count < ds->all ? count : ds->all;
    return RT_OK;
}

void rt_dataset_range(rt_dataset *ds, double low, double high, bool flip)
{
    ds->low = low;
    ds->high = high;
    ds->flip = flip;
}

void rt_dataset_read(const rt_dataset *ds, int64_t index, float *x, int64_t *y)
{
    int64_t d = ds->info.features;
    if (ds->bytes) {
        float low = (float)ds->low, step = (float)((ds->high - ds->low) / 255);
        for (int64_t i = 0; i < d; i++) x[i] = low + step * (float)ds->bytes[index * d + i];
    } else {
        memcpy(x, ds->reals + index * d, (size_t)d * sizeof *x);
    }
    if (y) *y = ds->labels ? ds->labels[index] : 0;
}

void rt_dataset_sha256(const rt_dataset *ds, char hex[65])
{
    char both[2][65] = {{0}, {0}};
    size_t n = (size_t)(ds->info.count * ds->info.features);
    rt__sha256(ds->bytes ? (const void *)ds->bytes : (const void *)ds->reals, ds->bytes ? n : n * sizeof *ds->reals, both[0]);
    if (ds->labels) rt__sha256(ds->labels, (size_t)ds->info.count * sizeof *ds->labels, both[1]);
    rt__sha256(both, sizeof both, hex);
}

/* ---- shuffling: a four-round Feistel network on the smallest even number of bits that holds n, walked until it stays below n */

int64_t rt_permute_index(uint64_t seed, uint64_t key, int64_t n, int64_t index)
{
    int half = 1;
    while ((int64_t)1 << 2 * half < n) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, v = (uint64_t)index;
    rt__draw draw = {.seed = seed, .name = rt__draw_name("permutation"), .clock = (uint32_t)key};
    do {
        uint64_t left = v >> half, right = v & mask;
        for (uint32_t round = 0; round < 4; round++) {
            uint32_t w[4];
            rt__draw_words(&draw, (uint32_t)right, round | (uint32_t)(key >> 32) << 2, w);
            uint64_t next = left ^ (w[0] & mask);
            left = right;
            right = next;
        }
        v = left << half | right;
    } while (v >= (uint64_t)n);
    return (int64_t)v;
}

struct rt_loader {
    const rt_dataset *ds;
    int64_t batch;
    uint64_t seed;
};

rt_status rt_loader_new(rt_loader **out, const rt_dataset *ds, int batch, uint64_t seed, rt_error *err)
{
    *out = NULL;
    if (batch < 1) RT_RAISE(RT_E_USAGE, "a batch of %d; give 1 or more", batch);
    rt_loader *l = calloc(1, sizeof *l);
    if (!l) RT_RAISE(RT_E_MEMORY, "out of memory for a loader");
    *l = (rt_loader){ds, batch, seed};
    *out = l;
    return RT_OK;
}

void rt_loader_free(rt_loader *l) { free(l); }

static void mirror(const rt_dataset *ds, float *x)
{
    int64_t w = ds->info.shape[2];
    for (int64_t row = 0; row < ds->info.features / w; row++)
        for (int64_t i = 0; i < w / 2; i++) {
            float t = x[row * w + i];
            x[row * w + i] = x[row * w + w - 1 - i];
            x[row * w + w - 1 - i] = t;
        }
}

void rt_loader_batch(rt_loader *l, int64_t u, float *x, int64_t *y)
{
    const rt_dataset *ds = l->ds;
    int64_t n = ds->info.count, d = ds->info.features;
    for (int64_t i = 0; i < l->batch; i++) {
        int64_t at = u * l->batch + i, item = rt_permute_index(l->seed, (uint64_t)(at / n), n, at % n);
        rt_dataset_read(ds, item, x + i * d, y ? y + i : NULL);
        uint32_t w[4] = {0};
        if (ds->flip)
            rt__draw_words(&(rt__draw){.seed = l->seed, .name = rt__draw_name("flip"), .clock = (uint32_t)(at >> 32)}, (uint32_t)at, 0, w);
        if (w[0] >> 31 && ds->info.rank == 3) mirror(ds, x + i * d);
    }
}
