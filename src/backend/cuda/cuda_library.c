/* cuda_library.c -- see cuda_library.h. */
#include "backend/cuda/cuda_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OLDEST_CUDA = 12000, OLDEST_CUBLAS = 120000, OLDEST_CUDNN = 90000, OLDEST_NCCL = 21400 };

static const struct part {
    rt__cuda_part part;
    const char *files[3], *remedy;
} parts[] = {
    {RT_CUDA_DRIVER, {"libcuda.so.1"}, "install NVIDIA's driver (nvidia-smi shows it), or use another --backend"},
    {RT_CUDA_CUBLAS,
     {"libcublasLt.so.13", "libcublasLt.so.12"},
     "install cuBLAS 12 or 13 (PyPI: nvidia-cublas) and name its folder in LD_LIBRARY_PATH"},
    {RT_CUDA_CUDNN, {"libcudnn.so.9"}, "install cuDNN 9 (PyPI: nvidia-cudnn-cu13) and name its folder in LD_LIBRARY_PATH"},
    {RT_CUDA_NCCL, {"libnccl.so.2"}, "install NCCL 2.14 or later (PyPI: nvidia-nccl-cu13) and name its folder in LD_LIBRARY_PATH"},
};

static const struct function {
    rt__cuda_part part;
    const char *name;
    size_t offset;
} functions[] = {
#define driver                                        RT_CUDA_DRIVER
#define cublas                                        RT_CUDA_CUBLAS
#define cudnn                                         RT_CUDA_CUDNN
#define nccl                                          RT_CUDA_NCCL
#define RT_FUNCTION(library, result, name, arguments) {library, #name, offsetof(rt__cuda_library, name)},
#include "backend/cuda/cuda_functions.def"
#undef RT_FUNCTION
#undef driver
#undef cublas
#undef cudnn
#undef nccl
};

static rt_status open_part(rt__cuda_library *lib, const struct part *p, rt_error *err)
{
    const char *folders = getenv("LD_LIBRARY_PATH"), *file = NULL;
    void *library = NULL;
    char why[512] = ""; /* of the first name that was tried */
    for (size_t i = 0; i < RT_COUNT(p->files) && p->files[i] && !library; i++) {
        library = dlopen(file = p->files[i], RTLD_NOW | RTLD_LOCAL);
        const char *text = library ? NULL : dlerror();
        if (text && !*why) snprintf(why, sizeof why, "%s", text);
    }
    if (!library)
        RT_RAISE(RT_E_DEVICE, "%s; looked in LD_LIBRARY_PATH (%s) and where the system's linker looks; %s", why,
                 folders && *folders ? folders : "empty", p->remedy);
    for (size_t i = 0; i < RT_COUNT(functions); i++) {
        const struct function *f = &functions[i];
        if (f->part != p->part) continue;
        void *at = dlsym(library, f->name);
        if (!at) {
            dlclose(library);
            RT_RAISE(RT_E_DEVICE, "%s: has no %s; %s", file, f->name, p->remedy);
        }
        memcpy((char *)lib + f->offset, &at, sizeof at); /* ISO C has no cast from objects to functions */
    }
    return RT_OK;
}

static rt_status too_old(const char *what, int has, int unit, int oldest, const char *remedy, rt_error *err)
{
    RT_RAISE(RT_E_DEVICE, "%s %d.%d is too old, %d.%d is the oldest that is used; %s", what, has / unit, has % unit / (unit / 100),
             oldest / unit, oldest % unit / (unit / 100), remedy);
}

rt_status rt__cuda_library_open(rt__cuda_library *lib, unsigned wanted, rt_error *err)
{
    for (size_t i = 0; i < RT_COUNT(parts); i++)
        if (wanted & parts[i].part) RT_TRY(open_part(lib, &parts[i], err));
    return rt__cuda_library_check(lib, wanted, err);
}

rt_status rt__cuda_library_check(const rt__cuda_library *lib, unsigned wanted, rt_error *err)
{
    int version = 0;
    CUresult result = wanted & RT_CUDA_DRIVER ? (lib->cuDriverGetVersion)(&version) : CUDA_SUCCESS;
    if (result != CUDA_SUCCESS) RT_RAISE(RT_E_DEVICE, "libcuda.so.1: cuDriverGetVersion fails with %u; %s", result, parts[0].remedy);
    if (wanted & RT_CUDA_DRIVER && version < OLDEST_CUDA)
        return too_old("the driver of CUDA", version, 1000, OLDEST_CUDA, parts[0].remedy, err);
    if (wanted & RT_CUDA_CUBLAS && (version = (int)(lib->cublasLtGetVersion)()) < OLDEST_CUBLAS)
        return too_old("cuBLASLt", version, 10000, OLDEST_CUBLAS, parts[1].remedy, err);
    if (wanted & RT_CUDA_CUDNN && (version = (int)(lib->cudnnGetVersion)()) < OLDEST_CUDNN)
        return too_old("cuDNN", version, 10000, OLDEST_CUDNN, parts[2].remedy, err);
    result = wanted & RT_CUDA_NCCL ? (lib->ncclGetVersion)(&version) : ncclSuccess;
    if (result != ncclSuccess) RT_RAISE(RT_E_DEVICE, "libnccl.so.2: ncclGetVersion fails with %u; %s", result, parts[3].remedy);
    if (wanted & RT_CUDA_NCCL && version < OLDEST_NCCL) return too_old("NCCL", version, 10000, OLDEST_NCCL, parts[3].remedy, err);
    return RT_OK;
}
