// Activations of one row: `in` has activation_inputs() n columns with the groups `group` columns apart.
#pragma once

#include "kernels/cpu/cpu.h"

void activation_row(float *out, const float *in, int64_t group, int64_t n, Activation activation);

// dpre = activation'(pre) dout, of whole matrices.
void activation_backward(Matrix dpre, Matrix dout, Matrix pre, Activation activation);
