// Activations, forward and backward, and sums of columns. One pass over memory, which bounds it.
//
// Sums are taken by chunks of rows and then over the chunks, both in order; the chunks depend on the shape alone.
#include "kernels/cuda/activation.cuh"

enum {
    FORWARD_THREADS = 128,
    DOWN = 8, // warps of a block, each with rows of its own
};
constexpr int64_t CHUNKS_MOST = 128, CHUNK_LEAST = 64; // rows of a chunk

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// ---- curves ----

// e is e^-x, and its largest value one whose reciprocal is a normal number; the caller multiplies by x, so NaN stays.
struct Gate {
    float value, slope; // of sigmoid: 1 / (1 + e) and e / (1 + e)^2
};
__device__ __forceinline__ Gate gate_at(float x) {
    const float e = expf(fminf(-x, 80.0f)), s = 1.0f / (1.0f + e);
    return {s, e * s * s};
}

// (1 + tanh(u)) / 2 = sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3).
constexpr float GELU_SLOPE = 1.5957691216057308f, GELU_CUBIC = 0.044715f;
__device__ __forceinline__ float gelu_argument(float x) { return GELU_SLOPE * (x + GELU_CUBIC * x * x * x); }

// Of one input, and of the gate; `up` is 1 where there is none.
template <Activation A> __device__ __forceinline__ float curve(float x, float up) {
    if (A == ACTIVATION_GELU) return x * gate_at(gelu_argument(x)).value;
    if (A == ACTIVATION_SWIGLU) return x * gate_at(x).value * up;
    if (A == ACTIVATION_RELU2) return x < 0.0f ? 0.0f : x * x; // NaN stays
    return x;
}

template <Activation A> __device__ __forceinline__ float curve_slope(float x) {
    if (A == ACTIVATION_GELU) {
        const Gate gate = gate_at(gelu_argument(x));
        return gate.value + x * gate.slope * (GELU_SLOPE * (1.0f + 3.0f * GELU_CUBIC * x * x));
    }
    if (A == ACTIVATION_SWIGLU) {
        const Gate gate = gate_at(x);
        return gate.value + x * gate.slope;
    }
    if (A == ACTIVATION_RELU2) return x < 0.0f ? 0.0f : 2.0f * x;
    return 1.0f;
}

// ---- forward ----

// Rows along x, packs of N columns along y.
template <class T, int N, Activation A>
__global__ void __launch_bounds__(FORWARD_THREADS)
    activate(T *out, const T *pre, int64_t out_stride, int64_t pre_stride, int64_t columns) {
    const int64_t row = blockIdx.x;
    const int64_t c = (static_cast<int64_t>(blockIdx.y) * FORWARD_THREADS + threadIdx.x) * N;
    if (c >= columns) return;
    const Pack<T, N> in = load_pack<T, N>(pre + row * pre_stride + c);
    Pack<T, N> up = in, result;
    if (A == ACTIVATION_SWIGLU) up = load_pack<T, N>(pre + row * pre_stride + columns + c);
#pragma unroll
    for (int i = 0; i < N; i++) result.value[i] = from_float<T>(curve<A>(to_float(in.value[i]), to_float(up.value[i])));
    store_pack(out + row * out_stride + c, result);
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
    dim3 grid(static_cast<unsigned>(out.shape[0]), static_cast<unsigned>(divide_up(columns, N * FORWARD_THREADS)));
    by_activation(activation, [&](auto chosen) {
        QUEUE((activate<T, N, decltype(chosen)::value>), grid, FORWARD_THREADS, 0, elements<T>(out), elements<T>(pre),
              out.stride[0], pre.stride[0], columns);
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
__global__ void __launch_bounds__(DOWN *WARP) backward_pass(Pass<T> p) {
    constexpr int GROUPS = A == ACTIVATION_SWIGLU ? 2 : 1, WIDTH = N * WARP;
    SHARED(float, block, [GROUPS][DOWN][WIDTH]);
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * WIDTH, c = first + lane * N;
    const int64_t begin = blockIdx.y * p.chunk, end = begin + p.chunk < p.rows ? begin + p.chunk : p.rows;
    float sum[GROUPS][N] = {};
    for (int64_t row = begin + warp; row < end && c < p.columns; row += DOWN) {
        const Pack<T, N> dout = load_pack<T, N>(p.dout + row * p.dout_stride + c);
        Pack<T, N> in = dout, up = dout, dpre, dup;
        if (A != ACTIVATION_NONE) in = load_pack<T, N>(p.pre + row * p.pre_stride + c);
        if (GROUPS == 2) up = load_pack<T, N>(p.pre + row * p.pre_stride + p.columns + c);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float d = to_float(dout.value[i]), x = to_float(in.value[i]);
            const float slope = d * curve_slope<A>(x) * (GROUPS == 2 ? to_float(up.value[i]) : 1.0f);
            dpre.value[i] = from_float<T>(slope);
            sum[0][i] += slope;
            if (GROUPS == 1) continue;
            dup.value[i] = from_float<T>(d * curve<A>(x, 1.0f));
            sum[GROUPS - 1][i] += d * curve<A>(x, 1.0f);
        }
        if (p.dpre) store_pack(p.dpre + row * p.dpre_stride + c, dpre);
        if (GROUPS == 2) store_pack(p.dpre + row * p.dpre_stride + p.columns + c, dup);
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
    for (int chunk = warp; chunk < chunks && c < columns; chunk += DOWN) sum += partial[chunk * columns + c];
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

template <class T, int N> static void queue_pass(Pass<T> pass, float *sums, Activation activation) {
    int64_t width = pass.columns * activation_inputs(activation);
    int64_t least = divide_up(pass.rows, CHUNKS_MOST);
    pass.chunk = least > CHUNK_LEAST ? least : CHUNK_LEAST;
    int64_t chunks = divide_up(pass.rows, pass.chunk);
    if (sums) pass.partial = static_cast<float *>(cuda_scratch(static_cast<size_t>(chunks * width) * sizeof(float)));
    dim3 grid(static_cast<unsigned>(divide_up(pass.columns, N * WARP)), static_cast<unsigned>(chunks));
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
