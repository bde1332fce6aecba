/* obj.c -- a mesh as Wavefront's text: NAME.obj, NAME.mtl and NAME.png, the first written last. */
#include "base/files.h"
#include "mesh/atlas.h"

#include <stdlib.h>
#include <string.h>

/* `path` with another ending in place of .obj. */
static rt_status beside(const char *path, const char *ending, char out[1024], rt_error *err)
{
    int stem = (int)strlen(path) - 4;
    if (snprintf(out, 1024, "%.*s%s", stem, path, ending) < 1024) return RT_OK;
    RT_RAISE(RT_E_USAGE, "%s: the path is longer than 1023 bytes", path);
}

static const char *last_part(const char *path) { return strrchr(path, '/') ? strrchr(path, '/') + 1 : path; }

static rt_status write_material(const char *path, const char *picture, rt_error *err)
{
    rt__file f;
    RT_TRY(rt__file_begin(&f, path, err));
    fprintf(f.stream, "newmtl surface\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd %s\n", last_part(picture));
    return rt__file_commit(&f, err);
}

static rt_status write_triangles(const char *path, const char *material, const rt_mesh *m, const rt__atlas *a, rt_error *err)
{
    rt__file f;
    RT_TRY(rt__file_begin(&f, path, err));
    fprintf(f.stream, "# Retort: y is up, the front looks along +z\nmtllib %s\no scene\n", last_part(material));
    float p[3];
    for (int64_t i = 0; i < m->n_vertices; i++) {
        rt__y_up(m->positions[i], p);
        fprintf(f.stream, "v %.7g %.7g %.7g\n", (double)p[0], (double)p[1], (double)p[2]);
    }
    for (int64_t i = 0; i < m->n_vertices; i++) {
        rt__y_up(m->normals[i], p);
        fprintf(f.stream, "vn %.4f %.4f %.4f\n", (double)p[0], (double)p[1], (double)p[2]);
    }
    for (int64_t t = 0; t < m->n_triangles; t++) {
        float uv[3][2];
        rt__atlas_corners(a, t, uv);
        for (int i = 0; i < 3; i++) fprintf(f.stream, "vt %.7g %.7g\n", (double)uv[i][0], 1 - (double)uv[i][1]); /* from below */
    }
    fprintf(f.stream, "usemtl surface\n");
    for (int64_t t = 0; t < m->n_triangles; t++) {
        fputc('f', f.stream);
        for (int i = 0; i < 3; i++) {
            long long v = m->triangles[t][i] + 1LL, vt = 3 * t + i + 1;
            fprintf(f.stream, " %lld/%lld/%lld", v, vt, v);
        }
        fputc('\n', f.stream);
    }
    return rt__file_commit(&f, err);
}

rt_status rt_obj_write(const char *path, const rt_mesh *m, const rt_volume *v, rt_error *err)
{
    char material[1024], picture[1024];
    rt__atlas a;
    RT_TRY(beside(path, ".mtl", material, err));
    RT_TRY(beside(path, ".png", picture, err));
    RT_TRY(rt__atlas_make(&a, m, v, err));
    rt_status status = rt__file_write(picture, a.png, a.size, err);
    if (status == RT_OK) status = write_material(material, picture, err);
    if (status == RT_OK) status = write_triangles(path, material, m, &a, err);
    rt__atlas_free(&a);
    return status;
}
