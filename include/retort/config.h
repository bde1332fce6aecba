/* config.h -- the settings of a run: what every run has, in a struct, and the method's own, which only the method's file knows.
 *
 * Both are rows of tables of keys, from which files, `--set key=value`, options, help and checks follow. A key that the method does not read is
 * refused: nothing that a user writes goes without effect. */
#ifndef RETORT_CONFIG_H
#define RETORT_CONFIG_H

#include "retort/data.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { RT_CONFIG_LIST = 16, RT_CONFIG_TEXT = 1024, RT_CONFIG_OWN = 4096 };

/* May be copied. The tables of keys name the fields for files, --set and help; a default of a method replaces the one there. */
typedef struct rt_config {
    char method[32]; /* a row of `retort list methods`; empty: not chosen yet */
    char out[RT_CONFIG_TEXT];
    char teacher[RT_CONFIG_TEXT]; /* MODEL to distil */
    int null_class;               /* the label that means no class to the teacher; -1: its recipe says */
    char net[RT_CONFIG_TEXT];     /* config.json of the network to train; a student's: empty for a copy of its teacher */
    char init[RT_CONFIG_TEXT];    /* model folder to start from */
    uint64_t seed;
    bool tune;   /* kernels by trying instead of by rule */
    int threads; /* 0: rt_default_threads() */
    char backend[32];
    char dtype[8]; /* f32 or bf16 */

    struct {
        char path[RT_CONFIG_TEXT]; /* DATA; empty: none */
        double low, high;          /* the model's range */
        bool flip;
        int64_t limit;               /* use only so many items, 0: all */
        int resize, crop;            /* the rt_fit of pictures, 0: they stay as they are */
        char alpha[16];              /* and what becomes of their alpha channel: keep, white, grey; empty: it must be opaque */
        char labels[RT_CONFIG_TEXT]; /* `what` of rt_dataset_tell */
    } data;

    struct {
        int64_t updates[RT_CONFIG_LIST]; /* per round; the last repeats */
        int n_updates;
        int64_t images; /* alternative to updates: examples in all */
        int batch, micro_batch;
        int shards; /* equal parts of a batch, added in a fixed tree; 0: as many as ranks, or 1 */
        bool recompute;
        double lr;
        char lr_schedule[16]; /* constant, linear or cosine, falling to 0 over the round */
        int64_t warmup;
        char optimiser[16]; /* adam, adamw, radam or sgd */
        double beta1, beta2, eps, weight_decay, clip;
        double ema;      /* 0: no average */
        char weight[32]; /* a row of `retort list weights` */
        char freeze[RT_CONFIG_TEXT];
    } train;

    struct {
        double timeout; /* seconds that ranks wait for each other */
        int64_t log_every, checkpoint_every, sample_every,
            until_update;              /* updates; 0: at the end only / eight times in a round / no limit */
        double checkpoint_minutes;     /* between checkpoints, at most; 0: off */
        int keep;                      /* checkpoints kept */
        int samples;                   /* pictures per grid, at most */
        int64_t meter_every;           /* updates; 0: at checkpoints and at the end only */
        int meter_samples;             /* held-out samples that meters are measured on */
        char features[RT_CONFIG_TEXT]; /* a classifier for meters in its features; empty: none */
        char select[64];               /* a meter: the result is the network that it was best of; empty: the last */
        char stop_on[128];             /* collapse, flat:METER, both after a comma; empty: nothing */
    } run;

    union {
        double alignment;
        unsigned char bytes[RT_CONFIG_OWN];
    } own; /* the method's settings: a struct of its own */
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
    double min, max;      /* numbers outside are refused */
    const char *value;    /* default, as text */
    const char *help;     /* one line, with unit */
    bool volatile_key;    /* may differ between a run and its resumption */
    const char *option;   /* a method's: the option of the command line, without "--"; NULL: the name behind the dot */
    const char *argument; /* what the option's value is called; NULL: N */
    unsigned reads;       /* of shared keys: the methods that read it, 0: all; see distill/method.h */
} rt_config_key;

/* Key i of those that `method` reads; NULL: of all that any does, each once. False past the last, or without such a method. */
bool rt_config_key_at(const char *method, int i, rt_config_key *key);
/* Key i of the method's own, which have options of the command line. False past the last. */
bool rt_method_key_at(const char *method, int i, rt_config_key *key);

void rt_config_default(rt_config *c); /* the defaults of the shared keys; no method */
/* The defaults of a method; RT_E_USAGE with "did you mean" if there is no such method. */
rt_status rt_config_method(rt_config *c, const char *method, rt_error *err);
bool rt_method_describe(int i, rt_row_text *row); /* row i of `retort list methods`; false past the last */
bool rt_method_needs_teacher(const char *method); /* is it one of `retort distill`? */
bool rt_method_makes_scene(const char *method);
const char *rt_method_with_scene(const char *method); /* what it is called where it makes a scene instead of a network; NULL: it does not */
/* The method as `retort distill` is told it, "vsd", and as messages call it, "vsd with a scene"; of most methods their name. */
const char *rt_method_command(const char *method);
const char *rt_method_called(const char *method);
/* Which method minimises a divergence of (1.4), (1.5) by name, a row of `retort list divergences` (jensen-shannon, renyi:2, fisher), and the setting that says so to
 * it; key NULL: it needs none. `method` NULL: the one to take; else RT_E_USAGE if that method minimises another, with the one to take. Borrows `divergence`. */
typedef struct rt_minimiser {
    const char *method, *key, *value;
} rt_minimiser;
rt_status rt_minimiser_of(const char *divergence, const char *method, rt_minimiser *found, rt_error *err);
bool rt_minimised_describe(int i, rt_row_text *row); /* row i of `retort list divergences`: with the methods */
bool rt_time_pairs_describe(int i, rt_row_text *row);
bool rt_distance_describe(int i, rt_row_text *row);

/* Sets one key from text ("3", "8,4,2,1", "1.5", "true"; suffixes k and M are 1000 and 1,000,000). RT_E_USAGE with "did you mean" on a wrong name,
 * type or range, and on a key that the method does not read. `method` comes before its own keys, and stays. */
rt_status rt_config_set(rt_config *c, const char *key, const char *value, rt_error *err);
rt_status rt_config_get(const rt_config *c, const char *key, char *text, size_t size, rt_error *err); /* as rt_config_set takes it */
rt_fit rt_config_fit(const rt_config *c);                                                             /* how its data.* changes pictures */
rt_dtype rt_config_compute(const rt_config *c); /* what its dtype names: RT_F32 or RT_BF16 */
/* Reads a YAML or JSON file of keys, nested or dotted; RT_E_INVALID names file and key. */
rt_status rt_config_read(rt_config *c, const char *path, rt_error *err);
rt_status rt_config_write(const rt_config *c, const char *path, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
