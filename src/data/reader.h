/* reader.h -- one row per kind of data set: does a path belong to it, and how it is read. */
#ifndef RT_DATA_READER_H
#define RT_DATA_READER_H

#include "retort/data.h"

#include "base/internal.h"

#include <stdatomic.h>

enum { RT_DATA_SIDE = 1 << 14, RT_DATA_CLASSES = 1 << 16, RT_DATA_PATH = 1024, RT_DATA_CAPTION = 1024 };
#define RT_DATA_COUNT INT64_C(0x7fffffff)
#define RT_DATA_BYTES ((size_t)1 << 36)

/* What was read; shared by the parts that are cut from it. */
typedef struct rt__items {
    atomic_int users;
    uint8_t *bytes;  /* pictures: [count][C][H][W] */
    float *reals;    /* or numbers: [count][...] */
    int64_t *labels; /* NULL: none */
    bool relabelled; /* not those of the data */
    char **captions; /* count of them, NULL: none */
    int64_t n_captions;
    int32_t *cameras; /* NULL: none */
    char **classes;   /* names, info.classes of them; NULL: none */
    int n_classes;
    char chosen[RT_DATA_PATH + 512];  /* what was read */
    char remark[RT_DATA_PATH + 1024]; /* and what of it was not, or was changed; empty: nothing */
} rt__items;

struct rt_dataset {
    rt_dataset_info info;
    rt__items *items;
    int64_t *chosen; /* items of a part, ascending; NULL: all */
    rt_fit fit;
    struct {
        bool done;                    /* by the reader, picture by picture */
        int64_t smaller, larger, cut; /* how many pictures */
    } fitted;
    double low, high;
    bool flip;
    float values[256]; /* of bytes, in the range */
};

typedef struct rt__reader {
    const char *name, *source, *text;
    bool (*claims)(const char *data);
    /* Fills count, rank, shape, classes, pictures of info (kind where it is not the name), and the items; the caller frees them on failure. */
    rt_status (*read)(rt_dataset *ds, const char *data, rt_error *err);
} rt__reader;

extern const rt__reader rt__reader_idx, rt__reader_cifar, rt__reader_folder, rt__reader_zip, rt__reader_safetensors, rt__reader_toy;
bool rt__toy_row(int i, rt_row_text *row);

/* "PATH:train", "PATH:test" or PATH, where "train" is meant unless a path of that very name exists. The part is NULL if a file stands there. */
void rt__split_part(const char *data, char path[RT_DATA_PATH], const char **part);
/* Does `name` end in `ending`, in either case of letters? */
bool rt__ends(const char *name, const char *ending);
rt_status rt__check_label(const char *file, int64_t item, int64_t label, int64_t classes, rt_error *err);

/* Pictures that come one by one. */
typedef struct rt__gallery {
    rt_dataset *ds;
    int64_t room;                               /* pictures that are announced */
    int64_t turned, damaged, others, strangers; /* by EXIF; left out: not whole, of other kinds, no pictures */
    char example[3][128];                       /* a name of each of the last three */
} rt__gallery;
rt_status rt__gallery_begin(rt__gallery *g, rt_dataset *ds, int64_t room, rt_error *err);
/* A damaged file is left out: info.count stays. */
rt_status rt__gallery_add(rt__gallery *g, const char *name, const void *file, size_t size, rt_error *err);
/* Counts a file that is not even tried. True if it is a picture of another kind: then its folder is a class all the same. */
bool rt__gallery_leave(rt__gallery *g, const char *name);
/* Says in the items' remark what was turned and left out. RT_E_INVALID where nothing was read. */
rt_status rt__gallery_end(rt__gallery *g, rt_error *err);

/* Labels of named pictures: from dataset.json (`json` of `size` bytes, NULL: there is none), else from the folders that the n names lead through. The
 * `left` names after them are of pictures that were left out: their folders are classes, too. */
rt_status rt__label_pictures(rt_dataset *ds, const char *where, char *const *names, int64_t n, int64_t left, const char *json, size_t size,
                             rt_error *err);

#endif
