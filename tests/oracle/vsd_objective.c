/* vsd_objective.c -- the two objectives of `vsd` against (1.17) and (1.18) written out in double, networks being black boxes; the step that the generator
 * makes against the direction of (1.18), its derivatives by differences of G; whole runs: who moves whom, and the same bits after a stop. */
#include "objective_world.h"

#include "retort/format.h"
#include "retort/train.h"

static void open_vsd(world *w, const char *score_weight, const char *guidance, const char *weight)
{
    open_world(w, &(world_spec){.method = "vsd",
                                .net = net_file,
                                .classes = ROWS,
                                .null_class = NULL_CLASS,
                                .keys = {"vsd.score-weight", score_weight, "vsd.guidance", guidance, "vsd.weight", weight, "vsd.t-min",
                                         "0.1", "train.optimiser", "sgd", "train.beta1", "0", "train.ema", "0"}});
    assert_int_equal(rt__phase_runs(w->round.phases[0].plan, 0), 5); /* before each move of the generator, with draws of their own */
    assert_int_equal(rt__phase_runs(w->round.phases[1].plan, 0), 1);
    assert_int_not_equal(w->round.phases[0].plan->stream, w->round.phases[1].plan->stream);
}

/* What a phase drew in its run 3. */
typedef struct drawn {
    double z[B * D], eps[B * D], loss, logged[RT_LOGGED];
    int64_t k[B], label[B];
} drawn;

static drawn run_phase(world *w, rt_phase *p, int times)
{
    drawn d;
    const int64_t shape[] = {RT_BATCH, D}, one[] = {RT_BATCH};
    rt_graph *g = p->graph;
    rt_node *nodes[5 + RT_LOGGED] = {p->loss, rt_randn(g, "z", 2, shape), rt_randn(g, "eps", 2, shape), rt_randint(g, "t", 1, one, times),
                                     rt_randint(g, "class", 1, one, ROWS - 1)};
    for (int i = 0; i < p->n_logged; i++) nodes[5 + i] = p->logged[i].node;
    rt_program_free(w->program);
    OK(rt_compile(&w->program, g, &(rt_program_spec){.outputs = nodes, .n_outputs = 5 + p->n_logged, .batch = B, .threads = 1}, &err));
    assert_int_equal(p->n_sources, 0);
    OK(rt_run(w->program, &(rt_clock){.seed = 11, .step = 3}, &err));
    d.loss = *(double *)rt_program_data(w->program, p->loss);
    for (int i = 0; i < p->n_logged; i++) d.logged[i] = *(double *)rt_program_data(w->program, nodes[5 + i]);
    memcpy(d.z, rt_program_data(w->program, nodes[1]), sizeof d.z);
    memcpy(d.eps, rt_program_data(w->program, nodes[2]), sizeof d.eps);
    memcpy(d.k, rt_program_data(w->program, nodes[3]), sizeof d.k);
    memcpy(d.label, rt_program_data(w->program, nodes[4]), sizeof d.label);
    for (int i = 0; i < B; i++) d.label[i] += d.label[i] >= NULL_CLASS; /* every class but the null class */
    return d;
}

/* (1.17): in the auxiliary score's own output, v; and in x0 under a weight. */
static void score_objective(void **state)
{
    (void)state;
    for (int weighted = 0; weighted < 2; weighted++) {
        world w;
        open_vsd(&w, weighted ? "snr" : "own", "0", "uniform");
        rt_params *student = rt__network(&w.task, "student")->set, *score = rt__network(&w.task, "score")->set;
        drawn d = run_phase(&w, &w.round.phases[0], T);
        double want = 0;
        for (int i = 0; i < B; i++) {
            double t = (double)d.k[i] + 1, a = alpha_of(t), b = beta_of(t), x0[D], x[D], v[D];
            x0_of(&w, student, 0, d.z + i * D, T, d.label[i], x0);
            for (int j = 0; j < D; j++) x[j] = a * x0[j] + b * d.eps[i * D + j]; /* (1.12) */
            ask(&w, score, x, t, d.label[i], v);
            for (int j = 0; j < D; j++) {
                double in_v = v[j] - (a * d.eps[i * D + j] - b * x0[j]), in_x0 = a * x[j] - b * v[j] - x0[j];
                want += (weighted ? a * a / (b * b) * in_x0 * in_x0 : in_v * in_v) / B;
            }
        }
        agree(d.loss, want, weighted ? "score, weighted by the SNR" : "score, own output");
        close_world(&w);
    }
}

/* (1.18): the surrogate's value, and the step along its gradient: E c (f_z - f_p)^T dG/dtheta, dG/dtheta by central differences. */
static void generator_objective(void **state)
{
    (void)state;
    static const char *const names[] = {"time_embedding.bias", "layers.1.linear_2.weight", "proj_out.weight", "class_embedding.weight"};
    for (int way = 0; way < 2; way++) { /* omega = 1 with a guided teacher; even weights */
        const double omega = way ? 0 : 1.5, lr = 1.0 / 64;
        world w;
        open_vsd(&w, "own", way ? "0" : "1.5", way ? "uniform" : "snr");
        rt_phase *p = &w.round.phases[1];
        rt_params *student = rt__network(&w.task, "student")->set, *score = rt__network(&w.task, "score")->set;
        int first = 7, last = 62, n = last - first + 1; /* times in 0.1 T = 6.4 .. 0.98 T = 62.7 */
        drawn d = run_phase(&w, p, n);
        double want = 0, c[B][D], apart = 0, left = 0, lag = 0;
        for (int i = 0; i < B; i++) {
            double t = (double)d.k[i] + first, a = alpha_of(t), b = beta_of(t), x0[D], x[D], fz[D], fp[D];
            x0_of(&w, student, 0, d.z + i * D, T, d.label[i], x0);
            for (int j = 0; j < D; j++) x[j] = a * x0[j] + b * d.eps[i * D + j];
            x0_of(&w, score, 0, x, t, d.label[i], fz);
            x0_of(&w, w.teacher, omega, x, t, d.label[i], fp);
            for (int j = 0; j < D; j++) {
                double weight = way ? 1 : a * a / (b * b); /* omega(t) alpha alpha/beta^2, omega = weight/SNR */
                c[i][j] = weight * (fz[j] - fp[j]) / B;
                want += c[i][j] * x0[j];
                apart += (fz[j] - fp[j]) * (fz[j] - fp[j]);
                left += (x0[j] - fp[j]) * (x0[j] - fp[j]);
                lag += (fp[j] - fz[j]) * (fz[j] - x0[j]);
            }
        }
        agree(d.loss, want, way ? "generator, even weights" : "generator, omega 1, guided");
        assert_int_equal(p->n_logged, 2);
        assert_string_equal(p->logged[0].name, "score_gap");
        assert_string_equal(p->logged[1].name, "fake_lag");
        agree(d.logged[0], apart / left, "score gap");
        agree(d.logged[1], lag / apart, "fake lag");
        rt_program *step = NULL;
        OK(rt_compile(&step, p->graph, &(rt_program_spec){.updates = &p->update.node, .n_updates = 1, .batch = B, .threads = 1}, &err));
        *(double *)rt_program_data(step, p->update.lr) = lr;
        double *values = rt_params_data(student, RT_VALUE);
        size_t bytes = (size_t)rt_params_extent(student, RT_VALUE) * sizeof *values;
        double *before = malloc(bytes), *after = malloc(bytes), *other = malloc(bytes);
        memcpy(before, values, bytes);
        memcpy(other, rt_params_data(score, RT_VALUE), bytes);
        OK(rt_run(step, &(rt_clock){.seed = 11, .step = 3}, &err));
        memcpy(after, values, bytes);
        assert_memory_equal(other, rt_params_data(score, RT_VALUE), bytes); /* the generator's phase moves no other network */
        memcpy(values, before, bytes);
        for (int e = 0; e < 4; e++) {
            const rt_entry *entry = rt_params_entry(student, rt_params_find(student, names[e]));
            double worst = 0, largest = 0;
            for (int64_t at = entry->offset; at < entry->offset + entry->count; at += 1 + entry->count / 5) {
                const double h = 1e-4;
                double slope = 0, x0[2][D];
                for (int i = 0; i < B; i++) {
                    for (int side = 0; side < 2; side++) {
                        values[at] = before[at] + (side ? h : -h);
                        rt_params_touch(student);
                        x0_of(&w, student, 0, d.z + i * D, T, d.label[i], x0[side]);
                    }
                    for (int j = 0; j < D; j++) slope += c[i][j] * (x0[1][j] - x0[0][j]) / (2 * h);
                }
                values[at] = before[at];
                worst = fmax(worst, fabs((before[at] - after[at]) / lr - slope));
                largest = fmax(largest, fabs(slope));
            }
            print_message("%-26s %.3g of %.3g\n", names[e], worst, largest);
            if (!(worst <= TOL_VSD_GRADIENT * largest) || largest == 0) fail_msg("%s: %g of %g", names[e], worst, largest);
        }
        rt_program_free(step);
        free(before);
        free(after);
        free(other);
        close_world(&w);
    }
}

/* ---- pictures: DMD's normaliser */

/* The answers at the draws of a phase: x0, f_z and f_p as the networks give them, in a graph of their own. */
static void answers(const world *w, const double *z, const double *eps, const int64_t *k, int first, double *x0, double *fz, double *fp)
{
    const int64_t shape[] = {B, 1, SIDE, SIDE}, one[] = {B, 1, 1, 1}, row[] = {B};
    double alpha[B], beta[B], time[B], last[B], alpha_last[B], beta_last[B];
    for (int i = 0; i < B; i++) {
        double t = (double)k[i] + first;
        alpha[i] = alpha_of(t), beta[i] = beta_of(t), time[i] = t - 1;
        alpha_last[i] = alpha_of(T), beta_last[i] = beta_of(T), last[i] = T - 1;
    }
    rt_graph *g = rt_graph_new(RT_F64);
    rt_at at = {rt_reals(g, 4, one, alpha), rt_reals(g, 4, one, beta), rt_reals(g, 1, row, time), NULL, NULL};
    rt_at top = {rt_reals(g, 4, one, alpha_last), rt_reals(g, 4, one, beta_last), rt_reals(g, 1, row, last), NULL, NULL};
    rt_node *nodes[3];
    nodes[0] = rt__denoise(&rt__network(&w->task, "student")->denoiser, rt_reals(g, 4, shape, z), NULL, top, NULL);
    rt_node *xt = rt_add(rt_mul(at.alpha, nodes[0]), rt_mul(at.beta, rt_reals(g, 4, shape, eps)));
    nodes[1] = rt__denoise(&rt__network(&w->task, "score")->denoiser, xt, NULL, at, NULL);
    nodes[2] = rt__denoise(&rt__network(&w->task, "teacher")->denoiser, xt, NULL, at, NULL);
    rt_program *p;
    OK(rt_compile(&p, g, &(rt_program_spec){.outputs = nodes, .n_outputs = 3, .batch = 1, .threads = 1}, &err));
    OK(rt_run(p, &(rt_clock){0}, &err));
    memcpy(x0, rt_program_data(p, nodes[0]), B * PIXELS * sizeof *x0);
    memcpy(fz, rt_program_data(p, nodes[1]), B * PIXELS * sizeof *fz);
    memcpy(fp, rt_program_data(p, nodes[2]), B * PIXELS * sizeof *fp);
    rt_program_free(p);
    rt_graph_free(g);
}

static void normalised_pictures(void **state)
{
    (void)state;
    static double x0[B * PIXELS], fz[B * PIXELS], fp[B * PIXELS];
    for (int sid = 0; sid < 2; sid++) {
        world w;
        open_world(&w, &(world_spec){.method = sid ? "sid" : "vsd",
                                     .net = picture_file,
                                     .keys = {"vsd.weight", "snr", "vsd.normalise", "dmd", "vsd.t-min", "0.1",
                                              sid ? "sid.start-sigma" : NULL, "0", "sid.alpha", "0.75"}});
        rt_phase *p = &w.round.phases[1];
        const int64_t shape[] = {RT_BATCH, 1, SIDE, SIDE}, one[] = {RT_BATCH};
        int first = 7, n = 56;
        rt_node *nodes[] = {p->loss, rt_randn(p->graph, "z", 4, shape), rt_randn(p->graph, "eps", 4, shape),
                            rt_randint(p->graph, "t", 1, one, n)};
        OK(rt_compile(&w.program, p->graph, &(rt_program_spec){.outputs = nodes, .n_outputs = 4, .batch = B, .threads = 1}, &err));
        OK(rt_run(w.program, &(rt_clock){.seed = 11, .step = 3}, &err));
        const int64_t *k = rt_program_data(w.program, nodes[3]);
        answers(&w, rt_program_data(w.program, nodes[1]), rt_program_data(w.program, nodes[2]), k, first, x0, fz, fp);
        double want = 0;
        for (int i = 0; i < B; i++) {
            double t = (double)k[i] + first, weight = alpha_of(t) * alpha_of(t) / (beta_of(t) * beta_of(t)), mean = 0, sum = 0;
            for (int j = i * PIXELS; j < (i + 1) * PIXELS; j++) mean += fabs(x0[j] - fp[j]) / PIXELS;
            for (int j = i * PIXELS; j < (i + 1) * PIXELS; j++) {
                double apart = fp[j] - fz[j];
                sum += sid ? weight / mean * apart * (fp[j] - x0[j] - 0.75 * apart)
                           : pow(weight * apart / mean, 2) / (2 * PIXELS); /* 1/2 of the mean square that x0 is told to move by */
            }
            want += sum / B;
        }
        agree(*(double *)rt_program_data(w.program, p->loss), want, sid ? "sid, normalised" : "vsd, normalised");
        close_world(&w);
    }
}

/* ---- whole runs */

static void set(rt_config *c, const char *key, const char *value) { OK(rt_config_set(c, key, value, &err)); }

static void train_teacher(void)
{
    rt_config c;
    char path[128];
    OK(rt_config_method(&c, "denoise", &err));
    snprintf(path, sizeof path, "%s/teacher", folder);
    set(&c, "out", path);
    set(&c, "threads", "1");
    set(&c, "data.path", "toy:moons");
    set(&c, "net", "tests/data/vectors.json");
    set(&c, "train.batch", "64");
    set(&c, "train.updates", "1500");
    OK(rt_run_train(&c, false, NULL, NULL, &err));
}

static rt_config student_of(const char *name)
{
    rt_config c;
    char path[128];
    OK(rt_config_method(&c, "vsd", &err));
    snprintf(path, sizeof path, "%s/teacher", folder);
    set(&c, "teacher", path);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    set(&c, "out", path);
    set(&c, "threads", "1");
    set(&c, "train.batch", "32");
    set(&c, "vsd.score-updates", "3");
    set(&c, "vsd.score-warmup", "7");
    set(&c, "run.checkpoint-every", "0");
    set(&c, "train.updates", "12");
    return c;
}

static void same_state(const char *a, const char *b)
{
    rt_tensors *t[2];
    for (int i = 0; i < 2; i++) {
        char path[192];
        snprintf(path, sizeof path, "%s/%s/checkpoints/update-12/state.safetensors", folder, i ? b : a);
        OK(rt_tensors_open(&t[i], path, &err));
    }
    int compared = 0;
    for (int i = 0; i < rt_tensors_count(t[0]); i++) {
        const char *name = rt_tensors_info(t[0], i)->name;
        if (!strcmp(name, "position")) continue; /* holds seconds */
        rt_tensor x, y;
        OK(rt_tensors_read(t[0], i, &x, &err));
        OK(rt_tensors_read(t[1], rt_tensors_find(t[1], name), &y, &err));
        assert_memory_equal(x.data, y.data, (size_t)rt_tensor_count(&x) * rt_dtype_size(x.dtype));
        rt_tensor_free(&x);
        rt_tensor_free(&y);
        compared++;
    }
    assert_int_equal(compared, 7); /* student: value, two moments, average; score: value, two moments */
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);
}

static void resumed_is_the_same(void **state)
{
    (void)state;
    train_teacher();
    rt_config whole = student_of("whole"), parts = student_of("parts"), fresh = student_of("fresh"), wrong = student_of("wrong");
    OK(rt_run_train(&whole, false, NULL, NULL, &err));
    static const char *const stops[] = {"2", "3", "8"};
    for (int i = 0; i < 3; i++) {
        set(&parts, "run.until-update", stops[i]);
        OK(rt_run_train(&parts, i > 0, NULL, NULL, &err));
    }
    set(&parts, "run.until-update", "0");
    OK(rt_run_train(&parts, true, NULL, NULL, &err));
    same_state("whole", "parts");
    rt_config from = student_of("from"); /* a student goes on where another one ended: at a learning rate of 0 it stays that */
    char path[128];
    snprintf(path, sizeof path, "%s/whole/student", folder);
    set(&from, "init", path);
    set(&from, "train.lr", "0");
    set(&from, "train.ema", "0");
    OK(rt_run_train(&from, false, NULL, NULL, &err));
    rt_tensors *t[2];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s/student/unet/diffusion_pytorch_model.safetensors", folder, i ? "from" : "whole");
        OK(rt_tensors_open(&t[i], path, &err));
    }
    for (int i = 0; i < rt_tensors_count(t[0]); i++) {
        rt_tensor x, y;
        OK(rt_tensors_read(t[0], i, &x, &err));
        OK(rt_tensors_read(t[1], i, &y, &err));
        assert_memory_equal(x.data, y.data, (size_t)rt_tensor_count(&x) * rt_dtype_size(x.dtype));
        rt_tensor_free(&x);
        rt_tensor_free(&y);
    }
    rt_tensors_close(t[0]);
    rt_tensors_close(t[1]);
    set(&fresh, "vsd.fake-net", "examples/mlp.json"); /* a score of its own architecture */
    OK(rt_run_train(&fresh, false, NULL, NULL, &err));
    static const struct {
        const char *key, *value, *says;
    } refused[] = {
        {"vsd.t-max", "0.01", "must be less than vsd.t-max"},
        {"vsd.weight", "snrr", "did you mean 'snr'"},
        {"vsd.fake-net", "examples/fashion-mnist-small.json", "cannot be the network 'score'"},
        {"vsd.guidance", "2", "guidance needs a null class"},
        {"init", "models/fashion-mnist-small", "both must be the same network"},
        {"init", "oracle:examples/mixture.json", "no weights to start from"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        rt_config c = wrong;
        set(&c, refused[i].key, refused[i].value);
        err = (rt_error){0};
        assert_int_not_equal(rt_run_train(&c, false, NULL, NULL, &err), RT_OK);
        if (!strstr(err.text, refused[i].says)) fail_msg("'%s' does not say '%s'", err.text, refused[i].says);
        assert_int_equal(access(c.out, F_OK), -1);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return make_world_folder("vsd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(score_objective), cmocka_unit_test(generator_objective),
                                       cmocka_unit_test(normalised_pictures), cmocka_unit_test(resumed_is_the_same)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
