/* ops_golden.c -- operators through their public builders against PyTorch: every case of ops/ops.json, forward and gradients of sum(y gy), on
 * every backend in float and on the reference in double. */
#include "golden/golden.h"
#include "retort/ops.h"
#include "tolerances.h"

enum { MAX_INPUTS = 4 };

typedef struct specimen {
    rt_graph *g;
    const json_t *attr;
    rt_node *in[MAX_INPUTS]; /* in the order of the case's "inputs" */
    int n;
} specimen;

/* ---- attributes */

static int number(const specimen *s, const char *key, int otherwise)
{
    const json_t *j = json_object_get(s->attr, key);
    return j ? (int)json_integer_value(j) : otherwise;
}
static double real_of(const specimen *s, const char *key) { return json_number_value(json_object_get(s->attr, key)); }
static bool truth(const specimen *s, const char *key) { return json_is_true(json_object_get(s->attr, key)); }
static const char *text(const specimen *s, const char *key) { return json_string_value(json_object_get(s->attr, key)); }
static void numbers(const specimen *s, const char *key, int *out, size_t n)
{
    const json_t *j = json_object_get(s->attr, key);
    assert_int_equal(json_array_size(j), n);
    for (size_t i = 0; i < n; i++) out[i] = (int)json_integer_value(json_array_get(j, i));
}
static unsigned axes(const specimen *s)
{
    const json_t *j = json_object_get(s->attr, "axes");
    unsigned bits = json_is_null(j) ? RT_ALL_AXES : 0;
    for (size_t i = 0; i < json_array_size(j); i++) bits |= rt_axis_bit(s->in[0], (int)json_integer_value(json_array_get(j, i)));
    return bits;
}
static bool keep(const specimen *s) { return truth(s, "keepdim"); }
static rt_conv conv(const specimen *s)
{
    rt_conv c = {.groups = number(s, "groups", 1)};
    numbers(s, "stride", c.stride, 2);
    numbers(s, "padding_lrtb", c.pad, 4);
    numbers(s, "dilation", c.dilation, 2);
    return c;
}
static rt_pool pool(const specimen *s)
{
    rt_pool p = {.exclude_pad = json_is_false(json_object_get(s->attr, "count_include_pad"))};
    numbers(s, "kernel", p.kernel, 2);
    numbers(s, "stride", p.stride, 2);
    numbers(s, "padding", p.pad, 2);
    return p;
}

/* ---- one builder per operator of the list */

#define BUILD(name, expr)                                                                                                                  \
    static rt_node *build_##name(const specimen *s)                                                                                        \
    {                                                                                                                                      \
        rt_node *a = s->in[0], *b = s->in[1], *c = s->in[2];                                                                               \
        (void)a, (void)b, (void)c;                                                                                                         \
        return expr;                                                                                                                       \
    }
BUILD(conv2d, rt_conv2d(a, b, c, (const rt_conv[]){conv(s)}))
static rt_node *build_conv_transpose2d(const specimen *s)
{
    int extra[2];
    rt_conv c = conv(s);
    numbers(s, "output_padding", extra, 2);
    return rt_conv_transpose2d(s->in[0], s->in[1], s->in[2], &c, extra);
}
BUILD(group_norm, rt_group_norm(a, b, c, number(s, "groups", 0), real_of(s, "eps")))
BUILD(layer_norm, rt_layer_norm(a, b, c, number(s, "normalized_dims", 1), real_of(s, "eps")))
BUILD(rms_norm, rt_rms_norm(a, b, real_of(s, "eps")))
BUILD(silu, rt_silu(a))
BUILD(gelu_tanh, rt_gelu_tanh(a))
BUILD(gelu_erf, rt_gelu_erf(a))
BUILD(sigmoid, rt_sigmoid(a))
BUILD(tanh, rt_tanh(a))
BUILD(softplus, rt_softplus(a))
BUILD(mish, rt_mish(a))
BUILD(relu, rt_relu(a))
BUILD(geglu, rt_geglu(a))
BUILD(exp, rt_exp(a))
BUILD(square, rt_square(a))
BUILD(log, rt_log(a))
BUILD(sqrt, rt_sqrt(a))
BUILD(rsqrt, rt_rsqrt(a))
BUILD(softmax, rt_softmax(a, number(s, "axis", -1)))
BUILD(log_softmax, rt_log_softmax(a, number(s, "axis", -1)))
BUILD(logsumexp, rt_logsumexp(a, axes(s), keep(s)))
BUILD(scaled_dot_product_attention, rt_attention(a, b, c, real_of(s, "scale"), truth(s, "causal")))
/* (B,heads,L,d) -> (B,heads d,L,1), an image one pixel wide */
static rt_node *pixels(rt_node *x)
{
    const int64_t *n = rt_node_shape(x);
    return rt_reshape(rt_permute(x, (int[]){0, 1, 3, 2}), 4, (int64_t[]){n[0], n[1] * n[3], n[2], 1});
}
static rt_node *build_self_attention(const specimen *s)
{
    const int64_t *n = rt_node_shape(s->in[0]);
    rt_node *x = rt_concat((rt_node *[]){pixels(s->in[0]), pixels(s->in[1]), pixels(s->in[2])}, 3, 1);
    rt_node *y = rt_self_attention(x, n[1], real_of(s, "scale"));
    return rt_permute(rt_reshape(y, 4, (int64_t[]){n[0], n[1], n[3], n[2]}), (int[]){0, 1, 3, 2});
}
BUILD(linear, rt_linear(a, b, c))
BUILD(matmul, rt_matmul(a, b, truth(s, "transpose_a"), truth(s, "transpose_b")))
BUILD(embedding, rt_embedding(a, b))
BUILD(upsample_nearest, rt_upsample_nearest(a, number(s, "scale", 0)))
BUILD(upsample_bilinear, rt_upsample_bilinear(a, number(s, "scale", 0), truth(s, "align_corners")))
BUILD(avg_pool2d, rt_avg_pool2d(a, (const rt_pool[]){pool(s)}))
BUILD(max_pool2d, rt_max_pool2d(a, (const rt_pool[]){pool(s)}))
static rt_node *build_pad(const specimen *s)
{
    int lrtb[4];
    numbers(s, "padding_lrtb", lrtb, 4);
    const char *mode = text(s, "mode");
    return rt_pad2d(s->in[0], lrtb, !strcmp(mode, "constant") ? RT_PAD_ZERO : !strcmp(mode, "reflect") ? RT_PAD_REFLECT : RT_PAD_REPLICATE);
}
BUILD(concat, rt_concat(s->in, s->n, number(s, "axis", 0)))
BUILD(gather, rt_gather(a, number(s, "axis", 0), b))
BUILD(index_select, rt_index_select(a, number(s, "axis", 0), b))
static rt_node *build_permute(const specimen *s)
{
    int order[RT_MAX_RANK];
    numbers(s, "order", order, (size_t)rt_node_rank(s->in[0]));
    return rt_permute(s->in[0], order);
}
static rt_node *build_slice(const specimen *s)
{
    int start[RT_MAX_RANK], stop[RT_MAX_RANK], step[RT_MAX_RANK], rank = rt_node_rank(s->in[0]);
    numbers(s, "start", start, (size_t)rank);
    numbers(s, "stop", stop, (size_t)rank);
    numbers(s, "step", step, (size_t)rank);
    rt_node *y = s->in[0];
    for (int i = 0; i < rank; i++) y = rt_slice(y, i, start[i], stop[i], step[i]);
    return y;
}
BUILD(add, rt_add(a, b))
BUILD(sub, rt_sub(a, b))
BUILD(mul, rt_mul(a, b))
BUILD(div, rt_div(a, b))
BUILD(maximum, rt_maximum(a, b))
BUILD(pow, rt_pow(a, real_of(s, "exponent")))
BUILD(where, rt_where(c, a, b))
BUILD(sum, rt_sum(a, axes(s), keep(s)))
BUILD(mean, rt_mean(a, axes(s), keep(s)))
BUILD(max, rt_max(a, axes(s), keep(s)))
BUILD(min, rt_min(a, axes(s), keep(s)))
BUILD(var, rt_var(a, axes(s), real_of(s, "correction"), keep(s)))
BUILD(cumsum, rt_cumsum(a, number(s, "axis", 0)))
BUILD(mse, rt_mse(a, b))
BUILD(pseudo_huber, rt_pseudo_huber(a, b, real_of(s, "c")))
BUILD(cross_entropy, rt_cross_entropy(a, b))

static const struct {
    const char *op;
    rt_node *(*build)(const specimen *);
} builders[] = {
#define ROW(name)                                                                                                                          \
    {                                                                                                                                      \
#name, build_##name                                                                                                                \
    }
    ROW(conv2d),
    ROW(conv_transpose2d),
    ROW(group_norm),
    ROW(layer_norm),
    ROW(rms_norm),
    ROW(silu),
    ROW(gelu_tanh),
    ROW(gelu_erf),
    ROW(sigmoid),
    ROW(tanh),
    ROW(softplus),
    ROW(mish),
    ROW(relu),
    ROW(geglu),
    ROW(exp),
    ROW(square),
    ROW(log),
    ROW(sqrt),
    ROW(rsqrt),
    ROW(softmax),
    ROW(log_softmax),
    ROW(logsumexp),
    ROW(scaled_dot_product_attention),
    ROW(self_attention),
    ROW(linear),
    ROW(matmul),
    ROW(embedding),
    ROW(upsample_nearest),
    ROW(upsample_bilinear),
    ROW(avg_pool2d),
    ROW(max_pool2d),
    ROW(pad),
    ROW(concat),
    ROW(gather),
    ROW(index_select),
    ROW(permute),
    ROW(slice),
    ROW(add),
    ROW(sub),
    ROW(mul),
    ROW(div),
    ROW(maximum),
    ROW(pow),
    ROW(where),
    ROW(sum),
    ROW(mean),
    ROW(max),
    ROW(min),
    ROW(var),
    ROW(cumsum),
    ROW(mse),
    ROW(pseudo_huber),
    ROW(cross_entropy),
#undef ROW
};

/* ---- a case */

typedef struct bounds {
    double forward, gradient;
} bounds;

static int check(const char *name, const char *what, const rt_program *p, rt_node *node, const void *got, const rt_tensor *want,
                 double bound)
{
    int64_t n = rt_tensor_count(want);
    double e = rt_program_count(p, node) == n && rt_node_rank(node) == want->rank ? golden_distance(got, rt_node_dtype(node), want->data, n)
                                                                                  : INFINITY;
    for (int i = 0; i < want->rank && e < INFINITY; i++)
        if (rt_node_shape(node)[i] != want->shape[i]) e = INFINITY;
    if (e <= bound) return 0;
    print_error("%s, %s: %.2e, at most %.0e is allowed\n", name, what, e, bound);
    return 1;
}

static int run_case(const json_t *spec, rt_dtype dtype, const rt_backend *backend, bounds bound)
{
    const char *name = json_string_value(json_object_get(spec, "name")), *op = json_string_value(json_object_get(spec, "op"));
    const char *prefix = json_string_value(json_object_get(spec, "prefix"));
    char path[512], key[64];
    snprintf(path, sizeof path, GOLDEN "%s", json_string_value(json_object_get(spec, "file")));
    rt_tensors *file = golden_open(path);
    const json_t *inputs = json_object_get(spec, "inputs"), *wrt = json_object_get(spec, "differentiable");
    specimen s = {.g = rt_graph_new(dtype), .attr = json_object_get(spec, "attributes"), .n = (int)json_array_size(inputs)};
    assert_in_range(s.n, 1, MAX_INPUTS);
    rt_tensor values[MAX_INPUTS];
    rt_node *at[MAX_INPUTS], *outputs[MAX_INPUTS + 1];
    for (int i = 0; i < s.n; i++) {
        rt_dtype stored;
        const char *input = json_string_value(json_array_get(inputs, (size_t)i));
        snprintf(key, sizeof key, "in.%s", input);
        values[i] = golden_tensor(file, prefix, key, &stored, false);
        rt_dtype type = !strcmp(input, "cond") ? RT_BOOL : stored == RT_F32 ? dtype : stored;
        s.in[i] = rt_input(s.g, input, type, values[i].rank, values[i].shape);
    }
    rt_node *(*build)(const specimen *) = NULL;
    for (size_t i = 0; i < sizeof builders / sizeof *builders; i++)
        if (!strcmp(builders[i].op, op)) build = builders[i].build;
    if (!build) fail_msg("%s: no builder for operator '%s'", name, op);
    rt_node *y = build(&s);
    rt_tensor gy = golden_tensor(file, prefix, "gy", NULL, false), want = golden_tensor(file, prefix, "y", NULL, false);
    rt_node *upstream = rt_input(s.g, "gy", dtype, gy.rank, gy.shape), *loss = rt_sum(rt_mul(y, upstream), RT_ALL_AXES, false);
    int n = (int)json_array_size(wrt);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < s.n; i++)
            if (!strcmp(json_string_value(json_array_get(wrt, (size_t)k)), json_string_value(json_array_get(inputs, (size_t)i))))
                at[k] = s.in[i];
    rt_grad(loss, at, n, outputs);
    outputs[n] = y;
    rt_program *p;
    rt_error err = {0};
    if (rt_compile(&p, s.g, &(rt_program_spec){.outputs = outputs, .n_outputs = n + 1, .batch = 1, .backend = backend, .threads = 2},
                   &err) != RT_OK)
        fail_msg("%s: %s", name, err.text);
    for (int i = 0; i < s.n; i++)
        golden_store(rt_program_data(p, s.in[i]), rt_node_dtype(s.in[i]), values[i].data, rt_tensor_count(&values[i]));
    golden_store(rt_program_data(p, upstream), dtype, gy.data, rt_tensor_count(&gy));
    if (rt_run(p, &(rt_clock){0}, &err) != RT_OK) fail_msg("%s: %s", name, err.text);

    int failures = check(name, "y", p, y, rt_program_data(p, y), &want, bound.forward);
    for (int k = 0; k < n; k++) {
        snprintf(key, sizeof key, "grad.%s", json_string_value(json_array_get(wrt, (size_t)k)));
        rt_tensor grad = golden_tensor(file, prefix, key, NULL, false);
        failures += check(name, key, p, outputs[k], rt_program_data(p, outputs[k]), &grad, bound.gradient);
        rt_tensor_free(&grad);
    }
    rt_program_free(p);
    rt_graph_free(s.g);
    rt_tensor_free(&gy);
    rt_tensor_free(&want);
    for (int i = 0; i < s.n; i++) rt_tensor_free(&values[i]);
    rt_tensors_close(file);
    return failures;
}

/* Cases of attention that the fused row can do, too: q, k and v of one shape, no mask. */
static bool attends_to_itself(const json_t *spec)
{
    static const char *const names[] = {"sdpa", "sdpa_one_head", "sdpa_scale"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(json_string_value(json_object_get(spec, "name")), names[i])) return true;
    return false;
}

static void all_cases(rt_dtype dtype, const char *backend)
{
    json_t *list = golden_json(GOLDEN "ops/ops.json");
    const json_t *cases = json_is_array(list) ? list : json_object_get(list, "cases");
    int failures = 0;
    assert_true(json_array_size(cases) > 100);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *spec = json_array_get(cases, i);
        bool offset = !strcmp(json_string_value(json_object_get(spec, "name")), "groupnorm_offset");
        bounds bound = dtype == RT_F64 ? (bounds){TOL_GOLDEN_DOUBLE, TOL_GOLDEN_DOUBLE}
                       : offset        ? (bounds){TOL_GOLDEN_OFFSET_FORWARD, TOL_GOLDEN_OFFSET_GRADIENT}
                                       : (bounds){TOL_GOLDEN_FORWARD, TOL_GOLDEN_GRADIENT};
        failures += run_case(spec, dtype, rt_backend_find(backend), bound);
        if (!attends_to_itself(spec)) continue;
        json_t *again = json_copy((json_t *)(uintptr_t)spec);
        json_object_set_new(again, "op", json_string("self_attention"));
        failures += run_case(again, dtype, rt_backend_find(backend), bound);
        json_decref(again);
    }
    json_decref(list);
    assert_int_equal(failures, 0);
}

static void test_double(void **state)
{
    (void)state;
    all_cases(RT_F64, "reference");
}

static void test_float_on_every_backend(void **state)
{
    (void)state;
    for (const char *const *name = rt_backend_names(); *name; name++)
        if (rt_backend_open(rt_backend_find(*name), NULL) == RT_OK) all_cases(RT_F32, *name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_double), cmocka_unit_test(test_float_on_every_backend)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
