/* moves.cuh -- rows that move elements, in units of 1 to 16 bytes: copies by steps, transposition, selection by index. */
#include "backend/cuda/device.cuh"

template <class T> DEVICE void copy(const rt__cuda_copy_args &a)
{
    const unsigned at = thread_number();
    if (at < a.count) ((T *)a.y)[offset_of(at, a.rank, a.dim, a.y_step)] = ((const T *)a.x)[offset_of(at, a.rank, a.dim, a.x_step)];
}
KERNEL(copy1, copy) { copy<uint8_t>(a); }
KERNEL(copy2, copy) { copy<uint16_t>(a); }
KERNEL(copy4, copy) { copy<uint32_t>(a); }
KERNEL(copy8, copy) { copy<uint64_t>(a); }
KERNEL(copy16, copy) { copy<uint4>(a); }

/* A block of (32, 8) threads turns a tile of 32 x 32; the tile's rows are a unit longer, so that a column lies in all banks. */
enum { TILE = 32, TILE_ROWS = 8 };
template <class T> DEVICE void transpose(const rt__cuda_transpose_args &a)
{
    SHARED(T, tile);
    const size_t matrix = (size_t)blockIdx.z * a.rows * a.cols;
    const unsigned col = blockIdx.x * TILE + threadIdx.x, row = blockIdx.y * TILE + threadIdx.x;
    for (unsigned i = threadIdx.y; i < TILE; i += TILE_ROWS) {
        const unsigned r = blockIdx.y * TILE + i;
        if (r < a.rows && col < a.cols) tile[i * (TILE + 1) + threadIdx.x] = ((const T *)a.x)[matrix + (size_t)r * a.cols + col];
    }
    __syncthreads(); /* the tile is there */
    for (unsigned i = threadIdx.y; i < TILE; i += TILE_ROWS) {
        const unsigned c = blockIdx.x * TILE + i;
        if (c < a.cols && row < a.rows) ((T *)a.y)[matrix + (size_t)c * a.rows + row] = tile[threadIdx.x * (TILE + 1) + i];
    }
}
KERNEL(transpose1, transpose) { transpose<uint8_t>(a); }
KERNEL(transpose2, transpose) { transpose<uint16_t>(a); }
KERNEL(transpose4, transpose) { transpose<uint32_t>(a); }
KERNEL(transpose8, transpose) { transpose<uint64_t>(a); }

template <class T> DEVICE void place(const rt__cuda_place_args &a)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const unsigned i = at % a.inner, j = at / a.inner % a.extent, o = at / a.inner / a.extent;
    const unsigned k = (j - a.start) / a.step; /* wraps around before the start: too large then */
    const bool within = j >= a.start && (j - a.start) % a.step == 0 && k < a.rows;
    ((T *)a.y)[at] = within ? ((const T *)a.x)[((size_t)o * a.rows + k) * a.inner + i] : T{};
}
KERNEL(place2, place) { place<uint16_t>(a); }
KERNEL(place4, place) { place<uint32_t>(a); }
KERNEL(place16, place) { place<uint4>(a); }

template <class T> DEVICE void take(const rt__cuda_select_args &a)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const unsigned i = at % a.inner, k = at / a.inner % a.k, o = at / a.inner / a.k;
    const int64_t j = clamped(a.index[a.of_element ? at : k], a.n);
    ((T *)a.y)[at] = ((const T *)a.x)[((size_t)o * a.n + (size_t)j) * a.inner + i];
}
KERNEL(take1, select) { take<uint8_t>(a); }
KERNEL(take2, select) { take<uint16_t>(a); }
KERNEL(take4, select) { take<uint32_t>(a); }
KERNEL(take8, select) { take<uint64_t>(a); }
KERNEL(take16, select) { take<uint4>(a); }

/* Each element of the result looks through all indices, so that it adds in their order. */
KERNEL(add_at, select)
{
    const unsigned at = thread_number();
    if (at >= a.count) return;
    const unsigned i = at % a.inner, j = at / a.inner % a.n, o = at / a.inner / a.n;
    float sum = 0;
    for (unsigned k = 0; k < a.k; k++) {
        const size_t from = ((size_t)o * a.k + k) * a.inner + i;
        if (clamped(a.index[a.of_element ? from : k], a.n) == j) sum += ((const float *)a.x)[from];
    }
    ((float *)a.y)[at] = sum;
}
