/* evaluation.h -- what `eval` measures: sets of samples or of real data turned into points, and distances between them. */
#ifndef RETORT_EVALUATION_H
#define RETORT_EVALUATION_H

#include "models.h"

#include "retort/data.h"
#include "retort/metrics.h"

enum { CLI_MOST_MEASURES = 16 };

/* The reference, the network that sees features, and the measures; opened once. */
typedef struct cli_judge {
    rt_model *features;           /* NULL: vectors are measured as they are */
    rt_dataset *reference, *real; /* real: held against the reference as samples are, to give the floor; NULL: none */
    const char *real_source;      /* where it comes from, for the reader */
    rt_oracle *oracle;            /* the reference is its draws; NULL: it is data */
    float *real_draws;            /* of the oracle, as many as samples, none of them in the reference; NULL: `real` counts */
    rt_statistics statistics;     /* of the reference's features; mean NULL: not needed */
    rt_points points;             /* the reference as points; x NULL where only statistics are known */
    const rt_measure *measures[CLI_MOST_MEASURES];
    int n_measures, threads;
    const char *backend;
} cli_judge;

rt_status cli_judge_open(cli_judge *j, cli_call *c, int64_t n, rt_error *err);
void cli_judge_close(cli_judge *j);
json_t *cli_judge_json(const cli_judge *j, const char *reference, const char *features);

/* Samples as points: pictures are quantised to 8 bits and become features. x [n][shape] in low..high; *points is allocated and must be freed. If `y` is
 * given, *agree becomes the share of samples that the classifier puts in their class. */
rt_status cli_judge_points(cli_judge *j, cli_call *c, int64_t n, int rank, const int64_t *shape, const float *x, const int64_t *y,
                           const double range[2], float **points, double *agree, rt_error *err);
/* Values of all measures of n points against the reference. */
rt_status cli_judge_measure(const cli_judge *j, int64_t n, const float *points, double *values, rt_error *err);
/* The same for the first n items of real data: the floor. *known is false where there is no such data. */
rt_status cli_judge_floor(cli_judge *j, cli_call *c, int64_t n, double *values, bool *known, rt_error *err);

#endif
