/* map.c -- direct matching of flow maps (Boffi et al. 2024, the general form behind KD and PD): (1.10) with the teacher's rollout for Psi, (1.38).
 *
 *     min  E_{(s,t) ~ pi} E_{x_s ~ p_s}  w(s,t) d( G(x_s, s, t), Solver_{s->t}(x_s) )
 *
 * pi, w and d are rows of tables. The student steps by DDIM with a prediction that knows both times, so G(x, s, s) = x:
 *
 *     G(x, s, t) = A x + C x0_theta(x, s, t),   A = beta_t/beta_s,  C = alpha_t - alpha_s A                                  (1.30)
 *
 * Weights are quoted as factors of a squared error of x0, as everywhere; G's is C times that, so w = weight/C^2, and the row `map` is w = 1. A network of
 * one time will do where pi has one t for each s: on its own grid that is PD's objective with weight `map`, from noise to data KD's. */
#include "distill/sources.h"

#include "base/internal.h"

#include <stdlib.h>

typedef struct map_settings {
    int steps;         /* of the student's recipe */
    int teacher_steps; /* points between which pairs of times are drawn */
    char solver[32];
    double guidance;
    char range[64];    /* of omega as a knob; empty: the teacher's, if it has one */
    char pairs[32];    /* a row of `retort list time-pairs` */
    char distance[32]; /* a row of `retort list distances` */
    int per_rollout, pool;
    char prediction[32]; /* of the student; empty: the teacher's */
} map_settings;
_Static_assert(sizeof(map_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT map_settings
static const rt_config_key keys[] = {
    RT__INT("map.steps", steps, 1, 1 << 20, "4", "steps of the student, a divisor of the teacher's"),
    RT__INT("map.teacher-steps", teacher_steps, 1, 4096, "32", "steps of the teacher, whose points are the times of the pairs"),
    RT__TEXT("map.teacher-solver", solver, "dpmpp-2m", "NAME", "what the teacher steps with: row of `retort list solvers`"),
    RT__REAL("map.guidance", guidance, 0, 1e4, "0", "weight omega of (1.39) for the teacher: (1+W) conditional - W unconditional"),
    RT__TEXT("map.guidance-range", range, "", "LOW,HIGH",
             "omega as a knob of the student (1.40), one for each rollout; empty: that of a teacher which has one"),
    RT__TEXT("map.pairs", pairs, "uniform", "NAME", "pi of (1.10): row of `retort list time-pairs`"),
    RT__TEXT("map.distance", distance, "l2", "NAME", "d of (1.10): row of `retort list distances`"),
    RT__INT("map.per-rollout", per_rollout, 1, 1 << 20, "16", "pairs of times that a rollout serves"),
    RT__INT("map.pool", pool, 1, 1 << 24, "4096", "examples that are shuffled together"),
    RT__TEXT("map.prediction", prediction, "", "NAME", "of the student; empty: the teacher's"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

/* The coefficients of a map s -> t, per pair of times. */
typedef struct coefficients {
    double *A, *C, *w, *s, *t; /* s, t: times */
} coefficients;

static rt_status tabulate(const rt_round *r, const rt__time_pairs *p, coefficients *c, rt_error *err)
{
    const rt_process *process = r->task->process;
    const rt_weight *weight = rt_weight_find(r->task->config->train.weight, err);
    if (!weight) return RT_E_USAGE;
    for (int k = 0; k < p->n; k++) {
        c->s[k] = r->grid[p->from[k]];
        c->t[k] = r->grid[p->to[k]];
        RT_TRY(rt_ddim_coefficients(process, c->s[k], c->t[k], &c->A[k], &c->C[k], err));
        c->w[k] = rt_weight_at(weight, process, c->s[k], c->t[k]) / (c->C[k] * c->C[k]);
    }
    return RT_OK;
}

static rt_status map_build(rt_phase *p, rt_error *err)
{
    const rt_round *r = p->round;
    const map_settings *own = rt__own(r->task->config);
    const rt_denoiser *student = rt__denoiser(p, "student");
    rt__time_pairs pairs;
    RT_TRY(rt__time_pairs_open(&pairs, "map.pairs", own->pairs, r->teacher_steps, r->teacher_steps / r->steps, err));
    int n = pairs.n;
    double *A = calloc((size_t)n * 5, sizeof *A);
    coefficients table = {A, A + n, A + 2 * n, A + 3 * n, A + 4 * n};
    rt_status status = A ? tabulate(r, &pairs, &table, err) : rt_error_set(err, RT_E_MEMORY, "out of memory for %d pairs of times", n);
    if (status != RT_OK) {
        rt__time_pairs_close(&pairs);
        free(A);
        return status;
    }
    rt_node *xs = rt__input_x(p, "xs"), *xt = rt__input_x(p, "xt"), *y = rt__input_y(p);
    rt_node *k = rt__input(p, "k", RT_I64, 1, (int64_t[]){RT_BATCH});
    rt_at s = rt__at(p, table.s, n, 1, k);
    if (rt_net_describe(student->net)->times == 2) s = rt__towards(s, rt__at(p, table.t, n, 1, k));
    s.omega = rt__input_omega(p);
    rt_node *x0 = rt__denoise(student, xs, NULL, s, y);
    rt_node *a = rt__pick(p, table.A, n, k), *c = rt__pick(p, table.C, n, k), *G = rt_add(rt_mul(a, xs), rt_mul(c, x0));
    rt_node *w = rt_reshape(rt__pick(p, table.w, n, k), 1, (int64_t[]){RT_BATCH});
    rt_node *apart = rt__distance_find("map.distance", own->distance, NULL)(r->task, G, xt);
    rt__minimise(p, rt_expect(rt_mul(w, apart))); /* (1.10) */
    free(A);
    return rt__source_rollout(p, &pairs, own->per_rollout < n ? own->per_rollout : n, own->pool, 1, err);
}

/* A network of one time cannot learn maps from one s to several t. */
static rt_status check_times(const rt_task *t, const map_settings *own, rt_error *err)
{
    const rt_net *net = t->net ? t->net : t->teacher.net;
    rt__time_pairs pairs;
    rt_status s = rt__time_pairs_open(&pairs, "map.pairs", own->pairs, own->teacher_steps, own->teacher_steps / own->steps, err);
    for (int k = 1; s == RT_OK && k < pairs.n && rt_net_describe(net)->times < 2; k++)
        if (pairs.from[k] == pairs.from[k - 1])
            s = rt_error_set(
                err, RT_E_USAGE,
                "map.pairs: %s has several t for one s, which the network must be told; give --net with \"_target_time\": true in it",
                own->pairs);
    rt__time_pairs_close(&pairs);
    return s;
}

static rt_status map_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const map_settings *own = rt__own(t->config);
    if (!rt__distance_find("map.distance", own->distance, err)) return RT_E_USAGE;
    if (own->teacher_steps % own->steps)
        RT_RAISE(RT_E_USAGE, "map.steps: %d does not divide %d, the steps of the teacher", own->steps, own->teacher_steps);
    plan->n_rounds = 1;
    plan->held_out = RT_HELD_OUT;
    plan->rounds[0].teacher_steps = plan->step_counts[0] = own->teacher_steps;
    plan->rounds[0].steps = plan->step_counts[1] = own->steps;
    plan->n_step_counts = own->steps < own->teacher_steps ? 2 : 1;
    const rt_prediction *prediction = *own->prediction ? rt_prediction_find(own->prediction, err) : t->teacher.prediction;
    if (!prediction) return RT_E_USAGE;
    rt__plan_student(plan, t)->prediction = prediction;
    RT_TRY(rt__plan_teacher(plan, t, "map.teacher-solver", own->solver, own->guidance, err));
    RT_TRY(rt__plan_knob(plan, t, "map.guidance-range", own->range, err));
    rt__plan_phase(plan, t, "match", "student", map_build);
    return check_times(t, own, err);
}

static const char *const map_defaults[] = {"train.batch", "128",          "train.lr",      "0.0005",       "train.lr-schedule",
                                           "cosine",      "train.warmup", "200",           "train.weight", "map",
                                           "train.ema",   "0.999",        "train.updates", "20000",        NULL};

const rt_method rt__method_map = {
    .name = "map",
    .title = "direct matching of maps between any two times, by a network that is told both",
    .source = "Boffi et al. 2024, flow map matching",
    .equation = "(1.10), (1.37), (1.38)",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA | RT_READS_WEIGHT,
    .settings = groups,
    .defaults = map_defaults,
    .plan = map_plan,
};
