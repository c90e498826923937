// Attention, forward, on tensor cores: a block takes 128 queries of one head past the keys that they see, a warp 32 of
// them. Tiles of keys and values arrive in a two-stage pipeline with one barrier a step; scores, weights and the output
// stay in registers, with online softmax.
//
// What bounds it on an H100 SM, for 16 x 8 scores: 2 D / 16 mma of 1.5 cycles (12 at D = 64, 25 at D = 128), 128
// powers of two at 16 a cycle (8), and ldmatrix of 4 cycles. With 32 queries a warp, each ldmatrix of keys or values
// feeds 4 mma (with 16 it would feed 2, and shared memory would be the bound); with those of queries that is 3.6 at
// D = 64 and 3.2 at D = 128. Within a warp, powers overlap only with the product of weights and values: at D = 64
// registers are kept low enough for three blocks an SM; at D = 128 the output alone takes 128, and two fit.
#include "kernels/cuda/attention.cuh"

constexpr int WARPS = 4, THREADS = WARPS * WARP;
constexpr int M = WARP / 16;         // a lane knows the visible keys of one query of its warp
constexpr int ROWS = WARPS * WARP;   // queries of a block
constexpr int KEYS = 64;            // keys of a step
constexpr unsigned RING = 2 * KEYS;      // keys in shared memory: those of this step and of the next

// How a warp goes through a step: so many keys at a time, and so many columns of its queries kept in registers.
template <int D> struct Plan;
template <> struct Plan<64> {
    static constexpr int KEYS_AT_ONCE = 32, KEPT = 48, BLOCKS_PER_SM = 3;
};
template <> struct Plan<128> {
    static constexpr int KEYS_AT_ONCE = 64, KEPT = 0, BLOCKS_PER_SM = 2;
};

// A row of an accumulator is spread over four neighbouring lanes.
static __device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
static __device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

// The query of a warp that half `half` of accumulator tile `m` holds for this lane.
static __device__ __forceinline__ int row_of(int m, int half) {
    return m * 16 + half * 8 + static_cast<int>(threadIdx.x % WARP / 4);
}

// Of each query of a block.
struct VisibleKeys {
    int begin[ROWS]; // beyond all keys where the query is not there
    int end, keys;   // the first query's end, as if there were more than `keys`

    __device__ __forceinline__ KeyRange of(int row) const { return {begin[row], min(keys, end + row)}; }
};

template <int N>
static __device__ __forceinline__ void mask_scores(float (&scores)[M][N][4], const VisibleKeys &visible, int row0,
                                                   int key) {
    const int first = key + static_cast<int>(threadIdx.x % 4 * 2);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const KeyRange range = visible.of(row0 + row_of(m, half));
            const int begin = range.begin - first, end = range.end - first;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    if (n * 8 + i < begin || n * 8 + i >= end) scores[m][n][half * 2 + i] = -INFINITY;
        }
}

// Of the keys that a lane's queries have met so far. A score that is NaN is not in `maximum` but in `sum`.
struct OnlineSoftmax {
    static constexpr float SLACK = 8;
    float maximum[M][2]; // of the scores before they are scaled; SLACK below it at most, scaled
    float sum[M][2];     // this lane's share of the sum of 2^(scale (score - maximum))

    __device__ __forceinline__ void begin() {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) maximum[m][half] = -INFINITY, sum[m][half] = 0;
    }

    // Scores become weights, of up to 2^SLACK: what the output holds so far shrinks only where a maximum grows by more,
    // which soon becomes rare. All exponentials come after that, in one block with the products that take them.
    template <int N, int COLUMNS>
    __device__ __forceinline__ void update(float (&scores)[M][N][4], float (&out)[M][COLUMNS][4], float scale) {
        float correction[M][2];
        bool grown = false;
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float top = maximum[m][half];
#pragma unroll
                for (int n = 0; n < N; n++)
                    top = fmaxf(top, fmaxf(scores[m][n][half * 2], scores[m][n][half * 2 + 1]));
                top = quad_max(top);
                const float growth = (top - maximum[m][half]) * scale; // NaN of two infinities: nothing grows
                correction[m][half] = 1;
                if (growth > SLACK) correction[m][half] = exp2_approx(-growth), maximum[m][half] = top, grown = true;
            }
        if (__any_sync(ALL_LANES, grown)) {
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    sum[m][half] *= correction[m][half];
#pragma unroll
                    for (int n = 0; n < COLUMNS; n++)
#pragma unroll
                        for (int i = half * 2; i < half * 2 + 2; i++) out[m][n][i] *= correction[m][half];
                }
        }
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float shift = maximum[m][half] == -INFINITY ? 0 : maximum[m][half] * scale;
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int i = half * 2; i < half * 2 + 2; i++) {
                        scores[m][n][i] = exp2_approx(scores[m][n][i] * scale - shift);
                        sum[m][half] += scores[m][n][i];
                    }
            }
    }

    // Divides the output by the sum; `lse` belongs to the block's first query, of which `there` are there.
    template <int COLUMNS>
    __device__ __forceinline__ void finish(float (&out)[M][COLUMNS][4], float *lse, int there,
                                           const VisibleKeys &visible, int row0, float scale) {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = row0 + row_of(m, half);
                const bool sees = visible.begin[row] < visible.of(row).end;
                const float total = quad_sum(sum[m][half]), top = maximum[m][half];
                const float inverse = 1 / total;
#pragma unroll
                for (int n = 0; n < COLUMNS; n++)
#pragma unroll
                    for (int i = half * 2; i < half * 2 + 2; i++) out[m][n][i] = sees ? out[m][n][i] * inverse : 0;
                const float value = top == -INFINITY ? NAN : top * scale / LOG2_E + logf(total);
                if (threadIdx.x % 4 == 0 && row < there) lse[row] = sees ? value : -INFINITY;
            }
    }
};

// What a block looks up once a step instead of keeping it in registers.
struct BlockState {
    HeadRows<const bf16> k, v;
    int head, sequence;
    int row; // the first query
    Sight sight[WARPS];
    VisibleKeys visible;

    __device__ __forceinline__ void set(const AttentionForward<bf16> &t, const BlockOrder &order) {
        const BlockOrder::Place place = order.place();
        const int first = (order.tiles - 1 - place.tile) * ROWS; // the longest blocks start first
        const int i = threadIdx.x, query = first + i;
        const bool there = query < t.visibility.queries;
        const KeyRange keys = t.visibility.of(place.sequence, query);
        visible.begin[i] = there ? keys.begin : INT_MAX;
        if (i == 0) {
            const int kv_head = place.head / t.group, last = min(first + ROWS, t.visibility.queries) - 1;
            k = t.k.rows(place.sequence, kv_head), v = t.v.rows(place.sequence, kv_head);
            k.count = v.count = max(1, min(t.visibility.keys, t.visibility.end(place.sequence, last)));
            head = place.head, sequence = place.sequence, row = first;
            visible.keys = t.visibility.keys, visible.end = t.visibility.end(place.sequence, first);
        }
        const Sight warp = warp_sight(keys, there);
        if (i % WARP == 0) sight[i / WARP] = warp;
    }
    __device__ __forceinline__ int begin() const { // of the keys, at a whole step
        int begin = INT_MAX;
        for (int i = 0; i < WARPS; i++) begin = min(begin, sight[i].begin);
        return begin / KEYS * KEYS;
    }
    __device__ __forceinline__ int end() const {
        int end = 0;
        for (int i = 0; i < WARPS; i++) end = max(end, sight[i].end);
        return end;
    }
};

template <int D> constexpr int TILE_BYTES = (ROWS + 2 * RING) * D * static_cast<int>(sizeof(bf16));
template <int D> constexpr int SHARED_BYTES = TILE_BYTES<D> + static_cast<int>(sizeof(BlockState));

template <int D>
__global__ void __launch_bounds__(THREADS, Plan<D>::BLOCKS_PER_SM) attention_forward_kernel(AttentionForward<bf16> t,
                                                                                          BlockOrder order) {
    constexpr int PART = Plan<D>::KEYS_AT_ONCE;
    DYNAMIC_SHARED(bf16, shared);
    const Tile<D> q_tile{shared}, k_ring{shared + ROWS * D}, v_ring{shared + (ROWS + RING) * D};
    BlockState &block = *reinterpret_cast<BlockState *>(shared + TILE_BYTES<D> / sizeof(bf16));
    const int warp = threadIdx.x / WARP;
    block.set(t, order);
    __syncthreads();

    const auto load_step = [&](int key) {
        Tile<D>{k_ring.base + key % RING * D}.template load_async<KEYS, THREADS>(block.k, key);
        Tile<D>{v_ring.base + key % RING * D}.template load_async<KEYS, THREADS>(block.v, key);
        cp_async_commit();
    };
    WarpRows<D, M, Plan<D>::KEPT> q;
    if (block.begin() < block.end()) {
        q_tile.template load_async<ROWS, THREADS>(t.q.rows(block.sequence, block.head), block.row);
        cp_async_commit();
        load_step(block.begin());
        cp_async_wait<1>();
        __syncthreads();
        q.set(q_tile, warp * WARP);
    }
    const float scale = t.scale * LOG2_E;
    OnlineSoftmax softmax;
    softmax.begin();
    float out[M][D / 8][4];
    clear(out);
#pragma unroll 1
    for (int key = block.begin(); key < block.end(); key += PART) {
        if (key % KEYS == 0) {
            cp_async_wait<0>();
            __syncthreads(); // this step's keys are there, and all warps have left those of the step before
            if (key + KEYS < block.end()) load_step(key + KEYS);
        }
        if (!block.sight[warp].meets(key, PART)) continue;
        float scores[M][PART / 8][4];
        dot_rows(scores, q, k_ring, key % RING);
        if (!block.sight[warp].covers(key, PART)) mask_scores(scores, block.visible, warp * WARP, key);
        softmax.update(scores, out, scale);
        add_weighted_rows<D>(out, scores, v_ring, key % RING);
    }
    const int64_t head = static_cast<int64_t>(block.sequence) * t.heads + block.head;
    float *lse = t.lse + head * t.visibility.queries + block.row;
    softmax.finish(out, lse, t.visibility.queries - block.row, block.visible, warp * WARP, scale);
    store_rows<D>(t.out.rows(block.sequence, block.head), block.row, out, q_tile, warp * WARP);
}

template <int D> static void queue_forward(const AttentionForward<bf16> &t, int64_t sequences) {
    cuda_allow_shared(attention_forward_kernel<D>, SHARED_BYTES<D>);
    const int64_t bytes = 2 * sizeof(bf16) * t.q.width * static_cast<int64_t>(t.visibility.keys) / t.group;
    const BlockOrder order = block_order((t.visibility.queries + ROWS - 1) / ROWS, t.heads, sequences, bytes);
    QUEUE(attention_forward_kernel<D>, order.tiles * order.all, THREADS, SHARED_BYTES<D>, t, order);
}

void cuda_attention_forward(Tensor out, Tensor lse, const AttentionHeads *heads, const AttentionMask *mask) {
    REQUIRE(mask->scale > 0, "attention scales scores by %g", mask->scale);
    const int query_heads = static_cast<int>(heads->q.shape[2]), kv_heads = static_cast<int>(heads->k.shape[2]);
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        const AttentionForward<T> t = {
            heads_of<T>(out), elements<float>(lse), heads_of<const T>(heads->q), heads_of<const T>(heads->k),
            heads_of<const T>(heads->v), visibility_of(heads, mask), query_heads, query_heads / kv_heads,
            static_cast<float>(mask->scale)};
        if (t.visibility.queries <= ATTENTION_FEW_QUERIES) {
            bool packs = fits_packs(heads->q, 16 / sizeof(T)) && fits_packs(heads->k, 16 / sizeof(T)) &&
                         fits_packs(heads->v, 16 / sizeof(T));
            attention_few_forward(t, out.shape[0], packs);
            return;
        }
        if constexpr (sizeof(T) == sizeof(bf16)) {
            if (attention_fits_tensor_cores(heads, out)) {
                if (t.q.width <= 64) queue_forward<64>(t, out.shape[0]);
                else queue_forward<128>(t, out.shape[0]);
                return;
            }
        }
        attention_forward_plain(t, out.shape[0]);
    });
}
