/* gan_objective.c -- the objectives of `dmd` and `dmd2` against their formulas written out in double, networks being black boxes and a critic's heads written
 * out: at the draws of a phase its loss, the step that it makes by central differences, who moves whom; where real samples come from; what a GAN that begins
 * later leaves alone; the GAN alone; what is refused. */
#include "objective_world.h"

#include "base/files.h"
#include "retort/format.h"
#include "retort/train.h"

enum { DATA = 48, STEPS = 8, PAIRS = 24, GROUPS = 32, WIDTH = 64 };

static char oracle_net[96], fake_net[96];
static rt_dataset *moons;
static rt_oracle *apart; /* two classes far apart */
static const double centres[2 * D] = {2, -2, -3, 1};

/* ---- a critic's heads, written out */

static const double *numbers(rt_params *set, const char *head, const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "%s.%s", head, name);
    int i = rt_params_find(set, path);
    if (i < 0) fail_msg("'%s' has no %s", rt_params_name(set), path);
    return (const double *)rt_params_data(set, RT_VALUE) + rt_params_entry(set, i)->offset;
}

/* weight . (mean over the pixels) + bias. */
static double linear_head(rt_params *set, const char *head, int channels, int pixels, const double *h)
{
    const double *weight = numbers(set, head, "weight");
    double sum = numbers(set, head, "bias")[0];
    for (int i = 0; i < channels * pixels; i++) sum += weight[i / pixels] * h[i] / pixels;
    return sum;
}

/* 3x3 to 64, group norm, SiLU, 1x1, mean. */
static double conv_head(rt_params *set, const char *head, int channels, int side, const double *h)
{
    static double u[WIDTH][PIXELS];
    const double *kernel = numbers(set, head, "conv1.weight"), *bias = numbers(set, head, "conv1.bias"),
                 *scale = numbers(set, head, "norm.weight"), *shift = numbers(set, head, "norm.bias"),
                 *weight = numbers(set, head, "conv2.weight");
    int pixels = side * side;
    for (int o = 0; o < WIDTH; o++)
        for (int p = 0; p < pixels; p++) {
            u[o][p] = bias[o];
            for (int c = 0; c < channels; c++)
                for (int k = 0; k < 9; k++) {
                    int row = p / side + k / 3 - 1, column = p % side + k % 3 - 1;
                    if (row < 0 || row >= side || column < 0 || column >= side) continue;
                    u[o][p] += kernel[(o * channels + c) * 9 + k] * h[c * pixels + row * side + column];
                }
        }
    double sum = numbers(set, head, "conv2.bias")[0];
    for (int g = 0; g < GROUPS; g++) {
        const int width = WIDTH / GROUPS;
        double mean = 0, square = 0;
        for (int i = 0; i < width * pixels; i++) mean += u[g * width + i / pixels][i % pixels] / (width * pixels);
        for (int i = 0; i < width * pixels; i++) square += pow(u[g * width + i / pixels][i % pixels] - mean, 2) / (width * pixels);
        for (int i = 0; i < width * pixels; i++) {
            int o = g * width + i / pixels;
            double v = (u[o][i % pixels] - mean) / sqrt(square + 1e-5) * scale[o] + shift[o];
            sum += weight[o] * v / (1 + exp(-v)) / pixels;
        }
    }
    return sum;
}

typedef struct heads {
    bool conv, all;
} heads;

/* The sum of what the heads say of one x at time i. */
static double logit_of(const world *w, heads of, const double *x, double i, int64_t label)
{
    rt_params *set = rt__network(&w->task, "score")->set;
    const rt_net *net = net_of(w, set);
    int n = rt_net_describe(net)->n_levels;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *xt, *t, *y, *levels[RT_NET_LEVELS];
    rt_program *p;
    double sum = 0;
    point_nodes(w, g, x, i, label, &xt, &t, &y);
    rt_net_levels(net, set, xt, t, y, levels);
    OK(rt_compile(&p, g, &(rt_program_spec){.outputs = levels, .n_outputs = n, .batch = 1, .threads = 1}, &err));
    OK(rt_run(p, &(rt_clock){0}, &err));
    for (int k = of.all ? 0 : n - 1; k < n; k++) {
        int channels = (int)rt_dim(levels[k], 1), side = rt_node_rank(levels[k]) == 4 ? (int)rt_dim(levels[k], 2) : 1;
        char name[32] = "head";
        if (k < n - 1) snprintf(name, sizeof name, "head.levels.%d", k);
        const double *h = rt_program_data(p, levels[k]);
        sum += of.conv ? conv_head(set, name, channels, side, h) : linear_head(set, name, channels, side * side, h);
    }
    rt_program_free(p);
    rt_graph_free(g);
    return sum;
}

static double softplus(double v) { return log1p(exp(-fabs(v))) + fmax(v, 0); }

/* A run's file of pairs belongs to its teacher. Teachers draw in float: where the task is in double the file is there, and its samples are any numbers. */
static void open_task(world *w, const world_spec *spec)
{
    char path[96];
    static float x[PAIRS * PIXELS];
    int64_t shape[] = {PAIRS, spec->net == picture_file ? PIXELS : D};
    snprintf(path, sizeof path, "%s/pairs.safetensors", folder);
    (void)unlink(path);
    for (int64_t i = 0; i < shape[0] * shape[1]; i++) x[i] = (float)sin((double)(i * i + 1));
    if (!spec->single) OK(rt_tensors_write(path, &(rt_named_tensor){"x", RT_F32, 2, shape, x}, 1, NULL, &err));
    open_world(w, spec);
}

/* ---- what a phase drew */

typedef struct noised {
    double t[B], eps[B * PIXELS];
} noised; /* of samples at times of their own */

typedef struct drawn {
    double z[B * PIXELS], r1[B * PIXELS], real[B * PIXELS], noise[B * PIXELS], loss;
    noised own, fake, of_real, gan;
    int64_t label[B], y[B];
} drawn;
static drawn d;

enum { MOST = 16 };
typedef struct wanted {
    int n;
    rt_node *nodes[MOST];
    void *to[MOST];
    size_t bytes[MOST];
} wanted;

static void want(wanted *a, rt_node *node, void *to, size_t bytes) { a->nodes[a->n] = node, a->to[a->n] = to, a->bytes[a->n++] = bytes; }

/* Times 1 .. n, or as a row of densities has them up to `latest`, that a draw picks from. */
static int even_times(const world *w, const char *density, double first, double latest, double *t)
{
    double all[4096], factor[4096];
    const rt_density *row = rt_density_find(density, &err);
    int n = rt_density_count(row, w->process), kept = 0;
    assert_true(n <= 4096);
    OK(rt_density_times(row, w->process, NULL, n, all, factor, &err));
    for (int i = 0; i < n; i++) {
        assert_true(factor[i] == 1 && all[i] == floor(all[i]));
        if (all[i] >= first && all[i] <= latest) t[kept++] = all[i];
    }
    return kept;
}

static void times_of(const double *t, const int64_t *k, double *out)
{
    for (int i = 0; i < B; i++) out[i] = t[k[i]];
}

/* The numbers of an input of a program in double, of which the source has filled the floats. */
static void widen(rt_phase *p, const char *name, int64_t n, double *out)
{
    void *data = rt__input_data(p, p->program, name);
    float *floats = malloc((size_t)n * sizeof *floats);
    if (!data) fail_msg("the phase '%s' has no input '%s'", p->plan->name, name);
    memcpy(floats, data, (size_t)n * sizeof *floats);
    for (int64_t i = 0; i < n; i++) out[i] = (double)floats[i];
    memcpy(data, out, (size_t)n * sizeof *out);
    free(floats);
}

typedef struct critic {
    const char *times;  /* vsd.score-times */
    double latest;      /* gan.t-max */
    const char *real;   /* the input that holds real samples; NULL: no GAN */
    int64_t run;        /* of the phase */
    double first, last; /* of the generator's own times */
    heads heads;
} critic;

static const double rate = 1.0 / 64;

/* Runs a phase once, its update with a rate of its own, SGD's, and reads what it drew and was given. */
static void run_phase(world *w, rt_phase *p, const critic *c)
{
    rt_graph *g = p->graph;
    int64_t f = w->task.features, k[4][B], one[] = {RT_BATCH};
    bool score = p == &w->round.phases[0];
    size_t bytes = (size_t)(B * f) * sizeof(double);
    double own[4096], critics[4096];
    int n_own = even_times(w, score ? c->times : "uniform", score ? 0 : c->first, score ? T : c->last, own),
        n = even_times(w, c->times, 0, c->latest * T, critics), usual = w->task.classes - (w->task.null_class >= 0);
    wanted a = {0};
    d = (drawn){0};
    want(&a, p->loss, &d.loss, sizeof d.loss);
    want(&a, rt_randn(g, "z", w->task.rank, w->task.shape), d.z, bytes);
    want(&a, rt_randn(g, "eps", w->task.rank, w->task.shape), d.own.eps, bytes);
    want(&a, rt_randint(g, "t", 1, one, n_own), k[0], sizeof k[0]);
    if (w->task.classes > 0) want(&a, rt_randint(g, "class", 1, one, usual), d.label, sizeof d.label);
    static const char *const names[] = {"fake", "real", "gan"};
    noised *const noises[] = {&d.fake, &d.of_real, &d.gan};
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "t.%s", names[i]);
        want(&a, rt_randint(g, name, 1, one, n), k[1 + i], sizeof k[0]);
        snprintf(name, sizeof name, "eps.%s", names[i]);
        want(&a, rt_randn(g, name, w->task.rank, w->task.shape), noises[i]->eps, bytes);
    }
    want(&a, rt_randn(g, "r1", w->task.rank, w->task.shape), d.r1, bytes);
    rt_program_free(p->program);
    rt_program_spec spec = {.outputs = a.nodes, .n_outputs = a.n, .updates = &p->update.node, .n_updates = 1, .batch = B, .threads = 1};
    OK(rt_compile(&p->program, g, &spec, &err));
    *(double *)rt_program_data(p->program, p->update.lr) = rate;
    if (p->run_number) *(double *)rt_program_data(p->program, p->run_number) = (double)c->run;
    OK(rt__fill_inputs(p, c->run, 0, B, p->program, &err));
    if (p->n_sources > 0) widen(p, c->real, B * f, d.real);
    if (p->n_sources > 0 && rt__input_data(p, p->program, "noise")) widen(p, "noise", B * f, d.noise);
    const void *y = rt__input_data(p, p->program, "y");
    if (y) memcpy(d.y, y, sizeof d.y);
    OK(rt_run(p->program, &(rt_clock){.seed = 11, .step = (uint32_t)c->run}, &err));
    for (int i = 0; i < a.n; i++) memcpy(a.to[i], rt_program_data(p->program, a.nodes[i]), a.bytes[i]);
    for (int i = 0; i < B; i++) d.label[i] += w->task.null_class >= 0 && d.label[i] >= w->task.null_class;
    times_of(own, k[0], d.own.t);
    for (int i = 0; i < 3; i++) times_of(critics, k[1 + i], noises[i]->t);
}

/* Sample i of x0 at a time of its own (1.12). */
static void noise(const world *w, const noised *n, const double *x0, int i, double *x)
{
    int64_t f = w->task.features;
    for (int64_t j = 0; j < f; j++) x[j] = alpha_of(n->t[i]) * x0[j] + beta_of(n->t[i]) * n->eps[i * f + j];
}

/* ---- sets */

typedef struct copy {
    rt_params *set;
    void *values;
    size_t bytes;
} copy;

static copy copy_of(const world *w, const char *network)
{
    rt_params *set = strcmp(network, "teacher") ? rt__network(&w->task, network)->set : w->teacher;
    copy c = {set, NULL, set ? (size_t)rt_params_extent(set, RT_VALUE) * rt_dtype_size(rt_params_dtype(set)) : 0};
    c.values = malloc(c.bytes + 1);
    if (set) memcpy(c.values, rt_params_data(set, RT_VALUE), c.bytes);
    return c;
}

static bool moved(const copy *c) { return c->set && memcmp(c->values, rt_params_data(c->set, RT_VALUE), c->bytes) != 0; }

/* Have all entries whose names begin so, of which there are some, moved, or none of them? */
static void moved_entries(const copy *c, const char *prefix, bool wanted_)
{
    int found = 0;
    size_t width = rt_dtype_size(rt_params_dtype(c->set));
    for (int i = 0; i < rt_params_entries(c->set); i++) {
        const rt_entry *e = rt_params_entry(c->set, i);
        if (strncmp(e->name, prefix, strlen(prefix)) != 0) continue;
        size_t at = (size_t)e->offset * width;
        bool has = memcmp((char *)c->values + at, (char *)rt_params_data(c->set, RT_VALUE) + at, (size_t)e->count * width) != 0;
        if (has != wanted_) fail_msg("%s: %s", e->name, has ? "it moved" : "it stands still");
        found++;
    }
    if (found == 0) fail_msg("nothing begins with '%s'", prefix);
}

/* ---- the score's phase */

/* |f_z - x0|^2 in the score's own output, over D, with the critic's loss; `matching` false: that alone. */
static double score_formula(world *w, const critic *c, double critic_weight, double r1, bool matching)
{
    rt_params *student = rt__network(&w->task, "student")->set, *score = rt__network(&w->task, "score")->set;
    int64_t f = w->task.features;
    double sum = 0;
    for (int i = 0; i < B; i++) {
        double x0[PIXELS], x[PIXELS], v[PIXELS], here = 0, t = d.own.t[i];
        x0_of(w, student, 0, d.z + i * f, T, d.label[i], x0);
        noise(w, &d.own, x0, i, x);
        ask(w, score, x, t, d.label[i], v);
        for (int64_t j = 0; j < f && matching; j++)
            here += pow(v[j] - (alpha_of(t) * d.own.eps[i * f + j] - beta_of(t) * x0[j]), 2) / (double)f;
        noise(w, &d.fake, x0, i, x);
        double critics = softplus(logit_of(w, c->heads, x, d.fake.t[i], d.label[i]));
        noise(w, &d.of_real, d.real + i * f, i, x);
        double real = logit_of(w, c->heads, x, d.of_real.t[i], d.y[i]);
        critics += softplus(-real);
        for (int64_t j = 0; j < f; j++) x[j] += 0.1 * d.r1[i * f + j];
        if (r1 > 0) critics += r1 * pow(real - logit_of(w, c->heads, x, d.of_real.t[i], d.y[i]), 2);
        sum += (here + critic_weight * critics) / B;
    }
    return sum;
}

/* No gradient of the loss leads to the network. */
static void does_not_reach(world *w, const char *network)
{
    rt_phase *p = &w->round.phases[0];
    rt_params *set = rt__network(&w->task, network)->set;
    for (int e = 0; e < rt_params_entries(set); e++) {
        const rt_entry *entry = rt_params_entry(set, e);
        rt_node *at = rt_param(p->graph, set, entry->name, entry->rank, entry->shape, entry->init), *slope;
        rt_program *program;
        rt_grad(p->loss, &at, 1, &slope);
        slope = rt_sum(rt_abs(slope), RT_ALL_AXES, false);
        OK(rt_compile(&program, p->graph, &(rt_program_spec){.outputs = &slope, .n_outputs = 1, .batch = B, .threads = 1}, &err));
        OK(rt_run(program, &(rt_clock){.seed = 11, .step = 3}, &err));
        if (*(double *)rt_program_data(program, slope) != 0) fail_msg("the score's loss reaches %s of %s", entry->name, network);
        rt_program_free(program);
    }
}

#define SGD "train.optimiser", "sgd", "train.beta1", "0", "train.ema", "0", "train.clip", "0"

static void check_score(const char *what, const world_spec *spec, const critic *c, double critic_weight, double r1, bool matching)
{
    world w;
    open_task(&w, spec);
    rt_phase *p = &w.round.phases[0];
    copy student = copy_of(&w, "student"), score = copy_of(&w, "score"), teacher = copy_of(&w, "teacher");
    assert_string_equal(p->plan->network, "score");
    run_phase(&w, p, c);
    assert_false(moved(&student) || moved(&teacher));
    moved_entries(&score, "head", true);
    const char *decoder = w.task.rank == 4 ? "conv_out" : "proj_out", *trunk = w.task.rank == 4 ? "conv_in" : "proj_in";
    moved_entries(&score, decoder, matching);
    moved_entries(&score, trunk, true);
    memcpy(rt_params_data(score.set, RT_VALUE), score.values, score.bytes); /* the formula is of the networks before the step */
    rt_params_touch(score.set);
    agree(d.loss, score_formula(&w, c, critic_weight, r1, matching), what);
    if (!spec->data && w.task.rank == 2) does_not_reach(&w, "student");
    free(student.values);
    free(score.values);
    free(teacher.values);
    close_world(&w);
}

static void score_objective(void **state)
{
    (void)state;
    check_score("score, data",
                &(world_spec){.method = "dmd2",
                              .net = net_file,
                              .classes = ROWS,
                              .null_class = NULL_CLASS,
                              .data = moons,
                              .keys = {SGD, "gan.critic-weight", "0.3"}},
                &(critic){.times = "uniform", .latest = 1, .real = "x0", .run = 3}, 0.3, 0, true);
    check_score("score, oracle, own times, r1",
                &(world_spec){.method = "dmd2",
                              .net = oracle_net,
                              .classes = 3,
                              .null_class = 2,
                              .oracle = apart,
                              .keys = {SGD, "vsd.fake-net", fake_net, "vsd.prediction", "v", "gan.critic-weight", "0.3", "gan.t-max", "0.5",
                                       "gan.r1", "0.7", "vsd.score-times", "logit-normal"}},
                &(critic){.times = "logit-normal", .latest = 0.5, .real = "x0", .run = 3}, 0.3, 0.7, true);
    check_score("score, teacher's samples, all levels",
                &(world_spec){.method = "dmd2",
                              .net = picture_file,
                              .keys = {SGD, "gan.critic-weight", "0.3", "gan.levels", "all", "dmd.pairs", "24", "dmd.teacher-steps", "8"}},
                &(critic){.times = "uniform", .latest = 1, .real = "sample", .run = 3, .heads = {true, true}}, 0.3, 0, true);
    check_score("score of sid beside a GAN",
                &(world_spec){.method = "sid",
                              .net = net_file,
                              .classes = ROWS,
                              .null_class = NULL_CLASS,
                              .data = moons,
                              .keys = {SGD, "sid.start-sigma", "0", "gan.weight", "0.4", "gan.critic-weight", "0.3"}},
                &(critic){.times = "uniform", .latest = 1, .real = "x0", .run = 3}, 0.3, 0, true);
    check_score("score of dmd with pairs and a GAN on them",
                &(world_spec){.method = "dmd",
                              .net = picture_file,
                              .keys = {SGD, "gan.weight", "0.4", "gan.critic-weight", "0.3", "gan.head", "linear", "dmd.pairs", "24",
                                       "dmd.teacher-steps", "8"}},
                &(critic){.times = "uniform", .latest = 1, .real = "sample", .run = 3}, 0.3, 0, true);
    check_score("the critic alone, linear head",
                &(world_spec){.method = "dmd2",
                              .net = picture_file,
                              .keys = {SGD, "dmd.weight", "0", "gan.critic-weight", "2", "gan.head", "linear", "gan.r1", "0.5", "dmd.pairs",
                                       "24", "dmd.teacher-steps", "8"}},
                &(critic){.times = "uniform", .latest = 1, .real = "sample", .run = 3}, 2, 0.5, false);
}

/* ---- the generator's phase */

typedef struct weights {
    double difference, gan, regression; /* dmd.weight, gan.weight from gan.start on, dmd.regression */
    bool normalised;
    double identity; /* sid.alpha; 0: no loss of SiD */
} weights;

/* b/(2D)|w (f_z - f_p)/n|^2, weight row snr, and c, its gradient in x0. */
static double pull(const world *w, const weights *of, int i, const double *x0, double *c)
{
    rt_params *score = rt__network(&w->task, "score")->set;
    int64_t f = w->task.features;
    double x[PIXELS], fz[PIXELS], fp[PIXELS], n = 0, sum = 0, t = d.own.t[i], weight = pow(alpha_of(t) / beta_of(t), 2);
    noise(w, &d.own, x0, i, x);
    x0_of(w, score, 0, x, t, d.label[i], fz);
    if (w->teacher)
        x0_of(w, w->teacher, 0, x, t, d.label[i], fp);
    else
        OK(rt_oracle_posterior_mean(rt_oracle_given(w->task.teacher.oracle, d.label[i]), alpha_of(t), beta_of(t), 1, x, fp, &err));
    for (int64_t j = 0; j < f; j++) n += fabs(x0[j] - fp[j]) / (double)f;
    for (int64_t j = 0; j < f; j++) {
        double g = weight * (fz[j] - fp[j]) / (of->normalised ? n : 1);
        c[j] = of->difference / (double)f * g;
        sum += of->difference / (double)(2 * f) * g * g;
    }
    return sum;
}

/* SiD's loss beside a GAN, whose gradient passes both networks: w (f_p - f_z)^T [(f_p - x0) - a (f_p - f_z)]/D, weight row snr. */
static double identity(const world *w, const weights *of, int i, const double *x0)
{
    int64_t f = w->task.features;
    double x[PIXELS], fz[PIXELS], fp[PIXELS], sum = 0, t = d.own.t[i], weight = pow(alpha_of(t) / beta_of(t), 2);
    noise(w, &d.own, x0, i, x);
    x0_of(w, rt__network(&w->task, "score")->set, 0, x, t, d.label[i], fz);
    x0_of(w, w->teacher, 0, x, t, d.label[i], fp);
    for (int64_t j = 0; j < f; j++) sum += weight * (fp[j] - fz[j]) * (fp[j] - x0[j] - of->identity * (fp[j] - fz[j])) / (double)f;
    return sum;
}

/* What the student moves, its pull replaced by c x0 where a slope is wanted: of samples that the generator makes, and of pairs. */
static double generator_formula(world *w, const critic *of_gan, const weights *of, double *c, bool value)
{
    rt_params *student = rt__network(&w->task, "student")->set;
    int64_t f = w->task.features;
    double sum = 0;
    for (int i = 0; i < B; i++) {
        double x0[PIXELS], x[PIXELS], here = 0;
        x0_of(w, student, 0, d.z + i * f, T, d.label[i], x0);
        if (value && of->difference > 0) here += pull(w, of, i, x0, c + i * f);
        for (int64_t j = 0; j < f && !value; j++) here += c[i * f + j] * x0[j];
        if (of->identity > 0) here += identity(w, of, i, x0);
        noise(w, &d.gan, x0, i, x);
        if (of->gan > 0) here += of->gan * softplus(-logit_of(w, of_gan->heads, x, d.gan.t[i], d.label[i]));
        if (of->regression > 0) x0_of(w, student, 0, d.noise + i * f, T, d.y[i], x0);
        for (int64_t j = 0; j < f && of->regression > 0; j++) here += of->regression / (double)f * pow(x0[j] - d.real[i * f + j], 2);
        sum += here / B;
    }
    return sum;
}

static void check_generator(const char *what, const world_spec *spec, const critic *c, const weights *of, const char *const *logged)
{
    static const char *const vectors[] = {"time_embedding.bias", "layers.1.linear_2.weight", "proj_out.weight", "class_embedding.weight"},
                             *const pictures[] = {"conv_in.weight", "mid_block.resnets.0.conv1.bias"};
    static double slope_of[B * PIXELS];
    world w;
    open_task(&w, spec);
    memset(slope_of, 0, sizeof slope_of);
    rt_phase *p = &w.round.phases[1];
    copy student = copy_of(&w, "student"), score = copy_of(&w, "score"), teacher = copy_of(&w, "teacher"), after;
    run_phase(&w, p, c);
    assert_false(moved(&score) || moved(&teacher));
    assert_true(moved(&student));
    after = copy_of(&w, "student");
    double *values = rt_params_data(student.set, RT_VALUE), *before = student.values;
    memcpy(values, before, student.bytes);
    rt_params_touch(student.set);
    agree(d.loss, generator_formula(&w, c, of, slope_of, true), what);
    int n = 0;
    for (; logged[n]; n++) {
        assert_true(n < p->n_logged);
        assert_string_equal(p->logged[n].name, logged[n]);
    }
    assert_int_equal(p->n_logged, n);
    for (int e = 0; e < (w.task.rank == 4 ? 2 : 4); e++) {
        const char *name = (w.task.rank == 4 ? pictures : vectors)[e];
        const rt_entry *entry = rt_params_entry(student.set, rt_params_find(student.set, name));
        double worst = 0, largest = 0;
        for (int64_t at = entry->offset; at < entry->offset + entry->count; at += 1 + entry->count / 3) {
            const double h = 1e-4;
            double side[2];
            for (int s = 0; s < 2; s++) {
                values[at] = before[at] + (s ? h : -h);
                rt_params_touch(student.set);
                side[s] = generator_formula(&w, c, of, slope_of, false);
            }
            values[at] = before[at];
            double slope = (side[1] - side[0]) / (2 * h);
            worst = fmax(worst, fabs((before[at] - ((double *)after.values)[at]) / rate - slope));
            largest = fmax(largest, fabs(slope));
        }
        print_message("%-34s %.3g of %.3g\n", name, worst, largest);
        if (!(worst <= TOL_VSD_GRADIENT * largest) || largest == 0) fail_msg("%s, %s: %g of %g", what, name, worst, largest);
    }
    free(student.values);
    free(score.values);
    free(teacher.values);
    free(after.values);
    close_world(&w);
}

static void generator_objective(void **state)
{
    (void)state;
    static const char *const both[] = {"gan_loss", "score_gap", "fake_lag", NULL}, *const difference[] = {"score_gap", "fake_lag", NULL};
#define MIDDLE .first = 2, .last = 62 /* times in 0.02 T = 1.3 .. 0.98 T = 62.7 */
    check_generator("generator of dmd2, vectors",
                    &(world_spec){.method = "dmd2",
                                  .net = net_file,
                                  .classes = ROWS,
                                  .null_class = NULL_CLASS,
                                  .data = moons,
                                  .keys = {SGD, "vsd.weight", "snr", "dmd.weight", "0.7", "gan.weight", "0.4", "gan.t-max", "0.75",
                                           "vsd.score-times", "logit-normal"}},
                    &(critic){.times = "logit-normal", .latest = 0.75, .run = 3, MIDDLE}, &(weights){0.7, 0.4, 0, false, 0}, both);
    check_generator("generator of dmd2, oracle",
                    &(world_spec){.method = "dmd2",
                                  .net = oracle_net,
                                  .classes = 3,
                                  .null_class = 2,
                                  .oracle = apart,
                                  .keys = {SGD, "vsd.weight", "snr", "vsd.fake-net", fake_net, "vsd.prediction", "v", "gan.weight", "0.4",
                                           "gan.start", "3"}},
                    &(critic){.times = "uniform", .latest = 1, .run = 3, MIDDLE}, &(weights){1, 0.4, 0, false, 0}, both);
    check_generator("before gan.start",
                    &(world_spec){.method = "dmd2",
                                  .net = net_file,
                                  .classes = ROWS,
                                  .null_class = NULL_CLASS,
                                  .data = moons,
                                  .keys = {SGD, "vsd.weight", "snr", "gan.weight", "0.4", "gan.start", "3"}},
                    &(critic){.times = "uniform", .latest = 1, .run = 2, MIDDLE}, &(weights){1, 0, 0, false, 0}, both);
    check_generator("generator of dmd2, pictures",
                    &(world_spec){.method = "dmd2",
                                  .net = picture_file,
                                  .keys = {SGD, "vsd.weight", "snr", "gan.weight", "0.4", "gan.levels", "all", "dmd.pairs", "24",
                                           "dmd.teacher-steps", "8"}},
                    &(critic){.times = "uniform", .latest = 1, .run = 3, MIDDLE, .heads = {true, true}}, &(weights){1, 0.4, 0, true, 0},
                    both);
    check_generator("the GAN alone",
                    &(world_spec){.method = "dmd2",
                                  .net = net_file,
                                  .classes = ROWS,
                                  .null_class = NULL_CLASS,
                                  .data = moons,
                                  .keys = {SGD, "dmd.weight", "0", "gan.weight", "0.4"}},
                    &(critic){.times = "uniform", .latest = 1, .run = 3, MIDDLE}, &(weights){0, 0.4, 0, false, 0},
                    (const char *[]){"gan_loss", NULL});
    check_generator("generator of dmd2 without a GAN",
                    &(world_spec){.method = "dmd2",
                                  .net = net_file,
                                  .classes = ROWS,
                                  .null_class = NULL_CLASS,
                                  .keys = {SGD, "vsd.weight", "snr", "gan.weight", "0"}},
                    &(critic){.times = "uniform", .latest = 1, .run = 3, MIDDLE}, &(weights){1, 0, 0, false, 0}, difference);
    check_generator("generator of dmd, pairs",
                    &(world_spec){.method = "dmd",
                                  .net = net_file,
                                  .classes = ROWS,
                                  .null_class = NULL_CLASS,
                                  .keys = {SGD, "vsd.weight", "snr", "dmd.weight", "0.7", "dmd.regression", "0.6", "dmd.pairs", "24",
                                           "dmd.teacher-steps", "8"}},
                    &(critic){.times = "uniform", .latest = 1, .real = "sample", .run = 3, MIDDLE}, &(weights){0.7, 0, 0.6, false, 0},
                    (const char *[]){"score_gap", "fake_lag", "regression", NULL});
    check_generator("generator of dmd, normalised",
                    &(world_spec){.method = "dmd", .net = picture_file, .keys = {SGD, "vsd.weight", "snr", "dmd.regression", "0"}},
                    &(critic){.times = "uniform", .latest = 1, .run = 3, MIDDLE}, &(weights){1, 0, 0, true, 0}, difference);
    check_generator("generator of dmd, pairs and a GAN",
                    &(world_spec){.method = "dmd",
                                  .net = net_file,
                                  .classes = ROWS,
                                  .null_class = NULL_CLASS,
                                  .data = moons,
                                  .keys = {SGD, "vsd.weight", "snr", "dmd.weight", "0.7", "dmd.regression", "0.6", "dmd.pairs", "24",
                                           "dmd.teacher-steps", "8", "gan.weight", "0.4"}},
                    &(critic){.times = "uniform", .latest = 1, .real = "sample", .run = 3, MIDDLE}, &(weights){0.7, 0.4, 0.6, false, 0},
                    (const char *[]){"gan_loss", "score_gap", "fake_lag", "regression", NULL});
    check_generator("generator of sid beside a GAN",
                    &(world_spec){.method = "sid",
                                  .net = net_file,
                                  .classes = ROWS,
                                  .null_class = NULL_CLASS,
                                  .data = moons,
                                  .keys = {SGD, "vsd.weight", "snr", "sid.start-sigma", "0", "sid.alpha", "0.75", "gan.weight", "0.4"}},
                    &(critic){.times = "uniform", .latest = 1, .run = 3, MIDDLE}, &(weights){0, 0.4, 0, false, 0.75},
                    (const char *[]){"score_gap", "fake_lag", "gan_loss", NULL});
    check_generator("the regression alone",
                    &(world_spec){.method = "dmd",
                                  .net = net_file,
                                  .classes = ROWS,
                                  .null_class = NULL_CLASS,
                                  .keys = {SGD, "dmd.weight", "0", "dmd.regression", "0.6", "dmd.pairs", "24", "dmd.teacher-steps", "8"}},
                    &(critic){.times = "uniform", .latest = 1, .real = "sample", .run = 3, MIDDLE}, &(weights){0, 0, 0.6, false, 0},
                    (const char *[]){"regression", NULL});
}

/* ---- real samples, and pairs */

/* The numbers of an input, filled for run u; in float. */
static const void *fill(rt_phase *p, int64_t u, const char *name)
{
    OK(rt__fill_inputs(p, u, 0, B, p->program, &err));
    return rt__input_data(p, p->program, name);
}

static void open_single(world *w, world_spec spec)
{
    spec.single = true;
    open_task(w, &spec);
    OK(rt__round_compile(&w->round, &err));
}

/* Each of the set once, with its label. */
static void real_samples_of_data(void **state)
{
    (void)state;
    world w;
    int seen[DATA] = {0};
    open_single(&w, (world_spec){.method = "dmd2", .net = net_file, .classes = ROWS, .null_class = NULL_CLASS, .data = moons});
    for (int64_t u = 0; u < DATA / B; u++) {
        const float *x = fill(&w.round.phases[0], u, "x0");
        const int64_t *y = fill(&w.round.phases[0], u, "y");
        for (int i = 0; i < B; i++)
            for (int k = 0; k < DATA; k++) {
                float row[D];
                int64_t label;
                rt_dataset_read(moons, k, row, &label);
                seen[k] += !memcmp(row, x + i * D, sizeof row) && label == y[i];
            }
    }
    for (int k = 0; k < DATA; k++) assert_int_equal(seen[k], 1);
    close_world(&w);
}

/* Of the classes in turn, each of its own part, other ones in every run. */
static void real_samples_of_an_oracle(void **state)
{
    (void)state;
    world w;
    float first[B * D];
    open_single(&w, (world_spec){.method = "dmd2",
                                 .net = oracle_net,
                                 .classes = 3,
                                 .null_class = 2,
                                 .oracle = apart,
                                 .keys = {"vsd.fake-net", fake_net, "vsd.score-warmup", "7", "vsd.score-updates", "3"}});
    const rt_phase_plan *score = w.round.phases[0].plan, *generator = w.round.phases[1].plan;
    assert_true(score->training.lr == 2 * generator->training.lr); /* of a fresh network */
    assert_int_equal(generator->first, 3);                         /* 9 updates of the score before, at least 7 */
    memcpy(first, fill(&w.round.phases[0], 4, "x0"), sizeof first);
    const float *x = fill(&w.round.phases[0], 5, "x0");
    const int64_t *y = fill(&w.round.phases[0], 5, "y");
    double mean[2 * D] = {0}, square[2] = {0};
    for (int i = 0; i < B; i++) {
        assert_int_equal(y[i], i % 2);
        for (int k = 0; k < B; k++) assert_memory_not_equal(x + i * D, first + k * D, D * sizeof *x);
        for (int k = 0; k < i; k++) assert_memory_not_equal(x + i * D, x + k * D, D * sizeof *x);
        for (int j = 0; j < D; j++) mean[y[i] * D + j] += (double)x[i * D + j] / (B / 2.0);
        for (int j = 0; j < D; j++) square[y[i]] += pow((double)x[i * D + j] - centres[y[i] * D + j], 2) / B;
    }
    for (int k = 0; k < 2; k++) {
        for (int j = 0; j < D; j++) assert_true(fabs(mean[k * D + j] - centres[k * D + j]) < 0.4); /* 0.2/sqrt(8) is 0.07 */
        assert_true(square[k] > 0.01 && square[k] < 0.12);                                         /* 0.04 */
    }
    close_world(&w);
}

/* The guided teacher's DDIM from a noise, in even steps. */
static void ddim(const world *w, double omega, const double *z, int64_t y, double *x)
{
    memcpy(x, z, D * sizeof *x);
    for (int k = 0; k < STEPS; k++) {
        double s = T * (STEPS - k) / STEPS, t = T * (STEPS - k - 1) / STEPS, x0[D];
        x0_of(w, w->teacher, omega, x, s, y, x0);
        for (int j = 0; j < D; j++) x[j] = alpha_of(t) * x0[j] + beta_of(t) * (x[j] - alpha_of(s) * x0[j]) / beta_of(s);
    }
}

static void pairs_of_the_teacher(void **state)
{
    (void)state;
    world w, wide; /* the same networks in double, to be asked */
    world_spec spec = {.method = "dmd",
                       .net = net_file,
                       .classes = ROWS,
                       .null_class = NULL_CLASS,
                       .keys = {"vsd.guidance", "1.5", "dmd.pairs", "24", "dmd.teacher-steps", "8", "gan.weight", "0.4"}};
    int classes[ROWS] = {0};
    open_task(&wide, &spec);
    open_single(&w, spec);
    const float *noises = fill(&w.round.phases[1], 3, "noise"), *samples = fill(&w.round.phases[1], 3, "sample");
    const int64_t *y = fill(&w.round.phases[1], 3, "y");
    for (int i = 0; i < B; i++) {
        double x[D];
        ddim(&wide, 1.5, (double[]){(double)noises[i * D], (double)noises[i * D + 1]}, y[i], x);
        for (int j = 0; j < D; j++)
            if (!(fabs(x[j] - (double)samples[i * D + j]) <= TOL_OBJECTIVE))
                fail_msg("pair %d: %g, the teacher makes %g", i, (double)samples[i * D + j], x[j]);
        classes[y[i]]++;
    }
    for (int k = 0; k < ROWS; k++) assert_true(k == NULL_CLASS ? classes[k] == 0 : classes[k] > 0);
    float ddims[B * D];
    memcpy(ddims, samples, sizeof ddims);
    close_world(&w);
    spec.keys[8] = "dmd.teacher-solver", spec.keys[9] = "heun";
    open_single(&w, spec);
    assert_memory_not_equal(fill(&w.round.phases[1], 3, "sample"), ddims, sizeof ddims);
    close_world(&wide);
    close_world(&w);
}

/* A critic's real ones are the samples of the run's file, each as often as another. */
static void real_samples_of_the_teacher(void **state)
{
    (void)state;
    world w;
    char path[96];
    rt_tensors *t;
    rt_tensor all;
    int seen[PAIRS] = {0};
    open_single(&w, (world_spec){.method = "dmd2",
                                 .net = net_file,
                                 .classes = ROWS,
                                 .null_class = NULL_CLASS,
                                 .keys = {"dmd.pairs", "24", "dmd.teacher-steps", "8"}});
    snprintf(path, sizeof path, "%s/pairs.safetensors", folder);
    OK(rt_tensors_open(&t, path, &err));
    OK(rt_tensors_read(t, rt_tensors_find(t, "x"), &all, &err));
    for (int64_t u = 0; u < 3; u++) {
        const float *x = fill(&w.round.phases[0], u, "sample");
        const int64_t *y = fill(&w.round.phases[0], u, "y");
        for (int i = 0; i < B; i++)
            for (int k = 0; k < PAIRS; k++)
                seen[k] += !memcmp((float *)all.data + k * D, x + i * D, D * sizeof *x) && y[i] == (int64_t[]){0, 2, 3}[k % 3];
    }
    for (int k = 0; k < PAIRS; k++) assert_int_equal(seen[k], 3 * B / PAIRS);
    rt_tensor_free(&all);
    rt_tensors_close(t);
    close_world(&w);
}

/* ---- several updates */

static void update(world *w, int64_t u) { OK(rt__round_update(&w->round, u, 8, "gan", u, &err)); }

static bool differ(world *a, world *b, const char *network)
{
    copy x = copy_of(a, network), y = copy_of(b, network);
    bool same = x.bytes == y.bytes && !memcmp(x.values, y.values, x.bytes);
    free(x.values);
    free(y.values);
    return !same;
}

/* Before gan.start the generator takes the steps that it takes while the GAN has no part, and the critic learns all along. */
static void begins_later(void **state)
{
    (void)state;
    world with, without;
    open_single(&with, (world_spec){.method = "dmd2",
                                    .net = net_file,
                                    .classes = ROWS,
                                    .null_class = NULL_CLASS,
                                    .data = moons,
                                    .keys = {"gan.weight", "0.4", "gan.start", "2", "vsd.score-updates", "2"}});
    open_single(&without, (world_spec){.method = "dmd2",
                                       .net = net_file,
                                       .classes = ROWS,
                                       .null_class = NULL_CLASS,
                                       .data = moons,
                                       .keys = {"gan.weight", "0.4", "gan.start", "1000", "vsd.score-updates", "2"}});
    for (int64_t u = 0; u < 3; u++) {
        update(&with, u);
        update(&without, u);
        assert_false(differ(&with, &without, "score"));
        assert_int_equal(differ(&with, &without, "student"), u == 2);
    }
    close_world(&with);
    close_world(&without);
}

static bool has_meter(const world *w, const char *name)
{
    for (int i = 0; i < w->task.plan.n_meters; i++)
        if (!strcmp(w->task.plan.meters[i]->name, name)) return true;
    return false;
}

/* Nobody asks the score network for a score: what lies behind the trunk stays, and no meter reads it. */
static void the_gan_alone(void **state)
{
    (void)state;
    for (int gan = 0; gan < 2; gan++) { /* a critic's accuracy is read where there is a critic */
        world w;
        open_single(&w, (world_spec){.method = "sid",
                                     .net = net_file,
                                     .classes = ROWS,
                                     .null_class = NULL_CLASS,
                                     .data = gan ? moons : NULL,
                                     .keys = {"gan.weight", gan ? "0.4" : "0"}});
        assert_int_equal(has_meter(&w, "critic_accuracy"), gan);
        close_world(&w);
    }
    for (int alone = 0; alone < 2; alone++) {
        world w;
        open_single(&w, (world_spec){.method = "dmd2",
                                     .net = picture_file,
                                     .keys = {"dmd.weight", alone ? "0" : "1", "gan.levels", "all", "dmd.pairs", "24", "dmd.teacher-steps",
                                              "8", "vsd.score-updates", "1", "backend", "reference"}});
        copy score = copy_of(&w, "score"), student = copy_of(&w, "student");
        for (int64_t u = 0; u < 2; u++) update(&w, u);
        static const char *const behind[] = {"up_blocks.0.resnets.0.conv1.weight", "conv_norm_out.weight", "conv_out.weight"},
                                 *const trunk[] = {
                                     "conv_in.weight",    "down_blocks.0.resnets.0.conv1.weight", "mid_block.resnets.0.conv1.weight",
                                     "head.conv1.weight", "head.levels.0.conv1.weight",           "head.levels.1.conv1.weight"};
        for (int i = 0; i < 3; i++) moved_entries(&score, behind[i], !alone);
        for (int i = 0; i < 6; i++) moved_entries(&score, trunk[i], true);
        assert_true(moved(&student));
        for (int i = 0; i < 3; i++) assert_int_equal(has_meter(&w, (const char *[]){"score_gap", "fake_lag", "score_loss"}[i]), !alone);
        assert_true(has_meter(&w, "critic_accuracy"));
        free(score.values);
        free(student.values);
        close_world(&w);
    }
}

/* ---- what is refused */

static rt_config config_of(const char *method, const char *const *keys)
{
    rt_config c;
    char path[128];
    OK(rt_config_method(&c, method, &err));
    snprintf(path, sizeof path, "%s/run", folder);
    OK(rt_config_set(&c, "out", path, &err));
    OK(rt_config_set(&c, "threads", "1", &err));
    for (; *keys; keys += 2) OK(rt_config_set(&c, keys[0], keys[1], &err));
    return c;
}

static void refusals(void **state)
{
    (void)state;
    char teacher[96], oracle[112], file[96];
    const char *text = "{\"kind\": \"gaussian\", \"means\": [[0.7, 0]], \"covariances\": [[[0.5, 0.1], [0.1, 0.25]]], "
                       "\"prediction\": \"x0\", \"scheduler\": {\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 64, "
                       "\"beta_schedule\": \"squaredcos_cap_v2\", \"clip_sample\": false, \"prediction_type\": \"sample\"}}";
    assert_int_equal(write_file(file, sizeof file, "gaussian.json", text), 0);
    snprintf(oracle, sizeof oracle, "oracle:%s", file);
    snprintf(teacher, sizeof teacher, "%s/teacher", folder);
    rt_config train = config_of("denoise", (const char *[]){"data.path", "toy:moons", "net", "tests/data/vectors.json", "train.updates",
                                                            "1", "train.warmup", "0", "out", teacher, NULL});
    OK(rt_run_train(&train, false, NULL, NULL, &err));
#define NETWORK "teacher", teacher
#define ORACLE  "teacher", oracle, "net", "tests/data/vectors.json", "vsd.fake-net", "tests/data/vectors.json"
    const struct {
        const char *method, *keys[12], *says;
    } refused[] = {
        {"dmd2", {NETWORK}, "there are none; give --data, or --pairs N"},
        {"dmd2", {NETWORK, "data.path", "toy:moons", "dmd.pairs", "64"}, "dmd.pairs: 64, but the critic's real samples come from the data"},
        {"dmd2", {ORACLE, "dmd.pairs", "64"}, "dmd.pairs: 64, but the critic's real samples come from the oracle's own draws"},
        {"dmd2", {ORACLE, "gan.start", "5", "dmd.weight", "0"}, "gan.start: 5, but dmd.weight is 0: the generator has no loss before"},
        {"dmd2", {ORACLE, "gan.weight", "0", "dmd.weight", "0"}, "dmd.regression and gan.weight are 0, too: the generator has no loss"},
        {"dmd2", {ORACLE, "gan.levels", "every"}, "gan.levels: 'every'; give deepest"},
        {"dmd2", {ORACLE, "gan.head", "pooled"}, "gan.head: 'pooled'; give conv"},
        {"dmd2", {ORACLE, "gan.t-max", "0"}, "there is no time up to 0 of the process; give more"},
        {"dmd2", {NETWORK, "dmd.pairs", "64", "dmd.teacher-solver", "ddpm"}, "dmd.teacher-solver: ddpm adds noise"},
        {"f", {NETWORK, "f.divergence", "pearson"}, "there are none; give --data, or --pairs N"},
        {"f", {ORACLE, "gan.t-max", "0.5"}, "gan.t-max: 0.5, but the critic is asked for the ratio at times up to vsd.t-max, 0.98"},
        {"f", {ORACLE, "f.form", "gan", "f.ratio", "exact"}, "f.form: gan, but f.ratio is exact; a game needs its critic"},
        {"renyi", {ORACLE, "gan.t-max", "0.5"}, "gan.t-max: 0.5, but the critic is asked for the ratio at times up to vsd.t-max, 0.98"},
        {"renyi", {NETWORK, "data.path", "toy:moons", "dmd.pairs", "64"}, "come from the data; leave it out"},
        {"dmd", {NETWORK, "dmd.weight", "0", "dmd.regression", "0"}, "dmd.regression and gan.weight are 0, too: the generator has no loss"},
        {"dmd", {NETWORK, "dmd.regression", "0", "dmd.pairs", "64"}, "dmd.pairs: 64, but nobody asks for samples of the teacher"},
        {"dmd", {NETWORK, "data.path", "toy:moons"}, "data that nobody asks for, as there is no critic"},
        {"sid", {NETWORK, "data.path", "toy:moons"}, "data that nobody asks for, as there is no critic"},
        {"sid", {NETWORK, "gan.weight", "1"}, "there are none; give --data, or --pairs N"},
        {"dmd", {NETWORK, "vsd.steps", "2"}, "pairs say where one step from noise ends, and the student has 2"},
        {"dmd", {NETWORK, "dmd.teacher-solver", "dim"}, "dmd.teacher-solver"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        rt_config c = config_of(refused[i].method, refused[i].keys);
        err = (rt_error){0};
        rt_status s = rt_run_train(&c, false, NULL, NULL, &err);
        if (s != RT_E_USAGE || !strstr(err.text, refused[i].says))
            fail_msg("%zu: status %d, '%s' does not say '%s'", i, (int)s, err.text, refused[i].says);
        if (access(c.out, F_OK) == 0) fail_msg("%zu: %s was begun", i, c.out);
    }
}

static int open_all(void **state)
{
    (void)state;
    static const char text[] = "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": %d, \"layers\": 2, \"num_class_embeds\": 3}";
    char one[160], other[160];
    rt_process_spec spec = rt_process_defaults("ddpm");
    rt_process *process;
    const double weights_[] = {0.5, 0.5}, covariances[] = {0.04, 0, 0, 0.04, 0.04, 0, 0, 0.04};
    const int64_t labels[] = {0, 1};
    snprintf(one, sizeof one, text, 24);
    snprintf(other, sizeof other, text, 20);
    if (make_world_folder("gan") != 0 || write_file(oracle_net, sizeof oracle_net, "oracle_net.json", one) != 0 ||
        write_file(fake_net, sizeof fake_net, "fake_net.json", other) != 0)
        return -1;
    if (rt_dataset_open(&moons, "toy:moons", &err) != RT_OK || rt_dataset_limit(moons, DATA, &err) != RT_OK) return -1;
    if (rt_process_new(&process, &spec, &err) != RT_OK) return -1;
    *state = process;
    if (rt_oracle_mixture(&apart, 2, D, weights_, centres, covariances, process, rt_prediction_find("x0", &err), &err) != RT_OK) return -1;
    return rt_oracle_set_classes(apart, labels, &err) == RT_OK ? 0 : -1;
}

static int close_all(void **state)
{
    rt_oracle_free(apart);
    rt_process_free(*state);
    rt_dataset_free(moons);
    return remove_folder(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(real_samples_of_data),
                                       cmocka_unit_test(real_samples_of_an_oracle),
                                       cmocka_unit_test(real_samples_of_the_teacher),
                                       cmocka_unit_test(pairs_of_the_teacher),
                                       cmocka_unit_test(begins_later),
                                       cmocka_unit_test(refusals),
                                       cmocka_unit_test(score_objective),
                                       cmocka_unit_test(generator_objective),
                                       cmocka_unit_test(the_gan_alone)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
