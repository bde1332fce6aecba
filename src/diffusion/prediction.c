/* prediction.c -- what a network's output means. Every row is out = a x0 + b eps, with a and b simple terms in alpha and beta; together with
 * x = alpha x0 + beta eps that is a system of two equations, D = alpha b - beta a:
 *
 *     a = 0:  eps = out / b,                   x0 = (x - beta eps) / alpha
 *     b = 0:  x0 = out / a,                    eps = (x - alpha x0) / beta
 *     else    x0 = (b x - beta out) / D,       eps = (alpha out - a x) / D */
#include "diffusion/diffusion_rows.h"

#include "base/internal.h"
#include "retort/ops.h"

#include <math.h>
#include <string.h>

typedef enum term { ZERO, ONE, MINUS_ONE, ALPHA, MINUS_BETA, MINUS_1_BY_BETA } term;

struct rt_prediction {
    const char *name, *diffusers, *source, *formula;
    term a, b;
};

static const rt_prediction rows[] = {
    {"x0", "sample", "(1.2)", "out = x0", ONE, ZERO},
    {"epsilon", "epsilon", "(1.3), Ho et al. 2020", "out = eps", ZERO, ONE},
    {"v", "v_prediction", "Salimans & Ho 2022", "out = alpha eps - beta x0", MINUS_BETA, ALPHA},
    {"score", NULL, "(1.2), Song et al. 2021", "out = -eps / beta", ZERO, MINUS_1_BY_BETA},
    {"velocity", "flow_prediction", "Lipman et al. 2023", "out = eps - x0", MINUS_ONE, ONE},
};

const rt_prediction *rt_prediction_find(const char *name, rt_error *err)
{
    for (size_t i = 0; name && i < RT_COUNT(rows); i++)
        if (rows[i].diffusers && !strcmp(rows[i].diffusers, name)) return &rows[i];
    int index = RT__FIND("predictions", name, rows, err);
    return index < 0 ? NULL : &rows[index];
}

bool rt_prediction_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i].name, rows[i].source, rows[i].formula};
    return true;
}

const char *rt_prediction_name(const rt_prediction *p) { return p->name; }
const char *rt_prediction_diffusers(const rt_prediction *p) { return p->diffusers; }

/* ---- numbers */

static double value(term t, double alpha, double beta)
{
    switch (t) {
    case ONE: return 1;
    case MINUS_ONE: return -1;
    case ALPHA: return alpha;
    case MINUS_BETA: return -beta;
    case MINUS_1_BY_BETA: return -1 / beta;
    case ZERO: break;
    }
    return 0;
}

rt_status rt_prediction_check(const rt_prediction *p, double alpha, double beta, rt_error *err)
{
    if (!(beta > 0) || !(alpha >= 0) || !isfinite(alpha) || !isfinite(beta))
        RT_RAISE(RT_E_USAGE, "a network is asked at alpha %g, beta %g; beta must be positive: time 0 is data", alpha, beta);
    if (p->a == ZERO && alpha == 0)
        RT_RAISE(
            RT_E_INVALID,
            "%s-prediction at alpha 0 says nothing about x0; use v- or x0-prediction with this process, or start below its noisiest time",
            p->name);
    return RT_OK;
}

rt_status rt_prediction_split(const rt_prediction *p, int64_t n, const double *out, const double *x, double alpha, double beta, double *x0,
                              double *eps, rt_error *err)
{
    RT_TRY(rt_prediction_check(p, alpha, beta, err));
    double a = value(p->a, alpha, beta), b = value(p->b, alpha, beta), D = alpha * b - beta * a;
    for (int64_t i = 0; i < n; i++) {
        double o = out[i], here = x[i], data, noise;
        if (p->a == ZERO) {
            noise = o / b;
            data = (here - beta * noise) / alpha;
        } else if (p->b == ZERO) {
            data = o / a;
            noise = (here - alpha * data) / beta;
        } else {
            data = (b * here - beta * o) / D;
            noise = (alpha * o - a * here) / D;
        }
        if (x0) x0[i] = data;
        if (eps) eps[i] = noise;
    }
    return RT_OK;
}

rt_status rt_prediction_join(const rt_prediction *p, int64_t n, const double *x0, const double *eps, double alpha, double beta, double *out,
                             rt_error *err)
{
    if (!(beta > 0) && p->b == MINUS_1_BY_BETA) RT_RAISE(RT_E_USAGE, "the score is not defined at beta %g; time 0 is data", beta);
    double a = value(p->a, alpha, beta), b = value(p->b, alpha, beta);
    for (int64_t i = 0; i < n; i++) out[i] = a * x0[i] + b * eps[i];
    return RT_OK;
}

/* ---- graphs. A term is a node, or NULL for 0 */

static rt_node *node(term t, rt_node *alpha, rt_node *beta)
{
    switch (t) {
    case ONE: return rt_scalar(rt_node_graph(alpha), 1);
    case MINUS_ONE: return rt_scalar(rt_node_graph(alpha), -1);
    case ALPHA: return alpha;
    case MINUS_BETA: return rt_neg(beta);
    case MINUS_1_BY_BETA: return rt_neg(rt_recip(beta));
    case ZERO: break;
    }
    return NULL;
}

/* term * x without multiplying by one. */
static rt_node *times(term t, rt_node *alpha, rt_node *beta, rt_node *x)
{
    if (t == ONE) return x;
    if (t == MINUS_ONE) return rt_neg(x);
    return rt_mul(node(t, alpha, beta), x);
}

/* x / term; only score divides, and that is a product with beta. */
static rt_node *over(term t, rt_node *alpha, rt_node *beta, rt_node *x)
{
    if (t == MINUS_1_BY_BETA) return rt_neg(rt_mul(beta, x));
    if (t == ONE) return x;
    return rt_div(x, node(t, alpha, beta));
}

/* D, for rows where neither term is 0: alpha^2 + beta^2 or alpha + beta. */
static rt_node *determinant(const rt_prediction *p, rt_node *alpha, rt_node *beta)
{
    return rt_sub(times(p->b, alpha, beta, alpha), times(p->a, alpha, beta, beta));
}

rt_node *rt_predict_x0(const rt_prediction *p, rt_node *out, rt_node *xt, rt_node *alpha, rt_node *beta)
{
    if (p->b == ZERO) return over(p->a, alpha, beta, out);
    if (p->a == ZERO) return rt_div(rt_sub(xt, rt_mul(beta, over(p->b, alpha, beta, out))), alpha);
    rt_node *D = determinant(p, alpha, beta); /* divide the small nodes: (B,1,..,1) */
    return rt_sub(rt_mul(rt_div(node(p->b, alpha, beta), D), xt), rt_mul(rt_div(beta, D), out));
}

rt_node *rt_predict_epsilon(const rt_prediction *p, rt_node *out, rt_node *xt, rt_node *alpha, rt_node *beta)
{
    if (p->a == ZERO) return over(p->b, alpha, beta, out);
    if (p->b == ZERO) return rt_div(rt_sub(xt, rt_mul(alpha, over(p->a, alpha, beta, out))), beta);
    rt_node *D = determinant(p, alpha, beta);
    return rt_sub(rt_mul(rt_div(alpha, D), out), rt_mul(rt_div(node(p->a, alpha, beta), D), xt));
}

rt_node *rt_predict_score(const rt_prediction *p, rt_node *out, rt_node *xt, rt_node *alpha, rt_node *beta)
{
    if (p->b == MINUS_1_BY_BETA) return out;
    return rt_neg(rt_div(rt_predict_epsilon(p, out, xt, alpha, beta), beta));
}

rt_node *rt_predict_from(const rt_prediction *p, rt_node *x0, rt_node *eps, rt_node *alpha, rt_node *beta)
{
    if (p->a == ZERO) return times(p->b, alpha, beta, eps);
    if (p->b == ZERO) return times(p->a, alpha, beta, x0);
    return rt_add(times(p->b, alpha, beta, eps), times(p->a, alpha, beta, x0));
}
