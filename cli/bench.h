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
    double forward_ms, forward_gflops, one_image_ms;
    double peak_mib;                      /* resident, until the training steps are done */
    double planned_mib;                   /* of it, what the training program planned: activations and scratch */
    rt_profile_row rows[BENCH_OPERATORS]; /* of the training step, if asked for: time per operator, longest first */
    int n_rows, profiled;                 /* runs that the rows add up */
} bench_speed;

/* What the backend reaches on work that suits it best: the yardstick. */
typedef struct bench_peak {
    double matmul_gflops; /* a product of large matrices */
    double conv_gflops;   /* a wide 3x3 convolution, counted as direct; Winograd exceeds the matrix product */
    double memory_gb_s;   /* reading two arrays larger than the caches and writing a third */
} bench_peak;

rt_status bench_network(const bench_setup *setup, bool profile, bench_speed *speed, rt_error *err);
rt_status bench_machine(const bench_setup *setup, bench_peak *peak, rt_error *err);

#endif
