/* driver_stub.c -- as much of a driver as cuDNN needs to compile a plan on a machine without one: modules load and are not run, all else fails. Opened under the
 * driver's name before cuDNN looks for it. */
#include <stddef.h>

enum { DONE = 0, NOT_SUPPORTED = 801 };
static int thing;

#define LOADS(name, ...)                                                                                                                   \
    int name(void **made, ##__VA_ARGS__);                                                                                                  \
    int name(void **made, ##__VA_ARGS__)                                                                                                   \
    {                                                                                                                                      \
        *made = &thing;                                                                                                                    \
        return DONE;                                                                                                                       \
    }
LOADS(cuLibraryLoadData, const void *code, void *a, void *b, unsigned n, void *c, void *d, unsigned m)
LOADS(cuLibraryGetKernel, void *library, const char *kernel)
LOADS(cuLibraryGetModule, void *library)
LOADS(cuKernelGetFunction, void *kernel)
LOADS(cuModuleLoadData, const void *image)
LOADS(cuModuleLoadDataEx, const void *image, unsigned n, void *options, void *values)
LOADS(cuModuleGetFunction, void *module, const char *function)

#define DOES(name, ...)                                                                                                                    \
    int name(__VA_ARGS__);                                                                                                                 \
    int name(__VA_ARGS__) { return DONE; }
DOES(cuLibraryUnload, void *library)
DOES(cuModuleUnload, void *module)
DOES(cuKernelSetAttribute, int what, int value, void *kernel, int device)
DOES(cuFuncSetAttribute, void *function, int what, int value)

#define COUNTS(name, value, ...)                                                                                                           \
    int name(int *number, ##__VA_ARGS__);                                                                                                  \
    int name(int *number, ##__VA_ARGS__)                                                                                                   \
    {                                                                                                                                      \
        *number = value;                                                                                                                   \
        return DONE;                                                                                                                       \
    }
COUNTS(cuLibraryGetKernelCount, 1, void *library)
COUNTS(cuKernelGetAttribute, 0, int what, void *kernel, int device)
COUNTS(cuFuncGetAttribute, 0, int what, void *function)

int cuLibraryEnumerateKernels(void **kernels, unsigned n, void *library);
int cuLibraryEnumerateKernels(void **kernels, unsigned n, void *library)
{
    for (unsigned i = 0; i < n; i++) kernels[i] = library;
    return DONE;
}

#define FAILS(name)                                                                                                                        \
    int name(void);                                                                                                                        \
    int name(void) { return NOT_SUPPORTED; }
FAILS(cuCtxGetCurrent)
FAILS(cuCtxGetLimit)
FAILS(cuCtxPopCurrent)
FAILS(cuCtxPushCurrent)
FAILS(cuDeviceGet)
FAILS(cuDeviceGetCount)
FAILS(cuDriverGetVersion)
FAILS(cuGetErrorName)
FAILS(cuGetErrorString)
FAILS(cuLaunchCooperativeKernel)
FAILS(cuLaunchKernel)
FAILS(cuLaunchKernelEx)
FAILS(cuLibraryLoadFromFile)
FAILS(cuLinkAddData)
FAILS(cuLinkComplete)
FAILS(cuLinkCreate)
FAILS(cuLinkDestroy)
FAILS(cuOccupancyMaxPotentialClusterSize)
FAILS(cuStreamGetCtx)
