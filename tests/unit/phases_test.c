/* phases_test.c -- networks and phases by their lists, on a game of two networks of one number each:
 *
 *     rival   b, two runs in every update            b <- b - 0.1 * 2 (b - a) = a + 0.8 (b - a)
 *     player  a, one run in every fifth update, from update 3 on, after the rival      a <- a - 0.05 b
 *
 * Its course is known in closed form; stopped at any update and resumed it ends in the same bits; phases draw noise of their own; one learns from data,
 * another does not. */
#include "distill/sources.h"
#include "train/run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { UPDATES = 20, PERIOD = 5, LATE = 3 };

static rt_error err;
static char base[64];
static rt_optimiser chosen; /* whose kind both networks have */
static int player_stream;
static double steep; /* the player's loss is multiplied by it */
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

/* ---- the game as a method */

static rt_status declare(rt_params *set, double start, rt_error *error)
{
    int index;
    return rt_params_add(set, "value", 1, (int64_t[]){1}, RT_INIT_CONST(start), &index, error);
}
static rt_status declare_a(const rt_task *t, rt_params *set, rt_error *error) { return (void)t, declare(set, 1, error); }
static rt_status declare_b(const rt_task *t, rt_params *set, rt_error *error) { return (void)t, declare(set, 0, error); }

static rt_node *value_of(rt_phase *p, const char *network)
{
    return rt_param(p->graph, rt__network(p->round->task, network)->set, "value", 1, (int64_t[]){1}, RT_INIT_CONST(0));
}

static rt_node *noise_of(rt_phase *p) { return rt_expect(rt_sum(rt_randn(p->graph, "eps", 2, (int64_t[]){RT_BATCH, 2}), 2, false)); }

static rt_status rival_build(rt_phase *p, rt_error *error)
{
    (void)error;
    rt_node *loss = rt_sum(rt_square(rt_sub(value_of(p, "rival"), value_of(p, "player"))), 1, false);
    rt__log(p, "noise", noise_of(p));
    rt__minimise(p, loss);
    return RT_OK;
}

static rt_status player_build(rt_phase *p, rt_error *error)
{
    const rt_task *t = p->round->task;
    rt_node *loss = rt_scale(rt_sum(rt_mul(value_of(p, "player"), value_of(p, "rival")), 1, false), steep);
    rt__log(p, "noise", noise_of(p));
    if (t->data) { /* the mean of the data, which a loss may have anything to do with */
        rt_node *x = rt_input(p->graph, "x0", RT_F32, 2, (int64_t[]){RT_BATCH, 2});
        p->inputs[p->n_inputs].name = "x0";
        p->inputs[p->n_inputs++].node = x;
        rt__log(p, "data", rt_expect(rt_sum(x, 2, false)));
    }
    rt__minimise(p, loss);
    return t->data ? rt__source_data(p, error) : RT_OK;
}

static rt_status game_plan(const rt_task *t, rt_plan *plan, rt_error *error)
{
    (void)error;
    plan->n_rounds = 2;
    rt__plan_network(plan, (rt_network_plan){.name = "player",
                                             .kind = RT_NETWORK_DECLARED,
                                             .trained = true,
                                             .averaged = t->config->train.ema > 0,
                                             .deployed = true,
                                             .follows = "player",
                                             .declare = declare_a});
    rt__plan_network(plan, (rt_network_plan){.name = "rival", .kind = RT_NETWORK_DECLARED, .trained = true, .declare = declare_b});
    rt_phase_plan *rival = rt__plan_phase(plan, t, "follow", "rival", rival_build);
    rival->runs = 2;
    rival->training.lr = 0.1;
    rt_phase_plan *player = rt__plan_phase(plan, t, "flee", "player", player_build);
    player->period = PERIOD;
    player->first = LATE;
    player->training.lr = 0.05;
    player->stream = player_stream;
    rival->training.optimiser.kind = player->training.optimiser.kind = chosen.kind;
    return RT_OK;
}

static const rt_method game = {.name = "game", .plan = game_plan};

static void configure(rt_config *c, const char *name)
{
    rt_config_default(c);
    snprintf(c->out, sizeof c->out, "%s/%s", base, name);
    c->threads = 1;
    c->train.batch = 4;
    c->train.beta1 = chosen.kind == RT_SGD ? 0 : 0.9;
    c->train.clip = 0;
    c->train.warmup = 0;
    c->train.updates[0] = UPDATES;
    strcpy(c->train.lr_schedule, "constant");
}

static void open_game(rt__run *run, const rt_config *c, const rt_dataset *data)
{
    *run = (rt__run){.config = c, .lock = -1};
    run->task = (rt_task){.method = &game, .config = c, .null_class = -1, .data = data};
    OK(rt__task_open(&run->task, &err));
}

static float value(const rt__run *run, const char *network)
{
    return *(const float *)rt_params_data(rt__network(&run->task, network)->set, RT_VALUE);
}

/* Plays until update `to` of the two rounds together. */
static void play(rt__run *run, int64_t to)
{
    while (run->at.updates < to) {
        OK(rt__run_open_round(run, &err));
        for (; run->at.updates < to && run->at.in_round < UPDATES; run->at.in_round++, run->at.updates++)
            OK(rt__round_update(&run->round, run->at.in_round, UPDATES, "game", run->at.updates, &err));
        rt__round_close(&run->round);
        if (run->at.in_round < UPDATES) return;
        OK(rt__task_succeed(&run->task, &err));
        run->at.round++;
        run->at.in_round = 0;
    }
}

/* ---- tests */

/* b is a (1 - 0.8^8) when the player first moves, at update 3; then a stands for ten runs of the rival at a time. */
static void the_course_is_known(void **state)
{
    (void)state;
    chosen.kind = RT_SGD, player_stream = 1, steep = 1;
    rt_config c;
    rt__run run;
    configure(&c, "course");
    open_game(&run, &c, NULL);
    play(&run, LATE);
    assert_true(value(&run, "player") == 1);
    assert_true(fabs(value(&run, "rival") - 0.737856) < 1e-6); /* 1 - 0.8^6 */
    play(&run, LATE + 1);
    assert_true(fabs(value(&run, "rival") - 0.83222784) < 1e-6); /* 1 - 0.8^8 */
    assert_true(fabs(value(&run, "player") - 0.958388608) < 1e-6);
    play(&run, LATE + PERIOD);
    assert_true(fabs(value(&run, "player") - 0.958388608) < 1e-6);
    assert_true(fabs(value(&run, "rival") - (0.958388608 + 0.16777216 * (0.83222784 - 0.958388608))) < 1e-6); /* 0.8^8 of the way */
    play(&run, LATE + PERIOD + 1);
    double b = 0.958388608 + 0.1073741824 * (0.83222784 - 0.958388608); /* 0.8^10 */
    assert_true(fabs(value(&run, "rival") - b) < 1e-6);
    assert_true(fabs(value(&run, "player") - (0.958388608 - 0.05 * b)) < 1e-6);
    rt__run_close(&run);
    const rt_phase_plan late = {.runs = 2, .period = 5, .first = 3};
    static const int runs[] = {0, 0, 0, 2, 0, 0, 0, 0, 2, 0}, before[] = {0, 0, 0, 0, 2, 2, 2, 2, 2, 4};
    const rt_phase_plan later = {.period = 2, .first = 9};
    for (int u = 0; u <= 9; u++) assert_int_equal(rt__phase_runs_before(&later, u), 0);
    assert_int_equal(rt__phase_runs_before(&later, 12), 2); /* 9 and 11 */
    for (int u = 0; u < 10; u++) {
        assert_int_equal(rt__phase_runs(&late, u), runs[u]);
        assert_int_equal(rt__phase_runs_before(&late, u), before[u]);
    }
}

/* Adam's powers count the runs of the phase: gradients -2 and -1.8 in the two runs of update 0, moments -0.2, -0.36 and 0.04, 0.072. */
static void decays_count_runs(void **state)
{
    (void)state;
    chosen.kind = RT_ADAM, player_stream = 1, steep = 1;
    rt_config c;
    rt__run run;
    configure(&c, "adam");
    open_game(&run, &c, NULL);
    play(&run, 1);
    double second = (0.36 / (1 - 0.81)) / sqrt(0.072 / (1 - 0.9801));
    assert_true(fabs(value(&run, "rival") - (0.1 + 0.1 * second)) < 1e-6);
    rt__run_close(&run);
}

static void same_sets(const rt__run *a, const rt__run *b)
{
    for (int i = 0; i < a->task.plan.n_networks; i++)
        for (rt_role role = RT_VALUE; role < RT_ROLES; role++) {
            rt_params *x = a->task.networks[i].set, *y = b->task.networks[i].set;
            assert_int_equal(rt_params_has(x, role), rt_params_has(y, role));
            if (rt_params_has(x, role))
                assert_memory_equal(rt_params_data(x, role), rt_params_data(y, role), (size_t)rt_params_extent(x, role) * sizeof(float));
        }
}

/* With Adam and an average: every value, moment and average of both networks, over two rounds. */
static void stopped_anywhere_it_goes_on(void **state)
{
    (void)state;
    chosen.kind = RT_ADAM, player_stream = 1, steep = 1;
    rt_config c, parts;
    rt__run whole, first, second;
    configure(&c, "whole");
    configure(&parts, "parts");
    c.train.ema = parts.train.ema = 0.9;
    open_game(&whole, &c, NULL);
    play(&whole, 2 * UPDATES);
    for (int stop = 1; stop < 2 * UPDATES; stop++) {
        open_game(&first, &parts, NULL);
        play(&first, stop);
        OK(rt__checkpoint_write(&first, &err));
        rt__run_close(&first);
        open_game(&second, &parts, NULL);
        OK(rt__checkpoint_read(&second, &err));
        assert_int_equal(second.at.updates, stop);
        play(&second, 2 * UPDATES);
        same_sets(&whole, &second);
        rt__run_close(&second);
    }
    assert_true(value(&whole, "player") != 1 && value(&whole, "rival") != 0);
    rt__run_close(&whole);
}

/* The player's first run and the rival's first have equal clocks: equal draws in one stream, others in two. */
static void streams_differ(void **state)
{
    (void)state;
    chosen.kind = RT_SGD, steep = 1;
    double noise[2][2];
    for (player_stream = 0; player_stream < 2; player_stream++) {
        rt_config c;
        rt__run run;
        configure(&c, "streams");
        open_game(&run, &c, NULL);
        OK(rt__run_open_round(&run, &err));
        rt_phase *p = run.round.phases;
        assert_ptr_equal(rt__main_phase(&run.round), &p[1]);
        for (int u = 0; u <= LATE; u++) {
            if (u < LATE) assert_true(isnan(p[1].last_loss));
            OK(rt__round_update(&run.round, u, UPDATES, "game", u, &err));
            if (u == 0) noise[player_stream][0] = p[0].last_logged[0];
        }
        noise[player_stream][1] = p[1].last_logged[0];
        rt__run_close(&run);
    }
    /* run 0 of the rival is followed by run 1 within update 0, so its last is of clock 1; the player's is of clock 0 */
    assert_true(noise[0][0] == noise[1][0]);
    assert_true(noise[0][1] != noise[1][1]);
}

static void data_beside_none(void **state)
{
    (void)state;
    chosen.kind = RT_SGD, player_stream = 1, steep = 1;
    rt_config c;
    rt__run with, without;
    rt_dataset *data;
    OK(rt_dataset_open(&data, "toy:moons", &err));
    configure(&c, "data");
    open_game(&with, &c, data);
    open_game(&without, &c, NULL);
    OK(rt__run_open_round(&with, &err));
    for (int u = 0; u <= LATE; u++) OK(rt__round_update(&with.round, u, UPDATES, "game", u, &err));
    const rt_phase *p = &with.round.phases[1];
    double sum = 0;
    for (int j = 0; j < c.train.batch; j++) { /* the first batch of the phase's own stream */
        float x[2];
        int64_t n = rt_dataset_describe(data)->count;
        rt_dataset_read(data, rt_permute_index(rt__stream_seed(p), 0, n, j), x, NULL);
        sum += ((double)x[0] + (double)x[1]) / c.train.batch;
    }
    assert_true(p->n_logged == 2 && fabs(p->last_logged[1] - sum) < 1e-6);
    play(&without, LATE + 1);
    assert_true(value(&with, "player") == value(&without, "player"));
    rt__run_close(&with);
    rt__run_close(&without);
    rt_dataset_free(data);
}

static void divergence_names_the_phase(void **state)
{
    (void)state;
    chosen.kind = RT_SGD, player_stream = 1, steep = INFINITY;
    rt_config c;
    rt__run run;
    configure(&c, "diverged");
    open_game(&run, &c, NULL);
    OK(rt__run_open_round(&run, &err));
    for (int u = 0; u < LATE; u++) OK(rt__round_update(&run.round, u, UPDATES, "game", u, &err));
    err = (rt_error){0};
    assert_int_equal(rt__round_update(&run.round, LATE, UPDATES, "game", LATE, &err), RT_E_DIVERGED);
    assert_non_null(strstr(err.text, "phase 'flee'"));
    rt__run_close(&run);
}

static int make_base(void **state)
{
    (void)state;
    strcpy(base, "/tmp/retort-phases-XXXXXX");
    return mkdtemp(base) ? 0 : -1;
}

static int remove_base(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_course_is_known), cmocka_unit_test(decays_count_runs), cmocka_unit_test(stopped_anywhere_it_goes_on),
        cmocka_unit_test(streams_differ),      cmocka_unit_test(data_beside_none),  cmocka_unit_test(divergence_names_the_phase)};
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
