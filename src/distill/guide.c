/* guide.c -- guidance distilled, stage one (Meng et al. 2023): a network that is told omega answers in one call what its teacher gives in two.
 *
 *     min  E lambda(s) |f_theta(x_s, s, c, omega) - sg f_p^omega(x_s, s, c)|^2,   f^omega = (1 + omega) f(., c) - omega f(., null)   (1.40), (1.39)
 *
 * f are x0-predictions, omega is even in a range. x_s ~ p_s (1.1) with data, at all times; else it is a point of the guided teacher's own path from noise, with
 * one omega for the whole path. The student starts as the teacher: its layer for omega starts at 0. pd halves its steps then, omega being a knob still. */
#include "distill/sources.h"

#include "base/internal.h"

#include <stdlib.h>

typedef struct guide_settings {
    char range[64];
    double guidance; /* the default omega of the student */
    int steps, teacher_steps, pool;
    char solver[32];
} guide_settings;
_Static_assert(sizeof(guide_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT guide_settings
static const rt_config_key keys[] = {
    RT__TEXT("guide.guidance-range", range, "0,4", "LOW,HIGH", "the weights omega of guidance that the student is told"),
    RT__REAL("guide.guidance", guidance, 0, 1e4, "1", "omega where sampling does not say: the student's default"),
    RT__INT("guide.steps", steps, 1, RT_RECIPE_STEPS, "16", "steps of the student, a divisor of the teacher's"),
    RT__INT("guide.teacher-steps", teacher_steps, 1, 4096, "64", "steps of the teacher's path, whose points are learnt at without --data"),
    RT__TEXT("guide.teacher-solver", solver, "ddim", "NAME", "what the teacher steps with: row of `retort list solvers`"),
    RT__INT("guide.pool", pool, 1, 1 << 24, "4096", "examples of paths that are shuffled together"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

/* The times at which is learnt, n of them: all, or those of the path. */
static rt_status list_times(const rt_round *r, double **times, int *n, rt_error *err)
{
    const rt_task *t = r->task;
    const rt_density *even = rt_density_find("uniform", err);
    if (!even) return RT_E_USAGE;
    *n = t->data ? rt_density_count(even, t->process) : r->teacher_steps;
    *times = malloc((size_t)(2 * *n) * sizeof **times);
    if (!*times) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", *n);
    for (int k = 0; k < *n && !t->data; k++) (*times)[k] = r->grid[k];
    return t->data ? rt_density_times(even, t->process, NULL, *n, *times, *times + *n, err) : RT_OK;
}

static rt_status guide_build(rt_phase *p, rt_error *err)
{
    const rt_round *r = p->round;
    const rt_task *task = r->task;
    const guide_settings *own = rt__own(task->config);
    const rt_weight *weight = rt_weight_find(task->config->train.weight, err);
    const int64_t each[] = {RT_BATCH};
    double *times = NULL;
    int n = 0;
    if (!weight) return RT_E_USAGE;
    rt_status status = list_times(r, &times, &n, err);
    if (status != RT_OK) {
        free(times);
        return status;
    }
    rt_node *y = rt__input_y(p), *xs, *k = task->data ? rt_randint(p->graph, "t", 1, each, n) : rt__input(p, "k", RT_I64, 1, each);
    rt_at s = rt__at(p, times, n, 1, k);
    for (int i = 0; i < n; i++) times[n + i] = rt_weight_at(weight, task->process, times[i], 0);
    rt_node *lambda = rt_reshape(rt__pick(p, times + n, n, k), 1, each);
    free(times);
    if (task->data) {
        xs = rt_diffuse(rt__input_x(p, "x0"), s.alpha, s.beta, rt_randn(p->graph, "eps", task->rank, task->shape)); /* (1.1) */
        s.omega = rt__omega(p);
        status = rt__source_data(p, err);
    } else {
        xs = rt__input_x(p, "xs");
        s.omega = rt__input_omega(p);
        rt__time_pairs pairs;
        RT_TRY(rt__time_pairs_open(&pairs, "guide.teacher-steps", "local", n, 1, err));
        status = rt__source_rollout(p, &pairs, n, own->pool, 1, err);
    }
    rt_node *f = rt__denoise(rt__denoiser(p, "student"), xs, NULL, s, y), *target = rt__denoise(rt__denoiser(p, "teacher"), xs, NULL, s, y);
    rt__minimise(p, rt_expect(rt_mul(lambda, rt__mean_square(task, f, rt_stop_grad(target))))); /* (1.40) */
    return status;
}

/* An oracle is asked in the graph: at its cleanest time. */
static rt_status check_oracle(const rt_task *t, const guide_settings *own, rt_error *err)
{
    double end = rt_process_end(t->process), T = rt_process_discrete_steps(t->process);
    double cleanest = !t->data ? end / own->teacher_steps
                      : T > 0  ? 1
                               : end / 2 / rt_density_count(rt_density_find("uniform", err), t->process);
    if (!t->teacher.oracle) return RT_OK;
    rt_status s = rt_oracle_check_graph(t->teacher.oracle, t->real, rt_process_log_snr(t->process, cleanest), err);
    if (s != RT_OK) rt_error_prefix(err, "%s", t->config->teacher);
    return s;
}

static rt_status guide_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const guide_settings *own = rt__own(t->config);
    if (own->teacher_steps % own->steps)
        RT_RAISE(RT_E_USAGE, "guide.steps: %d does not divide %d, the steps of the teacher", own->steps, own->teacher_steps);
    if (t->classes == 0) RT_RAISE(RT_E_USAGE, "%s: guidance needs a model with classes; this one has none", t->config->teacher);
    RT_TRY(check_oracle(t, own, err));
    plan->n_rounds = 1;
    plan->held_out = RT_HELD_OUT;
    plan->rounds[0].teacher_steps = plan->step_counts[0] = own->teacher_steps;
    plan->rounds[0].steps = plan->step_counts[1] = own->steps;
    plan->n_step_counts = own->steps < own->teacher_steps ? 2 : 1;
    rt__plan_student(plan, t);
    RT_TRY(rt__plan_teacher(plan, t, "guide.teacher-solver", own->solver, own->guidance, err));
    rt__plan_phase(plan, t, "guide", "student", guide_build);
    return rt__plan_knob(plan, t, "guide.guidance-range", own->range, err);
}

static const char *const guide_defaults[] = {"train.batch",   "128",       "train.lr", "0.0003",       "train.lr-schedule",
                                             "cosine",        "train.ema", "0.999",    "train.weight", "truncated-snr",
                                             "train.updates", "10000",     NULL};

const rt_method rt__method_guide = {
    .name = "guide",
    .title = "guidance distilled: one call that is told omega for two",
    .source = "Meng et al. 2023",
    .equation = "(1.39), (1.40)",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA | RT_READS_WEIGHT,
    .settings = groups,
    .defaults = guide_defaults,
    .plan = guide_plan,
};
