/* render_speed.c -- time of rendering 8 views of 32x32 with 64 samples a ray, forward alone and with the gradient of the grid: cmake --build build/release
 * --target render_speed, then build/release/render_speed [nodes a side (32)] [repeats (20)]. */
#include "retort/ops.h"
#include "retort/scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VIEWS = 8, MOST = 1000 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static rt_status measure(rt_graph *g, rt_node *const *outputs, int n, const rt_node *rays, const float *values, int repeats, double *median,
                         rt_error *err)
{
    static double times[MOST];
    rt_program *p;
    rt_status s = rt_compile(&p, g, &(rt_program_spec){.outputs = outputs, .n_outputs = n, .batch = VIEWS}, err);
    if (s != RT_OK) return s;
    memcpy(rt_program_data(p, rays), values, (size_t)rt_program_count(p, rays) * sizeof *values);
    for (int i = 0; i < repeats + 2 && s == RT_OK; i++) {
        double start = now();
        s = rt_run(p, &(rt_clock){0}, err);
        times[i < 2 ? 0 : i - 2] = now() - start;
    }
    qsort(times, (size_t)repeats, sizeof *times, ascending);
    *median = times[repeats / 2];
    rt_program_free(p);
    return s;
}

int main(int argc, char **argv)
{
    rt_error err = {0};
    rt_scene_spec spec = rt_scene_defaults(RT_SCENE_GRID);
    int nodes = argc > 1 ? atoi(argv[1]) : 32, repeats = argc > 2 ? atoi(argv[2]) : 20;
    if (repeats < 1 || repeats > MOST) repeats = 20;
    for (int i = 0; i < 3; i++) spec.nodes[i] = nodes;
    int64_t pixels = (int64_t)spec.height * spec.width;
    rt_params *set = rt_params_new("scene", RT_F32);
    rt_graph *g = rt_graph_new(RT_F32);
    float *values = malloc((size_t)(VIEWS * pixels * RT_RAY) * sizeof *values);
    if (!set || !g || !values || rt_scene_declare(&spec, set, &err) != RT_OK ||
        rt_scene_init(&spec, set, RT_SCENE_BLOB, 1, &err) != RT_OK) {
        fprintf(stderr, "%s\n", *err.text ? err.text : "out of memory");
        return err.status != RT_OK ? (int)err.status : RT_E_MEMORY;
    }
    for (int i = 0; i < VIEWS; i++) {
        rt_camera c = rt_camera_orbit(45.0 * i + 10, 25, 3.2, 36);
        rt_camera_rays(&c, spec.height, spec.width, NULL, RT_F32, values + i * pixels * RT_RAY);
    }
    rt_node *rays = rt_input(g, "rays", RT_F32, 3, (int64_t[]){RT_BATCH, pixels, RT_RAY});
    rt_scene_nodes r = rt_scene_build(&spec, set, g, rays, NULL, NULL);
    const rt_entry *e = rt_params_entry(set, 0);
    rt_node *grid = rt_param(g, set, e->name, e->rank, e->shape, e->init), *outputs[] = {r.picture, NULL};
    rt_grad(rt_expect(rt_norm2(r.picture)), &grid, 1, &outputs[1]);
    double forward, both;
    rt_status s = measure(g, outputs, 1, rays, values, repeats, &forward, &err);
    if (s == RT_OK) s = measure(g, outputs, 2, rays, values, repeats, &both, &err);
    if (s == RT_OK)
        printf("%s, %d nodes a side, medians of %d: forward %.2f ms, with the gradient %.2f ms\n", rt_isa_name(), nodes, repeats, forward,
               both);
    if (s != RT_OK) fprintf(stderr, "%s\n", err.text);
    free(values);
    rt_graph_free(g);
    rt_params_free(set);
    return (int)s;
}
