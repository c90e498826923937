// Elementary functions over rows of floats. Their file alone is compiled with -ffast-math, which assumes finite
// numbers: what must become of NaN and infinity is decided by the callers. Output may be an input, element for element.
#pragma once

#include <stdint.h>

// out = e^(in - shift); returns the sum. Arguments below -104 give exactly 0.
float vector_exp_sum(float *out, const float *in, float shift, int64_t n);

// Softmax again and its gradient: p = e^(scores - lse) replaces the scores, and p (dp - delta) replaces dp.
void vector_softmax_backward(float *scores, float *dp, float lse, float delta, int64_t n);

// GELU in its tanh form.
void vector_gelu(float *out, const float *in, int64_t n);
void vector_gelu_backward(float *din, const float *dout, const float *in, int64_t n);

// silu(gate) up
void vector_swiglu(float *out, const float *gate, const float *up, int64_t n);
void vector_swiglu_backward(float *dgate, float *dup, const float *dout, const float *gate, const float *up, int64_t n);

void vector_sine_cosine(float *sine, float *cosine, const double *angle, int64_t n);
