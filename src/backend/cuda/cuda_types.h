/* cuda_types.h -- what is used of NVIDIA's binary interfaces, declared here: the driver's (CUDA 12 and 13), cuBLASLt's (12 and 13), cuDNN 9's backend and NCCL 2's. So the
 * backend is built where no toolkit is. tests/meta/cuda_interface compares all of it with the vendor's headers where they are. Enumerations are unsigned. */
#ifndef RT_CUDA_TYPES_H
#define RT_CUDA_TYPES_H

#include <stddef.h>
#include <stdint.h>

enum {
#define RT_CONSTANT(name, value) name = value,
#include "backend/cuda/cuda_constants.def"
#undef RT_CONSTANT
};

typedef int CUdevice;
typedef unsigned CUresult, CUdevice_attribute, CUstreamCaptureMode;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream, *cudaStream_t;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct {
    char bytes[16];
} CUuuid;

typedef unsigned cublasStatus_t, cublasComputeType_t, cudaDataType, cudaDataType_t, cublasLtMatmulDescAttributes_t,
    cublasLtMatrixLayoutAttribute_t, cublasLtMatmulPreferenceAttributes_t;
typedef struct cublasLtContext *cublasLtHandle_t;
typedef struct cublasLtMatmulDescOpaque_t *cublasLtMatmulDesc_t;
typedef struct cublasLtMatrixLayoutOpaque_t *cublasLtMatrixLayout_t;
typedef struct cublasLtMatmulPreferenceOpaque_t *cublasLtMatmulPreference_t;
typedef struct {
    uint64_t data[8];
} cublasLtMatmulAlgo_t;
typedef struct {
    cublasLtMatmulAlgo_t algo;
    size_t workspaceSize;
    cublasStatus_t state;
    float wavesCount;
    int reserved[4];
} cublasLtMatmulHeuristicResult_t;

typedef unsigned cudnnStatus_t, cudnnBackendDescriptorType_t, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t;
typedef struct cudnnContext *cudnnHandle_t;
typedef void *cudnnBackendDescriptor_t;

typedef unsigned ncclResult_t, ncclDataType_t;
typedef struct ncclComm *ncclComm_t;
typedef struct {
    char internal[128];
} ncclUniqueId;
/* As of 2.14: later versions see by `size` and `version` that it is shorter than theirs. */
#define RT_NCCL_CONFIG_MAGIC 0xcafebeefU
typedef struct {
    size_t size;
    unsigned magic, version;
    int blocking;
} ncclConfig_t;

#endif
