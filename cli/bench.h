/* bench.h -- measuring: a network's training step and forward, and what the machine can do at best. */
#ifndef RETORT_CLI_BENCH_H
#define RETORT_CLI_BENCH_H

#include "retort/graph.h"

typedef struct bench_setup {
    const char *folder; /* holds a config.json */
    int64_t batch;
    int threads;
    rt_dtype compute;
    const char *backend; /* NULL: the fastest */
    rt_choices *choices; /* NULL: by rule */
    int nodes;           /* a side of the scene that is updated, too; 0: none is */
    int repeats;         /* timed runs, of which the median counts; one image is timed three times as often */
    uint64_t seed;
    bool (*stop)(void *user); /* asked between runs; true ends with RT_E_INTERRUPTED. NULL: never */
    void *user;
} bench_setup;

enum { BENCH_OPERATORS = 128 };

/* Names and meanings are those of the script that times PyTorch: medians; a training step is forward, backward of the mean squared error and Adam;
 * operations are those of convolutions and matrix products, a training step counted as three forwards. */
typedef struct bench_speed {
    const char *kind; /* of the network */
    int64_t parameters;
    double gflop_per_image;
    double train_ms, train_images_per_s, train_gflops;
    double forward_ms, forward_mean_ms, forward_gflops, one_image_ms;
    double derivative_ms;       /* with profile: a forward with its derivative along a direction; NaN where the network has none */
    double pd_ms, pd_mean_ms;   /* an update of pd: two calls of the teacher and a training step; NaN: not of this network */
    double vsd_ms, vsd_mean_ms; /* an update of vsd with one of the score; NaN likewise */
    double vsd_over_parts;      /* over two training steps and three forwards, of which it consists */
    double render_ms,
        render_grad_ms; /* `batch` views of a scene of `nodes` a side, 64 samples a ray: forward, and with the gradient; NaN: none asked for */
    double sds_scene_ms, vsd_scene_ms; /* an update of that scene with `batch` cameras, without guidance */
    double sds_scene_over_parts,
        vsd_scene_over_parts; /* over what it consists of: sds of a forward, a rendering and one with its gradient; vsd of another
                                                        * forward, a training step and a rendering more */
    double peak_mib;          /* resident, until the training steps are done */
    double planned_mib;       /* of it, what the training program planned: activations and scratch */
    rt_profile_row rows[BENCH_OPERATORS]; /* of the training step, if asked for: time per operator, longest first */
    int n_rows, profiled;                 /* runs that the rows add up */
} bench_speed;

/* What the backend reaches on work that suits it best: the yardsticks. 0: it cannot do that here. */
typedef struct bench_peak {
    double direct_gflops,
        winograd_gflops;  /* a wide 3x3 convolution in f32; Winograd counted as direct, so it exceeds what the units can do */
    double matmul_gflops; /* products of large matrices in f32 */
    double bf16_conv_gflops, bf16_matmul_gflops;
    double memory_gb_s; /* reading two arrays larger than the caches and writing a third */
    double cache_gb_s;  /* the same in arrays of 2 MiB */
} bench_peak;

rt_status bench_network(const bench_setup *setup, bool profile, bench_speed *speed, rt_error *err);
rt_status bench_machine(const bench_setup *setup, bench_peak *peak, rt_error *err);

/* Seconds that the calls of a row take at least: operations at the rate of the fastest way (Winograd's where there is one), or bytes at the bandwidth
 * of the memory, of the caches for calls that move little, whichever is longer. */
double bench_floor(const bench_peak *p, rt_dtype compute, const rt_profile_row *row);

#endif
