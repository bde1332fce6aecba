/* product.c -- see product.h. The library counts columns first, so it is asked for y' = b' a', which lies in memory as y = a b does. */
#include "backend/cuda/product.h"

enum { MOST_SCRATCH = 32 << 20 };

#define DID(name, ...) rt__cuda_did_blas((rt__cuda_opened()->lib->name)(__VA_ARGS__), #name)

static cudaDataType data_type(rt_dtype type) { return type == RT_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

/* A matrix that has `columns` numbers a row in memory. */
static bool layout(cublasLtMatrixLayout_t *l, rt_dtype type, int64_t rows, int64_t columns, int64_t batch, int64_t step)
{
    const int32_t n = (int32_t)batch;
    return DID(cublasLtMatrixLayoutCreate, l, data_type(type), (uint64_t)columns, (uint64_t)rows, columns) &&
           DID(cublasLtMatrixLayoutSetAttribute, *l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &n, sizeof n) &&
           DID(cublasLtMatrixLayoutSetAttribute, *l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
}

static bool describe(rt__cuda_product *p)
{
    const int32_t turned[2] = {CUBLAS_OP_N, CUBLAS_OP_T}, *ta = &turned[p->ta], *tb = &turned[p->tb];
    const uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cublasComputeType_t compute = p->type == RT_F32 && p->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    return DID(cublasLtMatmulDescCreate, &p->what, compute, CUDA_R_32F) &&
           DID(cublasLtMatmulDescSetAttribute, p->what, CUBLASLT_MATMUL_DESC_TRANSA, tb, sizeof *tb) &&
           DID(cublasLtMatmulDescSetAttribute, p->what, CUBLASLT_MATMUL_DESC_TRANSB, ta, sizeof *ta) &&
           (!p->bias || DID(cublasLtMatmulDescSetAttribute, p->what, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue)) &&
           layout(&p->a, p->type, p->ta ? p->k : p->m, p->ta ? p->m : p->k, p->batch, p->a_step) &&
           layout(&p->b, p->type, p->tb ? p->n : p->k, p->tb ? p->k : p->n, p->batch, p->b_step) &&
           layout(&p->y, p->result, p->m, p->n, p->batch, p->y_step);
}

static bool choose(rt__cuda_product *p)
{
    const rt__cuda_here *here = rt__cuda_opened();
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t best = {.state = CUBLAS_STATUS_NOT_SUPPORTED};
    const uint64_t most = MOST_SCRATCH;
    int found = 0;
    bool ok = DID(cublasLtMatmulPreferenceCreate, &preference) &&
              DID(cublasLtMatmulPreferenceSetAttribute, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
    static const unsigned alignments[] = {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (size_t i = 0; i < RT_COUNT(alignments) && ok; i++) /* the library takes 256 for granted */
        ok = DID(cublasLtMatmulPreferenceSetAttribute, preference, alignments[i], &p->alignment, sizeof p->alignment);
    if (ok) {
        cublasStatus_t status =
            (here->lib->cublasLtMatmulAlgoGetHeuristic)(here->blas, p->what, p->b, p->a, p->y, p->y, preference, 1, &best, &found);
        ok = status == CUBLAS_STATUS_NOT_SUPPORTED ? false : rt__cuda_did_blas(status, "cublasLtMatmulAlgoGetHeuristic");
    }
    if (preference) DID(cublasLtMatmulPreferenceDestroy, preference);
    p->algorithm = best.algo;
    p->scratch = best.workspaceSize;
    return ok && found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
}

bool rt__cuda_product_make(rt__cuda_product *p)
{
    if (describe(p) && choose(p)) return true;
    rt__cuda_product_free(p);
    return false;
}

void rt__cuda_product_free(rt__cuda_product *p)
{
    if (p->y) DID(cublasLtMatrixLayoutDestroy, p->y);
    if (p->b) DID(cublasLtMatrixLayoutDestroy, p->b);
    if (p->a) DID(cublasLtMatrixLayoutDestroy, p->a);
    if (p->what) DID(cublasLtMatmulDescDestroy, p->what);
    p->a = p->b = p->y = NULL;
    p->what = NULL;
}

void rt__cuda_product_run(const rt__cuda_product *p, const void *a, const void *b, void *y, const void *bias, void *scratch)
{
    const rt__cuda_here *here = rt__cuda_opened();
    if (p->bias && !DID(cublasLtMatmulDescSetAttribute, p->what, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias)) return;
    DID(cublasLtMatmul, here->blas, p->what, &p->alpha, b, p->b, a, p->a, &p->beta, y, p->y, y, p->y, &p->algorithm, scratch, p->scratch,
        here->stream);
}
