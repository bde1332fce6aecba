/* cuda_device.h -- the device of the CUDA backend: the first that the driver shows (CUDA_VISIBLE_DEVICES chooses), or of several ranks on a machine
 * each its own; one stream for all requests, the module of own kernels, the handles of cuBLASLt and cuDNN. A call of any library that fails is noted, the
 * first one since the last finish with its words, and said by the next finish. */
#ifndef RT_CUDA_CUDA_DEVICE_H
#define RT_CUDA_CUDA_DEVICE_H

#include "backend/cuda/cudnn_plan.h"
#include "backend/cuda/kernels.h"

extern const rt_device rt__cuda_device;

typedef struct rt__cuda_here {
    const rt__cuda_library *lib;
    CUdevice number;
    CUstream stream;
    cublasLtHandle_t blas;
    rt__cudnn cudnn;
    char name[256]; /* "NVIDIA H100 80GB HBM3, driver 13.0, cuBLASLt 13.1.0, cuDNN 9.19.0" */
} rt__cuda_here;

/* The open device; after rt__cuda_device.open. */
const rt__cuda_here *rt__cuda_opened(void);

/* Notes what failed; true: nothing did. */
bool rt__cuda_did(CUresult result, const char *what);
bool rt__cuda_did_blas(cublasStatus_t status, const char *what);
bool rt__cuda_did_cudnn(cudnnStatus_t status, const char *what);
void rt__cuda_note(rt_status fault, const char *words); /* what failed, where a library said it otherwise */
rt_status rt__cuda_fault(void);                         /* what was noted since the last finish, RT_OK: nothing */

/* Looks for NCCL, which need not be there; after opening. RT_E_DEVICE says what is missing. */
rt_status rt__cuda_open_nccl(rt_error *err);

/* An rt__cuda_take: requests a launch. */
void rt__cuda_start(void *unused, const rt__cuda_launch *launch);

void rt__cuda_close(void); /* gives everything back; the next open starts anew */
/* For tests: the next open takes these functions and this module; NULL: the real ones. Closes what is open. */
void rt__cuda_pretend(const rt__cuda_library *lib, const void *module);

#endif
