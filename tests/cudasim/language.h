// The language of kernels under g++: index variables, shared memory, barriers, votes, shuffles, atomics, mathematics.
#pragma once

#include "tests/cudasim/cudasim.h"

namespace cudasim {

// ---- Warp collectives as templates

template <class T> struct ShuffleLane {
    T value, result;
    int source;
};

template <class T> void combine_shuffle(void *const *lanes, unsigned) {
    for (int i = 0; i < 32; i++) {
        auto *lane = static_cast<ShuffleLane<T> *>(lanes[i]);
        if (!lane) continue;
        auto *from = static_cast<ShuffleLane<T> *>(lanes[lane->source]);
        if (from)
            lane->result = from->value;
        else // a lane outside the mask or gone: undefined on the GPU, so make it visible
            fill_with_poison(&lane->result, sizeof(T));
    }
}

template <class T> T shuffle(unsigned mask, T value, int source, Site site) {
    ShuffleLane<T> lane{value, value, source};
    warp_collective(mask, &lane, combine_shuffle<T>, site);
    return lane.result;
}

// Reductions over the lanes: every lane receives the fold of all values.
template <class T> struct ReduceLane { T value, result; };

template <class T, T (*FOLD)(T, T)> void combine_reduce(void *const *lanes, unsigned) {
    const ReduceLane<T> *first = nullptr;
    T total{};
    for (int i = 0; i < 32; i++) {
        auto *lane = static_cast<ReduceLane<T> *>(lanes[i]);
        if (!lane) continue;
        total = first ? FOLD(total, lane->value) : lane->value;
        first = lane;
    }
    for (int i = 0; i < 32; i++)
        if (lanes[i]) static_cast<ReduceLane<T> *>(lanes[i])->result = total;
}

template <class T, T (*FOLD)(T, T)> T reduce(unsigned mask, T value, Site site) {
    ReduceLane<T> lane{value, value};
    warp_collective(mask, &lane, combine_reduce<T, FOLD>, site);
    return lane.result;
}

template <class T> T fold_add(T a, T b) { return a + b; }
template <class T> T fold_min(T a, T b) { return b < a ? b : a; }
template <class T> T fold_max(T a, T b) { return a < b ? b : a; }
inline unsigned fold_or(unsigned a, unsigned b) { return a | b; }

inline unsigned ballot(unsigned mask, bool p, Site site) {
    return reduce<unsigned, fold_or>(mask, p ? 1u << current->lane : 0u, site);
}

} // namespace cudasim

// ---- Language: keywords, index variables, launch

#define threadIdx (cudasim::current->thread_index)
#define blockIdx (cudasim::current->block->index)
#define blockDim (cudasim::current->block->size)
#define gridDim (cudasim::current->block->grid)
constexpr int warpSize = 32;

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    cudasim::launch(#kernel, __FILE__, __LINE__, kernel, (grid), (block), (shared_bytes), (stream), ##__VA_ARGS__)

// The static variable is only a key: one address per declaration and template instantiation.
#define SHARED(type, name, dims)                                                                                   \
    struct name##_declaration {                                                                                    \
        type name dims;                                                                                            \
    };                                                                                                             \
    static char name##_key;                                                                                        \
    auto &name = static_cast<name##_declaration *>(                                                                \
                     cudasim::static_shared(&name##_key, sizeof(name##_declaration), alignof(name##_declaration))) \
                     ->name

#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(cudasim::dynamic_shared())

// ---- Barriers, votes, shuffles

#define CUDASIM_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDASIM_HERE) { cudasim::block_barrier({"__syncthreads", file, line}); }
inline int __syncthreads_count(int p, CUDASIM_HERE) {
    return cudasim::block_barrier_count(p, {"__syncthreads_count", file, line});
}
inline int __syncthreads_or(int p, CUDASIM_HERE) {
    return cudasim::block_barrier_count(p, {"__syncthreads_or", file, line}) != 0;
}
inline int __syncthreads_and(int p, CUDASIM_HERE) {
    return cudasim::block_barrier_count(!p, {"__syncthreads_and", file, line}) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, CUDASIM_HERE) {
    cudasim::warp_collective(mask, nullptr, cudasim::combine_nothing, {"__syncwarp", file, line});
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}
inline void __threadfence_system() { __threadfence(); }

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDASIM_HERE) {
    const int lane = cudasim::current->lane;
    const int from = (lane & ~(width - 1)) | (source & (width - 1));
    return cudasim::shuffle(mask, value, from, {"__shfl_sync", file, line});
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDASIM_HERE) {
    const int lane = cudasim::current->lane;
    const int from = lane - static_cast<int>(delta);
    return cudasim::shuffle(mask, value, from < (lane & ~(width - 1)) ? lane : from, {"__shfl_up_sync", file, line});
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDASIM_HERE) {
    const int lane = cudasim::current->lane;
    const int from = lane + static_cast<int>(delta);
    return cudasim::shuffle(mask, value, from > (lane | (width - 1)) ? lane : from, {"__shfl_down_sync", file, line});
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, CUDASIM_HERE) {
    const int lane = cudasim::current->lane;
    const int from = lane ^ lane_mask;
    return cudasim::shuffle(mask, value, from > (lane | (width - 1)) ? lane : from, {"__shfl_xor_sync", file, line});
}

inline unsigned __ballot_sync(unsigned mask, int p, CUDASIM_HERE) {
    return cudasim::ballot(mask, p != 0, {"__ballot_sync", file, line});
}
inline int __any_sync(unsigned mask, int p, CUDASIM_HERE) {
    return cudasim::ballot(mask, p != 0, {"__any_sync", file, line}) != 0;
}
inline int __all_sync(unsigned mask, int p, CUDASIM_HERE) {
    return cudasim::ballot(mask, p == 0, {"__all_sync", file, line}) == 0;
}
template <class T> T __reduce_add_sync(unsigned mask, T v, CUDASIM_HERE) {
    return cudasim::reduce<T, cudasim::fold_add<T>>(mask, v, {"__reduce_add_sync", file, line});
}
template <class T> T __reduce_min_sync(unsigned mask, T v, CUDASIM_HERE) {
    return cudasim::reduce<T, cudasim::fold_min<T>>(mask, v, {"__reduce_min_sync", file, line});
}
template <class T> T __reduce_max_sync(unsigned mask, T v, CUDASIM_HERE) {
    return cudasim::reduce<T, cudasim::fold_max<T>>(mask, v, {"__reduce_max_sync", file, line});
}
// Only the caller itself is always a right answer: convergence is never guaranteed.
inline unsigned __activemask() { return 1u << cudasim::current->lane; }

// ---- Atomics: real ones, since blocks may run on several host threads

namespace cudasim {
// Not instrumented by the race check: atomics do not race with each other.
template <class T, class F> __attribute__((no_sanitize("thread"))) T atomic_update(T *address, F change) {
    T old, next;
    __atomic_load(address, &old, __ATOMIC_RELAXED);
    do next = change(old);
    while (!__atomic_compare_exchange(address, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
} // namespace cudasim

// The value does not take part in deduction, so that atomicAdd(&f, 1) converts as in CUDA.
template <class T> T atomicAdd(T *address, std::common_type_t<T> value) {
    return cudasim::atomic_update(address, [=](T old) { return static_cast<T>(old + value); });
}
template <class T> T atomicMax(T *address, std::common_type_t<T> value) {
    return cudasim::atomic_update(address, [=](T old) { return old > value ? old : value; });
}
template <class T> T atomicMin(T *address, std::common_type_t<T> value) {
    return cudasim::atomic_update(address, [=](T old) { return old < value ? old : value; });
}
template <class T> T atomicExch(T *address, std::common_type_t<T> value) {
    return cudasim::atomic_update(address, [=](T) { return value; });
}
template <class T> T atomicCAS(T *address, std::common_type_t<T> expected, std::common_type_t<T> value) {
    return cudasim::atomic_update(address, [=](T old) { return old == expected ? value : old; });
}
template <class T> T atomicSub(T *address, std::common_type_t<T> value) {
    return cudasim::atomic_update(address, [=](T old) { return static_cast<T>(old - value); });
}
template <class T> T atomicOr(T *address, std::common_type_t<T> value) {
    return cudasim::atomic_update(address, [=](T old) { return old | value; });
}
template <class T> T atomicAnd(T *address, std::common_type_t<T> value) {
    return cudasim::atomic_update(address, [=](T old) { return old & value; });
}
inline unsigned atomicInc(unsigned *address, unsigned limit) {
    return cudasim::atomic_update(address, [=](unsigned old) { return old >= limit ? 0u : old + 1; });
}

// ---- Loads, stores, bit casts, mathematics

template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> T __ldca(const T *p) { return *p; }
template <class T> T __ldcv(const T *p) { return *p; }
template <class T> T __ldlu(const T *p) { return *p; }
template <class T> void __stwb(T *p, T value) { *p = value; }
template <class T> void __stwt(T *p, T value) { *p = value; }
template <class T> void __stcs(T *p, T value) { *p = value; }
template <class T> void __stcg(T *p, T value) { *p = value; }

namespace cudasim {
template <class To, class From> To bit_cast(From value) {
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To result;
    std::memcpy(&result, &value, sizeof(To));
    return result;
}
} // namespace cudasim
inline int __float_as_int(float v) { return cudasim::bit_cast<int>(v); }
inline unsigned __float_as_uint(float v) { return cudasim::bit_cast<unsigned>(v); }
inline float __int_as_float(int v) { return cudasim::bit_cast<float>(v); }
inline float __uint_as_float(unsigned v) { return cudasim::bit_cast<float>(v); }

inline double __longlong_as_double(long long v) { return cudasim::bit_cast<double>(v); }
inline long long __double_as_longlong(double v) { return cudasim::bit_cast<long long>(v); }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline void sincospif(float x, float *sine, float *cosine) {
    *sine = static_cast<float>(std::sin(x * M_PI));
    *cosine = static_cast<float>(std::cos(x * M_PI));
}
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1.0f / std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __saturatef(float x) { return std::fmin(std::fmax(x, 0.0f), 1.0f); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }

// These are never contracted to a fused multiply-add.
#define CUDASIM_EXACT(T, name, operator) \
    __attribute__((__noinline__, optimize("fp-contract=off"))) inline T name(T a, T b) { return a operator b; }
CUDASIM_EXACT(float, __fadd_rn, +)
CUDASIM_EXACT(float, __fsub_rn, -)
CUDASIM_EXACT(float, __fmul_rn, *)
CUDASIM_EXACT(float, __fdiv_rn, /)
CUDASIM_EXACT(double, __dadd_rn, +)
CUDASIM_EXACT(double, __dsub_rn, -)
CUDASIM_EXACT(double, __dmul_rn, *)
CUDASIM_EXACT(double, __ddiv_rn, /)
#undef CUDASIM_EXACT

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz(static_cast<unsigned>(v)) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(static_cast<unsigned long long>(v)) : 64; }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline void __trap() { cudasim::fault("__trap()"); }

template <class T> constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T> constexpr T max(T a, T b) { return a < b ? b : a; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
