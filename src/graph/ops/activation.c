/* activation.c -- the non-linearities of networks. Fused first derivatives where training spends time; the others compose theirs. */
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
RT_ACTIVATION_FORMULAS(RUN)

static void tanh_grad(rt_node *y, rt_node *gy, rt_node **gx) { gx[0] = rt_mul(gy, rt_offset(rt_neg(rt_square(y)), 1)); }
static void sigmoid_grad(rt_node *y, rt_node *gy, rt_node **gx) { gx[0] = rt_mul(gy, rt_mul(y, rt_offset(rt_neg(y), 1))); }
static void softplus_grad(rt_node *y, rt_node *gy, rt_node **gx) { gx[0] = rt_mul(gy, rt_sigmoid(y->in[0])); }
static void relu_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    rt_node *zero = rt_scalar(y->graph, 0);
    gx[0] = rt_where(rt_less(zero, y->in[0]), gy, zero);
}
static void silu_grad_rule(rt_node *y, rt_node *gy, rt_node **gx) { gx[0] = rt__emit2(RT_OP_silu_grad, y->in[0], gy, NULL); }
static rt_node *mish_expand(rt_node *y) { return rt_mul(y->in[0], rt_tanh(rt_softplus(y->in[0]))); }
static rt_node *gelu_tanh_expand(rt_node *y)
{
    rt_node *x = y->in[0], *inner = rt_scale(rt_add(x, rt_scale(rt_mul(x, rt_square(x)), 0.044715)), 0.7978845608028654);
    return rt_mul(rt_scale(x, 0.5), rt_offset(rt_tanh(inner), 1));
}
static rt_node *gelu_erf_expand(rt_node *y)
{
    rt_node *x = y->in[0];
    return rt_mul(rt_scale(x, 0.5), rt_offset(rt_erf(rt_scale(x, 0.7071067811865476)), 1));
}

/* silu_grad(x, gy) = gy s (1 + x (1 - s)), s = sigmoid(x) */
static bool silu_grad_shape(rt_node *y)
{
    if (!unary_shape(y)) return false;
    const rt_node *x = y->in[0], *gy = y->in[1];
    bool same = x->rank == gy->rank && x->dtype == gy->dtype && !memcmp(x->shape, gy->shape, sizeof x->shape);
    return same || rt__bad(y, "both inputs must have one shape");
}
static void silu_grad_run(const rt_call *c)
{
    int64_t count = c->out.count;
#pragma omp parallel for if (count > CHUNK)
    for (int64_t at = 0; at < count; at += STRIP) {
        int64_t n = count - at < STRIP ? count - at : STRIP;
        real bx[STRIP], bg[STRIP], by[STRIP], *y = room(&c->out, at, by);
        const real *x = widened(&c->in[0], at, n, bx), *gy = widened(&c->in[1], at, n, bg);
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = silu_sloped(gy[i], x[i], sigmoid_of(x[i]));
        narrow(&c->out, at, n, y);
    }
}
static rt_node *silu_grad_expand(rt_node *y)
{
    rt_node *x = y->in[0], *s = rt_sigmoid(x);
    return rt_mul(rt_mul(y->in[1], s), rt_offset(rt_mul(x, rt_offset(rt_neg(s), 1)), 1));
}

#define IN(name, ...) rt_input(g, name, rt_graph_real(g), (int)RT_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})
static rt_node *sample1(rt_graph *g, int k, rt_node *(*f)(rt_node *))
{
    switch (k) {
    case -1: return f(rt_input(g, "a", RT_I64, 1, (int64_t[]){3}));
    case 0: return f(rt_scale(IN("a", 3, 17), 2));
    case 1: return f(IN("a", RT_BATCH, 5));
    case 2: return f(IN("a", RT_BATCH, 6, 1, 3));
    default: return NULL;
    }
}
#define SAMPLE(op)                                                                                                                         \
    static rt_node *op##_sample(rt_graph *g, int k) { return sample1(g, k, rt_##op); }
SAMPLE(tanh)
SAMPLE(sigmoid)
SAMPLE(softplus)
SAMPLE(relu)
SAMPLE(silu)
SAMPLE(mish)
SAMPLE(gelu_tanh)
SAMPLE(gelu_erf)
static rt_node *silu_grad_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt__emit2(RT_OP_silu_grad, IN("a", 3), IN("b", 4), NULL);
    case 0: return rt__emit2(RT_OP_silu_grad, IN("a", 3, 17), IN("b", 3, 17), NULL);
    case 1: return rt__emit2(RT_OP_silu_grad, IN("a", RT_BATCH, 6, 1, 3), IN("b", RT_BATCH, 6, 1, 3), NULL);
    default: return NULL;
    }
}

#define ROW1(op, text)                                                                                                                     \
    .name = #op, .formula = text, .min_in = 1, .max_in = 1, .layout = RT_LAYOUT_MAPS, .type = RT_TYPE_MAPS, .flags = RT_ROW_INPLACE,       \
    .shape = unary_shape, .run = op##_run, .sample = op##_sample

const rt_op RT_ROW(tanh) = {ROW1(tanh, "tanh x"), .grad = tanh_grad, .jvp = rt__jvp_diagonal};
const rt_op RT_ROW(sigmoid) = {ROW1(sigmoid, "1/(1 + e^-x)"), .grad = sigmoid_grad, .jvp = rt__jvp_diagonal};
const rt_op RT_ROW(softplus) = {ROW1(softplus, "ln(1 + e^x)"), .grad = softplus_grad, .jvp = rt__jvp_diagonal};
const rt_op RT_ROW(relu) = {ROW1(relu, "max(x, 0)"), .grad = relu_grad, .jvp = rt__jvp_diagonal};
const rt_op RT_ROW(silu) = {ROW1(silu, "x/(1 + e^-x)"), .grad = silu_grad_rule, .jvp = rt__jvp_diagonal};
const rt_op RT_ROW(silu_grad) = {.name = "silu_grad",
                                 .formula = "gy s (1 + x (1 - s)), s = 1/(1 + e^-x)",
                                 .min_in = 2,
                                 .max_in = 2,
                                 .layout = RT_LAYOUT_MAPS,
                                 .type = RT_TYPE_MAPS,
                                 .flags = RT_ROW_INPLACE,
                                 .shape = silu_grad_shape,
                                 .expand = silu_grad_expand,
                                 .run = silu_grad_run,
                                 .sample = silu_grad_sample};
const rt_op RT_ROW(mish) = {ROW1(mish, "x tanh(ln(1 + e^x))"), .expand = mish_expand};
const rt_op RT_ROW(gelu_tanh) = {ROW1(gelu_tanh, "x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"), .expand = gelu_tanh_expand};
const rt_op RT_ROW(gelu_erf) = {ROW1(gelu_erf, "x/2 (1 + erf(x/sqrt 2))"), .expand = gelu_erf_expand};
