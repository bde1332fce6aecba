/* objective_world.h -- for tests of what training runs: a task of tiny networks in double with the phases of its round, and answers of the networks as black
 * boxes, of which formulas are made. Constants of the process by their definition. */
#ifndef RETORT_TESTS_OBJECTIVE_WORLD_H
#define RETORT_TESTS_OBJECTIVE_WORLD_H

#include "distill/sources.h"

#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { B = 16, D = 2, T = 64, ROWS = 4, NULL_CLASS = 1, SIDE = 8, PIXELS = SIDE * SIDE, TEACHER_SEED = 6 };

static rt_error err;
static char folder[64], net_file[96], picture_file[96];
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

/* A network as the teacher, drawn, or an oracle; then the student starts as the network's draws do, too. */
typedef struct world_spec {
    const char *method, *net;
    int classes, null_class; /* 0: there are none */
    rt_oracle *oracle;
    rt_dataset *data;
    const char *keys[24];
    bool single; /* in float */
} world_spec;

typedef struct world {
    rt_config config;
    rt_task task;
    rt_round round;
    rt_net *net;
    rt_params *teacher; /* NULL: an oracle is */
    rt_process *process;
    rt_program *program;
} world;

static inline rt_process *process_of_world(void)
{
    rt_process *p;
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = T;
    spec.betas = "squaredcos_cap_v2";
    OK(rt_process_new(&p, &spec, &err));
    return p;
}

static inline void open_world(world *w, const world_spec *s)
{
    *w = (world){0};
    OK(rt_config_method(&w->config, s->method, &err));
    OK(rt_config_set(&w->config, "out", folder, &err));
    OK(rt_config_set(&w->config, "threads", "1", &err));
    OK(rt_config_set(&w->config, "train.batch", "16", &err));
    for (const char *const *keys = s->keys; *keys; keys += 2) OK(rt_config_set(&w->config, keys[0], keys[1], &err));
    OK(rt_net_open(&w->net, s->net, &err));
    rt_dtype real = s->single ? RT_F32 : RT_F64;
    w->process = process_of_world();
    w->task = (rt_task){.method = rt__method_find(s->method),
                        .config = &w->config,
                        .process = w->process,
                        .classes = s->classes,
                        .null_class = s->classes > 0 ? s->null_class : -1,
                        .data = s->data,
                        .real = real};
    if (s->oracle) {
        w->task.teacher = (rt_denoiser){.oracle = s->oracle, .prediction = rt_prediction_find("x0", &err)};
        w->task.net = w->net;
    } else {
        w->teacher = rt_params_new("teacher", real);
        OK(rt_net_declare(w->net, w->teacher, &err));
        OK(rt_params_init(w->teacher, TEACHER_SEED, &err));
        w->task.teacher = (rt_denoiser){.net = w->net, .set = w->teacher, .prediction = rt_prediction_find("v", &err)};
    }
    OK(rt__task_open(&w->task, &err));
    OK(rt_params_init(rt__network(&w->task, "student")->set, 5, &err));
    rt_network *score = rt__network(&w->task, "score"); /* of the family of vsd */
    if (score) OK(rt_params_init(score->set, 7, &err));
    OK(rt__round_open(&w->round, &w->task, 0, &err));
    assert_int_equal(w->round.n_phases, score ? 2 : 1);
}

static inline void close_world(world *w)
{
    rt_program_free(w->program);
    rt__round_close(&w->round);
    rt__task_close(&w->task);
    rt_params_free(w->teacher);
    rt_net_free(w->net);
    rt_process_free(w->process);
}

static inline double alpha_of(double i) /* squaredcos_cap_v2 from its definition; time i is diffusers' i - 1 */
{
    double product = 1;
    for (int k = 0; k < (int)i; k++) {
        double a = cos(((k + 1.0) / T + 0.008) / 1.008 * M_PI / 2), b = cos(((double)k / T + 0.008) / 1.008 * M_PI / 2);
        product *= 1 - fmin(1 - a * a / (b * b), 0.999);
    }
    return sqrt(product);
}
static inline double beta_of(double i) { return sqrt(1 - alpha_of(i) * alpha_of(i)); }

/* The architecture of a set: a network's of the task, or the teacher's. */
static inline const rt_net *net_of(const world *w, const rt_params *set)
{
    for (int i = 0; i < w->task.plan.n_networks; i++)
        if (w->task.networks[i].set == set) return w->task.networks[i].denoiser.net;
    return w->net;
}

/* Nodes for one point x at time i, as a network is told it; *y NULL without classes. */
static inline void point_nodes(const world *w, rt_graph *g, const double *x, double i, int64_t label, rt_node **xt, rt_node **t,
                               rt_node **y)
{
    int64_t shape[RT_MAX_RANK];
    memcpy(shape, w->task.shape, sizeof shape);
    shape[0] = 1;
    *xt = rt_reals(g, w->task.rank, shape, x);
    *t = rt_reals(g, 1, (int64_t[]){1}, &(double){i - 1});
    *y = w->task.classes > 0 ? rt_const(g, RT_I64, 1, (int64_t[]){1}, &label) : NULL;
}

/* The raw output at one point. */
static inline void ask(const world *w, rt_params *set, const double *x, double i, int64_t label, double *out)
{
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *xt, *t, *y;
    point_nodes(w, g, x, i, label, &xt, &t, &y);
    rt_node *o = rt_net_apply(net_of(w, set), set, xt, t, y);
    rt_program *p;
    OK(rt_compile(&p, g, &(rt_program_spec){.outputs = &o, .n_outputs = 1, .batch = 1, .threads = 1}, &err));
    OK(rt_run(p, &(rt_clock){0}, &err));
    memcpy(out, rt_program_data(p, o), (size_t)w->task.features * sizeof *out);
    rt_program_free(p);
    rt_graph_free(g);
}

/* x0 from v, guided (1.39). */
static inline void x0_of(const world *w, rt_params *set, double omega, const double *x, double i, int64_t y, double *x0)
{
    double v[PIXELS], un[PIXELS];
    ask(w, set, x, i, y, v);
    if (omega != 0) ask(w, set, x, i, w->task.null_class, un);
    for (int64_t j = 0; j < w->task.features; j++) {
        x0[j] = alpha_of(i) * x[j] - beta_of(i) * v[j];
        if (omega != 0) x0[j] = (1 + omega) * x0[j] - omega * (alpha_of(i) * x[j] - beta_of(i) * un[j]);
    }
}

static inline void agree(double got, double want, const char *what)
{
    print_message("%-34s %.12g, %.12g\n", what, got, want);
    if (!(fabs(got - want) <= TOL_VSD * fabs(want)) || want == 0) fail_msg("%s: %.12g, the equations give %.12g", what, got, want);
}

/* ---- files */

static inline int write_file(char *path, size_t size, const char *name, const char *text)
{
    snprintf(path, size, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0) return -1;
    return fclose(f);
}

/* `folder`, with net_file (vectors, classes) and picture_file (two levels, no classes). */
static inline int make_world_folder(const char *name)
{
    char text[512];
    snprintf(folder, sizeof folder, "/tmp/retort-%s-XXXXXX", name);
    if (!mkdtemp(folder)) return -1;
    snprintf(text, sizeof text,
             "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 24, \"layers\": 2, \"num_class_embeds\": %d}", ROWS);
    if (write_file(net_file, sizeof net_file, "net.json", text) != 0) return -1;
    snprintf(
        text, sizeof text,
        "{\"_class_name\": \"UNet2DModel\", \"sample_size\": %d, \"in_channels\": 1, \"out_channels\": 1, \"block_out_channels\": [4, 6], "
        "\"down_block_types\": [\"DownBlock2D\", \"DownBlock2D\"], \"up_block_types\": [\"UpBlock2D\", \"UpBlock2D\"], "
        "\"layers_per_block\": 1, \"norm_num_groups\": 2, \"attention_head_dim\": 2}",
        SIDE);
    return write_file(picture_file, sizeof picture_file, "pictures.json", text);
}

static inline int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

#endif
