/* cameras_file.c -- NeRF's transforms.json. */
#include "base/internal.h"
#include "retort/scene.h"
#include "scene/scene_fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FRAMES = 65536, MOST_BYTES = 64 << 20 };

/* How far columns may be from orthonormal: files hold rounded numbers. */
#define CROOKED 1e-3

static bool finite_all(const double *x, int n)
{
    for (int i = 0; i < n; i++)
        if (!(fabs(x[i]) <= 1e6)) return false;
    return true;
}

/* What is wrong with a matrix; NULL: it is a rotation and a position. */
static const char *fault_of(const double m[16])
{
    static const double last[4] = {0, 0, 0, 1};
    if (!finite_all(m, 16)) return "numbers below 1e6";
    for (int i = 0; i < 4; i++)
        if (fabs(m[12 + i] - last[i]) > 1e-6) return "a matrix whose last row is 0, 0, 0, 1";
    for (int i = 0; i < 3; i++)
        for (int j = i; j < 3; j++) {
            double dot = m[i] * m[j] + m[4 + i] * m[4 + j] + m[8 + i] * m[8 + j];
            if (!(fabs(dot - (i == j)) <= CROOKED))
                return "a rotation and a position: columns of length 1 at right angles; take scale and shear out of it";
        }
    double det = m[0] * (m[5] * m[10] - m[6] * m[9]) - m[1] * (m[4] * m[10] - m[6] * m[8]) + m[2] * (m[4] * m[9] - m[5] * m[8]);
    return det < 0 ? "a rotation, not a reflection: columns are right, up, backward" : NULL;
}

static rt_status read_matrix(const char *path, const json_t *value, size_t frame, double m[16], rt_error *err)
{
    size_t rows = json_is_array(value) ? json_array_size(value) : 0;
    bool fits = rows == 3 || rows == 4;
    memset(m, 0, 16 * sizeof *m);
    m[15] = 1;
    for (size_t i = 0; fits && i < rows; i++) fits = rt__scene_numbers(json_array_get(value, i), 4, m + 4 * i);
    const char *fault = fits ? fault_of(m) : "4 rows of 4 numbers, camera to world";
    return fault ? rt__scene_wrong(path, value, fault, err, "frames[%zu].transform_matrix", frame) : RT_OK;
}

static rt_status read_angle(const char *path, const json_t *root, const char *field, double *angle, rt_error *err)
{
    const json_t *value = json_object_get(root, field);
    if (!value) return RT_OK;
    *angle = json_number_value(value);
    if (!json_is_number(value) || !(*angle > 1e-4 && *angle < 3.14))
        return rt__scene_wrong(path, value, "a field of view in radians, 0.0001 to 3.14", err, "%s", field);
    return RT_OK;
}

static rt_status read_frame(const char *path, const json_t *frame, size_t i, rt_camera *c, rt_error *err)
{
    if (!json_is_object(frame)) return rt__scene_wrong(path, frame, "an object with transform_matrix", err, "frames[%zu]", i);
    const json_t *label = json_object_get(frame, "label"), *view = json_object_get(frame, "view");
    if (label && (!json_is_integer(label) || json_integer_value(label) < 0 || json_integer_value(label) > INT32_MAX))
        return rt__scene_wrong(path, label, "a whole number from 0", err, "frames[%zu].label", i);
    if (view && (!json_is_string(view) || json_string_length(view) >= RT_VIEW_WORD))
        return rt__scene_wrong(path, view, "words of at most 31 bytes, such as \"front view\"", err, "frames[%zu].view", i);
    c->label = label ? (int)json_integer_value(label) : (int)i;
    if (view) snprintf(c->view, sizeof c->view, "%s", json_string_value(view));
    return read_matrix(path, json_object_get(frame, "transform_matrix"), i, c->c2w, err);
}

static rt_status read_all(rt_cameras *cameras, const char *path, const json_t *root, rt_error *err)
{
    double fovx = 0, fovy = 0;
    RT_TRY(read_angle(path, root, "camera_angle_x", &fovx, err));
    RT_TRY(read_angle(path, root, "camera_angle_y", &fovy, err));
    if (fovx == 0 && fovy == 0) return rt__scene_wrong(path, NULL, "a field of view in radians (or camera_angle_x)", err, "camera_angle_y");
    const json_t *frames = json_object_get(root, "frames");
    size_t n = json_array_size(frames);
    if (!json_is_array(frames) || n == 0) return rt__scene_wrong(path, frames, "an array of frames, one at least", err, "frames");
    if (n > MOST_FRAMES) RT_RAISE(RT_E_INVALID, "%s: field 'frames' has %zu elements; must have at most %d", path, n, MOST_FRAMES);
    cameras->at = calloc(n, sizeof *cameras->at);
    if (!cameras->at) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %zu cameras", path, n);
    cameras->n = (int)n;
    for (size_t i = 0; i < n; i++) {
        cameras->at[i].fovx = fovx, cameras->at[i].fovy = fovy;
        RT_TRY(read_frame(path, json_array_get(frames, i), i, &cameras->at[i], err));
    }
    return RT_OK;
}

rt_status rt_cameras_open(rt_cameras *cameras, const char *path, rt_error *err)
{
    json_t *root;
    *cameras = (rt_cameras){0};
    RT_TRY(rt__scene_json(&root, path, MOST_BYTES, err));
    rt_status s = read_all(cameras, path, root, err);
    json_decref(root);
    if (s != RT_OK) rt_cameras_free(cameras);
    return s;
}

void rt_cameras_free(rt_cameras *cameras)
{
    free(cameras->at);
    *cameras = (rt_cameras){0};
}
