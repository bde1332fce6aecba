/* shape_scene.c -- shape_scene FOLDER KIND: scenes of which it is known what is where.
 *
 *     figure    a grey ball with a red one in front (+x), a green one at its left (+y), a blue one on top (+z), all within 0.9 of the middle; alpha
 *     two       that, and below it a second particle, the grey ball alone; on white
 *     empty     nothing that is more opaque than 1/(1 + e^6)
 *     image     a picture of 4x6: red above, blue below */
#include "retort/scene.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct ball {
    double at[3], radius, colour[3];
} ball;
static const ball balls[] = {{{0, 0, 0}, 0.5, {0.5, 0.5, 0.5}},
                             {{0.6, 0, 0}, 0.3, {0.9, 0.1, 0.1}},
                             {{0, 0.6, 0}, 0.3, {0.1, 0.9, 0.1}},
                             {{0, 0, 0.6}, 0.3, {0.1, 0.1, 0.9}}};

/* A node: how far inside the first n balls, and the colour of the nearest. */
static void fill_node(const double p[3], int n, float out[4])
{
    double most = -9;
    for (int i = 0; i < n; i++) {
        const ball *b = &balls[i];
        double inside = b->radius - sqrt(pow(p[0] - b->at[0], 2) + pow(p[1] - b->at[1], 2) + pow(p[2] - b->at[2], 2));
        if (inside <= most) continue;
        most = inside;
        for (int k = 0; k < 3; k++) out[1 + k] = (float)log(b->colour[k] / (1 - b->colour[k]));
    }
    out[0] = (float)(1 + 20 * fmin(fmax(most, -0.4), 0.4)); /* with the bias of -1: opacity 1/2 on the surface */
}

static void fill_volume(const rt_scene_spec *s, float *values, bool empty)
{
    for (int p = 0; p < s->particles; p++)
        for (int z = 0; z < s->nodes[0]; z++)
            for (int y = 0; y < s->nodes[1]; y++)
                for (int x = 0; x < s->nodes[2]; x++, values += 4) {
                    double at[3] = {2.0 * x / (s->nodes[2] - 1) - 1, 2.0 * y / (s->nodes[1] - 1) - 1, 2.0 * z / (s->nodes[0] - 1) - 1};
                    fill_node(at, p ? 1 : 4, values);
                    if (empty) values[0] = fminf(values[0] - 12, -5);
                }
}

static void fill_image(const rt_scene_spec *s, float *values)
{
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < s->height; y++)
            for (int x = 0; x < s->width; x++) *values++ = (c == 0 && y < s->height / 2) || (c == 2 && y >= s->height / 2) ? 1 : -1;
}

int main(int argc, char **argv)
{
    rt_error err = {0};
    const char *kind = argc == 3 ? argv[2] : "";
    rt_scene_spec s = rt_scene_defaults(strcmp(kind, "image") ? RT_SCENE_GRID : RT_SCENE_IMAGE);
    s.nodes[0] = s.nodes[1] = s.nodes[2] = 16;
    s.background = strcmp(kind, "two") ? RT_ALPHA : RT_WHITE;
    s.particles = strcmp(kind, "two") ? 1 : 2;
    if (s.kind == RT_SCENE_IMAGE) s.height = 4, s.width = 6;
    rt_params *set = rt_params_new("scene", RT_F32);
    rt_status status = set ? rt_scene_declare(&s, set, &err) : RT_E_MEMORY;
    float *values = status == RT_OK ? rt_params_data(set, RT_VALUE) : NULL;
    if (values && s.kind == RT_SCENE_GRID) fill_volume(&s, values, !strcmp(kind, "empty"));
    if (values && s.kind == RT_SCENE_IMAGE) fill_image(&s, values);
    if (values) status = rt_scene_write(argv[1], &s, set, RT_VALUE, NULL, &err);
    rt_params_free(set);
    if (!values || status != RT_OK) fprintf(stderr, "shape_scene: %s\n", *err.text ? err.text : "no memory");
    return values && status == RT_OK ? 0 : 1;
}
