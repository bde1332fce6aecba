/* target_time_test.c -- networks of two times, or that are told the weight of guidance: the second adds a vector to the time embedding, as a class would whose row is that vector; without it they
 * are networks of one time. Networks that see draws: their first layer is linear in x and the draws together. What configurations refuse. */
#include "diffusion_check.h"

#include "retort/nn.h"
#include "retort/ops.h"

#include <unistd.h>

static char file[] = "/tmp/retort-two-XXXXXX";

static rt_status open_text(rt_net **net, const char *text, rt_error *err)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return rt_net_open(net, file, err);
}

typedef struct part {
    rt_net *net;
    rt_params *set;
    rt_node *out;
} part;

static part load(const char *text)
{
    part p = {.set = rt_params_new("set", RT_F64)};
    CHECK_OK(open_text(&p.net, text, &err));
    CHECK_OK(rt_net_declare(p.net, p.set, &err));
    CHECK_OK(rt_params_init(p.set, 4, &err));
    return p;
}

static double *entry(const part *p, const char *name)
{
    int i = rt_params_find(p->set, name);
    if (i < 0) fail_msg("there is no %s", name);
    return (double *)rt_params_data(p->set, RT_VALUE) + rt_params_entry(p->set, i)->offset;
}

/* `one` takes one time and a class of one row; `two` is told a second number t, embedded by `layer` after it is multiplied by `scale`, and is otherwise the
 * same. */
static void compare(const char *one_text, const char *two_text, int rank, const int64_t *shape, const char *row, int features, int width,
                    const char *layer, double t, double scale)
{
    const double s = 700;
    char weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s.weight", layer);
    snprintf(bias, sizeof bias, "%s.bias", layer);
    part one = load(one_text), two = load(two_text);
    assert_int_equal(rt_net_describe(one.net)->times, 1);
    assert_int_equal(rt_net_describe(two.net)->told, 2);
    double *W = entry(&two, weight), *b = entry(&two, bias), *c = entry(&one, row);
    for (int i = 0; i < width; i++) { /* starts at 0 */
        assert_true(b[i] == 0);
        for (int j = 0; j < features; j++) assert_true(W[i * features + j] == 0);
    }
    uint64_t seed = 8;
    for (int round = 0; round < 2; round++) { /* as it starts; with something to say */
        for (int i = 0; i < width; i++) {
            b[i] = round * wobble(&seed);
            c[i] = b[i];
            for (int j = 0; j < features; j++) {
                int half = features / 2;
                double arg = scale * t * (double)expf(-9.210340371976184f * (float)(j % half) / (float)half);
                W[i * features + j] = round * wobble(&seed);
                c[i] += W[i * features + j] * (j < half ? cos(arg) : sin(arg));
            }
        }
        rt_params_touch(one.set);
        rt_params_touch(two.set);
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *x = rt_input(g, "x", RT_F64, rank, shape);
        one.out =
            rt_net_apply(one.net, one.set, x, rt_reals(g, 1, (int64_t[]){1}, &s), rt_const(g, RT_I64, 1, (int64_t[]){1}, &(int64_t){0}));
        two.out = rt_net_apply(two.net, two.set, x, rt_reals(g, 2, (int64_t[]){1, 2}, (double[]){s, t}), NULL);
        rt_node *outputs[] = {one.out, two.out};
        rt_program *p = NULL;
        CHECK_OK(rt_compile(
            &p, g,
            &(rt_program_spec){.outputs = outputs, .n_outputs = 2, .batch = 1, .threads = 1, .backend = rt_backend_find("reference")},
            &err));
        int64_t n = rt_program_count(p, x);
        for (int64_t i = 0; i < n; i++) ((double *)rt_program_data(p, x))[i] = wobble(&seed);
        CHECK_OK(rt_run(p, &(rt_clock){0}, &err));
        const double *want = rt_program_data(p, one.out), *got = rt_program_data(p, two.out);
        for (int64_t i = 0; i < n; i++) CHECK_NEAR(got[i], want[i], TOL_GRAPH, "%s, output %d", rt_net_describe(two.net)->kind, (int)i);
        rt_program_free(p);
        rt_graph_free(g);
    }
    part *parts[] = {&one, &two};
    for (int i = 0; i < 2; i++) {
        rt_params_free(parts[i]->set);
        rt_net_free(parts[i]->net);
    }
}

#define UNET                                                                                                                               \
    "{\"_class_name\": \"UNet2DModel\", \"sample_size\": 8, \"in_channels\": 1, \"out_channels\": 1, \"block_out_channels\": [8, 8], "     \
    "\"layers_per_block\": 1, \"down_block_types\": [\"DownBlock2D\", \"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", "              \
    "\"UpBlock2D\"], "                                                                                                                     \
    "\"norm_num_groups\": 4, "

static void second_number(void **state)
{
    (void)state;
    static const struct {
        const char *field, *layer;
        double t, scale;
    } told[] = {{"_target_time", "target_embedding", 320.5, 1}, {"_guidance", "guidance_embedding", 2.5, 1000}};
    for (int i = 0; i < 2; i++) {
        char mlp[160], unet[600];
        snprintf(mlp, sizeof mlp, "{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 12, \"layers\": 2, \"%s\": true}",
                 told[i].field);
        snprintf(unet, sizeof unet, UNET "\"%s\": true}", told[i].field);
        compare("{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 12, \"layers\": 2, \"num_class_embeds\": 1}", mlp, 2,
                (int64_t[]){1, 3}, "class_embedding.weight", 32, 12, told[i].layer, told[i].t, told[i].scale);
        compare(UNET "\"num_class_embeds\": 1}", unet, 4, (int64_t[]){1, 1, 8, 8}, "class_embedding.weight", 8, 32, told[i].layer,
                told[i].t, told[i].scale);
    }
}

/* Both at once: what is told is the times and then omega. */
static void three_numbers(void **state)
{
    (void)state;
    part plain = load("{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 12, \"layers\": 2, \"_target_time\": true}");
    part p = {.set = rt_params_new("told", RT_F64)};
    CHECK_OK(rt_net_with_guidance(&p.net, plain.net, &err));
    CHECK_OK(rt_net_declare(p.net, p.set, &err));
    CHECK_OK(rt_params_init(p.set, 4, &err));
    assert_int_equal(rt_net_describe(p.net)->told, 3);
    assert_non_null(strstr(rt_net_config(p.net), "\"_guidance\": true"));
    uint64_t seed = 5;
    static const char *const layers[] = {"target_embedding.weight", "guidance_embedding.weight"};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 12 * 32; j++) entry(&p, layers[i])[j] = wobble(&seed);
    rt_params_touch(p.set);
    double out[4][3];
    const double told[4][3] = {{700, 300, 2}, {600, 300, 2}, {700, 200, 2}, {700, 300, 1}}; /* each changes the answer */
    for (int i = 0; i < 4; i++) {
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *o = rt_net_apply(p.net, p.set, rt_reals(g, 2, (int64_t[]){1, 3}, (double[]){0.3, -0.2, 0.5}),
                                  rt_reals(g, 2, (int64_t[]){1, 3}, told[i]), NULL);
        rt_program *program = NULL;
        CHECK_OK(rt_compile(&program, g, &(rt_program_spec){.outputs = &o, .n_outputs = 1, .batch = 1, .threads = 1}, &err));
        CHECK_OK(rt_run(program, &(rt_clock){0}, &err));
        memcpy(out[i], rt_program_data(program, o), sizeof out[i]);
        rt_program_free(program);
        rt_graph_free(g);
        if (i > 0) assert_true(fabs(out[i][0] - out[0][0]) > 1e-4);
    }
    rt_net *affine, *none = NULL;
    CHECK_OK(open_text(&affine, "{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": [3]}", &err));
    CHECK_REFUSED(rt_net_with_guidance(&none, affine, &err), RT_E_USAGE, "cannot be told the weight of guidance");
    CHECK_REFUSED(open_text(&none, UNET "\"time_embedding_type\": \"fourier\", \"_guidance\": true}", &err), RT_E_INVALID, "_guidance");
    rt_net_free(affine);
    part *parts[] = {&plain, &p};
    for (int i = 0; i < 2; i++) {
        rt_params_free(parts[i]->set);
        rt_net_free(parts[i]->net);
    }
}

/* With its first layer's matrix for the first draw and -2 of it for the second, a network of (x, z1, z2) is the plain one of x + z1 - 2 z2; as it starts
 * it is that of x. */
static void see(const char *text, int rank, const int64_t *shape, const char *first)
{
    const double s = 700;
    uint64_t seed = 9;
    part plain = load(text), seeing = {.set = rt_params_new("seeing", RT_F64)};
    CHECK_OK(rt_net_with_draws(&seeing.net, plain.net, 2, &err));
    CHECK_OK(rt_net_declare(seeing.net, seeing.set, &err));
    CHECK_OK(rt_params_init(seeing.set, 4, &err)); /* entries draw by their names: the same weights */
    assert_int_equal(rt_net_describe(seeing.net)->draws, 2);
    assert_int_equal(rt_net_describe(seeing.net)->in_channels, (int)shape[1]);
    assert_non_null(strstr(rt_net_config(seeing.net), "\"_draws\": 2"));
    const rt_entry *w = rt_params_entry(plain.set, rt_params_find(plain.set, first));
    bool table = w->rank == 3; /* (n,d,d) of the affine maps; else (out,in), (out,in,3,3) */
    int64_t rows = table ? w->shape[0] * w->shape[1] : w->shape[0], wide = w->count / rows;
    double *W = entry(&plain, first), *V = entry(&seeing, table ? "draws_in" : "draws_in.weight");
    for (int64_t i = 0; i < 2 * w->count; i++) assert_true(V[i] == 0);
    for (int round = 0; round < 2; round++) {
        for (int64_t i = 0; i < rows && round; i++)
            for (int64_t j = 0; j < wide; j++) {
                V[i * 2 * wide + j] = W[i * wide + j];
                V[i * 2 * wide + wide + j] = -2 * W[i * wide + j];
            }
        rt_params_touch(seeing.set);
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *x = rt_input(g, "x", RT_F64, rank, shape), *z1 = rt_input(g, "z1", RT_F64, rank, shape),
                *z2 = rt_input(g, "z2", RT_F64, rank, shape), *t = rt_reals(g, 1, (int64_t[]){1}, &s);
        rt_node *sum = round ? rt_add(rt_add(x, z1), rt_scale(z2, -2)) : x, *all = rt_concat((rt_node *[]){x, z1, z2}, 3, 1);
        rt_node *outputs[] = {rt_net_apply(plain.net, plain.set, sum, t, NULL), rt_net_apply(seeing.net, seeing.set, all, t, NULL), z1, z2};
        rt_program *p = NULL;
        CHECK_OK(rt_compile(
            &p, g,
            &(rt_program_spec){.outputs = outputs, .n_outputs = 4, .batch = 1, .threads = 1, .backend = rt_backend_find("reference")},
            &err));
        int64_t n = rt_program_count(p, x);
        rt_node *inputs[] = {x, z1, z2};
        for (int k = 0; k < 3; k++)
            for (int64_t i = 0; i < n; i++) ((double *)rt_program_data(p, inputs[k]))[i] = wobble(&seed);
        CHECK_OK(rt_run(p, &(rt_clock){0}, &err));
        const double *want = rt_program_data(p, outputs[0]), *got = rt_program_data(p, outputs[1]);
        for (int64_t i = 0; i < n; i++)
            CHECK_NEAR(got[i], want[i], TOL_GRAPH, "%s with draws, output %d", rt_net_describe(plain.net)->kind, (int)i);
        rt_program_free(p);
        rt_graph_free(g);
    }
    part *parts[] = {&plain, &seeing};
    for (int i = 0; i < 2; i++) {
        rt_params_free(parts[i]->set);
        rt_net_free(parts[i]->net);
    }
}

static void draws_beside_x(void **state)
{
    (void)state;
    see("{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 12, \"layers\": 2}", 2, (int64_t[]){1, 3}, "proj_in.weight");
    see("{\"_class_name\": \"RetortAffine\", \"data_dim\": 3, \"times\": [5, 600, 800]}", 2, (int64_t[]){1, 3}, "weight");
    see(UNET "\"act_fn\": \"silu\"}", 4, (int64_t[]){1, 1, 8, 8}, "conv_in.weight");
}

static void refusals(void **state)
{
    (void)state;
    rt_net *net = NULL;
    CHECK_REFUSED(open_text(&net, UNET "\"time_embedding_type\": \"fourier\", \"_target_time\": true}", &err), RT_E_INVALID, "positional");
    CHECK_REFUSED(open_text(&net, "{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"_target_time\": 1}", &err), RT_E_INVALID,
                  "_target_time");
    CHECK_REFUSED(open_text(&net, "{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": [3, 3]}", &err), RT_E_INVALID,
                  "must rise");
    CHECK_REFUSED(open_text(&net, "{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": []}", &err), RT_E_INVALID, "times");
    CHECK_REFUSED(open_text(&net, "{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"_draws\": -1}", &err), RT_E_INVALID, "_draws");
    rt_net *classifier;
    CHECK_OK(open_text(&classifier,
                       "{\"_class_name\": \"RetortClassifier\", \"in_channels\": 1, \"sample_size\": 8, \"num_classes\": 2, "
                       "\"block_out_channels\": [8]}",
                       &err));
    CHECK_REFUSED(rt_net_with_draws(&net, classifier, 2, &err), RT_E_USAGE, "cannot see draws");
    rt_net_free(classifier);
    part p = load("{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"_target_time\": true}");
    rt_graph *g = rt_graph_new(RT_F64);
    rt_net_apply(p.net, p.set, rt_input(g, "x", RT_F64, 2, (int64_t[]){RT_BATCH, 3}), rt_input(g, "t", RT_F64, 1, (int64_t[]){RT_BATCH}),
                 NULL);
    CHECK_REFUSED(rt_graph_status(g, &err), rt_graph_status(g, NULL), "takes times (B,2)");
    rt_graph_free(g);
    rt_params_free(p.set);
    rt_net_free(p.net);
}

/* Row k of the table serves times[k] <= t < times[k + 1], the first one all below. */
static void affine_rows(void **state)
{
    (void)state;
    enum { B = 6 };
    const double times[B] = {0, 5, 9.5, 10, 24, 1000}, x[] = {2, -1};
    const int rows[B] = {0, 0, 0, 1, 1, 2};
    part p = load("{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": [5, 10, 25]}");
    double *W = entry(&p, "weight"), *b = entry(&p, "bias");
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *xn = rt_input(g, "x", RT_F64, 2, (int64_t[]){RT_BATCH, 2}), *tn = rt_input(g, "t", RT_F64, 1, (int64_t[]){RT_BATCH});
    rt_node *out = rt_net_apply(p.net, p.set, xn, tn, NULL);
    rt_program *program = NULL;
    CHECK_OK(rt_compile(&program, g, &(rt_program_spec){.outputs = &out, .n_outputs = 1, .batch = B, .threads = 1}, &err));
    for (int i = 0; i < B; i++) {
        memcpy((double *)rt_program_data(program, xn) + 2 * i, x, sizeof x);
        ((double *)rt_program_data(program, tn))[i] = times[i];
    }
    CHECK_OK(rt_run(program, &(rt_clock){0}, &err));
    for (int i = 0; i < B; i++)
        for (int j = 0; j < 2; j++) {
            const double *w = W + 4 * rows[i] + 2 * j;
            CHECK_NEAR(((double *)rt_program_data(program, out))[2 * i + j], w[0] * x[0] + w[1] * x[1] + b[2 * rows[i] + j], TOL_GRAPH,
                       "time %g", times[i]);
        }
    rt_program_free(program);
    rt_graph_free(g);
    rt_params_free(p.set);
    rt_net_free(p.net);
}

int main(void)
{
    close(mkstemp(file));
    const struct CMUnitTest tests[] = {cmocka_unit_test(second_number), cmocka_unit_test(three_numbers), cmocka_unit_test(draws_beside_x),
                                       cmocka_unit_test(refusals), cmocka_unit_test(affine_rows)};
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(file);
    return failures;
}
