/* tiles.c -- see tiles.h. Compiled once per instruction set. */
#include "base/tiles.h"

/* So many vectors of columns at a time that their sums, for all rows, stay in registers: 16 of 32 with AVX-512, 8 of 16 below. */
enum { LANES = RT_VECTOR / sizeof(double), VECTORS = RT_VECTOR == 64 ? 4 : 2, PART = LANES * VECTORS, ROWS = RT_TILE_ROWS };
typedef double lanes __attribute__((vector_size(RT_VECTOR), may_alias));

static const lanes *vectors(const double *x) { return (const lanes *)(const void *)x; }

static void distance2(int64_t n, const double (*rows)[ROWS], const double (*columns)[RT_TILE_COLUMNS], double (*out)[RT_TILE_COLUMNS])
{
    for (int first = 0; first < RT_TILE_COLUMNS; first += PART) {
        lanes sum[ROWS][VECTORS] = {{{0}}};
        for (int64_t k = 0; k < n; k++)
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < VECTORS; v++) {
                    lanes e = rows[k][r] - vectors(columns[k] + first)[v];
                    sum[r][v] += e * e;
                }
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) ((lanes *)(void *)(out[r] + first))[v] = sum[r][v];
    }
}

static void product(int64_t n, const double *a, int64_t row_step, int64_t k_step, const double *b, int64_t b_step, double *out,
                    int64_t out_step)
{
    for (int first = 0; first < RT_TILE_COLUMNS; first += PART) {
        lanes sum[ROWS][VECTORS];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) sum[r][v] = vectors(out + r * out_step + first)[v];
        for (int64_t k = 0; k < n; k++)
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < VECTORS; v++) sum[r][v] += a[r * row_step + k * k_step] * vectors(b + k * b_step + first)[v];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) ((lanes *)(void *)(out + r * out_step + first))[v] = sum[r][v];
    }
}

const rt__tiles RT_OF_ISA(rt__tiles) = {distance2, product};
