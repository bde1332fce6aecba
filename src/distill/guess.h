/* guess.h -- what score distillation needs of scores, on host arrays in double: x0-predictions of a denoiser, network or oracle, at rows of their own times; the
 * posterior mean of a few pictures; and the direction made of two predictions.
 *
 *     x_t = alpha x0 + beta eps (1.24);  s = (alpha f - x_t)/beta^2, f the x0-prediction
 *     u = omega alpha (s_zeta - s_teacher) = w (f_zeta - f_teacher), w = omega SNR       the cotangent of the picture in (1.29)
 *
 * s_zeta = 0 is f = x_t/alpha, s_zeta = -eps/beta is f = x0. */
#ifndef RT_DISTILL_GUESS_H
#define RT_DISTILL_GUESS_H

#include "distill/method.h"

/* A denoiser that is asked outside of graphs. */
typedef struct rt__guess {
    rt_denoiser denoiser; /* guided by its guidance, through its null class */
    const rt_process *process;
    rt_evaluator evaluator; /* of a network */
    bool open;
    int64_t rows, features;
    float *x, *out; /* [rows][features] */
    double *times, *values;
    int64_t *null; /* [rows]: the null class */
    const double *
        cameras; /* [rows][RT_CAMERA_NUMBERS] of what is asked next, for networks that are told one; the caller's, who keeps it until then */
} rt__guess;

/* For up to `rows` rows at a time; close it after a failure, too. Borrows what the denoiser names. */
rt_status rt__guess_open(rt__guess *g, const rt_task *t, const rt_denoiser *m, int64_t rows, rt_error *err);
void rt__guess_close(rt__guess *g);
/* x0[n][features] at x, row i at the time t[i] of the process, beta > 0, for class y[i]; y NULL: no class is named. */
rt_status rt__guess_x0(rt__guess *g, int64_t n, const double *x, const double *t, const int64_t *y, double *x0, rt_error *err);

/* f of s_zeta = 0 (`none`), or of s_zeta = -eps/beta, of d numbers. */
void rt__zeta_of_noise(bool none, int64_t d, double alpha, const double *x0, const double *xt, double *f);
/* u = omega alpha (s_zeta - s_teacher) at the time t of the process, of d numbers; omega is weight/SNR. */
void rt__direction(const rt_weight *weight, const rt_process *p, double t, int64_t d, const double *f_zeta, const double *f_teacher,
                   double *u);
/* E[x0 | x_t] where x0 is one of n pictures[n][d], each as likely: a softmax over |x_t - alpha x0|^2. */
void rt__mean_of_pictures(int64_t n, int64_t d, const double *pictures, double alpha, double beta, const double *xt, double *mean);

#endif
