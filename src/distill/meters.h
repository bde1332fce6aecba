/* meters.h -- the meters of a round on held-out noise: figures that the networks as they stand give on draws that stay the same through the run and that no phase
 * trains on, so that two readings differ by the networks alone.
 *
 * The plan lists the rows and names the function that builds the graph of those that are means: a phase without a loss, compiled once per round for
 * slices of its own size, so that readings do not depend on the batch. Sums are in double, in the order of the samples. */
#ifndef RT_DISTILL_METERS_H
#define RT_DISTILL_METERS_H

#include "distill/method.h"
#include "retort/model.h"

enum { RT_METER_BINS = 8, RT_METER_TIMES = 64 * RT_METER_BINS };

/* One reading. NaN: not known, such as a quotient of zeros, a bin without samples, a meter without bins. */
typedef struct rt_reading {
    double all[RT_METERS], error[RT_METERS]; /* error: a standard error of means, else 0 */
    double bins[RT_METERS][RT_METER_BINS];   /* from the noisiest to the cleanest */
} rt_reading;

struct rt_meters {
    const rt_task *task;
    rt_phase phase;
    rt_phase_plan plan;
    struct {
        rt_node *a, *b;          /* per sample */
    } parts[RT_METERS];          /* by the place in the plan's list */
    rt_node *bin;                /* the number of each sample's bin; NULL: there are no bins */
    double share[RT_METER_BINS]; /* how much of the times each bin has */
    int64_t n;                   /* samples */
    rt_solver_map student;       /* of the deployed network as it is used */
    rt_model *features;          /* the classifier of run.features; NULL: none */
    float *of_teacher;           /* [n][its feature_dims], of the teacher's samples */
    float *teacher;              /* [n][features], the original teacher's samples; NULL: no meter does, or the networks are in double */
    int64_t *classes;
};

/* For a round that is open: graph, program, the teacher's samples. It must not move. Close it after a failure, too; a plan without meters opens nothing. */
rt_status rt__meters_open(rt_meters *m, rt_round *r, rt_error *err);
void rt__meters_close(rt_meters *m);
/* All but those of kind RT_METER_GRADIENT, which belong to the course of the run and are NaN. */
rt_status rt__meters_read(rt_meters *m, rt_reading *reading, rt_error *err);

/* How far a value is from the meter's best one: the less, the better. */
double rt__meter_cost(const rt_meter *row, double value);
/* The place of a meter in the plan's list; -1 and an error that names `key` and all meters: there is none of that name. */
int rt__meter_find(const rt_task *t, const char *key, const char *name, rt_error *err);

/* ---- for the plan's function */

/* What a meter of the list is made of, (B) each; b may be NULL. */
void rt__meter(rt_phase *p, const rt_meter *row, rt_node *a, rt_node *b);
/* Draws the time of each sample, so that eight bins, even in log-SNR between the ends of n times t, each as likely, get as many samples: k[i] of
 * `count` is the number of a time, all i as likely. Means are weighted by how many of the n times lie in a bin. */
rt_node *rt__meter_times(rt_phase *p, int n, const double *t, int k[RT_METER_TIMES], int *count);

/* Of samples a of the deployed network and b of the teacher, n rows of d numbers: values of the kinds RT_METER_DISTANCE, .._MEAN_OFF, .._DEVIATION_OFF. */
void rt__compare_samples(int64_t n, int64_t d, const float *a, const float *b, const int64_t *classes, double values[3]);

#endif
