/* density_ratios.c -- f-divergences and Renyi's between normal distributions: integrals by trapezoids and closed forms on one side, the library's functions
 * of the ratio on the other.
 *
 * The student x0 = a z + b has x_t ~ q = N(alpha b, alpha^2 a^2 + beta^2), the teacher N(m, v) has x_t ~ p = N(alpha m, alpha^2 v + beta^2). The graphs
 * weigh the points of a grid, and integrals over q are sums of q times the weights: a weight's normaliser, a mean over the grid, leaves by division. */
#include "verify/density_ratios.h"

#include "base/internal.h"
#include "distill/ratio.h"

#include <string.h>

enum { N = 1201 };

typedef struct normal {
    double mean, variance;
} normal;

typedef struct place {
    double alpha, beta, a, b; /* of the student */
} place;

static const normal data = {0.4, 0.49};
static const place places[] = {{0.8, 0.6, 0.8, 0.1}, {0.5, 0.87, 0.55, 0.9}, {0.3, 0.7, 1.1, -0.3}};
static const double orders[] = {0.5, 2};

static normal student(place s) { return (normal){s.alpha * s.b, s.alpha * s.alpha * s.a * s.a + s.beta * s.beta}; }
static normal teacher(place s) { return (normal){s.alpha * data.mean, s.alpha * s.alpha * data.variance + s.beta * s.beta}; }
static double log_density(normal n, double x) { return -(x - n.mean) * (x - n.mean) / (2 * n.variance) - log(2 * M_PI * n.variance) / 2; }
static double score(normal n, double x) { return (n.mean - x) / n.variance; }

/* Points that reach 14 deviations beyond the means, and their distance: the error of trapezoids falls faster than any power of it. */
static double grid(place s, double x[N])
{
    double low = fmin(student(s).mean, teacher(s).mean), high = fmax(student(s).mean, teacher(s).mean);
    double reach = 14 * sqrt(fmax(student(s).variance, teacher(s).variance)), step = (high - low + 2 * reach) / (N - 1);
    for (int i = 0; i < N; i++) x[i] = low - reach + i * step;
    return step;
}

static double log_ratio(place s, double x) { return log_density(student(s), x) - log_density(teacher(s), x); }

/* ---- values, from densities alone */

/* int q^order p^(1 - order) dx: Renyi's and the chi^2 divergences are functions of it. */
static double power_integral(place s, double order)
{
    double x[N], step = grid(s, x), sum = 0;
    for (int i = 0; i < N; i++) sum += exp(order * log_density(student(s), x[i]) + (1 - order) * log_density(teacher(s), x[i])) * step;
    return sum;
}

static double renyi(place s, double order, const char *row)
{
    (void)row;
    return log(power_integral(s, order)) / (order - 1);
}

static double kl(normal q, normal p)
{
    return log(p.variance / q.variance) / 2 + (q.variance + (q.mean - p.mean) * (q.mean - p.mean)) / (2 * p.variance) - 0.5;
}

/* Each row by another way than its f: closed forms of normal distributions; of jensen-shannon the entropies. */
static double value(place s, double order, const char *name)
{
    (void)order;
    normal q = student(s), p = teacher(s);
    double x[N], step = grid(s, x), sum = 0;
    if (!strcmp(name, "kl")) return kl(q, p);
    if (!strcmp(name, "reverse-kl")) return kl(p, q);
    if (!strcmp(name, "jeffreys")) return kl(q, p) + kl(p, q);
    if (!strcmp(name, "squared-hellinger"))
        return 2 - 2 * sqrt(2 * sqrt(q.variance * p.variance) / (q.variance + p.variance)) *
                       exp(-(q.mean - p.mean) * (q.mean - p.mean) / (4 * (q.variance + p.variance)));
    if (!strcmp(name, "pearson")) return power_integral(s, 2) - 1;
    if (!strcmp(name, "neyman")) return power_integral(s, -1) - 1;
    if (strcmp(name, "jensen-shannon") != 0) return NAN; /* a row that nothing here knows */
    for (int i = 0; i < N; i++) {
        double both = exp(log_density(q, x[i])) + exp(log_density(p, x[i]));
        if (both > 0) sum -= both * log(both / 2) * step;
    }
    return sum - log(2 * M_PI * M_E * q.variance) / 2 - log(2 * M_PI * M_E * p.variance) / 2;
}

/* Derivatives in a and b by differences of fourth order. */
static void differences(double (*of)(place s, double order, const char *row), place s, double order, const char *row, double out[2])
{
    static const double difference[] = {1 / 12.0, -8 / 12.0, 0, 8 / 12.0, -1 / 12.0};
    double h = 2e-3;
    out[0] = out[1] = 0;
    for (int i = 0; i < 5; i++) {
        place here[2] = {s, s};
        here[0].a += (i - 2) * h;
        here[1].b += (i - 2) * h;
        for (int j = 0; j < 2; j++) out[j] += difference[i] * of(here[j], order, row) / h;
    }
}

/* E_q [weight (score_q - score_p) dx/d(a, b)]: dx/db = alpha, dx/da = alpha z, and of z only its mean given x_t counts. */
static void reparameterised(place s, const double x[N], double step, const double weight[N], double out[2])
{
    normal q = student(s), p = teacher(s);
    out[0] = out[1] = 0;
    for (int i = 0; i < N; i++) {
        double c = exp(log_density(q, x[i])) * step * weight[i] * (score(q, x[i]) - score(p, x[i])) * s.alpha;
        out[0] += c * s.a * s.alpha * (x[i] - q.mean) / q.variance;
        out[1] += c;
    }
}

static double apart(const double got[2], const double want[2])
{
    return hypot(got[0] - want[0], got[1] - want[1]) / hypot(want[0], want[1]);
}

/* ---- the library's side */

static double f_value(const rt_divergence *d, place s)
{
    double x[N], step = grid(s, x), sum = 0;
    for (int i = 0; i < N; i++) {
        double p = exp(log_density(teacher(s), x[i])), u = exp(log_ratio(s, x[i]));
        double part = p * rt_divergence_f(d, u) * step;
        if (isfinite(part)) sum += part; /* beyond what a double holds, p f(u) is nothing */
    }
    return sum;
}

/* Renyi's weights of the grid's points, made to have the mean 1 over q. */
static void renyi_weights(rt__witness *w, place s, double order, const double x[N], double step, double out[N])
{
    double log_u[N], mean = 0;
    rt_graph *g = rt__doubles(w);
    for (int i = 0; i < N; i++) log_u[i] = log_ratio(s, x[i]), out[i] = NAN;
    if (!g) return;
    rt__value(w, rt__renyi_weight(NULL, order, rt__numbers(g, N, log_u), NULL), N, out);
    rt_graph_free(g);
    for (int i = 0; i < N; i++) mean += exp(log_density(student(s), x[i])) * step * out[i];
    for (int i = 0; i < N; i++) out[i] /= mean;
}

static double every_place(rt__witness *w, double (*at)(rt__witness *w, place s, double order))
{
    double worst = 0;
    for (size_t i = 0; i < RT_COUNT(places); i++)
        for (size_t j = 0; j < RT_COUNT(orders); j++) worst = rt__worse(worst, at(w, places[i], orders[j]));
    return worst;
}

/* (1.19): values, and the weights' gradients against differences of the values. */
double rt__f_divergences(rt__witness *w)
{
    rt_row_text row;
    double worst = 0;
    for (int i = 0; rt_divergence_describe(i, &row); i++)
        for (size_t j = 0; j < RT_COUNT(places); j++) {
            place s = places[j];
            double x[N], step = grid(s, x), log_u[N], weight[N], got[2], want[2];
            const rt_divergence *d = rt_divergence_find(row.name, &w->err);
            rt_graph *g = rt__doubles(w);
            if (!g || !d) return NAN;
            for (int k = 0; k < N; k++) log_u[k] = log_ratio(s, x[k]);
            rt__value(w, rt_divergence_weight_of(d, rt__numbers(g, N, log_u)), N, weight);
            rt_graph_free(g);
            reparameterised(s, x, step, weight, got);
            differences(value, s, 0, row.name, want);
            worst = rt__worse(worst, fabs(f_value(d, s) / value(s, 0, row.name) - 1));
            worst = rt__worse(worst, apart(got, want));
        }
    return worst;
}

/* (1.5): descent along the weights' gradient, the teacher being within reach of the student; at time 0. */
double rt__least_divergence(rt__witness *w)
{
    rt_row_text row;
    double worst = 0, x[N], weight[N], slope[2];
    for (int i = 0; rt_divergence_describe(i, &row); i++) {
        const rt_divergence *d = rt_divergence_find(row.name, &w->err);
        place s = {1, 0, 0.8, 0.6};
        for (int k = 0; k < 200 && d; k++) {
            double step = grid(s, x);
            for (int j = 0; j < N; j++) {
                double h = rt_divergence_weight(d, exp(log_ratio(s, x[j])));
                weight[j] = isfinite(h) ? h : 0; /* where q is nothing */
            }
            reparameterised(s, x, step, weight, slope);
            s.a -= 0.05 * slope[0] / rt_divergence_weight(d, 1);
            s.b -= 0.05 * slope[1] / rt_divergence_weight(d, 1);
        }
        worst = rt__worse(worst, hypot(s.a - sqrt(data.variance), s.b - data.mean));
    }
    return worst;
}

/* (1.20): the gradient of (1.23) integrated along a line of students that starts at the teacher, where the divergence is 0. */
static double renyi_value_at(rt__witness *w, place s, double order)
{
    static const double node[] = {0.0469100770306680, 0.2307653449471585, 0.5, 0.7692346550528415, 0.9530899229693319},
                        weight[] = {0.1184634425280945, 0.2393143352496832, 0.2844444444444444, 0.2393143352496832, 0.1184634425280945};
    enum { PIECES = 8 };
    double sum = 0, da = s.a - sqrt(data.variance), db = s.b - data.mean, x[N], h[N], slope[2];
    for (int i = 0; i < PIECES * 5; i++) {
        double way = (i / 5 + node[i % 5]) / PIECES;
        place here = {s.alpha, s.beta, s.a - da * (1 - way), s.b - db * (1 - way)};
        double step = grid(here, x);
        renyi_weights(w, here, order, x, step, h);
        reparameterised(here, x, step, h, slope);
        sum += order * (slope[0] * da + slope[1] * db) * weight[i % 5] / PIECES;
    }
    return fabs(sum / renyi(s, order, NULL) - 1);
}

/* (1.21): order/(order - 1) E [d log q/d(a, b)] under the tilted density. */
static double renyi_tilted_at(rt__witness *w, place s, double order)
{
    normal q = student(s);
    double x[N], h[N], step = grid(s, x), got[2] = {0, 0}, want[2];
    renyi_weights(w, s, order, x, step, h);
    for (int i = 0; i < N; i++) {
        double mass = order / (order - 1) * exp(log_density(q, x[i])) * step * h[i], z = (x[i] - q.mean) / sqrt(q.variance);
        got[0] += mass * (z * z - 1) * s.alpha * s.alpha * s.a / q.variance;
        got[1] += mass * z * s.alpha / sqrt(q.variance);
    }
    differences(renyi, s, order, NULL, want);
    return apart(got, want);
}

/* (1.22): the tilted density, point by point, against q^order p^(1 - order) over its integral. */
static double renyi_density_at(rt__witness *w, place s, double order)
{
    double x[N], h[N], step = grid(s, x), total = power_integral(s, order), worst = 0, top = 0;
    renyi_weights(w, s, order, x, step, h);
    for (int i = 0; i < N; i++) {
        double got = exp(log_density(student(s), x[i])) * h[i],
               want = exp(order * log_density(student(s), x[i]) + (1 - order) * log_density(teacher(s), x[i])) / total;
        worst = rt__worse(worst, fabs(got - want));
        top = fmax(top, want);
    }
    return worst / top;
}

/* (1.23), as it is trained: the density's own derivative replaced by that of the sample. */
static double renyi_self_normalised_at(rt__witness *w, place s, double order)
{
    double x[N], h[N], step = grid(s, x), got[2], want[2];
    renyi_weights(w, s, order, x, step, h);
    reparameterised(s, x, step, h, got);
    got[0] *= order, got[1] *= order;
    differences(renyi, s, order, NULL, want);
    return apart(got, want);
}

double rt__renyi_value(rt__witness *w) { return every_place(w, renyi_value_at); }
double rt__renyi_tilted(rt__witness *w) { return every_place(w, renyi_tilted_at); }
double rt__renyi_density(rt__witness *w) { return every_place(w, renyi_density_at); }
double rt__renyi_self_normalised(rt__witness *w) { return every_place(w, renyi_self_normalised_at); }
