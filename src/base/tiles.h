/* tiles.h -- sums over 4 rows x 32 columns of doubles that stay in registers: distances between points and products. Kernels for every instruction set;
 * each sum adds in order of k, whatever the width. */
#ifndef RT_BASE_TILES_H
#define RT_BASE_TILES_H

#include "base/isa.h"

enum { RT_TILE_ROWS = 4, RT_TILE_COLUMNS = 32 };

typedef struct rt__tiles {
    /* out[r][j] = sum over k < n of (rows[k][r] - columns[k][j])^2 */
    void (*distance2)(int64_t n, const double (*rows)[RT_TILE_ROWS], const double (*columns)[RT_TILE_COLUMNS],
                      double (*out)[RT_TILE_COLUMNS]);
    /* out[r][j] += sum over k < n of a[r][k] b[k][j]; a number of a stands at r row_step + k k_step, rows of b are b_step apart, rows of out
     * out_step. b and out are aligned to 64 bytes, and so are their steps. */
    void (*product)(int64_t n, const double *a, int64_t row_step, int64_t k_step, const double *b, int64_t b_step, double *out,
                    int64_t out_step);
} rt__tiles;

extern const rt__tiles RT_EACH_ISA(rt__tiles);

#endif
