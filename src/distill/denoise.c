/* denoise.c -- training a diffusion model from data: the teacher of everything else. Denoising regression whose optimum is (1.2). */
#include "distill/sources.h"

#include "base/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct denoise_settings {
    struct { /* of the model; one that is distilled keeps its teacher's */
        char process[32], beta_schedule[32], prediction[32];
        int64_t timesteps;
        double beta_start, beta_end;
    } diffusion;
    double class_drop;     /* probability that a label is replaced by the null class */
    double view_drop;      /* and that the words of a view are left out, for each group of them */
    char time_density[32]; /* a row of `retort list densities` */
} denoise_settings;
_Static_assert(sizeof(denoise_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT denoise_settings
static const rt_config_key keys[] = {
    RT__TEXT("diffusion.process", diffusion.process, "ddpm", "NAME", "how data becomes noise: row of `retort list processes`"),
    RT__TEXT("diffusion.beta-schedule", diffusion.beta_schedule, "squaredcos_cap_v2", "NAME",
             "of a discrete process, as diffusers names it"),
    RT__TEXT("diffusion.prediction", diffusion.prediction, "v", "NAME", "what the network predicts: row of `retort list predictions`"),
    RT__INT64("diffusion.timesteps", diffusion.timesteps, 1, 1e6, "1024", "T of a discrete process"),
    RT__REAL("diffusion.beta-start", diffusion.beta_start, 0, 1, "0.0001", "first beta"),
    RT__REAL("diffusion.beta-end", diffusion.beta_end, 0, 1, "0.02", "last beta"),
    RT__REAL("diffusion.class-drop", class_drop, 0, 1, "0.1", "probability of the null class in training"),
    RT__REAL("diffusion.view-drop", view_drop, 0, 1, "0.2",
             "of networks that are told words: probability that a prompt's words of a view are left out, for each of the groups of words "
             "that '_words' lists"),
    RT__TEXT("train.time-density", time_density, "uniform", "NAME", "how often a time is drawn: row of `retort list densities`"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

static rt_status denoise_process(const rt_config *c, rt_scheduler_config *scheduler, rt_error *err)
{
    const denoise_settings *s = rt__own(c);
    rt_process_spec spec = rt_process_defaults(s->diffusion.process);
    spec.timesteps = s->diffusion.timesteps;
    spec.betas = s->diffusion.beta_schedule;
    spec.beta_start = s->diffusion.beta_start;
    spec.beta_end = s->diffusion.beta_end;
    const rt_prediction *prediction = rt_prediction_find(s->diffusion.prediction, err);
    bool flow = !strcmp(spec.name, "flow");
    if (!flow && strcmp(spec.name, "ddpm"))
        RT_RAISE(RT_E_USAGE,
                 "diffusion.process: %s; train takes ddpm and flow, which diffusers can load (a cosine schedule is --beta-schedule "
                 "squaredcos_cap_v2)",
                 spec.name);
    if (prediction && flow != !strcmp(rt_prediction_name(prediction), "velocity"))
        RT_RAISE(RT_E_USAGE, "diffusion.prediction: %s, but the process is %s; give --prediction %s", rt_prediction_name(prediction),
                 spec.name, flow ? "velocity" : "v, epsilon or x0");
    return prediction ? rt_scheduler_config_from(scheduler, &spec, prediction, err) : RT_E_USAGE;
}

/* `uniform` leaves the mean square of the network's own output as it is. */
static bool own_output(const rt_config *c) { return !strcmp(c->train.weight, "uniform"); }

static const rt_weight *find_weight(const rt_config *c, const rt_prediction *prediction, rt_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "uniform-%s", rt_prediction_name(prediction));
    return rt_weight_find(own_output(c) ? name : c->train.weight, err);
}

/* Tokens (B,L) without the words of some views. */
static rt_node *drop_views(const rt_phase *p, const rt_words *words, rt_node *tokens, double rate)
{
    int64_t rows = rt_words_count(words) + 1, L = rt_words_length(words);
    rt_graph *g = p->graph;
    double *among = calloc((size_t)rows, sizeof *among);
    if (!among) return rt_fail(g, "out of memory for %lld words", (long long)rows);
    for (int k = 0; k < rt_words_groups(words); k++) {
        char name[32];
        for (int token = 0; token < rows; token++) among[token] = rt_words_group(words, token) == k;
        snprintf(name, sizeof name, "view drop %d", k);
        rt_node *is = rt_reshape(rt_embedding(rt_reals(g, 2, (int64_t[]){rows, 1}, among), tokens), 2, (int64_t[]){RT_BATCH, L});
        rt_node *drop = rt_cast(rt_less(rt_rand(g, name, 2, (int64_t[]){RT_BATCH, 1}), rt_scalar(g, rate)), rt_graph_real(g));
        tokens = rt_where(rt_less(rt_scalar(g, 0), rt_mul(is, drop)), rt_const(g, RT_I64, 0, NULL, &(int64_t){0}), tokens);
    }
    free(among);
    return tokens;
}

static rt_status denoise_build(rt_phase *p, rt_error *err)
{
    const rt_task *task = p->round->task;
    const denoise_settings *s = rt__own(task->config);
    const rt_denoiser *model = &p->network->denoiser;
    const rt_process *process = task->process;
    rt_graph *g = p->graph;
    bool raw = own_output(task->config), even = raw;
    const rt_weight *weight = find_weight(task->config, model->prediction, err);
    const rt_density *density = rt_density_find(s->time_density, err);
    int n = rt_density_count(density, process);
    double *times = calloc((size_t)(2 * n), sizeof *times), *w = times + n;
    if (!times) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", n);
    rt_status status = rt_density_times(density, process, weight, n, times, w, err);
    for (int i = 0; i < n; i++) {
        if (!raw) w[i] *= rt_weight_at(weight, process, times[i], 0);
        even = even && w[i] == 1;
    }

    rt_node *x0 = rt__input_x(p, "x0"), *y = rt__input_y(p), *label = y;
    rt_node *eps = rt_randn(g, "eps", task->rank, task->shape), *k = rt_randint(g, "t", 1, (int64_t[]){RT_BATCH}, n);
    rt_at t = rt__at(p, times, n, 1, k);
    rt_node *xt = rt_diffuse(x0, t.alpha, t.beta, eps);
    const rt_words *words = task->words;
    if (words) label = drop_views(p, words, y, s->view_drop);
    if (y && task->null_class >= 0 && s->class_drop > 0) { /* classifier-free guidance needs the unconditional model, too */
        rt_node *drop = rt_less(rt_rand(g, "drop", words ? 2 : 1, (int64_t[]){RT_BATCH, 1}), rt_scalar(g, s->class_drop));
        label = rt_where(drop, rt_const(g, RT_I64, 0, NULL, &(int64_t){task->null_class}), label);
    }
    rt_node *loss = raw ? rt__mean_square(task, rt_net_apply(model->net, model->set, xt, t.network, label),
                                          rt_predict_from(model->prediction, x0, eps, t.alpha, t.beta))
                        : rt__mean_square(task, rt__denoise(model, xt, NULL, t, label), x0);
    if (!even) loss = rt_mul(rt_reshape(rt__pick(p, w, n, k), 1, (int64_t[]){RT_BATCH}), loss);
    rt__minimise(p, rt_expect(loss));
    free(times);
    return status == RT_OK ? rt__source_data(p, err) : status;
}

static rt_status denoise_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const denoise_settings *s = rt__own(t->config);
    if (!t->process) RT_RAISE(RT_E_USAGE, "%s: a classifier is no denoiser; train it with --objective classify", t->config->net);
    const rt_prediction *prediction = rt_prediction_find(s->diffusion.prediction, err);
    if (!prediction || !find_weight(t->config, prediction, err) || !rt_density_find(s->time_density, err)) return RT_E_USAGE;
    plan->n_rounds = 1;
    rt__plan_network(plan, (rt_network_plan){.name = "model",
                                             .kind = RT_NETWORK_NET,
                                             .start = RT_START_SEED,
                                             .trained = true,
                                             .averaged = t->config->train.ema > 0,
                                             .deployed = true,
                                             .prediction = prediction});
    rt__plan_phase(plan, t, "denoise", "model", denoise_build);
    return RT_OK;
}

static const char *const denoise_defaults[] = {
    "train.batch", "64",    "train.lr",     "0.001",   "train.lr-schedule", "cosine", "train.warmup", "200", "train.beta2", "0.99",
    "train.ema",   "0.999", "train.weight", "uniform", "train.updates",     "30000",  "train.clip",   "1",   NULL};

const rt_method rt__method_denoise = {
    .name = "denoise",
    .title = "train a diffusion or flow model from data",
    .source = "Ho et al. 2020; Salimans & Ho 2022 (v)",
    .equation = "(1.1)-(1.3)",
    .needs_data = true,
    .reads = RT_READS_DATA | RT_READS_WEIGHT,
    .settings = groups,
    .defaults = denoise_defaults,
    .process = denoise_process,
    .plan = denoise_plan,
};
