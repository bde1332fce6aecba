/* mesh.h -- a volume of density and colour as things that other programs open: its surface as a mesh (GLB, OBJ, PLY), its nodes as Gaussians.
 *
 *     rt_mesh m;
 *     RT_TRY(rt_mesh_surface(&m, &volume, 0.5, 0, err));
 *     RT_TRY(rt_glb_write("chair.glb", &m, &volume, err));
 *     rt_mesh_free(&m);
 *
 * The world is right-handed, z up, the front along +x, the volume is the box [-1,1]^3. Files appear complete or not at all, equal bytes for equal arguments. */
#ifndef RETORT_MESH_H
#define RETORT_MESH_H

#include "retort/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raw values on nodes, whose first and last lie on the faces of the box: between them they are interpolated trilinearly, then opacity per cell is
 * 1/(1 + e^-(density + density_bias)) and colour 1/(1 + e^-colour). (That opacity is 1 - exp(-softplus(density + density_bias)): of a cell's length of this density.) */
typedef struct rt_volume {
    int nodes[3];         /* D, H, W: along z, y, x; at least 2 each */
    const float *density; /* [D,H,W] */
    const float *colour;  /* [3,D,H,W] */
    double density_bias;
} rt_volume;

/* RT_E_INVALID: fewer than 2 nodes along an axis, or a value that is NaN or infinite. */
rt_status rt_volume_check(const rt_volume *v, rt_error *err);
double rt_volume_opacity(const rt_volume *v); /* the largest, per cell */
void rt_volume_colour(const rt_volume *v, const double position[3],
                      double colour[3]); /* red, green, blue in 0..1; beyond the box as on its nearest face */

/* Triangles turn counterclockwise seen from outside. Components, pieces that hang together, stand one after the other, the one of largest area first. */
typedef struct rt_mesh {
    int64_t n_vertices, n_triangles;
    float (*positions)[3]; /* x, y, z */
    float (*normals)[3];   /* of unit length, outwards */
    float (*colours)[3];   /* red, green, blue in 0..1 */
    int32_t (*triangles)[3];
    int n_components, all_components; /* in the mesh; in the volume */
    double area, volume;              /* volume: what it encloses, hollows subtracted */
} rt_mesh;

/* The surface where the opacity per cell is `level`, in (0, 1), by marching cubes: closed, also where the inside touches the box's faces, every edge between
 * two triangles that agree on the outside. Faces of cells with two inside corners at opposite ends are decided as the interpolant runs (Nielson and Hamann 1991).
 * Normals follow the density's gradient. At most `components` components; 0: all.
 * RT_E_INVALID: nothing is as opaque as `level`, with the largest opacity. *m must be freed, also after a failure. */
rt_status rt_mesh_surface(rt_mesh *m, const rt_volume *v, double level, int components, rt_error *err);
void rt_mesh_free(rt_mesh *m);

/* glTF 2.0, binary: (x,y,z) goes to (y,z,x), so that y is up and the front looks along +z. The colours are a texture, an atlas with a small square for every two
 * triangles, filled from the volume: viewers show colours of vertices seldom, textures always. KHR_materials_unlit; metallic 0, rough 1 for who does not know that. */
rt_status rt_glb_write(const char *path, const rt_mesh *m, const rt_volume *v, rt_error *err);
/* Wavefront: `path` ends in .obj; the same axes and texture, with the names of `path` in .mtl and .png beside it. */
rt_status rt_obj_write(const char *path, const rt_mesh *m, const rt_volume *v, rt_error *err);
/* Stanford, binary, little-endian: vertices with normals and colours in bytes; the world's axes, z up. */
rt_status rt_ply_write(const char *path, const rt_mesh *m, rt_error *err);

/* A Gaussian for every node of at least `least` opacity, in the PLY of 3D Gaussian splatting (Kerbl et al. 2023): y down, (x,y,z) goes to (y,-z,-x), so that the
 * front looks at a camera that looks along +z. Deviation: the nodes' distance / sqrt(2 pi), with which a layer of nodes has, on average, the opacity of the nodes.
 * *n: how many. RT_E_INVALID: none, with the largest opacity. */
rt_status rt_splats_write(const char *path, const rt_volume *v, double least, int64_t *n, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
