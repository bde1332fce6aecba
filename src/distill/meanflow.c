/* meanflow.c -- mean flow (Geng et al. 2025): a network of two times predicts the average velocity u of the flow between them, of which one evaluation makes
 * the whole map z_t -> z_r = z_t - (t - r) u.
 *
 *     z = (1 - t) x0 + t eps,   v = eps - x0 of the sample, or the teacher's                       straight paths
 *     u = v - (t - r) du/dt     its identity, du/dt along (v, 1, 0)
 *     loss  e/(sg e + c)^p,     e = |u(z, t, r) - sg[v - (t - r) du/dt]|^2
 *
 * du/dt is a derivative along a direction (rt_jvp). The student is one of `map`'s kind: its prediction, read at both times, is a step of DDIM. On another process
 * than straight paths t is beta/(alpha + beta), and du/dt goes through what the network is told and the scale of x_t = (alpha + beta) z. */
#include "distill/sources.h"
#include "distill/velocity.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>

enum { TIMES = 4096 };

typedef struct meanflow_settings {
    int steps, teacher_steps;
    char velocity[32], prediction[32];
    double guidance, equal, power, floor;
    double mean, deviation, target_mean, target_deviation; /* of the logits of t and r */
} meanflow_settings;
_Static_assert(sizeof(meanflow_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT meanflow_settings
static const rt_config_key keys[] = {
    RT__INT("meanflow.steps", steps, 1, 1 << 20, "1", "steps of the student, a divisor of the teacher's"),
    RT__INT("meanflow.teacher-steps", teacher_steps, 1, 4096, "64", "steps of the teacher (dpmpp-2m) that the student is compared with"),
    RT__TEXT("meanflow.velocity", velocity, "teacher", "NAME", "of the path: teacher, or data: that of the sample itself"),
    RT__REAL("meanflow.guidance", guidance, 0, 1e4, "0", "weight omega of (1.39) for the teacher: (1+W) conditional - W unconditional"),
    RT__TEXT("meanflow.prediction", prediction, "", "NAME",
             "of the student; empty: the teacher's, v where that says nothing at pure noise, velocity on straight paths"),
    RT__REAL("meanflow.equal", equal, 0, 1, "0.25", "share of pairs with r = t"),
    RT__REAL("meanflow.power", power, 0, 2, "0.75", "p of the weight 1/(e + c)^p, e the squared error; 0: none"),
    RT__REAL("meanflow.floor", floor, 1e-12, 1e6, "0.001", "c of the weight 1/(e + c)^p"),
    RT__REAL("meanflow.time-mean", mean, -20, 20, "-0.6", "of log(t/(1 - t)), which is drawn from a normal distribution"),
    RT__REAL("meanflow.time-deviation", deviation, 1e-3, 20, "1.6", "of log(t/(1 - t))"),
    RT__REAL("meanflow.target-mean", target_mean, -20, 20, "-4", "of log(r/(1 - r)); r is the smaller of that and t"),
    RT__REAL("meanflow.target-deviation", target_deviation, 1e-3, 20, "1.6", "of log(r/(1 - r))"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

/* Per time: itself, alpha + beta, what the network is told, and their derivatives in t. */
typedef struct times {
    double t[TIMES], scale[TIMES], network[TIMES], d_scale[TIMES], d_network[TIMES];
} times;

/* t = sin/(cos + sin), so dphi/dt = (cos + sin)^2. */
static rt_status tabulate(const rt_process *p, double mean, double deviation, times *a, rt_error *err)
{
    double end = rt__path_end(p);
    for (int m = 0; m < TIMES; m++) {
        rt__path_point at;
        double t = 1 / (1 + exp(-mean - deviation * rt__normal_quantile(m, TIMES))), phi = fmin(atan2(t, 1 - t), end);
        RT_TRY(rt__path_at(p, phi, &at, err));
        double both = cos(phi) + sin(phi), pace = both * both;
        a->t[m] = sin(phi) / both;
        a->scale[m] = at.alpha + at.beta;
        a->d_scale[m] = pace * (at.d_alpha + at.d_beta);
        a->network[m] = at.network;
        a->d_network[m] = pace * at.d_network;
    }
    return RT_OK;
}

static void minimise(rt_phase *p, const times *of_t, const times *of_r)
{
    const rt_task *task = p->round->task;
    const meanflow_settings *own = rt__own(task->config);
    const rt_denoiser *student = rt__denoiser(p, "student");
    const int64_t each[] = {RT_BATCH};
    rt_node *x0 = rt__input_x(p, "x0"), *y = rt__input_y(p), *eps = rt_randn(p->graph, "eps", task->rank, task->shape);
    rt_node *k = rt_randint(p->graph, "t", 1, each, TIMES), *l = rt_randint(p->graph, "r", 1, each, TIMES);
    rt_node *t = rt__pick(p, of_t->t, TIMES, k), *scale = rt__pick(p, of_t->scale, TIMES, k);
    rt_node *time = rt_reshape(rt__pick(p, of_t->network, TIMES, k), 1, each);
    rt_node *d_scale = rt__pick(p, of_t->d_scale, TIMES, k), *d_time = rt_reshape(rt__pick(p, of_t->d_network, TIMES, k), 1, each);
    /* r = t where a draw says so or r is beyond; what the network is told rises with the time. It does not move with t. */
    rt_node *alike = rt_less(rt_rand(p->graph, "equal", 1, each), rt_scalar(p->graph, own->equal));
    rt_node *r_time = rt_stop_grad(rt_where(alike, time, rt_minimum(time, rt_reshape(rt__pick(p, of_r->network, TIMES, l), 1, each))));
    rt_node *r = rt_where(rt_per_sample(alike, t), t, rt_minimum(t, rt__pick(p, of_r->t, TIMES, l)));

    rt_node *one = rt_scalar(p->graph, 1), *rest = rt_sub(one, t), *z = rt_diffuse(x0, rest, t, eps), *zt = rt_mul(scale, z);
    rt_at from = {rt_mul(scale, rest), rt_mul(scale, t), time, NULL, NULL}, to = {.network = r_time};
    rt_node *u = rt__read_velocity(student->prediction, rt_net_apply(student->net, student->set, zt, rt__towards(from, to).network, y), z,
                                   rest, t, false, from.alpha, from.beta);
    bool of_teacher;
    rt__velocity_of("meanflow", own->velocity, &of_teacher, NULL); /* the plan has refused others */
    rt_node *v = of_teacher ? rt__velocity_towards(z, rt__denoise(rt__denoiser(p, "teacher"), zt, NULL, from, y), one, t) : rt_sub(eps, x0);
    rt_node *du =
        rt_jvp(u, (rt_node *[]){z, t, scale, time}, (rt_node *[]){v, rt_broadcast(one, task->rank, rt_node_shape(t)), d_scale, d_time}, 4);
    rt_node *target = rt__meanflow_target(v, du, t, r);
    rt__log(p, "error", rt_expect(rt__mean_square(task, u, target)));
    rt__minimise(p, rt_expect(rt__meanflow_loss(u, target, own->power, own->floor)));
}

static rt_status meanflow_build(rt_phase *p, rt_error *err)
{
    const rt_task *t = p->round->task;
    const meanflow_settings *own = rt__own(t->config);
    times *a = malloc(2 * sizeof *a);
    if (!a) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", TIMES);
    rt_status s = tabulate(t->process, own->mean, own->deviation, a, err);
    if (s == RT_OK) s = tabulate(t->process, own->target_mean, own->target_deviation, a + 1, err);
    if (s == RT_OK) minimise(p, a, a + 1);
    free(a);
    if (s == RT_OK) s = rt_graph_status(p->graph, err);
    if (s != RT_OK) return s;
    return t->data ? rt__source_data(p, err) : rt__source_oracle(p, err);
}

static rt_status meanflow_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const meanflow_settings *own = rt__own(t->config);
    rt__velocity_plan v = {.key = "meanflow",
                           .solver = "ddim",
                           .prediction = own->prediction,
                           .two_times = true,
                           .guidance = own->guidance,
                           .steps = own->steps,
                           .teacher_steps = own->teacher_steps};
    RT_TRY(rt__velocity_of("meanflow", own->velocity, &v.of_teacher, err));
    RT_TRY(rt__plan_velocity(plan, t, &v, err));
    plan->held_out = RT_HELD_OUT;
    rt__plan_phase(plan, t, "average", "student", meanflow_build);
    return RT_OK;
}

static const char *const meanflow_defaults[] = {
    "train.batch", "128",  "train.lr",  "0.0006", "train.lr-schedule", "cosine", "train.warmup", "200",
    "train.beta2", "0.99", "train.ema", "0.999",  "train.updates",     "20000",  "train.clip",   "0",
    NULL};

const rt_method rt__method_meanflow = {
    .name = "meanflow",
    .title = "mean flow: the average velocity between any two times, by a network that is told both",
    .source = "Geng et al. 2025, MeanFlow",
    .equation = "(1.10), (1.36)",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA,
    .settings = groups,
    .defaults = meanflow_defaults,
    .plan = meanflow_plan,
};
