// What the reference's loops are written with: elements of strided tensors as doubles, with every index checked.
#pragma once

#include <math.h>

#include "kernels/kernels.h"

#define K(result, operation, parameters) result reference_##operation parameters;
KERNELS(K)
#undef K

// The offset of an element: one index per dimension, AT(n, c).
#define AT(...) (const int64_t[]){__VA_ARGS__}, (int)(sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t))

static inline int64_t place(const Tensor *t, const int64_t *index, int rank) {
    REQUIRE(t->rank == rank, "rank %d where %d belongs", t->rank, rank);
    int64_t offset = 0;
    for (int i = 0; i < rank; i++) {
        REQUIRE(index[i] >= 0 && index[i] < t->shape[i], "index %ld of %ld in dimension %d", (long)index[i],
                (long)t->shape[i], i);
        offset += index[i] * t->stride[i];
    }
    return offset;
}

// Rounded to nearest even straight from double: by way of float it would be rounded twice.
static inline uint16_t bf16_from_double(double value) {
    enum { DIGITS = 8, LEAST_EXPONENT = -126 };
    if (value == 0 || !isfinite(value)) return bf16_from_float((float)value);
    int exponent = ilogb(value) < LEAST_EXPONENT ? LEAST_EXPONENT : ilogb(value);
    double unit = ldexp(1, exponent - (DIGITS - 1));
    return bf16_from_float((float)(rint(value / unit) * unit));
}

static inline double get(Tensor t, const int64_t *index, int rank) {
    int64_t offset = place(&t, index, rank);
    switch (t.dtype) {
    case DTYPE_F32: return ((const float *)t.data)[offset];
    case DTYPE_BF16: return bf16_to_float(((const uint16_t *)t.data)[offset]);
    case DTYPE_F64: return ((const double *)t.data)[offset];
    default: DIE(EXIT_INTERNAL, "%s is no float", dtype_name(t.dtype));
    }
}

static inline void set(Tensor t, const int64_t *index, int rank, double value) {
    int64_t offset = place(&t, index, rank);
    switch (t.dtype) {
    case DTYPE_F32: ((float *)t.data)[offset] = (float)value; break;
    case DTYPE_BF16: ((uint16_t *)t.data)[offset] = bf16_from_double(value); break;
    case DTYPE_F64: ((double *)t.data)[offset] = value; break;
    default: DIE(EXIT_INTERNAL, "%s is no float", dtype_name(t.dtype));
    }
}

static inline void add(Tensor t, const int64_t *index, int rank, double value) {
    set(t, index, rank, get(t, index, rank) + value);
}

static inline int64_t get_integer(Tensor t, const int64_t *index, int rank) {
    REQUIRE(t.dtype == DTYPE_I32, "%s where i32 belongs", dtype_name(t.dtype));
    return ((const int32_t *)t.data)[place(&t, index, rank)];
}
