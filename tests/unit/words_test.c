/* words_test.c -- networks that are told words, or a camera: labels of prompts; a prompt's embedding is the sum of its words', of token 0 nothing; the embedding of a camera
 * against its formula. What configurations refuse. */
#include "diffusion_check.h"

#include "model/evaluator.h"
#include "retort/ops.h"

#include <unistd.h>

static char file[] = "/tmp/retort-words-XXXXXX";

#define WORDS                                                                                                                              \
    "\"_words\": {\"vocabulary\": [\"a\", \"red\", \"chair\", \"front\", \"view\", \"camera-0\"], \"length\": 3, "                         \
    "\"views\": [[\"front\", \"view\"], [\"camera-0\"]], \"prompts\": [\"a red chair\", \"chair, front view\"]}"
#define MLP "{\"_class_name\": \"RetortMLP\", \"data_dim\": 3, \"hidden\": 12, \"layers\": 2"
#define UNET                                                                                                                               \
    "{\"_class_name\": \"UNet2DModel\", \"sample_size\": 8, \"in_channels\": 1, \"out_channels\": 1, \"block_out_channels\": [8, 8], "     \
    "\"layers_per_block\": 1, \"down_block_types\": [\"DownBlock2D\", \"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", "              \
    "\"UpBlock2D\"], \"norm_num_groups\": 4"

static rt_status open_text(rt_net **net, const char *text, rt_error *err)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return rt_net_open(net, file, err);
}

static void refused(const char *text, const char *needle)
{
    rt_net *net = NULL;
    rt_error err = {0};
    assert_int_equal(open_text(&net, text, &err), RT_E_INVALID);
    if (!strstr(err.text, needle)) fail_msg("'%s' does not say '%s'", err.text, needle);
}

static rt_net *opened(const char *text)
{
    rt_net *net;
    CHECK_OK(open_text(&net, text, &err));
    return net;
}

/* ---- labels */

static void labels(void **state)
{
    (void)state;
    rt_net *net = opened(MLP ", \"num_class_embeds\": 7, " WORDS "}");
    const rt_words *w = rt_net_describe(net)->words;
    int64_t label, tokens[3], again;
    char text[RT_WORDS_TEXT];
    assert_non_null(w);
    assert_int_equal(rt_words_count(w), 6);
    assert_int_equal(rt_words_length(w), 3);
    assert_string_equal(rt_words_word(w, 1), "a");
    assert_null(rt_words_word(w, 7));
    CHECK_OK(rt_words_label(w, "A red,chair!", &label, &err));
    assert_int_equal(label, 1 + 2 * 7 + 3 * 49);
    rt_words_tokens(w, label, tokens);
    assert_int_equal(tokens[0], 1);
    assert_int_equal(tokens[1], 2);
    assert_int_equal(tokens[2], 3);
    assert_true(rt_words_of_tokens(w, tokens, &again));
    assert_int_equal(again, label);
    assert_string_equal(rt_words_text(w, label, text, sizeof text), "a red chair");
    CHECK_OK(rt_words_label(w, " , ", &label, &err));
    assert_int_equal(label, 0);
    CHECK_OK(rt_words_label(w, "camera-0", &label, &err));
    assert_int_equal(label, 6);
    assert_true(rt_words_fits(w, 342)); /* 7^3 - 1 */
    assert_false(rt_words_fits(w, 343));
    assert_false(rt_words_fits(w, -1));
    tokens[1] = 7;
    assert_false(rt_words_of_tokens(w, tokens, &again));
    tokens[1] = -1;
    assert_false(rt_words_of_tokens(w, tokens, &again));
    assert_int_equal(rt_words_groups(w), 2);
    assert_int_equal(rt_words_group(w, 3), -1);
    assert_int_equal(rt_words_group(w, 5), 0);
    assert_int_equal(rt_words_group(w, 6), 1);
    assert_int_equal(rt_words_prompts(w), 2);
    assert_int_equal(rt_words_prompt(w, 1), 3 + 4 * 7 + 5 * 49);
    rt_error err = {0};
    assert_int_equal(rt_words_label(w, "a red chiar", &label, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "'chiar' is no word that the model knows; did you mean 'chair'?"));
    err = (rt_error){0};
    assert_int_equal(rt_words_label(w, "xylophone", &label, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "its words are a, red, chair, front, view, camera-0"));
    err = (rt_error){0};
    assert_int_equal(rt_words_label(w, "a red chair view", &label, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "more than 3 words"));
    rt_net *other = opened(MLP ", \"num_class_embeds\": 3, \"_words\": {\"vocabulary\": [\"a\", \"red\"], \"length\": 3}}");
    assert_true(rt_words_equal(w, w));
    assert_false(rt_words_equal(w, rt_net_describe(other)->words));
    assert_false(rt_words_equal(w, NULL));
    rt_net_free(other);
    rt_net_free(net);
}

static void configurations(void **state)
{
    (void)state;
#define WITH(words) MLP ", \"num_class_embeds\": 3, \"_words\": " words "}"
    refused(MLP ", \"num_class_embeds\": 6, " WORDS "}", "'num_class_embeds' is 6; must be 7, one more than '_words' lists");
    refused(MLP ", " WORDS "}", "must be 7");
    refused(UNET ", \"num_class_embeds\": 7, \"class_embed_type\": \"timestep\", " WORDS "}", "class_embed_type null");
    refused(WITH("[\"a\", \"red\"]"), "must be an object");
    refused(WITH("{\"vocabulary\": [\"a\", \"a\"], \"length\": 2}"), "all different");
    refused(WITH("{\"vocabulary\": [\"a\", \"Red\"], \"length\": 2}"), "none of them capital");
    refused(WITH("{\"vocabulary\": [\"a\", \"big red\"], \"length\": 2}"), "vocabulary must list");
    refused(WITH("{\"vocabulary\": [], \"length\": 2}"), "vocabulary must list");
    refused(WITH("{\"vocabulary\": [\"a\", \"red\"], \"length\": 17}"), "length must be a whole number from 1 to 16");
    refused(WITH("{\"vocabulary\": [\"a\", \"red\"], \"length\": 2, \"views\": [\"red\"]}"), "views must list");
    refused(WITH("{\"vocabulary\": [\"a\", \"red\"], \"length\": 2, \"views\": [[\"red\"], [\"red\"]]}"), "each word once");
    refused(WITH("{\"vocabulary\": [\"a\", \"red\"], \"length\": 2, \"prompts\": [\"a read\"]}"), "did you mean 'red'");
    refused(WITH("{\"vocabulary\": [\"a\", \"red\"], \"length\": 2, \"prompts\": [3]}"), "element 0: must be a text");
    char text[16384] = MLP ", \"num_class_embeds\": 1001, \"_words\": {\"length\": 7, \"vocabulary\": [\"w0\"";
    for (int i = 1; i < 1000; i++) snprintf(text + strlen(text), sizeof text - strlen(text), ", \"w%d\"", i);
    strcat(text, "]}}");
    refused(text, "(words + 1)^length must be less than 2^63");
}

/* ---- networks */

typedef struct part {
    rt_net *net;
    rt_params *set;
    rt_node *out;
} part;

static part load(const char *text)
{
    part p = {.net = opened(text), .set = rt_params_new("set", RT_F64)};
    CHECK_OK(rt_net_declare(p.net, p.set, &err));
    CHECK_OK(rt_params_init(p.set, 4, &err));
    return p;
}

static void drop(part *p)
{
    rt_params_free(p->set);
    rt_net_free(p->net);
}

static double *entry(const part *p, const char *name)
{
    int i = rt_params_find(p->set, name);
    if (i < 0) fail_msg("there is no %s", name);
    return (double *)rt_params_data(p->set, RT_VALUE) + rt_params_entry(p->set, i)->offset;
}

static void run_on_noise(rt_program **p, rt_graph *g, rt_node **outputs, int n, rt_node *x)
{
    uint64_t seed = 8;
    CHECK_OK(rt_compile(
        p, g, &(rt_program_spec){.outputs = outputs, .n_outputs = n, .batch = 1, .threads = 1, .backend = rt_backend_find("reference")},
        &err));
    for (int64_t i = 0; i < rt_program_count(*p, x); i++) ((double *)rt_program_data(*p, x))[i] = wobble(&seed);
    CHECK_OK(rt_run(*p, &(rt_clock){0}, &err));
}

/* A network of classes whose row is the sum of a prompt's rows says what the network of words says; its row 0, whatever it holds, counts for nothing and gets no gradient. */
static void compare(const char *head, int rank, const int64_t *shape, int width)
{
    static const int64_t prompts[][3] = {{2, 5, 0}, {0, 0, 0}, {4, 0, 4}};
    const double t = 300;
    char text[2048];
    snprintf(text, sizeof text, "%s, \"num_class_embeds\": 7, %s}", head, WORDS);
    part words = load(text);
    snprintf(text, sizeof text, "%s, \"num_class_embeds\": 1}", head);
    part one = load(text);
    double *table = entry(&words, "class_embedding.weight"), *row = entry(&one, "class_embedding.weight");
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < width; i++) {
            row[i] = 0;
            for (int j = 0; j < 3; j++) row[i] += prompts[k][j] ? table[prompts[k][j] * width + i] : 0;
        }
        rt_params_touch(one.set);
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *x = rt_input(g, "x", RT_F64, rank, shape), *at = rt_reals(g, 1, (int64_t[]){1}, &t), *gradient;
        one.out = rt_net_apply(one.net, one.set, x, at, rt_const(g, RT_I64, 1, (int64_t[]){1}, &(int64_t){0}));
        words.out = rt_net_apply(words.net, words.set, x, at, rt_const(g, RT_I64, 2, (int64_t[]){1, 3}, prompts[k]));
        rt_node *all = rt_sum(rt_square(words.out), rank == 2 ? 3 : 15, false);
        rt_node *weight = rt_param(g, words.set, "class_embedding.weight", 2, (int64_t[]){7, width}, RT_INIT_NORMAL(1));
        rt_grad(all, &weight, 1, &gradient);
        rt_node *outputs[] = {one.out, words.out, gradient};
        rt_program *p = NULL;
        run_on_noise(&p, g, outputs, 3, x);
        const double *want = rt_program_data(p, one.out), *got = rt_program_data(p, words.out), *d = rt_program_data(p, gradient);
        for (int64_t i = 0; i < rt_program_count(p, x); i++)
            CHECK_NEAR(got[i], want[i], TOL_GRAPH, "%s, prompt %d, output %d", head, k, (int)i);
        for (int token = 0; token < 7; token++) {
            double size = 0;
            bool said = token > 0 && (prompts[k][0] == token || prompts[k][1] == token || prompts[k][2] == token);
            for (int i = 0; i < width; i++) size += fabs(d[token * width + i]);
            if (said ? size < 1e-9 : size != 0) fail_msg("prompt %d: the gradient of token %d is %g", k, token, size);
        }
        rt_program_free(p);
        rt_graph_free(g);
    }
    rt_graph *g = rt_graph_new(RT_F64);
    rt_error err = {0};
    rt_node *x = rt_input(g, "x", RT_F64, rank, shape);
    rt_net_apply(words.net, words.set, x, rt_reals(g, 1, (int64_t[]){1}, &t), rt_const(g, RT_I64, 1, (int64_t[]){1}, &(int64_t){3}));
    assert_int_equal(rt_graph_status(g, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "takes tokens (B,3) I64"));
    rt_graph_free(g);
    drop(&one);
    drop(&words);
}

static void sums_of_words(void **state)
{
    (void)state;
    compare(MLP, 2, (int64_t[]){1, 3}, 12);
    compare(UNET, 4, (int64_t[]){1, 1, 8, 8}, 32);
}

static double silu(double v) { return v / (1 + exp(-v)); }

/* A network that is told a camera adds linear_2(silu(linear_1(c))) to the time embedding, as a class would whose row is that vector; it starts at 0. Behind a second time and in front
 * of omega, where those are told, too. */
static void camera(const char *head, const char *more, int before, int behind, int rank, const int64_t *shape, int width)
{
    enum { N = RT_CAMERA_NUMBERS, WIDEST = 32 };
    char text[2048];
    double told[N + 3] = {300, 410}, hidden[WIDEST], *c = told + before;
    uint64_t seed = 3;
    snprintf(text, sizeof text, "%s%s, \"num_class_embeds\": 1}", head, more);
    part one = load(text);
    snprintf(text, sizeof text, "%s%s, \"_camera\": true}", head, more);
    part two = load(text);
    assert_true(rt_net_describe(two.net)->camera);
    assert_int_equal(rt_net_describe(two.net)->told, before + N + behind);
    double *W1 = entry(&two, "camera_embedding.linear_1.weight"), *b1 = entry(&two, "camera_embedding.linear_1.bias"),
           *W2 = entry(&two, "camera_embedding.linear_2.weight"), *b2 = entry(&two, "camera_embedding.linear_2.bias"),
           *row = entry(&one, "class_embedding.weight");
    for (int j = 0; j < N; j++) c[j] = wobble(&seed);
    c[N] = 1.5; /* omega */
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < width; i++) {
            hidden[i] = b1[i];
            for (int j = 0; j < N; j++) hidden[i] += W1[i * N + j] * c[j];
            hidden[i] = silu(hidden[i]);
        }
        for (int i = 0; i < width; i++) {
            if (round == 0) assert_true(b2[i] == 0);
            row[i] = b2[i] = round * wobble(&seed);
            for (int j = 0; j < width; j++) {
                if (round == 0) assert_true(W2[i * width + j] == 0);
                W2[i * width + j] = round * wobble(&seed);
                row[i] += W2[i * width + j] * hidden[j];
            }
        }
        rt_params_touch(one.set);
        rt_params_touch(two.set);
        double plain[3];
        int n = 0;
        for (int j = 0; j < before; j++) plain[n++] = told[j];
        if (behind) plain[n++] = c[N];
        rt_graph *g = rt_graph_new(RT_F64);
        rt_node *x = rt_input(g, "x", RT_F64, rank, shape);
        one.out = rt_net_apply(one.net, one.set, x, rt_reals(g, n > 1 ? 2 : 1, (int64_t[]){1, n}, plain),
                               rt_const(g, RT_I64, 1, (int64_t[]){1}, &(int64_t){0}));
        two.out = rt_net_apply(two.net, two.set, x, rt_reals(g, 2, (int64_t[]){1, before + N + behind}, told), NULL);
        rt_program *p = NULL;
        run_on_noise(&p, g, (rt_node *[]){one.out, two.out}, 2, x);
        const double *want = rt_program_data(p, one.out), *got = rt_program_data(p, two.out);
        for (int64_t i = 0; i < rt_program_count(p, x); i++) CHECK_NEAR(got[i], want[i], TOL_GRAPH, "%s%s, output %d", head, more, (int)i);
        rt_program_free(p);
        rt_graph_free(g);
    }
    drop(&one);
    drop(&two);
}

static void cameras(void **state)
{
    (void)state;
    camera(MLP, "", 1, 0, 2, (int64_t[]){1, 3}, 12);
    camera(MLP, ", \"_target_time\": true, \"_guidance\": true", 2, 1, 2, (int64_t[]){1, 3}, 12);
    camera(UNET, "", 1, 0, 4, (int64_t[]){1, 1, 8, 8}, 32);
    camera(UNET, ", \"_guidance\": true", 1, 1, 4, (int64_t[]){1, 1, 8, 8}, 32);
    camera(UNET, ", \"time_embedding_type\": \"fourier\"", 1, 0, 4, (int64_t[]){1, 1, 8, 8}, 32);
}

/* The derivative of a sum of squares by an entry of both layers, against central differences. */
static void camera_gradients(void **state)
{
    (void)state;
    static const char *const names[] = {"camera_embedding.linear_1.weight", "camera_embedding.linear_1.bias",
                                        "camera_embedding.linear_2.weight"};
    const double step = 1e-5;
    uint64_t seed = 12;
    rt_net *plain = opened(UNET "}"), *net;
    CHECK_OK(rt_net_with_camera(&net, plain, &err));
    part p = {.net = net, .set = rt_params_new("set", RT_F64)};
    CHECK_OK(rt_net_declare(p.net, p.set, &err));
    CHECK_OK(rt_params_init(p.set, 4, &err));
    double *W2 = entry(&p, "camera_embedding.linear_2.weight"), told[1 + RT_CAMERA_NUMBERS] = {300};
    for (int i = 0; i < 32 * 32; i++) W2[i] = wobble(&seed);
    for (int i = 1; i <= RT_CAMERA_NUMBERS; i++) told[i] = wobble(&seed);
    rt_params_touch(p.set);
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, 4, (int64_t[]){1, 1, 8, 8}), *wrt[3], *gradients[3];
    for (int k = 0; k < 3; k++) {
        const rt_entry *e = rt_params_entry(p.set, rt_params_find(p.set, names[k]));
        wrt[k] = rt_param(g, p.set, e->name, e->rank, e->shape, e->init);
    }
    rt_node *out = rt_net_apply(p.net, p.set, x, rt_reals(g, 2, (int64_t[]){1, 1 + RT_CAMERA_NUMBERS}, told), NULL);
    rt_node *loss = rt_sum(rt_square(out), 15, false);
    rt_grad(loss, wrt, 3, gradients);
    rt_program *program = NULL;
    run_on_noise(&program, g, (rt_node *[]){loss, gradients[0], gradients[1], gradients[2]}, 4, x);
    for (int k = 0; k < 3; k++) {
        double *value = entry(&p, names[k]) + 5, got = ((double *)rt_program_data(program, gradients[k]))[5], at[2], keep = *value;
        for (int side = 0; side < 2; side++) {
            *value = keep + (side ? step : -step);
            rt_params_touch(p.set);
            CHECK_OK(rt_run(program, &(rt_clock){0}, &err));
            at[side] = *(double *)rt_program_data(program, loss);
        }
        *value = keep;
        rt_params_touch(p.set);
        CHECK_OK(rt_run(program, &(rt_clock){0}, &err));
        assert_true(fabs(got) > 1e-6);
        CHECK_NEAR((at[1] - at[0]) / (2 * step), got, 1e-6 * fabs(got) + 1e-8, "%s", names[k]);
    }
    rt_program_free(program);
    rt_graph_free(g);
    drop(&p);
    rt_net *affine = opened("{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": [0]}"), *none;
    rt_error err = {0};
    assert_int_equal(rt_net_with_camera(&none, affine, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "cannot be told a camera"));
    rt_net_free(affine);
    rt_net_free(plain);
}

/* The evaluator tells each row its camera, and shows labels of prompts as tokens. */
static void asked_outside_graphs(void **state)
{
    (void)state;
    enum { B = 2 };
    rt_net *net = opened(MLP ", \"_camera\": true, \"num_class_embeds\": 7, " WORDS "}");
    rt_params *set = rt_params_new("set", RT_F32);
    CHECK_OK(rt_net_declare(net, set, &err));
    CHECK_OK(rt_params_init(set, 4, &err));
    part p = {net, set, NULL};
    uint64_t seed = 5;
    float *W2 =
        (float *)rt_params_data(set, RT_VALUE) + rt_params_entry(set, rt_params_find(set, "camera_embedding.linear_2.weight"))->offset;
    for (int i = 0; i < 12 * 12; i++) W2[i] = (float)wobble(&seed);
    rt_params_touch(set);
    const int64_t y[B] = {2 + 5 * 7, 4}, tokens[B][3] = {{2, 5, 0}, {4, 0, 0}};
    double t[B] = {100, 300}, cameras[B][RT_CAMERA_NUMBERS];
    float x[B][3], told[B][1 + RT_CAMERA_NUMBERS], out[B][3];
    for (int i = 0; i < B; i++) {
        told[i][0] = (float)t[i];
        for (int j = 0; j < RT_CAMERA_NUMBERS; j++) told[i][1 + j] = (float)(cameras[i][j] = wobble(&seed));
        for (int j = 0; j < 3; j++) x[i][j] = (float)wobble(&seed);
    }
    rt_evaluator e;
    rt_evaluator_spec spec = {.denoiser = {.net = net, .set = set}, .program = {.batch = 1, .threads = 1}};
    CHECK_OK(rt__evaluator_open(&e, &spec, &err));
    rt_error none = {0};
    assert_int_equal(rt__evaluator_rows(&e, B, x[0], t, y, out[0], NULL, &none), RT_E_INTERNAL);
    e.cameras = cameras[0], e.samples = B;
    CHECK_OK(rt__evaluator_rows(&e, B, x[0], t, y, out[0], NULL, &err));
    rt__evaluator_close(&e);
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *xn = rt_input(g, "x", RT_F32, 2, (int64_t[]){RT_BATCH, 3}), *yn = rt_input(g, "y", RT_I64, 2, (int64_t[]){RT_BATCH, 3}),
            *tn = rt_input(g, "t", RT_F32, 2, (int64_t[]){RT_BATCH, 1 + RT_CAMERA_NUMBERS}), *all = rt_net_apply(net, set, xn, tn, yn);
    rt_program *program = NULL;
    CHECK_OK(rt_compile(&program, g, &(rt_program_spec){.outputs = &all, .n_outputs = 1, .batch = B, .threads = 1}, &err));
    memcpy(rt_program_data(program, xn), x, sizeof x);
    memcpy(rt_program_data(program, tn), told, sizeof told);
    memcpy(rt_program_data(program, yn), tokens, sizeof tokens);
    CHECK_OK(rt_run(program, &(rt_clock){0}, &err));
    const float *want = rt_program_data(program, all);
    for (int i = 0; i < B * 3; i++) CHECK_NEAR((double)out[i / 3][i % 3], (double)want[i], 1e-5, "row %d, output %d", i / 3, i % 3);
    rt_program_free(program);
    rt_graph_free(g);
    drop(&p);
}

int main(void)
{
    int fd = mkstemp(file);
    if (fd < 0) return 1;
    close(fd);
    const struct CMUnitTest tests[] = {cmocka_unit_test(labels),           cmocka_unit_test(configurations),
                                       cmocka_unit_test(sums_of_words),    cmocka_unit_test(cameras),
                                       cmocka_unit_test(camera_gradients), cmocka_unit_test(asked_outside_graphs)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(file);
    return failed;
}
