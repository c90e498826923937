// Sums over the rows of matrices of partial sums: the second half of every sum over tokens.
#pragma once

#include "kernels/cuda/cuda.cuh"

// out (groups, columns) = or += the sums over `rows` rows of in (groups, rows, columns), taken in an order that only
// the number of rows decides.
struct ColumnSums {
    float *out;
    int64_t out_stride; // of groups
    const float *in;
    int64_t in_stride;  // of rows
    int64_t rows, groups;
    bool accumulate;
};

// Queues up to COLUMN_SUMS of them, none of which reads another's output, as one kernel.
enum { COLUMN_SUMS = 3 };
void cuda_column_sums(const ColumnSums *sums, int count, int64_t columns);
