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
#include "distill/method.h"
#include "distill/rollout.h"

#include "base/internal.h"

#include <stdlib.h>
#include <string.h>

static rt_status map_plan(rt_distill *d)
{
    rt_error *err = d->err;
    const rt_config *c = d->config;
    if (!rt__distance_find("map.distance", c->map.distance, err)) return RT_E_USAGE;
    RT_TRY(rt__teacher_solver(d, "map.teacher-solver", c->map.solver));
    d->first.guidance = c->map.guidance;
    if (c->map.teacher_steps % c->map.steps)
        RT_RAISE(RT_E_USAGE, "map.steps: %d does not divide %d, the steps of the teacher", c->map.steps, c->map.teacher_steps);
    d->n_rounds = 1;
    d->chain[0] = d->teacher_steps = c->map.teacher_steps;
    d->chain[1] = d->steps = c->map.steps;
    d->n_chain = d->steps < d->teacher_steps ? 2 : 1;
    rt__time_pairs pairs;
    rt_status s = rt__time_pairs_open(&pairs, "map.pairs", c->map.pairs, d->teacher_steps, d->teacher_steps / d->steps, err);
    for (int k = 1; s == RT_OK && k < pairs.n && rt_net_describe(d->student.net)->times < 2; k++)
        if (pairs.from[k] == pairs.from[k - 1])
            s = rt_error_set(
                err, RT_E_USAGE,
                "map.pairs: %s has several t for one s, which the network must be told; give --net with \"_target_time\": true in it",
                c->map.pairs);
    rt__time_pairs_close(&pairs);
    return s;
}

/* The coefficients of a map s -> t, per pair of times. */
typedef struct coefficients {
    double *A, *C, *w, *s, *t; /* s, t: times */
} coefficients;

static rt_status tabulate(const rt_distill *d, const rt__time_pairs *p, coefficients *c, rt_error *err)
{
    const rt_weight *weight = rt_weight_find(d->config->train.weight, err);
    if (!weight) return RT_E_USAGE;
    for (int k = 0; k < p->n; k++) {
        c->s[k] = d->grid[p->from[k]];
        c->t[k] = d->grid[p->to[k]];
        RT_TRY(rt_ddim_coefficients(d->process, c->s[k], c->t[k], &c->A[k], &c->C[k], err));
        c->w[k] = rt_weight_at(weight, d->process, c->s[k], c->t[k]) / (c->C[k] * c->C[k]);
    }
    return RT_OK;
}

static rt_status map_build(rt_distill *d)
{
    rt_error *err = d->err;
    const rt_config *c = d->config;
    rt__time_pairs pairs;
    RT_TRY(rt__time_pairs_open(&pairs, "map.pairs", c->map.pairs, d->teacher_steps, d->teacher_steps / d->steps, err));
    int n = pairs.n;
    double *A = calloc((size_t)n * 5, sizeof *A);
    coefficients table = {A, A + n, A + 2 * n, A + 3 * n, A + 4 * n};
    rt_status status = A ? tabulate(d, &pairs, &table, err) : rt_error_set(err, RT_E_MEMORY, "out of memory for %d pairs of times", n);
    if (status != RT_OK) {
        rt__time_pairs_close(&pairs);
        free(A);
        return status;
    }
    rt_node *xs = rt__input_x(d, "xs"), *xt = rt__input_x(d, "xt"), *y = rt__input_y(d);
    rt_node *k = rt_input(d->graph, "k", RT_I64, 1, (int64_t[]){RT_BATCH});
    rt_at s = rt__at(d, table.s, n, 1, k);
    if (rt_net_describe(d->student.net)->times == 2) s = rt__towards(s, rt__at(d, table.t, n, 1, k));
    rt_node *x0 = rt__denoise(&d->student, xs, d->draws, s, y);
    rt_node *G = rt_add(rt_mul(rt__pick(d, table.A, n, k), xs), rt_mul(rt__pick(d, table.C, n, k), x0));
    rt_node *w = rt_reshape(rt__pick(d, table.w, n, k), 1, (int64_t[]){RT_BATCH});
    rt_node *apart = rt__distance_find("map.distance", c->map.distance, NULL)(d, G, xt);
    rt__minimise(d, "match", d->student.set, rt_expect(rt_mul(w, apart))); /* (1.10) */
    d->inputs[0] = xs, d->inputs[1] = xt, d->inputs[2] = k, d->inputs[3] = y;
    free(A);
    return rt__source_rollout(d, &pairs, c->map.per_rollout < n ? c->map.per_rollout : n, c->map.pool, 1);
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
    .defaults = map_defaults,
    .plan = map_plan,
    .build = map_build,
};
