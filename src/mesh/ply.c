/* ply.c -- Stanford's format, binary and little-endian: a mesh with colours of vertices, or Gaussians. */
#include "base/files.h"
#include "base/internal.h"
#include "retort/mesh.h"

#include <math.h>
#include <string.h>

static void put_floats(FILE *f, const float *values, size_t n) { fwrite(values, sizeof *values, n, f); }

rt_status rt_ply_write(const char *path, const rt_mesh *m, rt_error *err)
{
    rt__file f;
    RT_TRY(rt__file_begin(&f, path, err));
    fprintf(f.stream,
            "ply\nformat binary_little_endian 1.0\ncomment Retort: z is up, the front looks along +x\n"
            "element vertex %lld\nproperty float x\nproperty float y\nproperty float z\n"
            "property float nx\nproperty float ny\nproperty float nz\n"
            "property uchar red\nproperty uchar green\nproperty uchar blue\n"
            "element face %lld\nproperty list uchar int vertex_indices\nend_header\n",
            (long long)m->n_vertices, (long long)m->n_triangles);
    for (int64_t i = 0; i < m->n_vertices; i++) {
        uint8_t rgb[3];
        for (int k = 0; k < 3; k++) rgb[k] = (uint8_t)lrintf(255 * m->colours[i][k]);
        put_floats(f.stream, m->positions[i], 3);
        put_floats(f.stream, m->normals[i], 3);
        fwrite(rgb, 1, 3, f.stream);
    }
    for (int64_t t = 0; t < m->n_triangles; t++) {
        fputc(3, f.stream);
        fwrite(m->triangles[t], sizeof *m->triangles, 1, f.stream);
    }
    return rt__file_commit(&f, err);
}

/* Numbers of a Gaussian, in the order of the file: position, normal (none), colour, opacity, deviations, rotation (none). */
enum { X, NX = 3, DC = 6, OPACITY = 9, SCALE = 10, ROTATION = 13, NUMBERS = 17 };
static const double SH_0 = 0.28209479177387814; /* 1 / (2 sqrt(pi)): the constant spherical harmonic */

static void fill(const rt_volume *v, int z, int y, int x, float out[NUMBERS])
{
    size_t n = (size_t)v->nodes[0] * (size_t)v->nodes[1] * (size_t)v->nodes[2];
    size_t i = ((size_t)z * (size_t)v->nodes[1] + (size_t)y) * (size_t)v->nodes[2] + (size_t)x;
    const double spacing[3] = {2.0 / (v->nodes[2] - 1), 2.0 / (v->nodes[1] - 1), 2.0 / (v->nodes[0] - 1)}; /* x, y, z */
    const double world[3] = {-1 + x * spacing[0], -1 + y * spacing[1], -1 + z * spacing[2]};
    const int from[3] = {1, 2, 0}; /* y, -z, -x */
    memset(out, 0, NUMBERS * sizeof *out);
    for (int k = 0; k < 3; k++) {
        out[X + k] = (float)(k == 0 ? world[from[k]] : -world[from[k]]);
        out[SCALE + k] = (float)log(spacing[from[k]] / sqrt(2 * M_PI));
        out[DC + k] = (float)((1 / (1 + exp(-(double)v->colour[(size_t)k * n + i])) - 0.5) / SH_0);
    }
    out[OPACITY] = (float)((double)v->density[i] + v->density_bias); /* the logit of the opacity per cell */
    out[ROTATION] = 1;
}

rt_status rt_splats_write(const char *path, const rt_volume *v, double least, int64_t *n, rt_error *err)
{
    static const char *const names[NUMBERS] = {"x",       "y",       "z",       "nx",      "ny",    "nz",    "f_dc_0", "f_dc_1", "f_dc_2",
                                               "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2",  "rot_3"};
    if (!(least > 0 && least < 1)) RT_RAISE(RT_E_USAGE, "level: %g; must lie between 0 and 1", least);
    RT_TRY(rt_volume_check(v, err));
    float threshold = (float)(log(least / (1 - least)) - v->density_bias);
    int64_t all = (int64_t)v->nodes[0] * v->nodes[1] * v->nodes[2];
    *n = 0;
    for (int64_t i = 0; i < all; i++) *n += v->density[i] >= threshold;
    if (*n == 0)
        RT_RAISE(RT_E_INVALID, "nothing shows: the largest opacity of a cell is %.3g, below the level %g; take a --level below it",
                 rt_volume_opacity(v), least);
    rt__file f;
    RT_TRY(rt__file_begin(&f, path, err));
    fprintf(f.stream, "ply\nformat binary_little_endian 1.0\nelement vertex %lld\n", (long long)*n);
    for (int k = 0; k < NUMBERS; k++) fprintf(f.stream, "property float %s\n", names[k]);
    fprintf(f.stream, "end_header\n");
    int64_t i = 0;
    for (int z = 0; z < v->nodes[0]; z++)
        for (int y = 0; y < v->nodes[1]; y++)
            for (int x = 0; x < v->nodes[2]; x++, i++) {
                float numbers[NUMBERS];
                if (!(v->density[i] >= threshold)) continue;
                fill(v, z, y, x, numbers);
                put_floats(f.stream, numbers, NUMBERS);
            }
    return rt__file_commit(&f, err);
}
