/* library_rows.h -- rows that libraries compute: convolutions by cuDNN, or as products where they are 1x1; products by cuBLASLt; attention by cuDNN, or as products and
 * softmaxes. */
#ifndef RT_CUDA_LIBRARY_ROWS_H
#define RT_CUDA_LIBRARY_ROWS_H

#include "backend/cuda/cuda_device.h"

typedef struct rt__cuda_job rt__cuda_job;

/* What computes a call, and the scratch that it takes; NULL: not a library's, none can, or what failed was noted. k: of a convolution, the k-th of cuDNN's
 * admissible plans. */
rt__cuda_job *rt__cuda_job_new(const rt_call *c, int k, size_t *scratch);
/* What is converted from a fixed operand is kept from run to run. */
void rt__cuda_job_keep(rt__cuda_job *j, const rt_call *c);
size_t rt__cuda_job_kept(const rt__cuda_job *j);
void rt__cuda_job_run(rt__cuda_job *j, const rt_call *c);
void rt__cuda_job_free(rt__cuda_job *j);

#endif
