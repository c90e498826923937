// Activations: their curves, for kernels that apply them, and passes over the output of a product.
#pragma once

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/ptx.cuh"

// e is e^-x, and its largest value one whose reciprocal is a normal number; the caller multiplies by x, so NaN stays.
// Both to 2 ulp where bf16 is to come of them.
struct Gate {
    float value, slope; // of sigmoid: 1 / (1 + e) and e / (1 + e)^2
};
template <class T> __device__ __forceinline__ Gate gate_at(float x) {
    constexpr float LOG2_E = 1.44269504f;
    constexpr bool ROUGH = sizeof(T) == 2;
    const float e = ROUGH ? exp2_approx(fminf(x * -LOG2_E, 80.0f * LOG2_E)) : expf(fminf(-x, 80.0f));
    const float s = ROUGH ? reciprocal_approx(1.0f + e) : 1.0f / (1.0f + e);
    return {s, e * s * s};
}

// (1 + tanh(u)) / 2 = sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3).
constexpr float GELU_SLOPE = 1.5957691216057308f, GELU_CUBIC = 0.044715f;
__device__ __forceinline__ float gelu_argument(float x) { return GELU_SLOPE * (x + GELU_CUBIC * x * x * x); }

// Of one input, and of the gate; `up` is 1 where there is none.
template <class T, Activation A> __device__ __forceinline__ float curve(float x, float up) {
    if (A == ACTIVATION_GELU) return x * gate_at<T>(gelu_argument(x)).value;
    if (A == ACTIVATION_SWIGLU) return x * gate_at<T>(x).value * up;
    if (A == ACTIVATION_RELU2) return x < 0.0f ? 0.0f : x * x; // NaN stays
    return x;
}

// dpre = activation'(pre) dout, and dbias, or none, += its columns. `pre` is not read where there is no activation.
void activation_backward(Tensor dpre, Tensor dbias, Tensor dout, Tensor pre, Activation activation);

void add_column_sums(Tensor sums, Tensor matrix);

// sums (C) += values.
void add_to_sums(Tensor sums, const float *values);
