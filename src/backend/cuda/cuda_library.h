/* cuda_library.h -- the vendor's libraries as a table of functions, opened at run time: nothing is linked, so one program runs with and without them. */
#ifndef RT_CUDA_LIBRARY_H
#define RT_CUDA_LIBRARY_H

#include "backend/cuda/cuda_types.h"
#include "base/internal.h"

typedef struct rt__cuda_library {
#define RT_FUNCTION(library, result, name, arguments) result(*name) arguments;
#include "backend/cuda/cuda_functions.def"
#undef RT_FUNCTION
} rt__cuda_library;

/* Which of them; ALL are those that every device needs. */
typedef enum rt__cuda_part { RT_CUDA_DRIVER = 1, RT_CUDA_CUBLAS = 2, RT_CUDA_CUDNN = 4, RT_CUDA_ALL = 7, RT_CUDA_NCCL = 8 } rt__cuda_part;

/* Fills the functions of these parts and checks them. RT_E_DEVICE names the file that is missing or lacks a function, where it was looked for, and the
 * remedy. Libraries stay open. */
rt_status rt__cuda_library_open(rt__cuda_library *lib, unsigned parts, rt_error *err);
/* Is the driver of CUDA 12.0 or later, cuBLASLt 12.0, cuDNN 9.0, NCCL 2.14? Else RT_E_DEVICE. */
rt_status rt__cuda_library_check(const rt__cuda_library *lib, unsigned parts, rt_error *err);

#endif
