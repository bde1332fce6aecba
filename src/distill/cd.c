/* cd.c -- consistency distillation (Song et al. 2023; guided: Luo et al. 2023): f gives the end of the path from every point of it.
 *
 *     min  E w d( f_theta(x_s, s), sg f_target(x~_t, t) ),   x~_t = Solver_{s->t}(x_s),   f(x, 0) = x
 *
 * s, t are neighbours on a grid, each pair as likely; the solver's step is the teacher's, guided by (1.39) if asked. f is the x0-prediction, f_target that of a
 * network whose weights trail the student's. Of (1.10) this is pi = neighbours, with the student's own maps t -> 0 behind one step of the teacher in the place of
 * the teacher's rollout, so that no rollout is longer than a step. x_s ~ p_s (1.1) with data, else it lies on the teacher's path from noise. */
#include "distill/consistency.h"
#include "distill/sources.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct cd_settings {
    int points; /* of the grid, data not among them: as many pairs of neighbours */
    char grid[32];
    double target_ema;
    char solver[32];
    double guidance;
    char range[64];    /* of omega as a knob; empty: the teacher's, if it has one */
    char distance[32]; /* a row of `retort list distances` */
    int steps;         /* of the student */
    int pool;
    char prediction[32]; /* of the student; empty: the teacher's */
} cd_settings;
_Static_assert(sizeof(cd_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT cd_settings
static const rt_config_key keys[] = {
    RT__INT("cd.points", points, 1, 4096, "40", "times between whose neighbours the student is made consistent"),
    RT__TEXT("cd.grid", grid, "karras", "NAME", "where they lie: row of `retort list grids`"),
    RT__REAL("cd.target-ema", target_ema, 0, 1, "0.95", "decay of the target's weights, which trail the student's; 0: the student itself"),
    RT__TEXT("cd.solver", solver, "heun-sigma", "NAME", "what the teacher steps with: row of `retort list solvers`"),
    RT__REAL("cd.guidance", guidance, 0, 1e4, "0", "weight omega of (1.39) for the teacher: (1+W) conditional - W unconditional"),
    RT__TEXT("cd.guidance-range", range, "", "LOW,HIGH",
             "omega as a knob of the student (1.40), one for each example; empty: that of a teacher which has one"),
    RT__TEXT("cd.distance", distance, "l2", "NAME", "d of (1.10): row of `retort list distances`"),
    RT__INT("cd.steps", steps, 1, RT_RECIPE_STEPS, "1", "steps of the student, a divisor of the points; several add noise again between"),
    RT__INT("cd.pool", pool, 1, 1 << 24, "4096", "examples that are shuffled together"),
    RT__TEXT("cd.prediction", prediction, "", "NAME", "of the student; empty: the teacher's"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

static rt_status cd_build(rt_phase *p, rt_error *err)
{
    const rt_round *r = p->round;
    const rt_task *task = r->task;
    const cd_settings *own = rt__own(task->config);
    const rt_weight *weight = rt_weight_find(task->config->train.weight, err);
    const int64_t each[] = {RT_BATCH};
    int n = own->points;
    if (!weight) return RT_E_USAGE;
    double *there = malloc((size_t)(3 * n) * sizeof *there);
    if (!there) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", n);
    double *data = there + n, *w = data + n;
    for (int k = 0; k < n; k++) { /* pair k goes from point k to the next; at data, where nothing is asked, any time will do */
        data[k] = k + 1 == n;
        there[k] = r->grid[k + 1 < n ? k + 1 : k];
        w[k] = rt_weight_at(weight, task->process, r->grid[k], r->grid[k + 1]);
    }
    rt_node *xs = rt__input_x(p, "xs"), *xt = rt__input_x(p, "xt"), *y = rt__input_y(p), *k = rt__input(p, "k", RT_I64, 1, each);
    rt_at s = rt__at(p, r->grid, n, 1, k), t = rt__at(p, there, n, 1, k);
    s.omega = t.omega = rt__input_omega(p);
    rt_node *f = rt__denoise(rt__denoiser(p, "student"), xs, NULL, s, y), *ahead = rt__denoise(rt__denoiser(p, "target"), xt, NULL, t, y);
    rt_node *target = rt__consistency_target(ahead, xt, rt_reshape(rt__pick(p, data, n, k), 1, each));
    rt_node *apart = rt__distance_find("cd.distance", own->distance, NULL)(task, f, target);
    rt__minimise(p, rt_expect(rt_mul(rt_reshape(rt__pick(p, w, n, k), 1, each), apart)));
    free(there);
    rt__time_pairs pairs;
    RT_TRY(rt__time_pairs_open(&pairs, "cd.points", "local", n, 1, err));
    return rt__source_rollout(p, &pairs, n, own->pool, 1, err);
}

/* Heun's step in y = x/alpha and sigma = beta/alpha takes its second slope where it ends: y_t is off by (sigma_s/sigma_t)/2 times what x0 changes by in the step, in
 * units of data at most 1, sigma_s and 1/sigma_t. Where that is many times the state, which is of size hypot(1, sigma_t), the step is no step. */
static rt_status check_heun(const rt_task *t, const cd_settings *own, rt_error *err)
{
    const double most = 4;
    int n = own->points;
    if (strcmp(own->solver, "heun-sigma")) return RT_OK;
    double *times = malloc((size_t)(n + 1) * sizeof *times);
    if (!times) RT_RAISE(RT_E_MEMORY, "out of memory for %d times", n + 1);
    rt_status status = rt_grid_build(own->grid, t->process, n, times, err);
    for (int k = 0; k + 1 < n && status == RT_OK; k++) {
        double from = exp(-rt_process_log_snr(t->process, times[k]) / 2), to = exp(-rt_process_log_snr(t->process, times[k + 1]) / 2);
        double off = from / to / 2 * fmin(1, fmin(from, 1 / to)) / hypot(1, to);
        if (isfinite(from) && off > most) /* from pure noise the solver steps as DDIM does */
            status =
                rt_error_set(err, RT_E_USAGE,
                             "cd.solver: heun-sigma would go from beta/alpha %.3g to %.3g at once, where its step explodes; give --solver "
                             "ddim, --grid karras or more --points than %d",
                             from, to, n);
    }
    free(times);
    return status;
}

static rt_status cd_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const cd_settings *own = rt__own(t->config);
    const rt_prediction *prediction = *own->prediction ? rt_prediction_find(own->prediction, err) : t->teacher.prediction;
    const rt_solver *solver = rt_solver_find(own->steps > 1 ? "renoise" : "ddim", err);
    if (!prediction || !rt__distance_find("cd.distance", own->distance, err)) return RT_E_USAGE;
    RT_TRY(rt__consistency_plan_steps(plan, "cd.steps", own->points, own->steps, err));
    plan->grid = own->grid;
    plan->held_out = own->steps == 1 ? RT_HELD_OUT : 0;
    rt_network_plan *student = rt__plan_student(plan, t);
    student->prediction = prediction;
    student->solver = solver;
    rt__plan_network(plan, (rt_network_plan){.name = "target",
                                             .kind = RT_NETWORK_NET,
                                             .start = RT_START_TEACHER,
                                             .trails = "student",
                                             .keep = own->target_ema,
                                             .prediction = prediction});
    RT_TRY(rt__plan_teacher(plan, t, "cd.solver", own->solver, own->guidance, err));
    RT_TRY(check_heun(t, own, err));
    rt__plan_phase(plan, t, "consist", "student", cd_build);
    return rt__plan_knob(plan, t, "cd.guidance-range", own->range, err);
}

static const char *const cd_defaults[] = {
    "train.batch", "128",       "train.lr", "0.0003",       "train.lr-schedule", "cosine",        "train.optimiser", "radam", "train.beta2",
    "0.999",       "train.ema", "0.999",    "train.weight", "uniform",           "train.updates", "20000",           NULL};

const rt_method rt__method_cd = {
    .name = "cd",
    .title = "consistency distillation: the end of the path, the same from every two neighbours on it",
    .source = "Song et al. 2023; Luo et al. 2023, LCM",
    .equation = "(1.10), consistency models",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA | RT_READS_WEIGHT,
    .settings = groups,
    .defaults = cd_defaults,
    .plan = cd_plan,
};
