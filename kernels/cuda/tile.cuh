// Tiles of bf16 rows in shared memory, the fragments that tensor-core instructions take from them, and products of
// what one warp holds: M times 16 rows. An operand is read from a tile with one ldmatrix for 16 rows or columns, and
// serves M or N products; the wider a warp's part of the result, the less of shared memory's time a product takes.
#pragma once

#include "kernels/cuda/ptx.cuh"

// Rows of one head in global memory, `pitch` bytes apart. From `count` on, and beyond `width`, all is zero.
template <class T> struct HeadRows {
    T *data;
    uint32_t pitch;
    int count, width;

    __device__ __forceinline__ T *row(int i) const {
        const uint64_t offset = static_cast<uint64_t>(static_cast<uint32_t>(i)) * pitch;
        return reinterpret_cast<T *>(reinterpret_cast<uintptr_t>(data) + offset);
    }
};

// Rows of D elements in chunks of 16 bytes. Chunk c of row r lies at c ^ (r % 8), so that the eight rows which one
// ldmatrix reads fall into different banks. Fragments begin at multiples of 16 rows and columns: then the column only
// flips bits of a lane's own offset, which is computed once.
template <int D> struct Tile {
    static constexpr int CHUNKS = D / 8;
    bf16 *base;

    static __device__ __forceinline__ int offset(int row, int chunk) { return row * D + (chunk ^ (row & 7)) * 8; }

    // Starts the copy of ROWS rows by THREADS threads. `width` is a multiple of 8, all rows begin at one of 16 bytes.
    template <int ROWS, int THREADS>
    __device__ __forceinline__ void load_async(HeadRows<const bf16> from, int first) const {
        constexpr int STEP = THREADS / CHUNKS;
        static_assert(THREADS % (8 * CHUNKS) == 0 && ROWS % STEP == 0, "every thread copies one column of chunks");
        const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        const int end = chunk * 8 < from.width ? from.count : 0;
        bf16 *to = base + offset(row, chunk);
#pragma unroll
        for (int i = 0; i < ROWS; i += STEP) { // the address is a legal one even where it is not read
            const bf16 *at = from.row(min(first + row + i, from.count - 1)) + chunk * 8;
            cp_async16(to + i * D, at, first + row + i < end);
        }
    }

    // A operand: rows row0 .. row0 + 15, columns k0 .. k0 + 15.
    __device__ __forceinline__ void load_a(uint32_t (&a)[4], int row0, int k0) const {
        ldmatrix_x4(a, base + row0 * D + (offset(threadIdx.x % 16, threadIdx.x / 16 % 2) ^ k0));
    }
    // B operands of two neighbouring tiles of 8 columns where this tile is B transposed: row = n, column = k.
    __device__ __forceinline__ void load_b(uint32_t (&b)[4], int n0, int k0) const {
        const int row = threadIdx.x % 8 + threadIdx.x / 16 % 2 * 8;
        ldmatrix_x4(b, base + n0 * D + (offset(row, threadIdx.x / 8 % 2) ^ k0));
    }
    // The same where this tile is B as it is: row = k, column = n.
    __device__ __forceinline__ void load_b_rows(uint32_t (&b)[4], int k0, int n0) const {
        ldmatrix_x4_trans(b, base + k0 * D + (offset(threadIdx.x % 16, threadIdx.x / 16 % 2) ^ n0));
    }
};

// The A operand of a warp, M x 16 rows of a tile and all D columns: the first KEPT of them stay in registers, the
// others are read whenever they are needed.
template <int D, int M, int KEPT> struct WarpRows {
    Tile<D> tile;
    int row0;
    uint32_t kept[KEPT / 16 + 1][M][4]; // one more than used

    __device__ __forceinline__ void set(Tile<D> from, int first) {
        tile = from, row0 = first;
#pragma unroll
        for (int k = 0; k < KEPT; k += 16)
#pragma unroll
            for (int m = 0; m < M; m++) tile.load_a(kept[k / 16][m], row0 + m * 16, k);
    }
    __device__ __forceinline__ void load(uint32_t (&a)[M][4], int k) const {
#pragma unroll
        for (int m = 0; m < M; m++)
            if (k >= KEPT) tile.load_a(a[m], row0 + m * 16, k);
            else
#pragma unroll
                for (int i = 0; i < 4; i++) a[m][i] = kept[k / 16][m][i];
    }
};

// ---- accumulators: M x N tiles of 16 x 8. A lane has the elements (lane / 4 + 8 (i / 2), lane % 4 * 2 + i % 2) ----

template <int M, int N> __device__ __forceinline__ void clear(float (&tiles)[M][N][4]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) tiles[m][n][i] = 0;
}

template <int M, int N> __device__ __forceinline__ void multiply(float (&tiles)[M][N][4], float factor) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) tiles[m][n][i] *= factor;
}

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return static_cast<uint32_t>(__bfloat16_as_ushort(pair.x)) |
           static_cast<uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
}

// Two neighbouring tiles are, rounded to bf16, one A operand: no trip through memory.
__device__ __forceinline__ void accumulator_to_a(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
    a[0] = pack_bf16(left[0], left[1]);
    a[1] = pack_bf16(left[2], left[3]);
    a[2] = pack_bf16(right[0], right[1]);
    a[3] = pack_bf16(right[2], right[3]);
}

// out (16 M x 8 N) = the rows of `left` times rows row0 .. of `right`, transposed.
template <int D, int M, int N, int KEPT>
__device__ __forceinline__ void dot_rows(float (&out)[M][N][4], const WarpRows<D, M, KEPT> &left, Tile<D> right,
                                         int row0) {
    clear(out);
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t a[M][4];
        left.load(a, k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t b[4];
            right.load_b(b, row0 + n * 8, k);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_m16n8k16_bf16(out[m][n], a[m], b[0], b[1]);
                mma_m16n8k16_bf16(out[m][n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// out (16 M x D) += weights (16 M x 8 K, rounded to bf16) times rows row0 .. of `rows`.
template <int D, int M, int K>
__device__ __forceinline__ void add_weighted_rows(float (&out)[M][D / 8][4], const float (&weights)[M][K][4],
                                                  Tile<D> rows, int row0) {
#pragma unroll
    for (int k = 0; k < K; k += 2) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) accumulator_to_a(a[m], weights[m][k], weights[m][k + 1]);
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            uint32_t b[4];
            rows.load_b_rows(b, row0 + k * 8, n * 8);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_m16n8k16_bf16(out[m][n], a[m], b[0], b[1]);
                mma_m16n8k16_bf16(out[m][n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// Writes a warp's accumulators as bf16 rows: tile row r to row first + r, as far as there are such rows and columns.
// They pass through rows row0 .. of `tile`, which no other warp may be using, to leave in 16 bytes a lane.
template <int D, int M>
__device__ __forceinline__ void store_rows(const HeadRows<bf16> &to, int first, const float (&values)[M][D / 8][4],
                                           Tile<D> tile, int row0) {
    const int lane = threadIdx.x % WARP;
    __syncwarp(); // every lane has finished reading these rows
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                bf16 *at = tile.base + (row0 + m * 16 + half * 8) * D + tile.offset(lane / 4, n) + lane % 4 * 2;
                *reinterpret_cast<uint32_t *>(at) = pack_bf16(values[m][n][half * 2], values[m][n][half * 2 + 1]);
            }
    __syncwarp();
    for (int i = lane; i < 16 * M * Tile<D>::CHUNKS; i += WARP) {
        const int row = row0 + i / Tile<D>::CHUNKS, chunk = i % Tile<D>::CHUNKS;
        if (first + row < to.count && chunk * 8 < to.width)
            store_pack(to.row(first + row) + chunk * 8, load_pack<bf16, 8>(tile.base + tile.offset(row, chunk)));
    }
}
