/* shapes_test.c -- shapes of results, with the batch symbol, and what builders refuse. */
#include "evaluate.h"

enum { B = RT_BATCH };

static void shape_is(const rt_node *n, int rank, const int64_t *shape)
{
    rt_error err = {0};
    if (rt_graph_status(rt_node_graph(n), &err) != RT_OK) fail_msg("%s", err.text);
    assert_int_equal(rt_node_rank(n), rank);
    for (int i = 0; i < rank; i++) assert_int_equal(rt_node_shape(n)[i], shape[i]);
}

#define IN(name, ...) rt_input(g, name, RT_F32, SHAPE(__VA_ARGS__))
#define IX(name, ...) rt_input(g, name, RT_I64, SHAPE(__VA_ARGS__))

static void broadcasting(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *s = rt_scalar(g, 2), *f = IN("f", 5), *bf = IN("bf", B, 5), *b1 = IN("b1", B, 1), *one = IN("one", 1, 5);
    rt_node *img = IN("img", B, 3, 4, 4), *c = IN("c", 3, 1, 1), *nc = IN("nc", B, 3, 1, 1);
    shape_is(rt_add(s, s), 0, NULL);
    shape_is(rt_add(s, f), SHAPE(5));
    shape_is(rt_mul(bf, f), SHAPE(B, 5));
    shape_is(rt_sub(f, b1), SHAPE(B, 5));
    shape_is(rt_div(one, bf), SHAPE(B, 5));
    shape_is(rt_add(b1, one), SHAPE(B, 5));
    shape_is(rt_mul(img, c), SHAPE(B, 3, 4, 4));
    shape_is(rt_add(nc, img), SHAPE(B, 3, 4, 4));
    shape_is(rt_maximum(IN("m", 4, 1), IN("n", 1, 7)), SHAPE(4, 7));
    shape_is(rt_where(rt_less(b1, s), f, bf), SHAPE(B, 5));
    assert_int_equal(rt_node_dtype(rt_less(f, s)), RT_BOOL);
    shape_is(rt_broadcast(s, SHAPE(B, 2)), SHAPE(B, 2));
    shape_is(rt_broadcast(f, SHAPE(B, 3, 5)), SHAPE(B, 3, 5));
    shape_is(rt_zeros_like(img), SHAPE(B, 3, 4, 4));
    assert_int_equal(rt_node_dtype(rt_zeros_like(IX("i", 3))), RT_I64);
    rt_graph_free(g);
}

static void reductions(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *x = IN("x", B, 3, 4, 5);
    shape_is(rt_sum(x, RT_ALL_AXES, false), 0, NULL);
    shape_is(rt_sum(x, RT_ALL_AXES, true), SHAPE(1, 1, 1, 1));
    shape_is(rt_sum(x, 1u << 2 | 1u << 3, false), SHAPE(B, 3));
    shape_is(rt_max(x, rt_axis_bit(x, -1), true), SHAPE(B, 3, 4, 1));
    shape_is(rt_sum(x, 1u | 1u << 2 | 1u << 3, false), SHAPE(3));
    shape_is(rt_mean(x, 1u << 1, false), SHAPE(B, 4, 5));
    shape_is(rt_var(x, 1u << 1, 1, true), SHAPE(B, 1, 4, 5));
    shape_is(rt_logsumexp(x, 1u << 3, false), SHAPE(B, 3, 4));
    shape_is(rt_cumsum(x, -1), SHAPE(B, 3, 4, 5));
    shape_is(rt_expect(rt_norm2(x)), 0, NULL);
    shape_is(rt_norm2(x), SHAPE(B));
    shape_is(rt_dot(x, IN("y", 5)), SHAPE(B));
    shape_is(rt_per_sample(rt_norm2(x), x), SHAPE(B, 1, 1, 1));
    assert_int_equal(rt_axis_bit(x, 2), 4);
    assert_int_equal(rt_axis_bit(x, -4), 1);
    rt_graph_free(g);
}

static void rearrangements(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *x = IN("x", B, 6, 4), *y = IN("y", B, 2, 4), *two = IN("two", -2, 6);
    shape_is(rt_reshape(x, SHAPE(B, RT_INFER)), SHAPE(B, 24));
    shape_is(rt_reshape(x, SHAPE(RT_INFER, 4)), SHAPE(-6, 4));
    shape_is(rt_reshape(x, SHAPE(-12, 2)), SHAPE(-12, 2));
    shape_is(rt_reshape(two, SHAPE(B, 2, 6)), SHAPE(B, 2, 6));
    assert_ptr_equal(rt_reshape(x, SHAPE(B, 6, 4)), x);
    shape_is(rt_permute(x, (int[]){0, 2, 1}), SHAPE(B, 4, 6));
    assert_ptr_equal(rt_permute(x, (int[]){0, 1, 2}), x);
    shape_is(rt_concat((rt_node *[]){x, y, x}, 3, 1), SHAPE(B, 14, 4));
    shape_is(rt_concat((rt_node *[]){x, x}, 2, 0), SHAPE(-2, 6, 4));
    assert_ptr_equal(rt_concat(&x, 1, 2), x);
    shape_is(rt_slice(x, 1, 1, 6, 2), SHAPE(B, 3, 4));
    shape_is(rt_slice(x, -1, 3, RT_INFER, 1), SHAPE(B, 6, 1));
    shape_is(rt_slice(two, 0, 0, B, 1), SHAPE(B, 6));
    shape_is(rt_slice(two, 0, B, RT_INFER, 1), SHAPE(B, 6));
    assert_ptr_equal(rt_slice(two, 0, 0, -2, 1), two);
    shape_is(rt_index_select(x, 1, IX("k", 9)), SHAPE(B, 9, 4));
    shape_is(rt_index_select(IN("t", 7, 3), 0, IX("kb", B)), SHAPE(B, 3));
    shape_is(rt_gather(x, -1, IX("kg", B, 6, 2)), SHAPE(B, 6, 2));
    shape_is(rt_embedding(IN("t", 7, 3), IX("e", B, 5)), SHAPE(B, 5, 3));
    shape_is(rt_embedding(IN("t", 7, 3), rt_input(g, "e0", RT_I64, 0, NULL)), SHAPE(3));
    shape_is(rt_cast(IX("k", 9), RT_F32), SHAPE(9));
    rt_graph_free(g);
}

static void layers(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *x = IN("x", B, 7, 6), *w = IN("w", 5, 6), *img = IN("img", B, 3, 4, 6);
    shape_is(rt_linear(x, w, IN("b", 5)), SHAPE(B, 7, 5));
    shape_is(rt_linear(IN("v", 6), w, NULL), SHAPE(5));
    shape_is(rt_attention(IN("q", B, 2, 7, 4), IN("k", B, 2, 9, 4), IN("v4", B, 2, 9, 3), 0.5, true), SHAPE(B, 2, 7, 3));
    shape_is(rt_self_attention(IN("qkv", B, 12, 4, 6), 2, 0.5), SHAPE(B, 4, 4, 6));
    shape_is(rt_layer_norm(x, NULL, NULL, 2, 1e-5), SHAPE(B, 7, 6));
    shape_is(rt_rms_norm(x, IN("w6", 6), 1e-6), SHAPE(B, 7, 6));
    shape_is(rt_geglu(x), SHAPE(B, 7, 3));
    shape_is(rt_upsample_bilinear(img, 2, false), SHAPE(B, 3, 8, 12));
    for (int mode = RT_PAD_ZERO; mode <= RT_PAD_REPLICATE; mode++)
        shape_is(rt_pad2d(img, (int[]){1, 2, 3, 0}, (rt_pad_mode)mode), SHAPE(B, 3, 7, 9));
    shape_is(rt_mse(img, rt_zeros_like(img)), 0, NULL);
    shape_is(rt_pseudo_huber(img, rt_zeros_like(img), 0.1), SHAPE(B));
    shape_is(rt_cross_entropy(IN("l", B, 10), IX("c", B)), 0, NULL);
    rt_graph_free(g);
}

/* Refusals are built in a fresh graph under the layer "net.block". The failure must say where, what and why, and stay. */
static rt_graph *fresh(void)
{
    rt_graph *g = rt_graph_new(RT_F32);
    rt_push(g, "net");
    rt_push(g, "block");
    return g;
}

static void refused(rt_graph *g, rt_node *bad, const char *why)
{
    assert_non_null(bad);
    rt_pop(g);
    rt_pop(g);
    rt_error err = {0}, later = {0};
    if (rt_graph_status(g, &err) != RT_E_INVALID) fail_msg("accepted, though: %s", why);
    if (strncmp(err.text, "net.block: ", 11) != 0 || !strstr(err.text, why)) fail_msg("'%s' does not say '%s'", err.text, why);
    rt_node *x = IN("x", B, 4), *grad = NULL; /* all that follows is inert */
    rt_node *loss = rt_expect(rt_norm2(rt_linear(rt_add(rt_silu(bad), x), bad, x)));
    rt_grad(loss, &bad, 1, &grad);
    assert_non_null(grad);
    rt_permute(rt_reshape(rt_concat((rt_node *[]){bad, x}, 2, 0), SHAPE(3)), (int[]){0});
    rt_mse(rt_slice(bad, 0, 0, 1, 1), rt_pad2d(bad, (int[]){0, 0, 0, 1}, RT_PAD_ZERO));
    rt_attention(bad, rt_geglu(bad), rt_layer_norm(bad, x, x, 1, 0), 1, true);
    rt_embedding(bad, rt_cross_entropy(x, bad));
    rt_upsample_bilinear(rt_rms_norm(rt_gather(bad, 0, bad), bad, 0), 2, true);
    rt_logsumexp(rt_var(rt_mean(rt_cumsum(bad, 0), 1, true), 1, 0, true), 1, true);
    rt_per_sample(bad, rt_zeros_like(rt_broadcast(bad, SHAPE(2))));
    assert_int_equal(rt_graph_status(g, &later), RT_E_INVALID);
    assert_string_equal(err.text, later.text);
    rt_graph_free(g);
}

#define REFUSED(why, expr)                                                                                                                 \
    do {                                                                                                                                   \
        rt_graph *g = fresh();                                                                                                             \
        refused(g, expr, why);                                                                                                             \
    } while (0)

static void refusals_of_arithmetic(void **state)
{
    (void)state;
    REFUSED("add (2x3), (4x3)", rt_add(IN("a", 2, 3), IN("b", 4, 3)));
    REFUSED("mul (Bx3), (2Bx3)", rt_mul(IN("a", B, 3), IN("b", -2, 3)));
    REFUSED("add (Bx3), (7x3)", rt_add(IN("a", B, 3), IN("b", 7, 3))); /* 7 may not be B */
    REFUSED("add (B), (3x1)", rt_add(IN("a", B), IN("b", 3, 1)));      /* the symbol would leave the front */
    REFUSED("differ; cast one", rt_add(IN("a", 3), IX("b", 3)));
    REFUSED("not defined for I64", rt_div(IX("a", 3), IX("b", 3)));
    REFUSED("not defined for I64", rt_silu(IX("a", 3)));
    REFUSED("not defined for BOOL", rt_add(rt_less(IN("a", 3), IN("b", 3)), rt_less(IN("b", 3), IN("a", 3))));
    REFUSED("must be BOOL", rt_where(IN("c", 3), IN("a", 3), IN("b", 3)));
    REFUSED("not defined for BOOL",
            rt_where(rt_less(IN("a", 3), IN("b", 3)), rt_less(IN("b", 3), IN("a", 3)), rt_less(IN("a", 3), IN("b", 3))));
    REFUSED("no cast from F32 to BF16", rt_cast(IN("a", 3), RT_BF16));
    REFUSED("the graph computes in F32", rt_exp(rt_input(g, "a", RT_F64, SHAPE(3))));
    REFUSED("the graph computes in F32", rt_sum(rt_cast(IN("a", 3), RT_F64), RT_ALL_AXES, false));
    REFUSED("a constant with extent -1", rt_const(g, RT_F32, SHAPE(B), (float[]){0}));
    REFUSED("a constant", rt_reals(g, SHAPE(2, 0), (double[]){0}));
    REFUSED("numbers below 0", rt_randint(g, "n", SHAPE(B), 0));
    REFUSED("a draw of rank 9", rt_randn(g, "n", 9, (int64_t[9]){1, 1, 1, 1, 1, 1, 1, 1, 1}));
}

static void refusals_of_reductions(void **state)
{
    (void)state;
    REFUSED("sum (2x3)", rt_sum(IN("a", 2, 3), 1u << 4, false));
    REFUSED("sum (2x3)", rt_sum(IN("a", 2, 3), rt_axis_bit(IN("a", 2, 3), -3), false));
    REFUSED("not defined for I64", rt_max(IX("a", 2, 3), 1, false));
    REFUSED("take rt_expect", rt_mean(IN("a", B, 3), RT_ALL_AXES, false));
    REFUSED("var: 0 elements", rt_var(IN("a", B, 3), 1, 0, false));
    REFUSED("var: 1 elements with correction 1", rt_var(IN("a", B, 1), 2, 1, false));
    REFUSED("not over the batch", rt_cumsum(IN("a", B, 3), 0));
    REFUSED("axis 2", rt_cumsum(IN("a", 4, 3), 2));
    REFUSED("expect: one number", rt_expect(rt_mse(IN("a", B, 3), IN("b", B, 3))));
    REFUSED("per_sample: one number per sample", rt_per_sample(IN("a", B, 3), IN("a", B, 3)));
    REFUSED("a loss has rank 0", (rt_grad(IN("a", 3), (rt_node *[]){IN("a", 3)}, 1, (rt_node *[1]){NULL}), IN("a", 3)));
}

static void refusals_of_shapes(void **state)
{
    (void)state;
    REFUSED("6 elements cannot become 7", rt_reshape(IN("a", 2, 3), SHAPE(7)));
    REFUSED("the batch must stay in front", rt_reshape(IN("a", B, 3), SHAPE(3)));
    REFUSED("the batch must stay in front", rt_reshape(IN("a", 3), SHAPE(B, 3)));
    REFUSED("reshape (2x3)", rt_reshape(IN("a", 2, 3), SHAPE(4, RT_INFER)));
    REFUSED("only one extent", rt_reshape(IN("a", 2, 3), SHAPE(RT_INFER, RT_INFER)));
    REFUSED("reshape (2x3)", rt_reshape(IN("a", 2, 3), SHAPE(INT64_MAX / 2, 6)));
    REFUSED("reshape (6x3)", rt_reshape(IN("a", 6, 3), SHAPE(2, -3, 3)));
    REFUSED("reshape to rank 9", rt_reshape(IN("a", 1), 9, (int64_t[9]){1, 1, 1, 1, 1, 1, 1, 1, 1}));
    REFUSED("not an order of the axes", rt_permute(IN("a", 2, 3), (int[]){0, 0}));
    REFUSED("not an order of the axes", rt_permute(IN("a", 2, 3), (int[]){0, 2}));
    REFUSED("the batch must stay in front", rt_permute(IN("a", B, 3), (int[]){1, 0}));
    REFUSED("does not broadcast", rt_broadcast(IN("a", 2, 3), SHAPE(2, 4)));
    REFUSED("does not broadcast", rt_broadcast(IN("a", 2, 3), SHAPE(3)));
    REFUSED("extents of axis 0 differ", rt_concat((rt_node *[]){IN("a", 2, 3), IN("b", 3, 3)}, 2, 1));
    REFUSED("a batch cannot be joined", rt_concat((rt_node *[]){IN("a", B, 3), IN("b", 3, 3)}, 2, 0));
    REFUSED("types and ranks", rt_concat((rt_node *[]){IN("a", 2, 3), IX("b", 2, 3)}, 2, 0));
    REFUSED("axis 5", rt_concat((rt_node *[]){IN("a", 2, 3), IN("b", 2, 3)}, 2, 5));
    REFUSED("slice (2x3)", rt_slice(IN("a", 2, 3), 1, 2, 5, 1));
    REFUSED("slice (2x3)", rt_slice(IN("a", 2, 3), 1, 2, 2, 1));
    REFUSED("slice (2x3)", rt_slice(IN("a", 2, 3), 1, -1, 2, 1));
    REFUSED("slice (2x3)", rt_slice(IN("a", 2, 3), 1, 0, 2, 0));
    REFUSED("slice (2x3)", rt_slice(IN("a", 2, 3), 2, 0, 1, 1));
    REFUSED("slice (2Bx3)", rt_slice(IN("a", -2, 3), 0, 1, 2, 1));
    REFUSED("slice (2Bx3)", rt_slice(IN("a", -2, 3), 0, B, -3, 1));
    REFUSED("slice (2Bx3)", rt_slice(IN("a", -2, 3), 0, 0, B, 2));
    REFUSED("must be I64", rt_index_select(IN("a", 2, 3), 1, IN("i", 2)));
    REFUSED("an index of rank 2", rt_index_select(IN("a", 2, 3), 1, IX("i", 2, 2)));
    REFUSED("not along the batch", rt_index_select(IN("a", B, 3), 0, IX("i", 2)));
    REFUSED("selects along axis 0 only", rt_index_select(IN("a", 2, 3), 1, IX("i", B)));
    REFUSED("the index must have x's extents", rt_gather(IN("a", 2, 3), 1, IX("i", 3, 2)));
    REFUSED("not along the batch", rt_gather(IN("a", B, 3), 0, IX("i", B, 3)));
    REFUSED("axis 2 of a value of rank 2", (rt_dim(IN("a", 2, 3), 2), IN("a", 2, 3)));
}

static void refusals_of_layers(void **state)
{
    (void)state;
    REFUSED("linear (Bx4), (5x6)", rt_linear(IN("x", B, 4), IN("w", 5, 6), NULL));
    REFUSED("a table of rank 1", rt_embedding(IN("t", 4), IX("i", B)));
    REFUSED("an index of rank 8", rt_embedding(IN("t", 4, 2), IX("i", 1, 1, 1, 1, 1, 1, 1, 1)));
    REFUSED("layer_norm over the last 3 of 2 axes", rt_layer_norm(IN("x", B, 4), NULL, NULL, 3, 1e-5));
    REFUSED("must be even", rt_geglu(IN("x", B, 5)));
    REFUSED("upsample_bilinear: rank 3", rt_upsample_bilinear(IN("x", B, 4, 4), 2, false));
    REFUSED("scale 0", rt_upsample_bilinear(IN("x", B, 1, 4, 4), 0, false));
    REFUSED("pad2d: rank 2", rt_pad2d(IN("x", B, 4), (int[]){0, 0, 0, 1}, RT_PAD_ZERO));
    REFUSED("pad2d: -1 pixels", rt_pad2d(IN("x", B, 1, 4, 4), (int[]){0, 0, 0, -1}, RT_PAD_ZERO));
    REFUSED("reflecting 0 and 4 of 4", rt_pad2d(IN("x", B, 1, 4, 4), (int[]){0, 4, 0, 0}, RT_PAD_REFLECT));
    REFUSED("a causal mask", rt_attention(IN("q", B, 4), IN("k", 6, 4), IN("v", 6, 4), 1, true));
    REFUSED("must be real, (N,3 C,H,W)", rt_self_attention(IN("x", B, 12, 4), 2, 1));
    REFUSED("3 heads of queries, keys and values do not share 12 channels", rt_self_attention(IN("x", B, 12, 2, 2), 3, 1));
    REFUSED("0 heads", rt_self_attention(IN("x", B, 12, 2, 2), 0, 1));
    REFUSED("scale is inf", rt_self_attention(IN("x", B, 12, 2, 2), 2, INFINITY));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broadcasting),           cmocka_unit_test(reductions),
        cmocka_unit_test(rearrangements),         cmocka_unit_test(layers),
        cmocka_unit_test(refusals_of_arithmetic), cmocka_unit_test(refusals_of_reductions),
        cmocka_unit_test(refusals_of_shapes),     cmocka_unit_test(refusals_of_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
