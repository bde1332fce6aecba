/* onednn.c -- the CPU backend: convolutions and matrix products through oneDNN.
 *
 * Images lie in blocks of as many channels as a register holds floats (nChw16c with AVX-512, nChw8c with AVX2) from one convolution to the next,
 * where that number divides their channels: both Winograds know no other layout and direct convolutions are as fast in it as in any. Other operands are
 * plain; where a primitive wants them otherwise, they are reordered into scratch before it runs, or its result after:
 *
 *     w (OIHW) --reorder--> w (packed) ---+
 *     x (nChw16c) ------------------------+--> primitive --> y (nChw16c)        (with AVX2: nChw8c)
 *
 * Everything is made in prepare; run sets pointers and executes. The algorithm is chosen by rule, so that equal commands give equal bits, unless
 * the program has a table of choices. The reference kernels are slower down to the smallest sizes (8 channels of 8x8, 16x16 matrices), so none is left to them.
 * Convolutions to a handful of channels are few.c's; 3x3 ones with stride 1 in float are winograd.c's where that pays: the library has Winograd from
 * 2.6 to 3.1 and for AVX-512 only, and slower.
 *
 * bf16 convolutions are direct, as fast in nChw16c as channels last (avx512_core_bf16; for AMX, see bf16()). Weights come as float in either
 * type of program: the reorder into the primitive's format rounds them.
 *
 * Weights that are trained are reordered, or transformed, in every run, like any operand: 1% of a training step. Those of a frozen set are once per
 * version, and kept in memory that the program hands out. A run allocates nothing of ours; dnnl_primitive_execute allocates within the library. */
#include "backend/onednn/few.h"
#include "backend/onednn/guard.h"
#include "backend/onednn/winograd.h"
#include "graph/choices.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPERANDS = 4, LINE = 64 };

/* An instruction set that was asked for by name is the library's limit, too. The library takes a limit once, before anything else. */
static pthread_once_t limited = PTHREAD_ONCE_INIT;
static void limit(void)
{
#if defined(__x86_64__)
    static const dnnl_cpu_isa_t most[RT_ISAS] = {[RT_ISA_BASELINE] = dnnl_cpu_isa_sse41,
                                                 [RT_ISA_AVX2] = dnnl_cpu_isa_avx2,
                                                 [RT_ISA_AVX512] = dnnl_cpu_isa_avx512_core,
                                                 [RT_ISA_AVX512_BF16] = dnnl_cpu_isa_avx512_core_bf16};
    if (rt__isa_forced()) rt__dnnl_limit(most[rt__isa()]);
#endif
}
/* For want of memory it has not said what it has: the next program fails. */
static atomic_bool unknown;
static dnnl_cpu_isa_t library_isa(void)
{
    dnnl_cpu_isa_t level = (dnnl_cpu_isa_t)0;
    pthread_once(&limited, limit);
    if (rt__dnnl_isa(&level) != dnnl_success) unknown = true;
    return level;
}

/* Levels are sets of bits. */
static bool wide(dnnl_cpu_isa_t level) { return ((int)library_isa() & (int)level) == (int)level; }

/* Channels of a block, such as the library's kernels take it: nChw16c with AVX-512, nChw8c below it. 1: images are plain. */
static int channel_block(void) { return wide(dnnl_cpu_isa_avx512_core) ? 16 : wide(dnnl_cpu_isa_sse41) ? 8 : 1; }

/* One operand of a primitive: where it comes from, and its way into the primitive's format. */
typedef struct operand {
    int arg;                 /* DNNL_ARG_SRC, ... */
    int from;                /* index of the node's input, -1: its result */
    dnnl_memory_t user, own; /* own NULL: the user's format is the primitive's */
    dnnl_primitive_t reorder;
    size_t offset; /* of own in scratch, or in what is kept */
    bool kept;
    uint64_t version; /* of what is kept; 0: nothing yet */
} operand;

typedef struct job {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    operand operands[OPERANDS];
    int n;
    dnnl_memory_t scratchpad;
    size_t scratchpad_offset, scratch, kept;
    bool preset_bias;  /* the result starts as in[2], a number per channel, and the primitive adds to it */
    bool alone;        /* on one thread */
    bool few;          /* by few.c, without the library */
    bool winograd;     /* by winograd.c, likewise, with the transformed weights: */
    size_t weights_at; /* their offset in scratch, unless they are in what is kept */
    bool weights_kept;
    uint64_t version; /* of what is kept; 0: nothing yet */
} job;

static const char *version(void)
{
    static char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

/* The processor, as far as it decides what is fast. */
static const char *processor(void)
{
    static char text[64];
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0, unused;
    __get_cpuid(0, &unused, &b, &c, &d);
    __get_cpuid(1, &a, &unused, &unused, &unused);
    snprintf(text, sizeof text, "%.4s%.4s%.4s %x isa %x", (char *)&b, (char *)&d, (char *)&c, a, (unsigned)library_isa());
#else
    snprintf(text, sizeof text, "isa %x", (unsigned)library_isa());
#endif
    return text;
}

static void release(void *state)
{
    job *j = state;
    if (!j) return;
    for (int i = 0; i < j->n; i++) {
        if (j->operands[i].reorder) dnnl_primitive_destroy(j->operands[i].reorder);
        if (j->operands[i].own) dnnl_memory_destroy(j->operands[i].own);
        if (j->operands[i].user) dnnl_memory_destroy(j->operands[i].user);
    }
    if (j->scratchpad) dnnl_memory_destroy(j->scratchpad);
    if (j->primitive) dnnl_primitive_destroy(j->primitive);
    if (j->stream) dnnl_stream_destroy(j->stream);
    if (j->engine) dnnl_engine_destroy(j->engine);
    free(j);
}

/* Did the library do it? Where it has no memory, or broke, the call fails; what it does not know another way, or the reference, does in its place. */
static bool done(const rt_call *c, dnnl_status_t status)
{
    if (status == dnnl_out_of_memory || status == dnnl_runtime_error)
        *c->fault = status == dnnl_out_of_memory ? RT_E_MEMORY : RT_E_INTERNAL;
    return status == dnnl_success;
}

static job *empty_job(const rt_call *c)
{
    job *j = calloc(1, sizeof *j);
    if (!j) *c->fault = RT_E_MEMORY;
    return j;
}

static job *new_job(const rt_call *c)
{
    library_isa();
    job *j = empty_job(c);
    if (j && (!done(c, rt__dnnl_engine(&j->engine)) || !done(c, rt__dnnl_stream(&j->stream, j->engine)))) {
        release(j);
        return NULL;
    }
    return j;
}

/* The offset of so many bytes more. */
static size_t take(size_t *total, size_t bytes)
{
    size_t at = *total;
    *total += (bytes + LINE - 1) / LINE * LINE;
    return at;
}

/* Adds the operand `arg` that the caller holds as `user`; the primitive wants what its descriptor says. */
static bool add_operand(const rt_call *c, job *j, const_dnnl_primitive_desc_t pd, int arg, int from, md_ptr user)
{
    operand *o = &j->operands[j->n++];
    *o = (operand){.arg = arg, .from = from};
    md_ptr want = dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, arg);
    if (!done(c, rt__dnnl_memory(&o->user, user, j->engine))) return false;
    if (dnnl_memory_desc_equal(user, want)) return true;
    if (!done(c, rt__dnnl_memory(&o->own, want, j->engine))) return false;
    o->offset = take(&j->scratch, dnnl_memory_desc_get_size(want));
    dnnl_primitive_desc_t rpd;
    bool in = from >= 0;
    if (!done(c, rt__dnnl_reorder_pd(&rpd, j->engine, in ? user : want, in ? want : user))) return false;
    bool ok = done(c, rt__dnnl_primitive(&o->reorder, rpd));
    dnnl_primitive_desc_destroy(rpd);
    return ok;
}

/* The library makes the code of its general matrix product, some 4 MiB, when one first runs that is no product with a vector; those of AVX2 and below
 * are by it. Made with the program instead, a rehearsal counts it, and the first run is a run like others. */
static bool make_product_code(const rt_call *c, const_dnnl_primitive_desc_t pd)
{
    enum { SIDE = 16 };
    static atomic_bool made; /* one that two threads make at once is made */
    const char *kernel = NULL;
    float x[SIDE * SIDE] = {0}, y[SIDE * SIDE];
    if (made || dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &kernel) != dnnl_success || !kernel) return true;
    if (strncmp(kernel, "gemm:jit", 8) == 0) made = done(c, rt__dnnl_sgemm(SIDE, x, x, y));
    return *c->fault == RT_OK;
}

static bool finish(const rt_call *c, job *j, const_dnnl_primitive_desc_t pd)
{
    if (!make_product_code(c, pd)) return false;
    md_ptr pad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    size_t bytes = pad ? dnnl_memory_desc_get_size(pad) : 0;
    if (bytes > 0) {
        if (!done(c, rt__dnnl_memory(&j->scratchpad, pad, j->engine))) return false;
        j->scratchpad_offset = take(&j->scratch, bytes);
    }
    return done(c, rt__dnnl_primitive(&j->primitive, pd));
}

/* y[n,o,:] = b[o] */
static void fill_bias(const rt_call *c)
{
    const float *b = c->in[2].data;
    int64_t channels = c->out.dim[1], pixels = c->out.dim[2] * c->out.dim[3];
#pragma omp parallel for schedule(static) if (c->out.count > 16384)
    for (int64_t row = 0; row < c->out.dim[0] * channels; row++) {
        float *y = (float *)c->out.data + row * pixels, value = b[row % channels];
        for (int64_t i = 0; i < pixels; i++) y[i] = value;
    }
}

static void run_winograd(const rt_call *c, job *j)
{
    char *weights = j->weights_kept ? c->kept : (char *)c->scratch + j->weights_at;
    RT_PICK_ISA(rt__winograd)->run(c, weights, j->weights_kept && j->version == c->version);
    j->version = c->version;
}

static void execute(const rt_call *c, dnnl_primitive_t primitive, int n, const dnnl_exec_arg_t *args)
{
    const job *j = c->state;
    if (*c->fault == RT_OK && !done(c, rt__dnnl_execute(primitive, j->stream, n, args)) && *c->fault == RT_OK) *c->fault = RT_E_INTERNAL;
}

static void run(const rt_call *c)
{
    job *j = c->state;
    if (j->few) {
        RT_PICK_ISA(rt__few)->run(c);
        return;
    }
    if (j->winograd) {
        run_winograd(c, j);
        return;
    }
    int threads = omp_get_max_threads();
    if (j->alone) omp_set_num_threads(1);
    if (j->preset_bias) fill_bias(c);
    char *scratch = c->scratch, *kept = c->kept;
    dnnl_exec_arg_t args[OPERANDS + 1];
    int n = 0;
    for (int i = 0; i < j->n; i++) {
        operand *o = &j->operands[i];
        dnnl_memory_set_data_handle(o->user, o->from >= 0 ? c->in[o->from].data : c->out.data);
        if (o->own) dnnl_memory_set_data_handle(o->own, (o->kept ? kept : scratch) + o->offset);
        if (o->own && o->from >= 0 && !(o->kept && o->version == c->version))
            execute(c, o->reorder, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, o->user}, {DNNL_ARG_TO, o->own}});
        o->version = c->version;
        args[n++] = (dnnl_exec_arg_t){o->arg, o->own ? o->own : o->user};
    }
    if (j->scratchpad) {
        dnnl_memory_set_data_handle(j->scratchpad, scratch + j->scratchpad_offset);
        args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, j->scratchpad};
    }
    execute(c, j->primitive, n, args);
    for (int i = 0; i < j->n; i++) {
        operand *o = &j->operands[i];
        if (o->own && o->from < 0) execute(c, o->reorder, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, o->own}, {DNNL_ARG_TO, o->user}});
    }
    dnnl_stream_wait(j->stream);
    omp_set_num_threads(threads);
}

static dnnl_data_type_t data_type(rt_dtype type) { return type == RT_BF16 ? dnnl_bf16 : dnnl_f32; }

/* ---- convolutions: x (N,C,H,W), w (O,C/g,kh,kw), y (N,O,oh,ow), each an input or the result */

static const rt_view *weights(const rt_call *c) { return c->node->op == rt__ops_f32[RT_OP_conv2d_weight] ? &c->out : &c->in[1]; }

/* The library's Winograd; on request only, as ours is faster. */
static bool library_winograd_can(const rt_call *c)
{
    const rt_conv *conv = &((const rt__conv_attr *)c->node->attr)->conv;
    const rt_view *w = weights(c);
    return HAVE_WINOGRAD && wide(dnnl_cpu_isa_avx512_core) && c->in[0].dtype == RT_F32 && w->dim[2] == 3 && w->dim[3] == 3 &&
           conv->stride[0] == 1 && conv->stride[1] == 1 && conv->dilation[0] == 1 && conv->dilation[1] == 1 && conv->groups == 1 &&
           w->dim[0] >= 16 && w->dim[1] >= 16;
}

/* Winograd saves three quarters of the products but transforms x, w and y. Measured with AVX-512 and AVX2, one thread, 16 to 256 channels, 1 to 64
 * images of 4x4 to 32x32 pixels: from so many pixels on it is faster than direct, up to three times, and with fewer up to twice slower. Fewer make up
 * for its transforms where w was transformed before, and in the gradient of w, whose direct way is slower. Its threads meet more often. */
static bool winograd_pays(const rt_call *c, int threads)
{
    bool gradient = c->node->op == rt__ops_f32[RT_OP_conv2d_weight], kept = !gradient && c->fixed >> 1 & 1;
    const rt_view *w = weights(c), *y = gradient ? &c->in[1] : c->node->op == rt__ops_f32[RT_OP_conv2d_data] ? &c->in[0] : &c->out;
    int64_t fewest = w->dim[0] < w->dim[1] ? w->dim[0] : w->dim[1], pixels = y->count / y->dim[1];
    int64_t enough = fewest < 32 ? 1024 : kept ? 48 : gradient ? 96 : 192;
    double work = (double)(w->dim[0] * w->dim[1] * pixels);
    return RT_PICK_ISA(rt__winograd)->can(c) && fewest >= 16 && pixels >= enough && work >= 0.1e6 * (threads - 1);
}

/* Did the library fall back to its plain loops, which are a hundred times slower? */
static bool is_plain_loop(const_dnnl_primitive_desc_t pd)
{
    const char *name = NULL;
    return pd && dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) == dnnl_success && name && !strncmp(name, "ref", 3);
}

/* A primitive of the convolution of these layouts; gradients are made by the forward pass that they belong to. */
static bool make_conv(const rt_call *c, job *j, conv_kind kind, dnnl_alg_kind_t alg, const_dnnl_primitive_attr_t attr, const md_own any[3],
                      const md_ptr of[3], md_ptr bias, const conv_geometry *g, dnnl_primitive_desc_t *pd)
{
    dnnl_primitive_desc_t hint = NULL;
    bool ok = kind == CONV_FORWARD || done(c, rt__dnnl_conv_pd(&hint, attr, j->engine, CONV_FORWARD, alg, md_of(&any[0]), md_of(&any[1]),
                                                               NULL, md_of(&any[2]), g, NULL));
    ok = ok && done(c, rt__dnnl_conv_pd(pd, attr, j->engine, kind, alg, of[0], of[1], bias, of[2], g, hint));
    if (hint) dnnl_primitive_desc_destroy(hint);
    return ok;
}

static job *prepare_conv(const rt_call *c, conv_kind kind, dnnl_alg_kind_t alg)
{
    const rt__conv_attr *at = c->node->attr;
    const rt_conv *conv = &at->conv;
    const rt_view *x = kind == CONV_DATA ? &c->out : &c->in[0], *w = kind == CONV_WEIGHT ? &c->out : &c->in[1];
    const rt_view *y = kind == CONV_FORWARD ? &c->out : kind == CONV_DATA ? &c->in[0] : &c->in[1];
    bool biased = kind == CONV_FORWARD && c->n_in == 3, grouped = conv->groups > 1;

    dnnl_dims_t xd, yd, wd;
    for (int i = 0; i < 4; i++) xd[i] = x->dim[i], yd[i] = y->dim[i];
    if (grouped) {
        dnnl_dims_t d = {conv->groups, w->dim[0] / conv->groups, w->dim[1], w->dim[2], w->dim[3]};
        memcpy(wd, d, sizeof d);
    } else {
        for (int i = 0; i < 4; i++) wd[i] = w->dim[i];
    }
    int wn = grouped ? 5 : 4;
    conv_geometry g = {.stride = {conv->stride[0], conv->stride[1]},
                       .dilate = {conv->dilation[0] - 1, conv->dilation[1] - 1},
                       .before = {conv->pad[2], conv->pad[0]},
                       .after = {conv->pad[3], conv->pad[1]}};

    md_own any[3] = {0}, result = {0}, user[4] = {0};
    dnnl_dims_t bd = {w->dim[0]};
    bool x_blocked = x->block > 1, y_blocked = y->block > 1;
    dnnl_format_tag_t in_blocks = channel_block() == 16 ? dnnl_nChw16c : dnnl_nChw8c;
    dnnl_data_type_t type = data_type(c->in[0].dtype); /* of what is multiplied */
    bool stays = wide(
        dnnl_cpu_isa_avx2); /* below AVX2 the library has gradients in plain images only: reordering is much less than its fallback takes */
    done(c, rt__dnnl_tag(&any[0], 4, xd, type, x_blocked && stays ? in_blocks : dnnl_format_tag_any));
    done(c, rt__dnnl_tag(&any[1], wn, wd, type, dnnl_format_tag_any));
    done(c, rt__dnnl_tag(&any[2], 4, yd, type, y_blocked && stays ? in_blocks : dnnl_format_tag_any));
    done(c, rt__dnnl_tag(&user[0], 4, xd, data_type(x->dtype), x_blocked ? in_blocks : dnnl_nchw));
    done(c, rt__dnnl_tag(&user[1], wn, wd, data_type(w->dtype), grouped ? dnnl_goihw : dnnl_oihw));
    done(c, rt__dnnl_tag(&user[2], 4, yd, data_type(y->dtype), y_blocked ? in_blocks : dnnl_nchw));
    done(c, rt__dnnl_tag(&user[3], 1, bd, dnnl_f32, dnnl_x));
    /* a result in another type than what is multiplied; the forward pass that a gradient belongs to has one type */
    md_ptr of[3] = {md_of(&any[0]), md_of(&any[1]), md_of(&any[2])};
    int made = kind == CONV_DATA ? 0 : kind == CONV_WEIGHT ? 1 : 2;
    if (data_type(c->out.dtype) != type) {
        bool blocked = kind != CONV_WEIGHT && c->out.block > 1;
        const int64_t *dims[] = {xd, wd, yd};
        done(c, rt__dnnl_tag(&result, made == 1 ? wn : 4, dims[made], data_type(c->out.dtype), blocked ? in_blocks : dnnl_format_tag_any));
        of[made] = md_of(&result);
    }

    job *j = new_job(c);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    md_ptr bias = biased ? md_of(&user[3]) : NULL;
    bool ok = j && done(c, rt__dnnl_attr(&attr));
    ok = ok && make_conv(c, j, kind, alg, attr, any, of, bias, &g, &pd);
    if (ok && stays && (x_blocked || y_blocked) && is_plain_loop(pd)) {
        /* With AVX-512 the library has no fast gradient of weights for 4 channels where the other image is in blocks of 16; with layouts of its own choice it
         * has, and reordering costs little. */
        const int64_t *dims[] = {xd, NULL, yd};
        dnnl_primitive_desc_t chosen = NULL;
        for (int i = 0; i < 3; i += 2) {
            md_free(&any[i]);
            ok = ok && done(c, rt__dnnl_tag(&any[i], 4, dims[i], type, dnnl_format_tag_any));
            if (of[i] != md_of(&result)) of[i] = md_of(&any[i]);
        }
        if (ok && make_conv(c, j, kind, alg, attr, any, of, bias, &g, &chosen)) {
            dnnl_primitive_desc_destroy(pd);
            pd = chosen;
        }
        ok = ok && *c->fault == RT_OK;
    }
    if (ok) {
        if (kind == CONV_FORWARD) {
            ok = add_operand(c, j, pd, DNNL_ARG_SRC, 0, md_of(&user[0])) && add_operand(c, j, pd, DNNL_ARG_WEIGHTS, 1, md_of(&user[1])) &&
                 add_operand(c, j, pd, DNNL_ARG_DST, -1, md_of(&user[2])) &&
                 (!biased || add_operand(c, j, pd, DNNL_ARG_BIAS, 2, md_of(&user[3])));
        } else if (kind == CONV_DATA) {
            ok = add_operand(c, j, pd, DNNL_ARG_DIFF_DST, 0, md_of(&user[2])) &&
                 add_operand(c, j, pd, DNNL_ARG_WEIGHTS, 1, md_of(&user[1])) &&
                 add_operand(c, j, pd, DNNL_ARG_DIFF_SRC, -1, md_of(&user[0]));
        } else {
            ok = add_operand(c, j, pd, DNNL_ARG_SRC, 0, md_of(&user[0])) && add_operand(c, j, pd, DNNL_ARG_DIFF_DST, 1, md_of(&user[2])) &&
                 add_operand(c, j, pd, DNNL_ARG_DIFF_WEIGHTS, -1, md_of(&user[1]));
        }
        ok = ok && finish(c, j, pd);
        dnnl_primitive_desc_destroy(pd);
    }
    if (attr) dnnl_primitive_attr_destroy(attr);
    for (int i = 0; i < 3; i++) md_free(&any[i]);
    for (int i = 0; i < 4; i++) md_free(&user[i]);
    md_free(&result);
    if (ok) return j;
    release(j);
    return NULL;
}

/* Images of conv2d (x, w, b) -> y, conv2d_data (gy, w) -> gx and conv2d_weight (x, gy) -> w; weights are plain. */
static int block(const rt_node *y, int input)
{
    bool weight = y->op == rt__ops_f32[RT_OP_conv2d_weight];
    const rt_node *v = input < 0 ? y : y->in[input];
    bool image = weight ? input >= 0 : input <= 0;
    const rt_conv *conv = &((const rt__conv_attr *)y->attr)->conv;
    return image && conv->groups == 1 && v->shape[1] % channel_block() == 0 ? channel_block() : 1;
}

/* ---- matrix products: leading axes are one batch, or absent from one side */

static int64_t leading(const rt_view *v)
{
    int64_t n = 1;
    for (int i = 0; i < v->rank - 2; i++) n *= v->dim[i];
    return n;
}

/* A matrix within a batch of them: strides of rows and columns; count 1 is shared by all. */
typedef struct matrices {
    int from; /* which input */
    int64_t count, row, col;
} matrices;

/* y (batch,m,n) = a b, or += with `add`; in bf16 if one of the factors is. */
static job *product(const rt_call *c, int64_t batch, int64_t m, int64_t k, int64_t n, matrices a, matrices b, bool add)
{
    md_own md[3] = {0}, user[2] = {0};
    dnnl_dims_t ad = {a.count, m, k}, bd = {b.count, k, n}, yd = {batch, m, n};
    dnnl_dims_t as = {m * k, a.row, a.col}, bs = {k * n, b.row, b.col}, ys = {m * n, n, 1};
    int skip = batch == 1; /* a plain product of matrices */
    rt_dtype type = c->in[a.from].dtype == RT_BF16 ? RT_BF16 : c->in[b.from].dtype;
    done(c, rt__dnnl_strides(&md[0], 3 - skip, ad + skip, data_type(type), as + skip));
    done(c, rt__dnnl_strides(&md[1], 3 - skip, bd + skip, data_type(type), bs + skip));
    done(c, rt__dnnl_strides(&md[2], 3 - skip, yd + skip, data_type(c->out.dtype), ys + skip));
    done(c, rt__dnnl_strides(&user[0], 3 - skip, ad + skip, data_type(c->in[a.from].dtype), as + skip));
    done(c, rt__dnnl_strides(&user[1], 3 - skip, bd + skip, data_type(c->in[b.from].dtype), bs + skip));
    job *j = new_job(c);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    bool ok = j && done(c, rt__dnnl_attr(&attr)) && (!add || done(c, rt__dnnl_accumulate(attr))) &&
              done(c, rt__dnnl_matmul_pd(&pd, attr, j->engine, md_of(&md[0]), md_of(&md[1]), md_of(&md[2])));
    if (ok) {
        ok = add_operand(c, j, pd, DNNL_ARG_SRC, a.from, md_of(&user[0])) &&
             add_operand(c, j, pd, DNNL_ARG_WEIGHTS, b.from, md_of(&user[1])) && add_operand(c, j, pd, DNNL_ARG_DST, -1, md_of(&md[2])) &&
             finish(c, j, pd);
        dnnl_primitive_desc_destroy(pd);
    }
    if (attr) dnnl_primitive_attr_destroy(attr);
    for (int i = 0; i < 3; i++) md_free(&md[i]);
    for (int i = 0; i < 2; i++) md_free(&user[i]);
    if (ok) return j;
    release(j);
    return NULL;
}

static job *prepare_matmul(const rt_call *c)
{
    const rt__matmul_attr *at = c->node->attr;
    const rt_view *a = &c->in[0], *b = &c->in[1], *y = &c->out;
    int64_t batch = leading(y), na = leading(a), nb = leading(b), m = y->dim[y->rank - 2], n = y->dim[y->rank - 1];
    int64_t k = at->transpose_a ? a->dim[a->rank - 2] : a->dim[a->rank - 1];
    if ((na != 1 && na != batch) || (nb != 1 && nb != batch)) return NULL; /* a partial broadcast: rare */
    return product(c, batch, m, k, n, at->transpose_a ? (matrices){0, na, 1, m} : (matrices){0, na, k, 1},
                   at->transpose_b ? (matrices){1, nb, 1, k} : (matrices){1, nb, n, 1}, false);
}

static bool is_pointwise(const rt_call *c)
{
    const rt_conv *conv = &((const rt__conv_attr *)c->node->attr)->conv;
    const rt_view *w = &c->in[1];
    return c->in[0].block <= 1 && c->out.block <= 1 && w->dim[2] == 1 && w->dim[3] == 1 && conv->stride[0] == 1 && conv->stride[1] == 1 &&
           conv->groups == 1 && !(conv->pad[0] | conv->pad[1] | conv->pad[2] | conv->pad[3]);
}

/* A 1x1 convolution is a matrix times each image as it lies, without reorders: y[n] (O,HW) = w x[n], gx[n] (C,HW) = w^T gy[n]. */
static job *prepare_pointwise(const rt_call *c, bool adjoint)
{
    const rt_view *image = &c->in[0];
    int64_t m = c->out.dim[1], k = image->dim[1], pixels = image->dim[2] * image->dim[3];
    matrices weights = adjoint ? (matrices){1, 1, 1, m} : (matrices){1, 1, k, 1};
    job *j = product(c, image->dim[0], m, k, pixels, weights, (matrices){0, image->dim[0], pixels, 1}, c->n_in == 3);
    if (j) j->preset_bias = c->n_in == 3;
    return j;
}

/* Where pairs of bf16 are multiplied at twice the rate of floats, as on Zen 4. Processors with AMX multiply them at half of it in vectors (103 and 180
 * GFLOP/s measured on Sapphire Rapids), and AMX wants channels last, which we do not have: a step in bf16 took twice that in float there. */
static bool bf16(void) { return wide(dnnl_cpu_isa_avx512_core_bf16) && !wide(dnnl_cpu_isa_avx512_core_amx); }

/* Images and other values per sample are multiplied in bf16. Results are bf16 where they are per sample and, images, in blocks: the first and last
 * image of a network and sums over samples stay float. */
static rt_dtype type(const rt_node *y, int input)
{
    const rt_node *v = input < 0 ? y : y->in[input];
    if (v->rank == 0 || v->shape[0] >= 0) return RT_F32;
    if (y->op != rt__ops_f32[RT_OP_matmul]) return input >= 0 || block(y, -1) > 1 ? RT_BF16 : RT_F32;
    return rt__product_in_bf16(y) ? RT_BF16 : RT_F32;
}

/* ---- ways to compute a call */

typedef enum algorithm { DIRECT, PRODUCT, WINOGRAD, FEW, LIBRARY_WINOGRAD } algorithm; /* and their places in `ways` */

static const char *const way_names[] = {
    "direct", "product", "winograd", "few channels", "winograd of the library", "direct, one thread", "product, one thread"};
static const struct {
    algorithm algorithm;
    bool alone;
} ways[] = {{DIRECT, false}, {PRODUCT, false}, {WINOGRAD, false}, {FEW, false}, {LIBRARY_WINOGRAD, false}, {DIRECT, true}, {PRODUCT, true}};

static job *prepare_few(const rt_call *c)
{
    const rt__few *few = RT_PICK_ISA(rt__few);
    job *j = few->can(c) ? empty_job(c) : NULL;
    if (j) j->few = true, j->scratch = few->scratch(c);
    return j;
}

static job *prepare_winograd(const rt_call *c)
{
    job *j = RT_PICK_ISA(rt__winograd)->can(c) ? empty_job(c) : NULL;
    if (!j) return NULL;
    j->winograd = true;
    take(&j->scratch, RT_PICK_ISA(rt__winograd)->scratch(c));
    j->weights_at = take(&j->scratch, RT_PICK_ISA(rt__winograd)->weights(c));
    return j;
}

static job *make_job(const rt_call *c, algorithm a)
{
    const rt_op *op = c->node->op;
    if (op == rt__ops_f32[RT_OP_matmul]) return a == PRODUCT ? prepare_matmul(c) : NULL;
    bool weight = op == rt__ops_f32[RT_OP_conv2d_weight], data = op == rt__ops_f32[RT_OP_conv2d_data];
    if (a == PRODUCT) return !weight && is_pointwise(c) ? prepare_pointwise(c, data) : NULL;
    if (a == WINOGRAD) return prepare_winograd(c);
    if (a == FEW) return prepare_few(c);
    if (a == LIBRARY_WINOGRAD && !library_winograd_can(c)) return NULL;
    return prepare_conv(c,
                        weight ? CONV_WEIGHT
                        : data ? CONV_DATA
                               : CONV_FORWARD,
                        a == LIBRARY_WINOGRAD ? dnnl_convolution_winograd : dnnl_convolution_direct);
}

static void *make_way(const rt_call *c, int k, size_t *scratch)
{
    int threads = omp_get_max_threads();
    if (ways[k].alone && threads == 1) return NULL; /* the same as another way */
    if (ways[k].alone) omp_set_num_threads(1);      /* the library splits the work when a primitive is made */
    job *j = make_job(c, ways[k].algorithm);
    omp_set_num_threads(threads);
    if (j) j->alone = ways[k].alone;
    *scratch = j ? j->scratch : 0;
    return j;
}

/* Waking the other threads costs more than so little work. */
static bool is_small(const rt_call *c) { return c->node->op->flop(c) < 0.5e6; }

static int rule(const rt_call *c, int threads)
{
    const rt_op *op = c->node->op;
    bool product = op == rt__ops_f32[RT_OP_matmul] || (op != rt__ops_f32[RT_OP_conv2d_weight] && is_pointwise(c));
    algorithm a = product ? PRODUCT : winograd_pays(c, threads) ? WINOGRAD : RT_PICK_ISA(rt__few)->can(c) ? FEW : DIRECT;
    for (int k = 0; k < (int)RT_COUNT(ways); k++)
        if (ways[k].algorithm == a && ways[k].alone == ((a == DIRECT || a == PRODUCT) && threads > 1 && is_small(c))) return k;
    return (int)a;
}

/* Operands that are fixed are reordered, weights that are fixed are transformed once per version and kept. */
static void pack(const rt_call *c, job *j)
{
    if (j->winograd && c->node->op != rt__ops_f32[RT_OP_conv2d_weight] && c->fixed >> 1 & 1) {
        take(&j->kept, RT_PICK_ISA(rt__winograd)->weights(c));
        j->weights_kept = true;
        j->scratch = j->weights_at;
    }
    for (int i = 0; i < j->n; i++) {
        operand *o = &j->operands[i];
        if (!o->own || o->from < 0 || !(c->fixed >> o->from & 1)) continue;
        o->kept = true;
        o->version = 0;
        o->offset = take(&j->kept, dnnl_memory_desc_get_size(memory_desc(o->own)));
    }
}

static size_t kept(const void *state) { return ((const job *)state)->kept; }

static void *prepare(const rt_call *c, int threads, size_t *scratch)
{
    const rt_op *op = c->node->op;
    if (atomic_exchange(&unknown, false)) *c->fault = RT_E_MEMORY;
    if (*c->fault != RT_OK) return NULL;
    if (op != rt__ops_f32[RT_OP_conv2d] && op != rt__ops_f32[RT_OP_conv2d_data] && op != rt__ops_f32[RT_OP_conv2d_weight] &&
        op != rt__ops_f32[RT_OP_matmul])
        return NULL;
    char who[160] = "", key[512] = "";
    if (c->choices) snprintf(who, sizeof who, "onednn %s, %s, %d threads", version(), processor(), threads);
    if (c->choices) rt__choice_key(c, who, key, sizeof key);
    rt__ways all = {way_names, RT_COUNT(ways), rule(c, threads), make_way, run, release, NULL, NULL};
    job *j = rt__choose(c, key, &all, scratch);
    if (!j) return NULL;
    pack(c, j);
    *scratch = j->scratch;
    return j;
}

const rt_backend rt__backend_onednn = {.name = "onednn",
                                       .version = version,
                                       .prepare = prepare,
                                       .block = block,
                                       .bf16 = bf16,
                                       .type = type,
                                       .kept = kept,
                                       .run = run,
                                       .release = release};
