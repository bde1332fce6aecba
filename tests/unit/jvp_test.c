/* jvp_test.c -- derivatives along a direction through whole networks against central differences in double; what is refused, by name, and what stands still.
 * Rows one by one: tests/ops/walk.c. */
#include "diffusion_check.h"

#include "retort/nn.h"
#include "retort/ops.h"

#include <unistd.h>

enum { B = 2 };

static char file[] = "/tmp/retort-jvp-XXXXXX";

typedef struct moved {
    rt_net *net;
    rt_params *set;
    rt_graph *g;
    rt_node *x, *t, *y, *dx, *dt, *out, *dy;
    rt_program *p;
} moved;

static void build(moved *m, const char *text)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    *m = (moved){.g = rt_graph_new(RT_F64), .set = rt_params_new("set", RT_F64)};
    CHECK_OK(rt_net_open(&m->net, file, &err));
    CHECK_OK(rt_net_declare(m->net, m->set, &err));
    CHECK_OK(rt_params_init(m->set, 4, &err));
    const rt_net_info *info = rt_net_describe(m->net);
    double *values = rt_params_data(m->set, RT_VALUE);
    uint64_t seed = 6;
    for (int i = 0; i < rt_params_entries(m->set); i++) { /* what starts at 0 has something to say, too */
        const rt_entry *e = rt_params_entry(m->set, i);
        for (int64_t j = 0; j < e->count; j++) values[e->offset + j] += 0.1 * wobble(&seed);
    }
    rt_params_touch(m->set);
    const int64_t x[] = {RT_BATCH, info->in_channels, info->height, info->width}, t[] = {RT_BATCH, 2};
    m->x = rt_input(m->g, "x", RT_F64, info->height ? 4 : 2, x);
    m->dx = rt_input(m->g, "dx", RT_F64, info->height ? 4 : 2, x);
    m->t = rt_input(m->g, "t", RT_F64, info->times, t);
    m->dt = rt_input(m->g, "dt", RT_F64, info->times, t);
    m->y = info->classes ? rt_input(m->g, "y", RT_I64, 1, t) : NULL;
    m->out = rt_net_apply(m->net, m->set, m->x, m->t, m->y);
    m->dy = rt_jvp(m->out, (rt_node *[]){m->x, m->t}, (rt_node *[]){m->dx, m->dt}, 2);
}

static void release(moved *m)
{
    rt_program_free(m->p);
    rt_graph_free(m->g);
    rt_params_free(m->set);
    rt_net_free(m->net);
}

static void fill(moved *m, const rt_node *node, uint64_t seed, double scale, double center)
{
    double *to = rt_program_data(m->p, node);
    for (int64_t i = 0; i < rt_program_count(m->p, node); i++) to[i] = center + scale * wobble(&seed);
}

static const char *const networks[] = {
    "{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 12, \"layers\": 2, \"num_class_embeds\": 3, \"_target_time\": true}",
    "{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 12, \"layers\": 2, \"act_fn\": \"gelu\"}",
    "{\"_class_name\": \"UNet2DModel\", \"sample_size\": 8, \"in_channels\": 1, \"out_channels\": 1, \"block_out_channels\": [4, 8], "
    "\"down_block_types\": [\"DownBlock2D\", \"AttnDownBlock2D\"], \"up_block_types\": [\"AttnUpBlock2D\", \"UpBlock2D\"], "
    "\"layers_per_block\": 1, \"norm_num_groups\": 2, \"attention_head_dim\": 4, \"_target_time\": true}",
    "{\"_class_name\": \"UNet2DModel\", \"sample_size\": 8, \"in_channels\": 2, \"out_channels\": 2, \"block_out_channels\": [4, 4], "
    "\"down_block_types\": [\"ResnetDownsampleBlock2D\", \"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", \"ResnetUpsampleBlock2D\"], "
    "\"layers_per_block\": 1, \"norm_num_groups\": 2, \"attention_head_dim\": 4, \"resnet_time_scale_shift\": \"scale_shift\", "
    "\"num_class_embeds\": 2}"};

static void through_networks(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof networks / sizeof *networks; k++) {
        moved m;
        build(&m, networks[k]);
        CHECK_OK(rt_compile(&m.p, m.g, &(rt_program_spec){.outputs = (rt_node *[]){m.out, m.dy}, .n_outputs = 2, .batch = B, .threads = 1},
                            &err));
        fill(&m, m.dx, 2, 1, 0);
        fill(&m, m.dt, 3, 1, 0);
        int64_t n = rt_program_count(m.p, m.out), nx = rt_program_count(m.p, m.x), nt = rt_program_count(m.p, m.t);
        double *got = calloc((size_t)(5 * n), sizeof *got), worst = 0, top = 0;
        const double *dx = rt_program_data(m.p, m.dx), *dt = rt_program_data(m.p, m.dt), steps[] = {0, 1e-3, -1e-3, 5e-4, -5e-4};
        for (int i = 0; i < 5; i++) {
            fill(&m, m.x, 5, 1, 0);
            fill(&m, m.t, 7, 20, 30);
            double *x = rt_program_data(m.p, m.x), *t = rt_program_data(m.p, m.t);
            for (int64_t j = 0; j < nx; j++) x[j] += steps[i] * dx[j];
            for (int64_t j = 0; j < nt; j++) t[j] += steps[i] * dt[j];
            CHECK_OK(rt_run(m.p, &(rt_clock){0}, &err));
            memcpy(got + i * n, rt_program_data(m.p, i ? m.out : m.dy), (size_t)n * sizeof *got);
        }
        for (int64_t j = 0; j < n; j++) {
            double far = (got[n + j] - got[2 * n + j]) / 2e-3, near = (got[3 * n + j] - got[4 * n + j]) / 1e-3, want = (4 * near - far) / 3;
            worst = fmax(worst, fabs(got[j] - want));
            top = fmax(top, fabs(want));
        }
        print_message("%s %zu: %.2g of %.2g\n", rt_net_describe(m.net)->kind, k, worst, top);
        assert_true(top > 1e-2);
        CHECK_NEAR(worst, 0, TOL_JVP_NET * top, "network %zu", k);
        free(got);
        release(&m);
    }
}

/* A map that is looked up by time has no derivative in it, rather than 0; along x alone it has one. */
static void lookups_are_refused(void **state)
{
    (void)state;
    moved m;
    rt_error err = {0};
    build(&m, "{\"_class_name\": \"RetortAffine\", \"data_dim\": 3, \"times\": [0, 10, 20]}");
    assert_int_equal(rt_graph_status(m.g, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "cast from BOOL has no derivative along a direction"));
    release(&m);
    err = (rt_error){0};
    m = (moved){.g = rt_graph_new(RT_F64)};
    m.x = rt_input(m.g, "x", RT_F64, 1, (int64_t[]){3});
    m.dx = rt_input(m.g, "dx", RT_F64, 1, (int64_t[]){3});
    rt_node *table = rt_reals(m.g, 1, (int64_t[]){3}, (double[]){1, 2, 3});
    rt_jvp(rt_index_select(table, 0, rt_cast(m.x, RT_I64)), &m.x, &m.dx, 1);
    assert_int_equal(rt_graph_status(m.g, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "cast to I64 has no derivative along a direction"));
    release(&m);
}

static double one(rt_graph *g, rt_node *y)
{
    rt_program *p;
    CHECK_OK(rt_compile(&p, g, &(rt_program_spec){.outputs = &y, .n_outputs = 1, .batch = 1, .threads = 1}, &err));
    CHECK_OK(rt_run(p, &(rt_clock){0}, &err));
    double v = *(double *)rt_program_data(p, y);
    rt_program_free(p);
    return v;
}

/* Variables are independent of one another, constants and what is stopped stand still, and a direction has its variable's shape. */
static void meaning(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *a = rt_scalar(g, 3), *b = rt_square(a), *da = rt_scalar(g, 0.5), *db = rt_scalar(g, 2), *y = rt_mul(a, b);
    assert_true(one(g, rt_jvp(y, &a, &da, 1)) == 27 * 0.5);                                           /* a^3 */
    assert_true(one(g, rt_jvp(y, (rt_node *[]){a, b}, (rt_node *[]){da, db}, 2)) == 9 * 0.5 + 3 * 2); /* a b */
    assert_true(one(g, rt_jvp(rt_mul(a, rt_stop_grad(b)), &a, &da, 1)) == 9 * 0.5);
    assert_true(one(g, rt_jvp(db, &a, &da, 1)) == 0);
    assert_true(one(g, rt_jvp(a, &a, &da, 1)) == 0.5);
    rt_node *dy = rt_jvp(y, &a, &da, 1), *again;
    rt_grad(dy, &a, 1, &again); /* reverse over forward: d(3 a^2 da)/da */
    assert_true(one(g, again) == 18 * 0.5);
    assert_true(one(g, rt_jvp(dy, &a, &da, 1)) == 18 * 0.25); /* forward over forward */
    rt_node *wide = rt_reals(g, 1, (int64_t[]){2}, (double[]){1, 2});
    rt_jvp(y, &a, &wide, 1);
    rt_error err = {0};
    assert_int_equal(rt_graph_status(g, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "a direction of shape (2) for a variable of shape ()"));
    rt_graph_free(g);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(file);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(through_networks), cmocka_unit_test(lookups_are_refused),
                                       cmocka_unit_test(meaning)};
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
