/* methods_oracle.c -- the objectives of denoise, kd and pd, built as graphs in float, against their equations written out in double. Networks are black boxes here: their
 * outputs are asked for at the points that the equations name. */
#include "distill/sources.h"
#include "retort/nn.h"

#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { B = 16, D = 2, T = 64, ROWS = 3 };

static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

typedef struct world {
    rt_config config;
    rt_task task;
    rt_round round;
    rt_phase *phase; /* the round's only one */
    rt_net *net;
    rt_params *teacher;
    rt_process *process;
    rt_dataset *data;
    rt_program *program;
    char file[64], out[64];
} world;

static void set(world *w, const char *key, const char *value) { OK(rt_config_set(&w->config, key, value, &err)); }

/* A method's first round on a small conditional network with random weights. */
static void open_world(world *w, const char *method, const char *teacher, const char *student, const char *const *keys)
{
    *w = (world){0};
    OK(rt_config_method(&w->config, method, &err));
    strcpy(w->file, "/tmp/retort-net-XXXXXX");
    int fd = mkstemp(w->file);
    assert_true(fd >= 0);
    dprintf(fd, "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 24, \"layers\": 2, \"num_class_embeds\": %d}", ROWS);
    close(fd);
    strcpy(w->out, "/tmp/retort-out-XXXXXX");
    assert_non_null(mkdtemp(w->out));
    set(w, "out", w->out);
    set(w, "train.batch", "16");
    set(w, "threads", "1");
    for (; keys && *keys; keys += 2) set(w, keys[0], keys[1]);
    OK(rt_net_open(&w->net, w->file, &err));
    w->teacher = rt_params_new("teacher", RT_F32);
    OK(rt_net_declare(w->net, w->teacher, &err));
    OK(rt_params_init(w->teacher, 6, &err));
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = T;
    spec.betas = "squaredcos_cap_v2";
    OK(rt_process_new(&w->process, &spec, &err));
    OK(rt_dataset_open(&w->data, "toy:moons", &err));
    w->task = (rt_task){.method = rt__method_find(method),
                        .config = &w->config,
                        .process = w->process,
                        .teacher = {.prediction = rt_prediction_find(teacher, &err)},
                        .net = w->net,
                        .classes = ROWS,
                        .null_class = ROWS - 1,
                        .data = w->data};
    if (w->task.method->needs_teacher) w->task.net = NULL, w->task.teacher.net = w->net, w->task.teacher.set = w->teacher;
    err = (rt_error){0};
    OK(rt__task_open(&w->task, &err));
    OK(rt_params_init(rt__deployed(&w->task)->set, 5, &err));
    OK(rt__round_open(&w->round, &w->task, 0, &err));
    w->phase = &w->round.phases[0];
    assert_int_equal(w->round.n_phases, 1);
    assert_string_equal(rt_prediction_name(rt__deployed(&w->task)->denoiser.prediction), student);
}

static void close_world(world *w)
{
    rt_program_free(w->program);
    rt__round_close(&w->round);
    rt__task_close(&w->task);
    rt_params_free(w->teacher);
    rt_net_free(w->net);
    rt_process_free(w->process);
    rt_dataset_free(w->data);
    unlink(w->file);
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", w->out);
    assert_int_equal(system(command), 0);
}

static const rt_denoiser *network(const world *w, const char *name) { return &rt__network(&w->task, name)->denoiser; }
static rt_node *input(const world *w, const char *name)
{
    for (int i = 0; i < w->phase->n_inputs; i++)
        if (!strcmp(w->phase->inputs[i].name, name)) return w->phase->inputs[i].node;
    fail_msg("no input '%s'", name);
    return NULL;
}
static rt_status fill(world *w, int64_t u, int64_t first, int64_t n, rt_program *program)
{
    return rt__fill_inputs(w->phase, u, first, n, program, &err);
}

/* Runs the loss for update 3 with the values of `extra`. */
static double loss_of(world *w, rt_node *const *extra, int n)
{
    rt_node *outputs[4] = {w->phase->loss};
    for (int i = 0; i < n; i++) outputs[1 + i] = extra[i];
    OK(rt_compile(&w->program, w->phase->graph, &(rt_program_spec){.outputs = outputs, .n_outputs = 1 + n, .batch = B, .threads = 1},
                  &err));
    OK(fill(w, 3, 0, w->config.train.batch, w->program));
    OK(rt_run(w->program, &(rt_clock){.seed = 11, .step = 3}, &err));
    return (double)*(float *)rt_program_data(w->program, w->phase->loss);
}

/* The network's raw output at one point. */
static void ask(world *w, rt_params *params, const double *x, double network_time, int64_t y, double *out)
{
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *xn = rt_input(g, "x", RT_F32, 2, (int64_t[]){1, D}), *tn = rt_input(g, "t", RT_F32, 1, (int64_t[]){1}),
            *yn = rt_input(g, "y", RT_I64, 1, (int64_t[]){1});
    rt_node *o = rt_net_apply(w->net, params, xn, tn, yn);
    rt_program *p;
    OK(rt_compile(
        &p, g, &(rt_program_spec){.outputs = &o, .n_outputs = 1, .batch = 1, .threads = 1, .backend = rt_backend_find("reference")}, &err));
    for (int j = 0; j < D; j++) ((float *)rt_program_data(p, xn))[j] = (float)x[j];
    *(float *)rt_program_data(p, tn) = (float)network_time;
    *(int64_t *)rt_program_data(p, yn) = y;
    OK(rt_run(p, &(rt_clock){0}, &err));
    for (int j = 0; j < D; j++) out[j] = (double)((float *)rt_program_data(p, o))[j];
    rt_program_free(p);
    rt_graph_free(g);
}

static double alpha_of(double i) /* squaredcos_cap_v2 from its definition; time i is diffusers' i - 1 */
{
    double product = 1;
    for (int k = 0; k < (int)i; k++) {
        double a = cos(((k + 1.0) / T + 0.008) / 1.008 * M_PI / 2), b = cos(((double)k / T + 0.008) / 1.008 * M_PI / 2);
        product *= 1 - fmin(1 - a * a / (b * b), 0.999);
    }
    return sqrt(product);
}
static double beta_of(double i) { return sqrt(1 - alpha_of(i) * alpha_of(i)); }

/* x0 from the raw output, as the definitions of epsilon and v say. */
static void x0_of(world *w, const rt_denoiser *m, const double *x, double i, int64_t y, double *x0)
{
    double out[D], a = alpha_of(i), b = beta_of(i);
    ask(w, m->set, x, i - 1, y, out);
    bool v = !strcmp(rt_prediction_name(m->prediction), "v");
    for (int j = 0; j < D; j++) x0[j] = v ? a * x[j] - b * out[j] : (x[j] - b * out[j]) / a;
}

static void guided(world *w, const rt_denoiser *m, double omega, const double *x, double i, int64_t y, double *x0)
{
    double un[D];
    x0_of(w, m, x, i, y, x0);
    if (omega == 0) return;
    x0_of(w, m, x, i, ROWS - 1, un);
    for (int j = 0; j < D; j++) x0[j] = (1 + omega) * x0[j] - omega * un[j]; /* (1.39) */
}

static void agree(double got, double want, const char *what)
{
    print_message("%-34s %.9g, %.9g\n", what, got, want);
    if (!(fabs(got - want) <= TOL_OBJECTIVE * fabs(want)) || want == 0) fail_msg("%s: %.9g, the equations give %.9g", what, got, want);
}

static void check_pd(const char *what, const char *starts, const char *weight, const char *steps, const char *teacher_steps,
                     const char *guidance)
{
    world w;
    const char *keys[] = {"data.path", "toy:moons",        "pd.starts",   starts,        "train.weight", weight, "pd.steps",
                          steps,       "pd.teacher-steps", teacher_steps, "pd.guidance", guidance,       NULL};
    open_world(&w, "pd", "v", "v", keys);
    int q = w.round.teacher_steps / w.round.steps, all = !strcmp(starts, "all"), n = all ? w.round.teacher_steps - q + 1 : w.round.steps;
    rt_node *k = rt_randint(w.phase->graph, "k", 1, (int64_t[]){RT_BATCH}, n), *eps = rt_randn(w.phase->graph, "eps", 2, w.task.shape);
    double got = loss_of(&w, (rt_node *[]){k, eps}, 2), want = 0, omega = atof(guidance);
    const int64_t *ks = rt_program_data(w.program, k), *ys = rt_program_data(w.program, input(&w, "y"));
    const float *es = rt_program_data(w.program, eps), *data = rt_program_data(w.program, input(&w, "x0"));
    int drawn = 0;
    for (int i = 0; i < B; i++) {
        int start = (int)ks[i] * (all ? 1 : q);
        drawn |= 1 << ks[i];
        double N = w.round.teacher_steps, s = T * (N - start) / N, xs[D], x[D], x0[D], target[D];
        for (int j = 0; j < D; j++) x[j] = xs[j] = alpha_of(s) * (double)data[i * D + j] + beta_of(s) * (double)es[i * D + j];
        double from = s, t = s;
        for (int h = 1; h <= q; h++) { /* (1.31), (1.32) */
            t = T * (N - start - h) / N;
            guided(&w, network(&w, "teacher"), omega, x, from, ys[i], x0);
            for (int j = 0; j < D; j++)
                x[j] = beta_of(t) / beta_of(from) * x[j] +
                       alpha_of(from) * (alpha_of(t) / alpha_of(from) - beta_of(t) / beta_of(from)) * x0[j];
            from = t;
        }
        double det = alpha_of(t) * beta_of(s) - alpha_of(s) * beta_of(t), snr = pow(alpha_of(s) / beta_of(s), 2), error = 0;
        for (int j = 0; j < D; j++) target[j] = beta_of(s) / det * x[j] - beta_of(t) / det * xs[j]; /* (1.34) */
        x0_of(&w, network(&w, "student"), xs, s, ys[i], x0);
        for (int j = 0; j < D; j++) error += pow(x0[j] - target[j], 2) / D;
        double map = alpha_of(t) - alpha_of(s) * beta_of(t) / beta_of(s);
        want += (!strcmp(weight, "map") ? map * map : !strcmp(weight, "snr") ? snr : fmax(snr, 1)) * error / B; /* (1.35) */
    }
    assert_true(drawn & (drawn - 1)); /* more than one start */
    agree(got, want, what);
    close_world(&w);
}

static void progressive(void **state)
{
    (void)state;
    check_pd("pd, starts of the student", "student", "truncated-snr", "4", "8", "0");
    check_pd("pd, every k", "all", "snr", "4", "8", "0");
    check_pd("pd, four steps in one", "student", "map", "2", "8", "0");
    check_pd("pd, a guided teacher", "student", "truncated-snr", "4", "8", "1.5");
}

/* An epsilon teacher becomes a v student: alpha^2 |v - (eps^ - beta x)/alpha|^2. */
static void conversion(void **state)
{
    (void)state;
    world w;
    const char *keys[] = {"data.path", "toy:moons", "pd.steps", "4", "pd.teacher-steps", "8", NULL};
    open_world(&w, "pd", "epsilon", "v", keys);
    assert_int_equal(w.task.plan.n_rounds, 2);
    assert_int_equal(w.round.steps, 8);
    rt_node *k = rt_randint(w.phase->graph, "k", 1, (int64_t[]){RT_BATCH}, 8), *eps = rt_randn(w.phase->graph, "eps", 2, w.task.shape);
    double got = loss_of(&w, (rt_node *[]){k, eps}, 2), want = 0;
    const int64_t *ks = rt_program_data(w.program, k), *ys = rt_program_data(w.program, input(&w, "y"));
    const float *es = rt_program_data(w.program, eps), *data = rt_program_data(w.program, input(&w, "x0"));
    for (int i = 0; i < B; i++) {
        double s = T * (8.0 - (double)ks[i]) / 8, a = alpha_of(s), b = beta_of(s), x[D], e[D], v[D];
        for (int j = 0; j < D; j++) x[j] = a * (double)data[i * D + j] + b * (double)es[i * D + j];
        ask(&w, w.teacher, x, s - 1, ys[i], e);
        ask(&w, rt__deployed(&w.task)->set, x, s - 1, ys[i], v);
        for (int j = 0; j < D; j++) want += a * a * pow(v[j] - (e[j] - b * x[j]) / a, 2) / D / B;
    }
    agree(got, want, "epsilon to v");
    close_world(&w);
}

/* By another solver the conversion is a round of one teacher step to one of the student: Lemma 2, in the error of the map. */
static void conversion_by_maps(void **state)
{
    (void)state;
    world w;
    const char *keys[] = {"data.path", "toy:moons", "pd.steps", "4", "pd.teacher-steps", "8", "pd.teacher-solver", "midpoint", NULL};
    open_world(&w, "pd", "epsilon", "v", keys);
    assert_int_equal(w.task.plan.n_rounds, 2);
    double got = loss_of(&w, NULL, 0), want = 0;
    const float *xs = rt_program_data(w.program, input(&w, "xs")), *xt = rt_program_data(w.program, input(&w, "xt"));
    const int64_t *ks = rt_program_data(w.program, input(&w, "k")), *ys = rt_program_data(w.program, input(&w, "y"));
    for (int i = 0; i < B; i++) {
        double s = T * (8.0 - (double)ks[i]) / 8, t = s - T / 8.0, x[D], x0[D], A = beta_of(t) / beta_of(s),
               C = alpha_of(t) - alpha_of(s) * A;
        for (int j = 0; j < D; j++) x[j] = (double)xs[i * D + j];
        x0_of(&w, network(&w, "student"), x, s, ys[i], x0);
        for (int j = 0; j < D; j++) want += pow(A * x[j] + C * x0[j] - (double)xt[i * D + j], 2) / D / B;
    }
    agree(got, want, "epsilon to v, by maps");
    close_world(&w);
}

/* (1.9): one step from noise against the stored rollout of the teacher. */
static void knowledge(void **state)
{
    (void)state;
    for (int l1 = 0; l1 < 2; l1++) {
        world w;
        const char *keys[] = {"kd.pairs", "24", "kd.steps", "4", "kd.loss", l1 ? "l1" : "l2", NULL};
        open_world(&w, "kd", "v", "v", keys);
        double got = loss_of(&w, NULL, 0), want = 0;
        const float *z = rt_program_data(w.program, input(&w, "noise"));
        const int64_t *y = rt_program_data(w.program, input(&w, "y"));
        for (int i = 0; i < B; i++) {
            double x[D], x0[D], g[D];
            for (int j = 0; j < D; j++) x[j] = (double)z[i * D + j];
            x0_of(&w, network(&w, "student"), x, T, y[i], g);
            for (int k = 0; k < 4; k++) {
                double s = T * (4.0 - k) / 4, t = T * (3.0 - k) / 4;
                x0_of(&w, network(&w, "teacher"), x, s, y[i], x0);
                for (int j = 0; j < D; j++)
                    x[j] = beta_of(t) / beta_of(s) * x[j] + (alpha_of(t) - alpha_of(s) * beta_of(t) / beta_of(s)) * x0[j];
            }
            for (int j = 0; j < D; j++) want += (l1 ? fabs(g[j] - x[j]) : pow(g[j] - x[j], 2)) / D / B;
        }
        agree(got, want, l1 ? "kd, l1" : "kd, l2");
        close_world(&w);
    }
}

/* Denoising regression of v, labels dropped to the null class; and of x0 under a weight; with times drawn evenly, or by a density. */
static void denoising(void **state)
{
    (void)state;
    for (int round = 0; round < 7; round++) {
        static const char *const densities[] = {"importance", "log-normal", "uniform"};
        bool weighted = round % 2;
        const char *name = densities[round / 2 % 3], *prediction = round == 6 ? "epsilon" : "v";
        world w;
        const char *keys[] = {"data.path",
                              "toy:moons",
                              "diffusion.class-drop",
                              "0.4",
                              "train.weight",
                              weighted ? "snr" : "uniform",
                              "train.time-density",
                              name,
                              "diffusion.prediction",
                              prediction,
                              NULL};
        open_world(&w, "denoise", prediction, prediction, keys);
        const rt_density *density = rt_density_find(name, &err);
        int n = rt_density_count(density, w.process);
        double *times = calloc((size_t)(2 * n), sizeof *times), *factor = times + n;
        OK(rt_density_times(density, w.process,
                            rt_weight_find(weighted     ? "snr"
                                           : round == 6 ? "uniform-epsilon"
                                                        : "uniform-v",
                                           &err),
                            n, times, factor, &err));
        int64_t one[] = {RT_BATCH};
        rt_node *t = rt_randint(w.phase->graph, "t", 1, one, n), *eps = rt_randn(w.phase->graph, "eps", 2, w.task.shape),
                *drop = rt_rand(w.phase->graph, "drop", 1, one);
        double got = loss_of(&w, (rt_node *[]){t, eps, drop}, 3), want = 0;
        const int64_t *ts = rt_program_data(w.program, t), *ys = rt_program_data(w.program, input(&w, "y"));
        const float *es = rt_program_data(w.program, eps), *data = rt_program_data(w.program, input(&w, "x0")),
                    *u = rt_program_data(w.program, drop);
        int dropped = 0;
        for (int i = 0; i < B; i++) {
            double s = times[ts[i]], a = alpha_of(s), b = beta_of(s), x[D], v[D], x0[D];
            int64_t y = u[i] < 0.4f ? ROWS - 1 : ys[i];
            dropped += u[i] < 0.4f;
            for (int j = 0; j < D; j++) x[j] = a * (double)data[i * D + j] + b * (double)es[i * D + j];
            ask(&w, rt__deployed(&w.task)->set, x, s - 1, y, v);
            x0_of(&w, network(&w, "model"), x, s, y, x0);
            for (int j = 0; j < D; j++) {
                double at = (double)data[i * D + j], noise = (double)es[i * D + j], target = round == 6 ? noise : a * noise - b * at;
                want += factor[ts[i]] * (weighted ? a * a / (b * b) * pow(x0[j] - at, 2) : pow(v[j] - target, 2)) / D / B;
            }
        }
        assert_true(dropped > 0 && dropped < B);
        agree(got, want, weighted ? "denoise, x0 weighted by the SNR" : "denoise, own output");
        free(times);
        close_world(&w);
    }
}

/* Slice `first` of update u holds the items from u batch + first on of the sequence of shuffled passes, whatever the slices' size. */
static void order_of_data(void **state)
{
    (void)state;
    enum { SLICE = 4 };
    world w;
    const char *keys[] = {"data.path", "toy:moons", "train.micro-batch", "4", NULL};
    open_world(&w, "denoise", "v", "v", keys);
    OK(rt_compile(&w.program, w.phase->graph, &(rt_program_spec){.outputs = &w.phase->loss, .n_outputs = 1, .batch = SLICE, .threads = 1},
                  &err));
    const float *x = rt_program_data(w.program, input(&w, "x0"));
    int64_t n = rt_dataset_describe(w.data)->count;
    for (int64_t at = 0; at < 5 * B; at += SLICE) {
        OK(fill(&w, at / B, at % B, SLICE, w.program));
        for (int64_t j = 0; j < SLICE; j++) {
            float item[D];
            rt_dataset_read(w.data, rt_permute_index(w.config.seed, (uint64_t)((at + j) / n), n, (at + j) % n), item, NULL);
            assert_memory_equal(x + j * D, item, sizeof item);
        }
    }
    close_world(&w);
}

/* A program that leaves inputs of its source unread is filled with the others: labels alone, and the data alone. */
static void unread_inputs(void **state)
{
    (void)state;
    world w;
    const char *keys[] = {"data.path", "toy:moons", NULL};
    open_world(&w, "denoise", "v", "v", keys);
    rt_program *p[3];
    rt_node *wanted[3] = {w.phase->loss,
                          rt_embedding(rt_reals(w.phase->graph, 2, (int64_t[]){ROWS, 1}, (double[ROWS]){0, 1, 2}), input(&w, "y")),
                          rt_scale(input(&w, "x0"), 2)};
    for (int i = 0; i < 3; i++) {
        OK(rt_compile(&p[i], w.phase->graph, &(rt_program_spec){.outputs = &wanted[i], .n_outputs = 1, .batch = B, .threads = 1}, &err));
        OK(fill(&w, 2, 0, B, p[i]));
    }
    assert_null(rt_program_data(p[1], input(&w, "x0")));
    assert_null(rt_program_data(p[2], input(&w, "y")));
    assert_memory_equal(rt_program_data(p[1], input(&w, "y")), rt_program_data(p[0], input(&w, "y")), B * sizeof(int64_t));
    assert_memory_equal(rt_program_data(p[2], input(&w, "x0")), rt_program_data(p[0], input(&w, "x0")), B * D * sizeof(float));
    for (int i = 0; i < 3; i++) rt_program_free(p[i]);
    close_world(&w);
}

/* Every class is drawn, and no null class, wherever it stands: the rule of samplers and of training. */
static void drawn_classes(void **state)
{
    (void)state;
    for (int null_class = -1; null_class < ROWS; null_class++) {
        rt_task t = {.classes = ROWS, .null_class = null_class};
        int seen[ROWS] = {0};
        for (int i = 0; i < 12; i++) seen[rt__class_of(&t, i)]++;
        for (int k = 0; k < ROWS; k++) assert_int_equal(seen[k], k == null_class ? 0 : null_class < 0 ? 4 : 6);
    }
    assert_int_equal(rt__class_of(&(rt_task){.null_class = -1}, 5), 0);
}

/* A slice of the pairs of an update holds what stands at its place in the whole. */
static void slices_of_pairs(void **state)
{
    (void)state;
    enum { SLICE = 4 };
    world w;
    const char *keys[] = {"kd.pairs", "40", "kd.steps", "2", NULL};
    open_world(&w, "kd", "v", "v", keys);
    rt_program *part = NULL;
    rt_program_spec spec = {.outputs = &w.phase->loss, .n_outputs = 1, .batch = B, .threads = 1};
    OK(rt_compile(&w.program, w.phase->graph, &spec, &err));
    spec.batch = SLICE;
    OK(rt_compile(&part, w.phase->graph, &spec, &err));
    for (int64_t u = 0; u < 4; u++) {
        OK(fill(&w, u, 0, B, w.program));
        for (int64_t first = 0; first < B; first += SLICE) {
            OK(fill(&w, u, first, SLICE, part));
            for (int k = 0; k < 2; k++)
                assert_memory_equal(rt_program_data(part, input(&w, k ? "sample" : "noise")),
                                    (float *)rt_program_data(w.program, input(&w, k ? "sample" : "noise")) + first * D,
                                    SLICE * D * sizeof(float));
        }
    }
    rt_program_free(part);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(progressive),   cmocka_unit_test(conversion),    cmocka_unit_test(conversion_by_maps),
        cmocka_unit_test(knowledge),     cmocka_unit_test(denoising),     cmocka_unit_test(order_of_data),
        cmocka_unit_test(unread_inputs), cmocka_unit_test(drawn_classes), cmocka_unit_test(slices_of_pairs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
