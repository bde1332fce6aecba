/* cuda_device.c -- see cuda_device.h. */
#include "backend/cuda/cuda_device.h"

#include "backend/cuda/cuda_ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_CAPABILITY = 80 };

static struct device {
    bool open;
    rt__cuda_library real;
    const rt__cuda_library *pretended;
    const void *pretended_module;
    rt__cuda_here here;
    CUcontext context;
    CUmodule module;
    CUfunction kernels[RT_CUDA_KERNELS];
    CUevent start, *marks; /* start: recorded before the first mark since the last finish */
    int n_marks;
    bool marking;
    rt_status fault;
    char words[384];
} d;

static _Thread_local CUcontext entered; /* the context that this thread makes requests in */

const rt__cuda_here *rt__cuda_opened(void) { return &d.here; }
rt_status rt__cuda_fault(void) { return d.fault; }

void rt__cuda_note(rt_status fault, const char *words)
{
    if (d.fault != RT_OK) return;
    d.fault = fault;
    snprintf(d.words, sizeof d.words, "%s", words);
}

static bool note(rt_status fault, const char *what, const char *name, const char *text)
{
    char words[sizeof d.words];
    snprintf(words, sizeof words, "%s: %s (%s)", what, name, text);
    rt__cuda_note(fault, words);
    return false;
}

bool rt__cuda_did(CUresult result, const char *what)
{
    const char *name = NULL, *text = NULL;
    if (result == CUDA_SUCCESS) return true;
    (d.here.lib->cuGetErrorName)(result, &name);
    (d.here.lib->cuGetErrorString)(result, &text);
    return note(result == CUDA_ERROR_OUT_OF_MEMORY ? RT_E_MEMORY : RT_E_DEVICE, what, name ? name : "unknown", text ? text : "no text");
}

bool rt__cuda_did_blas(cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    return note(status == CUBLAS_STATUS_ALLOC_FAILED ? RT_E_MEMORY : RT_E_DEVICE, what, "cuBLASLt",
                (d.here.lib->cublasLtGetStatusString)(status));
}

bool rt__cuda_did_cudnn(cudnnStatus_t status, const char *what)
{
    if (status == CUDNN_STATUS_SUCCESS) return true;
    bool memory =
        status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED || status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return note(memory ? RT_E_MEMORY : RT_E_DEVICE, what, "cuDNN", (d.here.lib->cudnnGetErrorString)(status));
}

/* A call of the driver, CALL(cuInit, 0): did it work? */
#define CALL(name, ...) rt__cuda_did((d.here.lib->name)(__VA_ARGS__), #name)

static void enter(void)
{
    if (entered != d.context && CALL(cuCtxSetCurrent, d.context)) entered = d.context;
}

static CUdeviceptr at_device(const void *at) { return (CUdeviceptr)(uintptr_t)at; }

/* ---- opening */

void rt__cuda_close(void)
{
    const rt__cuda_library *lib = d.here.lib;
    if (d.context) enter();
    rt__cuda_leave_ranks();
    if (d.here.cudnn.handle) (lib->cudnnDestroy)(d.here.cudnn.handle);
    if (d.here.blas) (lib->cublasLtDestroy)(d.here.blas);
    for (int i = 0; i < d.n_marks; i++)
        if (d.marks[i]) (lib->cuEventDestroy_v2)(d.marks[i]);
    if (d.start) (lib->cuEventDestroy_v2)(d.start);
    if (d.module) (lib->cuModuleUnload)(d.module);
    if (d.here.stream) (lib->cuStreamDestroy_v2)(d.here.stream);
    if (d.context) (lib->cuDevicePrimaryCtxRelease_v2)(d.here.number);
    free(d.marks);
    entered = NULL;
    d = (struct device){.real = d.real, .pretended = d.pretended, .pretended_module = d.pretended_module};
}

void rt__cuda_pretend(const rt__cuda_library *lib, const void *module)
{
    rt__cuda_close();
    d.pretended = lib;
    d.pretended_module = module;
}

/* A request of the environment that NVIDIA's libraries follow by themselves, too. */
static bool wants_true_float(void)
{
    const char *text = getenv("NVIDIA_TF32_OVERRIDE");
    return text && !strcmp(text, "0");
}

static bool describe(char *name, size_t size)
{
    char device[64] = "";
    int driver = 0;
    size_t blas = (d.here.lib->cublasLtGetVersion)(), cudnn = (d.here.lib->cudnnGetVersion)();
    if (!CALL(cuDeviceGetName, device, (int)sizeof device, d.here.number) || !CALL(cuDriverGetVersion, &driver)) return false;
    snprintf(name, size, "%s, driver %d.%d, cuBLASLt %zu.%zu.%zu, cuDNN %zu.%zu.%zu%s", device, driver / 1000, driver % 1000 / 10,
             blas / 10000, blas / 100 % 100, blas % 100, cudnn / 10000, cudnn / 100 % 100, cudnn % 100,
             d.here.cudnn.true_float ? ", no TF32" : "");
    return true;
}

static bool find_kernels(void)
{
    for (int k = 0; k < RT_CUDA_KERNELS; k++)
        if (!rt__cuda_did((d.here.lib->cuModuleGetFunction)(&d.kernels[k], d.module, rt__cuda_names[k]), rt__cuda_names[k])) return false;
    return true;
}

static bool open_all(const void *module, int *capability)
{
    int count = 0, major = 0, minor = 0;
    if (!CALL(cuInit, 0) || !CALL(cuDeviceGetCount, &count)) return false;
    if (count == 0) return note(RT_E_DEVICE, "cuDeviceGetCount", "0", "no device");
    int number = count > 1 ? rt_ranks_local() : 0; /* a launcher may show each rank its own alone */
    if (number >= count) {
        char words[128];
        snprintf(words, sizeof words, "rank %d of this machine, from 0, finds %d; start as many ranks on it as it has GPUs", number, count);
        rt__cuda_note(RT_E_DEVICE, words);
        return false;
    }
    if (!CALL(cuDeviceGet, &d.here.number, number) ||
        !CALL(cuDeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, d.here.number) ||
        !CALL(cuDeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, d.here.number))
        return false;
    *capability = 10 * major + minor;
    if (*capability < LEAST_CAPABILITY) return note(RT_E_DEVICE, "the device", "too old", "of an earlier generation");
    if (!CALL(cuDevicePrimaryCtxRetain, &d.context, d.here.number)) return false;
    enter();
    return d.fault == RT_OK && CALL(cuStreamCreate, &d.here.stream, CU_STREAM_NON_BLOCKING) &&
           CALL(cuEventCreate, &d.start, CU_EVENT_DEFAULT) && CALL(cuModuleLoadData, &d.module, module) && find_kernels() &&
           rt__cuda_did_blas((d.here.lib->cublasLtCreate)(&d.here.blas), "cublasLtCreate") &&
           rt__cuda_did_cudnn((d.here.lib->cudnnCreate)(&d.here.cudnn.handle), "cudnnCreate") &&
           rt__cuda_did_cudnn((d.here.lib->cudnnSetStream)(d.here.cudnn.handle, d.here.stream), "cudnnSetStream") &&
           describe(d.here.name, sizeof d.here.name);
}

rt_status rt__cuda_open_nccl(rt_error *err)
{
    return d.pretended ? rt__cuda_library_check(d.pretended, RT_CUDA_NCCL, err) : rt__cuda_library_open(&d.real, RT_CUDA_NCCL, err);
}

static rt_status open_device(rt_error *err)
{
    if (d.open) {
        enter();
        return RT_OK;
    }
    const void *module = d.pretended ? d.pretended_module : rt__cuda_fatbin();
    if (!module)
        RT_RAISE(RT_E_DEVICE, "this build has no kernels for CUDA; build it with nvcc on the path, by cmake --preset cuda, or use another "
                              "--backend");
    if (!d.pretended) RT_TRY(rt__cuda_library_open(&d.real, RT_CUDA_ALL, err));
    d.here.lib = d.here.cudnn.lib = d.pretended ? d.pretended : &d.real;
    RT_TRY(rt__cuda_library_check(d.here.lib, RT_CUDA_ALL, err));
    d.here.cudnn.true_float = wants_true_float();
    int capability = 0;
    d.open = open_all(module, &capability);
    if (d.open) return RT_OK;
    char words[sizeof d.words];
    memcpy(words, d.words, sizeof words);
    rt__cuda_close();
    if (capability > 0 && capability < LEAST_CAPABILITY)
        RT_RAISE(RT_E_DEVICE, "CUDA: the device has compute capability %d.%d, %d.%d is the least that is used; use another --backend",
                 capability / 10, capability % 10, LEAST_CAPABILITY / 10, LEAST_CAPABILITY % 10);
    RT_RAISE(RT_E_DEVICE, "CUDA: no device that works: %s; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use another --backend", words);
}

/* ---- memory */

static void *allocate(size_t bytes)
{
    CUdeviceptr at = 0;
    enter();
    CUresult result = (d.here.lib->cuMemAlloc_v2)(&at, bytes ? bytes : 1);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) return NULL; /* the caller knows for what it was, and says it */
    return rt__cuda_did(result, "cuMemAlloc_v2") ? (void *)(uintptr_t)at : NULL;
}

static void release(void *at, size_t bytes)
{
    (void)bytes;
    enter();
    if (at) CALL(cuMemFree_v2, at_device(at));
}

static void *pin(size_t bytes)
{
    void *at = NULL;
    enter();
    CUresult result = (d.here.lib->cuMemHostAlloc)(&at, bytes ? bytes : 1, 0);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) return NULL;
    return rt__cuda_did(result, "cuMemHostAlloc") ? memset(at, 0, bytes) : NULL;
}

static void unpin(void *at, size_t bytes)
{
    (void)bytes;
    enter();
    if (at) CALL(cuMemFreeHost, at);
}

static size_t free_room(void)
{
    size_t free_bytes = 0, all = 0;
    enter();
    return CALL(cuMemGetInfo_v2, &free_bytes, &all) ? free_bytes : 0;
}

/* ---- requests */

static void upload(void *to, const void *from, size_t bytes)
{
    enter();
    if (bytes) CALL(cuMemcpyHtoDAsync_v2, at_device(to), from, bytes, d.here.stream);
}

static void download(void *to, const void *from, size_t bytes)
{
    enter();
    if (bytes) CALL(cuMemcpyDtoHAsync_v2, to, at_device(from), bytes, d.here.stream);
}

static void copy(void *to, const void *from, size_t bytes)
{
    enter();
    if (bytes) CALL(cuMemcpyDtoDAsync_v2, at_device(to), at_device(from), bytes, d.here.stream);
}

static void zero(void *at, size_t bytes)
{
    enter();
    if (bytes) CALL(cuMemsetD8Async, at_device(at), 0, bytes, d.here.stream);
}

void rt__cuda_start(void *unused, const rt__cuda_launch *l)
{
    void *arguments[] = {(void *)(uintptr_t)&l->args}; /* copied by the call */
    (void)unused;
    rt__cuda_did((d.here.lib->cuLaunchKernel)(d.kernels[l->kernel], l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1],
                                              l->block[2], l->shared, d.here.stream, arguments, NULL),
                 rt__cuda_names[l->kernel]);
}

static void add(void *to, const void *from, int64_t count, rt_dtype dtype)
{
    enter();
    rt__cuda_enqueue_add(to, from, count, dtype, rt__cuda_start, NULL);
}

static void trail(void *to, const void *from, double keep, int64_t count)
{
    enter();
    rt__cuda_enqueue_trail(to, from, keep, count, rt__cuda_start, NULL);
}

static rt_status finish(rt_error *err)
{
    enter();
    rt__cuda_wait_for_ranks();
    CALL(cuStreamSynchronize, d.here.stream);
    d.marking = false;
    rt_status fault = d.fault;
    d.fault = RT_OK;
    if (fault == RT_E_MEMORY)
        RT_RAISE(fault, "out of memory on the device: %s; %zu MiB are free; use a smaller batch or --recompute", d.words,
                 free_room() >> 20);
    if (fault == RT_E_COMM) RT_RAISE(fault, "%s", d.words);
    if (fault != RT_OK) RT_RAISE(fault, "CUDA: %s; look at nvidia-smi and the system's log, and start again", d.words);
    return RT_OK;
}

/* ---- time */

static void mark(int k)
{
    enter();
    if (k >= d.n_marks) {
        int n = 2 * (k + 1);
        CUevent *marks = realloc(d.marks, (size_t)n * sizeof *marks);
        if (!marks) {
            note(RT_E_MEMORY, "marks of time", "malloc", "out of memory");
            return;
        }
        memset(marks + d.n_marks, 0, (size_t)(n - d.n_marks) * sizeof *marks);
        d.marks = marks;
        d.n_marks = n;
    }
    if (!d.marks[k] && !CALL(cuEventCreate, &d.marks[k], CU_EVENT_DEFAULT)) return;
    if (!d.marking) CALL(cuEventRecord, d.start, d.here.stream);
    d.marking = true;
    CALL(cuEventRecord, d.marks[k], d.here.stream);
}

static double moment(int k)
{
    float milliseconds = 0;
    enter();
    if (k < d.n_marks && d.marks[k]) CALL(cuEventElapsedTime, &milliseconds, d.start, d.marks[k]);
    return (double)milliseconds * 1e-3;
}

/* ---- recordings */

static void record(void)
{
    enter();
    CALL(cuStreamBeginCapture_v2, d.here.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
}

static void *recorded(void)
{
    CUgraph graph = NULL;
    CUgraphExec requests = NULL;
    if (!CALL(cuStreamEndCapture, d.here.stream, &graph)) return NULL;
    if (!CALL(cuGraphInstantiateWithFlags, &requests, graph, 0)) requests = NULL;
    CALL(cuGraphDestroy, graph);
    return requests;
}

static void replay(void *requests)
{
    enter();
    CALL(cuGraphLaunch, requests, d.here.stream);
}

static void forget(void *requests)
{
    enter();
    CALL(cuGraphExecDestroy, requests);
}

const rt_device rt__cuda_device = {.open = open_device,
                                   .alloc = allocate,
                                   .release = release,
                                   .pin = pin,
                                   .unpin = unpin,
                                   .room = free_room,
                                   .upload = upload,
                                   .download = download,
                                   .copy = copy,
                                   .zero = zero,
                                   .add = add,
                                   .trail = trail,
                                   .join = rt__cuda_join_ranks,
                                   .sum = rt__cuda_sum_ranks,
                                   .finish = finish,
                                   .mark = mark,
                                   .moment = moment,
                                   .record = record,
                                   .recorded = recorded,
                                   .replay = replay,
                                   .forget = forget};
