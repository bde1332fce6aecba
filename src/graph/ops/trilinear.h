/* trilinear.h -- the shares in which the adjoints of rows that read grids add up. */
#ifndef RT_OPS_TRILINEAR_H
#define RT_OPS_TRILINEAR_H

#include "graph/ops/kernel.h"

#include "graph/ops/rays.h"

/* An adjoint adds into so many copies of the grid, each over a part of the points that does not depend on the threads; they are then summed in order. */
enum { SHARES = 8 };

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
