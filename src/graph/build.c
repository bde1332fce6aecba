/* build.c -- builders of the element-wise, shape, reduction and draw rows: arguments to attributes. */
#include "graph/ops/attr.h"

#include <string.h>

/* ---- sources */

static rt_node *constant(rt_graph *g, rt_dtype dtype, int rank, const int64_t *shape, const void *data, bool borrowed)
{
    rt__const_attr a;
    memset(&a, 0, sizeof a);
    size_t bytes = rt_dtype_size(dtype);
    if (rank < 0 || rank > RT_MAX_RANK) return rt_fail(g, "a constant of rank %d", rank);
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 1 || __builtin_mul_overflow(bytes, (size_t)shape[i], &bytes))
            return rt_fail(g, "a constant with extent %lld", (long long)shape[i]);
        a.shape[i] = shape[i];
    }
    void *copy = borrowed ? NULL : rt__graph_alloc(g, bytes);
    if (!borrowed && !copy) return rt_fail(g, "out of memory");
    if (!borrowed) memcpy(copy, data, bytes);
    a.dtype = dtype;
    a.rank = rank;
    a.data = borrowed ? data : copy;
    return rt__emit(g, RT_OP_constant, NULL, 0, &a);
}

rt_node *rt_const(rt_graph *g, rt_dtype dtype, int rank, const int64_t *shape, const void *data)
{
    return constant(g, dtype, rank, shape, data, false);
}

rt_node *rt__const_borrowed(rt_graph *g, rt_dtype dtype, int rank, const int64_t *shape, const void *data)
{
    return constant(g, dtype, rank, shape, data, true);
}

rt_node *rt_reals(rt_graph *g, int rank, const int64_t *shape, const double *values)
{
    if (rt_graph_real(g) == RT_F64) return rt_const(g, RT_F64, rank, shape, values);
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    float *rounded = n > 0 ? rt__graph_alloc(g, (size_t)n * sizeof *rounded) : NULL;
    if (!rounded) return rt_fail(g, "a constant of %lld numbers", (long long)n);
    for (int64_t i = 0; i < n; i++) rounded[i] = (float)values[i];
    return rt_const(g, RT_F32, rank, shape, rounded);
}

rt_node *rt_scalar(rt_graph *g, double value) { return rt_reals(g, 0, NULL, &value); }
rt_node *rt_zeros_like(rt_node *x)
{
    static const int64_t zero; /* in every type */
    return rt__failed(x) ? x : rt_broadcast(rt_const(x->graph, x->dtype, 0, NULL, &zero), x->rank, x->shape);
}
rt_node *rt_batch_size(rt_graph *g) { return rt__emit(g, RT_OP_batch_size, NULL, 0, NULL); }

static rt_node *draw(rt_graph *g, rt__op_id op, const char *name, int rank, const int64_t *shape, int64_t below)
{
    rt__draw_attr a;
    memset(&a, 0, sizeof a);
    if (rank < 0 || rank > RT_MAX_RANK) return rt_fail(g, "a draw of rank %d", rank);
    a.name = rt__draw_name(name);
    a.rank = rank;
    if (rank) memcpy(a.shape, shape, (size_t)rank * sizeof *shape);
    a.below = below;
    return rt__emit(g, op, NULL, 0, &a);
}
rt_node *rt_randn(rt_graph *g, const char *name, int rank, const int64_t *shape) { return draw(g, RT_OP_randn, name, rank, shape, 0); }
rt_node *rt_rand(rt_graph *g, const char *name, int rank, const int64_t *shape) { return draw(g, RT_OP_rand, name, rank, shape, 0); }
rt_node *rt_randint(rt_graph *g, const char *name, int rank, const int64_t *shape, int64_t below)
{
    return draw(g, RT_OP_randint, name, rank, shape, below);
}

/* ---- element by element */

rt_node *rt_add(rt_node *a, rt_node *b) { return rt__emit2(RT_OP_add, a, b, NULL); }
rt_node *rt_sub(rt_node *a, rt_node *b) { return rt__emit2(RT_OP_sub, a, b, NULL); }
rt_node *rt_mul(rt_node *a, rt_node *b) { return rt__emit2(RT_OP_mul, a, b, NULL); }
rt_node *rt_div(rt_node *a, rt_node *b) { return rt__emit2(RT_OP_div, a, b, NULL); }
rt_node *rt_maximum(rt_node *a, rt_node *b) { return rt__emit2(RT_OP_maximum, a, b, NULL); }
rt_node *rt_minimum(rt_node *a, rt_node *b) { return rt__emit2(RT_OP_minimum, a, b, NULL); }
rt_node *rt_less(rt_node *a, rt_node *b) { return rt__emit2(RT_OP_less, a, b, NULL); }
rt_node *rt_equal(rt_node *a, rt_node *b) { return rt__emit2(RT_OP_equal, a, b, NULL); }
rt_node *rt_where(rt_node *cond, rt_node *a, rt_node *b) { return rt__emit(cond->graph, RT_OP_where, (rt_node *[]){cond, a, b}, 3, NULL); }
rt_node *rt_scale(rt_node *x, double factor) { return factor == 1 ? x : rt__emit1(RT_OP_scale, x, &factor); }
rt_node *rt_offset(rt_node *x, double term) { return term == 0 ? x : rt__emit1(RT_OP_offset, x, &term); }
rt_node *rt_pow(rt_node *x, double exponent)
{
    if (exponent == 1) return x;
    if (exponent == 2) return rt_square(x);
    if (exponent == 0) return rt_offset(rt_scale(x, 0), 1);
    return rt__emit1(RT_OP_pow, x, &exponent);
}
rt_node *rt_neg(rt_node *x) { return rt__emit1(RT_OP_neg, x, NULL); }
rt_node *rt_abs(rt_node *x) { return rt__emit1(RT_OP_abs, x, NULL); }
rt_node *rt_sign(rt_node *x) { return rt__emit1(RT_OP_sign, x, NULL); }
rt_node *rt_square(rt_node *x) { return rt__emit1(RT_OP_square, x, NULL); }
rt_node *rt_sqrt(rt_node *x) { return rt__emit1(RT_OP_sqrt, x, NULL); }
rt_node *rt_rsqrt(rt_node *x) { return rt__emit1(RT_OP_rsqrt, x, NULL); }
rt_node *rt_recip(rt_node *x) { return rt__emit1(RT_OP_recip, x, NULL); }
rt_node *rt_exp(rt_node *x) { return rt__emit1(RT_OP_exp, x, NULL); }
rt_node *rt_log(rt_node *x) { return rt__emit1(RT_OP_log, x, NULL); }
rt_node *rt_sin(rt_node *x) { return rt__emit1(RT_OP_sin, x, NULL); }
rt_node *rt_cos(rt_node *x) { return rt__emit1(RT_OP_cos, x, NULL); }
rt_node *rt_erf(rt_node *x) { return rt__emit1(RT_OP_erf, x, NULL); }
rt_node *rt_tanh(rt_node *x) { return rt__emit1(RT_OP_tanh, x, NULL); }
rt_node *rt_sigmoid(rt_node *x) { return rt__emit1(RT_OP_sigmoid, x, NULL); }
rt_node *rt_softplus(rt_node *x) { return rt__emit1(RT_OP_softplus, x, NULL); }
rt_node *rt_relu(rt_node *x) { return rt__emit1(RT_OP_relu, x, NULL); }
rt_node *rt_silu(rt_node *x) { return rt__emit1(RT_OP_silu, x, NULL); }
rt_node *rt_mish(rt_node *x) { return rt__emit1(RT_OP_mish, x, NULL); }
rt_node *rt_gelu_tanh(rt_node *x) { return rt__emit1(RT_OP_gelu_tanh, x, NULL); }
rt_node *rt_gelu_erf(rt_node *x) { return rt__emit1(RT_OP_gelu_erf, x, NULL); }
rt_node *rt_cast(rt_node *x, rt_dtype dtype) { return x->dtype == dtype ? x : rt__emit1(RT_OP_cast, x, &dtype); }
rt_node *rt_stop_grad(rt_node *x) { return rt__emit1(RT_OP_stop_grad, x, NULL); }

/* ---- reductions */

unsigned rt_axis_bit(const rt_node *x, int axis)
{
    if (axis < 0) axis += x->rank;
    return axis >= 0 && axis < RT_MAX_RANK ? 1u << axis : 1u << RT_MAX_RANK; /* outside: the shape rule refuses it */
}

static rt_node *reduce(rt__op_id op, rt_node *x, unsigned axes, bool keep)
{
    if (axes == RT_ALL_AXES) axes = (1u << x->rank) - 1;
    if (axes == 0) return x;
    return rt__emit1(op, x, &(rt__reduce_attr){axes, keep});
}
rt_node *rt_sum(rt_node *x, unsigned axes, bool keep) { return reduce(RT_OP_sum, x, axes, keep); }
rt_node *rt_max(rt_node *x, unsigned axes, bool keep) { return reduce(RT_OP_max, x, axes, keep); }
rt_node *rt_min(rt_node *x, unsigned axes, bool keep) { return reduce(RT_OP_min, x, axes, keep); }
rt_node *rt_cumsum(rt_node *x, int axis) { return rt__emit1(RT_OP_cumsum, x, &(rt__cumsum_attr){axis < 0 ? axis + x->rank : axis, 0}); }

/* ---- shape */

rt_node *rt_reshape(rt_node *x, int rank, const int64_t *shape)
{
    if (rt__failed(x)) return x;
    rt__shape_attr a = {.rank = rank};
    uint64_t known = 1, have = 1; /* known wraps for absurd extents; the shape rule compares without wrapping */
    int infer = -1;
    if (rank < 0 || rank > RT_MAX_RANK) return rt_fail(x->graph, "reshape to rank %d", rank);
    for (int i = 0; i < x->rank; i++) have *= (uint64_t)(x->shape[i] < 0 ? -x->shape[i] : x->shape[i]);
    for (int i = 0; i < rank; i++) {
        a.shape[i] = shape[i];
        if (shape[i] != RT_INFER) {
            known *= (uint64_t)(shape[i] < 0 ? -shape[i] : shape[i]);
        } else {
            if (infer >= 0) return rt_fail(x->graph, "reshape: only one extent can be inferred");
            infer = i;
        }
    }
    if (infer >= 0) a.shape[infer] = known > 0 && have % known == 0 ? (int64_t)(have / known) : 0;
    if (infer == 0 && x->rank > 0 && x->shape[0] < 0) a.shape[0] = -a.shape[0];
    if (rank == x->rank && !memcmp(a.shape, x->shape, (size_t)rank * sizeof *shape)) return x;
    return rt__emit1(RT_OP_reshape, x, &a);
}

rt_node *rt_permute(rt_node *x, const int *order)
{
    rt__shape_attr a = {.rank = x->rank};
    bool same = true;
    for (int i = 0; i < x->rank; i++) {
        a.shape[i] = order[i];
        same &= order[i] == i;
    }
    return same ? x : rt__emit1(RT_OP_permute, x, &a);
}

rt_node *rt_broadcast(rt_node *x, int rank, const int64_t *shape)
{
    if (rt__failed(x)) return x;
    rt__shape_attr a = {.rank = rank};
    if (rank < 0 || rank > RT_MAX_RANK) return rt_fail(x->graph, "broadcast to rank %d", rank);
    for (int i = 0; i < rank; i++) a.shape[i] = shape[i];
    if (rank == x->rank && !memcmp(a.shape, x->shape, (size_t)rank * sizeof *shape)) return x;
    return rt__emit1(RT_OP_broadcast, x, &a);
}

rt_node *rt_concat(rt_node *const *x, int n, int axis)
{
    if (n == 1) return x[0];
    return rt__emit(x[0]->graph, RT_OP_concat, x, n, &(rt__axis_attr){axis < 0 ? axis + x[0]->rank : axis, 0});
}

rt_node *rt_slice(rt_node *x, int axis, int64_t start, int64_t stop, int64_t step)
{
    if (rt__failed(x)) return x;
    if (axis < 0) axis += x->rank;
    int64_t n = axis >= 0 && axis < x->rank ? x->shape[axis] : 0;
    if (stop == RT_INFER) stop = n;
    if (start == 0 && stop == n && step == 1 && n != 0) return x;
    return rt__emit1(RT_OP_slice, x, &(rt__slice_attr){axis, start, step, step > 0 ? (stop - start + step - 1) / step : 0, 0});
}

rt_node *rt_index_select(rt_node *x, int axis, rt_node *index)
{
    return rt__emit2(RT_OP_index_select, x, index, &(rt__axis_attr){axis < 0 ? axis + x->rank : axis, 0});
}
rt_node *rt_gather(rt_node *x, int axis, rt_node *index)
{
    return rt__emit2(RT_OP_gather, x, index, &(rt__axis_attr){axis < 0 ? axis + x->rank : axis, 0});
}

rt_node *rt__pad_zero(rt_node *x, int axis, int64_t before, int64_t after)
{
    int64_t n = rt_dim(x, axis);
    return rt__emit1(RT_OP_slice_grad, x, &(rt__slice_attr){axis, before, 1, n, before + n + after});
}
