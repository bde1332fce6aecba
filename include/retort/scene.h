/* scene.h -- scenes in three dimensions: cameras, parameters, the differentiable renderer R(theta, c) of (1.24)-(1.29), files.
 *
 *     rt_scene_spec spec = rt_scene_defaults(RT_SCENE_GRID);
 *     rt_params *set = rt_params_new("scene", RT_F32);
 *     RT_TRY(rt_scene_declare(&spec, set, err));                          // one entry, see below
 *     RT_TRY(rt_scene_init(&spec, set, RT_SCENE_BLOB, seed, err));
 *     rt_scene_nodes r = rt_scene_build(&spec, set, g, rays, particle, background);
 *
 * Conventions. The world is right-handed, z up; a scene is the box [-1,1]^3 and an object's front looks along +x. Cameras have OpenGL's axes (right, up,
 * backward). Nodes lie on the box's faces and between them: node i of n at -1 + 2 i/(n-1). A sample is interpolated between its eight nodes first, activated
 * then: density sigma = softplus(raw + density_bias)/cell with cell = 2/(most nodes of a side - 1), colour 1/(1 + e^-raw). With S samples at
 * t_k = near + (k + xi) delta, delta = (far - near)/S, between the ray's entry into the box and its exit,
 *
 *     w_k = exp(-sum_{j<k} sigma_j delta) - exp(-sum_{j<=k} sigma_j delta)
 *     colour = sum_k w_k c_k + (1 - alpha) background      alpha = sum_k w_k      depth = sum_k w_k t_k
 *
 * There is no early stop and no threshold, so that gradients are exact. docs/scenes.md says more. */
#ifndef RETORT_SCENE_H
#define RETORT_SCENE_H

#include "retort/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- cameras ------------------------------------------------------------------------------------------------------------------------ */

enum { RT_VIEW_WORD = 32 };

typedef struct rt_camera {
    double c2w[16];    /* camera to world, rows; columns right, up, backward, position */
    double fovx, fovy; /* field of view in radians, across and upright; pixels are square, so fovy counts where it is not 0, else fovx */
    int label;         /* of a teacher that is asked by labels: the camera's number in its file, unless the file says */
    char view[RT_VIEW_WORD]; /* in words, "front view"; "" where nothing is said */
} rt_camera;

/* A camera on a sphere round the origin, which it looks at: azimuth from +x towards +y, elevation (-89 to 89), fovy in degrees, distance in half sides of the box.
 * Its view in words: overhead from 40 degrees of elevation on, else front and back within 37.5 degrees of azimuth 0 and 180, else side. label is 0. */
rt_camera rt_camera_orbit(double azimuth, double elevation, double distance, double fovy);

typedef struct rt_cameras {
    int n;
    rt_camera *at;
} rt_cameras;
/* NeRF's transforms.json: camera_angle_x or camera_angle_y (radians; y counts where both stand), frames[] of transform_matrix (4x4, or the upper 3x4), and,
 * where they stand, label (a whole number) and view (a word or more). RT_E_INVALID names file, frame, field and remedy: matrices that are not rotations and
 * a position, more than 65536 frames. */
rt_status rt_cameras_open(rt_cameras *cameras, const char *path, rt_error *err);
void rt_cameras_free(rt_cameras *cameras); /* leaves *cameras zeroed */

/* A ray: origin (3), direction (3) of length 1, near, far, and xi in 0..1, the place of all its samples within their stretches. near = far = 0: it misses. */
enum { RT_RAY = 9 };
/* The rays of a picture of h x w pixels, row 0 on top: [h w][RT_RAY] numbers of RT_F32 or RT_F64. `jitter` [h w]: xi; NULL: 1/2. */
void rt_camera_rays(const rt_camera *camera, int h, int w, const double *jitter, rt_dtype dtype, void *rays);
/* The ray from a point through another one, xi 1/2. */
void rt_ray_towards(const double origin[3], const double point[3], rt_dtype dtype, void *ray);

/* ---- scenes ------------------------------------------------------------------------------------------------------------------------- */

/* What the parameters are: pictures themselves, R being the identity (for tests, and for pictures in two dimensions), or a volume. */
typedef enum rt_scene_kind { RT_SCENE_IMAGE, RT_SCENE_GRID, RT_SCENE_KINDS } rt_scene_kind;
/* Row i of `retort list scenes`; false past the last. */
bool rt_scene_kind_describe(int i, rt_row_text *row);

/* What is behind a volume. RANDOM: an input of the graph, grey where there is none. ALPHA: nothing; pictures have four channels, colour times coverage, and
 * coverage. */
typedef enum rt_background { RT_WHITE, RT_BLACK, RT_GREY, RT_RANDOM, RT_ALPHA, RT_BACKGROUNDS } rt_background;
const char *rt_background_name(rt_background b);                                 /* "white", ... */
rt_status rt_background_find(rt_background *b, const char *name, rt_error *err); /* RT_E_USAGE: none is called so */

/* Ranges from which cameras are drawn, as rt_camera_orbit takes them. */
typedef struct rt_orbit {
    double azimuth[2], elevation[2], distance[2], fovy[2];
} rt_orbit;

typedef struct rt_scene_spec {
    rt_scene_kind kind;
    int particles;       /* scenes that are trained together, 1 to 64 */
    int nodes[3];        /* GRID: along z, y, x, 2 to 512 each */
    int samples;         /* GRID: per ray, 1 to 1024 */
    double density_bias; /* GRID */
    int channels;        /* IMAGE: of a picture, 1 to 16; a volume's follow from the background: rt_scene_channels */
    int height, width;   /* of pictures, 1 to 4096 */
    rt_background background;
    double low, high; /* the model's range: 0..1 is mapped to it, of all channels */
    rt_orbit orbit;
} rt_scene_spec;

/* 1 particle, 32 nodes a side, 64 samples, density bias -1, 3 channels, 32x32, white, -1..1, azimuth 0..360, elevation 0..55, distance 3.2, fovy 36. */
rt_scene_spec rt_scene_defaults(rt_scene_kind kind);
/* RT_E_USAGE says which number is out of its range. */
rt_status rt_scene_check(const rt_scene_spec *spec, rt_error *err);
int rt_scene_channels(const rt_scene_spec *spec); /* of pictures: 4 with RT_ALPHA, else 3; IMAGE: spec->channels */

/* Adds the scene's one entry to the set: "grid" (P,D,H,W,4), raw density and raw colour of every node, or "image" (P,C,H,W), in the model's range. */
rt_status rt_scene_declare(const rt_scene_spec *spec, rt_params *set, rt_error *err);

/* How it starts. BLOB: raw density 1.5 max(1 - r/0.6, -3) at radius r, raw colour 0.1 times normal numbers. EMPTY: raw density -6, colour likewise. ROUGH: the
 * blob's density, to which 2, and colour, to which 1 times a field of normal numbers on 4^3 nodes is added, smooth between them. A picture: the middle of the
 * range; 0.1 (BLOB) or 1 (ROUGH) times half of it times normal numbers are added. Draws differ from particle to particle. */
typedef enum rt_scene_start { RT_SCENE_BLOB, RT_SCENE_EMPTY, RT_SCENE_ROUGH, RT_SCENE_STARTS } rt_scene_start;
const char *rt_scene_start_name(rt_scene_start s); /* "blob", "empty", "rough"; NULL for others */
rt_status rt_scene_init(const rt_scene_spec *spec, rt_params *set, rt_scene_start start, uint64_t seed, rt_error *err);

/* Values of one scene resampled to another's nodes; particle p of `to` is particle p modulo the number of them in `from`. Density is per cell, so that
 * softplus(raw' + bias') = softplus(raw + bias) cell'/cell: opacities stay what they are. Averages and moments of `to` are as they were: start them anew.
 * Pictures must have one size. */
rt_status rt_scene_resample(const rt_scene_spec *to_spec, rt_params *to, const rt_scene_spec *from_spec, rt_params *from, rt_error *err);

/* ---- the renderer as nodes ---------------------------------------------------------------------------------------------------------- */

typedef struct rt_scene_nodes {
    rt_node *picture; /* (B,C,H,W) in low..high */
    rt_node *alpha;   /* (B,1,H,W) in 0..1; IMAGE: NULL */
    rt_node *depth;   /* (B,1,H,W), not divided by alpha; IMAGE: NULL */
} rt_scene_nodes;

/* Renders B pictures, differentiable in the set's entry and in the background. rays (B,H W,RT_RAY) as rt_camera_rays makes them, of the graph's real type;
 * IMAGE: NULL. particle (B) I64: whose picture it is, below spec->particles; NULL: the first one's. background (B,3) in 0..1: asked for with RT_RANDOM, else
 * NULL. Inputs of the graph, constants or draws, as the caller likes. Nothing is differentiated with respect to rays. */
rt_scene_nodes rt_scene_build(const rt_scene_spec *spec, rt_params *set, rt_graph *g, rt_node *rays, rt_node *particle,
                              rt_node *background);
/* w_k of every sample, (B,H W,S); of simple rows. */
rt_node *rt_scene_weights(const rt_scene_spec *spec, rt_params *set, rt_graph *g, rt_node *rays, rt_node *particle);

/* Terms of a loss, rank 0. smooth: the mean squared difference of raw values that are neighbours along an axis, summed over the axes (of a picture: y, x).
 * entropy: -a ln a - (1-a) ln(1-a) of alpha, kept 1e-6 away from 0 and 1, summed over the pixels, mean over the batch. sparse: the mean of alpha. */
rt_node *rt_scene_smooth(const rt_scene_spec *spec, rt_params *set, rt_graph *g);
rt_node *rt_scene_entropy(rt_node *alpha);
rt_node *rt_scene_sparse(rt_node *alpha);

/* ---- on the host -------------------------------------------------------------------------------------------------------------------- */

/* Pictures of one particle from n cameras, of the size, background and range that the spec says (change those in a copy): x [n][C][H][W], and of volumes alpha
 * and depth [n][H][W], weights [n][H][W][S]; NULL: not wanted. A picture's scene gives the same picture for every camera. threads 0: rt_default_threads().
 * A set of RT_F64 is rendered in double. */
rt_status rt_scene_pictures(const rt_scene_spec *spec, rt_params *set, int particle, const rt_camera *cameras, int64_t n, int threads,
                            float *x, float *alpha, float *depth, float *weights, rt_error *err);

/* Colours at points that two cameras see. A pixel of camera a with alpha >= 0.95 ends at the point p = o_a + (depth_a/alpha_a) d_a. For every other camera b in whose picture p
 * lies, the ray from o_b through p is rendered. b does not see p where alpha_b < 0.95, or where something stands before p: depth_b/alpha_b < |p - o_b| - half a cell, which is
 * 1/(most nodes of a side - 1). Where b looks through p it sees another colour, as in fog, and that counts. */
typedef struct rt_seen_twice {
    double rms;       /* root of the mean over those of |colour_b/alpha_b - colour_a/alpha_a|^2 / 3, colours in 0..1; NaN: there are none */
    int64_t pixels;   /* pairs of a pixel of a and a camera b that has its point in its picture */
    int64_t compared; /* of them, those where b sees the point */
    int cameras;      /* at most 24, of more an even choice */
} rt_seen_twice;
/* Pictures are of the spec's size. RT_E_USAGE: the scene is a picture. threads as above. */
rt_status rt_scene_seen_twice(const rt_scene_spec *spec, rt_params *set, int particle, const rt_camera *cameras, int64_t n, int threads,
                              rt_seen_twice *out, rt_error *err);

/* ---- files -------------------------------------------------------------------------------------------------------------------------- */

typedef struct rt_scene {
    rt_scene_spec spec;
    rt_params *set;
    char *recipe; /* JSON: what stands in `_retort`; "{}" where nothing does */
} rt_scene;

/* From a folder that holds scene.json and scene.safetensors (density [P,D,H,W] and colour [P,3,D,H,W], or image [P,C,H,W]), or from a run, which holds them in
 * scene/. RT_E_INVALID names file, field, value and remedy. */
rt_status rt_scene_open(rt_scene **scene, const char *path, rt_error *err);
void rt_scene_free(rt_scene *scene);
/* Writes both files into a folder, which is made; each appears whole. `recipe` as above, NULL: "{}". role: RT_VALUE or RT_AVERAGE. */
rt_status rt_scene_write(const char *folder, const rt_scene_spec *spec, const rt_params *set, rt_role role, const char *recipe,
                         rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
