/* draws.h -- from the words of a draw to its numbers, stated once: for C, and for the kernels of devices, which define RT_BOTH. */
#ifndef RT_BASE_DRAWS_H
#define RT_BASE_DRAWS_H

#include <math.h>
#include <stdint.h>

#ifndef RT_BOTH
#define RT_BOTH static inline
#endif

/* (word + 1/2) / 2^32, in (0, 1). */
RT_BOTH double rt__unit(uint32_t word) { return ((double)word + 0.5) * 0x1p-32; }

/* Box-Muller on the word pairs (0,1) and (2,3). */
RT_BOTH void rt__normals_of(const uint32_t w[4], double out[4])
{
    for (int i = 0; i < 4; i += 2) {
        double radius = sqrt(-2 * log(rt__unit(w[i]))), angle = 6.283185307179586 * rt__unit(w[i + 1]);
        out[i] = radius * cos(angle);
        out[i + 1] = radius * sin(angle);
    }
}

/* Uniform in (0, 1): a float can round up to 1. */
RT_BOTH float rt__uniform_single(uint32_t word)
{
    float v = (float)rt__unit(word);
    return v < 1 ? v : 0x1.fffffep-1f;
}

/* Uniform in 0 .. below - 1. */
RT_BOTH int64_t rt__integer_of(uint32_t word, int64_t below) { return (int64_t)(((uint64_t)word * (uint64_t)below) >> 32); }

#endif
