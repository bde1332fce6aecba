/* known_objects.c -- scenes distilled from the exact teacher of one known object, which knows the object's picture at each of its cameras, and how near they come to
 * pictures from cameras that it does not know: make known-objects. known_objects VIEWS OUT [updates] [object ...]; VIEWS is the folder of cameras.json and known/. */
#include "retort/format.h"
#include "retort/scene.h"
#include "retort/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 32, NOVEL = 16, PIXELS = SIZE * SIZE };

/* What is tried, and what a prototype reached on the picture and its coverage; 0: not told. */
typedef struct way {
    const char *title, *method, *key, *value, *views;
    double reached[5][2];
} way;
static const char *const objects[] = {"008", "023", "046", "243", "271"};
static const way ways[] = {
    {"sds, noise subtracted",
     "sds",
     "sds.noise",
     "subtract",
     "rgba",
     {{25.7, 23.7}, {32.9, 29.2}, {31.5, 27.6}, {25.6, 26.6}, {30.7, 28.0}}},
    {"sds, noise kept", "sds", "sds.noise", "keep", "rgba", {{24.6, 22.8}, {30.3, 29.1}, {29.0, 26.8}, {26.0, 26.9}, {29.6, 28.1}}},
    {"vsd, exact score", "vsd-scene", "vsd.score", "exact", "rgba", {{25.7, 23.7}, {32.9, 29.2}, {31.5, 27.6}, {25.6, 26.6}, {30.7, 28.0}}},
    {"sds, noise kept, on white", "sds", "sds.noise", "keep", "white", {{20.6, 0}, {29.5, 0}, {29.2, 0}, {25.8, 0}, {28.4, 0}}},
};

static double decibel(const float *got, const unsigned char *want, int64_t n, double low, double high)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = fmin(fmax(((double)got[i] - low) / (high - low), 0), 1) - want[i] / 255.0;
        sum += v * v;
    }
    return -10 * log10(sum / (double)n);
}

static rt_status read_novel(const char *folder, const char *object, rt_tensor *x, rt_tensor *alpha, rt_error *err)
{
    char path[1200];
    rt_tensors *t;
    snprintf(path, sizeof path, "%s/known/%s/novel.safetensors", folder, object);
    rt_status s = rt_tensors_open(&t, path, err);
    if (s != RT_OK) return s;
    s = rt_tensors_read(t, rt_tensors_find(t, "x"), x, err);
    if (s == RT_OK) s = rt_tensors_read(t, rt_tensors_find(t, "alpha"), alpha, err);
    rt_tensors_close(t);
    return s;
}

/* The scene of a run at the cameras that the teacher does not know, on white. */
static rt_status compare(const char *folder, const char *object, const char *run, double reached[2], rt_error *err)
{
    static float x[NOVEL * 3 * PIXELS], alpha[NOVEL * PIXELS];
    char path[1200];
    rt_scene *scene = NULL;
    rt_cameras cameras = {0};
    rt_tensor novel = {0}, coverage = {0};
    snprintf(path, sizeof path, "%s/known/novel_cameras.json", folder);
    rt_status s = rt_cameras_open(&cameras, path, err);
    if (s == RT_OK) s = rt_scene_open(&scene, run, err);
    if (s == RT_OK) s = read_novel(folder, object, &novel, &coverage, err);
    if (s == RT_OK) {
        rt_scene_spec spec = scene->spec;
        spec.background = RT_WHITE;
        s = rt_scene_pictures(&spec, scene->set, 0, cameras.at, NOVEL, 0, x, alpha, NULL, NULL, err);
        reached[0] = decibel(x, novel.data, NOVEL * 3 * PIXELS, spec.low, spec.high);
        reached[1] = decibel(alpha, coverage.data, NOVEL * PIXELS, 0, 1);
    }
    rt_tensor_free(&novel);
    rt_tensor_free(&coverage);
    rt_cameras_free(&cameras);
    rt_scene_free(scene);
    return s;
}

static rt_status make(const char *folder, const char *out, const char *object, const way *w, const char *updates, char *run, size_t size,
                      double *seconds, rt_error *err)
{
    char path[1200], teacher[1300], cameras[1200];
    rt_config *c = calloc(1, sizeof *c);
    rt_run_summary *summary = calloc(1, sizeof *summary);
    snprintf(path, sizeof path, "%s/%s-%s.json", out, object, w->views);
    FILE *f = fopen(path, "w");
    if (!c || !summary || !f) return rt_error_set(err, RT_E_IO, "%s: cannot be written", path);
    fprintf(f,
            "{\"kind\": \"data\", \"data\": \"%s/known/%s/train-%s.safetensors\", \"prediction\": \"velocity\", \"scheduler\": "
            "{\"_class_name\": "
            "\"FlowMatchEulerDiscreteScheduler\"}}",
            folder, object, w->views);
    fclose(f);
    snprintf(teacher, sizeof teacher, "oracle:%s", path);
    snprintf(cameras, sizeof cameras, "%s/cameras.json", folder);
    snprintf(run, size, "%s/%s-%s-%s-%s", out, object, w->method, w->value, w->views);
    const char *const keys[] = {"out",
                                run,
                                "teacher",
                                teacher,
                                "scene.kind",
                                "grid",
                                "scene.cameras",
                                cameras,
                                "train.updates",
                                updates,
                                w->key,
                                w->value,
                                "run.checkpoint-every",
                                "0",
                                NULL};
    rt_status s = rt_config_method(c, w->method, err);
    for (const char *const *k = keys; *k && s == RT_OK; k += 2) s = rt_config_set(c, k[0], k[1], err);
    if (s == RT_OK) s = rt_run_train(c, false, NULL, summary, err);
    *seconds = summary->seconds;
    free(c);
    free(summary);
    return s;
}

static bool is_asked(int argc, char **argv, const char *object)
{
    bool asked = argc <= 4;
    for (int i = 4; i < argc; i++) asked |= !strcmp(argv[i], object);
    return asked;
}

int main(int argc, char **argv)
{
    rt_error err = {0};
    if (argc < 3) return fprintf(stderr, "known_objects VIEWS OUT [updates] [object ...]\n"), 2;
    printf("| object | way | picture, alpha (dB) | a prototype's | seconds |\n| --- | --- | --- | --- | --- |\n");
    int below = 0;
    for (int o = 0; o < 5; o++)
        for (int k = 0; k < 4 && is_asked(argc, argv, objects[o]); k++) {
            char run[1024];
            double seconds = 0, reached[2];
            rt_status s = make(argv[1], argv[2], objects[o], &ways[k], argc > 3 ? argv[3] : "800", run, sizeof run, &seconds, &err);
            if (s == RT_OK) s = compare(argv[1], objects[o], run, reached, &err);
            if (s != RT_OK) return fprintf(stderr, "known_objects: %s\n", err.text), 1;
            const double *want = ways[k].reached[o];
            bool falls_short = reached[0] < want[0] - 1 || (want[1] > 0 && reached[1] < want[1] - 1);
            below += falls_short;
            char theirs[32];
            int n = snprintf(theirs, sizeof theirs, "%.1f", want[0]);
            if (want[1] > 0) snprintf(theirs + n, sizeof theirs - (size_t)n, ", %.1f", want[1]); /* of alpha on white it has none */
            printf("| %s | %s | %.1f, %.1f%s | %s | %.0f |\n", objects[o], ways[k].title, reached[0], reached[1],
                   falls_short ? " (below)" : "", theirs, seconds);
            fflush(stdout);
        }
    return below > 0;
}
