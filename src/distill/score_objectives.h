/* score_objectives.h -- the objectives of distribution-level distillation as functions of given nodes, sample by sample: what methods call on what they
 * drew, and the reference numbers on what they give.
 *
 *     x_t = alpha x0 + beta eps (1.12), x0 = G(z);  f_p, f_z: x0-predictions of the teacher and of the auxiliary score at (x_t, t);
 *     s = (alpha f - x_t)/beta^2, so s_z - s_p = alpha/beta^2 (f_z - f_p)
 *
 * x0, f (B,..); weights and what is returned (B), sums over the D features. Weights are factors of a squared x0-difference: w = omega SNR. Which
 * nodes a gradient passes is part of an objective: sg[.] stands in its formula, and the phase that minimises it moves one network only. */
#ifndef RT_DISTILL_SCORE_OBJECTIVES_H
#define RT_DISTILL_SCORE_OBJECTIVES_H

#include "retort/ops.h"

/* w |f_z - sg[x0]|^2: the denoising form of (1.17). */
rt_node *rt__denoising_score_matching(rt_node *w, rt_node *f_z, rt_node *x0);

/* sg[f_z - f_p], the difference of scores times beta^2/alpha. (B,..) */
rt_node *rt__score_difference(rt_node *f_z, rt_node *f_p);
/* w sg[difference]^T x0: (1.18), omega alpha sg[s_z - s_p]^T x0. Its gradient in x0 is w difference, its value means nothing. */
rt_node *rt__follow(rt_node *w, rt_node *difference, rt_node *x0);

/* DMD's n = sg[mean over features of |x0 - f_p|], at least 1e-5. (B) */
rt_node *rt__dmd_normaliser(rt_node *x0, rt_node *f_p);
/* 1/2 |x0 - sg[x0 - g]|^2: the gradient in x0 is g, the value |g|^2/2. The published DMD loss is this over D, with g = difference/n. */
rt_node *rt__pull(rt_node *x0, rt_node *g);

/* w (f_p - f_z)^T [(f_p - x0) - a (f_p - f_z)], SiD's loss: nothing in it is constant, f_p and f_z move with x_t. */
rt_node *rt__score_identity(rt_node *w, double a, rt_node *f_p, rt_node *f_z, rt_node *x0);

/* Meters, rank 0. E|f_z - f_p|^2/E|x0 - f_p|^2, 0 where generator and teacher agree; and E[(f_p - f_z)^T (f_z - x0)]/E|f_p - f_z|^2, 0 for the exact
 * auxiliary score, whose residual is orthogonal to every function of x_t: the error of the generator's direction along itself. */
rt_node *rt__score_gap(rt_node *f_p, rt_node *f_z, rt_node *x0);
rt_node *rt__fake_lag(rt_node *f_p, rt_node *f_z, rt_node *x0);

#endif
