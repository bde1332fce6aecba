/* oracle_graph_test.c -- oracles as nodes against the evaluator, in double and in float; their derivatives against central differences. */
#include "diffusion_check.h"
#include "evaluate.h"

#include "retort/diffusion.h"
#include "retort/ops.h"

enum { ROWS = 24, MOST = 40 };

/* ---- oracles of every kind, with and without classes */

static void random_covariance(int d, int salt, double *c)
{
    double a[8 * 8];
    for (int i = 0; i < d * d; i++) a[i] = scatter(i, salt);
    for (int i = 0; i < d; i++)
        for (int j = 0; j < d; j++) {
            c[i * d + j] = i == j ? 0.05 : 0;
            for (int k = 0; k < d; k++) c[i * d + j] += 0.4 * a[i * d + k] * a[j * d + k];
        }
}

/* Full covariances; of `parts` 1 it is a Gaussian. */
static rt_oracle *normals(int parts, int d, bool classes)
{
    double weights[8], means[8 * 8], covariances[8 * 8 * 8], sum = 0;
    rt_oracle *o = NULL;
    for (int k = 0; k < parts; k++) sum += weights[k] = 1 + k;
    for (int k = 0; k < parts; k++) weights[k] /= sum;
    for (int i = 0; i < parts * d; i++) means[i] = 2 * scatter(i, 3);
    for (int k = 0; k < parts; k++) random_covariance(d, 10 + k, covariances + k * d * d);
    CHECK_OK(rt_oracle_mixture(&o, parts, d, weights, means, covariances, NULL, NULL, &err));
    if (classes) CHECK_OK(rt_oracle_set_classes(o, (int64_t[]){1, 0, 1, 2, 0, 2, 1, 0}, &err));
    return o;
}

/* Covariances that are multiples of the identity, from broad to narrow. */
static rt_oracle *clouds(void)
{
    double means[6], covariances[12] = {0};
    rt_oracle *o = NULL;
    for (int i = 0; i < 6; i++) means[i] = 2 * scatter(i, 5);
    for (int k = 0; k < 3; k++) covariances[4 * k] = covariances[4 * k + 3] = k == 0 ? 0.5 : k == 1 ? 0.04 : 1e-3;
    CHECK_OK(rt_oracle_mixture(&o, 3, 2, (double[]){0.25, 0.25, 0.5}, means, covariances, NULL, NULL, &err));
    return o;
}

/* Boxes of all sizes, some of which overlap. */
static rt_oracle *boxes(void)
{
    const double lows[] = {-2, -1, 0, 0.5, -0.5, -1.5, 1, 1}, highs[] = {-1, 2, 0.25, 0.75, 1.5, -1.25, 2, 1.01};
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_boxes(&o, 4, 2, (double[]){0.1, 0.2, 0.3, 0.4}, lows, highs, NULL, NULL, &err));
    CHECK_OK(rt_oracle_set_classes(o, (int64_t[]){1, 0, 1, 0}, &err));
    return o;
}

/* n samples in 3 classes, by differences or, if there are many numbers, by products. */
static rt_oracle *samples(int64_t n, int64_t d, bool classes)
{
    float *x = malloc((size_t)(n * d) * sizeof *x);
    int64_t *labels = malloc((size_t)n * sizeof *labels);
    rt_oracle *o = NULL;
    assert_non_null(x);
    assert_non_null(labels);
    for (int64_t i = 0; i < n * d; i++) x[i] = (float)scatter(i, 7);
    for (int64_t k = 0; k < n; k++) labels[k] = k % 3 ? k % 3 - 1 : 2;
    CHECK_OK(rt_oracle_data(&o, n, d, x, NULL, NULL, &err));
    if (classes) CHECK_OK(rt_oracle_set_classes(o, labels, &err));
    free(x);
    free(labels);
    return o;
}

static const char *const names[] = {"gaussian", "mixture", "clouds", "boxes", "few samples", "many samples"};

static rt_oracle *some_oracle(size_t i)
{
    switch (i) {
    case 0: return normals(1, 3, false);
    case 1: return normals(5, 4, true);
    case 2: return clouds();
    case 3: return boxes();
    case 4: return samples(14, 3, true);
    default: return samples(1400, 30, true);
    }
}

/* ---- rows: x_t of data, each at its own time and of its own class */

typedef struct rows {
    int64_t n, d;
    double *x, alpha[MOST], beta[MOST];
    int64_t labels[MOST];
} rows;

/* Times of log-SNR low..high, alternately with alpha^2 + beta^2 = 1 and alpha + beta = 1; every sixth row lies far from the data. In a graph of floats
 * the numbers are floats. */
static rows some_rows(const rt_oracle *o, double low, double high, bool single)
{
    rows r = {.n = ROWS, .d = rt_oracle_features(o)};
    r.x = malloc((size_t)(r.n * r.d) * sizeof *r.x);
    assert_non_null(r.x);
    for (int64_t j = 0; j < r.n; j++) {
        double ratio = exp((low + (high - low) * (double)j / (double)(r.n - 1)) / 2); /* alpha/beta */
        r.beta[j] = j % 2 ? 1 / (1 + ratio) : 1 / sqrt(1 + ratio * ratio);
        r.alpha[j] = j == 0 && low <= -10 ? 0 : ratio * r.beta[j]; /* and pure noise */
        if (single) r.alpha[j] = (double)(float)r.alpha[j], r.beta[j] = (double)(float)r.beta[j];
        r.labels[j] = rt_oracle_classes(o) ? (j * 7 / 3) % (rt_oracle_classes(o) + 1) : 0;
        const rt_oracle *of = rt_oracle_classes(o) ? rt_oracle_given(o, r.labels[j]) : o;
        CHECK_OK(rt_oracle_draw(of, 5, j, 1, r.x + j * r.d, &err));
        for (int64_t i = 0; i < r.d; i++) {
            double *x = r.x + j * r.d + i;
            *x = r.alpha[j] * *x + (j % 6 == 5 ? 8 : 1.5) * r.beta[j] * scatter(j * r.d + i, 9);
            if (r.alpha[j] == 0 && i == 0) *x = 0;
            if (single) *x = (double)(float)*x;
        }
    }
    return r;
}

typedef struct built {
    rt_graph *g;
    rt_node *x, *alpha, *beta, *labels;
    rt_oracle_nodes out;
} built;

static built build(const rt_oracle *o, rt_dtype real, bool labels)
{
    built b = {.g = rt_graph_new(real)};
    b.x = rt_input(b.g, "x", real, 2, (int64_t[]){RT_BATCH, rt_oracle_features(o)});
    b.alpha = rt_input(b.g, "alpha", real, 1, (int64_t[]){RT_BATCH});
    b.beta = rt_input(b.g, "beta", real, 1, (int64_t[]){RT_BATCH});
    b.labels = labels ? rt_input(b.g, "labels", RT_I64, 1, (int64_t[]){RT_BATCH}) : NULL;
    rt_oracle_build(o, b.x, b.alpha, b.beta, b.labels, &b.out);
    CHECK_OK(rt_graph_status(b.g, &err));
    return b;
}

/* Numbers in the graph's type, to be freed. */
static void *typed(const double *v, int64_t n, rt_dtype real)
{
    void *to = malloc((size_t)n * sizeof *v);
    assert_non_null(to);
    for (int64_t i = 0; i < n; i++) {
        if (real == RT_F32)
            ((float *)to)[i] = (float)v[i];
        else
            ((double *)to)[i] = v[i];
    }
    return to;
}

static double *value_at(const built *b, rt_node *y, const rows *r, const double *x)
{
    rt_dtype real = rt_graph_real(b->g);
    void *xs = typed(x, r->n * r->d, real), *alpha = typed(r->alpha, r->n, real), *beta = typed(r->beta, r->n, real);
    given in[] = {{b->x, xs}, {b->alpha, alpha}, {b->beta, beta}, {b->labels ? b->labels : b->x, b->labels ? (const void *)r->labels : xs}};
    double *v = evaluate(y, r->n, in, 4);
    free(xs);
    free(alpha);
    free(beta);
    return v;
}

/* The evaluator's answers to row j. */
static void ask(const rt_oracle *o, const rows *r, int64_t j, bool labels, double *x0, double *score, double *log_p)
{
    const rt_oracle *of = labels ? rt_oracle_given(o, r->labels[j]) : o;
    CHECK_OK(rt_oracle_posterior_mean(of, r->alpha[j], r->beta[j], 1, r->x + j * r->d, x0, &err));
    CHECK_OK(rt_oracle_score(of, r->alpha[j], r->beta[j], 1, r->x + j * r->d, score, &err));
    CHECK_OK(rt_oracle_log_density(of, r->alpha[j], r->beta[j], 1, r->x + j * r->d, log_p, &err));
}

typedef struct errors {
    double x0, score, log_p; /* of the largest number or 1; of the largest beta score or 1; of log p or 1 */
} errors;

static errors against_evaluator(const rt_oracle *o, rt_dtype real, double low, double high, bool labels)
{
    rows r = some_rows(o, low, high, real == RT_F32);
    built b = build(o, real, labels);
    double *x0 = value_at(&b, b.out.x0, &r, r.x), *score = value_at(&b, b.out.score, &r, r.x), *log_p = value_at(&b, b.out.log_p, &r, r.x);
    errors e = {0};
    for (int64_t j = 0; j < r.n; j++) {
        double want[2][64], want_log, size = 1, noise = 1, worst[2] = {0};
        ask(o, &r, j, labels, want[0], want[1], &want_log);
        for (int64_t i = 0; i < r.d; i++) {
            size = fmax(size, fabs(want[0][i]));
            noise = fmax(noise, r.beta[j] * fabs(want[1][i]));
            worst[0] = fmax(worst[0], fabs(x0[j * r.d + i] - want[0][i]));
            worst[1] = fmax(worst[1], r.beta[j] * fabs(score[j * r.d + i] - want[1][i]));
            if (!isfinite(x0[j * r.d + i]) || !isfinite(score[j * r.d + i])) worst[0] = (double)INFINITY;
        }
        e.x0 = fmax(e.x0, worst[0] / size);
        e.score = fmax(e.score, worst[1] / noise);
        e.log_p = fmax(e.log_p, isfinite(log_p[j]) ? fabs(log_p[j] - want_log) / fmax(1, fabs(want_log)) : (double)INFINITY);
    }
    free(x0);
    free(score);
    free(log_p);
    free(r.x);
    rt_graph_free(b.g);
    return e;
}

static void check(errors e, errors most, const char *what, double low)
{
    CHECK_NEAR(e.x0, 0, most.x0, "%s, log-SNR from %g: x0", what, low);
    CHECK_NEAR(e.score, 0, most.score, "%s, log-SNR from %g: score", what, low);
    CHECK_NEAR(e.log_p, 0, most.log_p, "%s, log-SNR from %g: log p", what, low);
}

/* Rows of one batch have times of their own, and labels of their own, the null class among them. */
static void in_double(void **state)
{
    (void)state;
    const errors most = {TOL_ORACLE_GRAPH, TOL_ORACLE_GRAPH, TOL_ORACLE_GRAPH};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rt_oracle *o = some_oracle(i);
        for (double low = -10; low < 10; low += 4) check(against_evaluator(o, RT_F64, low, low + 4, false), most, names[i], low);
        if (rt_oracle_classes(o)) check(against_evaluator(o, RT_F64, -4, 6, true), most, names[i], -4);
        rt_oracle_free(o);
    }
}

static void in_float(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rt_oracle *o = some_oracle(i);
        errors most = {TOL_ORACLE_SINGLE, TOL_ORACLE_SINGLE, i == 5 ? TOL_ORACLE_PRODUCTS : TOL_ORACLE_SINGLE};
        for (double low = -10; low < 10; low += 4) check(against_evaluator(o, RT_F32, low, low + 4, false), most, names[i], low);
        if (rt_oracle_classes(o)) check(against_evaluator(o, RT_F32, -4, 6, true), most, names[i], -4);
        rt_oracle_free(o);
    }
}

/* The oracle of a class is an oracle: its samples lie scattered among the others, or in one piece. */
static void one_class(void **state)
{
    (void)state;
    const errors most = {TOL_ORACLE_GRAPH, TOL_ORACLE_GRAPH, TOL_ORACLE_GRAPH};
    for (size_t i = 1; i < sizeof names / sizeof *names; i++) {
        rt_oracle *o = some_oracle(i);
        for (int64_t c = 0; c < rt_oracle_classes(o); c++)
            check(against_evaluator(rt_oracle_given(o, c), RT_F64, -4, 6, false), most, names[i], -4);
        rt_oracle_free(o);
    }
    const float x[] = {0, 1, 2, 3, 4};
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_data(&o, 5, 1, x, NULL, NULL, &err));
    CHECK_OK(rt_oracle_set_classes(o, (int64_t[]){0, 0, 1, 1, 1}, &err));
    check(against_evaluator(rt_oracle_given(o, 1), RT_F64, -4, 6, false), most, "samples in one piece", -4);
    rt_oracle_free(o);
}

/* Tweedie (1.2) ties x0 and score, and the gradient of log p is the score: two paths through the graph to one number. */
static void identities(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rt_oracle *o = some_oracle(i);
        rows r = some_rows(o, -4, 6, false);
        built b = build(o, RT_F64, rt_oracle_classes(o) > 0);
        rt_node *gradient;
        rt_grad(rt_sum(b.out.log_p, RT_ALL_AXES, false), &b.x, 1, &gradient);
        CHECK_OK(rt_graph_status(b.g, &err));
        double *x0 = value_at(&b, b.out.x0, &r, r.x), *score = value_at(&b, b.out.score, &r, r.x), *found = value_at(&b, gradient, &r, r.x);
        for (int64_t j = 0; j < r.n * r.d; j++) {
            double alpha = r.alpha[j / r.d], beta = r.beta[j / r.d], size = 1 + beta * fabs(score[j]);
            CHECK_NEAR(alpha * x0[j], r.x[j] + beta * beta * score[j], 1e-13 * (1 + fabs(r.x[j])), "%s: Tweedie, number %lld", names[i],
                       (long long)j);
            CHECK_NEAR(beta * found[j], beta * score[j], TOL_ORACLE_GRAPH * size, "%s: gradient of log p, number %lld", names[i],
                       (long long)j);
        }
        free(x0);
        free(score);
        free(found);
        free(r.x);
        rt_graph_free(b.g);
        rt_oracle_free(o);
    }
}

/* d f_j/dx_j along a direction, f (B) a value of each sample, against central differences. */
static void check_gradient(const built *b, rt_node *f, rt_node *gradient, const rows *r, double tolerance, const char *what)
{
    const double h = 1e-5;
    int64_t n = r->n * r->d;
    double *direction = scattered(n, 31), *up = malloc((size_t)(2 * n) * sizeof *up), *down = up + n, top = 0;
    assert_non_null(up);
    for (int64_t i = 0; i < n; i++) up[i] = r->x[i] + h * direction[i], down[i] = r->x[i] - h * direction[i];
    double *above = value_at(b, f, r, up), *below = value_at(b, f, r, down), *g = value_at(b, gradient, r, r->x);
    for (int64_t j = 0; j < r->n; j++) top = fmax(top, fabs(above[j] - below[j]) / (2 * h));
    for (int64_t j = 0; j < r->n; j++) {
        double along = 0;
        for (int64_t i = 0; i < r->d; i++) along += g[j * r->d + i] * direction[j * r->d + i];
        CHECK_NEAR(along, (above[j] - below[j]) / (2 * h), tolerance * top, "%s, row %lld", what, (long long)j);
    }
    free(direction);
    free(up);
    free(above);
    free(below);
    free(g);
}

/* The gradient of a projection of x0 and of the score (SiD needs it), and of that gradient's square. */
static void derivatives(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rt_oracle *o = some_oracle(i);
        rows r = some_rows(o, -3, 3, false);
        built b = build(o, RT_F64, rt_oracle_classes(o) > 0);
        double *v = scattered(r.d, 17);
        rt_node *along = rt_reals(b.g, 1, &r.d, v), *of[] = {b.out.x0, b.out.score};
        for (int k = 0; k < 2; k++) {
            rt_node *f = rt_dot(of[k], along), *first, *second;
            rt_grad(rt_sum(f, RT_ALL_AXES, false), &b.x, 1, &first);
            rt_node *square = rt_norm2(first);
            rt_grad(rt_sum(square, RT_ALL_AXES, false), &b.x, 1, &second);
            CHECK_OK(rt_graph_status(b.g, &err));
            check_gradient(&b, f, first, &r, TOL_ORACLE_GRADIENT, names[i]);
            check_gradient(&b, square, second, &r, TOL_ORACLE_SECOND, names[i]);
        }
        free(v);
        free(r.x);
        rt_graph_free(b.g);
        rt_oracle_free(o);
    }
}

/* In alpha and beta, too: of log p, by differences. */
static void derivatives_in_time(void **state)
{
    (void)state;
    const double h = 1e-6;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rt_oracle *o = some_oracle(i);
        rows r = some_rows(o, -3, 3, false);
        built b = build(o, RT_F64, rt_oracle_classes(o) > 0);
        rt_node *wrt[] = {b.alpha, b.beta}, *gradient[2];
        rt_grad(rt_sum(b.out.log_p, RT_ALL_AXES, false), wrt, 2, gradient);
        for (int k = 0; k < 2; k++) {
            rows up = r, down = r;
            for (int64_t j = 0; j < r.n; j++) (k ? up.beta : up.alpha)[j] += h, (k ? down.beta : down.alpha)[j] -= h;
            double *above = value_at(&b, b.out.log_p, &up, r.x), *below = value_at(&b, b.out.log_p, &down, r.x),
                   *g = value_at(&b, gradient[k], &r, r.x);
            for (int64_t j = 0; j < r.n; j++)
                CHECK_NEAR(g[j], (above[j] - below[j]) / (2 * h), TOL_ORACLE_GRADIENT * (1 + fabs(g[j])), "%s, row %lld, in %s", names[i],
                           (long long)j, k ? "beta" : "alpha");
            free(above);
            free(below);
            free(g);
        }
        free(r.x);
        rt_graph_free(b.g);
        rt_oracle_free(o);
    }
}

/* Times as (B,1,1,1) and as one number, x as pictures, two batches joined: the same numbers. */
static void shapes(void **state)
{
    (void)state;
    rt_oracle *o = normals(5, 4, true);
    rows r = some_rows(o, -2, 4, false);
    for (int64_t j = 0; j < r.n; j++) r.beta[j] = 0.5;
    built plain = build(o, RT_F64, true);
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, 4, (int64_t[]){RT_BATCH, 1, 2, 2}),
            *alpha = rt_input(g, "alpha", RT_F64, 4, (int64_t[]){RT_BATCH, 1, 1, 1}),
            *labels = rt_input(g, "labels", RT_I64, 1, (int64_t[]){RT_BATCH});
    rt_oracle_nodes out, twice;
    rt_oracle_build(o, x, alpha, rt_scalar(g, 0.5), labels, &out);
    rt_oracle_build(o, rt_concat((rt_node *[]){x, x}, 2, 0), rt_concat((rt_node *[]){alpha, alpha}, 2, 0), rt_scalar(g, 0.5),
                    rt_concat((rt_node *[]){labels, labels}, 2, 0), &twice);
    CHECK_OK(rt_graph_status(g, &err));
    assert_int_equal(rt_node_rank(out.score), 4);
    assert_int_equal(rt_dim(twice.log_p, 0), -2);
    rt_node *shaped[] = {out.x0, out.score, out.log_p}, *joined[] = {twice.x0, twice.score, twice.log_p},
            *want[] = {plain.out.x0, plain.out.score, plain.out.log_p};
    for (int k = 0; k < 3; k++) {
        int64_t n = r.n * (k < 2 ? r.d : 1);
        double *v = value_at(&plain, want[k], &r, r.x), *both = malloc((size_t)(2 * n) * sizeof *both);
        assert_non_null(both);
        memcpy(both, v, (size_t)n * sizeof *v);
        memcpy(both + n, v, (size_t)n * sizeof *v);
        assert_values(shaped[k], r.n, GIVEN({x, r.x}, {alpha, r.alpha}, {labels, r.labels}), v, n, 1e-14);
        assert_values(joined[k], r.n, GIVEN({x, r.x}, {alpha, r.alpha}, {labels, r.labels}), both, 2 * n, 1e-14);
        free(v);
        free(both);
    }
    free(r.x);
    rt_graph_free(g);
    rt_graph_free(plain.g);
    rt_oracle_free(o);
}

/* A batch in three slices: the loss and its gradient in a parameter that moves x add up to those of the whole. */
static void slices(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rt_oracle *o = some_oracle(i);
        rows r = some_rows(o, -2, 4, false);
        double got[2][2];
        for (int parts = 1; parts <= 3; parts += 2) {
            rt_graph *g = rt_graph_new(RT_F64);
            rt_params *set = rt_params_new("shift", RT_F64);
            rt_node *x = rt_input(g, "x", RT_F64, 2, (int64_t[]){RT_BATCH, r.d}),
                    *alpha = rt_input(g, "alpha", RT_F64, 1, (int64_t[]){RT_BATCH}),
                    *beta = rt_input(g, "beta", RT_F64, 1, (int64_t[]){RT_BATCH}), *w = rt_param(g, set, "w", 0, NULL, RT_INIT_CONST(0.25));
            rt_oracle_nodes out;
            rt_oracle_build(o, rt_add(x, w), alpha, beta, NULL, &out);
            rt_node *loss = rt_expect(rt_add(rt_norm2(out.score), out.log_p)), *outputs[2] = {loss};
            rt_grad(loss, &w, 1, &outputs[1]);
            rt_program *p = NULL;
            int64_t batch = r.n / parts;
            CHECK_OK(rt_params_init(set, 1, &err));
            CHECK_OK(rt_compile(&p, g, &(rt_program_spec){.outputs = outputs, .n_outputs = 2, .batch = batch, .threads = 1}, &err));
            for (int k = 0; k < parts; k++) {
                memcpy(rt_program_data(p, x), r.x + k * batch * r.d, (size_t)(batch * r.d) * sizeof *r.x);
                memcpy(rt_program_data(p, alpha), r.alpha + k * batch, (size_t)batch * sizeof *r.alpha);
                memcpy(rt_program_data(p, beta), r.beta + k * batch, (size_t)batch * sizeof *r.beta);
                CHECK_OK(
                    rt_run(p, &(rt_clock){.first = (uint32_t)(k * batch), .total = r.n, .resumed = k > 0, .more = k + 1 < parts}, &err));
            }
            for (int k = 0; k < 2; k++) got[parts > 1][k] = *(double *)rt_program_data(p, outputs[k]);
            rt_program_free(p);
            rt_params_free(set);
            rt_graph_free(g);
        }
        for (int k = 0; k < 2; k++) CHECK_NEAR(got[1][k], got[0][k], 1e-12 * (1 + fabs(got[0][k])), "%s, output %d", names[i], k);
        free(r.x);
        rt_oracle_free(o);
    }
}

/* Rows halfway between two samples, at the cleanest time that rt_oracle_check_graph allows: an error of the logits moves P by a quarter of it. */
static void between_samples(void **state)
{
    (void)state;
    enum { N = 1400, D = 30 };
    rt_oracle *o = samples(N, D, false);
    rt_error e = {0};
    double low = 0, high = 40;
    while (high - low > 1e-9) *(rt_oracle_check_graph(o, RT_F32, (low + high) / 2, &e) == RT_OK ? &low : &high) = (low + high) / 2;
    assert_true(low > 8 && low < 16);
    CHECK_OK(rt_oracle_check_graph(o, RT_F64, low + 15, &err));
    CHECK_REFUSED(rt_oracle_check_graph(o, RT_F32, low + 1, &err), RT_E_INVALID,
                  "a graph in F32 knows the logits of its 1400 samples to 0.68");
    rows r = some_rows(o, low, low, true);
    for (int64_t j = 0; j < r.n; j++)
        for (int64_t i = 0; i < D; i++)
            r.x[j * D + i] = (double)(float)(r.alpha[j] * (double)(float)(scatter(j * D + i, 7) + scatter((j + 7) * D + i, 7)) / 2);
    built b = build(o, RT_F32, false);
    double *x0 = value_at(&b, b.out.x0, &r, r.x), want[D], score[D], log_p;
    for (int64_t j = 0; j < r.n; j++) {
        ask(o, &r, j, false, want, score, &log_p);
        for (int64_t i = 0; i < D; i++) {
            double apart = fabs(scatter(j * D + i, 7) - scatter((j + 7) * D + i, 7));
            CHECK_NEAR(x0[j * D + i], want[i], 0.25 / 4 * apart + 1e-6, "row %lld, number %lld", (long long)j, (long long)i);
        }
    }
    free(x0);
    free(r.x);
    rt_graph_free(b.g);
    rt_oracle_free(o);
    o = samples(14, 3, false);
    CHECK_OK(rt_oracle_check_graph(o, RT_F32, 60, &err)); /* by differences: as good as x */
    rt_oracle_free(o);
}

/* A graph that cannot be built says why. */
static void refusals(void **state)
{
    (void)state;
    rt_oracle *o = normals(5, 4, false), *huge = NULL;
    const double mean = 1e16, variance = 1;
    CHECK_OK(rt_oracle_gaussian(&huge, 1, &mean, &variance, NULL, NULL, &err));
    static const char *const says[] = {"x is (Bx3); must hold 4 numbers", "alpha is (Bx2); must be one number",
                                       "has no classes; leave them out", "it holds 1e+16; in a graph of floats at most 1e+15"};
    for (int k = 0; k < 4; k++) {
        rt_graph *g = rt_graph_new(RT_F32);
        rt_node *x = rt_input(g, "x", RT_F32, 2,
                              (int64_t[]){RT_BATCH, k == 0   ? 3
                                                    : k == 3 ? 1
                                                             : 4}),
                *alpha = rt_input(g, "alpha", RT_F32, k == 1 ? 2 : 1, (int64_t[]){RT_BATCH, 2}),
                *labels = rt_input(g, "labels", RT_I64, 1, (int64_t[]){RT_BATCH});
        rt_oracle_nodes out;
        rt_oracle_build(k == 3 ? huge : o, x, alpha, rt_scalar(g, 1), k == 2 ? labels : NULL, &out);
        CHECK_REFUSED(rt_graph_status(g, &err), RT_E_INVALID, says[k]);
        rt_oracle_build(o, out.x0, out.score, out.log_p, NULL, &out); /* inert */
        CHECK_REFUSED(rt_graph_status(g, &err), RT_E_INVALID, says[k]);
        rt_graph_free(g);
    }
    rt_oracle_free(o);
    rt_oracle_free(huge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_double),  cmocka_unit_test(in_float),    cmocka_unit_test(one_class),
        cmocka_unit_test(identities), cmocka_unit_test(derivatives), cmocka_unit_test(derivatives_in_time),
        cmocka_unit_test(shapes),     cmocka_unit_test(slices),      cmocka_unit_test(between_samples),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
