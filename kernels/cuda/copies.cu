// Copies between tensors of any strides, with conversion between float dtypes, and fills.
#include "kernels/cuda/rows.cuh"

// Rows of two tensors of one shape: as few dimensions as their strides allow, the last one contiguous in both.
struct Layout {
    int64_t rows, columns;
    int64_t shape[TENSOR_RANK - 1];                                    // of rows, leading dimensions first
    int64_t out_stride[TENSOR_RANK - 1], in_stride[TENSOR_RANK - 1];
};

static Layout layout_of(Tensor out, Tensor in) {
    Layout layout = {1, 1, {1, 1, 1}, {}, {}};
    int place = TENSOR_RANK - 1; // of the dimension that grows; TENSOR_RANK - 1 is the columns
    int64_t count = 1, out_next = 1, in_next = 1; // of that dimension; the strides that continue it
    for (int dim = out.rank - 1; dim >= 0; dim--) {
        const int64_t n = out.shape[dim], out_stride = out.stride[dim], in_stride = in.stride[dim];
        if (n == 1) continue;
        if (out_stride != out_next || in_stride != in_next) {
            place--;
            layout.out_stride[place] = out_stride;
            layout.in_stride[place] = in_stride;
            count = 1;
        }
        count *= n;
        out_next = out_stride * n;
        in_next = in_stride * n;
        if (place == TENSOR_RANK - 1) layout.columns = count;
        else layout.shape[place] = count;
    }
    layout.rows = layout.shape[0] * layout.shape[1] * layout.shape[2];
    return layout;
}

static bool layout_fits(const Layout &layout, Tensor out, Tensor in, int64_t width) {
    const auto aligned = [=](Tensor t) {
        return reinterpret_cast<uintptr_t>(t.data) % (width * dtype_bytes(t.dtype)) == 0;
    };
    bool fits = layout.columns % width == 0 && aligned(out) && aligned(in);
    for (int dim = 0; dim < TENSOR_RANK - 1; dim++)
        fits = fits && layout.out_stride[dim] % width == 0 && layout.in_stride[dim] % width == 0;
    return fits;
}

// Where a row begins.
static __device__ __forceinline__ void find_row(int64_t *out, int64_t *in, const Layout &layout, int64_t row) {
    *out = *in = 0;
    if (layout.rows == 1) return; // as is everything contiguous: without divisions
#pragma unroll
    for (int dim = TENSOR_RANK - 2; dim >= 0; dim--) {
        const int64_t index = row % layout.shape[dim];
        row /= layout.shape[dim];
        *out += index * layout.out_stride[dim];
        *in += index * layout.in_stride[dim];
    }
}

template <class To, class From> __device__ __forceinline__ To convert(From x) { return static_cast<To>(x); }
template <> __device__ __forceinline__ bf16 convert<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ bf16 convert<bf16>(double x) { return __double2bfloat16(x); } // rounds once
template <> __device__ __forceinline__ float convert<float>(bf16 x) { return __bfloat162float(x); }
template <> __device__ __forceinline__ double convert<double>(bf16 x) { return __bfloat162float(x); }

enum { PACKS_OF_THREAD = 4, BLOCK = 256 };

// How blocks cover the layout: blockDim.x threads times PACKS_OF_THREAD packs along a row, `tiles` blocks to a row.
struct Cover {
    dim3 grid, block;
    unsigned tiles;
};
static Cover cover_of(const Layout &layout, int64_t width) {
    const int64_t packs = layout.columns / width;
    int64_t threads = BLOCK;
    while (threads > 1 && threads / 2 * PACKS_OF_THREAD >= packs) threads /= 2;
    const int64_t tiles = ceil_div(packs, threads * PACKS_OF_THREAD), rows = BLOCK / threads;
    return {dim3(tiles * ceil_div(layout.rows, rows)), dim3(threads, rows), static_cast<unsigned>(tiles)};
}

// Calls f with the row and each column of this thread.
template <int W, class F> static __device__ __forceinline__ void for_packs(const Layout &layout, unsigned tiles, F f) {
    const int64_t row = static_cast<int64_t>(blockIdx.x / tiles) * blockDim.y + threadIdx.y;
    if (row >= layout.rows) return;
    int64_t out, in;
    find_row(&out, &in, layout, row);
    const int64_t first = static_cast<int64_t>(blockIdx.x % tiles) * (blockDim.x * PACKS_OF_THREAD) + threadIdx.x;
#pragma unroll
    for (int i = 0; i < PACKS_OF_THREAD; i++) {
        const int64_t column = (first + i * static_cast<int64_t>(blockDim.x)) * W;
        if (column < layout.columns) f(out + column, in + column);
    }
}

template <class To, class From, int W>
static __global__ void copy_packs(To *__restrict__ out, const From *__restrict__ in, Layout layout, unsigned tiles) {
    for_packs<W>(layout, tiles, [=](int64_t to, int64_t from) {
        const Pack<From, W> x = load_pack<From, W>(in + from);
        Pack<To, W> y;
#pragma unroll
        for (int i = 0; i < W; i++) y.value[i] = convert<To>(x.value[i]);
        store_pack(out + to, y);
    });
}

template <class T, int W> static __global__ void zero_packs(T *out, Layout layout, unsigned tiles) {
    for_packs<W>(layout, tiles, [=](int64_t to, int64_t) { store_pack(out + to, Pack<T, W>{}); });
}

// Elements as they are: by their size.
template <class F> static void by_size(DType dtype, F f) {
    switch (dtype_bytes(dtype)) {
    case 2: f(uint16_t{}); break;
    case 4: f(uint32_t{}); break;
    default: f(uint64_t{}); break;
    }
}

template <class F> static void by_float(DType dtype, F f) {
    if (dtype == DTYPE_F64) f(double{});
    else by_dtype(dtype, f);
}

template <class To, class From> static void queue_copy(Tensor out, Tensor in) {
    constexpr int W = PACK<To> < PACK<From> ? PACK<To> : PACK<From>;
    const Layout layout = layout_of(out, in);
    To *to = static_cast<To *>(out.data);
    const From *from = static_cast<const From *>(in.data);
    const bool packs = layout_fits(layout, out, in, W);
    const Cover cover = cover_of(layout, packs ? W : 1);
    if (packs) QUEUE((copy_packs<To, From, W>), cover.grid, cover.block, 0, to, from, layout, cover.tiles);
    else QUEUE((copy_packs<To, From, 1>), cover.grid, cover.block, 0, to, from, layout, cover.tiles);
}

void cuda_copy(Tensor out, Tensor in) {
    if (out.dtype != in.dtype)
        by_float(out.dtype, [&](auto to) {
            by_float(in.dtype, [&](auto from) {
                if constexpr (sizeof to != sizeof from) queue_copy<decltype(to), decltype(from)>(out, in);
            });
        });
    else if (tensor_contiguous(out) && tensor_contiguous(in))
        CUDA(cudaMemcpyAsync(out.data, in.data, tensor_size_bytes(in), cudaMemcpyDeviceToDevice, cuda_stream()));
    else
        by_size(out.dtype, [&](auto zero) { queue_copy<decltype(zero), decltype(zero)>(out, in); });
}

void cuda_fill_zero(Tensor out) {
    if (tensor_contiguous(out)) {
        CUDA(cudaMemsetAsync(out.data, 0, tensor_size_bytes(out), cuda_stream()));
        return;
    }
    by_size(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        const Layout layout = layout_of(out, out);
        const bool packs = layout_fits(layout, out, out, PACK<T>);
        const Cover cover = cover_of(layout, packs ? PACK<T> : 1);
        T *to = static_cast<T *>(out.data);
        if (packs) QUEUE((zero_packs<T, PACK<T>>), cover.grid, cover.block, 0, to, layout, cover.tiles);
        else QUEUE((zero_packs<T, 1>), cover.grid, cover.block, 0, to, layout, cover.tiles);
    });
}
