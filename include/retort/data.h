/* data.h -- data sets and mini-batches.
 *
 * DATA, as users name it:
 *     FILE[.gz]            idx: the magic number says images; labels are found beside them (images-idx3 -> labels-idx1)
 *     FOLDER[:train|:test] a folder of idx files (train part unless said otherwise), CIFAR-10 binaries, or pictures (class = sub-folder)
 *     FILE.zip             EDM-style: pictures and dataset.json
 *     FILE.safetensors     `x` [n,...] and optionally `y` [n]
 *     toy:NAME             2-D sets, drawn by index
 *
 * A data set is held in memory. Pictures are kept as bytes and scaled to the model's range when read. */
#ifndef RETORT_DATA_H
#define RETORT_DATA_H

#include "retort/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_dataset rt_dataset;

typedef struct rt_dataset_info {
    const char *kind; /* row of `retort list datasets` */
    int64_t count;
    int rank; /* of an item: 3 (C,H,W) or 1 (D) */
    int64_t shape[3], features;
    int classes;   /* 0: unlabelled */
    bool pictures; /* bytes 0..255, scaled to a range; else numbers taken as they are */
} rt_dataset_info;

/* RT_E_INVALID names file, field, value and remedy. */
rt_status rt_dataset_open(rt_dataset **ds, const char *data, rt_error *err);
void rt_dataset_free(rt_dataset *ds);
const rt_dataset_info *rt_dataset_describe(const rt_dataset *ds);
void rt_dataset_limit(rt_dataset *ds, int64_t count);                            /* keeps the first `count` items; 0: all */
void rt_dataset_range(rt_dataset *ds, double low, double high, bool flip);       /* of pictures; flip: rt_loader mirrors half of them */
void rt_dataset_read(const rt_dataset *ds, int64_t index, float *x, int64_t *y); /* y may be NULL; 0 where there are no labels */
void rt_dataset_sha256(const rt_dataset *ds, char hex[65]);                      /* of items and labels as held */

typedef struct rt_dataset_row {
    const char *name, *source, *text;
} rt_dataset_row;
bool rt_dataset_list(int i, rt_dataset_row *row); /* false past the last */

/* Place of item `index` in permutation number `key` of 0..n-1: a function, so shuffling needs no memory and resuming no state. */
int64_t rt_permute_index(uint64_t seed, uint64_t key, int64_t n, int64_t index);

/* Mini-batch number u of a data set: items u B .. u B + B - 1 of the endless sequence of shuffled passes. A function of (seed, u). */
typedef struct rt_loader rt_loader;
rt_status rt_loader_new(rt_loader **l, const rt_dataset *ds, int batch, uint64_t seed, rt_error *err);
void rt_loader_free(rt_loader *l);
void rt_loader_batch(rt_loader *l, int64_t u, float *x, int64_t *y); /* x[batch][features], y[batch] or NULL */

#ifdef __cplusplus
}
#endif
#endif
