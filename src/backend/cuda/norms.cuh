/* norms.cuh -- group normalisation and its derivatives (graph/ops/norm.c says which), on images in channels last and on plain ones.
 *
 * A block has the pixels of `span` channels, which are whole groups, of one sample: thread (column, row) has W channels from column W on, at the pixels row,
 * row + rows, .. It reads x in each pass anew, which the cache has. Sums are per channel, in float about the first pixel's value, so that a mean far above
 * the deviation costs no digits, and are added over rows in a fixed tree. */
#include "backend/cuda/device.cuh"

struct norm_shared {
    float *tree, *first, *second;      /* (W, rows, columns); two numbers for each channel of the span */
    float *mean, *r, *slope, *moment;  /* for each group of the span: slope, the mean of gh; moment, that of gh d */
};

DEVICE norm_shared shared_of(const rt__cuda_norm_args &a, float *shared, int width)
{
    const unsigned groups = a.span / a.per_group;
    norm_shared s;
    s.tree = shared;
    s.first = s.tree + (unsigned)width * a.rows * a.columns;
    s.second = s.first + a.span;
    s.mean = s.second + a.span;
    s.r = s.mean + groups;
    s.slope = s.r + groups;
    s.moment = s.slope + groups;
    return s;
}

/* own[k] of all rows of a column, added up: row 0 gets it. */
template <int W> DEVICE void add_rows(const rt__cuda_norm_args &a, float *tree, float (&own)[W], unsigned column, unsigned row)
{
    for (unsigned k = 0; k < W; k++) tree[(k * a.rows + row) * a.columns + column] = own[k];
    __syncthreads(); /* the rows' sums are there */
    for (unsigned half = a.rows / 2; half > 0; half /= 2) {
        if (row < half)
            for (unsigned k = 0; k < W; k++) tree[(k * a.rows + row) * a.columns + column] += tree[(k * a.rows + row + half) * a.columns + column];
        __syncthreads(); /* a level of the tree is there */
    }
    if (row == 0)
        for (unsigned k = 0; k < W; k++) own[k] = tree[k * a.rows * a.columns + column];
}

/* What a thread knows of its channels: d = x - centre, z = d scale + bias; mean (in row 0) is that of x + t. */
template <int W> struct norm_thread {
    norm_shared s;
    unsigned thread, threads, groups, column, row;
    unsigned channel, first_channel; /* in the span, in the sample */
    size_t base;                     /* of the first pixel */
    float pixels, n;                 /* n: numbers of a group */
    float centre[W], scale[W], bias[W], mean[W];
};

/* Mean and variance of each channel about its first pixel's value, then of each group. */
template <int W> DEVICE void find_groups(const rt__cuda_norm_args &a, float *shared, norm_thread<W> &t)
{
    t.s = shared_of(a, shared, W);
    t.thread = threadIdx.x, t.threads = a.columns * a.rows, t.groups = a.span / a.per_group;
    t.column = a.across ? t.thread / a.rows : t.thread % a.columns;
    t.row = a.across ? t.thread % a.rows : t.thread / a.columns;
    t.channel = t.column * W, t.first_channel = blockIdx.x * a.span + t.channel;
    t.base = (size_t)blockIdx.y * a.channels * a.pixels + (size_t)t.first_channel * a.channel_step;
    t.pixels = (float)a.pixels, t.n = t.pixels * (float)a.per_group;

    float origin[W], v[W], sum[W], square[W];
    load(origin, a.x, t.base);
    for (int k = 0; k < W; k++) sum[k] = square[k] = 0;
    for (unsigned p = t.row; p < a.pixels; p += a.rows) {
        load(v, a.x, t.base + (size_t)p * a.pixel_step);
        for (int k = 0; k < W; k++) {
            const float d = v[k] - origin[k];
            sum[k] += d;
            square[k] += d * d;
        }
    }
    add_rows(a, t.s.tree, sum, t.column, t.row);
    add_rows(a, t.s.tree, square, t.column, t.row);
    for (int k = 0; k < W; k++) {
        t.centre[k] = a.shift.data ? -load(a.shift, (size_t)blockIdx.y * a.channels + t.first_channel + (unsigned)k) : 0;
        t.mean[k] = origin[k] + sum[k] / t.pixels - t.centre[k];
        if (t.row == 0) {
            t.s.first[t.channel + (unsigned)k] = t.mean[k];
            t.s.second[t.channel + (unsigned)k] = square[k] - sum[k] * sum[k] / t.pixels;
        }
    }
    __syncthreads(); /* each channel's mean and squares are there */
    for (unsigned g = t.thread; g < t.groups; g += t.threads) {
        float mean = 0, m2 = 0;
        for (unsigned c = g * a.per_group; c < (g + 1) * a.per_group; c++) mean += t.s.first[c];
        mean /= (float)a.per_group;
        for (unsigned c = g * a.per_group; c < (g + 1) * a.per_group; c++) {
            const float d = t.s.first[c] - mean;
            m2 += t.s.second[c] + t.pixels * d * d;
        }
        t.s.mean[g] = mean;
        t.s.r[g] = 1 / sqrtf((m2 > 0 ? m2 : 0) / t.n + a.eps);
    }
    __syncthreads(); /* each group's mean and r are there */
    for (int k = 0; k < W; k++) {
        const unsigned g = (t.channel + (unsigned)k) / a.per_group, c = t.first_channel + (unsigned)k;
        t.centre[k] += t.s.mean[g];
        t.scale[k] = t.s.r[g] * (a.w ? a.w[c] : 1);
        t.bias[k] = a.b ? a.b[c] : 0;
    }
}

template <int W> DEVICE void norm(const rt__cuda_norm_args &a)
{
    SHARED(float, shared);
    norm_thread<W> t;
    find_groups(a, shared, t);
    for (unsigned p = t.row; p < a.pixels; p += a.rows) {
        const size_t at = t.base + (size_t)p * a.pixel_step;
        float v[W];
        load(v, a.x, at);
        for (int k = 0; k < W; k++) {
            const float z = (v[k] - t.centre[k]) * t.scale[k] + t.bias[k];
            v[k] = a.silu ? z * sigmoid_of(z) : z;
        }
        store(a.y, at, v);
    }
}

/* gy act'(z) */
DEVICE float sloped(const rt__cuda_norm_args &a, float z, float gy) { return a.silu ? silu_sloped(gy, z, sigmoid_of(z)) : gy; }

/* The derivative: of the loss, from gn = gy act'(z), or with FORWARD of y, from gn = dx, whose means are without w. */
template <int W, bool FORWARD> DEVICE void norm_derivative(const rt__cuda_norm_args &a)
{
    SHARED(float, shared);
    norm_thread<W> t;
    find_groups(a, shared, t);

    /* per channel, sums of gn and gn d; per group, the means of gh and gh d */
    float v[W], g[W], sum[W], moment[W];
    for (int k = 0; k < W; k++) sum[k] = moment[k] = 0;
    for (unsigned p = t.row; p < a.pixels; p += a.rows) {
        const size_t at = t.base + (size_t)p * a.pixel_step;
        load(v, a.x, at);
        load(g, a.gy, at);
        for (int k = 0; k < W; k++) {
            const float d = v[k] - t.centre[k], gn = FORWARD ? g[k] : sloped(a, d * t.scale[k] + t.bias[k], g[k]);
            sum[k] += gn;
            moment[k] += gn * d;
        }
    }
    add_rows(a, t.s.tree, sum, t.column, t.row);
    add_rows(a, t.s.tree, moment, t.column, t.row);
    if (t.row == 0) {
        for (int k = 0; k < W; k++) {
            const float w = !FORWARD && a.w ? a.w[t.first_channel + (unsigned)k] : 1;
            t.s.first[t.channel + (unsigned)k] = w * sum[k];
            t.s.second[t.channel + (unsigned)k] = w * moment[k];
        }
    }
    __syncthreads(); /* each channel's sums are there */
    for (unsigned i = t.thread; i < t.groups; i += t.threads) {
        float all = 0, all_moments = 0;
        for (unsigned c = i * a.per_group; c < (i + 1) * a.per_group; c++) {
            all += t.s.first[c];
            all_moments += t.s.second[c];
        }
        t.s.slope[i] = all / t.n;
        t.s.moment[i] = all_moments / t.n;
    }
    __syncthreads(); /* each group's means are there */

    /* gn scale + offset - d slope */
    float offset[W], slope[W];
    for (int k = 0; k < W; k++) {
        const unsigned i = (t.channel + (unsigned)k) / a.per_group, c = t.first_channel + (unsigned)k;
        const float r = t.s.r[i], w = FORWARD && a.w ? a.w[c] : 1;
        offset[k] = -r * t.s.slope[i] * w;
        slope[k] = r * r * r * t.s.moment[i] * w;
        if (!FORWARD && a.sums && t.row == 0) {
            float *to = a.sums + ((size_t)blockIdx.y * a.channels + c) * 3;
            const float deviations = t.pixels * (t.mean[k] - t.s.mean[i]); /* the sum of d over the pixels */
            to[0] = r * moment[k];
            to[1] = sum[k];
            to[2] = t.scale[k] * sum[k] + offset[k] * t.pixels - slope[k] * deviations;
        }
    }
    for (unsigned p = a.y.data ? t.row : a.pixels; p < a.pixels; p += a.rows) {
        const size_t at = t.base + (size_t)p * a.pixel_step;
        float more[W];
        load(v, a.x, at);
        load(g, a.gy, at);
        for (int k = 0; k < W; k++) more[k] = 0;
        if (a.addend.data) load(more, a.addend, at);
        for (int k = 0; k < W; k++) {
            const float d = v[k] - t.centre[k], z = d * t.scale[k] + t.bias[k];
            if (FORWARD)
                v[k] = sloped(a, z, g[k] * t.scale[k] + offset[k] - d * slope[k]);
            else
                v[k] = sloped(a, z, g[k]) * t.scale[k] + offset[k] - d * slope[k] + more[k];
        }
        store(a.y, at, v);
    }
}

KERNEL(norm8, norm) { norm<WIDE>(a); }
KERNEL(norm1, norm) { norm<1>(a); }
KERNEL(norm_data8, norm) { norm_derivative<WIDE, false>(a); }
KERNEL(norm_data1, norm) { norm_derivative<1, false>(a); }
KERNEL(norm_jvp8, norm) { norm_derivative<WIDE, true>(a); }
KERNEL(norm_jvp1, norm) { norm_derivative<1, true>(a); }
