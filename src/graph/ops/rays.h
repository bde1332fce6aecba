/* rays.h -- where a point lies between the nodes of a grid, and emission and absorption along a ray, stated once: for the reference rows, which are C in `real`,
 * and for the kernels of devices, which are C++. Who includes this has included formulas.h. */
#ifndef RT_OPS_RAYS_H
#define RT_OPS_RAYS_H

/* Numbers of a node: raw density and colour; of a ray: from, to, near, far, jitter; of what is seen along it: colour, alpha, depth. */
enum { CHANNELS = 4, RAY = 9, PARTS = 5 };

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
    corners[0].at = first, corners[0].weight = (1 - z) * (1 - y);
    corners[1].at = first + width, corners[1].weight = (1 - z) * y;
    corners[2].at = first + height * width, corners[2].weight = z * (1 - y);
    corners[3].at = first + (height + 1) * width, corners[3].weight = z * y;
}

/* Where sample k of a ray lies, in lengths of its direction. */
RT_INLINE real t_of(const real *ray, real delta, int32_t k) { return ray[6] + ((real)k + ray[8]) * delta; }

/* softplus to float's last places: ln(1 + u) = 2 artanh(u/(2 + u)), as a series. */
RT_INLINE real fast_softplus(real x)
{
    if (sizeof(real) == sizeof(double)) return (real)softplus_of((wide)x);
    real u = fast_exp(x < 0 ? x : -x), s = u / (2 + u), z = s * s, p = (real)(1.0 / 13);
    p = p * z + (real)(1.0 / 11);
    p = p * z + (real)(1.0 / 9);
    p = p * z + (real)(1.0 / 7);
    p = p * z + (real)(1.0 / 5);
    p = p * z + (real)(1.0 / 3);
    return (x > 0 ? x : 0) + 2 * s * (p * z + 1);
}

/* Of a sample with weight w and colours r, g, b: what one more of w is worth; d/d raw colour of its colour c; d/d tau, where `behind` is sum_{j>k} w_j q_j and
 * `through` T_S gy_alpha. */
RT_INLINE real worth_of(const real gy[PARTS], real r, real g, real b, real t) { return gy[0] * r + gy[1] * g + gy[2] * b + gy[4] * t; }
RT_INLINE real colour_slope(real w, real gy, real c) { return w * gy * c * (1 - c); }
RT_INLINE real tau_slope(real left, real worth, real behind, real through) { return left * worth - behind + through; }

#endif
