// CUDA as kernels see it: the toolkit's headers under nvcc; under g++ those of the simulator (tests/cudasim/include),
// which have the same names and define the three macros below in their own way.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#include <string.h>

#ifndef CUDASIM

// A template kernel goes in parentheses: LAUNCH((copy<4, true>), grid, block, 0, stream, in, out).
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)

// A static shared array: SHARED(float, tile, [32][33]).
#define SHARED(type, name, dims) __shared__ type name dims

// The dynamic shared memory of the block as a pointer, 128-byte aligned.
#define DYNAMIC_SHARED(type, name)                                         \
    extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[]; \
    type *name = reinterpret_cast<type *>(dynamic_shared_bytes)

#endif

using bf16 = __nv_bfloat16;

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int WARP = 32;

// ---- numbers ----

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

// N neighbouring elements as one load or store of N sizeof(T) bytes, at most 16; their address is a multiple of that.
template <class T, int N = 16 / sizeof(T)> struct alignas(N * sizeof(T)) Pack {
    T value[N];
};

// What is moved at once, by its size.
template <int BYTES> struct PackBits;
template <> struct PackBits<2> { using type = uint16_t; };
template <> struct PackBits<4> { using type = uint32_t; };
template <> struct PackBits<8> { using type = uint2; };
template <> struct PackBits<16> { using type = uint4; };

// The compiler takes stores of more than one register apart again wherever it fails to see that they are aligned.
template <class Bits> __device__ __forceinline__ void store_bits(Bits *to, Bits bits) { *to = bits; }
#ifndef CUDASIM
__device__ __forceinline__ void store_bits(uint2 *to, uint2 bits) {
    asm volatile("st.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(bits.x), "r"(bits.y) : "memory");
}
__device__ __forceinline__ void store_bits(uint4 *to, uint4 bits) {
    asm volatile("st.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(bits.x), "r"(bits.y), "r"(bits.z), "r"(bits.w)
                 : "memory");
}
#endif

template <class T, int N> __device__ __forceinline__ Pack<T, N> load_pack(const T *from) {
    return *reinterpret_cast<const Pack<T, N> *>(from);
}
template <class T, int N> __device__ __forceinline__ void store_pack(T *to, const Pack<T, N> &pack) {
    using Bits = typename PackBits<sizeof pack>::type;
    Bits bits;
    memcpy(&bits, &pack, sizeof bits);
    store_bits(reinterpret_cast<Bits *>(to), bits);
}

// The same as whole registers, for arithmetic on all of it: a pack that is taken apart costs an instruction an element.
template <class T, int N = 16 / sizeof(T)> struct Words {
    typename PackBits<N * sizeof(T)>::type bits;
};
template <class T, int N> __device__ __forceinline__ Words<T, N> load_words(const T *from) {
    return {*reinterpret_cast<const typename PackBits<N * sizeof(T)>::type *>(from)};
}
template <class T, int N> __device__ __forceinline__ void store_words(T *to, const Words<T, N> &words) {
    store_bits(reinterpret_cast<typename PackBits<N * sizeof(T)>::type *>(to), words.bits);
}

template <class T, int N> __device__ __forceinline__ void to_floats(float (&to)[N], const Words<T, N> &words) {
    if constexpr (sizeof(T) == 2 && N % 2 == 0) {
        uint32_t pairs[N / 2];
        memcpy(pairs, &words.bits, sizeof pairs);
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = __uint_as_float(i % 2 ? pairs[i / 2] & 0xffff0000u : pairs[i / 2] << 16);
    } else {
        T values[N];
        memcpy(values, &words.bits, sizeof values);
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = to_float(values[i]);
    }
}
template <class T, int N> __device__ __forceinline__ Words<T, N> from_floats(const float (&from)[N]) {
    Words<T, N> words;
    if constexpr (sizeof(T) == 2 && N % 2 == 0) {
        uint32_t pairs[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const __nv_bfloat162 pair = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
            memcpy(pairs + i, &pair, sizeof pair);
        }
        memcpy(&words.bits, pairs, sizeof pairs);
    } else {
        T values[N];
#pragma unroll
        for (int i = 0; i < N; i++) values[i] = from_float<T>(from[i]);
        memcpy(&words.bits, values, sizeof values);
    }
    return words;
}

// ---- sums and maxima of a warp, in an order that does not depend on the schedule; every lane has the result ----

template <class T> __device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}
__device__ __forceinline__ float warp_max(float x) { // NaN counts as nothing
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, offset));
    return x;
}
