// A product of our own, for what cuBLASLt does not take: any sizes, strides and alignment. A block computes a tile of
// out, a thread 4 x 4 elements of it. Sums are taken in order, PART products at a time, so that long ones stay exact.
#include "kernels/cuda/gemm.cuh"

constexpr int TILE = 64, DEPTH = 16, SIDE = 4, ACROSS = TILE / SIDE, PLAIN_THREADS = ACROSS * ACROSS,
              PART = 128;

// A matrix by the steps between its rows and columns.
struct PlainOperand {
    const void *data;
    int64_t row, column, step;
};
struct PlainProduct {
    PlainOperand a, b, c;
    void *out;
    int64_t out_row, out_step;
    int64_t rows, columns, inner;
    const void *bias; // or NULL
    float alpha, beta;
};

// to[k][i] = element (first + i, from + k), where `i` runs along the rows of out (a) or along its columns (b).
template <class T>
__device__ __forceinline__ void load_tile(float (*to)[TILE + 1], const T *data, int64_t along, int64_t inward,
                                          int64_t first, int64_t last, int64_t from, int64_t inner) {
    for (int n = static_cast<int>(threadIdx.x); n < TILE * DEPTH; n += PLAIN_THREADS) {
        const int i = along == 1 ? n % TILE : n / DEPTH, k = along == 1 ? n / TILE : n % DEPTH;
        const bool there = first + i < last && from + k < inner;
        to[k][i] = there ? to_float(data[(first + i) * along + (from + k) * inward]) : 0.0f;
    }
}

template <class In, class Out> __global__ void __launch_bounds__(PLAIN_THREADS) plain_product(PlainProduct p) {
    SHARED(float, left, [DEPTH][TILE + 1]);
    SHARED(float, right, [DEPTH][TILE + 1]);
    const int64_t row = static_cast<int64_t>(blockIdx.x) * TILE, column = static_cast<int64_t>(blockIdx.y) * TILE;
    const int64_t matrix = blockIdx.z;
    const int down = static_cast<int>(threadIdx.x) / ACROSS, across = static_cast<int>(threadIdx.x) % ACROSS;
    const In *a = static_cast<const In *>(p.a.data) + matrix * p.a.step;
    const In *b = static_cast<const In *>(p.b.data) + matrix * p.b.step;
    float sum[SIDE][SIDE] = {}, part[SIDE][SIDE] = {};
    for (int64_t from = 0; from < p.inner; from += DEPTH) {
        load_tile(left, a, p.a.row, p.a.column, row, p.rows, from, p.inner);
        load_tile(right, b, p.b.column, p.b.row, column, p.columns, from, p.inner);
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < DEPTH; k++)
#pragma unroll
            for (int i = 0; i < SIDE; i++)
#pragma unroll
                for (int j = 0; j < SIDE; j++)
                    part[i][j] = fmaf(left[k][down + i * ACROSS], right[k][across + j * ACROSS], part[i][j]);
        __syncthreads();
        if ((from + DEPTH) % PART != 0 && from + DEPTH < p.inner) continue;
#pragma unroll
        for (int i = 0; i < SIDE; i++)
#pragma unroll
            for (int j = 0; j < SIDE; j++) sum[i][j] += part[i][j], part[i][j] = 0.0f;
    }
    const Out *c = static_cast<const Out *>(p.c.data) + matrix * p.c.step;
    Out *out = static_cast<Out *>(p.out) + matrix * p.out_step;
#pragma unroll
    for (int i = 0; i < SIDE; i++)
#pragma unroll
        for (int j = 0; j < SIDE; j++) {
            const int64_t r = row + down + i * ACROSS, n = column + across + j * ACROSS;
            if (r >= p.rows || n >= p.columns) continue;
            float value = p.alpha * sum[i][j];
            if (p.bias) value += to_float(static_cast<const In *>(p.bias)[n]);
            if (p.beta != 0.0f) value = fmaf(p.beta, to_float(c[r * p.c.row + n]), value);
            out[r * p.out_row + n] = from_float<Out>(value);
        }
}

static PlainOperand plain_operand(const void *data, int64_t stride, int64_t step, bool transposed) {
    return {data, transposed ? 1 : stride, transposed ? stride : 1, step};
}

void gemm_plain(const Gemm *g) {
    const GemmShape *s = &g->shape;
    REQUIRE(s->epilogue <= EPILOGUE_BIAS, "epilogue %ld in a product that cuBLASLt does not take", (long)s->epilogue);
    PlainProduct p = {.a = plain_operand(g->a, s->a_stride, s->a_step, s->a_transposed),
                      .b = plain_operand(g->b, s->b_stride, s->b_step, s->b_transposed),
                      .c = plain_operand(g->c, s->c_stride, s->c_step, false),
                      .out = g->out, .out_row = s->out_stride, .out_step = s->out_step,
                      .rows = s->rows, .columns = s->columns, .inner = s->inner,
                      .bias = s->epilogue == EPILOGUE_BIAS ? g->bias : NULL, .alpha = g->alpha, .beta = g->beta};
    dim3 grid(static_cast<unsigned>((s->rows + TILE - 1) / TILE), static_cast<unsigned>((s->columns + TILE - 1) / TILE),
              static_cast<unsigned>(s->batch));
    if (s->in_dtype == DTYPE_F32) QUEUE((plain_product<float, float>), grid, PLAIN_THREADS, 0, p);
    else if (s->out_dtype == DTYPE_F32) QUEUE((plain_product<bf16, float>), grid, PLAIN_THREADS, 0, p);
    else QUEUE((plain_product<bf16, bf16>), grid, PLAIN_THREADS, 0, p);
}
