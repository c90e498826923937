// Walks over the segments of the flat buffers, a tile of one segment at a time. Their list lies in device memory: the
// host knows its length and no more, so blocks count and find the tiles themselves.
#pragma once

#include "kernels/cuda/cuda.cuh"

constexpr int TILE = 4096;        // elements of a segment that a block takes at a time
constexpr int TILE_THREADS = 256; // of a block that takes tiles

// Each thread counts the tiles of a run of the segments.
struct TileTable {
    int ends[TILE_THREADS]; // tiles up to the end of each run
    int warps[TILE_THREADS / WARP];
};

struct Part {
    const Segment *segment;
    int64_t index; // of the segment in its list
    int64_t from;  // the part's first element, counted from the segment's
    int64_t begin; // the same, counted from the first of the flat buffers
    int count;
};

// Blocks of a kernel that takes tiles, of which there are at most so many.
static inline int64_t most_tiles(int64_t elements, Segments segments) { return elements / TILE + segments.count; }
static inline unsigned tile_blocks(int64_t elements, Segments segments, int64_t most_blocks) {
    int64_t most = most_tiles(elements, segments), blocks = most < most_blocks ? most : most_blocks;
    return static_cast<unsigned>(blocks > 0 ? blocks : 1);
}

__device__ __forceinline__ int tiles_of(const Segment &segment) {
    return static_cast<int>((segment.count + TILE - 1) / TILE);
}

__device__ __forceinline__ int64_t segment_run(Segments segments) {
    return (segments.count + TILE_THREADS - 1) / TILE_THREADS;
}

// All tiles; the block's table for part_of. A barrier for all that was shared before.
__device__ __forceinline__ int count_tiles(TileTable &table, Segments segments) {
    int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP, count = 0;
    int64_t run = segment_run(segments);
    for (int64_t i = thread * run; i < (thread + 1) * run && i < segments.count; i++)
        count += tiles_of(segments.items[i]);
    for (int offset = 1; offset < WARP; offset *= 2) {
        int before = __shfl_up_sync(ALL_LANES, count, offset);
        if (lane >= offset) count += before;
    }
    if (lane == WARP - 1) table.warps[warp] = count;
    __syncthreads();
    for (int i = 0; i < warp; i++) count += table.warps[i];
    table.ends[thread] = count;
    __syncthreads();
    return table.ends[TILE_THREADS - 1];
}

// The same for all threads of the block.
__device__ __forceinline__ Part part_of(const TileTable &table, Segments segments, int tile) {
    int low = 0, high = TILE_THREADS - 1; // the first run that ends behind the tile
    while (low < high) {
        int middle = (low + high) / 2;
        if (table.ends[middle] > tile) high = middle;
        else low = middle + 1;
    }
    int64_t index = low * segment_run(segments);
    if (low > 0) tile -= table.ends[low - 1];
    for (int count; tile >= (count = tiles_of(segments.items[index])); index++) tile -= count;
    Part part = {segments.items + index, index, static_cast<int64_t>(tile) * TILE, 0, 0};
    int64_t rest = part.segment->count - part.from;
    part.begin = part.segment->offset + part.from;
    part.count = static_cast<int>(rest < TILE ? rest : TILE);
    return part;
}

// Whether packs of N elements may begin here; of NULL they may.
template <int N, class T> __device__ __forceinline__ bool begins_pack(const T *x) {
    return reinterpret_cast<uintptr_t>(x) % (N * sizeof(T)) == 0;
}

// The sum over a block, taken in the same order in all threads, which have it; `room` is for one number a warp.
template <int THREADS, class T> static __device__ __forceinline__ T block_sum(T x, T *room) {
    x = warp_sum(x);
    __syncthreads(); // `room` may still be read
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = x;
    __syncthreads();
    T sum = 0;
    for (int i = 0; i < THREADS / WARP; i++) sum += room[i];
    return sum;
}
