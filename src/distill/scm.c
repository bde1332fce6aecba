/* scm.c -- simplified continuous-time consistency distillation (Lu & Song 2025): f(x, phi) = cos phi x - sin phi F(x, phi) is the same along each path of
 * the flow, x = cos phi x0 + sin phi eps (TrigFlow), with F the velocity that the network predicts.
 *
 *     dx/dphi      the teacher's F, or cos phi eps - sin phi x0 of the sample itself
 *     g            -cos^2 (F - dx) - r cos sin (x + dF/dphi),   r from 0 to 1 over the warm-up                 cos phi df/dphi
 *     loss         |F - sg[F + g/(|g| + 0.1)]|^2 / D / e^m + m,   m(phi) learned: the logarithm of the mean of what it divides
 *
 * dF/dphi is a derivative along a direction (rt_jvp), taken along cos sin (dx, 1), so that nothing large is multiplied by something small. Where the process
 * is not that circle, phi is atan(beta/alpha): a network told of a discrete process is asked at times between whole ones, and dF/dphi goes through that
 * time and the scale of x_t. */
#include "distill/sources.h"
#include "distill/velocity.h"

#include "base/internal.h"
#include "nn/layers.h"

#include <math.h>
#include <stdlib.h>

enum { TIMES = 4096, FEATURES = 32 };

typedef struct scm_settings {
    int steps, teacher_steps;
    char velocity[32], prediction[32];
    double guidance, mean, deviation;
    int64_t warmup;
} scm_settings;
_Static_assert(sizeof(scm_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT scm_settings
static const rt_config_key keys[] = {
    RT__INT("scm.steps", steps, 1, 64, "1", "steps of the student, by renoise where there are several; a divisor of the teacher's"),
    RT__INT("scm.teacher-steps", teacher_steps, 1, 4096, "64", "steps of the teacher (dpmpp-2m) that the student is compared with"),
    RT__TEXT("scm.velocity", velocity, "teacher", "NAME", "of the path: teacher, or data: that of the sample itself"),
    RT__REAL("scm.guidance", guidance, 0, 1e4, "0", "weight omega of (1.39) for the teacher: (1+W) conditional - W unconditional"),
    RT__TEXT("scm.prediction", prediction, "", "NAME",
             "of the student; empty: the teacher's, v where that says nothing at pure noise, velocity on straight paths"),
    RT__REAL("scm.time-mean", mean, -20, 20, "-1", "of log(beta/alpha), which is drawn from a normal distribution"),
    RT__REAL("scm.time-deviation", deviation, 1e-3, 20, "1.4", "of log(beta/alpha)"),
    {.name = "scm.warmup",
     .kind = RT_KEY_INT64,
     RT__AT(warmup),
     .min = 0,
     .max = 1e9,
     .value = "10000",
     .option = "tangent-warmup",
     .help = "updates over which the derivative of the student comes to count"},
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

/* ---- m, the learned logarithm of the loss: affine in features of what the network is told */

static rt_node *log_variance(rt_graph *g, rt_params *set, rt_node *t)
{
    rt__layers l = {g, set};
    return rt_reshape(rt__linear_zero(l, "log_variance", rt__timestep_features(t, FEATURES, true, 0), FEATURES, 1), 1,
                      (int64_t[]){RT_BATCH});
}

static rt_status declare_log_variance(const rt_task *t, rt_params *set, rt_error *err)
{
    (void)t;
    rt_graph *g = rt_graph_new(rt_params_dtype(set));
    if (!g) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    log_variance(g, set, rt_input(g, "t", rt_graph_real(g), 1, (int64_t[]){RT_BATCH}));
    rt_status s = rt_graph_status(g, err);
    rt_graph_free(g);
    return s;
}

/* ---- times */

/* Per angle: itself, the scale of x_t and what the network is told, and how far the two move along cos sin dphi. */
typedef struct angles {
    double phi[TIMES], scale[TIMES], network[TIMES], d_scale[TIMES], d_network[TIMES];
} angles;

static rt_status tabulate(const rt_task *t, angles *a, rt_error *err)
{
    const scm_settings *own = rt__own(t->config);
    double end = rt__path_end(t->process), nearest = rt_process_discrete_steps(t->process) ? 1 : 1e-6 * rt_process_end(t->process);
    double first = atan2(rt_process_beta(t->process, nearest), rt_process_alpha(t->process, nearest));
    for (int m = 0; m < TIMES; m++) {
        rt__path_point at;
        double phi = atan(exp(own->mean + own->deviation * rt__normal_quantile(m, TIMES)));
        a->phi[m] = phi = fmin(fmax(phi, first), end);
        RT_TRY(rt__path_at(t->process, phi, &at, err));
        double move = cos(phi) * sin(phi);
        a->scale[m] = hypot(at.alpha, at.beta);
        a->d_scale[m] = move * (at.alpha * at.d_alpha + at.beta * at.d_beta) / a->scale[m];
        a->network[m] = at.network;
        a->d_network[m] = move * at.d_network;
    }
    return RT_OK;
}

/* ---- the objective */

static void minimise(rt_phase *p, const angles *a)
{
    const rt_task *task = p->round->task;
    const scm_settings *own = rt__own(task->config);
    const rt_denoiser *student = rt__denoiser(p, "student");
    const int64_t each[] = {RT_BATCH};
    rt_node *x0 = rt__input_x(p, "x0"), *y = rt__input_y(p), *eps = rt_randn(p->graph, "eps", task->rank, task->shape);
    rt_node *k = rt_randint(p->graph, "t", 1, each, TIMES);
    rt_node *phi = rt__pick(p, a->phi, TIMES, k), *scale = rt__pick(p, a->scale, TIMES, k), *cos = rt_cos(phi), *sin = rt_sin(phi);
    rt_node *time = rt_reshape(rt__pick(p, a->network, TIMES, k), 1, each), *move = rt_mul(cos, sin);
    rt_node *d_scale = rt__pick(p, a->d_scale, TIMES, k), *d_time = rt_reshape(rt__pick(p, a->d_network, TIMES, k), 1, each);

    rt_node *x = rt_diffuse(x0, cos, sin, eps), *xt = rt_mul(scale, x);
    rt_at at = {rt_mul(scale, cos), rt_mul(scale, sin), time, NULL, NULL};
    rt_node *F =
        rt__read_velocity(student->prediction, rt_net_apply(student->net, student->set, xt, time, y), x, cos, sin, true, at.alpha, at.beta);
    bool of_teacher;
    rt__velocity_of("scm", own->velocity, &of_teacher, NULL); /* the plan has refused others */
    rt_node *dx = of_teacher ? rt__velocity_towards(x, rt__denoise(rt__denoiser(p, "teacher"), xt, NULL, at, y), cos, sin)
                             : rt_sub(rt_mul(cos, eps), rt_mul(sin, x0));
    rt_node *dF = rt_jvp(F, (rt_node *[]){x, phi, scale, time}, (rt_node *[]){rt_mul(move, dx), move, d_scale, d_time}, 4);
    rt_node *r = rt_scalar(p->graph, 1);
    if (own->warmup > 0) r = rt_minimum(rt_scale(rt__run_number(p), 1.0 / (double)own->warmup), r);

    rt_node *e = rt_scale(rt__scm_loss(F, rt__scm_tangent(F, dF, x, dx, cos, sin, r)), 1.0 / (double)task->features);
    rt_node *m = log_variance(p->graph, student->set, time);
    rt__log(p, "velocity", rt_expect(rt_scale(rt_norm2(rt_sub(F, dx)), 1.0 / (double)task->features)));
    rt__minimise(p, rt_expect(rt_add(rt_mul(e, rt_exp(rt_neg(m))), m)));
}

static rt_status scm_build(rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    angles *a = malloc(sizeof *a);
    if (!a) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", TIMES);
    rt_status s = tabulate(t, a, err);
    if (s == RT_OK) minimise(p, a);
    free(a);
    if (s == RT_OK) s = rt_graph_status(p->graph, err);
    if (s != RT_OK) return s;
    return t->data ? rt__source_data(p, err) : rt__source_oracle(p, err);
}

static rt_status scm_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const scm_settings *own = rt__own(t->config);
    rt__velocity_plan v = {.key = "scm",
                           .solver = own->steps > 1 ? "renoise" : "ddim",
                           .prediction = own->prediction,
                           .guidance = own->guidance,
                           .steps = own->steps,
                           .teacher_steps = own->teacher_steps};
    RT_TRY(rt__velocity_of("scm", own->velocity, &v.of_teacher, err));
    RT_TRY(rt__plan_velocity(plan, t, &v, err));
    plan->networks[0].declare = declare_log_variance;
    plan->held_out = own->steps == 1 ? RT_HELD_OUT : 0; /* states that are noised again are on no rollout of the teacher's */
    rt__plan_phase(plan, t, "consistency", "student", scm_build);
    return RT_OK;
}

static const char *const scm_defaults[] = {
    "train.batch", "128",  "train.lr",  "0.0005", "train.lr-schedule", "cosine", "train.warmup", "200",
    "train.beta2", "0.99", "train.ema", "0.999",  "train.updates",     "20000",  "train.clip",   "0",
    NULL};

const rt_method rt__method_scm = {
    .name = "scm",
    .title = "continuous-time consistency: one step, the same along each path of the flow",
    .source = "Lu & Song 2025, sCM",
    .equation = "closing remarks, (1.38)",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA,
    .settings = groups,
    .defaults = scm_defaults,
    .plan = scm_plan,
};
