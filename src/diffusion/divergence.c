/* divergence.c -- D_f(q || p) = int p(x) f(q(x)/p(x)) dx (1.19), q the student's density, p the teacher's, u = q/p.
 *
 * Every f is convex with f(1) = 0. With l = log u the nodes need no power of a ratio where a logarithm will do. T = f'(u) is the critic of the variational
 * form E_q T - E_p f*(T), and f*(f'(u)) = u f'(u) - f(u) for every row, so that no conjugate and no domain of one is written down. */
#include "retort/diffusion.h"

#include "base/internal.h"
#include "diffusion/diffusion_rows.h"
#include "retort/ops.h"

#include <math.h>

typedef double number(double u);
typedef rt_node *node(rt_node *l);

struct rt_divergence {
    const char *name, *source, *formula;
    number *f, *slope, *weight, *conjugate;    /* f, f', u f'', u f' - f; of u */
    node *slope_of, *weight_of, *conjugate_of; /* of log u */
};

static rt_node *constant(rt_node *l, double v) { return rt_offset(rt_zeros_like(l), v); }
static rt_node *power(rt_node *l, double exponent) { return rt_exp(rt_scale(l, exponent)); }

/* D_KL(q || p), the lecture's own */
static double kl(double u) { return u > 0 ? u * log(u) : 0; }
static double kl_slope(double u) { return log(u) + 1; }
static double kl_weight(double u) { return (void)u, 1; }
static double kl_conjugate(double u) { return u; }
static rt_node *kl_slope_of(rt_node *l) { return rt_offset(l, 1); }
static rt_node *kl_weight_of(rt_node *l) { return constant(l, 1); }
static rt_node *kl_conjugate_of(rt_node *l) { return rt_exp(l); }

static double reverse_kl(double u) { return -log(u); }
static double reverse_kl_slope(double u) { return -1 / u; }
static double reverse_kl_weight(double u) { return 1 / u; }
static double reverse_kl_conjugate(double u) { return log(u) - 1; }
static rt_node *reverse_kl_slope_of(rt_node *l) { return rt_neg(power(l, -1)); }
static rt_node *reverse_kl_weight_of(rt_node *l) { return power(l, -1); }
static rt_node *reverse_kl_conjugate_of(rt_node *l) { return rt_offset(l, -1); }

static double jeffreys(double u) { return (u - 1) * log(u); }
static double jeffreys_slope(double u) { return log(u) + 1 - 1 / u; }
static double jeffreys_weight(double u) { return 1 + 1 / u; }
static double jeffreys_conjugate(double u) { return u - 1 + log(u); }
static rt_node *jeffreys_slope_of(rt_node *l) { return rt_offset(rt_sub(l, power(l, -1)), 1); }
static rt_node *jeffreys_weight_of(rt_node *l) { return rt_offset(power(l, -1), 1); }
static rt_node *jeffreys_conjugate_of(rt_node *l) { return rt_offset(rt_add(rt_exp(l), l), -1); }

/* twice the Jensen-Shannon divergence of information theory, as f-GAN has it */
static double jensen_shannon(double u) { return kl(u) - (u + 1) * log((u + 1) / 2); }
static double jensen_shannon_slope(double u) { return log(2 * u / (1 + u)); }
static double jensen_shannon_weight(double u) { return 1 / (1 + u); }
static double jensen_shannon_conjugate(double u) { return log((1 + u) / 2); }
static rt_node *jensen_shannon_slope_of(rt_node *l) { return rt_offset(rt_neg(rt_softplus(rt_neg(l))), M_LN2); }
static rt_node *jensen_shannon_weight_of(rt_node *l) { return rt_sigmoid(rt_neg(l)); }
static rt_node *jensen_shannon_conjugate_of(rt_node *l) { return rt_offset(rt_softplus(l), -M_LN2); }

static double hellinger(double u) { return (sqrt(u) - 1) * (sqrt(u) - 1); }
static double hellinger_slope(double u) { return 1 - 1 / sqrt(u); }
static double hellinger_weight(double u) { return 0.5 / sqrt(u); }
static double hellinger_conjugate(double u) { return sqrt(u) - 1; }
static rt_node *hellinger_slope_of(rt_node *l) { return rt_offset(rt_neg(power(l, -0.5)), 1); }
static rt_node *hellinger_weight_of(rt_node *l) { return rt_scale(power(l, -0.5), 0.5); }
static rt_node *hellinger_conjugate_of(rt_node *l) { return rt_offset(power(l, 0.5), -1); }

static double pearson(double u) { return (u - 1) * (u - 1); }
static double pearson_slope(double u) { return 2 * (u - 1); }
static double pearson_weight(double u) { return 2 * u; }
static double pearson_conjugate(double u) { return u * u - 1; }
static rt_node *pearson_slope_of(rt_node *l) { return rt_scale(rt_offset(rt_exp(l), -1), 2); }
static rt_node *pearson_weight_of(rt_node *l) { return rt_scale(rt_exp(l), 2); }
static rt_node *pearson_conjugate_of(rt_node *l) { return rt_offset(power(l, 2), -1); }

static double neyman(double u) { return (1 - u) * (1 - u) / u; }
static double neyman_slope(double u) { return 1 - 1 / (u * u); }
static double neyman_weight(double u) { return 2 / (u * u); }
static double neyman_conjugate(double u) { return 2 - 2 / u; }
static rt_node *neyman_slope_of(rt_node *l) { return rt_offset(rt_neg(power(l, -2)), 1); }
static rt_node *neyman_weight_of(rt_node *l) { return rt_scale(power(l, -2), 2); }
static rt_node *neyman_conjugate_of(rt_node *l) { return rt_offset(rt_scale(power(l, -1), -2), 2); }

#define ROW(f) f, f##_slope, f##_weight, f##_conjugate, f##_slope_of, f##_weight_of, f##_conjugate_of
static const rt_divergence rows[] = {
    {"kl", "mode seeking; the lecture's VSD", "f = u log u, weight u f'' = 1", ROW(kl)},
    {"reverse-kl", "mass covering; maximum likelihood", "f = -log u, weight 1/u", ROW(reverse_kl)},
    {"jeffreys", "both: kl + reverse-kl", "f = (u - 1) log u, weight 1 + 1/u", ROW(jeffreys)},
    {"jensen-shannon", "between the two, bounded: the GAN's", "f = u log u - (u + 1) log((u + 1)/2), weight 1/(1 + u)",
     ROW(jensen_shannon)},
    {"squared-hellinger", "between the two, bounded", "f = (sqrt(u) - 1)^2, weight 1/(2 sqrt(u))", ROW(hellinger)},
    {"pearson", "mode seeking, more than kl", "f = (u - 1)^2, weight 2 u", ROW(pearson)},
    {"neyman", "mass covering, more than reverse-kl", "f = (1 - u)^2/u, weight 2/u^2", ROW(neyman)},
};

const rt_divergence *rt_divergence_find(const char *name, rt_error *err)
{
    int i = RT__FIND("divergences", name, rows, err);
    return i < 0 ? NULL : &rows[i];
}

bool rt_divergence_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i].name, rows[i].source, rows[i].formula};
    return true;
}

const char *rt_divergence_name(const rt_divergence *d) { return d->name; }
double rt_divergence_f(const rt_divergence *d, double u) { return d->f(u); }
double rt_divergence_slope(const rt_divergence *d, double u) { return d->slope(u); }
double rt_divergence_weight(const rt_divergence *d, double u) { return d->weight(u); }
double rt_divergence_conjugate(const rt_divergence *d, double u) { return d->conjugate(u); }
rt_node *rt_divergence_slope_of(const rt_divergence *d, rt_node *log_u) { return d->slope_of(log_u); }
rt_node *rt_divergence_weight_of(const rt_divergence *d, rt_node *log_u) { return d->weight_of(log_u); }
rt_node *rt_divergence_conjugate_of(const rt_divergence *d, rt_node *log_u) { return d->conjugate_of(log_u); }
