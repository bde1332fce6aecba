/* cudnn_plans.c -- cuDNN has an admissible plan for every convolution and attention of the training steps of the reference networks and of bench/ on an H100, in every type. No GPU
 * is needed: plans are made for the properties in tests/cuda/h100.json. CUDNN_PLANS=FILE keeps them, one JSON text a line. */
#include "backend/cuda/cudnn_plan.h"
#include "graph/program.h"
#include "retort/format.h"
#include "retort/nn.h"

#include <dirent.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { BATCH = 32, MOST = 1000 };

static char root[1024];
static rt__cuda_library lib;
static rt__cudnn cudnn = {.lib = &lib};
static FILE *kept;

static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

static rt__cudnn_conv convs[MOST];
static rt__cudnn_attention attentions[MOST];
static int n_convs, n_attentions;

static void note_conv(const rt_program *p, const rt_node *y)
{
    rt__cudnn_conv v = {.conv = ((const rt__conv_attr *)y->attr)->conv, .last = true};
    const rt_node *x = y->in[0], *w = y->in[1], *out = y;
    if (y->op == rt__ops_f32[RT_OP_conv2d_data]) v.kind = RT_CUDNN_DATA, x = y, out = y->in[0];
    if (y->op == rt__ops_f32[RT_OP_conv2d_weight]) v.kind = RT_CUDNN_WEIGHT, w = y, out = y->in[1];
    rt_view views[3];
    rt__program_view(p, x, &views[0]);
    rt__program_view(p, w, &views[1]);
    rt__program_view(p, out, &views[2]);
    memcpy(v.x, views[0].dim, sizeof v.x);
    memcpy(v.w, views[1].dim, sizeof v.w);
    memcpy(v.y, views[2].dim, sizeof v.y);
    for (int i = 0; i < n_convs; i++)
        if (!memcmp(&convs[i], &v, sizeof v)) return;
    assert_true(n_convs < MOST);
    convs[n_convs++] = v;
}

static void note_attention(const rt_program *p, const rt_node *y)
{
    rt_view v;
    rt__program_view(p, y, &v);
    int64_t heads = ((const rt__attention_attr *)y->attr)->heads;
    rt__cudnn_attention a = {v.dim[0], heads, v.dim[2] * v.dim[3], v.dim[1] / heads};
    for (int i = 0; i < n_attentions; i++)
        if (!memcmp(&attentions[i], &a, sizeof a)) return;
    assert_true(n_attentions < MOST);
    attentions[n_attentions++] = a;
}

/* The shapes of a training step: outputs and gradients of everything that is trained. */
static void note_network(const char *folder)
{
    rt_net *net;
    OK(rt_net_open(&net, folder, &err));
    rt_params *set = rt_params_new("network", RT_F32);
    rt_graph *g = rt_graph_new(RT_F32);
    const rt_net_info *info = rt_net_describe(net);
    const int64_t image[4] = {RT_BATCH, info->in_channels, info->height, info->width};
    rt_node *x = rt_input(g, "x", RT_F32, 4, image), *t = rt_input(g, "t", RT_F32, 1, (int64_t[]){RT_BATCH});
    rt_node *label = NULL;
    if (info->label == RT_LABEL_CLASS) label = rt_input(g, "y", RT_I64, 1, (int64_t[]){RT_BATCH});
    if (info->label == RT_LABEL_NUMBER) label = rt_input(g, "y", RT_F32, 1, (int64_t[]){RT_BATCH});
    if (info->label == RT_LABEL_VECTOR) label = rt_input(g, "y", RT_F32, 2, (int64_t[]){RT_BATCH, info->label_width});
    rt_node *loss = rt_expect(rt_norm2(rt_net_apply(net, set, x, t, label)));
    int n = rt_params_entries(set);
    rt_node **wrt = calloc((size_t)n + 1, sizeof *wrt), **gradients = calloc((size_t)n + 1, sizeof *gradients);
    for (int i = 0; i < n; i++) {
        const rt_entry *e = rt_params_entry(set, i);
        wrt[i] = rt_param(g, set, e->name, e->rank, e->shape, e->init);
    }
    wrt[n] = x;
    rt_grad(loss, wrt, n + 1, gradients);
    rt_program *p;
    rt_program_spec spec = {
        .outputs = gradients, .n_outputs = n + 1, .batch = BATCH, .backend = rt_backend_find("reference"), .threads = 1};
    OK(rt_compile(&p, g, &spec, &err));
    for (int i = 0; i < p->n_steps; i++) {
        const rt_node *y = p->steps[i].node;
        if (y->op == rt__ops_f32[RT_OP_conv2d] || y->op == rt__ops_f32[RT_OP_conv2d_data] || y->op == rt__ops_f32[RT_OP_conv2d_weight])
            note_conv(p, y);
        if (y->op == rt__ops_f32[RT_OP_attention]) note_attention(p, y);
    }
    rt_program_free(p);
    free(wrt);
    free(gradients);
    rt_graph_free(g);
    rt_params_free(set);
    rt_net_free(net);
}

static void keep(const rt__cudnn_plan *plan)
{
    char *json = rt__cudnn_plan_json(plan, &cudnn);
    assert_non_null(json);
    assert_non_null(strstr(json, "cudnnVersion"));
    if (kept) fprintf(kept, "%s\n", json);
    free(json);
}

static void every_convolution(void **state)
{
    (void)state;
    static const char *const kinds[] = {"forward", "data", "weight"};
    static const struct {
        const char *name;
        rt_dtype type;
        bool true_float;
    } ways[] = {{"bf16", RT_BF16, false}, {"tf32", RT_F32, false}, {"f32", RT_F32, true}};
    assert_true(n_convs >= 20);
    int missing = 0;
    for (int i = 0; i < n_convs; i++)
        for (size_t k = 0; k < RT_COUNT(ways); k++) {
            rt__cudnn_conv v = convs[i];
            rt__cudnn_plan plan;
            v.type = ways[k].type;
            cudnn.true_float = ways[k].true_float;
            OK(rt__cudnn_plan_conv(&plan, &cudnn, &v, 0, &err));
            if (plan.plan) {
                keep(&plan);
            } else {
                print_error("no plan of %d: %s %s %lldx%lldx%lldx%lld to %lld, %lldx%lld\n", plan.passed, ways[k].name, kinds[v.kind],
                            (long long)v.x[0], (long long)v.x[1], (long long)v.x[2], (long long)v.x[3], (long long)v.w[0],
                            (long long)v.w[2], (long long)v.w[3]);
                missing++;
            }
            rt__cudnn_plan_free(&plan, &cudnn);
        }
    print_message("%d convolutions in %zu types\n", n_convs, RT_COUNT(ways));
    assert_int_equal(missing, 0);
}

/* Plans that may be tried: the second is another one, and the list ends. */
static void later_plans(void **state)
{
    (void)state;
    rt__cudnn_conv v = convs[0];
    v.type = RT_F32;
    cudnn.true_float = false;
    rt__cudnn_plan plans[2], last;
    for (int k = 0; k < 2; k++) OK(rt__cudnn_plan_conv(&plans[k], &cudnn, &v, k, &err));
    assert_non_null(plans[0].plan);
    assert_non_null(plans[1].plan);
    assert_true(plans[1].passed > plans[0].passed);
    OK(rt__cudnn_plan_conv(&last, &cudnn, &v, 1000, &err));
    assert_null(last.plan);
    for (int k = 0; k < 2; k++) rt__cudnn_plan_free(&plans[k], &cudnn);
    rt__cudnn_plan_free(&last, &cudnn);
}

/* TF32 is not true float: its plan for a large product of channels is another engine's. */
static void true_float(void **state)
{
    (void)state;
    rt__cudnn_conv v = {
        RT_CUDNN_FORWARD, RT_F32, true, {BATCH, 64, 16, 16}, {64, 64, 3, 3}, {BATCH, 64, 16, 16}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}};
    rt__cudnn_plan fast, exact;
    cudnn.true_float = false;
    OK(rt__cudnn_plan_conv(&fast, &cudnn, &v, 0, &err));
    cudnn.true_float = true;
    OK(rt__cudnn_plan_conv(&exact, &cudnn, &v, 0, &err));
    assert_non_null(fast.plan);
    assert_non_null(exact.plan);
    assert_true(exact.passed > fast.passed && exact.engine != fast.engine);
    rt__cudnn_plan_free(&fast, &cudnn);
    rt__cudnn_plan_free(&exact, &cudnn);
}

/* Of 1 and 3 channels, where TF32 weight gradients are offered first by an engine that adds in any order. */
static void the_same_bits(void **state)
{
    (void)state;
    rt__cudnn_conv v = {RT_CUDNN_WEIGHT, RT_F32, true, {64, 1, 28, 28}, {32, 1, 3, 3}, {64, 32, 28, 28}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}};
    rt__cudnn_plan plan;
    cudnn.true_float = false;
    OK(rt__cudnn_plan_conv(&plan, &cudnn, &v, 0, &err));
    assert_non_null(plan.plan);
    assert_int_not_equal(plan.engine, 20);
    rt__cudnn_plan_free(&plan, &cudnn);
}

static void every_attention(void **state)
{
    (void)state;
    const char *stub = getenv("CUDA_DRIVER_STUB");
    assert_true(n_attentions > 0);
    if (!stub || !dlopen(stub, RTLD_NOW | RTLD_GLOBAL) || !dlopen("libnvrtc.so.13", RTLD_NOW | RTLD_GLOBAL)) {
        printf("SKIP: attention is compiled by libnvrtc.so.13, which is not here\n");
        skip();
    }
    for (int i = 0; i < n_attentions; i++) {
        const rt__cudnn_attention *a = &attentions[i];
        rt__cudnn_plan plan;
        OK(rt__cudnn_plan_attention(&plan, &cudnn, a, 0, &err));
        assert_int_equal(plan.plan != NULL, a->d % 8 == 0);
        if (plan.plan) keep(&plan);
        rt__cudnn_plan_free(&plan, &cudnn);
    }
}

static void bad_properties(void **state)
{
    (void)state;
    rt__cudnn other = {.lib = &lib};
    err = (rt_error){0};
    assert_int_equal(rt__cudnn_properties(&other, "{}", 2, &err), RT_E_DEVICE);
    assert_non_null(strstr(err.text, "properties"));
}

/* First: what the other tests ask for. */
static void every_network(void **state)
{
    (void)state;
    struct dirent **all;
    int n = scandir(root, &all, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char folder[1400], file[1500];
        snprintf(folder, sizeof folder, "%s/%s", root, all[i]->d_name);
        snprintf(file, sizeof file, "%s/config.json", folder);
        if (access(file, R_OK) == 0) note_network(folder);
    }
    note_network("bench/small");
    note_network("bench/medium");
    for (int i = 0; i < n; i++) free(all[i]);
    free(all);
    print_message("%d convolutions, %d attentions\n", n_convs, n_attentions);
}

int main(void)
{
    const char *shared = getenv("RETORT_SHARED"), *keep_in = getenv("CUDNN_PLANS");
    err = (rt_error){0};
    if (rt__cuda_library_open(&lib, RT_CUDA_CUDNN, &err) != RT_OK) {
        printf("SKIP: %s\n", err.text);
        return 77;
    }
    char json[4096];
    FILE *f = fopen("tests/cuda/h100.json", "r");
    size_t size = f ? fread(json, 1, sizeof json, f) : 0;
    if (f) fclose(f);
    if (rt__cudnn_properties(&cudnn, json, size, &err) != RT_OK) {
        puts(err.text);
        return 1;
    }
    kept = keep_in ? fopen(keep_in, "w") : NULL;
    snprintf(root, sizeof root, "%s/golden/unet2d", shared ? shared : "../shared");
    if (access(root, R_OK) != 0) snprintf(root, sizeof root, "tests/data/golden/unet2d"); /* two networks are committed */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_network), cmocka_unit_test(every_convolution), cmocka_unit_test(later_plans),   cmocka_unit_test(true_float),
        cmocka_unit_test(the_same_bits), cmocka_unit_test(every_attention),   cmocka_unit_test(bad_properties)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
