/* data.h -- data sets in memory, and the loader that makes batches of them.
 *
 *     rt_dataset *set;
 *     RT_TRY(rt_dataset_open(&set, "fashion-mnist", err));              // 60,000 pictures with labels
 *     rt_loader *loader;
 *     RT_TRY(rt_loader_new(&loader, set, 128, seed, err));
 *     rt_loader_batch(loader, update, x, y);                            // x[128][1][28][28] in [-1,1], y[128]
 *
 * DATA, as users name it, is one of
 *     FILE               idx or idx.gz (the content decides): unsigned bytes of rank 2 (n,D), 3 (n,H,W) or 4 (n,H,W,C). Labels are found beside
 *                        it by name (train-images-idx3-ubyte.gz -> train-labels-idx1-ubyte, with or without .gz); without them there are none
 *     FILE.bin           CIFAR-10 binary: records of one label and 3x32x32 bytes
 *     FOLDER[:PART]      a folder of idx or CIFAR-10 files: PART is train (the default) or test. A file itself always works
 *     FOLDER             a folder of pictures, PNG and JPEG at any depth: class = the folder they lie in, sorted by name; or dataset.json, as below
 *     FILE.zip           EDM style: pictures and dataset.json {"labels": [["00000/img.png", 3], ...]}; without it the class is the folder. In a folder, too, its
 *                        "captions" [["00000/img.png", "a red chair, front view"], ...] and "camera" [["00000/img.png", 7], ...] are read as well
 *     FILE.safetensors   `x` [n,D], [n,H,W] or [n,C,H,W]: U8 are pictures, F16, BF16, F32 and F64 are taken as they are; integers `y` [n] or none
 *     toy:NAME[:N]       a 2-D set of N (default 100,000) points; point i depends on i alone
 *
 * A data set is held in memory. Bytes are kept as bytes and scaled to a range when they are read; other numbers are left alone. Pictures are planar
 * (C,H,W) and all of one size, or made so by an rt_fit; grey ones among coloured ones become coloured; transparency is refused unless
 * an rt_fit says what becomes of it, because no background is right for all.
 *
 * Limits: 2^31 - 1 items, 16384 pixels of width or height, 2^36 bytes, 65536 classes. Errors are RT_E_INVALID (RT_E_IO where the system refuses) and name file, field,
 * value and remedy. Parts share the items of what they were cut from; free them in any order. A loader borrows its data set. */
#ifndef RETORT_DATA_H
#define RETORT_DATA_H

#include "retort/format.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_dataset rt_dataset;

typedef struct rt_dataset_info {
    const char *kind;   /* row of `retort list datasets` */
    const char *chosen; /* the file or folder that was read */
    const char *remark; /* what of it was left out or changed, in a line; empty: nothing */
    int64_t count;
    int rank; /* of an item: 3 (C,H,W) or 1 (D) */
    int64_t shape[3], features;
    int classes;   /* labels are 0 .. classes - 1; 0: unlabelled. A part keeps the number of the whole */
    int cameras;   /* items were seen by cameras 0 .. cameras - 1; 0: it is not known by which */
    bool captions; /* every item has a caption */
    bool pictures; /* bytes 0..255, scaled to a range; else numbers taken as they are */
} rt_dataset_info;

rt_status rt_dataset_open(rt_dataset **ds, const char *data, rt_error *err);
/* How pictures are changed as they are read; 0: not. First the shorter side becomes `resize` pixels, the other one in proportion (Lanczos, antialiased), then
 * the `crop` x `crop` pixels in the middle are kept. Both are 0 to 16384. */
typedef struct rt_fit {
    int resize, crop;
    rt_alpha alpha; /* of pictures in files; other data has none */
} rt_fit;
/* As rt_dataset_open; what was changed stands in the remark. RT_E_USAGE where the items are no pictures, RT_E_INVALID where one is smaller than the crop. */
rt_status rt_dataset_open_fit(rt_dataset **ds, const char *data, rt_fit fit, rt_error *err);
void rt_dataset_free(rt_dataset *ds);
const rt_dataset_info *rt_dataset_describe(const rt_dataset *ds);    /* borrowed */
const char *rt_dataset_class(const rt_dataset *ds, int label);       /* name of a class, or NULL where they have none */
const char *rt_dataset_caption(const rt_dataset *ds, int64_t index); /* NULL: it has none */
int rt_dataset_camera(const rt_dataset *ds, int64_t index);          /* -1: not known */
/* Other labels for the items of a whole set, label[info.count], 0 .. classes - 1 or of any size with classes 0: what a reader gives from now on. Names of
 * classes are dropped. */
rt_status rt_dataset_relabel(rt_dataset *ds, const int64_t *label, int classes, rt_error *err);
bool rt_dataset_list(int i, rt_row_text *row); /* row i of `retort list datasets`; false past the last */

/* Range of bytes (at first -1, 1); flip: loaders mirror half of the pictures. Set it before loaders are made. */
void rt_dataset_range(rt_dataset *ds, double low, double high, bool flip);

/* Items from .. to - 1 of a fixed shuffle of the set, in their original order: part(0, h) and part(h, count) are a hold-out and the rest. Parts are
 * disjoint where their ranges are, part(0, m) holds part(0, m - 1), and classes that lie in order are still met evenly. */
rt_status rt_dataset_part(rt_dataset **part, const rt_dataset *whole, int64_t from, int64_t to, rt_error *err);
/* part(0, count) in place; 0, or more than there are: all. */
rt_status rt_dataset_limit(rt_dataset *ds, int64_t count, rt_error *err);

/* Item 0 <= index < count; either of x[features] and *y may be NULL; *y is 0 where there are no labels. Safe from several threads. */
void rt_dataset_read(const rt_dataset *ds, int64_t index, float *x, int64_t *y);
/* SHA-256 of the decoded items (shape, values, labels): equal for equal items in an idx, an idx.gz or a zip. */
void rt_dataset_sha256(const rt_dataset *ds, char hex[65]);

/* Place of item `index` in permutation number `key` of 0..n-1: a function, so shuffling needs no memory and resuming no state. */
int64_t rt_permute_index(uint64_t seed, uint64_t key, int64_t n, int64_t index);

/* ---- the loader: batch u is items u B .. u B + B - 1 of the endless sequence of shuffled passes, a function of (data, seed, B, u) alone. Position p
 * of the sequence is item rt_permute_index(seed, p / n, n, p % n). While a batch is in use, a thread prepares the next. */

typedef struct rt_loader rt_loader;
rt_status rt_loader_new(rt_loader **l, const rt_dataset *ds, int batch, uint64_t seed, rt_error *err);
void rt_loader_free(rt_loader *l);
/* x[batch][features] and y[batch], either of which may be NULL. One caller at a time. Allocates nothing. */
void rt_loader_batch(rt_loader *l, int64_t u, float *x, int64_t *y);
/* What stands at place j of batch u: the item, and whether it is mirrored (either may be NULL). */
void rt_loader_item(const rt_loader *l, int64_t u, int64_t j, int64_t *item, bool *mirrored);

#ifdef __cplusplus
}
#endif
#endif
