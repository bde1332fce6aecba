/* flow_methods.c -- scm and meanflow: their losses in double against the equations written out, networks being black boxes that are differentiated by central
 * differences; the paths of processes; what is refused. */
#include "diffusion_check.h"
#include "tolerances.h"

#include "distill/sources.h"
#include "distill/velocity.h"

#include <unistd.h>

enum { D = 2, B = 8, T = 64, TIMES = 4096 };

static char folder[64], one_file[96], two_file[96], affine_file[96];
static rt_dataset *moons;

static void write_text(char *path, size_t size, const char *name, const char *text)
{
    snprintf(path, size, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_folder(void **state)
{
    (void)state;
    rt_error err = {0};
    strcpy(folder, "/tmp/retort-flow-XXXXXX");
    if (!mkdtemp(folder) || rt_dataset_open(&moons, "toy:moons", &err) != RT_OK) return -1;
    write_text(one_file, sizeof one_file, "one.json",
               "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 32, \"layers\": 2, \"time_features\": 8}");
    write_text(
        two_file, sizeof two_file, "two.json",
        "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 32, \"layers\": 2, \"time_features\": 8, \"_target_time\": true}");
    write_text(affine_file, sizeof affine_file, "affine.json",
               "{\"_class_name\": \"RetortAffine\", \"data_dim\": 2, \"times\": [0, 1, 2]}");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    rt_dataset_free(moons);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* ---- a phase in double */

typedef struct world {
    rt_config config;
    rt_task task;
    rt_round round;
    rt_phase *phase;
    rt_process *process;
    rt_net *one, *two;
    rt_params *teacher;
    rt_oracle *oracle;
    const rt_prediction *prediction;
} world;

typedef struct world_spec {
    const char *method, *process, *prediction, *keys[12];
} world_spec;

static void stir(rt_params *set, uint64_t seed)
{
    for (int i = 0; i < rt_params_entries(set); i++) {
        const rt_entry *e = rt_params_entry(set, i);
        double *v = (double *)rt_params_data(set, RT_VALUE) + e->offset;
        for (int64_t j = 0; j < e->count; j++) v[j] += 0.2 * wobble(&seed);
    }
    rt_params_touch(set);
}

static rt_status try_world(world *w, const world_spec *s, const char *net, bool data, rt_error *error)
{
    bool two = !strcmp(s->method, "meanflow");
    rt_process_spec spec = rt_process_defaults(s->process);
    spec.timesteps = T;
    spec.betas = "squaredcos_cap_v2";
    *w = (world){0};
    CHECK_OK(rt_process_new(&w->process, &spec, &err));
    CHECK_OK(rt_config_method(&w->config, s->method, &err));
    CHECK_OK(rt_config_set(&w->config, "threads", "1", &err));
    CHECK_OK(rt_config_set(&w->config, "train.batch", "8", &err));
    for (const char *const *keys = s->keys; *keys; keys += 2) CHECK_OK(rt_config_set(&w->config, keys[0], keys[1], &err));
    CHECK_OK(rt_net_open(&w->one, net ? net : one_file, &err));
    CHECK_OK(rt_net_open(&w->two, two_file, &err));
    w->teacher = rt_params_new("teacher", RT_F64);
    CHECK_OK(rt_net_declare(w->one, w->teacher, &err));
    CHECK_OK(rt_params_init(w->teacher, 6, &err));
    w->prediction = rt_prediction_find(s->prediction, error);
    w->task = (rt_task){.method = rt__method_find(s->method),
                        .config = &w->config,
                        .process = w->process,
                        .teacher = {.net = w->one, .set = w->teacher, .prediction = w->prediction, .null_class = -1},
                        .net = two && !net ? w->two : NULL,
                        .data = data ? moons : NULL,
                        .null_class = -1,
                        .real = RT_F64};
    rt_status status = rt__task_open(&w->task, error);
    if (status != RT_OK) return status;
    stir(rt__network(&w->task, "student")->set, 3);
    return rt__round_open(&w->round, &w->task, 0, error);
}

static void close_world(world *w)
{
    rt__round_close(&w->round);
    rt__task_close(&w->task);
    rt_params_free(w->teacher);
    rt_net_free(w->one);
    rt_net_free(w->two);
    rt_process_free(w->process);
}

/* ---- black boxes */

/* alpha, beta and what networks are told at an angle, from the definitions of the processes. */
static void at_angle(const world *w, double phi, double *alpha, double *beta, double *told)
{
    const char *name = rt_process_name(w->process);
    double c = cos(phi), s = sin(phi), scale = !strcmp(name, "flow") ? c + s : 1;
    rt__path_point at = {0};
    if (!strcmp(name, "ddpm")) CHECK_OK(rt__path_at(w->process, phi, &at, &err)); /* `paths` says what that is */
    *alpha = c / scale;
    *beta = s / scale;
    *told = !strcmp(name, "trig") ? T * phi / (M_PI / 2) : !strcmp(name, "flow") ? T * s / scale : at.network;
}

/* A network read as a velocity: on the circle dx/dphi at x and phi, on the line dz/dt at z and t, towards r as it is told of it. */
typedef struct box {
    const world *w;
    rt_graph *g;
    rt_node *x, *t, *out;
    rt_program *p;
    const rt_prediction *prediction;
    bool circle;
    double r;
} box;

static void open_box(box *b, const world *w, const rt_denoiser *m, rt_params *set, bool circle)
{
    *b = (box){.w = w, .g = rt_graph_new(RT_F64), .prediction = m->prediction, .circle = circle};
    b->x = rt_input(b->g, "x", RT_F64, 2, (int64_t[]){1, D});
    b->t = rt_input(b->g, "t", RT_F64, rt_net_describe(m->net)->times, (int64_t[]){1, 2});
    b->out = rt_net_apply(m->net, set, b->x, b->t, NULL);
    CHECK_OK(rt_compile(&b->p, b->g, &(rt_program_spec){.outputs = &b->out, .n_outputs = 1, .batch = 1, .threads = 1}, &err));
}

static void close_box(box *b)
{
    rt_program_free(b->p);
    rt_graph_free(b->g);
}

static void velocity(const box *b, const double *x, double at, double *v)
{
    double phi = b->circle ? at : atan2(at, 1 - at), alpha, beta, told, xt[D], x0[D], eps[D];
    at_angle(b->w, phi, &alpha, &beta, &told);
    double scale = b->circle ? hypot(alpha, beta) : alpha + beta;
    for (int j = 0; j < D; j++) xt[j] = scale * x[j];
    memcpy(rt_program_data(b->p, b->x), xt, sizeof xt);
    double *t = rt_program_data(b->p, b->t);
    t[0] = told;
    if (rt_program_count(b->p, b->t) > 1) t[1] = b->r;
    CHECK_OK(rt_run(b->p, &(rt_clock){0}, &err));
    CHECK_OK(rt_prediction_split(b->prediction, D, rt_program_data(b->p, b->out), xt, alpha, beta, x0, eps, &err));
    for (int j = 0; j < D; j++) v[j] = b->circle ? cos(phi) * eps[j] - sin(phi) * x0[j] : eps[j] - x0[j];
}

/* Along (dx, dt) by central differences with one Richardson step. */
static void differentiate(const box *b, const double *x, double at, const double *dx, double dt, double *out)
{
    double v[4][D], h[] = {2e-4, -2e-4, 1e-4, -1e-4};
    for (int i = 0; i < 4; i++) {
        double moved[D];
        for (int j = 0; j < D; j++) moved[j] = x[j] + h[i] * dx[j];
        velocity(b, moved, at + h[i] * dt, v[i]);
    }
    for (int j = 0; j < D; j++) out[j] = (4 * (v[2][j] - v[3][j]) / 2e-4 - (v[0][j] - v[1][j]) / 4e-4) / 3;
}

/* ---- losses. What was drawn is asked of the phase's own graph, where equal draws are one node. */

typedef struct drawn {
    rt_program *p;
    rt_node *eps, *k, *l, *equal;
    double x0[B * D], *noise, *alike;
    const int64_t *at, *target;
    double loss;
} drawn;

static void run_phase(world *w, double run, drawn *d)
{
    const int64_t each[] = {RT_BATCH};
    rt_phase *p = w->phase = &w->round.phases[0];
    bool scm = !strcmp(w->task.method->name, "scm");
    d->eps = rt_randn(p->graph, "eps", w->task.rank, w->task.shape);
    d->k = rt_randint(p->graph, "t", 1, each, TIMES);
    d->l = scm ? d->k : rt_randint(p->graph, "r", 1, each, TIMES);
    d->equal = scm ? p->loss : rt_rand(p->graph, "equal", 1, each);
    rt_node *outputs[] = {p->loss, d->eps, d->k, d->l, d->equal};
    CHECK_OK(rt_compile(&d->p, p->graph, &(rt_program_spec){.outputs = outputs, .n_outputs = 5, .batch = B, .threads = 1}, &err));
    uint64_t seed = 9;
    for (int i = 0; i < B * D; i++) d->x0[i] = wobble(&seed);
    memcpy(rt__input_data(p, d->p, "x0"), d->x0, sizeof d->x0);
    if (p->run_number) *(double *)rt_program_data(d->p, p->run_number) = run;
    CHECK_OK(rt_run(d->p, &(rt_clock){.seed = 5, .total = B}, &err));
    d->loss = *(double *)rt_program_data(d->p, p->loss);
    d->noise = rt_program_data(d->p, d->eps);
    d->at = rt_program_data(d->p, d->k);
    d->target = rt_program_data(d->p, d->l);
    d->alike = rt_program_data(d->p, d->equal);
}

static void expect_loss(const char *what, double got, double want)
{
    double tolerance = strstr(what, "ddpm") ? TOL_FLOW_LOSS_KNOTS : TOL_FLOW_LOSS;
    print_message("%-40s %.12g, %.12g\n", what, got, want);
    CHECK_NEAR(got, want, tolerance * fabs(want), "%s", what);
}

/* m of the angle: affine in cosines and sines of what the network is told. */
static double log_variance(const rt_params *set, double told)
{
    enum { HALF = 16 };
    const double *values = rt_params_data((rt_params *)(uintptr_t)set, RT_VALUE);
    const double *W = values + rt_params_entry(set, rt_params_find(set, "log_variance.weight"))->offset;
    double m = values[rt_params_entry(set, rt_params_find(set, "log_variance.bias"))->offset];
    for (int i = 0; i < HALF; i++) {
        double arg = told * (double)expf(-9.210340371976184f * (float)i / (float)HALF);
        m += W[i] * cos(arg) + W[HALF + i] * sin(arg);
    }
    return m;
}

static void scm_case(const char *process, const char *prediction, const char *of, double reached)
{
    world w;
    box student, teacher;
    drawn d;
    char what[96];
    CHECK_OK(try_world(&w, &(world_spec){"scm", process, prediction, {"scm.velocity", of, "scm.warmup", "20", NULL}}, NULL, true, &err));
    rt_params *set = rt__network(&w.task, "student")->set;
    open_box(&student, &w, rt__denoiser(&w.round.phases[0], "student"), set, true);
    open_box(&teacher, &w, &w.task.teacher, w.teacher, true);
    run_phase(&w, reached * 20, &d);
    double want = 0;
    for (int i = 0; i < B; i++) {
        double phi = atan(exp(-1 + 1.4 * rt__normal_quantile((int)d.at[i], TIMES))), c = cos(phi), s = sin(phi), alpha, beta, told;
        double x[D], dx[D], move[D], F[D], dF[D], g[D], norm = 0, e = 0;
        if (!strcmp(process, "ddpm"))
            phi = fmax(phi, atan2(rt_process_beta(w.process, 1), rt_process_alpha(w.process, 1))), c = cos(phi), s = sin(phi);
        at_angle(&w, phi, &alpha, &beta, &told);
        for (int j = 0; j < D; j++) x[j] = c * d.x0[i * D + j] + s * d.noise[i * D + j];
        for (int j = 0; j < D; j++) dx[j] = c * d.noise[i * D + j] - s * d.x0[i * D + j];
        if (!strcmp(of, "teacher")) velocity(&teacher, x, phi, dx);
        for (int j = 0; j < D; j++) move[j] = c * s * dx[j];
        velocity(&student, x, phi, F);
        differentiate(&student, x, phi, move, c * s, dF);
        for (int j = 0; j < D; j++) {
            g[j] = -c * c * (F[j] - dx[j]) - reached * (c * s * x[j] + dF[j]);
            norm += g[j] * g[j];
        }
        for (int j = 0; j < D; j++) e += pow(g[j] / (sqrt(norm) + 0.1), 2) / D;
        double m = log_variance(set, told);
        want += (e / exp(m) + m) / B;
    }
    snprintf(what, sizeof what, "scm, %s, %s, r = %g", process, of, reached);
    expect_loss(what, d.loss, want);
    rt_program_free(d.p);
    close_box(&student);
    close_box(&teacher);
    close_world(&w);
}

static void scm_losses(void **state)
{
    (void)state;
    scm_case("trig", "v", "data", 1);
    scm_case("trig", "v", "teacher", 0.3);
    scm_case("flow", "velocity", "teacher", 1);
    scm_case("flow", "velocity", "data", 0);
    scm_case("ddpm", "v", "teacher", 1);
    scm_case("ddpm", "v", "data", 1);
}

static double logistic(double mean, int m) { return 1 / (1 + exp(-mean - 1.6 * rt__normal_quantile(m, TIMES))); }

static void meanflow_case(const char *process, const char *prediction, const char *of, double power)
{
    world w;
    box student, teacher;
    drawn d;
    char what[96], p[16];
    int alike = 0;
    snprintf(p, sizeof p, "%g", power);
    CHECK_OK(try_world(
        &w, &(world_spec){"meanflow", process, prediction, {"meanflow.velocity", of, "meanflow.power", p, "meanflow.equal", "0.4", NULL}},
        NULL, true, &err));
    open_box(&student, &w, rt__denoiser(&w.round.phases[0], "student"), rt__network(&w.task, "student")->set, false);
    open_box(&teacher, &w, &w.task.teacher, w.teacher, false);
    run_phase(&w, 0, &d);
    double want = 0, end = rt__path_end(w.process), last = sin(end) / (sin(end) + cos(end));
    for (int i = 0; i < B; i++) {
        double t = fmin(logistic(-0.6, (int)d.at[i]), last), r = fmin(t, logistic(-4, (int)d.target[i])), a, b;
        double z[D], v[D], u[D], du[D], e = 0;
        if (d.alike[i] < 0.4) r = t, alike++;
        at_angle(&w, atan2(r, 1 - r), &a, &b, &student.r);
        for (int j = 0; j < D; j++) z[j] = (1 - t) * d.x0[i * D + j] + t * d.noise[i * D + j];
        for (int j = 0; j < D; j++) v[j] = d.noise[i * D + j] - d.x0[i * D + j];
        if (!strcmp(of, "teacher")) velocity(&teacher, z, t, v);
        velocity(&student, z, t, u);
        differentiate(&student, z, t, v, 1, du);
        for (int j = 0; j < D; j++) e += pow(u[j] - (v[j] - (t - r) * du[j]), 2);
        want += e / pow(e + 0.001, power) / B;
    }
    assert_in_range(alike, 1, B - 1);
    snprintf(what, sizeof what, "meanflow, %s, %s, p = %g", process, of, power);
    expect_loss(what, d.loss, want);
    rt_program_free(d.p);
    close_box(&student);
    close_box(&teacher);
    close_world(&w);
}

static void meanflow_losses(void **state)
{
    (void)state;
    meanflow_case("flow", "velocity", "data", 0.75);
    meanflow_case("flow", "velocity", "teacher", 0);
    meanflow_case("ddpm", "v", "teacher", 1);
    meanflow_case("ddpm", "v", "data", 0);
}

/* ---- paths */

/* Every process: the point at an angle is that of the time there, and its derivatives are differences; a discrete one at whole times, in order between. */
static void paths(void **state)
{
    (void)state;
    rt_row_text row;
    for (int i = 0; rt_process_describe(i, &row); i++) {
        rt_process *p;
        rt_process_spec spec = rt_process_defaults(row.name);
        CHECK_OK(rt_process_new(&p, &spec, &err));
        double end = rt__path_end(p), worst = 0, told = -INFINITY;
        for (int k = 1; k < 40; k++) {
            double phi = end * k / 40, h = 1e-5;
            rt__path_point at, near[2];
            CHECK_OK(rt__path_at(p, phi, &at, &err));
            CHECK_OK(rt__path_at(p, phi - h, &near[0], &err));
            CHECK_OK(rt__path_at(p, phi + h, &near[1], &err));
            CHECK_NEAR(atan2(at.beta, at.alpha), phi, 1e-9, "%s: the angle", row.name);
            worst = fmax(worst, fabs((near[1].alpha - near[0].alpha) / (2 * h) - at.d_alpha) / (1 + fabs(at.d_alpha)));
            worst = fmax(worst, fabs((near[1].beta - near[0].beta) / (2 * h) - at.d_beta) / (1 + fabs(at.d_beta)));
            worst = fmax(worst, fabs((near[1].network - near[0].network) / (2 * h) - at.d_network) / (1 + fabs(at.d_network)));
            assert_true(at.network > told && at.d_network > 0);
            told = at.network;
        }
        print_message("%-10s %.2g\n", row.name, worst);
        CHECK_NEAR(worst, 0, TOL_PATH, "%s: derivatives", row.name);
        for (int t = 1; t <= rt_process_discrete_steps(p); t++) {
            rt__path_point at;
            CHECK_OK(rt__path_at(p, atan2(rt_process_beta(p, t), rt_process_alpha(p, t)), &at, &err));
            CHECK_NEAR(at.network, t - 1, 1e-9, "%s: time %d", row.name, t);
        }
        rt_process_free(p);
    }
    for (int m = 0; m < 7; m++) CHECK_NEAR(erfc(-rt__normal_quantile(m, 7) / sqrt(2)) / 2, (m + 0.5) / 7, 1e-14, "quantile %d", m);
}

/* ---- refusals */

static void refused(void **state)
{
    (void)state;
    static const struct {
        world_spec spec;
        const char *net;
        bool no_data;
        const char *text;
    } cases[] = {
        {{"scm", "ddpm", "v", {NULL}}, NULL, true, "scm starts from data, and there are none; give --data"},
        {{"scm", "ddpm", "v", {"scm.velocity", "flow", NULL}}, NULL, false, "scm.velocity: 'flow'; give teacher"},
        {{"scm", "ddpm", "v", {"scm.velocity", "data", "scm.guidance", "2", NULL}},
         NULL,
         false,
         "scm.guidance: 2, but scm.velocity is data"},
        {{"scm", "ddpm", "v", {"scm.steps", "3", NULL}}, NULL, false, "scm.steps: 3 does not divide 64"},
        {{"scm", "ddpm", "v", {"dtype", "bf16", NULL}}, NULL, false, "dtype: bf16, but scm differentiates in time"},
        {{"scm", "ddpm", "v", {NULL}}, affine_file, false, "has no derivative along a direction"},
        {{"scm", "ddpm", "v", {NULL}}, two_file, false, "is told 2 times, but scm asks for one"},
        {{"meanflow", "ddpm", "v", {NULL}},
         one_file,
         false,
         "is told 1 time, but meanflow asks for two; give --net with \"_target_time\": true"},
        {{"meanflow", "edm", "v", {NULL}}, NULL, false, "tells the network the time of data, which the process edm has not"},
        {{"meanflow", "ddpm", "v", {"meanflow.guidance", "2", NULL}}, NULL, false, "guidance needs a null class"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w;
        rt_error got = {0};
        assert_int_not_equal(try_world(&w, &cases[i].spec, cases[i].net, !cases[i].no_data, &got), RT_OK);
        if (!strstr(got.text, cases[i].text)) fail_msg("'%s' instead of '%s'", got.text, cases[i].text);
        close_world(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(scm_losses), cmocka_unit_test(meanflow_losses), cmocka_unit_test(paths),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
