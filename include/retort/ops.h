/* ops.h -- the vocabulary of graphs: one builder per operator, and the compositions that every objective uses.
 *
 * Shapes are logical: images are (N,C,H,W), sequences (N,L,C), vectors (N,D); axes may be negative. Binary builders broadcast as numpy does.
 * Types must agree (cast with rt_cast). Builders return a node and never fail on the spot: see graph.h. */
#ifndef RETORT_OPS_H
#define RETORT_OPS_H

#include "retort/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* sources */
rt_node *rt_input(rt_graph *g, const char *name, rt_dtype dtype, int rank, const int64_t *shape); /* written by the caller before a run */
rt_node *rt_param(rt_graph *g, rt_params *set, const char *name, int rank, const int64_t *shape, rt_init init); /* key: layer path + name */
rt_node *rt_param_frozen(rt_graph *g, rt_params *set, const char *name, int rank, const int64_t *shape, rt_init init);
rt_node *rt_const(rt_graph *g, rt_dtype dtype, int rank, const int64_t *shape, const void *data); /* copies */
rt_node *rt_scalar(rt_graph *g, double value);                                                    /* rank 0, the graph's real type */
rt_node *rt_reals(rt_graph *g, int rank, const int64_t *shape, const double *values);             /* constant in the graph's real type */
rt_node *rt_zeros_like(rt_node *x);
rt_node *rt_batch_size(rt_graph *g); /* B_global of the run, rank 0 */

/* draws: the same name in one graph is the same value. With RT_BATCH in front row i belongs to sample i of the whole batch; without it the draw is
 * one for the whole batch */
rt_node *rt_randn(rt_graph *g, const char *name, int rank, const int64_t *shape);
rt_node *rt_rand(rt_graph *g, const char *name, int rank, const int64_t *shape);                   /* uniform in (0,1) */
rt_node *rt_randint(rt_graph *g, const char *name, int rank, const int64_t *shape, int64_t below); /* I64, uniform in 0..below-1 */

/* element by element */
rt_node *rt_add(rt_node *a, rt_node *b);
rt_node *rt_sub(rt_node *a, rt_node *b);
rt_node *rt_mul(rt_node *a, rt_node *b);
rt_node *rt_div(rt_node *a, rt_node *b);
rt_node *rt_maximum(rt_node *a, rt_node *b); /* at a tie the gradient is halved, as in PyTorch */
rt_node *rt_minimum(rt_node *a, rt_node *b);
rt_node *rt_less(rt_node *a, rt_node *b); /* BOOL */
rt_node *rt_equal(rt_node *a, rt_node *b);
rt_node *rt_where(rt_node *cond, rt_node *a, rt_node *b);
rt_node *rt_scale(rt_node *x, double factor);
rt_node *rt_offset(rt_node *x, double term);
rt_node *rt_neg(rt_node *x);
rt_node *rt_abs(rt_node *x);
rt_node *rt_sign(rt_node *x);
rt_node *rt_square(rt_node *x);
rt_node *rt_sqrt(rt_node *x);
rt_node *rt_rsqrt(rt_node *x);
rt_node *rt_recip(rt_node *x);
rt_node *rt_pow(rt_node *x, double exponent);
rt_node *rt_exp(rt_node *x);
rt_node *rt_log(rt_node *x);
rt_node *rt_sin(rt_node *x);
rt_node *rt_cos(rt_node *x);
rt_node *rt_erf(rt_node *x);
rt_node *rt_tanh(rt_node *x);
rt_node *rt_sigmoid(rt_node *x);
rt_node *rt_softplus(rt_node *x);
rt_node *rt_relu(rt_node *x);
rt_node *rt_silu(rt_node *x);
rt_node *rt_mish(rt_node *x);
rt_node *rt_gelu_tanh(rt_node *x);
rt_node *rt_gelu_erf(rt_node *x);
rt_node *rt_geglu(rt_node *x); /* first half of the last axis times gelu_erf of the second */
rt_node *rt_cast(rt_node *x, rt_dtype dtype);
rt_node *rt_stop_grad(rt_node *x); /* sg[x] */

/* reductions; `axes` is a bit mask of axes (bit i: axis i), RT_ALL_AXES for all */
#define RT_ALL_AXES 0xffffffffu
unsigned rt_axis_bit(const rt_node *x, int axis); /* the bit of one axis, negative ones allowed */
rt_node *rt_sum(rt_node *x, unsigned axes, bool keep);
rt_node *rt_mean(rt_node *x, unsigned axes, bool keep); /* not over the symbolic batch: that is rt_expect */
rt_node *rt_max(rt_node *x, unsigned axes, bool keep);  /* equal extremes share the gradient evenly */
rt_node *rt_min(rt_node *x, unsigned axes, bool keep);
rt_node *rt_var(rt_node *x, unsigned axes, double correction, bool keep);
rt_node *rt_logsumexp(rt_node *x, unsigned axes, bool keep);
rt_node *rt_cumsum(rt_node *x, int axis);

/* The expectation of the objectives: per-sample values (B) or (B,...) to their mean over the global batch, rank 0: batch_sum / B_global. Features
 * are summed first, so no 1/d hides in it. A fixed number of rows is averaged likewise. */
rt_node *rt_expect(rt_node *per_sample);
rt_node *rt_dot(rt_node *a, rt_node *b);                 /* per sample: sum over the features, (B,...) x (B,...) -> (B) */
rt_node *rt_norm2(rt_node *a);                           /* per sample squared norm: rt_dot(a, a) */
rt_node *rt_per_sample(rt_node *v, const rt_node *like); /* (B) -> (B,1,..,1) of like's rank, to multiply samples by numbers */

/* matrices */
rt_node *rt_matmul(rt_node *a, rt_node *b, bool transpose_a, bool transpose_b); /* (..,m,k) x (..,k,n), leading axes broadcast */
rt_node *rt_linear(rt_node *x, rt_node *w, rt_node *b);                         /* (..,in) x (out,in)^T + (out); b NULL: none */
rt_node *rt_softmax(rt_node *x, int axis);
rt_node *rt_log_softmax(rt_node *x, int axis);
/* softmax(scale q k^T) v over (..,L,D) x (..,M,D) x (..,M,E); causal masks k > q. */
rt_node *rt_attention(rt_node *q, rt_node *k, rt_node *v, double scale, bool causal);
/* The same over the pixels of an image, fused: x (N,3 C,H,W) holds queries, keys and values, each of C = heads d channels, to (N,C,H,W). */
rt_node *rt_self_attention(rt_node *x, int64_t heads, double scale);

/* images */
typedef struct rt_conv {
    int stride[2];   /* y, x */
    int pad[4];      /* left, right, top, bottom zeros */
    int dilation[2]; /* y, x; 1 is dense */
    int groups;
} rt_conv;
#define RT_CONV(s, p) (&(rt_conv){{(s), (s)}, {(p), (p), (p), (p)}, {1, 1}, 1})
rt_node *rt_conv2d(rt_node *x, rt_node *w, rt_node *b, const rt_conv *conv); /* w (out, in/groups, kh, kw); b (out) or NULL */
rt_node *rt_conv_transpose2d(rt_node *x, rt_node *w, rt_node *b, const rt_conv *conv,
                             const int output_padding[2]);                          /* w (in, out/groups, kh, kw) */
rt_node *rt_group_norm(rt_node *x, rt_node *w, rt_node *b, int groups, double eps); /* (N,C,...); w, b (C) or both NULL */
rt_node *rt_layer_norm(rt_node *x, rt_node *w, rt_node *b, int dims, double eps);   /* over the last `dims` axes; w, b of those or NULL */
rt_node *rt_rms_norm(rt_node *x, rt_node *w, double eps);                           /* over the last axis; w or NULL */
rt_node *rt_upsample_nearest(rt_node *x, int scale);
rt_node *rt_upsample_bilinear(rt_node *x, int scale, bool align_corners);
typedef struct rt_pool {
    int kernel[2], stride[2], pad[2];
    bool exclude_pad; /* average over the pixels that exist */
} rt_pool;
rt_node *rt_avg_pool2d(rt_node *x, const rt_pool *pool);
rt_node *rt_max_pool2d(rt_node *x, const rt_pool *pool);
typedef enum rt_pad_mode { RT_PAD_ZERO, RT_PAD_REFLECT, RT_PAD_REPLICATE } rt_pad_mode;
rt_node *rt_pad2d(rt_node *x, const int lrtb[4], rt_pad_mode mode);

/* volumes: grid (D,H,W,C) at points (B,N,3) of x, y, z -> (B,N,C); nodes of an axis lie at -1 + 2 i/(n-1), points beyond are as on the nearest face */
rt_node *rt_trilinear(rt_node *grid, rt_node *points);
/* Rays through volumes, as retort/scene.h says, fused: grid (P,D,H,W,4), raw density and raw colour; rays (B,N,9) of origin, direction, near, far and xi; particle
 * (B) I64, which of the P grids, NULL: the first. -> (B,5,N): sum of w_k c_k (3), alpha, depth. Differentiable in the grid. 1 to 1024 samples. */
rt_node *rt_render(rt_node *grid, rt_node *rays, rt_node *particle, int samples, double density_bias);
rt_node *rt_render_weights(rt_node *grid, rt_node *rays, rt_node *particle, int samples,
                           double density_bias); /* w_k: (B,N,samples), of simple rows */

/* shape */
rt_node *rt_reshape(rt_node *x, int rank, const int64_t *shape); /* extent 0 stays symbolic if it was; one extent may be RT_INFER */
#define RT_INFER INT64_MIN
rt_node *rt_permute(rt_node *x, const int *order); /* y axis i is x axis order[i]; the batch stays in front */
rt_node *rt_broadcast(rt_node *x, int rank, const int64_t *shape);
rt_node *rt_concat(rt_node *const *x, int n, int axis);
/* Of one axis; stop RT_INFER: to the end. Batches that rt_concat joined are cut apart in multiples of RT_BATCH: (2 RT_BATCH,..) from RT_BATCH. */
rt_node *rt_slice(rt_node *x, int axis, int64_t start, int64_t stop, int64_t step);
rt_node *rt_index_select(rt_node *x, int axis, rt_node *index); /* index (K) I64: y[..,k,..] = x[..,index[k],..] */
rt_node *rt_gather(rt_node *x, int axis, rt_node *index);       /* as torch.gather */
rt_node *rt_embedding(rt_node *table, rt_node *index);          /* table (V,D), index (..) I64 -> (..,D) */

/* losses */
rt_node *rt_mse(rt_node *a, rt_node *b);                    /* mean over all elements; of the global batch where it is symbolic */
rt_node *rt_pseudo_huber(rt_node *a, rt_node *b, double c); /* per row: sqrt(|a-b|^2 + c^2) - c */
rt_node *rt_cross_entropy(rt_node *logits, rt_node *index); /* (N,K), (N) I64 -> mean over the batch */

/* ---- updates ---------------------------------------------------------------------------------------------------------------------
 * An update is a node that makes a new version of a set: parameters fetched after it was built read the new values, those fetched before
 * read the old ones. It sweeps the whole set: clip, step, average. lr and the step count t (from 1) are inputs, so schedules are the loop's. */

typedef enum rt_optimiser_kind { RT_ADAM, RT_ADAMW, RT_RADAM, RT_SGD } rt_optimiser_kind;
typedef struct rt_optimiser {
    rt_optimiser_kind kind;
    double beta1, beta2, eps, weight_decay; /* SGD: beta1 is the momentum */
    double clip;                            /* largest global gradient norm; 0: none */
    bool average;                           /* keep RT_AVERAGE: avg = d avg + (1-d) value, with d from the input */
} rt_optimiser;

typedef struct rt_update {
    rt_node *node;      /* for rt_program_spec.updates */
    rt_node *lr;        /* rank 0 inputs, to be written before each run */
    rt_node *t;         /* number of this update, from 1 */
    rt_node *decay;     /* of the average */
    rt_node *grad_norm; /* outputs if wanted: the global norm before clipping, rank 0 */
} rt_update;

/* d loss / d set for every entry of the set that is not frozen, and the update that uses it. Entries the loss does not reach get zeros. */
rt_update rt_minimise(rt_node *loss, rt_params *set, const rt_optimiser *opt);

/* ---- the rows themselves, for lists and documents */

typedef struct rt_op_row {
    const char *name, *formula;
    int min_in, max_in;   /* inputs; max_in -1: any number */
    const char *batch;    /* how it treats the batch: "maps", "sums", "mixes" */
    const char *gradient; /* "rule", "by expansion", "none" */
} rt_op_row;

/* Row i in the order of ops.def; false past the last. */
bool rt_op_describe(int i, rt_op_row *row);

#ifdef __cplusplus
}
#endif
#endif
