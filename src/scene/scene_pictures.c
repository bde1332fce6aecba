/* scene_pictures.c -- a scene seen by given cameras, on the host: a program that renders one picture, run for each. */
#include "base/internal.h"
#include "retort/ops.h"
#include "retort/scene.h"

#include <stdlib.h>
#include <string.h>

typedef struct seen {
    rt_node *node;
    float *to; /* NULL: not wanted */
} seen;

static void copy(float *to, const void *from, rt_dtype dtype, int64_t n)
{
    if (dtype == RT_F32) {
        memcpy(to, from, (size_t)n * sizeof *to);
        return;
    }
    for (int64_t i = 0; i < n; i++) to[i] = (float)((const double *)from)[i];
}

static rt_status run_all(rt_program *p, rt_node *rays, rt_node *which, const rt_scene_spec *s, int particle, const rt_camera *cameras,
                         int64_t n, const seen *wanted, int n_wanted, rt_error *err)
{
    rt_dtype dtype = rt_node_dtype(wanted[0].node);
    int64_t *index = rt_program_data(p, which);
    if (index) *index = particle;
    for (int64_t i = 0; i < n; i++) {
        if (rays) rt_camera_rays(&cameras[i], s->height, s->width, NULL, dtype, rt_program_data(p, rays));
        RT_TRY(rt_run(p, &(rt_clock){0}, err));
        for (int k = 0; k < n_wanted; k++) {
            int64_t count = rt_program_count(p, wanted[k].node);
            copy(wanted[k].to + i * count, rt_program_data(p, wanted[k].node), dtype, count);
        }
    }
    return RT_OK;
}

rt_status rt_scene_pictures(const rt_scene_spec *s, rt_params *set, int particle, const rt_camera *cameras, int64_t n, int threads,
                            float *x, float *alpha, float *depth, float *weights, rt_error *err)
{
    RT_TRY(rt_scene_check(s, err));
    if (particle < 0 || particle >= s->particles)
        RT_RAISE(RT_E_USAGE, "particle %d; the scene has %d, numbered from 0", particle, s->particles);
    bool grid = s->kind == RT_SCENE_GRID;
    if (!grid && (alpha || depth || weights)) RT_RAISE(RT_E_USAGE, "a scene of pictures has no alpha, depth or weights");
    rt_dtype real = rt_params_dtype(set);
    rt_graph *g = rt_graph_new(real);
    if (!g) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    rt_node *rays = grid ? rt_input(g, "rays", real, 3, (int64_t[]){RT_BATCH, (int64_t)s->height * s->width, RT_RAY}) : NULL;
    rt_node *which = rt_input(g, "particle", RT_I64, 1, (int64_t[]){RT_BATCH});
    rt_scene_nodes r = rt_scene_build(s, set, g, rays, which, NULL);
    const seen all[] = {
        {r.picture, x}, {r.alpha, alpha}, {r.depth, depth}, {weights ? rt_scene_weights(s, set, g, rays, which) : NULL, weights}};
    seen wanted[RT_COUNT(all)];
    rt_node *outputs[RT_COUNT(all)];
    int n_wanted = 0;
    for (size_t i = 0; i < RT_COUNT(all); i++) {
        if (!all[i].to) continue;
        outputs[n_wanted] = all[i].node;
        wanted[n_wanted++] = all[i];
    }
    rt_program *p = NULL;
    rt_status status =
        rt_compile(&p, g, &(rt_program_spec){.outputs = outputs, .n_outputs = n_wanted, .batch = 1, .threads = threads}, err);
    if (status == RT_OK && n_wanted > 0) status = run_all(p, rays, which, s, particle, cameras, n, wanted, n_wanted, err);
    rt_program_free(p);
    rt_graph_free(g);
    return status;
}
