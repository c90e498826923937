// The CPU backend: fp32 on OpenMP and OpenBLAS. Other dtypes are refused where they enter; copy alone converts, and
// products and norms of matrices are also there in fp64, for analysis.
//
// Results do not depend on the number of threads: work is cut by shape alone, every output element has one owner, and
// sums are taken in a fixed order. OpenBLAS itself always runs on one thread; its own threading does not give that.
#pragma once

#include "kernels/kernels.h"

#define K(result, operation, parameters) result cpu_##operation parameters;
KERNELS(K)
#undef K

// Threads worth starting for so many elements; of matrix products so many multiply-adds count as one.
int cpu_team(int64_t elements);
enum { MULTIPLY_ADDS = 32 };

// Floats that belong to the calling thread until its parallel region ends; aligned to cache lines.
enum { CPU_SCRATCH = 1 << 16 };
float *cpu_scratch(void);

// Floats that all threads share until an operation ends.
enum { CPU_SHARED_SCRATCH = 1 << 18 };
float *cpu_shared_scratch(void);

// Columns that one thread owns where rows are summed: 512 bytes of each row.
enum { COLUMN_BLOCK = 128 };

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// A tensor as rows of floats; absent tensors have no data.
typedef struct {
    float *data;
    int64_t rows, columns, stride;
} Matrix;

Matrix cpu_matrix(Tensor tensor);
void cpu_add_column_sums(float *sums, Matrix matrix);

static inline float *matrix_row(Matrix matrix, int64_t row) { return matrix.data + row * matrix.stride; }

// The elements themselves, or NULL of an absent tensor.
static inline float *cpu_floats(Tensor tensor) {
    REQUIRE(!tensor_present(tensor) || tensor.dtype == DTYPE_F32, "the CPU backend computes in fp32, not %s",
            dtype_name(tensor.dtype));
    return tensor.data;
}

static inline double *cpu_doubles(Tensor tensor) {
    REQUIRE(!tensor_present(tensor) || (tensor.dtype == DTYPE_F64 && tensor_contiguous(tensor)), "%s where f64 belongs",
            dtype_name(tensor.dtype));
    return tensor.data;
}

static inline const int32_t *cpu_integers(Tensor tensor) {
    REQUIRE(!tensor_present(tensor) || (tensor.dtype == DTYPE_I32 && tensor_contiguous(tensor)), "%s where i32 belongs",
            dtype_name(tensor.dtype));
    return tensor.data;
}

// Four-dimensional tensors (sequence, token, head, width): one head of one token.
static inline float *cpu_head(Tensor tensor, int64_t sequence, int64_t token, int64_t head) {
    return (float *)tensor.data + sequence * tensor.stride[0] + token * tensor.stride[1] + head * tensor.stride[2];
}
