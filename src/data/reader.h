/* reader.h -- one row per kind of data set: does a path belong to it, and how it is read. */
#ifndef RT_DATA_READER_H
#define RT_DATA_READER_H

#include "retort/data.h"

enum { RT_DATA_SIZE = 1 << 14 }; /* largest height and width of a picture */
#define RT_DATA_BYTES ((size_t)1 << 36)

struct rt_dataset {
    rt_dataset_info info;
    int64_t all;     /* before a limit */
    uint8_t *bytes;  /* pictures: [count][C][H][W] */
    float *reals;    /* or numbers: [count][...] */
    int64_t *labels; /* NULL: none */
    double low, high;
    bool flip;
};

typedef struct rt__reader {
    const char *name, *source, *text;
    bool (*claims)(const char *path);
    rt_status (*read)(rt_dataset *ds, const char *path, rt_error *err); /* fills info and arrays; the caller frees them on failure */
} rt__reader;

extern const rt__reader rt__reader_idx;

#endif
