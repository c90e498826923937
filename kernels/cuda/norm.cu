// LayerNorm and RMSNorm. A row stays in the registers of a warp or a block, so that memory is passed over once.
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/rows.cuh"

// (N, 2), contiguous.
static float2 *stats_of(Tensor stats) {
    REQUIRE(tensor_contiguous(stats), "strided statistics");
    return reinterpret_cast<float2 *>(elements<float>(stats));
}

// (x - mean) rstd from both; of bf16 as one instruction: its error, mean rstd 2^-24, is far below that of x.
template <class T> static __device__ __forceinline__ float normal(float x, float2 stats) {
    return sizeof(T) == 2 ? fmaf(x, stats.y, -stats.x * stats.y) : (x - stats.x) * stats.y;
}

// ---- forward ----

enum { MOST_THREADS = 1024 };

template <class T> struct NormForward {
    Rows<T> out, sum, residual, branch;
    const T *gain, *bias;
    float2 *stats; // mean, reciprocal deviation
    int64_t rows;
    int columns;
    bool centred; // LayerNorm
    float epsilon;
};

// blockDim.x threads share a row; each has up to P packs of W elements of it.
template <class T, int W, int P> static __global__ void __launch_bounds__(MOST_THREADS) norm_rows(NormForward<T> p) {
    SHARED(float, room, [2][MOST_THREADS / WARP]);
    const int64_t r = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y;
    if (r >= p.rows) return; // only where rows are single warps, without barriers
    const int step = blockDim.x * W, first = threadIdx.x * W;
    const float count = static_cast<float>(p.columns);
    Words<T, W> x[P] = {};
    float v[W];
#pragma unroll
    for (int j = 0; j < P; j++)
        if (first + j * step < p.columns) x[j] = load_words<T, W>(p.residual[r] + first + j * step);
    if (p.branch.data) { // loads before stores: sum may be residual
        Words<T, W> y[P] = {};
#pragma unroll
        for (int j = 0; j < P; j++)
            if (first + j * step < p.columns) y[j] = load_words<T, W>(p.branch[r] + first + j * step);
#pragma unroll
        for (int j = 0; j < P; j++) {
            float added[W];
            to_floats(v, x[j]), to_floats(added, y[j]);
#pragma unroll
            for (int i = 0; i < W; i++) v[i] += added[i];
            x[j] = from_floats<T>(v);
            if (first + j * step < p.columns) store_words(p.sum[r] + first + j * step, x[j]);
        }
    }

    float mean = 0, squares = 0;
    if (p.centred) {
        float sum = 0;
#pragma unroll
        for (int j = 0; j < P; j++) {
            to_floats(v, x[j]);
#pragma unroll
            for (int i = 0; i < W; i++) sum += v[i];
        }
        mean = row_total(sum, room[0]) / count;
    }
#pragma unroll
    for (int j = 0; j < P; j++) {
        to_floats(v, x[j]);
#pragma unroll
        for (int i = 0; i < W && first + j * step < p.columns; i++) squares += (v[i] - mean) * (v[i] - mean);
    }
    const float rstd = 1.0f / sqrtf(row_total(squares, room[1]) / count + p.epsilon);
    if (threadIdx.x == 0) p.stats[r] = {mean, rstd};

#pragma unroll
    for (int j = 0; j < P; j++) {
        const int column = first + j * step;
        if (column >= p.columns) continue;
        float gain[W], bias[W] = {};
        to_floats(v, x[j]), to_floats(gain, load_words<T, W>(p.gain + column));
        if (p.bias) to_floats(bias, load_words<T, W>(p.bias + column));
#pragma unroll
        for (int i = 0; i < W; i++) v[i] = normal<T>(v[i], {mean, rstd}) * gain[i] + bias[i];
        store_words(p.out[r] + column, from_floats<T>(v));
    }
}

// One warp for a row as far as P packs of a lane reach, then as many warps as it takes.
template <class T, int W, int P> static void queue_norm_forward(const NormForward<T> &p) {
    const int64_t warps = ceil_div(p.columns, WARP * W * P);
    const int64_t rows = warps == 1 ? 4 : 1;
    QUEUE((norm_rows<T, W, P>), ceil_div(p.rows, rows), dim3(warps * WARP, rows), 0, p);
}

template <class T> static bool norm_fits_packs(const Tensor *tensors, int count) {
    for (int i = 0; i < count; i++)
        if (!fits_packs(tensors[i], PACK<T>)) return false;
    return true;
}

void cuda_norm_forward(Tensor out, Tensor sum, Tensor stats, Tensor residual, Tensor branch, const Norm *norm) {
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        const Tensor kept = tensor_present(branch) ? sum : Tensor{};
        const NormForward<T> p = {rows_of<T>(out), rows_of<T>(kept), rows_of<T>(residual), rows_of<T>(branch),
                                  elements<T>(norm->gain), elements<T>(norm->bias), stats_of(stats),
                                  out.shape[0], static_cast<int>(out.shape[1]), norm->kind == NORM_LAYER,
                                  static_cast<float>(norm->epsilon)};
        const Tensor all[] = {out, kept, residual, branch, norm->gain, norm->bias};
        const int64_t columns = p.columns, warps = ceil_div(columns, WARP * PACK<T> * 4); // at 4 packs of a lane
        const bool packs = norm_fits_packs<T>(all, 6);
        const int limit = MOST_THREADS * (packs ? PACK<T> * 4 : 8);
        REQUIRE(columns <= limit, "rows of %d columns; at most %d are normalised", p.columns, limit);
        if (!packs) queue_norm_forward<T, 1, 8>(p);
        else if (columns <= warps * WARP * PACK<T> * 2) queue_norm_forward<T, PACK<T>, 2>(p);
        else if (columns <= warps * WARP * PACK<T> * 3) queue_norm_forward<T, PACK<T>, 3>(p);
        else queue_norm_forward<T, PACK<T>, 4>(p);
    });
}

// ---- backward ----
//
// With h = (x - mean) rstd and e = gain dout: dsum += rstd (e - mean(e) - h mean(e h)); RMS has no mean(e). Blocks take
// chunks of rows and keep the columns' sums of dout h, dout and the new dsum; the sums of chunks are added afterwards.

template <class T> struct NormBackward {
    Rows<T> dsum, dout, sum;
    const T *gain;
    const float2 *stats;
    float *partial[3];        // (chunks, columns) of gain, bias, sum; NULL: not wanted
    float2 *means;            // (rows) mean(e), mean(e h), where a row is not in one block
    int64_t length;           // rows of a sequence, which chunks do not cross
    int64_t chunk, chunks;    // rows of a chunk, chunks of a sequence
    int columns;
    float per_column; // 1 / columns
    bool centred;
};

enum { BLOCK_THREADS = 512 }; // at most, of a block that has whole rows

struct RowRange {
    int64_t begin, end;
};
template <class T> static __device__ __forceinline__ RowRange chunk_rows(const NormBackward<T> &p, int64_t chunk) {
    const int64_t first = chunk / p.chunks * p.length, begin = chunk % p.chunks * p.chunk;
    const int64_t end = begin + p.chunk < p.length ? begin + p.chunk : p.length;
    return {first + begin, first + end};
}

// mean(e), mean(e h) from their sums.
template <class T> static __device__ __forceinline__ float2 means_of(const NormBackward<T> &p, float e, float eh) {
    return {p.centred ? e * p.per_column : 0.0f, eh * p.per_column};
}

template <int W> struct ColumnTotals {
    float gain[W], bias[W], sum[W];
};

// Of a pack of one row: changes d, which is dsum, and adds to the totals.
template <class T, int W> static __device__ __forceinline__ void
backward_pack(Words<T, W> &d, ColumnTotals<W> &totals, const Words<T, W> &dout, const Words<T, W> &x,
              const float (&gain)[W], float2 stats, float2 means) {
    float sum[W], g[W], h[W];
    to_floats(sum, d), to_floats(g, dout), to_floats(h, x);
#pragma unroll
    for (int i = 0; i < W; i++) {
        h[i] = normal<T>(h[i], stats);
        sum[i] += stats.y * (gain[i] * g[i] - (means.x + h[i] * means.y));
        totals.gain[i] += g[i] * h[i];
        totals.bias[i] += g[i];
    }
    d = from_floats<T>(sum);
    to_floats(sum, d);
#pragma unroll
    for (int i = 0; i < W; i++) totals.sum[i] += sum[i];
}

// sums += e and e h of a pack.
template <class T, int W> static __device__ __forceinline__ void
project_pack(float2 &sums, const Words<T, W> &dout, const Words<T, W> &x, const float (&gain)[W], float2 stats) {
    float e[W], h[W];
    to_floats(e, dout), to_floats(h, x);
#pragma unroll
    for (int i = 0; i < W; i++) {
        e[i] *= gain[i];
        sums.x += e[i];
        sums.y += e[i] * normal<T>(h[i], stats);
    }
}

template <class T, int W> static __device__ __forceinline__ void
store_totals(const NormBackward<T> &p, const ColumnTotals<W> &totals, int64_t chunk, int column) {
    const int64_t at = chunk * p.columns + column;
    if (p.partial[0]) store_floats(p.partial[0] + at, totals.gain);
    if (p.partial[1]) store_floats(p.partial[1] + at, totals.bias);
    if (p.partial[2]) store_floats(p.partial[2] + at, totals.sum);
}

// A block has whole rows, R at a time so that one barrier serves them all; a thread has P packs of each. Packs past the
// end of a row are read as its first, with a gain of 0, and rows past the end of the chunk as the last that was there:
// neither is written or counted.
template <class T, int P, int R>
static __global__ void __launch_bounds__(BLOCK_THREADS) norm_backward_rows(NormBackward<T> p) {
    constexpr int W = PACK<T>;
    using Sums = Pack<float, 2 * R>;
    SHARED(Sums, room, [2][BLOCK_THREADS / WARP]);
    const int step = blockDim.x * W, first = threadIdx.x * W, warps = blockDim.x / WARP;
    const RowRange rows = chunk_rows(p, blockIdx.x);
    const int start = first < p.columns ? first : 0; // of the first pack; the others' are at `offset` from there
    int offset[P];
    float gain[P][W] = {};
#pragma unroll
    for (int j = 0; j < P; j++) {
        offset[j] = (first + j * step < p.columns ? first + j * step : 0) - start;
        if (first + j * step < p.columns) to_floats(gain[j], load_words<T, W>(p.gain + first + j * step));
    }
    Rows<T> dout_rows = p.dout, x_rows = p.sum, d_rows = p.dsum; // from row r on
    dout_rows.data += rows.begin * dout_rows.stride + start;
    x_rows.data += rows.begin * x_rows.stride + start;
    d_rows.data += rows.begin * d_rows.stride + start;
    ColumnTotals<W> totals[P] = {};
    int phase = 0; // rooms alternate: one barrier is enough
    for (int64_t r = rows.begin; r < rows.end; r += R, phase ^= 1) {
        Words<T, W> dout[R][P], x[R][P], d[R][P];
        float2 stats[R];
#pragma unroll
        for (int k = 0; k < R; k++) {
            const int64_t row = r + k < rows.end ? k : 0;
            stats[k] = p.stats[r + row];
#pragma unroll
            for (int j = 0; j < P; j++) {
                dout[k][j] = load_words<T, W>(dout_rows[row] + offset[j]);
                x[k][j] = load_words<T, W>(x_rows[row] + offset[j]);
                d[k][j] = load_words<T, W>(d_rows[row] + offset[j]);
            }
        }
        Sums total;
#pragma unroll
        for (int k = 0; k < R; k++) {
            float2 sums = {0, 0};
#pragma unroll
            for (int j = 0; j < P; j++) project_pack(sums, dout[k][j], x[k][j], gain[j], stats[k]);
            total.value[2 * k] = warp_sum(sums.x), total.value[2 * k + 1] = warp_sum(sums.y);
        }
        if (threadIdx.x % WARP == 0) room[phase][threadIdx.x / WARP] = total;
        __syncthreads();
        total = room[phase][0];
#pragma unroll 2
        for (int warp = 1; warp < warps; warp++) {
            const Sums other = room[phase][warp];
#pragma unroll
            for (int i = 0; i < 2 * R; i++) total.value[i] += other.value[i];
        }
#pragma unroll
        for (int k = 0; k < R; k++) {
            if (r + k >= rows.end) continue; // all of the block
            const float2 means = means_of(p, total.value[2 * k], total.value[2 * k + 1]);
#pragma unroll
            for (int j = 0; j < P; j++) {
                backward_pack(d[k][j], totals[j], dout[k][j], x[k][j], gain[j], stats[k], means);
                if (first + j * step < p.columns) store_words(d_rows[k] + offset[j], d[k][j]);
            }
        }
        dout_rows.data += R * dout_rows.stride, x_rows.data += R * x_rows.stride, d_rows.data += R * d_rows.stride;
    }
#pragma unroll
    for (int j = 0; j < P; j++)
        if (first + j * step < p.columns) store_totals(p, totals[j], blockIdx.x, first + j * step);
}

// Rows that no block can hold, or that do not come in packs: their means first, by a warp each.
template <class T, int W> static __global__ void norm_backward_means(NormBackward<T> p, int64_t rows) {
    const int64_t r = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y;
    if (r >= rows) return;
    const float2 stats = p.stats[r];
    float2 sums = {0, 0};
    for (int column = threadIdx.x * W; column < p.columns; column += WARP * W) {
        float gain[W];
        to_floats(gain, load_words<T, W>(p.gain + column));
        project_pack(sums, load_words<T, W>(p.dout[r] + column), load_words<T, W>(p.sum[r] + column), gain, stats);
    }
    sums = {warp_sum(sums.x), warp_sum(sums.y)};
    if (threadIdx.x == 0) p.means[r] = means_of(p, sums.x, sums.y);
}

template <class T, int W> static __global__ void norm_backward_columns(NormBackward<T> p) {
    const int column = (blockIdx.y * blockDim.x + threadIdx.x) * W;
    if (column >= p.columns) return;
    const RowRange rows = chunk_rows(p, blockIdx.x);
    float gain[W];
    to_floats(gain, load_words<T, W>(p.gain + column));
    ColumnTotals<W> totals = {};
    for (int64_t r = rows.begin; r < rows.end; r++) {
        Words<T, W> d = load_words<T, W>(p.dsum[r] + column);
        backward_pack(d, totals, load_words<T, W>(p.dout[r] + column), load_words<T, W>(p.sum[r] + column), gain,
                      p.stats[r], p.means[r]);
        store_words(p.dsum[r] + column, d);
    }
    store_totals(p, totals, blockIdx.x, column);
}

// Scratch is the partial sums, then the means.
template <class T> static void place_partials(NormBackward<T> *p, const NormGrads *grads, int64_t rows) {
    const Tensor wanted[3] = {grads->gain, grads->bias, grads->sum};
    const int64_t chunks = rows / p->length * p->chunks, each = round_up(chunks * p->columns, 64);
    float *room = static_cast<float *>(cuda_scratch(3 * each * sizeof(float) + rows * sizeof(float2)));
    for (int i = 0; i < 3; i++) p->partial[i] = tensor_present(wanted[i]) ? room + i * each : NULL;
    p->means = reinterpret_cast<float2 *>(room + 3 * each);
}

// Chunks for about `blocks` blocks, of a multiple of `unit` rows. They depend on the sizes alone, not on the GPU: the
// same numbers everywhere. 132 multiprocessors have them all at work at once.
enum { USUAL_MULTIPROCESSORS = 132 };
template <class T> static void set_chunks(NormBackward<T> *p, int64_t sequences, int64_t blocks, int64_t unit) {
    const int64_t wanted = ceil_div(blocks * USUAL_MULTIPROCESSORS, sequences);
    p->chunk = round_up(ceil_div(p->length, wanted), unit);
    p->chunks = ceil_div(p->length, p->chunk);
}

template <class T, int P, int R>
static void queue_whole_rows(NormBackward<T> *p, const NormGrads *grads, int64_t sequences) {
    const int64_t warps = ceil_div(p->columns, WARP * PACK<T> * P);
    set_chunks(p, sequences, most(16 / warps, 1), R);
    place_partials(p, grads, sequences * p->length);
    QUEUE((norm_backward_rows<T, P, R>), sequences * p->chunks, warps * WARP, 0, *p);
}

template <class T, int W>
static void queue_split_rows(NormBackward<T> *p, const NormGrads *grads, int64_t sequences) {
    enum { THREADS = 128, ROWS = 4 };
    const int64_t rows = sequences * p->length, tiles = ceil_div(p->columns, THREADS * W);
    set_chunks(p, sequences, most(16 / tiles, 1), ROWS);
    place_partials(p, grads, rows);
    QUEUE((norm_backward_means<T, W>), ceil_div(rows, ROWS), dim3(WARP, ROWS), 0, *p, rows);
    QUEUE((norm_backward_columns<T, W>), dim3(sequences * p->chunks, tiles), THREADS, 0, *p);
}

template <class T> static void add_chunks(const NormBackward<T> *p, const NormGrads *grads, int64_t sequences) {
    const Tensor wanted[3] = {grads->gain, grads->bias, grads->sum};
    const int64_t columns = p->columns;
    ColumnSums sums[3];
    int count = 0;
    for (int i = 0; i < 3; i++)
        if (p->partial[i])
            sums[count++] = {elements<float>(wanted[i]), 0, p->partial[i], columns, sequences * p->chunks, 1, true};
    const Tensor each = grads->sequence_gain;
    if (tensor_present(each))
        sums[0] = {elements<float>(each), each.stride[0], p->partial[0], columns, p->chunks, sequences, false};
    cuda_column_sums(sums, count, columns);
    if (!tensor_present(each)) return;
    const ColumnSums total = {elements<float>(grads->gain), 0, elements<float>(each), each.stride[0], sequences, 1,
                              true};
    cuda_column_sums(&total, 1, columns);
}

void cuda_norm_backward_add(Tensor dsum, const NormGrads *grads, Tensor dout, Tensor sum, Tensor stats,
                            const Norm *norm) {
    by_dtype(dsum.dtype, [&](auto zero) {
        using T = decltype(zero);
        const int64_t sequences = tensor_present(grads->sequence_gain) ? grads->sequence_gain.shape[0] : 1;
        NormBackward<T> p = {rows_of<T>(dsum), rows_of<T>(dout), rows_of<T>(sum), elements<T>(norm->gain),
                             stats_of(stats), {}, NULL, dsum.shape[0] / sequences, 0, 0,
                             static_cast<int>(dsum.shape[1]), 1.0f / static_cast<float>(dsum.shape[1]),
                             norm->kind == NORM_LAYER};
        const Tensor all[] = {dsum, dout, sum, norm->gain};
        const int64_t threads = p.columns / PACK<T>; // at a pack each
        constexpr int R = sizeof(T) == 2 ? 2 : 4;
        if (!norm_fits_packs<T>(all, 4)) queue_split_rows<T, 1>(&p, grads, sequences);
        else if (threads <= BLOCK_THREADS) queue_whole_rows<T, 1, R>(&p, grads, sequences);
        else if (threads <= 2 * BLOCK_THREADS) queue_whole_rows<T, 2, R / 2>(&p, grads, sequences);
        else queue_split_rows<T, PACK<T>>(&p, grads, sequences);
        add_chunks(&p, grads, sequences);
    });
}
