/* product.h -- products of row-major matrices by cuBLASLt, a bias added on the way: y = alpha a b + beta y (+ bias). */
#ifndef RT_CUDA_PRODUCT_H
#define RT_CUDA_PRODUCT_H

#include "backend/cuda/cuda_device.h"

typedef struct rt__cuda_product {
    int64_t m, n, k;
    bool ta, tb;                           /* a is (k,m) instead of (m,k), b (n,k) instead of (k,n) */
    int64_t batch, a_step, b_step, y_step; /* so many products; elements from one matrix to the next, 0: the same one again */
    rt_dtype type, result;                 /* of a and b; of y and the bias: RT_F32, RT_BF16 */
    bool tf32, bias;                       /* tf32: floats may be rounded to TF32. bias (n) */
    float alpha, beta;
    uint32_t alignment; /* bytes: what all addresses are multiples of */
    /* by rt__cuda_product_make */
    size_t scratch;
    cublasLtMatmulDesc_t what;
    cublasLtMatrixLayout_t a, b, y;
    cublasLtMatmulAlgo_t algorithm;
} rt__cuda_product;

/* Chooses the algorithm that the heuristics name first. false: there is none, or what failed was noted. */
bool rt__cuda_product_make(rt__cuda_product *p);
void rt__cuda_product_free(rt__cuda_product *p);
void rt__cuda_product_run(const rt__cuda_product *p, const void *a, const void *b, void *y, const void *bias, void *scratch);

#endif
