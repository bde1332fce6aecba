/* atlas.c -- a square of 5x5 texels holds two triangles, whose corners a, b, c lie in the middle of texels:
 *
 *     a . c + +
 *     . . + + -       +, -: the planes of the first and of the second triangle beyond their long sides, which bilinear filtering reads.
 *     b + + - b       Every texel is the volume's colour at its own point of the plane, so the texture shows more than colours of
 *     + + - . .       vertices would.
 *     + - c . a
 */
#include "mesh/atlas.h"

#include "retort/format.h"

#include <math.h>
#include <stdlib.h>

enum { SIDE = 5, LEG = SIDE / 2, LARGEST = 16384 }; /* LARGEST: what viewers take */

void rt__atlas_corners(const rt__atlas *a, int64_t triangle, float uv[3][2])
{
    int64_t square = triangle / 2;
    double left = (double)(square % a->columns) * SIDE, top = (double)(square / a->columns) * SIDE;
    bool second = triangle % 2;
    static const int corners[3][2] = {{0, 0}, {0, LEG}, {LEG, 0}};
    for (int i = 0; i < 3; i++) {
        double x = corners[i][0], y = corners[i][1];
        uv[i][0] = (float)((left + (second ? SIDE - 1 - x : x) + 0.5) / a->width);
        uv[i][1] = (float)((top + (second ? SIDE - 1 - y : y) + 0.5) / a->height);
    }
}

/* Texel (x, y) of the triangle's half of its square, seen from that half's corner. */
static void colour_at(const rt_mesh *m, const rt_volume *v, int64_t triangle, int x, int y, uint8_t rgb[3])
{
    const int32_t *corner = m->triangles[triangle];
    double p[3], colour[3], b = (double)y / LEG, c = (double)x / LEG;
    for (int k = 0; k < 3; k++)
        p[k] = (1 - b - c) * (double)m->positions[corner[0]][k] + b * (double)m->positions[corner[1]][k] +
               c * (double)m->positions[corner[2]][k];
    rt_volume_colour(v, p, colour);
    for (int k = 0; k < 3; k++) rgb[k] = (uint8_t)lrint(255 * colour[k]);
}

rt_status rt__atlas_make(rt__atlas *a, const rt_mesh *m, const rt_volume *v, rt_error *err)
{
    int64_t squares = (m->n_triangles + 1) / 2, columns = (int64_t)ceil(sqrt((double)squares)), rows = (squares + columns - 1) / columns;
    *a = (rt__atlas){0};
    if (columns * SIDE > LARGEST)
        RT_RAISE(RT_E_INVALID, "a surface of %lld triangles needs a texture wider than %d pixels; take fewer nodes or --components 1",
                 (long long)m->n_triangles, LARGEST);
    a->columns = (int)columns;
    a->width = (int)columns * SIDE;
    a->height = (int)rows * SIDE;
    uint8_t *pixels = calloc((size_t)a->width * (size_t)a->height, 3);
    if (!pixels) RT_RAISE(RT_E_MEMORY, "out of memory for a texture of %d x %d", a->width, a->height);
    for (int64_t t = 0; t < m->n_triangles; t++) {
        int64_t left = t / 2 % columns * SIDE, top = t / 2 / columns * SIDE;
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x + y < SIDE - t % 2; x++) {
                int64_t i = left + (t % 2 ? SIDE - 1 - x : x), j = top + (t % 2 ? SIDE - 1 - y : y);
                colour_at(m, v, t, x, y, pixels + 3 * (j * a->width + i));
            }
    }
    rt_status status = rt_png_encode(a->width, a->height, 3, pixels, &a->png, &a->size, err);
    free(pixels);
    return status;
}

void rt__atlas_free(rt__atlas *a)
{
    free(a->png);
    *a = (rt__atlas){0};
}
