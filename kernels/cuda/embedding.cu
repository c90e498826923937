// Embeddings: rows of tables by id, and their gradient.
//
// Backward walks the tokens sorted by id, in chunks. A run of one id inside a chunk is added to its row of the table by
// the only block that has it; runs that cross chunks leave partial sums, which are added in order afterwards.
#include "kernels/cuda/rows.cuh"

template <class T> struct EmbeddingForward {
    Rows<T> out, table, position_table;
    const int32_t *ids, *positions;
    int64_t rows;
    int columns;
};

template <class T, int W> static __global__ void embed_rows(EmbeddingForward<T> p) {
    const int64_t r = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y;
    if (r >= p.rows) return;
    const T *from = p.table[p.ids[r]], *position = p.position_table.data ? p.position_table[p.positions[r]] : NULL;
    for (int column = threadIdx.x * W; column < p.columns; column += blockDim.x * W) {
        Pack<T, W> x = load_pack<T, W>(from + column);
        if (position) {
            const Pack<T, W> y = load_pack<T, W>(position + column);
#pragma unroll
            for (int i = 0; i < W; i++) x.value[i] = from_float<T>(to_float(x.value[i]) + to_float(y.value[i]));
        }
        store_pack(p.out[r] + column, x);
    }
}

template <class T, int W> static void queue_embedding_forward(const EmbeddingForward<T> &p) {
    const int64_t threads = least(round_up(ceil_div(p.columns, W), WARP), 256), rows = 256 / threads;
    QUEUE((embed_rows<T, W>), ceil_div(p.rows, rows), dim3(threads, rows), 0, p);
}

void cuda_embedding_forward(Tensor out, Tensor table, Tensor ids, Tensor position_table, Tensor positions) {
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        const EmbeddingForward<T> p = {rows_of<T>(out), rows_of<T>(table), rows_of<T>(position_table),
                                       elements<int32_t>(ids), elements<int32_t>(positions), out.shape[0],
                                       static_cast<int>(out.shape[1])};
        const bool packs = fits_packs(out, PACK<T>) && fits_packs(table, PACK<T>) &&
                           fits_packs(position_table, PACK<T>);
        if (packs) queue_embedding_forward<T, PACK<T>>(p);
        else queue_embedding_forward<T, 1>(p);
    });
}

// ---- backward ----

template <class T> struct EmbeddingBackward {
    Rows<float> dtable;
    Rows<T> dout;
    const int32_t *ids, *order;
    float *partial; // (chunks, 2, columns): of the run that comes from before; of the one that goes on
    int64_t rows, chunks;
    int chunk, columns;
};

// The id at a place of the order; -1 outside.
template <class T> static __device__ __forceinline__ int32_t id_at(const EmbeddingBackward<T> &p, int64_t place) {
    return place >= 0 && place < p.rows ? p.ids[p.order[place]] : -1;
}

// A block has a chunk; a thread has W columns of it.
template <class T, int W> static __global__ void sum_runs(EmbeddingBackward<T> p) {
    DYNAMIC_SHARED(int32_t, room);
    int32_t *id = room, *row = room + p.chunk + 2; // id[i + 1], row[i]: of place `begin + i`
    const int64_t begin = blockIdx.x * static_cast<int64_t>(p.chunk);
    const int count = static_cast<int>(p.rows - begin < p.chunk ? p.rows - begin : p.chunk);
    for (int i = threadIdx.x; i < count + 2; i += blockDim.x) id[i] = id_at(p, begin + i - 1);
    for (int i = threadIdx.x; i < count; i += blockDim.x) row[i] = p.order[begin + i];
    __syncthreads();
    const int column = (blockIdx.y * blockDim.x + threadIdx.x) * W;
    if (column >= p.columns) return;
    for (int i = 0, end; i < count; i = end) {
        const int32_t of = id[i + 1];
        for (end = i + 1; end < count && id[end + 1] == of;) end++;
        const bool before = id[i] == of, crosses = before || id[end + 1] == of;
        float *to = crosses ? p.partial + (2 * blockIdx.x + !before) * static_cast<int64_t>(p.columns) : p.dtable[of];
        float old[W] = {}, sum[W] = {};
        if (!crosses) load_floats(old, to + column);
#pragma unroll 4
        for (int k = i; k < end; k++) {
            const Pack<T, W> term = load_pack<T, W>(p.dout[row[k]] + column);
#pragma unroll
            for (int c = 0; c < W; c++) sum[c] += to_float(term.value[c]);
        }
#pragma unroll
        for (int c = 0; c < W; c++) sum[c] += old[c];
        store_floats(to + column, sum);
    }
}

// A run that crosses chunks belongs to the chunk where it begins. Its parts are added in lanes, then the lanes.
enum { PART_LANES = 4, PART_THREADS = 64 };
template <class T, int W> static __global__ void add_crossing_runs(EmbeddingBackward<T> p) {
    SHARED(float, room, [PART_LANES][PART_THREADS][W]);
    const int64_t begin = blockIdx.x * static_cast<int64_t>(p.chunk);
    const int32_t id = id_at(p, begin + p.chunk);
    if (id < 0 || id_at(p, begin + p.chunk - 1) != id || id_at(p, begin - 1) == id) return; // all of the block
    const int thread = threadIdx.y * PART_THREADS + threadIdx.x;
    int64_t parts = 1; // chunks that the run touches
    for (int found = PART_LANES * PART_THREADS; found == PART_LANES * PART_THREADS; parts += found)
        found = __syncthreads_count(id_at(p, begin + (parts + thread) * p.chunk) == id);

    const int column = (blockIdx.y * PART_THREADS + threadIdx.x) * W;
    float sum[W] = {};
    for (int64_t part = threadIdx.y; part < parts && column < p.columns; part += PART_LANES) {
        float term[W];
        load_floats(term, p.partial + (2 * (blockIdx.x + part) + (part == 0)) * p.columns + column);
#pragma unroll
        for (int c = 0; c < W; c++) sum[c] += term[c];
    }
#pragma unroll
    for (int c = 0; c < W; c++) room[threadIdx.y][threadIdx.x][c] = sum[c];
    __syncthreads();
    if (threadIdx.y > 0 || column >= p.columns) return;
    float old[W];
    load_floats(old, p.dtable[id] + column);
#pragma unroll
    for (int c = 0; c < W; c++) {
        for (int lane = 1; lane < PART_LANES; lane++) sum[c] += room[lane][threadIdx.x][c];
        old[c] += sum[c];
    }
    store_floats(p.dtable[id] + column, old);
}

template <class T, int W, int WIDE> static void queue_embedding_backward(const EmbeddingBackward<T> &p) {
    const int64_t packs = ceil_div(p.columns, W), threads = least(round_up(packs, WARP), 128);
    const size_t shared = (2 * p.chunk + 2) * sizeof(int32_t);
    QUEUE((sum_runs<T, W>), dim3(p.chunks, ceil_div(packs, threads)), threads, shared, p);
    const dim3 grid(p.chunks, ceil_div(p.columns, PART_THREADS * WIDE));
    QUEUE((add_crossing_runs<T, WIDE>), grid, dim3(PART_THREADS, PART_LANES), 0, p);
}

// Places of a chunk: enough chunks to fill the GPU, and no more than scratch memory has room for.
static int64_t chunk_of(int64_t rows, int64_t columns) {
    int64_t chunk = 16;
    while (chunk < 64 && rows / chunk > 1024) chunk *= 2;
    while (ceil_div(rows, chunk) * 2 * columns * sizeof(float) > CUDA_SCRATCH) chunk *= 2;
    return chunk;
}

void cuda_embedding_backward(Tensor dtable, Tensor dout, Tensor ids, Tensor order) {
    by_dtype(dout.dtype, [&](auto zero) {
        using T = decltype(zero);
        const int64_t rows = dout.shape[0], columns = dout.shape[1], chunk = chunk_of(rows, columns);
        const int64_t chunks = ceil_div(rows, chunk);
        float *partial = static_cast<float *>(cuda_scratch(chunks * 2 * columns * sizeof(float)));
        const EmbeddingBackward<T> p = {rows_of<float>(dtable), rows_of<T>(dout), elements<int32_t>(ids),
                                        elements<int32_t>(order), partial, rows, chunks, static_cast<int>(chunk),
                                        static_cast<int>(columns)};
        if (fits_packs(dout, PACK<T>) && fits_packs(dtable, 4)) queue_embedding_backward<T, PACK<T>, 4>(p);
        else queue_embedding_backward<T, 1, 1>(p);
    });
}
