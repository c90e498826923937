// A product as cuBLASLt's stand-in computes it; between blas.cpp, which keeps the library's objects and rules, and
// blas_compute.cpp, which has the numbers.
#pragma once

#include "tests/cudasim/cudasim_internal.h"

#include <cublasLt.h>

namespace cudasim {

struct Layout {
    uint32_t type;
    int32_t order;
    uint64_t rows, cols;
    int64_t ld;
    int32_t batch;
    int64_t batch_offset;

    size_t index(size_t row, size_t col) const {
        return order == CUBLASLT_ORDER_COL ? row + col * static_cast<size_t>(ld) : row * static_cast<size_t>(ld) + col;
    }
    size_t elements() const { // from the first to the last of the batch
        return index(rows - 1, cols - 1) + 1 + static_cast<size_t>(batch - 1) * static_cast<size_t>(batch_offset);
    }
};

constexpr int32_t TYPE_OF_D = -1; // the default of the epilogue's types

struct Description {
    int32_t compute, scale, pointer_mode, op_a, op_b, op_c;
    uint32_t epilogue;
    void *bias, *aux;
    int64_t bias_stride, aux_ld, aux_stride;
    int32_t bias_type, aux_type, multiprocessors;
};

struct Product {
    Description description;
    Layout layout_a, layout_b, layout_c, layout_d;
    float alpha, beta;
    const void *a, *b, *c;
    void *d;
    void *workspace;
    size_t workspace_bytes; // that the algorithm uses

    size_t rows() const { return layout_d.rows; }
    size_t cols() const { return layout_d.cols; }
    size_t inner() const { return description.op_a == CUBLAS_OP_N ? layout_a.cols : layout_a.rows; }
};

constexpr uint32_t HAS_BIAS = 4, HAS_GELU = 32, HAS_DGELU = 64, HAS_AUX = 128, HAS_BIAS_GRADIENT = 16; // in epilogues
inline bool sums_a(uint32_t epilogue) { return epilogue == CUBLASLT_EPILOGUE_BGRADA; }
inline bool sums_b(uint32_t epilogue) { return epilogue == CUBLASLT_EPILOGUE_BGRADB; }
inline bool uses_bias(uint32_t epilogue) {
    return epilogue & (HAS_BIAS | HAS_BIAS_GRADIENT) || sums_a(epilogue) || sums_b(epilogue);
}

inline size_t type_bytes(uint32_t type) { return type == CUDA_R_16BF ? 2 : 4; }

void compute(const Product &product);

} // namespace cudasim
