/* seen_twice.c -- how far two cameras agree on the colour of a point that both see: rays of one camera's pixels end at points, to which rays of the others are sent. */
#include "base/internal.h"
#include "retort/ops.h"
#include "retort/scene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 64, RAYS = SIDE * SIDE, MOST = 24 };
static const double opaque = 0.95;

/* Rays that wait to be sent, and what the first camera saw at their ends. */
typedef struct sending {
    rt_graph *graph;
    rt_program *program;
    rt_node *rays;
    rt_scene_nodes seen;
    rt_dtype real;
    double near; /* by how much what is seen may lie before the point */
    int64_t waiting;
    double colour[RAYS][3], distance[RAYS], sum;
    rt_seen_twice *out;
} sending;

static double number(const sending *s, const rt_node *node, int64_t i)
{
    const void *data = rt_program_data(s->program, node);
    return s->real == RT_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

static rt_status send(sending *s, rt_error *err)
{
    if (s->waiting == 0) return RT_OK;
    size_t width = rt_dtype_size(s->real);
    char *rays = rt_program_data(s->program, s->rays);
    memset(rays + (size_t)(s->waiting * RT_RAY) * width, 0, (size_t)((RAYS - s->waiting) * RT_RAY) * width); /* the rest miss */
    RT_TRY(rt_run(s->program, &(rt_clock){0}, err));
    for (int64_t i = 0; i < s->waiting; i++) {
        double alpha = number(s, s->seen.alpha, i);
        if (alpha < opaque || number(s, s->seen.depth, i) / alpha < s->distance[i] - s->near) continue;
        s->out->compared++;
        for (int k = 0; k < 3; k++) {
            double differ = number(s, s->seen.picture, k * RAYS + i) / alpha - s->colour[i][k];
            s->sum += differ * differ / 3;
        }
    }
    s->waiting = 0;
    return RT_OK;
}

/* Is the point within the picture of h x w pixels? */
static bool in_picture(const rt_camera *c, int h, int w, const double point[3])
{
    double at[3] = {0}; /* right, up, backward */
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 3; i++) at[k] += c->c2w[4 * i + k] * (point[i] - c->c2w[4 * i + 3]);
    double half = c->fovy > 0 ? tan(c->fovy / 2) : tan(c->fovx / 2) * h / w; /* of the height, at distance 1 */
    return at[2] < 0 && fabs(at[1]) < -at[2] * half && fabs(at[0]) < -at[2] * half * w / h;
}

/* A pixel of camera a that ends at `point` with this colour, seen by all others. */
static rt_status send_to(sending *s, const rt_scene_spec *spec, const rt_camera *cameras, int n, int a, const double point[3],
                         const double colour[3], rt_error *err)
{
    for (int b = 0; b < n; b++) {
        const double *m = cameras[b].c2w, origin[3] = {m[3], m[7], m[11]};
        if (b == a || !in_picture(&cameras[b], spec->height, spec->width, point)) continue;
        s->out->pixels++;
        rt_ray_towards(origin, point, s->real,
                       (char *)rt_program_data(s->program, s->rays) + (size_t)(s->waiting * RT_RAY) * rt_dtype_size(s->real));
        memcpy(s->colour[s->waiting], colour, 3 * sizeof *colour);
        s->distance[s->waiting++] = sqrt((point[0] - origin[0]) * (point[0] - origin[0]) + (point[1] - origin[1]) * (point[1] - origin[1]) +
                                         (point[2] - origin[2]) * (point[2] - origin[2]));
        if (s->waiting == RAYS) RT_TRY(send(s, err));
    }
    return RT_OK;
}

static rt_status compile(sending *s, const rt_scene_spec *spec, rt_params *set, int particle, int threads, rt_error *err)
{
    rt_scene_spec own = *spec;
    own.height = own.width = SIDE;
    s->real = rt_params_dtype(set);
    s->graph = rt_graph_new(s->real);
    if (!s->graph) RT_RAISE(RT_E_MEMORY, "out of memory for a graph");
    s->rays = rt_input(s->graph, "rays", s->real, 3, (int64_t[]){RT_BATCH, RAYS, RT_RAY});
    rt_node *which = rt_broadcast(rt_const(s->graph, RT_I64, 0, NULL, &(int64_t){particle}), 1, (int64_t[]){RT_BATCH});
    s->seen = rt_scene_build(&own, set, s->graph, s->rays, which, NULL);
    rt_node *outputs[] = {s->seen.picture, s->seen.alpha, s->seen.depth};
    return rt_compile(&s->program, s->graph, &(rt_program_spec){.outputs = outputs, .n_outputs = 3, .batch = 1, .threads = threads}, err);
}

/* All opaque pixels of n cameras. */
static rt_status walk(sending *s, const rt_scene_spec *spec, const rt_camera *cameras, int n, const float *x, const float *alpha,
                      const float *depth, rt_error *err)
{
    int64_t pixels = (int64_t)spec->height * spec->width;
    double *rays = malloc((size_t)(pixels * RT_RAY) * sizeof *rays);
    rt_status status = rays ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %lld rays", (long long)pixels);
    for (int a = 0; a < n && status == RT_OK; a++) {
        rt_camera_rays(&cameras[a], spec->height, spec->width, NULL, RT_F64, rays);
        for (int64_t i = 0; i < pixels && status == RT_OK; i++) {
            double covered = (double)alpha[a * pixels + i], point[3], colour[3];
            if (covered < opaque) continue;
            for (int k = 0; k < 3; k++) {
                point[k] = rays[i * RT_RAY + k] + (double)depth[a * pixels + i] / covered * rays[i * RT_RAY + 3 + k];
                colour[k] = (double)x[(a * 4 + k) * pixels + i] / covered;
            }
            status = send_to(s, spec, cameras, n, a, point, colour, err);
        }
    }
    free(rays);
    return status == RT_OK ? send(s, err) : status;
}

static rt_status look(sending *s, const rt_scene_spec *spec, rt_params *set, int particle, const rt_camera *cameras, int n, int threads,
                      rt_error *err)
{
    size_t count = (size_t)n * (size_t)spec->height * (size_t)spec->width;
    float *x = malloc(4 * count * sizeof *x), *alpha = malloc(count * sizeof *alpha), *depth = malloc(count * sizeof *depth);
    rt_status status = x && alpha && depth ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %d pictures", n);
    if (status == RT_OK) status = rt_scene_pictures(spec, set, particle, cameras, n, threads, x, alpha, depth, NULL, err);
    if (status == RT_OK) status = compile(s, spec, set, particle, threads, err);
    if (status == RT_OK) status = walk(s, spec, cameras, n, x, alpha, depth, err);
    free(x);
    free(alpha);
    free(depth);
    return status;
}

rt_status rt_scene_seen_twice(const rt_scene_spec *given, rt_params *set, int particle, const rt_camera *cameras, int64_t n, int threads,
                              rt_seen_twice *out, rt_error *err)
{
    rt_scene_spec spec = *given;
    rt_camera chosen[MOST];
    int m = n < MOST ? (int)n : MOST, most = 0;
    spec.background = RT_ALPHA;
    spec.low = 0, spec.high = 1;
    *out = (rt_seen_twice){.rms = NAN, .cameras = m};
    if (spec.kind != RT_SCENE_GRID) RT_RAISE(RT_E_USAGE, "a scene of pictures has no points that two cameras could see");
    for (int i = 0; i < m; i++) chosen[i] = cameras[i * n / m];
    for (int i = 0; i < 3; i++) most = spec.nodes[i] > most ? spec.nodes[i] : most;
    sending *s = calloc(1, sizeof *s);
    if (!s) RT_RAISE(RT_E_MEMORY, "out of memory for rays");
    s->near = 1.0 / (most - 1);
    s->out = out;
    rt_status status = look(s, &spec, set, particle, chosen, m, threads, err);
    if (out->compared > 0) out->rms = sqrt(s->sum / (double)out->compared);
    rt_program_free(s->program);
    rt_graph_free(s->graph);
    free(s);
    return status;
}
