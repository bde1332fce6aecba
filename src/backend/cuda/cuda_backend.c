/* cuda_backend.c -- the backend for NVIDIA's GPUs: rows by libraries (library_rows.c) or own kernels (rows.c), images channels last. Of several plans that cuDNN has for
 * a convolution the rule takes the first; a table of choices may try more. */
#include "backend/cuda/library_rows.h"
#include "graph/choices.h"

#include <stdio.h>

static const char *version(void) { return rt__cuda_device.open(NULL) == RT_OK ? rt__cuda_opened()->name : "no device"; }

/* Weights are plain. */
static int block(const rt_node *y, int input)
{
    bool image = y->op == rt__ops_f32[RT_OP_conv2d_weight] ? input >= 0 : input <= 0;
    return image ? RT_CHANNELS_LAST : 1;
}

static bool bf16(void) { return true; }

/* Images and gradients of images, and products of what is per sample; parameters and their gradients stay float. */
static rt_dtype type(const rt_node *y, int input)
{
    const rt_node *v = input < 0 ? y : y->in[input];
    if (v->rank == 0 || v->shape[0] >= 0) return RT_F32;
    return y->op != rt__ops_f32[RT_OP_matmul] || rt__product_in_bf16(y) ? RT_BF16 : RT_F32;
}

/* The state of a row of an own kernel, which needs none. */
static int own;

static size_t kept(const void *state) { return state == &own ? 0 : rt__cuda_job_kept(state); }

static void run(const rt_call *c)
{
    if (c->state == &own)
        rt__cuda_enqueue(c, rt__cuda_start, NULL);
    else
        rt__cuda_job_run(c->state, c);
    *c->fault = rt__cuda_fault();
}

static void release(void *state)
{
    if (state != &own) rt__cuda_job_free(state);
}

/* ---- ways to compute a convolution */

static const char *const way_names[] = {"plan 0", "plan 1", "plan 2", "plan 3", "plan 4", "plan 5", "plan 6", "plan 7"};

static void *make_way(const rt_call *c, int k, size_t *scratch) { return rt__cuda_job_new(c, k, scratch); }

static double clock_of_device(void)
{
    (void)(rt__cuda_device.finish)(NULL); /* what fails in a trial fails again in a run */
    return rt__seconds();
}

static void *prepare(const rt_call *c, int threads, size_t *scratch)
{
    (void)threads;
    if (rt__cuda_enqueue(c, NULL, NULL)) {
        *scratch = rt__cuda_scratch(c);
        return &own;
    }
    if (c->node->op->layout != RT_LAYOUT_BACKEND) return rt__cuda_job_new(c, 0, scratch);
    char who[sizeof rt__cuda_opened()->name + 8], key[512] = "";
    snprintf(who, sizeof who, "cuda, %s", rt__cuda_opened()->name);
    if (c->choices) rt__choice_key(c, who, key, sizeof key);
    const rt__ways ways = {way_names, RT_COUNT(way_names), 0, make_way, run, release, clock_of_device, &rt__cuda_device};
    rt__cuda_job *j = rt__choose(c, key, &ways, scratch);
    if (j) rt__cuda_job_keep(j, c);
    return j;
}

const rt_backend rt__backend_cuda = {.name = "cuda",
                                     .version = version,
                                     .device = &rt__cuda_device,
                                     .prepare = prepare,
                                     .block = block,
                                     .bf16 = bf16,
                                     .type = type,
                                     .kept = kept,
                                     .run = run,
                                     .release = release};
