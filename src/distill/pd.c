/* pd.c -- progressive distillation (Salimans & Ho 2022): (1.30)-(1.37), Lemma 2, Algorithm 2.
 *
 * Round r has a teacher on the grid t_0 = 1 > ... > t_N = 0 and a student on every q-th point of it (q = 2 in the lecture):
 *
 *     teacher   t_0 --- t_1 --- t_2 --- t_3 --- t_4 ...          x_s -> ... -> x~_t   q DDIM steps   (1.31), (1.32)
 *     student   t_0 ----------- t_2 ----------- t_4 ...          x_s -------> x~_t   one DDIM step  (1.33)
 *
 * x~ of Lemma 2 is what the student must predict at x_s for that: the student's step must be affine in it, the teacher's may be of any solver. The
 * teachers of later rounds are students and step as these do. An epsilon teacher first becomes a v student on its own grid. */
#include "distill/sources.h"

#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct pd_settings {
    int steps[RT_CONFIG_LIST]; /* students, each dividing the one before */
    int n_steps;
    int teacher_steps;   /* 0: twice the first student's */
    char starts[16];     /* student or all: which k of (1.35) are drawn */
    char solver[32];     /* of the first teacher */
    double guidance;     /* omega of (1.39) for the first teacher; 0: none */
    char range[64];      /* of omega as a knob; empty: the teacher's, if it has one */
    char draws[16];      /* hidden or input: whether the student sees the first teacher's noise */
    int reuse;           /* how often each example of a rollout is used */
    int pool;            /* examples kept of rollouts */
    char prediction[32]; /* of the student; empty: the teacher's, v for an epsilon teacher */
    int holdout;         /* held-out noises for the table of residuals */
} pd_settings;
_Static_assert(sizeof(pd_settings) <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT pd_settings
static const rt_config_key keys[] = {
    {.name = "pd.steps",
     .kind = RT_KEY_INTS,
     RT__AT(steps),
     .count_offset = offsetof(pd_settings, n_steps),
     .min = 1,
     .max = 1 << 20,
     .value = "8,4,2,1",
     .help = "steps of the students, each dividing the one before",
     .argument = "N,N,..."},
    RT__INT("pd.teacher-steps", teacher_steps, 0, 1 << 20, "0", "steps of the first teacher; 0: twice the first student's"),
    RT__TEXT("pd.starts", starts, "student", "WHICH", "student (its own grid) or all (Algorithm 2): which k of (1.35) are drawn"),
    RT__TEXT("pd.teacher-solver", solver, "ddim", "NAME",
             "what the first teacher steps with: row of `retort list solvers`; students step by ddim"),
    RT__REAL("pd.guidance", guidance, 0, 1e4, "0", "weight omega of (1.39) for the first teacher: (1+W) conditional - W unconditional"),
    RT__TEXT("pd.guidance-range", range, "", "LOW,HIGH",
             "omega as a knob of the students (1.40), one for each rollout; empty: that of a teacher which has one"),
    RT__TEXT("pd.draws", draws, "hidden", "WHICH",
             "hidden or input: whether the student sees the noise of a stochastic first teacher (one round)"),
    RT__INT("pd.reuse", reuse, 1, 1000, "1", "times that an example of a rollout is used"),
    RT__INT("pd.pool", pool, 1, 1 << 24, "2048", "examples of rollouts that are shuffled together, no more than the round uses"),
    RT__TEXT("pd.prediction", prediction, "", "NAME", "of the students; empty: the teacher's, v for an epsilon teacher"),
    RT__INT("pd.holdout", holdout, 1, 1 << 16, "64",
            "held-out noises for the table of residuals, at most an eighth of the round's examples, at least 8"),
};
static const rt_key_group groups[] = {{keys, RT_COUNT(keys), 0}, {0}};

static bool all_starts(const rt_task *t) { return !strcmp(((const pd_settings *)rt__own(t->config))->starts, "all"); }

/* Number of start indices k of a teacher of N steps: the student's grid only has every q-th; "all" draws 0..N-q as (1.35) says for q = 2. */
static int count_starts(bool all, int N, int q) { return all ? N - q + 1 : N / q; }

/* The conversion round: the teacher's weights re-read as v on the teacher's grid. v = (eps^ - beta x)/alpha, weighted by alpha^2, so that
 * nothing is divided by a small alpha. */
static rt_node *conversion(rt_phase *p, rt_node *xs, rt_at s, rt_node *y)
{
    const rt_denoiser *student = rt__denoiser(p, "student");
    rt_node *x0 = rt__denoise(rt__denoiser(p, "teacher"), xs, NULL, s, y);
    rt_node *alpha_eps = rt_mul(s.alpha, rt_div(rt_sub(xs, rt_mul(s.alpha, x0)), s.beta));
    rt_node *target = rt_sub(alpha_eps, rt_mul(s.beta, x0)); /* v = alpha eps - beta x0 */
    rt_node *v = rt_net_apply(student->net, student->set, xs, rt__told(student, s), y);
    return rt_expect(rt__mean_square(p->round->task, rt_mul(s.alpha, v), rt_mul(s.alpha, rt_stop_grad(target))));
}

/* `convert`: the round turns an epsilon teacher into a v student on its own grid. */
static rt_status build(rt_phase *p, bool convert, rt_error *err)
{
    const rt_round *r = p->round;
    const rt_task *task = r->task;
    const pd_settings *own = rt__own(task->config);
    const rt_denoiser *student = rt__denoiser(p, "student"), *teacher = rt__denoiser(p, "teacher");
    const rt_process *process = task->process;
    rt_graph *g = p->graph;
    bool ddim = teacher->solver == student->solver, all = all_starts(task);
    bool inside = task->data && teacher->net && ddim; /* the teacher's steps are nodes; else its maps are made beforehand */
    int q = r->teacher_steps / r->steps, n = count_starts(all, r->teacher_steps, q), stride = all ? 1 : q;

    /* coefficients of one student step s -> t, per start: x_t = A x_s + C x0 (1.30), x~ = (x_t - A x_s)/C (1.34), and the weight */
    double *A = calloc((size_t)(3 * n), sizeof *A), *C = A + n, *w = C + n;
    if (!A) RT_RAISE(RT_E_MEMORY, "out of memory for a grid of %d times", n);
    /* other weights amplify near s = 1 what a conversion still has to learn there */
    const rt_weight *weight = rt_weight_find(convert ? "map" : task->config->train.weight, err);
    rt_status status = weight ? RT_OK : err ? err->status : RT_E_USAGE;
    for (int k = 0; k < n && status == RT_OK; k++) {
        double s = r->grid[k * stride], t = r->grid[k * stride + q];
        status = rt_ddim_coefficients(process, s, t, &A[k], &C[k], err);
        w[k] = rt_weight_at(weight, process, s, t);
    }

    rt_node *y = rt__input_y(p), *z = rt__input_draws(p, student), *xs, *xt = NULL;
    rt_node *k = inside ? rt_randint(g, "k", 1, (int64_t[]){RT_BATCH}, n) : rt__input(p, "k", RT_I64, 1, (int64_t[]){RT_BATCH});
    rt_at s = rt__at(p, r->grid, n, stride, k);
    s.omega = inside ? rt__omega(p) : rt__input_omega(p);
    if (inside) {
        rt_node *x0 = rt__input_x(p, "x0"), *eps = rt_randn(g, "eps", task->rank, task->shape);
        xs = rt_diffuse(x0, s.alpha, s.beta, eps); /* x_s ~ p_s (1.1) */
        rt_at from = s;
        xt = xs;
        for (int j = 1; j <= q && !convert; j++) { /* (1.31), (1.32) */
            rt_at to = rt__at(p, r->grid + j, n, stride, k);
            to.omega = s.omega;
            xt = rt_ddim_step(xt, rt__denoise(teacher, xt, NULL, from, y), from.alpha, from.beta, to.alpha, to.beta);
            from = to;
        }
        if (status == RT_OK) status = rt__source_data(p, err);
    } else {
        xs = rt__input_x(p, "xs"), xt = rt__input_x(p, "xt");
        rt__time_pairs pairs;
        if (status == RT_OK) status = rt__time_pairs_open(&pairs, "pd.starts", all ? "local" : "student", r->teacher_steps, q, err);
        if (status == RT_OK) status = rt__source_rollout(p, &pairs, n, own->pool, own->reuse, err);
    }
    if (convert && ddim) {
        rt__minimise(p, conversion(p, xs, s, y));
    } else if (status == RT_OK) {
        rt_node *a = rt__pick(p, A, n, k), *c = rt__pick(p, C, n, k);
        rt_node *target = rt_ddim_target(xs, xt, a, c); /* Lemma 2 */
        rt_node *x0 = rt__denoise(student, xs, z, s, y);
        rt_node *omega = rt_reshape(rt__pick(p, w, n, k), 1, (int64_t[]){RT_BATCH});
        rt__minimise(p, rt_expect(rt_mul(omega, rt__mean_square(task, x0, rt_stop_grad(target))))); /* (1.35) */
    }
    free(A);
    return status;
}

static rt_status pd_build(rt_phase *p, rt_error *err) { return build(p, false, err); }
static rt_status convert_build(rt_phase *p, rt_error *err) { return build(p, true, err); }

static const rt_prediction *student_prediction(const rt_task *t, const pd_settings *own, rt_error *err)
{
    bool epsilon = !strcmp(rt_prediction_name(t->teacher.prediction), "epsilon");
    return *own->prediction ? rt_prediction_find(own->prediction, err) : epsilon ? rt_prediction_find("v", err) : t->teacher.prediction;
}

static rt_status plan_steps(rt_plan *plan, const pd_settings *own, bool converts, rt_error *err)
{
    if (own->n_steps < 1) RT_RAISE(RT_E_USAGE, "pd.steps is empty; give a list such as 8,4,2,1");
    plan->step_counts[plan->n_step_counts++] = own->teacher_steps ? own->teacher_steps : 2 * own->steps[0];
    for (int i = 0; i < own->n_steps; i++) {
        int before = plan->step_counts[i];
        if (before == own->steps[i])
            RT_RAISE(RT_E_USAGE, "pd.steps: %d, as many as its teacher has; give a divisor of it that is less", before);
        if (before % own->steps[i])
            RT_RAISE(RT_E_USAGE, "pd.steps: %d does not divide %d, the steps of its teacher; each number must divide the one before",
                     own->steps[i], before);
        plan->step_counts[plan->n_step_counts++] = own->steps[i];
    }
    plan->n_rounds = own->n_steps + converts;
    for (int i = 0; i < plan->n_rounds; i++) { /* an epsilon teacher takes one round more, on its own grid */
        int r = i - converts;
        plan->rounds[i].teacher_steps = plan->step_counts[r < 0 ? 0 : r];
        plan->rounds[i].steps = plan->step_counts[r + 1];
    }
    return RT_OK;
}

/* Of a student that sees its teacher's draws. */
static rt_status check_draws(const rt_task *t, const rt_plan *plan, const rt_prediction *prediction, rt_error *err)
{
    if (plan->n_rounds > 1)
        RT_RAISE(
            RT_E_USAGE,
            "pd.draws: input, but %d rounds are asked for, each of which would multiply the draws that a step takes; give pd.steps one "
            "number",
            plan->n_rounds);
    if (t->teacher.net && t->teacher.prediction != prediction)
        RT_RAISE(RT_E_USAGE, "pd.draws: input, and the student starts as its teacher, which predicts %s, not %s; give pd.prediction %s",
                 rt_prediction_name(t->teacher.prediction), rt_prediction_name(prediction), rt_prediction_name(t->teacher.prediction));
    return RT_OK;
}

static rt_status pd_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const pd_settings *own = rt__own(t->config);
    if (strcmp(own->starts, "all") && strcmp(own->starts, "student"))
        RT_RAISE(RT_E_USAGE, "pd.starts: '%s'; give student (starts of the student's grid) or all (every k of (1.35))", own->starts);
    const rt_prediction *prediction = student_prediction(t, own, err);
    if (!prediction) return RT_E_USAGE;
    bool copy = !t->net && t->teacher.net && strcmp(own->draws, "input"); /* the first teacher's weights, re-read as another prediction? */
    bool converts = copy && prediction != t->teacher.prediction;
    RT_TRY(plan_steps(plan, own, converts, err));
    plan->held_out = own->holdout;
    rt__plan_student(plan, t)->prediction = prediction;
    RT_TRY(rt__plan_teacher(plan, t, "pd.teacher-solver", own->solver, own->guidance, err));
    plan->networks[plan->n_networks - 1].follows = "student"; /* phi* <- theta (Algorithm 2) */
    RT_TRY(rt__plan_knob(plan, t, "pd.guidance-range", own->range, err));
    if (converts) rt__plan_phase(plan, t, "convert", "student", convert_build)->end_round = 1;
    rt_phase_plan *distil = rt__plan_phase(plan, t, "distil", "student", pd_build);
    distil->first_round = converts;
    distil->stream = 0;
    RT_TRY(rt__plan_draws(plan, "pd.draws", own->draws, plan->step_counts[0] / plan->step_counts[1], err));
    return !strcmp(own->draws, "input") ? check_draws(t, plan, prediction, err) : RT_OK;
}

static const char *const pd_defaults[] = {"train.batch",
                                          "128",
                                          "train.lr",
                                          "0.0003",
                                          "train.ema",
                                          "0",
                                          "train.lr-schedule",
                                          "linear",
                                          "train.clip",
                                          "1",
                                          "train.weight",
                                          "truncated-snr",
                                          "train.updates",
                                          "1000,1000,2000,4000,6000,10000",
                                          NULL};

const rt_method rt__method_pd = {
    .name = "pd",
    .title = "progressive distillation: one student step learns several of the teacher's, round by round",
    .source = "Salimans & Ho 2022",
    .equation = "(1.30)-(1.37), Lemma 2, Algorithm 2",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER | RT_READS_DATA | RT_READS_WEIGHT,
    .settings = groups,
    .defaults = pd_defaults,
    .plan = pd_plan,
};
