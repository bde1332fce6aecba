/* alternation.c -- Algorithm 1, run as training runs it: `vsd` with an affine generator and an affine auxiliary score on a mixture, against both steps written out. */
#include "verify/density_ratios.h"
#include "verify/small_run.h"

#include "base/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UPDATES = 4, SCORE_UPDATES = 2, BATCH = 16 };
static const double rate = 0.05, score_rate = 0.02;

typedef struct game {
    char folder[RT__FOLDER];
    rt_config config;
    rt_task task;
    rt_round round;
    rt_net *net;
    rt_oracle *oracle;
    rt_process *process;
    double *times; /* all that are drawn, rising, each as likely */
    int n_times;
} game;

static rt_status open_game(game *g, rt__witness *w)
{
    rt_error *err = &w->err;
    char path[RT__FOLDER + 16];
    RT_TRY(rt__small_net("{\"_class_name\": \"RetortAffine\", \"data_dim\": 1, \"times\": [0]}", g->folder, &g->net, err));
    snprintf(path, sizeof path, "%s/config.json", g->folder);
    const char *const keys[] = {"out",
                                g->folder,
                                "vsd.fake-net",
                                path,
                                "vsd.fake-prediction",
                                "x0",
                                "vsd.score-weight",
                                "uniform-x0",
                                "vsd.weight",
                                "alpha2",
                                "vsd.score-updates",
                                "2",
                                "vsd.score-lr",
                                "0.02",
                                "train.lr",
                                "0.05",
                                "train.lr-schedule",
                                "constant",
                                "train.warmup",
                                "0",
                                "train.optimiser",
                                "sgd",
                                "train.ema",
                                "0",
                                "train.batch",
                                "16",
                                "threads",
                                "1"};
    RT_TRY(rt_config_method(&g->config, "vsd", err));
    for (size_t i = 0; i < RT_COUNT(keys); i += 2) RT_TRY(rt_config_set(&g->config, keys[i], keys[i + 1], err));
    rt_process_spec spec = rt_process_defaults("trig");
    RT_TRY(rt_process_new(&g->process, &spec, err));
    g->oracle = rt__exact_oracle(w, g->process, "x0");
    if (!g->oracle) return err->status;
    const rt_density *even = rt_density_find("uniform", err);
    g->n_times = rt_density_count(even, g->process);
    g->times = malloc((size_t)(2 * g->n_times) * sizeof *g->times);
    if (!g->times) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", g->n_times);
    RT_TRY(rt_density_times(even, g->process, NULL, g->n_times, g->times, g->times + g->n_times, err));
    g->task = (rt_task){.method = rt__method_find("vsd"),
                        .config = &g->config,
                        .process = g->process,
                        .net = g->net,
                        .null_class = -1,
                        .real = RT_F64,
                        .teacher = {.oracle = g->oracle, .prediction = rt_prediction_find("x0", err)}};
    RT_TRY(rt__task_open(&g->task, err));
    RT_TRY(rt__round_open(&g->round, &g->task, 0, err));
    return rt__round_compile(&g->round, err);
}

static void close_game(game *g)
{
    rt__round_close(&g->round);
    rt__task_close(&g->task);
    rt_net_free(g->net);
    rt_oracle_free(g->oracle);
    rt_process_free(g->process);
    free(g->times);
    rt__small_folder_remove(g->folder);
}

/* x0 = map[0] x + map[1], of a network of the game. */
static void read_map(const game *g, const char *network, double map[2])
{
    rt_params *set = rt__network(&g->task, network)->set;
    const double *values = rt_params_data(set, RT_VALUE);
    map[0] = values[rt_params_entry(set, rt_params_find(set, "weight"))->offset];
    map[1] = values[rt_params_entry(set, rt_params_find(set, "bias"))->offset];
}

/* Run `run` of a phase, at the noises and times that it draws, of those in [low, high]: (1.17), in x0, moves the score's map, (1.18) the generator's. */
static rt_status step(const game *g, const rt_phase *p, int64_t run, double low, double high, double *generator, double *score,
                      bool moves_score, rt_error *err)
{
    int first = 0, used = 0;
    while (g->times[first] < low) first++;
    while (first + used < g->n_times && g->times[first + used] <= high) used++;
    const int64_t rows[] = {RT_BATCH, 1};
    rt_graph *graph = rt_graph_new(RT_F64);
    if (!graph) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    rt_node *drawn[] = {rt_randn(graph, "z", 2, rows), rt_randn(graph, "eps", 2, rows), rt_randint(graph, "t", 1, rows, used)};
    rt_program *program = NULL;
    rt_clock clock = rt__phase_clock(p, run);
    rt_status status = rt_compile(&program, graph, &(rt_program_spec){.outputs = drawn, .n_outputs = 3, .batch = BATCH, .threads = 1}, err);
    if (status == RT_OK) status = rt_run(program, &clock, err);
    double by_slope = 0, by_shift = 0;
    for (int i = 0; status == RT_OK && i < BATCH; i++) {
        double z = ((const double *)rt_program_data(program, drawn[0]))[i], eps = ((const double *)rt_program_data(program, drawn[1]))[i];
        double t = g->times[first + ((const int64_t *)rt_program_data(program, drawn[2]))[i]], alpha = cos(M_PI / 2 * t),
               beta = sin(M_PI / 2 * t);
        double x0 = generator[0] * z + generator[1], x = alpha * x0 + beta * eps, x0_score = score[0] * x + score[1];
        double s = (alpha * x0_score - x) / (beta * beta), given = -eps / beta,
               s_teacher = (alpha * rt__exact_mean(alpha, beta, x) - x) / (beta * beta);
        /* d/ds_zeta of beta^4/alpha^2 |s - given|^2 and ds/dx0; omega alpha (s - s_teacher) with omega = beta^2 */
        double slope =
            moves_score ? pow(beta, 4) / (alpha * alpha) * 2 * (s - given) * alpha / (beta * beta) : beta * beta * alpha * (s - s_teacher);
        by_slope += slope * (moves_score ? x : z) / BATCH;
        by_shift += slope / BATCH;
    }
    double *moved = moves_score ? score : generator, by = moves_score ? score_rate : rate;
    moved[0] -= by * by_slope;
    moved[1] -= by * by_shift;
    rt_program_free(program);
    rt_graph_free(graph);
    return status;
}

double rt__algorithm_1(rt__witness *w)
{
    game g = {.n_times = 0};
    double generator[2], score[2], begin[4], got[4], worst = 0;
    rt_status status = open_game(&g, w);
    if (status == RT_OK) {
        read_map(&g, "student", generator), read_map(&g, "score", score);
        memcpy(begin, (double[]){generator[0], generator[1], score[0], score[1]}, sizeof begin);
    }
    for (int u = 0; u < UPDATES && status == RT_OK; u++) {
        status = rt__round_update(&g.round, u, UPDATES, "Algorithm 1", u, &w->err);
        for (int k = 0; k < SCORE_UPDATES && status == RT_OK; k++)
            status = step(&g, &g.round.phases[0], u * SCORE_UPDATES + k, 0, 1, generator, score, true, &w->err);
        if (status == RT_OK) status = step(&g, &g.round.phases[1], u, 0.02, 0.98, generator, score, false, &w->err);
        if (status != RT_OK) break;
        read_map(&g, "student", got), read_map(&g, "score", got + 2);
        for (int i = 0; i < 4; i++) {
            double want = i < 2 ? generator[i] : score[i - 2];
            worst = rt__worse(worst, fabs(got[i] - want) / fabs(want - begin[i]));
        }
    }
    close_game(&g);
    return status == RT_OK ? worst : NAN;
}
