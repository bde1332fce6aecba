/* fuzz_cameras.c -- transforms.json: whatever the bytes, cameras whose rays are of length 1 and lie inside the box, or an error. */
#include "fuzz_file.h"

#include "retort/scene.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rt_cameras cameras;
    rt_error err = {0};
    double rays[4][RT_RAY];
    if (rt_cameras_open(&cameras, fuzz_file(data, size), &err) != RT_OK) return 0;
    for (int i = 0; i < cameras.n; i++) {
        rt_camera_rays(&cameras.at[i], 2, 2, NULL, RT_F64, rays);
        for (int k = 0; k < 4; k++) {
            const double *r = rays[k];
            if (!(fabs(r[3] * r[3] + r[4] * r[4] + r[5] * r[5] - 1) < 1e-9 && r[6] >= 0 && r[7] >= r[6])) abort();
            for (int j = 0; j < 3; j++)
                if (r[7] > r[6] && !(fabs(r[j] + r[7] * r[3 + j]) < 1 + 1e-6)) abort();
        }
    }
    rt_cameras_free(&cameras);
    return 0;
}
