/* fake_cuda.h -- NVIDIA's libraries without a GPU: a table of functions that keep requests in order and carry them out, on the processor, when the stream is waited for.
 *
 * Memory of the device can be neither read nor written by the host: it is open to requests only, while they are carried out. Own kernels run by emulate.h, products,
 * convolutions and attention as loops. Between the beginning and the end of a capture only requests are allowed. */
#ifndef RT_TESTS_CUDA_FAKE_CUDA_H
#define RT_TESTS_CUDA_FAKE_CUDA_H

#include "backend/cuda/cuda_library.h"

const rt__cuda_library *fake_cuda(void);
const void *fake_module(void);
void fake_cuda_use(void); /* the backend `cuda` computes by these from here on */

/* Call number k from now on (1, 2, ..; 0: none) that returns a status fails: as out of memory, where it can, or otherwise. */
void fake_fail(long k, bool memory);
/* Only functions whose names begin so are counted; "": all. */
void fake_count(const char *beginning);
long fake_calls(void);         /* since then */
const char *fake_failed(void); /* the function that failed; NULL: none did */
long fake_live(void);          /* memory, handles, descriptors, .. that were made and not given back */
void fake_limit(size_t bytes); /* of the device's memory; 0: none */
void fake_idle(bool idle);     /* requests are counted and not carried out, but those of NCCL */
void fake_devices(int n);      /* that the driver shows, 1 at first */

typedef struct fake_counts {
    long captures, replays, launches, products, operations; /* operations: of cuDNN, carried out, as launches and products are */
    long broken;                                            /* calls within a capture that a driver would refuse */
    long waits;                                             /* of the host for the stream */
} fake_counts;
fake_counts *fake_counted(void);

#endif
