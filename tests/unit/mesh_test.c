/* mesh_test.c -- surfaces against closed forms, closedness of surfaces of noise, and the files, read back. */
#include "base/internal.h"
#include "retort/mesh.h"

#include <jansson.h>
#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

typedef double (*shape)(double x, double y, double z); /* positive inside */

static rt_volume volume_of(shape inside, int depth, int height, int width)
{
    size_t n = (size_t)depth * (size_t)height * (size_t)width, i = 0;
    float *density = malloc(n * sizeof *density), *colour = malloc(3 * n * sizeof *colour);
    for (int z = 0; z < depth; z++)
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++, i++) {
                double p[3] = {-1 + 2.0 * x / (width - 1), -1 + 2.0 * y / (height - 1), -1 + 2.0 * z / (depth - 1)};
                density[i] = (float)(20 * inside(p[0], p[1], p[2]) + 1); /* with the bias of -1: opacity 1/2 where inside is 0 */
                for (size_t c = 0; c < 3; c++) colour[c * n + i] = (float)(3 * p[c]);
            }
    return (rt_volume){.nodes = {depth, height, width}, .density = density, .colour = colour, .density_bias = -1};
}

static void volume_free(rt_volume *v)
{
    free((void *)(uintptr_t)v->density);
    free((void *)(uintptr_t)v->colour);
}

static rt_mesh surface_of(const rt_volume *v, int components)
{
    rt_mesh m;
    rt_error err = {0};
    rt_status status = rt_mesh_surface(&m, v, 0.5, components, &err);
    if (status != RT_OK) print_message("%s\n", err.text);
    assert_int_equal(status, RT_OK);
    return m;
}

static int by_edge(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Every edge of a triangle is walked once in each direction, every vertex used, all normals of unit length. Returns Euler's number V - E + F. */
static int64_t check_closed(const rt_mesh *m)
{
    size_t n = 3 * (size_t)m->n_triangles;
    int64_t *there = malloc(n * sizeof *there), *back = malloc(n * sizeof *back);
    bool *used = calloc((size_t)m->n_vertices, sizeof *used);
    for (size_t t = 0; t < n / 3; t++)
        for (size_t i = 0; i < 3; i++) {
            int64_t a = m->triangles[t][i], b = m->triangles[t][(i + 1) % 3];
            assert_in_range(a, 0, m->n_vertices - 1);
            assert_int_not_equal(a, b);
            used[a] = true;
            there[3 * t + i] = a << 32 | b;
            back[3 * t + i] = b << 32 | a;
        }
    qsort(there, n, sizeof *there, by_edge);
    qsort(back, n, sizeof *back, by_edge);
    assert_memory_equal(there, back, n * sizeof *there);
    for (size_t i = 1; i < n; i++) assert_int_not_equal(there[i], there[i - 1]);
    for (int64_t i = 0; i < m->n_vertices; i++) {
        const float *u = m->normals[i];
        assert_true(used[i]);
        assert_true(fabsf(u[0] * u[0] + u[1] * u[1] + u[2] * u[2] - 1) < 1e-5f);
    }
    free(there);
    free(back);
    free(used);
    return m->n_vertices - (int64_t)n / 2 + m->n_triangles;
}

static double sphere(double x, double y, double z) { return 0.6 - sqrt(x * x + y * y + z * z); }
static double torus(double x, double y, double z)
{
    double ring = sqrt(x * x + y * y) - 0.6;
    return 0.25 - sqrt(ring * ring + z * z);
}
static double ball(double x, double y, double z, double at, double radius) { return radius - sqrt((x - at) * (x - at) + y * y + z * z); }
static double two_balls(double x, double y, double z) { return fmax(ball(x, y, z, -0.6, 0.2), ball(x, y, z, 0.3, 0.4)); }
static double shell(double x, double y, double z) { return fmin(sphere(x, y, z), -ball(x, y, z, 0, 0.3)); }
static double everywhere(double x, double y, double z) { return 1 + 0 * (x + y + z); }
static double slab(double x, double y, double z) { return 0.25 - fabs(z) + 0 * (x + y); }
static double nowhere(double x, double y, double z) { return -0.5 - 0.01 * (x * x + y * y + z * z); }

static void near(double got, double want, double relative)
{
    if (fabs(got - want) > relative * fabs(want)) fail_msg("%.9g, not %.9g to %g", got, want, relative);
}

static void a_sphere(void **state)
{
    (void)state;
    const double area = 4 * M_PI * 0.36, content = 4 * M_PI * 0.216 / 3;
    double off[2];
    for (int i = 0; i < 2; i++) {
        rt_volume v = volume_of(sphere, 25 << i, (25 << i) + 4, (25 << i) - 4); /* cells that are no cubes */
        rt_mesh m = surface_of(&v, 0);
        assert_int_equal(check_closed(&m), 2);
        assert_int_equal(m.n_components, 1);
        near(m.area, area, 0.01);
        near(m.volume, content, 0.02);
        off[i] = content - m.volume;
        for (int64_t k = 0; k < m.n_vertices; k++) {
            const float *p = m.positions[k], *u = m.normals[k], *c = m.colours[k];
            float radius = sqrtf(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]);
            assert_true(fabsf(radius - 0.6f) < 0.003f);
            assert_true((p[0] * u[0] + p[1] * u[1] + p[2] * u[2]) / radius > 0.995f);
            for (int axis = 0; axis < 3; axis++) near((double)c[axis], 1 / (1 + exp(-3 * (double)p[axis])), 1e-5);
        }
        rt_mesh_free(&m);
        volume_free(&v);
    }
    near(off[0] / off[1], 4, 0.15); /* of second order in the nodes' distance */
}

static void other_topologies(void **state)
{
    (void)state;
    rt_volume v = volume_of(torus, 40, 41, 42);
    rt_mesh m = surface_of(&v, 0);
    assert_int_equal(check_closed(&m), 0);
    near(m.volume, 2 * M_PI * M_PI * 0.6 * 0.0625, 0.02);
    near(m.area, 4 * M_PI * M_PI * 0.6 * 0.25, 0.01);
    rt_mesh_free(&m);
    volume_free(&v);

    v = volume_of(shell, 33, 33, 33);
    m = surface_of(&v, 0);
    assert_int_equal(check_closed(&m), 4);
    assert_int_equal(m.n_components, 2);
    near(m.volume, 4 * M_PI * (0.216 - 0.027) / 3, 0.02);
    rt_mesh_free(&m);
    volume_free(&v);
}

/* The larger ball comes first, although the other one begins at the lower node; one component alone is that ball. */
static void components(void **state)
{
    (void)state;
    rt_volume v = volume_of(two_balls, 33, 33, 33);
    rt_mesh both = surface_of(&v, 0), one = surface_of(&v, 1), many = surface_of(&v, 7);
    assert_int_equal(check_closed(&both), 4);
    assert_int_equal(check_closed(&one), 2);
    assert_int_equal(both.n_components, 2);
    assert_int_equal(many.n_components, 2);
    assert_int_equal(one.n_components, 1);
    assert_int_equal(one.all_components, 2);
    near(one.area, 4 * M_PI * 0.16, 0.02);
    assert_true(one.n_triangles < both.n_triangles);
    for (int64_t t = 0; t < both.n_triangles; t++) assert_true((both.positions[both.triangles[t][0]][0] > -0.2f) == (t < one.n_triangles));
    rt_mesh_free(&both);
    rt_mesh_free(&one);
    rt_mesh_free(&many);
    volume_free(&v);
}

/* What fills the box to its faces is closed there, with normals of the faces. */
static void at_the_faces(void **state)
{
    (void)state;
    rt_volume v = volume_of(everywhere, 5, 6, 7);
    rt_mesh m = surface_of(&v, 0);
    assert_int_equal(check_closed(&m), 2);
    near(m.volume, 8, 0.01);
    near(m.area, 24, 0.01);
    for (int64_t i = 0; i < m.n_vertices; i++)
        for (int k = 0; k < 3; k++) assert_true(m.normals[i][k] == 0 || m.normals[i][k] * m.positions[i][k] >= 1);
    rt_mesh_free(&m);
    volume_free(&v);

    v = volume_of(slab, 33, 4, 4);
    m = surface_of(&v, 0);
    assert_int_equal(check_closed(&m), 2);
    near(m.volume, 2, 0.01);
    rt_mesh_free(&m);
    volume_free(&v);
}

/* Noise meets every way in which a cell can be crossed. Values of few kinds meet nodes on the level and saddles on it. */
static void noise_is_closed(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        rt_volume v = volume_of(everywhere, 14, 15, 16);
        float *density = (float *)(uintptr_t)v.density;
        rt__draw draw = {.seed = seed, .name = rt__draw_name("noise")};
        double normal[4];
        for (uint32_t i = 0; i < 14 * 15 * 16; i++) {
            if (i % 4 == 0) rt__draw_normal(&draw, 0, i / 4, normal);
            density[i] = (float)(seed % 2 ? rint(normal[i % 4]) : normal[i % 4]) + 1;
        }
        rt_mesh m = surface_of(&v, 0);
        assert_int_equal(check_closed(&m) % 2, 0);
        assert_true(m.volume > 1 && m.volume < 7);
        rt_mesh_free(&m);
        volume_free(&v);
    }
}

/* A single cell with two inside corners at opposite ends of a face: joined where the product of the inside values is larger. */
static void ambiguous_faces(void **state)
{
    (void)state;
    for (int joined = 0; joined < 2; joined++) {
        rt_volume v = volume_of(nowhere, 2, 2, 2);
        float *density = (float *)(uintptr_t)v.density;
        for (int i = 0; i < 8; i++) density[i] = -4; /* 5 below the level, which is 1 */
        density[0] = density[3] = joined ? 7 : 5;    /* (0,0) and (1,1) of the face z = 0: 6 or 4 above */
        rt_mesh m = surface_of(&v, 0);
        assert_int_equal(m.n_components, joined ? 1 : 2);
        check_closed(&m);
        rt_mesh_free(&m);
        volume_free(&v);
    }
}

static void refused(void **state)
{
    (void)state;
    rt_error err = {0};
    rt_mesh m;
    rt_volume v = volume_of(nowhere, 5, 5, 5);
    assert_int_equal(rt_mesh_surface(&m, &v, 0.5, 0, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "the largest opacity of a cell is 4.54e-05")); /* 1/(1 + e^10) */
    rt_mesh_free(&m);
    err = (rt_error){0};
    int64_t n;
    assert_int_equal(rt_splats_write("/nowhere/x.splat.ply", &v, 0.5, &n, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "4.54e-05"));
    static const double levels[] = {0, 1, -1, NAN};
    for (size_t i = 0; i < RT_COUNT(levels); i++) {
        assert_int_equal(rt_mesh_surface(&m, &v, levels[i], 0, NULL), RT_E_USAGE);
        assert_int_equal(rt_splats_write("/nowhere/x.splat.ply", &v, levels[i], &n, NULL), RT_E_USAGE);
    }
    ((float *)(uintptr_t)v.density)[7] = NAN;
    err = (rt_error){0};
    assert_int_equal(rt_mesh_surface(&m, &v, 0.5, 0, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "density: nan at node 7"));
    ((float *)(uintptr_t)v.density)[7] = 0;
    ((float *)(uintptr_t)v.colour)[125 + 9] = INFINITY;
    err = (rt_error){0};
    assert_int_equal(rt_splats_write("/nowhere/x.splat.ply", &v, 0.5, &n, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "colour: inf at node 9"));
    v.nodes[1] = 1;
    assert_int_equal(rt_volume_check(&v, NULL), RT_E_INVALID);
    volume_free(&v);
}

/* ---- files */

static const char *path_of(const char *ending)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/retort-mesh-%d%s", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid(), ending);
    return path;
}

static char *read_and_remove(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *data = malloc(1 << 24);
    *size = fread(data, 1, (1 << 24) - 1, f);
    data[*size] = 0;
    fclose(f);
    unlink(path);
    return data;
}

static uint32_t word(const char *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static png_image decode(const void *data, size_t size, uint8_t **pixels)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_memory(&image, data, size));
    image.format = PNG_FORMAT_RGB;
    *pixels = malloc(PNG_IMAGE_SIZE(image));
    assert_true(png_image_finish_read(&image, NULL, *pixels, 0, NULL));
    return image;
}

/* Bilinear, u from the left, v from the top. */
static double texture(const png_image *image, const uint8_t *pixels, double u, double v, int channel)
{
    double x = u * image->width - 0.5, y = v * image->height - 0.5, sum = 0;
    for (int j = 0; j < 2; j++)
        for (int i = 0; i < 2; i++) {
            size_t column = (size_t)floor(x) + (size_t)i, row = (size_t)floor(y) + (size_t)j;
            double weight = (i ? x - floor(x) : 1 - x + floor(x)) * (j ? y - floor(y) : 1 - y + floor(y));
            if (weight > 1e-3) sum += weight * pixels[3 * (row * image->width + column) + (size_t)channel];
        }
    return sum / 255;
}

/* The texture on triangle corners, on the middles of edges and inside is the colour of the volume there. */
static void check_texture(const rt_volume *v, const float position[3][3], const float uv[3][2], const png_image *image,
                          const uint8_t *pixels)
{
    static const double parts[][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0.5, 0.5, 0}, {0, 0.75, 0.25}, {0, 0.3, 0.7}, {0.2, 0.5, 0.3}};
    for (size_t i = 0; i < RT_COUNT(parts); i++) {
        double at[3] = {0}, where[2] = {0}, want[3];
        for (int corner = 0; corner < 3; corner++) {
            for (int k = 0; k < 3; k++) at[k] += parts[i][corner] * (double)position[corner][k];
            for (int k = 0; k < 2; k++) where[k] += parts[i][corner] * (double)uv[corner][k];
        }
        rt_volume_colour(v, at, want);
        for (int c = 0; c < 3; c++)
            if (fabs(texture(image, pixels, where[0], where[1], c) - want[c]) > 3.0 / 255)
                fail_msg("part %zu, channel %d: %g, not %g", i, c, texture(image, pixels, where[0], where[1], c), want[c]);
    }
}

static void glb(void **state)
{
    (void)state;
    rt_volume v = volume_of(two_balls, 20, 21, 22);
    rt_mesh m = surface_of(&v, 0);
    size_t size, n = 3 * (size_t)m.n_triangles;
    assert_int_equal(rt_glb_write(path_of(".glb"), &m, &v, NULL), RT_OK);
    char *file = read_and_remove(path_of(".glb"), &size);
    assert_memory_equal(file, "glTF\2\0\0\0", 8);
    assert_int_equal(word(file + 8), size);
    uint32_t text = word(file + 12), bytes = word(file + 20 + text);
    assert_memory_equal(file + 16, "JSON", 4);
    assert_memory_equal(file + 24 + text, "BIN", 4);
    assert_int_equal(text % 4 + bytes % 4, 0);
    assert_int_equal(20 + text + 8 + bytes, size);
    const char *data = file + 28 + text;
    json_t *json = json_loadb(file + 20, text, 0, NULL);
    assert_non_null(json);
    int at[4], length[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(json_unpack(json_array_get(json_object_get(json, "bufferViews"), (size_t)i), "{s:i, s:i}", "byteOffset", &at[i],
                                     "byteLength", &length[i]),
                         0);
    const char *first, *second;
    int count, metallic = -1, roughness = -1, whole;
    json_t *unlit;
    assert_int_equal(json_unpack(json, "{s:[{s:{s:i,s:i}, s:{s:o}}], s:[s], s:[{s:i,s:s},{s:s}], s:[{s:i}]}", "materials",
                                 "pbrMetallicRoughness", "metallicFactor", &metallic, "roughnessFactor", &roughness, "extensions",
                                 "KHR_materials_unlit", &unlit, "extensionsUsed", &first, "accessors", "count", &count, "type", &second,
                                 "type", &second, "buffers", "byteLength", &whole),
                     0);
    assert_string_equal(first, "KHR_materials_unlit");
    assert_int_equal(metallic, 0);
    assert_int_equal(roughness, 1);
    assert_int_equal(count, n);
    assert_in_range(whole, bytes - 3, bytes);
    uint8_t *pixels;
    png_image image = decode(data + at[3], (size_t)length[3], &pixels);
    const float(*positions)[3] = (const float(*)[3])(const void *)(data + at[0]),
          (*normals)[3] = (const float(*)[3])(const void *)(data + at[1]), (*uv)[2] = (const float(*)[2])(const void *)(data + at[2]);
    float low = 9, high = -9;
    for (size_t i = 0; i < n; i++) {
        const float *p = m.positions[m.triangles[i / 3][i % 3]], *u = m.normals[m.triangles[i / 3][i % 3]];
        assert_true(positions[i][0] == p[1] && positions[i][1] == p[2] && positions[i][2] == p[0]);
        assert_true(normals[i][0] == u[1] && normals[i][1] == u[2] && normals[i][2] == u[0]);
        low = fminf(low, positions[i][2]);
        high = fmaxf(high, positions[i][2]);
    }
    double bounds[2];
    assert_int_equal(json_unpack(json, "{s:[{s:[F,F,F], s:[F,F,F]}]}", "accessors", "min", &bounds[0], &bounds[0], &bounds[0], "max",
                                 &bounds[1], &bounds[1], &bounds[1]),
                     0);
    assert_true((float)bounds[0] == low && (float)bounds[1] == high);
    for (size_t t = 0; t < n / 3; t++) {
        float position[3][3];
        for (int i = 0; i < 3; i++) memcpy(position[i], m.positions[m.triangles[t][i]], sizeof position[i]);
        check_texture(&v, (const float(*)[3])position, uv + 3 * t, &image, pixels);
    }
    free(pixels);
    free(file);
    json_decref(json);
    rt_mesh_free(&m);
    volume_free(&v);
}

static void obj(void **state)
{
    (void)state;
    rt_volume v = volume_of(sphere, 12, 12, 12);
    rt_mesh m = surface_of(&v, 0);
    size_t size;
    assert_int_equal(rt_obj_write(path_of(".obj"), &m, &v, NULL), RT_OK);
    char *material = read_and_remove(path_of(".mtl"), &size);
    const char *picture = strrchr(path_of(".png"), '/') + 1;
    assert_non_null(strstr(strstr(material, "map_Kd "), picture));
    char *png = read_and_remove(path_of(".png"), &size);
    uint8_t *pixels;
    png_image image = decode(png, size, &pixels);
    char *file = read_and_remove(path_of(".obj"), &size), *line, *rest = file;
    float(*uv)[2] = malloc(3 * (size_t)m.n_triangles * sizeof *uv);
    int64_t positions = 0, normals = 0, corners = 0, faces = 0;
    while ((line = strsep(&rest, "\n"))) {
        float p[3];
        long long a[9];
        if (sscanf(line, "v %f %f %f", &p[0], &p[1], &p[2]) == 3) {
            for (int k = 0; k < 3; k++) assert_true(fabsf(p[k] - m.positions[positions][(k + 1) % 3]) < 1e-6f);
            positions++;
        } else if (sscanf(line, "vn %f %f %f", &p[0], &p[1], &p[2]) == 3) {
            for (int k = 0; k < 3; k++) assert_true(fabsf(p[k] - m.normals[normals][(k + 1) % 3]) < 1e-4f);
            normals++;
        } else if (sscanf(line, "vt %f %f", &p[0], &p[1]) == 2) {
            uv[corners][0] = p[0];
            uv[corners++][1] = 1 - p[1];
        } else if (sscanf(line, "f %lld/%lld/%lld %lld/%lld/%lld %lld/%lld/%lld", a, a + 1, a + 2, a + 3, a + 4, a + 5, a + 6, a + 7,
                          a + 8) == 9) {
            float position[3][3], places[3][2];
            for (int i = 0; i < 3; i++) {
                assert_int_equal(a[3 * i], m.triangles[faces][i] + 1);
                assert_int_equal(a[3 * i + 2], a[3 * i]);
                memcpy(position[i], m.positions[a[3 * i] - 1], sizeof position[i]);
                memcpy(places[i], uv[a[3 * i + 1] - 1], sizeof places[i]);
            }
            check_texture(&v, (const float(*)[3])position, (const float(*)[2])places, &image, pixels);
            faces++;
        }
    }
    assert_int_equal(positions, m.n_vertices);
    assert_int_equal(normals, m.n_vertices);
    assert_int_equal(corners, 3 * m.n_triangles);
    assert_int_equal(faces, m.n_triangles);
    free(uv);
    free(file);
    free(png);
    free(pixels);
    free(material);
    rt_mesh_free(&m);
    volume_free(&v);
}

static void ply(void **state)
{
    (void)state;
    rt_volume v = volume_of(sphere, 12, 12, 12);
    rt_mesh m = surface_of(&v, 0);
    size_t size;
    assert_int_equal(rt_ply_write(path_of(".ply"), &m, NULL), RT_OK);
    char *file = read_and_remove(path_of(".ply"), &size), *data = strstr(file, "end_header\n") + 11;
    long long vertices, faces;
    assert_int_equal(sscanf(strstr(file, "element vertex"), "element vertex %lld", &vertices), 1);
    assert_int_equal(sscanf(strstr(file, "element face"), "element face %lld", &faces), 1);
    assert_int_equal(vertices, m.n_vertices);
    assert_int_equal(faces, m.n_triangles);
    assert_int_equal(size, (size_t)(data - file) + (size_t)vertices * 27 + (size_t)faces * 13);
    for (int64_t i = 0; i < vertices; i++, data += 27) {
        assert_memory_equal(data, m.positions[i], 12);
        assert_memory_equal(data + 12, m.normals[i], 12);
        for (int k = 0; k < 3; k++) assert_int_equal((uint8_t)data[24 + k], lrintf(255 * m.colours[i][k]));
    }
    for (int64_t t = 0; t < faces; t++, data += 13) {
        assert_int_equal(*data, 3);
        assert_memory_equal(data + 1, m.triangles[t], 12);
    }
    free(file);
    rt_mesh_free(&m);
    volume_free(&v);
}

static void splats(void **state)
{
    (void)state;
    rt_volume v = volume_of(sphere, 5, 7, 9);
    size_t size;
    int64_t n, want = 0;
    double least = 0.3;
    assert_int_equal(rt_splats_write(path_of(".splat.ply"), &v, least, &n, NULL), RT_OK);
    char *file = read_and_remove(path_of(".splat.ply"), &size), *data = strstr(file, "end_header\n") + 11, head[700];
    snprintf(head, sizeof head, "ply\nformat binary_little_endian 1.0\nelement vertex %lld\n", (long long)n);
    static const char *const names[] = {"x",       "y",       "z",       "nx",      "ny",    "nz",    "f_dc_0", "f_dc_1", "f_dc_2",
                                        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2",  "rot_3"};
    for (size_t i = 0; i < RT_COUNT(names); i++) snprintf(head + strlen(head), sizeof head - strlen(head), "property float %s\n", names[i]);
    strcat(head, "end_header\n");
    assert_memory_equal(file, head, strlen(head));
    assert_int_equal(size, strlen(head) + (size_t)n * 68);
    for (size_t i = 0; i < 5 * 7 * 9; i++) {
        double x = -1 + 2.0 * (double)(i % 9) / 8, y = -1 + 2.0 * (double)(i / 9 % 7) / 6, z = -1 + 2.0 * (double)(i / 63) / 4;
        double opacity = 1 / (1 + exp(1 - (double)v.density[i]));
        if (opacity < least) continue;
        float g[17];
        memcpy(g, data + 68 * want++, sizeof g);
        const double at[] = {y, -z, -x}, colour[] = {x, y, z}, apart[] = {2.0 / 6, 2.0 / 4, 2.0 / 8};
        for (int k = 0; k < 3; k++) {
            assert_true(fabs((double)g[k] - at[k]) < 1e-6);
            assert_true(g[3 + k] == 0);
            near(0.5 + 0.28209479 * (double)g[6 + k], 1 / (1 + exp(-3 * colour[k])), 1e-5);
            near(exp((double)g[10 + k]), apart[k] / sqrt(2 * M_PI), 1e-5);
        }
        near(1 / (1 + exp(-(double)g[9])), opacity, 1e-5);
        assert_true(g[13] == 1 && g[14] == 0 && g[15] == 0 && g[16] == 0);
    }
    assert_int_equal(want, n);
    assert_in_range(want, 5, 5 * 7 * 9 - 100);
    free(file);
    volume_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_sphere),
                                       cmocka_unit_test(other_topologies),
                                       cmocka_unit_test(components),
                                       cmocka_unit_test(at_the_faces),
                                       cmocka_unit_test(noise_is_closed),
                                       cmocka_unit_test(ambiguous_faces),
                                       cmocka_unit_test(refused),
                                       cmocka_unit_test(glb),
                                       cmocka_unit_test(obj),
                                       cmocka_unit_test(ply),
                                       cmocka_unit_test(splats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
