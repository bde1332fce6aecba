/* evaluate.h -- for tests of operators: give inputs, get values. */
#ifndef RETORT_TESTS_EVALUATE_H
#define RETORT_TESTS_EVALUATE_H

#include "retort/graph.h"
#include "retort/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* An input and its values, in its own type. */
typedef struct given {
    rt_node *node;
    const void *data;
} given;
#define GIVEN(...) (const given[]){__VA_ARGS__}, sizeof((const given[]){__VA_ARGS__}) / sizeof(given)

#define SHAPE(...)                                                                                                                         \
    (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ }

static inline double number_at(const void *data, rt_dtype dtype, int64_t i)
{
    switch (dtype) {
    case RT_F32: return (double)((const float *)data)[i];
    case RT_F64: return ((const double *)data)[i];
    case RT_I64: return (double)((const int64_t *)data)[i];
    default: return (double)((const unsigned char *)data)[i];
    }
}

/* The value of a node on the reference, as doubles to be freed. */
static inline double *evaluate_at(rt_node *y, int64_t batch, int threads, rt_clock clock, const given *in, size_t n_in)
{
    rt_error err = {0};
    rt_program *p = NULL;
    rt_program_spec spec = {.outputs = &y, .n_outputs = 1, .batch = batch, .backend = rt_backend_find("reference"), .threads = threads};
    if (rt_compile(&p, rt_node_graph(y), &spec, &err) != RT_OK) fail_msg("%s", err.text);
    for (size_t i = 0; i < n_in; i++) {
        void *data = rt_program_data(p, in[i].node);
        if (data) memcpy(data, in[i].data, (size_t)rt_program_count(p, in[i].node) * rt_dtype_size(rt_node_dtype(in[i].node)));
    }
    if (rt_run(p, &clock, &err) != RT_OK) fail_msg("%s", err.text);
    int64_t n = rt_program_count(p, y);
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) v[i] = number_at(rt_program_data(p, y), rt_node_dtype(y), i);
    rt_program_free(p);
    return v;
}

static inline double *evaluate(rt_node *y, int64_t batch, const given *in, size_t n_in)
{
    return evaluate_at(y, batch, 2, (rt_clock){.seed = 1, .step = 1}, in, n_in);
}

/* Evaluates, compares with `want` and releases: max|got - want| / max|want| within the tolerance, NaN and infinities equal. */
static inline void assert_values(rt_node *y, int64_t batch, const given *in, size_t n_in, const double *want, int64_t n, double tolerance)
{
    double *got = evaluate(y, batch, in, n_in), top = 0, worst = 0;
    int64_t count = 1;
    for (int i = 0; i < rt_node_rank(y); i++) count *= rt_node_shape(y)[i] < 0 ? -rt_node_shape(y)[i] * batch : rt_node_shape(y)[i];
    assert_int_equal(count, n);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(want[i])) top = fmax(top, fabs(want[i]));
    for (int64_t i = 0; i < n; i++) {
        bool same = isnan(want[i]) ? isnan(got[i]) : isinf(want[i]) ? got[i] == want[i] : isfinite(got[i]);
        double e = !same ? (double)INFINITY : isfinite(want[i]) ? fabs(got[i] - want[i]) / (top > 0 ? top : 1) : 0;
        if (!(e <= tolerance) && !(worst > tolerance))
            print_error("element %lld is %.17g, should be %.17g\n", (long long)i, got[i], want[i]);
        worst = fmax(worst, e);
    }
    free(got);
    if (!(worst <= tolerance)) fail_msg("off by %.2e, allowed %.2e", worst, tolerance);
}

/* Numbers without pattern in (-1, 1), different for each salt. */
static inline double scatter(int64_t i, int salt)
{
    double v = sin(12.9898 * (double)(i + 1) + 78.233 * (double)salt) * 43758.5453;
    return 2 * (v - floor(v)) - 1;
}

static inline double *scattered(int64_t n, int salt)
{
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) v[i] = scatter(i, salt);
    return v;
}

#endif
