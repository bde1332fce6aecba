/* cudnn_plan.h -- cuDNN 9's graphs of one operation as plans: what to compute, by which engine, with how much scratch. Plans are made for a handle's device, or
 * on a machine without any for a device of which only the properties are known.
 *
 * The rule, so that equal commands give equal bits: of the configurations that the heuristics offer, then of those that they fall back to, in their order, the
 * first admissible one that can be finished. Not admissible are engines that add up in changing order, that round inputs to half, that transform (Winograd, FFT)
 * in bf16 or where true float is asked for, and there those that use tensor cores (TF32). */
#ifndef RT_CUDA_CUDNN_PLAN_H
#define RT_CUDA_CUDNN_PLAN_H

#include "backend/cuda/cuda_library.h"
#include "retort/ops.h"

typedef struct rt__cudnn {
    const rt__cuda_library *lib;
    cudnnHandle_t handle;                /* NULL: by properties */
    cudnnBackendDescriptor_t properties; /* NULL: by handle */
    bool true_float;                     /* no TF32 */
} rt__cudnn;

/* cudnn->properties from a device's JSON. RT_E_DEVICE: cuDNN does not take it. */
rt_status rt__cudnn_properties(rt__cudnn *cudnn, const char *json, size_t size, rt_error *err);

enum { RT_CUDNN_OPERANDS = 5, RT_CUDNN_DESCRIPTORS = 80 };

typedef struct rt__cudnn_plan {
    cudnnBackendDescriptor_t plan; /* NULL: none is admissible */
    size_t scratch;
    int64_t engine;
    int passed; /* configurations before it that were not admissible, or failed */
    /* all descriptors of the graph, which live as long as the plan */
    cudnnBackendDescriptor_t made[RT_CUDNN_DESCRIPTORS];
    int n_made, operands;
} rt__cudnn_plan;

typedef enum rt__cudnn_kind { RT_CUDNN_FORWARD, RT_CUDNN_DATA, RT_CUDNN_WEIGHT } rt__cudnn_kind;

/* x (N,C,H,W), w (O,C/groups,kh,kw), y (N,O,oh,ow), all plain or all channels last (w: as O images), all in one type, sums in float. */
typedef struct rt__cudnn_conv {
    rt__cudnn_kind kind;
    rt_dtype type; /* RT_F32, RT_BF16 */
    bool last;
    int64_t x[4], w[4], y[4];
    rt_conv conv;
} rt__cudnn_conv;

/* Queries, keys and values (N,L,3,heads,d), results (N,L,heads,d), both in bf16. */
typedef struct rt__cudnn_attention {
    int64_t n, heads, pixels, d;
} rt__cudnn_attention;

/* Admissible plan number k (0: by the rule) of an operation; plan->plan NULL: there are no more. RT_E_MEMORY, RT_E_DEVICE: cuDNN failed. To be freed in any
 * case but a failure's. */
rt_status rt__cudnn_plan_conv(rt__cudnn_plan *plan, const rt__cudnn *cudnn, const rt__cudnn_conv *conv, int k, rt_error *err);
rt_status rt__cudnn_plan_attention(rt__cudnn_plan *plan, const rt__cudnn *cudnn, const rt__cudnn_attention *attention, int k,
                                   rt_error *err);
void rt__cudnn_plan_free(rt__cudnn_plan *plan, const rt__cudnn *cudnn);
/* The plan as cuDNN writes it, from rt__malloc; NULL: it cannot, or memory is out. */
char *rt__cudnn_plan_json(const rt__cudnn_plan *plan, const rt__cudnn *cudnn);

/* Requests the operation. data: x, w, y of a convolution, whatever its kind; q, k, v, o and the scale's address on the host of an attention. */
cudnnStatus_t rt__cudnn_run(const rt__cudnn_plan *plan, const rt__cudnn *cudnn, void *const *data, void *scratch);

#endif
