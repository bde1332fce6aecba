/* fake_cuda.c -- see fake_cuda.h. */
#include "cuda/fake_cuda.h"

#include "backend/cuda/cuda_device.h"
#include "cuda/emulated.h"
#include "cuda/fake_nccl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { OUT_OF_MEMORY = CUDA_ERROR_OUT_OF_MEMORY, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900, BLAS_FAILED = 14, CUDNN_FAILED = 5000 };

static long fail_at, calls, live;
static bool fails_as_memory, idle;
static const char *failed, *counted = "";
static size_t limit, in_use;
static int devices = 1;
static fake_counts counts;

void fake_fail(long k, bool memory)
{
    fail_at = k, calls = 0, failed = NULL;
    fails_as_memory = memory;
}
void fake_count(const char *beginning) { counted = beginning; }
long fake_calls(void) { return calls; }
const char *fake_failed(void) { return failed; }
long fake_live(void) { return live; }
void fake_limit(size_t bytes) { limit = bytes; }
void fake_idle(bool to) { idle = to; }
void fake_devices(int n) { devices = n; }
bool fake_fails_as_memory(void) { return fails_as_memory; }
fake_counts *fake_counted(void) { return &counts; }

static bool fails(const char *name)
{
    if (strncmp(name, counted, strlen(counted)) != 0 || ++calls != fail_at) return false;
    failed = name;
    return true;
}
#define DRIVER(memory)                                                                                                                     \
    do {                                                                                                                                   \
        if (fails(__func__)) return (memory) && fails_as_memory ? OUT_OF_MEMORY : LAUNCH_FAILED;                                           \
    } while (0)
#define BLAS()                                                                                                                             \
    do {                                                                                                                                   \
        if (fails(__func__)) return fails_as_memory ? CUBLAS_STATUS_ALLOC_FAILED : BLAS_FAILED;                                            \
    } while (0)
#define CUDNN()                                                                                                                            \
    do {                                                                                                                                   \
        if (fails(__func__)) return fails_as_memory ? CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED : CUDNN_FAILED;                 \
    } while (0)

static void *thing(size_t bytes)
{
    live++;
    return calloc(1, bytes);
}
static void end(void *at)
{
    live -= at != NULL;
    free(at);
}

void *fake_thing(size_t bytes) { return thing(bytes); }
void fake_end(void *at) { end(at); }
bool fake_fails(const char *name) { return fails(name); }

/* ---- memory of the device */

enum { MOST_PIECES = 512 };
static struct piece {
    char *at;
    size_t bytes;
} pieces[MOST_PIECES];

static size_t pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

static void protect(int how)
{
    for (int i = 0; i < MOST_PIECES; i++)
        if (pieces[i].at) mprotect(pieces[i].at, pages(pieces[i].bytes), how);
}

/* ---- requests */

typedef struct tensor {
    void *data;
    bool bf16;
    int64_t dim[4], step[4];
} tensor;

typedef enum request_kind { COPY, ZERO, LAUNCH, PRODUCT, CONV, ATTENTION, GROUP, REPLAY } request_kind;

typedef struct request {
    request_kind kind;
    void *to;
    const void *from;
    size_t bytes;
    rt__cuda_launch launch;
    /* product, columns first: y = alpha op(a) op(b) + beta y (+ bias along rows) */
    struct {
        tensor a, b, y; /* dim: rows, columns, batch; step: 1, leading, of the batch */
        bool ta, tb;
        float alpha, beta;
        const void *bias;
    } product;
    /* of cuDNN */
    unsigned operation;
    tensor operand[5];
    int64_t stride[2], dilation[2], before[2];
    float scale;
    struct list *replayed;
    void *group; /* of NCCL */
} request;

typedef struct list {
    request *r;
    int n, room, done;
} list;

static list queue, *captured;
static bool capturing;

static request *ask(request_kind kind)
{
    list *l = capturing ? captured : &queue;
    if (fake_nccl_in_progress()) counts.broken++;
    if (l->n == l->room) l->r = realloc(l->r, sizeof *l->r * (size_t)(l->room = l->room ? 2 * l->room : 64));
    request *r = &l->r[l->n++];
    memset(r, 0, sizeof *r);
    r->kind = kind;
    return r;
}

static float get(const tensor *t, int64_t at)
{
    if (!t->bf16) return ((const float *)t->data)[at];
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)((const uint16_t *)t->data)[at] << 16};
    return v.f;
}

static void put(const tensor *t, int64_t at, double value)
{
    union {
        uint32_t u;
        float f;
    } v = {.f = (float)value};
    if (t->bf16)
        ((uint16_t *)t->data)[at] = (uint16_t)((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
    else
        ((float *)t->data)[at] = v.f;
}

static void multiply(const request *r)
{
    const tensor *a = &r->product.a, *b = &r->product.b, *y = &r->product.y;
    int64_t k = r->product.ta ? a->dim[0] : a->dim[1];
    if (k != (r->product.tb ? b->dim[1] : b->dim[0]) || y->dim[0] != (r->product.ta ? a->dim[1] : a->dim[0]) ||
        y->dim[1] != (r->product.tb ? b->dim[0] : b->dim[1]))
        abort(); /* shapes do not fit */
    tensor bias = {.data = (void *)(uintptr_t)r->product.bias, .bf16 = y->bf16};
    for (int64_t s = 0; s < y->dim[2]; s++)
        for (int64_t i = 0; i < y->dim[0]; i++)
            for (int64_t j = 0; j < y->dim[1]; j++) {
                double sum = 0;
                for (int64_t l = 0; l < k; l++)
                    sum += (double)get(a, s * a->step[2] + (r->product.ta ? l + i * a->step[1] : i + l * a->step[1])) *
                           (double)get(b, s * b->step[2] + (r->product.tb ? j + l * b->step[1] : l + j * b->step[1]));
                int64_t at = s * y->step[2] + i + j * y->step[1];
                sum *= (double)r->product.alpha;
                if (r->product.beta != 0) sum += (double)r->product.beta * (double)get(y, at);
                if (bias.data) sum += (double)get(&bias, i);
                put(y, at, sum);
            }
}

static int64_t place(const tensor *t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return a * t->step[0] + b * t->step[1] + c * t->step[2] + d * t->step[3];
}

/* All three kinds: the result is 0 and grows by every product of the other two. */
static void convolve(const request *r)
{
    const tensor *x = &r->operand[0], *w = &r->operand[1], *y = &r->operand[2];
    const tensor *out = r->operation == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR         ? y
                        : r->operation == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? x
                                                                                                       : w;
    int64_t count = out->dim[0] * out->dim[1] * out->dim[2] * out->dim[3], groups = x->dim[1] / w->dim[1], og = w->dim[0] / groups;
    double *sum = calloc((size_t)count, sizeof *sum);
    for (int64_t n = 0; n < y->dim[0]; n++)
        for (int64_t o = 0; o < y->dim[1]; o++)
            for (int64_t i = 0; i < y->dim[2]; i++)
                for (int64_t j = 0; j < y->dim[3]; j++)
                    for (int64_t c = 0; c < w->dim[1]; c++)
                        for (int64_t k = 0; k < w->dim[2]; k++)
                            for (int64_t l = 0; l < w->dim[3]; l++) {
                                int64_t p = i * r->stride[0] + k * r->dilation[0] - r->before[0];
                                int64_t q = j * r->stride[1] + l * r->dilation[1] - r->before[1];
                                if (p < 0 || p >= x->dim[2] || q < 0 || q >= x->dim[3]) continue;
                                int64_t xa = place(x, n, o / og * w->dim[1] + c, p, q), wa = place(w, o, c, k, l),
                                        ya = place(y, n, o, i, j);
                                if (out == y) sum[ya] += (double)get(x, xa) * (double)get(w, wa);
                                if (out == x) sum[xa] += (double)get(y, ya) * (double)get(w, wa);
                                if (out == w) sum[wa] += (double)get(x, xa) * (double)get(y, ya);
                            }
    for (int64_t i = 0; i < count; i++) put(out, i, sum[i]);
    free(sum);
}

static void attend(const request *r)
{
    const tensor *q = &r->operand[0], *k = &r->operand[1], *v = &r->operand[2], *o = &r->operand[3];
    int64_t L = q->dim[2], d = q->dim[3];
    double *p = calloc((size_t)L, sizeof *p);
    for (int64_t n = 0; n < q->dim[0]; n++)
        for (int64_t h = 0; h < q->dim[1]; h++)
            for (int64_t i = 0; i < L; i++) {
                double top = -INFINITY, all = 0;
                for (int64_t j = 0; j < L; j++) {
                    p[j] = 0;
                    for (int64_t c = 0; c < d; c++) p[j] += (double)get(q, place(q, n, h, i, c)) * (double)get(k, place(k, n, h, j, c));
                    p[j] *= (double)r->scale;
                    top = fmax(top, p[j]);
                }
                for (int64_t j = 0; j < L; j++) all += p[j] = exp(p[j] - top);
                for (int64_t c = 0; c < d; c++) {
                    double sum = 0;
                    for (int64_t j = 0; j < L; j++) sum += p[j] / all * (double)get(v, place(v, n, h, j, c));
                    put(o, place(o, n, h, i, c), sum);
                }
            }
    free(p);
}

/* As far as it goes now; true: to the end. */
static bool carry_out(list *l)
{
    for (; l->done < l->n; l->done++) {
        const request *r = &l->r[l->done];
        if (r->kind == GROUP && !fake_nccl_moves(r->group)) return false;
        if (idle) continue;
        if (r->kind == COPY) memcpy(r->to, r->from, r->bytes);
        if (r->kind == ZERO) memset(r->to, 0, r->bytes);
        if (r->kind == LAUNCH) rt__emulate(NULL, &r->launch), counts.launches++;
        if (r->kind == PRODUCT) multiply(r), counts.products++;
        if (r->kind == CONV) convolve(r), counts.operations++;
        if (r->kind == ATTENTION) attend(r), counts.operations++;
        if (r->kind == REPLAY) carry_out(r->replayed), counts.replays++;
    }
    l->done = 0;
    return true;
}

static bool go_on(void)
{
    if (queue.n == 0) return true;
    protect(PROT_READ | PROT_WRITE);
    bool all = carry_out(&queue);
    protect(PROT_NONE);
    if (all) queue.n = 0;
    return all;
}

static void wait_for_all(void)
{
    for (long tries = 0; !go_on(); tries++) {
        if (tries > 60000) fprintf(stderr, "fake CUDA: the stream is waited for and waits for a rank\n"), abort();
        usleep(500);
    }
}

void fake_nccl_ask(void *group) { ask(GROUP)->group = group; }

/* ---- the driver */

#define NOT_IN_CAPTURE()                                                                                                                   \
    do {                                                                                                                                   \
        if (capturing) {                                                                                                                   \
            counts.broken++;                                                                                                               \
            return CAPTURE_UNSUPPORTED;                                                                                                    \
        }                                                                                                                                  \
    } while (0)

static CUresult cuInit(unsigned flags)
{
    (void)flags;
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuDriverGetVersion(int *version)
{
    DRIVER(false);
    *version = 13000;
    return CUDA_SUCCESS;
}
static CUresult cuGetErrorName(CUresult error, const char **text)
{
    *text = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_LAUNCH_FAILED";
    return CUDA_SUCCESS;
}
static CUresult cuGetErrorString(CUresult error, const char **text)
{
    *text = error == OUT_OF_MEMORY ? "out of memory" : "unspecified launch failure";
    return CUDA_SUCCESS;
}
static CUresult cuDeviceGetCount(int *count)
{
    DRIVER(false);
    *count = devices;
    return CUDA_SUCCESS;
}
static CUresult cuDeviceGet(CUdevice *device, int number)
{
    DRIVER(false);
    *device = number;
    return CUDA_SUCCESS;
}
static CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    DRIVER(false);
    memset(uuid, 0x30 + device, sizeof *uuid);
    return CUDA_SUCCESS;
}
static CUresult cuDeviceGetName(char *name, int size, CUdevice device)
{
    (void)device;
    DRIVER(false);
    snprintf(name, (size_t)size, "fake");
    return CUDA_SUCCESS;
}
static CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute what, CUdevice device)
{
    (void)device;
    DRIVER(false);
    *value = what == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 9 : 0;
    return CUDA_SUCCESS;
}
static CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    static int only;
    (void)device;
    DRIVER(true);
    *context = (CUcontext)(void *)&only;
    live++;
    return CUDA_SUCCESS;
}
static CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    (void)device;
    live--;
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuCtxSetCurrent(CUcontext context)
{
    (void)context;
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    NOT_IN_CAPTURE();
    DRIVER(false);
    *total_bytes = limit ? limit : (size_t)80 << 30;
    *free_bytes = *total_bytes - in_use;
    return CUDA_SUCCESS;
}
static CUresult cuMemAlloc_v2(CUdeviceptr *memory, size_t bytes)
{
    NOT_IN_CAPTURE();
    DRIVER(true);
    if (limit && in_use + bytes > limit) return OUT_OF_MEMORY;
    struct piece *p = pieces;
    while (p->at) p++;
    p->bytes = bytes;
    p->at = mmap(NULL, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p->at, 0xff, bytes);
    mprotect(p->at, pages(bytes), PROT_NONE);
    in_use += bytes;
    live++;
    *memory = (CUdeviceptr)(uintptr_t)p->at;
    return CUDA_SUCCESS;
}
static CUresult cuMemFree_v2(CUdeviceptr memory)
{
    NOT_IN_CAPTURE();
    wait_for_all();
    struct piece *p = pieces;
    while (p->at != (char *)(uintptr_t)memory) p++;
    munmap(p->at, pages(p->bytes));
    in_use -= p->bytes;
    *p = (struct piece){0};
    live--;
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    (void)flags;
    NOT_IN_CAPTURE();
    DRIVER(true);
    *memory = thing(bytes);
    memset(*memory, 0xff, bytes);
    return CUDA_SUCCESS;
}
static CUresult cuMemFreeHost(void *memory)
{
    NOT_IN_CAPTURE();
    wait_for_all();
    end(memory);
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult copied(void *to, const void *from, size_t bytes)
{
    request *r = ask(COPY);
    r->to = to, r->from = from, r->bytes = bytes;
    return CUDA_SUCCESS;
}
static void *address(CUdeviceptr at) { return (void *)(uintptr_t)at; }
static CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
    (void)stream;
    DRIVER(false);
    return copied(address(to), from, bytes);
}
static CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    (void)stream;
    DRIVER(false);
    return copied(to, address(from), bytes);
}
static CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    (void)stream;
    DRIVER(false);
    return copied(address(to), address(from), bytes);
}
static CUresult cuMemsetD8Async(CUdeviceptr memory, unsigned char value, size_t bytes, CUstream stream)
{
    (void)stream;
    (void)value;
    DRIVER(false);
    request *r = ask(ZERO);
    r->to = address(memory), r->bytes = bytes;
    return CUDA_SUCCESS;
}
static CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
    (void)flags;
    DRIVER(true);
    *stream = thing(1);
    return CUDA_SUCCESS;
}
static CUresult cuStreamDestroy_v2(CUstream stream)
{
    wait_for_all();
    end(stream);
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuStreamSynchronize(CUstream stream)
{
    (void)stream;
    NOT_IN_CAPTURE();
    counts.waits++;
    wait_for_all();
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuStreamQuery(CUstream stream)
{
    (void)stream;
    NOT_IN_CAPTURE();
    DRIVER(false);
    return go_on() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
static CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
    (void)stream;
    (void)mode;
    NOT_IN_CAPTURE();
    DRIVER(false);
    captured = thing(sizeof *captured);
    capturing = true;
    return CUDA_SUCCESS;
}
static void drop(list *l)
{
    if (l) free(l->r);
    end(l);
}
static CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    (void)stream;
    if (!capturing) return CAPTURE_UNSUPPORTED;
    capturing = false;
    counts.captures++;
    if (fails(__func__)) {
        drop(captured);
        return LAUNCH_FAILED;
    }
    *graph = (CUgraph)(void *)captured;
    return CUDA_SUCCESS;
}
static CUresult cuGraphInstantiateWithFlags(CUgraphExec *requests, CUgraph graph, unsigned long long flags)
{
    (void)flags;
    DRIVER(true);
    const list *from = (const list *)(const void *)graph;
    list *l = thing(sizeof *l);
    *l = (list){.r = malloc(sizeof *l->r * (size_t)(from->n + 1)), .n = from->n};
    if (from->n) memcpy(l->r, from->r, sizeof *l->r * (size_t)from->n);
    *requests = (CUgraphExec)(void *)l;
    return CUDA_SUCCESS;
}
static CUresult cuGraphDestroy(CUgraph graph)
{
    drop((list *)(void *)graph);
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuGraphLaunch(CUgraphExec requests, CUstream stream)
{
    (void)stream;
    NOT_IN_CAPTURE();
    DRIVER(false);
    ask(REPLAY)->replayed = (list *)(void *)requests;
    return CUDA_SUCCESS;
}
static CUresult cuGraphExecDestroy(CUgraphExec requests)
{
    wait_for_all();
    drop((list *)(void *)requests);
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuEventCreate(CUevent *event, unsigned flags)
{
    (void)flags;
    DRIVER(true);
    *event = thing(1);
    return CUDA_SUCCESS;
}
static CUresult cuEventDestroy_v2(CUevent event)
{
    end(event);
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuEventRecord(CUevent event, CUstream stream)
{
    (void)event;
    (void)stream;
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent stop)
{
    (void)start;
    (void)stop;
    NOT_IN_CAPTURE();
    DRIVER(false);
    *milliseconds = 1;
    return CUDA_SUCCESS;
}
static CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    DRIVER(true);
    if (image != fake_module()) return LAUNCH_FAILED;
    *module = thing(1);
    return CUDA_SUCCESS;
}
static CUresult cuModuleUnload(CUmodule module)
{
    end(module);
    DRIVER(false);
    return CUDA_SUCCESS;
}
static CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    (void)module;
    DRIVER(false);
    for (int k = 0; k < RT_CUDA_KERNELS; k++)
        if (!strcmp(rt__cuda_names[k], name)) {
            *function = (CUfunction)(uintptr_t)(k + 1);
            return CUDA_SUCCESS;
        }
    return LAUNCH_FAILED;
}
static CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                               unsigned block_z, unsigned shared, CUstream stream, void **arguments, void **extra)
{
    (void)stream;
    (void)extra;
    DRIVER(false);
    request *r = ask(LAUNCH);
    r->launch = (rt__cuda_launch){.kernel = (rt__cuda_kernel)((uintptr_t)function - 1),
                                  .grid = {grid_x, grid_y, grid_z},
                                  .block = {block_x, block_y, block_z},
                                  .shared = shared};
    memcpy(&r->launch.args, arguments[0], sizeof r->launch.args);
    return CUDA_SUCCESS;
}

/* ---- cuBLASLt */

struct cublasLtMatmulDescOpaque_t {
    int32_t ta, tb;
    uint32_t epilogue;
    const void *bias;
};
struct cublasLtMatrixLayoutOpaque_t {
    tensor t;
};
struct cublasLtMatmulPreferenceOpaque_t {
    uint32_t alignment; /* the least that was promised */
};

static size_t cublasLtGetVersion(void) { return 130100; }
static const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_ALLOC_FAILED ? "out of memory" : "internal";
}
static cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    BLAS();
    *handle = thing(1);
    return 0;
}
static cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    end(handle);
    BLAS();
    return 0;
}
static cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *product, cublasComputeType_t compute, cudaDataType_t scale)
{
    (void)compute;
    (void)scale;
    BLAS();
    *product = thing(sizeof **product);
    return 0;
}
static cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product)
{
    end(product);
    BLAS();
    return 0;
}
static cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t p, cublasLtMatmulDescAttributes_t what, const void *value,
                                                     size_t bytes)
{
    BLAS();
    void *to = what == CUBLASLT_MATMUL_DESC_TRANSA     ? (void *)&p->ta
               : what == CUBLASLT_MATMUL_DESC_TRANSB   ? (void *)&p->tb
               : what == CUBLASLT_MATMUL_DESC_EPILOGUE ? (void *)&p->epilogue
                                                       : (void *)&p->bias;
    memcpy(to, value, bytes);
    return 0;
}
static cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t step)
{
    BLAS();
    *layout = thing(sizeof **layout);
    (*layout)->t = (tensor){.bf16 = type == CUDA_R_16BF, .dim = {(int64_t)rows, (int64_t)columns, 1}, .step = {1, step, 0}};
    if ((uint64_t)step < rows) abort(); /* columns overlap */
    return 0;
}
static cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    end(layout);
    BLAS();
    return 0;
}
static cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t what,
                                                       const void *value, size_t bytes)
{
    BLAS();
    int32_t n;
    if (what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && bytes == sizeof n) memcpy(&n, value, bytes), layout->t.dim[2] = n;
    if (what == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET && bytes == sizeof(int64_t)) memcpy(&layout->t.step[2], value, bytes);
    return 0;
}
static cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    BLAS();
    *preference = thing(sizeof **preference);
    (*preference)->alignment = 256;
    return 0;
}
static cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    end(preference);
    BLAS();
    return 0;
}
static cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t what,
                                                           const void *value, size_t bytes)
{
    BLAS();
    if (what >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES && what <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES)
        memcpy(&preference->alignment, value, bytes);
    return 0;
}
static cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                                                     cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t preference, int asked,
                                                     cublasLtMatmulHeuristicResult_t *results, int *found)
{
    (void)handle, (void)product, (void)a, (void)b, (void)c, (void)d, (void)asked;
    BLAS();
    *found = 1;
    results[0] = (cublasLtMatmulHeuristicResult_t){.algo.data = {preference->alignment}, .workspaceSize = 1000};
    return 0;
}
static tensor with_data(cublasLtMatrixLayout_t layout, const void *data)
{
    tensor t = layout->t;
    t.data = (void *)(uintptr_t)data;
    return t;
}
static void spoil(void *at, size_t bytes) /* a library's scratch */
{
    request *r = ask(ZERO);
    r->to = at, r->bytes = bytes;
}
static cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
                                     cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                                     const void *c, cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                                     const cublasLtMatmulAlgo_t *algorithm, void *scratch, size_t scratch_bytes, cudaStream_t stream)
{
    (void)handle, (void)c, (void)c_layout, (void)stream;
    BLAS();
    if (((uintptr_t)a | (uintptr_t)b | (uintptr_t)d) % algorithm->data[0]) {
        fprintf(stderr, "fake cuBLASLt: an address is no multiple of %llu\n", (unsigned long long)algorithm->data[0]);
        abort();
    }
    if (scratch_bytes) spoil(scratch, scratch_bytes);
    request *r = ask(PRODUCT);
    r->product.a = with_data(a_layout, a), r->product.b = with_data(b_layout, b), r->product.y = with_data(d_layout, d);
    r->product.ta = product->ta == CUBLAS_OP_T, r->product.tb = product->tb == CUBLAS_OP_T;
    memcpy(&r->product.alpha, alpha, sizeof(float));
    memcpy(&r->product.beta, beta, sizeof(float));
    if (product->epilogue == CUBLASLT_EPILOGUE_BIAS) r->product.bias = product->bias;
    return 0;
}

/* ---- cuDNN: descriptors are lists of attributes */

enum { ATTRIBUTES = 12, SCRATCH = 1000, ENGINES = 6 };
typedef struct descriptor {
    unsigned type;
    bool finished;
    struct {
        unsigned name;
        char value[64];
    } attributes[ATTRIBUTES];
    int64_t number;           /* of an engine, of a configuration */
    struct descriptor *about; /* a configuration's graph */
} descriptor;

/* What engines have to note: the first two are not admissible. */
static const unsigned engine_notes[ENGINES] = {
    CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, CUDNN_NUMERICAL_NOTE_TENSOR_CORE, 9, 9, 9};

static const void *attribute(const descriptor *d, unsigned name)
{
    for (int i = 0; i < ATTRIBUTES; i++)
        if (d->attributes[i].name == name) return d->attributes[i].value;
    fprintf(stderr, "fake cuDNN: descriptor %u has no attribute %u\n", d->type, name);
    abort();
}
static const descriptor *descriptor_at(const descriptor *d, unsigned name)
{
    const descriptor *v;
    memcpy(&v, attribute(d, name), sizeof v);
    return v;
}

static size_t cudnnGetVersion(void) { return 91900; }
static const char *cudnnGetErrorString(cudnnStatus_t status) { return status == CUDNN_FAILED ? "CUDNN_STATUS_EXECUTION_FAILED" : "other"; }
static void cudnnGetLastErrorString(char *text, size_t size) { snprintf(text, size, "last"); }
static cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    CUDNN();
    *handle = thing(1);
    return 0;
}
static cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    end(handle);
    CUDNN();
    return 0;
}
static cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    (void)handle;
    (void)stream;
    CUDNN();
    return 0;
}
static cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made)
{
    CUDNN();
    descriptor *d = thing(sizeof *d);
    d->type = type;
    for (int i = 0; i < ATTRIBUTES; i++) d->attributes[i].name = UINT32_MAX;
    *made = d;
    return 0;
}
static cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    end(d);
    CUDNN();
    return 0;
}
static cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t at, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    CUDNN();
    descriptor *d = at;
    size_t size =
        type == CUDNN_TYPE_INT64 || type == CUDNN_TYPE_VOID_PTR || type == CUDNN_TYPE_BACKEND_DESCRIPTOR || type == CUDNN_TYPE_HANDLE ? 8
        : type == CUDNN_TYPE_BOOLEAN || type == CUDNN_TYPE_CHAR                                                                       ? 1
                                                                                                                                      : 4;
    if (d->finished) return 2000; /* bad parameter */
    int i = 0;
    while (i < ATTRIBUTES && d->attributes[i].name != UINT32_MAX && d->attributes[i].name != name) i++;
    if (i == ATTRIBUTES || size * (size_t)count > sizeof d->attributes[i].value) abort();
    d->attributes[i].name = name;
    memcpy(d->attributes[i].value, values, size * (size_t)count);
    return 0;
}
static cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const at, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *values)
{
    (void)type;
    CUDNN();
    descriptor *d = at;
    static const char json[] = "{\"engine\":2}";
    int64_t *numbers = values;
    *count = 1;
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        descriptor **configs = values;
        unsigned mode;
        memcpy(&mode, attribute(d, CUDNN_ATTR_ENGINEHEUR_MODE), sizeof mode);
        *count = mode == CUDNN_HEUR_MODE_A ? ENGINES : 0;
        for (int i = 0; i < room && i < *count; i++) {
            configs[i]->number = i;
            configs[i]->about = (descriptor *)(uintptr_t)descriptor_at(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
        }
    } else if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
        (*(descriptor **)values)->number = d->number;
    } else if (name == CUDNN_ATTR_ENGINE_GLOBAL_INDEX) {
        *numbers = d->number;
    } else if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        memcpy(values, &engine_notes[d->number], sizeof engine_notes[0]);
    } else if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        *numbers = SCRATCH;
    } else {
        *count = sizeof json;
        if (room >= *count) memcpy(values, json, sizeof json);
    }
    return 0;
}
static cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t at)
{
    CUDNN();
    descriptor *d = at;
    if (d->finished) return 2000;
    d->finished = true;
    return 0;
}

static tensor tensor_of(const descriptor *d, void *const *data)
{
    tensor t;
    unsigned type;
    int64_t id;
    memcpy(&type, attribute(d, CUDNN_ATTR_TENSOR_DATA_TYPE), sizeof type);
    memcpy(&id, attribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID), sizeof id);
    memcpy(t.dim, attribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS), sizeof t.dim);
    memcpy(t.step, attribute(d, CUDNN_ATTR_TENSOR_STRIDES), sizeof t.step);
    t.bf16 = type == CUDNN_DATA_BFLOAT16;
    t.data = data[id - 1];
    return t;
}
static cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t operands)
{
    (void)handle;
    CUDNN();
    static const unsigned names[][4] = {
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY}};
    const descriptor *pack = operands, *config = descriptor_at(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const descriptor *operation = descriptor_at(config->about, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    void *data[5], *scratch;
    if (!pack->finished) return 2000;
    if (config->number < 2) {
        fprintf(stderr, "fake cuDNN: engine %lld is not admissible\n", (long long)config->number);
        abort();
    }
    memcpy(data, attribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS), sizeof data);
    memcpy(&scratch, attribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE), sizeof scratch);
    spoil(scratch, SCRATCH);
    if (operation->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR) {
        request *r = ask(ATTENTION);
        for (unsigned i = 0; i < 4; i++) r->operand[i] = tensor_of(descriptor_at(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC + i), data);
        memcpy(&r->scale, data[4], sizeof r->scale); /* by value: on the host */
        return 0;
    }
    request *r = ask(CONV);
    r->operation = operation->type;
    for (size_t k = 0; k < RT_COUNT(names); k++)
        for (int i = 0; i < 3 && names[k][0] == operation->type; i++)
            r->operand[i] = tensor_of(descriptor_at(operation, names[k][i + 1]), data);
    const unsigned conv_name = operation->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR
                                   ? CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC
                               : operation->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
                                   ? CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC
                                   : CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC;
    const descriptor *conv = descriptor_at(operation, conv_name);
    memcpy(r->stride, attribute(conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES), sizeof r->stride);
    memcpy(r->dilation, attribute(conv, CUDNN_ATTR_CONVOLUTION_DILATIONS), sizeof r->dilation);
    memcpy(r->before, attribute(conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS), sizeof r->before);
    return 0;
}

const void *fake_module(void) { return &counts; }

const rt__cuda_library *fake_cuda(void)
{
    static const rt__cuda_library table = {
#define RT_FUNCTION(library, result, name, arguments) .name = name,
#include "backend/cuda/cuda_functions.def"
#undef RT_FUNCTION
    };
    return &table;
}

void fake_cuda_use(void) { rt__cuda_pretend(fake_cuda(), fake_module()); }
