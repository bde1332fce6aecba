/* grids.cuh -- values of grids at points and along rays, and their adjoints.
 *
 * An adjoint adds the gradients at points to the nodes around them, in any order, as integers of 64 bits: units of 2^(e - room), where no gradient reaches 2^e
 * and so many of them, 2^room units each, stay below 2^62. So the bits of a sum do not depend on the order. What is less than half a unit is lost: of a
 * million points, at most 2^-42 of the largest gradient. A gradient that is not finite makes all of the result NaN. */
#include "backend/cuda/device.cuh"

#include "graph/ops/rays.h"

struct spot { /* of a point, between the two nodes from each corner on */
    corner corners[4];
    float x; /* how far behind the first */
};

DEVICE spot spot_of(const rt__cuda_grid_args &a, float x, float y, float z)
{
    spot p;
    float by, bz;
    const int32_t i = cell_of(x, a.nodes[2], &p.x), j = cell_of(y, a.nodes[1], &by), k = cell_of(z, a.nodes[0], &bz);
    corners_of(p.corners, ((int64_t)k * a.nodes[1] + j) * a.nodes[2] + i, a.nodes[1], a.nodes[2], bz, by);
    return p;
}

DEVICE spot point_of(const rt__cuda_grid_args &a, unsigned point)
{
    const float *p = a.at + 3 * (size_t)point;
    return spot_of(a, p[0], p[1], p[2]);
}

/* A thread for each number of each point. */
KERNEL(trilinear, grid)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const spot p = point_of(a, at / a.channels);
    float sum = 0;
    for (int k = 0; k < 4; k++) {
        const float *node = a.grid + p.corners[k].at * a.channels + at % a.channels;
        sum += p.corners[k].weight * ((1 - p.x) * node[0] + p.x * node[a.channels]);
    }
    a.y[at] = sum;
}

/* ---- along rays: a warp for each, whose lanes are at samples side by side */

struct path {
    const float *ray;
    size_t grid; /* where that of its particle begins */
    float delta, per_sample;
};

/* Of ray n; delta is not positive where it misses the box. */
DEVICE path path_of(const rt__cuda_grid_args &a, unsigned n)
{
    path p;
    p.ray = a.at + (size_t)n * RAY;
    p.grid = a.particle ? (size_t)clamped(a.particle[n / a.rays], a.particles) * a.size : 0;
    p.delta = (p.ray[7] - p.ray[6]) / (float)a.samples;
    p.per_sample = a.per_length * p.delta;
    return p;
}

DEVICE spot spot_on(const rt__cuda_grid_args &a, const path &p, float t)
{
    return spot_of(a, p.ray[0] + t * p.ray[3], p.ray[1] + t * p.ray[4], p.ray[2] + t * p.ray[5]);
}

struct seen {
    float t, density, r, g, b; /* density: raw, with its bias */
};

DEVICE seen seen_at(const rt__cuda_grid_args &a, const path &p, unsigned k)
{
    seen s;
    s.t = t_of(p.ray, p.delta, (int32_t)k);
    const spot at = spot_on(a, p, s.t);
    float sum[CHANNELS] = {0};
    for (int c = 0; c < 4; c++) {
        const float4 *node = (const float4 *)(a.grid + p.grid) + at.corners[c].at;
        const float4 near = node[0], far = node[1];
        const float near_weight = at.corners[c].weight * (1 - at.x), far_weight = at.corners[c].weight * at.x;
        sum[0] += near_weight * near.x + far_weight * far.x;
        sum[1] += near_weight * near.y + far_weight * far.y;
        sum[2] += near_weight * near.z + far_weight * far.z;
        sum[3] += near_weight * near.w + far_weight * far.w;
    }
    s.density = sum[0] + a.bias;
    s.r = sigmoid_of(sum[1]), s.g = sigmoid_of(sum[2]), s.b = sigmoid_of(sum[3]);
    return s;
}

/* The number of another lane; beyond the warp: another one. */
DEVICE float of_lane(float v, int lane, float beyond)
{
    const float other = __shfl_sync(WHOLE_WARP, v, lane & (WARP - 1));
    return lane >= 0 && lane < WARP ? other : beyond;
}

/* The sum over this lane and all before it (STEP 1) or behind it (-1). */
template <int STEP> DEVICE float running_sum(float v)
{
    for (int apart = 1; apart < WARP; apart *= 2) v += of_lane(v, (int)threadIdx.x - STEP * apart, 0);
    return v;
}

KERNEL(render, grid)
{
    if (row_number() >= a.count) return;
    const path p = path_of(a, row_number());
    const int lane = (int)threadIdx.x;
    float part[PARTS] = {0}, before = 0; /* before: sum of all tau that came already */
    for (unsigned first = 0; p.delta > 0 && first < a.samples; first += WARP) {
        const seen s = seen_at(a, p, first + threadIdx.x);
        const float tau = first + threadIdx.x < a.samples ? fast_softplus(s.density) * p.per_sample : 0;
        const float until = before + running_sum<1>(tau), w = fast_exp(-of_lane(until, lane - 1, before)) - fast_exp(-until);
        part[0] += w * s.r, part[1] += w * s.g, part[2] += w * s.b, part[4] += w * s.t;
        before = of_lane(until, WARP - 1, 0);
    }
    for (int i = 0; i < PARTS; i++) part[i] = warp_sum(part[i]);
    part[3] = 1 - fast_exp(-before);
    float *y = a.y + (size_t)(row_number() / a.rays) * PARTS * a.rays + row_number() % a.rays;
    for (int i = 0; i < PARTS && lane == 0; i++) y[(size_t)i * a.rays] = part[i];
}

/* The gradients of raw values at all samples, (rays,samples,4). */
KERNEL(render_slopes, grid)
{
    SHARED(float, depths);
    if (row_number() >= a.count) return;
    const path p = path_of(a, row_number());
    const int lane = (int)threadIdx.x;
    const unsigned S = a.samples;
    float *tau = depths + threadIdx.y * (S + 1), sum = 0; /* sum_{j<k} tau_j, k 0 to S */
    float4 *slopes = (float4 *)a.slopes + (size_t)row_number() * S;
    if (!(p.delta > 0)) {
        for (unsigned k = threadIdx.x; k < S; k += WARP) slopes[k] = float4{0, 0, 0, 0};
        return;
    }
    if (lane == 0) tau[0] = 0;
    for (unsigned first = 0; first < S; first += WARP) {
        const unsigned k = first + threadIdx.x;
        const float until = sum + running_sum<1>(k < S ? fast_softplus(seen_at(a, p, k).density) * p.per_sample : 0);
        sum = of_lane(until, WARP - 1, 0);
        if (k < S) tau[k + 1] = until;
    }
    __syncwarp(); /* the depths of all samples are there */
    float gy[PARTS], behind = 0;
    const float *from = a.gy + (size_t)(row_number() / a.rays) * PARTS * a.rays + row_number() % a.rays;
    for (int i = 0; i < PARTS; i++) gy[i] = from[(size_t)i * a.rays];
    const float through = fast_exp(-tau[S]) * gy[3];
    for (unsigned end = (S + WARP - 1) / WARP * WARP; end > 0; end -= WARP) {
        const unsigned k = end - WARP + threadIdx.x;
        const seen s = seen_at(a, p, k);
        const float left = fast_exp(-tau[k < S ? k + 1 : S]), w = fast_exp(-tau[k < S ? k : S]) - left;
        const float worth = worth_of(gy, s.r, s.g, s.b, s.t), from_here = behind + running_sum<-1>(w * worth);
        const float slope = tau_slope(left, worth, of_lane(from_here, lane + 1, behind), through);
        behind = of_lane(from_here, 0, 0);
        if (k < S)
            slopes[k] = float4{slope * p.per_sample * sigmoid_of(s.density), colour_slope(w, gy[0], s.r), colour_slope(w, gy[1], s.g),
                               colour_slope(w, gy[2], s.b)};
    }
}

/* ---- adjoints: clear, the largest gradient, all to the nodes around, results */

#define INFINITE 0x7f800000u /* as bits; NaN is more */

/* 2^n units are 1. */
DEVICE double unit_of(const rt__cuda_grid_args &a, int sign) { return ldexp(1.0, sign * (a.room - ((int)(*a.largest >> 23) - 126))); }

KERNEL(grid_clear, grid)
{
    const unsigned at = thread_number();
    if (at < a.numbers) a.sums[at] = 0;
    if (at == 0) *a.largest = 0;
}

/* Bits of numbers that are not negative are in the order of the numbers. */
KERNEL(grid_largest, grid)
{
    SHARED(double, part);
    double own = 0;
    for (size_t i = thread_number(); i < a.count; i += (size_t)gridDim.x * blockDim.x)
        own = outdoing<1>::joined(own, fabs((double)a.slopes[i]));
    own = joined_lanes<outdoing<1>>(own, part, threadIdx.x, blockDim.x, 0, 1);
    if (threadIdx.x == 0) atomicMax(a.largest, __float_as_uint((float)own));
}

template <class FIND> DEVICE void spread(const rt__cuda_grid_args &a, FIND find)
{
    const unsigned at = thread_number();
    if (at >= a.count || *a.largest >= INFINITE) return;
    const float slope = a.slopes[at];
    if (slope == 0) return;
    size_t grid = 0;
    const spot p = find(at / a.channels, &grid);
    const double units = unit_of(a, 1);
    for (int k = 0; k < 8; k++) {
        const float weight = p.corners[k / 2].weight * (k % 2 ? p.x : 1 - p.x);
        const size_t node = (size_t)(p.corners[k / 2].at + k % 2) * a.channels + at % a.channels;
        atomicAdd(a.sums + grid + node, (unsigned long long)llrint((double)(weight * slope) * units));
    }
}
KERNEL(grid_from_points, grid)
{
    spread(a, [=](unsigned point, size_t *) { return point_of(a, point); });
}
KERNEL(grid_from_rays, grid)
{
    spread(a, [=](unsigned point, size_t *grid) {
        const path p = path_of(a, point / a.samples);
        *grid = p.grid;
        return spot_on(a, p, t_of(p.ray, p.delta, (int32_t)(point % a.samples)));
    });
}

KERNEL(grid_result, grid)
{
    const unsigned at = thread_number();
    if (at >= a.numbers) return;
    a.y[at] = *a.largest >= INFINITE ? (float)NAN : (float)((double)(int64_t)a.sums[at] * unit_of(a, -1));
}
