/* scene_told.c -- what the networks of a scene are told of cameras that are drawn: s_zeta begins as the teacher, is told the matrix of each camera where it learns and where it
 * is asked, in slices and for several particles, learns it, and then knows more of the scene than by the words of views; a teacher that is told matrices is told them, too.
 *
 * The U-Nets are small. Where answers are compared with those of a graph of their own, the first convolution is 0: what they answer is a function of the time, the prompt and the camera
 * alone. */
#include "distill/scene_painting.h"
#include "distill/sources.h"

#include "base/internal.h"
#include "model/classes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIDE = 8, D = 3 * SIDE * SIDE, N = RT_CAMERA_NUMBERS, LENGTH = 3 };

#define UNET                                                                                                                               \
    "{\"_class_name\": \"UNet2DModel\", \"in_channels\": 3, \"out_channels\": 3, \"sample_size\": 8, \"block_out_channels\": [8], "        \
    "\"layers_per_block\": 1, \"norm_num_groups\": 4, \"down_block_types\": [\"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\"], "      \
    "\"mid_block_type\": null"
#define WORDS                                                                                                                              \
    ", \"num_class_embeds\": 7, \"_words\": {\"vocabulary\": [\"box\", \"front\", \"side\", \"back\", \"overhead\", \"view\"], "           \
    "\"length\": 3}"

static rt_error err;
static char file[] = "/tmp/retort-scene-told-XXXXXX";
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

typedef struct world {
    rt_config config;
    rt_task task;
    rt_round round;
    rt_process *process;
    rt_net *net;
    rt_params *teacher;
} world;

/* The set's entry: its numbers drawn, or 0. */
static void redraw(rt_params *set, const char *name, double scale)
{
    const rt_entry *e = rt_params_entry(set, rt_params_find(set, name));
    float *to = (float *)rt_params_data(set, RT_VALUE) + e->offset;
    double *v = malloc((size_t)e->count * sizeof *v);
    assert_non_null(v);
    rt__draw_normals(&(rt__draw){.seed = 3, .name = rt__draw_name(name)}, 0, e->count, v);
    for (int64_t i = 0; i < e->count; i++) to[i] = (float)(scale * v[i]);
    free(v);
    rt_params_touch(set);
}

static void open_world(world *w, const rt_method *method, const char *net, const char *const *keys)
{
    *w = (world){0};
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(net, f);
    fclose(f);
    OK(rt_net_open(&w->net, file, &err));
    const rt_net_info *i = rt_net_describe(w->net);
    w->teacher = rt_params_new("teacher", RT_F32);
    OK(rt_net_declare(w->net, w->teacher, &err));
    OK(rt_params_init(w->teacher, 6, &err));
    if (i->camera) redraw(w->teacher, "camera_embedding.linear_2.weight", 0.5);
    rt_process_spec flow = rt_process_defaults("flow");
    OK(rt_process_new(&w->process, &flow, &err));
    OK(rt_config_method(&w->config, method->name, &err));
    static const char *const all[] = {"out",         "/nowhere", "threads",       "1", "scene.kind", "grid", "scene.nodes", "6",
                                      "train.batch", "8",        "scene.samples", "8", "scene.init", "rough"};
    for (size_t k = 0; k < RT_COUNT(all); k += 2) OK(rt_config_set(&w->config, all[k], all[k + 1], &err));
    if (i->words) OK(rt_config_set(&w->config, "scene.prompt", "box", &err));
    for (const char *const *k = keys; *k; k += 2) OK(rt_config_set(&w->config, k[0], k[1], &err));
    w->task = (rt_task){
        .method = method,
        .config = &w->config,
        .process = w->process,
        .classes = i->classes,
        .words = i->words,
        .null_class = i->words ? 0 : i->classes - 1,
        .low = -1,
        .high = 1,
        .real = RT_F32,
        .teacher = {
            .net = w->net, .set = w->teacher, .prediction = rt_prediction_find("x0", &err), .null_class = i->words ? 0 : i->classes - 1}};
}

static void begin(world *w)
{
    OK(rt__task_open(&w->task, &err));
    OK(rt__round_open(&w->round, &w->task, 0, &err));
    OK(rt__round_compile(&w->round, &err));
}

static void close_world(world *w)
{
    rt__round_close(&w->round);
    rt__task_close(&w->task);
    rt_params_free(w->teacher);
    rt_net_free(w->net);
    rt_process_free(w->process);
}

static void update(world *w, int u, int n) { OK(rt__round_update(&w->round, u, n, "test", u, &err)); }

static const rt_net_info *score_of(const world *w) { return rt_net_describe(rt__network(&w->task, "score")->denoiser.net); }

static bool without_matrix; /* of s_zeta, which is then told words alone */
static rt_status plan_maybe_without(const rt_task *t, rt_plan *plan, rt_error *e)
{
    RT_TRY(rt__method_vsd_scene.plan(t, plan, e));
    plan->networks[1].camera &= !without_matrix; /* the teacher is the first, s_zeta the second */
    return RT_OK;
}

/* The answer of a network at the network's time t, from a graph of its own. */
static void ask(const world *w, const rt_denoiser *m, double t, const rt_camera *camera, float *out)
{
    const rt_net_info *i = rt_net_describe(m->net);
    double told[1 + N] = {t};
    int64_t tokens[LENGTH], label = rt__scene_label(&w->task, camera, 0);
    memcpy(told + 1, camera->c2w, N * sizeof *told);
    if (i->words) rt_words_tokens(i->words, label, tokens);
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *x = rt_broadcast(rt_scalar(g, 0.1), 4, (int64_t[]){1, 3, SIDE, SIDE});
    rt_node *y = i->words     ? rt_const(g, RT_I64, 2, (int64_t[]){1, LENGTH}, tokens)
                 : i->classes ? rt_const(g, RT_I64, 1, (int64_t[]){1}, &label)
                              : NULL;
    rt_node *result = rt_net_apply(m->net, m->set, x, rt_reals(g, i->camera ? 2 : 1, (int64_t[]){1, i->told}, told), y);
    rt_program *p;
    OK(rt_compile(&p, g, &(rt_program_spec){.outputs = &result, .n_outputs = 1, .batch = 1, .threads = 1}, &err));
    OK(rt_run(p, &(rt_clock){0}, &err));
    memcpy(out, rt_program_data(p, result), D * sizeof *out);
    rt_program_free(p);
    rt_graph_free(g);
}

static rt_phase *phase_of(world *w, const char *name)
{
    for (int i = 0; i < w->round.n_phases; i++)
        if (!strcmp(w->round.phases[i].plan->name, name)) return &w->round.phases[i];
    return NULL;
}

static double drawn(uint64_t seed, int u, int sample)
{
    uint32_t words[4];
    rt__draw_words(&(rt__draw){.seed = seed, .name = rt__draw_name("t"), .clock = (uint32_t)u}, (uint32_t)sample, 0, words);
    return rt__unit(words[0]);
}

/* ---- how it begins */

static void begins_as_the_teacher(void **state)
{
    (void)state;
    static const struct {
        const char *more, *score;
        bool camera;
    } cases[] = {{WORDS "}", "network", true},
                 {"}", "network", true},
                 {", \"num_class_embeds\": 3}", "network", true},
                 {WORDS ", \"_camera\": true}", "network", true},
                 {", \"num_class_embeds\": 3}", "blind", false}};
    for (size_t k = 0; k < RT_COUNT(cases); k++) {
        world w;
        char net[2048];
        snprintf(net, sizeof net, "%s%s", UNET, cases[k].more);
        open_world(
            &w, &rt__method_vsd_scene, net,
            (const char *const[]){"vsd.score", cases[k].score, "vsd.score-lr", "0", "scene.particles", "2", "vsd.guidance", "0", NULL});
        begin(&w);
        assert_int_equal(score_of(&w)->camera, cases[k].camera);
        for (int u = 0; u < 3; u++) {
            update(&w, u, 3);
            const float *to = rt__input_data(phase_of(&w, "scene"), phase_of(&w, "scene")->program, "u");
            for (int i = 0; i < 8 * 2 * D; i++)
                if (to[i] != 0) fail_msg("case %d, update %d: the two scores differ", (int)k, u);
        }
        close_world(&w);
    }
}

/* ---- the matrix of each camera */

/* The last slice of an update: what s_zeta learned from, and the direction that the two networks gave. */
static void check_update(world *w, int u, int batch, int slice, int particles)
{
    const rt_task *t = &w->task;
    const rt_cameras drawn_ones = {0};
    rt_phase *fake = phase_of(w, "fake"), *scene = phase_of(w, "scene");
    const rt_denoiser *score = rt__denoiser(scene, "score"), *teacher = rt__denoiser(scene, "teacher");
    const rt_weight *weight = rt_weight_find("alpha", &err);
    rt_camera cameras[8];
    float f_z[D], f_p[D];
    int first = batch - slice;
    rt__scene_cameras(t, &drawn_ones, rt__stream_seed(fake), u, first, slice, batch, cameras);
    const float *told = rt__input_data(fake, fake->program, "camera");
    assert_non_null(told);
    for (int i = 0; i < slice * N; i++)
        if (told[i] != (float)cameras[i / N].c2w[i % N]) fail_msg("update %d, camera %d, number %d", u, i / N, i % N);
    uint64_t seed = rt__stream_seed(scene);
    rt__scene_cameras(t, &drawn_ones, seed, u, first, slice, batch, cameras);
    const float *to = rt__input_data(scene, scene->program, "u");
    double largest = 0;
    for (int b = 0; b < slice; b++) {
        double at = 0.02 + 0.96 * drawn(seed, u, first + b), factor = rt_weight_at(weight, t->process, at, 0);
        ask(w, score, rt_process_network_time(t->process, at), &cameras[b], f_z);
        ask(w, teacher, rt_process_network_time(t->process, at), &cameras[b], f_p);
        for (int p = 0; p < particles; p++)
            for (int j = 0; j < D; j++) {
                double want = factor * ((double)f_z[j] - (double)f_p[j]), got = (double)to[(b * particles + p) * D + j];
                if (!(fabs(got - want) <= 1e-4)) fail_msg("update %d, camera %d, particle %d: %.7g, not %.7g", u, b, p, got, want);
                largest = fmax(largest, fabs(want));
            }
    }
    assert_true(largest > 0.01);
}

static void told_where_asked(const char *more, const char *micro_batch, int slice, double of_score)
{
    world w;
    char net[2048];
    snprintf(net, sizeof net, "%s%s", UNET, more);
    open_world(
        &w, &rt__method_vsd_scene, net,
        (const char *const[]){"vsd.score", "network", "vsd.score-lr", "0", "scene.particles", "2", "train.micro-batch", micro_batch, NULL});
    redraw(w.teacher, "conv_in.weight", 0);
    redraw(w.teacher, "conv_in.bias", 0);
    begin(&w);
    redraw(rt__network(&w.task, "score")->set, "camera_embedding.linear_2.weight", of_score);
    for (int u = 0; u < 2; u++) {
        update(&w, u, 2);
        check_update(&w, u, 8, slice, 2);
    }
    close_world(&w);
}

static void told_the_matrix(void **state)
{
    (void)state;
    told_where_asked(WORDS "}", "0", 8, 0.5);
    told_where_asked(WORDS "}", "2", 2, 0.5);
    told_where_asked("}", "0", 8, 0.5);
    told_where_asked(WORDS ", \"_camera\": true}", "0", 8, 0); /* the teacher alone looks */
    told_where_asked(", \"num_class_embeds\": 3, \"_camera\": true}", "4", 4, 0);
}

/* ---- what it learns */

/* RMS between s_zeta and the exact score of a scene that stands still, over the last third of the updates; and how s_zeta's answers at two sides of one word differ. */
static double lag_after(int updates, bool alone, double *apart)
{
    world w;
    rt_method method = rt__method_vsd_scene;
    double lag = 0, rows = 0;
    float one[D], other[D];
    without_matrix = alone;
    method.plan = plan_maybe_without;
    open_world(&w, &method, UNET WORDS "}",
               (const char *const[]){"scene.lr", "1e-9", "vsd.score-lr", "0.003", "scene.elevation", "20,20", "train.lr-schedule",
                                     "constant", NULL});
    begin(&w);
    for (int u = 0; u < updates; u++) {
        update(&w, u, updates);
        const rt__scene_figures *f = rt__scene_latest(rt__scene_source_of(&w.round));
        if (3 * u >= 2 * updates) lag += f->lag, rows += f->rows;
    }
    rt_camera left = rt_camera_orbit(90, 20, 3.2, 36), right = rt_camera_orbit(270, 20, 3.2, 36);
    assert_string_equal(left.view, right.view);
    const rt_denoiser *score = &rt__network(&w.task, "score")->denoiser;
    ask(&w, score, rt_process_network_time(w.process, 0.8), &left, one);
    ask(&w, score, rt_process_network_time(w.process, 0.8), &right, other);
    *apart = 0;
    for (int j = 0; j < D; j++) *apart += pow((double)one[j] - (double)other[j], 2) / D;
    *apart = sqrt(*apart);
    close_world(&w);
    return sqrt(lag / rows);
}

static void learns_the_camera(void **state)
{
    (void)state;
    double apart, none, told = lag_after(300, false, &apart), words = lag_after(300, true, &none);
    print_message("fake lag %.4f with the matrix, %.4f without; sides %.3g apart\n", told, words, apart);
    assert_true(none == 0);
    assert_true(apart > 0.02);
    assert_true(told < 0.95 * words);
}

/* ---- teachers that know the camera */

static void guidance_by_default(void **state)
{
    (void)state;
    static const struct {
        const char *more;
        bool told;
    } cases[] = {{", \"num_class_embeds\": 3}", false}, {", \"num_class_embeds\": 3, \"_camera\": true}", true}};
    for (size_t k = 0; k < RT_COUNT(cases); k++) {
        world w;
        char net[2048];
        snprintf(net, sizeof net, "%s%s", UNET, cases[k].more);
        open_world(&w, &rt__method_sds, net, (const char *const[]){NULL});
        OK(rt__task_open(&w.task, &err));
        assert_int_equal(rt__scene_is_told(&w.task), cases[k].told);
        assert_true(rt__teacher(&w.task)->plan->guidance == (cases[k].told ? 0 : 6.5));
        close_world(&w);
    }
}

int main(void)
{
    int fd = mkstemp(file);
    if (fd < 0) return 1;
    close(fd);
    const struct CMUnitTest tests[] = {cmocka_unit_test(begins_as_the_teacher), cmocka_unit_test(told_the_matrix),
                                       cmocka_unit_test(learns_the_camera), cmocka_unit_test(guidance_by_default)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(file);
    return failed;
}
