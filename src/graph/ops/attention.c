/* attention.c -- self-attention over the L = H W pixels of an image, as fused rows. x (N,3 C,H,W) holds queries, keys and values, each of
 * C = heads d channels. For each image and head, with p_ij = exp(s_ij) / sum_j exp(s_ij) and s_ij = scale q_i . k_j:
 *
 *     attention(x)            y_i  = sum_j p_ij v_j
 *     attention_grad(x, gy)   gv_j = sum_i p_ij gy_i
 *                             gs_ij = scale p_ij (gp_ij - sum_j p_ij gp_ij),  gp_ij = gy_i . v_j
 *                             gq_i = sum_j gs_ij k_j,  gk_j = sum_i gs_ij q_i
 *     attention_jvp(x, dx)    dy_i = sum_j dp_ij v_j + p_ij dv_j
 *                             dp_ij = scale p_ij (ds_ij - sum_j p_ij ds_ij),  ds_ij = dq_i . k_j + q_i . dk_j
 *
 * Scores are made for a tile of queries at a time, transposed as s[j][i] so that queries are the lanes of a vector, and used up while they are in
 * the cache. None is kept: the second row computes them again, which takes less time than memory would. */
#include "graph/ops/gemm.h"

#include <omp.h>

/* ---- shapes and simpler rows */

static const rt__attention_attr *attr_of(const rt_node *y) { return y->attr; }

static bool check_heads(rt_node *y)
{
    const rt_node *x = y->in[0];
    int64_t heads = attr_of(y)->heads;
    if (!rt__is_real(x) || x->rank != 4) return rt__bad(y, "queries, keys and values must be real, (N,3 C,H,W)");
    if (heads < 1 || x->shape[1] % 3 || x->shape[1] / 3 % heads)
        return rt__bad(y, "%lld heads of queries, keys and values do not share %lld channels evenly", (long long)heads,
                       (long long)x->shape[1]);
    if (!(fabs(attr_of(y)->scale) < INFINITY)) return rt__bad(y, "scale is %g; must be finite", attr_of(y)->scale);
    y->dtype = x->dtype;
    y->rank = 4;
    memcpy(y->shape, x->shape, sizeof y->shape);
    return true;
}

static bool attention_shape(rt_node *y)
{
    if (!check_heads(y)) return false;
    y->shape[1] /= 3;
    return true;
}

static bool attention_grad_shape(rt_node *y)
{
    const rt_node *x = y->in[0], *gy = y->in[1];
    if (!check_heads(y)) return false;
    bool fits = gy->dtype == x->dtype && gy->rank == 4 && gy->shape[1] * 3 == x->shape[1];
    for (int i = 0; fits && i < 4; i++) fits = i == 1 || gy->shape[i] == x->shape[i];
    return fits || rt__bad(y, "the gradient must be that of the result, (N,C,H,W)");
}

/* (N,heads,d,L) of the channels from..from+C-1 */
static rt_node *heads_of(const rt_node *y, rt_node *x, int64_t from, int64_t channels)
{
    int64_t heads = attr_of(y)->heads;
    return rt_reshape(rt_slice(x, 1, from, from + channels, 1), 4,
                      (int64_t[]){x->shape[0], heads, channels / heads, x->shape[2] * x->shape[3]});
}

typedef struct parts {
    rt_node *q, *k, *v, *p; /* p (N,heads,L,L) */
} parts;

static parts parts_of(const rt_node *y)
{
    rt_node *x = y->in[0];
    int64_t C = x->shape[1] / 3;
    parts a = {heads_of(y, x, 0, C), heads_of(y, x, C, C), heads_of(y, x, 2 * C, C), NULL};
    a.p = rt_softmax(rt_matmul(rt_scale(a.q, attr_of(y)->scale), a.k, true, false), -1);
    return a;
}

static rt_node *attention_expand(rt_node *y)
{
    parts a = parts_of(y);
    return rt_reshape(rt_matmul(a.v, a.p, false, true), 4, y->shape);
}

static rt_node *attention_grad_expand(rt_node *y)
{
    parts a = parts_of(y);
    const rt_node *x = y->in[0];
    rt_node *gy = heads_of(y, y->in[1], 0, x->shape[1] / 3), *gp = rt_matmul(gy, a.v, true, false);
    rt_node *gs = rt_scale(rt__emit2(RT_OP_softmax_grad, a.p, gp, NULL), attr_of(y)->scale);
    rt_node *g[] = {rt_matmul(a.k, gs, false, true), rt_matmul(a.q, gs, false, false), rt_matmul(gy, a.p, false, false)};
    for (int i = 0; i < 3; i++) g[i] = rt_reshape(g[i], 4, y->in[1]->shape);
    return rt_concat(g, 3, 1);
}

static bool attention_jvp_shape(rt_node *y)
{
    const rt_node *x = y->in[0], *dx = y->in[1];
    if (!attention_shape(y)) return false;
    bool same = dx->dtype == x->dtype && dx->rank == 4 && !memcmp(dx->shape, x->shape, 4 * sizeof *x->shape);
    return same || rt__bad(y, "the direction must have the shape of x");
}

static rt_node *attention_jvp_expand(rt_node *y)
{
    parts a = parts_of(y);
    rt_node *dx = y->in[1];
    int64_t C = dx->shape[1] / 3;
    rt_node *dq = heads_of(y, dx, 0, C), *dk = heads_of(y, dx, C, C), *dv = heads_of(y, dx, 2 * C, C);
    rt_node *ds = rt_add(rt_matmul(dq, a.k, true, false), rt_matmul(a.q, dk, true, false));
    rt_node *dp = rt_scale(rt__emit2(RT_OP_softmax_grad, a.p, ds, NULL), attr_of(y)->scale);
    return rt_reshape(rt_add(rt_matmul(a.v, dp, false, true), rt_matmul(dv, a.p, false, true)), 4, y->shape);
}

static rt_node *attention_forward(rt_node *y, rt_node *const *dx) { return rt__emit2(RT_OP_attention_jvp, y->in[0], dx[0], y->attr); }

static void attention_derive(rt_node *y, rt_node *gy, rt_node **gx) { gx[0] = rt__emit2(RT_OP_attention_grad, y->in[0], gy, y->attr); }

/* ---- kernels. Their unit is a word: a float, or a pair of bf16 numbers that are neighbours on the axis that a product sums, so that one
 * multiplication does two. A head's channels lie in blocks of vectors, zeros behind d, and in one of two forms, which are the same for floats:
 *
 *     by channel   [blocks][L][LANES] numbers: an image in blocks of as many channels holds its heads so; others are copied
 *     by pixel     [blocks][L in words][LANES] words
 *
 * Scores, the softmax and all sums are float. */

enum { TILE = 2 * LANES }; /* queries */

typedef struct extents {
    int64_t n, heads, d, blocks, pixels; /* blocks of LANES that hold d */
    int64_t per, keys;                   /* numbers in a word; words that hold the pixels */
    int64_t size, tiles;                 /* numbers of a head in blocks; tiles of its queries */
    bool copies;                         /* are heads copied? */
    real scale;
} extents;

/* Does an image hold heads by channel? */
static bool fits(const rt_view *v, const extents *e) { return v->block == LANES && e->d % LANES == 0; }

static extents extents_of(const rt_call *c)
{
    const rt_view *x = &c->in[0];
    extents e = {.n = x->dim[0], .heads = attr_of(c->node)->heads, .pixels = x->dim[2] * x->dim[3], .scale = (real)attr_of(c->node)->scale};
    e.d = x->dim[1] / 3 / e.heads;
    e.blocks = (e.d + LANES - 1) / LANES;
    e.per = is_bf16(x) ? 2 : 1;
    e.keys = (e.pixels + e.per - 1) / e.per;
    e.size = e.blocks * e.pixels * LANES;
    e.tiles = (e.pixels + TILE - 1) / TILE;
    e.copies = e.per > 1 || !fits(&c->out, &e);
    for (int i = 0; i < c->n_in; i++) e.copies |= !fits(&c->in[i], &e);
    return e;
}

/* One head of one image of v, and of its q, k and v one part. */
typedef struct head {
    const rt_view *v;
    int64_t index, part;
} head;

/* Element of v: the first pixel of channel c; the next ones lie a block further on each. */
static int64_t first_pixel(head h, const extents *e, int64_t c)
{
    int64_t n = h.index / e->heads, b = h.v->block > 1 ? h.v->block : 1;
    c += (h.part * e->heads + h.index % e->heads) * e->d;
    return (n * h.v->dim[1] + c / b * b) * e->pixels + c % b;
}

/* The head by channel: where it lies, or a copy in `own`. */
static const word *load(word *own, head h, const extents *e)
{
    const char *data = h.v->data;
    size_t size = sizeof(real) / (size_t)e->per;
    if (fits(h.v, e)) return (const void *)(data + (size_t)first_pixel(h, e, 0) * size);
    int64_t b = h.v->block > 1 ? h.v->block : 1;
    memset(own, 0, (size_t)e->size * size);
    for (int64_t c = 0; c < e->d; c++)
        for (int64_t i = 0, at = first_pixel(h, e, c); i < e->pixels; i++)
            memcpy((char *)own + (size_t)((c / LANES * e->pixels + i) * LANES + c % LANES) * size, data + (size_t)(at + i * b) * size,
                   size);
    return own;
}

/* to[i] = the pair of a[i] and b[i], two vectors of bf16 numbers; b NULL: zeros */
RT_INLINE void pair_up(word *to, const half *a, const half *b)
{
#pragma omp simd
    for (int i = 0; i < LANES; i++) ((pair *)to)[i] = a[i] | (b ? (pair)b[i] << 16 : 0);
}

/* The same head by pixel. */
static const word *by_pixel(word *own, const word *x, const extents *e)
{
    if (e->per == 1) return x;
    const half *from = (const void *)x;
    for (int64_t k = 0; k < e->blocks; k++, from += e->pixels * LANES)
        for (int64_t i = 0; i < e->keys; i++)
            pair_up(own + (k * e->keys + i) * LANES, from + 2 * i * LANES, 2 * i + 1 < e->pixels ? from + (2 * i + 1) * LANES : NULL);
    return own;
}

/* Where a result is made, in floats, and its way from there: pixels i0..i0+n-1. */
static real *target(real *own, head h, const extents *e) { return fits(h.v, e) ? room(h.v, first_pixel(h, e, 0), own) : own; }
static void store(head h, const extents *e, const real *from, int64_t i0, int64_t n)
{
    if (fits(h.v, e)) {
        for (int64_t at = i0 * LANES; at < e->size; at += e->pixels * LANES) narrow(h.v, first_pixel(h, e, 0) + at, n * LANES, from + at);
        return;
    }
    int64_t b = h.v->block > 1 ? h.v->block : 1;
    for (int64_t c = 0; c < e->d; c++)
        for (int64_t i = i0; i < i0 + n; i++) {
            int64_t at = first_pixel(h, e, c) + i * b;
            real one, *to = room(h.v, at, &one);
            *to = from[(c / LANES * e->pixels + i) * LANES + c % LANES];
            narrow(h.v, at, 1, to);
        }
}

/* y[r][v] = or += sum over l of a[r][l] b[l][v]: r counts rows, v vectors of LANES columns, l runs over segments of `length` words. */
typedef struct product {
    real *y;
    int64_t y_row, y_vector;
    const word *a;
    int64_t a_row, a_step, a_segment;
    const word *b;
    int64_t b_step, b_vector, b_segment;
    int64_t rows, vectors, length, segments;
    bool add;
} product;

RT_INLINE void product_block(const product *p, int64_t r, int64_t v, int rows, int vectors, bool paired)
{
    lanes acc[MR][2];
    memset(acc, 0, sizeof acc);
    for (int64_t s = 0; s < p->segments; s++) {
        const word *a = p->a + r * p->a_row + s * p->a_segment, *b = p->b + v * p->b_vector + s * p->b_segment;
        for (int64_t l = 0; l < p->length; l++, a += p->a_step, b += p->b_step)
            for (int i = 0; i < rows; i++)
                for (int k = 0; k < vectors; k++) acc[i][k] = multiply_add(acc[i][k], a + i * p->a_row, b + k * p->b_vector, paired);
    }
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < vectors; k++) {
            lanes *y = (lanes *)(void *)(p->y + (r + i) * p->y_row + (v + k) * p->y_vector);
            *y = p->add ? *y + acc[i][k] : acc[i][k];
        }
}

RT_INLINE void product_columns(const product *p, int64_t v, int vectors, bool paired)
{
    int64_t r = 0;
    for (; r + MR <= p->rows; r += MR) product_block(p, r, v, MR, vectors, paired);
    for (; r + 4 <= p->rows; r += 4) product_block(p, r, v, 4, vectors, paired);
    for (; r < p->rows; r++) product_block(p, r, v, 1, vectors, paired);
}

RT_INLINE void product_of(const product *p, bool paired)
{
    int64_t v = 0;
    for (; v + 2 <= p->vectors; v += 2) product_columns(p, v, 2, paired);
    if (v < p->vectors) product_columns(p, v, 1, paired);
}

/* What a word holds is a constant for the compiler. */
#define FOR_WORDS(KERNEL, ...) (e->per == 1 ? KERNEL(1, __VA_ARGS__) : KERNEL(2, __VA_ARGS__))

/* A tile: pixels i0..i0+n-1, in so many vectors. */
typedef struct tile {
    int64_t i0, n, vectors;
} tile;

static tile tile_at(const extents *e, int64_t index)
{
    tile t = {.i0 = index * TILE};
    t.n = least(TILE, e->pixels - t.i0);
    t.vectors = (t.n + LANES - 1) / LANES;
    return t;
}

/* to[c][i] = x_i[c] for the pixels of a tile, zeros behind them; c counts words */
RT_INLINE void turn_of(int64_t per, word *to, const word *x, const extents *e, tile t)
{
    const int64_t many = LANES / per;
    for (int64_t k = 0; k < e->blocks; k++, x += e->pixels * many, to += many * TILE) {
        for (int64_t i = 0; i < t.n; i++)
            for (int64_t c = 0; c < many; c++) to[c * TILE + i] = x[(t.i0 + i) * many + c];
        for (int64_t i = t.n; i < t.vectors * LANES; i++)
            for (int64_t c = 0; c < many; c++) to[c * TILE + i] = 0;
    }
}
static void turn(word *to, const word *x, const extents *e, tile t) { FOR_WORDS(turn_of, to, x, e, t); }

/* s[j][i] = or += x_j . turned[.][i], x by channel */
RT_INLINE void inner_products_of(int64_t per, real *s, const word *x, const word *turned, const extents *e, tile t, bool add)
{
    product_of(&(product){.y = s,
                          .y_row = TILE,
                          .y_vector = LANES,
                          .a = x,
                          .a_row = LANES / per,
                          .a_step = 1,
                          .a_segment = e->pixels * LANES / per,
                          .b = turned,
                          .b_step = TILE,
                          .b_vector = LANES,
                          .b_segment = LANES / per * TILE,
                          .rows = e->pixels,
                          .vectors = t.vectors,
                          .length = LANES / per,
                          .segments = e->blocks,
                          .add = add},
               per > 1);
}
static void inner_products(real *s, const word *x, const word *turned, const extents *e, tile t, bool add)
{
    FOR_WORDS(inner_products_of, s, x, turned, e, t, add);
}

/* y_i = or += sum_j s_ij x_j for the pixels i of a tile; s[j][i] in words of keys, x by pixel */
RT_INLINE void over_keys_of(int64_t per, real *y, const word *s, const word *x, const extents *e, tile t, bool add)
{
    product_of(&(product){.y = y + t.i0 * LANES,
                          .y_row = LANES,
                          .y_vector = e->pixels * LANES,
                          .a = s,
                          .a_row = 1,
                          .a_step = TILE,
                          .b = x,
                          .b_step = LANES,
                          .b_vector = e->keys * LANES,
                          .rows = t.n,
                          .vectors = e->blocks,
                          .length = e->keys,
                          .segments = 1,
                          .add = add},
               per > 1);
}
static void over_keys(real *y, const word *s, const word *x, const extents *e, tile t, bool add)
{
    FOR_WORDS(over_keys_of, y, s, x, e, t, add);
}

/* y_j = or += sum_i s_ij x_i, where i are the pixels of a tile; s[j][i] in words of queries, x by pixel */
RT_INLINE void over_queries_of(int64_t per, real *y, const word *s, const word *x, const extents *e, tile t)
{
    product_of(&(product){.y = y,
                          .y_row = LANES,
                          .y_vector = e->pixels * LANES,
                          .a = s,
                          .a_row = TILE / per,
                          .a_step = 1,
                          .b = x + t.i0 / per * LANES,
                          .b_step = LANES,
                          .b_vector = e->keys * LANES,
                          .rows = e->pixels,
                          .vectors = e->blocks,
                          .length = (t.n + per - 1) / per,
                          .segments = 1,
                          .add = t.i0 > 0},
               per > 1);
}
static void over_queries(real *y, const word *s, const word *x, const extents *e, tile t) { FOR_WORDS(over_queries_of, y, s, x, e, t); }

/* q_i . k_j in s[j][i] -> p_ij, of one vector of queries */
static void softmax_lanes(real *s, int64_t n, real scale)
{
    real top[LANES], sum[LANES] = {0};
    for (int i = 0; i < LANES; i++) top[i] = scale * s[i];
    for (int64_t j = 1; j < n; j++)
#pragma omp simd
        for (int i = 0; i < LANES; i++) {
            real one = scale * s[j * TILE + i];
            top[i] = one > top[i] ? one : top[i];
        }
    for (int64_t j = 0; j < n; j++)
#pragma omp simd
        for (int i = 0; i < LANES; i++) sum[i] += s[j * TILE + i] = fast_exp(scale * s[j * TILE + i] - top[i]);
    for (int i = 0; i < LANES; i++) sum[i] = 1 / sum[i];
    for (int64_t j = 0; j < n; j++)
#pragma omp simd
        for (int i = 0; i < LANES; i++) s[j * TILE + i] *= sum[i];
}

/* gp -> gs, of one vector of queries */
static void softmax_back(real *gp, const real *p, int64_t n, real scale)
{
    real dot[LANES] = {0};
    for (int64_t j = 0; j < n; j++)
#pragma omp simd
        for (int i = 0; i < LANES; i++) dot[i] += p[j * TILE + i] * gp[j * TILE + i];
    for (int64_t j = 0; j < n; j++)
#pragma omp simd
        for (int i = 0; i < LANES; i++) gp[j * TILE + i] = scale * p[j * TILE + i] * (gp[j * TILE + i] - dot[i]);
}

/* What a thread works in: heads, where they are copies, two tiles turned, scores and their gradients, and these in words. */
enum { HEADS = 10 };
typedef struct workspace {
    real *head[HEADS], *scores[2];
    word *turned[2], *queries, *keys;
} workspace;

static int64_t workspace_size(const extents *e)
{
    int64_t tiles = 2 * e->pixels + 2 * e->blocks * LANES / e->per + (e->per > 1 ? 2 * e->keys : 0);
    return (e->copies ? HEADS * e->size : 0) + tiles * TILE;
}

static size_t attention_scratch(const rt_call *c)
{
    extents e = extents_of(c);
    return (size_t)(omp_get_max_threads() * workspace_size(&e)) * sizeof(real);
}

static workspace workspace_of(const rt_call *c, const extents *e)
{
    workspace w = {0};
    real *at = (real *)c->scratch + omp_get_thread_num() * workspace_size(e);
    for (int i = 0; i < HEADS && e->copies; i++, at += e->size) w.head[i] = at;
    for (int i = 0; i < 2; i++, at += e->pixels * TILE) w.scores[i] = at;
    for (int i = 0; i < 2; i++, at += e->blocks * LANES / e->per * TILE) w.turned[i] = at;
    w.queries = at, w.keys = at + e->keys * TILE;
    return w;
}

/* Scores in words of queries, [L][TILE] numbers, and of keys, [L in words][TILE] words, which are made from the former. */
static const word *in_queries(const workspace *w, const real *s, const extents *e)
{
    if (e->per == 1) return s;
    round_to_bf16((half *)w->queries, s, e->pixels * TILE);
    return w->queries;
}

static const word *in_keys(const workspace *w, const word *queries, const extents *e)
{
    if (e->per == 1) return queries;
    const half *from = (const void *)queries;
    for (int64_t j = 0; j < e->keys; j++)
        for (int64_t i = 0; i < TILE; i += LANES) {
            const half *a = from + 2 * j * TILE + i;
            pair_up(w->keys + j * TILE + i, a, 2 * j + 1 < e->pixels ? a + TILE : NULL);
        }
    return w->keys;
}

static void probabilities(const workspace *w, const word *q, const word *k, const extents *e, tile t)
{
    turn(w->turned[0], q, e, t);
    inner_products(w->scores[0], k, w->turned[0], e, t, false);
    for (int64_t v = 0; v < t.vectors; v++) softmax_lanes(w->scores[0] + v * LANES, e->pixels, e->scale);
}

static void attention_run(const rt_call *c)
{
    const extents e = extents_of(c);
    int64_t tasks = e.n * e.heads * e.tiles;
#pragma omp parallel if (tasks > 1)
    {
        workspace w = workspace_of(c, &e);
        const word *x[3] = {0}, *values = NULL;
        int64_t loaded = -1;
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            int64_t index = task / e.tiles;
            if (index != loaded) {
                for (int part = 0; part < 3; part++) x[part] = load(w.head[part], (head){&c->in[0], index, part}, &e);
                values = by_pixel(w.head[3], x[2], &e);
                loaded = index;
            }
            tile t = tile_at(&e, task % e.tiles);
            head to = {&c->out, index, 0};
            real *y = target(w.head[4], to, &e);
            probabilities(&w, x[0], x[1], &e, t);
            over_keys(y, in_keys(&w, in_queries(&w, w.scores[0], &e), &e), values, &e, t, false);
            store(to, &e, y, t.i0, t.n);
        }
    }
}

static void attention_grad_run(const rt_call *c)
{
    const extents e = extents_of(c);
#pragma omp parallel for schedule(static) if (e.n * e.heads > 1)
    for (int64_t index = 0; index < e.n * e.heads; index++) {
        workspace w = workspace_of(c, &e);
        const word *x[3], *gy = load(w.head[3], (head){&c->in[1], index, 0}, &e);
        real *gx[3];
        head to[3];
        for (int part = 0; part < 3; part++) {
            x[part] = load(w.head[part], (head){&c->in[0], index, part}, &e);
            to[part] = (head){&c->out, index, part};
            gx[part] = target(w.head[4 + part], to[part], &e);
        }
        const word *q = by_pixel(w.head[7], x[0], &e), *k = by_pixel(w.head[8], x[1], &e), *g = by_pixel(w.head[9], gy, &e);
        for (int64_t i = 0; i < e.tiles; i++) {
            tile t = tile_at(&e, i);
            probabilities(&w, x[0], x[1], &e, t);
            over_queries(gx[2], in_queries(&w, w.scores[0], &e), g, &e, t);
            turn(w.turned[1], gy, &e, t);
            inner_products(w.scores[1], x[2], w.turned[1], &e, t, false);
            for (int64_t v = 0; v < t.vectors; v++) softmax_back(w.scores[1] + v * LANES, w.scores[0] + v * LANES, e.pixels, e.scale);
            const word *gs = in_queries(&w, w.scores[1], &e);
            over_queries(gx[1], gs, q, &e, t);
            over_keys(gx[0], in_keys(&w, gs, &e), k, &e, t, false);
        }
        for (int part = 0; part < 3; part++) store(to[part], &e, gx[part], 0, e.pixels);
    }
}

static void attention_jvp_run(const rt_call *c)
{
    const extents e = extents_of(c);
    int64_t tasks = e.n * e.heads * e.tiles;
#pragma omp parallel if (tasks > 1)
    {
        workspace w = workspace_of(c, &e);
        const word *x[3] = {0}, *dx[3] = {0}, *values = NULL, *moved = NULL;
        int64_t loaded = -1;
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            int64_t index = task / e.tiles;
            if (index != loaded) {
                for (int part = 0; part < 3; part++) {
                    x[part] = load(w.head[part], (head){&c->in[0], index, part}, &e);
                    dx[part] = load(w.head[3 + part], (head){&c->in[1], index, part}, &e);
                }
                values = by_pixel(w.head[6], x[2], &e);
                moved = by_pixel(w.head[7], dx[2], &e);
                loaded = index;
            }
            tile t = tile_at(&e, task % e.tiles);
            head to = {&c->out, index, 0};
            real *y = target(w.head[8], to, &e);
            probabilities(&w, x[0], x[1], &e, t);
            inner_products(w.scores[1], dx[1], w.turned[0], &e, t, false); /* turned[0] holds q */
            turn(w.turned[1], dx[0], &e, t);
            inner_products(w.scores[1], x[1], w.turned[1], &e, t, true);
            for (int64_t v = 0; v < t.vectors; v++) softmax_back(w.scores[1] + v * LANES, w.scores[0] + v * LANES, e.pixels, e.scale);
            over_keys(y, in_keys(&w, in_queries(&w, w.scores[0], &e), &e), moved, &e, t, false);
            over_keys(y, in_keys(&w, in_queries(&w, w.scores[1], &e), &e), values, &e, t, true);
            store(to, &e, y, t.i0, t.n);
        }
    }
}

/* Products of L x L x d per head; the softmax between them is not counted. */
static double flop(const rt_call *c, double products)
{
    extents e = extents_of(c);
    return 2 * products * (double)(e.n * e.heads * e.d) * (double)e.pixels * (double)e.pixels;
}
static double attention_flop(const rt_call *c) { return flop(c, 2); }
static double attention_grad_flop(const rt_call *c) { return flop(c, 5); }
static double attention_jvp_flop(const rt_call *c) { return flop(c, 5); }

/* ---- rows */

static rt_node *attention_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_self_attention(RT_SAMPLE_IN(g, "a", 2, 12, 2, 3), 3, 0.5);
    case 0: return rt_self_attention(RT_SAMPLE_IN(g, "a", RT_BATCH, 12, 2, 3), 2, 0.5);
    case 1: return rt_self_attention(RT_SAMPLE_IN(g, "a", 2, 3, 5, 4), 1, 1.25);
    case 2: return rt_self_attention(RT_SAMPLE_IN(g, "a", 1, 3 * 2 * LANES, 5, 7), 2, 0.25); /* more than a tile, whole vectors */
    default: return NULL;
    }
}

static rt_node *attention_grad_sample(rt_graph *g, int k)
{
    const rt__attention_attr at = {.heads = 2, .scale = 0.5};
    switch (k) {
    case -1: return rt__emit2(RT_OP_attention_grad, RT_SAMPLE_IN(g, "a", 2, 12, 2, 3), RT_SAMPLE_IN(g, "b", 2, 4, 3, 2), &at);
    case 0: return rt__emit2(RT_OP_attention_grad, RT_SAMPLE_IN(g, "a", RT_BATCH, 12, 2, 3), RT_SAMPLE_IN(g, "b", RT_BATCH, 4, 2, 3), &at);
    case 1: return rt__emit2(RT_OP_attention_grad, RT_SAMPLE_IN(g, "a", 1, 6, 5, 7), RT_SAMPLE_IN(g, "b", 1, 2, 5, 7), &at);
    default: return NULL;
    }
}

static rt_node *attention_jvp_sample(rt_graph *g, int k)
{
    const rt__attention_attr at = {.heads = 2, .scale = 0.5};
    switch (k) {
    case -1: return rt__emit2(RT_OP_attention_jvp, RT_SAMPLE_IN(g, "a", 2, 12, 2, 3), RT_SAMPLE_IN(g, "b", 2, 4, 2, 3), &at);
    case 0: return rt__emit2(RT_OP_attention_jvp, RT_SAMPLE_IN(g, "a", RT_BATCH, 12, 2, 3), RT_SAMPLE_IN(g, "b", RT_BATCH, 12, 2, 3), &at);
    case 1:
        return rt__emit2(RT_OP_attention_jvp, RT_SAMPLE_IN(g, "a", 1, 3 * 2 * LANES, 5, 7), RT_SAMPLE_IN(g, "b", 1, 3 * 2 * LANES, 5, 7),
                         &at); /* more than a tile, whole vectors */
    default: return NULL;
    }
}

const rt_op RT_ROW(attention) = {
    .name = "attention",
    .formula = "y[h,c,i] = sum_j softmax_j(scale sum_c q[h,c,i] k[h,c,j]) v[h,c,j]; x holds q, k, v along its channels",
    .min_in = 1,
    .max_in = 1,
    .attr_size = sizeof(rt__attention_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_ALIKE,
    .shape = attention_shape,
    .grad = attention_derive,
    .jvp = attention_forward,
    .expand = attention_expand,
    .run = attention_run,
    .scratch = attention_scratch,
    .flop = attention_flop,
    .sample = attention_sample,
};
const rt_op RT_ROW(attention_grad) = {
    .name = "attention_grad",
    .formula = "gx of attention(x) for the gradient gy of its result",
    .min_in = 2,
    .max_in = 2,
    .attr_size = sizeof(rt__attention_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_ALIKE,
    .shape = attention_grad_shape,
    .expand = attention_grad_expand,
    .run = attention_grad_run,
    .scratch = attention_scratch,
    .flop = attention_grad_flop,
    .sample = attention_grad_sample,
};
const rt_op RT_ROW(attention_jvp) = {
    .name = "attention_jvp",
    .formula = "dy of attention(x) where x moves along dx",
    .min_in = 2,
    .max_in = 2,
    .attr_size = sizeof(rt__attention_attr),
    .layout = RT_LAYOUT_MAPS,
    .type = RT_TYPE_ALIKE,
    .shape = attention_jvp_shape,
    .expand = attention_jvp_expand,
    .run = attention_jvp_run,
    .scratch = attention_scratch,
    .flop = attention_jvp_flop,
    .sample = attention_jvp_sample,
};
