/* pd.c -- progressive distillation (Salimans & Ho 2022): (1.30)-(1.37), Lemma 2, Algorithm 2.
 *
 * Round r has a teacher on the grid t_0 = 1 > ... > t_N = 0 and a student on every q-th point of it (q = 2 in the lecture):
 *
 *     teacher   t_0 --- t_1 --- t_2 --- t_3 --- t_4 ...          x_s -> ... -> x~_t   q DDIM steps   (1.31), (1.32)
 *     student   t_0 ----------- t_2 ----------- t_4 ...          x_s -------> x~_t   one DDIM step  (1.33)
 *
 * x~ of Lemma 2 is what the student must predict at x_s for that: the student's step must be affine in it, the teacher's may be of any solver. The
 * teachers of later rounds are students and step as these do. An epsilon teacher first becomes a v student on its own grid. */
#include "distill/method.h"
#include "distill/rollout.h"

#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

/* Number of start indices k: the student's grid only has every q-th; "all" draws 0..N-q as (1.35) says for q = 2. */
static int count_starts(const rt_distill *d, int q)
{
    return strcmp(d->config->pd.starts, "all") ? d->teacher_steps / q : d->teacher_steps - q + 1;
}

/* Must the first teacher's weights be re-read as another prediction? Asked of the first teacher, so that the answer is the same in every round. */
static bool converts(const rt_distill *d) { return d->first.net == d->student.net && d->student.prediction != d->first.prediction; }

static rt_status pd_plan(rt_distill *d)
{
    rt_error *err = d->err;
    const rt_config *c = d->config;
    if (strcmp(c->pd.starts, "all") && strcmp(c->pd.starts, "student"))
        RT_RAISE(RT_E_USAGE, "pd.starts: '%s'; give student (starts of the student's grid) or all (every k of (1.35))", c->pd.starts);
    RT_TRY(rt__teacher_solver(d, "pd.teacher-solver", c->pd.solver));
    d->first.guidance = c->pd.guidance;
    if (c->pd.n_steps < 1) RT_RAISE(RT_E_USAGE, "pd.steps is empty; give a list such as 8,4,2,1");
    d->chain[0] = c->pd.teacher_steps ? c->pd.teacher_steps : 2 * c->pd.steps[0];
    d->n_chain = 1;
    for (int i = 0; i < c->pd.n_steps; i++) {
        int before = d->chain[i];
        if (before % c->pd.steps[i] || before == c->pd.steps[i])
            RT_RAISE(RT_E_USAGE, "pd.steps: %d does not divide %d, the steps of its teacher; each number must divide the one before",
                     c->pd.steps[i], before);
        d->chain[d->n_chain++] = c->pd.steps[i];
    }
    int extra = converts(d); /* an epsilon teacher takes one round more, on its own grid */
    d->n_rounds = c->pd.n_steps + extra;
    int r = d->round - extra;
    d->teacher_steps = d->chain[r < 0 ? 0 : r];
    d->steps = d->chain[r + 1 < 1 ? 0 : r + 1];
    return rt__draws_plan(d);
}

/* The conversion round: the teacher's weights re-read as v on the teacher's grid. v = (eps^ - beta x)/alpha, weighted by alpha^2, so that
 * nothing is divided by a small alpha. */
static void declare_conversion(rt_distill *d, rt_node *xs, rt_at s, rt_node *y)
{
    rt_node *x0 = rt__denoise(&d->teacher, xs, NULL, s, y);
    rt_node *alpha_eps = rt_mul(s.alpha, rt_div(rt_sub(xs, rt_mul(s.alpha, x0)), s.beta));
    rt_node *target = rt_sub(alpha_eps, rt_mul(s.beta, x0)); /* v = alpha eps - beta x0 */
    rt_node *v = rt_net_apply(d->student.net, d->student.set, xs, s.network, y);
    rt_node *loss = rt__mean_square(d, rt_mul(s.alpha, v), rt_mul(s.alpha, rt_stop_grad(target)));
    rt__minimise(d, "convert", d->student.set, rt_expect(loss));
}

static rt_status pd_build(rt_distill *d)
{
    rt_error *err = d->err;
    rt_graph *g = d->graph;
    const rt_process *p = d->process;
    bool convert = converts(d) && d->round == 0, ddim = d->teacher.solver == d->student.solver;
    bool graph = d->data && d->teacher.net && ddim; /* the teacher's steps are nodes; else its maps are made beforehand */
    int q = d->teacher_steps / d->steps, n = count_starts(d, q), stride = strcmp(d->config->pd.starts, "all") ? q : 1;

    /* coefficients of one student step s -> t, per start: x_t = A x_s + C x0 (1.30), x~ = (x_t - A x_s)/C (1.34), and the weight */
    double *A = calloc((size_t)(3 * n), sizeof *A), *C = A + n, *w = C + n;
    if (!A) RT_RAISE(RT_E_MEMORY, "out of memory for a grid of %d times", n);
    /* other weights amplify near s = 1 what a conversion still has to learn there */
    const rt_weight *weight = rt_weight_find(convert ? "map" : d->config->train.weight, err);
    rt_status status = weight ? RT_OK : err ? err->status : RT_E_USAGE;
    for (int k = 0; k < n && status == RT_OK; k++) {
        double s = d->grid[k * stride], t = d->grid[k * stride + q];
        status = rt_ddim_coefficients(p, s, t, &A[k], &C[k], err);
        w[k] = rt_weight_at(weight, p, s, t);
    }

    rt_node *y = rt__input_y(d), *k, *xs, *xt = NULL;
    rt__input_draws(d, &d->student);
    if (graph) {
        k = rt_randint(g, "k", 1, (int64_t[]){RT_BATCH}, n);
    } else {
        k = rt_input(g, "k", RT_I64, 1, (int64_t[]){RT_BATCH});
    }
    rt_at s = rt__at(d, d->grid, n, stride, k);
    if (graph) {
        rt_node *x0 = rt__input_x(d, "x0"), *eps = rt_randn(g, "eps", d->rank, d->shape);
        xs = rt_diffuse(x0, s.alpha, s.beta, eps); /* x_s ~ p_s (1.1) */
        rt_at from = s;
        xt = xs;
        for (int j = 1; j <= q && !convert; j++) { /* (1.31), (1.32) */
            rt_at to = rt__at(d, d->grid + j, n, stride, k);
            xt = rt_ddim_step(xt, rt__denoise(&d->teacher, xt, NULL, from, y), from.alpha, from.beta, to.alpha, to.beta);
            from = to;
        }
        d->inputs[0] = x0, d->inputs[1] = y;
        if (status == RT_OK) status = rt__source_data(d);
    } else {
        xs = rt__input_x(d, "xs"), xt = rt__input_x(d, "xt");
        d->inputs[0] = xs, d->inputs[1] = xt, d->inputs[2] = k, d->inputs[3] = y;
        rt__time_pairs pairs;
        if (status == RT_OK) status = rt__time_pairs_open(&pairs, "pd.starts", stride == 1 ? "local" : "student", d->teacher_steps, q, err);
        if (status == RT_OK) status = rt__source_rollout(d, &pairs, n, d->config->pd.pool, d->config->pd.reuse);
    }
    if (convert && ddim) {
        declare_conversion(d, xs, s, y);
    } else if (status == RT_OK) {
        rt_node *a = rt__pick(d, A, n, k), *c = rt__pick(d, C, n, k);
        rt_node *target = rt_ddim_target(xs, xt, a, c); /* Lemma 2 */
        rt_node *x0 = rt__denoise(&d->student, xs, d->draws, s, y);
        rt_node *omega = rt_reshape(rt__pick(d, w, n, k), 1, (int64_t[]){RT_BATCH});
        rt_node *loss = rt_mul(omega, rt__mean_square(d, x0, rt_stop_grad(target)));
        rt__minimise(d, "distil", d->student.set, rt_expect(loss)); /* (1.35) */
    }
    free(A);
    return status;
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
    .defaults = pd_defaults,
    .plan = pd_plan,
    .build = pd_build,
};
