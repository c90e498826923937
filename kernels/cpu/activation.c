// Activations, row by row: from a finished tile of a linear layer, or over whole tensors.
#include "kernels/cpu/activation.h"

#include <string.h>

#include "kernels/cpu/vector_math.h"

void activation_row(float *out, const float *in, int64_t group, int64_t n, Activation activation) {
    switch (activation) {
    case ACTIVATION_NONE: memmove(out, in, (size_t)n * sizeof *out); break;
    case ACTIVATION_GELU: vector_gelu(out, in, n); break;
    case ACTIVATION_SWIGLU: vector_swiglu(out, in, in + group, n); break;
    case ACTIVATION_RELU2:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) out[i] = in[i] < 0 ? 0 : in[i] * in[i]; // NaN stays
        break;
    }
}

static void backward_row(float *dpre, const float *dout, const float *pre, int64_t n, Activation activation) {
    switch (activation) {
    case ACTIVATION_NONE: memmove(dpre, dout, (size_t)n * sizeof *dpre); break;
    case ACTIVATION_GELU: vector_gelu_backward(dpre, dout, pre, n); break;
    case ACTIVATION_SWIGLU: vector_swiglu_backward(dpre, dpre + n, dout, pre, pre + n, n); break;
    case ACTIVATION_RELU2:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dpre[i] = dout[i] * (pre[i] < 0 ? 0 : 2 * pre[i]);
        break;
    }
}

void cpu_activation_forward(Tensor out_tensor, Tensor pre_tensor, Activation activation) {
    Matrix out = cpu_matrix(out_tensor), pre = cpu_matrix(pre_tensor);
    REQUIRE(pre.rows == out.rows && pre.columns == out.columns * activation_inputs(activation),
            "%ld x %ld to %ld x %ld", (long)pre.rows, (long)pre.columns, (long)out.rows, (long)out.columns);
#pragma omp parallel for num_threads(cpu_team(pre.rows * pre.columns))
    for (int64_t r = 0; r < out.rows; r++)
        activation_row(matrix_row(out, r), matrix_row(pre, r), out.columns, out.columns, activation);
}

void activation_backward(Matrix dpre, Matrix dout, Matrix pre, Activation activation) {
    REQUIRE(pre.rows == dout.rows && pre.columns == dout.columns * activation_inputs(activation) &&
                dpre.rows == pre.rows && dpre.columns == pre.columns,
            "%ld x %ld from %ld x %ld", (long)pre.rows, (long)pre.columns, (long)dout.rows, (long)dout.columns);
#pragma omp parallel for num_threads(cpu_team(pre.rows * pre.columns))
    for (int64_t r = 0; r < dout.rows; r++)
        backward_row(matrix_row(dpre, r), matrix_row(dout, r), matrix_row(pre, r), dout.columns, activation);
}
