/* fatbin.c -- the code of all own kernels, as scripts/build-kernels made it, in the program: what cuModuleLoadData takes. */
#include "backend/cuda/kernels.h"

#ifdef RETORT_CUDA
__asm__(".pushsection .rodata\n"
        ".balign 64\n"
        "rt__cuda_code: .incbin \"" RETORT_CUDA "\"\n"
        ".popsection\n");
extern const unsigned char rt__cuda_code[];
const void *rt__cuda_fatbin(void) { return rt__cuda_code; }
#else
const void *rt__cuda_fatbin(void) { return NULL; }
#endif
