/* ratio_weighted.c -- see ratio_weighted.h. */
#include "distill/ratio_weighted.h"
#include "distill/ratio.h"
#include "distill/score_objectives.h"

#include "base/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(rt__ratio_settings) + 64 <= RT_CONFIG_OWN, "settings must fit");

#define STRUCT rt__ratio_settings
const rt_config_key rt__ratio_keys[RT__RATIO_KEYS] = {
    RT__TEXT("f.ratio", ratio, "critic", "NAME",
             "where p/p_theta comes from: critic, or exact: an oracle teacher and a RetortAffine student"),
    RT__TEXT("f.ratio-clip", clip, "0.1,20", "LOW,HIGH", "p/p_theta is held in this range; none: it is not"),
    RT__INT("f.bins", bins, 0, 1000, "10",
            "bins of time within each of which ratios are normalised; 0: one for the batch, whose samples then share one time with renyi"),
    RT__REAL("f.bins-average", decay, 0, 0.9999, "0.9",
             "decay of the bins' means from update to update; 0, and of ratios that are not clipped: those of the batch alone"),
};

const char *const rt__ratio_defaults[] = {"train.batch",  "128",  "train.lr",   "0.001", "train.lr-schedule", "linear",
                                          "train.warmup", "100",  "train.clip", "0",     "train.beta1",       "0",
                                          "train.beta2",  "0.99", "train.ema",  "0.999", "train.updates",     "5000",
                                          "vsd.weight",   "snr",  NULL};

enum { MOST_EXACT = 8 }; /* numbers of a sample whose density is written out */
static const double most_logit = 10;

static const rt__ratio_settings *settings(const rt_task *t) { return rt__own(t->config); }
static bool exact(const rt_task *t) { return !strcmp(settings(t)->ratio, "exact"); }

/* Is there a critic at all? */
bool rt__ratio_critic(const rt_task *t) { return !exact(t) || settings(t)->family.gan.weight > 0; }

static rt_status read_clip(const rt_task *t, double *low, double *high, rt_error *err)
{
    const char *text = settings(t)->clip;
    int end = 0;
    *low = 0, *high = INFINITY;
    if (!strcmp(text, "none")) return RT_OK;
    if (sscanf(text, "%lf,%lf%n", low, high, &end) != 2 || text[end] || !(*low > 0) || !(*low < *high))
        RT_RAISE(RT_E_USAGE, "f.ratio-clip: '%s'; give LOW,HIGH with 0 < LOW < HIGH such as 0.1,20, or none", text);
    return RT_OK;
}

bool rt__has_exact_ratio(const rt_task *t)
{
    const rt_net *net = t->net ? t->net : t->teacher.net;
    return t->teacher.oracle && !strcmp(rt_net_describe(net)->kind, "RetortAffine") && t->features <= MOST_EXACT && t->classes == 0;
}

static rt_status check_exact(const rt_task *t, rt_error *err)
{
    if (rt__vsd_steps(t) > 1)
        RT_RAISE(RT_E_USAGE, "f.ratio: exact, but the density of a student of %d steps is not known; give f.ratio critic",
                 rt__vsd_steps(t));
    const rt_net *net = t->net ? t->net : t->teacher.net;
    if (!t->teacher.oracle)
        RT_RAISE(RT_E_USAGE, "%s: f.ratio exact needs the teacher's density, which an oracle has; give an oracle, or f.ratio critic",
                 t->config->teacher);
    if (!rt__has_exact_ratio(t))
        RT_RAISE(RT_E_USAGE,
                 "%s: f.ratio exact needs the student's density, which a RetortAffine of at most %d numbers without classes has, not this "
                 "%s of %lld; give f.ratio critic",
                 t->config->net, MOST_EXACT, rt_net_describe(net)->kind, (long long)t->features);
    return RT_OK;
}

/* A ratio that is not clipped has no bound: one sample beyond what a float holds would stay in a kept mean. */
static bool keeps_means(const rt_task *t)
{
    const rt__ratio_settings *own = settings(t);
    return own->bins > 0 && own->decay > 0 && strcmp(own->clip, "none") != 0;
}

static rt_status declare_means(const rt_task *t, rt_params *set, rt_error *err)
{
    return rt__declare_kept_means(set, settings(t)->bins, err);
}

rt_status rt__ratio_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const rt__ratio_settings *own = settings(t);
    double low, high;
    if (strcmp(own->ratio, "critic") != 0 && !exact(t)) RT_RAISE(RT_E_USAGE, "f.ratio: '%s'; give critic or exact", own->ratio);
    RT_TRY(read_clip(t, &low, &high, err));
    RT_TRY(rt__vsd_plan(t, plan, rt__vsd_start(t), err));
    if (exact(t)) RT_TRY(check_exact(t, err));
    if (rt__ratio_critic(t) && own->family.gan.t_max < own->family.vsd.t_max)
        RT_RAISE(RT_E_USAGE, "gan.t-max: %g, but the critic is asked for the ratio at times up to vsd.t-max, %g; give no less",
                 own->family.gan.t_max, own->family.vsd.t_max);
    return rt__ratio_critic(t) ? rt__gan_plan_critic(t, plan, false, err) : rt__gan_plan(t, plan, false, err);
}

void rt__ratio_plan_phases(const rt_task *t, rt_plan *plan, rt_status (*means)(rt_phase *p, rt_error *err),
                           rt_status (*generator)(rt_phase *p, rt_error *err))
{
    if (keeps_means(t)) rt__plan_kept_means(plan, declare_means);
    rt__vsd_plan_score(plan, t, rt__gan_score_build);
    rt_phase_plan *keeping = keeps_means(t) ? rt__plan_keeping(plan, t, means) : NULL;
    const rt_phase_plan *moves = rt__vsd_plan_generator(plan, t, generator);
    if (keeping) keeping->stream = moves->stream, keeping->first = moves->first;
}

/* ---- the exact ratio: the affine student's x_t is normal, N(alpha b, alpha^2 A A^T + beta^2) */

/* The student's x0 at rows of noise (n,D), which are numbers. */
static rt_node *generate_rows(rt_phase *p, int64_t n, const double *z)
{
    const rt_task *t = p->round->task;
    const double at = p->round->grid[0];
    double alpha = rt_process_alpha(t->process, at), beta = rt_process_beta(t->process, at), told[MOST_EXACT + 1];
    for (int i = 0; i < n; i++) told[i] = rt_process_network_time(t->process, at);
    rt_at where = {rt_scalar(p->graph, alpha), rt_scalar(p->graph, beta), rt_reals(p->graph, 1, &n, told), NULL, NULL};
    return rt__denoise(rt__denoiser(p, "student"), rt_reals(p->graph, 2, (int64_t[]){n, t->features}, z), NULL, where, NULL);
}

/* One number of a constant matrix, (1,1). */
static rt_node *entry(rt_node *m, int64_t i, int64_t j) { return rt_slice(rt_slice(m, 0, i, i + 1, 1), 1, j, j + 1, 1); }

/* log N(x; alpha b, alpha^2 S + beta^2) by Cholesky's factors, number by number; x (B,D), alpha and beta (B,1), b (1,D), S (D,D). */
static rt_node *log_normal(rt_node *x, rt_node *alpha, rt_node *beta, rt_node *b, rt_node *S, int64_t d)
{
    rt_node *L[MOST_EXACT][MOST_EXACT], *y[MOST_EXACT], *sum = NULL;
    for (int64_t i = 0; i < d; i++) {
        for (int64_t j = 0; j <= i; j++) {
            rt_node *m = rt_mul(rt_square(alpha), entry(S, i, j));
            if (i == j) m = rt_add(m, rt_square(beta));
            for (int64_t k = 0; k < j; k++) m = rt_sub(m, rt_mul(L[i][k], L[j][k]));
            L[i][j] = i == j ? rt_sqrt(m) : rt_div(m, L[j][j]);
        }
        y[i] = rt_sub(rt_slice(x, 1, i, i + 1, 1), rt_mul(alpha, entry(b, 0, i)));
        for (int64_t k = 0; k < i; k++) y[i] = rt_sub(y[i], rt_mul(L[i][k], y[k]));
        y[i] = rt_div(y[i], L[i][i]);
        rt_node *part = rt_neg(rt_add(rt_scale(rt_square(y[i]), 0.5), rt_log(L[i][i])));
        sum = sum ? rt_add(sum, part) : part;
    }
    return rt_offset(rt_reshape(sum, 1, (int64_t[]){RT_BATCH}), -(double)d / 2 * log(2 * M_PI));
}

rt_node *rt__exact_log_u(rt_phase *p, const rt__vsd_sample *s)
{
    const rt_task *t = p->round->task;
    int64_t d = t->features;
    double z[(MOST_EXACT + 1) * MOST_EXACT] = {0};
    for (int64_t i = 0; i < d; i++) z[(i + 1) * d + i] = rt__start_scale(t);
    rt_node *rows = rt_stop_grad(generate_rows(p, d + 1, z)), *b = rt_slice(rows, 0, 0, 1, 1);
    rt_node *A = rt_sub(rt_slice(rows, 0, 1, d + 1, 1), b); /* transposed */
    rt_oracle_nodes of_p;
    rt_oracle_build(t->teacher.oracle, s->xt, s->t.alpha, s->t.beta, NULL, &of_p);
    return rt_stop_grad(rt_sub(log_normal(s->xt, s->t.alpha, s->t.beta, b, rt_matmul(A, A, true, false), d), of_p.log_p));
}

/* ---- the generator */

rt_node *rt__ratio_log_u(rt_phase *p, const rt__vsd_sample *s)
{
    if (exact(p->round->task)) return rt__exact_log_u(p, s);
    rt_node *log_u = rt_neg(rt__vsd_logit(p, s, s->xt, s->y));
    return rt_stop_grad(rt_minimum(rt_maximum(log_u, rt_scalar(p->graph, -most_logit)), rt_scalar(p->graph, most_logit)));
}

rt_node *rt__ratio_clipped(rt_phase *p, rt_node *log_u)
{
    double low, high;
    rt_error unused;
    read_clip(p->round->task, &low, &high, &unused); /* the plan has refused what cannot be read */
    return rt__clip_ratio(log_u, low, high);
}

rt_node *rt__ratio_bins(rt_phase *p, const rt__vsd_sample *s)
{
    const rt__ratio_settings *own = settings(p->round->task);
    return own->bins > 0 ? rt__bins(s->when, own->family.vsd.t_min, own->family.vsd.t_max, own->bins) : NULL;
}

void rt__ratio_keep(rt_phase *p, const rt__vsd_sample *s, rt_node *v)
{
    rt__keep_means(p, settings(p->round->task)->decay, v, rt__ratio_bins(p, s));
}

rt_status rt__ratio_minimise(rt_phase *p, const rt__vsd_sample *s, rt_node *log_u, rt_node *weight, rt_error *err)
{
    const rt_task *t = p->round->task;
    rt_node *f_p, *f_z, *gan, *loss, *w = rt_mul(s->w, weight);
    rt__vsd_predict(p, s, &f_p, &f_z);
    rt__log(p, "effective_share", rt__effective_share(weight));
    rt__log(p, "ratio_mean", rt_expect(rt_exp(rt_neg(log_u)))); /* of p/p_theta over the student's samples: 1 */
    rt_node *difference = rt__score_difference(f_z, f_p);
    RT_TRY(rt__gan_generator_loss(p, s, &gan, err));
    bool normalised = rt__vsd_normalised(t);
    if (normalised)
        loss = rt__pull(s->x0, rt_mul(rt_per_sample(rt_div(w, rt__dmd_normaliser(s->x0, f_p)), difference), difference));
    else
        loss = rt__follow(w, difference, s->x0);
    loss = rt_expect(normalised || gan ? rt_scale(loss, 1.0 / (double)t->features) : loss);
    rt__minimise(p, gan ? rt_add(loss, gan) : loss);
    return RT_OK;
}
