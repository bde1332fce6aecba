/* unary.c -- one operand, element by element; casts; the stop-gradient. */
#include "graph/ops/kernel.h"

static bool unary_shape(rt_node *y)
{
    const rt_node *x = y->in[0];
    y->dtype = x->dtype;
    y->rank = x->rank;
    memcpy(y->shape, x->shape, sizeof y->shape);
    return rt__is_real(x) || rt__bad(y, "not defined for %s", rt_dtype_name(x->dtype));
}

#define RUN(op, expr)                                                                                                                      \
    RT_INLINE real f_##op(real x) { return expr; }                                                                                         \
    RUN1(op, f_##op)
RT_UNARY_FORMULAS(RUN)

#define GRAD(op, expr)                                                                                                                     \
    static void op##_grad(rt_node *y, rt_node *gy, rt_node **gx)                                                                           \
    {                                                                                                                                      \
        rt_node *x = y->in[0];                                                                                                             \
        (void)x;                                                                                                                           \
        gx[0] = expr;                                                                                                                      \
    }
GRAD(neg, rt_neg(gy))
GRAD(abs, rt_mul(gy, rt_sign(x)))
GRAD(sign, rt_scale(gy, 0))
GRAD(square, rt_mul(gy, rt_scale(x, 2)))
GRAD(sqrt, rt_div(rt_scale(gy, 0.5), y))
GRAD(rsqrt, rt_mul(rt_scale(gy, -0.5), rt_div(y, x)))
GRAD(recip, rt_neg(rt_mul(gy, rt_square(y))))
GRAD(exp, rt_mul(gy, y))
GRAD(log, rt_div(gy, x))
GRAD(sin, rt_mul(gy, rt_cos(x)))
GRAD(cos, rt_neg(rt_mul(gy, rt_sin(x))))
GRAD(erf, rt_mul(gy, rt_scale(rt_exp(rt_neg(rt_square(x))), 1.1283791670955126))) /* 2/sqrt(pi) */

/* ---- with one number: y = v x, x + v, x^v */

#define WITH_NUMBER(op, expr)                                                                                                              \
    RT_INLINE real f_##op(real x, double v) { return expr; }
RT_NUMBER_FORMULAS(WITH_NUMBER)

static double number_of(const rt_node *y) { return *(const double *)y->attr; }

static void scale_run(const rt_call *c)
{
    double v = number_of(c->node);
    int64_t count = c->out.count;
#pragma omp parallel for if (count > CHUNK)
    for (int64_t at = 0; at < count; at += STRIP) {
        int64_t n = count - at < STRIP ? count - at : STRIP;
        real bx[STRIP], by[STRIP], *y = room(&c->out, at, by);
        const real *x = widened(&c->in[0], at, n, bx);
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = f_scale(x[i], v);
        narrow(&c->out, at, n, y);
    }
}
static void offset_run(const rt_call *c)
{
    const real *x = c->in[0].data;
    real *y = c->out.data;
    double v = number_of(c->node);
#pragma omp parallel for simd if (c->out.count > CHUNK)
    for (int64_t i = 0; i < c->out.count; i++) y[i] = f_offset(x[i], v);
}
static void pow_run(const rt_call *c)
{
    const real *x = c->in[0].data;
    real *y = c->out.data;
    double v = number_of(c->node);
    for (int64_t i = 0; i < c->out.count; i++) y[i] = f_pow(x[i], v);
}
GRAD(scale, rt_scale(gy, number_of(y)))
GRAD(offset, gy)
GRAD(pow, rt_mul(gy, rt_scale(rt_pow(x, number_of(y) - 1), number_of(y))))

/* ---- cast and stop-gradient */

static bool cast_shape(rt_node *y)
{
    const rt_node *x = y->in[0];
    y->dtype = *(const rt_dtype *)y->attr;
    y->rank = x->rank;
    memcpy(y->shape, x->shape, sizeof y->shape);
    bool from = rt__is_real(x) || x->dtype == RT_I64 || x->dtype == RT_BOOL, to = rt__is_real(y) || y->dtype == RT_I64;
    return (from && to) || rt__bad(y, "no cast from %s to %s in a graph", rt_dtype_name(x->dtype), rt_dtype_name(y->dtype));
}

static double load(const rt_view *v, int64_t i)
{
    return v->dtype == RT_F32   ? (double)((const float *)v->data)[i]
           : v->dtype == RT_F64 ? ((const double *)v->data)[i]
           : v->dtype == RT_I64 ? (double)((const int64_t *)v->data)[i]
                                : (double)((const unsigned char *)v->data)[i];
}

/* Between float and bf16: what the pass over types places. */
static void cast_strips(const rt_call *c)
{
    int64_t count = c->out.count;
#pragma omp parallel for if (count > CHUNK)
    for (int64_t at = 0; at < count; at += STRIP) {
        int64_t n = count - at < STRIP ? count - at : STRIP;
        real bx[STRIP], *y = room(&c->out, at, bx);
        const real *x = widened(&c->in[0], at, n, y);
        narrow(&c->out, at, n, x);
    }
}

static void cast_run(const rt_call *c)
{
    if (is_bf16(&c->in[0]) != is_bf16(&c->out)) {
        cast_strips(c);
        return;
    }
    for (int64_t i = 0; i < c->out.count; i++) {
        double v = load(&c->in[0], i);
        if (c->out.dtype == RT_F32)
            ((float *)c->out.data)[i] = (float)v;
        else if (c->out.dtype == RT_F64)
            ((double *)c->out.data)[i] = v;
        else
            ((int64_t *)c->out.data)[i] = (int64_t)v;
    }
}
static void cast_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    if (rt__is_real(y->in[0])) gx[0] = rt_cast(gy, y->in[0]->dtype);
}
static rt_node *cast_jvp(rt_node *y, rt_node *const *dx)
{
    if (!rt__is_real(y->in[0]))
        return rt_fail(y->graph, "cast from %s has no derivative along a direction", rt_dtype_name(y->in[0]->dtype));
    return rt_cast(dx[0], y->dtype);
}

static bool any_shape(rt_node *y)
{
    const rt_node *x = y->in[0];
    y->dtype = x->dtype;
    y->rank = x->rank;
    memcpy(y->shape, x->shape, sizeof y->shape);
    return true;
}
static void stop_grad_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    (void)y;
    (void)gy;
    (void)gx;
}

/* ---- samples */

#define IN(name, ...) rt_input(g, name, rt_graph_real(g), (int)RT_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})
static rt_node *plain(rt_node *x) { return x; }
static rt_node *positive(rt_node *x) { return rt_offset(rt_square(x), 0.5); }
static rt_node *sample1(rt_graph *g, int k, rt_node *(*f)(rt_node *), rt_node *(*domain)(rt_node *))
{
    switch (k) {
    case -1: return f(rt_input(g, "a", RT_I64, 1, (int64_t[]){3}));
    case 0: return f(domain(IN("a", 3, 17)));
    case 1: return f(domain(IN("a", RT_BATCH, 5)));
    case 2: return f(domain(IN("a", RT_BATCH, 6, 1, 3)));
    default: return NULL;
    }
}
static rt_node *by_two(rt_node *x) { return rt_scale(x, -2.5); }
static rt_node *plus(rt_node *x) { return rt_offset(x, 0.75); }
static rt_node *cubed(rt_node *x) { return rt_pow(x, 3); }
#define SAMPLE(op, f, domain)                                                                                                              \
    static rt_node *op##_sample(rt_graph *g, int k) { return sample1(g, k, f, domain); }
SAMPLE(neg, rt_neg, plain)
SAMPLE(abs, rt_abs, plain)
SAMPLE(sign, rt_sign, plain)
SAMPLE(square, rt_square, plain)
SAMPLE(sqrt, rt_sqrt, positive)
SAMPLE(rsqrt, rt_rsqrt, positive)
SAMPLE(recip, rt_recip, positive)
SAMPLE(exp, rt_exp, plain)
SAMPLE(log, rt_log, positive)
SAMPLE(sin, rt_sin, plain)
SAMPLE(cos, rt_cos, plain)
SAMPLE(erf, rt_erf, plain)
SAMPLE(scale, by_two, plain)
SAMPLE(offset, plus, plain)
SAMPLE(pow, cubed, plain)
static rt_node *cast_sample(rt_graph *g, int k)
{
    rt_dtype r = rt_graph_real(g);
    switch (k) {
    case -1: return rt_cast(IN("a", 3), RT_U8);
    case 0: return rt_cast(rt_input(g, "i", RT_I64, 2, (int64_t[]){RT_BATCH, 5}), r);
    case 1: return rt_cast(rt_less(IN("a", 3, 5), IN("b", 3, 5)), r);
    case 2: return rt_cast(rt_cast(IN("a", RT_BATCH, 5), RT_F64), r); /* there and back in a graph of floats, nothing in one of doubles */
    case 3: return rt_cast(rt_scale(IN("a", 3, 17), 10), RT_I64);
    case 4: return rt_cast(rt_less(IN("a", 2, 6, 2, 3), IN("b", 2, 6, 2, 3)), r);
    default: return NULL;
    }
}
static rt_node *stop_grad_sample(rt_graph *g, int k)
{
    return k == 0   ? rt_stop_grad(IN("a", 3, 4))
           : k == 1 ? rt_stop_grad(IN("a", 3, 6, 1, 3))
           : k < 0  ? rt_fail(g, "stop_grad: any shape () is accepted")
                    : NULL;
}

#define ROW1(op, text, rule)                                                                                                               \
    .name = #op, .formula = text, .min_in = 1, .max_in = 1, .layout = RT_LAYOUT_MAPS, .flags = RT_ROW_INPLACE, .shape = rule,              \
    .grad = op##_grad, .jvp = rt__jvp_diagonal, .run = op##_run, .sample = op##_sample

const rt_op RT_ROW(neg) = {ROW1(neg, "-x", unary_shape)};
const rt_op RT_ROW(abs) = {ROW1(abs, "|x|", unary_shape)};
const rt_op RT_ROW(sign) = {ROW1(sign, "sign of x", unary_shape)};
const rt_op RT_ROW(square) = {ROW1(square, "x^2", unary_shape)};
const rt_op RT_ROW(sqrt) = {ROW1(sqrt, "x^(1/2)", unary_shape)};
const rt_op RT_ROW(rsqrt) = {ROW1(rsqrt, "x^(-1/2)", unary_shape)};
const rt_op RT_ROW(recip) = {ROW1(recip, "1/x", unary_shape)};
const rt_op RT_ROW(exp) = {ROW1(exp, "e^x", unary_shape)};
const rt_op RT_ROW(log) = {ROW1(log, "ln x", unary_shape)};
const rt_op RT_ROW(sin) = {ROW1(sin, "sin x", unary_shape)};
const rt_op RT_ROW(cos) = {ROW1(cos, "cos x", unary_shape)};
const rt_op RT_ROW(erf) = {ROW1(erf, "erf x", unary_shape)};
const rt_op RT_ROW(scale) = {ROW1(scale, "v x", unary_shape), .attr_size = sizeof(double), .type = RT_TYPE_MAPS};
const rt_op RT_ROW(offset) = {ROW1(offset, "x + v", unary_shape), .attr_size = sizeof(double)};
const rt_op RT_ROW(pow) = {ROW1(pow, "x^v", unary_shape), .attr_size = sizeof(double)};
const rt_op RT_ROW(cast) = {.name = "cast",
                            .formula = "x in another type",
                            .min_in = 1,
                            .max_in = 1,
                            .attr_size = sizeof(rt_dtype),
                            .layout = RT_LAYOUT_MAPS,
                            .shape = cast_shape,
                            .grad = cast_grad,
                            .jvp = cast_jvp,
                            .run = cast_run,
                            .sample = cast_sample};
const rt_op RT_ROW(stop_grad) = {.name = "stop_grad",
                                 .formula = "x; its gradient is 0",
                                 .min_in = 1,
                                 .max_in = 1,
                                 .layout = RT_LAYOUT_MAPS,
                                 .type = RT_TYPE_ALIKE,
                                 .flags = RT_ROW_VIEW,
                                 .shape = any_shape,
                                 .grad = stop_grad_grad,
                                 .sample = stop_grad_sample};
