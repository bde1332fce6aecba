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

/* `at`: where the four views begin and the last ends. */
static json_t *document(const size_t at[5], size_t vertices, const float *positions)
{
    float low[3], high[3];
    for (size_t k = 0; k < 3; k++) {
        low[k] = high[k] = positions[k];
        for (size_t i = 1; i < vertices; i++) {
            low[k] = fminf(low[k], positions[3 * i + k]);
            high[k] = fmaxf(high[k], positions[3 * i + k]);
        }
    }
    json_int_t offset[5], size[4], n = (json_int_t)vertices;
    for (int i = 0; i < 5; i++) offset[i] = (json_int_t)at[i];
    for (int i = 0; i < 4; i++) size[i] = offset[i + 1] - offset[i];
    return json_pack(
        "{s:{s:s, s:s}, s:i, s:[{s:[i]}], s:[{s:i}],"
        " s:[{s:[{s:{s:i, s:i, s:i}, s:i}]}],"
        " s:[{s:{s:{s:i}, s:i, s:i}, s:{s:{}}}], s:[s],"
        " s:[{s:i, s:i}], s:[{s:i, s:s}], s:[{s:i, s:i, s:i, s:i}],"
        " s:[{s:i, s:i, s:I, s:s, s:[f,f,f], s:[f,f,f]}, {s:i, s:i, s:I, s:s}, {s:i, s:i, s:I, s:s}],"
        " s:[{s:i, s:I, s:I, s:i}, {s:i, s:I, s:I, s:i}, {s:i, s:I, s:I, s:i}, {s:i, s:I, s:I}], s:[{s:I}]}",
        "asset", "version", "2.0", "generator", "Retort", "scene", 0, "scenes", "nodes", 0, "nodes", "mesh", 0, /**/
        "meshes", "primitives", "attributes", "POSITION", 0, "NORMAL", 1, "TEXCOORD_0", 2, "material", 0,       /**/
        "materials", "pbrMetallicRoughness", "baseColorTexture", "index", 0, "metallicFactor", 0, "roughnessFactor", 1, "extensions",
        "KHR_materials_unlit", "extensionsUsed", "KHR_materials_unlit", /**/
        "textures", "sampler", 0, "source", 0, "images", "bufferView", 3, "mimeType", "image/png", "samplers", "magFilter", LINEAR,
        "minFilter", LINEAR, "wrapS", CLAMP_TO_EDGE, "wrapT", CLAMP_TO_EDGE, /**/
        "accessors", "bufferView", 0, "componentType", FLOAT, "count", n, "type", "VEC3", "min", (double)low[0], (double)low[1],
        (double)low[2], "max", (double)high[0], (double)high[1], (double)high[2], "bufferView", 1, "componentType", FLOAT, "count", n,
        "type", "VEC3", "bufferView", 2, "componentType", FLOAT, "count", n, "type", "VEC2", /**/
        "bufferViews", "buffer", 0, "byteOffset", offset[0], "byteLength", size[0], "target", ARRAY_BUFFER, "buffer", 0, "byteOffset",
        offset[1], "byteLength", size[1], "target", ARRAY_BUFFER, "buffer", 0, "byteOffset", offset[2], "byteLength", size[2], "target",
        ARRAY_BUFFER, "buffer", 0, "byteOffset", offset[3], "byteLength", size[3], "buffers", "byteLength", offset[4]);
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
    json_t *json = NULL;
    rt_status status = values ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
    if (at[4] > UINT32_MAX / 2)
        status = rt_error_set(err, RT_E_INVALID, "the surface takes more than 2 GiB, which readers of the format refuse; take fewer nodes");
    if (status == RT_OK) {
        each_vertex(m, m->positions, values);
        each_vertex(m, m->normals, values + 3 * n);
        for (int64_t t = 0; t < m->n_triangles; t++) {
            float uv[3][2];
            rt__atlas_corners(&a, t, uv);
            memcpy(values + 6 * n + 6 * (size_t)t, uv, sizeof uv);
        }
        json = document(at, n, values);
        char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
        status = text ? write(path, text, values, count, &a, err) : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", path);
        free(text);
    }
    json_decref(json);
    free(values);
    rt__atlas_free(&a);
    return status;
}
