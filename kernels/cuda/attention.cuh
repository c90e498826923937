// What the files of attention share: heads as kernels see them, and which keys a query sees.
//
// bf16 heads of up to 128 columns whose rows can be copied 16 bytes at a time go to tensor cores (attention.cu,
// attention_backward.cu), narrower ones as if zeros filled them up to 64 or 128; all others to attention_plain.cu. Of
// few queries forward goes to attention_few.cu.
#pragma once

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/tile.cuh"

#include <algorithm>
#include <limits.h>
#include <math.h>
#include <type_traits>

constexpr float LOG2_E = 1.4426950408889634f;

// (B, T, H, D). A token's heads lie `pitch` bytes behind those of the token before.
template <class T> struct Heads {
    T *data;
    int64_t sequence, head;
    uint32_t pitch;
    int tokens, width;

    __device__ __forceinline__ HeadRows<T> rows(int64_t b, int64_t h) const {
        return {data + b * sequence + h * head, pitch, tokens, width};
    }
};
template <class T> Heads<T> heads_of(Tensor t) {
    const int64_t pitch = t.stride[1] * static_cast<int64_t>(sizeof(T));
    REQUIRE(pitch <= UINT32_MAX, "tokens %ld bytes apart", static_cast<long>(pitch));
    return {elements<std::remove_const_t<T>>(t), t.stride[0], t.stride[2], static_cast<uint32_t>(pitch),
            static_cast<int>(t.shape[1]), static_cast<int>(t.shape[3])};
}

struct KeyRange {
    int begin, end; // end excluded; nothing where begin >= end
};

struct Visibility {
    const int32_t *first_visible, *offset; // or NULL
    int queries, keys;

    // Of a query; none of one that is not there.
    __device__ __forceinline__ KeyRange of(int sequence, int query) const {
        if (query >= queries) return {0, 0};
        const int begin = first_visible ? first_visible[static_cast<int64_t>(sequence) * queries + query] : 0;
        return {max(begin, 0), min(keys, end(sequence, query))};
    }
    // Of its keys, as if there were more.
    __device__ __forceinline__ int end(int sequence, int query) const {
        return (offset ? offset[sequence] : 0) + query + 1;
    }
};
static inline Visibility visibility_of(const AttentionHeads *heads, const AttentionMask *mask) {
    return {elements<int32_t>(mask->first_visible), elements<int32_t>(mask->offset),
            static_cast<int>(heads->q.shape[1]), static_cast<int>(heads->k.shape[1])};
}

// What WARP neighbouring queries see, those aside that are not there.
struct alignas(16) Sight {
    int begin, end;               // all keys that any of them sees lie here; nothing where begin >= end
    int common_begin, common_end; // every one of them sees these

    __device__ __forceinline__ bool meets(int key, int keys) const { return begin < key + keys && key < end; }
    __device__ __forceinline__ bool covers(int key, int keys) const {
        return common_begin <= key && key + keys <= common_end;
    }
};

// Each lane gives one query's keys.
__device__ __forceinline__ Sight warp_sight(KeyRange keys, bool there) {
    const bool sees = keys.begin < keys.end;
    return {__reduce_min_sync(ALL_LANES, sees ? keys.begin : INT_MAX),
            __reduce_max_sync(ALL_LANES, sees ? keys.end : 0),
            __reduce_max_sync(ALL_LANES, there ? keys.begin : 0),
            __reduce_min_sync(ALL_LANES, there ? keys.end : INT_MAX)};
}

// ---- grids ----

// In which order the blocks of a one-dimensional grid take the tiles of all heads: some heads together, whose rows stay
// in the L2 cache, and of these tile after tile. Tiles are numbered from the longest: the last blocks are short.
struct BlockOrder {
    int tiles;    // of a head
    int heads;    // of a sequence
    int all;      // heads of all sequences
    int together; // heads

    struct Place {
        int tile, head, sequence;
    };
    __device__ __forceinline__ Place place() const {
        const int first = static_cast<int>(blockIdx.x) / (tiles * together) * together;
        const int rest = static_cast<int>(blockIdx.x) - first * tiles, here = min(together, all - first);
        const int head = first + rest % here;
        return {rest / here, head % heads, head / heads};
    }
};
// `bytes`: of what the blocks of one head read again and again.
static inline BlockOrder block_order(int tiles, int heads, int64_t sequences, int64_t bytes) {
    // Less than half of an A100's or H100's L2 cache; on the simulator so little that tests meet several groups.
    constexpr int64_t CACHED = THALWEG_SIMULATED ? 32 << 10 : 16 << 20;
    const int64_t all = heads * sequences, together = std::min(all, CACHED / std::max<int64_t>(bytes, 1) + 1);
    REQUIRE(tiles * all <= INT_MAX, "attention of %ld tiles", static_cast<long>(tiles * all));
    return {tiles, heads, static_cast<int>(all), static_cast<int>(together)};
}

// ---- forward ----

template <class T> struct AttentionForward {
    Heads<T> out;
    float *lse; // (B, H, Tq)
    Heads<const T> q, k, v;
    Visibility visibility;
    int heads, group; // query heads, and how many of them read one key/value head
    float scale;
};

// ---- backward ----

// What backward needs of a query: weights are 2^(scale log2(e) q k' - lse), and dscores = weights (dout v' - delta).
struct alignas(16) QueryRow {
    float lse; // to base 2; infinite where the query sees nothing or is not there: all weights are 0
    float delta;
    KeyRange keys;
};

// Rows of queries are padded to whole tiles in the scratch memory.
enum { QUERY_ROWS = 64 };

template <class T> struct AttentionBackward {
    Heads<T> dq, dk, dv;
    Heads<const T> dout, out;
    const float *lse;
    Heads<const T> q, k, v;
    Visibility visibility;
    int heads, group;
    float scale;
    int first_sequence; // of a launch
    int padded;         // queries, in whole QUERY_ROWS
    QueryRow *rows;     // (sequences of a launch, H, padded)
    Sight *sights;      // (sequences of a launch, padded / WARP)

    // `part`: a sequence of the launch, counted from the first.
    __device__ __forceinline__ const QueryRow *rows_of(int part, int head) const {
        return rows + (static_cast<int64_t>(part) * heads + head) * padded;
    }
    __device__ __forceinline__ const Sight *sights_of(int part) const {
        return sights + static_cast<int64_t>(part) * (padded / WARP);
    }
};

// Whether all rows of the heads can be copied 16 bytes at a time.
static inline bool attention_fits_tensor_cores(const AttentionHeads *heads, Tensor out) {
    return out.dtype == DTYPE_BF16 && out.shape[3] <= 128 && fits_packs(heads->q, 8) && fits_packs(heads->k, 8) &&
           fits_packs(heads->v, 8) && fits_packs(out, 8);
}

// Of few queries, forward; `packs`: rows of q, k and v can be read 16 bytes at a time.
enum { ATTENTION_FEW_QUERIES = 8 };
template <class T> void attention_few_forward(const AttentionForward<T> &t, int64_t sequences, bool packs);

// Without tensor cores; `rows` and `sights` are set.
template <class T> void attention_forward_plain(const AttentionForward<T> &t, int64_t sequences);
template <class T> void attention_backward_plain(const AttentionBackward<T> &t, int64_t sequences);
