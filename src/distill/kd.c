/* kd.c -- knowledge distillation (Luhman & Luhman 2021): one step regresses a long rollout of the teacher, (1.9). The pairs (noise, teacher sample) are drawn once. */
#include "distill/sources.h"

#include "base/internal.h"

typedef struct kd_settings {
    int64_t pairs; /* (noise, teacher sample) */
    int steps;     /* of the teacher */
    char solver[32];
    double guidance;
    char draws[16]; /* hidden or input */
    char loss[16];  /* a row of `retort list distances` */
} kd_settings;
_Static_assert(sizeof(kd_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT kd_settings
static const rt_config_key keys[] = {
    RT__INT64("kd.pairs", pairs, 1, 1e12, "60000", "(noise, teacher sample) pairs, computed once"),
    {.name = "kd.steps",
     .kind = RT_KEY_INT,
     RT__AT(steps),
     .min = 1,
     .max = 1 << 20,
     .value = "32",
     .help = "steps of the teacher",
     .option = "teacher-steps"},
    RT__TEXT("kd.teacher-solver", solver, "ddim", "NAME", "what the teacher steps with: row of `retort list solvers`"),
    RT__REAL("kd.guidance", guidance, 0, 1e4, "0", "weight omega of (1.39) for the teacher: (1+W) conditional - W unconditional"),
    RT__TEXT("kd.draws", draws, "hidden", "WHICH", "hidden or input: whether the student sees the noise of a stochastic teacher"),
    RT__TEXT("kd.loss", loss, "l2", "NAME", "row of `retort list distances`"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

static rt_status kd_build(rt_phase *p, rt_error *err)
{
    const kd_settings *s = rt__own(p->round->task->config);
    const rt_denoiser *student = rt__denoiser(p, "student");
    rt_node *x1 = rt__input_x(p, "noise"), *y = rt__input_y(p), *target = rt__input_x(p, "sample"), *z = rt__input_draws(p, student);
    rt_node *k = rt_broadcast(rt_const(p->graph, RT_I64, 0, NULL, &(int64_t){0}), 1, (int64_t[]){RT_BATCH});
    rt_node *G = rt__denoise(student, x1, z, rt__at(p, p->round->grid, 1, 1, k), y); /* G_theta(x_1): the x0-prediction at t = 1 */
    rt__minimise(p, rt_expect(rt__distance_find("kd.loss", s->loss, NULL)(p->round->task, G, target))); /* (1.9) */
    return rt__source_pairs(p, s->pairs, 0, err);
}

static rt_status kd_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const kd_settings *s = rt__own(t->config);
    if (!rt__distance_find("kd.loss", s->loss, err)) return RT_E_USAGE;
    plan->n_rounds = 1;
    plan->rounds[0].teacher_steps = plan->step_counts[0] = s->steps;
    plan->rounds[0].steps = plan->n_step_counts = 1;
    plan->held_out = RT_HELD_OUT;
    rt__plan_student(plan, t);
    RT_TRY(rt__plan_teacher(plan, t, "kd.teacher-solver", s->solver, s->guidance, err));
    rt__plan_phase(plan, t, "regress", "student", kd_build);
    return rt__plan_draws(plan, "kd.draws", s->draws, s->steps, err);
}

static const char *const kd_defaults[] = {"train.batch",   "128",          "train.lr",    "0.0003",    "train.lr-schedule",
                                          "linear",        "train.warmup", "200",         "train.ema", "0.999",
                                          "train.updates", "15000",        "train.beta2", "0.98",      NULL};

const rt_method rt__method_kd = {
    .name = "kd",
    .title = "knowledge distillation: one step learns a whole rollout of the teacher",
    .source = "Luhman & Luhman 2021",
    .equation = "(1.9)",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER,
    .settings = groups,
    .defaults = kd_defaults,
    .plan = kd_plan,
};
