// Batches of matrices (K, R, C): their norms, and those of their neurons. Sums are taken in fp64, in pieces that depend
// on the shape alone; factors are of any size, so numbers meet them in fp64 as well.
#include "kernels/cuda/segments.cuh"

enum { MATRIX_THREADS = 256, MATRIX_WARPS = MATRIX_THREADS / WARP, LOADS = 4, CHUNK = 8192, SCALING_BLOCKS = 256 };

// Rows of a matrix are contiguous, the batch may be a part of a wider one.
template <class T> struct MatrixBatch {
    T *data;
    int64_t stride, row_stride;
    int rows, columns;
};

template <class T> static MatrixBatch<T> batch_of(Tensor t) {
    REQUIRE(t.rank == 3 && t.shape[1] * t.shape[2] < INT32_MAX / 2, "rank %d, rows of %ld", t.rank,
            static_cast<long>(t.shape[t.rank - 1]));
    return {elements<T>(t), t.stride[0], t.stride[1], static_cast<int>(t.shape[1]), static_cast<int>(t.shape[2])};
}

template <class T, int N> __device__ __forceinline__ double pack_squares(const Pack<T, N> &pack, double sum) {
    for (int j = 0; j < N; j++) {
        double x = to_float(pack.value[j]);
        sum = fma(x, x, sum);
    }
    return sum;
}

template <class T, int N> __device__ __forceinline__ void scale_pack(Pack<T, N> &pack, double factor) {
    for (int j = 0; j < N; j++)
        pack.value[j] = from_float<T>(static_cast<float>(factor * static_cast<double>(to_float(pack.value[j]))));
}

__device__ __forceinline__ double quotient(double a, double b) { return b == 0 ? 0 : a / b; }

// ---- norms ----

// Element i of a matrix, counted row by row.
template <class T> __device__ __forceinline__ T *matrix_element(const MatrixBatch<T> &m, int64_t k, int i) {
    T *first = m.data + k * m.stride;
    return m.row_stride == m.columns ? first + i : first + i / m.columns * m.row_stride + i % m.columns;
}

// A block for each chunk (x) of each matrix (y).
template <class T, int N>
__global__ void __launch_bounds__(MATRIX_THREADS) add_matrix_squares(double *partial, MatrixBatch<T> m) {
    SHARED(double, room, [MATRIX_WARPS]);
    int begin = blockIdx.x * CHUNK, end = min(begin + CHUNK, m.rows * m.columns);
    double sum = 0;
#pragma unroll 4
    for (int i = begin + static_cast<int>(threadIdx.x) * N; i < end; i += MATRIX_THREADS * N)
        sum = pack_squares(load_pack<T, N>(matrix_element(m, blockIdx.y, i)), sum);
    sum = block_sum<MATRIX_THREADS>(sum, room);
    if (threadIdx.x == 0) partial[static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

__device__ __forceinline__ double matrix_factor(double squares, const MatrixNorm &norm) {
    double size = norm.factor * sqrt(squares);
    double divisor = norm.add_epsilon ? size + norm.epsilon : size > norm.epsilon ? size : norm.epsilon;
    return quotient(norm.target, divisor);
}

// A block for several chunks of a matrix, all of whose sums it adds.
template <class T, int N>
__global__ void __launch_bounds__(MATRIX_THREADS) scale_matrices(MatrixBatch<T> m, const double *partial, int chunks,
                                                                 MatrixNorm norm) {
    SHARED(double, room, [MATRIX_WARPS]);
    double sum = 0;
    for (int i = threadIdx.x; i < chunks; i += MATRIX_THREADS)
        sum += partial[static_cast<int64_t>(blockIdx.y) * chunks + i];
    double factor = matrix_factor(block_sum<MATRIX_THREADS>(sum, room), norm);
    for (int chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        int end = min((chunk + 1) * CHUNK, m.rows * m.columns), step = MATRIX_THREADS * N;
        for (int i = chunk * CHUNK + static_cast<int>(threadIdx.x) * N; i < end; i += LOADS * step) {
            Pack<T, N> x[LOADS];
#pragma unroll
            for (int j = 0; j < LOADS; j++)
                if (i + j * step < end) x[j] = load_pack<T, N>(matrix_element(m, blockIdx.y, i + j * step));
#pragma unroll
            for (int j = 0; j < LOADS; j++) {
                if (i + j * step >= end) break;
                scale_pack(x[j], factor);
                store_pack(matrix_element(m, blockIdx.y, i + j * step), x[j]);
            }
        }
    }
}

template <class T, int N> static void normalise_matrices(Tensor matrices, const MatrixNorm *norm) {
    MatrixBatch<T> m = batch_of<T>(matrices);
    int chunks = (m.rows * m.columns + CHUNK - 1) / CHUNK, count = static_cast<int>(matrices.shape[0]);
    int blocks = chunks < SCALING_BLOCKS ? chunks : SCALING_BLOCKS;
    double *partial = static_cast<double *>(cuda_scratch(static_cast<size_t>(chunks) * count * sizeof *partial));
    QUEUE((add_matrix_squares<T, N>), dim3(chunks, count), MATRIX_THREADS, 0, partial, m);
    QUEUE((scale_matrices<T, N>), dim3(blocks, count), MATRIX_THREADS, 0, m, partial, chunks, *norm);
}

void cuda_matrix_normalise(Tensor matrices, const MatrixNorm *norm) {
    by_dtype(matrices.dtype, [&](auto zero) {
        using T = decltype(zero);
        constexpr int N = 16 / sizeof(T);
        if (fits_packs(matrices, N)) normalise_matrices<T, N>(matrices, norm);
        else normalise_matrices<T, 1>(matrices, norm);
    });
}

// ---- neurons ----

// |o|^2 and |n|^2 of some rows.
struct NeuronSquares {
    double in, out;
};

struct NeuronStep {
    float *state;
    const Segment *segments;
    const StepScalars *scalars;
    const double *status;
    bool unit;
};

__device__ __forceinline__ double neuron_factor(float v, const RecipeScalars &r) {
    return quotient(1, sqrt(static_cast<double>(v)) + r.epsilon);
}

// A warp for each row, MATRIX_WARPS rows (x) of each matrix (y) a block: moves v.
template <class T, int N>
__global__ void __launch_bounds__(MATRIX_THREADS) move_neurons(NeuronSquares *partial, MatrixBatch<T> m,
                                                               NeuronStep step) {
    SHARED(NeuronSquares, room, [MATRIX_WARPS]);
    if (step.status[STATUS_SKIP] != 0) return;
    int k = blockIdx.y, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, row = blockIdx.x * MATRIX_WARPS + warp;
    NeuronSquares own = {0, 0};
    if (row < m.rows) {
        const T *x = m.data + k * m.stride + row * m.row_stride;
        double squares = 0;
#pragma unroll 4
        for (int i = lane * N; i < m.columns; i += WARP * N) squares = pack_squares(load_pack<T, N>(x + i), squares);
        squares = warp_sum(squares);
        if (lane == 0) {
            const RecipeScalars &r = step.scalars->recipe[step.segments[k].route];
            float *v = step.state + step.segments[k].slot[1] + row;
            *v = static_cast<float>(r.beta2 * static_cast<double>(*v) + (1 - r.beta2) * squares / m.columns);
            double factor = neuron_factor(*v, r);
            own = {squares, squares * factor * factor};
        }
    }
    if (lane == 0) room[warp] = own;
    __syncthreads();
    if (threadIdx.x > 0) return;
    NeuronSquares sum = room[0];
    for (int i = 1; i < MATRIX_WARPS; i++) sum.in += room[i].in, sum.out += room[i].out;
    partial[static_cast<int64_t>(k) * gridDim.x + blockIdx.x] = sum;
}

// The same blocks: each adds the sums of all of its matrix.
template <class T, int N>
__global__ void __launch_bounds__(MATRIX_THREADS) scale_neurons(MatrixBatch<T> m, const NeuronSquares *partial,
                                                                NeuronStep step) {
    SHARED(double, room, [MATRIX_WARPS]);
    if (step.status[STATUS_SKIP] != 0) return;
    int k = blockIdx.y, lane = threadIdx.x % WARP, row = blockIdx.x * MATRIX_WARPS + threadIdx.x / WARP;
    int parts = gridDim.x;
    NeuronSquares own = {0, 0};
    for (int i = threadIdx.x; i < parts; i += MATRIX_THREADS) {
        NeuronSquares rows = partial[static_cast<int64_t>(k) * parts + i];
        own.in += rows.in, own.out += rows.out;
    }
    double in = block_sum<MATRIX_THREADS>(own.in, room), size = sqrt(block_sum<MATRIX_THREADS>(own.out, room));
    if (row >= m.rows) return;
    const RecipeScalars &r = step.scalars->recipe[step.segments[k].route];
    double whole = step.unit ? sqrt(static_cast<double>(m.rows) * m.columns) / fmax(size, 1e-12)
                             : quotient(sqrt(in), size + r.epsilon);
    double factor = whole * neuron_factor(step.state[step.segments[k].slot[1] + row], r);
    T *x = m.data + k * m.stride + row * m.row_stride;
    for (int i = lane * N; i < m.columns; i += LOADS * WARP * N) {
        Pack<T, N> packs[LOADS];
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            if (i + j * WARP * N < m.columns) packs[j] = load_pack<T, N>(x + i + j * WARP * N);
#pragma unroll
        for (int j = 0; j < LOADS; j++) {
            if (i + j * WARP * N >= m.columns) break;
            scale_pack(packs[j], factor);
            store_pack(x + i + j * WARP * N, packs[j]);
        }
    }
}

template <class T, int N> static void normalise_neurons(Tensor matrices, const NeuronStep &step) {
    MatrixBatch<T> m = batch_of<T>(matrices);
    dim3 blocks((m.rows + MATRIX_WARPS - 1) / MATRIX_WARPS, static_cast<unsigned>(matrices.shape[0]));
    size_t bytes = static_cast<size_t>(blocks.x) * blocks.y * sizeof(NeuronSquares);
    NeuronSquares *partial = static_cast<NeuronSquares *>(cuda_scratch(bytes));
    QUEUE((move_neurons<T, N>), blocks, MATRIX_THREADS, 0, partial, m, step);
    QUEUE((scale_neurons<T, N>), blocks, MATRIX_THREADS, 0, m, partial, step);
}

void cuda_neuron_normalise(Tensor matrices, bool unit, const Update *update) {
    REQUIRE(matrices.rank == 3 && matrices.shape[0] == update->segments.count, "rank %d, %ld matrices of %ld segments",
            matrices.rank, static_cast<long>(matrices.shape[0]), static_cast<long>(update->segments.count));
    NeuronStep step = {elements<float>(update->state), update->segments.items, update->scalars,
                       elements<double>(update->status), unit};
    by_dtype(matrices.dtype, [&](auto zero) {
        using T = decltype(zero);
        constexpr int N = 16 / sizeof(T);
        if (fits_packs(matrices, N)) normalise_neurons<T, N>(matrices, step);
        else normalise_neurons<T, 1>(matrices, step);
    });
}
