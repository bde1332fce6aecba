/* unet_golden.c -- every UNet2DModel folder of the reference numbers: outputs, gradients of input and parameters, in both precisions and on every backend. */
#include "retort/format.h"
#include "retort/nn.h"
#include "retort/ops.h"

#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const cases[] = {"ddpm",    "grey28",     "classes",      "scaleshift", "resnetdown", "heads",
                                    "fourier", "noattn-mid", "resnetblocks", "options",    "sharded",    "legacy"};

static char root[1024];

static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

static double get(const void *data, rt_dtype dtype, int64_t i)
{
    return dtype == RT_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

/* max |got - want| / max |want|; NaN counts as infinite. */
static double error_of(const void *got, rt_dtype dtype, const float *want, int64_t n, double floor)
{
    double e = 0, scale = floor;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(get(got, dtype, i) - (double)want[i]);
        if (!(d <= e)) e = isnan(d) ? INFINITY : d;
        if (fabs((double)want[i]) > scale) scale = fabs((double)want[i]);
    }
    return scale > 0 ? e / scale : e;
}

static rt_tensor read_tensor(const rt_tensors *t, const char *name)
{
    rt_tensor x;
    int i = rt_tensors_find(t, name);
    if (i < 0) fail_msg("%s is missing", name);
    OK(rt_tensors_read(t, i, &x, &err));
    return x;
}

static void fill(rt_program *p, const rt_node *node, const rt_tensor *t)
{
    void *at = rt_program_data(p, node);
    rt_tensor cast;
    if (!at) return; /* nothing reads it */
    OK(rt_tensor_cast(&cast, t, rt_node_dtype(node), &err));
    memcpy(at, cast.data, (size_t)rt_tensor_count(t) * rt_dtype_size(cast.dtype));
    rt_tensor_free(&cast);
}

static void check_case(const char *name, rt_dtype real, const char *backend)
{
    char folder[1200], file[1300];
    snprintf(folder, sizeof folder, "%s/%s", root, name);
    snprintf(file, sizeof file, "%s/expected.safetensors", folder);
    rt_tensors *want;
    OK(rt_tensors_open(&want, file, &err));
    rt_tensor x = read_tensor(want, "sample"), t = read_tensor(want, "timestep"), out = read_tensor(want, "out"), y = {0}, target = {0};
    bool classes = rt_tensors_find(want, "class_labels") >= 0, gradients = rt_tensors_find(want, "target") >= 0;
    if (classes) y = read_tensor(want, "class_labels");
    if (gradients) target = read_tensor(want, "target");

    rt_net *net;
    OK(rt_net_open(&net, folder, &err));
    rt_params *set = rt_params_new(name, real);
    OK(rt_net_load(net, set, folder, NULL, NULL, &err));
    rt_graph *g = rt_graph_new(real);
    int64_t xs[4] = {RT_BATCH, x.shape[1], x.shape[2], x.shape[3]}, ys[4] = {RT_BATCH, out.shape[1], out.shape[2], out.shape[3]},
            one[1] = {RT_BATCH};
    rt_node *xn = rt_input(g, "x", real, 4, xs), *tn = rt_input(g, "t", real, 1, one),
            *yn = classes ? rt_input(g, "y", RT_I64, 1, one) : NULL;
    int n = rt_params_entries(set);
    rt_node **nodes = calloc((size_t)n + 3, sizeof *nodes), **wrt = calloc((size_t)n + 1, sizeof *wrt);
    rt_node *on = rt_net_apply(net, set, xn, tn, yn), *targetn = NULL;
    int n_out = 1;
    nodes[0] = on;
    if (gradients) {
        targetn = rt_input(g, "target", real, 4, ys);
        nodes[1] = rt_mse(on, targetn);
        for (int i = 0; i < n; i++) {
            const rt_entry *e = rt_params_entry(set, i);
            rt_push(g, "%s", "");
            rt_pop(g);
            wrt[i] = rt_param(g, set, e->name, e->rank, e->shape, e->init);
        }
        wrt[n] = xn;
        rt_grad(nodes[1], wrt, n + 1, nodes + 2);
        n_out = n + 3;
    }
    rt_program *p;
    OK(rt_compile(
        &p, g,
        &(rt_program_spec){.outputs = nodes, .n_outputs = n_out, .batch = x.shape[0], .backend = rt_backend_find(backend), .threads = 2},
        &err));
    fill(p, xn, &x);
    fill(p, tn, &t);
    if (classes) fill(p, yn, &y);
    if (gradients) fill(p, targetn, &target);
    OK(rt_run(p, &(rt_clock){0}, &err));

    double e = error_of(rt_program_data(p, on), real, out.data, rt_tensor_count(&out), 0), worst = 0;
    if (!(e < TOL_NET_FORWARD)) fail_msg("%s %s: output is off by %.3g", name, backend, e);
    if (gradients) {
        /* one scale for all: to_k.bias has no influence, its stored gradient is rounding dust */
        double largest = 0, norm2 = 0;
        for (int i = 0; i < n; i++) {
            const float *gv;
            char key[600];
            snprintf(key, sizeof key, "grad.%s", rt_params_entry(set, i)->name);
            if (rt_tensors_find(want, key) < 0) continue;
            rt_tensor gt = read_tensor(want, key);
            gv = gt.data;
            for (int64_t k = 0; k < rt_tensor_count(&gt); k++) largest = fmax(largest, fabs((double)gv[k]));
            rt_tensor_free(&gt);
        }
        for (int i = 0; i < n; i++) {
            const rt_entry *entry = rt_params_entry(set, i);
            const void *got = rt_program_data(p, nodes[2 + i]);
            if (!entry->frozen)
                for (int64_t k = 0; k < entry->count; k++) norm2 += get(got, real, k) * get(got, real, k);
            char key[600];
            snprintf(key, sizeof key, "grad.%s", entry->name);
            if (rt_tensors_find(want, key) < 0) continue;
            rt_tensor gt = read_tensor(want, key);
            bool dust = strstr(key, "to_k.bias") != NULL;
            e = error_of(got, real, gt.data, rt_tensor_count(&gt), dust ? largest : 0);
            if (!(e < (dust ? TOL_NET_DUST : TOL_NET_GRADIENT))) fail_msg("%s %s: %s is off by %.3g", name, backend, key, e);
            worst = fmax(worst, e);
            rt_tensor_free(&gt);
        }
        rt_tensor gs = read_tensor(want, "grad_sample"), norm = read_tensor(want, "flat_grad_norm"), loss = read_tensor(want, "loss");
        e = error_of(rt_program_data(p, nodes[2 + n]), real, gs.data, rt_tensor_count(&gs), 0);
        if (!(e < TOL_NET_GRADIENT)) fail_msg("%s %s: grad_sample is off by %.3g", name, backend, e);
        double want_norm = (double)*(float *)norm.data;
        if (!(fabs(sqrt(norm2) - want_norm) < TOL_NET_GRADIENT * want_norm))
            fail_msg("%s %s: gradient norm %g, not %g", name, backend, sqrt(norm2), want_norm);
        if (!(error_of(rt_program_data(p, nodes[1]), real, loss.data, 1, 0) < TOL_NET_FORWARD)) fail_msg("%s %s: loss", name, backend);
        rt_tensor_free(&gs);
        rt_tensor_free(&norm);
        rt_tensor_free(&loss);
    }
    print_message("%-14s %s %-9s output %.1e gradients %.1e\n", name, rt_dtype_name(real), backend,
                  error_of(rt_program_data(p, on), real, out.data, rt_tensor_count(&out), 0), worst);
    rt_program_free(p);
    rt_graph_free(g);
    rt_params_free(set);
    rt_net_free(net);
    rt_tensors_close(want);
    free(nodes);
    free(wrt);
    rt_tensor_free(&x);
    rt_tensor_free(&t);
    rt_tensor_free(&out);
    rt_tensor_free(&y);
    rt_tensor_free(&target);
}

static void check_all(rt_dtype real, const char *backend)
{
    int done = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char folder[1200];
        snprintf(folder, sizeof folder, "%s/%s/config.json", root, cases[i]);
        if (access(folder, R_OK) != 0) continue;
        check_case(cases[i], real, backend);
        done++;
    }
    assert_true(done >= 2);
}

static void double_precision(void **state)
{
    (void)state;
    check_all(RT_F64, "reference");
}

static void every_backend(void **state)
{
    (void)state;
    for (const char *const *name = rt_backend_names(); *name; name++)
        if (rt_backend_open(rt_backend_find(*name), NULL) == RT_OK) check_all(RT_F32, *name);
}

int main(void)
{
    const char *shared = getenv("RETORT_SHARED");
    snprintf(root, sizeof root, "%s/golden/unet2d", shared ? shared : "../shared");
    if (access(root, R_OK) != 0) snprintf(root, sizeof root, "tests/data/golden/unet2d"); /* two cases are committed */
    const struct CMUnitTest tests[] = {cmocka_unit_test(double_precision), cmocka_unit_test(every_backend)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
