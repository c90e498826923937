// Linear layers on few rows, as generation has them: bound by reading the weights once. A warp takes the products of
// two rows of weights and all rows of `in`; where there are few rows of weights, several warps of a block share them.
// Inputs come from the L1 cache, 16 bytes a lane as the weights do, which serve both rows.
//
// An H100 reads some 25 KiB a microsecond and multiprocessor, and answers after about 0.7: 18 KiB have to be under way.
// A lane asks for 2 STEPS packs at once: with one row 32 warps fit and have 128 KiB under way, with eight rows 16 warps
// and 32 KiB. Of 768 rows of 768 columns a multiprocessor's part is 9 KiB, asked for all at once.
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/linear_few.cuh"
#include "kernels/cuda/rows.cuh"

enum { WARPS = 8, THREADS = WARPS * WARP, PAIR = 2 };

template <class T> struct FewRows {
    T *out, *pre; // pre may be NULL
    const T *in, *weight, *bias;
    int64_t out_stride, pre_stride, in_stride, weight_stride;
    int64_t inner, columns; // columns of out
    int rows, splits;       // warps that share a pair of rows of weights
    bool gated;             // a pair is a gate and what it gates, else two neighbours
    Activation activation;

    __device__ __forceinline__ int64_t weight_rows() const { return gated ? 2 * columns : columns; }
    __device__ __forceinline__ int64_t first(int64_t pair) const { return gated ? pair : PAIR * pair; }
    __device__ __forceinline__ int64_t second(int64_t pair) const { return gated ? pair + columns : PAIR * pair + 1; }
};

template <class T> __device__ __forceinline__ float activate_at(Activation activation, float x, float up) {
    switch (activation) {
    case ACTIVATION_GELU: return curve<T, ACTIVATION_GELU>(x, up);
    case ACTIVATION_SWIGLU: return curve<T, ACTIVATION_SWIGLU>(x, up);
    case ACTIVATION_RELU2: return curve<T, ACTIVATION_RELU2>(x, up);
    default: return x;
    }
}

// This warp's part of the dot products of two rows of weights; each lane has some of its columns. Rows of `in` that are
// not there are the last one again.
template <class T, int W, int N>
__device__ __forceinline__ void pair_dots(float (&sum)[PAIR][N], const FewRows<T> &f, int64_t pair, int part) {
    constexpr int STEPS = N <= 2 ? 4 : 2;
    const int64_t last = f.weight_rows() - 1, step = static_cast<int64_t>(f.splits) * WARP * W;
    const T *weight[PAIR] = {f.weight + min(f.first(pair), last) * f.weight_stride,
                             f.weight + min(f.second(pair), last) * f.weight_stride};
    const int lane = static_cast<int>(threadIdx.x) % WARP;
#pragma unroll 1
    for (int64_t k = (static_cast<int64_t>(part) * WARP + lane) * W; k < f.inner; k += STEPS * step) {
        Words<T, W> words[STEPS][PAIR];
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int c = 0; c < PAIR; c++)
                words[s][c] = k + s * step < f.inner ? load_words<T, W>(weight[c] + k + s * step) : Words<T, W>{};
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            if (k + s * step >= f.inner) continue;
            float w[PAIR][W];
#pragma unroll
            for (int c = 0; c < PAIR; c++) to_floats(w[c], words[s][c]);
#pragma unroll
            for (int n = 0; n < N; n++) {
                float x[W];
                to_floats(x, load_words<T, W>(f.in + min(n, f.rows - 1) * f.in_stride + k + s * step));
#pragma unroll
                for (int c = 0; c < PAIR; c++)
#pragma unroll
                    for (int i = 0; i < W; i++) sum[c][n] = fmaf(w[c][i], x[i], sum[c][n]);
            }
        }
    }
}

// Of row `row`, once the dot products of a pair are summed up. The activation is that of the number which is kept.
template <class T>
__device__ __forceinline__ void finish_pair(const FewRows<T> &f, int64_t pair, int row, float a, float b) {
    const int64_t first = f.first(pair), second = f.second(pair);
    const bool both = second < f.weight_rows();
    if (f.bias) a += to_float(f.bias[first]), b += both ? to_float(f.bias[second]) : 0.0f;
    const T x = from_float<T>(a), y = from_float<T>(b);
    T *out = f.out + row * f.out_stride, *pre = f.pre + row * f.pre_stride;
    if (f.pre) pre[first] = x;
    if (f.pre && both) pre[second] = y;
    out[first] = from_float<T>(activate_at<T>(f.activation, to_float(x), to_float(y)));
    if (both && !f.gated) out[second] = from_float<T>(activate_at<T>(f.activation, to_float(y), 1.0f));
}

template <class T, int W, int N> __global__ void __launch_bounds__(THREADS, 2) few_rows(FewRows<T> f, int64_t pairs) {
    SHARED(float, room, [WARPS][PAIR][N]);
    const int warp = static_cast<int>(threadIdx.x) / WARP, lane = static_cast<int>(threadIdx.x) % WARP;
    const int here = WARPS / f.splits; // pairs of a block
    const int64_t first = static_cast<int64_t>(blockIdx.x) * here;
    float sum[PAIR][N] = {};
    pair_dots<T, W, N>(sum, f, first + warp / f.splits, warp % f.splits);
#pragma unroll
    for (int c = 0; c < PAIR; c++)
#pragma unroll
        for (int n = 0; n < N; n++) {
            sum[c][n] = warp_sum(sum[c][n]);
            if (lane == 0) room[warp][c][n] = sum[c][n];
        }
    __syncthreads();
    const int i = static_cast<int>(threadIdx.x) / N, row = static_cast<int>(threadIdx.x) % N;
    if (i >= here || first + i >= pairs || row >= f.rows) return;
    float a = 0.0f, b = 0.0f;
    for (int s = 0; s < f.splits; s++) a += room[i * f.splits + s][0][row], b += room[i * f.splits + s][1][row];
    finish_pair(f, first + i, row, a, b);
}

// Warps for each pair: enough for all multiprocessors of an H100, as far as each has some. By the shapes alone.
static int splits_of(int64_t pairs, int64_t inner, int64_t width) {
    constexpr int64_t WANTED = 132 * 16;
    int splits = 1;
    while (splits < WARPS && pairs * splits < WANTED && 2 * splits * WARP * width <= inner) splits *= 2;
    return splits;
}

template <class T, int W, int N> static void queue_few(FewRows<T> f) {
    const int64_t pairs = f.gated ? f.columns : ceil_div(f.columns, PAIR);
    f.splits = splits_of(pairs, f.inner, W);
    QUEUE((few_rows<T, W, N>), static_cast<unsigned>(ceil_div(pairs, WARPS / f.splits)), THREADS, 0, f, pairs);
}

template <class T, int W> static void queue_rows(const FewRows<T> &f) {
    if (f.rows == 1) queue_few<T, W, 1>(f);
    else if (f.rows == 2) queue_few<T, W, 2>(f);
    else if (f.rows <= 4) queue_few<T, W, 4>(f);
    else queue_few<T, W, 8>(f);
}

void linear_few_forward(Tensor out, Tensor pre, Tensor in, const Linear *layer) {
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        const FewRows<T> f = {elements<T>(out), elements<T>(pre), elements<T>(in), elements<T>(layer->weight),
                              elements<T>(layer->bias), out.stride[0], tensor_present(pre) ? pre.stride[0] : 0,
                              in.stride[0], layer->weight.stride[0], in.shape[1], out.shape[1],
                              static_cast<int>(in.shape[0]), 1, layer->activation == ACTIVATION_SWIGLU,
                              layer->activation};
        if (fits_packs(in, PACK<T>) && fits_packs(layer->weight, PACK<T>)) queue_rows<T, PACK<T>>(f);
        else queue_rows<T, 1>(f);
    });
}
