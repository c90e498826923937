// Linear layers on few rows.
#pragma once

#include "kernels/cuda/cuda.cuh"

enum { LINEAR_FEW_ROWS = 8 };

// As cuda_linear_forward, of matrices with at most LINEAR_FEW_ROWS rows.
void linear_few_forward(Tensor out, Tensor pre, Tensor in, const Linear *layer);
