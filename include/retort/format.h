/* format.h -- files: safetensors, pictures, diffusers' configurations. */
#ifndef RETORT_FORMAT_H
#define RETORT_FORMAT_H

#include "retort/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- safetensors ---------------------------------------------------------------------------------------------------------------------
 * Reading is strict: anything that the format forbids, and duplicate names, are RT_E_INVALID with file, tensor and remedy. Limits: a header of
 * 100 MB, 64 dimensions of which RT_MAX_RANK can be read. */

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

/* ---- diffusers' scheduler_config.json ------------------------------------------------------------------------------------------------
 * Reading is strict JSON without duplicate keys, but takes the Infinity that diffusers writes (as 1e308). What
 * the keys mean is the diffusion layer's business (rt_scheduler_new); values are fetched by type, and errors name file, key, value and remedy. */

typedef struct rt_scheduler_config rt_scheduler_config;

rt_status rt_scheduler_config_open(rt_scheduler_config **c, const char *path, rt_error *err);
/* From a text; `name` stands for the file in messages. */
rt_status rt_scheduler_config_parse(rt_scheduler_config **c, const char *json, const char *name, rt_error *err);
void rt_scheduler_config_free(rt_scheduler_config *c);
const char *rt_scheduler_config_name(const rt_scheduler_config *c);  /* file, for messages */
const char *rt_scheduler_config_class(const rt_scheduler_config *c); /* `_class_name`; empty if it is missing */
const char *rt_scheduler_config_key(const rt_scheduler_config *c,
                                    int i); /* keys in order, those that begin with '_' left out; NULL past the last */

/* One value. A key that is absent or null leaves *out as it was. */
rt_status rt_scheduler_config_text(const rt_scheduler_config *c, const char *key, const char **out, rt_error *err);
rt_status rt_scheduler_config_int(const rt_scheduler_config *c, const char *key, int64_t min, int64_t max, int64_t *out, rt_error *err);
rt_status rt_scheduler_config_real(const rt_scheduler_config *c, const char *key, double min, double max, double *out, rt_error *err);
rt_status rt_scheduler_config_flag(const rt_scheduler_config *c, const char *key, bool *out, rt_error *err);
/* A list of numbers; the caller frees *out. Absent: *out NULL, *n 0. */
rt_status rt_scheduler_config_reals(const rt_scheduler_config *c, const char *key, double **out, int *n, rt_error *err);

/* The recipe that a model carries under `_retort`: how it wants to be sampled. */
enum { RT_RECIPE_STEPS = 4096 };
typedef struct rt_recipe {
    char method[32], solver[32];       /* rows; a model that no method made has an empty method */
    int steps;                         /* 0: any number */
    double timesteps[RT_RECIPE_STEPS]; /* what the network is fed at each step, noisy to clean */
    bool has_guidance;
    double guidance;
    int64_t null_class; /* the label that means no class; -1: none */
    double low, high;   /* range of the model's values */
    bool exact_in_diffusers;
    char teacher_sha256[65]; /* of the teacher's weights; empty: none */
} rt_recipe;

/* false: the configuration carries none (*r is then the empty recipe of a foreign model: range -1..1, no null class). A recipe that is there but wrong
 * is an error. */
rt_status rt_scheduler_config_recipe(const rt_scheduler_config *c, rt_recipe *r, bool *found, rt_error *err);

/* What a scheduler_config.json that Retort writes says, beside what never varies (DDIMScheduler, trailing, no clipping, alpha ends at 1). */
typedef struct rt_scheduler_spec {
    int64_t timesteps;
    const char *beta_schedule; /* linear, scaled_linear, squaredcos_cap_v2 */
    double beta_start, beta_end;
    const double *trained_betas; /* NULL: none */
    int n_trained_betas;
    bool zero_snr;
    const char *prediction_type; /* diffusers' name */
    const rt_recipe *recipe;     /* NULL: none */
} rt_scheduler_spec;
rt_status rt_scheduler_write(const char *path, const rt_scheduler_spec *spec, rt_error *err);
/* The same, with the process of a teacher's configuration; only prediction_type and recipe of the spec count. */
rt_status rt_scheduler_write_like(const char *path, const rt_scheduler_config *teacher, const rt_scheduler_spec *spec, rt_error *err);
/* The recipe as the text that stands in the safetensors metadata under `retort`. The caller frees it; NULL when memory is out. */
char *rt_recipe_text(const rt_recipe *r);

/* ---- pictures ------------------------------------------------------------------------------------------------------------------------ */

/* 8-bit pixels, rows of `channels` (1 grey, 2 grey and alpha, 3 RGB, 4 RGBA) interleaved, as PNG: into memory that the caller frees, or a file. */
rt_status rt_png_encode(int width, int height, int channels, const uint8_t *pixels, uint8_t **png, size_t *size, rt_error *err);
rt_status rt_png_write(const char *path, int width, int height, int channels, const uint8_t *pixels, rt_error *err);
/* A sample (C,H,W) of values in low..high as interleaved bytes: clipped, mapped to 0..255, rounded to nearest. */
void rt_pixels_from_values(const float *x, int channels, int height, int width, double low, double high, uint8_t *pixels);
/* n samples (C,H,W) as one picture of `columns` columns with `gap` black pixels between them; columns 0: about a square. C is 1 or 3. */
rt_status rt_png_grid(const char *path, int64_t n, const float *x, int channels, int height, int width, double low, double high,
                      int columns, int gap, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
