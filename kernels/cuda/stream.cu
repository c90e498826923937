// A pass over memory that an update can be compared with.
#include "kernels/cuda/cuda.cuh"

enum { STREAM_TENSORS = 16, STREAM_THREADS = 256, STREAM_PACK = 4, STREAM_LOADS = 8 };

struct StreamPass {
    float *data[STREAM_TENSORS];
    int count, first_updated, first_overwritten;
    float share;  // of what is read, in its mean
    float *total; // of each thread, where nothing else is written: what is read must be used
};

// Elements [i, i + N) of every tensor: what is written is the mean of what is read. Several tensors are read before the
// first is waited for.
template <int N> __device__ __forceinline__ float stream_pack(const StreamPass &pass, int64_t i) {
    Pack<float, N> sum = {};
    for (int first = 0; first < pass.first_overwritten; first += STREAM_LOADS) {
        Pack<float, N> read[STREAM_LOADS] = {};
#pragma unroll
        for (int t = 0; t < STREAM_LOADS; t++)
            if (first + t < pass.first_overwritten) read[t] = load_pack<float, N>(pass.data[first + t] + i);
#pragma unroll
        for (int t = 0; t < STREAM_LOADS; t++)
            for (int j = 0; j < N; j++) sum.value[j] += read[t].value[j];
    }
    float all = 0;
    for (int j = 0; j < N; j++) all += sum.value[j], sum.value[j] *= pass.share;
    for (int t = pass.first_updated; t < pass.count; t++) store_pack(pass.data[t] + i, sum);
    return all;
}

// The first `whole` elements as packs, the rest one by one.
__global__ void __launch_bounds__(STREAM_THREADS) stream_all(StreamPass pass, int64_t whole, int64_t elements) {
    int64_t thread = static_cast<int64_t>(blockIdx.x) * STREAM_THREADS + threadIdx.x;
    int64_t threads = static_cast<int64_t>(gridDim.x) * STREAM_THREADS;
    float total = 0;
    for (int64_t i = thread * STREAM_PACK; i < whole; i += threads * STREAM_PACK)
        total += stream_pack<STREAM_PACK>(pass, i);
    for (int64_t i = whole + thread; i < elements; i += threads) total += stream_pack<1>(pass, i);
    if (pass.first_updated == pass.count) pass.total[thread] = total;
}

void cuda_stream(const Tensor *tensors, int64_t count, int64_t first_updated, int64_t first_overwritten) {
    int64_t all = tensor_count(tensors[0]), packs = all / STREAM_PACK + 1;
    int64_t blocks = (packs + STREAM_THREADS - 1) / STREAM_THREADS, most = 8 * cuda_multiprocessors();
    bool fits = true;
    StreamPass pass = {};
    REQUIRE(count <= STREAM_TENSORS, "%ld tensors, at most %d", static_cast<long>(count), STREAM_TENSORS);
    for (int64_t t = 0; t < count; t++) {
        pass.data[t] = elements<float>(tensors[t]);
        fits = fits && reinterpret_cast<uintptr_t>(tensors[t].data) % (STREAM_PACK * sizeof(float)) == 0;
    }
    pass.count = static_cast<int>(count);
    pass.first_updated = static_cast<int>(first_updated);
    pass.first_overwritten = static_cast<int>(first_overwritten);
    pass.share = first_overwritten > 0 ? 1.0f / static_cast<float>(first_overwritten) : 0;
    if (blocks > most) blocks = most;
    pass.total = static_cast<float *>(cuda_scratch(blocks * STREAM_THREADS * sizeof(float)));
    int64_t whole = fits ? all / STREAM_PACK * STREAM_PACK : 0;
    QUEUE(stream_all, static_cast<unsigned>(blocks), STREAM_THREADS, 0, pass, whole, all);
}
