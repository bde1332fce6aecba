/* penalty.c -- gradients of gradients through whole networks: R = E |d sum D(x) / dx|^2, and dR / d(weights, x) against central differences. */
#include "retort/ops.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 3, CHANNELS = 4, SIDE = 6, MAX_WRT = 16 };

typedef struct bench {
    rt_graph *g;
    rt_params *set;
    rt_node *wrt[MAX_WRT]; /* x, then the weights */
    int n;
} bench;

static rt_node *weight(bench *b, const char *name, int rank, const int64_t *shape)
{
    return b->wrt[b->n++] = rt_param(b->g, b->set, name, rank, shape, RT_INIT_NORMAL(0.4));
}
#define WEIGHT(b, name, ...) weight(b, name, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

/* group norm + SiLU + convolution + attention: the blocks of a diffusion UNet */
static rt_node *unet_like(bench *b, rt_node *x)
{
    rt_node *h = rt_conv2d(x, WEIGHT(b, "conv.w", 6, CHANNELS, 3, 3), WEIGHT(b, "conv.b", 6), RT_CONV(1, 1));
    h = rt_silu(rt_group_norm(h, WEIGHT(b, "norm.w", 6), WEIGHT(b, "norm.b", 6), 3, 1e-5));
    h = rt_conv2d(h, WEIGHT(b, "down.w", 6, 6, 3, 3), NULL, &(rt_conv){{2, 2}, {0, 1, 0, 1}, {1, 1}, 1});
    int64_t pixels = rt_dim(h, 2) * rt_dim(h, 3);
    rt_node *s = rt_permute(rt_reshape(h, 3, (int64_t[]){RT_BATCH, 6, pixels}), (int[]){0, 2, 1});
    rt_node *q = rt_linear(s, WEIGHT(b, "q", 4, 6), NULL), *k = rt_linear(s, WEIGHT(b, "k", 4, 6), NULL);
    rt_node *v = rt_linear(s, WEIGHT(b, "v", 6, 6), WEIGHT(b, "v.b", 6));
    return rt_add(s, rt_attention(q, k, v, 0.5, false));
}

/* strided, grouped, transposed convolution, pooling, upsampling, layer norm, GELU: everything else that images meet */
static rt_node *other_blocks(bench *b, rt_node *x)
{
    rt_node *h = rt_conv2d(x, WEIGHT(b, "groups.w", 6, 2, 3, 3), NULL, &(rt_conv){{1, 1}, {2, 0, 1, 1}, {1, 1}, 2});
    h = rt_max_pool2d(h, &(rt_pool){{3, 3}, {2, 2}, {1, 1}, false});
    h = rt_conv_transpose2d(h, WEIGHT(b, "up.w", 6, 4, 4, 4), WEIGHT(b, "up.b", 4), RT_CONV(2, 1), (int[]){0, 0});
    h = rt_avg_pool2d(rt_mul(h, rt_upsample_nearest(rt_tanh(x), 1)), &(rt_pool){{3, 2}, {1, 2}, {1, 1}, true});
    h = rt_upsample_nearest(h, 2);
    h = rt_layer_norm(h, WEIGHT(b, "norm.w", rt_dim(h, 3)), WEIGHT(b, "norm.b", rt_dim(h, 3)), 1, 1e-5);
    return rt_mul(rt_gelu_erf(h), rt_softmax(h, 1));
}

static double *run(rt_program *p, rt_node *of)
{
    rt_error err = {0};
    if (rt_run(p, &(rt_clock){.seed = 1}, &err) != RT_OK) fail_msg("%s", err.text);
    return rt_program_data(p, of);
}

static void check(const char *name, rt_node *(*network)(bench *, rt_node *))
{
    bench b = {.g = rt_graph_new(RT_F64), .set = rt_params_new("d", RT_F64)};
    rt_error err = {0};
    rt_node *x = b.wrt[b.n++] = rt_input(b.g, "x", RT_F64, 4, (int64_t[]){RT_BATCH, CHANNELS, SIDE, SIDE});
    rt_node *d = rt_sum(rt_square(network(&b, x)), RT_ALL_AXES, false), *slope, *grads[MAX_WRT], *outputs[MAX_WRT + 1];
    rt_grad(d, &x, 1, &slope);
    rt_node *penalty = rt_expect(rt_norm2(slope));
    rt_grad(penalty, b.wrt, b.n, grads);
    memcpy(outputs, grads, sizeof grads);
    outputs[b.n] = penalty;
    rt_program *all = NULL, *only = NULL;
    rt_backend const *reference = rt_backend_find("reference");
    if (rt_compile(&all, b.g,
                   &(rt_program_spec){.outputs = outputs, .n_outputs = b.n + 1, .batch = BATCH, .backend = reference, .threads = 1},
                   &err) != RT_OK ||
        rt_compile(&only, b.g, &(rt_program_spec){.outputs = &penalty, .n_outputs = 1, .batch = BATCH, .backend = reference, .threads = 1},
                   &err) != RT_OK ||
        rt_params_init(b.set, 11, &err) != RT_OK)
        fail_msg("%s: %s", name, err.text);
    double *xs[] = {rt_program_data(all, x), rt_program_data(only, x)};
    for (int64_t i = 0; i < rt_program_count(all, x); i++) xs[0][i] = xs[1][i] = sin(1.7 * (double)i) + 0.3 * cos(0.37 * (double)(i * i));
    run(all, penalty);

    int failures = 0;
    for (int k = 0; k < b.n; k++) {
        const rt_entry *e = k ? rt_params_entry(b.set, k - 1) : NULL;
        double *at = k ? (double *)rt_params_data(b.set, RT_VALUE) + e->offset : xs[1], worst = 0, top = 0;
        const double *g = rt_program_data(all, grads[k]);
        int64_t n = rt_program_count(all, grads[k]);
        for (int64_t i = 0; i < n; i += 1 + n / 40) {
            double keep = at[i], diff[2];
            for (int step = 0; step < 2; step++) {
                double h = step ? 2e-5 : 4e-5, side[2];
                for (int s = 0; s < 2; s++) {
                    at[i] = keep + (s ? -h : h);
                    rt_params_touch(b.set);
                    side[s] = *run(only, penalty);
                }
                diff[step] = (side[0] - side[1]) / (2 * h);
            }
            at[i] = keep;
            worst = fmax(worst, fabs((4 * diff[1] - diff[0]) / 3 - g[i]));
            top = fmax(top, fabs(g[i]));
        }
        if (worst <= TOL_PENALTY * top) continue;
        print_error("%s, %s: %.2e\n", name, e ? e->name : "x", worst / top);
        failures++;
    }
    rt_program_free(all);
    rt_program_free(only);
    rt_graph_free(b.g);
    rt_params_free(b.set);
    assert_int_equal(failures, 0);
}

static void test_unet_like(void **state)
{
    (void)state;
    check("unet-like", unet_like);
}

static void test_other_blocks(void **state)
{
    (void)state;
    check("other blocks", other_blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_unet_like), cmocka_unit_test(test_other_blocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
