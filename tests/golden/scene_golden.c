/* scene_golden.c -- the renderer against numbers of numpy and PyTorch in double: rays, pictures, alpha, depth and gradients of volumes, by the fused row and by
 * simple rows, in double and in float; trilinear and its adjoint. The argument is the folder of the numbers: make test-scene. */
#include "golden/golden.h"
#include "graph/march.h"
#include "retort/scene.h"
#include "tolerances.h"

#include <unistd.h>

static const char *root = GOLDEN "scene";
static rt_error err_;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        if ((call) != RT_OK) fail_msg("%s", err_.text);                                                                                    \
    } while (0)

static const char *path_of(const char *name)
{
    static char path[1200];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static int compare(const char *what, const char *key, rt_dtype dtype, const void *got, const rt_tensor *want, bool gradient)
{
    double e = golden_distance(got, dtype, want->data, rt_tensor_count(want));
    double most = dtype == RT_F64 ? TOL_SCENE_DOUBLE : gradient ? TOL_SCENE_GRADIENT : TOL_SCENE_PICTURE;
    if (e <= most) return 0;
    print_error("%s, %s, %s: %.2e, at most %.0e is allowed\n", what, key, rt_dtype_name(dtype), e, most);
    return 1;
}

/* ---- trilinear: grids of the file are (C,D,H,W), values (C,n) */

static void transpose(double *to, const double *from, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows * columns; i++) to[i % columns * rows + i / columns] = from[i];
}

static int trilinear_case(rt_dtype dtype)
{
    rt_tensors *file = golden_open(path_of("trilinear.safetensors"));
    rt_tensor grid = golden_tensor(file, "", "grid", NULL, false), points = golden_tensor(file, "", "points", NULL, false);
    rt_tensor value = golden_tensor(file, "", "value", NULL, false), cotangent = golden_tensor(file, "", "cotangent", NULL, false);
    rt_tensor want = golden_tensor(file, "", "grad_grid", NULL, false);
    int64_t C = grid.shape[0], nodes = rt_tensor_count(&grid) / C, n = points.shape[0];
    rt_graph *g = rt_graph_new(dtype);
    rt_node *in[] = {rt_input(g, "grid", dtype, 4, (int64_t[]){grid.shape[1], grid.shape[2], grid.shape[3], C}),
                     rt_input(g, "points", dtype, 3, (int64_t[]){1, n, 3}), rt_input(g, "gy", dtype, 3, (int64_t[]){1, n, C})};
    rt_node *outputs[] = {rt_trilinear(in[0], in[1]), NULL};
    rt_grad(rt_sum(rt_mul(outputs[0], in[2]), RT_ALL_AXES, false), in, 1, &outputs[1]);
    rt_program *p;
    OK(rt_compile(&p, g, &(rt_program_spec){.outputs = outputs, .n_outputs = 2, .batch = 1, .threads = 2}, &err_));
    double *room = malloc((size_t)rt_tensor_count(&grid) * sizeof *room);
    transpose(room, grid.data, C, nodes);
    golden_store(rt_program_data(p, in[0]), dtype, room, C * nodes);
    golden_store(rt_program_data(p, in[1]), dtype, points.data, 3 * n);
    transpose(room, cotangent.data, C, n);
    golden_store(rt_program_data(p, in[2]), dtype, room, C * n);
    OK(rt_run(p, &(rt_clock){0}, &err_));
    transpose(room, value.data, C, n);
    memcpy(value.data, room, (size_t)(C * n) * sizeof *room);
    int failures = compare("trilinear", "value", dtype, rt_program_data(p, outputs[0]), &value, false);
    transpose(room, want.data, C, nodes);
    memcpy(want.data, room, (size_t)(C * nodes) * sizeof *room);
    failures += compare("trilinear", "grad_grid", dtype, rt_program_data(p, outputs[1]), &want, true);
    free(room);
    rt_program_free(p);
    rt_graph_free(g);
    rt_tensor *all[] = {&grid, &points, &value, &cotangent, &want};
    for (int i = 0; i < 5; i++) rt_tensor_free(all[i]);
    rt_tensors_close(file);
    return failures;
}

static void test_trilinear(void **state)
{
    (void)state;
    assert_int_equal(trilinear_case(RT_F64) + trilinear_case(RT_F32), 0);
}

/* ---- scenes */

enum { MOST_CAMERAS = 4 };

typedef struct scene {
    const char *name;
    rt_tensors *file;
    rt_scene_spec spec;
    rt_params *set;
    int n;
    rt_camera cameras[MOST_CAMERAS];
    const char *names[MOST_CAMERAS];
} scene;

static void scene_open(scene *s, const char *name, const json_t *about, rt_dtype dtype)
{
    char file[64];
    *s = (scene){.name = name, .spec = rt_scene_defaults(RT_SCENE_GRID), .set = rt_params_new(name, dtype)};
    snprintf(file, sizeof file, "%s.safetensors", name);
    s->file = golden_open(path_of(file));
    rt_tensor density = golden_tensor(s->file, "", "density", NULL, false), colour = golden_tensor(s->file, "", "colour", NULL, false);
    for (int i = 0; i < 3; i++) s->spec.nodes[i] = (int)density.shape[i];
    s->spec.samples = (int)json_integer_value(json_object_get(about, "steps"));
    s->spec.density_bias = json_number_value(json_object_get(about, "density_bias"));
    s->spec.low = 0;
    s->spec.background = RT_RANDOM;
    const json_t *cameras = json_object_get(about, "cameras");
    s->n = (int)json_array_size(cameras);
    assert_in_range(s->n, 1, MOST_CAMERAS);
    for (int i = 0; i < s->n; i++) {
        const json_t *camera = json_array_get(cameras, (size_t)i);
        s->names[i] = json_string_value(json_object_get(camera, "name"));
        rt_tensor c2w = golden_tensor(s->file, s->names[i], ".c2w", NULL, false);
        s->cameras[i].fovy = json_number_value(json_object_get(camera, "fovy"));
        memcpy(s->cameras[i].c2w, c2w.data, sizeof s->cameras[i].c2w);
        s->spec.height = (int)json_integer_value(json_object_get(camera, "height"));
        s->spec.width = (int)json_integer_value(json_object_get(camera, "width"));
        rt_tensor_free(&c2w);
    }
    OK(rt_scene_declare(&s->spec, s->set, &err_));
    int64_t nodes = rt_tensor_count(&density);
    double *both = malloc((size_t)nodes * 4 * sizeof *both), *values = malloc((size_t)nodes * 4 * sizeof *values);
    memcpy(both, density.data, (size_t)nodes * sizeof *both);
    memcpy(both + nodes, colour.data, (size_t)nodes * 3 * sizeof *both);
    transpose(values, both, 4, nodes);
    golden_store(rt_params_data(s->set, RT_VALUE), dtype, values, 4 * nodes);
    free(both), free(values);
    rt_tensor_free(&density), rt_tensor_free(&colour);
}

static void scene_close(scene *s)
{
    rt_tensors_close(s->file);
    rt_params_free(s->set);
}

/* The rays of camera c in double, against the file's. */
static double *rays_of(const scene *s, int c, int *failures)
{
    int64_t n = (int64_t)s->spec.height * s->spec.width;
    double *rays = malloc((size_t)(n * RT_RAY) * sizeof *rays);
    rt_tensor jitter = golden_tensor(s->file, s->names[c], ".jitter", NULL, true);
    rt_camera_rays(&s->cameras[c], s->spec.height, s->spec.width, jitter.rank < 0 ? NULL : jitter.data, RT_F64, rays);
    rt_tensor directions = golden_tensor(s->file, s->names[c], ".directions", NULL, false);
    rt_tensor near_far = golden_tensor(s->file, s->names[c], ".near_far", NULL, false);
    double *got = malloc((size_t)(n * 3) * sizeof *got);
    for (int64_t i = 0; i < n; i++) memcpy(got + 3 * i, rays + i * RT_RAY + 3, 3 * sizeof *got);
    *failures += compare(s->name, "directions", RT_F64, got, &directions, false);
    for (int64_t i = 0; i < n; i++) {
        const double *want = (const double *)near_far.data + 2 * i, *ray = rays + i * RT_RAY + 6;
        bool misses = want[1] <= want[0];
        if (misses ? ray[1] > ray[0] : fabs(ray[0] - want[0]) > 1e-10 || fabs(ray[1] - want[1]) > 1e-10) {
            print_error("%s, %s: ray %lld runs from %g to %g, not from %g to %g\n", s->name, s->names[c], (long long)i, ray[0], ray[1],
                        want[0], want[1]);
            ++*failures;
        }
    }
    free(got);
    rt_tensor_free(&directions), rt_tensor_free(&near_far), rt_tensor_free(&jitter);
    return rays;
}

/* (H,W,C) of the file, C being 1 where it has no such axis, as (C,H,W) */
static rt_tensor planes(const scene *s, int c, const char *key)
{
    rt_tensor t = golden_tensor(s->file, s->names[c], key, NULL, false);
    int64_t channels = t.rank == 3 ? t.shape[2] : 1, n = rt_tensor_count(&t);
    double *copy = malloc((size_t)n * sizeof *copy);
    transpose(copy, t.data, n / channels, channels);
    memcpy(t.data, copy, (size_t)n * sizeof *copy);
    free(copy);
    return t;
}

/* The gradient of a grid, (D,H,W,4), against the density's and the colour's in the file, whose names begin with prefix. */
static int compare_grid(const scene *s, const char *prefix, rt_dtype dtype, const void *got)
{
    rt_tensor density = golden_tensor(s->file, prefix, "grad_density", NULL, false),
              colour = golden_tensor(s->file, prefix, "grad_colour", NULL, false);
    int64_t nodes = rt_tensor_count(&density);
    double *values = malloc((size_t)nodes * 4 * sizeof *values), *apart = malloc((size_t)nodes * 4 * sizeof *apart);
    for (int64_t i = 0; i < nodes * 4; i++) values[i] = dtype == RT_F64 ? ((const double *)got)[i] : (double)((const float *)got)[i];
    transpose(apart, values, nodes, 4);
    if (dtype == RT_F32)
        for (int64_t i = 0; i < nodes * 4; i++) ((float *)values)[i] = (float)apart[i];
    else
        memcpy(values, apart, (size_t)nodes * 4 * sizeof *values);
    size_t size = rt_dtype_size(dtype);
    int failures = compare(s->name, prefix, dtype, values, &density, true);
    failures += compare(s->name, prefix, dtype, (char *)values + (size_t)nodes * size, &colour, true);
    free(values), free(apart);
    rt_tensor_free(&density), rt_tensor_free(&colour);
    return failures;
}

/* What the row gives, composed, as a scene's nodes over the background. */
static rt_scene_nodes composed(const scene *s, rt_node *grid, rt_node *rays, rt_node *background)
{
    int64_t n[] = {rt_dim(rays, 0), 5, s->spec.height, s->spec.width};
    rt_node *all = rt_reshape(rt__render_composed(grid, rays, NULL, &(rt__render_attr){s->spec.samples, s->spec.density_bias}), 4, n);
    rt_scene_nodes r = {.alpha = rt_slice(all, 1, 3, 4, 1), .depth = rt_slice(all, 1, 4, 5, 1)};
    r.picture =
        rt_add(rt_slice(all, 1, 0, 3, 1), rt_mul(rt_offset(rt_neg(r.alpha), 1), rt_reshape(background, 4, (int64_t[]){n[0], 3, 1, 1})));
    return r;
}

/* Cameras first..first + n - 1 in one batch. The total's gradient stands in the file without a camera's name. */
static int render(const scene *s, int first, int n, bool fused)
{
    rt_dtype dtype = rt_params_dtype(s->set);
    int64_t H = s->spec.height, W = s->spec.width, pixels = H * W;
    rt_graph *g = rt_graph_new(dtype);
    rt_node *rays = rt_input(g, "rays", dtype, 3, (int64_t[]){RT_BATCH, pixels, RT_RAY});
    rt_node *background = rt_input(g, "background", dtype, 2, (int64_t[]){RT_BATCH, 3});
    rt_node *g_rgb = rt_input(g, "g_rgb", dtype, 4, (int64_t[]){RT_BATCH, 3, H, W});
    rt_node *g_alpha = rt_input(g, "g_alpha", dtype, 4, (int64_t[]){RT_BATCH, 1, H, W});
    const rt_entry *e = rt_params_entry(s->set, 0);
    rt_node *wrt[] = {rt_param(g, s->set, e->name, e->rank, e->shape, e->init), background};
    rt_scene_nodes r = fused ? rt_scene_build(&s->spec, s->set, g, rays, NULL, background) : composed(s, wrt[0], rays, background);
    rt_node *loss = rt_add(rt_sum(rt_mul(r.picture, g_rgb), RT_ALL_AXES, false), rt_sum(rt_mul(r.alpha, g_alpha), RT_ALL_AXES, false));
    rt_node *outputs[] = {r.picture, r.alpha, r.depth, NULL, NULL};
    rt_grad(loss, wrt, 2, outputs + 3);
    rt_program *p;
    OK(rt_compile(&p, g, &(rt_program_spec){.outputs = outputs, .n_outputs = 5, .batch = n, .threads = 2}, &err_));
    int failures = 0;
    size_t size = rt_dtype_size(dtype);
    for (int i = 0; i < n; i++) {
        int c = first + i;
        double *own = rays_of(s, c, &failures);
        golden_store((char *)rt_program_data(p, rays) + (size_t)(i * pixels * RT_RAY) * size, dtype, own, pixels * RT_RAY);
        rt_tensor in[] = {golden_tensor(s->file, s->names[c], ".background", NULL, false), planes(s, c, ".cotangent_rgb"),
                          planes(s, c, ".cotangent_alpha")};
        rt_node *to[] = {background, g_rgb, g_alpha};
        for (int k = 0; k < 3; k++) {
            int64_t count = rt_tensor_count(&in[k]);
            golden_store((char *)rt_program_data(p, to[k]) + (size_t)(i * count) * size, dtype, in[k].data, count);
            rt_tensor_free(&in[k]);
        }
        free(own);
    }
    OK(rt_run(p, &(rt_clock){0}, &err_));
    static const char *const keys[] = {".rgb", ".alpha", ".depth"};
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 3; k++) {
            rt_tensor want = planes(s, first + i, keys[k]);
            failures += compare(s->names[first + i], keys[k], dtype,
                                (char *)rt_program_data(p, outputs[k]) + (size_t)(i * rt_tensor_count(&want)) * size, &want, false);
            rt_tensor_free(&want);
        }
        rt_tensor want = golden_tensor(s->file, s->names[first + i], ".grad_background", NULL, false);
        failures += compare(s->names[first + i], ".grad_background", dtype, (char *)rt_program_data(p, outputs[4]) + (size_t)i * 3 * size,
                            &want, true);
        rt_tensor_free(&want);
    }
    char prefix[64] = "";
    if (n == 1) snprintf(prefix, sizeof prefix, "%s.", s->names[first]);
    failures += compare_grid(s, prefix, dtype, rt_program_data(p, outputs[3]));
    rt_program_free(p);
    rt_graph_free(g);
    return failures;
}

static void test_scenes(void **state)
{
    (void)state;
    static const char *const names[] = {"uneven", "scene"};
    json_t *index = golden_json(path_of("index.json"));
    int failures = 0, seen = 0;
    for (int i = 0; i < 4; i++) {
        char file[64];
        snprintf(file, sizeof file, "%s.safetensors", names[i / 2]);
        if (access(path_of(file), R_OK) != 0) continue; /* the tree holds one of the two */
        scene s;
        scene_open(&s, names[i / 2], json_object_get(index, names[i / 2]), i % 2 ? RT_F32 : RT_F64);
        for (int fused = 0; fused < 2; fused++) {
            for (int c = 0; c < s.n; c++) failures += render(&s, c, 1, fused);
            failures += render(&s, 0, s.n, fused);
        }
        scene_close(&s);
        seen++;
    }
    json_decref(index);
    assert_true(seen >= 2);
    assert_int_equal(failures, 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) root = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_trilinear), cmocka_unit_test(test_scenes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
