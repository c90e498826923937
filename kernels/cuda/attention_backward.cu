// Attention, backward, on tensor cores and without atomics. One kernel owns tiles of keys and sums dK and dV over the
// queries, another owns tiles of queries and sums dQ over the keys; both compute the weights again from lse. That is 7
// products where 5 would do with atomics, and gradients that come out the same every time.
//
// Of an H100 SM an mma takes 1.5 cycles and an ldmatrix 4. Warps own 32 keys or queries, so that an ldmatrix of the
// other side feeds 4 mma; what a warp owns is read again for each product (dQ at D = 64 keeps it), since the sums take
// up to 128 registers. That makes 2.7 mma per ldmatrix for dK and dV and 4 for dQ at D = 64. At D = 128 the sums of 32
// keys would not fit: 16 keys, with 64 queries at once, make 1.8, and dQ 2.4. Two blocks fit an SM.
#include "kernels/cuda/attention.cuh"

#include <algorithm>

constexpr int WARPS = 4, THREADS = WARPS * WARP;

// ---- what both kernels need of each query ----

constexpr int LANES = 8; // of a query

template <class T, int PACK>
__global__ void __launch_bounds__(WARP * LANES) attention_rows_kernel(AttentionBackward<T> t) {
    const int head = blockIdx.y, sequence = t.first_sequence + blockIdx.z;
    const int query = blockIdx.x * WARP + threadIdx.x / LANES, part = threadIdx.x % LANES * PACK;
    const bool there = query < t.visibility.queries;
    float delta = 0;
    if (there) {
        const T *out = t.out.rows(sequence, head).row(query), *dout = t.dout.rows(sequence, head).row(query);
        for (int i = part; i < t.out.width; i += LANES * PACK) {
            const Pack<T, PACK> a = load_pack<T, PACK>(out + i), b = load_pack<T, PACK>(dout + i);
#pragma unroll
            for (int e = 0; e < PACK; e++) delta += to_float(a.value[e]) * to_float(b.value[e]);
        }
    }
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) delta += __shfl_xor_sync(ALL_LANES, delta, offset);
    if (part == 0) {
        const KeyRange keys = t.visibility.of(sequence, query);
        const int64_t at = (static_cast<int64_t>(sequence) * t.heads + head) * t.visibility.queries + query;
        const float lse = keys.begin < keys.end ? t.lse[at] * LOG2_E : INFINITY;
        t.rows[(static_cast<int64_t>(blockIdx.z) * t.heads + head) * t.padded + query] = {lse, delta, keys};
    }
    if (head == 0 && threadIdx.x < WARP) {
        const int i = blockIdx.x * WARP + threadIdx.x;
        const Sight sight = warp_sight(t.visibility.of(sequence, i), i < t.visibility.queries);
        if (threadIdx.x == 0) t.sights[static_cast<int64_t>(blockIdx.z) * (t.padded / WARP) + blockIdx.x] = sight;
    }
}

// ---- dK and dV: a block owns keys, and takes QUERY_ROWS queries a step, of every head that reads them ----

template <int D> struct KeyBlock {
    static constexpr int M = D == 64 ? 2 : 1, KEYS = WARPS * M * 16;
    static constexpr int AT_ONCE = D == 64 ? 32 : 64; // queries whose scores a warp holds
    static constexpr int TILE = QUERY_ROWS * D;
    static constexpr int SIGHTS = QUERY_ROWS / WARP;

    // In shared memory, behind keys and values: two of these, for this step and the next.
    struct alignas(128) Stage {
        bf16 q[TILE], dout[TILE];
        QueryRow rows[QUERY_ROWS];
        Sight sights[SIGHTS];

        __device__ __forceinline__ void load_async(const AttentionBackward<bf16> &t, int part, int head, int step) {
            const int sequence = t.first_sequence + part, first = step * QUERY_ROWS, i = threadIdx.x;
            Tile<D>{q}.template load_async<QUERY_ROWS, THREADS>(t.q.rows(sequence, head), first);
            Tile<D>{dout}.template load_async<QUERY_ROWS, THREADS>(t.dout.rows(sequence, head), first);
            if (i < QUERY_ROWS) cp_async16(&rows[i], t.rows_of(part, head) + first + i);
            else if (i < QUERY_ROWS + SIGHTS)
                cp_async16(&sights[i - QUERY_ROWS], t.sights_of(part) + step * SIGHTS + i - QUERY_ROWS);
            cp_async_commit();
        }
    };
    static constexpr int BYTES = 2 * KEYS * D * static_cast<int>(sizeof(bf16)) + 2 * static_cast<int>(sizeof(Stage));
};

// Steps [begin, end) in which some query sees one of the block's keys; in all threads.
static __device__ __forceinline__ KeyRange steps_that_meet(const Sight *sights, int steps, int key, int keys,
                                                           KeyRange *warp_steps) {
    KeyRange met = {INT_MAX, 0};
    for (int i = threadIdx.x; i < steps * (QUERY_ROWS / WARP); i += THREADS) {
        const int step = i / (QUERY_ROWS / WARP);
        if (sights[i].meets(key, keys)) met = {min(met.begin, step), max(met.end, step + 1)};
    }
    met = {__reduce_min_sync(ALL_LANES, met.begin), __reduce_max_sync(ALL_LANES, met.end)};
    if (threadIdx.x % WARP == 0) warp_steps[threadIdx.x / WARP] = met;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        met = {min(met.begin, warp_steps[i].begin), max(met.end, warp_steps[i].end)};
    return met;
}

// A lane's key of accumulator row i / 2, and its query of tile n.
static __device__ __forceinline__ int accumulator_row(int m, int i) {
    return m * 16 + i / 2 * 8 + static_cast<int>(threadIdx.x % WARP / 4);
}
static __device__ __forceinline__ int accumulator_column(int n, int i) {
    return n * 8 + static_cast<int>(threadIdx.x % 4 * 2) + i % 2;
}

// Masked scores are -infinity, so that their weights and gradients are 0: one path for all tiles keeps the exponentials
// among the products.
template <int M, int N>
static __device__ __forceinline__ void mask_keys(float (&scores)[M][N][4], const QueryRow *rows, int key) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int column = 0; column < 2; column++) {
            const KeyRange keys = rows[accumulator_column(n, column)].keys;
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int i = column; i < 4; i += 2) {
                    const int at = key + accumulator_row(m, i);
                    if (at < keys.begin || at >= keys.end) scores[m][n][i] = -INFINITY;
                }
        }
}

// Scores of keys (rows) and queries (columns) become weights, and dweights the gradients of the scores.
template <int M, int N>
static __device__ __forceinline__ void key_weights(float (&scores)[M][N][4], float (&dweights)[M][N][4],
                                                   const QueryRow *rows, float scale) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int column = 0; column < 2; column++) {
            const QueryRow row = rows[accumulator_column(n, column)];
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int i = column; i < 4; i += 2) {
                    scores[m][n][i] = exp2_approx(scores[m][n][i] * scale - row.lse);
                    dweights[m][n][i] = scores[m][n][i] * (dweights[m][n][i] - row.delta);
                }
        }
}

template <int D> __global__ void __launch_bounds__(THREADS, 2) attention_dkdv_kernel(AttentionBackward<bf16> t,
                                                                               BlockOrder order) {
    using Block = KeyBlock<D>;
    constexpr int M = Block::M, KEYS = Block::KEYS, N = Block::AT_ONCE / 8;
    DYNAMIC_SHARED(bf16, shared);
    SHARED(KeyRange, warp_steps, [WARPS]);
    using Stage = typename Block::Stage;
    const Tile<D> k_tile{shared}, v_tile{shared + KEYS * D};
    Stage *stages = reinterpret_cast<Stage *>(shared + 2 * KEYS * D);
    SHARED(BlockOrder::Place, place, );
    if (threadIdx.x == 0) place = order.place();
    __syncthreads();
    const int first_key = place.tile * KEYS; // the first keys meet the most queries, and start first
    const Sight *sights = t.sights_of(place.sequence);
    const KeyRange met = steps_that_meet(sights, t.padded / QUERY_ROWS, first_key, KEYS, warp_steps);
    const int steps = max(met.end - met.begin, 0) * t.group; // of all heads

    int head = place.head * t.group, step = met.begin; // of the next load
    const auto load_step = [&](int i) {
        stages[i % 2].load_async(t, place.sequence, head, step);
        if (++step == met.end) step = met.begin, head++;
    };

    const int warp_row = threadIdx.x / WARP * 16 * M, key = first_key + warp_row;
    WarpRows<D, M, 0> k, v;
    k.set(k_tile, warp_row);
    v.set(v_tile, warp_row);
    float dk[M][D / 8][4], dv[M][D / 8][4];
    clear(dk);
    clear(dv);
    if (steps > 0) {
        const int sequence = t.first_sequence + place.sequence;
        k_tile.template load_async<KEYS, THREADS>(t.k.rows(sequence, place.head), first_key);
        v_tile.template load_async<KEYS, THREADS>(t.v.rows(sequence, place.head), first_key);
        load_step(0);
    }
    for (int i = 0; i < steps; i++) {
        cp_async_wait<0>();
        __syncthreads(); // this step's queries are there, and all warps have left those of the step before
        if (i + 1 < steps) load_step(i + 1);
        const Stage &stage = stages[i % 2];
#pragma unroll 1
        for (int row = 0; row < QUERY_ROWS; row += Block::AT_ONCE) {
            bool meets = false, covers = true;
            for (int s = row / WARP; s < (row + Block::AT_ONCE) / WARP; s++) {
                meets = meets || stage.sights[s].meets(key, M * 16);
                covers = covers && stage.sights[s].covers(key, M * 16);
            }
            if (!meets) continue;
            const Tile<D> q_tile{const_cast<bf16 *>(stage.q)}, do_tile{const_cast<bf16 *>(stage.dout)};
            float scores[M][N][4], dweights[M][N][4];
            dot_rows(scores, k, q_tile, row);
            dot_rows(dweights, v, do_tile, row);
            if (!covers) mask_keys(scores, stage.rows + row, key);
            key_weights(scores, dweights, stage.rows + row, t.scale * LOG2_E);
            add_weighted_rows<D>(dv, scores, do_tile, row);
            add_weighted_rows<D>(dk, dweights, q_tile, row);
        }
    }
    const int sequence = t.first_sequence + place.sequence;
    multiply(dk, t.scale);
    store_rows<D>(t.dk.rows(sequence, place.head), first_key, dk, k_tile, warp_row);
    store_rows<D>(t.dv.rows(sequence, place.head), first_key, dv, v_tile, warp_row);
}

// ---- dQ: a block owns 128 queries, a warp 32, and takes KEYS keys a step ----

template <int D> struct QueryBlock {
    static constexpr int M = 2, QUERIES = WARPS * WARP, KEYS = D == 64 ? 64 : 32;
    static constexpr int AT_ONCE = 32, KEPT = D == 64 ? 64 : 0; // keys whose scores, columns that a warp holds
    static constexpr int BYTES = (2 * QUERIES + 4 * KEYS) * D * static_cast<int>(sizeof(bf16));
};

template <int M, int N>
static __device__ __forceinline__ void mask_queries(float (&scores)[M][N][4], const QueryRow *rows, int key) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const KeyRange keys = rows[accumulator_row(m, half * 2)].keys;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = half * 2; i < half * 2 + 2; i++) {
                    const int at = key + accumulator_column(n, i);
                    if (at < keys.begin || at >= keys.end) scores[m][n][i] = -INFINITY;
                }
        }
}

// Scores of queries (rows) and keys (columns) become gradients of the scores.
template <int M, int N>
static __device__ __forceinline__ void query_gradients(float (&scores)[M][N][4], const float (&dweights)[M][N][4],
                                                       const QueryRow *rows, float scale) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const QueryRow row = rows[accumulator_row(m, half * 2)];
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = half * 2; i < half * 2 + 2; i++) {
                    const float weight = exp2_approx(scores[m][n][i] * scale - row.lse);
                    scores[m][n][i] = weight * (dweights[m][n][i] - row.delta);
                }
        }
}

template <int D> __global__ void __launch_bounds__(THREADS, 2) attention_dq_kernel(AttentionBackward<bf16> t,
                                                                             BlockOrder order) {
    using Block = QueryBlock<D>;
    constexpr int M = Block::M, N = Block::AT_ONCE / 8, QUERIES = Block::QUERIES, KEYS = Block::KEYS;
    constexpr unsigned RING = 2 * KEYS;
    DYNAMIC_SHARED(bf16, shared);
    SHARED(QueryRow, rows, [QUERIES]);
    SHARED(Sight, sights, [WARPS]);
    const Tile<D> q_tile{shared}, do_tile{shared + QUERIES * D};
    const Tile<D> k_ring{shared + 2 * QUERIES * D}, v_ring{shared + (2 * QUERIES + RING) * D};
    SHARED(BlockOrder::Place, place, );
    if (threadIdx.x == 0) place = order.place();
    __syncthreads();
    const int first = (order.tiles - 1 - place.tile) * QUERIES; // the longest blocks start first
    const int warp = threadIdx.x / WARP;
    const int row = first + static_cast<int>(threadIdx.x);
    rows[threadIdx.x] = row < t.padded ? t.rows_of(place.sequence, place.head)[row] : QueryRow{INFINITY, 0, {0, 0}};
    if (threadIdx.x % WARP == 0)
        sights[warp] = row < t.padded ? t.sights_of(place.sequence)[row / WARP] : Sight{INT_MAX, 0, 0, 0};
    __syncthreads();
    const auto keys = [&] {
        KeyRange all = {INT_MAX, 0};
        for (int i = 0; i < WARPS; i++) all = {min(all.begin, sights[i].begin), max(all.end, sights[i].end)};
        return KeyRange{all.begin / KEYS * KEYS, all.end};
    };
    const auto load_step = [&](int key) {
        const int sequence = t.first_sequence + place.sequence, kv_head = place.head / t.group;
        Tile<D>{k_ring.base + key % RING * D}.template load_async<KEYS, THREADS>(t.k.rows(sequence, kv_head), key);
        Tile<D>{v_ring.base + key % RING * D}.template load_async<KEYS, THREADS>(t.v.rows(sequence, kv_head), key);
        cp_async_commit();
    };

    WarpRows<D, M, Block::KEPT> q, dout;
    float dq[M][D / 8][4];
    clear(dq);
    if (keys().begin < keys().end) {
        const int sequence = t.first_sequence + place.sequence;
        q_tile.template load_async<QUERIES, THREADS>(t.q.rows(sequence, place.head), first);
        do_tile.template load_async<QUERIES, THREADS>(t.dout.rows(sequence, place.head), first);
        cp_async_commit();
        load_step(keys().begin);
        cp_async_wait<1>();
        __syncthreads();
        q.set(q_tile, warp * WARP);
        dout.set(do_tile, warp * WARP);
    }
#pragma unroll 1
    for (int key = keys().begin; key < keys().end; key += Block::AT_ONCE) {
        if (key % KEYS == 0) {
            cp_async_wait<0>();
            __syncthreads(); // this step's keys are there, and all warps have left those of the step before
            if (key + KEYS < keys().end) load_step(key + KEYS);
        }
        if (!sights[warp].meets(key, Block::AT_ONCE)) continue;
        float scores[M][N][4], dweights[M][N][4];
        dot_rows(scores, q, k_ring, key % RING);
        dot_rows(dweights, dout, v_ring, key % RING);
        if (!sights[warp].covers(key, Block::AT_ONCE)) mask_queries(scores, rows + warp * WARP, key);
        query_gradients(scores, dweights, rows + warp * WARP, t.scale * LOG2_E);
        add_weighted_rows<D>(dq, scores, k_ring, key % RING);
    }
    multiply(dq, t.scale);
    store_rows<D>(t.dq.rows(t.first_sequence + place.sequence, place.head), first, dq, q_tile, warp * WARP);
}

// ---- entry ----

static int blocks_of(int rows, int per_block) { return (rows + per_block - 1) / per_block; }

template <int D> static void queue_backward(const AttentionBackward<bf16> &t, int64_t sequences) {
    using Keys = KeyBlock<D>;
    using Queries = QueryBlock<D>;
    cuda_allow_shared(attention_dkdv_kernel<D>, Keys::BYTES);
    cuda_allow_shared(attention_dq_kernel<D>, Queries::BYTES);
    const int queries = t.visibility.queries, keys = t.visibility.keys, kv_heads = t.heads / t.group;
    const int64_t row_bytes = 2 * sizeof(bf16) * t.q.width;
    const BlockOrder by_keys =
        block_order(blocks_of(keys, Keys::KEYS), kv_heads, sequences, row_bytes * queries * t.group);
    const BlockOrder by_queries =
        block_order(blocks_of(queries, Queries::QUERIES), t.heads, sequences, row_bytes * keys / t.group);
    QUEUE(attention_dkdv_kernel<D>, by_keys.tiles * by_keys.all, THREADS, Keys::BYTES, t, by_keys);
    QUEUE(attention_dq_kernel<D>, by_queries.tiles * by_queries.all, THREADS, Queries::BYTES, t, by_queries);
}

// Some sequences: as many as the scratch memory has rows for.
template <class T> static void backward_part(const AttentionBackward<T> &t, int64_t sequences, bool tensor_cores) {
    const dim3 grid(t.padded / WARP, t.heads, sequences);
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (tensor_cores) {
            QUEUE((attention_rows_kernel<T, 8>), grid, WARP * LANES, 0, t);
            if (t.q.width <= 64) queue_backward<64>(t, sequences);
            else queue_backward<128>(t, sequences);
            return;
        }
    }
    QUEUE((attention_rows_kernel<T, 1>), grid, WARP * LANES, 0, t);
    attention_backward_plain(t, sequences);
}

void cuda_attention_backward(const AttentionHeads *dheads, Tensor dout, Tensor out, Tensor lse,
                             const AttentionHeads *heads, const AttentionMask *mask) {
    REQUIRE(mask->scale > 0, "attention scales scores by %g", mask->scale);
    const int64_t sequences = out.shape[0], queries = out.shape[1];
    const int query_heads = static_cast<int>(heads->q.shape[2]), kv_heads = static_cast<int>(heads->k.shape[2]);
    const int64_t padded = (queries + QUERY_ROWS - 1) / QUERY_ROWS * QUERY_ROWS;
    const size_t row_bytes = query_heads * padded * sizeof(QueryRow);
    const size_t sequence_bytes = row_bytes + padded / WARP * sizeof(Sight);
    const int64_t part = std::max<int64_t>(1, std::min<int64_t>(sequences, CUDA_SCRATCH / sequence_bytes));
    char *scratch = static_cast<char *>(cuda_scratch(part * sequence_bytes));
    const bool tensor_cores = attention_fits_tensor_cores(heads, out) && attention_fits_tensor_cores(dheads, dout);
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        AttentionBackward<T> t = {
            heads_of<T>(dheads->q), heads_of<T>(dheads->k), heads_of<T>(dheads->v), heads_of<const T>(dout),
            heads_of<const T>(out), elements<float>(lse), heads_of<const T>(heads->q), heads_of<const T>(heads->k),
            heads_of<const T>(heads->v), visibility_of(heads, mask), query_heads, query_heads / kv_heads,
            static_cast<float>(mask->scale), 0, static_cast<int>(padded), reinterpret_cast<QueryRow *>(scratch),
            reinterpret_cast<Sight *>(scratch + part * row_bytes)};
        for (; t.first_sequence < sequences; t.first_sequence += static_cast<int>(part))
            backward_part(t, std::min<int64_t>(part, sequences - t.first_sequence), tensor_cores);
    });
}
