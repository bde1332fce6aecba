/* few.c -- convolutions to at most four channels, such as the last one of a network: libraries pad those to a vector and calculate the padding. Here
 * the lanes of a vector are channels of x (N,C,H,W), which lies in such blocks; y (N,O,oh,ow) and w (O,C,kh,3) are plain:
 *
 *     conv2d          y[o,p] = b[o] + sum over lanes of sum_{block,k} x[block,p+k] w[o,block,k]
 *     conv2d_data     gx[block,q] = sum_{o,k} gy[o,q-k] w[o,block,k]
 *     conv2d_weight   gw[o,block,k] = sum_q gy[o,q-k] x[block,q]                                                                         */
#include "backend/onednn/few.h"

#include "graph/ops/gemm.h"

#include <omp.h>

enum { KW = 3, MOST = 4, PIXELS = 4 }; /* columns of taps; channels of y; neighbours that are made together */

typedef struct geometry {
    const rt_view *x, *w, *y;
    int64_t n, blocks, h, wide, o, oh, ow, kh, top, left;
    int64_t padded;  /* numbers of a row of gy between zeros, and vectors of a row of x */
    int64_t vectors; /* of w: [block][ky][kx][o] */
} geometry;

static geometry geometry_of(const rt_call *c)
{
    const rt_op *op = c->node->op;
    bool data = op == rt__ops_f32[RT_OP_conv2d_data], weight = op == rt__ops_f32[RT_OP_conv2d_weight];
    const rt_conv *conv = &((const rt__conv_attr *)c->node->attr)->conv;
    geometry g = {.x = data ? &c->out : &c->in[0], .w = weight ? &c->out : &c->in[1], .y = data ? &c->in[0] : weight ? &c->in[1] : &c->out};
    g.n = g.x->dim[0], g.blocks = g.x->dim[1] / LANES, g.h = g.x->dim[2], g.wide = g.x->dim[3];
    g.o = g.y->dim[1], g.oh = g.y->dim[2], g.ow = g.y->dim[3];
    g.kh = g.w->dim[2], g.top = conv->pad[2], g.left = conv->pad[0];
    g.padded = (g.wide > g.ow ? g.wide : g.ow) + KW - 1 + PIXELS;
    g.vectors = g.blocks * g.kh * KW * g.o;
    return g;
}

static bool can(const rt_call *c)
{
    const rt_op *op = c->node->op;
    if (op != rt__ops_f32[RT_OP_conv2d] && op != rt__ops_f32[RT_OP_conv2d_data] && op != rt__ops_f32[RT_OP_conv2d_weight]) return false;
    const rt_conv *v = &((const rt__conv_attr *)c->node->attr)->conv;
    geometry g = geometry_of(c);
    bool dense = v->groups == 1 && v->stride[0] == 1 && v->stride[1] == 1 && v->dilation[0] == 1 && v->dilation[1] == 1;
    bool inside = v->pad[0] < KW && v->pad[1] < KW && v->pad[2] < g.kh && v->pad[3] < g.kh;
    bool typed = op == rt__ops_f32[RT_OP_conv2d_data] || c->out.dtype == RT_F32;
    return typed && dense && inside && g.w->dim[3] == KW && g.x->block == LANES && g.y->block <= 1 && g.o <= MOST;
}

/* What a thread works in: rows of x, [ky][block][padded] vectors, or gy between zeros, [o][h + kh - 1][padded], one row of x and its own sums. */
static int64_t gradient_size(const geometry *g) { return (g->o * (g->h + g->kh - 1) * g->padded + LANES - 1) / LANES * LANES; }
static int64_t workspace_size(const geometry *g)
{
    int64_t rows = g->kh * g->blocks * g->padded * LANES, others = gradient_size(g) + (g->padded + g->vectors) * LANES;
    return rows > others ? rows : others;
}

static size_t scratch(const rt_call *c)
{
    geometry g = geometry_of(c);
    return (size_t)(g.vectors * LANES + omp_get_max_threads() * workspace_size(&g)) * sizeof(real);
}

static int64_t vector_of(const geometry *g, int64_t o, int64_t channel, int64_t tap)
{
    return (channel / LANES * g->kh * KW + tap) * g->o + o;
}

/* w as vectors, or vectors as w. */
static void pack(const geometry *g, real *v)
{
    const real *w = g->w->data;
    for (int64_t o = 0; o < g->o; o++)
        for (int64_t c = 0; c < g->blocks * LANES; c++)
            for (int64_t t = 0; t < g->kh * KW; t++) v[vector_of(g, o, c, t) * LANES + c % LANES] = *w++;
}
static void unpack(const geometry *g, const real *v)
{
    real *w = g->w->data;
    for (int64_t o = 0; o < g->o; o++)
        for (int64_t c = 0; c < g->blocks * LANES; c++)
            for (int64_t t = 0; t < g->kh * KW; t++) *w++ = v[vector_of(g, o, c, t) * LANES + c % LANES];
}

/* Element of x: channel block k of sample n, pixel (i, 0). */
static int64_t row_of(const geometry *g, int64_t n, int64_t k, int64_t i) { return ((n * g->blocks + k) * g->h + i) * g->wide * LANES; }

/* A row of x, widened if need be. */
static const real *row(const geometry *g, int64_t at, real *own) { return widened(g->x, at, g->wide * LANES, own); }

RT_INLINE void forward_row(const geometry *g, int o, const lanes *w, const lanes *x, int64_t n, int64_t i, const real *bias)
{
    int64_t first = i < g->top ? g->top - i : 0, last = least(g->kh, g->h + g->top - i); /* taps that see the image */
    for (int64_t j = 0; j < g->ow; j += PIXELS) {
        lanes acc[PIXELS][MOST] = {{{0}}};
        for (int64_t k = 0; k < g->blocks; k++)
            for (int64_t t = first * KW; t < last * KW; t++) {
                const lanes *v = x + (t / KW * g->blocks + k) * g->padded + j + t % KW, *wv = w + (k * g->kh * KW + t) * o;
                for (int p = 0; p < PIXELS; p++)
                    for (int c = 0; c < o; c++) acc[p][c] += v[p] * wv[c];
            }
        for (int c = 0; c < o; c++)
            for (int p = 0; p < least(PIXELS, g->ow - j); p++) {
                real sum = bias ? bias[c] : 0;
                for (int l = 0; l < LANES; l++) sum += acc[p][c][l];
                ((real *)g->y->data)[((n * o + c) * g->oh + i) * g->ow + j + p] = sum;
            }
    }
}

/* Rows i - top.. i - top + kh - 1 of x, `left` zeros before each, zeros behind. */
static void gather(const geometry *g, real *to, int64_t n, int64_t i)
{
    for (int64_t ky = 0; ky < g->kh; ky++)
        for (int64_t k = 0; k < g->blocks; k++, to += g->padded * LANES) {
            int64_t from = i + ky - g->top, before = g->left * LANES, inside = g->wide * LANES;
            if (from < 0 || from >= g->h) continue;
            memset(to, 0, (size_t)before * sizeof *to);
            const real *x = row(g, row_of(g, n, k, from), to + before);
            if (x != to + before) memcpy(to + before, x, (size_t)inside * sizeof *to);
            memset(to + before + inside, 0, (size_t)(g->padded * LANES - before - inside) * sizeof *to);
        }
}

/* gy of sample n so that tap (ky, kx) finds its number for pixel (i, j) of x at [i + kh - 1 - ky][j + KW - 1 - kx] */
static void surround(const geometry *g, real *to, int64_t n)
{
    memset(to, 0, (size_t)gradient_size(g) * sizeof *to);
    int64_t plane = (g->h + g->kh - 1) * g->padded, at = n * g->o * g->oh * g->ow;
    for (int64_t o = 0; o < g->o; o++)
        for (int64_t i = 0; i < g->oh; i++) {
            real *inside = to + o * plane + (i + g->kh - 1 - g->top) * g->padded + KW - 1 - g->left;
            const real *from = widened(g->y, at + (o * g->oh + i) * g->ow, g->ow, inside);
            if (from != inside) memcpy(inside, from, (size_t)g->ow * sizeof *inside);
        }
}

RT_INLINE void data_row(const geometry *g, int o, const lanes *w, const real *gy, lanes *gx, int64_t k, int64_t i)
{
    int64_t plane = (g->h + g->kh - 1) * g->padded;
    for (int64_t j = 0; j < g->wide; j += PIXELS) {
        lanes acc[PIXELS] = {{0}};
        for (int64_t t = 0; t < g->kh * KW; t++) {
            const real *from = gy + (i + g->kh - 1 - t / KW) * g->padded + j + KW - 1 - t % KW;
            const lanes *wv = w + (k * g->kh * KW + t) * o;
            for (int c = 0; c < o; c++)
                for (int p = 0; p < PIXELS; p++) acc[p] += from[c * plane + p] * wv[c];
        }
        for (int p = 0; p < PIXELS; p++) gx[j + p] = acc[p];
    }
}

RT_INLINE void weight_row(const geometry *g, int o, lanes *w, const real *gy, const lanes *x, int64_t k, int64_t i)
{
    int64_t plane = (g->h + g->kh - 1) * g->padded;
    for (int64_t ky = 0; ky < g->kh; ky++) {
        const real *from = gy + (i + g->kh - 1 - ky) * g->padded;
        lanes acc[KW][MOST] = {{{0}}}, *to = w + (k * g->kh + ky) * KW * o;
        for (int64_t j = 0; j < g->wide; j++)
            for (int kx = 0; kx < KW; kx++)
                for (int c = 0; c < o; c++) acc[kx][c] += from[c * plane + j + KW - 1 - kx] * x[j];
        for (int kx = 0; kx < KW; kx++)
            for (int c = 0; c < o; c++) to[kx * o + c] += acc[kx][c];
    }
}

/* The channels of y are a constant for the compiler. */
#define FOR_CHANNELS(KERNEL, ...)                                                                                                          \
    (g->o == 1   ? KERNEL(g, 1, __VA_ARGS__)                                                                                               \
     : g->o == 2 ? KERNEL(g, 2, __VA_ARGS__)                                                                                               \
     : g->o == 3 ? KERNEL(g, 3, __VA_ARGS__)                                                                                               \
                 : KERNEL(g, 4, __VA_ARGS__))

static void forward(const geometry *g, const real *w, real *rows, int64_t n, int64_t i, const real *bias)
{
    gather(g, rows, n, i);
    FOR_CHANNELS(forward_row, (const lanes *)(const void *)w, (const lanes *)(const void *)rows, n, i, bias);
}

static void data(const geometry *g, const real *w, real *gy, real *own, int64_t n)
{
    surround(g, gy, n);
    for (int64_t k = 0; k < g->blocks; k++)
        for (int64_t i = 0; i < g->h; i++) {
            int64_t at = row_of(g, n, k, i), count = g->wide * LANES;
            FOR_CHANNELS(data_row, (const lanes *)(const void *)w, gy, (lanes *)(void *)own, k, i);
            if (is_bf16(g->x))
                narrow(g->x, at, count, own);
            else
                memcpy((real *)g->x->data + at, own, (size_t)count * sizeof *own);
        }
}

static void weight(const geometry *g, real *w, real *gy, real *own, int64_t n)
{
    surround(g, gy, n);
    for (int64_t k = 0; k < g->blocks; k++)
        for (int64_t i = 0; i < g->h; i++) {
            const lanes *x = (const void *)row(g, row_of(g, n, k, i), own);
            FOR_CHANNELS(weight_row, (lanes *)(void *)w, gy, x, k, i);
        }
}

static void run(const rt_call *c)
{
    const geometry of = geometry_of(c), *g = &of;
    const bool is_weight = g->w == &c->out, is_data = g->x == &c->out;
    int64_t size = workspace_size(g), sums = gradient_size(g) + g->padded * LANES; /* where a thread's sums lie in its workspace */
    real *w = c->scratch, *threads = w + g->vectors * LANES;
    const real *bias = c->n_in == 3 ? c->in[2].data : NULL;
    if (!is_weight) pack(g, w);
    for (int i = 0; i < omp_get_max_threads() && is_weight; i++) memset(threads + i * size + sums, 0, (size_t)g->vectors * sizeof(lanes));
    int64_t tasks = is_weight || is_data ? g->n : g->n * g->oh;
#pragma omp parallel for schedule(static) if (tasks > 1)
    for (int64_t task = 0; task < tasks; task++) {
        real *own = threads + omp_get_thread_num() * size, *behind = own + gradient_size(g);
        if (is_weight)
            weight(g, own + sums, own, behind, task);
        else if (is_data)
            data(g, w, own, behind, task);
        else
            forward(g, w, own, task / g->oh, task % g->oh, bias);
    }
    if (!is_weight) return;
    for (int i = 1; i < omp_get_max_threads(); i++)
        for (int64_t j = 0; j < g->vectors * LANES; j++) threads[sums + j] += threads[i * size + sums + j];
    unpack(g, threads + sums);
}

const rt__few RT_OF_ISA(rt__few) = {can, scratch, run};
