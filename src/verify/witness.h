/* witness.h -- what the measurements share: the processes, a mixture whose answers are known from integrals and error functions, shortcuts that call
 * the library.
 *
 * A measurement is a function of a few lines that returns the largest error it finds. Calls that fail leave the first cause in w->err and NaN in their
 * results, so nothing is checked on the way. */
#ifndef RT_VERIFY_WITNESS_H
#define RT_VERIFY_WITNESS_H

#include "retort/diffusion.h"
#include "retort/verify.h"

#include <math.h>

enum { RT__PROCESSES = 32, RT__LEVELS = 5, RT__STATES = 6 };

typedef struct rt__witness {
    rt_error err;
    rt_process *processes[RT__PROCESSES]; /* every row of the table with its defaults */
    int n;
} rt__witness;

typedef struct rt__equation {
    rt_equation row;
    double (*measure)(rt__witness *w); /* NULL: not implemented */
} rt__equation;

#define RT__LAST                                                                                                                           \
    {                                                                                                                                      \
        .row = {.name = NULL }                                                                                                             \
    }

/* The statements of sections 1.1, 1.2, 1.3, its last on scenes, and 1.4; each list ends with RT__LAST. */
extern const rt__equation rt__prologue[], rt__flow_maps[], rt__score_differences[], rt__scenes[], rt__progressive[];

/* The larger error; NaN wins. */
static inline double rt__worse(double a, double b) { return isnan(a) || a >= b ? a : b; }

/* ---- exact answers, from nothing of src/diffusion: data in one dimension, p_0 = sum_k w_k N(m_k, v_k). exact_mixture.c */

double rt__exact_density(double alpha, double beta, double x);                                 /* p_t(x) */
double rt__exact_mean(double alpha, double beta, double x);                                    /* E[x0 | x], by integrating over x0 */
double rt__exact_noise(double alpha, double beta, double x);                                   /* E[eps | x], likewise */
double rt__exact_flow(double alpha_s, double beta_s, double alpha_t, double beta_t, double x); /* keeps the share of the mass below it */
void rt__exact_states(double alpha, double beta, double x[RT__STATES]);                        /* two in each component */

/* The same mixture as the library's oracle, asked for x0 (1 row) or for whatever `prediction` says. The caller frees it. */
rt_oracle *rt__exact_oracle(rt__witness *w, const rt_process *p, const char *prediction);

/* ---- shortcuts: witness.c */

/* log-SNR 6, 3, 0, -3, -6: the time of level k, in the middle of a timestep where those are discrete. */
double rt__level(const rt_process *p, int k);
/* The worst of a check over every process, every level and states of the mixture there. */
double rt__everywhere(rt__witness *w, double (*check)(rt__witness *w, const rt_process *p, double t, double x));
/* The worst of a check over every process, steps s -> u -> t of the uniform grid of 8 (both ends are among them) and states at s. */
double rt__every_step(rt__witness *w, double (*check)(rt__witness *w, const rt_process *p, double s, double u, double t, double x));
/* Moves n states of one feature along times[steps + 1] by a solver on the mixture's x0-predictions. */
void rt__move(rt__witness *w, const char *solver, const rt_process *p, int steps, const double *times, int64_t n, double *x);
/* DDIM s -> t (1.30) as the lecture writes it, but for alpha_s = 0, where its limit is taken. */
double rt__lecture_ddim(const rt_process *p, double s, double t, double xs, double x0);
/* A graph in double (NULL: memory is out); n numbers as its constant; what a node of n numbers evaluates to. */
rt_graph *rt__doubles(rt__witness *w);
rt_node *rt__numbers(rt_graph *g, int64_t n, const double *x);
void rt__value(rt__witness *w, rt_node *node, int64_t n, double *out);

#endif
