/* camera.c -- cameras on orbits, and the rays of their pictures through the box [-1,1]^3. */
#include "retort/scene.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define RADIANS (3.14159265358979323846 / 180)

static const char *view_of(double azimuth, double elevation)
{
    double turned = fabs(remainder(azimuth, 360));
    return elevation >= 40 ? "overhead view" : turned <= 37.5 ? "front view" : turned >= 142.5 ? "back view" : "side view";
}

rt_camera rt_camera_orbit(double azimuth, double elevation, double distance, double fovy)
{
    double a = azimuth * RADIANS, e = elevation * RADIANS;
    double right[3] = {-sin(a), cos(a), 0}, up[3] = {-cos(a) * sin(e), -sin(a) * sin(e), cos(e)},
           back[3] = {cos(a) * cos(e), sin(a) * cos(e), sin(e)};
    rt_camera c = {.fovy = fovy * RADIANS};
    for (int i = 0; i < 3; i++) {
        c.c2w[4 * i] = right[i], c.c2w[4 * i + 1] = up[i], c.c2w[4 * i + 2] = back[i];
        c.c2w[4 * i + 3] = distance * back[i];
    }
    c.c2w[15] = 1;
    snprintf(c.view, sizeof c.view, "%s", view_of(azimuth, elevation));
    return c;
}

/* Entry and exit of o + t d, the entry at least 0; false: it misses. */
static bool through_box(const double *o, const double *d, double *near, double *far)
{
    *near = 0, *far = INFINITY;
    for (int i = 0; i < 3; i++) {
        if (d[i] == 0) {
            if (fabs(o[i]) > 1) return false;
            continue;
        }
        double a = (-1 - o[i]) / d[i], b = (1 - o[i]) / d[i];
        *near = fmax(*near, fmin(a, b));
        *far = fmin(*far, fmax(a, b));
    }
    return *far > *near;
}

/* A direction of any length but 0. */
static void put_ray(const double origin[3], const double direction[3], double xi, rt_dtype dtype, void *to)
{
    double ray[RT_RAY] = {0}, size = 0;
    for (int i = 0; i < 3; i++) size += direction[i] * direction[i];
    for (int i = 0; i < 3; i++) {
        ray[i] = origin[i];
        ray[3 + i] = direction[i] / sqrt(size);
    }
    if (!through_box(ray, ray + 3, &ray[6], &ray[7])) ray[6] = ray[7] = 0;
    ray[8] = xi;
    for (int i = 0; i < RT_RAY; i++) {
        if (dtype == RT_F64)
            ((double *)to)[i] = ray[i];
        else
            ((float *)to)[i] = (float)ray[i];
    }
}

void rt_ray_towards(const double origin[3], const double point[3], rt_dtype dtype, void *ray)
{
    const double direction[] = {point[0] - origin[0], point[1] - origin[1], point[2] - origin[2]};
    put_ray(origin, direction, 0.5, dtype, ray);
}

void rt_camera_rays(const rt_camera *c, int h, int w, const double *jitter, rt_dtype dtype, void *rays)
{
    double focal = c->fovy > 0 ? h / (2 * tan(c->fovy / 2)) : w / (2 * tan(c->fovx / 2)); /* in pixels */
    for (int64_t n = 0; n < (int64_t)h * w; n++) {
        double x = ((double)(n % w) + 0.5 - w / 2.0) / focal, y = -((double)(n / w) + 0.5 - h / 2.0) / focal, origin[3], direction[3];
        for (int i = 0; i < 3; i++) {
            origin[i] = c->c2w[4 * i + 3];
            direction[i] = c->c2w[4 * i] * x + c->c2w[4 * i + 1] * y - c->c2w[4 * i + 2];
        }
        put_ray(origin, direction, jitter ? jitter[n] : 0.5, dtype, (char *)rays + (size_t)(n * RT_RAY) * rt_dtype_size(dtype));
    }
}
