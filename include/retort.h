/* retort.h -- the stable interface of libretort: open a model, draw from it, ask it, train one.
 *
 *     retort_error err;
 *     retort_model *student;
 *     if (retort_model_open(&student, "run/student-4", NULL, &err) != RETORT_OK) { puts(err.text); return 1; }
 *     retort_sampling s = {.size = sizeof s, .count = 64, .seed = 7};
 *     if (retort_sample(student, &s, pictures, NULL, &err) != RETORT_OK) ...
 *     retort_model_free(student);
 *
 * Conventions
 *   - Names begin with retort_ or RETORT_. The headers below retort/, whose names begin with rt_, belong to the static library and change with every version.
 *   - A function that can fail returns retort_status and fills *err, which may be NULL and need not be initialised. A text states the fact, the numbers and
 *     the remedy; where it names an option (--grid), the field or setting of that name is meant.
 *   - Structs that may grow begin with `size`: set it to sizeof the struct and all that is not used to 0, which stands for the default. A library that is
 *     older than the header refuses fields that it does not know, RETORT_E_USAGE; one that is newer takes what it does not get for 0.
 *   - retort_X_new and retort_X_open make what retort_X_free releases, which takes NULL. All other pointers are borrowed for the call unless their
 *     comment says otherwise. Arrays are dense, the first index slowest.
 *   - Text is UTF-8. Numbers in text have a point, whatever the caller's locale.
 *
 * Manners
 *   - Threads: any number of threads may use one model at once, each call takes buffers of its own and gives the bits that it gives alone. Settings
 *     belong to one thread at a time. Functions that set hooks come before all others.
 *   - The caller's state (locale, number of OpenMP threads, affinity, signals, environment, working directory) is after a call, and in callbacks, what it was.
 *     Nothing is printed, nothing exits. RETORT_ISA and OMP_NUM_THREADS are read from the environment.
 *   - fork: a child may use all that its parent has opened, as long as nothing in the parent has computed (sampled, predicted, trained). OpenMP's threads do not
 *     survive fork: after the first computation, whatever computes fails in children with RETORT_E_USAGE. Fork while no other thread is in a call.
 *   - Callbacks must not throw or jump out, and must not free what the call works on. */
#ifndef RETORT_H
#define RETORT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- version: of this header. Functions and fields come with minor versions, nothing goes but with a major one, which is that of the SONAME. */
#define RETORT_VERSION_MAJOR  0
#define RETORT_VERSION_MINOR  1
#define RETORT_VERSION_PATCH  0
#define RETORT_VERSION_NUMBER (RETORT_VERSION_MAJOR * 1000000 + RETORT_VERSION_MINOR * 1000 + RETORT_VERSION_PATCH)

int retort_version(void);              /* RETORT_VERSION_NUMBER of the library that runs */
const char *retort_version_text(void); /* "0.1.0" */
/* Does the library that runs serve a program that was compiled with a header of this number? Ask with RETORT_VERSION_NUMBER; 0: no. */
int retort_version_check(int number);

/* ---- errors. A status is also the exit code of the program `retort`. */
typedef enum retort_status {
    RETORT_OK = 0,
    RETORT_E_INTERNAL = 1,     /* a bug in Retort */
    RETORT_E_USAGE = 2,        /* the request makes no sense: arguments, settings, names of rows */
    RETORT_E_INVALID = 3,      /* a configuration, model or data file is wrong */
    RETORT_E_MEMORY = 4,       /* an allocation failed or would exceed a limit */
    RETORT_E_IO = 5,           /* the operating system refused: missing, unreadable, full, exists already */
    RETORT_E_BUSY = 6,         /* another process works in the run directory */
    RETORT_E_DIVERGED = 7,     /* training met NaN or Inf */
    RETORT_E_COMM = 8,         /* communication between ranks failed */
    RETORT_E_DEVICE = 9,       /* an accelerator failed or is missing */
    RETORT_E_INTERRUPTED = 130 /* stopped because an observer asked for it */
} retort_status;

typedef struct retort_error {
    retort_status status;
    char text[1024]; /* one or two lines without a newline at the end; empty after success */
} retort_error;

const char *retort_status_name(retort_status status); /* "usage", "invalid", ...; never NULL */

/* ---- hooks, for the process */

/* Lines that a user should see: what was done to a model's folder to read it, that samples are clipped, what a run remarks. Without a hook they are dropped.
 * The line ends with the call. From any thread that is in a call of this header. NULL takes the hook away. */
void retort_set_log(void (*log)(void *self, const char *line), void *self);

/* Where Retort's own memory comes from: weights, buffers of programs, data, settings. The libraries beneath (oneDNN, OpenBLAS, jansson, libpng, ...) use
 * malloc. The functions are called from any thread; `resize` gets no NULL and keeps the contents; alignment is a power of 2, at most 64, and what
 * resize moves needs that of max_align_t only. They return NULL when memory is out. */
typedef struct retort_allocator {
    size_t size;
    void *self;
    void *(*allocate)(void *self, size_t alignment, size_t bytes);
    void *(*resize)(void *self, void *block, size_t bytes);
    void (*release)(void *self, void *block);
} retort_allocator;
/* Once, before any memory is taken: RETORT_E_USAGE later. The struct is copied. */
retort_status retort_set_allocator(const retort_allocator *allocator, retort_error *err);

/* ---- observers */
typedef struct retort_progress {
    size_t size;
    const char *what, *unit; /* "round 1/4: 8 from 16 steps", "updates" */
    int64_t done, total;
    double loss; /* the latest; NaN: none */
} retort_progress;
/* 0: go on; else stop at the next place where nothing is lost. */
typedef int (*retort_observe)(void *self, const retort_progress *now);

/* ---- models */
typedef struct retort_model retort_model;

typedef struct retort_model_options {
    size_t size;
    const char *scheduler; /* file of a diffusers scheduler to use instead of the model's; NULL: the model's */
    const char *weights;   /* "ema" (NULL) or "raw" */
    const char *backend;   /* "onednn" or "reference"; NULL: the fastest */
    const char *dtype;     /* "f32" (NULL), or "bf16" where the processor gains from it; weights are float */
    int threads;           /* that a call computes with; 0: OMP_NUM_THREADS, else the processors that the process may use */
    int has_null_class;    /* 1: the label null_class means no class; 0: the model's recipe says */
    int64_t null_class;
} retort_model_options;

/* `path` is a diffusers folder, a run directory of `retort` or oracle:FILE.json. `options` NULL: the defaults. */
retort_status retort_model_open(retort_model **model, const char *path, const retort_model_options *options, retort_error *err);
void retort_model_free(retort_model *model); /* no call may be using it */

typedef struct retort_model_info {
    size_t size;
    const char *path;                 /* the file or folder that was read. Texts and shape live as long as the model. */
    const char *network;              /* its class: "UNet2DModel", "RetortMLP", ...; or "oracle" */
    const char *process, *prediction; /* rows of `retort list`; empty: nothing says */
    const char *scheduler;            /* its class in diffusers; empty: none */
    const char *remark;               /* what was done to the folder to read it; empty: nothing */
    int rank;                         /* of one sample: 1 vectors, 3 pictures (channels, height, width) */
    const int64_t *shape;             /* [rank] */
    int64_t features;                 /* numbers of a sample, the product of shape */
    int64_t outputs;                  /* numbers that the network gives per sample */
    int64_t parameters;               /* trained numbers; 0: an oracle */
    int64_t timesteps;                /* of a discrete process; 0: continuous */
    int64_t classes;                  /* labels that it takes, the null class among them; 0: none */
    int64_t null_class;               /* -1: none */
    int64_t feature_dims;             /* of a classifier's features; 0: it is none */
    double low, high;                 /* range of the samples' numbers */
    int steps;                        /* that a student was made for; 0: no student */
} retort_model_info;
/* Fills *info, whose size the caller has set. */
retort_status retort_model_describe(const retort_model *model, retort_model_info *info, retort_error *err);

typedef struct retort_sampling {
    size_t size;
    int64_t count; /* samples */
    int64_t first; /* number of the first: noise is keyed by seed and number, so parts join up */
    int64_t batch; /* samples at a time; 0: a good number */
    uint64_t seed;
    int steps;           /* 0: the student's own, else 50 */
    int n_times;         /* of `times`; 0: by steps and grid */
    const double *times; /* [n_times] of the process, noisy to clean; a last 0 may be left out */
    const char *grid;    /* rows of `retort list grids` and solvers; NULL: the student's own, else the scheduler's */
    const char *solver;
    int has_guidance; /* 1: with `guidance` w, (1 + w) conditional - w unconditional; 0: the student's own, else none */
    double guidance;
    const int64_t *labels; /* [count]; NULL: sample j gets class j mod the number of classes */
    const float *noise;    /* [count][features] of unit variance; NULL: the seed's */
    double eta;            /* ddim: share of the ancestral noise, 0 to 1 */
    const float *draws;    /* [n_draws][count][features] of unit variance, the noise of steps that add or see any; NULL: the seed's */
    int64_t n_draws;
    retort_observe observe; /* after every batch; NULL: none */
    void *self;             /* of observe */
} retort_sampling;
/* Draws x[count][features] and, unless `labels` is NULL, the class of each (-1: the model has none). RETORT_E_INTERRUPTED if the observer stops it; the batches
 * that it was told of are in x. */
retort_status retort_sample(retort_model *model, const retort_sampling *sampling, float *x, int64_t *labels, retort_error *err);

/* The network's output out[n][outputs] at x[n][features], times t[n] in the network's units and classes y[n] (NULL: the model takes none). `as`: NULL, raw, or a
 * row of `retort list predictions` to convert to, "x0", "epsilon", "velocity", .... */
retort_status retort_predict(retort_model *model, const char *as, int64_t n, const float *x, const double *t, const int64_t *y, float *out,
                             retort_error *err);
/* The features[n][feature_dims] of a classifier and, unless `labels` is NULL, the most likely label of each. */
retort_status retort_features(retort_model *model, int64_t n, const float *x, float *features, int64_t *labels, retort_error *err);

/* ---- training: from keys and values, those of `retort distill METHOD --set KEY=VALUE` and of config files */
typedef struct retort_settings retort_settings;

/* The defaults of a method: "pd", "vsd", "denoise", ... */
retort_status retort_settings_new(retort_settings **settings, const char *method, retort_error *err);
void retort_settings_free(retort_settings *settings);
/* One key from text: ("train.lr", "1e-3"), ("train.updates", "8k,4k"). RETORT_E_USAGE with "did you mean" for a wrong name, type or range, and for a key that
 * the method does not read. `out` is the run directory. */
retort_status retort_settings_set(retort_settings *settings, const char *key, const char *value, retort_error *err);
/* The value as retort_settings_set takes it, into text[bytes]. */
retort_status retort_settings_get(const retort_settings *settings, const char *key, char *text, size_t bytes, retort_error *err);
retort_status retort_settings_read(retort_settings *settings, const char *path, retort_error *err); /* a YAML or JSON file of keys */

typedef struct retort_row {
    size_t size;
    const char *name, *value, *text; /* the default of a key, the source of a method; one line of explanation. They live for ever. */
} retort_row;
/* Row i of the methods, of the keys that a method reads: 1, or 0 past the last and where there is no such method. */
int retort_method_at(int i, retort_row *row);
int retort_key_at(const char *method, int i, retort_row *row);

typedef struct retort_training {
    size_t size;
    int resume;             /* 1: go on from the newest checkpoint of the run in `out`, or begin it */
    retort_observe observe; /* after every update and within long work; stopping writes a checkpoint. NULL: none */
    void *self;             /* of observe */
} retort_training;

typedef struct retort_result {
    size_t size;
    int64_t updates, examples; /* over all sittings */
    double seconds;
    double loss;       /* over the end of the last round; NaN: none has ended */
    double accuracy;   /* of a classifier on held-out data; else NaN */
    int rounds;        /* that have ended */
    char folder[1024]; /* of the (last) model, for retort_model_open; empty: none */
} retort_result;
/* Runs the settings in the directory `out`, which must not exist or be empty, or be a run's if `resume`. The same settings give the same bits as
 * the program's. `training` NULL: the defaults; `result` NULL: not wanted, else its size is set, and it is filled after RETORT_E_INTERRUPTED, too. */
retort_status retort_train(const retort_settings *settings, const retort_training *training, retort_result *result, retort_error *err);

#ifdef __cplusplus
}
#endif
#endif
