/* cuda_kernels.c -- own kernels of the CUDA backend on the processor (tests/cuda/emulate.h) at the sizes of networks, where blocks have many threads, sums
 * are split and images lie in channels last; each against the reference in double, and in several orders of blocks and threads, whose bits are equal.
 * The walk has every row at small sizes. */
#include "cuda/emulated.h"
#include "graph/program.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 2, OUTPUTS = 6, ORDERS = 3 };

static bool is_input(const rt_node *n) { return n->op == rt__ops_f32[RT_OP_input]; }

/* ---- a case: a value and its gradients, or the value alone */

typedef struct specimen {
    const char *name;
    rt_node *(*make)(rt_graph *g);
    bool last;     /* images enter in channels last */
    double offset; /* added to input "x" */
    bool bf16;     /* operands stored in bf16 */
} specimen;

static rt_node *norm_of(rt_graph *g, int64_t c, int64_t side, int groups, bool silu, bool shift)
{
    rt_node *x = RT_SAMPLE_IN(g, "x", RT_BATCH, c, side, side), *w = RT_SAMPLE_IN(g, "w", c), *b = RT_SAMPLE_IN(g, "b", c);
    if (shift) x = rt_add(x, RT_SAMPLE_IN(g, "t", RT_BATCH, c, 1, 1));
    rt_node *y = rt_group_norm(x, w, b, groups, 1e-5);
    return silu ? rt_silu(y) : y;
}
static rt_node *norm_32(rt_graph *g) { return norm_of(g, 32, 14, 8, true, true); }
static rt_node *norm_192(rt_graph *g) { return norm_of(g, 192, 8, 32, true, false); }
static rt_node *norm_36(rt_graph *g) { return norm_of(g, 36, 7, 4, false, false); }
static rt_node *norm_one_group(rt_graph *g) { return norm_of(g, 320, 3, 1, false, false); }
static rt_node *bias(rt_graph *g) { return rt_sum(RT_SAMPLE_IN(g, "x", RT_BATCH, 48, 40, 33), 1u << 0 | 1u << 2 | 1u << 3, false); }
static rt_node *whole(rt_graph *g) { return rt_sum(RT_SAMPLE_IN(g, "x", RT_BATCH, 3, 70, 71), RT_ALL_AXES, false); }
static rt_node *rows(rt_graph *g) { return rt_sum(RT_SAMPLE_IN(g, "x", RT_BATCH, 5, 3001), 1u << 2, false); }
static rt_node *columns(rt_graph *g) { return rt_sum(RT_SAMPLE_IN(g, "x", 4100, 37), 1u << 0, false); }
static rt_node *extreme(rt_graph *g)
{
    return rt_add(rt_max(RT_SAMPLE_IN(g, "x", RT_BATCH, 700), 2, false), rt_min(RT_SAMPLE_IN(g, "z", RT_BATCH, 700), 2, false));
}
static rt_node *turned(rt_graph *g) { return rt_permute(RT_SAMPLE_IN(g, "x", RT_BATCH, 67, 45), (int[]){0, 2, 1}); }
static rt_node *turned_twice(rt_graph *g) { return rt_permute(RT_SAMPLE_IN(g, "x", RT_BATCH, 5, 6, 7, 8), (int[]){0, 3, 2, 1, 4}); }
static rt_node *probabilities(rt_graph *g) { return rt_softmax(RT_SAMPLE_IN(g, "x", RT_BATCH, 3, 199), -1); }
static rt_node *log_probabilities(rt_graph *g) { return rt_log_softmax(RT_SAMPLE_IN(g, "x", RT_BATCH, 9, 10), -1); }
static rt_node *lookup(rt_graph *g)
{
    return rt_index_select(RT_SAMPLE_IN(g, "x", 11, 96), 0, rt_input(g, "i", RT_I64, 1, (int64_t[]){RT_BATCH}));
}
static rt_node *broadcasting(rt_graph *g)
{
    rt_node *x = RT_SAMPLE_IN(g, "x", RT_BATCH, 24, 6, 10);
    return rt_mul(rt_add(x, RT_SAMPLE_IN(g, "t", RT_BATCH, 24, 1, 1)), RT_SAMPLE_IN(g, "w", 24, 1, 1));
}
/* What lies between the convolutions of a U-Net. */
static rt_node *between(rt_graph *g)
{
    rt_node *x = RT_SAMPLE_IN(g, "x", RT_BATCH, 16, 8, 8), *w = RT_SAMPLE_IN(g, "w", 16), *b = RT_SAMPLE_IN(g, "b", 16);
    rt_node *h = rt_silu(rt_group_norm(x, w, b, 4, 1e-5));
    rt_node *half = rt_avg_pool2d(h, &(rt_pool){.kernel = {2, 2}, .stride = {2, 2}});
    return rt_mul(rt_add(rt_upsample_nearest(half, 2), x), rt_scale(h, 0.5));
}

/* Points and rays are draws, no inputs: they have no gradient. Some lie beyond the box, or miss it. */
static rt_node *at_points(rt_graph *g)
{
    return rt_trilinear(RT_SAMPLE_IN(g, "x", 9, 10, 11, 3), rt_scale(rt_randn(g, "points", 3, (int64_t[]){RT_BATCH, 700, 3}), 0.8));
}
static rt_node *along(rt_graph *g, rt_node *grid, int64_t rays, int samples)
{
    rt_node *from = rt_scale(rt_offset(rt_rand(g, "from", 3, (int64_t[]){RT_BATCH, rays, 3}), -0.5), 0.8);
    rt_node *to = rt_scale(rt_randn(g, "to", 3, (int64_t[]){RT_BATCH, rays, 3}), 0.2),
            *xi = rt_rand(g, "xi", 3, (int64_t[]){RT_BATCH, rays, 1});
    rt_node *near = rt_rand(g, "near", 3, (int64_t[]){RT_BATCH, rays, 1}),
            *far = rt_scale(rt_rand(g, "far", 3, (int64_t[]){RT_BATCH, rays, 1}), 4);
    rt_node *which = rt_dim(grid, 0) > 1 ? rt_randint(g, "which", 1, (int64_t[]){RT_BATCH}, rt_dim(grid, 0)) : NULL;
    return rt_render(grid, rt_concat((rt_node *[]){from, to, near, far, xi}, 5, 2), which, samples, -1);
}
static rt_node *along_rays(rt_graph *g) { return along(g, RT_SAMPLE_IN(g, "x", 1, 9, 8, 7, 4), 45, 70); }
static rt_node *along_rays_of_particles(rt_graph *g) { return along(g, RT_SAMPLE_IN(g, "x", 3, 5, 6, 6, 4), 21, 32); }

static const specimen specimens[] = {
    {"norm, 32 channels", norm_32, false, 0, false},
    {"norm, 32 channels, channels last", norm_32, true, 0, false},
    {"norm, 32 channels, mean 1000", norm_32, true, 1000, false},
    {"norm, 32 channels, bf16", norm_32, true, 0, true},
    {"norm, 192 channels in 32 groups", norm_192, true, 0, false},
    {"norm, 192 channels in 32 groups, bf16", norm_192, true, 3, true},
    {"norm, 36 channels", norm_36, true, 0, false},
    {"norm, one group", norm_one_group, true, 0, false},
    {"norm, one group, plain", norm_one_group, false, 0, false},
    {"sum of pixels", bias, false, 0, false},
    {"sum of pixels, channels last", bias, true, 0, false},
    {"sum of pixels, bf16", bias, true, 0, true},
    {"sum of all", whole, false, 0, false},
    {"sums of rows", rows, false, 0, false},
    {"sums of columns", columns, false, 0, false},
    {"extremes", extreme, false, 0, false},
    {"transposed", turned, false, 0, false},
    {"transposed, bf16", turned, false, 0, true},
    {"permuted", turned_twice, false, 0, false},
    {"softmax", probabilities, false, 0, false},
    {"log softmax", log_probabilities, false, 0, false},
    {"rows by index", lookup, false, 0, false},
    {"broadcasting", broadcasting, false, 0, false},
    {"broadcasting, channels last", broadcasting, true, 0, false},
    {"broadcasting, bf16", broadcasting, true, 0, true},
    {"between convolutions", between, true, 0, false},
    {"between convolutions, bf16", between, true, 0, true},
    {"grid at points", at_points, false, 0, false},
    {"grid along rays", along_rays, false, 0, false},
    {"grids of particles along rays", along_rays_of_particles, false, 0, false},
};

typedef struct outcome {
    int n;
    int64_t count[OUTPUTS];
    double *value[OUTPUTS];
} outcome;

/* Seven digits behind the first one, which bf16 holds. */
static double to_bf16(double v)
{
    int e;
    double f = frexp(v, &e);
    return ldexp(nearbyint(ldexp(f, 8)), e - 8);
}

static void fill(rt_program *p, const rt_node *n, const specimen *s)
{
    const char *name = ((const rt__input_attr *)n->attr)->name;
    void *data = rt_program_data(p, n);
    for (int64_t i = 0; data && i < rt_program_count(p, n); i++) {
        double v[4];
        rt__draw_normal(&(rt__draw){.seed = 3, .name = rt__draw_name(name)}, 0, (uint32_t)i, v);
        double x = (double)(float)(v[0] + (strcmp(name, "x") ? 0 : s->offset));
        if (s->bf16) x = to_bf16(x);
        if (n->dtype == RT_F32)
            ((float *)data)[i] = (float)x;
        else if (n->dtype == RT_F64)
            ((double *)data)[i] = x;
        else
            ((int64_t *)data)[i] = (i * 7) % 11;
    }
}

static outcome evaluate(const specimen *s, rt_dtype dtype, const char *backend)
{
    rt_graph *g = rt_graph_new(dtype);
    rt_node *outputs[OUTPUTS], *inputs[OUTPUTS];
    rt_node *y = outputs[0] = s->make(g);
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        if (is_input(g->nodes[i]) && rt__is_real(g->nodes[i])) inputs[n++] = g->nodes[i];
    rt_node *projection = rt_input(g, "projection", dtype, y->rank, y->shape);
    rt_grad(rt_sum(rt_mul(y, projection), RT_ALL_AXES, false), inputs, n, outputs + 1);
    g->force_block = dtype == RT_F32 && s->last ? RT_CHANNELS_LAST : 0;
    g->force_bf16 = dtype == RT_F32 && s->bf16;
    rt_program *p;
    rt_error err = {0};
    rt_program_spec spec = {.outputs = outputs, .n_outputs = n + 1, .batch = BATCH, .backend = rt_backend_find(backend), .threads = 1};
    if (rt_compile(&p, g, &spec, &err) != RT_OK) fail_msg("%s: %s", s->name, err.text);
    for (int i = 0; i < p->n_steps && !strcmp(backend, "cuda-emulated"); i++)
        if (!p->steps[i].backend) fail_msg("%s: %s has no kernel for a device", s->name, p->steps[i].op->name);
    for (int i = 0; i < g->n_nodes; i++)
        if (is_input(g->nodes[i])) fill(p, g->nodes[i], s);
    if (rt_run(p, &(rt_clock){0}, &err) != RT_OK) fail_msg("%s: %s", s->name, err.text);
    outcome o = {.n = n + 1};
    for (int i = 0; i <= n; i++) {
        o.count[i] = rt_program_count(p, outputs[i]);
        o.value[i] = malloc((size_t)o.count[i] * sizeof *o.value[i]);
        const void *data = rt_program_data(p, outputs[i]);
        for (int64_t j = 0; j < o.count[i]; j++)
            o.value[i][j] = dtype == RT_F32 ? (double)((const float *)data)[j] : ((const double *)data)[j];
    }
    rt_program_free(p);
    rt_graph_free(g);
    return o;
}

static void outcome_free(outcome *o)
{
    for (int i = 0; i < o->n; i++) free(o->value[i]);
}

static int compare(const specimen *s, const outcome *got, const outcome *want)
{
    int failures = 0;
    for (int i = 0; i < want->n; i++) {
        double d = 0, top = 0, bound = s->bf16 ? i ? TOL_BF16_GRADIENT : TOL_BF16 : s->offset > 100 ? TOL_EMULATED_OFFSET : TOL_BACKEND;
        for (int64_t j = 0; j < want->count[i]; j++) {
            double e = fabs(got->value[i][j] - want->value[i][j]);
            d = e < INFINITY ? fmax(d, e) : INFINITY;
            top = fmax(top, fabs(want->value[i][j]));
        }
        if (d <= bound * top) continue;
        print_error("%s, %s %d: %.2e\n", s->name, i ? "gradient" : "result", i ? i - 1 : 0, d / top);
        failures++;
    }
    return failures;
}

static void test_against_double(void **state)
{
    (void)state;
    int failures = 0;
    for (size_t k = 0; k < sizeof specimens / sizeof *specimens; k++) {
        const specimen *s = &specimens[k];
        outcome want = evaluate(s, RT_F64, "reference"), first = {0};
        for (int order = 0; order < ORDERS; order++) {
            rt__emulate_order((uint64_t)order + 1);
            outcome got = evaluate(s, RT_F32, "cuda-emulated");
            if (order == 0) {
                failures += compare(s, &got, &want);
                first = got;
                continue;
            }
            for (int i = 0; i < got.n; i++)
                if (memcmp(got.value[i], first.value[i], (size_t)got.count[i] * sizeof *got.value[i])) {
                    print_error("%s: output %d depends on the order of blocks or threads\n", s->name, i);
                    failures++;
                }
            outcome_free(&got);
        }
        outcome_free(&first);
        outcome_free(&want);
    }
    assert_int_equal(failures, 0);
    assert_int_equal(rt__emulate_divergent(), 0);
}

/* ---- the adjoint of a grid: integers in units of its largest gradient, so that another power of two is another exponent, and nothing else */

enum { SIDE = 5, POINTS = 2000, NODES = SIDE * SIDE * SIDE };

/* Of gradients times 2^exponent, the last of them a given one, if that is not 0. */
static void adjoint(int exponent, float last, float gradient[NODES])
{
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *grid = RT_SAMPLE_IN(g, "grid", SIDE, SIDE, SIDE, 1), *gy = RT_SAMPLE_IN(g, "gy", 1, POINTS, 1), *gx;
    rt_node *y = rt_trilinear(grid, rt_scale(rt_randn(g, "points", 3, (int64_t[]){1, POINTS, 3}), 0.8));
    rt_grad(rt_sum(rt_mul(y, gy), RT_ALL_AXES, false), &grid, 1, &gx);
    rt_error err = {0};
    rt_program *p;
    rt_program_spec spec = {.outputs = &gx, .n_outputs = 1, .batch = 1, .backend = rt_backend_find("cuda-emulated"), .threads = 1};
    if (rt_compile(&p, g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
    float *in = rt_program_data(p, gy);
    for (int run = 0; run < 2; run++) { /* the first leaves large numbers in scratch */
        for (int i = 0; i < POINTS; i++) in[i] = run ? (float)ldexp(1.5 + sin(i + 1), exponent) : 1e35f;
        if (run && last != 0) in[POINTS - 1] = last; /* NaN is */
        if (rt_run(p, &(rt_clock){.seed = 3}, &err) != RT_OK) fail_msg("%s", err.text);
    }
    memcpy(gradient, rt_program_data(p, gx), NODES * sizeof *gradient);
    rt_program_free(p);
    rt_graph_free(g);
}

static void test_adjoint_of_any_size(void **state)
{
    (void)state;
    static const int exponents[] = {-90, -30, 70, 120};
    float one[NODES], other[NODES], most = 0;
    adjoint(0, 0, one);
    for (int i = 0; i < NODES; i++) most = fmaxf(most, fabsf(one[i]));
    assert_true(most > 16); /* gradients reach 2.5 */
    for (size_t k = 0; k < sizeof exponents / sizeof *exponents; k++) {
        adjoint(exponents[k], 0, other);
        for (int i = 0; i < NODES; i++) assert_true(other[i] == ldexpf(one[i], exponents[k]));
    }
    adjoint(-200, 0, other); /* all zeros */
    for (int i = 0; i < NODES; i++) assert_true(other[i] == 0);
    for (int k = 0; k < 2; k++) {
        adjoint(0, k ? -INFINITY : NAN, other);
        for (int i = 0; i < NODES; i++) assert_true(isnan(other[i]));
    }
}

/* ---- draws: the same words; numbers to the bit, as the mathematical library is the same here */

static void test_draws(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *outputs[] = {rt_randn(g, "n", 2, (int64_t[]){RT_BATCH, 1027}), rt_rand(g, "u", 2, (int64_t[]){-3, 5}),
                          rt_randint(g, "i", 1, (int64_t[]){RT_BATCH}, 1000000007), rt_randn(g, "w", 1, (int64_t[]){13})};
    rt_error err = {0};
    rt_program *p[2];
    const char *names[] = {"reference", "cuda-emulated"};
    for (int k = 0; k < 2; k++) {
        rt_program_spec spec = {.outputs = outputs, .n_outputs = 4, .batch = 7, .backend = rt_backend_find(names[k]), .threads = 1};
        assert_int_equal(rt_compile(&p[k], g, &spec, &err), RT_OK);
        assert_int_equal(rt_run(p[k], &(rt_clock){.seed = 0x123456789abcdef0u, .step = 77, .first = 21, .total = 50}, &err), RT_OK);
    }
    for (int i = 0; i < 4; i++)
        assert_memory_equal(rt_program_data(p[0], outputs[i]), rt_program_data(p[1], outputs[i]),
                            (size_t)rt_program_count(p[0], outputs[i]) * rt_dtype_size(outputs[i]->dtype));
    for (int k = 0; k < 2; k++) rt_program_free(p[k]);
    rt_graph_free(g);
}

/* ---- updates of a set of more tensors than a launch takes (RT_CUDA_TENSORS), some of them large, some frozen */

enum { ENTRIES = 140, UPDATES = 3 };

static int64_t extent_of(int i) { return i % 40 == 7 ? 5000 + i : 1 + i % 17; }

static rt_params *trained(const rt_optimiser *opt, const char *backend)
{
    rt_graph *g = rt_graph_new(RT_F32);
    rt_params *set = rt_params_new("p", RT_F32);
    rt_node *loss = NULL;
    for (int i = 0; i < ENTRIES; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%d", i);
        int64_t n = extent_of(i);
        rt_node *p = (i % 9 == 4 ? rt_param_frozen : rt_param)(g, set, name, 1, &n, RT_INIT_UNIFORM(1)),
                *part = rt_sum(rt_square(rt_square(p)), RT_ALL_AXES, false);
        loss = loss ? rt_add(loss, part) : part;
    }
    rt_update u = rt_minimise(loss, set, opt);
    rt_error err = {0};
    rt_program *p;
    rt_program_spec spec = {.outputs = &u.grad_norm, .n_outputs = 1, .updates = &u.node, .n_updates = 1, .batch = 1, .threads = 1};
    spec.backend = rt_backend_find(backend);
    if (rt_params_init(set, 5, &err) != RT_OK || rt_compile(&p, g, &spec, &err) != RT_OK) fail_msg("%s", err.text);
    for (int t = 1; t <= UPDATES; t++) {
        *(float *)rt_program_data(p, u.lr) = 0.01f;
        *(float *)rt_program_data(p, u.t) = (float)t;
        *(float *)rt_program_data(p, u.decay) = 0.9f;
        if (rt_run(p, &(rt_clock){0}, &err) != RT_OK) fail_msg("%s", err.text);
    }
    rt_program_free(p);
    rt_graph_free(g);
    return set;
}

static void test_updates(void **state)
{
    (void)state;
    for (rt_optimiser_kind kind = RT_ADAM; kind <= RT_SGD; kind++) {
        rt_optimiser opt = {.kind = kind, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.01, .clip = 1, .average = true};
        rt_params *want = trained(&opt, "reference"), *got = trained(&opt, "cuda-emulated");
        for (rt_role role = RT_VALUE; role <= RT_AVERAGE; role++) {
            if (role == RT_MOMENT2 && kind == RT_SGD) continue;
            const float *a = rt_params_data(want, role), *b = rt_params_data(got, role);
            for (int i = 0; i < ENTRIES; i++) {
                const rt_entry *e = rt_params_entry(want, i);
                if (e->frozen && role != RT_VALUE && role != RT_AVERAGE) continue;
                for (int64_t j = 0; j < e->count; j++)
                    if (!(fabs((double)a[e->offset + j] - (double)b[e->offset + j]) <= TOL_OPTIMISER_SINGLE))
                        fail_msg("optimiser %d, role %d, %s[%lld]: %g, not %g", kind, role, e->name, (long long)j, (double)b[e->offset + j],
                                 (double)a[e->offset + j]);
            }
        }
        rt_params_free(want);
        rt_params_free(got);
    }
}

int main(void)
{
    rt__backend_add(&rt__backend_emulated);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_double), cmocka_unit_test(test_adjoint_of_any_size),
                                       cmocka_unit_test(test_draws), cmocka_unit_test(test_updates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
