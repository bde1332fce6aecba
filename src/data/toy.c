/* toy.c -- 2-D sets that are drawn: point i is a function of i alone. Each has mean 0 and extends over about [-2, 2]. */
#include "data/reader.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846

enum { POINTS = 100000, MOST = 100000000 };

/* What a point is made of: four uniform numbers in (0,1) and two normal ones. */
typedef struct dice {
    double u[4], g[2];
} dice;

typedef struct toy {
    rt_row_text row;
    int classes;                              /* 0: none */
    int (*point)(const dice *d, double x[2]); /* gives the label */
} toy;

static int choice(double u, int k) { return (int)(u * k); }

/* Two half circles of radius 1, one turned and moved by (1, 1/2); noise 0.1; centred, times 4/3. */
static int moons(const dice *d, double x[2])
{
    int k = choice(d->u[0], 2), sign = k ? -1 : 1;
    double a = PI * d->u[1];
    x[0] = 4. / 3 * (k + sign * cos(a) + 0.1 * d->g[0] - 0.5);
    x[1] = 4. / 3 * (k * 0.5 + sign * sin(a) + 0.1 * d->g[1] - 0.25);
    return k;
}

/* (t cos t, t sin t), t uniform on 1.5 pi .. 4.5 pi, noise 1, over 7; centred by the means of the two functions: 2/(3 pi) and 0. */
static int swiss_roll(const dice *d, double x[2])
{
    double t = 1.5 * PI * (1 + 2 * d->u[0]);
    x[0] = (t * cos(t) + d->g[0] - 2) / 7;
    x[1] = (t * sin(t) + d->g[1] - 2 / (3 * PI)) / 7;
    return 0;
}

/* The black half of a board of 4 x 4 squares of side 1; the label is the square, row by row. */
static int checkerboard(const dice *d, double x[2])
{
    int square = choice(d->u[0], 8), row = square / 2, column = 2 * (square % 2) + row % 2;
    x[0] = column - 2 + d->u[1];
    x[1] = row - 2 + d->u[2];
    return square;
}

/* Circles of radius 1/2, 1, 3/2, 2; noise 0.05. */
static int rings(const dice *d, double x[2])
{
    int k = choice(d->u[0], 4);
    double a = 2 * PI * d->u[1], r = 0.5 * (k + 1);
    x[0] = r * cos(a) + 0.05 * d->g[0];
    x[1] = r * sin(a) + 0.05 * d->g[1];
    return k;
}

/* Five arms: normal points, deviation 0.3 along and 0.05 across, moved out to radius 1, turned by their arm and by exp(radius) / 4. */
static int pinwheel(const dice *d, double x[2])
{
    int k = choice(d->u[0], 5);
    double r = 1 + 0.3 * d->g[0], s = 0.05 * d->g[1], a = 2 * PI * k / 5 + 0.25 * exp(r);
    x[0] = 1.25 * (r * cos(a) - s * sin(a));
    x[1] = 1.25 * (r * sin(a) + s * cos(a));
    return k;
}

/* Eight normal clouds, deviation 0.2, on a circle of radius 2. */
static int gaussians(const dice *d, double x[2])
{
    int k = choice(d->u[0], 8);
    x[0] = 2 * cos(2 * PI * k / 8) + 0.2 * d->g[0];
    x[1] = 2 * sin(2 * PI * k / 8) + 0.2 * d->g[1];
    return k;
}

static const toy toys[] = {
    {{"toy:moons", "Pedregosa et al. 2011", "two interleaved half circles, 2 classes"}, 2, moons},
    {{"toy:swiss-roll", "Sohl-Dickstein et al. 2015", "a spiral, no classes"}, 0, swiss_roll},
    {{"toy:checkerboard", "Grathwohl et al. 2019", "the black squares of a 4x4 board, 8 classes"}, 8, checkerboard},
    {{"toy:rings", "Grathwohl et al. 2019", "four concentric circles, 4 classes"}, 4, rings},
    {{"toy:pinwheel", "Johnson et al. 2016", "five bent arms, 5 classes"}, 5, pinwheel},
    {{"toy:gaussians-8", "Grathwohl et al. 2019", "eight clouds on a circle, 8 classes"}, 8, gaussians},
};

bool rt__toy_row(int i, rt_row_text *row)
{
    if (i < 0 || (size_t)i >= RT_COUNT(toys)) return false;
    *row = toys[i].row;
    return true;
}

static bool claims(const char *data) { return strncmp(data, "toy:", 4) == 0; }

static const toy *find_toy(const char *data, rt_error *err)
{
    const char *names[RT_COUNT(toys)];
    char word[64];
    snprintf(word, sizeof word, "toy:%.*s", (int)strcspn(data + 4, ":"), data + 4);
    for (size_t i = 0; i < RT_COUNT(toys); i++) {
        names[i] = toys[i].row.name;
        if (strcmp(word, names[i]) == 0) return &toys[i];
    }
    const char *guess = rt_closest(word, names, RT_COUNT(names));
    rt_error_set(err, RT_E_USAGE, "%s: no such set%s%s; `retort list datasets` prints them", data, guess ? "; did you mean " : "",
                 guess ? guess : "");
    return NULL;
}

static rt_status read_toy(rt_dataset *ds, const char *data, rt_error *err)
{
    const toy *t = find_toy(data, err);
    if (!t) return RT_E_USAGE;
    int64_t n = POINTS;
    const char *number = strchr(data + 4, ':');
    if (number) {
        char *end;
        errno = 0;
        n = strtoll(number + 1, &end, 10);
        if (errno || *end || end == number + 1 || n < 1 || n > MOST)
            RT_RAISE(RT_E_USAGE, "%s: the number of points is '%s'; must be 1 to %d", data, number + 1, MOST);
    }
    ds->info = (rt_dataset_info){.kind = t->row.name, .count = n, .rank = 1, .shape = {2}, .classes = t->classes};
    float *x = ds->items->reals = malloc((size_t)n * 2 * sizeof *x);
    int64_t *y = ds->items->labels = t->classes ? malloc((size_t)n * sizeof *y) : NULL;
    if (!x || (t->classes && !y)) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %lld points", data, (long long)n);
    rt__draw draw = {.name = rt__draw_name(t->row.name)};
    for (int64_t i = 0; i < n; i++) {
        dice d;
        uint32_t w[4];
        double g[4], point[2];
        rt__draw_words(&draw, (uint32_t)i, 0, w);
        rt__draw_normal(&draw, (uint32_t)i, 1, g);
        for (int j = 0; j < 4; j++) d.u[j] = rt__unit(w[j]);
        d.g[0] = g[0];
        d.g[1] = g[1];
        int label = t->point(&d, point);
        x[2 * i] = (float)point[0];
        x[2 * i + 1] = (float)point[1];
        if (y) y[i] = label;
    }
    return RT_OK;
}

const rt__reader rt__reader_toy = {.claims = claims, .read = read_toy}; /* its rows are those of the sets */
