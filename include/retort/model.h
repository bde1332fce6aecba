/* model.h -- a model ready for use, from any path that names one: network, weights, process, prediction and sampling recipe together.
 *
 *     rt_model *m;
 *     RT_TRY(rt_model_open(&m, &(rt_model_spec){.path = "models/fashion-mnist-4"}, err));
 *     RT_TRY(rt_model_sample(m, &(rt_sampling){.n = 64}, keep, user, &report, err));
 *     rt_model_free(m);
 *
 * A path is oracle:FILE.json, or a folder, where the first that is found counts: model_index.json (a pipeline: unet/ or transformer/, and
 * scheduler/), a run's config.yaml (its student/, else model/), config.json. Samples are rows of features in the model's range. */
#ifndef RETORT_MODEL_H
#define RETORT_MODEL_H

#include "retort/data.h"
#include "retort/diffusion.h"
#include "retort/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { RT_MODEL_TEXT = 1024, RT_MODEL_STEPS = RT_RECIPE_STEPS };

typedef struct rt_model rt_model;

typedef struct rt_model_spec {
    const char *path;
    const char *
        scheduler; /* diffusers scheduler configuration to use instead of the model's (an oracle then answers in its prediction); NULL: the model's own */
    const char *weights; /* "ema" (or NULL) or "raw" */
    const char *backend; /* NULL: the fastest */
    int threads;         /* 0: rt_default_threads() */
    rt_dtype compute;    /* RT_F32, or RT_BF16: see rt_program_spec; weights are float */
    rt_choices *choices; /* kernel choices of its programs, which outlive it; NULL: by rule */
    const double *range; /* {low, high} of the model's values; NULL: its recipe's, else -1, 1 */
    int64_t null_class;  /* the label that means no class, where has_null_class */
    bool has_null_class;
    rt_rehearsal *rehearsal; /* NULL: a real model; else its network is never computed */
    bool unhashed;           /* leave rt_model_info.sha256 empty: reading all weights once more takes longer than drawing an image */
} rt_model_spec;

typedef struct rt_model_info {
    char chosen[RT_MODEL_TEXT];                      /* the file or folder that was read */
    char network[32];                                /* "unet", "mlp", "classifier", "oracle" */
    char process[32], prediction[32], scheduler[64]; /* empty: none; scheduler: its class name */
    int rank;                                        /* of one sample */
    int64_t shape[RT_MAX_RANK], features;
    int condition;         /* of the first extent: channels of a picture that the network takes beside a sample; 0: none */
    int64_t timesteps;     /* T of a discrete process, 0: continuous */
    int64_t classes;       /* labels that the network takes, the null class included; 0: none */
    int64_t null_class;    /* -1: none */
    const rt_words *words; /* labels are prompts of these, no words the null class; NULL: classes. The model's */
    bool camera;           /* the network is told a camera's matrix: nothing is asked of it but with a scene */
    int64_t outputs;       /* numbers that the network gives per sample */
    int64_t parameters;
    double low, high;
    int feature_dims;                         /* of a classifier's features; 0: it has none */
    char remark[RT_MODEL_TEXT + 1024];        /* what was done to the folder to read it, and what its samples are not; empty: nothing */
    char sha256[65];                          /* of the weights; empty for oracles and where it was not wanted */
    rt_student_recipe recipe;                 /* steps 0: the model knows no number of steps of its own */
    double recipe_times[RT_RECIPE_STEPS + 1]; /* of the process, steps + 1, the last 0 */
} rt_model_info;

/* The reader of data files for rt_oracle_open_with; rt_model_open uses it. */
rt_status rt_oracle_read_data(const char *folder, const char *data, rt_oracle_samples *samples, rt_error *err);

rt_status rt_model_open(rt_model **model, const rt_model_spec *spec, rt_error *err);
void rt_model_free(rt_model *model);
const rt_model_info *rt_model_get_info(const rt_model *model); /* borrowed */

/* The network's output (info->outputs numbers per sample) for n samples x at the times t (n numbers, in the network's units), classes y (NULL:
 * none). `as` NULL: raw; else a row of `retort list predictions`, into which it is converted by the model's process. */
rt_status rt_model_predict(rt_model *model, const char *as, int64_t n, const float *x, const double *t, const int64_t *y, float *out,
                           rt_error *err);
/* The features of a classifier (feature_dims numbers each) and, if wanted, its most likely labels. */
rt_status rt_model_features(rt_model *model, int64_t n, const float *x, float *features, int64_t *labels, rt_error *err);

/* What a network is told of the items of a data set: relabels them by `what`: class; camera; class-camera (class C + camera, of C cameras); caption, and
 * caption-camera (the words "camera-K" behind it), of which the labels of `words` are made; or words with commas between them: which of them the caption has.
 * Empty: captions where words are given, else classes. RT_E_INVALID, RT_E_USAGE where the data or the words cannot. */
rt_status rt_dataset_tell(rt_dataset *ds, const char *what, const rt_words *words, rt_error *err);

typedef enum rt_class_choice { RT_CLASS_ALL, RT_CLASS_ONE, RT_CLASS_NULL } rt_class_choice;

typedef struct rt_sampling {
    int64_t n, first; /* samples first .. first + n - 1: draws are keyed by the sample's number, so parts join up */
    int64_t batch;    /* samples at a time; 0: a good number */
    uint64_t seed;
    int steps;           /* 0: the recipe's, else the scheduler's way of 50 */
    const double *times; /* n_times times of the process, noisy to clean, instead of steps and grid; 0 is appended if it is missing */
    int n_times;
    const char *grid, *solver; /* rows; NULL: the recipe's, else the scheduler's, else ddim on trailing times */
    double guidance;           /* the lecture's omega: (1+w) cond - w uncond */
    bool has_guidance;
    double guidance_low, guidance_high, guidance_rescale; /* as in rt_sample_spec */
    rt_model *guide;        /* a worse model of the same process and data, instead of the null class; NULL: none */
    rt_class_choice choice; /* ALL: sample j gets class j mod C */
    int64_t label;          /* for RT_CLASS_ONE */
    const int64_t *labels;  /* instead of `choice`: sample j gets number j mod n_labels; prompts by rt_words_label */
    int n_labels;
    const int64_t *negatives; /* likewise what guidance leads away from, in place of the null class */
    int n_negatives;
    const float *noise; /* n rows of unit variance instead of the seed's; NULL: the seed's */
    const int64_t *y;   /* n classes that go with them; NULL: as `choice` says */
    const float *
        draws; /* [steps][n][features], unit noise for solvers that draw, or networks that see q draws per step: q steps; NULL: the seed's */
    int64_t n_draws; /* steps in draws */
    rt_solver_options options;
    bool look_only; /* rt_model_plan: search no grid that is not kept already; its times are then uniform */
    bool trace;     /* deliver the states between the steps too */
    /* long work before the first sample, the search of a grid: `done` of `total` units of `what`, which may end early; NULL: not told */
    void (*progress)(void *self, const char *what, int64_t done, int64_t total);
    void *progress_self;
} rt_sampling;

/* A batch of finished samples: x[count][features], y (NULL: no classes), trace[report.n_times][count][features] (NULL unless asked for). */
typedef struct rt_samples {
    int64_t first, count;
    const float *x;
    const int64_t *y;
    const float *trace;
} rt_samples;
/* Takes a batch; anything but RT_OK stops the sampling with that status. */
typedef rt_status (*rt_take_samples)(void *user, const rt_samples *s, rt_error *err);

typedef struct rt_sample_report {
    int steps;
    int64_t calls; /* of the network per sample; guidance counts twice */
    char solver[32], grid[32];
    int n_times;                      /* states: steps + 1, and where a scheduler of diffusers counts them, those of the inner calls */
    double times[2 * RT_MODEL_STEPS]; /* of the states */
    char remark[256];                 /* what a user should know: clipping, an overridden recipe; may be empty */
} rt_sample_report;

/* Resolves what sampling would do, without doing it; the grid `search` is searched, unless look_only. */
rt_status rt_model_plan(rt_model *model, const rt_sampling *s, rt_sample_report *report, rt_error *err);
rt_status rt_model_sample(rt_model *model, const rt_sampling *s, rt_take_samples take, void *user, rt_sample_report *report, rt_error *err);

/* The times of `steps` steps, steps + 1 falling to 0, with the least value that is found; candidates are about 65 times of the model's process. `value` is asked
 * some ten times for each inner time and sweep, and must not depend on what it was asked before; not finite counts as the worst. Written for
 * students and for solvers that draw noise, of which only what comes out can be judged: the steps of `renoise` follow no flow. RT_E_USAGE: more than 16 steps, or than there are times. */
typedef rt_status (*rt_times_value)(void *self, const double *times, double *value, rt_error *err);
rt_status rt_model_search_times(const rt_model *model, int steps, rt_times_value value, void *self, double *times, double *best,
                                rt_error *err);

/* Writes the model as a folder whose recipe draws as `s` says: steps, times, solver, guidance. The weights are those that the model was opened with.
 * A folder that is there is replaced. RT_E_USAGE for models without a network or a configuration of diffusers'. */
rt_status rt_model_save_student(rt_model *model, const rt_sampling *s, const char *folder, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
