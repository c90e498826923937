// Loops that the compiler turns into calls of the C library's vector exp, sin and cos (libmvec); the Makefile gives
// this file -ffast-math, without which it does not. Nothing here may be relied on to keep or to make NaN or infinity.
#include "kernels/cpu/vector_math.h"

#include <math.h>

// e^x of a float is 0 below LEAST; LARGEST keeps 1 + e^x and its reciprocal normal numbers.
#define LEAST (-104.0f)
#define LARGEST 80.0f

static inline float at_least(float x, float bound) { return x > bound ? x : bound; }
static inline float at_most(float x, float bound) { return x < bound ? x : bound; }

float vector_exp_sum(float *out, const float *in, float shift, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        out[i] = expf(at_least(in[i] - shift, LEAST));
        sum += out[i];
    }
    return sum;
}

void vector_softmax_backward(float *scores, float *dp, float lse, float delta, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float p = expf(at_least(scores[i] - lse, LEAST));
        scores[i] = p;
        dp[i] = p * (dp[i] - delta);
    }
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(at_most(-x, LARGEST))); }

// For derivatives of gates: with e = e^-x, sigmoid is 1 / (1 + e) and its derivative 1 / (e + 2 + 1 / e), which loses
// no digits where s (1 - s) would.
static inline float gate_exp(float x) { return expf(at_least(at_most(-x, LARGEST), -LARGEST)); }

// (1 + tanh(u)) / 2 = sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3): `gelu_argument` is 2 u.
#define GELU_SLOPE 1.5957691216057308f
#define GELU_CUBIC 0.044715f
static inline float gelu_argument(float x) { return GELU_SLOPE * (x + GELU_CUBIC * x * x * x); }

void vector_gelu(float *out, const float *in, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = in[i] * sigmoid(gelu_argument(in[i]));
}

void vector_gelu_backward(float *din, const float *dout, const float *in, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float x = in[i], e = gate_exp(gelu_argument(x)), s = 1.0f / (1.0f + e);
        float slope = GELU_SLOPE * (1.0f + 3.0f * GELU_CUBIC * x * x);
        din[i] = dout[i] * (s + x * slope / (e + 2.0f + 1.0f / e));
    }
}

void vector_swiglu(float *out, const float *gate, const float *up, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

void vector_swiglu_backward(float *dgate, float *dup, const float *dout, const float *gate, const float *up,
                            int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dout[i], e = gate_exp(g), s = 1.0f / (1.0f + e);
        dgate[i] = d * u * (s + g / (e + 2.0f + 1.0f / e));
        dup[i] = d * g * s;
    }
}

// In two loops: in one they become a call of sincos, which has no vector form.
void vector_sine_cosine(float *sine, float *cosine, const double *angle, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sine[i] = (float)sin(angle[i]);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) cosine[i] = (float)cos(angle[i]);
}
