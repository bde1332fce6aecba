/* oracle_boxes.c -- data that is uniform on boxes: p_0 = sum_k w_k U(box_k), each box a product of intervals c +- l.
 *
 * Along one axis x = alpha x0 + beta eps with x0 = c + l tau, tau uniform on [-1, 1]. With m = (x - alpha c)/beta and h = alpha l/beta
 *
 *     p(x) = 1/(2 beta) int_-1^1 phi(m - h tau) dtau = (Phi(m + h) - Phi(m - h)) / (2 h beta)
 *     score = -(m - h T)/beta,   E[x0 | x] = c + l T,   T = E[tau | x]
 *
 * The difference of two Phi has no digits where the box is narrow beside the noise (h small) or far away (m - h large), so there are three forms;
 * each is exact to some units in the last place where it is used. */
#include "diffusion/oracle.h"

#include "base/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FEATURES = 4096, MAX_BOXES = 1024 };
#define LOG_SQRT_2PI 0.91893853320467274178

/* What is known of one axis: log of 1/2 int phi(m - h tau) dtau, T, and E[m - h tau | x]. */
typedef struct interval {
    double log_mass, tau, noise;
} interval;

static double phi(double y) { return exp(-y * y / 2 - LOG_SQRT_2PI); }

/* h <= 1 and m h <= 1: exp(m h tau - h^2 tau^2/2) = sum_k a_k tau^k/k! generates Hermite's polynomials, a_k = He_k(m) h^k. */
static interval narrow(double m, double h)
{
    enum { TERMS = 36 };
    double a = 1, before = 0, factorial = 1, even = 0, odd = 0;
    for (int k = 0; k < TERMS; k++) {
        if (k % 2)
            odd += a / (factorial * (k + 2));
        else
            even += a / (factorial * (k + 1));
        double next = m * h * a - k * h * h * before;
        before = a;
        a = next;
        factorial *= k + 1;
    }
    return (interval){-m * m / 2 - LOG_SQRT_2PI + log(even), odd / even, m - h * (odd / even)};
}

/* Mills' ratio M(y) = (1 - Phi(y))/phi(y) at y >= 0 and q = 1/M - y, by Laplace's continued fraction q = 1/(y + 2/(y + 3/(y + ...))). */
static double mills(double y, double *q)
{
    if (y < 3) {
        double ratio = exp(y * y / 2 + LOG_SQRT_2PI) * erfc(y * M_SQRT1_2) / 2;
        *q = 1 / ratio - y;
        return ratio;
    }
    double tail = y;
    for (int k = 12 + (int)(700 / (y * y)); k > 1; k--) tail = y + k / tail;
    *q = 1 / tail;
    return 1 / (y + *q);
}

/* m >= h and m h >= 1: Phi(m + h) - Phi(m - h) = phi(m - h) (M(m - h) - e M(m + h)) with e = exp(-2 m h). */
static interval outside(double m, double h)
{
    double q_near, q_far, e = exp(-2 * m * h), near = mills(m - h, &q_near), far = mills(m + h, &q_far), both = near - e * far;
    double beyond = (near * q_near - e * far * (q_far + 2 * h)) / both; /* E[m - h tau] - (m - h), all terms without cancellation */
    return (interval){-(m - h) * (m - h) / 2 - LOG_SQRT_2PI + log(both / (2 * h)), 1 - beyond / h, m - h + beyond};
}

/* h > 1 and m < h: the interval holds a third of the noise's mass or more. */
static interval inside(double m, double h)
{
    double mass = 1 - erfc((m + h) * M_SQRT1_2) / 2 - erfc((h - m) * M_SQRT1_2) / 2, noise = (phi(m - h) - phi(m + h)) / mass;
    return (interval){log(mass / (2 * h)), (m - noise) / h, noise};
}

static interval look(double m, double h)
{
    double distance = fabs(m);
    interval i = h <= 1 && distance * h <= 1 ? narrow(distance, h) : distance < h ? inside(distance, h) : outside(distance, h);
    if (m < 0) i.tau = -i.tau, i.noise = -i.noise;
    return i;
}

static const rt__box *part(const rt_oracle *o, int64_t k) { return &o->boxes[o->order[k]]; }

/* One row: axes[n][d] and r[n] are filled with what is known of every axis and with P(k | x); returns log p_t(x). */
static double explain(const rt_oracle *o, double alpha, double beta, const double *x, interval *axes, double *r)
{
    int64_t d = o->features;
    double top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < o->n; k++) {
        const rt__box *box = part(o, k);
        r[k] = log(box->weight);
        for (int64_t i = 0; i < d; i++) {
            axes[k * d + i] = look((x[i] - alpha * box->centre[i]) / beta, alpha * box->half[i] / beta);
            r[k] += axes[k * d + i].log_mass;
        }
        top = fmax(top, r[k]);
    }
    for (int64_t k = 0; k < o->n; k++) sum += r[k] = exp(r[k] - top);
    for (int64_t k = 0; k < o->n; k++) r[k] /= sum;
    return top + log(sum / o->share) - (double)d * log(beta);
}

static rt_status answer(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *mean, double *score,
                        double *log_p, rt_error *err)
{
    int64_t d = o->features;
    interval *axes = malloc((size_t)(o->n * d) * sizeof *axes);
    double *r = malloc((size_t)o->n * sizeof *r);
    if (!axes || !r) {
        free(axes);
        free(r);
        RT_RAISE(RT_E_MEMORY, "out of memory for %lld boxes of %lld features", (long long)o->n, (long long)d);
    }
    for (int64_t row = 0; row < n; row++) {
        double here = explain(o, alpha, beta, x + row * d, axes, r);
        if (log_p) log_p[row] = here;
        for (int64_t i = 0; i < d; i++) { /* mean or score may stand where x does: this row's x is read no more */
            double x0 = 0, noise = 0;
            for (int64_t k = 0; k < o->n; k++) {
                x0 += r[k] * (part(o, k)->centre[i] + part(o, k)->half[i] * axes[k * d + i].tau);
                noise += r[k] * axes[k * d + i].noise;
            }
            if (mean) mean[row * d + i] = x0;
            if (score) score[row * d + i] = -noise / beta;
        }
    }
    free(axes);
    free(r);
    return RT_OK;
}

/* Phi of a normal number is uniform. */
static void draw(const rt_oracle *o, int64_t k, const double *z, double *row)
{
    for (int64_t i = 0; i < o->features; i++) row[i] = part(o, k)->centre[i] + part(o, k)->half[i] * (erfc(-z[i] * M_SQRT1_2) - 1);
}

static const rt__oracle_kind boxes = {"a density with edges has no score without noise", answer, draw};

static rt_status check_box(int64_t d, const double *low, const double *high, rt_error *err)
{
    for (int64_t i = 0; i < d; i++)
        if (!isfinite(low[i]) || !isfinite(high[i]) || !(low[i] < high[i]) || !isfinite(high[i] - low[i]))
            RT_RAISE(RT_E_INVALID, "axis %lld is from %g to %g; both must be finite and the first less than the second", (long long)i,
                     low[i], high[i]);
    return RT_OK;
}

rt_status rt_oracle_boxes(rt_oracle **oracle, int64_t n, int64_t d, const double *weights, const double *lows, const double *highs,
                          const rt_process *process, const rt_prediction *prediction, rt_error *err)
{
    *oracle = NULL;
    if (d < 1 || d > MAX_FEATURES || n < 1 || n > MAX_BOXES)
        RT_RAISE(RT_E_INVALID, "%lld boxes of %lld features; must be 1..%d of 1..%d", (long long)n, (long long)d, MAX_BOXES, MAX_FEATURES);
    RT_TRY(rt__oracle_check_weights(n, weights, err));
    for (int64_t k = 0; k < n; k++) {
        rt_error why = {0};
        if (check_box(d, lows + k * d, highs + k * d, &why) != RT_OK) RT_RAISE(RT_E_INVALID, "box %lld: %s", (long long)k, why.text);
    }
    rt_oracle *o = rt__oracle_new(&boxes, n, d, process, prediction);
    double *room = malloc((size_t)(2 * n * d) * sizeof *room);
    rt__box *parts = calloc((size_t)n, sizeof *parts);
    if (!o || !room || !parts) {
        rt_oracle_free(o);
        free(room);
        free(parts);
        RT_RAISE(RT_E_MEMORY, "out of memory for %lld boxes of %lld features", (long long)n, (long long)d);
    }
    o->numbers = room;
    o->boxes = parts;
    for (int64_t k = 0; k < n; k++) {
        parts[k] = (rt__box){.weight = weights[k], .centre = room + 2 * k * d, .half = room + (2 * k + 1) * d};
        for (int64_t i = 0; i < d; i++) {
            parts[k].centre[i] = lows[k * d + i] + (highs[k * d + i] - lows[k * d + i]) / 2;
            parts[k].half[i] = (highs[k * d + i] - lows[k * d + i]) / 2;
        }
    }
    *oracle = o;
    return RT_OK;
}
