/* optim_golden.c -- updates against PyTorch's optimisers, clipping and averages: every case of optim.json that Retort offers, in float and double.
 * The others are named in `not_offered`, and must be in the file. */
#include "golden/golden.h"
#include "retort/ops.h"
#include "tolerances.h"

static const char *const not_offered[] = {"adam_amsgrad", "radam_decoupled", "sgd_nesterov", "sgd_dampened"};

static double bound_of(rt_dtype dtype) { return dtype == RT_F32 ? TOL_OPTIMISER_SINGLE : TOL_OPTIMISER_DOUBLE; }
static double option(const json_t *h, const char *key) { return json_number_value(json_object_get(h, key)); }

/* A set trained on sum(p g): its gradients are whatever is written into the inputs g. */
typedef struct bench {
    rt_params *set;
    rt_graph *g;
    rt_node *p[4], *grad[4];
    int n;
    rt_update update;
    rt_program *program;
    rt_dtype dtype;
} bench;

static bench bench_new(rt_dtype dtype, int n, const rt_tensor *like, const bool *frozen, const rt_optimiser *opt)
{
    bench b = {.set = rt_params_new("p", dtype), .g = rt_graph_new(dtype), .n = n, .dtype = dtype};
    rt_node *loss = NULL;
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%d", i);
        b.p[i] = (frozen && frozen[i] ? rt_param_frozen : rt_param)(b.g, b.set, name, like[i].rank, like[i].shape, RT_INIT_CONST(0));
        snprintf(name, sizeof name, "g%d", i);
        b.grad[i] = rt_input(b.g, name, dtype, like[i].rank, like[i].shape);
        rt_node *part = rt_sum(rt_mul(b.p[i], b.grad[i]), RT_ALL_AXES, false);
        loss = loss ? rt_add(loss, part) : part;
    }
    b.update = rt_minimise(loss, b.set, opt);
    rt_error err = {0};
    rt_program_spec spec = {
        .outputs = &b.update.grad_norm, .n_outputs = 1, .updates = &b.update.node, .n_updates = 1, .batch = 1, .threads = 2};
    if (rt_compile(&b.program, b.g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
    return b;
}

static void bench_free(bench *b)
{
    rt_program_free(b->program);
    rt_graph_free(b->g);
    rt_params_free(b->set);
}

static void *entry(bench *b, rt_role role, int i)
{
    return (char *)rt_params_data(b->set, role) + (size_t)rt_params_entry(b->set, i)->offset * rt_dtype_size(b->dtype);
}

static void set_values(bench *b, int i, const double *v, int64_t n)
{
    golden_store(entry(b, RT_VALUE, i), b->dtype, v, n);
    rt_params_touch(b->set);
}

static void step(bench *b, double lr, double t, double decay)
{
    rt_error err = {0};
    golden_store(rt_program_data(b->program, b->update.lr), b->dtype, &lr, 1);
    golden_store(rt_program_data(b->program, b->update.t), b->dtype, &t, 1);
    golden_store(rt_program_data(b->program, b->update.decay), b->dtype, &decay, 1);
    if (rt_run(b->program, &(rt_clock){.step = (uint32_t)t}, &err) != RT_OK) fail_msg("%s", err.text);
}

static int check(const char *name, const char *what, const void *got, rt_dtype dtype, const double *want, int64_t n)
{
    double e = golden_distance(got, dtype, want, n);
    if (e <= bound_of(dtype)) return 0;
    print_error("%s in %s, %s: %.2e\n", name, rt_dtype_name(dtype), what, e);
    return 1;
}

static int run_optimiser(const rt_tensors *file, const json_t *spec, rt_dtype dtype)
{
    const char *name = json_string_value(json_object_get(spec, "name")), *kind = json_string_value(json_object_get(spec, "optimiser"));
    const json_t *h = json_object_get(spec, "hyperparameters"), *betas = json_object_get(h, "betas");
    rt_optimiser opt = {.kind = !strcmp(kind, "Adam")    ? RT_ADAM
                                : !strcmp(kind, "AdamW") ? RT_ADAMW
                                : !strcmp(kind, "RAdam") ? RT_RADAM
                                                         : RT_SGD};
    if (opt.kind == RT_SGD) assert_string_equal(kind, "SGD");
    opt.beta1 = betas ? json_number_value(json_array_get(betas, 0)) : option(h, "momentum");
    opt.beta2 = betas ? json_number_value(json_array_get(betas, 1)) : 0;
    opt.eps = option(h, "eps");
    opt.weight_decay = option(h, "weight_decay");
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s.", name);
    rt_tensor p0 = golden_tensor(file, prefix, "p0", NULL, false), g = golden_tensor(file, prefix, "g", NULL, false);
    rt_tensor p = golden_tensor(file, prefix, "p", NULL, false);
    int64_t n = rt_tensor_count(&p0);
    bench b = bench_new(dtype, 1, &p0, NULL, &opt);
    set_values(&b, 0, p0.data, n);
    int failures = 0;
    for (int64_t k = 0; k < g.shape[0]; k++) {
        golden_store(rt_program_data(b.program, b.grad[0]), dtype, (const double *)g.data + k * n, n);
        step(&b, option(h, "lr"), (double)(k + 1), 0);
        failures += check(name, "parameters", entry(&b, RT_VALUE, 0), dtype, (const double *)p.data + (k + 1) * n, n);
    }
    static const struct {
        const char *key;
        rt_role role;
    } states[] = {{"state.exp_avg", RT_MOMENT1}, {"state.exp_avg_sq", RT_MOMENT2}, {"state.momentum_buffer", RT_MOMENT1}};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        rt_tensor want = golden_tensor(file, prefix, states[i].key, NULL, true);
        if (want.rank < 0) continue;
        failures += check(name, states[i].key, entry(&b, states[i].role, 0), dtype, want.data, n);
        rt_tensor_free(&want);
    }
    bench_free(&b);
    rt_tensor_free(&p0);
    rt_tensor_free(&g);
    rt_tensor_free(&p);
    return failures;
}

/* One step of plain descent with rate 1 from 0 leaves minus the clipped gradient. */
static int run_clip(const rt_tensors *file, const json_t *spec, rt_dtype dtype)
{
    const char *name = json_string_value(json_object_get(spec, "name"));
    char prefix[64], key[32];
    snprintf(prefix, sizeof prefix, "%s.", name);
    rt_tensor g[3];
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "g%d", i);
        g[i] = golden_tensor(file, prefix, key, NULL, false);
    }
    rt_optimiser opt = {.kind = RT_SGD, .clip = option(json_object_get(spec, "hyperparameters"), "max_norm")};
    bench b = bench_new(dtype, 3, g, NULL, &opt);
    for (int i = 0; i < 3; i++) golden_store(rt_program_data(b.program, b.grad[i]), dtype, g[i].data, rt_tensor_count(&g[i]));
    step(&b, 1, 1, 0);
    int failures = 0;
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "clipped%d", i);
        rt_tensor want = golden_tensor(file, prefix, key, NULL, false);
        int64_t n = rt_tensor_count(&want);
        for (int64_t j = 0; j < n; j++) ((double *)want.data)[j] *= -1;
        failures += check(name, key, entry(&b, RT_VALUE, i), dtype, want.data, n);
        rt_tensor_free(&want);
        rt_tensor_free(&g[i]);
    }
    rt_tensor norm = golden_tensor(file, prefix, "total_norm", NULL, false);
    failures += check(name, "total_norm", rt_program_data(b.program, b.update.grad_norm), dtype, norm.data, 1);
    rt_tensor_free(&norm);
    bench_free(&b);
    return failures;
}

/* Rate 0: the values are what the test writes; the average follows with the decays of the file, whatever schedule made them. */
static int run_average(const rt_tensors *file, const json_t *spec, rt_dtype dtype)
{
    const char *name = json_string_value(json_object_get(spec, "name"));
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s.", name);
    rt_tensor params = golden_tensor(file, prefix, "params", NULL, false), ema = golden_tensor(file, prefix, "ema", NULL, false);
    rt_tensor decay = golden_tensor(file, prefix, "decay", NULL, false), like = {.rank = 2, .shape = {params.shape[1], params.shape[2]}};
    int64_t n = like.shape[0] * like.shape[1];
    bench b = bench_new(dtype, 1, &like, NULL, &(rt_optimiser){.kind = RT_SGD, .average = true});
    golden_store(entry(&b, RT_AVERAGE, 0), dtype, ema.data, n);
    int failures = 0;
    for (int64_t k = 1; k < params.shape[0]; k++) {
        set_values(&b, 0, (const double *)params.data + k * n, n);
        step(&b, 0, (double)k, ((const double *)decay.data)[k - 1]);
        failures += check(name, "average", entry(&b, RT_AVERAGE, 0), dtype, (const double *)ema.data + k * n, n);
    }
    bench_free(&b);
    rt_tensor_free(&params);
    rt_tensor_free(&ema);
    rt_tensor_free(&decay);
    return failures;
}

static void test_cases(void **state)
{
    (void)state;
    json_t *list = golden_json(GOLDEN "optim.json");
    rt_tensors *file = golden_open(GOLDEN "optim.safetensors");
    int failures = 0, skipped = 0, done = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *spec = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(spec, "name"));
        bool offered = true;
        for (size_t k = 0; k < sizeof not_offered / sizeof *not_offered; k++) offered &= strcmp(name, not_offered[k]) != 0;
        if (!offered) {
            print_message("not offered: %s\n", name);
            skipped++;
            continue;
        }
        const char *op = json_string_value(json_object_get(spec, "op"));
        int (*run)(const rt_tensors *, const json_t *, rt_dtype) = !op ? run_optimiser : strstr(op, "clip") ? run_clip : run_average;
        failures += run(file, spec, RT_F64) + run(file, spec, RT_F32);
        done++;
    }
    rt_tensors_close(file);
    json_decref(list);
    assert_int_equal(skipped, sizeof not_offered / sizeof *not_offered);
    assert_int_equal(done, 14);
    assert_int_equal(failures, 0);
}

/* A frozen entry between trained ones: it keeps its value, its average follows, and the gradients still meet their entries. */
static void test_frozen(void **state)
{
    (void)state;
    const rt_tensor like[] = {{.rank = 1, .shape = {3}}, {.rank = 1, .shape = {3}}, {.rank = 1, .shape = {3}}};
    bench b = bench_new(RT_F64, 3, like, (const bool[]){false, true, false}, &(rt_optimiser){.kind = RT_SGD, .average = true});
    for (int i = 0; i < 3; i++) {
        set_values(&b, i, (double[]){10 * i + 1, 10 * i + 2, 10 * i + 3}, 3);
        golden_store(rt_program_data(b.program, b.grad[i]), RT_F64, (double[]){i + 1, i + 1, i + 1}, 3);
    }
    step(&b, 0.5, 1, 0.75);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            double want = 10 * i + j + 1 - (i == 1 ? 0 : 0.5 * (i + 1));
            assert_true(fabs(((double *)entry(&b, RT_VALUE, i))[j] - want) < 1e-12);
            assert_true(fabs(((double *)entry(&b, RT_AVERAGE, i))[j] - 0.25 * want) < 1e-12);
        }
    assert_true(fabs(*(double *)rt_program_data(b.program, b.update.grad_norm) - sqrt(3 * (1 + 9))) < 1e-12);
    bench_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_frozen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
