// Attention without tensor cores: fp32, which stays IEEE fp32, and bf16 heads that tensor cores cannot take. Any
// strides, heads of up to 256 columns. The same passes over tiles, which are fp32 in shared memory; a thread holds
// ROWS / 16 times ROWS / 16 scores and ROWS / 16 times D / 16 outputs.
#include "kernels/cuda/attention.cuh"

constexpr int SIDE = 16, THREADS = SIDE * SIDE; // threads as rows and columns

// Of a kernel for heads of up to D columns: tiles of 16 KiB.
template <int D> struct Plain {
    static constexpr int ROWS = 4096 / D, M = ROWS / SIDE, COLUMNS = D / SIDE / 4; // the latter in packs of 4
    static constexpr int STRIDE = D + 4, WEIGHTS_STRIDE = ROWS + 4;                // 16-byte reads meet all banks
    static constexpr int TILE = ROWS * STRIDE, WEIGHTS = ROWS * WEIGHTS_STRIDE;

    static constexpr int shared_bytes(int tiles) { return (tiles * TILE + WEIGHTS) * static_cast<int>(sizeof(float)); }
};
template <int D> using Scores = float[Plain<D>::M][Plain<D>::M];
template <int D> using Outputs = float[Plain<D>::M][Plain<D>::COLUMNS][4];

// Of this thread: rows row_of(0), row_of(1) ... of a tile, and among the scores columns column_of(0) ...
static __device__ __forceinline__ int row_of(int m) { return static_cast<int>(threadIdx.x) / SIDE + m * SIDE; }
static __device__ __forceinline__ int column_of(int n) { return static_cast<int>(threadIdx.x) % SIDE + n * SIDE; }

template <int D, class T> static __device__ void load_tile(float *tile, HeadRows<const T> from, int first) {
    using P = Plain<D>;
    for (int i = threadIdx.x; i < P::ROWS * D; i += THREADS) {
        const int row = i / D, column = i % D;
        const bool there = first + row < from.count && column < from.width;
        tile[row * P::STRIDE + column] = there ? to_float(from.row(first + row)[column]) : 0;
    }
}

template <int D, class T> static __device__ void store_tile(HeadRows<T> to, int first, const Outputs<D> &values) {
    for (int m = 0; m < Plain<D>::M; m++)
#pragma unroll
        for (int c = 0; c < Plain<D>::COLUMNS; c++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = first + row_of(m), column = column_of(0) * 4 + c * SIDE * 4 + i;
                if (row < to.count && column < to.width) to.row(row)[column] = from_float<T>(values[m][c][i]);
            }
}

// scores = rows of `left` times rows of `right`, as far as columns are not zero.
template <int D>
static __device__ __forceinline__ void dot_tiles(Scores<D> &scores, const float *left, const float *right, int width) {
    using P = Plain<D>;
#pragma unroll
    for (int m = 0; m < P::M; m++)
#pragma unroll
        for (int n = 0; n < P::M; n++) scores[m][n] = 0;
    for (int d = 0; d < width; d += 4) {
        Pack<float> a[P::M], b[P::M];
#pragma unroll
        for (int m = 0; m < P::M; m++) {
            a[m] = load_pack<float, 4>(left + row_of(m) * P::STRIDE + d);
            b[m] = load_pack<float, 4>(right + column_of(m) * P::STRIDE + d);
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int m = 0; m < P::M; m++)
#pragma unroll
                for (int n = 0; n < P::M; n++) scores[m][n] += a[m].value[i] * b[n].value[i];
    }
}

// out += weights (ROWS, ROWS) times the rows of `tile`.
template <int D>
static __device__ __forceinline__ void add_weighted(Outputs<D> &out, const float *weights, const float *tile) {
    using P = Plain<D>;
    for (int j = 0; j < P::ROWS; j += 4) {
        Pack<float> w[P::M];
#pragma unroll
        for (int m = 0; m < P::M; m++) w[m] = load_pack<float, 4>(weights + row_of(m) * P::WEIGHTS_STRIDE + j);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int c = 0; c < P::COLUMNS; c++) {
                const float *from = tile + (j + i) * P::STRIDE + column_of(0) * 4 + c * SIDE * 4;
                const Pack<float> values = load_pack<float, 4>(from);
#pragma unroll
                for (int m = 0; m < P::M; m++)
#pragma unroll
                    for (int e = 0; e < 4; e++) out[m][c][e] += w[m].value[i] * values.value[e];
            }
    }
}

template <int D> static __device__ __forceinline__ void set_weights(float *weights, const Scores<D> &scores) {
#pragma unroll
    for (int m = 0; m < Plain<D>::M; m++)
#pragma unroll
        for (int n = 0; n < Plain<D>::M; n++)
            weights[row_of(m) * Plain<D>::WEIGHTS_STRIDE + column_of(n)] = scores[m][n];
}

template <int D> static __device__ __forceinline__ void multiply_outputs(Outputs<D> &out, int m, float factor) {
#pragma unroll
    for (int c = 0; c < Plain<D>::COLUMNS; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) out[m][c][i] *= factor;
}

static __device__ __forceinline__ bool sees(KeyRange keys, int key) { return keys.begin <= key && key < keys.end; }

// Keys that any of some neighbouring queries sees, from a multiple of `rows` on; by every warp for itself.
static __device__ KeyRange block_keys(const Visibility &visibility, int sequence, int first, int rows) {
    KeyRange all = {INT_MAX, 0};
    for (int row = 0; row < rows; row += WARP) {
        const int i = row + static_cast<int>(threadIdx.x) % WARP;
        const Sight sight = warp_sight(visibility.of(sequence, i < rows ? first + i : visibility.queries), false);
        all = {min(all.begin, sight.begin), max(all.end, sight.end)};
    }
    return {all.begin / rows * rows, all.end};
}

// ---- forward ----

// A row of scores is spread over SIDE neighbouring lanes.
static __device__ __forceinline__ float row_max(float x) {
    for (int offset = SIDE / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, offset));
    return x;
}
static __device__ __forceinline__ float row_sum(float x) {
    for (int offset = SIDE / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}

// Scores become weights e^(scale score - maximum), with the maximum over all keys so far; `sum` is the thread's share.
template <int D>
static __device__ __forceinline__ void online_softmax(Scores<D> &scores, Outputs<D> &out, int m, float &maximum,
                                                      float &sum) {
    float top = maximum;
#pragma unroll
    for (int n = 0; n < Plain<D>::M; n++) top = fmaxf(top, scores[m][n]);
    top = row_max(top);
    const float shift = top == -INFINITY ? 0 : top;
    const float correction = expf(maximum - shift);
    multiply_outputs<D>(out, m, correction);
    sum *= correction;
    maximum = top;
#pragma unroll
    for (int n = 0; n < Plain<D>::M; n++) {
        scores[m][n] = expf(scores[m][n] - shift);
        sum += scores[m][n];
    }
}

template <class T, int D>
__global__ void __launch_bounds__(THREADS, 2) attention_forward_plain_kernel(AttentionForward<T> t) {
    using P = Plain<D>;
    DYNAMIC_SHARED(float, shared);
    float *q_tile = shared, *kv_tile = shared + P::TILE, *weights = shared + 2 * P::TILE;
    const int first = (gridDim.x - 1 - blockIdx.x) * P::ROWS, head = blockIdx.y, sequence = blockIdx.z;
    load_tile<D>(q_tile, t.q.rows(sequence, head), first);
    KeyRange visible[P::M];
    float maximum[P::M], sum[P::M];
    Outputs<D> out;
#pragma unroll
    for (int m = 0; m < P::M; m++) {
        visible[m] = t.visibility.of(sequence, first + row_of(m));
        maximum[m] = -INFINITY, sum[m] = 0;
#pragma unroll
        for (int c = 0; c < P::COLUMNS; c++)
#pragma unroll
            for (int i = 0; i < 4; i++) out[m][c][i] = 0;
    }
    const KeyRange keys = block_keys(t.visibility, sequence, first, P::ROWS);
    HeadRows<const T> k = t.k.rows(sequence, head / t.group), v = t.v.rows(sequence, head / t.group);
    k.count = v.count = keys.end; // what nobody sees is not read
    for (int key = keys.begin; key < keys.end; key += P::ROWS) {
        __syncthreads(); // everyone has left the tile of values
        load_tile<D>(kv_tile, k, key);
        __syncthreads();
        Scores<D> scores;
        dot_tiles<D>(scores, q_tile, kv_tile, t.q.width);
        __syncthreads();
        load_tile<D>(kv_tile, v, key);
#pragma unroll
        for (int m = 0; m < P::M; m++) {
#pragma unroll
            for (int n = 0; n < P::M; n++)
                scores[m][n] = sees(visible[m], key + column_of(n)) ? scores[m][n] * t.scale : -INFINITY;
            online_softmax<D>(scores, out, m, maximum[m], sum[m]);
        }
        set_weights<D>(weights, scores);
        __syncthreads();
        add_weighted<D>(out, weights, kv_tile);
    }
#pragma unroll
    for (int m = 0; m < P::M; m++) {
        const float total = row_sum(sum[m]);
        const bool blind = visible[m].begin >= visible[m].end;
        const float lse = maximum[m] == -INFINITY ? NAN : maximum[m] + logf(total);
#pragma unroll
        for (int c = 0; c < P::COLUMNS; c++)
#pragma unroll
            for (int i = 0; i < 4; i++) out[m][c][i] = blind ? 0 : out[m][c][i] / total;
        const int row = first + row_of(m);
        if (column_of(0) == 0 && row < t.visibility.queries)
            t.lse[(static_cast<int64_t>(sequence) * t.heads + head) * t.visibility.queries + row] =
                blind ? -INFINITY : lse;
    }
    store_tile<D>(t.out.rows(sequence, head), first, out);
}

// ---- backward ----

// A weight, and the gradient of the score it comes from.
static __device__ __forceinline__ float weight_of(float score, const QueryRow &row, int key, float scale) {
    return sees(row.keys, key) ? exp2f(score * scale - row.lse) : 0;
}
static __device__ __forceinline__ float score_gradient(float weight, float dweight, const QueryRow &row, int key) {
    return sees(row.keys, key) ? weight * (dweight - row.delta) : 0;
}

// dK and dV of ROWS keys: rows of scores are keys, columns are queries.
template <class T, int D>
__global__ void __launch_bounds__(THREADS, 2) attention_dkdv_plain_kernel(AttentionBackward<T> t) {
    using P = Plain<D>;
    DYNAMIC_SHARED(float, shared);
    float *k_tile = shared, *v_tile = shared + P::TILE, *q_tile = shared + 2 * P::TILE, *do_tile = shared + 3 * P::TILE;
    float *weights = shared + 4 * P::TILE;
    const int first = blockIdx.x * P::ROWS, kv_head = blockIdx.y, sequence = t.first_sequence + blockIdx.z;
    load_tile<D>(k_tile, t.k.rows(sequence, kv_head), first);
    load_tile<D>(v_tile, t.v.rows(sequence, kv_head), first);
    Outputs<D> dk = {}, dv = {};
    for (int head = kv_head * t.group; head < (kv_head + 1) * t.group; head++)
        for (int query = 0; query < t.visibility.queries; query += P::ROWS) {
            bool met = false;
            for (int i = query / WARP; i <= (query + P::ROWS - 1) / WARP; i++)
                met = met || t.sights_of(blockIdx.z)[i].meets(first, P::ROWS);
            if (!met) continue;
            __syncthreads(); // everyone has left the tiles
            load_tile<D>(q_tile, t.q.rows(sequence, head), query);
            load_tile<D>(do_tile, t.dout.rows(sequence, head), query);
            __syncthreads();
            Scores<D> scores, dweights;
            dot_tiles<D>(scores, k_tile, q_tile, t.q.width);
            dot_tiles<D>(dweights, v_tile, do_tile, t.q.width);
#pragma unroll
            for (int n = 0; n < P::M; n++) {
                const QueryRow row = t.rows_of(blockIdx.z, head)[query + column_of(n)];
#pragma unroll
                for (int m = 0; m < P::M; m++) {
                    scores[m][n] = weight_of(scores[m][n], row, first + row_of(m), t.scale * LOG2_E);
                    dweights[m][n] = score_gradient(scores[m][n], dweights[m][n], row, first + row_of(m));
                }
            }
            set_weights<D>(weights, scores);
            __syncthreads();
            add_weighted<D>(dv, weights, do_tile);
            __syncthreads();
            set_weights<D>(weights, dweights);
            __syncthreads();
            add_weighted<D>(dk, weights, q_tile);
        }
#pragma unroll
    for (int m = 0; m < P::M; m++) multiply_outputs<D>(dk, m, t.scale);
    store_tile<D>(t.dk.rows(sequence, kv_head), first, dk);
    store_tile<D>(t.dv.rows(sequence, kv_head), first, dv);
}

// dQ of ROWS queries: rows of scores are queries, columns are keys.
template <class T, int D>
__global__ void __launch_bounds__(THREADS, 2) attention_dq_plain_kernel(AttentionBackward<T> t) {
    using P = Plain<D>;
    DYNAMIC_SHARED(float, shared);
    float *q_tile = shared, *do_tile = shared + P::TILE, *k_tile = shared + 2 * P::TILE, *v_tile = shared + 3 * P::TILE;
    float *weights = shared + 4 * P::TILE;
    const int first = (gridDim.x - 1 - blockIdx.x) * P::ROWS, head = blockIdx.y;
    const int sequence = t.first_sequence + blockIdx.z, kv_head = head / t.group;
    load_tile<D>(q_tile, t.q.rows(sequence, head), first);
    load_tile<D>(do_tile, t.dout.rows(sequence, head), first);
    Outputs<D> dq = {};
    const KeyRange keys = block_keys(t.visibility, sequence, first, P::ROWS);
    for (int key = keys.begin; key < keys.end; key += P::ROWS) {
        __syncthreads(); // everyone has left the tiles
        load_tile<D>(k_tile, t.k.rows(sequence, kv_head), key);
        load_tile<D>(v_tile, t.v.rows(sequence, kv_head), key);
        __syncthreads();
        Scores<D> scores, dweights;
        dot_tiles<D>(scores, q_tile, k_tile, t.q.width);
        dot_tiles<D>(dweights, do_tile, v_tile, t.q.width);
#pragma unroll
        for (int m = 0; m < P::M; m++) {
            const QueryRow row = t.rows_of(blockIdx.z, head)[first + row_of(m)];
#pragma unroll
            for (int n = 0; n < P::M; n++) {
                const int at = key + column_of(n);
                scores[m][n] =
                    score_gradient(weight_of(scores[m][n], row, at, t.scale * LOG2_E), dweights[m][n], row, at);
            }
        }
        set_weights<D>(weights, scores);
        __syncthreads();
        add_weighted<D>(dq, weights, k_tile);
    }
#pragma unroll
    for (int m = 0; m < P::M; m++) multiply_outputs<D>(dq, m, t.scale);
    store_tile<D>(t.dq.rows(sequence, head), first, dq);
}

// ---- entries ----

static int blocks_of(int rows, int per_block) { return (rows + per_block - 1) / per_block; }

template <class T, int D> static void queue_forward(const AttentionForward<T> &t, int64_t sequences) {
    constexpr int BYTES = Plain<D>::shared_bytes(2);
    cuda_allow_shared(attention_forward_plain_kernel<T, D>, BYTES);
    const dim3 grid(blocks_of(t.visibility.queries, Plain<D>::ROWS), t.heads, sequences);
    QUEUE((attention_forward_plain_kernel<T, D>), grid, THREADS, BYTES, t);
}

template <class T, int D> static void queue_backward(const AttentionBackward<T> &t, int64_t sequences) {
    constexpr int BYTES = Plain<D>::shared_bytes(4);
    cuda_allow_shared(attention_dkdv_plain_kernel<T, D>, BYTES);
    cuda_allow_shared(attention_dq_plain_kernel<T, D>, BYTES);
    const dim3 key_grid(blocks_of(t.visibility.keys, Plain<D>::ROWS), t.heads / t.group, sequences);
    const dim3 query_grid(blocks_of(t.visibility.queries, Plain<D>::ROWS), t.heads, sequences);
    QUEUE((attention_dkdv_plain_kernel<T, D>), key_grid, THREADS, BYTES, t);
    QUEUE((attention_dq_plain_kernel<T, D>), query_grid, THREADS, BYTES, t);
}

static void require_width(int width) { REQUIRE(width <= 256, "heads of %d columns, at most 256", width); }

template <class T> void attention_forward_plain(const AttentionForward<T> &t, int64_t sequences) {
    require_width(t.q.width);
    if (t.q.width <= 64) queue_forward<T, 64>(t, sequences);
    else if (t.q.width <= 128) queue_forward<T, 128>(t, sequences);
    else queue_forward<T, 256>(t, sequences);
}

template <class T> void attention_backward_plain(const AttentionBackward<T> &t, int64_t sequences) {
    require_width(t.q.width);
    if (t.q.width <= 64) queue_backward<T, 64>(t, sequences);
    else if (t.q.width <= 128) queue_backward<T, 128>(t, sequences);
    else queue_backward<T, 256>(t, sequences);
}

template void attention_forward_plain(const AttentionForward<float> &, int64_t);
template void attention_forward_plain(const AttentionForward<bf16> &, int64_t);
template void attention_backward_plain(const AttentionBackward<float> &, int64_t);
template void attention_backward_plain(const AttentionBackward<bf16> &, int64_t);
