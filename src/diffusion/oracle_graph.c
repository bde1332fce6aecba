/* oracle_graph.c -- oracles as nodes: x0 = E[x0 | x_t], the score and log p_t, composed of the engine's operators, so that they can be differentiated
 * as often as wanted. Every sample has its own alpha, beta and label.
 *
 * Shapes: B samples, d features, K parts. Every kind gives logits (B,K), log(w_k p_k(x)) up to a term of the sample alone; the softmax over parts and its
 * logarithm are shared. A graph computes in float, too, where formulas that are exact in double lose all digits: what each kind does about that is
 * said beside it. */
#include "diffusion/oracle.h"

#include "graph/row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOG_2PI    1.83787706640934548356
#define NO_PART    (-1e30) /* the logit of a part that is not of the sample's class: finite, so that nothing becomes NaN */
#define FLOAT_MOST 1e15    /* numbers whose squares a float holds */
#define MOST_ERROR 0.25    /* of the logits of a data set by products */

/* Where an oracle is asked. */
typedef struct point {
    const rt_oracle *o;
    rt_graph *g;
    int64_t batch, d, n;       /* extent 0, maybe the symbol; features; parts */
    rt_node *x, *alpha, *beta; /* (B,d), (B,1), (B,1) */
    rt_node *labels;           /* (B,1) I64; NULL: all parts */
    const int64_t *numbers;    /* [n] of the parts; NULL: 0, 1, ... */
} point;

static int64_t number(const point *p, int64_t k) { return p->numbers ? p->numbers[k] : k; }
static rt_node *to2(const point *p, rt_node *v, int64_t columns) { return rt_reshape(v, 2, (int64_t[]){p->batch, columns}); }
static rt_node *to3(const point *p, rt_node *v, int64_t rows, int64_t columns)
{
    return rt_reshape(v, 3, (int64_t[]){p->batch, rows, columns});
}
static rt_node *sum_axis(rt_node *v, int axis) { return rt_sum(v, rt_axis_bit(v, axis), false); }
static rt_node *sum_features(rt_node *v) { return rt_sum(v, rt_axis_bit(v, -1), true); }

/* Room for n numbers of a constant, zeros, from the graph; NULL: the graph has failed. */
static double *room(const point *p, int64_t n) { return rt__graph_alloc(p->g, (size_t)n * sizeof(double)); }

/* Numbers of `room` as a constant. */
static rt_node *constant(const point *p, int rank, const int64_t *shape, const double *values)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    if (rt_graph_real(p->g) == RT_F64) return rt__const_borrowed(p->g, RT_F64, rank, shape, values);
    float *rounded = rt__graph_alloc(p->g, (size_t)n * sizeof *rounded);
    for (int64_t i = 0; rounded && i < n; i++) rounded[i] = (float)values[i];
    return rounded ? rt__const_borrowed(p->g, RT_F32, rank, shape, rounded) : rt_scalar(p->g, 0); /* inert, as the graph is */
}
#define CONSTANT(p, values, ...) constant(p, (int)RT_COUNT(((const int64_t[]){__VA_ARGS__})), (const int64_t[]){__VA_ARGS__}, values)

/* ---- weights and classes */

/* log of the weights of the parts among all (label the null class or none), or in their class: (1,K) or (B,K). */
static rt_node *log_weights(const point *p)
{
    const rt_oracle *o = p->o;
    int64_t n = p->n, *classes = rt__graph_alloc(p->g, (size_t)n * sizeof *classes);
    double *all = room(p, n), *own = room(p, n);
    if (!all || !own || !classes) return rt_scalar(p->g, 0); /* inert, as the graph is */
    for (int64_t k = 0; k < n; k++) all[k] = log(rt__oracle_weight(o, number(p, k)) / o->share);
    if (!p->labels) return CONSTANT(p, all, 1, n);
    for (int64_t label = 0; label < o->classes; label++)
        for (int64_t k = 0; k < o->given[label].n; k++) {
            int64_t part = o->given[label].order[k];
            classes[part] = label;
            own[part] = log(rt__oracle_weight(o, part) / o->given[label].share);
        }
    rt_node *class = rt__const_borrowed(p->g, RT_I64, 2, (int64_t[]){1, n}, classes),
            *null = rt_const(p->g, RT_I64, 2, (int64_t[]){1, 1}, &o->classes);
    rt_node *of_class = rt_where(rt_equal(class, p->labels), CONSTANT(p, own, 1, n), rt_scalar(p->g, NO_PART));
    return rt_where(rt_equal(p->labels, null), CONSTANT(p, all, 1, n), of_class);
}

/* Logits (B,K) to P(k | x) (B,K), and to log sum_k exp: (B,1). */
static rt_node *responsibilities(rt_node *logits) { return rt_softmax(logits, -1); }
static rt_node *log_total(rt_node *logits) { return rt_logsumexp(logits, rt_axis_bit(logits, -1), true); }

/* ---- normal distributions
 *
 * In the eigenbasis of Sigma_k everything is a factor per coordinate of z_k = V_k^T (x - alpha mu_k), so a time per sample costs nothing. The bases stand
 * side by side, V = [V_1 .. V_K] (d, K d): one product for all. x is centred by the mean of all means first. The determinants are taken relative to a
 * variance s = alpha^2 v + beta^2 of the sample: sums of d logarithms would be far larger than what tells the parts apart. */

static bool is_identity(const rt_oracle *o)
{
    for (int64_t k = 0; k < o->n; k++)
        for (int64_t i = 0, d = o->features; i < d * d; i++)
            if (o->components[o->order[k]].basis[i] != (double)(i % d == i / d)) return false;
    return true;
}

typedef struct normals {
    rt_node *centre;          /* (1,d) */
    rt_node *means, *turned;  /* (K,d): mu_k - centre; (1,K,d): V_k^T (mu_k - centre) */
    rt_node *variance, *base; /* (1,K,d): eigenvalues; (d,K d): V, NULL if all V_k are the identity */
    double typical;           /* v */
} normals;

/* False: the graph has failed. */
static bool constants_of(const point *p, normals *c)
{
    int64_t n = p->n, d = p->d;
    bool plain = is_identity(p->o);
    double *centre = room(p, d), *means = room(p, n * d), *turned = room(p, n * d), *variance = room(p, n * d),
           *base = plain ? NULL : room(p, n * d * d), log_sum = 0;
    if (!centre || !means || !turned || !variance || (!plain && !base)) return false;
    for (int64_t k = 0; k < n; k++) {
        const rt__component *part = &p->o->components[number(p, k)];
        for (int64_t i = 0; i < d; i++) centre[i] += part->weight / p->o->share * part->mean[i];
    }
    for (int64_t k = 0; k < n; k++) {
        const rt__component *part = &p->o->components[number(p, k)];
        for (int64_t i = 0; i < d; i++) {
            means[k * d + i] = part->mean[i] - centre[i];
            variance[k * d + i] = part->variance[i];
            log_sum += log(part->variance[i]);
            for (int64_t j = 0; j < d; j++) {
                turned[k * d + j] += part->basis[i * d + j] * (part->mean[i] - centre[i]);
                if (base) base[(i * n + k) * d + j] = part->basis[i * d + j];
            }
        }
    }
    *c = (normals){.centre = CONSTANT(p, centre, 1, d),
                   .means = CONSTANT(p, means, n, d),
                   .turned = CONSTANT(p, turned, 1, n, d),
                   .variance = CONSTANT(p, variance, 1, n, d),
                   .base = base ? CONSTANT(p, base, d, n * d) : NULL,
                   .typical = exp(log_sum / (double)(n * d))};
    return true;
}

/* sum_k V_k v_k of v (B,K,d). */
static rt_node *turn_back(const point *p, const normals *c, rt_node *v)
{
    if (!c->base) return sum_axis(v, 1);
    return rt_matmul(to2(p, v, p->n * p->d), c->base, false, true);
}

static void build_normals(const point *p, rt_oracle_nodes *out)
{
    normals c;
    if (!constants_of(p, &c)) return;
    int64_t n = p->n, d = p->d;
    rt_node *alpha2 = rt_square(p->alpha), *beta2 = rt_square(p->beta), *alpha = to3(p, p->alpha, 1, 1);
    rt_node *centred = rt_sub(p->x, rt_mul(p->alpha, c.centre));
    rt_node *turned = c.base ? to3(p, rt_matmul(centred, c.base, false, false), n, d) : to3(p, centred, 1, d);
    rt_node *z = rt_sub(turned, rt_mul(alpha, c.turned));
    rt_node *s = rt_add(rt_mul(to3(p, alpha2, 1, 1), c.variance), to3(p, beta2, 1, 1)), *one_by_s = rt_recip(s);
    rt_node *typical = rt_add(rt_scale(alpha2, c.typical), beta2); /* (B,1) */
    rt_node *terms = rt_add(rt_mul(rt_square(z), one_by_s), rt_log(rt_div(s, to3(p, typical, 1, 1))));
    rt_node *logits = rt_sub(log_weights(p), rt_scale(sum_axis(terms, -1), 0.5));
    rt_node *r = responsibilities(logits), *noise = rt_mul(rt_mul(to3(p, r, n, 1), one_by_s), z); /* r_k z_k / s_k */
    rt_node *towards = turn_back(p, &c, rt_mul(rt_mul(alpha, c.variance), noise));
    out->x0 = rt_add(rt_add(c.centre, rt_matmul(r, c.means, false, false)), towards);
    out->score = rt_neg(turn_back(p, &c, noise));
    out->log_p = rt_sub(log_total(logits), rt_scale(rt_offset(rt_log(typical), LOG_2PI), (double)d / 2));
}

/* ---- data sets
 *
 * log r_j is -|x - alpha d_j|^2/(2 beta^2) up to a term of x. Small sets: differences, squared and summed, which in float is as exact as x itself. Large ones:
 * with y = x - alpha c, c the mean of the set, the part that depends on j is (alpha y.d_j - alpha^2/2 |d_j - c|^2)/beta^2, one product of (B,d) and (d,n).
 * Its terms are of size (alpha/beta)^2 |d_j - c|^2, and so are the errors of their rounding: rt_oracle_check_graph. */

enum { BY_DIFFERENCES = 1 << 15 }; /* numbers in all samples: (B,n,d) is made */

/* (n,d) in the graph's type. Floats are read where the oracle has them, unless they are scattered, as a class's samples may be. */
static rt_node *samples_of(const point *p)
{
    int64_t n = p->n, d = p->d, first = number(p, 0), k = 0;
    while (k < n && number(p, k) == first + k) k++;
    const float *from = p->o->samples + first * d;
    if (k < n) {
        float *copy = rt__graph_alloc(p->g, (size_t)(n * d) * sizeof *copy);
        for (k = 0; copy && k < n; k++) memcpy(copy + k * d, p->o->samples + number(p, k) * d, (size_t)d * sizeof *copy);
        from = copy;
    }
    return from ? rt_cast(rt__const_borrowed(p->g, RT_F32, 2, (int64_t[]){n, d}, from), rt_graph_real(p->g)) : rt_scalar(p->g, 0);
}

/* Adds the mean of the samples to mean[d]. */
static void add_mean(const rt_oracle *o, double *mean)
{
    for (int64_t k = 0; k < o->n; k++)
        for (int64_t i = 0; i < o->features; i++) mean[i] += (double)o->samples[o->order[k] * o->features + i] / (double)o->n;
}

static double distance2(const rt_oracle *o, int64_t sample, const double *from)
{
    double sum = 0;
    for (int64_t i = 0; i < o->features; i++) {
        double e = (double)o->samples[sample * o->features + i] - from[i];
        sum += e * e;
    }
    return sum;
}

/* Logits up to -|x - alpha d_j|^2/(2 beta^2), which are left out: *common (B,1) is to be added to their logarithm. */
static rt_node *logits_by_products(const point *p, rt_node *samples, rt_node **common)
{
    int64_t n = p->n, d = p->d;
    double *centre = room(p, d), *square = room(p, n);
    if (!centre || !square) return *common = rt_scalar(p->g, 0); /* inert, as the graph is */
    add_mean(p->o, centre);
    for (int64_t k = 0; k < n; k++) square[k] = distance2(p->o, number(p, k), centre);
    rt_node *c = CONSTANT(p, centre, 1, d), *squares = CONSTANT(p, square, 1, n);
    rt_node *y = rt_sub(p->x, rt_mul(p->alpha, c)), *precision = rt_recip(rt_square(p->beta)), *gain = rt_mul(p->alpha, precision);
    rt_node *products = rt_matmul(rt_mul(y, gain), samples, false, true);
    *common = rt_neg(rt_add(rt_scale(rt_mul(sum_features(rt_square(y)), precision), 0.5), sum_features(rt_mul(rt_mul(y, gain), c))));
    return rt_sub(products, rt_mul(rt_scale(rt_mul(gain, p->alpha), 0.5), squares));
}

static rt_node *logits_by_differences(const point *p, rt_node *samples)
{
    rt_node *difference = rt_sub(to3(p, p->x, 1, p->d), rt_mul(to3(p, p->alpha, 1, 1), samples));
    return rt_scale(sum_axis(rt_square(rt_div(difference, to3(p, p->beta, 1, 1))), -1), -0.5);
}

static bool by_differences(int64_t n, int64_t d) { return n * d <= BY_DIFFERENCES; }

static void build_data(const point *p, rt_oracle_nodes *out)
{
    rt_node *samples = samples_of(p), *common = NULL;
    rt_node *logits = by_differences(p->n, p->d) ? logits_by_differences(p, samples) : logits_by_products(p, samples, &common);
    logits = rt_add(logits, log_weights(p));
    out->x0 = rt_matmul(responsibilities(logits), samples, false, false);
    out->score = rt_div(rt_sub(rt_mul(p->alpha, out->x0), p->x), rt_square(p->beta));
    rt_node *total = common ? rt_add(log_total(logits), common) : log_total(logits);
    out->log_p = rt_sub(total, rt_scale(rt_offset(rt_scale(rt_log(p->beta), 2), LOG_2PI), (double)p->d / 2));
}

/* ---- boxes
 *
 * Along one axis 1/2 int phi(m - h tau) dtau over -1..1, as in oracle_boxes.c, whose closed forms are differences that lose all digits in float or when
 * they are differentiated. Here it is a sum of positive terms: Gauss and Legendre's rule over the window of tau where the integrand is not negligible,
 * at most exp(-REACH) of its largest value. That is at tau = near, the point of the box nearest to x; with t = m - h near and tau = near + s
 *
 *     phi(m - h tau)/phi(t) = exp(h s (t - h s/2))
 *
 * The ends of the integral do not move with x, so near and the window are constants of the differentiation: derivatives of all orders are exact. */

enum { NODES_F32 = 20, NODES_F64 = 40 };

static int rule_nodes(const rt_graph *g) { return rt_graph_real(g) == RT_F32 ? NODES_F32 : NODES_F64; }
static double rule_reach(const rt_graph *g) { return rt_graph_real(g) == RT_F32 ? 18 : 37; }

/* Zeros of Legendre's polynomial P_n by Newton's method, and the weights of the rule on [-1, 1]. */
static void legendre(int n, double *nodes, double *weights)
{
    for (int i = 0; i < n; i++) {
        double x = cos(M_PI * (i + 0.75) / (n + 0.5)), slope = 1;
        for (int turn = 0; turn < 10; turn++) {
            double p = 1, before = 0;
            for (int k = 1; k <= n; k++) {
                double next = ((2 * k - 1) * x * p - (k - 1) * before) / k;
                before = p;
                p = next;
            }
            slope = n * (x * p - before) / (x * x - 1);
            x -= p / slope;
        }
        nodes[i] = x;
        weights[i] = 2 / ((1 - x * x) * slope * slope);
    }
}

/* centre (1,K,d) or half the width of the boxes */
static rt_node *box_constant(const point *p, bool half)
{
    double *v = room(p, p->n * p->d);
    for (int64_t k = 0; v && k < p->n; k++) {
        const rt__box *box = &p->o->boxes[number(p, k)];
        memcpy(v + k * p->d, half ? box->half : box->centre, (size_t)p->d * sizeof *v);
    }
    return v ? CONSTANT(p, v, 1, p->n, p->d) : rt_scalar(p->g, 0); /* inert, as the graph is */
}

static void build_boxes(const point *p, rt_oracle_nodes *out)
{
    rt_graph *g = p->g;
    int n_nodes = rule_nodes(g);
    double nodes[NODES_F64], weights[NODES_F64];
    legendre(n_nodes, nodes, weights);
    rt_node *node = rt_reals(g, 1, (int64_t[]){n_nodes}, nodes), *weight = rt_reals(g, 1, (int64_t[]){n_nodes}, weights);
    rt_node *one = rt_scalar(g, 1), *beta = to3(p, p->beta, 1, 1), *rate = rt_div(to3(p, p->alpha, 1, 1), beta);
    rt_node *centre = box_constant(p, false), *half = box_constant(p, true);
    /* all (B,K,d) */
    rt_node *m = rt_div(rt_sub(to3(p, p->x, 1, p->d), rt_mul(to3(p, p->alpha, 1, 1), centre)), beta), *h = rt_mul(rate, half);
    rt_node *width = rt_maximum(h, rt_scalar(g, 1e-30)); /* alpha may be 0 */
    rt_node *near = rt_stop_grad(rt_minimum(rt_maximum(rt_div(m, width), rt_scalar(g, -1)), one)), *t = rt_sub(m, rt_mul(h, near));
    rt_node *far = rt_add(rt_sqrt(rt_offset(rt_square(t), 2 * rule_reach(g))), rt_abs(t)); /* reach = far - 2 |t|, without the difference */
    rt_node *reach = rt_div(rt_div(rt_scalar(g, 2 * rule_reach(g)), far), width);
    rt_node *below = rt_stop_grad(rt_minimum(rt_add(one, near), reach)), *above = rt_stop_grad(rt_minimum(rt_sub(one, near), reach));
    rt_node *middle = rt_scale(rt_sub(above, below), 0.5), *length = rt_scale(rt_add(above, below), 0.5);
    /* (B,K,d,nodes) */
    int64_t four[] = {p->batch, p->n, p->d, 1};
    rt_node *s = rt_add(rt_reshape(middle, 4, four), rt_mul(rt_reshape(length, 4, four), node));
    rt_node *hs = rt_mul(rt_reshape(h, 4, four), s);
    rt_node *f = rt_mul(weight, rt_exp(rt_mul(hs, rt_sub(rt_reshape(t, 4, four), rt_scale(hs, 0.5)))));
    rt_node *mass = sum_axis(f, -1), *shift = rt_div(sum_axis(rt_mul(f, s), -1), mass);
    /* 1/2 int = 1/2 length mass phi(t) */
    rt_node *log_axis = rt_sub(rt_log(rt_mul(rt_scale(length, 0.5), mass)), rt_scale(rt_square(t), 0.5));
    rt_node *logits = rt_add(log_weights(p), sum_axis(log_axis, -1));
    rt_node *r = to3(p, responsibilities(logits), p->n, 1);
    out->x0 = sum_axis(rt_mul(r, rt_add(centre, rt_mul(half, rt_add(near, shift)))), 1);
    out->score = rt_neg(rt_div(sum_axis(rt_mul(r, rt_sub(t, rt_mul(h, shift))), 1), p->beta));
    out->log_p = rt_sub(log_total(logits), rt_scale(rt_offset(rt_scale(rt_log(p->beta), 2), LOG_2PI), (double)p->d / 2));
}

/* ---- what is asked for */

/* The largest number in the parts, for floats. */
static double largest(const point *p)
{
    double most = 0;
    for (int64_t k = 0; k < p->n; k++)
        for (int64_t i = 0, j = number(p, k), d = p->d; i < d; i++) {
            const rt_oracle *o = p->o;
            if (o->components)
                most = fmax(most, fmax(fabs(o->components[j].mean[i]), sqrt(o->components[j].variance[i])));
            else if (o->boxes)
                most = fmax(most, fabs(o->boxes[j].centre[i]) + o->boxes[j].half[i]);
            else
                most = fmax(most, fabs((double)o->samples[j * d + i]));
        }
    return most;
}

/* (B), (B,1,..) or one number for all, as (B,1). */
static rt_node *per_sample(const point *p, rt_node *v, const char *name)
{
    if (rt__failed(v)) return v;
    int64_t rest = 1;
    for (int i = 1; i < v->rank; i++) rest *= v->shape[i];
    if (v->rank == 0) return rt_broadcast(v, 2, (int64_t[]){p->batch, 1});
    if (v->shape[0] == p->batch && rest == 1) return to2(p, v, 1);
    char text[96];
    return rt_fail(p->g, "oracle: %s is (%s); must be one number, or one for each sample", name,
                   rt_shape_text(text, sizeof text, v->rank, v->shape));
}

/* Fills the point, or makes the graph fail. */
static bool stand(point *p, const rt_oracle *o, rt_node *x, rt_node *alpha, rt_node *beta, rt_node *labels)
{
    *p = (point){.o = o, .g = rt_node_graph(x), .d = o->features, .n = o->n, .numbers = o->classes ? NULL : o->order};
    int64_t features = 1;
    for (int i = 1; i < x->rank; i++) features *= x->shape[i];
    if (rt__failed(x)) return false;
    if (x->rank < 1 || features != o->features) {
        char text[96];
        rt_fail(p->g, "oracle: x is (%s); must hold %lld numbers for each sample", rt_shape_text(text, sizeof text, x->rank, x->shape),
                (long long)o->features);
        return false;
    }
    if (rt_graph_real(p->g) == RT_F32 && largest(p) > FLOAT_MOST) {
        rt_fail(p->g, "oracle: it holds %g; in a graph of floats at most %g: scale the data, or build a graph of doubles", largest(p),
                FLOAT_MOST);
        return false;
    }
    if (labels && o->classes == 0) {
        rt_fail(p->g, "oracle: labels are given, but it has no classes; leave them out");
        return false;
    }
    p->batch = x->shape[0];
    p->x = to2(p, x, o->features);
    p->alpha = per_sample(p, alpha, "alpha");
    p->beta = per_sample(p, beta, "beta");
    p->labels = labels ? per_sample(p, labels, "the label") : NULL;
    return true;
}

rt_status rt_oracle_check_graph(const rt_oracle *o, rt_dtype dtype, double log_snr, rt_error *err)
{
    double most = 0;
    if (!o->samples || by_differences(o->n, o->features)) return RT_OK;
    double *centre = calloc((size_t)o->features, sizeof *centre);
    if (!centre) RT_RAISE(RT_E_MEMORY, "oracle: out of memory for %lld numbers", (long long)o->features);
    add_mean(o, centre);
    for (int64_t k = 0; k < o->n; k++) most = fmax(most, distance2(o, o->order[k], centre));
    free(centre);
    double rounding = dtype == RT_F32 ? 0x1p-23 : 0x1p-52, error = rounding * most * exp(log_snr);
    if (error <= MOST_ERROR) return RT_OK;
    RT_RAISE(
        RT_E_INVALID,
        "oracle: at log-SNR %g a graph in %s knows the logits of its %lld samples to %.2g; must be %g, as up to log-SNR %.3g: stop at a "
        "noisier time, or take a set of at most %d numbers",
        log_snr, rt_dtype_name(dtype), (long long)o->n, error, MOST_ERROR, log(MOST_ERROR / (rounding * most)), BY_DIFFERENCES);
}

void rt_oracle_build(const rt_oracle *o, rt_node *x, rt_node *alpha, rt_node *beta, rt_node *labels, rt_oracle_nodes *out)
{
    point p;
    bool built = stand(&p, o, x, alpha, beta, labels);
    if (built) (o->components ? build_normals : o->boxes ? build_boxes : build_data)(&p, out);
    if (!built || rt_graph_status(p.g, NULL) != RT_OK) {
        rt_node *inert = rt_scalar(p.g, 0);
        *out = (rt_oracle_nodes){inert, inert, inert};
        return;
    }
    *out = (rt_oracle_nodes){rt_reshape(out->x0, x->rank, x->shape), rt_reshape(out->score, x->rank, x->shape),
                             rt_reshape(out->log_p, 1, &p.batch)};
}
