/* denoiser.h -- a network in use: how its output is read, at which times, with which guidance; as nodes of any graph. */
#ifndef RT_MODEL_DENOISER_H
#define RT_MODEL_DENOISER_H

#include "retort/diffusion.h"
#include "retort/nn.h"
#include "retort/ops.h"

/* One architecture on one set of parameters, or an oracle; how to read its output, and what steps it. */
typedef struct rt_denoiser {
    const rt_net *net;
    rt_params *set;
    const rt_oracle *oracle; /* instead of a network; in graphs where rt_oracle_check_graph allows it */
    const rt_prediction *prediction;
    const rt_solver *solver;
    double guidance;    /* omega of (1.39), 0: none; a network that is told omega is told this one */
    int64_t null_class; /* the label that means no class; -1: none */
} rt_denoiser;

/* A time per sample: (B,1,..,1) nodes of alpha and beta; what the network is told of it, (B), or (B,2) for networks of two times; omega (B), for all
 * denoisers that are asked there, NULL: each has its own; the 12 numbers of a camera (B,12), for networks that are told one. */
typedef struct rt_at {
    rt_node *alpha, *beta, *network, *omega, *camera;
} rt_at;

/* All that the network is told: its times, a camera and omega where it is told them. */
rt_node *rt__told(const rt_denoiser *m, rt_at t);

/* x0-prediction (B,...) at (x, t) for classes y (B) (NULL: none), guided by (1.39) where the denoiser or t is: in one call by a network that is told omega,
 * in two by others. draws (B,q C,..): those that the network
 * sees beside x; NULL: it sees none. */
rt_node *rt__denoise(const rt_denoiser *m, rt_node *x, rt_node *draws, rt_at t, rt_node *y);

/* The same without draws, where two calls would be made in one of both: joined batches. `other` (as y): the labels of the second, NULL: the null class's. */
rt_node *rt__denoise_joined(const rt_denoiser *m, rt_node *x, rt_at t, rt_node *y, rt_node *other);

#endif
