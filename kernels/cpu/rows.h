// Sums and maxima of rows of floats, in the order that the vector width and the length give: equal input, equal bits.
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

static inline float row_sum(const float *x, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

static inline float row_dot(const float *x, const float *y, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

// NaN if any element is.
static inline float row_max(const float *x, int64_t n) {
    float largest = -INFINITY;
    int unordered = 0;
#pragma omp simd reduction(max : largest) reduction(| : unordered)
    for (int64_t i = 0; i < n; i++) {
        largest = x[i] > largest ? x[i] : largest;
        unordered |= x[i] != x[i];
    }
    return unordered ? NAN : largest;
}

static inline void row_scale(float *x, float factor, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

static inline void row_fill(float *x, float value, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = value;
}
