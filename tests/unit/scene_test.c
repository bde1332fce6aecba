/* scene_test.c -- cameras and their rays, transforms.json, how scenes start, are resampled, regularised, seen and kept; hostile files. */
#include "retort/format.h"
#include "retort/ops.h"
#include "retort/scene.h"
#include "tolerances.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static rt_error err_;
#define OK(call)                                                                                                                           \
    do {                                                                                                                                   \
        err_ = (rt_error){0};                                                                                                              \
        if ((call) != RT_OK) fail_msg("%s", err_.text);                                                                                    \
    } while (0)
#define NEAR(got, want, most) near((double)(got), (double)(want), most, __LINE__)
static void near(double got, double want, double most, int line)
{
    if (!(fabs(got - want) <= most)) fail_msg("line %d: %.10g, not %.10g", line, got, want);
}

static char root[256];

static const char *at(const char *name)
{
    static char paths[4][400];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, 400, "%s/%s", root, name);
    return path;
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

/* ---- cameras */

static void test_orbit(void **state)
{
    (void)state;
    /* the first two of furniture-views, by the renderer that made its pictures, and one by hand */
    static const struct {
        double azimuth, elevation, position[3], up[3];
        const char *view;
    } known[] = {
        {0, 0, {3.2, 0, 0}, {0, 0, 1}, "front view"},
        {45, 0, {2.262741699796952, 2.262741699796952, 0}, {0, 0, 1}, "side view"},
        {90, 25, {0, 2.900184917876, 1.352378437571}, {0, -0.42261826174, 0.90630778704}, "side view"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        rt_camera c = rt_camera_orbit(known[i].azimuth, known[i].elevation, 3.2, 36);
        for (int k = 0; k < 3; k++) {
            NEAR(c.c2w[4 * k + 3], known[i].position[k], 1e-9);
            NEAR(c.c2w[4 * k + 1], known[i].up[k], 1e-9);
            NEAR(c.c2w[4 * k + 2] * 3.2, c.c2w[4 * k + 3], 1e-9); /* backward: from the origin */
        }
        NEAR(c.fovy, 0.6283185307179586, 1e-12);
        assert_string_equal(c.view, known[i].view);
    }
    static const struct {
        double azimuth, elevation;
        const char *view;
    } words[] = {{37.5, 0, "front view"}, {-37.4, 39.9, "front view"}, {330, 25, "front view"}, {38, 0, "side view"},
                 {142, 0, "side view"},   {143, 0, "back view"},       {217, -5, "back view"},  {218, 0, "side view"},
                 {720, 0, "front view"},  {0, 40, "overhead view"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        assert_string_equal(rt_camera_orbit(words[i].azimuth, words[i].elevation, 3, 36).view, words[i].view);
}

static void test_rays(void **state)
{
    (void)state;
    enum { H = 3, W = 5 };
    double rays[H * W][RT_RAY], jitter[H * W];
    for (int i = 0; i < H * W; i++) jitter[i] = i / 20.0;
    rt_camera c = rt_camera_orbit(0, 0, 3, 90);
    rt_camera_rays(&c, H, W, NULL, RT_F64, rays);
    const double *middle = rays[1 * W + 2], *top = rays[2], *right = rays[1 * W + 4];
    NEAR(middle[0], 3, 1e-12), NEAR(middle[3], -1, 1e-12), NEAR(middle[6], 2, 1e-12), NEAR(middle[7], 4, 1e-12), NEAR(middle[8], 0.5, 0);
    NEAR(top[5] / -top[3], 1 / 1.5, 1e-12);     /* f = H/2: one pixel up is 1/1.5 upwards */
    NEAR(right[4] / -right[3], 2 / 1.5, 1e-12); /* right of who looks along -x is +y */
    assert_true(right[7] <= right[6]);          /* it misses */
    c.fovx = c.fovy, c.fovy = 0;                /* the same angle across: f = W/2 */
    float single[H * W][RT_RAY];
    rt_camera_rays(&c, H, W, jitter, RT_F32, single);
    NEAR(single[2][5] / -single[2][3], 1 / 2.5, 1e-6);
    NEAR(single[4][8], 0.2, 1e-7);
    c.c2w[7] = 2; /* beside the box, looking along its face */
    rt_camera_rays(&c, H, W, NULL, RT_F64, rays);
    NEAR(rays[W + 2][4], 0, 0), NEAR(rays[W + 2][7], 0, 0);
    rt_camera inside = rt_camera_orbit(0, 0, 0.5, 90);
    rt_camera_rays(&inside, H, W, NULL, RT_F64, rays);
    NEAR(rays[W + 2][6], 0, 0), NEAR(rays[W + 2][7], 1.5, 1e-12);
}

#define ROWS "[1,0,0,0.5],[0,1,0,-2],[0,0,1,3]"

static void test_cameras_file(void **state)
{
    (void)state;
    rt_cameras cameras;
    write_text(at("t.json"),
               "{\"camera_angle_x\": 0.7, \"aabb_scale\": 16, \"frames\": [{\"file_path\": \"a.png\", \"transform_matrix\": [" ROWS "]},"
               "{\"transform_matrix\": [" ROWS ",[0,0,0,1]], \"label\": 7, \"view\": \"back view\"}]}");
    OK(rt_cameras_open(&cameras, at("t.json"), &err_));
    assert_int_equal(cameras.n, 2);
    NEAR(cameras.at[0].fovx, 0.7, 0), NEAR(cameras.at[0].fovy, 0, 0);
    assert_int_equal(cameras.at[0].label, 0), assert_int_equal(cameras.at[1].label, 7);
    assert_string_equal(cameras.at[0].view, ""), assert_string_equal(cameras.at[1].view, "back view");
    for (int i = 0; i < 2; i++) NEAR(cameras.at[i].c2w[7], -2, 0), NEAR(cameras.at[i].c2w[15], 1, 0), NEAR(cameras.at[i].c2w[12], 0, 0);
    rt_cameras_free(&cameras);
    assert_null(cameras.at);
}

static void test_hostile_cameras(void **state)
{
    (void)state;
#define FRAMES(matrix) "{\"camera_angle_y\": 0.6, \"frames\": [{\"transform_matrix\": " matrix "}]}"
    static const struct {
        const char *text, *words; /* of the message */
    } cases[] = {
        {"", "not JSON"},
        {"[1]", "must hold one JSON object"},
        {"{\"frames\": [{\"transform_matrix\": [" ROWS "]}]}", "field 'camera_angle_y' is missing; must be a field of view in radians"},
        {"{\"camera_angle_x\": 36, \"frames\": []}", "'camera_angle_x' is 36"},
        {"{\"camera_angle_y\": \"0.6\", \"frames\": []}", "'camera_angle_y' is \"0.6\""},
        {"{\"camera_angle_y\": 0, \"frames\": []}", "'camera_angle_y' is 0"},
        {"{\"camera_angle_y\": 0.6}", "'frames' is missing"},
        {"{\"camera_angle_y\": 0.6, \"frames\": []}", "'frames' is []; must be an array of frames, one at least"},
        {"{\"camera_angle_y\": 0.6, \"frames\": {\"transform_matrix\": 1}}", "must be an array"},
        {"{\"camera_angle_y\": 0.6, \"frames\": [3]}", "'frames[0]' is 3"},
        {"{\"camera_angle_y\": 0.6, \"frames\": [{}]}", "'frames[0].transform_matrix' is missing"},
        {FRAMES("[[1,0,0],[0,1,0],[0,0,1]]"), "must be 4 rows of 4 numbers"},
        {FRAMES("[" ROWS ",[0,0,0,1],[0,0,0,1]]"), "must be 4 rows of 4 numbers"},
        {FRAMES("[[1,0,0,0],[0,1,0,\"x\"],[0,0,1,0]]"), "must be 4 rows of 4 numbers"},
        {FRAMES("[[1,0,0,NaN],[0,1,0,0],[0,0,1,0]]"), "not JSON"},
        {FRAMES("[[1,0,0,1e999],[0,1,0,0],[0,0,1,0]]"), "not JSON"},
        {FRAMES("[[1,0,0,1e9],[0,1,0,0],[0,0,1,0]]"), "must be numbers below 1e6"},
        {FRAMES("[" ROWS ",[0,0,1,1]]"), "last row is 0, 0, 0, 1"},
        {FRAMES("[[2,0,0,0],[0,2,0,0],[0,0,2,0]]"), "take scale and shear out"},
        {FRAMES("[[1,0.2,0,0],[0,1,0,0],[0,0,1,0]]"), "take scale and shear out"},
        {FRAMES("[[0,0,0,0],[0,0,0,0],[0,0,0,0]]"), "take scale and shear out"},
        {FRAMES("[[1,0,0,0],[0,1,0,0],[0,0,-1,0]]"), "not a reflection"},
        {"{\"camera_angle_y\": 0.6, \"frames\": [{\"label\": -1, \"transform_matrix\": [" ROWS "]}]}", "'frames[0].label' is -1"},
        {"{\"camera_angle_y\": 0.6, \"frames\": [{\"label\": 1.5, \"transform_matrix\": [" ROWS "]}]}", "'frames[0].label' is 1.5"},
        {"{\"camera_angle_y\": 0.6, \"frames\": [{\"view\": 3, \"transform_matrix\": [" ROWS "]}]}", "'frames[0].view' is 3"},
        {"{\"camera_angle_y\": 0.6, \"frames\": [{\"view\": \"a view that is far longer than a view\", \"transform_matrix\": [" ROWS "]}]}",
         "at most 31 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rt_cameras cameras;
        rt_error err = {0};
        write_text(at("bad.json"), cases[i].text);
        rt_status s = rt_cameras_open(&cameras, at("bad.json"), &err);
        if (s != RT_E_INVALID || !strstr(err.text, cases[i].words) || !strstr(err.text, "bad.json"))
            fail_msg("%s: status %d, '%s', without '%s'", cases[i].text, s, err.text, cases[i].words);
        assert_null(cameras.at);
    }
    char *many = malloc(4 << 20), *end = many + sprintf(many, "{\"camera_angle_y\": 0.6, \"frames\": [");
    for (int i = 0; i < 65537; i++) end += sprintf(end, "%s{\"transform_matrix\": 0}", i ? "," : "");
    sprintf(end, "]}");
    write_text(at("many.json"), many);
    free(many);
    rt_cameras cameras;
    rt_error err = {0};
    assert_int_equal(rt_cameras_open(&cameras, at("many.json"), &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "has 65537 elements; must have at most 65536"));
    err = (rt_error){0};
    assert_int_equal(rt_cameras_open(&cameras, at("none.json"), &err), RT_E_IO);
}

/* ---- scenes */

static rt_scene_spec small(int nodes)
{
    rt_scene_spec s = rt_scene_defaults(RT_SCENE_GRID);
    for (int i = 0; i < 3; i++) s.nodes[i] = nodes;
    s.height = 6, s.width = 8, s.samples = 24;
    return s;
}

static rt_params *started(const rt_scene_spec *s, rt_scene_start start, rt_dtype dtype)
{
    rt_params *set = rt_params_new("scene", dtype);
    OK(rt_scene_declare(s, set, &err_));
    OK(rt_scene_init(s, set, start, 3, &err_));
    return set;
}

static void test_specs(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        int value;
        const char *words;
    } wrong[] = {
        {offsetof(rt_scene_spec, particles), 0, "number of particles is 0; must be 1 to 64"},
        {offsetof(rt_scene_spec, nodes) + sizeof(int), 1, "nodes along y is 1; must be 2 to 512"},
        {offsetof(rt_scene_spec, nodes), 513, "nodes along z is 513"},
        {offsetof(rt_scene_spec, samples), 1025, "samples per ray is 1025; must be 1 to 1024"},
        {offsetof(rt_scene_spec, height), 0, "height"},
        {offsetof(rt_scene_spec, width), 5000, "width"},
        {offsetof(rt_scene_spec, background), 9, "no kind"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        rt_scene_spec s = small(8);
        rt_error err = {0};
        memcpy((char *)&s + wrong[i].offset, &wrong[i].value, sizeof(int));
        assert_int_equal(rt_scene_check(&s, &err), RT_E_USAGE);
        if (!strstr(err.text, wrong[i].words)) fail_msg("'%s', without '%s'", err.text, wrong[i].words);
    }
    rt_scene_spec s = small(512);
    rt_error err = {0};
    assert_int_equal(rt_scene_check(&s, &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "take fewer"));
    s = small(8), s.low = NAN, err = (rt_error){0};
    assert_int_equal(rt_scene_check(&s, &err), RT_E_USAGE);
    s = small(8), s.orbit.elevation[1] = 90, err = (rt_error){0};
    assert_int_equal(rt_scene_check(&s, &err), RT_E_USAGE);
    rt_background b;
    OK(rt_background_find(&b, "alpha", &err_));
    assert_int_equal(b, RT_ALPHA);
    err = (rt_error){0};
    assert_int_equal(rt_background_find(&b, "whit", &err), RT_E_USAGE);
    assert_non_null(strstr(err.text, "did you mean white"));
    rt_row_text row;
    assert_true(rt_scene_kind_describe(RT_SCENE_GRID, &row) && !strcmp(row.name, "grid"));
    assert_false(rt_scene_kind_describe(2, &row));
}

static void test_starts(void **state)
{
    (void)state;
    rt_scene_spec s = small(5);
    s.particles = 2;
    rt_params *blob = started(&s, RT_SCENE_BLOB, RT_F64), *rough = started(&s, RT_SCENE_ROUGH, RT_F64);
    const double *b = rt_params_data(blob, RT_VALUE), *r = rt_params_data(rough, RT_VALUE);
    enum { N = 125, MIDDLE = 62 };
    NEAR(b[4 * MIDDLE], 1.5, 1e-12);
    NEAR(b[4 * (MIDDLE + 1)], 1.5 * (1 - 0.5 / 0.6), 1e-12);
    NEAR(b[4 * 0], 1.5 * (1 - sqrt(3) / 0.6), 1e-12);
    double square = 0, density = 0, apart = 0;
    for (int i = 0; i < 2 * N; i++) {
        for (int c = 1; c < 4; c++) square += b[4 * i + c] * b[4 * i + c];
        density += fabs(r[4 * i] - b[4 * i]);
    }
    for (int i = 0; i < 4 * N; i++) apart += fabs(b[i] - b[4 * N + i]);
    NEAR(sqrt(square / (6 * N)), 0.1, 0.01);
    assert_true(density / (2 * N) > 0.5 && apart > 1);
    for (int i = 0; i < N; i++) NEAR(b[4 * i], b[4 * (N + i)], 0);
    rt_params_free(blob), rt_params_free(rough);

    rt_params *empty = started(&s, RT_SCENE_EMPTY, RT_F32);
    rt_camera c = rt_camera_orbit(20, 10, 3.2, 36);
    float alpha[48];
    OK(rt_scene_pictures(&s, empty, 1, &c, 1, 1, NULL, alpha, NULL, NULL, &err_));
    for (int i = 0; i < 48; i++) assert_true(alpha[i] >= 0 && alpha[i] < 0.02f);
    rt_params_free(empty);
}

/* Opacity per length is kept on finer nodes: the same alpha, nearly, and exactly where density is the same everywhere. */
static void test_resample(void **state)
{
    (void)state;
    rt_scene_spec coarse = small(9), fine = small(17);
    coarse.particles = 2, fine.particles = 3, fine.density_bias = 0.5;
    rt_params *from = started(&coarse, RT_SCENE_ROUGH, RT_F32), *to = started(&fine, RT_SCENE_EMPTY, RT_F32);
    OK(rt_scene_resample(&fine, to, &coarse, from, &err_));
    rt_camera c = rt_camera_orbit(20, 10, 3.2, 36);
    float before[48], after[48], x[3 * 48], y[3 * 48];
    for (int p = 0; p < 3; p++) {
        OK(rt_scene_pictures(&coarse, from, p % 2, &c, 1, 1, x, before, NULL, NULL, &err_));
        OK(rt_scene_pictures(&fine, to, p, &c, 1, 1, y, after, NULL, NULL, &err_));
        for (int i = 0; i < 48; i++) NEAR(after[i], before[i], 0.02);
        for (int i = 0; i < 3 * 48; i++) NEAR(y[i], x[i], 0.04);
    }
    float *values = rt_params_data(from, RT_VALUE);
    for (int i = 0; i < 9 * 9 * 9; i++) values[4 * i] = -0.7f;
    OK(rt_scene_resample(&fine, to, &coarse, from, &err_));
    const float *got = rt_params_data(to, RT_VALUE);
    double want = log(expm1(log1p(exp(-0.7 - 1)) / 2)) - 0.5; /* softplus(raw' + 0.5) = softplus(-1.7)/2 */
    for (int i = 0; i < 17 * 17 * 17; i++) NEAR(got[4 * i], want, 1e-5);
    rt_scene_spec image = rt_scene_defaults(RT_SCENE_IMAGE);
    rt_error err = {0};
    assert_int_equal(rt_scene_resample(&image, to, &coarse, from, &err), RT_E_USAGE);
    rt_params_free(from), rt_params_free(to);
}

/* ---- regularisers: against loops, gradients against central differences in double */

typedef struct terms {
    rt_params *set;
    rt_graph *g;
    rt_node *rays, *outputs[6]; /* smooth, entropy, sparse, and their gradients */
    rt_program *p;
} terms;

static double value_of(terms *t, int k)
{
    rt_params_touch(t->set);
    OK(rt_run(t->p, &(rt_clock){0}, &err_));
    return *(double *)rt_program_data(t->p, t->outputs[k]);
}

static void test_regularisers(void **state)
{
    (void)state;
    rt_scene_spec s = small(4);
    s.nodes[0] = 5, s.particles = 2;
    terms t = {.set = started(&s, RT_SCENE_ROUGH, RT_F64), .g = rt_graph_new(RT_F64)};
    int64_t pixels = (int64_t)s.height * s.width;
    t.rays = rt_input(t.g, "rays", RT_F64, 3, (int64_t[]){RT_BATCH, pixels, RT_RAY});
    rt_scene_nodes r = rt_scene_build(&s, t.set, t.g, t.rays, NULL, NULL);
    t.outputs[0] = rt_scene_smooth(&s, t.set, t.g), t.outputs[1] = rt_scene_entropy(r.alpha), t.outputs[2] = rt_scene_sparse(r.alpha);
    const rt_entry *e = rt_params_entry(t.set, 0);
    rt_node *values = rt_param(t.g, t.set, e->name, e->rank, e->shape, e->init);
    for (int k = 0; k < 3; k++) rt_grad(t.outputs[k], &values, 1, &t.outputs[3 + k]);
    rt_node *outputs[7];
    memcpy(outputs, t.outputs, sizeof t.outputs);
    outputs[6] = r.alpha;
    OK(rt_compile(&t.p, t.g, &(rt_program_spec){.outputs = outputs, .n_outputs = 7, .batch = 2, .threads = 1}, &err_));
    for (int i = 0; i < 2; i++) { /* the second sees past the box, too */
        rt_camera c = rt_camera_orbit(30 + 100 * i, 20, 3.2, i ? 80 : 36);
        rt_camera_rays(&c, s.height, s.width, NULL, RT_F64, (double *)rt_program_data(t.p, t.rays) + i * pixels * RT_RAY);
    }
    double *x = rt_params_data(t.set, RT_VALUE), got[3], want[3] = {0};
    for (int k = 0; k < 3; k++) got[k] = value_of(&t, k);
    int64_t stride[] = {4 * 16, 4 * 4, 4};
    for (int axis = 0; axis < 3; axis++) {
        double sum = 0;
        int64_t n = 0;
        for (int64_t i = 0; i < e->count; i++) {
            int64_t index = i / stride[axis] % e->shape[1 + axis];
            if (index + 1 == e->shape[1 + axis]) continue;
            sum += pow(x[i + stride[axis]] - x[i], 2), n++;
        }
        want[0] += sum / (double)n;
    }
    const double *alpha = rt_program_data(t.p, r.alpha);
    int misses = 0;
    for (int64_t i = 0; i < 2 * pixels; i++) {
        double a = 1e-6 + (1 - 2e-6) * alpha[i];
        want[1] -= (a * log(a) + (1 - a) * log(1 - a)) / 2;
        want[2] += alpha[i] / (double)(2 * pixels);
        misses += alpha[i] == 0;
    }
    assert_true(misses > 4);
    for (int k = 0; k < 3; k++) NEAR(got[k], want[k], 1e-10 * fabs(want[k]));
    for (int k = 0; k < 3; k++) {
        double top = 0, gradient[12];
        const double *g = rt_program_data(t.p, t.outputs[3 + k]);
        for (int64_t i = 0; i < e->count; i++) {
            assert_true(isfinite(g[i]));
            top = fmax(top, fabs(g[i]));
        }
        for (int i = 0; i < 12; i++) gradient[i] = g[(i * 53) % (e->count / 2)];
        for (int i = 0; i < 12; i++) {
            double *at_ = &x[(i * 53) % (e->count / 2)], keep = *at_, side[2];
            for (int j = 0; j < 2; j++) {
                *at_ = keep + (j ? -1e-4 : 1e-4);
                side[j] = value_of(&t, k);
            }
            *at_ = keep;
            NEAR((side[0] - side[1]) / 2e-4, gradient[i], TOL_DIFFERENCES * top);
        }
    }
    rt_program_free(t.p), rt_graph_free(t.g), rt_params_free(t.set);
}

/* ---- on the host */

static void test_pictures(void **state)
{
    (void)state;
    enum { PIXELS = 48, VIEWS = 2, S = 24 };
    rt_scene_spec s = small(7);
    s.particles = 2, s.low = 0;
    rt_params *set = started(&s, RT_SCENE_ROUGH, RT_F32);
    rt_camera c[VIEWS] = {rt_camera_orbit(30, 20, 3.2, 60), rt_camera_orbit(200, -10, 3.2, 36)};
    static float white[VIEWS][3][PIXELS], black[VIEWS][3][PIXELS], alpha[VIEWS][PIXELS], depth[VIEWS][PIXELS], w[VIEWS][PIXELS][S],
        four[VIEWS][4][PIXELS];
    OK(rt_scene_pictures(&s, set, 1, c, VIEWS, 2, &white[0][0][0], &alpha[0][0], &depth[0][0], &w[0][0][0], &err_));
    s.background = RT_BLACK;
    OK(rt_scene_pictures(&s, set, 1, c, VIEWS, 1, &black[0][0][0], NULL, NULL, NULL, &err_));
    s.background = RT_ALPHA, s.low = -1;
    assert_int_equal(rt_scene_channels(&s), 4);
    OK(rt_scene_pictures(&s, set, 1, c, VIEWS, 1, &four[0][0][0], NULL, NULL, NULL, &err_));
    double most = 0, differs = 0;
    for (int v = 0; v < VIEWS; v++)
        for (int i = 0; i < PIXELS; i++) {
            double sum = 0;
            for (int k = 0; k < S; k++) sum += (double)w[v][i][k];
            NEAR(sum, alpha[v][i], 2e-6);
            for (int k = 0; k < 3; k++) {
                NEAR(white[v][k][i], black[v][k][i] + 1 - alpha[v][i], 1e-6);
                NEAR(four[v][k][i], 2 * black[v][k][i] - 1, 1e-6);
            }
            NEAR(four[v][3][i], 2 * alpha[v][i] - 1, 1e-6);
            assert_true(depth[v][i] >= 0 && depth[v][i] <= 5 * alpha[v][i]);
            most = fmax(most, (double)alpha[v][i]);
            differs = fmax(differs, fabs((double)(alpha[0][i] - alpha[1][i])));
        }
    assert_true(most > 0.5 && differs > 0.1);
    /* a particle by itself is what it is among others */
    rt_scene_spec one = s;
    one.particles = 1;
    rt_params *alone = started(&one, RT_SCENE_EMPTY, RT_F32);
    memcpy(rt_params_data(alone, RT_VALUE), (float *)rt_params_data(set, RT_VALUE) + 4 * 343, 4 * 343 * sizeof(float));
    static float other[VIEWS][4][PIXELS];
    OK(rt_scene_pictures(&one, alone, 0, c, VIEWS, 1, &other[0][0][0], NULL, NULL, NULL, &err_));
    assert_memory_equal(other, four, sizeof four);
    rt_error err = {0};
    assert_int_equal(rt_scene_pictures(&one, alone, 1, c, VIEWS, 1, &other[0][0][0], NULL, NULL, NULL, &err), RT_E_USAGE);
    rt_params_free(alone), rt_params_free(set);

    rt_scene_spec image = rt_scene_defaults(RT_SCENE_IMAGE);
    image.height = 2, image.width = 3, image.particles = 2;
    set = started(&image, RT_SCENE_ROUGH, RT_F32);
    float x[18];
    OK(rt_scene_pictures(&image, set, 1, c, 1, 1, x, NULL, NULL, NULL, &err_));
    assert_memory_equal(x, (float *)rt_params_data(set, RT_VALUE) + 18, sizeof x);
    err = (rt_error){0};
    assert_int_equal(rt_scene_pictures(&image, set, 1, c, 1, 1, x, x, NULL, NULL, &err), RT_E_USAGE);
    rt_params_free(set);
}

/* ---- files */

static void test_file(void **state)
{
    (void)state;
    for (int kind = 0; kind < RT_SCENE_KINDS; kind++) {
        rt_scene_spec s = kind == RT_SCENE_GRID ? small(4) : rt_scene_defaults(RT_SCENE_IMAGE);
        if (kind == RT_SCENE_GRID) s.nodes[1] = 3, s.nodes[2] = 2;
        s.particles = 2, s.width = 5, s.low = 0, s.samples = 9, s.density_bias = -0.1,
        s.background = kind == RT_SCENE_GRID ? RT_ALPHA : RT_WHITE;
        s.orbit.distance[0] = 1.1;
        rt_params *set = started(&s, RT_SCENE_ROUGH, RT_F32);
        OK(rt_scene_write(at("run/scene"), &s, set, RT_VALUE, "{\"method\": \"sds\", \"lr\": 0.1}", &err_));
        rt_scene *got;
        OK(rt_scene_open(&got, at(kind ? "run" : "run/scene"), &err_));
        if (kind == RT_SCENE_IMAGE) s.orbit = got->spec.orbit, s.samples = got->spec.samples, s.density_bias = got->spec.density_bias;
        assert_memory_equal(got->spec.nodes, s.nodes, sizeof s.nodes);
        assert_int_equal(got->spec.kind, s.kind), assert_int_equal(got->spec.particles, 2), assert_int_equal(got->spec.width, 5);
        assert_int_equal(got->spec.samples, s.samples), assert_int_equal(got->spec.background, s.background);
        NEAR(got->spec.density_bias, s.density_bias, 0), NEAR(got->spec.low, 0, 0),
            NEAR(got->spec.orbit.distance[0], s.orbit.distance[0], 0);
        assert_non_null(strstr(got->recipe, "\"method\": \"sds\""));
        assert_int_equal(rt_params_count(got->set), rt_params_count(set));
        assert_memory_equal(rt_params_data(got->set, RT_VALUE), rt_params_data(set, RT_VALUE),
                            (size_t)rt_params_count(set) * sizeof(float));
        rt_scene_free(got);
        if (kind == RT_SCENE_GRID) { /* as the file is described */
            rt_tensors *file;
            OK(rt_tensors_open(&file, at("run/scene/scene.safetensors"), &err_));
            float density[48], colour[144];
            OK(rt_tensors_read_real(file, rt_tensors_find(file, "density"), RT_F32, density, &err_));
            OK(rt_tensors_read_real(file, rt_tensors_find(file, "colour"), RT_F32, colour, &err_));
            const float *v = rt_params_data(set, RT_VALUE);
            for (int p = 0; p < 2; p++)
                for (int i = 0; i < 24; i++) {
                    NEAR(density[p * 24 + i], v[4 * (p * 24 + i)], 0);
                    for (int c = 0; c < 3; c++) NEAR(colour[(p * 3 + c) * 24 + i], v[4 * (p * 24 + i) + 1 + c], 0);
                }
            rt_tensors_close(file);
        }
        rt_params_free(set);
    }
}

static void refused(const char *what, const char *words)
{
    rt_scene *scene;
    rt_error err = {0};
    rt_status s = rt_scene_open(&scene, at("bad"), &err);
    if (s != RT_E_INVALID || !strstr(err.text, words)) fail_msg("%s: status %d, '%s', without '%s'", what, s, err.text, words);
    assert_null(scene);
}

static void test_hostile_files(void **state)
{
    (void)state;
    rt_scene_spec s = small(3);
    rt_params *set = started(&s, RT_SCENE_BLOB, RT_F32);
    OK(rt_scene_write(at("bad"), &s, set, RT_VALUE, NULL, &err_));
#define SCENE(rest) "{\"_class_name\": \"RetortScene\", \"kind\": \"grid\"" rest "}"
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"{", "not JSON"},
        {"7", "not JSON"},
        {"{\"kind\": \"grid\"}", "'_class_name' is missing"},
        {"{\"_class_name\": \"UNet2DModel\"}", "this is no scene"},
        {"{\"_class_name\": \"RetortScene\", \"kind\": \"mesh\"}", "'kind' is \"mesh\"; must be a row of 'retort list scenes'"},
        {SCENE(", \"nodes\": 2000000000"), "nodes along z is 2000000000"},
        {SCENE(", \"nodes\": [512, 512, 512]"), "take fewer"},
        {SCENE(", \"nodes\": [3, 3]"), "'nodes' is [3,3]; must be 3 whole numbers"},
        {SCENE(", \"nodes\": [3, 3, 3.5]"), "'nodes'"},
        {SCENE(", \"nodes\": \"3\""), "'nodes' is \"3\""},
        {SCENE(", \"nodes\": 3, \"samples\": 0"), "samples per ray is 0"},
        {SCENE(", \"nodes\": 3, \"samples\": -4"), "'samples' is -4"},
        {SCENE(", \"nodes\": 3, \"particles\": 65"), "number of particles is 65"},
        {SCENE(", \"nodes\": 3, \"size\": [32]"), "'size' is [32]; must be 2 whole numbers"},
        {SCENE(", \"nodes\": 3, \"data_range\": [1, -1]"), "must rise"},
        {SCENE(", \"nodes\": 3, \"data_range\": 1"), "'data_range' is 1"},
        {SCENE(", \"nodes\": 3, \"density_bias\": true"), "'density_bias' is true"},
        {SCENE(", \"nodes\": 3, \"density_bias\": 1e300"), "density's bias is 1e+300"},
        {SCENE(", \"nodes\": 3, \"background\": \"pink\""), "'background' is \"pink\""},
        {SCENE(", \"nodes\": 3, \"box\": [-2, 2]"), "'box' is [-2,2]; must be [-1, 1]"},
        {SCENE(", \"nodes\": 3, \"camera\": 3"), "'camera' is 3"},
        {SCENE(", \"nodes\": 3, \"camera\": {\"elevation\": [0, 95]}"), "elevation is 0,95"},
        {SCENE(", \"nodes\": 3, \"camera\": {\"fovy\": 3}"), "'fovy' is 3"},
        {SCENE(", \"nodes\": 3, \"_retort\": []"), "'_retort' is []"},
        {SCENE(", \"nodes\": 4"), "tensor 'density' is 1x3x3x3; must be 1x4x4x4, as scene.json says"},
        {SCENE(", \"nodes\": 3, \"particles\": 2"), "tensor 'density' is 1x3x3x3; must be 2x3x3x3"},
        {"{\"_class_name\": \"RetortScene\", \"kind\": \"image\"}", "tensor 'image' is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(at("bad/scene.json"), cases[i].text);
        refused(cases[i].text, cases[i].words);
    }
    write_text(at("bad/scene.json"), SCENE(", \"nodes\": 3"));
    rt_scene *fine;
    OK(rt_scene_open(&fine, at("bad"), &err_));
    rt_scene_free(fine);
    float values[27 * 3] = {0};
    int64_t density[] = {1, 3, 3, 3}, colour[] = {1, 3, 3, 3, 3}, wrong[] = {1, 9, 3, 3};
    rt_named_tensor tensors[] = {{"density", RT_F32, 4, density, values}, {"colour", RT_F32, 5, colour, values}};
    values[30] = NAN; /* of the colours only */
    OK(rt_tensors_write(at("bad/scene.safetensors"), tensors, 2, NULL, &err_));
    refused("NaN", "tensor 'colour' has a number that is not finite, at 30");
    OK(rt_tensors_write(at("bad/scene.safetensors"), tensors, 1, NULL, &err_));
    refused("one tensor", "tensor 'colour' is missing");
    values[30] = 0, tensors[1].rank = 4, tensors[1].shape = wrong;
    OK(rt_tensors_write(at("bad/scene.safetensors"), tensors, 2, NULL, &err_));
    refused("shape", "tensor 'colour' is 1x9x3x3; must be 1x3x3x3x3");
    assert_int_equal(truncate(at("bad/scene.safetensors"), 300), 0);
    refused("cut", "scene.safetensors");
    rt_scene *none;
    rt_error err = {0};
    assert_int_equal(rt_scene_open(&none, at("nowhere"), &err), RT_E_IO);
    err = (rt_error){0};
    assert_int_equal(rt_scene_write(at("bad"), &s, set, RT_VALUE, "[1]", &err), RT_E_INVALID);
    rt_params_free(set);
}

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "%s/retort-scene-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orbit),         cmocka_unit_test(test_rays),
        cmocka_unit_test(test_cameras_file),  cmocka_unit_test(test_hostile_cameras),
        cmocka_unit_test(test_specs),         cmocka_unit_test(test_starts),
        cmocka_unit_test(test_resample),      cmocka_unit_test(test_regularisers),
        cmocka_unit_test(test_pictures),      cmocka_unit_test(test_file),
        cmocka_unit_test(test_hostile_files),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
