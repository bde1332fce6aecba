/* few_steps.c -- students of several steps: the states that `vsd` and its relatives train on are those that the saved student's sampling visits, from the same
 * noise and the same noise between the steps; the losses at them; whole runs of every member of the family; what is refused. */
#include "distill/sources.h"
#include "retort/model.h"
#include "train/run.h"

#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { B = 16, D = 2, T = 64, N = 3, NULL_CLASS = 2 };

static rt_error err;
static char folder[64];
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

#define SCHEDULER                                                                                                                          \
    "\"scheduler\": {\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 64, \"beta_schedule\": \"squaredcos_cap_v2\", "          \
    "\"prediction_type\": \"v_prediction\", \"clip_sample\": false}, \"prediction\": \"v\"}"

static const struct {
    const char *name, *text;
} files[] = {
    {"classes.json",
     "{\"kind\": \"mixture\", \"weights\": [0.5, 0.5], \"means\": [[-1, 0.5], [1, 0.2]], \"covariances\": [[[0.1, 0.05], [0.05, 0.2]], "
     "[[0.3, -0.1], [-0.1, 0.1]]], \"classes\": [0, 1], " SCHEDULER},
    {"gaussian.json", "{\"kind\": \"gaussian\", \"means\": [[0.7]], \"covariances\": [[[0.1225]]], " SCHEDULER},
    {"net.json", "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 24, \"layers\": 2, \"num_class_embeds\": 3}"},
    {"plain.json", "{\"_class_name\": \"RetortMLP\", \"data_dim\": 1, \"hidden\": 32, \"layers\": 2}"},
    {"affine.json", "{\"_class_name\": \"RetortAffine\", \"data_dim\": 1, \"times\": [0]}"},
};

static void set_file(rt_config *c, const char *key, const char *prefix, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s%s/%s", prefix, folder, name);
    OK(rt_config_set(c, key, path, &err));
}

static rt_config run_of(const char *method, const char *teacher, const char *net, const char *name, const char *const *keys)
{
    rt_config c;
    OK(rt_config_method(&c, method, &err));
    set_file(&c, "teacher", "oracle:", teacher);
    set_file(&c, "net", "", net);
    set_file(&c, "vsd.fake-net", "", !strcmp(net, "net.json") ? net : "plain.json");
    set_file(&c, "out", "", name);
    OK(rt_config_set(&c, "threads", "1", &err));
    OK(rt_config_set(&c, "train.batch", "16", &err));
    OK(rt_config_set(&c, "run.checkpoint-every", "0", &err));
    for (; *keys; keys += 2) OK(rt_config_set(&c, keys[0], keys[1], &err));
    return c;
}

/* ---- states */

typedef struct kept {
    float trace[(N + 1) * B * D];
} kept;

static rt_status keep(void *self, const rt_samples *s, rt_error *unused)
{
    (void)unused;
    assert_int_equal(s->count, B);
    memcpy(((kept *)self)->trace, s->trace, sizeof((kept *)self)->trace);
    return RT_OK;
}

/* What the student's folder visits from z, eps between its steps, by its own recipe. */
static kept sampled(const char *name, const float *z, const float *eps, const int64_t *y)
{
    kept k;
    char path[160];
    rt_model *m = NULL;
    rt_sample_report report;
    snprintf(path, sizeof path, "%s/%s/student", folder, name);
    OK(rt_model_open(&m, &(rt_model_spec){.path = path, .threads = 1}, &err));
    assert_string_equal(rt_model_get_info(m)->scheduler, "LCMScheduler");
    rt_sampling how = {.n = B, .noise = z, .y = y, .draws = eps, .n_draws = N, .trace = true};
    OK(rt_model_sample(m, &how, keep, &k, &report, &err));
    assert_string_equal(report.solver, "renoise");
    assert_string_equal(report.grid, "recipe");
    rt_model_free(m);
    return k;
}

/* Of `runs` runs of a phase, against the student as it stands, which is saved first. Returns a state of the last step in *last. */
static void states_are_sampled(rt__run *run, rt_phase *p, int runs, double *last)
{
    static float z[B * D], eps[N * B * D];
    int steps[N] = {0};
    double worst = 0;
    uint64_t seed = rt__stream_seed(p);
    OK(rt__result_write(run, &err));
    const float *state = rt__input_data(p, p->program, "state");
    const int64_t *step = rt__input_data(p, p->program, "step"), *label = rt__input_data(p, p->program, "label");
    for (int u = 0; u < runs; u++) {
        OK(rt__fill_inputs(p, u, 0, B, p->program, &err));
        for (int i = 0; i < B; i++) {
            rt__noise(seed, "state", (uint32_t)u, (uint32_t)i, 1, D, z + i * D);
            for (int k = 0; k < N; k++) rt__noise(seed, "state eps", (uint32_t)(u * N + k), (uint32_t)i, 1, D, eps + (k * B + i) * D);
            assert_in_range(step[i], 0, N - 1);
            assert_int_equal(step[i], step[0]); /* one for the batch */
            assert_in_range(label[i], 0, 1);    /* never the null class */
        }
        kept k = sampled(run->config->out + strlen(folder) + 1, z, eps, label);
        for (int i = 0; i < B * D; i++) worst = fmax(worst, fabs((double)state[i] - (double)k.trace[step[0] * B * D + i]));
        if (step[0] == N - 1) *last = (double)state[0];
        steps[step[0]]++;
    }
    print_message("%-10s steps %d %d %d, states %.2g from sampling's\n", p->plan->name, steps[0], steps[1], steps[2], worst);
    assert_true(worst <= TOL_STATES);
    for (int k = 0; k < N; k++) assert_true(steps[k] > 0);
}

#define FEW "vsd.steps", "3", "vsd.score-updates", "1", "train.updates", "20", "train.ema", "0", "vsd.score-weight", "uniform-x0"

static void trained_where_sampled(void **state)
{
    (void)state;
    rt_config c = run_of("vsd", "classes.json", "net.json", "states", (const char *const[]){FEW, NULL});
    rt_config late = run_of("vsd", "classes.json", "net.json", "late", (const char *const[]){FEW, "vsd.timesteps", "30,20,5", NULL});
    rt__run run = {.config = &late, .lock = -1};
    double before[2], after[2];
    OK(rt__run_open(&run, &err));
    OK(rt__run_claim(&run, false, &err));
    OK(rt__run_open_round(&run, &err));
    states_are_sampled(&run, &run.round.phases[1], 8, &before[0]); /* less than the noise of the end to begin with */
    rt__round_close(&run.round);
    rt__run_close(&run);
    run = (rt__run){.config = &c, .lock = -1};
    OK(rt__run_open(&run, &err));
    OK(rt__run_claim(&run, false, &err));
    OK(rt__run_open_round(&run, &err));
    for (int i = 0; i < 2; i++) states_are_sampled(&run, &run.round.phases[i], 24, &before[i]);
    assert_true(before[0] != before[1]); /* draws of their own */
    for (int u = 0; u < 5; u++) OK(rt__round_update(&run.round, u, 20, "states", u, &err));
    for (int i = 0; i < 2; i++) {
        states_are_sampled(&run, &run.round.phases[i], 24, &after[i]);
        assert_true(before[i] != after[i]); /* the student of now */
    }
    rt_phase *p = &run.round.phases[1];
    float *x = rt__input_data(p, p->program, "state"), whole[B * D];
    OK(rt__fill_inputs(p, 17, 0, B, p->program, &err));
    memcpy(whole, x, sizeof whole);
    OK(rt__fill_inputs(p, 3, 0, B, p->program, &err));
    for (int half = 0; half < 2; half++) { /* in two slices */
        OK(rt__fill_inputs(p, 17, half * B / 2, B / 2, p->program, &err));
        assert_memory_equal(x, whole + half * B * D / 2, sizeof whole / 2);
    }
    rt__round_close(&run.round);
    rt__run_close(&run);
}

/* Steps and classes are even over many runs. */
static void even_draws(void **state)
{
    (void)state;
    enum { RUNS = 1200 };
    rt_config c = run_of("vsd", "classes.json", "net.json", "even", (const char *const[]){FEW, NULL});
    rt__run run = {.config = &c, .lock = -1};
    int steps[N] = {0}, ones = 0;
    OK(rt__run_open(&run, &err));
    OK(rt__run_open_round(&run, &err));
    rt_phase *p = &run.round.phases[0];
    for (int u = 0; u < RUNS; u++) {
        OK(rt__fill_inputs(p, u, 0, 1, p->program, &err));
        steps[*(int64_t *)rt__input_data(p, p->program, "step")]++;
        ones += *(int64_t *)rt__input_data(p, p->program, "label") == 1;
    }
    for (int k = 0; k < N; k++) assert_true(fabs(steps[k] / (double)RUNS - 1.0 / N) < 4 * sqrt(2.0 / 9 / RUNS));
    assert_true(fabs(ones / (double)RUNS - 0.5) < 4 * 0.5 / sqrt(RUNS));
    rt__round_close(&run.round);
    rt__run_close(&run);
}

/* ---- losses */

/* alpha, beta and network time of n rows of the process. */
static rt_at at_times(const rt__run *run, rt_graph *g, const double *t)
{
    double alpha[B], beta[B], told[B];
    for (int i = 0; i < B; i++) {
        alpha[i] = rt_process_alpha(run->task.process, t[i]);
        beta[i] = rt_process_beta(run->task.process, t[i]);
        told[i] = t[i] - 1;
    }
    const int64_t column[] = {B, 1};
    return (rt_at){rt_reals(g, 2, column, alpha), rt_reals(g, 2, column, beta), rt_reals(g, 1, column, told), NULL, NULL};
}

/* The loss of a phase at a state, a step and draws that are numbers: (1.17) with weight 1, or (1.18) with w = 1. number: of the step, where the score is told it, -1: it is not. */
static double loss_at(const rt__run *run, bool generator, const float *state, double time, int number, const int64_t *label,
                      const float *eps, const double *t)
{
    double x[B * D], e[B * D], step[B];
    for (int i = 0; i < B * D; i++) x[i] = (double)state[i], e[i] = (double)eps[i];
    for (int i = 0; i < B; i++) step[i] = time;
    const int64_t shape[] = {B, D};
    rt_graph *g = rt_graph_new(RT_F32);
    rt_node *y = rt_const(g, RT_I64, 1, shape, label);
    rt_at at = at_times(run, g, t);
    rt_node *x0 = rt__denoise(&rt__network(&run->task, "student")->denoiser, rt_reals(g, 2, shape, x), NULL, at_times(run, g, step), y);
    rt_node *xt = rt_diffuse(x0, at.alpha, at.beta, rt_reals(g, 2, shape, e));
    rt_node *f_p = rt__denoise(&rt__network(&run->task, "teacher")->denoiser, xt, NULL, at, y);
    const rt_denoiser *score = &rt__network(&run->task, "score")->denoiser;
    for (int i = 0; i < B; i++) step[i] = number;
    const int64_t one[] = {B, 1};
    rt_node *told = number < 0 ? at.network : rt_concat((rt_node *[]){rt_reshape(at.network, 2, one), rt_reals(g, 2, one, step)}, 2, 1);
    rt_node *f_z = rt_predict_x0(score->prediction, rt_net_apply(score->net, score->set, xt, told, y), xt, at.alpha, at.beta);
    rt_node *mean = rt_mean(generator ? rt_dot(rt_sub(f_z, f_p), x0) : rt_norm2(rt_sub(f_z, x0)), 1u, false);
    rt_program *program;
    OK(rt_compile(&program, g, &(rt_program_spec){.outputs = &mean, .n_outputs = 1, .batch = 1, .threads = 1}, &err));
    OK(rt_run(program, &(rt_clock){0}, &err));
    double loss = (double)*(float *)rt_program_data(program, mean);
    rt_program_free(program);
    rt_graph_free(g);
    return loss;
}

/* What is told starts with weights 0, which nobody would notice. */
static void make_it_matter(rt_params *set)
{
    const rt_entry *e = rt_params_entry(set, rt_params_find(set, "guidance_embedding.weight"));
    for (int64_t i = 0; i < e->count; i++) ((float *)rt_params_data(set, RT_VALUE))[e->offset + i] = 0.3f * (float)(i % 5 - 2);
    rt_params_touch(set);
}

static void losses_of(bool told)
{
    static const double times[N] = {64, 43, 21};
    rt_config c = run_of("vsd", "classes.json", "net.json", told ? "told" : "losses",
                         (const char *const[]){FEW, "vsd.score-step", told ? "true" : "false", NULL});
    rt__run run = {.config = &c, .lock = -1};
    OK(rt__run_open(&run, &err));
    OK(rt__run_open_round(&run, &err));
    if (told) make_it_matter(rt__network(&run.task, "score")->set);
    for (int i = 0; i < N; i++) assert_true(run.round.grid[i] == times[i]);
    for (int generator = 0; generator < 2; generator++)
        for (int u = 0; u < 6; u++) {
            rt_phase *p = &run.round.phases[generator];
            int first = generator ? 2 : 1, n = generator ? 61 : T; /* 0.02 T = 1.28 .. 0.98 T = 62.7; all */
            rt_node *nodes[] = {p->loss, rt_randn(p->graph, "eps", 2, (int64_t[]){RT_BATCH, D}),
                                rt_randint(p->graph, "t", 1, (int64_t[]){RT_BATCH}, n)};
            rt_program *program;
            OK(rt_compile(&program, p->graph, &(rt_program_spec){.outputs = nodes, .n_outputs = 3, .batch = B, .threads = 1}, &err));
            OK(rt__fill_inputs(p, u, 0, B, program, &err));
            int step = (int)*(int64_t *)rt__input_data(p, program, "step");
            float x[B * D];
            memcpy(x, rt__input_data(p, program, "state"), sizeof x);
            int64_t label[B];
            memcpy(label, rt__input_data(p, program, "label"), sizeof label);
            OK(rt_run(program, &(rt_clock){.seed = 5, .step = 3}, &err));
            double t[B], got = (double)*(float *)rt_program_data(program, nodes[0]);
            for (int i = 0; i < B; i++) t[i] = (double)((int64_t *)rt_program_data(program, nodes[2]))[i] + first;
            double want = loss_at(&run, generator, x, times[step], told ? step : -1, label, rt_program_data(program, nodes[1]), t);
            if (!(fabs(got - want) <= TOL_STATES * fabs(want))) fail_msg("%s, step %d: %.9g, not %.9g", p->plan->name, step, got, want);
            rt_program_free(program);
        }
    rt__round_close(&run.round);
    rt__run_close(&run);
}

static void losses(void **state)
{
    (void)state;
    losses_of(false);
    losses_of(true);
}

/* The GAN alone, whose critic is all that the score's phase trains, at one state and step: the loss of phase `which`. The student's answer does not depend on its time. */
static double critic_loss_at(rt__run *run, int which, int64_t step)
{
    rt_phase *p = &run->round.phases[which];
    rt_program *program;
    OK(rt_compile(&program, p->graph, &(rt_program_spec){.outputs = &p->loss, .n_outputs = 1, .batch = B, .threads = 1}, &err));
    OK(rt__fill_inputs(p, 0, 0, B, program, &err));
    for (int i = 0; i < B; i++) ((int64_t *)rt__input_data(p, program, "step"))[i] = step;
    for (int i = 0; i < B * D; i++) ((float *)rt__input_data(p, program, "state"))[i] = 0.1f * (float)(i % 7);
    OK(rt_run(program, &(rt_clock){.seed = 5, .step = 3}, &err));
    double loss = (double)*(float *)rt_program_data(program, p->loss);
    rt_program_free(program);
    return loss;
}

static void zero(rt_params *set, const char *prefix)
{
    for (int i = 0; i < rt_params_entries(set); i++) {
        const rt_entry *e = rt_params_entry(set, i);
        if (!strncmp(e->name, prefix, strlen(prefix)))
            memset((float *)rt_params_data(set, RT_VALUE) + e->offset, 0, (size_t)e->count * sizeof(float));
    }
    rt_params_touch(set);
}

/* Both phases' losses depend on the step where the critic is told it; what else depends on the step does not here. */
static void a_critic_is_told(void **state)
{
    (void)state;
    for (int told = 0; told < 2; told++) {
        rt_config c = run_of("dmd2", "classes.json", "net.json", told ? "critic-told" : "critic",
                             (const char *const[]){FEW, "vsd.prediction", "x0", "dmd.weight", "0", "gan.weight", "1", "vsd.score-step",
                                                   told ? "true" : "false", NULL});
        rt__run run = {.config = &c, .lock = -1};
        OK(rt__run_open(&run, &err));
        OK(rt__run_open_round(&run, &err));
        zero(rt__network(&run.task, "student")->set, "time_embedding");
        if (told) make_it_matter(rt__network(&run.task, "score")->set);
        for (int which = 0; which < 2; which++) {
            double first = critic_loss_at(&run, which, 0), last = critic_loss_at(&run, which, N - 1);
            if (told != (fabs(first - last) > 1e-4 * fabs(first))) fail_msg("phase %d, told %d: %.9g and %.9g", which, told, first, last);
        }
        rt__round_close(&run.round);
        rt__run_close(&run);
    }
}

/* ---- whole runs */

static void same_weights(const char *a, const char *b)
{
    char command[320];
    snprintf(command, sizeof command,
             "cmp %s/%s/student/unet/diffusion_pytorch_model.safetensors %s/%s/student/unet/diffusion_pytorch_model.safetensors", folder, a,
             folder, b);
    assert_int_equal(system(command), 0);
}

/* Whole noise at the noisiest time, of all methods: SiD's usual start is that of one step. */
static void begins_with_noise(const char *name)
{
    char path[160];
    rt_model *m = NULL;
    snprintf(path, sizeof path, "%s/%s/student", folder, name);
    OK(rt_model_open(&m, &(rt_model_spec){.path = path, .threads = 1}, &err));
    const rt_student_recipe *r = &rt_model_get_info(m)->recipe;
    assert_true(r->steps == 2 && r->timesteps[0] == T - 1 && r->timesteps[1] == T / 2 - 1 && r->input_scale == 0);
    assert_string_equal(r->solver, "renoise");
    rt_model_free(m);
}

static void every_member_resumes(void **state)
{
    (void)state;
    static const char *const methods[] = {"vsd", "dmd", "dmd2", "sid", "f", "renyi"};
    for (int m = 0; m < 6; m++) {
        char whole[32], parts[32];
        snprintf(whole, sizeof whole, "%s-whole", methods[m]);
        snprintf(parts, sizeof parts, "%s-parts", methods[m]);
        const char *const keys[] = {
            "vsd.steps", "2", "vsd.score-updates", "2", "train.updates", "6", "train.ema", "0.9", m == 1 ? "dmd.regression" : NULL,
            "0",         NULL};
        rt_config c = run_of(methods[m], "classes.json", "net.json", whole, keys),
                  d = run_of(methods[m], "classes.json", "net.json", parts, keys);
        OK(rt_run_train(&c, false, NULL, NULL, &err));
        begins_with_noise(whole);
        static const char *const stops[] = {"2", "5", "0"};
        for (int i = 0; i < 3; i++) {
            OK(rt_config_set(&d, "run.until-update", stops[i], &err));
            OK(rt_run_train(&d, i > 0, NULL, NULL, &err));
        }
        same_weights(whole, parts);
    }
}

static rt_status keep_moments(void *self, const rt_samples *s, rt_error *unused)
{
    double *sums = self;
    (void)unused;
    for (int64_t i = 0; i < s->count; i++) sums[0] += (double)s->x[i], sums[1] += (double)s->x[i] * (double)s->x[i];
    return RT_OK;
}

/* In two steps to a normal distribution, which sampling by the recipe then has. */
static void ends_at_the_teacher(void **state)
{
    (void)state;
    enum { SAMPLES = 20000 };
    rt_config c = run_of("vsd", "gaussian.json", "plain.json", "two",
                         (const char *const[]){"vsd.timesteps", "63,31", "train.updates", "2500", "train.batch", "128", "train.lr", "0.003",
                                               "vsd.score-lr", "0.003", NULL});
    OK(rt_run_train(&c, false, NULL, NULL, &err));
    char path[160];
    rt_model *m = NULL;
    rt_sample_report report;
    double sums[2] = {0};
    snprintf(path, sizeof path, "%s/two/student", folder);
    OK(rt_model_open(&m, &(rt_model_spec){.path = path, .threads = 1}, &err));
    const rt_student_recipe *r = &rt_model_get_info(m)->recipe;
    assert_int_equal(r->steps, 2);
    assert_true(r->timesteps[0] == 63 && r->timesteps[1] == 31 && r->input_scale == 0);
    assert_false(r->exact_in_diffusers); /* LCMScheduler's c_skip at 31 is 2.6e-6 */
    OK(rt_model_sample(m, &(rt_sampling){.n = SAMPLES, .seed = 3}, keep_moments, sums, &report, &err));
    rt_model_free(m);
    double mean = sums[0] / SAMPLES, deviation = sqrt(sums[1] / SAMPLES - mean * mean);
    print_message("two steps: mean %.4f, deviation %.4f\n", mean, deviation);
    assert_true(fabs(mean - 0.7) <= TOL_FEW_STEPS * 0.35 && fabs(deviation - 0.35) <= TOL_FEW_STEPS * 0.35);
}

/* ---- settings */

static void start_and_times(void **state)
{
    (void)state;
    rt_config c = run_of("vsd", "classes.json", "net.json", "times", (const char *const[]){"vsd.timesteps", "55,50,10", NULL});
    rt__run run = {.config = &c, .lock = -1};
    OK(rt__run_open(&run, &err));
    assert_int_equal(run.task.plan.rounds[0].steps, 3);
    assert_true(run.task.grid[0] == 56 && run.task.grid[1] == 51 && run.task.grid[2] == 11 && run.task.grid[3] == 0);
    assert_true(fabs(rt__start_scale(&run.task) - rt_process_beta(run.task.process, 56)) < 1e-12); /* as much noise as there is then */
    rt__run_close(&run);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *method, *keys[5], *says;
    } refused[] = {
        {"vsd", {"vsd.steps", "2", "vsd.start", "0.9"}, "vsd.start: 0.9 is the time of a single step"},
        {"vsd", {"vsd.timesteps", "40", "vsd.start", "0.9"}, "vsd.start: 0.9 is the time of a single step"},
        {"vsd", {"vsd.steps", "3", "vsd.timesteps", "63,31"}, "vsd.steps: 3, but vsd.timesteps lists 2"},
        {"dmd2", {"vsd.timesteps", "31,63"}, "vsd.timesteps: 63 after 31; times must fall"},
        {"f", {"vsd.timesteps", "999,749"}, "vsd.timesteps: 999 is not a time of the process, whose noisiest is 63"},
        {"vsd", {"vsd.steps", "65"}, "take at most 64"},
        {"dmd", {"vsd.steps", "4"}, "dmd.regression: 0.25, but"},
        {"dmd", {"vsd.timesteps", "40"}, "vsd.timesteps: the student begins at time 41, but"},
        {"sid", {"vsd.steps", "4", "sid.start-sigma", "3"}, "sid.start-sigma: 3, but"},
        {"renyi", {"vsd.steps", "2", "f.ratio", "exact"}, "f.ratio: exact, but"},
        {"vsd", {"vsd.score-step", "true"}, "vsd.score-step: the student has one step"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        rt_config c = run_of(refused[i].method, "gaussian.json", "affine.json", "refused", refused[i].keys);
        err = (rt_error){0};
        assert_int_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_E_USAGE);
        if (!strstr(err.text, refused[i].says)) fail_msg("'%s' does not say '%s'", err.text, refused[i].says);
        assert_int_equal(access(c.out, F_OK), -1);
    }
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/retort-states-XXXXXX");
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trained_where_sampled),
        cmocka_unit_test(even_draws),
        cmocka_unit_test(losses),
        cmocka_unit_test(a_critic_is_told),
        cmocka_unit_test(every_member_resumes),
        cmocka_unit_test(ends_at_the_teacher),
        cmocka_unit_test(start_and_times),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
