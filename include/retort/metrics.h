/* metrics.h -- distances between sets of samples: on features of a classifier for pictures, on the vectors themselves for small data.
 *
 *     rt_points real = {n, d, features_of_data}, fake = {m, d, features_of_samples};
 *     rt_statistics s;
 *     RT_TRY(rt_statistics_of(&s, &real, err));
 *     RT_TRY(rt_frechet_points(&s, &fake, &distance, err));
 *
 * Sums over points are in double and in an order that does not depend on the number of threads. Points with NaN or Inf are RT_E_INVALID with row and column; so
 * are sets too small for an estimate. Pairwise distances are computed in blocks: memory stays in the size of the points.
 *
 * In the names: A (first argument) is the reference, B what is measured. */
#ifndef RETORT_METRICS_H
#define RETORT_METRICS_H

#include "retort/diffusion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* n rows of d numbers, borrowed. */
typedef struct rt_points {
    int64_t n, d;
    const float *x;
} rt_points;

/* ---- Frechet distance (Dowson & Landau 1982; on features: Heusel et al. 2017) ------------------------------------------------------------
 *     |mu_A - mu_B|^2 + tr(C_A + C_B - 2 (C_A^1/2 C_B C_A^1/2)^1/2),   covariances over n - 1 */

typedef struct rt_statistics {
    int64_t n, d;
    double *mean;              /* [d] */
    double *covariance;        /* [d][d] */
    char reference_sha256[65]; /* of the data set (rt_dataset_sha256), or empty */
    char features_sha256[65];  /* of the weights of the network that gave the features, or empty */
} rt_statistics;

rt_status rt_statistics_of(rt_statistics *s, const rt_points *p, rt_error *err); /* n >= 2 */
void rt_statistics_free(rt_statistics *s);                                       /* leaves *s zeroed */
/* A .safetensors file: mean [d], cov [d,d] (F64), n [1] (I64), and the two hashes as metadata. Reading checks shapes, symmetry and that all is finite. */
rt_status rt_statistics_write(const rt_statistics *s, const char *path, rt_error *err);
rt_status rt_statistics_read(rt_statistics *s, const char *path, rt_error *err);

rt_status rt_frechet(const rt_statistics *a, const rt_statistics *b, double *distance, rt_error *err);
rt_status rt_frechet_points(const rt_statistics *a, const rt_points *b, double *distance, rt_error *err);

/* ---- kernels: maximum mean discrepancy (Gretton et al. 2012), squared ------------------------------------------------------------------- */

/* KID (Binkowski et al. 2018): unbiased, kernel (x.y/d + 1)^3, of the whole sets. */
rt_status rt_kid(const rt_points *a, const rt_points *b, double *kid, rt_error *err);
/* Unbiased, kernel exp(-|x - y|^2 / (2 h^2)); bandwidth 0: h is the median distance between the first 1,000 points of A. */
rt_status rt_mmd(const rt_points *a, const rt_points *b, double bandwidth, double *mmd, rt_error *err);

/* ---- distances of vectors ---------------------------------------------------------------------------------------------------------------- */

/* Energy distance (Szekely & Rizzo 2013), 2 E|a - b| - E|a - a'| - E|b - b'|: v over all pairs (never negative), u without those of a point with
 * itself (unbiased). Either may be NULL. */
rt_status rt_energy_distance(const rt_points *a, const rt_points *b, double *v, double *u, rt_error *err);
/* Sliced 2-Wasserstein distance (Bonneel et al. 2015), squared: the mean over unit directions[m][d] of W_2^2 of the projections. */
rt_status rt_sliced_wasserstein2(const rt_points *a, const rt_points *b, int64_t m, const float *directions, double *squared,
                                 rt_error *err);
/* m directions, uniform on the sphere; direction i depends on seed and i alone. */
void rt_directions(uint64_t seed, int64_t m, int64_t d, float *directions);
/* Root of the mean square difference per feature of two sets from the same noise (row i belongs to row i). */
rt_status rt_rms(const rt_points *a, const rt_points *b, double *rms, rt_error *err);

/* ---- nearest neighbours (Kynkaanniemi et al. 2019; Naeem et al. 2020) --------------------------------------------------------------------
 * Balls around each point through its k-th neighbour in its own set; inside means strictly less. precision: share of B inside a ball of A; recall:
 * share of A inside a ball of B; density: mean over B of (balls of A around it) / k; coverage: share of balls of A that hold a point of B. */
typedef struct rt_neighbours {
    double precision, recall, density, coverage;
} rt_neighbours;
/* radius_a[n], radius_b[m] receive the radii; either may be NULL. */
rt_status rt_nearest_neighbours(const rt_points *a, const rt_points *b, int k, rt_neighbours *out, double *radius_a, double *radius_b,
                                rt_error *err);

/* ---- two pictures of one view ------------------------------------------------------------------------------------------------------------ */

/* Peak signal to noise ratio in dB, 10 log10(range^2 / mean square difference); infinite for equal ones. */
double rt_psnr(int64_t count, const float *a, const float *b, double range);
/* Structural similarity (Wang et al. 2004) of pictures (C,H,W) of values that span `range`: windows of 11x11 pixels (as many as there are, and odd, in smaller
 * pictures) with weights of a normal distribution of deviation 1.5, all of which lie in the picture; mean over windows and channels. 1 for equal ones. */
double rt_ssim(int channels, int height, int width, const float *a, const float *b, double range);

/* ---- the table ----------------------------------------------------------------------------------------------------------------------------- */

typedef enum rt_measure_needs {
    RT_NEEDS_FEATURES, /* of a classifier; also meaningful on low-dimensional vectors */
    RT_NEEDS_VECTORS,  /* the samples themselves */
    RT_NEEDS_PAIRS,    /* the samples themselves, row by row from the same noise */
    RT_NEEDS_ORACLE    /* the samples themselves, and the mixture that they should be of */
} rt_measure_needs;

typedef struct rt_measure_options {
    int k;                           /* neighbours; 0: 5 */
    int64_t directions;              /* 0: 512 */
    double bandwidth;                /* 0: the median */
    uint64_t seed;                   /* of the directions */
    const rt_statistics *statistics; /* of the reference, for frechet; NULL: computed */
    const rt_oracle *oracle;         /* for what needs one (RT_E_USAGE without), borrowed */
} rt_measure_options;

typedef struct rt_measure {
    const char *name, *symbol, *source, *text;
    rt_measure_needs needs;
    bool lower; /* lower is better */
    /* Fills values of all measures that share the computation; `value` says which is this row's. */
    rt_status (*compute)(const rt_points *a, const rt_points *b, const rt_measure_options *o, double *values, rt_error *err);
    int value;
} rt_measure;

enum { RT_MEASURE_VALUES = 4 }; /* the most that one computation fills */

const rt_measure *rt_measure_find(const char *name, rt_error *err); /* RT_E_USAGE with "did you mean" */
const rt_measure *rt_measure_at(int i);                             /* NULL past the last */
bool rt_measure_describe(int i, rt_row_text *row);
/* Several measures of the same two sets; what they share is computed once. options may be NULL. */
rt_status rt_measure_all(const rt_measure *const *measures, int n, const rt_points *a, const rt_points *b,
                         const rt_measure_options *options, double *values, rt_error *err);

/* ---- features of pictures --------------------------------------------------------------------------------------------------------------- */

/* What pictures are: clip to low .. high, map to 0..255, round to nearest (NaN is black), and back, to what rt_dataset_read gives. In place is fine. */
void rt_quantise(int64_t count, double low, double high, const float *x, float *out);

#ifdef __cplusplus
}
#endif
#endif
