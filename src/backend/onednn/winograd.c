/* winograd.c -- 3x3 convolutions of stride 1 by Winograd's F(4x4,3x3). A tile of 4x4 pixels of y is made from the window of 6x6 pixels of x that it
 * sees, with 36 products per pair of channels instead of 144. B is 6x6, G 6x3 and A 6x4; '.' multiplies point by point of the 36:
 *
 *     conv2d          y  = A' (sum_c (B' x B) . (G w G')) A, per tile
 *     conv2d_data     the same of gy: w turned by half a turn, its channels exchanged, pads 2 - those of y
 *     conv2d_weight   gw = G' (sum_tiles (B' x B) . (A gy A')) G
 *
 * The lanes of a vector are channels. For each point, sums over channels or tiles are products of matrices; V, U and M are transforms of windows,
 * weights and tiles. Rows and points lie an odd number of cache lines apart, so that 36 points fall into different sets of a cache:
 *
 *     V [36][tiles][C]  x  U [O/NR][36][C][NR]  ->  M [36][tiles][NR]        conv2d, conv2d_data: V and M for a stretch of tiles and NR channels
 *     M [36][tiles][O]' x  V [36][tiles][C]     ->  U [36][O][C]             conv2d_weight: added up, stretch after stretch
 *
 * Each sum runs over channels or tiles in order, however tiles are cut into stretches and stretches are given to threads: equal bits for all. */
#include "backend/onednn/winograd.h"

#include "graph/ops/gemm.h"

#include <omp.h>

enum { TILE = 4, SIDE = 6, POINTS = SIDE * SIDE, TAPS = 9, MOST_PER_BLOCK = 4 };
enum { LINE = 64 / RT_VECTOR };               /* vectors of a cache line */
enum { NEAR = 384 * 1024, SHARED = 4 << 20 }; /* bytes of V and M: in the cache of a core; of all threads */

/* Channels in blocks of `per` vectors: vector v of pixel (i, j) of sample n lies at plane(n, v)[(i * w + j) * per]. */
typedef struct image {
    lanes *data;
    int64_t n, h, w, vectors, per;
} image;

static image image_of(const rt_view *v) { return (image){v->data, v->dim[0], v->dim[2], v->dim[3], v->dim[1] / LANES, v->block / LANES}; }

RT_INLINE lanes *plane(const image *x, int64_t n, int64_t v)
{
    return x->data + (n * x->vectors + v / x->per * x->per) * x->h * x->w + v % x->per;
}

typedef struct geometry {
    image x, y; /* x is seen in windows, y in tiles; conv2d_data: x is gy, y is gx */
    const rt_view *w;
    bool adjoint, gradient;            /* conv2d_data, conv2d_weight */
    int64_t top, left;                 /* pads of x */
    int64_t down, across, tiles;       /* tiles of an image and of all */
    int64_t stretch, stretches;        /* tiles of a stretch, at most */
    int64_t v_row, m_row, u_row;       /* vectors of a row of V, M and U */
    int64_t v_point, m_point, u_point; /* of a point */
} geometry;

/* So many vectors or more, an odd number of lines. */
static int64_t odd(int64_t vectors) { return ((vectors + LINE - 1) / LINE | 1) * LINE; }
static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static geometry geometry_of(const rt_call *c)
{
    const rt_op *op = c->node->op;
    const rt_conv *conv = &((const rt__conv_attr *)c->node->attr)->conv;
    geometry g = {.adjoint = op == rt__ops_f32[RT_OP_conv2d_data], .gradient = op == rt__ops_f32[RT_OP_conv2d_weight]};
    g.x = image_of(&c->in[0]), g.y = image_of(g.gradient ? &c->in[1] : &c->out), g.w = g.gradient ? &c->out : &c->in[1];
    g.top = g.adjoint ? 2 - conv->pad[2] : conv->pad[2], g.left = g.adjoint ? 2 - conv->pad[0] : conv->pad[0];
    g.down = (g.y.h + TILE - 1) / TILE, g.across = (g.y.w + TILE - 1) / TILE, g.tiles = g.y.n * g.down * g.across;

    int64_t threads = omp_get_max_threads(), columns = g.gradient ? g.y.vectors : 2;
    int64_t tile_bytes = POINTS * (g.x.vectors + columns) * RT_VECTOR, room = NEAR / tile_bytes / MR * MR;
    if (g.gradient) room = least(room * threads, SHARED / tile_bytes);
    g.stretch = room > 2 * MR ? room : 2 * MR;
    g.stretches = (g.tiles + g.stretch - 1) / g.stretch;
    if (!g.gradient) g.stretches = up(g.stretches, threads); /* equal shares */
    g.stretch = up((g.tiles + g.stretches - 1) / g.stretches, MR);
    g.stretches = (g.tiles + g.stretch - 1) / g.stretch;
    g.v_row = odd(g.x.vectors), g.m_row = g.gradient ? odd(columns) : columns;
    g.v_point = odd(g.stretch * g.v_row), g.m_point = odd(g.stretch * g.m_row);
    g.u_row = g.gradient ? g.x.vectors : 0;
    g.u_point = g.gradient ? odd(g.y.vectors * LANES * g.u_row) : odd(g.x.vectors * LANES * 2);
    return g;
}

static bool in_blocks(const rt_view *v)
{
    return v->block > 1 && v->block % LANES == 0 && v->block <= MOST_PER_BLOCK * LANES && v->dtype == RT_F32;
}

static bool can(const rt_call *c)
{
    const rt_op *op = c->node->op;
    if (op != rt__ops_f32[RT_OP_conv2d] && op != rt__ops_f32[RT_OP_conv2d_data] && op != rt__ops_f32[RT_OP_conv2d_weight]) return false;
    bool gradient = op == rt__ops_f32[RT_OP_conv2d_weight];
    const rt_conv *v = &((const rt__conv_attr *)c->node->attr)->conv;
    const rt_view *x = &c->in[0], *y = gradient ? &c->in[1] : &c->out, *w = gradient ? &c->out : &c->in[1];
    bool dense = v->groups == 1 && v->stride[0] == 1 && v->stride[1] == 1 && v->dilation[0] == 1 && v->dilation[1] == 1;
    return dense && in_blocks(x) && in_blocks(y) && w->dtype == RT_F32 && w->dim[2] == 3 && w->dim[3] == 3;
}

/* ---- transforms of six, four and three vectors, `s` and `t` apart */

/* y = B' x */
RT_INLINE void of_window(lanes *y, int64_t t, const lanes *x, int64_t s)
{
    lanes a = x[0], b = x[s], c = x[2 * s], d = x[3 * s], e = x[4 * s], f = x[5 * s];
    lanes p = e - 4 * c, q = d - 4 * b, r = e - c, u = d - b;
    y[0] = 4 * a + (e - 5 * c);
    y[t] = p + q, y[2 * t] = p - q, y[3 * t] = r + 2 * u, y[4 * t] = r - 2 * u;
    y[5 * t] = 4 * b + (f - 5 * d);
}

/* y = A' x */
RT_INLINE void from_points(lanes *y, int64_t t, const lanes *x, int64_t s)
{
    lanes a = x[s] + x[2 * s], b = x[s] - x[2 * s], c = x[3 * s] + x[4 * s], d = x[3 * s] - x[4 * s];
    y[0] = x[0] + a + c, y[t] = b + 2 * d, y[2 * t] = a + 4 * c, y[3 * t] = b + 8 * d + x[5 * s];
}

/* y = A x */
RT_INLINE void to_points(lanes *y, int64_t t, const lanes *x, int64_t s)
{
    lanes a = x[0], b = x[s], c = x[2 * s], d = x[3 * s], p = a + c, q = b + d, r = a + 4 * c, u = b + 4 * d;
    y[0] = a, y[t] = p + q, y[2 * t] = p - q, y[3 * t] = r + 2 * u, y[4 * t] = r - 2 * u, y[5 * t] = d;
}

/* y = G x */
RT_INLINE void taps(lanes *y, int64_t t, const lanes *x, int64_t s)
{
    const real sixth = (real)(1. / 6), twelfth = (real)(1. / 12), fourth = (real)0.25;
    lanes a = fourth * x[0], b = x[s], c = x[2 * s], p = -sixth * (x[0] + c), q = sixth * (a + c);
    y[0] = a, y[t] = p - sixth * b, y[2 * t] = p + sixth * b, y[3 * t] = q + twelfth * b, y[4 * t] = q - twelfth * b, y[5 * t] = c;
}

/* y = G' x */
RT_INLINE void from_taps(lanes *y, int64_t t, const lanes *x, int64_t s)
{
    const real sixth = (real)(1. / 6), twelfth = (real)(1. / 12), fourth = (real)0.25;
    lanes a = sixth * (x[s] + x[2 * s]), b = sixth * (x[2 * s] - x[s]), c = sixth * (x[3 * s] + x[4 * s]), d = x[3 * s] - x[4 * s];
    y[0] = fourth * (x[0] + c) - a, y[t] = b + twelfth * d, y[2 * t] = c - a + x[5 * s];
}

/* ---- transforms of windows and tiles; `per` and `inside` (no pixel is beyond the image) are constants for the compiler. What the tile to the right
 * sees is asked for meanwhile: pieces of rows are too short for the processor to guess what comes next. */

static const lanes zeros[SIDE * MOST_PER_BLOCK];

/* to[p * step] = B' x B of the window at (i, j) */
RT_INLINE void window_to_points(lanes *to, int64_t step, const lanes *from, const image *x, int64_t per, int64_t i, int64_t j, bool inside)
{
    lanes part[POINTS];
    const lanes *row[SIDE];
    for (int k = 0; k < SIDE; k++) row[k] = inside || (i + k >= 0 && i + k < x->h) ? from + ((i + k) * x->w + j) * per : zeros;
    for (int k = 0; k < SIDE; k++)
        for (int l = 0; l < TILE; l += LINE) __builtin_prefetch(from + ((i + k) * x->w + j + SIDE + l) * per);
#pragma GCC unroll 6
    for (int l = 0; l < SIDE; l++) {
        if (inside || (j + l >= 0 && j + l < x->w)) {
            lanes column[SIDE];
            for (int k = 0; k < SIDE; k++) column[k] = row[k][l * per];
            of_window(part + l, SIDE, column, 1);
        } else {
            for (int k = 0; k < SIDE; k++) part[k * SIDE + l] = (lanes){0};
        }
    }
#pragma GCC unroll 6
    for (int k = 0; k < SIDE; k++) of_window(to + k * SIDE * step, step, part + k * SIDE, 1);
}

/* to[p * step] = A y A' of the tile at (i, j) */
RT_INLINE void tile_to_points(lanes *to, int64_t step, const lanes *from, const image *y, int64_t per, int64_t i, int64_t j, bool inside)
{
    lanes part[SIDE * TILE];
    const lanes *row[TILE];
    for (int k = 0; k < TILE; k++) row[k] = inside || i + k < y->h ? from + ((i + k) * y->w + j) * per : zeros;
    for (int k = 0; k < TILE; k++)
        for (int l = 0; l < TILE; l += LINE) __builtin_prefetch(from + ((i + k) * y->w + j + TILE + l) * per);
#pragma GCC unroll 4
    for (int l = 0; l < TILE; l++) {
        if (inside || j + l < y->w) {
            lanes column[TILE];
            for (int k = 0; k < TILE; k++) column[k] = row[k][l * per];
            to_points(part + l, TILE, column, 1);
        } else {
            for (int k = 0; k < SIDE; k++) part[k * TILE + l] = (lanes){0};
        }
    }
#pragma GCC unroll 6
    for (int k = 0; k < SIDE; k++) to_points(to + k * SIDE * step, step, part + k * TILE, 1);
}

/* The tile at (i, j) of y = A' m A + bias, m[p * step] */
RT_INLINE void points_to_tile(lanes *to, const image *y, int64_t per, int64_t i, int64_t j, const lanes *m, int64_t step, lanes bias,
                              bool inside)
{
    lanes part[TILE * SIDE];
#pragma GCC unroll 6
    for (int l = 0; l < SIDE; l++) from_points(part + l, SIDE, m + l * step, SIDE * step);
#pragma GCC unroll 4
    for (int k = 0; k < TILE; k++) {
        if (!inside && i + k >= y->h) break;
        lanes row[TILE];
        from_points(row, 1, part + k * SIDE, 1);
        lanes *at = to + ((i + k) * y->w + j) * per;
#pragma GCC unroll 4
        for (int l = 0; l < TILE; l++)
            if (inside || j + l < y->w) at[l * per] = row[l] + bias;
    }
}

/* Where a tile lies. */
typedef struct place {
    int64_t n, i, j;
} place;

static place place_of(const geometry *g, int64_t t)
{
    return (place){t / (g->down * g->across), t / g->across % g->down * TILE, t % g->across * TILE};
}

static place next_place(const geometry *g, place at)
{
    if ((at.j += TILE) < g->y.w) return at;
    at.j = 0;
    if ((at.i += TILE) < g->y.h) return at;
    return (place){at.n + 1, 0, 0};
}

/* V of tiles first.. first + n - 1. */
RT_INLINE void transform_windows(const geometry *g, lanes *v, int64_t first, int64_t n, int64_t per)
{
    const image *x = &g->x;
    place at = place_of(g, first);
    for (int64_t t = 0; t < n; t++, at = next_place(g, at)) {
        int64_t i = at.i - g->top, j = at.j - g->left;
        bool inside = i >= 0 && j >= 0 && i + SIDE <= x->h && j + SIDE <= x->w;
        for (int64_t k = 0; k < x->vectors; k++)
            if (inside)
                window_to_points(v + t * g->v_row + k, g->v_point, plane(x, at.n, k), x, per, i, j, true);
            else
                window_to_points(v + t * g->v_row + k, g->v_point, plane(x, at.n, k), x, per, i, j, false);
    }
}

RT_INLINE void transform_tiles(const geometry *g, lanes *m, int64_t first, int64_t n, int64_t per)
{
    const image *y = &g->y;
    place at = place_of(g, first);
    for (int64_t t = 0; t < n; t++, at = next_place(g, at)) {
        bool inside = at.i + TILE <= y->h && at.j + TILE <= y->w;
        for (int64_t k = 0; k < y->vectors; k++)
            if (inside)
                tile_to_points(m + t * g->m_row + k, g->m_point, plane(y, at.n, k), y, per, at.i, at.j, true);
            else
                tile_to_points(m + t * g->m_row + k, g->m_point, plane(y, at.n, k), y, per, at.i, at.j, false);
    }
}

/* Vector k of the channels of y, from one vector of each row of M. */
RT_INLINE void finish_tiles(const geometry *g, const lanes *m, int64_t first, int64_t n, int64_t k, const real *bias, int64_t per)
{
    const image *y = &g->y;
    place at = place_of(g, first);
    lanes b = {0};
    if (bias) memcpy(&b, bias + k * LANES, sizeof b);
    for (int64_t t = 0; t < n; t++, at = next_place(g, at)) {
        if (at.i + TILE <= y->h && at.j + TILE <= y->w)
            points_to_tile(plane(y, at.n, k), y, per, at.i, at.j, m + t * g->m_row, g->m_point, b, true);
        else
            points_to_tile(plane(y, at.n, k), y, per, at.i, at.j, m + t * g->m_row, g->m_point, b, false);
    }
}

#define FOR_PER(PER, KERNEL, ...) ((PER) == 1 ? KERNEL(__VA_ARGS__, 1) : KERNEL(__VA_ARGS__, PER))

/* ---- weights */

/* Vectors of panel k and all before: the last one may be a single vector wide. */
static int64_t panel_at(const geometry *g, int64_t k) { return k * POINTS * g->u_point; }

/* U of output vector v and channels c.. c + n - 1 of x. */
static void transform_weights(const geometry *g, lanes *u, int64_t v, int64_t c, int64_t n)
{
    const real *w = g->w->data;
    int64_t columns = least(2, g->y.vectors - v / 2 * 2), channels = g->w->dim[1];
    lanes *to = u + panel_at(g, v / 2) + v % 2;
    int64_t lane = g->adjoint ? TAPS : channels * TAPS, next = g->adjoint ? channels * TAPS : TAPS;
    for (const real *from = w + v * LANES * lane + c * next; n > 0; n--, c++, from += next) {
        lanes k[TAPS], part[SIDE * 3];
        real *each = (real *)k;
        for (int l = 0; l < LANES; l++)
            for (int t = 0; t < TAPS; t++) each[t * LANES + l] = from[l * lane + (g->adjoint ? TAPS - 1 - t : t)];
        for (int l = 0; l < 3; l++) taps(part + l, 3, k + l, 3);
        for (int l = 0; l < SIDE; l++) taps(to + l * SIDE * g->u_point + c * columns, g->u_point, part + l * 3, 1);
    }
}

/* gw of output channel o and vector v of channels of x. */
static void finish_weights(const geometry *g, const lanes *u, int64_t o, int64_t v)
{
    const lanes *from = u + o * g->u_row + v;
    lanes part[3 * SIDE], k[TAPS];
    for (int l = 0; l < SIDE; l++) from_taps(part + l, SIDE, from + l * g->u_point, SIDE * g->u_point);
    for (int l = 0; l < 3; l++) from_taps(k + l * 3, 1, part + l * SIDE, 1);
    real *to = (real *)g->w->data + (o * g->w->dim[1] + v * LANES) * TAPS;
    const real *each = (const real *)k;
    for (int l = 0; l < LANES; l++)
        for (int t = 0; t < TAPS; t++) to[l * TAPS + t] = each[t * LANES + l];
}

/* ---- products; rows (at most MR) and columns (vectors, at most 2) are constants for the compiler */

/* m (rows x columns) = v (rows x n) u (n x columns) */
RT_INLINE void multiply(lanes *m, int64_t m_row, const real *v, int64_t v_row, const lanes *u, int64_t n, int rows, int columns)
{
    lanes acc[MR][2];
    memset(acc, 0, sizeof acc);
    for (; n > 0; n--, v++, u += columns)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) acc[i][j] += v[i * v_row] * u[j];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) m[i * m_row + j] = acc[i][j];
}

/* u (rows x columns) = or += sum_t m[t] (rows) v[t] (columns), t < n */
RT_INLINE void add_outer(lanes *u, int64_t u_row, const real *m, int64_t m_row, const lanes *v, int64_t v_row, int64_t n, bool add,
                         int rows, int columns)
{
    lanes acc[MR][2];
    memset(acc, 0, sizeof acc);
    for (int i = 0; i < rows && add; i++)
        for (int j = 0; j < columns; j++) acc[i][j] = u[i * u_row + j];
    for (; n > 0; n--, m += m_row, v += v_row)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) acc[i][j] += m[i] * v[j];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) u[i * u_row + j] = acc[i][j];
}

RT_INLINE void multiply_point(const geometry *g, lanes *m, const lanes *v, const lanes *u, int64_t tiles, int columns)
{
    int64_t n = g->x.vectors * LANES, t = 0;
    for (; t + MR / 2 < tiles; t += MR)
        multiply(m + t * g->m_row, g->m_row, (const real *)(v + t * g->v_row), g->v_row * LANES, u, n, MR, columns);
    if (t < tiles) multiply(m + t * g->m_row, g->m_row, (const real *)(v + t * g->v_row), g->v_row * LANES, u, n, MR / 2, columns);
}

RT_INLINE void add_point(const geometry *g, lanes *u, const lanes *m, const lanes *v, int64_t tiles, bool add, int columns)
{
    int64_t n = g->y.vectors * LANES, o = 0;
    for (; o + MR <= n; o += MR)
        add_outer(u + o * g->u_row, g->u_row, (const real *)m + o, g->m_row * LANES, v, g->v_row, tiles, add, MR, columns);
    if (o + 4 <= n)
        add_outer(u + o * g->u_row, g->u_row, (const real *)m + o, g->m_row * LANES, v, g->v_row, tiles, add, 4, columns), o += 4;
    if (o < n) add_outer(u + o * g->u_row, g->u_row, (const real *)m + o, g->m_row * LANES, v, g->v_row, tiles, add, 2, columns);
}

/* ---- a stretch of tiles */

static int64_t workspace(const geometry *g) { return POINTS * (g->v_point + g->m_point); }

/* Vectors k.. end - 1 of the channels of y, k even. */
static void convolve_stretch(const geometry *g, const lanes *u, lanes *v, const real *bias, int64_t first, int64_t n, int64_t k,
                             int64_t end)
{
    lanes *m = v + POINTS * g->v_point;
    FOR_PER(g->x.per, transform_windows, g, v, first, n);
    for (; k < end; k += 2) {
        int columns = k + 1 < g->y.vectors ? 2 : 1;
        const lanes *panel = u + panel_at(g, k / 2);
        for (int p = 0; p < POINTS; p++)
            if (columns == 2)
                multiply_point(g, m + p * g->m_point, v + p * g->v_point, panel + p * g->u_point, n, 2);
            else
                multiply_point(g, m + p * g->m_point, v + p * g->v_point, panel + p * g->u_point, n, 1);
        for (int c = 0; c < columns; c++) FOR_PER(g->y.per, finish_tiles, g, m + c, first, n, k + c, bias);
    }
}

static void convolve(const geometry *g, lanes *u, lanes *scratch, const real *bias, bool ready)
{
    int64_t size = workspace(g), threads = omp_get_max_threads(), panels = (g->y.vectors + 1) / 2;
    int64_t parts = least(panels, (threads + g->stretches - 1) / g->stretches); /* of y's channels, where there are few tiles */
#pragma omp parallel if (g->stretches * parts > 1)
    {
#pragma omp for collapse(2) schedule(static)
        for (int64_t v = 0; v < (ready ? 0 : g->y.vectors); v++)
            for (int64_t c = 0; c < g->x.vectors; c++) transform_weights(g, u, v, c * LANES, LANES);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t s = 0; s < g->stretches; s++)
            for (int64_t part = 0; part < parts; part++) {
                int64_t first = s * g->stretch, n = least(g->stretch, g->tiles - first);
                int64_t from = panels * part / parts * 2, to = panels * (part + 1) / parts * 2;
                convolve_stretch(g, u, scratch + omp_get_thread_num() * size, bias, first, n, from, least(to, g->y.vectors));
            }
    }
}

static void gradient(const geometry *g, lanes *v)
{
    lanes *m = v + POINTS * g->v_point, *u = m + POINTS * g->m_point;
    int64_t pieces = omp_get_max_threads();
#pragma omp parallel
    {
        for (int64_t first = 0; first < g->tiles; first += g->stretch) {
            int64_t n = least(g->stretch, g->tiles - first);
#pragma omp for schedule(static)
            for (int64_t piece = 0; piece < pieces; piece++) {
                int64_t t = n * piece / pieces, count = n * (piece + 1) / pieces - t;
                FOR_PER(g->x.per, transform_windows, g, v + t * g->v_row, first + t, count);
                FOR_PER(g->y.per, transform_tiles, g, m + t * g->m_row, first + t, count);
            }
#pragma omp for collapse(2) schedule(static)
            for (int p = 0; p < POINTS; p++)
                for (int64_t k = 0; k < g->x.vectors; k += 2)
                    if (k + 1 < g->x.vectors)
                        add_point(g, u + p * g->u_point + k, m + p * g->m_point, v + p * g->v_point + k, n, first > 0, 2);
                    else
                        add_point(g, u + p * g->u_point + k, m + p * g->m_point, v + p * g->v_point + k, n, first > 0, 1);
        }
#pragma omp for collapse(2) schedule(static)
        for (int64_t o = 0; o < g->y.vectors * LANES; o++)
            for (int64_t k = 0; k < g->x.vectors; k++) finish_weights(g, u, o, k);
    }
}

static size_t weights(const rt_call *c)
{
    geometry g = geometry_of(c);
    return g.gradient ? 0 : (size_t)(panel_at(&g, (g.y.vectors + 1) / 2) * RT_VECTOR);
}

static size_t scratch(const rt_call *c)
{
    geometry g = geometry_of(c);
    return (size_t)(g.gradient ? workspace(&g) + POINTS * g.u_point : omp_get_max_threads() * workspace(&g)) * RT_VECTOR;
}

static void run(const rt_call *c, void *u, bool ready)
{
    geometry g = geometry_of(c);
    if (g.gradient)
        gradient(&g, c->scratch);
    else
        convolve(&g, u, c->scratch, c->n_in == 3 ? c->in[2].data : NULL, ready);
}

const rt__winograd RT_OF_ISA(rt__winograd) = {can, weights, scratch, run};
