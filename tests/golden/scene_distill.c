/* scene_distill.c -- (1.29) of the reference numbers for scenes: pictures of three cameras, u = omega alpha (s_zeta - s_teacher) there for sds and vsd at every
 * weight, and what it makes of the scene; in double and in float. */
#include "golden/golden.h"

#include "distill/guess.h"
#include "retort/scene.h"

#include "tolerances.h"

#include <unistd.h>

enum { CAMERAS = 3, H = 10, W = 12, PIXELS = H * W, D = 3 * PIXELS, NODES = 8 };
static const char *const cameras[CAMERAS] = {"front", "oblique", "inside"};
static char root[1024];
static rt_error err;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err = (rt_error){0};                                                                                                               \
        if ((call) != RT_OK) fail_msg("%s", err.text);                                                                                     \
    } while (0)

typedef struct world {
    rt_tensors *file;
    json_t *index;
    rt_process *process;
    rt_config config;
    rt_task task;
    rt_scene_spec spec;
    rt_params *set;
    rt_graph *graph;
    rt_node *rays, *u, *picture, *loss, *slope;
    rt_program *program;
    rt_dtype real;
} world;

static const double *numbers(const world *w, const char *name, rt_tensor *t)
{
    *t = golden_tensor(w->file, "", name, NULL, false);
    return t->data;
}

static void fill_scene(world *w)
{
    rt_tensor density, colour;
    const double *d = numbers(w, "density", &density), *c = numbers(w, "colour", &colour);
    char *values = rt_params_data(w->set, RT_VALUE);
    const rt_entry *grid = rt_params_entry(w->set, rt_params_find(w->set, "grid"));
    const int64_t nodes = NODES * NODES * NODES;
    for (int64_t i = 0; i < nodes; i++) {
        double node[4] = {d[i], c[i], c[nodes + i], c[2 * nodes + i]};
        golden_store(values + (size_t)(grid->offset + 4 * i) * rt_dtype_size(w->real), w->real, node, 4);
    }
    rt_params_touch(w->set);
    rt_tensor_free(&density);
    rt_tensor_free(&colour);
}

static void fill_rays(world *w)
{
    char key[64];
    json_t *list = json_object_get(json_object_get(w->index, "scene"), "cameras");
    char *to = rt_program_data(w->program, w->rays);
    for (int k = 0; k < CAMERAS; k++) {
        rt_tensor t;
        rt_camera c = {.fovy = json_number_value(json_object_get(json_array_get(list, (size_t)k), "fovy"))};
        snprintf(key, sizeof key, "%s.c2w", cameras[k]);
        memcpy(c.c2w, numbers(w, key, &t), sizeof c.c2w);
        rt_tensor_free(&t);
        rt_camera_rays(&c, H, W, NULL, w->real, to + (size_t)(k * PIXELS * RT_RAY) * rt_dtype_size(w->real));
    }
}

static void open_world(world *w, rt_dtype real)
{
    char path[1100];
    *w = (world){.real = real};
    snprintf(path, sizeof path, "%s/distill.safetensors", root);
    w->file = golden_open(path);
    snprintf(path, sizeof path, "%s/index.json", root);
    w->index = golden_json(path);
    rt_process_spec flow = rt_process_defaults("flow");
    OK(rt_process_new(&w->process, &flow, &err));
    w->task = (rt_task){.config = &w->config, .process = w->process, .features = D, .real = real, .null_class = -1};
    w->spec = rt_scene_defaults(RT_SCENE_GRID);
    w->spec.nodes[0] = w->spec.nodes[1] = w->spec.nodes[2] = NODES;
    w->spec.samples = 24;
    w->spec.height = H;
    w->spec.width = W;
    w->set = rt_params_new("scene", real);
    OK(rt_scene_declare(&w->spec, w->set, &err));
    OK(rt_params_init(w->set, 0, &err));
    rt_graph *g = w->graph = rt_graph_new(real);
    w->rays = rt_input(g, "rays", real, 3, (int64_t[]){RT_BATCH, PIXELS, RT_RAY});
    w->u = rt_input(g, "u", real, 4, (int64_t[]){RT_BATCH, 3, H, W});
    w->picture = rt_scene_build(&w->spec, w->set, g, w->rays, NULL, NULL).picture;
    w->loss = rt_expect(rt_dot(w->u, w->picture));
    rt_node *grid = rt_param(g, w->set, "grid", 5, (int64_t[]){1, NODES, NODES, NODES, 4}, RT_INIT_CONST(0));
    rt_grad(w->loss, &grid, 1, &w->slope);
    rt_node *outputs[] = {w->picture, w->slope};
    OK(rt_compile(&w->program, g, &(rt_program_spec){.outputs = outputs, .n_outputs = 2, .batch = CAMERAS, .threads = 1}, &err));
    fill_scene(w);
    fill_rays(w);
}

static void close_world(world *w)
{
    rt_program_free(w->program);
    rt_graph_free(w->graph);
    rt_params_free(w->set);
    rt_process_free(w->process);
    rt_tensors_close(w->file);
    json_decref(w->index);
}

static void compare(const world *w, const char *name, const void *got, rt_dtype dtype, double tolerance)
{
    rt_tensor t;
    const double *want = numbers(w, name, &t);
    double far = golden_distance(got, dtype, want, rt_tensor_count(&t));
    print_message("%-28s %s %.1e\n", name, rt_dtype_name(w->real), far);
    if (!(far <= tolerance)) fail_msg("%s: %g apart, at most %g", name, far, tolerance);
    rt_tensor_free(&t);
}

/* Gradients of density and colour out of that of the nodes. */
static void compare_slopes(world *w, const char *prefix, double tolerance)
{
    enum { N = NODES * NODES * NODES };
    static double density[N], colour[3 * N];
    char key[64];
    const void *slope = rt_program_data(w->program, w->slope);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 4; k++) {
            double v = w->real == RT_F64 ? ((const double *)slope)[4 * i + k] : (double)((const float *)slope)[4 * i + k];
            *(k == 0 ? &density[i] : &colour[(k - 1) * N + i]) = v;
        }
    snprintf(key, sizeof key, "%s.grad_density", prefix);
    compare(w, key, density, RT_F64, tolerance);
    snprintf(key, sizeof key, "%s.grad_colour", prefix);
    compare(w, key, colour, RT_F64, tolerance);
}

static void check(rt_dtype real)
{
    static const char *const methods[] = {"sds", "sds-noise", "vsd"};
    static const struct {
        const char *golden, *ours;
    } weights[] = {{"uniform", "snr"}, {"beta2", "alpha2"}, {"x0", "uniform"}}; /* omega 1, beta^2, beta^2/alpha^2 */
    const double forward = real == RT_F64 ? 1e-10 : TOL_GOLDEN_FORWARD, tolerance = real == RT_F64 ? 1e-9 : TOL_GOLDEN_GRADIENT;
    world w;
    open_world(&w, real);
    OK(rt_run(w.program, &(rt_clock){0}, &err));
    compare(&w, "x0", rt_program_data(w.program, w.picture), real, forward);
    rt_tensor tt, tn, td, ts;
    const double *t = numbers(&w, "t", &tt), *eps = numbers(&w, "noise", &tn), *data = numbers(&w, "data", &td),
                 *shift = numbers(&w, "student_shift", &ts);
    static double x0[CAMERAS * D], xt[CAMERAS * D], f_p[CAMERAS * D], f_z[CAMERAS * D], u[CAMERAS * D];
    static float pictures[3 * D];
    const void *x = rt_program_data(w.program, w.picture);
    double variance = json_number_value(json_object_get(json_object_get(w.index, "distill"), "student_variance"));
    for (int k = 0; k < CAMERAS; k++) { /* the teacher of camera k knows three pictures */
        double alpha = 1 - t[k], beta = t[k];
        for (int j = k * D; j < (k + 1) * D; j++) {
            x0[j] = real == RT_F64 ? ((const double *)x)[j] : (double)((const float *)x)[j];
            xt[j] = alpha * x0[j] + beta * eps[j];
        }
        for (int j = 0; j < 3 * D; j++) pictures[j] = (float)data[k * 3 * D + j];
        rt_oracle *o;
        rt__guess g;
        OK(rt_oracle_data(&o, 3, D, pictures, w.process, rt_prediction_find("x0", NULL), &err));
        OK(rt__guess_open(&g, &w.task, &(rt_denoiser){.oracle = o, .null_class = -1}, 1, &err));
        OK(rt__guess_x0(&g, 1, xt + k * D, t + k, NULL, f_p + k * D, &err));
        rt__guess_close(&g);
        rt_oracle_free(o);
    }
    for (int m = 0; m < 3; m++)
        for (int v = 0; v < 3; v++) {
            char key[64], prefix[32];
            snprintf(prefix, sizeof prefix, "%s.%s", methods[m], weights[v].golden);
            const rt_weight *weight = rt_weight_find(weights[v].ours, &err);
            for (int k = 0; k < CAMERAS; k++) {
                double alpha = 1 - t[k], beta = t[k];
                rt__zeta_of_noise(m == 0, D, alpha, x0 + k * D, xt + k * D, f_z + k * D);
                for (int j = k * D; j < (k + 1) * D && m == 2; j++) {
                    double s = -(xt[j] - alpha * (x0[j] + shift[j])) / (alpha * alpha * variance + beta * beta);
                    f_z[j] = (xt[j] + beta * beta * s) / alpha;
                }
                rt__direction(weight, w.process, t[k], D, f_z + k * D, f_p + k * D, u + k * D);
            }
            snprintf(key, sizeof key, "%s.cotangent", prefix);
            compare(&w, key, u, RT_F64, tolerance);
            golden_store(rt_program_data(w.program, w.u), real, u, CAMERAS * D);
            OK(rt_run(w.program, &(rt_clock){0}, &err));
            compare_slopes(&w, prefix, tolerance);
        }
    rt_tensor_free(&tt);
    rt_tensor_free(&tn);
    rt_tensor_free(&td);
    rt_tensor_free(&ts);
    close_world(&w);
}

static void in_double(void **state) { (void)state, check(RT_F64); }
static void in_float(void **state) { (void)state, check(RT_F32); }

int main(void)
{
    const char *shared = getenv("RETORT_SHARED");
    snprintf(root, sizeof root, "%s/golden/scene", shared ? shared : "../shared");
    if (access(root, R_OK) != 0) {
        printf("SKIP: the shared reference numbers are not here\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_double), cmocka_unit_test(in_float)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
