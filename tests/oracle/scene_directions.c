/* scene_directions.c -- sds and vsd of a scene against (1.29) written out: the step of a picture for every s_zeta and weight, its draws made again by their names, and the
 * columns of the metrics that follow from them; vsd's
 * identity with sds for one particle; an affine generator, which vsd leads to a normal distribution and sds to its mean; where cameras stand; runs in parts. */
#include "distill/scene_painting.h"
#include "distill/sources.h"

#include "base/internal.h"

#include "retort/format.h"
#include "retort/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { B = 4, P = 3, D = 6, UPDATES = 11 };
static const double spread2 = 0.09; /* the teacher is N(mean, spread2 I) */
static const double mean[D] = {0.5, -0.3, 0.8, 0.1, -0.6, 0.2};

static rt_error err;
static char folder[64];
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
    rt_oracle *oracle;
} world;

/* The world but for its networks, which open_round makes. */
static void configure(world *w, const char *method, int particles, const char *const *keys)
{
    double covariance[D * D] = {0};
    char number[16];
    *w = (world){0};
    for (int i = 0; i < D; i++) covariance[i * (D + 1)] = spread2;
    rt_process_spec flow = rt_process_defaults("flow");
    OK(rt_process_new(&w->process, &flow, &err));
    OK(rt_oracle_gaussian(&w->oracle, D, mean, covariance, w->process, rt_prediction_find("x0", &err), &err));
    OK(rt_config_method(&w->config, method, &err));
    snprintf(number, sizeof number, "%d", particles);
    const char *const all[] = {"out",
                               "/nowhere",
                               "threads",
                               "1",
                               "scene.kind",
                               "image",
                               "train.batch",
                               "4",
                               "train.beta1",
                               "0",
                               "train.lr",
                               "1",
                               "seed",
                               "5",
                               "train.lr-schedule",
                               "constant",
                               "scene.init",
                               "rough",
                               "train.optimiser",
                               "sgd",
                               "scene.particles",
                               number,
                               NULL};
    for (const char *const *k = all; *k; k += 2) OK(rt_config_set(&w->config, k[0], k[1], &err));
    for (const char *const *k = keys; *k; k += 2) OK(rt_config_set(&w->config, k[0], k[1], &err));
    w->task = (rt_task){.method = rt__method_find(method),
                        .config = &w->config,
                        .process = w->process,
                        .null_class = -1,
                        .low = -1,
                        .high = 1,
                        .real = RT_F64,
                        .teacher = {.oracle = w->oracle, .prediction = rt_prediction_find("x0", &err), .null_class = -1}};
}

static void open_round(world *w)
{
    OK(rt__task_open(&w->task, &err));
    OK(rt__round_open(&w->round, &w->task, 0, &err));
    OK(rt__round_compile(&w->round, &err));
}

static void open_world(world *w, const char *method, int particles, const char *const *keys)
{
    configure(w, method, particles, keys);
    open_round(w);
}

static void close_world(world *w)
{
    rt__round_close(&w->round);
    rt__task_close(&w->task);
    rt_oracle_free(w->oracle);
    rt_process_free(w->process);
}

static double *values(world *w) { return rt_params_data(rt__network(&w->task, "scene")->set, RT_VALUE); }

static double drawn(uint64_t seed, const char *name, int u, int sample)
{
    uint32_t words[4];
    rt__draw_words(&(rt__draw){.seed = seed, .name = rt__draw_name(name), .clock = (uint32_t)u}, (uint32_t)sample, 0, words);
    return rt__unit(words[0]);
}

/* What the metrics say of an update: sums of (f_zeta - f_teacher)^2 over the numbers of pictures, and how many there are, by quarter of t. */
typedef struct gaps {
    double sum[4], n[4];
} gaps;

/* The direction E_b u of update u for pictures x [particles][D], by (1.24) and (1.29); the gaps between the scores as x0-predictions. */
static void direction(const world *w, int u, int particles, const char *zeta, double low, double high, double power, const double *x,
                      double *step, gaps *g)
{
    uint64_t seed = rt__stream_seed(&w->round.phases[0]);
    *g = (gaps){0};
    for (int i = 0; i < particles * D; i++) step[i] = 0;
    for (int b = 0; b < B; b++)
        for (int p = 0; p < particles; p++) {
            double t = low + (high - low) * drawn(seed, "t", u, b), alpha = 1 - t, beta = t, eps[D], xt[D], logit[P], best = -INFINITY,
                   sum = 0;
            rt__draw_normals(&(rt__draw){.seed = seed, .name = rt__draw_name("eps"), .clock = (uint32_t)u}, (uint32_t)(b * particles + p),
                             D, eps);
            for (int j = 0; j < D; j++) xt[j] = alpha * x[p * D + j] + beta * eps[j];
            for (int q = 0; q < particles; q++) {
                logit[q] = 0;
                for (int j = 0; j < D; j++) logit[q] -= (xt[j] - alpha * x[q * D + j]) * (xt[j] - alpha * x[q * D + j]) / (2 * beta * beta);
                best = fmax(best, logit[q]);
            }
            for (int q = 0; q < particles; q++) sum += exp(logit[q] - best);
            for (int j = 0; j < D; j++) {
                double s_teacher = -(xt[j] - alpha * mean[j]) / (alpha * alpha * spread2 + beta * beta), s_zeta = 0;
                if (!strcmp(zeta, "subtract")) s_zeta = -eps[j] / beta;
                for (int q = 0; q < particles && !strcmp(zeta, "exact"); q++)
                    s_zeta -= exp(logit[q] - best) / sum * (xt[j] - alpha * x[q * D + j]) / (beta * beta);
                double omega = pow(alpha, power) / (alpha * alpha / (beta * beta)); /* weight/SNR */
                step[p * D + j] += omega * alpha * (s_zeta - s_teacher) / B;
                g->sum[(int)(4 * t)] += pow((s_zeta - s_teacher) * beta * beta / alpha, 2);
                g->n[(int)(4 * t)]++;
            }
        }
}

static void one_step(const char *method, const char *key, const char *zeta, int particles, const char *weight, double power, double anneal)
{
    world w;
    char weight_key[32], anneal_key[32], fallen[16];
    snprintf(weight_key, sizeof weight_key, "%.3s.weight", method);
    snprintf(anneal_key, sizeof anneal_key, "%.3s.anneal", method);
    snprintf(fallen, sizeof fallen, "%g", anneal);
    const char *const keys[] = {weight_key, weight, key, zeta, anneal_key, fallen, "train.updates", "11", NULL};
    open_world(&w, method, particles, keys);
    double before[P * D], want[P * D];
    gaps g;
    for (int u = 0; u < UPDATES; u += 5) {
        double high = anneal > 0 ? 0.98 + (anneal - 0.98) * u / (UPDATES - 1) : 0.98;
        memcpy(before, values(&w), (size_t)(particles * D) * sizeof *before);
        direction(&w, u, particles, zeta, 0.02, high, power, before, want, &g);
        OK(rt__round_update(&w.round, u, UPDATES, "test", u, &err));
        for (int i = 0; i < particles * D; i++) {
            double got = before[i] - values(&w)[i];
            if (!(fabs(got - want[i]) <= 1e-10 * (fabs(want[i]) + 1)))
                fail_msg("%s %s, %d particles, %s, update %d: number %d moves by %.12g, (1.29) gives %.12g", method, zeta, particles,
                         weight, u, i, got, want[i]);
        }
    }
    close_world(&w);
}

static void steps_are_those_of_the_equation(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double power;
    } weights[] = {{"alpha", 1}, {"alpha2", 2}, {"uniform", 0}};
    for (int k = 0; k < 3; k++) {
        one_step("sds", "sds.noise", "keep", 1, weights[k].name, weights[k].power, 0);
        one_step("sds", "sds.noise", "subtract", P, weights[k].name, weights[k].power, 0.5);
        one_step("vsd-scene", "vsd.score", "exact", P, weights[k].name, weights[k].power, 0);
    }
}

/* ---- columns of the metrics */

static double column(world *w, const char *name)
{
    rt_metric row[32];
    int n = w->task.method->showing->figures(&w->round, 32, row);
    for (int i = 0; i < n; i++)
        if (!strcmp(row[i].name, name)) return row[i].value;
    fail_msg("there is no column %s", name);
    return NAN;
}

static void column_is(world *w, const char *name, double want)
{
    double got = column(w, name);
    if (isnan(want) ? !isnan(got) : !(fabs(got - want) <= 1e-6 * fabs(want))) fail_msg("%s is %.12g, not %.12g", name, got, want);
}

/* The gradient is the step of plain descent at rate 1. */
static void columns_are_those_of_the_update(void **state)
{
    (void)state;
    static const char *const quarters[] = {"x0_gap_rms_q1", "x0_gap_rms_q2", "x0_gap_rms_q3", "x0_gap_rms_q4"};
    world w;
    gaps g;
    double before[P * D], want[P * D], spread = 0, moved = 0;
    bool without = false;
    open_world(&w, "vsd-scene", P, (const char *const[]){"vsd.score", "exact", NULL});
    assert_true(isnan(w.task.method->showing->headline(&w.round)) || w.task.method->showing->headline(&w.round) == 0);
    for (int u = 0; u < 4; u++) {
        double all = 0, rows = 0;
        memcpy(before, values(&w), sizeof before);
        direction(&w, u, P, "exact", 0.02, 0.98, 1, before, want, &g);
        OK(rt__round_update(&w.round, u, UPDATES, "test", u, &err));
        for (int q = 0; q < 4; q++) {
            column_is(&w, quarters[q], g.n[q] > 0 ? sqrt(g.sum[q] / g.n[q]) : NAN);
            without |= g.n[q] == 0;
            all += g.sum[q], rows += g.n[q];
        }
        column_is(&w, "x0_gap_rms", sqrt(all / rows));
        assert_true(w.task.method->showing->headline(&w.round) == column(&w, "x0_gap_rms"));
        spread = moved = 0;
        for (int j = 0; j < D; j++) {
            double middle = (before[j] + before[D + j] + before[2 * D + j]) / P;
            for (int p = 0; p < P; p++) spread += pow(before[p * D + j] - middle, 2) / (P * D);
        }
        for (int i = 0; i < P * D; i++) moved += pow(values(&w)[i] - before[i], 2);
        column_is(&w, "particle_spread_rms", sqrt(spread));
        column_is(&w, "gradient_norm", sqrt(moved));
        column_is(&w, "view_change_rms", sqrt(moved / (P * D)));
        column_is(&w, "fake_lag", NAN); /* s_zeta is exact */
        column_is(&w, "opacity", NAN);  /* pictures have none */
        column_is(&w, "unsure", NAN);
    }
    assert_true(without); /* a quarter in which no time was drawn */
    close_world(&w);
}

/* A network of zeros is teacher and s_zeta: the scores do not differ, and what (1.17) and the lag are is known. */
static void a_network_lags_behind_the_exact_score(void **state)
{
    (void)state;
    char path[128];
    world w = {0};
    rt_net *net;
    double x[P * D], lag = 0, loss = 0;
    snprintf(path, sizeof path, "%s/net.json", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "{\"_class_name\": \"RetortMLP\", \"data_dim\": %d, \"hidden\": 8, \"layers\": 1}", D);
    assert_int_equal(fclose(f), 0);
    OK(rt_net_open(&net, path, &err));
    rt_params *zeros = rt_params_new("zeros", RT_F32);
    OK(rt_net_declare(net, zeros, &err));
    memset(rt_params_data(zeros, RT_VALUE), 0, (size_t)rt_params_extent(zeros, RT_VALUE) * sizeof(float));
    configure(&w, "vsd-scene", P, (const char *const[]){"vsd.score", "network", "vsd.score-lr", "0", "train.lr", "0.1", NULL});
    w.task.real = RT_F32;
    w.task.teacher = (rt_denoiser){.net = net, .set = zeros, .prediction = rt_prediction_find("x0", &err), .null_class = -1};
    open_round(&w);
    const float *at = rt_params_data(rt__network(&w.task, "scene")->set, RT_VALUE);
    for (int i = 0; i < P * D; i++) x[i] = (double)at[i];
    rt_phase *scene = rt__main_phase(&w.round);
    uint64_t seed = rt__stream_seed(scene);
    OK(rt__round_update(&w.round, 0, UPDATES, "test", 0, &err));
    for (int i = 0; i < B * P; i++) {
        double t = 0.02 + 0.96 * drawn(seed, "t", 0, i / P), eps[D], xt[D], exact[D];
        rt__draw_normals(&(rt__draw){.seed = seed, .name = rt__draw_name("eps"), .clock = 0}, (uint32_t)i, D, eps);
        for (int j = 0; j < D; j++) xt[j] = (1 - t) * x[i % P * D + j] + t * eps[j];
        rt__mean_of_pictures(P, D, x, 1 - t, t, xt, exact);
        for (int j = 0; j < D; j++) lag += exact[j] * exact[j] / (B * P * D);
    }
    for (int b = 0; b < B; b++)
        for (int j = 0; j < D; j++) loss += x[b % P * D + j] * x[b % P * D + j] / (B * D);
    column_is(&w, "x0_gap_rms", 0);
    if (!(fabs(column(&w, "fake_lag") - sqrt(lag)) < 1e-5 * sqrt(lag))) fail_msg("%g, not %g", column(&w, "fake_lag"), sqrt(lag));
    assert_string_equal(w.round.phases[0].plan->name, "fake"); /* its loss is the column fake_loss */
    if (!(fabs(w.round.phases[0].last_loss - loss) < 1e-5 * loss)) fail_msg("%g, not %g", w.round.phases[0].last_loss, loss);
    close_world(&w);
    rt_params_free(zeros);
    rt_net_free(net);
}

/* s_zeta of one particle is -eps/beta: vsd and sds move it alike. */
static void one_particle_makes_vsd_sds(void **state)
{
    (void)state;
    world vsd, sds;
    open_world(&vsd, "vsd-scene", 1, (const char *const[]){"vsd.score", "exact", NULL});
    open_world(&sds, "sds", 1, (const char *const[]){"sds.noise", "subtract", NULL});
    for (int u = 0; u < UPDATES; u++) {
        OK(rt__round_update(&vsd.round, u, UPDATES, "test", u, &err));
        OK(rt__round_update(&sds.round, u, UPDATES, "test", u, &err));
        for (int i = 0; i < D; i++)
            if (!(fabs(values(&vsd)[i] - values(&sds)[i]) <= 1e-6 * fabs(values(&sds)[i])))
                fail_msg("update %d: %.9g by vsd, %.9g by sds", u, values(&vsd)[i], values(&sds)[i]);
    }
    assert_true(fabs(values(&sds)[0] - mean[0]) < 0.2); /* and it is on its way */
    close_world(&vsd);
    close_world(&sds);
}

/* The learning rate of a scene falls to a tenth. */
static void falls_to_a_tenth(void **state)
{
    (void)state;
    world w;
    open_world(&w, "sds", 1, (const char *const[]){"train.lr-schedule", "tenth", NULL});
    for (int u = 0; u < UPDATES; u++) {
        OK(rt__round_update(&w.round, u, UPDATES, "test", u, &err));
        assert_true(fabs(w.round.phases[0].last_lr - pow(10, -(double)u / UPDATES)) < 1e-12);
    }
    close_world(&w);
}

/* (1.39): of two classes, N(-1, v) and N(1, v), guided away from both together. */
static void guided_oracle(void **state)
{
    (void)state;
    const double means[] = {-1, 1}, covariances[] = {spread2, spread2}, weights[] = {0.5, 0.5}, x = 0.3, t = 0.4, alpha = 1 - t, beta = t;
    const int64_t labels[] = {0, 1}, y = 1;
    rt_process *flow;
    rt_process_spec spec = rt_process_defaults("flow");
    rt_oracle *o;
    rt__guess g;
    rt_config c;
    double got, of[2], share[2];
    OK(rt_process_new(&flow, &spec, &err));
    OK(rt_oracle_mixture(&o, 2, 1, weights, means, covariances, flow, rt_prediction_find("x0", &err), &err));
    OK(rt_oracle_set_classes(o, labels, &err));
    rt_task task = {.config = &c, .process = flow, .features = 1, .classes = 3};
    OK(rt__guess_open(&g, &task, &(rt_denoiser){.oracle = o, .null_class = 2, .guidance = 1.5}, 1, &err));
    OK(rt__guess_x0(&g, 1, &x, &t, &y, &got, &err));
    double spread = alpha * alpha * spread2 + beta * beta;
    for (int k = 0; k < 2; k++) {
        share[k] = exp(-(x - alpha * means[k]) * (x - alpha * means[k]) / (2 * spread));
        of[k] = means[k] + alpha * spread2 / spread * (x - alpha * means[k]);
    }
    double both = (share[0] * of[0] + share[1] * of[1]) / (share[0] + share[1]);
    assert_true(fabs(got - (2.5 * of[1] - 1.5 * both)) < 1e-12);
    rt__guess_close(&g);
    rt_oracle_free(o);
    rt_process_free(flow);
}

/* ---- an affine generator, on the mean and covariance of the reference numbers where they are, else on others */

static const double other_mean[D] = {0.6315, -0.1841, -1.1983, 0.2171, -0.0253, -0.0509};
static const double other_covariance[D * D] = {0.7111,  0.4166,  -0.1074, -0.3519, 0.1188,  0.1054,  0.4166,  1.3977,  -0.1563,
                                               -0.6065, 0.0562,  0.797,   -0.1074, -0.1563, 0.7023,  0.4233,  -0.1023, -0.3914,
                                               -0.3519, -0.6065, 0.4233,  1.0121,  -0.1973, -0.6017, 0.1188,  0.0562,  -0.1023,
                                               -0.1973, 0.482,   0.1421,  0.1054,  0.797,   -0.3914, -0.6017, 0.1421,  1.6972};

static void write_oracle(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "{\"kind\": \"gaussian\", \"means\": [[");
    for (int i = 0; i < D; i++) fprintf(f, "%s%g", i ? ", " : "", other_mean[i]);
    fprintf(f, "]], \"covariances\": [[");
    for (int i = 0; i < D * D; i++) fprintf(f, "%s%g%s", i % D ? ", " : i ? ", [" : "[", other_covariance[i], i % D == D - 1 ? "]" : "");
    fprintf(f, "]], \"prediction\": \"velocity\", \"scheduler\": {\"_class_name\": \"FlowMatchEulerDiscreteScheduler\"}}");
    assert_int_equal(fclose(f), 0);
}

static void configure_affine(rt_config *c, const char *method, const char *out)
{
    char teacher[128], path[128];
    snprintf(path, sizeof path, "%s/%s", folder, out);
    snprintf(teacher, sizeof teacher, "oracle:%s/oracle.json", folder);
    const char *const keys[] = {"out",
                                path,
                                "teacher",
                                teacher,
                                "net",
                                "affine",
                                "scene.kind",
                                "image",
                                "threads",
                                "1",
                                "train.batch",
                                "64",
                                "train.updates",
                                "400",
                                "train.lr-schedule",
                                "linear",
                                "run.checkpoint-every",
                                "0",
                                NULL};
    OK(rt_config_method(c, method, &err));
    for (const char *const *k = keys; *k; k += 2) OK(rt_config_set(c, k[0], k[1], &err));
}

/* |m - mean|/|mean| and |L L^T - C|/|C|, |L L^T|/|C| of what a run left. */
static void read_affine(const char *out, double far[3])
{
    char path[160];
    rt_tensors *t;
    float m[D], L[D * D];
    snprintf(path, sizeof path, "%s/%s/scene/scene.safetensors", folder, out);
    OK(rt_tensors_open(&t, path, &err));
    OK(rt_tensors_read_real(t, rt_tensors_find(t, "mean"), RT_F32, m, &err));
    OK(rt_tensors_read_real(t, rt_tensors_find(t, "factor"), RT_F32, L, &err));
    rt_tensors_close(t);
    double off = 0, size = 0, away = 0, all = 0, own = 0;
    for (int i = 0; i < D; i++) off += pow(m[i] - other_mean[i], 2), size += pow(other_mean[i], 2);
    for (int i = 0; i < D * D; i++) {
        double c = 0;
        for (int k = 0; k < D; k++) c += (double)L[i / D * D + k] * (double)L[i % D * D + k];
        away += pow(c - other_covariance[i], 2), all += pow(other_covariance[i], 2), own += c * c;
    }
    far[0] = sqrt(off / size);
    far[1] = sqrt(away / all);
    far[2] = sqrt(own / all);
    print_message("%s: mean off by %.2g, covariance off by %.2g, of size %.2g\n", out, far[0], far[1], far[2]);
}

static void affine_generators(void **state)
{
    (void)state;
    char path[128];
    rt_config c;
    double far[3];
    snprintf(path, sizeof path, "%s/oracle.json", folder);
    write_oracle(path);
    configure_affine(&c, "vsd-scene", "vsd");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    read_affine("vsd", far);
    assert_true(far[0] < 0.01 && far[1] < 0.01);
    configure_affine(&c, "sds", "sds");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    read_affine("sds", far);
    assert_true(far[0] < 0.1 && far[2] < 0.05);
}

/* ---- cameras */

static void cameras_spread_over_the_azimuth(void **state)
{
    (void)state;
    enum { SECTORS = 8, FRAMES = 24 };
    rt_config *c = calloc(1, sizeof *c);
    rt_task t = {.config = c, .rank = 4, .shape = {RT_BATCH, 3, 8, 8}, .features = 192, .low = -1, .high = 1};
    OK(rt_config_method(c, "sds", &err));
    OK(rt_config_set(c, "scene.kind", "grid", &err));
    OK(rt_config_set(c, "scene.elevation", "10,20", &err));
    OK(rt_config_set(c, "scene.distance", "3,4", &err));
    rt_camera at[SECTORS], half[SECTORS], frames[FRAMES];
    rt_cameras none = {0}, file = {FRAMES, frames};
    for (int i = 0; i < FRAMES; i++) frames[i] = rt_camera_orbit(15.0 * i - 180, 20, 3.2, 36), frames[i].label = i;
    int seen[FRAMES] = {0}, of_first[FRAMES] = {0}, places = 0;
    for (int u = 0; u < 60; u++) {
        rt__scene_cameras(&t, &none, 3, u, 0, SECTORS, SECTORS, at);
        rt__scene_cameras(&t, &none, 3, u, SECTORS / 2, SECTORS / 2, SECTORS, half); /* a slice, or another rank's part */
        assert_memory_equal(half, at + SECTORS / 2, sizeof half / 2);
        for (int i = 0; i < SECTORS; i++) {
            const double *m = at[i].c2w;
            double r = sqrt(m[3] * m[3] + m[7] * m[7] + m[11] * m[11]), azimuth = atan2(m[7], m[3]) * 180 / M_PI,
                   up = asin(m[11] / r) * 180 / M_PI;
            if (azimuth < 0) azimuth += 360;
            assert_true(azimuth >= 45 * i - 1e-9 && azimuth <= 45 * (i + 1) + 1e-9);
            assert_true(up >= 10 - 1e-9 && up <= 20 + 1e-9 && r >= 3 - 1e-9 && r <= 4 + 1e-9);
        }
        rt__scene_cameras(&t, &file, 3, u, 0, SECTORS, SECTORS, at);
        for (int i = 0; i < SECTORS; i++) {
            seen[at[i].label]++;
            int next = (at[(i + 1) % SECTORS].label - at[i].label + FRAMES) % FRAMES;
            assert_true(next >= 1 && next <= 5); /* of neighbouring sectors of three */
        }
        of_first[at[0].label]++;
    }
    for (int i = 0; i < FRAMES; i++) places += of_first[i] > 0;
    assert_true(places > FRAMES / 2);
    for (int i = 0; i < FRAMES; i++) assert_true(seen[i] > 5);
    free(c);
}

/* ---- the mixture */

static void means_of_pictures(void **state)
{
    (void)state;
    const double pictures[] = {0, 0, 1, 0, 0, 4}, xt[] = {0.5, 0}, far[] = {1e4, 0};
    double got[2];
    rt__mean_of_pictures(3, 2, pictures, 1, 0.3, xt, got); /* the first two are as near, the third is not */
    double third = exp(-(0.25 + 16) / 0.18) / (2 * exp(-0.25 / 0.18) + exp(-(0.25 + 16) / 0.18));
    assert_true(fabs(got[0] - (1 - third) / 2) < 1e-14 && fabs(got[1] - 4 * third) < 1e-14);
    rt__mean_of_pictures(3, 2, pictures, 1, 1e-3, far, got); /* and where every exponential is 0 in double */
    assert_true(got[0] == 1 && got[1] == 0);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/retort-score-scene-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_of_pictures),
        cmocka_unit_test(cameras_spread_over_the_azimuth),
        cmocka_unit_test(steps_are_those_of_the_equation),
        cmocka_unit_test(columns_are_those_of_the_update),
        cmocka_unit_test(a_network_lags_behind_the_exact_score),
        cmocka_unit_test(one_particle_makes_vsd_sds),
        cmocka_unit_test(affine_generators),
        cmocka_unit_test(falls_to_a_tenth),
        cmocka_unit_test(guided_oracle),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
