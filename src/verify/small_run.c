/* small_run.c -- see small_run.h. */
#include "verify/small_run.h"

#include "base/internal.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

rt_status rt__small_net(const char *text, char folder[RT__FOLDER], rt_net **net, rt_error *err)
{
    const char *root = getenv("TMPDIR");
    snprintf(folder, RT__FOLDER, "%s/retort-verify-XXXXXX", root && *root ? root : "/tmp");
    if (!mkdtemp(folder)) {
        rt_error_set(err, RT_E_IO, "%s: %s; set TMPDIR to a folder that can be written", folder, strerror(errno));
        *folder = 0;
        return RT_E_IO;
    }
    char path[RT__FOLDER + 16];
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "w");
    if (!f) RT_RAISE(RT_E_IO, "%s: %s", path, strerror(errno));
    fputs(text, f);
    if (fclose(f) != 0) RT_RAISE(RT_E_IO, "%s: %s", path, strerror(errno));
    return rt_net_open(net, path, err);
}

static rt_status make_network(rt__small_run *r, rt_error *err)
{
    char text[128];
    snprintf(text, sizeof text,
             "{\"_class_name\": \"RetortMLP\", \"data_dim\": %d, \"hidden\": 24, \"layers\": 2, \"num_class_embeds\": %d}", RT__WIDTH,
             RT__CLASSES);
    RT_TRY(rt__small_net(text, r->folder, &r->net, err));
    r->teacher = rt_params_new("teacher", RT_F32);
    if (!r->teacher) RT_RAISE(RT_E_MEMORY, "out of memory for a network");
    RT_TRY(rt_net_declare(r->net, r->teacher, err));
    return rt_params_init(r->teacher, 6, err);
}

static rt_status configure(rt__small_run *r, const char *method, const char *const *keys, rt_error *err)
{
    RT_TRY(rt_config_method(&r->config, method, err));
    RT_TRY(rt_config_set(&r->config, "out", r->folder, err));
    RT_TRY(rt_config_set(&r->config, "train.batch", "8", err));
    RT_TRY(rt_config_set(&r->config, "threads", "1", err));
    for (; *keys; keys += 2) RT_TRY(rt_config_set(&r->config, keys[0], keys[1], err));
    rt_process_spec spec = rt_process_defaults("trig");
    RT_TRY(rt_process_new(&r->process, &spec, err));
    return rt_dataset_open(&r->data, "toy:moons", err);
}

/* By the way that runs go; the student then gets weights of its own. */
static rt_status build(rt__small_run *r, const char *method, rt_error *err)
{
    r->task = (rt_task){.method = rt__method_find(method),
                        .config = &r->config,
                        .process = r->process,
                        .teacher = {.net = r->net, .set = r->teacher, .prediction = rt_prediction_find("v", err)},
                        .classes = RT__CLASSES,
                        .null_class = RT__CLASSES - 1,
                        .data = *r->config.data.path ? r->data : NULL};
    RT_TRY(rt__task_open(&r->task, err));
    RT_TRY(rt_params_init(rt__deployed(&r->task)->set, 5, err));
    RT_TRY(rt__round_open(&r->round, &r->task, 0, err));
    r->phase = &r->round.phases[0];
    return RT_OK;
}

void rt__small_run_open(rt__small_run *r, const char *method, const char *const *keys, rt_error *err)
{
    *r = (rt__small_run){.err = err};
    if (make_network(r, err) == RT_OK && configure(r, method, keys, err) == RT_OK) build(r, method, err);
}

void rt__small_run_phase(rt__small_run *r, const char *name)
{
    for (int i = 0; i < r->round.n_phases; i++)
        if (!strcmp(r->round.phases[i].plan->name, name)) r->phase = &r->round.phases[i];
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status, (void)kind, (void)at;
    return remove(path);
}

void rt__small_folder_remove(const char *folder)
{
    if (*folder) nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void rt__small_run_close(rt__small_run *r)
{
    rt_program_free(r->program);
    rt__round_close(&r->round);
    rt__task_close(&r->task);
    rt_params_free(r->teacher);
    rt_net_free(r->net);
    rt_process_free(r->process);
    rt_dataset_free(r->data);
    rt__small_folder_remove(r->folder);
}

double rt__small_run_loss(rt__small_run *r, rt_node *const *more, int n)
{
    enum { MOST = 6, UPDATE = 3 };
    if (r->err->status != RT_OK) return NAN;
    rt_node *outputs[1 + MOST] = {r->phase->loss};
    for (int i = 0; i < n; i++) outputs[1 + i] = more[i];
    rt_program_spec spec = {.outputs = outputs, .n_outputs = 1 + n, .batch = RT__BATCH, .threads = 1};
    if (rt_compile(&r->program, r->phase->graph, &spec, r->err) != RT_OK) return NAN;
    if (rt__fill_inputs(r->phase, UPDATE, 0, RT__BATCH, r->program, r->err) != RT_OK) return NAN;
    if (rt_run(r->program, &(rt_clock){.seed = 11, .step = UPDATE}, r->err) != RT_OK) return NAN;
    return (double)*(const float *)rt_program_data(r->program, r->phase->loss);
}

const void *rt__small_run_data(rt__small_run *r, const rt_node *node) { return r->program ? rt_program_data(r->program, node) : NULL; }

const void *rt__small_run_input(rt__small_run *r, const char *name)
{
    return r->program ? rt__input_data(r->phase, r->program, name) : NULL;
}

const rt_denoiser *rt__small_run_network(const rt__small_run *r, const char *name) { return &rt__network(&r->task, name)->denoiser; }

/* The raw output of one row. */
static rt_status ask(rt__small_run *r, rt_params *set, double network_time, const double *x, int64_t y, double *out)
{
    rt_graph *g = rt_graph_new(RT_F32);
    if (!g) return rt_error_set(r->err, RT_E_MEMORY, "out of memory for a graph");
    rt_node *xn = rt_reals(g, 2, (int64_t[]){1, RT__WIDTH}, x), *tn = rt_reals(g, 1, (int64_t[]){1}, &network_time),
            *yn = rt_const(g, RT_I64, 1, (int64_t[]){1}, &y), *o = rt_net_apply(r->net, set, xn, tn, yn);
    rt_program *p = NULL;
    rt_program_spec spec = {.outputs = &o, .n_outputs = 1, .batch = 1, .threads = 1, .backend = rt_backend_find("reference")};
    rt_status status = rt_compile(&p, g, &spec, r->err);
    if (status == RT_OK) status = rt_run(p, &(rt_clock){0}, r->err);
    for (int j = 0; status == RT_OK && j < RT__WIDTH; j++) out[j] = (double)((const float *)rt_program_data(p, o))[j];
    rt_program_free(p);
    rt_graph_free(g);
    return status;
}

void rt__small_run_denoise(rt__small_run *r, const rt_denoiser *m, double t, const double *x, int64_t y, double *x0)
{
    double alpha = cos(M_PI / 2 * t), beta = sin(M_PI / 2 * t), v[RT__WIDTH] = {NAN, NAN}, un[RT__WIDTH] = {NAN, NAN};
    ask(r, m->set, 1000 * t, x, y, v);
    if (m->guidance != 0) ask(r, m->set, 1000 * t, x, RT__CLASSES - 1, un);
    for (int j = 0; j < RT__WIDTH; j++) {
        x0[j] = alpha * x[j] - beta * v[j];
        if (m->guidance != 0) x0[j] = (1 + m->guidance) * x0[j] - m->guidance * (alpha * x[j] - beta * un[j]);
    }
}

void rt__small_run_roll(rt__small_run *r, const rt_denoiser *m, double s, double t, int N, double *x, int64_t y)
{
    for (int k = 0; k < N; k++) {
        double from = s + (t - s) * k / N, to = s + (t - s) * (k + 1) / N, x0[RT__WIDTH];
        rt__small_run_denoise(r, m, from, x, y, x0);
        double alpha_s = cos(M_PI / 2 * from), beta_s = sin(M_PI / 2 * from), alpha_t = cos(M_PI / 2 * to), beta_t = sin(M_PI / 2 * to);
        for (int j = 0; j < RT__WIDTH; j++)
            x[j] = beta_t / beta_s * x[j] + alpha_s * (alpha_t / alpha_s - beta_t / beta_s) * x0[j]; /* cos(pi/2) is 6e-17, not 0 */
    }
}
