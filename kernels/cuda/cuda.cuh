// What the files of the CUDA backend share: errors, the stream, scratch memory, tensors as typed pointers.
//
// Everything is queued on one stream, in call order. Nothing that changes from step to step is a kernel argument: a
// recorded step is replayed with the arguments it was recorded with. Results do not depend on the schedule: no float
// atomics, and sums are taken in a fixed order.
#pragma once

#include "kernels/cuda/device.cuh"

#define _Noreturn __attribute__((noreturn))
extern "C" {
#include "kernels/kernels.h"
#include "runtime/memory.h"

#define K(result, operation, parameters) result cuda_##operation parameters;
KERNELS(K)
#undef K
}
#undef _Noreturn

// Ends the program (70) with the call that failed and what CUDA says about it.
void cuda_require(cudaError_t error, const char *call, const char *file, int line);
#define CUDA(call) cuda_require((call), #call, __FILE__, __LINE__)

// A switch of the environment, 0 or 1; `value` stays where it is not set.
bool cuda_read_switch(const char *name, bool *value, Errors *errors);

cudaStream_t cuda_stream(void);
int cuda_multiprocessors(void);
// Counts device memory that callers took beside the backend, or gave back (negative), with what it handed out itself.
void cuda_account(int64_t bytes);

// Device memory for one operation's own use, its content undefined and lost with the next operation; aligned to 256
// bytes. It is the workspace of the products as well.
enum { CUDA_SCRATCH = 64 << 20 };
void *cuda_scratch(size_t bytes);

// Queues a kernel on the stream. A template kernel goes in parentheses.
#define QUEUE(kernel, grid, block, shared_bytes, ...)                                \
    do {                                                                             \
        LAUNCH(kernel, grid, block, shared_bytes, cuda_stream(), __VA_ARGS__);       \
        cuda_require(cudaGetLastError(), "launch of " #kernel, __FILE__, __LINE__);  \
    } while (0)

// More dynamic shared memory than 48 KiB has to be asked for; and that L1 leaves room for as many blocks as fit.
template <class... P> void cuda_allow_shared(void (*kernel)(P...), size_t bytes) {
    CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
    CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared));
}

// ---- tensors ----

template <class T> constexpr DType dtype_of();
template <> constexpr DType dtype_of<float>() { return DTYPE_F32; }
template <> constexpr DType dtype_of<bf16>() { return DTYPE_BF16; }
template <> constexpr DType dtype_of<double>() { return DTYPE_F64; }
template <> constexpr DType dtype_of<int32_t>() { return DTYPE_I32; }

// The elements, or NULL of an absent tensor.
template <class T> T *elements(Tensor t) {
    REQUIRE(!tensor_present(t) || t.dtype == dtype_of<T>(), "%s where %s belongs", dtype_name(t.dtype),
            dtype_name(dtype_of<T>()));
    return static_cast<T *>(t.data);
}

// Calls `f` with a zero of the type: by_dtype(t.dtype, [&](auto zero) { using T = decltype(zero); ... });
template <class F> void by_dtype(DType dtype, F f) {
    if (dtype == DTYPE_BF16) f(bf16{});
    else if (dtype == DTYPE_F32) f(float{});
    else DIE(EXIT_INTERNAL, "the CUDA backend computes in bf16 and fp32, not %s", dtype_name(dtype));
}

// Whether packs of N elements may be used: every row of `t` begins at a multiple of their size and holds whole ones.
static inline bool fits_packs(Tensor t, int64_t n) {
    bool fits = reinterpret_cast<uintptr_t>(t.data) % (n * dtype_bytes(t.dtype)) == 0;
    for (int i = 0; i < t.rank; i++)
        fits = fits && (i == t.rank - 1 ? t.shape[i] : t.shape[i] > 1 ? t.stride[i] : 0) % n == 0;
    return fits || !tensor_present(t);
}
