/* views.c -- how alike two pictures are, pixel by pixel. */
#include "base/internal.h"
#include "retort/metrics.h"

#include <math.h>

double rt_psnr(int64_t count, const float *a, const float *b, double range)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return 10 * log10(range * range * (double)count / sum);
}

enum { WINDOW = 11 };

/* Weights of a normal distribution of deviation 1.5, of sum 1. */
static void window_of(int side, double w[WINDOW])
{
    double sum = 0;
    for (int i = 0; i < side; i++) sum += w[i] = exp(-(i - side / 2) * (i - side / 2) / (2 * 1.5 * 1.5));
    for (int i = 0; i < side; i++) w[i] /= sum;
}

/* Of one window, from the means of a, b, aa, bb, ab under its weights. */
static double of_window(const double m[5], double range)
{
    double C1 = 0.01 * range * 0.01 * range, C2 = 0.03 * range * 0.03 * range;
    double aa = m[2] - m[0] * m[0], bb = m[3] - m[1] * m[1], ab = m[4] - m[0] * m[1];
    return (2 * m[0] * m[1] + C1) * (2 * ab + C2) / ((m[0] * m[0] + m[1] * m[1] + C1) * (aa + bb + C2));
}

double rt_ssim(int channels, int height, int width, const float *a, const float *b, double range)
{
    int side = height < width ? height : width;
    side = side >= WINDOW ? WINDOW : side - !(side % 2);
    double w[WINDOW], sum = 0;
    window_of(side, w);
    for (int c = 0; c < channels; c++)
        for (int y = 0; y + side <= height; y++)
            for (int x = 0; x + side <= width; x++) {
                double m[5] = {0};
                for (int j = 0; j < side; j++)
                    for (int i = 0; i < side; i++) {
                        int64_t at = ((int64_t)c * height + y + j) * width + x + i;
                        double p = (double)a[at], q = (double)b[at], v = w[i] * w[j];
                        m[0] += v * p, m[1] += v * q, m[2] += v * p * p, m[3] += v * q * q, m[4] += v * p * q;
                    }
                sum += of_window(m, range);
            }
    return sum / ((double)channels * (height - side + 1) * (width - side + 1));
}
