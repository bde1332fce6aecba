/* resize.c -- pictures of another size: Lanczos resampling, and the middle of a picture.
 *
 * Lanczos with antialiasing, one axis at a time (the usual `LANCZOS` of Python's pictures): value i of n_out out of n_in is
 *
 *     sum_k L((k + 1/2 - c)/f) in_k / sum_k L((k + 1/2 - c)/f),   c = (i + 1/2) n_in/n_out,   f = max(n_in/n_out, 1),
 *     L(x) = sinc(x) sinc(x/3) for |x| < 3, else 0
 *
 * so a picture that shrinks is averaged over all of its pixels. Between the axes values are not rounded. */
#include "format/picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOBES = 3 };

static double sinc(double x) { return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x); }
static double lanczos(double x) { return fabs(x) < LOBES ? sinc(x) * sinc(x / LOBES) : 0; }

/* Weights of the inputs first .. first + count - 1 for output i; w has room for 2 LOBES (n_in/n_out or 1) + 2. */
static int weigh(int n_in, int n_out, int i, double *w, int *first)
{
    double scale = (double)n_in / n_out, f = fmax(scale, 1), c = (i + 0.5) * scale, sum = 0;
    int low = (int)fmax(floor(c - LOBES * f), 0), high = (int)fmin(ceil(c + LOBES * f), n_in);
    for (int k = low; k < high; k++) sum += w[k - low] = lanczos((k + 0.5 - c) / f);
    for (int k = low; k < high; k++) w[k - low] /= sum;
    *first = low;
    return high - low;
}

static uint8_t to_byte(double v) { return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)lrint(v); }

rt_status rt__resample(const uint8_t *from, int width, int height, int channels, uint8_t *to, int to_width, int to_height, rt_error *err)
{
    size_t c = (size_t)channels, row = (size_t)to_width * c, most = (size_t)(width > height ? width : height) + 2 * LOBES + 2;
    double *between = malloc(((size_t)height * row + most) * sizeof *between), *w = between + (size_t)height * row;
    int first, n;
    if (!between) RT_RAISE(RT_E_MEMORY, "out of memory for resizing a picture of %dx%d", width, height);
    for (int x = 0; x < to_width; x++) {
        n = weigh(width, to_width, x, w, &first);
        for (int y = 0; y < height; y++)
            for (size_t k = 0; k < c; k++) {
                const uint8_t *in = from + ((size_t)y * (size_t)width + (size_t)first) * c + k;
                double sum = 0;
                for (int i = 0; i < n; i++) sum += w[i] * in[(size_t)i * c];
                between[(size_t)y * row + (size_t)x * c + k] = sum;
            }
    }
    for (int y = 0; y < to_height; y++) {
        n = weigh(height, to_height, y, w, &first);
        for (size_t k = 0; k < row; k++) {
            double sum = 0;
            for (int i = 0; i < n; i++) sum += w[i] * between[(size_t)(first + i) * row + k];
            to[(size_t)y * row + k] = to_byte(sum);
        }
    }
    free(between);
    return RT_OK;
}

static void replace(rt__picture *p, uint8_t *pixels, int width, int height)
{
    free(p->pixels);
    p->pixels = pixels;
    p->width = width;
    p->height = height;
}

static rt_status resize(rt__picture *p, const char *name, int side, int max_side, rt_error *err)
{
    int least = p->width < p->height ? p->width : p->height;
    int64_t w = (2 * (int64_t)p->width * side + least) / (2 * least), h = (2 * (int64_t)p->height * side + least) / (2 * least);
    if (least == side) return RT_OK;
    if (w > max_side || h > max_side)
        RT_RAISE(RT_E_INVALID, "%s: field 'size' is %dx%d, which --resize %d makes %lldx%lld; sides must be 1 to %d", name, p->width,
                 p->height, side, (long long)w, (long long)h, max_side);
    uint8_t *pixels = malloc((size_t)(w * h) * (size_t)p->channels);
    if (!pixels) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a picture of %lldx%lld", name, (long long)w, (long long)h);
    rt_status status = rt__resample(p->pixels, p->width, p->height, p->channels, pixels, (int)w, (int)h, err);
    if (status != RT_OK) {
        free(pixels);
        return status;
    }
    p->resized = side < least ? -1 : 1;
    replace(p, pixels, (int)w, (int)h);
    return RT_OK;
}

static rt_status crop(rt__picture *p, const char *name, int side, rt_error *err)
{
    size_t c = (size_t)p->channels, row = (size_t)side * c;
    if (p->width == side && p->height == side) return RT_OK;
    if (p->width < side || p->height < side)
        RT_RAISE(RT_E_INVALID, "%s: field 'size' is %dx%d, less than --crop %d; add --resize %d", name, p->width, p->height, side, side);
    uint8_t *pixels = malloc((size_t)side * row);
    if (!pixels) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a picture of %dx%d", name, side, side);
    size_t left = (size_t)(p->width - side) / 2, top = (size_t)(p->height - side) / 2;
    for (size_t y = 0; y < (size_t)side; y++) memcpy(pixels + y * row, p->pixels + ((top + y) * (size_t)p->width + left) * c, row);
    p->cropped = true;
    replace(p, pixels, side, side);
    return RT_OK;
}

rt_status rt__picture_fit(rt__picture *p, const char *name, int side, int middle, int max_side, rt_error *err)
{
    if (side) RT_TRY(resize(p, name, side, max_side, err));
    return middle ? crop(p, name, middle, err) : RT_OK;
}
