/* draw_pictures.c -- draw_pictures FOLDER N: coloured pictures for docs/first-hour.md, N of each class in a folder of its own: discs, squares, stripes. They
 * are 40x40, 40x48 or 48x40, as people's pictures are of several sizes. */
#include "retort/base.h"
#include "retort/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static uint64_t state = 1;

static double draw(double low, double high)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * (double)(state >> 11) * 0x1p-53;
}

/* Is the point in the shape of the class? Sides are 1. */
static bool inside(int class, double x, double y, double size)
{
    if (class == 0) return x * x + y * y < size * size;
    if (class == 1) return fabs(x) < size && fabs(y) < size;
    return sin(x / size * 3) > 0;
}

static void picture(int class, int width, int height, uint8_t *pixels)
{
    enum { FINE = 4 }; /* points across a pixel */
    double ground[3], ink[3], cx = draw(-0.1, 0.1), cy = draw(-0.1, 0.1), size = draw(0.2, 0.35), turn = draw(-0.4, 0.4);
    for (int k = 0; k < 3; k++) ground[k] = draw(0, 90), ink[k] = draw(120, 255);
    for (int j = 0; j < height * width; j++) {
        double share = 0;
        for (int i = 0; i < FINE * FINE; i++) {
            double x = (j % width + (i % FINE + 0.5) / FINE - width / 2.0) / 40 - cx,
                   y = (j / width + (i / FINE + 0.5) / FINE - height / 2.0) / 40 - cy;
            share += inside(class, x * cos(turn) - y * sin(turn), x * sin(turn) + y * cos(turn), size);
        }
        for (int k = 0; k < 3; k++) pixels[3 * j + k] = (uint8_t)(ground[k] + (ink[k] - ground[k]) * share / (FINE * FINE));
    }
}

int main(int argc, char **argv)
{
    static const char *const classes[] = {"discs", "squares", "stripes"};
    static uint8_t pixels[48 * 48 * 3];
    char path[4096];
    rt_error err = {0};
    if (argc != 3) return fputs("draw_pictures FOLDER N\n", stderr), 2;
    mkdir(argv[1], 0777);
    for (int k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "%s/%s", argv[1], classes[k]);
        mkdir(path, 0777);
        for (int i = 0; i < atoi(argv[2]); i++) {
            int width = i % 3 == 1 ? 48 : 40, height = i % 3 == 2 ? 48 : 40;
            snprintf(path, sizeof path, "%s/%s/%04d.png", argv[1], classes[k], i);
            picture(k, width, height, pixels);
            if (rt_png_write(path, width, height, 3, pixels, &err) != RT_OK) return fprintf(stderr, "%s\n", err.text), 1;
        }
    }
    return 0;
}
