// The classifier: softmax and cross-entropy, one block to a row of logits.
//
// A row of bf16 that fits into shared memory is read once and its gradient written once; other rows are read twice, the
// second time mostly from cache.
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/rows.cuh"

#include <float.h>

enum { THREADS = 512, STAGES = 4 };

template <class T> struct Classifier {
    Rows<T> logits;
    float *losses, *squares; // squares or NULL
    const int32_t *targets;
    const float *weights;
    const StepScalars *scalars; // NULL: no gradient
    int columns, vocab;
};

// Of e^(logit - largest), over some logits. NaN anywhere, or +infinity, makes the sum NaN.
struct Softmax {
    float largest, sum, squares;
};

// e^x to 2 ulp.
static __device__ __forceinline__ float exponential(float x) { return exp2_approx(x * 1.44269504f); }

// Columns from `valid` of the pack on do not count.
template <class T, int W>
static __device__ __forceinline__ void take_pack(Softmax &s, const Words<T, W> &words, int valid, bool squares) {
    float x[W], largest = s.largest;
    to_floats(x, words);
#pragma unroll
    for (int i = 0; i < W; i++) {
        x[i] = i < valid ? x[i] : -INFINITY;
        largest = fmaxf(largest, x[i]);
    }
    const float shrink = exponential(s.largest - largest);
    s.largest = largest;
    s.sum *= shrink;
#pragma unroll
    for (int i = 0; i < W; i++) s.sum += x[i] = exponential(x[i] - largest);
    if (!squares) return;
    s.squares *= shrink * shrink;
#pragma unroll
    for (int i = 0; i < W; i++) s.squares += x[i] * x[i];
}

// Of a block: a place for each warp's maximum, sum and sum of squares.
struct Room {
    Pack<float, 4> of[3][THREADS / WARP / 4];
};

// The same bits in every thread.
static __device__ __forceinline__ float total_of(const Pack<float, 4> *of) {
    float total = 0;
#pragma unroll
    for (int i = 0; i < THREADS / WARP / 4; i++) {
        const Pack<float, 4> four = of[i];
        total += (four.value[0] + four.value[1]) + (four.value[2] + four.value[3]);
    }
    return total;
}

static __device__ __forceinline__ Softmax block_softmax(Softmax s, Room *room, bool squares) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float largest = warp_max(s.largest);
    if (lane == 0) room->of[0][warp / 4].value[warp % 4] = largest;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < THREADS / WARP / 4; i++) {
        const Pack<float, 4> four = room->of[0][i];
        largest = fmaxf(largest, fmaxf(fmaxf(four.value[0], four.value[1]), fmaxf(four.value[2], four.value[3])));
    }
    const float shrink = exponential(s.largest - largest);
    const float sum = warp_sum(s.sum * shrink);
    if (lane == 0) room->of[1][warp / 4].value[warp % 4] = sum;
    if (squares) {
        const float square = warp_sum(s.squares * shrink * shrink);
        if (lane == 0) room->of[2][warp / 4].value[warp % 4] = square;
    }
    __syncthreads();
    return {largest, total_of(room->of[1]), squares ? total_of(room->of[2]) : 0.0f};
}

// Starts the copy of this thread's packs of a row to shared memory, in STAGES groups.
template <class T, int W> static __device__ __forceinline__ void start_copies(T *kept, const T *row, int packs) {
    const int stage = (packs + STAGES * THREADS - 1) / (STAGES * THREADS) * THREADS; // packs
#pragma unroll
    for (int s = 0; s < STAGES; s++) {
        for (int p = s * stage + threadIdx.x; p < packs && p < (s + 1) * stage; p += THREADS)
            cp_async16(kept + p * W, row + p * W);
        cp_async_commit();
    }
}

template <int STAGE> static __device__ __forceinline__ void await_stage() { cp_async_wait<STAGES - 1 - STAGE>(); }

template <class T, int W, bool KEEP, int STAGE = 0> static __device__ __forceinline__ void
take_row(Softmax &s, const T *row, const Classifier<T> &c, int packs) {
    const int stage = KEEP ? (packs + STAGES * THREADS - 1) / (STAGES * THREADS) * THREADS : packs;
    if (KEEP) await_stage<STAGE>();
    const int end = (STAGE + 1) * stage < packs ? (STAGE + 1) * stage : packs;
#pragma unroll 2
    for (int p = STAGE * stage + threadIdx.x; p < end; p += THREADS) {
        const Words<T, W> words = load_words<T, W>(row + p * W);
        if ((p + 1) * W <= c.vocab) take_pack(s, words, W, c.squares);
        else take_pack(s, words, c.vocab - p * W, c.squares);
    }
    if constexpr (KEEP && STAGE + 1 < STAGES) take_row<T, W, KEEP, STAGE + 1>(s, row, c, packs);
}

// weight * inverse_weight * (p - onehot) of the packs of this thread; 0 in padding.
template <class T, int W> static __device__ __forceinline__ void
store_gradient(T *out, const T *row, const Classifier<T> &c, const Softmax &s, float scale, int target) {
    const float factor = scale / s.sum;
    const int packs = c.columns / W, edge = c.vocab / W;
#pragma unroll 2
    for (int p = threadIdx.x; p < packs; p += THREADS) {
        Words<T, W> words = {};
        if (p * W < c.vocab) words = load_words<T, W>(row + p * W);
        float g[W];
        to_floats(g, words);
#pragma unroll
        for (int i = 0; i < W; i++) g[i] = exponential(g[i] - s.largest) * factor;
        if (p == target / W)
#pragma unroll
            for (int i = 0; i < W; i++) g[i] -= p * W + i == target ? scale : 0.0f;
        if (p >= edge)
#pragma unroll
            for (int i = 0; i < W; i++) g[i] = p * W + i < c.vocab ? g[i] : 0.0f;
        store_words(out + p * W, from_floats<T>(g));
    }
}

template <class T, int W> static __device__ __forceinline__ void skip_row(const Classifier<T> &c, int64_t r) {
    if (threadIdx.x == 0) c.losses[r] = 0;
    if (threadIdx.x == 0 && c.squares) c.squares[r] = 0;
    if (!c.scalars) return;
    for (int p = threadIdx.x; p < c.columns / W; p += THREADS) store_pack(c.logits[r] + p * W, Pack<T, W>{});
}

// KEEP: the row stays in dynamic shared memory. Every thread comes back to the packs that it read.
template <class T, int W, bool KEEP> static __global__ void __launch_bounds__(THREADS, 2) classify(Classifier<T> c) {
    SHARED(Room, room, [1]);
    DYNAMIC_SHARED(T, kept);
    const int64_t r = blockIdx.x;
    const int packs = (c.vocab + W - 1) / W;
    T *logits = c.logits[r];
    const T *row = KEEP ? kept : logits;
    if constexpr (KEEP) start_copies<T, W>(kept, logits, packs); // though there may be no target
    const int target = c.targets[r];
    if (target < 0) {
        if (KEEP) cp_async_wait<0>(); // before zeros are stored where they read
        skip_row<T, W>(c, r);
        return;
    }
    const float of_target = to_float(logits[target]);
    Softmax s = {-FLT_MAX, 0, 0};
    take_row<T, W, KEEP>(s, row, c, packs);
    s = block_softmax(s, room, c.squares); // a barrier: the target's logit has been read by all
    if (threadIdx.x == 0) {
        c.losses[r] = logf(s.sum) + (s.largest - of_target);
        if (c.squares) c.squares[r] = s.squares / (s.sum * s.sum);
    }
    if (!c.scalars) return;
    store_gradient<T, W>(logits, row, c, s, static_cast<float>(c.weights[r] * c.scalars->inverse_weight), target);
}

// Bytes of dynamic shared memory that a block may have beside what it declares, which the compiler rounds up to the
// alignment of the former.
static int64_t shared_limit(void) {
    static int limit;
    if (!limit) CUDA(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    return limit - round_up(sizeof(Room), 128);
}

template <class T, int W, bool KEEP> static void queue_classify(const Classifier<T> &c, int64_t rows) {
    const size_t bytes = KEEP ? round_up(c.vocab, W) * sizeof(T) : 0;
    if (KEEP) cuda_allow_shared(classify<T, W, KEEP>, bytes);
    QUEUE((classify<T, W, KEEP>), rows, THREADS, bytes, c);
}

void cuda_cross_entropy(Tensor losses, Tensor probability_squares, Tensor logits, Tensor targets, Tensor weights,
                        const CrossEntropy *options) {
    by_dtype(logits.dtype, [&](auto zero) {
        using T = decltype(zero);
        const Classifier<T> c = {rows_of<T>(logits), elements<float>(losses), elements<float>(probability_squares),
                                 elements<int32_t>(targets), elements<float>(weights),
                                 options->gradient ? options->scalars : NULL, static_cast<int>(logits.shape[1]),
                                 static_cast<int>(options->vocab)};
        const int64_t rows = logits.shape[0];
        const bool packs = fits_packs(logits, PACK<T>);
        const int64_t bytes = round_up(options->vocab, PACK<T>) * sizeof(T);
        if constexpr (sizeof(T) == 2)
            if (packs && options->gradient && bytes <= shared_limit()) {
                queue_classify<T, PACK<T>, true>(c, rows);
                return;
            }
        if (packs) queue_classify<T, PACK<T>, false>(c, rows);
        else queue_classify<T, 1, false>(c, rows);
    });
}

// ---- the sum of losses ----

static __global__ void add_losses(double *status, const float *losses, const int32_t *targets, const float *weights,
                                  int64_t count) {
    SHARED(double, room, [2][WARP]);
    double loss = 0, weight = 0;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
        const bool counts = targets[i] >= 0;
        const double w = weights[i];
        loss += counts ? w * losses[i] : 0;
        weight += counts ? w : 0;
    }
    loss = warp_sum(loss), weight = warp_sum(weight);
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (lane == 0) room[0][warp] = loss, room[1][warp] = weight;
    __syncthreads();
    if (warp > 0) return;
    loss = warp_sum(room[0][lane]), weight = warp_sum(room[1][lane]);
    if (lane > 0) return;
    status[STATUS_LOSS_SUM] += loss;
    status[STATUS_WEIGHT_SUM] += weight;
}

void cuda_loss_add(Tensor status, Tensor losses, Tensor targets, Tensor weights) {
    QUEUE(add_losses, 1, WARP *WARP, 0, elements<double>(status), elements<float>(losses), elements<int32_t>(targets),
          elements<float>(weights), tensor_count(losses));
}
