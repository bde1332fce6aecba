/* atlas.h -- the colours of a mesh as a picture: a square of texels for every two triangles. */
#ifndef RT_MESH_ATLAS_H
#define RT_MESH_ATLAS_H

#include "base/internal.h"
#include "retort/mesh.h"

typedef struct rt__atlas {
    int width, height, columns; /* texels, texels, squares */
    uint8_t *png;               /* RGB, owned */
    size_t size;
} rt__atlas;

rt_status rt__atlas_make(rt__atlas *a, const rt_mesh *m, const rt_volume *v, rt_error *err);
/* Where the corners of a triangle lie in the picture: from the left, from the top, in 0..1. */
void rt__atlas_corners(const rt__atlas *a, int64_t triangle, float uv[3][2]);
void rt__atlas_free(rt__atlas *a);

/* The axes of viewers: y up, z towards the viewer, from the world's. */
static inline void rt__y_up(const float world[3], float out[3]) { out[0] = world[1], out[1] = world[2], out[2] = world[0]; }

#endif
