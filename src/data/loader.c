/* loader.c -- mini-batches as a function of their number, the next one prepared while one is used. */
#include "data/reader.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A permutation of 0..n-1 without an array (Black & Rogaway 2002): v = left b + right with left < a, right < b, a b >= n, through a Feistel network
 * whose halves take turns to be shifted by a draw keyed by the other; what falls at n or above goes through again. Every step can be undone, so it
 * is one to one. */
int64_t rt_permute_index(uint64_t seed, uint64_t key, int64_t n, int64_t index)
{
    enum { ROUNDS = 8 }; /* even */
    uint64_t a = 1, v = (uint64_t)index;
    for (uint64_t bit = (uint64_t)1 << 31; bit; bit >>= 1) /* a = floor of the root of n */
        if ((a + bit) * (a + bit) <= (uint64_t)n) a += bit;
    uint64_t b = ((uint64_t)n + a - 1) / a, half[2];
    const uint64_t size[2] = {a, b};
    rt__draw draw = {.seed = seed, .name = rt__draw_name("permutation"), .clock = (uint32_t)key};
    do {
        half[0] = v / b;
        half[1] = v % b;
        for (uint32_t round = 0; round < ROUNDS; round++) {
            uint32_t w[4], to = round & 1;
            rt__draw_words(&draw, (uint32_t)half[!to], round ^ (uint32_t)(key >> 32) << 3, w);
            half[to] = (half[to] + ((uint64_t)w[1] << 32 | w[0])) % size[to];
        }
        v = half[0] * b + half[1];
    } while (v >= (uint64_t)n);
    return (int64_t)v;
}

struct rt_loader {
    const rt_dataset *ds;
    int64_t batch, features;
    uint64_t seed;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t turn;
    bool started, stop, busy; /* busy: the thread writes x and y */
    int64_t wanted, ready;    /* the batch that the thread shall prepare, and the one that x and y hold; -1: none */
    int64_t last;             /* the batch that was asked for last; as far behind it as it was behind its own, the next is prepared */
    float *x;
    int64_t *y;
};

void rt_loader_item(const rt_loader *l, int64_t u, int64_t j, int64_t *item, bool *mirrored)
{
    int64_t n = l->ds->info.count, at = u * l->batch + j;
    if (item) *item = rt_permute_index(l->seed, (uint64_t)(at / n), n, at % n);
    if (mirrored) {
        uint32_t w[4] = {0};
        rt__draw flip = {.seed = l->seed, .name = rt__draw_name("flip"), .clock = (uint32_t)(at >> 32)};
        if (l->ds->flip && l->ds->info.rank == 3) rt__draw_words(&flip, (uint32_t)at, 0, w);
        *mirrored = w[0] >> 31;
    }
}

static void mirror(const rt_dataset *ds, float *x)
{
    int64_t w = ds->info.shape[2];
    for (int64_t row = 0; row < ds->info.features / w; row++)
        for (float *p = x + row * w, *q = p + w - 1; p < q; p++, q--) {
            float t = *p;
            *p = *q;
            *q = t;
        }
}

static void fill(const rt_loader *l, int64_t u, float *x, int64_t *y)
{
    for (int64_t j = 0; j < l->batch; j++) {
        int64_t item;
        bool mirrored;
        rt_loader_item(l, u, j, &item, &mirrored);
        rt_dataset_read(l->ds, item, x ? x + j * l->features : NULL, y ? y + j : NULL);
        if (x && mirrored) mirror(l->ds, x + j * l->features);
    }
}

static void *work(void *self)
{
    rt_loader *l = self;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        if (l->wanted < 0) {
            pthread_cond_wait(&l->turn, &l->lock);
            continue;
        }
        int64_t u = l->wanted;
        l->wanted = l->ready = -1;
        l->busy = true;
        pthread_mutex_unlock(&l->lock);
        fill(l, u, l->x, l->y);
        pthread_mutex_lock(&l->lock);
        l->busy = false;
        l->ready = u;
        pthread_cond_broadcast(&l->turn);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

void rt_loader_free(rt_loader *l)
{
    if (!l) return;
    if (l->started) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_broadcast(&l->turn);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
    }
    pthread_cond_destroy(&l->turn);
    pthread_mutex_destroy(&l->lock);
    free(l->x);
    free(l->y);
    free(l);
}

rt_status rt_loader_new(rt_loader **out, const rt_dataset *ds, int batch, uint64_t seed, rt_error *err)
{
    *out = NULL;
    if (batch < 1) RT_RAISE(RT_E_USAGE, "a batch of %d; give 1 or more", batch);
    size_t numbers;
    rt_loader *l = NULL;
    if (rt__mul_size((size_t)batch, (size_t)ds->info.features, &numbers) && numbers <= RT_DATA_BYTES) l = calloc(1, sizeof *l);
    if (!l) RT_RAISE(RT_E_MEMORY, "out of memory for batches of %d items of %lld numbers", batch, (long long)ds->info.features);
    *l = (rt_loader){.ds = ds, .batch = batch, .features = ds->info.features, .seed = seed, .wanted = -1, .ready = -1, .last = -1};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->turn, NULL);
    l->x = malloc(numbers * sizeof *l->x);
    l->y = malloc((size_t)batch * sizeof *l->y);
    if (!l->x || !l->y) {
        rt_loader_free(l);
        RT_RAISE(RT_E_MEMORY, "out of memory for a batch of %d items", batch);
    }
    l->started = pthread_create(&l->thread, NULL, work, l) == 0; /* without a thread batches are made when they are asked for */
    *out = l;
    return RT_OK;
}

void rt_loader_batch(rt_loader *l, int64_t u, float *x, int64_t *y)
{
    pthread_mutex_lock(&l->lock);
    while (l->busy || l->wanted >= 0) pthread_cond_wait(&l->turn, &l->lock);
    bool hit = l->ready == u;
    if (hit) { /* the thread sleeps: the buffers are ours */
        if (x) memcpy(x, l->x, (size_t)(l->batch * l->features) * sizeof *x);
        if (y) memcpy(y, l->y, (size_t)l->batch * sizeof *y);
    }
    if (l->started) {
        l->wanted = u > l->last ? u + (u - l->last) : u + 1;
        pthread_cond_broadcast(&l->turn);
    }
    l->last = u;
    pthread_mutex_unlock(&l->lock);
    if (!hit) fill(l, u, x, y);
}
