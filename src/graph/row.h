/* row.h -- what a node and an operator's row are; for the engine, the rows in ops/ and the backends. Users see graph.h and ops.h. */
#ifndef RT_GRAPH_ROW_H
#define RT_GRAPH_ROW_H

#include "base/internal.h"
#include "base/isa.h"
#include "base/rank_sums.h"
#include "retort/graph.h"
#include "retort/ops.h"

/* Rows are compiled for every instruction set in float, and for the baseline in double, too; kernels say `real`. Rules (shape, grad, ...) are the same
 * in all and are taken from one table, rt__ops_f32; the others serve their kernels (rt__kernel_of). */
#ifndef RT_REAL
#define RT_REAL float
#endif
typedef RT_REAL real;

typedef struct rt_op rt_op;

struct rt_node {
    rt_graph *graph;
    const rt_op *op;
    const void *attr; /* the row's attribute struct (attr_size bytes, zeroed before it is filled so that it can be compared) */
    const char *path; /* layer path where it was built, for messages */
    int id;           /* position in the graph: inputs have smaller ids */
    int n_in;
    rt_node **in;
    rt_dtype dtype; /* of a program's copy of a real value: how it is stored, RT_BF16 where it computes so */
    int rank;
    int64_t shape[RT_MAX_RANK]; /* extent 0 may be -k: k times the batch */
    /* Layout of an image (N,C,H,W), chosen when a program is made: its channels lie in blocks of so many, [N][C/block][H W][block]. 0 and 1:
     * plain; RT_CHANNELS_LAST: all of them in one, [N][H W][C]. Shapes stay logical. */
    int block;
    /* In a program: the node whose kernel writes this one's value beside its own, and the other way round. NULL: none. */
    rt_node *host, *rider;
};

enum { RT_CHANNELS_LAST = -1 }; /* a node's block; its view says C */

/* How a row treats the batch symbol on axis 0. */
typedef enum rt_batch_rule {
    RT_MAPS, /* sample by sample */
    RT_SUMS, /* adds samples up: slices of a batch are added */
    RT_MIXES /* needs all samples at once */
} rt_batch_rule;

/* How a row treats images whose channels lie in blocks. */
typedef enum rt_layout_rule {
    RT_LAYOUT_PLAIN,  /* does not know them: operands are made plain */
    RT_LAYOUT_MAPS,   /* takes all images in one layout, which its result has, too */
    RT_LAYOUT_READS,  /* takes all images in one layout; its result is plain */
    RT_LAYOUT_BACKEND /* a convolution: plain for the reference, for a backend what its `block` says */
} rt_layout_rule;

/* How a row treats operands that are stored in bf16. Most kernels widen what they read and calculate in float. */
typedef enum rt_type_rule {
    RT_TYPE_F32, /* does not know them: operands are cast back */
    RT_TYPE_MAPS, /* reads its largest operands in either type, and if all are in bf16, so may its result be; smaller ones (weights) are float */
    RT_TYPE_READS,  /* likewise, but its result is float */
    RT_TYPE_ALIKE,  /* takes all operands in one type, which its result has, too: copies elements, or multiplies in that type */
    RT_TYPE_BACKEND /* a convolution or a matrix product: what the backend's `type` says */
} rt_type_rule;

/* A value with its memory: extents are numbers here. Buffers are dense, row-major (blocks: see rt_node) and 64-byte aligned; nothing overlaps. */
typedef struct rt_view {
    void *data;
    rt_dtype dtype;
    int rank, block;
    int64_t dim[RT_MAX_RANK], count;
} rt_view;

/* One execution of a node. */
typedef struct rt_call {
    const rt_node *node;
    int n_in;
    const rt_view *in;
    rt_view out;
    rt_view side;   /* the rider's value, to be written, too; data NULL: there is none */
    void *scratch;  /* as many bytes as the row's scratch asked for */
    void *kept;     /* as many bytes as the backend's kept asked for: nobody else's */
    unsigned fixed; /* bit i: in[i] is the same in all runs of equal `version` (weights of a set that the program does not train) */
    uint64_t version;
    const rt_clock *clock; /* of the run, where the values lie; draws read it. clock->total is never 0 here */
    void *roles[RT_ROLES]; /* of an update, by rt_role: its set's arrays where the values lie; NULL: not needed */
    void *state;           /* what a backend's prepare returned */
    rt_choices *choices;   /* during prepare; NULL: by rule */
    rt_status *fault; /* RT_OK before a backend's prepare and run; there they say what failed: RT_E_MEMORY, RT_E_DEVICE, RT_E_INTERNAL */
} rt_call;

struct rt_op {
    const char *name;    /* "conv2d": one word per concept, unique */
    const char *formula; /* for the documents: "y[n,o,q] = sum_c,k w[o,c,k] x[n,c,s q + d k - p] + b[o]" */
    int min_in, max_in;  /* arity; max_in -1: any number */
    size_t attr_size;
    rt_batch_rule batch;
    rt_layout_rule layout;
    rt_type_rule type;
    enum { RT_ROW_SOURCE = 1, RT_ROW_RANDOM = 2, RT_ROW_INPLACE = 4, RT_ROW_VIEW = 8, RT_ROW_UPDATE = 16 } flags;
    /* SOURCE: no kernel, the plan supplies the memory (input, parameter, constant). RANDOM: depends on the clock, never folded or hoisted.
     * INPLACE: the kernel reads element i of an input before it writes element i, so out may be in[0]'s (or, if of the same shape, any input's)
     * buffer. VIEW: out is in[0]'s memory with other extents; no kernel. UPDATE: writes parameter sets; runs after all readers of the old version. */

    /* Fills y->dtype, rank and shape from the inputs and attributes, or fails with rt__bad and returns false. */
    bool (*shape)(rt_node *y);
    /* May y, whose inputs' images have blocks of b channels, be computed in that layout? NULL: always. */
    bool (*blockable)(const rt_node *y, int b);
    /* gx[i] = gradient for input i, as nodes; gx starts as NULLs (no gradient: indices, conditions). Broadcasting is undone by the caller. */
    void (*grad)(rt_node *y, rt_node *gy, rt_node **gx);
    /* The same value in simpler rows: a row without `grad` is differentiated through it. Never reads y itself. */
    rt_node *(*expand)(rt_node *y);
    /* Forward mode: the derivative of y when each input i moves along dx[i] (of its shape; NULL: it stands still; for a comparison's result: anything), as
     * a node that broadcasts to y's shape; NULL: it is 0. A row without `jvp` goes by its `expand`. */
    rt_node *(*jvp)(rt_node *y, rt_node *const *dx);
    /* The reference kernel, in `real`. Parallel loops are `#pragma omp parallel for`; results do not depend on the number of threads. */
    void (*run)(const rt_call *c);
    /* Can the kernel of `host`, a node of another row, write y's value to call->side? Then y needs none. NULL: no. */
    bool (*rides)(const rt_node *y, const rt_node *host);
    /* Bytes of scratch for these extents; NULL: none. */
    size_t (*scratch)(const rt_call *c);
    /* Floating point operations for these extents, NULL: one per element of the output. */
    double (*flop)(const rt_call *c);
    /* Sample k = 0, 1, .. for the tests, NULL after the last one: builds inputs with rt_input (names "a", "b", ..; the walk fills real ones with
     * normal numbers and integer ones with 0 and 1 in turn) and returns the node to check. Sample -1 builds one bad shape. */
    rt_node *(*sample)(rt_graph *g, int k);
};

/* ---- the table: ops.def lists the rows, one RT_OP(name) per line */
typedef enum rt__op_id {
#define RT_OP(name) RT_OP_##name,
#include "graph/ops.def"
#undef RT_OP
    RT_OPS
} rt__op_id;

/* The name of a row's symbol in the instantiation being compiled: rt__op_conv2d_float_avx2, rt__op_conv2d_double_baseline. */
#define RT_OF_REAL(name) RT_OF_ISA(RT_JOIN(name, RT_REAL))
#define RT_ROW(name)     RT_OF_REAL(rt__op_##name##_)
#define RT_OP(name)      extern const rt_op RT_ROW(name);
#include "graph/ops.def"
#undef RT_OP

typedef const rt_op *const rt__rows[RT_OPS]; /* ops/table.c */
extern rt__rows RT_EACH_ISA(rt__rows_float), rt__rows_double_baseline;
#define rt__ops_f32 rt__rows_float_baseline
/* The row whose `run` and `scratch` serve op, of rt__ops_f32, in graphs of a type: for double, or float in the instruction set in use. */
const rt_op *rt__kernel_of(const rt_op *op, rt_dtype dtype);

/* ---- building nodes: for rows and their builders */

/* Appends the node op(in...; attr), or returns an equal one that exists (same row, attributes and inputs), or the inert node if the graph or an
 * input has failed, the arity is wrong or the shape rule refuses. attr NULL: zeros. Inputs must belong to one graph. */
rt_node *rt__emit(rt_graph *g, rt__op_id op, rt_node *const *in, int n_in, const void *attr);
static inline rt_node *rt__emit1(rt__op_id op, rt_node *a, const void *attr) { return rt__emit(a->graph, op, (rt_node *[]){a}, 1, attr); }
static inline rt_node *rt__emit2(rt__op_id op, rt_node *a, rt_node *b, const void *attr)
{
    return rt__emit(a->graph, op, (rt_node *[]){a, b}, 2, attr);
}
/* From a shape rule: fails with "path: op <shapes of the inputs>: text" and returns false. */
bool rt__bad(rt_node *y, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool rt__failed(const rt_node *n); /* inert? Builders that look at shapes must ask first and return the node itself. */
void *rt__graph_alloc(rt_graph *g,
                      size_t size); /* from the graph's arena, for attributes; on exhaustion the graph fails and NULL is returned */

/* rt_const of numbers that stay where they are: they outlive the graph and its programs and do not change. */
rt_node *rt__const_borrowed(rt_graph *g, rt_dtype dtype, int rank, const int64_t *shape, const void *data);

/* Numpy's rule for two shapes with a symbolic axis 0; false if they do not fit. */
bool rt__broadcast_shape(const rt_node *a, const rt_node *b, int *rank, int64_t *shape);
/* Sums a gradient down to the shape of `like`, which was broadcast to get g's. */
rt_node *rt__sum_to(rt_node *g, const rt_node *like);
/* Rules for `jvp`: of rows whose Jacobian is symmetric, such as those of one operand, element by element: their gradient's rule; of rows that are linear in
 * each real input by itself; and by a row's expansion. */
rt_node *rt__jvp_diagonal(rt_node *y, rt_node *const *dx);
rt_node *rt__jvp_linear(rt_node *y, rt_node *const *dx);
rt_node *rt__jvp_expanded(rt_node *y, rt_node *const *dx);
/* x with zeros before and after it along an axis. */
rt_node *rt__pad_zero(rt_node *x, int axis, int64_t before, int64_t after);
static inline bool rt__is_real(const rt_node *n) { return n->dtype == RT_F32 || n->dtype == RT_F64; }

/* ---- attributes that the engine itself reads */
typedef struct rt__param_attr {
    rt_params *set;
    int entry;
    int version; /* counts the updates of the set in this graph before this read; in[0] is the update if > 0 */
} rt__param_attr;
typedef struct rt__input_attr {
    const char *name;
    rt_dtype dtype;
    int rank;
    int64_t shape[RT_MAX_RANK];
} rt__input_attr;
typedef struct rt__const_attr {
    rt_dtype dtype;
    int rank;
    int64_t shape[RT_MAX_RANK];
    const void *data;
} rt__const_attr;
typedef struct rt__update_attr {
    rt_params *set;
    rt_optimiser opt; /* in: lr, t, decay, norm2, then the gradients of the entries that are not frozen, in order */
    int version;
} rt__update_attr;
static inline unsigned rt__update_roles(const rt__update_attr *a) /* bit r: it rewrites the array of role r */
{
    return 1u << RT_VALUE | 1u << RT_MOMENT1 | (a->opt.kind != RT_SGD ? 1u << RT_MOMENT2 : 0) | (a->opt.average ? 1u << RT_AVERAGE : 0);
}

/* ---- attributes that backends read, too */
typedef struct rt__matmul_attr {
    int transpose_a, transpose_b;
} rt__matmul_attr;
/* conv2d (x, w[, b]) -> y; conv2d_data (gy, w) -> gx, extent is (H, W) of x; conv2d_weight (x, gy) -> gw, extent is (kh, kw). */
typedef struct rt__conv_attr {
    rt_conv conv;
    int extent[2];
} rt__conv_attr;
/* group_norm (x[, w, b][, t]); group_norm_data (x[, w, b][, t], gy[, a]) -> gx; group_norm_sums (x[, w, b][, t], gy) -> (N,C,3);
 * group_norm_jvp (x[, w, b][, t], dx) -> dy: see ops/norm.c. */
typedef struct rt__group_attr {
    int64_t groups;
    double eps;
    int silu, addend; /* SiLU follows; the last input is added */
} rt__group_attr;
bool rt__is_channel_shift(const rt_node *x, const rt_node *t); /* t (N,C,1,..) for x (N,C,...)? */
/* attention (x (N,3 C,H,W)) -> (N,C,H,W); attention_grad (x, gy) -> gx; attention_jvp (x, dx) -> dy */
typedef struct rt__attention_attr {
    int64_t heads;
    double scale;
} rt__attention_attr;
/* avg_pool2d (x) and max_pool2d (x) -> y; avg_pool2d_data (gy) and max_pool2d_data (x, gy) -> gx, extent is (H, W) of x; max_pool2d_pick (x, v):
 * v where x has the maximum of the window. */
typedef struct rt__pool_attr {
    int kernel[2], stride[2], pad[2], exclude_pad;
    int extent[2];
} rt__pool_attr;

/* An input of a sample: RT_SAMPLE_IN(g, "a", RT_BATCH, 3). */
#define RT_SAMPLE_IN(g, name, ...) rt_input(g, name, rt_graph_real(g), (int)RT_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})

/* ---- devices */
enum { RT_JOIN_TEXT = 600 }; /* what `join` says */
/* Where a backend's values lie if not in the host's memory: a device, whose memory host code does not touch (docs/devices.md). Requests are carried out in
 * the order in which they are made, as by one stream, the backend's `run` among them; they return at once, and what fails is said by the next finish. Host
 * memory that a request names stays, and is neither written nor read, until the next finish. The engine never calls from two threads at a time. */
typedef struct rt_device {
    /* Is there one that works? Asked for every program that is compiled. RT_E_DEVICE: what is missing, and what to do. */
    rt_status (*open)(rt_error *err);
    void *(*alloc)(size_t bytes);            /* on the device, 256-byte aligned, of any content; NULL: none left */
    void (*release)(void *at, size_t bytes); /* waits for what uses it. at NULL: nothing */
    void *(*pin)(size_t bytes);              /* memory of the host, fit for copies to and fro, zeros; NULL: none left */
    void (*unpin)(void *at, size_t bytes);
    size_t (*room)(void); /* bytes that alloc could give now */
    /* Requests. */
    void (*upload)(void *to, const void *from, size_t bytes);
    void (*download)(void *to, const void *from, size_t bytes);
    void (*copy)(void *to, const void *from, size_t bytes); /* on the device; the two do not overlap */
    void (*zero)(void *at, size_t bytes);
    void (*add)(void *to, const void *from, int64_t count, rt_dtype dtype); /* to += from, on the device: RT_F32 or RT_I64 */
    void (*trail)(void *to, const void *from, double keep, int64_t count);  /* to = keep to + (1 - keep) from, on the device, of RT_F32 */
    /* Sums over ranks that stay on the device; join NULL: they go by the host. All ranks together call join, for every program of theirs: *joined says
     * whether there is such a way for them, `how` by what, or why not; what fails is RT_E_DEVICE or, where a rank cannot be reached, RT_E_COMM. sum is a
     * request that may wait for others, and says what has failed: numbers, R equal parts of whole lines of 64 bytes, become sums over the R ranks by the
     * tree of rt__ranks_sum. */
    rt_status (*join)(rt_ranks *r, bool *joined, char how[RT_JOIN_TEXT], rt_error *err);
    rt_status (*sum)(const rt__sum *sums, int n);
    /* Waits until all requests are done. RT_E_DEVICE, RT_E_MEMORY, RT_E_COMM: one failed since the last finish that said so; the device's own words are in the text. */
    rt_status (*finish)(rt_error *err);
    /* Time: mark notes, as a request, the moment when it is carried out as number k (0, 1, ..); after finish, moment gives it in seconds from any start. */
    void (*mark)(int k);
    double (*moment)(int k);
    /* Recordings of requests, to be carried out many times. Between record and recorded requests are not carried out but kept; there is no alloc, finish or mark among
     * them. recorded returns them, or NULL where that failed: they are then made one by one. A step's first run in a program, and its first after `version`
     * moved, are never recorded: what a row makes once (tables of addresses, packed weights, see `kept`) it requests there. record NULL: no recordings. */
    void (*record)(void);
    void *(*recorded)(void);
    void (*replay)(void *recording); /* a request: all that were recorded, with the addresses that they had */
    void (*forget)(void *recording);
} rt_device;

/* ---- backends */
/* A backend claims rows that it does better than the reference. prepare returns its state for a node with fixed extents (NULL: not mine, use the
 * reference, unless *c->fault says that it failed), and *scratch, the bytes it needs during run; run only computes. */
struct rt_backend {
    const char *name;
    const char *(*version)(void);
    /* NULL: values lie in the host's memory. With a device, a backend claims whole programs: rt_compile refuses one with rows for which prepare returns
     * NULL and names them all. Addresses in a call (data of in, out and side; scratch, kept, roles, clock) are the device's; the call itself is the
     * host's, lives as long as `run` does, and has no addresses yet in prepare. run only makes requests. */
    const rt_device *device;
    void *(*prepare)(const rt_call *c, int threads, size_t *scratch);
    /* The block in which a RT_LAYOUT_BACKEND row takes its input, or gives its result (input -1); NULL: all are plain. A node for which any of them is
     * not plain must not be refused by prepare. One block for all, or RT_CHANNELS_LAST. */
    int (*block)(const rt_node *y, int input);
    /* May programs compute in bf16 here? It depends on the processor; NULL: never. */
    bool (*bf16)(void);
    /* In such programs, the type in which a RT_TYPE_BACKEND row takes its input, or gives its result (-1): RT_F32 or RT_BF16. A node for which any
     * of them is RT_BF16 must not be refused by prepare. */
    rt_dtype (*type)(const rt_node *y, int input);
    /* Bytes that a state keeps from run to run, for what it derives from fixed inputs; NULL: none. */
    size_t (*kept)(const void *state);
    void (*run)(const rt_call *c);
    void (*release)(void *state);
};
/* In a program in bf16, is a product of what is per sample worth it? Not one row per sample, such as a time embedding, nor a partial broadcast. */
bool rt__product_in_bf16(const rt_node *y);
/* Makes a backend known by its name, behind those that are built in: for tests. At most 4, before any other thread asks for one. */
void rt__backend_add(const rt_backend *b);
extern const rt_backend rt__backend_reference, rt__backend_cuda;
#ifdef RETORT_ONEDNN
extern const rt_backend rt__backend_onednn;
#endif

#endif
