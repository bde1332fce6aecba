/* critic.h -- a critic: a network, the trunk, up to its hidden representation, and a head that makes a logit of it, or a head on each of its levels, whose
 * logits are added: is a noised sample the teacher's (or of the data), or the student's? At its best the logit is log(p/q), p the teacher's density at x_t
 * and q the student's: log u = -logit.
 *
 *     critic      softplus(l(fake)) + softplus(-l(real))     into head and trunk      (Goodfellow et al. 2014)
 *     generator   softplus(-l(fake))                         through both, frozen
 *
 * The f-GAN's critic T = f'(u) (Nowozin et al. 2016) has the same logit: every divergence's best one is log(p/q). */
#ifndef RT_DISTILL_CRITIC_H
#define RT_DISTILL_CRITIC_H

#include "retort/diffusion.h"
#include "retort/nn.h"
#include "retort/ops.h"

typedef enum rt__head_kind {
    RT_HEAD_LINEAR, /* weight . (mean over pixels) + bias */
    RT_HEAD_CONV,   /* 3x3 to 64, group norm, SiLU, 1x1 to a logit per pixel, their mean; pictures only */
} rt__head_kind;

typedef struct rt__heads {
    rt__head_kind kind;
    bool every_level; /* of rt_net_levels; else on the deepest alone */
} rt__heads;

/* kind from "conv" or "linear"; "": conv for pictures, linear for vectors. every_level from "deepest" or "all". RT_E_USAGE names gan.head, gan.levels. */
rt_status rt__heads_find(const char *kind, const char *levels, bool pictures, rt__heads *heads, rt_error *err);

typedef struct rt__critic {
    const rt_net *net;
    rt_params *trunk, *head; /* two sets, or one that holds both: entries of the head begin with "head." */
    rt__heads heads;
} rt__critic;

/* Adds the heads' entries to a set: head.* of the deepest level, head.levels.I.* of the others. */
rt_status rt__critic_declare(const rt_net *net, const rt__heads *heads, rt_params *set, rt_error *err);

/* Logits (B) at x_t (B,..), t (B) as the network is told it, classes y or NULL. */
rt_node *rt__critic_logit(const rt__critic *c, rt_node *xt, rt_node *t, rt_node *y);

/* Per sample, of logits (B). */
rt_node *rt__critic_loss(rt_node *fake, rt_node *real);
rt_node *rt__generator_loss(rt_node *fake);
/* R1 without second derivatives: the square of what a little noise added to x_t moves a logit. */
rt_node *rt__critic_penalty(rt_node *logit, rt_node *noised);
/* -(T(fake) - f*(T(real))), and T(fake), which the generator descends. */
rt_node *rt__f_critic_loss(const rt_divergence *d, rt_node *fake, rt_node *real);
rt_node *rt__f_generator_loss(const rt_divergence *d, rt_node *fake);

#endif
