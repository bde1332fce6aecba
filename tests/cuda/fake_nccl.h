/* fake_nccl.h -- NCCL without GPUs, for fake_cuda.c: ranks are processes of one test (socket_ranks.h), and what they send each other lies in memory that
 * they share.
 *
 * A communicator is not blocking: calls are made, which is when they reach the stream, by the second look at ncclCommGetAsyncError, and no other request
 * may come before. On the stream a group is done when all that it sends has found room and all that it receives has come; ncclCommAbort ends it. A rank that has aborted is a remote
 * error to those that wait for it; one that is merely silent is none. */
#ifndef RT_TESTS_CUDA_FAKE_NCCL_H
#define RT_TESTS_CUDA_FAKE_NCCL_H

#include "cuda/fake_cuda.h"

void fake_nccl_meet(void);           /* before processes begin: nobody is there yet, and nothing was sent */
void fake_nccl_version(int version); /* 22809 at first */
void fake_nccl_silent(bool silent);  /* this process is never seen to have come */
bool fake_nccl_gone(int rank);       /* has it aborted? */
int64_t fake_nccl_sent(int rank);    /* bytes so far */

/* For fake_cuda.c. */
bool fake_nccl_moves(void *group); /* goes on with a group; true: it is done, and freed */
bool fake_nccl_in_progress(void);  /* are there calls that are not made yet? */
void fake_nccl_ask(void *group);   /* a request of a group, by fake_cuda.c */
bool fake_fails(const char *name); /* is this the call that fails? */
bool fake_fails_as_memory(void);
void *fake_thing(size_t bytes); /* counted as alive */
void fake_end(void *thing);

#define FAKE_driver(result, name, arguments)
#define FAKE_cublas(result, name, arguments)
#define FAKE_cudnn(result, name, arguments)
#define FAKE_nccl(result, name, arguments)            result name arguments;
#define RT_FUNCTION(library, result, name, arguments) FAKE_##library(result, name, arguments)
#include "backend/cuda/cuda_functions.def"
#undef RT_FUNCTION

#endif
