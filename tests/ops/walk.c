/* walk.c -- every operator through its samples: derivatives, precision, backends, threads, slices, refusals.
 *
 * A case is a sample with L = sum(y * projection), projection fixed normal numbers, and G = dL/d(inputs). One check per property walks all
 * rows; a failure prints row, sample and figure. */
#include "emulated_device.h"
#include "graph/program.h"
#include "cuda/emulated.h"
#include "cuda/fake_cuda.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_INPUTS = 8, MAX_VALUES = 2 * MAX_INPUTS + 2, WHOLE = 7 };

/* Gradients that are not the derivative, by definition. */
static const char *const not_derivatives[] = {"stop_grad"};

/* Rows that have no derivative along a direction and say so: steps, and what writes parameters. */
static const char *const refused_forward[] = {"cast", "update"};

static bool listed(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, list[i])) return true;
    return false;
}

/* ---- a case */

typedef struct specimen {
    rt_graph *g;
    rt_node *y, *projection, *loss;       /* the last two only for real y */
    rt_node *inputs[MAX_INPUTS];          /* of the sample: real ones first */
    rt_node *grads[MAX_INPUTS];           /* d loss / d real inputs */
    rt_node *directions[MAX_INPUTS], *dy; /* of real inputs, and the derivative of y along them: where `aim` made them */
    int n_inputs, n_real;
} specimen;

static bool is_input(const rt_node *n) { return n->op == rt__ops_f32[RT_OP_input]; }

/* false when the row has no such sample. */
static bool specimen_build(specimen *s, rt_dtype dtype, int op, int k)
{
    *s = (specimen){.g = rt_graph_new(dtype)};
    const rt_op *row = rt__ops_f32[op];
    s->y = row->sample(s->g, k);
    if (!s->y) {
        rt_graph_free(s->g);
        return false;
    }
    rt_error err = {0};
    if (rt_graph_status(s->g, &err) != RT_OK) fail_msg("%s sample %d: %s", row->name, k, err.text);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < s->g->n_nodes; i++) {
            rt_node *n = s->g->nodes[i];
            if (!is_input(n) || rt__is_real(n) != (pass == 0)) continue;
            assert_true(s->n_inputs < MAX_INPUTS);
            s->inputs[s->n_inputs++] = n;
            s->n_real += pass == 0;
        }
    if (rt__is_real(s->y) && (row->grad || row->expand)) {
        s->projection = rt_input(s->g, "projection", s->y->dtype, s->y->rank, s->y->shape);
        s->loss = rt_sum(rt_mul(s->y, s->projection), RT_ALL_AXES, false);
        if (s->loss->dtype != dtype) s->loss = rt_cast(s->loss, dtype);
        rt_grad(s->loss, s->inputs, s->n_real, s->grads);
        if (rt_graph_status(s->g, &err) != RT_OK) fail_msg("gradient of %s sample %d: %s", row->name, k, err.text);
    }
    return true;
}

static bool differentiable(const specimen *s) { return s->loss && s->n_real > 0; }
static bool batched(const rt_node *n) { return n->rank > 0 && n->shape[0] < 0; }

static bool has_batch(const specimen *s)
{
    for (int i = 0; i < s->n_inputs; i++)
        if (batched(s->inputs[i])) return true;
    return batched(s->y);
}

/* ---- running one */

typedef struct settings {
    int64_t batch, first, total; /* the slice */
    const char *backend;
    int threads;
    rt_dtype compute;
    bool rounded; /* the inputs to bf16 */
} settings;

static const settings plain = {.batch = 3, .total = 3, .backend = "reference", .threads = 1};

typedef struct running {
    rt_program *p;
    rt_clock clock;
} running;

/* Element i of sample s of an input: the same in every graph, slice and precision. */
static double element(const rt_node *n, int64_t sample, int64_t i)
{
    const rt__input_attr *a = n->attr;
    if (!rt__is_real(n)) return (double)((sample + i) % 2);
    double v[4];
    rt__draw_normal(&(rt__draw){.seed = 7, .name = rt__draw_name(a->name)}, (uint32_t)sample, (uint32_t)(i / 4), v);
    return (double)(float)v[i % 4];
}

static void put(void *data, rt_dtype dtype, int64_t i, double v)
{
    switch (dtype) {
    case RT_F32: ((float *)data)[i] = (float)v; break;
    case RT_F64: ((double *)data)[i] = v; break;
    case RT_I64: ((int64_t *)data)[i] = (int64_t)v; break;
    default: ((unsigned char *)data)[i] = (unsigned char)v; break;
    }
}

static double get(const void *data, rt_dtype dtype, int64_t i)
{
    switch (dtype) {
    case RT_F32: return (double)((const float *)data)[i];
    case RT_F64: return ((const double *)data)[i];
    case RT_I64: return (double)((const int64_t *)data)[i];
    default: return (double)((const unsigned char *)data)[i];
    }
}

/* Numbers that bf16 holds: seven digits behind the first one. */
static double to_bf16(double v)
{
    int e;
    double f = frexp(v, &e);
    return ldexp(nearbyint(ldexp(f, 8)), e - 8);
}

static void fill(rt_program *p, const rt_node *n, int64_t first, bool rounded)
{
    void *data = rt_program_data(p, n);
    if (!data) return; /* nothing reads it */
    int64_t count = rt_program_count(p, n), width = count;
    if (batched(n)) {
        width = 1;
        for (int i = 1; i < n->rank; i++) width *= n->shape[i];
        first *= -n->shape[0];
    } else {
        first = 0;
    }
    for (int64_t i = 0; i < count; i++) {
        double v = element(n, first + i / width, i % width);
        put(data, n->dtype, i, rounded ? to_bf16(v) : v);
    }
}

static running start(const specimen *s, rt_node *const *outputs, int n, const settings *at)
{
    rt_error err = {0};
    running r = {.clock = {.seed = 5, .step = 3, .first = (uint32_t)at->first, .total = at->total}};
    rt_program_spec spec = {
        .outputs = outputs, .n_outputs = n, .batch = at->batch, .backend = rt_backend_find(at->backend), .threads = at->threads};
    spec.compute = at->compute;
    if (rt_compile(&r.p, s->g, &spec, &err) != RT_OK) fail_msg("%s: %s", s->y->op->name, err.text);
    for (int i = 0; i < s->n_inputs; i++) fill(r.p, s->inputs[i], at->first, at->rounded);
    if (s->projection) fill(r.p, s->projection, at->first, at->rounded);
    for (int i = 0; i < s->n_real && s->dy; i++) fill(r.p, s->directions[i], at->first, at->rounded);
    return r;
}

static void go(running *r)
{
    rt_error err = {0};
    if (rt_run(r->p, &r->clock, &err) != RT_OK) fail_msg("%s", err.text);
}

/* Values of some nodes after a run, as doubles. */
typedef struct values {
    int n;
    int64_t count[MAX_VALUES];
    double *v[MAX_VALUES];
} values;

static values take(running *r, rt_node *const *nodes, int n)
{
    values out = {.n = n};
    for (int i = 0; i < n; i++) {
        out.count[i] = rt_program_count(r->p, nodes[i]);
        out.v[i] = malloc((size_t)out.count[i] * sizeof *out.v[i]);
        const void *data = rt_program_data(r->p, nodes[i]);
        assert_non_null(data);
        for (int64_t j = 0; j < out.count[i]; j++) out.v[i][j] = get(data, nodes[i]->dtype, j);
    }
    return out;
}

static void values_free(values *v)
{
    for (int i = 0; i < v->n; i++) free(v->v[i]);
}

/* y and the gradients: what the checks compare. */
static int outcomes(const specimen *s, rt_node **nodes)
{
    int n = 0;
    nodes[n++] = s->y;
    for (int i = 0; differentiable(s) && i < s->n_real; i++) nodes[n++] = s->grads[i];
    return n;
}

static values evaluate(const specimen *s, const settings *at)
{
    rt_node *nodes[MAX_VALUES];
    int n = outcomes(s, nodes);
    running r = start(s, nodes, n, at);
    go(&r);
    values v = take(&r, nodes, n);
    rt_program_free(r.p);
    return v;
}

/* max|a - b| / max|b|; where b is zero throughout, max|a|. NaN counts as infinite. */
static double distance(const double *a, const double *b, int64_t n)
{
    double d = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs(a[i] - b[i]);
        if (!(e <= INFINITY) || isnan(e)) return INFINITY;
        d = fmax(d, e);
        top = fmax(top, fabs(b[i]));
    }
    return top > 0 ? d / top : d;
}

static int compare(const char *what, const rt_op *row, int k, const values *got, const values *want, double forward, double gradient)
{
    int failures = 0;
    for (int i = 0; i < want->n; i++) {
        double e = got->count[i] == want->count[i] ? distance(got->v[i], want->v[i], want->count[i]) : INFINITY;
        if (e <= (i ? gradient : forward)) continue;
        if (i)
            print_error("%s: %s sample %d, gradient %d: %.2e\n", what, row->name, k, i - 1, e);
        else
            print_error("%s: %s sample %d: %.2e\n", what, row->name, k, e);
        failures++;
    }
    return failures;
}

/* Calls check(op, k) for every sample of every row; fails when one does. */
static void walk(int (*check)(int op, int k))
{
    int failures = 0, cases = 0;
    for (int op = 0; op < RT_OPS; op++)
        for (int k = 0; rt__ops_f32[op]->sample; k++) {
            int f = check(op, k);
            if (f < 0) break;
            failures += f;
            cases++;
        }
    assert_true(cases > 100);
    assert_int_equal(failures, 0);
}

/* ---- derivatives */

enum {
    ELEMENTS = 48
}; /* of a tensor that are differentiated one by one; larger ones are strided through, and all move at once at the end */

/* What differences may be off by because the loss is rounded: a sum of thousands of numbers by some units in its last place, more where registers
 * are short and each adds up more of them. */
static double rounding(double loss) { return 1e-15 * fabs(loss) / 5e-5; }

/* The derivative of `loss` in the direction `dir` of input `x`, by central differences with one Richardson step. */
static double difference(running *r, rt_node *loss, rt_node *x, const double *dir)
{
    double *data = rt_program_data(r->p, x);
    int64_t n = rt_program_count(r->p, x);
    double *keep = malloc((size_t)n * sizeof *keep), d[2];
    memcpy(keep, data, (size_t)n * sizeof *keep);
    for (int i = 0; i < 2; i++) {
        double h = i ? 5e-5 : 1e-4, l[2];
        for (int side = 0; side < 2; side++) {
            for (int64_t j = 0; j < n; j++) data[j] = keep[j] + (side ? -h : h) * dir[j];
            go(r);
            l[side] = *(double *)rt_program_data(r->p, loss);
        }
        d[i] = (l[0] - l[1]) / (2 * h);
    }
    memcpy(data, keep, (size_t)n * sizeof *keep);
    free(keep);
    return (4 * d[1] - d[0]) / 3;
}

static int check_gradient(const specimen *s, rt_node *loss, rt_node *const *grads, const char *what, int k, double tolerance)
{
    const rt_op *row = s->y->op;
    rt_node *nodes[MAX_INPUTS + 1];
    int failures = 0;
    for (int i = 0; i < s->n_real; i++) nodes[i] = grads[i];
    nodes[s->n_real] = loss;
    running all = start(s, nodes, s->n_real + 1, &plain), only = start(s, &loss, 1, &plain);
    go(&all);
    values g = take(&all, nodes, s->n_real);
    double noise = rounding(*(double *)rt_program_data(all.p, loss));
    for (int i = 0; i < s->n_real; i++) {
        int64_t n = g.count[i];
        double top = 0, worst = 0, *dir = calloc((size_t)n, sizeof *dir);
        for (int64_t j = 0; j < n; j++) top = fmax(top, fabs(g.v[i][j]));
        bool read = rt_program_data(only.p, s->inputs[i]) != NULL; /* else the loss does not depend on it */
        int64_t stride = n / ELEMENTS + 1;
        if (!read) worst = top;
        for (int64_t j = 0; j < n && read; j += stride) {
            dir[j] = 1;
            double d = difference(&only, loss, s->inputs[i], dir);
            dir[j] = 0;
            worst = fmax(worst, fabs(d - g.v[i][j]) - noise);
        }
        if (stride > 1 && read) {
            double along = 0, size = 0;
            for (int64_t j = 0; j < n; j++) {
                dir[j] = element(s->inputs[i], 1000, j) / sqrt((double)n);
                along += dir[j] * g.v[i][j];
                size += g.v[i][j] * g.v[i][j];
            }
            double off = fabs(difference(&only, loss, s->inputs[i], dir) - along) - noise;
            worst = fmax(worst, off * top / sqrt(size / (double)n + 1e-300));
        }
        double e = worst / fmax(top, 1e-3);
        if (!(e <= tolerance)) {
            print_error("%s: %s sample %d, input %d: %.2e\n", what, row->name, k, i, e);
            failures++;
        }
        free(dir);
    }
    values_free(&g);
    rt_program_free(all.p);
    rt_program_free(only.p);
    return failures;
}

static int first_derivative(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F64, op, k)) return -1;
    int failures = 0;
    if (!differentiable(&s)) {
        rt_graph_free(s.g);
        return 0;
    }
    if (listed(s.y->op->name, not_derivatives, RT_COUNT(not_derivatives))) {
        values v = evaluate(&s, &plain);
        for (int i = 1; i < v.n; i++)
            for (int64_t j = 0; j < v.count[i]; j++) failures += v.v[i][j] != 0;
        if (failures) print_error("first: %s sample %d: gradient is not zero\n", s.y->op->name, k);
        values_free(&v);
    } else {
        failures = check_gradient(&s, s.loss, s.grads, "first", k, TOL_DIFFERENCES);
    }
    rt_graph_free(s.g);
    return failures;
}

/* M = sum of all gradients times fixed numbers, and its gradient. */
static int second_derivative(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F64, op, k)) return -1;
    int failures = 0;
    if (differentiable(&s) && !listed(s.y->op->name, not_derivatives, RT_COUNT(not_derivatives))) {
        rt_node *m = NULL, *second[MAX_INPUTS];
        for (int i = 0; i < s.n_real; i++) {
            const rt_node *x = s.inputs[i];
            int64_t n = 1, from = batched(x) ? 1 : 0;
            for (int64_t j = from; j < x->rank; j++) n *= x->shape[j];
            double *w = malloc((size_t)n * sizeof *w);
            for (int64_t j = 0; j < n; j++) w[j] = element(x, 77, j);
            rt_node *weights = rt_reals(s.g, x->rank - (int)from, x->shape + from, w);
            free(w);
            rt_node *part = rt_sum(rt_square(rt_mul(s.grads[i], weights)), RT_ALL_AXES, false);
            m = m ? rt_add(m, part) : part;
        }
        rt_grad(m, s.inputs, s.n_real, second);
        rt_error err = {0};
        if (rt_graph_status(s.g, &err) != RT_OK) {
            print_error("second: %s sample %d: %s\n", s.y->op->name, k, err.text);
            failures++;
        } else {
            failures = check_gradient(&s, m, second, "second", k, TOL_SECOND);
        }
    }
    rt_graph_free(s.g);
    return failures;
}

/* ---- forward mode */

/* Makes dy; false where there is none, which is a failure unless the row is to refuse. */
static bool aim(specimen *s, int op, int k, int *failures)
{
    static char names[MAX_INPUTS][32];
    const char *row = rt__ops_f32[op]->name;
    if (!rt__is_real(s->y) || s->n_real == 0) return false;
    for (int i = 0; i < s->n_real; i++) {
        snprintf(names[i], sizeof names[i], "along %d", i);
        s->directions[i] = rt_input(s->g, names[i], s->inputs[i]->dtype, s->inputs[i]->rank, s->inputs[i]->shape);
    }
    s->dy = rt_jvp(s->y, s->inputs, s->directions, s->n_real);
    rt_error err = {0};
    if (rt_graph_status(s->g, &err) == RT_OK) return true;
    s->dy = NULL;
    bool named = strstr(err.text, row) && strstr(err.text, "has no derivative along a direction");
    if (named && listed(row, refused_forward, RT_COUNT(refused_forward))) return false;
    print_error("forward: %s sample %d: %s\n", row, k, err.text);
    return (*failures)++, false;
}

/* y where every real input has moved by h along its direction. */
static values moved(const specimen *s, double h)
{
    running r = start(s, &(rt_node *){s->y}, 1, &plain);
    for (int i = 0; i < s->n_real; i++) {
        double *data = rt_program_data(r.p, s->inputs[i]);
        int64_t n = data ? rt_program_count(r.p, s->inputs[i]) : 0, width = batched(s->inputs[i]) ? n / (3 * -s->inputs[i]->shape[0]) : n;
        for (int64_t j = 0; j < n; j++) data[j] += h * element(s->directions[i], j / width, j % width);
    }
    go(&r);
    values v = take(&r, &(rt_node *){s->y}, 1);
    rt_program_free(r.p);
    return v;
}

static values derivative_of(const specimen *s)
{
    running r = start(s, &(rt_node *){s->dy}, 1, &plain);
    go(&r);
    values v = take(&r, &(rt_node *){s->dy}, 1);
    rt_program_free(r.p);
    return v;
}

/* dy against central differences with one Richardson step, and the gradient of its square (reverse over forward). */
static int forward_mode(int op, int k)
{
    specimen s;
    int failures = 0;
    if (!specimen_build(&s, RT_F64, op, k)) return -1;
    bool zero = listed(rt__ops_f32[op]->name, not_derivatives, RT_COUNT(not_derivatives));
    if (aim(&s, op, k, &failures)) {
        values got = derivative_of(&s), at[4];
        double top = 1e-3, worst = 0;
        for (int i = 0; i < 4; i++) at[i] = moved(&s, (i < 2 ? 1e-4 : 5e-5) * (i % 2 ? -1 : 1));
        for (int64_t j = 0; j < got.count[0]; j++) {
            double d[2] = {(at[0].v[0][j] - at[1].v[0][j]) / 2e-4, (at[2].v[0][j] - at[3].v[0][j]) / 1e-4};
            double want = zero ? 0 : (4 * d[1] - d[0]) / 3, off = fabs(got.v[0][j] - want);
            worst = fmax(worst, off <= INFINITY ? off - rounding(at[0].v[0][j]) : INFINITY);
            top = fmax(top, fabs(want));
        }
        if (!(worst / top <= TOL_DIFFERENCES)) {
            print_error("forward: %s sample %d: %.2e\n", rt__ops_f32[op]->name, k, worst / top);
            failures++;
        }
        values_free(&got);
        for (int i = 0; i < 4; i++) values_free(&at[i]);
        if (!zero && s.projection) {
            rt_node *m = rt_sum(rt_square(rt_mul(s.dy, s.projection)), RT_ALL_AXES, false), *grads[MAX_INPUTS];
            if (m->dtype != RT_F64) m = rt_cast(m, RT_F64);
            rt_grad(m, s.inputs, s.n_real, grads);
            failures += check_gradient(&s, m, grads, "reverse over forward", k, TOL_SECOND);
        }
    }
    rt_graph_free(s.g);
    return failures;
}

static int forward_single(int op, int k)
{
    specimen s, d;
    int failures = 0;
    if (!specimen_build(&s, RT_F32, op, k)) return -1;
    assert_true(specimen_build(&d, RT_F64, op, k));
    if (aim(&s, op, k, &failures) && aim(&d, op, k, &failures)) {
        values got = derivative_of(&s), want = derivative_of(&d);
        failures += compare("forward in float", rt__ops_f32[op], k, &got, &want, TOL_SINGLE_GRADIENT, 0);
        values_free(&got);
        values_free(&want);
    }
    rt_graph_free(s.g);
    rt_graph_free(d.g);
    return failures;
}

/* ---- the same value by other means */

static int single_precision(int op, int k)
{
    specimen s, d;
    if (!specimen_build(&s, RT_F32, op, k)) return -1;
    assert_true(specimen_build(&d, RT_F64, op, k));
    values got = evaluate(&s, &plain), want = evaluate(&d, &plain);
    int failures = compare("float", rt__ops_f32[op], k, &got, &want, TOL_SINGLE, TOL_SINGLE_GRADIENT);
    values_free(&got);
    values_free(&want);
    rt_graph_free(s.g);
    rt_graph_free(d.g);
    return failures;
}

static int other_backends(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F32, op, k)) return -1;
    int failures = 0;
    values want = evaluate(&s, &plain);
    for (const char *const *name = rt_backend_names(); *name; name++) {
        if (!strcmp(*name, "reference") || rt_backend_open(rt_backend_find(*name), NULL) != RT_OK) continue;
        for (int threads = 1; threads <= 2; threads++) {
            settings at = plain;
            at.backend = *name;
            at.threads = threads;
            values got = evaluate(&s, &at);
            bool same = !strcmp(*name, emulated_backend.name); /* its rows are the reference's */
            failures += compare(*name, rt__ops_f32[op], k, &got, &want, same ? 0 : TOL_BACKEND, same ? 0 : TOL_BACKEND_GRAD);
            values_free(&got);
        }
    }
    values_free(&want);
    rt_graph_free(s.g);
    return failures;
}

static int thread_counts(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F32, op, k)) return -1;
    int failures = 0;
    settings at = plain;
    at.batch = at.total = 401; /* beyond the sizes below which kernels stay on one thread */
    values one = evaluate(&s, &at);
    for (at.threads = 2; at.threads <= 3; at.threads++) {
        values more = evaluate(&s, &at);
        failures += compare("threads", rt__ops_f32[op], k, &more, &one, 0, 0);
        values_free(&more);
    }
    values_free(&one);
    rt_graph_free(s.g);
    return failures;
}

static int expansion(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F64, op, k)) return -1;
    int failures = 0;
    if (rt__ops_f32[op]->expand && s.y->op == rt__ops_f32[op]) {
        rt_node *nodes[] = {s.y, s.y->op->expand(s.y)};
        running r = start(&s, nodes, 2, &plain);
        go(&r);
        values v = take(&r, nodes, 2);
        double e = v.count[0] == v.count[1] ? distance(v.v[0], v.v[1], v.count[0]) : INFINITY;
        if (!(e <= TOL_EXPANSION)) {
            print_error("expansion: %s sample %d: %.2e\n", s.y->op->name, k, e);
            failures++;
        }
        values_free(&v);
        rt_program_free(r.p);
    }
    rt_graph_free(s.g);
    return failures;
}

/* Images in blocks of 2 and 3 channels, wherever those divide them, and with all channels last. */
static const int blocks[] = {2, 3, RT_CHANNELS_LAST};
static const char *const in_blocks[] = {"blocks of 2", "blocks of 3", "channels last"};
static bool met[3][RT_OPS]; /* did the row work on them? */

static int layouts(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F64, op, k)) return -1;
    int failures = 0;
    values want = evaluate(&s, &plain);
    for (int b = 0; b < 3; b++) {
        s.g->force_block = blocks[b];
        rt_node *nodes[MAX_VALUES];
        running r = start(&s, nodes, outcomes(&s, nodes), &plain);
        go(&r);
        values got = take(&r, nodes, want.n);
        failures += compare(in_blocks[b], rt__ops_f32[op], k, &got, &want, TOL_SLICES, TOL_SLICES);
        for (int i = 0; i < r.p->n_nodes; i++)
            for (int j = 0; j < r.p->nodes[i]->n_in; j++)
                for (int o = 0; o < RT_OPS; o++)
                    met[b][o] |= r.p->nodes[i]->op == rt__ops_f32[o] && r.p->nodes[i]->in[j]->block == blocks[b];
        values_free(&got);
        rt_program_free(r.p);
    }
    values_free(&want);
    rt_graph_free(s.g);
    return failures;
}

/* Operands stored in bf16: a row that knows them differs from float by the rounding of what lies between inputs and outcomes. */
static bool met_bf16[RT_OPS];

static int storage(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F32, op, k)) return -1;
    settings at = plain;
    at.rounded = true;
    values want = evaluate(&s, &at);
    int failures = 0;
    for (int b = RT_CHANNELS_LAST; b <= 2; b += b < 0 ? 1 : 2) {
        s.g->force_bf16 = true;
        s.g->force_block = b;
        rt_node *nodes[MAX_VALUES];
        running r = start(&s, nodes, outcomes(&s, nodes), &at);
        go(&r);
        values got = take(&r, nodes, want.n);
        failures += compare(b > 0   ? "bf16 in blocks"
                            : b < 0 ? "bf16, channels last"
                                    : "bf16",
                            rt__ops_f32[op], k, &got, &want, TOL_BF16, TOL_BF16_GRADIENT);
        for (int i = 0; i < r.p->n_nodes; i++)
            for (int j = 0; j < r.p->nodes[i]->n_in; j++)
                for (int o = 0; o < RT_OPS; o++)
                    met_bf16[o] |= r.p->nodes[i]->op == rt__ops_f32[o] && r.p->nodes[i]->in[j]->dtype == RT_BF16;
        values_free(&got);
        rt_program_free(r.p);
    }
    values_free(&want);
    rt_graph_free(s.g);
    return failures;
}

/* Programs that compute in bf16, where a backend can. */
static int half_precision(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F32, op, k)) return -1;
    settings at = plain;
    at.rounded = true;
    values want = evaluate(&s, &at);
    int failures = 0;
    for (const char *const *name = rt_backend_names(); *name; name++) {
        if (rt_backend_open(rt_backend_find(*name), NULL) != RT_OK) continue;
        at.backend = *name;
        at.compute = RT_BF16;
        at.threads = 2;
        values got = evaluate(&s, &at);
        failures += compare(*name, rt__ops_f32[op], k, &got, &want, TOL_BF16, TOL_BF16_GRADIENT);
        values_free(&got);
    }
    values_free(&want);
    rt_graph_free(s.g);
    return failures;
}

/* Kernels of devices (tests/cuda): images plain and in channels last, operands in float and in bf16. */
static bool met_device[RT_OPS], met_last[RT_OPS]; /* did a kernel of a device run for the row? On images in channels last? */

static int on_device(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F32, op, k)) return -1;
    settings at = plain;
    at.rounded = true;
    values want = evaluate(&s, &at);
    int failures = 0;
    at.backend = rt__backend_emulated.name;
    for (int way = 1; way < 4; way++) { /* plain images of floats: other_backends */
        s.g->force_block = way / 2 ? RT_CHANNELS_LAST : 0;
        s.g->force_bf16 = way % 2;
        rt_node *nodes[MAX_VALUES];
        running r = start(&s, nodes, outcomes(&s, nodes), &at);
        go(&r);
        values got = take(&r, nodes, want.n);
        failures += compare("device", rt__ops_f32[op], k, &got, &want, way % 2 ? TOL_BF16 : TOL_BACKEND,
                            way % 2 ? TOL_BF16_GRADIENT : TOL_BACKEND_GRAD);
        for (int i = 0; i < r.p->n_steps; i++) {
            const rt_call *c = &r.p->steps[i].call;
            bool last = c->in && c->n_in && (c->in[0].block > 1 || c->out.block > 1);
            for (int o = 0; o < RT_OPS && r.p->steps[i].backend; o++)
                if (c->node->op == rt__ops_f32[o]) met_device[o] = true, met_last[o] |= last;
        }
        values_free(&got);
        rt_program_free(r.p);
    }
    values_free(&want);
    rt_graph_free(s.g);
    return failures;
}

/* A kernel that may write over its input is called so, by hand. */
static int in_place(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F32, op, k)) return -1;
    const rt_node *y = s.y;
    const rt_op *kernel = rt__kernel_of(y->op, RT_F32);
    int failures = 0;
    if (y->op == rt__ops_f32[op] && y->op->flags & RT_ROW_INPLACE) {
        rt_node *nodes[MAX_VALUES];
        for (int i = 0; i < y->n_in; i++) nodes[i] = y->in[i];
        nodes[y->n_in] = s.y;
        running r = start(&s, nodes, y->n_in + 1, &plain);
        go(&r);
        for (int over = 0; over < y->n_in; over++) {
            if (y->in[over]->dtype != y->dtype || y->in[over]->rank != y->rank || memcmp(y->in[over]->shape, y->shape, sizeof y->shape))
                continue;
            rt_view in[MAX_VALUES] = {{0}};
            for (int i = 0; i <= y->n_in; i++) {
                in[i] = (rt_view){.dtype = nodes[i]->dtype, .rank = nodes[i]->rank, .count = rt_program_count(r.p, nodes[i])};
                for (int j = 0; j < nodes[i]->rank; j++)
                    in[i].dim[j] = nodes[i]->shape[j] < 0 ? -nodes[i]->shape[j] * 3 : nodes[i]->shape[j];
                size_t bytes = (size_t)in[i].count * rt_dtype_size(in[i].dtype);
                in[i].data = aligned_alloc(64, (bytes + 63) / 64 * 64);
                memcpy(in[i].data, rt_program_data(r.p, nodes[i]), bytes);
            }
            rt_call c = {.node = y, .n_in = y->n_in, .in = in, .out = in[over], .clock = &r.clock};
            if (kernel->scratch) c.scratch = malloc(kernel->scratch(&c));
            kernel->run(&c);
            if (memcmp(in[over].data, in[y->n_in].data, (size_t)c.out.count * rt_dtype_size(y->dtype))) {
                print_error("in place: %s sample %d over input %d\n", y->op->name, k, over);
                failures++;
            }
            free(c.scratch);
            for (int i = 0; i <= y->n_in; i++) free(in[i].data);
        }
        rt_program_free(r.p);
    }
    rt_graph_free(s.g);
    return failures;
}

/* ---- slices: 7 samples as 4 + 3 in two programs, and 8 as 4 + 4 in one program that keeps the sums */

static void join(values *whole, const values *part, rt_node *const *nodes, int64_t first, bool sum)
{
    for (int i = 0; i < part->n; i++)
        for (int64_t j = 0; j < part->count[i]; j++) {
            if (batched(nodes[i])) {
                int64_t width = 1;
                for (int a = 1; a < nodes[i]->rank; a++) width *= nodes[i]->shape[a];
                whole->v[i][first * -nodes[i]->shape[0] * width + j] = part->v[i][j];
            } else {
                whole->v[i][j] = part->v[i][j] + (sum ? whole->v[i][j] : 0);
            }
        }
}

static int slices(int op, int k)
{
    specimen s;
    if (!specimen_build(&s, RT_F64, op, k)) return -1;
    int failures = 0;
    rt_node *nodes[MAX_VALUES];
    int n = outcomes(&s, nodes);
    bool maps = rt__ops_f32[op]->batch == RT_MAPS && batched(s.y), sums = rt__ops_f32[op]->batch == RT_SUMS;
    for (int i = 0; i < s.y->n_in && s.y->op->batch == RT_MAPS && !batched(s.y); i++)
        if (batched(s.y->in[i])) {
            print_error("slices: %s sample %d joins samples, but its row says that it maps\n", s.y->op->name, k);
            failures++;
        }
    if (has_batch(&s) && (maps || sums)) {
        settings at = plain;
        at.batch = at.total = WHOLE;
        values want = evaluate(&s, &at), got = evaluate(&s, &at);
        for (int i = 0; i < got.n; i++) memset(got.v[i], 0, (size_t)got.count[i] * sizeof *got.v[i]);
        for (at.first = 0; at.first < WHOLE; at.first += 4) {
            at.batch = at.first ? 3 : 4;
            values part = evaluate(&s, &at);
            join(&got, &part, nodes, at.first, true);
            values_free(&part);
        }
        failures += compare("slices 4 + 3", rt__ops_f32[op], k, &got, &want, TOL_SLICES, TOL_SLICES);
        values_free(&want);
        values_free(&got);

        at = plain;
        at.batch = at.total = 8;
        want = evaluate(&s, &at), got = evaluate(&s, &at);
        at.batch = 4;
        running r = start(&s, nodes, n, &at);
        for (int slice = 0; slice < 2; slice++) {
            for (int i = 0; i < s.n_inputs; i++) fill(r.p, s.inputs[i], 4 * slice, false);
            if (s.projection) fill(r.p, s.projection, 4 * slice, false);
            r.clock.first = (uint32_t)(4 * slice);
            r.clock.more = slice == 0;
            r.clock.resumed = slice == 1;
            go(&r);
            values part = take(&r, nodes, n);
            join(&got, &part, nodes, 4 * slice, false);
            values_free(&part);
        }
        failures += compare("slices 4 + 4", rt__ops_f32[op], k, &got, &want, TOL_SLICES, TOL_SLICES);
        rt_program_free(r.p);
        values_free(&want);
        values_free(&got);
    }
    rt_graph_free(s.g);
    return failures;
}

/* ---- refusals, completeness */

static void test_bad_shapes(void **state)
{
    (void)state;
    int failures = 0;
    for (int op = 0; op < RT_OPS; op++) {
        const rt_op *row = rt__ops_f32[op];
        if (!row->sample) continue;
        rt_graph *g = rt_graph_new(RT_F32);
        row->sample(g, -1);
        rt_error err = {0};
        bool ok = rt_graph_status(g, &err) == RT_E_INVALID && strstr(err.text, row->name);
        for (int i = 0; i < g->n_nodes && ok; i++) {
            char shape[96];
            const rt_node *n = g->nodes[i];
            if (is_input(n)) ok = strstr(err.text, rt_shape_text(shape, sizeof shape, n->rank, n->shape)) != NULL;
        }
        if (!ok) {
            print_error("bad shape: %s: '%s'\n", row->name, err.text);
            failures++;
        }
        rt_graph_free(g);
    }
    assert_int_equal(failures, 0);
}

static void test_rows_are_complete(void **state)
{
    (void)state;
    int failures = 0;
    const char *least;
    bool has, is_least = rt_isa_describe(0, &least, &has) && strcmp(least, rt_isa_name()) == 0;
    for (int op = 0; op < RT_OPS; op++) {
        const rt_op *f = rt__ops_f32[op], *d = rt__kernel_of(f, RT_F64), *s = rt__kernel_of(f, RT_F32);
        bool source = f->flags & RT_ROW_SOURCE, view = f->flags & RT_ROW_VIEW;
        bool ok = f->name && f->formula && f->shape && (source || f->sample) &&
                  (source || view || (f->run && d->run && s->run && f->run != d->run));
        ok = ok && d->name && !strcmp(f->name, d->name) && !strcmp(f->name, s->name) && (s == f) == is_least &&
             f->attr_size <= 256; /* the zeros that rt__emit lends */
        for (int other = 0; other < op; other++) ok = ok && strcmp(f->name, rt__ops_f32[other]->name) != 0;
        if (ok) continue;
        print_error("row %d, %s, is incomplete\n", op, f->name ? f->name : "without a name");
        failures++;
    }
    assert_int_equal(failures, 0);
}

#define WALK(name)                                                                                                                         \
    static void test_##name(void **state)                                                                                                  \
    {                                                                                                                                      \
        (void)state;                                                                                                                       \
        walk(name);                                                                                                                        \
    }
WALK(first_derivative)
WALK(second_derivative)
WALK(forward_mode)
WALK(forward_single)
WALK(single_precision)
WALK(other_backends)
WALK(thread_counts)
WALK(expansion)
WALK(in_place)
WALK(layouts)
WALK(slices)
WALK(storage)
WALK(half_precision)
WALK(on_device)

/* Rows that libraries have for devices; views and sources need none. */
static const char *const libraries[] = {"conv2d",    "conv2d_data",    "conv2d_weight", "matmul",
                                        "attention", "attention_grad", "attention_jvp", "update"};

static void test_devices_have_rows(void **state)
{
    (void)state;
    for (int op = 0; op < RT_OPS; op++) {
        const rt_op *row = rt__ops_f32[op];
        bool needs = !(row->flags & (RT_ROW_SOURCE | RT_ROW_VIEW)) && !listed(row->name, libraries, RT_COUNT(libraries));
        if (met_device[op] != needs) fail_msg("%s: %s kernel of a device", row->name, needs ? "no" : "unexpectedly, a");
        bool images = (row->layout == RT_LAYOUT_MAPS || row->layout == RT_LAYOUT_READS) && needs;
        if (images && !met_last[op]) fail_msg("%s: no sample in channels last", row->name);
    }
}

static void test_layouts_are_met(void **state)
{
    (void)state;
    for (int op = 0; op < RT_OPS; op++) {
        const rt_op *row = rt__ops_f32[op];
        if (row->layout != RT_LAYOUT_MAPS && row->layout != RT_LAYOUT_READS) continue;
        if (!met[0][op] && !met[1][op]) fail_msg("%s: no sample is an image whose channels 2 or 3 divide", row->name);
        if (!met[2][op]) fail_msg("%s: no sample has its channels last", row->name);
    }
}

static void test_bf16_is_met(void **state)
{
    (void)state;
    for (int op = 0; op < RT_OPS; op++)
        if (rt__ops_f32[op]->type != RT_TYPE_F32 && rt__ops_f32[op]->type != RT_TYPE_BACKEND && !met_bf16[op])
            fail_msg("%s: no sample has an operand in bf16", rt__ops_f32[op]->name);
}

/* With FAKE_CUDA=1: the backend `cuda` on a fake of NVIDIA's libraries, alone. */
static int walk_cuda(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_other_backends), cmocka_unit_test(test_half_precision)};
    fake_cuda_use();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    if (getenv("FAKE_CUDA")) return walk_cuda();
    rt__backend_add(&rt__backend_emulated);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_complete), cmocka_unit_test(test_bad_shapes),      cmocka_unit_test(test_first_derivative),
        cmocka_unit_test(test_second_derivative), cmocka_unit_test(test_forward_mode),    cmocka_unit_test(test_forward_single),
        cmocka_unit_test(test_single_precision),  cmocka_unit_test(test_other_backends),  cmocka_unit_test(test_thread_counts),
        cmocka_unit_test(test_expansion),         cmocka_unit_test(test_in_place),        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_layouts),           cmocka_unit_test(test_layouts_are_met), cmocka_unit_test(test_storage),
        cmocka_unit_test(test_bf16_is_met),       cmocka_unit_test(test_half_precision),  cmocka_unit_test(test_on_device),
        cmocka_unit_test(test_devices_have_rows),
    };
    rt__backend_add(&emulated_backend);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
