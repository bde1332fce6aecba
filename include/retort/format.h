/* format.h -- files: safetensors, pictures, metrics, the index of a pipeline. */
#ifndef RETORT_FORMAT_H
#define RETORT_FORMAT_H

#include "retort/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- safetensors ---------------------------------------------------------------------------------------------------------------------
 * Reading is strict: anything that the format forbids, and duplicate names, are RT_E_INVALID with file, tensor and remedy. Limits: a header of
 * 100 MB with a million values, RT_MAX_RANK dimensions, 512 shards. Headers are read when a file is opened, tensors when they are asked for. */

typedef struct rt_tensors rt_tensors;

typedef struct rt_tensor_info {
    const char *name;
    rt_dtype dtype;
    int rank;
    int64_t shape[RT_MAX_RANK];
    int64_t count;
} rt_tensor_info;

/* A .safetensors file, or a .safetensors.index.json: then the shards that it names, which must lie beside it. */
rt_status rt_tensors_open(rt_tensors **t, const char *path, rt_error *err);
void rt_tensors_close(rt_tensors *t);
int rt_tensors_count(const rt_tensors *t);
const rt_tensor_info *rt_tensors_info(const rt_tensors *t, int index); /* borrowed */
int rt_tensors_find(const rt_tensors *t, const char *name);            /* index, or -1 */
rt_status rt_tensors_read(const rt_tensors *t, int index, rt_tensor *out, rt_error *err);
/* Into an array of F32 or F64 that holds info->count numbers; from F16, BF16, F32 or F64. */
rt_status rt_tensors_read_real(const rt_tensors *t, int index, rt_dtype dtype, void *out, rt_error *err);
const char *rt_tensors_metadata(const rt_tensors *t, const char *key); /* NULL: none */

typedef struct rt_named_tensor {
    const char *name;
    rt_dtype dtype;
    int rank;
    const int64_t *shape;
    const void *data;
} rt_named_tensor;
/* Complete or absent, equal bytes for equal arguments. `metadata`: key, value, ..., NULL; or NULL. */
rt_status rt_tensors_write(const char *path, const rt_named_tensor *tensors, int n, const char *const *metadata, rt_error *err);

/* ---- pictures ------------------------------------------------------------------------------------------------------------------------ */

/* What becomes of a picture's alpha channel: only opaque ones are taken; it stays, as the last of four channels, the colours multiplied by it; the picture is laid
 * over white, or over the middle of the range. */
typedef enum rt_alpha { RT_ALPHA_REFUSE, RT_ALPHA_KEEP, RT_ALPHA_WHITE, RT_ALPHA_GREY } rt_alpha;
extern const char *const rt_alpha_names[]; /* "", "keep", "white", "grey", NULL */

/* 8-bit pixels, rows of `channels` (1 grey, 2 grey and alpha, 3 RGB, 4 RGBA) interleaved, as PNG: into memory that the caller frees, or a file. */
rt_status rt_png_encode(int width, int height, int channels, const uint8_t *pixels, uint8_t **png, size_t *size, rt_error *err);
rt_status rt_png_write(const char *path, int width, int height, int channels, const uint8_t *pixels, rt_error *err);
/* n frames [n][height][width][channels] as a PNG that moves (APNG), for ever, each shown for so many milliseconds; readers that do not know how show the first. */
rt_status rt_apng_write(const char *path, int n, int width, int height, int channels, const uint8_t *pixels, int milliseconds,
                        rt_error *err);
/* The same as GIF, which has 256 colours for all frames together: chosen among theirs, every pixel the nearest one; exact where there are no more. With alpha there are 255,
 * and pixels of alpha below 128 are transparent. Times are whole hundredths of a second that add up to n times `milliseconds`, 10 to 60000. */
rt_status rt_gif_write(const char *path, int n, int width, int height, int channels, const uint8_t *pixels, int milliseconds,
                       rt_error *err);
/* A sample (C,H,W) of values in low..high as interleaved bytes: clipped, mapped to 0..255, rounded to nearest. Of four channels the last is alpha, by which the colours are
 * multiplied: PNG wants them divided by it. */
void rt_pixels_from_values(const float *x, int channels, int height, int width, double low, double high, uint8_t *pixels);
/* n samples (C,H,W) as one picture of `columns` columns with `gap` black pixels between them; columns 0: about a square. C is 1, 3, or 4 (RGB times
 * alpha, and alpha: the picture is transparent where the samples are). */
rt_status rt_png_grid(const char *path, int64_t n, const float *x, int channels, int height, int width, double low, double high,
                      int columns, int gap, rt_error *err);
/* The same with words: titles above, a label at the left of each row. They are printable ASCII, anything else is RT_E_USAGE. */
typedef struct rt_sheet {
    int64_t n;
    const float *x; /* [n][channels][height][width], in low..high */
    int channels, height, width;
    double low, high;
    int columns, gap, scale;   /* scale: pixels of the picture for one of a sample, and for one of a letter; 0: 1 */
    const char *const *titles; /* n_titles lines */
    int n_titles;
    const char *const *labels; /* one per row, "" for none; NULL: no labels */
    const bool *apart;         /* one per row: is there more room above it? NULL: nowhere */
} rt_sheet;
rt_status rt_png_sheet(const char *path, const rt_sheet *sheet, rt_error *err);
/* Points in the plane, n panels side by side, each 256 pixels wide below its title, on one scale: that of the first panel's points. What lies outside is put on the
 * edge; points that are not finite are left out. One colour per class, eight that take turns. */
typedef struct rt_point_panel {
    const char *title; /* printable ASCII; what is longer than the panel is cut off */
    int64_t n;
    const float *x;   /* [n][2] */
    const int64_t *y; /* classes, from 0; NULL: one colour */
} rt_point_panel;
rt_status rt_png_points(const char *path, const rt_point_panel *panels, int n, rt_error *err);

/* ---- metrics of a run ---------------------------------------------------------------------------------------------------------------- */

typedef struct rt_metric {
    const char *name; /* snake_case with unit; the first of a row is "update", a whole number */
    double value;     /* NaN and Inf stand as null in JSON, empty in CSV */
} rt_metric;
/* Appends one row to FOLDER/metrics.jsonl and FOLDER/metrics.csv, which begin with the first row; all rows of a CSV have the names of its first.
 * A row is written at once and whole, so that a reader sees complete lines. Numbers read back exactly. */
rt_status rt_metrics_append(const char *folder, const rt_metric *row, int n, rt_error *err);
/* Before a run goes on after update `last`: drops later rows and a line that a crash cut off. Absent files are no error. */
rt_status rt_metrics_truncate(const char *folder, int64_t last, rt_error *err);

/* ---- pipelines ----------------------------------------------------------------------------------------------------------------------- */

/* Writes FOLDER/model_index.json: a pipeline of unet/ (`network`, such as "UNet2DModel") and scheduler/ (`scheduler`, such as "DDIMScheduler"). */
rt_status rt_model_index_write(const char *folder, const char *network, const char *scheduler, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
