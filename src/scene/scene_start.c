/* scene_start.c -- values to start from: fields with a formula, and another scene's values on other nodes. */
#include "base/internal.h"
#include "retort/scene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const starts[RT_SCENE_STARTS] = {"blob", "empty", "rough"};

const char *rt_scene_start_name(rt_scene_start s) { return (unsigned)s < RT_SCENE_STARTS ? starts[s] : NULL; }

/* ---- values of a set, of either type */

typedef struct field {
    void *data;
    rt_dtype dtype;
} field;

static void put(field f, int64_t i, double v)
{
    if (f.dtype == RT_F64)
        ((double *)f.data)[i] = v;
    else
        ((float *)f.data)[i] = (float)v;
}

static double get(field f, int64_t i) { return f.dtype == RT_F64 ? ((const double *)f.data)[i] : (double)((const float *)f.data)[i]; }

static const char *name_of(const rt_scene_spec *s) { return s->kind == RT_SCENE_IMAGE ? "image" : "grid"; }

/* Is the set declared by this spec, and has it memory? */
static rt_status open_field(field *f, const rt_scene_spec *s, rt_params *set, rt_error *err)
{
    RT_TRY(rt_scene_declare(s, set, err)); /* finds it, if it is there in this shape */
    RT_TRY(rt_params_fetch(set, RT_VALUE, err));
    f->dtype = rt_params_dtype(set);
    f->data = (char *)rt_params_data(set, RT_VALUE) +
              (size_t)rt_params_entry(set, rt_params_find(set, name_of(s)))->offset * rt_dtype_size(f->dtype);
    return RT_OK;
}

/* ---- starts */

/* Linear interpolation of a field of normal numbers on 4 nodes a side, 4 channels; at in 0..1. */
enum { COARSE = 4 };
static double rough_at(const double *coarse, const double at[3], int channel)
{
    double sum = 0;
    for (int corner = 0; corner < 8; corner++) {
        int index[3];
        double weight = 1;
        for (int i = 0; i < 3; i++) {
            double u = at[i] * (COARSE - 1);
            int cell = u < COARSE - 2 ? (int)u : COARSE - 2, far = corner >> i & 1;
            weight *= far ? u - cell : 1 - (u - cell);
            index[i] = cell + far;
        }
        sum += weight * coarse[((index[0] * COARSE + index[1]) * COARSE + index[2]) * 4 + channel];
    }
    return sum;
}

static void start_grid(const rt_scene_spec *s, field f, int64_t particle, rt_scene_start start, uint64_t seed)
{
    double coarse[COARSE * COARSE * COARSE * 4], normal[4];
    rt__draw colours = {.seed = seed, .name = rt__draw_name("scene.colour")},
             field_draw = {.seed = seed, .name = rt__draw_name("scene.rough")};
    rt__draw_normals(&field_draw, (uint32_t)particle, (int64_t)RT_COUNT(coarse), coarse);
    int64_t D = s->nodes[0], H = s->nodes[1], W = s->nodes[2];
    for (int64_t n = 0; n < D * H * W; n++) {
        double at[3] = {(double)(n / (H * W)) / (double)(D - 1), (double)(n / W % H) / (double)(H - 1), (double)(n % W) / (double)(W - 1)};
        double r = sqrt(pow(2 * at[0] - 1, 2) + pow(2 * at[1] - 1, 2) + pow(2 * at[2] - 1, 2));
        double density = start == RT_SCENE_EMPTY ? -6 : 1.5 * fmax(1 - r / 0.6, -3);
        bool rough = start == RT_SCENE_ROUGH;
        rt__draw_normal(&colours, (uint32_t)particle, (uint32_t)n, normal);
        int64_t to = 4 * (particle * D * H * W + n);
        put(f, to, density + (rough ? 2 * rough_at(coarse, at, 0) : 0));
        for (int c = 1; c < 4; c++) put(f, to + c, 0.1 * normal[c] + (rough ? rough_at(coarse, at, c) : 0));
    }
}

static void start_image(const rt_scene_spec *s, field f, int64_t particle, rt_scene_start start, uint64_t seed)
{
    int64_t size = (int64_t)s->channels * s->height * s->width;
    double middle = (s->low + s->high) / 2, half = (s->high - s->low) / 2,
           factor = start == RT_SCENE_BLOB    ? 0.1
                    : start == RT_SCENE_ROUGH ? 1
                                              : 0;
    rt__draw draw = {.seed = seed, .name = rt__draw_name("scene.image")};
    for (int64_t i = 0; i < size; i++) {
        double normal[4];
        rt__draw_normal(&draw, (uint32_t)particle, (uint32_t)(i / 4), normal);
        put(f, particle * size + i, middle + factor * half * normal[i % 4]);
    }
}

rt_status rt_scene_init(const rt_scene_spec *s, rt_params *set, rt_scene_start start, uint64_t seed, rt_error *err)
{
    field f;
    if (!rt_scene_start_name(start)) RT_RAISE(RT_E_USAGE, "scenes start as blob, empty or rough");
    RT_TRY(open_field(&f, s, set, err));
    for (int64_t p = 0; p < s->particles; p++) (s->kind == RT_SCENE_IMAGE ? start_image : start_grid)(s, f, p, start, seed);
    rt_params_touch(set);
    return RT_OK;
}

/* ---- other nodes */

static double cell_of(const rt_scene_spec *s)
{
    int most = 0;
    for (int i = 0; i < 3; i++) most = s->nodes[i] > most ? s->nodes[i] : most;
    return 2.0 / (most - 1);
}

static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double softplus_inverse(double y) { return y + log(-expm1(-y)); }

/* Value of particle p's channel at `at`, a place of the node in 0..1 along z, y, x. */
static double value_at(field f, const rt_scene_spec *s, int64_t p, const double at[3], int channel)
{
    double sum = 0;
    for (int corner = 0; corner < 8; corner++) {
        int64_t index = p;
        double weight = 1;
        for (int i = 0; i < 3; i++) {
            double u = at[i] * (s->nodes[i] - 1);
            int cell = u < s->nodes[i] - 2 ? (int)u : s->nodes[i] - 2, far = corner >> i & 1;
            weight *= far ? u - cell : 1 - (u - cell);
            index = index * s->nodes[i] + cell + far;
        }
        if (weight != 0) sum += weight * get(f, 4 * index + channel);
    }
    return sum;
}

static void resample_grid(const rt_scene_spec *to_spec, field to, const rt_scene_spec *from_spec, field from, int64_t particle)
{
    int64_t D = to_spec->nodes[0], H = to_spec->nodes[1], W = to_spec->nodes[2], source = particle % from_spec->particles;
    double ratio = cell_of(to_spec) / cell_of(from_spec);
    for (int64_t n = 0; n < D * H * W; n++) {
        double at[3] = {(double)(n / (H * W)) / (double)(D - 1), (double)(n / W % H) / (double)(H - 1), (double)(n % W) / (double)(W - 1)};
        int64_t i = 4 * (particle * D * H * W + n);
        double density = softplus(value_at(from, from_spec, source, at, 0) + from_spec->density_bias) * ratio;
        put(to, i, softplus_inverse(fmax(density, 1e-30)) - to_spec->density_bias);
        for (int c = 1; c < 4; c++) put(to, i + c, value_at(from, from_spec, source, at, c));
    }
}

rt_status rt_scene_resample(const rt_scene_spec *to_spec, rt_params *to, const rt_scene_spec *from_spec, rt_params *from, rt_error *err)
{
    field new, old;
    if (to_spec->kind != from_spec->kind) RT_RAISE(RT_E_USAGE, "a scene of pictures and a volume cannot become each other");
    RT_TRY(open_field(&old, from_spec, from, err));
    RT_TRY(open_field(&new, to_spec, to, err));
    if (to_spec->kind == RT_SCENE_GRID) {
        for (int64_t p = 0; p < to_spec->particles; p++) resample_grid(to_spec, new, from_spec, old, p);
    } else {
        int64_t size = (int64_t)to_spec->channels * to_spec->height * to_spec->width;
        if (to_spec->channels != from_spec->channels || to_spec->height != from_spec->height || to_spec->width != from_spec->width)
            RT_RAISE(RT_E_USAGE, "pictures of %dx%dx%d cannot start from pictures of %dx%dx%d: give one of the same size",
                     to_spec->channels, to_spec->height, to_spec->width, from_spec->channels, from_spec->height, from_spec->width);
        for (int64_t i = 0; i < to_spec->particles * size; i++) put(new, i, get(old, i % (from_spec->particles * size)));
    }
    rt_params_touch(to);
    return RT_OK;
}
