// The simulator's side of kernels/cuda/ptx.cuh: the same functions, emulated (ptx_host.cpp).
#pragma once

#include <cuda_runtime.h>

namespace cudasim {
void load_matrices(uint32_t *registers, int matrices, bool transposed, const void *row, Site site);
void multiply_bf16(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, Site site);
void multiply_tf32(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, Site site);
void checked_async_copy(void *shared, const void *global, bool valid, Site site);
} // namespace cudasim

inline void ldmatrix_x1(uint32_t (&r)[1], const void *row, CUDASIM_HERE) {
    cudasim::load_matrices(r, 1, false, row, {"ldmatrix_x1", file, line});
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void *row, CUDASIM_HERE) {
    cudasim::load_matrices(r, 2, false, row, {"ldmatrix_x2", file, line});
}
inline void ldmatrix_x4(uint32_t (&r)[4], const void *row, CUDASIM_HERE) {
    cudasim::load_matrices(r, 4, false, row, {"ldmatrix_x4", file, line});
}
inline void ldmatrix_x1_trans(uint32_t (&r)[1], const void *row, CUDASIM_HERE) {
    cudasim::load_matrices(r, 1, true, row, {"ldmatrix_x1_trans", file, line});
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void *row, CUDASIM_HERE) {
    cudasim::load_matrices(r, 2, true, row, {"ldmatrix_x2_trans", file, line});
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row, CUDASIM_HERE) {
    cudasim::load_matrices(r, 4, true, row, {"ldmatrix_x4_trans", file, line});
}
inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, CUDASIM_HERE) {
    cudasim::multiply_bf16(d, a, b0, b1, {"mma_m16n8k16_bf16", file, line});
}
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, CUDASIM_HERE) {
    cudasim::multiply_tf32(d, a, b0, b1, {"mma_m16n8k8_tf32", file, line});
}
inline void cp_async16(void *shared, const void *global, bool valid = true, CUDASIM_HERE) {
    cudasim::checked_async_copy(shared, global, valid, {"cp_async16", file, line});
}
inline void cp_async_commit() { cudasim::async_commit(); }
template <int NEWEST> void cp_async_wait() { cudasim::async_wait(NEWEST); }
inline float exp2_approx(float x) { return std::exp2(x); }
inline float reciprocal_approx(float x) { return 1.0f / x; }
