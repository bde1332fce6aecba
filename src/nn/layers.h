/* layers.h -- layers: a few operators on parameters named by the layer path. */
#ifndef RT_NN_LAYERS_H
#define RT_NN_LAYERS_H

#include "retort/nn.h"
#include "retort/ops.h"

typedef struct rt__layers {
    rt_graph *g;
    rt_params *set;
} rt__layers;

/* weight and bias below `name`, initialised as PyTorch does: uniform in +-1/sqrt(fan in); norms 1 and 0; embeddings normal. */
rt_node *rt__linear(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out);
/* n linear layers (at most 3) over the channels of an image, (N,in,H,W) -> (N,n out,H,W), as one product. */
rt_node *rt__pixel_linear(rt__layers l, const char *const *names, int n, rt_node *x, int64_t in, int64_t out);
rt_node *rt__conv(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out, int kernel, const rt_conv *conv);
rt_node *rt__group_norm(rt__layers l, const char *name, rt_node *x, int64_t channels, int groups, double eps);
rt_node *rt__embedding(rt__layers l, const char *name, rt_node *index, int64_t rows, int64_t width);
/* class_embedding of classes (B), or of prompts' tokens (B,L), whose embeddings are added: that of token 0 is nothing. */
rt_node *rt__class_embedding(rt__layers l, rt_node *y, int64_t rows, int64_t width);
/* camera_embedding of the 12 numbers of a camera among what a network is told, which stand behind its times: two linear layers, the last of which starts at 0. */
rt_node *rt__camera_embedding(rt__layers l, rt_node *t, int times, int64_t width);
/* A linear layer that starts at 0: what it is added to starts as it was without. */
rt_node *rt__linear_zero(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out);
rt_node *rt__conv_zero(rt__layers l, const char *name, rt_node *x, int64_t in, int64_t out, int kernel, const rt_conv *conv);
/* x (B,C,..) without the draws behind it on axis 1, which go to *draws (B,n C,..); n 0: x itself, NULL. */
rt_node *rt__split_draws(rt_node *x, int64_t channels, int n, rt_node **draws);
/* Number `which` of what a network is told, (B) or (B,n), as (B). */
rt_node *rt__time(rt_node *t, int which);
/* 1000 omega, which is embedded as times are; omega stands last. */
rt_node *rt__guidance(rt_node *t);

/* diffusers' names of activations, in any case; NULL for others, NULL included. */
typedef rt_node *(*rt__activation)(rt_node *x);
rt__activation rt__activation_find(const char *name);

/* Sinusoidal features (B,dim) of t (B): diffusers' get_timestep_embedding, its frequencies in float32. */
enum { RT_TIMESTEP_FEATURES = 1 << 14 }; /* at most */
rt_node *rt__timestep_features(rt_node *t, int dim, bool flip_sin_to_cos, double freq_shift);

#endif
