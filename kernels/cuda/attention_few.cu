// Attention of few queries, forward, as generation has it: bound by reading once what is seen of a cache. The rows of a
// block are queries of the heads that read one key/value head, up to 8 of them; its keys are a part of those they see.
// A group of neighbouring lanes takes one key at a time, each lane 8 columns; each group has an online softmax of its
// own, and these are merged in order: groups, warps, then the parts by a second kernel.
//
// The grid depends on the shapes alone, since where queries stand may change between replays: what they see is divided
// evenly among the blocks that are there, as far as each has PART_KEYS, and the others leave at once. An H100 needs 18
// KiB under way on each multiprocessor. With one row, 4 keys and values at once and 4 blocks there are 64.
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/rows.cuh"

enum {
    WARPS = 4,
    THREADS = WARPS * WARP,
    COLUMNS = 8,            // of a lane
    PART_KEYS = 64,         // of a block, at least
    BLOCKS_WANTED = 132 * 4,
};

// What some keys come to: the sum of e^(score - top), and of values with these weights.
struct Online {
    float top, sum;
};

template <class T> struct FewQueries {
    AttentionForward<T> t;
    float *partial;             // (sequences, key/value heads, chunks, parts, N, width + 2): weighted values, Online
    int chunks, parts;          // of N rows; of the keys they see
    int lanes;                  // of a group
};

// A chunk of up to N rows: head after head, queries within.
struct Chunk {
    int sequence, kv_head, first; // row

    template <class T> __device__ __forceinline__ bool there(const AttentionForward<T> &t, int row) const {
        return first + row < t.group * t.visibility.queries;
    }
    template <class T> __device__ __forceinline__ int head(const AttentionForward<T> &t, int row) const {
        return kv_head * t.group + (first + row) / t.visibility.queries;
    }
    template <class T> __device__ __forceinline__ int query(const AttentionForward<T> &t, int row) const {
        return (first + row) % t.visibility.queries;
    }
    // What the row sees; nothing where it is not there.
    template <class T> __device__ __forceinline__ KeyRange keys(const AttentionForward<T> &t, int row) const {
        return there(t, row) ? t.visibility.of(sequence, query(t, row)) : KeyRange{0, 0};
    }
};

// Of the keys that any row sees, those of part `part`.
struct Part {
    KeyRange keys;
    int parts; // that have any
};
template <int N, class T> __device__ Part part_of(const FewQueries<T> &f, const Chunk &chunk, int part) {
    KeyRange all = {INT_MAX, 0};
    for (int row = 0; row < N; row++) {
        const KeyRange keys = chunk.keys(f.t, row);
        if (keys.begin < keys.end) all = {min(all.begin, keys.begin), max(all.end, keys.end)};
    }
    const int64_t count = max(all.end - all.begin, 0);
    const int parts = min(f.parts, static_cast<int>((count + PART_KEYS - 1) / PART_KEYS));
    if (part >= parts) return {{0, 0}, parts};
    const int64_t begin = count * part / parts, end = count * (part + 1) / parts;
    return {{all.begin + static_cast<int>(begin), all.begin + static_cast<int>(end)}, parts};
}

__device__ __forceinline__ float exponent(float x, float top) { return expf(x - (top == -INFINITY ? 0.0f : top)); }

// The columns of a lane: packs of W, `lanes` apart.
template <int W> __device__ __forceinline__ int column_of(int i, int lanes) {
    return (i / W * lanes + static_cast<int>(threadIdx.x) % lanes) * W + i % W;
}

// This lane's columns of a row; zeros where it is not there.
template <class T, int W> struct LaneRow {
    Words<T, W> words[COLUMNS / W];

    __device__ __forceinline__ void load(const HeadRows<const T> &from, int row, bool there, int lanes) {
#pragma unroll
        for (int p = 0; p < COLUMNS / W; p++) {
            const int column = column_of<W>(p * W, lanes);
            words[p] = there && column < from.width ? load_words<T, W>(from.row(row) + column) : Words<T, W>{};
        }
    }
    __device__ __forceinline__ void get(float (&to)[COLUMNS]) const {
#pragma unroll
        for (int p = 0; p < COLUMNS / W; p++) {
            float part[W];
            to_floats(part, words[p]);
#pragma unroll
            for (int i = 0; i < W; i++) to[p * W + i] = part[i];
        }
    }
};

// A lane's part of the rows.
template <int N> struct LaneState {
    float q[N][COLUMNS], out[N][COLUMNS];
    Online online[N];

    // Once more keys are met, whose highest scores are `top`: what was summed before shrinks.
    __device__ __forceinline__ void grow(int n, float top) {
        top = fmaxf(top, online[n].top);
        const float factor = exponent(online[n].top, top);
        online[n] = {top, online[n].sum * factor};
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) out[n][i] *= factor;
    }
    // Takes in what lanes `offset` away have.
    __device__ __forceinline__ void merge(int offset) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            const Online other = {__shfl_xor_sync(ALL_LANES, online[n].top, offset),
                                  __shfl_xor_sync(ALL_LANES, online[n].sum, offset)};
            float values[COLUMNS];
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) values[i] = __shfl_xor_sync(ALL_LANES, out[n][i], offset);
            grow(n, other.top);
            const float factor = exponent(other.top, online[n].top);
            online[n].sum += other.sum * factor;
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) out[n][i] += values[i] * factor;
        }
    }
};

// Keys of a group that are read at once, in packs of W.
template <int W, int N> constexpr int AT_ONCE = W == 1 ? 1 : N <= 2 ? 4 : 2;

// One step: AT_ONCE keys of each group from `key` on, `step` apart.
template <class T, int W, int N>
__device__ __forceinline__ void meet(LaneState<N> &state, const FewQueries<T> &f, const Chunk &chunk,
                                     const KeyRange *visible, int key, int end, int step) {
    const HeadRows<const T> k = f.t.k.rows(chunk.sequence, chunk.kv_head);
    const HeadRows<const T> v = f.t.v.rows(chunk.sequence, chunk.kv_head);
    LaneRow<T, W> keys[AT_ONCE<W, N>], values[AT_ONCE<W, N>];
    float scores[N][AT_ONCE<W, N>];
#pragma unroll
    for (int u = 0; u < AT_ONCE<W, N>; u++) keys[u].load(k, key + u * step, key + u * step < end, f.lanes);
#pragma unroll
    for (int u = 0; u < AT_ONCE<W, N>; u++) values[u].load(v, key + u * step, key + u * step < end, f.lanes);
#pragma unroll
    for (int u = 0; u < AT_ONCE<W, N>; u++) {
        float x[COLUMNS];
        keys[u].get(x);
#pragma unroll
        for (int n = 0; n < N; n++) {
            float sum = 0.0f;
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) sum = fmaf(state.q[n][i], x[i], sum);
            for (int offset = f.lanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, offset);
            const bool sees = visible[n].begin <= key + u * step && key + u * step < min(end, visible[n].end);
            scores[n][u] = sees ? sum * f.t.scale : -INFINITY;
        }
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
        float top = scores[n][0];
#pragma unroll
        for (int u = 1; u < AT_ONCE<W, N>; u++) top = fmaxf(top, scores[n][u]);
        state.grow(n, top);
#pragma unroll
        for (int u = 0; u < AT_ONCE<W, N>; u++) {
            scores[n][u] = exponent(scores[n][u], state.online[n].top);
            state.online[n].sum += scores[n][u];
        }
    }
#pragma unroll
    for (int u = 0; u < AT_ONCE<W, N>; u++) {
        float x[COLUMNS];
        values[u].get(x);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) state.out[n][i] = fmaf(scores[n][u], x[i], state.out[n][i]);
    }
}

// One number of a row and the row's Online, of `count` partial results that lie `step` floats apart, in order.
struct Merged {
    Online online;
    float value;
};
__device__ __forceinline__ Merged merge_column(const float *row, int64_t step, int count, int width, int column) {
    Merged all = {{-INFINITY, 0.0f}, 0.0f};
    for (int i = 0; i < count; i++) all.online.top = fmaxf(all.online.top, row[i * step + width]);
    for (int i = 0; i < count; i++) {
        const float factor = exponent(row[i * step + width], all.online.top);
        all.online.sum += row[i * step + width + 1] * factor;
        all.value += row[i * step + column] * factor;
    }
    return all;
}

template <class T>
__device__ __forceinline__ void finish_column(const AttentionForward<T> &t, const Chunk &chunk, int row, int column,
                                              const Merged &all) {
    const int head = chunk.head(t, row), query = chunk.query(t, row);
    const KeyRange keys = chunk.keys(t, row);
    const bool sees = keys.begin < keys.end;
    t.out.rows(chunk.sequence, head).row(query)[column] = from_float<T>(sees ? all.value / all.online.sum : 0.0f);
    if (column > 0) return;
    const float lse = all.online.top == -INFINITY ? NAN : all.online.top + logf(all.online.sum);
    t.lse[(static_cast<int64_t>(chunk.sequence) * t.heads + head) * t.visibility.queries + query] =
        sees ? lse : -INFINITY;
}

// Where the partial results of a part of a chunk lie.
template <int N, class T>
__device__ __forceinline__ float *partial_of(const FewQueries<T> &f, const Chunk &chunk, int part) {
    const int64_t kv_heads = f.t.heads / f.t.group;
    const int64_t place = (chunk.sequence * kv_heads + chunk.kv_head) * f.chunks + chunk.first / N;
    return f.partial + (place * f.parts + part) * N * (f.t.q.width + 2);
}

// Grid: parts, chunks of all key/value heads, sequences.
template <class T, int W, int N>
__global__ void __launch_bounds__(THREADS, N <= 4 ? 4 : 2) few_queries(FewQueries<T> f) {
    DYNAMIC_SHARED(float, room); // (WARPS, N, width + 2)
    SHARED(KeyRange, visible, [N]);
    const int width = f.t.q.width, warp = static_cast<int>(threadIdx.x) / WARP, groups = WARP / f.lanes;
    const Chunk chunk = {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y) / f.chunks,
                         static_cast<int>(blockIdx.y) % f.chunks * N};
    const Part part = part_of<N>(f, chunk, blockIdx.x);
    if (f.parts > 1 && static_cast<int>(blockIdx.x) >= part.parts) return;
    if (threadIdx.x < N) visible[threadIdx.x] = chunk.keys(f.t, threadIdx.x);
    LaneState<N> state;
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int row = chunk.there(f.t, n) ? n : 0;
        LaneRow<T, W> q;
        q.load(f.t.q.rows(chunk.sequence, chunk.head(f.t, row)), chunk.query(f.t, row), true, f.lanes);
        q.get(state.q[n]);
        state.online[n] = {-INFINITY, 0.0f};
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) state.out[n][i] = 0.0f;
    }
    __syncthreads();
    const int group = static_cast<int>(threadIdx.x) % WARP / f.lanes, step = WARPS * groups;
#pragma unroll 1
    for (int key = part.keys.begin + warp * groups; key < part.keys.end; key += AT_ONCE<W, N> * step) // alike in a warp
        meet<T, W>(state, f, chunk, visible, key + group, part.keys.end, step);
    for (int offset = f.lanes; offset < WARP; offset *= 2) state.merge(offset);
#pragma unroll
    for (int n = 0; n < N; n++) {
        float *row = room + (warp * N + n) * (width + 2);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            const int column = column_of<W>(i, f.lanes);
            if (group == 0 && column < width) row[column] = state.out[n][i];
        }
        if (threadIdx.x % WARP == 0) row[width] = state.online[n].top, row[width + 1] = state.online[n].sum;
    }
    __syncthreads();
    float *partial = partial_of<N>(f, chunk, blockIdx.x);
    for (int i = threadIdx.x; i < N * width; i += THREADS) {
        const int n = i / width, column = i % width;
        if (!chunk.there(f.t, n)) continue;
        const Merged all = merge_column(room + n * (width + 2), N * (width + 2), WARPS, width, column);
        if (f.parts == 1) {
            finish_column(f.t, chunk, n, column, all);
            continue;
        }
        float *row = partial + n * (width + 2);
        row[column] = all.value;
        if (column == 0) row[width] = all.online.top, row[width + 1] = all.online.sum;
    }
}

// Grid: rows of a key/value head, key/value heads, sequences; a thread for each column.
template <class T, int N> __global__ void merge_parts(FewQueries<T> f) {
    const int row = blockIdx.x, column = threadIdx.x, width = f.t.q.width;
    const Chunk chunk = {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y), row / N * N};
    const int parts = part_of<N>(f, chunk, 0).parts;
    if (column >= width) return;
    const float *first = partial_of<N>(f, chunk, 0) + row % N * (width + 2);
    finish_column(f.t, chunk, row % N, column, merge_column(first, N * (width + 2), parts, width, column));
}

template <class T, int W, int N> static void queue_few(FewQueries<T> f, int64_t sequences) {
    const int rows = f.t.group * f.t.visibility.queries, kv_heads = f.t.heads / f.t.group, width = f.t.q.width;
    f.chunks = static_cast<int>(ceil_div(rows, N));
    const int64_t chunks = sequences * kv_heads * f.chunks;
    f.parts = static_cast<int>(least(ceil_div(BLOCKS_WANTED, chunks), ceil_div(f.t.visibility.keys, PART_KEYS)));
    const size_t row_bytes = static_cast<size_t>(width + 2) * sizeof(float);
    if (f.parts > 1) f.partial = static_cast<float *>(cuda_scratch(chunks * f.parts * N * row_bytes));
    const dim3 grid(f.parts, kv_heads * f.chunks, sequences);
    QUEUE((few_queries<T, W, N>), grid, THREADS, WARPS * N * row_bytes, f);
    if (f.parts > 1) QUEUE((merge_parts<T, N>), dim3(rows, kv_heads, sequences), round_up(width, WARP), 0, f);
}

template <class T, int W> static void queue_rows(const FewQueries<T> &f, int64_t sequences) {
    const int rows = f.t.group * f.t.visibility.queries;
    if (rows == 1) queue_few<T, W, 1>(f, sequences);
    else if (rows == 2) queue_few<T, W, 2>(f, sequences);
    else if (rows <= 4) queue_few<T, W, 4>(f, sequences);
    else queue_few<T, W, 8>(f, sequences);
}

template <class T> void attention_few_forward(const AttentionForward<T> &t, int64_t sequences, bool packs) {
    FewQueries<T> f = {t, NULL, 1, 1, 1};
    REQUIRE(t.q.width <= COLUMNS * WARP, "heads of %d columns, at most %d", t.q.width, COLUMNS * WARP);
    while (f.lanes * COLUMNS < t.q.width) f.lanes *= 2;
    if (packs) queue_rows<T, PACK<T>>(f, sequences);
    else queue_rows<T, 1>(f, sequences);
}

template void attention_few_forward(const AttentionForward<float> &, int64_t, bool);
template void attention_few_forward(const AttentionForward<bf16> &, int64_t, bool);
