/* kernels.cu -- all own kernels, as one module: by nvcc for GPUs, by g++ for tests (tests/cuda). */
#include "backend/cuda/maps.cuh"
#include "backend/cuda/moves.cuh"
#include "backend/cuda/sums.cuh"
#include "backend/cuda/norms.cuh"
#include "backend/cuda/pools.cuh"
#include "backend/cuda/draws.cuh"
#include "backend/cuda/grids.cuh"
#include "backend/cuda/updates.cuh"
