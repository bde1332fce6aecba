/* cuda_runtime.c -- the CUDA backend on a fake of NVIDIA's libraries (tests/cuda/fake_cuda.h): updates of a small U-Net agree with the reference's; recordings
 * change no bit and no call of theirs is one that a driver would refuse; each call fails in turn, with a clear error and without a leak. With CUDA_REAL=1 the
 * first five are asked of a real device, with NVIDIA_TF32_OVERRIDE=0 for the bounds in float. */
#include "backend/cuda/cuda_device.h"
#include "cuda/fake_cuda.h"
#include "graph/program.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 2, SLICES = 2, UPDATES = 3, SIDE = 6, CHANNELS = 3, OUTPUT = BATCH * CHANNELS * SIDE * SIDE };

/* ---- a network with what a U-Net has: convolutions of each kind, norms, attention, a time embedding; and the update that trains it */

typedef struct world {
    rt_params *set;
    rt_graph *g;
    rt_node *x, *t, *out, *loss;
    rt_update update;
    rt_program *p;
} world;

static rt_node *weight(rt_graph *g, rt_params *set, const char *name, int rank, const int64_t *shape)
{
    return rt_param(g, set, name, rank, shape, RT_INIT_UNIFORM(0.3));
}

static rt_node *conv(world *w, rt_node *x, const char *name, int64_t out, int64_t side, const rt_conv *how)
{
    char bias[32];
    snprintf(bias, sizeof bias, "%s.bias", name);
    rt_node *k = weight(w->g, w->set, name, 4, (int64_t[]){out, rt_dim(x, 1), side, side});
    return rt_conv2d(x, k, weight(w->g, w->set, bias, 1, (int64_t[]){out}), how);
}

/* small: with as few operations as have each kind */
static void build(world *w, int64_t heads, bool small)
{
    enum { HIDDEN = 8 };
    static const rt_conv half = {{2, 2}, {0, 1, 0, 1}, {1, 1}, 1};
    *w = (world){.set = rt_params_new("network", RT_F32), .g = rt_graph_new(RT_F32)};
    w->x = rt_input(w->g, "x", RT_F32, 4, (int64_t[]){RT_BATCH, CHANNELS, SIDE, SIDE});
    w->t = rt_input(w->g, "t", RT_F32, 2, (int64_t[]){RT_BATCH, 5});
    rt_node *time =
        rt_linear(w->t, weight(w->g, w->set, "time", 2, (int64_t[]){HIDDEN, 5}), weight(w->g, w->set, "time.b", 1, (int64_t[]){HIDDEN}));
    rt_node *h = conv(w, w->x, "in", HIDDEN, 3, RT_CONV(1, 1));
    h = rt_add(h, rt_reshape(time, 4, (int64_t[]){RT_BATCH, HIDDEN, 1, 1}));
    rt_node *scale = weight(w->g, w->set, "norm", 1, (int64_t[]){HIDDEN}), *down = conv(w, h, "down", HIDDEN, 3, &half);
    rt_node *n = rt_silu(rt_group_norm(down, scale, scale, 2, 1e-5));
    rt_node *attended = rt_self_attention(conv(w, n, "qkv", 3 * HIDDEN, 1, RT_CONV(1, 0)), heads, 0.4);
    down = rt_add(down, conv(w, attended, "to", HIDDEN, 1, RT_CONV(1, 0)));
    rt_node *both = small ? attended : rt_concat((rt_node *[]){rt_upsample_nearest(down, 2), h}, 2, 1);
    w->out = conv(w, both, "out", CHANNELS, 3, RT_CONV(1, 1));
    w->loss = rt_expect(rt_norm2(rt_sub(w->out, rt_randn(w->g, "noise", 4, rt_node_shape(w->out)))));
    w->update = rt_minimise(w->loss, w->set,
                            &(rt_optimiser){.kind = RT_ADAM, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 1, .average = true});
}

static void end(world *w)
{
    rt_program_free(w->p);
    rt_graph_free(w->g);
    rt_params_free(w->set);
    *w = (world){0};
}

static rt_status compile(world *w, const char *backend, rt_dtype compute, rt_error *err)
{
    rt_node *outputs[] = {w->out, w->loss, w->update.grad_norm};
    return rt_compile(&w->p, w->g,
                      &(rt_program_spec){.outputs = outputs,
                                         .n_outputs = RT_COUNT(outputs),
                                         .updates = &w->update.node,
                                         .n_updates = 1,
                                         .batch = BATCH,
                                         .backend = rt_backend_find(backend),
                                         .threads = 1,
                                         .compute = compute},
                      err);
}

static void fill(rt_program *p, const rt_node *node, int salt)
{
    float *at = rt_program_data(p, node);
    for (int64_t i = 0, n = rt_program_count(p, node); i < n; i++) at[i] = (float)sin((double)(i * 7 + salt));
}

static rt_status train(world *w, int updates, rt_error *err)
{
    for (int u = 0; u < updates; u++) {
        *(float *)rt_program_data(w->p, w->update.lr) = 1e-2F;
        *(float *)rt_program_data(w->p, w->update.t) = (float)(u + 1);
        *(float *)rt_program_data(w->p, w->update.decay) = 0.5F;
        for (int s = 0; s < SLICES; s++) {
            fill(w->p, w->x, 10 * u + s);
            fill(w->p, w->t, 10 * u + s + 5);
            rt_clock clock = {.seed = 3,
                              .step = (uint32_t)u,
                              .first = (uint32_t)(s * BATCH),
                              .total = SLICES * BATCH,
                              .resumed = s > 0,
                              .more = s + 1 < SLICES};
            RT_TRY(rt_run(w->p, &clock, err));
        }
    }
    return RT_OK;
}

typedef struct result {
    float out[OUTPUT], loss, norm, *roles[RT_ROLES];
    int64_t extent[RT_ROLES];
} result;

/* Of a run that may not fail. */
static result run(int64_t heads, const char *backend, rt_dtype compute, bool profile, int updates)
{
    world w;
    result r = {0};
    rt_error err = {0};
    build(&w, heads, false);
    if (rt_params_init(w.set, 1, &err) != RT_OK || compile(&w, backend, compute, &err) != RT_OK) fail_msg("%s: %s", backend, err.text);
    rt_program_profile(w.p, profile);
    if (train(&w, updates, &err) != RT_OK) fail_msg("%s: %s", backend, err.text);
    memcpy(r.out, rt_program_data(w.p, w.out), sizeof r.out);
    r.loss = *(float *)rt_program_data(w.p, w.loss), r.norm = *(float *)rt_program_data(w.p, w.update.grad_norm);
    for (rt_role role = 0; role < RT_ROLES; role++) {
        if (!rt_params_has(w.set, role)) continue;
        r.extent[role] = rt_params_extent(w.set, role);
        r.roles[role] = malloc((size_t)r.extent[role] * sizeof(float));
        memcpy(r.roles[role], rt_params_data(w.set, role), (size_t)r.extent[role] * sizeof(float));
    }
    end(&w);
    return r;
}

static void result_free(result *r)
{
    for (int role = 0; role < RT_ROLES; role++) free(r->roles[role]);
}

static double distance(const float *a, const float *b, int64_t n)
{
    double d = 0, top = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs((double)a[i] - (double)b[i]);
        d = e < INFINITY ? fmax(d, e) : INFINITY;
        top = fmax(top, fabs((double)b[i]));
    }
    return d / top;
}

/* ---- */

static bool on_device;

static int begin(void **state)
{
    (void)state;
    if (on_device) return 0;
    fake_fail(0, false);
    fake_limit(0);
    fake_idle(false);
    *fake_counted() = (fake_counts){0};
    fake_cuda_use();
    return 0;
}

static void agrees(void **state)
{
    (void)state;
    static const struct {
        int64_t heads;
        rt_dtype compute;
        double out, moments;
    } cases[] = {{2, RT_F32, 1e-5, 1e-5}, {1, RT_F32, 1e-5, 1e-5}, {2, RT_BF16, 0.05, 0.05}, {1, RT_BF16, 0.05, 0.05}};
    for (size_t k = 0; k < RT_COUNT(cases); k++) {
        result want = run(cases[k].heads, "reference", RT_F32, false, 1), got = run(cases[k].heads, "cuda", cases[k].compute, false, 1);
        print_message("%d heads, %s: out %.1e, loss %.1e, norm %.1e, moments %.1e\n", (int)cases[k].heads, rt_dtype_name(cases[k].compute),
                      distance(got.out, want.out, OUTPUT), distance(&got.loss, &want.loss, 1), distance(&got.norm, &want.norm, 1),
                      distance(got.roles[RT_MOMENT1], want.roles[RT_MOMENT1], want.extent[RT_MOMENT1]));
        assert_true(distance(got.out, want.out, OUTPUT) < cases[k].out);
        assert_true(distance(&got.loss, &want.loss, 1) < cases[k].out);
        assert_true(distance(&got.norm, &want.norm, 1) < cases[k].out);
        assert_true(distance(got.roles[RT_MOMENT1], want.roles[RT_MOMENT1], want.extent[RT_MOMENT1]) < cases[k].moments);
        assert_true(cases[k].compute == RT_BF16 || distance(got.roles[RT_AVERAGE], want.roles[RT_AVERAGE], want.extent[RT_AVERAGE]) < 1e-2);
        result_free(&want);
        result_free(&got);
    }
    assert_true(on_device || (fake_counted()->operations > 0 && fake_counted()->products > 0 && fake_counted()->launches > 0));
}

/* A program that trains nothing keeps what it converts from weights until they change; its derivative along a direction. */
static void without_updates(void **state)
{
    (void)state;
    static const struct {
        int64_t heads;
        rt_dtype compute;
        double bound;
    } cases[] = {{2, RT_F32, 1e-5}, {1, RT_BF16, 0.05}};
    for (size_t k = 0; k < RT_COUNT(cases); k++) {
        float values[2][3][2][OUTPUT]; /* by backend, run, output */
        for (int b = 0; b < 2; b++) {
            rt_error err = {0};
            world w;
            build(&w, cases[k].heads, false);
            rt_node *dx = rt_input(w.g, "dx", RT_F32, 4, rt_node_shape(w.x)), *outputs[2] = {w.out, rt_jvp(w.out, &w.x, &dx, 1)};
            rt_program_spec spec = {.outputs = outputs,
                                    .n_outputs = 2,
                                    .batch = BATCH,
                                    .backend = rt_backend_find(b ? "cuda" : "reference"),
                                    .threads = 1,
                                    .compute = b ? cases[k].compute : RT_F32};
            if (rt_params_init(w.set, 1, &err) != RT_OK || rt_compile(&w.p, w.g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
            for (int run = 0; run < 3; run++) { /* the last one with other weights */
                float *weights = run == 2 ? rt_params_data(w.set, RT_VALUE) : NULL;
                for (int64_t i = 0; weights && i < rt_params_extent(w.set, RT_VALUE); i++) weights[i] *= -0.5F;
                if (weights) rt_params_touch(w.set);
                fill(w.p, w.x, run);
                fill(w.p, w.t, run + 5);
                fill(w.p, dx, run + 9);
                if (rt_run(w.p, &(rt_clock){0}, &err) != RT_OK) fail_msg("%s", err.text);
                for (int i = 0; i < 2; i++) memcpy(values[b][run][i], rt_program_data(w.p, outputs[i]), sizeof values[b][run][i]);
            }
            end(&w);
        }
        for (int run = 0; run < 3; run++)
            for (int i = 0; i < 2; i++) {
                double d = distance(values[1][run][i], values[0][run][i], OUTPUT);
                if (!(d < cases[k].bound)) fail_msg("%s, run %d, output %d: %.2e", rt_dtype_name(cases[k].compute), run, i, d);
            }
    }
}

/* A set that trails another, both on the device. */
static void trails(void **state)
{
    (void)state;
    enum { OWN, LEADER, BOTH };
    rt_error err = {0};
    world w[BOTH];
    for (int k = 0; k < BOTH; k++) {
        build(&w[k], 1, true);
        if (rt_params_init(w[k].set, 1 + (uint64_t)k, &err) != RT_OK || compile(&w[k], "cuda", RT_F32, &err) != RT_OK)
            fail_msg("%s", err.text);
    }
    int64_t n = rt_params_extent(w[OWN].set, RT_VALUE);
    float *want = malloc((size_t)n * sizeof *want);
    const float *own = rt_params_data(w[OWN].set, RT_VALUE), *leader = rt_params_data(w[LEADER].set, RT_VALUE);
    for (int64_t i = 0; i < n; i++) want[i] = 0.75F * own[i] + 0.25F * leader[i];
    if (rt_params_trail(w[OWN].set, w[LEADER].set, 0.75, &err) != RT_OK) fail_msg("%s", err.text);
    assert_true(distance(rt_params_data(w[OWN].set, RT_VALUE), want, n) < 1e-6);
    free(want);
    for (int k = 0; k < BOTH; k++) end(&w[k]);
}

/* What a run leaves is the next one's input, and is kept in a set, without a way by the host. */
static void values_stay(void **state)
{
    (void)state;
    enum { WIDE = 5, SIZE = BATCH * WIDE, RUNS = 4 };
    rt_error err = {0};
    int index;
    rt_params *kept = rt_params_new("kept", RT_F32);
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *x = rt_input(g, "x", RT_F32, 2, (int64_t[]){RT_BATCH, WIDE}), *y = rt_offset(rt_scale(x, 0.5), 1);
    rt_program_spec spec = {.outputs = &y, .n_outputs = 1, .batch = BATCH, .backend = rt_backend_find("cuda"), .threads = 1};
    rt_program *p;
    if (rt_params_add(kept, "y", 2, (int64_t[]){RUNS, SIZE}, RT_INIT_CONST(0), &index, &err) != RT_OK ||
        rt_compile(&p, g, &spec, &err) != RT_OK)
        fail_msg("%s", err.text);
    rt_program_hold(p, x);
    rt_program_hold(p, y);
    fill(p, x, 1);
    float now[SIZE];
    memcpy(now, rt_program_data(p, x), sizeof now);
    rt_program_push(p, x);
    for (int k = 0; k < RUNS; k++) {
        if (rt_run(p, &(rt_clock){0}, &err) != RT_OK || rt_program_store(p, y, SIZE, kept, k * SIZE, &err) != RT_OK)
            fail_msg("%s", err.text);
        rt_program_feed(p, x, y);
    }
    if (rt_program_pull(p, y, &err) != RT_OK) fail_msg("%s", err.text);
    const float *states = rt_params_data(kept, RT_VALUE);
    for (int k = 0; k < RUNS; k++) {
        for (int i = 0; i < SIZE; i++) now[i] = 0.5F * now[i] + 1;
        assert_true(distance(states + k * SIZE, now, SIZE) < 1e-6);
    }
    assert_memory_equal(rt_program_data(p, y), states + (RUNS - 1) * SIZE, sizeof now);
    assert_true(on_device || (fake_counted()->replays > 0 && fake_counted()->broken == 0));
    rt_program_free(p);
    rt_graph_free(g);
    rt_params_free(kept);
}

/* Replays are the runs that they recorded, with other inputs, another clock and the weights of the update before. */
static void recordings(void **state)
{
    (void)state;
    const fake_counts *n = fake_counted();
    result plain = run(1, "cuda", RT_BF16, true, UPDATES);
    assert_int_equal(n->captures, 0);
    long launches = n->launches;
    result replayed = run(1, "cuda", RT_BF16, false, UPDATES);
    if (!on_device) {
        assert_int_equal(n->captures, SLICES); /* a slice that starts a batch, one that ends it */
        assert_int_equal(n->replays, SLICES * (UPDATES - 1));
        assert_int_equal(n->broken, 0);
        assert_int_equal(n->launches, 2 * launches);
    }
    assert_memory_equal(plain.out, replayed.out, sizeof plain.out);
    for (int role = 0; role < RT_ROLES; role++)
        if (plain.roles[role]) assert_memory_equal(plain.roles[role], replayed.roles[role], (size_t)plain.extent[role] * sizeof(float));
    result_free(&plain);
    result_free(&replayed);
}

/* All that a command does, in turn: opens, compiles, runs, records, replays, reads back, closes. */
static rt_status everything(rt_error *err)
{
    world w;
    build(&w, 1, true);
    rt_status status = rt_params_init(w.set, 1, err);
    if (status == RT_OK) status = compile(&w, "cuda", RT_BF16, err);
    if (status == RT_OK) status = train(&w, 2, err);
    if (status == RT_OK) status = rt_params_fetch(w.set, RT_VALUE, err);
    if (status == RT_OK && !rt_program_data(w.p, w.out)) status = rt_error_set(err, RT_E_INTERNAL, "no output");
    end(&w);
    rt__cuda_close();
    return status;
}

static bool gives_back(const char *name)
{
    return strstr(name, "Free") || strstr(name, "Destroy") || strstr(name, "Release") || strstr(name, "Unload") ||
           !strcmp(name, "cuCtxSetCurrent");
}

static void each_call_fails(void **state)
{
    (void)state;
    rt_error err = {0};
    fake_idle(true);
    fake_fail(0, false);
    if (everything(&err) != RT_OK) fail_msg("%s", err.text);
    long calls = fake_calls(), seen[3] = {0};
    assert_int_equal(fake_live(), 0);
    assert_true(calls > 1000);
    for (int memory = 0; memory < 2; memory++)
        for (long k = 1; k <= calls; k++) {
            rt__cuda_pretend(fake_cuda(), fake_module());
            fake_fail(k, memory);
            err = (rt_error){0};
            rt_status status = everything(&err);
            const char *name = fake_failed();
            fake_fail(0, false);
            if (!name) fail_msg("call %ld was not made", k);
            if (fake_live() != 0) fail_msg("%s, call %ld: %ld things were not given back", name, k, fake_live());
            if (status == RT_OK && !gives_back(name)) fail_msg("%s, call %ld: nobody said that it failed", name, k);
            if (status != RT_OK && status != RT_E_DEVICE && status != RT_E_MEMORY) fail_msg("%s: status %d: %s", name, status, err.text);
            if (status != RT_OK && !strchr(err.text, ';')) fail_msg("%s: no remedy: %s", name, err.text);
            if (status == RT_E_DEVICE && !strstr(err.text, name) && !strstr(err.text, "CUDA_ERROR") && !strstr(err.text, "cuDNN") &&
                !strstr(err.text, "cuBLASLt"))
                fail_msg("%s: its name is not in: %s", name, err.text);
            seen[status == RT_OK ? 0 : status == RT_E_DEVICE ? 1 : 2]++;
        }
    print_message("%ld calls: %ld errors of the device, %ld of memory, %ld while giving back\n", calls, seen[1], seen[2], seen[0]);
    assert_true(seen[1] > calls / 2 && seen[2] > 0);
}

/* ---- what is missing */

static void expect(rt_status status, const rt_error *err, rt_status want, const char *const *words)
{
    if (status != want) fail_msg("status %d, not %d: %s", status, want, err->text);
    for (; *words; words++)
        if (!strstr(err->text, *words)) fail_msg("'%s' is not in: %s", *words, err->text);
}
#define EXPECT(status, want, ...) expect(status, &err, want, (const char *const[]){__VA_ARGS__, NULL})

/* For sets, then for the program: until there is enough. */
static void memory_is_out(void **state)
{
    (void)state;
    bool program = false, enough = false;
    fake_idle(true);
    for (size_t limit = 4 << 10; !enough; limit += 4 << 10) {
        rt_error err = {0};
        world w;
        build(&w, 1, true);
        assert_int_equal(rt_params_init(w.set, 1, &err), RT_OK);
        fake_limit(limit);
        rt_status status = compile(&w, "cuda", RT_F32, &err);
        enough = status == RT_OK;
        if (!enough) EXPECT(status, RT_E_MEMORY, "out of memory on the device", "MiB", "free", "; use a smaller");
        program |= strstr(err.text, "the program needs") && strstr(err.text, "smaller batch");
        end(&w);
        rt__cuda_close();
        assert_int_equal(fake_live(), 0);
    }
    assert_true(program);
}

static size_t old_cudnn(void) { return 80907; }
static CUresult no_devices(int *count)
{
    *count = 0;
    return CUDA_SUCCESS;
}
static CUresult an_old_device(int *value, CUdevice_attribute what, CUdevice device)
{
    (void)device;
    *value = what == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 7 : 5;
    return CUDA_SUCCESS;
}

static void what_is_missing(void **state)
{
    (void)state;
    const rt_backend *cuda = rt_backend_find("cuda");
    rt__cuda_library lib = *fake_cuda();
    rt_error err = {0};
    assert_non_null(cuda);
    assert_string_not_equal(rt_backend_name(rt_backend_find(NULL)), "cuda"); /* never unasked */
    rt__cuda_pretend(fake_cuda(), NULL);
    EXPECT(rt_backend_open(cuda, &err), RT_E_DEVICE, "no kernels for CUDA", "--backend");
    err = (rt_error){0};
    lib.cudnnGetVersion = old_cudnn;
    rt__cuda_pretend(&lib, fake_module());
    EXPECT(rt_backend_open(cuda, &err), RT_E_DEVICE, "cuDNN 8.9 is too old", "9.0", "install");
    err = (rt_error){0};
    lib = *fake_cuda();
    lib.cuDeviceGetCount = no_devices;
    rt__cuda_pretend(&lib, fake_module());
    EXPECT(rt_backend_open(cuda, &err), RT_E_DEVICE, "no device that works", "CUDA_VISIBLE_DEVICES", "--backend");
    err = (rt_error){0};
    lib = *fake_cuda();
    lib.cuDeviceGetAttribute = an_old_device;
    rt__cuda_pretend(&lib, fake_module());
    EXPECT(rt_backend_open(cuda, &err), RT_E_DEVICE, "capability 7.5", "8.0");
    assert_string_equal(rt_backend_version(cuda), "no device");
    rt__cuda_pretend(fake_cuda(), fake_module());
    assert_int_equal(rt_backend_open(cuda, &err), RT_OK);
    assert_string_equal(rt_backend_version(cuda), "fake, driver 13.0, cuBLASLt 13.1.0, cuDNN 9.19.0");
    rt__cuda_close();
    assert_int_equal(fake_live(), 0);
}

static void a_library_that_is_not_there(void **state)
{
    (void)state;
    rt__cuda_library lib;
    rt_error err = {0};
    rt_status status = rt__cuda_library_open(&lib, RT_CUDA_DRIVER, &err);
    if (status == RT_OK) {
        print_message("this machine has NVIDIA's driver\n");
        skip();
    }
    EXPECT(status, RT_E_DEVICE, "libcuda.so.1", "LD_LIBRARY_PATH", "install NVIDIA's driver", "--backend");
}

int main(void)
{
    on_device = getenv("CUDA_REAL") != NULL;
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(agrees, begin),
                                       cmocka_unit_test_setup(without_updates, begin),
                                       cmocka_unit_test_setup(trails, begin),
                                       cmocka_unit_test_setup(values_stay, begin),
                                       cmocka_unit_test_setup(recordings, begin),
                                       cmocka_unit_test_setup(each_call_fails, begin),
                                       cmocka_unit_test_setup(memory_is_out, begin),
                                       cmocka_unit_test_setup(what_is_missing, begin),
                                       cmocka_unit_test_setup(a_library_that_is_not_there, begin)};
    const struct CMUnitTest of_a_device[] = {tests[0], tests[1], tests[2], tests[3], tests[4]};
    return on_device ? cmocka_run_group_tests(of_a_device, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
