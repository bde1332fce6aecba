/* nn.h -- networks: an architecture is parsed once from its config.json and appended to graphs any number of times, on any parameter set.
 *
 *     rt_net *net;
 *     RT_TRY(rt_net_open(&net, "teacher/unet", err));                     // a folder or a config.json
 *     rt_params *set = rt_params_new("teacher", RT_F32);
 *     RT_TRY(rt_net_declare(net, set, err));                               // entries, named by the checkpoint's keys
 *     RT_TRY(rt_net_load(net, set, "teacher/unet", err));
 *     rt_node *out = rt_net_apply(net, set, x, t, y);                      // raw output, as often as wanted
 *
 * Kinds, by `_class_name`: UNet2DModel (as diffusers 0.42 defines it, complete for evaluation), RetortMLP (vectors), RetortClassifier (images to classes). */
#ifndef RETORT_NN_H
#define RETORT_NN_H

#include "retort/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_net rt_net;

typedef struct rt_net_info {
    const char *kind;              /* "UNet2DModel", "RetortMLP", "RetortClassifier" */
    int in_channels, out_channels; /* vectors: the dimension */
    int height, width;             /* sample_size; 0 for vectors. A UNet also takes other sizes */
    int classes;                   /* rows of the class table, the null class included; 0: unconditional. Classifiers: classes told apart */
    int features;                  /* classifiers: width of the pooled features */
    bool classifier;
} rt_net_info;

/* Row i of `retort list networks`; false past the last. */
bool rt_net_kind_describe(int i, rt_row_text *row);

/* Path of a config.json, or of a folder that holds one. RT_E_INVALID names file, field, value and remedy. */
rt_status rt_net_open(rt_net **net, const char *path, rt_error *err);
void rt_net_free(rt_net *net);
const rt_net_info *rt_net_describe(const rt_net *net);
const char *rt_net_config(const rt_net *net); /* the text of config.json */

/* Raw output. x (B,C,H,W) or (B,D); t (B), the number the network is fed, real; y (B) I64 where there are classes, else NULL. Classifiers take
 * x alone and give logits (B,K). */
rt_node *rt_net_apply(const rt_net *net, rt_params *set, rt_node *x, rt_node *t, rt_node *y);
rt_node *rt_net_features(const rt_net *net, rt_params *set, rt_node *x); /* classifiers: pooled features (B,F) */

/* Adds every parameter of the network to the set, with PyTorch's default initialisation for rt_params_init. */
rt_status rt_net_declare(const rt_net *net, rt_params *set, rt_error *err);
/* Multiplications and additions of one forward of one sample, convolutions counted as direct. */
double rt_net_flop(const rt_net *net);

/* Weights from a diffusers folder: *.safetensors, sharded or not, attention under its present or legacy names. Every entry must be there in its
 * shape and finite, and nothing else. `variant` NULL, or "raw" for diffusion_pytorch_model.raw.safetensors. */
rt_status rt_net_load(const rt_net *net, rt_params *set, const char *folder, const char *variant, rt_error *err);
/* Writes config.json and diffusion_pytorch_model[.variant].safetensors into a folder that exists. `metadata`: key, value, ..., NULL. */
rt_status rt_net_save(const rt_net *net, const rt_params *set, rt_role role, const char *folder, const char *variant,
                      const char *const *metadata, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
