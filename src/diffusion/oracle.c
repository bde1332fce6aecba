/* oracle.c -- what all oracles share: classes, the questions that they answer, and how they pass for a network. */
#include "diffusion/oracle.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CLASSES = 1 << 16 };

rt_oracle *rt__oracle_new(const rt__oracle_kind *kind, int64_t n, int64_t features, const rt_process *process,
                          const rt_prediction *prediction)
{
    rt_oracle *o = calloc(1, sizeof *o);
    int64_t *order = malloc((size_t)n * sizeof *order);
    if (!o || !order) {
        free(o);
        free(order);
        return NULL;
    }
    for (int64_t k = 0; k < n; k++) order[k] = k;
    *o = (rt_oracle){.kind = kind,
                     .features = features,
                     .rank = 1,
                     .shape = {features},
                     .low = -1,
                     .high = 1,
                     .process = process,
                     .prediction = prediction,
                     .n = n,
                     .order = order,
                     .share = 1};
    return o;
}

void rt_oracle_free(rt_oracle *o)
{
    if (!o) return;
    rt_process_free(o->owned);
    rt_scheduler_free(o->scheduler);
    free(o->order);
    free(o->components);
    free(o->boxes);
    free(o->numbers);
    free(o->samples);
    free(o->given);
    free(o);
}

int64_t rt_oracle_features(const rt_oracle *o) { return o->features; }
const rt_process *rt_oracle_process(const rt_oracle *o) { return o->process; }
const rt_scheduler *rt_oracle_scheduler(const rt_oracle *o) { return o->scheduler; }
const rt_prediction *rt_oracle_prediction(const rt_oracle *o) { return o->prediction; }

int rt_oracle_shape(const rt_oracle *o, int64_t shape[3], double *low, double *high)
{
    memcpy(shape, o->shape, sizeof o->shape);
    *low = o->low;
    *high = o->high;
    return o->rank;
}

/* ---- parts and classes */

double rt__oracle_weight(const rt_oracle *o, int64_t k)
{
    return o->components ? o->components[k].weight : o->boxes ? o->boxes[k].weight : o->share / (double)o->n;
}

rt_status rt__oracle_check_weights(int64_t n, const double *weights, rt_error *err)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        if (!(weights[k] > 0 && weights[k] <= 1))
            RT_RAISE(RT_E_INVALID, "weight %lld is %g; must be positive and at most 1", (long long)k, weights[k]);
        sum += weights[k];
    }
    if (fabs(sum - 1) > 1e-6) RT_RAISE(RT_E_INVALID, "the weights add up to %g; must be 1", sum);
    return RT_OK;
}

rt_status rt_oracle_set_classes(rt_oracle *o, const int64_t *labels, rt_error *err)
{
    int64_t classes = 0;
    for (int64_t k = 0; k < o->n; k++) {
        if (labels[k] < 0 || labels[k] >= MAX_CLASSES)
            RT_RAISE(RT_E_INVALID, "class %lld of part %lld; must be 0 to %d", (long long)labels[k], (long long)k, MAX_CLASSES - 1);
        if (labels[k] >= classes) classes = labels[k] + 1;
    }
    rt_oracle *given = calloc((size_t)classes, sizeof *given);
    int64_t *order = malloc((size_t)o->n * sizeof *order), at = 0;
    if (!given || !order) {
        free(given);
        free(order);
        RT_RAISE(RT_E_MEMORY, "out of memory for %lld classes", (long long)classes);
    }
    for (int64_t k = 0; k < o->n; k++) given[labels[k]].n++;
    for (int64_t c = 0; c < classes; c++) {
        rt_oracle *g = &given[c];
        int64_t n = g->n;
        *g = *o;
        g->order = order + at;
        g->n = 0;
        g->share = 0;
        g->classes = 0;
        g->given = NULL;
        at += n;
        if (n > 0) continue;
        free(given);
        free(order);
        RT_RAISE(RT_E_INVALID, "class %lld has no part, but there is a class %lld; number the classes 0, 1, ... without gaps", (long long)c,
                 (long long)classes - 1);
    }
    for (int64_t k = 0; k < o->n; k++) {
        rt_oracle *g = &given[labels[k]];
        g->order[g->n++] = k;
        g->share += rt__oracle_weight(o, k);
    }
    free(o->order);
    free(o->given);
    o->order = order;
    o->given = given;
    o->classes = classes;
    return RT_OK;
}

int64_t rt_oracle_classes(const rt_oracle *o) { return o->classes; }
double rt_oracle_share(const rt_oracle *o) { return o->share; }

const rt_oracle *rt_oracle_given(const rt_oracle *o, int64_t label)
{
    return label >= 0 && label < o->classes ? &o->given[label] : label == o->classes ? o : NULL;
}

/* ---- questions */

rt_status rt__oracle_check_point(const rt_oracle *o, double alpha, double beta, rt_error *err)
{
    if (!(alpha >= 0) || !(beta >= 0) || !(alpha + beta > 0) || !isfinite(alpha + beta))
        RT_RAISE(RT_E_USAGE, "oracle: alpha %g, beta %g; neither may be negative, nor both 0", alpha, beta);
    if (o->kind->rough && !(beta > 1e-150)) RT_RAISE(RT_E_USAGE, "oracle: beta %g; %s", beta, o->kind->rough);
    return RT_OK;
}

static rt_status ask(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *mean, double *score, double *log_p,
                     rt_error *err)
{
    RT_TRY(rt__oracle_check_point(o, alpha, beta, err));
    return o->kind->answer(o, alpha, beta, n, x, mean, score, log_p, err);
}

rt_status rt_oracle_posterior_mean(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *x0, rt_error *err)
{
    return ask(o, alpha, beta, n, x, x0, NULL, NULL, err);
}

rt_status rt_oracle_score(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *score, rt_error *err)
{
    return ask(o, alpha, beta, n, x, NULL, score, NULL, err);
}

rt_status rt_oracle_log_density(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *log_p, rt_error *err)
{
    return ask(o, alpha, beta, n, x, NULL, NULL, log_p, err);
}

rt_status rt_oracle_flow_map(const rt_oracle *o, double alpha_s, double beta_s, double alpha_t, double beta_t, int64_t n, const double *x,
                             double *out, rt_error *err)
{
    RT_TRY(rt__oracle_check_point(o, alpha_s, beta_s, err));
    if (!(alpha_t >= 0) || !(beta_t >= 0) || !(alpha_t + beta_t > 0) || !isfinite(alpha_t + beta_t))
        RT_RAISE(RT_E_USAGE, "oracle: to alpha %g, beta %g; neither may be negative, nor both 0", alpha_t, beta_t);
    bool line = !o->kind->rough && o->n == 1;
    return (line ? rt__oracle_line : rt__oracle_solve)(o, alpha_s, beta_s, alpha_t, beta_t, n, x, out, err);
}

rt_status rt_oracle_draw(const rt_oracle *o, uint64_t seed, int64_t first, int64_t n, double *x, rt_error *err)
{
    int64_t d = o->features;
    rt__draw normal = {.seed = seed, .name = rt__draw_name("oracle")}, choice = {.seed = seed, .name = rt__draw_name("component")};
    double *z = malloc((size_t)(d + 4) * sizeof *z);
    if (!z) RT_RAISE(RT_E_MEMORY, "out of memory for %lld numbers", (long long)(d + 4));
    for (int64_t r = 0; r < n; r++) {
        uint32_t words[4];
        rt__draw_words(&choice, (uint32_t)(first + r), 0, words);
        double u = rt__unit(words[0]);
        int64_t k = o->samples ? (int64_t)(u * (double)o->n) : 0;
        for (u *= o->share; !o->samples && k + 1 < o->n && u >= rt__oracle_weight(o, o->order[k]); k++)
            u -= rt__oracle_weight(o, o->order[k]);
        for (int64_t i = 0; i < d; i += 4) rt__draw_normal(&normal, (uint32_t)(first + r), (uint32_t)(i / 4), z + i);
        o->kind->draw(o, k, z, x + r * d);
    }
    free(z);
    return RT_OK;
}

/* ---- as a network */

/* What it returns as each prediction, from the posterior mean and the score: E[eps | x] = -beta score. */
static void as_x0(int64_t n, double alpha, double beta, const double *mean, const double *score, double *out)
{
    (void)alpha, (void)beta, (void)score;
    memcpy(out, mean, (size_t)n * sizeof *out);
}

static void as_epsilon(int64_t n, double alpha, double beta, const double *mean, const double *score, double *out)
{
    (void)alpha, (void)mean;
    for (int64_t i = 0; i < n; i++) out[i] = -beta * score[i];
}

static void as_v(int64_t n, double alpha, double beta, const double *mean, const double *score, double *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = -beta * (alpha * score[i] + mean[i]);
}

static void as_score(int64_t n, double alpha, double beta, const double *mean, const double *score, double *out)
{
    (void)alpha, (void)beta, (void)mean;
    memcpy(out, score, (size_t)n * sizeof *out);
}

static void as_velocity(int64_t n, double alpha, double beta, const double *mean, const double *score, double *out)
{
    (void)alpha;
    for (int64_t i = 0; i < n; i++) out[i] = -beta * score[i] - mean[i];
}

static const struct answer {
    const char *prediction;
    void (*fill)(int64_t n, double alpha, double beta, const double *mean, const double *score, double *out);
} answers[] = {{"x0", as_x0}, {"epsilon", as_epsilon}, {"v", as_v}, {"score", as_score}, {"velocity", as_velocity}};

/* n rows of one class. */
static rt_status respond(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *out, rt_error *err)
{
    int64_t count = n * o->features;
    double *mean = malloc((size_t)(2 * count) * sizeof *mean);
    if (!mean) RT_RAISE(RT_E_MEMORY, "out of memory for %lld rows", (long long)n);
    rt_status status = ask(o, alpha, beta, n, x, mean, mean + count, NULL, err);
    for (size_t i = 0; status == RT_OK && i < RT_COUNT(answers); i++)
        if (!strcmp(answers[i].prediction, rt_prediction_name(o->prediction))) answers[i].fill(count, alpha, beta, mean, mean + count, out);
    free(mean);
    return status;
}

/* Rows of all classes: gathered, answered and put back class by class. */
static rt_status respond_by_class(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, const int64_t *y, double *out,
                                  rt_error *err)
{
    size_t d = (size_t)o->features;
    for (int64_t j = 0; j < n; j++)
        if (!rt_oracle_given(o, y[j]))
            RT_RAISE(RT_E_INVALID, "oracle: row %lld is of class %lld; must be 0 to %lld", (long long)j, (long long)y[j],
                     (long long)o->classes);
    double *in = malloc(2 * (size_t)n * d * sizeof *in), *found = in + (size_t)n * d;
    if (!in) RT_RAISE(RT_E_MEMORY, "out of memory for %lld rows", (long long)n);
    rt_status status = RT_OK;
    for (int64_t c = 0; c <= o->classes && status == RT_OK; c++) {
        int64_t m = 0;
        for (int64_t j = 0; j < n; j++)
            if (y[j] == c) memcpy(in + (size_t)m++ * d, x + (size_t)j * d, d * sizeof *x);
        if (m > 0) status = respond(rt_oracle_given(o, c), alpha, beta, m, in, found, err);
        m = 0;
        for (int64_t j = 0; j < n && status == RT_OK; j++)
            if (y[j] == c) memcpy(out + (size_t)j * d, found + (size_t)m++ * d, d * sizeof *out);
    }
    free(in);
    return status;
}

static rt_status eval(void *self, const rt_field_call *at, int64_t n, const double *x, const int64_t *y, double *out, rt_error *err)
{
    const rt_oracle *o = self;
    double t = at->t;
    double alpha = rt_process_alpha(o->process, t), beta = rt_process_beta(o->process, t);
    if (!(beta > 0)) RT_RAISE(RT_E_USAGE, "oracle: asked at time %g; must be above 0 and at most %g", t, rt_process_end(o->process));
    return y && o->classes ? respond_by_class(o, alpha, beta, n, x, y, out, err) : respond(o, alpha, beta, n, x, out, err);
}

rt_field rt_oracle_field(const rt_oracle *o)
{
    return (rt_field){.self = (void *)(uintptr_t)o,
                      .eval = eval,
                      .prediction = o->prediction,
                      .features = o->features,
                      .null_class = o->classes ? o->classes : -1};
}
