/* map_matching.c -- the method map, (1.10): its objective and gradient in double against the equation written out and central differences; its examples
 * against the exact flow map of a mixture; a trained student's maps against the same. */
#include "flow_check.h"

#include "distill/sources.h"
#include "retort/format.h"
#include "retort/nn.h"
#include "retort/train.h"

#include <unistd.h>

enum { D = 2, B = 12, N = 8, STUDENT = 2 };

static const char oracle_text[] =
    "{\"kind\": \"mixture\", \"weights\": [0.3, 0.7], \"means\": [[1, -0.5], [-0.8, 0.4]], \"covariances\": [[[0.2, 0.05], "
    "[0.05, 0.1]], [[0.15, 0], [0, 0.3]]], \"prediction\": \"x0\", \"scheduler\": {\"_class_name\": \"DDIMScheduler\", "
    "\"num_train_timesteps\": 1024, \"beta_schedule\": \"squaredcos_cap_v2\", \"prediction_type\": \"sample\"}}";

static char folder[64], oracle_file[96], teacher_name[128], net_file[96];

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/retort-map-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(oracle_file, sizeof oracle_file, "%s/mixture.json", folder);
    snprintf(teacher_name, sizeof teacher_name, "oracle:%s", oracle_file);
    snprintf(net_file, sizeof net_file, "%s/net.json", folder);
    write_text(oracle_file, oracle_text);
    write_text(net_file, "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 32, \"layers\": 2, \"_target_time\": true}");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void set_key(rt_config *c, const char *key, const char *value) { CHECK_OK(rt_config_set(c, key, value, &err)); }

/* ---- one round's graph in `real` */

typedef struct world {
    rt_config config;
    rt_task task;
    rt_round round;
    rt_phase *phase;
    rt_net *net;
    rt_params *student;
    rt_oracle *oracle;
    rt_program *program;
    rt_error err;
} world;

static void open_world(world *w, rt_dtype real, const char *const *keys)
{
    *w = (world){0};
    CHECK_OK(rt_config_method(&w->config, "map", &err));
    set_key(&w->config, "threads", "1");
    set_key(&w->config, "train.batch", "12");
    set_key(&w->config, "map.teacher-steps", "8");
    set_key(&w->config, "map.steps", "2");
    set_key(&w->config, "map.prediction", "v");
    for (; *keys; keys += 2) set_key(&w->config, keys[0], keys[1]);
    CHECK_OK(rt_net_open(&w->net, net_file, &err));
    CHECK_OK(rt_oracle_open(&w->oracle, oracle_file, &err));
    w->task = (rt_task){.method = &rt__method_map,
                        .config = &w->config,
                        .process = rt_oracle_process(w->oracle),
                        .teacher = {.oracle = w->oracle, .prediction = rt_oracle_prediction(w->oracle), .null_class = -1},
                        .net = w->net,
                        .null_class = -1,
                        .real = real};
    if (rt__task_open(&w->task, &w->err) != RT_OK) fail_msg("%s", w->err.text);
    w->student = rt__network(&w->task, "student")->set;
    CHECK_OK(rt_params_init(w->student, 1, &err));
    /* the layer of the second time starts at 0: give it something to say */
    uint64_t seed = 3;
    const rt_entry *e = rt_params_entry(w->student, rt_params_find(w->student, "target_embedding.weight"));
    for (int64_t i = 0; i < e->count; i++) {
        double v = 0.3 * wobble(&seed);
        if (real == RT_F64)
            ((double *)rt_params_data(w->student, RT_VALUE))[e->offset + i] = v;
        else
            ((float *)rt_params_data(w->student, RT_VALUE))[e->offset + i] = (float)v;
    }
    rt_params_touch(w->student);
    if (rt__round_open(&w->round, &w->task, 0, &w->err) != RT_OK) fail_msg("%s", w->err.text);
    w->phase = &w->round.phases[0];
}

static void *input(const world *w, rt_program *program, const char *name) { return rt__input_data(w->phase, program, name); }

static void close_world(world *w)
{
    rt_program_free(w->program);
    rt__round_close(&w->round);
    rt__task_close(&w->task);
    rt_net_free(w->net);
    rt_oracle_free(w->oracle);
}

static void compile(world *w, rt_node *const *outputs, int n)
{
    CHECK_OK(rt_compile(
        &w->program, w->phase->graph,
        &(rt_program_spec){.outputs = outputs, .n_outputs = n, .batch = B, .threads = 1, .backend = rt_backend_find("reference")}, &err));
}

/* The pairs (i, j) of the grid that a row of time-pairs admits, in order: j - i steps of N, from the words of the table. */
static int pairs_of(const char *row, int *from, int *to)
{
    int n = 0, q = N / STUDENT;
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j <= N; j++) {
            bool in = !strcmp(row, "uniform")   ? true
                      : !strcmp(row, "local")   ? j - i == q
                      : !strcmp(row, "student") ? j - i == q && i % q == 0
                      : !strcmp(row, "to-data") ? j == N
                                                : i == 0 && j == N;
            if (in) from[n] = i, to[n++] = j;
        }
    return n;
}

/* The network's raw output at one point, for both times, in double. */
static void ask(const world *w, const double *x, double s, double t, double *out)
{
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *xn = rt_input(g, "x", RT_F64, 2, (int64_t[]){1, D}), *tn = rt_input(g, "t", RT_F64, 2, (int64_t[]){1, 2});
    rt_node *o = rt_net_apply(w->net, w->student, xn, tn, NULL);
    rt_program *p = NULL;
    CHECK_OK(rt_compile(
        &p, g, &(rt_program_spec){.outputs = &o, .n_outputs = 1, .batch = 1, .threads = 1, .backend = rt_backend_find("reference")}, &err));
    memcpy(rt_program_data(p, xn), x, D * sizeof *x);
    ((double *)rt_program_data(p, tn))[0] = s;
    ((double *)rt_program_data(p, tn))[1] = t;
    CHECK_OK(rt_run(p, &(rt_clock){0}, &err));
    memcpy(out, rt_program_data(p, o), D * sizeof *out);
    rt_program_free(p);
    rt_graph_free(g);
}

static double alpha_of(double i) /* squaredcos_cap_v2 of 1024 from its definition; time i is diffusers' i - 1 */
{
    double product = 1;
    for (int k = 0; k < (int)i; k++) {
        double a = cos(((k + 1.0) / 1024 + 0.008) / 1.008 * M_PI / 2), b = cos((k / 1024.0 + 0.008) / 1.008 * M_PI / 2);
        product *= 1 - fmin(1 - a * a / (b * b), 0.999);
    }
    return sqrt(product);
}
static double beta_of(double i) { return sqrt(1 - alpha_of(i) * alpha_of(i)); }

static double distance(const char *row, const double *a, const double *b)
{
    double square = 0, sum = 0, c = 0.00054 * sqrt((double)D);
    for (int i = 0; i < D; i++) square += pow(a[i] - b[i], 2), sum += fabs(a[i] - b[i]);
    return !strcmp(row, "l2") ? square / D : !strcmp(row, "l1") ? sum / D : sqrt(square + c * c) - c;
}

/* (1.10) on given x_s and x_t: every row of pi, d and two weights. */
static void objective(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"uniform", "l2", "map"},     {"uniform", "l1", "map"},      {"uniform", "pseudo-huber", "map"},
                                           {"local", "l2", "snr"},       {"student", "l2", "uniform"},  {"to-data", "l1", "snr"},
                                           {"uniform", "l2", "min-snr"}, {"noise-to-data", "l2", "map"}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const char *keys[] = {"map.pairs", cases[c][0], "map.distance", cases[c][1], "train.weight", cases[c][2], NULL};
        int from[N * N], to[N * N], n = pairs_of(cases[c][0], from, to);
        world w;
        open_world(&w, RT_F64, keys);
        compile(&w, &w.phase->loss, 1);
        double *xs = input(&w, w.program, "xs"), *xt = input(&w, w.program, "xt"), want = 0;
        int64_t *k = input(&w, w.program, "k");
        uint64_t seed = 7;
        for (int i = 0; i < B * D; i++) xs[i] = wobble(&seed), xt[i] = wobble(&seed);
        for (int i = 0; i < B; i++) k[i] = (5 * i + 1) % n;
        for (int i = 0; i < B; i++) {
            double s = 1024.0 * (N - from[k[i]]) / N, t = 1024.0 * (N - to[k[i]]) / N, as = alpha_of(s), bs = beta_of(s), at = alpha_of(t),
                   bt = t > 0 ? beta_of(t) : 0, v[D], G[D], C = at - as * bt / bs, snr = as * as / (bs * bs);
            ask(&w, xs + i * D, s - 1, t - 1, v);
            for (int j = 0; j < D; j++) {
                double x0 = as * xs[i * D + j] - bs * v[j], eps = bs * xs[i * D + j] + as * v[j];
                G[j] = at * x0 + bt * eps; /* DDIM in its other form */
            }
            double of_x0 = !strcmp(cases[c][2], "snr") ? snr : !strcmp(cases[c][2], "min-snr") ? fmin(snr, 5) : 1;
            want += (!strcmp(cases[c][2], "map") ? 1 : of_x0 / (C * C)) * distance(cases[c][1], G, xt + i * D) / B;
        }
        CHECK_OK(rt_run(w.program, &(rt_clock){0}, &err));
        double got = *(double *)rt_program_data(w.program, w.phase->loss);
        print_message("%-14s %-13s %-8s %.12g\n", cases[c][0], cases[c][1], cases[c][2], got);
        CHECK_NEAR(got, want, TOL_MAP_OBJECTIVE * want, "%s, %s, %s", cases[c][0], cases[c][1], cases[c][2]);
        close_world(&w);
    }
}

/* d loss / d theta as the training step takes it, theta - lr grad, in a few entries, the second time's among them. */
static void gradient(void **state)
{
    (void)state;
    static const char *const names[] = {"target_embedding.weight", "time_embedding.bias", "layers.1.linear_2.weight", "proj_out.weight"};
    const char *keys[] = {
        "map.distance", "pseudo-huber", "train.optimiser", "sgd", "train.beta1", "0", "train.clip", "0", "train.ema", "0", NULL};
    world w;
    open_world(&w, RT_F64, keys);
    rt_phase *phase = w.phase;
    rt_program *step = NULL;
    compile(&w, &phase->loss, 1);
    CHECK_OK(
        rt_compile(&step, w.phase->graph,
                   &(rt_program_spec){
                       .updates = &phase->update.node, .n_updates = 1, .batch = B, .threads = 1, .backend = rt_backend_find("reference")},
                   &err));
    uint64_t seed = 9;
    for (int i = 0; i < 2 * B * D; i++) {
        int side = i / (B * D), at = i % (B * D);
        double v = wobble(&seed);
        ((double *)input(&w, w.program, side ? "xt" : "xs"))[at] = v;
        ((double *)input(&w, step, side ? "xt" : "xs"))[at] = v;
    }
    for (int i = 0; i < B; i++) ((int64_t *)input(&w, w.program, "k"))[i] = ((int64_t *)input(&w, step, "k"))[i] = 3 * i;
    const double lr = 1.0 / 1024;
    *(double *)rt_program_data(step, phase->update.lr) = lr;
    double *values = rt_params_data(w.student, RT_VALUE), *before = malloc((size_t)rt_params_extent(w.student, RT_VALUE) * sizeof *before);
    memcpy(before, values, (size_t)rt_params_extent(w.student, RT_VALUE) * sizeof *before);
    CHECK_OK(rt_run(step, &(rt_clock){0}, &err));
    double *after = malloc((size_t)rt_params_extent(w.student, RT_VALUE) * sizeof *after);
    memcpy(after, values, (size_t)rt_params_extent(w.student, RT_VALUE) * sizeof *after);
    memcpy(values, before, (size_t)rt_params_extent(w.student, RT_VALUE) * sizeof *before);
    for (int i = 0; i < 4; i++) {
        const rt_entry *e = rt_params_entry(w.student, rt_params_find(w.student, names[i]));
        double worst = 0, largest = 0;
        for (int64_t j = e->offset; j < e->offset + e->count; j += 1 + e->count / 7) {
            const double h = 1e-4;
            double f[2], got = (before[j] - after[j]) / lr;
            for (int side = 0; side < 2; side++) {
                values[j] = before[j] + (side ? h : -h);
                rt_params_touch(w.student);
                CHECK_OK(rt_run(w.program, &(rt_clock){0}, &err));
                f[side] = *(double *)rt_program_data(w.program, phase->loss);
            }
            values[j] = before[j];
            worst = fmax(worst, fabs(got - (f[1] - f[0]) / (2 * h)));
            largest = fmax(largest, fabs(got));
        }
        print_message("%-26s %.3g of %.3g\n", names[i], worst, largest);
        assert_true(largest > 1e-3);
        CHECK_NEAR(worst, 0, TOL_MAP_GRADIENT * largest, "%s", names[i]);
    }
    free(before);
    free(after);
    rt_program_free(step);
    close_world(&w);
}

/* Examples of a fine teacher are the exact flow map; pairs come as often as pi says; a stop between updates changes nothing. */
static void examples(void **state)
{
    (void)state;
    static const char *const rows[] = {"uniform", "local", "student", "to-data", "noise-to-data"};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        const char *keys[] = {"map.pairs", rows[r], "map.teacher-solver", "dpm-3", "map.teacher-steps", "64", "map.steps", "16", "map.pool",
                              "60",        NULL};
        world w;
        open_world(&w, RT_F32, keys);
        compile(&w, &w.phase->loss, 1);
        const float *xs = input(&w, w.program, "xs"), *xt = input(&w, w.program, "xt");
        const int64_t *k = input(&w, w.program, "k");
        int n = 0, count[64 * 65 / 2] = {0}, from[64 * 65 / 2], to[64 * 65 / 2];
        for (int i = 0; i < 64; i++)
            for (int j = i + 1; j <= 64; j++)
                if (r == 0 || (r == 1 && j - i == 4) || (r == 2 && j - i == 4 && i % 4 == 0) || (r == 3 && j == 64) ||
                    (r == 4 && i == 0 && j == 64))
                    from[n] = i, to[n++] = j;
        const rt_process *p = w.task.process;
        double worst = 0;
        enum { UPDATES = 40 };
        for (int u = 0; u < UPDATES; u++) {
            CHECK_OK(rt__fill_inputs(w.phase, u, 0, B, w.program, &err));
            for (int i = 0; i < B; i++) {
                assert_in_range(k[i], 0, n - 1);
                count[k[i]]++;
                if (u % 8) continue;
                bool ends = to[k[i]] == 64; /* to data the last step is the prediction */
                double s = w.round.grid[from[k[i]]], t = w.round.grid[to[k[i]] - ends], x[D] = {(double)xs[i * D], (double)xs[i * D + 1]},
                       want[D];
                CHECK_OK(rt_oracle_flow_map(w.oracle, rt_process_alpha(p, s), rt_process_beta(p, s), rt_process_alpha(p, t),
                                            rt_process_beta(p, t), 1, x, want, &err));
                if (ends) CHECK_OK(rt_oracle_posterior_mean(w.oracle, rt_process_alpha(p, t), rt_process_beta(p, t), 1, want, want, &err));
                for (int j = 0; j < D; j++) worst = fmax(worst, fabs((double)xt[i * D + j] - want[j]));
            }
        }
        /* thirds of the pairs, in order, are drawn alike */
        for (int third = 0; third < 3 && n >= 3; third++) {
            int low = n * third / 3, high = n * (third + 1) / 3, drawn = 0;
            for (int i = low; i < high; i++) drawn += count[i];
            double share = (double)(high - low) / n, all = UPDATES * B;
            CHECK_NEAR(drawn / all, share, 5 * sqrt(share * (1 - share) / all), "%s: pairs %d to %d", rows[r], low, high);
        }
        print_message("%-14s %4d pairs, examples %.2g from the flow map\n", rows[r], n, worst);
        CHECK_NEAR(worst, 0, TOL_MAP_EXAMPLES, "%s: the teacher's map", rows[r]);
        /* again from the middle, as after a resumption */
        float again[2 * B * D];
        CHECK_OK(rt__fill_inputs(w.phase, 17, 0, B, w.program, &err));
        memcpy(again, xs, sizeof(float) * B * D);
        memcpy(again + B * D, xt, sizeof(float) * B * D);
        CHECK_OK(rt__fill_inputs(w.phase, 3, 0, B, w.program, &err));
        for (int half = 0; half < 2; half++) { /* in two slices */
            CHECK_OK(rt__fill_inputs(w.phase, 17, half * B / 2, B / 2, w.program, &err));
            assert_memory_equal(xs, again + half * B * D / 2, sizeof(float) * B * D / 2);
            assert_memory_equal(xt, again + B * D + half * B * D / 2, sizeof(float) * B * D / 2);
        }
        close_world(&w);
    }
}

/* ---- whole runs */

/* Gives the drift that the run reports: the student's rollout by its recipe, 4 steps, against the teacher's. */
static double train(const char *name, const char *updates, const char *const *keys)
{
    char out[128];
    rt_config c;
    CHECK_OK(rt_config_method(&c, "map", &err));
    snprintf(out, sizeof out, "%s/%s", folder, name);
    set_key(&c, "out", out);
    set_key(&c, "teacher", teacher_name);
    set_key(&c, "net", net_file);
    set_key(&c, "threads", "1");
    set_key(&c, "train.updates", updates);
    set_key(&c, "train.lr", "0.002");
    set_key(&c, "train.ema", "0.99");
    set_key(&c, "run.checkpoint-every", "0");
    for (; *keys; keys += 2) set_key(&c, keys[0], keys[1]);
    rt_run_summary summary;
    CHECK_OK(rt_run_train(&c, false, NULL, &summary, &err));
    return summary.rounds[0].drift;
}

static double error_of(const char *name, int steps)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s/student", folder, name);
    return flow_map_error(path, oracle_file, steps);
}

/* The error of the student's own map 1 -> 0, and of its maps in 4 steps, falls as it is trained, with data and without. */
static void learns(void **state)
{
    (void)state;
    char data[128];
    rt_oracle *o = NULL;
    double draw[2000 * D];
    float x[2000 * D];
    snprintf(data, sizeof data, "%s/data.safetensors", folder);
    CHECK_OK(rt_oracle_open(&o, oracle_file, &err));
    CHECK_OK(rt_oracle_draw(o, 5, 0, 2000, draw, &err));
    rt_oracle_free(o);
    for (int i = 0; i < 2000 * D; i++) x[i] = (float)draw[i];
    CHECK_OK(rt_tensors_write(data, &(rt_named_tensor){"x", RT_F32, 2, (int64_t[]){2000, D}, x}, 1, NULL, &err));
    const char *keys[] = {NULL}, *from_data[] = {"data.path", data, "map.teacher-steps", "16", NULL};
    train("short", "30", keys);
    double drift = train("long", "2000", keys);
    train("data", "1500", from_data);
    for (int steps = 1; steps <= 4; steps *= 4) {
        double early = error_of("short", steps), late = error_of("long", steps), data_late = error_of("data", steps);
        print_message("%d step%s: RMS to the flow map %.3g after 30 updates, %.3g after 2000, %.3g after 1500 from data\n", steps,
                      steps > 1 ? "s" : "", early, late, data_late);
        assert_true(late < early / 5 && data_late < early / 4);
        if (steps == 4 && !(drift < 3 * late)) fail_msg("the run reports a drift of %g", drift);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(objective), cmocka_unit_test(gradient), cmocka_unit_test(examples),
                                       cmocka_unit_test(learns)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
