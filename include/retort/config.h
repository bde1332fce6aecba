/* config.h -- the settings of a run, as one struct and one table of keys.
 *
 * The table gives files, `--set key=value`, help and checks from one source. A field that means nothing to a method is ignored by it. */
#ifndef RETORT_CONFIG_H
#define RETORT_CONFIG_H

#include "retort/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { RT_CONFIG_LIST = 16, RT_CONFIG_TEXT = 1024 };

/* Every setting of a run. The table rt_config_keys names the fields for files, --set and help; a default of a method replaces the one there. */
typedef struct rt_config {
    char method[32]; /* a row of `retort list methods` */
    char out[RT_CONFIG_TEXT];
    char teacher[RT_CONFIG_TEXT]; /* MODEL to distil */
    int null_class;               /* the label that means no class to the teacher; -1: its recipe says */
    char net[RT_CONFIG_TEXT];     /* config.json of the network to train from scratch */
    char init[RT_CONFIG_TEXT];    /* model folder to start from instead of random weights */
    uint64_t seed;
    bool tune;   /* kernels by trying instead of by rule */
    int threads; /* 0: rt_default_threads() */
    char backend[32];
    char dtype[8]; /* f32 or bf16 */

    struct {
        char path[RT_CONFIG_TEXT]; /* DATA; empty: none */
        double low, high;          /* the model's range */
        bool flip;
        int64_t limit;                /* use only so many items, 0: all */
        char holdout[RT_CONFIG_TEXT]; /* DATA that training never sees, for the accuracy of a classifier */
    } data;

    struct { /* of a model trained from scratch; a distilled one keeps its teacher's */
        char process[32], beta_schedule[32], prediction[32];
        int64_t timesteps;
        double beta_start, beta_end;
        double class_drop; /* probability that a label is replaced by the null class */
    } diffusion;

    struct {
        int64_t updates[RT_CONFIG_LIST]; /* per round; the last repeats */
        int n_updates;
        int64_t images; /* alternative to updates: examples in all */
        int batch, micro_batch;
        bool recompute;
        double lr;
        char lr_schedule[16]; /* constant, linear or cosine, falling to 0 over the round */
        int64_t warmup;
        char optimiser[16]; /* adam, adamw or sgd */
        double beta1, beta2, eps, weight_decay, clip;
        double ema;            /* 0: no average */
        char weight[32];       /* a row of `retort list weights` */
        char time_density[32]; /* a row of `retort list densities` */
    } train;

    struct {
        int steps[RT_CONFIG_LIST]; /* students, each dividing the one before */
        int n_steps;
        int teacher_steps;   /* 0: twice the first student's */
        char starts[16];     /* student or all: which k of (1.35) are drawn */
        char solver[32];     /* of the teacher */
        double guidance;     /* the lecture's omega in (1.39) for the first teacher; 0: none */
        char draws[16];      /* hidden or input: whether the student sees the first teacher's noise */
        int reuse;           /* how often each example of a rollout is used */
        int pool;            /* examples kept of rollouts */
        char prediction[32]; /* of the student; empty: the teacher's, v for an epsilon teacher */
        int holdout;         /* held-out noise for the table of residuals */
    } pd;

    struct {
        int64_t pairs; /* (noise, teacher sample) */
        int steps;     /* of the teacher */
        char solver[32];
        double guidance;
        char draws[16]; /* hidden or input */
        char loss[16];  /* a row of `retort list distances` */
    } kd;

    struct {               /* (1.10) */
        int steps;         /* of the student's recipe */
        int teacher_steps; /* points between which pairs of times are drawn */
        char solver[32];   /* of the teacher */
        double guidance;
        char pairs[32];      /* pi: a row of `retort list time-pairs` */
        char distance[32];   /* d: a row of `retort list distances` */
        int per_rollout;     /* pairs of times that a rollout serves */
        int pool;            /* examples that are shuffled together */
        char prediction[32]; /* of the student; empty: the teacher's */
    } map;

    struct {
        int64_t log_every, checkpoint_every, sample_every, until_update; /* updates; 0: at the end only / no limit */
        int keep;                                                        /* checkpoints kept */
        int samples;                                                     /* pictures per grid */
    } run;
} rt_config;

typedef enum rt_config_kind {
    RT_KEY_TEXT,
    RT_KEY_INT,
    RT_KEY_INT64,
    RT_KEY_UINT64,
    RT_KEY_REAL,
    RT_KEY_BOOL,
    RT_KEY_INTS,
    RT_KEY_INT64S
} rt_config_kind;

typedef struct rt_config_key {
    const char *name; /* "train.lr" */
    rt_config_kind kind;
    size_t offset, size; /* of the field; lists: the number of elements is the int at count_offset */
    size_t count_offset;
    double min, max;   /* numbers outside are refused */
    const char *value; /* default, as text */
    const char *help;  /* one line, with unit */
    bool volatile_key; /* may differ between a run and its resumption */
} rt_config_key;

extern const rt_config_key rt_config_keys[];
extern const int rt_config_n_keys;

void rt_config_default(rt_config *c); /* the defaults of the table */
/* The same, with the defaults of a method over them; RT_E_USAGE with "did you mean" if there is no such method. */
rt_status rt_config_method(rt_config *c, const char *method, rt_error *err);
bool rt_method_describe(int i, rt_row_text *row); /* row i of `retort list methods`; false past the last */
bool rt_time_pairs_describe(int i, rt_row_text *row);
bool rt_distance_describe(int i, rt_row_text *row);

/* Sets one key from text ("3", "8,4,2,1", "1.5", "true"; suffixes k and M are 1000 and 1,000,000). RT_E_USAGE with "did you mean" on a wrong name,
 * type or range. */
rt_status rt_config_set(rt_config *c, const char *key, const char *value, rt_error *err);
rt_status rt_config_get(const rt_config *c, const char *key, char *text, size_t size, rt_error *err); /* as rt_config_set takes it */
rt_dtype rt_config_compute(const rt_config *c); /* what its dtype names: RT_F32 or RT_BF16 */
/* Reads a YAML or JSON file of keys, nested or dotted; RT_E_INVALID names file and key. */
rt_status rt_config_read(rt_config *c, const char *path, rt_error *err);
rt_status rt_config_write(const rt_config *c, const char *path, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
