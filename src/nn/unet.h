/* unet.h -- the settings of a UNet2DModel, checked; for unet_config.c, which reads them, and unet.c, which builds. */
#ifndef RT_NN_UNET_H
#define RT_NN_UNET_H

#include "nn/layers.h"

enum { RT_UNET_LEVELS = 12, RT_UNET_LAYERS = 32 };

typedef enum rt__time_kind { RT_TIME_POSITIONAL, RT_TIME_FOURIER, RT_TIME_LEARNED } rt__time_kind;
typedef enum rt__sampling { RT_SAMPLING_CONV, RT_SAMPLING_RESNET } rt__sampling; /* how a block changes resolution */

typedef struct rt__block {
    bool attention;
    rt__sampling sampling;
} rt__block;

typedef struct rt__unet {
    int height, width, in_channels, out_channels;
    int levels, channels[RT_UNET_LEVELS], layers; /* resnets per down block; up blocks have one more */
    rt__block down[RT_UNET_LEVELS], up[RT_UNET_LEVELS];
    bool mid, mid_attention;
    double mid_scale;
    int groups, mid_attention_groups; /* mid_attention_groups 0: no norm there */
    double eps;
    int head_dim; /* 0: one head as wide as the block */
    int downsample_padding;
    bool scale_shift, center_input;
    rt__activation act;
    rt__time_kind time;
    bool flip_sin_to_cos;
    double freq_shift;
    int time_dim, timesteps; /* width of the embedding; rows of a learned one */
    bool target_time;        /* a second time, where to go */
    bool guidance;           /* and the weight of guidance */
    bool camera;             /* and a camera */
    int draws;               /* seen beside x */
    rt_label label;          /* CLASS: a table, NUMBER: embedded as times are, VECTOR: added as it is */
    int classes;
} rt__unet;

rt_node *rt__unet_apply(const rt__unet *u, rt_params *set, rt_node *x, rt_node *t, rt_node *y);
/* The outputs of the blocks down before they halve, `levels` of them, and of the mid block, where there is one. */
void rt__unet_levels(const rt__unet *u, rt_params *set, rt_node *x, rt_node *t, rt_node *y, rt_node **out);

#endif
