/* philox.c -- counter-based random numbers (Salmon, Moraes, Dror & Shaw 2011) through Random123; the layout of bits is in internal.h. */
#include "base/internal.h"

#include <Random123/philox.h>
#include <math.h>
#include <string.h>

void rt__philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    philox4x32_ctr_t c = {{counter[0], counter[1], counter[2], counter[3]}};
    philox4x32_key_t k = {{key[0], key[1]}};
    c = philox4x32(c, k);
    for (int i = 0; i < 4; i++) out[i] = c.v[i];
}

uint32_t rt__draw_name(const char *name) /* FNV-1a */
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

void rt__draw_words(const rt__draw *d, uint32_t sample, uint32_t block, uint32_t out[4])
{
    rt__philox((uint32_t[]){block, sample, d->clock, d->name}, (uint32_t[]){(uint32_t)d->seed, (uint32_t)(d->seed >> 32)}, out);
}

void rt__draw_normal(const rt__draw *d, uint32_t sample, uint32_t block, double out[4])
{
    uint32_t w[4];
    rt__draw_words(d, sample, block, w);
    rt__normals_of(w, out);
}

void rt__draw_normals(const rt__draw *d, uint32_t sample, int64_t n, double *out)
{
    for (int64_t i = 0; i < n; i += 4) {
        double v[4];
        rt__draw_normal(d, sample, (uint32_t)(i / 4), v);
        memcpy(out + i, v, (size_t)(n - i < 4 ? n - i : 4) * sizeof *v);
    }
}
