/* oracle_data.c -- a data set as an oracle: p_t = (1/n) sum_j N(alpha d_j, beta^2 I), so with r = softmax_j(-|x - alpha d_j|^2 / (2 beta^2))
 *
 *     E[x0 | x] = sum_j r_j d_j,   score = (alpha E[x0 | x] - x) / beta^2.
 *
 * Where beta is small the softmax is decided by the last digits of the distances: |x|^2 - 2 alpha x.d + alpha^2 |d|^2 would have lost them, in double too,
 * so differences are squared and summed, in double, tile by tile (tiles.h), which is as fast as a matrix product.
 * Samples come through the cache once: a softmax that has seen only some of them keeps its largest exponent so far (`top`) and the sums relative to it,
 * and samples that cannot count (exp(-64) of the largest) take no part in the second product. Shares of the samples are worked on by threads and merged
 * in order; there are as many whatever the threads, so threads change no bit. */
#include "diffusion/oracle.h"

#include "base/internal.h"
#include "base/tiles.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = RT_TILE_COLUMNS, ROWS = RT_TILE_ROWS, BATCH = 64, SHARES = 16 };
#define NEGLIGIBLE 64
#define SMALL      3e5

/* Up to BATCH rows of x at one (alpha, beta). */
typedef struct batch {
    const rt_oracle *o;
    double alpha, beta;
    int64_t n, groups, width; /* rows; groups of ROWS of them; features, rounded up to BLOCK */
    const double *x;          /* [n][features] */
    double *rows;             /* [groups][features][ROWS] */
    bool wants_mean;
} batch;

/* What is known of a batch after some samples: sum of exp(l_j - top), and mean[row][width] = sum of exp(l_j - top) d_j. */
typedef struct share {
    double top[BATCH], sum[BATCH], *mean;
} share;

/* Distances of one row become exp(l - top); false if none of them counts. */
static bool weigh(const batch *b, share *s, int64_t row, int count, double *l)
{
    double best = -INFINITY, scale = -0.5 / (b->beta * b->beta);
    for (int j = 0; j < count; j++) best = fmax(best, l[j] *= scale);
    for (int j = count; j < BLOCK; j++) l[j] = -INFINITY;
    if (best < s->top[row] - NEGLIGIBLE) {
        memset(l, 0, BLOCK * sizeof *l);
        return false;
    }
    if (best > s->top[row]) {
        double shrink = exp(s->top[row] - best), *mean = s->mean + row * b->width;
        s->top[row] = best;
        s->sum[row] *= shrink;
        for (int64_t k = 0; b->wants_mean && k < b->width; k++) mean[k] *= shrink;
    }
    for (int j = 0; j < BLOCK; j++) s->sum[row] += l[j] = l[j] < s->top[row] - NEGLIGIBLE ? 0 : exp(l[j] - s->top[row]);
    return true;
}

/* Share i of n. panels: room for BLOCK samples as columns and as rows. */
static void see(const batch *b, share *s, int64_t i, int64_t n, double *panels)
{
    const int64_t d = b->o->features, blocks = (b->o->n + BLOCK - 1) / BLOCK, from = blocks * i / n * BLOCK,
                  end = blocks * (i + 1) / n * BLOCK, to = end < b->o->n ? end : b->o->n;
    const rt__tiles *tiles = RT_PICK_ISA(rt__tiles);
    double *columns = panels, *block = panels + BLOCK * b->width;
    memset(panels, 0, (size_t)(2 * BLOCK * b->width) * sizeof *panels); /* what is beyond the features stays 0 */
    memset(s->mean, 0, (size_t)(b->groups * ROWS * b->width) * sizeof *s->mean);
    for (int r = 0; r < BATCH; r++) s->top[r] = -INFINITY, s->sum[r] = 0;
    for (int64_t first = from; first < to; first += BLOCK) {
        int count = to - first < BLOCK ? (int)(to - first) : BLOCK;
        const float *sample[BLOCK];
        for (int j = 0; j < BLOCK; j++) sample[j] = b->o->samples + b->o->order[first + (j < count ? j : count - 1)] * d;
        for (int64_t k = 0; k < d; k++)
            for (int j = 0; j < BLOCK; j++) columns[k * BLOCK + j] = b->alpha * (double)sample[j][k];
        bool filled = false;
        for (int64_t g = 0; g < b->groups; g++) {
            _Alignas(64) double l[ROWS][BLOCK];
            bool counts = false;
            tiles->distance2(d, (const double(*)[ROWS])(b->rows + g * d * ROWS), (const double(*)[BLOCK])columns, l);
            for (int r = 0; r < ROWS; r++) counts |= weigh(b, s, g * ROWS + r, count, l[r]);
            if (!counts || !b->wants_mean) continue;
            for (int j = 0; !filled && j < BLOCK; j++)
                for (int64_t k = 0; k < d; k++) block[j * b->width + k] = (double)sample[j][k];
            filled = true;
            for (int64_t k = 0; k < b->width; k += BLOCK)
                tiles->product(BLOCK, l[0], BLOCK, 1, block + k, b->width, s->mean + g * ROWS * b->width + k, b->width);
        }
    }
}

/* Softmaxes over parts of the samples make one over all. */
static void merge(const batch *b, const share *shares, int n_shares, double *mean, double *score, double *log_p)
{
    int64_t d = b->o->features;
    double square = b->beta * b->beta;
    for (int64_t r = 0; r < b->n; r++) {
        double top = -INFINITY, sum = 0, factor[SHARES];
        for (int i = 0; i < n_shares; i++) top = fmax(top, shares[i].top[r]);
        for (int i = 0; i < n_shares; i++) sum += (factor[i] = exp(shares[i].top[r] - top)) * shares[i].sum[r];
        if (log_p) log_p[r] = top + log(sum / (double)b->o->n) - (double)d / 2 * log(2 * M_PI * square);
        for (int64_t k = 0; b->wants_mean && k < d; k++) {
            double total = 0, x = b->x[r * d + k];
            for (int i = 0; i < n_shares; i++) total += factor[i] * shares[i].mean[r * b->width + k];
            if (mean) mean[r * d + k] = total / sum;
            if (score) score[r * d + k] = (b->alpha * (total / sum) - x) / square;
        }
    }
}

static void pack(batch *b)
{
    int64_t d = b->o->features;
    for (int64_t r = 0; r < b->groups * ROWS; r++) {
        const double *x = b->x + (r < b->n ? r : b->n - 1) * d;
        for (int64_t k = 0; k < d; k++) b->rows[(r / ROWS * d + k) * ROWS + r % ROWS] = x[k];
    }
}

static rt_status answer(const rt_oracle *o, double alpha, double beta, int64_t n, const double *x, double *mean, double *score,
                        double *log_p, rt_error *err)
{
    const int64_t d = o->features, width = (d + BLOCK - 1) / BLOCK * BLOCK, most = n < BATCH ? (n + ROWS - 1) / ROWS * ROWS : BATCH,
                  blocks = (o->n + BLOCK - 1) / BLOCK;
    const int n_shares = blocks < SHARES ? (int)blocks : SHARES;
    int threads = o->threads > 0 ? o->threads : omp_get_max_threads();
    if (threads > n_shares) threads = n_shares;
    if ((double)o->n * (double)(width * most) < SMALL) threads = 1; /* not worth waking them */
    /* of the batch: rows; of a share: means; of a thread: columns and block */
    const size_t of_batch = (size_t)(most * width), of_share = of_batch, of_thread = (size_t)(2 * BLOCK * width);
    double *room = n > 0 ? aligned_alloc(64, (of_batch + (size_t)n_shares * of_share + (size_t)threads * of_thread) * sizeof *room) : NULL;
    share *shares = malloc((size_t)n_shares * sizeof *shares);
    if (n > 0 && (!room || !shares)) {
        free(room);
        free(shares);
        RT_RAISE(RT_E_MEMORY, "out of memory for %lld rows of %lld features in %d threads", (long long)most, (long long)d, threads);
    }
    for (int64_t at = 0; at < n; at += BATCH) {
        batch b = {.o = o,
                   .alpha = alpha,
                   .beta = beta,
                   .n = n - at < BATCH ? n - at : BATCH,
                   .width = width,
                   .x = x + at * d,
                   .rows = room,
                   .wants_mean = mean || score};
        b.groups = (b.n + ROWS - 1) / ROWS;
        pack(&b);
        double *means = room + of_batch, *panels = means + (size_t)n_shares * of_share;
        for (int i = 0; i < n_shares; i++) shares[i].mean = means + (size_t)i * of_share;
        if (threads == 1) /* the parallel loop ends the program when memory is out */
            for (int i = 0; i < n_shares; i++) see(&b, &shares[i], i, n_shares, panels);
        else {
#pragma omp parallel for num_threads(threads) schedule(dynamic)
            for (int i = 0; i < n_shares; i++) see(&b, &shares[i], i, n_shares, panels + (size_t)omp_get_thread_num() * of_thread);
        }
        merge(&b, shares, n_shares, mean ? mean + at * d : NULL, score ? score + at * d : NULL, log_p ? log_p + at : NULL);
    }
    free(room);
    free(shares);
    return RT_OK;
}

static void draw(const rt_oracle *o, int64_t k, const double *z, double *row)
{
    (void)z;
    for (int64_t i = 0; i < o->features; i++) row[i] = (double)o->samples[o->order[k] * o->features + i];
}

static const rt__oracle_kind data = {"a data set has no density without noise", answer, draw};

rt_status rt__oracle_adopt(rt_oracle **oracle, const rt_oracle_samples *s, rt_error *err)
{
    int64_t d = s->rank > 0;
    for (int i = 0; i < s->rank; i++) d *= s->shape[i];
    *oracle = NULL;
    if (s->n < 1 || d < 1 || d > 1 << 24 || s->n > INT64_C(1) << 31)
        RT_RAISE(RT_E_INVALID, "%lld samples of %lld features; must be 1 to 2^31 of 1 to 2^24", (long long)s->n, (long long)d);
    for (int64_t i = 0; i < s->n * d; i++)
        if (!isfinite(s->x[i]))
            RT_RAISE(RT_E_INVALID, "sample %lld, number %lld, is %g; must be finite", (long long)(i / d), (long long)(i % d),
                     (double)s->x[i]);
    rt_oracle *o = rt__oracle_new(&data, s->n, d, NULL, NULL);
    if (!o) RT_RAISE(RT_E_MEMORY, "out of memory for %lld samples", (long long)s->n);
    o->samples = s->x;
    o->rank = s->rank;
    memcpy(o->shape, s->shape, sizeof o->shape);
    o->low = s->low;
    o->high = s->high;
    *oracle = o;
    return RT_OK;
}

rt_status rt_oracle_data(rt_oracle **oracle, int64_t n, int64_t d, const float *x, const rt_process *process,
                         const rt_prediction *prediction, rt_error *err)
{
    size_t size;
    *oracle = NULL;
    if (n < 1 || d < 1 || !rt__mul_size((size_t)n, (size_t)d, &size) || !rt__mul_size(size, sizeof *x, &size))
        RT_RAISE(RT_E_INVALID, "%lld samples of %lld features; must be at least 1 of 1", (long long)n, (long long)d);
    rt_oracle_samples s = {.n = n, .rank = 1, .shape = {d}, .low = -1, .high = 1, .x = malloc(size)};
    if (!s.x) RT_RAISE(RT_E_MEMORY, "out of memory for %lld samples of %lld features", (long long)n, (long long)d);
    memcpy(s.x, x, size);
    rt_status status = rt__oracle_adopt(oracle, &s, err);
    if (status != RT_OK) {
        free(s.x);
        return status;
    }
    (*oracle)->process = process;
    (*oracle)->prediction = prediction;
    return RT_OK;
}
