/* glb.c -- a mesh as glTF 2.0 in one file: a header, a chunk of JSON, a chunk of bytes
 *
 *     positions | normals | texture coordinates | PNG        three vertices of its own for each triangle: its place in the atlas is its own
 */
#include "base/files.h"
#include "mesh/atlas.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FLOAT = 5126, ARRAY_BUFFER = 34962, LINEAR = 9729, CLAMP_TO_EDGE = 33071 };

static void each_vertex(const rt_mesh *m, float (*values)[3], float *out)
{
    for (int64_t t = 0; t < m->n_triangles; t++)
        for (int i = 0; i < 3; i++) rt__y_up(values[m->triangles[t][i]], out + 9 * t + 3 * i);
}

static json_t *view(size_t offset, size_t size, bool vertices)
{
    json_t *o = json_pack("{s:i, s:I, s:I}", "buffer", 0, "byteOffset", (json_int_t)offset, "byteLength", (json_int_t)size);
    if (vertices) json_object_set_new(o, "target", json_integer(ARRAY_BUFFER));
    return o;
}

static json_t *accessor(int index, size_t n, const char *type)
{
    return json_pack("{s:i, s:i, s:I, s:s}", "bufferView", index, "componentType", FLOAT, "count", (json_int_t)n, "type", type);
}

/* The whole document but the positions' bounds. `at`: where the four views begin and the last ends. */
static json_t *document(const size_t at[5], size_t vertices)
{
    json_t *views = json_array(), *accessors = json_array();
    for (int i = 0; i < 4; i++) json_array_append_new(views, view(at[i], at[i + 1] - at[i], i < 3));
    json_array_append_new(accessors, accessor(0, vertices, "VEC3"));
    json_array_append_new(accessors, accessor(1, vertices, "VEC3"));
    json_array_append_new(accessors, accessor(2, vertices, "VEC2"));
    return json_pack("{s:{s:s, s:s}, s:i, s:[{s:[i]}], s:[{s:i}],"
                     " s:[{s:[{s:{s:i, s:i, s:i}, s:i}]}],"
                     " s:[{s:{s:{s:i}, s:i, s:i}, s:{s:{}}}], s:[s],"
                     " s:[{s:i, s:i}], s:[{s:i, s:s}], s:[{s:i, s:i, s:i, s:i}],"
                     " s:[{s:I}], s:o, s:o}",
                     "asset", "version", "2.0", "generator", "Retort", "scene", 0, "scenes", "nodes", 0, "nodes", "mesh", 0, /**/
                     "meshes", "primitives", "attributes", "POSITION", 0, "NORMAL", 1, "TEXCOORD_0", 2, "material", 0,       /**/
                     "materials", "pbrMetallicRoughness", "baseColorTexture", "index", 0, "metallicFactor", 0, "roughnessFactor", 1,
                     "extensions", "KHR_materials_unlit", "extensionsUsed", "KHR_materials_unlit", /**/
                     "textures", "sampler", 0, "source", 0, "images", "bufferView", 3, "mimeType", "image/png", "samplers", "magFilter",
                     LINEAR, "minFilter", LINEAR, "wrapS", CLAMP_TO_EDGE, "wrapT", CLAMP_TO_EDGE, /**/
                     "buffers", "byteLength", (json_int_t)at[4], "bufferViews", views, "accessors", accessors);
}

static void put_bounds(json_t *json, const float *positions, size_t n)
{
    json_t *least = json_array(), *most = json_array(), *of = json_array_get(json_object_get(json, "accessors"), 0);
    for (size_t k = 0; k < 3; k++) {
        float low = positions[k], high = positions[k];
        for (size_t i = 0; i < n; i++) low = fminf(low, positions[3 * i + k]), high = fmaxf(high, positions[3 * i + k]);
        json_array_append_new(least, json_real((double)low));
        json_array_append_new(most, json_real((double)high));
    }
    json_object_set_new(of, "min", least);
    json_object_set_new(of, "max", most);
}

static void put_u32(FILE *f, size_t value)
{
    uint32_t word = (uint32_t)value;
    fwrite(&word, sizeof word, 1, f);
}

static size_t whole(size_t n) { return (n + 3) / 4 * 4; }

/* Both chunks are padded to multiples of 4: JSON with spaces, bytes with zeros. */
static rt_status write(const char *path, const char *json, const float *values, size_t count, const rt__atlas *a, rt_error *err)
{
    static const char padding[2][4] = {"   ", {0}};
    size_t text = strlen(json), bytes = count * sizeof *values + a->size;
    rt__file f;
    RT_TRY(rt__file_begin(&f, path, err));
    fwrite("glTF", 1, 4, f.stream);
    put_u32(f.stream, 2);
    put_u32(f.stream, 12 + 8 + whole(text) + 8 + whole(bytes));
    put_u32(f.stream, whole(text));
    fwrite("JSON", 1, 4, f.stream);
    fwrite(json, 1, text, f.stream);
    fwrite(padding[0], 1, whole(text) - text, f.stream);
    put_u32(f.stream, whole(bytes));
    fwrite("BIN", 1, 4, f.stream); /* with its NUL */
    fwrite(values, sizeof *values, count, f.stream);
    fwrite(a->png, 1, a->size, f.stream);
    fwrite(padding[1], 1, whole(bytes) - bytes, f.stream);
    return rt__file_commit(&f, err);
}

rt_status rt_glb_write(const char *path, const rt_mesh *m, const rt_volume *v, rt_error *err)
{
    rt__atlas a;
    RT_TRY(rt__atlas_make(&a, m, v, err));
    size_t n = 3 * (size_t)m->n_triangles, count = 8 * n, at[5] = {0, 12 * n, 24 * n, 32 * n, 32 * n + a.size};
    float *values = malloc(count * sizeof *values);
    json_t *json = document(at, n);
    rt_status status = RT_OK;
    if (at[4] > UINT32_MAX / 2)
        status = rt_error_set(err, RT_E_INVALID, "the surface takes more than 2 GiB, which readers of the format refuse; take fewer nodes");
    if (status == RT_OK && (!values || !json)) status = rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    if (status == RT_OK) {
        each_vertex(m, m->positions, values);
        each_vertex(m, m->normals, values + 3 * n);
        for (int64_t t = 0; t < m->n_triangles; t++) {
            float uv[3][2];
            rt__atlas_corners(&a, t, uv);
            memcpy(values + 6 * n + 6 * (size_t)t, uv, sizeof uv);
        }
        put_bounds(json, values, n);
        char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
        status = text ? write(path, text, values, count, &a, err) : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
        free(text);
    }
    json_decref(json);
    free(values);
    rt__atlas_free(&a);
    return status;
}
