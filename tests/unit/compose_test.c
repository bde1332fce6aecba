/* compose_test.c -- compositions against loops over their formulas, in double, and what they promise beyond: stability, means of whole batches. */
#include "evaluate.h"
#include "tolerances.h"

enum { B = RT_BATCH };

static void statistics(void **state)
{
    (void)state;
    enum { N = 3, L = 5, K = 7 };
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, SHAPE(B, L, K));
    double *v = scattered(N * L * K, 1), mean[N * L], var[N * K], lse[N];
    for (int i = 0; i < N * L; i++) {
        mean[i] = 0;
        for (int k = 0; k < K; k++) mean[i] += v[i * K + k] / K;
    }
    for (int n = 0; n < N; n++) {
        for (int k = 0; k < K; k++) {
            double m = 0;
            for (int l = 0; l < L; l++) m += v[(n * L + l) * K + k] / L;
            var[n * K + k] = 0;
            for (int l = 0; l < L; l++) var[n * K + k] += pow(v[(n * L + l) * K + k] - m, 2) / (L - 1);
        }
        lse[n] = 0;
        for (int i = 0; i < L * K; i++) lse[n] += exp(v[n * L * K + i]);
        lse[n] = log(lse[n]);
    }
    assert_values(rt_mean(x, 1u << 2, false), N, GIVEN({x, v}), mean, N * L, TOL_COMPOSED);
    assert_values(rt_var(x, 1u << 1, 1, false), N, GIVEN({x, v}), var, N * K, TOL_COMPOSED);
    assert_values(rt_logsumexp(x, 6, true), N, GIVEN({x, v}), lse, N, TOL_COMPOSED);
    for (int i = 0; i < N; i++) lse[i] += 5000; /* exp would overflow */
    assert_values(rt_logsumexp(rt_offset(x, 5000), 6, false), N, GIVEN({x, v}), lse, N, TOL_COMPOSED);
    free(v);
    rt_graph_free(g);

    /* a mean far above the deviation, in float: the variance is that of the deviations */
    g = rt_graph_new(RT_F32);
    float far[4] = {10001, 10002, 10003, 10004};
    rt_node *f = rt_input(g, "f", RT_F32, SHAPE(4));
    assert_values(rt_var(f, 1, 0, false), 1, GIVEN({f, far}), (double[]){1.25}, 1, TOL_ROUNDING);
    rt_graph_free(g);
}

/* An expectation is the mean over samples of sums over features, whatever the slices: B_global comes from the run. */
static void expectations(void **state)
{
    (void)state;
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *a = rt_input(g, "a", RT_F64, SHAPE(B, 2)), *b = rt_input(g, "b", RT_F64, SHAPE(B, 2)), *c = rt_input(g, "c", RT_F64, SHAPE(2));
    const double va[] = {1, 2, 3, 4, 5, 6}, vb[] = {1, -1, 2, 0, 0, 1}, vc[] = {10, 100};
    const given in[] = {{a, va}, {b, vb}, {c, vc}};
    assert_values(rt_dot(a, b), 3, in, 3, (double[]){-1, 6, 6}, 3, 0);
    assert_values(rt_dot(a, c), 3, in, 3, (double[]){210, 430, 650}, 3, 0);
    assert_values(rt_dot(c, a), 3, in, 3, (double[]){210, 430, 650}, 3, 0);
    assert_values(rt_norm2(a), 3, in, 3, (double[]){5, 25, 61}, 3, 0);
    assert_values(rt_expect(rt_norm2(a)), 3, in, 3, (double[]){91 / 3.0}, 1, TOL_COMPOSED);
    assert_values(rt_expect(a), 3, in, 3, (double[]){7}, 1, TOL_COMPOSED);
    assert_values(rt_expect(c), 3, in, 3, (double[]){55}, 1, TOL_COMPOSED);
    assert_values(rt_expect(rt_dot(b, rt_mul(rt_per_sample(rt_norm2(b), a), a))), 3, in, 3, (double[]){(-2 + 24 + 6) / 3.0}, 1,
                  TOL_COMPOSED);
    rt_node *joined = rt_expect(rt_norm2(rt_concat((rt_node *[]){a, b}, 2, 0)));
    assert_values(joined, 3, in, 3, (double[]){(91 + 2 + 4 + 1) / 6.0}, 1, TOL_COMPOSED);
    double *part = evaluate_at(rt_expect(rt_norm2(a)), 3, 1, (rt_clock){.total = 30}, in, 3);
    assert_true(fabs(part[0] - 91 / 30.0) <= TOL_COMPOSED * part[0]);
    free(part);
    rt_graph_free(g);
}

static void losses(void **state)
{
    (void)state;
    enum { N = 4, D = 6 };
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *a = rt_input(g, "a", RT_F64, SHAPE(B, D)), *b = rt_input(g, "b", RT_F64, SHAPE(B, D)), *i = rt_input(g, "i", RT_I64, SHAPE(B)),
            *d[2];
    double *va = scattered(N * D, 5), *vb = scattered(N * D, 6), mse = 0, huber[N], ce = 0, gce[N * D], gmse[N * D];
    const int64_t index[N] = {5, 0, 3, 3};
    for (int n = 0; n < N; n++) {
        double s = 0, z = 0;
        for (int k = 0; k < D; k++) {
            double diff = va[n * D + k] - vb[n * D + k];
            s += diff * diff;
            z += exp(va[n * D + k]);
            gmse[n * D + k] = 2 * diff / (N * D);
        }
        mse += s / (N * D);
        huber[n] = sqrt(s + 0.09) - 0.3;
        ce -= (va[n * D + index[n]] - log(z)) / N;
        for (int k = 0; k < D; k++) gce[n * D + k] = (exp(va[n * D + k]) / z - (k == index[n])) / N;
    }
    const given in[] = {{a, va}, {b, vb}, {i, index}};
    assert_values(rt_mse(a, b), N, in, 3, &mse, 1, TOL_COMPOSED);
    assert_values(rt_pseudo_huber(a, b, 0.3), N, in, 3, huber, N, TOL_COMPOSED);
    assert_values(rt_cross_entropy(a, i), N, in, 3, &ce, 1, TOL_COMPOSED);
    rt_grad(rt_cross_entropy(a, i), &a, 1, d);
    assert_values(d[0], N, in, 3, gce, N * D, TOL_COMPOSED);
    rt_grad(rt_mse(a, b), (rt_node *[]){a, b}, 2, d);
    assert_values(d[0], N, in, 3, gmse, N * D, TOL_COMPOSED);
    assert_values(rt_neg(d[1]), N, in, 3, gmse, N * D, TOL_COMPOSED);
    /* the same with a number instead of the symbol, and with two batches joined */
    rt_node *fa = rt_reals(g, SHAPE(N, D), va), *fb = rt_reals(g, SHAPE(N, D), vb), *fi = rt_const(g, RT_I64, SHAPE(N), index);
    assert_values(rt_mse(fa, fb), 1, NULL, 0, &mse, 1, TOL_COMPOSED);
    assert_values(rt_cross_entropy(fa, fi), 1, NULL, 0, &ce, 1, TOL_COMPOSED);
    rt_node *aa = rt_concat((rt_node *[]){a, b}, 2, 0), *bb = rt_concat((rt_node *[]){b, a}, 2, 0);
    assert_values(rt_mse(aa, bb), N, in, 3, &mse, 1, TOL_COMPOSED);
    free(va), free(vb);
    rt_graph_free(g);
}

static void linear_layers(void **state)
{
    (void)state;
    enum { N = 2, L = 3, I = 4, O = 5 };
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, SHAPE(B, L, I)), *w = rt_input(g, "w", RT_F64, SHAPE(O, I)),
            *b = rt_input(g, "b", RT_F64, SHAPE(O));
    double *vx = scattered(N * L * I, 1), *vw = scattered(O * I, 2), *vb = scattered(O, 3), y[N * L * O], plain[N * L * O];
    for (int r = 0; r < N * L; r++)
        for (int o = 0; o < O; o++) {
            plain[r * O + o] = 0;
            for (int i = 0; i < I; i++) plain[r * O + o] += vw[o * I + i] * vx[r * I + i];
            y[r * O + o] = plain[r * O + o] + vb[o];
        }
    assert_values(rt_linear(x, w, b), N, GIVEN({x, vx}, {w, vw}, {b, vb}), y, N * L * O, TOL_COMPOSED);
    assert_values(rt_linear(x, w, NULL), N, GIVEN({x, vx}, {w, vw}), plain, N * L * O, TOL_COMPOSED);
    rt_node *one = rt_input(g, "one", RT_F64, SHAPE(I));
    assert_values(rt_linear(one, w, b), 1, GIVEN({one, vx}, {w, vw}, {b, vb}), y, O, TOL_COMPOSED);

    rt_node *table = rt_input(g, "table", RT_F64, SHAPE(O, I)), *index = rt_input(g, "index", RT_I64, SHAPE(B, 2)), *d;
    const int64_t rows[] = {4, 0, 4, 4};
    double want[4 * I], grad[O * I] = {0};
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < I; i++) want[k * I + i] = vw[rows[k] * I + i], grad[rows[k] * I + i] += 1;
    assert_values(rt_embedding(table, index), 2, GIVEN({table, vw}, {index, rows}), want, 4 * I, 0);
    rt_grad(rt_sum(rt_embedding(table, index), RT_ALL_AXES, false), &table, 1, &d);
    assert_values(d, 2, GIVEN({index, rows}), grad, O * I, 0);
    free(vx), free(vw), free(vb);
    rt_graph_free(g);
}

static void attention(void **state)
{
    (void)state;
    enum { N = 2, H = 2, L = 5, M = 5, D = 3, E = 4 };
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *q = rt_input(g, "q", RT_F64, SHAPE(B, H, L, D)), *k = rt_input(g, "k", RT_F64, SHAPE(B, H, M, D)),
            *v = rt_input(g, "v", RT_F64, SHAPE(B, H, M, E));
    double *vq = scattered(N * H * L * D, 1), *vk = scattered(N * H * M * D, 2), *vv = scattered(N * H * M * E, 3), y[N * H * L * E];
    for (int causal = 0; causal < 2; causal++) {
        for (int b = 0; b < N * H; b++)
            for (int l = 0; l < L; l++) {
                double p[M], z = 0;
                for (int m = 0; m < M; m++) {
                    double s = 0;
                    for (int d = 0; d < D; d++) s += vq[(b * L + l) * D + d] * vk[(b * M + m) * D + d];
                    z += p[m] = causal && m > l ? 0 : exp(1.7 * s);
                }
                for (int e = 0; e < E; e++) {
                    y[(b * L + l) * E + e] = 0;
                    for (int m = 0; m < M; m++) y[(b * L + l) * E + e] += p[m] / z * vv[(b * M + m) * E + e];
                }
            }
        assert_values(rt_attention(q, k, v, 1.7, causal), N, GIVEN({q, vq}, {k, vk}, {v, vv}), y, N * H * L * E, TOL_COMPOSED);
    }
    free(vq), free(vk), free(vv);
    rt_graph_free(g);
}

static void norms(void **state)
{
    (void)state;
    enum { N = 3, L = 2, K = 5 };
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, SHAPE(B, L, K)), *w = rt_input(g, "w", RT_F64, SHAPE(K)), *b = rt_input(g, "b", RT_F64, SHAPE(K));
    double *v = scattered(N * L * K, 1), *vw = scattered(K, 2), *vb = scattered(K, 3), layer[N * L * K], both[N * L * K], rms[N * L * K];
    for (int dims = 1; dims <= 2; dims++) {
        int n = dims == 1 ? K : L * K;
        for (int r = 0; r < N * L * K / n; r++) {
            double m = 0, s = 0, q = 0;
            for (int i = 0; i < n; i++) m += v[r * n + i] / n, q += v[r * n + i] * v[r * n + i] / n;
            for (int i = 0; i < n; i++) s += pow(v[r * n + i] - m, 2) / n;
            for (int i = 0; i < n; i++) {
                double y = (v[r * n + i] - m) / sqrt(s + 0.01);
                if (dims == 1) {
                    layer[r * n + i] = y * vw[i] + vb[i];
                    rms[r * n + i] = v[r * n + i] / sqrt(q + 0.02) * vw[i];
                } else {
                    both[r * n + i] = y;
                }
            }
        }
    }
    const given in[] = {{x, v}, {w, vw}, {b, vb}};
    assert_values(rt_layer_norm(x, w, b, 1, 0.01), N, in, 3, layer, N * L * K, TOL_COMPOSED);
    assert_values(rt_layer_norm(x, NULL, NULL, 2, 0.01), N, in, 3, both, N * L * K, TOL_COMPOSED);
    assert_values(rt_rms_norm(x, w, 0.02), N, in, 3, rms, N * L * K, TOL_COMPOSED);
    free(v), free(vw), free(vb);
    rt_graph_free(g);
}

static void geglu(void **state)
{
    (void)state;
    enum { N = 3, K = 4 };
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, SHAPE(B, 2 * K));
    double *v = scattered(N * 2 * K, 1), y[N * K];
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k++) {
            double u = v[n * 2 * K + K + k];
            y[n * K + k] = v[n * 2 * K + k] * u * 0.5 * erfc(-u / sqrt(2));
        }
    assert_values(rt_geglu(x), N, GIVEN({x, v}), y, N * K, TOL_COMPOSED);
    free(v);
    rt_graph_free(g);
}

/* Linear functions of the pixel's position stay linear, away from the border; at the corners the picture's own values appear. */
static void bilinear(void **state)
{
    (void)state;
    enum { H = 4, W = 5, S = 3 };
    rt_graph *g = rt_graph_new(RT_F64);
    double v[H * W], y[H * S * W * S];
    for (int i = 0; i < H * W; i++) v[i] = 2.0 * (i / W) - 0.5 * (i % W) + 7;
    rt_node *x = rt_reals(g, SHAPE(1, 1, H, W), v);
    for (int corners = 0; corners < 2; corners++) {
        for (int i = 0; i < H * S * W * S; i++) {
            int r = i / (W * S), c = i % (W * S);
            double h = corners ? r * (H - 1) / (H * S - 1.0) : fmin(fmax((r + 0.5) / S - 0.5, 0), H - 1);
            double w = corners ? c * (W - 1) / (W * S - 1.0) : fmin(fmax((c + 0.5) / S - 0.5, 0), W - 1);
            y[i] = 2.0 * h - 0.5 * w + 7;
        }
        assert_values(rt_upsample_bilinear(x, S, corners), 1, NULL, 0, y, H * S * W * S, TOL_COMPOSED);
    }
    rt_node *dot = rt_reals(g, SHAPE(1, 1, 1, 1), (double[]){3});
    assert_values(rt_upsample_bilinear(dot, 2, true), 1, NULL, 0, (double[]){3, 3, 3, 3}, 4, 0);
    rt_graph_free(g);
}

static void padding(void **state)
{
    (void)state;
    enum { N = 2, H = 3, W = 4, L = 2, R = 3, T = 1, D = 2, PH = H + T + D, PW = W + L + R };
    rt_graph *g = rt_graph_new(RT_F64);
    rt_node *x = rt_input(g, "x", RT_F64, SHAPE(B, 1, H, W)), *d;
    double *v = scattered(N * H * W, 1), y[N * PH * PW], grad[N * H * W];
    for (int mode = 0; mode < 3; mode++) {
        memset(grad, 0, sizeof grad);
        for (int i = 0; i < N * PH * PW; i++) {
            int n = i / (PH * PW), r = i / PW % PH - T, c = i % PW - L;
            bool inside = r >= 0 && r < H && c >= 0 && c < W;
            if (mode == RT_PAD_REFLECT) {
                r = r < 0 ? -r : r >= H ? 2 * H - 2 - r : r;
                c = c < 0 ? -c : c >= W ? 2 * W - 2 - c : c;
            } else {
                r = r < 0 ? 0 : r >= H ? H - 1 : r;
                c = c < 0 ? 0 : c >= W ? W - 1 : c;
            }
            bool zero = mode == RT_PAD_ZERO && !inside;
            y[i] = zero ? 0 : v[(n * H + r) * W + c];
            if (!zero) grad[(n * H + r) * W + c] += 1;
        }
        rt_node *p = rt_pad2d(x, (int[]){L, R, T, D}, (rt_pad_mode)mode);
        assert_values(p, N, GIVEN({x, v}), y, N * PH * PW, 0);
        rt_grad(rt_sum(p, RT_ALL_AXES, false), &x, 1, &d);
        assert_values(d, N, NULL, 0, grad, N * H * W, 0);
    }
    free(v);
    rt_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics),    cmocka_unit_test(expectations), cmocka_unit_test(losses),
        cmocka_unit_test(linear_layers), cmocka_unit_test(attention),    cmocka_unit_test(norms),
        cmocka_unit_test(geglu),         cmocka_unit_test(bilinear),     cmocka_unit_test(padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
