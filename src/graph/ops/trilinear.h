/* trilinear.h -- where a point lies between the nodes of a grid, and the shares in which an adjoint adds up: for the rows that read grids. */
#ifndef RT_OPS_TRILINEAR_H
#define RT_OPS_TRILINEAR_H

#include "graph/ops/kernel.h"

/* An adjoint adds into so many copies of the grid, each over a part of the points that does not depend on the threads; they are then summed in order. */
enum { SHARES = 8 };

/* The cell along one axis of n nodes at -1 + 2 i/(n-1), and how far behind its first node; beyond the box as on its face. NaN lies at 0. */
RT_INLINE int32_t cell_of(real p, int64_t n, real *behind)
{
    real most = (real)(n - 1), u = (p + 1) * (most / 2);
    u = u > 0 ? u : 0;
    u = u < most ? u : most;
    int32_t i = (int32_t)u, last = (int32_t)(n - 2);
    i = i < last ? i : last;
    *behind = u - (real)i;
    return i;
}

/* Rows of nodes along x that a point lies between, and their weights. Node numbers are those of the row's first node. */
typedef struct corner {
    int64_t at;
    real weight;
} corner;
RT_INLINE void corners_of(corner corners[4], int64_t first, int64_t height, int64_t width, real z, real y)
{
    corners[0] = (corner){first, (1 - z) * (1 - y)};
    corners[1] = (corner){first + width, (1 - z) * y};
    corners[2] = (corner){first + height * width, z * (1 - y)};
    corners[3] = (corner){first + (height + 1) * width, z * y};
}

/* to = the shares (SHARES of n numbers) summed in order */
RT_INLINE void sum_shares(real *to, const real *shares, int64_t n)
{
#pragma omp parallel for schedule(static) if (n > CHUNK)
    for (int64_t at = 0; at < n; at += STRIP) {
        int64_t m = n - at < STRIP ? n - at : STRIP;
        real *restrict y = to + at;
        memcpy(y, shares + at, (size_t)m * sizeof *y);
        for (int64_t s = 1; s < SHARES; s++) {
            const real *restrict x = shares + s * n + at;
#pragma omp simd
            for (int64_t i = 0; i < m; i++) y[i] += x[i];
        }
    }
}

#endif
