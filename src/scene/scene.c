/* scene.c -- what a scene is, its parameters in a set, its pictures and regularisers as nodes. */
#include "base/internal.h"
#include "retort/ops.h"
#include "retort/scene.h"

#include <math.h>
#include <string.h>

static const rt_row_text kinds[RT_SCENE_KINDS] = {
    [RT_SCENE_IMAGE] = {"image", "(1.24), R the identity",
                        "pictures themselves are the parameters: for tests, and for pictures in two dimensions"},
    [RT_SCENE_GRID] = {"grid", "Plenoxels 2022; DVGO 2022",
                       "raw density and raw colour on the nodes of a dense grid, rendered by emission and absorption along rays"},
};

bool rt_scene_kind_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= RT_SCENE_KINDS) return false;
    *row = kinds[i];
    return true;
}

static const char *const backgrounds[RT_BACKGROUNDS] = {"white", "black", "grey", "random", "alpha"};

const char *rt_background_name(rt_background b) { return (unsigned)b < RT_BACKGROUNDS ? backgrounds[b] : "?"; }

rt_status rt_background_find(rt_background *b, const char *name, rt_error *err)
{
    for (int i = 0; i < RT_BACKGROUNDS; i++) {
        if (strcmp(name, backgrounds[i])) continue;
        *b = (rt_background)i;
        return RT_OK;
    }
    const char *guess = rt_closest(name, backgrounds, RT_BACKGROUNDS);
    RT_RAISE(RT_E_USAGE, "background '%.60s' is not known; %s%s", name,
             guess ? "did you mean " : "must be white, black, grey, random or alpha", guess ? guess : "");
}

rt_scene_spec rt_scene_defaults(rt_scene_kind kind)
{
    return (rt_scene_spec){.kind = kind,
                           .particles = 1,
                           .nodes = {32, 32, 32},
                           .samples = 64,
                           .density_bias = -1,
                           .channels = 3,
                           .height = 32,
                           .width = 32,
                           .low = -1,
                           .high = 1,
                           .orbit = {{0, 360}, {0, 55}, {3.2, 3.2}, {36, 36}}};
}

int rt_scene_channels(const rt_scene_spec *s) { return s->kind == RT_SCENE_IMAGE ? s->channels : s->background == RT_ALPHA ? 4 : 3; }

/* ---- checks */

static rt_status whole(const char *what, int64_t value, int64_t most, int64_t least, rt_error *err)
{
    if (value >= least && value <= most) return RT_OK;
    RT_RAISE(RT_E_USAGE, "%s is %lld; must be %lld to %lld", what, (long long)value, (long long)least, (long long)most);
}

static rt_status range(const char *what, const double r[2], double least, double most, rt_error *err)
{
    if (r[0] >= least && r[0] <= r[1] && r[1] <= most) return RT_OK;
    RT_RAISE(RT_E_USAGE, "%s is %g,%g; must rise, within %g to %g", what, r[0], r[1], least, most);
}

rt_status rt_scene_check(const rt_scene_spec *s, rt_error *err)
{
    static const char *const axes[] = {"nodes along z", "nodes along y", "nodes along x"};
    if ((unsigned)s->kind >= RT_SCENE_KINDS || (unsigned)s->background >= RT_BACKGROUNDS) RT_RAISE(RT_E_USAGE, "a scene of no kind");
    RT_TRY(whole("the number of particles", s->particles, 64, 1, err));
    RT_TRY(whole("the height of pictures", s->height, 4096, 1, err));
    RT_TRY(whole("the width of pictures", s->width, 4096, 1, err));
    if (!(fabs(s->low) <= 1e6 && fabs(s->high) <= 1e6 && s->low < s->high))
        RT_RAISE(RT_E_USAGE, "the range of pictures is %g,%g; must rise, such as -1,1", s->low, s->high);
    if (s->kind == RT_SCENE_IMAGE) return whole("the number of channels", s->channels, 16, 1, err);
    for (int i = 0; i < 3; i++) RT_TRY(whole(axes[i], s->nodes[i], 512, 2, err));
    int64_t numbers = 4 * (int64_t)s->particles * s->nodes[0] * s->nodes[1] * s->nodes[2];
    if (numbers > 1 << 28)
        RT_RAISE(RT_E_USAGE, "%d particles of %dx%dx%d nodes are %lld numbers; must be at most %d: take fewer", s->particles, s->nodes[0],
                 s->nodes[1], s->nodes[2], (long long)numbers, 1 << 28);
    RT_TRY(whole("the number of samples per ray", s->samples, 1024, 1, err));
    if (!(fabs(s->density_bias) <= 100)) RT_RAISE(RT_E_USAGE, "the density's bias is %g; must be -100 to 100", s->density_bias);
    RT_TRY(range("azimuth", s->orbit.azimuth, -3600, 3600, err));
    RT_TRY(range("elevation", s->orbit.elevation, -89, 89, err));
    RT_TRY(range("distance", s->orbit.distance, 1e-3, 1e3, err));
    return range("fovy", s->orbit.fovy, 0.1, 179, err);
}

/* ---- parameters */

static const char *entry_of(const rt_scene_spec *s, int *rank, int64_t shape[RT_MAX_RANK])
{
    if (s->kind == RT_SCENE_IMAGE) {
        const int64_t image[] = {s->particles, s->channels, s->height, s->width};
        memcpy(shape, image, sizeof image);
        *rank = 4;
        return "image";
    }
    const int64_t grid[] = {s->particles, s->nodes[0], s->nodes[1], s->nodes[2], 4};
    memcpy(shape, grid, sizeof grid);
    *rank = 5;
    return "grid";
}

rt_status rt_scene_declare(const rt_scene_spec *s, rt_params *set, rt_error *err)
{
    int rank, index;
    int64_t shape[RT_MAX_RANK];
    RT_TRY(rt_scene_check(s, err));
    const char *name = entry_of(s, &rank, shape);
    return rt_params_add(set, name, rank, shape, RT_INIT_CONST(0), &index, err);
}

static rt_node *values_of(const rt_scene_spec *s, rt_params *set, rt_graph *g)
{
    int rank;
    int64_t shape[RT_MAX_RANK];
    const char *name = entry_of(s, &rank, shape);
    return rt_param(g, set, name, rank, shape, RT_INIT_CONST(0));
}

/* ---- pictures */

static rt_node *image_of(const rt_scene_spec *s, rt_node *values, rt_node *particle)
{
    int64_t C = s->channels, H = s->height, W = s->width;
    if (!particle) return rt_broadcast(rt_slice(values, 0, 0, 1, 1), 4, (int64_t[]){RT_BATCH, C, H, W});
    rt_node *chosen = rt_embedding(rt_reshape(values, 2, (int64_t[]){s->particles, C * H * W}), particle);
    return rt_reshape(chosen, 4, (int64_t[]){rt_dim(particle, 0), C, H, W});
}

static rt_node *background_of(const rt_scene_spec *s, rt_graph *g, rt_node *given)
{
    static const double levels[RT_BACKGROUNDS] = {[RT_WHITE] = 1, [RT_GREY] = 0.5, [RT_RANDOM] = 0.5};
    if (s->background != RT_RANDOM || !given) return rt_scalar(g, levels[s->background]);
    return rt_reshape(given, 4, (int64_t[]){rt_dim(given, 0), 3, 1, 1});
}

rt_scene_nodes rt_scene_build(const rt_scene_spec *s, rt_params *set, rt_graph *g, rt_node *rays, rt_node *particle, rt_node *background)
{
    rt_node *values = values_of(s, set, g);
    if (s->kind == RT_SCENE_IMAGE) return (rt_scene_nodes){.picture = image_of(s, values, particle)};
    if (background && s->background != RT_RANDOM)
        rt_fail(g, "a background of its own for a scene before %s", rt_background_name(s->background));
    int64_t B = rt_dim(rays, 0);
    rt_node *all = rt_render(values, rays, particle, s->samples, s->density_bias);
    all = rt_reshape(all, 4, (int64_t[]){B, 5, s->height, s->width});
    rt_scene_nodes r = {.alpha = rt_slice(all, 1, 3, 4, 1), .depth = rt_slice(all, 1, 4, 5, 1)};
    r.picture = rt_slice(all, 1, 0, s->background == RT_ALPHA ? 4 : 3, 1);
    if (s->background != RT_ALPHA && s->background != RT_BLACK)
        r.picture = rt_add(r.picture, rt_mul(rt_offset(rt_neg(r.alpha), 1), background_of(s, g, background)));
    r.picture = rt_offset(rt_scale(r.picture, s->high - s->low), s->low);
    return r;
}

rt_node *rt_scene_weights(const rt_scene_spec *s, rt_params *set, rt_graph *g, rt_node *rays, rt_node *particle)
{
    return rt_render_weights(values_of(s, set, g), rays, particle, s->samples, s->density_bias);
}

/* ---- regularisers */

rt_node *rt_scene_smooth(const rt_scene_spec *s, rt_params *set, rt_graph *g)
{
    rt_node *values = values_of(s, set, g), *sum = rt_scalar(g, 0);
    int first = s->kind == RT_SCENE_IMAGE ? 2 : 1, axes = s->kind == RT_SCENE_IMAGE ? 2 : 3;
    for (int i = first; i < first + axes; i++) {
        int64_t n = rt_dim(values, i);
        if (n < 2) continue;
        rt_node *step = rt_sub(rt_slice(values, i, 1, n, 1), rt_slice(values, i, 0, n - 1, 1));
        sum = rt_add(sum, rt_mean(rt_square(step), RT_ALL_AXES, false));
    }
    return sum;
}

rt_node *rt_scene_entropy(rt_node *alpha)
{
    const double kept = 1e-6;
    rt_node *a = rt_offset(rt_scale(alpha, 1 - 2 * kept), kept), *b = rt_offset(rt_neg(a), 1);
    return rt_neg(rt_expect(rt_add(rt_mul(a, rt_log(a)), rt_mul(b, rt_log(b)))));
}

rt_node *rt_scene_sparse(rt_node *alpha) { return rt_expect(rt_scale(alpha, 1 / ((double)rt_dim(alpha, 2) * (double)rt_dim(alpha, 3)))); }
