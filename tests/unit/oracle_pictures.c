/* oracle_pictures.c -- Fashion-MNIST as an oracle: 60,000 pictures in ten classes. */
#include "diffusion_check.h"

#include "retort/data.h"
#include "retort/model.h"

#include <unistd.h>

enum { N = 60000, D = 784, ROWS = 66, ITEM = 12345 };

static char path[600];

/* A normal number of sorts: the sum of twelve uniform ones. */
static double noise(uint64_t *seed)
{
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += wobble(seed) / 2;
    return sum;
}

/* Noised pictures are recognised where there is little noise; where there is more, the sums are those of the definition; and those of the classes add up. */
static void fashion_mnist(void **state)
{
    (void)state;
    char file[] = "oracle_pictures_XXXXXX";
    int fd = mkstemp(file);
    assert_true(fd >= 0);
    dprintf(fd, "{\"kind\": \"data\", \"data\": \"%s\", \"prediction\": \"x0\", \"process\": {\"name\": \"flow\"}}", path);
    close(fd);
    rt_oracle *o = NULL;
    CHECK_OK(rt_oracle_open_with(&o, file, &(rt_oracle_options){.read = rt_oracle_read_data}, &err));
    unlink(file);
    rt_dataset *set = NULL;
    CHECK_OK(rt_dataset_open(&set, path, &err));
    int64_t shape[3], y;
    double low, high, *x = malloc(sizeof(double) * ROWS * D), *mean = malloc(sizeof(double) * ROWS * D), log_p[ROWS];
    float *data = malloc(sizeof(float) * N * D);
    assert_int_equal(rt_oracle_shape(o, shape, &low, &high), 3);
    assert_int_equal(shape[2], 28);
    assert_int_equal(rt_oracle_classes(o), 10);
    for (int64_t i = 0; i < N; i++) rt_dataset_read(set, i, data + i * D, &y);
    static const double betas[] = {1e-4, 0.3, 0.999};
    uint64_t seed = 19;
    for (int b = 0; b < 3; b++) {
        double beta = betas[b], alpha = sqrt(1 - beta * beta);
        for (int i = 0; i < ROWS * D; i++) x[i] = alpha * (double)data[ITEM * D + i] + beta * noise(&seed);
        CHECK_OK(rt_oracle_posterior_mean(o, alpha, beta, ROWS, x, mean, &err));
        CHECK_OK(rt_oracle_log_density(o, alpha, beta, ROWS, x, log_p, &err));
        for (int i = 0; b == 0 && i < ROWS * D; i++) CHECK_NEAR(mean[i], (double)data[ITEM * D + i], 1e-15, "picture %d", ITEM + i / D);
        if (b == 0) continue;

        const double *last = x + 65 * D;
        long double *l = malloc(sizeof(long double) * N), top = -INFINITY, sum = 0, m[D] = {0};
        for (int64_t j = 0; j < N; j++) {
            l[j] = 0;
            for (int k = 0; k < D; k++) {
                long double e = last[k] - (long double)alpha * data[j * D + k];
                l[j] -= e * e / (2 * (long double)beta * beta);
            }
            top = fmaxl(top, l[j]);
        }
        for (int64_t j = 0; j < N; j++) {
            sum += l[j] = expl(l[j] - top);
            for (int k = 0; l[j] > 0 && k < D; k++) m[k] += l[j] * data[j * D + k];
        }
        for (int k = 0; k < D; k++) CHECK_NEAR(mean[65 * D + k], (double)(m[k] / sum), 1e-12, "beta %g, number %d", beta, k);
        double want = (double)(top + logl(sum / N)) - D / 2.0 * log(2 * M_PI * beta * beta);
        CHECK_NEAR(log_p[65], want, 1e-12 * fabs(want), "log density, beta %g", beta);
        free(l);

        double p = 0, total[D] = {0}, of[D], here; /* sum_c P(c | x) E[x0 | x, c] */
        for (int c = 0; c < 10; c++) {
            const rt_oracle *g = rt_oracle_given(o, c);
            CHECK_NEAR(rt_oracle_share(g), 0.1, 1e-13, "P(%d)", c);
            CHECK_OK(rt_oracle_log_density(g, alpha, beta, 1, last, &here, &err));
            CHECK_OK(rt_oracle_posterior_mean(g, alpha, beta, 1, last, of, &err));
            p += 0.1 * exp(here - log_p[65]);
            for (int k = 0; k < D; k++) total[k] += 0.1 * exp(here - log_p[65]) * of[k];
        }
        CHECK_NEAR(p, 1, 1e-11, "classes");
        for (int k = 0; k < D; k++) CHECK_NEAR(total[k], mean[65 * D + k], 1e-11, "classes, number %d", k);
    }
    rt_oracle_free(o);
    rt_dataset_free(set);
    free(x), free(mean), free(data);
}

int main(void)
{
    const char *given = getenv("RETORT_DATA"), *shared = getenv("RETORT_SHARED");
    char folder[600];
    snprintf(folder, sizeof folder, "%s%s/fashion-mnist", given ? given : shared ? shared : "../shared", given ? "" : "/data");
    char *full = realpath(folder, NULL);
    if (!full) {
        printf("SKIP: %s is missing (../shared)\n", folder);
        return 77;
    }
    snprintf(path, sizeof path, "%s", full);
    free(full);
    const struct CMUnitTest tests[] = {cmocka_unit_test(fashion_mnist)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
