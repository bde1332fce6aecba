/* divergences.c -- the table of f-divergences against differences of f and integrals; their graphs against the table; weights of ratios; critics and what they read. */
#include "distill/critic.h"
#include "distill/ratio.h"

#include "retort/nn.h"
#include "retort/ops.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

static const char *const names[] = {"kl", "reverse-kl", "jeffreys", "jensen-shannon", "squared-hellinger", "pearson", "neyman"};
enum { ROWS = sizeof names / sizeof *names };

static void near(double got, double want, double bound, const char *what, const char *row, double u)
{
    if (!(fabs(got - want) <= bound * fmax(1, fabs(want)))) fail_msg("%s of %s at u = %g: %.17g, not %.17g", what, row, u, got, want);
}

/* n numbers of each of `count` nodes whose inputs are constants. */
static void evaluate(rt_node **nodes, int count, int64_t n, double *out)
{
    rt_program *p;
    rt_program_spec spec = {.outputs = nodes, .n_outputs = count, .batch = 1, .threads = 1, .backend = rt_backend_find("reference")};
    OK(rt_compile(&p, rt_node_graph(nodes[0]), &spec, &err));
    OK(rt_run(p, &(rt_clock){0}, &err));
    for (int i = 0; i < count; i++) {
        assert_int_equal(rt_program_count(p, nodes[i]), n);
        memcpy(out + i * n, rt_program_data(p, nodes[i]), (size_t)n * sizeof *out);
    }
    rt_program_free(p);
}

/* f(1) = 0; f', u f'' by differences of f and f'; u f' - f is the conjugate at f': no other point gives more. */
static void table(void **state)
{
    (void)state;
    rt_row_text text;
    for (int i = 0; i < ROWS; i++) {
        assert_true(rt_divergence_describe(i, &text));
        assert_string_equal(text.name, names[i]);
        assert_true(strstr(text.source, "mode") || strstr(text.source, "mass") || strstr(text.source, "both") ||
                    strstr(text.source, "between"));
        const rt_divergence *d = rt_divergence_find(names[i], &err);
        assert_string_equal(rt_divergence_name(d), names[i]);
        near(rt_divergence_f(d, 1), 0, 1e-15, "f", names[i], 1);
        for (double u = 0.05; u < 20; u *= 1.3) {
            double h = 1e-3 * u, slope = 0, curve = 0;
            static const double difference[] = {1 / 12.0, -8 / 12.0, 0, 8 / 12.0, -1 / 12.0};
            for (int j = 0; j < 5; j++) {
                slope += difference[j] * rt_divergence_f(d, u + (j - 2) * h) / h;
                curve += difference[j] * rt_divergence_slope(d, u + (j - 2) * h) / h;
            }
            near(rt_divergence_slope(d, u), slope, TOL_DIVERGENCE_DIFFERENCES, "f'", names[i], u);
            near(rt_divergence_weight(d, u), u * curve, TOL_DIVERGENCE_DIFFERENCES, "u f''", names[i], u);
            near(rt_divergence_conjugate(d, u), u * rt_divergence_slope(d, u) - rt_divergence_f(d, u), TOL_DIVERGENCE_GRAPH, "u f' - f",
                 names[i], u);
            for (double v = 0.01; v < 100; v *= 1.7)
                assert_true(v * rt_divergence_slope(d, u) - rt_divergence_f(d, v) <= rt_divergence_conjugate(d, u) + 1e-9);
        }
    }
    assert_false(rt_divergence_describe(ROWS, &text));
    assert_null(rt_divergence_find("jensen", &err));
    assert_non_null(strstr(err.text, "did you mean 'jensen-shannon'"));
}

/* Of log u, and differentiable: d f'(u)/d log u is the weight, d f*(f'(u))/d log u is u times that, so that a critic stands still where it is best. */
static void graphs(void **state)
{
    (void)state;
    enum { N = 25 };
    double l[N], out[5 * N];
    for (int j = 0; j < N; j++) l[j] = -3 + 0.25 * j;
    for (int i = 0; i < ROWS; i++) {
        const rt_divergence *d = rt_divergence_find(names[i], &err);
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *x = rt_input(g, "l", RT_F64, 1, (int64_t[]){N}), *grads[2];
        rt_node *nodes[5] = {rt_divergence_slope_of(d, x), rt_divergence_weight_of(d, x), rt_divergence_conjugate_of(d, x)};
        rt_grad(rt_sum(nodes[0], RT_ALL_AXES, false), &x, 1, &grads[0]);
        rt_grad(rt_sum(nodes[2], RT_ALL_AXES, false), &x, 1, &grads[1]);
        nodes[3] = grads[0], nodes[4] = grads[1];
        rt_program *p;
        rt_program_spec spec = {.outputs = nodes, .n_outputs = 5, .batch = 1, .threads = 1, .backend = rt_backend_find("reference")};
        OK(rt_compile(&p, g, &spec, &err));
        if (rt_program_data(p, x)) memcpy(rt_program_data(p, x), l, sizeof l);
        OK(rt_run(p, &(rt_clock){0}, &err));
        for (int k = 0; k < 5; k++) memcpy(out + k * N, rt_program_data(p, nodes[k]), N * sizeof *out);
        for (int j = 0; j < N; j++) {
            double u = exp(l[j]);
            near(out[j], rt_divergence_slope(d, u), TOL_DIVERGENCE_GRAPH, "graph of f'", names[i], u);
            near(out[N + j], rt_divergence_weight(d, u), TOL_DIVERGENCE_GRAPH, "graph of u f''", names[i], u);
            near(out[2 * N + j], rt_divergence_conjugate(d, u), TOL_DIVERGENCE_GRAPH, "graph of u f' - f", names[i], u);
            near(out[3 * N + j], rt_divergence_weight(d, u), TOL_DIVERGENCE_GRAPH, "derivative of f'", names[i], u);
            near(out[4 * N + j], u * rt_divergence_weight(d, u), TOL_DIVERGENCE_GRAPH, "derivative of the conjugate", names[i], u);
        }
        rt_program_free(p);
        rt_graph_free(g);
    }
}

/* int p f(q/p) between two normal distributions, closed forms against trapezoids of the table's f. */
static void normal_distributions(void **state)
{
    (void)state;
    double m = 0.3, s2 = 0.8, n = -0.2, v = 1.1; /* q, p */
    double kl = log(v / s2) / 2 + (s2 + (m - n) * (m - n)) / (2 * v) - 0.5,
           reverse = log(s2 / v) / 2 + (v + (m - n) * (m - n)) / (2 * s2) - 0.5;
    double overlap = sqrt(2 * sqrt(s2 * v) / (s2 + v)) * exp(-(m - n) * (m - n) / (4 * (s2 + v)));
    double pearson = v / sqrt(s2 * (2 * v - s2)) * exp((m - n) * (m - n) / (2 * v - s2)) - 1,
           neyman = s2 / sqrt(v * (2 * s2 - v)) * exp((m - n) * (m - n) / (2 * s2 - v)) - 1;
    const double want[ROWS] = {kl, reverse, kl + reverse, NAN, 2 - 2 * overlap, pearson, neyman};
    for (int i = 0; i < ROWS; i++) {
        double sum = 0, shannon = 0;
        for (int j = -3000; j <= 3000; j++) {
            double x = j / 300.0, q = exp(-(x - m) * (x - m) / (2 * s2)) / sqrt(2 * M_PI * s2),
                   p = exp(-(x - n) * (x - n) / (2 * v)) / sqrt(2 * M_PI * v);
            sum += p * rt_divergence_f(rt_divergence_find(names[i], &err), q / p) / 300;
            shannon += (q * log(2 * q / (p + q)) + p * log(2 * p / (p + q))) / 300;
        }
        near(sum, i == 3 ? shannon : want[i], TOL_DIVERGENCE_DIFFERENCES, "int p f(q/p)", names[i], 0);
    }
}

static void weights_of_ratios(void **state)
{
    (void)state;
    enum { N = 6 };
    static const double l[N] = {-4, -1, 0, 0.5, 2, 5}, t[N] = {0.1, 0.65, 0.39, 0.79, 0.45, 0.61}, bin[N] = {0, 2, 0, 2, 1, 2};
    double out[6 * N];
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_reals(g, 1, (int64_t[]){N}, l), *bins = rt__bins(rt_reals(g, 1, (int64_t[]){N}, t), 0.2, 1, 4);
    const rt_divergence *pearson = rt_divergence_find("pearson", &err);
    rt_node *nodes[] = {rt__clip_ratio(x, 0.1, 20),     rt__clip_ratio(x, 0, INFINITY),       rt__mean_in_bin(NULL, x, bins),
                        rt__mean_in_bin(NULL, x, NULL), rt__f_weight(NULL, pearson, x, NULL), rt__renyi_weight(NULL, 3, x, bins)};
    evaluate(nodes, 6, N, out);
    double mean = 0, means[3] = {-2, 2, 1.5}, u = 0, squares[3] = {0}, count[3] = {2, 1, 3};
    for (int i = 0; i < N; i++) mean += l[i] / N, u += exp(l[i]) / N, squares[(int)bin[i]] += exp(2 * l[i]) / count[(int)bin[i]];
    for (int i = 0; i < N; i++) {
        near(out[i], fmin(log(10), fmax(-log(20), l[i])), 1e-15, "clipped", "log u", l[i]); /* p/q in [0.1, 20] */
        near(out[N + i], l[i], 0, "free", "log u", l[i]);
        near(out[2 * N + i], means[(int)bin[i]], 1e-15, "mean in the bin", "log u", l[i]);
        near(out[3 * N + i], mean, 1e-15, "mean", "log u", l[i]);
        near(out[4 * N + i], exp(l[i]) / u, 1e-14, "weight", "pearson", exp(l[i]));
        near(out[5 * N + i], 3 * exp(2 * l[i]) / squares[(int)bin[i]], 1e-14, "weight", "renyi", exp(l[i]));
    }
    rt_node *share[] = {rt__effective_share(rt_reals(g, 1, (int64_t[]){4}, (double[]){1, 0, 0, 0})),
                        rt__effective_share(rt_reals(g, 1, (int64_t[]){4}, (double[]){3, 3, 3, 3}))};
    evaluate(share, 2, 1, out);
    near(out[0], 0.25, 1e-15, "share", "one of four", 0);
    near(out[1], 1, 1e-15, "share", "four of four", 0);
    rt_graph_free(g);
}

/* ---- critics */

static rt_net *network(const char *config)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/retort-divergences-%d.json", (int)getpid());
    FILE *f = fopen(path, "w");
    if (!f || fputs(config, f) < 0 || fclose(f)) fail_msg("%s cannot be written", path);
    rt_net *net = NULL;
    rt_status s = rt_net_open(&net, path, &err);
    unlink(path);
    if (s != RT_OK) fail_msg("%s", err.text);
    return net;
}

#define UNET(mid)                                                                                                                          \
    "{\"_class_name\": \"UNet2DModel\", \"sample_size\": 8, \"in_channels\": 2, \"out_channels\": 2, \"norm_num_groups\": 2, "             \
    "\"layers_per_block\": 1, \"attention_head_dim\": 2, \"block_out_channels\": [4, 6], \"down_block_types\": [\"DownBlock2D\", "         \
    "\"DownBlock2D\"], "                                                                                                                   \
    "\"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\"]" mid "}"

/* The hidden representation's shape, what enters a RetortMLP's proj_out, and that asking for it moves no output and adds no parameter. */
static void hidden(void **state)
{
    (void)state;
    enum { B = 2 };
    static const char *const configs[] = {"{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 8, \"layers\": 2}",
                                          "{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": [0, 5]}", UNET(""),
                                          UNET(", \"mid_block_type\": null")};
    for (int i = 0; i < 4; i++) {
        rt_net *net = network(configs[i]);
        const rt_net_info *info = rt_net_describe(net);
        rt_params *set = rt_params_new("set", RT_F64);
        OK(rt_net_declare(net, set, &err));
        int entries = rt_params_entries(set);
        OK(rt_params_init(set, 5, &err));
        int64_t shape[] = {B, 2, 8, 8}, n = i < 2 ? B * 2 : B * 2 * 64;
        double at[B] = {3, 7}, *x = malloc((size_t)n * sizeof *x), *out = malloc((size_t)(2 * n) * sizeof *out);
        for (int64_t j = 0; j < n; j++) x[j] = sin(1.7 * (double)j);
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *xn = rt_reals(g, i < 2 ? 2 : 4, shape, x), *t = rt_reals(g, 1, (int64_t[]){B}, at);
        rt_node *levels[RT_NET_LEVELS];
        rt_net_levels(net, set, xn, t, NULL, levels);
        rt_node *h = levels[info->n_levels - 1];
        OK(rt_graph_status(g, &err));
        assert_int_equal(info->level_channels[info->n_levels - 1], rt_dim(h, 1));
        assert_int_equal(rt_dim(h, 1), i == 0 ? 8 : i == 1 ? 2 : 6);
        assert_int_equal(info->n_levels, i < 2 ? 1 : i == 2 ? 3 : 2);
        if (i >= 2) assert_true(rt_dim(h, 2) == 4 && rt_dim(h, 3) == 4);
        rt_node *y = rt_net_apply(net, set, xn, t, NULL), *again = y;
        if (i == 0)
            again = rt_linear(h, rt_param(g, set, "proj_out.weight", 2, (int64_t[]){2, 8}, RT_INIT_CONST(0)),
                              rt_param(g, set, "proj_out.bias", 1, (int64_t[]){2}, RT_INIT_CONST(0)));
        if (i == 1) again = h;
        evaluate((rt_node *[]){y, again}, 2, n, out);
        for (int64_t j = 0; j < n; j++) near(out[n + j], out[j], 1e-14, "hidden", info->kind, 0);
        assert_int_equal(entries, rt_params_entries(set));
        rt_graph_free(g);
        rt_params_free(set);
        rt_net_free(net);
        free(x);
        free(out);
    }
    rt_net *net = network("{\"_class_name\": \"RetortClassifier\", \"in_channels\": 1, \"sample_size\": 8, \"num_classes\": 3, "
                          "\"block_out_channels\": [8]}");
    rt_graph *g = rt_graph_new(RT_F64);
    rt_params *set = rt_params_new("set", RT_F64);
    rt_node *levels[RT_NET_LEVELS];
    rt_net_levels(net, set, rt_input(g, "x", RT_F64, 4, (int64_t[]){RT_BATCH, 1, 8, 8}), NULL, NULL, levels);
    assert_true(rt_graph_status(g, &err) != RT_OK && strstr(err.text, "take its features"));
    rt_graph_free(g);
    rt_params_free(set);
    rt_net_free(net);
}

/* The levels of a U-Net are what its blocks give before they halve, and the mid block's output: channels and sizes, the last two unlike. */
static void levels(void **state)
{
    (void)state;
    enum { B = 2, N = B * 2 * 64 };
    rt_net *net = network(UNET(""));
    rt_params *set = rt_params_new("set", RT_F64);
    OK(rt_net_declare(net, set, &err));
    OK(rt_params_init(set, 5, &err));
    double x[N], out[2 * B * 6 * 16];
    for (int j = 0; j < N; j++) x[j] = sin(1.7 * j);
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *xn = rt_reals(g, 4, (int64_t[]){B, 2, 8, 8}, x), *t = rt_reals(g, 1, (int64_t[]){B}, (double[]){3, 7}), *h[RT_NET_LEVELS];
    rt_net_levels(net, set, xn, t, NULL, h);
    assert_int_equal(rt_net_describe(net)->n_levels, 3);
    static const int64_t shapes[3][3] = {{4, 8, 8}, {6, 4, 4}, {6, 4, 4}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rt_net_describe(net)->level_channels[i], shapes[i][0]);
        for (int axis = 0; axis < 3; axis++) assert_int_equal(rt_dim(h[i], 1 + axis), shapes[i][axis]);
    }
    evaluate((rt_node *[]){h[1], h[2]}, 2, B * 6 * 16, out);
    double apart = 0;
    for (int j = 0; j < B * 6 * 16; j++) apart = fmax(apart, fabs(out[B * 6 * 16 + j] - out[j]));
    assert_true(apart > 1e-3);
    rt_graph_free(g);
    rt_params_free(set);
    rt_net_free(net);
}

/* The kinds of heads, by name. */
static void head_names(void **state)
{
    (void)state;
    rt__heads heads;
    OK(rt__heads_find("", "deepest", true, &heads, &err));
    assert_true(heads.kind == RT_HEAD_CONV && !heads.every_level);
    OK(rt__heads_find("linear", "all", true, &heads, &err));
    assert_true(heads.kind == RT_HEAD_LINEAR && heads.every_level);
    OK(rt__heads_find("", "deepest", false, &heads, &err));
    assert_int_equal(heads.kind, RT_HEAD_LINEAR);
    err = (rt_error){0};
    assert_int_equal(rt__heads_find("conv", "all", false, &heads, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "gan.head: conv, but vectors have no pixels; give linear"));
    err = (rt_error){0};
    assert_int_equal(rt__heads_find("mlp", "all", true, &heads, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "gan.head: 'mlp'; give conv"));
    err = (rt_error){0};
    assert_int_equal(rt__heads_find("", "mid", true, &heads, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "gan.levels: 'mid'; give deepest"));
}

/* Head and trunk in one set; heads of a picture's network make one logit per sample, which the gradient reaches all of the trunk's way from; a logit of every
 * level is the sum of the heads', the deepest one's among them. */
static void heads(void **state)
{
    (void)state;
    enum { B = 3, N = B * 2 * 64 };
    rt_net *net = network(UNET(""));
    double x[N], logits[2 * B], of_all[2 * B];
    for (int j = 0; j < N; j++) x[j] = cos(0.9 * j);
    for (int i = 0; i < 4; i++) {
        rt__heads wanted = {i & 1 ? RT_HEAD_CONV : RT_HEAD_LINEAR, i >= 2};
        rt_params *set = rt_params_new("score", RT_F64);
        OK(rt_net_declare(net, set, &err));
        int trunk = rt_params_entries(set);
        OK(rt__critic_declare(net, &wanted, set, &err));
        assert_int_equal(rt_params_entries(set) - trunk, (wanted.kind == RT_HEAD_CONV ? 6 : 2) * (wanted.every_level ? 3 : 1));
        for (int k = trunk; k < rt_params_entries(set); k++) assert_memory_equal(rt_params_entry(set, k)->name, "head.", 5);
        OK(rt_params_init(set, 9, &err));
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *xn = rt_reals(g, 4, (int64_t[]){B, 2, 8, 8}, x), *t = rt_reals(g, 1, (int64_t[]){B}, (double[]){1, 2, 3});
        rt__critic critic = {net, set, set, wanted};
        rt_node *l = rt__critic_logit(&critic, xn, t, NULL), *noised = rt__critic_logit(&critic, rt_scale(xn, 1.1), t, NULL), *slope;
        rt_node *w = rt_param(g, set, "conv_in.weight", 4, (int64_t[]){4, 2, 3, 3}, RT_INIT_CONST(0));
        rt_grad(rt_expect(rt__critic_loss(l, l)), &w, 1, &slope);
        evaluate((rt_node *[]){l, rt__critic_penalty(l, noised)}, 2, B, logits);
        for (int k = 0; k < B; k++) assert_true(isfinite(logits[k]) && logits[B + k] > 0);
        assert_true(logits[0] != logits[1]);
        double grads[4 * 2 * 9], square = 0;
        evaluate(&slope, 1, 72, grads);
        for (int k = 0; k < 72; k++) square += grads[k] * grads[k];
        assert_true(square > 0);
        if (wanted.every_level) { /* what the shallow heads add, from the levels */
            rt__critic alone = {net, set, set, {wanted.kind, false}};
            rt_node *h[RT_NET_LEVELS], *rest = NULL;
            rt_net_levels(net, set, xn, t, NULL, h);
            for (int level = 0; level < 2 && wanted.kind == RT_HEAD_LINEAR; level++) {
                char weight[64], bias[64];
                snprintf(weight, sizeof weight, "head.levels.%d.weight", level);
                snprintf(bias, sizeof bias, "head.levels.%d.bias", level);
                int64_t c = rt_dim(h[level], 1);
                rt_node *one =
                    rt_linear(rt_mean(h[level], 1u << 2 | 1u << 3, false), rt_param(g, set, weight, 2, (int64_t[]){1, c}, RT_INIT_CONST(0)),
                              rt_param(g, set, bias, 1, (int64_t[]){1}, RT_INIT_CONST(0)));
                rest = rest ? rt_add(rest, one) : one;
            }
            rt_node *deepest = rt__critic_logit(&alone, xn, t, NULL);
            evaluate((rt_node *[]){deepest, rest ? rt_reshape(rest, 1, (int64_t[]){B}) : deepest}, 2, B, of_all);
            for (int k = 0; k < B && rest; k++) near(logits[k], of_all[k] + of_all[B + k], 1e-13, "heads of all levels", "UNet2DModel", k);
            assert_true(fabs(logits[0] - of_all[0]) > 1e-6);
        }
        rt_graph_free(g);
        rt_params_free(set);
    }
    rt_net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),  cmocka_unit_test(graphs), cmocka_unit_test(normal_distributions), cmocka_unit_test(weights_of_ratios),
        cmocka_unit_test(hidden), cmocka_unit_test(levels), cmocka_unit_test(head_names),           cmocka_unit_test(heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
