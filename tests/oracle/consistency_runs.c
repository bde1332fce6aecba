/* consistency_runs.c -- the methods cd, ect and guide, and vsd with omega as a knob, as they run: examples, objective and target in double against the equations written out; where the exact flow is known,
 * cd's maps against the composition of its teacher's steps. */
#include "objective_world.h"

#include "base/internal.h"
#include "model/classes.h"
#include "retort/train.h"

enum { POINTS = 8 };

static int make_folder(void **state)
{
    (void)state;
    return make_world_folder("consistency");
}

/* ---- cd: the examples of an update, in float as runs are; its loss, in double; what becomes of the target's weights */

static const char *const cd_keys[] = {"cd.points", "8",    "cd.grid",       "uniform", "cd.solver",    "ddim", "cd.guidance",     "1.5",
                                      "cd.pool",   "32",   "cd.target-ema", "0.75",    "train.weight", "snr",  "train.optimiser", "sgd",
                                      "train.lr",  "0.01", "cd.prediction", "v"};

/* In float with a network as teacher, in double with an oracle, which is none of the objective. */
static void open_cd(world *w, rt_oracle *oracle, bool knob)
{
    world_spec spec = {.method = "cd", .net = net_file, .classes = ROWS, .null_class = NULL_CLASS, .oracle = oracle, .single = !oracle};
    memcpy(spec.keys, cd_keys, sizeof cd_keys);
    if (oracle) spec.keys[7] = "0"; /* unguided */
    if (knob) memcpy(&spec.keys[RT_COUNT(cd_keys)], (const char *[]){"cd.guidance-range", "1,4"}, 2 * sizeof *spec.keys);
    open_world(w, &spec);
}

/* The times of pair k. */
static void pair_times(int64_t k, double *s, double *t)
{
    *s = T * (double)(POINTS - k) / POINTS;
    *t = T * (double)(POINTS - 1 - k) / POINTS;
}

/* x_t is a step of ddim of the teacher that is guided by 1.5, or, with omega as a knob, by the example's own. */
static void check_examples(bool knob)
{
    world w;
    open_cd(&w, NULL, knob);
    rt_params *teacher = rt_params_new("teacher in double", RT_F64);
    OK(rt_net_declare(w.net, teacher, &err));
    OK(rt_params_init(teacher, TEACHER_SEED, &err));
    rt_phase *p = &w.round.phases[0];
    OK(rt__round_compile(&w.round, &err));
    OK(rt__fill_inputs(p, 0, 0, B, p->program, &err));
    const float *xs = rt__input_data(p, p->program, "xs"), *xt = rt__input_data(p, p->program, "xt"),
                *omegas = rt__input_data(p, p->program, "omega");
    const int64_t *k = rt__input_data(p, p->program, "k"), *y = rt__input_data(p, p->program, "y");
    double least = 4, most = 1;
    assert_int_equal(omegas != NULL, knob);
    for (int b = 0; b < B; b++) {
        double s, t, x[D] = {(double)xs[b * D], (double)xs[b * D + 1]}, x0[D], omega = knob ? (double)omegas[b] : 1.5;
        pair_times(k[b], &s, &t);
        x0_of(&w, teacher, omega, x, s, y[b], x0);
        for (int j = 0; j < D; j++) {
            double A = beta_of(t) / beta_of(s), step = A * x[j] + (alpha_of(t) - alpha_of(s) * A) * x0[j];
            if (!(fabs((double)xt[b * D + j] - step) < 1e-4))
                fail_msg("pair %d: %g, a step gives %g", (int)k[b], (double)xt[b * D + j], step);
        }
        least = fmin(least, omega);
        most = fmax(most, omega);
    }
    assert_true(!knob || (least >= 1 && most <= 4 && most - least > 0.5));
    rt_params_free(teacher);
    close_world(&w);
}

static void examples_of_cd(void **state)
{
    (void)state;
    check_examples(false);
    check_examples(true);
}

static void loss_of_cd(void **state)
{
    (void)state;
    world w;
    rt_process *process = process_of_world();
    rt_oracle *oracle;
    OK(rt_oracle_gaussian(&oracle, D, (const double[]){0.5, -0.4}, (const double[]){1, 0.3, 0.3, 0.6}, process,
                          rt_prediction_find("x0", &err), &err));
    open_cd(&w, oracle, false);
    rt_phase *p = &w.round.phases[0];
    rt_params *student = rt__network(&w.task, "student")->set, *target = rt__network(&w.task, "target")->set;
    OK(rt_params_init(target, 8, &err));
    OK(rt_compile(&w.program, p->graph, &(rt_program_spec){.outputs = &p->loss, .n_outputs = 1, .batch = B, .threads = 1}, &err));
    double *xs = rt__input_data(p, w.program, "xs"), *xt = rt__input_data(p, w.program, "xt"), want = 0;
    int64_t *k = rt__input_data(p, w.program, "k"), *y = rt__input_data(p, w.program, "y");
    for (int b = 0; b < B; b++) {
        double s, t, f[D], ahead[D];
        k[b] = b % POINTS;
        y[b] = b % ROWS;
        for (int j = 0; j < D; j++) xs[b * D + j] = sin(b + 2 * j), xt[b * D + j] = cos(2 * b + j);
        pair_times(k[b], &s, &t);
        x0_of(&w, student, 0, xs + b * D, s, y[b], f);
        if (t > 0) x0_of(&w, target, 0, xt + b * D, t, y[b], ahead);
        for (int j = 0; j < D; j++) {
            double apart = f[j] - (t > 0 ? ahead[j] : xt[b * D + j]); /* f(x, data) = x */
            want += pow(alpha_of(s) / beta_of(s), 2) * apart * apart / (D * B);
        }
    }
    OK(rt_run(w.program, &(rt_clock){0}, &err));
    agree(*(const double *)rt_program_data(w.program, p->loss), want, "cd's loss");
    close_world(&w);
    rt_oracle_free(oracle);
    rt_process_free(process);
}

static void target_of_cd(void **state)
{
    (void)state;
    static const double keep = 0.75;
    world w;
    open_cd(&w, NULL, false);
    rt_params *student = rt__network(&w.task, "student")->set, *target = rt__network(&w.task, "target")->set;
    OK(rt_params_copy(target, RT_VALUE, student, RT_VALUE, &err));
    OK(rt__round_compile(&w.round, &err));
    int64_t n = rt_params_count(student);
    const float *theta = rt_params_data(student, RT_VALUE), *trails = rt_params_data(target, RT_VALUE);
    double *want = malloc((size_t)n * sizeof *want), moved = 0;
    for (int64_t i = 0; i < n; i++) want[i] = (double)trails[i];
    for (int64_t u = 0; u < 3; u++) {
        OK(rt__round_update(&w.round, u, 10, "here", u, &err));
        for (int64_t i = 0; i < n; i++) want[i] = keep * want[i] + (1 - keep) * (double)theta[i];
    }
    for (int64_t i = 0; i < n; i++) {
        assert_true(fabs(want[i] - (double)trails[i]) < 1e-6 * (1 + fabs(want[i])));
        moved = fmax(moved, fabs((double)trails[i] - (double)theta[i]));
    }
    assert_true(moved > 1e-5);
    free(want);
    close_world(&w);
}

/* ---- ect: pairs of times by the published rule, and the loss, in double */

static double sigma_of(double i) { return beta_of(i) / alpha_of(i); }
static double whole_time(const world *w, double sigma)
{
    return fmin(fmax(floor(rt_process_time(w->process, -2 * log(sigma)) + 0.5), 1), T);
}

/* Time number m of n even quantiles of log sigma ~ N(0, 1). */
static double drawn_time(const world *w, int64_t m, int n)
{
    double z = -8;
    while (erfc(-z / sqrt(2)) / 2 < ((double)m + 0.5) / n) z += 1e-4;
    return whole_time(w, exp(z));
}

static double time_before(const world *w, double s, double divisor)
{
    double sigma = sigma_of(s), to = sigma * (1 - (1 + 8 / (1 + exp(sigma))) / divisor);
    return to > 0 ? fmin(whole_time(w, to), s - 1) : 0;
}

static void loss_of_ect(void **state)
{
    (void)state;
    static const struct {
        double run, divisor;
    } stages[] = {
        {0, 4}, {2, 4}, {3, 16}, {8, 64}, {1e6, 262144}}; /* k rises after every third run, up to q^(k+1) = 4^9, the last below 10^6 */
    enum { TIMES = 1024 };
    const int64_t each[] = {RT_BATCH};
    const double c = 0.5;
    int at_data = 0, between = 0;
    rt_dataset *data;
    world w;
    OK(rt_dataset_open(&data, "toy:moons", &err));
    open_world(&w, &(world_spec){.method = "ect",
                                 .net = net_file,
                                 .classes = ROWS,
                                 .null_class = NULL_CLASS,
                                 .data = data,
                                 .keys = {"ect.q", "4", "ect.every", "3", "ect.mean", "0", "ect.deviation", "1", "ect.huber", "0.5"}});
    rt_phase *p = &w.round.phases[0];
    rt_params *student = rt__network(&w.task, "student")->set;
    rt_node *outputs[] = {p->loss, rt_randint(p->graph, "t", 1, each, TIMES), rt_randn(p->graph, "eps", w.task.rank, w.task.shape)};
    OK(rt_compile(&w.program, p->graph, &(rt_program_spec){.outputs = outputs, .n_outputs = 3, .batch = B, .threads = 1}, &err));
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        double *x0 = rt__input_data(p, w.program, "x0"), want = 0;
        int64_t *y = rt__input_data(p, w.program, "y");
        for (int b = 0; b < B * D; b++) x0[b] = sin(b);
        for (int b = 0; b < B; b++) y[b] = b % ROWS;
        *(double *)rt_program_data(w.program, p->run_number) = stages[i].run;
        OK(rt_run(w.program, &(rt_clock){.seed = 11, .step = (uint32_t)i}, &err));
        const int64_t *m = rt_program_data(w.program, outputs[1]);
        const double *eps = rt_program_data(w.program, outputs[2]);
        for (int b = 0; b < B; b++) {
            double s = drawn_time(&w, m[b], TIMES), t = time_before(&w, s, stages[i].divisor), xs[D], xt[D], f[D], ahead[D], apart = 0;
            for (int j = 0; j < D; j++) { /* one noise */
                xs[j] = alpha_of(s) * sin(b * D + j) + beta_of(s) * eps[b * D + j];
                xt[j] = alpha_of(t) * sin(b * D + j) + beta_of(t) * eps[b * D + j];
            }
            x0_of(&w, student, 0, xs, s, b % ROWS, f);
            if (t > 0) x0_of(&w, student, 0, xt, t, b % ROWS, ahead);
            for (int j = 0; j < D; j++) apart += pow(f[j] - (t > 0 ? ahead[j] : xt[j]), 2);
            *(t > 0 ? &between : &at_data) += 1;
            want += (sqrt(apart + c * c) - c) / (sigma_of(s) - sigma_of(t)) / B;
        }
        agree(*(const double *)rt_program_data(w.program, p->loss), want, "ect's loss");
    }
    assert_true(at_data > 0 && between > B); /* early stages end at data, later ones do not */
    close_world(&w);
    rt_dataset_free(data);
}

/* ---- guide: (1.40), the student's layer for omega having something to say */

static void told_x0(const world *w, rt_params *set, double omega, const double *x, double i, int64_t label, double *x0)
{
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *o = rt_net_apply(net_of(w, set), set, rt_reals(g, 2, (int64_t[]){1, D}, x),
                              rt_reals(g, 2, (int64_t[]){1, 2}, (double[]){i - 1, omega}), rt_const(g, RT_I64, 1, (int64_t[]){1}, &label));
    rt_program *p;
    OK(rt_compile(&p, g, &(rt_program_spec){.outputs = &o, .n_outputs = 1, .batch = 1, .threads = 1}, &err));
    OK(rt_run(p, &(rt_clock){0}, &err));
    for (int j = 0; j < D; j++) x0[j] = alpha_of(i) * x[j] - beta_of(i) * ((const double *)rt_program_data(p, o))[j];
    rt_program_free(p);
    rt_graph_free(g);
}

static void say_something(rt_params *set)
{
    const rt_entry *layer = rt_params_entry(set, rt_params_find(set, "guidance_embedding.weight"));
    for (int64_t i = 0; i < layer->count; i++) ((double *)rt_params_data(set, RT_VALUE))[layer->offset + i] = sin((double)i) / 4;
    rt_params_touch(set);
}

static void loss_of_guide(void **state)
{
    (void)state;
    const int64_t each[] = {RT_BATCH};
    rt_dataset *data;
    world w;
    OK(rt_dataset_open(&data, "toy:moons", &err));
    open_world(&w, &(world_spec){.method = "guide",
                                 .net = net_file,
                                 .classes = ROWS,
                                 .null_class = NULL_CLASS,
                                 .data = data,
                                 .keys = {"guide.guidance-range", "1,4", "train.weight", "snr"}});
    rt_phase *p = &w.round.phases[0];
    rt_params *student = rt__network(&w.task, "student")->set;
    say_something(student);
    rt_node *outputs[] = {p->loss, rt_randint(p->graph, "t", 1, each, T), rt_randn(p->graph, "eps", w.task.rank, w.task.shape),
                          rt_rand(p->graph, "omega", 1, each)};
    OK(rt_compile(&w.program, p->graph, &(rt_program_spec){.outputs = outputs, .n_outputs = 4, .batch = B, .threads = 1}, &err));
    double *x0 = rt__input_data(p, w.program, "x0"), want = 0, least = 4, most = 1;
    int64_t *y = rt__input_data(p, w.program, "y");
    for (int b = 0; b < B * D; b++) x0[b] = sin(b);
    for (int b = 0; b < B; b++) y[b] = b % ROWS;
    OK(rt_run(w.program, &(rt_clock){.seed = 11}, &err));
    const int64_t *m = rt_program_data(w.program, outputs[1]);
    const double *eps = rt_program_data(w.program, outputs[2]), *u = rt_program_data(w.program, outputs[3]);
    for (int b = 0; b < B; b++) {
        double s = (double)m[b] + 1, omega = 1 + 3 * u[b], x[D], f[D], guided[D];
        for (int j = 0; j < D; j++) x[j] = alpha_of(s) * sin(b * D + j) + beta_of(s) * eps[b * D + j];
        told_x0(&w, student, omega, x, s, b % ROWS, f);
        x0_of(&w, w.teacher, omega, x, s, b % ROWS, guided);
        for (int j = 0; j < D; j++) want += pow(alpha_of(s) / beta_of(s) * (f[j] - guided[j]), 2) / (D * B);
        least = fmin(least, omega);
        most = fmax(most, omega);
    }
    agree(*(const double *)rt_program_data(w.program, p->loss), want, "guide's loss");
    assert_true(least < 2 && most > 3);
    close_world(&w);
    rt_dataset_free(data);
}

/* ---- vsd with the knob: generator and score are told the omega of the sample, the teacher is guided by it */

static void losses_of_vsd(void **state)
{
    (void)state;
    const int64_t each[] = {RT_BATCH};
    for (int phase = 0; phase < 2; phase++) {
        world w;
        open_world(&w, &(world_spec){.method = "vsd",
                                     .net = net_file,
                                     .classes = ROWS,
                                     .null_class = NULL_CLASS,
                                     .keys = {"vsd.guidance-range", "1,4", "vsd.guidance", "1", "vsd.score-weight", "uniform-x0",
                                              "vsd.t-min", "0.1"}});
        rt_phase *p = &w.round.phases[phase];
        rt_params *student = rt__network(&w.task, "student")->set, *score = rt__network(&w.task, "score")->set;
        say_something(student);
        say_something(score);
        int first = phase ? 7 : 1, n = phase ? 56 : T; /* the generator's times: 0.1 T = 6.4 .. 0.98 T = 62.7 */
        rt_node *outputs[] = {p->loss,
                              rt_randint(p->graph, "t", 1, each, n),
                              rt_randn(p->graph, "eps", w.task.rank, w.task.shape),
                              rt_rand(p->graph, "omega", 1, each),
                              rt_randn(p->graph, "z", w.task.rank, w.task.shape),
                              rt_randint(p->graph, "class", 1, each, rt__usual_classes(ROWS, NULL_CLASS))};
        OK(rt_compile(&w.program, p->graph, &(rt_program_spec){.outputs = outputs, .n_outputs = 6, .batch = B, .threads = 1}, &err));
        OK(rt_run(w.program, &(rt_clock){.seed = 11}, &err));
        const int64_t *m = rt_program_data(w.program, outputs[1]), *label = rt_program_data(w.program, outputs[5]);
        const double *eps = rt_program_data(w.program, outputs[2]), *u = rt_program_data(w.program, outputs[3]),
                     *z = rt_program_data(w.program, outputs[4]);
        double want = 0;
        for (int b = 0; b < B; b++) {
            double t = (double)m[b] + first, omega = 1 + 3 * u[b], x0[D], x[D], fz[D], fp[D];
            int64_t y = rt__usual_class(ROWS, NULL_CLASS, label[b]);
            told_x0(&w, student, omega, z + b * D, T, y, x0);
            for (int j = 0; j < D; j++) x[j] = alpha_of(t) * x0[j] + beta_of(t) * eps[b * D + j];
            told_x0(&w, score, omega, x, t, y, fz);
            x0_of(&w, w.teacher, omega, x, t, y, fp);
            for (int j = 0; j < D; j++) want += (phase ? (fz[j] - fp[j]) * x0[j] : (fz[j] - x0[j]) * (fz[j] - x0[j])) / B;
        }
        agree(*(const double *)rt_program_data(w.program, p->loss), want,
              phase ? "vsd's generator, told omega" : "vsd's score, told omega");
        close_world(&w);
    }
}

/* ---- cd on a normal distribution: affine maps, one per time of the grid */

static rt_status answer(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *e)
{
    (void)y;
    const rt_oracle *o = self;
    const rt_process *p = rt_oracle_process(o);
    return rt_oracle_posterior_mean(o, rt_process_alpha(p, at->t), rt_process_beta(p, at->t), n, x, out, e);
}

static void composition_of_steps(void **state)
{
    (void)state;
    static const char *const solvers[] = {"ddim", "dpmpp-2s"};
    char oracle[96], name[128], affine[96], text[512], out[128], path[192];
    snprintf(
        text, sizeof text,
        "{\"kind\": \"gaussian\", \"means\": [[0.5, -0.4]], \"covariances\": [[[1.0, 0.3], [0.3, 0.6]]], \"prediction\": \"x0\", "
        "\"scheduler\": "
        "{\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": %d, \"beta_schedule\": \"squaredcos_cap_v2\", \"prediction_type\": "
        "\"sample\"}}",
        T);
    assert_int_equal(write_file(oracle, sizeof oracle, "gaussian.json", text), 0);
    snprintf(name, sizeof name, "oracle:%s", oracle);
    assert_int_equal(write_file(affine, sizeof affine, "affine.json",
                                "{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": [7, 15, 23, 31, 39, 47, 55, 63]}"),
                     0);
    rt_oracle *exact;
    rt_net *net;
    OK(rt_oracle_open(&exact, oracle, &err));
    OK(rt_net_open(&net, affine, &err));
    for (int i = 0; i < 2; i++) {
        rt_config c;
        OK(rt_config_method(&c, "cd", &err));
        snprintf(out, sizeof out, "%s/%s", folder, solvers[i]);
        const char *const keys[] = {"teacher",
                                    name,
                                    "net",
                                    affine,
                                    "out",
                                    out,
                                    "threads",
                                    "1",
                                    "cd.points",
                                    "8",
                                    "cd.grid",
                                    "uniform",
                                    "cd.solver",
                                    solvers[i],
                                    "cd.target-ema",
                                    "0.9",
                                    "train.optimiser",
                                    "sgd",
                                    "train.beta1",
                                    "0",
                                    "train.lr",
                                    "3",
                                    "train.clip",
                                    "0",
                                    "train.ema",
                                    "0",
                                    "train.updates",
                                    "1500",
                                    "run.checkpoint-every",
                                    "0"};
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k += 2) OK(rt_config_set(&c, keys[k], keys[k + 1], &err));
        OK(rt_run_train(&c, false, NULL, NULL, &err));
        rt_params *set = rt_params_new("student", RT_F32);
        snprintf(path, sizeof path, "%s/student/unet", out);
        OK(rt_net_load(net, set, path, NULL, NULL, &err));
        const float *values = rt_params_data(set, RT_VALUE);
        const float *W = values + rt_params_entry(set, rt_params_find(set, "weight"))->offset,
                    *bias = values + rt_params_entry(set, rt_params_find(set, "bias"))->offset;
        double worst = 0;
        for (int from = 0; from < POINTS; from++) { /* row POINTS - 1 - from: the table's times rise */
            double grid[POINTS + 1], x[3 * D] = {0, 0, 1, 0, 0, 1};
            for (int k = 0; k <= POINTS; k++) grid[k] = T * (double)(POINTS - k) / POINTS;
            rt_field field = {exact, answer, rt_prediction_find("x0", NULL), D, -1};
            rt_sample_spec spec = {.process = rt_oracle_process(exact),
                                   .solver = rt_solver_find(solvers[i], &err),
                                   .steps = POINTS - from,
                                   .from = grid + from};
            OK(rt_sample(&spec, &field, 3, x, NULL, &err));
            int row = POINTS - 1 - from;
            for (int r = 0; r < D; r++) {
                worst = fmax(worst, fabs((double)bias[row * D + r] - x[r]));
                for (int j = 0; j < D; j++) worst = fmax(worst, fabs((double)W[(row * D + r) * D + j] - (x[(1 + j) * D + r] - x[r])));
            }
        }
        print_message("cd, %s: the %d maps are at most %.3g from the composition of the teacher's steps\n", solvers[i], POINTS, worst);
        assert_true(worst < TOL_CONSISTENCY);
        rt_params_free(set);
    }
    rt_net_free(net);
    rt_oracle_free(exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(examples_of_cd),      cmocka_unit_test(loss_of_cd),
                                       cmocka_unit_test(target_of_cd),        cmocka_unit_test(loss_of_ect),
                                       cmocka_unit_test(loss_of_guide),       cmocka_unit_test(losses_of_vsd),
                                       cmocka_unit_test(composition_of_steps)};
    return cmocka_run_group_tests_name("consistency", tests, make_folder, remove_folder);
}
