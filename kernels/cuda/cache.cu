// Keys and values of new tokens, put where attention of later queries reads them. One thread moves one pack.
#include "kernels/cuda/rows.cuh"

enum { THREADS = 256 };

struct CacheStore {
    void *out;
    const void *in;
    int64_t out_stride[3], in_stride[3]; // of sequence, token and head, in elements
    const int32_t *positions;            // (sequences, tokens)
    int64_t packs;                       // of all heads of all tokens
    int tokens, heads, across;           // packs of a head
    int cache;                           // positions
};

template <class T, int N> __global__ void __launch_bounds__(THREADS) store_packs(CacheStore s) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= s.packs) return;
    const int64_t column = i % s.across * N, head = i / s.across % s.heads, row = i / s.across / s.heads;
    const int64_t sequence = row / s.tokens, token = row % s.tokens;
    const int position = s.positions[row];
    if (position < 0 || position >= s.cache) return;
    const T *from = static_cast<const T *>(s.in) + sequence * s.in_stride[0] + token * s.in_stride[1];
    T *to = static_cast<T *>(s.out) + sequence * s.out_stride[0] + position * s.out_stride[1];
    store_words(to + head * s.out_stride[2] + column, load_words<T, N>(from + head * s.in_stride[2] + column));
}

template <class T, int N> static void queue_store(CacheStore s, int64_t width) {
    s.across = static_cast<int>(width / N);
    s.packs *= s.across;
    QUEUE((store_packs<T, N>), static_cast<unsigned>(ceil_div(s.packs, THREADS)), THREADS, 0, s);
}

void cuda_cache_store(Tensor out, Tensor in, Tensor positions) {
    CacheStore s = {out.data, in.data, {}, {}, elements<int32_t>(positions), in.shape[0] * in.shape[1] * in.shape[2],
                    static_cast<int>(in.shape[1]), static_cast<int>(in.shape[2]), 0, static_cast<int>(out.shape[1])};
    for (int i = 0; i < 3; i++) s.out_stride[i] = out.stride[i], s.in_stride[i] = in.stride[i];
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        if (fits_packs(out, PACK<T>) && fits_packs(in, PACK<T>)) queue_store<T, PACK<T>>(s, in.shape[3]);
        else queue_store<T, 1>(s, in.shape[3]);
    });
}
