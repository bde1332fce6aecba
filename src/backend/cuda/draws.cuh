/* draws.cuh -- random numbers: a thread for each block of four words of Philox (base/internal.h says which). */
#include "backend/cuda/device.cuh"

#include "base/draws.h"

#include <Random123/philox.h>

template <class PUT> DEVICE void draw(const rt__cuda_draw_args &a, PUT put)
{
    const unsigned blocks = (a.width + 3) / 4, at = thread_number();
    if (at >= a.samples * blocks) return;
    const unsigned sample = at / blocks, block = at % blocks;
    const uint64_t seed = a.clock->seed;
    const philox4x32_ctr_t counter = {{block, a.clock->first * a.per_sample + sample, a.clock->step, a.name}};
    const philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    const philox4x32_ctr_t words = philox4x32(counter, key);
    const size_t first = (size_t)sample * a.width + 4 * block;
    put(first, a.width - 4 * block < 4 ? a.width - 4 * block : 4, words.v);
}

KERNEL(randn, draw)
{
    float *y = (float *)a.y;
    draw(a, [=](size_t first, unsigned n, const uint32_t *words) {
        double v[4];
        rt__normals_of(words, v);
        for (unsigned j = 0; j < n; j++) y[first + j] = (float)v[j];
    });
}
KERNEL(rand, draw)
{
    float *y = (float *)a.y;
    draw(a, [=](size_t first, unsigned n, const uint32_t *words) {
        for (unsigned j = 0; j < n; j++) y[first + j] = rt__uniform_single(words[j]);
    });
}
KERNEL(randint, draw)
{
    int64_t *y = (int64_t *)a.y;
    const int64_t below = a.below;
    draw(a, [=](size_t first, unsigned n, const uint32_t *words) {
        for (unsigned j = 0; j < n; j++) y[first + j] = rt__integer_of(words[j], below);
    });
}
KERNEL(batch_size, draw) { *(float *)a.y = (float)a.clock->total; }
