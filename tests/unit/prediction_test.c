/* prediction_test.c -- conversions between predictions: against their definitions, as numbers and as graphs, over log-SNR -20..20. */
#include "diffusion_check.h"

#include "retort/ops.h"

#include <float.h>

enum { N = 16, ROWS = 5 };
static const char *const names[ROWS] = {"x0", "epsilon", "v", "score", "velocity"};

/* The definitions, in long double. */
static long double output_of(int row, long double x0, long double eps, long double alpha, long double beta)
{
    switch (row) {
    case 0: return x0;
    case 1: return eps;
    case 2: return alpha * eps - beta * x0;
    case 3: return -eps / beta;
    default: return eps - x0;
    }
}

/* By how much a relative error of 1 in x and in the output may show in x0 and in eps: 1/alpha and 1/beta where a row divides by them. */
static void conditions(int row, double alpha, double beta, double *in_x0, double *in_eps)
{
    bool by_alpha = row == 1 || row == 3, by_beta = row == 0;
    *in_x0 = by_alpha ? 1 / alpha : row == 0 ? 1 : 2;
    *in_eps = by_beta ? 1 / beta : by_alpha ? 1 : 2;
}

/* row = a x0 + b eps */
static void terms(int row, long double alpha, long double beta, long double *a, long double *b)
{
    *a = output_of(row, 1, 0, alpha, beta);
    *b = output_of(row, 0, 1, alpha, beta);
}

/* A conversion is linear in (out, x): by how much relative errors of 1 in both may show, by way of x0 and eps. That is the condition number itself
 * (1/alpha, 1/beta where they belong), except among v and velocity, where an output may be smaller than the x0 and eps that make it. */
static double pair_condition(int from, int to, double alpha, double beta, double out, double x)
{
    long double a, b, c, d;
    terms(from, alpha, beta, &a, &b);
    terms(to, alpha, beta, &c, &d);
    long double D = alpha * b - beta * a; /* x0 = (b x - beta out)/D, eps = (alpha out - a x)/D */
    long double in_x0 = (fabsl(b * x) + fabsl(beta * out)) / fabsl(D), in_eps = (fabsl(alpha * out) + fabsl(a * x)) / fabsl(D);
    return (double)(fabsl(c) * in_x0 + fabsl(d) * in_eps);
}

static double worst_double, worst_graph[2];

static const rt_prediction *row_of(int i)
{
    rt_error err = {0};
    const rt_prediction *p = rt_prediction_find(names[i], &err);
    if (!p) fail_msg("%s", err.text);
    return p;
}

static void fill(double *x0, double *eps, uint64_t seed)
{
    for (int i = 0; i < N; i++) x0[i] = wobble(&seed), eps[i] = 2 * wobble(&seed);
}

static void conversions_in_double(void **state)
{
    (void)state;
    double x0[N], eps[N], x[N], out[N], got[N], got_x0[N], got_eps[N];
    for (int lambda = -20; lambda <= 20; lambda++) {
        for (int vp = 0; vp < 2; vp++) { /* variance preserving, and straight lines */
            double ratio = exp(lambda / 2.0), alpha = vp ? sqrt(1 / (1 + exp(-lambda))) : ratio / (1 + ratio),
                   beta = vp ? sqrt(1 / (1 + exp(lambda))) : 1 / (1 + ratio);
            fill(x0, eps, (uint64_t)(lambda + 100));
            for (int row = 0; row < ROWS; row++) {
                double kx, ke;
                conditions(row, alpha, beta, &kx, &ke);
                for (int i = 0; i < N; i++) {
                    x[i] = (double)((long double)alpha * x0[i] + (long double)beta * eps[i]);
                    out[i] = (double)output_of(row, x0[i], eps[i], alpha, beta);
                }
                CHECK_OK(rt_prediction_split(row_of(row), N, out, x, alpha, beta, got_x0, got_eps, &err));
                for (int i = 0; i < N; i++) {
                    double unit = TOL_CONDITION * DBL_EPSILON * 3; /* |x|, |x0|, |eps| < 3 */
                    CHECK_NEAR(got_x0[i], x0[i], unit * kx, "x0 from %s at log-SNR %d", names[row], lambda);
                    CHECK_NEAR(got_eps[i], eps[i], unit * ke, "eps from %s at log-SNR %d", names[row], lambda);
                }
                for (int to = 0; to < ROWS; to++) { /* every pair: row -> (x0, eps) -> to */
                    CHECK_OK(rt_prediction_join(row_of(to), N, got_x0, got_eps, alpha, beta, got, &err));
                    for (int i = 0; i < N; i++) {
                        double want = (double)output_of(to, x0[i], eps[i], alpha, beta);
                        double unit = DBL_EPSILON * pair_condition(row, to, alpha, beta, out[i], x[i]);
                        worst_double = fmax(worst_double, fabs(got[i] - want) / unit);
                        CHECK_NEAR(got[i], want, TOL_CONDITION * unit, "%s to %s at log-SNR %d", names[row], names[to], lambda);
                    }
                }
                /* in place */
                double o[N], xx[N];
                memcpy(o, out, sizeof o), memcpy(xx, x, sizeof xx);
                CHECK_OK(rt_prediction_split(row_of(row), N, o, xx, alpha, beta, o, xx, &err));
                assert_memory_equal(o, got_x0, sizeof o);
                assert_memory_equal(xx, got_eps, sizeof xx);
            }
        }
    }
}

enum { OUTPUTS = 4 + ROWS };

typedef struct conversion {
    rt_graph *g;
    rt_node *in[6];         /* out, x, alpha, beta, x0, eps */
    rt_node *want[OUTPUTS]; /* x0, eps, score, output from x0 and eps; the output that each row would give */
    rt_program *program;
} conversion;

static void open_conversion(conversion *c, int row, rt_dtype real)
{
    static const char *const inputs[] = {"out", "x", "alpha", "beta", "x0", "eps"};
    c->g = rt_graph_new(real);
    for (int i = 0; i < 6; i++) c->in[i] = rt_input(c->g, inputs[i], real, 2, (int64_t[]){RT_BATCH, i == 2 || i == 3 ? 1 : N});
    const rt_prediction *p = row_of(row);
    c->want[0] = rt_predict_x0(p, c->in[0], c->in[1], c->in[2], c->in[3]);
    c->want[1] = rt_predict_epsilon(p, c->in[0], c->in[1], c->in[2], c->in[3]);
    c->want[2] = rt_predict_score(p, c->in[0], c->in[1], c->in[2], c->in[3]);
    c->want[3] = rt_predict_from(p, c->in[4], c->in[5], c->in[2], c->in[3]);
    for (int to = 0; to < ROWS; to++) c->want[4 + to] = rt_predict_from(row_of(to), c->want[0], c->want[1], c->in[2], c->in[3]);
    for (int i = 0; i < OUTPUTS; i++) c->want[i] = rt_scale(c->want[i], 1); /* an input may be its own answer */
    CHECK_OK(rt_compile(
        &c->program, c->g,
        &(rt_program_spec){.outputs = c->want, .n_outputs = OUTPUTS, .batch = 1, .backend = rt_backend_find("reference"), .threads = 1},
        &err));
}

static void put(conversion *c, int input, rt_dtype real, const double *values)
{
    void *at = rt_program_data(c->program, c->in[input]);
    int64_t n = at ? rt_program_count(c->program, c->in[input]) : 0;
    for (int64_t i = 0; i < n; i++) {
        if (real == RT_F32)
            ((float *)at)[i] = (float)values[i];
        else
            ((double *)at)[i] = values[i];
    }
}

static double value(const conversion *c, int output, rt_dtype real, int i)
{
    const void *at = rt_program_data(c->program, c->want[output]);
    return real == RT_F32 ? (double)((const float *)at)[i] : ((const double *)at)[i];
}

/* Graphs in float and in double: the same definitions, with the machine epsilon of the type. */
static void conversions_in_graphs(void **state)
{
    (void)state;
    for (int single = 0; single < 2; single++) {
        rt_dtype real = single ? RT_F32 : RT_F64;
        double epsilon = single ? FLT_EPSILON : DBL_EPSILON;
        for (int row = 0; row < ROWS; row++) {
            conversion c;
            open_conversion(&c, row, real);
            for (int lambda = -20; lambda <= 20; lambda++) {
                double x0[N], eps[N], x[N], out[N];
                double alpha = sqrt(1 / (1 + exp(-lambda))), beta = sqrt(1 / (1 + exp(lambda))), kx, ke;
                if (single) alpha = (float)alpha, beta = (float)beta;
                conditions(row, alpha, beta, &kx, &ke);
                fill(x0, eps, (uint64_t)(lambda + 31));
                for (int i = 0; i < N; i++) {
                    if (single) x0[i] = (float)x0[i], eps[i] = (float)eps[i];
                    x[i] = alpha * x0[i] + beta * eps[i];
                    out[i] = (double)output_of(row, x0[i], eps[i], alpha, beta);
                }
                const double *const inputs[] = {out, x, &alpha, &beta, x0, eps};
                for (int i = 0; i < 6; i++) put(&c, i, real, inputs[i]);
                CHECK_OK(rt_run(c.program, &(rt_clock){0}, &err));
                double unit = TOL_CONDITION * epsilon * 3;
                for (int i = 0; i < N; i++) {
                    CHECK_NEAR(value(&c, 0, real, i), x0[i], unit * kx, "graph: x0 from %s at log-SNR %d", names[row], lambda);
                    CHECK_NEAR(value(&c, 1, real, i), eps[i], unit * ke, "graph: eps from %s at log-SNR %d", names[row], lambda);
                    CHECK_NEAR(value(&c, 2, real, i), -eps[i] / beta, unit * (ke + 1) / beta, "graph: score from %s at log-SNR %d",
                               names[row], lambda);
                    CHECK_NEAR(value(&c, 3, real, i), out[i], unit * (row == 3 ? 1 / beta : 2), "graph: %s from x0, eps at log-SNR %d",
                               names[row], lambda);
                    for (int to = 0; to < ROWS; to++) {
                        double want = (double)output_of(to, x0[i], eps[i], alpha, beta);
                        double pair = epsilon * pair_condition(row, to, alpha, beta, out[i], x[i]);
                        worst_graph[single] = fmax(worst_graph[single], fabs(value(&c, 4 + to, real, i) - want) / pair);
                        CHECK_NEAR(value(&c, 4 + to, real, i), want, TOL_CONDITION * pair, "graph: %s to %s at log-SNR %d", names[row],
                                   names[to], lambda);
                    }
                }
            }
            rt_program_free(c.program);
            rt_graph_free(c.g);
        }
    }
    print_message(
        "every pair, in units of rounding times the condition number: %.2f as numbers, %.2f and %.2f as graphs in double and float\n",
        worst_double, worst_graph[0], worst_graph[1]);
}

static void refusals(void **state)
{
    (void)state;
    double one = 1;
    CHECK_REFUSED(rt_prediction_split(row_of(1), 1, &one, &one, 0, 1, &one, NULL, &err), RT_E_INVALID, "epsilon-prediction at alpha 0");
    CHECK_REFUSED(rt_prediction_split(row_of(3), 1, &one, &one, 0, 1, &one, NULL, &err), RT_E_INVALID, "score-prediction at alpha 0");
    for (int row = 0; row < ROWS; row++) {
        CHECK_REFUSED(rt_prediction_split(row_of(row), 1, &one, &one, 1, 0, &one, NULL, &err), RT_E_USAGE, "beta 0");
        CHECK_REFUSED(rt_prediction_check(row_of(row), NAN, NAN, &err), RT_E_USAGE, "beta nan");
        if (row != 1 && row != 3) CHECK_OK(rt_prediction_check(row_of(row), 0, 1, &err));
    }
    CHECK_REFUSED(rt_prediction_join(row_of(3), 1, &one, &one, 1, 0, &one, &err), RT_E_USAGE, "score");
    rt_error err = {0};
    assert_null(rt_prediction_find("epsylon", &err));
    assert_non_null(strstr(err.text, "did you mean 'epsilon'"));
    assert_int_equal(err.status, RT_E_USAGE);
    assert_null(rt_prediction_find(NULL, NULL));
}

static void names_of_diffusers(void **state)
{
    (void)state;
    assert_ptr_equal(rt_prediction_find("sample", NULL), row_of(0));
    assert_ptr_equal(rt_prediction_find("v_prediction", NULL), row_of(2));
    assert_ptr_equal(rt_prediction_find("flow_prediction", NULL), row_of(4));
    assert_string_equal(rt_prediction_diffusers(row_of(1)), "epsilon");
    assert_null(rt_prediction_diffusers(row_of(3)));
    rt_row_text row;
    for (int i = 0; i < ROWS; i++) {
        assert_true(rt_prediction_describe(i, &row));
        assert_string_equal(row.name, names[i]);
        assert_string_equal(rt_prediction_name(row_of(i)), names[i]);
    }
    assert_false(rt_prediction_describe(ROWS, &row));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversions_in_double),
        cmocka_unit_test(conversions_in_graphs),
        cmocka_unit_test(refusals),
        cmocka_unit_test(names_of_diffusers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
