/* exact_training.c -- see exact_training.h. Both tasks are in double, on the process trig; their networks are of the kinds that training takes. */
#include "verify/exact_training.h"

#include "base/internal.h"
#include "distill/sources.h"
#include "verify/small_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 16 };

typedef struct exact_task {
    char folder[RT__FOLDER];
    rt_config config;
    rt_task task;
    rt_round round;
    rt_net *net;
    rt_process *process;
    rt_oracle *oracle;
    rt_dataset *data; /* of a method that learns from examples; what they are does not matter */
    rt_program *program;
} exact_task;

/* The oracle, on the process, is there already. */
static rt_status open_task(exact_task *e, const char *method, const char *net, const char *const *keys, rt_error *err)
{
    RT_TRY(rt__small_net(net, e->folder, &e->net, err));
    RT_TRY(rt_config_method(&e->config, method, err));
    RT_TRY(rt_config_set(&e->config, "out", e->folder, err));
    RT_TRY(rt_config_set(&e->config, "train.batch", "16", err));
    RT_TRY(rt_config_set(&e->config, "threads", "1", err));
    for (; *keys; keys += 2) RT_TRY(rt_config_set(&e->config, keys[0], keys[1], err));
    int classes = rt_net_describe(e->net)->classes;
    e->task = (rt_task){.method = rt__method_find(method),
                        .config = &e->config,
                        .process = e->process,
                        .net = e->net,
                        .classes = classes,
                        .null_class = classes - 1,
                        .data = e->data,
                        .real = RT_F64,
                        .teacher = {.oracle = e->oracle, .prediction = rt_prediction_find("x0", err)}};
    RT_TRY(rt__task_open(&e->task, err));
    return rt__round_open(&e->round, &e->task, 0, err);
}

static void close_task(exact_task *e)
{
    rt_program_free(e->program);
    rt__round_close(&e->round);
    rt__task_close(&e->task);
    rt_dataset_free(e->data);
    rt_net_free(e->net);
    rt_oracle_free(e->oracle);
    rt_process_free(e->process);
    rt__small_folder_remove(e->folder);
}

static rt_status new_process(exact_task *e, rt_error *err)
{
    rt_process_spec spec = rt_process_defaults("trig");
    return rt_process_new(&e->process, &spec, err);
}

/* ---- (1.40): classes that are normal distributions of one variance, the null class both of them */

enum { D = 2, CLASSES = 2 };
static const double means[CLASSES][D] = {{0.8, -0.3}, {-0.5, 0.6}}, variance = 0.2;

static void guided_answer(double alpha, double beta, double omega, const double *x, int64_t y, double *out)
{
    double total = alpha * alpha * variance + beta * beta, share[CLASSES], sum = 0;
    for (int k = 0; k < CLASSES; k++) {
        double square = 0;
        for (int j = 0; j < D; j++) square += pow(x[j] - alpha * means[k][j], 2);
        sum += share[k] = exp(-square / (2 * total));
    }
    for (int j = 0; j < D; j++) {
        double of[CLASSES], both = 0;
        for (int k = 0; k < CLASSES; k++) {
            of[k] = means[k][j] + alpha * variance / total * (x[j] - alpha * means[k][j]);
            both += share[k] / sum * of[k];
        }
        out[j] = (1 + omega) * of[y] - omega * both;
    }
}

/* The student's x0 at one point, told t and omega. */
static rt_status told_answer(const exact_task *e, double t, double omega, const double *x, int64_t y, double *out, rt_error *err)
{
    rt_network *student = rt__network(&e->task, "student");
    rt_graph *g = rt_graph_new(RT_F64);
    if (!g) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    rt_node *o = rt_net_apply(student->denoiser.net, student->set, rt_reals(g, 2, (int64_t[]){1, D}, x),
                              rt_reals(g, 2, (int64_t[]){1, 2}, (double[]){1000 * t, omega}), rt_const(g, RT_I64, 1, (int64_t[]){1}, &y));
    rt_program *p = NULL;
    rt_status s = rt_compile(&p, g, &(rt_program_spec){.outputs = &o, .n_outputs = 1, .batch = 1, .threads = 1}, err);
    if (s == RT_OK) s = rt_run(p, &(rt_clock){0}, err);
    if (s == RT_OK) memcpy(out, rt_program_data(p, o), D * sizeof *out);
    rt_program_free(p);
    rt_graph_free(g);
    return s;
}

static rt_status open_guide(exact_task *e, rt_error *err)
{
    const double same[CLASSES * D * D] = {variance, 0, 0, variance, variance, 0, 0, variance}, even[CLASSES] = {0.5, 0.5};
    RT_TRY(new_process(e, err));
    RT_TRY(rt_oracle_mixture(&e->oracle, CLASSES, D, even, means[0], same, e->process, rt_prediction_find("x0", err), err));
    RT_TRY(rt_oracle_set_classes(e->oracle, (const int64_t[]){0, 1}, err));
    RT_TRY(rt_dataset_open(&e->data, "toy:moons", err));
    const char *const keys[] = {"guide.guidance-range", "1,4", "train.weight", "uniform", NULL};
    return open_task(
        e, "guide",
        "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 24, \"layers\": 2, \"num_class_embeds\": 3, \"_guidance\": true}",
        keys, err);
}

static rt_status measure_guide(exact_task *e, double *error, rt_error *err)
{
    RT_TRY(open_guide(e, err));
    const rt_density *even = rt_density_find("uniform", err);
    int n = rt_density_count(even, e->process);
    double *times = malloc((size_t)(2 * n) * sizeof *times), want = 0;
    if (!times) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", n);
    rt_status s = rt_density_times(even, e->process, NULL, n, times, times + n, err);
    rt_phase *p = &e->round.phases[0];
    rt_params *student = rt__network(&e->task, "student")->set;
    const rt_entry *layer = rt_params_entry(student, rt_params_find(student, "guidance_embedding.weight"));
    for (int64_t i = 0; i < layer->count; i++) ((double *)rt_params_data(student, RT_VALUE))[layer->offset + i] = sin((double)i) / 4;
    rt_params_touch(student); /* it starts at 0 */
    const int64_t each[] = {RT_BATCH};
    rt_node *outputs[] = {p->loss, rt_randint(p->graph, "t", 1, each, n), rt_randn(p->graph, "eps", e->task.rank, e->task.shape),
                          rt_rand(p->graph, "omega", 1, each)};
    rt_program_spec spec = {.outputs = outputs, .n_outputs = 4, .batch = BATCH, .threads = 1};
    if (s == RT_OK) s = rt_compile(&e->program, p->graph, &spec, err);
    double *x0 = s == RT_OK ? rt__input_data(p, e->program, "x0") : NULL;
    int64_t *y = s == RT_OK ? rt__input_data(p, e->program, "y") : NULL;
    for (int i = 0; i < BATCH * D && x0; i++) x0[i] = sin(i);
    for (int i = 0; i < BATCH && y; i++) y[i] = i % CLASSES;
    if (s == RT_OK) s = rt_run(e->program, &(rt_clock){.seed = 11}, err);
    for (int i = 0; i < BATCH && s == RT_OK; i++) {
        double t = times[((const int64_t *)rt_program_data(e->program, outputs[1]))[i]], alpha = cos(M_PI / 2 * t),
               beta = sin(M_PI / 2 * t);
        double omega = 1 + 3 * ((const double *)rt_program_data(e->program, outputs[3]))[i], x[D], f[D], guided[D];
        for (int j = 0; j < D; j++)
            x[j] = alpha * sin(i * D + j) + beta * ((const double *)rt_program_data(e->program, outputs[2]))[i * D + j];
        s = told_answer(e, t, omega, x, i % CLASSES, f, err);
        guided_answer(alpha, beta, omega, x, i % CLASSES, guided);
        for (int j = 0; j < D; j++) want += pow(f[j] - guided[j], 2) / D / BATCH;
    }
    if (s == RT_OK) *error = fabs(*(const double *)rt_program_data(e->program, p->loss) / want - 1);
    free(times);
    return s;
}

double rt__guided_call(rt__witness *w)
{
    exact_task e = {.program = NULL};
    double error = NAN;
    (void)measure_guide(&e, &error, &w->err);
    close_task(&e);
    return error;
}

/* ---- f(x_s, s) = f(x_t, t): the maps of a normal distribution's flow to data, as student and as target, on pairs of points of its paths */

enum { POINTS = 8 };
static const double mean = 0.4, spread = 0.3; /* of the data, the second a variance */

/* The flow s -> t of x; data: t = 0. */
static double flow(double s, double t, double x)
{
    double alpha_s = cos(M_PI / 2 * s), beta_s = sin(M_PI / 2 * s), alpha_t = cos(M_PI / 2 * t), beta_t = sin(M_PI / 2 * t);
    double ratio = sqrt((alpha_t * alpha_t * spread + beta_t * beta_t) / (alpha_s * alpha_s * spread + beta_s * beta_s));
    return alpha_t * mean + ratio * (x - alpha_s * mean);
}

static double time_of_point(int k) { return (double)(POINTS - k) / POINTS; }

static rt_status measure_consistency(exact_task *e, double *error, rt_error *err)
{
    RT_TRY(new_process(e, err));
    RT_TRY(rt_oracle_gaussian(&e->oracle, 1, &mean, &spread, e->process, rt_prediction_find("x0", err), err));
    const char *const keys[] = {"cd.points", "8", "cd.grid", "uniform", "cd.solver", "ddim", "cd.pool", "16", NULL};
    RT_TRY(open_task(e, "cd", "{\"_class_name\": \"RetortAffine\", \"data_dim\": 1, \"times\": [125, 250, 375, 500, 625, 750, 875, 1000]}",
                     keys, err));
    static const char *const networks[] = {"student", "target"};
    for (int i = 0; i < 2; i++) {
        rt_params *set = rt__network(&e->task, networks[i])->set;
        double *values = rt_params_data(set, RT_VALUE);
        for (int k = 0; k < POINTS; k++) { /* rows rise with time */
            double *a = values + rt_params_entry(set, rt_params_find(set, "weight"))->offset + POINTS - 1 - k,
                   *b = values + rt_params_entry(set, rt_params_find(set, "bias"))->offset + POINTS - 1 - k;
            *b = flow(time_of_point(k), 0, 0);
            *a = flow(time_of_point(k), 0, 1) - *b;
        }
        rt_params_touch(set);
    }
    rt_phase *p = &e->round.phases[0];
    RT_TRY(rt_compile(&e->program, p->graph, &(rt_program_spec){.outputs = &p->loss, .n_outputs = 1, .batch = BATCH, .threads = 1}, err));
    double *xs = rt__input_data(p, e->program, "xs"), *xt = rt__input_data(p, e->program, "xt");
    int64_t *k = rt__input_data(p, e->program, "k");
    for (int i = 0; i < BATCH; i++) {
        k[i] = i % POINTS;
        xs[i] = 2 * sin(i);
        xt[i] = flow(time_of_point((int)k[i]), time_of_point((int)k[i] + 1), xs[i]);
    }
    RT_TRY(rt_run(e->program, &(rt_clock){0}, err));
    *error = sqrt(*(const double *)rt_program_data(e->program, p->loss) / spread);
    return RT_OK;
}

double rt__consistent_paths(rt__witness *w)
{
    exact_task e = {.program = NULL};
    double error = NAN;
    (void)measure_consistency(&e, &error, &w->err);
    close_task(&e);
    return error;
}
