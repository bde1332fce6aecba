/* cudnn_plan.c -- see cudnn_plan.h. */
#include "backend/cuda/cudnn_plan.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, OFFERED = 32, NOTES = 32 };

/* A plan in the making: the first failure sticks, and what follows does nothing. */
typedef struct maker {
    rt__cudnn_plan *plan;
    const rt__cudnn *cudnn;
    cudnnStatus_t status;
    const char *what;
} maker;

static bool did(maker *m, cudnnStatus_t status, const char *what)
{
    if (status != CUDNN_STATUS_SUCCESS && m->status == CUDNN_STATUS_SUCCESS) m->status = status, m->what = what;
    return status == CUDNN_STATUS_SUCCESS;
}

static cudnnBackendDescriptor_t make(maker *m, cudnnBackendDescriptorType_t type)
{
    rt__cudnn_plan *p = m->plan;
    cudnnBackendDescriptor_t d = NULL;
    if (m->status != CUDNN_STATUS_SUCCESS || p->n_made == RT_CUDNN_DESCRIPTORS) return NULL;
    if (did(m, (m->cudnn->lib->cudnnBackendCreateDescriptor)(type, &d), "cudnnBackendCreateDescriptor")) p->made[p->n_made++] = d;
    return d;
}

static void set(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n,
                const void *values)
{
    if (m->status == CUDNN_STATUS_SUCCESS)
        did(m, (m->cudnn->lib->cudnnBackendSetAttribute)(d, name, type, n, values), "cudnnBackendSetAttribute");
}

static void set_descriptor(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value)
{
    set(m, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void set_numbers(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, int64_t n, const int64_t *values)
{
    set(m, d, name, CUDNN_TYPE_INT64, n, values);
}

static void finish(maker *m, cudnnBackendDescriptor_t d)
{
    if (m->status == CUDNN_STATUS_SUCCESS) did(m, (m->cudnn->lib->cudnnBackendFinalize)(d), "cudnnBackendFinalize");
}

/* The device: for graphs and plans by handle, for heuristics and plans by properties. */
static void set_device(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t handle, cudnnBackendAttributeName_t properties)
{
    const rt__cudnn *c = m->cudnn;
    if (c->handle && handle) set(m, d, handle, CUDNN_TYPE_HANDLE, 1, &c->handle);
    if (!c->handle && properties) set_descriptor(m, d, properties, c->properties);
}

/* What did not work: cuDNN cannot do it, which is an answer, or it failed. */
static rt_status outcome(const maker *m, rt_error *err)
{
    char text[256] = "";
    cudnnStatus_t s = m->status;
    if (s == CUDNN_STATUS_SUCCESS || s / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000) return RT_OK;
    bool memory = s == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED || s == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    (m->cudnn->lib->cudnnGetLastErrorString)(text, sizeof text);
    RT_RAISE(memory ? RT_E_MEMORY : RT_E_DEVICE, "cuDNN: %s: %s (%s)", m->what, (m->cudnn->lib->cudnnGetErrorString)(s), text);
}

rt_status rt__cudnn_properties(rt__cudnn *cudnn, const char *json, size_t size, rt_error *err)
{
    rt__cudnn_plan one = {0};
    maker m = {.plan = &one, .cudnn = cudnn};
    cudnnBackendDescriptor_t d = make(&m, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    set(&m, d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)size, json);
    finish(&m, d);
    if (m.status == CUDNN_STATUS_SUCCESS) {
        cudnn->properties = d;
        return RT_OK;
    }
    rt_error why = {0};
    if (outcome(&m, &why) == RT_OK) rt_error_set(&why, RT_E_DEVICE, "it is not supported");
    rt__cudnn_plan_free(&one, cudnn);
    RT_RAISE(why.status, "cuDNN takes no such properties of a device: %s", why.text);
}

/* ---- operands */

/* Operand number `id` of a run, from 1. */
static cudnnBackendDescriptor_t tensor(maker *m, int64_t id, rt_dtype type, const int64_t *dim, const int64_t *step, bool by_value)
{
    cudnnBackendDescriptor_t d = make(m, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    const unsigned own = type == RT_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const int64_t alignment = ALIGNMENT;
    set(m, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &own);
    set_numbers(m, d, CUDNN_ATTR_TENSOR_DIMENSIONS, 4, dim);
    set_numbers(m, d, CUDNN_ATTR_TENSOR_STRIDES, 4, step);
    set_numbers(m, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, 1, &id);
    set_numbers(m, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1, &alignment);
    if (by_value) set(m, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    finish(m, d);
    if (id > m->plan->operands) m->plan->operands = (int)id;
    return d;
}

static cudnnBackendDescriptor_t image(maker *m, int64_t id, const rt__cudnn_conv *v, const int64_t *dim)
{
    const int64_t c = dim[1], h = dim[2], w = dim[3];
    const int64_t plain[4] = {c * h * w, h * w, w, 1}, last[4] = {c * h * w, 1, w * c, c};
    return tensor(m, id, v->type, dim, v->last ? last : plain, false);
}

/* ---- plans */

static bool admissible(maker *m, cudnnBackendDescriptor_t config, rt_dtype type, int64_t *number)
{
    const rt__cuda_library *lib = m->cudnn->lib;
    cudnnBackendDescriptor_t engine = make(m, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    unsigned notes[NOTES];
    int64_t n = 0;
    if (m->status != CUDNN_STATUS_SUCCESS) return false;
    did(m, (lib->cudnnBackendGetAttribute)(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine),
        "the engine");
    did(m, (lib->cudnnBackendGetAttribute)(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n, number), "the engine");
    did(m, (lib->cudnnBackendGetAttribute)(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES, &n, notes),
        "the engine");
    m->plan->n_made--; /* an engine that was asked for is not part of the graph */
    (lib->cudnnBackendDestroyDescriptor)(engine);
    bool exact = type == RT_F32 && m->cudnn->true_float, good = m->status == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; i < n && good; i++) switch (notes[i]) {
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS: good = false; break;
        case CUDNN_NUMERICAL_NOTE_WINOGRAD:
        case CUDNN_NUMERICAL_NOTE_FFT: good = type == RT_F32 && !exact; break;
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: good = !exact; break;
        default: break;
        }
    return good;
}

/* Finishes the plan of a configuration; false, without a failure, where cuDNN cannot. */
static bool finish_plan(maker *m, cudnnBackendDescriptor_t config)
{
    const rt__cuda_library *lib = m->cudnn->lib;
    int64_t n = 0, bytes = 0;
    cudnnBackendDescriptor_t p = make(m, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set_device(m, p, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    set_descriptor(m, p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    finish(m, p);
    if (m->status == CUDNN_STATUS_SUCCESS)
        did(m, (lib->cudnnBackendGetAttribute)(p, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes),
            "the scratch");
    if (m->status == CUDNN_STATUS_SUCCESS) {
        m->plan->plan = p;
        m->plan->scratch = (size_t)bytes;
        return true;
    }
    rt_error why = {0};
    if (p) m->plan->n_made--, (lib->cudnnBackendDestroyDescriptor)(p);
    if (outcome(m, &why) == RT_OK) m->status = CUDNN_STATUS_SUCCESS;
    return false;
}

/* What the heuristics offer in a mode; false when there is no more to be done. */
static bool try_mode(maker *m, cudnnBackendDescriptor_t graph, unsigned mode, rt_dtype type, int *k)
{
    const rt__cuda_library *lib = m->cudnn->lib;
    rt__cudnn_plan *p = m->plan;
    const int before = p->n_made;
    int64_t offered = 0;
    cudnnBackendDescriptor_t configs[OFFERED], h = make(m, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_descriptor(m, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(m, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    set_device(m, h, 0, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
    finish(m, h);
    if (m->status == CUDNN_STATUS_SUCCESS)
        did(m, (lib->cudnnBackendGetAttribute)(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &offered, NULL),
            "the heuristics");
    if (offered > OFFERED) offered = OFFERED;
    for (int64_t i = 0; i < offered; i++) configs[i] = make(m, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (m->status == CUDNN_STATUS_SUCCESS)
        did(m, (lib->cudnnBackendGetAttribute)(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, offered, &offered, configs),
            "the heuristics");
    for (int64_t i = 0; i < offered && m->status == CUDNN_STATUS_SUCCESS; i++) {
        if (admissible(m, configs[i], type, &p->engine) && finish_plan(m, configs[i])) {
            if ((*k)-- == 0) return false;
            (lib->cudnnBackendDestroyDescriptor)(p->made[--p->n_made]);
            p->plan = NULL;
        }
        p->passed++;
    }
    rt_error why = {0};
    if (outcome(m, &why) != RT_OK) return false;
    m->status = CUDNN_STATUS_SUCCESS; /* heuristics without an answer: the next mode's turn */
    while (p->n_made > before) (lib->cudnnBackendDestroyDescriptor)(p->made[--p->n_made]);
    return true;
}

static rt_status plan_of(maker *m, cudnnBackendDescriptor_t operation, rt_dtype type, int k, rt_error *err)
{
    rt__cudnn_plan *p = m->plan;
    cudnnBackendDescriptor_t graph = make(m, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set_device(m, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, 0);
    set_descriptor(m, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
    finish(m, graph);
    if (m->status == CUDNN_STATUS_SUCCESS && try_mode(m, graph, CUDNN_HEUR_MODE_A, type, &k))
        try_mode(m, graph, CUDNN_HEUR_MODE_FALLBACK, type, &k);
    rt_status status = outcome(m, err);
    if (status != RT_OK) rt__cudnn_plan_free(p, m->cudnn);
    return status;
}

rt_status rt__cudnn_plan_conv(rt__cudnn_plan *plan, const rt__cudnn *cudnn, const rt__cudnn_conv *v, int k, rt_error *err)
{
    static const struct {
        unsigned operation, x, w, y, conv, alpha, beta;
    } names[] = {
        [RT_CUDNN_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        [RT_CUDNN_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        [RT_CUDNN_WEIGHT] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    *plan = (rt__cudnn_plan){0};
    maker maker_ = {.plan = plan, .cudnn = cudnn}, *m = &maker_;
    const rt_conv *c = &v->conv;
    const int64_t axes = 2, stride[] = {c->stride[0], c->stride[1]}, dilation[] = {c->dilation[0], c->dilation[1]};
    const int64_t before[] = {c->pad[2], c->pad[0]}, after[] = {c->pad[3], c->pad[1]};
    const unsigned sums = CUDNN_DATA_FLOAT, mode = CUDNN_CROSS_CORRELATION;
    const float one = 1, none = 0;
    cudnnBackendDescriptor_t x = image(m, 1, v, v->x), w = image(m, 2, v, v->w), y = image(m, 3, v, v->y);
    cudnnBackendDescriptor_t conv = make(m, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(m, conv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    set(m, conv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set_numbers(m, conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 1, &axes);
    set_numbers(m, conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, axes, dilation);
    set_numbers(m, conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, axes, stride);
    set_numbers(m, conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, axes, before);
    set_numbers(m, conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, axes, after);
    finish(m, conv);
    cudnnBackendDescriptor_t operation = make(m, names[v->kind].operation);
    set_descriptor(m, operation, names[v->kind].x, x);
    set_descriptor(m, operation, names[v->kind].w, w);
    set_descriptor(m, operation, names[v->kind].y, y);
    set_descriptor(m, operation, names[v->kind].conv, conv);
    set(m, operation, names[v->kind].alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(m, operation, names[v->kind].beta, CUDNN_TYPE_FLOAT, 1, &none);
    finish(m, operation);
    return plan_of(m, operation, v->type, k, err);
}

rt_status rt__cudnn_plan_attention(rt__cudnn_plan *plan, const rt__cudnn *cudnn, const rt__cudnn_attention *a, int k, rt_error *err)
{
    *plan = (rt__cudnn_plan){0};
    maker maker_ = {.plan = plan, .cudnn = cudnn}, *m = &maker_;
    const int64_t c = a->heads * a->d, dim[] = {a->n, a->heads, a->pixels, a->d}, one[] = {1, 1, 1, 1};
    const int64_t from[] = {a->pixels * 3 * c, a->d, 3 * c, 1}, to[] = {a->pixels * c, a->d, c, 1};
    static const unsigned names[] = {CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC,
                                     CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC};
    cudnnBackendDescriptor_t operands[4], scale = tensor(m, 5, RT_F32, one, one, true);
    for (int i = 0; i < 4; i++) operands[i] = tensor(m, i + 1, RT_BF16, dim, i < 3 ? from : to, false);
    cudnnBackendDescriptor_t operation = make(m, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    for (int i = 0; i < 4; i++) set_descriptor(m, operation, names[i], operands[i]);
    set_descriptor(m, operation, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    finish(m, operation);
    return plan_of(m, operation, RT_BF16, k, err);
}

void rt__cudnn_plan_free(rt__cudnn_plan *plan, const rt__cudnn *cudnn)
{
    while (plan->n_made > 0) (cudnn->lib->cudnnBackendDestroyDescriptor)(plan->made[--plan->n_made]);
    plan->plan = NULL;
}

char *rt__cudnn_plan_json(const rt__cudnn_plan *plan, const rt__cudnn *cudnn)
{
    int64_t n = 0;
    if ((cudnn->lib->cudnnBackendGetAttribute)(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &n, NULL) !=
        CUDNN_STATUS_SUCCESS)
        return NULL;
    char *text = calloc((size_t)n + 1, 1);
    if (text && (cudnn->lib->cudnnBackendGetAttribute)(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, n, &n,
                                                       text) == CUDNN_STATUS_SUCCESS)
        return text;
    free(text);
    return NULL;
}

cudnnStatus_t rt__cudnn_run(const rt__cudnn_plan *plan, const rt__cudnn *cudnn, void *const *data, void *scratch)
{
    const rt__cuda_library *lib = cudnn->lib;
    static const int64_t ids[RT_CUDNN_OPERANDS] = {1, 2, 3, 4, 5};
    const struct {
        unsigned name, type;
        int64_t n;
        const void *values;
    } all[] = {{CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, plan->operands, ids},
               {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, plan->operands, data},
               {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &scratch}};
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t status = (lib->cudnnBackendCreateDescriptor)(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    for (size_t i = 0; i < RT_COUNT(all) && status == CUDNN_STATUS_SUCCESS; i++)
        status = (lib->cudnnBackendSetAttribute)(pack, all[i].name, all[i].type, all[i].n, all[i].values);
    if (status == CUDNN_STATUS_SUCCESS) status = (lib->cudnnBackendFinalize)(pack);
    if (status == CUDNN_STATUS_SUCCESS) status = (lib->cudnnBackendExecute)(cudnn->handle, plan->plan, pack);
    (lib->cudnnBackendDestroyDescriptor)(pack);
    return status;
}
