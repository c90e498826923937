// Matrices as rows of device memory, and sums over the threads that share a row.
#pragma once

#include "kernels/cuda/cuda.cuh"

template <class T> struct Rows {
    T *data; // NULL: absent
    int64_t stride;
    __device__ __forceinline__ T *operator[](int64_t row) const { return data + row * stride; }
};

template <class T> Rows<T> rows_of(Tensor t) {
    REQUIRE(t.rank <= 2, "rank %d where rows belong", t.rank);
    return {elements<T>(t), t.rank == 2 ? t.stride[0] : 0};
}

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t unit) { return ceil_div(a, unit) * unit; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Elements of T in 16 bytes.
template <class T> constexpr int PACK = 16 / static_cast<int>(sizeof(T));

// `n` floats, a multiple of 4 or fewer than 4, that lie at a multiple of their size or of 16 bytes.
template <int N> __device__ __forceinline__ void load_floats(float (&out)[N], const float *from) {
    constexpr int W = N < 4 ? N : 4;
#pragma unroll
    for (int i = 0; i < N; i += W) {
        const Pack<float, W> pack = load_pack<float, W>(from + i);
#pragma unroll
        for (int k = 0; k < W; k++) out[i + k] = pack.value[k];
    }
}
template <int N> __device__ __forceinline__ void store_floats(float *to, const float (&in)[N]) {
    constexpr int W = N < 4 ? N : 4;
#pragma unroll
    for (int i = 0; i < N; i += W) {
        Pack<float, W> pack;
#pragma unroll
        for (int k = 0; k < W; k++) pack.value[k] = in[i + k];
        store_pack(to + i, pack);
    }
}

// The sum over blockDim.x threads: a warp of the block, or all of it. `room` has a place for every warp and is not
// reused before the next barrier.
__device__ __forceinline__ float row_total(float x, float *room) {
    x = warp_sum(x);
    if (blockDim.x == WARP) return x;
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = x;
    __syncthreads();
    float total = room[0];
    for (int warp = 1; warp < static_cast<int>(blockDim.x) / WARP; warp++) total += room[warp];
    return total;
}
