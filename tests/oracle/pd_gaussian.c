/* pd_gaussian.c -- progressive distillation where every map is affine: a Gaussian's denoiser as a table of affine maps, one per time of the grid. Its
 * students can be exact, so the training itself is measured; and the residual of exact flow maps is rounding. */
#include "diffusion_check.h"

#include "distill/method.h"
#include "distill/residual.h"
#include "retort/format.h"
#include "retort/model.h"
#include "retort/train.h"

#include <sys/stat.h>
#include <unistd.h>

enum { D = 3, N = 16, T = 1024 };

static const double mean[D] = {0.5, -0.4, 0.25};
static const double covariance[D * D] = {1.0, 0.3, -0.2, 0.3, 0.6, 0.1, -0.2, 0.1, 0.8};

/* x -> M x + m */
typedef struct affine {
    double M[D][D], m[D];
} affine;

typedef struct world {
    char folder[64], path[128];
    rt_process *process;
    rt_oracle *oracle;
    double times[N + 1]; /* of the finest grid */
} world;

static void open_world(world *w)
{
    *w = (world){0};
    w->process = cosine_1024();
    CHECK_OK(rt_oracle_gaussian(&w->oracle, D, mean, covariance, w->process, rt_prediction_find("x0", NULL), &err));
    CHECK_OK(rt_grid_nested(w->process, (int[]){16, 8, 4, 2, 1}, 5, w->times, &err));
    strcpy(w->folder, "/tmp/retort-pd-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->path, sizeof w->path, "%s/config.json", w->folder);
    FILE *f = fopen(w->path, "w");
    assert_non_null(f);
    fprintf(f, "{\"_class_name\": \"RetortAffine\", \"data_dim\": %d, \"times\": [", D);
    for (int k = N - 1; k >= 0; k--) fprintf(f, "%g%s", rt_process_network_time(w->process, w->times[k]), k ? ", " : "]}\n");
    fclose(f);
}

static void close_world(world *w)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->folder);
    assert_int_equal(system(command), 0);
    rt_oracle_free(w->oracle);
    rt_process_free(w->process);
}

/* The row of the grid's point k: rows rise with time. */
static void put(rt_params *set, int k, const affine *a)
{
    float *values = rt_params_data(set, RT_VALUE), *W = values + rt_params_entry(set, rt_params_find(set, "weight"))->offset,
          *b = values + rt_params_entry(set, rt_params_find(set, "bias"))->offset;
    for (int i = 0; i < D; i++) {
        for (int j = 0; j < D; j++) W[((N - 1 - k) * D + i) * D + j] = (float)a->M[i][j];
        b[(N - 1 - k) * D + i] = (float)a->m[i];
    }
    rt_params_touch(set);
}

static affine get(rt_params *set, int k)
{
    const float *values = rt_params_data(set, RT_VALUE), *W = values + rt_params_entry(set, rt_params_find(set, "weight"))->offset,
                *b = values + rt_params_entry(set, rt_params_find(set, "bias"))->offset;
    affine a;
    for (int i = 0; i < D; i++) {
        for (int j = 0; j < D; j++) a.M[i][j] = (double)W[((N - 1 - k) * D + i) * D + j];
        a.m[i] = (double)b[(N - 1 - k) * D + i];
    }
    return a;
}

/* An affine function from its values at 0 and at the unit vectors. */
static affine affine_of(void (*f)(const void *self, const double *x, double *out), const void *self)
{
    affine a;
    double x[D] = {0}, out[D];
    f(self, x, a.m);
    for (int j = 0; j < D; j++) {
        x[j] = 1;
        f(self, x, out);
        x[j] = 0;
        for (int i = 0; i < D; i++) a.M[i][j] = out[i] - a.m[i];
    }
    return a;
}

typedef struct query {
    const world *w;
    double s, t;
} query;

static void posterior(const void *self, const double *x, double *out)
{
    const query *q = self;
    CHECK_OK(rt_oracle_posterior_mean(q->w->oracle, rt_process_alpha(q->w->process, q->s), rt_process_beta(q->w->process, q->s), 1, x, out,
                                      &err));
}

static void flow(const void *self, const double *x, double *out)
{
    const query *q = self;
    const rt_process *p = q->w->process;
    CHECK_OK(rt_oracle_flow_map(q->w->oracle, rt_process_alpha(p, q->s), rt_process_beta(p, q->s), rt_process_alpha(p, q->t),
                                rt_process_beta(p, q->t), 1, x, out, &err));
}

static rt_params *table(const rt_net *net)
{
    rt_params *set = rt_params_new("table", RT_F32);
    CHECK_OK(rt_net_declare(net, set, &err));
    assert_non_null(rt_params_data(set, RT_VALUE));
    return set;
}

static void write_teacher(const world *w, const rt_net *net, const rt_params *set)
{
    char path[160];
    snprintf(path, sizeof path, "%s/teacher", w->folder);
    mkdir(path, 0777);
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = T, spec.betas = "squaredcos_cap_v2";
    rt_scheduler_config c;
    CHECK_OK(rt_scheduler_config_from(&c, &spec, rt_prediction_find("x0", NULL), &err));
    CHECK_OK(rt_model_index_write(path, "RetortAffine", "DDIMScheduler", &err));
    snprintf(path, sizeof path, "%s/teacher/scheduler", w->folder);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/teacher/scheduler/scheduler_config.json", w->folder);
    CHECK_OK(rt_scheduler_config_write(&c, path, &err));
    rt_scheduler_config_free(&c);
    snprintf(path, sizeof path, "%s/teacher/unet", w->folder);
    mkdir(path, 0777);
    CHECK_OK(rt_net_save(net, set, RT_VALUE, path, NULL, NULL, &err));
}

static void set_key(rt_config *c, const char *key, const char *value) { CHECK_OK(rt_config_set(c, key, value, &err)); }

/* x_k + factor (x_j - x_k), all as affine functions of the noise. */
static affine extrapolate(const affine *k, const affine *j, double factor)
{
    affine a;
    for (int r = 0; r < D; r++) {
        a.m[r] = k->m[r] + factor * (j->m[r] - k->m[r]);
        for (int c = 0; c < D; c++) a.M[r][c] = k->M[r][c] + factor * (j->M[r][c] - k->M[r][c]);
    }
    return a;
}

/* A prediction after a state; a DDIM step from a state with a prediction: both as functions of the noise. */
static affine after(const affine *f, const affine *x)
{
    affine a;
    for (int r = 0; r < D; r++) {
        a.m[r] = f->m[r];
        for (int k = 0; k < D; k++) a.m[r] += f->M[r][k] * x->m[k];
        for (int c = 0; c < D; c++) {
            a.M[r][c] = 0;
            for (int k = 0; k < D; k++) a.M[r][c] += f->M[r][k] * x->M[k][c];
        }
    }
    return a;
}

static affine ddim(const world *w, const affine *x, const affine *x0, double s, double t) /* (1.30) */
{
    double ratio = rt_process_beta(w->process, t) / rt_process_beta(w->process, s),
           C = rt_process_alpha(w->process, t) - rt_process_alpha(w->process, s) * ratio;
    affine a;
    for (int r = 0; r < D; r++) {
        a.m[r] = ratio * x->m[r] + C * x0->m[r];
        for (int c = 0; c < D; c++) a.M[r][c] = ratio * x->M[r][c] + C * x0->M[r][c];
    }
    return a;
}

/* The teacher's whole rollout from noise: DDIM, or DPM-Solver++(2M), which is DDIM with the prediction extrapolated half a step in l = log(alpha/beta). */
static affine rollout(const world *w, rt_params *teacher, bool memory)
{
    affine x = {.M = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}, before = {0};
    double l[N + 1];
    for (int k = 0; k < N; k++) l[k] = rt_process_log_snr(w->process, w->times[k]) / 2;
    for (int k = 0; k < N; k++) {
        affine f = get(teacher, k), x0 = after(&f, &x), used = x0;
        if (memory && k > 0 && k < N - 1) used = extrapolate(&x0, &before, -(l[k + 1] - l[k]) / (l[k] - l[k - 1]) / 2);
        x = ddim(w, &x, &used, w->times[k], w->times[k + 1]);
        before = x0;
    }
    return x;
}

/* 16 -> 8 -> 4 -> 2 -> 1 by the method and the loop as they are. Every row of the student's table has an exact answer, so what is left is the float
 * of the masters and the learning rate's end. */
static void one_step_is_the_product(void **state)
{
    (void)state;
    static const struct {
        const char *starts, *solver;
    } ways[] = {{"student", "ddim"}, {"all", "ddim"}, {"student", "dpmpp-2m"}}; /* all: every k of (1.35) */
    world w;
    open_world(&w);
    rt_net *net;
    CHECK_OK(rt_net_open(&net, w.path, &err));
    rt_params *teacher = table(net), *student = table(net);
    for (int k = 0; k < N; k++) {
        affine a = affine_of(posterior, &(query){&w, w.times[k], 0});
        put(teacher, k, &a);
    }
    write_teacher(&w, net, teacher);
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        rt_config c;
        rt_run_summary summary;
        char path[160];
        CHECK_OK(rt_config_method(&c, "pd", &err));
        snprintf(path, sizeof path, "%s/teacher", w.folder);
        set_key(&c, "teacher", path);
        snprintf(path, sizeof path, "%s/run-%zu", w.folder, way);
        set_key(&c, "out", path);
        set_key(&c, "threads", "1");
        set_key(&c, "pd.steps", "8,4,2,1");
        set_key(&c, "pd.starts", ways[way].starts);
        set_key(&c, "pd.teacher-solver", ways[way].solver);
        set_key(&c, "train.weight", "uniform");
        set_key(&c, "train.optimiser", "sgd");
        set_key(&c, "train.lr", "1.5");
        set_key(&c, "train.clip", "0");
        set_key(&c, "train.updates", "3000,2000,1500,1000");
        set_key(&c, "run.checkpoint-every", "0");
        CHECK_OK(rt_run_train(&c, false, NULL, &summary, &err));
        snprintf(path, sizeof path, "%s/run-%zu/student/unet", w.folder, way);
        CHECK_OK(rt_net_load(net, student, path, NULL, NULL, &err));
        affine got = get(student, 0),
               want = rollout(&w, teacher, !strcmp(ways[way].solver, "dpmpp-2m")); /* one step to data is the prediction */
        double worst = 0, largest = 0;
        for (int i = 0; i < D; i++) {
            worst = fmax(worst, fabs(got.m[i] - want.m[i]));
            for (int j = 0; j < D; j++) {
                worst = fmax(worst, fabs(got.M[i][j] - want.M[i][j]));
                largest = fmax(largest, fabs(want.M[i][j]));
            }
        }
        print_message("16 to 1, %s, starts %s: the student's map is off by %.3g of %.3g; losses", ways[way].solver, ways[way].starts, worst,
                      largest);
        for (int r = 0; r < summary.n_rounds; r++) print_message(" %.3g", summary.rounds[r].loss);
        print_message(", residual %.3g, drift %.3g\n", summary.rounds[3].residual, summary.rounds[3].drift);
        CHECK_NEAR(worst, 0, TOL_PD_PRODUCT * largest, "the product of 16 maps, %s, starts %s", ways[way].solver, ways[way].starts);
        CHECK_NEAR(summary.rounds[0].residual, 0, TOL_PD_PRODUCT, "residual of the first round");
        CHECK_NEAR(summary.rounds[3].drift, 0, TOL_PD_PRODUCT, "drift of the last round");
    }
    rt_params_free(teacher);
    rt_params_free(student);
    rt_net_free(net);
    close_world(&w);
}

/* A stochastic teacher, whose draws the student does not see: a round of pd ends at the mean of two steps, m(x) = A x + C x0(x) each, as far as the
 * noise of the targets allows. */
static void the_mean_over_draws(void **state)
{
    (void)state;
    world w;
    open_world(&w);
    rt_net *net;
    CHECK_OK(rt_net_open(&net, w.path, &err));
    rt_params *teacher = table(net), *student = table(net);
    for (int k = 0; k < N; k++) {
        affine a = affine_of(posterior, &(query){&w, w.times[k], 0});
        put(teacher, k, &a);
    }
    write_teacher(&w, net, teacher);
    rt_config c;
    rt_run_summary summary;
    char path[160];
    CHECK_OK(rt_config_method(&c, "pd", &err));
    snprintf(path, sizeof path, "%s/teacher", w.folder);
    set_key(&c, "teacher", path);
    snprintf(path, sizeof path, "%s/run", w.folder);
    set_key(&c, "out", path);
    set_key(&c, "threads", "1");
    set_key(&c, "pd.steps", "8");
    set_key(&c, "pd.teacher-solver", "ddpm");
    set_key(&c, "train.weight", "uniform");
    set_key(&c, "train.optimiser", "sgd");
    set_key(&c, "train.beta1", "0");
    set_key(&c, "train.lr", "1.5");
    set_key(&c, "train.clip", "0");
    set_key(&c, "train.updates", "6000");
    set_key(&c, "run.checkpoint-every", "0");
    CHECK_OK(rt_run_train(&c, false, NULL, &summary, &err));
    snprintf(path, sizeof path, "%s/run/student/unet", w.folder);
    CHECK_OK(rt_net_load(net, student, path, NULL, NULL, &err));
    double worst = 0;
    for (int k = 0; k < N; k += 2) {
        affine want = {.M = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}, one = want, f = get(student, k), got;
        for (int h = 0; h < 2; h++) {
            double s = w.times[k + h], t = w.times[k + h + 1], as = rt_process_alpha(w.process, s), bs = rt_process_beta(w.process, s),
                   at = rt_process_alpha(w.process, t), bt = rt_process_beta(w.process, t), forward = as / at,
                   q = bs * bs - forward * forward * bt * bt; /* of x_s given x_t */
            affine d = get(teacher, k + h), x0 = after(&d, &want);
            for (int i = 0; i < D; i++) { /* the mean of x_t given x_s and x0 */
                want.m[i] = (forward * bt * bt * want.m[i] + at * q * x0.m[i]) / (bs * bs);
                for (int j = 0; j < D; j++) want.M[i][j] = (forward * bt * bt * want.M[i][j] + at * q * x0.M[i][j]) / (bs * bs);
            }
        }
        got = ddim(&w, &one, &f, w.times[k], w.times[k + 2]);
        for (int i = 0; i < D; i++)
            for (int j = 0; j <= D; j++) worst = fmax(worst, fabs(j < D ? got.M[i][j] - want.M[i][j] : got.m[i] - want.m[i]));
    }
    print_message("ddpm, 16 to 8: the student's maps are %.3g from the mean; residual %.4g, spread %.4g\n", worst,
                  summary.rounds[0].residual, summary.rounds[0].spread);
    CHECK_NEAR(worst, 0, TOL_PD_MEAN, "the mean of two steps");
    CHECK_NEAR(summary.rounds[0].residual, summary.rounds[0].spread, 0.1 * summary.rounds[0].spread, "what is left is the draws");
    rt_params_free(teacher);
    rt_params_free(student);
    rt_net_free(net);
    close_world(&w);
}

/* A rollout of the ancestral solver from point `from` over q steps of the teacher, as a function of its start and its draws: x -> M x + m + sum V_j z_j. */
typedef struct noisy {
    affine of_start;
    double V[N][D][D];
} noisy;

static noisy ancestral(const world *w, rt_params *teacher, int from, int q)
{
    noisy a = {.of_start = {.M = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}};
    for (int h = 0; h < q; h++) {
        double s = w->times[from + h], t = w->times[from + h + 1], as = rt_process_alpha(w->process, s),
               bs = rt_process_beta(w->process, s), at = rt_process_alpha(w->process, t), bt = rt_process_beta(w->process, t),
               forward = as / at, var = bs * bs - forward * forward * bt * bt; /* of x_s given x_t */
        affine f = get(teacher, from + h), step;
        for (int i = 0; i < D; i++) { /* the mean of x_t given x_s and x0 */
            step.m[i] = at * var * f.m[i] / (bs * bs);
            for (int j = 0; j < D; j++) step.M[i][j] = ((i == j ? forward * bt * bt : 0) + at * var * f.M[i][j]) / (bs * bs);
        }
        a.of_start = after(&step, &a.of_start);
        for (int k = 0; k < h; k++) {
            affine v = {0};
            memcpy(v.M, a.V[k], sizeof v.M);
            v = after(&step, &v);
            memcpy(a.V[k], v.M, sizeof v.M);
        }
        for (int i = 0; i < D; i++) a.V[h][i][i] = bt * sqrt(var) / bs;
    }
    return a;
}

typedef struct drawn {
    float x[64 * D];
} drawn;

static rt_status take(void *user, const rt_samples *s, rt_error *error)
{
    (void)error;
    memcpy(((drawn *)user)->x + s->first * D, s->x, (size_t)(s->count * D) * sizeof *s->x);
    return RT_OK;
}

/* The student from its folder against its teacher from its own, by the seed and by a file of draws: the same numbers, so the same samples. */
static double beside_the_teacher(const char *student, const char *teacher, int steps, bool file)
{
    enum { B = 64 };
    static float draws[N * B * D];
    uint64_t seed = 3;
    for (int i = 0; i < N * B * D; i++) draws[i] = (float)wobble(&seed);
    const char *paths[] = {student, teacher};
    drawn got[2];
    rt_sample_report report;
    double worst = 0;
    for (int i = 0; i < 2; i++) {
        rt_model *m;
        CHECK_OK(rt_model_open(&m, &(rt_model_spec){.path = paths[i], .threads = 1}, &err));
        rt_sampling s = {.n = B, .batch = 24, .seed = 7, .draws = file ? draws : NULL, .n_draws = file ? N : 0};
        if (i) s.steps = N, s.solver = "ddpm";
        CHECK_OK(rt_model_sample(m, &s, take, &got[i], &report, &err));
        if (!i) {
            const rt_student_recipe *r = &rt_model_get_info(m)->recipe;
            float out[D];
            double time = 1000;
            assert_int_equal(r->steps, steps);
            assert_int_equal(r->draws, N / steps);
            assert_false(r->exact_in_diffusers);
            s.n_draws = N - 1;
            if (file)
                CHECK_REFUSED(rt_model_sample(m, &s, take, &got[i], &report, &err), RT_E_USAGE, "holds the noise of 15 steps; 16 are");
            s.n_draws = N;
            s.solver = "ddpm";
            CHECK_REFUSED(rt_model_sample(m, &s, take, &got[i], &report, &err), RT_E_USAGE, "sample with ddim");
            CHECK_REFUSED(rt_model_predict(m, NULL, 1, draws, &time, NULL, out, &err), RT_E_USAGE, "draws of a step");
        }
        rt_model_free(m);
    }
    for (int i = 0; i < B * D; i++) worst = fmax(worst, fabs((double)(got[0].x[i] - got[1].x[i])));
    return worst;
}

/* A student that sees the draws can be the map of (x_s, draws) itself, which is affine here: two steps of 16 by pd, all of them by kd. One from which they
 * are hidden must leave their spread. */
static void the_map_of_the_draws(void **state)
{
    (void)state;
    static const struct {
        const char *method, *lr;
        int steps;
    } ways[] = {{"pd", "1.5", 8}, {"kd", "0.5", 1}};
    world w;
    open_world(&w);
    rt_net *net, *seeing;
    CHECK_OK(rt_net_open(&net, w.path, &err));
    rt_params *teacher = table(net);
    for (int k = 0; k < N; k++) {
        affine a = affine_of(posterior, &(query){&w, w.times[k], 0});
        put(teacher, k, &a);
    }
    write_teacher(&w, net, teacher);
    for (int way = 0; way < 4; way++) {
        const char *method = ways[way / 2].method;
        int steps = ways[way / 2].steps, q = N / steps;
        bool input = way % 2;
        rt_config c;
        rt_run_summary summary;
        char path[160], folder[160], key[32];
        CHECK_OK(rt_config_method(&c, method, &err));
        snprintf(folder, sizeof folder, "%s/teacher", w.folder);
        set_key(&c, "teacher", folder);
        snprintf(path, sizeof path, "%s/run-%d", w.folder, way);
        set_key(&c, "out", path);
        set_key(&c, "threads", "1");
        bool pd = !strcmp(method, "pd");
        set_key(&c, pd ? "pd.steps" : "kd.steps", pd ? "8" : "16");
        if (!pd) set_key(&c, "kd.pairs", "4000");
        snprintf(key, sizeof key, "%s.teacher-solver", method);
        set_key(&c, key, "ddpm");
        snprintf(key, sizeof key, "%s.draws", method);
        set_key(&c, key, input ? "input" : "hidden");
        if (pd) set_key(&c, "train.weight", "uniform");
        set_key(&c, "train.optimiser", "sgd");
        set_key(&c, "train.ema", "0");
        set_key(&c, "train.lr", ways[way / 2].lr);
        set_key(&c, "train.clip", "0");
        set_key(&c, "train.updates", "3000");
        set_key(&c, "run.checkpoint-every", "0");
        CHECK_OK(rt_run_train(&c, false, NULL, &summary, &err));
        const rt_round_report *r = &summary.rounds[0];
        print_message("ddpm, 16 to %d by %s, draws %s: residual %.4g, the teacher's spread %.4g", steps, method, input ? "input" : "hidden",
                      r->residual, r->spread);
        if (!input) {
            print_message("\n");
            CHECK_NEAR(r->residual, r->spread, 0.2 * r->spread, "%s: hidden draws are left", method);
            continue;
        }
        CHECK_NEAR(r->residual, 0, TOL_PD_DRAWS * r->spread, "%s: seen draws are followed", method);
        CHECK_NEAR(r->own_teacher, 0, TOL_PD_DRAWS, "%s: rollouts with the same draws", method);
        snprintf(path, sizeof path, "%s/run-%d/student", w.folder, way);
        for (int file = 0; file < 2; file++) {
            double apart = beside_the_teacher(path, folder, steps, file);
            print_message("%s %.3g", file ? "," : "; samples beside the teacher's:", apart);
            CHECK_NEAR(apart, 0, TOL_PD_DRAWS, "%s: samples by the same draws", method);
        }
        CHECK_OK(rt_net_with_draws(&seeing, net, q, &err));
        rt_params *student = table(seeing);
        snprintf(path, sizeof path, "%s/run-%d/student/unet", w.folder, way);
        CHECK_OK(rt_net_load(seeing, student, path, NULL, NULL, &err));
        const float *V = (float *)rt_params_data(student, RT_VALUE) + rt_params_entry(student, rt_params_find(student, "draws_in"))->offset;
        double worst = 0;
        for (int k = 0; k < N; k += q) {
            double A, C;
            noisy want = ancestral(&w, teacher, k, q);
            affine one = {.M = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}, f = get(student, k),
                   got = ddim(&w, &one, &f, w.times[k], w.times[k + q]);
            CHECK_OK(rt_ddim_coefficients(w.process, w.times[k], w.times[k + q], &A, &C, &err));
            for (int i = 0; i < D; i++)
                for (int j = 0; j < D; j++) {
                    worst = fmax(worst, fabs(got.M[i][j] - want.of_start.M[i][j]));
                    worst = fmax(worst, fabs(got.m[i] - want.of_start.m[i]));
                    for (int h = 0; h < q; h++)
                        worst = fmax(worst, fabs(C * (double)V[((N - 1 - k) * D + i) * q * D + h * D + j] - want.V[h][i][j]));
                }
        }
        print_message("; maps of (x, draws) off by %.3g\n", worst);
        CHECK_NEAR(worst, 0, TOL_PD_DRAWS, "%s: the map of x and the draws", method);
        rt_params_free(student);
        rt_net_free(seeing);
    }
    rt_params_free(teacher);
    rt_net_free(net);
    close_world(&w);
}

/* (1.36): tables whose DDIM steps are the exact flow maps of their grids, 16 steps and 8. All residuals of (1.37), (1.38) are then rounding. A shift
 * of the student's first prediction moves its first step by C times that, and the end by the flow's matrix of that, whatever the noise. */
static void residual_of_the_flow(void **state)
{
    (void)state;
    world w;
    open_world(&w);
    rt_net *net;
    CHECK_OK(rt_net_open(&net, w.path, &err));
    rt_params *sets[] = {table(net), table(net)};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < N; k += 1 + i) {
            double s = w.times[k], t = w.times[k + 1 + i], P, Q;
            affine a = affine_of(flow, &(query){&w, s, t});
            CHECK_OK(rt_ddim_target_coefficients(w.process, s, t, &P, &Q, &err)); /* Lemma 2 */
            for (int r = 0; r < D; r++) {
                a.m[r] *= P;
                for (int j = 0; j < D; j++) a.M[r][j] = P * a.M[r][j] + (r == j ? Q : 0);
            }
            put(sets[i], k, &a);
        }
    rt_config c;
    CHECK_OK(rt_config_method(&c, "pd", &err));
    set_key(&c, "pd.steps", "8,4");
    rt_task t = {.method = &rt__method_pd,
                 .config = &c,
                 .process = w.process,
                 .teacher = {.net = net, .set = sets[0], .prediction = rt_prediction_find("x0", NULL), .null_class = -1},
                 .null_class = -1};
    CHECK_OK(rt__task_open(&t, &err));
    for (int k = 0; k <= N; k++) assert_true(t.grid[k] == w.times[k]);
    CHECK_OK(rt_params_copy(rt__network(&t, "student")->set, RT_VALUE, sets[1], RT_VALUE, &err));
    CHECK_OK(rt_params_copy(rt__network(&t, "teacher")->set, RT_VALUE, sets[0], RT_VALUE, &err));
    rt_round rounds[2];
    for (int i = 0; i < 2; i++) { /* of the second round the teacher's place alone counts: its steps are again 16 to 8 */
        t.plan.rounds[1] = t.plan.rounds[0];
        CHECK_OK(rt__round_open(&rounds[i], &t, i, &err));
    }
    rt_residual r;
    for (int i = 0; i < 2; i++) {
        CHECK_OK(rt__residual(&rounds[i], 64, &r, &err));
        print_message("exact flow maps: local %.3g, relative %.3g, own teacher %.3g, drift %.3g\n", r.local, r.relative, r.own_teacher,
                      r.drift);
        CHECK_NEAR(r.local, 0, TOL_RESIDUAL, "(1.37)");
        CHECK_NEAR(r.relative, 0, 10 * TOL_RESIDUAL, "(1.37) of the step");
        CHECK_NEAR(r.own_teacher, 0, TOL_RESIDUAL, "rollouts of student and teacher");
        CHECK_NEAR(r.drift, 0, TOL_RESIDUAL, "(1.38)");
    }
    const double shift[D] = {0.3, -0.2, 0.1};
    double A, C, first = 0, last = 0;
    affine moved = get(sets[1], 0), rest = affine_of(flow, &(query){&w, w.times[2], 0});
    CHECK_OK(rt_ddim_coefficients(w.process, w.times[0], w.times[2], &A, &C, &err));
    for (int i = 0; i < D; i++) {
        double end = 0;
        for (int j = 0; j < D; j++) end += rest.M[i][j] * C * shift[j];
        moved.m[i] += shift[i];
        first += pow(C * shift[i], 2) / (D * 8);
        last += end * end / D;
    }
    put(rt__network(&t, "student")->set, 0, &moved);
    double step = 0; /* mean square per feature of the teacher's steps, from unit noise at the start of the flow */
    for (int k = 0; k < N; k += 2) {
        affine from = affine_of(flow, &(query){&w, w.times[0], w.times[k]}), to = affine_of(flow, &(query){&w, w.times[0], w.times[k + 2]});
        for (int i = 0; i < D; i++) {
            step += pow(to.m[i] - from.m[i], 2) / (D * 8);
            for (int j = 0; j < D; j++) step += pow(to.M[i][j] - from.M[i][j], 2) / (D * 8);
        }
    }
    for (int i = 0; i < 2; i++) {
        CHECK_OK(rt__residual(&rounds[i], 64, &r, &err));
        CHECK_NEAR(r.local, sqrt(first), 10 * TOL_RESIDUAL * sqrt(first), "(1.37), shifted");
        CHECK_NEAR(r.relative, sqrt(first / step), 0.2 * r.relative, "(1.37) of the step, 64 noises against all");
        CHECK_NEAR(r.own_teacher, sqrt(last), 10 * TOL_RESIDUAL * sqrt(last), "rollouts of student and teacher, shifted");
        CHECK_NEAR(r.drift, sqrt(last), 10 * TOL_RESIDUAL * sqrt(last), "(1.38), shifted");
    }
    for (int i = 0; i < 2; i++) rt__round_close(&rounds[i]);
    rt__task_close(&t);
    for (int i = 0; i < 2; i++) rt_params_free(sets[i]);
    rt_net_free(net);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_step_is_the_product), cmocka_unit_test(the_mean_over_draws),
                                       cmocka_unit_test(the_map_of_the_draws), cmocka_unit_test(residual_of_the_flow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
