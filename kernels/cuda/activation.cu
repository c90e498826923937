// Activations, forward and backward, and sums of columns. One pass over memory, which bounds it.
//
// Sums are taken by chunks of rows and then over the chunks, both in order; the chunks depend on the shape alone.
#include "kernels/cuda/activation.cuh"

enum {
    FORWARD_THREADS = 128,
    FORWARD_ROWS = 2, // of a thread
    DOWN = 8,         // warps of a block, each with rows of its own
};
constexpr int64_t CHUNK_LEAST = 64; // rows of a chunk

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// ---- curves ----

template <class T, Activation A> __device__ __forceinline__ float curve_slope(float x) {
    if (A == ACTIVATION_GELU) {
        const Gate gate = gate_at<T>(gelu_argument(x));
        return gate.value + x * gate.slope * (GELU_SLOPE * (1.0f + 3.0f * GELU_CUBIC * x * x));
    }
    if (A == ACTIVATION_SWIGLU) {
        const Gate gate = gate_at<T>(x);
        return gate.value + x * gate.slope;
    }
    if (A == ACTIVATION_RELU2) return x < 0.0f ? 0.0f : 2.0f * x;
    return 1.0f;
}

// ---- forward ----

// Rows along x, packs of N columns along y.
template <class T, int N, Activation A>
__global__ void __launch_bounds__(FORWARD_THREADS)
    activate(T *out, const T *pre, int64_t out_stride, int64_t pre_stride, int64_t rows, int64_t columns) {
    const int64_t first = static_cast<int64_t>(blockIdx.x) * FORWARD_ROWS;
    const int64_t c = (static_cast<int64_t>(blockIdx.y) * FORWARD_THREADS + threadIdx.x) * N;
    if (c >= columns) return;
    Words<T, N> in[FORWARD_ROWS], up[FORWARD_ROWS];
#pragma unroll
    for (int k = 0; k < FORWARD_ROWS; k++) {
        const T *row = pre + (first + k < rows ? first + k : first) * pre_stride;
        in[k] = load_words<T, N>(row + c);
        up[k] = A == ACTIVATION_SWIGLU ? load_words<T, N>(row + columns + c) : in[k];
    }
#pragma unroll
    for (int k = 0; k < FORWARD_ROWS; k++) {
        if (first + k >= rows) continue; // all of the block
        float x[N], y[N];
        to_floats(x, in[k]), to_floats(y, up[k]);
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = curve<T, A>(x[i], y[i]);
        store_words(out + (first + k) * out_stride + c, from_floats<T>(x));
    }
}

// Calls f with a constant that is the activation.
template <Activation A> struct Chosen {
    static constexpr Activation value = A;
};
template <class F> static void by_activation(Activation activation, F f) {
    switch (activation) {
    case ACTIVATION_NONE: f(Chosen<ACTIVATION_NONE>()); break;
    case ACTIVATION_GELU: f(Chosen<ACTIVATION_GELU>()); break;
    case ACTIVATION_SWIGLU: f(Chosen<ACTIVATION_SWIGLU>()); break;
    case ACTIVATION_RELU2: f(Chosen<ACTIVATION_RELU2>()); break;
    }
}

template <class T, int N> static void queue_forward(Tensor out, Tensor pre, Activation activation) {
    int64_t columns = out.shape[1];
    dim3 grid(static_cast<unsigned>(divide_up(out.shape[0], FORWARD_ROWS)),
              static_cast<unsigned>(divide_up(columns, N * FORWARD_THREADS)));
    by_activation(activation, [&](auto chosen) {
        QUEUE((activate<T, N, decltype(chosen)::value>), grid, FORWARD_THREADS, 0, elements<T>(out), elements<T>(pre),
              out.stride[0], pre.stride[0], out.shape[0], columns);
    });
}

void cuda_activation_forward(Tensor out, Tensor pre, Activation activation) {
    out = tensor_merge_rows(out), pre = tensor_merge_rows(pre);
    REQUIRE(pre.shape[0] == out.shape[0] && pre.shape[1] == out.shape[1] * activation_inputs(activation),
            "%ld x %ld to %ld x %ld", (long)pre.shape[0], (long)pre.shape[1], (long)out.shape[0], (long)out.shape[1]);
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        constexpr int N = 16 / sizeof(T);
        if (fits_packs(out, N) && fits_packs(pre, N)) queue_forward<T, N>(out, pre, activation);
        else queue_forward<T, 1>(out, pre, activation);
    });
}

// ---- backward and sums of columns ----

// (rows, columns) as a pass sees them; with a gate dpre and pre have twice as many columns. dpre NULL: only sums.
template <class T> struct Pass {
    T *dpre;
    const T *dout, *pre;
    float *partial; // (chunks, columns or 2 columns), or NULL
    int64_t dpre_stride, dout_stride, pre_stride;
    int64_t rows, columns, chunk;
};

// Blocks that a multiprocessor has at once.
constexpr int blocks_together(Activation activation) { return activation == ACTIVATION_SWIGLU ? 3 : 4; }

// The sums of the block's warps, added in order.
template <int WIDTH> __device__ __forceinline__ void add_warps(float *to, const float (*sums)[WIDTH], int64_t there) {
    for (int i = static_cast<int>(threadIdx.x); i < WIDTH; i += DOWN * WARP) {
        float sum = 0.0f;
#pragma unroll
        for (int warp = 0; warp < DOWN; warp++) sum += sums[warp][i];
        if (i < there) to[i] = sum;
    }
}

template <class T, int N, Activation A>
__global__ void __launch_bounds__(DOWN *WARP, blocks_together(A)) backward_pass(Pass<T> p) {
    constexpr int GROUPS = A == ACTIVATION_SWIGLU ? 2 : 1, WIDTH = N * WARP, ROWS = A == ACTIVATION_NONE ? 4 : 2;
    SHARED(float, block, [GROUPS][DOWN][WIDTH]);
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * WIDTH, c = first + lane * N;
    const int64_t begin = blockIdx.y * p.chunk, end = begin + p.chunk < p.rows ? begin + p.chunk : p.rows;
    float sum[GROUPS][N] = {};
    for (int64_t above = begin + warp; above < end && c < p.columns; above += ROWS * DOWN) {
        Words<T, N> dout[ROWS], in[ROWS], up[ROWS];
#pragma unroll
        for (int k = 0; k < ROWS; k++) {
            const int64_t row = above + k * DOWN < end ? above + k * DOWN : above;
            dout[k] = load_words<T, N>(p.dout + row * p.dout_stride + c);
            in[k] = A != ACTIVATION_NONE ? load_words<T, N>(p.pre + row * p.pre_stride + c) : dout[k];
            up[k] = GROUPS == 2 ? load_words<T, N>(p.pre + row * p.pre_stride + p.columns + c) : dout[k];
        }
#pragma unroll
        for (int k = 0; k < ROWS; k++) {
            const int64_t row = above + k * DOWN;
            if (row >= end) continue; // all of the warp
            float d[N], x[N], y[N];
            to_floats(d, dout[k]), to_floats(x, in[k]), to_floats(y, up[k]);
#pragma unroll
            for (int i = 0; i < N; i++) {
                const float other = d[i] * curve<T, A>(x[i], 1.0f);
                d[i] *= curve_slope<T, A>(x[i]) * (GROUPS == 2 ? y[i] : 1.0f);
                sum[0][i] += d[i];
                if (GROUPS == 2) sum[GROUPS - 1][i] += y[i] = other;
            }
            if (p.dpre) store_words(p.dpre + row * p.dpre_stride + c, from_floats<T>(d));
            if (GROUPS == 2) store_words(p.dpre + row * p.dpre_stride + p.columns + c, from_floats<T>(y));
        }
    }
    if (!p.partial) return;
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
#pragma unroll
        for (int i = 0; i < N; i++) block[g][warp][lane * N + i] = sum[g][i];
    __syncthreads();
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
        add_warps<WIDTH>(p.partial + (static_cast<int64_t>(blockIdx.y) * GROUPS + g) * p.columns + first, block[g],
                         p.columns - first);
}

// sums += the chunks of each column.
__global__ void __launch_bounds__(DOWN *WARP)
    add_chunks(float *sums, const float *partial, int chunks, int64_t columns) {
    SHARED(float, block, [DOWN][WARP]);
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * WARP, c = first + lane;
    float sum = 0.0f;
    if (c < columns)
#pragma unroll 4
        for (int chunk = warp; chunk < chunks; chunk += DOWN) sum += partial[chunk * columns + c];
    block[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || c >= columns) return;
    sum = 0.0f;
#pragma unroll
    for (int w = 0; w < DOWN; w++) sum += block[w][lane];
    sums[c] += sum;
}

__global__ void add_values(float *sums, const float *values, int64_t columns) {
    const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (c < columns) sums[c] += values[c];
}

// Chunks for one round of blocks on a GPU of 132 multiprocessors: by the sizes alone, for the same numbers everywhere.
static int64_t rows_of_chunk(int64_t rows, int64_t tiles, Activation activation) {
    const int64_t chunks = blocks_together(activation) * 132 / tiles, unit = 4 * DOWN;
    const int64_t chunk = divide_up(divide_up(rows, chunks > 1 ? chunks : 1), unit) * unit;
    return chunk > CHUNK_LEAST ? chunk : CHUNK_LEAST;
}

template <class T, int N> static void queue_pass(Pass<T> pass, float *sums, Activation activation) {
    int64_t width = pass.columns * activation_inputs(activation), tiles = divide_up(pass.columns, N * WARP);
    pass.chunk = rows_of_chunk(pass.rows, tiles, activation);
    int64_t chunks = divide_up(pass.rows, pass.chunk);
    if (sums) pass.partial = static_cast<float *>(cuda_scratch(static_cast<size_t>(chunks * width) * sizeof(float)));
    dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(chunks));
    by_activation(activation, [&](auto chosen) {
        QUEUE((backward_pass<T, N, decltype(chosen)::value>), grid, DOWN * WARP, 0, pass);
    });
    if (sums)
        QUEUE(add_chunks, static_cast<unsigned>(divide_up(width, WARP)), DOWN * WARP, 0, sums, pass.partial,
              static_cast<int>(chunks), width);
}

void activation_backward(Tensor dpre, Tensor dbias, Tensor dout, Tensor pre, Activation activation) {
    dpre = tensor_merge_rows(dpre), dout = tensor_merge_rows(dout), pre = tensor_merge_rows(pre);
    REQUIRE(tensor_same_shape(dpre, pre) && pre.shape[0] == dout.shape[0] &&
                pre.shape[1] == dout.shape[1] * activation_inputs(activation),
            "%ld x %ld from %ld x %ld", (long)pre.shape[0], (long)pre.shape[1], (long)dout.shape[0],
            (long)dout.shape[1]);
    by_dtype(dout.dtype, [&](auto zero) {
        using T = decltype(zero);
        constexpr int N = 16 / sizeof(T);
        Pass<T> pass = {elements<T>(dpre), elements<T>(dout), elements<T>(pre), NULL, dpre.stride[0], dout.stride[0],
                        pre.stride[0], dout.shape[0], dout.shape[1], 0};
        if (fits_packs(dpre, N) && fits_packs(dout, N) && fits_packs(pre, N))
            queue_pass<T, N>(pass, elements<float>(dbias), activation);
        else queue_pass<T, 1>(pass, elements<float>(dbias), activation);
    });
}

void add_column_sums(Tensor sums, Tensor matrix) {
    matrix = tensor_merge_rows(matrix);
    by_dtype(matrix.dtype, [&](auto zero) {
        using T = decltype(zero);
        constexpr int N = 16 / sizeof(T);
        Pass<T> pass = {NULL, elements<T>(matrix), NULL, NULL, 0, matrix.stride[0], 0, matrix.shape[0],
                        matrix.shape[1], 0};
        if (fits_packs(matrix, N)) queue_pass<T, N>(pass, elements<float>(sums), ACTIVATION_NONE);
        else queue_pass<T, 1>(pass, elements<float>(sums), ACTIVATION_NONE);
    });
}

void add_to_sums(Tensor sums, const float *values) {
    constexpr int THREADS = 256;
    int64_t columns = tensor_count(sums);
    QUEUE(add_values, static_cast<unsigned>(divide_up(columns, THREADS)), THREADS, 0, elements<float>(sums), values,
          columns);
}
