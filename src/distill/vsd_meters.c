/* vsd_meters.c -- see vsd_meters.h.
 *
 *     score gap         E|f_z - f_p|^2/E|x0 - f_p|^2
 *     fake lag          E[(f_p - f_z)^T (f_z - x0)]/E|f_p - f_z|^2, 0 for the exact auxiliary score, whose residual is orthogonal to functions of x_t
 *     score loss        E w |f_z - x0|^2, w that of the score's phase (1.17)
 *     kl                E omega KL(p^theta_t || p_t) of (1.13), what `vsd` descends: E omega (r - 1 - log r), r = p/p_theta at the student's x_t; as
 *                       E r = 1 that is E -log r, without the part of its variance that is known
 *     calibration       E p/p_theta over the student's samples and E p_theta/p over real ones, 1 each for an exact ratio
 *     critic accuracy   the share of logits of the right sign, of as many real as made samples */
#include "distill/vsd_meters.h"

#include "base/internal.h"

#include <math.h>
#include <string.h>

static const rt_meter score_gap = {
    "score_gap", "difference of teacher and auxiliary score on the student's samples", RT_METER_MEAN, 0, -INFINITY, INFINITY, NULL, false};
static const rt_meter fake_lag = {"fake_lag",
                                  "residual of the auxiliary score along that difference",
                                  RT_METER_MEAN,
                                  0,
                                  -INFINITY,
                                  0.5,
                                  "the auxiliary score lags: raise vsd.score-updates or vsd.score-lr",
                                  false};
static const rt_meter score_loss = {"score_loss", "(1.17) of the auxiliary score", RT_METER_MEAN, 0, -INFINITY, INFINITY, NULL, false};
static const rt_meter kl = {"kl", "divergence (1.13) that vsd descends, exact", RT_METER_MEAN, 0, -INFINITY, INFINITY, NULL, false};
static const rt_meter effective_share = {
    "effective_share",
    "effective sample size of the generator's weights",
    RT_METER_SHARE,
    1,
    0.1,
    INFINITY,
    "few samples carry an update: narrow f.ratio-clip, enlarge train.batch, or take a divergence nearer to kl",
    false};
#define UNCALIBRATED "the critic's ratio is not calibrated: raise vsd.score-updates or gan.r1"
static const rt_meter ratio_mean = {"ratio_mean", "mean of p/p_theta on the student's samples", RT_METER_MEAN, 1, 0.5, 2, UNCALIBRATED,
                                    false};
static const rt_meter real_ratio_mean = {
    "real_ratio_mean", "mean of p_theta/p on real samples", RT_METER_MEAN, 1, 0.5, 2, UNCALIBRATED, false};
static const rt_meter critic_accuracy = {"critic_accuracy",
                                         "share of samples that the critic tells rightly",
                                         RT_METER_MEAN,
                                         0.5,
                                         -INFINITY,
                                         0.95,
                                         "the critic wins, and what it tells the generator fades: lower gan.critic-weight or raise gan.r1",
                                         false};
#define REMEDY "lower train.lr, set train.clip 1, or raise vsd.score-updates; run.select keeps the best student"
static const rt_meter distance = {"distance",
                                  "distance between two of the student's samples over that of the teacher's",
                                  RT_METER_DISTANCE,
                                  1,
                                  0.5,
                                  INFINITY,
                                  "collapse, samples are alike: " REMEDY,
                                  true};
static const rt_meter mean_off = {"mean_off",
                                  "mean of the samples against the teacher's",
                                  RT_METER_MEAN_OFF,
                                  0,
                                  -INFINITY,
                                  0.5,
                                  "collapse, samples are not where the teacher's are: " REMEDY,
                                  true};
static const rt_meter deviation_off = {"deviation_off",
                                       "deviation of the samples against the teacher's",
                                       RT_METER_DEVIATION_OFF,
                                       0,
                                       -INFINITY,
                                       0.5,
                                       "collapse, samples are spread otherwise than the teacher's: " REMEDY,
                                       true};
static const rt_meter recall = {
    "recall", "share of the teacher's samples that lie among the student's, in features", RT_METER_RECALL, 1, -INFINITY, INFINITY, NULL,
    false};
static const rt_meter coverage = {"coverage",
                                  "share of the teacher's samples with one of the student's near, in features",
                                  RT_METER_COVERAGE,
                                  1,
                                  0.5,
                                  INFINITY,
                                  "collapse, kinds of samples are missing: " REMEDY,
                                  true};
static const rt_meter grad_growth = {
    "grad_growth", "gradient norm over its running median", RT_METER_GRADIENT, 1, -INFINITY, 10, "collapse, the gradient grows: " REMEDY,
    true};

/* ---- plans */

static rt_status measure_scores(rt_phase *p, rt_error *err)
{
    rt__vsd_sample s;
    RT_TRY(rt__vsd_measure(p, &s, err));
    return rt__gan_planned(p->round->task) ? rt__gan_measure(p, &s, err) : RT_OK;
}

void rt__vsd_plan_meters(rt_plan *plan, const rt_task *t, bool scores, rt_status (*measure)(rt_phase *p, rt_error *err))
{
    plan->measure = measure ? measure : measure_scores;
    if (scores) {
        rt__plan_meter(plan, &score_gap);
        rt__plan_meter(plan, &fake_lag);
        rt__plan_meter(plan, &score_loss);
    }
    if (rt__has_exact_ratio(t) && plan->rounds[0].steps == 1) rt__plan_meter(plan, &kl);
    for (int i = 0; i < plan->n_networks; i++)
        if (!strcmp(plan->networks[i].name, "score") && plan->networks[i].declare) rt__plan_meter(plan, &critic_accuracy);
    rt__plan_meter(plan, &distance);
    rt__plan_meter(plan, &mean_off);
    rt__plan_meter(plan, &deviation_off);
    if (*t->config->run.features) {
        rt__plan_meter(plan, &recall);
        rt__plan_meter(plan, &coverage);
    }
    rt__plan_meter(plan, &grad_growth);
}

void rt__ratio_plan_meters(rt_plan *plan, const rt_task *t, bool weighted)
{
    if (weighted) rt__plan_meter(plan, &effective_share);
    rt__plan_meter(plan, &ratio_mean);
    if (rt__ratio_critic(t)) rt__plan_meter(plan, &real_ratio_mean);
}

static bool planned(const rt_phase *p, const rt_meter *row)
{
    const rt_plan *plan = &p->round->task->plan;
    for (int i = 0; i < plan->n_meters; i++)
        if (plan->meters[i] == row) return true;
    return false;
}

/* ---- graphs */

/* e^x - 1 - x, near 0 by its series: the difference would be lost in float. */
static rt_node *exp_beyond(rt_node *x)
{
    rt_node *series = rt_scale(x, 1.0 / 720);
    static const double terms[] = {1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2};
    for (int i = 0; i < 4; i++) series = rt_mul(rt_offset(series, terms[i]), i < 3 ? x : rt_square(x));
    rt_node *small = rt_less(rt_abs(x), rt_scalar(rt_node_graph(x), 0.25));
    return rt_where(small, series, rt_offset(rt_sub(rt_exp(x), x), -1));
}

rt_status rt__vsd_measure(rt_phase *p, rt__vsd_sample *s, rt_error *err)
{
    rt_node *score_weight;
    RT_TRY(rt__vsd_sample_held_out(p, s, &score_weight, err));
    if (planned(p, &score_gap)) {
        rt_node *f_z = rt__vsd_score(p, s);
        rt_node *f_p = rt__denoise(rt__denoiser(p, "teacher"), s->xt, NULL, s->t, s->y);
        rt_node *apart = rt_sub(f_p, f_z), *residual = rt_sub(f_z, s->x0), *square = rt_norm2(apart);
        rt__meter(p, &score_gap, square, rt_norm2(rt_sub(s->x0, f_p)));
        rt__meter(p, &fake_lag, rt_dot(apart, residual), square);
        rt__meter(p, &score_loss, rt_mul(score_weight, rt_norm2(residual)), NULL);
    }
    if (planned(p, &kl)) {
        const int64_t one[] = {RT_BATCH};
        rt_node *log_r = rt_neg(rt__exact_log_u(p, s));
        rt_node *omega = rt_mul(s->w, rt_square(rt_div(rt_reshape(s->t.beta, 1, one), rt_reshape(s->t.alpha, 1, one)))); /* w/SNR */
        rt__meter(p, &kl, rt_mul(omega, exp_beyond(log_r)), NULL);
    }
    return RT_OK;
}

/* Logits of the student's x_t and of real samples noised at the same times. */
static rt_status logits(rt_phase *p, const rt__vsd_sample *s, rt_node **made, rt_node **real, rt_error *err)
{
    const rt_task *t = p->round->task;
    rt_node *x, *y;
    RT_TRY(rt__gan_real(p, &x, &y, err));
    *made = rt__vsd_logit(p, s, s->xt, s->y);
    *real = rt__vsd_logit(p, s, rt_diffuse(x, s->t.alpha, s->t.beta, rt_randn(p->graph, "eps.real", t->rank, t->shape)), y);
    return RT_OK;
}

/* At times that the critic learns at. */
static void meter_accuracy(rt_phase *p, const rt__vsd_sample *s, rt_node *made, rt_node *real)
{
    const rt__adversarial_settings *own = rt__own(p->round->task->config);
    rt_node *zero = rt_scalar(p->graph, 0);
    rt_dtype type = rt_graph_real(p->graph);
    rt_node *learnt = rt_cast(rt_less(s->when, rt_scalar(p->graph, own->gan.t_max + 1e-6)), type);
    rt_node *right = rt_scale(rt_add(rt_cast(rt_less(made, zero), type), rt_cast(rt_less(zero, real), type)), 0.5);
    rt__meter(p, &critic_accuracy, rt_mul(learnt, right), learnt);
}

rt_status rt__gan_measure(rt_phase *p, const rt__vsd_sample *s, rt_error *err)
{
    rt_node *made, *real;
    RT_TRY(logits(p, s, &made, &real, err));
    meter_accuracy(p, s, made, real);
    return RT_OK;
}

rt_status rt__ratio_measure(rt_phase *p, const rt__vsd_sample *s, rt_node *weight, rt_error *err)
{
    rt_node *made, *real;
    if (weight) rt__meter(p, &effective_share, weight, NULL);
    rt__meter(p, &ratio_mean, rt_exp(rt_neg(rt__ratio_log_u(p, s))), NULL);
    if (!rt__ratio_critic(p->round->task)) return RT_OK;
    RT_TRY(logits(p, s, &made, &real, err));
    rt__meter(p, &real_ratio_mean, rt_exp(rt_neg(real)), NULL);
    meter_accuracy(p, s, made, real);
    return RT_OK;
}
