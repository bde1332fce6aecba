/* base.h -- status, errors, contexts, host tensors: what every other header stands on.
 *
 * Conventions of the whole library
 *   - A function that can fail returns rt_status and takes `rt_error *err` last; NULL is allowed there. A function that returns a pointer
 *     instead returns NULL on failure and fills *err likewise.
 *   - The text of an error states the fact, the numbers and the remedy, in one or two lines without a trailing newline.
 *   - rt_X_new / rt_X_open own what they return, rt_X_free releases it and takes NULL; every other pointer is borrowed.
 *   - The library never prints, exits or aborts. Its only mutable global is the instruction set, which is decided once (rt_isa_choose). */
#ifndef RETORT_BASE_H
#define RETORT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A status is also the exit code of the program, so that the two tables cannot differ. */
typedef enum rt_status {
    RT_OK = 0,
    RT_E_INTERNAL = 1,     /* a bug in Retort */
    RT_E_USAGE = 2,        /* the request makes no sense: options, arguments, names of rows */
    RT_E_INVALID = 3,      /* a configuration, model or data file is wrong */
    RT_E_MEMORY = 4,       /* an allocation failed or would exceed a limit */
    RT_E_IO = 5,           /* the operating system refused: missing, unreadable, full, exists already */
    RT_E_BUSY = 6,         /* the run directory is in use by another process */
    RT_E_DIVERGED = 7,     /* training met NaN or Inf */
    RT_E_COMM = 8,         /* communication between ranks failed */
    RT_E_DEVICE = 9,       /* an accelerator failed or is missing */
    RT_E_INTERRUPTED = 130 /* stopped on request after a checkpoint */
} rt_status;

#define RT_ERROR_TEXT 1024

typedef struct rt_error {
    rt_status status;
    char text[RT_ERROR_TEXT];
} rt_error;

/* "usage", "invalid", ... for a status; never NULL. */
const char *rt_status_name(rt_status status);

/* Fills *err (if not NULL) from a printf format and returns status, so that failing is one expression. Control characters become "?". A later error
 * does not overwrite an earlier one that is still set: the first cause is what the user needs. Clear with *err = (rt_error){0}. */
rt_status rt_error_set(rt_error *err, rt_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text of an error that is set: callers add the file or field that they know. */
void rt_error_prefix(rt_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Kernels exist for several instruction sets, of which a process uses one: "baseline", "avx2", "avx512", "avx512-bf16" on x86-64, "neon" on 64-bit
 * Arm. It is decided once, at the latest when the first program is compiled: by `name`, else by the environment's RETORT_ISA, else the best that the
 * processor has. A set that is asked for limits the libraries beneath to it, too. The same computation in another instruction set differs in last
 * digits. RT_E_USAGE: no such set, the processor lacks it, or another was decided on before. */
rt_status rt_isa_choose(const char *name, rt_error *err);
const char *rt_isa_name(void); /* of the one in use */
/* Set number i of this architecture, from the least to the best: its name, and does the processor have it? false past the last. */
bool rt_isa_describe(int i, const char **name, bool *has);

/* Element types. Files may hold all of them; graphs compute in F32 or F64, index with I64 and select with BOOL. */
typedef enum rt_dtype { RT_F32, RT_F64, RT_BF16, RT_F16, RT_I8, RT_U8, RT_I16, RT_I32, RT_I64, RT_BOOL, RT_DTYPES } rt_dtype;

size_t rt_dtype_size(rt_dtype dtype);      /* bytes of one element */
const char *rt_dtype_name(rt_dtype dtype); /* "F32", ... as safetensors spells them */

#define RT_MAX_RANK 8

/* A dense row-major array on the host. `data` is owned by the tensor and released by rt_tensor_free. rank 0 is one number. */
typedef struct rt_tensor {
    rt_dtype dtype;
    int rank;
    int64_t shape[RT_MAX_RANK];
    void *data;
} rt_tensor;

/* Allocates a zeroed tensor; fails with RT_E_MEMORY on overflow or exhaustion and RT_E_INVALID on a negative extent. */
rt_status rt_tensor_init(rt_tensor *t, rt_dtype dtype, int rank, const int64_t *shape, rt_error *err);
void rt_tensor_free(rt_tensor *t);           /* leaves *t zeroed */
int64_t rt_tensor_count(const rt_tensor *t); /* number of elements */
/* A new tensor with the values of `t` in another type (rounded to nearest even; I64 from floats truncates). */
rt_status rt_tensor_cast(rt_tensor *out, const rt_tensor *t, rt_dtype dtype, rt_error *err);

/* What `retort list` prints of a row. Each table has an rt_X_describe: row i in the table's order, false past the last. */
typedef struct rt_row_text {
    const char *name, *source, *text;
} rt_row_text;

/* Reads a file of settings, YAML or JSON, flattened: "train: {lr: 1e-3, updates: [8, 4]}" gives train.lr = "1e-3" and train.updates = "8,4"; null gives
 * nothing. `take` gets each in the file's order; what it returns, unless RT_OK, ends the reading. RT_E_INVALID names file, line and key: a key that
 * stands twice, an alias, lists of lists, more than 1 MB, 4096 keys or 8 levels. */
typedef rt_status (*rt_take_setting)(void *user, const char *key, const char *text, rt_error *err);
rt_status rt_settings_read(const char *path, rt_take_setting take, void *user, rt_error *err);

/* The name in `names` (n of them) that is closest to `word` by edit distance, or NULL if none is close: "did you mean". */
const char *rt_closest(const char *word, const char *const *names, size_t n);

/* The threads that `threads = 0` stands for, wherever a program, a model or a run may be given a number: the first number of OMP_NUM_THREADS, else the
 * processors that this process may use: those of its affinity, at most what the quotas of its control groups give (versions 1 and 2), rounded up. */
int rt_default_threads(void);

/* One line of "2x3x4" for messages; returns buf. */
const char *rt_shape_text(char *buf, size_t size, int rank, const int64_t *shape);

#ifdef __cplusplus
}
#endif
#endif
