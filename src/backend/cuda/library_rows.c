/* library_rows.c -- see library_rows.h.
 *
 * Images are plain or, with as many channels in a block as they have, channels last. Weights come as (O,C,kh,kw) in float; cuDNN takes them in the type and the
 * order of the image, so they are converted into scratch before a convolution, or once per version where they are fixed, and gradients of weights after it:
 *
 *     w (O,C,kh,kw) float --convert--> (O,kh,kw,C) --+
 *     x (N,H,W,C) -----------------------------------+--> cuDNN --> y (N,oh,ow,O) --> y + b
 *     x, gy --> cuDNN --> (O,kh,kw,C) --convert--> gw (O,C,kh,kw) float
 *
 * cuDNN has no gradient of weights in float from operands in bf16, so that is rounded to bf16 on its way. A 1x1 convolution of images with channels last is one
 * product over all pixels, with the bias in its epilogue, and its gradient of weights is float at once.
 *
 * Attention in bf16 with channels last and a multiple of 8 channels a head is cuDNN's. Else, and in both derivatives, queries, keys and values are copied as float to
 * (3,N,heads,L,d), and all products of a kind are one batch:
 *
 *     s = scale q k'    p = softmax(s)    y = p v
 *     gv = p' gy    gp = gy v'    gs = p (gp - sum p gp)    gq = scale gs k    gk = scale gs' q
 *     ds = scale (dq k' + q dk')    dp = p (ds - sum p ds)    dy = dp v + p dv                                                                  */
#include "backend/cuda/library_rows.h"

#include "backend/cuda/product.h"

#include <stdlib.h>
#include <string.h>

enum { LINE = 256, ALIGNED = 16, PRODUCTS = 5 }; /* ALIGNED: bytes, of what the libraries are told; a program's lines are longer */

typedef enum part { QKV, OTHER, SCORES, SLOPES, RESULT, PARTS } part; /* of an attention's scratch */

struct rt__cuda_job {
    void (*run)(rt__cuda_job *j, const rt_call *c, char *scratch);
    rt__cudnn_plan plan;
    rt__cuda_product products[PRODUCTS];
    int n_products;
    size_t scratch, kept;
    size_t library_at, at[PARTS]; /* in scratch: the library's own; parts of an attention, or operands that are converted and the result */
    /* convolutions and products */
    bool last, packs[3], packed_once,
        unpacks;      /* packs: operand i is converted into at[i], or operand 1 once per version into what is kept */
    uint64_t version; /* of what is kept; 0: nothing yet */
    bool loops;       /* a batch that is broadcast on some axes: one product each */
};

static size_t take(size_t *total, size_t bytes)
{
    size_t at = *total;
    *total += (bytes + LINE - 1) / LINE * LINE;
    return at;
}

static size_t bytes_of(int64_t count, rt_dtype type) { return (size_t)count * rt_dtype_size(type); }
static rt__cuda_reals reals(const void *data, rt_dtype type) { return (rt__cuda_reals){(void *)(uintptr_t)data, type == RT_BF16}; }
static bool is(const rt_call *c, rt__op_id op) { return c->node->op == rt__ops_f32[op]; }

/* ---- conversions by own kernels: y, dense, from x with steps; innermost axes first */

typedef struct axes {
    int rank;
    int64_t dim[5], step[5];
} axes;

static void map(rt__cuda_kernel kernel, rt__cuda_map_args *a, const axes *x)
{
    enum { THREADS = 256, WIDE = 8 };
    rt__cuda_launch l = {.kernel = kernel, .block = {THREADS, 1, 1}};
    a->count = 1;
    a->rank = x->rank;
    for (int i = 0; i < x->rank; i++) a->dim[i] = (unsigned)x->dim[i], a->count *= a->dim[i];
    unsigned threads = a->wide ? a->count / WIDE : a->count;
    l.grid[0] = (threads + THREADS - 1) / THREADS, l.grid[1] = l.grid[2] = 1;
    l.args.map = *a;
    rt__cuda_start(NULL, &l);
}

static void convert(void *y, rt_dtype to, const void *x, rt_dtype from, const axes *x_axes)
{
    rt__cuda_map_args a = {.y = reals(y, to), .x = {reals(x, from)}};
    for (int i = 0; i < x_axes->rank; i++) a.step[0][i] = (unsigned)x_axes->step[i];
    map(RT_CUDA_convert, &a, x_axes);
}

static void convert_dense(void *y, rt_dtype to, const void *x, rt_dtype from, int64_t count)
{
    convert(y, to, x, from, &(axes){1, {count}, {1}});
}

/* y[..,o,..] += b[o] */
static void add_bias(const rt_view *y, const void *b, bool last)
{
    int64_t channels = y->dim[1], pixels = y->dim[2] * y->dim[3];
    const axes a = last ? (axes){2, {channels, y->dim[0] * pixels}, {0}} : (axes){3, {pixels, channels, y->dim[0]}, {0}};
    rt__cuda_map_args m = {.y = reals(y->data, y->dtype), .x = {reals(y->data, y->dtype), reals(b, RT_F32)}};
    m.wide = last && channels % 8 == 0;
    unsigned step = 1;
    for (int i = 0; i < a.rank; i++) {
        m.step[0][i] = step;
        step *= (unsigned)a.dim[i];
    }
    m.step[1][last ? 0 : 1] = 1;
    map(RT_CUDA_add, &m, &a);
}

/* ---- convolutions */

static bool either_way(const rt_view *v) { return v->dim[1] == 1 || v->dim[2] * v->dim[3] == 1; }
static bool is_last(const rt_view *v) { return v->block == v->dim[1] || either_way(v); }
static bool is_plain(const rt_view *v) { return v->block <= 1 || either_way(v); }

typedef struct conv {
    const rt_view *x, *w, *y, *operand; /* operand: an image that is read */
    rt__cudnn_kind kind;
    rt_conv conv;
} conv;

static conv conv_of(const rt_call *c)
{
    conv v = {&c->in[0], &c->in[1], &c->out, &c->in[0], RT_CUDNN_FORWARD, ((const rt__conv_attr *)c->node->attr)->conv};
    if (is(c, RT_OP_conv2d_data)) v.kind = RT_CUDNN_DATA, v.x = &c->out, v.y = &c->in[0];
    if (is(c, RT_OP_conv2d_weight)) v.kind = RT_CUDNN_WEIGHT, v.w = &c->out, v.y = &c->in[1];
    return v;
}

/* Weights between (O,C,kh,kw) and, with channels last, (O,kh,kw,C). */
static axes to_own_order(const rt_view *w, bool last)
{
    int64_t c = w->dim[1], kh = w->dim[2], kw = w->dim[3];
    return last ? (axes){4, {c, kw, kh, w->dim[0]}, {kh * kw, 1, kw, c * kh * kw}} : (axes){1, {w->count}, {1}};
}

static axes to_plain_order(const rt_view *w, bool last)
{
    int64_t c = w->dim[1], kh = w->dim[2], kw = w->dim[3];
    return last ? (axes){4, {kw, kh, c, w->dim[0]}, {c, kw * c, 1, c * kh * kw}} : (axes){1, {w->count}, {1}};
}

/* Operand number i as the libraries take it, converted if need be. */
static const void *operand(rt__cuda_job *j, const rt_call *c, int i, char *scratch, rt_dtype type, const axes *a)
{
    const rt_view *v = &c->in[i];
    if (!j->packs[i]) return v->data;
    bool keeps = j->packed_once && i == 1;
    void *to = keeps ? c->kept : scratch + j->at[i];
    if (!keeps || j->version != c->version) convert(to, type, v->data, v->dtype, a);
    if (keeps) j->version = c->version;
    return to;
}

static void run_conv(rt__cuda_job *j, const rt_call *c, char *scratch)
{
    const rt__cuda_here *here = rt__cuda_opened();
    const conv v = conv_of(c);
    const rt_dtype type = v.operand->dtype;
    const axes own = to_own_order(v.w, j->last), plain = to_plain_order(v.w, j->last);
    void *result = j->unpacks ? scratch + j->at[RESULT] : c->out.data, *data[3] = {v.x->data, v.w->data, v.y->data};
    if (v.kind != RT_CUDNN_WEIGHT) data[1] = (void *)(uintptr_t)operand(j, c, 1, scratch, type, &own);
    data[v.kind == RT_CUDNN_FORWARD ? 2 : v.kind == RT_CUDNN_DATA ? 0 : 1] = result;
    rt__cuda_did_cudnn(rt__cudnn_run(&j->plan, &here->cudnn, data, scratch + j->library_at), c->node->op->name);
    if (j->unpacks && v.kind == RT_CUDNN_WEIGHT) convert(c->out.data, c->out.dtype, result, type, &plain);
    if (j->unpacks && v.kind != RT_CUDNN_WEIGHT) convert_dense(c->out.data, c->out.dtype, result, type, c->out.count);
    if (c->n_in == 3) add_bias(&c->out, c->in[2].data, j->last);
}

/* x (N pixels, C), w (O,C), y (N pixels, O): y = x w' + b, gx = gy w, gw = gy' x */
static void run_pointwise(rt__cuda_job *j, const rt_call *c, char *scratch)
{
    const conv v = conv_of(c);
    const rt__cuda_product *p = j->products;
    const void *b = NULL, *w = v.w->data;
    if (v.kind != RT_CUDNN_WEIGHT) w = operand(j, c, 1, scratch, p->type, &(axes){1, {v.w->count}, {1}});
    if (c->n_in == 3) b = operand(j, c, 2, scratch, p->result, &(axes){1, {c->in[2].count}, {1}});
    const void *left = v.kind == RT_CUDNN_FORWARD ? v.x->data : v.y->data, *right = v.kind == RT_CUDNN_WEIGHT ? v.x->data : w;
    rt__cuda_product_run(p, left, right, c->out.data, b, scratch + j->library_at);
}

static bool is_pointwise(const conv *v)
{
    const rt_conv *c = &v->conv;
    return v->w->dim[2] == 1 && v->w->dim[3] == 1 && c->groups == 1 && c->stride[0] == 1 && c->stride[1] == 1 &&
           !(c->pad[0] | c->pad[1] | c->pad[2] | c->pad[3]);
}

static bool make_product(rt__cuda_job *j, rt__cuda_product p)
{
    if (!rt__cuda_product_make(&p)) return false;
    j->products[j->n_products++] = p;
    return true;
}

/* Operand i is converted to `type`, in scratch. */
static void pack(rt__cuda_job *j, const rt_call *c, int i, rt_dtype type)
{
    j->packs[i] = true;
    j->at[i] = take(&j->scratch, bytes_of(c->in[i].count, type));
}

static bool make_pointwise(rt__cuda_job *j, const rt_call *c, const conv *v)
{
    rt__cuda_product p = {.batch = 1,
                          .type = v->operand->dtype,
                          .result = c->out.dtype,
                          .tf32 = !rt__cuda_opened()->cudnn.true_float,
                          .bias = c->n_in == 3,
                          .alpha = 1,
                          .alignment = ALIGNED};
    int64_t pixels = v->x->dim[0] * v->x->dim[2] * v->x->dim[3], C = v->w->dim[1], O = v->w->dim[0];
    if (v->kind == RT_CUDNN_FORWARD) p.m = pixels, p.n = O, p.k = C, p.tb = true;
    if (v->kind == RT_CUDNN_DATA) p.m = pixels, p.n = C, p.k = O;
    if (v->kind == RT_CUDNN_WEIGHT) p.m = O, p.n = C, p.k = pixels, p.ta = true;
    if (!make_product(j, p)) return false;
    j->run = run_pointwise;
    j->library_at = take(&j->scratch, j->products[0].scratch);
    if (v->kind != RT_CUDNN_WEIGHT && p.type != v->w->dtype) pack(j, c, 1, p.type);
    if (p.bias && p.result == RT_BF16) pack(j, c, 2, RT_BF16);
    return true;
}

static bool make_conv(rt__cuda_job *j, const rt_call *c, int k)
{
    const conv v = conv_of(c);
    const rt_dtype type = v.operand->dtype;
    j->last = is_last(v.x) && is_last(v.y);
    if (!j->last && !(is_plain(v.x) && is_plain(v.y))) return false;
    if (v.kind == RT_CUDNN_WEIGHT && c->in[1].dtype != type) return false;
    if (j->last && is_pointwise(&v)) return k == 0 && make_pointwise(j, c, &v);

    rt__cudnn_conv shape = {.kind = v.kind, .type = type, .last = j->last, .conv = v.conv};
    memcpy(shape.x, v.x->dim, sizeof shape.x);
    memcpy(shape.w, v.w->dim, sizeof shape.w);
    memcpy(shape.y, v.y->dim, sizeof shape.y);
    rt_error why = {0};
    rt_status status = rt__cudnn_plan_conv(&j->plan, &rt__cuda_opened()->cudnn, &shape, k, &why);
    if (status != RT_OK) rt__cuda_note(status, why.text);
    if (!j->plan.plan) return false;
    j->run = run_conv;
    j->library_at = take(&j->scratch, j->plan.scratch);
    bool reordered = j->last && v.w->dim[1] > 1 && v.w->dim[2] * v.w->dim[3] > 1;
    if (v.kind != RT_CUDNN_WEIGHT && (reordered || v.w->dtype != type)) pack(j, c, 1, type);
    j->unpacks = c->out.dtype != type || (v.kind == RT_CUDNN_WEIGHT && reordered);
    if (j->unpacks) j->at[RESULT] = take(&j->scratch, bytes_of(c->out.count, type));
    return true;
}

/* ---- products */

/* Where matrix `index` of the result's leading axes lies in x, which may have been broadcast. */
static int64_t matrix_of(const rt_view *x, const rt_view *y, int64_t index)
{
    int64_t at = 0, step = 1;
    for (int i = y->rank - 3, j = x->rank - 3; j >= 0; i--, j--) {
        int64_t digit = index % y->dim[i];
        index /= y->dim[i];
        if (x->dim[j] > 1) at += digit * step;
        step *= x->dim[j];
    }
    return at;
}

static void run_matmul(rt__cuda_job *j, const rt_call *c, char *scratch)
{
    const rt__cuda_product *p = j->products;
    const char *operands[2];
    for (int i = 0; i < 2; i++) operands[i] = operand(j, c, i, scratch, p->type, &(axes){1, {c->in[i].count}, {1}});
    int64_t products = j->loops ? c->out.count / (p->m * p->n) : 1;
    for (int64_t s = 0; s < products; s++) {
        size_t a = j->loops ? bytes_of(matrix_of(&c->in[0], &c->out, s) * p->m * p->k, p->type) : 0;
        size_t b = j->loops ? bytes_of(matrix_of(&c->in[1], &c->out, s) * p->k * p->n, p->type) : 0;
        rt__cuda_product_run(p, operands[0] + a, operands[1] + b, (char *)c->out.data + bytes_of(s * p->m * p->n, p->result), NULL,
                             scratch + j->library_at);
    }
}

/* True float, if not bf16: such products are few, and round the times of a network. */
static bool make_matmul(rt__cuda_job *j, const rt_call *c)
{
    const rt__matmul_attr *at = c->node->attr;
    const rt_view *a = &c->in[0], *b = &c->in[1], *y = &c->out;
    bool bf16 = a->dtype == RT_BF16 || b->dtype == RT_BF16;
    rt__cuda_product p = {.m = y->dim[y->rank - 2],
                          .n = y->dim[y->rank - 1],
                          .k = a->dim[a->rank - 1 - (at->transpose_a != 0)],
                          .ta = at->transpose_a != 0,
                          .tb = at->transpose_b != 0,
                          .type = bf16 ? RT_BF16 : RT_F32,
                          .result = y->dtype,
                          .alpha = 1};
    int64_t batch = y->count / (p.m * p.n), na = a->count / (p.m * p.k), nb = b->count / (p.k * p.n);
    j->loops = (na != 1 && na != batch) || (nb != 1 && nb != batch);
    if (batch > 1 && !p.ta && nb == 1 && na == batch) p.m *= batch, batch = na = 1; /* leading axes are rows */
    p.batch = j->loops ? 1 : batch;
    p.a_step = na > 1 ? p.m * p.k : 0, p.b_step = nb > 1 ? p.k * p.n : 0, p.y_step = p.m * p.n;
    p.alignment = j->loops ? (uint32_t)rt_dtype_size(RT_BF16) : ALIGNED;
    if (!make_product(j, p)) return false;
    j->run = run_matmul;
    j->library_at = take(&j->scratch, j->products[0].scratch);
    for (int i = 0; i < 2; i++)
        if (c->in[i].dtype != p.type) pack(j, c, i, p.type);
    return true;
}

/* ---- attention */

typedef struct heads {
    int64_t n, heads, d, pixels, block; /* block: numbers of queries, of keys, of values, of a result */
    float scale;
    bool last;
} heads;

static heads heads_of(const rt_call *c)
{
    const rt__attention_attr *at = c->node->attr;
    const rt_view *x = &c->in[0];
    heads h = {
        .n = x->dim[0], .heads = at->heads, .d = x->dim[1] / 3 / at->heads, .pixels = x->dim[2] * x->dim[3], .scale = (float)at->scale};
    h.block = h.n * h.heads * h.d * h.pixels;
    h.last = is_last(x) && is_last(&c->out) && (c->n_in == 1 || is_last(&c->in[1]));
    return h;
}

/* (parts,N,heads,L,d) from an image of parts heads d channels. */
static axes from_image(const heads *h, int parts)
{
    int64_t c = h->heads * h->d, all = parts * c;
    return h->last ? (axes){5, {h->d, h->pixels, h->heads, h->n, parts}, {1, all, h->d, h->pixels * all, c}}
                   : (axes){5, {h->d, h->pixels, h->heads, h->n, parts}, {h->pixels, 1, h->d * h->pixels, h->pixels * all, h->pixels * c}};
}

/* The way back. */
static axes to_image(const heads *h, int parts)
{
    int64_t d = h->d, L = h->pixels, image = h->heads * L * d;
    return h->last ? (axes){5, {d, h->heads, parts, L, h->n}, {1, L * d, h->block, d, image}}
                   : (axes){5, {L, d, h->heads, parts, h->n}, {d, 1, L * d, h->block, image}};
}

/* p = softmax(s), or s = p (s - sum p s), in place */
static bool rows_of_softmax(const heads *h, float *p, float *s, rt__cuda_take *to)
{
    rt_node node = {.op = rt__ops_f32[s ? RT_OP_softmax_grad : RT_OP_softmax]};
    const int64_t rows = h->n * h->heads * h->pixels;
    rt_view v = {.data = p, .dtype = RT_F32, .rank = 2, .dim = {rows, h->pixels}, .count = rows * h->pixels}, both[2] = {v, v};
    both[1].data = s;
    rt_call call = {.node = &node, .n_in = s ? 2 : 1, .in = both, .out = s ? both[1] : v};
    return rt__cuda_enqueue(&call, to, NULL);
}

static void run_attention(rt__cuda_job *j, const rt_call *c, char *scratch)
{
    const heads h = heads_of(c);
    const bool gradient = is(c, RT_OP_attention_grad), forward = is(c, RT_OP_attention_jvp);
    const rt__cuda_product *p = j->products;
    const axes three = from_image(&h, 3), one = from_image(&h, 1), back = to_image(&h, gradient ? 3 : 1);
    void *library = scratch + j->library_at;
    float *q = (float *)(void *)(scratch + j->at[QKV]), *k = q + h.block, *v = k + h.block,
          *other = (float *)(void *)(scratch + j->at[OTHER]);
    float *s = (float *)(void *)(scratch + j->at[SCORES]), *t = (float *)(void *)(scratch + j->at[SLOPES]);
    float *y = (float *)(void *)(scratch + j->at[RESULT]);
    convert(q, RT_F32, c->in[0].data, c->in[0].dtype, &three);
    if (c->n_in > 1) convert(other, RT_F32, c->in[1].data, c->in[1].dtype, gradient ? &one : &three);
    rt__cuda_product_run(&p[0], q, k, s, NULL, library);
    rows_of_softmax(&h, s, NULL, rt__cuda_start);
    if (gradient) {
        float *gy = other;
        rt__cuda_product_run(&p[3], s, gy, y + 2 * h.block, NULL, library);
        rt__cuda_product_run(&p[1], gy, v, t, NULL, library);
        rows_of_softmax(&h, s, t, rt__cuda_start);
        rt__cuda_product_run(&p[2], t, k, y, NULL, library);
        rt__cuda_product_run(&p[4], t, q, y + h.block, NULL, library);
    } else if (forward) {
        float *dq = other, *dk = dq + h.block, *dv = dk + h.block;
        rt__cuda_product_run(&p[0], dq, k, t, NULL, library);
        rt__cuda_product_run(&p[1], q, dk, t, NULL, library);
        rows_of_softmax(&h, s, t, rt__cuda_start);
        rt__cuda_product_run(&p[2], t, v, y, NULL, library);
        rt__cuda_product_run(&p[3], s, dv, y, NULL, library);
    } else {
        rt__cuda_product_run(&p[1], s, v, y, NULL, library);
    }
    convert(c->out.data, c->out.dtype, y, RT_F32, &back);
}

static void run_fused_attention(rt__cuda_job *j, const rt_call *c, char *scratch)
{
    const rt__cuda_here *here = rt__cuda_opened();
    const heads h = heads_of(c);
    uint16_t *x = c->in[0].data;
    int64_t channels = h.heads * h.d;
    float scale = h.scale;
    void *data[] = {x, x + channels, x + 2 * channels, c->out.data, &scale};
    rt__cuda_did_cudnn(rt__cudnn_run(&j->plan, &here->cudnn, data, scratch + j->library_at), c->node->op->name);
}

/* -1: failed; 0: not this one's; 1: it is */
static int make_fused_attention(rt__cuda_job *j, const rt_call *c)
{
    const heads h = heads_of(c);
    const rt__cudnn_attention shape = {h.n, h.heads, h.pixels, h.d};
    rt_error why = {0};
    if (!is(c, RT_OP_attention) || c->in[0].dtype != RT_BF16 || c->out.dtype != RT_BF16 || !h.last || h.d % 8) return 0;
    rt_status status = rt__cudnn_plan_attention(&j->plan, &rt__cuda_opened()->cudnn, &shape, 0, &why);
    if (status != RT_OK) rt__cuda_note(status, why.text);
    if (!j->plan.plan) return status == RT_OK ? 0 : -1;
    j->run = run_fused_attention;
    j->library_at = take(&j->scratch, j->plan.scratch);
    return 1;
}

static bool make_attention(rt__cuda_job *j, const rt_call *c)
{
    const heads h = heads_of(c);
    const bool gradient = is(c, RT_OP_attention_grad), forward = is(c, RT_OP_attention_jvp);
    for (int i = 0; i < c->n_in; i++)
        if (!h.last && !is_plain(&c->in[i])) return false;
    if ((!h.last && !is_plain(&c->out)) || !rows_of_softmax(&h, NULL, NULL, NULL)) return false;
    int fused = make_fused_attention(j, c);
    if (fused) return fused > 0;

    const int64_t L = h.pixels, d = h.d;
    /* of (L,d) matrices, (L,L); of an (L,L) one and an (L,d) one, (L,d); the former turned */
    rt__cuda_product scores = {.m = L, .n = L, .k = d, .tb = true, .a_step = L * d, .b_step = L * d, .y_step = L * L, .alpha = h.scale};
    rt__cuda_product mixed = {.m = L, .n = d, .k = L, .a_step = L * L, .b_step = L * d, .y_step = L * d, .alpha = 1};
    scores.batch = mixed.batch = h.n * h.heads;
    scores.alignment = mixed.alignment =
        bytes_of(h.block, RT_F32) % ALIGNED ? (uint32_t)sizeof(float) : ALIGNED; /* keys stand behind queries */
    scores.type = scores.result = mixed.type = mixed.result = RT_F32;
    scores.tf32 = mixed.tf32 = !rt__cuda_opened()->cudnn.true_float;
    rt__cuda_product plain = scores, added = scores, turned = mixed, scaled = mixed, scaled_turned, summed = mixed;
    plain.alpha = 1;
    added.beta = summed.beta = 1;
    turned.ta = true;
    scaled.alpha = h.scale;
    scaled_turned = scaled;
    scaled_turned.ta = true;
    bool made = make_product(j, scores);
    if (gradient)
        made = made && make_product(j, plain) && make_product(j, scaled) && make_product(j, turned) && make_product(j, scaled_turned);
    else if (forward)
        made = made && make_product(j, added) && make_product(j, mixed) && make_product(j, summed);
    else
        made = made && make_product(j, mixed);
    if (!made) return false;
    size_t most = 0;
    for (int i = 0; i < j->n_products; i++)
        if (j->products[i].scratch > most) most = j->products[i].scratch;
    j->run = run_attention;
    j->library_at = take(&j->scratch, most);
    const size_t block = bytes_of(h.block, RT_F32), square = bytes_of(h.n * h.heads * L * L, RT_F32);
    j->at[QKV] = take(&j->scratch, 3 * block);
    if (c->n_in > 1) j->at[OTHER] = take(&j->scratch, (gradient ? 1 : 3) * block);
    j->at[SCORES] = take(&j->scratch, square);
    if (c->n_in > 1) j->at[SLOPES] = take(&j->scratch, square);
    j->at[RESULT] = take(&j->scratch, (gradient ? 3 : 1) * block);
    return true;
}

/* ---- jobs */

rt__cuda_job *rt__cuda_job_new(const rt_call *c, int k, size_t *scratch)
{
    bool convolution = is(c, RT_OP_conv2d) || is(c, RT_OP_conv2d_data) || is(c, RT_OP_conv2d_weight), product = is(c, RT_OP_matmul);
    bool attention = is(c, RT_OP_attention) || is(c, RT_OP_attention_grad) || is(c, RT_OP_attention_jvp);
    if (!convolution && !product && !attention) return NULL;
    for (int i = 0; i <= c->n_in; i++)
        if ((i < c->n_in ? c->in[i].count : c->out.count) > INT32_MAX) return NULL;
    rt__cuda_job *j = calloc(1, sizeof *j);
    if (!j) {
        *c->fault = RT_E_MEMORY;
        return NULL;
    }
    bool made = convolution ? make_conv(j, c, k) : product ? make_matmul(j, c) : make_attention(j, c);
    if (rt__cuda_fault() != RT_OK) *c->fault = rt__cuda_fault();
    if (!made || *c->fault != RT_OK) {
        rt__cuda_job_free(j);
        return NULL;
    }
    *scratch = j->scratch + LINE; /* the program's lines are shorter */
    return j;
}

void rt__cuda_job_keep(rt__cuda_job *j, const rt_call *c)
{
    if (!j->packs[1] || !(c->fixed >> 1 & 1)) return;
    j->packed_once = true;
    j->kept = bytes_of(c->in[1].count, c->in[0].dtype);
}

size_t rt__cuda_job_kept(const rt__cuda_job *j) { return j->kept; }

void rt__cuda_job_run(rt__cuda_job *j, const rt_call *c)
{
    char *scratch = c->scratch;
    j->run(j, c, scratch + (LINE - (uintptr_t)scratch % LINE) % LINE);
}

void rt__cuda_job_free(rt__cuda_job *j)
{
    if (!j) return;
    for (int i = 0; i < j->n_products; i++) rt__cuda_product_free(&j->products[i]);
    rt__cudnn_plan_free(&j->plan, &rt__cuda_opened()->cudnn);
    free(j);
}
