// Tiles of bf16 rows in shared memory and the fragments the tensor-core instructions take from them.
#pragma once

#include "kernels/cuda/ptx.cuh"


constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;

// ROWS x D elements in 16-byte chunks. Chunk c of row r lies at c ^ (r % 8), so that the eight rows
// one ldmatrix reads fall into different banks.
template <int D>
struct Tile {
  bf16* base;

  __device__ __forceinline__ bf16* chunk(int row, int c) const {
    return base + row * D + (c ^ (row & 7)) * 8;
  }

  // Starts the copy of ROWS rows from global memory; rows from `limit` on become zero.
  template <int ROWS>
  __device__ __forceinline__ void load_async(const bf16* source, int64_t row_stride, int first,
                                             int limit) const {
    constexpr int kChunks = D / 8;
#pragma unroll
    for (int i = 0; i < ROWS * kChunks / kThreads; i++) {
      const int n = i * kThreads + static_cast<int>(threadIdx.x);
      const int row = n / kChunks, c = n % kChunks;
      const bool valid = first + row < limit;
      cp_async16(chunk(row, c), source + (valid ? first + row : 0) * row_stride + c * 8, valid);
    }
  }

  // A operand: rows row0..row0+15, columns k0..k0+15.
  __device__ __forceinline__ void load_a(uint32_t (&a)[4], int row0, int k0) const {
    const int lane = threadIdx.x % 32;
    ldmatrix_x4(a, chunk(row0 + lane % 16, k0 / 8 + lane / 16));
  }
  // B operands of two neighbouring n-tiles when the tile holds B transposed (row = n, column = k).
  __device__ __forceinline__ void load_b(uint32_t (&b)[4], int n0, int k0) const {
    const int lane = threadIdx.x % 32;
    ldmatrix_x4(b, chunk(n0 + lane % 8 + lane / 16 * 8, k0 / 8 + lane / 8 % 2));
  }
  // The same when the tile holds B as it is (row = k, column = n).
  __device__ __forceinline__ void load_b_rows(uint32_t (&b)[4], int k0, int n0) const {
    const int lane = threadIdx.x % 32;
    ldmatrix_x4_trans(b, chunk(k0 + lane % 16, n0 / 8 + lane / 16));
  }
};

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<uint32_t>(__bfloat16_as_ushort(pair.x)) |
         static_cast<uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
}

// Two neighbouring accumulator tiles are, rounded to bf16, one A operand: no trip through memory.
__device__ __forceinline__ void accumulator_to_a(uint32_t (&a)[4], const float (&left)[4],
                                                 const float (&right)[4]) {
  a[0] = pack_bf16(left[0], left[1]);
  a[1] = pack_bf16(left[2], left[3]);
  a[2] = pack_bf16(right[0], right[1]);
  a[3] = pack_bf16(right[2], right[3]);
}

template <int N>
__device__ __forceinline__ void clear(float (&tiles)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; n++)
#pragma unroll
    for (int i = 0; i < 4; i++) tiles[n][i] = 0.0f;
}

// out (16 x 8N) += A rows row0.. of `a` times the transpose of the first 8N rows of `b`, over D columns.
template <int D, int N>
__device__ __forceinline__ void multiply_transposed(float (&out)[N][4], Tile<D> a, int row0, Tile<D> b) {
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    uint32_t left[4];
    a.load_a(left, row0, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      uint32_t right[4];
      b.load_b(right, n * 8, k);
      mma_m16n8k16_bf16(out[n], left, right[0], right[1]);
      mma_m16n8k16_bf16(out[n + 1], left, right[2], right[3]);
    }
  }
}

// out (16 x D) += weights (16 x 8K, accumulator layout) times the first 8K rows of `rows`.
template <int D, int K>
__device__ __forceinline__ void multiply_rows(float (&out)[D / 8][4], const float (&weights)[K][4],
                                              Tile<D> rows) {
#pragma unroll
  for (int k = 0; k < K; k += 2) {
    uint32_t left[4];
    accumulator_to_a(left, weights[k], weights[k + 1]);
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      uint32_t right[4];
      rows.load_b_rows(right, k * 8, n * 8);
      mma_m16n8k16_bf16(out[n], left, right[0], right[1]);
      mma_m16n8k16_bf16(out[n + 1], left, right[2], right[3]);
    }
  }
}

// Writes the 16 x D accumulators of one warp as bf16 rows to global memory. `tile` is scratch; the
// warp's rows row0..row0+15 in it must not be in use by other warps.
template <int D>
__device__ __forceinline__ void store_rows(const float (&values)[D / 8][4], Tile<D> tile, int row0, bf16* out,
                                           int64_t row_stride, int first, int limit) {
  const int lane = threadIdx.x % 32;
  __syncwarp();  // every lane has finished reading these rows
#pragma unroll
  for (int n = 0; n < D / 8; n++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      bf16* at = tile.chunk(row0 + lane / 4 + half * 8, n) + lane % 4 * 2;
      *reinterpret_cast<uint32_t*>(at) = pack_bf16(values[n][half * 2], values[n][half * 2 + 1]);
    }
  }
  __syncwarp();
#pragma unroll
  for (int i = lane; i < 16 * D / 8; i += 32) {
    const int row = row0 + i / (D / 8), c = i % (D / 8);
    if (first + row < limit)
      *reinterpret_cast<uint4*>(out + (first + row) * row_stride + c * 8) =
          *reinterpret_cast<const uint4*>(tile.chunk(row, c));
  }
}
