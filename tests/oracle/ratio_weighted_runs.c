/* ratio_weighted_runs.c -- `f`, `renyi`, `dmd` and `dmd2`: the generator's objective with an exact ratio against its formula in double, at the times and noises it drew; whole runs on an
 * oracle that end where quadrature says (golden/distribution/optima.json); what is refused; the same bits after a stop. */
#include "distill/adversary.h"
#include "retort/format.h"
#include "retort/train.h"

#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static rt_error err;
static char folder[64];
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

#define DDPM                                                                                                                               \
    "\"scheduler\": {\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 1000, \"beta_schedule\": \"squaredcos_cap_v2\", "        \
    "\"prediction_type\": \"sample\", \"timestep_spacing\": \"trailing\", \"clip_sample\": false}, \"prediction\": \"x0\"}"

static const struct {
    const char *name, *text;
} files[] = {
    {"skew.json",
     "{\"kind\": \"mixture\", \"weights\": [0.7, 0.3], \"means\": [[-0.3], [0.4]], \"covariances\": [[[0.0225]], [[0.49]]], " DDPM},
    {"gaussian1.json", "{\"kind\": \"gaussian\", \"means\": [[0.7]], \"covariances\": [[[0.1225]]], " DDPM},
    {"affine1.json", "{\"_class_name\": \"RetortAffine\", \"data_dim\": 1, \"times\": [0]}"},
    {"affine2.json", "{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": [0]}"},
    {"mlp1.json", "{\"_class_name\": \"RetortMLP\", \"data_dim\": 1, \"hidden\": 64, \"layers\": 2}"},
    {"mlp2.json", "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 8, \"layers\": 1}"},
};

static void set_file(rt_config *c, const char *key, const char *prefix, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s%s/%s", prefix, folder, name);
    OK(rt_config_set(c, key, path, &err));
}

/* ---- the objective */

enum { B = 12, D = 2, MOST_BINS = 4 };
static const double mean[D] = {0.5, -0.3}, covariance[D * D] = {0.5, 0.18, 0.18, 0.12}, map[D * D] = {0.6, 0.1, -0.2, 0.4},
                    shift[D] = {0.2, -0.1};

typedef struct world {
    rt_config config;
    rt_task task;
    rt_round round;
    rt_net *net;
    rt_oracle *oracle;
    rt_process *process;
} world;

static void set_number(rt_params *set, const char *name, int i, double v)
{
    int64_t at = rt_params_entry(set, rt_params_find(set, name))->offset + i;
    void *values = rt_params_data(set, RT_VALUE);
    if (rt_params_dtype(set) == RT_F64)
        ((double *)values)[at] = v;
    else
        ((float *)values)[at] = (float)v;
}

static double get_number(rt_params *set, const char *name, int i)
{
    int64_t at = rt_params_entry(set, rt_params_find(set, name))->offset + i;
    const void *values = rt_params_data(set, RT_VALUE);
    return rt_params_dtype(set) == RT_F64 ? ((const double *)values)[at] : (double)((const float *)values)[at];
}

static void open_world(world *w, const char *method, rt_dtype real, const char *const *keys)
{
    *w = (world){0};
    OK(rt_config_method(&w->config, method, &err));
    set_file(&w->config, "out", "", "objective");
    set_file(&w->config, "vsd.fake-net", "", "mlp2.json");
    OK(rt_config_set(&w->config, "train.batch", "12", &err));
    OK(rt_config_set(&w->config, "f.ratio", "exact", &err));
    for (; *keys; keys += 2) OK(rt_config_set(&w->config, keys[0], keys[1], &err));
    char path[160];
    snprintf(path, sizeof path, "%s/affine2.json", folder);
    OK(rt_net_open(&w->net, path, &err));
    rt_process_spec spec = rt_process_defaults("trig");
    OK(rt_process_new(&w->process, &spec, &err));
    const rt_prediction *x0 = rt_prediction_find("x0", &err);
    OK(rt_oracle_gaussian(&w->oracle, D, mean, covariance, w->process, x0, &err));
    w->task = (rt_task){.method = rt__method_find(method),
                        .config = &w->config,
                        .process = w->process,
                        .teacher = {.oracle = w->oracle, .prediction = x0},
                        .net = w->net,
                        .null_class = -1,
                        .real = real};
    OK(rt__task_open(&w->task, &err));
    rt_params *student = rt__network(&w->task, "student")->set;
    for (int i = 0; i < D * D; i++) set_number(student, "weight", i, map[i]);
    for (int i = 0; i < D; i++) set_number(student, "bias", i, shift[i]);
    rt_params_touch(student);
    OK(rt_params_init(rt__network(&w->task, "score")->set, 7, &err));
    OK(rt__round_open(&w->round, &w->task, 0, &err));
}

static void close_world(world *w)
{
    rt__round_close(&w->round);
    rt__task_close(&w->task);
    rt_net_free(w->net);
    rt_oracle_free(w->oracle);
    rt_process_free(w->process);
}

/* log N(x; m, C) in two dimensions, and with `to_mean` E[x0 | x] of N(mean, covariance) noised. */
static double log_normal2(const double *x, const double *m, const double *C)
{
    double det = C[0] * C[3] - C[1] * C[2], u = x[0] - m[0], v = x[1] - m[1];
    return -(C[3] * u * u - (C[1] + C[2]) * u * v + C[0] * v * v) / (2 * det) - log(det) / 2 - log(2 * M_PI);
}

static void noised2(double alpha, double beta, const double *m, const double *S, double *mt, double *C)
{
    for (int i = 0; i < 4; i++) C[i] = alpha * alpha * S[i] + (i % 3 == 0 ? beta * beta : 0);
    for (int i = 0; i < 2; i++) mt[i] = alpha * m[i];
}

static void posterior_mean(double alpha, double beta, const double *x, double *x0)
{
    double m[2], C[4], g[2];
    noised2(alpha, beta, mean, covariance, m, C);
    double det = C[0] * C[3] - C[1] * C[2], u = x[0] - m[0], v = x[1] - m[1];
    g[0] = (C[3] * u - C[1] * v) / det, g[1] = (C[0] * v - C[2] * u) / det;
    for (int i = 0; i < 2; i++) x0[i] = mean[i] + alpha * (covariance[2 * i] * g[0] + covariance[2 * i + 1] * g[1]);
}

/* x0 of the auxiliary score, which predicts v. */
static void ask_score(const world *w, double t, const double *x, double *x0)
{
    const rt_denoiser *score = &rt__network(&w->task, "score")->denoiser;
    double told = rt_process_network_time(w->process, t), alpha = rt_process_alpha(w->process, t), beta = rt_process_beta(w->process, t);
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *out = rt_net_apply(score->net, score->set, rt_reals(g, 2, (int64_t[]){1, D}, x), rt_reals(g, 1, (int64_t[]){1}, &told), NULL);
    rt_program *p;
    assert_string_equal(rt_prediction_name(score->prediction), "v");
    OK(rt_compile(&p, g, &(rt_program_spec){.outputs = &out, .n_outputs = 1, .batch = 1, .threads = 1}, &err));
    OK(rt_run(p, &(rt_clock){0}, &err));
    const double *v = rt_program_data(p, out);
    for (int j = 0; j < D; j++) x0[j] = alpha * x[j] - beta * v[j];
    rt_program_free(p);
    rt_graph_free(g);
}

/* The phase that keeps means, at the draws of the generator's: m moves by 1 - decay towards the mean of the bins that have samples. */
static void keeps(world *w, double decay, const double *before, const double *sum, const double *count, int bins)
{
    rt_phase *p = &w->round.phases[1];
    rt_params *kept = rt__network(&w->task, "bins")->set;
    rt_program *program;
    assert_string_equal(p->plan->name, "bins");
    assert_int_equal(p->plan->stream, w->round.phases[2].plan->stream);
    rt_program_spec spec = {.outputs = &p->loss, .n_outputs = 1, .updates = &p->update.node, .n_updates = 1, .batch = B, .threads = 1};
    OK(rt_compile(&program, p->graph, &spec, &err));
    *(double *)rt_program_data(program, p->update.lr) = p->plan->training.lr;
    OK(rt_run(program, &(rt_clock){.seed = 4, .step = 2}, &err));
    for (int k = 0; k < bins; k++) {
        double want = count[k] > 0 ? decay * before[k] + (1 - decay) * sum[k] / count[k] : before[k], got = get_number(kept, "mean", k);
        if (!(fabs(got - want) <= TOL_VSD * fabs(want))) fail_msg("kept mean %d: %.15g, not %.15g", k, got, want);
    }
    rt_program_free(program);
}

/* Mean over i of h_i (f_z - f_p)^T x0, weight row `uniform`: h in double from densities written out. decay 0: no means are kept. */
static void objective(const char *method, const char *const *keys, double order, double low, double high, int bins, double decay)
{
    static const double kept[MOST_BINS] = {0.8, 1.3, 0.6, 1.1};
    world w;
    open_world(&w, method, RT_F64, keys);
    rt_phase *p = &w.round.phases[decay > 0 ? 2 : 1];
    for (int k = 0; k < bins && decay > 0; k++) set_number(rt__network(&w.task, "bins")->set, "mean", k, kept[k]);
    const rt_density *even = rt_density_find("uniform", &err);
    int n = rt_density_count(even, w.process), first = 0, used = 0;
    bool one_time = order > 0 && bins == 0;
    double *times = malloc((size_t)(2 * n) * sizeof *times), S[4];
    OK(rt_density_times(even, w.process, NULL, n, times, times + n, &err));
    while (times[first] < 0.02 * rt_process_end(w.process)) first++;
    while (first + used < n && times[first + used] <= 0.98 * rt_process_end(w.process)) used++;
    for (int i = 0; i < 4; i++) S[i] = map[i / 2 * 2] * map[i % 2 * 2] + map[i / 2 * 2 + 1] * map[i % 2 * 2 + 1];
    const int64_t shape[] = {RT_BATCH, D}, one[] = {RT_BATCH};
    rt_node *nodes[] = {p->loss, rt_randn(p->graph, "z", 2, shape), rt_randn(p->graph, "eps", 2, shape),
                        one_time ? rt_randint(p->graph, "t", 0, NULL, used) : rt_randint(p->graph, "t", 1, one, used)};
    rt_program *program;
    assert_int_equal(p->n_sources, 0); /* an exact ratio has no critic, and no critic has no real samples */
    OK(rt_compile(&program, p->graph, &(rt_program_spec){.outputs = nodes, .n_outputs = 4, .batch = B, .threads = 1}, &err));
    OK(rt_run(program, &(rt_clock){.seed = 4, .step = 2}, &err));
    const double *z = rt_program_data(program, nodes[1]), *eps = rt_program_data(program, nodes[2]);
    const int64_t *k = rt_program_data(program, nodes[3]);
    double l[B], dot[B], sum[MOST_BINS] = {0}, count[MOST_BINS] = {0}, h[B], h_mean = 0, want = 0;
    int bin[B];
    for (int i = 0; i < B; i++) {
        double t = times[first + k[one_time ? 0 : i]], a = rt_process_alpha(w.process, t), b = rt_process_beta(w.process, t), x0[D], x[D],
               f_p[D], f_z[D], m[D], C[4];
        for (int j = 0; j < D; j++) x0[j] = map[2 * j] * z[i * D] + map[2 * j + 1] * z[i * D + 1] + shift[j];
        for (int j = 0; j < D; j++) x[j] = a * x0[j] + b * eps[i * D + j];
        noised2(a, b, shift, S, m, C);
        l[i] = log_normal2(x, m, C);
        noised2(a, b, mean, covariance, m, C);
        l[i] = fmin(-log(low), fmax(-log(high), l[i] - log_normal2(x, m, C)));
        posterior_mean(a, b, x, f_p);
        ask_score(&w, t, x, f_z);
        dot[i] = (f_z[0] - f_p[0]) * x0[0] + (f_z[1] - f_p[1]) * x0[1];
        bin[i] = bins ? (int)floor((t / rt_process_end(w.process) - 0.02) / 0.96 * bins) : 0;
        sum[bin[i]] += order > 0 ? exp((order - 1) * l[i]) : exp(-l[i]);
        count[bin[i]]++;
    }
    for (int i = 0; i < B; i++) { /* jensen-shannon, or Renyi's */
        double within = decay > 0 ? kept[bin[i]] : sum[bin[i]] / count[bin[i]], u = exp(l[i]) * (bins ? within : 1);
        h[i] = order > 0 ? order * exp((order - 1) * l[i]) / within : 1 / (1 + u);
        h_mean += h[i] / B;
    }
    for (int i = 0; i < B; i++) want += h[i] / (order > 0 ? 1 : h_mean) * dot[i] / B;
    double got = *(double *)rt_program_data(program, p->loss);
    print_message("%-6s %d bins %.12g, %.12g\n", method, bins, got, want);
    if (!(fabs(got - want) <= TOL_VSD * fabs(want))) fail_msg("%s: %.15g, the formula gives %.15g", method, got, want);
    rt_program_free(program);
    if (decay > 0) keeps(&w, decay, kept, sum, count, bins);
    free(times);
    close_world(&w);
}

static void objectives(void **state)
{
    (void)state;
#define EVEN "vsd.weight", "uniform", "f.divergence", "jensen-shannon"
    objective("f", (const char *[]){EVEN, "f.bins", "0", "f.ratio-clip", "none", NULL}, 0, 0, INFINITY, 0, 0);
    objective("f", (const char *[]){EVEN, "f.bins", "3", "f.bins-average", "0", "f.ratio-clip", "0.7,1.5", NULL}, 0, 0.7, 1.5, 3, 0);
    objective("f", (const char *[]){EVEN, "f.bins", "4", "f.bins-average", "0.25", NULL}, 0, 0.1, 20, 4, 0.25);
#undef EVEN
    objective(
        "renyi",
        (const char *[]){"vsd.weight", "uniform", "renyi.alpha", "0.5", "f.bins", "2", "f.ratio-clip", "none", NULL}, /* no kept means */
        0.5, 0, INFINITY, 2, 0);
    objective("renyi", (const char *[]){"vsd.weight", "uniform", "renyi.alpha", "3", "f.bins", "0", NULL}, 3, 0.1, 20, 0, 0);
    objective("renyi", (const char *[]){"vsd.weight", "uniform", "renyi.alpha", "3", "f.bins", "3", "f.bins-average", "0.5", NULL}, 3, 0.1,
              20, 3, 0.5);
}

/* ---- slices of a batch */

enum { PARTS = D * D + D + 2, UPDATES = 3 };

/* The student after some updates, and the last loss and norm of its gradient. */
static void train_in(const char *method, rt_dtype real, const char *slice, const char *const *keys, double *out)
{
    world w;
    const char *all[24] = {"train.micro-batch", slice,     "train.optimiser", "sgd", "train.lr", "0.1",
                           "vsd.weight",        "uniform", "threads",         "1"};
    for (int i = 0; keys[i]; i++) all[10 + i] = keys[i];
    open_world(&w, method, real, all);
    OK(rt__round_compile(&w.round, &err));
    for (int u = 0; u < UPDATES; u++) OK(rt__round_update(&w.round, u, UPDATES, "slices", u, &err));
    rt_params *student = rt__network(&w.task, "student")->set;
    for (int i = 0; i < PARTS - 2; i++) out[i] = i < D * D ? get_number(student, "weight", i) : get_number(student, "bias", i - D * D);
    out[PARTS - 2] = rt__main_phase(&w.round)->last_loss;
    out[PARTS - 1] = rt__main_phase(&w.round)->last_grad_norm;
    close_world(&w);
}

/* What samples know of their batch does not depend on how many of them are computed at a time. */
static void in_slices(void **state)
{
    (void)state;
#define JENSEN_SHANNON "f.divergence", "jensen-shannon"
    static const struct {
        const char *method, *keys[9];
        bool critic;
    } cases[] = {
        {"f", {JENSEN_SHANNON, "f.bins", "3", "f.bins-average", "0", NULL}, false},
        {"f", {JENSEN_SHANNON, "f.bins", "0", NULL}, false},
        {"f", {JENSEN_SHANNON, "f.ratio", "critic", "gan.weight", "0.1", NULL}, true},
        {"renyi", {"renyi.alpha", "3", "f.bins", "2", "f.bins-average", "0", "f.ratio-clip", "none", NULL}, false},
        {"renyi", {"renyi.alpha", "0.5", "f.bins", "0", NULL}, false},
        {"renyi", {"renyi.alpha", "3", "f.bins", "2", "f.bins-average", "0.5", NULL}, false},
        {"renyi", {"f.ratio", "critic", NULL}, true},
    };
#undef JENSEN_SHANNON
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int single = cases[i].critic; single < 2; single++) { /* real samples of critics are written as floats */
            double whole[PARTS], parts[PARTS], largest = 0, worst = 0;
            const rt_dtype real = single ? RT_F32 : RT_F64;
            train_in(cases[i].method, real, "0", cases[i].keys, whole);
            train_in(cases[i].method, real, "4", cases[i].keys, parts);
            for (int k = 0; k < PARTS; k++) largest = fmax(largest, fabs(whole[k])), worst = fmax(worst, fabs(whole[k] - parts[k]));
            print_message("%-6s %zu %s in slices: %.1e\n", cases[i].method, i, single ? "float" : "double", worst / largest);
            if (!(worst <= (single ? TOL_SLICES_SINGLE : TOL_SLICES) * largest))
                fail_msg("%s, case %zu: the batch in slices differs by %g of %g", cases[i].method, i, worst, largest);
        }
}

/* ---- whole runs */

static rt_config run_of(const char *method, const char *name, const char *const *keys)
{
    rt_config c;
    OK(rt_config_method(&c, method, &err));
    set_file(&c, "teacher", "oracle:", strncmp(method, "dmd", 3) ? "skew.json" : "gaussian1.json");
    set_file(&c, "net", "", "affine1.json");
    set_file(&c, "vsd.fake-net", "", "mlp1.json");
    set_file(&c, "out", "", name);
    OK(rt_config_set(&c, "threads", "1", &err));
    OK(rt_config_set(&c, "run.checkpoint-every", "0", &err));
    for (; *keys; keys += 2) OK(rt_config_set(&c, keys[0], keys[1], &err));
    return c;
}

static void read_map(const char *name, double *a, double *b)
{
    char path[160];
    rt_tensors *t;
    rt_tensor weight, bias;
    snprintf(path, sizeof path, "%s/%s/student/unet/diffusion_pytorch_model.safetensors", folder, name);
    OK(rt_tensors_open(&t, path, &err));
    OK(rt_tensors_read(t, rt_tensors_find(t, "weight"), &weight, &err));
    OK(rt_tensors_read(t, rt_tensors_find(t, "bias"), &bias, &err));
    *a = fabs((double)*(float *)weight.data);
    *b = (double)*(float *)bias.data;
    rt_tensor_free(&weight);
    rt_tensor_free(&bias);
    rt_tensors_close(t);
}

static void ends_at(const char *method, const char *name, const char *const *keys, double a, double b)
{
    double got[2];
    rt_config c = run_of(method, name, keys);
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    read_map(name, &got[0], &got[1]);
    print_message("%-6s %-10s deviation %.4f, %.4f; mean %.4f, %.4f\n", method, name, got[0], a, got[1], b);
    if (!(fabs(got[0] - a) <= TOL_RATIO_OPTIMUM) || !(fabs(got[1] - b) <= TOL_RATIO_OPTIMUM))
        fail_msg("%s %s: (%g, %g), not (%g, %g)", method, name, got[0], got[1], a, b);
}

#define SHORT                                                                                                                              \
    "train.updates", "1000", "train.lr-schedule", "constant", "train.lr", "0.003", "vsd.score-lr", "0.003", "train.batch", "192",          \
        "train.ema", "0.99"
#define EXACT "f.ratio", "exact", "f.ratio-clip", "none", "f.bins", "0"

/* One teacher, an optimum for each divergence: kl's and neyman's deviations are twice apart. */
static void optima(void **state)
{
    (void)state;
    ends_at("f", "kl", (const char *[]){SHORT, EXACT, "f.divergence", "kl", NULL}, 0.3274, -0.1847);
    ends_at("f", "reverse", (const char *[]){SHORT, EXACT, "f.divergence", "reverse-kl", NULL}, 0.5154, -0.09);
    ends_at("renyi", "renyi", (const char *[]){SHORT, "f.ratio", "exact", "f.ratio-clip", "none", "renyi.alpha", "0.5", NULL}, 0.4314,
            -0.1248);
    ends_at("f", "critic", (const char *[]){SHORT, "f.divergence", "jensen-shannon", NULL}, 0.4032, -0.1409);
    ends_at("f", "game", (const char *[]){SHORT, "f.form", "gan", "f.divergence", "jensen-shannon", "vsd.weight", "uniform", NULL}, 0.4826,
            -0.0943); /* omega = beta^2/alpha^2 */
}

/* Where the student can be the teacher, differences of scores and the GAN agree on the optimum; and the GAN alone finds it. */
static void with_a_gan(void **state)
{
    (void)state;
    ends_at("dmd2", "dmd2", (const char *[]){SHORT, "train.clip", "0", NULL}, 0.35, 0.7);
    ends_at("dmd2", "gan", (const char *[]){SHORT, "dmd.weight", "0", "gan.weight", "1", "gan.critic-weight", "1", NULL}, 0.35, 0.7);
}

/* The regression says which noise becomes which sample: the map's slope is the teacher's, sign and all. */
static void with_pairs(void **state)
{
    (void)state;
    ends_at("dmd", "dmd", (const char *[]){SHORT, "train.clip", "0", "dmd.pairs", "2000", NULL}, 0.35, 0.7);
    char path[160];
    rt_tensors *t;
    rt_tensor weight;
    snprintf(path, sizeof path, "%s/dmd/student/unet/diffusion_pytorch_model.safetensors", folder);
    OK(rt_tensors_open(&t, path, &err));
    OK(rt_tensors_read(t, rt_tensors_find(t, "weight"), &weight, &err));
    assert_true(*(float *)weight.data > 0);
    rt_tensor_free(&weight);
    rt_tensors_close(t);
}

/* Head and trunk are in the checkpoint, and the means of bins: a run that was stopped ends in the same bits. */
static void resumed(void **state)
{
    (void)state;
    static const char *const keys[] = {"train.updates", "12",      "train.batch",    "16",  "gan.weight", "0.1", "gan.r1", "1",
                                       "f.divergence",  "pearson", "f.bins-average", "0.9", NULL};
    double whole[2], parts[2];
    rt_config c = run_of("f", "whole", keys);
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    read_map("whole", &whole[0], &whole[1]);
    c = run_of("f", "parts", keys);
    OK(rt_config_set(&c, "run.until-update", "5", &err));
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    c = run_of("f", "parts", keys);
    OK(rt_run_train(&c, true, NULL, NULL, &err));
    read_map("parts", &parts[0], &parts[1]);
    assert_memory_equal(whole, parts, sizeof whole);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *method, *key, *value, *says;
    } refused[] = {
        {"f", "f.divergence", "jensen", "did you mean 'jensen-shannon'"},
        {"f", "f.form", "gam", "give weight or gan"},
        {"f", "f.ratio", "oracle", "give critic or exact"},
        {"f", "f.ratio-clip", "20,0.1", "0 < LOW < HIGH"},
        {"f", "gan.head", "conv", "vectors have no pixels; give linear"},
        {"dmd", "dmd.teacher-solver", "ddpm", "give one that does not, such as ddim"},
        {"dmd", "vsd.start", "0.5", "give 1, or dmd.regression 0"},
        {"renyi", "renyi.alpha", "1", "must be above 0 and not 1"},
        {"renyi", "f.bins", "-1", "f.bins"},
        {"renyi", "f.bins-average", "1", "f.bins-average"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        rt_config c = run_of(refused[i].method, "refused", (const char *[]){NULL});
        err = (rt_error){0};
        rt_status s = rt_config_set(&c, refused[i].key, refused[i].value, &err);
        if (s == RT_OK) s = rt_run_train(&c, false, NULL, NULL, &err);
        assert_int_equal(s, RT_E_USAGE);
        if (!strstr(err.text, refused[i].says)) fail_msg("'%s' does not say '%s'", err.text, refused[i].says);
        assert_int_equal(access(c.out, F_OK), -1);
    }
    rt_config c = run_of("dmd2", "refused", (const char *[]){"dmd.weight", "0", "gan.weight", "0", NULL});
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "the generator has no loss; give one of them"));
    c = run_of("f", "refused", (const char *[]){"f.ratio", "exact", NULL});
    set_file(&c, "net", "", "mlp1.json");
    assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "a RetortAffine of at most 8 numbers"));
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/retort-ratios-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        FILE *f = fopen(path, "w");
        if (!f || fputs(files[i].text, f) < 0 || fclose(f) != 0) return -1;
    }
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(objectives), cmocka_unit_test(in_slices), cmocka_unit_test(refusals),
                                       cmocka_unit_test(resumed),    cmocka_unit_test(optima),    cmocka_unit_test(with_a_gan),
                                       cmocka_unit_test(with_pairs)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
