/* graph.h -- the engine: graphs of operators, named parameter sets, gradients as more graph, compiled programs.
 *
 *     rt_params *student = rt_params_new("student", RT_F32);
 *     rt_graph *g = rt_graph_new(RT_F32);
 *     rt_node *x = rt_input(g, "x", RT_F32, 2, (int64_t[]){RT_BATCH, 3});
 *     rt_node *w = rt_param(g, student, "w", 2, (int64_t[]){5, 3}, RT_INIT_UNIFORM(0.5));
 *     rt_node *loss = rt_expect(rt_norm2(rt_linear(x, w, NULL)));
 *     rt_node *gw; rt_grad(loss, &w, 1, &gw);
 *
 * Builders never return NULL. The first failure sticks to the graph with the layer path and the shapes in its text; later builders are
 * inert, so mathematics is written without a check per line and rt_graph_status is asked once, at the end (rt_compile asks it too).
 *
 * The batch. Dimension 0 of a value may be a symbol: RT_BATCH is B, the number of samples, and -k means k B (two batches joined).
 * Its value is chosen when a program is compiled. Only rt_expect and its relatives join samples, so a batch may run in slices.
 *
 * Lifetimes. A graph owns its nodes. Parameter sets and contexts outlive the graphs and programs that name them; a graph outlives the
 * programs compiled from it. */
#ifndef RETORT_GRAPH_H
#define RETORT_GRAPH_H

#include "retort/ranks.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_graph rt_graph;
typedef struct rt_node rt_node;
typedef struct rt_params rt_params;
typedef struct rt_program rt_program;

#define RT_BATCH ((int64_t)-1)

/* ---- parameter sets ------------------------------------------------------------------------------------------------------------------
 * A set (teacher, student, fake, ...) is a list of named entries over one contiguous array per role, so that the optimiser, clipping,
 * the average, a copy or a checkpoint is one sweep. Entries are added by the networks that are built on the set. */

typedef enum rt_role { RT_VALUE, RT_GRADIENT, RT_MOMENT1, RT_MOMENT2, RT_AVERAGE, RT_ROLES } rt_role;

/* How an entry starts: draws are keyed by its name, so adding a layer leaves the others' draws as they were. */
typedef struct rt_init {
    enum { RT_INIT_KIND_CONST, RT_INIT_KIND_UNIFORM, RT_INIT_KIND_NORMAL } kind;
    double a; /* the constant, the half width of the uniform interval, or the standard deviation */
} rt_init;
#define RT_INIT_CONST(v)      ((rt_init){RT_INIT_KIND_CONST, (v)})
#define RT_INIT_UNIFORM(half) ((rt_init){RT_INIT_KIND_UNIFORM, (half)})
#define RT_INIT_NORMAL(std)   ((rt_init){RT_INIT_KIND_NORMAL, (std)})

/* dtype is RT_F32 (training state) or RT_F64 (tests). Copies the name. NULL only when memory is out. */
rt_params *rt_params_new(const char *name, rt_dtype dtype);
void rt_params_free(rt_params *set);
const char *rt_params_name(const rt_params *set);
rt_dtype rt_params_dtype(const rt_params *set);
int rt_params_entries(const rt_params *set);
int64_t rt_params_count(const rt_params *set); /* numbers in all entries together */
/* Length of a role's array: entries start at multiples of 16 numbers, gaps hold 0. */
int64_t rt_params_extent(const rt_params *set, rt_role role);
int64_t rt_params_trained(const rt_params *set); /* numbers of a role's array before what rt_params_freeze took: all without */

typedef struct rt_entry {
    const char *name; /* the checkpoint's key */
    int rank;
    int64_t shape[RT_MAX_RANK];
    int64_t offset, count; /* position in each role's array, in numbers */
    rt_init init;
    bool frozen; /* never trained: a buffer (fixed frequencies), or by rt_params_freeze */
} rt_entry;

const rt_entry *rt_params_entry(const rt_params *set, int index); /* borrowed; NULL if out of range */
int rt_params_find(const rt_params *set, const char *name);       /* index, or -1 */

/* Adds an entry, or finds the one of that name; a different shape is an error. Fails once the set is allocated and lacks the name. */
rt_status rt_params_add(rt_params *set, const char *name, int rank, const int64_t *shape, rt_init init, int *index, rt_error *err);

/* Freezes every entry whose name matches one of the patterns, a list joined by commas (`*` any text, `?` a letter, as a shell's): no gradient, no moments.
 * Before any array exists. RT_E_USAGE if a pattern matches nothing, or all entries are frozen then. */
rt_status rt_params_freeze(rt_params *set, const char *globs, rt_error *err);

/* The array of a role (rt_params_extent numbers of rt_params_dtype), allocated and zeroed on first use; NULL when memory is out, or a device failed. Allocating
 * any role closes the list of entries. Writers call rt_params_touch afterwards. Where programs run on a device the array is what they left until the next
 * run that updates the set: after it, ask again. */
void *rt_params_data(rt_params *set, rt_role role);
/* Makes sure that rt_params_data has what the newest run left: where NULL would not do, and the reason is to be heard. RT_E_MEMORY, RT_E_DEVICE. */
rt_status rt_params_fetch(rt_params *set, rt_role role, rt_error *err);
void rt_params_zero(rt_params *set, rt_role role);                      /* an array that exists becomes zeros, wherever it lies */
bool rt_params_has(const rt_params *set, rt_role role);                 /* has that array been allocated, here or on a device? */
rt_status rt_params_init(rt_params *set, uint64_t seed, rt_error *err); /* the values, as each entry says */
/* Copies values between sets of equal entries (names, shapes, order): "the student becomes the teacher". */
rt_status rt_params_copy(rt_params *to, rt_role to_role, const rt_params *from, rt_role from_role, rt_error *err);
/* The values of `set` become keep own + (1 - keep) the leader's, keep from 0 to 1, between sets of equal entries: where both lie, on the device if both do. */
rt_status rt_params_trail(rt_params *set, rt_params *leader, double keep, rt_error *err);
/* Counts changes of the values; programs recompute what they derive from a set when it moves. */
void rt_params_touch(rt_params *set);
uint64_t rt_params_version(const rt_params *set);

/* ---- graphs ------------------------------------------------------------------------------------------------------------------------ */

rt_graph *rt_graph_new(rt_dtype real); /* the type of constants, draws and real inputs: RT_F32 or RT_F64 */
void rt_graph_free(rt_graph *g);
rt_dtype rt_graph_real(const rt_graph *g);
rt_status rt_graph_status(const rt_graph *g, rt_error *err); /* the first failure, or RT_OK */
/* The layer path in front of names of parameters and messages: push "down_blocks.0", push "conv1", ... pop. Parts are joined by '.'. */
void rt_push(rt_graph *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
void rt_pop(rt_graph *g);
/* Makes the graph fail, as the builders do: the text is prefixed by the layer path. Returns the inert node. */
rt_node *rt_fail(rt_graph *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Turns passes off, for tests that compare. All are on in a new graph. Sharing and fusion act while the graph is built. */
typedef enum rt_pass {
    RT_PASS_SHARE = 1,
    RT_PASS_FOLD = 2,
    RT_PASS_HOIST = 4,
    RT_PASS_REUSE = 8,
    RT_PASS_LAYOUT = 16,
    RT_PASS_FUSE = 32
} rt_pass;
void rt_graph_passes(rt_graph *g, unsigned passes);

rt_graph *rt_node_graph(const rt_node *n);
rt_dtype rt_node_dtype(const rt_node *n);
int rt_node_rank(const rt_node *n);
const int64_t *rt_node_shape(const rt_node *n); /* rank extents; extent 0 may be the symbol */
int64_t rt_dim(const rt_node *n, int axis);     /* negative axes count from the end */

/* Operations of computing every node once for a batch of B, multiply and add counted as two, convolutions as direct. Needs no memory for values. */
double rt_graph_flop(const rt_graph *g, int64_t batch);

/* Gradients of a scalar `loss` with respect to n nodes, as nodes of their shapes; a node the loss does not depend on gives zeros.
 * Follows only paths from wrt to loss. Being nodes, gradients can be differentiated again. */
void rt_grad(rt_node *loss, rt_node *const *wrt, int n, rt_node **out);

/* The derivative of y when n distinct real nodes x move along dx (of their shapes), by forward mode: sum over i of (dy/dx[i]) dx[i], of y's shape; zeros where
 * y does not depend on them. x are independent variables: none is followed into another. What makes numbers of a comparison or rounds to whole ones, as a
 * look-up by time does, is refused by name; rt_stop_grad is constant here, too. Being nodes, derivatives can be differentiated again.
 * Source: Lu & Song 2024 (sCM), Geng et al. 2025 (MeanFlow). */
rt_node *rt_jvp(rt_node *y, rt_node *const *x, rt_node *const *dx, int n);

/* ---- programs ----------------------------------------------------------------------------------------------------------------------
 * A program is a compiled list of outputs and updates with its own memory plan. It runs many times and allocates nothing per run. */

typedef struct rt_backend rt_backend;
/* "reference", "onednn" when built in, "cuda"; NULL selects the processor's fastest; unknown: NULL */
const rt_backend *rt_backend_find(const char *name);
/* Can it compute here? RT_E_DEVICE says what is missing: a build with kernels, a library, a device. Compiling asks, too. */
rt_status rt_backend_open(const rt_backend *b, rt_error *err);
bool rt_backend_apart(const rt_backend *b); /* do its values lie on a device? NULL: the fastest, whose do not */
/* By all ranks together, as by compiling: which way sums over ranks go where values lie on devices, "sums over ranks stay on the GPUs, by NCCL 2.28.9", or
 * why by the host, which makes no other bits; else "". RT_E_DEVICE: a rank has no device, or none of its own. RT_E_COMM: ranks cannot reach each other. */
rt_status rt_backend_join(const rt_backend *b, rt_ranks *r, char how[RT_ERROR_TEXT], rt_error *err);
const char *rt_backend_name(const rt_backend *b);
const char *rt_backend_version(const rt_backend *b); /* of the library behind it; of the reference: retort's kernels, "1" */
const char *const *rt_backend_names(void);           /* NULL-terminated */
/* Does it compute in this type (RT_F32, RT_BF16) on this processor? bf16 needs AVX512_BF16 or AMX. b NULL: the fastest. */
bool rt_backend_computes(const rt_backend *b, rt_dtype type);

/* What a command would take, for --dry-run: programs of a rehearsal have a plan but no memory that was filled, and running them does nothing (their
 * outputs are zeros). Starts as zeros; outlives its programs. */
typedef struct rt_rehearsal {
    int64_t reserved;                     /* bytes that are not resident but would be */
    size_t peak;                          /* most resident memory of the process so far, what was reserved included */
    int64_t device_reserved, device_peak; /* bytes that would be taken on a device, now and at most; 0: without one */
} rt_rehearsal;
/* Looks at the process, for `peak`, after `bytes` (may be negative or 0) were added to what is reserved. */
void rt_rehearsal_reserve(rt_rehearsal *r, int64_t bytes);

/* Kernel choices. Where a backend has several algorithms for a shape, a rule picks one, always the same; trying them on the shape itself may find a
 * faster one. A table of choices remembers what was found, for this processor, library, number of threads and shape, and can be kept in files, so
 * that a later program is made of the same kernels. Programs of several threads of the caller do not share a table. */
typedef struct rt_choices rt_choices;
rt_choices *rt_choices_new(bool trying); /* trying: rt_compile times what the table does not know. NULL only when memory is out */
void rt_choices_free(rt_choices *c);
/* Puts the choices of a file into the table, over those that stand there; no file, no choices. RT_E_INVALID: it is not such a file. */
rt_status rt_choices_read(rt_choices *c, const char *path, rt_error *err);
/* Adds the choices that programs were made with to a file, where those that stand stay. Makes its folder; replaces a file that is broken. */
rt_status rt_choices_keep(const rt_choices *c, const char *path, rt_error *err);
/* How many choices programs were made with; of one name ("direct", "winograd", "product"), or NULL: of all. */
int rt_choices_used(const rt_choices *c, const char *name);
/* Calls that can be computed by the way of this name are, whatever is known: for measuring it. Borrowed. */
void rt_choices_prefer(rt_choices *c, const char *name);

typedef struct rt_program_spec {
    rt_node *const *outputs; /* values wanted (borrowed during the call) */
    int n_outputs;
    rt_node *const *updates; /* rt_update_* nodes to perform */
    int n_updates;
    int64_t batch;             /* B: samples per slice; 1 if the graph has no symbol */
    const rt_backend *backend; /* NULL: the fastest */
    int threads;               /* 0: rt_default_threads() */
    /* RT_F32 or RT_BF16. In bf16, convolutions and matrix products take operands in bf16 and add up in float, and what lies between them is stored
     * in bf16; parameters, their gradients, sums over samples, statistics, softmax, products of one row per sample and all outputs stay float.
     * Where the backend does not compute in bf16 (rt_backend_computes), and in graphs of doubles, it is as RT_F32. */
    rt_dtype compute;
    rt_node *recompute;      /* a loss: what is read after it is kept, NULL, or made again where it is cheap: less memory, the same bits */
    rt_rehearsal *rehearsal; /* NULL: a real program */
    rt_choices *choices;     /* NULL: by rule. Read and written during the call */
    /* How sums over a batch are added where it is more than one shard, an equal part of the batch, its samples in slices: the slices of a shard in order; the shards of
     * this rank in a tree, neighbours first; then those of the ranks, likewise. So any number of ranks gives the same bits. */
    int64_t shard;   /* samples, whole slices; 0: the batch is one */
    int shards;      /* of this rank, a power of two; 0: 1 */
    rt_ranks *ranks; /* NULL: there is one */
} rt_program_spec;

/* RT_E_USAGE where outputs and updates depend on an update that is not listed: it would be performed, too. */
rt_status rt_compile(rt_program **program, rt_graph *g, const rt_program_spec *spec, rt_error *err);
void rt_program_free(rt_program *p);

/* What identifies one run. A batch of `total` samples may be run in slices: the same step, samples `first`.., `more` on all but the last.
 * Sums over the batch (gradients, expectations) add up over the slices in order, or as the program's shards say, and updates are performed with the last. */
typedef struct rt_clock {
    uint64_t seed;
    uint32_t step;  /* the clock of draws */
    uint32_t first; /* global index of the first sample of this slice */
    int64_t total;  /* samples in the whole batch, B_global of rt_expect; 0: the program's batch */
    bool resumed;   /* not the first slice of this rank: add to what the earlier ones left */
    bool more;      /* further slices of this rank follow: no update yet */
} rt_clock;

/* With more than one thread: OpenMP's team is the caller's; threads of it that share a processor are moved apart now and then, their affinities stay.
 * How long they stay awake between loops is the host's to say, in the environment that it is started with: GOMP_SPINCOUNT=3000 for GNU's runtime,
 * KMP_BLOCKTIME=1 for LLVM's, where other programs use the machine, too. */
rt_status rt_run(rt_program *p, const rt_clock *clock, rt_error *err);

/* The buffer of an input (to be written before a run; keeps its content between runs) or of an output (valid until the next run). NULL if
 * the node is neither, or an input that nothing in the program reads. */
void *rt_program_data(rt_program *p, const rt_node *node);
int64_t rt_program_count(const rt_program *p, const rt_node *node); /* its number of elements with B put in */
size_t rt_program_bytes(const rt_program *p);                       /* planned memory: buffers and scratch */

/* Values that stay where the program runs. What is held, an input or an output, is copied between a device and rt_program_data when it is asked for, not in every
 * run; in the host's memory there is nothing to copy. */
void rt_program_hold(rt_program *p, const rt_node *node); /* before the first run */
/* What was written to rt_program_data is the input's value in the next run, which follows at once. */
void rt_program_push(rt_program *p, const rt_node *input);
/* rt_program_data becomes what the last run left. */
rt_status rt_program_pull(rt_program *p, const rt_node *output, rt_error *err);
/* What the last run left of an output, of as many numbers, is the input's value in the next. Both are held. */
void rt_program_feed(rt_program *p, const rt_node *input, const rt_node *output);
/* The first `count` numbers of what the last run left of an output in float become the set's values from number `at` on, on the device if the program runs there. */
rt_status rt_program_store(rt_program *p, const rt_node *output, int64_t count, rt_params *set, int64_t at, rt_error *err);

/* Time per operator of the runs so far, when switched on: rows sorted by seconds. Borrowed until the next call. */
typedef struct rt_profile_row {
    const char *op;
    int64_t calls;
    double seconds, flop, bytes;
    double cached; /* of bytes: those of calls that move RT_PROFILE_CACHED bytes or fewer, which a cache may hold */
} rt_profile_row;
#define RT_PROFILE_CACHED (16 << 20)
void rt_program_profile(rt_program *p, bool on);
int rt_program_profile_rows(rt_program *p, const rt_profile_row **rows);
double rt_program_flop(const rt_program *p); /* operations of one run, multiply and add counted as two, convolutions as direct */

#ifdef __cplusplus
}
#endif
#endif
