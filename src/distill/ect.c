/* ect.c -- consistency training: from data, without asking a teacher. ct (Song et al. 2023) starts from draws, ect (Geng et al. 2024) from the teacher's weights.
 *
 *     min  E |f_theta(x_s, s) - sg f_theta(x_t, t)| / (sigma_s - sigma_t),   f(x, 0) = x,   sigma = beta/alpha
 *
 * x_s and x_t are one example with one noise at two times, log sigma_s ~ N(mean, deviation^2), and t follows s ever closer:
 *
 *     sigma_t = max(0, sigma_s (1 - (1 + 8 sigmoid(-sigma_s)) / q^(k+1))),   k one more after every `ect.every` updates
 *
 * so that at first most t are 0, where the loss is that of a diffusion model, and in the end the two are neighbours. The distance is Huber's of the whole
 * sample, sqrt(|.|^2 + c^2) - c. The target is the student as it stands, constant. */
#include "distill/consistency.h"
#include "distill/sources.h"
#include "distill/velocity.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct ect_settings {
    double q, mean, deviation, huber;
    int64_t every;
    int steps;           /* of the student */
    char prediction[32]; /* of the student; empty: the teacher's */
} ect_settings;
_Static_assert(sizeof(ect_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT ect_settings
static const rt_config_key keys[] = {
    RT__REAL("ect.q", q, 1.001, 1e6, "2", "the gap between the two times is about 1/q^(k+1) of the noise"),
    RT__INT64("ect.every", every, 1, 1e12, "2500", "updates after which k rises by one"),
    RT__REAL("ect.mean", mean, -20, 20, "-1.1", "mean of log(beta/alpha), at which the student is trained"),
    RT__REAL("ect.deviation", deviation, 0.001, 20, "2", "deviation of log(beta/alpha)"),
    RT__REAL("ect.huber", huber, 1e-9, 1e6, "0.001", "c of the distance sqrt(|.|^2 + c^2) - c"),
    RT__INT("ect.steps", steps, 1, RT_RECIPE_STEPS, "1", "steps of the student, at even times; several add noise again between"),
    RT__TEXT("ect.prediction", prediction, "", "NAME", "of the student; empty: the teacher's"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

enum { TIMES = 1024, MOST_STAGES = 24 }; /* quantiles that are drawn; values of k */
static const double closest = 1e6;       /* q^(k+1) of the last stage at most */

static double sigma_of(const rt_process *p, double t) { return rt_process_beta(p, t) / rt_process_alpha(p, t); }

/* The time of noise sigma; whole, from 1 on, where the process is discrete. */
static double time_of(const rt_process *p, double sigma)
{
    double t = rt_process_time(p, -2 * log(sigma)), T = rt_process_discrete_steps(p);
    return T > 0 ? fmin(fmax(floor(t + 0.5), 1), T) : t;
}

/* t of stage k for s; below s. */
static double time_before(const rt_process *p, const ect_settings *own, double s, int k)
{
    double sigma = sigma_of(p, s), to = sigma * (1 - (1 + 8 / (1 + exp(sigma))) / pow(own->q, k + 1));
    if (!(to > 0)) return 0;
    double t = time_of(p, to);
    return rt_process_discrete_steps(p) ? fmin(t, s - 1) : t;
}

static int stages(const ect_settings *own)
{
    int k = 1;
    while (k < MOST_STAGES && pow(own->q, k + 1) <= closest) k++;
    return k;
}

/* Times s[TIMES]; t, whether that is data, and 1/(sigma_s - sigma_t) of every stage and s [stages][TIMES]. At data, where nothing is asked, s stands for t. */
static void tabulate(const rt_process *p, const ect_settings *own, double *s, double *t, double *data, double *w)
{
    for (int i = 0; i < TIMES; i++) s[i] = time_of(p, exp(own->mean + own->deviation * rt__normal_quantile(i, TIMES)));
    for (int k = 0; k < stages(own); k++)
        for (int i = 0; i < TIMES; i++) {
            int at = k * TIMES + i;
            t[at] = time_before(p, own, s[i], k);
            w[at] = 1 / (sigma_of(p, s[i]) - (t[at] > 0 ? sigma_of(p, t[at]) : 0));
            data[at] = t[at] == 0;
            if (t[at] == 0) t[at] = s[i];
        }
}

static rt_status ect_build(rt_phase *p, rt_error *err)
{
    const rt_task *task = p->round->task;
    const ect_settings *own = rt__own(task->config);
    const rt_denoiser *student = rt__denoiser(p, "student");
    rt_graph *g = p->graph;
    rt_dtype real = rt_graph_real(g);
    const int64_t each[] = {RT_BATCH};
    int K = stages(own), n = K * TIMES;
    double *s = malloc((size_t)(TIMES + 3 * n) * sizeof *s);
    if (!s) RT_RAISE(RT_E_MEMORY, "out of memory for %d pairs of times", n);
    double *t = s + TIMES, *data = t + n, *w = data + n;
    tabulate(task->process, own, s, t, data, w);

    rt_node *k = rt_minimum(rt_scale(rt_offset(rt__run_number(p), 0.5), 1.0 / (double)own->every),
                            rt_scalar(g, K - 0.5)); /* and a part of the next */
    rt_node *stage = rt_broadcast(rt_cast(rt_cast(k, RT_I64), real), 1, each), *m = rt_randint(g, "t", 1, each, TIMES);
    rt_node *at = rt_cast(rt_add(rt_cast(m, real), rt_scale(stage, TIMES)), RT_I64);
    rt_node *x0 = rt__input_x(p, "x0"), *y = rt__input_y(p), *eps = rt_randn(g, "eps", task->rank, task->shape);
    rt_at here = rt__at(p, s, TIMES, 1, m), there = rt__at(p, t, n, 1, at);
    rt_node *f = rt__denoise(student, rt_diffuse(x0, here.alpha, here.beta, eps), NULL, here, y);
    rt_node *ahead = rt__denoise(student, rt_diffuse(x0, there.alpha, there.beta, eps), NULL, there, y);
    rt_node *target = rt__consistency_target(ahead, x0, rt_reshape(rt__pick(p, data, n, at), 1, each)); /* x_t is x0 at data */
    rt__minimise(p, rt_expect(rt_mul(rt_reshape(rt__pick(p, w, n, at), 1, each), rt__huber_sample(f, target, own->huber))));
    free(s);
    return rt__source_data(p, err);
}

static rt_status ect_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const ect_settings *own = rt__own(t->config);
    const rt_prediction *prediction = *own->prediction ? rt_prediction_find(own->prediction, err) : t->teacher.prediction;
    const rt_solver *solver = rt_solver_find(own->steps > 1 ? "renoise" : "ddim", err);
    if (!prediction) return RT_E_USAGE;
    RT_TRY(rt__consistency_plan_steps(plan, "ect.steps", own->steps, own->steps, err));
    rt_network_plan *student = rt__plan_student(plan, t);
    student->prediction = prediction;
    student->solver = solver;
    if (!strcmp(t->method->name, "ct")) student->start = RT_START_SEED;
    rt__plan_phase(plan, t, "consist", "student", ect_build);
    return RT_OK;
}

static const char *const ect_defaults[] = {"train.batch",     "128",   "train.lr",    "0.0001", "train.lr-schedule", "constant",
                                           "train.optimiser", "radam", "train.beta2", "0.999",  "train.ema",         "0.999",
                                           "train.updates",   "20000", NULL};

#define ROW(name_, title_, source_)                                                                                                        \
    {                                                                                                                                      \
        .name = name_, .title = title_, .source = source_, .equation = "consistency models", .needs_teacher = true, .needs_data = true,    \
        .reads = RT_READS_TEACHER | RT_READS_DATA, .settings = groups, .defaults = ect_defaults, .plan = ect_plan                          \
    }

const rt_method rt__method_ct =
    ROW("ct", "consistency training: from data, by a network of the teacher's kind that starts from draws", "Song et al. 2023");
const rt_method rt__method_ect =
    ROW("ect", "easy consistency tuning: from data, by a student that starts as the teacher", "Geng et al. 2024");
