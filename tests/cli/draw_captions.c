/* draw_captions.c -- draw_captions FOLDER: FOLDER/data, twelve pictures of 8x8 with alpha, a red, green or blue box or bar on the left or right of a clear ground, with captions and cameras; and inputs of
 * `predict` for a network of prompts of six words: tokens-NAME.safetensors. */
#include "retort/base.h"
#include "retort/format.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { SIDE = 8, COUNT = 12, LENGTH = 6, ROWS = 2, FEATURES = 4 * SIDE * SIDE };

static void picture(int i, uint8_t *rgba)
{
    memset(rgba, 0, 4 * SIDE * SIDE);
    for (int j = 0; j < SIDE * SIDE; j++) {
        int r = j / SIDE, c = j % SIDE;
        bool bar = i / 6, right = i / 3 % 2;
        if ((c < SIDE / 2) == right || (!bar && (r < 2 || r >= 6))) continue;
        for (int k = 0; k < 4; k++) rgba[4 * j + k] = k == 3 || k == i % 3 ? 255 : 40;
    }
}

static void write_lists(FILE *f)
{
    static const char *const colours[] = {"red", "green", "blue"}, *const kinds[] = {"box", "bar"}, *const sides[] = {"left", "right"};
    fputs("{\"classes\": [\"box\", \"bar\"]", f);
    for (int list = 0; list < 3; list++) {
        fprintf(f, ", \"%s\": [", list == 0 ? "labels" : list == 1 ? "captions" : "camera");
        for (int i = 0; i < COUNT; i++) {
            int side = i / 3 % 2;
            fprintf(f, "%s[\"%02d.png\", ", i ? ", " : "", i);
            if (list == 1)
                fprintf(f, "\"a %s %s, %s view\"]", colours[i % 3], kinds[i / 6], sides[side]);
            else
                fprintf(f, "%d]", list == 0 ? i / 6 : side);
        }
        fputs("]", f);
    }
    fputs("}\n", f);
}

static rt_status write_inputs(const char *folder, rt_error *err)
{
    static const struct {
        const char *file, *name;
        int64_t tokens[LENGTH];
        int rank;
    } cases[] = {{"a", "y", {1, 2, 3, 4, 5, 0}, 2},
                 {"named", "class_labels", {1, 2, 3, 4, 5, 0}, 2},
                 {"turned", "y", {5, 4, 0, 3, 2, 1}, 2},
                 {"none", "y", {0}, 2},
                 {"past", "y", {12}, 2},
                 {"labels", "y", {1, 2}, 1}};
    float x[ROWS * FEATURES], t[ROWS] = {100, 700};
    for (int i = 0; i < ROWS * FEATURES; i++) x[i] = (float)(i * 37 % 64) / 32 - 1;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char path[4200];
        int64_t y[ROWS * LENGTH] = {0}, of_x[] = {ROWS, 4, SIDE, SIDE}, of_y[] = {ROWS, LENGTH}, of_t[] = {ROWS};
        memcpy(y, cases[k].tokens, sizeof cases[k].tokens);
        snprintf(path, sizeof path, "%s/tokens-%s.safetensors", folder, cases[k].file);
        rt_named_tensor parts[] = {{"x", RT_F32, 4, of_x, x}, {"t", RT_F32, 1, of_t, t}, {cases[k].name, RT_I64, cases[k].rank, of_y, y}};
        rt_status status = rt_tensors_write(path, parts, 3, NULL, err);
        if (status != RT_OK) return status;
    }
    return RT_OK;
}

int main(int argc, char **argv)
{
    uint8_t rgba[4 * SIDE * SIDE];
    char path[4200];
    rt_error err = {0};
    if (argc != 2) return fputs("draw_captions FOLDER\n", stderr), 2;
    snprintf(path, sizeof path, "%s/data", argv[1]);
    mkdir(path, 0777);
    for (int i = 0; i < COUNT; i++) {
        picture(i, rgba);
        snprintf(path, sizeof path, "%s/data/%02d.png", argv[1], i);
        if (rt_png_write(path, SIDE, SIDE, 4, rgba, &err) != RT_OK) return fprintf(stderr, "%s\n", err.text), 1;
    }
    snprintf(path, sizeof path, "%s/data/dataset.json", argv[1]);
    FILE *f = fopen(path, "w");
    if (!f) return 1;
    write_lists(f);
    if (fclose(f) != 0) return 1;
    return write_inputs(argv[1], &err) == RT_OK ? 0 : (fprintf(stderr, "%s\n", err.text), 1);
}
