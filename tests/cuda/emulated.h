/* emulated.h -- the backend "cuda-emulated": own kernels of the CUDA backend on the processor, in the host's memory; other rows are the reference's. */
#ifndef RT_TESTS_CUDA_EMULATED_H
#define RT_TESTS_CUDA_EMULATED_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
struct rt__cuda_launch;
void rt__emulate(void *, const struct rt__cuda_launch *launch); /* an rt__cuda_take */
void rt__emulate_order(uint64_t order);                         /* in which blocks and threads run from here on */
long rt__emulate_divergent(void);                               /* barriers so far that some threads never reached */
#ifdef __cplusplus
}
#endif

extern const struct rt_backend rt__backend_emulated;

#endif
