/* points_picture.c -- points in the plane as a picture: panels side by side on one scale, that of the first.
 *
 *     title       title
 *     . :  .      .  : .
 */
#include "base/internal.h"
#include "format/font.h"
#include "retort/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 256, PAD = 8, HEAD = RT_FONT_HEIGHT + 6, DOT = 3, INK = 60, GROUND = 244, COLOURS = 8 };

static const uint8_t colours[COLOURS][3] = {{31, 119, 180}, {214, 39, 40},  {44, 160, 44},   {148, 103, 189},
                                            {255, 127, 14}, {23, 160, 170}, {227, 119, 194}, {140, 86, 75}};

typedef struct canvas {
    uint8_t *pixels;
    int width, height;
} canvas;

static void put(const canvas *c, int x, int y, const uint8_t value[3])
{
    memcpy(c->pixels + 3 * ((size_t)y * (size_t)c->width + (size_t)x), value, 3);
}

/* The square that holds the points, with a margin of a tenth. */
static void frame(const rt_point_panel *p, double middle[2], double *half)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int64_t i = 0; i < 2 * p->n; i++)
        if (isfinite(p->x[i])) {
            low[i % 2] = fmin(low[i % 2], (double)p->x[i]);
            high[i % 2] = fmax(high[i % 2], (double)p->x[i]);
        }
    *half = 0;
    for (int k = 0; k < 2; k++) {
        middle[k] = low[k] <= high[k] ? (low[k] + high[k]) / 2 : 0;
        if (low[k] < high[k]) *half = fmax(*half, 1.1 * (high[k] - low[k]) / 2);
    }
    if (*half == 0) *half = 1;
}

/* Pixel of a coordinate in the panel; beyond its edge: on it. */
static int place(double v, double middle, double half)
{
    double u = (v - middle) / half;
    return DOT / 2 + (int)lrint((fmin(fmax(u, -1), 1) + 1) / 2 * (SIDE - DOT));
}

static void draw(const canvas *c, int left, const rt_point_panel *p, const double middle[2], double half)
{
    const uint8_t ink[3] = {INK, INK, INK}, ground[3] = {GROUND, GROUND, GROUND};
    int top = PAD + HEAD;
    for (int i = 0; p->title[i]; i++)
        for (int y = 0; y < RT_FONT_HEIGHT; y++)
            for (int x = 0; x < RT_FONT_ADVANCE; x++)
                if ((i + 1) * RT_FONT_ADVANCE <= SIDE && rt__font_ink(p->title[i], x, y))
                    put(c, left + i * RT_FONT_ADVANCE + x, PAD + y, ink);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) put(c, left + x, top + y, ground);
    for (int64_t i = 0; i < p->n; i++) {
        if (!isfinite(p->x[2 * i]) || !isfinite(p->x[2 * i + 1])) continue;
        int x = place((double)p->x[2 * i], middle[0], half), y = SIDE - 1 - place((double)p->x[2 * i + 1], middle[1], half);
        for (int k = 0; k < DOT * DOT; k++)
            put(c, left + x - DOT / 2 + k % DOT, top + y - DOT / 2 + k / DOT, colours[p->y ? p->y[i] % COLOURS : 0]);
    }
}

rt_status rt_png_points(const char *path, const rt_point_panel *panels, int n, rt_error *err)
{
    canvas c = {.width = PAD + n * (SIDE + PAD), .height = PAD + HEAD + SIDE + PAD};
    double middle[2], half;
    size_t size = 3 * (size_t)c.width * (size_t)c.height;
    c.pixels = malloc(size);
    if (!c.pixels) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a picture of %dx%d", path, c.width, c.height);
    memset(c.pixels, 255, size);
    frame(&panels[0], middle, &half);
    for (int i = 0; i < n; i++) draw(&c, PAD + i * (SIDE + PAD), &panels[i], middle, half);
    rt_status status = rt_png_write(path, c.width, c.height, 3, c.pixels, err);
    free(c.pixels);
    return status;
}
