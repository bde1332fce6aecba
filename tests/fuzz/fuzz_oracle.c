/* fuzz_oracle.c -- an oracle's file: whatever the bytes, an oracle whose answers are numbers, or an error. */
#include "fuzz_file.h"

#include "retort/diffusion.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 64 };
    rt_oracle *o;
    rt_error err = {0};
    double x[MOST], mean[MOST], score[MOST];
    if (rt_oracle_open(&o, fuzz_file(data, size), &err) != RT_OK) return 0;
    int64_t d = rt_oracle_features(o);
    if (d <= MOST && rt_oracle_draw(o, 1, 0, 1, x, &err) == RT_OK && rt_oracle_posterior_mean(o, 0.8, 0.6, 1, x, mean, &err) == RT_OK &&
        rt_oracle_score(o, 0.8, 0.6, 1, x, score, &err) == RT_OK) {
        double most = 0;
        for (int64_t i = 0; i < d; i++) most = fmax(most, fabs(x[i]));
        for (int64_t i = 0; i < d && most < 1e100; i++) /* squares of larger numbers are infinite */
            if (!isfinite(mean[i]) || !isfinite(score[i])) abort();
    }
    rt_oracle_free(o);
    return 0;
}
