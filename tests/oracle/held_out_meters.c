/* held_out_meters.c -- the meters of the score methods against closed forms: teacher, student and auxiliary score are affine or Gaussian, so that the exact score is
 * known and so are those that are wrong by a known amount; the same readings whatever the batch and the threads; runs that select, warn and end by them. */
#include "distill/meters.h"
#include "retort/format.h"
#include "train/run.h"

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

enum { T = 64, FIRST = 2, LAST = 62 };                                         /* the generator's times: those in 0.02 T .. 0.98 T */
static const double mean_p = 0.7, deviation_p = 0.35, gain = 0.3, shift = 0.2; /* x0 = gain z + shift */

static void at_file(char *path, size_t size, const char *name) { snprintf(path, size, "%s/%s", folder, name); }

static void write_file(const char *name, const char *text)
{
    char path[128];
    at_file(path, sizeof path, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* ---- a world in closed form */

static rt_dataset *data; /* of the next world; NULL: real samples are the oracle's */

typedef struct world {
    rt_config config;
    rt_task task;
    rt_round round;
    rt_meters meters;
    rt_reading reading;
    rt_net *net;
    rt_oracle *oracle;
    rt_process *process;
} world;

static void put(rt_params *set, const char *name, int64_t index, double value)
{
    int64_t at = rt_params_entry(set, rt_params_find(set, name))->offset + index;
    if (rt_params_dtype(set) == RT_F64)
        ((double *)rt_params_data(set, RT_VALUE))[at] = value;
    else
        ((float *)rt_params_data(set, RT_VALUE))[at] = (float)value;
    rt_params_touch(set);
}

static void open_world(world *w, const char *method, rt_dtype real, const char *const *keys)
{
    char path[128];
    *w = (world){0};
    OK(rt_config_method(&w->config, method, &err));
    OK(rt_config_set(&w->config, "out", folder, &err));
    at_file(path, sizeof path, "fake.json");
    OK(rt_config_set(&w->config, "vsd.fake-net", path, &err));
    OK(rt_config_set(&w->config, "vsd.fake-prediction", "x0", &err));
    OK(rt_config_set(&w->config, "threads", "1", &err));
    OK(rt_config_set(&w->config, "train.updates", "100000", &err));
    for (; *keys; keys += 2) OK(rt_config_set(&w->config, keys[0], keys[1], &err));
    at_file(path, sizeof path, "net.json");
    OK(rt_net_open(&w->net, path, &err));
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = T;
    spec.betas = "squaredcos_cap_v2";
    OK(rt_process_new(&w->process, &spec, &err));
    const rt_prediction *x0 = rt_prediction_find("x0", &err);
    OK(rt_oracle_gaussian(&w->oracle, 1, &mean_p, &(double){deviation_p * deviation_p}, w->process, x0, &err));
    w->task = (rt_task){.method = rt__method_find(method),
                        .config = &w->config,
                        .process = w->process,
                        .teacher = {.oracle = w->oracle, .prediction = x0},
                        .net = w->net,
                        .null_class = -1,
                        .data = data,
                        .real = real};
    OK(rt__task_open(&w->task, &err));
    put(rt__network(&w->task, "student")->set, "weight", 0, gain / rt__start_scale(&w->task));
    put(rt__network(&w->task, "student")->set, "bias", 0, shift);
    OK(rt__task_refresh(&w->task, &err));
    OK(rt__round_open(&w->round, &w->task, 0, &err));
    OK(rt__meters_open(&w->meters, &w->round, &err));
}

static void close_world(world *w)
{
    rt__meters_close(&w->meters);
    rt__round_close(&w->round);
    rt__task_close(&w->task);
    rt_net_free(w->net);
    rt_oracle_free(w->oracle);
    rt_process_free(w->process);
}

/* Of x_t of the student and of the teacher: mean and variance; and E[x0|x_t] of both as g x + b. */
typedef struct noised {
    double alpha, beta, mean_z, var_z, mean_p, var_p, g_z, b_z, g_p, b_p;
} noised;

static noised at_time(const rt_process *p, int t)
{
    double a = rt_process_alpha(p, t), b = rt_process_beta(p, t), S = gain * gain, P = deviation_p * deviation_p;
    noised n = {.alpha = a, .beta = b, .mean_z = a * shift, .var_z = a * a * S + b * b, .mean_p = a * mean_p, .var_p = a * a * P + b * b};
    n.g_z = a * S / n.var_z, n.b_z = shift - n.g_z * n.mean_z;
    n.g_p = a * P / n.var_p, n.b_p = mean_p - n.g_p * n.mean_p;
    return n;
}

/* The auxiliary score, exact but for `wrong` times its distance to the teacher. */
static void set_score(world *w, double wrong)
{
    rt_params *set = rt__network(&w->task, "score")->set;
    for (int t = 1; t <= T; t++) {
        noised n = at_time(w->process, t);
        put(set, "weight", t - 1, n.g_z + wrong * (n.g_p - n.g_z));
        put(set, "bias", t - 1, n.b_z + wrong * (n.b_p - n.b_z));
    }
}

static int index_of(const world *w, const char *name)
{
    int i = rt__meter_find(&w->task, "test", name, &err);
    assert_true(i >= 0);
    return i;
}

/* Within four standard errors and a hundredth: times of a bin are chosen by 64 numbers, not quite as often each. */
static void agree(const world *w, const char *name, double want)
{
    int i = index_of(w, name);
    double got = w->reading.all[i], room = 4 * w->reading.error[i] + 0.01 * fabs(want);
    print_message("%-18s %.5g, closed form %.5g (room %.2g)\n", name, got, want, room);
    if (!(fabs(got - want) <= room)) fail_msg("%s: %.6g, the closed form is %.6g", name, got, want);
    if (!(room < 0.1 * fabs(want) + 0.02)) fail_msg("%s: a room of %g says nothing", name, room);
}

static const char *const many[] = {"run.meter-samples", "16384", NULL};

/* Which of eight bins, even in log-SNR between the first and the last time. */
static int bin_of(const rt_process *p, int t)
{
    double low = rt_process_log_snr(p, LAST), high = rt_process_log_snr(p, FIRST);
    int b = (int)((rt_process_log_snr(p, t) - low) / (high - low) * RT_METER_BINS);
    return b < RT_METER_BINS ? b : RT_METER_BINS - 1;
}

static void scores(void **state)
{
    (void)state;
    world w;
    open_world(&w, "vsd", RT_F64, many);
    static const double wrong[] = {0, 0.5, -1};
    for (int k = 0; k < 3; k++) {
        double apart = 0, left = 0, kl = 0, bin_apart = 0, bin_left = 0;
        set_score(&w, wrong[k]);
        OK(rt__meters_read(&w.meters, &w.reading, &err));
        for (int t = FIRST; t <= LAST; t++) {
            noised n = at_time(w.process, t);
            double g = n.g_z - n.g_p, b = n.b_z - n.b_p, square = g * g * n.var_z + (g * n.mean_z + b) * (g * n.mean_z + b);
            double own = gain * gain * n.beta * n.beta / n.var_z, r = n.var_z / n.var_p, m = n.mean_z - n.mean_p;
            apart += square, left += own;
            kl += n.beta * n.beta / (n.alpha * n.alpha) * 0.5 * (r - 1 - log(r) + m * m / n.var_p) / (LAST - FIRST + 1);
            if (bin_of(w.process, t) == 5) bin_apart += square, bin_left += own;
        }
        int n = LAST - FIRST + 1;
        agree(&w, "score_gap", (1 - wrong[k]) * (1 - wrong[k]) * apart / (left + apart));
        agree(&w, "score_loss", (left + wrong[k] * wrong[k] * apart) / n);
        agree(&w, "kl", kl);
        if (wrong[k] != 0) agree(&w, "fake_lag", wrong[k] / (1 - wrong[k]));
        double lag = w.reading.all[index_of(&w, "fake_lag")], error = w.reading.error[index_of(&w, "fake_lag")];
        if (wrong[k] == 0) assert_true(fabs(lag) < 4 * error && error < 0.05);
        double got = w.reading.bins[index_of(&w, "score_gap")][5],
               want = (1 - wrong[k]) * (1 - wrong[k]) * bin_apart / (bin_left + bin_apart);
        print_message("score_gap, bin 5   %.5g, closed form %.5g\n", got, want);
        assert_true(fabs(got - want) < 0.06 * want);
    }
    close_world(&w);
}

/* The critic's trunk is the identity and its logit k x + b: of normal x_t all its meters have closed forms. */
static void critic(void **state)
{
    (void)state;
    const double k = 0.8, b = -0.3;
    world w;
    open_world(&w, "f", RT_F32, many);
    rt_params *set = rt__network(&w.task, "score")->set;
    for (int t = 0; t < T; t++) put(set, "weight", t, 1), put(set, "bias", t, 0);
    put(set, "head.weight", 0, k), put(set, "head.bias", 0, b);
    OK(rt__meters_read(&w.meters, &w.reading, &err));
    double right = 0, made = 0, real = 0;
    for (int t = FIRST; t <= LAST; t++) {
        noised n = at_time(w.process, t);
        double z = (k * n.mean_z + b) / (k * sqrt(2 * n.var_z)), p = (k * n.mean_p + b) / (k * sqrt(2 * n.var_p));
        right += 0.25 * (1 - erf(z)) + 0.25 * (1 + erf(p));
        made += exp(k * n.mean_z + b + k * k * n.var_z / 2);
        real += exp(-k * n.mean_p - b + k * k * n.var_p / 2);
    }
    int n = LAST - FIRST + 1;
    agree(&w, "critic_accuracy", right / n);
    agree(&w, "ratio_mean", made / n);
    agree(&w, "real_ratio_mean", real / n);
    close_world(&w);
}

/* The expectation of |f(x)|, x normal, by a sum over a fine grid. */
static double mean_size(double mean, double variance, double (*f)(const double *c, double x), const double *c)
{
    double step = 0.002 * sqrt(variance), sum = 0;
    for (int i = -5000; i <= 5000; i++)
        sum += step * fabs(f(c, mean + i * step)) * exp(-i * step * i * step / (2 * variance)) / sqrt(2 * M_PI * variance);
    return sum;
}
static double line(const double *c, double x) { return c[0] * x + c[1]; }
static double falling(const double *c, double x) { return 1 / (1 + exp(line(c, x))); } /* -d/dl softplus(-l) */

/* Trunk and critic as above. The gradients at x0: alpha k gan.weight sigmoid(-l) at the critic's times, and dmd.weight (f_z - f_p) at the generator's. */
static void gradients_of_the_terms(void **state)
{
    (void)state;
    const double k = 0.8, b = -0.3;
    world w;
    open_world(&w, "dmd2", RT_F32,
               (const char *[]){"run.meter-samples", "16384", "dmd.weight", "0.7", "gan.weight", "0.4", "gan.head", "linear", "gan.t-max",
                                "0.5", NULL});
    rt_params *set = rt__network(&w.task, "score")->set;
    for (int t = 0; t < T; t++) put(set, "weight", t, 1), put(set, "bias", t, 0);
    put(set, "head.weight", 0, k), put(set, "head.bias", 0, b);
    OK(rt__meters_read(&w.meters, &w.reading, &err));
    double gan = 0, scores = 0;
    int critic_times = 0;
    for (int t = FIRST; t <= LAST; t++) {
        noised n = at_time(w.process, t);
        scores += 0.7 * mean_size(n.mean_z, n.var_z, line, (double[]){1 - n.g_p, -n.b_p}) / (LAST - FIRST + 1);
        if (t > T / 2) continue;
        gan += 0.4 * n.alpha * k * mean_size(n.mean_z, n.var_z, falling, (double[]){k, b});
        critic_times++;
    }
    agree(&w, "gan_gradient", gan / critic_times / scores);
    close_world(&w);
}

/* Renyi's weights u at alpha 2, u = q/p of two normal distributions: E_q u and E_q u^2 by sums over a fine grid. */
static void effective_sample_size(void **state)
{
    (void)state;
    world w;
    open_world(&w, "renyi", RT_F64,
               (const char *[]){"run.meter-samples", "16384", "f.ratio", "exact", "f.ratio-clip", "none", "renyi.alpha", "2", NULL});
    OK(rt__meters_read(&w.meters, &w.reading, &err));
    double first[RT_METER_BINS] = {0}, second[RT_METER_BINS] = {0}, members[RT_METER_BINS] = {0}, sum = 0;
    for (int t = FIRST; t <= LAST; t++) {
        noised n = at_time(w.process, t);
        int b = bin_of(w.process, t);
        double step = 0.01 * sqrt(n.var_z);
        for (double x = n.mean_z - 1000 * step; x < n.mean_z + 1000 * step; x += step) {
            double log_q = -(x - n.mean_z) * (x - n.mean_z) / (2 * n.var_z) - log(2 * M_PI * n.var_z) / 2;
            double log_p = -(x - n.mean_p) * (x - n.mean_p) / (2 * n.var_p) - log(2 * M_PI * n.var_p) / 2;
            first[b] += step * exp(2 * log_q - log_p), second[b] += step * exp(3 * log_q - 2 * log_p);
        }
        members[b]++;
    }
    for (int b = 0; b < RT_METER_BINS; b++)
        if (members[b] > 0) sum += members[b] / (LAST - FIRST + 1) * second[b] * members[b] / (first[b] * first[b]);
    double got = w.reading.all[index_of(&w, "effective_share")];
    print_message("effective share    %.5g, by quadrature %.5g\n", got, 1 / sum);
    assert_true(fabs(got - 1 / sum) < 0.03 / sum);
    agree(&w, "ratio_mean", 1);
    close_world(&w);
}

static void batch_and_threads_do_not_count(void **state)
{
    (void)state;
    static const char *const ways[][7] = {{"train.batch", "64", NULL},
                                          {"train.batch", "48", "train.micro-batch", "16", "threads", "2", NULL}};
    rt_reading readings[2];
    float numbers[100];
    char path[128];
    for (int i = 0; i < 100; i++) numbers[i] = 0.01f * (float)i;
    at_file(path, sizeof path, "data.safetensors");
    OK(rt_tensors_write(path, &(rt_named_tensor){"x", RT_F32, 2, (int64_t[]){100, 1}, numbers}, 1, NULL, &err));
    OK(rt_dataset_open(&data, path, &err));
    for (int way = 0; way < 2; way++) {
        world w;
        open_world(&w, "dmd2", RT_F32, ways[way]);
        OK(rt__meters_read(&w.meters, &readings[way], &err));
        assert_int_equal(w.meters.n, 256);
        rt_reading again;
        OK(rt__meters_read(&w.meters, &again, &err));
        assert_memory_equal(&again, &readings[way], sizeof again);
        assert_true(readings[way].all[index_of(&w, "critic_accuracy")] > 0);
        close_world(&w);
    }
    rt_dataset_free(data);
    data = NULL;
    assert_memory_equal(&readings[0], &readings[1], sizeof readings[0]);
}

static void samples_beside_samples(void **state)
{
    (void)state;
    /* pairs of one class: (0,0)-(3,4) and (0,0)-(6,8); the teacher's twice as far */
    static const float a[] = {0, 0, 3, 4, 1, 1, 7, 9}, b[] = {0, 0, 6, 8, 1, 1, 13, 17};
    static const int64_t classes[] = {0, 0, 1, 1};
    double v[3];
    rt__compare_samples(4, 2, a, b, classes, v);
    assert_true(fabs(v[0] - 7.5 / 15) < 1e-12);
    /* columns of a: 0 3 1 7 and 0 4 1 9, of b: 0 6 1 13 and 0 8 1 17 */
    double da[] = {sqrt(59.0 / 4 - 2.75 * 2.75), sqrt(98.0 / 4 - 3.5 * 3.5)}, db[] = {sqrt(206.0 / 4 - 25), sqrt(354.0 / 4 - 6.5 * 6.5)};
    double unit = db[0] * db[0] + db[1] * db[1];
    assert_true(fabs(v[1] - sqrt((2.25 * 2.25 + 9) / unit)) < 1e-12);
    assert_true(fabs(v[2] - sqrt(((da[0] - db[0]) * (da[0] - db[0]) + (da[1] - db[1]) * (da[1] - db[1])) / unit)) < 1e-12);
}

/* ---- runs */

typedef struct watched {
    char lines[16384];
} watched;

static void on_note(void *self, const char *line)
{
    watched *w = self;
    size_t at = strlen(w->lines);
    snprintf(w->lines + at, sizeof w->lines - at, "%s\n", line);
}

static void configure(rt_config *c, const char *name, const char *const *keys)
{
    char path[160];
    OK(rt_config_method(c, "vsd", &err));
    snprintf(path, sizeof path, "oracle:%s/oracle.json", folder);
    OK(rt_config_set(c, "teacher", path, &err));
    at_file(path, sizeof path, "net.json");
    OK(rt_config_set(c, "net", path, &err));
    at_file(path, sizeof path, "fake.json");
    OK(rt_config_set(c, "vsd.fake-net", path, &err));
    OK(rt_config_set(c, "vsd.fake-prediction", "x0", &err));
    at_file(path, sizeof path, name);
    OK(rt_config_set(c, "out", path, &err));
    OK(rt_config_set(c, "threads", "1", &err));
    OK(rt_config_set(c, "run.meter-every", "10", &err));
    for (; *keys; keys += 2) OK(rt_config_set(c, keys[0], keys[1], &err));
}

static rt_status train(const char *name, bool resume, watched *w, const char *const *keys)
{
    rt_config c;
    rt_observer observer = {.self = w, .note = on_note, .meters = on_note};
    configure(&c, name, keys);
    *w = (watched){0};
    err = (rt_error){0};
    return rt_run_train(&c, resume, &observer, NULL, &err);
}

static char *whole(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s is missing", path);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(*size);
    assert_int_equal(fread(text, 1, *size, f), *size);
    fclose(f);
    return text;
}

static void same_students(const char *a, const char *b, bool same)
{
    char path[2][192];
    size_t size[2];
    snprintf(path[0], sizeof path[0], "%s/%s/student/unet/diffusion_pytorch_model.safetensors", folder, a);
    snprintf(path[1], sizeof path[1], "%s/%s/student/unet/diffusion_pytorch_model.safetensors", folder, b);
    char *x = whole(path[0], &size[0]), *y = whole(path[1], &size[1]);
    assert_int_equal(size[0] == size[1] && !memcmp(x, y, size[0]), same);
    free(x);
    free(y);
}

/* One tensor of a file, n floats at most. */
static void read_tensor(const char *path, const char *name, float *x, int64_t n)
{
    rt_tensors *t;
    OK(rt_tensors_open(&t, path, &err));
    int i = rt_tensors_find(t, name);
    if (i < 0) fail_msg("%s: no tensor '%s'", path, name);
    assert_true(rt_tensors_info(t, i)->count <= n);
    OK(rt_tensors_read_real(t, i, RT_F32, x, &err));
    rt_tensors_close(t);
}

static void meters_leave_training_alone(void **state)
{
    (void)state;
    watched w;
    OK(train("with", false, &w, (const char *[]){"train.updates", "40", "run.meter-every", "1", NULL}));
    OK(train("without", false, &w, (const char *[]){"train.updates", "40", "run.meter-every", "0", NULL}));
    same_students("with", "without", true);
}

/* A score that is learnt first, a rate at which the student then swings about its best: that reading is not the last. */
#define EARLY  "vsd.score-lr", "0.02", "vsd.score-warmup", "200", "train.warmup", "0", "train.ema", "0.9"
#define SWINGS "train.updates", "200", "train.lr", "0.01", EARLY

static void the_best_is_kept(void **state)
{
    (void)state;
    watched w;
    long long best = 0;
    char name[96], file[192];
    float kept[64], then[64];
    OK(train("selected", false, &w, (const char *[]){SWINGS, "run.select", "mean_off", NULL}));
    const char *said = strstr(w.lines, "the student is that of update ");
    if (!said || sscanf(said, "the student is that of update %lld", &best) != 1) fail_msg("not said:\n%s", w.lines);
    print_message("%s", said);
    double least = INFINITY; /* of what was read */
    long long of_least = 0, update;
    for (const char *line = w.lines; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        const char *end = strchr(line, '\n'), *value = strstr(line, "mean_off ");
        double off;
        if (sscanf(line, "update %lld:", &update) != 1 || update == 0 || !value || value > end) continue;
        if (sscanf(value, "mean_off %lf", &off) == 1 && off < least) least = off, of_least = update;
    }
    assert_true(best == of_least && best > 60 && best < 200);
    snprintf(name, sizeof name, "%lld", best);
    OK(train("stopped", false, &w, (const char *[]){SWINGS, "run.until-update", name, NULL}));
    snprintf(file, sizeof file, "%s/stopped/checkpoints/update-%lld/state.safetensors", folder, best);
    read_tensor(file, "student.average", then, 64);
    snprintf(file, sizeof file, "%s/selected/student/unet/diffusion_pytorch_model.safetensors", folder);
    read_tensor(file, "weight", kept, 64);
    assert_true(kept[0] == then[0]);
    read_tensor(file, "bias", kept, 64);
    assert_true(kept[0] == then[16]); /* entries start at multiples of 16 numbers */

    /* after a stop before the best, and one behind it */
    for (int way = 0; way < 2; way++) {
        const char *out = way ? "late" : "early";
        snprintf(name, sizeof name, "%lld", way ? best + 5 : best - 5);
        OK(train(out, false, &w,
                 (const char *[]){SWINGS, "run.select", "mean_off", "run.checkpoint-every", "7", "run.until-update", name, NULL}));
        OK(train(out, true, &w, (const char *[]){SWINGS, "run.select", "mean_off", NULL}));
        same_students("selected", out, true);
    }
    OK(train("last", false, &w, (const char *[]){SWINGS, NULL}));
    same_students("selected", "last", false);
}

static void a_collapse_ends_a_run(void **state)
{
    (void)state;
    watched w;
    char path[160];
    static const char *const keys[] = {"train.updates", "200",      "train.lr", "1", "vsd.score-lr", "0.001", "train.warmup", "0",
                                       "run.stop-on",   "collapse", NULL};
    assert_int_equal(train("collapse", false, &w, keys), RT_E_DIVERGED);
    print_message("%s\n", err.text);
    assert_non_null(strstr(err.text, "whose checkpoint is kept: "));
    assert_non_null(strstr(err.text, ": collapse, "));
    assert_non_null(strstr(w.lines, "warning: update "));
    long long update;
    assert_int_equal(sscanf(err.text, "stopped after update %lld", &update), 1);
    assert_true(update == 10);
    snprintf(path, sizeof path, "%s/collapse/checkpoints/update-%lld/manifest.json", folder, update);
    assert_int_equal(access(path, F_OK), 0);
    /* with seed 1 the student begins beyond the limits: it waits for its score and comes nearer, or is stuck there */
    OK(train("healthy", false, &w, (const char *[]){SWINGS, "seed", "1", "run.stop-on", "collapse", NULL}));
    assert_null(strstr(w.lines, "collapse"));
    assert_int_equal(train("stuck", false, &w,
                           (const char *[]){"train.updates", "100", "train.lr", "1e-12", "seed", "1", "run.stop-on", "collapse", NULL}),
                     RT_E_DIVERGED);
    assert_non_null(strstr(err.text, "stopped after update 30,"));
}

static void a_flat_meter_ends_a_run(void **state)
{
    (void)state;
    watched w;
    static const char *const keys[] = {"train.updates", "500",         "train.lr", "1e-12", "vsd.score-lr",
                                       "1e-12",         "run.stop-on", "flat:kl",  NULL};
    OK(train("flat", false, &w, keys));
    assert_non_null(strstr(w.lines, "stopped after update 60: kl ")); /* the first reading, of update 10, and five that are no better */
    char cut[16] = "35";
    OK(train("flat-parts", false, &w,
             (const char *[]){"train.updates", "500", "train.lr", "1e-12", "vsd.score-lr", "1e-12", "run.stop-on", "flat:kl",
                              "run.until-update", cut, NULL}));
    OK(train("flat-parts", true, &w, keys));
    assert_non_null(strstr(w.lines, "stopped after update 60: kl "));
    same_students("flat", "flat-parts", true);
    OK(train("flat", true, &w, keys)); /* it has ended */
    assert_null(strstr(w.lines, "update"));
}

/* Of an auxiliary score half-way between the exact one and the teacher. */
static void a_score_that_lags_is_told(void **state)
{
    (void)state;
    static const double wrong[] = {0, 0.6};
    for (int k = 0; k < 2; k++) {
        world w;
        watched seen = {0};
        rt_observer observer = {.self = &seen, .note = on_note, .meters = on_note};
        open_world(&w, "vsd", RT_F32, many);
        set_score(&w, wrong[k]);
        rt__run run = {.config = &w.config, .observer = &observer, .lock = -1, .task = w.task, .round = w.round, .at.updates = 10};
        run.round.task = &run.task;
        OK(rt__watch_open(&run, &err));
        assert_null(strstr(seen.lines, "warning")); /* nothing has been trained yet */
        rt__verdict verdict;
        rt__main_phase(&run.round)->last_grad_norm = 1;
        OK(rt__watch_update(&run, true, &verdict, &err));
        assert_int_equal(verdict, RT_GO_ON);
        bool told = strstr(seen.lines, "is above 0.5: the auxiliary score lags: raise vsd.score-updates or vsd.score-lr") != NULL;
        if (told != (k == 1)) fail_msg("%s", seen.lines);
        rt__meters_close(&run.meters);
        close_world(&w);
    }
}

static void meters_are_named(void **state)
{
    (void)state;
    watched w;
    assert_int_equal(train("none", false, &w, (const char *[]){"run.select", "score_gab", NULL}), RT_E_USAGE);
    assert_non_null(strstr(err.text, "did you mean 'score_gap'?"));
    assert_non_null(strstr(err.text, "distance"));
    assert_int_equal(train("none", false, &w, (const char *[]){"run.stop-on", "collapse,flat:no", NULL}), RT_E_USAGE);
    assert_int_equal(train("none", false, &w, (const char *[]){"run.stop-on", "flat", NULL}), RT_E_USAGE);
    char path[160];
    at_file(path, sizeof path, "none");
    assert_int_not_equal(access(path, F_OK), 0); /* refused before anything is written */
    rt_config c;
    OK(rt_config_method(&c, "kd", &err));
    assert_int_equal(rt_config_set(&c, "run.select", "distance", &err), RT_E_USAGE);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/retort-meters-%d", (int)getpid());
    char command[160], text[512] = "{\"_class_name\": \"RetortAffine\", \"data_dim\": 1, \"times\": [0";
    snprintf(command, sizeof command, "mkdir -p %s", folder);
    if (system(command) != 0) return 1;
    write_file("net.json", "{\"_class_name\": \"RetortAffine\", \"data_dim\": 1, \"times\": [0]}");
    for (int t = 1; t < T; t++) snprintf(text + strlen(text), sizeof text - strlen(text), ", %d", t);
    snprintf(text + strlen(text), sizeof text - strlen(text), "]}");
    write_file("fake.json", text);
    write_file("oracle.json",
               "{\"kind\": \"gaussian\", \"means\": [[0.7]], \"covariances\": [[[0.1225]]], \"scheduler\": {\"_class_name\": "
               "\"DDIMScheduler\", \"num_train_timesteps\": 64, \"beta_schedule\": \"squaredcos_cap_v2\", "
               "\"prediction_type\": \"sample\", \"timestep_spacing\": \"trailing\", \"clip_sample\": false}, "
               "\"prediction\": \"x0\"}");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(scores),
                                       cmocka_unit_test(critic),
                                       cmocka_unit_test(gradients_of_the_terms),
                                       cmocka_unit_test(effective_sample_size),
                                       cmocka_unit_test(batch_and_threads_do_not_count),
                                       cmocka_unit_test(samples_beside_samples),
                                       cmocka_unit_test(meters_leave_training_alone),
                                       cmocka_unit_test(the_best_is_kept),
                                       cmocka_unit_test(a_collapse_ends_a_run),
                                       cmocka_unit_test(a_flat_meter_ends_a_run),
                                       cmocka_unit_test(a_score_that_lags_is_told),
                                       cmocka_unit_test(meters_are_named)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
