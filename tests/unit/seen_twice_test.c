/* seen_twice_test.c -- colours at points that two cameras see: scenes of which it is known, and every ray sent by a camera of its own. */
#include "retort/scene.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { NODES = 16 };

typedef struct world {
    rt_scene_spec spec;
    rt_params *set;
} world;

typedef enum paint { ONE_COLOUR, SMOOTH, PATCHES } paint;

static double logit(double c) { return log(c / (1 - c)); }

/* A ball of radius 0.7 in fog, of opacities per cell. */
static world make(paint colours, double steep, double fog)
{
    world w = {.spec = rt_scene_defaults(RT_SCENE_GRID), .set = rt_params_new("scene", RT_F64)};
    w.spec.nodes[0] = w.spec.nodes[1] = w.spec.nodes[2] = NODES;
    assert_int_equal(rt_scene_declare(&w.spec, w.set, NULL), RT_OK);
    double *v = rt_params_data(w.set, RT_VALUE);
    for (int i = 0; i < NODES * NODES * NODES; i++, v += 4) {
        const double at[] = {2.0 * (i % NODES) / (NODES - 1) - 1, 2.0 * (i / NODES % NODES) / (NODES - 1) - 1,
                             2.0 * (i / NODES / NODES) / (NODES - 1) - 1};
        v[0] = 1 + steep * (0.7 - sqrt(at[0] * at[0] + at[1] * at[1] + at[2] * at[2]));
        v[0] = fmax(v[0], fog > 0 ? log(expm1(fog)) - w.spec.density_bias : -30);
        for (int k = 0; k < 3; k++)
            v[1 + k] = logit(colours == ONE_COLOUR             ? 0.2 + 0.3 * k
                             : colours == SMOOTH               ? 0.5 + 0.3 * at[k]
                             : (i * 7 + i / NODES * 5 + k) % 3 ? 0.2
                                                               : 0.8);
    }
    rt_params_touch(w.set);
    return w;
}

static void ring(rt_camera *cameras, int n)
{
    for (int i = 0; i < n; i++) cameras[i] = rt_camera_orbit(360.0 * i / n, i % 2 ? 30 : -10, 3.2, 36);
}

static rt_seen_twice seen(const world *w, int n)
{
    rt_camera cameras[40];
    rt_seen_twice o;
    rt_error err = {0};
    ring(cameras, n);
    if (rt_scene_seen_twice(&w->spec, w->set, 0, cameras, n, 1, &o, &err) != RT_OK) fail_msg("%s", err.text);
    return o;
}

static void one_colour_is_the_same_from_everywhere(void **state)
{
    (void)state;
    for (int fog = 0; fog < 2; fog++) {
        world w = make(ONE_COLOUR, 40, 0.3 * fog);
        rt_seen_twice o = seen(&w, 8);
        assert_true(o.rms < 1e-6);
        assert_true(o.compared > o.pixels / 20 && o.compared < o.pixels);
        assert_int_equal(o.cameras, 8);
        rt_params_free(w.set);
    }
}

/* A hard ball with a colour per point is near 0; what is soft is farther, and in fog two cameras mix the colours of different points. */
static void fog_is_not(void **state)
{
    (void)state;
    world hard = make(SMOOTH, 100, 0), soft = make(SMOOTH, 5, 0), fog = make(SMOOTH, 100, 0.2);
    rt_seen_twice a = seen(&hard, 8), b = seen(&soft, 8), c = seen(&fog, 8);
    assert_true(a.rms < 0.007);
    assert_true(b.rms > 1.5 * a.rms);
    assert_true(c.rms > 3 * a.rms);
    assert_true((double)a.compared / (double)a.pixels > 2 * (double)c.compared / (double)c.pixels);
    rt_params_free(hard.set);
    rt_params_free(soft.set);
    rt_params_free(fog.set);
}

/* A camera of one pixel at the place of `from`, whose ray goes through p. */
static rt_camera pointed(const rt_camera *from, const double p[3])
{
    rt_camera c = {.fovy = 0.1};
    double back[3], size = 0, right[3], flat;
    for (int i = 0; i < 3; i++) back[i] = from->c2w[4 * i + 3] - p[i], size += back[i] * back[i];
    for (int i = 0; i < 3; i++) back[i] /= sqrt(size);
    flat = hypot(back[0], back[1]);
    right[0] = -back[1] / flat, right[1] = back[0] / flat, right[2] = 0;
    const double up[] = {back[1] * right[2] - back[2] * right[1], back[2] * right[0] - back[0] * right[2],
                         back[0] * right[1] - back[1] * right[0]};
    for (int i = 0; i < 3; i++) {
        c.c2w[4 * i] = right[i], c.c2w[4 * i + 1] = up[i], c.c2w[4 * i + 2] = back[i];
        c.c2w[4 * i + 3] = from->c2w[4 * i + 3];
    }
    c.c2w[15] = 1;
    return c;
}

/* The formula, each ray a picture of its own; pictures are wider than high, and points leave them. */
static void as_by_the_formula(void **state)
{
    (void)state;
    enum { N = 4, H = 7, W = 9, PIXELS = H * W };
    world w = make(PATCHES, 30, 0.05);
    rt_camera cameras[N];
    static float x[N * 4 * PIXELS], alpha[N * PIXELS], depth[N * PIXELS];
    static double rays[PIXELS * RT_RAY];
    ring(cameras, N);
    w.spec.height = H, w.spec.width = W;
    for (int i = 0; i < N; i++) cameras[i].fovy = 0.4; /* parts of the ball are outside */
    cameras[1].fovy = 0;
    cameras[1].fovx = 2 * atan(tan(0.2) * W / H); /* the same */
    rt_scene_spec own = w.spec;
    own.background = RT_ALPHA, own.low = 0;
    assert_int_equal(rt_scene_pictures(&own, w.set, 0, cameras, N, 1, x, alpha, depth, NULL, NULL), RT_OK);
    int64_t pixels = 0, compared = 0;
    double sum = 0, half = tan(0.2);
    own.height = own.width = 1;
    for (int a = 0; a < N; a++) {
        rt_camera_rays(&cameras[a], H, W, NULL, RT_F64, rays);
        for (int i = 0; i < PIXELS; i++) {
            double A = (double)alpha[a * PIXELS + i], p[3];
            if (A < 0.95) continue;
            for (int k = 0; k < 3; k++) p[k] = rays[i * RT_RAY + k] + (double)depth[a * PIXELS + i] / A * rays[i * RT_RAY + 3 + k];
            for (int b = 0; b < N; b++) {
                const double *m = cameras[b].c2w, d[] = {p[0] - m[3], p[1] - m[7], p[2] - m[11]};
                double across = m[0] * d[0] + m[4] * d[1] + m[8] * d[2], upright = m[1] * d[0] + m[5] * d[1] + m[9] * d[2],
                       away = -(m[2] * d[0] + m[6] * d[1] + m[10] * d[2]), far = sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
                if (b == a || fabs(upright) >= half * away || fabs(across) >= half * W / H * away) continue;
                pixels++;
                rt_camera c = pointed(&cameras[b], p);
                float colour[4], B, there;
                assert_int_equal(rt_scene_pictures(&own, w.set, 0, &c, 1, 1, colour, &B, &there, NULL, NULL), RT_OK);
                if (B < 0.95f || (double)there / (double)B < far - 1.0 / (NODES - 1)) continue;
                compared++;
                for (int k = 0; k < 3; k++) sum += pow((double)colour[k] / (double)B - (double)x[(a * 4 + k) * PIXELS + i] / A, 2) / 3;
            }
        }
    }
    rt_seen_twice o;
    assert_int_equal(rt_scene_seen_twice(&w.spec, w.set, 0, cameras, N, 1, &o, NULL), RT_OK);
    assert_int_equal(o.pixels, pixels);
    assert_int_equal(o.compared, compared);
    assert_true(compared > 10 && compared < pixels);
    assert_true(fabs(o.rms - sqrt(sum / (double)compared)) < 1e-5);
    rt_params_free(w.set);
}

static void of_many_cameras_some_are_taken(void **state)
{
    (void)state;
    enum { ALL = 33, SOME = 24 };
    world w = make(SMOOTH, 40, 0);
    rt_camera cameras[ALL], some[SOME];
    rt_seen_twice o;
    w.spec.height = w.spec.width = 8;
    ring(cameras, ALL);
    for (int i = 0; i < SOME; i++) some[i] = cameras[i * ALL / SOME];
    rt_seen_twice all = seen(&w, ALL);
    assert_int_equal(rt_scene_seen_twice(&w.spec, w.set, 0, some, SOME, 1, &o, NULL), RT_OK);
    assert_int_equal(all.cameras, SOME);
    assert_int_equal(all.pixels, o.pixels);
    assert_int_equal(all.compared, o.compared);
    rt_params_free(w.set);
}

static void nothing_to_compare(void **state)
{
    (void)state;
    world w = make(SMOOTH, 40, 0);
    rt_seen_twice o = seen(&w, 1);
    assert_int_equal(o.pixels, 0);
    assert_true(isnan(o.rms));
    double *v = rt_params_data(w.set, RT_VALUE);
    for (int i = 0; i < NODES * NODES * NODES; i++) v[4 * i] = -9; /* nothing is opaque */
    rt_params_touch(w.set);
    o = seen(&w, 4);
    assert_int_equal(o.compared, 0);
    assert_true(isnan(o.rms));
    rt_params_free(w.set);
    rt_scene_spec image = rt_scene_defaults(RT_SCENE_IMAGE);
    rt_camera c;
    ring(&c, 1);
    rt_params *set = rt_params_new("scene", RT_F32);
    assert_int_equal(rt_scene_declare(&image, set, NULL), RT_OK);
    assert_int_equal(rt_scene_seen_twice(&image, set, 0, &c, 1, 1, &o, NULL), RT_E_USAGE);
    rt_params_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_colour_is_the_same_from_everywhere), cmocka_unit_test(fog_is_not),
                                       cmocka_unit_test(as_by_the_formula), cmocka_unit_test(of_many_cameras_some_are_taken),
                                       cmocka_unit_test(nothing_to_compare)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
