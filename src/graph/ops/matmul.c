/* matmul.c -- products of matrices, with transposition flags and broadcast of the leading axes.
 *
 * The symbolic batch may be a leading axis, the rows of a plain (B,k) x (k,n), or what a plain transposed product (B,m)^T (B,n) sums over: the
 * gradient of a linear layer. */
#include "graph/ops/gemm.h"

static bool matmul_shape(rt_node *y)
{
    const rt__matmul_attr *at = y->attr;
    const rt_node *a = y->in[0], *b = y->in[1];
    if (!rt__is_real(a) || a->dtype != b->dtype)
        return rt__bad(y, "types %s and %s; both must be the same real type", rt_dtype_name(a->dtype), rt_dtype_name(b->dtype));
    if (a->rank < 2 || b->rank < 2) return rt__bad(y, "both factors need at least two axes");
    int ra = a->rank - 2, rb = b->rank - 2, rank = ra > rb ? ra : rb;
    int64_t m = a->shape[ra + (at->transpose_a != 0)], ka = a->shape[ra + !at->transpose_a];
    int64_t n = b->shape[rb + !at->transpose_b], kb = b->shape[rb + (at->transpose_b != 0)];
    if (ka != kb)
        return rt__bad(y, "inner extents %lld and %lld (transpose_a %d, transpose_b %d) must be equal", (long long)ka, (long long)kb,
                       at->transpose_a, at->transpose_b);
    if (n < 0 || (m < 0 && rank > 0) || (ka < 0 && rank > 0)) return rt__bad(y, "the batch would leave the front");
    y->dtype = a->dtype;
    y->rank = rank + 2;
    for (int i = 0; i < rank; i++) {
        int64_t da = i < rank - ra ? 1 : a->shape[i - rank + ra], db = i < rank - rb ? 1 : b->shape[i - rank + rb];
        if (da != db && da != 1 && db != 1) return rt__bad(y, "leading axes do not broadcast");
        if (i > 0 && (da < 0 || db < 0)) return rt__bad(y, "the batch would leave the front");
        y->shape[i] = da == 1 ? db : da;
    }
    y->shape[rank] = m;
    y->shape[rank + 1] = n;
    return true;
}

/* (..,m,k) -> (M,k): leading axes become rows. */
static rt_node *rows_of(rt_node *x)
{
    int64_t rows = 1;
    for (int i = 0; i < x->rank - 1; i++) rows *= x->shape[i];
    return rt_reshape(x, 2, (int64_t[]){rows, x->shape[x->rank - 1]});
}

static void matmul_grad(rt_node *y, rt_node *gy, rt_node **gx)
{
    const rt__matmul_attr *at = y->attr;
    rt_node *a = y->in[0], *b = y->in[1];
    bool ta = at->transpose_a, tb = at->transpose_b;
    gx[0] = ta ? rt_matmul(b, gy, tb, true) : rt_matmul(gy, b, false, !tb);
    if (!ta && b->rank == 2 && a->rank > 2) { /* one weight for all: one product over all rows instead of many and a sum */
        a = rows_of(a);
        gy = rows_of(gy);
    }
    gx[1] = tb ? rt_matmul(gy, a, true, ta) : rt_matmul(a, gy, !ta, false);
}

/* ---- the kernel */

typedef struct factor {
    const real *data;
    int64_t row, col; /* strides of op(x) */
} factor;

static void pack_rows(real *to, const void *of, int64_t at, int64_t m, int64_t l0, int64_t k)
{
    const factor *a = of;
    for (int64_t i0 = 0; i0 < m; i0 += MR)
        for (int64_t l = l0; l < l0 + k; l++)
            for (int64_t i = i0; i < i0 + MR; i++) *to++ = i < m ? a->data[(at + i) * a->row + l * a->col] : 0;
}

static void pack_cols(real *to, const void *of, int64_t at, int64_t n, int64_t l0, int64_t k)
{
    const factor *b = of;
    for (int64_t j0 = 0; j0 < n; j0 += NR)
        for (int64_t l = l0; l < l0 + k; l++)
            for (int64_t j = j0; j < j0 + NR; j++) *to++ = j < n ? b->data[l * b->row + (at + j) * b->col] : 0;
}

typedef struct extents {
    int64_t m, n, k, batch;
    bool fold; /* a's leading axes are rows, b is one matrix */
} extents;

static extents extents_of(const rt_call *c)
{
    const rt__matmul_attr *at = c->node->attr;
    const rt_view *a = &c->in[0], *b = &c->in[1], *y = &c->out;
    extents e = {.m = y->dim[y->rank - 2], .n = y->dim[y->rank - 1], .k = a->dim[a->rank - 1 - (at->transpose_a != 0)]};
    e.batch = y->count / (e.m * e.n);
    e.fold = e.batch > 1 && !at->transpose_a && b->count == e.k * e.n;
    if (e.fold) e.m *= e.batch, e.batch = 1;
    return e;
}

/* Where matrix `index` of the result's leading axes lies in x, which may have been broadcast. */
static int64_t matrix_of(const rt_view *x, const rt_view *y, int64_t index)
{
    int64_t at = 0, stride = 1;
    for (int i = y->rank - 3, j = x->rank - 3; j >= 0; i--, j--) {
        int64_t digit = index % y->dim[i];
        index /= y->dim[i];
        if (x->dim[j] > 1) at += digit * stride;
        stride *= x->dim[j];
    }
    return at;
}

static void matmul_run(const rt_call *c)
{
    const rt__matmul_attr *at = c->node->attr;
    const extents e = extents_of(c);
    int64_t tiles_m = (e.m + MC - 1) / MC, tiles_n = (e.n + NC - 1) / NC, tasks = e.batch * tiles_m * tiles_n;
#pragma omp parallel for schedule(static) if (tasks > 1)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t s = t / (tiles_m * tiles_n), i = t / tiles_n % tiles_m * MC, j = t % tiles_n * NC;
        factor a = {(const real *)c->in[0].data + (e.batch > 1 ? matrix_of(&c->in[0], &c->out, s) * e.m * e.k : 0), e.k, 1};
        factor b = {(const real *)c->in[1].data + (e.batch > 1 ? matrix_of(&c->in[1], &c->out, s) * e.k * e.n : 0), e.n, 1};
        if (at->transpose_a) a.row = 1, a.col = e.m;
        if (at->transpose_b) b.row = 1, b.col = e.k;
        real *y = (real *)c->out.data + s * e.m * e.n;
        gemm_tile(y, e.n, i, least(MC, e.m - i), j, least(NC, e.n - j), e.k, pack_rows, &a, pack_cols, &b);
    }
}

static double matmul_flop(const rt_call *c)
{
    extents e = extents_of(c);
    return 2.0 * (double)e.batch * (double)e.m * (double)e.n * (double)e.k;
}

static rt_node *matmul_sample(rt_graph *g, int k)
{
    switch (k) {
    case -1: return rt_matmul(RT_SAMPLE_IN(g, "a", 3, 4), RT_SAMPLE_IN(g, "b", 5, 2), false, false);
    case 0: return rt_matmul(RT_SAMPLE_IN(g, "a", 3, 5), RT_SAMPLE_IN(g, "b", 5, 2), false, false);
    case 1: return rt_matmul(RT_SAMPLE_IN(g, "a", 5, 3), RT_SAMPLE_IN(g, "b", 5, 2), true, false);
    case 2: return rt_matmul(RT_SAMPLE_IN(g, "a", 3, 5), RT_SAMPLE_IN(g, "b", 2, 5), false, true);
    case 3: return rt_matmul(RT_SAMPLE_IN(g, "a", 5, 3), RT_SAMPLE_IN(g, "b", 2, 5), true, true);
    case 4: return rt_matmul(RT_SAMPLE_IN(g, "a", 2, 1, 3, 5), RT_SAMPLE_IN(g, "b", 3, 4, 5), false, true);
    case 5: return rt_matmul(RT_SAMPLE_IN(g, "a", RT_BATCH, 3, 5), RT_SAMPLE_IN(g, "b", 5, 2), false, false);
    case 6: return rt_matmul(RT_SAMPLE_IN(g, "a", RT_BATCH, 5), RT_SAMPLE_IN(g, "b", 4, 5), false, true);
    case 7: return rt_matmul(RT_SAMPLE_IN(g, "a", RT_BATCH, 5), RT_SAMPLE_IN(g, "b", RT_BATCH, 3), true, false);
    case 8: return rt_matmul(RT_SAMPLE_IN(g, "a", RT_BATCH, 2, 4, 3), RT_SAMPLE_IN(g, "b", RT_BATCH, 1, 5, 4), true, true);
    case 9: return rt_matmul(RT_SAMPLE_IN(g, "a", 70, 3), RT_SAMPLE_IN(g, "b", 3, 131), false, false); /* more than a tile */
    case 10: return rt_matmul(RT_SAMPLE_IN(g, "a", 3, 261), RT_SAMPLE_IN(g, "b", 2, 261), false, true);
    default: return NULL;
    }
}

const rt_op RT_ROW(matmul) = {
    .name = "matmul",
    .formula = "y[..,i,j] = sum_k a[..,i,k] b[..,k,j]; a or b may be given transposed",
    .min_in = 2,
    .max_in = 2,
    .attr_size = sizeof(rt__matmul_attr),
    .type = RT_TYPE_BACKEND,
    .batch = RT_SUMS, /* (B,m)^T (B,n); all other forms map */
    .shape = matmul_shape,
    .grad = matmul_grad,
    .jvp = rt__jvp_linear,
    .run = matmul_run,
    .flop = matmul_flop,
    .sample = matmul_sample,
};
