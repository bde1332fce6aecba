/* ask_model MODEL: what a denoiser makes of pure noise, time by time: the length of x0 as it sees it, beside that of the noise. */
#include <retort.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 16, TIMES = 5 };

static double rms(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)n);
}

/* A number of about unit variance: a sum of twelve even ones. */
static float noise(void)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += rand() / (RAND_MAX + 1.0);
    return (float)sum;
}

int main(int argc, char **argv)
{
    retort_error err;
    retort_model *model = NULL;
    retort_model_info info = {.size = sizeof info};
    if (argc != 2) return fprintf(stderr, "usage: ask_model MODEL\n"), 2;
    if (retort_model_open(&model, argv[1], NULL, &err) != RETORT_OK) return fprintf(stderr, "ask_model: %s\n", err.text), (int)err.status;
    retort_model_describe(model, &info, NULL);

    float *x = malloc(N * (size_t)info.features * sizeof *x), *x0 = malloc(N * (size_t)info.features * sizeof *x0);
    int64_t labels[N];
    double t[N], last = info.timesteps ? (double)info.timesteps - 1 : 1;
    if (!x || !x0) return 4;
    for (int64_t i = 0; i < N * info.features; i++) x[i] = noise();
    for (int j = 0; j < N; j++) labels[j] = info.classes ? j % info.classes : 0;
    printf("%s predicts %s\n     t  rms x  rms x0\n", info.path, info.prediction);
    for (int k = 0; k < TIMES; k++) {
        for (int j = 0; j < N; j++) t[j] = last * (TIMES - k) / TIMES;
        if (retort_predict(model, "x0", N, x, t, info.classes ? labels : NULL, x0, &err) != RETORT_OK)
            return fprintf(stderr, "ask_model: %s\n", err.text), (int)err.status;
        printf("%6g  %.3f  %.3f\n", t[0], rms(x, N * info.features), rms(x0, N * info.features));
    }
    free(x);
    free(x0);
    retort_model_free(model);
    return 0;
}
