/* binary.c -- two operands with broadcasting, comparisons, choice. */
#include "graph/ops/kernel.h"

static bool same_type(rt_node *y, const rt_node *a, const rt_node *b)
{
    return a->dtype == b->dtype || rt__bad(y, "types %s and %s differ; cast one", rt_dtype_name(a->dtype), rt_dtype_name(b->dtype));
}

static bool binary_shape(rt_node *y)
{
    y->dtype = y->in[0]->dtype;
    if (!same_type(y, y->in[0], y->in[1])) return false;
    if (y->dtype != RT_I64 && !rt__is_real(y->in[0])) return rt__bad(y, "not defined for %s", rt_dtype_name(y->dtype));
    return rt__broadcast_shape(y->in[0], y->in[1], &y->rank, y->shape) ||
           rt__bad(y, "extents must be equal or 1, aligned at the last axis");
}

static bool real_binary_shape(rt_node *y)
{
    return binary_shape(y) && (rt__is_real(y) || rt__bad(y, "not defined for %s", rt_dtype_name(y->dtype)));
}

static bool compare_shape(rt_node *y)
{
    if (!binary_shape(y)) return false;
    y->dtype = RT_BOOL;
    return true;
}

/* Blocks tie the pixels of an image together: an operand has all of them or one. */
static bool same_pixels(const rt_node *y, int b)
{
    (void)b;
    for (int i = 0; i < y->n_in; i++) {
        const rt_node *x = y->in[i];
        int64_t h = x->rank > 1 ? x->shape[x->rank - 2] : 1, w = x->rank > 0 ? x->shape[x->rank - 1] : 1;
        if (!(h == 1 && w == 1) && !(h == y->shape[2] && w == y->shape[3])) return false;
    }
    return true;
}

/* y = f(a, b) over merged loops; the innermost runs over contiguous elements or one that stands still. */
#define INNER(T, expr) _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = (T)(expr)

typedef void range2(real *y, const real *a, const real *b, int64_t sa, int64_t sb, int64_t n);

RT_INLINE void each2(real *y, const real *a, const real *b, int64_t sa, int64_t sb, int64_t n, real (*f)(real, real))
{
    if (sa && sb)
        INNER(real, f(a[i], b[i]));
    else if (sa)
        INNER(real, f(a[i], *b));
    else if (sb)
        INNER(real, f(*a, b[i]));
    else
        INNER(real, f(*a, *b));
}

static void map2(const rt_call *c, range2 *range)
{
    loops l = merge_loops(c, 2);
    int64_t inner = l.dim[0], pieces = (inner + STRIP - 1) / STRIP, outer = c->out.count / inner, sa = l.stride[0][0], sb = l.stride[1][0];
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t p = 0; p < outer * pieces; p++) {
        int64_t at[2], o = p / pieces, from = p % pieces * STRIP, n = inner - from < STRIP ? inner - from : STRIP, to = o * inner + from;
        loop_offsets(&l, o, 2, at);
        real ba[STRIP], bb[STRIP], by[STRIP], *y = room(&c->out, to, by);
        const real *a = widened(&c->in[0], at[0] + from * sa, sa ? n : 1, ba), *b = widened(&c->in[1], at[1] + from * sb, sb ? n : 1, bb);
        range(y, a, b, sa, sb, n);
        narrow(&c->out, to, n, y);
    }
}

/* I64 operands are few (indices, labels): one plain loop. */
static void map2_int(const rt_call *c, int64_t (*f)(int64_t, int64_t))
{
    const int64_t *a = c->in[0].data, *b = c->in[1].data;
    int64_t *y = c->out.data;
    loops l = merge_loops(c, 2);
    for (int64_t o = 0; o < c->out.count / l.dim[0]; o++) {
        int64_t at[2];
        loop_offsets(&l, o, 2, at);
        for (int64_t i = 0; i < l.dim[0]; i++) y[o * l.dim[0] + i] = f(a[at[0] + i * l.stride[0][0]], b[at[1] + i * l.stride[1][0]]);
    }
}

#define REAL(op, expr)                                                                                                                     \
    RT_INLINE real f_##op(real a, real b) { return expr; }
#define INTEGER(op, expr)                                                                                                                  \
    static int64_t i_##op(int64_t a, int64_t b) { return expr; }
RT_BINARY_FORMULAS(REAL)
RT_INTEGER_FORMULAS(INTEGER)

/* op_run for y = f(a, b); with g for I64 */
#define RANGE2(op, f)                                                                                                                      \
    static void op##_range(real *y, const real *a, const real *b, int64_t sa, int64_t sb, int64_t n) { each2(y, a, b, sa, sb, n, f); }
#define RUN2(op, f)                                                                                                                        \
    RANGE2(op, f)                                                                                                                          \
    static void op##_run(const rt_call *c) { map2(c, op##_range); }
#define RUN2_INT(op, f, g)                                                                                                                 \
    RANGE2(op, f)                                                                                                                          \
    static void op##_run(const rt_call *c) { c->out.dtype == RT_I64 ? map2_int(c, g) : map2(c, op##_range); }
RUN2_INT(add, f_add, i_add)
RUN2_INT(sub, f_sub, i_sub)
RUN2_INT(mul, f_mul, i_mul)
RUN2(div, f_div)
RUN2(maximum, f_maximum)
RUN2(minimum, f_minimum)

static void compare(const rt_call *c, bool less)
{
    unsigned char *y = c->out.data;
    loops l = merge_loops(c, 2);
    int64_t inner = l.dim[0], outer = c->out.count / inner, sa = l.stride[0][0], sb = l.stride[1][0];
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t o = 0; o < outer; o++) {
        int64_t at[2];
        loop_offsets(&l, o, 2, at);
        unsigned char *to = y + o * inner;
        if (c->in[0].dtype == RT_I64) {
            const int64_t *a = (const int64_t *)c->in[0].data + at[0], *b = (const int64_t *)c->in[1].data + at[1];
            for (int64_t i = 0; i < inner; i++) to[i] = less ? a[i * sa] < b[i * sb] : a[i * sa] == b[i * sb];
        } else {
            const real *a = (const real *)c->in[0].data + at[0], *b = (const real *)c->in[1].data + at[1];
            for (int64_t i = 0; i < inner; i++) to[i] = less ? a[i * sa] < b[i * sb] : a[i * sa] == b[i * sb];
        }
    }
}
static void less_run(const rt_call *c) { compare(c, true); }
static void equal_run(const rt_call *c) { compare(c, false); }

static void add_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    (void)y;
    gx[0] = gx[1] = gy;
}
static void sub_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    (void)y;
    gx[0] = gy;
    gx[1] = rt_neg(gy);
}
static rt_node *add_jvp(rt_node *y, rt_node *const *dx)
{
    (void)y;
    return dx[0] && dx[1] ? rt_add(dx[0], dx[1]) : dx[0] ? dx[0] : dx[1];
}
static rt_node *sub_jvp(rt_node *y, rt_node *const *dx)
{
    (void)y;
    return dx[0] && dx[1] ? rt_sub(dx[0], dx[1]) : dx[0] ? dx[0] : rt_neg(dx[1]);
}
static void mul_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    gx[0] = rt_mul(gy, y->in[1]);
    gx[1] = rt_mul(gy, y->in[0]);
}
static void div_grad(rt_node *y, rt_node *gy, rt_node **gx) /* d(a/b) = da/b - (a/b) db/b */
{
    gx[0] = rt_div(gy, y->in[1]);
    gx[1] = rt_neg(rt_div(rt_mul(gy, y), y->in[1]));
}
static rt_node *div_jvp(rt_node *y, rt_node *const *dx)
{
    rt_node *b = y->in[1], *over = dx[1] ? rt_mul(y, dx[1]) : NULL;
    return rt_div(dx[0] && over ? rt_sub(dx[0], over) : dx[0] ? dx[0] : rt_neg(over), b);
}

/* The winner takes the gradient; equals share it. */
static void choose_grad(rt_node *y, rt_node *gy, rt_node **gx, bool larger)
{
    rt_node *a = y->in[0], *b = y->in[1], *zero = rt_scalar(y->graph, 0), *half = rt_scale(gy, 0.5);
    rt_node *a_wins = larger ? rt_less(b, a) : rt_less(a, b), *b_wins = larger ? rt_less(a, b) : rt_less(b, a), *tie = rt_equal(a, b);
    gx[0] = rt_where(tie, half, rt_where(a_wins, gy, zero));
    gx[1] = rt_where(tie, half, rt_where(b_wins, gy, zero));
}
static rt_node *choose_jvp(rt_node *y, rt_node *const *dx, bool larger)
{
    rt_node *a = y->in[0], *b = y->in[1], *zero = rt_scalar(y->graph, 0), *da = dx[0] ? dx[0] : zero, *db = dx[1] ? dx[1] : zero;
    return rt_where(rt_equal(a, b), rt_scale(rt_add(da, db), 0.5), rt_where(larger ? rt_less(b, a) : rt_less(a, b), da, db));
}
static rt_node *maximum_jvp(rt_node *y, rt_node *const *dx) { return choose_jvp(y, dx, true); }
static rt_node *minimum_jvp(rt_node *y, rt_node *const *dx) { return choose_jvp(y, dx, false); }
static void maximum_grad(rt_node *y, rt_node *gy, rt_node **gx) { choose_grad(y, gy, gx, true); }
static void minimum_grad(rt_node *y, rt_node *gy, rt_node **gx) { choose_grad(y, gy, gx, false); }

static bool where_shape(rt_node *y)
{
    const rt_node *cond = y->in[0], *a = y->in[1], *b = y->in[2];
    if (cond->dtype != RT_BOOL) return rt__bad(y, "the condition is %s, must be BOOL", rt_dtype_name(cond->dtype));
    if (!same_type(y, a, b)) return false;
    rt_node ab = *y;
    if (!rt__broadcast_shape(a, b, &ab.rank, ab.shape) || !rt__broadcast_shape(&ab, cond, &y->rank, y->shape))
        return rt__bad(y, "shapes do not broadcast");
    y->dtype = a->dtype;
    return rt__is_real(a) || a->dtype == RT_I64 || rt__bad(y, "not defined for %s", rt_dtype_name(a->dtype));
}

static void where_run(const rt_call *c)
{
    loops l = merge_loops(c, 3);
    int64_t inner = l.dim[0], pieces = (inner + CHUNK - 1) / CHUNK, outer = c->out.count / inner;
    int64_t sc = l.stride[0][0], sa = l.stride[1][0], sb = l.stride[2][0];
#pragma omp parallel for if (c->out.count > CHUNK)
    for (int64_t p = 0; p < outer * pieces; p++) {
        int64_t at[3], o = p / pieces, from = p % pieces * CHUNK, n = inner - from < CHUNK ? inner - from : CHUNK, to = o * inner + from;
        loop_offsets(&l, o, 3, at);
        const unsigned char *cond = (const unsigned char *)c->in[0].data + at[0] + from * sc;
        if (c->out.dtype == RT_I64) {
            const int64_t *a = (const int64_t *)c->in[1].data + at[1] + from * sa, *b = (const int64_t *)c->in[2].data + at[2] + from * sb;
            for (int64_t i = 0; i < n; i++) ((int64_t *)c->out.data)[to + i] = cond[i * sc] ? a[i * sa] : b[i * sb];
        } else {
            const real *a = (const real *)c->in[1].data + at[1] + from * sa, *b = (const real *)c->in[2].data + at[2] + from * sb;
            real *y = (real *)c->out.data + to;
            if (sc && sa && !sb) /* a gradient let through by a mask */
                for (int64_t i = 0; i < n; i++) y[i] = cond[i] ? a[i] : *b;
            else
                for (int64_t i = 0; i < n; i++) y[i] = cond[i * sc] ? a[i * sa] : b[i * sb];
        }
    }
}
static void where_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt_node *zero = rt_scalar(y->graph, 0);
    gx[1] = rt_where(y->in[0], gy, zero);
    gx[2] = rt_where(y->in[0], zero, gy);
}
static rt_node *where_jvp(rt_node *y, rt_node *const *dx)
{
    rt_node *zero = rt_scalar(y->graph, 0);
    return dx[1] || dx[2] ? rt_where(y->in[0], dx[1] ? dx[1] : zero, dx[2] ? dx[2] : zero) : NULL;
}

/* ---- samples */

#define IN(name, ...) rt_input(g, name, rt_graph_real(g), (int)RT_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})

static rt_node *sample2(rt_graph *g, int k, rt_node *(*f)(rt_node *, rt_node *))
{
    switch (k) {
    case -1: return f(IN("a", 2, 3), IN("b", 4, 3));
    case 0: return f(IN("a", 3, 5, 7), IN("b", 3, 5, 7));
    case 1: return f(IN("a", 2, 3, 5, 7), IN("b", 3, 1, 1));
    case 2: return f(IN("a", 2, 3, 1, 1), IN("b", 2, 3, 5, 5));
    case 3: return f(IN("a", 4, 1), IN("b", 1, 9));
    case 4: return f(IN("a", RT_BATCH, 6), IN("b", 6));
    case 5: return f(IN("a", RT_BATCH, 1, 1), IN("b", RT_BATCH, 3, 11));
    case 6: return f(rt_scalar(g, 1.5), IN("b", 19));
    default: return NULL;
    }
}
static rt_node *away_from_zero(rt_node *x) { return rt_offset(rt_square(x), 0.5); }
static rt_node *safe_div(rt_node *a, rt_node *b) { return rt_div(a, away_from_zero(b)); }
static rt_node *add_sample(rt_graph *g, int k) { return sample2(g, k, rt_add); }
static rt_node *sub_sample(rt_graph *g, int k) { return sample2(g, k, rt_sub); }
static rt_node *mul_sample(rt_graph *g, int k) { return sample2(g, k, rt_mul); }
static rt_node *div_sample(rt_graph *g, int k) { return sample2(g, k, k < 0 ? rt_div : safe_div); }
static rt_node *maximum_sample(rt_graph *g, int k) { return sample2(g, k, rt_maximum); }
static rt_node *minimum_sample(rt_graph *g, int k) { return sample2(g, k, rt_minimum); }
static rt_node *less_sample(rt_graph *g, int k) { return sample2(g, k, rt_less); }
static rt_node *equal_sample(rt_graph *g, int k) { return sample2(g, k, rt_equal); }
static rt_node *where_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_where(rt_less(IN("c", 2), IN("d", 2)), IN("a", 3), IN("b", 3));
    case 0: return rt_where(rt_less(IN("c", 3, 7), IN("d", 3, 7)), IN("a", 3, 7), IN("b", 3, 7));
    case 1: return rt_where(rt_less(IN("c", RT_BATCH, 1), IN("d", RT_BATCH, 1)), IN("a", RT_BATCH, 5), IN("b", 5));
    case 2: return rt_where(rt_less(IN("c", RT_BATCH, 6, 2, 3), IN("d", 6, 1, 1)), IN("a", RT_BATCH, 6, 2, 3), IN("b", 1, 6, 2, 3));
    default: return NULL;
    }
}

#define ROW2(op, text, rule, flag)                                                                                                         \
    .name = #op, .formula = text, .min_in = 2, .max_in = 2, .layout = RT_LAYOUT_MAPS, .blockable = same_pixels, .flags = flag,             \
    .shape = rule, .run = op##_run, .sample = op##_sample

const rt_op RT_ROW(add) = {ROW2(add, "a + b", binary_shape, RT_ROW_INPLACE), .type = RT_TYPE_MAPS, .grad = add_grad, .jvp = add_jvp};
const rt_op RT_ROW(sub) = {ROW2(sub, "a - b", binary_shape, RT_ROW_INPLACE), .type = RT_TYPE_MAPS, .grad = sub_grad, .jvp = sub_jvp};
const rt_op RT_ROW(mul) = {ROW2(mul, "a b", binary_shape, RT_ROW_INPLACE), .type = RT_TYPE_MAPS, .grad = mul_grad, .jvp = rt__jvp_linear};
const rt_op RT_ROW(div) = {ROW2(div, "a / b", real_binary_shape, RT_ROW_INPLACE), .grad = div_grad, .jvp = div_jvp};
const rt_op RT_ROW(maximum) = {ROW2(maximum, "max(a, b)", real_binary_shape, RT_ROW_INPLACE), .grad = maximum_grad, .jvp = maximum_jvp};
const rt_op RT_ROW(minimum) = {ROW2(minimum, "min(a, b)", real_binary_shape, RT_ROW_INPLACE), .grad = minimum_grad, .jvp = minimum_jvp};
const rt_op RT_ROW(less) = {ROW2(less, "a < b", compare_shape, 0)};
const rt_op RT_ROW(equal) = {ROW2(equal, "a = b", compare_shape, 0)};
const rt_op RT_ROW(where) = {.name = "where",
                             .formula = "a where the condition holds, else b",
                             .min_in = 3,
                             .max_in = 3,
                             .layout = RT_LAYOUT_MAPS,
                             .blockable = same_pixels,
                             .shape = where_shape,
                             .grad = where_grad,
                             .jvp = where_jvp,
                             .run = where_run,
                             .sample = where_sample};
