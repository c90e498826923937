// Passes over the output of a product: activations, and sums of columns.
#pragma once

#include "kernels/cuda/cuda.cuh"

// dpre = activation'(pre) dout, and dbias, or none, += its columns. `pre` is not read where there is no activation.
void activation_backward(Tensor dpre, Tensor dbias, Tensor dout, Tensor pre, Activation activation);

void add_column_sums(Tensor sums, Tensor matrix);

// sums (C) += values.
void add_to_sums(Tensor sums, const float *values);
